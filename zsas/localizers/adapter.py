"""Adapters: small files of trained layers for a CLIP, with a card that says what they were made for.

Ours are safetensors files with the card as metadata. APRIL-GAN's released `.pth` files are read too and stamped with
what is known of them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from zsas.backbones import text
from zsas.errors import ZsasError
from zsas.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class Card:
    """What learned weights were made for and from.

    Attributes:
        backbone: Hub id or preset name of the CLIP that they belong to.
        resolution: Side of the CLIP frame that they are made for, pixels.
        activation: Activation of the CLIP in training.
        trained_on: Name of the data set they saw, for example `mvtec`.
        trained_categories: Categories of it that they saw; empty where they are not known.
    """

    backbone: str
    resolution: int
    activation: str
    trained_on: str
    trained_categories: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AdapterCard(Card):
    """What an adapter was made for and from.

    Attributes:
        blocks: Blocks whose tokens it reads, counted from 1.
        text_ensemble: Name of the sentences it was trained against.
        scale: Factor on the cosines in training.
        views: Test-time augmentation: for each view the fraction of the resolution, and whether the image is mirrored.
            The first gives the patch grid, on which the probabilities of all are averaged; several cost as much time
            and memory as they are and make a small tower surer and sharper.
        localizer: Name of the localizer that reads them.
        aliased: Whether the layers were trained on tokens to which the next block's attention output had been added
            already, as the published ones of SDP+ were; see `zsas.localizers.sdp.staged_pass`.
        corners: Whether logits are enlarged to the frame with corners aligned, as the public code of APRIL-GAN and SDP+
            does in training and afterwards.
    """

    blocks: tuple[int, ...]
    text_ensemble: str
    scale: float = 100.0
    views: tuple[tuple[float, bool], ...] = ((1.0, False),)
    localizer: str = "linear"
    aliased: bool = False
    corners: bool = False


AnyCard = TypeVar("AnyCard", bound=Card)


def card_as_metadata(card: Card) -> dict[str, str]:
    """A card as safetensors metadata: text as it is, everything else as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in asdict(card).items()
    }


def card_from(kind: type[AnyCard], metadata: Mapping[str, str]) -> AnyCard:
    """The reverse of `card_as_metadata`; what a file does not say has the card's default.

    Raises:
        KeyError: If an entry without a default is missing.
        ValueError: If an entry is not of its type, or of no use; TypeError too.
    """
    from transformers.activations import ACT2FN

    hints = get_type_hints(kind)
    needed = {f.name for f in fields(kind) if f.default is MISSING}
    values: dict[str, Any] = {
        name: metadata[name] if hint is str else _as(hint, json.loads(metadata[name]))
        for name, hint in hints.items()
        if name in metadata or name in needed
    }
    views = values.get("views", ((1.0, False),))
    of_use = {
        "views": len(views) > 0 and all(fraction > 0 for fraction, _ in views),
        "blocks": min(values.get("blocks", (1,)), default=0) >= 1,
        "activation": values["activation"] in ACT2FN,
        "resolution": values["resolution"] >= 1,
    }
    for name, good in of_use.items():
        if not good:
            raise ValueError(name)
    return kind(**values)


def _as(hint: Any, value: Any) -> Any:
    """A value of JSON as a number, a word, or a tuple of them."""
    kinds = get_args(hint)
    if not kinds:
        return hint(value)
    if kinds[-1] is Ellipsis:
        return tuple(_as(kinds[0], one) for one in value)
    return tuple(_as(kind, one) for kind, one in zip(kinds, value, strict=True))


def odd_one(tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """The first of the wanted tensors that is missing or of another shape, "" if all are as they should be."""
    return next((n for n, s in wanted.items() if n not in tensors or tensors[n].shape != s), "")


def save_learned(
    path: Path,
    localizer: str,
    card: Card,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a localizer's learned weights as safetensors, its name and card as metadata.

    Args:
        path: The file.
        localizer: Whose weights they are.
        card: What they were made for.
        tensors: By name.
        dtype: Number format of the file; the tensors' own without.
    """
    from safetensors.torch import save_file

    held = {
        name: one.detach().to("cpu", dtype or one.dtype).contiguous()
        for name, one in tensors.items()
    }
    save_file(held, path, metadata={"localizer": localizer, **card_as_metadata(card)})


def read_learned(
    path: Path, expected: str, named: Callable[[str], str] = str
) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file of learned weights.

    Args:
        path: The file.
        expected: What to do where it is not there, for the end of a sentence.
        named: A tensor's name here by its name in the file, empty where it is not read; the file's own without.

    Raises:
        ZsasError: If there is no file, or it is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    check_there(path, expected)
    try:
        with safe_open(path, framework="pt") as file:
            names = {named(key): key for key in file.keys()}  # noqa: SIM118
            tensors = {name: file.get_tensor(key) for name, key in names.items() if name}
            return file.metadata() or {}, tensors
    except SafetensorError:
        raise ZsasError(
            f"{path.name} cannot be read as safetensors; it is damaged or of another kind."
        ) from None


def check_there(path: Path, expected: str) -> None:
    """Refuse a file of learned weights that does not exist.

    Args:
        path: The file.
        expected: What to do then, for the end of a sentence.

    Raises:
        ZsasError: If there is none.
    """
    if not path.is_file():
        raise ZsasError(f"There is no file {path}; {expected}.")


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
        tensors = {f"fc.{i}.weight": weight for i, weight in enumerate(self.weights)}
        tensors |= {f"fc.{i}.bias": bias for i, bias in enumerate(self.biases)}
        save_learned(path, self.card.localizer, self.card, tensors)


def read_adapter(path: Path) -> Adapter:
    """Read our safetensors file, or one of the `.pth` files of APRIL-GAN or SDP+.

    Raises:
        ZsasError: If the file is neither, or lacks a layer.
    """
    expected = "name a .safetensors file with an adapter, or a .pth file of APRIL-GAN or SDP+"
    if path.suffix == ".pth":
        check_there(path, expected)
        return _read_published(path)
    metadata, tensors = read_learned(path, expected)
    try:
        # Files of the first version say "looks".
        card = card_from(AdapterCard, {"views": metadata.get("looks", "[[1, false]]"), **metadata})
    except (KeyError, TypeError, ValueError) as wrong:
        raise ZsasError(
            f"{path.name} is no adapter of ours: its metadata lacks or garbles {wrong}; it needs "
            "backbone, blocks, resolution, activation, trained_on and text_ensemble."
        ) from None
    return _adapter(card, tensors, path)


_PUBLISHED: dict[str, dict[str, Any]] = {
    # Trained on plain-GELU towers of ViT-L/14-336.
    "trainable_linearlayer": {
        "backbone": "openai/clip-vit-large-patch14-336",
        "blocks": (6, 12, 18, 24),
        "resolution": 518,
        "text_ensemble": "april-gan",
        "corners": True,
    },
    "linear_layers": {
        "backbone": "ViT-B-16-plus-240",
        "blocks": (3, 6, 9, 12),
        "resolution": 240,
        "text_ensemble": "clip-ad",
        "localizer": "sdp+",
        "aliased": True,
        "corners": True,
    },
}
"""What is known of the released layers, by the key in their files: APRIL-GAN's and SDP+'s."""


def _read_published(path: Path) -> Adapter:
    """The released layers of APRIL-GAN or SDP+: a dict with one key, nothing but tensors below it."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        key = next(key for key in _PUBLISHED if key in content)
        tensors = {name: value.float() for name, value in content[key].items()}
    except Exception:  # torch raises half a dozen kinds for damaged or unsafe files
        raise ZsasError(
            f"{path.name} cannot be read: expected APRIL-GAN's file with the single key trainable_linearlayer, or "
            "SDP+'s with the key linear_layers, and nothing but tensors in it."
        ) from None
    # A released file is named after the data set it was trained on (its training runs after the one they test).
    trained_on = next((word for word in ("mvtec", "visa") if word in path.stem.lower()), "unknown")
    card = AdapterCard(activation="gelu", trained_on=trained_on, **_PUBLISHED[key])
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


def quarters(depth: int) -> tuple[int, ...]:
    """The last block of each quarter of the depth: 6, 12, 18, 24 of 24."""
    return tuple(round(depth * part / 4) for part in (1, 2, 3, 4))


def check_fit(
    clip: ClipBackbone, adapter: Adapter, localizer: str = "linear", ensemble: str = ""
) -> None:
    """Refuse an adapter of another system or backbone, and say in the log where names cannot tell.

    Args:
        clip: The loaded backbone.
        adapter: The layers.
        localizer: Who reads them.
        ensemble: Name of the sentences that they are used with; our own of `zsas.backbones.text` if empty.

    Raises:
        ZsasError: If it was made for another localizer or backbone, naming both, or its shapes do not fit.
    """
    card = adapter.card
    if card.localizer != localizer:
        raise ZsasError(
            f"These layers were trained for the localizer {card.localizer}, but {localizer} is asked to read them; "
            f"name them with --weights {card.localizer}=FILE and run a system that uses it."
        )
    ensemble = ensemble or text.ENSEMBLE
    check_backbone(clip, card)
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
    warn_of_sentences(card.text_ensemble, ensemble)


def check_backbone(clip: ClipBackbone, card: Card) -> None:
    """Refuse learned weights whose card names another backbone.

    Where one of the two is a folder, names say nothing: the weights are used if their shapes fit, as the log says.

    Raises:
        ZsasError: Naming both.
    """
    backbone, activation = card.backbone, card.activation
    if backbone == clip.name or (_folder(backbone) or backbone) == _folder(clip.name):
        return
    if _folder(backbone) is None and _folder(clip.name) is None:
        raise ZsasError(
            f"The adapter was made for {backbone}, but {clip.name} is loaded; "
            "use the adapter that belongs to it, or the system vv, which needs none."
        )
    other = "" if activation == clip.activation else f", whose activation is {clip.activation}"
    logging.getLogger("zsas").warning(
        "The adapter was made for %s with the activation %s and is used with %s%s: if their shapes fit, "
        "whether they are the same model cannot be seen; if not, its maps mean nothing.",
        backbone,
        activation,
        clip.name,
        other,
    )


def warn_of_sentences(trained_against: str, ensemble: str) -> None:
    """Say in the log that learned weights are used with other sentences than they were trained against."""
    if trained_against != ensemble:
        logging.getLogger("zsas").warning(
            "The adapter was trained against the sentences %s and is used with ours, %s: its maps may be a "
            "little weaker than its makers'.",
            trained_against,
            ensemble,
        )


def _folder(backbone: str) -> Path | None:
    """The folder that the name of a backbone is; None for a Hub id or a preset's name."""
    path = Path(os.path.expanduser(backbone))
    looks_so = backbone.startswith((".", "~")) or path.is_absolute() or len(path.parts) > 2
    return path.resolve() if looks_so or os.path.isfile(path / "config.json") else None
