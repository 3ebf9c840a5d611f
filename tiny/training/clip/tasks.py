"""Turns crops of the cache into tensors for the small CLIP: pixels, masks, and the sentences to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer

from tiny.training.cache import Batch, DatasetCache
from tiny.training.clip.recipe import PATCH, Recipe
from tiny.training.tokenizer import NOUNS
from zsas.backbones.clip import PIXEL_MEAN, PIXEL_STD
from zsas.backbones.text import DEFAULT_OBJECT, TEMPLATES, prompt_sentences


class Sentences:
    """Draws sentences and turns them into token ids, each sentence once.

    Args:
        tokenizer: The tokenizer.
        phrases: defect type → noun phrases.
        rng: Source of chance.
    """

    def __init__(
        self, tokenizer: CLIPTokenizer, phrases: dict[str, list[str]], rng: np.random.Generator
    ) -> None:
        self.tokenizer = tokenizer
        self.phrases = phrases
        self.rng = rng
        self._ids: dict[str, list[int]] = {}

    def tokens(self, lines: Sequence[str]) -> Tensor:
        """Token ids (n, longest), padded with the end token."""
        for line in lines:
            if line not in self._ids:
                self._ids[line] = self.tokenizer(line)["input_ids"]
        rows = [self._ids[line] for line in lines]
        end = int(self.tokenizer.eos_token_id)
        longest = max(map(len, rows))
        return torch.tensor([row + [end] * (longest - len(row)) for row in rows])

    def states(self, noun: str, samples: int) -> list[str]:
        """``samples`` normal sentences, then as many anomalous ones, of one noun."""
        return [
            group[int(i)]
            for group in prompt_sentences(noun)
            for i in self.rng.integers(0, len(group), samples)
        ]

    def with_defect(self, noun: str, defect_type: str) -> str:
        """A sentence that names a defect type: "a photo of a plate with a stain."."""
        options = self.phrases[defect_type]
        phrase = options[int(self.rng.integers(len(options)))]
        template = TEMPLATES[int(self.rng.integers(len(TEMPLATES)))]
        return template.format(f"{noun} with {phrase}")


@dataclass(frozen=True)
class Task:
    """A batch with everything the losses need, as tensors.

    Attributes:
        image: uint8 (B, R, R, 3) RGB.
        defect_map: uint8 (B, R, R), 0 = normal, as the cache numbers defect types.
        target: fp32 (B,), what the map shall be on defects.
        state_ids: ids of ``2 * samples`` sentences a distinct noun.
        noun: int64 (B,), which of the nouns each image is compared with.
        own_ids: ids (B, n) of one sentence an image.
        own_label: int64 (B,), equal where sentences mean the same.
        defect_ids: ids (K, n) of one sentence a defect type.
        damaged: fp32 (B,), 1 anomalous, 0 normal, -1 hardly visible.
    """

    image: Tensor
    defect_map: Tensor
    target: Tensor
    state_ids: Tensor
    noun: Tensor
    own_ids: Tensor
    own_label: Tensor
    defect_ids: Tensor
    damaged: Tensor

    def mask(self) -> Tensor:
        """Covered part of each half-resolution pixel, fp32 (B, R / 2, R / 2)."""
        return F.avg_pool2d((self.defect_map > 0).float()[:, None], 2)[:, 0]

    def patch_defect(self) -> Tensor:
        """int64 (B, g * g): 0 normal, 1..K defect type, -1 neither clearly."""
        batch, size = self.defect_map.shape[:2]
        cells = self.defect_map.view(batch, size // PATCH, PATCH, size // PATCH, PATCH)
        largest = cells.amax((2, 4)).flatten(1).long()
        covered = (cells > 0).float().mean((2, 4)).flatten(1)
        return torch.where((covered > 0) & (covered < 0.1), -1, largest)


def normalise(image: Tensor) -> Tensor:
    """RGB, uint8 (..., 3) → CLIP's normalised pixels, fp32."""
    mean, std = (image.new_tensor(of, dtype=torch.float32) for of in (PIXEL_MEAN, PIXEL_STD))
    return (image / 255 - mean) / std


def turned(task: Task) -> Task:
    """The same task on its own device, every image turned, mirrored and lit alike anew."""
    device, count = task.image.device, len(task.image)
    quarter, mirrored, toned = (int(n) for n in torch.randint(0, 4, (3,)))
    image, labels = (torch.rot90(each, quarter, (1, 2)) for each in (task.image, task.defect_map))
    if mirrored < 2:
        image, labels = image.flip(2), labels.flip(2)

    def random(low: float, high: float, channels: int = 1) -> Tensor:
        drawn: Tensor = torch.rand(count, 1, 1, channels, device=device)
        return low + (high - low) * drawn

    light = (image / 255) ** random(0.75, 1.3)
    light = (light - 0.5) * random(0.8, 1.2) + 0.5 + random(-0.08, 0.08)
    if toned == 0:
        light = light * random(0.94, 1.06, 3)
    if toned == 1:
        light = light + 0.02 * torch.randn(light.shape[:3], device=device)[..., None]
    lit = (255 * light).round().clamp(0, 255).to(torch.uint8)
    return replace(task, image=lit, defect_map=labels.contiguous())


def make_task(
    batch: Batch, recipe: Recipe, draw: Sentences, defect_types: Sequence[str], known: Sequence[str]
) -> Task:
    """Choose nouns and sentences for a batch.

    Args:
        batch: Crops.
        recipe: Chances and sizes.
        draw: Sentences.
        defect_types: All defect types of the cache, as its defect map numbers them.
        known: Nouns of the cache.
    """
    rng = draw.rng
    nouns, target = [], []
    for name in batch.names:
        way = int(rng.choice(4, p=recipe.names))
        foreign = NOUNS[int(rng.integers(len(NOUNS)))]
        other = known[int(rng.integers(len(known)))]
        nouns.append((name, DEFAULT_OBJECT, foreign, other)[way])
        target.append(recipe.wrong_target if way == 3 and other != name else 1.0)
    distinct = sorted(set(nouns))
    own, labels = [], []
    for name, found in zip(batch.names, batch.defect_types, strict=True):
        if found and rng.random() < 0.6:
            defect_type = found[int(rng.integers(len(found)))]
            own.append(draw.with_defect(name, defect_type))
            labels.append((name, defect_type))
        else:
            normal, damaged = draw.states(name, 1)
            own.append(damaged if found else normal)
            labels.append((name, "damaged" if found else "normal"))
    places = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    visible = [cv2.countNonZero(labels) for labels in batch.defect_map]
    damaged_flag = [
        1.0 if found else (0.0 if count == 0 else -1.0)
        for found, count in zip(batch.defect_types, visible, strict=True)
    ]
    common = DEFAULT_OBJECT if rng.random() < 0.5 else known[int(rng.integers(len(known)))]
    return Task(
        image=torch.from_numpy(batch.image),
        defect_map=torch.from_numpy(batch.defect_map),
        target=torch.tensor(target),
        state_ids=draw.tokens([s for noun in distinct for s in draw.states(noun, recipe.samples)]),
        noun=torch.tensor([distinct.index(noun) for noun in nouns]),
        own_ids=draw.tokens(own),
        own_label=torch.tensor([places[label] for label in labels]),
        defect_ids=draw.tokens(
            [draw.with_defect(common, defect_type) for defect_type in defect_types]
        ),
        damaged=torch.tensor(damaged_flag),
    )


def plainly_visible(images: DatasetCache, most: int = 8000) -> NDArray[np.int64]:
    """Indices of images whose defects are large and stand out, and of a third as many normal ones.

    A defect stands out by the difference of its mean colour from its surroundings', in units of their spread.
    """
    strength = np.zeros(min(most, len(images)), np.float32)
    for i in range(len(strength)):
        mask = (images.defect_map[i, ::2, ::2] > 0).astype(np.uint8)
        if mask.sum() < 40:
            continue
        picture = cv2.cvtColor(images.image[i, ::2, ::2], cv2.COLOR_RGB2LAB)
        ring = cv2.dilate(mask, np.ones((15, 15), np.uint8)) - mask
        inside, _ = cv2.meanStdDev(picture, mask=mask)
        outside, deviation = cv2.meanStdDev(picture, mask=ring)
        strength[i] = np.abs(inside - outside).max() / (6.0 + deviation.max())
    seen = strength[strength > 0]
    strong = np.flatnonzero(strength > np.quantile(seen, 0.55)) if len(seen) else np.zeros(0, int)
    normal = np.flatnonzero([not record.defect_types for record in images.records[: len(strength)]])
    return np.concatenate([strong, normal[: len(strong) // 3]]).astype(np.int64)
