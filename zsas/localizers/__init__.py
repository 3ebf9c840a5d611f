"""Localizers: image → Map_a, one file a method behind one protocol."""
