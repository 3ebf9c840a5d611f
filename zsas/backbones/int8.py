"""Encoders in int8: half the time, or less, of fp32 on processors without bf16.

A linear layer's weights are int8 with a scale for each output channel; activations become int8 with a scale for each
token, when they arrive. Products are exact in int32. Everything between the linear layers, attention above all, is in
bf16 where the processor multiplies that natively, and in fp32 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from zsas.device import Precision, Runtime, encoder_dtype, lay_out_for

STRIP = 512
"""Tokens that are multiplied at a time, so that the int32 result is still in the cache when it is scaled."""


def set_precision(
    encoder: nn.Module, device: torch.device, precision: Precision, runtime: Runtime = "torch"
) -> torch.dtype:
    """Bring an encoder into its number format, and on a GPU into the layout that its convolutions want.

    Args:
        encoder: Changed in place; with int8 its linear layers are replaced.
        device: Where it runs.
        precision: What was asked for.
        runtime: What runs it; where that is not torch, int8 is made there and the layers stay as they are.

    Returns:
        The format of its inputs and outputs.

    Raises:
        ZsasError: If `precision` is not possible here.
    """
    dtype = encoder_dtype(device, precision)
    if precision == "int8" and runtime == "torch":
        replace_linears(encoder.float(), Int8Linear)
    encoder.to(dtype)
    lay_out_for(device, encoder)
    return dtype


def replace_linears(module: nn.Module, kind: Callable[[nn.Linear], nn.Module]) -> None:
    """Put another kind of layer in the place of every linear layer of a module."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, kind(child))
        else:
            replace_linears(child, kind)


class Int8Linear(nn.Module):
    """A linear layer with int8 weights and int8 activations.

    Args:
        linear: The layer in fp32; its bias is shared.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scale = linear.weight.abs().amax(1).clamp_min(1e-12) / weight_levels()
        self.register_buffer("weight", (linear.weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Int8Linear:
        return self  # the format of what lies between the layers is not theirs

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (..., in), fp32 or bf16 → (..., out) in the same format."""
        rows = tokens.reshape(-1, self.in_features)
        found = rows.new_empty(len(rows), self.out_features)
        for part, out in zip(rows.split(STRIP), found.split(STRIP), strict=True):
            part = part.float()
            scale = part.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            codes = (part / scale).round_().to(torch.int8)
            sums = torch.mul(torch._int_mm(codes, self.weight.T), scale)
            sums.mul_(self.scale)
            out.copy_(sums if self.bias is None else sums.add_(self.bias))
        return found.view(*tokens.shape[:-1], self.out_features)


@cache
def weight_levels() -> int:
    """The largest weight in int8 whose products this processor sums without loss: 127, or 63 without VNNI.

    Without these instructions pairs of products are added in int16, which overflows: found out by trying.
    """
    full = torch.full((64, 256), 127, dtype=torch.int8)
    for sign in (1, -1):
        if (torch._int_mm(full * sign, full.T.contiguous()) != sign * 256 * 127 * 127).any():
            return 63
    return 127
