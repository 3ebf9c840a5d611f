from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.models import (
    CPU,
    LetterTokenizer,
    ReadyModels,
    small_adapter,
    small_backbone,
    small_clip,
    small_sam,
)
from zsas.backbones.clip import ClipBackbone
from zsas.backbones.sam import Sam
from zsas.backbones.sam_families import TransformersSam
from zsas.errors import ZsasError
from zsas.localizers.adapter import Adapter, card_as_metadata, read_adapter
from zsas.localizers.base import Context
from zsas.localizers.linear import Linear
from zsas.localizers.patches import PatchFeatures, TileFeatures, image_probability, text_map
from zsas.localizers.vv import VV
from zsas.segmenter import Segmenter
from zsas.settings import Settings

STATES = torch.eye(2)


def features(pattern: list[list[float]], resolution: int = 4) -> TileFeatures:
    """One layer whose patches point to "anomalous" (1), to "normal" (0) or in between."""
    angle = torch.tensor(pattern) * torch.pi / 2
    layer = torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)
    return tile(layer[None, None], resolution)


def tile(layers: torch.Tensor, resolution: int) -> TileFeatures:
    embedding = torch.tensor([0.0, 1.0])
    return TileFeatures((0, 0, 1, 1), layers, embedding, (resolution, resolution))


def test_the_map_is_the_anomalous_part_of_a_softmax():
    values = text_map(features([[0, 1], [0.5, 0]], resolution=2), STATES, scale=2.0)
    sure = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(values, [[1 - sure, sure], [0.5, 1 - sure]], atol=1e-3)


def test_layers_are_averaged_after_the_softmax():
    one = features([[0.0]], 1)
    other = features([[1.0]], 1)
    both = tile(torch.cat([one.layers, other.layers], 1), 1)
    values = text_map(both, STATES, 3.0)
    mean = (text_map(one, STATES, 3.0) + text_map(other, STATES, 3.0)) / 2
    np.testing.assert_allclose(values, mean, atol=1e-6)


def test_views_are_averaged_as_probabilities_patch_by_patch():
    sure, unsure = (
        features(pattern, resolution=2) for pattern in ([[0, 1], [1, 0]], [[0.5] * 2] * 2)
    )
    both = tile(torch.cat([sure.layers, unsure.layers]), 2)
    values = text_map(both, STATES, 6.0)
    mean = (text_map(sure, STATES, 6.0) + text_map(unsure, STATES, 6.0)) / 2
    np.testing.assert_allclose(values, mean, atol=1e-5)
    features_mean = tile(both.layers.mean(0, keepdim=True), 2)
    assert np.abs(values - text_map(features_mean, STATES, 6.0)).max() > 0.1
    # Enlarged, it is still the logits of that mean that are interpolated.
    wide = tile(both.layers, 8)
    logit = np.log(values / (1 - values))
    quarter = 0.625 * logit[0, 0] + 0.375 * logit[0, 1]
    assert text_map(wide, STATES, 6.0)[0, 3] == pytest.approx(1 / (1 + np.exp(-quarter)), abs=1e-4)


def test_layers_made_for_aligned_corners_are_enlarged_so(photo):
    """Logits −1 and 1 of two cells on four pixels: at the corners, as APRIL-GAN has it, or at their places."""
    row = features([[0, 1]] * 2, resolution=4)
    logits = [-1, -1 / 3, 1 / 3, 1]
    aligned = text_map(row, STATES, 1.0, corners=True)
    np.testing.assert_allclose(aligned[0], 1 / (1 + np.exp(-np.array(logits))), atol=1e-3)
    own = text_map(row, STATES, 1.0)
    np.testing.assert_allclose(own[0], 1 / (1 + np.exp([1, 0.5, -0.5, -1])), atol=1e-3)
    clip = small_backbone()
    plain, published = (Linear(clip, small_adapter(clip, corners=on)) for on in (False, True))
    (found,) = plain.encode([photo], Settings())
    maps = [one.score(found, Settings(), Context(photo, None)).map for one in (plain, published)]
    assert 0 < np.abs(maps[0] - maps[1]).max() < 0.5


def test_logits_are_interpolated_before_the_softmax():
    """Half way between logits −20 and 20 the map is 0.5; interpolated probabilities would be too, a quarter way not."""
    values = text_map(features([[0, 1]] * 2, resolution=8), STATES, scale=20.0)
    assert values[0, 2] < 0.01
    assert values[0, 5] > 0.99


def test_blur_is_in_pixels_of_a_518_square():
    spot = torch.zeros(7, 7)
    spot[3, 3] = 1
    sharp = text_map(features(spot.tolist(), resolution=70), STATES, 10.0)
    soft = text_map(features(spot.tolist(), resolution=70), STATES, 10.0, blur=40.0)
    assert soft.max() < sharp.max()
    assert soft.sum() == pytest.approx(sharp.sum(), rel=0.05)


def test_the_image_probability_asks_for_the_whole_photo():
    assert image_probability(features([[0]]).image, STATES, 100.0) > 0.999


def test_an_adapter_survives_the_file_with_its_card(tmp_path):
    clip = small_backbone()
    adapter = small_adapter(clip, trained_on="made", scale=12.5)
    adapter.save(tmp_path / "adapter.safetensors")
    back = read_adapter(tmp_path / "adapter.safetensors")
    assert back.card == adapter.card
    for a, b in zip(back.weights, adapter.weights, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ({"backbone": "other/clip"}, "made for other/clip, but small-clip is loaded"),
        ({"blocks": (2, 4, 6, 9)}, "reads blocks"),
    ],
)
def test_an_adapter_for_another_backbone_is_refused(card, sentence):
    clip = small_backbone()
    with pytest.raises(ZsasError, match=sentence):
        Linear(clip, small_adapter(clip, **card))


@pytest.mark.parametrize(
    ("made_for", "loaded"),
    [
        ("openai/clip", "/models/copy"),
        ("/models/original", "openai/clip"),
        ("./models/here", "/else/where/here"),
        ("~/models/here", "zsas/tiny"),
    ],
)
def test_an_adapter_of_a_folder_is_taken_where_its_shapes_fit(made_for, loaded, caplog):
    clip = small_backbone()
    clip.name = loaded
    with caplog.at_level(logging.WARNING, "zsas"):
        Linear(clip, small_adapter(clip, backbone=made_for))
    assert made_for in caplog.text
    assert loaded in caplog.text
    adapter = small_adapter(clip, backbone=made_for, blocks=(2, 4, 6, 9))
    with pytest.raises(ZsasError, match="reads blocks"):
        Linear(clip, adapter)
    adapter = small_adapter(clip, backbone=made_for)
    for shape in ((clip.projection, clip.width + 16), (clip.projection + 8, clip.width)):
        weights = tuple(torch.zeros(shape) for _ in adapter.weights)
        with pytest.raises(ZsasError, match="needs layers of shape"):
            Linear(clip, Adapter(adapter.card, weights, adapter.biases))


def test_the_same_folder_written_in_another_way_is_the_same(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    clip = small_backbone()
    clip.name = str(tmp_path / "x")
    with caplog.at_level(logging.WARNING, "zsas"):
        Linear(clip, small_adapter(clip, backbone="./x"))
    assert caplog.text == ""


def test_sentences_other_than_ours_are_said_and_taken(caplog):
    clip = small_backbone()
    with caplog.at_level(logging.WARNING, "zsas"):
        Linear(clip, small_adapter(clip, text_ensemble="april-gan"))
    assert "trained against the sentences april-gan" in caplog.text


@pytest.mark.slow
def test_a_map_is_made_with_the_adapters_activation_in_both_towers(photo):
    """An adapter trained on plain-GELU towers gives on QuickGELU ones what it gives on its own."""
    asked, own = (
        ClipBackbone(small_clip(hidden_act=name), LetterTokenizer(), name="x", device=CPU)
        for name in ("quick_gelu", "gelu")
    )
    for layer in own.model.text_model.encoder.layers:
        layer.mlp.activation_fn = torch.nn.GELU()
    sam = Sam(TransformersSam(small_sam(), CPU, "fp32"), CPU)
    maps = []
    for clip in (asked, own):
        adapter = small_adapter(clip, activation="gelu")
        segmenter = Segmenter(ReadyModels(clip, sam), localizers=[Linear(clip, adapter)])
        maps.append(segmenter.anomaly_map(segmenter.encode(photo), Settings()))
    np.testing.assert_allclose(*maps, atol=1e-5)


def test_an_adapters_activation_is_honoured():
    clip = small_backbone()
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    quick, plain = (
        only_tile(Linear(clip, small_adapter(clip, activation=name)).encode([photo], Settings())[0])
        for name in ("quick_gelu", "gelu")
    )
    assert (quick.layers - plain.layers).abs().max() > 1e-4


def test_an_adapter_may_have_several_views(tmp_path):
    clip = small_backbone()
    adapter = small_adapter(clip, views=((1.0, False), (1.0, True)))
    adapter.save(tmp_path / "adapter.safetensors")
    assert read_adapter(tmp_path / "adapter.safetensors").card == adapter.card


def only_tile(features: PatchFeatures) -> TileFeatures:
    (tile,) = features.tiles
    return tile


def encoded(image: np.ndarray, **card: object) -> TileFeatures:
    """An image through layers with this card, in a frame of 64 px."""
    clip = small_backbone()
    localizer = Linear(clip, small_adapter(clip, **{"resolution": 64, **card}))
    return only_tile(localizer.encode([np.ascontiguousarray(image)], Settings(tiles="off"))[0])


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def test_a_mirrored_view_is_turned_back():
    views = ((1.0, False), (1.0, True))
    seen, mirrored = encoded(NOISE, views=views), encoded(NOISE[:, ::-1], views=views)
    states = torch.nn.functional.normalize(torch.randn(2, seen.layers.shape[-1]), dim=-1)
    maps = [text_map(features, states, scale=10.0) for features in (seen, mirrored)]
    np.testing.assert_allclose(maps[0], maps[1][:, ::-1], atol=2e-3)
    torch.testing.assert_close(seen.image, mirrored.image, atol=1e-5, rtol=0)
    plain = torch.cat([encoded(NOISE).layers, encoded(NOISE[:, ::-1]).layers.flip(3)])
    torch.testing.assert_close(seen.layers.float(), plain.float(), atol=1e-3, rtol=0)


def test_views_of_other_sizes_meet_on_the_grid_of_the_first():
    both, smaller = (
        encoded(NOISE, views=((1.0, False), (0.5, False))),
        encoded(NOISE, resolution=32),
    )
    assert both.frame_hw == (64, 64)
    first, spread = both.layers.float()
    torch.testing.assert_close(first, encoded(NOISE).layers[0].float(), atol=1e-3, rtol=0)
    assert smaller.layers.shape[2] < spread.shape[1] == first.shape[1]
    torch.testing.assert_close(
        spread.mean((1, 2)), smaller.layers[0].float().mean((1, 2)), atol=0.02, rtol=0
    )


def test_an_adapter_whose_card_cannot_be_is_refused(tmp_path):
    adapter = small_adapter(small_backbone())
    tensors = {f"fc.{i}.weight": weight for i, weight in enumerate(adapter.weights)}
    for name, value in (
        ("views", "[]"), ("views", "[[0, false]]"), ("blocks", "[]"), ("blocks", "[0, 2]"),
        ("activation", "loud"),
    ):  # fmt: skip
        save_file(
            tensors,
            tmp_path / "a.safetensors",
            metadata=card_as_metadata(adapter.card) | {name: value},
        )
        with pytest.raises(ZsasError, match=name):
            read_adapter(tmp_path / "a.safetensors")


def test_april_gans_file_is_read_and_stamped_with_plain_gelu(tmp_path):
    layers = {}
    for i in range(4):
        layers[f"fc.{i}.weight"] = torch.randn(768, 1024)
        layers[f"fc.{i}.bias"] = torch.randn(768)
    path = tmp_path / "visa_pretrained.pth"
    torch.save({"trainable_linearlayer": layers}, path)
    adapter = read_adapter(path)
    assert adapter.card.activation == "gelu"
    assert adapter.card.backbone == "openai/clip-vit-large-patch14-336"
    assert adapter.card.blocks == (6, 12, 18, 24)
    assert adapter.card.trained_on == "visa"
    assert adapter.card.corners
    torch.testing.assert_close(adapter.weights[2], layers["fc.2.weight"])


def test_code_in_a_pth_file_is_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"trainable_linearlayer": Harm()}, tmp_path / "mvtec_pretrained.pth")
    with pytest.raises(ZsasError, match="cannot be read"):
        read_adapter(tmp_path / "mvtec_pretrained.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "There is no file .* with an adapter"),
        (lambda path: path.write_bytes(b"not safetensors"), "cannot be read as safetensors"),
        (lambda path: save_file({"fc.0.weight": torch.zeros(2)}, path), "its metadata lacks"),
    ],
)
def test_a_bad_adapter_file_is_one_sentence(tmp_path, make, sentence):
    path = tmp_path / "adapter.safetensors"
    make(path)
    with pytest.raises(ZsasError, match=sentence):
        read_adapter(path)


def test_a_missing_layer_is_named(tmp_path):
    clip = small_backbone()
    card = small_adapter(clip).card
    save_file(
        {"fc.0.weight": torch.zeros(2)}, tmp_path / "a.safetensors", metadata=card_as_metadata(card)
    )
    with pytest.raises(ZsasError, match=r"lacks the tensor 'fc\.1\.weight'"):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", ["linear", "vv"])
def test_a_batch_of_different_sizes_gives_what_each_photo_gives_alone(kind):
    clip = small_backbone()
    localizer = VV(clip) if kind == "vv" else Linear(clip, small_adapter(clip))
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((60, 90), (33, 20))]
    together = localizer.encode(photos, Settings(resolution=128))
    for photo, joint in zip(photos, together, strict=True):
        found = only_tile(joint)
        alone = only_tile(localizer.encode([photo], Settings(resolution=128))[0])
        difference = (found.layers.float() - alone.layers.float()).abs().max()
        assert difference <= 1e-3  # one unit of the fp16 they are kept in
        torch.testing.assert_close(found.image, alone.image, atol=1e-4, rtol=0)


def test_training_free_compares_the_vv_stream():
    clip = small_backbone()
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    found = only_tile(VV(clip).encode([photo], Settings(resolution=128))[0])
    stream = clip.forward_vision(clip.pixels([photo], 128), vv_blocks=6).vv
    expected = torch.nn.functional.normalize(stream[0], dim=-1)
    torch.testing.assert_close(
        found.layers[0, 0].float().flatten(0, 1), expected, atol=1e-3, rtol=0
    )


def test_each_localizer_has_its_own_resolution():
    clip = small_backbone()
    linear = Linear(clip, small_adapter(clip, resolution=96))
    assert linear.resolution(Settings()) == 96
    assert VV(clip).resolution(Settings()) == 512  # 518, rounded to patches of 16
    assert linear.resolution(Settings(resolution=256)) == 256


def test_the_blurs_width_is_in_pixels_of_a_518_square():
    spot = torch.zeros(7, 7)
    spot[3, 3] = 1
    across = np.arange(70) - 34.5

    def spread(blur: float) -> float:
        values = text_map(features(spot.tolist(), resolution=70), STATES, 10.0, blur=blur)
        profile = (values - values.min()).sum(0)
        return float((profile * across**2).sum() / profile.sum())

    assert spread(30.0) - spread(0.0) == pytest.approx((30 * 70 / 518) ** 2, rel=0.1)


def test_april_gans_layers_are_stamped_as_they_were_trained(tmp_path, caplog):
    path = tmp_path / "visa_pretrained.pth"
    layers = {f"fc.{i}.weight": torch.zeros(2, 3) for i in range(4)}
    layers |= {f"fc.{i}.bias": torch.zeros(2) for i in range(4)}
    torch.save({"trainable_linearlayer": layers}, path)
    card = read_adapter(path).card
    assert (card.resolution, card.scale, card.text_ensemble) == (518, 100.0, "april-gan")
    assert card.views == ((1.0, False),)


@pytest.mark.parametrize("content", [[1, 2], None, {"fc.0.weight": 5}, torch.zeros(2)])
def test_a_pth_file_of_other_contents_is_one_sentence(tmp_path, content):
    torch.save({"trainable_linearlayer": content}, tmp_path / "mvtec_pretrained.pth")
    with pytest.raises(ZsasError, match="cannot be read: expected APRIL-GAN's file"):
        read_adapter(tmp_path / "mvtec_pretrained.pth")


def test_a_backbones_name_is_looked_up_where_nobody_may_look(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    clip = small_backbone()
    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(Path, "is_file", refuse)
    assert Linear(clip, small_adapter(clip)).card.backbone == clip.name


def test_images_are_compared_by_the_blocks_own_tokens():
    """L2-normalised, before the linear layers, of the first view; a mirrored view is turned back."""
    clip = small_backbone()
    linear = Linear(clip, small_adapter(clip, views=((1.0, False), (1.0, True))))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    (tile,) = linear.encode([image], Settings(views="all", tiles="off"))[0].tiles
    assert tile.tokens is not None
    side = tile.frame_hw[0]
    seen = clip.forward_vision(
        clip.pixels([image], (side, side)),
        blocks=linear.card.blocks,
        activation=linear.card.activation,
    )
    for found, block in zip(tile.compared, linear.card.blocks, strict=True):
        wanted = torch.nn.functional.normalize(seen.blocks[block][0].float(), dim=-1)
        torch.testing.assert_close(found.float().flatten(0, 1), wanted, atol=2e-3, rtol=0)
    assert tile.nbytes > tile.layers.nbytes + tile.image.nbytes
