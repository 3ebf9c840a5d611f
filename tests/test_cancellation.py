from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.helpers.models import small_segmenter
from zsas.cancellation import Cancelled, raise_if_cancelled, until_cancelled
from zsas.settings import Settings


def test_an_encoding_ends_between_two_blocks_and_leaves_nothing_half_done(photo):
    segmenter = small_segmenter()
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(Cancelled):
        list(until_cancelled(segmenter.stages(photo, Settings()), stop))
    assert len(asked) == 3
    assert segmenter.images_encoded == {"localizer": 0, "sam": 0}
    assert segmenter.encode(photo).key  # and later work of the same thread is not stopped


def test_sams_blocks_can_be_cancelled_too(photo):
    segmenter = small_segmenter()
    blocks = segmenter.clip.depth
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == blocks + 4  # two more steps: the map and the region

    with pytest.raises(Cancelled):
        list(until_cancelled(segmenter.stages(photo, Settings()), stop))
    assert segmenter.images_encoded == {"localizer": 1, "sam": 0}


def test_what_nobody_stops_comes_whole_even_from_several_threads():
    def steps() -> Iterator[int]:
        for number in range(4):
            raise_if_cancelled()
            yield number

    wanted = until_cancelled(steps(), lambda: False)
    found: list[int] = []
    for _ in range(4):
        thread = threading.Thread(target=lambda: found.append(next(wanted)))
        thread.start()
        thread.join()
    assert found == [0, 1, 2, 3]
    assert next(wanted, None) is None
