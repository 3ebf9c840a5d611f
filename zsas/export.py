"""Results as files, without loss."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas import draw
from zsas.errors import ZsasError
from zsas.files import write_all, writing
from zsas.result import Result

_STAGE_FILE = re.compile(r"[0-9]{2}_[a-z0-9_]+\.png")


def pictures(result: Result) -> dict[str, NDArray[Any]]:
    """The pictures of `save` by name: mask, uint8 (H, W), 0 or 255; score, uint16 (H, W); overlay, uint8 (H, W, 3)."""
    return {
        "mask": result.mask.astype(np.uint8) * 255,
        "score": np.rint(np.clip(result.score_map, 0, 1) * 65535).astype(np.uint16),
        "overlay": draw.mask_overlay(result.image, result.mask, inside=result.inside),
    }


def save(
    result: Result, folder: str | Path, *, stages: bool = False, stem: str | None = None
) -> dict[str, Path]:
    """Write a result.

    Files: `mask.png` (uint8, 0 or 255, original size), `score.png` (uint16, 65535 is a score of 1), `overlay.png`,
    `result.json` and, on demand, `stages/01_anomaly_map.png` and so on. All files are complete under a temporary name
    before the first gets its own, so an interrupted call leaves nothing or whole files. Pictures of stages of an
    earlier result are taken away.

    Args:
        result: What is written.
        folder: Made if it is missing.
        stages: Write the pictures of the stages too.
        stem: Put before each name: "gear" gives `gear_mask.png` and `gear_stages/`.

    Returns:
        "mask", "score", "overlay", "json" and each stage's name to the file written.

    Raises:
        ZsasError: If the folder cannot be written to, or this is no result.
    """
    if not isinstance(result, Result):
        raise ZsasError(
            "What is saved is a result, as Segmenter.segment gives it, but this is of the type "
            f"{type(result).__name__}."
        )
    folder = Path(folder)
    prefix = f"{stem}_" if stem else ""
    stage_folder = folder / f"{prefix}stages"
    files: dict[str, tuple[Path, bytes]] = {
        name: (folder / f"{prefix}{name}.png", png(array))
        for name, array in pictures(result).items()
    }
    for number, stage in enumerate(result.stages if stages else (), start=1):
        path = stage_folder / f"{number:02d}_{stage.name}.png"
        files[stage.name] = (path, png(draw.stage(result.image, stage)))
    files["json"] = (folder / f"{prefix}result.json", json_bytes(result))
    with writing(f"The result cannot be written to {folder}"):
        write_all(dict(files.values()))
        written = {path for path, _ in files.values()}
        for old in stage_folder.glob("*.png"):
            if _STAGE_FILE.fullmatch(old.name) and old not in written:
                old.unlink()
        if not stages:
            with contextlib.suppress(OSError):  # it may hold something else, or be none
                stage_folder.rmdir()
    return {name: path for name, (path, _) in files.items()}


def discard(folder: Path) -> None:
    """Take the files of `save` away where they lie in a folder, and the folder where nothing else is in it.

    Raises:
        OSError: If they cannot be taken away.
    """
    stage_folder = folder / "stages"
    for path in stage_folder.glob("*.png"):
        if _STAGE_FILE.fullmatch(path.name):
            path.unlink()
    # The sentence of the verdict goes first: what is cut short leaves pictures, never a verdict without them.
    for name in ("result.json", "mask.png", "score.png", "overlay.png"):
        (folder / name).unlink(missing_ok=True)
    for empty in (stage_folder, folder):
        with contextlib.suppress(OSError):
            empty.rmdir()


def report(results: Any, path: str | Path) -> Path:
    """One HTML file for people; see `zsas.report.report`."""
    from zsas.report import report as write

    return write(results, path)


def json_bytes(result: Result) -> bytes:
    """`result.json`, UTF-8."""
    text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def png(array: NDArray[Any]) -> bytes:
    """PNG of a grey array (uint8 or uint16) or an RGB one (uint8)."""
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", array)[1].tobytes()
