"""CLIPs that single systems bring under the preset `paper`: those of their own papers, where it is another one.

They exist in open_clip's format only. One is fetched when its system is first asked for, converted once, and kept in
the Hub's assets folder.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from zsas.errors import ZsasError
from zsas.models import download
from zsas.models.hub import FILES, after, weights_in
from zsas.models.repository import ask, cannot_keep, probe, repo_files

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"


@dataclass(frozen=True)
class Backbone:
    """One published CLIP.

    Attributes:
        name: What open_clip calls it; learned weights know it by this name.
        repo: Hub id of its files.
        size_bytes: What the download takes, about.
        licence: Of the weights.
    """

    name: str
    repo: str
    size_bytes: int
    licence: str


BACKBONES: dict[str, Backbone] = {
    one.name: one
    for one in (
        # The weights laion400m_e31: what open_clip gives under both names, and what anomalib uses.
        Backbone(
            "ViT-B-16-plus-240",
            "timm/vit_base_patch16_plus_clip_240.laion400m_e31",
            834_000_000,
            "MIT",
        ),
    )
}
"""All of them by name."""


def is_here(name: str) -> bool:
    """Whether a backbone is converted and on disk."""
    return _complete(_folder(name))


def folder_of_backbone(name: str, system: str) -> Path:
    """The folder of the backbone for transformers; if it is missing, the model is downloaded and converted.

    Args:
        name: One of `BACKBONES`.
        system: Who wants it, for the sentences.

    Raises:
        ZsasError: If it cannot be had, kept or converted.
    """
    folder = _folder(name)
    if _complete(folder):
        return folder
    wanted = BACKBONES[name]
    cached = _in_cache(wanted)
    if cached is None:
        _check_reachable(wanted, system)
        print(
            f"The system {system} brings its paper's CLIP, {name} ({wanted.size_bytes / 1e6:.0f} MB from "
            f"{wanted.repo}, licence {wanted.licence}); it is fetched once.",
            file=sys.stderr,
        )
        cached = _download(wanted)
    _convert(wanted, cached, folder)
    return folder


def _folder(name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE, "zsas", "backbones", name)


def _complete(folder: Path) -> bool:
    return os.path.isfile(folder / "config.json") and weights_in(folder) is not None


def _in_cache(wanted: Backbone) -> Path | None:
    """The weights in the Hub's cache, None without them."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(wanted.repo, name) for name in (WEIGHTS, CONFIG)]
    return Path(str(found[0])) if all(isinstance(one, str) for one in found) else None


def _check_reachable(wanted: Backbone, system: str) -> None:
    answer = probe(f"{wanted.repo}/resolve/main/{CONFIG}")
    if isinstance(answer, str):
        why = answer
    elif answer.is_success or answer.status_code in download.BUSY:
        return
    else:
        why = download.meaning(answer.status_code, "the Hugging Face Hub")
    raise ZsasError(
        f"Under the preset paper the system {system} uses {wanted.name} ({wanted.repo}, "
        f"{wanted.size_bytes / 1e6:.0f} MB), which is not here, and {why}; {after(why)} give the same command "
        "again, or fetch the file elsewhere, run `zsas models convert FILE --out DIR` and name it with --clip DIR."
    )


def _download(wanted: Backbone) -> Path:
    """The weights, with config and tokenizer beside them, in the Hub's cache."""
    from huggingface_hub import HfApi

    info = ask(
        wanted.repo, lambda: HfApi().model_info(wanted.repo, timeout=download.CONNECT_SECONDS)
    )
    listed = [sibling.rfilename for sibling in info.siblings or ()]
    words = [name for name in listed if any(fnmatch.fnmatch(name, one) for one in FILES["clip"])]
    names = [WEIGHTS, CONFIG, *(name for name in words if name != "config.json")]
    missing = [name for name in (WEIGHTS, CONFIG) if name not in listed]
    if missing:
        raise ZsasError(f"The repository {wanted.repo} holds no {missing[0]} any more.")
    return repo_files(wanted.repo, names, commit=info.sha)[0]


def _convert(wanted: Backbone, file: Path, folder: Path) -> None:
    """The folder for transformers, whole or not at all."""
    from zsas.models.convert import convert

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{wanted.name}.", dir=folder.parent))
    except OSError as error:
        raise ZsasError(cannot_keep(wanted.name, folder.parent, error)) from None
    try:
        convert(file, part)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    except OSError as error:
        # Another process may have been first.
        if not _complete(folder):
            raise ZsasError(cannot_keep(wanted.name, folder.parent, error)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
