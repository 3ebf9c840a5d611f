from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from tests.helpers.models import small_segmenter
from tests.localizers.test_references import SETTINGS, plate
from zsas import memory
from zsas.errors import ZsasError
from zsas.export import json_bytes
from zsas.good import Good
from zsas.localizers.winclip import reference_map
from zsas.memory import load, remember_files, save
from zsas.part import Part
from zsas.region import RegionOfInterest
from zsas.settings import Settings


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


def test_a_folder_without_images_is_called_so(segmenter, tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ZsasError, match=r"There is no good image in .*; name images, or a folder"):
        remember_files(segmenter, [tmp_path], SETTINGS)


def test_a_folder_below_that_cannot_be_listed_is_said(segmenter, folder, monkeypatch):
    closed = folder / "closed"
    closed.mkdir()
    listed = os.scandir

    def scandir(path):
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    references, complaints = remember_files(segmenter, [folder], SETTINGS)
    assert len(references) == 3
    assert complaints == [f"{closed} cannot be listed, Permission denied."]


def test_good_images_whose_names_are_no_utf_8_are_kept_in_a_profile(segmenter, folder):
    odd = os.fsdecode(os.fsencode(folder) + b"/gut\xe4.png")
    (folder / "0.png").rename(odd)
    references, complaints = remember_files(segmenter, [folder], SETTINGS)
    assert complaints == []
    assert "gut\\xe4.png" in references.names
    again = Part.load(Part(references=references).to_bytes())
    assert again.references.names == references.names
    result = segmenter(plate(9), SETTINGS, references=references)
    json_bytes(result).decode()
    assert Good([folder]).to_dict()


def test_a_memory_survives_its_file(segmenter, folder, tmp_path):
    references, _ = remember_files(segmenter, [folder], SETTINGS)
    save(references, tmp_path / "good.safetensors")
    again, complaints = remember_files(segmenter, [tmp_path / "good.safetensors"], SETTINGS)
    assert complaints == []
    one, other = (
        segmenter(plate(9, dent=True), SETTINGS, references=good) for good in (references, again)
    )
    assert one.image_score == other.image_score
    assert one.limit_from == other.limit_from == "references"
    assert one.settings.verdict_threshold == other.settings.verdict_threshold
    assert one.normal_ratio == other.normal_ratio
    assert references.trust == again.trust
    np.testing.assert_array_equal(one.score_map, other.score_map)


@pytest.mark.parametrize(("by", "sentence"), [(-1, "remember the good"), (1, "update this one")])
def test_a_memory_of_another_version_is_refused(
    segmenter, folder, tmp_path, monkeypatch, by, sentence
):
    references, _ = remember_files(segmenter, [folder], SETTINGS)
    with monkeypatch.context() as context:
        context.setattr(memory, "FORMAT", memory.FORMAT + by)
        save(references, tmp_path / "good.safetensors")
    with pytest.raises(ZsasError, match=sentence):
        load(tmp_path / "good.safetensors")


def test_another_file_is_no_memory(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ZsasError, match="holds no memory of good images"):
        load(tmp_path / "other.safetensors")
    for facts in ("[1]", '{"format": 3, "level": [], "made_by": ["m", "vv"]}'):
        metadata = {"zsas.references": facts}
        save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors", metadata=metadata)
        with pytest.raises(ZsasError, match="holds no memory of good images"):
            load(tmp_path / "other.safetensors")
    with pytest.raises(ZsasError, match="There is no file"):
        load(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    "region", [None, RegionOfInterest.from_dict([{"rectangle": [0, 0, 64, 96]}])]
)
def test_a_system_with_a_way_of_its_own_survives_its_file_bit_for_bit(segmenter, tmp_path, region):
    settings = Settings(system="winclip")
    references = segmenter.remember([plate(0), plate(1, dent=True), plate(2)], settings, region)
    save(references, tmp_path / "good.safetensors")
    again = load(tmp_path / "good.safetensors")
    one, other = (
        segmenter(plate(9, dent=True), settings, references=good, region=region)
        for good in (references, again)
    )
    assert one.image_score == other.image_score
    assert one.settings == other.settings
    np.testing.assert_array_equal(one.score_map, other.score_map)
    part = Part("plate", settings, references, region)
    kept = Part.load(part.to_bytes())
    by_part = segmenter(plate(9, dent=True), part=kept)
    np.testing.assert_array_equal(one.score_map, by_part.score_map)


def test_of_winclip_only_what_lies_inside_is_remembered(segmenter):
    """A dent on the good images counts as normal where they are looked at, and not outside of that."""
    settings = Settings(system="winclip")
    right, left = (
        RegionOfInterest.from_dict([{"rectangle": box}])
        for box in ([64, 0, 128, 96], [0, 0, 64, 96])
    )
    dented = [plate(0, dent=True), plate(1, dent=True)]  # the dent lies on the right
    plain = [plate(0), plate(1)]

    def distance(good, region):
        features = segmenter.begin(plate(9, dent=True), settings).features
        memory = segmenter.remember(good, settings, region).features
        return reference_map(features, memory)

    assert not torch.equal(distance(dented, right), distance(plain, right))
    # Windows half outside see a little of the dent; patches have seen all, as those of every system.
    seen = distance(dented, None)
    assert (distance(dented, left) >= seen - 1e-6).all()
    assert (distance(dented, left) > seen + 1e-6).any()
    kept = segmenter.remember(dented, settings, left).features[0]
    assert len(kept.patches_inside()) == kept.patches.shape[0] // 2
    assert len(kept.windows_inside(2)) < len(kept.windows[2])
