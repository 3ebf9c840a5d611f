"""What all visitors share: models, encodings, the line, a lent GPU."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.images import png
from tests.helpers.visits import opened, settled
from zsas.cancellation import Cancelled, until_cancelled
from zsas.errors import ZsasError
from zsas.images import ReadImage, read_image
from zsas.settings import Settings, all_settings
from zsas.ui import gpu
from zsas.ui.api import make_segment
from zsas.ui.calls import MORE
from zsas.ui.compare import looker
from zsas.ui.engine import Engine
from zsas.ui.events import image as events
from zsas.ui.events.site import Site, act
from zsas.ui.examples import Examples
from zsas.ui.line import Line
from zsas.ui.visitor import MOST, Visitors


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What a ZeroGPU is asked for, in order: the page's calls behind a stand-in for the package `spaces`."""
    seconds: list[tuple[str, int]] = []

    def lend(duration: Callable[..., int]) -> Callable[..., Any]:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def called(*words: Any, **named: Any) -> Any:
                seconds.append((function.__name__, duration(*words, **named)))
                return function(*words, **named)

            return called

        return wrap

    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lambda duration: lend(duration)))
    spec = importlib.util.find_spec("zsas.ui.gpu")
    assert spec is not None
    assert spec.loader is not None
    lent = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lent)
    monkeypatch.setattr("zsas.ui.engine.gpu", lent)
    return seconds


def read(height: int, width: int) -> ReadImage:
    return read_image(np.full((height, width, 3), 200, np.uint8))


def test_each_system_of_a_comparison_asks_a_zerogpu_for_its_own_time(
    asked: list[tuple[str, int]],
) -> None:
    engine = Engine(lambda preset: FakeSegmenter(preset), "tiny")
    engine.start_here()
    look = looker(engine, "tiny", read(1000, 1000))
    for system in ("auto", "paper"):
        look(Settings(system=system))
    assert asked == [("encode", 14), ("decide", 5), ("encode", 14), ("decide", 5)]


def test_more_good_images_ask_a_zerogpu_for_more_time_and_not_for_ever(
    asked: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(lambda preset: FakeSegmenter(preset), "tiny")
    engine.start_here()
    monkeypatch.setattr(FakeSegmenter, "remember", lambda *_: "memory")
    for count in (1, 8, 200):
        engine.remember_apart("tiny", [read(1000, 1000)] * count, Settings())
    assert [seconds for _, seconds in asked] == [14, 20, 120]


def test_tiles_and_close_ups_ask_a_zerogpu_for_more_time(
    asked: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(lambda preset: FakeSegmenter(preset), "tiny")
    engine.start_here()
    fake: Any = engine.segmenter("tiny")
    localizer = fake.localizer(Settings())
    localizer.tiled, localizer.resolution = True, lambda _: 100
    whole = SimpleNamespace(to=lambda device: None)
    monkeypatch.setattr(FakeSegmenter, "encode", lambda *_: whole)
    for settings in (
        Settings(tiles="off"),
        Settings(tiles=250, max_tiles=256),
        Settings(tiles=250, max_tiles=16),
        Settings(tiles="off", sam_crops=8),
    ):
        engine.encode_apart("tiny", read(1000, 1000), settings, "image")
    off, all_tiles, sixteen, crops = (seconds for _, seconds in asked)
    assert off == 14
    assert off < sixteen < all_tiles
    assert crops == off + 4


def test_a_detector_asks_a_zerogpu_for_more_time_while_deciding() -> None:
    encoding = SimpleNamespace(image=np.zeros((1000, 1000, 3), np.uint8))
    usual = gpu._for_decide("tiny", encoding, Settings(), (), part=None)
    assert gpu._for_decide("tiny", encoding, Settings(system="saa"), ()) > usual + 5


def test_a_download_of_models_is_followed_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["", "Fetching a/b: 1.0 of 9.0 MB, 0.5 MB/s.", "Fetching a/b: 2.0 of 9.0 MB, 0.5 MB/s."]
    there = threading.Event()

    def fetching() -> str:
        if len(said) == 1:
            there.set()
        return said.pop(0) if len(said) > 1 else said[0]

    monkeypatch.setattr(events, "fetching", fetching)
    monkeypatch.setattr(events, "SAY_SECONDS", 0.01)
    site: Any = SimpleNamespace(engine=SimpleNamespace(segmenter=lambda name: there.wait(10)))
    found = [step["zs-verdict"] for step in events.loading(site, "base")]
    for text, sentence in zip(
        found, ("Loading base", "1.0 of 9.0 MB", "2.0 of 9.0 MB"), strict=True
    ):
        assert sentence in text


def test_who_stops_does_not_wait_for_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    there, stopped = threading.Event(), threading.Event()
    monkeypatch.setattr(events, "SAY_SECONDS", 0.01)
    site: Any = SimpleNamespace(engine=SimpleNamespace(segmenter=lambda name: there.wait(30)))
    steps = until_cancelled(events.loading(site, "base"), stopped.is_set)
    assert "Loading base" in next(steps)["zs-verdict"]
    stopped.set()
    with pytest.raises(Cancelled):
        next(steps)
    assert not there.is_set()
    there.set()


def test_models_that_cannot_be_had_are_a_sentence_for_who_asked() -> None:
    def refuse(name: str) -> None:
        raise ZsasError("The Hub is away.")

    site: Any = SimpleNamespace(engine=SimpleNamespace(segmenter=refuse))
    with pytest.raises(ZsasError, match="away"):
        list(events.loading(site, "base"))


def test_a_call_from_code_leaves_the_photos_of_visitors_in_memory(
    engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(photo(2)))
    nothing = [None] * (len(all_settings()) + len(MORE))
    answer, *_ = make_segment(engine)(str(path), "tiny", *nothing)
    assert answer["anomalous"] is True
    assert engine._images.nbytes == engine._encodings.nbytes == 0


def test_an_image_that_was_let_go_is_read_again_from_its_file(tmp_path: Path) -> None:
    """The good parts of a visitor alone may be more than memory has room for."""
    engine = Engine(lambda preset: FakeSegmenter(), "tiny", budget=2 * photo(1).nbytes)
    keys = []
    for number in (1, 2, 3):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png(photo(number)))
        keys.append(engine.keep_image(read_image(path), path))
    for number, key in zip((1, 2, 3), keys, strict=True):
        found = engine.image(key)
        assert found is not None
        assert np.array_equal(found, photo(number))
    (tmp_path / "1.png").unlink()
    assert engine.image(keys[0]) is None
    with pytest.raises(ZsasError, match="Not all good parts are in memory"):
        engine.remember("tiny", tuple(keys), Settings())
