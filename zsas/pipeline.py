"""The stages in order: photo → map → points → cascade → fusion → result.

Encoding costs seconds on a CPU and depends on the photo; everything after it costs milliseconds and depends on the
settings. A changed setting therefore never runs an encoder.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zsas import __version__
from zsas.backbones.sam import Sam, SamFeatures
from zsas.cache import ByteBudgetCache
from zsas.cascade import Step, kept_step, next_prompt, read_answer, separate_regions
from zsas.clip import ClipBackbone
from zsas.device import Precision
from zsas.errors import ZsasError
from zsas.frames import resize_map
from zsas.fusion import fuse, has_run_away, hottest, image_score, soft_mask, trust
from zsas.images import ImageSource, digest, load_image
from zsas.localizers import Localizer, PatchFeatures, anomaly_map, image_probability
from zsas.localizers.linear import LinearLocalizer, read_adapter
from zsas.localizers.training_free import TrainingFreeLocalizer
from zsas.models import ModelChoice, Models
from zsas.points import extreme_region, kernel_size_in_photo, point_prompts, surrounding_ring
from zsas.result import CascadeStep, Points, Result, find_regions
from zsas.settings import Settings

Click = tuple[float, float, int]
"""A person's point: x, y in photo pixels, label 1 for "this is wrong" and 0 for "this is sound"."""

ENCODING_BYTES = 1_000_000_000
"""Default budget of the encoding cache."""


@dataclass(frozen=True)
class Encoding:
    """One photo after both encoders: all that deciding needs.

    Attributes:
        key: Digest of the photo's pixels.
        image: The photo, uint8 RGB (H, W, 3).
        patches: CLIP's patch features, before any words.
        sam: SAM's features, F of eq. 4.
        localizer: Which localizer made `patches`.
        resolution: The side of the CLIP frame that was asked for, in pixels.
        timings: Seconds of each encoder, 0 where it came from the cache.
    """

    key: str
    image: NDArray[np.uint8]
    patches: PatchFeatures
    sam: SamFeatures
    localizer: str
    resolution: int
    timings: dict[str, float]

    def to(self, device: torch.device | str) -> Encoding:
        """This encoding with its features on another device: "cpu" to send it to another process."""
        return replace(self, patches=self.patches.to(device), sam=self.sam.to(device))


@dataclass(frozen=True)
class _Heat:
    """Map_a in the photo's frame, float32 (H, W), and the two opinions on the whole photo, each in [0, 1]."""

    map: NDArray[np.float32]
    hottest: float
    own_answer: float

    @property
    def nbytes(self) -> int:
        return self.map.nbytes


@dataclass
class _Target:
    """One cascade: its region (None where a person asked for it), its points, and its steps so far."""

    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    source: tuple[str, ...]
    region: NDArray[np.bool_] | None
    heat: float
    steps: list[Step] = field(default_factory=list)

    def trust(self, step: Step) -> float:
        """How far a mask of this cascade is believed; what a person points at is no suspicion any more."""
        return 1.0 if self.region is None else trust(step, self.heat, self.region)


class Segmenter:
    """Zero-shot anomaly segmentation: encode a photo once, decide often.

    Args:
        clip: CLIP backbone.
        sam: SAM.
        localizers: By name; at least `training_free`.
        preset: Name for results, or the ids of both models.
        cache_bytes: Budget of the encoding cache.

    Example:
        >>> segmenter = Segmenter.from_preset("tiny")                                # doctest: +SKIP
        >>> encoding = segmenter.encode("photo.png")                                 # doctest: +SKIP
        >>> result = segmenter.segment(encoding, Settings(threshold=0.4))            # doctest: +SKIP
        >>> print(result.verdict)                                                    # doctest: +SKIP
    """

    def __init__(
        self,
        clip: ClipBackbone,
        sam: Sam,
        localizers: dict[str, Localizer],
        *,
        preset: str,
        cache_bytes: int = ENCODING_BYTES,
    ) -> None:
        self.clip = clip
        self.sam = sam
        self.localizers = localizers
        self.preset = preset
        self.cache: ByteBudgetCache[Any] = ByteBudgetCache(cache_bytes)
        self.photos_encoded = {"clip": 0, "sam": 0}

    @classmethod
    def from_preset(
        cls,
        preset: str | None = None,
        *,
        clip: str | Path | None = None,
        sam: str | Path | None = None,
        adapter: str | Path | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        cache_bytes: int = ENCODING_BYTES,
    ) -> Segmenter:
        """Load a preset, with any of its parts replaced.

        Args:
            preset: Name of a preset; the default of this machine if None (see `zsas.models.default_preset`).
            clip: Another CLIP: Hub id or folder; an `adapter.safetensors` in the folder is used with it.
            sam: Another SAM: Hub id, folder, or one of Meta's `.pth` files.
            adapter: Linear layers for the CLIP: a safetensors file, an APRIL-GAN `.pth` file, or
                `april-gan:mvtec` / `april-gan:visa` for the published ones.
            device: `cpu`, `cuda`, `mps`; the best there is if None.
            precision: Number format of the encoders: `auto` (bf16 where the hardware has it), `fp32` or `bf16`.
            cache_bytes: Budget of the encoding cache.

        Raises:
            ZsasError: If a model cannot be had or an adapter does not fit.
        """
        files = {"linear": str(adapter)} if adapter else {}
        own_clip, own_sam = (str(source) if source else None for source in (clip, sam))
        choice = ModelChoice(preset, own_clip, own_sam, files, device, precision)
        return cls.from_choice(choice, cache_bytes=cache_bytes)

    @classmethod
    def from_choice(cls, choice: ModelChoice, *, cache_bytes: int = ENCODING_BYTES) -> Segmenter:
        """Load the models of a choice; see `from_preset`.

        Raises:
            ZsasError: If a model cannot be had or weights do not fit.
        """
        unknown = sorted(set(choice.weights) - {"linear"})
        if unknown:
            raise ZsasError(f"There is no localizer {unknown[0]!r} with weights; name linear.")
        models = Models(choice)
        # Device, precision and weights are checked before gigabytes are fetched.
        models.check()
        file = models.weights("linear")
        layers = None if file is None else read_adapter(file)
        models.load("clip", "sam")
        localizers: dict[str, Localizer] = {"training_free": TrainingFreeLocalizer(models.clip)}
        if layers is not None:
            localizers["linear"] = LinearLocalizer(models.clip, layers)
        return cls(
            models.clip, models.sam, localizers, preset=models.choice.name, cache_bytes=cache_bytes
        )

    def localizer(self, settings: Settings) -> Localizer:
        """The localizer that runs with these settings; `auto` takes `linear` wherever there is an adapter.

        Raises:
            ZsasError: If `linear` is asked for and no adapter is loaded.
        """
        name = settings.localizer
        if name == "auto":
            name = "linear" if "linear" in self.localizers else "training_free"
        if name not in self.localizers:
            raise ZsasError(
                f"The linear localizer needs trained layers for {self.clip.name}; name an adapter file, "
                "or use the training_free localizer."
            )
        return self.localizers[name]

    def _side(self, settings: Settings) -> int:
        """Side of the CLIP frame in pixels."""
        return settings.resolution or self.localizer(settings).resolution

    # Encoding: seconds, depends on the photo.

    def encode(self, image: ImageSource, settings: Settings | None = None) -> Encoding:
        """Both encoders on one photo; kept by content, so that the same photo is encoded once.

        Args:
            image: Path, PIL image or RGB array; see `zsas.images.load_image`.
            settings: Only `localizer` and `resolution` matter.
        """
        return self.encode_batch([image], settings)[0]

    def encode_batch(
        self, images: Sequence[ImageSource], settings: Settings | None = None
    ) -> list[Encoding]:
        """Both encoders on several photos of any sizes, each in one batch; see `encode`."""
        if not images:
            return []
        settings = settings or Settings()
        photos = [load_image(image) for image in images]
        keys = [digest(photo) for photo in photos]
        patches, clip_seconds = self._patches(photos, keys, settings)
        features, sam_seconds = self._features(photos, keys)
        localizer, side = self.localizer(settings), self._side(settings)
        timings = {"clip": clip_seconds / len(photos), "sam": sam_seconds / len(photos)}
        return [
            Encoding(keys[i], photos[i], patches[i], features[i], localizer.name, side, timings)
            for i in range(len(photos))
        ]

    def _patches(
        self, photos: list[NDArray[np.uint8]], keys: list[str], settings: Settings
    ) -> tuple[list[PatchFeatures], float]:
        localizer, side = self.localizer(settings), self._side(settings)
        slots = [("clip", key, localizer.name, side) for key in keys]
        return self._encoded("clip", photos, slots, lambda missing: localizer.encode(missing, side))

    def _features(
        self, photos: list[NDArray[np.uint8]], keys: list[str]
    ) -> tuple[list[SamFeatures], float]:
        return self._encoded("sam", photos, [("sam", key) for key in keys], self.sam.encode)

    def _encoded(
        self, encoder: str, photos: list[NDArray[np.uint8]], slots: list[Any], encode: Any
    ) -> tuple[list[Any], float]:
        """What an encoder gives for some photos, from the cache where it is there, and the seconds it took."""
        found = {slot: self.cache.get(slot) for slot in slots}
        missing = {
            slot: photo for slot, photo in zip(slots, photos, strict=True) if found[slot] is None
        }
        started = time.perf_counter()
        if missing:
            for slot, value in zip(missing, encode(list(missing.values())), strict=True):
                found[slot] = value
                self.cache.put(slot, value)
            self.photos_encoded[encoder] += len(missing)
        seconds = time.perf_counter() - started if missing else 0.0
        return [found[slot] for slot in slots], seconds

    # Deciding: milliseconds, depends on the settings.

    def segment(
        self, encoding: Encoding, settings: Settings | None = None, clicks: Sequence[Click] = ()
    ) -> Result:
        """Decide on an encoded photo; no encoder runs.

        Args:
            encoding: From `encode`, with the same `localizer` and `resolution`.
            settings: All other knobs are read here.
            clicks: A person's points, added to the automatic ones.

        Returns:
            The result with every stage.
        """
        *_, (_, result) = self.stages(encoding, settings, clicks)
        return result

    def __call__(
        self, image: ImageSource, settings: Settings | None = None, clicks: Sequence[Click] = ()
    ) -> Result:
        """Encode and decide in one call."""
        return self.segment(self.encode(image, settings), settings, clicks)

    def anomaly_map(self, encoding: Encoding, settings: Settings) -> NDArray[np.float32]:
        """Map_a of an encoded photo in its own frame, float32 (H, W), in [0, 1]."""
        return self._heat(encoding.image, encoding.key, encoding.patches, settings).map

    def _heat(
        self, photo: NDArray[np.uint8], key: str, patches: PatchFeatures, settings: Settings
    ) -> _Heat:
        """Map and opinions, kept while their own few settings stay the same."""
        localizer = self.localizer(settings)

        def make() -> _Heat:
            activation = getattr(localizer, "activation", None)  # of an adapter, for both towers
            states = self.clip.state_vectors(settings.object_name, activation)
            square = anomaly_map(patches, states, localizer.scale, settings.blur)
            probability = image_probability(patches, states, self.clip.logit_scale)
            heat = resize_map(square, *photo.shape[:2])
            heat.setflags(write=False)
            return _Heat(heat, hottest(square), probability)

        side = patches.resolution
        slot = ("map", key, localizer.name, side, settings.object_name, settings.blur)
        return self.cache.get_or_make(slot, make)

    def stages(
        self,
        source: Encoding | ImageSource,
        settings: Settings | None = None,
        clicks: Sequence[Click] = (),
    ) -> Iterator[tuple[str, Result]]:
        """The result as it grows, one item a stage: map, region, points, m1, m2, box, m3, fused.

        Stages that a setting switches off, or that have nothing to do, are left out; `fused` is always last.

        Args:
            source: An encoding, or a photo, which is then encoded on the way: its map is there before SAM begins.
            settings: All knobs.
            clicks: A person's points, (x, y, label) in photo pixels.

        Yields:
            Name of the stage and the result so far; later stages are empty in it.
        """
        settings = settings or Settings()
        _check_clicks(clicks)
        clock = _Clock()
        if isinstance(source, Encoding):
            photo, key, patches = source.image, source.key, source.patches.to(self.clip.device)
            if source.localizer != self.localizer(settings).name:
                raise ZsasError("The photo was encoded for another localizer; encode it again.")
            if source.resolution != self._side(settings):
                raise ZsasError("The photo was encoded at another resolution; encode it again.")
            clock.seconds |= source.timings
        else:
            photo = load_image(source)
            key = digest(photo)
            (patches,), clock.seconds["clip"] = self._patches([photo], [key], settings)
        height, width = photo.shape[:2]
        clock.restart()
        found = self._heat(photo, key, patches, settings)
        heat = found.map
        score = image_score(found.hottest, found.own_answer, settings)
        clock.lap("map")
        empty = np.zeros((height, width), bool)
        result = Result(
            image=photo,
            anomaly_map=heat,
            region=empty,
            ring=empty,
            points=Points.none(),
            steps=(),
            box=np.zeros((0, 4), np.float32),
            winner="",
            mask=empty,
            score_map=heat,
            image_score=score,
            anomalous=score >= settings.verdict_threshold,
            regions=(),
            settings=settings,
            preset=self.preset,
            localizer=self.localizer(settings).name,
            versions=dict(_versions()),
            timings={},
        )
        yield "map", clock.stamped(result)

        clock.restart()
        region = extreme_region(heat, settings)
        size = kernel_size_in_photo(settings, height, width)
        result = replace(
            result, region=region, ring=surrounding_ring(region, settings.kernel_shape, size)
        )
        clock.lap("region")
        yield "region", clock.stamped(result)

        if isinstance(source, Encoding):
            features = source.sam.to(self.sam.device)
        else:
            (features,), clock.seconds["sam"] = self._features([photo], [key])
        clock.restart()
        targets, rest = _targets(result, features, size, settings, clicks)
        clock.lap("points")
        if targets:
            result = replace(result, points=_all_points(targets))
            yield "points", clock.stamped(result)

        for number in range(1, settings.steps + 1):
            if not targets:
                break
            clock.restart()
            prompts = [next_prompt(t.points, t.labels, t.steps) for t in targets]
            boxes = [prompt.box for prompt in prompts if prompt.box is not None]
            if boxes:
                result = replace(result, box=np.stack(boxes))
                yield "box", clock.stamped(result)
            answers = self.sam.decode(features, prompts)
            for target, prompt, answer in zip(targets, prompts, answers, strict=True):
                target.steps.append(read_answer(prompt, answer, features.frame, number))
            result = replace(result, steps=(*result.steps, _merged_step(targets, features, number)))
            clock.lap(f"m{number}")
            yield f"m{number}", clock.stamped(result)

        clock.restart()
        mask, winner, kept = _final_mask(targets, rest, settings)
        score_map = fuse(heat, soft_mask(kept, features.frame), settings)
        result = replace(
            result,
            mask=mask,
            winner=winner,
            score_map=score_map,
            regions=find_regions(mask, score_map),
        )
        clock.lap("fused")
        yield "fused", clock.stamped(result)


def _check_clicks(clicks: Sequence[Click]) -> None:
    for click in clicks:
        if not np.isfinite(click[:2]).all() or click[2] not in (0, 1):
            raise ZsasError(
                f"A click is {click!r}, but it must be x and y in photo pixels and a label, 1 for what is wrong or "
                "0 for what is sound."
            )


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.restart()

    def restart(self) -> None:
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        self.seconds[stage] = time.perf_counter() - self._since

    def stamped(self, result: Result) -> Result:
        """The result with the times so far."""
        return replace(result, timings=dict(self.seconds))


def _targets(
    result: Result,
    features: SamFeatures,
    kernel_size: int,
    settings: Settings,
    clicks: Sequence[Click],
) -> tuple[list[_Target], NDArray[np.bool_]]:
    """The cascades to run: the whole region, or one for each piece of it, and the clicks.

    Beside them, bool (H, W), the pieces beyond `max_regions`: no cascade refines them, and they are kept as they are.
    A positive click belongs to the piece it lies in or beside (in its ring); elsewhere it is a cascade of its own.
    A negative click is told to every cascade.
    """
    pieces = [result.region] if result.region.any() else []
    if settings.prompting == "per_region":
        pieces = separate_regions(result.region, result.anomaly_map, settings.max_regions)
    rest = result.region.copy()
    for piece in pieces:
        rest &= ~piece
    valid = features.valid
    positive = [(x, y) for x, y, label in clicks if label == 1]
    negative = [(x, y) for x, y, label in clicks if label != 1]
    targets = []
    for piece in pieces:
        ring = result.ring
        if len(pieces) > 1 or rest.any():
            ring = surrounding_ring(piece, settings.kernel_shape, kernel_size) & ~result.region
        points, labels = point_prompts(
            result.anomaly_map, piece, ring, valid, features.frame, settings
        )
        near = piece | ring
        own = [p for p in positive if settings.prompting == "joint" or near[_pixel(p, near.shape)]]
        positive = [p for p in positive if p not in own]
        source = tuple("map" if label else "ring" for label in labels)
        heat = float(result.anomaly_map[piece].max())
        targets.append(
            _with_clicks(points, labels, source, None if own else piece, heat, own, negative)
        )
    none = np.zeros((0, 2), np.float32)
    for point in positive:
        targets.append(_with_clicks(none, np.zeros(0, np.int64), (), None, 1.0, [point], negative))
    return targets, rest


def _with_clicks(
    points: NDArray[np.float32],
    labels: NDArray[np.int64],
    source: tuple[str, ...],
    region: NDArray[np.bool_] | None,
    heat: float,
    positive: list[tuple[float, float]],
    negative: list[tuple[float, float]],
) -> _Target:
    clicked = np.array([*positive, *negative], np.float32).reshape(-1, 2)
    clicked_labels = np.array([1] * len(positive) + [0] * len(negative), np.int64)
    return _Target(
        np.concatenate([points, clicked]),
        np.concatenate([labels, clicked_labels]),
        source + ("click",) * len(clicked),
        region,
        heat,
    )


def _pixel(point: tuple[float, float], shape: tuple[int, ...]) -> tuple[int, int]:
    """Row and column of a point, moved into the photo."""
    x, y = point
    return min(max(round(y), 0), shape[0] - 1), min(max(round(x), 0), shape[1] - 1)


def _all_points(targets: list[_Target]) -> Points:
    """The points of all cascades, each place once: a negative click is told to several."""
    xy = np.concatenate([t.points for t in targets])
    labels = np.concatenate([t.labels for t in targets])
    source = [word for t in targets for word in t.source]
    _, first = np.unique(np.column_stack([xy, labels]), axis=0, return_index=True)
    first.sort()
    return Points(xy[first], labels[first], tuple(source[i] for i in first))


def _merged_step(targets: list[_Target], features: SamFeatures, number: int) -> CascadeStep:
    """One step of all cascades as one: union of the masks, mean of the scores."""
    steps = [target.steps[-1] for target in targets]
    frame = features.frame
    count = sum(len(step.prompt.points) for step in steps)
    words = [f"{count} point{'' if count == 1 else 's'}"]
    if any(step.prompt.box is not None for step in steps):
        words.append("box")
    if number > 1:
        words.append(f"logits of M{number - 1}")
    text = ", ".join(words)
    if len(steps) > 1:
        text += f", in {len(steps)} regions"
    return CascadeStep(
        name=f"M{number}",
        mask=_union(steps, frame.height, frame.width),
        score=float(np.mean([step.score for step in steps])),
        box=steps[0].prompt.box if len(steps) == 1 else None,
        prompts=text,
    )


def _final_mask(
    targets: Sequence[_Target], rest: NDArray[np.bool_], settings: Settings
) -> tuple[NDArray[np.bool_], str, list[tuple[Step, float]]]:
    """The mask, what it is made of in words, and each cascade's kept step with the trust in it.

    Args:
        targets: Cascades that have run.
        rest: bool (H, W), the region's pieces that no cascade was run for.
        settings: `agreement` is read.
    """
    mask, winners = rest.copy(), {"region"} if rest.any() else set()
    kept: list[tuple[Step, float]] = []
    for target in targets:
        step = kept_step(target.steps)
        if step is not None:
            kept.append((step, target.trust(step)))
        if target.region is not None and has_run_away(step, target.region, settings):
            mask |= target.region
            winners.add("region")
        elif step is not None:
            mask |= _union([step], *mask.shape)
            winners.add(step.name)
    return mask, ", ".join(sorted(winners)[::-1]), kept


def _union(steps: Sequence[Step], height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    for step in steps:
        if step.window is not None and step.mask is not None:
            x0, y0, x1, y1 = step.window
            mask[y0:y1, x0:x1] |= step.mask
    return mask


@cache
def _versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"zsas": __version__}
    for package in ("torch", "transformers", "numpy", "opencv-python-headless", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
