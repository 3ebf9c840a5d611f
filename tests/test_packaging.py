"""What `pip install` brings: a small core, extras, the examples, and a package that is cheap to import."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import httpx2 as httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import zsas
from tests.helpers import ROOT
from tests.helpers.ports import free_port
from zsas import extras
from zsas.errors import ZsasError
from zsas.images import count_pages, load_image

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_requirements_are_the_core_and_most_extras() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    declared = list(PROJECT["dependencies"])
    for extra, wanted in PROJECT["optional-dependencies"].items():
        if extra not in ("ray", "formats", "openvino", "all"):
            declared += [line for line in wanted if line not in declared]
    assert listed == declared


def test_all_is_every_extra_but_ray_and_openvino() -> None:
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(everything).extras == {*PROJECT["optional-dependencies"]} - {
        *("ray", "openvino", "all"),
    }


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_importing_the_package_loads_no_library_and_settings_no_torch() -> None:
    code = (
        "import sys; import zsas; print('numpy' in sys.modules); from zsas import Settings; "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert run(code).split() == ["False", "False", "False"]


def test_the_public_names_are_those_of_their_modules() -> None:
    from zsas.settings import Settings

    assert zsas.Settings is Settings
    assert set(zsas.__all__) <= set(dir(zsas))
    for name in zsas.__all__:
        assert getattr(zsas, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        _ = zsas.Segmentor


def test_an_extra_that_is_missing_is_a_sentence_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for extra in PROJECT["optional-dependencies"]:
        if extra not in ("openvino", "all"):
            extras.require(extra)  # the tests have them all but OpenVINO
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(ZsasError, match=r"gradio and mcp.*pip install 'zsas\[ui\]'"):
        extras.require("ui")


def test_the_file_that_asks_for_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a folder somebody must know which one it is."""
    Image.new("L", (4, 4)).save(tmp_path / "a.tif")
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    for read in (load_image, count_pages):
        with pytest.raises(
            ZsasError, match=r"a\.tif cannot be read here yet\. TIFF.*zsas\[images\]"
        ):
            read(tmp_path / "a.tif")
    with pytest.raises(ZsasError, match=r"^The image cannot be read here yet\."):
        load_image((tmp_path / "a.tif").read_bytes())


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip install .` makes, from a copy of what git would hand out."""
    source = tmp_path_factory.mktemp("source")
    for name in ("zsas", "examples", "docs"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.part")
        )
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*pip, "--wheel-dir", str(out), str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_all_that_a_user_needs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"zsas/{file.relative_to(ROOT / 'zsas').as_posix()}"
        for file in (ROOT / "zsas").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    } | {
        f"zsas/examples/{file.relative_to(ROOT / 'examples').as_posix()}"
        for file in (ROOT / "examples").rglob("*")
        if file.is_file()
    } | {
        f"zsas/manual/{name}"
        for name in [
            *(file.name for file in (ROOT / "docs").glob("*.md")),
            *("references.png", "page-phone.png", "page-embed.png", "page-many.png"),
        ]
    }  # fmt: skip
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == expected
    assert "zsas/py.typed" in inside
    assert wheel.stat().st_size < 25e6


def test_every_requirement_is_locked_within_its_bounds() -> None:
    locked = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        name, version = line.split(";")[0].strip().split("==")
        locked[canonicalize_name(name)] = version
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            if not line.startswith(("#", "-r")):
                wanted = Requirement(line)
                assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), line


def test_the_version_is_the_same_wherever_it_stands() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {zsas.__version__}\n" in citation
    assert f"\n## {zsas.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.browser
@pytest.mark.slow
def test_the_installed_package_serves_the_page_with_its_examples(
    wheel: Path, tmp_path: Path
) -> None:
    """The wheel alone, unpacked where no clone is near; `zsas serve` is what a user types."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "zsas", "serve", "--port", str(port), "--preset", "tiny"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            page = _page(f"http://127.0.0.1:{port}/", server)
        finally:
            server.terminate()
            printed = server.communicate(timeout=60)[0]
    assert 'data-example=\\"wood-hole\\"' in page, printed


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "zsas", "serve", "--preset", "tiny"]
        done = subprocess.run(
            [*command, "--port", str(taken.getsockname()[1])],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr.strip().startswith("zsas: The page cannot be served")
    assert len(done.stderr.strip().splitlines()) == 1


def _page(url: str, server: subprocess.Popen[str]) -> str:
    for _ in range(120):
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(url, timeout=30).text
        assert server.poll() is None, server.communicate()[0]
        time.sleep(0.5)
    raise AssertionError("The page did not come up in a minute.")


def closure(lines: list[str]) -> set[str]:
    """Names of all distributions that some requirements bring here, themselves included."""
    found: dict[str, set[str]] = {}
    left = [Requirement(line) for line in lines]
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        extras_of = {"", *wanted.extras}
        if extras_of <= found.get(name, set()):
            continue
        found[name] = found.get(name, set()) | extras_of
        for line in metadata.requires(wanted.name) or []:
            further = Requirement(line)
            marker = further.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras_of):
                left.append(further)
    return set(found)


def test_a_plain_installation_is_small() -> None:
    assert len(closure(PROJECT["dependencies"]) | {"zsas"}) <= 60


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages as `pip install .` would leave it: the core and what it needs, nothing else."""
    site = tmp_path_factory.mktemp("plain")
    for name in closure(PROJECT["dependencies"]):
        for file in metadata.files(name) or []:
            top = file.parts[0]
            source = Path(str(metadata.distribution(name).locate_file(top)))
            if top not in ("..", "__pycache__") and not (site / top).exists() and source.exists():
                (site / top).symlink_to(source)
    for name in ("zsas", "examples"):
        (site / name).symlink_to(ROOT / name)
    return site


def run_plainly(plain: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`zsas …` with the core alone; without the site's packages."""
    environment = {**os.environ, "PYTHONPATH": str(plain), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-S", "-m", "zsas", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_core_alone_segments(plain: Path, tmp_path: Path) -> None:
    image = ROOT / "examples/wood-hole.jpg"
    done = run_plainly(plain, tmp_path, "segment", str(image), "--out", "out", "--preset", "tiny")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/wood-hole/mask.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("serve",), "ui"),
        (("evaluate", "folder", "--root", ".", "--out", "out"), "evaluate"),
        (("segment", "image.tif", "--out", "out"), "images"),
        (("segment", "image.tif", "--out", "out", "--engine", "ray"), "ray"),
    ],
)
def test_what_needs_an_extra_says_which(
    plain: Path, tmp_path: Path, words: tuple[str, ...], extra: str
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "image.tif")
    done = run_plainly(plain, tmp_path, *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"pip install 'zsas[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_nothing_is_imported_that_is_not_declared() -> None:
    """Each package that zsas imports is a dependency of the core or of an extra, by its own name."""
    modules = metadata.packages_distributions()
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    declared = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    brought = {
        "anyio",
        "starlette",
        "gradio_client",
        "fsspec",
        "mcp",
    }  # with gradio, the Hub's client
    for file in (ROOT / "zsas").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in {name.split(".")[0] for name in names}:
                if name not in sys.stdlib_module_names | brought | {"zsas"}:
                    owners = {canonicalize_name(owner) for owner in modules.get(name, [name])}
                    assert owners & declared, f"{file.relative_to(ROOT)} imports {name}"


def test_code_written_for_version_0_1_finds_the_engine() -> None:
    from zsas import pipeline, segmenter

    assert pipeline.Segmenter is segmenter.Segmenter
