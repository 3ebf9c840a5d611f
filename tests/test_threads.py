"""Work in several threads: the answers of one, each thread with its share of the cores, and cancelled as one."""

from __future__ import annotations

import multiprocessing
import threading
from functools import partial

import numpy as np
import pytest
import torch

from tests.helpers.models import small_segmenter
from zsas.cancellation import Cancelled, raise_if_cancelled, until_cancelled
from zsas.prompts import Prompt
from zsas.threads import side_by_side


@pytest.fixture(params=[2, 4])
def cores(request):
    """PyTorch believes that it has so many, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_answers_keep_their_order_and_threads_share_the_cores(cores):
    def job(number: int) -> tuple[int, int, str]:
        return number, torch.get_num_threads(), threading.current_thread().name

    found = side_by_side([partial(job, number) for number in range(9)])
    assert [number for number, *_ in found] == list(range(9))
    assert {threads for _, threads, _ in found} == {1}
    assert threading.current_thread().name not in {name for *_, name in found}
    assert {threads for _, threads, _ in side_by_side([partial(job, 0)] * 2)} == {cores // 2}
    # Neither this thread nor one that begins later is left with less.
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *seen] == [cores, cores]


def test_a_single_job_or_a_single_core_needs_no_thread(cores):
    here = threading.current_thread()
    assert side_by_side([threading.current_thread]) == [here]
    torch.set_num_threads(1)
    assert side_by_side([threading.current_thread] * 3) == [here] * 3
    assert side_by_side([]) == []


def test_a_job_that_has_jobs_does_them_itself(cores):
    def job() -> set[str]:
        names = side_by_side([lambda: threading.current_thread().name] * 4)
        return {threading.current_thread().name, *names}

    assert [len(names) for names in side_by_side([job, job])] == [1, 1]


def test_what_fails_in_a_thread_fails_here(cores):
    def fail() -> None:
        raise ValueError("of the job")

    with pytest.raises(ValueError, match="of the job"):
        side_by_side([fail, fail, fail])


def test_work_is_cancelled_in_its_threads_too(cores):
    def steps():
        side_by_side([raise_if_cancelled] * 3)
        yield "not reached"

    with pytest.raises(Cancelled):
        list(until_cancelled(steps(), lambda: True))
    side_by_side([raise_if_cancelled] * 3)  # and later work of the same threads is not


def _in_child(answers) -> None:
    answers.put(side_by_side([partial(int, "3")] * 2))


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_process_has_threads_of_its_own(cores):
    side_by_side([int, int])
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(answers,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert answers.get() == [3, 3]


@pytest.mark.slow
def test_windows_are_encoded_once_and_each_prompt_is_asked_in_its_own():
    image = np.random.default_rng(0).integers(0, 255, (300, 500, 3), dtype=np.uint8)
    windows = [(0, 0, 150, 150), (200, 50, 330, 180), (300, 100, 450, 250)]
    segmenter = small_segmenter()
    encoding = segmenter.begin(image)
    session = segmenter._session(encoding)
    session.encode_crops([*windows, windows[0]])
    assert segmenter.images_encoded["sam_crops"] == 3
    assert encoding.timings["sam_crops"] > 0
    points = [np.array([[x0 + 40, y0 + 30]], np.float32) for x0, y0, *_ in windows]
    label = np.ones(1, np.int64)
    prompts = [
        Prompt(point, label, crop=crop)
        for point, crop in zip([*points, *points], [*windows, None, *windows[1:]], strict=True)
    ]
    together = session.decode(prompts)
    assert segmenter.images_encoded["sam_crops"] == 3
    for prompt, answer in zip(prompts, together, strict=True):
        (alone,) = session.decode([prompt])
        np.testing.assert_array_equal(answer.logits, alone.logits)
    assert not np.allclose(together[1].logits, together[2].logits)


@pytest.mark.slow
def test_encoders_beside_each_other_give_what_they_give_one_after_the_other(photo):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        both = small_segmenter()
        beside = both.encode(photo)
        torch.set_num_threads(2)
        apart = small_segmenter().encode(photo)
    finally:
        torch.set_num_threads(before)
    assert both.images_encoded == {"localizer": 1, "sam": 1}
    assert beside.key == apart.key
    assert beside.made_by == apart.made_by
    assert beside.sam.frame == apart.sam.frame
    torch.testing.assert_close(beside.sam.embedding, apart.sam.embedding, rtol=1e-5, atol=1e-6)
    assert beside.timings["encode"] > 0
    assert beside.timings["sam"] >= 0
    again = both.encode(photo)
    assert both.images_encoded == {"localizer": 1, "sam": 1}
    assert again.timings == {"encode": 0.0, "sam": 0.0}
