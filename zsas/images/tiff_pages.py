"""Which pages of a TIFF are images of their own, and which are smaller copies or masks of others."""

from __future__ import annotations

import struct
from typing import Any

from zsas.images.raster import damaged

_LOOKED_AT = 2000
"""Pages whose kind is looked at; those behind are counted as full images."""


def full_images(tif: Any, name: str) -> list[Any]:
    """The pages that are images of their own: their numbers, or pages out of sub-IFDs.

    Where the first is a smaller copy, the full image may be in its sub-IFDs, as cameras write it.
    """
    number = len(tif.pages)
    if not number:
        raise damaged(name)
    kinds = _kinds(tif)
    if len(kinds) == number:
        full: list[Any] = [i for i, aside in enumerate(kinds) if not aside]
    else:  # pages that no directory of the file describes, as ImageJ writes them
        full = [i for i in range(number) if i >= _LOOKED_AT or not _is_aside(tif.pages[i])]
    first = tif.pages[0]
    if first.is_reduced and first.subifds:
        full = [page for page in first.pages or () if not _is_aside(page)] + full
    return full or [0]


def _kinds(tif: Any) -> list[bool]:
    """For each directory of the file whether it says that it is a smaller copy or a mask; see `_is_aside`.

    Only three tags are read, so that a stack of thousands of pages takes no time.
    """
    stream, sizes = tif.filehandle, tif.tiff
    kinds: list[bool] = []
    seen: set[int] = set()
    stream.seek(
        sizes.offsetsize
    )  # where the header names the first directory, in both kinds of TIFF
    while len(kinds) < 1_000_000:
        text = stream.read(sizes.offsetsize)
        if len(text) < sizes.offsetsize:
            break
        (offset,) = struct.unpack(sizes.offsetformat, text)
        if not offset or offset in seen:
            break
        seen.add(offset)
        stream.seek(offset)
        text = stream.read(sizes.tagnosize)
        if len(text) < sizes.tagnosize:
            break
        (number,) = struct.unpack(sizes.tagnoformat, text)
        if number > 4096:
            break
        entries = stream.read(number * sizes.tagsize)
        found = {254: 0, 255: 0, 262: 1}
        for at in range(0, len(entries) - sizes.tagsize + 1, sizes.tagsize):
            code, kind = struct.unpack_from(sizes.byteorder + "HH", entries, at)
            if code in found and kind in (3, 4):
                value_at = at + sizes.tagsize - sizes.offsetsize
                form = sizes.byteorder + ("H" if kind == 3 else "I")
                (found[code],) = struct.unpack_from(form, entries, value_at)
        kinds.append(bool(found[254] & 0b101) or found[255] == 2 or found[262] == 4)
    return kinds


def _is_aside(page: Any) -> bool:
    """Whether a page says that it is a smaller copy or a transparency mask of another."""
    old = page.tags.valueof(255)
    return bool(page.is_reduced or page.is_mask or page.photometric == 4 or old == 2)


def orientation_of(page: Any) -> int:
    """The orientation tag, 1 where it is missing."""
    value = page.tags.valueof(274, 1)
    return int(value) if isinstance(value, int) else 1
