from __future__ import annotations

import json
import logging
import pickle
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, SamModel

from tests.helpers.meta_sam import meta_model, metas_names
from tests.helpers.models import CPU, small_clip, small_sam
from zsas import models
from zsas.backbones.sam_meta import MetaSam
from zsas.errors import ZsasError
from zsas.models import load as loading
from zsas.models import loaders
from zsas.segmenter import Segmenter
from zsas.settings import Settings


def test_an_unknown_preset_or_folder_is_one_sentence(tmp_path):
    with pytest.raises(ZsasError, match="choose tiny, light, base or paper"):
        Segmenter.from_preset("huge")
    with pytest.raises(ZsasError, match="There is no folder"):
        Segmenter.from_preset("tiny", sam=str(tmp_path / "none"))


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    """transformers makes a tokenizer of two words where files are missing; that must not pass."""
    small_clip().save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ZsasError, match="trained with 64"):
        loaders.load_clip(str(tmp_path), name="x", wanted_for="tiny", device=CPU, precision="fp32")


def test_a_local_folder_may_stand_in_for_sam(tmp_path):
    small_sam().save_pretrained(tmp_path / "sam")
    sam = loaders.load_sam(str(tmp_path / "sam"), wanted_for="tiny", device=CPU, precision="fp32")
    assert sam.network.input.side == 256


@pytest.mark.slow
def test_padding_is_dropped_where_that_is_chosen_and_the_result_says_so(tmp_path, photo):
    wide = np.ascontiguousarray(photo[: photo.shape[0] // 3])
    exact, dropped = (
        Segmenter.from_preset("tiny", precision="fp32", drop_padding=drop) for drop in (False, True)
    )
    settings = Settings(tiles="off")
    assert dropped(wide, settings).models["drop_padding"] is True
    assert "drop_padding" not in exact(wide, settings).models
    one, other = (s.encode(wide, settings) for s in (exact, dropped))
    assert not torch.equal(one.sam.embedding, other.sam.embedding)
    with pytest.raises(ZsasError, match="other models"):
        exact.segment(other, settings)
    checkpoint = tmp_path / "sam_vit_h_4b8939.pth"
    checkpoint.touch()
    with pytest.raises(ZsasError, match="leave out --drop-padding"):
        Segmenter.from_preset("tiny", sam=str(checkpoint), drop_padding=True)(wide)


@pytest.mark.slow
def test_one_of_metas_checkpoints_runs_through_the_whole_path(monkeypatch, tmp_path, photo):
    """A small network in the place of Meta's, which have one size at least of 94 M weights."""
    torch.manual_seed(0)
    ours = small_sam()
    checkpoint = tmp_path / "sam_vit_h_4b8939.pth"
    checkpoint.touch()
    read = []

    def load(path):
        read.append(path)
        model = meta_model(ours.config)
        model.load_state_dict(metas_names(ours))
        return model

    monkeypatch.setattr("zsas.backbones.sam_meta.load_meta_checkpoint", load)
    monkeypatch.setattr("zsas.models.hub.unreachable", lambda _: pytest.fail("the Hub was asked"))
    segmenter = Segmenter.from_preset("tiny", sam=str(checkpoint), precision="fp32")
    assert isinstance(segmenter.sam.network, MetaSam)
    assert read == [checkpoint]
    assert segmenter.preset == f"tiny + {checkpoint}"
    ours.save_pretrained(tmp_path / "ours")
    same = Segmenter.from_preset("tiny", sam=str(tmp_path / "ours"), precision="fp32")
    settings = Settings(threshold=0.9, threshold_mode="quantile")
    mine, theirs = same(photo, settings), segmenter(photo, settings)
    assert theirs.stage("m3") is not None
    assert (mine.mask != theirs.mask).mean() < 0.01


def test_a_pickled_model_is_read_without_running_code(tmp_path):
    model = small_clip()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    loaded = loaders.from_folder(CLIPModel, tmp_path)
    torch.testing.assert_close(loaded.logit_scale, model.logit_scale)

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"logit_scale": Harm()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ZsasError, match="cannot be loaded"):
        loaders.from_folder(CLIPModel, tmp_path)
    assert not (tmp_path / "harm").exists()


def test_a_truncated_model_file_is_one_sentence(tmp_path):
    small_sam().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ZsasError, match="cannot be loaded"):
        loaders.from_folder(SamModel, tmp_path)


def rewritten(folder, change):
    """The same folder with other tensors in it."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {f"module.{key}": value for key, value in tensors.items()},
        lambda tensors: {k: v for k, v in tensors.items() if k != "visual_projection.weight"},
        lambda tensors: {**tensors, "visual_projection.weight": torch.zeros(5, 5)},
    ],
)
def test_a_clip_with_missing_or_other_weights_is_refused(tmp_path, change, capfd):
    """transformers fills them with random numbers, and a verdict comes out."""
    small_clip().save_pretrained(tmp_path)
    capfd.readouterr()
    with pytest.raises(ZsasError, match="not those of a whole CLIPModel") as caught:
        loaders.from_folder(CLIPModel, rewritten(tmp_path, change))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_sam_may_lack_only_what_is_derived(tmp_path):
    small_sam().save_pretrained(tmp_path)
    shared = "shared_image_embedding.positional_embedding"
    tied = "prompt_encoder.shared_embedding.positional_embedding"
    rewritten(tmp_path, lambda t: {tied if k == shared else k: v for k, v in t.items()})
    model = loaders.from_folder(SamModel, tmp_path)
    torch.testing.assert_close(
        model.shared_image_embedding.positional_embedding,
        small_sam().shared_image_embedding.positional_embedding,
    )
    rewritten(tmp_path, lambda t: {k: v for k, v in t.items() if k not in (shared, tied)})
    with pytest.raises(ZsasError, match="not those of a whole SamModel"):
        loaders.from_folder(SamModel, tmp_path)


@pytest.mark.parametrize("kind", ["sam2", "clip_vision_model", "siglip"])
def test_a_model_of_another_type_is_refused(tmp_path, kind):
    small_sam().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": kind}))
    with pytest.raises(ZsasError, match=f"of the type '{kind}', but one of the type 'sam'"):
        loaders.from_folder(SamModel, tmp_path)
    with pytest.raises(ZsasError, match="but one of the type 'clip'"):
        loaders.from_folder(CLIPModel, tmp_path)


def test_loading_a_model_leaves_the_bars_of_downloads_on():
    assert not are_progress_bars_disabled()
    Segmenter.from_preset("tiny")
    assert not are_progress_bars_disabled()


def test_the_models_attend_by_sdpa():
    segmenter = Segmenter.from_preset("tiny")
    clip, sam = segmenter.clip.model, segmenter.sam.network.model
    for config in (clip.vision_model.config, sam.vision_encoder.config):
        assert config._attn_implementation == "sdpa"


@pytest.mark.slow
def test_an_exported_folder_works_wherever_it_lies(tmp_path, caplog):
    folder = shutil.copytree(models.WEIGHTS / "tiny" / "clip", tmp_path / "moved")
    segmenter = Segmenter.from_preset("tiny", clip=str(folder))
    assert segmenter.localizer(Settings()).name == "linear"
    (folder / "adapter.safetensors").unlink()
    segmenter = Segmenter.from_preset("tiny", clip=str(folder))
    assert segmenter.localizer(Settings()).name == "vv"
    with caplog.at_level(logging.WARNING, "zsas"):
        given = models.PRESETS["tiny"].weights["linear"]
        segmenter = Segmenter.from_preset("tiny", clip=str(folder), adapter=given)
    assert segmenter.localizer(Settings()).name == "linear"
    assert "made for zsas/tiny" in caplog.text
    assert str(folder) in caplog.text


def test_a_home_folder_is_found_with_its_adapter(monkeypatch, tmp_path):
    folder = shutil.copytree(models.WEIGHTS / "tiny" / "clip", tmp_path / "myclip")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert loading.weights_beside("~/myclip") == folder / "adapter.safetensors"
    (tmp_path / "sam.pth").write_bytes(b"no checkpoint")
    with pytest.raises(ZsasError) as caught:
        loaders.load_sam("~/sam.pth", wanted_for="tiny", device=CPU, precision="fp32")
    assert "There is no SAM checkpoint" not in str(caught.value)


def test_both_models_are_at_hand_before_either_is_loaded(monkeypatch):
    done = []
    monkeypatch.setattr("zsas.models.hub.fetch", lambda *_, **__: done.append("fetched"))

    def load(*_, **__):
        done.append("loaded")
        raise ZsasError("enough")

    monkeypatch.setattr("zsas.models.load.load_sam", load)
    monkeypatch.setattr("zsas.models.load.load_clip", load)
    with pytest.raises(ZsasError, match="enough"):
        Segmenter.from_preset("tiny")
    assert "loaded" not in done[:-1]
    assert done[-2:] == ["fetched", "loaded"]


def test_an_adapter_that_is_not_there_is_said_before_anything_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr("zsas.models.hub.fetch", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(ZsasError, match=r"There is no file .* with weights for linear"):
        Segmenter.from_preset("paper", adapter=tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("wrong", "words"), [({"device": "cuda:99"}, "cuda:99"), ({"precision": "fp8"}, "fp8")]
)
def test_what_is_wrong_is_said_before_anything_is_fetched(monkeypatch, wrong, words):
    monkeypatch.setattr("zsas.models.hub.fetch", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(ZsasError, match=words):
        Segmenter.from_preset("paper", **wrong)


@pytest.mark.parametrize("part", ["clip", "sam", "adapter"])
def test_a_users_folder_that_is_none_is_one_sentence(part):
    name = "~nobody-of-this-name/model" + (".pth" if part == "sam" else "")
    with pytest.raises(ZsasError):
        Segmenter.from_preset("tiny", **{part: name})


@pytest.mark.parametrize(
    ("precision", "wanted"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_precision_reaches_both_encoders(precision, wanted):
    segmenter = Segmenter.from_preset("tiny", precision=precision)
    assert (segmenter.clip.dtype, segmenter.sam.network.dtype) == (wanted, wanted)


def test_parts_may_be_named_by_paths(tmp_path):
    sam, clip = (models.WEIGHTS / "tiny" / part for part in ("sam", "clip"))
    segmenter = Segmenter.from_preset(
        "tiny", sam=sam, clip=clip, adapter=clip / "adapter.safetensors"
    )
    assert segmenter.preset == f"{clip} + {sam}"
    with pytest.raises(ZsasError, match="There is no SAM checkpoint"):
        loaders.load_sam(str(tmp_path / "SAM.PTH"), wanted_for="tiny", device=CPU, precision="fp32")


def test_a_choice_is_plain_values():
    choice = models.ModelChoice("base", clip="me/clip", weights={"linear": "april-gan:visa"})
    assert pickle.loads(pickle.dumps(choice)) == choice
    assert choice.name == "me/clip + base"
    assert choice.to_dict() == {
        "preset": "base",
        "clip": "me/clip",
        "weights": {"linear": "april-gan:visa"},
        "precision": "auto",
    }
    assert models.ModelChoice("tiny").name == "tiny"


def test_weights_are_named_by_their_localizer():
    both = models.parse_weights(["anomalyclip=a=b.safetensors"], "april-gan:visa")
    assert both == {"anomalyclip": "a=b.safetensors", "linear": "april-gan:visa"}
    for wrong in ("linear", "=file", "linear="):
        with pytest.raises(ZsasError, match="LOCALIZER=FILE"):
            models.parse_weights([wrong])
    with pytest.raises(ZsasError, match="two files"):
        models.parse_weights(["linear=a"], "b")


def test_weights_for_an_unknown_localizer_are_refused():
    with pytest.raises(ZsasError, match="no localizer 'nobody'"):
        Segmenter.from_choice(models.ModelChoice("tiny", weights={"nobody": "x.safetensors"}))


def test_a_model_is_loaded_when_it_is_first_asked_for(monkeypatch):
    loaded = []
    monkeypatch.setattr(loading, "load_clip", lambda *_, **__: loaded.append("clip") or "CLIP")
    monkeypatch.setattr(loading, "load_sam", lambda *_, **__: loaded.append("sam") or "SAM")
    found = models.Models(models.ModelChoice("tiny"))
    assert loaded == []
    assert (found.clip, found.clip) == ("CLIP", "CLIP")
    assert loaded == ["clip"]
    assert found.sam == "SAM"
    assert found.has("sam")
    assert not found.has("features")


def test_the_larger_model_is_loaded_first(monkeypatch, tmp_path):
    order = []
    for role in ("clip", "sam"):
        monkeypatch.setattr(loading, f"load_{role}", lambda *_, role=role, **__: order.append(role))
    for clip_bytes in (10, 100_000_000):
        folder = shutil.copytree(models.WEIGHTS / "tiny" / "clip", tmp_path / str(clip_bytes))
        with (folder / "model.safetensors").open("r+b") as file:
            file.truncate(clip_bytes)
        found = models.Models(models.ModelChoice("tiny", clip=str(folder)))
        found.load("clip", "sam")
    assert order == ["sam", "clip", "clip", "sam"]


def test_a_sharded_model_is_loaded_whole(tmp_path):
    model = small_clip()
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    loaded = loaders.from_folder(CLIPModel, tmp_path)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict())
    next(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(ZsasError, match="cannot be loaded"):
        loaders.from_folder(CLIPModel, tmp_path)
