"""The practice Hub for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.helpers.hub_cache import CLIP, SAM
from tests.helpers.hub_server import HubServer, running_hub
from zsas.models import download


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The practice Hub as this process's Hub, with an empty cache."""
    with running_hub() as hub_server:
        for name, value in {
            "HF_HUB_OFFLINE": False,
            "ENDPOINT": hub_server.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub_server.endpoint
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_ASSETS_CACHE": str(tmp_path / "assets"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        assets = "huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE"  # a copy of its own
        monkeypatch.setattr(assets, str(tmp_path / "assets"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setenv("ZSAS_RAW_ENDPOINT", hub_server.raw_endpoint)
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(download, "FIRST_PAUSE", 0.02)
        yield hub_server


@pytest.fixture
def base(server: HubServer) -> HubServer:
    """The preset `base`: CLIP pickled only, SAM with safetensors, as the real ones."""
    pytest.importorskip("open_clip")  # whose vocabulary the repositories need
    from tests.helpers import hub_repos

    server.add(CLIP, hub_repos.clip_repo())
    server.add(SAM, hub_repos.sam_repo())
    return server
