"""Make `docs/references.png`: what good images, and a batch, change on the example of the capsules.

python -m scripts.good_images           # with the preset tiny
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.draw import heat_map
from zsas.images import load_image
from zsas.segmenter import Segmenter

ROOT = Path(__file__).resolve().parents[1]
CAPSULES = ROOT / "examples" / "capsules"
SHOWN = (1, 3, 6)
"""Of the batch: a good one, the stained one, the bent one."""
SIDE, HEAD = 200, 24
COLUMNS = ("image", "zero-shot", "4 good images", "batch of 8")


def main() -> None:
    """Write the picture: a row for each image, a column for each way to look at it."""
    segmenter = Segmenter.from_preset("tiny")
    good = segmenter.remember(sorted((CAPSULES / "good").glob("*.jpg")))
    paths = sorted((CAPSULES / "batch").glob("*.jpg"))
    batch = list(segmenter.segment_batch(paths, mutual=True))
    rows = []
    for number in SHOWN:
        path = paths[number - 1]
        maps = [
            segmenter.segment(path).anomaly_map,
            segmenter.segment(path, references=good).anomaly_map,
            batch[number - 1].anomaly_map,
        ]
        tiles = [load_image(path), *(heat_map(one) for one in maps)]
        rows.append(np.hstack([_small(tile) for tile in tiles]))
    picture = np.vstack([_heading(), *rows])
    cv2.imwrite(str(ROOT / "docs" / "references.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _heading() -> NDArray[np.uint8]:
    line = np.full((HEAD, SIDE * len(COLUMNS), 3), 255, np.uint8)
    for i, words in enumerate(COLUMNS):
        at = (i * SIDE + 8, HEAD - 8)
        cv2.putText(line, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return line


if __name__ == "__main__":
    main()
