"""What the engine does not take, and what it does not give: one sentence each."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch

from tests.helpers.models import small_segmenter
from zsas.errors import ZsasError
from zsas.segmenter import Segmenter
from zsas.settings import Settings

HOT = Settings(threshold=0.9, threshold_mode="quantile", edge_radius=0, mask_level=0)


@pytest.mark.parametrize(
    "click", [(float("nan"), 5, 1), (5, float("inf"), 0), (5, 5, 3), (5, 5, -1), (5, 5), ()]
)
def test_a_click_that_makes_no_sense_is_one_sentence(segmenter, photo, click):
    with pytest.raises(ZsasError, match="x and y in image pixels and a label"):
        segmenter(photo, HOT, [click])


def _in_child(segmenter: Segmenter, photo: np.ndarray, answers: multiprocessing.Queue) -> None:
    try:
        segmenter(photo)
        answers.put("")
    except ZsasError as error:
        answers.put(str(error))


def test_what_is_no_setting_and_no_good_image_is_one_sentence(segmenter, photo):
    with pytest.raises(ZsasError, match=r"Settings were expected.* type dict"):
        segmenter(photo, {"threshold": 0.4})
    with pytest.raises(ZsasError, match="Settings were expected"):
        segmenter.encode(photo, 0.4)
    with pytest.raises(ZsasError, match=r"segmenter\.remember"):
        segmenter(photo, references=[photo])


def test_a_forked_child_is_told_at_once(segmenter, photo):
    segmenter(photo)
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue = context.Queue()
    child = context.Process(target=_in_child, args=(segmenter, photo, answers))
    child.start()
    assert "fork" in answers.get(timeout=20)
    child.join(5)


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        ("linear", "What linear has made of the image is no map"),
        ("sam", "What SAM has answered is no mask"),
    ],
)
def test_damaged_weights_are_a_sentence_and_never_a_map(photo, damaged, says):
    segmenter = small_segmenter()
    encoding = segmenter.encode(photo, HOT)
    decoder = segmenter.sam.network.model.mask_decoder
    layers = segmenter.localizer(HOT).tensors()
    with torch.no_grad():
        for weight in layers if damaged == "linear" else decoder.parameters():
            weight.fill_(float("nan"))
    image = photo // 2 if damaged == "linear" else encoding
    with pytest.raises(ZsasError, match=says):
        segmenter.segment(image, HOT)
