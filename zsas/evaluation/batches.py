"""Batch scoring on a data set: the test images of each category are one batch; such figures are reported apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.datasets.samples import Dataset, Sample
from zsas.encoding import Encoding
from zsas.errors import ZsasError
from zsas.evaluation.conditions import Condition
from zsas.evaluation.rows import markdown, tenths
from zsas.localizers.mutual import CELLS, OTHERS, Batch, Cells, check_count
from zsas.segmenter import Segmenter

CONDITIONS = {"batch": "the test images of each category", "others": OTHERS, "cells": CELLS}
"""What stands in results.json and in the identity of a run."""

WARNING = (
    "Batch scoring is transductive: each image was compared with the other test images of its category. These figures "
    "cannot be compared with those of methods that see one image."
)

PUBLISHED = {
    "MuSc, MVTec-AD": (97.3, 62.6, 62.7),
    "MuSc, VisA": (98.8, 48.8, 45.1),
}
"""Pixel AUROC, F1-max and AP in percent, as printed in arXiv 2401.16753."""

_KEPT = 4


class Batches:
    """The batches of a data set; the images of each are compared when first needed, and the latest few are kept.

    Args:
        several: The models, by number format.
        data: The images, sorted by category.
    """

    def __init__(self, several: Mapping[str, Segmenter], data: Dataset) -> None:
        self._several, self._data = several, data
        self._made: dict[Any, Batch] = {}

    def of(self, category: str, condition: Condition) -> Batch:
        """The batch of a category; images that cannot be read are left out.

        Raises:
            ZsasError: If there are too few images, or the system has no patch features to compare.
        """
        segmenter, settings = self._several[condition.precision], condition.settings
        region = condition.region
        slot = (category, condition.precision, settings.encoding_key)
        if slot not in self._made:
            samples = self._data.of(category)
            check_count(len(samples))
            cells: list[Cells] = []
            for sample in samples:
                try:
                    image = sample.load_image()
                except ZsasError:  # its own record says so
                    continue
                cells += segmenter.gather([image], settings, region)
            batch = segmenter.compare_batch(cells, settings, region)
            while len(self._made) >= _KEPT:
                self._made.pop(next(iter(self._made)))
            self._made[slot] = batch
        return self._made[slot]

    def encode(
        self,
        segmenter: Segmenter,
        samples: Sequence[Sample],
        images: Sequence[NDArray[np.uint8]],
        condition: Condition,
    ) -> list[Encoding]:
        """The encodings of some images, from the segmenter's cache if it still holds them."""
        return segmenter.encode_batch(images, condition.settings, condition.region)

    def check(self, condition: Condition) -> None:
        """Refuse a system that cannot compare images.

        Raises:
            ZsasError: If not.
        """
        for sample in self._data:
            try:
                image = sample.load_image()
            except ZsasError:
                continue
            self._several[condition.precision].gather([image], condition.settings)
            return


def published_rows() -> list[str]:
    """Published figures of batch methods as Markdown."""
    rows = [[name, *tenths(values)] for name, values in PUBLISHED.items()]
    return [
        "Published figures of a batch method (pixel metrics, percent); other models.",
        "",
        *markdown(["", "AUROC", "F1-max", "AP"], rows),
    ]
