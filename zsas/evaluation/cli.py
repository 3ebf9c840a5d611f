"""`zsas evaluate`: a data set in, a folder with figures, tables, curves and pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zsas import flags
from zsas.flags import with_knobs
from zsas.settings import Settings

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

CACHE_BYTES, CACHE_BYTES_A_PHOTO = 250_000_000, 50_000_000
"""Encodings in memory: all conditions of a batch share them, those at another resolution, too."""

_DATA = "Data"


@app.command()
@with_knobs
def evaluate(
    dataset: Annotated[
        str,
        typer.Argument(
            help="mvtec, visa, folder (MVTec-AD's layout) or flat (with optional masks)."
        ),
    ],
    settings: Settings,
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
    preset: flags.Preset = None,
    clip: flags.Clip = None,
    sam: flags.Sam = None,
    adapter: flags.Adapter = None,
    device: flags.Device = None,
    precision: flags.Precision = flags.PrecisionName.auto,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Images encoded together; 16 on a GPU, else 1.",
            min=1,
            rich_help_panel=flags.MODELS,
        ),
    ] = None,
    engine: flags.EngineName = flags.Engine.local,
    address: flags.Address = None,
    workers: flags.Workers = None,
    gpus_per_worker: flags.GpusPerWorker = None,
) -> None:
    """Measure on a data set: pixel and image metrics, the paper's ablations, sweeps of any setting.

    Every image is encoded once, whatever number of conditions is asked for. DIR gets results.json, table.md,
    curves.png and index.html. The same command goes on where a killed one stopped.
    """
    from zsas.datasets.load import load_dataset
    from zsas.evaluation.conditions import parse_sweep, plan

    if engine is flags.Engine.local:
        flags.refuse_without_ray(address=address, workers=workers, gpus_per_worker=gpus_per_worker)
    conditions = plan(settings, _parts(ablate), parse_sweep(sweep or ()))
    names = _parts(categories)
    data = load_dataset(dataset, root, categories=names, limit=limit, revision=revision)
    if data.licence:
        typer.echo(data.licence, err=True)
    model = {
        "preset": preset,
        "clip": clip,
        "sam": sam,
        "adapter": adapter,
        "device": device,
        "precision": precision.value,
    }
    if out is None:
        given = (dataset, Path(root).resolve().name if root else None, preset)
        out = Path("runs", "-".join(name for name in given if name))
    results = measure_and_report(
        data,
        conditions,
        out,
        model=model,
        side=side,
        batch=batch,
        ray=None
        if engine is flags.Engine.local
        else {"address": address, "workers": workers, "gpus_per_worker": gpus_per_worker},
    )
    for warning in results["warnings"]:
        typer.echo(f"zsas: {warning}", err=True)
    typer.echo((out / "table.md").read_text(encoding="utf-8"))


def _parts(texts: list[str] | None) -> list[str]:
    """Names that were given again and again, or separated by commas."""
    return [name.strip() for text in texts or () for name in text.split(",") if name.strip()]


def measure_and_report(
    data: Any,
    conditions: Any,
    out: Path,
    *,
    model: dict[str, Any],
    side: int = 0,
    batch: int | None = None,
    ray: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure what is not yet measured in `out`, and write the report.

    Args:
        data: A `Dataset`.
        conditions: From `zsas.evaluation.conditions.plan`.
        out: Folder of the run.
        model: Arguments of `Segmenter.from_preset`.
        side: See `zsas.evaluation.run.measure`.
        batch: Images encoded together; None takes 16 on a GPU and 1 elsewhere.
        ray: Arguments of the Ray engine, None for this process.

    Returns:
        What is in results.json.
    """
    import rich.progress
    import torch
    from rich.console import Console

    from zsas.device import keep_freed_memory, pick_device
    from zsas.evaluation import run
    from zsas.evaluation.identity import identity, leakage
    from zsas.evaluation.records import Store
    from zsas.evaluation.report import write_report
    from zsas.pipeline import Segmenter

    keep_freed_memory()
    if ray is None:
        batch = batch or (16 if pick_device(model.get("device")).type == "cuda" else 1)
    cache_bytes = CACHE_BYTES + CACHE_BYTES_A_PHOTO * (batch or 1)
    segmenter = Segmenter.from_preset(**model, cache_bytes=cache_bytes)
    facts = identity(data, conditions, segmenter, side)
    store = Store(out, facts, len(conditions))
    columns = (
        rich.progress.TextColumn("measuring"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(data))

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if ray is None:
            run.evaluate(
                segmenter, data, conditions, store, side=side, batch=batch or 1, progress=show
            )
        else:
            from zsas import scale

            del segmenter  # its memory belongs to the workers now
            torch.cuda.empty_cache()  # does nothing without a GPU
            scale.evaluate(
                data, conditions, store, model=model, side=side, batch=batch, progress=show, **ray
            )
            # The driver has not measured anything: these two are the workers' own.
            facts["models"] |= {
                "device": "Ray workers",
                "precision": model.get("precision", "auto"),
            }
    return write_report(
        store,
        data,
        conditions,
        {"models": facts["models"], "side": side},
        leakage(data, facts["models"]),
    )
