"""The small SAM: model, prompts and training."""

from tiny.training.sam.recipe import RECIPES
from tiny.training.sam.train import export, train

__all__ = ["RECIPES", "export", "train"]
