"""Words for "sound" and "defective": the text ensemble that CLIP compares patches with.

Seven sound states and five defective ones, each in 35 photo templates, as in the recipe the paper builds on
(method: state words x templates x class name); the template wording is our own.
"""

from __future__ import annotations

from functools import lru_cache

ENSEMBLE = "zsas-7+5x35"
"""Name of this ensemble; adapters carry it in their metadata."""

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ABNORMAL_STATES = (
    "damaged {}",
    "broken {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
)

_LOOKS = (
    "photo",
    "bright photo",
    "dark photo",
    "blurry photo",
    "sharp photo",
    "noisy photo",
    "cropped photo",
    "close-up photo",
    "black and white photo",
    "low resolution photo",
    "compressed photo",
    "bad photo",
    "good photo",
    "macro photo",
)
TEMPLATES = (
    *(f"a {look} of {article} {{}}." for look in _LOOKS for article in ("a", "the")),
    "a photo of one {} for inspection.",
    "a photo of a small {}.",
    "a photo of a large {}.",
    "there is a {} in the picture.",
    "this is a {} in the picture.",
    "the surface of a {}.",
    "an industrial camera picture of a {}.",
)

DEFAULT_OBJECT = "object"


@lru_cache(maxsize=256)
def prompt_sentences(object_name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sentences of both states for one object.

    Args:
        object_name: What is on the photo; empty means the word "object".

    Returns:
        The 245 sentences for "sound" and the 175 for "defective".

    Example:
        >>> normal, abnormal = prompt_sentences("metal nut")
        >>> len(normal), len(abnormal), abnormal[0]
        (245, 175, 'a photo of a damaged metal nut.')
    """
    noun = " ".join(object_name.split()) or DEFAULT_OBJECT

    def sentences(states: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(t.format(state.format(noun)) for state in states for t in TEMPLATES)

    return sentences(NORMAL_STATES), sentences(ABNORMAL_STATES)
