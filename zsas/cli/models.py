"""`zsas models`, `zsas models fetch` and `zsas models convert`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zsas.models import PUBLISHED, presets

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
def fetch_model(
    name: Annotated[
        str,
        typer.Argument(
            help=f"{presets.names()}, or published weights: {', '.join(PUBLISHED)}.",
            metavar="PRESET_OR_WEIGHTS",
        ),
    ],
    system: Annotated[
        str | None,
        typer.Option(
            help="With a preset: what this system needs, also models that only it needs.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Download the models of a preset, or published weights, so that they work without a network afterwards."""
    from zsas.models import ModelChoice, Models, fetch, is_here, preset_named, weights_file
    from zsas.systems import system_named

    if ":" in name:
        print(f"{name} is here now: {weights_file(name)}")
        return
    chosen = preset_named(name)
    if system:
        wanted = system_named(system)
        Models(ModelChoice(name)).fetch_for(wanted.roles, wanted.localizers)
        print(f"What {system} needs under the preset {name} is here now.")
        return
    if is_here(chosen):
        print(f"{name} is already here.")
        return
    fetch(chosen)
    print(f"{name} is here now.")


@app.command("convert")
def convert_model(
    source: Annotated[
        str,
        typer.Argument(
            help="open_clip's .safetensors or .pt file, or a repository on the Hub with one.",
            metavar="FILE",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder to write, for --clip.", metavar="DIR", file_okay=False)
    ],
    activation: Annotated[
        str | None,
        typer.Option(
            help="gelu or quick_gelu, where neither file nor open_clip_config.json says it."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder with a tokenizer, or open_clip's bpe_simple_vocab_16e6.txt.gz; found by itself where one "
            "is beside the file or open_clip is installed."
        ),
    ] = None,
) -> None:
    """Convert a CLIP from open_clip's format into a folder that --clip takes."""
    from zsas.models.convert import convert
    from zsas.models.hub import open_clip_file

    made = convert(open_clip_file(source), out, activation=activation, tokenizer=tokenizer)
    print(f"{out} is a CLIP with the activation {made.activation} now: use it with --clip {out}.")
    if made.note:
        print(made.note)


def _bytes_on_disk(*folders: str) -> int:
    """Size of the models that are local folders."""
    return sum(file.stat().st_size for folder in folders for file in Path(folder).glob("*.*"))


def _size_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
