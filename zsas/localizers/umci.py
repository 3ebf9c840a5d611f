"""ClipSAM's localizer, UMCI (Li et al., arXiv 2401.12665), as we read it: words and patches attend to each other.

No code of it is public and its equations could not be had. What the paper and its authors say is followed: two paths on
each of four stages of CLIP, one along rows and columns (text asks the image, then patches ask that text), one at two
scales (pooled patches ask the text); the scales are joined first, then both paths. Everything else is our reading:
sizes, convolutions, what is concatenated, and that tokens are brought to one length first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsas.backbones import text
from zsas.declare import Values
from zsas.errors import ZsasError
from zsas.lazy import F, torch
from zsas.localizers.adapter import (
    Card,
    card_from,
    check_backbone,
    odd_one,
    read_learned,
    save_learned,
    warn_of_sentences,
)
from zsas.localizers.base import Context, Localizer, MapSettings, ObjectSettings, Scored
from zsas.localizers.patches import PatchFeatures, image_probability
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.square import scored_square, square_features, square_resolution

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone

HIDDEN, KERNELS = 384, (3, 9)
"""Channels inside the module, and sides of the two poolings in patches; our reading."""
STRIP = 3
"""Length of the convolution along the mean rows and columns, in patches; our reading."""


@dataclass(frozen=True, kw_only=True)
class UmciCard(Card):
    """What a UMCI was made for and from.

    Attributes:
        blocks: Blocks whose tokens are its stages, counted from 1.
        text_ensemble: Name of the sentences it was trained against.
        hidden: Channels inside, C.
        kernels: Sides of the poolings of the scale path, in patches.
        visual: Whether the stage's own patches are concatenated with both paths.
        shared: Whether the stages share all but the first layer of the patches.
    """

    blocks: tuple[int, ...]
    text_ensemble: str
    hidden: int = HIDDEN
    kernels: tuple[int, ...] = KERNELS
    visual: bool = True
    shared: bool = False


@dataclass(frozen=True)
class Umci:
    """A UMCI with its card.

    Attributes:
        card: What it was made for.
        tensors: Its weights by name, fp32; see `shapes`.
    """

    card: UmciCard
    tensors: Mapping[str, Tensor]

    def save(self, path: Path) -> None:
        """Write a safetensors file, the card as metadata."""
        save_learned(path, "umci", self.card, self.tensors)


def shapes(card: UmciCard, width: int, projection: int) -> dict[str, tuple[int, ...]]:
    """Shape of every weight by name.

    Args:
        card: Its sizes are read.
        width: Channels of a patch token.
        projection: Channels of a text vector.
    """
    c = card.hidden
    scales = range(len(card.kernels))
    attentions = ("text_rows", "text_columns", "rows", "columns", *(f"scale{k}" for k in scales))
    convolutions = ("strip", "scales", *(f"pooled{k}" for k in scales))
    common: dict[str, tuple[int, ...]] = {"text": (c, projection)}
    common |= {f"along_{name}": (c, c, STRIP) for name in ("rows", "columns")}
    common |= {f"{name}.{what}": (c, c) for name in attentions for what in ("q", "k", "v")}
    common |= dict.fromkeys(convolutions, (c, c, 3, 3))
    common |= {"joined": (c, (2 + card.visual) * c), "states": (2, c)}
    found: dict[str, tuple[int, ...]] = {}
    for stage in range(len(card.blocks)):
        own: dict[str, tuple[int, ...]] = {"visual": (c, width)}
        if stage == 0 or not card.shared:
            own |= common
        for name, shape in own.items():
            found[f"{stage}.{name}.weight"] = shape
            found[f"{stage}.{name}.bias"] = shape[:1]
    return found


def first_weights(card: UmciCard, width: int, projection: int) -> dict[str, Tensor]:
    """Weights to begin a training with, drawn as torch's own layers draw theirs."""
    found = {}
    bound = 1.0
    for name, shape in shapes(card, width, projection).items():
        if name.endswith(".weight"):  # its bias comes next and has the same bound
            bound = prod(shape[1:]) ** -0.5
        found[name] = torch.empty(shape).uniform_(-bound, bound)
    return found


def read_umci(path: Path) -> Umci:
    """Read a file that `Umci.save` wrote.

    Raises:
        ZsasError: If it is another file, or lacks a tensor.
    """
    metadata, tensors = read_learned(path, _HOW_TO_TRAIN)
    made_for = metadata.get("localizer", "linear")
    if made_for != "umci":
        raise ZsasError(
            f"{path.name} was trained for the localizer {made_for}, but umci is asked to read it; name it with "
            f"--weights {made_for}={path.name} and run a system that uses it."
        )
    try:
        card = card_from(UmciCard, metadata)
    except (KeyError, TypeError, ValueError) as wrong:
        raise ZsasError(
            f"{path.name} is no UMCI of ours: its metadata lacks or garbles {wrong}; {_HOW_TO_TRAIN}."
        ) from None
    return Umci(card, {name: tensor.float() for name, tensor in tensors.items()})


_HOW_TO_TRAIN = (
    "train one with `zsas train adapters DATASET --system clipsam`, or name a file with "
    "--weights umci=FILE"
)


@dataclass(frozen=True)
class UmciFeatures(PatchFeatures):
    """Tokens of an image, and the map that was last made of them: at full size UMCI takes a second on a CPU.

    Attributes:
        squares: The map in the CLIP frame before its blur by the name of the object, float32 (R, R); one at most.
    """

    squares: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class UmciLocalizer(Localizer):
    """Four stages of patches and two text vectors through UMCI.

    Args:
        clip: The loaded backbone; both towers run with the activation of the training.
        umci: The learned module.

    Raises:
        ZsasError: If it was made for another backbone.
    """

    name = "umci"
    title = "words and patches that attend to each other (UMCI, our reading)"
    settings = (ObjectSettings, MapSettings, ReferenceSettings)
    weights = True
    missing = f"The system clipsam needs a trained UMCI; {_HOW_TO_TRAIN}."
    trained_as = "clipsam"

    def __init__(self, clip: ClipBackbone, umci: Umci) -> None:
        card = umci.card
        check_backbone(clip, card)
        _check_shapes(clip, umci)
        warn_of_sentences(card.text_ensemble, text.ENSEMBLE)
        self.clip = clip
        self.umci = Umci(card, {name: one.to(clip.device) for name, one in umci.tensors.items()})
        self.card = card

    @classmethod
    def read(cls, file: Path) -> Umci:
        """See `Localizer.read`."""
        return read_umci(file)

    def resolution(self, values: Values) -> int:
        """The setting, or else the resolution of the training."""
        return square_resolution(values, self.card.resolution, self.clip.patch)

    def encode(self, images: Sequence[NDArray[np.uint8]], values: Values) -> list[UmciFeatures]:
        """Tokens after the stages' blocks; the module itself needs words and runs in `score`."""
        pixels = self.clip.pixels(images, self.resolution(values))
        seen = self.clip.forward_vision(
            pixels, blocks=self.card.blocks, activation=self.card.activation
        )
        tokens = torch.stack([seen.blocks[block] for block in self.card.blocks], dim=1)
        grid = pixels.shape[-1] // self.clip.patch
        patches = F.normalize(tokens.float(), dim=-1).unflatten(2, (grid, grid))
        found = square_features(images, patches, seen.image, pixels.shape[-1])
        return [UmciFeatures(one.tiles) for one in found]

    def score(self, features: UmciFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        (tile,) = features.tiles
        name = values.of(ObjectSettings).object_name
        states = self.clip.state_vectors(name, self.card.activation)
        square = features.squares.get(name)
        if square is None:
            logits = margins(self.umci, tile.layers.float(), states[None].to(tile.layers.device))
            wide = F.interpolate(logits, size=tile.frame_hw, mode="bilinear", align_corners=True)
            square = wide.sigmoid().mean(dim=(0, 1)).cpu().numpy()
            features.squares.clear()
            features.squares[name] = square
        return scored_square(
            torch.from_numpy(square),
            image_probability(tile.image, states, self.clip.logit_scale),
            values,
            context,
            "Patches and words for normal and damaged attend to each other (UMCI)",
        )

    def tensors(self) -> Sequence[Tensor]:
        """Its weights."""
        return tuple(self.umci.tensors.values())


def margins(umci: Umci, patches: Tensor, states: Tensor) -> Tensor:
    """Anomalous minus normal logit of every stage on the patch grid, fp32 (B, stages, g, g).

    A softmax over two logits is the sigmoid of their difference, so one channel is enough.

    Args:
        umci: The module, or weights that are being trained.
        patches: L2-normalised tokens of the stages, (B, stages, g, g, width).
        states: The text vectors of each image, normal and anomalous, (B, 2, projection).
    """
    found = [
        Stage(umci, number).margin(patches[:, number], states)
        for number in range(len(umci.card.blocks))
    ]
    return torch.stack(found, dim=1)


class Stage:
    """UMCI on one stage; a weight that the stage lacks is the first stage's, where stages share.

    Args:
        umci: The module.
        number: Which stage, from 0.
    """

    def __init__(self, umci: Umci, number: int) -> None:
        self.card = umci.card
        self._tensors, self._number = umci.tensors, number

    def _of(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a layer."""
        own = f"{self._number}.{name}"
        found = own if f"{own}.weight" in self._tensors else f"0.{name}"
        return self._tensors[f"{found}.weight"], self._tensors[f"{found}.bias"]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, *self._of(name))

    def _convolved(self, name: str, grid: Tensor) -> Tensor:
        """3 × 3 on (B, g, g, C); edges are repeated, so that an even grid stays even."""
        wide = F.pad(grid.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
        return F.conv2d(wide, *self._of(name)).permute(0, 2, 3, 1)

    def _along(self, name: str, line: Tensor) -> Tensor:
        """The convolution along mean rows or columns, (B, g, C)."""
        wide = F.pad(line.transpose(1, 2), (STRIP // 2, STRIP // 2), mode="replicate")
        return F.conv1d(wide, *self._of(name)).transpose(1, 2)

    def attend(self, name: str, queries: Tensor, keys: Tensor) -> Tensor:
        """softmax(q Wq (k Wk)ᵀ / √C) k Wv, one head: (B, n, C) and (B, m, C) → (B, n, C)."""
        q, k, v = (
            self._linear(f"{name}.{what}", x)
            for what, x in (("q", queries), ("k", keys), ("v", keys))
        )
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]

    def _ask(self, name: str, grid: Tensor, keys: Tensor) -> Tensor:
        """`attend` of every cell of a grid, (B, h, w, C)."""
        return self.attend(name, grid.flatten(1, 2), keys).unflatten(1, grid.shape[1:3])

    def strip_path(self, visual: Tensor, words: Tensor) -> Tensor:
        """Text asks the mean rows and columns, then every patch asks that text; (B, g, g, C)."""
        rows = self._along("along_rows", visual.mean(dim=2))
        columns = self._along("along_columns", visual.mean(dim=1))
        words_of_rows = words + self.attend("text_rows", words, rows)
        words_of_columns = words + self.attend("text_columns", words, columns)
        asked = self._ask("rows", visual, words_of_rows)
        return self._convolved("strip", asked + self._ask("columns", visual, words_of_columns))

    def scale_path(self, visual: Tensor, words: Tensor) -> Tensor:
        """Patches pooled at each scale ask the text; (B, g, g, C)."""
        total = torch.zeros_like(visual)
        for k, side in enumerate(self.card.kernels):
            pooled = F.avg_pool2d(
                visual.permute(0, 3, 1, 2),
                side,
                stride=side,
                ceil_mode=True,
                count_include_pad=False,
            ).permute(0, 2, 3, 1)
            asked = self._ask(f"scale{k}", self._convolved(f"pooled{k}", pooled), words)
            wide = F.interpolate(asked.permute(0, 3, 1, 2), size=visual.shape[1:3], mode="bilinear")
            total = total + wide.permute(0, 2, 3, 1)
        return self._convolved("scales", total)

    def margin(self, patches: Tensor, states: Tensor) -> Tensor:
        """Anomalous minus normal logit, (B, g, g); see `margins`."""
        # Tokens of one length, with the mean square of a channel 1.
        visual = self._linear("visual", patches * patches.shape[-1] ** 0.5)
        words = self._linear("text", states)
        parts = [visual] if self.card.visual else []
        parts += [self.strip_path(visual, words), self.scale_path(visual, words)]
        joined = F.gelu(self._linear("joined", torch.cat(parts, dim=-1)))
        logits = self._linear("states", joined)
        return logits[..., 1] - logits[..., 0]


def _check_shapes(clip: ClipBackbone, umci: Umci) -> None:
    """Refuse the weights of another tower, and incomplete ones."""
    card = umci.card
    odd = odd_one(umci.tensors, shapes(card, clip.width, clip.projection))
    if odd or max(card.blocks) > clip.depth:
        what = f"{odd} is missing or of another shape" if odd else f"it reads {card.blocks}"
        raise ZsasError(
            f"This UMCI does not fit {clip.name}, which has {clip.depth} blocks of {clip.width} channels: {what}; "
            f"{_HOW_TO_TRAIN}."
        )
