"""`zsas segment`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from enum import StrEnum
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from zsas import flags
from zsas.cli.root import Notes, complain, one_line, progress_bar, say, say_json
from zsas.errors import ZsasError
from zsas.files import check_place, write_whole, writing
from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.bulk import Output, Row, Work
    from zsas.bulk.sheet import Line
    from zsas.distributed.ray import Cluster
    from zsas.models import ModelChoice
    from zsas.part import Part
    from zsas.report import Entry


ENCODINGS = 1_000_000_000
"""Bytes for encodings of a batch whose images are compared with each other before they are decided."""


class FormatName(StrEnum):
    """How results are laid out."""

    folders = "folders"
    table = "table"


class Finding(StrEnum):
    """What `--fail-on` may name."""

    anomalous = "anomalous"


# Long because every flag is declared here.
@flags.with_settings
@flags.with_models
@flags.with_cluster
def segment(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Images, and folders of images, here or at addresses such as s3://bucket/folder.",
            metavar="IMAGE_OR_FOLDER",
        ),
    ],
    settings: Settings,
    choice: ModelChoice,
    cluster: Cluster | None,
    batch: flags.Batch = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results.", metavar="DIR", file_okay=False),
    ] = None,
    format: Annotated[
        FormatName,
        typer.Option(help="A folder for each image, or masks and one table (Parquet) for all."),
    ] = FormatName.folders,
    stages: flags.Stages = False,
    json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print one line of JSON for each image on stdout."),
    ] = False,
    page: Annotated[
        str,
        typer.Option(
            help="The page or frame of files with several, from 1; all for each, as an image of its own.",
            metavar="NUMBER|all",
            show_default="the first",
        ),
    ] = "0",
    bits: flags.Bits = 0,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write one HTML file for people, with all images; it opens with a double click.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Write a table for a spreadsheet: a line for each image with verdict, score, regions and areas.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
    references: flags.References = None,
    batch_scoring: Annotated[
        bool,
        typer.Option(
            "--batch-scoring",
            metavar="",
            help="Compare the images with each other: at least 5 of the same product, mostly good.",
        ),
    ] = False,
    part: flags.Part = None,
    region: flags.Region = None,
    ignore: flags.Ignore = None,
    fail_on: Annotated[
        Finding | None,
        typer.Option(
            help="End with exit code 1 where an image is anomalous, for scripts; --unsure-as says what unsure is."
        ),
    ] = None,
) -> None:
    """Find what is wrong on images and write masks, score maps and results.

    An image called gear.png gets DIR/gear/ with mask.png, score.png (16 bits), overlay.png and
    result.json, and a line of DIR/results.jsonl. With --format table it gets DIR/masks/gear.png
    and a row of the Parquet files in DIR/results/. The same command goes on where a killed one
    stopped.
    """
    if out is None and not json and report is None and csv is None:
        raise typer.BadParameter(
            "say where the results go with --out DIR, or ask for --json, --report or --csv"
        )
    if out is None and stages:
        raise typer.BadParameter("--stages writes pictures: say where with --out DIR")
    if out is None and cluster is not None:
        raise typer.BadParameter("--engine ray writes files: say where with --out DIR")
    if out is None and format is FormatName.table:
        raise typer.BadParameter("--format table writes files: say where with --out DIR")
    if not all(images):
        raise typer.BadParameter("an image or folder has an empty name")
    if page != "all" and not page.isdecimal():
        raise typer.BadParameter(f"--page is a number from 1, or all, not {page!r}")
    from zsas.bulk import Output, Reading, prepare
    from zsas.cli.beside import opened

    beside = opened(part, settings, choice, region, ignore)
    if beside is not None:
        settings, choice = beside.settings, beside.models
    output = Output(out.absolute() if out and cluster else out, format.value, stages)
    reading = Reading("all" if page == "all" else int(page), bits)
    given = references or ()
    work = prepare(images, output, settings, choice, reading, given, batch_scoring, beside)
    if report is not None:
        from zsas.report import check_report

        check_report(report)
    if csv is not None:
        with _writing(csv):
            check_place(csv)
    rows = _rows(work, settings, choice, output, batch, cluster, given, batch_scoring, beside)
    stdout = sys.stdout
    entries: list[Entry] = []
    lines: list[Line] = []
    if csv is not None:
        rows = _listed(rows, lines)
    # Ray tells of a worker's death on stdout, which belongs to the results.
    with redirect_stdout(sys.stderr) if cluster is not None else nullcontext():
        failed, anomalous = _report(
            _kept(rows, work, entries, output) if report else rows,
            len(work.jobs),
            json=json,
            out=out,
            stdout=stdout,
        )
    if report is not None:
        from zsas.report import write_report

        write_report(entries, report)
    if csv is not None:
        from zsas.bulk.sheet import csv_bytes

        places = {job.image: place for place, job in enumerate(work.jobs)}
        with _writing(csv):
            write_whole(csv, csv_bytes(sorted(lines, key=lambda line: places[line.file])))
    if work.scan.left_out:
        print(one_line(work.scan.sentence), file=sys.stderr)
    if failed or work.scan.unreadable:
        raise typer.Exit(2)
    if fail_on is not None and anomalous:
        raise typer.Exit(1)


def _rows(
    work: Work,
    settings: Settings,
    choice: ModelChoice,
    output: Output,
    batch: int | None,
    cluster: Cluster | None,
    references: Sequence[str],
    batch_scoring: bool,
    part: Part | None,
) -> Iterator[Row]:
    """The rows that are there, then the new ones."""
    from zsas.bulk import compare_jobs, examine, load

    yield from work
    if not work.left:
        return
    from zsas.good import Good

    good = Good(references)
    region = part.region if part is not None else None
    if cluster is not None:
        from zsas.distributed.ray import loader
        from zsas.distributed.segment import segment as far

        if batch_scoring:
            from zsas.distributed.batch import segment_together

            load_far = loader(choice, settings)
            given = (settings, output, load_far, cluster, part, good)
            yield from work.keep(segment_together(work.jobs, work.left, *given))
            return
        yield from work.keep(
            far(work.left, settings, output, loader(choice, settings), cluster, part, good)
        )
        return
    # Each image is seen once, or twice where all are compared first.
    segmenter = load(choice, settings, cache_bytes=ENCODINGS if batch_scoring else 0)
    from zsas.device import default_batch, keep_freed_memory

    keep_freed_memory()
    batch = batch or default_batch(choice.device)
    memory = good.of(segmenter, settings, region)
    for sentence in good.left_out:
        print(f"Left out of the good images: {sentence}", file=sys.stderr)
    neighbours = None
    if batch_scoring:
        neighbours = compare_jobs(segmenter, work.jobs, settings, batch, region, _expect)
    rows = examine(segmenter, work.left, settings, output, batch, memory, neighbours, part)
    yield from work.keep(rows)


def _expect(images: int, seconds: float) -> None:
    words = f"Comparing {images} images with each other takes about {seconds:.0f} s."
    print(words, file=sys.stderr)


def _kept(rows: Iterator[Row], work: Work, entries: list[Entry], output: Output) -> Iterator[Row]:
    """The rows, each of which becomes an entry of the report on its way."""
    from zsas.bulk import read_job
    from zsas.report import Entry

    jobs = {job.image: job for job in work.jobs}
    for row in rows:
        if row.error:
            entries.append(Entry.failed(row.image, row.error))
        else:
            out = output.folder
            score = out / output.folder_of(row.name) / "score.png" if out is not None else None
            facts = loads(row.result)
            try:
                image = read_job(jobs[row.image]).pixels
                if image.shape[:2] != (facts["height"], facts["width"]):
                    raise ZsasError(
                        f"{row.image} has changed since it was examined; run this again."
                    )
                entries.append(Entry.stored(row.image, facts, image, score))
            except ZsasError as error:  # the file has gone meanwhile; its result stays
                entries.append(Entry.failed(row.image, str(error)))
        yield row


def _listed(rows: Iterator[Row], lines: list[Line]) -> Iterator[Row]:
    """The rows, each of which becomes a line of the table on its way."""
    from zsas.bulk.sheet import Line

    for row in rows:
        lines.append(Line.of(row))
        yield row


def _writing(table: Path) -> AbstractContextManager[None]:
    return writing(f"The table cannot be written to {table}", "name another file")


def _report(
    rows: Iterator[Row], total: int, *, json: bool, out: Path | None, stdout: TextIO
) -> tuple[int, int]:
    """Print each row as it comes, with a bar on stderr for several; counts failures and images that are not OK."""
    done = failed = anomalous = 0
    verdicts: Counter[str] = Counter()
    notes = Notes()
    bar = progress_bar() if total > 1 else None
    with bar or nullcontext():
        task = bar.add_task("Segmenting", total=total) if bar else None
        for row in rows:
            done += 1
            anomalous += not row.ok
            verdicts[row.verdict] += 1
            if row.error:
                failed += 1
                complain(row.error, bar)
            else:
                read = loads(row.result).get("input") or {}
                notes.add(Path(row.image).name, read.get("notes", ()))
            if json:
                say_json(row.shown(), stdout)
            elif not row.error:
                say(one_line(f"{row.image}: {row.sentence}"), stdout, bar)
            if bar and task is not None:
                bar.advance(task)
    if bar:
        bad = f", {failed} could not be done" if failed else ""
        where = f"; results in {out}" if out else ""
        unsure = f", {verdicts['unsure']} unsure" if verdicts["unsure"] else ""
        words = f"{done} images, {verdicts['anomalous']} anomalous{unsure}{bad}{where}."
        print(words, file=sys.stderr)
    for sentence in notes.sentences():
        print(one_line(sentence), file=sys.stderr)
    return failed, anomalous
