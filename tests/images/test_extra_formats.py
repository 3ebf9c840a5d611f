"""DICOM and camera raw, which an extra brings."""

from __future__ import annotations

import builtins
import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.images.builders import GREY, RGB, H, W, apart, stretched, three, tiff
from zsas.errors import ZsasError
from zsas.images import count_pages, load_image, read_image

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("rawpy")

TWELVE = GREY.astype(np.uint16) * 16
LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


def dicom(
    values: NDArray[Any],
    photometric: str = "MONOCHROME2",
    bits: int = 0,
    coded: bytes = b"",
    **elements: Any,
) -> bytes:
    """A DICOM file; `coded` is a compressed frame of the transfer syntax `syntax`."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = elements.pop("syntax", LITTLE_ENDIAN)
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = pydicom.dataset.FileDataset("made", {}, file_meta=meta, preamble=bytes(128))
    frames = elements.get("NumberOfFrames", 1)
    shape = values.shape[1:] if frames > 1 else values.shape
    data.Rows, data.Columns = shape[:2]
    data.SamplesPerPixel = shape[2] if len(shape) == 3 else 1
    if data.SamplesPerPixel > 1:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = photometric
    data.BitsAllocated = 8 * values.dtype.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in elements.items():
        setattr(data, name, value)
    data.PixelData = pydicom.encaps.encapsulate([coded]) if coded else values.tobytes()
    if coded:
        data["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def bare(data: bytes) -> bytes:
    """The same elements without preamble and header, as old machines write them."""
    elements = pydicom.Dataset()
    elements.update(pydicom.dcmread(io.BytesIO(data)))
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, elements, implicit_vr=True, little_endian=True)
    return stream.getvalue()


def changed(data: bytes, **elements: Any) -> bytes:
    """The same file with other elements; None takes one away."""
    found = pydicom.dcmread(io.BytesIO(data))
    for name, value in elements.items():
        if value is None:
            delattr(found, name)
        else:
            setattr(found, name, value)
    stream = io.BytesIO()
    found.save_as(stream)
    return stream.getvalue()


def windowed(values: NDArray[Any], centre: float, width: float) -> NDArray[np.uint8]:
    """DICOM PS3.3 C.11.2.1.2.1."""
    shown = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    return stretched(shown, 1)


LOSSLESS = imagecodecs.ljpeg_encode(TWELVE, bitspersample=12)
WINDOW = {"WindowCenter": 1000, "WindowWidth": 2000}
TABLE: list[tuple[str, bytes, NDArray[np.uint8], int]] = [
    ("8 bits", dicom(GREY), three(GREY), 0),
    ("12 bits", dicom(TWELVE, bits=12), stretched(TWELVE, 4095), 0),
    ("white is zero", dicom(255 - GREY, "MONOCHROME1"), three(GREY), 0),
    ("white is zero, 12 bits", dicom(4095 - TWELVE, "MONOCHROME1", 12), stretched(TWELVE, 4095), 1),
    ("signed", dicom(TWELVE.astype(np.int16) - 2048, bits=12), stretched(TWELVE, 4095), 0),
    ("colour", dicom(RGB, "RGB"), RGB, 0),
    ("without preamble", dicom(TWELVE, bits=12)[132:], stretched(TWELVE, 4095), 0),
    ("without header, implicit", bare(dicom(TWELVE, bits=12)), stretched(TWELVE, 4095), 0),
    ("32 bits hold 16", dicom(GREY.astype(np.uint32) * 257), three(GREY), 0),
    (
        "sigmoid",
        dicom(TWELVE, bits=12, WindowCenter=2048, WindowWidth=2000, VOILUTFunction="SIGMOID"),
        stretched(1 / (1 + np.exp(-4 * (TWELVE.astype(float) - 2048) / 2000)), 1),
        1,
    ),
    ("window", dicom(TWELVE, bits=12, **WINDOW), windowed(TWELVE, 1000, 2000), 1),
    (
        "window, white is zero",
        dicom(TWELVE, "MONOCHROME1", 12, **WINDOW),
        255 - windowed(TWELVE, 1000, 2000),
        1,
    ),
    (
        "window after rescale",
        dicom(TWELVE, bits=12, WindowCenter=0, WindowWidth=2000, RescaleSlope=1, RescaleIntercept=-1024),
        windowed(TWELVE - 1024.0, 0, 2000),
        1,
    ),
    (
        "lossless JPEG",
        dicom(TWELVE, bits=12, coded=LOSSLESS, syntax="1.2.840.10008.1.2.4.70"),
        stretched(TWELVE, 4095),
        0,
    ),
    (
        "JPEG-LS",
        dicom(TWELVE, bits=12, coded=imagecodecs.jpegls_encode(TWELVE), syntax="1.2.840.10008.1.2.4.80"),
        stretched(TWELVE, 4095),
        0,
    ),
    (
        "JPEG",
        dicom(GREY, coded=imagecodecs.jpeg8_encode(GREY, level=97), syntax="1.2.840.10008.1.2.4.50"),
        three(GREY),
        12,
    ),
]  # fmt: skip


NAMES = [row[0] for row in TABLE]


@pytest.mark.parametrize(("data", "right", "levels"), [row[1:] for row in TABLE], ids=NAMES)
def test_dicom_is_shown_as_it_says(data: bytes, right: NDArray[np.uint8], levels: int) -> None:
    assert apart(load_image(data), right) <= levels


def test_a_window_stands_in_the_notes_and_bits_set_it_aside() -> None:
    data = dicom(TWELVE, **WINDOW)
    assert read_image(data).info.notes == ("shown through its window, centre 1000, width 2000",)
    np.testing.assert_array_equal(load_image(data, bits=12), stretched(TWELVE, 4095))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(dicom(GREY), PixelData=None), "without an image"),
        (changed(dicom(TWELVE * 16, bits=12), HighBit=15), "12-bit values below bit 15"),
        (dicom(TWELVE, bits=12, **WINDOW, RescaleSlope=0, RescaleIntercept=0), "rescale slope"),
    ],
)
def test_dicom_that_is_not_read_is_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(ZsasError, match=words) as caught:
        load_image(data)
    assert "damaged" not in str(caught.value)


def test_frames_are_pages() -> None:
    data = dicom(np.stack([GREY, 255 - GREY]), NumberOfFrames=2)
    assert count_pages(data) == 2
    np.testing.assert_array_equal(load_image(data, page=2), three(255 - GREY))


def test_frames_that_are_only_named_are_not_counted() -> None:
    data = dicom(np.stack([GREY, 255 - GREY]), NumberOfFrames=2)
    assert (
        count_pages(data.replace(b"\x28\x00\x08\x00IS\x02\x002 ", b"\x28\x00\x08\x00IS\x02\x0099"))
        == 2
    )


def test_half_a_dicom_file_is_refused() -> None:
    data = dicom(GREY)
    with pytest.raises(ZsasError, match="cut off or damaged"):
        load_image(data[: len(data) // 2])


def dng() -> bytes:
    """A made digital negative: a Bayer mosaic of a grey wedge, 14 bits."""
    wedge = (GREY.astype(np.uint16) * 64)[: H // 2 * 2, : W // 2 * 2]
    one = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)
    return tiff(
        wedge,
        photometric=32803,
        extratags=[
            (50706, "B", 4, (1, 4, 0, 0), True),
            (50708, "s", 0, "Made Camera", True),
            (271, "s", 0, "Made", True),
            (272, "s", 0, "Camera", True),
            (33421, "H", 2, (2, 2), True),
            (33422, "B", 4, (0, 1, 1, 2), True),
            (50717, "I", 1, 16383, True),
            (50721, "2i", 9, one, True),
            (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
            (50778, "H", 1, 21, True),
        ],
    )


def test_camera_raw_is_developed_and_not_taken_for_a_tiff() -> None:
    found = read_image(dng())
    assert found.pixels.shape == (H, W, 3)
    assert found.info.format == "camera raw"
    left, right = found.pixels[20:, :8].mean(), found.pixels[20:, -8:].mean()
    assert left < right


@pytest.mark.parametrize(
    ("data", "module", "words"),
    [(dicom(GREY), "pydicom", "is a DICOM file"), (dng(), "rawpy", "is a camera raw file")],
)
def test_without_the_extra_the_sentence_names_the_format_and_the_extra(
    data: bytes, module: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.split(".")[0] == module:
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ZsasError, match=words) as caught:
        load_image(data)
    assert "zsas[formats]" in str(caught.value)
    assert "damaged" not in str(caught.value)
