"""`zsas watch`."""

from __future__ import annotations

import shlex
import shutil
import signal
import statistics
import subprocess
import sys
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsas import flags
from zsas.cli.root import Notes, complain, one_line, say, say_json
from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.models import ModelChoice
    from zsas.watch import Inspection

TELL_SECONDS = 10.0


# Long because every flag is declared here.
@flags.with_settings
@flags.with_models
def watch(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder in which images appear.", metavar="DIR", file_okay=False),
    ],
    settings: Settings,
    choice: ModelChoice,
    out: Annotated[
        Path,
        typer.Option(help="Folder for the results and the log.", metavar="DIR", file_okay=False),
    ],
    log: Annotated[
        Path | None,
        typer.Option(help="Audit log, one line of JSON a part; audit.jsonl in --out by default."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Command that is called with OK or NOK and the file.", metavar="COMMAND"),
    ] = None,
    post: Annotated[
        str | None,
        typer.Option(help="Address that the line of the log is posted to.", metavar="URL"),
    ] = None,
    stages: flags.Stages = False,
    json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the lines of the log on stdout.")
    ] = False,
    settle: Annotated[
        float,
        typer.Option(
            help="Seconds without a change after which a file is complete, where the system does not say who writes.",
            min=0,
        ),
    ] = 0.5,
    bits: flags.Bits = 0,
    part: flags.Part = None,
    region: flags.Region = None,
    ignore: flags.Ignore = None,
    once: Annotated[
        bool, typer.Option("--once", metavar="", help="End when all that is there is examined.")
    ] = False,
) -> None:
    """Examine each image of a folder once, as soon as it is completely written.

    Each image gets a folder in --out, as with `zsas segment`, and a line in the audit log: file, digest, verdict,
    score, limit, settings, versions, time, latency. Started again it goes on where it stopped. End it with Ctrl+C
    or SIGTERM.
    """
    from zsas.bulk import Output, load
    from zsas.cli.beside import opened
    from zsas.errors import ZsasError
    from zsas.images import ReadOptions
    from zsas.watch import AuditLog, Timing, Watcher

    if not folder.is_dir():
        raise ZsasError(f"There is no folder {folder} to watch; make it first.")
    if run is not None:
        _program(run)
    if post is not None and not post.startswith(("http://", "https://")):
        raise typer.BadParameter("--post needs an address that begins with http:// or https://")
    beside = opened(part, settings, choice, region, ignore)
    if beside is not None:
        settings, choice = beside.settings, beside.models
    audit = AuditLog(log or out / "audit.jsonl")
    segmenter = load(choice, settings, cache_bytes=0)
    import numpy as np

    from zsas.device import keep_freed_memory

    keep_freed_memory()
    segmenter(
        np.full((64, 64, 3), 128, np.uint8), settings
    )  # the first image should not wait for the first use
    output = Output(out, stages=stages)
    watcher = Watcher(
        folder,
        lambda image: segmenter(image, settings, part=beside),
        settings,
        output,
        audit,
        Timing(settle=settle),
        ReadOptions(bits=bits),
        complain,
    )
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: ended.append(received))
    print(f"zsas: watching {folder}; results in {out}.", file=sys.stderr, flush=True)
    latencies, bad = array("d"), 0  # eight bytes a part: a line runs for months
    notes = Notes()
    try:
        for seen in watcher.run(lambda: bool(ended), once):
            latencies.append(seen.latency)
            bad += not seen.ok
            if json:
                say_json(seen.to_dict(), sys.stdout)
            else:
                say(one_line(_sentence(seen)), sys.stdout)
            if seen.verdict and seen.error:
                complain(seen.error)
            for note in notes.add(seen.file, seen.notes):
                complain(f"{seen.file}: {note}; other images with this note are not named.")
            for tell in _tellers(run, post):
                tell(folder, seen)
    finally:
        audit.close()
        _sum_up(latencies, bad)


def _sentence(part: Inspection) -> str:
    if not part.verdict:
        return f"{part.file}: {part.word}, {part.error}"
    copy = f", a copy of {part.copy_of}" if part.copy_of else ""
    why = ""
    if part.verdict == "unsure":
        why = " (unsure)"
    elif part.ok and (part.score or 0) >= (part.limit or 0):
        why = " (nothing large enough to count)"
    return (
        f"{part.file}: {part.word}{why}, score {part.score:.2f}, limit {part.limit:.2f}{copy}, "
        f"{part.latency:.2f} s after it was written."
    )


def _sum_up(latencies: Sequence[float], bad: int) -> None:
    if not latencies:
        return
    from zsas.stages import counted

    print(
        f"zsas: {counted(len(latencies), 'image')}, {bad} NOK; latency {statistics.median(latencies):.2f} s in the "
        f"middle, {max(latencies):.2f} s at most.",
        file=sys.stderr,
    )


def _tellers(run: str | None, post: str | None) -> list[Callable[[Path, Inspection], None]]:
    """What tells others of a part; that it could not is a complaint, and the next part goes on."""
    tellers: list[Callable[[Path, Inspection], None]] = []
    if run is not None:
        tellers.append(lambda folder, part: _call(run, folder, part))
    if post is not None:
        tellers.append(lambda _, part: _post(post, part))
    return tellers


def _program(command: str) -> list[str]:
    """The words of a command whose program is there.

    Raises:
        typer.BadParameter: See above.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise typer.BadParameter(f"--run {command!r} cannot be read ({error})") from None
    if not words:
        raise typer.BadParameter("--run needs a command")
    if shutil.which(words[0]) is None:
        raise typer.BadParameter(f"there is no program {words[0]} to run")
    return words


def _call(command: str, folder: Path, part: Inspection) -> None:
    # The program was there at the start; one that is gone now is a complaint, and the next part goes on.
    words = [*shlex.split(command), part.word, str(folder / part.file)]
    try:
        done = subprocess.run(words, timeout=TELL_SECONDS, check=False, stdout=sys.stderr)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        complain(f"{words[0]} could not be told of {part.file} ({type(error).__name__}).")
        return
    if done.returncode:
        complain(f"{words[0]} ended with exit code {done.returncode} for {part.file}.")


def _post(url: str, part: Inspection) -> None:
    import httpx2 as httpx

    try:
        answer = httpx.post(
            url,
            content=part.to_line(),
            headers={"content-type": "application/json"},
            timeout=TELL_SECONDS,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        complain(f"{url} could not be told of {part.file} ({type(error).__name__}).")
        return
    if not answer.is_success:
        complain(f"{url} answered with status {answer.status_code} for {part.file}.")
