"""The tiny models' figures, measured through the same pipeline a user runs: `python -m tiny report`.

Synthetic images of held-out seeds and of held-out families, the cascade's steps, the small SAM alone, and what the text
does;
with `--root`, any folder in MVTec-AD's layout beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny.synthetic import scene
from tiny.synthetic.dataset import write_once, write_proxies_once
from tiny.synthetic.defects import PHRASES
from zsas import Segmenter, Settings
from zsas.backbones.text import TEMPLATES
from zsas.datasets.load import load_dataset
from zsas.evaluation.conditions import plan
from zsas.evaluation.run import measure_and_report
from zsas.localizers.linear import Linear
from zsas.localizers.patches import text_map
from zsas.models import ModelChoice
from zsas.prompts import Prompt

SEED = 7_000_000
"""Seed of the images measured on; no training uses it."""

FEW_CATEGORIES = 12
"""Sets with fewer get a row a category."""

FIGURES = (
    ("pixel AUROC", "pixel_auroc"),
    ("pixel F1-max", "pixel_f1_max"),
    ("pixel AP", "pixel_ap"),
    ("AUPRO", "pixel_aupro"),
    ("mask F1", "mask_f1"),
    ("image AUROC", "image_auroc"),
)


def synthetic_set(root: Path, held_out: bool, per_category: int) -> Path:
    """Write synthetic images of seen families with new seeds, or of families and defect types never trained on."""
    return write_once(
        root,
        seed=SEED + held_out,
        per_category=per_category,
        size=384,
        families=scene.HELD_OUT_FAMILIES if held_out else scene.TRAIN_FAMILIES,
        defect_types=scene.HELD_OUT_DEFECT_TYPES if held_out else scene.TRAIN_DEFECT_TYPES,
    )


def cascade_table(name: str, results: dict[str, Any]) -> list[str]:
    """One data set as Markdown: the map alone and the three steps of the cascade, means in percent."""
    lines = [
        f"\n### {name}: {results['images']} images, {len(results['categories'])} categories\n",
        "| | " + " | ".join(title for title, _ in FIGURES) + " |",
        "| --- |" + " ---: |" * len(FIGURES),
    ]
    for row in results["table"]:
        cells = [row["mean"].get(key) for _, key in FIGURES]
        text = " | ".join("–" if cell is None else f"{100 * cell:.1f}" for cell in cells)
        lines.append(f"| {row['name']} | {text} |")
    return lines


def category_table(results: dict[str, Any]) -> list[str]:
    """The last condition as Markdown, a row a category."""
    lines = [
        "",
        "| category | pixel AUROC | pixel F1-max | image AUROC |",
        "| --- | ---: | ---: | ---: |",
    ]
    for category, row in results["table"][-1]["categories"].items():
        cells = (row["pixel_auroc"], row["pixel_f1_max"], row["image_auroc"])
        text = " | ".join("–" if c is None else f"{100 * c:.1f}" for c in cells)
        lines.append(f"| {category} | {text} |")
    return lines


def targets(count: int) -> Iterator[tuple[NDArray[np.uint8], str, NDArray[np.bool_]]]:
    """Parts and defects of synthetic images with new seeds: image, `part` or `defect`, mask."""
    for i in range(count):
        made = scene.make_image(
            SEED + 500_000 + i,
            512,
            families=scene.TRAIN_FAMILIES,
            defect_types=scene.TRAIN_DEFECT_TYPES,
            anomalous=i % 2 == 0,
        )
        if made.mask.sum() >= 24:
            yield made.image, "defect", made.mask
        sizes = np.bincount(made.parts.ravel())
        ids = [n for n in range(1, len(sizes)) if sizes[n] >= 64]
        for part in np.random.default_rng(i).permutation(ids)[:2]:
            yield made.image, "part", made.parts == part


def sam_alone(segmenter: Segmenter, count: int) -> dict[str, float]:
    """IoU of the best of three masks for one click in the middle, and for one tight box."""
    import cv2

    found: dict[str, list[float]] = {}
    for image, defect_type, mask in targets(count):
        pieces, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        # A prompt means one object: the largest piece.
        piece = labels == 1 + int(np.argmax(stats[1:pieces, cv2.CC_STAT_AREA]))
        distance = cv2.distanceTransform(np.pad(piece, 1).astype(np.uint8), cv2.DIST_L2, 5)
        y, x = np.unravel_index(int(distance.argmax()), distance.shape)
        click = np.array([[x - 1, y - 1]], np.float32)
        rows, columns = np.nonzero(piece)
        box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], np.float32)
        (features,) = segmenter.sam.encode([image])
        none = np.zeros((0, 2), np.float32)
        asked = [
            Prompt(click, np.array([1], np.int64)),
            Prompt(none, np.zeros(0, np.int64), box=box),
        ]
        for name, answer in zip(
            ("click", "box"), segmenter.sam.decode(features, asked), strict=True
        ):
            masks = [features.frame.grid_to_image(logits) > 0 for logits in answer.logits]
            best = max(float((m & piece).sum() / (m | piece).sum()) for m in masks)
            found.setdefault(f"{name}, {defect_type}", []).append(best)
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def words(segmenter: Segmenter, count: int) -> dict[str, float]:
    """Mean map value on defects minus that on normal pixels, for the right name and for others."""
    found: dict[str, list[float]] = {}
    names = sorted({scene.make_image(SEED + i).name for i in range(40)})
    for i in range(count):
        made = scene.make_image(
            SEED + 800_000 + i,
            families=scene.TRAIN_FAMILIES,
            defect_types=scene.TRAIN_DEFECT_TYPES,
            anomalous=True,
        )
        encoding = segmenter.encode(made.image)
        wrong = [name for name in names if name != made.name][i % (len(names) - 1)]
        for label, name in (("right name", made.name), ("object", ""), ("wrong name", wrong)):
            anomaly = segmenter.anomaly_map(encoding, Settings(object_name=name))
            contrast = anomaly[made.mask].mean() - anomaly[~made.mask].mean()
            found.setdefault(label, []).append(float(contrast))
    return {name: float(np.mean(values)) for name, values in found.items()}


def defect_types(segmenter: Segmenter, count: int) -> dict[str, float]:
    """Mean map value on stains and scratches for sentences that name stains or scratches."""
    found: dict[str, list[float]] = {}
    localizer = segmenter.localizer(Settings())
    assert isinstance(localizer, Linear)
    for i in range(count):
        shown = ("stain", "scratch")[i % 2]
        made = scene.make_image(
            SEED + 900_000 + i, families=scene.TRAIN_FAMILIES, defect_types=[shown], anomalous=True
        )
        (encoded,) = localizer.encode([made.image], Settings(tiles="off"))
        (features,) = encoded.tiles
        normal = segmenter.clip.state_vectors(made.name)[0]
        for said in ("stain", "scratch"):
            lines = [
                template.format(f"{made.name} with {phrase}")
                for phrase in PHRASES[said]
                for template in TEMPLATES[::9]
            ]
            mean = segmenter.clip.encode_sentences(lines).mean(dim=0)
            states = normal.new_empty(2, len(normal))
            states[0], states[1] = normal, mean / mean.norm()
            anomaly = text_map(features, states, localizer.card.scale)
            small = features.frame_hw[0] * np.array(made.mask.shape) // made.mask.shape
            grid = np.ix_(*(np.linspace(0, side - 1, 256).astype(int) for side in small))
            mask = made.mask[
                np.ix_(*(np.linspace(0, n - 1, 256).astype(int) for n in made.mask.shape))
            ]
            if mask.any():
                key = f"sentence of a {said} on a {shown}"
                found.setdefault(key, []).append(float(anomaly[grid][mask].mean()))
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def write_report(
    out: Path,
    *,
    per_category: int,
    targets_count: int,
    words_count: int,
    roots: Sequence[Path],
    model: dict[str, Any],
) -> str:
    """Measure and write `report.md` and `report.json`.

    Args:
        out: Folder of the report.
        per_category: Synthetic images a family of the seen ones, four times as many of the held-out ones and twice as
            many a kind of proxies.
        targets_count: Synthetic images for SAM alone.
        words_count: Synthetic images for the effect of text.
        roots: Folders of photographs.
        model: Arguments of `Segmenter.from_preset`.

    Returns:
        The report.
    """
    conditions = plan(Settings(), ["cascade"])
    adapter = {"linear": model["adapter"]} if model.get("adapter") else {}
    choice = ModelChoice(model["preset"], model.get("clip"), model.get("sam"), adapter)
    lines, everything = ["# The tiny models, measured"], {}
    sets = {
        "held-out seeds": synthetic_set(out / "seeds", False, per_category),
        "held-out families and defect types": synthetic_set(
            out / "families", True, 4 * per_category
        ),
        "proxies of photographs": write_proxies_once(
            out / "proxies", seed=SEED, per_category=2 * per_category
        ),
        **{root.name: root for root in roots},
    }
    for name, root in sets.items():
        data = load_dataset("folder", root)
        results = measure_and_report(data, conditions, out / name.replace(" ", "-"), choice)
        everything[name] = results["table"]
        lines += cascade_table(name, results)
        if len(results["categories"]) < FEW_CATEGORIES:
            lines += category_table(results)
    segmenter = Segmenter.from_preset(**model)
    for title, measured in (
        ("Small SAM alone: IoU of the best of three masks", sam_alone(segmenter, targets_count)),
        ("Words: map on defects minus map on normal pixels", words(segmenter, words_count)),
        ("Words: map on defects of one type", defect_types(segmenter, words_count)),
    ):
        everything[title] = measured
        lines += [f"\n### {title}\n", "| | |", "| --- | ---: |"]
        lines += [f"| {name} | {value:.3f} |" for name, value in measured.items()]
    text = "\n".join(lines) + "\n"
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "report.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")
    return text
