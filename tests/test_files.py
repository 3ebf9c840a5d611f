"""Files are whole, or as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from zsas.files import whole, write_all, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b.txt", b"one")
    write_whole(tmp_path / "a" / "b.txt", b"two")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"two"
    assert names(tmp_path) == ["a/b.txt"]


def test_no_file_gets_its_name_before_all_are_complete(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OSError, match="taken"):
        write_all({tmp_path / "a.txt": b"new", tmp_path / "taken" / "b.txt": b"new"})
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_block_that_fails_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with whole(path) as temporary:
        temporary.write_bytes(b"old")
    with pytest.raises(KeyError), whole(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]
