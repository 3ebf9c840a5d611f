"""Data sets on disk or at an address: the layouts of MVTec-AD and VisA, and a flat folder with optional masks."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zsas.datasets.defects import CONFIG, DefectMasks, Saturation, read_rules
from zsas.datasets.samples import LICENCES, Dataset, File, Sample, Split, object_name
from zsas.errors import ZsasError, readable, reason
from zsas.extras import require
from zsas.images import SUFFIXES, load_image, read_mask

if TYPE_CHECKING:
    from zsas.datasets.samples import Place


_GOOD = ("good", "ok", "normal")
"""Folders of normal images, in lower case, where no masks are kept for them: MVTec-AD's name, BTAD's, and another."""

_MASK_ENDS = ("_mask", "_GT")
"""How the name of a mask goes on after that of its image, beside masks of the same name: MVTec-AD's, KolektorSDD2's."""


def place(root: str | Path | Place) -> Place:
    """A folder on disk, or at an address that fsspec knows (s3://, gs://, hf://).

    Raises:
        ZsasError: If nothing is known about such addresses here.
    """
    if "://" not in str(root):
        return Path(str(root))
    require("tables")
    from upath import UPath

    try:
        found = UPath(root)
        found.fs  # noqa: B018 - the package that speaks to such a storage is looked for here
    except (ImportError, ValueError) as error:
        raise ZsasError(f"{root} cannot be listed ({reason(error)}).") from None
    if isinstance(found, Path):  # what it takes for no address it takes for a file
        raise ZsasError(f"{root} cannot be listed: there are no such addresses.")
    return found


# Long because each refusal stands where what it refuses is met.
def read_mvtec(root: Place, split: Split, layout: str, categories: Sequence[str] = ()) -> Dataset:
    """`<category>/<split>/<defect type>/NNN.png` and `<category>/ground_truth/<defect type>/NNN_mask.png`.

    A folder called ok or normal is one of good images, as BTAD has it, unless it has masks. The mask may be a folder
    NNN with one mask for each defect of the image, as MVTec LOCO AD has it; see `zsas.datasets.defects`. In MVTec AD 2
    the folder of test images is `test_public`, and `ground_truth` lies in it.
    """
    places = {path: at for path in _folders(root) if (at := _places_of(path, split)) is not None}
    folders = list(places)
    if not folders:
        raise ZsasError(
            f"{root} does not look like MVTec-AD: expected <category>/{split}/<defect type>/*.png below it, "
            f"with masks in <category>/ground_truth/<defect type>/*_mask.png, but no folder there holds {split!r}."
        )
    if set(categories) <= {folder.name for folder in folders}:
        folders = [folder for folder in folders if not categories or folder.name in categories]
    for folder in _folders(root):
        wanted = not categories or folder.name in categories
        if wanted and folder not in folders and (folder / "ground_truth").is_dir():
            raise ZsasError(
                f"{folder} has masks, but no folder {split!r}; expected {split}/<defect type>/*.png in it."
            )
    samples: list[Sample] = []
    notes: list[str] = []
    for folder in folders:
        category, found = readable(folder.name), len(samples)
        images, truth = places[folder]
        astray = _pictures(images)
        rules = read_rules(folder / CONFIG)
        for defect_type in _folders(images):
            if defect_type == truth:
                continue
            astray += [path for below in _folders(defect_type) for path in _pictures(below)]
            place_of_masks = truth / defect_type.name
            anomalous = defect_type.name.lower() not in _GOOD or (
                defect_type.name != "good" and place_of_masks.is_dir()
            )
            masks = _Masks(place_of_masks)
            for path in _pictures(defect_type):
                mask = masks.of(path, rules) if anomalous else None
                samples.append(
                    Sample(
                        key=readable(f"{category}/{split}/{defect_type.name}/{path.stem}"),
                        category=category,
                        object_name=object_name(category),
                        defect_type=readable(defect_type.name) if anomalous else "good",
                        anomalous=anomalous,
                        image=File(path),
                        mask=mask,
                    )
                )
        if len(samples) == found:
            raise ZsasError(
                f"There are no images below {images}; expected {images.name}/<defect type>/*.png, "
                'where <defect type> is "good" or the name of a defect.'
            )
        if astray:
            notes.append(
                f"{len(astray)} image{'' if len(astray) == 1 else 's'} of {images} lie beside or below the "
                f"folders of defect types and were left out, as {astray[0]}."
            )
    name = layout if layout in LICENCES else _name(root)
    return Dataset(name, split, tuple(samples), LICENCES.get(layout, ""), tuple(notes))


def _places_of(category: Place, split: Split) -> tuple[Place, Place] | None:
    """Where the images of a category lie, and their masks; None if it has no such split."""
    images = next(
        (category / n for n in (split, f"{split}_public") if (category / n).is_dir()), None
    )
    if images is None:
        return None
    within = images / "ground_truth"
    return images, within if within.is_dir() else category / "ground_truth"


def read_visa(root: Place, split: Split, categories: Sequence[str] = ()) -> Dataset:
    """`split_csv/1cls.csv` with the columns object, split, label, image, mask."""
    table = root / "split_csv" / "1cls.csv"
    if not table.is_file():
        raise ZsasError(
            f"{root} does not look like VisA: expected the table split_csv/1cls.csv in it."
        )
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a mark
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ZsasError(
            f"{table} cannot be read as a table ({reason(error)}); save it as CSV in UTF-8."
        ) from None
    columns = {"object", "split", "label", "image", "mask"}
    if not rows or not columns <= rows[0].keys():
        raise ZsasError(f"{table} must be a table with the columns {', '.join(sorted(columns))}.")
    for number, row in enumerate(rows, start=1):
        lacking = [name for name in ("object", "split", "label", "image") if not row[name]]
        if lacking:
            raise ZsasError(f"Row {number} of {table} has no {lacking[0]}.")
    samples = []
    narrow = set(categories) if set(categories) <= {row["object"] for row in rows} else set()
    for row in rows:
        if row["split"] != split or (narrow and row["object"] not in narrow):
            continue
        anomalous = row["label"] != "normal"
        image, mask = root / row["image"], root / row["mask"] if row["mask"] else None
        for name in filter(None, (row["image"], row["mask"])):
            if not (root / name).is_file():
                raise ZsasError(f"{table} names {name}, but there is no such file.")
        if anomalous and mask is None:
            raise ZsasError(f"{table} names no mask for the anomalous image {row['image']}.")
        samples.append(
            Sample(
                key=f"{row['object']}/{split}/{'bad' if anomalous else 'good'}/{image.stem}",
                category=row["object"],
                object_name=object_name(row["object"]),
                defect_type="bad" if anomalous else "good",
                anomalous=anomalous,
                image=File(image),
                mask=File(mask) if mask else None,
            )
        )
    if not samples:
        raise ZsasError(f"{table} has no row of the split {split!r}.")
    return Dataset("visa", split, tuple(samples), LICENCES["visa"])


def read_flat(root: Place, split: Split) -> Dataset:
    """Images side by side; a mask is `masks/<name>.png`, `<name>_mask.png`, `<name>_GT.png` or absent.

    With masks at hand, an image without one is normal; without any, nothing is known about any image.
    """
    pictures = [path for path in _pictures(root) if not path.stem.endswith(_MASK_ENDS)]
    if not pictures:
        raise ZsasError(
            f"There are no images in {root}; expected files such as part.png, "
            "with optional masks as masks/part.png or part_mask.png."
        )
    masks = _flat_masks(root, pictures)
    samples = []
    for path in pictures:
        mask = masks.get(path)
        anomalous = (mask is not None and _any_defect(File(mask))) if masks else None
        samples.append(
            Sample(
                key=readable(path.name),
                category=readable(_name(root)),
                object_name="",
                defect_type="" if anomalous is None else "bad" if anomalous else "good",
                anomalous=anomalous,
                image=File(path),
                mask=File(mask) if mask else None,
            )
        )
    return Dataset(_name(root), split, tuple(samples))


def _flat_masks(root: Place, pictures: Sequence[Place]) -> dict[Place, Place]:
    """The mask of each image of a flat folder that has one.

    Raises:
        ZsasError: If it is not sure whose a mask is: the image would count as normal.
    """
    found: dict[str, Place] = {}
    for folder in (root / "masks", root):
        for path in _pictures(folder) if folder.is_dir() else ():
            stem = path.stem
            for end in _MASK_ENDS:
                stem = stem.removesuffix(end)
            if folder.name == "masks" or stem != path.stem:
                found.setdefault(stem, path)
    masks = _Masks(root / "masks", found.values())
    of = {path: mask for path in pictures if (mask := masks.find(path)) is not None}
    owners: dict[Place, Place] = {}
    for path, mask in of.items():
        other = owners.setdefault(mask, path)
        if other is not path:
            raise ZsasError(
                f"{mask} could be the mask of {other.name} and of {path.name}; rename one of these images and its mask."
            )
    left = sorted(set(found.values()) - owners.keys())
    if left and len(of) < len(pictures):
        raise ZsasError(
            f"{left[0]} is the mask of no image in {root}, and an image without a mask counts as normal; name a mask "
            "as its image, masks/part.png or part_mask.png for part.jpg, or take it away."
        )
    return of


class _Masks:
    """The masks in one folder of ground truth; upper and lower case are told apart only where both are there."""

    def __init__(self, folder: Place, found: Iterable[Place] | None = None) -> None:
        self.folder = folder
        if found is None:
            found = _pictures(folder) if folder.is_dir() else []
        found = list(found)
        self.by_stem = {path.stem.lower(): path for path in found} | {p.stem: p for p in found}

    def find(self, picture: Place) -> Place | None:
        for stem in (*(picture.stem + end for end in _MASK_ENDS), picture.stem):
            for name in (stem, stem.lower()):
                if name in self.by_stem:
                    return self.by_stem[name]
        return None

    def of(self, picture: Place, rules: tuple[Saturation, ...]) -> File | DefectMasks:
        found = self.find(picture)
        if found is not None:
            return File(found)
        each = self.folder / picture.stem
        if each.is_dir() and (files := _pictures(each)):
            return DefectMasks(tuple(files), rules)
        expected = self.folder / f"{picture.stem}_mask.png"
        raise ZsasError(
            f"{picture} shows a defect but has no mask; expected it at {expected}, or one for each of its defects in "
            f"the folder {each}. Normal images lie in a folder called good (or ok, or normal)."
        )


def _any_defect(mask: File) -> bool:
    """Whether a mask marks anything; an unreadable one counts as marked and is reported when loaded."""
    try:
        shape = load_image(mask.path).shape
        return bool(read_mask(mask.path, (shape[0], shape[1])).any())
    except ZsasError:
        return True


def _name(root: Place) -> str:
    """What `dataset.json` in the folder gives as "name", else the folder's name; of a whole bucket the bucket's."""
    note = root / "dataset.json"
    try:
        given = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    except ValueError:
        given = {}  # somebody else's file
    if isinstance(given, dict) and isinstance(given.get("name"), str) and given["name"]:
        return str(given["name"])
    return root.resolve().name or root.drive or str(root)


def _pictures(folder: Place) -> list[Place]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _folders(folder: Place) -> list[Place]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
