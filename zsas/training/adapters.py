"""Trains the linear layers of the linear localizer: the recipe of the paper, which is APRIL-GAN's.

CLIP is frozen, so its patch tokens are computed once and kept on disk as far as the budget allows; after
that a training takes as long as four small matrix products an image. Trained on one data set's test
split and judged on another's: the adapter remembers which, and `zsas evaluate` warns where they meet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from zsas import __version__
from zsas.backbones.clip import ClipBackbone
from zsas.backbones.text import ENSEMBLE
from zsas.datasets.samples import Dataset, Sample
from zsas.errors import ZsasError
from zsas.evaluation.identity import digest_of_samples, digest_of_weights
from zsas.evaluation.metrics import PixelCounts, Truth, pixel_metrics
from zsas.localizers.adapter import Adapter, AdapterCard, quarters
from zsas.training.checkpoint import CurveLog, load_checkpoint, plot_curves, save_checkpoint
from zsas.training.losses import dice_loss, focal_loss

EPOCHS = {"mvtec": 3, "visa": 15}
"""Those of APRIL-GAN's training; see docs/method.md for which data set gets which."""
OTHER_EPOCHS = 15
COLUMNS = ("epoch", "loss", "focal", "dice", "validation_loss", "validation_auroc", "validation_ap")


@dataclass(frozen=True)
class Recipe:
    """What decides a training beside its data.

    Attributes:
        epochs: Passes over the images.
        batch: Images a step.
        lr: Adam's step.
        betas: Adam's averages.
        resolution: Side of the CLIP frame in pixels.
        blocks: Blocks that get a linear layer, counted from 1; empty takes every quarter of the depth.
        scale: Factor on the cosines.
        holdout: Share of the images kept for the validation curve only; 0 trains on all, as the paper does.
        seed: Seed of weights and order.
    """

    epochs: int = OTHER_EPOCHS
    batch: int = 16
    lr: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    resolution: int = 518
    blocks: tuple[int, ...] = ()
    scale: float = 100.0
    holdout: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("epochs", 1, 1000), ("batch", 1, 1024), ("resolution", 32, 2048)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ZsasError(f"{name} is {value}, but it must be {low} to {high}.")
        if not 0.0 <= self.holdout <= 0.5:
            raise ZsasError(
                f"holdout is {self.holdout}, but it must be a share of the images, 0 to 0.5."
            )


class Tokens:
    """Frozen patch tokens of a data set, computed when first needed and kept on disk.

    Args:
        clip: The backbone.
        samples: The images.
        recipe: `resolution` and `blocks` matter.
        folder: Where the file lies; it is taken up again by a later run on the same images.
        budget: Most bytes on disk; a larger data set is encoded anew in every epoch.
    """

    def __init__(
        self,
        clip: ClipBackbone,
        samples: Sequence[Sample],
        recipe: Recipe,
        folder: Path,
        budget: int,
    ) -> None:
        self.clip, self.samples, self.recipe = clip, samples, recipe
        self.blocks = recipe.blocks or quarters(clip.depth)
        self.grid = recipe.resolution // clip.patch
        self.encoded = 0
        shape = (len(samples), len(self.blocks), self.grid * self.grid, clip.width)
        self.nbytes = 2 * int(np.prod(shape))
        self._kept: NDArray[np.float16] | None = None
        if self.nbytes > budget:
            return
        folder.mkdir(parents=True, exist_ok=True)
        stamp = {
            "shape": shape,
            "blocks": self.blocks,
            "precision": str(clip.dtype),
            **_seen(clip, samples),
        }
        text, path = json.dumps(stamp), folder / "tokens.json"
        whole = all((folder / f"tokens.{end}").is_file() for end in ("json", "f16", "done"))
        fresh = not whole or path.read_text() != text
        mode: Literal["w+", "r+"] = "w+" if fresh else "r+"
        self._kept = np.memmap(folder / "tokens.f16", np.float16, mode, shape=shape)
        self._done = np.memmap(folder / "tokens.done", np.uint8, mode, shape=(len(samples),))
        path.write_text(text)

    def of(self, index: Sequence[int]) -> Tensor:
        """Tokens of some images, fp32 (B, layers, g · g, width), on the backbone's device."""
        missing = [i for i in index if self._kept is None or not self._done[i]]
        fresh: dict[int, NDArray[np.float16]] = {}
        if missing:
            pixels = self.clip.pixels(
                [self.samples[i].load_image() for i in missing], self.recipe.resolution
            )
            seen = self.clip.forward_vision(pixels, blocks=self.blocks)
            tokens = torch.stack([seen.blocks[block] for block in self.blocks], dim=1)
            for i, row in zip(missing, tokens.half().cpu().numpy(), strict=True):
                fresh[i] = row
                if self._kept is not None:
                    self._kept[i] = row
                    self._done[i] = 1
            self.encoded += len(missing)
        rows = [fresh[i] if i in fresh else self._kept[i] for i in index]  # type: ignore[index]
        return torch.from_numpy(np.stack(rows)).to(self.clip.device).float()


def _seen(clip: ClipBackbone, samples: Sequence[Sample]) -> dict[str, str]:
    """Which model sees which images, so that other weights or pictures under the same names are noticed."""
    return {
        "backbone": clip.name,
        "activation": clip.activation,
        "weights": digest_of_weights(clip.model.state_dict().values()),
        "keys": digest_of_samples(samples),
    }


def margins(
    tokens: Tensor, layers: nn.ModuleList, states: Tensor, side: int, scale: float
) -> Tensor:
    """Defective minus sound logit of each layer in the CLIP frame, fp32 (B, layers, side, side).

    Args:
        tokens: (B, layers, g · g, width).
        layers: One linear layer each.
        states: The two text vectors of each image, (B, 2, D).
        side: Side of the frame in pixels.
        scale: Factor on the cosines.
    """
    grid = round(tokens.shape[2] ** 0.5)
    difference = (states[:, 1] - states[:, 0])[:, :, None]
    read = [layer(tokens[:, i]) for i, layer in enumerate(layers)]
    # The layers may run in bf16; cosines, as where the layers are used, may not.
    with torch.autocast(tokens.device.type, enabled=False):
        found = [scale * F.normalize(one.float(), dim=-1) @ difference for one in read]
        maps = torch.stack([one.squeeze(-1).unflatten(1, (grid, grid)) for one in found], dim=1)
        return F.interpolate(maps, size=(side, side), mode="bilinear")


def train(
    clip: ClipBackbone,
    data: Dataset,
    out: Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = True,
    cache_bytes: int = 8_000_000_000,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Train the linear layers on a data set and write the adapter with its model card.

    Args:
        clip: The frozen backbone.
        data: Images with masks; by the recipe the test split of a data set that is not judged on later.
        out: Folder of the run: `adapter.safetensors`, `README.md`, `curve.csv`, `curve.png`, a checkpoint.
        recipe: None takes the defaults with the number of epochs for this data set.
        resume: Go on from the checkpoint in `out` if there is one.
        cache_bytes: Most bytes of tokens kept on disk.
        progress: Told how many of how many epochs are done.

    Returns:
        Path of the adapter.

    Raises:
        ZsasError: If images lack their ground truth, or `out` holds another training; nothing is written then.
    """
    recipe = recipe or Recipe(epochs=EPOCHS.get(data.name, OTHER_EPOCHS))
    unknown = next((s.key for s in data if s.defective is None), None)
    if not len(data) or unknown:
        raise ZsasError(
            f"Training needs ground truth, but {unknown or 'the data set'} has none; "
            "give every defective image its mask."
        )
    identity = {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "data": data.name,
        "images": len(data),
        **_seen(clip, data.samples),
    }
    checkpoint, epoch = out / "last.pt", 0
    going_on = resume and checkpoint.is_file()
    state: dict[str, Any] = load_checkpoint(checkpoint) if going_on else {"identity": identity}
    if state["identity"] != identity:
        raise ZsasError(
            f"{out} holds a training with another recipe, another model or other images; choose another folder, "
            "or start anew."
        )
    torch.manual_seed(recipe.seed)
    tokens = Tokens(clip, data.samples, recipe, out / "cache", cache_bytes)
    side = tokens.grid * clip.patch
    if not all(1 <= block <= clip.depth for block in tokens.blocks):
        raise ZsasError(
            f"The blocks {tokens.blocks} must be numbers from 1 to {clip.depth}, the depth of {clip.name}."
        )
    layers = nn.ModuleList(nn.Linear(clip.width, clip.projection) for _ in tokens.blocks).to(
        clip.device
    )
    optimizer = torch.optim.Adam(layers.parameters(), lr=recipe.lr, betas=recipe.betas)
    held = _held_out(len(data), recipe.holdout)
    used = [i for i in range(len(data)) if i not in held]
    if going_on:
        layers.load_state_dict(state["layers"])
        optimizer.load_state_dict(state["optimizer"])
        epoch = state["epoch"]
    masks: dict[int, NDArray[np.uint8]] = {}

    def mask_of(i: int) -> NDArray[np.float32]:
        if i not in masks:  # eight pixels a byte: a data set of thousands fits into memory
            masks[i] = np.packbits(_mask(data.samples[i], side))
        return np.unpackbits(masks[i], count=side * side).reshape(side, side).astype(np.float32)

    log = CurveLog(out / "curve.csv", COLUMNS, resume=going_on)
    progress(epoch, recipe.epochs)

    def batch_losses(index: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        states = torch.stack(
            [clip.state_vectors(data.samples[i].object_name) for i in index]
        ).clone()
        mask = torch.from_numpy(np.stack([mask_of(i) for i in index])).to(clip.device)
        with torch.autocast(clip.device.type, torch.bfloat16, enabled=clip.dtype == torch.bfloat16):
            margin = margins(tokens.of(index), layers, states, side, recipe.scale)
        per_layer = range(margin.shape[1])
        focal = torch.stack([focal_loss(margin[:, i], mask) for i in per_layer]).sum()
        dice = torch.stack([dice_loss(margin[:, i], mask) for i in per_layer]).sum()
        return focal, dice, margin, mask

    while epoch < recipe.epochs:
        order = np.random.default_rng([recipe.seed, epoch]).permutation(used).tolist()
        sums = np.zeros(2)
        for start in range(0, len(order), recipe.batch):
            index = order[start : start + recipe.batch]
            focal, dice, _, _ = batch_losses(index)
            optimizer.zero_grad()
            (focal + dice).backward()
            optimizer.step()
            sums += len(index) * np.array([float(focal.detach()), float(dice.detach())])
        epoch += 1
        mean = sums / len(order)
        row = {"epoch": float(epoch), "focal": mean[0], "dice": mean[1], "loss": mean.sum()}
        log.write(row | _validate(batch_losses, sorted(held), recipe.batch))
        save_checkpoint(
            checkpoint,
            {
                "identity": identity,
                "layers": layers.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch,
            },
        )
        progress(epoch, recipe.epochs)
    plot_curves(out / "curve.csv", out / "curve.png", x="epoch")
    card = AdapterCard(
        backbone=clip.name,
        blocks=tokens.blocks,
        resolution=side,
        activation=clip.activation,
        trained_on=data.name,
        trained_categories=data.categories,
        text_ensemble=ENSEMBLE,
        scale=recipe.scale,
    )
    weights = [(layer.weight.detach().cpu(), layer.bias.detach().cpu()) for layer in layers]
    path = out / "adapter.safetensors"
    Adapter(card, tuple(w for w, _ in weights), tuple(b for _, b in weights)).save(path)
    (out / "README.md").write_text(
        model_card(card, recipe, data, list(log.rows())[-1]), encoding="utf-8"
    )
    return path


def _held_out(count: int, share: float) -> set[int]:
    """Evenly spread indices; the images are sorted by category and kind, so every kind is met."""
    number = round(count * share)
    return {int((i + 0.5) * count / number) for i in range(number)}


def _mask(sample: Sample, side: int) -> NDArray[np.uint8]:
    """The mask in the CLIP frame, uint8 (side, side), 0 or 1."""
    if sample.mask is None:
        return np.zeros((side, side), np.uint8)
    mask = sample.load_mask(sample.load_image().shape[:2])
    assert mask is not None
    small = cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    return np.asarray(small, np.uint8)


@torch.no_grad()
def _validate(
    batch_losses: Callable[[list[int]], tuple[Tensor, Tensor, Tensor, Tensor]],
    held: list[int],
    batch: int,
) -> dict[str, float]:
    """Loss and pixel metrics on the images that are not trained on; empty without any."""
    total, loss = PixelCounts.empty(), 0.0
    for start in range(0, len(held), batch):
        index = held[start : start + batch]
        focal, dice, margin, mask = batch_losses(index)
        loss += len(index) * float(focal + dice)
        maps = margin.sigmoid().mean(1).cpu().numpy()
        for score, truth in zip(maps, mask.cpu().numpy() > 0.5, strict=True):
            total = total + Truth.of(truth).count(score)
    if not held:
        return {}
    metrics = pixel_metrics(total)
    return {
        "validation_loss": loss / len(held),
        "validation_auroc": metrics.auroc,
        "validation_ap": metrics.ap,
    }


def model_card(card: AdapterCard, recipe: Recipe, data: Dataset, last: dict[str, float]) -> str:
    """A model card as the Hub shows it."""
    licence = data.licence or "not stated by the data set"
    curves = "\n".join(
        f"| {name} | {value:.4g} |" for name, value in last.items() if value == value
    )
    facts: dict[str, Any] = {
        **asdict(card),
        **asdict(recipe),
        "images": len(data),
        "zsas": __version__,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""---
library_name: zsas
base_model: {card.backbone}
pipeline_tag: image-segmentation
tags: [anomaly-segmentation, zero-shot, clip]
---

# Linear layers for zero-shot anomaly maps

{len(card.blocks)} linear layers on frozen patch tokens of `{card.backbone}`, trained on the {data.split} split of
**{card.trained_on}** with focal and Dice loss (the recipe of arXiv 2510.11028, which is APRIL-GAN's).

Use: `zsas segment photo.png --clip {card.backbone} --adapter adapter.safetensors --out results`

Do not judge these layers on {card.trained_on}: they have seen it. `zsas evaluate` warns if you do.
Licence of the training images: {licence}.

| | |
| --- | --- |
{table}

After the last epoch (validation on images of the same data set that were held back):

| | |
| --- | --- |
{curves}
"""


def push_to_hub(folder: Path, repo: str) -> str:
    """Upload adapter, card and curves to a model repository on the Hub; returns its address.

    Raises:
        ZsasError: If the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        api = HfApi()
        address = api.create_repo(repo, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=["adapter.safetensors", "README.md", "curve.csv", "curve.png"],
            commit_message="Linear layers for zero-shot anomaly maps",
        )
    except HFValidationError:
        raise ZsasError(f"{repo!r} is no name of a repository; expected owner/name.") from None
    except (
        Exception
    ) as error:  # the client raises errors of three libraries for the same few causes
        raise ZsasError(
            f"The adapter in {folder} could not be uploaded to {repo} ({type(error).__name__}); "
            "sign in with `hf auth login`, check the network, and give the same command again."
        ) from None
    return str(address)
