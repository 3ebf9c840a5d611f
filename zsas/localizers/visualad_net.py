"""What VisualAD computes and its file of weights: two learned tokens, a transform a layer, attention that aims them.

Equations: tokens a and n run through the tower before the class token; a layer's map is cos(T(p), a') − cos(T(p), n')
with T two linear layers and a GELU between them (SAF), and a' the token plus what four anchors gather from that layer's
patches, weighted by a gate of the token (SCA); arXiv 2603.07952 and its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.errors import ZsasError
from zsas.lazy import F, torch
from zsas.localizers.adapter import (
    Card,
    card_from,
    check_there,
    odd_one,
    quarters,
    read_learned,
    save_learned,
)

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone

TOKENS = ("anomaly_token", "normal_token")
PUBLISHED_BACKBONE, PUBLISHED_SIZE = "openai/clip-vit-large-patch14-336", 518
"""What the authors' two files were made for; they have no card of ours."""


@dataclass(frozen=True, kw_only=True)
class VisualCard(Card):
    """What the weights were made for and from.

    Attributes:
        blocks: Blocks whose patches are read, counted from 1.
        level: Sum over the layers at which the map is one half.
        spread: By what the sum minus the level is divided before the logistic function.
        views: Test-time augmentation; see `zsas.localizers.adapter.AdapterCard`.
    """

    blocks: tuple[int, ...]
    level: float = 0.0
    spread: float = 1.0
    views: tuple[tuple[float, bool], ...] = ((1.0, False),)


@dataclass(frozen=True)
class VisualWeights:
    """What is learned, with its card.

    Attributes:
        card: What it was made for.
        tensors: By published name: `anomaly_token` and `normal_token` (D,), `ln_post_weight` and `ln_post_bias` (D,),
            for each block N `layer_transforms.layer_N.mlp.0` and `.3`, and, where there is one, the attention
            `cross_attn.layer_attentions.layer_N`.
    """

    card: VisualCard
    tensors: Mapping[str, Tensor]

    def save(self, path: Path, dtype: torch.dtype | None = None) -> None:
        """Write a safetensors file, the card as metadata.

        Args:
            path: The file.
            dtype: Number format of the file; the tensors' own without.
        """
        save_learned(path, "visualad", self.card, self.tensors, dtype)


def read_visual(path: Path) -> VisualWeights:
    """Read our safetensors file, or one of the authors' `CLIP.pth`.

    Raises:
        ZsasError: If the file is neither, or lacks a tensor.
    """
    expected = "name a .safetensors file or VisualAD's CLIP.pth"
    check_there(path, expected)
    try:
        if path.suffix in (".pth", ".pt"):
            content = torch.load(path, map_location="cpu", weights_only=True)
            tensors = {name: one.float() for name, one in _flat(content).items()}
            card = _published_card(content, path)
        else:
            metadata, held = read_learned(path, expected)
            if metadata.get("localizer") != "visualad":
                raise ValueError(f"its localizer is {metadata.get('localizer', 'missing')}")
            card = card_from(VisualCard, metadata)
            tensors = {name: one.float() for name, one in held.items()}
    except ZsasError:
        raise
    except Exception as wrong:  # torch raises half a dozen kinds for damaged or unsafe files
        raise ZsasError(
            f"{path.name} holds no weights of VisualAD ({type(wrong).__name__}: {wrong}); expected two tokens and a "
            "transform of each layer, in a safetensors file with backbone, blocks, resolution, activation and "
            "trained_on in its metadata, or in the published file."
        ) from None
    for name in TOKENS:
        if name in tensors:
            tensors[name] = tensors[name].reshape(-1)
    missing = sorted(_expected(card) - tensors.keys())
    if missing:
        raise ZsasError(
            f"{path.name} lacks {missing[0]}, of {len(missing)} tensors; expected two tokens, the last norm and a "
            f"transform of each of the blocks {card.blocks}."
        )
    return VisualWeights(card, tensors)


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Tensor]:
    """The tensors of nested dicts, their names joined by dots."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        elif isinstance(value, torch.Tensor):
            found[before + key] = value
    return found


def _published_card(content: Mapping[str, Any], path: Path) -> VisualCard:
    """What is known of the authors' files, which have no card."""
    folders = " ".join(path.parts[-3:]).lower()
    return VisualCard(
        PUBLISHED_BACKBONE,
        int(content.get("image_size", PUBLISHED_SIZE)),
        "quick_gelu",
        next((word for word in ("mvtec", "visa") if word in folders), "unknown"),
        blocks=tuple(int(block) for block in content["features_list"]),
    )


def _expected(card: VisualCard) -> set[str]:
    transforms = {
        f"layer_transforms.layer_{block}.mlp.{part}.{end}"
        for block in card.blocks
        for part in (0, 3)
        for end in ("weight", "bias")
    }
    return {*TOKENS, "ln_post_weight", "ln_post_bias", *transforms}


@dataclass(frozen=True)
class Looked:
    """What the tower says of a batch.

    Attributes:
        patches: After each read block and the last norm, fp32 (B, L, g_h · g_w, D).
        tokens: Anomaly and normal token after the last block and norm, fp32 (B, 2, D).
        image: Class token after them, fp32 (B, D).
    """

    patches: Tensor
    tokens: Tensor
    image: Tensor


def look(
    clip: ClipBackbone, pixels: Tensor, tensors: Mapping[str, Tensor], card: VisualCard, norm: str
) -> Looked:
    """The tower with the two tokens in front; gradients reach the tensors.

    Args:
        clip: The backbone.
        pixels: (B, 3, H, W).
        tensors: As in `VisualWeights`, on the backbone's device.
        card: Blocks and activation.
        norm: `trained` or `pretrained`.
    """
    own = clip.model.vision_model.post_layernorm
    if norm == "trained":
        weight, bias = tensors["ln_post_weight"], tensors["ln_post_bias"]
    else:
        weight, bias = own.weight.float(), own.bias.float()

    def normed(tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens.float(), (clip.width,), weight, bias, own.eps)

    # Both stand at the class token's position, the first row of the table.
    place = clip.model.vision_model.embeddings.position_embedding.weight[0]
    learned = torch.stack([tensors[name] for name in TOKENS]).to(clip.dtype) + place
    embedded = clip.embed(pixels, "bilinear")
    tokens = torch.cat([learned.expand(len(embedded), -1, -1), embedded], dim=1)
    tokens = clip.pre_norm(tokens)
    kept = []
    for number, layer in enumerate(clip.layers, start=1):
        tokens = clip.block(layer, tokens, card.activation)
        if number in card.blocks:
            kept.append(normed(tokens[:, 3:]))
    last = normed(tokens[:, :3])
    return Looked(torch.stack(kept, dim=1), last[:, :2], last[:, 2])


def aimed(
    tensors: Mapping[str, Tensor],
    looked: Looked,
    card: VisualCard,
    grid: tuple[int, int],
    own_grid: int,
    dropout: float = 0.0,
) -> Tensor:
    """The two tokens for each layer, fp32 (B, L, 2, D): as they are, or with what the anchors gather (SCA).

    Args:
        tensors: As in `VisualWeights`.
        looked: From `look`.
        card: Blocks.
        grid: Rows and columns of patches.
        own_grid: Those of the training's square, whose positions the table holds; for another grid they are resized.
        dropout: In training, of what is gathered.
    """
    found = []
    for i, block in enumerate(card.blocks):
        tokens = looked.tokens
        before = f"cross_attn.layer_attentions.layer_{block}."
        if before + "anchor_queries" in tensors:
            part = {k.removeprefix(before): t for k, t in tensors.items() if k.startswith(before)}
            places = _places(part["pos_encoding"], grid, own_grid)
            gathered = _gathered(part, looked.patches[:, i], places)
            gate = torch.sigmoid(F.linear(tokens, part["gate.0.weight"], part["gate.0.bias"]))
            update = F.linear(gate @ gathered, part["out_proj.weight"], part["out_proj.bias"])
            tokens = tokens + part["res_scale"] * F.dropout(update, dropout, dropout > 0)
        found.append(tokens)
    return torch.stack(found, dim=1)


def _places(table: Tensor, grid: tuple[int, int], own_grid: int) -> Tensor:
    """Rows of the table of positions for a grid, (g_h · g_w, D)."""
    rows = table.reshape(-1, table.shape[-1])[: own_grid * own_grid]
    if grid == (own_grid, own_grid):
        return rows
    square = rows.T.reshape(1, -1, own_grid, own_grid)
    return F.interpolate(square, size=grid, mode="bilinear").flatten(2)[0].T


def _gathered(part: Mapping[str, Tensor], patches: Tensor, places: Tensor) -> Tensor:
    """What each anchor gathers from the patches of a layer, (B, 4, D)."""
    width = patches.shape[-1]
    anchors = part["anchor_queries"].reshape(-1, width)
    query, key = (
        F.layer_norm(
            F.linear(values, part[f"{name}_proj.weight"]),
            (width,),
            part[f"{name}_norm.weight"],
            part[f"{name}_norm.bias"],
        )
        for name, values in (("q", anchors), ("k", patches + places))
    )
    weights = (key @ query.T / width**0.5).softmax(dim=1)
    return weights.transpose(1, 2) @ F.linear(patches, part["v_proj.weight"])


def transformed(
    tensors: Mapping[str, Tensor], looked: Looked, card: VisualCard, dropout: float = 0.0
) -> Tensor:
    """Patches of each layer through its transform (SAF), L2-normalised, fp32 (B, L, N, D)."""
    found = []
    for i, block in enumerate(card.blocks):
        weights = [
            tensors[f"layer_transforms.layer_{block}.mlp.{part}.{end}"]
            for part in (0, 3)
            for end in ("weight", "bias")
        ]
        hidden = F.gelu(F.linear(looked.patches[:, i], weights[0], weights[1]))
        hidden = F.dropout(hidden, dropout, dropout > 0)
        found.append(F.linear(hidden, weights[2], weights[3]))
    return F.normalize(torch.stack(found, dim=1), dim=-1)


def differences(tokens: Tensor) -> Tensor:
    """Anomaly minus normal direction of each layer: (B, L, 2, D) → (B, L, D); patches · it is the layer's map."""
    unit = F.normalize(tokens, dim=-1)
    return unit[..., 0, :] - unit[..., 1, :]


def check_shapes(clip: ClipBackbone, weights: VisualWeights) -> None:
    """Refuse weights of another tower."""
    width, last = len(weights.tensors[TOKENS[0]]), max(weights.card.blocks)
    if width != clip.width or last > clip.depth:
        raise ZsasError(
            f"The weights of VisualAD read the blocks {weights.card.blocks} of a tower of {width} channels, but "
            f"{clip.name} has {clip.depth} blocks and {clip.width} channels; use weights that were made for it."
        )
    vector, matrix = (width,), (width, width)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
        (*TOKENS, "ln_post_weight", "ln_post_bias"), vector
    )
    places = (weights.card.resolution // clip.patch) ** 2
    for block in weights.card.blocks:
        for part in (0, 3):
            name = f"layer_transforms.layer_{block}.mlp.{part}."
            shapes |= {name + "weight": matrix, name + "bias": vector}
        name = f"cross_attn.layer_attentions.layer_{block}."
        if name + "anchor_queries" not in weights.tensors:
            continue
        anchors = weights.tensors[name + "anchor_queries"].shape[-2]
        shapes |= {f"{name}{one}_proj.weight": matrix for one in ("q", "k", "v", "out")}
        shapes |= {
            f"{name}{one}": vector for one in ("out_proj.bias", "q_norm.weight", "q_norm.bias")
        }
        shapes |= {f"{name}{one}": vector for one in ("k_norm.weight", "k_norm.bias")}
        shapes |= {f"{name}gate.0.weight": (anchors, width), f"{name}gate.0.bias": (anchors,)}
        shapes[f"{name}res_scale"] = weights.tensors.get(f"{name}res_scale", torch.zeros(1)).shape
        table = weights.tensors.get(f"{name}pos_encoding", torch.zeros(1))
        if table.shape[-1] != width or table.numel() < places * width:
            shapes[f"{name}pos_encoding"] = (1, places, width)
    odd = odd_one(weights.tensors, shapes)
    if odd:
        raise ZsasError(
            f"The weights of VisualAD do not fit each other: {odd} is missing or of another shape; fetch them anew."
        )


def layers_of(clip: ClipBackbone) -> tuple[int, ...]:
    """The blocks that are read: the last of each quarter, 6, 12, 18 and 24 of 24."""
    return quarters(clip.depth)
