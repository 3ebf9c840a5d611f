"""The part profile: settings, limit, reference images, region and scale of a part in one file.

The file, usually `part.zsas`, is a ZIP with a readable `manifest.json` and, if there are reference images, their memory
`references.safetensors`. Nothing in it is ever executed.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas import __version__, memory
from zsas.errors import ZsasError, readable, reason
from zsas.files import check_place, write_whole, writing
from zsas.localizers.references import References
from zsas.models import ModelChoice
from zsas.region import RegionOfInterest
from zsas.scale import Scale
from zsas.settings import Settings, settings_or_usual

if TYPE_CHECKING:
    from zsas.segmenter import Segmenter

FORMAT = 1
"""Version of the file."""
KIND = "zsas part"
MANIFEST, MEMORY = "manifest.json", "references.safetensors"
MOST_MANIFEST, MOST_MEMORY = 32_000_000, 2_000_000_000
"""Bytes of either entry at most."""
MOST_NAME = 80

_ROLES = ("preset", "clip", "sam", "precision", "runtime", "detector", "saliency", "features")
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)
"""What the library of ZIPs raises."""


@dataclass(frozen=True)
class Part:
    """The profile of a part.

    Attributes:
        name: What it is called, for people.
        settings: All settings, the object's name and the limit among them.
        references: Images of good parts, remembered with these settings; None where there are none.
        region: Where to look; None for the whole image.
        scale: Millimetres per pixel, and the smallest anomaly that counts.
        models: Which models it was made with.
        weights: Fingerprint of the localizer's weights; "" where no models were there when it was made.
        limit_from: Where the limit comes from: "default", "references", "person" or "verdicts".
        written: When it was written, ISO 8601, "" before.

    Example:
        >>> part = Part("gear", Settings(object_name="gear", verdict_threshold=0.6), scale=Scale(0.05))
        >>> Part.load(part.to_bytes()).settings.object_name
        'gear'
    """

    name: str = ""
    settings: Settings = field(default_factory=Settings)
    references: References | None = None
    region: RegionOfInterest | None = None
    scale: Scale = Scale()
    models: ModelChoice = field(default_factory=ModelChoice)
    weights: str = ""
    limit_from: str = "default"
    written: str = ""

    def __post_init__(self) -> None:
        for name, kind in (
            ("settings", Settings),
            ("references", References),
            ("region", RegionOfInterest),
            ("scale", Scale),
        ):
            given = getattr(self, name)
            if not isinstance(given, kind | None if name in ("references", "region") else kind):
                raise ZsasError(
                    f"The {name} of a part must be of the type {kind.__name__}, but this is of the type "
                    f"{type(given).__name__}."
                )
        object.__setattr__(self, "name", readable(self.name))
        if len(self.name) > MOST_NAME:
            raise ZsasError(
                f"The part's name has {len(self.name)} characters, but at most {MOST_NAME} are kept; shorten it."
            )

    @property
    def limit(self) -> float:
        """Image score from which a part is anomalous."""
        return float(self.settings.verdict_threshold)

    def chosen(self, settings: Settings | None) -> Settings:
        """The part's settings, with those that were given in place of its own."""
        given = settings_or_usual(settings).given
        return self.settings.replace(**given) if given else self.settings

    def choice(self, given: ModelChoice) -> ModelChoice:
        """The part's models on the given device; the given models instead, if any are named."""
        if replace(given, device=None) != ModelChoice():
            return given
        return replace(self.models, device=given.device)

    def memory(self, segmenter: Segmenter, settings: Settings) -> References | None:
        """The memory of its reference images, for use with loaded models.

        Raises:
            ZsasError: If the part was made with other models.
        """
        if self.weights and self.weights != segmenter.weights(settings):
            raise ZsasError(
                f"The part profile was made with other models ({self.models.name}, system {self.settings.system}) than "
                f"run now ({segmenter.preset}, system {settings.system}); use its models and system, or make it anew."
            )
        if not self.references:
            return self.references
        # The weights are the same; under which names and on which device they were loaded does not matter.
        made_by = (segmenter.models_key, *self.references.made_by[1:])
        return replace(self.references, made_by=made_by)

    def memory_for(self, segmenter: Segmenter, settings: Settings) -> References | None:
        """The memory of its reference images, if the system in the settings made it; None otherwise."""
        if not self.references:
            return None
        same = not self.weights or self.weights == segmenter.weights(settings)
        same &= tuple(self.references.made_by[1:]) == segmenter.remembered_by(settings)[1:]
        return self.memory(segmenter, settings) if same else None

    def for_system(self, settings: Settings) -> tuple[Part, Settings]:
        """The part for one of several systems that are compared, without reference images, and its settings.

        A limit that good images or verdicts gave means something for the profile's own system alone.
        """
        if settings.system != self.settings.system and self.limit_from in (
            "references",
            "verdicts",
        ):
            settings = settings.replace(verdict_threshold=None)
        return replace(self, settings=settings, references=None, weights=""), settings

    def to_dict(self) -> dict[str, Any]:
        """The manifest, as JSON types."""
        models = {k: v for k, v in self.models.named().to_dict().items() if k != "device"}
        references = self.references
        return {
            "kind": KIND,
            "format": FORMAT,
            "name": self.name,
            "written": self.written,
            "zsas": __version__,
            "limit": self.limit,
            "limit_from": self.limit_from,
            "models": models,
            "weights": self.weights,
            "references": None
            if not references
            else {
                "images": len(references),
                "names": list(references.names),
                "ignored": list(references.ignored),
            },
            "region": self.region.to_dict() if self.region else None,
            "scale": self.scale.to_dict(),
            "given": sorted(self.settings.given),
            "settings": self.settings.to_dict(),
        }

    def to_bytes(self) -> bytes:
        """The file.

        Raises:
            ZsasError: If the system's memory of good images cannot be kept in a file.
        """
        manifest = replace(self, written=self.written or _now()).to_dict()
        remembered = b""
        if self.references:
            with tempfile.TemporaryDirectory() as folder:
                memory.save(self.references, Path(folder, MEMORY))
                remembered = Path(folder, MEMORY).read_bytes()
            manifest["references"]["sha256"] = hashlib.sha256(remembered).hexdigest()
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            archive.writestr(zipfile.ZipInfo(MANIFEST), text.encode())
            if remembered:
                archive.writestr(zipfile.ZipInfo(MEMORY), remembered)
        return stream.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            ZsasError: If it cannot be written, or the memory cannot be kept in a file.
        """
        data = replace(self, written="").to_bytes()
        with _writing(path):
            write_whole(Path(path), data)

    @classmethod
    def load(cls, source: str | Path | bytes) -> Part:
        """Read a file, or its bytes.

        Raises:
            ZsasError: If it is missing, damaged, something else, or of a newer version.
        """
        name = "The part profile" if isinstance(source, bytes) else Path(source).name
        manifest, remembered = _entries(source, name)
        facts = _facts(manifest, name)
        try:
            return _part(facts, remembered, name)
        except ZsasError as error:
            text = str(error)
            raise error if text.startswith(name) else ZsasError(f"{name}: {text}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(name, error) from None


def check_file(path: Path) -> None:
    """Try whether a profile can be written, before its good images are encoded.

    Raises:
        ZsasError: If it cannot.
    """
    with _writing(path):
        check_place(path)


def _writing(path: str | Path) -> AbstractContextManager[None]:
    return writing(f"{path} cannot be written", "name another file")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _damaged(name: str, error: BaseException | str) -> ZsasError:
    why = error if isinstance(error, str) else f"{type(error).__name__}: {reason(error)}"
    return ZsasError(f"{name} is no part profile, or it is damaged ({why}); make it anew.")


def _entries(source: str | Path | bytes, name: str) -> tuple[bytes, bytes]:
    """The bytes of manifest and memory (empty if there is none), both checked by their CRC."""
    try:
        with zipfile.ZipFile(
            io.BytesIO(source) if isinstance(source, bytes) else source
        ) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if MANIFEST not in sizes:
                raise _damaged(name, f"it has no {MANIFEST}")
            if sizes[MANIFEST] > MOST_MANIFEST or sizes.get(MEMORY, 0) > MOST_MEMORY:
                raise _damaged(name, "it is too large")
            found = _read(archive, MANIFEST, MOST_MANIFEST)
            kept = _read(archive, MEMORY, MOST_MEMORY) if MEMORY in sizes else b""
    except FileNotFoundError:
        raise ZsasError(f"There is no file {source!s}.") from None
    except ZsasError:
        raise
    except _DAMAGE as error:
        raise _damaged(name, error) from None
    return found, kept


def _read(archive: zipfile.ZipFile, entry: str, most: int) -> bytes:
    """The bytes of an entry; more than `most` are refused, whatever size the archive states."""
    with archive.open(entry) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise zipfile.BadZipFile("an entry is too large")
    return data


def _facts(manifest: bytes, name: str) -> Mapping[str, Any]:
    try:
        facts = json.loads(manifest)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, error) from None
    if not isinstance(facts, dict) or facts.get("kind") != KIND:
        raise _damaged(name, f"its {MANIFEST} is of something else")
    version = facts.get("format")
    if not isinstance(version, int) or version < 1:
        raise _damaged(name, "its format is unknown")
    if version > FORMAT:
        raise ZsasError(
            f"{name} was written by a newer version of zsas ({facts.get('zsas', '')}); update this one."
        )
    return facts


def _part(facts: Mapping[str, Any], remembered: bytes, name: str) -> Part:
    references = None
    if facts["references"] is not None:
        digest = hashlib.sha256(remembered).hexdigest()
        if not remembered or digest != facts["references"]["sha256"]:
            raise _damaged(name, "its good images are missing or changed")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, MEMORY)
            file.write_bytes(remembered)
            references = memory.load(file)
    region = facts["region"]
    return Part(
        _text(facts["name"], name),
        _settings(facts["settings"], facts["given"]),
        references,
        None if region is None else RegionOfInterest.from_dict(region, name=name),
        Scale.from_dict(facts["scale"]),
        _models(facts["models"], name),
        _text(facts["weights"], name),
        _text(facts["limit_from"], name),
        _text(facts["written"], name),
    )


def _settings(values: Mapping[str, Any], given: Sequence[str]) -> Settings:
    """The settings as they were saved: given values, and former defaults that have changed since."""
    chosen = Settings.from_dict({name: values[name] for name in given})
    now = chosen.to_dict()
    changed = {name: v for name, v in values.items() if name in now and now[name] != v}
    return chosen.replace(**changed)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_NAME:
        raise _damaged(name, "a text is missing or too long")
    return value


def _models(values: Mapping[str, Any], name: str) -> ModelChoice:
    weights = values.get("weights", {})
    dropped = values.get("drop_padding", False)
    others = {k: v for k, v in values.items() if k not in ("weights", "drop_padding")}
    if not all(isinstance(v, str) for v in (*others.values(), *weights.values())):
        raise _damaged(name, "its models are no names")
    if not set(others) <= set(_ROLES) or not isinstance(dropped, bool):
        raise _damaged(name, "its models are of another kind")
    return ModelChoice(**others, weights=dict(weights), drop_padding=dropped)
