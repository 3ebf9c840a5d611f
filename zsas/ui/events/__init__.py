"""What the page does: each file holds the actions of one group, and their names are what the browser calls."""

from zsas.ui.events import batch, image, parts, points, profile, systems, visit

__all__ = ["batch", "image", "parts", "points", "profile", "systems", "visit"]
