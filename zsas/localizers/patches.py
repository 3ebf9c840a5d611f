"""Patch features of tiles, and their comparison with two text vectors: shared by the CLIP localizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.declare import Values
from zsas.frames import Window, resize_map, slices
from zsas.held import Held
from zsas.lazy import F, torch
from zsas.localizers.base import Context, MapSettings, Scored, map_stage, top_mean
from zsas.localizers.detail import detail_factor
from zsas.localizers.pictures import pictures_of
from zsas.localizers.tiles import (
    ONCE,
    Tile,
    TileSettings,
    View,
    Views,
    blend_weight,
    looked_at,
    plan_tiles,
    tiles_wanted,
)
from zsas.stages import Stage

if TYPE_CHECKING:
    from torch import Tensor


TILES_AT_ONCE = 16
"""Number of windows that pass through the vision tower together."""

TILE_CORRECTION = 0.4
"""The highest tile's logit is lowered by this factor times log(number of similar tiles); see `of_tiles`."""

Seen = TypeVar("Seen")

EncodeView = Callable[[Sequence[NDArray[np.uint8]], View], "tuple[Tensor, ...]"]
"""Windows of images, uint8 RGB, and a view → patch features (B, L, g_h, g_w, D), image embeddings (B, D), and, where
other images are compared by something else than these features, L2-normalised tokens (B, L', g_h, g_w, W)."""


@dataclass(frozen=True)
class TileFeatures(Held):
    """The features of one tile, before they are compared with text.

    Attributes:
        window: XYXY in image pixels, x1 and y1 exclusive.
        layers: L2-normalised patch features in the space of the text vectors, by test-time views and layers,
            fp16 (K, L, g_h, g_w, D); fp16 is storage only, every sum is in fp32.
        image: L2-normalised embedding of the tile, fp32 (D,).
        frame_hw: Height and width of the CLIP frame in pixels.
        inside: Cells of the grid inside the region of interest, bool (g_h, g_w); None for all of them.
        tokens: L2-normalised tokens of the first view by which images are compared with each other, fp16
            (L', g_h, g_w, W); None if the patch features are used for that.
    """

    window: Window
    layers: Tensor
    image: Tensor
    frame_hw: tuple[int, int]
    inside: NDArray[np.bool_] | None = None
    tokens: Tensor | None = None

    @property
    def compared(self) -> Tensor:
        """The features by which images are compared with each other, L2-normalised, fp16 (L', g_h, g_w, W).

        Layers trained to tell anomalous from normal have lost much of what distinguishes one normal place from another,
        so localizers with such layers keep `tokens` for this.
        """
        return self.layers[0] if self.tokens is None else self.tokens


@dataclass(frozen=True)
class PatchFeatures(Held):
    """The features of one image: those of its tiles.

    Attributes:
        tiles: At least one tile.
        wanted: How many tiles there would be without `max_tiles`.
        enlarged: By which factor the image was enlarged (interpolated) before zsas got it; it was encoded at 1 / factor
            of its size.
        pictures: Number of pictures in a mosaic, each encoded by itself; 1 for an ordinary image.
    """

    tiles: tuple[TileFeatures, ...]
    wanted: int = 1
    enlarged: int = 1
    pictures: int = 1


def seen(values: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """The values of the cells that are looked at, in a row."""
    return values.ravel() if inside is None else values[inside]


@dataclass(frozen=True)
class ViewPlan:
    """How a localizer sees a tile.

    Attributes:
        frame: Side of its square frame, in pixels.
        patch: Side of a patch, in pixels of the frame.
        tta: For each test-time view its size as a fraction of the frame, and whether it is mirrored.
        views: Which of the views are used.
    """

    frame: int
    patch: int
    tta: Sequence[tuple[float, bool]] = ONCE
    views: Views = "auto"


def encode_tiles(
    images: Sequence[NDArray[np.uint8]],
    settings: TileSettings,
    encode_view: EncodeView,
    plan: ViewPlan,
    insides: Sequence[NDArray[np.bool_] | None] = (),
) -> list[PatchFeatures]:
    """`look_at_tiles` with patch features that are compared with text: `encode_view` encodes windows of images."""

    def look(windows: Sequence[NDArray[np.uint8]], view: View) -> list[tuple[Tensor, ...]]:
        layers, embeddings, *tokens = encode_view(windows, view)
        turned = [one.flip(3) if view.mirrored else one for one in (layers, *tokens)]
        return list(zip(turned[0], embeddings, *turned[1:], strict=True))

    def joined(window: Window, views: Sequence[tuple[Tensor, ...]]) -> TileFeatures:
        return _joined(window, views, plan.patch)

    return look_at_tiles(images, settings, look, joined, plan, insides)


def look_at_tiles(
    images: Sequence[NDArray[np.uint8]],
    settings: TileSettings,
    look: Callable[[Sequence[NDArray[np.uint8]], View], Sequence[Seen]],
    joined: Callable[[Window, Sequence[Seen]], TileFeatures],
    plan: ViewPlan,
    insides: Sequence[NDArray[np.bool_] | None] = (),
) -> list[PatchFeatures]:
    """Features of every tile of every image; windows and views of one size go through the vision tower together.

    Args:
        images: uint8 RGB (H, W, 3), of any sizes.
        settings: How images are divided into tiles.
        look: Encodes windows of images, uint8 RGB, in one view; one answer for each window.
        joined: The features of a tile from its window and what is seen in its views.
        plan: The views.
        insides: The region of interest of each image, bool (H, W), None for the whole image; tiles without any are
            left out.
    """
    # An enlarged image has no finer detail; its tiles would show a coarse grain that CLIP has never seen.
    factors = [detail_factor(image) if settings.tiles == "auto" else 1 for image in images]
    pictures = [_pictures(image, settings) for image in images]
    plans = [_tiles(*one, settings, plan) for one in zip(pictures, factors, strict=True)]
    if insides:
        plans = [looked_at(tiles, inside) for tiles, inside in zip(plans, insides, strict=True)]
    found = _each_view(images, plans, look)
    return [
        PatchFeatures(
            tuple(
                joined(tile.window, [found[i, j][k] for k in range(len(tile.views))])
                for j, tile in enumerate(plans[i])
            ),
            sum(
                tiles_wanted((y1 - y0) // factor, (x1 - x0) // factor, settings, plan.frame)
                for x0, y0, x1, y1 in windows
            ),
            factor,
            len(windows),
        )
        for i, (factor, windows) in enumerate(zip(factors, pictures, strict=True))
    ]


def _pictures(image: NDArray[np.uint8], settings: TileSettings) -> tuple[Window, ...]:
    """The pictures of a mosaic (XYXY), under `tiles="auto"` and if `max_tiles` allows; else the whole image."""
    pictures = pictures_of(image) if settings.tiles == "auto" else ()
    whole = (0, 0, image.shape[1], image.shape[0])
    return pictures if 1 < len(pictures) <= settings.max_tiles else (whole,)


def _tiles(
    pictures: Sequence[Window], factor: int, settings: TileSettings, plan: ViewPlan
) -> tuple[Tile, ...]:
    """The tiles of an image that consists of some pictures, enlarged by a factor."""
    each = replace(settings, max_tiles=max(1, settings.max_tiles // len(pictures)))
    views = "one" if plan.views == "auto" and len(pictures) > 1 else plan.views
    found: list[Tile] = []
    for picture in pictures:
        x0, y0, x1, y1 = picture
        size = (y1 - y0) // factor, (x1 - x0) // factor
        found += [
            replace(tile, window=_enlarged(tile.window, factor, picture))
            for tile in plan_tiles(*size, each, plan.frame, plan.patch, plan.tta, views)
        ]
    return tuple(found)


def _each_view(
    images: Sequence[NDArray[np.uint8]],
    plans: Sequence[Sequence[Tile]],
    look: Callable[[Sequence[NDArray[np.uint8]], View], Sequence[Seen]],
) -> dict[tuple[int, int], dict[int, Seen]]:
    """Every view of every tile: (number of the image, number of the tile) → number of the view → answer of `look`.

    Windows of one view go through the vision tower together.
    """
    jobs: dict[tuple[int, View], list[tuple[int, int]]] = {}
    for i, tiles in enumerate(plans):
        for j, tile in enumerate(tiles):
            for k, view in enumerate(tile.views):
                jobs.setdefault((k, view), []).append((i, j))
    found: dict[tuple[int, int], dict[int, Seen]] = {}
    for (k, view), places in jobs.items():
        for start in range(0, len(places), TILES_AT_ONCE):
            part = places[start : start + TILES_AT_ONCE]
            windows = [np.ascontiguousarray(images[i][slices(plans[i][j].window)]) for i, j in part]
            seen = look(windows, view)
            for place, one in zip(part, seen, strict=True):
                found.setdefault(place, {})[k] = one
    return found


def _enlarged(window: Window, factor: int, picture: Window) -> Window:
    """A window of a picture at 1 / factor of its size, as a window of the image (XYXY).

    Where it touches the right or lower border of the small picture, it is extended to the border of the large one.
    """
    x0, y0, x1, y1 = window
    left, top, right, bottom = picture
    return (
        left + x0 * factor,
        top + y0 * factor,
        right if x1 == (right - left) // factor else left + x1 * factor,
        bottom if y1 == (bottom - top) // factor else top + y1 * factor,
    )


def _joined(window: Window, views: Sequence[tuple[Tensor, ...]], patch: int) -> TileFeatures:
    """The features of a tile from its views, all resampled to the grid of the first view.

    Logits are linear in the features, so the views can be resampled before the text vectors are applied.
    """
    grid = (int(views[0][0].shape[1]), int(views[0][0].shape[2]))
    layers = torch.stack([to_grid(one[0], grid).half() for one in views])
    embedding = F.normalize(torch.stack([one[1] for one in views]).sum(0), dim=-1)
    frame = (grid[0] * patch, grid[1] * patch)
    tokens = next((one.half().contiguous() for one in views[0][2:]), None)
    return TileFeatures(window, layers, embedding, frame, tokens=tokens)


def to_grid(layers: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patch features (L, g_h, g_w, D), resampled to another grid (rows, columns), bilinear."""
    if tuple(layers.shape[1:3]) == grid:
        return layers
    wide = F.interpolate(
        layers.permute(0, 3, 1, 2), size=grid, mode="bilinear", align_corners=False
    )
    return wide.permute(0, 2, 3, 1)


def enlarged(cells: Tensor, frame_hw: tuple[int, int], *, corners: bool = False) -> Tensor:
    """Values of cells (K, L, g_h, g_w), brought to a frame, bilinear.

    Args:
        cells: On the patch grid.
        frame_hw: Height and width of the frame in pixels.
        corners: Whether the centres of the outermost cells come to lie on the frame's corners, as in public code of
            APRIL-GAN, which moves what is near a border by half a patch; otherwise they lie where the patches are.
    """
    return F.interpolate(cells, size=frame_hw, mode="bilinear", align_corners=corners)


def text_map(
    features: TileFeatures,
    states: Tensor,
    scale: float,
    blur: float = 0.0,
    *,
    corners: bool = False,
) -> NDArray[np.float32]:
    """Map_a of one tile in the CLIP frame.

    Per layer: scale × cosine with the two text vectors, bilinear to the frame on the logits, softmax over
    {normal, anomalous}, the anomalous channel; then the mean over the layers. Where there are several test-time views,
    a layer's logits are those of their mean probability, patch by patch.

    Args:
        features: Of one tile.
        states: The two text vectors, normal and anomalous, (2, D).
        scale: Factor on the cosines.
        blur: Standard deviation of a Gaussian blur, in pixels of a 518 px square; 0 for none.
        corners: See `enlarged`.

    Returns:
        float32 (*frame_hw) in [0, 1].
    """
    with torch.inference_mode():
        # A softmax over two logits is the sigmoid of their difference, so one channel is enough.
        difference = scale * (
            features.layers.float() @ (states[1] - states[0]).to(features.layers.device)
        )
        logits = difference[0]
        if len(difference) > 1:
            logits = torch.logit(difference.sigmoid().mean(0), eps=1e-6)
        logits = enlarged(logits[:, None], features.frame_hw, corners=corners)
        values = logits.sigmoid().mean(dim=(0, 1)).cpu().numpy()
    return np.clip(blurred(values, blur), 0.0, 1.0)


def blurred(values: NDArray[np.float32], blur: float) -> NDArray[np.float32]:
    """A map in its frame after its blur.

    Args:
        values: float32 (h, w).
        blur: Standard deviation of a Gaussian in pixels of a square of 518 × 518; 0 for none.
    """
    if blur <= 0:
        return values
    return np.asarray(cv2.GaussianBlur(values, (0, 0), blur * math.sqrt(values.size) / 518))


def image_probability(embedding: Tensor, states: Tensor, logit_scale: float) -> float:
    """CLIP's zero-shot score of a whole image or tile: the anomalous part of a softmax, in [0, 1].

    Args:
        embedding: L2-normalised image embedding, (D,).
        states: The two text vectors, normal and anomalous, (2, D).
        logit_scale: Factor on the cosines.
    """
    with torch.inference_mode():
        difference = logit_scale * (states[1] - states[0]).to(embedding.device) @ embedding
        return float(difference.sigmoid())


def blend(
    maps: Sequence[NDArray[np.float32]], windows: Sequence[Window], height: int, width: int
) -> NDArray[np.float32]:
    """One map of the image from the maps of its tiles, weighted by `blend_weight` where tiles overlap.

    Args:
        maps: float32, each in a frame of its own.
        windows: Place of each tile, XYXY in image pixels.
        height: Of the image, pixels.
        width: Of the image, pixels.

    Returns:
        float32 (H, W); 0 where there is no tile.
    """
    if len(maps) == 1 and windows[0] == (0, 0, width, height):
        return resize_map(maps[0], height, width)
    total = np.zeros((height, width), np.float32)
    weights = np.zeros((height, width), np.float32)
    for one, (x0, y0, x1, y1) in zip(maps, windows, strict=True):
        weight = blend_weight(y1 - y0, x1 - x0)
        total[y0:y1, x0:x1] += weight * resize_map(one, y1 - y0, x1 - x0)
        weights[y0:y1, x0:x1] += weight
    return np.divide(total, weights, out=total, where=weights > 0)


def of_tiles(scores: Sequence[float]) -> float:
    """The score of an image from the scores of its tiles: the highest, corrected for the number of tiles.

    The highest of n similar scores lies above their mean by chance alone (extreme values), so its logit is lowered by
    `TILE_CORRECTION` · log(n). The number n of similar tiles is the sum of all odds over the highest odds: tiles that
    show plain background around an object hardly count.

    Args:
        scores: At least one, in [0, 1].

    Returns:
        In [0, 1]; the score itself for one tile.
    """
    if len(scores) == 1:
        return scores[0]
    odds = np.clip(scores, 1e-6, 1 - 1e-6)
    odds = odds / (1 - odds)
    alike = float(odds.sum() / odds.max())
    lowered = float(odds.max()) * alike**-TILE_CORRECTION
    return lowered / (1 + lowered)


def score_by_text(
    features: PatchFeatures,
    states: Tensor,
    *,
    scale: float,
    logit_scale: float,
    values: Values,
    context: Context,
    how: str,
    corners: bool = False,
) -> Scored:
    """Anomaly map and evidence from features in the space of the text vectors.

    The most anomalous tile decides the image's score, so that a large image does not dilute a small defect; see
    `of_tiles` for the correction by the number of tiles.

    Args:
        features: Of one image.
        states: The two text vectors, normal and anomalous, (2, D).
        scale: Factor on the patches' cosines.
        logit_scale: Factor on the image embedding's cosines.
        values: `blur` is read.
        context: The image, for its size.
        how: See `zsas.localizers.base.map_stage`.
        corners: See `enlarged`.
    """
    blur = values.of(MapSettings).blur
    maps = [text_map(tile, states, scale, blur, corners=corners) for tile in features.tiles]
    windows = [tile.window for tile in features.tiles]
    anomaly_map = blend(maps, windows, *context.image.shape[:2])
    anomaly_map.setflags(write=False)
    evidence = {
        "map": of_tiles([top_mean(one) for one in maps]),
        "clip": of_tiles([image_probability(t.image, states, logit_scale) for t in features.tiles]),
    }
    return Scored(anomaly_map, evidence, (tiled_stage(anomaly_map, how, features),))


def tiled_stage(anomaly_map: NDArray[np.float32], how: str, features: PatchFeatures) -> Stage:
    """`zsas.localizers.base.map_stage` of a map that was made of tiles, which its caption says."""
    windows = [tile.window for tile in features.tiles]
    if features.enlarged > 1:
        how += f", at 1/{features.enlarged} of the image's size, since it shows nothing finer"
    if features.pictures > 1:
        how += f", in each of the {features.pictures} pictures that the image is put together from"
    if features.wanted > len(windows):
        how += f", in {len(windows)} tiles where {features.wanted} would show it at its own size"
    return map_stage(anomaly_map, how, windows)
