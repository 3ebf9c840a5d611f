"""The small SAM: what makes it learnable, that it learns, and that transformers loads it."""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import SamModel

from tiny.training import loop
from tiny.training.sam import prompts, train
from tiny.training.sam.batches import make_batch, normalise, stacked, turned
from tiny.training.sam.losses import call_loss, cell_iou, corrected, dense_loss, mask_boxes
from tiny.training.sam.model import TrainModel
from tiny.training.sam.recipe import Recipe
from tiny.training.sam.start import build, start_patches
from tiny.training.sam.train import _batches, make_optimizers
from zsas.errors import ZsasError
from zsas.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

MICRO = Recipe(
    width=32,
    depth=2,
    heads=2,
    windows=2,
    global_blocks=(1,),
    hidden=32,
    frame=128,
    stages=((0.8, 64, 4), (1.0, 128, 2)),
    per_image=4,
    lr=1e-2,
    lr_rest=4e-3,
    held_out=3,
)


@dataclass
class Squares:
    """Bright squares (parts) on dark ground, some with a red stripe (defect)."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    parts: NDArray[np.int16]


@pytest.fixture(scope="module")
def squares() -> Squares:
    image = np.full((12, 96, 96, 3), 30, np.uint8)
    mask = np.zeros((12, 96, 96), np.uint8)
    parts = np.zeros((12, 96, 96), np.int16)
    rng = np.random.default_rng(0)
    for i in range(12):
        for part, (left, top) in enumerate(((6, 10), (54, 50)), start=1):
            y, x = top + int(rng.integers(-6, 6)), left + int(rng.integers(-5, 6))
            image[i, y : y + 32, x : x + 32] = 210
            parts[i, y : y + 32, x : x + 32] = part
        if i % 3:
            image[i, 40:46, 20:70] = (200, 20, 20)
            mask[i, 40:46, 20:70] = 1
    return Squares(image, mask, parts)


def test_position_embedding_is_sigma_one_in_both_places_and_frozen() -> None:
    sam = build(Recipe())
    holders = (sam.shared_image_embedding, sam.prompt_encoder.shared_embedding)
    for holder in holders:
        assert float(holder.positional_embedding.std()) == pytest.approx(1.0, abs=0.2)
        assert not holder.positional_embedding.requires_grad
    assert torch.equal(*(holder.positional_embedding for holder in holders))


def test_encoder_does_not_start_dead() -> None:
    # transformers starts the encoder's matrices at 1e-10: no gradient would ever arrive there.
    sam = build(MICRO)
    assert float(sam.vision_encoder.patch_embed.projection.weight.detach().std()) > 1e-3
    assert float(sam.vision_encoder.layers[0].mlp.lin1.weight.detach().std()) > 1e-3


def test_fast_encoder_equals_that_of_transformers() -> None:
    model = TrainModel(MICRO)
    pixels = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = model.sam.vision_encoder(pixels).last_hidden_state
        assert torch.allclose(model.features(pixels), expected, atol=1e-5)


def test_decoder_looks_where_the_point_is_before_any_training() -> None:
    model = TrainModel(Recipe())
    features = 0.5 * torch.randn(1, 128, 32, 32)
    found: list[torch.Tensor] = []
    block = model.sam.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    block.register_forward_hook(lambda module, inputs, output: found.append(output[1]))
    where = torch.tensor([[[100.0, 300.0]]])
    with torch.no_grad():
        model.decode(features, (0, 0), points=(where, torch.ones(1, 1, dtype=torch.long)))
    seen = found[0][0, :, 5].reshape(-1, 32, 32)  # tokens 0 to 4 are SAM's own
    near = seen[:, 16:22, 4:9].sum((1, 2))  # 300 / 16 = row 18, 100 / 16 = column 6
    assert float(near.max()) > 0.5  # all cells alike would give 30 / 1024


def test_crop_sees_the_frames_positions() -> None:
    model = TrainModel(MICRO)
    crop, place = torch.randn(1, 32, 4, 4), (4, 2)
    point = torch.tensor([[[70.0, 40.0]]])
    labels = torch.ones(1, 1, dtype=torch.long)
    with torch.no_grad():
        here, _ = model.decode(crop, place, points=(point, labels))
        moved, _ = model.decode(crop, (0, 0), points=(point, labels))
    assert here.shape == (1, 3, 16, 16)
    assert not torch.allclose(here, moved)


def test_loss_falls_and_export_loads(squares: Squares, tmp_path: Path) -> None:
    folder = train(loop.Run(tmp_path, steps=40, report_every=10), caches=[squares], recipe=MICRO)
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("dense", "together"):
        losses = [float(row[name]) for row in rows]
        assert min(losses[1:]) < 0.9 * losses[0], name

    sam = SamModel.from_pretrained(folder, dtype=torch.float32)
    state = load_checkpoint(tmp_path / "last.pt")["ema"]["shadow"]
    key = "prompt_encoder.shared_embedding.positional_embedding"
    saved = sam.prompt_encoder.shared_embedding.positional_embedding
    assert torch.allclose(saved, state[f"sam.{key}"], atol=2e-3)
    assert torch.equal(saved, sam.shared_image_embedding.positional_embedding)
    with torch.no_grad():
        result = sam(
            pixel_values=torch.zeros(1, 3, 128, 128), input_boxes=torch.tensor([[[8.0, 8, 60, 60]]])
        )
    assert result.pred_masks.shape == (1, 1, 3, 32, 32)


def test_a_training_goes_on_from_anothers_average_and_draws_from_all_caches(
    squares: Squares, tmp_path: Path
) -> None:
    train(loop.Run(tmp_path / "first", steps=3), caches=[squares], recipe=MICRO)
    average = load_checkpoint(tmp_path / "first/last.pt")["ema"]["shadow"]
    other = Squares(255 - squares.image, squares.mask, squares.parts)
    still = replace(MICRO, lr=0.0, lr_rest=0.0, weight_decay=0.0)
    start = tmp_path / "first/last.pt"
    again = tmp_path / "again"
    train(loop.Run(again, steps=3), caches=[squares, other], recipe=still, start=start)
    kept = load_checkpoint(again / "last.pt")["ema"]["shadow"]
    assert all(torch.allclose(kept[name], value) for name, value in average.items())

    budget = loop.Budget(20)
    batches = _batches(
        [squares, other], MICRO, budget, 0, itertools.count(), loop.DistributedGroup()
    )
    light = {bool((next(batches).pixels.float().mean() > 127).item()) for _ in range(20)}
    assert light == {True, False}


def test_a_training_goes_on_from_an_exported_model_whose_new_heads_learn_alone_first(
    squares: Squares, tmp_path: Path
) -> None:
    first = train(loop.Run(tmp_path / "first", steps=3), caches=[squares], recipe=MICRO)
    model = TrainModel(MICRO, seed=5)
    model.go_on_from(first)
    exported = SamModel.from_pretrained(first, dtype=torch.float32).state_dict()
    assert all(torch.equal(model.sam.state_dict()[name], v) for name, v in exported.items())

    batch = next(
        _batches([squares], MICRO, loop.Budget(20), 0, itertools.count(), loop.DistributedGroup())
    )
    for heads_only in (True, False):
        model.zero_grad()
        features = model.features(normalise(batch.pixels, batch.extents), batch.place)
        sum(dense_loss(model, features, batch, heads_only=heads_only)).backward()
        assert model.dense.weight.grad is not None
        reached = [name for name, p in model.sam.named_parameters() if p.grad is not None]
        assert bool(reached) != heads_only, reached

    with pytest.raises(ZsasError, match="other sizes"):
        TrainModel(replace(MICRO, width=64)).go_on_from(first)


def test_box_prompt_moves_the_mask(squares: Squares) -> None:
    model = TrainModel(MICRO)
    start_patches(model.sam, torch.randn(2, 3, 128, 128))
    optimizers = make_optimizers(model)
    images = np.stack([squares.image[i] for i in (0, 3, 6, 9)])
    crops = [
        prompts.make_crop(None, image, squares.mask[0], squares.parts[i], 128, 128)
        for image, i in zip(images, (0, 3, 6, 9), strict=True)
    ]
    pixels = normalise(*stacked(crops))
    masks = [crop.parts == part for crop in crops for part in (1, 2)]
    cover = torch.from_numpy(np.stack([prompts.soft_cells(mask) for mask in masks]))
    boxes = torch.from_numpy(np.stack([prompts.tight_box(mask) for mask in masks]))
    for _ in range(100):
        features = model.features(pixels).repeat_interleave(2, 0)
        logits, scores = model.decode(features, (0, 0), boxes=boxes)
        loss, _ = call_loss(logits, scores, cover, others=0.1)
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    with torch.no_grad():
        features = model.features(pixels).repeat_interleave(2, 0)
        right = cell_iou(model.decode(features, (0, 0), boxes=boxes)[0], cover)
        swapped = boxes.reshape(-1, 2, 4).flip(1).reshape(-1, 4)
        wrong = cell_iou(model.decode(features, (0, 0), boxes=swapped)[0], cover)
    assert float(right.max(1).values.mean()) > float(wrong.max(1).values.mean()) + 0.3
    assert float(right.max(1).values.mean()) > 0.6


def test_same_seed_gives_the_same_batch(squares: Squares) -> None:
    first, again = (
        make_batch(np.random.default_rng(5), squares, 0, MICRO, 64, 3) for _ in range(2)
    )
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.points[0], again.points[0])


def test_images_without_anything_to_ask_for_are_refused() -> None:
    empty = Squares(
        np.zeros((2, 64, 64, 3), np.uint8),
        np.zeros((2, 64, 64), np.uint8),
        np.zeros((2, 64, 64), np.int16),
    )
    with pytest.raises(ZsasError, match="no parts and no defects"):
        make_batch(np.random.default_rng(0), empty, 0, MICRO, 64, 2)


def test_a_turned_batch_is_the_batch_of_the_turned_crops(squares: Squares) -> None:
    batch = make_batch(np.random.default_rng(3), squares, 0, MICRO, 64, 3)
    again = turned(batch)
    lit = again.pixels.float() / batch.pixels.transpose(1, 2).clamp_min(1)
    plain = (batch.pixels.transpose(1, 2) > 20) & (again.pixels < 255)
    for picture, where in zip(lit, plain, strict=True):
        for channel in range(3):  # one gain for each channel, but for rounding
            assert picture[..., channel][where[..., channel]].std() < 0.02
    assert again.place == (batch.place[1], batch.place[0])
    left, top = again.place
    for row, box in enumerate(again.true_boxes.numpy()):
        x0, y0, x1, y1 = (box - np.tile((16 * left, 16 * top), 2)).astype(int)
        found = np.argwhere(again.cover[row].numpy() > 0) * 4
        assert y0 - 4 < found[:, 0].min() < y0 + 4
        assert x1 - 5 < found[:, 1].max() < x1 + 4
        assert x0 - 4 < found[:, 1].min() < x0 + 4
        assert y1 - 5 < found[:, 0].max() < y1 + 4
    assert torch.equal(again.points[0][..., 0], batch.points[0][..., 1])
    assert torch.equal(turned(again).segments, batch.segments)


def test_a_correcting_click_lies_where_the_mask_is_wrong() -> None:
    wanted = torch.zeros(2, 8, 8)
    wanted[0, 2:5, 3] = 1
    nothing, right = -torch.ones(8, 8), 2 * wanted[1] - 1
    for _ in range(5):
        xy, labels = corrected(None, torch.stack([nothing, right]), wanted, (1, 2))
        column, row = ((xy[0, 0] - torch.tensor([16.0, 32.0])) / 4 - 0.5).tolist()
        assert (column, labels[0].item(), labels[1].item()) == (3, 1, prompts.PAD)
        assert row in (2, 3, 4)
    _, labels = corrected((xy, labels), -nothing[None].expand(2, -1, -1), wanted, (0, 0))
    assert labels[:, 0].tolist() == [1, prompts.PAD]
    assert labels[:, 1].tolist() == [0, 0]


def test_boxes_of_masks_are_tight_and_in_the_frame() -> None:
    logits = -torch.ones(2, 16, 16)
    logits[0, 3:7, 2:12] = 1
    fallback = torch.tensor([[0.0] * 4, [1.0, 2.0, 3.0, 4.0]])
    boxes = mask_boxes(logits, fallback, (2, 1))
    assert boxes.tolist() == [[40.0, 28.0, 80.0, 44.0], [1.0, 2.0, 3.0, 4.0]]
