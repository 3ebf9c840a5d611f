"""Map_a from trained linear layers on four blocks: the APRIL-GAN recipe, which the paper uses.

Adapters are safetensors files whose metadata says what they were made for. APRIL-GAN's released `.pth` files are
read too and stamped with what is known of them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.activations import ACT2FN

from zsas.clip import ClipBackbone
from zsas.errors import ZsasError
from zsas.localizers.base import PatchFeatures
from zsas.text import ENSEMBLE


@dataclass(frozen=True)
class AdapterCard:
    """What an adapter was made for and from.

    Attributes:
        backbone: Hub id or preset name of the CLIP it belongs to.
        blocks: Blocks whose tokens it reads, counted from 1.
        resolution: Side of the CLIP frame that it is made for, pixels.
        activation: Activation of the vision tower in training.
        trained_on: Name of the data set it saw, for example `mvtec`.
        trained_categories: Categories of it that it saw; empty where they are not known.
        text_ensemble: Name of the sentences it was trained against.
        scale: Factor on the cosines in training.
        looks: How often a photo is looked at: for each look the share of the resolution, and whether the photo is
            mirrored. The first gives the patch grid, on which the probabilities of all are averaged; several cost
            as much time and memory as they are and make a small tower surer and sharper.
    """

    backbone: str
    blocks: tuple[int, ...]
    resolution: int
    activation: str
    trained_on: str
    text_ensemble: str
    scale: float = 100.0
    looks: tuple[tuple[float, bool], ...] = ((1.0, False),)
    trained_categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.looks or any(share <= 0 for share, _ in self.looks):
            raise ValueError("looks")
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError("blocks")
        if self.activation not in ACT2FN:
            raise ValueError("activation")

    def to_metadata(self) -> dict[str, str]:
        """As safetensors metadata: text values, numbers as JSON."""
        return {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], path: Path) -> AdapterCard:
        """The reverse of `to_metadata`.

        Raises:
            ZsasError: If an entry is missing or is not of its type.
        """
        try:
            return cls(
                backbone=metadata["backbone"],
                blocks=tuple(int(block) for block in json.loads(metadata["blocks"])),
                resolution=int(metadata["resolution"]),
                activation=metadata["activation"],
                trained_on=metadata["trained_on"],
                text_ensemble=metadata["text_ensemble"],
                scale=float(metadata.get("scale", 100.0)),
                looks=tuple(
                    (float(share), bool(mirrored))
                    for share, mirrored in json.loads(metadata.get("looks", "[[1, false]]"))
                ),
                trained_categories=tuple(json.loads(metadata.get("trained_categories", "[]"))),
            )
        except (KeyError, TypeError, ValueError) as wrong:
            raise ZsasError(
                f"{path.name} is no adapter of ours: its metadata lacks or garbles {wrong}; it needs "
                "backbone, blocks, resolution, activation, trained_on and text_ensemble."
            ) from None


@dataclass(frozen=True)
class Adapter:
    """Linear layers with their card.

    Attributes:
        card: What they were made for.
        weights: One matrix a block, fp32 (D, width).
        biases: One vector a block, fp32 (D,).
    """

    card: AdapterCard
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def save(self, path: Path) -> None:
        """Write a safetensors file, tensors `fc.N.weight` and `fc.N.bias`, the card as metadata."""
        tensors = {f"fc.{i}.weight": weight.contiguous() for i, weight in enumerate(self.weights)}
        tensors |= {f"fc.{i}.bias": bias.contiguous() for i, bias in enumerate(self.biases)}
        save_file(tensors, path, metadata=self.card.to_metadata())


def read_adapter(path: Path) -> Adapter:
    """Read our safetensors file, or one of APRIL-GAN's `.pth` files.

    Raises:
        ZsasError: If the file is neither, or lacks a layer.
    """
    if not path.is_file():
        raise ZsasError(
            f"There is no adapter file {path}; name a .safetensors or APRIL-GAN .pth file."
        )
    if path.suffix == ".pth":
        return _read_april_gan(path)
    try:
        with safe_open(path, framework="pt") as file:
            card = AdapterCard.from_metadata(file.metadata() or {}, path)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError:
        raise ZsasError(
            f"{path.name} cannot be read as safetensors; it is damaged or of another kind."
        ) from None
    return _adapter(card, tensors, path)


def _read_april_gan(path: Path) -> Adapter:
    """The released layers: one key `trainable_linearlayer`, trained on plain-GELU towers of ViT-L/14-336."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: value.float() for name, value in content["trainable_linearlayer"].items()}
    except Exception:  # torch raises half a dozen kinds for damaged or unsafe files
        raise ZsasError(
            f"{path.name} cannot be read: expected APRIL-GAN's file with the single key trainable_linearlayer "
            "and nothing but tensors in it."
        ) from None
    # A released file is named after the data set it was trained on (its training runs after the one they test).
    trained_on = next((word for word in ("mvtec", "visa") if word in path.stem.lower()), "unknown")
    card = AdapterCard(
        backbone="openai/clip-vit-large-patch14-336",
        blocks=(6, 12, 18, 24),
        resolution=518,
        activation="gelu",
        trained_on=trained_on,
        text_ensemble="april-gan",
    )
    return _adapter(card, tensors, path)


def _adapter(card: AdapterCard, tensors: dict[str, Tensor], path: Path) -> Adapter:
    try:
        weights = tuple(tensors[f"fc.{i}.weight"].float() for i in range(len(card.blocks)))
        biases = tuple(tensors[f"fc.{i}.bias"].float() for i in range(len(card.blocks)))
    except KeyError as missing:
        raise ZsasError(
            f"{path.name} lacks the tensor {missing}; expected a weight and a bias for each of the "
            f"{len(card.blocks)} blocks {card.blocks}."
        ) from None
    return Adapter(card, weights, biases)


class LinearLocalizer:
    """Four blocks, a linear layer each, compared with the two text vectors.

    Args:
        clip: The loaded backbone; its towers are run with the activation the adapter was trained with.
        adapter: The layers. Where it was made for a model in a folder, or one from a folder is loaded, names say
            nothing: it is taken if its shapes fit, with a warning in the log of `zsas`. Another warning says if it
            was trained against other sentences than ours.

    Raises:
        ZsasError: If the adapter was made for another backbone, naming both.
    """

    name = "linear"

    def __init__(self, clip: ClipBackbone, adapter: Adapter) -> None:
        card = adapter.card
        made_for, loaded = _folder(card.backbone), _folder(clip.name)
        if card.backbone != clip.name and made_for is None and loaded is None:
            raise ZsasError(
                f"The adapter was made for {card.backbone}, but {clip.name} is loaded; "
                "use the adapter that belongs to it, or the training_free localizer."
            )
        shape = (clip.projection, clip.width)
        if (
            max(card.blocks) > clip.depth
            or any(tuple(weight.shape) != shape for weight in adapter.weights)
            or any(tuple(bias.shape) != shape[:1] for bias in adapter.biases)
        ):
            raise ZsasError(
                f"The adapter reads blocks {card.blocks} with layers of shape {tuple(adapter.weights[0].shape)}, "
                f"but {clip.name} has {clip.depth} blocks and needs layers of shape {shape}."
            )
        log = logging.getLogger("zsas")
        if card.backbone != clip.name and made_for != loaded:
            activation = (
                ""
                if card.activation == clip.activation
                else f", whose activation is {clip.activation}"
            )
            log.warning(
                "The adapter was made for %s with the activation %s and is used with %s%s: their shapes fit, but "
                "whether they are the same model cannot be seen; if not, its maps mean nothing.",
                card.backbone,
                card.activation,
                clip.name,
                activation,
            )
        if card.text_ensemble != ENSEMBLE:
            log.warning(
                "The adapter was trained against the sentences %s and is used with ours, %s: its maps may be a "
                "little weaker than its makers'.",
                card.text_ensemble,
                ENSEMBLE,
            )
        self.clip = clip
        self.adapter = adapter
        self.card = card
        self.scale = card.scale
        self._layers = [
            (block, weight.to(clip.device), bias.to(clip.device))
            for block, weight, bias in zip(
                card.blocks, adapter.weights, adapter.biases, strict=True
            )
        ]

    @property
    def resolution(self) -> int:
        """The resolution of the adapter's card."""
        return self.card.resolution

    @property
    def activation(self) -> str:
        """Activation of both towers, to be given to `ClipBackbone.state_vectors` too."""
        return self.card.activation

    @torch.inference_mode()
    def encode(self, images: Sequence[NDArray[np.uint8]], resolution: int) -> list[PatchFeatures]:
        """Patch features of RGB photos, one layer a block; see `zsas.localizers.base.Localizer`."""
        found = [
            self._look(images, resolution, share, mirrored) for share, mirrored in self.card.looks
        ]
        grid = found[0][0].shape[-2]
        # Logits are linear in the features: looks can meet on one grid before there are words.
        layers = torch.stack([_to_grid(one, grid).half() for one, _ in found], dim=1)
        embedding = F.normalize(torch.stack([one for _, one in found]).sum(0), dim=-1)
        return [
            PatchFeatures(layers[i].clone(), embedding[i], grid * self.clip.patch)
            for i in range(len(images))
        ]

    def _look(
        self, images: Sequence[NDArray[np.uint8]], resolution: int, share: float, mirrored: bool
    ) -> tuple[Tensor, Tensor]:
        """Projected patches, fp32 (B, blocks, g, g, D), turned back, and image embeddings, fp32 (B, D)."""
        pixels = self.clip.pixels(images, round(share * resolution))
        seen = self.clip.look(
            pixels.flip(-1) if mirrored else pixels,
            blocks=self.card.blocks,
            activation=self.activation,
        )
        grid = pixels.shape[-1] // self.clip.patch
        projected = [
            F.normalize(F.linear(seen.blocks[block].float(), weight, bias), dim=-1)
            for block, weight, bias in self._layers
        ]
        layers = torch.stack(projected, dim=1).unflatten(2, (grid, grid))
        return layers.flip(3) if mirrored else layers, seen.image


def _folder(backbone: str) -> Path | None:
    """The folder that the name of a backbone is; None for a Hub id or a preset's name."""
    path = Path(os.path.expanduser(backbone))
    looks_so = backbone.startswith((".", "~")) or path.is_absolute() or len(path.parts) > 2
    return path.resolve() if looks_so or os.path.isfile(path / "config.json") else None


def _to_grid(layers: Tensor, grid: int) -> Tensor:
    """Patch features (B, blocks, g, g, D) on another grid, bilinear."""
    if layers.shape[-2] == grid:
        return layers
    flat = layers.flatten(0, 1).permute(0, 3, 1, 2)
    wide = F.interpolate(flat, size=(grid, grid), mode="bilinear", align_corners=False)
    return wide.permute(0, 2, 3, 1).unflatten(0, layers.shape[:2])
