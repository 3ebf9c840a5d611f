"""Many photos that are compared with each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.models import small_segmenter
from tests.localizers.test_references import SETTINGS, plate
from zsas.errors import ZsasError
from zsas.localizers.mutual import MUTUAL
from zsas.ui import batch, gpu, views
from zsas.ui.engine import Engine
from zsas.ui.many import Many
from zsas.ui.visitor import View


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(gpu, "SEGMENTERS", {})
    return Engine(lambda _: small_segmenter(), "tiny")


def lot(folder: Path, count: int, *, mutual: bool = True) -> Many:
    files = []
    for i in range(count):
        path = folder / f"{i}.png"
        Image.fromarray(plate(i, dent=i == 3)).save(path)
        files.append((path.name, path))
    many = Many.of(files, "tiny", SETTINGS)
    many.mutual = mutual
    return many


def shown(stages: dict[int, set[str]]):
    def draw(number, result, good):
        stages[number] = {stage.name for stage in result.stages}
        return {}

    return draw


@pytest.mark.slow
def test_all_are_read_then_compared_then_decided(tmp_path: Path, engine: Engine) -> None:
    many = lot(tmp_path, 6)
    (tmp_path / "5.png").write_bytes(b"no image")
    stages: dict[int, set[str]] = {}
    steps = []
    for number in many.run(engine, shown(stages)):
        steps.append((number, many.summary()["compared"]))
    assert [number for number, _ in steps] == [-1] * 6 + list(range(6))
    assert [compared for _, compared in steps] == [1, 2, 3, 4, 5, 6] + [0] * 6
    assert all(MUTUAL.name in names for names in stages.values())
    assert [bool(row.error) for row in many.rows] == [False] * 5 + [True]
    ratios = [row.result.normal_ratio or 0.0 for row in many.rows if row.result]
    assert max(ratios) == ratios[3]


def test_without_the_tick_each_is_decided_alone(tmp_path: Path, engine: Engine) -> None:
    many = lot(tmp_path, 2, mutual=False)
    stages: dict[int, set[str]] = {}
    assert list(many.run(engine, shown(stages))) == [0, 1]
    assert not any(MUTUAL.name in names for names in stages.values())


def test_too_few_are_a_sentence(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(ZsasError, match="at least 5"):
        list(lot(tmp_path, 3).run(engine, shown({})))


@pytest.mark.slow
def test_a_batch_over_a_protocol_says_what_the_page_says(tmp_path: Path, engine: Engine) -> None:
    many = lot(tmp_path, 6)
    list(many.run(engine, shown({})))
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [*(row.path for row in many.rows), tmp_path / "broken.png"]
    *_, done = batch.run(engine, paths, "tiny", SETTINGS, mutual=True)
    *_, alone = batch.run(engine, paths, "tiny", SETTINGS)
    scores = [line.score for line in done.lines]
    assert scores[:6] == [round(row.result.image_score, 4) for row in many.rows if row.result]
    assert scores != [line.score for line in alone.lines]
    assert [bool(line.error) for line in done.lines] == [False] * 6 + [True]


def test_the_limit_of_a_lot_is_that_of_its_good_parts(tmp_path: Path, engine: Engine) -> None:
    many = lot(tmp_path, 2, mutual=False)
    many.parts = tuple((engine.keep_image(plate(seed)), "") for seed in range(10, 14))
    list(many.run(engine, shown({})))
    (first, second) = (row.result for row in many.rows)
    assert first is not None
    assert second is not None
    assert first.limit_from == second.limit_from == "references"
    assert first.settings.verdict_threshold == second.settings.verdict_threshold
    moved = many.reviewed(0, 0.9)
    assert moved is not None
    assert (moved.settings.verdict_threshold, moved.limit_from) == (0.9, "person")
    assert len(first.good_ratios) == 4
    assert 'class="zs-ratio"' in views.verdict(first, View())
