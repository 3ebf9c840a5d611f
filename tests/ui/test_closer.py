"""A closer look at one of many photos, from its thumbnail."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.fake import photo
from zsas.errors import ZsasError
from zsas.result import Result
from zsas.settings import Settings
from zsas.ui.events.batch import closer, open_row
from zsas.ui.events.site import Site, act
from zsas.ui.events.visit import hello
from zsas.ui.many import Many
from zsas.ui.visitor import Visitor


@pytest.fixture
def lot(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Visitor, Many]:
    """A visitor with three photos that were seen in fewer tiles than would show everything."""

    def wanted(result: Result) -> tuple[str, str, int] | None:
        return None if result.settings.max_tiles == 9 else ("max_tiles", "9", 9)

    monkeypatch.setattr("zsas.ui.views.look_closer", wanted)
    visitor = site.visitors.known(hello(site, "", "")["token"])
    assert visitor is not None
    files = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(photo(number)).save(path)
        files.append((path.name, path))
    many = visitor.batch = Many.of(files, "tiny", visitor.settings)
    list(many.run(site.engine, lambda *_: {"zs-verdict": "as before"}))
    many.running = False
    return visitor, many


def until_looked(many: Many) -> None:
    for _ in range(1000):
        if not many.looking:
            return
        time.sleep(0.01)
    raise AssertionError("it is still being looked at")


@pytest.mark.slow
def test_one_of_many_is_looked_at_closer_and_the_others_stay(
    site: Site, lot: tuple[Visitor, Many]
) -> None:
    visitor, many = lot
    assert "9 tiles would show more" in many.shown(1)["closer"]
    answer = act(site, visitor.token, "closer", {"number": 1}, visitor.news)
    assert not answer["problem"]
    until_looked(many)
    row = many.shown(1)
    assert (row["closer"], row["closely"], row["looking"]) == ("", True, False)
    assert many.shown(0)["closer"]
    assert not visitor.is_busy
    # What is opened stands with the settings that it was looked at with.
    open_row(site, visitor, {"number": 1})
    assert visitor.settings.max_tiles == 9
    assert "Look closer" not in visitor.screen["zs-verdict"]
    open_row(site, visitor, {"number": 0})
    assert visitor.settings.max_tiles == Settings().max_tiles
    assert 'data-do="closer" data-row="0"' in visitor.screen["zs-verdict"]
    with pytest.raises(ZsasError, match="nothing to look at closer"):
        closer(site, visitor, {"number": 1})


@pytest.mark.slow
def test_a_row_that_is_open_is_shown_anew_when_it_was_looked_at(
    site: Site, lot: tuple[Visitor, Many]
) -> None:
    visitor, many = lot
    open_row(site, visitor, {"number": 2})
    answer = act(site, visitor.token, "closer", {"number": 2}, visitor.news)
    assert "Looking closer" in answer["parts"]["zs-verdict"] or not many.looking
    until_looked(many)
    for _ in range(200):
        if "zs-meter" in visitor.screen["zs-verdict"]:
            break
        time.sleep(0.01)
    assert "zs-meter" in visitor.screen["zs-verdict"]
    assert visitor.settings.max_tiles == 9
