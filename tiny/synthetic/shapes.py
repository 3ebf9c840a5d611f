"""A small renderer for made objects: antialiased outlines shaded as solids under one light.

A :class:`Canvas` holds the picture being made. Outlines are given in the object's own coordinates
(roughly -1 to 1) and placed by a pose with a little perspective. A solid gets a height from the
distance to its outline, a normal from the height, and its brightness from a *material sphere*: a
small picture of how the finish looks for every direction of the normal, drawn once for each finish
under the canvas's light. This keeps highlights and shadows consistent and costs a single lookup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiny.synthetic import noise
from tiny.synthetic.finishes import Finish, ground
from tiny.synthetic.noise import Field, Rng
from tiny.synthetic.outlines import Outline
from tiny.synthetic.surface import Surface

Box = tuple[slice, slice]
_SPHERE = 48


def _softened(height: Field, sigma: float) -> Field:
    """A Gaussian blur; a wide one is made on a smaller copy."""
    rows, columns = height.shape
    step = int(sigma / 3)
    if step < 2 or min(rows, columns) < 8 * step:
        return np.asarray(cv2.GaussianBlur(height, (0, 0), sigma), np.float32)
    small = cv2.resize(height, (columns // step, rows // step), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    large = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)
    # Without this the slopes would show the facets of the linear interpolation.
    return np.asarray(cv2.GaussianBlur(large, (0, 0), float(step)), np.float32)


@dataclass
class Canvas:
    """A picture in the making; see the module's description.

    Attributes:
        rng: source of randomness.
        size: side in pixels.
        light: direction towards the light in the image plane, radians.
        rgb, parts, region: as in :class:`Surface`.
        pose: 3 x 3 matrix from object coordinates to pixels.
        scale: pixels for one unit of object coordinates.
        angle: rotation of the object, radians.
    """

    rng: Rng
    size: int
    light: float = 0.0
    elevation: float = 0.8
    rgb: Field = field(init=False)
    parts: NDArray[np.int32] = field(init=False)
    region: NDArray[np.bool_] = field(init=False)
    pose: NDArray[np.float64] = field(init=False)
    scale: float = 1.0
    angle: float = 0.0
    count: int = 0
    fields: dict[str, Field] = field(default_factory=dict)
    spheres: dict[int, tuple[Finish, Field]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.light = self.rng.uniform(0, 2 * np.pi)
        self.elevation = self.rng.uniform(0.5, 1.3)
        self.rgb = ground(self.rng, self.size)
        self.parts = np.zeros((self.size, self.size), np.int32)
        self.region = np.zeros((self.size, self.size), bool)
        self.pose = np.eye(3)

    def stand(
        self,
        extent: tuple[float, float] = (1.0, 1.0),
        fill: tuple[float, float] | None = None,
        turn: float = np.pi,
        tilt: float = 0.12,
    ) -> None:
        """Choose where the object is, how large, how turned and how tilted.

        Args:
            extent: half width and half height of the object in its own coordinates.
            fill: range of the fraction of the frame's half side which the object's longest half
                side takes; by default mostly 0.5 to 0.95, sometimes small or overfilling.
            turn: largest rotation either way, radians.
            tilt: strength of the perspective and of the unequal scale of the axes.
        """
        rng, half = self.rng, self.size / 2
        if fill is None:
            choice = rng.random()
            fill = (0.25, 0.5) if choice < 0.12 else (0.5, 0.95) if choice < 0.85 else (0.95, 1.3)
        fraction = rng.uniform(*fill)
        self.scale = fraction * half / max(extent)
        self.angle = rng.uniform(-turn, turn)
        c, s = np.cos(self.angle) * self.scale, np.sin(self.angle) * self.scale
        room = abs(1 - fraction) * half * 0.6
        x, y = half + rng.uniform(-room, room), half + rng.uniform(-room, room)
        squeeze = 1 - abs(rng.normal(0, tilt / 2))
        lean = rng.normal(0, tilt, 2) * 0.25 / max(extent)
        shift = np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
        self.pose = shift @ np.diag([1, squeeze, 1]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        self.pose @= np.array([[1, 0, 0], [0, 1, 0], [lean[0], lean[1], 1.0]])

    def place(self, outline: ArrayLike) -> Outline:
        """Object coordinates to pixels."""
        points = np.asarray(outline, float)
        homogeneous = points @ self.pose[:, :2].T + self.pose[:, 2]
        return np.asarray(homogeneous[:, :2] / np.maximum(homogeneous[:, 2:], 0.2))

    def local(self, box: Box) -> tuple[Field, Field]:
        """Object coordinates of every pixel of a box: two float32 fields."""
        back = np.linalg.inv(self.pose)
        y = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None]
        x = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None, :]
        u, v, w = (np.float32(r[0]) * x + np.float32(r[1]) * y + np.float32(r[2]) for r in back)
        return u / w, v / w

    def texture(self, kind: str) -> Field:
        """A noise field of unit variance of one kind, made once for the canvas."""
        if kind not in self.fields:
            rng, size = self.rng, self.size
            if kind == "grain":
                made = noise.smooth(rng, size, rng.uniform(1.5, 2.8))
            elif kind == "cast":
                made = noise.fractal(rng, size, rng.uniform(6, 16), 3, 0.7)
            elif kind == "brushed":
                made = noise.streaks(
                    rng,
                    size,
                    rng.uniform(40, 250),
                    rng.uniform(1, 2.5),
                    self.angle + rng.choice([0, np.pi / 2]),
                )
            elif kind == "speckle":
                dots = noise.smooth(rng, size, rng.uniform(2, 5))
                made = noise.standard(np.asarray(np.maximum(dots - 1.3, 0), np.float32))
            else:
                made = noise.fractal(rng, size, size * rng.uniform(0.1, 0.5), 4, 0.6)
            self.fields[kind] = made
        return self.fields[kind]

    def sphere(self, finish: Finish) -> Field:
        """Shade and highlight of a finish for every normal: ``(48, 48, 2)``, flat ground has 1."""
        kept = self.spheres.get(id(finish))
        if kept is not None:
            return kept[1]
        axis = np.linspace(-1, 1, _SPHERE, dtype=np.float32)
        x, y = np.meshgrid(axis, axis)
        z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
        flat, up = np.cos(self.elevation), np.sin(self.elevation)
        towards = (np.cos(self.light) * flat, np.sin(self.light) * flat)
        facing = np.maximum(x * towards[0] + y * towards[1] + z * up, 0) / up
        shade = finish.ambient * (0.35 + 0.65 * z) + (1 - finish.ambient) * np.minimum(facing, 1.7)
        if finish.mirror:
            around = noise.smooth(self.rng, _SPHERE, self.rng.uniform(5, 16))
            shade *= 1 + finish.mirror * 0.6 * (around - around[_SPHERE // 2, _SPHERE // 2])
        half = np.array([*towards, up + 1]) / np.sqrt(2 + 2 * up)
        bright = np.maximum(x * half[0] + y * half[1] + z * half[2], 0) ** finish.shine
        made = np.stack([np.maximum(shade, 0.02), finish.gloss * bright], -1).astype(np.float32)
        self.spheres[id(finish)] = (finish, made)
        return made

    def box(self, outline: Outline) -> Box:
        """The box in which :meth:`solid` will draw an outline (empty if out of sight)."""
        made = self.stencil([outline])
        return made[0] if made else (slice(0, 2), slice(0, 2))

    def stencil(
        self,
        outlines: Sequence[Outline],
        margin: int = 2,
    ) -> tuple[Box, NDArray[np.uint8], list[NDArray[np.int32]]] | None:
        """Coverage (0-255) of outlines (even-odd, so inner ones are holes) and its box."""
        every = self.place(np.concatenate(outlines))
        x0, y0 = np.clip(np.floor(every.min(0)).astype(int) - margin, 0, self.size)
        x1, y1 = np.clip(np.ceil(every.max(0)).astype(int) + margin + 1, 0, self.size)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return None
        limit = 2.0**17
        whole = np.rint((np.clip(every, -limit, limit) - (x0, y0)) * 16).astype(np.int32)
        ends = np.cumsum([0, *(len(outline) for outline in outlines)])
        fixed = [whole[a:b] for a, b in pairwise(ends)]
        cover = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(cover, fixed, 255, cv2.LINE_AA, 4)
        return (slice(int(y0), int(y1)), slice(int(x0), int(x1))), cover, fixed

    def shadow(self, box: Box, cover: NDArray[np.uint8], reach: float, strength: float) -> None:
        """Darken what lies under a solid ``reach`` pixels high, softly and away from the light."""
        pad = int(reach * 2) + 4
        y0, x0 = max(box[0].start - pad, 0), max(box[1].start - pad, 0)
        y1, x1 = min(box[0].stop + pad, self.size), min(box[1].stop + pad, self.size)
        step = 4 if reach > 4 else 2
        small = max((x1 - x0) // step, 1), max((y1 - y0) // step, 1)
        dx = box[1].start - x0 - np.cos(self.light) * reach * 0.7
        dy = box[0].start - y0 - np.sin(self.light) * reach * 0.7
        shift = np.array([[1 / step, 0, dx / step], [0, 1 / step, dy / step]])
        low = cv2.warpAffine(cover, shift, small, flags=cv2.INTER_LINEAR)
        sigma = max(reach / step * 0.6, 0.6)
        low = cv2.GaussianBlur(low, (0, 0), sigma)
        dark = cv2.resize(low, (x1 - x0, y1 - y0)).astype(np.float32) * (strength / 255)
        view = self.rgb[y0:y1, x0:x1]
        cv2.multiply(view, cv2.merge([1 - dark] * 3), dst=view)

    def solid(  # long because of what can be told of a solid
        self,
        outlines: Outline | Sequence[Outline],
        finish: Finish,
        *,
        dome: float = 0.0,
        bevel: float = 0.0,
        holes: Sequence[Outline] = (),
        paint: Field | None = None,
        rise: Field | None = None,
        label: bool = True,
        apart: bool = False,
        shadow: float = 0.0,
        opacity: float = 1.0,
    ) -> Box | None:
        """Draw one solid, or several at the same height, over the canvas.

        Args:
            outlines: one outline or several, in object coordinates.
            finish: how it looks.
            dome: 0 is flat, 1 is as round as a ball (relative to its half width).
            bevel: width of a rounded edge in object units; negative is a recess.
            holes: outlines through which the canvas stays visible.
            paint: float32 colours ``(S, S, 3)``, or of the box alone, instead of the finish's own.
            rise: heights in pixels ``(S, S)``, instead of a dome or bevel.
            label: whether it is a new part; otherwise what is below keeps its label.
            apart: each outline is a part of its own.
            shadow: height above what is below, in object units.
            opacity: 1 hides what is below.

        Returns:
            The box drawn in, or None if all of it lies outside the picture.
        """
        # Over 60 lines with its arguments' docs; each step works on the fields of the one before.
        each = [outlines] if isinstance(outlines, np.ndarray) else list(outlines)
        made = self.stencil([*each, *holes])
        if made is None:
            return None
        box, cover, fixed = made
        inside = cover > 127
        if shadow > 0:
            self.shadow(box, cover, max(shadow * self.scale, 1.0), self.rng.uniform(0.35, 0.8))
        tone: Field | float = 1.0
        height: Field | None = None if rise is None else rise[box]
        if rise is None and (dome or bevel):
            height = self._rounded(self.depth(box, inside, fixed), dome, bevel)
        for kind, strength, bump in finish.texture:
            if strength < 0.004 and bump < 0.01:
                continue
            pattern = self.texture(kind)[box]
            tone = tone + np.float32(strength) * pattern
            if bump:
                bumps = np.float32(bump) * pattern
                height = bumps if height is None else height + bumps
        glint: Field | float = 0.0
        channels: list[Field]
        if height is not None:
            shade, glint = self.light_up(height, finish)
            tone = shade * tone
        if not isinstance(tone, np.ndarray):
            tone = np.ones(cover.shape, np.float32)
        if paint is None:
            channels = [np.float32(value) * tone + glint for value in finish.colour]
        else:
            own = paint if paint.shape[:2] == cover.shape else paint[box]
            channels = [own[..., k] * tone + glint for k in range(3)]
        weight = cover.astype(np.float32) * np.float32(opacity / 255)
        self.mix(box, np.asarray(cv2.merge(channels), np.float32), weight)
        self.region[box] |= inside
        if label:
            self._label(box, inside, fixed[: len(each)] if apart else ())
        return box

    def _rounded(self, distance: Field, dome: float, bevel: float) -> Field:
        """Heights in pixels from the distance to the outline: a dome over all of it, or a rounded edge."""
        half = min(float(distance.max()), self.size) + 0.5
        top = half if dome else max(abs(bevel) * self.scale, 1.2)
        np.minimum(distance, top, out=distance)
        rest = 1 - distance * (1 / top)
        lift = np.float32(top * (dome or np.sign(bevel)))
        sharp = cv2.sqrt(np.maximum(1 - rest * rest, 0)) * lift
        return _softened(sharp, 0.6 + (0.1 * top if dome else 0.04 * top))

    def _label(
        self, box: Box, inside: NDArray[np.bool_], apart: Sequence[NDArray[np.int32]]
    ) -> None:
        """Number what was drawn as one new part, or each outline of `apart` as one."""
        if not apart:
            self.count += 1
            np.copyto(self.parts[box], self.count, where=inside)
            return
        names = np.zeros(inside.shape, np.int32)
        for points in apart:
            self.count += 1
            cv2.fillPoly(names, [points], self.count, cv2.LINE_8, 4)
        np.copyto(self.parts[box], names, where=inside & (names > 0))

    def depth(
        self, box: Box, inside: NDArray[np.bool_], fixed: Sequence[NDArray[np.int32]]
    ) -> Field:
        """Distance in pixels to the outline, also where that lies outside the picture."""
        rows, columns = box
        flat = inside.astype(np.uint8)
        cut = min(rows.start, columns.start) == 0 or max(rows.stop, columns.stop) == self.size
        if not cut:
            return np.asarray(cv2.distanceTransform(flat, cv2.DIST_L2, 3), np.float32)
        pad = self.size // 5
        wide = np.zeros((flat.shape[0] + 2 * pad, flat.shape[1] + 2 * pad), np.uint8)
        cv2.fillPoly(wide, [points + 16 * pad for points in fixed], 1, cv2.LINE_8, 4)
        view = (slice(pad, pad + flat.shape[0]), slice(pad, pad + flat.shape[1]))
        wide[view] = flat
        distance = cv2.distanceTransform(wide, cv2.DIST_L2, 3)[view]
        return np.ascontiguousarray(distance, np.float32)

    def mix(self, box: Box, new: Field, weight: Field) -> None:
        """Replace the fraction ``weight`` of the picture in a box by ``new``."""
        view = self.rgb[box]
        view[:] = cv2.blendLinear(new, np.ascontiguousarray(view), weight, 1 - weight)

    def light_up(self, height: Field, finish: Finish) -> tuple[Field, Field]:
        """Shade and highlight of a height field in pixels."""
        height = np.asarray(height, np.float32)
        x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=-0.125)
        y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=-0.125)
        half = (_SPHERE - 1) / 2
        norm = np.float32(half) / np.asarray(cv2.sqrt(x * x + y * y + 1), np.float32)
        u = np.asarray(x * norm + np.float32(half), np.float32)
        v = np.asarray(y * norm + np.float32(half), np.float32)
        looked = np.asarray(cv2.remap(self.sphere(finish), u, v, cv2.INTER_LINEAR), np.float32)
        return looked[..., 0], looked[..., 1]

    def engrave(self, box: Box, cover: Field, depth: float) -> None:
        """Press a coverage in [0, 1] into (or raise it out of, if negative) the surface."""
        view = self.rgb[box]
        lit = 1 - noise.relief(cover, self.light, depth * 4)
        cv2.multiply(view, cv2.merge([lit] * 3), dst=view)

    def line(
        self,
        paths: Outline | Sequence[Outline],
        width: float,
        shade: ArrayLike,
        opacity: float = 1.0,
        closed: bool = False,
        label: bool = False,
    ) -> None:
        """Flat antialiased lines ``width`` object units wide (at least a thin pixel line)."""
        each = [paths] if isinstance(paths, np.ndarray) else list(paths)
        placed = [self.place(path) for path in each]
        points = np.concatenate(placed)
        pixels = width * self.scale
        margin = int(pixels / 2) + 2
        x0, y0 = np.clip(np.floor(points.min(0)).astype(int) - margin, 0, self.size)
        x1, y1 = np.clip(np.ceil(points.max(0)).astype(int) + margin, 0, self.size)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        cover = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = [np.rint(np.clip(p - (x0, y0), -4e3, 4e3) * 16).astype(np.int32) for p in placed]
        cv2.polylines(cover, fixed, closed, 255, max(1, round(pixels)), cv2.LINE_AA, 4)
        self.blend(
            (slice(int(y0), int(y1)), slice(int(x0), int(x1))),
            cover.astype(np.float32) * np.float32(min(1.0, pixels) / 255),
            shade,
            opacity,
            label,
        )

    def blend(
        self, box: Box, cover: Field, shade: ArrayLike, opacity: float = 1.0, label: bool = True
    ) -> None:
        """Print a colour where ``cover`` (in [0, 1]) is, as a part if asked."""
        new = np.empty((*cover.shape, 3), np.float32)
        new[:] = np.asarray(shade, np.float32)
        self.mix(box, new, cover * np.float32(opacity))
        if label:
            self.count += 1
            np.copyto(self.parts[box], self.count, where=cover > 0.4)

    def write(
        self,
        words: str,
        x: float,
        y: float,
        height: float,
        shade: ArrayLike,
        opacity: float = 0.9,
        angle: float = 0.0,
        depth: float = 0.0,
        label: bool = True,
    ) -> None:
        """Print (or with ``depth`` engrave) words centred at (x, y), ``height`` units tall."""
        font = int(self.rng.choice([0, 2, 3, 4, 6]))
        weight = int(self.rng.integers(1, 5))
        (width, tall), base = cv2.getTextSize(words, font, 1.0, weight)
        layer = np.zeros((tall + base + 8, width + 8), np.uint8)
        cv2.putText(layer, words, (4, tall + 4), font, 1.0, 255, weight, cv2.LINE_AA)
        k = height / tall
        c, s = np.cos(angle) * k, np.sin(angle) * k
        put = np.array([[c, -s, x], [s, c, y], [0, 0, 1]])
        put = put @ np.array([[1, 0, -layer.shape[1] / 2], [0, 1, -(tall / 2 + 4)], [0, 0, 1.0]])
        corners = np.array([[0, 0], [layer.shape[1], 0], layer.shape[::-1], [0, layer.shape[0]]])
        flat = np.column_stack([corners, np.ones(4)]) @ put.T
        made = self.stencil([flat[:, :2]])
        if made is None:
            return
        box = made[0]
        shift = np.array([[1, 0, -box[1].start], [0, 1, -box[0].start], [0, 0, 1.0]])
        shape = (box[1].stop - box[1].start, box[0].stop - box[0].start)
        whole = shift @ self.pose @ put
        shrink = np.sqrt(abs(np.linalg.det(whole[:2, :2])))
        if shrink < 0.6:
            layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), 0.45 / max(shrink, 0.05)), np.uint8)
        warped = cv2.warpPerspective(layer, whole, shape, flags=cv2.INTER_LINEAR)
        cover = np.asarray(warped, np.float32) * np.float32(1 / 255)
        if depth:
            self.engrave(box, np.asarray(cv2.GaussianBlur(cover, (0, 0), 0.8), np.float32), depth)
            opacity *= 0.3
        self.blend(box, cover, shade, opacity, label)

    def surface(self, name: str, family: str, grain: float = 3.0) -> Surface:
        """The finished picture; parts lie inside the region and are numbered without gaps."""
        np.clip(self.rgb, 0, 1, out=self.rgb)
        self.parts[~self.region] = 0
        counts = np.bincount(self.parts.ravel(), minlength=self.count + 1)
        kept = counts >= 9
        kept[0] = True
        order = (np.cumsum(kept) - 1) * kept
        return Surface(
            np.asarray(self.rgb, np.float32),
            self.region,
            np.asarray(np.take(order, self.parts), np.int32),
            name,
            family,
            grain,
        )
