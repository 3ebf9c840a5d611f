"""Grounding DINO behind one small class: boxes on an image for a sentence, with the words that each box answers to.

What it sees of an image does not depend on the sentence up to its vision backbone, so that part is kept; each sentence
then costs the encoder that joins image and text, and the decoder.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zsas.backbones.sam import resized
from zsas.cancellation import raise_if_cancelled
from zsas.held import Held

SHORT_SIDE, LONG_SIDE = 800, 1333
"""The image's shorter side in pixels, as published, unless the longer one would exceed the second."""


@dataclass(frozen=True)
class DetectorFeatures(Held):
    """One image as the vision backbone sees it.

    Attributes:
        maps: Feature maps, fp32 (1, C, h, w) each.
        size_hw: Height and width of the resized image in pixels.
        image_hw: Height and width of the image in pixels.
    """

    maps: tuple[Tensor, ...]
    size_hw: tuple[int, int]
    image_hw: tuple[int, int]


@dataclass(frozen=True)
class Detections:
    """All boxes for one sentence, the sure ones and the others.

    Attributes:
        xyxy: float32 (n, 4), in image pixels, x1 and y1 exclusive; may reach over the border.
        scores: Highest probability over the sentence's tokens, float32 (n,).
        areas: Fraction of the image that a box would cover, float32 (n,).
        probabilities: Of each token, float32 (n, t).
        words: The sentence's tokens as text, t of them; "##" begins one that goes on with a word, and marks that are no
            words are "".
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    areas: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    words: tuple[str, ...]

    def phrase(self, box: int, threshold: float) -> str:
        """The words that a box answers to: those of the tokens whose probability exceeds a threshold."""
        chosen = self.probabilities[box] > threshold
        text = " ".join(word for word, yes in zip(self.words, chosen, strict=True) if yes and word)
        return text.replace(" ##", "").removeprefix("##")


class _Kept(nn.Module):
    """Stands for the vision backbone inside the model and gives the maps that are kept of an image."""

    maps: tuple[Tensor, ...] = ()

    def forward(self, pixels: Tensor, **_: Any) -> Any:
        """The maps in the form of the backbone's output."""
        return SimpleNamespace(feature_maps=self.maps)


class Detector:
    """Boxes from text.

    Args:
        model: transformers' `GroundingDinoForObjectDetection` or `MMGroundingDinoForObjectDetection`.
        tokenizer: Its tokenizer.
        device: Where it runs; always in fp32.
        sides: Shorter side of the image in pixels, and the most that the longer one may be.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        device: torch.device,
        sides: tuple[int, int] = (SHORT_SIDE, LONG_SIDE),
    ) -> None:
        self.sides = sides
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.device = device
        self._lock = threading.Lock()
        inner = model.model
        for layer in (*inner.encoder.layers, *inner.decoder.layers):
            layer.register_forward_pre_hook(raise_if_cancelled)
        convolutions = inner.backbone.conv_encoder
        self.vision, self._kept = convolutions.model, _Kept()
        convolutions.model = self._kept

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> list[DetectorFeatures]:
        """The vision backbone on RGB images, uint8 (H, W, 3), of any sizes, one after the other."""
        found = []
        for image in images:
            height, width = image.shape[:2]
            size = with_cells(resized_hw(height, width, *self.sides), self.model.config.num_queries)
            with torch.inference_mode():
                output = self.vision(resized(image, size)[None].to(self.device))
            maps = tuple(one.float() for one in output.feature_maps)
            found.append(DetectorFeatures(maps, size, (height, width)))
        return found

    def detect(self, features: DetectorFeatures, phrase: str) -> Detections:
        """All boxes for a phrase, which is made lower case and gets its full stop here."""
        text = " ".join(phrase.lower().split()).rstrip(". ") + "."
        most = self.model.config.max_text_len
        tokens = self.tokenizer([text], return_tensors="pt", truncation=True, max_length=most)
        tokens = {name: value.to(self.device) for name, value in tokens.items()}
        # The pixels' shape is all that the model reads of them: its backbone's maps are there.
        pixels = torch.zeros((1, 3, *features.size_hw), device=self.device)
        mask = torch.ones((1, *features.size_hw), dtype=torch.long, device=self.device)
        with self._lock, torch.inference_mode():
            self._kept.maps = features.maps
            try:
                output = self.model(pixel_values=pixels, pixel_mask=mask, **tokens)
            finally:
                self._kept.maps = ()
        ids = tokens["input_ids"][0].tolist()
        odds = output.logits[0, :, : len(ids)].float().sigmoid().nan_to_num(0.0).cpu().numpy()
        boxes = output.pred_boxes[0].float().cpu().numpy()
        height, width = features.image_hw
        scale = np.array([width, height], np.float32)
        centre, size = boxes[:, :2], boxes[:, 2:]
        xyxy = np.concatenate([(centre - size / 2) * scale, (centre + size / 2) * scale], axis=1)
        names = self.tokenizer.convert_ids_to_tokens(ids)
        marks = {*self.tokenizer.all_special_tokens, "."}
        words = tuple("" if name in marks else name for name in names)
        areas = size.prod(axis=1)
        return Detections(xyxy.astype(np.float32), odds.max(axis=1), areas, odds, words)


def resized_hw(
    height: int, width: int, short_side: int = SHORT_SIDE, long_side: int = LONG_SIDE
) -> tuple[int, int]:
    """Height and width at which the detector looks at an image, rounded as transformers does.

    Example:
        >>> resized_hw(500, 500), resized_hw(1000, 4000)
        ((800, 800), (333, 1333))
    """
    short, long = sorted((height, width))
    exact = min(float(short_side), long_side * short / long)
    side = max(1, round(exact))
    other = max(1, int(exact * long / short))
    return (side, other) if height <= width else (other, side)


FINEST_STRIDE = 8
"""Pixels of the resized image per cell of the finest map."""


def with_cells(size_hw: tuple[int, int], least: int) -> tuple[int, int]:
    """A size whose finest map has so many cells: a very long image is stretched, since every query starts at a cell.

    Example:
        >>> with_cells((800, 800), 900), with_cells((4, 1333), 900)
        ((800, 800), (48, 1333))
    """
    short, long = sorted(size_hw)
    cells = FINEST_STRIDE * -(-least // max(1, -(-long // FINEST_STRIDE)))
    stretched = max(short, cells)
    return (stretched, long) if size_hw[0] <= size_hw[1] else (long, stretched)
