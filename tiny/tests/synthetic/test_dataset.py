"""A synthetic data set is written once, and never over other files."""

from __future__ import annotations

import pytest

from tests.helpers.datasets import write_folder
from tiny.synthetic import scene
from tiny.synthetic.dataset import write_once
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError


def test_synthetic_images_are_written_once(tmp_path):
    options = {"seed": 5, "per_category": 4, "size": 64, "families": ["leather"]}
    root = write_once(tmp_path / "made", **options)
    data = load_dataset("folder", root)
    assert (data.name, len(data), data.categories) == ("synthetic", 4, ("leather",))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    write_once(root, **options)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    with pytest.raises(ZsasError, match="synthetic images of other parameters"):
        write_once(root, **{**options, "seed": 6})


def test_synthetic_images_go_on_where_a_kill_stopped_them_and_spare_other_files(
    tmp_path, monkeypatch
):
    options = {"seed": 5, "per_category": 4, "size": 64, "families": ["leather"]}
    write, root = scene.write_dataset, tmp_path / "made"

    def killed(folder, **kwargs):
        write(folder, **{**kwargs, "per_category": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr(scene, "write_dataset", killed)
    with pytest.raises(KeyboardInterrupt):
        write_once(root, **options)
    monkeypatch.setattr(scene, "write_dataset", write)
    with pytest.raises(ZsasError, match="synthetic images of other parameters"):
        write_once(root, **{**options, "seed": 6})
    write_once(root, **options)
    assert len(load_dataset("folder", root)) == 4
    mine = write_folder(tmp_path / "mine", categories=("leather",))
    before = {path: path.read_bytes() for path in mine.rglob("*.png")}
    with pytest.raises(ZsasError, match="holds files that are no synthetic images"):
        write_once(mine, **options)
    assert before == {path: path.read_bytes() for path in mine.rglob("*.png")}
