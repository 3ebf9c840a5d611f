"""How the command speaks: lines above a bar, and what they may hold."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from zsas.cli.root import complain, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr_is_terminal", [True, False])
def test_results_stay_on_stdout_where_stderr_is_a_file(stderr_is_terminal: bool) -> None:
    stdout: Any = Terminal()
    bar = Progress(console=Console(file=io.StringIO(), force_terminal=stderr_is_terminal))
    say("a:ok:b.png: Normal", stdout, bar)
    above: Any = bar.console.file
    assert ("Normal" in stdout.getvalue()) is not stderr_is_terminal
    assert ("Normal" in above.getvalue()) is stderr_is_terminal


def test_a_name_above_the_bar_is_no_emoji_and_no_markup() -> None:
    bar = Progress(console=Console(file=io.StringIO(), force_terminal=True))
    complain("a:ok:[b].png is empty", bar)
    above: Any = bar.console.file
    assert above.getvalue() == "zsas: a:ok:[b].png is empty\n"
