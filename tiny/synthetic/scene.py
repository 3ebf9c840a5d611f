"""One made photograph from a seed, and whole data sets of them in MVTec-AD's folder layout.

A scene is a surface, normal irregularities on it, no to four defects, a crop, and a camera. Every
step draws from its own generator, so the same seed with and without defects shows the same object.
"""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from tiny.synthetic.camera import photograph
from tiny.synthetic.defects import DEFECTS, HARD_NORMALS
from tiny.synthetic.defects.common import luma, turning
from tiny.synthetic.objects import OBJECTS
from tiny.synthetic.surface import Surface
from tiny.synthetic.textures import TEXTURES
from zsas.errors import ZsasError

FAMILIES = {**TEXTURES, **OBJECTS}
SurfaceMaker = Callable[[np.random.Generator, int], Surface]
DEFECT_TYPES: tuple[str, ...] = tuple(sorted(DEFECTS))

HELD_OUT_FAMILIES: tuple[str, ...] = (
    "leather",
    "marble",
    "painted_metal",
    "perforated_sheet",  # textures
    "capsule",
    "food_ring",
    "walnut",  # objects
    "bracket",
    "gasket",
    "blister",
    "vial",
    "coil",
    "housing",  # manufactured
)
HELD_OUT_DEFECT_TYPES: tuple[str, ...] = ("bubble", "burn", "glue", "squeezed")
TRAIN_FAMILIES: tuple[str, ...] = tuple(f for f in FAMILIES if f not in HELD_OUT_FAMILIES)
TRAIN_DEFECT_TYPES: tuple[str, ...] = tuple(
    k for k in DEFECT_TYPES if k not in HELD_OUT_DEFECT_TYPES
)

# Grey metal with weak marks is both common in inspection and hard: shown more often.
_FAMILY_WEIGHTS = {
    "ground_metal": 2.5,
    "framed_plate": 2.5,
    "shaded_plate": 2.0,
    "brushed_metal": 1.5,
    "rolled_steel": 1.5,
    "cast_metal": 1.5,
}
_DEFECT_WEIGHTS = {
    "hole": 1.6,
    "crack": 1.6,
    "scratch": 1.6,
    "broken": 1.4,
    "uneven": 1.6,
    "stain": 1.5,
    "colour": 1.3,
    "pinholes": 0.7,
    "thread": 0.8,
    "bubble": 0.7,
}
_GOOD, _GREY, _MARKED = 0.25, 0.4, 0.5


@dataclass(frozen=True)
class SyntheticSample:
    """A made photograph and everything known about it.

    Attributes:
        image: uint8 RGB (S, S, 3).
        mask: bool (S, S), where any defect is visible; empty on a good image.
        defect_types: the defect types in `mask`, sorted.
        defect_map: uint8 (S, S), 0 for none, i + 1 for `DEFECT_TYPES[i]`.
        parts: int32 (S, S), 0 background, 1..n normal parts; 0 under defects.
        name: noun of the object, for sentences.
        family: key of the family.
        seed: the seed it was made from.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    defect_types: tuple[str, ...]
    defect_map: NDArray[np.uint8]
    parts: NDArray[np.int32]
    name: str
    family: str
    seed: int


@dataclass(frozen=True)
class Draft:
    """A scene before crop and camera: `clean` and `rgb` (S, S, 3) differ only by the defects."""

    surface: Surface
    clean: NDArray[np.float32]
    rgb: NDArray[np.float32]
    defect_map: NDArray[np.uint8]
    grey: bool


def _choose(rng: np.random.Generator, names: Sequence[str], weights: dict[str, float]) -> str:
    weight = np.array([weights.get(name, 1.0) for name in names])
    return str(names[int(rng.choice(len(names), p=weight / weight.sum()))])


def _known(given: Sequence[str] | None, known: Sequence[str], what: str) -> Sequence[str]:
    if given is None:
        return known
    for name in given:
        if name not in known:
            raise ZsasError(
                f"There is no made {what} called {name!r}; choose from {', '.join(sorted(known))}."
            )
    if not given:
        raise ZsasError(
            f"The list of made {what} names is empty; name at least one or leave it out."
        )
    return given


def draft(
    seed: int,
    size: int = 384,
    *,
    families: Sequence[str] | None = None,
    defect_types: Sequence[str] | None = None,
    anomalous: bool | None = None,
    grey: bool | None = None,
    surface_from: SurfaceMaker | None = None,
) -> Draft:
    """A scene before crop and camera; arguments as for :func:`make_image`."""
    families, defect_types = (
        _known(families, tuple(FAMILIES), "family"),
        _known(defect_types, DEFECT_TYPES, "defect type"),
    )
    pick, paint, marks, harm = (np.random.default_rng([seed, step]) for step in range(4))
    family = _choose(pick, families, _FAMILY_WEIGHTS)
    is_grey = bool(pick.random() < _GREY) if grey is None else grey
    is_good = bool(pick.random() < _GOOD) if anomalous is None else not anomalous
    surface = (surface_from or FAMILIES[family])(paint, size)
    rgb = surface.rgb
    if marks.random() < _MARKED:
        for name in marks.choice(
            sorted(HARD_NORMALS), int(marks.choice([1, 2, 3], p=[0.65, 0.25, 0.1])), False
        ):
            rgb = np.clip(HARD_NORMALS[str(name)](marks, replace(surface, rgb=rgb)), 0, 1).astype(
                np.float32
            )
    if is_grey:
        rgb = np.asarray(cv2.merge([luma(rgb)] * 3), np.float32)
    clean = rgb
    defect_map = np.zeros((size, size), np.uint8)
    if not is_good:
        count = int(harm.choice([1, 2, 3, 4], p=[0.72, 0.18, 0.07, 0.03]))
        defect_type = _choose(harm, defect_types, _DEFECT_WEIGHTS)
        for _ in range(count):
            rgb, mask = DEFECTS[defect_type](harm, replace(surface, rgb=rgb))
            defect_map[mask] = DEFECT_TYPES.index(defect_type) + 1
            if harm.random() < 0.35:
                defect_type = _choose(harm, defect_types, _DEFECT_WEIGHTS)
    return Draft(surface, clean, rgb, defect_map, is_grey)


def _window(rng: np.random.Generator, defect_map: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """A random crop as 2 x 3 matrix from the picture to itself, or None for the whole picture."""
    size = defect_map.shape[0]
    if rng.random() < 0.6:
        return None
    zoom = 1 / rng.uniform(0.6, 1.0)
    tilt = float(rng.normal(0, 8)) * (rng.random() < 0.4)
    turn = turning((size / 2, size / 2), tilt, zoom)
    spots = np.flatnonzero(defect_map)
    slack = (zoom - 1) * size / 2
    shift = rng.uniform(-slack, slack, 2)
    if len(spots):  # keep a defect pixel well inside
        y, x = divmod(int(spots[rng.integers(len(spots))]), size)
        seen = turn @ np.array([x, y, 1.0])
        wanted = rng.uniform(0.15, 0.85, 2) * size
        shift = np.clip(wanted - seen, -slack, slack)
    turn[:, 2] = turn[:, 2] + shift
    return np.asarray(turn)


def _look_through(
    field: NDArray[Any], crop: NDArray[np.float64], how: int = cv2.INTER_NEAREST
) -> NDArray[Any]:
    """A picture or label field seen through a crop of :func:`_window`."""
    size = (field.shape[1], field.shape[0])
    return np.asarray(cv2.warpAffine(field, crop, size, flags=how, borderMode=cv2.BORDER_REFLECT))


# Small products of matrices: a second BLAS thread doubles the processor time and gains nothing.
@ThreadpoolController().wrap(limits=1, user_api="blas")
def make_image(
    seed: int,
    size: int = 384,
    *,
    families: Sequence[str] | None = None,
    defect_types: Sequence[str] | None = None,
    anomalous: bool | None = None,
    grey: bool | None = None,
    surface_from: SurfaceMaker | None = None,
) -> SyntheticSample:
    """Make one photograph; the same arguments always give the same picture.

    Args:
        seed: not negative.
        size: side in pixels; the recipes are tuned for 256 to 512.
        families: keys of `FAMILIES` to choose from; None for all.
        defect_types: defect types to choose from; None for all.
        anomalous: True or False to force a anomalous or a good image; None makes one in four good.
        grey: True or False to force grey or colour; None makes two in five grey.
        surface_from: draws the surface instead of a family, as :mod:`tiny.synthetic.real_surfaces`.

    Raises:
        ZsasError: for a name that does not exist.
    """
    scene = draft(
        seed, size, families=families, defect_types=defect_types, anomalous=anomalous, grey=grey,
        surface_from=surface_from,
    )  # fmt: skip
    view, shoot = np.random.default_rng([seed, 4]), np.random.default_rng([seed, 5])
    rgb, defect_map, parts = scene.rgb, scene.defect_map, scene.surface.parts
    crop = _window(view, defect_map)
    if crop is not None:
        cropped = _look_through(defect_map, crop)
        if int((cropped > 0).sum()) >= min(4, int((defect_map > 0).sum())):
            defect_map = cropped.astype(np.uint8)
            rgb = _look_through(rgb, crop, cv2.INTER_LINEAR)
            parts = _look_through(parts.astype(np.float32), crop).astype(np.int32)
    image = photograph(shoot, np.ascontiguousarray(rgb, np.float32), grey=scene.grey)
    quarter = int(view.integers(4)) if view.random() < 0.5 else 0
    step = -1 if view.random() < 0.5 else 1
    image = np.rot90(image, quarter)[:, ::step]
    defect_map = np.ascontiguousarray(np.rot90(defect_map, quarter)[:, ::step])
    parts = np.rot90(parts, quarter)[:, ::step]
    mask = defect_map > 0
    return SyntheticSample(
        image=np.ascontiguousarray(image),
        mask=mask,
        defect_types=tuple(DEFECT_TYPES[i - 1] for i in np.unique(defect_map[mask])),
        defect_map=defect_map,
        parts=np.ascontiguousarray(np.where(mask, 0, parts), np.int32),
        name=scene.surface.name,
        family=scene.surface.family,
        seed=seed,
    )


@dataclass(frozen=True)
class _Job:
    """One image to draw and write: where, with which seed, of which family and defect type (None: normal)."""

    path: Path
    mask_path: Path | None
    seed: int
    size: int
    family: str
    defect_type: str | None


def _jobs(
    root: Path, family: str, seed: int, per_category: int, size: int, defect_types: Sequence[str]
) -> list[_Job]:
    """The images of one category below its folder; the folders are made."""
    good = max(1, per_category // 4)
    plan: list[tuple[str, str | None]] = [("train", None), ("test", None)] * good
    start = zlib.crc32(family.encode())  # categories begin with different defect types
    plan += [
        ("test", defect_types[(start + i) % len(defect_types)]) for i in range(per_category - good)
    ]
    jobs: list[_Job] = []
    counts: dict[tuple[str, str], int] = {}
    for index, (split, defect_type) in enumerate(plan):
        folder = defect_type or "good"
        number = counts.get((split, folder), 0)
        counts[split, folder] = number + 1
        path = root / split / folder / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask_path = None
        if defect_type is not None:
            mask_path = root / "ground_truth" / defect_type / f"{number:03d}_mask.png"
            mask_path.parent.mkdir(parents=True, exist_ok=True)
        own = int(np.random.SeedSequence([seed, start, index]).generate_state(1)[0])
        jobs.append(_Job(path, mask_path, own, size, family, defect_type))
    return jobs


def _save(job: _Job) -> None:
    """Draw one image of a data set and write it, with its mask when it is anomalous."""
    made = make_image(
        job.seed,
        job.size,
        families=[job.family],
        defect_types=[job.defect_type] if job.defect_type else None,
        anomalous=job.defect_type is not None,
    )
    cv2.imwrite(str(job.path), made.image[..., ::-1])
    if job.mask_path is not None:
        cv2.imwrite(str(job.mask_path), made.mask.astype(np.uint8) * 255)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def write_dataset(
    root: str | Path,
    *,
    seed: int = 0,
    per_category: int = 40,
    size: int = 384,
    families: Sequence[str] | None = None,
    defect_types: Sequence[str] | None = None,
    workers: int = 1,
) -> Path:
    """Write synthetic images in MVTec-AD's layout: a category a family, a folder a defect type.

    Each category gets `per_category` test images, one in four of them good, the others spread
    evenly over the defect_types, and a quarter as many good training images. The files depend on the
    arguments other than `workers` only.

    Args:
        root: folder to write into; made if missing.
        seed: of the whole set.
        per_category: test images a category, at least 2.
        size: side in pixels.
        families: categories; None for all.
        defect_types: Defect types to choose from; None for all.
        workers: processes; 1 works in this one.

    Returns:
        `root` as a path.

    Raises:
        ZsasError: for unknown names or fewer than 2 images a category.
    """
    families, defect_types = (
        _known(families, tuple(FAMILIES), "family"),
        _known(defect_types, DEFECT_TYPES, "defect type"),
    )
    if per_category < 2:
        raise ZsasError(
            f"per_category is {per_category}; it must be at least 2: one good, one anomalous."
        )
    root = Path(root)
    jobs = [
        job
        for family in families
        for job in _jobs(root / family, family, seed, per_category, size, defect_types)
    ]
    if workers <= 1:
        for job in jobs:
            _save(job)
    else:
        # a forked child would inherit OpenCV's thread locks and could wait on them for ever
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, fresh, initializer=_one_thread) as processes:
            list(processes.map(_save, jobs, chunksize=8))
    return root
