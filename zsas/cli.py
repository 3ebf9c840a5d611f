"""The `zsas` command.

Exit codes: 0 all done, 1 a bug, 2 bad usage or input, 130 interrupted. What a person can mend is one
sentence on stderr, never a traceback. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import collections
import json as json_text
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from zsas import __version__, flags
from zsas.errors import ZsasError
from zsas.flags import settings_page, with_knobs
from zsas.models import presets
from zsas.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress


class _Group(TyperGroup):
    """Turns what a person can mend into a sentence and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ZsasError as error:
            _complain(str(error))
            raise typer.Exit(2) from None
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except Exception as error:  # a bug, which is ours and not the reader's
            if os.environ.get("ZSAS_TRACEBACK"):
                raise
            _complain(
                f"This should not have happened ({_first_line(error)}); "
                "set ZSAS_TRACEBACK=1, run it again and report what it prints."
            )
            raise typer.Exit(1) from None


app = typer.Typer(
    name="zsas",
    cls=_Group,
    help="Zero-shot anomaly segmentation: what is wrong on a photo, where, and why.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    """Zero-shot anomaly segmentation: what is wrong on a photo, where, and why."""


models_app = typer.Typer(help="List the presets, or fetch the weights of one.")
app.add_typer(models_app, name="models")


@app.command()
@with_knobs
def segment(
    images: Annotated[
        list[str],
        typer.Argument(help="Images, and folders of images.", metavar="IMAGE_OR_FOLDER"),
    ],
    settings: Settings,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; each image gets one of its own.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None,
    stages: Annotated[
        bool, typer.Option("--stages", metavar="", help="Write a picture of every stage.")
    ] = False,
    json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print one line of JSON for each image on stdout."),
    ] = False,
    preset: flags.Preset = None,
    clip: flags.Clip = None,
    sam: flags.Sam = None,
    adapter: flags.Adapter = None,
    device: flags.Device = None,
    precision: flags.Precision = flags.PrecisionName.auto,
    engine: flags.EngineName = flags.Engine.local,
    address: flags.Address = None,
    workers: flags.Workers = None,
    gpus_per_worker: flags.GpusPerWorker = None,
) -> None:
    """Find what is wrong on photos and write masks, score maps and results.

    An image called gear.png gets DIR/gear/ with mask.png, score.png (16 bits), overlay.png and
    result.json. With --engine ray it gets DIR/masks/gear.png.png and a row of the Parquet files
    in DIR/results/.
    """
    if out is None and not json:
        raise typer.BadParameter("say where the results go with --out DIR, or ask for --json")
    if out is None and stages:
        raise typer.BadParameter("--stages writes pictures: say where with --out DIR")
    if not all(images):
        raise typer.BadParameter("an image or folder has an empty name")
    model = {
        "preset": preset,
        "clip": clip,
        "sam": sam,
        "adapter": adapter,
        "device": device,
        "precision": precision.value,
    }
    if engine is flags.Engine.ray:
        from zsas import scale

        if out is None:
            raise typer.BadParameter("--engine ray writes files: say where with --out DIR")
        rows = scale.segment(
            images,
            out,
            settings,
            model=model,
            stages=stages,
            address=address,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
        )
        total = None
    else:
        flags.refuse_without_ray(address=address, workers=workers, gpus_per_worker=gpus_per_worker)
        jobs = plan_outputs(images, out)
        rows = _segment_here(jobs, settings, model, stages)
        total = len(jobs)
    stdout = sys.stdout
    # Ray tells of a worker's death on stdout, which belongs to the results.
    with redirect_stdout(sys.stderr) if engine is flags.Engine.ray else nullcontext():
        failed = _report(rows, total, json=json, out=out, stdout=stdout)
    if failed:
        raise typer.Exit(2)


def plan_outputs(sources: list[str], out: Path | None) -> list[tuple[Path, Path | None]]:
    """Each image with the folder for its results.

    The folders below a named folder are kept; with several named folders each adds its own name.
    Images whose names differ only by their suffix get it in the name ("gear_png", "gear_jpg"), and
    a number follows where that is not enough. Of a named folder, results are left out: mask, score map, overlay
    and stages beside a `result.json`, and everything below `out` where that is a folder inside the named one.

    Raises:
        ZsasError: If there is no image at all, an image is at an address, or `out` cannot be made.
    """
    from zsas.images import find_images, is_result

    several = sum(os.path.isdir(source) for source in sources) > 1
    found: dict[Path, Path] = {}
    for source in sources:
        if "://" in source:
            raise ZsasError(f"{source} is an address; photos at addresses need --engine ray.")
        root = Path(os.path.expanduser(source))
        is_folder = os.path.isdir(root)
        inside = out is not None and root.resolve() in out.resolve().parents
        for path in find_images([root]):
            below = inside and out is not None and path.resolve().is_relative_to(out.resolve())
            if is_folder and (below or is_result(path)):
                continue
            name = path.relative_to(root) if is_folder else Path(path.name)
            if is_folder and several:
                name = root.resolve().name / name
            found.setdefault(path, name)
    if not found:
        raise ZsasError(
            f"There is no image in {', '.join(sources)}; name an image, or a folder with images."
        )
    if out is None:
        return [(path, None) for path in found]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZsasError(
            f"The folder {out} cannot be made ({error.strerror}); choose another one with --out."
        ) from None
    # Compared in lower case: some file systems do not tell Gear from gear.
    stems = collections.Counter(str(name.with_suffix("")).lower() for name in found.values())
    taken: set[str] = set()
    jobs: list[tuple[Path, Path | None]] = []
    for path, name in found.items():
        folder = name.with_suffix("")
        if stems[str(folder).lower()] > 1:
            folder = name.with_name(name.name.replace(".", "_"))
        candidate, number = folder, 2
        while str(candidate).lower() in taken:
            candidate, number = folder.with_name(f"{folder.name}_{number}"), number + 1
        taken.add(str(candidate).lower())
        jobs.append((path, out / candidate))
    return jobs


def _segment_here(
    jobs: list[tuple[Path, Path | None]], settings: Settings, model: dict[str, Any], stages: bool
) -> Iterator[dict[str, Any]]:
    """One row for each image: its result as JSON types, or what is wrong with it in a sentence."""
    from zsas import models

    preset = models.preset_named(model["preset"] or models.default_preset())
    # A missing model is said at once, without torch; an adapter and a device are looked at first, with it.
    if not (model["adapter"] or model["device"]):
        models.Models(models.ModelChoice(preset.name, model["clip"], model["sam"])).fetch(
            "clip", "sam"
        )

    from zsas.device import keep_freed_memory
    from zsas.images import load_image
    from zsas.pipeline import Segmenter

    keep_freed_memory()
    segmenter = Segmenter.from_preset(**model, cache_bytes=0)  # each photo is seen once
    for path, folder in jobs:
        row: dict[str, Any] = {"image": str(path)}
        try:
            result = segmenter(load_image(path), settings)
            if folder is not None:
                result.save(folder, stages=stages)
                row["folder"] = str(folder)
            row.update(result.to_dict())
        except ZsasError as error:
            row["error"] = str(error)
        except Exception as error:  # one photo must not stop the rest
            row["error"] = f"{path} could not be segmented ({_first_line(error)})."
        yield row


def _report(
    rows: Iterator[dict[str, Any]],
    total: int | None,
    *,
    json: bool,
    out: Path | None,
    stdout: TextIO,
) -> int:
    """Print each row as it comes, with a bar on stderr for several; counts the failures."""
    done = failed = anomalous = 0
    bar = _progress() if total is None or total > 1 else None
    with bar or nullcontext():
        task = bar.add_task("Segmenting", total=total) if bar else None
        for row in rows:
            done += 1
            anomalous += bool(row.get("anomalous"))
            if "error" in row:
                failed += 1
                _complain(row["error"], bar)
            if json:
                _say(json_text.dumps(row), stdout)  # ASCII: any terminal and any pipe can hold it
            elif "error" not in row:
                _say(f"{row['image']}: {row['verdict']}", stdout, bar)
            if bar and task is not None:
                bar.advance(task)
    if bar:
        bad = f", {failed} could not be done" if failed else ""
        where = f"; results in {out}" if out else ""
        print(f"{done} images, {anomalous} anomalous{bad}{where}.", file=sys.stderr)
    return failed


def _progress() -> Progress:
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
        # Stdout belongs to the results, and may be a pipe.
        redirect_stdout=False,
    )


def _say(text: str, stdout: TextIO, bar: Progress | None = None) -> None:
    """A line on stdout; above the bar where both share a terminal."""
    if bar is not None and stdout.isatty():
        bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        print(text, flush=True, file=stdout)


def _complain(sentence: str, bar: Progress | None = None) -> None:
    """A sentence on stderr; above the bar where there is one."""
    if bar is not None:
        bar.console.print(f"zsas: {sentence}", markup=False, highlight=False, soft_wrap=True)
    else:
        print(f"zsas: {sentence}", file=sys.stderr)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


@models_app.callback(invoke_without_command=True)
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


@models_app.command("fetch")
def fetch_model(preset: Annotated[str, typer.Argument(help=f"{presets.names()}.")]) -> None:
    """Download the weights of a preset, so that it works without a network afterwards."""
    from zsas.models import fetch, is_here, preset_named

    chosen = preset_named(preset)
    if is_here(chosen):
        print(f"{preset} is already here.")
        return
    fetch(chosen)
    print(f"{preset} is here now.")


@models_app.command("convert")
def convert_model(
    file: Annotated[
        Path, typer.Argument(help="open_clip's .safetensors or .pt file.", dir_okay=False)
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

    made = convert(file, out, activation=activation, tokenizer=tokenizer)
    print(f"{out} is a CLIP with the activation {made.activation} now: use it with --clip {out}.")
    if made.note:
        print(made.note)


def _bytes_on_disk(*folders: str) -> int:
    """Size of the models that are local folders."""
    return sum(file.stat().st_size for folder in folders for file in Path(folder).glob("*.*"))


def _size_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@app.command("settings")
def print_settings() -> None:
    """Print every setting with its range, default and meaning, as Markdown."""
    print(settings_page(), end="")


def _delegate(name: str, module: str, help: str) -> None:
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


_delegate("evaluate", "zsas.evaluation.cli", "Measure on a data set, with the paper's ablations.")
_delegate("train", "zsas.training.cli", "Train the linear layers of a localizer.")


def main() -> None:
    """Run the command; the entry point of the package."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may be no valid text
    app()
