"""Run a segmenter over a data set: each image is encoded once, and decided once for every condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas import draw
from zsas.comparison import load_for
from zsas.datasets.samples import Dataset, Sample
from zsas.device import default_batch, keep_freed_memory
from zsas.distributed.ray import Cluster, loader
from zsas.errors import ZsasError, reason
from zsas.evaluation import distributed
from zsas.evaluation.conditions import Condition
from zsas.evaluation.intervals import DRAWS
from zsas.evaluation.metrics import Truth
from zsas.evaluation.records import Outcome, Record, Store
from zsas.evaluation.sizes import at_size, truth_at
from zsas.models import ModelChoice, Models
from zsas.result import Result
from zsas.segmenter import Segmenter
from zsas.settings import Settings
from zsas.systems import system_named

if TYPE_CHECKING:
    from zsas.datasets.defects import Defect
    from zsas.evaluation.batches import Batches
    from zsas.evaluation.together import Known
    from zsas.good import Good

STRIP_HEIGHT = 200
Segmenters = Segmenter | Mapping[str, Segmenter]
"""One segmenter for all conditions, or one for each number format that conditions name."""
WITH_GOOD_IMAGES = (
    "All images were compared with good images, those of a profile under its own system alone: these figures are not "
    "zero-shot. A test image that is one of the good images has the distance 0."
)
CACHE_BYTES, CACHE_BYTES_PER_IMAGE = 250_000_000, 50_000_000
"""Budget of the cache of encodings, which all conditions of a batch share, also those at another resolution."""


# Long because a run's steps stand here in their order: identity, what is kept, measuring, the report.
def measure_and_report(
    data: Dataset,
    conditions: Sequence[Condition],
    out: Path,
    choice: ModelChoice,
    *,
    side: int = 0,
    batch: int | None = None,
    cluster: Cluster | None = None,
    draws: int = DRAWS,
    mutual: bool = False,
    good: Good | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure all images that have no record in `out` yet, and write the report.

    Args:
        data: The images.
        conditions: From `zsas.evaluation.conditions.plan`.
        out: Folder of the run.
        choice: The models.
        side: See `measure`.
        batch: Images encoded together; None takes 16 on a GPU and 1 elsewhere.
        cluster: Where workers measure; None measures in this process.
        draws: Of the bootstrap behind the intervals; 0 makes none.
        mutual: Compare the images of each category with each other first; see `zsas.evaluation.batches`.
        good: Good images that all images are compared with.
        progress: Told how many of how many images are done.

    Returns:
        What is in results.json.

    Raises:
        ZsasError: If the models cannot be had, or `out` holds another run.
    """
    from zsas.evaluation import batches
    from zsas.evaluation.identity import identity, identity_of_data, leakage
    from zsas.evaluation.report import write_report

    cannot_run: dict[str, str] = {}
    precisions = dict.fromkeys(one.precision for one in conditions)
    resolutions: dict[str, int] = {}
    compared: dict[str, Any] = {"batch_scoring": batches.CONDITIONS if mutual else None}
    compared |= good.to_dict() if good else {}
    if cluster is not None:
        if len(precisions) > 1:
            raise ZsasError("A cluster measures one number format at a time; name one precision.")
        # Workers are alike, so what they cannot run is known from what is at hand here, without loading it.
        models = Models(choice)
        conditions, cannot_run = _able(conditions, lambda one: _look_at(models, one.settings))
        store = Store(out, identity_of_data(data, conditions, side) | compared, len(conditions))
        load_far = loader(choice, conditions[-1].settings)
        given: dict[str, Any] = {"side": side, "good": good, "progress": progress}
        if mutual:
            from zsas.evaluation import together as far

            far.evaluate(data, conditions, store, load_far, cluster, out, **given)
        else:
            distributed.evaluate(data, conditions, store, load_far, cluster, **given)
    else:
        keep_freed_memory()
        batch = batch or default_batch(choice.device)
        settings = dict.fromkeys(condition.settings for condition in reversed(conditions))
        memory = CACHE_BYTES + CACHE_BYTES_PER_IMAGE * batch
        several = {
            one: load_for(_in(choice, one), settings, memory // len(precisions))
            for one in precisions
        }
        conditions, cannot_run = _able(conditions, lambda one: _load(several, one))
        if len(conditions) > 1 and len(data):
            # What fails on its first image would take that image from all other rows, and so each one after it.
            conditions, more = _able(conditions, lambda one: _try_out(several, data, one, good))
            cannot_run |= more
        for one in conditions:
            localizer = several[one.precision].localizer(one.settings)
            resolutions[one.name] = localizer.resolution(one.settings)
        together = batches.Batches(several, data) if mutual else None
        if together is not None:
            conditions, cannot_compare = _able(conditions, together.check)
            cannot_run |= cannot_compare
        store = Store(out, identity(data, conditions, several, side) | compared, len(conditions))
        evaluate(
            several,
            data,
            conditions,
            store,
            side=side,
            batch=batch,
            batches=together,
            good=good,
            progress=progress,
        )
    facts: dict[str, Any] = {
        "models": dict(store.models),
        "side": side,
        "cannot_run": cannot_run,
        "resolutions": resolutions,
    }
    warnings = [*data.notes, *leakage(data, store.models)]
    if mutual:
        facts |= compared
        warnings = [batches.WARNING, *warnings]
    if good:
        facts |= compared
        warnings = [WITH_GOOD_IMAGES, *warnings]
    return write_report(store, data, conditions, facts, warnings, draws)


def _in(choice: ModelChoice, precision: str) -> ModelChoice:
    """The choice of models with a number format; unchanged for ""."""
    return replace(choice, precision=precision) if precision else choice  # type: ignore[arg-type]


def _load(several: Mapping[str, Segmenter], condition: Condition) -> None:
    """Load all models of a condition, so that a missing one is noticed before the first image."""
    segmenter, settings = several[condition.precision], condition.settings
    segmenter.localizer(settings)
    if "sam" in system_named(settings.system, refiner=settings.refiner).roles:
        _ = segmenter.sam


def _try_out(
    several: Mapping[str, Segmenter], data: Dataset, condition: Condition, good: Good | None
) -> None:
    """Decide the first image under a condition, to find out whether its system works.

    Raises:
        ZsasError: If that fails, for any reason but the image's own.
    """
    sample = data.samples[0]
    try:
        image = sample.load_image()
    except ZsasError:  # its record will say so
        return
    settings = condition.settings
    settings = settings.replace(object_name=settings.object_name or sample.object_name)
    its = several[condition.precision]
    try:
        memory = good.of(its, condition.settings, condition.region) if good else None
        its.segment(image, settings, references=memory, region=condition.region)
    except ZsasError:
        raise
    except Exception as error:  # too little memory, or a bug of this system
        raise ZsasError(f"{condition.name} could not be run ({reason(error)}).") from error


def _able(
    conditions: Sequence[Condition], try_it: Callable[[Condition], object]
) -> tuple[list[Condition], dict[str, str]]:
    """The conditions whose system can run, and the reason for each of the others, by name.

    Raises:
        ZsasError: If none can.
    """
    able, cannot_run = [], {}
    for condition in conditions:
        try:
            try_it(condition)
            able.append(condition)
        except ZsasError as error:
            cannot_run[condition.name] = str(error)
    if not able:
        raise ZsasError(next(iter(cannot_run.values())))
    return able, cannot_run


def _look_at(models: Models, settings: Settings) -> None:
    """Raise the error that loading the system would raise if its learned weights are missing."""
    parts = system_named(settings.system).localizers
    if not any(part.available(models) for part in parts):
        parts[-1].load(models)


def evaluate(
    segmenter: Segmenters,
    dataset: Dataset,
    conditions: Sequence[Condition],
    store: Store,
    *,
    side: int = 0,
    batch: int = 1,
    batches: Batches | Known | None = None,
    good: Good | None = None,
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
        batches: Compares the images of each category with each other.
        good: Good images that all are compared with.
        progress: Told how many of how many images are done.
    """
    waiting = [sample for sample in dataset if sample.key not in store.done]
    progress(len(dataset) - len(waiting), len(dataset))
    for start in range(0, len(waiting), batch):
        part = waiting[start : start + batch]
        for record in measure_each(segmenter, part, conditions, side, batches, good):
            store.put(record)
        progress(len(dataset) - len(waiting) + min(start + batch, len(waiting)), len(dataset))


def measure_each(
    segmenter: Segmenters,
    samples: Sequence[Sample],
    conditions: Sequence[Condition],
    side: int,
    batches: Batches | Known | None = None,
    good: Good | None = None,
) -> list[Record]:
    """As `measure`; an image that fails gets a record with the error, and the others are measured."""
    try:
        return measure(segmenter, samples, conditions, side, batches, good)
    except Exception as error:  # too much for one batch, or one image's fault
        if len(samples) > 1:
            return [
                record
                for sample in samples
                for record in measure_each(segmenter, [sample], conditions, side, batches, good)
            ]
        (sample,) = samples
        why = reason(error)
        sentence = f"{sample.key} could not be measured ({why})."
        return [
            Record(sample.key, sample.category, sample.defect_type, sample.anomalous, (), sentence)
        ]


# Long because what is measured of an image stands here in its order.
def measure(
    segmenter: Segmenters,
    samples: Sequence[Sample],
    conditions: Sequence[Condition],
    side: int = 0,
    batches: Batches | Known | None = None,
    good: Good | None = None,
) -> list[Record]:
    """Encode some images together, decide each under every condition, and compare with the truth.

    Args:
        segmenter: The models.
        samples: Images; those that cannot be read give a record with the reason.
        conditions: Rows of the table.
        side: Longest side at which maps and masks are compared; 0 is the image's own.
        batches: Compares the images of each category with each other.
        good: Good images that all are compared with.
    """
    records: dict[str, Record] = {}
    readable: list[tuple[Sample, NDArray[np.uint8], NDArray[np.bool_] | None]] = []
    defects: dict[str, Sequence[Defect]] = {}
    for sample in samples:
        try:
            image = sample.load_image()
            mask = sample.load_mask((image.shape[0], image.shape[1]))
            defects[sample.key] = sample.load_defects()
            readable.append((sample, image, mask))
        except ZsasError as error:
            records[sample.key] = Record(
                sample.key, sample.category, sample.defect_type, sample.anomalous, (), str(error)
            )
    region = conditions[0].region
    insides = {
        sample.key: region.on(*image.shape[:2]) if region else None for sample, image, _ in readable
    }
    outcomes: dict[str, dict[int, Outcome]] = {sample.key: {} for sample, _, _ in readable}
    strips: dict[str, bytes] = {}
    squares = {(condition.square, condition.averaged) for condition in conditions}
    truths = {
        (sample.key, square, averaged): None
        if mask is None
        else truth_at(
            mask, insides[sample.key], side, square, averaged=averaged, defects=defects[sample.key]
        )
        for sample, _, mask in readable
        for square, averaged in squares
    }
    several = segmenter if isinstance(segmenter, Mapping) else {"": segmenter}
    for group in _by_encoding(conditions) if readable else ():
        settings = conditions[group[0]].settings
        its = several[conditions[group[0]].precision]
        memory = good.of(its, settings, region) if good else None
        images = [image for _, image, _ in readable]
        encodings = (
            batches.encode(its, [s for s, _, _ in readable], images, conditions[group[0]])
            if batches
            else its.encode_batch(images, settings, region)
        )
        for (sample, _, mask), encoding in zip(readable, encodings, strict=True):
            named = [
                conditions[i].settings.replace(
                    object_name=conditions[i].settings.object_name or sample.object_name
                )
                for i in group
            ]
            neighbours = batches.of(sample.category, conditions[group[0]]) if batches else None
            results = its.segment_each(encoding, named, memory, neighbours, region=region)
            for i, result in zip(group, results, strict=True):
                square = conditions[i].square
                truth = truths[sample.key, square, conditions[i].averaged]
                outcomes[sample.key][i] = _outcome(result, mask, truth, side, square)
                if i == len(conditions) - 1:
                    strips[sample.key] = strip(result, mask)
    for sample, _, mask in readable:
        records[sample.key] = Record(
            sample.key,
            sample.category,
            sample.defect_type,
            anomalous_inside(sample, mask, insides[sample.key]),
            tuple(outcomes[sample.key][i] for i in range(len(conditions))),
            strip=strips[sample.key],
        )
    return [records[sample.key] for sample in samples]


def anomalous_inside(
    sample: Sample, mask: NDArray[np.bool_] | None, inside: NDArray[np.bool_] | None
) -> bool | None:
    """Whether an image is anomalous inside the region of interest; an anomaly wholly outside does not count."""
    if inside is None or mask is None or not mask.any():
        return sample.anomalous
    return bool((mask & inside).any())


def _by_encoding(conditions: Sequence[Condition]) -> list[list[int]]:
    """Indices of conditions that share an encoding, and the number format that makes it."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, condition in enumerate(conditions):
        key = (condition.precision, *condition.settings.encoding_key)
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def _outcome(
    result: Result,
    mask: NDArray[np.bool_] | None,
    truth: Truth | None,
    side: int,
    square: int = 0,
) -> Outcome:
    marked = int(np.count_nonzero(result.mask))
    if mask is None or truth is None:
        return Outcome(None, float(result.image_score), 0, marked, 0)
    if result.inside is not None:
        mask = mask & result.inside
    return Outcome(
        counts=truth.count(at_size(result.score_map, side, square)),
        image_score=float(result.image_score),
        hit=int(np.count_nonzero(result.mask & mask)),
        marked=marked,
        true=int(np.count_nonzero(mask)),
    )


def strip(result: Result, mask: NDArray[np.bool_] | None) -> bytes:
    """Image, ground truth, score map and final mask side by side as a small JPEG."""
    height, width = result.mask.shape
    size = (min(max(1, round(width * STRIP_HEIGHT / height)), 8 * STRIP_HEIGHT), STRIP_HEIGHT)
    image = cv2.resize(result.image, size, interpolation=cv2.INTER_AREA)
    panels = [image]
    for region in (mask, result.mask):
        panel = image
        if region is not None:
            small = cv2.resize(region.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            panel = draw.mask_overlay(image, small)
        panels.append(panel)
    score = draw.heat_map(cv2.resize(result.score_map, size, interpolation=cv2.INTER_LINEAR))
    strip = np.concatenate([panels[0], panels[1], score, panels[2]], axis=1)
    return cv2.imencode(".jpg", strip[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
