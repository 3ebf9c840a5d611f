"""Requests to the Hub, and downloads into the cache of its own client.

Every question has a limit in time. Files come by `zsas.models.download` and lie where the Hub's client would put
them, so that both find them. Where the Hub offers Xet for a file and `hf_xet` is installed, the Hub's client fetches
it, in many small pieces; the result is checked here all the same.
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zsas.errors import ZsasError, reason
from zsas.files import whole, write_whole
from zsas.models import download
from zsas.models.download import BAD_PROXY, Wanted

if TYPE_CHECKING:
    import httpx2 as httpx

PROBE_SECONDS = 3.0
ASK_SECONDS = 30.0
"""Longest wait for the answer to one question about a repository."""

T = TypeVar("T")


def probe(path: str) -> httpx.Response | str:
    """The Hub's answer to one short question, or in words that follow "and" why there is none.

    Args:
        path: Below the Hub's address, as "me/model/resolve/main/config.json"; "" for the Hub itself.
    """
    import httpx2 as httpx
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers

    if constants.HF_HUB_OFFLINE:
        return "the environment says offline (HF_HUB_OFFLINE)"

    def question() -> httpx.Response:
        return httpx.head(
            f"{constants.ENDPOINT}/{path}",
            headers=build_hf_headers(),  # with the token of who is signed in: private and gated models
            timeout=PROBE_SECONDS,
            follow_redirects=True,
        )

    try:
        return _within(PROBE_SECONDS, question)
    except BAD_PROXY as error:
        return f"the Hub cannot be reached ({reason(error)})"
    except Exception:
        return "the Hub cannot be reached"


def _within(seconds: float, question: Callable[[], T]) -> T:
    """What a function gives or raises, or `TimeoutError`.

    It runs in a thread that may be left behind: the libraries' limits are for each address of a host and for each
    piece of an answer, and there is none for a host's name or for an answer that trickles.
    """
    found: queue.Queue[tuple[T | None, Exception | None]] = queue.Queue()

    def run() -> None:
        try:
            found.put((question(), None))
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


def unreachable(source: str, file: str = "config.json") -> str:
    """Why a model's repository cannot be had now, in words that follow "and"; empty if it can or may be."""
    from huggingface_hub import constants

    answer = probe(f"{source}/resolve/main/{file}")
    if isinstance(answer, str):
        return answer
    # A server that is busy now gets its second chance from the download.
    if answer.is_success or answer.status_code in download.BUSY:
        return ""
    return download.meaning(answer.status_code, constants.ENDPOINT)


def ask(what: str, question: Callable[[], T]) -> T:
    """The Hub's answer, asked again where it is busy.

    Raises:
        ZsasError: If it refuses, or stays busy.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    pause = download.FIRST_PAUSE
    for left in reversed(range(download.TRIES)):
        try:
            return _within(ASK_SECONDS, question)
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
    if not _harmless(*names):
        raise ZsasError(f"{repo} names files outside its own folder, which are not fetched.")
    for name in names:
        url = hf_hub_url(repo, name, repo_type=repo_type, revision=commit or revision)

        def head(url: str = url) -> Any:
            return get_hf_file_metadata(url, timeout=download.CONNECT_SECONDS)

        heads[name] = ask(f"{repo}: {name}", head)
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
