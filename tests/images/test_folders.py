"""A scan of folders: what is found, and what is left out and why."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.jobs import plan
from tests.images.builders import RGB, saved
from zsas.bulk import Output
from zsas.errors import ZsasError
from zsas.images import load_image, scan_images


def test_what_looks_like_an_image_is_found_and_the_rest_is_said(tmp_path: Path) -> None:
    files = {
        "a.jpg": saved(RGB, "JPEG"),
        "b.dib": saved(RGB, "DIB"),
        "c.jpx": saved(RGB, "JPEG2000"),
        "d.apng": saved(RGB, "PNG"),
        "e.HEIC": b"\0\0\0\x18ftypheic" + bytes(200),
        "f.psd": b"8BPS" + bytes(40),
        "g.dat": saved(RGB, "PNG"),
        "no_suffix": saved(RGB, "TIFF"),
        "notes.txt": b"words",
        "Thumbs.db": bytes(30),
        ".hidden.png": saved(RGB, "PNG"),
        "deep/.er/h.png": saved(RGB, "PNG"),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    scan = scan_images([tmp_path])
    assert [path.name for path in scan.images] == [
        *("a.jpg", "b.dib", "c.jpx", "d.apng", "e.HEIC", "f.psd", "g.dat", "no_suffix"),
    ]
    assert (
        scan.sentence
        == "4 left out: 2 hidden (.hidden.png, .er); 2 no images (Thumbs.db, notes.txt)."
    )
    assert not scan.unreadable
    read, refused = 0, {}
    for path in scan.images:
        try:
            load_image(path)
            read += 1
        except ZsasError as error:
            refused[path.name] = str(error)
    assert read == 6
    assert "cut off or damaged" in refused["e.HEIC"]
    assert "Photoshop, which is not read" in refused["f.psd"]


def test_a_folder_that_is_a_link_is_left_out_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    Image.fromarray(RGB).save(tmp_path / "other" / "a.png")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "other")
    scan = scan_images([tmp_path / "here"])
    assert scan.images == []
    assert scan.sentence == "1 left out: 1 link to a folder (link)."


@pytest.mark.parametrize("name", ["missing.png", "notes.txt"])
def test_what_is_named_is_kept(name: str, tmp_path: Path) -> None:
    scan = scan_images([tmp_path / name])
    assert scan.images == [tmp_path / name]
    assert scan.sentence == ""
    assert np.array_equal(scan.unreadable, [])


def test_what_is_no_file_is_a_sentence_and_never_waited_for(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "good.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("missing")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "self").symlink_to(".")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(RGB).save(tmp_path / "folder.png" / "inner.png")
    said = {}
    jobs = plan([str(tmp_path)], Output(tmp_path / "out", "table"))
    for job in jobs:
        try:
            load_image(job.image)
        except ZsasError as error:
            said[Path(job.image).name] = str(error)
    assert len(jobs) == 6
    assert "leads to no file" in said.pop("gone.png")
    assert "leads to no file" in said.pop("loop.png")
    assert sorted(said) == ["pipe.png", "zero.png"]
    assert all("not a regular file" in each for each in said.values())
