"""Records of measured images, and their storage.

Records hold histograms, not pixels. They are written one by one under temporary names and renamed, so that a killed
run loses only the image it was at; from time to time they are added up into one file a category that lists the images
in it, so that nothing is counted twice whenever the kill comes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError, reason
from zsas.evaluation.coarse import MOST_IMAGES, CoarseCounts, Each, from_arrays, to_arrays
from zsas.evaluation.metrics import BINS, PixelCounts
from zsas.files import write_whole

RECORDS_AT_ONCE = 64


@dataclass(frozen=True)
class Outcome:
    """The measurement of one image under one condition.

    Attributes:
        counts: For the pixel metrics; None where there is no ground truth.
        image_score: [0, 1].
        hit: Pixels in both the final mask and the ground truth.
        marked: Pixels in the final mask.
        true: Pixels in the ground truth.
    """

    counts: PixelCounts | None
    image_score: float
    hit: int
    marked: int
    true: int


@dataclass(frozen=True)
class Record:
    """The measurements of one image under all conditions.

    Attributes:
        key, category, defect_type, anomalous: As in its `Sample`.
        outcomes: One for each condition; empty where the image could not be read.
        error: Why it could not be read, else "".
        strip: JPEG of image, ground truth, score map and mask side by side; empty where there is none.
    """

    key: str
    category: str
    defect_type: str
    anomalous: bool | None
    outcomes: tuple[Outcome, ...]
    error: str = ""
    strip: bytes = b""


@dataclass
class Totals:
    """Records added up.

    Attributes:
        counts: One for each condition.
        images: What else is known of each image, in the order of arrival: key, category, defect_type, anomalous,
            error, and for each condition `image_score`, `hit`, `marked`, `true`.
        each: Small histograms of each image, in the same order; None where there are too many.
    """

    counts: list[PixelCounts]
    images: list[dict[str, Any]]
    each: Each | None = None

    @classmethod
    def empty(cls, conditions: int) -> Totals:
        """Of no record."""
        return cls([PixelCounts.empty()] * conditions, [], ())

    @classmethod
    def of(cls, record: Record, conditions: int) -> Totals:
        """Of one record."""
        counts = [outcome.counts or PixelCounts.empty() for outcome in record.outcomes]
        image = {
            "key": record.key,
            "category": record.category,
            "defect_type": record.defect_type,
            "anomalous": record.anomalous,
            "error": record.error,
            "truth": any(outcome.counts is not None for outcome in record.outcomes),
            "image_score": [outcome.image_score for outcome in record.outcomes],
            "hit": [outcome.hit for outcome in record.outcomes],
            "marked": [outcome.marked for outcome in record.outcomes],
            "true": [outcome.true for outcome in record.outcomes],
        }
        each = tuple(
            None if outcome.counts is None else CoarseCounts.of(outcome.counts)
            for outcome in record.outcomes
        )
        return cls(counts or [PixelCounts.empty()] * conditions, [image], (each,))

    def __add__(self, other: Totals) -> Totals:
        pairs = zip(self.counts, other.counts, strict=True)
        images = self.images + other.images
        both = None if self.each is None or other.each is None else self.each + other.each
        return Totals(
            [a + b for a, b in pairs], images, both if len(images) <= MOST_IMAGES else None
        )

    def without_failures(self) -> Totals:
        """Of the images that could be measured; the others have no counts."""
        good = [not image["error"] for image in self.images]
        each = self.each
        if each is not None:
            each = tuple(one for one, ok in zip(each, good, strict=True) if ok)
        images = [image for image, ok in zip(self.images, good, strict=True) if ok]
        return Totals(self.counts, images, each)

    def to_bytes(self) -> bytes:
        """As a .npz file that holds only the bins in use."""
        arrays: dict[str, NDArray[Any]] = {
            "images": np.frombuffer(json.dumps(self.images).encode(), np.uint8),
            "regions": np.array([count.regions for count in self.counts], np.int64),
        }
        for name in ("normal", "anomalous", "overlap"):
            dense = [getattr(count, name) for count in self.counts]
            used = [np.flatnonzero(row) for row in dense]
            arrays[f"{name}_length"] = np.array([bins.size for bins in used], np.int64)
            arrays[f"{name}_bins"] = np.concatenate(used).astype(np.uint16)
            arrays[name] = np.concatenate(
                [row[bins] for row, bins in zip(dense, used, strict=True)]
            )
        if self.each is not None:
            arrays |= to_arrays(self.each)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Totals:
        """The reverse of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
        rows: dict[str, list[NDArray[Any]]] = {}
        for name in ("normal", "anomalous", "overlap"):
            ends = np.cumsum(arrays[f"{name}_length"])[:-1]
            rows[name] = []
            pairs = zip(
                np.split(arrays[f"{name}_bins"], ends), np.split(arrays[name], ends), strict=True
            )
            for bins, values in pairs:
                dense = np.zeros(BINS, values.dtype)
                dense[bins] = values
                rows[name].append(dense)
        counts = [
            PixelCounts(normal, anomalous, overlap, int(regions))
            for normal, anomalous, overlap, regions in zip(
                rows["normal"], rows["anomalous"], rows["overlap"], arrays["regions"], strict=True
            )
        ]
        return cls(counts, json.loads(arrays["images"].tobytes()), from_arrays(arrays))


class Store:
    """The records of one run on disk.

    Args:
        folder: Made if missing; holds `run.json`, `records/` and `strips/`.
        identity: What defines the run; a folder of another run is refused. Its entry "models" may come later, by
            `made_by`.
        conditions: How many conditions each record has.

    Raises:
        ZsasError: If the folder holds another run or cannot be written to.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], conditions: int) -> None:
        self.folder = folder
        self.conditions = conditions
        self._identity: dict[str, Any] = {}
        try:
            (folder / "records").mkdir(parents=True, exist_ok=True)
            (folder / "strips").mkdir(exist_ok=True)
            self._stamp(identity)
        except OSError as error:
            raise ZsasError(
                f"{folder} cannot be written to ({error.strerror}); choose another --out."
            ) from None
        self._loose: dict[str, list[Path]] = {}
        self._totals: dict[str, Totals] = {}
        self.done = self._recover()

    @property
    def models(self) -> Mapping[str, Any]:
        """The models that made the records; empty as long as they are not known."""
        return self._identity.get("models", {})

    def made_by(self, models: Mapping[str, Any]) -> None:
        """Set the models that make the records.

        Raises:
            ZsasError: If earlier records were made by others.
        """
        if json.loads(json.dumps(models)) != self._identity.get("models"):
            self._stamp({**self._identity, "models": models})

    def _stamp(self, identity: Mapping[str, Any]) -> None:
        """Compare with `run.json`, then write it; models that one of the two does not name yet are no difference."""
        stamp = self.folder / "run.json"
        wanted = json.loads(json.dumps(identity))  # a tuple comes back as a list
        found = read_stamp(stamp)
        both = {**wanted, **found}
        if both != {**found, **wanted} or not both.keys() - wanted.keys() <= {"models"}:
            raise ZsasError(
                f"{self.folder} holds a run of other conditions (see run.json there); "
                "choose another --out, or delete it."
            )
        if both != found or not stamp.is_file():
            write_whole(stamp, (json.dumps(both, indent=1, sort_keys=True) + "\n").encode())
        self._identity = both

    def put(self, record: Record) -> None:
        """Store one record; a second one of the same image is dropped."""
        if record.key in self.done:
            return
        if record.strip:
            write_whole(self.strip_path(record.key), record.strip)
        path = self.folder / "records" / f"{_digest(record.key)}.npz"
        write_whole(path, Totals.of(record, self.conditions).to_bytes())
        self.done.add(record.key)
        loose = self._loose.setdefault(record.category, [])
        loose.append(path)
        if len(loose) >= RECORDS_AT_ONCE:
            self.totals(record.category)

    def totals(self, category: str) -> Totals:
        """All records of a category, added up in the order of their keys' arrival, and saved as one file."""
        loose = self._loose.pop(category, [])
        path = self._totals_path(category)
        total = Totals.empty(self.conditions)
        if path.is_file():
            total = _totals(path)
        if loose:
            counted = {image["key"] for image in total.images}
            for record in loose:
                # Another process on the same folder may have measured, or added up, this image too.
                one = _totals(record) if record.is_file() else None
                if one is not None and one.images[0]["key"] not in counted:
                    total = total + one
                    counted.add(one.images[0]["key"])
            write_whole(path, total.to_bytes())
            for record in loose:
                record.unlink(missing_ok=True)
        return total

    def strip_path(self, key: str) -> Path:
        """Path of an image's strip."""
        return self.folder / "strips" / f"{_digest(key)}.jpg"

    def _totals_path(self, category: str) -> Path:
        return self.folder / "records" / f"total-{_digest(category)}.npz"

    def _recover(self) -> set[str]:
        """Keys of all images measured so far; records already added up before a kill are taken away.

        So are failures: what was in their way, a network for instance, may be gone.
        """
        done: set[str] = set()
        files = sorted((self.folder / "records").glob("*.npz"))
        for path in files:
            if path.name.startswith("total-"):
                total = _totals(path)
                good = total.without_failures()
                if len(good.images) < len(total.images):
                    write_whole(path, good.to_bytes())
                done.update(image["key"] for image in good.images)
        for path in files:
            if path.name.startswith("total-"):
                continue
            try:
                (image,) = _totals(path).images
            except ZsasError:  # one image, which is measured again
                path.unlink()
                continue
            if image["key"] in done or image["error"]:
                path.unlink()
            else:
                done.add(image["key"])
                self._loose.setdefault(image["category"], []).append(path)
        return done


def read_stamp(path: Path) -> dict[str, Any]:
    """What the file that describes a run says; {} without the file.

    Raises:
        ZsasError: If it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {**found}
    except (ValueError, TypeError) as error:
        raise ZsasError(_DAMAGED.format(path, reason(error))) from None


def _totals(path: Path) -> Totals:
    """The records in a file.

    Raises:
        ZsasError: If it is damaged.
    """
    try:
        return Totals.from_bytes(path.read_bytes())
    except (ValueError, LookupError, EOFError, BadZipFile) as error:
        raise ZsasError(_DAMAGED.format(path, reason(error))) from None


_DAMAGED = "{} is damaged ({}); choose another --out, or delete its folder and measure again."


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
