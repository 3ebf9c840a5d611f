"""All trainings at once, in miniature: from photographs to a model that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.datasets import write_folder
from tiny.synthetic.real_surfaces import FAMILY
from tiny.tests.training.test_clip_training import MICRO as CLIP
from tiny.tests.training.test_sam_training import MICRO as SAM
from tiny.training import cache, clip, full, sam
from tiny.training.cache import DatasetCache
from tiny.training.full import CPU_SHARE, PLAN, Images, Part, Plan, train_full
from tiny.training.loop import Run
from zsas import Segmenter, Settings
from zsas.errors import ZsasError
from zsas.images import load_image
from zsas.systems import SYSTEMS

SMALL = Plan(
    images=Images(64, 128, 1, on_photographs=0.5, of_objects=0.5),
    sam=Part(1, 2),
    sam_recipe=replace(SAM, stages=((1.0, 64, 2 * CPU_SHARE),)),
    clip=Part(1, 2),
    clip_recipe=replace(CLIP, width=32, stages=((0.0, 64, 2 * CPU_SHARE, 0.5, 1.0),)),
    anomalyvfm=Part(2, 1),
)


def fetched(folder: Path) -> list[Any]:
    """Stands for the fetching of packages: one surface, with its manifest."""
    (folder / "training").mkdir(parents=True)
    grain = np.random.default_rng(0).integers(0, 40, (300, 200, 1), np.uint8)
    cv2.imwrite(str(folder / "training/wall.png"), np.uint8((0, 0, 200)) + grain)
    listed = [{"file": "training/wall.png", "use": "training"}]
    (folder / "manifest.json").write_text(json.dumps(listed))
    return listed


def watched(train: Callable[..., Path], begun: list[str], stop: bool) -> Any:
    """A training that also writes down that it began; interrupted the first time if it is to stop."""

    def run_it(run: Run, **options: Any) -> Path:
        begun.append(run.out.name)
        if stop and begun.count(run.out.name) == 1:
            raise KeyboardInterrupt
        return train(run, **options)

    return run_it


@pytest.mark.slow
def test_both_models_are_trained_from_nothing_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(full, "fetch", fetched)
    monkeypatch.setattr(sam, "train", watched(sam.train, begun, stop=False))
    monkeypatch.setattr(clip, "train", watched(clip.train, begun, stop=True))
    run = Run(tmp_path / "run", report_every=1)
    with pytest.raises(KeyboardInterrupt):
        train_full(run, tmp_path / "model", plan=SMALL)
    assert not (tmp_path / "model").exists()
    folder = train_full(run, tmp_path / "model", plan=SMALL)
    assert begun == ["sam", "clip", "sam", "clip"]
    rows = (run.out / "sam/curve.csv").read_text().splitlines()
    assert len(rows) == 1 + CPU_SHARE  # its steps once, although it was called twice
    families = {one.family for one in DatasetCache(run.out / "images-128-1").records}
    assert FAMILY in families
    assert len(families) > 2
    segmenter = Segmenter.from_preset(
        "tiny",
        clip=str(folder / "clip"),
        sam=str(folder / "sam"),
        adapter=str(folder / "clip/adapter.safetensors"),
        weights={"anomalyvfm": str(folder / "anomalyvfm.safetensors")},
    )
    image = load_image(write_folder(tmp_path / "parts", per_kind=1) / "tile/test/good/000.png")
    for system in ("auto", "anomalyvfm"):
        assert system in SYSTEMS
        assert segmenter(image, Settings(system=system)).mask.shape == image.shape[:2]


def test_photographs_that_cannot_be_fetched_are_missed_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(folder: Path) -> None:
        raise ZsasError("No network.")

    monkeypatch.setattr(full, "fetch", offline)
    with pytest.raises(ZsasError, match="No network"):
        train_full(Run(tmp_path / "run"), tmp_path / "model", plan=SMALL)
    assert list((tmp_path / "run").glob("*")) == []


def test_a_fresh_run_forgets_what_every_training_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "fetch", fetched)
    monkeypatch.setattr(cache, "fill", lambda folder, **options: None)
    monkeypatch.setattr(cache, "DatasetCache", lambda folder: folder)
    monkeypatch.setattr(sam, "train", watched(sam.train, [], stop=True))
    for name in ("sam", "clip", "anomalyvfm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "last.pt").touch()
    with pytest.raises(KeyboardInterrupt):
        train_full(Run(tmp_path, resume=False), tmp_path / "model", plan=SMALL)
    assert list(tmp_path.glob("*/last.pt")) == []


def test_a_cpu_learns_from_an_eighth_of_a_batch_as_often_as_there_are_more(tmp_path: Path) -> None:
    for device, times, visits in (("cuda", 1, PLAN.clip_recipe.visits), ("cpu", 8, 1)):
        run = Run(tmp_path, minutes=22.0, device=device)
        recipe = full._recipe(run, PLAN.clip_recipe)
        part = full._run(run, "clip", PLAN.clip, (PLAN.sam, PLAN.clip, PLAN.anomalyvfm))
        assert part.steps == times * PLAN.clip.steps
        assert part.minutes == pytest.approx(22.0 * 32.7 / 60.0)
        assert recipe.visits == visits
        pairs = zip(recipe.stages, PLAN.clip_recipe.stages, strict=True)
        assert all(own[2] * times == whole[2] for own, whole in pairs)
