"""A small byte-level BPE of our own, in the format of CLIP's tokenizer.

The vocabulary is laid out as CLIP's: 256 byte symbols, the same ending a word, the learned merges,
and two special tokens. Every byte is in it, so any object name can be written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from zsas.backbones.text import ABNORMAL_STATES, NORMAL_STATES, TEMPLATES

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"

NOUNS = (
    "bottle", "cable", "carpet", "grid", "leather", "tile", "wood", "metal", "plastic", "glass",
    "rubber", "ceramic", "paper", "fabric", "concrete", "stone", "brick", "screw", "bolt", "nut",
    "washer", "gear", "bearing", "spring", "pipe", "tube", "wire", "connector", "chip",
    "circuit board", "transistor", "capacitor", "battery", "lens", "cap", "lid", "can", "box",
    "label", "zipper", "button", "toothbrush", "pill", "capsule", "tablet", "candle", "cashew",
    "hazelnut", "walnut", "almond", "pasta", "biscuit", "cookie", "chewing gum", "fruit", "apple",
    "orange", "potato", "bean", "leaf", "foil", "sheet", "plate", "panel", "strip", "steel",
    "copper", "aluminium", "brass", "iron", "casting", "weld", "rail", "road", "wall", "magnet",
    "magnetic tile", "solar cell", "wafer", "sponge", "foam", "felt", "textile", "thread", "rope",
    "net", "mesh", "door", "part", "component", "product", "item", "thing", "surface", "object",
    "machine", "tool", "blade", "knife", "key", "coin", "ring", "disc", "wheel", "tyre", "belt",
    "hose", "valve", "handle", "housing", "cover", "frame",
)  # fmt: skip
"""Ordinary nouns, so that names which no synthetic image has are split into few, plain pieces."""


def sentences(names: Sequence[str], phrases: Sequence[str]) -> list[str]:
    """The sentences that merges are learned from: states, templates and defect phrases of all names."""
    nouns = sorted({*names, *NOUNS})
    states = [state.format(noun) for noun in nouns for state in (*NORMAL_STATES, *ABNORMAL_STATES)]
    shown = [TEMPLATES[i % len(TEMPLATES)].format(state) for i, state in enumerate(states)]
    things = [f"{noun} with {phrase}" for noun in nouns[::7] for phrase in phrases]
    return shown + [f"a photo of a {thing}." for thing in things]


def _learn_merges(lines: Sequence[str], merges: int) -> list[tuple[str, str]]:
    """The most frequent neighbours, again and again; ties go to the alphabetically first."""
    counts = Counter(word for line in lines for word in re.findall(r"[a-z]+", line.lower()))
    words = {word: [*word[:-1], word[-1] + WORD_END] for word in counts}
    learned: list[tuple[str, str]] = []
    while len(learned) < merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in words.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        for parts in words.values():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = ["".join(best)]
                i += 1
    return learned


def _byte_symbols() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def train_tokenizer(lines: Sequence[str], *, merges: int = 500, context: int = 32) -> CLIPTokenizer:
    """Learn a tokenizer from sentences.

    Args:
        lines: The sentences.
        merges: Merges to learn; the vocabulary has 514 tokens more.
        context: Longest sentence in tokens, with start and end.

    Returns:
        A tokenizer that transformers loads as ``CLIPTokenizer``; its last id is the end token.
    """
    learned = _learn_merges(lines, merges)
    symbols = _byte_symbols()
    words = [*symbols, *(symbol + WORD_END for symbol in symbols)]
    words += ["".join(pair) for pair in learned]
    words = [*dict.fromkeys(words), START, END]
    vocabulary = {word: i for i, word in enumerate(words)}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=learned,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=context,
    )


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer that :func:`train_tokenizer` made and that was saved in ``folder``."""
    return CLIPTokenizer.from_pretrained(folder)
