"""Fingerprints of weights: under the same name, another machine or a later training may have other weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zsas.lazy import torch
from zsas.systems import system_named

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.loaded import Loaded
    from zsas.settings import Settings


def fingerprint(segmenter: Loaded, settings: Sequence[Settings], *, sam: bool = True) -> str:
    """Digest of every weight that runs with some settings; see `digest_of_weights`.

    Args:
        segmenter: The models.
        settings: Whose systems count.
        sam: Whether SAM's weights count; they are loaded for it.
    """
    weights: list[Tensor] = []
    asked = [system_named(one.system, refiner=one.refiner).roles for one in settings]
    networks = [segmenter.sam.network] if sam and any("sam" in roles for roles in asked) else []
    for holder in (*clips_of(segmenter, settings), *networks):
        for part in vars(holder).values():
            weights += part.state_dict().values() if isinstance(part, torch.nn.Module) else ()
    for name in sorted({segmenter.localizer(one).name for one in settings}):
        localizer = next(x for one in settings if (x := segmenter.localizer(one)).name == name)
        weights += localizer.tensors()
    return digest_of_weights(weights)


def clips_of(segmenter: Loaded, settings: Sequence[Settings]) -> list[Any]:
    """The CLIPs that the localizers of these settings run on, each once; a system may have its paper's own."""
    found = [getattr(segmenter.localizer(one), "clip", None) for one in settings]
    return list({id(clip): clip for clip in found if clip is not None}.values())


def digest_of_weights(weights: Iterable[Tensor]) -> str:
    """Digest of the first values of every weight."""
    digest = hashlib.blake2b(digest_size=8)
    for weight in weights:
        digest.update(weight.flatten()[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()
