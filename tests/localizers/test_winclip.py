from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel

from tests.helpers.models import CPU, LetterTokenizer, small_backbone
from tests.localizers.golden.weights import SIDE, golden_clip, golden_images
from zsas.backbones.clip import ClipBackbone
from zsas.backbones.session import SamSession
from zsas.localizers.base import Context
from zsas.localizers.winclip import (
    TEMPLATES,
    WinClip,
    WindowFeatures,
    anomalous_part,
    harmonic_map,
    reference_map,
    score_windows,
    window_index,
)
from zsas.settings import Settings

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def unasked() -> SamSession:
    def never() -> None:
        raise AssertionError("SAM was asked")

    return SamSession(never, never)  # type: ignore[arg-type]


def decided(
    localizer: WinClip, image: np.ndarray = IMAGE, references: tuple = (), **values: object
):
    settings = Settings(system="winclip", **values)
    features = localizer.encode([image], settings)[0]
    return localizer.score(features, settings, Context(image, unasked(), references))


@pytest.fixture(scope="module")
def winclip() -> WinClip:
    return WinClip(small_backbone())


@pytest.mark.parametrize(
    ("scale", "windows", "cover"),
    [(2, 196, [1, 2, 2, 2]), (3, 169, [1, 2, 3, 3])],
)
def test_windows_of_the_published_grid_and_how_often_they_cover_a_patch(scale, windows, cover):
    index = window_index(15, scale)
    assert index.shape == (windows, 1 + scale**2)
    assert (index[:, 0] == 0).all()
    counts = np.bincount(index[:, 1:].ravel() - 1, minlength=225).reshape(15, 15)
    line = np.array([*cover, *[cover[-1]] * 7, *cover[::-1]])
    np.testing.assert_array_equal(counts, np.outer(line, line))
    assert counts.sum() == windows * scale**2


def test_the_harmonic_mean_of_the_windows_that_cover_a_patch():
    found = harmonic_map(torch.tensor([1.0, 0.75, 0.5, 0.25]), 3, 2)
    expected = [[1, 0.857143, 0.75], [0.666667, 0.48, 0.375], [0.5, 1 / 3, 0.25]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_window_that_says_zero_silences_its_patches():
    found = harmonic_map(torch.tensor([0.0, 1.0, 1.0, 1.0]), 3, 2)
    np.testing.assert_allclose(found, [[0, 0, 1], [0, 0, 1], [1, 1, 1]], atol=1e-6)


def test_whole_image_and_both_scales_are_averaged_harmonically():
    """0.5, 0.25 and 0.75 give 0.409091."""

    def saying(probability: float) -> torch.Tensor:
        cosine = np.log(probability / (1 - probability)) / 10
        return torch.tensor([np.sqrt(1 - cosine**2), cosine], dtype=torch.float32)

    features = WindowFeatures(
        image=saying(0.5),
        windows={2: saying(0.25).expand(4, 2), 3: saying(0.75).expand(1, 2)},
        patches=torch.zeros(9, 2),
        grid=3,
        resolution=48,
    )
    # Differences of the cosines lie along the second axis alone.
    states = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    found, image = score_windows(features, states, 0.1)
    np.testing.assert_allclose(found, np.full((3, 3), 0.409091), atol=1e-5)
    assert image == pytest.approx(0.5, abs=1e-6)


def test_the_anomalous_part_of_a_softmax_over_cosines():
    states = torch.nn.functional.normalize(torch.tensor([[0.0, 1, 0], [1, 1, 0]]), dim=-1)
    found = anomalous_part(torch.tensor([1.0, 0, 0]), states, 1.0)
    assert float(found) == pytest.approx(0.669761, abs=1e-6)


def test_distances_to_the_reference_images():
    def alone(patches: list[list[float]]) -> WindowFeatures:
        return WindowFeatures(torch.zeros(3), {}, torch.tensor(patches), 1, 16)

    references = [alone([[0.0, 1, 0]]), alone([[0.5**0.5, 0.5**0.5, 0]])]
    for query, distance in (([1.0, 0, 0], 0.146447), ([0.0, 1, 0], 0.0)):
        found = reference_map(alone([query]), references)
        assert float(found) == pytest.approx(distance, abs=1e-6)


def test_the_same_numbers_as_anomalib():
    """On random weights; `golden/make_winclip.py` says how the file was made."""
    golden = json.loads((Path(__file__).parent / "golden" / "winclip.json").read_text())
    clip = ClipBackbone(
        golden_clip(), LetterTokenizer(), name="golden", device=CPU, precision="fp32"
    )
    localizer = WinClip(clip)
    with torch.inference_mode():
        features = localizer.encode_pixels(golden_images(2, seed=1))
        references = localizer.encode_pixels(golden_images(2, seed=2))

    def close(ours: torch.Tensor, theirs: object) -> None:
        np.testing.assert_allclose(ours, np.array(theirs), atol=1e-5)

    def unit(rows: object) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)

    states = unit(golden["texts"])
    for i, one in enumerate(features):
        close(one.image, unit(golden["image"])[i])
        for scale, theirs in zip((2, 3), golden["windows"], strict=True):
            close(one.windows[scale][::3], unit(theirs)[i])
        for few, key in (((), ""), (references, "few_")):
            found, score = score_windows(one, states, 0.07, few)
            square = torch.nn.functional.interpolate(
                found[None, None], size=(SIDE, SIDE), mode="bilinear"
            )[0, 0]
            close(square[::9, ::9], golden[f"{key}map"][i])
            assert score == pytest.approx(golden[f"{key}score"][i], abs=1e-5)


def test_a_batch_gives_the_same_as_single_images(winclip):
    settings = Settings(system="winclip")
    images = [IMAGE, IMAGE[:, ::-1].copy()]
    with torch.inference_mode():
        together = winclip.encode(images, settings)
        alone = [winclip.encode([image], settings)[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        for scale in (2, 3):
            torch.testing.assert_close(one.windows[scale], other.windows[scale])


def test_windows_in_several_passes_give_the_same(winclip, monkeypatch):
    settings = Settings(system="winclip")
    whole = winclip.encode([IMAGE], settings)[0]
    monkeypatch.setattr("zsas.localizers.winclip.TOKENS_AT_ONCE", 30)
    parts = winclip.encode([IMAGE], settings)[0]
    torch.testing.assert_close(whole.windows[3], parts.windows[3])


def test_the_size_of_the_backbones_training_is_the_default(winclip):
    assert winclip.resolution(Settings(system="winclip")) == 64
    assert winclip.resolution(Settings(system="winclip", resolution=120)) == 112
    assert decided(winclip).map.shape == IMAGE.shape[:2]


def test_scales_that_do_not_fit_into_the_grid_are_left_out():
    clip = small_backbone()
    features = WinClip(clip).encode_pixels(torch.randn(1, 3, 32, 32))[0]
    assert list(features.windows) == [2]
    assert score_windows(features, torch.eye(2, 24), 0.07)[0].shape == (2, 2)


def test_text_vectors_are_means_of_sentences_as_long_as_they_come(winclip):
    assert len(set(TEMPLATES)) == 20
    one = winclip.clip.embed_sentences([t.format("bolt") for t in TEMPLATES])
    assert float(one.norm(dim=-1).std()) > 0  # of different lengths
    assert winclip.states("bolt") is winclip.states("bolt")
    assert torch.equal(winclip.states(" bolt "), winclip.states("bolt"))
    np.testing.assert_allclose(winclip.states("bolt").norm(dim=-1), 1, atol=1e-6)


def test_references_make_it_winclip_plus(winclip):
    settings = Settings(system="winclip")
    features = winclip.encode([IMAGE], settings)[0]
    other = winclip.encode([255 - IMAGE], settings)[0]
    assert reference_map(features, [features]).max() < 1e-3  # as equal as fp32 allows
    once, twice = (reference_map(features, [other] * k) for k in (1, 2))
    torch.testing.assert_close(once, twice)
    zero, few = decided(winclip), decided(winclip, references=(other,))
    assert few.evidence["clip"] != zero.evidence["clip"]
    assert "1 reference image" in few.stages[-1].caption


@pytest.mark.slow
def test_the_windows_cost_at_most_fourteen_passes():
    """Of a tower as deep and on a grid as fine as the published one's, in multiplications."""
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 2,
        "image_size": 240,
        "patch_size": 16,
    }
    model = CLIPModel(CLIPConfig(vision_config=vision, projection_dim=16)).eval()
    clip = ClipBackbone(model, LetterTokenizer(), name="deep", device=CPU, precision="fp32")
    pixels = torch.zeros(1, 3, 240, 240)
    counts = []
    for run in (lambda: clip.forward_vision(pixels), lambda: WinClip(clip).encode_pixels(pixels)):
        with FlopCounterMode(display=False) as counter:
            run()
        counts.append(counter.get_total_flops())
    assert counts[1] <= 14 * counts[0]
