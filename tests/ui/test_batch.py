"""Many files: ZIPs and their dangers, rows, outputs, folders that are removed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake import photo
from tests.helpers.images import png
from zsas.cache import ByteBudgetCache
from zsas.cancellation import cancellable
from zsas.errors import ZsasError
from zsas.settings import Settings
from zsas.ui import batch, drawing, export
from zsas.ui.engine import Engine
from zsas.ui.events.batch import _draw
from zsas.ui.events.site import Site, act
from zsas.ui.events.visit import hello
from zsas.ui.many import Many


def test_a_zip_is_unpacked_under_harmless_names(tmp_path: Path) -> None:
    packed = tmp_path / "p.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil.png", b"1")
        archive.writestr("a/b.png", b"2")
    target = tmp_path / "out"
    target.mkdir()
    found = batch.unpack([("p.zip", packed)], target)
    assert [name for name, _, _ in found] == ["../../evil.png", "a/b.png"]
    assert all(path is not None and path.parent == target for _, path, _ in found)


def test_a_zip_that_grows_without_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_UNPACKED", 1000)
    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 10**6)
    found = batch.unpack([("bomb.zip", packed)], tmp_path)
    assert found[0][1] is None
    assert "split it" in found[0][2]
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def packed(path: Path, *members: tuple[str, bytes]) -> Path:
    """A ZIP with these members, deflated."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_a_zip_of_too_many_files_is_refused_and_not_cut(tmp_path: Path) -> None:
    many = packed(tmp_path / "many.zip", *((f"{i}.png", b"1") for i in range(600)))
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(ZsasError, match="at most 500 files"):
        batch.unpack([("many.zip", many)], target)
    assert not any(target.iterdir())


def test_a_damaged_member_of_a_zip_is_a_row_and_the_others_go_on(
    tmp_path: Path, engine: Engine
) -> None:
    content = os.urandom(3000)
    path = packed(tmp_path / "p.zip", ("bad.png", content), ("good.png", png(photo(2))))
    raw = bytearray(path.read_bytes())
    start = raw.index(b"bad.png") + len("bad.png")
    raw[start : start + 200] = b"\xff" * 200  # no deflate stream begins like this: zlib.error
    path.write_bytes(raw)
    *_, last = batch.run(engine, [path], "tiny", Settings())
    assert [bool(line.error) for line in last.lines] == [True, False]
    assert "bad.png cannot be unpacked from p.zip" in last.lines[0].error


def test_a_member_of_a_zip_is_copied_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    read = zipfile.ZipExtFile.read

    def note(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        asked.append(n)
        return read(self, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", note)
    path = packed(tmp_path / "p.zip", ("large.png", bytes(5 * 2**20)))
    found = batch.unpack([("p.zip", path)], tmp_path)
    assert found[0][1] is not None
    assert found[0][1].stat().st_size == 5 * 2**20
    assert all(n is not None and 0 < n <= 2**20 for n in asked)


def test_a_batch_can_be_stopped_while_it_unpacks(tmp_path: Path, engine: Engine) -> None:
    path = packed(tmp_path / "p.zip", ("a.png", png(photo(2))), ("b.png", png(photo(3))))
    steps = list(cancellable(batch.run(engine, [path], "tiny", Settings()), lambda: True))
    assert steps == [batch.Progress((), 1, stopped=True)]


def test_unpacked_photos_do_not_outlive_the_batch(tmp_path: Path, engine: Engine) -> None:
    path = packed(tmp_path / "p.zip", ("a.png", png(photo(2))))
    *_, last = batch.run(engine, [path], "tiny", Settings())
    assert last.archive is not None
    assert {part.name for part in last.archive.parent.iterdir()} == {
        "results",
        "zsas-results.zip",
    }


def test_a_batch_leaves_the_photos_of_others_in_memory(tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(photo(2)))
    list(batch.run(engine, [path], "tiny", Settings()))
    assert engine._images.nbytes == engine._encodings.nbytes == 0


def run_and_read(
    engine: Engine, paths: list[Path]
) -> tuple[set[str], list[dict[str, str]], list[dict[str, Any]], dict[str, Any]]:
    """A batch's file names, and what its CSV, JSON and COCO files say."""
    *_, last = batch.run(engine, paths, "tiny", Settings())
    assert last.archive is not None
    with zipfile.ZipFile(last.archive) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("results.csv").decode("utf-8-sig"))))
        lines, coco = (json.loads(archive.read(name)) for name in ("results.json", "coco.json"))
        return set(archive.namelist()), rows, lines, coco


def test_formulas_in_file_names_are_defused(tmp_path: Path, engine: Engine) -> None:
    good, bad = tmp_path / "=cmd.png", tmp_path / "bad.png"
    good.write_bytes(png(photo(2)))
    bad.write_bytes(b"nothing")
    _, rows, _, _ = run_and_read(engine, [good, bad])
    assert rows[0]["file"] == "'=cmd.png"
    assert rows[0]["error"] == rows[1]["verdict"] == ""


def test_each_output_can_be_matched_to_its_photo(tmp_path: Path, engine: Engine) -> None:
    members = ("Деталь.png", "деталь.png", "a/000.png", "b/000.png", "Gear.png", "gear.png")
    content = png(photo(2))
    path = packed(
        tmp_path / "p.zip", *((name, content) for name in members), ("bad.png", b"nothing")
    )
    names, rows, lines, coco = run_and_read(engine, [path])
    saved = ["Деталь", "деталь_2", "000", "000_2", "Gear", "gear_2"]
    assert [row["saved_as"] for row in rows] == [*saved, ""]
    assert [(line["file"], line["saved_as"]) for line in lines[:-1]] == list(
        zip(members, saved, strict=True)
    )
    assert [(image["path"], image["saved_as"]) for image in coco["images"]] == list(
        zip(members, saved, strict=True)
    )
    assert [Path(image["file_name"]).stem for image in coco["images"]] == saved
    assert {f"{stem}_mask.png" for stem in saved} <= names
    assert len({name.casefold() for name in names}) == len(names)


def test_a_name_of_any_script_leaves_room_for_an_ending() -> None:
    assert export.stem_of("cafe\u0301 ../né") == "café-né"
    assert len(export.stem_of("\U00020000" * 300).encode()) <= 200


def test_an_empty_batch_is_one_sentence(engine: Engine) -> None:
    with pytest.raises(ZsasError, match="There are no files"):
        list(batch.run(engine, [], "tiny", Settings()))


def test_old_files_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = export.new_folder()
    monkeypatch.setattr(export, "KEEP_SECONDS", -1.0)
    second = export.new_folder()
    assert not first.exists()
    assert second.exists()


def test_a_batch_of_more_than_an_hour_keeps_its_folder(tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(photo(2)))
    before = set(export.scratch().iterdir())
    steps = batch.run(engine, [path, path], "tiny", Settings())
    next(steps)
    (folder,) = set(export.scratch().iterdir()) - before
    began = time.time() - 2 * export.KEEP_SECONDS
    os.utime(folder, (began, began))
    next(steps)
    export.new_folder()
    assert folder.exists()
    *_, last = steps
    assert last.archive is not None
    assert last.archive.is_file()


def test_the_files_of_a_server_that_was_killed_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from zsas.ui import export; print(export.new_folder().parent, flush=True); input()"
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        for _ in range(2)
    ]
    folders = [Path(server.stdout.readline().strip()) for server in servers if server.stdout]
    try:
        servers[0].kill()
        servers[0].wait()
        assert all(folder.is_dir() for folder in folders)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        export.scratch.__wrapped__()
        assert [folder.exists() for folder in folders] == [False, True]
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def test_a_row_is_opened_without_its_pictures_inside(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside the answer they would be compressed, sent and read again each time; a browser keeps them instead."""
    visitor = site.visitors.known(hello(site, "", "")["token"])
    assert visitor is not None
    (tmp_path / "a.png").write_bytes(png(photo(1)))
    many = visitor.batch = Many.of([("a.png", tmp_path / "a.png")], "tiny", visitor.settings)
    list(many.run(site.engine, _draw(visitor, many)))
    many.running = False
    many.rows[0].level = (0.47, "The map shows more than is marked.")  # the pixels are gone by then
    monkeypatch.setattr(drawing, "PICTURES", ByteBudgetCache(2**24))  # let go of meanwhile
    answer = json.dumps(act(site, visitor.token, "open_row", {"number": 0}, visitor.news))
    keys = re.findall(r"zsas:/png/(\w+)\.png", answer)
    assert len(set(keys)) > 2
    assert all(drawing.PICTURES.get(key) is not None for key in keys)
    assert "data:image" not in answer
    assert "Try 0.47" in answer


def test_a_folder_that_goes_away_meanwhile_keeps_nobody_from_a_new_one() -> None:
    gone = export.scratch() / "gone"
    gone.symlink_to("nothing")  # listed, but not there any more
    try:
        assert export.new_folder().is_dir()
    finally:
        gone.unlink()
