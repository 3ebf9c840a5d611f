"""Results as annotations that other tools read: COCO (pycocotools, supervision, CVAT, FiftyOne) and Label Studio."""

from __future__ import annotations

import datetime
import itertools
import unicodedata
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas import __version__
from zsas.result import Result

LABEL = "anomaly"


class Annotations:
    """Images with their regions, each region an annotation with its exact mask.

    An image is called by the last part of its name; where another one is called so, be it with another suffix, a number
    is put in, since the tools tell images apart by that part alone (datumaro and CVAT without the suffix).
    """

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._tasks: list[dict[str, Any]] = []
        self._names: set[str] = set()

    def add(self, name: str, result: Result, saved_as: str) -> None:
        """Add one image.

        Args:
            name: As a person gave it, with folders where there were some.
            result: Its regions.
            saved_as: What the names of its output files begin with.
        """
        height, width = result.mask.shape
        file_name = self._unique(PurePosixPath(name.replace("\\", "/")).name or "image")
        image = {"id": len(self._images) + 1, "file_name": file_name}
        size = {"width": width, "height": height}
        extra = {"license": 0, "date_captured": "", "path": name, "saved_as": saved_as}
        self._images.append({**image, **size, **extra})
        for region in result.regions:
            if not region.counts:
                continue
            x0, y0, x1, y1 = region.box
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image["id"],
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": region.area,
                    "segmentation": dict(region.rle),
                    "iscrowd": 0,
                    "score": round(region.score, 6),
                }
            )
        self._tasks.append(_task(file_name, result))

    def coco(self) -> dict[str, Any]:
        """COCO's object detection format; masks are run-length codes."""
        now = datetime.datetime.now(datetime.UTC)
        return {
            "info": {
                "description": "Anomalies found by zsas",
                "version": __version__,
                "year": now.year,
                "contributor": "",
                "url": "",
                "date_created": now.isoformat(timespec="seconds"),
            },
            "licenses": [{"id": 0, "name": "unknown", "url": ""}],
            "images": self._images,
            "annotations": self._annotations,
            "categories": [{"id": 1, "name": LABEL, "supercategory": ""}],
        }

    def label_studio(self) -> list[dict[str, Any]]:
        """Tasks with predictions for a labelling interface with `<BrushLabels name="tag" toName="image">`."""
        return self._tasks

    def _unique(self, name: str) -> str:
        path, number = PurePosixPath(name), 2
        stem = path.stem
        while _same(stem) in self._names:
            stem, number = f"{path.stem}_{number}", number + 1
        self._names.add(_same(stem))
        return f"{stem}{path.suffix}"


def _same(name: str) -> str:
    """A key that is equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _task(file_name: str, result: Result) -> dict[str, Any]:
    height, width = result.mask.shape
    shared = {"from_name": "tag", "to_name": "image", "type": "brushlabels", "image_rotation": 0}
    return {
        "data": {"image": file_name},
        "predictions": [
            {
                "model_version": f"zsas {__version__}",
                "score": round(float(result.image_score), 6),
                "result": [
                    {
                        **shared,
                        "id": f"region{region.id}",
                        "original_width": width,
                        "original_height": height,
                        "score": round(region.score, 6),
                        "value": {
                            "format": "rle",
                            "rle": brush_code(region.mask),
                            "brushlabels": [LABEL],
                        },
                    }
                    for region in result.regions
                    if region.counts
                ],
            }
        ],
    }


def brush_code(mask: NDArray[np.bool_]) -> list[int]:
    """Label Studio's run-length code of a mask, as bytes: an RGBA image of 0 and 255, row by row.

    A header (32 bits for the number of values, 5 for the bits of a value less one, 4 × 4 for the bits of four lengths
    less one) is followed by runs: a bit that says so, two for the kind of length, the length less one, the value.

    Args:
        mask: bool, shape = (H, W).
    """
    bits = [f"{4 * mask.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    for value, length in _runs(mask.ravel()):
        values = 4 * length
        while values:
            part = min(values, 2**16)
            bits.append(f"1{3:02b}{part - 1:016b}{255 if value else 0:08b}")
            values -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[start : start + 8], 2) for start in range(0, len(text), 8)]


def _runs(flat: NDArray[np.bool_]) -> Iterator[tuple[bool, int]]:
    edges = np.flatnonzero(np.diff(flat)) + 1
    bounds = [0, *edges.tolist(), len(flat)]
    for start, end in itertools.pairwise(bounds):
        if end > start:
            yield bool(flat[start]), end - start
