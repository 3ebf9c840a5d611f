"""How much good images help: the same test images with none and with a few references, for several draws."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zsas.datasets.samples import Dataset, Sample
from zsas.errors import ZsasError
from zsas.evaluation.metrics import Truth
from zsas.evaluation.records import Record, Totals
from zsas.evaluation.report import METRICS, Row, category_row, mean_row
from zsas.evaluation.run import _at_side, _outcome
from zsas.files import write_all
from zsas.localizers.references import References
from zsas.segmenter import Segmenter
from zsas.settings import Settings


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
    pool = [one for one in good if one.category == category and one.anomalous is False]
    from_test = not pool
    if from_test:
        pool = [one for one in data.of(category) if one.anomalous is False]
    if len(pool) < most + from_test:  # one good image must be left to be judged
        raise ZsasError(
            f"{category} has {len(pool)} good images, too few for {most} shots; name fewer."
        )
    order = np.random.default_rng(seed).permutation(len(pool))[:most]
    return Draw(tuple(pool[i] for i in order), from_test)


def measure_shots(
    segmenter: Segmenter,
    data: Dataset,
    good: Sequence[Sample],
    settings: Settings,
    shots: Sequence[int],
    seeds: int,
    *,
    side: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Mean and spread over seeds for each number of references; every test image is encoded once.

    Args:
        segmenter: The models.
        data: The test images.
        good: Training images; those that are good are drawn from.
        settings: All settings.
        shots: Numbers of references; 0 is zero-shot, on the same images.
        seeds: How many draws.
        side: See `zsas.evaluation.run.measure`.
        progress: Told how many of how many images are done.

    Raises:
        ZsasError: If a category has too few good images, or an image cannot be read.
    """
    rows: dict[tuple[int, int], list[Row]] = {(k, seed): [] for k in shots for seed in range(seeds)}
    done = 0
    from_test: list[str] = []
    for category in data.categories:
        draws = [draw(data, good, category, max(shots), seed) for seed in range(seeds)]
        from_test += [category] if draws[0].from_test and max(shots) else []
        named = settings.replace(
            object_name=settings.object_name or data.of(category)[0].object_name
        )
        memories = {
            (k, seed): segmenter.remember([s.load_image() for s in draws[seed].samples[:k]], named)
            for k, seed in rows
            if k
        }
        totals = {slot: Totals.empty(1) for slot in rows}
        for sample in data.of(category):
            counted = [slot for slot in rows if not _drawn(sample, draws[slot[1]])]
            for slot, record in _records(segmenter, sample, named, counted, memories, side).items():
                totals[slot] += Totals.of(record, 1)
            done += 1
            progress(done, len(data))
        for slot, total in totals.items():
            rows[slot].append(category_row(total, 0))
    means = {slot: mean_row(row) for slot, row in rows.items()}
    table = [_spread(k, [means[k, seed] for seed in range(seeds)]) for k in shots]
    return {
        "dataset": data.name,
        "categories": list(data.categories),
        "seeds": list(range(seeds)),
        "drawn_from_test": from_test,
        "settings": settings.to_dict(),
        "models": segmenter.describe(settings),
        "side": side,
        "table": table,
    }


def _drawn(sample: Sample, draw: Draw) -> bool:
    return draw.from_test and any(sample.key == one.key for one in draw.samples)


def _records(
    segmenter: Segmenter,
    sample: Sample,
    settings: Settings,
    counted: Sequence[tuple[int, int]],
    memories: Mapping[tuple[int, int], References],
    side: int,
) -> dict[tuple[int, int], Record]:
    """One record for each number of references and seed that counts this image."""
    image = sample.load_image()
    mask = sample.load_mask((image.shape[0], image.shape[1]))
    truth = None if mask is None else Truth.of(_at_side(mask, side))
    encoding = segmenter.encode(image, settings)
    found = {}
    for slot in counted:
        (result,) = segmenter.segment_each(encoding, [settings], memories.get(slot))
        outcome = _outcome(result, mask, truth, side)
        found[slot] = Record(
            sample.key, sample.category, sample.defect_type, sample.anomalous, (outcome,)
        )
    return found


def _spread(shots: int, rows: Sequence[Row]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of each metric."""
    mean, deviation = {}, {}
    for metric in METRICS:
        values = [value for row in rows if (value := row[metric]) is not None]
        mean[metric] = round(float(np.mean(values)), 6) if values else None
        deviation[metric] = round(float(np.std(values)), 6) if values else None
    return {"shots": shots, "mean": mean, "deviation": deviation, "seeds": list(rows)}


def write_shots(results: Mapping[str, Any], out: Path) -> str:
    """Write shots.json and shots.md; returns the latter."""
    lines = [f"# {results['dataset']} with good images", ""]
    lines += [
        f"Means over {len(results['categories'])} categories, then mean ± standard deviation over "
        f"{len(results['seeds'])} draws, in percent; zero-shot on the same images.",
    ]
    if results["drawn_from_test"]:
        names = ", ".join(results["drawn_from_test"])
        lines.append(
            f"Drawn from the test images, which the figures of that draw leave out: {names}."
        )
    lines += ["", "| good images | " + " | ".join(METRICS.values()) + " |"]
    lines.append("| ---: |" + " ---: |" * len(METRICS))
    for row in results["table"]:
        cells = [
            "–"
            if row["mean"][m] is None
            else f"{100 * row['mean'][m]:.1f} ± {100 * row['deviation'][m]:.1f}"
            for m in METRICS
        ]
        lines.append(f"| {row['shots']} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    data = json.dumps(results, indent=1, allow_nan=False) + "\n"
    write_all({out / "shots.md": text.encode(), out / "shots.json": data.encode()})
    return text
