from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.models import small_backbone
from zsas.backbones.session import SamSession
from zsas.errors import ZsasError
from zsas.localizers.adapter import Card
from zsas.localizers.anomalyclip import (
    AnomalyClip,
    Prompts,
    deep_blocks,
    look,
    read_prompts,
    text_vectors,
    vv_blocks,
)
from zsas.localizers.base import Context
from zsas.localizers.patches import PatchFeatures, TileFeatures
from zsas.settings import Settings

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def prompts(width: int = 32, deep: int = 1, seed: int = 0, **card: object) -> Prompts:
    generator = torch.Generator().manual_seed(seed)
    entries = {
        "backbone": "small-clip",
        "resolution": 96,
        "activation": "quick_gelu",
        "trained_on": "nothing",
    }

    def drawn(count: int) -> torch.Tensor:
        return torch.randn(count, width, generator=generator)

    sets = tuple(drawn(4) for _ in range(deep))
    return Prompts(Card(**{**entries, **card}), drawn(12), drawn(12), sets)


@pytest.fixture(scope="module")
def clip():
    return small_backbone()


def decided(localizer: AnomalyClip, **values: object):
    settings = Settings(system="anomalyclip", **values)
    with torch.inference_mode():
        features = localizer.encode([IMAGE], settings)[0]
        context = Context(IMAGE, SamSession(None, None))  # type: ignore[arg-type]
        return features, localizer.score(features, settings, context)


def test_depths_are_the_published_ones_for_the_published_towers():
    assert [vv_blocks(depth) for depth in (24, 12, 8, 1)] == [19, 9, 6, 1]
    assert [deep_blocks(depth) for depth in (12, 3)] == [8, 2]


def test_the_published_prompts_have_43008_numbers():
    full = prompts(768, deep=8)
    assert sum(t.numel() for t in (full.normal, full.anomalous, *full.deep)) == 43_008


def test_learned_tokens_that_are_letters_give_the_sentence_itself(clip):
    """Without deep tokens the tower run by hand is the model's own."""
    table = clip.model.text_model.embeddings.token_embedding.weight
    letters = "abcdefghijkl"
    learned = table[[3 + ord(c) % 60 for c in letters]]
    ours = text_vectors(clip, replace(prompts(deep=0), normal=learned, anomalous=learned))
    for vector, words in zip(ours, ("object.", "damaged object."), strict=True):
        ids = clip.tokenizer([letters + words], max_length=77)["input_ids"]
        with torch.inference_mode():
            last = clip.model.text_model(input_ids=ids).last_hidden_state[0, -1]
            own = F.normalize(clip.model.text_projection(last), dim=-1)
        torch.testing.assert_close(vector, own, atol=1e-6, rtol=0)


def test_deep_tokens_act_through_attention_only():
    clip = small_backbone(seed=5)
    one, other = prompts(deep=1), replace(prompts(deep=1), deep=prompts(deep=1, seed=9).deep)
    with torch.inference_mode():
        assert not torch.allclose(text_vectors(clip, one), text_vectors(clip, other), atol=1e-4)
        for layer in clip.model.text_model.encoder.layers:
            for part in (layer.self_attn.out_proj, layer.mlp.fc2):
                part.weight.zero_()
                part.bias.zero_()
        torch.testing.assert_close(text_vectors(clip, one), text_vectors(clip, other))


def test_deep_tokens_are_rounded_to_half_precision(clip):
    fine = prompts(deep=1)
    rounded = replace(fine, deep=tuple(t.half().float() for t in fine.deep))
    torch.testing.assert_close(text_vectors(clip, fine), text_vectors(clip, rounded))


def test_gradients_reach_every_learned_token(clip):
    learned = prompts(deep=1)
    for tensor in (learned.normal, learned.anomalous, *learned.deep):
        tensor.requires_grad_()
    text_vectors(clip, learned)[:, 0].sum().backward()
    for tensor in (learned.normal, learned.anomalous, *learned.deep):
        assert tensor.grad is not None
        assert float(tensor.grad.abs().sum()) > 0
    # The first four tokens are replaced before the second block, and act in the first alone.
    assert learned.normal.grad is not None
    assert float(learned.normal.grad[:4].abs().sum()) > 0


def test_patches_are_the_vv_stream_and_the_image_has_no_norm(clip):
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        patches, image = look(clip, pixels, "quick_gelu")
        seen = clip.forward_vision(pixels, vv_blocks=6)
        plain = F.normalize(clip.model.visual_projection(seen.class_token), dim=-1)
    assert seen.vv is not None
    torch.testing.assert_close(patches[0].flatten(0, 1), F.normalize(seen.vv[0], dim=-1))
    torch.testing.assert_close(image, plain)
    assert not torch.allclose(image, seen.image, atol=1e-3)


def test_positions_are_resized_bilinearly(clip):
    pixels = torch.zeros(1, 3, 128, 128)
    embeddings = clip.model.vision_model.embeddings
    with torch.inference_mode():
        found = clip.embed(pixels, "bilinear")[0]
        table = embeddings.position_embedding.weight
        torch.testing.assert_close(found[0], embeddings.class_embedding + table[0])
        torch.testing.assert_close(found[1], table[1])  # the corner lies outside all centres
        assert not torch.allclose(found, clip.embed(pixels)[0], atol=1e-4)
        own = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(clip.embed(own, "bilinear"), clip.embed(own))


def test_the_softmax_comes_before_the_enlarging(clip):
    localizer = AnomalyClip(clip, prompts())
    features, scored = decided(localizer, blur=0)
    difference = localizer.states[1] - localizer.states[0]
    grid = torch.sigmoid(features.tiles[0].layers[0, 0].float() @ difference / 0.07)
    assert float(scored.map.max()) <= float(grid.max()) + 1e-6
    assert float(scored.map.min()) >= float(grid.min()) - 1e-6
    assert scored.map.shape == IMAGE.shape[:2]


def test_cosines_of_020_and_027(clip):
    """Their difference over 0.07 is one: 0.731059."""
    localizer = AnomalyClip(clip, prompts())
    localizer.__dict__["states"] = torch.tensor([[0.20, 0.0], [0.27, 0.0]])
    along = torch.tensor([1.0, 0.0])
    tile = TileFeatures((0, 0, 96, 96), along.expand(1, 1, 6, 6, 2), along, (96, 96))
    features = PatchFeatures((tile,))
    context = Context(IMAGE, SamSession(None, None))  # type: ignore[arg-type]
    settings = Settings(system="anomalyclip")
    scored = localizer.score(features, settings, context)
    np.testing.assert_allclose(scored.map, 0.731059, atol=1e-5)
    score = localizer.image_score(scored.evidence, settings)
    assert score == pytest.approx(0.731059, abs=1e-5)


def test_prompts_survive_the_file_with_their_card(tmp_path: Path):
    one = prompts(trained_categories=("bolt",))
    one.save(tmp_path / "p.safetensors")
    back = read_prompts(tmp_path / "p.safetensors")
    assert back.card == one.card
    torch.testing.assert_close(back.deep[0], one.deep[0])


def test_the_published_file_is_read_as_it_is(tmp_path: Path):
    tensors = {"ctx_pos": torch.zeros(1, 1, 12, 768), "ctx_neg": torch.ones(1, 1, 12, 768)}
    tensors |= {f"compound_prompts_text.{i}": torch.zeros(4, 768) for i in range(8)}
    unused = {"compound_prompt_projections.0.weight": torch.zeros(896, 768)}
    torch.save({"prompt_learner": tensors | unused}, tmp_path / "epoch_15.pth")
    found = read_prompts(tmp_path / "epoch_15.pth")
    assert found.normal.shape == (12, 768)
    assert len(found.deep) == 8
    assert found.card.activation == "quick_gelu"
    found.save(tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 180_000


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ({"backbone": "openai/clip-vit-large-patch14-336"}, "made for openai/clip-vit"),
        ({"width": 48}, "48 wide"),
        ({"deep": 2}, "deep tokens for 2 blocks"),
    ],
)
def test_prompts_of_another_tower_are_refused(clip, made, sentence):
    with pytest.raises(ZsasError, match=sentence):
        AnomalyClip(clip, prompts(**made))


def test_a_file_that_holds_no_prompts_is_refused(tmp_path: Path):
    torch.save({"linear_layers": {}}, tmp_path / "other.pth")
    with pytest.raises(ZsasError, match=r"other\.pth holds no prompts"):
        read_prompts(tmp_path / "other.pth")
    with pytest.raises(ZsasError, match="There is no file"):
        read_prompts(tmp_path / "none.pth")
