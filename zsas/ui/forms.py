"""The fields of a form over plain HTTP; each is refused as a `WrongValue` that names it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import FormData, UploadFile

from zsas.errors import ZsasError
from zsas.localizers.mutual import check_count
from zsas.ui.values import WrongValue, read_switch, refused, shortened


def mutual_of(fields: dict[str, str], images: int) -> bool:
    """Whether the images of a batch are compared with each other, out of the fields."""
    mutual = read_switch("batch_scoring", fields.pop("batch_scoring", ""))
    if mutual:
        try:
            check_count(images)
        except ZsasError as error:
            raise WrongValue("batch_scoring", str(error)) from None
    return mutual


async def mask_of(form: FormData) -> bytes:
    """The ground truth of a comparison; empty without one."""
    masks = form.getlist("mask")
    if not masks or masks == [""]:
        return b""
    if len(masks) > 1 or not isinstance(masks[0], UploadFile):
        raise WrongValue("mask", 'The field "mask" takes one file.')
    data = await masks[0].read()
    if not data:
        raise WrongValue("mask", "The mask is empty; send a complete image file.")
    return data


def texts_of(form: FormData, files: Sequence[str]) -> dict[str, str]:
    """All fields but those of files, each given once and as text."""
    found: dict[str, str] = {}
    for name, value in form.multi_items():
        if name in files:
            continue
        if isinstance(value, UploadFile):
            raise WrongValue(name, f"{shortened(name)} is a file, but text was expected.")
        if name in found:
            raise WrongValue(name, f"{shortened(name)} is given twice; give it once.")
        found[name] = value
    return found


async def files_of(form: FormData, field: str) -> list[tuple[str, bytes]]:
    """Names and contents of a field that may be files or text."""
    found = []
    for value in form.getlist(field):
        if isinstance(value, UploadFile):
            found.append((value.filename or field, await value.read()))
        else:
            found.append((field, value.encode()))
    return found


def only(given: dict[str, list[tuple[str, bytes]]], field: str) -> bytes:
    """The content of a field that is given once at most; empty where it is missing."""
    if len(given[field]) > 1:
        raise WrongValue(field, f"{field} is given {len(given[field])} times; give it once.")
    return given[field][0][1] if given[field] else b""


def whole_number(name: str, fields: dict[str, str]) -> int:
    """A page or a number of bits, out of the fields; 0 where it is missing."""
    text = fields.pop(name, "").strip() or "0"
    highest = 32 if name == "bits" else 1_000_000
    if not (text.isdecimal() and text.isascii()) or len(text) > 9 or int(text) > highest:
        raise refused(name, text, f"a number from 0 to {highest}")
    return int(text)


def choice_of_files(text: str, able: Sequence[str]) -> tuple[str, ...]:
    """The files that are to be answered as well, out of those that there are."""
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in chosen:
        if name not in able:
            raise refused("files", text, f"some of {', '.join(able)}")
    return chosen
