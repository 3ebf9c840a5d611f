"""TIFFs above the limit: read in bands, reduced by a whole factor, within a stated memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.images.builders import DEEP, GREY, RGB, H, W, saved, three, tiff
from zsas.errors import ZsasError
from zsas.images import ReadOptions, large, load_image, read_image
from zsas.images.raster import LARGEST_VARIABLE

FEW = ReadOptions(max_pixels=W * H // 5, reduce_up_to=W * H)
K = 3


def means(image: NDArray[np.uint8], k: int = K) -> NDArray[np.float64]:
    """Means of k × k pixels, by hand."""
    height, width = len(image) // k, image.shape[1] // k
    blocks = image[: height * k, : width * k].reshape(height, k, width, k, -1)
    return blocks.astype(np.float64).mean(axis=(1, 3))


@pytest.mark.parametrize(
    ("values", "options", "right"),
    [
        (RGB, {"photometric": "rgb"}, RGB),
        (RGB, {"photometric": "rgb", "rowsperstrip": 7}, RGB),
        (RGB, {"photometric": "rgb", "rowsperstrip": 7, "compression": "lzw"}, RGB),
        (RGB, {"photometric": "rgb", "rowsperstrip": H, "compression": "zlib"}, RGB),
        (RGB, {"photometric": "rgb", "tile": (16, 32), "compression": "zlib"}, RGB),
        (RGB.transpose(2, 0, 1).copy(), {"photometric": "rgb", "planarconfig": "separate"}, RGB),
        (DEEP, {"byteorder": ">"}, three(GREY)),
        (65535 - DEEP, {"photometric": "miniswhite"}, three(GREY)),
    ],
)
@pytest.mark.parametrize("values_of_a_band", [W * 3 * 5, large.BAND_VALUES])
def test_a_pixel_is_the_mean_of_those_it_stands_for(
    values: NDArray[Any],
    options: dict[str, Any],
    right: NDArray[np.uint8],
    values_of_a_band: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large, "BAND_VALUES", values_of_a_band)
    read = read_image(tiff(values, **options), FEW)
    assert read.info.reduced == K
    assert read.info.to_dict()["reduced"] == K
    assert read.pixels.shape == (H // K, W // K, 3)
    assert np.abs(read.pixels - means(right)).max() <= 1
    assert f"reduced to {W // K} × {H // K}" in read.info.notes[0]


GLOW = np.linspace(0, 0.8, W * H, dtype=np.float32).reshape(H, W)
BRIGHT = np.full((H, W), 2000, np.uint16)
BRIGHT[-1] = 60_000


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (GLOW, [(340, "f", 1, 0.0, True), (341, "f", 1, 0.8, True)]),
        (GLOW, [(340, "f", 1, 0.0, True), (341, "f", 1, 2.0, True)]),
        (BRIGHT, [(281, "H", 1, 4095, True)]),
        (BRIGHT[:-1], [(281, "H", 1, 4095, True)]),
    ],
)
def test_whether_a_tag_is_believed_follows_from_the_whole_page(
    values: NDArray[Any], tags: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags that hold the extremes of the pixels, or less, say nothing of white; no band decides that by itself."""
    monkeypatch.setattr(large, "BAND_VALUES", W * 5)
    data = tiff(values, extratags=tags, photometric="minisblack")
    expected = means(read_image(data).pixels)
    assert np.abs(read_image(data, FEW).pixels - expected).max() <= 1


def test_a_turned_image_is_turned_after_it_is_reduced() -> None:
    data = tiff(RGB, photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    np.testing.assert_array_equal(
        read_image(data, FEW).pixels,
        np.rot90(read_image(tiff(RGB, photometric="rgb"), FEW).pixels, -1),
    )


def test_what_fits_is_read_as_ever() -> None:
    data = tiff(RGB, photometric="rgb")
    assert read_image(data).info.reduced == 1
    np.testing.assert_array_equal(read_image(data).pixels, RGB)


def test_the_limit_is_a_setting_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiff(RGB, photometric="rgb")
    with pytest.raises(
        ZsasError, match=f"at most {W * H - 1:,} are read in bands.*{LARGEST_VARIABLE}"
    ):
        read_image(data, ReadOptions(max_pixels=200, reduce_up_to=W * H - 1))
    with pytest.raises(ZsasError, match="at most 200 are accepted"):
        load_image(data, max_pixels=200)
    monkeypatch.setenv(LARGEST_VARIABLE, "0")
    with pytest.raises(ZsasError, match="at most 200 are accepted"):
        read_image(data, ReadOptions(max_pixels=200))
    monkeypatch.setenv(LARGEST_VARIABLE, "many")
    with pytest.raises(ZsasError, match="'many', but it must be a whole number"):
        ReadOptions()


def test_only_tiffs_are_read_in_bands() -> None:
    with pytest.raises(ZsasError, match="at most 200 are accepted"):
        read_image(saved(RGB, "PNG"), ReadOptions(max_pixels=200))


@pytest.mark.parametrize(
    ("height", "width", "most", "factor"),
    [(10, 10, 100, 1), (10, 10, 99, 2), (100000, 4096, 50_000_000, 3), (1, 1000, 10, 1)],
)
def test_the_factor_is_the_smallest_that_fits(
    height: int, width: int, most: int, factor: int
) -> None:
    assert large.factor_for(height, width, most) == factor


MEASURED = """
    import resource, sys
    from zsas.images import read_image

    read_image(sys.argv[2])  # what the decoders need of their own
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = read_image(sys.argv[1])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(*read.pixels.shape, read.info.reduced, (after - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kilobytes on Linux alone")
@pytest.mark.parametrize("tiled", [False, True])
def test_a_line_scan_needs_no_more_memory_than_is_stated(tmp_path: Path, tiled: bool) -> None:
    """240 megapixels in RGB, 720 MB: the image it is reduced to has 80 MB, a band about 200."""
    rows = np.random.default_rng(0).integers(0, 256, (2000, 6000, 3), np.uint8)
    file, small = tmp_path / "scan.tif", tmp_path / "small.tif"
    tifffile.imwrite(small, rows[:64, :64], photometric="rgb", tile=(64, 64), compression="zlib")
    if tiled:
        tiles = (rows[:, x : x + 2000] for _ in range(20) for x in range(0, 6000, 2000))
        whole = (part[:2000, :2000] for part in tiles)
        tifffile.imwrite(
            file, whole, shape=(40_000, 6000, 3), dtype="u1", photometric="rgb", tile=(2000, 2000)
        )
    else:
        strips = iter([rows] * 20)
        tifffile.imwrite(
            file, strips, shape=(40_000, 6000, 3), dtype="u1", photometric="rgb", rowsperstrip=2000
        )
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURED), str(file), str(small)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    height, width, channels, factor, memory = map(int, found.stdout.split())
    assert (height, width, channels, factor) == (40_000 // 3, 2000, 3, 3)
    assert memory < height * width * 3 + 200_000_000
