"""The image with its marks as SVG: sharp at any size, a few kilobytes, and text for those who cannot see it.

The image itself is sent once, as an `<image>` with the id `zs-image`; everything else refers to it. Coordinates are
pixels of the original image, so that nothing has to be converted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas import draw
from zsas.cache import ByteBudgetCache
from zsas.prompts import Points
from zsas.report import SPECK
from zsas.result import Region
from zsas.stages import Area, Boxes, HeatMap, Layer, PointMarks, Stage

IMAGE_SIDE = 1280
MAP_SIDE = 320
TILE = 512
ROOT = "zsas:/"
"""Stands for the server's address, which only the browser knows."""
PICTURES: ByteBudgetCache[NDArray[np.uint8]] = ByteBudgetCache(64 * 2**20)
"""PNG files of anomaly maps by their digests, for as long as a browser needs to fetch them."""
NUMBERED = 12
"""Regions beyond these are outlined without a number on the image."""


def kept(picture: NDArray[np.uint8]) -> str:
    """Keep a picture for the browser to fetch, and return its address; equal pictures share one."""
    data = cv2.imencode(".png", _bgr(picture), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()
    key = hashlib.blake2b(data, digest_size=16).hexdigest()
    PICTURES.put(key, np.frombuffer(data, np.uint8))
    return f"{ROOT}png/{key}.png"


def pictures_of(text: str) -> dict[str, bytes]:
    """The kept pictures that a text names, by their keys: PNG files, to be kept longer than `PICTURES` does."""
    keys = set(re.findall(rf"{ROOT}png/([0-9a-f]+)\.png", text))
    return {key: data.tobytes() for key in keys if (data := PICTURES.get(key)) is not None}


def keep_again(pictures: Mapping[str, bytes]) -> None:
    """Keep pictures that `pictures_of` gave for the browser to fetch."""
    for key, data in pictures.items():
        PICTURES.put(key, np.frombuffer(data, np.uint8))


def _bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """In OpenCV's order of colours."""
    if picture.ndim == 2:
        return picture
    order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return np.asarray(cv2.cvtColor(picture, order), np.uint8)


def shrink(picture: NDArray[Any], side: int) -> NDArray[Any]:
    """The picture with its longest side at most `side` pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def base(image: NDArray[np.uint8]) -> bytes:
    """The image as the page shows it unzoomed, JPEG bytes, longest side at most `IMAGE_SIDE`."""
    return jpeg(shrink(image, IMAGE_SIDE))


def jpeg(picture: NDArray[np.uint8], quality: int = 90) -> bytes:
    """JPEG bytes of uint8 RGB."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def tile(image: NDArray[np.uint8], level: int, column: int, row: int) -> bytes | None:
    """One tile of the image at 1 / 2^level of its size, JPEG bytes; None where there is none."""
    if not 0 <= level < 16:
        return None
    side = TILE << level
    height, width = image.shape[:2]
    x, y = column * side, row * side
    if not (0 <= x < width and 0 <= y < height):
        return None
    part = image[y : y + side, x : x + side]
    size = (max(1, part.shape[1] >> level), max(1, part.shape[0] >> level))
    return jpeg(np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8))


def holder(key: str, image: NDArray[np.uint8]) -> str:
    """The invisible drawing that holds the image and the hatching for all others on the page."""
    height, width = image.shape[:2]
    step = max(height, width) / 90
    return (
        '<svg class="zs-holder" aria-hidden="true" width="0" height="0"><defs>'
        f'<image id="zs-image" href="{ROOT}image/{key}.jpg" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>'
        f'<pattern id="zs-hatch" width="{step:.1f}" height="{step:.1f}" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="{step / 2:.1f}" height="{step:.1f}" class="zs-hatch"/>'
        "</pattern></defs></svg>"
    )


def drawing(shape: Sequence[int], label: str, parts: Iterable[str], extra: str = "") -> str:
    """One drawing on the image.

    Args:
        shape: (H, W, ...) of the image.
        label: What is to be seen, for those who cannot see it.
        parts: Pieces of SVG in pixels of the image.
        extra: More attributes of the `<svg>`.
    """
    height, width = shape[:2]
    return (
        f'<svg class="zs-drawing" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}" data-width="{width}" data-height="{height}" '
        f'style="--ratio: {width / height:.4f}" {extra}>{"".join(parts)}</svg>'
    )


IMAGE = '<use href="#zs-image"/>'


def heat(values: NDArray[np.float32], *, scaled: bool = False, level: float = 0.5) -> str:
    """A heat map laid over the image: transparent where the map is 0, half so at the marking level.

    Args:
        values: float32, shape = (H, W), [0, 1].
        scaled: Colours stretched from the map's own minimum to its maximum.
        level: The marking level.
    """
    height, width = values.shape
    small = shrink(values, MAP_SIDE)
    low, high = scale_of(values, scaled)
    colours = draw.heat_map(small, low, high)
    middle = max(level - low, 0.1) if scaled else max(level, 0.1)
    opacity = np.clip((small - (low if scaled else 0.0)) / (2 * middle), 0, 1)
    pixels = np.dstack([colours, np.rint(235 * opacity).astype(np.uint8)])
    return (
        f'<image class="zs-heat" href="{kept(pixels)}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>'
    )


def grey(values: NDArray[np.float32]) -> str:
    """The address of the map as a small grey picture, from which the browser reads values: 255 is 1."""
    small = shrink(values, MAP_SIDE)
    return kept(np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8))


def ramp() -> str:
    """The heat map's colours as a CSS gradient from 0 to 1."""
    colours = draw.heat_map(np.linspace(0, 1, 12, dtype=np.float32)[None])[0]
    return f"linear-gradient(90deg,{','.join(f'rgb({r},{g},{b})' for r, g, b in colours.tolist())})"


def scale_of(values: NDArray[np.float32], scaled: bool) -> tuple[float, float]:
    """The values of the darkest and the brightest colour."""
    return (float(values.min()), float(values.max())) if scaled else (0.0, 1.0)


def path_of(mask: NDArray[np.bool_], corner: tuple[int, int] = (0, 0), side: int = 0) -> str:
    """The border of a mask as SVG path data, through the middles of its border pixels; "" if it is empty.

    Args:
        mask: bool (h, w), an image's or a cut-out's.
        corner: x, y of the cut-out in the image.
        side: The image's longest side, which decides how fine the line is; 0 is the mask's own.
    """
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=corner
    )
    tolerance = (side or max(mask.shape)) / 1500
    pieces = []
    for contour in contours:
        line = cv2.approxPolyDP(contour, tolerance, True)[:, 0, :]
        if len(line) < 3:  # a thin piece still shows as its box
            x, y, width, height = cv2.boundingRect(contour)
            line = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
        pieces.append("M" + "L".join(f"{x} {y}" for x, y in line.tolist()) + "Z")
    return "".join(pieces)


def area(
    mask: NDArray[np.bool_], css: str = "zs-mask", corner: tuple[int, int] = (0, 0), side: int = 0
) -> str:
    """A tinted, outlined mask; the outline has a dark edge, so that it is seen on any ground. See `path_of`."""
    line = path_of(mask, corner, side)
    if not line:
        return ""
    return (
        f'<g class="{css}"><path class="zs-edge" d="{line}"/><path class="zs-area" d="{line}"/></g>'
    )


def outside(inside: NDArray[np.bool_]) -> str:
    """All but a mask, darkened: what was not looked at."""
    height, width = inside.shape
    frame = f"M0 0H{width}V{height}H0Z"
    line = path_of(inside)
    return (
        f'<path class="zs-outside" fill-rule="evenodd" d="{frame}{line}"/>'
        f'<path class="zs-outside-line" d="{line}"/>'
    )


def is_speck(region: Region, shape: Sequence[int]) -> bool:
    """Whether a region is too small to be a finding of its own: it is listed apart, and not numbered on the image."""
    return region.area < SPECK * shape[0] * shape[1]


def marked_regions(regions: Sequence[Region], shape: Sequence[int]) -> str:
    """Each region as an outlined area; findings have a number beside them with a line to their middle."""
    size = max(shape[:2]) / 42
    pieces, tags = [], []
    taken: list[tuple[float, float]] = []
    for region in regions:
        x0, y0, x1, y1 = region.box
        # Cut out: the rest of a large image would cost more than the region.
        inside = region.mask[y0:y1, x0:x1]
        css = "zs-mask" if region.counts else "zs-mask zs-rejected"
        outlined = area(inside, css, corner=(x0, y0), side=max(shape[:2]))
        pieces.append(f'<g class="zs-region" data-region="{region.id}">{outlined}</g>')
        if region.id <= NUMBERED and not is_speck(region, shape):
            x, y = _beside(region.box, shape, size, taken)
            taken.append((x, y))
            middle = f'x2="{(x0 + x1) / 2:.1f}" y2="{(y0 + y1) / 2:.1f}"'
            tags.append(
                f'<g class="zs-tag" data-region="{region.id}"><line x1="{x:.1f}" y1="{y:.1f}" {middle}/>'
                f'<g transform="translate({x:.1f} {y:.1f})"><g class="zs-fixed"><circle r="{size * 0.75:.1f}"/>'
                f'<text font-size="{size:.1f}">{region.id}</text></g></g></g>'
            )
    return "".join(pieces + tags)


def _beside(
    box: tuple[int, int, int, int],
    shape: Sequence[int],
    size: float,
    taken: Sequence[tuple[float, float]],
) -> tuple[float, float]:
    """A free place for a number beside a box: at a corner, farther out where others are there already."""
    height, width = shape[:2]
    x0, y0, x1, y1 = box
    place = (float(x1), float(y0))
    for far in (1.1, 2.8, 4.5):
        away = far * size
        for x, y in ((x1 + away, y0 - away), (x0 - away, y0 - away), (x1 + away, y1 + away)):
            place = (min(max(x, size), width - size), min(max(y, size), height - size))
            if all(np.hypot(place[0] - a, place[1] - b) > 1.7 * size for a, b in taken):
                return place
    return place


def point_marks(points: Points, shape: Sequence[int], size: float = 1.0) -> str:
    """Positives as a plus in a disc, negatives as a minus; a person's clicks in squares."""
    radius = max(shape[:2]) / 70 * size
    pieces = []
    click = 0
    for (x, y), label, source in zip(points.xy.tolist(), points.labels, points.source, strict=True):
        positive = int(label) == 1
        arm = radius * 0.55
        lines = f"M{-arm:.1f} 0H{arm:.1f}" + (f"M0 {-arm:.1f}V{arm:.1f}" if positive else "")
        if source == "click":
            side = f"{2 * radius:.1f}"
            shape_mark = (
                f'<rect x="{-radius:.1f}" y="{-radius:.1f}" width="{side}" height="{side}"/>'
            )
            attributes = f' data-click="{click}"'
            click += 1
        else:
            shape_mark, attributes = f'<circle r="{radius:.1f}"/>', ""
        kind = "zs-plus" if positive else "zs-minus"
        pieces.append(
            f'<g class="zs-point {kind}"{attributes} transform="translate({x:.1f} {y:.1f})" '
            f'stroke-width="{radius / 3.2:.2f}"><g class="zs-fixed">{shape_mark}<path d="{lines}"/></g></g>'
        )
    return "".join(pieces)


def box_marks(boxes: NDArray[np.float32]) -> str:
    """Boxes, xyxy, as light lines on dark ones."""
    pieces = []
    for x0, y0, x1, y1 in np.asarray(boxes, float).reshape(-1, 4).tolist():
        shape = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
        pieces.append(f'<rect class="zs-edge" {shape}/><rect class="zs-box" {shape}/>')
    return "".join(pieces)


_AREA_CLASS = {"fill": "zs-mask", "faint": "zs-mask zs-faint", "line": "zs-mask zs-line"}


def layers(stage: Stage, shape: Sequence[int], *, scaled: bool = False, level: float = 0.5) -> str:
    """The pieces of SVG of a stage over the image, from below; see `zsas.draw.stage` for its picture as a file."""
    return "".join(_layer(layer, shape, scaled, level) for layer in stage.layers)


def _layer(layer: Layer, shape: Sequence[int], scaled: bool, level: float) -> str:
    if isinstance(layer, HeatMap):
        return heat(layer.values, scaled=scaled, level=level)
    if isinstance(layer, PointMarks):
        return point_marks(layer.points, shape, 1.7)
    if isinstance(layer, Boxes):
        return box_marks(layer.xyxy)
    assert isinstance(layer, Area)
    if layer.style == "hatch":
        return f'<path class="zs-ring" fill-rule="evenodd" d="{path_of(layer.mask)}"/>'
    if layer.style == "spot":
        return outside(layer.mask)
    return area(layer.mask, _AREA_CLASS[layer.style])
