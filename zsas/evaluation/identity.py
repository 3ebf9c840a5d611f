"""The identity of a run: data, conditions, models and weights. Runs with equal identities have equal records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zsas import __version__
from zsas.datasets.defects import DefectMasks
from zsas.datasets.hub import MVTEC_CATEGORIES, VISA_CATEGORIES
from zsas.datasets.samples import Dataset, File, Sample, Source
from zsas.evaluation.conditions import Condition
from zsas.fingerprint import clips_of, fingerprint
from zsas.segmenter import Segmenter

if TYPE_CHECKING:
    from zsas.datasets.samples import Place


def identity(
    dataset: Dataset,
    conditions: Sequence[Condition],
    segmenter: Segmenter | Mapping[str, Segmenter],
    side: int,
) -> dict[str, Any]:
    """The identity of a run, as JSON types."""
    several = segmenter if isinstance(segmenter, Mapping) else {"": segmenter}
    models = {
        name: describe(its, [one for one in conditions if one.precision == name])
        for name, its in several.items()
        if any(one.precision == name for one in conditions)
    }
    return {**identity_of_data(dataset, conditions, side), "models": _joined(list(models.values()))}


def _joined(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One description of the same models in several number formats, which lists all formats and digests."""
    words = {
        name: ", ".join(str(one[name]) for one in models)
        for name in ("precision", "weights")
        if len(models) > 1
    }
    return {**{name: value for one in models for name, value in one.items()}, **words}


def identity_of_data(
    dataset: Dataset, conditions: Sequence[Condition], side: int
) -> dict[str, Any]:
    """The part of `identity` that needs no models."""
    return {
        "zsas": __version__,
        "dataset": dataset.name,
        "split": dataset.split,
        "images": len(dataset),
        "keys": digest_of_samples(dataset),
        "conditions": [one.to_dict() for one in conditions],
        "side": side,
    }


def describe(segmenter: Segmenter, conditions: Sequence[Condition]) -> dict[str, Any]:
    """The models that run, as they are written to results.json."""
    settings = [condition.settings for condition in conditions]
    clip = next(iter(clips_of(segmenter, settings)), None)  # some systems have none
    facts: dict[str, Any] = {
        "preset": segmenter.preset,
        "precision": segmenter.models.choice.precision_note
        or (str(clip.dtype).removeprefix("torch.") if clip else "float32"),
        "device": str(clip.device if clip else segmenter.models.device),
        "weights": fingerprint(segmenter, settings),
    }
    for condition in conditions:
        localizer = segmenter.localizer(condition.settings)
        facts[localizer.name] = dict(localizer.describe())
    return facts


_UNCOMPRESSED = (".bmp", ".dib", ".tif", ".tiff", ".tga", ".pbm", ".pgm", ".ppm", ".pnm", ".pam")


def digest_of_samples(samples: Iterable[Sample]) -> str:
    """Digest of keys, file sizes, and masks whose size says nothing: the same keys may name other images."""
    keys = "\n".join(
        f"{sample.key} {_size(sample.image)} {_size(sample.mask)}{_marks(sample.mask)}"
        for sample in samples
    )
    return hashlib.sha256(keys.encode()).hexdigest()[:16]


def _files(source: Source | None) -> list[Place]:
    """The files of an image or mask on disk; none elsewhere."""
    files = source.files if isinstance(source, DefectMasks) else ()
    files = (source.path,) if isinstance(source, File) else files
    return [file for file in files if file.is_file()]


def _size(source: Source | None) -> int:
    """Bytes of an image on disk, so that another one under the same name is noticed; 0 elsewhere."""
    return sum(file.stat().st_size for file in _files(source))


def _marks(source: Source | None) -> str:
    """Digest of a mask in a format without compression, whose size stays when it is corrected; "" elsewhere."""
    files = [file for file in _files(source) if file.suffix.lower() in _UNCOMPRESSED]
    data = b"".join(file.read_bytes() for file in files)
    return " " + hashlib.sha256(data).hexdigest()[:16] if files else ""


PUBLISHED = {"mvtec": MVTEC_CATEGORIES, "visa": VISA_CATEGORIES}
"""Categories of the data sets whose adapters may not list their own."""


def leakage(dataset: Dataset, models: Mapping[str, Any]) -> list[str]:
    """A warning where the weights in use were trained on the data set they are judged on.

    A data set has been seen if it bears the name of the one trained on and shares a category with it. A copy under
    another name can only be guessed: it has exactly the categories trained on, or, where these are published ones, at
    least half of its categories bear their names.
    """
    categories = set(dataset.categories)
    worthless = (
        "these figures say nothing about unseen kinds of images and must not be compared with "
        "zero-shot results."
    )
    found = []
    for card in models.values():
        trained_on = card.get("trained_on", "") if isinstance(card, Mapping) else ""
        if not trained_on:
            continue
        trained = set(card.get("trained_categories") or PUBLISHED.get(trained_on, ()))
        if trained_on == dataset.name and (not trained or categories & trained):
            found.append(
                f"The weights were trained on {trained_on}, the data set they are judged on here: {worthless}"
            )
        elif dataset.name not in PUBLISHED and (
            categories == trained
            or 2 * len(categories & set(PUBLISHED.get(trained_on, ()))) >= len(categories)
        ):
            found.append(
                f"The weights were trained on {trained_on}, and most categories here bear names of that data set: if "
                f"these are its images, {worthless}"
            )
    return list(dict.fromkeys(found))
