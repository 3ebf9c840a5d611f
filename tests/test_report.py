"""The report for people: whole in one file, and true to the JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.models import small_segmenter
from tests.helpers.results import make_result
from zsas import export
from zsas.errors import ZsasError
from zsas.images import ReadInfo
from zsas.report import Entry, _numbered, report, report_html, write_report
from zsas.review import Review, holds, place_in, reviewed
from zsas.settings import Settings


def test_a_report_needs_nothing_from_outside_and_says_the_conditions(tmp_path: Path) -> None:
    path = export.report(
        [("lot7/a.png", make_result()), ("<b>.png", make_result())], tmp_path / "r.html"
    )
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    for words in ("lot7/a.png", "&lt;b&gt;.png", "Anomalous", "limit 0.50", "an opinion", "tiny"):
        assert words in text
    assert "verdict_threshold" in text
    assert "<small>changed</small>" in text
    assert text.count("<section") == 3
    assert "@media print" in text


def test_a_report_says_what_a_person_changed() -> None:
    result = make_result()
    place = place_in(result.regions[0], result)
    entry = Entry.of(reviewed(result, Review((place,))), "a.png", clicks=((3.0, 4.0, 1),))
    text = report_html([entry])
    for words in (
        "1 point set by a person",
        "1 finding rejected, the verdict",
        "by a person",
        "Normal",
    ):
        assert words in text


@pytest.mark.slow
def test_the_file_that_was_examined_can_be_told_from_every_other(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.full((40, 60, 3), 90, np.uint8))
    for source in (file, file.read_bytes()):
        result = small_segmenter().segment(source)
        assert result.to_dict()["input"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert hashlib.sha256(file.read_bytes()).hexdigest() in report_html(
            [Entry.of(result, "a.png")]
        )
    in_memory = small_segmenter().segment(np.full((40, 60, 3), 90, np.uint8))
    assert "SHA-256" not in report_html([Entry.of(in_memory, "a.png")])


@pytest.mark.parametrize(
    ("source", "words"),
    [("default", "limit 0.50, "), ("references", "limit 0.50 (from the good images), ")],
)
def test_a_report_says_where_the_limit_comes_from(source: str, words: str) -> None:
    assert words in report_html([Entry.of(make_result(limit_from=source), "a.png")])


def test_specks_are_counted_apart_as_on_the_page() -> None:
    entry = Entry.of(make_result(), "a.png")
    (one,) = entry.facts["regions"]
    regions = [one, {**one, "percent": 0.001}, {**one, "percent": 0.002, "rejected": True}]
    facts = {**entry.facts, "regions": regions}
    text = report_html([dataclasses.replace(entry, facts=facts), Entry.failed("b", "It failed.")])
    assert "<td>1 + 1 speck</td>" in text


def test_a_file_that_failed_is_a_row() -> None:
    text = report_html(
        [Entry.of(make_result(), "a.png"), Entry.failed("b.png", "b.png is no image.")]
    )
    assert "b.png is no image." in text
    assert "1 not readable" in text


def test_what_was_noted_on_reading_stands_in_the_report() -> None:
    read = ReadInfo("TIFF", 1, 3, 8, ("only page 1 of 3 is looked at: <more>",))
    text = report_html([Entry.of(make_result(input=read), "a.tif")])
    assert "<p>Only page 1 of 3 is looked at: &lt;more&gt;.</p>" in text
    assert "80 × 60 px, page 1 of 3; pixels" in text


def test_a_stored_result_gives_the_same_entry(tmp_path: Path) -> None:
    result = make_result()
    files = export.save(result, tmp_path)
    entry = Entry.stored("a.png", result.to_dict(), result.image, files["score"])
    whole = Entry.of(result, "a.png")
    assert entry.picture == whole.picture
    assert entry.pixels == whole.pixels
    assert entry.map_picture


def test_a_name_that_is_no_utf_8_is_a_name(tmp_path: Path) -> None:
    """OpenCV ends the whole process at such a path."""
    name = "caf\udce9"
    result = make_result()
    files = export.save(result, tmp_path / name)
    entry = Entry.stored(f"{name}.png", result.to_dict(), result.image, files["score"])
    assert entry.map_picture
    assert "caf\\udce9.png" in write_report([entry], tmp_path / "r.html").read_text()


def test_a_report_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ZsasError, match="The report cannot be written to"):
        report(make_result(), tmp_path / "file" / "r.html")


@pytest.mark.parametrize(
    ("verdict", "expected", "by"),
    [("", "normal", "person"), ("anomalous", "anomalous", "person")],
)
def test_all_findings_rejected_means_normal_unless_the_person_says_otherwise(
    verdict: str, expected: str, by: str
) -> None:
    result = make_result()
    places = tuple(place_in(region, result) for region in result.regions)
    found = reviewed(result, Review(places, verdict))  # type: ignore[arg-type]
    assert (found.verdict, found.decided_by, found.anomalous) == (expected, by, True)
    assert not found.mask.any()
    assert result.mask.any()
    assert found.to_dict()["regions"][0]["rejected"] is True


def test_a_place_is_in_its_region_and_outlives_another_level() -> None:
    result = make_result()
    x, y = place_in(result.regions[0], result)
    assert holds(result.regions[0], x, y)
    wider = make_result(mask=np.ones((60, 80), bool))
    assert reviewed(wider, Review(((x, y),))).regions[0].rejected


@pytest.mark.parametrize(
    ("score", "expected", "ok"),
    [
        (0.5, "normal", True),
        (0.66, "unsure", False),
        (0.74, "unsure", False),
        (0.76, "anomalous", False),
    ],
)
def test_near_the_limit_the_verdict_is_unsure(score: float, expected: str, ok: bool) -> None:
    settings = Settings(verdict_threshold=0.7, unsure_band=0.05)
    result = make_result(image_score=score, settings=settings)
    assert (result.verdict, result.ok) == (expected, ok)
    assert result.anomalous == (score >= 0.7)
    as_normal = make_result(image_score=score, settings=settings.replace(unsure_as="normal"))
    assert as_normal.ok == (expected != "anomalous")


@pytest.mark.parametrize("given", [[make_result()], {"a.png": "b.png"}, ["a.png"]])
def test_what_is_no_result_is_a_sentence(given: Any, tmp_path: Path) -> None:
    with pytest.raises(ZsasError, match="by the names of their files"):
        report(given, tmp_path / "report.html")
    with pytest.raises(ZsasError, match="What is saved is a result"):
        export.save(given, tmp_path)


def test_of_very_many_images_the_worst_are_shown_large_and_the_table_leads_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zsas.report.LARGE", 2)
    scores = (0.2, 0.9, 0.4, 0.8)
    entries = [Entry.of(make_result(image_score=s), f"{i}.png") for i, s in enumerate(scores)]
    text = report_html([*entries, Entry.failed("broken.png", "It cannot be read.")])
    assert re.findall(r'<section id="image-(\d)">', text) == ["2", "4"]
    assert re.findall(r'href="#image-(\d)"', text) == ["2", "4"]
    assert all(f"{i}.png" in text for i in range(4))
    assert "The 2 with the highest scores are shown large" in text


def test_a_report_names_the_good_images_that_were_compared_with() -> None:
    result = dataclasses.replace(make_result(), references=(("rim <7>.png", "ab12"), ("", "cd34")))
    assert result.to_dict()["references"][0] == {"name": "rim <7>.png", "pixels": "ab12"}
    text = report_html([Entry.of(result, "a.png")])
    assert "Compared with 2 good images: rim &lt;7&gt;.png <code>ab12</code>" in text
    assert "without a name <code>cd34</code>" in text
    assert "Compared with" not in report_html([Entry.of(make_result(), "a.png")])


def test_findings_have_their_numbers_on_the_picture_and_rejected_ones_none() -> None:
    picture = np.full((300, 400, 3), 200, np.uint8)
    one = {"id": 1, "box": [200, 100, 260, 160]}
    other = {"id": 2, "box": [500, 300, 560, 360], "rejected": True}
    drawn = _numbered(picture, [one, other], 0.5)
    assert drawn[45:50, 92:98].min() < 100  # a dark disc at the corner of the first
    assert (drawn[120:200, 220:300] == 200).all()
    assert (picture == 200).all()
