from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.models import small_backbone, small_visual, wide_backbone
from zsas.backbones.session import SamSession
from zsas.errors import ZsasError
from zsas.localizers.base import Context
from zsas.localizers.patches import PatchFeatures
from zsas.localizers.visualad import VisualAd, VisualTile, summed
from zsas.localizers.visualad_net import (
    Looked,
    VisualCard,
    aimed,
    differences,
    look,
    read_visual,
    transformed,
)
from zsas.settings import Settings
from zsas.training.towers import fresh_visual

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
CARD = VisualCard("small-clip", 128, "quick_gelu", "nothing", blocks=(2, 4, 6, 8))


@pytest.fixture(scope="module")
def clip():
    return small_backbone()


def decided(localizer: VisualAd, image: np.ndarray = IMAGE, **values: object):
    settings = Settings(system="visualad", **values)
    features = localizer.encode([image], settings)[0]
    context = Context(image, SamSession(None, None))  # type: ignore[arg-type]
    return features, localizer.score(features, settings, context)


def tile_of(patches: torch.Tensor, tokens: torch.Tensor, side: int) -> VisualTile:
    """A tile whose four layers have one patch vector everywhere."""
    layers = patches.expand(1, 4, side // 16, side // 16, -1)
    apart = differences(tokens.expand(1, 4, 2, -1))
    return VisualTile(
        window=(0, 0, 120, 90),
        layers=layers,
        image=patches,
        frame_hw=(side, side),
        difference=apart,
    )


def test_a_patch_between_the_tokens_by_hand(clip):
    """p = (1, 0), a = (0.6, 0.8), n = (0.8, 0.6) in four layers: 4 · (0.6 − 0.8), and so the image score."""
    tile = tile_of(torch.tensor([1.0, 0.0]), torch.tensor([[0.6, 0.8], [0.8, 0.6]]), 96)
    np.testing.assert_allclose(summed(tile), -0.8, atol=1e-6)
    localizer = VisualAd(clip, small_visual(clip, level=-0.8, spread=2.0))
    context = Context(IMAGE, SamSession(None, None))  # type: ignore[arg-type]
    scored = localizer.score(PatchFeatures((tile,)), Settings(system="visualad"), context)
    np.testing.assert_allclose(scored.map, 0.5, atol=1e-6)
    assert scored.evidence["map"] == pytest.approx(0.5, abs=1e-6)


def test_attention_that_knows_nothing_takes_the_mean(clip):
    """Uniform attention, identities, gates of one half, r = 0.01: the token + 0.01 · (4 · ½) · mean of the patches."""
    width = clip.width
    tensors = fresh_visual(clip, (2,), 9)
    name = "cross_attn.layer_attentions.layer_2."
    tensors[name + "q_proj.weight"] = torch.zeros(width, width)
    for part in ("v_proj", "out_proj"):
        tensors[f"{name}{part}.weight"] = torch.eye(width)
    tensors[name + "gate.0.weight"] = torch.zeros(4, width)
    looked = Looked(torch.randn(2, 1, 9, width), torch.randn(2, 2, width), torch.randn(2, width))
    card = replace(CARD, blocks=(2,))
    found = aimed(tensors, looked, card, (3, 3), 3)[:, 0]
    expected = looked.tokens + 0.02 * looked.patches[:, 0].mean(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected)
    tensors[name + "res_scale"] = torch.zeros(1)
    torch.testing.assert_close(aimed(tensors, looked, card, (3, 3), 3)[:, 0], looked.tokens)


def test_a_transform_whose_second_matrix_is_zero_gives_a_constant_map(clip):
    tensors = dict(small_visual(clip).tensors)
    for block in CARD.blocks:
        tensors[f"layer_transforms.layer_{block}.mlp.3.weight"] *= 0
    looked = Looked(torch.randn(1, 4, 16, 48), torch.randn(1, 2, 48), torch.randn(1, 48))
    found = (transformed(tensors, looked, CARD) * torch.randn(1, 4, 1, 48)).sum(-1)
    assert float(found.std(dim=2).max()) < 1e-6
    assert float(found.abs().min()) > 0


def test_the_tokens_change_what_patches_see(clip):
    tensors = dict(small_visual(clip).tensors)
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    before = look(clip, pixels, tensors, CARD, "trained")
    assert before.patches.shape == (1, 4, 24, 48)
    assert before.tokens.shape == (1, 2, 48)
    tensors["anomaly_token"] = -tensors["anomaly_token"]  # a constant would go in the norm
    after = look(clip, pixels, tensors, CARD, "trained")
    assert float((after.patches - before.patches).abs().max()) > 1e-3


def test_exchanged_tokens_negate_the_map(clip):
    """Both stand at one position and share the attention."""
    weights = small_visual(clip, views=((1.0, False),))
    tensors = dict(weights.tensors)
    tensors["anomaly_token"], tensors["normal_token"] = (
        tensors["normal_token"],
        tensors["anomaly_token"],
    )
    own, _ = decided(VisualAd(clip, weights))
    other, _ = decided(VisualAd(clip, replace(weights, tensors=tensors)))
    np.testing.assert_allclose(summed(own.tiles[0]), -summed(other.tiles[0]), atol=5e-3)


def test_the_backbones_own_norm_is_a_switch(clip):
    weights = small_visual(clip)
    maps = {
        norm: decided(VisualAd(clip, weights), visualad_norm=norm)[1].map
        for norm in ("trained", "pretrained")
    }
    np.testing.assert_array_equal(decided(VisualAd(clip, weights))[1].map, maps["trained"])
    assert not np.allclose(maps["trained"], maps["pretrained"], atol=1e-4)


@pytest.mark.slow
def test_the_published_sizes_have_the_published_number_of_weights():
    """31,522,836, of which a table of 1,536 positions for each of four layers."""
    tensors = fresh_visual(wide_backbone(), (6, 12, 18, 24), 1536)
    assert sum(tensor.numel() for tensor in tensors.values()) == 31_522_836


def test_the_image_score_is_the_mean_of_the_highest_hundredth(clip):
    tile = tile_of(torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), 160)
    layers = tile.layers.clone()
    apart = torch.zeros(1, 4, 2)
    apart[0, 0, 0] = 1.0
    localizer = VisualAd(clip, small_visual(clip, level=0.0, spread=1.0))
    context = Context(IMAGE, SamSession(None, None))  # type: ignore[arg-type]
    settings = Settings(system="visualad", blur=0)
    features = PatchFeatures((replace(tile, layers=layers, difference=apart),))
    scored = localizer.score(features, settings, context)
    assert scored.evidence["map"] == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-5)
    assert localizer.image_score(scored.evidence, settings) == pytest.approx(0.731059, abs=1e-5)
    layers[..., 0] = 0.0
    layers[0, :, 5, 5, 0] = 2.0  # one of a hundred cells, smoothed by the enlarging
    scored = localizer.score(
        PatchFeatures((replace(tile, layers=layers, difference=apart),)), settings, context
    )
    top = np.sort(summed(replace(tile, layers=layers, difference=apart)).ravel())[-256:]
    assert scored.evidence["map"] == pytest.approx(1 / (1 + np.exp(-top.mean())), abs=1e-5)


def test_mirrored_views_are_turned_back(clip):
    once = VisualAd(clip, small_visual(clip, attention=False, views=((1.0, False),)))
    mirrored = VisualAd(clip, small_visual(clip, attention=False, views=((1.0, True),)))
    own, _ = decided(once, np.ascontiguousarray(IMAGE[:, ::-1]))
    other, _ = decided(mirrored)
    np.testing.assert_allclose(summed(own.tiles[0])[:, ::-1], summed(other.tiles[0]), atol=1e-2)


def test_weights_survive_the_file_with_their_card(clip, tmp_path: Path):
    weights = small_visual(clip, trained_categories=("bolt",), level=0.25)
    weights.save(tmp_path / "w.safetensors")
    back = read_visual(tmp_path / "w.safetensors")
    assert back.card == weights.card
    np.testing.assert_array_equal(
        decided(VisualAd(clip, weights))[1].map, decided(VisualAd(clip, back))[1].map
    )


def test_the_published_file_is_read_as_it_is(clip, tmp_path: Path):
    weights = small_visual(clip)
    nested: dict[str, object] = {"layer_transforms": {}, "cross_attn": {}}
    for name, tensor in weights.tensors.items():
        group, _, rest = name.partition(".")
        if rest:
            nested[group][rest] = tensor  # type: ignore[index]
        else:
            nested[name] = tensor.reshape(1, 1, -1) if "token" in name else tensor
    folder = tmp_path / "train_on_visa"
    folder.mkdir()
    about = {"features_list": [2, 4, 6, 8], "image_size": 518, "epoch": 1}
    torch.save({**nested, **about}, folder / "CLIP.pth")
    found = read_visual(folder / "CLIP.pth")
    assert found.tensors.keys() == weights.tensors.keys()
    assert (found.card.trained_on, found.card.resolution) == ("visa", 518)
    torch.testing.assert_close(found.tensors["anomaly_token"], weights.tensors["anomaly_token"])
    with pytest.raises(ZsasError, match="made for openai/clip-vit-large"):
        VisualAd(clip, found)


def test_weights_of_others_are_refused(clip, tmp_path: Path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(ZsasError, match="There is no file"):
        read_visual(path)
    path.write_bytes(b"x" * 40)
    with pytest.raises(ZsasError, match="damaged"):
        read_visual(path)
    save_file({"fc.0.weight": torch.zeros(1)}, path, {"backbone": "b"})
    with pytest.raises(ZsasError, match="holds no weights of VisualAD"):
        read_visual(path)
    small_visual(clip).save(path)
    tensors = load_file(path)
    del tensors["normal_token"]
    save_file(tensors, path, {"localizer": "visualad", "backbone": "b", "blocks": "[2, 4, 6, 8]",
                              "resolution": "64", "activation": "gelu", "trained_on": "x"})  # fmt: skip
    with pytest.raises(ZsasError, match="lacks normal_token"):
        read_visual(path)
    deep = small_visual(clip)
    deep = replace(deep, card=replace(deep.card, blocks=(2, 4, 6, 9)))
    with pytest.raises(ZsasError, match="has 8 blocks and 48 channels"):
        VisualAd(clip, deep)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layer_transforms.layer_2.mlp.0.weight", (3, 3)),
        ("cross_attn.layer_attentions.layer_4.q_proj.weight", (3, 48)),
        ("cross_attn.layer_attentions.layer_4.pos_encoding", (1, 4, 48)),
        ("ln_post_bias", (2,)),
    ],
)
def test_weights_that_do_not_fit_each_other_are_one_sentence(clip, name, shape):
    weights = small_visual(clip)
    wrong = replace(weights, tensors={**weights.tensors, name: torch.zeros(shape)})
    with pytest.raises(ZsasError, match=f"do not fit each other: {name} is missing or of another"):
        VisualAd(clip, wrong)
