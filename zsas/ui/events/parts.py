"""Good parts to compare with: add, take away."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from zsas.errors import ZsasError
from zsas.memory import MOST
from zsas.ui.drawing import ROOT
from zsas.ui.events.image import decide, show_settings
from zsas.ui.events.site import Site, action
from zsas.ui.upload import load_upload, uploaded
from zsas.ui.visitor import Visitor

MOST_SENTENCES = 3
"""Files beyond these that cannot be read are counted and not named."""


@action
def add_parts(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Take uploads as images of good parts: {paths}; those that cannot be read are named, and the others count."""
    found, refused = [], []
    for path in [uploaded(path) for path in data.get("paths", ())]:
        try:
            found.append((site.engine.keep_image(load_upload(path), path), Path(path).stem))
        except ZsasError as error:
            refused.append(str(error))
    if refused and not found:
        raise ZsasError(" ".join(refused[:MOST_SENTENCES]))
    _add(site, visitor, found)
    if refused:
        more = f" And {len(refused) - MOST_SENTENCES} more." * (len(refused) > MOST_SENTENCES)
        sentences = " ".join(refused[:MOST_SENTENCES])
        visitor.show({"failure": f"Left out of the good parts: {sentences}{more}"})


@action
def add_this(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Take the image that is shown as a good part, for the others."""
    if not visitor.view.image:
        raise ZsasError("Open a photo first.")
    _add(site, visitor, [(visitor.view.image, visitor.view.name)])


def _add(site: Site, visitor: Visitor, found: list[tuple[str, str]]) -> None:
    parts = dict((*visitor.parts, *found))
    if len(parts) > MOST:
        raise ZsasError(f"At most {MOST} good parts are compared with; take one away first.")
    _turn_to(site, visitor, tuple(parts.items()))


@action
def drop_part(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Take a good part away: {key}."""
    key = data.get("key")
    _turn_to(site, visitor, tuple(part for part in visitor.parts if part[0] != key))


def _turn_to(site: Site, visitor: Visitor, parts: tuple[tuple[str, str], ...]) -> None:
    with visitor.lock:
        if visitor.parts == parts:
            return
        visitor.parts = parts
        visitor.show({"zs-parts": shown(parts)})
        if visitor.limit_found is not None:
            visitor.limit_found = None
            show_settings(visitor)
    decide(site, visitor)


def shown(parts: tuple[tuple[str, str], ...]) -> str:
    """The good parts as small pictures that can be taken away."""
    return "".join(
        f'<li><img src="{ROOT}image/{key}.jpg" alt="{escape(name)}" width="48" height="48">'
        f'<button type="button" class="zs-x" data-do="drop_part" data-key="{key}" '
        f'aria-label="Take away the good part {escape(name)}">✕</button></li>'
        for key, name in parts
    )
