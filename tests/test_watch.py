"""A folder is watched: each image once, when it is whole, and nothing twice after a restart."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.results import make_result, normal_result
from zsas.bulk import Output
from zsas.errors import ZsasError
from zsas.settings import Settings
from zsas.watch import AuditLog, Inspection, Timing, Watcher, is_being_written

QUICK = Timing(poll=0.01, settle=0.1, patience=0.4)


class Line:
    """A watched folder, and what was examined in it."""

    def __init__(self, root: Path) -> None:
        self.folder, self.out = root / "camera", root / "out"
        self.folder.mkdir()
        self.examined = 0
        self.log: AuditLog | None = None

    def examine(self, read: Any) -> Any:
        self.examined += 1
        pixels = read.pixels
        if (pixels[0, 0] == [255, 0, 0]).all():
            raise RuntimeError("out of memory")
        return normal_result() if pixels.mean() < 50 else make_result(*pixels.shape[:2])

    def watcher(self, timing: Timing = QUICK, **more: Any) -> Watcher:
        if self.log is not None:
            self.log.close()
        self.log = AuditLog(self.out / "audit.jsonl")
        return Watcher(
            self.folder, self.examine, Settings(), Output(self.out), self.log, timing, **more
        )

    def once(self) -> list[Inspection]:
        return list(self.watcher().run(once=True))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "audit.jsonl").read_text().splitlines()]


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def image(path: Path, grey: int = 200, size: tuple[int, int] = (80, 60)) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (grey,) * 3).save(path)
    return path


def test_a_line_says_what_was_decided_on_what_and_how(line: Line) -> None:
    image(line.folder / "a.png")
    image(line.folder / "shift" / "b.png", 10)
    first, second = line.once()
    assert [(p.file, p.word, p.verdict) for p in (first, second)] == [
        ("a.png", "NOK", "anomalous"),
        ("shift/b.png", "OK", "normal"),
    ]
    written = line.lines()[0]
    assert set(written) == {
        *("word", "file", "digest", "stamp", "name", "verdict", "score", "limit", "settings", "ok"),
        *("models", "versions", "time", "latency"),
    }
    assert len(written["digest"]) == 64
    assert (line.out / "a" / "mask.png").is_file()
    assert (line.out / "shift" / "b" / "result.json").is_file()


def test_a_restart_repeats_nothing(line: Line) -> None:
    image(line.folder / "a.png")
    line.once()
    image(line.folder / "b.png", 210)
    assert [part.file for part in line.once()] == ["b.png"]
    os.utime(line.folder / "a.png")  # touched, not changed
    assert line.once() == []
    assert line.examined == 2


def test_a_copy_is_not_examined_and_told_like_the_first(line: Line) -> None:
    image(line.folder / "a.png")
    (line.folder / "b.png").write_bytes((line.folder / "a.png").read_bytes())
    os.utime(line.folder / "a.png", (1, 1))
    _, copy = line.once()
    assert (copy.file, copy.copy_of, copy.word) == ("b.png", "a.png", "NOK")
    assert line.examined == 1


def test_after_a_restart_a_copy_is_examined_for_the_settings_may_be_others(line: Line) -> None:
    image(line.folder / "a.png")
    line.once()
    (line.folder / "b.png").write_bytes((line.folder / "a.png").read_bytes())
    (part,) = line.once()
    assert (part.file, part.copy_of, line.examined) == ("b.png", "", 2)


def test_a_file_that_is_touched_after_it_was_copied_is_not_told_again(line: Line) -> None:
    image(line.folder / "a.png")
    (line.folder / "b.png").write_bytes((line.folder / "a.png").read_bytes())
    assert len(line.once()) == 2
    os.utime(line.folder / "a.png")
    os.utime(line.folder / "b.png")
    assert line.once() == []


def test_another_image_under_the_old_name_is_another_part(line: Line) -> None:
    image(line.folder / "latest.png")
    line.once()
    image(line.folder / "latest.png", 10)
    (part,) = line.once()
    assert (part.file, part.name, part.word) == ("latest.png", "latest_2", "OK")


@pytest.mark.slow
def test_what_cannot_be_examined_is_nok_with_a_sentence(line: Line) -> None:
    (line.folder / "a.png").write_bytes(b"no image")
    (line.folder / "b.png").write_bytes(b"")
    Image.new("RGB", (80, 60), "red").save(line.folder / "c.png")
    parts = {part.file: part for part in line.once()}
    assert all(part.word == "NOK" for part in parts.values())
    assert parts["a.png"].error.startswith("a.png is not an image")
    assert "empty" in parts["b.png"].error
    assert "could not be segmented (RuntimeError: out of memory)" in parts["c.png"].error
    assert line.once() == []  # a restart does not repeat these either


def test_what_was_noted_on_reading_is_in_the_log(line: Line) -> None:
    page = Image.new("L", (8, 6), 200)
    page.save(line.folder / "a.tif", save_all=True, append_images=[page])
    image(line.folder / "b.png", 30)
    notes = {part.file: list(part.notes) for part in line.once()}
    (note,) = notes.pop("a.tif")
    assert note.startswith("only page 1 of 2 is looked at")
    assert notes == {"b.png": []}
    assert [row.get("notes") for row in line.lines()] == [[note], None]


def test_a_full_disk_does_not_stop_the_verdicts(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise ZsasError("There is no room.")

    monkeypatch.setattr("zsas.watch.save", full)
    image(line.folder / "a.png", 10)
    (part,) = line.once()
    assert (part.word, part.name, part.error) == ("OK", "", "There is no room.")


def test_hidden_and_other_files_and_results_are_left_alone(line: Line) -> None:
    for name in (".a.png", "notes.txt", "a.png.part", ".hidden/b.png"):
        image(line.folder / "x.png").rename(line.folder / "y.png")
        (line.folder / name).parent.mkdir(exist_ok=True)
        (line.folder / "y.png").rename(line.folder / name)
    line.out = line.folder / "out"
    assert line.once() == []
    image(line.folder / "a.png")
    assert len(line.once()) == 1
    assert line.once() == []  # masks lie below the folder now


@pytest.fixture
def running(line: Line) -> Iterator[Callable[[int], list[Inspection]]]:
    """Watches in a thread; gives the parts once there are as many as asked for."""
    parts: list[Inspection] = []
    ended = threading.Event()

    def collect() -> None:
        for part in line.watcher().run(ended.is_set):
            parts.append(part)

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()

    def wait(count: int) -> list[Inspection]:
        until = time.monotonic() + 10
        while len(parts) < count and time.monotonic() < until:
            time.sleep(0.01)
        return list(parts)

    yield wait
    ended.set()
    thread.join()


@pytest.mark.slow
def test_a_half_written_file_waits_until_it_is_whole(line: Line, running: Any) -> None:
    whole = image(line.folder.parent / "whole.bmp").read_bytes()
    with (line.folder / "a.bmp").open("wb") as stream:
        for start in range(0, len(whole), len(whole) // 8):
            stream.write(whole[start : start + len(whole) // 8])
            stream.flush()
            time.sleep(0.05)
    (part,) = running(1)
    assert (part.error, line.examined) == ("", 1)
    assert part.latency < 2


@pytest.mark.slow
def test_a_file_whose_writer_pauses_and_comes_back_is_examined_once(
    line: Line, running: Any
) -> None:
    whole = image(line.folder.parent / "whole.png").read_bytes()
    path = line.folder / "a.png"
    path.write_bytes(whole[:100])
    time.sleep(0.2)  # closed, and not whole
    with path.open("ab") as stream:
        stream.write(whole[100:])
    (part,) = running(1)
    assert part.error == ""


def test_a_file_that_is_renamed_into_the_folder_is_examined_at_once(
    line: Line, running: Any
) -> None:
    image(line.folder.parent / "elsewhere.png").rename(line.folder / "a.png")
    (part,) = running(1)
    assert part.file == "a.png"
    assert part.latency < 1


def test_whoever_writes_is_seen(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png")
    if is_being_written(path) is None:
        pytest.skip("this file system grants no leases")
    with path.open("ab"):
        assert is_being_written(path)
    assert is_being_written(path) is False


def test_a_log_that_a_kill_has_cut_is_gone_on_with(line: Line) -> None:
    image(line.folder / "a.png")
    line.once()
    log = line.out / "audit.jsonl"
    odd = b'{"file": [], "digest": 5, "stamp": {}, "name": 3, "verdict": "normal"}\n'
    log.write_bytes(log.read_bytes() + odd + b'{"file": "half')
    image(line.folder / "b.png", 210)
    assert [part.file for part in line.once()] == ["b.png"]
    assert json.loads(log.read_text().splitlines()[-1])["file"] == "b.png"


def test_a_log_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZsasError, match="cannot be written"):
        AuditLog(tmp_path / "file" / "audit.jsonl")


def test_a_log_that_is_taken_away_is_begun_again(line: Line) -> None:
    image(line.folder / "a.png")
    image(line.folder / "b.png", 210)
    os.utime(line.folder / "a.png", (1, 1))
    parts = line.watcher().run(once=True)
    next(parts)
    (line.out / "audit.jsonl").rename(line.out / "audit.1.jsonl")  # as log rotation does
    assert [part.file for part in parts] == ["b.png"]
    assert [each["file"] for each in line.lines()] == ["b.png"]


def test_a_log_whose_place_is_gone_is_a_sentence_and_still_closes(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "out" / "audit.jsonl")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(ZsasError, match="cannot be written"):
        log.append(Inspection("a.png", "", "1-1"))
    log.close()


def test_two_watchers_do_not_write_to_one_log(line: Line) -> None:
    first = AuditLog(line.out / "audit.jsonl")
    with pytest.raises(ZsasError, match="Another process writes to the log"):
        AuditLog(line.out / "audit.jsonl")
    first.close()
    AuditLog(line.out / "audit.jsonl").close()


def test_a_full_disk_ends_the_log_with_a_sentence(tmp_path: Path) -> None:
    log = AuditLog(Path("/dev/full"))
    with pytest.raises(ZsasError, match="No space left on device"):
        log.append(Inspection("a.png", "", "1-1"))
    log.close()


def test_what_is_no_file_is_left_alone(line: Line) -> None:
    os.mkfifo(line.folder / "pipe.png")
    (line.folder / "folder.png").mkdir()
    (line.folder / "loop.png").symlink_to("loop.png")
    (line.folder / "zero.png").symlink_to("/dev/zero")
    image(line.folder / "folder.png" / "a.png")
    assert [part.file for part in line.once()] == ["folder.png/a.png"]


@pytest.mark.slow
def test_a_file_that_may_not_be_read_is_nok(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    image(line.folder / "a.png")

    def refused(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    (part,) = line.once()
    assert (part.word, part.digest) == ("NOK", "")
    assert part.error.startswith("a.png cannot be read (Permission denied)")


def test_another_file_as_old_and_as_large_is_another_part(line: Line) -> None:
    """A camera without a clock that overwrites one bitmap."""
    path = image(line.folder / "latest.bmp")
    os.utime(path, (1, 1))
    line.once()
    image(line.folder.parent / "new.bmp", 10)
    os.utime(line.folder.parent / "new.bmp", (1, 1))
    (line.folder.parent / "new.bmp").replace(path)
    (part,) = line.once()
    assert (part.file, part.word) == ("latest.bmp", "OK")


@pytest.mark.slow
def test_a_large_file_is_read_where_it_lies(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsas.watch.MOST_BYTES", 100)
    image(line.folder / "a.png")
    (line.folder / "b.png").write_bytes(b"no image" * 100)
    parts = {part.file: part for part in line.once()}
    assert len(parts["a.png"].digest) == 64
    assert parts["a.png"].verdict
    assert parts["b.png"].error.startswith("b.png is not an image")


@pytest.mark.slow
def test_a_drive_that_is_gone_for_a_while_is_waited_for(line: Line) -> None:
    said: list[str] = []
    image(line.folder / "a.png")
    (line.folder / "copy.png").write_bytes((line.folder / "a.png").read_bytes())
    watcher = line.watcher(complain=said.append)
    away = line.folder.with_name("away")
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += 1
        if looks == 10:
            line.folder.rename(away)
        if looks == 20:
            away.rename(line.folder)
            image(line.folder / "b.png", 210)
        return looks > 200

    parts = [part.file for part in watcher.run(stop)]
    assert sorted(parts) == ["a.png", "b.png", "copy.png"]
    assert [sentence.split(" ")[3:6] for sentence in said] == [
        ["cannot", "be", "listed"],
        ["is", "back."],
    ]
    line.folder.rename(away)
    with pytest.raises(ZsasError, match="cannot be listed"):  # not there at the start
        line.once()


def test_a_long_log_shares_its_settings(line: Line) -> None:
    image(line.folder / "a.png")
    image(line.folder / "b.png", 210)
    line.once()
    assert line.log is not None
    first, second = line.log.history()
    assert first.settings is second.settings
    assert first.settings


def test_parts_that_are_remembered_for_their_copies_share_their_settings(line: Line) -> None:
    image(line.folder / "a.png")
    image(line.folder / "b.png", 210)
    first, second = line.once()
    assert first.settings is second.settings
    assert first.models is second.models
