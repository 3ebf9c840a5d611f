"""Pages and bits through the shell's way: what was examined stands in the result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.models import small_segmenter
from tests.images.builders import GREY, pages, tiff
from zsas.bulk import Output, Reading, examine, prepare
from zsas.models import ModelChoice
from zsas.segmenter import Segmenter
from zsas.settings import Settings


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return small_segmenter()


def rows(segmenter: Segmenter, folder: Path, reading: Reading) -> list[dict[str, object]]:
    work = prepare([str(folder)], Output(), Settings(), ModelChoice(), reading)
    return [row.shown() for row in examine(segmenter, work.jobs, Settings(), Output())]


def test_which_page_was_examined_stands_in_the_result(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "stack.tif").write_bytes(pages((GREY, {}), (255 - GREY, {})))
    first, second = (rows(segmenter, tmp_path, Reading(page)) for page in (0, 2))
    assert [row["input"]["page"] for row in (*first, *second)] == [1, 2]  # type: ignore[index]
    assert first[0]["image_score"] != second[0]["image_score"]


def test_every_page_of_a_stack_is_an_image_of_its_own(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "stack.tif").write_bytes(pages((GREY, {}), (255 - GREY, {})))
    (tmp_path / "one.tif").write_bytes(tiff(GREY))
    found = rows(segmenter, tmp_path, Reading("all"))
    assert [row["name"] for row in found] == ["one", "stack_p1", "stack_p2"]
    assert [str(row["image"]).rsplit("/", 1)[1] for row in found] == [
        *("one.tif", "stack.tif#page=1", "stack.tif#page=2"),
    ]
    assert [row["input"]["page"] for row in found] == [1, 1, 2]  # type: ignore[index]


def test_a_word_on_the_depth_stands_in_the_result_and_bits_take_it_away(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    (tmp_path / "deep.tif").write_bytes(tiff(GREY.astype(np.uint16) * 16))
    (plain,) = rows(segmenter, tmp_path, Reading())
    (said,) = rows(segmenter, tmp_path, Reading(bits=12))
    assert plain["input"]["notes"] == [  # type: ignore[index]
        f"brightest value {int(GREY.max()) * 16:,} of 65,535: a 12-bit camera? --bits 12"
    ]
    sha256 = hashlib.sha256((tmp_path / "deep.tif").read_bytes()).hexdigest()
    read = {"format": "TIFF", "bits": 12, "page": 1, "pages": 1, "notes": [], "sha256": sha256}
    assert said["input"] == read
    json.dumps(said)


def test_another_reading_is_another_run(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(GREY))
    runs = [
        prepare([str(tmp_path)], Output(), Settings(), ModelChoice(), reading).run
        for reading in (None, Reading(), Reading(bits=12))
    ]
    assert runs[0] == runs[1] != runs[2]
