"""The constants of the adaptive marking level (`zsas.refiners.marking`), fitted on maps of images with masks."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.datasets.load import load_dataset
from zsas.files import write_whole
from zsas.frames import pieces_of_mask
from zsas.localizers.edges import patch_side
from zsas.refiners.extent import to_half_height
from zsas.refiners.marking import CONSTANTS, Constants, levels_of, logit, reduced
from zsas.segmenter import Segmenter
from zsas.settings import Settings

QUANTILE = 0.75
CENTRE = -1.5
"""Logit of the ground at which the constants of the grid hold."""
SLOPES = (-0.3, -0.2, -0.1, 0.0, 0.1)
PEAK_SLOPES = (-0.2, 0.0, 0.2, 0.4)
LEVELS = (0.45, 0.475, 0.5, 0.525, 0.55, 0.575, 0.6)
PEAKS = (0.5, 0.55, 0.6, 0.625, 0.65, 0.675, 0.7, 0.75)
PIXEL_PRICE, IMAGE_PRICE = 6.0, 0.05
"""What marked pixels and marked images among good ones cost, as fractions, in units of F1."""
STEPS = np.round(np.arange(0.45, 0.651, 0.025), 3)
"""Levels at which regions are cut once, before the grid is searched: those that the rule may take, and some more."""
_MOST = 40


@dataclass(frozen=True)
class MapTable:
    """One map, cut at all `STEPS`.

    Attributes:
        category: Its category.
        ground: Logit of its quantile.
        weight: Image pixels for each pixel of the reduced map.
        pixels: Of the reduced map.
        true: Anomalous pixels of the reduced map.
        peaks, areas, hits: Highest value, pixels and anomalous pixels of each region as it is marked, at half of its
            height, (steps, regions), 0 where none.
    """

    category: str
    ground: float
    weight: float
    pixels: int
    true: float
    peaks: NDArray[np.float64]
    areas: NDArray[np.float64]
    hits: NDArray[np.float64]


def table_of(
    anomaly_map: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    category: str,
    patch: float = 0.0,
) -> MapTable:
    """Regions of a map at every level, with what of each is anomalous.

    Args:
        anomaly_map: float32 (H, W), in [0, 1].
        mask: Truth, bool (H, W); None for a good image.
        category: Images of one category are counted together.
        patch: Pixels of the image that one patch covers, on a side; 0 where it has none.
    """
    small = reduced(anomaly_map)
    truth = np.zeros(small.shape, np.float32)
    if mask is not None:
        size = (small.shape[1], small.shape[0])
        truth = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    peaks, areas, hits = (np.zeros((len(STEPS) + 1, _MOST)) for _ in range(3))
    reach = round(patch * math.sqrt(small.size / anomaly_map.size))
    for row, level in enumerate(STEPS):
        above = small > level
        found = []
        for (x0, y0, x1, y1), piece in pieces_of_mask(above):
            alone = np.zeros_like(above)
            alone[y0:y1, x0:x1] = piece
            peak = float(small[alone].max())
            whole = to_half_height(small, alone, reach) if reach else alone
            found.append((peak, float(whole.sum()), float(truth[whole].sum())))
        found = sorted(found, reverse=True)[:_MOST]
        if found:
            peaks[row, : len(found)], areas[row, : len(found)], hits[row, : len(found)] = zip(
                *found, strict=True
            )
    ground = logit(float(np.quantile(small, QUANTILE)))
    weight = anomaly_map.size / small.size
    return MapTable(category, ground, weight, small.size, float(truth.sum()), peaks, areas, hits)


@dataclass(frozen=True)
class Figures:
    """What a rule gives on one folder of images.

    Attributes:
        f1: Mean over categories of the F1 of all their pixels.
        good_images: Fraction of good images with a mark.
        good_pixels: Mean fraction of the pixels of good images that is marked.
    """

    f1: float
    good_images: float
    good_pixels: float

    @property
    def worth(self) -> float:
        """What the fit makes as large as it can."""
        return self.f1 - PIXEL_PRICE * self.good_pixels - IMAGE_PRICE * self.good_images


def figures(tables: Sequence[MapTable], rule: Constants) -> Figures:
    """What a rule gives on one folder."""
    names = sorted({one.category for one in tables})
    sums = {name: np.zeros(3) for name in names}
    images, pixels = [], []
    for one in tables:
        level, peak = levels_of(one.ground, rule)
        row = int(np.searchsorted(STEPS, level))
        kept = one.peaks[row] >= peak
        area, hit = one.areas[row][kept].sum(), one.hits[row][kept].sum()
        sums[one.category] += one.weight * np.array([area, hit, one.true])
        if not one.true:
            images.append(area > 0)
            pixels.append(area / one.pixels)
    f1 = [2 * hit / max(area + true, 1e-9) for area, hit, true in sums.values()]
    return Figures(float(np.mean(f1)), float(np.mean(images or [0])), float(np.mean(pixels or [0])))


def fit(folders: Sequence[Sequence[MapTable]]) -> tuple[Constants, list[Figures]]:
    """The rule of the grid with the highest worth, each folder counting alike, and what it gives on each."""

    def rules() -> Iterable[Constants]:
        for slope, peak_slope, level, peak in itertools.product(SLOPES, PEAK_SLOPES, LEVELS, PEAKS):
            at_zero = [logit(level) - slope * CENTRE, logit(peak) - peak_slope * CENTRE]
            yield Constants((at_zero[0], slope), (at_zero[1], peak_slope), QUANTILE)

    def worth(rule: Constants) -> float:
        return float(np.mean([figures(tables, rule).worth for tables in folders]))

    best = max(rules(), key=worth)
    return best, [figures(tables, best) for tables in folders]


def tables_of(root: Path, segmenter: Segmenter, settings: Settings) -> list[MapTable]:
    """The table of every image of a folder in MVTec-AD's layout."""
    tables = []
    for sample in load_dataset("folder", root):
        image = sample.load_image()
        encoding = segmenter.begin(image, settings)
        found = segmenter.anomaly_map(encoding, settings)
        mask = sample.load_mask((image.shape[0], image.shape[1])) if sample.anomalous else None
        tables.append(table_of(found, mask, sample.category, patch_side(encoding.features)))
    return tables


def fit_marking(roots: Sequence[Path], out: Path | None = None) -> str:
    """Fit on folders of images with masks, and write the constants.

    Args:
        roots: Folders in MVTec-AD's layout; each counts alike.
        out: The file to write; the one that the package reads if None.

    Returns:
        What was found, as lines of text.
    """
    segmenter = Segmenter.from_preset("tiny", device="cpu", cache_bytes=0)
    settings = Settings()
    rule, found = fit([tables_of(root, segmenter, settings) for root in roots])
    level, peak = ([round(value, 3) for value in pair] for pair in (rule.level, rule.peak))
    stored = {"level": level, "peak": peak, "quantile": rule.quantile}
    write_whole(out or CONSTANTS, (json.dumps(stored) + "\n").encode())
    lines = [
        f"{root}: F1 {100 * one.f1:.1f}, good images marked {100 * one.good_images:.0f} %, their pixels "
        f"{100 * one.good_pixels:.2f} %"
        for root, one in zip(roots, found, strict=True)
    ]
    return "\n".join([json.dumps(stored), *lines])
