"""Surfaces cut out of photographs that may be trained on: the image is real, the defects on it are ours."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.synthetic.noise import Rng
from tiny.synthetic.surface import Surface
from zsas.errors import ZsasError

FAMILY = "photographed"

_NOUNS = (
    ("carpet", "carpet"), ("rug_", "rug"), ("-rug", "rug"), ("doormat", "doormat"), ("leather", "leather"),
    ("towel", "towel"), ("toalla", "towel"), ("fabric", "fabric"), ("cloth", "fabric"), ("denim", "fabric"),
    ("tecido", "fabric"), ("tela_", "fabric"), ("cushion-", "fabric"), ("couch", "fabric"), ("chaise", "fabric"),
    ("burlap", "fabric"), ("canvas", "canvas"), ("sheet", "fabric"), ("rattan", "wickerwork"), ("tatami", "mat"),
    ("bark", "bark"), ("trunk", "bark"), ("cork", "cork"), ("wood", "wood"), ("madera", "wood"), ("_pine", "wood"),
    ("cherry", "wood"), ("beech", "wood"), ("mohogany", "wood"), ("oaktexture", "wood"), ("butcherblock", "wood"),
    ("chopping", "wood"), ("tileable", "wood"), ("brick", "brick wall"), ("concrete", "concrete"),
    ("plaster", "plaster"), ("stucco", "plaster"), ("rust", "rusty metal"), ("grate", "metal grate"),
    ("metal", "metal surface"), ("marble", "marble"), ("granite", "granite"), ("gravel", "gravel"),
    ("pebbles", "gravel"), ("rock", "stone"), ("stone", "stone"), ("_road", "road"), ("sand", "sand"),
    ("_soil", "ground"), ("_ground", "ground"), ("dirt", "ground"), ("grass", "grass"), ("_cake", "cake"),
    ("floor", "floor"), ("paper", "paper"), ("wall", "wall"), ("tile", "tiles"),
)  # fmt: skip
"""A word in a file's name, and what sentences call its surface; the first that fits."""


def surfaces_in(folder: Path) -> list[Path]:
    """The photographs of a folder that `python -m tiny photographs` wrote and that may be trained on.

    Raises:
        ZsasError: If there is no manifest, or it lists nothing for training.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise ZsasError(
            f"{manifest} is missing: write photographs with their licences first, with "
            f"`python -m tiny photographs --out {folder}`."
        )
    listed = json.loads(manifest.read_text(encoding="utf-8"))
    files = sorted(folder / entry["file"] for entry in listed if entry["use"] == "training")
    if not files:
        raise ZsasError(f"{manifest} lists no photograph that may be trained on.")
    return files


def split(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Photographs to train on, and every fourth, kept aside to judge on.

    Files whose names differ by a last letter alone, as `concrete2a` and `concrete2b`, stay together: they
    show one surface.
    """
    groups: dict[str, list[Path]] = {}
    for file in sorted(files):
        groups.setdefault(re.sub(r"(?<=\d)[a-z]?(-\d+)?$", "", file.stem), []).append(file)
    sides: tuple[list[Path], list[Path]] = ([], [])
    for number, group in enumerate(groups.values()):
        sides[number % 4 == 3].extend(group)
    return sides


def real_surface(rng: Rng, size: int, files: Sequence[Path]) -> Surface:
    """A random window of a random photograph, turned and mirrored; all of it is surface, without parts.

    Windows are at least half as large as the result, so that no photograph is blown up more than twice; a smaller
    photograph is repeated, as textures are made to be.
    """
    file = files[int(rng.integers(len(files)))]
    image = _read(file)
    short = [max(0, size // 2 - extent) for extent in image.shape[:2]]
    image = np.pad(image, ((0, short[0]), (0, short[1]), (0, 0)), "wrap")
    least = min(image.shape[:2])
    side = int(rng.uniform(min(least, max(size // 2, least // 3)), least)) if least > 1 else least
    y, x = (int(rng.integers(0, extent - side + 1)) for extent in image.shape[:2])
    window = np.rot90(image[y : y + side, x : x + side], int(rng.integers(4)))
    window = window[:, ::-1] if rng.random() < 0.5 else window
    how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    rgb = cv2.resize(np.ascontiguousarray(window), (size, size), interpolation=how)
    name = next((noun for word, noun in _NOUNS if word in file.stem.lower()), "surface")
    return Surface(
        rgb=np.clip(np.asarray(rgb, np.float32) / 255, 0, 1).astype(np.float32),
        region=np.ones((size, size), bool),
        parts=np.zeros((size, size), np.int32),
        name=name,
        family=FAMILY,
        grain=5 * size / 384,
    )


def real_object(rng: Rng, thing: Surface, files: Sequence[Path]) -> Surface:
    """A drawn object of a photographed material, on a photographed ground, or both; form, light and shadow stay drawn.

    Two in three objects take their fine structure from a photograph, half of these its colours, too. The ground is
    a photograph two times in three, and always where the object was left as it was drawn.
    """
    size = thing.size
    rgb, light = thing.rgb, _blurred(_grey(thing.rgb), size / 40)
    cover = _blurred(thing.region.astype(np.float32), 0.7)[..., None]
    has_material = rng.random() < 2 / 3
    if has_material:
        stuff = real_surface(rng, size, files).rgb
        strength = np.float32(rng.uniform(0.4, 1.0))
        if rng.random() < 0.5:
            usual = float(light[thing.region].mean()) if thing.region.any() else 0.5
            shade = np.clip(light / max(usual, 0.05), 0.25, 1.6)
            coloured = stuff * shade[..., None]
        else:
            grey = _grey(stuff)
            coloured = rgb * (grey / np.maximum(_blurred(grey, size / 12), 0.05))[..., None]
        rgb = rgb + strength * cover * (coloured - rgb)
    if not has_material or rng.random() < 0.5:
        ground = real_surface(rng, size, files).rgb
        if rng.random() < 0.5:  # out of focus
            ground = _blurred(ground, size * rng.uniform(0.002, 0.012))
        around = ~thing.region
        usual = float(np.median(light[around])) if around.any() else 0.5
        shadow = np.clip(light / max(usual, 0.05), 0.3, 1.2)[..., None]
        rgb = cover * rgb + (1 - cover) * ground * shadow
    return replace(thing, rgb=np.clip(rgb, 0, 1).astype(np.float32))


def _grey(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)


def _blurred(field: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), max(sigma, 0.3)), np.float32)


@lru_cache(maxsize=256)
def _read(file: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        raise ZsasError(f"{file} cannot be read as an image; fetch the photographs again.")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
