"""Photographs out of packages: only what may be trained on, and where it came from."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tiny.photographs import fetching, licences, packages
from tiny.photographs.fetching import credits, fetch
from tiny.photographs.licences import Stanza, licence_of_text, stanza_of, stanzas
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


def picture(size: int = 160, channels: int = 3, suffix: str = ".png", seed: int = 0) -> bytes:
    image = np.random.default_rng(seed).integers(0, 255, (size, size + 8, channels), np.uint8)
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
        inner.writestr("textures/others.png", picture(seed=1))  # GPL, like all that is not named
    return package(
        tmp_path / "surfaces_1.2-3_all.deb",
        {
            "usr/share/doc/surfaces/copyright": COPYRIGHT.encode(),
            "usr/share/games/textures.pk3": archive.getvalue(),
            "usr/share/walls/free1.jpg": picture(suffix=".jpg", seed=2),
            "usr/share/walls/shared.jpg": picture(suffix=".jpg", seed=3),
            "usr/share/walls/free.txt": b"no image",
        },
    )


def test_only_files_that_may_be_trained_on_are_kept(deb: Path, tmp_path: Path) -> None:
    found = {photo.path: photo for photo in fetch(tmp_path / "out", files=[deb])}
    assert sorted(found) == [
        "usr/share/games/textures.pk3!textures/wall.png",
        "usr/share/walls/free1.jpg",
    ]
    wall = found["usr/share/games/textures.pk3!textures/wall.png"]
    assert (wall.package, wall.version, wall.licence) == ("surfaces", "1.2-3", "CC-BY-3.0")
    assert wall.authors == ("2019, Ann Example", "Ben Example")
    assert wall.source == "https://example.org/surfaces"
    assert wall.licence_from == "copyright file"
    assert (wall.width, wall.height) == (168, 160)
    assert wall.file == "training/surfaces_textures_textures_wall.jpg"
    kept = (tmp_path / "out" / wall.file).read_bytes()
    assert wall.sha256 == hashlib.sha256(kept).hexdigest()
    assert wall.original_sha256 == hashlib.sha256(picture()).hexdigest()
    free = found["usr/share/walls/free1.jpg"]
    assert free.sha256 == free.original_sha256, "a small JPEG is not coded again"
    listed = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [entry["file"] for entry in listed] == sorted(photo.file for photo in found.values())
    assert "CC-BY-3.0: 2019, Ann Example, Ben Example; 1 images" in (
        tmp_path / "out/CREDITS.md"
    ).read_text(encoding="utf-8")


def test_other_free_files_are_for_statistics_only_and_need_no_credit(
    deb: Path, tmp_path: Path
) -> None:
    found = fetch(tmp_path / "out", files=[deb], statistics=True)
    aside = [p for p in found if p.use == "statistics"]
    assert [p.path for p in aside] == ["usr/share/walls/shared.jpg"]
    assert aside[0].sha256 == aside[0].original_sha256
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
        fetch(tmp_path / "out", files=[package(tmp_path / "a_1_all.deb", files)])


@pytest.mark.slow
def test_large_photographs_are_scaled_and_the_same_one_is_kept_once(tmp_path: Path) -> None:
    large = np.kron(
        np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8),
        np.ones((24, 24, 1), np.uint8),
    )
    paler = cv2.convertScaleAbs(large, alpha=0.6, beta=40)
    text = COPYRIGHT.replace("free*.jpg", "free*")
    deb = package(
        tmp_path / "surfaces_1_all.deb",
        {
            "usr/share/doc/surfaces/copyright": text.encode(),
            "usr/share/walls/free1.png": cv2.imencode(".png", large)[1].tobytes(),
            "usr/share/walls/free2.png": cv2.imencode(".png", paler)[1].tobytes(),
            "usr/share/walls/free3.jpg": picture(seed=5, suffix=".jpg"),
        },
    )
    found = fetch(tmp_path / "out", files=[deb])
    assert [p.path[-5] for p in found] == ["1", "3"]
    assert (found[0].width, found[0].height) == (1152, 768)
    assert cv2.imread(str(tmp_path / "out" / found[0].file)).shape == (768, 1152, 3)


MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this"


def wheel(path: Path, files: dict[str, bytes], head: str = "Name: stones\nVersion: 2.1\n") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"stones-2.1.dist-info/METADATA": head.encode(), **files}.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("head", "files", "licence"),
    [
        ("License-Expression: MIT\n", {}, "MIT"),
        ("License: LICENSE.txt\n", {"stones-2.1.dist-info/LICENSE.txt": MIT.encode()}, "MIT"),
        ("License: GPL-3.0\n", {}, None),
        ("License: see homepage\n", {}, None),
        ("", {"stones-2.1.dist-info/licenses/COPYING": b"GNU General Public License"}, None),
    ],
)
def test_a_wheel_counts_as_what_it_declares_or_as_its_licence_file_says(
    head: str, files: dict[str, bytes], licence: str | None, tmp_path: Path
) -> None:
    head = "Name: stones\nVersion: 2.1\nAuthor: Di Example\n" + head
    found = fetch(
        tmp_path / "out",
        files=[wheel(tmp_path / "s.whl", {"stones/a.png": picture(), **files}, head)],
    )
    assert [p.licence for p in found] == ([licence] if licence else [])
    for photo in found:
        assert (photo.package, photo.version, photo.authors) == (
            "pypi:stones",
            "2.1",
            ("Di Example",),
        )
        assert photo.licence_from == "package"


def test_the_licence_file_nearest_to_an_image_outweighs_the_package(tmp_path: Path) -> None:
    head = "Name: stones\nVersion: 2.1\nLicense: MIT\n"
    files = {
        "stones/free/LICENSE.txt": b"Creative Commons Zero: CC0 1.0 Universal",
        "stones/free/deep/a.png": picture(seed=1),
        "stones/shared/LICENSE": b"Creative Commons Attribution-ShareAlike 4.0",
        "stones/shared/b.png": picture(seed=2),
        "stones/c.png": picture(seed=3),
    }
    found = fetch(tmp_path / "out", files=[wheel(tmp_path / "s.whl", files, head)])
    assert [(p.path, p.licence, p.licence_from) for p in found] == [
        ("stones/c.png", "MIT", "package"),
        ("stones/free/deep/a.png", "CC0-1.0", "licence file beside it"),
    ]


def test_npm_packages_and_source_archives_are_read(tmp_path: Path) -> None:
    head = {
        "name": "@walls/stone",
        "version": "0.3.0",
        "license": "CC-BY-4.0",
        "author": {"name": "Ed"},
    }
    for file, inner, content in (
        ("walls.tgz", "package/package.json", json.dumps(head)),
        (
            "walls-1.0.tar.gz",
            "walls-1.0/PKG-INFO",
            "Name: walls\nVersion: 1.0\nLicense: BSD-3-Clause\n",
        ),
    ):
        with tarfile.open(tmp_path / file, "w:gz") as tar:
            for name, data in (
                (inner, content.encode()),
                (inner.split("/")[0] + "/a.png", picture()),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
            link = tarfile.TarInfo(inner.split("/")[0] + "/link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
    first = fetch(tmp_path / "out", files=[tmp_path / "walls.tgz"])
    assert [(p.package, p.version, p.licence, p.authors) for p in first] == [
        ("npm:@walls/stone", "0.3.0", "CC-BY-4.0", ("Ed",))
    ]
    second = fetch(tmp_path / "out", files=[tmp_path / "walls-1.0.tar.gz"])
    assert [(p.package, p.licence) for p in second] == [("pypi:walls", "BSD-3-Clause")]


def test_of_a_package_that_was_looked_at_only_the_chosen_files_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = {
        "pypi:stones": [
            {"in": "stones", "files": ["wall*.png"]},
            {"in": "stones/said", "files": ["a.png"], "licence": "CC0-1.0", "authors": ["Flo"], "stated": "its notes"},
        ]
    }  # fmt: skip
    monkeypatch.setattr(fetching, "chosen", lambda: choices)
    head = "Name: stones\nVersion: 2.1\nLicense: MIT\n"
    files = {
        "stones/wall_nm.png": picture(seed=1),  # chosen by a person, so it shows what it should
        "stones/other.png": picture(seed=2),
        "stones/said/a.png": picture(seed=3),
    }
    whl = wheel(tmp_path / "s.whl", files, head)
    found = fetch(tmp_path / "out", files=[whl])
    assert [(p.path, p.licence, p.licence_from, p.authors) for p in found] == [
        ("stones/said/a.png", "CC0-1.0", "its notes", ("Flo",)),
        ("stones/wall_nm.png", "MIT", "package", ()),
    ]
    assert len(fetch(tmp_path / "out", files=[whl], every=True)) == 3


def test_every_choice_states_a_licence_that_may_be_trained_on_or_leaves_it_to_the_package() -> None:
    assert set(fetching.PACKAGES) == set(fetching.chosen())
    for package_name, choices in fetching.chosen().items():
        kind, _, name = package_name.rpartition(":")
        assert packages.re.fullmatch(packages._NAMES[kind or "deb"], name)
        for choice in choices:
            assert choice["files"]
            assert len(set(choice["files"])) == len(choice["files"])
            assert set(choice) <= {"in", "files", "licence", "authors", "stated"}
            if "licence" in choice:
                assert licences.FOR_TRAINING.fullmatch(choice["licence"])
                assert choice["authors"]
                assert choice["stated"]


def test_a_model_in_an_archive_is_credited_to_who_made_it(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as inner:
        inner.writestr("models/table/oak.png", picture())
        inner.writestr(
            "models/table/BLENDSWAP_LICENSE.txt",
            'Thank you for downloading "Table" by Gil Example\n',
        )
    text = COPYRIGHT.replace("walls/free*.jpg", "Furniture/*")
    deb = package(
        tmp_path / "furniture_1_all.deb",
        {
            "usr/share/doc/furniture/copyright": text.encode(),
            "usr/share/furniture/Furniture.sh3f": archive.getvalue(),
        },
    )
    (photo,) = fetch(tmp_path / "out", files=[deb])
    assert photo.authors == ('Gil Example ("Table")', "nobody")


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (MIT, "MIT"),
        (MIT + " … GNU General Public License", ""),
        ("Attribution-NonCommercial 4.0", ""),
        ("Apache License\n Version 2.0, January 2004", "Apache-2.0"),
        ("Redistribution and use in source and binary forms, with or without", "BSD-3-Clause"),
        ("All rights reserved.", ""),
    ],
)
def test_licences_are_recognised_by_their_words(text: str, licence: str) -> None:
    assert licence_of_text(text) == licence


def test_what_is_no_package_or_cannot_be_fetched_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_1_all.deb").write_bytes(b"something")
    with pytest.raises(ZsasError, match="cannot be read as a Debian package"):
        fetch(tmp_path / "out", files=[tmp_path / "a_1_all.deb"])
    with pytest.raises(ZsasError, match="no name of a Debian package"):
        fetch(tmp_path / "out", packages=["-o=evil"])
    (tmp_path / "a.whl").write_bytes(b"something")
    with pytest.raises(ZsasError, match="cannot be read as a package"):
        fetch(tmp_path / "out", files=[tmp_path / "a.whl"])
    with pytest.raises(ZsasError, match="its name ends in none of"):
        fetch(tmp_path / "out", files=[tmp_path / "a.rpm"])
    with zipfile.ZipFile(tmp_path / "b.whl", "w") as archive:
        archive.writestr("b/a.png", picture())
    with pytest.raises(ZsasError, match="none of METADATA"):
        fetch(tmp_path / "out", files=[tmp_path / "b.whl"])
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    for name in ("surfaces", "pypi:surfaces", "npm:@walls/surfaces"):
        with pytest.raises(ZsasError, match="give its file with --file"):
            fetch(tmp_path / "out", packages=[name])


@pytest.mark.parametrize(
    "name", ["pypi:--index-url=evil", "npm:../evil", "cargo:stones", "npm:git+ssh://evil"]
)
def test_what_a_client_could_read_as_something_else_than_a_name_is_refused(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(ZsasError, match="is no name of a"):
        fetch(tmp_path / "out", packages=[name])


def test_packages_are_fetched_with_each_registrys_own_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(
        command: list[str], cwd: Path, **_: object
    ) -> packages.subprocess.CompletedProcess[str]:
        asked.append(command[1:])
        if command[-1] == "stones":
            head = "Name: stones\nVersion: 2.1\nLicense: MIT\n"
            wheel(cwd / "stones-2.1.whl", {"stones/a.png": picture()}, head)
        return packages.subprocess.CompletedProcess(
            command, 1, "", "ERROR: nothing of that name.\n"
        )

    monkeypatch.setattr(packages.shutil, "which", lambda name: name)
    monkeypatch.setattr(packages.subprocess, "run", run)
    assert len(fetch(tmp_path / "out", packages=["pypi:stones"])) == 1
    for name in ("npm:@walls/none", "nothing"):
        with pytest.raises(ZsasError, match=r"cannot be fetched \(nothing of that name\)"):
            fetch(tmp_path / "out", packages=[name])
    assert "--only-binary=:all:" in asked[0]
    assert "--no-deps" in asked[0]
    assert asked[1] == ["pack", "--silent", "--ignore-scripts", "@walls/none"]
    assert asked[2] == ["download", "nothing"]
