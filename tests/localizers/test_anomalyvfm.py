from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.models import small_backbone, small_vfm, wide_backbone
from zsas.backbones.session import SamSession
from zsas.errors import ZsasError
from zsas.localizers.anomalyvfm import AnomalyVfm, filtered
from zsas.localizers.anomalyvfm_net import (
    ADAPTED,
    adapted_pass,
    decoded,
    fold_tower,
    folded,
    predicted,
    read_vfm,
)
from zsas.localizers.base import Context
from zsas.settings import Settings
from zsas.training.towers import fresh

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip():
    return small_backbone()


def decided(localizer: AnomalyVfm, image: np.ndarray = IMAGE, **values: object):
    settings = Settings(system="anomalyvfm", **values)
    with torch.inference_mode():
        features = localizer.encode([image], settings)[0]
        context = Context(image, SamSession(None, None))  # type: ignore[arg-type]
        return features, localizer.score(features, settings, context)


def test_dora_of_a_row_of_three_and_four():
    """W = (3, 4), A = (1, 0), B = 64, factor 1/64: (4, 4) · 5 / √32."""
    row = folded(
        torch.tensor([[3.0, 4.0]]),
        torch.tensor([[1.0, 0.0]]),
        torch.tensor([[64.0]]),
        torch.tensor([5.0]),
        1 / 64,
    )
    torch.testing.assert_close(row, torch.tensor([[3.535534, 3.535534]]))


def test_a_fresh_tower_is_the_tower_itself(clip):
    blocks = fold_tower(clip, fresh(clip, 2, 16), 1.0)
    for layer, matrices in zip(clip.layers, blocks, strict=True):
        for name, matrix in zip(ADAPTED, matrices, strict=True):
            own = getattr(layer.self_attn, name).weight
            torch.testing.assert_close(matrix, own, atol=1e-6, rtol=0)
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = adapted_pass(clip, pixels, blocks, clip.activation)
        seen = clip.forward_vision(pixels, blocks=(clip.depth,))
    torch.testing.assert_close(tokens[:, 1:], seen.blocks[clip.depth], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens[:, 0], seen.class_token, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("matrix", ADAPTED)
def test_each_adapted_matrix_acts(clip, matrix):
    tensors = fresh(clip, 2, 16)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = adapted_pass(clip, pixels, fold_tower(clip, tensors, 1.0), clip.activation)
        tensors[f"layers.3.self_attn.{matrix}.lora_B"] += 1.0
        after = adapted_pass(clip, pixels, fold_tower(clip, tensors, 1.0), clip.activation)
    assert float((after - before).abs().max()) > 1e-3


@pytest.mark.slow
def test_the_published_sizes_have_the_published_number_of_weights():
    """24 · 3 · 132,096 of DoRA, 25,962,498 of the decoder and 1,025 of the predictor."""
    tensors = fresh(wide_backbone(), 64, 1024)
    counts: dict[str, int] = {}
    for name, tensor in tensors.items():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + tensor.numel()
    assert counts == {"layers": 9_510_912, "decoder": 25_962_498, "predictor": 1_025}


def test_a_decoder_that_says_nothing_says_one_half(clip):
    tensors = dict(fresh(clip, 2, 16))
    for end in ("weight", "bias"):
        tensors[f"decoder.final.{end}"] = torch.zeros_like(tensors[f"decoder.final.{end}"])
    mask, confidence = decoded(tensors, torch.randn(2, 4, 6, clip.width), 2)
    assert mask.shape == (2, 8, 12)
    assert confidence is not None
    assert confidence.shape == mask.shape
    assert not mask.any()
    tensors["predictor.lin.weight"] = torch.zeros(1, clip.width)
    tensors["predictor.lin.bias"] = torch.tensor([0.3])
    torch.testing.assert_close(
        predicted(tensors, torch.randn(2, clip.width)), torch.full((2,), 0.3)
    )


def test_the_filter_darkens_the_border_only_with_zeros_outside():
    """A constant 1 gives 0.36 in corners and 0.6 on edges, as in the published code."""
    sure = np.full((12, 12), 60.0, np.float32)
    zero = filtered(sure, 5, "probability", "zero")
    assert zero[0, 0] == pytest.approx(0.36)
    assert zero[0, 6] == pytest.approx(0.6)
    assert zero[6, 6] == pytest.approx(1.0)
    np.testing.assert_allclose(filtered(sure, 5, "probability", "repeat"), 1.0, atol=1e-6)
    one = np.zeros((5, 5), np.float32)
    one[2, 2] = 25.0
    assert filtered(one, 5, "logit", "repeat")[2, 2] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert filtered(one, 5, "probability", "repeat")[2, 2] == pytest.approx(0.52)


def test_mirrored_views_are_turned_back(clip):
    """A view that is only mirrored sees the mirrored image, and its mask lies where the image's is."""
    once = AnomalyVfm(clip, small_vfm(clip, views=((1.0, False),)))
    mirrored = AnomalyVfm(clip, small_vfm(clip, views=((1.0, True),)))
    own, _ = decided(once, np.ascontiguousarray(IMAGE[:, ::-1]))
    other, _ = decided(mirrored)
    torch.testing.assert_close(
        own.tiles[0].masks[0].flip(1), other.tiles[0].masks[0], atol=1e-3, rtol=1e-3
    )


def test_tiles_keep_their_own_image_scores_and_the_highest_counts(clip):
    localizer = AnomalyVfm(clip, small_vfm(clip))
    features, scored = decided(localizer, tiles=64)
    assert len(features.tiles) > 1
    logits = [tile.image_logit for tile in features.tiles]
    assert scored.evidence["clip"] == pytest.approx(1 / (1 + np.exp(-max(logits))), abs=1e-6)
    assert scored.map.shape == IMAGE.shape[:2]


def test_an_enlarged_image_is_said_to_be_one(clip):
    """Tiles follow the size of its detail, and so does what the caption says of them."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    larger = cv2.resize(noise, (768, 768), interpolation=cv2.INTER_CUBIC)
    features, scored = decided(AnomalyVfm(clip, small_vfm(clip)), larger, tiles="auto")
    assert (features.enlarged, features.wanted) == (3, len(features.tiles))
    assert "at 1/3 of the image's size" in scored.stages[-1].caption
    assert "would show it at its own size" not in scored.stages[-1].caption


def test_weights_survive_the_file_with_their_card(clip, tmp_path: Path):
    weights = small_vfm(clip, trained_categories=("bolt",), alpha=2.0, filter=3)
    weights.save(tmp_path / "w.safetensors")
    back = read_vfm(tmp_path / "w.safetensors")
    assert back.card == weights.card
    _, before = decided(AnomalyVfm(clip, weights))
    _, after = decided(AnomalyVfm(clip, back))
    np.testing.assert_array_equal(before.map, after.map)
    assert before.evidence == after.evidence


def test_the_authors_file_is_read_without_its_backbone(clip, tmp_path: Path):
    weights = small_vfm(clip)
    published = {
        name
        if name.startswith(("decoder", "predictor"))
        else f"model.net.vision_model.encoder.{name}": tensor
        for name, tensor in weights.tensors.items()
    }
    wrapped = "model.net.vision_model.encoder.layers.0.self_attn.q_proj.layer.weight"
    save_file({**published, wrapped: torch.zeros(48, 48)}, tmp_path / "model.safetensors")
    found = read_vfm(tmp_path / "model.safetensors")
    assert found.tensors.keys() == weights.tensors.keys()
    assert (found.card.backbone, found.card.resolution) == (
        "openai/clip-vit-large-patch14-336",
        672,
    )
    with pytest.raises(ZsasError, match="made for openai/clip-vit-large"):
        AnomalyVfm(clip, found)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda tensors: tensors.pop("decoder.final.bias"), r"lacks decoder\.final\.bias"),
        (lambda tensors: tensors.clear(), "holds no weights of AnomalyVFM"),
    ],
)
def test_a_file_that_lacks_something_is_refused(clip, tmp_path: Path, break_it, sentence):
    path = tmp_path / "w.safetensors"
    small_vfm(clip).save(path)
    tensors = load_file(path)
    break_it(tensors)
    save_file({**tensors, "other": torch.zeros(1)}, path)
    with pytest.raises(ZsasError, match=sentence):
        read_vfm(path)


def test_weights_of_others_are_refused(clip, tmp_path: Path):
    with pytest.raises(ZsasError, match="There is no file"):
        read_vfm(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(ZsasError, match="damaged"):
        read_vfm(tmp_path / "bad.safetensors")
    save_file({"fc.0.weight": torch.zeros(1)}, tmp_path / "l.safetensors", {"backbone": "b"})
    with pytest.raises(ZsasError, match="lacks or garbles localizer"):
        read_vfm(tmp_path / "l.safetensors")
    wide = small_vfm(clip)
    shallow = {k: t for k, t in wide.tensors.items() if not k.startswith("layers.7.")}
    with pytest.raises(ZsasError, match="7 blocks and 48 channels"):
        AnomalyVfm(clip, replace(wide, tensors=shallow))


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("decoder.final.weight", (1, 3, 1, 1), "decoder.final.weight is of another shape"),
        ("layers.1.self_attn.v_proj.lora_B", (48, 3), "lora_B is of another shape"),
        ("predictor.lin.weight", (1, 5), "predictor.lin.weight is of another shape"),
    ],
)
def test_weights_that_do_not_fit_each_other_are_one_sentence(clip, name, shape, said):
    weights = small_vfm(clip)
    wrong = replace(weights, tensors={**weights.tensors, name: torch.zeros(shape)})
    with pytest.raises(ZsasError, match=said):
        AnomalyVfm(clip, wrong)
    with pytest.raises(ZsasError, match="5 groups do not divide its channels"):
        AnomalyVfm(clip, replace(weights, card=replace(weights.card, groups=5)))
