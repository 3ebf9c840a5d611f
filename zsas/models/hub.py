"""How models get here: a local folder, the Hub's cache, or a download.

Everything is loaded from a folder on disk. Whether the Hub must be asked is decided once, here: files in the cache
are used first, then one probe with a short limit says whether a download can work at all. Without a network the
libraries' own back-off, which takes minutes, is therefore not reached.

Files come by `zsas.models.download` into the Hub's own cache layout. Where the Hub offers Xet for a file and `hf_xet`
is installed, the Hub's client fetches it, in many small pieces; the result is checked here all the same.
"""

from __future__ import annotations

import fnmatch
import json
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zsas.errors import ZsasError, reason
from zsas.files import whole, write_whole
from zsas.models import download
from zsas.models.download import BAD_PROXY, Wanted
from zsas.models.presets import PRESETS, Preset, Role

if TYPE_CHECKING:
    import httpx

PROBE_SECONDS = 3.0
ASK_SECONDS = 30.0
"""Longest wait for the answer to one question about a repository."""

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
WEIGHTS_FILES = (SAFE, f"{SAFE}.index.json", PICKLED, f"{PICKLED}.index.json")
"""Names of a model's weights, the best first; an index names further files."""

FILES: dict[Role, tuple[str, ...]] = {
    "clip": ("config.json", "tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json"),
    "sam": ("config.json",),
    "detector": ("config.json", "tokenizer*", "vocab.txt", "special_tokens_map.json"),
    "features": ("config.json",),
    "saliency": ("config.json",),
}
"""Patterns of the files that are needed beside the weights, by role."""

T = TypeVar("T")


def is_here(preset: Preset) -> bool:
    """Whether all models of a preset can be loaded without a network."""
    return all(_on_disk(source, FILES[role]) is not None for role, source in preset.roles.items())


def fetch(
    preset: Preset,
    *,
    roles: Collection[Role] | None = None,
    others: Mapping[Role, str] | None = None,
) -> None:
    """Have models at hand before any is loaded: what is missing is downloaded, with progress on stderr.

    Args:
        preset: Whose models.
        roles: Which of them; all that the preset names if None.
        others: Other models than the preset's, by role: Hub id or folder; for SAM also one of Meta's `.pth` files.

    Raises:
        ZsasError: If one cannot be had; within seconds where the Hub cannot be reached.
    """
    sources: dict[Role, str] = {**preset.roles, **(others or {})}
    # SAM first: if the largest cannot be had, nothing else should have been fetched.
    for role in sorted(sources if roles is None else roles, key=lambda role: role != "sam"):
        source = sources.get(role) or preset.source(role)
        if not is_checkpoint(source):
            folder_of(source, FILES[role], preset.name)


def is_checkpoint(source: str) -> bool:
    """Whether a SAM is meant to be one of Meta's files."""
    return source.lower().endswith(".pth")


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
    folder = _snapshot(source, files)
    if not _complete(folder, files):
        raise ZsasError(
            f"The repository {source} holds no whole model of the kind that is needed here: it lacks weights or a "
            "tokenizer; name another one, or export this one anew."
        )
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


# What the Hub is asked, each within a limit.


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

    def ask() -> httpx.Response:
        return httpx.head(
            f"{constants.ENDPOINT}/{path}",
            headers=build_hf_headers(),  # with the token of who is signed in: private and gated models
            timeout=PROBE_SECONDS,
            follow_redirects=True,
        )

    try:
        return _within(PROBE_SECONDS, ask)
    except BAD_PROXY as error:
        return f"the Hub cannot be reached ({reason(error)})"
    except Exception:
        return "the Hub cannot be reached"


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """What a function gives or raises, or `TimeoutError`.

    It runs in a thread that may be left behind: the libraries' limits are for each address of a host and for each
    piece of an answer, and there is none for a host's name or for an answer that trickles.
    """
    found: queue.Queue[tuple[T | None, Exception | None]] = queue.Queue()

    def run() -> None:
        try:
            found.put((ask(), None))
        except Exception as error:  # in a thread nobody else would hear of it
            found.put((None, error))

    threading.Thread(target=run, daemon=True, name="ask-the-hub").start()
    try:
        answer, error = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("no whole answer in time") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def unreachable(source: str) -> str:
    """Why a model's repository cannot be had now, in words that follow "and"; empty if it can or may be."""
    from huggingface_hub import constants

    answer = probe(f"{source}/resolve/main/config.json")
    if isinstance(answer, str):
        return answer
    # A server that is busy now gets its second chance from the download.
    if answer.is_success or answer.status_code in download.BUSY:
        return ""
    return download.meaning(answer.status_code, constants.ENDPOINT)


def _ask(what: str, ask: Callable[[], T]) -> T:
    """The Hub's answer, asked again where it is busy.

    Raises:
        ZsasError: If it refuses, or stays busy.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    pause = download.FIRST_PAUSE
    for left in reversed(range(download.TRIES)):
        try:
            return _within(ASK_SECONDS, ask)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status not in download.BUSY or not left:
                raise ZsasError(
                    f"{what} cannot be fetched: {download.meaning(status, constants.ENDPOINT)}."
                ) from None
            asked = download.retry_after(error.response.headers.get("retry-after", ""))
            if asked is not None and asked > download.LONGEST_WAIT:
                raise ZsasError(
                    f"{what} cannot be fetched now: the Hub asks to wait {download.in_words(asked)}; run the "
                    "command again then."
                ) from None
            time.sleep(pause if asked is None else asked)
        except Exception as error:  # the client passes on what its network layer raises
            passing = isinstance(error, OSError) or type(error).__module__.startswith("httpx")
            if not left or not passing:
                raise ZsasError(
                    f"The download of {what} broke off ({reason(error)}); run the command again to go on where it "
                    "stopped."
                ) from None
            time.sleep(pause)
        pause *= 2
    raise AssertionError


# Downloads into the Hub's cache.


def _snapshot(repo: str, patterns: Sequence[str]) -> Path:
    """The folder of a model repository with the files of these patterns and its weights."""
    from huggingface_hub import HfApi

    info = _ask(repo, lambda: HfApi().model_info(repo, timeout=download.CONNECT_SECONDS))
    listed = [sibling.rfilename for sibling in info.siblings or ()]
    names = [name for name in listed if any(fnmatch.fnmatch(name, one) for one in patterns)]
    weights = next((name for name in WEIGHTS_FILES if name in listed), None)
    if weights is None:
        raise ZsasError(
            f"The repository {repo} holds neither {SAFE} nor {PICKLED}; name one with weights for transformers."
        )
    folder = repo_files(repo, [*names, weights], commit=info.sha)[0].parent
    parts = sorted(_parts(folder / weights))
    if parts:
        repo_files(repo, parts, commit=info.sha)
    return folder


def repo_files(
    repo: str,
    names: Sequence[str],
    *,
    repo_type: str = "model",
    revision: str | None = None,
    commit: str | None = None,
) -> list[Path]:
    """Files of a repository in the Hub's cache; those that are missing are downloaded and checked.

    Args:
        repo: Hub id.
        names: Paths in the repository.
        repo_type: "model" or "dataset".
        revision: Branch, tag or commit; the main branch if None.
        commit: The commit that it stands for, where that is known.

    Raises:
        ZsasError: If one cannot be had: the Hub refuses, the disk is full, the cache cannot be written, …
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    storage = cache / repo_folder_name(repo_id=repo, repo_type=repo_type)
    try:
        return _files_into(
            storage, repo, names, repo_type, revision or constants.DEFAULT_REVISION, commit
        )
    except OSError as error:
        raise ZsasError(cannot_keep(repo, cache, error)) from None


def cannot_keep(what: str, folder: Path, error: OSError) -> str:
    """The sentence for a download that cannot be written."""
    return (
        f"{what} cannot be kept in {folder} ({error.strerror or reason(error)}); make room and give yourself the "
        "right to write there, or set HF_HOME to another folder."
    )


def _files_into(
    storage: Path,
    repo: str,
    names: Sequence[str],
    repo_type: str,
    revision: str,
    commit: str | None,
) -> list[Path]:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    heads = {}
    for name in names:
        url = hf_hub_url(repo, name, repo_type=repo_type, revision=commit or revision)

        def head(url: str = url) -> Any:
            return get_hf_file_metadata(url, timeout=download.CONNECT_SECONDS)

        heads[name] = _ask(f"{repo}: {name}", head)
        commit = commit or heads[name].commit_hash
        if not (commit and heads[name].etag and _harmless(name, commit, heads[name].etag)):
            raise ZsasError(
                f"{constants.ENDPOINT} does not answer as the Hugging Face Hub does ({name} of {repo} has no commit "
                "or ETag that could be a file's name); look at HF_ENDPOINT and at your proxy."
            )
    (storage / "blobs").mkdir(parents=True, exist_ok=True)
    missing = {
        name: head for name, head in heads.items() if not (storage / "blobs" / head.etag).exists()
    }
    _room_for(repo, storage, sum(head.size or 0 for head in missing.values()))
    paths = [
        _one_file(storage, repo, name, head, repo_type, commit or revision)
        for name, head in heads.items()
    ]
    if commit and revision != commit:
        write_whole(storage / "refs" / revision, commit.encode())
    return paths


def _room_for(repo: str, storage: Path, size: int) -> None:
    free = shutil.disk_usage(storage).free
    if size > free:
        raise ZsasError(
            f"{repo} needs {size / 1e9:.2f} GB in {storage}, where {free / 1e9:.2f} GB are free; make room, or set "
            "HF_HOME to a folder on a larger disk."
        )


def _one_file(storage: Path, repo: str, name: str, head: Any, repo_type: str, commit: str) -> Path:
    """One file in blobs and snapshots, as the Hub's client lays them out."""
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    what = f"{repo}: {name}"
    blob = storage / "blobs" / head.etag
    pointer = storage / "snapshots" / commit / name
    if pointer.exists():
        return pointer
    if not blob.exists() and head.xet_file_data is not None and _xet():
        try:
            found = hf_hub_download(
                repo,
                name,
                repo_type=repo_type,
                revision=commit,
                tqdm_class=download.bar_class(what),
            )
        except (
            Exception
        ) as error:  # of the client, of its network layer, and of hf_xet, which is no Python
            raise ZsasError(
                f"The download of {what} broke off ({reason(error)}); run the command again, or set "
                "HF_HUB_DISABLE_XET=1 to fetch it over plain HTTP, which goes on where it stopped."
            ) from None
        if not download.has_digest(Path(found), head.etag):
            os.unlink(os.path.realpath(found))
            raise ZsasError(
                f"{what} arrived damaged: its contents are not those that the Hub announces; run the command again."
            )
        return Path(found)
    if not blob.exists():
        locks = storage.parent / ".locks" / storage.name
        locks.mkdir(parents=True, exist_ok=True)
        url = hf_hub_url(repo, name, repo_type=repo_type, revision=commit)
        download.download(
            Wanted(url, what, head.size, head.etag),
            blob,
            lock=locks / f"{head.etag}.lock",  # the one that the Hub's client takes for this file
            headers=build_hf_headers(),
        )
    _point(pointer, blob)
    return pointer


def _xet() -> bool:
    from huggingface_hub.file_download import is_xet_available

    return is_xet_available()


def _point(pointer: Path, blob: Path) -> None:
    """The name of a file in a snapshot: a relative link to its blob, or a copy where links are not allowed."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except FileExistsError:  # another process was faster
        return
    except OSError:
        with whole(pointer) as part:
            shutil.copyfile(blob, part)


def _harmless(*names: str) -> bool:
    """Whether what a server calls its files stays below the folder that is meant for them."""
    return all(
        name and not name.startswith("/") and "\\" not in name and ".." not in name.split("/")
        for name in names
    )
