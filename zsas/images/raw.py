"""Camera raw, developed by rawpy (LibRaw): the camera's white balance, sRGB, no stretching."""

from __future__ import annotations

import io
from typing import Any

from zsas.errors import ZsasError
from zsas.images.content import Content
from zsas.images.raster import Raster, ReadOptions, check_page, check_size, damaged, not_read


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`.

    Raises:
        ZsasError: If it is damaged, too large, or rawpy is not installed.
    """
    name = content.name
    check_page(options.page, 1, name)
    with _open(content) as file:
        check_size(file.sizes.iheight, file.sizes.iwidth, options.max_pixels, name)
        try:
            values: Any = file.postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=8)
        except Exception:  # a foreign file can make a decoder raise anything
            raise damaged(name) from None
    raster = Raster(values, "rgb", 255, "camera raw")
    raster.notes.append("developed with the camera's white balance")
    return raster


def count(content: Content) -> int:
    """1: a file holds one image."""
    return 1


def _open(content: Content) -> Any:
    try:
        import rawpy
    except ImportError:
        raise ZsasError(
            f"{content.name} is a camera raw file; install the extra that reads it: pip install 'zsas[formats]'."
        ) from None
    try:
        return rawpy.imread(io.BytesIO(content.read()))
    except ZsasError:
        raise
    except rawpy.LibRawFileUnsupportedError:
        raise not_read(content.name, "is camera raw of a kind") from None
    except Exception:  # a foreign file can make a decoder raise anything
        raise damaged(content.name) from None
