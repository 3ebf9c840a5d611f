"""Weights published by the authors of a method: known by name, downloaded once, reduced to what is needed.

They are files of GitHub repositories, which are neither on the Hub nor moved by HF_ENDPOINT; ZSAS_RAW_ENDPOINT names
another server with the same paths.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zsas.errors import ZsasError
from zsas.files import whole
from zsas.models.download import Wanted, download, locked
from zsas.models.repository import cannot_keep

if TYPE_CHECKING:
    from torch import Tensor

RAW_ENDPOINT = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Published:
    """One published file of weights.

    Attributes:
        name: What a person types, method and training set: "april-gan:visa".
        path: Owner, repository, branch and file.
        most_bytes: Size that it cannot exceed.
        entry: Key of the state dict in the file.
        keep: Beginnings of the names of the tensors that are needed.
        cut: Whether only these are kept, as safetensors; else the file as it is.
        card: What the kept file says of itself.
    """

    name: str
    path: str
    most_bytes: int
    entry: str
    keep: tuple[str, ...]
    cut: bool = False
    card: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the file is fetched; ZSAS_RAW_ENDPOINT names a mirror."""
        base = os.environ.get("ZSAS_RAW_ENDPOINT") or RAW_ENDPOINT
        return f"{base.rstrip('/')}/{self.path}"


def _april_gan(trained_on: str) -> Published:
    """Linear layers for ViT-L/14-336; all of the file is used, so it is kept as it is."""
    return Published(
        f"april-gan:{trained_on}",
        f"ByChelsea/VAND-APRIL-GAN/main/exps/pretrained/{trained_on}_pretrained.pth",
        20_000_000,
        entry="trainable_linearlayer",
        keep=tuple(f"fc.{i}." for i in range(4)),
    )


def _anomalyclip(trained_on: str, folder: str) -> Published:
    """Learned prompts for ViT-L/14-336: 43,008 numbers of a file of 23 MB."""
    return Published(
        f"anomalyclip:{trained_on}",
        f"zqhang/AnomalyCLIP/main/checkpoints/{folder}/epoch_15.pth",
        60_000_000,
        entry="prompt_learner",
        keep=("ctx_pos", "ctx_neg", "compound_prompts_text."),
        cut=True,
        card={
            "localizer": "anomalyclip",
            "backbone": "openai/clip-vit-large-patch14-336",
            "trained_on": trained_on,
            "resolution": "518",
            "activation": "quick_gelu",
        },
    )


PUBLISHED: dict[str, Published] = {
    one.name: one
    for one in (
        _april_gan("mvtec"),
        _april_gan("visa"),
        # The folder is named after the set that is tested: its scripts train on VisA for the first, MVTec-AD for the
        # second (train.sh).
        _anomalyclip("visa", "9_12_4_multiscale"),
        _anomalyclip("mvtec", "9_12_4_multiscale_visa"),
    )
}


def weights_file(name: str) -> Path:
    """The path of a file of weights, given by path or by the name of a published one, which is downloaded once.

    Raises:
        ZsasError: If there is no such name, or the file cannot be had. A path is not looked at.
    """
    method, colon, _ = name.partition(":")
    methods = {one.partition(":")[0] for one in PUBLISHED}
    if not colon or method not in methods:
        return Path(os.path.expanduser(name))
    if name not in PUBLISHED:
        able = " or ".join(one for one in PUBLISHED if one.startswith(f"{method}:"))
        raise ZsasError(f"There are no published weights {name!r}; choose {able}.")
    published = PUBLISHED[name]
    from huggingface_hub import constants

    folder = Path(constants.HF_ASSETS_CACHE, "zsas", method)
    original = folder / f"{name.partition(':')[2]}{Path(published.path).suffix}"
    kept = original.with_suffix(".safetensors") if published.cut else original
    if kept.is_file():
        return kept
    if constants.HF_HUB_OFFLINE:
        raise ZsasError(
            f"The weights {name} are not here, and the environment says offline (HF_HUB_OFFLINE); download "
            f"{published.url} elsewhere and name its path."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f"{original.name}.lock", name):
            if not kept.is_file():
                _fetch(published, original, kept)
    except OSError as error:
        raise ZsasError(cannot_keep(f"The file {name}", folder, error)) from None
    except ZsasError as error:
        raise ZsasError(
            f"{error} Or download {published.url} elsewhere and name its path."
        ) from None
    return kept


def _fetch(published: Published, original: Path, kept: Path) -> None:
    """Download and check; `kept` appears last, and the original goes where only a part of it is kept."""
    from safetensors.torch import save_file

    arrived = original.with_name(f"{original.name}.arrived")
    download(
        Wanted(published.url, published.name, most=published.most_bytes, of_torch=True), arrived
    )
    try:
        tensors = extract(published, arrived)
        if published.cut:
            card = {**published.card, "source": f"{RAW_ENDPOINT}/{published.path}"}
            with whole(kept) as part:
                save_file(tensors, part, metadata=card)
        else:
            os.replace(arrived, kept)
    finally:
        arrived.unlink(missing_ok=True)


def extract(published: Published, file: Path) -> dict[str, Tensor]:
    """The needed tensors of a published file, fp32, without leading dimensions of 1.

    Raises:
        ZsasError: If the file is another one.
    """
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)[published.entry]
        found = {
            name: _squeezed(tensor)
            for name, tensor in content.items()
            if name.startswith(published.keep)
        }
    except Exception:  # torch raises half a dozen kinds for damaged or unsafe files
        found = {}
    missing = [start for start in published.keep if not any(k.startswith(start) for k in found)]
    if missing:
        raise ZsasError(
            f"The file of {published.name} is not what its makers published: {missing[0]} is missing in "
            f"{published.entry}."
        )
    return found


def _squeezed(tensor: Tensor) -> Tensor:
    """In fp32, contiguous, without leading dimensions of 1."""
    while tensor.ndim > 2 and tensor.shape[0] == 1:
        tensor = tensor[0]
    return tensor.detach().float().contiguous()
