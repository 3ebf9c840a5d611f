"""Many photos one lot after the other: what belongs to one lot is never shown or written with another."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.fake import photo
from tests.helpers.images import png
from tests.helpers.results import make_result
from tests.helpers.visits import rested, settled
from zsas.errors import ZsasError
from zsas.images import digest
from zsas.settings import Settings
from zsas.ui import gpu, take
from zsas.ui.events.site import Site, act, answer
from zsas.ui.events.visit import hello
from zsas.ui.many import Many
from zsas.ui.visitor import Visitor


@pytest.fixture
def visitor(site: Site, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    monkeypatch.setattr("zsas.ui.upload.is_uploaded", lambda path: True)
    found = site.visitors.known(hello(site, "", "")["token"])
    assert found is not None
    return found


def send(site: Site, visitor: Visitor, folder: Path, *seeds: int) -> None:
    """Examine photos as a lot, and wait for them."""
    files = []
    for seed in seeds:
        path = folder / f"{seed}.png"
        path.write_bytes(png(photo(seed)))
        files.append({"name": path.name, "path": str(path)})
    assert done(site, visitor, "begin_batch", files=files)["problem"] == ""
    rested(visitor)


def done(site: Site, visitor: Visitor, name: str, /, **data: Any) -> dict[str, Any]:
    return act(site, visitor.token, name, data, visitor.news)


def packed(site: Site, visitor: Visitor) -> dict[str, bytes]:
    """The files of the lot's ZIP by name."""
    file = take.file(site, visitor, "batch-all.zip")
    assert file is not None
    assert file.path is not None
    with zipfile.ZipFile(io.BytesIO(file.path.read_bytes())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.slow
def test_a_photo_of_the_lot_before_is_none_of_the_next(
    site: Site, visitor: Visitor, tmp_path: Path
) -> None:
    send(site, visitor, tmp_path, 0, 1, 2)
    done(site, visitor, "open_row", number=2)
    done(site, visitor, "verdict", verdict="normal")
    send(site, visitor, tmp_path, 3)
    assert visitor.screen["state"]["row"] == -1
    answer = done(site, visitor, "open_row", number=0)
    assert answer["problem"] == ""
    assert settled(visitor).view.image == digest(photo(3))
    assert not visitor.batch.shown(0)["corrected"]
    # Back finds the photo again, with what was said about it.
    done(site, visitor, "come_back", image=digest(photo(2)))
    assert settled(visitor).view.now.review.verdict == "normal"
    assert visitor.view.row == -1


@pytest.mark.slow
def test_a_correction_that_is_taken_back_is_out_of_the_files(
    site: Site, visitor: Visitor, tmp_path: Path
) -> None:
    send(site, visitor, tmp_path, 2)
    before = packed(site, visitor)
    done(site, visitor, "open_row", number=0)
    (x, y), *_ = np.argwhere(photo(2).mean(-1).T < 60)
    done(site, visitor, "reject", x=int(x), y=int(y))
    settled(visitor)
    rejected = packed(site, visitor)
    assert rejected["2_mask.png"] != before["2_mask.png"]
    assert not np.asarray(Image.open(io.BytesIO(rejected["2_mask.png"]))).any()
    done(site, visitor, "undo")
    settled(visitor)
    assert packed(site, visitor)["2_mask.png"] == before["2_mask.png"]


@pytest.mark.slow
def test_a_correction_names_no_limit(site: Site, visitor: Visitor, tmp_path: Path) -> None:
    send(site, visitor, tmp_path, 2)
    done(site, visitor, "open_row", number=0)
    done(site, visitor, "verdict", verdict="normal")
    settled(visitor)
    assert json.loads(packed(site, visitor)["2_result.json"])["limit_from"] == "default"
    done(site, visitor, "change", name="verdict_threshold", value=0.31)
    settled(visitor)
    said = json.loads(packed(site, visitor)["2_result.json"])
    assert (said["limit"], said["limit_from"]) == (0.31, "person")


@pytest.mark.slow
def test_files_of_a_lot_are_of_its_last_look(site: Site, visitor: Visitor, tmp_path: Path) -> None:
    send(site, visitor, tmp_path, 1, 2)
    site.engine.segmenter("tiny").seconds = 0.2  # type: ignore[attr-defined]
    done(site, visitor, "again_batch")
    visitor.batch.stopped = True
    rested(visitor)
    assert visitor.batch.done < 2
    lines = json.loads(packed(site, visitor)["results.json"])
    names = {f"{line['saved_as']}_mask.png" for line in lines if line["saved_as"]}
    assert {name for name in packed(site, visitor) if name.endswith("_mask.png")} == names


@pytest.mark.slow
def test_each_look_at_a_lot_has_pictures_of_its_own(
    site: Site, visitor: Visitor, tmp_path: Path
) -> None:
    """A browser keeps the small pictures by their addresses, which the lot's key is a part of."""
    send(site, visitor, tmp_path, 1)
    first = visitor.batch.summary()["key"]
    done(site, visitor, "again_batch")
    second = rested(visitor).batch.summary()["key"]
    send(site, visitor, tmp_path, 2)
    assert len({first, second, visitor.batch.summary()["key"]}) == 3


@pytest.mark.slow
def test_the_limit_of_good_parts_that_were_taken_away_does_not_come_back(
    site: Site, visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(many: Many, *_: Any) -> Iterator[int]:
        visitor.parts = (("key", "rim"),)  # others than when it began
        many.rows[0].result = make_result(limit_from="references")
        many.done = 1
        yield 0

    monkeypatch.setattr(Many, "run", run)
    send(site, visitor, tmp_path, 1)
    assert visitor.limit_found is None


def test_a_tab_that_asks_while_a_lot_ends_is_told_of_its_end(
    site: Site, visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told that nothing runs, it does not ask again."""
    told: Queue[dict[str, Any]] = Queue()

    def propose(*_: Any) -> dict[str, Any]:
        asking = Thread(target=lambda: told.put(answer(visitor, visitor.news)))
        asking.start()
        asking.join(0.3)
        return {}

    monkeypatch.setattr(Many, "proposal", propose)
    send(site, visitor, tmp_path, 1)
    said = told.get(timeout=10)
    assert said["busy"] or not said["parts"]["batch"]["running"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open_row", "closer"])
def test_a_photo_that_is_no_longer_kept_is_called_by_its_own_name(
    site: Site, visitor: Visitor, tmp_path: Path, name: str
) -> None:
    send(site, visitor, tmp_path, 1)
    visitor.batch.rows[0].closer = ("max_tiles", "9", 9)
    (tmp_path / "1.png").unlink()
    answer = done(site, visitor, name, number=0)
    said = rested(visitor).screen.get("failure", "") + answer["problem"]
    assert "1.png" in said
    assert str(tmp_path) not in said


@pytest.mark.slow
def test_the_same_failure_is_said_each_time(site: Site, visitor: Visitor) -> None:
    visitor.show({"failure": "It failed."})
    seen = visitor.news
    visitor.show({"failure": "It failed."})
    assert visitor.since(seen) == {"failure": "It failed."}


@pytest.mark.slow
def test_files_of_a_lot_that_is_no_longer_kept_are_refused_in_words(
    site: Site, visitor: Visitor, tmp_path: Path
) -> None:
    send(site, visitor, tmp_path, 1)
    shutil.rmtree(visitor.batch.folder)
    for name in ("batch-report.html", "batch-all.zip"):
        with pytest.raises(ZsasError, match="no longer kept; send them again"):
            take.file(site, visitor, name)
    answer = done(site, visitor, "again_batch")
    assert "no longer kept; send them again" in answer["problem"]


@pytest.mark.slow
def test_a_photo_that_is_still_to_be_examined_has_no_row_yet(
    site: Site, visitor: Visitor, tmp_path: Path
) -> None:
    send(site, visitor, tmp_path, 1, 2)
    done(site, visitor, "open_row", number=1)
    site.engine.segmenter("tiny").seconds = 0.5  # type: ignore[attr-defined]
    done(site, visitor, "again_batch")
    done(site, visitor, "close")  # what was said about it is noted
    assert "row-1" not in visitor.screen
    assert rested(visitor).screen["row-1"]["score"] is not None


def test_an_empty_zip_among_photos_keeps_none_of_them_back(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(photo(1)))
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    files = [(f"in/{name}", tmp_path / name) for name in ("a.png", "empty.zip")]
    assert [row.name for row in Many.of(files, "tiny", Settings()).rows] == ["in/a.png"]
    with pytest.raises(ZsasError, match="no files in this batch"):
        Many.of(files[1:], "tiny", Settings())


def test_a_lot_that_was_stopped_at_its_end_is_whole() -> None:
    many = Many("tiny", Settings(), Path(), [], stopped=True)
    assert many.summary()["stopped"] is False


@pytest.mark.slow
def test_a_report_shows_what_a_person_added(
    site: Site, visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(site, visitor, tmp_path, 2)
    done(site, visitor, "open_row", number=0)
    done(site, visitor, "click", x=9, y=9, action="spot")
    settled(visitor)
    entries: list[Any] = []

    def report(given: list[Any]) -> str:
        entries.extend(given)
        return ""

    monkeypatch.setattr("zsas.ui.many.report_html", report)
    take.file(site, visitor, "batch-report.html")
    whole = json.loads(packed(site, visitor)["2_result.json"])
    assert len(whole["regions"]) == 2
    assert [entry.clicks for entry in entries] == [1, 1]  # the ZIP's own as well
    assert all(len(entry.facts["regions"]) == 2 for entry in entries)


@pytest.mark.slow
def test_a_photo_of_a_lot_comes_back_without_being_encoded_again(
    site: Site, visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = gpu.begin, []

    def note(*given: Any) -> Any:
        begun.append(given)
        return begin(*given)

    monkeypatch.setattr(gpu, "begin", note)
    send(site, visitor, tmp_path, 1, 2)
    done(site, visitor, "open_row", number=1)
    done(site, visitor, "close")
    done(site, visitor, "come_back", image=digest(photo(2)))
    assert settled(visitor).view.row == 1
    hello(site, visitor.token, "")
    assert settled(visitor).view.row == 1
    assert "zs-meter" in visitor.screen["zs-verdict"]
    assert not begun
    shutil.rmtree(visitor.batch.folder)
    hello(site, visitor.token, "")
    assert "zs-meter" in settled(visitor).screen["zs-verdict"]
    assert len(begun) == 1
