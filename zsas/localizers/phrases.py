"""What SAA asks a detector for: words for defects, and what is known of the objects of the two public data sets.

The wording is ours. Counts and areas are the published ones, which their authors chose for each category on the very
images that are tested; figures with them say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zsas.errors import ZsasError

GENERAL = ("defect on {}", "damage on {}", "flaw on {}")
"""Asked for on every object."""


@dataclass(frozen=True)
class Properties:
    """What is known of a kind of object.

    Attributes:
        objects: How many stand on an image, n.
        keep: How many masks are kept, K.
        area: Largest area of a defect as a fraction of the largest object's, a.
        phrases: Defects to look for beside the general ones.
    """

    objects: int = 1
    keep: int = 5
    area: float = 0.9
    phrases: tuple[str, ...] = ()


PLAIN = Properties()
"""Of an object that nobody knows."""

KNOWN: dict[str, Properties] = {
    # MVTec-AD
    "carpet": Properties(phrases=("hole in fabric", "stain on fabric", "loose thread")),
    "grid": Properties(phrases=("bent wire", "broken wire")),
    "leather": Properties(phrases=("scratch on leather",)),
    "tile": Properties(phrases=("crack in tile",)),
    "wood": Properties(phrases=("hole in wood",)),
    "bottle": Properties(area=0.3, phrases=("broken glass",)),
    "cable": Properties(phrases=("cut wire",)),
    "capsule": Properties(area=0.6, phrases=("crack in capsule",)),
    "hazelnut": Properties(phrases=("crack in shell",)),
    "metal nut": Properties(area=1.0, phrases=("scratch on metal",)),
    "pill": Properties(area=1.0, phrases=("stain on pill",)),
    "screw": Properties(area=0.1, phrases=("worn thread",)),
    "toothbrush": Properties(area=0.5, phrases=("bent bristles",)),
    "transistor": Properties(area=1.0, phrases=("bent pin",)),
    "zipper": Properties(area=0.5, phrases=("torn teeth",)),
    # VisA
    "candle": Properties(4, 1, 0.3, ("chipped wax", "odd wick")),
    "capsules": Properties(20, 15, 1.0, ("bubble", "leak")),
    "cashew": Properties(1, 17, 0.05, ("burnt spot", "hole")),
    "chewinggum": Properties(1, 50, 0.2, ("missing corner", "scratch")),
    "fryum": Properties(1, 5, 1.0, ("burnt spot", "broken edge")),
    "macaroni1": Properties(4, 5, 0.3, ("crack", "chip at edge")),
    "macaroni2": Properties(4, 50, 0.3, ("crack", "chip at edge")),
    "pcb1": Properties(1, 1, 0.3, ("bent pin", "melted part")),
    "pcb2": Properties(1, 9, 0.3, ("bent pin", "melted part")),
    "pcb3": Properties(1, 5, 0.3, ("bent pin", "melted part")),
    "pcb4": Properties(1, 7, 0.3, ("burnt spot", "scratch", "missing part")),
    "pipe fryum": Properties(1, 19, 0.3, ("burnt spot", "broken edge")),
}
"""By the object's name in lower case, with blanks."""

# As our data sets call categories of VisA; where several share a name, K is that of most of them or in the middle.
KNOWN |= {
    "chewing gum": KNOWN["chewinggum"],
    "macaroni": KNOWN["macaroni1"],
    "printed circuit board": KNOWN["pcb3"],
}


def noun_of(object_name: str) -> str:
    """The object's name as a phrase: lower case, blanks for underscores, "object" for nothing.

    Example:
        >>> noun_of(" Metal_nut")
        'metal nut'
    """
    return " ".join(object_name.replace("_", " ").lower().split()) or "object"


def listed(text: str) -> tuple[str, ...]:
    """The phrases of a list with commas, each once.

    Example:
        >>> listed("scratch,, deep  dent, scratch")
        ('scratch', 'deep dent')
    """
    parts = (" ".join(part.split()) for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def phrases_for(noun: str, general: bool, named: str, known: Sequence[str] = ()) -> tuple[str, ...]:
    """What a detector is asked for: the general phrases, then a person's or else a known object's.

    Args:
        noun: The object, from `noun_of`.
        general: Whether the general ones are asked for.
        named: A person's phrases, separated by commas.
        known: Those of a known object.

    Raises:
        ZsasError: If that is nothing.
    """
    first = [text.format(noun) for text in GENERAL] if general else []
    phrases = (*first, *(listed(named) or known))
    if not phrases:
        raise ZsasError(
            "There are no phrases to look for; name some defects with saa_phrases, as scratch, dent, or switch "
            "saa_general on."
        )
    return tuple(dict.fromkeys(phrases))
