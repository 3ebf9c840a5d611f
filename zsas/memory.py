"""Images of good parts from files and folders, and their memory in a file of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.errors import ZsasError, reason
from zsas.files import whole
from zsas.images import read_image, scan_images
from zsas.localizers.references import References

if TYPE_CHECKING:
    from zsas.localizers.base import Localizer
    from zsas.region import RegionOfInterest
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

MOST = 100
"""Largest number of images in a memory."""
FORMAT = 3
"""Of the files: since 2, images are compared by the blocks' own tokens."""


def remember_files(
    segmenter: Segmenter,
    sources: Sequence[str | Path],
    settings: Settings,
    region: RegionOfInterest | None = None,
) -> tuple[References, list[str]]:
    """Make a memory of the images in files and folders, or read one that `save` has written.

    Args:
        segmenter: The models.
        sources: Images, folders of images, or one `.safetensors` file.
        settings: Those that encode are read.
        region: Where to look on them.

    Returns:
        The memory, and a sentence for each image that was left out.

    Raises:
        ZsasError: If no image can be read, there are more than `MOST`, or the file is no memory.
    """
    if len(sources) == 1 and str(sources[0]).endswith(".safetensors"):
        return load(Path(sources[0])), []
    images, complaints = readable(sources)
    return segmenter.remember(images, settings, region), complaints


def readable(sources: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """The images in files and folders that can be read, and a sentence for each of the others.

    Raises:
        ZsasError: If none can be read, or there are more than `MOST`.
    """
    scan = scan_images(sources)
    paths = scan.images
    complaints = [f"{each.path} {each.why}." for each in scan.unreadable]
    images: list[Path] = []
    if len(paths) > MOST:
        raise ZsasError(f"There are {len(paths)} good images; name at most {MOST}.")
    for path in paths:
        try:
            read_image(path)
            images.append(path)
        except ZsasError as error:
            complaints.append(str(error))
    if not images:
        if complaints:
            raise ZsasError(f"None of the good images can be read. {complaints[0]}")
        where = ", ".join(map(str, sources))
        raise ZsasError(f"There is no good image in {where}; name images, or a folder of them.")
    return images, complaints


def save(references: References, path: str | Path) -> None:
    """Write a memory to a file: the cells of its bank, or what the localizer itself keeps, and the rest as metadata.

    Raises:
        ZsasError: If it is no memory, or what the system keeps of good images cannot be kept in a file.
        OSError: If the file cannot be written.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if not isinstance(references, References):
        raise ZsasError(
            "What is kept in a file is what Segmenter.remember makes of good images, but this is of the type "
            f"{type(references).__name__}."
        )
    facts = {
        "format": FORMAT,
        "keys": references.keys,
        "made_by": references.made_by,
        "level": references.level,
        "layers": len(references.bank),
        "ignored": references.ignored,
        "names": references.names,
        "window": references.window,
        "turned": references.turned,
        "region": references.region,
        "alone": [dict(one) for one in references.alone],
        "ratios": references.ratios,
        "usual": references.usual,
        "gained": None if math.isinf(references.gained) else references.gained,
    }
    tensors = {f"bank.{i}": layer.contiguous() for i, layer in enumerate(references.bank)}
    if not references.bank:
        packed = [_localizer(references.made_by).pack(one) for one in references.features]
        facts["features"] = [dict(more) for _, more in packed]
        for i, (own, _) in enumerate(packed):
            tensors |= {f"image.{i}.{name}": one.contiguous() for name, one in own.items()}
    if references.places is not None:
        tensors["places"] = references.places.contiguous()
    with whole(path) as temporary:
        save_file(tensors, temporary, metadata={"zsas.references": json.dumps(facts)})


def load(path: str | Path) -> References:
    """Read what `save` wrote; nothing but numbers and text is read.

    Raises:
        ZsasError: If it is missing, damaged, something else, or of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["zsas.references"])
            if facts["format"] != FORMAT:
                older = facts["format"] < FORMAT
                raise ZsasError(
                    f"{path.name} was written by {'an older' if older else 'a newer'} version of zsas; "
                    f"{'remember the good images again' if older else 'update this one'}."
                )
            return _references(facts, file)
    except FileNotFoundError:
        raise ZsasError(f"There is no file {path}.") from None
    except ZsasError:
        raise
    except (SafetensorError, LookupError, AttributeError, TypeError, ValueError, OSError) as error:
        raise ZsasError(
            f"{path.name} holds no memory of good images ({reason(error)}); make one from images."
        ) from None


def _references(facts: dict[str, Any], file: Any) -> References:
    names = set(file.keys())
    features = tuple(
        _localizer(facts["made_by"]).unpack(
            {
                name.removeprefix(f"image.{i}."): file.get_tensor(name)
                for name in sorted(names)
                if name.startswith(f"image.{i}.")
            },
            more,
        )
        for i, more in enumerate(facts.get("features", ()))
    )
    return References(
        tuple(facts["keys"]),
        tuple(facts["made_by"]),
        features,
        tuple(
            file.get_tensor(f"bank.{i}") for i in range(facts.get("layers", len(facts["level"])))
        ),
        tuple((float(mean), float(deviation)) for mean, deviation in facts["level"]),
        tuple(int(i) for i in facts["ignored"]),
        tuple(facts["names"]),
        file.get_tensor("places") if "places" in names else None,
        float(facts.get("window", 0.0)),
        int(facts.get("turned", 0)),
        str(facts.get("region", "")),
        tuple({str(k): float(v) for k, v in one.items()} for one in facts.get("alone", ())),
        tuple(float(ratio) for ratio in facts.get("ratios", ())),
        float(facts.get("usual", 1.0)),
        math.inf if facts["gained"] is None else float(facts["gained"]),
    )


def _localizer(made_by: Sequence[object]) -> type[Localizer]:
    """The localizer whose features a memory holds.

    Raises:
        KeyError: If there is none of that name.
    """
    from zsas.systems import localizers

    return localizers()[str(made_by[1])]
