"""`zsas evaluate`: a data set in, a folder with figures, tables, curves and pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsas import flags
from zsas.cli.root import OPTIONS, progress_bar
from zsas.extras import require
from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.distributed.ray import Cluster
    from zsas.models import ModelChoice

app = typer.Typer(**OPTIONS)

_DATA = "Data"


# Long because every flag is declared here.
@app.command()
@flags.with_settings
@flags.with_models
@flags.with_cluster
def evaluate(
    dataset: Annotated[
        str,
        typer.Argument(
            help="mvtec, visa, folder (MVTec-AD's layout) or flat (with optional masks)."
        ),
    ],
    settings: Settings,
    choice: ModelChoice,
    cluster: Cluster | None,
    batch: flags.Batch = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the report; a killed run goes on there. By default one in runs/, named after the "
            "data set, --root and --preset.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            help="Its folder, or an address such as s3://bucket/folder; mvtec and visa come from the Hub without it.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option(help="Only these, separated by commas or given again.", rich_help_panel=_DATA),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="At most this many images of each category.", min=1, rich_help_panel=_DATA
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Revision on the Hub.", rich_help_panel=_DATA)
    ] = None,
    side: Annotated[
        int,
        typer.Option(
            help="Longest side at which maps and masks are compared; 0 is each image's own.",
            min=0,
            max=4096,
            rich_help_panel=_DATA,
        ),
    ] = 0,
    ablate: Annotated[
        list[str] | None,
        typer.Option(help="cascade (1, 2, 3 steps), kernel (3 shapes × 3 sizes), or both."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="Values of one setting, as k_positive=1,3,5; may be given again."),
    ] = None,
    systems: Annotated[
        list[str] | None,
        typer.Option(
            help="A row for each of these systems, separated by commas; table1 means those of papers."
        ),
    ] = None,
    refiners: Annotated[
        list[str] | None,
        typer.Option(help="Each behind every system's map: own, none, cascade."),
    ] = None,
) -> None:
    """Measure on a data set: pixel and image metrics, the paper's ablations, sweeps of any setting.

    Every image is encoded once, whatever number of conditions is asked for. DIR gets results.json, table.md,
    curves.png and index.html. The same command goes on where a killed one stopped.
    """
    require("evaluate")
    from zsas.datasets.load import load_dataset
    from zsas.evaluation.conditions import parse_sweep, plan
    from zsas.evaluation.run import measure_and_report

    conditions = plan(
        settings,
        _parts(ablate),
        parse_sweep(sweep or ()),
        systems=_parts(systems),
        refiners=_parts(refiners),
    )
    names = _parts(categories)
    data = load_dataset(dataset, root, categories=names, limit=limit, revision=revision)
    if data.licence:
        typer.echo(data.licence, err=True)
    if out is None:
        given = (dataset, Path(root).resolve().name if root else None, choice.preset)
        out = Path("runs", "-".join(name for name in given if name))
    with progress_bar() as bar:
        task = bar.add_task("measuring", total=len(data))
        results = measure_and_report(
            data,
            conditions,
            out,
            choice,
            side=side,
            batch=batch,
            cluster=cluster,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for name, sentence in results.get("cannot_run", {}).items():
        typer.echo(f"zsas: {name} was left out. {sentence}", err=True)
    for warning in results["warnings"]:
        typer.echo(f"zsas: {warning}", err=True)
    typer.echo((out / "table.md").read_text(encoding="utf-8"))


def _parts(texts: list[str] | None) -> list[str]:
    """Names that were given again and again, or separated by commas."""
    return [name.strip() for text in texts or () for name in text.split(",") if name.strip()]
