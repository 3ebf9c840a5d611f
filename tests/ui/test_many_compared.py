"""Many photos that are compared with each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.models import small_segmenter
from tests.localizers.test_references import SETTINGS, plate
from zsas.errors import ZsasError
from zsas.localizers.mutual import MUTUAL
from zsas.ui import gpu
from zsas.ui.engine import Engine
from zsas.ui.many import Many


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
