"""AnomalyCLIP (Zhou et al., ICLR 2024, arXiv 2310.18961): learned prompts that name no object, and V-V attention.

Words for normal and damaged are not written but learned: twelve tokens for each state before the word "object", and
deep tokens that replace the first of them inside the text tower. They are the same for every image, so two text vectors
are all that is kept of the text tower. Patches come from the V-V stream of most of the vision tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.declare import Values
from zsas.errors import ZsasError
from zsas.lazy import F, torch
from zsas.localizers.adapter import (
    Card,
    card_from,
    check_backbone,
    check_there,
    read_learned,
    save_learned,
)
from zsas.localizers.base import Context, Localizer, MapSettings, Scored
from zsas.localizers.patches import PatchFeatures, image_probability
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.square import scored_square, square_features, square_resolution

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone

TEMPERATURE = 0.07
"""By what cosines are divided, in training as afterwards."""
WORDS = ("object.", "damaged object.")
"""What stands after the learned tokens, for normal and damaged."""
LEARNED, DEEP, MOST_DEEP = 12, 4, 8
"""Learned tokens of a state, deep tokens before a block, and blocks that get some."""


@dataclass(frozen=True)
class Prompts:
    """Learned prompts with their card: ten tensors for a text tower of twelve blocks.

    Attributes:
        card: What they were made for.
        normal: Learned tokens of the normal state, fp32 (12, width of the text tower).
        anomalous: Those of the damaged state.
        deep: What replaces the first tokens before each block from the second on, fp32 (4, width) each.
    """

    card: Card
    normal: Tensor
    anomalous: Tensor
    deep: tuple[Tensor, ...]

    def save(self, path: Path) -> None:
        """Write a safetensors file under the published names, the card as metadata."""
        tensors = {"ctx_pos": self.normal, "ctx_neg": self.anomalous}
        tensors |= {f"compound_prompts_text.{i}": one for i, one in enumerate(self.deep)}
        save_learned(path, "anomalyclip", self.card, tensors)


def read_prompts(path: Path) -> Prompts:
    """Read our safetensors file, or a published `.pth` file.

    Raises:
        ZsasError: If the file is neither, or lacks a tensor.
    """
    expected = "name a .safetensors file or AnomalyCLIP's epoch_15.pth"
    check_there(path, expected)
    try:
        if path.suffix in (".pth", ".pt"):
            tensors = torch.load(path, map_location="cpu", weights_only=True)["prompt_learner"]
            card = Card("openai/clip-vit-large-patch14-336", 518, "quick_gelu", "unknown")
        else:
            metadata, tensors = read_learned(path, expected)
            card = card_from(Card, metadata)
        count = sum(name.startswith("compound_prompts_text.") for name in tensors)
        width = tensors["ctx_pos"].shape[-1]
        return Prompts(
            card,
            tensors["ctx_pos"].float().reshape(-1, width),
            tensors["ctx_neg"].float().reshape(-1, width),
            tuple(
                tensors[f"compound_prompts_text.{i}"].float().reshape(-1, width)
                for i in range(count)
            ),
        )
    except ZsasError:
        raise
    except Exception as wrong:  # torch raises half a dozen kinds for damaged or unsafe files
        raise ZsasError(
            f"{path.name} holds no prompts of AnomalyCLIP ({type(wrong).__name__}: {wrong}); expected ctx_pos, ctx_neg "
            "and compound_prompts_text.0 and on, in a safetensors file with backbone, resolution, activation and "
            "trained_on in its metadata, or in the published file with the key prompt_learner."
        ) from None


class AnomalyClip(Localizer):
    """The V-V stream of most blocks, compared with the two learned text vectors.

    Args:
        clip: The loaded backbone; both towers run with the activation that the prompts were trained with.
        prompts: The learned tokens.

    Raises:
        ZsasError: If the prompts were made for another backbone.
    """

    name = "anomalyclip"
    title = "learned prompts and V-V attention"
    settings = (MapSettings, ReferenceSettings)
    weights = True
    missing = (
        "The system anomalyclip needs learned prompts; with the preset paper name the published ones with "
        "--weights anomalyclip=anomalyclip:visa, or train some with `zsas train adapters --system anomalyclip`."
    )
    trained_as = "anomalyclip"

    def __init__(self, clip: ClipBackbone, prompts: Prompts) -> None:
        check_backbone(clip, prompts.card)
        _check_shapes(clip, prompts)
        self.clip = clip
        self.prompts = prompts
        self.card = prompts.card

    @classmethod
    def read(cls, file: Path) -> Prompts:
        """See `Localizer.read`."""
        return read_prompts(file)

    def resolution(self, values: Values) -> int:
        """The setting, or else the resolution of the training."""
        return square_resolution(values, self.card.resolution, self.clip.patch)

    def encode(self, images: Sequence[NDArray[np.uint8]], values: Values) -> list[PatchFeatures]:
        """One pass with the V-V stream; see `Localizer.encode`."""
        pixels = self.clip.pixels(images, self.resolution(values))
        patches, image = look(self.clip, pixels, self.card.activation)
        return square_features(images, patches[:, None], image, pixels.shape[-1])

    @cached_property
    def states(self) -> Tensor:
        """The two text vectors, normal and damaged, fp32 (2, D)."""
        return text_vectors(self.clip, self.prompts).detach()

    def score(self, features: PatchFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        (tile,) = features.tiles  # the square as published
        states = self.states.to(tile.layers.device)
        side = tile.frame_hw[0]
        logits = tile.layers[0, 0].float() @ (states[1] - states[0]) / TEMPERATURE
        # Published order: softmax on the patch grid, then bilinear to the frame, then the blur.
        square = F.interpolate(
            torch.sigmoid(logits)[None, None], size=(side, side), mode="bilinear"
        )
        return scored_square(
            square[0, 0],
            image_probability(tile.image, states, 1.0 / TEMPERATURE),
            values,
            context,
            "CLIP compares each patch with learned prompts for normal and damaged (AnomalyCLIP)",
        )

    def tensors(self) -> Sequence[Tensor]:
        """The learned tokens."""
        return (self.prompts.normal, self.prompts.anomalous, *self.prompts.deep)


def vv_blocks(depth: int) -> int:
    """In how many of the last blocks the V-V stream runs: 19 of 24, four fifths of another depth."""
    return max(1, 4 * depth // 5)


def deep_blocks(depth: int) -> int:
    """How many text blocks get deep tokens: every one but the first, at most eight."""
    return min(MOST_DEEP, depth - 1)


def look(clip: ClipBackbone, pixels: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Patches of the V-V stream, fp32 (B, g, g, D), and image embeddings, fp32 (B, D), both L2-normalised.

    As published: positions resized bilinearly, and no norm between the class token and its projection.

    Args:
        clip: The backbone.
        pixels: (B, 3, R, R) from `ClipBackbone.pixels`.
        activation: Of the MLPs.
    """
    seen = clip.forward_vision(
        pixels, vv_blocks=vv_blocks(clip.depth), activation=activation, positions="bilinear"
    )
    assert seen.vv is not None
    grid = pixels.shape[-1] // clip.patch
    image = clip.model.visual_projection(seen.class_token)
    patches = F.normalize(seen.vv.float(), dim=-1).unflatten(1, (grid, grid))
    return patches, F.normalize(image.float(), dim=-1)


def text_vectors(clip: ClipBackbone, prompts: Prompts) -> Tensor:
    """The two text vectors, normal and damaged, L2-normalised, fp32 (2, D); gradients reach the prompts.

    Args:
        clip: The backbone, whose text tower is run block by block.
        prompts: The learned tokens.
    """
    tower = clip.model.text_model
    found = []
    for learned, words in zip((prompts.normal, prompts.anomalous), WORDS, strict=True):
        ids = clip.tokenizer([words], padding=False, truncation=True, max_length=77)["input_ids"]
        row = torch.as_tensor(ids, device=clip.device)[0]
        fixed = tower.embeddings.token_embedding(row)
        tokens = torch.cat([fixed[:1], learned.to(clip.device), fixed[1:]])
        tokens = (tokens + tower.embeddings.position_embedding.weight[: len(tokens)])[None]
        for number, layer in enumerate(tower.encoder.layers):
            if 1 <= number <= len(prompts.deep):
                deep = _through_half(prompts.deep[number - 1].to(clip.device))
                tokens = torch.cat([tokens[:, :1], deep[None], tokens[:, 1 + len(deep) :]], dim=1)
            tokens = _causal_block(clip, layer, tokens, prompts.card.activation)
        # Attention is causal and the last token is the end mark, so there is no padding.
        last = tower.final_layer_norm(tokens[0, -1])
        found.append(F.normalize(clip.model.text_projection(last).float(), dim=-1))
    return torch.stack(found)


def _through_half(tokens: Tensor) -> Tensor:
    """Rounded to fp16, as the published code does with deep tokens whatever the precision; gradients pass unrounded."""
    return tokens + (tokens.half().float() - tokens).detach()


def _causal_block(clip: ClipBackbone, layer: Any, tokens: Tensor, activation: str) -> Tensor:
    """One block of the text tower on a sequence without padding, (1, n, width)."""
    attention, normed = layer.self_attn, layer.layer_norm1(tokens)
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    mixed = clip.mixed(attention, *(project(normed) for project in projections), causal=True)
    return clip.mlp(layer, tokens + attention.out_proj(mixed), activation)


def _check_shapes(clip: ClipBackbone, prompts: Prompts) -> None:
    """Refuse prompts of another text tower."""
    config = clip.model.config.text_config
    widths = {t.shape[-1] for t in (prompts.normal, prompts.anomalous, *prompts.deep)}
    if widths != {config.hidden_size} or len(prompts.deep) >= config.num_hidden_layers:
        raise ZsasError(
            f"The learned prompts are {' and '.join(map(str, sorted(widths)))} wide with deep tokens for "
            f"{len(prompts.deep)} blocks, but the text tower of {clip.name} is {config.hidden_size} wide and has "
            f"{config.num_hidden_layers} blocks; use prompts that were made for it."
        )
