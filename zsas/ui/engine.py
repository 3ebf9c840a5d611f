"""What all visitors share: models, images and encodings, bounded in bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.beside import memory_key
from zsas.cache import ByteBudgetCache
from zsas.errors import ZsasError
from zsas.images import ReadImage, digest, read_image
from zsas.models import PRESETS, fetching
from zsas.prompts import Click
from zsas.result import Result
from zsas.settings import Settings
from zsas.stages import Stage
from zsas.ui import gpu
from zsas.ui.line import Kind, Line
from zsas.ui.speed import Speed

if TYPE_CHECKING:
    from zsas.encoding import Encoding
    from zsas.segmenter import Segmenter

CALLS = 32
"""Of how many images that came with a call over plain HTTP the models' own encodings and maps are kept."""

FILES = 10_000
"""Of how many images it is known from which file they came."""

MEMORIES = 16
"""How many memories of good parts are kept, for all visitors."""


class Engine:
    """Models, images and encodings for all visitors.

    Attributes:
        default: Name of the preset that is loaded at start-up.
        running: Name of the preset that was loaded then, "" before.
        problem: Why it is not the default, "" if it is.
        line: Who may use the encoders now.
        speed: How fast this machine is; measured once the models are loaded.
    """

    def __init__(
        self,
        load: Callable[[str], Segmenter],
        default: str,
        *,
        fallback: str = "tiny",
        budget: int = 2**30,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            load: Makes a segmenter from the name of a preset; raises `ZsasError` if it cannot.
            default: Preset to load at start-up.
            fallback: Preset that is taken, and said to be taken, where the default cannot be had.
            budget: Bytes for encodings, and half as many for images. The newest of each is kept whatever it takes.
        """
        self.default = default
        self.running = ""
        self.problem = ""
        self._load, self._fallback = load, fallback
        self._loading: threading.Thread | None = None
        self._locks = {name: threading.Lock() for name in PRESETS}
        self._encodings: ByteBudgetCache[Encoding] = ByteBudgetCache(budget)
        self._images: ByteBudgetCache[ReadImage] = ByteBudgetCache(budget // 2)
        self._files: dict[str, Path] = {}
        self._newest: dict[str, tuple[Any, Any]] = {}
        self._visited = threading.Event()
        self._memories: dict[Any, Any] = {}
        self._calls: dict[tuple[str, str], None] = {}
        self._calls_lock = threading.Lock()
        self.line = Line()
        self.speed = Speed()

    def start(self, head_start: float = 0.0) -> threading.Thread:
        """Load the default preset, or the fallback, in the background, once.

        Args:
            head_start: Seconds that the page gets for itself at most, until someone has it before them (`visited`).
        """
        if self._loading is None:
            self._loading = threading.Thread(
                target=self._first, args=(head_start,), name="load-models", daemon=True
            )
            self._loading.start()
        return self._loading

    def start_here(self) -> None:
        """The same, finished on return and in this thread: a ZeroGPU lends its device to the main thread's models."""
        if self._loading is None:
            self._loading = threading.current_thread()
            self._first(0.0)

    def visited(self) -> None:
        """Somebody has the page: what is left of its head start is not needed."""
        self._visited.set()

    def _first(self, head_start: float) -> None:
        self._visited.wait(head_start)
        try:
            self.segmenter(self.default)
            self.running = self.default
        except ZsasError as error:
            self.problem = f"{error} Running {self._fallback} instead."
            try:
                self.segmenter(self._fallback)
                self.running = self._fallback
            except ZsasError as worse:
                self.problem = str(worse)
        except Exception:
            self.problem = f"The preset {self.default} could not be loaded; see the server's log."
            self.speed.over = True
            raise
        if gpu.ZERO:  # a lent device costs a visitor's time
            self.speed.over = True
        else:
            self.speed.measure()

    def segmenter(self, preset: str) -> Segmenter:
        """The segmenter of a preset, loaded on first use.

        Raises:
            ZsasError: If there is no such preset or it cannot be loaded.
        """
        if preset not in PRESETS:
            raise ZsasError(f"There is no preset {preset!r}; take {', '.join(PRESETS)}.")
        with self._locks[preset]:
            main = threading.current_thread() is threading.main_thread()
            if gpu.ZERO and not main and preset not in gpu.SEGMENTERS:
                raise ZsasError(
                    f"On a ZeroGPU {preset} has to be loaded at the start; set ZSAS_PRESET={preset} there."
                )
            if preset not in gpu.SEGMENTERS:
                gpu.SEGMENTERS[preset] = self._load(preset)
            return gpu.SEGMENTERS[preset]

    def is_loaded(self, preset: str) -> bool:
        """Whether a preset can be used without waiting."""
        return preset in gpu.SEGMENTERS

    def keep_image(
        self, image: ReadImage | NDArray[np.uint8], file: str | Path | None = None
    ) -> str:
        """Keep an image and return its key, which is made from its content.

        Args:
            image: As it was read.
            file: From which it is read again where memory is too small for all; None for none.
        """
        read = read_image(image)
        key = digest(read.pixels)
        if file is not None:
            self._files[key] = Path(file)
            if len(self._files) > FILES:
                self._files.pop(next(iter(self._files)), None)
        self._images.put(key, read)
        self._newest["image"] = (key, read)
        return key

    def image(self, key: str) -> NDArray[np.uint8] | None:
        """The image of a key, or None if it was let go."""
        read = self._read(key)
        return None if read is None else read.pixels

    def _read(self, key: str) -> ReadImage | None:
        newest, read = self._newest.get("image", ("", None))
        found = read if key == newest else self._images.get(key)
        if found is None and key in self._files:
            try:
                found = read_image(self._files[key])
            except ZsasError:  # uploads are removed after some hours
                return None
            self._images.put(key, found)
        return found

    def known(self, preset: str, image: str, settings: Settings) -> Any | None:
        """The encoding of an image, or None if there is none yet or it was let go."""
        slot = (preset, image, settings.encoding_key)
        newest, encoding = self._newest.get("encoding", (None, None))
        if slot == newest:
            return encoding
        return self._encodings.get(slot)

    def encode(self, preset: str, image: str, settings: Settings) -> Any:
        """The encoding of an image, computed where it is not known, when it is its turn; seconds on a CPU.

        Raises:
            ZsasError: If the image was let go or the preset cannot be loaded.
        """
        encoding = self.known(preset, image, settings)
        if encoding is None:
            encoding = self.encode_apart(preset, self._image_or_say_so(image), settings, "image")
            self._keep(preset, image, settings, encoding)
        return encoding

    def encode_apart(self, preset: str, pixels: ReadImage, settings: Settings, kind: Kind) -> Any:
        """The encoding of an image that is not kept: nobody comes back to it."""
        self.segmenter(preset)
        with self.line.turn(kind):
            return gpu.encode(preset, pixels, settings)

    def answered(self, preset: str, image: ReadImage) -> None:
        """A call on this image is answered: what the models keep of the last `CALLS` of such images stays, no more.

        Callers send thousands of images and come back to none, and would fill what is meant for visitors.
        """
        key = digest(image.pixels)
        with self._calls_lock:
            self._calls.pop((preset, key), None)
            self._calls[preset, key] = None
            old = next(iter(self._calls)) if len(self._calls) > CALLS else None
            if old is not None:
                del self._calls[old]
        cache = getattr(gpu.SEGMENTERS.get(old[0]), "cache", None) if old is not None else None
        if cache is not None and old is not None:
            cache.drop(old[1])

    def _keep(self, preset: str, image: str, settings: Settings, encoding: Any) -> None:
        slot = (preset, image, settings.encoding_key)
        self._encodings.put(slot, encoding)
        self._newest["encoding"] = (slot, encoding)

    def decide(
        self,
        preset: str,
        encoding: Any,
        settings: Settings,
        clicks: tuple[Click, ...] = (),
        references: Any = None,
        batch: Any = None,
        *,
        part: Any = None,
        keep: bool = False,
    ) -> Result:
        """A result from an encoding; milliseconds, and no encoder.

        Args:
            preset: Models.
            encoding: Of an image.
            settings: Of this decision.
            clicks: A person's points.
            references: What good parts look like.
            batch: What the others of a batch look like.
            part: What the person's profile says of the part.
            keep: Keep the newest result, and answer with it where the same was asked last.
        """
        asked = (preset, encoding, settings, clicks, references, batch, part)
        before, result = self._newest.get("result", ((), None))
        if keep and result is not None and _same(before, asked):
            return result  # type: ignore[no-any-return]
        self.segmenter(preset)
        result = gpu.decide(preset, encoding, settings, clicks, references, batch, part=part)
        if keep:
            self._newest["result"] = (asked, result)
        return result

    def gather(self, preset: str, image: ReadImage, settings: Settings, region: Any = None) -> Any:
        """What is compared of an image of a batch, when it is its turn; seconds on a CPU."""
        self.segmenter(preset)
        with self.line.turn("batch"):
            return gpu.gather(preset, image, settings, region)

    def compare_batch(
        self, preset: str, cells: Sequence[Any], settings: Settings, region: Any = None
    ) -> Any:
        """The images of a batch compared with each other, when it is its turn.

        Raises:
            ZsasError: If there are too few images.
        """
        segmenter = self.segmenter(preset)
        with self.line.turn("batch"):
            return segmenter.compare_batch(cells, settings, region)

    def memory(
        self, preset: str, images: tuple[str, ...], settings: Settings, region: Any = None
    ) -> Any | None:
        """What some good parts look like, None where it has still to be made; see `remember`."""
        return self._memories.get(_memory_slot(preset, images, settings, region))

    def remember(
        self, preset: str, images: tuple[str, ...], settings: Settings, region: Any = None
    ) -> Any:
        """Encode images of good parts, by their keys, when it is their turn.

        Raises:
            ZsasError: If one was let go, or the system cannot compare.
        """
        read = [image for key in images if (image := self._read(key)) is not None]
        if len(read) < len(images):
            raise ZsasError(
                "Not all good parts are in memory any more; take them away, and add them again."
            )
        found = self.remember_apart(preset, read, settings, region)
        while len(self._memories) >= MEMORIES:
            self._memories.pop(next(iter(self._memories)), None)
        self._memories[_memory_slot(preset, images, settings, region)] = found
        return found

    def remember_apart(
        self, preset: str, images: Sequence[ReadImage], settings: Settings, region: Any = None
    ) -> Any:
        """The same of images that are not kept, for a call that nobody comes back to."""
        self.segmenter(preset)
        with self.line.turn("image"):
            return gpu.remember(preset, images, settings, region)

    def stages(
        self,
        preset: str,
        image: str,
        settings: Settings,
        clicks: tuple[Click, ...] = (),
        references: Any = None,
        batch: Any = None,
        *,
        part: Any = None,
    ) -> Iterator[str | Stage | Result]:
        """What is ahead in the line while it waits, then the stages as they are found, and the result at the end.

        Raises:
            ZsasError: If the image was let go, the line is full, or the preset cannot be loaded.
        """
        self.segmenter(preset)
        known = self.known(preset, image, settings)
        if known is not None:
            yield from gpu.stages(preset, known, settings, clicks, references, batch, part=part)
            return
        pixels = self._image_or_say_so(image)
        with self.line.place("image") as place:
            while not place.first(0.3):
                yield place.words()
            yield ""
            # What a ZeroGPU's process adds to an encoding is gone after the call, so there it is whole before.
            encode = gpu.encode if gpu.ZERO else gpu.begin
            encoding = encode(preset, pixels, settings)
            beside = (references, batch)
            for step in gpu.stages(preset, encoding, settings, clicks, *beside, part=part):
                if isinstance(step, Result):
                    self._keep(preset, image, settings, encoding)
                    asked = (preset, encoding, settings, clicks, references, batch, part)
                    self._newest["result"] = (asked, step)
                yield step

    def _image_or_say_so(self, key: str) -> ReadImage:
        image = self._read(key)
        if image is None:
            raise ZsasError("This photo is no longer in memory; open it again.")
        return image

    @property
    def status(self) -> str:
        """One sentence on which preset runs, is being loaded, or cannot be had."""
        if self.running:
            return self.problem or f"{self.running} is ready."
        loading = fetching().rstrip(".") or f"Loading {self.default}"
        return self.problem or f"{loading}; the page can be used meanwhile."


def _memory_slot(
    preset: str, images: tuple[str, ...], settings: Settings, region: Any
) -> tuple[Any, ...]:
    how = (settings.encoding_key, *memory_key(settings))
    return preset, images, how, region.key if region else ""


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two questions are the same: encodings and memories by identity, the rest by value."""
    return len(one) == len(other) and all(
        a == b if isinstance(a, (str, tuple, Settings)) else a is b
        for a, b in zip(one, other, strict=True)
    )
