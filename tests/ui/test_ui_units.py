"""The parts of the page that need neither server nor browser."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT
from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.images import png
from tests.helpers.results import make_result
from zsas import curves
from zsas.cancellation import cancellable
from zsas.errors import ZsasError
from zsas.images import load_image, read_mask
from zsas.result import find_regions
from zsas.settings import Settings, all_settings
from zsas.systems import SYSTEMS
from zsas.ui import batch, cards, controls, drawer, drawing, export, gpu, screen, views
from zsas.ui.engine import Engine
from zsas.ui.events import systems as systems_of_page
from zsas.ui.events.image import result_of, show
from zsas.ui.events.site import Site, act
from zsas.ui.events.visit import hello
from zsas.ui.examples import Examples
from zsas.ui.good import GoodPlace
from zsas.ui.line import Line
from zsas.ui.visitor import MOST, View, Visitor, Visitors


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(gpu, "SEGMENTERS", {})
    return Engine(lambda preset: FakeSegmenter(preset), "tiny")


@pytest.fixture
def site(engine: Engine, tmp_path: Path) -> Site:
    return Site(engine, Examples(tmp_path))


def opened(site: Site, image: np.ndarray) -> Visitor:
    """A visitor who has opened an image and waited for its result."""
    visitor = site.visitors.known(hello(site, "", "")["token"])
    assert visitor is not None
    show(site, visitor, View(site.engine.keep_image(image), "part"))
    return settled(visitor)


def settled(visitor: Visitor) -> Visitor:
    """The visitor when nothing runs for them any more."""
    for _ in range(2000):
        if not visitor.running:
            return visitor
        time.sleep(0.01)
    raise AssertionError("it still runs")


# Settings in the address


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(
            threshold=0.35,
            negatives=False,
            kernel_shape="cross",
            k_positive=7,
            object_name="a b&c=d",
        ),
    ],
)
def test_settings_survive_the_address(settings: Settings) -> None:
    from urllib.parse import parse_qsl

    assert controls.from_query(dict(parse_qsl(controls.to_query(settings)))) == (settings, [])


def test_the_address_names_only_what_differs() -> None:
    assert controls.to_query(Settings(), example="nut", preset="") == "example=nut"


@pytest.mark.parametrize(("text", "value"), [("on", True), ("off", False), ("0", False)])
def test_a_switch_in_the_address_may_be_said_in_several_words(text: str, value: bool) -> None:
    assert controls.from_query({"negatives": text}) == (Settings(negatives=value), [])


@pytest.mark.parametrize(
    "query", [{"threshold": "7"}, {"k_positive": "x"}, {"negatives": "maybe"}, {"fusion": "sum"}]
)
def test_a_wrong_parameter_is_left_out_with_a_sentence(query: dict[str, str]) -> None:
    settings, refused = controls.from_query({**query, "blur": "2"})
    assert settings == Settings(blur=2.0)
    assert len(refused) == 1
    name, value = next(iter(query.items()))
    assert f"{name} is " in refused[0]
    assert value in refused[0]


def test_there_is_a_control_for_each_setting_with_its_own_range() -> None:
    text = drawer.drawer(Settings())
    for setting in all_settings():
        if setting.name in Settings().used() and setting.name not in drawer.ELSEWHERE:
            assert f'name="{setting.name}"' in text
            if setting.low is not None and not setting.words:
                assert f'min="{setting.low:g}" max="{setting.high:g}"' in text
    assert "All " in text
    assert 'data-name="threshold"' not in text
    assert 'data-name="threshold"' in drawer.drawer(Settings(threshold=0.3))


# Clicks


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


def test_points_of_an_address_are_read_and_nonsense_is_left_out() -> None:
    assert screen.parse_points("10,20,1;1,2;x,y,z;999,1,1;5,6,0;7,8,3", (240, 320)) == (
        (10, 20, 1),
        (5, 6, 0),
    )


# What is shared


def test_a_decision_never_encodes_and_an_image_is_encoded_once_however_small_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "SEGMENTERS", {})
    fake = FakeSegmenter()
    site = Site(Engine(lambda preset: fake, "tiny", budget=1), Examples(tmp_path))
    visitor = opened(site, photo(1))
    assert "zs-meter" in visitor.screen["zs-verdict"]
    act(site, visitor.token, "change", {"name": "threshold", "value": 0.9}, 0)
    act(site, visitor.token, "click", {"x": 5, "y": 5, "action": "plus"}, 0)
    assert 'data-click="0"' in settled(visitor).screen["zs-viewer"]
    assert fake.encoded == 1


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
    assert sorted(set(shown)) == list(range(9))
    assert shown == sorted(shown)


def test_a_problem_is_a_sentence_and_what_is_shown_stays(site: Site) -> None:
    visitor = opened(site, photo(1))
    before = dict(visitor.screen)
    answer = act(site, visitor.token, "change", {"name": "threshold", "value": 7}, visitor.news)
    assert "threshold is 7" in answer["problem"]
    assert answer["parts"] == {}
    assert visitor.screen == before
    assert "cannot do" in act(site, visitor.token, "no such thing", {}, 0)["problem"]
    assert act(site, "nobody", "stop", {}, 0) == {"gone": True}


def test_a_tab_is_told_only_what_changed(site: Site) -> None:
    visitor = opened(site, photo(1))
    answer = act(site, visitor.token, "verdict", {"verdict": "normal"}, visitor.news)
    assert {"zs-verdict", "state"} <= set(answer["parts"])
    assert not {"zs-strip", "zs-scale", "zs-drawer-body"} & set(answer["parts"])
    assert "by a person" in answer["parts"]["zs-verdict"]


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


def test_where_no_sam_draws_a_click_marks_the_spot(site: Site) -> None:
    visitor = opened(site, photo(1))
    act(site, visitor.token, "change", {"name": "refiner", "value": "none"}, visitor.news)
    act(site, visitor.token, "click", {"x": 9, "y": 9, "action": "plus"}, visitor.news)
    result = result_of(site, visitor)
    assert result is not None
    assert result.mask[9, 9]


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


def test_a_system_that_cannot_compare_says_so(site: Site) -> None:
    visitor = opened(site, photo(2))
    act(site, visitor.token, "add_this", {}, 0)
    assert "no patch features" in settled(visitor).screen["zs-verdict"]


def test_a_reload_finds_the_visitor_and_a_link_makes_a_new_one(site: Site) -> None:
    visitor = opened(site, photo(1))
    assert hello(site, visitor.token, "")["token"] == visitor.token
    assert hello(site, visitor.token, "?threshold=0.3")["token"] != visitor.token
    assert hello(site, "gone", "")["token"] not in ("gone", visitor.token)


def test_single_images_go_before_batches_and_the_waiting_are_told() -> None:
    line = Line()
    order: list[str] = []
    began = threading.Event()

    def stand(kind: Any, name: str, seconds: float = 0.0) -> None:
        with line.turn(kind):
            began.set()
            order.append(name)
            time.sleep(seconds)

    with ThreadPoolExecutor(8) as pool:
        pool.submit(stand, "batch", "first of the batch", 0.3)
        began.wait()
        pool.submit(stand, "batch", "second of the batch")
        time.sleep(0.05)
        with line.place("image") as place:
            assert not place.first(0.01)
            assert "one photo of a batch ahead, about" in place.words()
            assert place.first(5)
            order.append("image")
    assert order == ["first of the batch", "image", "second of the batch"]


def test_a_full_line_says_so() -> None:
    line = Line(most=1)
    with line.turn("image"), line.place("image"), pytest.raises(ZsasError, match="line is full"):
        line.place("image").__enter__()


def test_the_caches_stay_within_their_budget() -> None:
    gpu.SEGMENTERS.clear()
    one = photo(0).nbytes * 3
    engine = Engine(lambda preset: FakeSegmenter(preset), "tiny", budget=one * 4)
    keys = [engine.keep_image(photo(seed)) for seed in range(3)]
    for key in keys:
        engine.encode("tiny", key, Settings())
    more = [engine.keep_image(photo(seed)) for seed in range(50, 80)]
    assert engine._images.nbytes <= one * 2
    assert engine.image(keys[0]) is None
    assert engine.image(more[-1]) is not None
    gpu.SEGMENTERS.clear()


def test_a_photo_that_was_let_go_is_asked_for_again(site: Site) -> None:
    visitor = opened(site, photo(1))
    visitor.view = View("gone", "part")
    act(site, visitor.token, "rerun", {}, 0)
    assert "open it again" in settled(visitor).screen["zs-verdict"]


def test_an_unreachable_default_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SEGMENTERS", {})

    def load(preset: str) -> FakeSegmenter:
        if preset == "paper":
            raise ZsasError("The preset paper cannot be had.")
        return FakeSegmenter(preset)

    engine = Engine(load, "paper")
    assert "Loading paper" in engine.status
    engine.start().join()
    assert engine.running == "tiny"
    assert engine.status == "The preset paper cannot be had. Running tiny instead."


def test_visitors_are_known_by_their_tokens_and_the_oldest_are_forgotten() -> None:
    visitors = Visitors()
    first = visitors.new("tiny")
    assert visitors.known(first.token) is first
    unwanted = first.unwanted()
    assert not unwanted()
    first.turn_to()
    assert unwanted()
    for _ in range(MOST):
        visitors.new("tiny")
    assert len(visitors) <= MOST
    assert visitors.known(first.token) is None


def test_on_a_zerogpu_models_load_in_the_main_thread_and_encodings_leave_the_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where: list[threading.Thread] = []

    class OnGpu:
        def encode(self, image: Any, settings: Any) -> Any:
            return SimpleNamespace(to=lambda device: f"on {device}")

    def load(preset: str) -> Any:
        where.append(threading.current_thread())
        return OnGpu()

    monkeypatch.setattr(gpu, "ZERO", True)
    monkeypatch.setattr(gpu, "SEGMENTERS", {})
    engine = Engine(load, "tiny")
    engine.start_here()
    assert where == [threading.main_thread()]
    assert engine.running == "tiny"
    assert gpu.encode("tiny", np.zeros((4, 4, 3), np.uint8), Settings()) == "on cpu"
    with ThreadPoolExecutor(1) as other, pytest.raises(ZsasError, match="ZSAS_PRESET=base"):
        other.submit(engine.segmenter, "base").result()


@pytest.mark.parametrize(
    ("work", "megapixels", "seconds"),
    [("encode", 1, 14), ("encode", 12, 24), ("encode", 90, 60), ("decide", 1, 5)],
)
def test_a_zerogpu_is_asked_for_as_long_as_the_photo_needs(
    work: str, megapixels: int, seconds: int
) -> None:
    assert gpu.seconds_for(work, (1000 * megapixels, 1000, 3)) == seconds


# Drawings


def test_the_border_of_a_mask_is_drawn_in_pixels_of_the_photo() -> None:
    mask = np.zeros((50, 80), bool)
    mask[10:21, 30:61] = True
    numbers = {tuple(map(int, pair)) for pair in re.findall(r"(\d+) (\d+)", drawing.path_of(mask))}
    assert numbers == {(30, 10), (60, 10), (60, 20), (30, 20)}
    assert drawing.path_of(np.zeros((5, 5), bool)) == ""
    assert drawing.path_of(np.eye(5, dtype=bool) & (np.arange(5) == 2)) != ""


def test_names_from_outside_cannot_carry_markup() -> None:
    assert "<script" not in views.sorry("<script>")
    assert "<img" not in drawer.drawer(Settings(object_name="<img src=x>"))


def test_every_picture_has_words_for_those_who_cannot_see_it(site: Site) -> None:
    visitor = opened(site, photo(1))
    for part in ("zs-viewer", "zs-strip"):
        for picture in re.findall(r"<svg[^>]*>", visitor.screen[part]):
            assert re.search(r'aria-label="[^"]{10,}"', picture)


# Many photos and files to take away


def test_a_zip_is_unpacked_under_harmless_names(tmp_path: Path) -> None:
    packed = tmp_path / "p.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil.png", b"1")
        archive.writestr("a/b.png", b"2")
    target = tmp_path / "out"
    target.mkdir()
    found = batch.unpack([packed], target)
    assert [name for name, _, _ in found] == ["../../evil.png", "a/b.png"]
    assert all(path is not None and path.parent == target for _, path, _ in found)


def test_a_zip_that_grows_without_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_UNPACKED", 1000)
    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 10**6)
    found = batch.unpack([packed], tmp_path)
    assert found[0][1] is None
    assert "split it" in found[0][2]
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def packed(path: Path, *members: tuple[str, bytes]) -> Path:
    """A ZIP with these members, deflated."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_a_zip_of_too_many_files_is_refused_and_not_cut(tmp_path: Path) -> None:
    many = packed(tmp_path / "many.zip", *((f"{i}.png", b"1") for i in range(600)))
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(ZsasError, match="at most 500 files"):
        batch.unpack([many], target)
    assert not any(target.iterdir())


def test_a_damaged_member_of_a_zip_is_a_row_and_the_others_go_on(
    tmp_path: Path, engine: Engine
) -> None:
    content = os.urandom(3000)
    path = packed(tmp_path / "p.zip", ("bad.png", content), ("good.png", png(photo(2))))
    raw = bytearray(path.read_bytes())
    start = raw.index(b"bad.png") + len("bad.png")
    raw[start : start + 200] = b"\xff" * 200  # no deflate stream begins like this: zlib.error
    path.write_bytes(raw)
    *_, last = batch.run(engine, [path], "tiny", Settings())
    assert [bool(line.error) for line in last.lines] == [True, False]
    assert "bad.png cannot be unpacked from p.zip" in last.lines[0].error


def test_a_member_of_a_zip_is_copied_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    read = zipfile.ZipExtFile.read

    def note(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        asked.append(n)
        return read(self, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", note)
    path = packed(tmp_path / "p.zip", ("large.png", bytes(5 * 2**20)))
    found = batch.unpack([path], tmp_path)
    assert found[0][1] is not None
    assert found[0][1].stat().st_size == 5 * 2**20
    assert all(n is not None and 0 < n <= 2**20 for n in asked)


def test_a_batch_can_be_stopped_while_it_unpacks(tmp_path: Path, engine: Engine) -> None:
    path = packed(tmp_path / "p.zip", ("a.png", png(photo(2))), ("b.png", png(photo(3))))
    steps = list(cancellable(batch.run(engine, [path], "tiny", Settings()), lambda: True))
    assert steps == [batch.Progress((), 1, stopped=True)]


def test_unpacked_photos_do_not_outlive_the_batch(tmp_path: Path, engine: Engine) -> None:
    path = packed(tmp_path / "p.zip", ("a.png", png(photo(2))))
    *_, last = batch.run(engine, [path], "tiny", Settings())
    assert last.archive is not None
    assert {part.name for part in last.archive.parent.iterdir()} == {
        "results",
        "zsas-results.zip",
    }


def test_a_batch_leaves_the_photos_of_others_in_memory(tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(photo(2)))
    list(batch.run(engine, [path], "tiny", Settings()))
    assert engine._images.nbytes == engine._encodings.nbytes == 0


def run_and_read(
    engine: Engine, paths: list[Path]
) -> tuple[set[str], list[dict[str, str]], list[dict[str, Any]], dict[str, Any]]:
    """A batch's file names, and what its CSV, JSON and COCO files say."""
    *_, last = batch.run(engine, paths, "tiny", Settings())
    assert last.archive is not None
    with zipfile.ZipFile(last.archive) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("results.csv").decode())))
        lines, coco = (json.loads(archive.read(name)) for name in ("results.json", "coco.json"))
        return set(archive.namelist()), rows, lines, coco


def test_formulas_in_file_names_are_defused(tmp_path: Path, engine: Engine) -> None:
    good, bad = tmp_path / "=cmd.png", tmp_path / "bad.png"
    good.write_bytes(png(photo(2)))
    bad.write_bytes(b"nothing")
    _, rows, _, _ = run_and_read(engine, [good, bad])
    assert rows[0]["file"] == "'=cmd.png"
    assert rows[0]["error"] == rows[1]["verdict"] == ""


def test_each_output_can_be_matched_to_its_photo(tmp_path: Path, engine: Engine) -> None:
    members = ("Деталь.png", "деталь.png", "a/000.png", "b/000.png", "Gear.png", "gear.png")
    content = png(photo(2))
    path = packed(
        tmp_path / "p.zip", *((name, content) for name in members), ("bad.png", b"nothing")
    )
    names, rows, lines, coco = run_and_read(engine, [path])
    saved = ["Деталь", "деталь_2", "000", "000_2", "Gear", "gear_2"]
    assert [row["saved_as"] for row in rows] == [*saved, ""]
    assert [(line["file"], line["saved_as"]) for line in lines[:-1]] == list(
        zip(members, saved, strict=True)
    )
    assert [(image["path"], image["saved_as"]) for image in coco["images"]] == list(
        zip(members, saved, strict=True)
    )
    assert [Path(image["file_name"]).stem for image in coco["images"]] == saved
    assert {f"{stem}_mask.png" for stem in saved} <= names
    assert len({name.casefold() for name in names}) == len(names)


def test_a_name_of_any_script_leaves_room_for_an_ending() -> None:
    assert export.stem_of("cafe\u0301 ../né") == "café-né"
    assert len(export.stem_of("\U00020000" * 300).encode()) <= 200


def test_an_empty_batch_is_one_sentence(engine: Engine) -> None:
    with pytest.raises(ZsasError, match="There are no files"):
        list(batch.run(engine, [], "tiny", Settings()))


def test_old_files_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = export.new_folder()
    monkeypatch.setattr(export, "KEEP_SECONDS", -1.0)
    second = export.new_folder()
    assert not first.exists()
    assert second.exists()


def test_a_batch_of_more_than_an_hour_keeps_its_folder(tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(photo(2)))
    before = set(export.scratch().iterdir())
    steps = batch.run(engine, [path, path], "tiny", Settings())
    next(steps)
    (folder,) = set(export.scratch().iterdir()) - before
    began = time.time() - 2 * export.KEEP_SECONDS
    os.utime(folder, (began, began))
    next(steps)
    export.new_folder()
    assert folder.exists()
    *_, last = steps
    assert last.archive is not None
    assert last.archive.is_file()


def test_the_files_of_a_server_that_was_killed_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from zsas.ui import export; print(export.new_folder().parent, flush=True); input()"
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        for _ in range(2)
    ]
    folders = [Path(server.stdout.readline().strip()) for server in servers if server.stdout]
    try:
        servers[0].kill()
        servers[0].wait()
        assert all(folder.is_dir() for folder in folders)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        export.scratch.__wrapped__()
        assert [folder.exists() for folder in folders] == [False, True]
    finally:
        for server in servers:
            server.kill()
            server.communicate()


# Examples and the Space


def test_the_bundled_examples_are_complete() -> None:
    index = tomllib.loads((ROOT / "examples" / "index.toml").read_text())["example"]
    examples = Examples()
    assert len(index) == len(examples) >= 12
    sound = 0
    for entry in index:
        image = load_image(ROOT / "examples" / entry["image"])
        mask = read_mask(ROOT / "examples" / entry["mask"], image.shape[:2])
        assert entry["licence"] == "CC0-1.0"
        assert entry["object"]
        assert mask.any() == bool(entry["defects"])
        sound += not mask.any()
    assert sound >= 2
    assert len({kind for entry in index for kind in entry["defects"]}) >= 6


def test_the_examples_on_the_hub_are_credited() -> None:
    entries = tomllib.loads((ROOT / "examples" / "hub.toml").read_text())["example"]
    for dataset in ("mvtec", "visa"):
        mine = [entry for entry in entries if entry["dataset"] == dataset]
        assert len({entry["category"] for entry in mine}) >= 2
        for entry in mine:
            assert all(entry[key] for key in ("repo", "file", "revision", "licence", "attribution"))
            assert ("non-commercial" in entry["licence"]) == (dataset == "mvtec")


def test_without_the_hub_only_ours_are_shown(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text((ROOT / "examples" / "hub.toml").read_text())
    examples = Examples(tmp_path)
    examples.fetch_in_background()
    assert examples._fetching is not None
    examples._fetching.join()
    assert examples.complete
    assert len(examples) == 0


def test_the_front_matter_of_the_readme_is_valid() -> None:
    import gradio
    import yaml

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---", 2)[1])
    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == gradio.__version__
    assert (ROOT / front["app_file"]).is_file()
    assert re.fullmatch(r"3\.1\d", str(front["python_version"]))
    assert len(front["short_description"]) <= 60
    assert {"openai/clip-vit-large-patch14-336", "facebook/sam-vit-huge"} <= set(front["models"])
    for line in front["preload_from_hub"]:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+( [\w.,*/-]+)?( [0-9a-f]{40})?", line)
    assert front["emoji"]
    assert Image.open(ROOT / "docs" / "page.png").width >= 1200


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("limit", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("marked", [True, False])
def test_no_settings_give_a_verdict_that_contradicts_itself(
    threshold: float, limit: float, marked: bool
) -> None:
    changes: dict[str, Any] = {} if marked else {"regions": (), "mask": np.zeros((60, 80), bool)}
    settings = Settings(threshold=threshold, verdict_threshold=limit)
    result = make_result(image_score=0.5, settings=settings, **changes)
    text = views.verdict(result, View())
    if result.verdict == "normal" and marked:
        assert "Each is too weak for the verdict" in text
    if result.verdict != "normal" and not marked:
        assert "Anomalous as a whole, but nothing is marked" in text or result.verdict == "unsure"
        assert "threshold" not in views.found(result)
    assert result.verdict.capitalize() in text
    assert "at or above the limit" in text or "below the limit" in text


def test_the_map_that_shows_more_than_is_marked_suggests_a_level() -> None:
    result = make_result(settings=Settings(threshold=0.7, verdict_threshold=0.5))
    assert views.suggested_level(result) is not None
    assert views.suggested_level(make_result(image_score=0.1)) is None


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


def test_a_visitor_gives_the_mask_of_their_own_photo(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = opened(site, photo(1))
    monkeypatch.setattr(systems_of_page, "is_uploaded", lambda path: "foreign" not in path)
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


def test_against_a_mask_cards_have_figures_and_curves() -> None:
    result = make_result()
    found = [cards.Card("auto", result, "", *curves.measure(result, result.mask))]
    shown = cards.cards([*found, cards.Card("vv")], "auto", result.mask.shape)
    assert "Against the mask, in %: AUROC" in shown
    assert shown.count("<svg") == 2  # the drawing, and the curves
    assert "<svg" not in cards.cards([cards.Card("vv")], "auto", result.mask.shape)


@pytest.mark.parametrize(
    ("size", "settings", "offer"),
    [
        (500, {"tiles": "off"}, None),
        (1500, {"tiles": "off"}, ("tiles", "auto")),
        (3000, {"tiles": "auto", "max_tiles": 4}, ("max_tiles", "25")),
        (3000, {"tiles": "auto", "max_tiles": 64}, None),
    ],
)
def test_what_a_large_photo_lost_can_be_looked_at_closer(
    size: int, settings: dict[str, Any], offer: tuple[str, str] | None
) -> None:
    models = {"localizer": "linear", "linear": {"resolution": 512}}
    found = views.look_closer(
        make_result(size, size, models=models, settings=Settings(**settings), stages=(), regions=())
    )
    assert (found[1:] if found else None) == offer


def test_specks_are_folded_and_sizes_are_fractions_of_the_photo() -> None:
    mask = np.zeros((1000, 1000), bool)
    mask[100:200, 100:200] = True
    mask[500:503, 500:503] = mask[700:702, 700:704] = True
    result = make_result(1000, 1000, mask=mask, regions=find_regions(mask, mask.astype(np.float32)))
    text = views.findings(result)
    assert "+ 2 specks" in text
    assert "1.0 %" in text
    assert views.found(result) == "1 finding and 2 specks."
    assert drawing.marked_regions(result.regions, mask.shape).count("<text") == 1


def test_beside_a_finding_stands_the_most_similar_place_of_a_good_part() -> None:
    result = FakeSegmenter().segment(photo(3))
    place = GoodPlace("abc", 'rim "7"', (200, 100), (50.0, 25.0))
    text = views.findings(result, {result.regions[0].id: place})
    assert "zs-with-good" in text
    assert text.count("image/abc.jpg") == 2  # in the line, and large
    assert "rim &quot;7&quot;" in text
    assert "zs-pair-of" not in views.findings(result)


def test_a_region_is_outlined_where_it_is() -> None:
    mask = np.zeros((300, 400), bool)
    mask[40:90, 350:400] = True  # at the right border
    mask[200:240, 100:180] = True
    (first, second) = find_regions(mask, mask.astype(np.float32))
    text = drawing.marked_regions((first, second), mask.shape)
    for x0, y0, x1, y1 in (first.box, second.box):
        assert f"{x0} {y0}L" in text
        assert f"L{x1 - 1} {y1 - 1}" in text
