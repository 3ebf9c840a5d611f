"""Images and masks, read by the libraries of their field.

`load` is the front door, `formats` the table of formats; each reader (`pillow`, `jpeg`, `tiff`, `netpbm`, `jpeg2000`,
`jxl`, `heif`, `dicom`, `raw`) makes a `raster.Raster`, of which `pixels` makes an image and `masks` a mask.
"""

from __future__ import annotations

from zsas.images.content import FarFile
from zsas.images.folders import LeftOut, Scan, find_images, is_result, scan_images
from zsas.images.formats import suffixes
from zsas.images.load import (
    ImageSource,
    count_pages,
    digest,
    load_image,
    read_image,
    read_window,
    several,
)
from zsas.images.masks import read_mask
from zsas.images.raster import MAX_PIXELS, ReadImage, ReadInfo, ReadOptions

SUFFIXES = tuple(sorted(suffixes()))
"""Suffixes of images, in lower case with their dot."""

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "FarFile",
    "ImageSource",
    "LeftOut",
    "ReadImage",
    "ReadInfo",
    "ReadOptions",
    "Scan",
    "count_pages",
    "digest",
    "find_images",
    "is_result",
    "load_image",
    "read_image",
    "read_mask",
    "read_window",
    "scan_images",
    "several",
]
