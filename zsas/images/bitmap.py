"""BMP and TGA headers: what Pillow takes for something else is refused, or put in a form that it reads right."""

from __future__ import annotations

import numpy as np

from zsas.images.raster import Raster, damaged, not_read

_MOST_PACKED = 4_000_000
"""Bytes of a bitmap in run lengths, which Pillow decodes step by step."""


def check_bmp(data: bytes, name: str) -> None:
    """Refuse a bitmap whose palette is too long, or whose pixels begin before its header and palette end.

    Raises:
        ZsasError: See above.
    """
    size, bits, packing = (int.from_bytes(data[at : at + 2], "little") for at in (14, 28, 30))
    if packing in (1, 2) and len(data) > _MOST_PACKED:
        raise not_read(name, "is a bitmap in run lengths of more than 4 MB", "save it as PNG")
    if data[:2] != b"BM" or size < 40:
        return
    if packing in (4, 5):
        raise not_read(name, f"is a bitmap that holds a {('JPEG', 'PNG')[packing - 4]} file")
    colours = (int.from_bytes(data[46:50], "little") or 2**bits) if bits <= 8 else 0
    begin = int.from_bytes(data[10:14], "little")
    if (bits <= 8 and colours > 2**bits) or begin < 14 + size + 4 * colours:
        raise damaged(name)


def two_colours(data: bytes) -> int:
    """Where the white of a palette of black and white begins, in a bitmap of 4 or 8 bits; 0 where there is none.

    Pillow takes such an image for one of 1 bit and scrambles it, unless the white is not quite white.
    """
    start = 14 if data[:2] == b"BM" else 0
    size, bits = (int.from_bytes(data[at : at + 2], "little") for at in (start, start + 14))
    colours = int.from_bytes(data[start + 32 : start + 36], "little")
    masks = 12 if size == 40 and data[start + 16 : start + 17] == b"\3" else 0
    entries = start + size + masks
    if size < 40 or bits not in (4, 8) or colours != 2:
        return 0
    is_grey = data[entries : entries + 3] + data[entries + 4 : entries + 7] == b"\0\0\0\xff\xff\xff"
    return entries + 4 if is_grey else 0


def prepared_tga(data: bytes, name: str) -> bytes:
    """The same picture with pixels of 15 bits called 16, a colour map of 24 bits, and none where none is used.

    Raises:
        ZsasError: If the colour map is cut off, or of a depth that is not read.
    """
    if len(data) < 18:
        return data
    head = bytearray(data[:18])
    if head[16] == 15:
        head[16], head[17] = 16, head[17] & 0xF0
    at = 18 + head[0]
    if not head[1]:
        return bytes(head) + data[18:]
    number, bits = int.from_bytes(head[5:7], "little"), head[7]
    if bits not in (15, 16, 24, 32):
        raise not_read(name, f"has a colour map of {bits} bits")
    size = number * ((bits + 7) // 8)
    entries = data[at : at + size]
    if len(entries) < size:
        raise damaged(name)
    if head[2] not in (1, 9):
        head[1], head[3:8], entries = 0, bytes(5), b""
    elif bits == 32:
        entries, head[7] = np.frombuffer(entries, np.uint8).reshape(-1, 4)[:, :3].tobytes(), 24
    elif bits < 24:
        fives = np.frombuffer(entries, "<u2")[:, None] >> np.array([0, 5, 10], np.uint16) & 31
        entries, head[7] = ((fives * 255 + 15) // 31).astype(np.uint8).tobytes(), 24
    return bytes(head) + data[18:at] + entries + data[at + size :]


def set_tga_alpha(raster: Raster, data: bytes) -> None:
    """Drop or re-read what a TGA's header or extension area says is no alpha."""
    if raster.alpha is None:
        return
    declared = data[17] & 0x0F
    kind = 3
    if data[-18:] == b"TRUEVISION-XFILE.\0":
        extension = int.from_bytes(data[-26:-22], "little")
        if extension and extension + 494 < len(data):
            kind = data[extension + 494]
    if not declared or kind in (0, 1, 2):
        raster.alpha = None
    elif kind == 4:
        raster.premultiplied = True
