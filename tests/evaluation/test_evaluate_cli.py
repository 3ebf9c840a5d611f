"""`zsas evaluate` as it is typed."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_segmenter
from zsas.cli import app
from zsas.segmenter import Segmenter


@pytest.fixture
def shell(monkeypatch, tmp_path):
    monkeypatch.setattr(Segmenter, "from_choice", lambda *_, **__: small_segmenter())
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "parts", per_kind=1)
    return lambda *words: CliRunner().invoke(app, ["evaluate", *map(str, words)])


@pytest.mark.slow
def test_a_folder_gives_a_complete_report(shell, tmp_path):
    words = "folder --root parts --out report --threshold 0.95 --threshold-mode quantile --limit 2"
    result = shell(*words.split())
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "report/results.json").read_text())
    assert results["images"] == 4
    assert results["table"][2]["settings"]["threshold_mode"] == "quantile"
    assert {"pixel_auroc", "pixel_aupro", "image_ap"} <= results["table"][0]["mean"].keys()
    table = (tmp_path / "report/table.md").read_text()
    error = float(re.search(r"exact to ([\d.e-]+) points", table)[1])
    assert error < 1  # of few pixels and small models; a mask of two values alone would give 50
    assert "CLIP map alone" in table
    assert "ClipSAM" in table
    assert "not to compare" in table
    page = (tmp_path / "report/index.html").read_text()
    assert "Worst by F1" in page
    assert "strips/" in page
    assert (tmp_path / "report/curves.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_papers_ablations_stand_beside_ours(shell, tmp_path):
    words = "folder --root parts --out report --ablate cascade --categories tile"
    assert shell(*words.split()).exit_code == 0
    table = (tmp_path / "report/table.md").read_text()
    assert table.count("points + box + logit2") >= 2
    assert "| 89.5 | 48.8 | 46.4 |" in table


@pytest.mark.slow
def test_without_a_folder_the_report_lies_below_runs(shell, tmp_path):
    assert shell("folder", "--root", "parts", "--limit", "1").exit_code == 0
    assert (tmp_path / "runs/folder-parts/table.md").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("folder --root nowhere --out r", "There is no folder nowhere"),
        ("folder --root parts --out r --categories wood", "no category 'wood'"),
        ("folder --root parts --out r --ablate colour", "no ablation 'colour'"),
        ("folder --root parts --out r --sweep k=1", "must read name=v1,v2"),
        ("folder --root parts --out r --threshold 2", "threshold is 2.0"),
        ("folder --root parts --out r --workers 2", "--workers needs --engine ray"),
        ("made --out r", "There is no data set 'made'"),
    ],
)
def test_what_a_person_can_mend_is_a_sentence(shell, words, message):
    result = shell(*words.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_an_image_that_cannot_be_measured_is_exit_code_2_and_the_rest_is_there(shell, tmp_path):
    (tmp_path / "parts/tile/test/spot/000.png").write_bytes(b"\x89PNG broken")
    outcome = shell("folder", "--root", "parts", "--out", "r")
    assert outcome.exit_code == 2
    assert "1 image could not be measured" in outcome.stderr
    assert "No image could be measured" not in outcome.stderr
    assert "5 images, 2 categories" in outcome.stdout


@pytest.mark.slow
def test_curves_of_sixty_categories_have_room_for_their_names(tmp_path, recwarn):
    from zsas.evaluation.metrics import Curves
    from zsas.evaluation.report import draw_curves

    line = np.linspace(0, 1, 5)
    sizes = []
    for count in (2, 60):
        lines = {f"category {i}": Curves(line, line, line, 1 - line) for i in range(count)}
        draw_curves(tmp_path / "curves.png", lines, "map")
        sizes.append(Image.open(tmp_path / "curves.png").size)
    assert not [
        w for w in recwarn if "constrained_layout" in str(w.message)
    ]  # no room for the curves
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] < sizes[1][1]
