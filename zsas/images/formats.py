"""The one table of formats: how a file is recognised, who reads it, and which suffixes it has.

Files are recognised by their content, never by their suffix, and only what stands here is opened, so that no file can
start a foreign program (as an EPS file would).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: What people call it.
        reader: Module of `zsas.images` that reads it; "" for what is known and not read.
        begins: Whether a file's first bytes (at least 1024 where there are as many) are of this format.
        pillow: Pillow's names for it; their suffixes are Pillow's.
        suffixes: More suffixes.
        what: What such a file is, behind its name in a sentence; "" for "is a file of the format ...".
        instead: What to do with a file that is not read.
    """

    name: str
    reader: str
    begins: Callable[[bytes], object]
    pillow: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    what: str = ""
    instead: str = "save it as PNG or TIFF"


def _starts(*magics: bytes) -> Callable[[bytes], object]:
    return lambda head: head.startswith(magics)


def _brand(*brands: bytes) -> Callable[[bytes], object]:
    """An ISO base media file (`ftyp`) of one of these brands; the first that is known decides."""
    return lambda head: (
        head[4:8] == b"ftyp"
        and any(
            head[at : at + 4] in brands
            for at in (8, *range(16, min(int.from_bytes(head[:4], "big"), 128), 4))
        )
    )


def _is_dib(head: bytes) -> bool:
    """A bitmap without the file header: the size of a known header, and one plane."""
    size = int.from_bytes(head[:4], "little")
    return (size in (40, 52, 56, 64, 108, 124) and head[12:14] == b"\1\0") or (
        size == 12 and head[8:10] == b"\1\0"
    )


def _is_tga(head: bytes) -> bool:
    """TGA has no mark at its beginning: a known type, depth and colour map."""
    if len(head) < 18:
        return False
    mapped, kind, depth = head[1], head[2], head[16]
    known = (mapped, kind) in ((1, 1), (1, 9), (0, 2), (0, 10), (1, 2), (1, 10), (0, 3), (0, 11))
    return known and depth in (1, 8, 15, 16, 24, 32) and not head[17] & 0xC0


def _is_bare_dicom(head: bytes) -> bool:
    """DICOM without preamble: begins with one of the elements that can stand first, of a length that it can have."""
    group, element = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    first = {2: (0,), 8: (0, 1, 5, 8, 0x12, 0x16, 0x18), 0x28: (2, 4)}.get(group, ())
    if element not in first:
        return False
    explicit = head[4:6] in (b"UL", b"CS", b"UI", b"DA", b"US")
    most = 2 if (group, element) == (0x28, 2) else 256  # the same bytes can begin a TGA
    return explicit or 0 < int.from_bytes(head[4:8], "little") <= most


_TIFF = _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_RAW_SUFFIXES = (
    *(".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng", ".orf", ".rw2"),
    *(".raf", ".pef", ".srw", ".x3f", ".3fr", ".fff", ".iiq", ".mrw", ".erf", ".kdc", ".rwl"),
)

FORMATS = (
    Format("PNG", "pillow", _starts(b"\x89PNG\r\n\x1a\n"), ("PNG",)),
    Format("JPEG", "jpeg", _starts(b"\xff\xd8\xff"), ("JPEG", "MPO"), (".jls",)),
    Format(
        "camera raw",
        "raw",
        lambda head: (
            (_TIFF(head) and head[8:10] == b"CR")
            or head.startswith(
                (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM")
            )
            or head[6:14] == b"HEAPCCDR"
            or _brand(b"crx ")(head)
        ),
        suffixes=_RAW_SUFFIXES,
    ),
    Format(
        "TIFF", "tiff", _TIFF, ("TIFF",), (".btf", ".tf8", ".bigtiff", ".lsm", ".svs", ".qptiff")
    ),
    Format("BMP", "pillow", _starts(b"BM"), ("BMP",)),
    Format("WebP", "pillow", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", ("WEBP",)),
    Format("GIF", "pillow", _starts(b"GIF87a", b"GIF89a"), ("GIF",)),
    Format("AVIF", "pillow", _brand(b"avif", b"avis"), ("AVIF",)),
    Format(
        "HEIC",
        "heif",
        _brand(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
        suffixes=(".heic", ".heics", ".heif", ".heifs", ".hif"),
    ),
    Format(
        "JPEG 2000",
        "jpeg2000",
        _starts(b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("JPEG2000",),
    ),
    Format(
        "JPEG XL",
        "jxl",
        _starts(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
        suffixes=(".jxl",),
    ),
    Format(
        "Netpbm",
        "netpbm",
        lambda head: re.match(rb"P([1-7]|[Ff])[\s#]", head),
        ("PPM",),
        (".pam", ".pfm"),
    ),
    Format(
        "DICOM",
        "dicom",
        lambda head: head[128:132] == b"DICM" or _is_bare_dicom(head),
        suffixes=(".dcm", ".dicom", ".dic", ".dcn"),
    ),
    # Known, so that nobody reads that a complete file was damaged.
    Format("Photoshop", "", _starts(b"8BPS"), suffixes=(".psd", ".psb")),
    Format("JPEG XR", "", _starts(b"II\xbc"), suffixes=(".jxr", ".wdp", ".hdp")),
    Format("OpenEXR", "", _starts(b"v/1\x01"), suffixes=(".exr",)),
    Format("Radiance HDR", "", _starts(b"#?RADIANCE", b"#?RGBE"), suffixes=(".hdr",)),
    Format("DDS", "", _starts(b"DDS "), suffixes=(".dds",)),
    Format("QOI", "", _starts(b"qoif"), suffixes=(".qoi",)),
    Format(
        "FITS",
        "",
        lambda head: re.match(rb"SIMPLE  = +T", head),
        suffixes=(".fits", ".fit", ".fts"),
    ),
    Format(
        "icon",
        "",
        # An uncompressed TGA begins with the same four bytes as a cursor; its fifth and sixth are 0.
        lambda head: (
            head[:4] == b"icns"
            or (head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and any(head[4:6]) and head[9:10] == b"\0")
        ),
        suffixes=(".ico", ".cur", ".icns"),
    ),
    Format(
        "PCX",
        "",
        lambda head: re.match(rb"\n[\x00\x02-\x05]\x01[\x01\x02\x04\x08]", head),
        suffixes=(".pcx",),
    ),
    Format(
        "SGI", "", lambda head: re.match(rb"\x01\xda[\x00\x01][\x01\x02]", head), suffixes=(".sgi",)
    ),
    Format("PostScript", "", _starts(b"%!PS", b"\xc5\xd0\xd3\xc6"), suffixes=(".eps",)),
    Format("PDF", "", _starts(b"%PDF-")),
    Format(
        "SVG",
        "",
        lambda head: re.match(
            rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg\b",
            head,
            re.S,
        ),
        suffixes=(".svg",),
    ),
    Format("NumPy", "", _starts(b"\x93NUMPY"), instead="load it with numpy, or save it as TIFF"),
    Format("MATLAB", "", _starts(b"MATLAB 5.0 MAT")),
    Format("HDF5", "", _starts(b"\x89HDF\r\n\x1a\n")),
    Format("NIfTI", "", lambda head: head[344:347] in (b"n+1", b"ni1"), suffixes=(".nii",)),
    Format("GIMP", "", _starts(b"gimp xcf"), suffixes=(".xcf",)),
    Format("DjVu", "", _starts(b"AT&TFORM"), suffixes=(".djvu",)),
    Format("Zeiss CZI", "", _starts(b"ZISRAWFILE"), suffixes=(".czi",)),
    Format("DPX", "", _starts(b"SDPX", b"XPDS"), suffixes=(".dpx",)),
    Format("Cineon", "", _starts(b"\x80\x2a\x5f\xd7"), suffixes=(".cin",)),
    Format("JBIG2", "", _starts(b"\x97JB2\r\n\x1a\n"), suffixes=(".jb2", ".jbig2")),
    Format("FLIF", "", _starts(b"FLIF"), suffixes=(".flif",)),
    Format("BPG", "", _starts(b"BPG\xfb"), suffixes=(".bpg",)),
    Format(
        "MNG", "", _starts(b"\x8aMNG\r\n\x1a\n", b"\x8bJNG\r\n\x1a\n"), suffixes=(".mng", ".jng")
    ),
    Format("KTX", "", _starts(b"\xabKTX ")),
    Format(
        "Windows metafile",
        "",
        lambda head: head.startswith(b"\xd7\xcd\xc6\x9a") or head[40:44] == b" EMF",
        suffixes=(".wmf", ".emf"),
    ),
    Format("XPM", "", _starts(b"/* XPM */", b"#define "), suffixes=(".xpm", ".xbm")),
    Format(
        "archive",
        "",
        _starts(
            b"PK\3\4",
            b"\x1f\x8b",
            b"7z\xbc\xaf\x27\x1c",
            b"Rar!",
            b"\xfd7zXZ",
            b"BZh",
            b"\x28\xb5\x2f\xfd",
        ),
        what="is an archive or packed",
        instead="unpack it first",
    ),
    Format(
        "HTML",
        "",
        lambda head: re.match(rb"(\xef\xbb\xbf)?\s*<(!DOCTYPE html|html)\b", head, re.I),
        what="is a web page, perhaps an error that a server sent in place of an image",
        instead="fetch the image again",
    ),
    Format(
        "Git LFS",
        "",
        _starts(b"version https://git-lfs"),
        what="is only the pointer of Git LFS to a file",
        instead="fetch the file with: git lfs pull",
    ),
    Format(
        "zeros",
        "",
        lambda head: len(head) == HEAD and not any(head),
        what="begins with nothing but zeros, like a file that was never written to its end",
        instead="copy it again",
    ),
    Format(
        "film",
        "",
        lambda head: (
            head[4:8] == b"ftyp"
            or head[:4] in (b"\x1aE\xdf\xa3",)
            or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        ),
    ),
    Format("bare bitmap", "pillow", _is_dib, ("DIB",)),
    Format("TGA", "pillow", _is_tga, ("TGA",)),
)
"""In the order in which they are tried."""

HEAD = 1024
"""Bytes at a file's beginning that tell its format."""


def recognised(head: bytes) -> Format | None:
    """The format of a file that begins with these bytes; None if it is none of the table."""
    return next((each for each in FORMATS if each.begins(head)), None)


@functools.cache
def suffixes(*, read: bool = False) -> frozenset[str]:
    """Suffixes of images, in lower case with their dot.

    Args:
        read: Those of the readers alone, without those of what is known and not read.
    """
    Image.init()
    formats = [each for each in FORMATS if each.reader or not read]
    of_pillow = {
        suffix
        for each in formats
        for suffix, name in Image.registered_extensions().items()
        if name in each.pillow
    }
    return frozenset(of_pillow.union(*(each.suffixes for each in formats)))
