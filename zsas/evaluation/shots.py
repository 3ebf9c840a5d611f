"""How much reference images help: the same test images with none and with a few of them, for several draws."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zsas import __version__
from zsas.bulk import load
from zsas.datasets.samples import Dataset, Sample
from zsas.distributed.ray import Cluster, loader, spread
from zsas.errors import ZsasError
from zsas.evaluation.identity import digest_of_samples
from zsas.evaluation.records import Record, Totals, read_stamp
from zsas.evaluation.rows import (
    METRICS,
    Row,
    category_row,
    markdown,
    mean_row,
    percent,
    tenths,
)
from zsas.evaluation.run import _outcome, anomalous_inside, truth_at
from zsas.files import write_all
from zsas.localizers.references import References
from zsas.models import ModelChoice
from zsas.region import RegionOfInterest
from zsas.segmenter import Segmenter
from zsas.settings import Settings
from zsas.stages import counted

CACHE_BYTES = 250_000_000
PUBLISHED: dict[tuple[str, int], tuple[float | None, ...]] = {
    ("APRIL-GAN, MVTec-AD", 4): (95.9, 56.9, 54.5),
    ("APRIL-GAN, VisA", 4): (96.2, 40.0, 32.2),
    ("WinCLIP+, MVTec-AD", 1): (95.2, None, None),
    ("WinCLIP+, MVTec-AD", 4): (96.2, 51.7, None),
    ("WinCLIP+, VisA", 1): (96.4, None, None),
    ("WinCLIP+, VisA", 4): (97.2, 47.0, None),
}
"""Pixel AUROC, F1-max and AP in percent, as printed by others."""


@dataclass(frozen=True)
class Draw:
    """The good images of one seed, in the order in which they are used: the first k are the references.

    Attributes:
        samples: As many as the largest number of shots.
        from_test: Whether they were taken out of the test images, which none of this seed's figures then counts.
    """

    samples: tuple[Sample, ...]
    from_test: bool


def draw(data: Dataset, good: Sequence[Sample], category: str, most: int, seed: int) -> Draw:
    """Good images of a category without replacement: from `good`, or its good test images where there are none.

    Raises:
        ZsasError: If there are too few.
    """
    tested = {
        one.key for one in data.of(category)
    }  # a flat folder has one split, whatever is asked
    pool = [
        one
        for one in good
        if one.category == category and one.anomalous is False and one.key not in tested
    ]
    from_test = not pool
    if from_test:
        pool = [one for one in data.of(category) if one.anomalous is False]
    if len(pool) < most + from_test:  # one good image must be left to be judged
        left = ", since one must be left to be judged" if from_test else ""
        raise ZsasError(
            f"{category} has {counted(len(pool), 'good image')}, too few for {counted(most, 'shot')}{left}; name "
            "fewer, or leave it out with --categories."
        )
    order = np.random.default_rng(seed).permutation(len(pool))[:most]
    return Draw(tuple(pool[i] for i in order), from_test)


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        data: The test images.
        good: Training images; those that are good are drawn from.
        settings: All settings.
        shots: Numbers of references; 0 is zero-shot, on the same images.
        seeds: How many draws.
        side: See `zsas.evaluation.run.measure`.
        region: Where to look on all images; nothing outside is measured.
    """

    data: Dataset
    good: tuple[Sample, ...]
    settings: Settings
    shots: tuple[int, ...]
    seeds: int
    side: int = 0
    region: RegionOfInterest | None = None

    @property
    def slots(self) -> list[tuple[int, int]]:
        """Each number of references with each seed."""
        return [(k, seed) for k in self.shots for seed in range(self.seeds)]

    def draws(self, category: str) -> list[Draw]:
        """The draws of a category, one a seed.

        Raises:
            ZsasError: If it has too few good images.
        """
        most = max(self.shots)
        return [draw(self.data, self.good, category, most, seed) for seed in range(self.seeds)]

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same, but for the models."""
        return {
            "zsas": __version__,
            "keys": digest_of_samples(self.data),
            "good": digest_of_samples(self.good),
            "settings": self.settings.to_dict(),
            "shots": list(self.shots),
            "seeds": self.seeds,
            "side": self.side,
            **({"region": self.region.to_dict()} if self.region else {}),
        }


Rows = list[Row]
"""One row for each of `Plan.slots`."""


def measure_category(
    segmenter: Segmenter, plan: Plan, category: str, done: Callable[[], None] = lambda: None
) -> Rows:
    """All figures of one category; every test image is encoded once.

    Raises:
        ZsasError: If it has too few good images, or an image cannot be read.
    """
    draws, samples = plan.draws(category), plan.data.of(category)
    named = plan.settings.replace(object_name=plan.settings.object_name or samples[0].object_name)
    region = plan.region
    memories = {
        (k, seed): segmenter.remember(
            [s.load_image() for s in draws[seed].samples[:k]], named, region
        )
        for k, seed in plan.slots
        if k
    }
    totals = {slot: Totals.empty(1) for slot in plan.slots}
    for sample in samples:
        counted = [slot for slot in plan.slots if not _drawn(sample, draws[slot[1]])]
        found = _records(segmenter, sample, named, counted, memories, plan.side, region)
        for slot, record in found.items():
            totals[slot] += Totals.of(record, 1)
        done()
    return [category_row(total, 0) for total in totals.values()]


@dataclass(frozen=True)
class Far:
    """The task of a worker: the figures of some categories, each with the models that made it."""

    plan: Plan

    def do(self, segmenter: Segmenter, categories: Sequence[str]) -> list[tuple[Rows, Any]]:
        """Rows and models of each."""
        models = segmenter.describe(self.plan.settings)
        return [(measure_category(segmenter, self.plan, one), models) for one in categories]

    def failed(self, category: str, why: str) -> ZsasError:
        """What is raised for a category that could not be measured."""
        return ZsasError(f"{category} could not be measured{why}.")


# Long because of what it takes and gives; the steps stand in their order.
def measure_shots(
    plan: Plan,
    choice: ModelChoice,
    out: Path,
    *,
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Mean and spread over seeds for each number of references; a killed run goes on with the next category.

    Args:
        plan: What is measured.
        choice: The models.
        out: Folder of the run, where each category's figures are kept.
        cluster: Where workers measure a category each; None measures in this process.
        progress: Told how many of how many images are done.

    Raises:
        ZsasError: If a category has too few good images, an image cannot be read, or `out` holds another run.
    """
    from_test = [c for c in plan.data.categories if max(plan.shots) and plan.draws(c)[0].from_test]
    kept = _Kept(out, {**plan.identity(), "choice": replace(choice.named(), device=None).to_dict()})
    left = [category for category in plan.data.categories if category not in kept.rows]
    count = sum(len(plan.data.of(category)) for category in kept.rows)
    progress(count, len(plan.data))
    if cluster is not None:
        work = spread(
            {category: category for category in left},
            Far(plan),
            loader(choice, plan.settings),
            cluster,
        )
        for category, answer in work:
            if isinstance(answer, ZsasError):
                raise answer
            kept.put(category, *answer)
            count += len(plan.data.of(category))
            progress(count, len(plan.data))
    elif left:
        segmenter = load(choice, plan.settings, CACHE_BYTES)

        def done() -> None:
            nonlocal count
            count += 1
            progress(count, len(plan.data))

        for category in left:
            rows = measure_category(segmenter, plan, category, done)
            kept.put(category, rows, segmenter.describe(plan.settings))
    each = [kept.rows[category] for category in plan.data.categories]
    means = dict(zip(plan.slots, (mean_row(rows) for rows in zip(*each, strict=True)), strict=True))
    seeds = range(plan.seeds)
    return {
        "dataset": plan.data.name,
        "categories": list(plan.data.categories),
        "seeds": list(seeds),
        "drawn_from_test": from_test,
        "settings": plan.settings.to_dict(),
        "models": kept.models,
        "side": plan.side,
        "table": [_spread(k, [means[k, seed] for seed in seeds]) for k in plan.shots],
        "each": {
            category: [
                _spread(k, [rows[plan.slots.index((k, s))] for s in seeds]) for k in plan.shots
            ]
            for category, rows in zip(plan.data.categories, each, strict=True)
        },
    }


class _Kept:
    """The figures of finished categories in a folder, and what made them."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._path = folder / "shots-run.json"
        self._identity = json.loads(json.dumps(identity))
        self.rows: dict[str, Rows] = {}
        self.models: Any = {}
        if found := read_stamp(self._path):
            if found.get("identity") != self._identity:
                raise ZsasError(
                    f"{folder} holds a run of other conditions (see {self._path.name} there); "
                    "choose another --out, or delete it."
                )
            self.rows, self.models = found["rows"], found["models"]

    def put(self, category: str, rows: Rows, models: Any) -> None:
        """Keep the figures of a category."""
        self.rows[category], self.models = rows, models
        data = {"identity": self._identity, "rows": self.rows, "models": models}
        text = json.dumps(data, indent=1, allow_nan=False)
        write_all({self._path: text.encode()})


def _drawn(sample: Sample, draw: Draw) -> bool:
    return draw.from_test and any(sample.key == one.key for one in draw.samples)


def _records(
    segmenter: Segmenter,
    sample: Sample,
    settings: Settings,
    counted: Sequence[tuple[int, int]],
    memories: Mapping[tuple[int, int], References],
    side: int,
    region: RegionOfInterest | None,
) -> dict[tuple[int, int], Record]:
    """One record for each number of references and seed that counts this image."""
    image = sample.load_image()
    mask = sample.load_mask((image.shape[0], image.shape[1]))
    inside = region.on(*image.shape[:2]) if region else None
    defects = sample.load_defects()
    truth = None if mask is None else truth_at(mask, inside, side, defects=defects)
    anomalous = anomalous_inside(sample, mask, inside)
    encoding = segmenter.encode(image, settings, region)
    found = {}
    for slot in counted:
        (result,) = segmenter.segment_each(encoding, [settings], memories.get(slot), region=region)
        outcome = _outcome(result, mask, truth, side)
        found[slot] = Record(sample.key, sample.category, sample.defect_type, anomalous, (outcome,))
    return found


def _spread(shots: int, rows: Sequence[Row]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of each metric."""
    mean, deviation = {}, {}
    for metric in METRICS:
        values = [value for row in rows if (value := row[metric]) is not None]
        mean[metric] = round(float(np.mean(values)), 6) if values else None
        deviation[metric] = round(float(np.std(values)), 6) if values else None
    return {"shots": shots, "mean": mean, "deviation": deviation, "seeds": list(rows)}


def _figures(row: Mapping[str, Any]) -> list[str]:
    return [
        "–"
        if (mean := row["mean"][m]) is None
        else f"{percent(mean)} ± {percent(row['deviation'][m])}"
        for m in METRICS
    ]


def write_shots(results: Mapping[str, Any], out: Path) -> str:
    """Write shots.json and shots.md; returns the latter."""
    lines = [f"# {results['dataset']} with good images", ""]
    categories = counted(len(results["categories"]), "category", "categories")
    lines += [
        f"Means over {categories}, then mean ± standard deviation over {counted(len(results['seeds']), 'draw')}, in "
        "percent; zero-shot on the same images.",
    ]
    if results["drawn_from_test"]:
        names = ", ".join(results["drawn_from_test"])
        lines.append(
            f"Drawn from the test images, which the figures of that draw leave out: {names}."
        )
    counts = [[str(row["shots"]), *_figures(row)] for row in results["table"]]
    lines += ["", *markdown(["good images", *METRICS.values()], counts, words=0)]
    if len(results["categories"]) > 1:
        each = [
            [f"{category}, {row['shots']}", *_figures(row)]
            for category, rows in results["each"].items()
            for row in rows
        ]
        lines += ["", *markdown(["category, good images", *METRICS.values()], each)]
    printed = [[name, str(shots), *tenths(values)] for (name, shots), values in PUBLISHED.items()]
    lines += [
        "",
        "Published figures (pixel AUROC / F1-max / AP, percent); other models and draws:",
        "",
        *markdown(["", "good images", "AUROC", "F1-max", "AP"], printed),
    ]
    text = "\n".join(lines) + "\n"
    data = json.dumps(results, indent=1, allow_nan=False) + "\n"
    write_all({out / "shots.md": text.encode(), out / "shots.json": data.encode()})
    return text
