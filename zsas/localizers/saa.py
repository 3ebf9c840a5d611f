"""SAA and SAA+ (Cao et al., 2023, arXiv 2305.10724): a detector finds boxes for words, SAM turns them into masks.

SAA+ goes on: the size of the object bounds the boxes, a saliency map without text rescores the masks, and only the K
best are painted. There is no separate code of SAA; what is built here under that name is our reading of its paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.frames import SamFrame, Window, resize_map
from zsas.localizers.base import MAP, Context, Localizer, ObjectSettings, Scored, map_stage
from zsas.localizers.boxes import Candidate, Painted, SaaFeatures, paint, pick, rescored
from zsas.localizers.phrases import KNOWN, PLAIN, Properties, noun_of, phrases_for
from zsas.localizers.saliency import unit_cells, unlike_the_others, unlike_the_rest
from zsas.prompts import Prompt
from zsas.refiners.masks import mask_in_window, union
from zsas.stages import Area, Boxes, HeatMap, Stage, StageSpec, counted

if TYPE_CHECKING:
    import torch

    from zsas.backbones.detector import Detections, Detector
    from zsas.backbones.resnet import ResNetFeatures
    from zsas.backbones.session import SamSession
    from zsas.models import Models, Role

ONE_SIDE, SEVERAL_SIDE = 256, 1024
"""Sides of the square that the saliency looks at, for one object and for several; a cell is four pixels."""

BOXES = StageSpec(
    "saa_boxes",
    "Boxes for words",
    "",
    "",
    "The boxes that a detector finds for words for defects, small enough and not of the object itself.",
)
SALIENCY = StageSpec(
    "saa_saliency",
    "Saliency",
    "S",
    "",
    "How unlike the rest of the image, or the other objects on it, each place looks, without any words.",
    "Not needed: the detector found no box.",
)
RESCORED = StageSpec(
    "saa_masks",
    "Rescored masks",
    "",
    "",
    "SAM's mask of every box, its score raised where the saliency is high; the best are kept.",
    "Not needed: the detector found no box.",
)


@dataclass(frozen=True)
class SaaSettings(SettingsGroup, key="saa", title="SAA: boxes for words"):
    """The phrases for the detector, and which of its boxes count."""

    saa_phrases: str = setting(
        "",
        "Defects to look for",
        "Phrases separated by commas, as scratch, missing label; each costs one more run of the detector. Empty leaves "
        "the general ones, and for saa+ those of a known object.",
    )
    saa_general: bool = setting(
        True,
        "General phrases",
        "Whether defect, damage and flaw are looked for on every object.",
    )
    saa_forbidden: bool = setting(
        True,
        "Not the object",
        "Whether boxes that answer to the object's own name are dropped.",
    )
    saa_box_level: float = setting(
        0.1,
        "Box level",
        "The score that a box must exceed.",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    saa_word_level: float = setting(
        0.1,
        "Word level",
        "The probability from which on a box answers to a word, for dropping those of the object.",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    saa_area: float = setting(
        0.0,
        "Largest box",
        "Area that a box must stay under, as a fraction of the largest object's (saa: of the image).",
        low=0.0,
        high=1.0,
        step=0.01,
        zero="a known object's own, else 0.9",
        floor=0.01,
        symbol="a",
    )
    saa_best: bool = setting(
        False,
        "Best box at least",
        "Whether the best box is taken where none counts; then something is marked on every image.",
    )
    saa_most_boxes: int = setting(
        100,
        "Boxes at most",
        "How many boxes SAM is asked about, the best first; a limit of ours.",
        low=1,
        high=900,
        step=1,
    )


@dataclass(frozen=True)
class SaaPlusSettings(SettingsGroup, key="saa_plus", title="SAA+: objects and saliency"):
    """What is known of the objects, and how masks are rescored."""

    saa_known: bool = setting(
        True,
        "Known objects",
        "Whether phrases, counts and areas of the objects of MVTec-AD and VisA are used by name; they were chosen on "
        "those data sets.",
    )
    saa_objects: int = setting(
        0,
        "Objects on the image",
        "How many objects there are; from two on they are compared with each other, which takes a minute on a CPU.",
        low=0,
        high=50,
        step=1,
        zero="a known object's own, else 1",
        floor=1,
        symbol="n",
    )
    saa_keep: int = setting(
        0,
        "Masks kept",
        "How many of the best masks make the map.",
        low=0,
        high=100,
        step=1,
        zero="a known object's own, else 5",
        floor=1,
        symbol="K",
    )
    saa_nearest: int = setting(
        400,
        "Distances that count",
        "Of how many of the largest distances to other places the saliency is the mean.",
        low=1,
        high=4096,
        step=1,
        symbol="N",
    )
    saa_strength: float = setting(
        3.0,
        "Strength of the saliency",
        "A mask's score is multiplied by the exponential of this many times the mean saliency inside it; 0 leaves it.",
        low=0.0,
        high=10.0,
        step=0.1,
    )


class Saa(Localizer):
    """Words for defects → boxes → SAM's masks, painted with the boxes' scores."""

    name = "saa"
    title = "boxes for words for defects, SAM's masks (our reading)"
    roles: ClassVar[tuple[Role, ...]] = ("detector", "sam")
    settings: ClassVar[tuple[type[SettingsGroup], ...]] = (ObjectSettings, SaaSettings)
    stages: ClassVar[tuple[StageSpec, ...]] = (BOXES, MAP)

    def __init__(self, detector: Detector, names: Sequence[str] = ()) -> None:
        self.detector = detector
        self.names = tuple(names)

    @classmethod
    def load(cls, models: Models) -> Self:
        """See `Localizer.load`."""
        return cls(models.detector, [models.source("detector")])

    def encode(self, images: Sequence[NDArray[np.uint8]], values: Values) -> list[SaaFeatures]:
        """What the detector sees before any words; see `Localizer.encode`."""
        return [SaaFeatures(seen) for seen in self.detector.encode(images)]

    def score(self, features: SaaFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`; words that were not asked for before run the detector."""
        own = values.of(SaaSettings)
        noun = noun_of(values.of(ObjectSettings).object_name)
        phrases = phrases_for(noun, own.saa_general, own.saa_phrases)
        found = self._candidates(features, noun, phrases, own, own.saa_area or PLAIN.area)
        masks = _masks(features, context.sam, found)
        painted = [Painted(*mask, one.score) for mask, one in zip(masks, found, strict=True)]
        return _scored(
            paint(painted, *context.image.shape[:2]),
            (_boxes_stage(found, phrases),),
            f"{counted(len(found), 'mask')} of SAM, painted with the scores of their boxes (SAA)",
        )

    def _candidates(
        self,
        features: SaaFeatures,
        noun: str,
        phrases: Sequence[str],
        own: SaaSettings,
        most_area: float,
    ) -> list[Candidate]:
        """The boxes of all phrases that count, the best first."""
        forbidden = noun if own.saa_forbidden else ""
        found: list[Candidate] = []
        best: list[Candidate] = []
        for phrase in phrases:
            boxes = self._boxes(features, phrase)
            rule = (most_area, forbidden, own.saa_word_level)
            found += pick(boxes, features.seen.image_hw, own.saa_box_level, *rule)
            if own.saa_best:
                best += pick(boxes, features.seen.image_hw, -1.0, *rule)
        if not found:
            found = sorted(best, key=lambda one: -one.score)[:1]
        return sorted(found, key=lambda one: -one.score)[: own.saa_most_boxes]

    def _boxes(self, features: SaaFeatures, phrase: str) -> Detections:
        return features.keep(("boxes", phrase), lambda: self.detector.detect(features.seen, phrase))

    def describe(self) -> Mapping[str, object]:
        """Its models."""
        return {"models": list(self.names)}

    def tensors(self) -> Sequence[torch.Tensor]:
        """The detector's weights."""
        return [*self.detector.model.state_dict().values(), *self.detector.vision.parameters()]


class SaaPlus(Saa):
    """SAA with the object's size, a saliency map, and the K best masks."""

    name = "saa+"
    title = "boxes for words, SAM's masks rescored by saliency"
    roles: ClassVar[tuple[Role, ...]] = ("detector", "saliency", "sam")
    settings: ClassVar[tuple[type[SettingsGroup], ...]] = (
        ObjectSettings,
        SaaSettings,
        SaaPlusSettings,
    )
    stages: ClassVar[tuple[StageSpec, ...]] = (BOXES, SALIENCY, RESCORED, MAP)

    def __init__(
        self,
        detector: Detector,
        saliency: ResNetFeatures,
        names: Sequence[str] = (),
        sides: tuple[int, int] = (ONE_SIDE, SEVERAL_SIDE),
    ) -> None:
        super().__init__(detector, names)
        self.saliency = saliency
        self.sides = sides

    @classmethod
    def load(cls, models: Models) -> Self:
        """See `Localizer.load`."""
        names = [models.source(role) for role in ("detector", "saliency")]
        return cls(models.detector, models.saliency, names)

    def encode(self, images: Sequence[NDArray[np.uint8]], values: Values) -> list[SaaFeatures]:
        """What the detector sees, and the features of the saliency of one object; see `Localizer.encode`."""
        seen = self.detector.encode(images)
        levels = self.saliency.maps(images, self.sides[0])
        return [SaaFeatures(one, maps) for one, maps in zip(seen, levels, strict=True)]

    def score(self, features: SaaFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        own, plus = values.of(SaaSettings), values.of(SaaPlusSettings)
        noun = noun_of(values.of(ObjectSettings).object_name)
        known = KNOWN.get(noun, PLAIN) if plus.saa_known else PLAIN
        known = Properties(
            plus.saa_objects or known.objects,
            plus.saa_keep or known.keep,
            own.saa_area or known.area,
            known.phrases,
        )
        phrases = phrases_for(noun, own.saa_general, own.saa_phrases, known.phrases)
        objects = self._objects(features, noun, known.objects, own)
        largest = max((one.area for one in objects), default=1.0)
        found = self._candidates(features, noun, phrases, own, known.area * largest)
        if not found:
            empty = np.zeros(context.image.shape[:2], np.float32)
            return _scored(empty, (_boxes_stage(found, phrases),), "No box counts (SAA+)")
        salient, said = self._saliency(features, objects, known.objects, plus, context)
        masks = _masks(features, context.sam, found)
        scores = [
            rescored(one.score, salient, mask, plus.saa_strength)
            for mask, one in zip(masks, found, strict=True)
        ]
        order = sorted(range(len(found)), key=lambda i: -scores[i])[: known.keep]
        kept = [Painted(*masks[i], scores[i]) for i in order]
        # Scores may exceed 1 here; a fixed monotone function brings the map into [0, 1].
        anomaly_map = -np.expm1(-paint(kept, *context.image.shape[:2]))
        stages = (
            _boxes_stage(found, phrases),
            Stage(SALIENCY, said, (HeatMap(salient),), {"mean": round(float(salient.mean()), 4)}),
            _masks_stage(kept, [found[i] for i in order], len(found), salient.shape),
        )
        how = f"The {counted(len(kept), 'best mask')} of {len(found)}, painted with their scores (SAA+)"
        return _scored(anomaly_map, stages, how)

    def _objects(
        self, features: SaaFeatures, noun: str, count: int, own: SaaSettings
    ) -> list[Candidate]:
        """The objects themselves: boxes for their name that are smaller than their part of the image."""
        boxes = self._boxes(features, noun)
        found = pick(boxes, features.seen.image_hw, own.saa_box_level, 1.0 / count)
        return sorted(found, key=lambda one: -one.score)[: own.saa_most_boxes]

    def _saliency(
        self,
        features: SaaFeatures,
        objects: Sequence[Candidate],
        count: int,
        plus: SaaPlusSettings,
        context: Context,
    ) -> tuple[NDArray[np.float32], str]:
        """S in the image's frame, and how it was made."""
        height, width = context.image.shape[:2]
        said = f"Each place is compared with all others; its {plus.saa_nearest} largest distances count."
        values = None
        if count > 1:
            key = ("several", *(one.xyxy.tobytes() for one in objects))
            values = features.keep(key, lambda: self._several(features, objects, context))
            said = f"{counted(len(objects), 'object')} compared with each other."
            if values is None:
                said = (
                    f"Fewer than two objects were found where {count} are declared, so each place is compared with all "
                    "others."
                )
        if values is None:

            def one() -> NDArray[np.float32]:
                side = features.levels[0].shape[-1]
                cells = unlike_the_rest(unit_cells(features.levels), plus.saa_nearest)
                return cells.view(side, side).cpu().numpy()

            values = features.keep(("one", plus.saa_nearest), one)
        salient = resize_map(values, height, width)
        salient.setflags(write=False)
        return salient, said

    def _several(
        self, features: SaaFeatures, objects: Sequence[Candidate], context: Context
    ) -> NDArray[np.float32] | None:
        """Saliency of several objects on the finer grid, None where there are fewer than two."""
        if len(objects) < 2:
            return None
        height, width = context.image.shape[:2]
        (levels,) = self.saliency.maps([context.image], self.sides[1])
        side = levels[0].shape[-1]
        rows = np.minimum((np.arange(side) + 0.5) * height // side, height - 1).astype(int)
        columns = np.minimum((np.arange(side) + 0.5) * width // side, width - 1).astype(int)
        on_grid = []
        for window, inside in _masks(features, context.sam, objects):
            whole = np.zeros((height, width), bool)
            union(whole, window, inside)
            on_grid.append(whole[np.ix_(rows, columns)])
        return unlike_the_others(levels, on_grid)

    def tensors(self) -> Sequence[torch.Tensor]:
        """The weights of both models."""
        return [*super().tensors(), *self.saliency.model.parameters()]


def _masks(
    features: SaaFeatures, sam: SamSession, found: Sequence[Candidate]
) -> list[tuple[Window | None, NDArray[np.bool_] | None]]:
    """SAM's single mask for each box, in a window of the image; SAM is asked once about each box."""
    nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    keys = [("mask", one.xyxy.tobytes()) for one in found]
    new = {k: c for k, c in zip(keys, found, strict=True) if k not in features.answers}
    prompts = [Prompt(*nothing, box=one.xyxy, single=True) for one in new.values()]
    for key, answer in zip(new, sam.decode(prompts) if prompts else (), strict=True):
        features.answers[key] = np.clip(answer.logits[0], -60.0, 60.0).astype(np.float16)
    frame: SamFrame | None = sam.frame if keys else None
    return [
        mask_in_window(features.answers[key].astype(np.float32), frame)
        for key in keys
        if frame is not None
    ]


def _scored(anomaly_map: NDArray[np.float32], stages: tuple[Stage, ...], how: str) -> Scored:
    """Map and stages; the image score is the map's maximum, as published."""
    anomaly_map = np.clip(anomaly_map, 0.0, 1.0).astype(np.float32)
    anomaly_map.setflags(write=False)
    evidence = {"map": float(anomaly_map.max())}
    return Scored(anomaly_map, evidence, (*stages, map_stage(anomaly_map, how)))


def _boxes_stage(found: Sequence[Candidate], phrases: Sequence[str]) -> Stage:
    xyxy = np.array([one.xyxy for one in found], np.float32).reshape(-1, 4)
    caption = f"{counted(len(found), 'box', 'boxes')} for {', '.join(phrases)}."
    if found:
        caption += f" The best scores {found[0].score:.2f}."
    data = {
        "phrases": list(phrases),
        "boxes": [
            {
                "xyxy": [round(float(v), 1) for v in one.xyxy],
                "score": round(one.score, 4),
                "words": one.words,
            }
            for one in found
        ],
    }
    return Stage(BOXES, caption, (Boxes(xyxy),) if found else (), data)


def _masks_stage(
    kept: Sequence[Painted], boxes: Sequence[Candidate], of: int, shape: tuple[int, ...]
) -> Stage:
    whole = np.zeros(shape, bool)
    for one in kept:
        union(whole, one.window, one.inside)
    scores = ", ".join(f"{one.score:.2f}" for one in kept[:5])
    more = "" if len(kept) <= 5 else " and lower"
    caption = f"{len(kept)} of {counted(of, 'mask')} kept, rescored to {scores}{more}."
    xyxy = np.array([one.xyxy for one in boxes], np.float32).reshape(-1, 4)
    data = {"scores": [round(one.score, 4) for one in kept], "of": of}
    return Stage(RESCORED, caption, (Area(whole), Boxes(xyxy)), data)
