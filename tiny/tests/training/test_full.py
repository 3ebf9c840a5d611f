"""The chain of all trainings, in miniature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.datasets import write_folder
from tiny.tests.training.test_clip_training import MICRO as CLIP
from tiny.tests.training.test_sam_training import MICRO as SAM
from tiny.training.full import Images, Phase, train_full
from tiny.training.loop import Run
from zsas import Segmenter
from zsas.images import load_image

pytestmark = pytest.mark.slow


def test_both_models_are_trained_from_nothing_and_run(tmp_path: Path) -> None:
    few = (Images(64, 128, 1),)
    phases = (
        Phase("sam", "pretrain", 0.5, few),
        Phase("clip", "pretrain", 0.25, few),
        Phase("clip", "finetune", 0.25, few, keep=0.25),
    )
    run = Run(tmp_path / "run", steps=2, report_every=1)
    recipes = {"pretrain": replace(CLIP, width=32), "finetune": replace(CLIP, width=32)}
    folder = train_full(
        run, tmp_path / "model", phases=phases, clip_recipes=recipes, sam_recipes={"pretrain": SAM}
    )
    segmenter = Segmenter.from_preset(
        "tiny",
        clip=str(folder / "clip"),
        sam=str(folder / "sam"),
        adapter=str(folder / "clip/adapter.safetensors"),
    )
    image = write_folder(tmp_path / "parts", per_kind=1) / "tile/test/good/000.png"
    assert segmenter(load_image(image)).mask.shape == load_image(image).shape[:2]
