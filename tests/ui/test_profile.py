"""Region, scale, profile and proposed limit on the page, without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.results import make_result
from tests.helpers.visits import opened, settled
from zsas.part import Part
from zsas.region import RegionOfInterest
from zsas.review import Review
from zsas.scale import Scale
from zsas.settings import Settings
from zsas.ui import take
from zsas.ui.engine import Engine
from zsas.ui.events.site import Site, act
from zsas.ui.events.visit import hello
from zsas.ui.many import Many, Row
from zsas.ui.visitor import Corrections, View

LEFT = {"size": [320, 240], "region": [{"rectangle": [0, 0, 160, 240]}]}


@pytest.mark.slow
def test_a_region_changes_the_result_without_encoding_again(site: Site) -> None:
    visitor = opened(site, photo(2))
    segmenter = site.engine.segmenter("tiny")
    assert isinstance(segmenter, FakeSegmenter)
    encoded = segmenter.encoded
    assert act(site, visitor.token, "region", {"region": LEFT}, 0)["problem"] == ""
    screen = settled(visitor).screen
    assert "zs-outside" in screen["zs-viewer"]
    assert "Only 50 % of the photo is looked at" in screen["zs-verdict"]
    assert screen["region"]["region"] == [{"rectangle": [0.0, 0.0, 160.0, 240.0]}]
    act(site, visitor.token, "region", {"region": None}, 0)
    assert "zs-outside" not in settled(visitor).screen["zs-viewer"]
    assert segmenter.encoded == encoded


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("region", {"region": {"region": [{"circle": []}]}}, "not one of"),
        ("region", {"region": {"size": [10, 99], "region": LEFT["region"]}}, "pixels of its image"),
        ("region", {"region": {"size": [500, 900], "region": LEFT["region"]}}, "another shape"),
        ("region", {"region": 7}, "must be"),
        ("scale", {"mm": "wide", "smallest": ""}, "must be a number"),
        ("scale", {"mm": "-1", "smallest": ""}, "cannot be"),
        ("scale", {"mm": "", "smallest": "0.5mm2"}, "nobody said"),
        ("scale", {"mm": "", "smallest": "small"}, "0.5mm2 or 20px"),
        ("open_profile", {"path": "/etc/passwd"}, "not an uploaded file"),
        ("open_profile", {}, "not an uploaded file"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(site, name, data, says) -> None:
    visitor = opened(site, photo(2))
    before = dict(visitor.screen)
    assert says in act(site, visitor.token, name, data, 0)["problem"]
    assert settled(visitor).screen == before


@pytest.mark.slow
def test_a_profile_is_saved_opened_and_closed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zsas.ui.upload.is_uploaded", lambda _: True)
    visitor = opened(site, photo(2))
    visitor.settings = Settings(verdict_threshold=0.4, object_name="plate")
    act(site, visitor.token, "region", {"region": LEFT}, 0)
    act(site, visitor.token, "scale", {"mm": "0,1", "smallest": "5 px"}, 0)
    file = take.file(site, settled(visitor), "part.zsas")
    assert file is not None
    part = Part.load(file.data)
    assert (part.limit, part.limit_from, part.settings.object_name) == (0.4, "person", "plate")
    assert part.scale == Scale(0.1, least_px=5)
    assert part.region == RegionOfInterest.from_dict(LEFT)
    (tmp_path / "a.zsas").write_bytes(file.data)
    other = opened(site, photo(3))
    answer = act(site, other.token, "open_profile", {"path": str(tmp_path / "a.zsas")}, 0)
    assert answer["problem"] == ""
    screen = settled(other).screen
    assert other.settings.verdict_threshold == 0.4
    assert "0.1 mm per pixel" in screen["zs-profile"]
    assert "zs-outside" in screen["zs-viewer"]
    # Its settings are the visitor's own now.
    act(site, other.token, "change", {"name": "verdict_threshold", "value": None}, 0)
    assert other.settings.verdict_threshold == Settings().verdict_threshold
    act(site, other.token, "close_profile", {}, 0)
    assert settled(other).screen["zs-profile"] == ""


def test_every_visitor_begins_with_the_servers_profile(engine: Engine, site: Site) -> None:
    part = Part("gear", Settings(verdict_threshold=0.45), scale=Scale(0.2))
    served = Site(engine, site.examples, part)
    visitor = served.visitors.known(hello(served, "", "?threshold=0.3")["token"])
    assert visitor is not None
    assert visitor.settings == Settings(verdict_threshold=0.45, threshold=0.3)
    assert "gear" in visitor.screen["zs-profile"]


def lot(tmp_path: Path, scores: list[float], said: dict[int, Any]) -> Many:
    settings = Settings(verdict_threshold=0.5, unsure_band=0.0)
    rows = [
        Row(f"{i}.png", None, result=make_result(image_score=score, settings=settings))
        for i, score in enumerate(scores)
    ]
    views = {
        i: View("", f"{i}", row=i, now=Corrections(review=Review(verdict=word)))
        for i, word in said.items()
    }
    return Many("tiny", settings, tmp_path, rows, done=len(rows), views=views)


def test_corrected_verdicts_of_a_lot_propose_its_limit(tmp_path: Path) -> None:
    scores = [0.2, 0.3, 0.55, 0.6, 0.9]
    assert lot(tmp_path, scores, {}).proposal(0.5) == {}
    found = lot(tmp_path, scores, {2: "normal", 3: "normal"}).proposal(0.5)
    assert found["limit"] == 0.75
    assert "2 false alarms and 0 misses on 4 normal and 1 anomalous parts" in found["text"]
    assert lot(tmp_path, [0.9], {0: "anomalous"}).proposal(0.5) == {}


def test_a_limit_that_serves_no_better_is_not_proposed(tmp_path: Path) -> None:
    assert lot(tmp_path, [0.6, 0.7, 0.8, 0.9], {0: "normal"}).proposal(0.5) != {}
    assert lot(tmp_path, [0.6, 0.7, 0.8, 0.9], {3: "normal"}).proposal(0.5) == {}


@pytest.mark.slow
def test_the_limit_of_good_parts_goes_with_them_when_a_profile_is_opened(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zsas.ui.upload.is_uploaded", lambda _: True)
    visitor = site.visitors.new("tiny")
    visitor.parts, visitor.limit_found = (("key", "rim"),), 0.31
    (tmp_path / "a.zsas").write_bytes(Part("gear").to_bytes())
    act(site, visitor.token, "open_profile", {"path": str(tmp_path / "a.zsas")}, 0)
    shown = visitor.screen["settings"]["values"]
    assert shown["verdict_threshold"] == Settings().verdict_threshold
