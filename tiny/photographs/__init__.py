"""Photographs that may be trained on, out of packages, with where each came from: `python -m tiny photographs`.

Only files under licences that ask for no more than credit are kept for training; with `statistics`, other free ones
are kept aside to measure light, noise and spectra on, never as training pixels. A file of unknown licence is not taken.
"""
