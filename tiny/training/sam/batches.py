"""Turns synthetic images into a step's tensors for the small SAM: crops, dense targets and first prompts.

Most steps use crops of 256 px that keep their place in the 512 px frame: the crop of the encoder's
position embedding, of the decoder's position grid and the prompts' coordinates are those of the
frame, so that the last part, on whole frames, goes on where the crops ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiny.training.cache import DatasetCache
from tiny.training.sam import prompts
from tiny.training.sam.prompts import CELL, Crop, Target
from tiny.training.sam.recipe import PATCH, Recipe
from zsas.errors import ZsasError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""SAM's own normalisation of RGB in [0, 1]."""


class Images(Protocol):
    """Synthetic images by index: the part of the training cache that is used here."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 (N, S, S, 3) RGB."""
        ...

    @property
    def mask(self) -> NDArray[np.uint8]:
        """uint8 (N, S, S), nonzero on defects."""
        ...

    @property
    def parts(self) -> NDArray[np.int16]:
        """int16 (N, S, S), 0 = background."""
        ...


@dataclass
class Batch:
    """Crops at one place of the frame with their targets and first prompts.

    Attributes:
        pixels: uint8 (B, C, C, 3) RGB.
        extents: int64 (B, 2), height and width that the images cover; the rest is padding.
        place: Left and upper patch of the crops in the frame.
        dense: float (B, 3, C / 4, C / 4): outlines of parts and defects, defects, foreground.
        segments: int64 (B, C / 4, C / 4), which part or defect each cell shows.
        owner: int64 (P,), the image of each prompt; the first half of an image's prompts are
            points, the other half boxes, both sorted by image.
        cover: float (P, C / 4, C / 4), target of each prompt.
        points: Positions (P / 2, K, 2) in frame pixels, and labels (P / 2, K).
        boxes: float (P / 2, 4) in frame pixels.
        true_boxes: float (P, 4) in frame pixels.
    """

    pixels: Tensor
    extents: Tensor
    place: tuple[int, int]
    dense: Tensor
    segments: Tensor
    owner: Tensor
    cover: Tensor
    points: tuple[Tensor, Tensor]
    boxes: Tensor
    true_boxes: Tensor


def turned(batch: Batch) -> Batch:
    """The same batch with rows and columns exchanged, in another light; padding stays right and below."""
    gain = 0.8 + 0.4 * torch.rand(len(batch.pixels), 1, 1, 3, device=batch.pixels.device)
    lit = (gain * batch.pixels.transpose(1, 2)).round().clamp(0, 255).to(torch.uint8)
    xy, labels = batch.points
    other = [1, 0, 3, 2]
    return Batch(
        lit,
        batch.extents.flip(1),
        (batch.place[1], batch.place[0]),
        batch.dense.transpose(2, 3),
        batch.segments.transpose(1, 2),
        batch.owner,
        batch.cover.transpose(1, 2),
        (xy.flip(-1), labels),
        batch.boxes[:, other],
        batch.true_boxes[:, other],
    )


def stacked(crops: Sequence[Crop]) -> tuple[Tensor, Tensor]:
    """Pixels and extents of crops, as `Batch` has them."""
    pixels = torch.from_numpy(np.stack([crop.image for crop in crops]))
    return pixels, torch.tensor([(crop.height, crop.width) for crop in crops])


def normalise(pixels: Tensor, extents: Tensor) -> Tensor:
    """RGB crops as the encoder takes them.

    Args:
        pixels: uint8 (B, C, C, 3).
        extents: int64 (B, 2), height and width that the images cover.

    Returns:
        float32 (B, 3, C, C), zero in the padding.
    """
    mean, std = (pixels.new_tensor(of, dtype=torch.float32) for of in (MEAN, STD))
    side = torch.arange(pixels.shape[1], device=pixels.device)
    rows, columns = (side < extents[..., None]).unbind(1)
    covered = rows[:, :, None] & columns[:, None, :]
    return ((pixels / 255 - mean) / std * covered[..., None]).permute(0, 3, 1, 2).contiguous()


def dense_targets(crop: Crop) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Outlines, defects and foreground of a crop, and its segments, all in cells."""
    segments = np.where(crop.defects > 0, crop.defects + 100_000, crop.parts)
    edges = np.zeros(segments.shape, np.uint8)
    edges[:, 1:] |= segments[:, 1:] != segments[:, :-1]
    edges[1:] |= segments[1:] != segments[:-1]
    cells = (segments.shape[1] // CELL, segments.shape[0] // CELL)
    touched = cv2.resize(255 * edges, cells, interpolation=cv2.INTER_AREA) > 0
    maps = [
        touched.astype(np.float32),
        prompts.soft_cells(crop.defects > 0),
        prompts.soft_cells(crop.parts > 0),
    ]
    middle = segments[CELL // 2 :: CELL, CELL // 2 :: CELL]
    return np.stack(maps), middle.astype(np.int64)


def make_batch(
    rng: np.random.Generator, images: Images, first: int, recipe: Recipe, side: int, batch: int
) -> Batch:
    """Crops with targets and first prompts.

    Args:
        rng: Source of chance; the same state gives the same batch.
        images: Synthetic images.
        first: Images before this one are held out.
        recipe: Sizes.
        side: Crop size in pixels.
        batch: Number of crops.

    Raises:
        ZsasError: The images show nothing that a prompt could ask for.
    """
    crops, wanted = _draw_crops(rng, images, first, recipe, side, batch)
    room = (recipe.frame - side) // PATCH
    place = (int(rng.integers(room + 1)), int(rng.integers(room + 1)))
    offset = np.array(place, np.float32) * PATCH
    half = max(1, recipe.per_image // 2)
    most = int(rng.choice([1, 1, 2, 3, 5, 8]))
    covers: list[list[NDArray[np.float32]]] = [[], []]
    true_boxes: list[list[NDArray[np.float32]]] = [[], []]
    points, boxes = [], []
    for targets in wanted:
        for group in (0, 1):
            for target in prompts.choose_targets(rng, targets, half):
                cover = prompts.soft_cells(target.mask)
                box = prompts.tight_box(target.mask)
                covers[group].append(cover)
                true_boxes[group].append(box)
                if group:
                    boxes.append(prompts.jitter_box(rng, box, side))
                else:
                    points.append(_click_prompt(rng, target, cover, most))
    xy, labels = prompts.pad_points(points)
    maps, segments = zip(*(dense_targets(crop) for crop in crops), strict=True)
    shift = np.tile(offset, 2)
    owner = torch.arange(batch).repeat_interleave(half)
    return Batch(
        *stacked(crops),
        place,
        torch.from_numpy(np.stack(maps)),
        torch.from_numpy(np.stack(segments)),
        torch.cat([owner, owner]),
        torch.from_numpy(np.stack(covers[0] + covers[1])),
        (torch.from_numpy(xy + offset), torch.from_numpy(labels)),
        torch.from_numpy(np.stack(boxes) + shift),
        torch.from_numpy(np.stack(true_boxes[0] + true_boxes[1]) + shift),
    )


def _draw_crops(
    rng: np.random.Generator, images: Images, first: int, recipe: Recipe, side: int, batch: int
) -> tuple[list[Crop], list[list[Target]]]:
    """Crops that show something to ask for, and what; see `make_batch`."""
    crops: list[Crop] = []
    wanted: list[list[Target]] = []
    for _ in range(30):
        drawn = rng.integers(first, len(images.image), (batch - len(crops), 2))
        if isinstance(images, DatasetCache):
            images.expect(drawn.ravel())
        for index, donor in drawn:
            crop = prompts.make_crop(
                rng,
                images.image[index],
                images.mask[index],
                images.parts[index],
                side,
                recipe.frame,
                donor=images.image[donor],
            )
            targets = prompts.targets_of(crop)
            if targets and (rng.random() < 0.8 or any(t.kind == "defect" for t in targets)):
                crops.append(crop)
                wanted.append(targets)
        if len(crops) == batch:
            break
    if len(crops) < batch:
        raise ZsasError(
            "The images show no parts and no defects to learn from: make them with both."
        )
    return crops, wanted


def _click_prompt(
    rng: np.random.Generator, target: Target, cover: NDArray[np.float32], most: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points on and off a target: as an anomaly map gives them for most defects, else as a person clicks."""
    if most > 1 and target.kind == "defect" and rng.random() < 0.75:
        ups = int(rng.integers(1, most))
        downs = int(rng.integers(0, most - ups + 1))
        return prompts.map_prompts(rng, cover, ups, downs)
    ups = int(rng.integers(1, min(most, 3) + 1))
    downs = int(rng.integers(0, min(3, most - ups) + 1))
    return prompts.clicks(rng, target.mask, ups, downs)
