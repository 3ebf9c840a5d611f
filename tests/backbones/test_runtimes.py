"""What may run the encoders, and that compiled blocks give the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.models import CPU, LetterTokenizer, small_backbone, small_clip, small_sam
from zsas import device, extras
from zsas.backbones.clip import ClipBackbone
from zsas.backbones.sam import Sam
from zsas.backbones.sam_families import TransformersSam
from zsas.device import check_runtime
from zsas.errors import ZsasError
from zsas.models import ModelChoice, Models
from zsas.segmenter import Segmenter


def compiled_clip() -> ClipBackbone:
    return ClipBackbone(
        small_clip(),
        LetterTokenizer(),
        name="small-clip",
        device=CPU,
        precision="fp32",
        runtime="compile",
    )


def test_what_cannot_run_here_is_a_sentence(monkeypatch, tmp_path):
    check_runtime(CPU, "torch")
    with pytest.raises(ZsasError, match="must be torch, compile or openvino"):
        check_runtime(CPU, "tvm")
    with pytest.raises(ZsasError, match="openvino runs on a CPU, but the device is cuda"):
        check_runtime(torch.device("cuda"), "openvino")
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(ZsasError, match=r"pip install 'zsas\[openvino\]'"):
        Models(ModelChoice("tiny", device="cpu", runtime="openvino")).check()
    monkeypatch.setattr(device, "find_spec", lambda module: None)
    with pytest.raises(ZsasError, match="compile needs triton"):
        check_runtime(torch.device("cuda"), "compile")
    monkeypatch.setattr(device.shutil, "which", lambda name: None)
    with pytest.raises(ZsasError, match=r"compile needs a C\+\+ compiler"):
        check_runtime(CPU, "compile")
    checkpoint = tmp_path / "sam_vit_h_4b8939.pth"
    checkpoint.touch()
    monkeypatch.setattr(extras, "find_spec", lambda module: module)
    with pytest.raises(ZsasError, match="leave out --runtime"):
        Segmenter.from_preset("tiny", sam=str(checkpoint), device="cpu", runtime="openvino")


def test_the_choice_is_written_down_where_it_is_not_torch():
    assert "runtime" not in ModelChoice("tiny").to_dict()
    assert ModelChoice("tiny", runtime="openvino").to_dict()["runtime"] == "openvino"


def test_blocks_that_are_compiled_give_the_same(monkeypatch):
    """With a compiler that compiles nothing: what is handed to it, and that hooks and cancelling stay outside."""
    handed = []

    def compiler(function, **_):
        handed.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compiler)
    image = np.random.default_rng(0).integers(0, 255, (100, 256, 3), dtype=np.uint8)
    own, compiled = (
        Sam(TransformersSam(small_sam(), CPU, "fp32", runtime=name), CPU).encode([image])[0]
        for name in ("torch", "compile")
    )
    assert torch.equal(own.embedding, compiled.embedding)
    assert len(handed) == 2
    pixels = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    clip = compiled_clip()
    found = clip.forward_vision(pixels, blocks=[8], vv_blocks=2)
    wanted = small_backbone().forward_vision(pixels, blocks=[8], vv_blocks=2)
    assert torch.equal(found.blocks[8], wanted.blocks[8])
    assert torch.equal(found.vv, wanted.vv)
    assert len(handed) == 3
    assert not any(layer.self_attn._forward_pre_hooks for layer in clip.layers)


@pytest.mark.slow
def test_compiling_for_real_gives_the_same():
    if not device._cpp_compiler():
        pytest.skip("there is no C++ compiler")
    pixels = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    clip = compiled_clip()
    found = clip.forward_vision(pixels, blocks=[8])
    wanted = small_backbone().forward_vision(pixels, blocks=[8])
    torch.testing.assert_close(found.blocks[8], wanted.blocks[8], atol=1e-4, rtol=1e-4)
    image = np.random.default_rng(0).integers(0, 255, (100, 256, 3), dtype=np.uint8)
    own, compiled = (
        Sam(TransformersSam(small_sam(), CPU, "fp32", runtime=name), CPU).encode([image])[0]
        for name in ("torch", "compile")
    )
    torch.testing.assert_close(compiled.embedding, own.embedding, atol=1e-4, rtol=1e-4)
