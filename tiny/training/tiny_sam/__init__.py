"""Trains the small SAM from scratch on made images."""

from tiny.training.tiny_sam.recipe import ROUNDS
from tiny.training.tiny_sam.train import export, train

__all__ = ["ROUNDS", "export", "train"]
