"""Data sets to measure on and to learn from, by the name of their layout.

MVTec-AD ("mvtec"), MVTec LOCO AD ("loco"), anything laid out like one of these ("folder"), VisA ("visa"), and a flat
folder with optional masks ("flat"). MVTec-AD and VisA also come from the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from zsas.datasets.folders import place, read_flat, read_mvtec, read_visa
from zsas.datasets.hub import HUB, hub_mvtec, hub_visa
from zsas.datasets.samples import Dataset, Sample, Split
from zsas.errors import ZsasError, reason

if TYPE_CHECKING:
    from zsas.datasets.samples import Place

Layout = Literal["mvtec", "visa", "loco", "folder", "flat"]
LAYOUTS: tuple[str, ...] = get_args(Layout)


def load_dataset(
    layout: str,
    root: str | Place | None = None,
    *,
    split: Split = "test",
    categories: Sequence[str] = (),
    limit: int | None = None,
    revision: str | None = None,
) -> Dataset:
    """List a data set; pictures are read later, one at a time.

    Args:
        layout: One of `LAYOUTS`.
        root: Its folder, on disk or at an address that fsspec knows; None takes "mvtec" and "visa" from the Hub.
        split: Which split.
        categories: Only these; empty takes all.
        limit: At most this many images of each category, evenly spread over its defect types.
        revision: Revision on the Hub.

    Raises:
        ZsasError: If the layout is broken, saying what was expected where; if a category does not exist;
            or if the Hub or the address cannot be reached.
    """
    if layout not in LAYOUTS:
        raise ZsasError(f"There is no data set {layout!r}; take one of {', '.join(LAYOUTS)}.")
    if limit is not None and limit < 1:
        raise ZsasError(f"The limit is {limit}, but it must be at least 1 image of each category.")
    if root is None:
        if layout not in HUB:
            raise ZsasError(f"The data set {layout!r} is on disk only: say where with --root PATH.")
        dataset = (hub_mvtec if layout == "mvtec" else hub_visa)(split, categories, revision)
    else:
        folder = place(root)
        try:
            dataset = _listed(layout, folder, split, categories)
        except ZsasError:
            raise
        except Exception as error:  # every kind of storage has errors of its own
            if isinstance(folder, Path):
                raise
            why = reason(error)
            raise ZsasError(f"{root} cannot be listed ({why}).") from None
    return _without_doubles(_narrowed(dataset, categories, limit))


def _listed(layout: str, folder: Place, split: Split, categories: Sequence[str]) -> Dataset:
    if not folder.is_dir():
        raise ZsasError(f"There is no folder {folder}; --root must be the folder of the data set.")
    if layout == "visa":
        return read_visa(folder, split, categories)
    if layout == "flat":
        return read_flat(folder, split)
    return read_mvtec(folder, split, layout, categories)


def _narrowed(dataset: Dataset, categories: Sequence[str], limit: int | None) -> Dataset:
    for category in categories:
        if category not in dataset.categories:
            raise ZsasError(
                f"{dataset.name} has no category {category!r}; it has {', '.join(dataset.categories)}."
            )
    chosen: list[Sample] = []
    for category in dataset.categories:
        if categories and category not in categories:
            continue
        samples = sorted(dataset.of(category), key=lambda sample: sample.key)
        if limit is not None and len(samples) > limit:
            samples = _spread_over_kinds(samples, limit)
        chosen += samples
    return replace(dataset, samples=tuple(chosen))


def _without_doubles(dataset: Dataset) -> Dataset:
    """The same, if every key stands for one image."""
    seen: dict[str, Sample] = {}
    for sample in dataset:
        other = seen.setdefault(sample.key, sample)
        if other is not sample:
            raise ZsasError(
                f"{dataset.name} has two images with the name {sample.key}, which differ by their suffix at most; "
                "rename or remove one, since masks and results go by the name."
            )
    return dataset


def _spread_over_kinds(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """Half normal and half anomalous as far as they go, the anomalous ones from each defect type in turn."""
    defect_types: dict[str, list[Sample]] = {}
    for sample in samples:
        defect_types.setdefault(sample.defect_type, []).append(sample)
    good = defect_types.pop("good", [])
    turns = [
        defect_type[i]
        for i in range(max(map(len, defect_types.values()), default=0))
        for defect_type in defect_types.values()
        if i < len(defect_type)
    ]
    normal = max(limit // 2, limit - len(turns)) if turns else limit
    normal = min(normal, len(good))
    return sorted(good[:normal] + turns[: limit - normal], key=lambda sample: sample.key)
