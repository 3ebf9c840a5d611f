"""Trains the small SAM from scratch on made images."""

from zsas.training.tiny_sam.train import export, train

__all__ = ["export", "train"]
