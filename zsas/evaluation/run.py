"""Run a segmenter over a data set, once a picture, and keep what the metrics need.

Each image is encoded once and decided once for every condition (a row of the table). What is kept of it
is a `Record`: histograms, not pixels. Records are written one by one under temporary names and renamed,
so that a killed run loses only the image it was at; from time to time they are added up into one file
a category that lists the images in it, so that nothing is counted twice whenever the kill comes.
"""

from __future__ import annotations

import copy
import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from zsas import __version__, draw
from zsas.data.datasets import Dataset, File, Sample, Source
from zsas.data.made.scene import HELD_OUT_FAMILIES
from zsas.errors import ZsasError
from zsas.evaluation.metrics import BINS, PixelCounts, Truth
from zsas.pipeline import Encoding, Segmenter
from zsas.result import Result
from zsas.sam import Masks, Prompt, SamFeatures
from zsas.settings import Settings, knobs

MAP_ALONE = "CLIP map alone"
MASK_ALONE = "mask alone"
AS_SET = "as set"
CASCADE_NAMES = {1: "points", 2: "points + logit1", 3: "points + box + logit2"}
KERNELS = tuple(
    (shape, size) for shape in ("cross", "rectangle", "ellipse") for size in (20, 25, 30)
)
STRIP_HEIGHT = 200
RECORDS_AT_ONCE = 64


@dataclass(frozen=True)
class Condition:
    """One row of the table.

    Attributes:
        name: Name of the row.
        settings: Its settings; the object name is filled in for each image.
    """

    name: str
    settings: Settings


def plan(
    settings: Settings, ablate: Sequence[str] = (), sweep: Mapping[str, Sequence[Any]] | None = None
) -> list[Condition]:
    """The conditions of a run: the map alone, then every combination of the axes asked for.

    Args:
        settings: What all conditions share.
        ablate: "cascade" (one, two, three steps) and "kernel" (three shapes × three sizes).
        sweep: Setting name to values.

    Returns:
        The map alone comes first; without axes the mask alone and the settings as they are follow.

    Raises:
        ZsasError: On an unknown ablation or setting, or a value out of its range.
    """
    axes: list[list[tuple[str, dict[str, Any]]]] = []
    for name in ablate:
        if name == "kernel":
            axes.append([(f"{s} {n}", {"kernel_shape": s, "kernel_size": n}) for s, n in KERNELS])
        elif name == "cascade":
            axes.append([(label, {"steps": steps}) for steps, label in CASCADE_NAMES.items()])
        else:
            raise ZsasError(f"There is no ablation {name!r}; take cascade or kernel.")
    for name, values in (sweep or {}).items():
        axes.append([(f"{name} {value}", {name: value}) for value in values])
    conditions = [Condition(MAP_ALONE, settings.replace(fusion="map"))]
    if not axes:
        conditions.append(Condition(MASK_ALONE, settings.replace(fusion="mask")))
        conditions.append(Condition(AS_SET, settings))
    for combination in itertools.product(*axes) if axes else ():
        changes: dict[str, Any] = {}
        for _, change in combination:
            changes |= change
        name = ", ".join(label for label, _ in combination)
        conditions.append(Condition(name, settings.replace(**changes)))
    return conditions


def parse_sweep(texts: Iterable[str]) -> dict[str, list[Any]]:
    """`["k_positive=1,3,5"]` as `{"k_positive": [1, 3, 5]}`.

    Raises:
        ZsasError: If a text is not name=v1,v2, the name is no setting, or a value is not of its type.
    """
    known = {knob.name: knob for knob in knobs()}
    words = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values or name not in known:
            raise ZsasError(
                f"The sweep {text!r} must read name=v1,v2, where the name is one of {', '.join(known)}."
            )
        knob = known[name]
        for value in (part.strip() for part in values.split(",")):
            try:
                parsed = words[value.lower()] if knob.type is bool else knob.type(value)
            except (KeyError, ValueError):
                raise ZsasError(
                    f"The sweep of {name} has the value {value!r}, but it must be {knob.range_text}."
                ) from None
            Settings().replace(**{name: parsed})
            found.setdefault(name, []).append(parsed)
    return found


@dataclass(frozen=True)
class Outcome:
    """What one condition gave on one image.

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
    """Everything that is kept of one image.

    Attributes:
        key, category, kind, defective: As in its `Sample`.
        outcomes: One for each condition; empty where the image could not be read.
        error: Why it could not be read, else "".
        strip: JPEG of photo, truth, map and mask side by side; empty where there is none.
    """

    key: str
    category: str
    kind: str
    defective: bool | None
    outcomes: tuple[Outcome, ...]
    error: str = ""
    strip: bytes = b""


def measure(
    segmenter: Segmenter, samples: Sequence[Sample], conditions: Sequence[Condition], side: int = 0
) -> list[Record]:
    """Encode some images together, decide each under every condition, and compare with the truth.

    Args:
        segmenter: The models.
        samples: Images; those that cannot be read give a record with the reason.
        conditions: Rows of the table.
        side: Longest side at which maps and masks are compared; 0 is the image's own.
    """
    records: dict[str, Record] = {}
    readable: list[tuple[Sample, NDArray[np.uint8], NDArray[np.bool_] | None]] = []
    for sample in samples:
        try:
            image = sample.load_image()
            readable.append((sample, image, sample.load_mask((image.shape[0], image.shape[1]))))
        except ZsasError as error:
            records[sample.key] = Record(
                sample.key, sample.category, sample.kind, sample.defective, (), str(error)
            )
    outcomes: dict[str, dict[int, Outcome]] = {sample.key: {} for sample, _, _ in readable}
    strips: dict[str, bytes] = {}
    truths = {
        sample.key: None if mask is None else Truth.of(_at_side(mask, side))
        for sample, _, mask in readable
    }
    for group in _by_encoding(conditions) if readable else ():
        settings = conditions[group[0]].settings
        encodings = segmenter.encode_batch([image for _, image, _ in readable], settings)
        for (sample, _, mask), encoding in zip(readable, encodings, strict=True):
            named = [
                replace(
                    conditions[i].settings,
                    object_name=conditions[i].settings.object_name or sample.object_name,
                )
                for i in group
            ]
            for i, result in zip(group, decide(segmenter, encoding, named), strict=True):
                outcomes[sample.key][i] = _outcome(result, mask, truths[sample.key], side)
                if i == len(conditions) - 1:
                    strips[sample.key] = strip(result, mask)
    for sample, _, _ in readable:
        records[sample.key] = Record(
            sample.key,
            sample.category,
            sample.kind,
            sample.defective,
            tuple(outcomes[sample.key][i] for i in range(len(conditions))),
            strip=strips[sample.key],
        )
    return [records[sample.key] for sample in samples]


def decide(
    segmenter: Segmenter, encoding: Encoding, settings: Sequence[Settings]
) -> Iterator[Result]:
    """One result for each of some settings that share the encoding, in their order.

    Conditions often ask SAM the same question: the first steps of a longer cascade, or another kernel
    that leads to the same points. Each question is put once.
    """
    remembering = copy.copy(segmenter)
    remembering.sam = _Remembering(segmenter.sam)  # type: ignore[assignment]
    for one in settings:
        yield remembering.segment(encoding, one)


class _Remembering:
    """A `Sam` that remembers its answers about one photo."""

    def __init__(self, sam: Any) -> None:
        self._sam = sam
        self._answers: dict[bytes, Masks] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sam, name)

    def decode(self, features: SamFeatures, prompts: Sequence[Prompt]) -> list[Masks]:
        keys = [_question(prompt) for prompt in prompts]
        new = {key: p for key, p in zip(keys, prompts, strict=True) if key not in self._answers}
        if new:
            answers = self._sam.decode(features, list(new.values()))
            self._answers.update(zip(new, answers, strict=True))
        return [self._answers[key] for key in keys]


def _question(prompt: Prompt) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in (prompt.points, prompt.labels, prompt.box, prompt.logits):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        digest.update(b"|")
    return digest.digest()


def _by_encoding(conditions: Sequence[Condition]) -> list[list[int]]:
    """Indices of conditions that share an encoding."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, condition in enumerate(conditions):
        groups.setdefault(condition.settings.encoding_key, []).append(i)
    return list(groups.values())


def _outcome(
    result: Result, mask: NDArray[np.bool_] | None, truth: Truth | None, side: int
) -> Outcome:
    marked = int(np.count_nonzero(result.mask))
    if mask is None or truth is None:
        return Outcome(None, float(result.image_score), 0, marked, 0)
    return Outcome(
        counts=truth.count(_at_side(result.score_map, side)),
        image_score=float(result.image_score),
        hit=int(np.count_nonzero(result.mask & mask)),
        marked=marked,
        true=int(np.count_nonzero(mask)),
    )


def _at_side(array: NDArray[Any], side: int) -> NDArray[Any]:
    """A map (bilinear) or mask (nearest) with its longest side at `side`; itself for 0."""
    height, width = array.shape
    if side == 0 or max(height, width) == side:
        return array
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if array.dtype == bool:
        return cv2.resize(array.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return np.clip(cv2.resize(array, size, interpolation=cv2.INTER_LINEAR), 0.0, 1.0)


def strip(result: Result, mask: NDArray[np.bool_] | None) -> bytes:
    """Photo, truth, map and final mask side by side as a small JPEG."""
    height, width = result.mask.shape
    size = (min(max(1, round(width * STRIP_HEIGHT / height)), 8 * STRIP_HEIGHT), STRIP_HEIGHT)
    photo = cv2.resize(result.image, size, interpolation=cv2.INTER_AREA)
    panels = [photo]
    for region in (mask, result.mask):
        shown = photo
        if region is not None:
            small = cv2.resize(region.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            shown = draw.mask_overlay(photo, small)
        panels.append(shown)
    heat = draw.heat_map(cv2.resize(result.score_map, size, interpolation=cv2.INTER_LINEAR))
    picture = np.concatenate([panels[0], panels[1], heat, panels[2]], axis=1)
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


@dataclass
class Totals:
    """Records added up.

    Attributes:
        counts: One for each condition.
        images: What else is known of each image, in the order of arrival: key, category, kind, defective,
            error, and for each condition `image_score`, `hit`, `marked`, `true`.
    """

    counts: list[PixelCounts]
    images: list[dict[str, Any]]

    @classmethod
    def empty(cls, conditions: int) -> Totals:
        """Of no record."""
        return cls([PixelCounts.empty()] * conditions, [])

    @classmethod
    def of(cls, record: Record, conditions: int) -> Totals:
        """Of one record."""
        counts = [outcome.counts or PixelCounts.empty() for outcome in record.outcomes]
        image = {
            "key": record.key,
            "category": record.category,
            "kind": record.kind,
            "defective": record.defective,
            "error": record.error,
            "truth": any(outcome.counts is not None for outcome in record.outcomes),
            "image_score": [outcome.image_score for outcome in record.outcomes],
            "hit": [outcome.hit for outcome in record.outcomes],
            "marked": [outcome.marked for outcome in record.outcomes],
            "true": [outcome.true for outcome in record.outcomes],
        }
        return cls(counts or [PixelCounts.empty()] * conditions, [image])

    def __add__(self, other: Totals) -> Totals:
        pairs = zip(self.counts, other.counts, strict=True)
        return Totals([a + b for a, b in pairs], self.images + other.images)

    def to_bytes(self) -> bytes:
        """As a .npz file that holds only the bins in use."""
        arrays: dict[str, NDArray[Any]] = {
            "images": np.frombuffer(json.dumps(self.images).encode(), np.uint8),
            "regions": np.array([count.regions for count in self.counts], np.int64),
        }
        for name in ("sound", "defective", "overlap"):
            dense = [getattr(count, name) for count in self.counts]
            used = [np.flatnonzero(row) for row in dense]
            arrays[f"{name}_length"] = np.array([bins.size for bins in used], np.int64)
            arrays[f"{name}_bins"] = np.concatenate(used).astype(np.uint16)
            arrays[name] = np.concatenate(
                [row[bins] for row, bins in zip(dense, used, strict=True)]
            )
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Totals:
        """The reverse of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
        rows: dict[str, list[NDArray[Any]]] = {}
        for name in ("sound", "defective", "overlap"):
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
            PixelCounts(sound, defective, overlap, int(regions))
            for sound, defective, overlap, regions in zip(
                rows["sound"], rows["defective"], rows["overlap"], arrays["regions"], strict=True
            )
        ]
        return cls(counts, json.loads(arrays["images"].tobytes()))


class Store:
    """The records of one run on disk.

    Args:
        folder: Made if missing; holds `run.json`, `records/` and `strips/`.
        identity: What defines the run; a folder of another run is refused.
        conditions: How many conditions each record has.

    Raises:
        ZsasError: If the folder holds another run or cannot be written to.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], conditions: int) -> None:
        self.folder = folder
        self.conditions = conditions
        stamp = folder / "run.json"
        text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
        try:
            (folder / "records").mkdir(parents=True, exist_ok=True)
            (folder / "strips").mkdir(exist_ok=True)
            if stamp.is_file():
                if stamp.read_text() != text:
                    raise ZsasError(
                        f"{folder} holds a run of other conditions (see run.json there); "
                        "choose another --out, or delete it."
                    )
            else:
                _write(stamp, text.encode())
        except OSError as error:
            raise ZsasError(
                f"{folder} cannot be written to ({error.strerror}); choose another --out."
            ) from None
        self._loose: dict[str, list[Path]] = {}
        self._totals: dict[str, Totals] = {}
        self.done = self._recover()

    def put(self, record: Record) -> None:
        """Keep one record; a second one of the same image is dropped."""
        if record.key in self.done:
            return
        if record.strip:
            _write(self.strip_path(record.key), record.strip)
        path = self.folder / "records" / f"{_digest(record.key)}.npz"
        _write(path, Totals.of(record, self.conditions).to_bytes())
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
            total = Totals.from_bytes(path.read_bytes())
        if loose:
            for record in loose:
                total = total + Totals.from_bytes(record.read_bytes())
            _write(path, total.to_bytes())
            for record in loose:
                record.unlink()
        return total

    def strip_path(self, key: str) -> Path:
        """Where the picture of an image is."""
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
                total = Totals.from_bytes(path.read_bytes())
                good = [image for image in total.images if not image["error"]]
                if len(good) < len(total.images):
                    _write(path, Totals(total.counts, good).to_bytes())
                done.update(image["key"] for image in good)
        for path in files:
            if path.name.startswith("total-"):
                continue
            (image,) = Totals.from_bytes(path.read_bytes()).images
            if image["key"] in done or image["error"]:
                path.unlink()
            else:
                done.add(image["key"])
                self._loose.setdefault(image["category"], []).append(path)
        return done


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    conditions: Sequence[Condition],
    store: Store,
    *,
    side: int = 0,
    batch: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Measure every image that the store does not hold yet.

    Args:
        segmenter: The models.
        dataset: The images.
        conditions: Rows of the table.
        store: Where records go.
        side: See `measure`.
        batch: Images encoded together.
        progress: Told how many of how many images are done.
    """
    waiting = [sample for sample in dataset if sample.key not in store.done]
    progress(len(dataset) - len(waiting), len(dataset))
    for start in range(0, len(waiting), batch):
        for record in measure_each(segmenter, waiting[start : start + batch], conditions, side):
            store.put(record)
        progress(len(dataset) - len(waiting) + min(start + batch, len(waiting)), len(dataset))


def measure_each(
    segmenter: Segmenter, samples: Sequence[Sample], conditions: Sequence[Condition], side: int
) -> list[Record]:
    """`measure`, in which one image's fault becomes its record's error and takes no other image along."""
    try:
        return measure(segmenter, samples, conditions, side)
    except Exception as error:  # too much for one batch, or one image's fault
        if len(samples) > 1:
            return [
                record
                for sample in samples
                for record in measure_each(segmenter, [sample], conditions, side)
            ]
        (sample,) = samples
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        sentence = f"{sample.key} could not be measured ({reason})."
        return [Record(sample.key, sample.category, sample.kind, sample.defective, (), sentence)]


def identity(
    dataset: Dataset, conditions: Sequence[Condition], segmenter: Segmenter, side: int
) -> dict[str, Any]:
    """What a run is: equal identities give equal records."""
    keys = "\n".join(
        f"{sample.key} {_size(sample.image)} {_size(sample.mask)}" for sample in dataset
    )
    return {
        "zsas": __version__,
        "dataset": dataset.name,
        "split": dataset.split,
        "images": len(dataset),
        "keys": hashlib.sha256(keys.encode()).hexdigest()[:16],
        "conditions": [asdict(condition) for condition in conditions],
        "models": describe(segmenter, conditions),
        "side": side,
    }


def describe(segmenter: Segmenter, conditions: Sequence[Condition]) -> dict[str, Any]:
    """Which models run, as they stand in results.json."""
    facts: dict[str, Any] = {
        "preset": segmenter.preset,
        "precision": str(segmenter.clip.dtype).removeprefix("torch."),
        "device": str(segmenter.clip.device),
        "weights": fingerprint(segmenter),
    }
    for name in sorted({segmenter.localizer(c.settings).name for c in conditions}):
        localizer = segmenter.localizers[name]
        card = getattr(localizer, "card", None)
        facts[name] = asdict(card) if card else {"resolution": localizer.resolution}
    return facts


def fingerprint(segmenter: Segmenter) -> str:
    """Digest of the first values of every weight: the same names may hold other weights after a training."""
    digest = hashlib.blake2b(digest_size=8)
    weights: list[torch.Tensor] = []
    for holder in (segmenter.clip, segmenter.sam.network):
        for part in vars(holder).values():
            weights += part.state_dict().values() if isinstance(part, torch.nn.Module) else ()
    for localizer in segmenter.localizers.values():
        adapter = getattr(localizer, "adapter", None)
        weights += (*adapter.weights, *adapter.biases) if adapter else ()
    for weight in weights:
        digest.update(weight.flatten()[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _size(source: Source | None) -> int:
    """Bytes of a picture on disk, so that another one under the same name is noticed; 0 elsewhere."""
    return source.path.stat().st_size if isinstance(source, File) and source.path.is_file() else 0


def leakage(dataset: Dataset, models: Mapping[str, Any]) -> list[str]:
    """A warning where the adapter in use was trained on the data set it is judged on.

    Made images are one data set, except for the families that are held out of all training.
    """
    card = models.get("linear", {})
    unseen = dataset.name == "made" and set(dataset.categories) <= set(HELD_OUT_FAMILIES)
    if card.get("trained_on") != dataset.name or unseen:
        return []
    return [
        f"The adapter was trained on {dataset.name}, the data set it is judged on here: these figures say nothing "
        "about unseen kinds of images and must not be compared with zero-shot results."
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, path)
