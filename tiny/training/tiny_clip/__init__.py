"""Trains the small CLIP from scratch on made images."""

from tiny.training.tiny_clip.model import load_learner
from tiny.training.tiny_clip.recipe import ROUNDS
from tiny.training.tiny_clip.train import export, parts, train

__all__ = ["ROUNDS", "export", "load_learner", "parts", "train"]
