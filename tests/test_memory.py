from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.helpers.models import small_segmenter
from tests.localizers.test_references import SETTINGS, plate
from zsas.errors import ZsasError
from zsas.memory import load, remember_files, save


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        Image.fromarray(plate(number)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_a_folder_is_remembered_and_what_cannot_be_read_is_said(segmenter, folder):
    (folder / "broken.png").write_bytes(b"no image")
    references, complaints = remember_files(segmenter, [folder], SETTINGS)
    assert len(references) == 3
    assert references.names == ("0.png", "1.png", "2.png")
    assert len(complaints) == 1
    assert "broken.png" in complaints[0]


def test_no_readable_image_is_one_sentence(segmenter, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ZsasError, match="None of the good images can be read"):
        remember_files(segmenter, [tmp_path], SETTINGS)


def test_a_memory_survives_its_file(segmenter, folder, tmp_path):
    references, _ = remember_files(segmenter, [folder], SETTINGS)
    save(references, tmp_path / "good.safetensors")
    again, complaints = remember_files(segmenter, [tmp_path / "good.safetensors"], SETTINGS)
    assert complaints == []
    one, other = (
        segmenter(plate(9, dent=True), SETTINGS, references=memory)
        for memory in (references, again)
    )
    assert one.image_score == other.image_score
    np.testing.assert_array_equal(one.score_map, other.score_map)


def test_another_file_is_no_memory(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ZsasError, match="holds no memory of good images"):
        load(tmp_path / "other.safetensors")
    with pytest.raises(ZsasError, match="There is no file"):
        load(tmp_path / "missing.safetensors")
