"""The named endpoints, `/segment`, `/batch` and `/compare`, for code and for agents.

Their parameters are made from `Settings`, so that they have the names, ranges and words of the sliders.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zsas.errors import ZsasError
from zsas.images import ReadImage
from zsas.part import Part
from zsas.settings import all_settings
from zsas.ui import batch, compare, export
from zsas.ui.beside import preset_for, read_beside, read_part
from zsas.ui.calls import MORE, settings_of
from zsas.ui.engine import Engine
from zsas.ui.gradio_internals import gr
from zsas.ui.openapi import TOGETHER
from zsas.ui.upload import load_upload
from zsas.ui.values import WrongValue, read_preset, read_switch, shortened

IMAGE = "The image to examine: PNG, JPEG, TIFF, BMP or WebP."


def make_segment(engine: Engine) -> Callable[..., tuple[Any, ...]]:
    """The function behind `/segment`: (image, preset, every setting) → (JSON, mask, score map, overlay, ZIP)."""

    def segment(*values: Any) -> tuple[Any, ...]:
        image, preset, *settings = values[: -len(MORE)]
        read = _image(image)
        preset, part, memory = _beside(engine, preset, settings, values[-len(MORE) :])
        # Not kept: nobody comes back to it, and the images that visitors look at would have to go.
        encoding = engine.encode_apart(preset, read, part.settings, "image")
        result = engine.decide(preset, encoding, part.settings, (), memory, part=part)
        engine.answered(preset, read)
        files = export.save_all(result, Path(image).stem)
        return (
            result.to_dict(),
            *(str(files[name]) for name in ("mask", "score", "overlay", "zip")),
        )

    return _described(
        segment,
        "image",
        IMAGE,
        "Find what is wrong in one image, and where, without any training images.\n\n"
        "    Looks for scratches, cracks, stains, missing or misplaced parts and other anomalies in an image of one\n"
        "    object or surface. The JSON holds the verdict, an image score from 0 to 1, and each region with its\n"
        "    box (x0, y0, x1, y1 in pixels), area, score and COCO run-length mask.",
        "JSON with verdict, score and regions; mask as PNG; score map as 16-bit PNG; overlay as PNG; a ZIP of "
        "everything with each stage.",
        {},
        MORE,
    )


def make_batch(engine: Engine) -> Callable[..., tuple[Any, ...]]:
    """The function behind `/batch`: (files, preset, every setting) → (JSON rows, ZIP)."""

    def segment_batch(*given_values: Any) -> tuple[Any, ...]:
        *values, together = given_values
        files, preset, *settings = values[: -len(MORE)]
        mutual = read_switch("batch_scoring", together)
        preset, part, memory = _beside(engine, preset, settings, values[-len(MORE) :])
        given: dict[str, Any] = {"references": memory, "part": part, "mutual": mutual}
        *_, progress = batch.run(engine, files or [], preset, part.settings, **given)
        return [line.to_dict() for line in progress.lines], str(progress.archive)

    return _described(
        segment_batch,
        "files",
        f"Images, or ZIPs of images; at most {batch.MAX_FILES} in all.",
        "Examine many images at once; a file that cannot be read becomes a row that says why.",
        "One row a file with verdict, score and regions; a ZIP with masks, score maps, overlays, JSON, CSV and "
        "COCO annotations.",
        {},
        {**MORE, **TOGETHER},
    )


def make_compare(engine: Engine) -> Callable[..., tuple[Any, ...]]:
    """The function behind `/compare`: (image, preset, systems, refiners, mask, every setting) → (JSON, sheet, ZIP)."""

    def compare_systems(*values: Any) -> tuple[Any, ...]:
        image, preset, systems, refiners, mask, *settings = values
        chosen = settings_of(settings)
        read = _image(image)
        preset = read_preset(preset, engine.running or engine.default)
        engine.segmenter(preset)
        combinations = compare.asked_for(systems, refiners, chosen)
        truth = compare.truth_of(mask, read)
        look = compare.looker(engine, preset, read)
        name = Path(image).name
        facts, folder = compare.compare(look, read, combinations, chosen, truth, name)
        engine.answered(preset, read)
        archive = export.zip_folder(folder, folder.with_suffix(".zip"))
        return facts, str(folder / "sheet.png"), str(archive)

    return _described(
        compare_systems,
        "image",
        IMAGE,
        "Run several anomaly segmentation systems on one image and lay their answers side by side.\n\n"
        "    The JSON holds one row for each system and refiner: verdict, image score from 0 to 1, number of regions,\n"
        "    seconds, or why it could not run; the others go on. With a mask also pixel AUROC, F1-max, AP and curves.",
        "JSON with a row for each system; a contact sheet as PNG with each map and mask; a ZIP of everything.",
        {**compare.TEXTS, "mask": compare.MASK},
        {},
    )


def _image(path: str | None) -> ReadImage:
    if path is None:
        raise ZsasError("There is no image; send one.")
    return load_upload(path)


def _beside(
    engine: Engine, preset: Any, settings: Sequence[Any], more: Sequence[Any]
) -> tuple[str, Part, Any]:
    """Preset, what belongs to the part, and the good images' memory."""
    references, region, file = more
    chosen = settings_of(settings)
    part = read_part(None if file is None else Path(file))
    usual = preset_for(part, engine.running or engine.default)
    preset = read_preset(preset, usual)
    region = json.dumps(region) if isinstance(region, (dict, list)) else region
    if region is not None and not isinstance(region, str):
        raise WrongValue("region", f"region is {shortened(region)}, but it must be JSON.")
    names = [(Path(path).name, Path(path)) for path in references or ()]
    beside = read_beside(chosen, part, names, region or "")
    return preset, beside.part, beside.memory(engine, preset)


def _described(
    function: Callable[..., tuple[Any, ...]],
    first: str,
    first_help: str,
    summary: str,
    returns: str,
    others: Mapping[str, str],
    later: Mapping[str, str],
) -> Callable[..., Any]:
    """The function with a signature and docstring, of which Gradio and MCP make its schema, and with their errors.

    Args:
        function: Takes the first value, the preset, the others, and every setting.
        first: Name of the first value.
        first_help: What it is.
        summary: What the function does.
        returns: What it gives.
        others: Further values by name, each with its help.
        later: Values behind all others.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    settings = [setting.name for setting in all_settings()]
    names = [first, "preset", *others, *settings, *later]
    lines = [f"        {first}: {first_help}"]
    lines.append(
        "        preset: tiny runs anywhere; base and paper need their weights; empty or left out, what is running."
    )
    lines += [f"        {name}: {text}" for name, text in others.items()]
    for setting in all_settings():
        unit = f", {setting.unit}" if setting.unit else ""
        lines.append(f"        {setting.name}: {setting.help} Allowed: {setting.range_text}{unit}.")
    lines += [f"        {name}: {text}" for name, text in later.items()]
    # What is left out takes the default of its system; without its first value a call has nothing to do.
    empty = inspect.Parameter.empty
    defaults = dict.fromkeys(names, None) | {first: empty, "preset": ""}
    parameters = [inspect.Parameter(n, kind, default=defaults[n]) for n in names]

    def call(*values: Any) -> tuple[Any, ...]:
        try:
            return function(*values)
        except ZsasError as error:
            raise gr.Error(str(error), print_exception=False) from None

    call.__name__ = function.__name__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__doc__ = (
        f"{summary}\n\n    Args:\n"
        + "\n".join(lines)
        + f"\n\n    Returns:\n        {returns}\n    "
    )
    return call
