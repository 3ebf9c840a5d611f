"""What the encoders make of an image, and the cache that lets each image be encoded once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas import __version__
from zsas.cache import ByteBudgetCache
from zsas.frames import Window
from zsas.held import Held
from zsas.images import ImageSource, ReadInfo, digest, read_image
from zsas.lazy import torch
from zsas.localizers.base import Features, Localizer
from zsas.localizers.tiles import TileSettings
from zsas.settings import Settings
from zsas.threads import side_by_side

if TYPE_CHECKING:
    from zsas.backbones.patch_features import PatchBackbone, PatchGrid
    from zsas.backbones.sam import Sam, SamFeatures
    from zsas.region import RegionOfInterest


BESIDE_CORES = 4
"""Cores from which on the encoders of CLIP and SAM run beside each other: each then has two at least."""
MOST_CROPS = 32
"""SAM's close-up windows of one image that are kept in its encoding at most; those asked for last are."""


@dataclass(eq=False)
class Encoding(Held):
    """One encoded image: everything that a decision needs of it.

    Attributes:
        key: Digest of the image's pixels.
        image: The image, uint8 RGB (H, W, 3), read-only: later decisions look at it again.
        features: The localizer's features.
        made_by: Models, localizer and encoding settings that made it; a decision with others refuses it.
        sam: SAM's features, F of eq. 4; None until a refiner, or `Segmenter.encode`, asks for them.
        others: Features of other backbones for eq. 4 by their kind, as far as a refiner has asked for them.
        crops: SAM's features of windows of the image, as far as a refiner has asked for them.
        timings: Seconds of each encoder, 0 where it came from the cache.
        input: What was read: format, page, bits, notes.
    """

    key: str
    image: NDArray[np.uint8]
    features: Features
    made_by: tuple[Any, ...]
    sam: SamFeatures | None = None
    others: dict[str, PatchGrid] = field(default_factory=dict)
    crops: dict[Window, SamFeatures] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    input: ReadInfo | None = None

    def __post_init__(self) -> None:
        self.image = self.image.view()
        self.image.setflags(write=False)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        with_sam = "" if self.sam is None else " and by SAM"
        return f"<Encoding of {width} × {height} px by {self.made_by[1]}{with_sam}>"


class Encoders:
    """The encoders of the loaded models, behind one cache.

    Args:
        cache_bytes: Budget of the cache of encodings and maps.

    Attributes:
        cache: Encodings and anomaly maps, by the content of the image.
        images_encoded: How many images each encoder has been run on, by the encoder's name.
    """

    def __init__(self, cache_bytes: int) -> None:
        self.cache: ByteBudgetCache[Any] = ByteBudgetCache(cache_bytes)
        self.images_encoded: Counter[str] = Counter(localizer=0, sam=0)
        self._counting = threading.Lock()

    def begin(
        self,
        images: Sequence[ImageSource],
        localizer: Localizer,
        made_by: tuple[Any, ...],
        settings: Settings,
        region: RegionOfInterest | None = None,
    ) -> list[Encoding]:
        """The localizer's features of some images.

        Args:
            images: Paths, PIL images or RGB arrays.
            localizer: Makes the features.
            made_by: See `Encoding`.
            settings: Only those with `encoding=True` are read.
            region: Tiles wholly outside of it are not encoded.
        """
        if not images:
            return []
        reads = [read_image(image) for image in images]
        arrays = [read.pixels for read in reads]
        keys = [digest(array) for array in arrays]
        by_tiles = localizer.tiled and settings.of(TileSettings).tiles != "off"
        looked_at = region if by_tiles else None

        def encode(missing: list[NDArray[np.uint8]]) -> list[Any]:
            if not looked_at:
                return localizer.encode(missing, settings)
            insides = [looked_at.on(*image.shape[:2]) for image in missing]
            return localizer.encode(missing, settings, insides)  # type: ignore[call-arg]

        more = (looked_at.key,) if looked_at else ()
        found, seconds = self._encoded(
            "localizer", arrays, [(key, *made_by, *more) for key in keys], encode
        )
        return [
            Encoding(
                key,
                read.pixels,
                features,
                made_by,
                timings={"encode": seconds / len(images)},
                input=read.info,
            )
            for key, read, features in zip(keys, reads, found, strict=True)
        ]

    def begin_both(
        self,
        images: Sequence[ImageSource],
        localizer: Localizer,
        made_by: tuple[Any, ...],
        settings: Settings,
        region: RegionOfInterest | None,
        sam: Sam,
    ) -> list[Encoding]:
        """`begin` and `add_sam`; the two encoders run beside each other, each with half of the cores.

        Their seconds add up to what both took together.
        """
        reads = [read_image(image) for image in images]
        pixels = [read.pixels for read in reads]
        started = time.perf_counter()
        begin = partial(self.begin, reads, localizer, made_by, settings, region)
        of_sam = partial(self._of_sam, pixels, [digest(array) for array in pixels], lambda: sam)
        jobs: list[Callable[[], Any]] = [begin, of_sam]
        encodings, (found, seconds) = side_by_side(jobs)
        whole = time.perf_counter() - started
        for encoding, features in zip(encodings, found, strict=True):
            encoding.sam = features
            first = encoding.timings["encode"]
            encoding.timings["sam"] = max(0.0, whole / len(reads) - first) if seconds else 0.0
        return encodings

    def add_sam(self, encodings: Sequence[Encoding], sam: Callable[[], Sam]) -> None:
        """Add SAM's features to the encodings that have none; SAM is loaded only if one has none."""
        waiting = [encoding for encoding in encodings if encoding.sam is None]
        if not waiting:
            return
        images, keys = [each.image for each in waiting], [each.key for each in waiting]
        found, seconds = self._of_sam(images, keys, sam)
        for encoding, features in zip(waiting, found, strict=True):
            encoding.sam = features
            encoding.timings["sam"] = seconds / len(waiting)

    def _of_sam(
        self, images: list[NDArray[np.uint8]], keys: list[str], sam: Callable[[], Sam]
    ) -> tuple[list[SamFeatures], float]:
        slots = [("sam", key) for key in keys]
        return self._encoded("sam", images, slots, lambda missing: sam().encode(missing))

    def crops(
        self, encoding: Encoding, windows: Sequence[Window], sam: Callable[[], Sam]
    ) -> list[SamFeatures]:
        """SAM's features of windows of the image (XYXY), kept in the encoding; SAM is loaded if some are missing.

        On a CPU several are encoded at once where there are cores for it.
        """
        kept = encoding.crops
        found = {window: one for window, one in list(kept.items()) if window in windows}
        missing = [window for window in dict.fromkeys(windows) if window not in found]
        found.update(zip(missing, self._crops(encoding, missing, sam), strict=True))
        for window, features in found.items():  # those asked for last are dropped last
            kept.pop(window, None)
            kept[window] = features
        for window in list(kept)[:-MOST_CROPS]:
            kept.pop(window, None)
        return [found[window] for window in windows]

    def _crops(
        self, encoding: Encoding, windows: Sequence[Window], sam: Callable[[], Sam]
    ) -> list[SamFeatures]:
        def encoded(window: Window) -> tuple[SamFeatures, float]:
            x0, y0, x1, y1 = window
            part = np.ascontiguousarray(encoding.image[y0:y1, x0:x1])
            slot = ("sam", encoding.key, window)
            (found,), seconds = self._encoded(
                "sam_crops", [part], [slot], lambda missing: sam().encode(missing)
            )
            return replace(found, frame=replace(found.frame, left=x0, top=y0)), seconds

        started = time.perf_counter()
        found = [encoded(window) for window in windows]
        if any(seconds for _, seconds in found):
            spent = time.perf_counter() - started
            encoding.timings["sam_crops"] = encoding.timings.get("sam_crops", 0.0) + spent
        return [features for features, _ in found]

    def others(
        self, encoding: Encoding, kind: str, backbone: Callable[[], PatchBackbone]
    ) -> PatchGrid:
        """The features of another backbone for eq. 4, kept in the encoding; it is loaded if they are missing."""
        if kind not in encoding.others:
            (found,), seconds = self._encoded(
                kind,
                [encoding.image],
                [(kind, encoding.key)],
                lambda missing: backbone().encode(missing),
            )
            encoding.others[kind] = found
            encoding.timings[kind] = seconds
        return encoding.others[kind]

    def _encoded(
        self, encoder: str, images: list[NDArray[np.uint8]], slots: list[Any], encode: Any
    ) -> tuple[list[Any], float]:
        """An encoder's features of some images, from the cache where possible, and the seconds that encoding took.

        Args:
            encoder: Name in `images_encoded`.
            images: uint8 RGB (H, W, 3) each.
            slots: Keys of the images in the cache.
            encode: Makes the features of those that are missing.
        """
        found = {slot: self.cache.get(slot) for slot in slots}
        missing = {
            slot: image for slot, image in zip(slots, images, strict=True) if found[slot] is None
        }
        started = time.perf_counter()
        if missing:
            with torch.inference_mode():
                encoded = encode(list(missing.values()))
            for slot, value in zip(missing, encoded, strict=True):
                found[slot] = value
                self.cache.put(slot, value)
            with self._counting:
                self.images_encoded[encoder] += len(missing)
        seconds = time.perf_counter() - started if missing else 0.0
        return [found[slot] for slot in slots], seconds


class Clock:
    """Measures the seconds of each stage; seconds of encoders that run during a stage are not counted."""

    def __init__(self, encoding: Encoding) -> None:
        self.seconds: dict[str, float] = {}
        self._encoding = encoding
        self.restart()

    def restart(self) -> None:
        """Start timing a stage."""
        self._since = time.perf_counter()
        self._encoders = sum(self._encoding.timings.values())

    def lap(self, stage: str) -> None:
        """Stop timing a stage, and keep its seconds under its name."""
        spent = time.perf_counter() - self._since
        encoders = sum(self._encoding.timings.values()) - self._encoders
        self.seconds[stage] = max(0.0, spent - encoders)


@cache
def versions() -> dict[str, str]:
    """Versions of zsas and of the installed packages that can change a result."""
    found = {"zsas": __version__}
    for package in (
        *("torch", "transformers", "numpy", "opencv-python-headless"),
        *("pillow", "tifffile", "imagecodecs", "pillow-heif"),
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
