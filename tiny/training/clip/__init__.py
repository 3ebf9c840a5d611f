"""The small CLIP: model, tasks and training."""

from tiny.training.clip.model import load_model
from tiny.training.clip.recipe import RECIPES
from tiny.training.clip.train import export, parts, train

__all__ = ["RECIPES", "export", "load_model", "parts", "train"]
