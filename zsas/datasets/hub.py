"""MVTec-AD and VisA from the Hub, a file at a time as it is needed.

`huggingface_hub` caches each file and continues broken downloads.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zsas.datasets.samples import LICENCES, Dataset, File, Sample, Source, Split, object_name
from zsas.errors import ZsasError, reason
from zsas.models.repository import probe, repo_files

HUB = {"mvtec": "Voxel51/mvtec-ad", "visa": "BrachioLab/visa"}
MVTEC_CATEGORIES = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw",
    "tile", "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip
VISA_CATEGORIES = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2",
    "pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum",
)  # fmt: skip


@dataclass(frozen=True)
class HubFile:
    """A picture in a data set on the Hub, downloaded when it is first opened."""

    repo: str
    name: str
    revision: str | None

    def picture(self) -> Path | Image.Image:
        """The file, fetched if it is not here."""
        return _hub_file(self.repo, self.name, self.revision)


@dataclass(frozen=True)
class Cell:
    """A picture in one row of a parquet file, with its bytes in `column`."""

    file: File | HubFile
    column: str
    row: int

    def picture(self) -> Path | Image.Image:
        """The bytes of the cell, as Pillow opens them."""
        path = self.file.picture()
        assert isinstance(path, Path)
        if not path.is_file():
            raise ZsasError(f"{path} is gone; list the data set anew.")
        try:
            return Image.open(io.BytesIO(_cells(path, self.column)[self.row]))
        except (OSError, SyntaxError):
            raise ZsasError(
                f"Row {self.row} of {path.name} holds no image in its column {self.column!r}."
            ) from None


@dataclass(frozen=True)
class InlineMask:
    """A mask as FiftyOne writes it into `samples.json`: base64 of a zlib-packed .npy array."""

    code: str

    def picture(self) -> Path | Image.Image:
        """The mask, 0 or 255."""
        try:
            packed = zlib.decompress(base64.b64decode(self.code))
            array = np.load(io.BytesIO(packed), allow_pickle=False)
        except (ValueError, zlib.error):
            raise ZsasError("A mask in samples.json is damaged; download the file anew.") from None
        return Image.fromarray((array > 0).astype(np.uint8) * 255)


def hub_mvtec(split: Split, categories: Sequence[str], revision: str | None) -> Dataset:
    """MVTec-AD from the Hub: one list of samples; images are fetched when they are read."""
    path = _hub_file(HUB["mvtec"], "samples.json", revision)
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ZsasError(
            f"samples.json of {HUB['mvtec']} is damaged ({reason(error)}); delete {path} and give the same command "
            "again."
        ) from None
    return mvtec_from_fiftyone(rows["samples"] if isinstance(rows, dict) else rows, split, revision)


def mvtec_from_fiftyone(
    rows: Sequence[Mapping[str, Any]], split: Split, revision: str | None = None
) -> Dataset:
    """MVTec-AD from the rows of FiftyOne's `samples.json` on the Hub."""
    samples = []
    for row in rows:
        try:
            category, defect_type = row["category"]["label"], row["defect"]["label"]
            name, row_split = row["filepath"], row["split"]
            if not all(isinstance(one, str) for one in (category, defect_type, name)):
                raise TypeError
        except (KeyError, TypeError):
            raise ZsasError(
                f"A row of samples.json in {HUB['mvtec']} lacks category.label, defect.label, split or "
                "filepath; its layout has changed, so give a --revision that is known or a local --root."
            ) from None
        if row_split != split:
            continue
        anomalous = defect_type != "good"
        mask = _fiftyone_mask(row.get("defect_mask"), revision) if anomalous else None
        if anomalous and mask is None:
            raise ZsasError(f"samples.json in {HUB['mvtec']} has no defect_mask for {name}.")
        samples.append(
            Sample(
                key=f"{category}/{split}/{defect_type}/{Path(name).stem}",
                category=category,
                object_name=object_name(category),
                defect_type=defect_type,
                anomalous=anomalous,
                image=HubFile(HUB["mvtec"], name, revision),
                mask=mask,
            )
        )
    if not samples:
        raise ZsasError(f"samples.json in {HUB['mvtec']} has no image of the split {split!r}.")
    return Dataset("mvtec", split, tuple(samples), LICENCES["mvtec"])


def _fiftyone_mask(field: Any, revision: str | None) -> Source | None:
    if not isinstance(field, Mapping):
        return None
    if field.get("mask_path"):
        return HubFile(HUB["mvtec"], field["mask_path"], revision)
    packed = field.get("mask")
    if isinstance(packed, Mapping):
        packed = packed.get("$binary")
        if isinstance(packed, Mapping):
            packed = packed.get("base64")
    return InlineMask(packed) if isinstance(packed, str) else None


def hub_visa(split: Split, categories: Sequence[str], revision: str | None) -> Dataset:
    """VisA from the Hub: a parquet file for each category."""
    unknown = sorted(set(categories) - set(VISA_CATEGORIES))
    if unknown:
        raise ZsasError(
            f"visa has no category {unknown[0]!r}; it has {', '.join(VISA_CATEGORIES)}."
        )
    samples: list[Sample] = []
    for category in dict.fromkeys(categories) or VISA_CATEGORIES:
        name = f"data/{category}.{split}-00000-of-00001.parquet"
        path = _hub_file(HUB["visa"], name, revision)
        # Each machine of a cluster has a cache of its own, so a sample names the file on the Hub.
        samples += visa_from_parquet(path, category, split, HubFile(HUB["visa"], name, revision))
    return Dataset("visa", split, tuple(samples), LICENCES["visa"])


def visa_from_parquet(
    path: Path, category: str, split: Split, source: HubFile | None = None
) -> list[Sample]:
    """One category of VisA from its parquet file, columns `image`, `mask` and `label`.

    Args:
        path: The file.
        category: Whose it is.
        split: Which split.
        source: Where the file is on the Hub; None if `path` is all there is.
    """
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
    except (OSError, ValueError) as error:
        raise ZsasError(
            f"{path} cannot be read as parquet ({reason(error)}); delete it and give the same command again."
        ) from None
    if not {"image", "mask", "label"} <= set(names):
        raise ZsasError(
            f"{path.name} must have the columns image, mask and label, but it has {', '.join(names)}."
        )
    samples = []
    for row, label in enumerate(pq.read_table(path, columns=["label"])["label"].to_pylist()):
        anomalous = str(label).lower() not in ("0", "false", "normal", "good")
        samples.append(
            Sample(
                key=f"{category}/{split}/{'bad' if anomalous else 'good'}/{row:04d}",
                category=category,
                object_name=object_name(category),
                defect_type="bad" if anomalous else "good",
                anomalous=anomalous,
                image=Cell(source or File(path), "image", row),
                mask=Cell(source or File(path), "mask", row) if anomalous else None,
            )
        )
    return samples


@functools.lru_cache(maxsize=4)
def _cells(path: Path, column: str) -> list[bytes]:
    """The packed pictures of one column; a category of VisA is about 200 files of 1 MB at most."""
    import pyarrow.parquet as pq

    cells = pq.read_table(path, columns=[column])[column].to_pylist()
    return [cell["bytes"] if isinstance(cell, dict) else cell or b"" for cell in cells]


def _hub_file(repo: str, name: str, revision: str | None) -> Path:
    """A file of a data set on the Hub, from the cache or downloaded (and continued after a break)."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repo, name, repo_type="dataset", revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    try:
        why = _hub_is_silent()
        if not why:
            return repo_files(repo, [name], repo_type="dataset", revision=revision)[0]
    except ZsasError as error:
        why = str(error).rstrip(".")
    raise ZsasError(
        f"{name} of {repo} cannot be had from the Hugging Face Hub ({why}); "
        "check the network, or download the data set and give its folder with --root."
    )


@functools.lru_cache(maxsize=1)
def _hub_is_silent() -> str:
    """One quick question to the Hub in the life of a process: why it cannot be reached, "" if it can."""
    answer = probe("")
    return answer if isinstance(answer, str) else ""
