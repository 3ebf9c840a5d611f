"""HEIC and HEIF, read by pillow-heif; libheif turns and mirrors as the file says."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from zsas.extras import require
from zsas.images.content import Content
from zsas.images.raster import Raster, ReadOptions, check_page, check_size, without_alpha


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`; the primary image, or the page asked for.

    Raises:
        ZsasError: If it is damaged or too large.
    """
    name = content.name
    file = _open(content)
    check_page(options.page, len(file), name)
    index = options.page - 1 if options.page else file.primary_index
    image = file[index]
    check_size(image.size[1], image.size[0], options.max_pixels, name)
    values, alpha = without_alpha(np.asarray(image.to_pillow()))
    raster = Raster(values, "grey" if values.ndim == 2 else "rgb", 255, "HEIC", alpha=alpha)
    raster.page, raster.pages, raster.lossy = index + 1, len(file), True
    raster.premultiplied = bool(getattr(image, "premultiplied_alpha", False))
    return raster


def count(content: Content) -> int:
    """How many images there are.

    Raises:
        ZsasError: If it is damaged.
    """
    return len(_open(content))


def _open(content: Content) -> Any:
    require("images")
    import pillow_heif

    return pillow_heif.open_heif(io.BytesIO(content.read()))
