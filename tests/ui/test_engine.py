"""What all visitors share: models, encodings, the line, a lent GPU."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.visits import opened, settled
from zsas.errors import ZsasError
from zsas.settings import Settings
from zsas.ui import gpu
from zsas.ui.engine import Engine
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
