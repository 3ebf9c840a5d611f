"""A pool of made images on disk, so that trainings read pictures instead of making them.

Arrays are memory-mapped and filled chunk by chunk by worker processes; a training may start when
the first chunks are there and see the pool grow. Image ``i`` depends on the pool's seed and ``i``
only, so an interrupted filling goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError

CHUNK = 32
"""Images that a worker makes and stores at a time."""

SEED_STRIDE = 1_000_000
"""Image ``i`` of the pool with seed ``s`` is made image number ``s * SEED_STRIDE + i``."""

_FILES = {"image": (np.uint8, (3,)), "kind_map": (np.uint8, ()), "parts": (np.int16, ())}


@dataclass(frozen=True)
class Record:
    """What is known about one image in words.

    Attributes:
        name: Noun of the object.
        family: Key of the texture or object family.
        kinds: Defect kinds on the image, sorted as they come; empty on a good one.
    """

    name: str
    family: str
    kinds: tuple[str, ...]


class Pool:
    """The finished images of a pool folder.

    Attributes:
        kinds: All defect kinds; ``kind_map`` value ``i + 1`` means ``kinds[i]``.
        image: uint8 (N, S, S, 3) RGB.
        kind_map: uint8 (N, S, S), 0 = sound.
        parts: int16 (N, S, S), 0 = background, 1..n = parts.
        records: N :class:`Record`.

    Args:
        folder: Folder that :func:`fill` wrote to.

    Raises:
        ZsasError: No pool is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            about: dict[str, Any] = json.loads((folder / "pool.json").read_text())
        except FileNotFoundError:
            raise ZsasError(
                f"There is no pool of made images in {folder}: fill one first with "
                f"`python -m zsas.training.pool --out {folder}`."
            ) from None
        self.kinds: tuple[str, ...] = tuple(about["kinds"])
        self.size = int(about["size"])
        self.records: list[Record] = []
        self._read = 0
        self._arrays = {
            name: np.memmap(
                folder / f"{name}.u",
                dtype=dtype,
                mode="r",
                shape=(int(about["count"]), self.size, self.size, *tail),
            )
            for name, (dtype, tail) in _FILES.items()
        }
        self.refresh()

    def refresh(self) -> int:
        """Take in the images that were finished since; returns how many there are now."""
        with (self.folder / "records.jsonl").open() as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith("\n"):
                    break
                self._read += len(line.encode())
                name, family, kinds = json.loads(line)
                self.records.append(Record(name, family, tuple(kinds)))
        count = len(self.records)
        self.image: NDArray[np.uint8] = self._arrays["image"][:count]
        self.kind_map: NDArray[np.uint8] = self._arrays["kind_map"][:count]
        self.parts: NDArray[np.int16] = self._arrays["parts"][:count]
        return count

    def __len__(self) -> int:
        """Number of finished images."""
        return len(self.records)

    @property
    def mask(self) -> NDArray[np.uint8]:
        """uint8 (N, S, S), nonzero where any defect is visible (the kind map itself)."""
        return self.kind_map


@dataclass(frozen=True)
class Batch:
    """A random batch after augmentation.

    Attributes:
        image: float32 (B, R, R, 3) RGB in [0, 1].
        kind_map: uint8 (B, R, R).
        kinds: Kinds that are still visible in each crop.
        names: Nouns of the objects.
        index: int64 (B,), places in the pool.
    """

    image: NDArray[np.float32]
    kind_map: NDArray[np.uint8]
    kinds: list[tuple[str, ...]]
    names: list[str]
    index: NDArray[np.int64]


def random_crop(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    kind_map: NDArray[np.uint8],
    size: int,
    scale: tuple[float, float],
    parts: NDArray[np.int16] | None = None,
    paint: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A square window, flipped, turned and resized, with jittered light and colour.

    Args:
        rng: Source of all chance.
        image: uint8 (S, S, 3) RGB.
        kind_map: uint8 (S, S).
        parts: int16 (S, S), 0 on the background: with it, backgrounds get other colours now and then.
        paint: Value of the kind map for strokes and blots of paint that are added now and then; 0 for none.
        size: Side of the result in pixels.
        scale: Range of the window's side as a fraction of S.

    Returns:
        float32 (size, size, 3) in [0, 1] and uint8 (size, size).
    """
    full = image.shape[0]
    side = round(full * rng.uniform(*scale))
    x, y = (int(v) for v in rng.integers(0, full - side + 1, 2))
    spots = np.flatnonzero(kind_map[::4, ::4])
    if len(spots) and rng.random() < 0.6:  # most windows show what is to be learned
        row, column = divmod(int(spots[rng.integers(len(spots))]), len(range(0, full, 4)))
        low, high = side // 8, side - side // 8
        x = int(np.clip(4 * column - rng.integers(low, high), 0, full - side))
        y = int(np.clip(4 * row - rng.integers(low, high), 0, full - side))
    window = np.s_[y : y + side, x : x + side]
    squeeze = 1.0 if rng.random() < 0.6 else float(rng.uniform(0.8, 1.0))
    if squeeze < 1.0:  # pipelines squeeze photos that are not square
        keep = max(8, int(side * squeeze))
        window = np.s_[y : y + keep, x : x + side]
    method = cv2.INTER_AREA if side > 1.3 * size else cv2.INTER_LINEAR
    picture = cv2.resize(image[window], (size, size), interpolation=method)
    labels = cv2.resize(kind_map[window], (size, size), interpolation=cv2.INTER_NEAREST)
    if parts is not None and rng.random() < 0.4:
        inside = cv2.resize(parts[window], (size, size), interpolation=cv2.INTER_NEAREST) > 0
        picture = _repaint_background(rng, picture, inside | (labels > 0))
    if paint and rng.random() < 0.12:
        picture, labels = _paint(rng, picture, labels, paint)
    turn = int(rng.integers(4))
    picture, labels = np.rot90(picture, turn), np.rot90(labels, turn)
    if rng.random() < 0.5:
        picture, labels = picture[:, ::-1], labels[:, ::-1]
    light = _jitter(rng, np.ascontiguousarray(picture))
    return light, np.ascontiguousarray(labels)


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """A random colour, mostly a saturated one, float32 (3,) in [0, 255]."""
    hsv = np.array([[[rng.integers(180), rng.integers(60, 256), rng.integers(30, 256)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def _repaint_background(
    rng: np.random.Generator, picture: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Another colour behind an object, with the old one's light and shadow; textures stay as they are.

    People lay things on coloured paper: an object must not be called a stain on it.
    """
    if not 0.05 < inside.mean() < 0.9:
        return picture
    light = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    behind = light[~inside]
    shade = (light / max(8.0, float(behind.mean()))) ** rng.uniform(0.4, 1.0)
    edge = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.7)[..., None]
    repainted = np.clip(shade[..., None] * _colour(rng), 0, 255)
    return np.round(edge * picture + (1.0 - edge) * repainted).astype(np.uint8)


def _paint(
    rng: np.random.Generator, picture: NDArray[np.uint8], labels: NDArray[np.uint8], kind: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One to three plainly visible strokes or blots of one colour, with their mask."""
    size = picture.shape[0]
    cover = np.zeros((size, size), np.uint8)
    middle = rng.uniform(0.2, 0.8, 2) * size
    for _ in range(int(rng.integers(1, 4))):
        start = middle + rng.normal(0, 0.08, 2) * size
        walk = np.cumsum(rng.normal(0, 0.04, (int(rng.integers(1, 6)), 2)) * size, axis=0) + start
        width = max(2, round(size * float(np.exp(rng.uniform(np.log(0.008), np.log(0.07))))))
        cv2.polylines(cover, [np.round(walk).astype(np.int32)], False, 255, width, cv2.LINE_AA)
    colour = _colour(rng)
    soft = cv2.GaussianBlur(cover, (0, 0), 0.8).astype(np.float32)[..., None] / 255
    light = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32) / 255
    painted = colour * (0.75 + 0.25 * light)
    mixed = picture + rng.uniform(0.6, 1.0) * soft * (painted - picture)
    changed = np.abs(mixed - picture).max(2) > 24  # where the paint can be told from what it covers
    labels = np.where(changed & (soft[..., 0] > 0.4), np.uint8(kind), labels)
    return np.round(mixed).astype(np.uint8), labels


def _jitter(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey now and then, contrast, brightness, tint, blur and gamma; [0, 1] again in the end."""
    if rng.random() < 0.15:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    elif rng.random() < 0.2:
        picture = np.ascontiguousarray(picture[..., rng.permutation(3)])
    contrast = rng.uniform(0.7, 1.3) if rng.random() < 0.7 else 1.0
    shift = rng.uniform(-0.12, 0.12) if rng.random() < 0.7 else 0.0
    tint = rng.uniform(0.93, 1.07, 3) if rng.random() < 0.4 else np.ones(3)
    gamma = np.exp(rng.normal(0, 0.2))
    levels = np.linspace(0, 1, 256)[:, None] ** gamma
    table = np.clip((levels - 0.5) * contrast * tint + 0.5 + shift, 0, 1).astype(np.float32)
    if rng.random() < 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.2)))
    light = table[picture.reshape(-1, 3), np.arange(3)].reshape(picture.shape)
    if rng.random() < 0.2:
        noise = np.asarray(rng.standard_normal(picture.shape[:2], np.float32))
        light = np.clip(light + noise[..., None] * np.float32(rng.uniform(0.005, 0.03)), 0, 1)
    return np.asarray(light, np.float32)


def batches(
    pool: Pool,
    rng: np.random.Generator,
    batch: int,
    size: int,
    scale: tuple[float, float] = (0.5, 1.0),
) -> Iterator[Batch]:
    """Endless random batches; every image comes once before any comes again."""
    while True:
        order = rng.permutation(pool.refresh())
        if len(order) < batch:
            raise ZsasError(
                f"The pool has {len(order)} images, fewer than one batch of {batch}: fill it first."
            )
        for start in range(0, len(order) - batch + 1, batch):
            index = order[start : start + batch]
            yield make_batch(pool, rng, index, size, scale)


def make_batch(
    pool: Pool,
    rng: np.random.Generator,
    index: NDArray[np.int64],
    size: int,
    scale: tuple[float, float] = (0.5, 1.0),
) -> Batch:
    """Random crops of the images at ``index``."""
    paint = pool.kinds.index("colour") + 1 if "colour" in pool.kinds else 0
    pairs = [
        random_crop(rng, pool.image[i], pool.kind_map[i], size, scale, pool.parts[i], paint)
        for i in index
    ]
    kinds = [
        tuple(
            pool.kinds[v - 1]
            for v, n in enumerate(np.bincount(labels.reshape(-1)))
            if v and n >= max(4, size * size // 16384)
        )
        for _, labels in pairs
    ]
    return Batch(
        image=np.stack([image for image, _ in pairs]),
        kind_map=np.stack([labels for _, labels in pairs]),
        kinds=kinds,
        names=[pool.records[i].name for i in index],
        index=np.asarray(index),
    )


def _start_worker() -> None:
    cv2.setNumThreads(1)


def _fill_chunk(
    folder: Path, start: int, stop: int, count: int, size: int, seed: int
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Make images ``start`` to ``stop`` and store them."""
    from zsas.data.made.scene import TRAIN_FAMILIES, TRAIN_KINDS, make_image

    arrays = {
        name: np.memmap(folder / f"{name}.u", dtype, "r+", shape=(count, size, size, *tail))
        for name, (dtype, tail) in _FILES.items()
    }
    words = []
    for i in range(start, stop):
        made = make_image(seed * SEED_STRIDE + i, size, families=TRAIN_FAMILIES, kinds=TRAIN_KINDS)
        arrays["image"][i] = made.image
        arrays["kind_map"][i] = made.kind_map
        arrays["parts"][i] = np.minimum(made.parts, np.iinfo(np.int16).max)
        words.append((made.name, made.family, made.kinds))
    return words


def fill(
    folder: Path, *, count: int = 20_000, size: int = 384, seed: int = 1, workers: int = 1
) -> Pool:
    """Make the images of a pool that are still missing; only training families and kinds.

    Args:
        folder: Where the pool lies.
        count: Images of the whole pool.
        size: Side in pixels.
        seed: Seed of the pool.
        workers: Processes that make images.

    Raises:
        ZsasError: The folder has a pool of another size or seed.
    """
    from zsas.data.made.scene import KINDS

    folder.mkdir(parents=True, exist_ok=True)
    about = {"count": count, "size": size, "seed": seed, "kinds": list(KINDS)}
    note = folder / "pool.json"
    if note.is_file() and json.loads(note.read_text()) != about:
        raise ZsasError(
            f"{folder} holds another pool ({note.read_text()[:60]}...): give the same count, size "
            "and seed to go on with it, or another folder."
        )
    records = folder / "records.jsonl"
    records.touch()
    done = sum(1 for _ in records.open()) // CHUNK * CHUNK
    lines = records.read_text().splitlines(keepends=True)[:done]
    records.write_text("".join(lines))
    for name, (dtype, tail) in _FILES.items():
        path = folder / f"{name}.u"
        path.touch()
        with path.open("r+b") as file:
            file.truncate(int(np.prod((count, size, size, *tail))) * np.dtype(dtype).itemsize)
    note.write_text(json.dumps(about))
    starts = range(done, count, CHUNK)
    jobs = [(folder, start, min(count, start + CHUNK), count, size, seed) for start in starts]
    method = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(workers, mp_context=method, initializer=_start_worker) as executor,
        records.open("a") as file,
    ):
        for words in executor.map(_fill_chunk, *zip(*jobs, strict=True)) if jobs else ():
            file.write("".join(json.dumps(word) + "\n" for word in words))
            file.flush()
    return Pool(folder)


def open_pool(folder: Path) -> Pool:
    """The pool in a folder; see :class:`Pool`."""
    return Pool(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill a pool from the shell: ``python -m zsas.training.pool --count 20000``."""
    parser = argparse.ArgumentParser(description="Fill a pool of made images for training.")
    parser.add_argument("--out", type=Path, default=Path("runs/pool"))
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    pool = fill(
        given.out, count=given.count, size=given.size, seed=given.seed, workers=given.workers
    )
    print(f"{len(pool)} images in {given.out}")


if __name__ == "__main__":
    main()
