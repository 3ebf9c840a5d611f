"""Packages of Debian, PyPI and npm: fetched with each one's own client, unpacked, their images listed."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tiny.photographs.licences import LICENCE_FILE
from zsas.errors import ZsasError, reason

IMAGES = {".png", ".jpg", ".jpeg", ".webp"}
ARCHIVES = {".pk3", ".pk4", ".sh3f", ".zip"}
SUFFIXES = (".deb", ".whl", ".tgz", ".tar.gz", ".zip")
_HEADS = {"copyright", "metadata", "pkg-info", "package.json"}

_NAMES = {
    "deb": r"[a-z0-9][a-z0-9+.-]+",
    "pypi": r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.+!]+)?",
    "npm": r"(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*(@[0-9A-Za-z.+-]+)?",
}
_REGISTRIES = {"deb": "Debian", "pypi": "PyPI", "npm": "npm"}


def download(package: str, folder: Path) -> Path:
    """Fetch a package's file with `apt-get download`, `pip download` or `npm pack`, none of which runs its code.

    Args:
        package: A Debian package's name, or `pypi:NAME[==VERSION]`, or `npm:NAME[@VERSION]`.
        folder: Empty folder to write to.

    Raises:
        ZsasError: If that is no name, the client is missing, or it does not find the package.
    """
    kind, _, name = package.rpartition(":")
    kind = kind or "deb"
    if kind not in _NAMES or not re.fullmatch(_NAMES[kind], name):
        raise ZsasError(
            f"{package!r} is no name of a {_REGISTRIES.get(kind, 'Debian')} package; names are NAME (Debian), "
            "pypi:NAME and npm:NAME."
        )
    client = {"deb": "apt-get", "pypi": sys.executable, "npm": "npm"}[kind]
    if shutil.which(client) is None:
        raise ZsasError(
            f"{client} is not here; get the package {name} elsewhere and give its file with --file."
        )
    command = {
        "deb": [client, "download", name],
        # Wheels alone: pip runs a source archive's code to read its metadata.
        "pypi": [
            client,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            name,
        ],
        "npm": [client, "pack", "--silent", "--ignore-scripts", name],
    }[kind]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    files = [file for file in sorted(folder.iterdir()) if file.name.endswith(SUFFIXES)]
    if not files:
        lines = [
            line
            for line in done.stderr.splitlines()
            if re.match(r"E:|ERROR:|npm (ERR!|error)", line)
        ]
        why = (
            re.sub(r"^(E:|ERROR:|npm (ERR!|error))\s*", "", lines[0]).rstrip(".")
            if lines
            else "no file came"
        )
        hint = "; try `apt-get update`" if kind == "deb" else ""
        raise ZsasError(f"The package {name} cannot be fetched ({why}){hint}.")
    return files[0]


def unpack(package: Path, root: Path) -> None:
    """Unpack what is wanted of a package's files: images, archives that may hold some, licences.

    Args:
        package: A .deb (an `ar` archive whose member data.tar.* holds the files), .whl, .zip, .tgz or .tar.gz.
        root: Empty folder to write to.

    Raises:
        ZsasError: If the file is no package.
    """
    try:
        if package.suffix in {".whl", ".zip"}:
            with zipfile.ZipFile(package) as archive:
                for name in archive.namelist():
                    if _is_wanted(name):
                        archive.extract(name, root)
        elif package.suffix == ".deb":
            _unpack_deb(package, root)
        else:
            with tarfile.open(package) as tar:
                _extract(tar, root)
    except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        kind = "a Debian package" if package.suffix == ".deb" else "a package"
        raise ZsasError(f"{package} cannot be read as {kind} ({reason(error)}).") from None


def _unpack_deb(package: Path, root: Path) -> None:
    with package.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise ValueError("it is no ar archive")
        while header := file.read(60):
            name, length = header[:16].decode().strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                with tarfile.open(fileobj=file, mode="r|*") as tar:
                    _extract(tar, root)
                return
            file.seek(length + length % 2, io.SEEK_CUR)
    raise ValueError("it has no data.tar")


def _extract(tar: tarfile.TarFile, root: Path) -> None:
    for member in tar:
        if member.isfile() and _is_wanted(member.name):
            tar.extract(member, root, filter="data")


def _is_wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        path.suffix.lower() in IMAGES | ARCHIVES
        or path.name.lower() in _HEADS
        or LICENCE_FILE.fullmatch(path.name) is not None
    )


def images(root: Path) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of all images of an unpacked package, also those in archives: `ARCHIVE!PATH`."""
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        inner = file.relative_to(root).as_posix()
        if file.suffix.lower() in ARCHIVES and zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for name in sorted(archive.namelist()):
                    if PurePosixPath(name).suffix.lower() in IMAGES:
                        yield f"{inner}!{name}", archive.read(name)
        elif file.suffix.lower() in IMAGES:
            yield inner, file.read_bytes()


def maker(root: Path, path: str) -> tuple[str, ...]:
    """Who made a model whose archive keeps a note beside its images, as BlendSwap does: `"TITLE" by NAME`."""
    archive, _, inner = path.rpartition("!")
    if not archive:
        return ()
    folder = inner.rpartition("/")[0]
    with zipfile.ZipFile(root / archive) as notes:
        for name in notes.namelist():
            if name.startswith(f"{folder}/") and name.upper().endswith("LICENSE.TXT"):
                found = re.search(
                    r'downloading "(.+)" by (.+)', notes.read(name).decode("utf-8", "replace")
                )
                return (f'{found[2].strip()} ("{found[1].strip()}")',) if found else ()
    return ()
