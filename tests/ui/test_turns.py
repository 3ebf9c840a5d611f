"""A visitor goes on while something runs for them: what is shown at the end belongs to what they want at the end."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.fake import fakes, photo
from tests.helpers.visits import opened, settled
from zsas.errors import ZsasError
from zsas.stages import Stage
from zsas.ui import screen, why
from zsas.ui.engine import Engine
from zsas.ui.events.image import show
from zsas.ui.events.site import Site, act
from zsas.ui.events.visit import hello
from zsas.ui.visitor import View, Visitor


def begun(site: Site, seconds: float = 0.3) -> Visitor:
    """A visitor whose photo is being encoded."""
    site.engine.segmenter("tiny").seconds = seconds  # type: ignore[attr-defined]
    visitor = site.visitors.known(hello(site, "", "")["token"])
    assert visitor is not None
    show(site, visitor, View(site.engine.keep_image(photo(1)), "part"))
    return visitor


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_a_change_while_the_result_is_drawn_is_shown(
    site: Site, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    visitor = site.visitors.known(hello(site, "", "")["token"])
    assert visitor is not None
    wanted = iter([0.21, 0.31] if again else [0.21])
    decided = screen.decided

    def draw(*given: Any) -> Any:
        drawn = decided(*given)
        level = next(wanted, None)
        if level is not None:
            act(site, visitor.token, "change", {"name": "threshold", "value": level}, 0)
        return drawn

    monkeypatch.setattr(screen, "decided", draw)
    show(site, visitor, View(site.engine.keep_image(photo(1)), "part"))
    last = 0.31 if again else 0.21
    assert f'value="{last}"' in settled(visitor).screen["zs-scale"]
    assert f"threshold={last}" in visitor.screen["state"]["query"]


@pytest.mark.slow
def test_models_that_cannot_be_had_leave_the_photo_to_those_that_run(site: Site) -> None:
    visitor = begun(site)
    site.engine._load = lambda preset: time.sleep(0.3) or fakes(preset)  # type: ignore[func-returns-value]
    act(site, visitor.token, "preset", {"name": "paper"}, 0)
    assert visitor.screen["settings"]["preset"] == "paper"  # as the list on the page stands
    shown = settled(visitor).screen
    assert "tiny goes on" in shown["failure"]
    assert shown["settings"]["preset"] == "tiny"
    assert "zs-meter" in shown["zs-verdict"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stop", "close"])
def test_models_that_nobody_waits_for_are_not_named(
    engine: Engine, site: Site, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = opened(site, photo(1))
    loaded = threading.Event()
    monkeypatch.setattr(engine, "_load", lambda preset: loaded.wait(60))
    act(site, visitor.token, "preset", {"name": "base"}, 0)
    assert visitor.screen["settings"]["preset"] == "base"
    act(site, visitor.token, name, {}, 0)
    loaded.set()
    site.pool.shutdown()  # it waits for the load to end
    assert visitor.screen["settings"]["preset"] == visitor.preset == "tiny"


@pytest.mark.slow
def test_systems_wait_for_the_photos_own_result(site: Site) -> None:
    visitor = begun(site)
    act(site, visitor.token, "systems", {"run": True}, 0)
    shown = settled(visitor).screen
    assert "zs-meter" in shown["zs-verdict"]
    assert "zs-meter" in shown["zs-systems"]


@pytest.mark.slow
def test_systems_that_are_stopped_leave_no_photo_that_seems_to_be_looked_at(site: Site) -> None:
    visitor = begun(site, 1.0)
    act(site, visitor.token, "systems", {"run": True}, 0)
    act(site, visitor.token, "stop_systems", {}, 0)
    assert "Look again" in settled(visitor).screen["zs-verdict"]
    act(site, visitor.token, "rerun", {}, 0)
    assert "zs-meter" in settled(visitor).screen["zs-verdict"]


@pytest.mark.parametrize("name", ["click", "reject", "restore", "preview"])
@pytest.mark.parametrize("place", [float("nan"), float("inf"), None])
def test_a_place_that_is_none_is_refused_in_words(site: Site, name: str, place: Any) -> None:
    visitor = opened(site, photo(1))
    answer = act(site, visitor.token, name, {"x": place, "y": 3}, 0)
    assert "A place is x and y" in answer["problem"]


def test_stages_are_counted_with_those_that_no_system_declares() -> None:
    """A region and good parts add some."""
    visitor = Visitor("", "tiny")
    declared = why.expected((), visitor.settings)
    more = replace(declared[0], name="region", title="Region")
    found = [Stage(spec, "") for spec in (more, *declared)]
    shown = screen.on_the_way(visitor, (20, 30), found)
    assert f"Stage {len(found)} of {len(found)}: " in shown["zs-verdict"]


@pytest.mark.slow
def test_what_was_stopped_or_failed_can_be_looked_at_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = begun(site, 1.0)
    act(site, visitor.token, "stop", {}, 0)
    assert "Look again" in settled(visitor).screen["zs-verdict"]

    def begin(*_: Any) -> Any:
        raise ZsasError("Too little memory.")

    with monkeypatch.context() as patch:
        patch.setattr("zsas.ui.gpu.begin", begin)
        act(site, visitor.token, "rerun", {}, 0)
        assert "Too little memory" in settled(visitor).screen["zs-verdict"]
    act(site, visitor.token, "rerun", {}, 0)
    assert "zs-meter" in settled(visitor).screen["zs-verdict"]


@pytest.mark.slow
def test_a_photo_that_the_region_does_not_fit_says_so_and_the_page_can_be_loaded_again(
    site: Site,
) -> None:
    visitor = opened(site, photo(1, (200, 200)))
    square = visitor.view
    show(site, visitor, View(site.engine.keep_image(photo(2)), "wide"))
    settled(visitor)
    region = {"size": [320, 240], "region": [{"rectangle": [0, 0, 160, 240]}], "ignore": []}
    act(site, visitor.token, "region", {"region": region}, 0)
    answer = act(site, visitor.token, "come_back", {"image": square.image}, 0)
    assert answer["problem"] == ""
    shown = settled(visitor).screen
    assert "has another shape" in shown["zs-verdict"]
    assert shown["state"]["image"] == square.image
    assert hello(site, visitor.token, "")["token"] == visitor.token
    assert "has another shape" in settled(visitor).screen["zs-verdict"]


@pytest.mark.slow
@pytest.mark.parametrize("with_photo", [True, False])
def test_stopping_the_systems_leaves_no_models_that_seem_to_be_loaded(
    site: Site, with_photo: bool
) -> None:
    visitor = opened(site, photo(1)) if with_photo else site.visitors.new("tiny")
    loaded = threading.Event()
    site.engine._load = lambda preset: loaded.wait(60)  # type: ignore[assignment, return-value]
    act(site, visitor.token, "preset", {"name": "base"}, 0)
    act(site, visitor.token, "stop_systems", {}, 0)
    loaded.set()
    verdict = settled(visitor).screen["zs-verdict"]
    assert ("zs-meter" if with_photo else "Drop a photo") in verdict
