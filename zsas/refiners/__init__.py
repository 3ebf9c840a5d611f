"""Refiners: Map_a → mask, one file a method behind one protocol."""
