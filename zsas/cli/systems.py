"""`zsas systems`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer


def list_systems(
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="As JSON.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", metavar="", help="The table of docs/systems.md.")
    ] = False,
) -> None:
    """List the systems: what each needs, and which presets can run it here or why not."""
    from zsas import catalogue

    if markdown:
        print(catalogue.table(), end="")
        return
    found = catalogue.entries()
    if as_json:
        print(json.dumps([entry.to_dict() for entry in found]))
        return
    from rich.console import Console
    from rich.table import Column, Table

    presets = list(found[0].presets)
    table = Table(
        Column("system", no_wrap=True),
        "what",
        Column("paper", no_wrap=True),
        Column("models", no_wrap=True),
        "learned weights",
        *(Column(preset, no_wrap=True) for preset in presets),
    )
    # Reasons are long and shared by many cells: each stands once, below the table.
    numbers: dict[str, int] = {}
    for entry in found:
        states = [entry.presets[preset] for preset in presets]
        for state in states:
            if state != catalogue.RUNS:
                numbers.setdefault(state, len(numbers) + 1)
        table.add_row(
            entry.name, entry.title, entry.paper, ", ".join(entry.roles), ", ".join(entry.weights),
            *("yes" if state == catalogue.RUNS else f"({numbers[state]})" for state in states),
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table, markup=False)
    for state, number in numbers.items():
        console.print(f"({number}) {state}", markup=False, highlight=False)
