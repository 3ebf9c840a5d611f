"""WinCLIP (Jeong et al., CVPR 2023, arXiv 2303.14814): CLIP looks through small windows, no training.

Every window of 2 × 2 and of 3 × 3 patches is embedded on its own and compared with words for normal and damaged; each
patch takes the harmonic mean over the windows that cover it, and over the two scales and the whole image. There is no
official code. Where public readings differ, this one follows anomalib 2.7: the class token stands in every window, the
harmonic mean is of the anomalous score, the whole image is the third scale, the temperature is 0.07.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.backbones.text import sentences
from zsas.declare import SettingsGroup, Values, setting
from zsas.held import Held
from zsas.lazy import F, torch
from zsas.localizers.base import (
    Context,
    Localizer,
    MapSettings,
    ObjectSettings,
    Scored,
)
from zsas.localizers.looking import cells_inside
from zsas.localizers.square import scored_square, square_resolution

if TYPE_CHECKING:
    from torch import Tensor


SCALES = (2, 3)
"""Sides of the windows in patches."""

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS_STATES = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
TEMPLATES = tuple(
    text.format(article, "{}")
    for text in (
        "a photo of {} {}.",
        "a bright photo of {} {}.",
        "a dark photo of {} {}.",
        "a blurry photo of {} {}.",
        "a cropped photo of {} {}.",
        "a close-up photo of {} {}.",
        "a compressed photo of {} {}.",
        "a photo of {} small {}.",
        "a photo of {} large {}.",
        "a photo of {} {} for inspection.",
    )
    for article in ("a", "the")
)
"""As many distinct ones as the published list has; the wording is ours."""

TOKENS_AT_ONCE = 8192
"""Tokens of windows in one pass, which bounds the memory: 8192 × 4 × width × 4 bytes in an MLP."""


@dataclass(frozen=True)
class WinClipSettings(SettingsGroup, key="winclip", title="WinCLIP"):
    """How a window's embedding becomes a probability."""

    winclip_temperature: float = setting(
        0.07,
        "Temperature",
        "By what the cosines between an embedding and the two text vectors are divided before the softmax.",
        low=0.005,
        high=1.0,
        step=0.005,
        symbol="τ",
    )


@dataclass(frozen=True)
class WindowFeatures(Held):
    """WinCLIP's features of one image, before they are compared with text.

    Attributes:
        image: Image embedding, L2-normalised, fp32 (D,).
        windows: Embeddings of all windows by scale, row by row, L2-normalised, fp32 (n, D).
        patches: Patch tokens of the whole pass after the last norm, not projected, L2-normalised, fp32 (g², width);
            only reference images are compared by them.
        grid: Patches a side, g.
        resolution: Side of the CLIP frame in pixels.
        inside: Patches inside the region of interest, bool (g, g); None for all of them. Of a reference image, only
            these count.
    """

    image: Tensor
    windows: Mapping[int, Tensor]
    patches: Tensor
    grid: int
    resolution: int
    inside: NDArray[np.bool_] | None = None

    def only_inside(self, inside: NDArray[np.bool_]) -> WindowFeatures:
        """These features limited to a region of interest, bool (H, W)."""
        return replace(self, inside=cells_inside(inside, (self.grid, self.grid)))

    def patches_inside(self) -> Tensor:
        """The patches inside the region of interest, (n, width)."""
        return self.patches if self.inside is None else self.patches[_indices(self.inside)]

    def windows_inside(self, scale: int) -> Tensor:
        """The windows at least half of which lies inside the region, or else the most covered ones, (n, D)."""
        if self.inside is None:
            return self.windows[scale]
        index = window_index(self.grid, scale)[:, 1:] - 1
        cover = self.inside.ravel()[index].mean(axis=1)
        return self.windows[scale][_indices(cover >= min(0.5, float(cover.max())))]


def _indices(kept: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(kept))


class WinClip(Localizer):
    """Windows of two scales and the whole image, compared with the two text vectors."""

    name = "winclip"
    title = "windows of 2 × 2 and 3 × 3 patches, no training"
    own_references = True
    settings = (ObjectSettings, MapSettings, WinClipSettings)
    backbone = "ViT-B-16-plus-240"
    by_steps = True

    def resolution(self, values: Values) -> int:
        """The setting, or else the side that the backbone was trained on, rounded down to patches."""
        return square_resolution(values, self.clip.native_size, self.clip.patch)

    def encode(self, images: Sequence[NDArray[np.uint8]], values: Values) -> list[WindowFeatures]:
        """One pass of the whole images, and one of all windows of each scale; see `Localizer.encode`."""
        return self.encode_pixels(self.clip.pixels(images, self.resolution(values)))

    def encode_pixels(self, pixels: Tensor) -> list[WindowFeatures]:
        """Features of normalised images.

        Args:
            pixels: (B, 3, R, R) from `ClipBackbone.pixels`.
        """
        grid = pixels.shape[-1] // self.clip.patch
        tokens = self.clip.embed(pixels)
        whole = self.clip.pre_norm(tokens)
        for layer in self.clip.layers:
            whole = self.clip.block(layer, whole)
        whole = self.clip.model.vision_model.post_layernorm(whole)
        image = F.normalize(self.clip.model.visual_projection(whole[:, 0]).float(), dim=-1)
        patches = F.normalize(whole[:, 1:].float(), dim=-1)
        windows = {k: self._embed_windows(tokens, window_index(grid, k)) for k in fitting(grid)}
        return [
            WindowFeatures(
                image[i].clone(),
                {k: one[i].clone() for k, one in windows.items()},
                patches[i].clone(),
                grid,
                pixels.shape[-1],
            )
            for i in range(len(pixels))
        ]

    def _embed_windows(self, tokens: Tensor, index: NDArray[np.int64]) -> Tensor:
        """Embeddings of windows, L2-normalised, fp32 (B, n, D).

        Args:
            tokens: Embedded patches before the first norm, class token first, (B, 1 + g², width).
            index: Tokens of each window, (n, 1 + k²).
        """
        rows = torch.from_numpy(index).to(tokens.device)
        many = tokens[:, rows].flatten(0, 1)
        found = []
        for part in many.split(max(1, TOKENS_AT_ONCE // index.shape[1])):
            part = self.clip.pre_norm(part)
            for layer in self.clip.layers[:-1]:
                part = self.clip.block(layer, part)
            found.append(self.clip.project(self._class_only(part)[:, 0]))
        embedded = F.normalize(torch.cat(found).float(), dim=-1)
        return embedded.unflatten(0, (len(tokens), len(index)))

    def _class_only(self, tokens: Tensor) -> Tensor:
        """The last block for the class token alone, (B, 1, width): nothing reads the others."""
        layer = self.clip.layers[-1]
        attention, normed = layer.self_attn, layer.layer_norm1(tokens)
        query = attention.q_proj(normed[:, :1])
        mixed = self.clip.mixed(
            attention, query, attention.k_proj(normed), attention.v_proj(normed)
        )
        return self.clip.mlp(layer, tokens[:, :1] + attention.out_proj(mixed))

    def states(self, object_name: str) -> Tensor:
        """The two text vectors, normal and anomalous, fp32 (2, D): means of sentences as long as they come."""

        def make() -> list[Tensor]:
            return [
                self.clip.embed_sentences(sentences(object_name, states, TEMPLATES)).mean(dim=0)
                for states in (NORMAL_STATES, ANOMALOUS_STATES)
            ]

        return self.clip.kept_states(("winclip", object_name), make)

    def score(self, features: WindowFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`; reference images, where there are some, make it WinCLIP+."""
        grid_map, image_score = score_windows(
            features,
            self.states(values.of(ObjectSettings).object_name),
            values.of(WinClipSettings).winclip_temperature,
            context.references,
        )
        side = features.resolution
        square = F.interpolate(grid_map[None, None], size=(side, side), mode="bilinear")[0, 0]
        how = "CLIP compares windows of patches with words for normal and damaged (WinCLIP)"
        if context.references:
            how += f" and with {len(context.references)} reference images"
        return scored_square(square, image_score, values, context, how)

    @classmethod
    def pack(cls, features: WindowFeatures) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `Localizer.pack`."""
        tensors = {f"windows.{scale}": one for scale, one in features.windows.items()}
        tensors |= {"image": features.image, "patches": features.patches}
        if features.inside is not None:
            tensors["inside"] = torch.from_numpy(features.inside)
        return tensors, {"grid": features.grid, "resolution": features.resolution}

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> WindowFeatures:
        """See `Localizer.unpack`."""
        scales = [int(name[8:]) for name in tensors if name.startswith("windows.")]
        inside = tensors.get("inside")
        return WindowFeatures(
            tensors["image"],
            {scale: tensors[f"windows.{scale}"] for scale in sorted(scales)},
            tensors["patches"],
            int(facts["grid"]),
            int(facts["resolution"]),
            None if inside is None else inside.numpy().astype(bool),
        )

    def describe(self) -> Mapping[str, Any]:
        """Its scales."""
        return {"scales": list(SCALES), "backbone": self.clip.name}


def fitting(grid: int) -> tuple[int, ...]:
    """The scales whose windows fit into a grid."""
    return tuple(k for k in SCALES if k <= grid)


def window_index(grid: int, scale: int) -> NDArray[np.int64]:
    """Tokens of each window, row by row, int64 (n, 1 + k²): the class token 0, then the patches from 1.

    Example:
        >>> window_index(3, 2)[0].tolist()
        [0, 1, 2, 4, 5]
    """
    rows, columns = np.mgrid[: grid - scale + 1, : grid - scale + 1].reshape(2, -1, 1)
    down, right = np.mgrid[:scale, :scale].reshape(2, 1, -1)
    patches = 1 + (rows + down) * grid + columns + right
    return np.concatenate([np.zeros((len(patches), 1), np.int64), patches], axis=1)


def harmonic_map(scores: Tensor, grid: int, scale: int) -> Tensor:
    """Per patch the harmonic mean of the scores of the windows that cover it, (g, g); 0 where one of them is 0.

    Args:
        scores: One a window, row by row, ((g − k + 1)²,).
        grid: Patches a side, g.
        scale: Patches a side of a window, k.
    """
    side = grid - scale + 1
    kernel = torch.ones(1, 1, scale, scale, device=scores.device)
    inverse = (1.0 / scores.clamp_min(1e-30)).view(1, 1, side, side)
    covering = F.conv_transpose2d(torch.ones_like(inverse), kernel)
    return (covering / F.conv_transpose2d(inverse, kernel))[0, 0]


def anomalous_part(embeddings: Tensor, states: Tensor, temperature: float) -> Tensor:
    """Softmax over the cosines with the two text vectors, the anomalous part: (…, D) → (…).

    Args:
        embeddings: L2-normalised.
        states: Normal and anomalous, L2-normalised, (2, D).
        temperature: Divides the cosines.
    """
    return torch.sigmoid((embeddings @ (states[1] - states[0])) / temperature)


def score_windows(
    features: WindowFeatures,
    states: Tensor,
    temperature: float,
    references: Sequence[WindowFeatures] = (),
) -> tuple[Tensor, float]:
    """The map on the patch grid, fp32 (g, g), and the image score, both in [0, 1].

    Args:
        features: Of one image.
        states: Normal and anomalous text vector, (2, D).
        temperature: Divides the cosines.
        references: Of images of normal parts, same resolution; none leaves the zero-shot scores as they are.
    """
    states = states.to(features.image.device)
    image = anomalous_part(features.image, states, temperature)
    inverse = 1.0 / image
    for scale, windows in features.windows.items():
        scores = anomalous_part(windows, states, temperature)
        inverse = inverse + 1.0 / harmonic_map(scores, features.grid, scale).clamp_min(1e-30)
    zero = (1 + len(features.windows)) / inverse.expand(features.grid, features.grid)
    if not references:
        return zero, float(image)
    few = reference_map(features, references)
    top = few.max() if features.inside is None else few.flatten()[_indices(features.inside)].max()
    return (zero + few) / 2, float((image + top) / 2)


def reference_map(features: WindowFeatures, references: Sequence[WindowFeatures]) -> Tensor:
    """Distance of each patch to the nearest patch of the reference images, fp32 (g, g), in [0, 1].

    The mean of three maps: patches, and the harmonic means of windows of both scales.
    """

    def distance(one: Tensor, memory: list[Tensor]) -> Tensor:
        nearest = (one @ torch.cat(memory).to(one.device).T).amax(dim=1)
        return ((1.0 - nearest) / 2).clamp(0.0, 1.0)

    grid = features.grid
    patches = [r.patches_inside() for r in references]
    maps = [distance(features.patches, patches).view(grid, grid)]
    for scale, windows in features.windows.items():
        scores = distance(windows, [r.windows_inside(scale) for r in references])
        maps.append(harmonic_map(scores, grid, scale))
    return torch.stack(maps).mean(dim=0)
