"""How models get here: a local folder, the Hub's cache, or a download.

Everything is loaded from a folder on disk. Whether the Hub must be asked is decided once, here: files in the cache
are used first, then one probe with a short limit says whether a download can work at all. Without a network the
libraries' own back-off, which takes minutes, is therefore not reached.
"""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from zsas.errors import ZsasError
from zsas.models import download
from zsas.models.presets import PRESETS, Further, Preset, Role
from zsas.models.repository import ask, repo_files, unreachable

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
WEIGHTS_FILES = (SAFE, f"{SAFE}.index.json", PICKLED, f"{PICKLED}.index.json")
"""Names of a model's weights, the best first; an index names further files."""

FILES: dict[Role, tuple[str, ...]] = {
    "clip": (
        "config.json",
        "preprocessor_config.json",
        "tokenizer*",
        "vocab.json",
        "merges.txt",
        "special_tokens_map.json",
    ),
    "sam": ("config.json", "preprocessor_config.json", "processor_config.json"),
    "detector": ("config.json", "tokenizer*", "vocab.txt", "special_tokens_map.json"),
    "features": ("config.json",),
    "saliency": ("config.json",),
}
"""Patterns of the files that are needed beside the weights, by role."""


def is_here(preset: Preset) -> bool:
    """Whether all models of a preset can be loaded without a network."""
    return all(_on_disk(source, FILES[role]) is not None for role, source in preset.roles.items())


def fetch(
    preset: Preset,
    *,
    roles: Collection[Role] | None = None,
    others: Mapping[Role, str] | None = None,
) -> None:
    """Download the models that are missing, before any is loaded; progress goes to stderr.

    Args:
        preset: Whose models.
        roles: Which of them; all of the preset but those that only single systems need if None.
        others: Other models than the preset's, by role: Hub id or folder; for SAM and the saliency also a `.pth` file.

    Raises:
        ZsasError: If one cannot be had; within seconds where the Hub cannot be reached.
    """
    sources: dict[Role, str] = {**preset.roles, **(others or {})}
    wanted = sources if roles is None else roles
    # SAM first: if the largest cannot be had, nothing else should have been fetched.
    for role in sorted(wanted, key=lambda role: role != "sam"):
        source = sources.get(role) or preset.source(role)
        if not is_checkpoint(source):
            folder_of(source, FILES[role], preset.name)


def is_checkpoint(source: str) -> bool:
    """Whether a model is meant to be a single file, as Meta's SAM or torchvision's ResNet."""
    return source.lower().endswith(".pth")


def after(why: str) -> str:
    """What comes before another try: a connection, where the Hub has not answered; its answer says the rest."""
    return "then" if "(status " in why else "connect once and"


def folder_of(source: str, files: tuple[str, ...], wanted_for: str) -> Path:
    """The folder with a model's files: a local folder, the Hub's cache, or a fresh download.

    Args:
        source: Local folder or Hub id.
        files: Patterns of the files needed beside the weights.
        wanted_for: Name of the preset, for the message.

    Raises:
        ZsasError: One sentence that names preset, repository and ways out, within seconds.
    """
    here = _on_disk(source, files)
    if here is not None:
        return here
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise ZsasError(f"There is no folder {source} with a config.json and a {SAFE} in it.")
    preset = PRESETS.get(wanted_for)
    named = preset is None or source not in preset.roles.values()  # by a person, not the preset
    why = unreachable(source)
    further = _further(preset, source)
    if why and further:
        role, model = further
        raise ZsasError(
            f"This system needs {model.words} from the Hugging Face Hub, which is not in the local cache and {why}; "
            f"{after(why)} give the same command again, or name a local folder with --{role}."
        )
    if why and named:
        raise ZsasError(
            f"The model {source} is wanted from the Hugging Face Hub, but it is not in the local cache and {why}; "
            f"{after(why)} give the same command again, or name a local folder instead."
        )
    if why:
        raise ZsasError(
            f"The preset {wanted_for!r} needs {source} from the Hugging Face Hub, which is not in the local cache "
            f"and {why}; {after(why)} run `zsas models fetch {wanted_for}`, name a local folder with "
            "--clip or --sam, or use the preset tiny, which needs no network."
        )
    if further:
        print(f"This system needs {further[1].words}; it is fetched once.", file=sys.stderr)
    folder = _snapshot(source, files)
    if not _complete(folder, files):
        raise ZsasError(
            f"The repository {source} holds no whole model of the kind that is needed here: it lacks weights or a "
            "tokenizer; name another one, or export this one anew."
        )
    return folder


def _further(preset: Preset | None, source: str) -> tuple[Role, Further] | None:
    """The role and the model that only single systems need, if a source is one of these."""
    found = preset.further.items() if preset else ()
    return next(((role, one) for role, one in found if one.source == source), None)


def is_model_here(role: Role, source: str) -> bool:
    """Whether the model for a role, a Hub id, folder or file, can be loaded without a network."""
    if is_checkpoint(source):
        return os.path.isfile(os.path.expanduser(source))
    return _on_disk(source, FILES[role]) is not None


def _on_disk(source: str, files: tuple[str, ...]) -> Path | None:
    """A folder with config and weights, without any network; None if something is missing."""
    folder = Path(os.path.expanduser(source))
    if not os.path.isfile(folder / "config.json"):  # False, too, where nobody may look
        return in_cache(source, files)
    return folder if _complete(folder, files) else None


def in_cache(source: str, files: tuple[str, ...]) -> Path | None:
    """The folder of a repository in the Hub's cache, None if something is missing there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(source, "config.json")
    except HFValidationError:
        return None
    if not isinstance(cached, str):
        return None
    folder = Path(cached).parent
    return folder if _complete(folder, files) else None


def _complete(folder: Path, files: tuple[str, ...]) -> bool:
    words = not any("token" in name for name in files) or any(
        (folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "vocab.txt")
    )
    return words and weights_in(folder) is not None


def weights_in(folder: Path) -> str | None:
    """The file that a folder's weights are read from, all of whose parts are there; None without one."""
    for name in WEIGHTS_FILES:
        if (folder / name).is_file() and all(
            (folder / part).is_file() for part in _parts(folder / name)
        ):
            return name
    return None


def _parts(index: Path) -> set[str]:
    """The files that an index of sharded weights names; none for a file that is no index."""
    if index.suffix != ".json":
        return set()
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        return {index.name + " is damaged"}


def _snapshot(
    repo: str, patterns: Sequence[str], weights_files: Sequence[str] = WEIGHTS_FILES
) -> Path:
    """The folder of a model repository with the files of these patterns and its weights."""
    from huggingface_hub import HfApi

    info = ask(repo, lambda: HfApi().model_info(repo, timeout=download.CONNECT_SECONDS))
    listed = [sibling.rfilename for sibling in info.siblings or ()]
    names = [name for name in listed if any(fnmatch.fnmatch(name, one) for one in patterns)]
    weights = next((name for name in weights_files if name in listed), None)
    if weights is None:
        raise ZsasError(
            f"The repository {repo} holds none of {', '.join(weights_files)}; name one that does."
        )
    folder = repo_files(repo, [*names, weights], commit=info.sha)[0].parent
    parts = sorted(_parts(folder / weights))
    if parts:
        repo_files(repo, parts, commit=info.sha)
    return folder


def open_clip_file(source: str) -> Path:
    """open_clip's file of weights: a path, or that of a repository on the Hub, with config and tokenizer beside it.

    Raises:
        ZsasError: If a repository cannot be had. A path is not looked at.
    """
    path = Path(os.path.expanduser(source))
    file = path.exists() or path.suffix in (".pt", ".pth", ".bin", ".safetensors")
    if file or source.startswith((".", "/", "~")) or source.count("/") != 1:
        return path
    weights = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    files = ("open_clip_config.json", "tokenizer*", "vocab.json", "merges.txt")
    why = unreachable(source, "open_clip_config.json")
    if why:
        raise ZsasError(
            f"The weights of {source} cannot be fetched from the Hugging Face Hub: {why}."
        )
    folder = _snapshot(source, files, weights)
    return next(folder / name for name in weights if (folder / name).is_file())
