from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from typing import ClassVar

import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, SamModel

from tests.helpers.meta_sam import meta_model, metas_names
from tests.helpers.models import CPU, small_clip, small_sam
from zsas import models
from zsas.backbones.sam import MetaSam
from zsas.errors import ZsasError
from zsas.pipeline import Segmenter
from zsas.settings import Settings


def test_the_presets_are_the_designs():
    assert list(models.PRESETS) == ["paper", "base", "tiny"]
    paper, base, _ = models.PRESETS.values()
    assert (paper.clip, paper.sam) == ("openai/clip-vit-large-patch14-336", "facebook/sam-vit-huge")
    assert (base.clip, base.sam) == ("openai/clip-vit-base-patch16", "facebook/sam-vit-base")
    assert models.PRESETS["tiny"].bundled
    assert not models.PRESETS["paper"].bundled
    assert models.is_here(models.PRESETS["tiny"])


def test_the_default_is_paper_only_with_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert models.default_preset() == "paper"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert models.default_preset() == "tiny"


@pytest.mark.parametrize("offline", [True, False])
def test_an_unreachable_hub_is_one_sentence_within_seconds(monkeypatch, tmp_path, offline):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    # A port of this machine where nobody listens: an unreachable Hub without leaving the machine.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(ZsasError) as caught:
        Segmenter.from_preset("base")
    assert time.monotonic() - started < 5
    sentence = str(caught.value)
    assert "'base'" in sentence
    assert "facebook/sam-vit-base" in sentence
    assert "zsas models fetch base" in sentence
    assert "tiny" in sentence
    assert "\n" not in sentence


def test_a_missing_model_is_said_before_torch_is_imported(tmp_path):
    code = (
        "import sys; from zsas.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    photo = tmp_path / "photo.png"
    Image.new("RGB", (32, 32)).save(photo)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "segment",
            photo,
            "--out",
            tmp_path / "out",
            "--preset",
            "base",
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "needs facebook/sam-vit-base" in done.stderr
    assert done.stderr.rstrip().endswith("[]")


def test_the_hub_is_probed_once_with_a_short_limit(monkeypatch, tmp_path):
    import httpx
    from huggingface_hub import constants

    asked = []

    def head(url, **options):
        asked.append((url, options["timeout"]))
        raise httpx.ConnectTimeout("nobody")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(httpx, "head", head)
    with pytest.raises(ZsasError, match="cannot be reached"):
        models.fetch(models.PRESETS["paper"])
    assert len(asked) == 1
    assert asked[0][1] <= 3


def test_a_hub_that_stays_silent_is_given_up_in_time(monkeypatch):
    """A host of several addresses, or a name nobody resolves, outlasts the library's own limit."""
    from huggingface_hub import constants

    released = threading.Event()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(models, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr("httpx.head", lambda *_, **__: released.wait(60))
    try:
        assert models._unreachable("me/model") == "the Hub cannot be reached"
        assert not released.is_set()
    finally:
        released.set()


def test_an_address_that_is_none_is_a_sentence(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.example:no-port")
    started = time.monotonic()
    assert models._unreachable("me/model") == "the Hub cannot be reached"
    assert time.monotonic() - started < models.PROBE_SECONDS


def test_what_is_in_the_cache_is_taken_without_asking(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("httpx.head", lambda *_, **__: pytest.fail("the Hub was asked"))
    repo = tmp_path / "models--me--sam"
    folder = repo / "snapshots" / ("a" * 40)
    small_sam().save_pretrained(folder)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    assert models.folder_of("me/sam", models._SAM_FILES, "tiny") == folder


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), RuntimeError("another library's")])
def test_a_download_that_breaks_off_is_a_sentence(monkeypatch, tmp_path, error):
    from huggingface_hub import constants

    def break_off(*_, **__):
        raise error

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "_unreachable", lambda _: "")
    monkeypatch.setattr("huggingface_hub.snapshot_download", break_off)
    with pytest.raises(ZsasError, match=r"download of facebook/sam-vit-base .* broke off"):
        models.fetch(models.PRESETS["base"])


def test_a_repository_without_safetensors_gives_its_pickled_weights(monkeypatch, tmp_path):
    from huggingface_hub import constants

    asked = []

    def download(_, allow_patterns):
        asked.append(allow_patterns[-1])
        return str(tmp_path)

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "_unreachable", lambda _: "")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert models.folder_of("me/clip", models._CLIP_FILES, "base") == tmp_path
    assert asked == ["model.safetensors", "pytorch_model.bin"]


def test_layers_that_cannot_be_kept_are_a_sentence(monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.cached_assets_path", no_room)
    with pytest.raises(ZsasError, match=r"cannot be kept \(No space left on device"):
        models.adapter_file("april-gan:visa")


def test_the_probe_carries_the_token_of_who_is_signed_in(monkeypatch):
    import httpx
    from huggingface_hub import constants

    sent = []

    def head(url, **options):
        sent.append(options["headers"])
        return httpx.Response(200, request=httpx.Request("HEAD", url))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(httpx, "head", head)
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert models._unreachable("me/private") == ""
    assert sent[0]["authorization"] == "Bearer hf_mine"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "unheard-of://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch, tmp_path, proxy):
    from huggingface_hub import constants

    def no_package(*_, **__):
        raise ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://203.0.113.1:9")
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    if proxy.startswith("socks"):  # also where the package is installed
        monkeypatch.setattr("httpx.head", no_package)
        monkeypatch.setattr("httpx.stream", no_package)
    assert "proxy" in models._unreachable("some/model").lower()
    with pytest.raises(ZsasError, match=r"(?i)proxy"):
        models._download("http://203.0.113.1:9/x.pth", tmp_path / "x.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_model_named_by_a_person_is_not_said_to_be_the_presets(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ZsasError, match="The model facebook/sam-vit-base is wanted") as caught:
        models.fetch(models.PRESETS["tiny"], sam="facebook/sam-vit-base")
    assert "tiny" not in str(caught.value)
    assert "same command again" in str(caught.value)


def test_an_unknown_preset_or_folder_is_one_sentence(tmp_path):
    with pytest.raises(ZsasError, match="choose paper, base, tiny"):
        Segmenter.from_preset("huge")
    with pytest.raises(ZsasError, match="There is no folder"):
        Segmenter.from_preset("tiny", sam=str(tmp_path / "none"))


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    """transformers makes a tokenizer of two words where files are missing; that must not pass."""
    small_clip().save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ZsasError, match="trained with 64"):
        models.load_clip(str(tmp_path), name="x", wanted_for="tiny", device=CPU, precision="fp32")


def test_a_local_folder_may_stand_in_for_sam(tmp_path):
    small_sam().save_pretrained(tmp_path / "sam")
    sam = models.load_sam(str(tmp_path / "sam"), wanted_for="tiny", device=CPU, precision="fp32")
    assert sam.network.side == 256


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

    monkeypatch.setattr("zsas.backbones.sam.load_meta_checkpoint", load)
    monkeypatch.setattr(models, "_unreachable", lambda _: pytest.fail("the Hub was asked"))
    segmenter = Segmenter.from_preset("tiny", sam=str(checkpoint), precision="fp32")
    assert isinstance(segmenter.sam.network, MetaSam)
    assert read == [checkpoint]
    assert segmenter.preset == f"tiny + {checkpoint}"
    ours.save_pretrained(tmp_path / "ours")
    same = Segmenter.from_preset("tiny", sam=str(tmp_path / "ours"), precision="fp32")
    settings = Settings(threshold=0.9, threshold_mode="quantile")
    mine, theirs = same(photo, settings), segmenter(photo, settings)
    assert theirs.steps
    assert (mine.mask != theirs.mask).mean() < 0.01


def test_a_pickled_model_is_read_without_running_code(tmp_path):
    model = small_clip()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    loaded = models.from_folder(CLIPModel, tmp_path)
    torch.testing.assert_close(loaded.logit_scale, model.logit_scale)

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"logit_scale": Harm()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ZsasError, match="cannot be loaded"):
        models.from_folder(CLIPModel, tmp_path)
    assert not (tmp_path / "harm").exists()


def test_a_truncated_model_file_is_one_sentence(tmp_path):
    small_sam().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ZsasError, match="cannot be loaded"):
        models.from_folder(SamModel, tmp_path)


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
        models.from_folder(CLIPModel, rewritten(tmp_path, change))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_sam_may_lack_only_what_is_derived(tmp_path):
    small_sam().save_pretrained(tmp_path)
    shared = "shared_image_embedding.positional_embedding"
    tied = "prompt_encoder.shared_embedding.positional_embedding"
    rewritten(tmp_path, lambda t: {tied if k == shared else k: v for k, v in t.items()})
    model = models.from_folder(SamModel, tmp_path)
    torch.testing.assert_close(
        model.shared_image_embedding.positional_embedding,
        small_sam().shared_image_embedding.positional_embedding,
    )
    rewritten(tmp_path, lambda t: {k: v for k, v in t.items() if k not in (shared, tied)})
    with pytest.raises(ZsasError, match="not those of a whole SamModel"):
        models.from_folder(SamModel, tmp_path)


@pytest.mark.parametrize("kind", ["sam2", "clip_vision_model", "siglip"])
def test_a_model_of_another_type_is_refused(tmp_path, kind):
    small_sam().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": kind}))
    with pytest.raises(ZsasError, match=f"of the type '{kind}', but one of the type 'sam'"):
        models.from_folder(SamModel, tmp_path)
    with pytest.raises(ZsasError, match="but one of the type 'clip'"):
        models.from_folder(CLIPModel, tmp_path)


def test_april_gans_layers_are_known_by_name_and_unreachable_ones_say_so(monkeypatch, tmp_path):
    import httpx

    def refuse(*_, **__):
        raise httpx.ConnectError("nobody")

    monkeypatch.setattr(httpx, "stream", refuse)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.cached_assets_path", lambda *_: tmp_path)
    with pytest.raises(ZsasError, match="name its path"):
        models.adapter_file("april-gan:visa")
    with pytest.raises(ZsasError, match="april-gan:mvtec or april-gan:visa"):
        models.adapter_file("april-gan:coco")
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_limited_in_size_and_leaves_no_half_file(monkeypatch, tmp_path):
    class Answer:
        headers: ClassVar = {}

        def raise_for_status(self):
            return self

        def iter_bytes(self):
            while True:
                yield bytes(1_000_000)

    monkeypatch.setattr("httpx.stream", lambda *_, **__: contextlib.nullcontext(Answer()))
    with pytest.raises(ZsasError, match="larger or slower"):
        models._download("https://example.org/x.pth", tmp_path / "x.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_limited_in_time(monkeypatch, tmp_path):
    import httpx

    answer = httpx.Response(
        200, content=b"some", request=httpx.Request("GET", "https://example.org")
    )
    monkeypatch.setattr("httpx.stream", lambda *_, **__: contextlib.nullcontext(answer))
    monkeypatch.setattr(models, "_APRIL_GAN_SECONDS", -1)
    with pytest.raises(ZsasError, match="larger or slower"):
        models._download("https://example.org/x.pth", tmp_path / "x.pth")
    assert list(tmp_path.iterdir()) == []


def test_april_gans_layers_are_downloaded_once(monkeypatch, tmp_path):
    import httpx

    asked = []

    def stream(_, url, **__):
        asked.append(url)
        answer = httpx.Response(200, content=b"layers", request=httpx.Request("GET", url))
        return contextlib.nullcontext(answer)

    monkeypatch.setattr("httpx.stream", stream)
    monkeypatch.setattr("huggingface_hub.cached_assets_path", lambda *_: tmp_path)
    first, second = (models.adapter_file("april-gan:visa") for _ in range(2))
    assert first == second
    assert first.read_bytes() == b"layers"
    assert asked == [models.APRIL_GAN["visa"]]


def test_a_download_shows_its_progress(monkeypatch, tmp_path, capsys):
    import httpx

    answer = httpx.Response(
        200, content=bytes(3_000_000), request=httpx.Request("GET", "https://example.org")
    )
    monkeypatch.setattr("httpx.stream", lambda *_, **__: contextlib.nullcontext(answer))
    models._download("https://example.org/x.pth", tmp_path / "x.pth")
    assert (tmp_path / "x.pth").stat().st_size == 3_000_000
    assert "3.00M/3.00M" in capsys.readouterr().err


def test_loading_a_model_leaves_the_bars_of_downloads_on():
    assert not are_progress_bars_disabled()
    Segmenter.from_preset("tiny")
    assert not are_progress_bars_disabled()


def test_the_models_attend_by_sdpa():
    segmenter = Segmenter.from_preset("tiny")
    clip, sam = segmenter.clip.model, segmenter.sam.network.model
    for config in (clip.vision_model.config, sam.vision_encoder.config):
        assert config._attn_implementation == "sdpa"


def test_an_exported_folder_works_wherever_it_lies(tmp_path, caplog):
    folder = shutil.copytree(models.WEIGHTS / "tiny" / "clip", tmp_path / "moved")
    segmenter = Segmenter.from_preset("tiny", clip=str(folder))
    assert segmenter.localizer(Settings()).name == "linear"
    (folder / "adapter.safetensors").unlink()
    segmenter = Segmenter.from_preset("tiny", clip=str(folder))
    assert segmenter.localizer(Settings()).name == "training_free"
    with caplog.at_level(logging.WARNING, "zsas"):
        given = models.PRESETS["tiny"].adapter
        segmenter = Segmenter.from_preset("tiny", clip=str(folder), adapter=given)
    assert segmenter.localizer(Settings()).name == "linear"
    assert "made for zsas/tiny" in caplog.text
    assert str(folder) in caplog.text


def test_a_home_folder_is_found_with_its_adapter(monkeypatch, tmp_path):
    folder = shutil.copytree(models.WEIGHTS / "tiny" / "clip", tmp_path / "myclip")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.adapter_beside("~/myclip") == folder / "adapter.safetensors"
    (tmp_path / "sam.pth").write_bytes(b"no checkpoint")
    with pytest.raises(ZsasError) as caught:
        models.load_sam("~/sam.pth", wanted_for="tiny", device=CPU, precision="fp32")
    assert "There is no SAM checkpoint" not in str(caught.value)


@pytest.mark.hub
def test_the_papers_models_load_from_the_hub():
    if models._unreachable(models.PRESETS["base"].clip):
        pytest.skip("the Hugging Face Hub cannot be reached from here")
    segmenter = Segmenter.from_preset("base")
    assert segmenter.clip.depth == 12


def test_both_models_are_at_hand_before_either_is_loaded(monkeypatch):
    done = []
    monkeypatch.setattr("zsas.pipeline.fetch", lambda *_, **__: done.append("fetched"))

    def load(*_, **__):
        done.append("loaded")
        raise ZsasError("enough")

    monkeypatch.setattr("zsas.pipeline.load_sam", load)
    monkeypatch.setattr("zsas.pipeline.load_clip", load)
    with pytest.raises(ZsasError, match="enough"):
        Segmenter.from_preset("tiny")
    assert done == ["fetched", "loaded"]


def test_an_adapter_that_is_not_there_is_said_before_anything_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr("zsas.pipeline.fetch", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(ZsasError, match="There is no adapter file"):
        Segmenter.from_preset("paper", adapter=tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("wrong", "words"), [({"device": "cuda:99"}, "cuda:99"), ({"precision": "fp8"}, "fp8")]
)
def test_what_is_wrong_is_said_before_anything_is_fetched(monkeypatch, wrong, words):
    monkeypatch.setattr("zsas.pipeline.fetch", lambda *_, **__: pytest.fail("fetched"))
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
        models.load_sam(str(tmp_path / "SAM.PTH"), wanted_for="tiny", device=CPU, precision="fp32")


def test_all_files_of_a_tokenizer_are_asked_for():
    assert {"config.json", "tokenizer*", "vocab.json", "merges.txt"} <= set(models._CLIP_FILES)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_model_that_is_not_given_out_is_one_sentence(monkeypatch, status):
    import httpx
    from huggingface_hub import constants

    def head(url, **options):
        assert options["follow_redirects"]  # a repository may have moved
        return httpx.Response(status, request=httpx.Request("HEAD", url))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(httpx, "head", head)
    assert models._unreachable("me/gated") == f"the Hub does not give it out (status {status})"
