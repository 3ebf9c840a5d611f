"""The small weights of AnomalyVFM and VisualAD: they learn, go on, and what is written is what was learned."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny.training import loop, towers
from tiny.training.cache import CHUNK, DatasetCache, fill
from zsas.backbones.clip import ClipBackbone
from zsas.backbones.session import SamSession
from zsas.errors import ZsasError
from zsas.localizers.anomalyvfm import AnomalyVfm
from zsas.localizers.base import Context
from zsas.localizers.visualad import VisualAd
from zsas.models import ModelChoice, Models
from zsas.settings import Settings

pytestmark = pytest.mark.slow

LOCALIZERS: dict[str, Any] = {"anomalyvfm": AnomalyVfm, "visualad": VisualAd}
COUNTS = {"anomalyvfm": 254_242, "visualad": 297_216}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> DatasetCache:
    """A cache of one chunk of small synthetic images."""
    return fill(tmp_path_factory.mktemp("cache"), count=CHUNK, size=128, seed=7)


@pytest.fixture(scope="module")
def clip() -> ClipBackbone:
    """The bundled CLIP."""
    found: ClipBackbone = Models(ModelChoice("tiny", device="cpu")).clip
    return found


def losses_of(folder: Path) -> list[float]:
    with (folder / "curve.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("system", list(towers.SMALL))
def test_a_run_goes_on_and_writes_small_weights(
    cache: DatasetCache,
    clip: ClipBackbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
) -> None:
    monkeypatch.setattr(towers, "SIZES", ((96, 4, 1.0),))
    for steps in (20, 24):
        run = loop.Run(tmp_path, steps=steps, report_every=4)
        path = towers.train(run, system, [cache.folder], lr=3e-3)
    assert len(losses_of(tmp_path)) == 6
    assert path.stat().st_size < 700_000
    localizer = LOCALIZERS[system](clip, LOCALIZERS[system].read(path))
    assert sum(tensor.numel() for tensor in localizer.tensors()) == COUNTS[system]
    assert localizer.card.trained_on == "synthetic"
    assert "leather" not in localizer.card.trained_categories
    image = np.ascontiguousarray(cache.image[0])
    settings = Settings(system=system, resolution=128)
    context = Context(image, SamSession(None, None))  # type: ignore[arg-type]
    found = localizer.score(localizer.encode([image], settings)[0], settings, context)
    assert 0 <= found.map.min() < found.map.max() <= 1


@pytest.mark.parametrize("system", list(towers.SMALL))
def test_the_loss_of_a_batch_falls(clip: ClipBackbone, system: str) -> None:
    torch.manual_seed(0)
    learner = towers.SMALL[system](clip)
    optimizer = torch.optim.Adam(learner.module.parameters(), 3e-3)
    pixels, mask = torch.zeros(2, 3, 64, 64), torch.zeros(2, 64, 64)
    pixels[0, :, 16:40, 16:40] = 2.0
    mask[0, 16:40, 16:40] = 1.0
    losses = []
    for _ in range(12):
        found = learner.losses(pixels, ["", ""], mask).total
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        losses.append(float(found.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_exact_losses_by_hand() -> None:
    """Nothing marked, nothing there: no focal loss is left, and both scores are right."""
    sure = torch.full((1, 8, 8), -30.0)
    found = towers.exact_losses(sure, torch.tensor([-30.0]), torch.zeros(1, 16, 16))
    assert float(found.total) == pytest.approx(0.0, abs=1e-6)
    mask = torch.ones(1, 16, 16)
    wrong = towers.exact_losses(sure, torch.tensor([-30.0]), mask)
    assert float(wrong.terms["image"]) == pytest.approx(0.2 * 60, rel=1e-4)
    layers = towers.exact_losses(sure[:, None].expand(-1, 4, -1, -1), torch.tensor([-30.0]), mask)
    assert float(layers.total) == pytest.approx(float(wrong.total))


def test_other_systems_are_not_trained_here(tmp_path: Path) -> None:
    with pytest.raises(ZsasError, match="anomalyvfm or visualad"):
        towers.train(loop.Run(tmp_path, steps=1), "winclip", [])
