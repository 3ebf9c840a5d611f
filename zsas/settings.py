"""Every knob of the method, once.

`Settings` is the only place where a knob is declared. Flags, sliders, the HTTP schema and the table in
`docs/settings.md` are made from `knobs()`, so they cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import numbers
import typing
from dataclasses import dataclass
from typing import Any, Literal

from zsas.errors import ZsasError

Localizer = Literal["auto", "linear", "training_free"]
ThresholdMode = Literal["absolute", "relative", "quantile", "otsu"]
SpacingMode = Literal["distance", "stride"]
KernelShape = Literal["ellipse", "rectangle", "cross"]
Similarity = Literal["mean", "nearest"]
Prompting = Literal["per_region", "joint"]
Fusion = Literal["weighted", "mask", "map"]


_SWITCH = {
    **dict.fromkeys(("true", "on", "yes", "1"), True),
    **dict.fromkeys(("false", "off", "no", "0"), False),
}


@dataclass(frozen=True)
class Knob:
    """What a person needs to know about one field of `Settings`.

    Attributes:
        name: Field name in `Settings`.
        label: Short name for a slider.
        help: One sentence.
        default: Default value.
        type: `bool`, `int`, `float` or `str`.
        low: Smallest value, inclusive; None where there is no range.
        high: Largest value, inclusive; None where there is no range.
        step: Slider step.
        unit: Unit of the value, "" for a pure number.
        symbol: The paper's symbol, "" where the paper has none.
        choices: Allowed words, empty for numbers and free text.
        group: Which stage the knob belongs to.
        front: True for the three knobs of the paper that a page shows unfolded.
        encoding: True if a change needs the encoders again; all others only decide again.
    """

    name: str
    label: str
    help: str
    default: Any
    type: type
    low: float | None
    high: float | None
    step: float | None
    unit: str
    symbol: str
    choices: tuple[str, ...]
    group: str
    front: bool
    encoding: bool

    def parse(self, text: str) -> Any:
        """The value that a text means; the text itself where it means none, which `Settings` then refuses."""
        if self.type is bool:
            return _SWITCH.get(text.lower(), text)
        try:
            return self.type(text)
        except ValueError:
            return text

    @property
    def range_text(self) -> str:
        """The allowed values in words: "0 to 1", "ellipse, rectangle or cross", "on or off"."""
        if self.choices:
            return ", ".join(self.choices[:-1]) + " or " + self.choices[-1]
        if self.type is bool:
            return "on or off"
        if self.type is str:
            return f"text of at most {MAX_OBJECT_NAME} characters"
        return f"{self.low:g} to {self.high:g}"


MAX_OBJECT_NAME = 80


def _knob(
    default: Any,
    label: str,
    help: str,
    *,
    group: str,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    unit: str = "",
    symbol: str = "",
    front: bool = False,
    encoding: bool = False,
) -> Any:
    return dataclasses.field(
        default=default,
        metadata={
            "label": label,
            "help": help,
            "group": group,
            "low": low,
            "high": high,
            "step": step,
            "unit": unit,
            "symbol": symbol,
            "front": front,
            "encoding": encoding,
        },
    )


@dataclass(frozen=True)
class Settings:
    """One choice of every knob; frozen and validated when made.

    Raises:
        ZsasError: If a value is out of range, naming the field, the value and the range.
    """

    object_name: str = _knob(
        "",
        "Object",
        'What is on the photo, for the text prompts; empty means the word "object".',
        group="localize",
    )
    localizer: Localizer = _knob(
        "auto",
        "Localizer",
        "How CLIP makes the anomaly map: trained linear layers, or V-V attention without any training; "
        "auto takes linear wherever an adapter for the model exists.",
        group="localize",
        encoding=True,
    )
    resolution: int = _knob(
        0,
        "CLIP input side",
        "Side of the square that CLIP looks at, at least 112, rounded down to whole patches; 0 is the localizer's own.",
        group="localize",
        low=0,
        high=1036,
        step=2,
        unit="px",
        encoding=True,
    )
    blur: float = _knob(
        4.0,
        "Map blur",
        "Gaussian blur of the anomaly map, as a standard deviation in a 518 px square.",
        group="localize",
        low=0.0,
        high=32.0,
        step=0.5,
        unit="px at 518",
        symbol="σ",
    )
    threshold: float = _knob(
        0.55,
        "Threshold",
        "Where the anomaly map becomes the extreme region S_a; read as the threshold mode says.",
        group="points",
        low=0.0,
        high=1.0,
        step=0.01,
        symbol="S_a",
        front=True,
    )
    threshold_mode: ThresholdMode = _knob(
        "absolute",
        "Threshold mode",
        "The threshold is a value of the map, a share of its maximum, a quantile of its pixels, "
        "or found by Otsu's method (the threshold then has no effect).",
        group="points",
        symbol="S_a",
    )
    k_positive: int = _knob(
        3,
        "k positive",
        "How many positive points are taken from the hottest pixels of the region.",
        group="points",
        low=1,
        high=20,
        step=1,
        symbol="k, P_h",
        front=True,
    )
    k_negative: int = _knob(
        3,
        "k negative",
        "How many negative points are taken from the ring, where SAM's features differ most from the region's.",
        group="points",
        low=1,
        high=20,
        step=1,
        symbol="k, P_l",
    )
    negatives: bool = _knob(
        True,
        "Negative points",
        "Use negative points.",
        group="points",
        symbol="P_l",
    )
    spacing: float = _knob(
        400.0,
        "Point spacing",
        "How far apart points of one kind are kept; read as the spacing mode says.",
        group="points",
        low=0.0,
        high=2000.0,
        step=10.0,
        unit="px at the reference side",
        symbol="400",
    )
    spacing_mode: SpacingMode = _knob(
        "stride",
        "Spacing mode",
        "Spacing is a distance between points, or a stride in the list of pixels ranked by score.",
        group="points",
        symbol="400",
    )
    similarity: Similarity = _knob(
        "mean",
        "Similarity",
        "Each ring cell is compared with the mean feature of the region, or with the nearest of its features.",
        group="points",
        symbol="Map_s",
    )
    kernel_shape: KernelShape = _knob(
        "ellipse",
        "Kernel shape",
        "Shape of the dilation that makes the ring around the region.",
        group="points",
        symbol="N_a",
    )
    kernel_size: int = _knob(
        25,
        "Kernel size",
        "Width and height of the dilation that makes the ring around the region.",
        group="points",
        low=3,
        high=151,
        step=1,
        unit="px at the reference side",
        symbol="N_a",
        front=True,
    )
    reference_side: int = _knob(
        1024,
        "Reference side",
        "Spacing and kernel are pixels of the photo scaled to this longest side, at least 64; "
        "0 is the photo's own pixels.",
        group="points",
        low=0,
        high=4096,
        step=1,
        unit="px",
    )
    prompting: Prompting = _knob(
        "per_region",
        "Prompting",
        "One cascade for each separate region, or all points together as in the paper.",
        group="cascade",
        symbol="P",
    )
    max_regions: int = _knob(
        8,
        "Regions at most",
        "How many separate regions get a cascade of their own, the most anomalous first.",
        group="cascade",
        low=1,
        high=64,
        step=1,
    )
    steps: int = _knob(
        3,
        "Cascade steps",
        "1: points; 2: points and logits; 3: points, box and logits.",
        group="cascade",
        low=1,
        high=3,
        step=1,
        symbol="M1, M2, M3",
    )
    agreement: float = _knob(
        0.2,
        "Least agreement",
        "A mask of which a smaller share lies in its region has run away; the region itself then stands in the "
        "final mask. 0 keeps every mask.",
        group="cascade",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    fusion: Fusion = _knob(
        "weighted",
        "Fusion",
        "The score map is a weighted mean of mask and anomaly map, SAM's mask alone, or the anomaly map alone.",
        group="fusion",
    )
    fusion_weight: float = _knob(
        0.5,
        "Mask weight",
        "Share of SAM's mask in the weighted score map; the rest is the anomaly map.",
        group="fusion",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    image_weight: float = _knob(
        0.3,
        "CLIP's own answer",
        "Share of CLIP's own answer for the whole photo in the image score; the rest is the mean of the hottest "
        "thousandth of the anomaly map.",
        group="verdict",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    verdict_threshold: float = _knob(
        0.7,
        "Verdict threshold",
        'Image score from which the verdict is "anomalous".',
        group="verdict",
        low=0.0,
        high=1.0,
        step=0.01,
    )

    def __post_init__(self) -> None:
        for knob in knobs():
            object.__setattr__(self, knob.name, _checked(knob, getattr(self, knob.name)))
        if 0 < self.resolution < 112:
            raise ZsasError(
                f"resolution is {self.resolution}, but it must be 0 (the localizer's own) or 112 to 1036."
            )
        if 0 < self.reference_side < 64:
            raise ZsasError(
                f"reference_side is {self.reference_side}, but it must be 0 (the photo's own pixels) "
                "or 64 to 4096."
            )

    def replace(self, **changes: Any) -> Settings:
        """A copy with some fields changed; an unknown name is a `ZsasError`."""
        return Settings.from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: typing.Mapping[str, Any]) -> Settings:
        """Settings from names and values; missing names take their default.

        Raises:
            ZsasError: On a name that is no setting, or a value out of range.
        """
        names = {knob.name for knob in knobs()}
        for name in values:
            if name not in names:
                raise ZsasError(
                    f"There is no setting {name!r}; the settings are {', '.join(sorted(names))}."
                )
        return cls(**values)

    @property
    def encoding_key(self) -> tuple[Any, ...]:
        """The values that an encoding depends on; equal keys share one encoding."""
        return tuple(getattr(self, knob.name) for knob in knobs() if knob.encoding)


def knobs() -> tuple[Knob, ...]:
    """All knobs in the order of the stages."""
    return _KNOBS


def _read_knobs() -> tuple[Knob, ...]:
    hints = typing.get_type_hints(Settings)
    found = []
    for field in dataclasses.fields(Settings):
        hint = hints[field.name]
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        found.append(
            Knob(
                name=field.name,
                default=field.default,
                type=str if choices else hint,
                choices=choices,
                **field.metadata,
            )
        )
    return tuple(found)


def _checked(knob: Knob, value: Any) -> Any:
    """The value in the knob's own type, or a sentence that names field, value and range."""
    wrong = ZsasError(f"{knob.name} is {value!r}, but it must be {knob.range_text}.")
    if knob.choices:
        if not isinstance(value, str) or value not in knob.choices:
            raise wrong
        return value
    if knob.type is str:
        if not isinstance(value, str) or len(value) > MAX_OBJECT_NAME:
            raise wrong
        return " ".join(value.split())
    if knob.type is bool:
        if value is None or hasattr(value, "__len__") or value not in (0, 1):
            raise wrong
        return bool(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise wrong
    assert knob.low is not None
    assert knob.high is not None
    try:
        number = float(value)
    except OverflowError:
        raise wrong from None
    if not knob.low <= number <= knob.high:
        raise wrong
    if knob.type is int:
        if not number.is_integer():
            raise ZsasError(
                f"{knob.name} is {value!r}, but it must be a whole number, {knob.range_text}."
            )
        return int(number)
    return number


_KNOBS = _read_knobs()
