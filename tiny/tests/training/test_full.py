"""The chain of all trainings, in miniature: from photographs to a model that runs."""

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
from tiny.training.full import PHASES, Chain, Images, Phase, train_full
from tiny.training.loop import Run
from zsas import Segmenter
from zsas.errors import ZsasError
from zsas.images import load_image

FEW = (Images(64, 128, 1),)
REAL = (Images(64, 128, 2, on_photographs=1.0),)
CHAIN = Chain(
    (
        Phase("sam", "pretrain", 2, 4, FEW),
        Phase("clip", "pretrain", 2, 2, FEW),
        Phase("clip", "finetune", 2, 2, FEW, keep=0.25),
        Phase("clip", "broad", 2, 1, REAL, keep=0.25, from_export=True),
        Phase("sam", "broad", 2, 1, REAL, from_export=True),
    ),
    dict.fromkeys(("pretrain", "finetune", "broad"), replace(CLIP, width=32)),
    dict.fromkeys(("pretrain", "broad"), SAM),
)


def fetched(folder: Path) -> list[Any]:
    """Stands for the fetching of packages: one surface, with its manifest."""
    (folder / "training").mkdir(parents=True)
    grain = np.random.default_rng(0).integers(0, 40, (300, 200, 1), np.uint8)
    cv2.imwrite(str(folder / "training/wall.png"), np.uint8((0, 0, 200)) + grain)
    listed = [{"file": "training/wall.png", "use": "training"}]
    (folder / "manifest.json").write_text(json.dumps(listed))
    return listed


def watched(train: Callable[..., Path], begun: list[tuple[str, Path | None]], stop: int) -> Any:
    """A training that also writes down what it starts from; the one of number `stop` is interrupted."""

    def run_it(run: Run, **options: Any) -> Path:
        begun.append((run.out.name, options["start"]))
        if len(begun) == stop:
            raise KeyboardInterrupt
        return train(run, **options)

    return run_it


@pytest.mark.slow
def test_both_models_are_trained_from_nothing_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, Path | None]] = []
    monkeypatch.setattr(full, "fetch", fetched)
    monkeypatch.setattr(clip, "train", watched(clip.train, begun, stop=4))
    monkeypatch.setattr(sam, "train", watched(sam.train, begun, stop=0))
    run = Run(tmp_path / "run", report_every=1)
    with pytest.raises(KeyboardInterrupt):
        train_full(run, tmp_path / "model", chain=CHAIN)
    assert not (tmp_path / "model").exists()
    folder = train_full(run, tmp_path / "model", chain=CHAIN)
    assert begun == [
        ("1-sam-pretrain", None),
        ("2-clip-pretrain", None),
        ("3-clip-finetune", run.out / "2-clip-pretrain/checkpoint.pt"),
        ("4-clip-broad", run.out / "3-clip-finetune/clip"),
        ("4-clip-broad", run.out / "3-clip-finetune/clip"),
        ("5-sam-broad", run.out / "1-sam-pretrain/sam"),
    ]
    assert {one.family for one in DatasetCache(run.out / "images-128-2").records} == {FAMILY}
    assert FAMILY not in {one.family for one in DatasetCache(run.out / "images-128-1").records}
    segmenter = Segmenter.from_preset(
        "tiny",
        clip=str(folder / "clip"),
        sam=str(folder / "sam"),
        adapter=str(folder / "clip/adapter.safetensors"),
    )
    image = write_folder(tmp_path / "parts", per_kind=1) / "tile/test/good/000.png"
    assert segmenter(load_image(image)).mask.shape == load_image(image).shape[:2]


def test_photographs_that_cannot_be_fetched_are_missed_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(folder: Path) -> None:
        raise ZsasError("No network.")

    monkeypatch.setattr(full, "fetch", offline)
    with pytest.raises(ZsasError, match="No network"):
        train_full(Run(tmp_path / "run"), tmp_path / "model", chain=CHAIN)
    assert list((tmp_path / "run").glob("*")) == []


def test_a_fresh_run_forgets_what_every_phase_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, Path | None]] = []
    monkeypatch.setattr(full, "fetch", fetched)
    monkeypatch.setattr(cache, "fill", lambda folder, **options: None)
    monkeypatch.setattr(cache, "DatasetCache", lambda folder: folder)
    monkeypatch.setattr(sam, "train", watched(sam.train, begun, stop=1))
    for name in ("1-sam-pretrain", "5-sam-broad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "done").touch()
    with pytest.raises(KeyboardInterrupt):
        train_full(Run(tmp_path, resume=False), tmp_path / "model", chain=CHAIN)
    assert list(tmp_path.glob("*/done")) == []


def test_every_phase_has_a_recipe_and_starts_from_one_of_its_model() -> None:
    first: set[str] = set()
    for phase in PHASES:
        assert phase.recipe in (sam.RECIPES if phase.model == "sam" else clip.RECIPES)
        assert phase.from_export <= (phase.model in first)
        first.add(phase.model)
    assert [phase.recipe for phase in PHASES[-2:]] == ["broad", "broad"]
    assert all(images.on_photographs for phase in PHASES[-2:] for images in phase.images)
