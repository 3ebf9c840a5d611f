"""From totals to files: results.json, table.md, curves, and a page of the best and worst images."""

from __future__ import annotations

import html
import io
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from zsas.datasets.defects import DefectMasks
from zsas.datasets.samples import Dataset
from zsas.evaluation.batches import published_rows
from zsas.evaluation.conditions import CASCADE_NAMES, MASK_ALONE, Condition
from zsas.evaluation.interval_tables import intervals, span
from zsas.evaluation.intervals import DRAWS, Bootstrap
from zsas.evaluation.kinds import by_kind, kinds_of, kinds_section, means_of_kinds
from zsas.evaluation.metrics import Curves, curves
from zsas.evaluation.records import Store
from zsas.evaluation.rows import METRICS, Row, category_row, markdown, mean_row, percent, tenths
from zsas.evaluation.table_1 import PAPER_TABLE_1, section
from zsas.files import write_all, write_whole
from zsas.stages import counted

NO_TRUTH = (
    "Nothing says which images are normal or anomalous, so there are no figures; index.html shows the images, highest "
    "score first. Masks beside the images, as masks/NAME.png or NAME_mask.png, give figures."
)
SATURATED = (
    "AUPRO counts each annotated defect once, up to the area from which on defects_config.json calls it found (sPRO, "
    "Bergmann et al., IJCV 2022); without that file by its whole area."
)
PAPER_KERNELS = {
    "cross 20": (89.5, 46.8, 44.1),
    "cross 25": (89.2, 46.5, 44.1),
    "cross 30": (89.3, 46.3, 44.5),
    "rectangle 20": (89.5, 47.7, 45.6),
    "rectangle 25": (89.4, 46.9, 43.9),
    "rectangle 30": (89.0, 45.0, 42.2),
    "ellipse 20": (89.1, 47.2, 45.3),
    "ellipse 25": (89.5, 48.8, 46.4),
    "ellipse 30": (89.4, 46.9, 44.5),
}
PAPER_CASCADE = dict(
    zip(
        CASCADE_NAMES.values(),
        [(88.7, 42.5, 39.2), (88.1, 46.8, 44.8), (89.5, 48.8, 46.4)],
        strict=True,
    )
)


# Long because each file of the report stands here once.
def write_report(
    store: Store,
    dataset: Dataset,
    conditions: Sequence[Condition],
    facts: Mapping[str, Any],
    warnings: Sequence[str] = (),
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Write results.json, table.md, curves.png and index.html into the store's folder.

    Args:
        store: All records of the run.
        dataset: What was measured.
        conditions: Rows of the table.
        facts: More conditions of the measurement: models, frame, and the like.
        warnings: Sentences that stand above the table.
        draws: Of the bootstrap behind the intervals; 0 makes none.

    Returns:
        What is in results.json.
    """
    rows: list[dict[str, Row]] = [{} for _ in conditions]
    lines: dict[str, Curves] = {}
    images: list[dict[str, Any]] = []
    bootstrap = Bootstrap(draws)
    kinds = kinds_of(dataset)
    each_kind: list[dict[str, dict[str, Row]]] = [{} for _ in conditions]
    for category in dataset.categories:
        totals = store.totals(category)
        images += totals.images
        bootstrap.add(category, totals, len(conditions))
        for i in range(len(conditions)):
            rows[i][category] = category_row(totals, i)
            each_kind[i][category] = by_kind(totals, i, kinds)
        line = curves(totals.counts[-1])
        if line is not None:
            lines[category] = line
    names = [condition.name for condition in conditions]
    means = [mean_row(list(row.values())) for row in rows]
    unknown = [NO_TRUTH] if all(sample.anomalous is None for sample in dataset) else []
    results = {
        "dataset": dataset.name,
        "split": dataset.split,
        "licence": dataset.licence,
        "categories": list(dataset.categories),
        "images": sum(not image["error"] for image in images),
        "unreadable": {image["key"]: image["error"] for image in images if image["error"]},
        "warnings": [*unknown, *warnings],
        **facts,
        "versions": versions(),
        "machine": machine(),
        "table": [
            {
                **condition.to_dict(),
                "resolution": facts.get("resolutions", {}).get(condition.name, 0),
                "mean": mean,
                "interval": interval,
                "categories": row,
                **({"kinds": means_of_kinds(each, kinds)} if kinds else {}),
            }
            for condition, mean, interval, row, each in zip(
                conditions, means, bootstrap.intervals(means), rows, each_kind, strict=True
            )
        ],
        "kinds": list(kinds),
        "annotated_defects": any(isinstance(sample.mask, DefectMasks) for sample in dataset),
        "paired": bootstrap.pairs(names, means),
        "intervals": bootstrap.facts,
    }
    folder = store.folder
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    files = {"results.json": (text + "\n").encode(), "table.md": table(results).encode()}
    if lines:
        draw_curves(folder / "curves.png", lines, conditions[-1].name)
    files["index.html"] = page(results, images, store, bool(lines)).encode()
    write_all({folder / name: data for name, data in files.items()})
    return results


def table(results: Mapping[str, Any]) -> str:
    """The tables as Markdown, in percent: all conditions, the paper's rows beside them, each category."""
    lines = [f"# {results['dataset']}, {results['split']} split", ""]
    lines += [f"> {warning}" + "\n" for warning in results["warnings"]]
    lines += [
        f"{_counted(results)}; means over categories in percent.",
        _conditions_sentence(results),
        "",
        *_table(
            [(row["name"], row["mean"]) for row in results["table"]], results.get("cannot_run", {})
        ),
    ]
    if results.get("annotated_defects"):
        lines += ["", SATURATED]
    lines += [
        "",
        *kinds_section(results),
        *intervals(results, METRICS),
        *_others(results),
        "",
    ]
    last = results["table"][-1]
    lines += [
        f"## Each category ({last['name']})",
        "",
        *_table(last["categories"].items()),
    ]
    if results["unreadable"]:
        count = counted(len(results["unreadable"]), "image")
        lines += ["", f"## {count} could not be measured", ""]
        lines += [f"- {key}: {error}" for key, error in results["unreadable"].items()]
    error = max(
        (
            row["binning_error"] or 0.0
            for entry in results["table"]
            if entry["name"] != MASK_ALONE  # two values: pixels that share a bin are equal
            for row in entry["categories"].values()
        ),
        default=0.0,
    )
    lines += ["", f"Pixel AUROC is exact to {100 * error:.2g} points (scores in 65,536 bins)."]
    return "\n".join(lines) + "\n"


def _others(results: Mapping[str, Any]) -> list[str]:
    """Others' figures; those of batch methods where images were compared with each other."""
    if results.get("batch_scoring"):
        return published_rows()
    return section(results) or _beside(results)


def _beside(results: Mapping[str, Any]) -> list[str]:
    """The paper's own rows for what was measured."""
    names = {row["name"] for row in results["table"]}
    parts: list[tuple[str, Mapping[str, tuple[float | None, ...]]]] = []
    if names & PAPER_KERNELS.keys():
        parts.append(("the paper's kernels, MVTec-AD", PAPER_KERNELS))
    if names & PAPER_CASCADE.keys():
        parts.append(("the paper's cascade, MVTec-AD", PAPER_CASCADE))
    same = results["dataset"] in PAPER_TABLE_1
    for name, table_1 in PAPER_TABLE_1.items():
        if name == results["dataset"] or (not same and not parts):
            parts.append((f"the paper's Table 1, {name}", table_1))
    note = "" if same else " Other images than ours: shown for scale, not to compare."
    lines = [f"As printed in the paper (pixel metrics, percent).{note}", ""]
    for title, rows in parts:
        printed = [[name, *tenths(values)] for name, values in rows.items()]
        lines += [*markdown([title, "AUROC", "F1-max", "AP"], printed), ""]
    return lines[:-1]


def _counted(results: Mapping[str, Any]) -> str:
    categories = counted(len(results["categories"]), "category", "categories")
    return f"{counted(results['images'], 'image')}, {categories}"


def _conditions_sentence(results: Mapping[str, Any]) -> str:
    settings = results["table"][-1]["settings"]
    models = results.get("models", {})
    side = results.get("side", 0)
    squares = sorted({row["square"] for row in results["table"] if row.get("square")})
    parts = [f"{name} {value}" for name, value in models.items() if isinstance(value, str)]
    for name, value in models.items():
        if isinstance(value, dict):
            pixels = settings["resolution"] or value.get("resolution")
            parts.append(f"localizer {name}" + (f" at {pixels} px" if pixels else ""))
    parts += [
        f"{name} {settings[name]:g}"
        if isinstance(settings[name], float)
        else f"{name} {settings[name]}"
        for name in ("blur", "threshold", "threshold_mode", "k_positive", "k_negative", "fusion")
        if len({row["settings"][name] for row in results["table"]})
        == 1  # else it is each row's own
    ]
    at = f"a longest side of {side} px" if side else "the size of each image"
    at = "each system's published size" if squares else at
    parts.append(f"compared at {at}")
    return "Conditions: " + ", ".join(parts) + "; the rest in results.json."


def _table(rows: Iterable[tuple[str, Row]], left_out: Mapping[str, str] | None = None) -> list[str]:
    """All metrics of some rows; below, systems that cannot run, with a sentence instead of figures."""
    lines = [[name, *_figures(row)] for name, row in rows]
    others = (left_out or {}).items()
    lines += [[f"{name}: {why}", *tenths([None] * len(METRICS))] for name, why in others]
    return markdown(["", *METRICS.values()], lines)


def _figures(row: Row) -> list[str]:
    return [percent(row[metric]) for metric in METRICS]


def draw_curves(path: Path, lines: Mapping[str, Curves], name: str) -> None:
    """ROC and precision-recall curves, one line a category, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 6
    names = 0.18 * math.ceil(
        len(lines) / columns
    )  # inches below: a data set may have many categories
    figure = Figure(figsize=(11, 5 + names), layout="constrained")
    FigureCanvasAgg(figure)
    roc, pr = figure.subplots(1, 2)
    for category, line in lines.items():
        roc.plot(line.fpr, line.tpr, linewidth=1.2, label=category)
        pr.step(line.recall, line.precision, where="post", linewidth=1.2)
    roc.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
    roc.axvspan(0, 0.3, color="0.95")
    roc.set(title=f"Pixel ROC, {name}", xlabel="false-positive rate", ylabel="true-positive rate")
    pr.set(title=f"Pixel precision and recall, {name}", xlabel="recall", ylabel="precision")
    for axes in (roc, pr):
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    data = io.BytesIO()
    figure.savefig(data, dpi=110, metadata={"Software": None})
    write_whole(path, data.getvalue())


# Long because it is one page, from top to bottom.
def page(
    results: Mapping[str, Any],
    images: Sequence[Mapping[str, Any]],
    store: Store,
    with_curves: bool,
) -> str:
    """The best, median and worst images as a page that needs nothing but the folder it lies in."""
    sections: list[tuple[str, list[tuple[str, Mapping[str, Any]]]]] = []
    anomalous = [
        image for image in images if image["anomalous"] and image["truth"] and image["true"][-1]
    ]
    ranked = sorted(anomalous, key=lambda image: (-_f1(image), image["key"]))
    each = 6
    middle = max(0, len(ranked) // 2 - each // 2)
    spans = {
        "Best": ranked[:each],
        "Median": ranked[middle : middle + each],
        "Worst": ranked[-each:][::-1],
    }
    for title, chosen in spans.items():
        sections.append((f"{title} by F1 of the mask", [(f"F1 {_f1(i):.2f}", i) for i in chosen]))
    normal = [image for image in images if image["anomalous"] is False and not image["error"]]
    normal.sort(key=lambda image: (-image["image_score"][-1], image["key"]))
    caption = [(f"score {image['image_score'][-1]:.2f}", image) for image in normal[:each]]
    sections.append(("Normal images with the highest scores", caption))
    unknown = [image for image in images if image["anomalous"] is None and not image["error"]]
    unknown.sort(key=lambda image: (-image["image_score"][-1], image["key"]))
    caption = [(f"score {image['image_score'][-1]:.2f}", image) for image in unknown[: 4 * each]]
    sections.append(("Images without ground truth, highest score first", caption))
    body = [f"<h1>{html.escape(results['dataset'])}</h1>"]
    body += [f"<p class=warning>{html.escape(warning)}</p>" for warning in results["warnings"]]
    body.append(f"<p>{html.escape(_conditions_sentence(results))}</p>")
    body.append(
        "<table><tr><th></th>" + "".join(f"<th>{name}</th>" for name in METRICS.values()) + "</tr>"
    )
    for row in results["table"]:
        found = row.get("interval", {})
        spreads = [span(found[metric]) if metric in found else "" for metric in METRICS]
        cells = [
            f"<td>{figure}<small>{spread}</small></td>"
            for figure, spread in zip(_figures(row["mean"]), spreads, strict=True)
        ]
        body.append(f"<tr><th>{html.escape(row['name'])}</th>{''.join(cells)}</tr>")
    for name, sentence in results.get("cannot_run", {}).items():
        why = f"<td colspan={len(METRICS)}>{html.escape(sentence)}</td>"
        body.append(f"<tr><th>{html.escape(name)}</th>{why}</tr>")
    body.append("</table>")
    if any(row.get("interval") for row in results["table"]):
        body.append("<p>Small: 95 % intervals, by bootstrap over images; see table.md.</p>")
    if with_curves:
        body.append('<img src="curves.png" alt="ROC and precision-recall curves">')
    body.append(
        "<p>Each strip: image, ground truth, score map (fixed scale, 0 to 1), final mask.</p>"
    )
    for title, entries in sections:
        if not entries:
            continue
        body.append(f"<h2>{title}</h2><div class=strips>")
        for words, image in entries:
            source = store.strip_path(image["key"]).relative_to(store.folder).as_posix()
            label = html.escape(f"{image['key']}: {words}")
            body.append(f'<figure><img loading=lazy src="{source}" alt="{label}">')
            body.append(f"<figcaption>{label}</figcaption></figure>")
        body.append("</div>")
    return _PAGE.format(title=html.escape(results["dataset"]), body="\n".join(body))


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; }}
table {{ border-collapse: collapse; }} th, td {{ padding: .2rem .7rem; text-align: right; }}
tr + tr {{ border-top: 1px solid #8884; }} th:first-child {{ text-align: left; }}
img {{ max-width: 100%; }} figure {{ margin: 0 0 1rem; }} figcaption {{ font-size: 13px; }}
td small {{ display: block; opacity: .7; }}
.warning {{ border-left: 4px solid #d97706; padding-left: .8rem; }}
</style>
{body}
</html>
"""


def _f1(image: Mapping[str, Any]) -> float:
    return 2 * image["hit"][-1] / max(1, image["marked"][-1] + image["true"][-1])


def versions() -> dict[str, str]:
    """Versions of what decides a figure."""
    names = ("zsas", "torch", "transformers", "numpy", "opencv-python-headless", "scikit-learn")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What the figures were computed on."""
    import os

    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "gpu": gpu,
    }
