"""Coordinate frames and the conversions between them.

Every public coordinate is (x, y) in pixels of the original image: x to the right, y down, the centre of the first
pixel at (0, 0). Three other frames exist, and only this file knows how they relate:

- the *CLIP frame*: the image squeezed to a square of `resolution` pixels, its aspect ratio given up;
- the *SAM frame*: the image in SAM's square of `side` pixels (1024; 1008 for SAM 3). SAM 1 scales the longest side to
  it and pads at right and bottom; SAM 2 and 3 squash both sides to it;
- SAM's *feature grid* (one cell per `stride` frame pixels: 16, or 14 for SAM 3) and *logit grid* (four logits per cell
  side), both of the square, so that part of them is padding where an image that is not square was padded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_map(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear resize of a map of shape (h, w) to (height, width), pixel centres aligned (CLIP frame → image)."""
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)


def reference_scale(height: int, width: int, reference_side: int) -> float:
    """Image pixels per pixel of an image whose longest side is `reference_side`; 1 if that is 0."""
    return max(height, width) / reference_side if reference_side else 1.0


Window = tuple[int, int, int, int]
"""Part of the image: x0, y0, x1, y1 in pixels, the last two exclusive."""


class Piece(NamedTuple):
    """A part of a mask with its place in the image, so that work on it costs its window and not the whole image.

    Attributes:
        window: Its place, XYXY in image pixels, x1 and y1 exclusive.
        mask: bool, shape = (y1 - y0, x1 - x0); outside of the window nothing belongs to the piece.
    """

    window: Window
    mask: NDArray[np.bool_]

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its window as rows and columns of the image."""
        return slices(self.window)

    def holds(self, pixel: tuple[int, int]) -> bool:
        """Whether a pixel of the image, row and column, belongs to it."""
        x0, y0, x1, y1 = self.window
        row, column = pixel
        return bool(y0 <= row < y1 and x0 <= column < x1 and self.mask[row - y0, column - x0])

    def tight(self) -> Piece | None:
        """The same piece in its smallest window; None if it is empty."""
        inner = window_of_mask(self.mask)
        if inner is None:
            return None
        left, top, *_ = self.window
        x0, y0, x1, y1 = inner
        return Piece((left + x0, top + y0, left + x1, top + y1), self.mask[slices(inner)])

    def seen_in(self, window: Window) -> NDArray[np.bool_]:
        """Its mask in the pixels of another window (XYXY), bool, shape = (y1 - y0, x1 - x0)."""
        x0, y0, x1, y1 = window
        left, top, right, bottom = self.window
        found = np.zeros((y1 - y0, x1 - x0), bool)
        shared = (max(x0, left), max(y0, top), min(x1, right), min(y1, bottom))
        if shared[0] < shared[2] and shared[1] < shared[3]:
            found[slices(shared, x0, y0)] = self.mask[slices(shared, left, top)]
        return found

    def whole(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Its mask of the whole image, bool, shape = (H, W)."""
        return self.seen_in((0, 0, shape[1], shape[0]))


def slices(window: Window, left: int = 0, top: int = 0) -> tuple[slice, slice]:
    """A window as rows and columns of an array whose first pixel is that of the image at (left, top)."""
    x0, y0, x1, y1 = window
    return slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def grown(window: Window, margin: int, shape: tuple[int, ...]) -> Window:
    """A window with `margin` pixels around it, cut at the border of an image of (H, W)."""
    x0, y0, x1, y1 = window
    height, width = shape
    return (
        max(0, x0 - margin),
        max(0, y0 - margin),
        min(width, x1 + margin),
        min(height, y1 + margin),
    )


def around(first: Window, second: Window) -> Window:
    """The smallest window that holds two."""
    return (
        min(first[0], second[0]),
        min(first[1], second[1]),
        max(first[2], second[2]),
        max(first[3], second[3]),
    )


Fit = Literal["pad", "squash"]
"""How an image is put into SAM's square: scaled and padded (SAM, SAM-HQ), or squashed (SAM 2, SAM 3, EdgeTAM)."""


@dataclass(frozen=True)
class SamFrame:
    """The geometry of one image in SAM, or of a crop of it: image coordinates are those of the whole image.

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
        """The part of the image that SAM sees."""
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
        """Points (x, y) in image pixels as points in the SAM frame, float32 (..., 2); a box goes in as (2, 2)."""
        rows, columns = self.resized_hw
        seen = xy - np.array([self.left, self.top]) if self.left or self.top else xy
        return (seen * np.array([columns / self.width, rows / self.height])).astype(np.float32)

    def mask_to_grid(self, piece: Piece) -> NDArray[np.float32]:
        """Fraction of each valid feature cell that a part of a mask covers: float32 `grid_hw`, in [0, 1]."""
        rows, columns = self.resized_hw
        grid_rows, grid_columns = self.grid_hw
        cell = self.stride / columns * self.width, self.stride / rows * self.height
        if min(cell) >= 1.0:
            # Summed-area table: exact area coverage, so that a region of a single pixel is not lost.
            x = np.minimum(np.arange(grid_columns + 1) * cell[0], self.width)
            y = np.minimum(np.arange(grid_rows + 1) * cell[1], self.height)
            corners = self._areas(piece, y, x)
            area = corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]
            full = np.outer(np.diff(y), np.diff(x))
            return np.clip(area / np.maximum(full, 1e-9), 0.0, 1.0).astype(np.float32)
        mask = piece.seen_in(self.window)
        frame = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
        padded = np.zeros((grid_rows * self.stride, grid_columns * self.stride), np.float32)
        padded[:rows, :columns] = frame
        blocks = padded.reshape(grid_rows, self.stride, grid_columns, self.stride)
        return blocks.mean(axis=(1, 3)).astype(np.float32)

    def _areas(
        self, piece: Piece, y: NDArray[np.float64], x: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """How many pixels of a mask lie above row `y[i]` and left of column `x[j]`, shape (len(y), len(x)).

        Rows and columns may be fractions. The summed-area table covers the piece's window alone; outside of the window
        the sums stay what they are at its border.
        """
        left, top, right, bottom = piece.window
        seen = (
            max(left, self.left),
            max(top, self.top),
            min(right, self.left + self.width),
            min(bottom, self.top + self.height),
        )
        if seen[0] >= seen[2] or seen[1] >= seen[3]:
            return np.zeros((len(y), len(x)))
        table = cv2.integral(piece.mask[slices(seen, left, top)].astype(np.uint8))
        y0 = np.minimum(y.astype(int), self.height - 1)
        x0 = np.minimum(x.astype(int), self.width - 1)
        fy, fx = (y - y0)[:, None], (x - x0)[None, :]
        upper_row, lower_row = (
            np.clip(y0 + i + self.top - seen[1], 0, len(table) - 1) for i in (0, 1)
        )
        near, far = (np.clip(x0 + i + self.left - seen[0], 0, table.shape[1] - 1) for i in (0, 1))
        upper = table[np.ix_(upper_row, near)] * (1 - fx) + table[np.ix_(upper_row, far)] * fx
        lower = table[np.ix_(lower_row, near)] * (1 - fx) + table[np.ix_(lower_row, far)] * fx
        return upper * (1 - fy) + lower * fy

    def grid_to_image(
        self, values: NDArray[np.float32], window: Window | None = None
    ) -> NDArray[np.float32]:
        """A feature or logit grid, interpolated (bilinear) to image pixels.

        Args:
            values: Grid of the whole square, shape (n, n), or of its valid feature cells, shape `grid_hw`.
            window: Part of the image to return, XYXY in image pixels; all that SAM sees if None.

        Returns:
            One value a pixel, float32, shape = (height, width) of the window.
        """
        cells_per_pixel = self._cells_per_pixel(values.shape)
        rows, columns = self.resized_hw
        step_x, step_y = (
            columns / self.width * cells_per_pixel,
            rows / self.height * cells_per_pixel,
        )
        x0, y0, x1, y1 = window or self.window
        # Image pixel (x, y) reads the grid at ((x + 0.5) * step - 0.5), the rule of aligned pixel areas.
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
        """The window of the image whose interpolated values depend on the cells that are True; None if there are none.

        Args:
            cells: bool, of the shape of a grid that `grid_to_image` takes.
        """
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


def window_of_mask(mask: NDArray[np.bool_]) -> Window | None:
    """The smallest window that holds a mask, bool (H, W); None if the mask is empty."""
    columns = np.flatnonzero(mask.any(axis=0))
    if not columns.size:
        return None
    rows = np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def piece_of_mask(mask: NDArray[np.bool_]) -> Piece | None:
    """A mask, bool (H, W), as one piece in its smallest window; None if it is empty."""
    height, width = mask.shape
    return Piece((0, 0, width, height), mask).tight()


def pieces_of_mask(mask: NDArray[np.bool_]) -> list[Piece]:
    """The connected pieces of a mask, bool (H, W), with 8 neighbours, in reading order.

    The time it takes depends on the window that the mask covers, not on the size of the image.
    """
    window = window_of_mask(mask)
    if window is None:
        return []
    left, top, *_ = window
    part = mask[slices(window)]
    count, labels = cv2.connectedComponents(part.view(np.uint8), connectivity=8)
    return [
        Piece((left + x0, top + y0, left + x1, top + y1), labels[y0:y1, x0:x1] == label)
        for label, (x0, y0, x1, y1) in enumerate(_boxes(part, labels, count).tolist()[1:], start=1)
    ]


def parts_with_margin(pieces: Sequence[Piece], margin: int, shape: tuple[int, ...]) -> list[Piece]:
    """Pieces with `margin` pixels around each, cut at the border of an image of `shape` (H, W).

    Where the grown windows cover more pixels than one window around all of them, all pieces are joined in that one.
    """
    if not pieces:
        return []
    windows = [grown(piece.window, margin, shape) for piece in pieces]
    whole = reduce(around, windows)
    if sum(map(_area, windows)) < _area(whole):
        pairs = zip(windows, pieces, strict=True)
        return [Piece(window, piece.seen_in(window)) for window, piece in pairs]
    x0, y0, x1, y1 = whole
    mask = np.zeros((y1 - y0, x1 - x0), bool)
    for piece in pieces:
        mask[slices(piece.window, x0, y0)] |= piece.mask
    return [Piece(whole, mask)]


def _area(window: Window) -> int:
    x0, y0, x1, y1 = window
    return (x1 - x0) * (y1 - y0)


def _boxes(mask: NDArray[np.bool_], labels: NDArray[np.int32], count: int) -> NDArray[np.intp]:
    """The tight box of each label, XYXY, shape = (count, 4), from the runs of True pixels in each row of the mask.

    Every run belongs to one label. OpenCV's own statistics take five times as long as its labels.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.bool_)
    padded[:, 1:-1] = mask
    ends = np.flatnonzero(padded[:, 1:] != padded[:, :-1])
    rows, starts = np.divmod(ends[::2], width + 1)
    found = labels[rows, starts]
    boxes = np.empty((count, 4), np.intp)
    boxes[:, :2], boxes[:, 2:] = max(height, width), 0
    np.minimum.at(boxes[:, 0], found, starts)
    np.minimum.at(boxes[:, 1], found, rows)
    np.maximum.at(boxes[:, 2], found, ends[1::2] % (width + 1))
    np.maximum.at(boxes[:, 3], found, rows + 1)
    return boxes
