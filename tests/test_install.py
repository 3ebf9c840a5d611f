"""Which build of PyTorch `make demo` takes, with package indexes on loopback that hold tiny wheels."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers import ROOT
from tests.helpers.scripts import module_of

SCRIPT = ROOT / "scripts/install.py"


@pytest.fixture
def install() -> ModuleType:
    return module_of(SCRIPT)


def write_wheel(index: Path, name: str, version: str, needs: tuple[str, ...] = ()) -> None:
    """A package of one module, in a folder that is laid out as a package index."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        record += f"{path},sha256={digest.rstrip('=')},{len(text)}\n"
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(path, text)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two indexes on loopback: `default` with CUDA builds and everything else, `cpu` with CPU builds."""
    root = tmp_path_factory.mktemp("indexes")
    for name in ("torch", "torchvision"):
        write_wheel(root / "default", name, "2.14.1", ("cuda",) if name == "torch" else ())
        write_wheel(root / "default", name, "2.15.0", ("cuda",) if name == "torch" else ())
        write_wheel(root / "cpu", name, "2.14.1+cpu")
        write_wheel(root / "cpu", name, "2.15.0+cpu")
        write_wheel(root / "old", name, "2.10.0+cpu")
    for name in ("cuda", "rest"):
        write_wheel(root / "default", name, "1.0")
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("wanted", "gpu", "there", "expected"),
    [
        ("", False, True, "cpu"),
        ("", False, False, None),
        ("", True, True, None),
        ("cpu", True, True, "cpu"),
        ("default", False, True, None),
        ("http://127.0.0.1/own", True, False, "http://127.0.0.1/own"),
    ],
)
def test_torch_comes_from_the_cpu_index_where_there_is_no_gpu_and_it_answers(
    install: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    gpu: bool,
    there: bool,
    expected: str | None,
) -> None:
    monkeypatch.setattr(install, "has_nvidia_gpu", lambda: gpu)
    monkeypatch.setattr(install, "answers", lambda index: there)
    monkeypatch.setattr(sys, "platform", "linux")
    index, why = install.choose_index(wanted)
    assert index == (install.CPU_INDEX if expected == "cpu" else expected)
    assert why


def test_an_index_answers_or_does_not(install: ModuleType, indexes: str) -> None:
    assert install.answers(f"{indexes}/cpu")
    assert not install.answers(f"{indexes}/nothing")
    assert not install.answers("http://127.0.0.1:9")


def test_elsewhere_than_on_linux_the_default_index_has_no_cuda(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert install.choose_index("")[0] is None


@pytest.mark.slow
def test_the_lines_for_torch_are_found_through_includes(install: ModuleType) -> None:
    found = install.build_requirements(["-r", str(ROOT / "requirements-dev.txt")])
    assert sorted(line.split(">")[0] for line in found) == ["torch", "torchvision"]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with pip alone; a copy of one is as fresh, and made ten times as fast."""
    made = tmp_path_factory.mktemp("fresh") / "env"
    venv.create(made, with_pip=True)
    return made


def installed(
    indexes: str, folder: Path, fresh: Path, choice: dict[str, str], cpu: str
) -> tuple[set[str], str]:
    """What is in a fresh environment after an installation, and what was printed."""
    python = shutil.copytree(fresh, folder / "env", symlinks=True) / "bin/python"
    (folder / "requirements.txt").write_text("torch>=2.11,<3\ntorchvision>=0.26,<3\nrest\n")
    (folder / "lock").write_text("torch==2.14.1\ntorchvision==2.14.1\nrest==1.0\n")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "TORCH_INDEX"))
    }
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import install; "
        f"install.CPU_INDEX = {cpu!r}; install.has_nvidia_gpu = lambda: False; "
        "sys.exit(install.main(['-r', 'requirements.txt', '-c', 'lock']))"
    )
    setup = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{indexes}/default"}
    done = subprocess.run(
        [python, "-c", code],
        cwd=folder,
        env={**clean, **setup, **choice},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sites = (folder / "env").glob("lib/*/site-packages/*.dist-info")
    return {
        site.name.removesuffix(".dist-info") for site in sites if "pip-" not in site.name
    }, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "cpu", "torch"),
    [
        ({}, "/cpu", "torch-2.14.1+cpu"),
        ({}, "/nothing", "torch-2.14.1"),
        ({}, "/old", "torch-2.14.1"),
        ({"TORCH_INDEX": "default"}, "/cpu", "torch-2.14.1"),
    ],
    ids=["answers", "does not answer", "lacks the version", "default"],
)
def test_a_fresh_environment_gets_the_build_and_the_locked_versions(
    indexes: str, tmp_path: Path, fresh: Path, choice: dict[str, str], cpu: str, torch: str
) -> None:
    packages, printed = installed(indexes, tmp_path, fresh, choice, f"{indexes}{cpu}")
    packages = {name for name in packages if not name.startswith("setuptools")}
    cuda = set() if torch.endswith("+cpu") else {"cuda-1.0"}
    assert packages == {torch, torch.replace("torch", "torchvision"), "rest-1.0"} | cuda
    assert "torch comes from" in printed
    assert "Collecting" in printed  # pip shows what it is doing


@pytest.mark.slow
def test_uv_installs_the_locked_versions_with_the_command_of_the_docs(
    indexes: str, tmp_path: Path
) -> None:
    """As the docs have it, but for the choice of a build of PyTorch, which asks PyTorch's own indexes."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not installed")
    docs = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"(?m)^    (uv venv && .+)$", docs)
    assert command.endswith(" --torch-backend auto")
    (tmp_path / "requirements.txt").write_text("torch>=2.11,<3\nrest\n")
    (tmp_path / "requirements.lock").write_text("torch==2.14.1\nrest==1.0\n")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UV_", "VIRTUAL_ENV", "CONDA"))
    }
    setup = {
        "VIRTUAL_ENV": str(tmp_path / ".venv"),  # never the environment that the tests run in
        "UV_INDEX_URL": f"{indexes}/default",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "PATH": f"{uv.parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        command.removesuffix(" --torch-backend auto"),
        shell=True,
        cwd=tmp_path,
        env={**clean, **setup},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sites = (tmp_path / ".venv").glob("lib/*/site-packages/*.dist-info")
    found = {site.name.removesuffix(".dist-info") for site in sites}
    assert found == {"torch-2.14.1", "rest-1.0", "cuda-1.0"}
