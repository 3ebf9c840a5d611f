"""`zsas evaluate`: a data set in, a folder with figures, tables, curves and pictures out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsas import flags
from zsas.cli.root import OPTIONS, names, progress_bar
from zsas.extras import require
from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.datasets.samples import Dataset, Sample
    from zsas.distributed.ray import Cluster
    from zsas.models import ModelChoice

app = typer.Typer(**OPTIONS)

_DATA = "Data"


# Long because every flag is declared here.
@app.command()
@flags.with_settings
@flags.with_models_in_several_formats
@flags.with_cluster
def evaluate(
    dataset: Annotated[
        str,
        typer.Argument(
            help="mvtec, visa, loco, folder (laid out as MVTec-AD or LOCO) or flat (with optional masks)."
        ),
    ],
    settings: Settings,
    choice: ModelChoice,
    precisions: list[str],
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
        int | None,
        typer.Option(
            help="Longest side at which maps and masks are compared; 0 is each image's own.",
            min=0,
            max=4096,
            show_default="0; with --systems table1 each system's published square",
            rich_help_panel=_DATA,
        ),
    ] = None,
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
            help="A row for each of these systems, separated by commas; table1 means those of papers, each under its "
            "published conditions and beside its published figures."
        ),
    ] = None,
    refiners: Annotated[
        list[str] | None,
        typer.Option(
            help="Each behind every system's map, separated by commas: own, none, cascade, mmr."
        ),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            help="How much good images help: numbers of them, as 0,1,2,4,8, drawn from train/good or else from "
            "test/good; writes shots.md and shots.json."
        ),
    ] = None,
    references: Annotated[
        list[str] | None,
        typer.Option(
            help="Images of good parts, or a folder of them, that all images are compared with; may be given several "
            "times. --shots draws its own.",
            metavar="IMAGE_OR_FOLDER",
        ),
    ] = None,
    part: flags.Part = None,
    region: flags.Region = None,
    ignore: flags.Ignore = None,
    batch_scoring: Annotated[
        bool,
        typer.Option(
            "--batch-scoring",
            metavar="",
            help="Compare the test images of each category with each other first: transductive figures, never beside "
            "those of single images.",
        ),
    ] = False,
    seeds: Annotated[int, typer.Option(help="Draws for --shots.", min=1, max=100)] = 3,
    draws: Annotated[
        int,
        typer.Option(
            help="Draws of the bootstrap behind the 95 % intervals and paired tests; 0 makes none.",
            min=0,
            max=100_000,
        ),
    ] = 1000,
) -> None:
    """Measure on a data set: pixel and image metrics, the paper's ablations, sweeps of any setting.

    Every image is encoded once, whatever number of conditions is asked for. DIR gets results.json, table.md,
    curves.png and index.html. The same command goes on where a killed one stopped.
    """
    require("evaluate")
    from zsas.cli.beside import opened
    from zsas.comparison import TABLE_1
    from zsas.datasets.load import load_dataset
    from zsas.errors import ZsasError
    from zsas.evaluation.conditions import as_published, in_each, parse_sweep, plan
    from zsas.evaluation.run import measure_and_report
    from zsas.evaluation.table_1 import with_published_weights
    from zsas.good import Good
    from zsas.stages import counted

    given = settings.given
    beside = opened(part, settings, choice, region, ignore)
    if beside is not None:
        settings, choice = beside.settings, beside.models
        if systems and "system" not in given:  # the profile's own is one of several
            settings = settings.replace(system=None, refiner=None)
    looked_at = beside.region if beside is not None else None
    conditions = plan(
        settings,
        names(ablate),
        parse_sweep(sweep or ()),
        systems=names(systems),
        refiners=names(refiners),
    )
    if TABLE_1 in names(systems):
        conditions = as_published(conditions, dataset, square=side is None)
        choice = with_published_weights(choice, dataset)
    conditions = in_each(conditions, precisions)
    conditions = [replace(one, region=looked_at) for one in conditions]
    side = side or 0
    chosen = names(categories)
    data = load_dataset(dataset, root, categories=chosen, limit=limit, revision=revision)
    if data.licence:
        typer.echo(data.licence, err=True)
    if out is None:
        called = (dataset, Path(root).resolve().name if root else None, choice.preset)
        out = Path("runs", "-".join(word for word in called if word))
    if shots is not None:
        if references:
            raise typer.BadParameter("--shots draws its own good images: leave --references out")
        if ablate or sweep or systems or refiners or batch_scoring or len(precisions) > 1:
            raise typer.BadParameter("--shots measures one choice of settings")
        from zsas.evaluation.shots import Plan, measure_shots, write_shots

        for note in data.notes:
            typer.echo(f"zsas: {note}", err=True)
        numbers = _numbers(shots)
        good = _good(data, dataset, root, revision) if any(numbers) else []
        drawn = Plan(data, tuple(good), settings, tuple(numbers), seeds, side, looked_at)
        with progress_bar() as bar:
            task = bar.add_task("measuring", total=len(data))
            measured = measure_shots(
                drawn,
                choice,
                out,
                cluster=cluster,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        typer.echo(write_shots(measured, out))
        return
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
            draws=draws,
            mutual=batch_scoring,
            good=Good(references or (), beside),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for name, sentence in results.get("cannot_run", {}).items():
        typer.echo(f"zsas: {name} was left out. {sentence}", err=True)
    for warning in results["warnings"]:
        typer.echo(f"zsas: {warning}", err=True)
    failed = results["unreadable"]
    if failed:
        images = counted(len(failed), "image")
        typer.echo(f"zsas: {images} could not be measured; the end of table.md says why.", err=True)
    typer.echo((out / "table.md").read_text(encoding="utf-8"))
    if failed and not results["images"]:
        raise ZsasError(f"No image could be measured. {next(iter(failed.values()))}")
    if failed:
        raise typer.Exit(2)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) <= 100 for part in parts):
        raise typer.BadParameter(f"--shots is numbers from 0 to 100, as 0,1,4, not {text!r}")
    return sorted({int(part) for part in parts})


def _good(data: Dataset, dataset: str, root: str | None, revision: str | None) -> list[Sample]:
    """Training images of the categories that have some; good test images are taken instead elsewhere."""
    from zsas.datasets.load import load_dataset
    from zsas.errors import ZsasError

    good: list[Sample] = []
    for category in data.categories:
        try:
            good += load_dataset(
                dataset, root, split="train", categories=[category], revision=revision
            )
        except ZsasError:
            if root is None:
                raise
    return good
