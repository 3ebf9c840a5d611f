"""SDP of CLIP-AD (Chen et al., arXiv 2311.00453): V-V attention restarted in every quarter of the blocks, no training.

A second stream adds the V-V attention of each block's input, and starts again at each quarter of the depth; at the end
of a quarter it is projected and compared with one text vector for normal and one for damaged. The map is the sum over
the quarters. The text vector is not the mean of the sentences but that of the largest cluster among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.backbones.text import sentences
from zsas.declare import SettingsGroup, Values, setting
from zsas.lazy import F, torch
from zsas.localizers.adapter import quarters
from zsas.localizers.base import (
    Context,
    Localizer,
    MapSettings,
    ObjectSettings,
    Scored,
)
from zsas.localizers.patches import PatchFeatures, TileFeatures
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.square import scored_square, square_resolution
from zsas.localizers.winclip import TEMPLATES as WINCLIP_TEMPLATES

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone

TextVector = Literal["dbscan", "mean", "pca"]

_NOUNS = ("flaw", "defect", "damage", "scratch", "crack", "contamination")
NORMAL_STATES = (
    *(f"{word} {{}}" for word in ("flawless", "perfect", "unblemished")),
    *(f"{{}} without {noun}" for noun in _NOUNS),
)
ANOMALOUS_STATES = (
    *(f"{word} {{}}" for word in ("damaged", "imperfect", "blemished", "broken")),
    *(f"{{}} with {noun}" for noun in _NOUNS),
)
TEMPLATES = (*WINCLIP_TEMPLATES, "there is a {} in the picture.", "this is a {} in the picture.")
"""22 as in the published list, 198 + 220 sentences; the wording is ours."""

ENSEMBLE = "zsas-9+10x22"
"""Name of these sentences; adapters carry it in their metadata."""

STEEPNESS = 25.0
"""What the sum over the quarters is multiplied by before it is squeezed into [0, 1]; see `squeezed`."""


@dataclass(frozen=True)
class SdpSettings(SettingsGroup, key="sdp", title="SDP"):
    """How many sentences become one text vector."""

    sdp_text: TextVector = setting(
        "dbscan",
        "Text vector",
        "One vector of many sentences: mean of their largest cluster, mean of all, or their first principal component.",
    )
    sdp_distance: float = setting(
        0.5,
        "Cluster distance",
        "Distance within which two sentences are neighbours when their largest cluster is sought.",
        low=0.05,
        high=2.0,
        step=0.05,
    )
    sdp_neighbours: int = setting(
        15,
        "Cluster neighbours",
        "Sentences within that distance, itself among them, that make one the core of a cluster.",
        low=2,
        high=198,
        step=1,
    )


@dataclass(frozen=True, kw_only=True)
class StagedFeatures(PatchFeatures):
    """The features of SDP and SDP+ of one image, before they are compared with text.

    Its one tile is the whole image; the layers of it are the patches of the V-V stream after each quarter.

    Attributes:
        classes: The class token after each quarter, projected, L2-normalised, fp32 (4, D).
        trained: Patches of the original stream through the trained layers, L2-normalised, fp16 (4, g, g, D); None
            for SDP.
    """

    classes: Tensor
    trained: Tensor | None = None

    @property
    def layers(self) -> Tensor:
        """Patches of the V-V stream after each quarter, L2-normalised, fp16 (4, g, g, D)."""
        return self.tiles[0].layers[0]

    @property
    def resolution(self) -> int:
        """Side of the CLIP frame in pixels."""
        return self.tiles[0].frame_hw[0]


class Sdp(Localizer):
    """The staged V-V stream, compared with two text vectors quarter by quarter."""

    name = "sdp"
    title = "V-V attention restarted in every quarter, no training"
    settings = (ObjectSettings, MapSettings, SdpSettings, ReferenceSettings)
    backbone = "ViT-B-16-plus-240"
    by_steps = True

    def resolution(self, values: Values) -> int:
        """The setting, or else the side that the backbone was trained on, rounded down to patches."""
        return square_resolution(values, self.clip.native_size, self.clip.patch)

    def encode(self, images: Sequence[NDArray[np.uint8]], values: Values) -> list[StagedFeatures]:
        """One pass with both streams; see `Localizer.encode`."""
        pixels = self.clip.pixels(images, self.resolution(values))
        passed = staged_pass(self.clip, pixels)
        return [passed.features(i, image) for i, image in enumerate(images)]

    def states(self, values: Values) -> Tensor:
        """The two text vectors, normal and anomalous, fp32 (2, D)."""
        chosen, name = values.of(SdpSettings), values.of(ObjectSettings).object_name

        def make() -> list[Tensor]:
            return [
                representative(
                    self.clip.encode_sentences(sentences(name, states, TEMPLATES)),
                    chosen.sdp_text,
                    chosen.sdp_distance,
                    chosen.sdp_neighbours,
                )
                for states in (NORMAL_STATES, ANOMALOUS_STATES)
            ]

        return self.clip.kept_states(("sdp", name, chosen), make)

    def score(self, features: StagedFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        states = self.states(values)
        square = two_class_map(features, states)
        how = (
            "CLIP compares V-V patches with words for normal and damaged, quarter by quarter (SDP)"
        )
        return self.scored(square, features, states, values, context, how)

    def scored(
        self,
        square: Tensor,
        features: StagedFeatures,
        states: Tensor,
        values: Values,
        context: Context,
        how: str,
    ) -> Scored:
        """Map and evidence from the published map in the CLIP frame, (R, R), before its blur."""
        difference = features.classes[-1] @ (states[1] - states[0]).to(features.classes.device)
        probability = float(torch.sigmoid(self.clip.logit_scale * difference))
        return scored_square(square, probability, values, context, how, self.squeezed)

    def squeezed(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The published map, which is no probability and lies in [−4, 4], in [0, 1] with the same ranking.

        ½ + ½ x / (1 + |x|) of 25 times the map: at equal class cosines the map is twice the mean difference of a
        patch's two cosines, so that 0.75 lies where CLIP's logits, 100 times the cosines, differ by 2. Our choice.
        """
        steep = STEEPNESS * values
        return np.asarray(0.5 + 0.5 * steep / (1.0 + np.abs(steep)), np.float32)

    def describe(self) -> Mapping[str, Any]:
        """Its quarters and backbone."""
        return {"stages": list(quarters(self.clip.depth)), "backbone": self.clip.name}


@dataclass(frozen=True)
class StagedPass:
    """Both streams of a batch of B images.

    Attributes:
        layers: As in `StagedFeatures`, (B, 4, g, g, D).
        classes: (B, 4, D).
        tokens: Patches of the original stream after each quarter, not projected, (B, g², width).
        resolution: Side of the CLIP frame in pixels.
    """

    layers: Tensor
    classes: Tensor
    tokens: tuple[Tensor, ...]
    resolution: int

    def features(
        self, i: int, image: NDArray[np.uint8], trained: Tensor | None = None
    ) -> StagedFeatures:
        """The features of the i-th image."""
        height, width = image.shape[:2]
        frame = (self.resolution, self.resolution)
        layers, classes = self.layers[i].clone(), self.classes[i].clone()
        tile = TileFeatures((0, 0, width, height), layers[None], classes[-1], frame)
        return StagedFeatures(tiles=(tile,), classes=classes, trained=trained)


def staged_pass(clip: ClipBackbone, pixels: Tensor, *, aliased: bool = False) -> StagedPass:
    """The original stream and the V-V stream beside it, which starts anew in every quarter of the blocks.

    Args:
        clip: The backbone.
        pixels: (B, 3, R, R) from `ClipBackbone.pixels`.
        aliased: Whether the original stream is read as the published code reads it, with the next block's attention
            output already added after all quarters but the last; its published layers were trained so.
    """
    grid = pixels.shape[-1] // clip.patch
    ends = quarters(clip.depth)
    tokens = clip.pre_norm(clip.embed(pixels))
    stream = None
    layers, classes, kept = [], [], []
    for number, layer in enumerate(clip.layers, start=1):
        mixed = clip.vv_attention(layer, tokens)
        stream = mixed if stream is None else stream + mixed
        tokens = clip.block(layer, tokens)
        if number not in ends:
            continue
        layers.append(F.normalize(clip.project(stream[:, 1:]).float(), dim=-1))
        stream = None
        read = tokens
        if aliased and number < clip.depth:
            following = clip.layers[number]
            read = tokens + following.self_attn(following.layer_norm1(tokens))[0]
        classes.append(F.normalize(clip.project(read[:, 0]).float(), dim=-1))
        kept.append(read[:, 1:])
    return StagedPass(
        torch.stack(layers, dim=1).unflatten(2, (grid, grid)).half(),
        torch.stack(classes, dim=1),
        tuple(kept),
        pixels.shape[-1],
    )


def two_class_map(features: StagedFeatures, states: Tensor) -> Tensor:
    """The published map in the CLIP frame, fp32 (R, R), in [−4, 4]: the sum over the quarters.

    With σ the softmax over the class token's two cosines, a patch x has σ_a · (x · t_a) − σ_n · (x · t_n).
    """
    states = states.to(features.layers.device)
    weights = (features.classes @ states.T).softmax(dim=-1)
    cosines = features.layers.float() @ states.T
    weighted = weights[:, None, None] * cosines
    total = (weighted[..., 1] - weighted[..., 0]).sum(dim=0)
    side = features.resolution
    return F.interpolate(total[None, None], size=(side, side), mode="bilinear")[0, 0]


def representative(
    vectors: Tensor, how: TextVector, distance: float = 0.5, minimum: int = 15
) -> Tensor:
    """One vector for many sentences of a state, fp32 (D,), of any length.

    Args:
        vectors: Of the sentences, L2-normalised, (n, D).
        how: `dbscan`, the mean of the largest cluster, of all where there is none; `mean`; or `pca`, the direction
            along which the vectors are longest, turned to the mean's side.
        distance: Of neighbours, for `dbscan`.
        minimum: Neighbours that make the core of a cluster, for `dbscan`.
    """
    mean = vectors.mean(dim=0)
    if how == "mean":
        return mean
    if how == "pca":
        first = torch.linalg.svd(vectors, full_matrices=False).Vh[0]
        return first if float(first @ mean) >= 0 else -first
    members = largest_cluster(vectors.cpu().numpy(), distance, minimum)
    return vectors[torch.from_numpy(members).to(vectors.device)].mean(dim=0)


def largest_cluster(
    vectors: NDArray[np.float32], distance: float, minimum: int
) -> NDArray[np.bool_]:
    """Which vectors lie in the largest cluster that DBSCAN finds, the first of equals; all where it finds none.

    Args:
        vectors: (n, D).
        distance: Largest Euclidean distance of neighbours.
        minimum: Neighbours, itself among them, that make a vector the core of a cluster.
    """
    squares = (vectors**2).sum(axis=1)
    apart = squares[:, None] + squares - 2.0 * vectors @ vectors.T
    near = apart <= distance**2 + 1e-6
    core = near.sum(axis=1) >= minimum
    label = np.full(len(vectors), -1)
    for start in np.flatnonzero(core):
        if label[start] >= 0:
            continue
        reached = np.zeros(len(vectors), bool)
        reached[start] = True
        while True:
            grown = reached | near[reached & core].any(axis=0)
            if (grown == reached).all():
                break
            reached = grown
        label[reached & (label < 0)] = start
    if (label < 0).all():
        return np.ones(len(vectors), bool)
    starts, sizes = np.unique(label[label >= 0], return_counts=True)
    return np.asarray(label == starts[int(np.argmax(sizes))])
