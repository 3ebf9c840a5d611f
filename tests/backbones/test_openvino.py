"""OpenVINO's numbers are torch's; skipped where the extra is not installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import SamHQModel

from tests.backbones.test_int8 import lowest_cosine
from tests.helpers.models import (
    CPU,
    LetterTokenizer,
    ReadyModels,
    small_backbone,
    small_clip,
    small_sam,
    with_lively_weights,
)
from tests.helpers.sams import small_model
from zsas.backbones.clip import ClipBackbone
from zsas.backbones.sam import Sam
from zsas.backbones.sam_families import TransformersSam, network_for
from zsas.cancellation import Cancelled, cancellable
from zsas.localizers.vv import VV
from zsas.models import ModelChoice
from zsas.segmenter import Segmenter
from zsas.settings import Settings

pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
from zsas.backbones import openvino as runs


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "cache_folder", lambda: tmp_path / "compiled")


def compiled_clip(precision: str = "fp32") -> ClipBackbone:
    return ClipBackbone(
        small_clip(),
        LetterTokenizer(),
        name="small-clip",
        device=CPU,
        precision=precision,
        runtime="openvino",
    )


def pixels(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "asked",
    [
        {"blocks": [2, 8]},
        {"vv_blocks": 3},
        {"blocks": [4], "vv_blocks": 8, "activation": "gelu", "positions": "bilinear"},
    ],
)
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 96, 64)])
def test_clips_tower_gives_what_torch_gives(asked, shape):
    given = pixels(*shape)
    wanted = small_backbone().forward_vision(given, **asked)
    found = compiled_clip().forward_vision(given, **asked)
    assert list(found.blocks) == list(wanted.blocks) == sorted(asked.get("blocks", []))
    for one, other in (
        *zip(found.blocks.values(), wanted.blocks.values(), strict=True),
        (found.image, wanted.image),
        (found.class_token, wanted.class_token),
        *([(found.vv, wanted.vv)] if "vv_blocks" in asked else []),
    ):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["sam", "sam_hq", "sam2", "sam3_tracker", "edgetam"])
def test_encoders_of_the_families_give_what_torch_gives(family):
    if family == "edgetam":
        pytest.importorskip("timm")
    image = np.random.default_rng(0).integers(0, 255, (100, 256, 3), dtype=np.uint8)
    wanted, found = (
        Sam(network_for(small_model(family), CPU, "fp32", runtime=runtime), CPU).encode([image])[0]
        for runtime in ("torch", "openvino")
    )
    torch.testing.assert_close(found.embedding, wanted.embedding, atol=1e-3, rtol=1e-3)
    for one, other in zip(found.details, wanted.details, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("most", [1, 2, 8])
def test_blocks_are_compiled_some_at_a_time_to_the_same_numbers(tmp_path, monkeypatch, most):
    """SAM-HQ's decoder also reads what comes out of the first global block, here the third of five."""
    monkeypatch.setattr(runs, "MOST_BLOCKS", most)
    image = np.random.default_rng(0).integers(0, 255, (100, 256, 3), dtype=np.uint8)
    wanted, found = (
        Sam(network_for(deeper_sam_hq(), CPU, "fp32", runtime=runtime), CPU).encode([image])[0]
        for runtime in ("torch", "openvino")
    )
    for one, other in (
        (found.embedding, wanted.embedding),
        *zip(found.details, wanted.details, strict=True),
    ):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    parts = {1: 2 + 3, 2: 1 + 2, 8: 1 + 1}[most]  # before the first global block, and from there on
    assert len(list((tmp_path / "compiled").glob("*.blob"))) == parts


def deeper_sam_hq():
    config = small_model("sam_hq").config
    config.vision_config.num_hidden_layers = 5
    config.vision_config.global_attn_indexes = [2, 4]
    torch.manual_seed(0)
    return with_lively_weights(SamHQModel(config).eval())


@pytest.mark.parametrize("dropped", [False, True])
def test_images_of_several_shapes_in_a_batch_and_padding_dropped(dropped):
    generator = np.random.default_rng(0)
    shapes = ((256, 256), (64, 256), (256, 100))
    images = [generator.integers(0, 255, (*shape, 3), dtype=np.uint8) for shape in shapes]
    wanted, found = (
        Sam(TransformersSam(small_sam(), CPU, "fp32", runtime=name), CPU, drop_padding=dropped)
        for name in ("torch", "openvino")
    )
    for one, other in zip(found.encode(images), wanted.encode(images), strict=True):
        torch.testing.assert_close(one.embedding, other.embedding, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.99), ("int8", 0.99)])
def test_other_formats_keep_the_direction_of_each_token(precision, least, outliers):
    """As torch's int8: ten channels of the residual stream may be a hundred times the others."""
    made = []
    for runtime, wanted in (("torch", "fp32"), ("openvino", precision)):
        config = small_sam().config
        config.vision_config.hidden_size, config.vision_config.mlp_dim = 256, 512
        torch.manual_seed(0)
        model = type(small_sam())(config).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" not in name:
                    weight.normal_(std=0.1 if weight.ndim > 1 else 0.02)
            if outliers:
                model.vision_encoder.patch_embed.projection.weight[:10] *= 100
                for layer in model.vision_encoder.layers:
                    layer.attn.proj.weight[:10] *= 100
                    layer.mlp.lin2.weight[:10] *= 100
        made.append(Sam(TransformersSam(model, CPU, wanted, runtime=runtime), CPU))
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    plain, reduced = (sam.encode([image])[0].embedding for sam in made)
    assert not torch.equal(plain, reduced)
    assert lowest_cosine(reduced.movedim(1, -1), plain.movedim(1, -1)) >= least


def test_a_shape_is_compiled_once_and_comes_from_disk_in_the_next_process(monkeypatch):
    made = []
    converted = runs.Compiled._converted
    monkeypatch.setattr(
        runs.Compiled,
        "_converted",
        lambda self, arrays: made.append(arrays[0].shape) or converted(self, arrays),
    )
    for _ in range(2):  # another backbone stands for another process
        clip = compiled_clip()
        for shape in ((1, 3, 64, 64), (1, 3, 96, 64), (1, 3, 64, 64)):
            first = clip.forward_vision(pixels(*shape), blocks=[8])
    assert made == [(1, 3, 64, 64), (1, 3, 96, 64)]
    other = ClipBackbone(
        small_clip(seed=1), None, name="x", device=CPU, precision="fp32", runtime="openvino"
    )
    second = other.forward_vision(pixels(1, 3, 64, 64), blocks=[8])
    assert len(made) == 3  # other weights are another file
    assert not torch.allclose(first.blocks[8], second.blocks[8], atol=1e-2)


def test_what_is_damaged_on_disk_or_cannot_be_written_is_made_anew(tmp_path, monkeypatch):
    given = pixels(1, 3, 64, 64)
    wanted = compiled_clip().forward_vision(given).image
    (file,) = (tmp_path / "compiled").glob("*.blob")
    file.write_bytes(file.read_bytes()[:100])
    torch.testing.assert_close(compiled_clip().forward_vision(given).image, wanted)
    (tmp_path / "file").touch()
    monkeypatch.setattr(runs, "cache_folder", lambda: tmp_path / "file" / "below")
    torch.testing.assert_close(compiled_clip().forward_vision(given).image, wanted)


def test_the_oldest_make_room_on_disk(tmp_path, monkeypatch):
    clip = compiled_clip()
    clip.forward_vision(pixels(1, 3, 64, 64))
    (first,) = (tmp_path / "compiled").glob("*.blob")
    monkeypatch.setattr(runs, "CACHE_BYTES", int(1.5 * first.stat().st_size))
    clip.forward_vision(pixels(1, 3, 80, 64))
    (second,) = (tmp_path / "compiled").glob("*.blob")
    assert second != first


def test_work_that_is_not_wanted_any_more_ends():
    """The request runs on until it is told to stop; the next one runs as ever."""
    clip = compiled_clip()
    wanted = clip.forward_vision(pixels(1, 3, 64, 64)).image
    (compiled,) = clip._compiled._kinds.values()
    ((shapes, request),) = compiled._ready.items()

    class Endless:
        cancelled = False

        def start_async(self, arrays, **_):
            pass

        def wait_for(self, milliseconds):
            return False

        def cancel(self):
            self.cancelled = True

    compiled._ready[shapes] = endless = Endless()
    answers = iter([False, False, True])

    def steps():
        yield compiled(pixels(1, 3, 64, 64))

    with pytest.raises(Cancelled):
        list(cancellable(steps(), lambda: next(answers)))
    assert endless.cancelled
    compiled._ready[shapes] = request
    assert torch.equal(clip._pass(pixels(1, 3, 64, 64), (), 0, None, "bicubic").image, wanted)


def test_a_result_says_what_ran():
    clip = compiled_clip()
    models = ReadyModels(clip)
    models.choice = ModelChoice("small", runtime="openvino")
    said = Segmenter(models, localizers=[VV(clip)]).describe(Settings())
    assert said["runtime"] == "openvino"
