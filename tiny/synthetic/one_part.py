"""One and the same part in every image of a set: what good images, and a batch, know how to use.

The families of `scene` draw another part for each image, so nothing can be learnt there from one image about the next.
Here a part is drawn once; images of it differ by pose, light, camera, and the defects of some.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from tiny.synthetic.camera import photograph
from tiny.synthetic.defects import DEFECTS
from tiny.synthetic.proxies import Proxy
from tiny.synthetic.scene import FAMILIES
from zsas.errors import ZsasError

PARTS = ("gasket", "bracket", "capsule", "walnut")
"""Families that a set is made of by default."""
Pose = Literal["aligned", "turned"]
_DEFECTS = (
    *("bent", "broken", "contamination", "corrosion", "crack", "cut", "dent", "hole", "scratch"),
    "stain",
)
_LEAST_PX, _LARGEST = 60, 0.06
_TRIES = 20


def make_part(
    seed: int, number: int, family: str, *, pose: Pose = "aligned", anomalous: bool, size: int = 384
) -> Proxy:
    """One image of a part; the same arguments always give the same image.

    Args:
        seed: Of the part.
        number: Of the image.
        family: Key of `FAMILIES`.
        pose: "aligned" moves the part by a few pixels and degrees, "turned" turns it by any angle.
        anomalous: Whether it gets a defect.
        size: Width and height in pixels.

    Raises:
        ZsasError: If there is no such family.
    """
    if family not in FAMILIES:
        raise ZsasError(
            f"There is no family {family!r}; choose from {', '.join(sorted(FAMILIES))}."
        )
    surface = FAMILIES[family](np.random.default_rng([seed, 0]), size)
    rng = np.random.default_rng([seed, 1 + number])
    rgb, mask, kind = surface.rgb, np.zeros((size, size), bool), "good"
    for _ in range(_TRIES if anomalous else 0):
        kind = str(rng.choice(_DEFECTS))
        rgb, mask = DEFECTS[kind](rng, surface)
        if _LEAST_PX < mask.sum() < _LARGEST * mask.size:
            break
    turned = pose == "turned"
    angle = rng.uniform(0, 360) if turned else rng.normal(0, 1.5)
    zoom = rng.uniform(0.98, 1.02) / (1.15 if turned else 1.0)
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), angle, zoom)
    matrix[:, 2] += rng.normal(0, 4, 2)
    how = {"dsize": (size, size), "borderMode": cv2.BORDER_REFLECT_101}
    moved = cv2.warpAffine(rgb.astype(np.float32), matrix, flags=cv2.INTER_LINEAR, **how)
    truth = cv2.warpAffine(mask.astype(np.uint8), matrix, flags=cv2.INTER_NEAREST, **how) > 0
    light = np.float32(rng.uniform(0.93, 1.07))
    lit = np.ascontiguousarray(np.clip(moved * light, 0, 1), np.float32)
    return Proxy(photograph(rng, lit, grey=False), truth, kind)


def write_parts(
    root: str | Path,
    *,
    seed: int,
    per_category: int,
    size: int = 384,
    families: Sequence[str] = PARTS,
) -> Path:
    """Write sets of images of one part each in MVTec-AD's layout, each family aligned and turned.

    Args:
        root: Folder to write into.
        seed: Seed of the set.
        per_category: Test images of each part, three in five anomalous; there are half as many good training images.
        size: Width and height in pixels.
        families: Which.
    """
    root = Path(root)
    anomalous = round(0.6 * per_category)
    plan = ["train"] * max(1, per_category // 2) + ["test"] * (per_category - anomalous)
    plan += ["anomalous"] * anomalous
    poses: tuple[Pose, ...] = ("aligned", "turned")
    for place, (family, pose) in enumerate((f, p) for f in families for p in poses):
        for number, role in enumerate(plan):
            made = make_part(
                seed * 100 + place,
                number,
                family,
                pose=pose,
                anomalous=role == "anomalous",
                size=size,
            )
            name, split = f"{family}_{pose}", "train" if role == "train" else "test"
            _write(
                root / name / split / made.defect_type / f"{number:03d}.png", made.image[..., ::-1]
            )
            if made.mask.any():
                mask = root / name / "ground_truth" / made.defect_type / f"{number:03d}_mask.png"
                _write(mask, made.mask.astype(np.uint8) * 255)
    return root


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
