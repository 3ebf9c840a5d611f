"""What tests look at in the Hub's cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

CLIP, SAM = "openai/clip-vit-base-patch16", "facebook/sam-vit-base"
"""The models of the preset `base`."""


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def cached(tmp_path: Path) -> list[str]:
    """Files of the cache that are neither locks nor marks."""
    return sorted(
        file.relative_to(tmp_path / "hub").as_posix()
        for file in (tmp_path / "hub").rglob("*")
        if file.is_file() and ".locks" not in file.parts and file.name != "CACHEDIR.TAG"
    )


def blobs(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "hub").glob("*/blobs/*"))
