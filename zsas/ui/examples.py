"""The bundled examples, and those on the Hub that join them when it answers."""

from __future__ import annotations

import os
import sys
import threading
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.images import load_image, read_mask
from zsas.ui.drawing import jpeg, shrink

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDER = next(
    (place for place in (_PACKAGE / "examples", _PACKAGE.parent / "examples") if place.is_dir()),
    _PACKAGE / "examples",
)
"""The examples: inside an installed package, beside the package in a clone."""
EXAMPLE_BATCH = FOLDER / "capsules" / "batch"
"""A small batch of one part, of our own making."""
THUMB_SIDE = 168
LEFT_OUT = (
    "The example photos on the Hugging Face Hub cannot be fetched and are left out; "
    "the page works without them and shows its own."
)


@dataclass(frozen=True)
class Example:
    """One image to try.

    Attributes:
        id: Short name, also in URLs.
        title: What is to be seen.
        object_name: For the text prompts.
        image: File of the image.
        mask: File of the ground truth, or None.
        licence: Under which it may be used.
        credit: Whom to name, "" for our own.
    """

    id: str
    title: str
    object_name: str
    image: Path
    mask: Path | None
    licence: str
    credit: str = ""

    def load(self) -> NDArray[np.uint8]:
        """The image, uint8 RGB (H, W, 3)."""
        return load_image(self.image)

    def truth(self) -> NDArray[np.bool_] | None:
        """The ground truth, bool (H, W), or None."""
        return None if self.mask is None else read_mask(self.mask, self.load().shape[:2])


class Examples:
    """All examples that can be shown now, in order; grows when the Hub answers.

    Attributes:
        bundled: How many come with the package.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._all = {example.id: example for example in _bundled(folder)}
        self.bundled = len(self._all)
        self._thumbs: dict[str, bytes] = {}
        self._fetching: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._all)

    @property
    def complete(self) -> bool:
        """Whether no more examples are to be expected."""
        return self._fetching is None or not self._fetching.is_alive()

    def get(self, key: str) -> Example | None:
        """The example of an id, or None."""
        return self._all.get(key)

    def html(self) -> str:
        """The examples as a row of buttons; which one is pressed is set in the browser."""
        buttons = []
        for example in list(self._all.values()):
            note = (
                f"<small>{escape(example.credit)}, {escape(example.licence)}</small>"
                if example.credit
                else ""
            )
            buttons.append(
                f'<li><button type="button" data-example="{escape(example.id)}" aria-pressed="false">'
                f'<img data-at="zsas/example/{escape(example.id)}.jpg" alt="" width="84" height="84" loading="lazy">'
                f"<span>{escape(example.title)}</span>{note}</button></li>"
            )
        return (
            f'<ul class="zs-examples" aria-label="Examples">{"".join(buttons)}</ul>'
            if buttons
            else ""
        )

    def thumb(self, key: str) -> bytes | None:
        """The small picture of an example, JPEG, made when it is first asked for; None where there is none."""
        example = self._all.get(key)
        if example is not None and key not in self._thumbs:
            small = shrink(example.load(), THUMB_SIDE)
            self._thumbs[key] = jpeg(np.asarray(small, np.uint8), 75)
        return self._thumbs.get(key)

    def fetch_in_background(self) -> None:
        """Look for the examples listed in `hub.toml`; without the Hub nothing changes."""
        listing = self._folder / "hub.toml"
        if listing.is_file():
            self._fetching = threading.Thread(
                target=self._fetch, args=(listing,), name="hub-examples", daemon=True
            )
            self._fetching.start()

    def _fetch(self, listing: Path) -> None:
        entries = tomllib.loads(listing.read_text(encoding="utf-8")).get("example", [])
        for entry in entries:
            try:
                example = _from_hub(entry)
            except Exception:  # whatever goes wrong out there, the page has its own examples
                if not os.environ.get("HF_HUB_OFFLINE"):
                    print(LEFT_OUT, file=sys.stderr)
                return
            self._all[example.id] = example


def _bundled(folder: Path) -> list[Example]:
    index = folder / "index.toml"
    if not index.is_file():
        return []
    found = []
    for entry in tomllib.loads(index.read_text(encoding="utf-8"))["example"]:
        mask = entry.get("mask", "")
        found.append(
            Example(
                entry["id"],
                entry["title"],
                entry["object"],
                folder / entry["image"],
                folder / mask if mask else None,
                entry["licence"],
            )
        )
    return found


def _from_hub(entry: dict[str, Any]) -> Example:
    """One example, from the local cache or else from the Hub."""
    from huggingface_hub import cached_assets_path
    from PIL import Image

    from zsas.datasets.load import load_dataset
    from zsas.datasets.samples import object_name

    folder = cached_assets_path("zsas", "examples")
    image, mask = folder / f"{entry['id']}.png", folder / f"{entry['id']}_mask.png"
    if not (image.is_file() and mask.is_file()):
        data = load_dataset(
            entry["dataset"], categories=[entry["category"]], revision=entry["revision"]
        )
        sample = next(sample for sample in data if sample.defect_type == entry["defect_type"])
        pixels = sample.load_image()
        truth = sample.load_mask(pixels.shape[:2])
        if truth is not None:
            Image.fromarray(truth.astype(np.uint8) * 255).save(mask)
        Image.fromarray(pixels).save(image)
    return Example(
        entry["id"],
        entry["title"],
        object_name(entry["category"]),
        image,
        mask if mask.is_file() else None,
        entry["licence"],
        entry["attribution"],
    )
