"""Training of the bundled CLIP and SAM on synthetic images."""
