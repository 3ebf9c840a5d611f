"""Several systems on one image for programs: what `/compare` does behind gradio's protocol, MCP and plain HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas import comparison
from zsas.comparison import Combination
from zsas.errors import ZsasError
from zsas.extras import require
from zsas.images import ReadImage, read_mask
from zsas.settings import Settings
from zsas.ui import export
from zsas.ui.beside import Beside
from zsas.ui.engine import Engine
from zsas.ui.values import WrongValue, shortened

MOST = 48
"""Combinations of one call."""
TEXTS = {
    "systems": "Systems, separated by commas; empty means all, table1 those of papers.",
    "refiners": "Refiners behind each system's map, separated by commas; own, or empty, is the system's own.",
}
MASK = "Ground truth of the same size, black where normal: adds pixel AUROC, F1-max, AP and curves."


def asked_for(systems: Any, refiners: Any, settings: Settings) -> list[Combination]:
    """The combinations that a call names.

    Raises:
        WrongValue: If one is no name, there are too many, or the settings name a system or refiner.
    """
    for name, usual in (("system", "auto"), ("refiner", comparison.OWN_REFINER)):
        if getattr(settings, name) != usual:
            raise WrongValue(name, f"{name} has no meaning here; name {name}s in {name}s.")
    lists: dict[str, list[str]] = {}
    for name, given in (("systems", systems), ("refiners", refiners)):
        if not isinstance(given, str | None):
            raise WrongValue(name, f"{name} is {shortened(given)}, but it must be text, as a,b.")
        lists[name] = [part.strip() for part in (given or "").split(",") if part.strip()]
    try:
        found = comparison.combinations(**lists)
    except ZsasError as error:
        raise WrongValue(
            "systems" if "system" in str(error)[:20] else "refiners", str(error)
        ) from None
    if len(found) > MOST:
        raise WrongValue(
            "systems", f"These are {len(found)} combinations; a call may ask for {MOST}."
        )
    return found


def truth_of(mask: str | bytes | None, image: ReadImage) -> NDArray[np.bool_] | None:
    """The ground truth that came with a call, bool (H, W), or None.

    Raises:
        ZsasError: If it cannot be read, or has another size than the image.
    """
    if not mask:
        return None
    require("evaluate")
    try:
        return read_mask(mask, (image.pixels.shape[0], image.pixels.shape[1]))
    except ZsasError as error:
        name = Path(mask).name if isinstance(mask, str) else ""
        raise ZsasError(str(error).replace(str(mask), name) if name else str(error)) from None


def compare(
    look: Callable[[Settings], Any],
    image: ReadImage,
    chosen: Sequence[Combination],
    settings: Settings,
    truth: NDArray[np.bool_] | None,
    name: str,
) -> tuple[dict[str, Any], Path]:
    """What compare.json holds, and the folder with the contact sheet, the table and each system's files.

    Raises:
        ZsasError: If nothing could run: the reason of the first.
    """
    folder = export.new_folder() / export.stem_of(Path(name).stem)
    folder.mkdir()
    rows = comparison.compare_by(look, chosen, settings, truth)
    facts = comparison.write(rows, folder, image, truth, name)
    if all(row["error"] for row in facts["rows"]):
        raise ZsasError(facts["rows"][0]["error"])
    return facts, folder


def looker(
    engine: Engine, preset: str, image: ReadImage, beside: Beside | None = None
) -> Callable[[Settings], Any]:
    """How an engine looks at an image: each system waits for its turn, so that others come between.

    Args:
        engine: Looks.
        preset: Its models.
        image: What is looked at.
        beside: Good images, region and profile of the call; good images that a profile remembers are taken for its own
            system.
    """

    def look(settings: Settings) -> Any:
        part, memory = None, None
        if beside is not None:
            part, its = beside.part.for_system(settings)
            memory = replace(beside, part=replace(part, settings=its)).memory(engine, preset)
            if memory is None and beside.part.references:
                memory = beside.part.memory_for(engine.segmenter(preset), its)
            settings = its
        encoding = engine.encode_apart(preset, image, settings, "image")
        return engine.decide(preset, encoding, settings, (), memory, part=part)

    return look


def answer_schema() -> dict[str, Any]:
    """JSON schema of what compare.json holds."""
    number, points = {"type": ["number", "null"]}, {"type": "array", "items": {"type": "number"}}
    curve = {"type": "object", "additionalProperties": points}
    row = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "System, and refiner where not its own."},
            "system": {"type": "string"},
            "refiner": {"type": "string"},
            "error": {"type": "string", "description": "Why it could not run; empty where it did."},
            "verdict": {"enum": ["normal", "unsure", "anomalous", None]},
            "image_score": number,
            "regions": {"type": ["integer", "null"]},
            "good_images": {"type": "integer", "description": "How many it was compared with."},
            "seconds": {**number, "description": "Without encoders that a row above has run."},
            "pixel_auroc": number,
            "pixel_f1_max": number,
            "pixel_ap": number,
            "curves": {
                "type": "object",
                "description": "Against the mask; where the final mask stands is operating_point.",
                "properties": {
                    "roc": curve,
                    "precision_recall": curve,
                    "operating_point": {"type": "object", "additionalProperties": number},
                    "best": {"type": "object", "additionalProperties": number},
                },
            },
        },
        "required": ["name", "system", "refiner", "error", "verdict", "image_score"],
    }
    return {
        "type": "object",
        "description": "What compare.json holds.",
        "properties": {
            "format": {"type": "integer"},
            "image": {"type": "string"},
            "width": {"type": "integer"},
            "height": {"type": "integer"},
            "mask": {"type": "boolean", "description": "Whether there was a ground truth."},
            "rows": {"type": "array", "items": row},
            "files": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["image", "width", "height", "mask", "rows"],
    }
