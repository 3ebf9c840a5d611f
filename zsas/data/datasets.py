"""Data sets to measure on and to learn from: images, masks and what is on them.

Layouts: MVTec-AD ("mvtec", and "folder" for anything laid out like it), VisA ("visa"), a flat folder
with optional masks ("flat"), and made images ("made"). MVTec-AD and VisA also come from the Hub, a
file at a time as it is needed; `huggingface_hub` caches each file and continues broken downloads.
"""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsas.errors import ZsasError
from zsas.images import load_image, read_mask

Split = Literal["test", "train"]
Layout = Literal["mvtec", "visa", "folder", "flat", "made"]
LAYOUTS: tuple[str, ...] = get_args(Layout)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
HUB = {"mvtec": "Voxel51/mvtec-ad", "visa": "BrachioLab/visa"}
LICENCES = {
    "mvtec": "MVTec-AD: CC BY-NC-SA 4.0 (no commercial use), Bergmann et al., CVPR 2019",
    "visa": "VisA: CC BY 4.0, Zou et al., ECCV 2022",
}
VISA_CATEGORIES = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2",
    "pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum",
)  # fmt: skip
OBJECT_NAMES = {
    "chewinggum": "chewing gum",
    "macaroni1": "macaroni",
    "macaroni2": "macaroni",
    "pcb1": "printed circuit board",
    "pcb2": "printed circuit board",
    "pcb3": "printed circuit board",
    "pcb4": "printed circuit board",
}


class Source(Protocol):
    """Where the bytes of one picture are; small and picklable, read only when needed."""

    def picture(self) -> Path | Image.Image: ...


@dataclass(frozen=True)
class File:
    """A picture on disk."""

    path: Path

    def picture(self) -> Path | Image.Image:
        return self.path


@dataclass(frozen=True)
class HubFile:
    """A picture in a data set on the Hub, downloaded when it is first opened."""

    repo: str
    name: str
    revision: str | None

    def picture(self) -> Path | Image.Image:
        return _hub_file(self.repo, self.name, self.revision)


@dataclass(frozen=True)
class Cell:
    """A picture in one row of a parquet file, with its bytes in `column`."""

    path: Path
    column: str
    row: int

    def picture(self) -> Path | Image.Image:
        try:
            return Image.open(io.BytesIO(_cells(self.path, self.column)[self.row]))
        except (OSError, SyntaxError):
            raise ZsasError(
                f"Row {self.row} of {self.path.name} holds no image in its column {self.column!r}."
            ) from None


@dataclass(frozen=True)
class InlineMask:
    """A mask as FiftyOne writes it into `samples.json`: base64 of a zlib-packed .npy array."""

    code: str

    def picture(self) -> Path | Image.Image:
        try:
            packed = zlib.decompress(base64.b64decode(self.code))
            array = np.load(io.BytesIO(packed), allow_pickle=False)
        except (ValueError, zlib.error):
            raise ZsasError("A mask in samples.json is damaged; download the file anew.") from None
        return Image.fromarray((array > 0).astype(np.uint8) * 255)


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Attributes:
        key: Unique in the data set and the same on every machine, for example "cable/test/bent_wire/003".
        category: Folder name of the category.
        object_name: What the prompts call it.
        kind: Kind of defect, "good" for a sound part, "" if unknown.
        defective: True or False; None where nobody says.
        image: Where the picture is.
        mask: Where the mask is; None for a sound part (an empty mask) or where there is none.
    """

    key: str
    category: str
    object_name: str
    kind: str
    defective: bool | None
    image: Source
    mask: Source | None

    def load_image(self) -> NDArray[np.uint8]:
        """uint8 RGB, (H, W, 3).

        Raises:
            ZsasError: If the file is missing or is no image.
        """
        return load_image(self.image.picture())

    def load_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """bool, (H, W) = `shape`, True where defective; None if nothing is known about this image.

        Raises:
            ZsasError: If the file is missing, or is of another size than the image.
        """
        if self.mask is None:
            return None if self.defective is None or self.defective else np.zeros(shape, bool)
        picture = self.mask.picture()
        if isinstance(picture, Path):
            return read_mask(picture, shape)
        mask = np.asarray(picture.convert("L")) > 0
        if mask.shape != shape:
            raise ZsasError(
                f"The mask of {self.key} is {mask.shape[1]} × {mask.shape[0]} pixels, but its photo "
                f"{shape[1]} × {shape[0]}; a mask must have the size of its photo."
            )
        return mask


@dataclass(frozen=True)
class Dataset:
    """Samples sorted by category and key.

    Attributes:
        name: The layout's name, or that of the folder; what an adapter remembers being trained on.
        split: "test" or "train".
        samples: All samples.
        licence: One line to be shown, "" if unknown.
    """

    name: str
    split: str
    samples: tuple[Sample, ...]
    licence: str = ""

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories, sorted."""
        return tuple(sorted({sample.category for sample in self.samples}))

    def of(self, category: str) -> tuple[Sample, ...]:
        """The samples of one category."""
        return tuple(sample for sample in self.samples if sample.category == category)


def object_name(category: str) -> str:
    """What prompts call a category: "metal_nut" is a "metal nut", "pcb3" a "printed circuit board"."""
    return OBJECT_NAMES.get(
        category, " ".join(category.replace("_", " ").replace("-", " ").split())
    )


def load_dataset(
    layout: str,
    root: str | Path | None = None,
    *,
    split: Split = "test",
    categories: Sequence[str] = (),
    limit: int | None = None,
    revision: str | None = None,
) -> Dataset:
    """List a data set; pictures are read later, one at a time.

    Args:
        layout: One of `LAYOUTS`.
        root: Its folder; None takes "mvtec" and "visa" from the Hub.
        split: Which split.
        categories: Only these; empty takes all.
        limit: At most this many images of each category, evenly spread over its kinds of defects.
        revision: Revision on the Hub.

    Raises:
        ZsasError: If the layout is broken, saying what was expected where; if a category does not exist;
            or if the Hub cannot be reached.
    """
    if layout not in LAYOUTS:
        raise ZsasError(f"There is no data set {layout!r}; take one of {', '.join(LAYOUTS)}.")
    if limit is not None and limit < 1:
        raise ZsasError(f"The limit is {limit}, but it must be at least 1 image of each category.")
    if root is None:
        if layout not in HUB:
            raise ZsasError(f"The data set {layout!r} is on disk only: say where with --root PATH.")
        dataset = (_hub_mvtec if layout == "mvtec" else _hub_visa)(split, categories, revision)
    else:
        folder = Path(root)
        if not folder.is_dir():
            raise ZsasError(
                f"There is no folder {folder}; --root must be the folder of the data set."
            )
        if layout == "visa":
            dataset = _read_visa(folder, split, categories)
        elif layout == "flat":
            dataset = _read_flat(folder, split)
        else:
            dataset = _read_mvtec(folder, split, layout, categories)
    return _without_doubles(_narrowed(dataset, categories, limit))


def make_dataset(
    root: str | Path,
    *,
    seed: int,
    per_category: int,
    size: int,
    families: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
) -> Path:
    """Write made images in MVTec-AD's layout unless exactly these are already there.

    Args:
        root: Folder of the data set.
        seed: Seed of the images; equal arguments give equal files.
        per_category: Images of each family.
        size: Side in pixels.
        families: Names of textures and objects; None takes those no bundled model was trained on.
        kinds: Names of defects; None takes all.

    Raises:
        ZsasError: If the folder holds other files.
    """
    from zsas.data.made import scene

    folder = Path(root)
    wanted: dict[str, Any] = {
        "seed": seed,
        "per_category": per_category,
        "size": size,
        "families": sorted(families if families is not None else scene.HELD_OUT_FAMILIES),
        "kinds": sorted(kinds) if kinds is not None else None,
    }
    stamp = folder / "made.json"
    if stamp.is_file():
        held = json.loads(stamp.read_text())
        complete = held.pop("complete", True)
        if held != wanted:
            raise ZsasError(
                f"{folder} holds made images of other parameters (see {stamp.name} there); "
                "choose another --root or the same parameters."
            )
        if complete:
            return folder
    elif folder.is_dir() and any(folder.iterdir()):
        raise ZsasError(
            f"{folder} holds files that are no made images; choose an empty folder with --root."
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Written first, so that a run that is killed goes on with the same parameters or not at all.
    stamp.write_text(json.dumps({**wanted, "complete": False}, indent=1) + "\n")
    scene.write_dataset(
        folder,
        seed=seed,
        per_category=per_category,
        size=size,
        families=wanted["families"],
        kinds=wanted["kinds"],
    )
    stamp.write_text(json.dumps({**wanted, "complete": True}, indent=1) + "\n")
    return folder


def _narrowed(dataset: Dataset, categories: Sequence[str], limit: int | None) -> Dataset:
    for category in categories:
        if category not in dataset.categories:
            raise ZsasError(
                f"{dataset.name} has no category {category!r}; it has {', '.join(dataset.categories)}."
            )
    chosen: list[Sample] = []
    for category in dataset.categories:
        if categories and category not in categories:
            continue
        samples = sorted(dataset.of(category), key=lambda sample: sample.key)
        if limit is not None and len(samples) > limit:
            samples = _spread_over_kinds(samples, limit)
        chosen += samples
    return replace(dataset, samples=tuple(chosen))


def _without_doubles(dataset: Dataset) -> Dataset:
    """The same, if every key stands for one image."""
    seen: dict[str, Sample] = {}
    for sample in dataset:
        other = seen.setdefault(sample.key, sample)
        if other is not sample:
            raise ZsasError(
                f"{dataset.name} has two images with the name {sample.key}, which differ by their suffix at most; "
                "rename or remove one, since masks and results go by the name."
            )
    return dataset


def _spread_over_kinds(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """Half sound and half defective as far as they go, the defective ones from each kind in turn."""
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        kinds.setdefault(sample.kind, []).append(sample)
    good = kinds.pop("good", [])
    turns = [
        kind[i]
        for i in range(max(map(len, kinds.values()), default=0))
        for kind in kinds.values()
        if i < len(kind)
    ]
    sound = max(limit // 2, limit - len(turns)) if turns else limit
    sound = min(sound, len(good))
    return sorted(good[:sound] + turns[: limit - sound], key=lambda sample: sample.key)


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _read_mvtec(root: Path, split: Split, layout: str, categories: Sequence[str] = ()) -> Dataset:
    """`<category>/<split>/<kind>/NNN.png` and `<category>/ground_truth/<kind>/NNN_mask.png`."""
    folders = [path for path in _folders(root) if (path / split).is_dir()]
    if not folders:
        raise ZsasError(
            f"{root} does not look like MVTec-AD: expected <category>/{split}/<kind>/*.png below it, "
            f"with masks in <category>/ground_truth/<kind>/*_mask.png, but no folder there holds {split!r}."
        )
    if set(categories) <= {folder.name for folder in folders}:
        folders = [folder for folder in folders if not categories or folder.name in categories]
    samples: list[Sample] = []
    for folder in folders:
        category, found = folder.name, len(samples)
        for kind in _folders(folder / split):
            defective = kind.name != "good"
            for path in _pictures(kind):
                mask = (
                    _mask_beside(folder / "ground_truth" / kind.name, path) if defective else None
                )
                samples.append(
                    Sample(
                        key=f"{category}/{split}/{kind.name}/{path.stem}",
                        category=category,
                        object_name=object_name(category),
                        kind=kind.name,
                        defective=defective,
                        image=File(path),
                        mask=File(mask) if mask else None,
                    )
                )
        if len(samples) == found:
            raise ZsasError(
                f"There are no images below {folder / split}; expected {split}/<kind>/*.png, "
                'where <kind> is "good" or the name of a defect.'
            )
    name = layout if layout in ("mvtec", "made") else root.resolve().name
    return Dataset(name, split, tuple(samples), LICENCES.get(layout, ""))


def _mask_beside(folder: Path, picture: Path) -> Path:
    for stem in (f"{picture.stem}_mask", picture.stem):
        for suffix in SUFFIXES:
            path = folder / (stem + suffix)
            if path.is_file():
                return path
    raise ZsasError(
        f"{picture} shows a defect but has no mask; expected it at {folder / (picture.stem + '_mask.png')}."
    )


def _read_visa(root: Path, split: Split, categories: Sequence[str] = ()) -> Dataset:
    """`split_csv/1cls.csv` with the columns object, split, label, image, mask."""
    table = root / "split_csv" / "1cls.csv"
    if not table.is_file():
        raise ZsasError(
            f"{root} does not look like VisA: expected the table split_csv/1cls.csv in it."
        )
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {"object", "split", "label", "image", "mask"}
    if not rows or not columns <= rows[0].keys():
        raise ZsasError(f"{table} must be a table with the columns {', '.join(sorted(columns))}.")
    samples = []
    narrow = set(categories) if set(categories) <= {row["object"] for row in rows} else set()
    for row in rows:
        if row["split"] != split or (narrow and row["object"] not in narrow):
            continue
        defective = row["label"] != "normal"
        image, mask = root / row["image"], root / row["mask"] if row["mask"] else None
        for path in (image, mask):
            if path is not None and not path.is_file():
                raise ZsasError(
                    f"{table} names {path.relative_to(root)}, but there is no such file."
                )
        if defective and mask is None:
            raise ZsasError(f"{table} names no mask for the defective image {row['image']}.")
        samples.append(
            Sample(
                key=f"{row['object']}/{split}/{'bad' if defective else 'good'}/{image.stem}",
                category=row["object"],
                object_name=object_name(row["object"]),
                kind="bad" if defective else "good",
                defective=defective,
                image=File(image),
                mask=File(mask) if mask else None,
            )
        )
    if not samples:
        raise ZsasError(f"{table} has no row of the split {split!r}.")
    return Dataset("visa", split, tuple(samples), LICENCES["visa"])


def _read_flat(root: Path, split: Split) -> Dataset:
    """Images side by side; a mask is `masks/<name>.png`, `<name>_mask.png` or absent.

    With masks at hand, an image without one is sound; without any, nothing is known about any image.
    """
    pictures = [path for path in _pictures(root) if not path.stem.endswith("_mask")]
    if not pictures:
        raise ZsasError(
            f"There are no images in {root}; expected files such as part.png, "
            "with optional masks as masks/part.png or part_mask.png."
        )
    masks: dict[str, Path] = {}
    for folder in (root / "masks", root):
        if folder.is_dir():
            for path in _pictures(folder):
                stem = path.stem.removesuffix("_mask")
                if folder.name == "masks" or stem != path.stem:
                    masks.setdefault(stem, path)
    samples = []
    for path in pictures:
        mask = masks.get(path.stem)
        defective = (mask is not None and _any_defect(File(mask))) if masks else None
        samples.append(
            Sample(
                key=path.name,
                category=root.resolve().name,
                object_name="",
                kind="" if defective is None else "bad" if defective else "good",
                defective=defective,
                image=File(path),
                mask=File(mask) if mask else None,
            )
        )
    return Dataset(root.resolve().name, split, tuple(samples))


def _any_defect(mask: File) -> bool:
    """Whether a mask marks anything; an unreadable one counts as marked and is reported when loaded."""
    try:
        with Image.open(mask.path) as image:
            shape = (image.height, image.width)
        return bool(read_mask(mask.path, shape).any())
    except (OSError, ZsasError):
        return True


def _hub_mvtec(split: Split, categories: Sequence[str], revision: str | None) -> Dataset:
    path = _hub_file(HUB["mvtec"], "samples.json", revision)
    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    return mvtec_from_fiftyone(rows["samples"] if isinstance(rows, dict) else rows, split, revision)


def mvtec_from_fiftyone(
    rows: Sequence[Mapping[str, Any]], split: Split, revision: str | None = None
) -> Dataset:
    """MVTec-AD from the rows of FiftyOne's `samples.json` on the Hub."""
    samples = []
    for row in rows:
        try:
            category, kind = row["category"]["label"], row["defect"]["label"]
            name, row_split = row["filepath"], row["split"]
        except (KeyError, TypeError):
            raise ZsasError(
                f"A row of samples.json in {HUB['mvtec']} lacks category.label, defect.label, split or "
                "filepath; its layout has changed, so give a --revision that is known or a local --root."
            ) from None
        if row_split != split:
            continue
        defective = kind != "good"
        mask = _fiftyone_mask(row.get("defect_mask") or {}, revision) if defective else None
        if defective and mask is None:
            raise ZsasError(f"samples.json in {HUB['mvtec']} has no defect_mask for {name}.")
        samples.append(
            Sample(
                key=f"{category}/{split}/{kind}/{Path(name).stem}",
                category=category,
                object_name=object_name(category),
                kind=kind,
                defective=defective,
                image=HubFile(HUB["mvtec"], name, revision),
                mask=mask,
            )
        )
    if not samples:
        raise ZsasError(f"samples.json in {HUB['mvtec']} has no image of the split {split!r}.")
    return Dataset("mvtec", split, tuple(samples), LICENCES["mvtec"])


def _fiftyone_mask(field: Mapping[str, Any], revision: str | None) -> Source | None:
    if field.get("mask_path"):
        return HubFile(HUB["mvtec"], field["mask_path"], revision)
    packed = field.get("mask")
    if isinstance(packed, Mapping):
        packed = packed.get("$binary")
        if isinstance(packed, Mapping):
            packed = packed.get("base64")
    return InlineMask(packed) if isinstance(packed, str) else None


def _hub_visa(split: Split, categories: Sequence[str], revision: str | None) -> Dataset:
    unknown = sorted(set(categories) - set(VISA_CATEGORIES))
    if unknown:
        raise ZsasError(
            f"visa has no category {unknown[0]!r}; it has {', '.join(VISA_CATEGORIES)}."
        )
    samples: list[Sample] = []
    for category in dict.fromkeys(categories) or VISA_CATEGORIES:
        name = f"data/{category}.{split}-00000-of-00001.parquet"
        samples += visa_from_parquet(_hub_file(HUB["visa"], name, revision), category, split)
    return Dataset("visa", split, tuple(samples), LICENCES["visa"])


def visa_from_parquet(path: Path, category: str, split: Split) -> list[Sample]:
    """One category of VisA from its parquet file, columns `image`, `mask` and `label`."""
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    if not {"image", "mask", "label"} <= set(names):
        raise ZsasError(
            f"{path.name} must have the columns image, mask and label, but it has {', '.join(names)}."
        )
    samples = []
    for row, label in enumerate(pq.read_table(path, columns=["label"])["label"].to_pylist()):
        defective = str(label).lower() not in ("0", "false", "normal", "good")
        samples.append(
            Sample(
                key=f"{category}/{split}/{'bad' if defective else 'good'}/{row:04d}",
                category=category,
                object_name=object_name(category),
                kind="bad" if defective else "good",
                defective=defective,
                image=Cell(path, "image", row),
                mask=Cell(path, "mask", row) if defective else None,
            )
        )
    return samples


@functools.lru_cache(maxsize=4)
def _cells(path: Path, column: str) -> list[bytes]:
    """The packed pictures of one column; a category of VisA is about 200 files of 1 MB at most."""
    import pyarrow.parquet as pq

    cells = pq.read_table(path, columns=[column])[column].to_pylist()
    return [cell["bytes"] if isinstance(cell, dict) else cell or b"" for cell in cells]


def _hub_file(repo: str, name: str, revision: str | None) -> Path:
    """A file of a data set on the Hub, from the cache or downloaded (and continued after a break)."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # Without the network the library would retry each file for half a minute; the cache is enough.
        return Path(
            hf_hub_download(
                repo,
                name,
                repo_type="dataset",
                revision=revision,
                local_files_only=not _hub_answers(),
            )
        )
    except LocalEntryNotFoundError:
        reason = "it does not answer and the file is not in the cache"
    except (OSError, HfHubHTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise ZsasError(
        f"{name} of {repo} cannot be had from the Hugging Face Hub ({reason}); "
        "check the network, or download the data set and give its folder with --root."
    )


@functools.lru_cache(maxsize=1)
def _hub_answers() -> bool:
    """One quick question to the Hub in the life of a process."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=3)
        return True
    except Exception:  # any failure of the network layer means the same: not reachable
        return False
