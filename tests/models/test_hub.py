from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

from tests.helpers.models import small_sam
from zsas import models
from zsas.errors import ZsasError
from zsas.models import hub, repository
from zsas.segmenter import Segmenter


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


@pytest.mark.slow
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
    import httpx2 as httpx
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


@pytest.mark.slow
def test_a_hub_that_stays_silent_is_given_up_in_time(monkeypatch):
    """A host of several addresses, or a name nobody resolves, outlasts the library's own limit."""
    from huggingface_hub import constants

    released = threading.Event()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(repository, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr("httpx2.head", lambda *_, **__: released.wait(60))
    try:
        assert repository.unreachable("me/model") == "the Hub cannot be reached"
        assert not released.is_set()
    finally:
        released.set()


def test_an_address_that_is_none_is_a_sentence(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.example:no-port")
    started = time.monotonic()
    assert repository.unreachable("me/model") == "the Hub cannot be reached"
    assert time.monotonic() - started < repository.PROBE_SECONDS


def test_what_is_in_the_cache_is_taken_without_asking(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("httpx2.head", lambda *_, **__: pytest.fail("the Hub was asked"))
    repo = tmp_path / "models--me--sam"
    folder = repo / "snapshots" / ("a" * 40)
    small_sam().save_pretrained(folder)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    assert hub.folder_of("me/sam", hub.FILES["sam"], "tiny") == folder


def test_the_probe_carries_the_token_of_who_is_signed_in(monkeypatch):
    import httpx2 as httpx
    from huggingface_hub import constants

    sent = []

    def head(url, **options):
        sent.append(options["headers"])
        return httpx.Response(200, request=httpx.Request("HEAD", url))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(httpx, "head", head)
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert repository.unreachable("me/private") == ""
    assert sent[0]["authorization"] == "Bearer hf_mine"


def test_a_model_named_by_a_person_is_not_said_to_be_the_presets(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ZsasError, match="The model facebook/sam-vit-base is wanted") as caught:
        models.fetch(models.PRESETS["tiny"], others={"sam": "facebook/sam-vit-base"})
    assert "tiny" not in str(caught.value)
    assert "same command again" in str(caught.value)


@pytest.mark.hub
def test_the_papers_models_load_from_the_hub():
    if repository.unreachable("openai/clip-vit-base-patch16"):
        pytest.skip("the Hugging Face Hub cannot be reached from here")
    segmenter = Segmenter.from_preset("base")
    assert segmenter.clip.depth == 12


def test_all_files_of_a_tokenizer_are_asked_for():
    assert {"config.json", "tokenizer*", "vocab.json", "merges.txt"} <= set(hub.FILES["clip"])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_model_that_is_not_given_out_is_one_sentence(monkeypatch, status):
    import httpx2 as httpx
    from huggingface_hub import constants

    def head(url, **options):
        assert options["follow_redirects"]  # a repository may have moved
        return httpx.Response(status, request=httpx.Request("HEAD", url))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(httpx, "head", head)
    assert f"(status {status})" in repository.unreachable("me/gated")
