"""PPG: positive points from CLIP, negative points from the features of eq. 4 (SAM's by default), equations 1 to 8.

Pure functions on arrays. Maps, masks and points are in the frame of the original image; features are the valid grid
cells of a backbone in its own frame (see `zsas.frames`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, setting
from zsas.frames import (
    Piece,
    SamFrame,
    Window,
    around,
    parts_with_margin,
    pieces_of_mask,
    reference_scale,
    slices,
    window_of_mask,
)

SpacingMode = Literal["distance", "stride"]
KernelShape = Literal["ellipse", "rectangle", "cross"]
Similarity = Literal["mean", "nearest"]
PointFeatures = Literal["sam", "dinov2", "resnet"]
WHOSE: dict[PointFeatures, str] = {"sam": "SAM's", "dinov2": "DINOv2's", "resnet": "a ResNet's"}


@dataclass(frozen=True)
class PointSettings(SettingsGroup, key="points", title="Region and points"):
    """Region → ring → point prompts."""

    k_positive: int = setting(
        3,
        "k positive",
        "How many positive points are taken where the map is highest in the region.",
        low=1,
        high=20,
        step=1,
        symbol="k, P_h",
    )
    k_negative: int = setting(
        3,
        "k negative",
        "How many negative points are taken from the ring, where the point features differ most from the region's.",
        low=1,
        high=20,
        step=1,
        symbol="k, P_l",
    )
    negatives: bool = setting(True, "Negative points", "Use negative points.", symbol="P_l")
    spacing: float = setting(
        400.0,
        "Point spacing",
        "How far apart points of one label are kept; read as the spacing mode says.",
        low=0.0,
        high=2000.0,
        step=10.0,
        unit="px at the reference size",
        symbol="400",
    )
    spacing_mode: SpacingMode = setting(
        "stride",
        "Spacing mode",
        "Spacing is a distance between points, or a stride in the list of pixels ranked by score.",
        symbol="400",
    )
    similarity: Similarity = setting(
        "mean",
        "Similarity",
        "Each ring cell is compared with the mean feature of the region, or with the nearest of its features.",
        symbol="Map_s",
    )
    point_features: PointFeatures = setting(
        "sam",
        "Point features",
        "Whose features decide where in the ring the negative points lie: those of SAM, DINOv2 or a ResNet.",
        symbol="F",
        encoding=True,
    )
    kernel_shape: KernelShape = setting(
        "ellipse",
        "Kernel shape",
        "Shape of the dilation that makes the ring around the region.",
        symbol="N_a",
    )
    kernel_size: int = setting(
        25,
        "Kernel size",
        "Width and height of the dilation that makes the ring around the region.",
        low=3,
        high=151,
        step=1,
        unit="px at the reference size",
        symbol="N_a",
    )
    reference_size: int = setting(
        1024,
        "Reference size",
        "Spacing and kernel are pixels of the image scaled to this longest side.",
        low=0,
        high=4096,
        step=1,
        unit="px",
        zero="the image's own pixels",
        floor=64,
    )


_SHAPES: dict[KernelShape, int] = {
    "ellipse": cv2.MORPH_ELLIPSE,
    "rectangle": cv2.MORPH_RECT,
}
_LARGEST_ELLIPSE = 64
"""Ellipses larger than this, in pixels, are made by a distance transform, whose time does not grow with their size."""


def surrounding_ring(
    region: NDArray[np.bool_],
    shape: KernelShape,
    size: int,
    pieces: Sequence[Piece] | None = None,
) -> NDArray[np.bool_]:
    """N_a = dilate(S_a) − S_a, eq. 3.

    Args:
        region: S_a, bool (H, W).
        shape: Kernel shape.
        size: Kernel width and height in image pixels, at least 1.
        pieces: The connected pieces of the region, where they are known.

    Returns:
        N_a, bool (H, W); empty if the region is empty or fills the image.
    """
    ring = np.zeros(region.shape, bool)
    pieces = pieces_of_mask(region) if pieces is None else pieces
    for part in parts_with_margin(pieces, size, region.shape):
        ring[part.slices] |= _dilated(part.mask, shape, size) & ~region[part.slices]
    return ring


def ring_of(piece: Piece, region: NDArray[np.bool_], shape: KernelShape, size: int) -> Piece:
    """The ring N_a of one piece of a region; no other piece lies in it."""
    (part,) = parts_with_margin([piece], size, region.shape)
    return part._replace(mask=_dilated(part.mask, shape, size) & ~region[part.slices])


def _dilated(mask: NDArray[np.bool_], shape: KernelShape, size: int) -> NDArray[np.bool_]:
    """A mask, bool (H, W), dilated in a time that grows at most with the kernel's width, not with its area."""
    inside = mask.view(np.uint8)
    if shape == "ellipse" and size > _LARGEST_ELLIPSE:
        distance = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.asarray(distance <= size / 2)
    if shape == "cross":  # two bars, each of which OpenCV takes apart
        bars = (cv2.getStructuringElement(cv2.MORPH_RECT, bar) for bar in ((size, 1), (1, size)))
        across, down = (cv2.dilate(inside, bar) for bar in bars)
        return np.asarray((across | down) > 0)
    kernel = cv2.getStructuringElement(_SHAPES[shape], (size, size))
    return np.asarray(cv2.dilate(inside, kernel) > 0)


def kernel_size_in_image(kernel_size: int, reference_size: int, height: int, width: int) -> int:
    """The kernel size in image pixels, at least 3 so that a ring exists."""
    return max(3, round(kernel_size * reference_scale(height, width, reference_size)))


def spaced_top_points(
    score: NDArray[np.float32],
    where: NDArray[np.bool_],
    k: int,
    spacing: float,
    mode: SpacingMode,
) -> NDArray[np.float32]:
    """The k highest pixels of `score` inside `where`, kept apart: Top_k of eq. 2, and of eq. 7 on the negated score.

    Args:
        score: Shape (H, W).
        where: Allowed pixels, bool (H, W).
        k: Number of points wanted.
        spacing: `distance`: smallest distance between two points in pixels. `stride`: points are the ranks
            0, spacing, 2 · spacing … of the allowed pixels; in an area too small for k such steps the stride is
            shortened, so that k points are found wherever there are k pixels.
        mode: How `spacing` is read.

    Returns:
        Points (x, y), float32 (n, 2), n ≤ k, best first; none if `where` is empty.
    """
    window = window_of_mask(where)
    if window is None:
        return np.zeros((0, 2), np.float32)
    x0, y0, *_ = window
    ys, xs = np.nonzero(where[slices(window)])
    ys, xs = ys + y0, xs + x0
    values = score[ys, xs]
    if mode == "stride":
        stride = max(1, min(round(spacing), ys.size // k))
        chosen = _at_ranks(values, list(range(0, min(stride * k, ys.size), stride)))
        return np.stack([xs[chosen], ys[chosen]], axis=1).astype(np.float32)
    free = np.ones(ys.size, bool)
    points: list[tuple[int, int]] = []
    while len(points) < k and free.any():
        best = int(np.argmax(np.where(free, values, -np.inf)))
        points.append((int(xs[best]), int(ys[best])))
        apart = (xs - xs[best]) ** 2 + (ys - ys[best]) ** 2 >= spacing**2
        free &= apart
        free[best] = False
    return np.array(points, np.float32)


def _at_ranks(values: NDArray[np.float32], ranks: Sequence[int]) -> list[int]:
    """Indices of the values of these ranks (0 is the highest; of equal values the earlier), without sorting."""
    falling = -values
    ordered = np.partition(falling, ranks)
    found = []
    for rank in ranks:
        before = np.count_nonzero(falling < ordered[rank])
        found.append(int(np.flatnonzero(falling == ordered[rank])[rank - before]))
    return found


def ring_similarity(
    features: NDArray[np.float32],
    region: Piece,
    frame: SamFrame,
    similarity: Similarity = "mean",
    window: Window | None = None,
) -> NDArray[np.float32]:
    """Map_s: cosine similarity of every feature cell with the region's features, eqs 5 and 6.

    F_a is F weighted by the share of each cell that S_a covers, so that a region smaller than a cell still has a
    feature. The map is made for all cells; the ring N_a is applied when points are taken from it.

    Args:
        features: F, features of the valid cells, float32 (C, *frame.grid_hw): SAM's or another backbone's.
        region: S_a, not empty.
        frame: The geometry of the image in that backbone.
        similarity: `mean`: with the mean of the L2-normalised features over S_a. `nearest`: with the most similar
            one among the cells that S_a covers by half, or most.
        window: Part of the image wanted; all of it if None.

    Returns:
        Map_s of the image's pixels, or the window's, float32, in [-1, 1].
    """
    channels = features.shape[0]
    flat = features.reshape(channels, -1)
    # Sums by einsum: the threads of NumPy's BLAS spin on after a product and take the cores from the decoder,
    # whose first call then lasts twice as long.
    length = np.maximum(np.sqrt(np.einsum("cn,cn->n", flat, flat)), 1e-6)
    cover = frame.mask_to_grid(region).ravel()
    if similarity == "mean":
        mean = np.einsum("cn,n->c", flat, cover / length / max(float(cover.sum()), 1e-9))
        mean /= max(float(np.sqrt(np.einsum("c,c->", mean, mean))), 1e-6)
        cosine = np.einsum("c,cn->n", mean, flat) / length
    else:
        flat = flat / length
        inside = flat[:, cover >= min(0.5, float(cover.max()))]
        cosine = (inside.T @ flat).max(axis=0)
    return frame.grid_to_image(cosine.reshape(frame.grid_hw).astype(np.float32), window)


def point_prompts(
    anomaly_map: NDArray[np.float32],
    region: Piece | None,
    ring: Piece | None,
    features: NDArray[np.float32],
    frame: SamFrame,
    settings: PointSettings,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """P = Concat(P_h, P_l), eqs 1 to 8.

    Args:
        anomaly_map: Map_a, float32 (H, W), in [0, 1].
        region: S_a or one component of it; None if it is empty.
        ring: N_a around `region`; None if it is empty.
        features: F, the valid feature cells of SAM or another backbone, float32 (C, *frame.grid_hw).
        frame: The geometry of the image in that backbone.
        settings: k, spacing, similarity and whether negatives are used.

    Returns:
        Points (x, y) in image pixels, float32 (n, 2), and labels int64 (n,), 1 positive and 0 negative; both empty
        if the region is.
    """
    if region is None:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    height, width = anomaly_map.shape
    scale = reference_scale(height, width, settings.reference_size)
    # A stride counts pixels in a list, so it grows with the area; a distance with the side.
    spacing = settings.spacing * (scale**2 if settings.spacing_mode == "stride" else scale)

    def top(score: NDArray[np.float32], where: Piece, k: int) -> NDArray[np.float32]:
        found = spaced_top_points(score, where.mask, k, spacing, settings.spacing_mode)
        return found + np.array(where.window[:2], np.float32)

    # Eq. 2: P_h, the k highest pixels of R_a, which is Map_a inside S_a (eq. 1).
    positive = top(anomaly_map[region.slices], region, settings.k_positive)
    negative = np.zeros((0, 2), np.float32)
    if settings.negatives and ring is not None:
        window = around(region.window, ring.window)
        # Eqs 5 and 6: Map_s, how much each cell of F resembles F_a, the feature of the region.
        map_s = ring_similarity(features, region, frame, settings.similarity, window)
        part = map_s[slices(ring.window, *window[:2])]
        # Eq. 7: P_l, the k pixels of the ring that resemble the region least.
        negative = top(-part, ring, settings.k_negative)
    # Eq. 8: P = Concat(P_h, P_l).
    points = np.concatenate([positive, negative])
    labels = np.concatenate([np.ones(len(positive), np.int64), np.zeros(len(negative), np.int64)])
    return points, labels
