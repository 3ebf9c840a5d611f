"""The whole way of every file, from a Hub on loopback: fetch, cache, use offline."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

from tests.helpers import hub_repos
from tests.helpers.hub_cache import CLIP, SAM, cached, go_offline
from zsas import models
from zsas.errors import ZsasError
from zsas.models import hub
from zsas.segmenter import Segmenter
from zsas.settings import Settings

pytest.importorskip("open_clip")  # whose vocabulary the repositories need

SAM_FILES = hub.FILES["sam"]


@pytest.mark.slow
@pytest.mark.parametrize("xet", ["0", "1"])
def test_a_preset_is_fetched_once_and_runs_offline(base, monkeypatch, tmp_path, photo, xet, capsys):
    """With `hf_xet` in use and without: this Hub offers none, so both come over plain HTTP."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", xet == "1")
    models.fetch(models.PRESETS["base"])
    progress = capsys.readouterr().err
    assert f"{SAM}: model.safetensors" in progress
    assert f"{CLIP}: pytorch_model.bin" in progress
    assert re.search(r"\d+(\.\d+)?[kM]B/s", progress)
    assert "Fetching 2 files" not in progress
    assert models.is_here(models.PRESETS["base"])
    for name in ("tf_model.h5", "README.md"):
        assert not any(name in file for file in cached(tmp_path))
    asked = len(base.requests)
    go_offline(monkeypatch)
    segmenter = Segmenter.from_preset("base", device="cpu", precision="fp32")
    assert segmenter.clip.depth == 8
    assert segmenter.clip.activation == "quick_gelu"
    result = segmenter(photo, Settings(threshold=0.9, threshold_mode="quantile"))
    assert result.mask.shape == photo.shape[:2]
    assert len(base.requests) == asked


@pytest.mark.slow
def test_the_hubs_own_client_finds_what_was_fetched(base, monkeypatch, tmp_path):
    models.fetch(models.PRESETS["base"])
    folder = snapshot_download(SAM, allow_patterns=["config.json"], local_files_only=True)
    found = try_to_load_from_cache(SAM, "model.safetensors")
    assert isinstance(found, str)
    assert Path(found).parent == Path(folder)
    assert Path(found).read_bytes() == hub_repos.sam_repo()["model.safetensors"]
    assert os.path.islink(found)


def test_what_the_hubs_own_client_fetched_is_not_fetched_again(base, tmp_path):
    snapshot_download(SAM, allow_patterns=["config.json", "model.safetensors"])
    asked = len(base.requests)
    assert hub.folder_of(SAM, SAM_FILES, "base").is_dir()
    assert len(base.requests) == asked


@pytest.mark.slow
def test_safetensors_are_taken_before_pickles_and_pickles_where_there_is_nothing_else(base):
    models.fetch(models.PRESETS["base"])
    assert base.count("*/model.safetensors")
    assert not base.count(f"/{SAM}/*/pytorch_model.bin")
    assert base.count(f"/{CLIP}/*/pytorch_model.bin")


@pytest.mark.slow
def test_sharded_weights_are_fetched_with_all_their_parts(server, monkeypatch):
    server.add("me/sharded", hub_repos.clip_repo(safe=True, sharded=True))
    folder = hub.folder_of("me/sharded", hub.FILES["clip"], "base")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    go_offline(monkeypatch)
    found = models.Models(models.ModelChoice("base", clip="me/sharded", device="cpu"))
    assert found.clip.depth == 8
    next(folder.glob("model-*-of-*.safetensors")).unlink()
    with pytest.raises(ZsasError, match="not in the local cache"):
        hub.folder_of("me/sharded", hub.FILES["clip"], "base")


@pytest.mark.slow
def test_the_light_preset_is_fetched_and_runs_offline(server, monkeypatch, photo):
    """SAM 2.1's repository holds a video model, whose config says so."""
    server.add(CLIP, hub_repos.clip_repo())
    server.add("facebook/sam2.1-hiera-tiny", hub_repos.family_repo("sam2"))
    models.fetch(models.PRESETS["light"])
    go_offline(monkeypatch)
    assert models.is_here(models.PRESETS["light"])
    segmenter = Segmenter.from_preset("light", device="cpu", precision="fp32")
    result = segmenter(photo, Settings(threshold=0.9, threshold_mode="quantile"))
    assert result.mask.shape == photo.shape[:2]


@pytest.mark.slow
def test_a_gated_sam_is_fetched_by_who_has_accepted_its_terms(server, monkeypatch):
    server.add("facebook/sam3", hub_repos.family_repo("sam3_tracker"), gated=True)
    choice = models.ModelChoice("tiny", sam="facebook/sam3", device="cpu")
    with pytest.raises(ZsasError, match="accept its terms"):
        _ = models.Models(choice).sam
    monkeypatch.setenv("HF_TOKEN", server.token)
    assert type(models.Models(choice).sam.network).__name__ == "TransformersSam3"


@pytest.mark.slow
def test_a_repository_without_weights_for_us_is_one_sentence(server):
    server.add("me/other", {"config.json": b"{}", "flax_model.msgpack": b"x"})
    with pytest.raises(ZsasError, match=r"me/other holds none of model\.safetensors"):
        hub.folder_of("me/other", SAM_FILES, "base")
    server.add("me/mute", {**hub_repos.sam_repo()})
    with pytest.raises(ZsasError, match="holds no whole model"):
        hub.folder_of("me/mute", hub.FILES["clip"], "base")


def test_published_layers_are_fetched_once_and_kept(server, monkeypatch):
    path = "ByChelsea/VAND-APRIL-GAN/main/exps/pretrained/visa_pretrained.pth"
    server.raw[path] = hub_repos.april_gan_file()
    file = models.weights_file("april-gan:visa")
    assert file.read_bytes() == server.raw[path]
    go_offline(monkeypatch)
    assert models.weights_file("april-gan:visa") == file
    assert server.count("/raw/*") == 1
    with pytest.raises(ZsasError, match="environment says offline"):
        models.weights_file("april-gan:mvtec")
    with pytest.raises(ZsasError, match="choose april-gan:mvtec or april-gan:visa"):
        models.weights_file("april-gan:coco")


def test_of_anomalyclips_file_only_the_prompts_are_kept(server, monkeypatch, tmp_path):
    from safetensors import safe_open

    from zsas.localizers.anomalyclip import read_prompts

    path = "zqhang/AnomalyCLIP/main/checkpoints/9_12_4_multiscale/epoch_15.pth"
    server.raw[path] = hub_repos.anomalyclip_file()
    file = models.weights_file("anomalyclip:visa")
    assert list((tmp_path / "assets").rglob("*.pth")) == []
    assert file.stat().st_size < 180_000 < len(server.raw[path]) / 100
    with safe_open(file, "pt") as content:
        shapes = {name: tuple(content.get_tensor(name).shape) for name in content.keys()}  # noqa: SIM118
        card = content.metadata()
    assert shapes["ctx_pos"] == shapes["ctx_neg"] == (12, 768)
    assert {shapes[f"compound_prompts_text.{i}"] for i in range(8)} == {(4, 768)}
    assert sum(np.prod(shape) for shape in shapes.values()) == 43_008
    assert card["trained_on"] == "visa"
    assert card["source"] == f"https://raw.githubusercontent.com/{path}"
    go_offline(monkeypatch)
    assert models.weights_file("anomalyclip:visa") == file
    assert read_prompts(file).normal.shape == (12, 768)


@pytest.mark.slow
def test_a_clip_of_open_clip_is_fetched_and_converted(server, tmp_path):
    from zsas.models.convert import convert

    server.add("timm/clip.e31", hub_repos.open_clip_repo())
    file = hub.open_clip_file("timm/clip.e31")
    made = convert(file, tmp_path / "out")
    assert made.activation == "gelu"
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    with pytest.raises(ZsasError, match="timm/none cannot be fetched"):
        hub.open_clip_file("timm/none")
    assert hub.open_clip_file("some/file.pt") == Path("some/file.pt")


@pytest.mark.slow
def test_the_clip_that_a_system_brings_is_fetched_once_and_converted(server, monkeypatch, capsys):
    from zsas.models.backbones import BACKBONES, folder_of_backbone

    (name, wanted), *_ = BACKBONES.items()
    server.add(wanted.repo, hub_repos.open_clip_repo())
    folder = folder_of_backbone(name, "winclip")
    assert "brings its paper's CLIP" in capsys.readouterr().err
    go_offline(monkeypatch)
    assert folder_of_backbone(name, "winclip") == folder
    assert (folder / "model.safetensors").is_file()


@pytest.fixture
def data_sets(server, monkeypatch):
    from zsas.datasets import hub as datasets_hub

    datasets_hub._hub_is_silent.cache_clear()
    server.add("Voxel51/mvtec-ad", hub_repos.mvtec_repo(), "dataset")
    server.add("BrachioLab/visa", hub_repos.visa_repo(), "dataset")
    yield server
    datasets_hub._hub_is_silent.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mvtec", "visa"])
def test_a_data_set_is_fetched_and_read_offline(data_sets, monkeypatch, name):
    from zsas.datasets.load import load_dataset

    categories = {"mvtec": ["hazelnut", "leather"], "visa": ["cashew"]}[name]
    for sample in load_dataset(name, categories=categories):
        mask = sample.load_mask(sample.load_image().shape[:2])
        assert mask.any() == bool(sample.anomalous)
    go_offline(monkeypatch)
    asked = len(data_sets.requests)
    assert sum(bool(sample.anomalous) for sample in load_dataset(name, categories=categories))
    assert len(data_sets.requests) == asked


@pytest.mark.slow
def test_the_examples_of_the_page_join_from_the_hub(data_sets, monkeypatch, tmp_path):
    from zsas.ui.examples import Examples

    listing = (Path(__file__).parents[2] / "examples" / "hub.toml").read_text(encoding="utf-8")
    commit = data_sets.repos["dataset", "Voxel51/mvtec-ad"].commit
    (tmp_path / "hub.toml").write_text(re.sub(r'"[0-9a-f]{40}"', f'"{commit}"', listing))
    examples = Examples(tmp_path)
    examples.fetch_in_background()
    assert examples._fetching is not None
    examples._fetching.join(60)
    assert len(examples) == 4
    go_offline(monkeypatch)
    again = Examples(tmp_path)
    again.fetch_in_background()
    assert again._fetching is not None
    again._fetching.join(60)
    hazelnut = again.get("mvtec-hazelnut")
    assert hazelnut is not None
    assert hazelnut.truth() is not None


CLIP_MEAN, HALF = [0.48145466, 0.4578275, 0.40821073], [0.5, 0.5, 0.5]

MAKERS: dict[str, tuple[dict[str, Any], list[float], str]] = {
    "OpenAI": ({}, CLIP_MEAN, "quick_gelu"),
    "MetaCLIP, whose config names no activation": ({"hidden_act": None}, CLIP_MEAN, "quick_gelu"),
    "DFN": ({"hidden_act": "quick_gelu"}, CLIP_MEAN, "quick_gelu"),
    "LAION and DataComp": ({"hidden_act": "gelu"}, CLIP_MEAN, "gelu"),
    "LAION's ViT-L/14": (
        {"hidden_act": "gelu"},
        HALF,
        r"pixels with the mean \[0\.5, 0\.5, 0\.5\]",
    ),
    "MetaCLIP 2": ({"model_type": "metaclip_2"}, CLIP_MEAN, "metaclip_2"),
    "SigLIP": ({"model_type": "siglip"}, HALF, "mean"),
}
"""What a config says by its maker, the mean of its pixels; the activation it runs with, or what the refusal says."""


@pytest.mark.slow
@pytest.mark.parametrize("maker", MAKERS)
def test_clips_of_other_makers_run_with_their_activation_or_are_refused(server, maker):
    said, mean, outcome = MAKERS[maker]
    files = dict(hub_repos.clip_repo(safe=True, activation=said.get("hidden_act") or "quick_gelu"))
    config = json.loads(files["config.json"])
    config["model_type"] = said.get("model_type", "clip")
    if "hidden_act" in said and said["hidden_act"] is None:
        del config["vision_config"]["hidden_act"], config["text_config"]["hidden_act"]
    files["config.json"] = json.dumps(config).encode()
    files["preprocessor_config.json"] = json.dumps({"image_mean": mean}).encode()
    server.add("maker/clip", files)
    found = models.Models(models.ModelChoice("base", clip="maker/clip", device="cpu"))
    if outcome in ("gelu", "quick_gelu"):
        assert found.clip.activation == outcome
        return
    with pytest.raises(ZsasError, match=outcome):
        _ = found.clip
