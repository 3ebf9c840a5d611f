"""`zsas models` and `zsas models fetch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zsas.models import presets

app = typer.Typer(help="List the presets, or fetch the weights of one.")


@app.callback(invoke_without_command=True)
def list_models(context: typer.Context) -> None:
    """List the presets with their size and whether they are here; `fetch` downloads one."""
    if context.invoked_subcommand:
        return
    from rich.console import Console
    from rich.table import Column, Table

    from zsas.models import PRESETS, default_preset, is_here

    table = Table(
        "preset",
        Column("CLIP", overflow="fold"),
        Column("SAM", overflow="fold"),
        Column("size", no_wrap=True),
        "here",
        "for",
    )
    for name, preset in PRESETS.items():
        here = is_here(preset)
        table.add_row(
            f"{name} (default)" if name == default_preset() else name,
            "in the package" if preset.bundled else preset.source("clip"),
            "in the package" if preset.bundled else preset.source("sam"),
            _size_text(_bytes_on_disk(*preset.roles.values()) or preset.size_bytes),
            "yes" if here else f"no: zsas models fetch {name}",
            preset.purpose,
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@app.command("fetch")
def fetch_model(preset: Annotated[str, typer.Argument(help=f"{presets.names()}.")]) -> None:
    """Download the weights of a preset, so that it works without a network afterwards."""
    from zsas.models import fetch, is_here, preset_named

    chosen = preset_named(preset)
    if is_here(chosen):
        print(f"{preset} is already here.")
        return
    fetch(chosen)
    print(f"{preset} is here now.")


def _bytes_on_disk(*folders: str) -> int:
    """Size of the models that are local folders."""
    return sum(file.stat().st_size for folder in folders for file in Path(folder).glob("*.*"))


def _size_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
