"""Several systems on one image, side by side: a table, a contact sheet, and each system's own files."""

from __future__ import annotations

import contextlib
import json
import logging
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas import curves, draw, export
from zsas.cancellation import Cancelled
from zsas.errors import ZsasError, reason
from zsas.files import write_all, writing
from zsas.good import Good
from zsas.settings import Settings, settings_or_usual
from zsas.systems import OWN_REFINER, SYSTEMS, system_named

if TYPE_CHECKING:
    from zsas.images import ReadImage
    from zsas.models import ModelChoice
    from zsas.part import Part
    from zsas.result import Result
    from zsas.segmenter import Segmenter

TABLE_1 = "table1"
"""A word that stands for all systems that have a paper."""
METRICS = {"pixel_auroc": "pixel AUROC", "pixel_f1_max": "pixel F1-max", "pixel_ap": "pixel AP"}
CURVES = ("ROC; rings: the masks", "precision and recall")
PANEL, TITLE, GAP, PANELS_IN_A_LINE = 320, 28, 8, 4
"""Layout of the contact sheet, in pixels: longest side of a picture, height of a title, space between pictures."""


@dataclass(frozen=True)
class Combination:
    """A system and the refiner that follows its map, both by name."""

    system: str
    refiner: str

    @property
    def name(self) -> str:
        """The system's name; with the refiner where it is not the system's own. Also the name of its folder."""
        own = SYSTEMS[self.system].refiner.name == self.refiner
        return self.system if own else f"{self.system}-{self.refiner}"

    def settings(self, settings: Settings) -> Settings:
        """The given settings for this system; all others take its defaults."""
        return settings.replace(system=self.system, refiner=self.refiner)


def combinations(systems: Sequence[str] = (), refiners: Sequence[str] = ()) -> list[Combination]:
    """Every system with every refiner, each pair once; `own` stands for the system's own refiner.

    Args:
        systems: Names; empty means all of the registry, `table1` those of papers.
        refiners: Names; empty means each system's own.

    Raises:
        ZsasError: If there is no such system or refiner.
    """
    of_papers = [name for name, system in SYSTEMS.items() if system.paper and name != "auto"]
    named = [one for name in systems for one in (of_papers if name == TABLE_1 else [name])]
    found = [
        Combination(name, system_named(name, refiner).refiner.name)
        for name in named or SYSTEMS
        for refiner in refiners or (OWN_REFINER,)
    ]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Row:
    """The result of one system on the image, or why there is none.

    Attributes:
        combination: System and refiner.
        result: The result; None where the system could not run.
        error: Why it could not, as a sentence.
        seconds: From the image to the result; encoders that an earlier row has run are not run again.
        metrics: Against the mask, in [0, 1]; None where one is not defined, empty without a mask.
        curves: ROC and precision-recall, None without a mask that has both kinds of pixels.
    """

    combination: Combination
    result: Result | None
    error: str = ""
    seconds: float = 0.0
    metrics: dict[str, float | None] | None = None
    curves: curves.Line | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without pixels."""
        result = self.result
        return {
            "name": self.combination.name,
            "system": self.combination.system,
            "refiner": self.combination.refiner,
            "error": self.error,
            "verdict": result.verdict if result else None,
            "image_score": round(float(result.image_score), 6) if result else None,
            "regions": sum(one.counts for one in result.regions) if result else None,
            "good_images": result.good_images if result else 0,
            "seconds": round(self.seconds, 3) if result else None,
            **(self.metrics or {}),
            **({"curves": self.curves.to_dict()} if self.curves is not None else {}),
        }


def load_for(
    choice: ModelChoice, wanted: Iterable[Settings], cache_bytes: int | None = None
) -> Segmenter:
    """A segmenter with the models of the first settings that can run; other models are loaded when they are needed.

    Args:
        choice: The models.
        wanted: Settings in the order in which they are tried.
        cache_bytes: Budget of the cache; None takes the usual one.

    Raises:
        ZsasError: If none can run: the reason of the first.
    """
    from zsas.bulk import load
    from zsas.segmenter import ENCODING_BYTES

    first: ZsasError | None = None
    for settings in wanted:
        try:
            return load(choice, settings, ENCODING_BYTES if cache_bytes is None else cache_bytes)
        except ZsasError as error:
            first = first or error
    raise first or ZsasError("There is nothing to run; name a system.")


def compare(
    segmenter: Segmenter,
    image: ReadImage,
    chosen: Sequence[Combination],
    settings: Settings | None = None,
    mask: NDArray[np.bool_] | None = None,
    references: Sequence[str | Path] = (),
    part: Part | None = None,
) -> Iterator[Row]:
    """Run all combinations; yields the row of each when it is done. Systems with the same encoding share it.

    Args:
        segmenter: The models.
        image: From `zsas.images.read_image`.
        chosen: From `combinations`.
        settings: What all share beside system and refiner.
        mask: Ground truth, bool (H, W), in the frame of the image.
        references: Files and folders of good images.
        part: Its region and scale are taken, on the image and on the good ones; metrics count nothing outside. The good
            images that it remembers are taken for its own system, unless there are `references`.
    """
    good = Good(references, part)

    def look(its: Settings) -> Result:
        region = part.region if part is not None else None
        memory = good.of(segmenter, its, region)
        whole = None
        if part is not None:
            whole, its = part.for_system(its)
        return segmenter.segment(image, its, references=memory, part=whole)

    yield from compare_by(look, chosen, settings, mask)


def compare_by(
    look: Callable[[Settings], Result],
    chosen: Sequence[Combination],
    settings: Settings | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Iterator[Row]:
    """As `compare`, with a function that examines the image; if one system fails, the others still run.

    Args:
        look: The result of the image with some settings.
        chosen: See `compare`; `settings` and `mask` too.
        settings: See there.
        mask: See there.
    """
    settings = settings_or_usual(settings)
    for one in chosen:
        started = time.perf_counter()
        try:
            result = look(one.settings(settings))
        except ZsasError as error:
            yield Row(one, None, str(error))
        except Cancelled:
            raise
        except Exception as error:  # too little memory, or a bug of this one: the others go on
            logging.getLogger("zsas").exception("%s could not be run", one.name)
            yield Row(one, None, f"{one.name} could not be run ({reason(error)}).")
        else:
            seconds = time.perf_counter() - started
            measured = (None, None) if mask is None else curves.measure(result, mask)
            yield Row(one, result, "", seconds, *measured)


def write(
    rows: Iterable[Row],
    out: Path,
    image: ReadImage,
    mask: NDArray[np.bool_] | None = None,
    name: str = "",
) -> dict[str, Any]:
    """Write DIR/<combination>/, `table.md`, `compare.json` and `sheet.png`; each system's files as soon as it is done.

    Returns:
        What is in compare.json.

    Raises:
        ZsasError: If the folder cannot be written to.
    """
    pixels = image.pixels
    head = [_panel("image", _small(pixels))]
    if mask is not None:
        head.append(_panel("truth", _marked(pixels, mask)))
    done: list[dict[str, Any]] = []
    lines: list[curves.Line | None] = []
    panels: list[NDArray[np.uint8]] = []
    for row in rows:
        done.append(row.to_dict())
        if row.result is not None:
            export.save(row.result, out / row.combination.name)
        elif (out / "compare.json").is_file():  # of an earlier comparison here
            with contextlib.suppress(OSError):
                export.discard(out / row.combination.name)
        panels += _pair(row, head[0], None if mask is None else curves.colour(len(lines)))
        lines.append(row.curves)
    if any(line is not None for line in lines):
        pictures = curves.panels(lines, PANEL)
        head += [_panel(title, one) for title, one in zip(CURVES, pictures, strict=True)]
    head += [_blank(head[0])] * (PANELS_IN_A_LINE - len(head))
    panels = head + panels
    height, width = pixels.shape[:2]
    facts = {
        "format": 1,
        "image": name,
        "width": width,
        "height": height,
        "mask": mask is not None,
        "rows": done,
    }
    files = {
        out / "table.md": table(done, name).encode(errors="backslashreplace"),
        out / "compare.json": (json.dumps(facts, indent=1, allow_nan=False) + "\n").encode(),
        out / "sheet.png": export.png(_sheet(panels)),
    }
    with writing(f"The comparison cannot be written to {out}"):
        write_all(files)
    return facts


def table(rows: Sequence[dict[str, Any]], name: str = "") -> str:
    """The rows as Markdown; a system that could not run is listed with the reason."""
    metrics = [metric for metric in METRICS if any(metric in row for row in rows)]
    heads = ["system", "refiner", "verdict", "score", "regions", "seconds"]
    compared = any(row.get("good_images") for row in rows)
    heads += ["good images"] if compared else []
    heads += [METRICS[metric] for metric in metrics]
    lines = [f"# Systems on {name}" if name else "# Systems compared", ""]
    lines += [
        "| " + " | ".join(heads) + " |",
        "| --- | --- | --- |" + " ---: |" * (len(heads) - 3),
    ]
    for row in rows:
        cells = [row["system"], row["refiner"]]
        if row["error"]:
            cells += [row["error"].replace("|", "\\|"), *["–"] * (len(heads) - 3)]
        else:
            cells += [row["verdict"], f"{row['image_score']:.2f}", str(row["regions"])]
            cells.append(f"{row['seconds']:.2f}")
            cells += [str(row["good_images"])] if compared else []
            values = [row.get(metric) for metric in metrics]
            cells += ["–" if value is None else f"{100 * value:.1f}" for value in values]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Seconds leave out encoders that a row above has already run on this image."]
    if metrics:
        lines[-1] += " Pixel metrics in percent."
    return "\n".join(lines) + "\n"


def _pair(
    row: Row, like: NDArray[np.uint8], colour: tuple[int, int, int] | None
) -> list[NDArray[np.uint8]]:
    """The map and the mask of a row, or its sentence, as two panels; the colour is that of its curves."""
    title = row.combination.name
    if row.result is None:
        return [_panel(f"{title}: not run", _said(row.error)), _blank(like)]
    result = row.result
    small = _small(result.image)
    size = (small.shape[1], small.shape[0])
    values = cv2.resize(result.score_map, size, interpolation=cv2.INTER_AREA)
    overlaid = draw.heat_overlay(small, np.asarray(values, np.float32))
    score = f"{result.verdict} {result.image_score:.2f}"
    return [
        _panel(f"{title}: map", overlaid, colour),
        _panel(score, _marked(result.image, result.mask)),
    ]


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with its longest side at `PANEL`; a thin one keeps at least one pixel."""
    scale = PANEL / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _marked(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    small = _small(image)
    size = (small.shape[1], small.shape[0])
    # Any marked pixel of a cell counts, so that a scratch of one pixel is seen on the small picture.
    shares = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return draw.mask_overlay(small, np.asarray(shares) > 0)


def _panel(
    title: str, picture: NDArray[np.uint8], colour: tuple[int, int, int] | None = None
) -> NDArray[np.uint8]:
    """A picture in a square cell under its title, which a patch of a colour may precede."""
    cell = np.full((PANEL + TITLE, PANEL, 3), 255, np.uint8)
    height, width = picture.shape[:2]
    left = (PANEL - width) // 2
    cell[TITLE : TITLE + height, left : left + width] = picture
    if colour is not None:
        cell[6:22, 4:20] = colour
    _print(cell, title, (4 if colour is None else 26, 20), 0.5)
    return cell


def _blank(like: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.full_like(like, 255)


def _said(sentence: str) -> NDArray[np.uint8]:
    """A sentence as a picture."""
    picture = np.full((PANEL, PANEL, 3), 240, np.uint8)
    for number, line in enumerate(textwrap.wrap(sentence, 38)[:14]):
        _print(picture, line, (8, 24 + 20 * number), 0.42)
    return picture


def _print(picture: NDArray[np.uint8], text: str, at: tuple[int, int], scale: float) -> None:
    plain = text.encode("ascii", "replace").decode()  # the built-in font has no other letters
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(picture, plain, at, font, scale, draw.DARK, 1, cv2.LINE_AA)


def _sheet(panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Panels in lines, with white between them."""
    count = -(-len(panels) // PANELS_IN_A_LINE) * PANELS_IN_A_LINE
    cells = [*panels, *[_blank(panels[0])] * (count - len(panels))]
    padded = [
        cv2.copyMakeBorder(c, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        for c in cells
    ]
    lines = [np.hstack(padded[i : i + PANELS_IN_A_LINE]) for i in range(0, count, PANELS_IN_A_LINE)]
    return np.asarray(np.vstack(lines), np.uint8)
