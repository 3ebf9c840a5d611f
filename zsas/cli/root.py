"""The command `zsas` itself: its help, its exit codes, and how it speaks.

Exit codes: 0 all done, 1 a bug, or something that `--fail-on` names was found, 2 bad usage or input, 130 interrupted.
What a person can mend is one sentence on stderr, never a traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from zsas import __version__
from zsas.errors import ZsasError, reason
from zsas.files import remedy

if TYPE_CHECKING:
    from rich.progress import Progress

OPTIONS: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": "markdown",
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
"""What every group of commands has."""

HELP = "Zero-shot anomaly segmentation: what is wrong on an image, where, and why."


_NO_WAY_OUT = (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO)
"""What writing to a stdout raises that nobody reads, or that ends on a full disk."""
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG)
"""What writing a file raises that a person can mend."""


class _Group(TyperGroup):
    """Turns what a person can mend into a sentence and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ZsasError as error:
            complain(str(error))
            raise typer.Exit(2) from None
        except typer.BadParameter as error:
            error.message = plainer(error.message)
            raise
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except OSError as error:
            complain(_no_file(error))
            raise typer.Exit(2) from None
        except Exception as error:  # a bug, which is ours and not the reader's
            raise _bug(error) from None


_WORDS = (
    (r"Value error, ", ""),
    (r"Input should be a valid number.*", "it must be a number"),
    (r"Input should be a valid integer.*", "it must be a whole number"),
    (r"Input should be (less|greater) than or equal to (\S+)", r"it must be \1 \2"),
)
"""How what is said of a value by the library that reads the flags is said in plain words."""


def plainer(message: str) -> str:
    """What is wrong with a flag's value in plain words, with the choice that was probably meant.

    Example:
        >>> plainer("Value error, 'winclipp' is not one of 'auto', 'winclip'.")
        "'winclipp' is not one of 'auto', 'winclip'. Did you mean 'winclip'?"
        >>> plainer("Input should be less than or equal to 32")
        'it must be at most 32'
    """
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    message = message.replace("must be less ", "must be at most ")
    message = message.replace("must be greater ", "must be at least ")
    given, found, choices = message.partition(" is not one of ")
    names = re.findall(r"'([^']*)'", choices)
    meant = difflib.get_close_matches(given.strip("'"), names, 1) if found else ()
    return f"{message} Did you mean '{meant[0]}'?" if meant else message


def _no_file(error: OSError) -> str:
    """What to do about a file, or stdout, that takes nothing; what a person cannot mend is raised as a bug."""
    if error.errno in _NO_WAY_OUT and error.filename is None:  # `zsas.files` names its files
        _let_go_of_stdout()
        return _no_way_out(error)
    if error.errno not in _NO_PLACE or error.filename is None:
        raise _bug(error) from None
    return f"{os.fsdecode(error.filename)} cannot be written ({error.strerror}); {remedy(error)}."


def _bug(error: Exception) -> Exception:
    """How a bug ends the command: in a sentence, or as it is for who wants to report it."""
    if os.environ.get("ZSAS_TRACEBACK"):
        return error
    complain(
        f"This should not have happened ({type(error).__name__}: {reason(error)}); "
        "set ZSAS_TRACEBACK=1, run it again and report what it prints."
    )
    return typer.Exit(1)


app = typer.Typer(name="zsas", cls=_Group, help=HELP, no_args_is_help=True, **OPTIONS)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", help="Print the version.", is_eager=True, callback=_say_version
        ),
    ] = False,
) -> None:
    pass


_root.__doc__ = HELP


def say(text: str, stdout: TextIO, bar: Progress | None = None) -> None:
    """A line on stdout; above the bar where both share a terminal.

    Raises:
        ZsasError: If it cannot be written: nobody reads any more, or a disk is full.
    """
    try:
        if bar is not None and stdout.isatty() and bar.console.is_terminal:
            _print_above(bar, text)
        else:
            print(text, flush=True, file=stdout)
    except OSError as error:
        _let_go_of_stdout()
        raise ZsasError(_no_way_out(error)) from None


def say_json(values: Any, stdout: TextIO) -> None:
    """One line of JSON on stdout, in ASCII: any terminal and any pipe can hold it."""
    say(json.dumps(values), stdout)


def one_line(text: str) -> str:
    r"""Text in which line ends and other control characters, which a file name may hold, are written out.

    Example:
        >>> one_line("a\nb\x1b[31m.png: Normal")
        'a\\nb\\x1b[31m.png: Normal'
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda one: repr(one.group())[1:-1], text)


def names(given: str | Sequence[str] | None) -> list[str]:
    """Names separated by commas, of a flag or of one that was given again and again: "a,b" as ["a", "b"]."""
    texts = [given] if isinstance(given, str) else given or ()
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def complain(sentence: str, bar: Progress | None = None) -> None:
    """A sentence on stderr; above the bar where there is one."""
    sentence = one_line(sentence)
    if bar is not None:
        _print_above(bar, f"zsas: {sentence}")
    else:
        with contextlib.suppress(OSError, AttributeError):  # stderr may be closed as well
            print(f"zsas: {sentence}", file=sys.stderr)


def _print_above(bar: Progress, text: str) -> None:
    """A line as it is: a name may hold what the library reads as markup, or as an emoji (":ok:")."""
    bar.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


class Notes:
    """What was noted when images were read; notes that differ by numbers alone count as one."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[str, list[str]]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, name: str, notes: Iterable[str]) -> list[str]:
        """Gather the notes on an image; those that are the first of their kind."""
        first = []
        for note in notes:
            kind = re.sub(r"[\d.,]+", "#", note)
            self._counts[kind] += 1
            _, named = self._kinds.setdefault(kind, (note, []))
            if not named:
                first.append(note)
            if len(named) < 3:
                named.append(name)
        return first

    def sentences(self) -> Iterator[str]:
        """A sentence for each kind: on how many images, on which, and what."""
        from zsas.stages import counted

        for kind, (note, named) in self._kinds.items():
            count = self._counts[kind]
            more = ", …" if count > 3 else ""
            yield f"Note on {counted(count, 'image')} ({', '.join(named)}{more}): {note}."


def progress_bar() -> Progress:
    """A bar on stderr: stdout belongs to the results, and may be a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,
    )


def delegate(name: str, module: str, help: str) -> None:
    """Add a command with flags of its own, whose module is imported when it is called."""

    @app.command(
        name,
        help=help,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def command(ctx: typer.Context) -> None:
        import importlib

        part = typer.main.get_command(importlib.import_module(module).app)
        code = part.main(args=ctx.args, prog_name=f"zsas {name}", standalone_mode=False)
        if isinstance(code, int) and code:
            raise typer.Exit(code)


def main() -> None:
    """Run the command; the entry point of the package."""
    if sys.stdout is None:  # closed by the caller
        complain(_no_way_out(None))
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may be no valid text
    code: Any = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    try:
        sys.stdout.flush()
    except OSError as error:
        _let_go_of_stdout()
        complain(_no_way_out(error))
        code = 2
    sys.exit(code)


def _no_way_out(error: OSError | None) -> str:
    why = f"({error.strerror})" if error is not None else "(it is closed)"
    return f"What is to be printed cannot be written to stdout {why}."


def _let_go_of_stdout() -> None:
    """Python writes what is left when it ends, and would fail once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
