"""Photographs out of Debian packages: only what may be trained on, and where it came from."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tiny import photographs
from tiny.photographs import Stanza, credits, fetch, stanza_of, stanzas
from zsas.errors import ZsasError

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Source: https://example.org/surfaces

Files: *
Copyright: 2020, Everybody
License: GPL-2+

Files:
 base/textures/wall.png
 base/textures/wall_nm.png
 base/textures/small.png
 base/textures/fence.png
Copyright:
 2019, Ann Example
 Ben Example
License: CC-BY-3.0

Files: walls/free*.jpg
Copyright: nobody
License: public-domain
 No rights are claimed.

Files: walls/shared.jpg
Copyright: Cy Example
License: CC-BY-SA-3.0

License: CC-BY-3.0
 The text of a licence.
"""


def picture(size: int = 160, channels: int = 3, suffix: str = ".png") -> bytes:
    image = np.random.default_rng(size).integers(0, 255, (size, size + 8, channels), np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def package(path: Path, files: dict[str, bytes]) -> Path:
    """A .deb: an ar archive with a data.tar.xz of the files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in (("debian-binary", b"2.0\n"), ("data.tar.xz", data.getvalue())):
            head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
            file.write(head.encode() + content + b"\n" * (len(content) % 2))
    return path


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as inner:
        inner.writestr("textures/wall.png", picture())
        inner.writestr("textures/wall_nm.png", picture())  # slopes, no colours
        inner.writestr("textures/small.png", picture(100))
        inner.writestr("textures/fence.png", picture(channels=4))  # with holes
        inner.writestr("textures/others.png", picture())  # GPL, like all that is not named
    return package(
        tmp_path / "surfaces_1.2-3_all.deb",
        {
            "usr/share/doc/surfaces/copyright": COPYRIGHT.encode(),
            "usr/share/games/textures.pk3": archive.getvalue(),
            "usr/share/walls/free1.jpg": picture(suffix=".jpg"),
            "usr/share/walls/shared.jpg": picture(suffix=".jpg"),
            "usr/share/walls/free.txt": b"no image",
        },
    )


def test_only_files_that_may_be_trained_on_are_kept(deb: Path, tmp_path: Path) -> None:
    found = {photo.path: photo for photo in fetch(tmp_path / "out", debs=[deb])}
    assert sorted(found) == [
        "usr/share/games/textures.pk3!textures/wall.png",
        "usr/share/walls/free1.jpg",
    ]
    wall = found["usr/share/games/textures.pk3!textures/wall.png"]
    assert (wall.package, wall.version, wall.licence) == ("surfaces", "1.2-3", "CC-BY-3.0")
    assert wall.authors == ("2019, Ann Example", "Ben Example")
    assert wall.source == "https://example.org/surfaces"
    assert (wall.width, wall.height) == (168, 160)
    assert (tmp_path / "out" / wall.file).read_bytes() == picture()
    listed = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [entry["file"] for entry in listed] == sorted(photo.file for photo in found.values())
    assert "CC-BY-3.0: 2019, Ann Example, Ben Example; 1 images" in (
        tmp_path / "out/CREDITS.md"
    ).read_text(encoding="utf-8")


def test_other_free_files_are_for_statistics_only_and_need_no_credit(
    deb: Path, tmp_path: Path
) -> None:
    found = fetch(tmp_path / "out", debs=[deb], statistics=True)
    assert [p.path for p in found if p.use == "statistics"] == ["usr/share/walls/shared.jpg"]
    assert "Cy Example" not in credits(found)


def test_the_last_stanza_that_names_a_file_counts_and_one_for_all_files_does_not() -> None:
    _, listed = stanzas(COPYRIGHT)
    assert stanza_of("textures/wall.png", listed) == Stanza(
        listed[1].patterns, "CC-BY-3.0", ("2019, Ann Example", "Ben Example")
    )
    assert stanza_of("walls/free7.jpg", listed).licence == "public-domain"  # type: ignore[union-attr]
    assert stanza_of("textures/others.png", listed) is None
    again = [*listed, Stanza(("walls/free7.jpg",), "GPL-2", ())]
    assert stanza_of("walls/free7.jpg", again).licence == "GPL-2"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"usr/share/doc/a/copyright": b"All rights reserved."}, "does not list its files"),
        ({"usr/share/a.png": b""}, "has no copyright file"),
    ],
)
def test_packages_of_unknown_licences_are_refused(
    files: dict[str, bytes], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ZsasError, match=sentence):
        fetch(tmp_path / "out", debs=[package(tmp_path / "a_1_all.deb", files)])


def test_what_is_no_package_or_cannot_be_fetched_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_1_all.deb").write_bytes(b"something")
    with pytest.raises(ZsasError, match="cannot be read as a Debian package"):
        fetch(tmp_path / "out", debs=[tmp_path / "a_1_all.deb"])
    with pytest.raises(ZsasError, match="no name of a Debian package"):
        fetch(tmp_path / "out", packages=["-o=evil"])
    monkeypatch.setattr(photographs.shutil, "which", lambda name: None)
    with pytest.raises(ZsasError, match="give the file with --deb"):
        fetch(tmp_path / "out", packages=["surfaces"])
