"""What a decision uses in addition to the image: reference images, the batch, the region of interest, the scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.errors import ZsasError, readable
from zsas.images import several
from zsas.lazy import torch
from zsas.limits import source_of_limit
from zsas.localizers.bank import changed_copies, changed_regions, turned_copies, turned_regions
from zsas.localizers.base import Context, Scored
from zsas.localizers.edges import EdgeSettings, draw_edges
from zsas.localizers.looking import look_at, only_inside, score_inside
from zsas.localizers.mutual import Batch, Cells, cells_of, weigh
from zsas.localizers.patches import PatchFeatures
from zsas.localizers.planting import Planted, planned, plant
from zsas.localizers.references import (
    References,
    ReferenceSettings,
    compare,
    remember,
)
from zsas.part import Part
from zsas.region import RegionOfInterest
from zsas.scale import Scale
from zsas.settings import Settings, settings_or_usual

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zsas.backbones.session import SamSession
    from zsas.encoding import Encoding
    from zsas.images import ImageSource
    from zsas.localizers.base import Localizer

Begin = Callable[[Sequence["ImageSource"], "RegionOfInterest | None"], "list[Encoding]"]
"""Encodes images; tiles wholly outside the region of interest are left out."""
Judge = Callable[
    ["Encoding", Any, "NDArray[np.bool_] | None", Sequence[Any]],
    "tuple[Mapping[str, float], NDArray[np.float32] | None]",
]
"""Scores one image: (encoding, features, pixels inside the region of interest, features of reference images) →
(evidence, anomaly map)."""
Keep = Callable[[Any, "NDArray[np.uint8]", "NDArray[np.bool_] | None"], Any]
"""What a localizer keeps of a reference image: (features, pixels, pixels inside the region of interest) → features."""
OWN_WAY = "own way"
"""Last entry of `made_by` of a memory that the localizer itself compares with, in the way of its paper."""
_GIVEN = (
    (
        References,
        "Good images are given as what Segmenter.remember makes of them: references=segmenter.remember([...])",
    ),
    (
        Batch,
        "A batch is given as what Segmenter.compare_batch makes of it; segment_batch(images, mutual=True) makes one",
    ),
    (
        RegionOfInterest,
        'A region of interest is given as region=RegionOfInterest.load("look.json"), from zsas.region',
    ),
    (Part, 'The profile of a part is given as part=Part.load("gear.zsas"), from zsas.part'),
)
"""What may be given beside an image, and the sentence where it is something else."""
MOST_JUDGED = 16
"""Reference images at most that are judged by the others where the localizer compares with them itself.

Each costs as much time as an image.
"""


@dataclass(frozen=True)
class Beside:
    """What a decision uses in addition to the image.

    Attributes:
        references: The memory of reference images (images of good parts).
        batch: The unlabelled batch that the image belongs to, its images compared with each other.
        region: Where to look; None for the whole image.
        scale: Millimetres per pixel, and the smallest anomaly that counts.
        limit_from: Where the limit of the settings comes from, "" where only they say; see `Result`.
    """

    references: References | None = None
    batch: Batch | None = None
    region: RegionOfInterest | None = None
    scale: Scale = Scale()
    limit_from: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """The part of a cache key that stands for everything here that changes the anomaly map or the evidence."""
        found = [one.key if one else "" for one in (self.references, self.batch)]
        return (*found, self.region.key if self.region else "")

    def __post_init__(self) -> None:
        check_given(self.references, self.batch, self.region)

    def facts(self) -> dict[str, Any]:
        """Fields of `zsas.result.Result` that follow from it."""
        good = self.references
        return {
            "references": good.named if good else (),
            "good_ratios": good.own_ratios if good else (),
            "region": self.region or None,
            "scale": self.scale,
        }

    def check(
        self, made_by: tuple[Any, ...], remembered_by: tuple[Any, ...], settings: Settings
    ) -> None:
        """Refuse reference images or a batch that do not fit the image.

        Args:
            made_by: Models and settings that encoded the image.
            remembered_by: The same for reference images.
            settings: Those that decide; what they say of reference images must hold for these.

        Raises:
            ZsasError: If they were encoded by other models or settings, or with another region of interest.
        """
        region = self.region.key if self.region else ""
        for beside, made, was, again in (
            (self.references, remembered_by, "good images were remembered", "remember them again"),
            (self.batch, made_by, "batch was compared", "compare it again"),
        ):
            if beside and beside.made_by != made:
                raise ZsasError(
                    f"The {was} with other models, another system or another resolution than are asked for now; "
                    f"{again}."
                )
            if beside and beside.region != region:
                raise ZsasError(
                    f"The {was} with another region of interest than is looked at now; {again}."
                )
        if self.references:
            turned, window = self.references.turned, self.references.window
            for name, had in (("reference_rotation", turned), ("reference_window", window)):
                asked = settings.given.get(name, had)
                if asked != had:
                    raise ZsasError(
                        f"The good images were remembered with {had:g} for {name}, which cannot be {asked:g} now; "
                        "remember them again."
                    )


def check_given(
    references: References | None = None,
    batch: Batch | None = None,
    region: RegionOfInterest | None = None,
    part: Part | None = None,
) -> None:
    """Refuse what is given beside an image if it is something else than it must be.

    Raises:
        ZsasError: With the way to make it.
    """
    for given, (kind, sentence) in zip((references, batch, region, part), _GIVEN, strict=True):
        if given is not None and not isinstance(given, kind):
            raise ZsasError(f"{sentence}; this is of the type {type(given).__name__}.")


def check_numbers(values: NDArray[np.float32], whose: str) -> None:
    """Refuse a map that holds NaN or infinity, as damaged weights and too coarse a number format give.

    Args:
        values: float32 (H, W).
        whose: Name of the localizer that made it.

    Raises:
        ZsasError: If it does.
    """
    if not math.isfinite(float(values.sum())):  # one NaN is enough to make the sum one
        raise ZsasError(
            f"What {whose} has made of the image is no map: it holds NaN or infinity. The weights are damaged, or "
            "the number format is too coarse for them; fetch or train them anew, or take --precision fp32."
        )


def beside_of(
    settings: Settings | None,
    part: Part | None,
    remembered: References | None,
    references: References | None,
    batch: Batch | None,
    region: RegionOfInterest | None,
) -> tuple[Beside, Settings]:
    """What a decision uses, and its settings; the profile of the part fills in whatever is None.

    Where the profile's limit came from its own reference images and others are given, the limit is taken from those.

    Args:
        settings: Given settings, which override the profile's.
        part: The profile.
        remembered: The profile's reference images, for the models that run.
        references: Given reference images, which replace the profile's.
        batch: The batch that the image belongs to.
        region: Given region of interest, which replaces the profile's.
    """
    scale = Scale()
    if part is not None:
        settings, scale = part.chosen(settings), part.scale
        region = part.region if region is None else region
    settings = settings_or_usual(settings)
    source = source_of_limit(settings, part)
    check_given(references, batch, region)
    if references is None:
        references = remembered
    elif references and source == "references":
        settings, source = settings.replace(verdict_threshold=None), "default"
    return Beside(references, batch, region or None, scale, source), settings


def memory_key(settings: Settings) -> tuple[Any, ...]:
    """Values that a memory of reference images depends on, in addition to the settings that change an encoding.

    The object's name is among them because it changes the score of each reference image, and so the limit.
    """
    few_shot, how = settings.few_shot, settings.of(ReferenceSettings)
    return settings.object_name, few_shot, how.reference_rotation, how.reference_window


# Long because images, their changed copies and their turned ones are remembered in one order.
def remember_images(
    begin: Begin,
    images: Sequence[ImageSource],
    settings: Settings,
    region: RegionOfInterest | None = None,
    judge: Judge | None = None,
    *,
    keep: Keep | None = None,
) -> References:
    """A memory of reference images; see `zsas.segmenter.Segmenter.remember`.

    Args:
        begin: Encodes images.
        images: Images of good parts.
        settings: How they are remembered.
        region: The region of interest on all of them.
        judge: Scores each of them, for the limit; None leaves the limit to the settings.
        keep: `Localizer.kept` where the localizer compares with reference images itself; None elsewhere.

    Raises:
        ZsasError: If there is none, or as from `begin`.
    """
    images = several(images)
    if not images:
        raise ZsasError("There are no good images to remember; name one at least.")
    encodings = begin(images, region)
    features = [look_at(one.features, one.image.shape, region) for one in encodings]
    pixels = [one.image for one in encodings]
    insides = [region.on(*image.shape[:2]) if region else None for image in pixels]
    copies = []
    tested = list(zip(encodings, features, insides, strict=True))
    single = len({one.key for one in encodings}) == 1
    if single:
        changed = begin(changed_copies(pixels[0]), None)
        copies = [one.features for one in changed]
        seen_of: list[Any] = [None] * len(changed)
        if insides[0] is not None:
            seen_of = changed_regions(insides[0])
        pairs = zip(copies, seen_of, strict=True)
        copies = [f if inside is None else only_inside(f, inside) for f, inside in pairs]
        tested = list(zip(changed, copies, seen_of, strict=True))
    own_way = keep is not None
    planted: list[Planted] = []
    if judge is not None and not own_way and not single:
        planted = _planted(begin, judge, pixels, insides, region)
    if keep is not None:
        features = [keep(*one) for one in zip(features, pixels, insides, strict=True)]
    alone = [] if judge is None else _judged(judge, tested, features, own_way=own_way)
    how = settings.of(ReferenceSettings)
    turned = []
    for image, inside in zip(pixels, insides, strict=True) if how.reference_rotation else ():
        # One by one: a hundred images turned in small steps would not fit into memory together.
        step = how.reference_rotation
        images_turned = turned_copies(image, step)
        found = [begin([copy], None)[0].features for copy in images_turned]
        if keep is not None:
            found = [keep(*one, None) for one in zip(found, images_turned, strict=True)]
        if inside is not None:
            seen = turned_regions(inside, step)
            found = [only_inside(f, s) for f, s in zip(found, seen, strict=True) if s.any()]
        turned.append(found)
    return remember(
        features,
        copies,
        keys=[one.key for one in encodings],
        made_by=(*encodings[0].made_by, *([OWN_WAY] if own_way else [])),
        names=[readable(Path(i).name) if isinstance(i, (str, Path)) else "" for i in images],
        turned=turned,
        how=how,
        region=region.key if region else "",
        alone=alone,
        planted=planted,
        own_way=own_way,
    )


def _planted(
    begin: Begin,
    judge: Judge,
    images: Sequence[NDArray[np.uint8]],
    insides: Sequence[NDArray[np.bool_] | None],
    region: RegionOfInterest | None,
) -> list[Planted]:
    """Copies of some good images with planted flaws, and what the localizer says of them."""
    plan = planned(len(images))
    copies = [plant(images[i], seed, insides[i]) for i, seed in plan]
    found = []
    for (i, _), (copy, flaws) in zip(plan, copies, strict=True):
        (one,) = begin([copy], region)
        features = look_at(one.features, copy.shape, region)
        _, anomaly_map = judge(one, features, insides[i], ())
        if anomaly_map is not None and isinstance(features, PatchFeatures):
            found.append(Planted(features, anomaly_map, flaws, i))
    return found


def weighed(
    scored: Scored,
    features: Any,
    encoding: Encoding,
    beside: Beside,
    localizer: Localizer,
    settings: Settings,
) -> Scored:
    """A localizer's score, changed by reference images, then the batch, the region of interest and the edges."""
    references, batch, region = beside.references, beside.batch, beside.region
    if references and not localizer.own_way(settings):
        scored = compare(scored, features, references, encoding.key)
    if batch:
        scored = weigh(scored, features, batch, encoding.key)
    found = scored
    if region:
        found = score_inside(scored, features, region.on(*encoding.image.shape[:2]))
    if EdgeSettings not in localizer.settings:
        return found
    edges = settings.of(EdgeSettings)
    return draw_edges(found, scored.map, encoding.image, features, edges)


def judge_with(
    localizer: Localizer,
    settings: Settings,
    session: Callable[[Encoding], SamSession],
    device: torch.device | str,
) -> Judge:
    """Makes the function that scores reference images with a localizer; see `Judge`."""

    def judge(
        encoding: Encoding, features: Any, inside: NDArray[np.bool_] | None, others: Sequence[Any]
    ) -> tuple[dict[str, float], NDArray[np.float32]]:
        context = Context(encoding.image, session(encoding), others)
        with torch.inference_mode():
            scored = localizer.score(features.to(device), settings, context)
        if inside is not None:
            scored = score_inside(scored, features, inside)
        return {name: float(value) for name, value in scored.evidence.items()}, scored.map

    return judge


def _judged(
    judge: Judge, tested: Sequence[tuple[Any, Any, Any]], features: Sequence[Any], *, own_way: bool
) -> list[tuple[Mapping[str, float], NDArray[np.float32] | None]]:
    """Evidence and map of each reference image, or of each changed copy of a single one."""
    if not own_way:
        return [judge(*one, ()) for one in tested]
    alone = len(features) == 1  # then `tested` holds changed copies of it
    step = -(-len(tested) // MOST_JUDGED)
    return [
        judge(*one, features if alone else [*features[:i], *features[i + 1 :]])
        for i, one in enumerate(tested)
        if i % step == 0
    ]


def cells_in(one: Encoding, region: RegionOfInterest | None) -> Cells:
    """The part of an encoded image that a batch is compared by; see `Segmenter.gather`."""
    return cells_of(look_at(one.features, one.image.shape, region), one.key)
