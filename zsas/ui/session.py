"""What is shared by all visitors, and the few keys that belong to one.

The heavy things, models and encodings, live once in `Workshop`, bounded in bytes. A visitor's `Session` holds keys.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.cache import ByteBudgetCache
from zsas.errors import ZsasError
from zsas.images import digest
from zsas.settings import Settings
from zsas.ui import gpu

PRESETS = ("tiny", "base", "paper")
MAX_CLICKS = 64

Click = tuple[float, float, int]


@dataclass(frozen=True)
class Session:
    """What the server remembers of one visitor between two events.

    Attributes:
        photo: Key of the photo in `Workshop`, "" before the first.
        name: File name of the photo, or title of the example, for the names of downloads.
        example: Id of the bundled example, "" for an own photo.
        clicks: (x, y, label) in original pixels; label 1 is positive, 0 negative.
        past: Earlier `clicks`, for undo.
    """

    photo: str = ""
    name: str = ""
    example: str = ""
    clicks: tuple[Click, ...] = ()
    past: tuple[tuple[Click, ...], ...] = ()

    def clicked(self, clicks: tuple[Click, ...]) -> Session:
        """This session with other clicks, the present ones kept for undo."""
        return dataclasses.replace(
            self, clicks=clicks[-MAX_CLICKS:], past=(*self.past, self.clicks)[-MAX_CLICKS:]
        )

    def undone(self) -> Session:
        """This session one change of clicks earlier."""
        if not self.past:
            return self
        return dataclasses.replace(self, clicks=self.past[-1], past=self.past[:-1])


@dataclass(frozen=True)
class _Kept:
    """An encoding that knows its bytes."""

    encoding: Any

    @property
    def nbytes(self) -> int:
        return sum(
            int(part.nbytes)
            for part in (self.encoding.image, self.encoding.patches, self.encoding.sam)
        )


class Workshop:
    """Models, photos and encodings for all visitors.

    Attributes:
        default: Name of the preset that is loaded at start-up.
    """

    def __init__(
        self,
        load: Callable[[str], Any],
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
            budget: Bytes for encodings, and half as many for photos.
        """
        self.default = default
        self.running = ""
        self.problem = ""
        self._load, self._fallback = load, fallback
        self._loading: threading.Thread | None = None
        self._locks = {name: threading.Lock() for name in PRESETS}
        self._encodings: ByteBudgetCache[Any] = ByteBudgetCache(budget)
        self._photos: ByteBudgetCache[Any] = ByteBudgetCache(budget // 2)
        self._visited = threading.Event()

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
            raise

    def segmenter(self, preset: str) -> Any:
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

    def keep_photo(self, image: NDArray[np.uint8]) -> str:
        """Keep a photo and return its key, which is made from its content."""
        key = digest(image)
        self._photos.put(key, image)
        return key

    def photo(self, key: str) -> NDArray[np.uint8] | None:
        """The photo of a key, or None if it was let go."""
        return self._photos.get(key)

    def known(self, preset: str, photo: str, settings: Settings) -> Any | None:
        """The encoding of a photo, or None if there is none yet or it was let go."""
        kept = self._encodings.get((preset, photo, settings.encoding_key))
        return None if kept is None else kept.encoding

    def encode(self, preset: str, photo: str, settings: Settings) -> Any:
        """The encoding of a photo, computed where it is not known; seconds on a CPU.

        Raises:
            ZsasError: If the photo was let go or the preset cannot be loaded.
        """
        encoding = self.known(preset, photo, settings)
        if encoding is None:
            image = self._photo_or_say_so(photo)
            self.segmenter(preset)
            encoding = gpu.encode(preset, image, settings)
            self._encodings.put((preset, photo, settings.encoding_key), _Kept(encoding))
        return encoding

    def decide(
        self, preset: str, encoding: Any, settings: Settings, clicks: tuple[Click, ...] = ()
    ) -> Any:
        """A `Result` from an encoding; milliseconds, and no encoder."""
        self.segmenter(preset)
        return gpu.decide(preset, encoding, settings, clicks)

    def stages(
        self, preset: str, photo: str, settings: Settings, clicks: tuple[Click, ...] = ()
    ) -> Iterator[tuple[str, Any]]:
        """(name, result so far) after each stage, encoding the photo on the way where it is not known.

        Raises:
            ZsasError: If the photo was let go or the preset cannot be loaded.
        """
        self.segmenter(preset)
        known = self.known(preset, photo, settings) is not None
        # What a ZeroGPU's process encodes on the way is gone after the call, so there it is encoded first.
        first = known or gpu.ZERO
        source = self.encode(preset, photo, settings) if first else self._photo_or_say_so(photo)
        yield from gpu.stages(preset, source, settings, clicks)
        if not known:
            self.encode(preset, photo, settings)

    def _photo_or_say_so(self, key: str) -> NDArray[np.uint8]:
        image = self.photo(key)
        if image is None:
            raise ZsasError("This photo is no longer in memory; open it again.")
        return image

    @property
    def status(self) -> str:
        """One sentence on which preset runs, is being loaded, or cannot be had."""
        if self.running:
            return self.problem or f"{self.running} is ready."
        return self.problem or f"Loading {self.default}; the page can be used meanwhile."
