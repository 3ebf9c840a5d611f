"""Frozen models behind small classes: torch stays in here, everything else sees arrays."""

from zsas import surroundings

surroundings.prepare()
