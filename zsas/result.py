"""What one decision returns: every stage kept.

Coordinates are (x, y) in pixels of the original image. Arrays of a `Result` are for reading only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.frames import Piece, pieces_of_mask, slices
from zsas.prompts import Points
from zsas.rle import decode, pack_counts
from zsas.scale import Scale
from zsas.stages import Stage, counted, marking_level

if TYPE_CHECKING:
    from zsas.images import ReadInfo
    from zsas.region import RegionOfInterest
    from zsas.settings import Settings

FORMAT = 2
"""Version of `Result.to_dict`; docs/results.md says what each changed."""

Verdict = Literal["normal", "unsure", "anomalous"]


@dataclass(frozen=True)
class Region:
    """One connected piece of the final mask.

    Attributes:
        id: 1 for the most anomalous region, then counting on.
        box: x0, y0, x1, y1 in original pixels; x1 and y1 are exclusive.
        area: Pixels.
        score: The highest value of the score map in the region, before fine detail lowers it, [0, 1].
        rle: COCO run-length code of the region alone: {"size": [H, W], "counts": str}.
        rejected: Whether a person said that nothing is wrong there (`zsas.review`).
        ignored: Whether it is smaller than the smallest anomaly that counts; it is then not in the mask.
        area_mm2: Its area in mm², None where millimetres per pixel are not known.
    """

    id: int
    box: tuple[int, int, int, int]
    area: int
    score: float
    rle: Mapping[str, Any]
    rejected: bool = False
    ignored: bool = False
    area_mm2: float | None = None

    @property
    def counts(self) -> bool:
        """Whether it counts as a finding: neither rejected by a person nor too small."""
        return not (self.rejected or self.ignored)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool, shape = (H, W), decoded from the run-length code."""
        return decode(self.rle)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "id": self.id,
            "box": list(self.box),
            "area": self.area,
            **({"area_mm2": self.area_mm2} if self.area_mm2 is not None else {}),
            "score": _number(self.score),
            "rejected": self.rejected,
            **({"ignored": True} if self.ignored else {}),
            "rle": dict(self.rle),
        }


@dataclass(frozen=True, eq=False)
class Result:
    """One image decided, with every stage of the system.

    Attributes:
        image: uint8 RGB, shape = (H, W, 3).
        anomaly_map: float32, shape = (H, W), Map_a in [0, 1].
        score_map: float32, shape = (H, W), [0, 1].
        mask: bool, shape = (H, W), the final mask.
        image_score: How anomalous the image is as a whole, [0, 1].
        regions: Connected pieces of `mask`, the most anomalous first.
        stages: What was found on the way, in order; a stage that had nothing to do is left out.
        points: P of eq. 8 and a person's clicks; none where the system has no point prompts.
        provenance: What the mask is made of: names of stages, "region" where the region itself stands in it.
        settings: The settings of this decision.
        models: What ran: preset, localizer, refiner, and what the localizer was made from.
        versions: Package name to version.
        timings: Seconds: "encode" the localizer's encoder and "sam" SAM's, 0 where the encoding was there already, and
            each stage by name.
        input: What was read: format, page, bits, and what a person should know of them.
        normal_ratio: With good images or a batch: how many times as far the image is from them as they are from each
            other; None without.
        persons_verdict: The verdict of a person who looked at it (`zsas.review`), "" where nobody did.
        scale: Millimetres per pixel, and the smallest anomaly that counts.
        references: Good images that it was compared with: names, "" where there is none, and digests of their pixels.
        good_ratios: The `normal_ratio` of each good image that counts, judged by the others; of one image, of
            its changed copies.
        score_alone: With good images or a batch: the image score without them; None without, and where the system has
            a way of its own with good images.
        limit_from: Where the limit comes from: "default" (of the system), "references" (the good images, each judged by
            the others), "person" (it was named), or "verdicts" (of an earlier lot, as a profile keeps it).
        region: The region of interest that was looked at; None for the whole image. Maps are 0 outside of it.
    """

    image: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]
    score_map: NDArray[np.float32]
    mask: NDArray[np.bool_]
    image_score: float
    regions: tuple[Region, ...]
    stages: tuple[Stage, ...]
    points: Points
    provenance: tuple[str, ...]
    settings: Settings
    models: Mapping[str, Any]
    versions: Mapping[str, str]
    timings: Mapping[str, float]
    input: ReadInfo | None = None
    normal_ratio: float | None = None
    persons_verdict: Literal["", "normal", "anomalous"] = ""
    region: RegionOfInterest | None = None
    scale: Scale = Scale()
    references: tuple[tuple[str, str], ...] = ()
    limit_from: str = "default"
    good_ratios: tuple[float, ...] = ()
    score_alone: float | None = None

    @property
    def good_images(self) -> int:
        """How many good images it was compared with."""
        return len(self.references)

    @property
    def inside(self) -> NDArray[np.bool_] | None:
        """The region of interest, bool (H, W); None for the whole image."""
        return self.region.on(*self.mask.shape) if self.region else None

    @property
    def anomalous(self) -> bool:
        """Whether the image score reaches the limit; no band and no person changes it."""
        return self.image_score >= self.settings.verdict_threshold

    @property
    def verdict(self) -> Verdict:
        """The verdict in one word: a person's where there is one; unsure where the score lies in the band.

        Normal where something is marked, and all of it is smaller than the smallest anomaly that counts.
        """
        settings = self.settings
        return self.settled or verdict_of(
            self.image_score, settings.verdict_threshold, settings.unsure_band
        )

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"<Result of {width} × {height} px by {self.settings.system}: {self.sentence}>"

    @property
    def all_too_small(self) -> bool:
        """Whether something is marked, and nothing of it is large enough to count."""
        left = [region for region in self.regions if not region.rejected]
        return bool(left) and all(region.ignored for region in left)

    @property
    def settled(self) -> Verdict | Literal[""]:
        """The verdict if no limit changes it: a person's, or normal if all regions are too small; else ""."""
        return self.persons_verdict or ("normal" if self.all_too_small else "")

    @property
    def decided_by(self) -> Literal["system", "person"]:
        """Who gave the verdict."""
        return "person" if self.persons_verdict else "system"

    @property
    def ok(self) -> bool:
        """Whether the part passes, for machines that know only pass and fail; `unsure_as` decides for unsure."""
        verdict = self.settings.unsure_as if self.verdict == "unsure" else self.verdict
        return verdict == "normal"

    @property
    def sentence(self) -> str:
        """The verdict as a sentence: the score, the limit and what was found."""
        score, limit = self.score_and_limit
        by = " by a person" if self.persons_verdict else ""
        return f"{self.verdict.capitalize()}{by}: score {score}, limit {limit}, {self.found}."

    @property
    def score_and_limit(self) -> tuple[str, str]:
        """Image score and limit as text, with as many digits as tell them apart."""
        score, limit = self.image_score, self.settings.verdict_threshold
        look_equal = f"{score:.2f}" == f"{limit:.2f}"
        digits = 4 if look_equal and score != limit else 2
        return f"{score:.{digits}f}", f"{limit:.{digits}f}"

    @property
    def found(self) -> str:
        """The findings in words: regions, or why there are none."""
        rejected = sum(region.rejected for region in self.regions)
        small = sum(region.ignored and not region.rejected for region in self.regions)
        count = len(self.regions) - rejected - small
        more = f", {rejected} rejected" if rejected else ""
        more += f", {small} smaller than {self.scale.least_words} ignored" if small else ""
        regions = counted(count, "region")
        if count:
            weak = self.verdict == "normal"
            return f"{regions} marked, too weak for the verdict{more}" if weak else regions + more
        if more:
            return f"no region left{more}"
        region = self.stage("region_and_ring")
        marked = region is not None and region.mask is not None and region.mask.any()
        return "no region left in the mask" if marked else "nothing above the marking level"

    @property
    def marking_level(self) -> float:
        """The level above which the map was marked, as a value of the map: the setting, or what was found."""
        return marking_level(self.stages, self.settings.threshold)

    def stage(self, name: str) -> Stage | None:
        """The stage of that name, or None if it had nothing to do."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """The result without its pixel arrays, as JSON types; docs/results.md describes each entry."""
        height, width = self.mask.shape
        return {
            "format": FORMAT,
            "verdict": self.verdict,
            "anomalous": bool(self.anomalous),
            "ok": self.ok,
            "decided_by": self.decided_by,
            "limit": _number(self.settings.verdict_threshold),
            "limit_from": self.limit_from,
            "unsure_band": _number(self.settings.unsure_band),
            "sentence": self.sentence,
            "image_score": _number(self.image_score),
            "good_images": self.good_images,
            "good_ratios": [_number(one) for one in self.good_ratios],
            "score_alone": None if self.score_alone is None else _number(self.score_alone),
            "normal_ratio": None if self.normal_ratio is None else _number(self.normal_ratio),
            "references": [{"name": name, "pixels": key} for name, key in self.references],
            "width": width,
            "height": height,
            "input": self.input.to_dict() if self.input is not None else None,
            "scale": self.scale.to_dict() or None,
            "region": region_facts(self.region, height, width) if self.region else None,
            "regions": [region.to_dict() for region in self.regions],
            "points": [
                {"x": _number(x), "y": _number(y), "label": int(label), "source": source}
                for (x, y), label, source in zip(
                    self.points.xy, self.points.labels, self.points.source, strict=True
                )
            ],
            "stages": [
                {
                    "name": stage.name,
                    "title": stage.spec.title,
                    "symbol": stage.spec.symbol,
                    "equations": stage.spec.equations,
                    "caption": stage.caption,
                    **stage.data,
                }
                for stage in self.stages
            ],
            "provenance": list(self.provenance),
            "system": self.settings.system,
            "settings": self.settings.to_dict(),
            "models": dict(self.models),
            "versions": dict(self.versions),
            "timings": {name: _number(seconds) for name, seconds in self.timings.items()},
        }


def region_facts(region: RegionOfInterest, height: int, width: int) -> dict[str, Any]:
    """What `result.json` says of a region of interest on an image of (H, W)."""
    inside = region.on(height, width)
    pixels = int(np.count_nonzero(inside))
    return {"fraction": _number(pixels / inside.size), "pixels": pixels, **region.to_dict()}


def verdict_of(score: float, limit: float, band: float) -> Verdict:
    """The verdict on an image score: unsure less than `band` away from the limit, on either side."""
    if abs(score - limit) < band:
        return "unsure"
    return "anomalous" if score >= limit else "normal"


def find_regions(mask: NDArray[np.bool_], score_map: NDArray[np.float32]) -> tuple[Region, ...]:
    """Connected pieces of a mask (8 neighbours), sorted by score, then by area, largest first.

    The score of a region is the highest value of the score map in it: a mean would rank a region
    with a sure core and a wide faint rim below a small one, though its core is the surer defect.

    Args:
        mask: bool, shape = (H, W).
        score_map: float32, shape = (H, W), [0, 1].
    """
    found = []
    for piece in pieces_of_mask(mask):
        score = float(score_map[piece.slices][piece.mask].max())
        rle = _run_lengths(piece, mask.shape)
        found.append(Region(0, piece.window, int(np.count_nonzero(piece.mask)), score, rle))
    found.sort(key=lambda region: (-region.score, -region.area, region.box))
    return tuple(
        Region(number, region.box, region.area, region.score, region.rle)
        for number, region in enumerate(found, start=1)
    )


def sized(
    regions: tuple[Region, ...], mask: NDArray[np.bool_], scale: Scale
) -> tuple[tuple[Region, ...], NDArray[np.bool_]]:
    """Regions with their areas in mm², those that are too small marked as ignored, and the mask without them.

    Args:
        regions: From `find_regions`.
        mask: bool, shape = (H, W); it is not changed.
        scale: What a pixel is, and what counts.
    """
    if not scale:
        return regions, mask
    found = tuple(
        replace(
            region,
            area_mm2=scale.area_mm2(region.area),
            ignored=region.area < scale.least_area,
        )
        for region in regions
    )
    small = [region for region in found if region.ignored]
    if small:
        mask = mask.copy()
    for region in small:
        mask[slices(region.box)] &= ~region.mask[slices(region.box)]
    # Regions that count come first and get the first numbers.
    ordered = sorted(found, key=lambda region: region.ignored)
    return tuple(replace(one, id=i) for i, one in enumerate(ordered, start=1)), mask


def _run_lengths(piece: Piece, shape: tuple[int, ...]) -> dict[str, Any]:
    """COCO code of a part of an image of (H, W); costs its window, not the image."""
    height, width = shape
    x, y, *_ = piece.window
    columns = np.pad(piece.mask.T.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(columns, axis=1)
    column, row = np.nonzero(steps == 1)
    starts = (column + x) * height + row + y
    column, row = np.nonzero(steps == -1)
    ends = (column + x) * height + row + y
    # A run down to the lower border goes on at the top of the next column.
    joined = ends[:-1] == starts[1:]
    starts, ends = starts[np.r_[True, ~joined]], ends[np.r_[~joined, True]]
    edges = np.concatenate([[0], np.column_stack([starts, ends]).ravel(), [height * width]])
    counts = np.diff(edges)
    if counts[-1] == 0:
        counts = counts[:-1]
    return {"size": [height, width], "counts": pack_counts(counts)}


def _number(value: float) -> float | None:
    """A plain float of six decimals; JSON knows no NaN and no infinity."""
    value = float(value)
    return round(value, 6) if math.isfinite(value) else None
