"""The practice Hub and whole commands in processes of their own, as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import hub_repos
from tests.helpers.hub_cache import CLIP, SAM
from tests.helpers.hub_server import HubServer, running_hub
from zsas.models import hub

pytest.importorskip("open_clip")  # whose vocabulary the repositories need

SAM_FILES = hub.FILES["sam"]


def environment(server: HubServer, home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {
        **kept,
        "HF_ENDPOINT": server.endpoint,
        "ZSAS_RAW_ENDPOINT": server.raw_endpoint,
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
        **more,
    }


def zsas(*words: object) -> list[str]:
    return [sys.executable, "-m", "zsas", *map(str, words)]


@pytest.fixture
def hub_of_processes() -> Iterator[HubServer]:
    with running_hub() as hub_server:
        hub_server.add(CLIP, hub_repos.clip_repo())
        hub_server.add(SAM, hub_repos.sam_repo())
        yield hub_server


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"HF_HUB_DISABLE_XET": "1"}])
def test_the_commands_fetch_and_then_run_without_the_hub(hub_of_processes, tmp_path, photo, more):
    env = environment(hub_of_processes, tmp_path / "home", **more)
    fetched = subprocess.run(
        zsas("models", "fetch", "base"), env=env, capture_output=True, text=True, timeout=120
    )
    assert fetched.returncode == 0, fetched.stderr
    assert "base is here now." in fetched.stdout
    assert f"{SAM}: model.safetensors" in fetched.stderr
    Image.fromarray(photo).save(tmp_path / "gear.png")
    env |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    words = zsas("segment", tmp_path / "gear.png", "--json", "--preset", "base")
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["image"].endswith("gear.png")


@pytest.mark.slow
def test_two_processes_at_once_fetch_each_file_once(hub_of_processes, tmp_path):
    hub_of_processes.fail("/cdn/*", "slowly", at=100_000, pause=0.05)
    env = environment(hub_of_processes, tmp_path / "home")
    both = [
        subprocess.Popen(zsas("models", "fetch", "base"), env=env, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for one in both:
        _, errors = one.communicate(timeout=180)
        assert one.returncode == 0, errors
    assert hub_of_processes.count("/cdn/*") == 2


@pytest.mark.slow
def test_a_killed_download_goes_on_in_the_next_process(hub_of_processes, tmp_path):
    fault = hub_of_processes.fail("/cdn/*", "slowly", at=20_000, pause=0.1)
    env = environment(hub_of_processes, tmp_path / "home")
    first = subprocess.Popen(zsas("models", "fetch", "base"), env=env, stderr=subprocess.DEVNULL)
    for _ in range(600):
        parts = list(tmp_path.rglob("*.zsas.incomplete"))
        if parts and parts[0].stat().st_size > 20_000:
            break
        time.sleep(0.1)
    first.kill()
    first.wait()
    fault.times = 0
    hub_of_processes.requests.clear()
    done = subprocess.run(
        zsas("models", "fetch", "base"), env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    ranges = [r.headers.get("Range") for r in hub_of_processes.requests if "/cdn/" in r.path]
    assert ranges[0] is not None
    assert list(tmp_path.rglob("*.zsas.incomplete")) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="needs to become another user")
def test_a_read_only_cache_is_used_and_cannot_be_filled(hub_of_processes):
    """As a user who may read the cache and not write it; what is imported is imported before."""
    for name in ("me/first", "me/second"):
        hub_of_processes.add(name, hub_repos.sam_repo())
    hub_of_processes.repos["model", "me/second"].files["config.json"] += b"\n"
    code = """
import os
from zsas.errors import ZsasError
from zsas.models import hub
hub.folder_of("me/first", hub.FILES["sam"], "base")
os.setuid(65534)
for name in ("me/first", "me/second"):
    try:
        print(hub.folder_of(name, hub.FILES["sam"], "base"))
    except ZsasError as error:
        print(error)
"""
    # Not in pytest's own folder, which it closes to everybody else now and then.
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(hub_of_processes, Path(home)),
            capture_output=True,
            text=True,
            timeout=60,
        )
    used, refused = done.stdout.splitlines()
    assert used.startswith(home), done.stderr
    assert refused.startswith("me/second cannot be kept in")
    assert "Permission denied" in refused
