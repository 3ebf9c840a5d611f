"""Images as those in `examples/`, drawn by the generator: `python -m tiny examples --out DIR`.

Those in the repository were drawn by an earlier generator and stay, so that figures measured on them can be compared.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tiny.synthetic.one_part import make_part
from tiny.synthetic.scene import make_image

SIDE = 448
SEED = 9_000_000

WANTED: tuple[tuple[str, str, str, str | None, int], ...] = (
    ("hazelnut-broken", "Hazelnut, broken", "hazelnut", "broken", 0),
    ("leather-cut", "Leather, cut", "leather", "cut", 2),
    ("metal-scratch", "Brushed metal, scratched", "brushed_metal", "scratch", 1),
    ("capsule-squeezed", "Capsule, squeezed", "capsule", "squeezed", 4),
    ("wood-hole", "Wood, hole", "wood", "hole", 2),
    ("casting-crack", "Casting, cracked", "cast_metal", "crack", 4),
    ("fabric-thread", "Fabric, loose thread", "fabric", "thread", 3),
    ("tablet-dirt", "Tablet, contaminated", "tablet", "contamination", 0),
    ("tile-good", "Tile, normal", "ceramic_tile", None, 6),
    ("solar-crack", "Solar cell, cracked", "solar_cell", "crack", 1),
    ("biscuit-broken", "Biscuit, broken", "biscuit", "broken", 3),
    ("paint-corroded", "Painted metal, corroded", "painted_metal", "corrosion", 4),
    ("walnut-crack", "Walnut, cracked", "walnut", "crack", 5),
    ("sheet-misplaced", "Perforated sheet, misprinted", "perforated_sheet", "misplaced", 1),
    ("hazelnut-good", "Hazelnut, normal", "hazelnut", None, 5),
    ("ring-burnt", "Food ring, burnt", "food_ring", "burn", 3),
)
"""(id, title, family, defect type or None, offset of the seed)"""


CAPSULES = "capsules"
CAPSULE_SEED, CAPSULE_SIDE = 6, 320
GOOD = 4
BATCH = (False, False, True, False, False, True, False, False)
"""Whether each image of the small batch has a defect."""


def write_capsules(folder: Path) -> None:
    """Write one and the same capsule: a few good images in `good/`, and a batch in `batch/` with defects in some."""
    plan = [("good", False)] * GOOD + [("batch", anomalous) for anomalous in BATCH]
    for number, (where, anomalous) in enumerate(plan):
        made = make_part(CAPSULE_SEED, number, "capsule", anomalous=anomalous, size=CAPSULE_SIDE)
        first = 0 if where == "good" else GOOD
        path = folder / where / f"{number - first + 1}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = cv2.cvtColor(made.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 88])


def write_examples(folder: Path) -> None:
    """Write images, masks, `index.toml`, and a part in several images."""
    folder.mkdir(parents=True, exist_ok=True)
    write_capsules(folder / CAPSULES)
    entries = []
    for name, title, family, defect_type, offset in WANTED:
        made = make_image(
            SEED + offset,
            SIDE,
            families=[family],
            defect_types=[defect_type] if defect_type else None,
            anomalous=defect_type is not None,
            grey=False,
        )
        image = cv2.cvtColor(made.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{name}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 93])
        cv2.imwrite(str(folder / f"{name}_mask.png"), made.mask.astype(np.uint8) * 255)
        entries.append(
            f'[[example]]\nid = "{name}"\ntitle = "{title}"\nobject = "{made.name}"\nimage = "{name}.jpg"\n'
            f'mask = "{name}_mask.png"\ndefects = {list(made.defect_types)}\nlicence = "CC0-1.0"\n'.replace(
                "'", '"'
            )
        )
    head = (
        "# Images of our own making, drawn by tiny.synthetic and free of rights (CC0 1.0).\n"
        "# Written by `python -m tiny examples`; the mask of a normal image is empty.\n\n"
    )
    (folder / "index.toml").write_text(head + "\n".join(entries), encoding="utf-8")
