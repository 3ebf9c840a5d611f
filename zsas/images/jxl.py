"""JPEG XL, read by imagecodecs; its size and codec are told from the header."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zsas.extras import require
from zsas.images.content import Content, unreadable
from zsas.images.raster import Raster, ReadOptions, check_page, check_size, not_read, without_alpha


@dataclass(frozen=True)
class _Header:
    """What the header says; `lossy` is whether the codec may change values, False only where that is sure."""

    height: int
    width: int
    lossy: bool
    bits: int


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`.

    Raises:
        ZsasError: If it is damaged, too large, or of a kind that is not read.
    """
    require("images")
    import imagecodecs

    name, data = content.name, content.read()
    header = _header(_codestream(data), name)
    check_size(header.height, header.width, options.max_pixels, name)
    values: Any = imagecodecs.jpegxl_decode(data)
    pages = _frames(values)
    check_page(options.page, pages, name)
    if pages > 1:
        values = values[max(1, options.page) - 1]
    values, alpha = without_alpha(values)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise not_read(name, f"has the shape {values.shape}")
    kind = values.dtype
    # libjxl gives the values of the file, not stretched to the bits of their type.
    bits = min(header.bits, 8 * kind.itemsize)
    white = 2**bits - 1 if kind.kind == "u" else None
    return Raster(
        values,
        "grey" if values.ndim == 2 else "rgb",
        white,
        "JPEG XL",
        bits,
        declared=bits != 16,
        alpha=alpha,
        alpha_white=white or 1,
        lossy=header.lossy,
        pages=pages,
        page=max(1, options.page),
    )


def count(content: Content) -> int:
    """How many frames there are; they are counted by decoding them."""
    return decode(content, ReadOptions()).pages


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width by the header.

    Raises:
        ZsasError: If there is none.
    """
    header = _header(_codestream(data), "")
    return header.height, header.width


def _frames(values: Any) -> int:
    """Of (frames, H, W, channels); a still image has one axis less."""
    return int(values.shape[0]) if values.ndim == 4 else 1


def _codestream(data: bytes) -> bytes:
    """The beginning of the codestream, out of its container if it is in one."""
    if data[:2] == b"\xff\x0a":
        return data[:64]
    at = 0
    while at + 8 <= len(data):
        size, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if kind == b"jxlc":
            return data[at + header : at + header + 64]
        if kind == b"jxlp":
            return data[at + header + 4 : at + header + 68]
        if size < header:
            break
        at += size
    return b""


def _header(stream: bytes, name: str) -> _Header:
    """ISO/IEC 18181-1, SizeHeader and ImageMetadata."""
    if len(stream) < 4:
        raise unreadable(name)
    take = _Bits(stream[2:])
    height, width = _size(take)
    if take(1):  # all by default: 8 bits, and XYB, which is lossy
        return _Header(height, width, True, 8)
    lossy = False
    if take(1):  # orientation, true size, preview, animation
        lossy = True
        take(3)
        if take(1):
            _size(take)
        if take(1):
            _preview(take)
        if take(1):
            _animation(take)
    if take(1):  # float samples
        return _Header(height, width, True, take.choice(32, 16, 24, (1, 6)))
    bits = take.choice(8, 10, 12, (1, 6))
    take(1)  # modular with 16 bits
    extra = take(2)
    if extra > 1 or (extra == 1 and not take(1)):  # more than one plain alpha channel
        return _Header(height, width, True, bits)
    return _Header(height, width, lossy or bool(take(1)), bits)


class _Bits:
    """Bits of a stream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._at = int.from_bytes(data, "little"), 0

    def __call__(self, count: int) -> int:
        value = self._bits >> self._at & ((1 << count) - 1)
        self._at += count
        return value

    def choice(self, *choices: int | tuple[int, int]) -> int:
        """One of four numbers; (n, k) is n more than the next k bits."""
        chosen = choices[self(2)]
        return chosen if isinstance(chosen, int) else chosen[0] + self(chosen[1])


def _size(take: _Bits) -> tuple[int, int]:
    """Height and width by a SizeHeader."""
    small = take(1)

    def length() -> int:
        return 8 * (take(5) + 1) if small else take.choice((1, 9), (1, 13), (1, 18), (1, 30))

    height = length()
    return height, _width(take, height, length)


def _width(take: _Bits, height: int, length: Callable[[], int]) -> int:
    ratio = take(3)
    if not ratio:
        return length()
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * over // under


def _preview(take: _Bits) -> None:
    eighths = take(1)

    def length() -> int:
        if eighths:
            return 8 * take.choice(16, 32, (1, 5), (33, 9))
        return take.choice((1, 6), (65, 8), (321, 10), (1345, 12))

    _width(take, length(), length)


def _animation(take: _Bits) -> None:
    take.choice(100, 1000, (1, 10), (1, 30))  # ticks in a second
    take.choice(1, 1001, (1, 8), (1, 10))
    take.choice(0, (0, 3), (0, 16), (0, 32))  # loops
    take(1)  # time codes
