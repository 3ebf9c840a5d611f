"""What one decision returns: every stage kept, and a lossless export of it.

Coordinates are (x, y) in pixels of the original image. Arrays of a `Result` are for reading only.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from zsas import draw
from zsas.errors import ZsasError
from zsas.frames import pieces_of_mask
from zsas.settings import Settings


@dataclass(frozen=True)
class Points:
    """The point prompts P = Concat(P_h, P_l) of eq. 8, and a person's clicks.

    Attributes:
        xy: float32, shape = (n, 2), (x, y) in original pixels.
        labels: int, shape = (n,), 1 for positive and 0 for negative.
        source: Where each point comes from: "map" (eq. 2), "ring" (eq. 7) or "click" (a person).
    """

    xy: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]
    source: tuple[str, ...]

    @classmethod
    def none(cls) -> Points:
        """No points at all."""
        return cls(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), ())

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def positives(self) -> int:
        """How many points are positive."""
        return int(np.count_nonzero(self.labels == 1))

    @property
    def negatives(self) -> int:
        """How many points are negative."""
        return int(np.count_nonzero(self.labels == 0))


@dataclass(frozen=True)
class CascadeStep:
    """One call of SAM's mask decoder (eqs 9, 10 and 12), merged over the regions it was made for.

    Attributes:
        name: "M1", "M2" or "M3".
        mask: bool, shape = (H, W), the highest-scored mask in the original frame.
        score: SAM's predicted IoU in [0, 1]; the mean where several regions were decoded.
        box: float32, shape = (4,), xyxy, x1 and y1 exclusive, that was part of the prompt, or None.
        prompts: The prompts in words, for example "6 points, box, logits of M2".
    """

    name: str
    mask: NDArray[np.bool_]
    score: float
    box: NDArray[np.float32] | None = None
    prompts: str = ""


@dataclass(frozen=True)
class Region:
    """One connected piece of the final mask.

    Attributes:
        id: 1 for the most anomalous region, then counting on.
        box: x0, y0, x1, y1 in original pixels; x1 and y1 are exclusive.
        area: Pixels.
        score: The highest value of the score map in the region, [0, 1].
        rle: COCO run-length code of the region alone: {"size": [H, W], "counts": str}.
    """

    id: int
    box: tuple[int, int, int, int]
    area: int
    score: float
    rle: Mapping[str, Any]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool, shape = (H, W), decoded from the run-length code."""
        return coco.decode(dict(self.rle)).astype(bool)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "id": self.id,
            "box": list(self.box),
            "area": self.area,
            "score": _number(self.score),
            "rle": dict(self.rle),
        }


@dataclass(frozen=True)
class Result:
    """One image decided, with every stage of the method.

    Attributes:
        image: uint8 RGB, shape = (H, W, 3).
        anomaly_map: float32, shape = (H, W), Map_a in [0, 1].
        region: bool, shape = (H, W), the extreme region S_a.
        ring: bool, shape = (H, W), N_a of eq. 3.
        points: P of eq. 8.
        steps: The cascade, in order; empty where nothing was above the threshold.
        box: float32, shape = (n, 4), xyxy in original pixels, x1 and y1 exclusive, the boxes of eq. 11.
        winner: What the final mask is made of: names of steps, "region" where a mask was not kept
            (`Settings.agreement`), joined by ", "; "" where there was no cascade.
        mask: bool, shape = (H, W), the final mask.
        score_map: float32, shape = (H, W), [0, 1].
        image_score: [0, 1].
        anomalous: The verdict.
        regions: Connected pieces of `mask`, the most anomalous first.
        settings: The settings of this decision.
        preset: Name of the preset, or the ids of the two models.
        localizer: Which localizer made the map.
        versions: Package name to version.
        timings: Stage to seconds.
    """

    image: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]
    region: NDArray[np.bool_]
    ring: NDArray[np.bool_]
    points: Points
    steps: tuple[CascadeStep, ...]
    box: NDArray[np.float32]
    winner: str
    mask: NDArray[np.bool_]
    score_map: NDArray[np.float32]
    image_score: float
    anomalous: bool
    regions: tuple[Region, ...]
    settings: Settings
    preset: str
    localizer: str
    versions: Mapping[str, str]
    timings: Mapping[str, float]

    @property
    def verdict(self) -> str:
        """One sentence: normal or anomalous, the score, the threshold and what was found."""
        score, threshold = self.score_and_threshold
        return f"{self.word}: score {score}, threshold {threshold}, {self.found}."

    @property
    def word(self) -> str:
        """The verdict in one word: "Anomalous" or "Normal"."""
        return "Anomalous" if self.anomalous else "Normal"

    @property
    def score_and_threshold(self) -> tuple[str, str]:
        """Image score and verdict threshold as text, with as many digits as tell them apart."""
        score, threshold = self.image_score, self.settings.verdict_threshold
        look_equal = f"{score:.2f}" == f"{threshold:.2f}"
        digits = 4 if look_equal and score != threshold else 2
        return f"{score:.{digits}f}", f"{threshold:.{digits}f}"

    @property
    def found(self) -> str:
        """What was found, in words: regions, or why there are none."""
        count = len(self.regions)
        regions = f"{count} region{'' if count == 1 else 's'}"
        if count:
            return regions if self.anomalous else f"{regions} marked, too weak for the verdict"
        return "no region left in the mask" if self.region.any() else "nothing above the threshold"

    def to_dict(self) -> dict[str, Any]:
        """The result without its pixel arrays, as JSON types."""
        height, width = self.mask.shape
        return {
            "verdict": self.verdict,
            "anomalous": bool(self.anomalous),
            "image_score": _number(self.image_score),
            "width": width,
            "height": height,
            "regions": [region.to_dict() for region in self.regions],
            "points": [
                {"x": _number(x), "y": _number(y), "label": int(label), "source": source}
                for (x, y), label, source in zip(
                    self.points.xy, self.points.labels, self.points.source, strict=True
                )
            ],
            "boxes": [[_number(value) for value in box] for box in self.box],
            "steps": [
                {
                    "name": step.name,
                    "score": _number(step.score),
                    "area": int(np.count_nonzero(step.mask)),
                    "prompts": step.prompts,
                }
                for step in self.steps
            ],
            "winner": self.winner,
            "settings": self.settings.to_dict(),
            "preset": self.preset,
            "localizer": self.localizer,
            "versions": dict(self.versions),
            "timings": {name: _number(seconds) for name, seconds in self.timings.items()},
        }

    def save(
        self, folder: str | Path, stages: bool = False, stem: str | None = None
    ) -> dict[str, Path]:
        """Write the result without loss.

        Files: `mask.png` (uint8, 0 or 255, original size), `score.png` (uint16, 65535 is a score of
        1), `overlay.png`, `result.json` and, on demand, `stages/01_anomaly_map.png` and so on. All
        files are complete under a temporary name before the first gets its own, so an interrupted
        call leaves nothing or whole files. Pictures of stages of an earlier result are taken away.

        Args:
            folder: Made if it is missing.
            stages: Write the pictures of the stages too.
            stem: Put before each name: "gear" gives `gear_mask.png` and `gear_stages/`.

        Returns:
            "mask", "score", "overlay", "json" and each stage's name to the file written.

        Raises:
            ZsasError: If the folder cannot be written to.
        """
        folder = Path(folder)
        prefix = f"{stem}_" if stem else ""
        stage_folder = folder / f"{prefix}stages"
        score = np.rint(np.clip(self.score_map, 0, 1) * 65535).astype(np.uint16)
        files: dict[str, tuple[Path, bytes]] = {
            "mask": (folder / f"{prefix}mask.png", _png(self.mask.astype(np.uint8) * 255)),
            "score": (folder / f"{prefix}score.png", _png(score)),
            "overlay": (
                folder / f"{prefix}overlay.png",
                _png(draw.mask_overlay(self.image, self.mask)),
            ),
        }
        if stages:
            for number, stage in enumerate(draw.stages(self), start=1):
                path = stage_folder / f"{number:02d}_{draw.STAGE_FILES[stage.name]}.png"
                files[stage.name] = (path, _png(stage.image))
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        files["json"] = (folder / f"{prefix}result.json", (text + "\n").encode())
        try:
            _write_all(list(files.values()))
            written = {path for path, _ in files.values()}
            for name in draw.STAGE_FILES.values():
                for old in stage_folder.glob(f"[0-9][0-9]_{name}.png"):
                    if old not in written:
                        old.unlink()
        except OSError as error:
            raise ZsasError(
                f"The result cannot be written to {folder} ({error.strerror or error}); "
                "choose a folder that can be written to."
            ) from None
        return {name: path for name, (path, _) in files.items()}


def find_regions(mask: NDArray[np.bool_], score_map: NDArray[np.float32]) -> tuple[Region, ...]:
    """Connected pieces of a mask (8 neighbours), sorted by score, then by area, largest first.

    The score of a region is the highest value of the score map in it: a mean would rank a region
    with a sure core and a wide faint rim below a small one, though its core is the surer defect.

    Args:
        mask: bool, shape = (H, W).
        score_map: float32, shape = (H, W), [0, 1].
    """
    found = []
    for window, inside in pieces_of_mask(mask):
        x0, y0, x1, y1 = window
        score = float(score_map[y0:y1, x0:x1][inside].max())
        rle = _run_lengths(inside, x0, y0, mask.shape)
        found.append(Region(0, window, int(inside.sum()), score, rle))
    found.sort(key=lambda region: (-region.score, -region.area, region.box))
    return tuple(
        Region(number, region.box, region.area, region.score, region.rle)
        for number, region in enumerate(found, start=1)
    )


def _run_lengths(
    inside: NDArray[np.bool_], x: int, y: int, shape: tuple[int, ...]
) -> dict[str, Any]:
    """COCO code of a small window at (x, y) of an image; costs the window, not the image."""
    height, width = shape
    columns = np.pad(inside.T.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(columns, axis=1)
    column, row = np.nonzero(steps == 1)
    starts = (column + x) * height + row + y
    column, row = np.nonzero(steps == -1)
    ends = (column + x) * height + row + y
    # A run down to the lower border goes on at the top of the next column.
    joined = ends[:-1] == starts[1:]
    starts, ends = starts[np.r_[True, ~joined]], ends[np.r_[~joined, True]]
    edges = np.concatenate([[0], np.column_stack([starts, ends]).ravel(), [height * width]])
    counts = np.diff(edges)
    if counts[-1] == 0:
        counts = counts[:-1]
    code = coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def _number(value: float) -> float | None:
    """A plain float of six decimals; JSON knows no NaN and no infinity."""
    value = float(value)
    return round(value, 6) if math.isfinite(value) else None


def _png(array: NDArray[Any]) -> bytes:
    """PNG of a grey array (uint8 or uint16) or an RGB one (uint8)."""
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", array)[1].tobytes()


def _write_all(files: list[tuple[Path, bytes]]) -> None:
    """Write all files under temporary names beside their own, then move them there."""
    waiting: list[tuple[Path, Path]] = []
    try:
        for path, content in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not `tempfile`, whose files only their owner may read: some network drives refuse to change that.
            temporary = path.parent / f".{uuid.uuid4().hex}.part"
            waiting.append((temporary, path))
            with temporary.open("xb") as stream:
                stream.write(content)
        while waiting:
            temporary, path = waiting[0]
            os.replace(temporary, path)
            waiting.pop(0)
    finally:
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)
