"""The engine: encode an image once, decide often. It knows no system by name.

Encoding costs seconds on a CPU and depends on the image; everything after it costs milliseconds and depends on the
settings. A changed setting therefore never runs an encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsas.backbones.session import Answers, SamSession
from zsas.beside import (
    Beside,
    beside_of,
    cells_in,
    check_given,
    check_numbers,
    judge_with,
    remember_images,
    weighed,
)
from zsas.declare import declared
from zsas.encoding import Clock, Encoding, versions
from zsas.errors import ZsasError
from zsas.images import ImageSource, several
from zsas.lazy import torch
from zsas.limits import limit_of, limited, score_alone
from zsas.loaded import ENCODING_BYTES, Loaded
from zsas.localizers.base import Context, Scored
from zsas.localizers.looking import look_at
from zsas.localizers.mutual import Batch, Cells, check_count, compare_batch
from zsas.localizers.references import References
from zsas.prompts import SPOT, Click, check_clicks
from zsas.refiners.base import Refined, pixel_of, refined_inside
from zsas.refiners.crops import CropSettings, close_windows
from zsas.refiners.fine import with_detail
from zsas.refiners.spots import with_spots
from zsas.result import Result, find_regions, sized
from zsas.settings import Settings
from zsas.stages import Stage
from zsas.systems import system_named

if TYPE_CHECKING:
    from zsas.part import Part
    from zsas.region import RegionOfInterest

__all__ = ["ENCODING_BYTES", "Encoding", "Segmenter"]


class Segmenter(Loaded):
    """Zero-shot anomaly segmentation: encode an image once, decide often.

    Args:
        models: The backbones, loaded by role on first need.
        localizers: Localizers that are loaded already; others are loaded from `models` when they are asked for.
        cache_bytes: Budget of the cache of encodings and maps.
        system: Name of the system that runs where no settings are given.

    Example:
        >>> segmenter = Segmenter.from_preset("tiny", device="cpu")
        >>> encoding = segmenter.encode(np.full((64, 64, 3), 128, np.uint8))  # or the name of a file
        >>> result = segmenter.segment(encoding, Settings(threshold=0.4))
        >>> result.verdict
        'normal'
    """

    # Encoding: seconds, depends on the image.

    def begin(
        self,
        image: ImageSource,
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> Encoding:
        """Encode one image with the localizer alone; SAM encodes it later, if a refiner asks for it.

        Args:
            image: Path, PIL image or RGB array; see `zsas.images.load_image`. `zsas.images.read_image` reads a page of
                a stack, or values of so many bits, and what it gives can be passed here.
            settings: Only those with `encoding=True` are read.
            region: Tiles wholly outside of it are not encoded; the encoding then serves this region alone.

        Raises:
            ZsasError: If the image cannot be read, or the system cannot run.
        """
        return self._begin([image], self._chosen(settings), region)[0]

    def encode(
        self,
        image: ImageSource,
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> Encoding:
        """Run all encoders on one image; an image with the same pixels is encoded once. Arguments as in `begin`."""
        return self.encode_batch([image], settings, region)[0]

    def encode_batch(
        self,
        images: Sequence[ImageSource],
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> list[Encoding]:
        """Run all encoders on several images, of any sizes; each encoder takes them as one batch. See `encode`."""
        settings = self._chosen(settings)
        with_sam = "sam" in system_named(settings.system, refiner=settings.refiner).roles
        encodings = self._begin(images, settings, region, with_sam=with_sam)
        if encodings and with_sam:
            self._encoders.add_sam(encodings, lambda: self.sam)
        if CropSettings in self.refiner(settings).settings and settings.sam_crops != "off":
            beside, crops = Beside(region=region or None), settings.of(CropSettings)
            for one in encodings:
                scored = self._score(one, settings, self._session(one), beside)
                windows = close_windows(scored, crops, self.sam.side)
                self._encoders.crops(one, windows, lambda: self.sam)
        return encodings

    # Deciding: milliseconds, depends on the settings.

    def segment(
        self,
        source: Encoding | ImageSource,
        settings: Settings | None = None,
        clicks: Sequence[Click] = (),
        references: References | None = None,
        batch: Batch | None = None,
        *,
        region: RegionOfInterest | None = None,
        part: Part | None = None,
    ) -> Result:
        """Find what is anomalous on an image.

        Args:
            source: An image, or its `Encoding` from `encode` or `begin` with the same encoding settings: then no
                encoder runs.
            settings: All settings.
            clicks: A person's points, (x, y, label) in image pixels, in addition to the automatic ones; see
                `prompts.Click`.
            references: Reference images (images of good parts), from `remember`.
            batch: The batch that the image belongs to, from `compare_batch`.
            region: Region of interest; nothing outside of it is marked or changes a score.
            part: Profile of the part; it fills in what is None here.

        Returns:
            The result with every stage.

        Raises:
            ZsasError: If the image cannot be read, a click is none, or encoding, references or batch do not fit
                the settings.
        """
        *_, result = self.stages(
            source, settings, clicks, references, batch, region=region, part=part
        )
        assert isinstance(result, Result)
        return result

    __call__ = segment

    def segment_each(
        self,
        encoding: Encoding,
        settings: Sequence[Settings],
        references: References | None = None,
        batch: Batch | None = None,
        *,
        region: RegionOfInterest | None = None,
    ) -> Iterator[Result]:
        """One result for each of several settings that share an encoding, in their order.

        Conditions of an evaluation often lead to the same prompts (the first steps of a longer cascade, another kernel
        with the same points); SAM's decoder runs once for each different prompt.
        """
        session = self._session(encoding, Answers(2**60))
        beside = Beside(references, batch, region)
        for one in settings:
            *_, result = self._decide(encoding, one, (), session, beside)
            assert isinstance(result, Result)
            yield result

    def anomaly_map(self, encoding: Encoding, settings: Settings) -> NDArray[np.float32]:
        """Map_a of an encoded image in its own frame, float32 (H, W), in [0, 1]."""
        return self._score(encoding, settings, self._session(encoding), Beside()).map

    def image_score(
        self,
        encoding: Encoding,
        settings: Settings,
        references: References | None = None,
        *,
        region: RegionOfInterest | None = None,
    ) -> float:
        """The image score of an encoded image, in [0, 1]; no refiner runs.

        Args:
            encoding: The encoded image.
            settings: All settings.
            references: Reference images, from `remember`.
            region: Region of interest.
        """
        beside = Beside(references, region=region)
        scored = self._score(encoding, settings, self._session(encoding), beside)
        return self.localizer(settings).image_score(scored.evidence, settings)

    def stages(
        self,
        source: Encoding | ImageSource,
        settings: Settings | None = None,
        clicks: Sequence[Click] = (),
        references: References | None = None,
        batch: Batch | None = None,
        *,
        region: RegionOfInterest | None = None,
        part: Part | None = None,
    ) -> Iterator[Stage | Result]:
        """Yield each stage as soon as it is computed, and the result at the end. Arguments as in `segment`.

        Stages that a setting switches off, or that have nothing to do, are left out. An image that is not encoded yet
        is encoded on the way: its anomaly map comes before SAM begins.
        """
        check_given(references, batch, region, part)
        if part is None:
            settings = self._chosen(settings)
        remembered = part.memory(self, part.chosen(settings)) if part is not None else None
        beside, settings = beside_of(settings, part, remembered, references, batch, region)
        clicks = check_clicks(clicks)
        if not isinstance(source, Encoding):
            source = self.begin(source, settings, beside.region)
        yield from self._decide(source, settings, clicks, self._session(source), beside)

    def remember(
        self,
        images: Sequence[ImageSource],
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> References:
        """Encode images of good parts once, as a memory that other images are compared with.

        Args:
            images: One to a hundred; with a single one, changed copies of it give the normal level.
            settings: Those that change an encoding are read; images to compare must be encoded with the same.
            region: Region of interest on all of them; images to compare must have the same.

        Raises:
            ZsasError: If there is none, one cannot be read, or the system has no patch features to compare.
        """
        chosen = self._chosen(settings)
        localizer = self.localizer(chosen)
        judge = judge_with(localizer, chosen, self._session, self.models.device)
        return remember_images(
            lambda some, where: self._begin(some, chosen, where),
            *(images, chosen, region, judge),
            keep=partial(localizer.kept, values=chosen) if localizer.own_way(chosen) else None,
        )

    def limit_of(self, references: References, settings: Settings | None = None) -> float | None:
        """The limit of the image score that follows from reference images, each judged by the others (leave one out).

        Args:
            references: From `remember`.
            settings: All settings; `verdict_threshold` is not read.

        Returns:
            In [0, 1]; None if the memory holds no scores of its images.
        """
        chosen = self._chosen(settings)
        return limit_of(references, self.localizer(chosen), chosen)

    def gather(
        self,
        images: Sequence[ImageSource],
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> list[Cells]:
        """The features that the images of a batch are compared by, at most some hundred kilobytes an image.

        Args:
            images: The batch.
            settings: Those that change an encoding are read.
            region: Region of interest on all of them.

        Raises:
            ZsasError: If an image cannot be read, or the system has no patch features to compare.
        """
        return [cells_in(x, region) for x in self._begin(images, self._chosen(settings), region)]

    def compare_batch(
        self,
        cells: Sequence[Cells],
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> Batch:
        """Compare unlabelled images of one product with each other, as evidence for each of them.

        Args:
            cells: From `gather`, of at least five images.
            settings: Those that `gather` was given.
            region: The one that `gather` was given.

        Raises:
            ZsasError: If there are too few images.
        """
        made_by = self.made_by(self._chosen(settings))
        return compare_batch(cells, made_by, region=region.key if region else "")

    def segment_batch(
        self,
        images: Sequence[Encoding | ImageSource],
        settings: Settings | None = None,
        *,
        mutual: bool = False,
        references: References | None = None,
        region: RegionOfInterest | None = None,
        part: Part | None = None,
    ) -> Iterator[Result]:
        """One result for each image, in their order; each is computed when the iterator asks for it.

        Args:
            images: Encodings or images. Encodings made for the comparison are used again if the cache still holds them.
            settings: All settings, the same for every image.
            mutual: Compare them with each other first: at least five images of the same product, mostly good.
            references: Reference images, from `remember`.
            region: Region of interest on all of them.
            part: Profile of the part; it fills in what is None here.

        Raises:
            ZsasError: If an image cannot be read, or there are too few to compare.
        """
        check_given(references, region=region, part=part)
        images = several(images, lazily=not mutual)
        if part is not None:
            settings = part.chosen(settings)
            region = part.region if region is None else region
        settings = self._chosen(settings)
        batch = None
        if mutual:
            check_count(len(images))
            cells: list[Cells] = []
            for one in images:
                encoding = one if isinstance(one, Encoding) else self.begin(one, settings, region)
                cells.append(cells_in(encoding, region))
            batch = self.compare_batch(cells, settings, region)
        return (
            self.segment(one, settings, (), references, batch, region=region, part=part)
            for one in images
        )

    def _score(
        self, encoding: Encoding, settings: Settings, session: SamSession, beside: Beside
    ) -> Scored:
        """Anomaly map and evidence, from the cache unless a setting that the localizer reads has changed."""
        self._check_process()
        localizer, made_by = self.localizer(settings), self.made_by(settings)
        if encoding.made_by != made_by:
            raise ZsasError(
                "The image was encoded with other models, another system or another resolution than are asked for "
                "now; encode it again."
            )
        own_way = localizer.own_way(settings)
        beside.check(made_by, self.remembered_by(settings), settings)
        good = beside.references.own if beside.references and own_way else ()
        context = Context(encoding.image, session, good)
        values = [
            getattr(settings, s.name) for group in localizer.settings for s in declared(group)
        ]
        features = look_at(encoding.features, encoding.image.shape, beside.region)
        features = features.to(self.models.device)

        def make() -> Scored:
            with torch.inference_mode():
                scored = localizer.score(features, settings, context)
            check_numbers(scored.map, localizer.name)
            return weighed(scored, features, encoding, beside, localizer, settings)

        slot = ("map", encoding.key, *made_by, *values, *beside.key)
        return self.cache.get_or_make(slot, make)

    # Long because a result has many fields, all filled here.
    def _decide(
        self,
        encoding: Encoding,
        settings: Settings,
        clicks: Sequence[Click],
        session: SamSession,
        beside: Beside,
    ) -> Iterator[Stage | Result]:
        described = self.describe(settings)  # a missing model is refused before anything runs
        clock = Clock(encoding)
        scored = self._score(encoding, settings, session, beside)
        if scored.inside is not None:
            clicks = [c for c in clicks if scored.inside[pixel_of(c, scored.inside.shape)]]
        refiner = self.refiner(settings)
        found: list[Stage] = []
        refined: Refined | None = None
        # Spots are drawn as the person placed them; refiners do not see them.
        asked = [click for click in clicks if click[2] != SPOT]
        for step in chain(scored.stages, refiner.refine(scored, session, settings, asked)):
            if isinstance(step, Refined):
                refined = step
                break
            clock.lap(step.name)
            found.append(step)
            yield step
            clock.restart()
        assert refined is not None
        refined = with_spots(refined, clicks, session if "sam" in refiner.roles else None)
        if scored.inside is not None:
            refined = refined_inside(refined, scored.inside)
        regions = find_regions(refined.mask, refined.score_map)
        if settings.fine_detail:
            where = beside.region and beside.region.key
            step, refined = with_detail(refined, self.cache, encoding, scored.inside, where)
            clock.lap(step.name)
            found.append(step)
            yield step
            clock.restart()
        regions, mask = sized(regions, refined.mask, beside.scale)
        localizer = self.localizer(settings)
        settings, source = limited(settings, localizer, beside.references, beside.limit_from)
        clock.lap(refined.stage.name)
        found.append(refined.stage)
        yield refined.stage
        yield Result(
            image=encoding.image,
            anomaly_map=scored.map,
            score_map=refined.score_map,
            mask=mask,
            image_score=localizer.image_score(scored.evidence, settings),
            regions=regions,
            stages=tuple(found),
            points=refined.points,
            provenance=refined.provenance,
            settings=settings,
            models=described,
            versions=dict(versions()),
            timings={**encoding.timings, **clock.seconds},
            input=encoding.input,
            normal_ratio=scored.evidence.get("normal_ratio"),
            limit_from=source,
            score_alone=score_alone(scored.evidence, localizer, settings),
            **beside.facts(),
        )
