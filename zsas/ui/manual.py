"""The documentation as pages of the server: the files that come with the package, made into HTML when asked for."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from html import escape
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDER = next(
    (place for place in (_PACKAGE / "manual", _PACKAGE.parent / "docs") if place.is_dir()),
    _PACKAGE / "manual",
)
"""The documentation: inside an installed package, beside the package in a clone."""
FIRST = (
    *("results", "references", "parts", "systems", "settings", "models", "http", "embedding"),
    *("install", "line", "space", "scale", "method", "architecture", "benchmark"),
)
"""Pages by how many people need them; the others follow in the order of their names."""
LAST = "licences"
PICTURES = (".png",)


def names() -> list[str]:
    """The pages that are there, without their endings, in the order of the list of contents."""
    there = sorted(file.stem for file in FOLDER.glob("*.md"))
    known = [name for name in FIRST if name in there]
    rest = [name for name in there if name not in (*FIRST, LAST)]
    return [*known, *rest, *([LAST] if LAST in there else [])]


def contents() -> str:
    """The list of all pages, each with its title and first sentence, as a page of HTML."""
    rows = []
    for name in names():
        title, sentence = _begins((FOLDER / f"{name}.md").read_text(encoding="utf-8"))
        rows.append(
            f'<li><a href="{name}.md">{escape(title)}</a><br><small>{escape(sentence)}</small></li>'
        )
    body = f"<h1>Documentation</h1><ul class='list'>{''.join(rows)}</ul>"
    return _whole("Documentation", body)


@functools.cache
def page(name: str) -> str | None:
    """One page of HTML by its file's name, `results.md`; None where there is none."""
    if name not in {f"{one}.md" for one in names()}:
        return None
    from markdown_it import MarkdownIt

    text = (FOLDER / name).read_text(encoding="utf-8")
    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = reader.parse(text)
    _name_headings(tokens)
    for token in tokens:
        token.children = _reachable(token.children or []) if token.children else token.children
    body = reader.renderer.render(tokens, reader.options, {})
    # What may be wider than the window is scrolled with the keyboard as well.
    body = body.replace("<pre>", '<pre tabindex="0">').replace("</table>", "</table></div>")
    body = body.replace("<table>", '<div class="wide" tabindex="0"><table>')
    return _whole(_begins(text)[0], body)


def picture(name: str) -> Path | None:
    """A picture that a page shows; None where there is none."""
    path = FOLDER / name
    good = re.fullmatch(r"[\w-]+\.\w+", name) and path.suffix in PICTURES and path.is_file()
    return path if good else None


def slug(title: str) -> str:
    """The anchor of a heading, as the documentation's own links have it."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def _begins(text: str) -> tuple[str, str]:
    """Title and first sentence of a page, as plain text."""
    title = re.search(r"^# (.+)$", text, re.M)
    after = text[title.end() :] if title else text
    pieces = (piece.strip("\n") for piece in after.split("\n\n"))
    paragraph = next((piece for piece in pieces if re.match(r"[A-Z“*\[]|`\w", piece)), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
    plain = re.sub(r"[`*]", "", plain)
    sentence = re.split(r"(?<=[.!?])\s", plain)[0]
    return (title[1] if title else "").replace("`", ""), sentence


def _name_headings(tokens: Sequence[Token]) -> None:
    for opened, inside in pairwise(tokens):
        if opened.type == "heading_open":
            opened.attrSet("id", slug(inside.content.replace("`", "")))


def _reachable(tokens: Sequence[Token]) -> list[Token]:
    """A line without links to files, and without pictures, that only a clone of the repository has."""
    found, dropped = [], False
    for token in tokens:
        if token.type == "link_open":
            dropped = not _there(str(token.attrGet("href")))
            if dropped:
                continue
        elif token.type == "link_close" and dropped:
            dropped = False
            continue
        elif token.type == "image" and picture(str(token.attrGet("src"))) is None:
            continue
        found.append(token)
    return found


def _there(address: str) -> bool:
    name = address.split("#")[0]
    if address.startswith(("https://", "http://", "#")):
        return True
    return name.removesuffix(".md") in names() or picture(name) is not None


def _whole(title: str, body: str) -> str:
    template = (Path(__file__).parent / "static" / "manual.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(title), body=body)


# What the foot of the page links to.


def links() -> tuple[tuple[str, str], ...]:
    """Addresses and titles of the page's foot; those without a scheme are on this server, and all lead somewhere.

    Whoever runs the page may name other addresses in the environment; on a Space its own files are the repository.
    """
    repository = _named("ZSAS_REPOSITORY_URL") or _of_the_space() or _of_the_package()
    return (
        (_named("ZSAS_DOCS_URL") or "zsas/docs/", "Docs"),
        ("api/v1/docs", "For programs"),
        ("https://arxiv.org/abs/2510.11028", "Paper"),
        (repository, "Repository")
        if repository
        else ("zsas/docs/architecture.md", "How it is built"),
        ("zsas/docs/licences.md", "Licences"),
    )


def _named(variable: str) -> str:
    """An address from the environment, "" where it is none."""
    address = os.environ.get(variable, "")
    return address if address.startswith(("https://", "http://")) else ""


def _of_the_space() -> str:
    space = os.environ.get("SPACE_ID", "")
    return (
        f"https://huggingface.co/spaces/{space}/tree/main"
        if re.fullmatch(r"[\w.-]+/[\w.-]+", space)
        else ""
    )


def _of_the_package() -> str:
    """What the package's own metadata calls its repository, "" where nothing."""
    try:
        urls = metadata.metadata("zsas").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return ""
    named = dict(line.split(", ", 1) for line in urls if ", " in line)
    return next((named[name] for name in ("Repository", "Source") if name in named), "")
