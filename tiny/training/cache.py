"""A cache of synthetic images on disk, so that trainings read pictures instead of making them.

Arrays are memory-mapped and filled chunk by chunk by worker processes; a training may start when
the first chunks are there and see the cache grow. Image ``i`` depends on the cache's seed and ``i``
only, so an interrupted filling goes on where it stopped.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.synthetic.noise import Rng
from tiny.synthetic.surface import Surface
from tiny.training.augment import random_crop
from zsas.errors import ZsasError

CHUNK = 32
"""Images that a worker makes and stores at a time."""

SEED_STRIDE = 1_000_000
"""Image ``i`` of the cache with seed ``s`` is synthetic image number ``s * SEED_STRIDE + i``."""

_FILES = {"image": (np.uint8, (3,)), "defect_map": (np.uint8, ()), "parts": (np.int16, ())}


@dataclass(frozen=True)
class Record:
    """What is known about one image beside its arrays.

    Attributes:
        name: Noun of the object.
        family: Key of the texture or object family.
        defect_types: Defect types on the image, sorted as they come; empty on a good one.
    """

    name: str
    family: str
    defect_types: tuple[str, ...]


class DatasetCache:
    """The finished images of a cache folder.

    Attributes:
        defect_types: Names of all defect types; ``defect_map`` value ``i + 1`` means ``defect_types[i]``.
        image: uint8 (N, S, S, 3) RGB.
        defect_map: uint8 (N, S, S), 0 = normal.
        parts: int16 (N, S, S), 0 = background, 1..n = parts.
        records: N :class:`Record`.

    Args:
        folder: Folder that :func:`fill` wrote to.

    Raises:
        ZsasError: No cache is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            about: dict[str, Any] = json.loads((folder / "cache.json").read_text())
        except FileNotFoundError:
            raise ZsasError(
                f"There is no cache of synthetic images in {folder}: fill one first with "
                f"`python -m tiny cache --out {folder}`."
            ) from None
        self.defect_types: tuple[str, ...] = tuple(about["defect_types"])
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
                name, family, defect_types = json.loads(line)
                self.records.append(Record(name, family, tuple(defect_types)))
        count = len(self.records)
        self.image: NDArray[np.uint8] = self._arrays["image"][:count]
        self.defect_map: NDArray[np.uint8] = self._arrays["defect_map"][:count]
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
        """uint8 (N, S, S), nonzero where any defect is visible (the defect map itself)."""
        return self.defect_map


@dataclass(frozen=True)
class Batch:
    """A random batch after augmentation.

    Attributes:
        image: uint8 (B, R, R, 3) RGB.
        defect_map: uint8 (B, R, R).
        defect_types: Defect types that are still visible in each crop.
        names: Nouns of the objects.
        index: int64 (B,), places in the cache.
    """

    image: NDArray[np.uint8]
    defect_map: NDArray[np.uint8]
    defect_types: list[tuple[str, ...]]
    names: list[str]
    index: NDArray[np.int64]


def batches(
    cache: DatasetCache,
    rng: np.random.Generator,
    batch: int,
    size: int,
    scale: tuple[float, float] = (0.5, 1.0),
) -> Iterator[Batch]:
    """Endless random batches; every image comes once before any comes again."""
    while True:
        order = rng.permutation(cache.refresh())
        if len(order) < batch:
            raise ZsasError(
                f"The cache has {len(order)} images, fewer than one batch of {batch}: fill it first."
            )
        for start in range(0, len(order) - batch + 1, batch):
            index = order[start : start + batch]
            yield make_batch(cache, rng, index, size, scale)


def make_batch(
    cache: DatasetCache,
    rng: np.random.Generator,
    index: NDArray[np.int64],
    size: int,
    scale: tuple[float, float] = (0.5, 1.0),
) -> Batch:
    """Random crops of the images at ``index``."""
    values = {defect_type: value for value, defect_type in enumerate(cache.defect_types, start=1)}
    donors = rng.integers(0, len(cache), len(index))
    cache.expect(np.concatenate([index, donors]))
    pairs = [
        random_crop(
            rng, cache.image[i], cache.defect_map[i], size, scale, cache.parts[i], values,
            cache.image[donor], donor_is_normal=not cache.records[donor].defect_types,
        )
        for i, donor in zip(index, donors, strict=True)
    ]  # fmt: skip
    defect_types = [
        tuple(
            cache.defect_types[v - 1]
            for v, n in enumerate(np.bincount(labels.reshape(-1)))
            if v and n >= max(4, size * size // 16384)
        )
        for _, labels in pairs
    ]
    return Batch(
        image=np.stack([image for image, _ in pairs]),
        defect_map=np.stack([labels for _, labels in pairs]),
        defect_types=defect_types,
        names=[cache.records[i].name for i in index],
        index=np.asarray(index),
    )


def _start_worker() -> None:
    cv2.setNumThreads(1)


@dataclass(frozen=True)
class _Chunk:
    """Images `start` to `stop` of a cache, for one worker."""

    folder: Path
    start: int
    stop: int
    count: int
    size: int
    seed: int
    photographs: Path | None
    photograph_fraction: float
    object_fraction: float


def _fill_chunk(chunk: _Chunk) -> list[tuple[str, str, tuple[str, ...]]]:
    """Draw the images of a chunk and store them."""
    from tiny.synthetic.objects import OBJECTS
    from tiny.synthetic.real_surfaces import real_object, real_surface, split, surfaces_in
    from tiny.synthetic.scene import TRAIN_DEFECT_TYPES, TRAIN_FAMILIES, make_image

    size = chunk.size
    files = split(surfaces_in(chunk.photographs))[0] if chunk.photographs else []
    arrays = {
        name: np.memmap(
            chunk.folder / f"{name}.u", dtype, "r+", shape=(chunk.count, size, size, *tail)
        )
        for name, (dtype, tail) in _FILES.items()
    }
    objects = [name for name in TRAIN_FAMILIES if name in OBJECTS]

    def ground(rng: Rng, size: int) -> Surface:
        return real_surface(rng, size, files)

    def thing(rng: Rng, size: int) -> Surface:
        drawn = OBJECTS[objects[int(rng.integers(len(objects)))]](rng, size)
        return real_object(rng, drawn, files)

    words = []
    for i in range(chunk.start, chunk.stop):
        own = chunk.seed * SEED_STRIDE + i
        chance = np.random.default_rng([own, 9])
        is_real = bool(files) and chance.random() < chunk.photograph_fraction
        is_object = chance.random() < chunk.object_fraction
        made = make_image(
            own,
            size,
            families=TRAIN_FAMILIES,
            defect_types=TRAIN_DEFECT_TYPES,
            surface_from=(thing if is_object else ground) if is_real else None,
        )
        arrays["image"][i] = made.image
        arrays["defect_map"][i] = made.defect_map
        arrays["parts"][i] = np.minimum(made.parts, np.iinfo(np.int16).max)
        words.append((made.name, made.family, made.defect_types))
    return words


def _whole_chunks(records: Path) -> int:
    """Images of the chunks that were stored whole; the records of a broken one are dropped."""
    lines = records.read_text().splitlines(keepends=True) if records.is_file() else []
    done = len(lines) // CHUNK * CHUNK
    records.write_text("".join(lines[:done]))
    return done


def _reserve(folder: Path, count: int, size: int) -> None:
    """Give the arrays' files their full length."""
    for name, (dtype, tail) in _FILES.items():
        path = folder / f"{name}.u"
        path.touch()
        with path.open("r+b") as file:
            file.truncate(int(np.prod((count, size, size, *tail))) * np.dtype(dtype).itemsize)


def _on_photographs(folder: Path, fraction: float, objects: float) -> dict[str, Any]:
    """What a cache's note says of photographs; of objects only where there are some, as older notes have none."""
    from tiny.synthetic.real_surfaces import split, surfaces_in

    names = [file.name for file in split(surfaces_in(folder))[0]]
    of_objects = {"object_fraction": objects} if objects else {}
    return {"photographs": names, "photograph_fraction": fraction, **of_objects}


def _check(note: Path, about: dict[str, Any]) -> None:
    """Raise if another cache than this one has been begun in the folder."""
    if note.is_file() and json.loads(note.read_text()) != about:
        raise ZsasError(
            f"{note.parent} holds another cache ({note.read_text()[:60]}...): give the same count, size "
            "and seed to go on with it, or another folder."
        )


# Long because of what it takes and what it may refuse; the steps stand in their order.
def fill(
    folder: Path,
    *,
    count: int = 20_000,
    size: int = 384,
    seed: int = 1,
    workers: int = 1,
    photographs: Path | None = None,
    photograph_fraction: float = 0.3,
    object_fraction: float = 0.0,
) -> DatasetCache:
    """Make the images of a cache that are still missing; only training families and defect types.

    Args:
        folder: Where the cache lies.
        count: Images of the whole cache.
        size: Side in pixels.
        seed: Seed of the cache.
        workers: Processes that make images.
        photographs: Folder that `python -m tiny photographs` wrote: a fraction of the images has one of its photographs
            as surface, with the generator's defects; every fourth is kept aside to judge on.
        photograph_fraction: How many.
        object_fraction: How many of these are objects, whose material or ground the photograph is.

    Raises:
        ZsasError: There is no such photograph, or the folder has a cache of another size or seed.
    """
    from tiny.synthetic.scene import DEFECT_TYPES

    about: dict[str, Any] = {
        "count": count, "size": size, "seed": seed, "defect_types": list(DEFECT_TYPES)
    }  # fmt: skip
    if photographs is not None:
        about |= _on_photographs(photographs, photograph_fraction, object_fraction)
    note = folder / "cache.json"
    _check(note, about)
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / "records.jsonl"
    done = _whole_chunks(records)
    _reserve(folder, count, size)
    note.write_text(json.dumps(about))
    starts = range(done, count, CHUNK)
    jobs = [
        _Chunk(
            folder, start, min(count, start + CHUNK), count, size, seed,
            photographs, photograph_fraction, object_fraction,
        )
        for start in starts
    ]  # fmt: skip
    method = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(workers, mp_context=method, initializer=_start_worker) as executor,
        records.open("a") as lines_out,
    ):
        for words in executor.map(_fill_chunk, jobs):
            lines_out.write("".join(json.dumps(word) + "\n" for word in words))
            lines_out.flush()
            if done * 20 // count != (done + len(words)) * 20 // count:
                print(f"{done + len(words)} of {count} images drawn", flush=True)
            done += len(words)
    return DatasetCache(folder)
