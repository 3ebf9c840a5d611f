"""Images to learn from and to measure on: made ones and data sets on disk."""
