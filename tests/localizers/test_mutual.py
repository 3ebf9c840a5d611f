from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.helpers import ROOT
from tests.helpers.models import small_segmenter
from tests.localizers.test_references import SETTINGS, plate
from zsas.errors import ZsasError
from zsas.localizers import mutual
from zsas.localizers.agreement import speakers
from zsas.localizers.mutual import (
    MUTUAL,
    Cells,
    cells_of,
    compare_batch,
    lowest_mean,
    mutual_scores,
    neighbourhoods,
    smoothed,
)
from zsas.localizers.patches import PatchFeatures, TileFeatures


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


def image_cells(values: torch.Tensor, key: str = "") -> Cells:
    """Cells of an image of one row and one layer."""
    tile = F.normalize(values.float(), dim=-1)[None, None, None]
    return Cells(key, (tile,), np.array([1.0, 0.0]))


def test_the_mean_of_the_lowest_three_tenths() -> None:
    values = torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0])
    distances = (values[:, None] - values[None]).abs()
    others = [distances[i][torch.arange(5) != i] for i in range(5)]
    found = torch.stack([lowest_mean(one) for one in others])
    torch.testing.assert_close(found, torch.tensor([0.1, 0.1, 0.2, 0.3, 0.4]))


def test_of_few_others_at_least_one_counts() -> None:
    assert lowest_mean(torch.tensor([0.5, 0.2, 0.9])) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("neighbours", "expected"),
    [((1, 2, 3), (0.083333, 0.478395, 0.802469)), ((2,), (0.125, 0.629630, 0.703704))],
)
def test_scores_of_similar_images_move_together(neighbours, expected) -> None:
    embeddings = np.array([(1, 0), (0.6, 0.8), (0, 1)])
    found = smoothed(np.array([0, 1, 3]) / 3, embeddings, neighbours)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_more_neighbours_than_images_are_all_of_them() -> None:
    found = smoothed(np.array([0.0, 1.0]), np.eye(2), (9,))
    np.testing.assert_allclose(found, [0, 1])


def test_neighbourhoods_equal_a_plain_mean_over_their_cells() -> None:
    cells = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    found = neighbourhoods(cells, (3,))[0]
    plain = (cells - cells.mean((1, 2, 3), keepdim=True)) / cells.std(
        (1, 2, 3), correction=0, keepdim=True
    )
    padded = F.pad(plain, (0, 0, 1, 1, 1, 1))
    for row, column in ((0, 0), (2, 3), (3, 4)):
        mean = padded[:, row : row + 3, column : column + 3].mean((1, 2))
        expected = F.normalize(mean, dim=-1)
        torch.testing.assert_close(found[:, row, column], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [5, 6, 8])
def test_both_directions_of_one_product_equal_each_on_its_own(count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    images = [image_cells(torch.randn(7, 4, generator=generator)) for _ in range(count)]
    found = mutual_scores(images)
    for i, one in enumerate(images):
        rows = []
        for j, other in enumerate(images):
            if i != j:
                pairs = (one.flat[0][:, None] - other.flat[0][None]).norm(dim=-1)
                rows.append(pairs.amin(1))
        expected = lowest_mean(torch.stack(rows))
        np.testing.assert_allclose(found[i][0][0], expected, atol=2e-3)


def test_of_many_images_each_meets_as_many_others(monkeypatch) -> None:
    met: list[int] = []

    def note(rows: torch.Tensor) -> torch.Tensor:
        met.append(len(rows))
        return rows.mean(0)

    monkeypatch.setattr(mutual, "lowest_mean", note)
    mutual_scores([image_cells(torch.eye(3)) for _ in range(50)])
    assert met == [mutual.OTHERS] * 50


def test_what_one_image_alone_shows_stands_out(segmenter) -> None:
    images = [plate(i, dent=i == 3) for i in range(8)]
    results = list(segmenter.segment_batch(images, SETTINGS, mutual=True))
    ratios = [one.normal_ratio for one in results]
    assert max(ratios) == ratios[3]
    assert ratios[3] > 1.5 * max(ratios[:3] + ratios[4:])
    heat = results[3].stage(MUTUAL.name).heat
    assert heat[35:45, 85:95].mean() > 1.3 * heat[:, :40].mean()
    assert results[3].image_score > max(r.image_score for i, r in enumerate(results) if i != 3)
    assert "8" not in results[3].stage(MUTUAL.name).caption.split("few")[-1]


def test_a_batch_lowers_the_map_and_never_raises_it(segmenter) -> None:
    images = [plate(i, dent=i == 3) for i in range(5)]
    smooth = SETTINGS.replace(edge_radius=0)  # edges are drawn afterwards
    for image, result in zip(
        images, segmenter.segment_batch(images, smooth, mutual=True), strict=True
    ):
        plain = segmenter(image, smooth).anomaly_map
        assert (result.anomaly_map <= plain + 1e-6).all()
        assert (result.anomaly_map < plain).any()
        assert "are few" in result.stage(MUTUAL.name).caption


def test_a_batch_of_different_parts_leaves_the_map_alone(segmenter) -> None:
    cells = segmenter.gather([plate(i) for i in range(6)], SETTINGS)
    batch = segmenter.compare_batch(cells, SETTINGS)
    assert batch.trust > 0.5
    apart = replace(batch, differ=2.0)
    smooth = SETTINGS.replace(edge_radius=0)
    result = segmenter.segment(plate(1), smooth, batch=apart)
    np.testing.assert_array_equal(
        result.anomaly_map, segmenter.segment(plate(1), smooth).anomaly_map
    )
    assert "seem to show different parts" in result.stage(MUTUAL.name).caption


@pytest.mark.parametrize("count", [5, 8, 9, 100])
def test_a_few_images_drawn_evenly_say_whether_it_is_one_part(count: int) -> None:
    asked = speakers(count)
    assert len(asked) == min(count, 8)
    assert asked == sorted(set(asked))
    assert asked[-1] < count


def test_without_mutual_each_is_decided_alone(segmenter) -> None:
    (result,) = segmenter.segment_batch([plate(1)], SETTINGS)
    assert result.normal_ratio is None
    assert result.image_score == segmenter(plate(1), SETTINGS).image_score


def test_fewer_than_five_are_refused_with_advice(segmenter) -> None:
    with pytest.raises(ZsasError, match="at least 5, better 8"):
        segmenter.segment_batch([plate(i) for i in range(4)], SETTINGS, mutual=True)


def test_an_image_that_is_given_twice_counts_once() -> None:
    values = np.random.default_rng(0).normal(size=(6, 4, 8))
    lot = [image_cells(torch.tensor(one).float(), str(i)) for i, one in enumerate(values)]
    alone, twice = (compare_batch(one, ()) for one in (lot, [*lot, lot[1], lot[4]]))
    assert twice.keys == alone.keys
    assert twice.images == alone.images
    assert twice.usual == alone.usual
    with pytest.raises(ZsasError, match=r"there are 4, copies of others \(2\) left out"):
        compare_batch([*lot[:4], lot[0], lot[1]], ())


def grey(level: int) -> np.ndarray:
    return np.full((64, 80, 3), level, np.uint8)


@pytest.mark.parametrize(
    "images",
    [
        [grey(90 + i) for i in range(5)],
        [plate(0) ^ np.uint8(i) for i in range(6)],
        [plate(i) for i in range(3)] + [grey(20 * i) for i in range(3)],
        [plate(i, dent=True) for i in range(5)],
        [plate(0)[:1, :1], plate(1), plate(2), plate(3)[:40], plate(4)],
    ],
    ids=["flat", "nearly equal", "two products", "every one anomalous", "sizes"],
)
def test_any_batch_gives_numbers(segmenter, images) -> None:
    for result in segmenter.segment_batch(images, SETTINGS, mutual=True):
        assert np.isfinite(result.anomaly_map).all()
        assert 0 <= result.image_score <= 1
        assert np.isfinite(result.normal_ratio)


def test_the_order_of_a_small_batch_does_not_matter(segmenter) -> None:
    images = [plate(i, dent=i == 2) for i in range(6)]
    there = [r.image_score for r in segmenter.segment_batch(images, SETTINGS, mutual=True)]
    back = [r.image_score for r in segmenter.segment_batch(images[::-1], SETTINGS, mutual=True)]
    np.testing.assert_allclose(there, back[::-1], atol=1e-3)


def test_the_image_score_grows_with_the_evidence(segmenter) -> None:
    localizer = segmenter.localizer(SETTINGS)
    scores = [
        localizer.image_score({"map": 0.4, "batch": b, "batch_weight": 0.7}, SETTINGS)
        for b in (0.0, 0.3, 1.0)
    ]
    assert scores == sorted(scores)
    assert scores[0] < scores[2] <= 1


def test_an_image_of_another_batch_is_refused(segmenter) -> None:
    cells = segmenter.gather([plate(i) for i in range(5)], SETTINGS)
    batch = segmenter.compare_batch(cells, SETTINGS)
    with pytest.raises(ZsasError, match="not one of the batch"):
        segmenter.segment(plate(9), SETTINGS, batch=batch)
    with pytest.raises(ZsasError, match="compare it again"):
        segmenter.segment(plate(1), SETTINGS.replace(resolution=112), batch=batch)


def test_tiles_share_the_budget_of_cells() -> None:
    tile = TileFeatures((0, 0, 8, 8), torch.randn(1, 2, 20, 20, 4), torch.ones(4), (80, 80))
    found = cells_of(PatchFeatures((tile, tile, tile)), "a", budget=300)
    assert found.flat.shape[:2] == (2, 300)
    assert cells_of(PatchFeatures((tile,)), "a", budget=400).flat.shape[:2] == (2, 400)


@pytest.mark.slow
def test_tiles_are_compared_and_come_back_in_the_frame_of_the_image(segmenter) -> None:
    settings = SETTINGS.replace(tiles=64)
    images = [plate(i, dent=i == 3) for i in range(8)]
    results = list(segmenter.segment_batch(images, settings, mutual=True))
    heat = results[3].stage(MUTUAL.name).heat
    assert heat.shape == images[3].shape[:2]
    assert heat[35:45, 85:95].mean() > 1.3 * heat[:, :40].mean()


def test_a_system_without_patch_features_says_so(segmenter) -> None:
    with pytest.raises(ZsasError, match="batch scoring"):
        cells_of(object(), "a")


def test_a_batch_without_spread_has_a_level() -> None:
    batch = compare_batch([image_cells(torch.eye(3), str(i)) for i in range(5)], ())
    assert batch.level[1] > 0
    assert batch.usual[1] > 0


@pytest.mark.slow
def test_a_folder_is_compared_with_itself(tmp_path, monkeypatch) -> None:
    from typer.testing import CliRunner

    from zsas.bulk import run
    from zsas.cli import app

    monkeypatch.setattr("zsas.bulk.load", lambda *_, **__: small_segmenter())
    good = tmp_path / "in"
    good.mkdir()
    for i in range(5):
        Image.fromarray(plate(i, dent=i == 3)).save(good / f"{i}.png")
    (good / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    command = ["segment", str(good), "--out", str(out), "--batch-scoring", "--tiles", "off"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2, done.output  # one cannot be read
    assert "Comparing 5 images with each other takes about" in done.stderr
    assert '"mutual"' in (out / "3" / "result.json").read_text()
    for i in range(2):
        (good / f"{i}.png").unlink()
    again = CliRunner().invoke(app, command)
    assert "at least 5" in str(again.output) + str(again.exception)
    assert run.check_count is mutual.check_count


@pytest.mark.slow
def test_the_example_of_the_capsules_shows_what_a_batch_and_good_images_do() -> None:
    """With the bundled models: the batch tells the stained and the bent capsule from the six others."""
    from zsas.segmenter import Segmenter

    segmenter = Segmenter.from_preset("tiny", device="cpu")
    folder = ROOT / "examples" / "capsules"
    batch, good = (sorted((folder / name).glob("*.jpg")) for name in ("batch", "good"))
    assert (len(batch), len(good)) == (8, 4)
    verdicts = [one.verdict for one in segmenter.segment_batch(batch, mutual=True)]
    assert [i for i, one in enumerate(verdicts, 1) if one == "anomalous"] == [3, 6]
    remembered = segmenter.remember(good)
    found = [segmenter.segment(one, references=remembered) for one in batch]
    ratios = [one.normal_ratio or 0 for one in found]
    assert int(np.argmax(ratios)) + 1 == 3
    assert all(one.image_score < (one.score_alone or 0) for one in found)
