"""Command-line flags that several commands share: one for each setting, the models, and many machines.

A command asks for what it needs by a parameter: `settings: Settings`, `choice: ModelChoice`, `cluster: Cluster | None`;
the decorators below replace that parameter by flags.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from zsas.declare import Setting
from zsas.models import PUBLISHED, ModelChoice, parse_weights, presets
from zsas.settings import Settings, all_groups, all_settings


class PrecisionName(StrEnum):
    """Number format of the encoders, by name."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


class RuntimeName(StrEnum):
    """What runs the vision encoders, by name."""

    torch = "torch"
    compile = "compile"
    openvino = "openvino"


class Engine(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


MODELS, SCALE, LOOK = "Models", "Many machines", "Part"

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
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1 or mps; the best there is by default.", rich_help_panel=MODELS
    ),
]
Precision = Annotated[
    PrecisionName, typer.Option(help="Number format of the encoders.", rich_help_panel=MODELS)
]
Batch = Annotated[
    int | None,
    typer.Option(
        help="Images encoded together; 16 on a GPU, else 1.", min=1, rich_help_panel=MODELS
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        help="A part profile from `zsas part`: settings, models, good images, region, scale; what is named beside it "
        "counts more.",
        metavar="FILE",
        rich_help_panel=LOOK,
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        help="Where to look: an image that is white there, or polygons and rectangles as JSON; what lies outside never "
        "counts.",
        metavar="FILE",
        rich_help_panel=LOOK,
    ),
]
Ignore = Annotated[
    str | None,
    typer.Option(
        help="What to leave out of sight, as --region: a fixture, a reflection that is always there.",
        metavar="FILE",
        rich_help_panel=LOOK,
    ),
]

References = Annotated[
    list[str] | None,
    typer.Option(
        help="Images of good parts of the same kind, or a folder of them; may be given several times.",
        metavar="IMAGE_OR_FOLDER",
    ),
]
Stages = Annotated[
    bool, typer.Option("--stages", metavar="", help="Write a picture of every stage.")
]
Bits = Annotated[
    int,
    typer.Option(
        help="Bits that a camera uses of values of 16, such as 12.",
        min=0,
        max=32,
        show_default="by the file",
    ),
]

Command = Callable[..., None]


def flag_of(setting: Setting) -> str:
    """The flag of a setting: "--k-positive", and "--object" for the object name."""
    return "--object" if setting.name == "object_name" else "--" + setting.name.replace("_", "-")


def with_settings(command: Command) -> Command:
    """Give a command a flag for every setting; it receives them all as one argument `settings`.

    A flag that is not given leaves its setting to the system.

    Args:
        command: A function with a parameter `settings: Settings` beside its own.

    Returns:
        A function of the same name and help whose signature has the flags instead of `settings`.
        Calling it with a value out of range raises the `ZsasError` of `Settings`.
    """
    flags = [_flag(one.name, _annotation(one), default=_option(one)) for one in all_settings()]
    with_words = [one for one in all_settings() if one.words]

    def make(values: dict[str, Any]) -> Settings:
        for one in with_words:
            if values[one.name] is not None:
                values[one.name] = one.parse(values[one.name])
        return Settings(**values)

    return _replaced(command, "settings", flags, make)


def with_models(command: Command) -> Command:
    """Give a command the flags of the models; it receives them as one argument `choice`, a `ModelChoice`."""

    def make(values: dict[str, Any]) -> Any:
        weights = parse_weights(values.pop("weights") or (), values.pop("adapter"))
        return ModelChoice(**_by_value(values), weights=weights)

    precision = _flag("precision", Precision, default=PrecisionName.auto)
    return _replaced(command, "choice", [*_model_flags(), precision], make)


def _model_flags() -> list[inspect.Parameter]:
    """All flags of the models but the number format."""
    return [
        _flag("preset", Preset),
        _flag("clip", Clip),
        _flag(
            "sam",
            str | None,
            "SAM from a Hub id, a folder or a checkpoint instead of the preset's.",
        ),
        _flag(
            "detector",
            str | None,
            "Detector of boxes from text (Grounding DINO), from a Hub id or a folder, for saa and saa+.",
        ),
        _flag(
            "saliency",
            str | None,
            "ResNet whose features saa+ compares, from a Hub id, a folder or one of torchvision's .pth files.",
        ),
        _flag(
            "features",
            str | None,
            "DINOv2 or ResNet for --point-features from a Hub id or a folder instead of the usual one.",
        ),
        _flag(
            "weights",
            list[str] | None,
            "Trained weights for a localizer, as linear=FILE: a file, or the name of published ones "
            f"({', '.join(PUBLISHED)}); may be given again.",
            metavar="LOCALIZER=FILE",
        ),
        _flag(
            "adapter",
            str | None,
            "The same as --weights linear=FILE: a .safetensors file, an APRIL-GAN .pth, april-gan:visa or "
            "april-gan:mvtec; training-free without (tiny brings its own).",
        ),
        _flag("device", Device),
        _flag(
            "drop_padding",
            bool,
            "SAM's encoder leaves out the padding of images that are not square: quicker, masks differ a little.",
            "--drop-padding",
            default=False,
        ),
        _flag(
            "runtime",
            RuntimeName,
            "What runs the vision encoders: torch, torch.compile, or OpenVINO on a CPU (an extra).",
            default=RuntimeName.torch,
        ),
    ]


def with_models_in_several_formats(command: Command) -> Command:
    """`with_models` for a command that can compare number formats.

    It receives their names as `precisions`, and `choice` with the first of them.
    """

    def make(values: dict[str, Any]) -> list[str]:
        names = [name.strip() for name in values["precision"].split(",") if name.strip()]
        for name in names:
            if name not in list(PrecisionName):
                raise typer.BadParameter(
                    f"--precision is some of {', '.join(PrecisionName)} with commas, not {name!r}"
                )
        if not names or len(set(names)) < len(names):
            raise typer.BadParameter("--precision names each number format once")
        return names

    def choice(values: dict[str, Any], precisions: str) -> Any:
        weights = parse_weights(values.pop("weights") or (), values.pop("adapter"))
        first: Any = precisions.partition(",")[0].strip()
        return ModelChoice(**_by_value(values), precision=first, weights=weights)

    several = _flag(
        "precision",
        str,
        f"Number format of the encoders ({', '.join(PrecisionName)}); several, as fp32,int8, are measured side by "
        "side.",
        default=PrecisionName.auto.value,
    )
    # Outer first: the flag is still there by name when the choice is made.
    chosen = _replaced(command, "precisions", [several], make)
    return _replaced(chosen, "choice", _model_flags(), choice, also=("precision",))


def with_cluster(command: Command) -> Command:
    """Give a command the flags of a Ray cluster; it receives a `Cluster` as `cluster`, or None for this process.

    The command has a parameter `batch` of its own, which the cluster gets as well.
    """

    def make(values: dict[str, Any], batch: int | None) -> Any:
        if values.pop("engine") is Engine.local:
            for name, value in values.items():
                if value is not None:
                    raise typer.BadParameter(f"--{name.replace('_', '-')} needs --engine ray")
            return None
        from zsas.distributed.ray import Cluster

        return Cluster(**values, batch=batch)

    text = "This process, or a Ray cluster (an extra)."
    flags = [
        _flag("engine", Engine, text, default=Engine.local, panel=SCALE),
        _flag(
            "address",
            str | None,
            "Ray: the cluster; a new one on this machine by default.",
            panel=SCALE,
        ),
        _flag(
            "workers",
            int | None,
            "Ray: how many processes hold the models.",
            panel=SCALE,
            min=1,
        ),
        _flag(
            "gpus_per_worker",
            float | None,
            "Ray: the fraction of a GPU for each process.",
            panel=SCALE,
            min=0,
        ),
    ]
    return _replaced(command, "cluster", flags, make, also=("batch",))


def _by_value(values: dict[str, Any]) -> dict[str, Any]:
    """Plain words for members of enumerations."""
    return {key: one.value if isinstance(one, StrEnum) else one for key, one in values.items()}


def _flag(
    name: str,
    kind: Any,
    help: str = "",
    *written: str,
    default: Any = None,
    panel: str = MODELS,
    **more: Any,
) -> inspect.Parameter:
    """A flag.

    Args:
        name: Of the parameter.
        kind: Its type; without `help`, annotated with its `Option` already.
        help: See `typer.Option`.
        written: How it is written, where typer's own way is another.
        default: Its value where it is not given.
        panel: Where the help lists it.
        more: For its `Option`.
    """
    if help:
        kind = Annotated[kind, typer.Option(*written, help=help, rich_help_panel=panel, **more)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=kind)


def _replaced(
    command: Command,
    argument: str,
    flags: Sequence[inspect.Parameter],
    make: Callable[..., Any],
    also: Sequence[str] = (),
) -> Command:
    """The command with one argument replaced by flags; its value is made from theirs and from those named in `also`."""
    own = [parameter for parameter in _parameters(command) if parameter.name != argument]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        chosen = {flag.name: values.pop(flag.name) for flag in flags}
        values[argument] = make(chosen, *(values[name] for name in also))
        command(**values)

    wrapper.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *flags]}
    return wrapper


_REPLACED = ("choice", "cluster", "precisions")


def _parameters(command: Command) -> list[inspect.Parameter]:
    """Parameters with annotations as objects; those that a decorator is still to replace may be text."""
    space = command.__globals__  # type: ignore[attr-defined]
    found = []
    for parameter in inspect.signature(command).parameters.values():
        if isinstance(parameter.annotation, str) and parameter.name not in _REPLACED:
            parameter = parameter.replace(annotation=eval(parameter.annotation, space))
        found.append(parameter)
    return found


def _annotation(setting: Setting) -> Any:
    """Type of the flag: choices are an enumeration, which typer lists in the help."""
    if setting.choices:
        enumeration: Any = StrEnum  # called with names that no type checker can know
        return enumeration(setting.name, {word: word for word in setting.choices}) | None
    return (str if setting.words else setting.type) | None


def _option(setting: Setting) -> Any:
    flag = flag_of(setting)
    names = f"{flag}/--no-{flag[2:]}" if setting.type is bool else flag
    text = setting.help
    if setting.type in (int, float):
        text += f" ({setting.range_text}{' ' + setting.unit if setting.unit else ''})"
    text += f" [default: {shown(setting.default)}]"
    return typer.Option(
        None,
        names,
        help=text,
        show_default=False,
        metavar=""
        if setting.type is bool
        else "|".join((*setting.words, "NUMBER"))
        if setting.words
        else None,
        rich_help_panel=next(g.title for g in all_groups() if g.key == setting.group),
    )


def shown(value: Any) -> str:
    """A setting's value in words: "on", "0.5", "empty"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, (int, float)) else value or "empty"
