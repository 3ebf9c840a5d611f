"""What decides a training of the small SAM, and its named recipes."""

from __future__ import annotations

from dataclasses import dataclass, replace

PATCH = 16


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training, beside its cache and budget.

    Attributes:
        width, depth, heads, windows: Encoder; the blocks in ``global_blocks`` see all tokens.
        hidden: Channels of features, prompts and decoder.
        frame: Input size in pixels.
        stages: Until which part of the training, crops of how many pixels, how many a step.
        per_image: Prompts an image, half of them boxes.
        visits: How often a batch is learned from, each time turned and lit otherwise.
        cascade_from: Part of the training after which logits are fed back.
        features_first: Whether prompts weigh little until the encoder has something to tell.
        lr: Learning rate of Muon, which moves the matrices.
        lr_rest: Learning rate of AdamW, which moves everything else.
        weight_decay, ema: Decay of the matrices, and the average of the weights that is kept.
        held_out: Images at the start of the cache that are only measured on.
    """

    width: int = 192
    depth: int = 6
    heads: int = 3
    windows: int = 8
    global_blocks: tuple[int, ...] = (2, 5)
    hidden: int = 128
    frame: int = 512
    stages: tuple[tuple[float, int, int], ...] = ((0.12, 128, 12), (0.9, 256, 8), (1.0, 512, 3))
    cascade_from: float = 0.35
    features_first: bool = True
    per_image: int = 4
    visits: int = 1
    lr: float = 2e-3
    lr_rest: float = 1e-3
    weight_decay: float = 0.05
    ema: float = 0.998
    held_out: int = 64


PRETRAIN = Recipe()
"""From nothing: dense heads first, then prompts, then the cascade."""

FINETUNE = Recipe(
    stages=((0.55, 256, 16), (1.0, 512, 6)),
    cascade_from=0.0,
    features_first=False,
    lr=1e-3,
    lr_rest=5e-4,
)
"""From an earlier training's average: half of its learning rate, larger steps, half of the time whole frames."""

BROAD = replace(
    FINETUNE,
    stages=((0.35, 256, 64), (1.0, 512, 24)),
    per_image=8,
    lr=1.5e-3,
    lr_rest=7e-4,
    ema=0.999,
)
"""From an earlier training's average, with the batches of a GPU and twice as many prompts an image."""

FULL = replace(
    PRETRAIN,
    stages=((0.08, 128, 128), (0.55, 256, 64), (1.0, 512, 24)),
    cascade_from=0.2,
    per_image=8,
    visits=2,
    ema=0.999,
)
"""All of it in one training, with the batches of a GPU."""

RECIPES = {"pretrain": PRETRAIN, "finetune": FINETUNE, "broad": BROAD, "full": FULL}
