"""Coordinate frames and the conversions between them.

Every public coordinate is (x, y) in pixels of the original photo: x to the right, y down, the centre of the first
pixel at (0, 0). Three other frames exist, and only this file knows how they relate:

- the *CLIP frame*: the photo squeezed to a square of `resolution` pixels, its aspect ratio given up;
- the *SAM frame*: the image in SAM's square of `side` pixels (1024; 1008 for SAM 3). SAM 1 scales the longest side to
  it and pads at right and bottom; SAM 2 and 3 squash both sides to it;
- SAM's *feature grid* (one cell per `stride` frame pixels: 16, or 14 for SAM 3) and *logit grid* (four logits per cell
  side), both of the square, so that part of them is padding where an image that is not square was padded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_map(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear resize of a map of shape (h, w) to (height, width), pixel centres aligned (CLIP frame → photo)."""
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)


def reference_scale(height: int, width: int, reference_side: int) -> float:
    """Photo pixels per pixel of a photo whose longest side is `reference_side`; 1 if that is 0."""
    return max(height, width) / reference_side if reference_side else 1.0


Window = tuple[int, int, int, int]
"""Part of the photo: x0, y0, x1, y1 in pixels, the last two exclusive."""


Fit = Literal["pad", "squash"]
"""How an image is put into SAM's square: scaled and padded (SAM, SAM-HQ), or squashed (SAM 2, SAM 3, EdgeTAM)."""


@dataclass(frozen=True)
class SamFrame:
    """The geometry of one image in SAM, or of a crop of it: photo coordinates are those of the whole image.

    Attributes:
        height: Of the image or crop, in pixels.
        width: Of the image or crop, in pixels.
        side: Side of SAM's square input in pixels (1024 for most published models).
        stride: SAM-frame pixels per feature cell (16 for most).
        fit: How the image is put into the square.
        left: Column of the image where the crop begins.
        top: Row of the image where the crop begins.
    """

    height: int
    width: int
    side: int = 1024
    stride: int = 16
    fit: Fit = "pad"
    left: int = 0
    top: int = 0

    @property
    def window(self) -> Window:
        """The part of the photo that SAM sees."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Height and width of the image in the SAM frame, without padding; at least one pixel."""
        if self.fit == "squash":
            return self.side, self.side
        scale = self.side / max(self.height, self.width)
        return max(1, int(self.height * scale + 0.5)), max(1, int(self.width * scale + 0.5))

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of the feature grid that show image rather than padding."""
        rows, columns = self.resized_hw
        return math.ceil(rows / self.stride), math.ceil(columns / self.stride)

    def points_to_frame(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Photo points of shape (..., 2) as SAM-frame points (x, y); boxes too, reshaped to (..., 2, 2)."""
        rows, columns = self.resized_hw
        seen = xy - np.array([self.left, self.top]) if self.left or self.top else xy
        return (seen * np.array([columns / self.width, rows / self.height])).astype(np.float32)

    def mask_to_grid(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Share of each valid feature cell that a photo mask covers: (H, W) bool → `grid_hw` in [0, 1]."""
        mask = mask[self.top : self.top + self.height, self.left : self.left + self.width]
        rows, columns = self.resized_hw
        grid_rows, grid_columns = self.grid_hw
        cell = self.stride / columns * self.width, self.stride / rows * self.height
        if min(cell) >= 1.0:
            # Summed-area table: exact area coverage, so that a region of a single pixel is not lost.
            table = cv2.integral(mask.astype(np.uint8)).astype(np.float64)
            x = np.minimum(np.arange(grid_columns + 1) * cell[0], self.width)
            y = np.minimum(np.arange(grid_rows + 1) * cell[1], self.height)
            corners = _sample_bilinear(table, y, x)
            area = corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]
            full = np.outer(np.diff(y), np.diff(x))
            return np.clip(area / np.maximum(full, 1e-9), 0.0, 1.0).astype(np.float32)
        frame = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
        padded = np.zeros((grid_rows * self.stride, grid_columns * self.stride), np.float32)
        padded[:rows, :columns] = frame
        blocks = padded.reshape(grid_rows, self.stride, grid_columns, self.stride)
        return blocks.mean(axis=(1, 3)).astype(np.float32)

    def grid_to_photo(
        self, values: NDArray[np.float32], window: Window | None = None
    ) -> NDArray[np.float32]:
        """Bilinear map of a feature or logit grid to the photo.

        Args:
            values: Grid of the whole square, shape (n, n), or of its valid feature cells, shape `grid_hw`.
            window: Part of the photo wanted; all that SAM sees if None.

        Returns:
            Values of the photo's pixels, or the window's, float32.
        """
        cells_per_pixel = self._cells_per_pixel(values.shape)
        rows, columns = self.resized_hw
        step_x, step_y = (
            columns / self.width * cells_per_pixel,
            rows / self.height * cells_per_pixel,
        )
        x0, y0, x1, y1 = window or self.window
        # Photo pixel (x, y) reads the grid at ((x + 0.5) * step - 0.5), the rule of aligned pixel areas.
        to_grid = np.array(
            [
                [step_x, 0.0, (x0 - self.left + 0.5) * step_x - 0.5],
                [0.0, step_y, (y0 - self.top + 0.5) * step_y - 0.5],
            ]
        )
        return cv2.warpAffine(
            np.ascontiguousarray(values, np.float32),
            to_grid,
            (x1 - x0, y1 - y0),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def window_of_cells(self, cells: NDArray[np.bool_]) -> Window | None:
        """The part of the photo that some cells of a grid can influence by interpolation; None if there are none."""
        columns = np.flatnonzero(cells.any(axis=0))
        rows = np.flatnonzero(cells.any(axis=1))
        if not columns.size:
            return None
        per_pixel = self._cells_per_pixel(cells.shape)
        resized_rows, resized_columns = self.resized_hw
        step_x = resized_columns / self.width * per_pixel
        step_y = resized_rows / self.height * per_pixel
        x0 = max(0, math.floor((columns[0] - 1) / step_x))
        y0 = max(0, math.floor((rows[0] - 1) / step_y))
        x1 = min(self.width, math.ceil((columns[-1] + 2) / step_x))
        y1 = min(self.height, math.ceil((rows[-1] + 2) / step_y))
        if x0 >= x1 or y0 >= y1:
            return None
        return x0 + self.left, y0 + self.top, x1 + self.left, y1 + self.top

    def _cells_per_pixel(self, shape: tuple[int, ...]) -> float:
        """Grid cells per SAM-frame pixel, for a valid feature grid or any grid of the square."""
        return 1.0 / self.stride if shape == self.grid_hw else shape[0] / self.side


def _sample_bilinear(
    table: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`table` at the fractional rows `y` and columns `x`, shape (len(y), len(x))."""
    y0 = np.minimum(y.astype(int), table.shape[0] - 2)
    x0 = np.minimum(x.astype(int), table.shape[1] - 2)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    upper = table[np.ix_(y0, x0)] * (1 - fx) + table[np.ix_(y0, x0 + 1)] * fx
    lower = table[np.ix_(y0 + 1, x0)] * (1 - fx) + table[np.ix_(y0 + 1, x0 + 1)] * fx
    return upper * (1 - fy) + lower * fy


def window_of_mask(mask: NDArray[np.bool_], margin: int = 0) -> Window | None:
    """The smallest window that holds a mask and `margin` pixels around it, cut at the border; None if empty."""
    columns = np.flatnonzero(mask.any(axis=0))
    if not columns.size:
        return None
    rows = np.flatnonzero(mask.any(axis=1))
    height, width = mask.shape
    return (
        max(0, int(columns[0]) - margin),
        max(0, int(rows[0]) - margin),
        min(width, int(columns[-1]) + 1 + margin),
        min(height, int(rows[-1]) + 1 + margin),
    )


def pieces_of_mask(mask: NDArray[np.bool_]) -> list[tuple[Window, NDArray[np.bool_]]]:
    """The connected pieces of a mask (8 neighbours) in reading order: the window of each, and the piece inside it.

    Costs the part of the photo that the mask covers, not the photo.
    """
    window = window_of_mask(mask)
    if window is None:
        return []
    left, top, right, bottom = window
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask[top:bottom, left:right].astype(np.uint8), connectivity=8
    )
    pieces = []
    for label in range(1, count):
        x, y, width, height, _ = (int(value) for value in stats[label])
        inside = labels[y : y + height, x : x + width] == label
        pieces.append(((left + x, top + y, left + x + width, top + y + height), inside))
    return pieces
