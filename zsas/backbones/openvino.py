"""OpenVINO as what runs the vision encoders on a CPU, an extra: `pip install 'zsas[openvino]'`.

`Compiled` is a module that OpenVINO runs: traced and compiled once for each shape of its inputs, and kept beside the
Hub's cache. What goes through it are CLIP's whole vision tower (`CompiledTower`), and of SAM's encoder the blocks
before the first global one and the rest (`CompiledPaddedEncoder`), or the whole of SAM 2's and its relatives'. All run
on copies in fp32, of which OpenVINO makes the number format that was asked for.
"""

from __future__ import annotations

import copy
import hashlib
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsas.backbones.int8 import replace_linears, weight_levels
from zsas.backbones.sam_encoder import PaddedEncoder, folded
from zsas.cancellation import raise_if_cancelled
from zsas.device import Precision, encoder_dtype, give_back_memory
from zsas.files import whole

MOST_SHAPES = 4
"""Compiled shapes of one module that stay in memory; each holds the weights."""
MOST_BLOCKS = 8
"""Blocks that are compiled together: while that is done, their weights are in memory several times, in fp32."""
CACHE_BYTES = 8_000_000_000
"""Room for compiled modules on disk; those not used for longest are removed."""
_ASK_MS = 50
"""How often a running module is asked whether it is still wanted."""


class Compiled:
    """A module that OpenVINO runs on tensors, one image at a time.

    Args:
        build: Makes the module, in fp32 and evaluation mode, its outputs a tuple of tensors; called where a shape is
            not on disk.
        name: What it is, for the file's name; everything that changes the result but the weights must be in it.
        weights: Modules whose weights it reads.
        precision: Number format of the products.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        name: str,
        weights: Sequence[nn.Module],
        precision: Precision,
    ) -> None:
        self._build, self._name, self._weights = build, name, weights
        self.precision = named_precision(precision)
        self._lock = threading.Lock()
        self._ready: OrderedDict[tuple[tuple[int, ...], ...], Any] = OrderedDict()
        self._digest = ""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors (B, …) → the module's outputs, fp32 (B, …); one image after the other.

        Raises:
            Cancelled: As soon as this work is not wanted any more.
        """
        rows = [self._one(*(tensor[i : i + 1] for tensor in inputs)) for i in range(len(inputs[0]))]
        return rows[0] if len(rows) == 1 else tuple(map(torch.cat, zip(*rows, strict=True)))

    def _one(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = [np.ascontiguousarray(tensor.float().numpy()) for tensor in inputs]
        with self._lock:  # a request serves one caller
            request = self._request(arrays)
            request.start_async(arrays, share_inputs=True)
            while not request.wait_for(_ASK_MS):
                try:
                    raise_if_cancelled()
                except BaseException:
                    request.cancel()
                    raise
            count = len(request.model_outputs)
            return tuple(
                torch.from_numpy(request.get_output_tensor(i).data.copy()) for i in range(count)
            )

    def _request(self, arrays: Sequence[np.ndarray]) -> Any:
        shapes = tuple(array.shape for array in arrays)
        if shapes not in self._ready:
            while len(self._ready) >= MOST_SHAPES:
                self._ready.popitem(last=False)
            self._ready[shapes] = self._compiled(arrays).create_infer_request()
        self._ready.move_to_end(shapes)
        return self._ready[shapes]

    def _compiled(self, arrays: Sequence[np.ndarray]) -> Any:
        """The module for inputs of these shapes, from disk or made now."""
        file = cache_folder() / f"{self._key(arrays)}.blob"
        try:
            found = _core().import_model(file.read_bytes(), "CPU", _options(self.precision))
            os.utime(file)
        except (OSError, RuntimeError):  # not there, or of a build that cannot be read here
            found = _core().compile_model(self._converted(arrays), "CPU", _options(self.precision))
            _keep(file, found)
            give_back_memory()  # copies in fp32, the traced module and OpenVINO's graph
        return found

    def _converted(self, arrays: Sequence[np.ndarray]) -> Any:
        """The module as OpenVINO's graph."""
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        inputs = tuple(map(torch.from_numpy, arrays))
        # Not by `openvino.convert_model`, which reports that it was called.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing fixes the shapes, which is what is wanted
            decoder = TorchScriptPythonDecoder(self._build(), example_input=inputs)
            frontend = FrontEndManager().load_by_framework("pytorch")
            graph = frontend.convert(frontend.load(decoder))
        graph.reshape({i: array.shape for i, array in enumerate(arrays)})
        return graph

    def _key(self, arrays: Sequence[np.ndarray]) -> str:
        import openvino

        self._digest = self._digest or digest(self._weights)
        shapes = "_".join("x".join(map(str, array.shape)) for array in arrays)
        said = (openvino.get_version(), torch.__version__, _processor(), self._name, self._digest)
        short = hashlib.blake2b(repr((said, shapes)).encode(), digest_size=12).hexdigest()
        return f"{self._name.partition(' ')[0]}_{self.precision}_{shapes}_{short}"


def digest(modules: Sequence[nn.Module]) -> str:
    """Digest of all weights of some modules, every byte of them."""
    found = hashlib.blake2b(digest_size=16)
    for module in modules:
        for name, value in module.state_dict().items():
            found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def cache_folder() -> Path:
    """Where compiled modules are kept."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE, "zsas", "openvino")


def named_precision(precision: Precision) -> Precision:
    """`auto` by the name of what it is on this processor."""
    if precision == "auto":
        native = encoder_dtype(torch.device("cpu"), "auto") == torch.bfloat16
        return "bf16" if native else "fp32"
    return precision


def _keep(file: Path, compiled: Any) -> None:
    """Write a compiled module; others make room. Without room, or on a read-only disk, nothing is written."""
    try:
        data = compiled.export_model().getbuffer()
        others = sorted(file.parent.glob("*.blob"), key=lambda one: one.stat().st_mtime)
        used = sum(one.stat().st_size for one in others) + len(data)
        while others and used > CACHE_BYTES:
            used -= others[0].stat().st_size
            others.pop(0).unlink(missing_ok=True)
        if used <= CACHE_BYTES:
            with whole(file) as temporary:
                temporary.write_bytes(data)
    except (OSError, RuntimeError):
        return


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def _options(precision: Precision) -> dict[str, Any]:
    native = encoder_dtype(torch.device("cpu"), "auto") == torch.bfloat16
    # With int8 what lies between the products runs in bf16 where that is native, else in fp32.
    between = "bf16" if precision == "bf16" or (precision == "int8" and native) else "f32"
    return {
        "INFERENCE_PRECISION_HINT": between,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }


@cache
def _processor() -> str:
    """What a compiled module depends on of this machine."""
    able = torch.cpu.get_capabilities()
    return ",".join(sorted(str(name) for name, has in able.items() if has is True))


# What is traced: copies of transformers' modules.


def copied(module: nn.Module, precision: Precision) -> Any:
    """A copy in fp32, its linear layers replaced where int8 is asked for."""
    made = copy.deepcopy(module).float().eval()
    if precision == "int8":
        replace_linears(made, QuantisedLinear)
    return made


class QuantisedLinear(nn.Module):
    """A linear layer as OpenVINO runs it in int8: weights scaled for each output channel, activations for each token.

    OpenVINO's own form has one scale for all activations, found on example images, which a few large tokens spoil. Here
    each token is divided by its scale first, so that one constant range fits all.

    Args:
        linear: The layer in fp32.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        levels = weight_levels()
        self.levels = levels
        scale = linear.weight.detach().abs().amax(1).clamp_min(1e-12) / levels
        self.weight, self.bias = linear.weight, linear.bias
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int32))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens fp32 (..., in) → fp32 (..., out)."""
        scale = tokens.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
        codes = torch.fake_quantize_per_tensor_affine(tokens / scale, 1.0, 0, -127, 127)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.scale, self.zero, 0, -self.levels, self.levels
        )
        found = F.linear(codes, weight) * scale
        return found if self.bias is None else found + self.bias


def folded_attention(
    attention: Any, hidden_states: Tensor, output_attentions: bool = False
) -> tuple[Tensor, None]:
    """The forward of transformers' `SamVisionAttention` with the relative positions folded in; see `folded`.

    Args:
        attention: The module.
        hidden_states: (B, h, w, C).
        output_attentions: There are none to give out.

    Returns:
        (B, h, w, C), and None for the attention weights.
    """
    batch, height, width, _ = hidden_states.shape
    count, cells = attention.num_attention_heads, height * width
    qkv = attention.qkv(hidden_states).reshape(batch, cells, 3, count, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    scale = None
    if attention.use_rel_pos:
        query, key = folded(attention, query, key, height, width)
        scale = 1.0
    mixed = F.scaled_dot_product_attention(query, key, value, scale=scale)
    heads = mixed.transpose(1, 2).reshape(batch, height, width, -1)
    return attention.proj(heads), None


class _Blocks(nn.Module):
    """Some blocks of SAM's encoder one after the other, and the neck where it follows them.

    Gives what comes out at the end, and the tokens after the first block.
    """

    def __init__(
        self, layers: Sequence[nn.Module], neck: nn.Module | None, precision: Precision
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(copied(layer, precision) for layer in layers)
        for layer in self.layers:
            vars(layer).pop("forward", None)  # what is quicker in torch is not here
            layer.attn.forward = partial(folded_attention, layer.attn)
        self.neck = None if neck is None else copied(neck, precision)

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        first = tokens
        for number, layer in enumerate(self.layers):
            tokens = layer(tokens)
            first = tokens if number == 0 else first
        return tokens if self.neck is None else self.neck(tokens), first


class CompiledPaddedEncoder(PaddedEncoder):
    """A `PaddedEncoder` whose blocks OpenVINO runs, in parts."""

    def __init__(self, encoder: Any, precision: Precision) -> None:
        super().__init__(encoder)
        layers = list(encoder.layers)
        self._before = _parts("sam-windows", layers[: self.first_global], None, precision)
        self._rest = _parts("sam", layers[self.first_global :], encoder.neck, precision)

    def _windowed(self, tokens: Tensor) -> Tensor:
        dtype = tokens.dtype
        for part in self._before:
            tokens, _ = part(tokens)
        return tokens.to(dtype)

    def _beyond_windows(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        firsts = []
        for part in self._rest:
            tokens, first = part(tokens)
            firsts.append(first)
        return tokens, firsts[0]


def _parts(
    name: str, layers: Sequence[nn.Module], neck: nn.Module | None, precision: Precision
) -> list[Compiled]:
    """Blocks in compiled parts, the neck behind the last."""
    wanted = named_precision(precision)
    found = []
    for start in range(0, len(layers), MOST_BLOCKS):
        some = layers[start : start + MOST_BLOCKS]
        behind = neck if start + MOST_BLOCKS >= len(layers) else None
        read = some if behind is None else (*some, behind)
        found.append(Compiled(partial(_Blocks, some, behind, wanted), name, read, precision))
    return found


class _Pyramid(nn.Module):
    """The encoder of SAM 2 and its relatives: the levels of its pyramid and their positions."""

    def __init__(self, encoder: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.encoder = copied(encoder, precision)
        for (
            module
        ) in self.encoder.modules():  # the class's own again: these are bound to the original
            vars(module).pop("forward", None)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.encoder(pixels, return_dict=True)
        return (*found.fpn_hidden_states, *found.fpn_position_encoding)


def compile_pyramid(encoder: Any, precision: Precision) -> None:
    """Let OpenVINO run the whole vision encoder of SAM 2, SAM 3's tracker or EdgeTAM, with its neck."""
    wanted = named_precision(precision)
    compiled = Compiled(lambda: _Pyramid(encoder, wanted), "sam2", (encoder,), precision)

    def forward(pixel_values: Tensor, **_: object) -> Any:
        found = compiled(pixel_values)
        half = len(found) // 2
        return SimpleNamespace(fpn_hidden_states=found[:half], fpn_position_encoding=found[half:])

    encoder.forward = forward


class CompiledTower:
    """CLIP's vision tower in OpenVINO: the tokens after every block, the V-V stream and the image embedding.

    Args:
        walk: Gives the tower as a module for a pass of one kind: blocks of the V-V stream, activation, positions.
        weights: The modules that it reads.
        precision: Number format of the products.
    """

    def __init__(
        self,
        walk: Callable[..., nn.Module],
        weights: Sequence[nn.Module],
        precision: Precision,
    ) -> None:
        self._walk, self._weights, self._precision = walk, weights, precision
        self._kinds: dict[tuple[Any, ...], Compiled] = {}

    def __call__(self, pixels: Tensor, *kind: Any) -> tuple[Tensor, ...]:
        """Pixels (B, 3, H, W) → what the module of this kind of pass gives."""
        if kind not in self._kinds:
            name = " ".join(("clip", *map(str, kind)))
            build = partial(self._walk, *kind)
            self._kinds[kind] = Compiled(build, name, self._weights, self._precision)
        return self._kinds[kind](pixels)
