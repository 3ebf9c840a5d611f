"""Under what a package's files are: copyright files of Debian, licence files beside images, what a package declares."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from zsas.errors import ZsasError

FOR_TRAINING = re.compile(
    r"public-domain|pd|cc0(-1\.0)?|expat|mit|unlicense|apache-2\.0|bsd-[23]-clause|zlib|cc-by-[1234]\.[05](-usa?)?",
    re.I,
)
FOR_STATISTICS = re.compile(r"(l?gpl-[123](\.\d)?\+?|cc-by-sa-[234]\.[05])", re.I)

LICENCE_FILE = re.compile(r"(licen[cs]e|copying)([._-].*)?", re.I)

_TEXTS = (
    ("", re.compile(r"gnu\s+(lesser|affero|library)?\s*general\s+public|share-?\s?alike|non-?commercial", re.I)),
    ("CC0-1.0", re.compile(r"CC0 1\.0|creative commons zero", re.I)),
    ("CC-BY-4.0", re.compile(r"creative commons attribution 4\.0|creativecommons\.org/licenses/by/4\.0", re.I)),
    ("CC-BY-3.0", re.compile(r"creative commons attribution 3\.0|creativecommons\.org/licenses/by/3\.0", re.I)),
    ("Apache-2.0", re.compile(r"apache license,?\s+version 2\.0", re.I)),
    ("MIT", re.compile(r"permission is hereby granted, free of charge, to any person obtaining", re.I)),
    ("BSD-3-Clause", re.compile(r"redistribution and use in source and binary forms", re.I)),
    ("Zlib", re.compile(r"provided 'as-is', without any express or implied\s+warranty", re.I)),
    ("Unlicense", re.compile(r"free and unencumbered software released into the public domain", re.I)),
)  # fmt: skip
"""What a licence's text says, first what rules it out."""


@dataclass(frozen=True)
class Stanza:
    """Which files, whose, under what: a paragraph of a copyright file, or what a package declares for all of it."""

    patterns: tuple[str, ...]
    licence: str
    authors: tuple[str, ...]


def stanzas(text: str) -> tuple[str, list[Stanza]]:
    """Source and file stanzas of a Debian package's copyright file.

    The format is https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/.

    Raises:
        ZsasError: If it is not in Debian's machine-readable format.
    """
    source, found = "", []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        fields = _fields(paragraph)
        source = source or (fields.get("source", "").strip().splitlines() or [""])[0].strip()
        if "files" in fields and "license" in fields:
            found.append(
                Stanza(
                    tuple(fields["files"].split()),
                    (fields["license"].strip().splitlines() or [""])[0].strip(),
                    _lines(fields.get("copyright", "")),
                )
            )
    if not found or "copyright-format" not in text[:400]:
        raise ZsasError(
            "The package's copyright file does not list its files in Debian's machine-readable format, so their "
            "licences are unknown; choose another package."
        )
    return source, found


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _fields(paragraph: str) -> dict[str, str]:
    """`Name: value` with continuation lines, names in small letters."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        match = re.match(r"([A-Za-z-]+):(.*)", line)
        if match:
            name = match[1].lower()
            fields[name] = match[2].strip()
        elif name and line[:1] in (" ", "\t"):
            fields[name] += "\n" + line.strip()
    return fields


def stanza_of(path: str, listed: Sequence[Stanza]) -> Stanza | None:
    """The last stanza that names a file; one that names all files (`*`) does not count.

    Stanzas name files as they lie in the source package, other folders above them than in the installed one: a folder
    and the name must agree at least.
    """
    parts = path.split("/")
    tails = ["/".join(parts[i:]) for i in range(len(parts) - 1)]
    chosen = None
    for stanza in listed:
        for pattern in stanza.patterns:
            if pattern != "*" and any(
                fnmatch.fnmatchcase(tail, pattern) or pattern.endswith(f"/{tail}") for tail in tails
            ):
                chosen = stanza
    return chosen


def declared(root: Path) -> tuple[str, str, str, Stanza]:
    """Name, version, source and licence that an unpacked wheel, source archive or npm package declares for all of it.

    A declaration that is no short name of a licence is looked up in the licence's text.

    Raises:
        ZsasError: If it holds none of METADATA, PKG-INFO and package.json.
    """
    for pattern in ("*.dist-info/METADATA", "*/PKG-INFO", "package/package.json"):
        for file in sorted(root.glob(pattern)):
            read = _npm if file.suffix == ".json" else _python
            name, version, source, licence, authors = read(file)
            if not (FOR_TRAINING.fullmatch(licence) or FOR_STATISTICS.fullmatch(licence)):
                texts = (
                    sorted(file.parent.rglob("*"))
                    if file.suffix != ".json"
                    else sorted(file.parent.iterdir())
                )
                licence = next(
                    (named for text in texts if (named := licence_of_file(text)) is not None),
                    licence,
                )
            return name, version, source, Stanza(("*",), licence, authors)
    raise ZsasError(
        "It holds none of METADATA, PKG-INFO and package.json, so its licence is unknown."
    )


def _python(file: Path) -> tuple[str, str, str, str, tuple[str, ...]]:
    head = HeaderParser().parsestr(file.read_text(encoding="utf-8", errors="replace"))
    licence = str(head.get("License-Expression") or head.get("License") or "").strip()
    authors = tuple(str(head[key]) for key in ("Author", "Author-email") if head.get(key))[:1]
    source = str(head.get("Home-page") or "PyPI")
    return str(head.get("Name", "")), str(head.get("Version", "")), source, licence, authors


def _npm(file: Path) -> tuple[str, str, str, str, tuple[str, ...]]:
    head = json.loads(file.read_text(encoding="utf-8"))
    author = head.get("author") or ""
    author = author.get("name", "") if isinstance(author, dict) else str(author)
    licence = head.get("license") or ""
    licence = licence.get("type", "") if isinstance(licence, dict) else str(licence)
    source = str(head.get("homepage") or "npm")
    return (
        str(head.get("name", "")),
        str(head.get("version", "")),
        source,
        licence,
        (author,) if author else (),
    )


def licence_of_file(file: Path) -> str | None:
    """Short name of the licence that a licence file holds the text of, "" if unknown; None if it is no licence file."""
    if not (file.is_file() and LICENCE_FILE.fullmatch(file.name)):
        return None
    return licence_of_text(file.read_text(encoding="utf-8", errors="replace"))


def licence_of_text(text: str) -> str:
    """Short name of the licence that a text holds; "" if it holds several families or none known."""
    return next((name for name, said in _TEXTS if said.search(text)), "")


def nearest(root: Path, path: str, whole: Stanza) -> Stanza | None:
    """A file's licence: that of the licence file in the nearest folder above it, else the whole package's.

    None where that nearest licence file cannot be recognised.
    """
    for folder in list(PurePosixPath(path).parents)[:-1]:
        for file in sorted((root / folder).iterdir()) if (root / folder).is_dir() else ():
            licence = licence_of_file(file)
            if licence is not None:
                return Stanza((f"{folder}/*",), licence, whole.authors) if licence else None
    return whole
