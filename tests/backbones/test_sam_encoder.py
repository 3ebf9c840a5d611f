"""The quicker encoder gives the numbers of transformers' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.models import CPU, small_sam
from tests.helpers.sams import small_model
from zsas.backbones.sam import Sam
from zsas.backbones.sam_encoder import (
    PaddedEncoder,
    attend,
    attend_without_waste,
    strip_attention,
    window_block,
)
from zsas.backbones.sam_families import TransformersSam


@pytest.mark.parametrize("values", [1, 5000, 1 << 20])
@pytest.mark.parametrize(("dtype", "to"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_attention_by_strips_is_attention(monkeypatch, values, dtype, to):
    """Whatever the strips' size, uneven ones included; in bf16 as near to fp32 as the library's own."""
    monkeypatch.setattr("zsas.backbones.sam_encoder.STRIP_VALUES", values)
    layer = small_sam().vision_encoder.layers[1].attn
    for rel_pos in (layer.rel_pos_h, layer.rel_pos_w):
        torch.nn.init.normal_(rel_pos)
    tokens = torch.randn((2, 16, 16, 32), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = layer(tokens)[0]
        layer.to(dtype)
        own = layer(tokens.to(dtype))[0].float()
        ours = strip_attention(layer, tokens.to(dtype))[0].float()
    scale = wanted.abs().max()
    assert scale > 0.1
    assert (ours - wanted).abs().max() <= max(to * scale, 2 * (own - wanted).abs().max())


@pytest.mark.parametrize("grid", [(16, 16), (7, 14)])
@pytest.mark.parametrize(("dtype", "to"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_windows_with_folded_positions_are_the_librarys(grid, dtype, to):
    """Grids that windows fill, and that they reach over on both sides; in bf16 as near as the library's own."""
    layer = small_sam().vision_encoder.layers[0]
    assert layer.window_size == 4
    for rel_pos in (layer.attn.rel_pos_h, layer.attn.rel_pos_w):
        torch.nn.init.normal_(rel_pos)
    tokens = torch.randn((2, *grid, 32), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = layer(tokens)
        layer.to(dtype)
        own = layer(tokens.to(dtype)).float()
        ours = window_block(layer, tokens.to(dtype)).float()
    assert (ours - wanted).abs().max() <= max(
        to * wanted.abs().max(), 2 * (own - wanted).abs().max()
    )
    assert (wanted - tokens).abs().max() > 0.1


@pytest.mark.parametrize("values", [1, 100, 1000, 1 << 20])
def test_attention_in_bf16_by_strips_is_attention(monkeypatch, values):
    """Whatever the strips' size, with fewer queries than keys, as where SAM 2 pools them."""
    monkeypatch.setattr("zsas.backbones.sam_encoder.STRIP_VALUES", values)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn((2, 3, n, 8), generator=generator) for n in (10, 24, 24))
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=0.3)
    found = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), 0.3)
    torch.testing.assert_close(found.float(), wanted, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(attend(query, key, value, 0.3), wanted)


def test_sam_2s_attention_leaves_out_what_nobody_reads():
    encoder = small_model("sam2").vision_encoder
    pixels = torch.randn((1, 3, 256, 256), generator=torch.Generator().manual_seed(0))
    pooling = [block.attn.query_stride for block in encoder.backbone.blocks]
    assert None in pooling
    assert any(pooling)
    with torch.inference_mode():
        wanted = encoder(pixels).fpn_hidden_states
        attend_without_waste(encoder)
        found = encoder(pixels).fpn_hidden_states
    assert "forward" in vars(encoder.backbone.blocks[0].attn)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(64, 256), (256, 40), (200, 256), (256, 256)])
def test_windows_of_padding_are_left_out_and_change_nothing(shape):
    model = small_sam()
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    sam = Sam(TransformersSam(model, CPU, "fp32"), CPU)
    pixels, _ = sam.pixels(image)
    with torch.inference_mode():
        wanted = model.vision_encoder(pixels[None]).last_hidden_state
    for _ in range(2):  # the second time the padding is known
        (features,) = sam.encode([image])
        torch.testing.assert_close(features.embedding, wanted, atol=1e-5, rtol=1e-4)


def test_padding_is_computed_once_for_each_amount_of_it(monkeypatch):
    sam = Sam(TransformersSam(small_sam(), CPU, "fp32"), CPU)
    wide, tall = np.zeros((64, 256, 3), np.uint8), np.zeros((256, 64, 3), np.uint8)
    sizes = []
    windowed = PaddedEncoder._windowed

    def counted(self: PaddedEncoder, tokens: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(tokens.shape[:3]))
        return windowed(self, tokens)

    monkeypatch.setattr(PaddedEncoder, "_windowed", counted)
    sam.encode([wide])
    sam.encode([wide, wide])
    sam.encode([wide, tall])
    assert sizes == [(1, 4, 16), (1, 12, 16), (2, 4, 16), (2, 16, 16)]


def masked(attention, seen):
    """A global block's attention, written plainly, in which nobody looks at cells that show no image."""

    def forward(hidden_states, output_attentions=False):
        batch, height, width, _ = hidden_states.shape
        heads = attention.num_attention_heads
        qkv = attention.qkv(hidden_states).reshape(batch, height * width, 3, heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        grid = query.reshape(batch, heads, height, width, -1)
        place = torch.arange(height)
        distance = place[:, None] - place[None, :] + height - 1
        bias_h = torch.einsum("bnhwc,hkc->bnhwk", grid, attention.rel_pos_h[distance])
        bias_w = torch.einsum("bnhwc,wkc->bnhwk", grid, attention.rel_pos_w[distance])
        bias = (bias_h[..., :, None] + bias_w[..., None, :]).reshape(
            batch, heads, height * width, -1
        )
        weights = attention.scale * query @ key.transpose(-1, -2) + bias
        weights = weights.masked_fill(~seen.flatten(), float("-inf")).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, height, width, -1)
        return attention.proj(mixed), None

    return forward


@pytest.mark.parametrize(("shape", "rows", "columns"), [((128, 256), 8, 16), ((256, 64), 16, 4)])
def test_without_padding_nobody_looks_at_it(shape, rows, columns):
    """Rows and columns fill whole windows, so that the windowed blocks have nothing to differ by."""
    model = small_sam()
    for layer in model.vision_encoder.layers:
        torch.nn.init.normal_(layer.attn.rel_pos_h)
        torch.nn.init.normal_(layer.attn.rel_pos_w)
    assert {layer.window_size for layer in model.vision_encoder.layers} == {0, 4}
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    sam = Sam(TransformersSam(model, CPU, "fp32"), CPU)
    with torch.inference_mode():
        (found,) = Sam(sam.network, CPU, drop_padding=True).encode([image])
        (known,) = sam.encode([image])
        seen = torch.zeros(16, 16, dtype=torch.bool)
        seen[:rows, :columns] = True
        for layer in model.vision_encoder.layers:
            if layer.window_size == 0:
                layer.attn.forward = masked(layer.attn, seen)
        pixels, _ = sam.pixels(image)
        wanted = model.vision_encoder(pixels[None]).last_hidden_state
    # The neck's last convolution looks one cell further.
    inside = np.s_[:, :, : rows - (rows < 16), : columns - (columns < 16)]
    torch.testing.assert_close(found.embedding[inside], wanted[inside], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found.embedding[inside], known.embedding[inside], atol=1e-3)


def test_a_square_image_has_no_padding_to_drop_and_a_batch_gives_the_same():
    network = TransformersSam(small_sam(), CPU, "fp32")
    sam = Sam(network, CPU, drop_padding=True)
    generator = np.random.default_rng(0)
    shapes = ((256, 256), (64, 256), (256, 100))
    images = [generator.integers(0, 255, (*shape, 3), dtype=np.uint8) for shape in shapes]
    together = sam.encode(images)
    for image, one in zip(images, together, strict=True):
        (alone,) = sam.encode([image])
        torch.testing.assert_close(one.embedding, alone.embedding, atol=1e-5, rtol=1e-4)
    (exact,) = Sam(network, CPU).encode(images[:1])
    torch.testing.assert_close(together[0].embedding, exact.embedding, atol=1e-5, rtol=1e-4)
