from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN

from tests.helpers.models import small_adapter, small_backbone
from zsas.backbones.session import SamSession
from zsas.errors import ZsasError
from zsas.localizers.adapter import quarters, read_adapter
from zsas.localizers.base import Context
from zsas.localizers.linear import Linear
from zsas.localizers.patches import TileFeatures
from zsas.localizers.sdp import (
    ANOMALOUS_STATES,
    NORMAL_STATES,
    TEMPLATES,
    Sdp,
    StagedFeatures,
    largest_cluster,
    representative,
    staged_pass,
    two_class_map,
)
from zsas.localizers.sdp_plus import SdpPlus, trained_map
from zsas.settings import Settings

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def decided(localizer: Sdp, **values: object):
    settings = Settings(system=localizer.name, **values)
    with torch.inference_mode():
        features = localizer.encode([IMAGE], settings)[0]
        context = Context(IMAGE, SamSession(None, None))  # type: ignore[arg-type]
        return features, localizer.score(features, settings, context)


@pytest.fixture(scope="module")
def clip():
    return small_backbone()


def staged(layers, classes, trained=None, side=4) -> StagedFeatures:
    tile = TileFeatures((0, 0, side, side), layers[None], classes[-1], (side, side))
    return StagedFeatures(tiles=(tile,), classes=classes, trained=trained)


def plus(clip, **card: object) -> SdpPlus:
    made: dict[str, object] = {"resolution": 64, "localizer": "sdp+", **card}
    return SdpPlus(clip, small_adapter(clip, **made))


@pytest.mark.parametrize(("class_cosines", "value"), [((0.0, np.log(3)), 0.2), ((0.2, 0.2), 0.1)])
def test_the_two_class_formula(class_cosines, value):
    """A patch with cosines 0.1 and 0.3 gets ¾ · 0.3 − ¼ · 0.1; with equal class cosines half the difference."""
    classes = torch.tensor([class_cosines], dtype=torch.float32)
    features = staged(torch.tensor([0.1, 0.3]).expand(1, 1, 1, 2), classes)
    np.testing.assert_allclose(two_class_map(features, torch.eye(2)), value, atol=1e-6)


def test_quarters_follow_the_depth():
    assert quarters(12) == (3, 6, 9, 12)
    assert quarters(24) == (6, 12, 18, 24)
    assert quarters(8) == (2, 4, 6, 8)


def test_the_stream_starts_anew_in_every_quarter():
    """With the attention output of the second quarter zero, nothing of the first is left in its patches."""
    clip = small_backbone(seed=3)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = staged_pass(clip, pixels)
        for layer in clip.layers[2:4]:
            layer.self_attn.out_proj.weight.zero_()
            layer.self_attn.out_proj.bias.zero_()
        after = staged_pass(clip, pixels)
        nothing = clip.project(torch.zeros(1, clip.width))[0]
    torch.testing.assert_close(after.layers[:, 0], before.layers[:, 0])
    empty = torch.nn.functional.normalize(nothing, dim=-1).half()
    torch.testing.assert_close(after.layers[0, 1], empty.expand(4, 4, -1))


def test_the_last_class_token_is_clips_own(clip):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        staged = staged_pass(clip, pixels)
        own = clip.forward_vision(pixels, blocks=(2, 4, 6, 8))
    torch.testing.assert_close(staged.classes[:, -1], own.image)
    for tokens, block in zip(staged.tokens, (2, 4, 6, 8), strict=True):
        torch.testing.assert_close(tokens, own.blocks[block])


def test_aliased_tokens_hold_the_next_blocks_attention_but_the_last(clip):
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        clean, aliased = (staged_pass(clip, pixels, aliased=flag) for flag in (False, True))
        layer = clip.layers[2]
        whole = clip.pre_norm(clip.embed(pixels))
        for one in clip.layers[:2]:
            whole = clip.block(one, whole)
        attention = layer.self_attn(layer.layer_norm1(whole))[0][:, 1:]
    torch.testing.assert_close(aliased.tokens[0] - clean.tokens[0], attention, atol=1e-5, rtol=0)
    torch.testing.assert_close(aliased.tokens[3], clean.tokens[3])
    torch.testing.assert_close(aliased.layers, clean.layers)  # restarts make new tensors


def test_as_many_sentences_as_published():
    assert (len(NORMAL_STATES) * len(TEMPLATES), len(ANOMALOUS_STATES) * len(TEMPLATES)) == (
        198,
        220,
    )
    assert "{}" not in NORMAL_STATES


@pytest.mark.parametrize("distance", [0.3, 0.6, 1.0, 2.0])
def test_the_largest_cluster_is_dbscans(distance):
    generator = np.random.default_rng(1)
    centres = generator.normal(size=(3, 6))
    vectors = np.concatenate([c + 0.15 * generator.normal(size=(30, 6)) for c in centres])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    labels = DBSCAN(eps=distance, min_samples=15).fit(vectors).labels_
    found = largest_cluster(vectors, distance, 15)
    if (labels < 0).all():
        assert found.all()
    else:
        np.testing.assert_array_equal(found, labels == np.argmax(np.bincount(labels[labels >= 0])))


def test_without_any_cluster_the_text_vector_is_the_mean():
    apart = torch.nn.functional.normalize(torch.eye(20), dim=-1)
    torch.testing.assert_close(representative(apart, "dbscan"), apart.mean(0))


def test_the_principal_component_points_to_the_means_side():
    around = torch.tensor([[1.0, 0.1], [1.0, -0.1], [1.0, 0.0]])
    first = representative(around, "pca")
    assert float(first @ around.mean(0)) > 0.99


@pytest.mark.parametrize("how", ["mean", "pca", "dbscan"])
def test_settings_of_the_text_reach_the_map(clip, how):
    sdp = Sdp(clip)
    states = sdp.states(Settings(system="sdp", sdp_text=how, sdp_distance=2.0))
    np.testing.assert_allclose(states.norm(dim=-1), 1, atol=1e-5)
    mean = sdp.states(Settings(system="sdp", sdp_text="mean"))
    assert torch.allclose(states, mean, atol=1e-6) == (how != "pca")


def test_squeezing_keeps_the_ranking(clip):
    values = np.sort(np.random.default_rng(0).uniform(-4, 4, 500)).astype(np.float32)
    found = Sdp(clip).squeezed(values)
    assert (np.diff(found) > 0).all()
    assert 0 < found[0] < found[-1] < 1
    assert Sdp(clip).squeezed(np.zeros(1, np.float32))[0] == 0.5
    wide = np.linspace(-4, 8, 500, dtype=np.float32)
    found = plus(clip).squeezed(wide)
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] < found[-1] <= 1


def test_sdp_plus_adds_the_layers_probabilities(clip):
    localizer = plus(clip)
    features, scored = decided(localizer, blur=0)
    states = localizer.states(Settings(system="sdp+"))
    total = two_class_map(features, states) + trained_map(features, states, 10.0)
    from zsas.frames import resize_map

    expected = localizer.squeezed(resize_map(total.numpy(), *IMAGE.shape[:2]))
    np.testing.assert_allclose(scored.map, expected, atol=1e-6)
    torch.testing.assert_close(
        decided(Sdp(clip))[0].layers, features.layers
    )  # SDP's part is the same


def test_corners_are_aligned_when_logits_are_enlarged():
    trained = torch.eye(2)[[0, 1]].expand(1, 2, 2, 2)
    features = staged(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2), trained, side=5)
    found = trained_map(features, torch.eye(2), 2.0)
    np.testing.assert_allclose(found[0], 1 / (1 + np.exp([2, 1, 0, -1, -2])), atol=1e-6)


def test_a_published_file_is_known_by_its_key(tmp_path):
    tensors = {}
    for i in range(4):
        tensors |= {f"fc.{i}.weight": torch.zeros(640, 896), f"fc.{i}.bias": torch.zeros(640)}
    torch.save({"linear_layers": tensors}, tmp_path / "train_on_visa.pth")
    adapter = read_adapter(tmp_path / "train_on_visa.pth")
    assert adapter.card.aliased
    assert adapter.card.blocks == (3, 6, 9, 12)
    assert adapter.card.trained_on == "visa"
    assert sum(t.numel() for t in (*adapter.weights, *adapter.biases)) == 2_296_320


def test_the_flag_survives_the_file(tmp_path, clip):
    adapter = small_adapter(clip, aliased=True)
    adapter.save(tmp_path / "a.safetensors")
    assert read_adapter(tmp_path / "a.safetensors").card == adapter.card
    assert replace(adapter.card, aliased=False) != adapter.card


def test_layers_of_another_system_are_refused(clip):
    with pytest.raises(ZsasError, match="trained for the localizer linear, but sdp"):
        plus(clip, localizer="linear")
    with pytest.raises(ZsasError, match=r"name them with --weights sdp\+=FILE"):
        Linear(clip, small_adapter(clip, localizer="sdp+"))


def test_layers_for_other_blocks_are_refused(clip):
    with pytest.raises(ZsasError, match=r"reads the blocks \(2, 4, 6, 8\)"):
        plus(clip, blocks=(3, 5, 7, 8))


def test_the_published_layers_of_another_backbone_are_refused(clip):
    with pytest.raises(ZsasError, match="made for ViT-B-16-plus-240"):
        plus(clip, backbone="ViT-B-16-plus-240")


@pytest.mark.parametrize("make", [Sdp, plus])
def test_maps_lie_in_the_unit_interval(clip, make):
    features, scored = decided(make(clip))
    assert scored.map.shape == IMAGE.shape[:2]
    assert scored.map.dtype == np.float32
    assert 0 <= scored.map.min() < scored.map.max() <= 1
    assert features.nbytes > 0
    assert set(scored.evidence) == {"map", "clip"}
