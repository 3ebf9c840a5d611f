"""The tokenizer of a CLIP in open_clip's format: where its words come from, and the files that transformers reads."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

from zsas.errors import ZsasError, reason
from zsas.models.hub import FILES, in_cache
from zsas.models.presets import PRESETS


def tokenizer_files(file: Path, given: Path | None, words: int) -> dict[str, bytes]:
    """Name and content of the tokenizer's files.

    Raises:
        ZsasError: If none is found, or it does not know as many words as the model.
    """
    places = [given] if given else [file.parent, _open_clips_vocabulary(), _cached_clip()]
    for place in places:
        found = _read_tokenizer(place) if place else {}
        if found:
            break
    else:
        where = (
            f"in {given}" if given else "beside the file, and neither open_clip nor a CLIP is here"
        )
        raise ZsasError(
            f"There is no tokenizer {where}; name a folder with tokenizer.json, or open_clip's "
            "bpe_simple_vocab_16e6.txt.gz, with --tokenizer."
        )
    count = _words(found)
    if count != words:
        raise ZsasError(
            f"The tokenizer in {place} knows {count} words, but the model was trained with {words}; name its own "
            "with --tokenizer."
        )
    return found


def _read_tokenizer(place: Path) -> dict[str, bytes]:
    if place.is_file():
        return from_vocabulary(place)
    names = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")
    found = {name: (place / name).read_bytes() for name in names if (place / name).is_file()}
    whole = "tokenizer.json" in found or {"vocab.json", "merges.txt"} <= set(found)
    return found if whole else {}


def _words(files: Mapping[str, bytes]) -> int:
    if "vocab.json" in files:
        return len(json.loads(files["vocab.json"]))
    content = json.loads(files["tokenizer.json"])
    names = {*content["model"]["vocab"], *(one["content"] for one in content["added_tokens"])}
    return len(names)


def _open_clips_vocabulary() -> Path | None:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    return path if path.is_file() else None


def _cached_clip() -> Path | None:
    for preset in PRESETS.values():
        folder = None if preset.bundled else in_cache(preset.source("clip"), FILES["clip"])
        if folder is not None:
            return folder
    return None


def from_vocabulary(path: Path) -> dict[str, bytes]:
    """The files of transformers' `CLIPTokenizer` from open_clip's list of merges (`bpe_simple_vocab_16e6.txt.gz`).

    The vocabulary is the 256 bytes as letters, the same at the end of a word, one word a merge, and two marks.

    Raises:
        ZsasError: If the file is another one.
    """
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as stream:
            lines = stream.read().split("\n")
        merges = [tuple(line.split()) for line in lines[1 : 49_152 - 256 - 2 + 1]]
        words = [*_letters(), *(letter + "</w>" for letter in _letters())]
        words += [first + second for first, second in merges]
    except (OSError, ValueError, EOFError) as error:
        raise ZsasError(
            f"{path.name} is no list of merges ({reason(error)}); expected open_clip's "
            "bpe_simple_vocab_16e6.txt.gz."
        ) from None
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    rules = "\n".join(["#version: 0.2", *(" ".join(merge) for merge in merges)]) + "\n"
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 77,
        "do_lower_case": True,
    }
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False).encode(),
        "merges.txt": rules.encode(),
        "tokenizer_config.json": json.dumps(config, indent=2).encode(),
    }


def _letters() -> list[str]:
    """A printable letter for each byte: printable bytes stand for themselves and come first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
