"""Sentences for "normal" and "anomalous": the text ensemble that CLIP compares patches with.

Seven normal states and five anomalous ones, each in 35 photo templates, as in the recipe the paper builds on
(method: state words x templates x class name); the template wording is our own. They are built from `prompts.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

_PROMPTS = json.loads((resources.files("zsas") / "prompts.json").read_text(encoding="utf-8"))

ENSEMBLE: str = _PROMPTS["name"]
"""Name of this ensemble; adapters carry it in their metadata."""

NORMAL_STATES: tuple[str, ...] = tuple(_PROMPTS["normal_states"])
ABNORMAL_STATES: tuple[str, ...] = tuple(_PROMPTS["anomalous_states"])
TEMPLATES: tuple[str, ...] = tuple(_PROMPTS["templates"])
DEFAULT_OBJECT: str = _PROMPTS["default_object"]


@lru_cache(maxsize=256)
def prompt_sentences(object_name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sentences of both states for one object.

    Args:
        object_name: What is on the image; empty means the word "object".

    Returns:
        The 245 sentences of the normal states and the 175 of the anomalous ones.

    Example:
        >>> normal, abnormal = prompt_sentences("metal nut")
        >>> len(normal), len(abnormal), abnormal[0]
        (245, 175, 'a photo of a damaged metal nut.')
    """
    return (
        sentences(object_name, NORMAL_STATES, TEMPLATES),
        sentences(object_name, ABNORMAL_STATES, TEMPLATES),
    )


def sentences(object_name: str, states: Sequence[str], templates: Sequence[str]) -> tuple[str, ...]:
    """Every state of an object, empty for the word "object", in every template."""
    noun = " ".join(object_name.split()) or DEFAULT_OBJECT
    return tuple(template.format(state.format(noun)) for state in states for template in templates)
