"""What is printed on objects, and what they are called."""

from __future__ import annotations

from tiny.synthetic.noise import Rng

_SYLLABLES = (
    *("LOT", "EXP", "500", "X4", "mg", "A12", "7B", "IC", "0204", "CE", "NO"),
    *("STM", "PCA", "25", "ML", "V2", "R47", "SN", "19-03", "TI", "N4148"),
)


def words(rng: Rng, least: int = 1, most: int = 2) -> str:
    """A short print such as those found on parts and packages."""
    return " ".join(str(rng.choice(_SYLLABLES)) for _ in range(int(rng.integers(least, most + 1))))


def noun(rng: Rng, *names: str) -> str:
    """One of several names for the same thing; the first one most often."""
    return names[0] if rng.random() < 0.6 else str(rng.choice(names))
