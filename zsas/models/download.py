"""Downloads one file over HTTP: a broken download is continued, and a file is checked before it appears.

The Hub's own client drops what it has of a file when a process ends, and compares only sizes. Here the part that has
arrived stays beside the target under another name, the next run goes on behind it, and the file gets its name only
after size and hash are right.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.errors import ZsasError, reason

if TYPE_CHECKING:
    import httpx2 as httpx

CONNECT_SECONDS, SILENT_SECONDS = 10.0, 20.0
"""Longest wait for a connection, and for the next bytes of one that stands."""
TRIES = 5
"""How often in a row a server may fail before it is given up; bytes that arrive start the count anew."""
FIRST_PAUSE = 1.0
"""Seconds before the second try; doubled for each further one."""
LONGEST_WAIT = 120.0
"""Seconds that a server may ask to wait (Retry-After); with more, the person is told instead."""
WAIT_SILENTLY = 1.0
"""Seconds for which another process may hold a lock before it is said."""
SLOW_SECONDS, SLOW_BYTES = 30.0, 30_000
"""A download that brings less than this in that time is given up."""

BAD_PROXY = (ImportError, ValueError)
"""What httpx raises for a proxy in the environment that it cannot use: a SOCKS one without its package, say."""

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
BUSY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Attributes:
        url: Where it is.
        what: What it is, for progress and sentences.
        size: Its bytes, None if nobody has said.
        digest: SHA-256, or git's SHA-1 of a blob, in hex; "" if nobody has said.
        most: Bytes at most, where neither is known.
        of_torch: Whether it must begin as a file of `torch.save` does; a sign-in page of a network does not.
    """

    url: str
    what: str
    size: int | None = None
    digest: str = ""
    most: int | None = None
    of_torch: bool = False


class _Again(Exception):
    """A failure that may pass: `pause` is what the server asks for, in seconds."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.why, self.pause = why, pause


def download(
    wanted: Wanted, path: Path, *, lock: Path | None = None, headers: dict[str, str] | None = None
) -> None:
    """Download a file to `path` and check it; does nothing if it is there.

    Args:
        wanted: What to fetch.
        path: Where to; its folder must exist.
        lock: File that processes lock while they fetch the same; beside `path` if None.
        headers: For the request.

    Raises:
        ZsasError: If it cannot be had, in one sentence. What has arrived is kept for the next try, unless it is
            wrong or the disk is full.
        OSError: If the folder cannot be written.
    """
    with locked(lock or path.with_name(f"{path.name}.lock"), wanted.what):
        if path.exists():  # another process was faster
            return
        part = path.with_name(f"{path.name}.zsas.incomplete")
        for last in (False, True):
            try:
                _arrive(wanted, part, headers or {})
            except OSError as error:
                if error.errno in _FULL:
                    part.unlink(missing_ok=True)
                raise
            if _is_right(wanted, part):
                os.replace(part, path)
                return
            part.unlink()
            if last:
                raise ZsasError(
                    f"{wanted.what} arrived damaged twice: its contents are not those that {_host(wanted.url)} "
                    "announces; try again later or from another network."
                )


@contextlib.contextmanager
def locked(file: Path, what: str) -> Iterator[None]:
    """A lock that lets one process in at a time; a process that waits says so."""
    from huggingface_hub.utils import WeakFileLock

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(file, timeout=WAIT_SILENTLY))
        except TimeoutError:
            print(f"Another process is fetching {what}; waiting for it.", file=sys.stderr)
            stack.enter_context(WeakFileLock(file))
        yield


def _arrive(wanted: Wanted, part: Path, headers: dict[str, str]) -> None:
    """All bytes into `part`, behind those that are there; one bar over all tries."""
    failures, pause = 0, FIRST_PAUSE
    with _writing(part) as file, bar(wanted.what, wanted.size, file.tell()) as show:
        while True:
            before = file.tell()
            try:
                _receive(wanted, file, headers, show)
                return
            except _Again as failure:
                if file.tell() > before:
                    failures, pause = 0, FIRST_PAUSE
                failures += 1
                if failures >= TRIES:
                    raise ZsasError(
                        f"The download of {wanted.what} broke off ({failure.why}); run the command again to go on "
                        "where it stopped."
                    ) from None
                time.sleep(pause if failure.pause is None else failure.pause)
                pause *= 2


@contextlib.contextmanager
def _writing(part: Path) -> Iterator[Any]:
    """The part, open at its end; gone if nothing has come."""
    try:
        with part.open("ab") as file:
            yield file
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()


def _receive(wanted: Wanted, file: Any, headers: dict[str, str], show: Any) -> None:
    """One answer of the server, appended to the file.

    Raises:
        _Again: If it broke off or the server is busy.
        ZsasError: If trying again cannot help.
    """
    import httpx2 as httpx

    have = file.tell()
    if have and have == wanted.size:
        return
    if wanted.size is not None and have > wanted.size:
        have = _from_the_start(file, show)
    asked = {**headers, "Accept-Encoding": "identity"}  # a range of packed bytes would be of no use
    if have:
        asked["Range"] = f"bytes={have}-"
    try:
        with httpx.stream(
            "GET",
            wanted.url,
            headers=asked,
            timeout=httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS),
            follow_redirects=True,
        ) as answer:
            have = _begin(wanted, answer, have, file, show)
            _copy(wanted, answer, file, show)
    except httpx.HTTPError as error:
        raise _Again(_why(error)) from None
    except httpx.InvalidURL as error:
        raise ZsasError(f"{wanted.url} is no address ({reason(error)}).") from None
    except ZsasError:
        raise
    except BAD_PROXY as error:
        raise ZsasError(
            f"{wanted.what} cannot be reached ({reason(error)}); see the variables HTTPS_PROXY and ALL_PROXY."
        ) from None
    if wanted.size is not None and file.tell() < wanted.size:
        raise _Again("the connection was closed too early")


def _begin(wanted: Wanted, answer: httpx.Response, have: int, file: Any, show: Any) -> int:
    """Judge status and headers; returns how many bytes stay."""
    status = answer.status_code
    if status in BUSY:
        raise _Again(f"the server answers with status {status}", _asked_to_wait(wanted, answer))
    if status == 416:  # what we have does not belong to this file
        _from_the_start(file, show)
        raise _Again("the server refused to go on in the middle", 0.0)
    if not answer.is_success:
        raise ZsasError(f"{wanted.what} cannot be fetched: {meaning(status, wanted.url)}.")
    if have and (status != 206 or not _continues(answer, have)):
        have = _from_the_start(file, show)
        if status == 206:
            raise _Again("the server went on at another place", 0.0)
    coming = "" if _packed(answer) else answer.headers.get("content-length", "")
    whole = have + int(coming) if coming.isdecimal() else None
    if wanted.size is not None and whole is not None and whole != wanted.size:
        file.truncate(0)
        raise ZsasError(
            f"{wanted.what} has {whole} bytes on the server, but {wanted.size} are announced for it; try again "
            "later, the file may just have been replaced."
        )
    if wanted.size is None and whole is not None:
        show(0, whole)
    return have


def _copy(wanted: Wanted, answer: httpx.Response, file: Any, show: Any) -> None:
    since, brought = time.monotonic(), 0
    for chunk in answer.iter_bytes() if _packed(answer) else answer.iter_raw():
        file.write(chunk)
        show(len(chunk))
        brought += len(chunk)
        most = wanted.size if wanted.size is not None else wanted.most
        if most is not None and file.tell() > most:
            file.truncate(0)
            raise ZsasError(
                f"{wanted.what} is larger than the {most} bytes expected; download it by hand and name the file."
            )
        passed = time.monotonic() - since
        if passed > SLOW_SECONDS:
            if brought < SLOW_BYTES:
                raise ZsasError(
                    f"{wanted.what} comes too slowly ({brought / passed:.0f} bytes a second from "
                    f"{_host(wanted.url)}); run the command again later, it goes on where it stopped."
                )
            since, brought = time.monotonic(), 0
    file.flush()


def _packed(answer: httpx.Response) -> bool:
    """Whether the server packs the bytes, although it was asked not to."""
    return answer.headers.get("content-encoding", "identity") != "identity"


def _from_the_start(file: Any, show: Any) -> int:
    show(-file.tell())
    file.truncate(0)
    file.seek(0)
    return 0


def _continues(answer: httpx.Response, have: int) -> bool:
    return answer.headers.get("content-range", "").startswith(f"bytes {have}-")


def _asked_to_wait(wanted: Wanted, answer: httpx.Response) -> float | None:
    """Seconds of Retry-After; None without one.

    Raises:
        ZsasError: If it is longer than anybody would wait before the screen.
    """
    text = answer.headers.get("retry-after", "")
    if not text:
        return None
    seconds = retry_after(text)
    if seconds is not None and seconds > LONGEST_WAIT:
        raise ZsasError(
            f"{wanted.what} cannot be fetched now: {_host(wanted.url)} asks to wait {in_words(seconds)}; "
            "run the command again then, it goes on where it stopped."
        )
    return seconds


def retry_after(text: str) -> float | None:
    """The header of that name in seconds from now: a number or a date; None if it is neither."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def in_words(seconds: float) -> str:
    """A time to wait, as "40 seconds" or "12 minutes"."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def meaning(status: int, url: str) -> str:
    """What a refusing status says about an address, as a clause."""
    said = {
        401: f"{_host(url)} wants to know who asks (status 401); sign in with `hf auth login`, or check its name",
        403: f"{_host(url)} does not give it to you (status 403); where it is gated, accept its terms on its page "
        "and sign in with `hf auth login`",
        404: f"there is no such file or repository at {_host(url)} (status 404); check the name",
        429: f"{_host(url)} has had too many requests (status 429); wait some minutes",
    }
    return said.get(status, f"{_host(url)} answers with status {status}; try again later")


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).netloc or url


def _why(error: Exception) -> str:
    import httpx2 as httpx

    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "the server cannot be reached"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy refuses: {reason(error)}"
    if isinstance(error, httpx.TimeoutException):
        return "the server fell silent"
    return "the connection was closed too early"


def _is_right(wanted: Wanted, part: Path) -> bool:
    if wanted.of_torch:
        with part.open("rb") as file:
            if not file.read(4).startswith((b"PK\x03\x04", b"\x80")):
                return False
    if wanted.size is not None and part.stat().st_size != wanted.size:
        return False
    return has_digest(part, wanted.digest)


def has_digest(path: Path, digest: str) -> bool:
    """Whether a file has this SHA-256 (64 digits) or git's SHA-1 (40 digits); True for any other text."""
    if len(digest) not in (40, 64):
        return True
    known = hashlib.sha256() if len(digest) == 64 else hashlib.sha1(usedforsecurity=False)
    if len(digest) == 40:
        known.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            known.update(block)
    return known.hexdigest() == digest


# Progress: a bar on stderr, and the same as a sentence for the page.


@dataclass
class _Running:
    """A download that runs: what, bytes now and in all, and where and when it began."""

    what: str
    done: float
    total: float
    initial: float
    started: float


_running: list[_Running] = []


def fetching() -> str:
    """What is being fetched now, as a sentence with bytes and speed; "" if nothing is."""
    for one in tuple(_running):  # another thread may add one meanwhile
        seconds = time.monotonic() - one.started
        speed = (one.done - one.initial) / seconds if seconds else 0.0
        amount = f"{one.done / 1e6:.1f}" + (f" of {one.total / 1e6:.1f}" if one.total else "")
        return f"Fetching {one.what}: {amount} MB, {speed / 1e6:.1f} MB/s."
    return ""


def bar_class(what: str) -> Any:
    """A class like tqdm for one file: it names the file, and `fetching` knows of it."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options["desc"] = what
            # A log file gets a line each time, a terminal the same one.
            options.setdefault("mininterval", 0.1 if sys.stderr.isatty() else 5.0)
            super().__init__(*args, **options)
            initial = options.get("initial") or 0
            total = options.get("total") or 0
            self.running = _Running(what, initial, total, initial, time.monotonic())
            _running.append(self.running)

        def update(self, n: float | None = 1) -> bool | None:
            self.running.done += n or 0
            self.running.total = self.total or 0
            return super().update(n)

        def close(self) -> None:
            if getattr(self, "running", None) in _running:
                _running.remove(self.running)
            super().close()

    return Bar


@contextlib.contextmanager
def bar(what: str, total: int | None, initial: int = 0) -> Iterator[Any]:
    """A bar in bytes; call what it gives with the bytes that came, and the total where that is known later."""
    with bar_class(what)(total=total, initial=initial, unit="B", unit_scale=True) as shown:

        def show(count: int, of: int | None = None) -> None:
            if of is not None:
                shown.total = of
            shown.update(count)

        yield show
