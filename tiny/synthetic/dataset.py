"""A data set of synthetic images on disk, written once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny.synthetic import scene
from zsas.errors import ZsasError


def write_once(
    root: str | Path,
    *,
    seed: int,
    per_category: int,
    size: int,
    families: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
) -> Path:
    """Write made images in MVTec-AD's layout unless exactly these are already there.

    Args:
        root: Folder of the data set.
        seed: Seed of the images; equal arguments give equal files.
        per_category: Images of each family.
        size: Side in pixels.
        families: Names of textures and objects; None takes those no bundled model was trained on.
        kinds: Names of defects; None takes all.

    Raises:
        ZsasError: If the folder holds other files.
    """
    folder = Path(root)
    wanted: dict[str, Any] = {
        "seed": seed,
        "per_category": per_category,
        "size": size,
        "families": sorted(families if families is not None else scene.HELD_OUT_FAMILIES),
        "kinds": sorted(kinds) if kinds is not None else None,
    }
    stamp = folder / "made.json"
    if stamp.is_file():
        held = json.loads(stamp.read_text())
        complete = held.pop("complete", True)
        if held != wanted:
            raise ZsasError(
                f"{folder} holds made images of other parameters (see {stamp.name} there); "
                "choose another --root or the same parameters."
            )
        if complete:
            return folder
    elif folder.is_dir() and any(folder.iterdir()):
        raise ZsasError(
            f"{folder} holds files that are no made images; choose an empty folder with --root."
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Written first, so that a run that is killed goes on with the same parameters or not at all.
    stamp.write_text(json.dumps({**wanted, "complete": False}, indent=1) + "\n")
    scene.write_dataset(
        folder,
        seed=seed,
        per_category=per_category,
        size=size,
        families=wanted["families"],
        kinds=wanted["kinds"],
    )
    stamp.write_text(json.dumps({**wanted, "complete": True}, indent=1) + "\n")
    return folder
