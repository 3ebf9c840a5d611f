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
from zsas.beside import Beside, beside_of, cells_in, judge_with, remember_images, weighed
from zsas.declare import declared
from zsas.encoding import Clock, Encoding, versions
from zsas.errors import ZsasError
from zsas.images import ImageSource
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
    from zsas.backbones.sam import SamFeatures
    from zsas.part import Part
    from zsas.region import RegionOfInterest

__all__ = ["ENCODING_BYTES", "Encoding", "Segmenter"]


class Segmenter(Loaded):
    """Zero-shot anomaly segmentation: encode an image once, decide often.

    Args:
        models: The backbones, loaded by role on first need.
        localizers: Localizers that are loaded already; others are loaded from `models` when they are asked for.
        cache_bytes: Budget of the cache of encodings and maps.

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
        """The localizer's features of one image; SAM encodes it when a refiner asks, and the encoding keeps that too.

        Args:
            image: Path, PIL image or RGB array; see `zsas.images.load_image`. `zsas.images.read_image` reads a page of
                a stack, or values of so many bits, and what it gives can be passed here.
            settings: Those that need the encoders again are read.
            region: Tiles wholly outside of it are not encoded; the encoding is then good for this region alone.
        """
        return self._begin([image], settings or Settings(), region)[0]

    def encode(
        self,
        image: ImageSource,
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> Encoding:
        """All encoders on one image; kept by content, so that the same image is encoded once. See `begin`."""
        return self.encode_batch([image], settings, region)[0]

    def encode_batch(
        self,
        images: Sequence[ImageSource],
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> list[Encoding]:
        """All encoders on several images of any sizes, each in one batch; see `encode`."""
        settings = settings or Settings()
        encodings = self._begin(images, settings, region)
        if encodings and "sam" in system_named(settings.system, refiner=settings.refiner).roles:
            self._encoders.add_sam(encodings, lambda: self.sam)
        if CropSettings in self.refiner(settings).settings and settings.sam_crops != "off":
            beside, crops = Beside(region=region or None), settings.of(CropSettings)
            for one in encodings:
                scored = self._score(one, settings, self._session(one), beside)
                for window in close_windows(scored, crops, self.sam.side):
                    self._encoders.crop(one, window, lambda: self.sam)
        return encodings

    def _begin(
        self,
        images: Sequence[ImageSource],
        settings: Settings,
        region: RegionOfInterest | None = None,
    ) -> list[Encoding]:
        self._check_process()
        localizer, made_by = self.localizer(settings), self.made_by(settings)
        return self._encoders.begin(images, localizer, made_by, settings, region)

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
        """Decide on an image; an `Encoding` of it needs no encoder any more.

        Args:
            source: From `encode` or `begin` with the same encoding settings, or an image.
            settings: All settings.
            clicks: A person's points, (x, y, label) in image pixels, beside the automatic ones; see `prompts.Click`.
            references: Images of good parts, from `remember`.
            batch: The batch that the image belongs to, from `compare_batch`.
            region: Where to look; what lies outside never counts.
            part: What belongs to the part: it gives what is not given here.

        Returns:
            The result with every stage.
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
        """One result for each of some settings that share the encoding, in their order.

        Conditions of an evaluation often ask SAM the same question: the first steps of a longer cascade, or another
        kernel that leads to the same points. Each question is put once.
        """
        session = self._session(encoding, Answers(2**60))
        beside = Beside(references, batch, region, limit_from="")
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
        """How anomalous an encoded image is as a whole, in [0, 1], without any refiner.

        Args:
            encoding: Of the image.
            settings: All settings.
            references: Images of good parts, from `remember`.
            region: Where to look.
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
        """The stages as they are found, and the result at the end.

        Stages that a setting switches off, or that have nothing to do, are left out. An image is encoded on the way:
        its map is there before SAM begins. What is given is what `segment` takes.
        """
        remembered = part.memory(self, part.chosen(settings)) if part is not None else None
        beside, settings = beside_of(settings, part, remembered, references, batch, region)
        check_clicks(clicks)
        if not isinstance(source, Encoding):
            source = self.begin(source, settings, beside.region)
        yield from self._decide(source, settings, clicks, self._session(source), beside)

    def _session(self, encoding: Encoding, answers: Answers | None = None) -> SamSession:
        def features() -> SamFeatures:
            self._encoders.add_sam([encoding], lambda: self.sam)
            assert encoding.sam is not None
            return encoding.sam.to(self.sam.device)

        return SamSession(
            lambda: self.sam,
            features,
            answers=answers or self.answers,
            about=(encoding.key,),
            others=lambda kind: self._encoders.others(
                encoding, kind, lambda: self.models.patch_features(kind)
            ),
            crops=lambda window: self._encoders.crop(encoding, window, lambda: self.sam).to(
                self.sam.device
            ),
        )

    def remember(
        self,
        images: Sequence[ImageSource],
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> References:
        """A memory of images of good parts, encoded once, to decide others with.

        Args:
            images: One to a hundred; of one, changed copies give the normal level.
            settings: Those that encode are read; images decided with this memory must be encoded with the same.
            region: Where to look on them; images decided with this memory must be looked at in the same.

        Raises:
            ZsasError: If an image cannot be read, or the system has no patch features to compare.
        """
        chosen = settings or Settings()
        localizer = self.localizer(chosen)
        judge = judge_with(localizer, chosen, self._session, self.models.device)
        return remember_images(
            lambda some, where: self._begin(some, chosen, where),
            *(images, chosen, region, judge),
            keep=partial(localizer.kept, values=chosen) if localizer.own_way(chosen) else None,
        )

    def limit_of(self, references: References, settings: Settings | None = None) -> float | None:
        """The limit that good images ask for, each judged by the others alone (leave one out).

        Args:
            references: From `remember`.
            settings: All settings; the limit that they name is not looked at.

        Returns: In [0, 1]; None where only what they look like is known.
        """
        chosen = settings or Settings()
        return limit_of(references, self.localizer(chosen), chosen)

    def gather(
        self,
        images: Sequence[ImageSource],
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> list[Cells]:
        """What is compared of each image of a batch: at most some hundred kilobytes each; see `compare_batch`.

        Raises:
            ZsasError: If an image cannot be read, or the system has no patch features to compare.
        """
        return [cells_in(x, region) for x in self._begin(images, settings or Settings(), region)]

    def compare_batch(
        self,
        cells: Sequence[Cells],
        settings: Settings | None = None,
        region: RegionOfInterest | None = None,
    ) -> Batch:
        """Compare unlabelled images of one product with each other, to decide each of them with.

        Args:
            cells: From `gather`, of at least five images.
            settings: The same.
            region: The same.

        Raises:
            ZsasError: If there are too few images.
        """
        made_by = self.made_by(settings or Settings())
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
        """A result for each image, in their order, each when it is asked for.

        Args:
            images: Encodings or images. What is encoded to compare them is used again where the cache still holds it.
            settings: Of all.
            mutual: Compare them with each other first: at least five images of the same product, mostly good.
            references: Images of good parts, from `remember`.
            region: Where to look on all of them.
            part: What belongs to the part: it gives what is not given here.

        Raises:
            ZsasError: If an image cannot be read, or there are too few to compare.
        """
        settings = settings or Settings()
        if part is not None:
            settings, region = part.chosen(settings), region or part.region
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
        """Map and evidence, kept while the localizer's own few settings stay the same."""
        self._check_process()
        localizer, made_by = self.localizer(settings), self.made_by(settings)
        if encoding.made_by != made_by:
            raise ZsasError(
                "The image was encoded with other models, another system or another resolution than are asked for "
                "now; encode it again."
            )
        own_way = localizer.own_way(settings)
        beside.check(made_by, self.remembered_by(settings))
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
            return weighed(scored, features, encoding, beside, localizer, settings)

        slot = ("map", encoding.key, *made_by, *values, *beside.key)
        return self.cache.get_or_make(slot, make)

    # Long because a result is made of so many facts.
    def _decide(
        self,
        encoding: Encoding,
        settings: Settings,
        clicks: Sequence[Click],
        session: SamSession,
        beside: Beside,
    ) -> Iterator[Stage | Result]:
        described = self.describe(settings)  # what cannot be had is said before anything runs
        clock = Clock(encoding)
        scored = self._score(encoding, settings, session, beside)
        if scored.inside is not None:
            clicks = [c for c in clicks if scored.inside[pixel_of(c, scored.inside.shape)]]
        refiner = self.refiner(settings)
        found: list[Stage] = []
        refined: Refined | None = None
        # Spots are the person's alone: no refiner is asked about them.
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
