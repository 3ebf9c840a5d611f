"""What a visitor does, without a browser: points, good parts, systems, masks, coming back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake import photo
from tests.helpers.images import png
from tests.helpers.visits import opened, settled
from zsas.systems import SYSTEMS
from zsas.ui import cards, gpu, screen
from zsas.ui.engine import Engine
from zsas.ui.events.image import result_of, show
from zsas.ui.events.site import Site, act
from zsas.ui.events.visit import hello
from zsas.ui.examples import Examples
from zsas.ui.visitor import View, Visitor


@pytest.mark.parametrize(
    ("first", "then", "left"),
    [
        ((100, 50, "plus"), None, ((100, 50, 1),)),
        ((100, 50, "minus"), None, ((100, 50, 0),)),
        ((100, 50, "plus"), (103, 52, "plus"), ()),
        ((100, 50, "plus"), (160, 50, "minus"), ((100, 50, 1), (160, 50, 0))),
        ((9999, -5, "plus"), None, ((319, 0, 1),)),
    ],
)
def test_a_click_adds_a_point_or_removes_the_one_below_it(
    first: tuple[int, int, str],
    then: tuple[int, int, str] | None,
    left: tuple[tuple[int, int, int], ...],
) -> None:
    view = screen.click(View(), (240, 320), *first)
    if then:
        view = screen.click(view, (240, 320), *then)
    assert view.now.clicks == left


def test_undo_walks_back_and_redo_forward() -> None:
    one = screen.click(View(), (240, 320), 10, 10, "plus")
    two = screen.click(one, (240, 320), 200, 100, "minus")
    assert two.undone().now == one.now
    assert two.undone().undone().now.clicks == ()
    assert two.undone().undone().undone().now.clicks == ()
    assert two.undone().redone().now == two.now
    assert screen.click(two.undone(), (240, 320), 5, 5, "plus").future == ()


@pytest.mark.slow
def test_each_stage_is_shown_as_soon_as_it_exists(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    show_parts = Visitor.show

    def count(self: Visitor, parts: dict[str, Any]) -> None:
        if "zs-strip" in parts:
            shown.append(parts["zs-strip"].count("data-stage="))
        show_parts(self, parts)

    monkeypatch.setattr(Visitor, "show", count)
    opened(site, photo(1))
    assert sorted(set(shown)) == list(range(10))
    assert shown == sorted(shown)


@pytest.mark.slow
def test_a_problem_is_a_sentence_and_what_is_shown_stays(site: Site) -> None:
    visitor = opened(site, photo(1))
    before = dict(visitor.screen)
    answer = act(site, visitor.token, "change", {"name": "threshold", "value": 7}, visitor.news)
    assert "threshold is 7" in answer["problem"]
    assert answer["parts"] == {}
    assert visitor.screen == before
    assert "cannot do" in act(site, visitor.token, "no such thing", {}, 0)["problem"]
    assert act(site, "nobody", "stop", {}, 0) == {"gone": True}


@pytest.mark.slow
def test_the_name_that_came_with_an_example_is_not_that_of_ones_own_photo(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(engine, Examples())
    monkeypatch.setattr("zsas.ui.upload.is_uploaded", lambda path: True)
    (tmp_path / "gear.png").write_bytes(png(photo(1)))
    visitor = site.visitors.known(hello(site, "", "?example=hazelnut-broken")["token"])
    assert visitor is not None
    settled(visitor)
    assert visitor.settings.object_name == "hazelnut"
    nut = visitor.view.image
    act(site, visitor.token, "open_upload", {"path": str(tmp_path / "gear.png")}, 0)
    assert settled(visitor).settings.object_name == ""
    act(site, visitor.token, "come_back", {"image": nut}, 0)
    assert settled(visitor).settings.object_name == "hazelnut"
    act(site, visitor.token, "change", {"name": "object_name", "value": "gear"}, 0)
    act(site, visitor.token, "open_upload", {"path": str(tmp_path / "gear.png")}, 0)
    assert settled(visitor).settings.object_name == "gear"  # a person's own name stays


def test_a_good_part_that_cannot_be_read_is_named_and_the_others_count(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zsas.ui.upload.is_uploaded", lambda path: True)
    visitor = site.visitors.new("tiny")
    (tmp_path / "good.png").write_bytes(png(photo(1)))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    paths = [str(tmp_path / name) for name in ("bad.png", "good.png")]
    answer = act(site, visitor.token, "add_parts", {"paths": paths}, visitor.news)
    assert [name for _, name in visitor.parts] == ["good"]
    assert "bad.png is not an image" in answer["parts"]["failure"]
    assert str(tmp_path) not in answer["parts"]["failure"]
    answer = act(site, visitor.token, "add_parts", {"paths": paths[:1]}, visitor.news)
    assert "bad.png is not an image" in answer["problem"]


@pytest.mark.slow
def test_a_tab_is_told_only_what_changed(site: Site) -> None:
    visitor = opened(site, photo(1))
    answer = act(site, visitor.token, "verdict", {"verdict": "normal"}, visitor.news)
    assert {"zs-verdict", "state"} <= set(answer["parts"])
    assert not {"zs-strip", "zs-scale", "zs-drawer-body"} & set(answer["parts"])
    assert "by a person" in answer["parts"]["zs-verdict"]


@pytest.mark.slow
def test_a_click_that_would_mark_most_of_the_photo_is_offered_and_not_taken(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zsas.ui.events.points.MOST", 0.0)
    visitor = opened(site, photo(1))
    answer = act(site, visitor.token, "click", {"x": 9, "y": 9, "action": "plus"}, visitor.news)
    assert set(answer["parts"]) == {"offer"}
    assert visitor.view.now.clicks == ()
    whole = {"x": 9, "y": 9, "action": "plus", "whole": True}
    act(site, visitor.token, "click", whole, visitor.news)
    assert len(visitor.view.now.clicks) == 1


@pytest.mark.slow
def test_only_a_spot_marks_a_small_piece_and_travels_in_the_address(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zsas.ui.events.points.MOST", 0.0)
    visitor = opened(site, photo(1))
    spot = {"x": 9, "y": 9, "action": "spot"}
    answer = act(site, visitor.token, "click", spot, visitor.news)
    assert "offer" not in answer["parts"]
    assert visitor.view.now.clicks == ((9, 9, 2),)
    result = result_of(site, visitor)
    assert result is not None
    assert result.mask[9, 9]
    assert result.mask[:40, :40].sum() < 0.01 * result.mask.size
    assert screen.parse_points("9,9,2", (240, 320)) == ((9, 9, 2),)


@pytest.mark.slow
def test_where_no_sam_draws_a_click_marks_the_spot(site: Site) -> None:
    visitor = opened(site, photo(1))
    act(site, visitor.token, "change", {"name": "refiner", "value": "none"}, visitor.news)
    act(site, visitor.token, "click", {"x": 9, "y": 9, "action": "plus"}, visitor.news)
    result = result_of(site, visitor)
    assert result is not None
    assert result.mask[9, 9]


@pytest.mark.slow
def test_pictures_of_silent_tabs_are_let_go_and_drawn_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = opened(site, photo(1))
    monkeypatch.setattr("zsas.ui.visitor.ASLEEP_AFTER", -1.0)
    site.visitors.new("tiny")
    assert "zs-viewer" not in visitor.screen
    answer = hello(site, visitor.token, "")
    assert answer["token"] == visitor.token
    assert "zs-meter" in settled(visitor).screen["zs-verdict"]


@pytest.mark.slow
def test_a_reload_brings_good_parts_and_scale_and_no_old_question(site: Site) -> None:
    visitor = opened(site, photo(2))
    visitor.parts = (("key", "rim"),)
    act(site, visitor.token, "scale", {"mm": "0,1", "smallest": "0.5mm2"}, 0)
    visitor.show({"offer": {"x": 1, "y": 1, "again": 0.0}, "preview": {"x": 1, "y": 1, "path": ""}})
    settled(visitor)
    visitor.parts = (("key", "rim"),)
    shown = hello(site, visitor.token, "")["parts"]
    assert "rim" in shown["zs-parts"]
    assert shown["scale"] == {"zs-mm": "0.1", "zs-smallest": "0.5 mm²"}
    assert not {"offer", "preview"} & shown.keys()


@pytest.mark.slow
def test_good_parts_outlast_the_photo_and_are_counted_in_the_verdict(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stand-in has no patch features; what is compared is tested with the localizers.
    asked: list[Any] = []
    decide, stages = gpu.decide, gpu.stages
    monkeypatch.setattr(gpu, "remember", lambda *_: "memory")

    def noted(function: Any) -> Any:
        def call(*given: Any, **_: Any) -> Any:
            asked.append(given[4])
            return function(*given[:4])

        return call

    monkeypatch.setattr(gpu, "decide", noted(decide))
    monkeypatch.setattr(gpu, "stages", noted(stages))
    visitor = opened(site, photo(2))
    act(site, visitor.token, "add_this", {}, 0)
    assert "Compared with 1 good part" in settled(visitor).screen["zs-verdict"]
    show(site, visitor, View(site.engine.keep_image(photo(3)), "other"))
    assert "Compared with 1 good part" in settled(visitor).screen["zs-verdict"]
    ((key, _),) = visitor.parts
    act(site, visitor.token, "drop_part", {"key": key}, 0)
    assert "good part" not in settled(visitor).screen["zs-verdict"]
    assert visitor.screen["zs-parts"] == ""
    assert {"memory", None} == set(asked)


@pytest.mark.slow
def test_a_system_that_cannot_compare_says_so(site: Site) -> None:
    visitor = opened(site, photo(2))
    act(site, visitor.token, "add_this", {}, 0)
    assert "no patch features" in settled(visitor).screen["zs-verdict"]


@pytest.mark.slow
def test_a_reload_finds_the_visitor_and_a_link_makes_a_new_one(site: Site) -> None:
    visitor = opened(site, photo(1))
    assert hello(site, visitor.token, "")["token"] == visitor.token
    assert hello(site, visitor.token, "?threshold=0.3")["token"] != visitor.token
    assert hello(site, "gone", "")["token"] not in ("gone", visitor.token)


@pytest.mark.slow
def test_a_photo_that_was_let_go_is_asked_for_again(site: Site) -> None:
    visitor = opened(site, photo(1))
    visitor.view = View("gone", "part")
    act(site, visitor.token, "rerun", {}, 0)
    assert "open it again" in settled(visitor).screen["zs-verdict"]


@pytest.mark.slow
def test_the_systems_that_can_run_are_compared_and_the_others_say_why(site: Site) -> None:
    visitor = opened(site, photo(1))
    act(site, visitor.token, "systems", {}, 0)
    shown = visitor.screen["zs-systems"]
    assert shown.count("zs-meter") == 1  # what has run already is there at once
    assert "Run the other" in shown
    assert "no learned weights" in shown
    assert list(cards.reasons("tiny")) == list(SYSTEMS)
    half = np.zeros((4, 4), bool)
    half[:2] = True
    assert cards.agreement([half, ~half, half])[0, 0] == pytest.approx(2 / 3)


@pytest.mark.slow
def test_a_visitor_gives_the_mask_of_their_own_photo(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = opened(site, photo(1))
    monkeypatch.setattr("zsas.ui.upload.is_uploaded", lambda path: "foreign" not in path)
    truth = photo(1).mean(-1) < 100
    for name, mask in (("truth", truth), ("small", truth[:9]), ("empty", truth & False)):
        (tmp_path / f"{name}.png").write_bytes(png(mask.astype(np.uint8) * 255))
    for name, words in (
        ("foreign", "not an uploaded file"),
        ("small", "the size of its image"),
        ("empty", "both normal"),
    ):
        answer = act(site, visitor.token, "give_truth", {"path": str(tmp_path / f"{name}.png")}, 0)
        assert words in str(answer), name
        assert str(tmp_path) not in str(answer)
    act(site, visitor.token, "give_truth", {"path": str(tmp_path / "truth.png")}, 0)
    assert "Against the mask, in %: AUROC" in visitor.screen["zs-systems"]
    assert visitor.view.truth is not None
    show(site, visitor, View(site.engine.keep_image(photo(2)), "part"))
    assert visitor.view.truth is None
