"""Presets, and how their weights get here: the package, a local folder, or the Hub.

Everything is loaded from a folder on disk. Whether the Hub must be asked is decided once, here: files in the cache
are used first, then one probe with a short limit says whether a download can work at all. Without a network the
libraries' own back-off, which takes minutes, is therefore not reached; a download that has begun has theirs.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.errors import ZsasError, reason

if TYPE_CHECKING:  # at run time torch and transformers take seconds, and are not needed to say that a model is missing
    import httpx
    import torch

    from zsas.device import Precision

WEIGHTS = Path(__file__).parent / "weights"
PROBE_SECONDS = 3.0

_CLIP_FILES = ("config.json", "tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json")
_SAM_FILES = ("config.json",)
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"

APRIL_GAN = {
    name: f"https://raw.githubusercontent.com/ByChelsea/VAND-APRIL-GAN/main/exps/pretrained/{name}_pretrained.pth"
    for name in ("mvtec", "visa")
}
"""The published linear layers for ViT-L/14-336, by the data set they were trained on."""
_APRIL_GAN_BYTES = 20_000_000
_APRIL_GAN_SECONDS = 120.0

_PROXY_ERRORS = (ImportError, ValueError)
"""What httpx raises for a proxy in the environment that it cannot use: a SOCKS one without its package, say."""


@dataclass(frozen=True)
class Preset:
    """A pair of models that belong together.

    Attributes:
        name: What a person types.
        clip: Hub id or folder of the CLIP model.
        sam: Hub id or folder of the SAM model.
        size_bytes: What a download of both takes, about.
        purpose: What it is for, in a few words.
        adapter: Linear layers shipped for its CLIP, or None.
        clip_name: Name by which adapters know the backbone.
    """

    name: str
    clip: str
    sam: str
    size_bytes: int
    purpose: str
    adapter: Path | None = None
    clip_name: str = ""

    @property
    def bundled(self) -> bool:
        """True if the weights come with the package."""
        return Path(self.clip).is_dir()


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        "paper",
        "openai/clip-vit-large-patch14-336",
        "facebook/sam-vit-huge",
        4_280_000_000,
        "the paper's models, for a GPU",
    ),
    "base": Preset(
        "base",
        "openai/clip-vit-base-patch16",
        "facebook/sam-vit-base",
        975_000_000,
        "smaller models, for a CPU with network",
    ),
    "tiny": Preset(
        "tiny",
        str(WEIGHTS / "tiny" / "clip"),
        str(WEIGHTS / "tiny" / "sam"),
        0,
        "our own small models, in the package: at once, anywhere, offline",
        adapter=WEIGHTS / "tiny" / "clip" / "adapter.safetensors",
        clip_name="zsas/tiny",
    ),
}


def default_preset() -> str:
    """`paper` where there is a GPU, `tiny` elsewhere."""
    import torch

    return "paper" if torch.cuda.is_available() else "tiny"


def preset_named(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ZsasError: If there is none.
    """
    if name not in PRESETS:
        raise ZsasError(f"There is no preset {name!r}; choose {', '.join(PRESETS)}.")
    return PRESETS[name]


def is_here(preset: Preset) -> bool:
    """Whether both models can be loaded without a network."""
    return (
        _on_disk(preset.clip, _CLIP_FILES) is not None
        and _on_disk(preset.sam, _SAM_FILES) is not None
    )


def fetch(preset: Preset, *, clip: str | None = None, sam: str | None = None) -> None:
    """Have both models at hand before either is loaded: what is missing is downloaded, with a progress bar.

    Args:
        preset: Whose models.
        clip: Another CLIP than the preset's: Hub id or folder.
        sam: Another SAM than the preset's: Hub id, folder, or one of Meta's `.pth` files.

    Raises:
        ZsasError: If the Hub cannot be reached, within seconds.
    """
    if not _is_checkpoint(sam or preset.sam):
        folder_of(sam or preset.sam, _SAM_FILES, preset.name)
    folder_of(clip or preset.clip, _CLIP_FILES, preset.name)


def _is_checkpoint(sam: str) -> bool:
    """Whether a SAM is meant to be one of Meta's files."""
    return sam.lower().endswith(".pth")


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
        raise ZsasError(f"There is no folder {source} with a config.json and a {_SAFE} in it.")
    preset = PRESETS.get(wanted_for)
    named = preset is None or source not in (preset.clip, preset.sam)  # by a person, not the preset
    why = _unreachable(source)
    if why and named:
        raise ZsasError(
            f"The model {source} is wanted from the Hugging Face Hub, but it is not in the local cache and {why}; "
            "connect once and give the same command again, or name a local folder instead."
        )
    if why:
        raise ZsasError(
            f"The preset {wanted_for!r} needs {source} from the Hugging Face Hub, which is not in the local cache "
            f"and {why}; connect once and run `zsas models fetch {wanted_for}`, name a local folder with "
            "--clip or --sam, or use the preset tiny, which needs no network."
        )
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source, allow_patterns=[*files, _SAFE]))
        if not (folder / _SAFE).exists():
            # Some of OpenAI's repositories hold no safetensors; this file is read with weights_only.
            folder = Path(snapshot_download(source, allow_patterns=[*files, _PICKLED]))
    except Exception as error:  # the client passes on what its network layer raises
        raise ZsasError(
            f"The download of {source}{'' if named else f' for the preset {wanted_for!r}'} broke off "
            f"({type(error).__name__}); run the command again to go on where it stopped."
        ) from None
    return folder


def _on_disk(source: str, files: tuple[str, ...]) -> Path | None:
    """A folder with config and weights, without any network; None if something is missing."""
    folder = Path(os.path.expanduser(source))
    if not os.path.isfile(folder / "config.json"):  # False, too, where nobody may look
        return _in_cache(source, files)
    return folder if _complete(folder, files) else None


def _in_cache(source: str, files: tuple[str, ...]) -> Path | None:
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
    weights = any((folder / name).is_file() for name in (_SAFE, _PICKLED))
    words = not any("token" in name for name in files) or any(
        (folder / name).is_file() for name in ("tokenizer.json", "vocab.json")
    )
    return weights and words


def probe(path: str) -> httpx.Response | str:
    """The Hub's answer to one short question, or in words that follow "and" why there is none.

    Args:
        path: Below the Hub's address, as "me/model/resolve/main/config.json"; "" for the Hub itself.
    """
    import httpx
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers

    if constants.HF_HUB_OFFLINE:
        return "the environment says offline (HF_HUB_OFFLINE)"
    found: queue.Queue[httpx.Response | Exception] = queue.Queue()

    def ask() -> None:
        try:
            found.put(
                httpx.head(
                    f"{constants.ENDPOINT}/{path}",
                    headers=build_hf_headers(),  # with the token of who is signed in: private and gated models
                    timeout=PROBE_SECONDS,
                    follow_redirects=True,
                )
            )
        except Exception as error:  # in a thread nobody else would hear of it
            found.put(error)

    # In a thread that may be left behind: the library's limit is for each address of a host, and for none of its name.
    threading.Thread(target=ask, daemon=True, name="probe").start()
    try:
        answer = found.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        return "the Hub cannot be reached"
    if isinstance(answer, _PROXY_ERRORS):
        return f"the Hub cannot be reached ({reason(answer)})"
    return "the Hub cannot be reached" if isinstance(answer, Exception) else answer


def _unreachable(source: str) -> str:
    """Why a model's repository cannot be had now, in words that follow "and"; empty if it can."""
    answer = probe(f"{source}/resolve/main/config.json")
    if isinstance(answer, str):
        return answer
    if answer.status_code in (401, 403, 404):
        return f"the Hub does not give it out (status {answer.status_code})"
    return "" if answer.is_success else f"the Hub answers with status {answer.status_code}"


def load_clip(
    source: str, *, name: str, wanted_for: str, device: torch.device, precision: Precision
) -> Any:
    """The CLIP backbone from a folder or the Hub, as `zsas.clip.ClipBackbone`.

    Raises:
        ZsasError: If it cannot be had, or its tokenizer does not fit it.
    """
    from transformers import CLIPModel, CLIPTokenizer

    from zsas.clip import ClipBackbone

    folder = folder_of(source, _CLIP_FILES, wanted_for)
    model = from_folder(CLIPModel, folder)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as wrong:
        raise ZsasError(
            f"The tokenizer in {folder.name} cannot be read ({reason(wrong)}); "
            "its files are missing or damaged, delete the folder and fetch it again."
        ) from None
    # Where a file is missing, the library makes a tokenizer of two words instead of an error.
    vocabulary = model.config.text_config.vocab_size
    if len(tokenizer) != vocabulary:
        raise ZsasError(
            f"The tokenizer in {folder.name} knows {len(tokenizer)} words, but the model was trained with "
            f"{vocabulary}; its tokenizer files are missing or damaged, delete the folder and fetch it again."
        )
    return ClipBackbone(model, tokenizer, name=name, device=device, precision=precision)


def load_sam(source: str, *, wanted_for: str, device: torch.device, precision: Precision) -> Any:
    """SAM from one of Meta's `.pth` files, a folder or the Hub, as `zsas.backbones.sam.Sam`.

    Raises:
        ZsasError: If it cannot be had.
    """
    from zsas.backbones.sam import MetaSam, Sam, TransformersSam, load_meta_checkpoint

    if _is_checkpoint(source):
        checkpoint = Path(os.path.expanduser(source))
        if not checkpoint.is_file():
            raise ZsasError(f"There is no SAM checkpoint {source}.")
        return Sam(MetaSam(load_meta_checkpoint(checkpoint), device, precision), device)
    from transformers import SamModel

    model = from_folder(SamModel, folder_of(source, _SAM_FILES, wanted_for))
    return Sam(TransformersSam(model, device, precision), device)


def from_folder(kind: Any, folder: Path) -> Any:
    """A model whose weights all come from the folder.

    Raises:
        ZsasError: If the folder holds another kind of model, or weights are missing or of other shapes.
    """
    import torch
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # seconds at most, and it would break into our own output
    logging.set_verbosity_error()  # its table of odd weights: ours is one sentence
    safe = (folder / _SAFE).is_file()
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        if found == kind.config_class.model_type:
            model, report = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=safe,
                weights_only=True,
                attn_implementation="sdpa",
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # so that they are reported, as missing ones are
                output_loading_info=True,
            )
    except (
        Exception
    ) as error:  # safetensors, pickle, torch and transformers each raise kinds of their own
        raise ZsasError(
            f"The model in {folder} cannot be loaded as {kind.__name__}: {reason(error)}"
        ) from None
    finally:
        logging.set_verbosity(verbosity)
        if bars:  # the Hub's downloads share the switch
            logging.enable_progress_bar()
    if found != kind.config_class.model_type:
        raise ZsasError(
            f"The model in {folder} is of the type {found!r}, but one of the type "
            f"{kind.config_class.model_type!r} is needed here; name another folder or Hub id."
        )
    # The library fills these with random numbers and goes on. What it can derive from other weights (tied ones, as
    # SAM's second positional embedding) it does not report.
    odd = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if odd:
        raise ZsasError(
            f"The weights in {folder} are not those of a whole {kind.__name__}: {len(odd)} are missing or of another "
            f"shape, for example {odd[0]}; the files are damaged or of another model, fetch or export it again."
        )
    return model


def adapter_beside(clip: str) -> Path | None:
    """The adapter that was exported with a CLIP, in the same folder (`python -m tiny train clip --export`)."""
    file = Path(os.path.expanduser(clip)) / "adapter.safetensors"
    return file if os.path.isfile(file) else None


def adapter_file(name: str) -> Path:
    """An adapter by path, or one of APRIL-GAN's by name (`april-gan:mvtec`, `april-gan:visa`).

    The download is made once, into the Hub's folder for assets, with a limit on size and time.

    Raises:
        ZsasError: If there is no such file, or it cannot be downloaded.
    """
    if not name.startswith("april-gan:"):
        return Path(os.path.expanduser(name))
    which = name.removeprefix("april-gan:")
    if which not in APRIL_GAN:
        raise ZsasError(
            f"There are no April-GAN layers {which!r}; choose april-gan:mvtec or april-gan:visa."
        )
    from huggingface_hub import cached_assets_path

    try:
        path = cached_assets_path("zsas", "april-gan") / f"{which}_pretrained.pth"
        if not path.is_file():
            _download(APRIL_GAN[which], path)
    except OSError as error:
        raise ZsasError(
            f"The layers {name} cannot be kept ({error.strerror or type(error).__name__}); make room in the Hub's "
            "cache folder and give yourself the right to write there, or download the file and name its path."
        ) from None
    return path


def _download(url: str, path: Path) -> None:
    """One file to `path` with a progress bar, at most `_APRIL_GAN_BYTES` in `_APRIL_GAN_SECONDS`; never half a file."""
    import time

    import httpx
    from huggingface_hub.utils import tqdm

    started, size = time.monotonic(), 0
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with (
            httpx.stream("GET", url, timeout=PROBE_SECONDS, follow_redirects=True) as answer,
            part.open("wb") as file,
            tqdm(desc=path.name, unit="B", unit_scale=True) as bar,
        ):
            answer.raise_for_status()
            bar.reset(int(answer.headers.get("content-length", 0)) or None)
            for chunk in answer.iter_bytes():
                size += len(chunk)
                bar.update(len(chunk))
                if size > _APRIL_GAN_BYTES or time.monotonic() - started > _APRIL_GAN_SECONDS:
                    raise ZsasError(
                        f"{url} is larger or slower than expected; download it by hand and name the file."
                    )
                file.write(chunk)
        os.replace(part, path)
    except httpx.HTTPError:
        raise ZsasError(
            f"{url} cannot be reached; download the file elsewhere and name its path as the adapter."
        ) from None
    except _PROXY_ERRORS as error:
        raise ZsasError(
            f"{url} cannot be reached ({reason(error)}); download the file elsewhere and name its path as the "
            "adapter."
        ) from None
    finally:
        part.unlink(missing_ok=True)
