"""A pool of made images on disk, so that trainings read pictures instead of making them.

Arrays are memory-mapped and filled chunk by chunk by worker processes; a training may start when
the first chunks are there and see the pool grow. Image ``i`` depends on the pool's seed and ``i``
only, so an interrupted filling goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.training.augment import random_crop
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
                f"`python -m tiny.training.pool --out {folder}`."
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

    def expect(self, index: NDArray[np.int64]) -> None:
        """Have the disk read these images now: one by one they cost waiting, and ten times the bytes."""
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        for array in self._arrays.values():
            each = array[0].nbytes
            for i in index:
                start = int(i) * each // mmap.PAGESIZE * mmap.PAGESIZE
                cast(mmap.mmap, array.base).madvise(
                    mmap.MADV_WILLNEED, start, int(i) * each + each - start
                )

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
    values = {kind: value for value, kind in enumerate(pool.kinds, start=1)}
    donors = rng.integers(0, len(pool), len(index))
    pool.expect(np.concatenate([index, donors]))
    pairs = [
        random_crop(
            rng, pool.image[i], pool.kind_map[i], size, scale, pool.parts[i], values,
            pool.image[donor], sound=not pool.records[donor].kinds,
        )
        for i, donor in zip(index, donors, strict=True)
    ]  # fmt: skip
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
    from tiny.synthetic.scene import TRAIN_FAMILIES, TRAIN_KINDS, make_image

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
    from tiny.synthetic.scene import KINDS

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill a pool from the shell: ``python -m tiny.training.pool --count 20000``."""
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
