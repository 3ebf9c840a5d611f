"""The quicker encoder gives the numbers of transformers' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.models import CPU, small_sam
from zsas.backbones.sam import Sam
from zsas.backbones.sam_encoder import PaddedEncoder, strip_attention
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
