from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.models import small_segmenter
from zsas.localizers.patches import blend
from zsas.localizers.tiles import TileSettings, blend_weight, plan_tiles, tiles_wanted
from zsas.settings import Settings

FRAME, PATCH = 512, 16


def windows(height: int, width: int, **settings: object) -> list[tuple[int, int, int, int]]:
    return [
        tile.window for tile in plan_tiles(height, width, TileSettings(**settings), FRAME, PATCH)
    ]


@pytest.mark.parametrize(
    ("height", "width", "count", "size"),
    [
        (300, 400, 1, (400, 300)),  # no larger than the frame
        (64, 500, 1, (500, 64)),
        (700, 700, 1, (700, 700)),  # one tile shows it at more than two thirds of its size
        (530, 512, 1, (512, 530)),  # hardly larger
        (1400, 500, 3, (500, 512)),  # long: tiles as wide as it is
        (1024, 1024, 4, (768, 768)),
        (600, 1024, 2, (600, 600)),
    ],
)
def test_auto_decides_from_size_and_shape_alone(height, width, count, size):
    found = windows(height, width, tiles="auto")
    assert len(found) == count
    x0, y0, x1, y1 = found[0]
    assert (x1 - x0, y1 - y0) == size


@pytest.mark.parametrize("settings", [{"tiles": "auto"}, {"tiles": 200, "max_tiles": 256}])
@pytest.mark.parametrize("shape", [(1024, 1024), (500, 1400), (3000, 700), (37, 2000), (1, 1)])
def test_tiles_cover_the_image_and_share_what_was_asked(shape, settings):
    covered = np.zeros(shape, int)
    found = windows(*shape, **settings)
    for x0, y0, x1, y1 in found:
        assert 0 <= x0 < x1 <= shape[1]
        assert 0 <= y0 < y1 <= shape[0]
        covered[y0:y1, x0:x1] += 1
    assert covered.min() >= 1
    first = found[0]
    beside = [w for w in found if w[1] == first[1] and w[0] > first[0]]
    if beside:
        assert first[2] - beside[0][0] >= 0.1 * (first[2] - first[0]) - 1


def test_more_tiles_than_allowed_become_larger_ones():
    wide = TileSettings(tiles=128, max_tiles=4)
    assert len(plan_tiles(1000, 1000, wide, FRAME, PATCH)) <= 4
    assert tiles_wanted(1000, 1000, wide, FRAME) == 81
    assert tiles_wanted(1000, 1000, TileSettings(), FRAME) == 1


@pytest.mark.parametrize("shape", [(700, 500), (500, 700), (1000, 1000), (300, 1100)])
def test_auto_squeezes_nothing_by_more_than_a_few_percent(shape):
    for tile in plan_tiles(*shape, TileSettings(tiles="auto"), FRAME, PATCH):
        x0, y0, x1, y1 = tile.window
        (view,) = tile.views
        assert (view.height / view.width) / ((y1 - y0) / (x1 - x0)) == pytest.approx(1, abs=0.04)
        assert view.height * view.width == pytest.approx(FRAME**2, rel=0.06)
        assert view.height % PATCH == view.width % PATCH == 0


def test_off_squeezes_the_whole_image_into_the_square():
    (tile,) = plan_tiles(100, 900, TileSettings(), FRAME, PATCH)
    assert tile.window == (0, 0, 900, 100)
    assert (tile.views[0].height, tile.views[0].width) == (FRAME, FRAME)


TTA = ((1.0, False), (0.5, True))


@pytest.mark.parametrize(
    ("settings", "shape", "count"),
    [
        ({"tiles": "auto"}, (300, 300), 2),
        ({"tiles": "auto"}, (1024, 1024), 1),
        ({"tiles": "auto", "views": "all"}, (1024, 1024), 2),
        ({"tiles": "off", "views": "one"}, (300, 300), 1),
    ],
)
def test_tiles_are_seen_once_and_a_whole_image_in_all_views(settings, shape, count):
    views = settings.pop("views", "auto")
    for tile in plan_tiles(*shape, TileSettings(**settings), FRAME, PATCH, TTA, views):
        assert len(tile.views) == count


def test_blended_maps_of_one_value_are_that_value():
    halves = [(0, 0, 60, 40), (40, 0, 100, 40)]
    maps = [np.full((8, 8), 0.3, np.float32)] * 2
    np.testing.assert_allclose(blend(maps, halves, 40, 100), 0.3, rtol=1e-6)


def test_where_tiles_overlap_the_nearer_middle_counts_more():
    halves = [(0, 0, 60, 40), (40, 0, 100, 40)]
    maps = [np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32)]
    row = blend(maps, halves, 40, 100)[20]
    assert row[:40].max() == 0
    assert row[60:].min() == 1
    assert (np.diff(row[40:60]) > 0).all()
    assert blend_weight(5, 7).min() > 0


def test_an_image_in_tiles_equals_its_tiles_alone():
    """Each tile's map is that of the same pixels as an image of their own."""
    segmenter = small_segmenter()
    image = np.random.default_rng(3).integers(0, 255, (128, 256, 3), dtype=np.uint8)
    settings = Settings(tiles=128, tile_overlap=0.0, views="one", resolution=128, edge_radius=0)
    whole = segmenter.anomaly_map(segmenter.begin(image, settings), settings)
    for x in (0, 128):
        part = np.ascontiguousarray(image[:, x : x + 128])
        alone = segmenter.anomaly_map(segmenter.begin(part, settings), settings)
        np.testing.assert_allclose(whole[:, x : x + 128], alone, atol=1e-4)


def test_what_was_decided_stands_in_the_result(photo):
    segmenter = small_segmenter()
    result = segmenter(photo, Settings(tiles=64, max_tiles=4))
    stage = result.stage("anomaly_map")
    assert stage.data["tiles"] == 4
    assert "4 tiles" in stage.caption
    assert "would show it at its own size" in stage.caption
    whole = segmenter(photo, Settings(tiles="off")).stage("anomaly_map")
    assert whole.data["tiles"] == 1


@pytest.mark.parametrize("value", ["on", 20, 9000, -1, True, None])
def test_tiles_are_off_auto_or_pixels(value):
    from zsas.errors import ZsasError

    if value is None:
        assert Settings(tiles=None).tiles == "auto"
        return
    with pytest.raises(ZsasError, match=r"tiles is .* off, auto or 64 to 8192"):
        Settings(tiles=value)
