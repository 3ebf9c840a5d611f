"""DICOM and DICONDE, read by pydicom: photometric interpretation, rescale and window as the file says."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError, reason
from zsas.extras import require
from zsas.images.content import Content
from zsas.images.raster import (
    MAX_BYTES,
    Raster,
    ReadOptions,
    check_page,
    check_size,
    not_read,
)


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`; values are those after the window, if the file has one.

    Raises:
        ZsasError: If it is damaged, too large, or pydicom is not installed.
    """
    name = content.name
    data = _open(content)
    try:
        height, width = int(data.Rows), int(data.Columns)
        bits = int(data.BitsStored)
        photometric = str(data.PhotometricInterpretation)
        high = int(data.get("HighBit", bits - 1))
    except (AttributeError, TypeError, ValueError):
        bits = 0
    if not bits or "PixelData" not in data:
        raise not_read(name, "is a DICOM file without an image", "take a file with an image")
    if high != bits - 1:
        raise not_read(
            name, f"holds {bits}-bit values below bit {high}", "save it with HighBit set"
        )
    check_size(height, width, options.max_pixels, name)
    if height * width * int(data.get("SamplesPerPixel", 1)) * 8 > 2 * MAX_BYTES:
        raise ZsasError(f"{name} is too large to be decoded; make it smaller.")
    pages = _frames(data)
    check_page(options.page, pages, name)
    page = max(1, options.page)
    values = _pixels(data, page - 1, name)
    raster = Raster(values, "grey", 2 ** min(bits, 16) - 1, "DICOM", bits, page=page, pages=pages)
    raster.lossy = str(data.get("LossyImageCompression", "00")) == "01"
    if photometric in ("MONOCHROME1", "MONOCHROME2"):
        _set_grey(raster, data, options, name)
    elif photometric == "PALETTE COLOR":
        _set_palette(raster, data)
    elif values.ndim == 3 and values.shape[2] == 3 and bits in (8, 16):
        raster.colour = "rgb"  # pydicom has made RGB of YBR
    else:
        raise not_read(name, f"has the colours {photometric}")
    return raster


def count(content: Content) -> int:
    """How many frames there are.

    Raises:
        ZsasError: If it is damaged, or pydicom is not installed.
    """
    return _frames(_open(content))


def _frames(data: Any) -> int:
    """How many frames there are; the header may name more than the file holds."""
    try:
        said = int(data.get("NumberOfFrames", 1) or 1)
        pixels = data.get("PixelData") or b""
        bits = (
            int(data.Rows) * int(data.Columns) * int(data.SamplesPerPixel) * int(data.BitsAllocated)
        )
        packed = data.file_meta.TransferSyntaxUID.is_encapsulated
        held = pixels.count(b"\xfe\xff\x00\xe0") if packed else 8 * len(pixels) // max(1, bits)
    except (AttributeError, TypeError, ValueError):
        return 1
    return max(1, min(said, held))


def _open(content: Content) -> Any:
    try:
        import pydicom
    except ImportError:
        raise ZsasError(
            f"{content.name} is a DICOM file; install the extra that reads it: pip install 'zsas[formats]'."
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data: Any = pydicom.dcmread(io.BytesIO(content.read()), force=True)
    if getattr(data.file_meta, "TransferSyntaxUID", None) is None:
        # Of a file without a header: by how it was read.
        implicit, little = data.original_encoding
        end = "" if implicit else ".1" if little else ".2"
        data.file_meta.TransferSyntaxUID = f"1.2.840.10008.1.2{end}"
    return data


def _pixels(data: Any, index: int, name: str) -> NDArray[Any]:
    """One frame's stored values, (H, W) or (H, W, 3)."""
    from pydicom.pixels import pixel_array

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            coded = _by_imagecodecs(data, index)
            return pixel_array(data, index=index) if coded is None else coded
    except (NotImplementedError, RuntimeError) as error:
        raise not_read(
            name, f"is DICOM of a kind ({reason(error)})", "save it uncompressed"
        ) from None


def _by_imagecodecs(data: Any, index: int) -> NDArray[Any] | None:
    """A frame in lossless JPEG or JPEG-LS, which pydicom does not decode by itself; None for others."""
    require("images")
    import imagecodecs
    from pydicom.encaps import get_frame

    from zsas.images.jpeg import charls

    decoders: dict[str, Any] = {
        "1.2.840.10008.1.2.4.57": imagecodecs.ljpeg_decode,
        "1.2.840.10008.1.2.4.70": imagecodecs.ljpeg_decode,
        "1.2.840.10008.1.2.4.80": charls,
        "1.2.840.10008.1.2.4.81": charls,
    }
    decoder = decoders.get(str(data.file_meta.TransferSyntaxUID))
    if decoder is None:
        return None
    values: Any = decoder(get_frame(data.PixelData, index, number_of_frames=_frames(data)))
    expected = (int(data.Rows), int(data.Columns))
    if values.shape[:2] != expected:
        raise ValueError("another size than the header says")
    if int(data.PixelRepresentation):
        bits = int(data.BitsStored)
        values = values.astype(np.int32)
        values = np.where(values >= 2 ** (bits - 1), values - 2**bits, values)
    return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values


def _set_grey(raster: Raster, data: Any, options: ReadOptions, name: str) -> None:
    """Rescale, then window or table; else the range that the stored bits can hold."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    bits = raster.bits
    signed = bool(int(data.get("PixelRepresentation", 0) or 0))
    low = -(2 ** (bits - 1)) if signed else 0
    raster.inverted = data.PhotometricInterpretation == "MONOCHROME1"
    has_window = "WindowCenter" in data and "WindowWidth" in data
    has_table = "VOILUTSequence" in data and len(data.VOILUTSequence) > 0
    if options.bits or not (has_window or has_table):
        if bits > 16:  # as in TIFF: such files hold 16 bits, unless `--bits` says more
            low = 0
        raster.values = raster.values.astype(np.int64) - low
        raster.declared = bits < 16
        return
    stored = apply_modality_lut(raster.values, data)
    shown = np.asarray(apply_voi_lut(stored, data), np.float64)
    lowest, highest = _shown_range(data, bits, low, has_table)
    if highest <= lowest:
        raise not_read(name, "makes one value of all by its rescale slope")
    raster.values = np.clip((shown - lowest) / (highest - lowest), 0, 1)
    raster.white = None
    raster.notes.append("shown through the table of the file" if has_table else _window_text(data))


def _shown_range(data: Any, bits: int, low: int, has_table: bool) -> tuple[float, float]:
    """The range of `apply_voi_lut`'s output: the table's bits, or the rescaled range of the stored bits."""
    from pydicom.pixels.processing import apply_modality_lut

    if has_table:
        return 0.0, float(2 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    if "ModalityLUTSequence" in data and len(data.ModalityLUTSequence) > 0:
        return 0.0, float(2 ** int(data.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    ends = apply_modality_lut(np.array([low, low + 2**bits - 1], np.float64), data)
    return float(ends.min()), float(ends.max())


def _window_text(data: Any) -> str:
    # A file may hold several; the first is applied.
    centre, width = (float(np.ravel(each)[0]) for each in (data.WindowCenter, data.WindowWidth))
    return f"shown through its window, centre {centre:g}, width {width:g}"


def _set_palette(raster: Raster, data: Any) -> None:
    from pydicom.pixels.processing import apply_color_lut

    coloured: Any = apply_color_lut(raster.values, data)
    raster.values, raster.colour = coloured[..., :3], "rgb"
    raster.bits = 8 * coloured.dtype.itemsize
    raster.white = 2**raster.bits - 1
