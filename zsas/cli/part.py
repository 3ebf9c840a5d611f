"""`zsas part create`, `show` and `update`: the profile of a part in one file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zsas import flags
from zsas.cli.root import OPTIONS, complain, say, say_json
from zsas.errors import ZsasError
from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.limits import Judged
    from zsas.models import ModelChoice
    from zsas.part import Part
    from zsas.segmenter import Segmenter

app = typer.Typer(help="The profile of a part: one file with what belongs to it.", **OPTIONS)

File = Annotated[Path, typer.Argument(help="The profile, as part.zsas.", metavar="FILE")]
Name = Annotated[str | None, typer.Option(help="What the part is called.", metavar="TEXT")]
MmPerPixel = Annotated[
    float | None,
    typer.Option(help="Millimetres that a pixel covers; areas are then also in mm²."),
]
Smallest = Annotated[
    str | None,
    typer.Option(help="The smallest anomaly that counts, as 0.5mm2 or 20px.", metavar="SIZE"),
]


# Long because every flag is declared here.
@app.command()
@flags.with_settings
@flags.with_models
def create(
    file: File,
    settings: Settings,
    choice: ModelChoice,
    name: Name = None,
    references: flags.References = None,
    region: flags.Region = None,
    ignore: flags.Ignore = None,
    mm_per_pixel: MmPerPixel = None,
    smallest: Smallest = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Replace a file that is there.")
    ] = False,
) -> None:
    """Make a profile: settings, good images, region, scale.

    With good images the limit comes from them, each compared with the others, unless --verdict-threshold names it.
    """
    if file.exists() and not force:
        raise ZsasError(
            f"{file} is there already; change it with zsas part update, or add --force to replace it."
        )
    from zsas.part import Part, check_file
    from zsas.region import load_regions

    scale = _scale(Part().scale, mm_per_pixel, smallest)
    part = Part(name or "", settings, None, load_regions(region, ignore), scale, choice.named())
    given = settings.given
    check_file(file)
    part = _with_models(part, references or (), "verdict_threshold" in given)
    part.save(file)
    _describe(file, part)


@app.command()
def show(
    file: File,
    json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the whole manifest as JSON.")
    ] = False,
) -> None:
    """Say what a profile holds; no model is loaded."""
    from zsas.part import Part

    part = Part.load(file)
    if json:
        say_json(part.to_dict(), sys.stdout)
    else:
        _describe(file, part)


# Long because every flag is declared here.
@app.command()
@flags.with_settings
@flags.with_models
def update(
    file: File,
    settings: Settings,
    choice: ModelChoice,
    name: Name = None,
    references: flags.References = None,
    region: flags.Region = None,
    ignore: flags.Ignore = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", metavar="", help="Take the region away.")
    ] = False,
    mm_per_pixel: MmPerPixel = None,
    smallest: Smallest = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(
            help="Propose the limit from verdicts: a CSV with file and verdict, or the page's results.csv or "
            "results.json. Nothing is written without --yes.",
            metavar="FILE",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Where the images of --verdicts lie, for those without a score; beside the file by default.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", metavar="", help="Take the limit that --verdicts proposes.")
    ] = False,
) -> None:
    """Change what is named, and keep the rest; or propose another limit from verdicts of a lot."""
    from zsas.part import Part, check_file
    from zsas.region import RegionOfInterest, load_regions

    old = Part.load(file)
    looked_at = old.region if not (region or ignore) else load_regions(region, ignore)
    part = replace(
        old,
        name=old.name if name is None else name,
        settings=old.chosen(settings),
        region=None if everywhere else looked_at,
        scale=_scale(old.scale, mm_per_pixel, smallest),
        models=old.choice(choice),
    )
    if "verdict_threshold" in settings.given:
        part = replace(part, limit_from="person")
    again = _encodes_anew(old, part, RegionOfInterest())
    if again and old.references and not references:
        raise ZsasError(
            f"{again} is another one now, so the good images must be remembered again; name them with --references."
        )
    if references or (again and part.models != old.models):
        check_file(file)
        part = _with_models(part, references or (), "verdict_threshold" in settings.given)
    if verdicts is not None:
        proposed = _proposed(part, verdicts, images)
        if not yes:
            say("Nothing is written; add --yes to take this limit.", sys.stdout)
            return
        part = proposed
    same = replace(part, references=None) == replace(old, references=None)
    if same and part.references is old.references:
        raise typer.BadParameter("say what is to be changed; zsas part update --help lists it")
    part.save(file)
    _describe(file, part)


def _scale(scale: Any, mm_per_pixel: float | None, smallest: str | None) -> Any:
    """A scale with what is named replaced."""
    from zsas.scale import parse_smallest

    changes: dict[str, Any] = {} if smallest is None else parse_smallest(smallest)
    if mm_per_pixel is not None:
        changes["mm_per_px"] = mm_per_pixel
    return replace(scale, **changes)


def _encodes_anew(old: Part, new: Part, none: Any) -> str:
    """What makes the good images' memory void, as the subject of a sentence; "" where it holds."""
    from zsas.beside import memory_key

    if (new.region or none).key != (old.region or none).key:
        return "The region"
    if new.settings.encoding_key != old.settings.encoding_key or (
        new.settings.system != old.settings.system
    ):
        return "The system or how it looks"
    # All but the object's name, which changes the limit alone.
    if memory_key(new.settings)[1:] != memory_key(old.settings)[1:]:
        return "How good images are compared"
    return "The choice of models" if new.models != old.models else ""


def _with_models(part: Part, references: Sequence[str], limit_is_named: bool) -> Part:
    """The part with its models' fingerprint, its good images, and the limit that they give."""
    segmenter = _load(part)
    part = replace(part, weights=segmenter.weights(part.settings))
    if limit_is_named:
        part = replace(part, limit_from="person")
    if not references:
        return part
    from zsas.memory import remember_files

    found, left_out = remember_files(segmenter, references, part.settings, part.region)
    for sentence in left_out:
        complain(f"Left out of the good images: {sentence}")
    part = replace(part, references=found)
    limit = None if limit_is_named else segmenter.limit_of(found, part.settings)
    if limit is None:
        return part
    settings = part.settings.replace(verdict_threshold=limit)
    return replace(part, settings=settings, limit_from="references")


def _load(part: Part) -> Segmenter:
    from zsas.bulk import load
    from zsas.segmenter import ENCODING_BYTES

    return load(part.models, part.settings, ENCODING_BYTES)


def _proposed(part: Part, file: Path, images: Path | None) -> Part:
    """The part with the limit that verdicts propose, which is said."""
    from zsas.limits import propose, read_verdicts

    judged = read_verdicts(file)
    if any(one.score is None for one in judged):
        judged = _scored(part, judged, images or file.parent)
    proposal = propose(judged, part.limit)
    say(proposal.sentence, sys.stdout)
    settings = part.settings.replace(verdict_threshold=proposal.limit)
    return replace(part, settings=settings, limit_from="verdicts")


def _scored(part: Part, judged: Sequence[Judged], folder: Path) -> list[Judged]:
    """The verdicts with the scores that the part gives; images that cannot be read are said and left out."""
    segmenter = _load(part)
    memory = part.memory(segmenter, part.settings)
    found = []
    for one in judged:
        if one.score is not None:
            found.append(one)
            continue
        try:
            encoding = segmenter.begin(folder / one.file, part.settings, part.region)
            score = segmenter.image_score(encoding, part.settings, memory, region=part.region)
        except ZsasError as error:
            complain(f"Left out of the verdicts: {error}")
            continue
        found.append(replace(one, score=score))
    return found


def _describe(file: Path, part: Part) -> None:
    references = part.references
    weights = f", weights {part.weights}" if part.weights else ""
    source = _FROM.get(part.limit_from, part.limit_from)
    if part.limit_from == "references" and references and len(references) == 1:
        source = "the good image, compared with changed copies of itself"
    lines = [
        f"{file}: {part.name or 'a part without a name'}",
        f"  object      {part.settings.object_name or 'not named'}",
        f"  system      {part.settings.system}, models {part.models.name}{weights}",
        f"  limit       {part.limit:g}, from {source}",
        "  good images "
        + (f"{len(references)}{_names(references.names)}" if references else "none"),
        f"  region      {_region_words(part)}",
        f"  scale       {_scale_words(part)}",
    ]
    say("\n".join(lines), sys.stdout)


_FROM = {
    "default": "the settings",
    "references": "the good images, each compared with the others",
    "person": "a person",
    "verdicts": "verdicts of a lot",
}


def _names(names: Sequence[str]) -> str:
    known = [name for name in names if name]
    if not known:
        return ""
    more = f" and {len(known) - 4} more" if len(known) > 4 else ""
    return f": {', '.join(known[:4])}{more}"


def _region_words(part: Part) -> str:
    from zsas.stages import counted

    if not part.region:
        return "the whole image"
    looks, ignores = len(part.region.look), len(part.region.ignore)
    where = counted(looks, "shape") if looks else "the whole image"
    return where + (f", {ignores} ignored" if ignores else "")


def _scale_words(part: Part) -> str:
    mm = part.scale.mm_per_px
    words = "not named" if mm is None else f"{mm:g} mm per pixel"
    least = part.scale.least_words
    return f"{words}; anomalies from {least} on count" if least else words
