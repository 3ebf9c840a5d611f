"""Command-line flags that several commands share: one for each field of `Settings`, models, and many machines."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from zsas.models import PUBLISHED, presets
from zsas.settings import Knob, Settings, knobs

PANELS = {
    "localize": "Anomaly map",
    "points": "Region and points (eqs 1-8)",
    "cascade": "Cascade (eqs 9-12)",
    "fusion": "Fusion",
    "verdict": "Verdict",
}


class PrecisionName(StrEnum):
    """Number format of the encoders, by name."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Engine(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


MODELS, SCALE = "Models", "Many machines"

Preset = Annotated[
    str | None,
    typer.Option(
        help=f"{presets.names()}; {presets.ON_A_GPU} where there is a GPU, {presets.ON_A_CPU} elsewhere.",
        rich_help_panel=MODELS,
    ),
]
Clip = Annotated[
    str | None,
    typer.Option(
        help="CLIP from a Hub id or a folder instead of the preset's.", rich_help_panel=MODELS
    ),
]
Sam = Annotated[
    str | None,
    typer.Option(
        help="SAM from a Hub id, a folder or a checkpoint instead of the preset's.",
        rich_help_panel=MODELS,
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        help="Trained weights for a localizer, as linear=FILE: a file, or the name of published ones "
        f"({', '.join(PUBLISHED)}); may be given again.",
        metavar="LOCALIZER=FILE",
        rich_help_panel=MODELS,
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        help="The same as --weights linear=FILE: a .safetensors file, an APRIL-GAN .pth, april-gan:visa or "
        "april-gan:mvtec; training-free without (tiny brings its own).",
        rich_help_panel=MODELS,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1 or mps; the best there is by default.", rich_help_panel=MODELS
    ),
]
Precision = Annotated[
    PrecisionName, typer.Option(help="Number format of the encoders.", rich_help_panel=MODELS)
]
EngineName = Annotated[
    Engine, typer.Option(help="This process, or a Ray cluster (an extra).", rich_help_panel=SCALE)
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Ray: the cluster; a new one on this machine by default.", rich_help_panel=SCALE
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Ray: how many processes hold the models.", min=1, rich_help_panel=SCALE),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(help="Ray: the share of a GPU for each process.", min=0, rich_help_panel=SCALE),
]


def refuse_without_ray(**given: Any) -> None:
    """End with one sentence if a flag that only Ray reads was given, by parameter name."""
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"--{name.replace('_', '-')} needs --engine ray")


def flag_of(knob: Knob) -> str:
    """The flag of a knob: "--k-positive", and "--object" for the object name."""
    return "--object" if knob.name == "object_name" else "--" + knob.name.replace("_", "-")


def with_knobs(command: Callable[..., None]) -> Callable[..., None]:
    """Give a typer command a flag for every knob; it receives them all as one argument `settings`.

    Args:
        command: A function with a parameter `settings: Settings` beside its own.

    Returns:
        A function of the same name and help whose signature has the flags instead of `settings`.
        Calling it with a value out of range raises the `ZsasError` of `Settings`.
    """
    hints = typing.get_type_hints(Settings)
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "settings"
    ]
    flags = [
        inspect.Parameter(
            knob.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_option(knob),
            annotation=hints[knob.name],
        )
        for knob in knobs()
    ]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        settings = Settings(**{knob.name: values.pop(knob.name) for knob in knobs()})
        command(settings=settings, **values)

    wrapper.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *flags]}
    return wrapper


def _option(knob: Knob) -> Any:
    flag = flag_of(knob)
    names = f"{flag}/--no-{flag[2:]}" if knob.type is bool else flag
    text = knob.help
    if knob.type in (int, float):
        text += f" ({knob.range_text}{' ' + knob.unit if knob.unit else ''})"
    return typer.Option(
        knob.default,
        names,
        help=text,
        metavar="" if knob.type is bool else None,
        rich_help_panel=PANELS[knob.group],
    )


def settings_page() -> str:
    """Every knob as a page in Markdown, which is `docs/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Every knob of the method, made from `zsas/settings.py` by `zsas settings`. The same names",
        "are fields of `Settings`, arguments over HTTP and sliders on the page. A value out of",
        "range is refused with the name, the value and the range. Only the knobs marked with *",
        "need the photo encoded again; after a change of any other, the image is decided again from",
        "what is kept (a new object name encodes its sentences, once).",
    ]
    group = ""
    for knob in knobs():
        if knob.group != group:
            group = knob.group
            lines += [
                "",
                f"## {PANELS[group]}",
                "",
                "| field | flag | default | range | unit | symbol | meaning |",
                "| --- | --- | --- | --- | --- | --- | --- |",
            ]
        cells = (
            f"`{knob.name}`{'*' if knob.encoding else ''}",
            f"`{flag_of(knob)}`",
            _shown(knob.default),
            knob.range_text,
            knob.unit,
            knob.symbol,
            knob.help,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, (int, float)) else value or "empty"
