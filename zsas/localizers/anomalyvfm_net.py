"""What AnomalyVFM computes and its file of weights: DoRA on three matrices of a block, decoder, predictor.

Equations: W' = m · (W + α/r · B A) / ‖W + α/r · B A‖ row by row, on queries, values and the output of every block's
attention; the decoder is two convolutions, nearest ×2, two convolutions, and one 1×1 (arXiv 2601.20524 and its code).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.cancellation import raise_if_cancelled
from zsas.errors import ZsasError
from zsas.lazy import F
from zsas.localizers.adapter import Card, card_from, odd_one, read_learned, save_learned

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone

ADAPTED = ("q_proj", "v_proj", "out_proj")
"""Matrices of a block's attention that are adapted; keys and the MLP stay as they are."""
PUBLISHED_BACKBONE, PUBLISHED_SIZE = "openai/clip-vit-large-patch14-336", 672
"""What the authors' weights for CLIP were made for; their file has no card."""

_KEY = re.compile(
    r"(?:^|\.)(layers\.\d+\.self_attn\.(?:q_proj|v_proj|out_proj)\.(?:lora_A|lora_B|magnitude)"
    r"|decoder\.(?:bot|blocks\.0)\.(?:conv|bn)[12]\.(?:weight|bias)|decoder\.final(?:_conf)?\.(?:weight|bias)"
    r"|predictor\.lin\.(?:weight|bias))$"
)
"""Names of what is learned, whatever stands before them; a published file holds the whole backbone beside it."""


@dataclass(frozen=True, kw_only=True)
class VfmCard(Card):
    """What the weights were made for and from.

    Attributes:
        alpha: Factor on the low-rank change before it is divided by its rank.
        groups: Groups of the decoder's norms.
        filter: Side of the mean filter on the mask, in cells.
        views: Test-time augmentation; see `zsas.localizers.adapter.AdapterCard`.
    """

    alpha: float = 1.0
    groups: int = 32
    filter: int = 5
    views: tuple[tuple[float, bool], ...] = ((1.0, False),)


@dataclass(frozen=True)
class VfmWeights:
    """What is learned, with its card.

    Attributes:
        card: What it was made for.
        tensors: By published name: for each block and matrix `lora_A` (r, D), `lora_B` (D, r) and `magnitude` (D,);
            the decoder; the predictor.
    """

    card: VfmCard
    tensors: Mapping[str, Tensor]

    def save(self, path: Path, dtype: torch.dtype | None = None) -> None:
        """Write a safetensors file, the card as metadata.

        Args:
            path: The file.
            dtype: Number format of the file; the tensors' own without.
        """
        save_learned(path, "anomalyvfm", self.card, self.tensors, dtype)


def read_vfm(path: Path) -> VfmWeights:
    """Read our safetensors file, or the authors' `model.safetensors` for CLIP, of whose backbone nothing is read.

    Raises:
        ZsasError: If the file is neither, or lacks a tensor.
    """

    def named(key: str) -> str:
        found = _KEY.search(key)
        return found[1] if found else ""

    expected = "name a .safetensors file of AnomalyVFM"
    metadata, held = read_learned(path, expected, named)
    tensors = {name: tensor.float() for name, tensor in held.items()}
    try:
        card = _card(metadata)
    except (KeyError, TypeError, ValueError) as wrong:
        raise ZsasError(
            f"{path.name} holds no weights of AnomalyVFM: its metadata lacks or garbles {wrong}; it needs backbone, "
            "resolution, activation and trained_on."
        ) from None
    missing = _expected(tensors) - tensors.keys()
    if missing:
        raise ZsasError(
            f"{path.name} holds no weights of AnomalyVFM for CLIP: it lacks {min(missing)}, of {len(missing)} tensors; "
            "expected low-rank changes of every block's q_proj, v_proj and out_proj, decoder and predictor."
        )
    return VfmWeights(card, tensors)


def _card(metadata: Mapping[str, str]) -> VfmCard:
    """The card of our file; what is known of the authors' without."""
    if metadata.get("localizer") != "anomalyvfm":
        if "backbone" in metadata:
            raise ValueError(f"localizer, which is {metadata.get('localizer', 'missing')!r}")
        return VfmCard(PUBLISHED_BACKBONE, PUBLISHED_SIZE, "quick_gelu", "unknown")
    return card_from(VfmCard, metadata)


def depth_of(tensors: Mapping[str, Tensor]) -> int:
    """How many blocks are adapted."""
    return 1 + max(
        (int(name.split(".")[1]) for name in tensors if name[:7] == "layers."), default=0
    )


def _expected(tensors: Mapping[str, Tensor]) -> set[str]:
    names = {
        f"layers.{block}.self_attn.{matrix}.{part}"
        for block in range(depth_of(tensors))
        for matrix in ADAPTED
        for part in ("lora_A", "lora_B", "magnitude")
    }
    parts = [
        f"decoder.{b}.{p}{n}" for b in ("bot", "blocks.0") for p in ("conv", "bn") for n in (1, 2)
    ]
    parts += ["decoder.final", "predictor.lin"]
    return names | {f"{part}.{end}" for part in parts for end in ("weight", "bias")}


def folded(weight: Tensor, down: Tensor, up: Tensor, magnitude: Tensor, factor: float) -> Tensor:
    """DoRA: m · (W + f · B A) / ‖W + f · B A‖, row by row, fp32 (D, D).

    Args:
        weight: W, (D, D).
        down: A, (r, D).
        up: B, (D, r).
        magnitude: m, D numbers; the norms of W's rows where nothing is learned yet.
        factor: f, alpha over the rank.
    """
    changed = weight.float() + factor * (up @ down)
    length = changed.norm(dim=1, keepdim=True) + 1e-8
    return magnitude.reshape(-1, 1) * changed / length


def plain_weight(linear: Any) -> Tensor:
    """The matrix of a linear layer of the tower, fp32 (D, D), whatever its number format."""
    if hasattr(linear, "scale"):  # int8, with a scale for each output channel
        return linear.weight.float() * linear.scale[:, None]
    return linear.weight.float()


Matrices = tuple["Tensor", "Tensor", "Tensor"]


def fold_tower(clip: ClipBackbone, tensors: Mapping[str, Tensor], alpha: float) -> list[Matrices]:
    """The adapted matrices of every block, in the tower's number format; gradients reach the tensors."""
    blocks = []
    for number, layer in enumerate(clip.layers):
        found = []
        for matrix in ADAPTED:
            name = f"layers.{number}.self_attn.{matrix}."
            down, up, magnitude = (
                tensors[name + part].to(clip.device) for part in ("lora_A", "lora_B", "magnitude")
            )
            weight = plain_weight(getattr(layer.self_attn, matrix))
            found.append(folded(weight, down, up, magnitude, alpha / len(down)).to(clip.dtype))
        blocks.append((found[0], found[1], found[2]))
    return blocks


def adapted_block(
    clip: ClipBackbone, layer: Any, tokens: Tensor, matrices: Matrices, activation: str
) -> Tensor:
    """One block of the tower with other matrices for queries, values and the attention's output; (B, n, width)."""
    raise_if_cancelled()
    attention, normed = layer.self_attn, layer.layer_norm1(tokens)
    query, value, out = matrices
    mixed = clip.mixed(
        attention,
        F.linear(normed, query, attention.q_proj.bias),
        attention.k_proj(normed),
        F.linear(normed, value, attention.v_proj.bias),
    )
    tokens = tokens + F.linear(mixed, out, attention.out_proj.bias)
    return clip.mlp(layer, tokens, activation)


def adapted_pass(
    clip: ClipBackbone, pixels: Tensor, blocks: Sequence[Matrices], activation: str
) -> Tensor:
    """Tokens after the last adapted block, no norm applied, fp32 (B, 1 + g_h · g_w, width).

    Args:
        clip: The backbone.
        pixels: (B, 3, H, W).
        blocks: From `fold_tower`.
        activation: Of the MLPs.
    """
    tokens = clip.pre_norm(clip.embed(pixels))
    for layer, matrices in zip(clip.layers, blocks, strict=True):
        tokens = adapted_block(clip, layer, tokens, matrices, activation)
    return tokens.float()


def decoded(
    tensors: Mapping[str, Tensor], patches: Tensor, groups: int
) -> tuple[Tensor, Tensor | None]:
    """Mask logits of twice the grid, and confidence logits where the weights have them, each (B, 2 g_h, 2 g_w).

    Args:
        tensors: As in `VfmWeights`.
        patches: (B, g_h, g_w, D).
        groups: Of the norms.
    """
    found = patches.permute(0, 3, 1, 2)
    for block in ("bot", "blocks.0"):
        if block == "blocks.0":
            found = F.interpolate(found, scale_factor=2.0, mode="nearest")
        for number in (1, 2):
            conv, norm = (f"decoder.{block}.{part}{number}." for part in ("conv", "bn"))
            found = F.conv2d(found, tensors[conv + "weight"], tensors[conv + "bias"], padding=1)
            found = F.relu(
                F.group_norm(found, groups, tensors[norm + "weight"], tensors[norm + "bias"])
            )

    def last(name: str) -> Tensor:
        return F.conv2d(found, tensors[f"{name}.weight"], tensors[f"{name}.bias"])[:, 0]

    confident = "decoder.final_conf.weight" in tensors
    return last("decoder.final"), last("decoder.final_conf") if confident else None


def predicted(tensors: Mapping[str, Tensor], class_token: Tensor) -> Tensor:
    """Logit of the image score, (B,), from class tokens, (B, D)."""
    weight, bias = tensors["predictor.lin.weight"], tensors["predictor.lin.bias"]
    return F.linear(class_token, weight.reshape(1, -1), bias)[:, 0]


def check_shapes(clip: ClipBackbone, weights: VfmWeights) -> None:
    """Refuse weights of another tower, and those that do not fit each other."""
    tensors, groups = weights.tensors, weights.card.groups
    width = tensors["layers.0.self_attn.q_proj.lora_A"].shape[-1]
    depth = depth_of(tensors)
    if (width, depth) != (clip.width, clip.depth):
        raise ZsasError(
            f"The weights of AnomalyVFM are for a tower of {depth} blocks and {width} channels, but {clip.name} has "
            f"{clip.depth} blocks and {clip.width} channels; use weights that were made for it."
        )
    rank, wide, narrow = (
        len(tensors[name])
        for name in (
            "layers.0.self_attn.q_proj.lora_A",
            "decoder.bot.conv1.weight",
            "decoder.blocks.0.conv1.weight",
        )
    )
    shapes: dict[str, tuple[int, ...]] = {}
    for name in _expected(tensors):
        if name.startswith("layers."):
            part = name.rpartition(".")[2]
            sizes = {"lora_A": (rank, width), "lora_B": (width, rank), "magnitude": (width,)}
            shapes[name] = sizes[part]
    convolutions = [("bot", "1", width, wide), ("bot", "2", wide, wide)]
    convolutions += [("blocks.0", "1", wide, narrow), ("blocks.0", "2", narrow, narrow)]
    for block, number, read, written in convolutions:
        shapes[f"decoder.{block}.conv{number}.weight"] = (written, read, 3, 3)
        for name in (f"conv{number}.bias", f"bn{number}.weight", f"bn{number}.bias"):
            shapes[f"decoder.{block}.{name}"] = (written,)
    shapes |= {"decoder.final.weight": (1, narrow, 1, 1), "decoder.final.bias": (1,)}
    odd = odd_one(tensors, shapes)
    if not odd and tensors["predictor.lin.weight"].numel() != width:
        odd = "predictor.lin.weight"
    if odd or wide % groups or narrow % groups:
        what = (
            f"{odd} is of another shape" if odd else f"{groups} groups do not divide its channels"
        )
        raise ZsasError(
            f"The weights of AnomalyVFM do not fit each other: {what}; fetch them anew."
        )
