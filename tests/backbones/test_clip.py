from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tests.helpers.models import CPU, LetterTokenizer, small_backbone, small_clip
from zsas.backbones.clip import PIXEL_MEAN, PIXEL_STD, ClipBackbone
from zsas.backbones.text import ABNORMAL_STATES, NORMAL_STATES, TEMPLATES, prompt_sentences
from zsas.segmenter import Segmenter


@pytest.fixture(scope="module")
def clip():
    return small_backbone()


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8)


def test_the_walk_gives_what_transformers_gives(clip, noise):
    """Same hidden states and same image embedding as the library's own forward pass."""
    pixels = clip.pixels([noise], 96)
    seen = clip.forward_vision(pixels, blocks=(3, 8))
    output = clip.model.vision_model(
        pixels, interpolate_pos_encoding=True, output_hidden_states=True
    )
    for block in (3, 8):
        torch.testing.assert_close(seen.blocks[block], output.hidden_states[block][:, 1:])
    image = clip.model.visual_projection(output.pooler_output)
    torch.testing.assert_close(seen.image, F.normalize(image, dim=-1))


def test_the_main_stream_does_not_notice_the_vv_stream(clip, noise):
    pixels = clip.pixels([noise], 96)
    torch.testing.assert_close(
        clip.forward_vision(pixels, vv_blocks=3, blocks=(8,)).blocks[8],
        clip.forward_vision(pixels, blocks=(8,)).blocks[8],
    )


@pytest.mark.parametrize("count", [1, 3])
def test_the_vv_stream_adds_value_attention_and_skips_the_mlp(clip, noise, count):
    """The last blocks' shares, computed by hand from their definition: softmax(V Vᵀ / √d) V of the main stream."""
    pixels = clip.pixels([noise], 64)
    main = clip.model.vision_model(
        pixels, interpolate_pos_encoding=True, output_hidden_states=True
    ).hidden_states
    stream = main[clip.depth - count]
    for number in range(clip.depth - count, clip.depth):
        layer = clip.model.vision_model.encoder.layers[number]
        values = layer.self_attn.v_proj(layer.layer_norm1(main[number]))
        heads = values.unflatten(-1, (3, 16)).transpose(1, 2)
        weights = torch.softmax(heads @ heads.transpose(-1, -2) / 16**0.5, dim=-1)
        mixed = (weights @ heads).transpose(1, 2).flatten(2)
        stream = stream + layer.self_attn.out_proj(mixed)
    norm = clip.model.vision_model.post_layernorm
    expected = clip.model.visual_projection(norm(stream[:, 1:]))
    found = clip.forward_vision(pixels, vv_blocks=count).vv
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_an_activation_can_be_asked_for(clip, noise):
    pixels = clip.pixels([noise], 64)
    quick = clip.forward_vision(pixels, blocks=(8,)).blocks[8]
    torch.testing.assert_close(
        quick, clip.forward_vision(pixels, blocks=(8,), activation="quick_gelu").blocks[8]
    )
    assert (
        quick - clip.forward_vision(pixels, blocks=(8,), activation="gelu").blocks[8]
    ).abs().max() > 1e-4
    assert clip.activation == "quick_gelu"


def test_pixels_are_squeezed_to_whole_patches_and_normalised(clip):
    white = np.full((10, 300, 3), 255, np.uint8)
    pixels = clip.pixels([white, white[:, :7]], 100)
    assert pixels.shape == (2, 3, 96, 96)
    expected = (1 - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    torch.testing.assert_close(pixels[1, :, 5, 5], expected)


def test_sentences_are_padded_to_the_longest_and_not_further(clip, monkeypatch):
    widths = []
    whole = clip.tokenizer.__class__.__call__

    def watch(self, sentences, **options):
        tokens = whole(self, sentences, **options)
        widths.append(tokens["input_ids"].shape[1])
        return tokens

    monkeypatch.setattr(clip.tokenizer.__class__, "__call__", watch)
    clip.encode_sentences(["abc", "abcdefgh"])
    assert widths == [len("abcdefgh") + 2]


@pytest.mark.slow
def test_a_real_tokenizer_pads_to_the_longest_too():
    clip = Segmenter.from_preset("tiny").clip
    widths = []
    clip.model.text_model.register_forward_pre_hook(
        lambda _, __, given: widths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    clip.encode_sentences(["a nut", "a photo of a nut"])
    clip.encode_sentences(["a nut"])
    limit = clip.model.config.text_config.max_position_embeddings
    assert widths[1] < widths[0] < limit


def test_padding_does_not_change_a_sentence(clip):
    alone = clip.encode_sentences(["a nut"])
    beside = clip.encode_sentences(["a nut", "a photo of a very long sentence"])
    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_state_vectors_are_normalised_means_and_kept_per_name(clip):
    vectors = clip.state_vectors("metal nut")
    normal, abnormal = prompt_sentences("metal nut")
    for vector, sentences in zip(vectors, (normal, abnormal), strict=True):
        expected = F.normalize(clip.encode_sentences(sentences).mean(dim=0), dim=0)
        torch.testing.assert_close(vector, expected)
    before = clip.sentences_encoded
    clip.state_vectors("metal nut")
    assert clip.sentences_encoded == before
    clip.state_vectors("wood")
    assert clip.sentences_encoded == before + len(normal) + len(abnormal)


def test_an_activation_other_than_the_towers_runs_through_the_text_too(clip):
    model = small_clip()
    for layer in model.text_model.encoder.layers:
        layer.mlp.activation_fn = torch.nn.GELU()
    plain = ClipBackbone(model, LetterTokenizer(), name="plain", device=CPU)
    quick = clip.state_vectors("nut")
    asked = clip.state_vectors("nut", "gelu")
    torch.testing.assert_close(asked, plain.state_vectors("nut"))
    assert (asked - quick).abs().max() > 1e-4
    before = clip.sentences_encoded
    assert torch.equal(clip.state_vectors("nut", "quick_gelu"), quick)
    assert torch.equal(clip.state_vectors("nut", "gelu"), asked)
    assert torch.equal(clip.state_vectors("nut"), quick)
    assert clip.sentences_encoded == before


def test_the_text_tower_of_a_model_with_two_activations_stays_as_trained():
    model = small_clip(hidden_act="gelu")  # the vision tower only
    clip = ClipBackbone(model, LetterTokenizer(), name="mixed", device=CPU)
    assert torch.equal(clip.encode_sentences(["a nut"], "gelu"), clip.encode_sentences(["a nut"]))


def test_the_ensemble_has_the_recipes_shape():
    assert (len(NORMAL_STATES), len(ABNORMAL_STATES), len(TEMPLATES)) == (7, 5, 35)
    assert len(set(TEMPLATES)) == 35
    normal, abnormal = prompt_sentences("")
    assert len(normal) == 245
    assert len(abnormal) == 175
    assert all("object" in sentence for sentence in normal + abnormal)


def test_photos_are_resized_bicubically(clip, noise):
    wanted = np.asarray(Image.fromarray(noise).resize((48, 48), Image.Resampling.BICUBIC))
    shown = clip.pixels([noise], 48)[0].permute(1, 2, 0) * torch.tensor(PIXEL_STD)
    shown = (shown + torch.tensor(PIXEL_MEAN)) * 255
    np.testing.assert_allclose(shown, wanted, atol=1e-2)


def test_the_same_pass_is_made_once_and_another_one_anew():
    clip = small_backbone()
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    first = clip.forward_vision(pixels, blocks=(2, 4))
    again = clip.forward_vision(pixels.clone(), blocks=(4,))
    assert clip.passes == 1
    assert list(again.blocks) == [4]
    assert torch.equal(again.blocks[4], first.blocks[4])
    for how in (
        {"blocks": (4, 6)},
        {"activation": "gelu"},
        {"positions": "bilinear"},
        {"vv_blocks": 2},
    ):
        before = clip.passes
        clip.forward_vision(pixels, **how)
        assert clip.passes == before + 1, how
    clip.forward_vision(pixels + 1e-3)
    assert clip.passes == 6
