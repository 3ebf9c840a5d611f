"""Presets, downloads and loading of the backbones."""

from zsas.models.download import fetching
from zsas.models.hub import fetch, is_here
from zsas.models.load import ModelChoice, Models, parse_weights
from zsas.models.presets import (
    PRESETS,
    WEIGHTS,
    Preset,
    Role,
    default_preset,
    preset_named,
)
from zsas.models.published import PUBLISHED, weights_file

__all__ = [
    "PRESETS",
    "PUBLISHED",
    "WEIGHTS",
    "ModelChoice",
    "Models",
    "Preset",
    "Role",
    "default_preset",
    "fetch",
    "fetching",
    "is_here",
    "parse_weights",
    "preset_named",
    "weights_file",
]
