"""Pictures of the stages: heat maps, masks, points and boxes as pure functions on arrays.

Every picture is uint8 RGB. Marks grow with the image, and no meaning is carried by colour alone:
a mask has an outline, a ring is hatched, positives are a plus and negatives a minus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.prompts import Points
from zsas.stages import Area, Boxes, HeatMap, PointMarks, Stage

RGB = tuple[int, int, int]

MASK_COLOUR: RGB = (255, 176, 0)
RING_COLOUR: RGB = (100, 143, 255)
POSITIVE_COLOUR: RGB = (255, 224, 102)
NEGATIVE_COLOUR: RGB = (120, 200, 255)
BOX_COLOUR: RGB = (255, 255, 255)
DARK: RGB = (16, 16, 16)
LIGHT: RGB = (255, 255, 255)


def line_width(shape: Sequence[int]) -> int:
    """Width of a line in pixels for an image: one for each 400 px of its longest side."""
    return max(1, round(max(shape[0], shape[1]) / 400))


def heat_map(
    values: NDArray[np.floating[Any]], low: float = 0.0, high: float = 1.0
) -> NDArray[np.uint8]:
    """Values in a perceptually uniform colour map (inferno).

    The scale is fixed at 0 to 1 unless told otherwise: stretched to its own minimum and maximum,
    the map of a flawless part would look as alarming as that of a broken one.

    Args:
        values: float, shape = (H, W).
        low: The value of the darkest colour.
        high: The value of the brightest colour.
    """
    share = (np.nan_to_num(np.asarray(values, np.float32)) - low) / max(high - low, 1e-12)
    levels = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return _rgb(cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB))


def heat_overlay(
    image: NDArray[np.uint8],
    values: NDArray[np.floating[Any]],
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """A heat map over a grey copy of the image.

    Args:
        image: uint8 RGB, shape = (H, W, 3).
        values: float, shape = (H, W), [0, 1].
        mask: bool, shape = (H, W), outlined on top.
    """
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    picture = _rgb(cv2.addWeighted(heat_map(values), 0.6, grey, 0.4, 0))
    return picture if mask is None else outline(picture, mask)


def colour_bar(width: int) -> NDArray[np.uint8]:
    """The colour scale of heat maps with its two end values, as a strip.

    Args:
        width: Pixels.

    Returns:
        uint8 RGB, shape = (h, width, 3); h grows with the width.
    """
    height = max(6, round(width / 40))
    ramp = np.repeat(np.linspace(0, 1, width, dtype=np.float32)[None], height, axis=0)
    words = ("0.00", "fixed scale", "1.00")
    scale, font = min(2.0, width / 640), cv2.FONT_HERSHEY_SIMPLEX
    label = np.full((max(8, round(30 * scale)), width, 3), 255, np.uint8)
    sizes = [cv2.getTextSize(word, font, scale * 0.7, 1)[0][0] for word in words]
    gap = max(2, round(6 * scale))
    left = (gap, (width - sizes[1]) // 2, width - sizes[2] - gap)
    thick = max(1, round(scale * 1.4))
    if scale >= 0.2:
        for word, x in zip(words, left, strict=True):
            place = (x, round(22 * scale))
            cv2.putText(label, word, place, font, scale * 0.7, DARK, thick, cv2.LINE_AA)
    return np.concatenate([heat_map(ramp), label])


def outline(
    picture: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    colour: RGB = MASK_COLOUR,
    width: int | None = None,
) -> NDArray[np.uint8]:
    """A copy with the border of the mask as a coloured line in a dark one, seen on any ground."""
    picture = picture.copy()
    width = width or line_width(picture.shape)
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, contours, -1, DARK, width + 2, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, colour, width, cv2.LINE_AA)
    return picture


def mask_overlay(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """The image with a tinted, outlined mask.

    Args:
        image: uint8 RGB, shape = (H, W, 3).
        mask: bool, shape = (H, W).
        inside: The region of interest, bool, shape = (H, W); pixels outside are darkened.
    """
    picture = image if inside is None else spot(image, inside)
    return outline(_tint(picture, mask, MASK_COLOUR, 0.35), mask)


def spot(picture: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A copy in which all but a mask, bool (H, W), is darkened, with a light line between."""
    return outline(_tint(picture, ~inside, DARK, 0.6), inside, LIGHT)


def draw_points(picture: NDArray[np.uint8], points: Points) -> NDArray[np.uint8]:
    """A copy with positives as a plus and negatives as a minus; a person's clicks sit in a square.

    Args:
        picture: uint8 RGB, shape = (H, W, 3).
        points: (x, y) in pixels of the picture.
    """
    picture = picture.copy()
    width = line_width(picture.shape)
    arm = 5 * width
    for (x, y), label, source in zip(points.xy, points.labels, points.source, strict=True):
        centre = (round(float(x)), round(float(y)))
        colour = POSITIVE_COLOUR if label == 1 else NEGATIVE_COLOUR
        lines = [((-arm, 0), (arm, 0))]
        if label == 1:
            lines.append(((0, -arm), (0, arm)))
        for shade, thick in ((DARK, 2 * width + 2), (colour, 2 * width)):
            edge = max(1, thick - width)
            if source == "click":
                corner, opposite = (
                    _shift(centre, -2 * arm, -2 * arm),
                    _shift(centre, 2 * arm, 2 * arm),
                )
                cv2.rectangle(picture, corner, opposite, shade, edge, cv2.LINE_AA)
            else:
                cv2.circle(picture, centre, 2 * arm, shade, edge, cv2.LINE_AA)
            for start, end in lines:
                cv2.line(
                    picture, _shift(centre, *start), _shift(centre, *end), shade, thick, cv2.LINE_AA
                )
    return picture


def draw_boxes(picture: NDArray[np.uint8], boxes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """A copy with boxes as light lines in dark ones.

    Args:
        picture: uint8 RGB, shape = (H, W, 3).
        boxes: float, shape = (n, 4), xyxy in pixels of the picture, x1 and y1 exclusive.
    """
    picture = picture.copy()
    width = line_width(picture.shape)
    for x0, y0, x1, y1 in np.asarray(boxes, np.float32).reshape(-1, 4):
        corners = (round(float(x0)), round(float(y0))), (round(float(x1)) - 1, round(float(y1)) - 1)
        cv2.rectangle(picture, *corners, DARK, 2 * width + 2, cv2.LINE_AA)
        cv2.rectangle(picture, *corners, BOX_COLOUR, 2 * width, cv2.LINE_AA)
    return picture


def stage(image: NDArray[np.uint8], found: Stage) -> NDArray[np.uint8]:
    """The picture of a stage: its layers over the image, from below.

    Args:
        image: uint8 RGB, shape = (H, W, 3).
        found: The stage; a heat map among its layers adds a colour bar, so that the picture is higher than the image.
    """
    picture, bar = image, None
    for layer in found.layers:
        if isinstance(layer, HeatMap):
            picture = heat_overlay(image, layer.values)
            bar = colour_bar(picture.shape[1])
        elif isinstance(layer, Area):
            picture = area(picture, layer)
        elif isinstance(layer, PointMarks):
            picture = draw_points(picture, layer.points)
        elif isinstance(layer, Boxes):
            picture = draw_boxes(picture, layer.xyxy)
    return picture if bar is None else np.concatenate([picture, bar])


def area(picture: NDArray[np.uint8], layer: Area) -> NDArray[np.uint8]:
    """A copy with a mask drawn in its style."""
    mask, width = layer.mask, line_width(picture.shape)
    if layer.style == "hatch":
        rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
        hatch = mask & ((rows + columns) % (6 * width) < 3 * width)
        return _tint(_tint(picture, mask, RING_COLOUR, 0.25), hatch, RING_COLOUR, 0.6)
    if layer.style == "spot":
        return spot(picture, mask)
    opacity = {"fill": 0.35, "faint": 0.15, "line": 0.0}[layer.style]
    return outline(_tint(picture, mask, MASK_COLOUR, opacity) if opacity else picture, mask)


def _shift(point: tuple[int, int], right: int, down: int) -> tuple[int, int]:
    return point[0] + right, point[1] + down


def _tint(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: RGB, opacity: float
) -> NDArray[np.uint8]:
    """A copy in which the pixels of the mask are mixed with a colour."""
    levels = np.arange(256, dtype=np.float32)[:, None] * (1 - opacity)
    table = np.rint(levels + opacity * np.array(colour, np.float32)).astype(np.uint8)
    mixed = cv2.LUT(picture, table[None])
    return _rgb(cv2.copyTo(mixed, np.ascontiguousarray(mask, np.uint8), picture.copy()))


def _rgb(picture: Any) -> NDArray[np.uint8]:
    """OpenCV's types cannot say that uint8 in gives uint8 out."""
    return np.asarray(picture, np.uint8)
