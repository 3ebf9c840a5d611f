"""The CLIP that a system brings under the preset `paper`: said, fetched, converted, kept; from a Hub on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.hub_cache import go_offline
from tests.helpers.hub_server import HubServer
from tests.helpers.models import small_segmenter
from zsas import catalogue
from zsas.errors import ZsasError
from zsas.localizers.linear import Linear
from zsas.localizers.sdp import Sdp
from zsas.localizers.winclip import WinClip
from zsas.models import ModelChoice, Models, backbones
from zsas.segmenter import Segmenter
from zsas.settings import Settings

NAME = "ViT-B-16-plus-240"
REPO = backbones.BACKBONES[NAME].repo


@pytest.fixture
def hub(server: HubServer) -> HubServer:
    pytest.importorskip("open_clip")
    from tests.helpers import hub_repos

    server.add(REPO, hub_repos.open_clip_repo())
    return server


def paper(**choice: object) -> Models:
    return Models(ModelChoice("paper", device="cpu", precision="fp32", **choice))  # type: ignore[arg-type]


@pytest.mark.slow
def test_it_is_said_fetched_once_and_shared_by_the_systems_that_want_it(hub, monkeypatch, capsys):
    assert not backbones.is_here(NAME)
    models = paper()
    clip = models.clip_for(WinClip)
    said = capsys.readouterr().err
    assert f"winclip brings its paper's CLIP, {NAME} (834 MB from {REPO}, licence MIT)" in said
    assert (clip.name, clip.activation, clip.width, clip.native_size) == (NAME, "gelu", 128, 80)
    assert models.clip_for(Sdp) is clip
    asked = len(hub.requests)
    go_offline(monkeypatch)
    again = paper().clip_for(Sdp)
    for one, other in zip(again.model.parameters(), clip.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert capsys.readouterr().err == ""
    assert len(hub.requests) == asked
    (entry,) = (one for one in catalogue.entries() if one.name == "winclip")
    assert entry.presets["paper"] == catalogue.RUNS


@pytest.mark.slow
def test_a_system_without_a_refiner_needs_nothing_else(hub, photo):
    """Neither ViT-L/14 nor SAM is on that Hub."""
    choice = ModelChoice("paper", device="cpu", precision="fp32")
    settings = Settings(system="winclip")
    segmenter = Segmenter.from_choice(choice, settings=settings)
    result = segmenter(photo, settings)
    assert result.anomaly_map.shape == photo.shape[:2]
    assert result.models["winclip"]["backbone"] == NAME


@pytest.mark.slow
def test_the_shell_asks_for_nothing_else_either(hub, tmp_path):
    from typer.testing import CliRunner

    from zsas.cli import app

    words = f"segment examples/tile-good.jpg --system winclip --preset paper --device cpu --out {tmp_path / 'out'}"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.output


def test_another_clip_takes_its_place_and_other_presets_keep_theirs():
    assert paper().brings(NAME)
    assert not paper(clip="my/clip").brings(NAME)
    assert not Models(ModelChoice("tiny")).brings(NAME)
    assert not paper().brings(Linear.backbone)
    segmenter = small_segmenter()
    assert segmenter.models.clip_for(WinClip) is segmenter.clip


def test_what_cannot_be_had_is_one_sentence_with_a_way_out(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    go_offline(monkeypatch)
    with pytest.raises(ZsasError, match=r"winclip uses ViT-B-16-plus-240 .*zsas models convert"):
        paper().clip_for(WinClip)


def test_a_repository_without_the_file_is_said(hub):
    hub.add(REPO, {"open_clip_config.json": json.dumps({}).encode()})
    with pytest.raises(ZsasError, match=r"holds no open_clip_model\.safetensors"):
        paper().clip_for(WinClip)


@pytest.mark.slow
def test_an_interrupted_conversion_leaves_nothing_behind(hub, monkeypatch):
    def broken(file: Path, out: Path) -> None:
        (out / "config.json").write_text("{}")
        raise ZsasError("broken")

    with monkeypatch.context() as patched:
        patched.setattr("zsas.models.convert.convert", broken)
        with pytest.raises(ZsasError, match="broken"):
            paper().clip_for(WinClip)
    assert not backbones.is_here(NAME)
    assert paper().clip_for(WinClip).name == NAME


@pytest.mark.slow
def test_windows_run_on_the_brought_clip(hub):
    found = WinClip(paper().clip_for(WinClip))
    image = np.zeros((50, 70, 3), np.uint8)
    features = found.encode([image], Settings(system="winclip"))[0]
    assert features.windows[2].shape == (16, 32)
