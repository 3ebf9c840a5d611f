"""Trains what a system learns on a frozen CLIP: linear layers, or prompts.

What the frozen towers say of an image is computed once and kept on disk as far as the budget allows; after that an
epoch takes as long as a few small matrix products an image. Trained on one data set's test split and judged on
another's: the file remembers which, and `zsas evaluate` warns where they meet. `zsas.training.learners` says what is
learned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsas import __version__
from zsas.backbones.clip import ClipBackbone
from zsas.datasets.samples import Dataset, Sample
from zsas.errors import ZsasError
from zsas.evaluation.identity import digest_of_samples
from zsas.evaluation.metrics import PixelCounts, Truth, pixel_metrics
from zsas.evaluation.sizes import covered
from zsas.fingerprint import digest_of_weights
from zsas.models.backbones import BACKBONES
from zsas.models.presets import PRESETS
from zsas.systems import system_named
from zsas.training.checkpoint import CurveLog, load_checkpoint, plot_curves, save_checkpoint
from zsas.training.learner import Learner, Losses, Recipe
from zsas.training.learners import LEARNERS, LinearLayers

VALIDATION = ("validation_loss", "validation_auroc", "validation_ap")
CARD_FILES = ("README.md", "curve.csv", "curve.png")
"""What is uploaded beside the weights."""


def recipe_for(system: str, data: str, **changes: Any) -> Recipe:
    """The published recipe of a system for a data set.

    Args:
        system: Name of the system.
        data: Name of the data set, whose number of epochs it may be.
        changes: Other values than the recipe's; None keeps the recipe's.

    Raises:
        ZsasError: If nothing can be trained for the system, or a value is out of range.
    """
    learner = learner_named(system)
    given = {name: value for name, value in changes.items() if value is not None}
    foreign = next((name for name in given if not hasattr(learner.recipe, name)), None)
    if foreign:
        raise ZsasError(f"A training for {system} has no {foreign}; leave it out.")
    if "epochs" in given:
        given = {"steps": 0, **given}
    epochs = learner.epochs.get(data, learner.recipe.epochs)
    return replace(learner.recipe, **{"epochs": epochs, **given})


def learner_named(system: str) -> type[Learner]:
    """What can be trained for a system.

    Raises:
        ZsasError: If there is nothing.
    """
    if system not in LEARNERS:
        raise ZsasError(
            f"Nothing is trained for the system {system!r}; choose {', '.join(LEARNERS)}."
        )
    return LEARNERS[system]


class Tokens:
    """Outputs of the frozen towers for a data set, computed when first needed and cached on disk.

    Args:
        learner: Says what is kept of an image.
        samples: The images.
        folder: Where the file lies; it is taken up again by a later run on the same images.
        budget: Most bytes on disk; a larger data set is encoded anew in every epoch.
    """

    def __init__(
        self, learner: Learner, samples: Sequence[Sample], folder: Path, budget: int
    ) -> None:
        self.learner, self.clip, self.samples = learner, learner.clip, samples
        self.encoded = 0
        shape = (len(samples), *learner.kept)
        self.nbytes = 2 * int(np.prod(shape))
        self._kept: NDArray[np.float16] | None = None
        if self.nbytes > budget:
            return
        folder.mkdir(parents=True, exist_ok=True)
        stamp = {
            "system": learner.system,
            **learner.stamp,
            "precision": str(self.clip.dtype),
            **_seen(self.clip, samples),
        }
        text, path = json.dumps(stamp), folder / "tokens.json"
        sizes = {"json": len(text), "f16": self.nbytes, "done": len(samples)}
        files = {end: folder / f"tokens.{end}" for end in sizes}
        whole = all(f.is_file() and f.stat().st_size == sizes[end] for end, f in files.items())
        fresh = not whole or path.read_text() != text
        mode: Literal["w+", "r+"] = "w+" if fresh else "r+"
        self._kept = np.memmap(folder / "tokens.f16", np.float16, mode, shape=shape)
        self._done = np.memmap(folder / "tokens.done", np.uint8, mode, shape=(len(samples),))
        path.write_text(text)

    def of(self, index: Sequence[int]) -> Tensor:
        """The cached outputs for some images, fp32 (B, *kept), on the backbone's device."""
        missing = [i for i in index if self._kept is None or not self._done[i]]
        fresh: dict[int, NDArray[np.float16]] = {}
        if missing:
            pixels = self.learner.pixels([self.samples[i].load_image() for i in missing])
            with torch.inference_mode():
                kept = self.learner.keep(pixels).half().cpu().numpy()
            for i, row in zip(missing, kept, strict=True):
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


# One training from its checks to its card, in the order in which it happens; hence its length.
def train(
    clip: ClipBackbone,
    data: Dataset,
    out: Path,
    recipe: Recipe | None = None,
    *,
    system: str = LinearLayers.system,
    resume: bool = True,
    cache_bytes: int = 8_000_000_000,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Train a localizer's own weights on a data set, and write them with a model card.

    Args:
        clip: The frozen backbone.
        data: Images with masks; by the recipe the test split of a data set that is not judged on later.
        out: Folder of the run: the weights, `README.md`, `curve.csv`, `curve.png`, a checkpoint.
        recipe: None takes the published one with the number of epochs for this data set.
        system: Name of the system.
        resume: Go on from the checkpoint in `out` if there is one.
        cache_bytes: Most bytes of tokens kept on disk.
        progress: Told how many of how many epochs are done.

    Returns:
        Path of the weights.

    Raises:
        ZsasError: If images lack their ground truth, or `out` holds another training; nothing is written then.
    """
    recipe = recipe or recipe_for(system, data.name)
    unknown = next((s.key for s in data if s.anomalous is None), None)
    if not len(data) or unknown:
        raise ZsasError(
            f"Training needs ground truth, but {unknown or 'the data set'} has none; "
            "give every anomalous image its mask."
        )
    identity = {
        "system": system,
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "data": data.name,
        "images": len(data),
        **_seen(clip, data.samples),
    }
    checkpoint, epoch = out / "last.pt", 0
    going_on = resume and checkpoint.is_file()
    state: dict[str, Any] = load_checkpoint(checkpoint) if going_on else {"identity": identity}
    if state.get("identity") != identity:
        raise ZsasError(
            f"{out} holds a training with another recipe, another model or other images; choose another folder, "
            "or start anew."
        )
    torch.manual_seed(recipe.seed)
    learner = learner_named(system)(clip, recipe)
    batches = _Batches(learner, data, out / "cache", cache_bytes)
    optimizer = learner.optimizer()
    if going_on:
        learner.module.load_state_dict(state["layers"])
        optimizer.load_state_dict(state["optimizer"])
        epoch = state["epoch"]
    columns = ("epoch", "loss", *learner.terms, *VALIDATION)
    log = CurveLog(out / "curve.csv", columns, resume=going_on)
    progress(epoch, batches.epochs)
    while epoch < batches.epochs:
        learner.before_epoch(optimizer, epoch, batches.epochs)
        row = batches.learn(optimizer, epoch)
        epoch += 1
        _check_numbers(learner, row, epoch)
        log.write({"epoch": float(epoch), **row} | batches.validate())
        state = {"identity": identity, "layers": learner.module.state_dict(), "epoch": epoch}
        save_checkpoint(checkpoint, {**state, "optimizer": optimizer.state_dict()})
        progress(epoch, batches.epochs)
    plot_curves(out / "curve.csv", out / "curve.png", x="epoch")
    path = out / learner.file
    card = learner.save(path, data.name, data.categories)
    text = model_card(learner, card, data, list(log.rows())[-1])
    (out / "README.md").write_text(text, encoding="utf-8")
    return path


def _check_numbers(learner: Learner, row: Mapping[str, float], epoch: int) -> None:
    """Refuse to go on with weights that are none, before a checkpoint keeps them.

    Raises:
        ZsasError: If the loss or a weight is NaN or infinite.
    """
    whole = all(bool(weight.isfinite().all()) for weight in learner.module.parameters())
    if not whole or not all(map(math.isfinite, row.values())):
        raise ZsasError(
            f"The training has diverged in epoch {epoch}: its loss or its weights are no numbers any more; take a "
            f"smaller --lr than {learner.chosen.lr:g}."
        )


class _Batches:
    """The images of a training, some of them held out for the validation curve."""

    def __init__(self, learner: Learner, data: Dataset, folder: Path, budget: int) -> None:
        self.learner, self.samples, self.recipe = learner, data.samples, learner.chosen
        self.tokens = Tokens(learner, data.samples, folder, budget)
        self.held = sorted(_held_out(len(data), self.recipe.holdout))
        self.used = [i for i in range(len(data)) if i not in set(self.held)]
        self._masks: dict[int, NDArray[np.uint8]] = {}

    def mask_of(self, i: int) -> NDArray[np.float32]:
        """The mask of an image in the CLIP frame."""
        side = self.learner.side
        if i not in self._masks:  # eight pixels a byte: a data set of thousands fits into memory
            self._masks[i] = np.packbits(_mask(self.samples[i], side))
        bits = np.unpackbits(self._masks[i], count=side * side)
        return bits.reshape(side, side).astype(np.float32)

    @property
    def epochs(self) -> int:
        """The recipe's, or as many as its steps need."""
        if not self.recipe.steps:
            return self.recipe.epochs
        return math.ceil(self.recipe.steps / len(self._batches(self.used)))

    def _batches(self, order: list[int], size: int = 0) -> list[list[int]]:
        size = size or self.recipe.batch
        return [order[i : i + size] for i in range(0, len(order), size)]

    def losses(self, index: list[int]) -> tuple[Losses, Tensor]:
        """Losses of some images, and their masks."""
        mask = torch.from_numpy(np.stack([self.mask_of(i) for i in index]))
        mask = mask.to(self.learner.clip.device)
        objects = [self.samples[i].object_name for i in index]
        return self.learner.losses(self.tokens.of(index), objects, mask), mask

    def learn(self, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
        """One epoch; the mean of the loss and of its terms."""
        order = list(self.used)
        if self.recipe.shuffle:
            order = np.random.default_rng([self.recipe.seed, epoch]).permutation(order).tolist()
        sums = dict.fromkeys(("loss", *self.learner.terms), 0.0)
        batches, seen = self._batches(order), 0
        if self.recipe.steps:
            batches = batches[: self.recipe.steps - epoch * len(batches)]
        for index in batches:
            optimizer.zero_grad()
            for part in self._batches(index, self.recipe.at_once):
                losses, _ = self.losses(part)
                total = losses.total
                (total * (len(part) / len(index))).backward()
                for name, value in {"loss": total, **losses.terms}.items():
                    sums[name] += len(part) * float(value.detach())
            self.learner.before_step()
            optimizer.step()
            seen += len(index)
        return {name: value / seen for name, value in sums.items()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and pixel metrics on the images that are not trained on; empty without any."""
        counts, loss = PixelCounts.empty(), 0.0
        for index in self._batches(self.held, self.recipe.at_once):
            losses, mask = self.losses(index)
            loss += len(index) * float(losses.total)
            for score, truth in zip(
                losses.maps.cpu().numpy(), mask.cpu().numpy() > 0.5, strict=True
            ):
                counts = counts + Truth.of(truth).count(score)
        if not self.held:
            return {}
        metrics = pixel_metrics(counts)
        return dict(
            zip(VALIDATION, (loss / len(self.held), metrics.auroc, metrics.ap), strict=True)
        )


def _held_out(count: int, fraction: float) -> set[int]:
    """Evenly spread indices; the images are sorted by category and defect type, so every one is met."""
    number = round(count * fraction)
    return {int((i + 0.5) * count / number) for i in range(number)}


def _mask(sample: Sample, side: int) -> NDArray[np.uint8]:
    """The mask in the CLIP frame, uint8 (side, side), 0 or 1."""
    if sample.mask is None:
        return np.zeros((side, side), np.uint8)
    mask = sample.load_mask(sample.load_image().shape[:2])
    assert mask is not None
    small = covered(mask, side)
    # A defect that is nowhere half a pixel wide stands where it is widest: its image must not count as normal.
    return (small >= max(1, min(128, int(small.max())))).astype(np.uint8)


def model_card(
    learner: Learner, card: Mapping[str, Any], data: Dataset, last: dict[str, float]
) -> str:
    """A model card as the Hub shows it."""
    licence = data.licence or "not stated by the data set"
    curves = "\n".join(
        f"| {name} | {value:.4g} |" for name, value in last.items() if value == value
    )
    facts: dict[str, Any] = {
        **asdict(learner.chosen),
        **card,  # what came of the recipe, where both say something, as of the blocks
        "images": len(data),
        "zsas": __version__,
    }
    numbers = sum(parameter.numel() for parameter in learner.module.parameters())
    weights = system_named(learner.system).localizers[0].name
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""---
library_name: zsas
{base_of(card["backbone"])}pipeline_tag: image-segmentation
tags: [anomaly-segmentation, zero-shot, clip]
---

# {learner.what} for zero-shot anomaly maps

{numbers:,} numbers, trained on the {data.split} split of **{card["trained_on"]}** with
`{card["backbone"]}` frozen, by the recipe of {learner.paper}.

Use: `zsas segment image.png --system {learner.system} {flag_of(card["backbone"])} \\
    --weights {weights}={learner.file} --out results`

Do not judge them on {card["trained_on"]}: they have seen it. `zsas evaluate` warns if you do.
Licence of the training images: {licence}.

| | |
| --- | --- |
{table}

After the last epoch (validation on images of the same data set that were held back):

| | |
| --- | --- |
{curves}
"""


def flag_of(backbone: str) -> str:
    """The flag that loads a backbone: its preset's where it comes with one and is no model of the Hub."""
    preset = next((name for name, one in PRESETS.items() if one.clip_name == backbone), "")
    if backbone in BACKBONES:
        preset = "paper"
    return f"--preset {preset}" if preset else f"--clip {backbone}"


def base_of(backbone: str) -> str:
    """The line of a model card that names the model below, empty where the Hub does not know it."""
    if backbone in BACKBONES:
        return f"base_model: {BACKBONES[backbone].repo}\n"
    is_on_hub = flag_of(backbone).startswith("--clip") and not Path(backbone).is_dir()
    return f"base_model: {backbone}\n" if is_on_hub else ""


def push_to_hub(folder: Path, repo: str) -> str:
    """Upload weights, card and curves to a model repository on the Hub; returns its address.

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
            allow_patterns=[*(one.file for one in LEARNERS.values()), *CARD_FILES],
            commit_message="Weights for zero-shot anomaly maps",
        )
    except HFValidationError:
        raise ZsasError(f"{repo!r} is no name of a repository; expected owner/name.") from None
    except (
        Exception
    ) as error:  # the client raises errors of three libraries for the same few causes
        raise ZsasError(
            f"The weights in {folder} could not be uploaded to {repo} ({type(error).__name__}); "
            "sign in with `hf auth login`, check the network, and give the same command again."
        ) from None
    return str(address)
