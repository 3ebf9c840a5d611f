"""A small data set on disk, for the tests that measure."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

PICTURE = np.full((6, 8, 3), 90, np.uint8)
SPOT = np.zeros((6, 8), np.uint8)
SPOT[2:4, 3:5] = 255
"""An image of 6 × 8 pixels and its mask."""


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)


def write_folder(
    root: Path, per_kind: int = 2, categories: tuple[str, ...] = ("metal_nut", "tile")
) -> Path:
    """MVTec-AD's layout: plates of 64 × 48 pixels, sound, or with a dark spot or a bright line."""
    rng = np.random.default_rng(7)
    for category in categories:
        for kind in ("good", "line", "spot"):
            for number in range(per_kind):
                image = rng.integers(120, 140, (48, 64, 3)).astype(np.uint8)
                mask = np.zeros((48, 64), np.uint8)
                x, y = (int(v) for v in rng.integers(12, 36, 2))
                if kind == "spot":
                    cv2.circle(mask, (x, y), 6, 255, -1)
                    image[mask > 0] = 20
                elif kind == "line":
                    cv2.line(mask, (x, y), (x + 20, y + 5), 255, 2)
                    image[mask > 0] = 240
                folder = root / category / "test" / kind
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{number:03d}.png"), image)
                if kind != "good":
                    folder = root / category / "ground_truth" / kind
                    folder.mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(folder / f"{number:03d}_mask.png"), mask)
    return root
