"""How the command is called, and what it finds around it: an answer or a sentence, never a wrong exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import ROOT

pytestmark = pytest.mark.slow

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a line of sh with `zsas` in it, beside three images."""
    for number in range(3):
        Image.new("RGB", (64, 64), (60 * number, 100, 50)).save(tmp_path / f"{number}.png")
    os.chmod(tmp_path, 0o777)

    def run(line: str, python: str = "") -> subprocess.CompletedProcess[str]:
        command = f"{sys.executable} {python} -m zsas"
        return subprocess.run(
            ["bash", "-c", line.replace("zsas", command)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "HF_HUB_OFFLINE": "1",
                "ZSAS_PRESET": "tiny",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("zsas settings >&-", "it is closed"),
        ("zsas segment 0.png --json >&-", "it is closed"),
        ("zsas settings >/dev/full", "No space left on device"),
        ("zsas segment 0.png --json >/dev/full", "No space left on device"),
        ("zsas segment . --json | head -c 1; exit ${PIPESTATUS[0]}", "Broken pipe"),
    ],
)
def test_a_stdout_that_takes_nothing_is_an_error(shell: Shell, line: str, words: str) -> None:
    done = shell(line)
    assert done.returncode == 2
    assert "cannot be written to stdout" in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_stderr_costs_the_bar_alone(shell: Shell) -> None:
    done = shell("zsas segment 0.png --json 2>&-")
    assert done.returncode == 0
    assert done.stdout.startswith("{")


def test_python_without_asserts_and_docstrings(shell: Shell) -> None:
    done = shell("zsas segment 0.png --out out", python="-OO")
    assert done.returncode == 0, done.stderr
    assert "0.png: " in done.stdout


def test_help_is_there_at_once(shell: Shell) -> None:
    import resource

    def seconds() -> float:
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    for command in ("--help", "segment -h", "watch -h", "evaluate -h"):
        before = seconds()
        assert shell(f"zsas {command}").returncode == 0
        assert seconds() - before < 1.0, command


def read_only(before: str, command: str) -> str:
    """A line of sh in a namespace whose root is read-only, as nobody; /mnt alone can be written to, 8 MB."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("there is no unshare or setpriv")
    if os.geteuid() == 0:
        inside, become = "unshare -m", "setpriv --reuid=65534 --regid=65534 --clear-groups"
    else:
        inside, become = "unshare -rm", ""
    mounts = "mount -t tmpfs -o size=8m,mode=777 none /mnt && mount -o remount,bind,ro /"
    probe = f"{mounts} && exec {become} {sys.executable} -c pass"
    tried = subprocess.run(
        [*inside.split(), "sh", "-c", probe], capture_output=True, check=False, timeout=60
    )
    if tried.returncode:
        pytest.skip("no namespace can be made here in which nobody may run Python")
    return f"{inside} bash -c '{mounts} && {before} && exec {become} {command}'"


@pytest.mark.parametrize("temporary", ["", "TMPDIR=/mnt"])
def test_nobody_on_a_read_only_system_without_a_home(shell: Shell, temporary: str) -> None:
    command = "zsas segment 0.png --preset tiny --out /mnt/out"
    done = shell(read_only(f"export HOME=/nonexistent {temporary}", command))
    assert done.returncode == 0, done.stderr
    assert "0.png: " in done.stdout


def test_a_folder_that_may_not_be_written_to_is_a_sentence(shell: Shell) -> None:
    done = shell(read_only("true", "zsas segment 0.png --preset tiny --out here"))
    assert done.returncode == 2
    assert "cannot be made or written to (Read-only file system)" in done.stderr


def test_a_full_disk_is_a_sentence_an_image(shell: Shell) -> None:
    fill = "head -c 8380000 /dev/zero > /mnt/filler"
    done = shell(read_only(fill, "zsas segment . --preset tiny --stages --out /mnt/out"))
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
