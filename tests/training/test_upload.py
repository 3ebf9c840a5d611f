"""What a training sends to the Hub, and what it says where it cannot."""

from __future__ import annotations

import pytest

from zsas.errors import ZsasError
from zsas.training import adapters


def test_an_upload_holds_layers_card_and_curves_and_nothing_else(tmp_path, monkeypatch):
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    for name in ("adapter.safetensors", "README.md", "curve.csv", "curve.png", "checkpoint.pt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "last.pt").write_bytes(b"x")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "0.safetensors").write_bytes(b"x")
    sent: dict[str, list[str]] = {}

    def upload(self, *, repo_id, folder_path, allow_patterns, **_):
        files = [str(p.relative_to(folder_path)) for p in folder_path.rglob("*") if p.is_file()]
        sent[repo_id] = sorted(filter_repo_objects(files, allow_patterns=allow_patterns))

    made = []
    monkeypatch.setattr(
        HfApi, "create_repo",
        lambda self, repo, **options: made.append(options) or f"https://hub.example/{repo}",
    )  # fmt: skip
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert adapters.push_to_hub(tmp_path, "me/layers") == "https://hub.example/me/layers"
    assert made == [{"exist_ok": True}]
    assert sent == {
        "me/layers": ["README.md", "adapter.safetensors", "curve.csv", "curve.png"],
    }


def test_an_upload_that_fails_is_one_sentence(tmp_path, monkeypatch):
    from huggingface_hub import HfApi

    def refuse(*_, **__):
        raise ConnectionError

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(ZsasError, match="could not be uploaded to me/layers"):
        adapters.push_to_hub(tmp_path, "me/layers")
