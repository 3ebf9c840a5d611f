"""A data set of synthetic images on disk, written once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny.synthetic import one_part, proxies, scene
from tiny.synthetic.real_surfaces import split, surfaces_in
from zsas.errors import ZsasError
from zsas.files import write_whole

NOTE = "dataset.json"
"""File in the folder that says its name, by which zsas knows it, and with which parameters it was written."""


def write_once(
    root: str | Path,
    *,
    seed: int,
    per_category: int,
    size: int,
    families: Sequence[str] | None = None,
    defect_types: Sequence[str] | None = None,
) -> Path:
    """Write synthetic images in MVTec-AD's layout unless exactly these are already there.

    Args:
        root: Folder of the data set.
        seed: Seed of the images; equal arguments give equal files.
        per_category: Images of each family.
        size: Side in pixels.
        families: Names of textures and objects; None takes those no bundled model was trained on.
        defect_types: Names of defects; None takes all.

    Raises:
        ZsasError: If the folder holds other files.
    """
    wanted: dict[str, Any] = {
        "seed": seed,
        "per_category": per_category,
        "size": size,
        "families": sorted(families if families is not None else scene.HELD_OUT_FAMILIES),
        "defect_types": sorted(defect_types) if defect_types is not None else None,
    }
    return _once(
        root, {"name": "synthetic", **wanted}, lambda folder: scene.write_dataset(folder, **wanted)
    )


def write_proxies_once(
    root: str | Path, *, seed: int, per_category: int, photographs: str | Path | None = None
) -> Path:
    """Write proxies of photographs unless exactly these are already there; see `proxies.write_proxies`.

    Args:
        root: Folder of the data set.
        seed: Seed of the images.
        per_category: Test images of each kind.
        photographs: Folder of `python -m tiny photographs`: its surfaces that no training uses become the ground.

    Raises:
        ZsasError: If the folder holds other files.
    """
    wanted: dict[str, Any] = {"seed": seed, "per_category": per_category}
    note: dict[str, Any] = {"name": "proxies", **wanted}
    real: list[Path] = []
    if photographs is not None:
        real = split(surfaces_in(Path(photographs)))[1]
        note["photographs"] = [file.name for file in real]
    return _once(
        root, note, lambda folder: proxies.write_proxies(folder, **wanted, photographs=real)
    )


def write_parts_once(
    root: str | Path, *, seed: int, per_category: int, size: int, families: Sequence[str]
) -> Path:
    """Write images of one part each unless exactly these are already there; see `one_part.write_parts`.

    Raises:
        ZsasError: If the folder holds other files.
    """
    wanted: dict[str, Any] = {
        "seed": seed,
        "per_category": per_category,
        "size": size,
        "families": list(families),
    }
    return _once(
        root, {"name": "parts", **wanted}, lambda folder: one_part.write_parts(folder, **wanted)
    )


def _once(root: str | Path, wanted: Mapping[str, Any], write: Callable[[Path], object]) -> Path:
    """Call `write` unless the note in the folder says that it has been done with the same parameters."""
    folder = Path(root)
    note = folder / NOTE
    if note.is_file():
        held = json.loads(note.read_text())
        complete = held.pop("complete", True)
        if held != wanted:
            raise ZsasError(
                f"{folder} holds synthetic images of other parameters (see {note.name} there); "
                "choose another --root or the same parameters."
            )
        if complete:
            return folder
    elif folder.is_dir() and any(folder.iterdir()):
        raise ZsasError(
            f"{folder} holds files that are no synthetic images; choose an empty folder with --root."
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Written first, so that a run that is killed goes on with the same parameters or not at all.
    write_whole(note, _as_text({**wanted, "complete": False}))
    write(folder)
    write_whole(note, _as_text({**wanted, "complete": True}))
    return folder


def _as_text(note: Mapping[str, Any]) -> bytes:
    return (json.dumps(note, indent=1) + "\n").encode()
