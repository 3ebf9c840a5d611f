"""Curves of a map against a mask, and where its mask stands on them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.fake import FakeSegmenter, photo
from zsas import curves
from zsas.settings import Settings


@pytest.fixture(scope="module")
def measured():
    result = FakeSegmenter().segment(photo(), Settings(system="april-gan"))
    truth = photo().mean(-1) < 100
    return result, truth, curves.measure(result, truth)


def test_the_mask_stands_where_its_pixels_say(measured):
    result, truth, (metrics, line) = measured
    hit, marked = (result.mask & truth).sum(), result.mask.sum()
    point = line.operating_point
    assert point["tpr"] == pytest.approx(hit / truth.sum(), abs=1e-6)
    assert point["fpr"] == pytest.approx((marked - hit) / (~truth).sum(), abs=1e-6)
    assert point["precision"] == pytest.approx(hit / marked, abs=1e-6)
    assert line.best["f1"] == metrics["pixel_f1_max"] >= point["f1"] - 0.01
    assert line.to_dict()["roc"]["fpr"][-1] == 1.0


def test_a_mask_that_marks_nothing_has_no_precision(measured):
    result, truth, _ = measured
    empty = replace(result, mask=np.zeros_like(result.mask))
    _, line = curves.measure(empty, truth)
    assert line.operating_point == {"fpr": 0.0, "tpr": 0.0, "precision": None, "f1": 0.0}
    assert curves._place(line, "PR") is None


@pytest.mark.parametrize("value", [True, False])
def test_a_mask_of_one_kind_has_no_curves(measured, value):
    metrics, line = curves.measure(measured[0], np.full(measured[1].shape, value))
    assert line is None
    assert metrics["pixel_auroc"] is None


def test_both_diagrams_show_each_line_in_its_colour(measured):
    line = measured[2][1]
    roc, pr = curves.panels([None, line], 240)
    for picture in (roc, pr):
        assert picture.shape == (240, 240, 3)
        shades = {tuple(int(v) for v in one) for one in picture.reshape(-1, 3)}
        assert curves.colour(1) in shades
        assert curves.colour(0) not in shades
    assert not np.array_equal(roc, pr)


def test_the_svg_is_xml_with_a_line_and_a_name_for_each_system(measured):
    line = measured[2][1]
    root = ET.fromstring(curves.svg([("auto", line), ("<sdp+>", line)]))
    tags = [child.tag for child in root]
    assert tags.count("polyline") == 4
    assert tags.count("circle") == 4
    assert "<sdp+>" in [child.text for child in root if child.tag == "text"]
    for child in root:
        if child.tag == "polyline":
            xs = [float(pair.split(",")[0]) for pair in child.get("points").split()]
            assert 0 <= min(xs) <= max(xs) <= 540
