"""What a decision looks at beside the image: images of good parts, the batch, the region of interest, the scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.errors import ZsasError
from zsas.localizers.bank import changed_copies, changed_regions, turned_copies, turned_regions
from zsas.localizers.looking import look_at, only_inside
from zsas.localizers.references import NO_REFERENCES, References, ReferenceSettings, remember
from zsas.scale import Scale

if TYPE_CHECKING:
    from zsas.encoding import Encoding
    from zsas.images import ImageSource
    from zsas.localizers.mutual import Batch
    from zsas.region import RegionOfInterest
    from zsas.settings import Settings

Begin = Callable[[Sequence["ImageSource"], "RegionOfInterest | None"], "list[Encoding]"]
"""Encodes images, as far as they are looked at."""


@dataclass(frozen=True)
class Beside:
    """What a decision looks at beside the image.

    Attributes:
        references: Images of good parts, remembered.
        batch: The batch that the image belongs to, compared with itself.
        region: Where to look; None for the whole image.
        scale: Millimetres per pixel, and the smallest anomaly that counts.
    """

    references: References | None = None
    batch: Batch | None = None
    region: RegionOfInterest | None = None
    scale: Scale = Scale()

    @property
    def key(self) -> tuple[str, ...]:
        """What of it changes map and evidence, for a cache."""
        found = [one.key if one else "" for one in (self.references, self.batch)]
        return (*found, self.region.key if self.region else "")

    def check(self, made_by: tuple[Any, ...]) -> None:
        """Whether all of it goes with an image that was encoded so.

        Raises:
            ZsasError: If good images or batch were encoded otherwise, or looked at elsewhere.
        """
        region = self.region.key if self.region else ""
        for beside, was, again in (
            (self.references, "good images were remembered", "remember them again"),
            (self.batch, "batch was compared", "compare it again"),
        ):
            if beside and beside.made_by != made_by:
                raise ZsasError(
                    f"The {was} with other models, another system or another resolution than are asked for now; "
                    f"{again}."
                )
            if beside and beside.region != region:
                raise ZsasError(
                    f"The {was} with another region of interest than is looked at now; {again}."
                )


def remember_images(
    begin: Begin,
    images: Sequence[ImageSource],
    settings: Settings,
    region: RegionOfInterest | None = None,
) -> References:
    """A memory of images of good parts; see `zsas.segmenter.Segmenter.remember`.

    Args:
        begin: Encodes.
        images: Of good parts.
        settings: How they are remembered.
        region: Where to look on them.
    """
    encodings = begin(images, region)
    if not encodings:
        return NO_REFERENCES
    features = [look_at(one.features, one.image.shape, region) for one in encodings]
    pixels = [one.image for one in encodings]
    insides = [region.on(*image.shape[:2]) if region else None for image in pixels]
    copies = []
    if len(encodings) == 1:
        copies = [one.features for one in begin(changed_copies(pixels[0]), None)]
        if insides[0] is not None:
            changed = changed_regions(insides[0])
            copies = [only_inside(*pair) for pair in zip(copies, changed, strict=True)]
    how = settings.of(ReferenceSettings)
    turned = []
    for image, inside in zip(pixels, insides, strict=True) if how.reference_rotation else ():
        # One by one: a hundred images turned in small steps would not fit into memory together.
        step = how.reference_rotation
        found = [begin([copy], None)[0].features for copy in turned_copies(image, step)]
        if inside is not None:
            seen = turned_regions(inside, step)
            pairs = zip(found, seen, strict=True)
            found = [only_inside(*pair) for pair in pairs if pair[1].any()]
        turned.append(found)
    return remember(
        features,
        copies,
        keys=[one.key for one in encodings],
        made_by=encodings[0].made_by,
        names=[Path(i).name if isinstance(i, (str, Path)) else "" for i in images],
        turned=turned,
        how=how,
        region=region.key if region else "",
    )
