"""Models that only single systems need: a detector and features for saliency."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from transformers import GroundingDinoImageProcessorPil
from typer.testing import CliRunner

from tests.helpers import detectors, hub_repos
from tests.helpers.hub_cache import CLIP, SAM, go_offline
from tests.helpers.models import CPU
from zsas import catalogue
from zsas.backbones.detector import Detector, resized_hw
from zsas.backbones.resnet import ResNet, ResNetFeatures
from zsas.cli import app
from zsas.errors import ZsasError
from zsas.models import PRESETS, ModelChoice, Models
from zsas.segmenter import Segmenter
from zsas.settings import Settings

DETECTOR, SALIENCY = (PRESETS["base"].further[role].source for role in ("detector", "saliency"))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)


# Against the libraries' own.


@pytest.mark.slow
def test_the_features_are_torchvisions(image):
    whole = detectors.small_resnet()
    ours = ResNetFeatures(ResNet(whole.state_dict()), CPU)
    (maps,) = ours.maps([image], 64)
    assert [tuple(one.shape) for one in maps] == [(256, 16, 16), (512, 8, 8), (1024, 4, 4)]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(pixels, (64, 64), mode="bilinear", antialias=True)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    with torch.no_grad():
        x = whole.maxpool(whole.relu(whole.bn1(whole.conv1((small / 255.0 - mean) / std))))
        for stage, found in zip((whole.layer1, whole.layer2, whole.layer3), maps, strict=True):
            x = stage(x)
            torch.testing.assert_close(found, x[0], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_real_size_has_torchvisions_names_and_shapes():
    with torch.device("meta"):
        wanted = torchvision.models.wide_resnet50_2().state_dict()
    shapes = {name: torch.zeros(value.shape) for name, value in wanted.items()}
    parts = ResNet(shapes)
    sizes = [parts.get_parameter(f"layer{i}.0.conv2.weight").shape for i in (1, 2, 3)]
    assert sizes == [(128, 128, 3, 3), (256, 256, 3, 3), (512, 512, 3, 3)]
    assert [len(getattr(parts, f"layer{i}")) for i in (1, 2, 3)] == [3, 4, 6]


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["missing", "basic", "other"])
def test_weights_of_another_network_are_one_sentence(broken):
    weights = detectors.small_resnet().state_dict()
    if broken == "missing":
        del weights["layer2.0.bn3.running_var"]
    elif broken == "basic":
        weights = torchvision.models.resnet18().state_dict()
    else:
        weights["layer1.0.se.weight"] = torch.zeros(1)
    with pytest.raises(ZsasError, match="ResNet with bottlenecks"):
        ResNet(weights)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (333, 1000), (2000, 300), (37, 37)])
def test_the_detector_looks_at_images_in_the_librarys_size(size):
    processor = GroundingDinoImageProcessorPil()
    found = processor(np.zeros((*size, 3), np.uint8), return_tensors="pt")["pixel_values"].shape
    assert resized_hw(*size) == tuple(found[2:])


def test_the_detector_answers_as_the_library_does(image, tmp_path):
    """The vision backbone runs once for all sentences, and nothing else changes."""
    tokenizer = detectors.small_tokenizer(tmp_path)
    plain = detectors.small_detector_model()
    ours = Detector(detectors.small_detector_model(), tokenizer, CPU, sides=(96, 160))
    (seen,) = ours.encode([image])
    assert seen.size_hw == (96, 128)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(pixels, (96, 128), mode="bilinear", antialias=True)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    for phrase, text in ((" Defect  on bottle ", "defect on bottle."), ("flaw.", "flaw.")):
        found = ours.detect(seen, phrase)
        with torch.no_grad():
            wanted = plain(
                pixel_values=(small / 255.0 - mean) / std, **tokenizer([text], return_tensors="pt")
            )
        np.testing.assert_allclose(
            found.scores, wanted.logits[0].sigmoid().amax(1).numpy(), atol=1e-4
        )
        x, y, w, h = wanted.pred_boxes[0].T.numpy()
        np.testing.assert_allclose(found.xyxy[:, 0], (x - w / 2) * 80, atol=0.02)
        np.testing.assert_allclose(found.xyxy[:, 3], (y + h / 2) * 60, atol=0.02)
        np.testing.assert_allclose(found.areas, w * h, atol=1e-4)
    assert found.words == ("", "flaw", "", "")


# The way here.


def test_presets_that_fetch_name_them_and_tiny_says_where_they_are():
    for name in ("light", "base", "paper"):
        assert PRESETS[name].has("detector")
        assert PRESETS[name].source("saliency") == SALIENCY
    with pytest.raises(
        ZsasError, match="take the preset light or base or paper, or name one with --detector"
    ):
        PRESETS["tiny"].source("detector")


@pytest.mark.slow
def test_they_are_fetched_when_asked_for_with_their_size_before(server, monkeypatch, capsys, image):
    server.add(DETECTOR, detectors.detector_repo())
    server.add(SALIENCY, detectors.saliency_repo())
    found = Models(ModelChoice("base", device="cpu"))
    assert [one.source for one in found.lacking(("detector", "saliency"))] == [DETECTOR, SALIENCY]
    detector = found.detector
    said = capsys.readouterr().err
    assert f"{DETECTOR} (689 MB, licence Apache-2.0)" in said
    assert said.index("689 MB") < said.index("model.safetensors")
    assert detector.detect(detector.encode([image])[0], "scratch").xyxy.shape == (40, 4)
    assert f"{SALIENCY} (276 MB" in (found.saliency, capsys.readouterr().err)[1]
    go_offline(monkeypatch)
    again = Models(ModelChoice("base", device="cpu"))
    assert again.lacking(("detector", "saliency")) == []
    assert len(again.saliency.maps([image], 64)[0]) == 3


@pytest.mark.slow
def test_what_cannot_be_had_is_one_sentence(server):
    with pytest.raises(ZsasError, match=r"needs IDEA-Research.* \(689 MB.*--detector"):
        _ = Models(ModelChoice("base", device="cpu")).detector
    with pytest.raises(ZsasError, match="role saliency; take the preset"):
        _ = Models(ModelChoice("tiny", device="cpu")).saliency
    server.add(
        "me/clip",
        {"config.json": b'{"model_type": "clip"}', "model.safetensors": b"x", "vocab.txt": b"a"},
    )
    with pytest.raises(ZsasError, match="of the type 'clip', but a detector"):
        _ = Models(ModelChoice("tiny", detector="me/clip", device="cpu")).detector
    server.add("me/noise", {"config.json": b"{}", "model.safetensors": b"x"})
    with pytest.raises(ZsasError, match="cannot be read"):
        _ = Models(ModelChoice("tiny", saliency="me/noise", device="cpu")).saliency


@pytest.mark.slow
def test_others_take_their_place_a_folder_or_a_file_of_torchvision(tmp_path, image):
    file = tmp_path / "wide.pth"
    torch.save(detectors.small_resnet().state_dict(), file)
    for name, data in detectors.detector_repo().items():
        (tmp_path / name).write_bytes(data)
    choice = ModelChoice("tiny", detector=str(tmp_path), saliency=str(file), device="cpu")
    found = Models(choice)
    found.check()
    found.load("detector", "saliency")
    assert found.detector.sides == (800, 1333)
    assert len(found.saliency.maps([image], 32)[0]) == 3
    assert choice.name.endswith(f"{tmp_path} + {file}")
    assert choice.to_dict()["saliency"] == str(file)
    made = Segmenter.from_preset("tiny", saliency=file, device="cpu")
    assert made.models.choice.saliency == str(file)
    with pytest.raises(ZsasError, match="no file for the role saliency"):
        Models(ModelChoice("tiny", saliency=str(tmp_path / "none.pth"))).check()


@pytest.mark.slow
def test_all_that_saa_needs_is_fetched_by_one_command_and_runs_offline(server, monkeypatch, image):
    server.add(DETECTOR, detectors.detector_repo())
    server.add(SALIENCY, detectors.saliency_repo())
    server.add(SAM, hub_repos.sam_repo())
    told = CliRunner().invoke(app, ["models", "fetch", "base", "--system", "saa+"])
    assert "What saa+ needs under the preset base is here now." in told.output
    assert not server.count(f"/{CLIP}/*")  # it reads no CLIP
    go_offline(monkeypatch)
    settings = Settings(system="saa+", object_name="bottle")
    segmenter = Segmenter.from_choice(ModelChoice("base", device="cpu"), settings=settings)
    result = segmenter(image, settings)
    assert result.mask.shape == image.shape[:2]
    assert result.models["saa+"] == {"models": [DETECTOR, SALIENCY]}
    assert segmenter(image, Settings(system="saa")).mask.shape == image.shape[:2]


def test_the_list_of_systems_says_where_a_detector_is_missing():
    found = {entry.name: entry.presets for entry in catalogue.entries()}
    assert found["saa"]["tiny"] == "no model for the role detector; --detector names one"
    assert f"fetches {DETECTOR}, {SALIENCY} when first asked for (965 MB)" in found["saa+"]["base"]
