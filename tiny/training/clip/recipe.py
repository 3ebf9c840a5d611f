"""What decides a training of the small CLIP, and its named recipes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training, beside its cache and budget.

    Attributes:
        width, depth, heads: Vision tower.
        text_width, text_depth, text_heads, context: Text tower.
        projection: Channels of the space that patches, images and sentences share.
        blocks: Blocks whose tokens the linear layers read, counted from 1.
        nominal: Input size in pixels that the position embedding is made for.
        stages: (part of the training at which it begins, input px, batch, window scale) in order.
        visits: How often a batch is learned from, each time turned and lit otherwise.
        samples: Sentences drawn a state and noun at each step.
        text_steps: Steps of :func:`pretrain_text`.
        text_lr: Learning rate of the text tower as a part of ``lr``.
        text_from: Part of the training until which the text tower stays as `pretrain_text` left it.
        own_from: Part of the training after which CLIP's own projection of patches learns, too.
        easy_until: Part of the training in which plainly visible defects are drawn more often, from all of the
            time at first to never at its end: a tower that starts among faint ones learns nothing for long.
        muon_lr: Learning rate of Muon, which moves the matrices of the vision blocks: its even steps keep patches
            apart where AdamW's, at batches this small, drive them all into one direction.
        lr, weight_decay, clip, ema: AdamW for the rest, gradient clipping and the average that is kept.
        names: Chances of the image's own noun, "object", a foreign noun, another image's noun.
        wrong_target: Target on defects when another image's noun is named.
        focal, dice, defect_type, image, highest, contrast: Weights of the losses.
    """

    width: int = 192
    depth: int = 8
    heads: int = 3
    text_width: int = 128
    text_depth: int = 3
    text_heads: int = 4
    context: int = 32
    projection: int = 128
    blocks: tuple[int, ...] = (3, 5, 7, 8)
    nominal: int = 384
    stages: tuple[tuple[float, int, int, float, float], ...] = (
        (0.0, 192, 12, 0.35, 0.75),
        (0.35, 256, 12, 0.5, 1.0),
        (0.78, 384, 8, 0.6, 1.0),
    )
    visits: int = 1
    easy_until: float = 0.4
    samples: int = 2
    text_steps: int = 200
    text_lr: float = 0.15
    text_from: float = 0.3
    own_from: float = 0.5
    lr: float = 5e-4
    muon_lr: float = 1.5e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.999
    names: tuple[float, float, float, float] = (0.72, 0.13, 0.07, 0.08)
    wrong_target: float = 0.5
    focal: float = 5.0
    dice: float = 1.0
    defect_type: float = 0.15
    image: float = 0.2
    highest: float = 0.2
    contrast: float = 0.15


PRETRAIN = Recipe()
"""From nothing, or from the encoder of a small SAM."""

CONTINUE = Recipe(
    stages=((0.0, 192, 16, 0.35, 0.8), (0.25, 256, 12, 0.5, 1.0), (0.82, 384, 8, 0.6, 1.0)),
    easy_until=0.1,
    text_from=0.05,
    own_from=0.0,
)
"""Goes on from pretraining: the sentences are known, and faint defects come early."""

FINETUNE = replace(
    CONTINUE,
    stages=((0.0, 256, 20, 0.5, 1.0), (0.6, 384, 10, 0.6, 1.0)),
    easy_until=0.0,
    text_from=0.0,
    lr=3e-4,
    muon_lr=1e-3,
    image=0.4,
    highest=0.4,
)
"""Goes on among faint defects from the start, with twice the weight on the image score."""

_VIEW_SIZES = ((512, 6, 0.5, 1.0), (384, 10, 0.5, 1.0), (640, 4, 0.6, 1.0), (256, 20, 0.5, 1.0))

MULTISCALE = replace(
    FINETUNE,
    stages=tuple((part / 120, *_VIEW_SIZES[part % 4]) for part in range(120)),
    lr=2.5e-4,
    muon_lr=8e-4,
)
"""Goes on at the sizes of the exported model's views in turn; for images of 512 px, so that large views see detail."""

_LARGE_BATCHES = (
    (512, 48, 0.35, 1.0),
    (384, 80, 0.35, 1.0),
    (640, 32, 0.5, 1.0),
    (256, 160, 0.35, 1.0),
)

BROAD = replace(
    MULTISCALE,
    stages=tuple((part / 120, *_LARGE_BATCHES[part % 4]) for part in range(120)),
    lr=5e-4,
    muon_lr=1.5e-3,
    image=0.5,
    highest=0.5,
)
"""Goes on with the batches of a GPU and the step of pretraining, among smaller windows: for many new images."""

FULL = replace(
    BROAD,
    stages=(
        (0.0, 192, 256, 0.35, 0.75),
        (0.04, 256, 160, 0.35, 0.9),
        (0.1, 384, 80, 0.35, 1.0),
        *tuple((0.15 + 0.85 * part / 120, *_LARGE_BATCHES[part % 4]) for part in range(120)),
    ),
    visits=2,
    easy_until=0.12,
    text_from=0.08,
    own_from=0.15,
)
"""All of it in one training, with the batches of a GPU: small images first, then the sizes of the views in turn."""

RECIPES = {
    "pretrain": PRETRAIN,
    "continue": CONTINUE,
    "finetune": FINETUNE,
    "multiscale": MULTISCALE,
    "broad": BROAD,
    "full": FULL,
}

PATCH = 16
SCALE = 20.0
"""Factor on the cosines of patches; from scratch, CLIP's 100 freezes the text tower at the start."""


def recipe_from(text: str) -> Recipe:
    """A recipe from a checkpoint's JSON."""
    fields = json.loads(text)
    for name in ("blocks", "names"):
        fields[name] = tuple(fields[name])
    fields["stages"] = tuple(tuple(stage) for stage in fields["stages"])
    return Recipe(**fields)
