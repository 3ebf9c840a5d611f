"""The command `zsas` itself: its help, its exit codes, and how it speaks.

Exit codes: 0 all done, 1 a bug, or something that `--fail-on` names was found, 2 bad usage or input, 130 interrupted.
What a person can mend is one sentence on stderr, never a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from zsas import __version__
from zsas.errors import ZsasError, reason

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


class _Group(TyperGroup):
    """Turns what a person can mend into a sentence and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ZsasError as error:
            complain(str(error))
            raise typer.Exit(2) from None
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except Exception as error:  # a bug, which is ours and not the reader's
            if os.environ.get("ZSAS_TRACEBACK"):
                raise
            complain(
                f"This should not have happened ({type(error).__name__}: {reason(error)}); "
                "set ZSAS_TRACEBACK=1, run it again and report what it prints."
            )
            raise typer.Exit(1) from None


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
    """A line on stdout; above the bar where both share a terminal."""
    if bar is not None and stdout.isatty():
        bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        print(text, flush=True, file=stdout)


def say_json(values: Any, stdout: TextIO) -> None:
    """One line of JSON on stdout, in ASCII: any terminal and any pipe can hold it."""
    say(json.dumps(values), stdout)


def complain(sentence: str, bar: Progress | None = None) -> None:
    """A sentence on stderr; above the bar where there is one."""
    if bar is not None:
        bar.console.print(f"zsas: {sentence}", markup=False, highlight=False, soft_wrap=True)
    else:
        print(f"zsas: {sentence}", file=sys.stderr)


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
    if sys.stdout is None or sys.stderr is None:  # closed by the caller
        os._exit(_no_output())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may be no valid text
    try:
        app()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EBADF, errno.ENOSPC, errno.EINVAL):
            raise
        os._exit(_no_output(error))


def _no_output(error: OSError | None = None) -> int:
    """Say on stderr, if it is there, that results had no way out; the exit code."""
    why = f" ({error.strerror})" if error is not None else ""
    sentence = f"zsas: What is to be printed cannot be written to stdout{why}.\n"
    with contextlib.suppress(OSError):
        os.write(2, sentence.encode())
    return 2
