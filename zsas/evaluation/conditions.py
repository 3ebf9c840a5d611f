"""The rows of a table: which settings are compared, for the paper's ablations and for any other setting."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zsas.comparison import combinations
from zsas.errors import ZsasError
from zsas.evaluation.table_1 import PUBLISHED
from zsas.region import RegionOfInterest
from zsas.settings import Settings, all_settings
from zsas.systems import OWN_REFINER

MAP_ALONE = "CLIP map alone"
MASK_ALONE = "mask alone"
AS_SET = "as set"
CASCADE_NAMES = {1: "points", 2: "points + logit1", 3: "points + box + logit2"}
KERNELS = tuple(
    (shape, size) for shape in ("cross", "rectangle", "ellipse") for size in (20, 25, 30)
)


@dataclass(frozen=True)
class Condition:
    """One row of the table.

    Attributes:
        name: Name of the row.
        settings: Its settings; the object name is filled in for each image.
        square: Side of the square at which its map and the mask are compared, in pixels; 0 is what the run says.
        averaged: Whether a mask is averaged into that square, a pixel of it marked where more than half is, as some
            published figures have it; its nearest pixels are taken otherwise.
        published: The system whose published conditions these are, "" where none.
        precision: Number format of the encoders, "" for that of the models.
        region: Where to look, the same in all conditions of a run; nothing outside is measured.
    """

    name: str
    settings: Settings
    square: int = 0
    averaged: bool = False
    published: str = ""
    precision: str = ""
    region: RegionOfInterest | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without what is not set."""
        found = {
            "name": self.name,
            "settings": self.settings.to_dict(),
            "square": self.square,
            "averaged": self.averaged,
            "published": self.published,
            "precision": self.precision,
            "region": self.region.to_dict() if self.region else None,
        }
        return {name: value for name, value in found.items() if value}


def plan(
    settings: Settings,
    ablate: Sequence[str] = (),
    sweep: Mapping[str, Sequence[Any]] | None = None,
    systems: Sequence[str] = (),
    refiners: Sequence[str] = (),
) -> list[Condition]:
    """The conditions of a run: the map alone, then every combination of the requested axes.

    Args:
        settings: What all conditions share.
        ablate: "cascade" (one, two, three steps) and "kernel" (three shapes × three sizes).
        sweep: Setting name to values.
        systems: Names of systems; see `zsas.comparison.combinations`.
        refiners: Names of refiners, each behind every system's map.

    Returns:
        The map alone comes first; without axes the mask alone and the settings as they are follow. Systems and
        refiners stand for themselves.

    Raises:
        ZsasError: On an unknown ablation or setting, a value out of its range, or two axes of one setting.
    """
    axes: list[list[tuple[str, dict[str, Any]]]] = []
    several = bool(systems or refiners)
    if (systems and settings.system != "auto") or (refiners and settings.refiner != OWN_REFINER):
        raise ZsasError(
            "Name systems and refiners with --systems and --refiners, or one of each; not both."
        )
    if several:
        chosen = combinations(systems or [settings.system], refiners or [settings.refiner])
        axes.append([(c.name, {"system": c.system, "refiner": c.refiner}) for c in chosen])
    for name in ablate:
        if name == "kernel":
            axes.append([(f"{s} {n}", {"kernel_shape": s, "kernel_size": n}) for s, n in KERNELS])
        elif name == "cascade":
            axes.append([(label, {"steps": steps}) for steps, label in CASCADE_NAMES.items()])
        else:
            raise ZsasError(f"There is no ablation {name!r}; take cascade or kernel.")
    for name, values in (sweep or {}).items():
        axes.append([(f"{name} {value}", {name: value}) for value in values])
    named = [name for axis in axes for name in axis[0][1]]
    for name in named:
        if named.count(name) > 1:
            raise ZsasError(f"Two axes set {name}: an ablation or a sweep of it, not both.")
    conditions = [] if several else [Condition(MAP_ALONE, settings.replace(fusion="map"))]
    if not axes:
        conditions.append(Condition(MASK_ALONE, settings.replace(fusion="mask")))
        conditions.append(Condition(AS_SET, settings))
    for combination in itertools.product(*axes) if axes else ():
        changes: dict[str, Any] = {}
        for _, change in combination:
            changes |= change
        name = ", ".join(label for label, _ in combination)
        conditions.append(Condition(name, settings.replace(**changes)))
    return conditions


def as_published(conditions: Sequence[Condition], data: str, *, square: bool) -> list[Condition]:
    """The same rows, each under the published conditions of its system; settings that were given are kept.

    Args:
        conditions: From `plan` with systems; those that no table knows stay as they are. Behind another refiner than
            its own a system keeps its conditions, but stands beside no published figure.
        data: The data set, for which some systems have settings of their own.
        square: Whether maps and masks are compared at the published size, too.
    """
    found = []
    for one in conditions:
        known = PUBLISHED.get(one.settings.system)
        if known is None:
            found.append(one)
            continue
        found.append(
            replace(
                one,
                settings=one.settings.unless_given(**known.settings.get(data, {})),
                square=known.side if square else 0,
                averaged=known.averaged and square,
                published=one.name if one.name in PUBLISHED else "",
            )
        )
    return found


def in_each(conditions: Sequence[Condition], precisions: Sequence[str]) -> list[Condition]:
    """Each row once in each number format, side by side; one format changes no name."""
    if len(precisions) < 2:
        return list(conditions)
    return [
        replace(one, name=f"{one.name}, {precision}", precision=precision)
        for one in conditions
        for precision in precisions
    ]


def parse_sweep(texts: Iterable[str]) -> dict[str, list[Any]]:
    """`["k_positive=1,3,5"]` as `{"k_positive": [1, 3, 5]}`.

    Raises:
        ZsasError: If a text is not name=v1,v2, the name is no setting, or a value is out of its range.
    """
    known = {setting.name: setting for setting in all_settings()}
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values or name not in known:
            raise ZsasError(
                f"The sweep {text!r} must read name=v1,v2, where the name is one of {', '.join(known)}."
            )
        setting = known[name]
        for value in (part.strip() for part in values.split(",")):
            changed = Settings().replace(**{name: setting.parse(value)})
            found.setdefault(name, []).append(getattr(changed, name))
    return found
