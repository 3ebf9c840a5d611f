"""Data sets to learn from and to measure on."""
