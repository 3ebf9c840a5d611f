"""Localizers: image → Map_a, one file a system behind one protocol."""

from zsas.localizers.base import Localizer, PatchFeatures, anomaly_map, image_probability

__all__ = ["Localizer", "PatchFeatures", "anomaly_map", "image_probability"]
