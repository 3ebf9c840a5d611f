"""`zsas watch` as a process: whom it tells, what it says of those who cannot be told, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.commands import photo
from zsas.watch import Inspection


def watch_command(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "camera").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "zsas", "watch", str(tmp_path / "camera")]
    command += ["--out", str(tmp_path / "out"), "--preset", "tiny", "--once", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "needs a command"),
        ('tell "part', "No closing quotation"),
        ("no-such-program --now", "no program no-such-program"),
    ],
)
def test_a_command_that_cannot_be_run_is_said_before_anything(
    tmp_path: Path, command: str, words: str
) -> None:
    done = watch_command(tmp_path, "--run", command)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_a_program_that_is_gone_is_a_complaint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from zsas.cli.watch import _call

    _call(f"{tmp_path / 'sort-part'} --now", tmp_path, Inspection("a.png", "", "1-1"))
    assert "sort-part could not be told of a.png (FileNotFoundError)." in capfd.readouterr().err


@pytest.mark.parametrize(
    ("verdict", "ok", "score", "says"),
    [
        ("normal", True, 0.3, "OK, score 0.30"),
        ("normal", True, 0.8, "OK (nothing large enough to count), score 0.80"),
        ("unsure", False, 0.68, "NOK (unsure), score 0.68"),
        ("anomalous", False, 0.8, "NOK, score 0.80"),
    ],
)
def test_a_word_that_does_not_follow_from_score_and_limit_says_why(
    verdict: str, ok: bool, score: float, says: str
) -> None:
    from zsas.cli.watch import _sentence

    part = Inspection("a.png", "", "1-1", verdict=verdict, ok=ok, score=score, limit=0.7)
    assert _sentence(part).startswith(f"a.png: {says}, limit 0.70, ")


@pytest.mark.slow
def test_who_cannot_be_told_is_said_and_the_next_part_goes_on(tmp_path: Path) -> None:
    """The program fails, the address redirects, and a name is no UTF-8."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(302)
            self.send_header("location", "/login")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    photo(tmp_path / "camera" / "a.png", "#c8c8c8")
    photo(tmp_path / "camera" / "caf\udce9.png", "#d2d2d2")
    for grey, pages in ((200, 2), (210, 3)):
        page = Image.new("L", (64, 64), grey)
        others = [page] * (pages - 1)
        page.save(tmp_path / "camera" / f"{pages}.tif", save_all=True, append_images=others)
    done = watch_command(
        tmp_path, "--run", "false", "--post", f"http://127.0.0.1:{server.server_port}"
    )
    server.shutdown()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("false ended with exit code 1") == 4
    assert done.stderr.count("answered with status 302") == 4
    assert done.stderr.count(".tif: only page 1 of ") == 1  # not of each image in a long day
    photo(tmp_path / "camera" / "c.png", "#dcdcdc")
    done = watch_command(tmp_path, "--post", "http://127.0.0.1:9")
    assert "could not be told of c.png (ConnectError)" in done.stderr
    assert done.stderr.count("could not be told") == 1  # nobody is told of a part twice


@pytest.mark.slow
def test_the_command_tells_a_program_and_a_server_and_ends_by_sigterm(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path / "camera"
    folder.mkdir()
    teller = tmp_path / "tell.py"
    teller.write_text(
        f"import sys; open({str(tmp_path / 'told.txt')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
    )
    command = [sys.executable, "-m", "zsas", "watch", str(folder), "--out", str(tmp_path / "out")]
    command += ["--run", f"{sys.executable} {teller}", "--preset", "tiny"]
    command += ["--post", f"http://127.0.0.1:{server.server_port}/part"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "watching" in process.stderr.readline()
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    Image.fromarray(noise).save(folder / "part one.png")
    assert process.stdout is not None
    said = process.stdout.readline()
    assert "part one.png: " in said
    assert "limit 0.70" in said
    until = time.monotonic() + 20
    while not told and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "1 image, " in process.stderr.read()
    server.shutdown()
    word = said.split(": ")[1].split(",")[0]
    assert [one["word"] for one in told] == [word]
    assert (tmp_path / "told.txt").read_text() == f"{word} {folder / 'part one.png'}\n"
