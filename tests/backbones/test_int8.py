"""int8 encoders stay near fp32, also where a few channels are far larger than the rest."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.models import (
    CPU,
    ReadyModels,
    small_backbone,
    small_sam,
    with_lively_weights,
)
from tests.helpers.sams import small_model
from zsas.backbones import int8
from zsas.backbones.sam_families import network_for
from zsas.device import encoder_dtype
from zsas.errors import ZsasError
from zsas.localizers.vv import VV
from zsas.models import ModelChoice
from zsas.segmenter import Segmenter
from zsas.settings import Settings


def lowest_cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of any token, channels last."""
    return float(F.cosine_similarity(one.float(), other.float(), dim=-1).min())


@pytest.mark.parametrize("where", ["input", "weight rows", "weight columns"])
def test_ten_channels_a_hundred_times_as_large_keep_the_direction_of_each_token(where):
    rng = torch.Generator().manual_seed(0)
    linear = nn.Linear(768, 384)
    tokens = torch.randn((3, 50, 768), generator=rng)
    chosen = torch.randperm(384, generator=rng)[:10]
    with torch.no_grad():
        linear.weight.normal_(std=0.05, generator=rng)
        if where == "input":
            tokens[..., chosen] *= 100
        elif where == "weight rows":
            linear.weight[chosen] *= 100
        else:
            linear.weight[:, chosen] *= 100
        wanted, found = linear(tokens), int8.Int8Linear(linear)(tokens)
    assert found.shape == wanted.shape
    assert lowest_cosine(found, wanted) >= 0.99


@pytest.mark.parametrize("outliers", [False, True])
def test_an_encoder_with_outlier_channels_keeps_the_direction_of_each_token(outliers):
    """SAM's ViT, whose residual stream has ten channels that are a hundred times the others."""
    config = small_sam().config
    config.vision_config.hidden_size, config.vision_config.mlp_dim = 256, 512
    torch.manual_seed(0)
    model = with_lively_weights(type(small_sam())(config).eval())
    if outliers:
        with torch.no_grad():
            model.vision_encoder.patch_embed.projection.weight[:10] *= 100
            for layer in model.vision_encoder.layers:
                layer.attn.proj.weight[:10] *= 100
                layer.mlp.lin2.weight[:10] *= 100
    pixels = torch.randn((1, 3, 256, 256), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = model.vision_encoder(pixels).last_hidden_state
        dtype = int8.set_precision(model.vision_encoder, CPU, "int8")
        found = model.vision_encoder(pixels.to(dtype)).last_hidden_state.float()
    assert not torch.equal(found, wanted)
    assert lowest_cosine(found.movedim(1, -1), wanted.movedim(1, -1)) >= 0.99


def test_products_are_exact_on_this_processor():
    """Where pairs of products would overflow, weights keep to half the range."""
    levels = int8.weight_levels()
    assert levels in (63, 127)
    linear = nn.Linear(256, 64, bias=False)
    nn.init.constant_(linear.weight, 2.0)
    with torch.no_grad():
        found = int8.Int8Linear(linear)(torch.full((64, 256), -3.0))
    torch.testing.assert_close(found, torch.full((64, 64), -6.0 * 256))


@pytest.mark.parametrize("family", ["sam", "sam2", "sam3_tracker"])
def test_encoders_of_the_families_run_in_int8(family):
    network = network_for(small_model(family), CPU, "int8")
    kinds = {type(m) for m in network.model.vision_encoder.modules()}
    assert int8.Int8Linear in kinds
    assert nn.Linear not in kinds
    assert nn.Linear in {type(m) for m in network.model.mask_decoder.modules()}


def test_clip_runs_in_int8_near_fp32():
    ours, theirs = small_backbone("int8"), small_backbone("fp32")
    pixels = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    found = ours.forward_vision(pixels, blocks=[4, 8])
    wanted = theirs.forward_vision(pixels, blocks=[4, 8])
    assert lowest_cosine(found.blocks[8], wanted.blocks[8]) >= 0.99


def test_a_result_says_where_int8_is_unmeasured():
    assert ModelChoice("tiny", precision="int8").precision_note == "int8"
    note = "int8, unmeasured on these weights"
    assert ModelChoice("paper", precision="int8").precision_note == note
    assert ModelChoice("tiny", precision="int8", runtime="openvino").precision_note == note
    assert ModelChoice("tiny", sam="me/sam", precision="int8").precision_note == note
    assert ModelChoice("paper").precision_note == ""
    clip = small_backbone("int8")
    models = ReadyModels(clip)
    models.choice = ModelChoice("small", precision="int8")
    assert Segmenter(models, localizers=[VV(clip)]).describe(Settings())["precision"] == note


def test_int8_is_never_chosen_unasked_and_only_for_a_cpu():
    assert encoder_dtype(CPU, "auto") in (torch.float32, torch.bfloat16)
    assert encoder_dtype(CPU, "int8") == encoder_dtype(CPU, "auto")
    with pytest.raises(ZsasError, match="runs on a CPU, but the device is cuda"):
        encoder_dtype(torch.device("cuda"), "int8")
