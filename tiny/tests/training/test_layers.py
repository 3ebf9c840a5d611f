"""The linear layers alone: they learn on a tower that stays, go on, and are written with their card."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tiny.training import layers, loop
from tiny.training.cache import CHUNK, DatasetCache, fill
from zsas.errors import ZsasError
from zsas.localizers.adapter import read_adapter
from zsas.models import ModelChoice, Models

BUNDLED = Path(__file__).parents[3] / "zsas/weights/tiny/clip"
SMALL = layers.LayersRecipe(sizes=((96, 24, 8), (64, 16, 8)), lr=3e-3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> DatasetCache:
    """A cache of one chunk of small synthetic images."""
    return fill(tmp_path_factory.mktemp("cache"), count=CHUNK, size=128, seed=7)


def losses_of(folder: Path) -> list[float]:
    with (folder / "curve.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_fit_goes_on_lowers_the_loss_and_keeps_a_part(
    cache: DatasetCache, tmp_path: Path
) -> None:
    recipe = replace(SMALL, sizes=((96, 24, 24),))
    for steps in (30, 60):
        run = loop.Run(tmp_path, steps=steps, report_every=2)
        path = layers.train(run, BUNDLED, [cache.folder], recipe)
    found = losses_of(tmp_path)
    assert len(found) == 30
    assert np.mean(found[-4:]) < 0.9 * np.mean(found[:4])
    new, old = read_adapter(path), read_adapter(BUNDLED / "adapter.safetensors")
    assert (new.card.blocks, new.card.views) == (old.card.blocks, old.card.views)
    kept = layers.train(run, BUNDLED, [cache.folder], recipe, keep=0.75)
    for mixed, fresh, before in zip(
        read_adapter(kept).weights, new.weights, old.weights, strict=True
    ):
        torch.testing.assert_close(mixed, 0.25 * fresh + 0.75 * before)


@pytest.mark.slow
def test_other_blocks_begin_as_the_nearest(cache: DatasetCache, tmp_path: Path) -> None:
    run = loop.Run(tmp_path, steps=1)
    path = layers.train(run, BUNDLED, [cache.folder], replace(SMALL, blocks=(4, 6)))
    old = read_adapter(BUNDLED / "adapter.safetensors")
    for weight, before in zip(read_adapter(path).weights, old.weights[:2], strict=True):
        assert (weight - before).abs().max() < 0.02


@pytest.mark.slow
def test_directions_are_those_of_the_method() -> None:
    model, tokenizer = layers.load_model(BUNDLED)
    found = layers.directions(model, tokenizer, ["hazelnut"])
    clip = Models(ModelChoice("tiny", device="cpu")).clip
    for noun in ("object", "hazelnut"):
        states = clip.state_vectors(noun)
        torch.testing.assert_close(found[noun], states[1] - states[0], atol=2e-3, rtol=0)


def test_the_loss_is_on_the_mean_of_the_probabilities() -> None:
    """One layer that is sure and right and one that is sure and wrong everywhere: the mean is one half."""
    one = nn.Linear(2, 2)
    other = nn.Linear(2, 2)
    for layer, sign in ((one, 1.0), (other, -1.0)):
        layer.load_state_dict({"weight": torch.zeros(2, 2), "bias": torch.tensor([sign, 0.0])})
    tokens, mask = torch.ones(1, 2, 4, 2), torch.zeros(1, 4, 4)
    direction, damaged = torch.tensor([[2.0, 0.0]]), torch.zeros(1)
    found = layers.fit_losses(
        nn.ModuleList([one, other]), tokens, mask, direction, damaged, layers.LayersRecipe()
    )
    assert float(found["highest"].detach()) == pytest.approx(np.log(2), abs=1e-3)
    assert float(found["focal"].detach()) == pytest.approx(0.25 * np.log(2), abs=1e-3)


def test_nothing_is_left_where_all_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ZsasError, match="less than 1"):
        layers.train(loop.Run(tmp_path, steps=1), BUNDLED, [], keep=1.0)
