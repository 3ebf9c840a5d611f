"""The endless stream of tasks that a training of the small CLIP reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tiny.training.cache import DatasetCache, make_batch
from tiny.training.clip.recipe import Recipe
from tiny.training.clip.tasks import Sentences, Task, make_task, plainly_visible
from tiny.training.loop import Budget
from zsas.errors import ZsasError

EASY_LIMIT = 600
"""Images drawn ahead while easy ones are favoured, so that their part can fall as the training goes on."""


class TaskStream:
    """Tasks of one process, from several caches, drawn by their sizes, each made for the step that learns from it.

    Args:
        caches: Synthetic images.
        recipe: Sizes, batches and chances.
        draw: Sentences, and the source of all chance.
        budget: Says how much of the training is done at a step.
        steps: At which step each task is learned.
        ranks: How many processes learn from a part of each batch.
    """

    def __init__(
        self,
        caches: Sequence[DatasetCache],
        recipe: Recipe,
        draw: Sentences,
        budget: Budget,
        steps: Iterator[int],
        ranks: int = 1,
    ) -> None:
        self.caches, self.recipe, self.draw = caches, recipe, draw
        self.budget, self.steps, self.ranks = budget, steps, ranks
        self.rng = draw.rng
        nothing = np.zeros(0, np.int64)
        self._orders = [nothing for _ in caches]
        easily = recipe.easy_until > 0
        self._plain = [plainly_visible(cache) if easily else nothing for cache in caches]
        self._nouns: list[str] = []

    def __iter__(self) -> Iterator[Task]:
        for step in self.steps:
            progress = self.budget.progress(step)
            size, whole, scale = stage_at(self.recipe, progress)
            batch = max(1, whole // self.ranks)
            lengths = np.array([len(cache) for cache in self.caches])
            which = int(self.rng.choice(len(self.caches), p=lengths / lengths.sum()))
            if len(self._orders[which]) < batch:
                self._orders[which] = self._new_order(which, batch, progress)
            order = self._orders[which]
            index, self._orders[which] = order[:batch], order[batch:]
            cache = self.caches[which]
            crops = make_batch(cache, self.rng, index, size, scale)
            yield make_task(crops, self.recipe, self.draw, cache.defect_types, self._nouns)

    def _new_order(self, which: int, batch: int, progress: float) -> NDArray[np.int64]:
        """All images of a cache in random order; at the start of a training, many of them easy ones."""
        cache, plain = self.caches[which], self._plain[which]
        order = self.rng.permutation(cache.refresh())
        fraction = 1.0 - progress / max(self.recipe.easy_until, 1e-9)
        if fraction > 0 and len(plain):
            easy = self.rng.random(len(order)) < fraction
            order = np.where(easy, self.rng.choice(plain, len(order)), order)[:EASY_LIMIT]
        self._nouns = sorted({record.name for each in self.caches for record in each.records})
        if len(order) < batch:
            raise ZsasError(
                f"The cache has {len(order)} images, fewer than one batch of {batch}: fill it first."
            )
        return order


def stage_at(recipe: Recipe, progress: float) -> tuple[int, int, tuple[float, float]]:
    """Input size, batch and window scale at a part of the training."""
    stage = [stage for stage in recipe.stages if stage[0] <= progress][-1]
    return stage[1], stage[2], (stage[3], stage[4])
