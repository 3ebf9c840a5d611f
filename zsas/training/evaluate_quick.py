"""A quick look at a small CLIP in training: pixel and image figures in a minute, on one thread.

Made images of held-out seeds and of held-out families and kinds, and any folder in MVTec-AD's
layout. The figures to publish come from ``zsas evaluate``; these only say whether training goes
well.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from transformers import CLIPTokenizer

from zsas.data.made.defects import PHRASES
from zsas.data.made.scene import HELD_OUT_FAMILIES, TRAIN_FAMILIES, TRAIN_KINDS, make_image
from zsas.text import TEMPLATES, prompt_sentences
from zsas.training.tiny_clip.model import Learner, load_learner
from zsas.training.tiny_clip.recipe import SCALE
from zsas.training.tiny_clip.tasks import normalise

HELD_OUT_SEED = 2_000_000_000
BINS = 2000


@dataclass
class Figures:
    """Counts of pixels by score, and image scores, of one category.

    Attributes:
        sound, defective: (BINS,) pixels by map value.
        scores: Image scores by candidate name.
        truth: 1 for defective images.
    """

    sound: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    defective: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    scores: dict[str, list[float]] = field(default_factory=dict)
    truth: list[int] = field(default_factory=list)

    def add(self, anomaly: NDArray[np.float32], mask: NDArray[np.bool_], image: float) -> None:
        """Count one map (h, w) in [0, 1] against its mask, with the class token's probability."""
        place = np.minimum((anomaly * BINS).astype(np.int64), BINS - 1)
        self.sound += np.bincount(place[~mask], minlength=BINS)
        self.defective += np.bincount(place[mask], minlength=BINS)
        self.truth.append(int(mask.any()))
        values = np.sort(anomaly.reshape(-1))
        found = {
            "text": image,
            "max": float(values[-1]),
            "top1": float(values[-max(1, len(values) // 100) :].mean()),
            "top0.1": float(values[-max(1, len(values) // 1000) :].mean()),
        }
        found["text*top0.1"] = float(np.sqrt(image * found["top0.1"]))
        found["mean"] = (image + found["top0.1"]) / 2
        for name, value in found.items():
            self.scores.setdefault(name, []).append(value)

    def pixel(self) -> dict[str, float]:
        """Pixel AUROC, AP and F1-max in percent."""
        hits, false = np.cumsum(self.defective[::-1]), np.cumsum(self.sound[::-1])
        if hits[-1] == 0 or false[-1] == 0:
            return {}
        recall, fall = hits / hits[-1], false / false[-1]
        precision = hits / np.maximum(1, hits + false)
        f1 = 2 * precision * recall / np.maximum(1e-9, precision + recall)
        area = np.trapezoid(np.r_[0, recall], np.r_[0, fall])
        ap = float(np.sum(np.diff(np.r_[0, recall]) * precision))
        return {"auroc": 100 * float(area), "ap": 100 * ap, "f1": 100 * float(f1.max())}

    def image(self) -> dict[str, float]:
        """Image AUROC in percent of each candidate score; empty without good or bad images."""
        if len(set(self.truth)) < 2:
            return {}
        return {n: 100 * float(roc_auc_score(self.truth, v)) for n, v in self.scores.items()}


class Looker:
    """A trained learner as a function from photos to maps.

    Args:
        learner: In evaluation mode.
        tokenizer: Its tokenizer.
        resolution: Side of the square that photos are squeezed to, pixels.
    """

    def __init__(self, learner: Learner, tokenizer: CLIPTokenizer, resolution: int = 512) -> None:
        self.learner = learner
        self.tokenizer = tokenizer
        self.resolution = resolution
        self._states: dict[str, Tensor] = {}

    @torch.inference_mode()
    def vector(self, lines: Sequence[str]) -> Tensor:
        """Mean embedding of sentences, normalised, (D,)."""
        ids = self.tokenizer(list(lines), padding="longest", return_tensors="pt")["input_ids"]
        return F.normalize(self.learner.read(ids).mean(0), dim=-1)

    def states(self, noun: str) -> Tensor:
        """The two text vectors of a noun, (2, D), from every sixth sentence of the ensemble."""
        if noun not in self._states:
            groups = prompt_sentences(noun)
            self._states[noun] = torch.stack([self.vector(group[::6]) for group in groups])
        return self._states[noun]

    @torch.inference_mode()
    def __call__(
        self, photo: NDArray[np.uint8], states: Tensor, shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], float]:
        """Map (h, w) of ``shape`` in [0, 1] and the class token's probability of "defective"."""
        side = (self.resolution, self.resolution)
        small = photo.shape[0] > side[0]
        scaled = cv2.resize(photo, side, interpolation=cv2.INTER_AREA if small else cv2.INTER_CUBIC)
        image = normalise(scaled[None].astype(np.float32) / 255)
        patches, _, token = self.learner.see(image)
        margin = SCALE * patches @ (states[1] - states[0])
        grid = round(margin.shape[-1] ** 0.5)
        margin = margin.unflatten(2, (grid, grid))
        margin = F.interpolate(margin, size=shape, mode="bilinear", align_corners=False)
        scale = float(self.learner.clip.logit_scale.exp().clamp(max=100.0))
        verdict = torch.sigmoid(scale * (token @ (states[1] - states[0])))
        return torch.sigmoid(margin).mean(1)[0].numpy(), float(verdict)


Sample = tuple[str, str, NDArray[np.uint8], NDArray[np.bool_]]


def made_samples(count: int, *, held_out: bool, size: int = 384) -> Iterator[Sample]:
    """(category, noun, photo, mask) of made images whose seeds no training uses."""
    families = HELD_OUT_FAMILIES if held_out else TRAIN_FAMILIES
    kinds = None if held_out else TRAIN_KINDS
    for i in range(count):
        made = make_image(HELD_OUT_SEED + i, size, families=families, kinds=kinds)
        yield made.family, made.name, made.image, made.mask


def folder_samples(root: Path, per_category: int) -> Iterator[Sample]:
    """(category, noun, photo, mask) of a folder in MVTec-AD's layout, evenly thinned out."""
    for category in sorted(path for path in root.iterdir() if (path / "test").is_dir()):
        paths = sorted(path for path in (category / "test").glob("*/*") if path.is_file())
        paths = paths[:: max(1, len(paths) // per_category)]
        for path in paths:
            photo = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            mask = np.zeros(photo.shape[:2], bool)
            if path.parent.name != "good":
                folder = category / "ground_truth" / path.parent.name
                found = cv2.imread(str(folder / f"{path.stem}_mask.png"), cv2.IMREAD_GRAYSCALE)
                mask = found > 0
            scale = min(1.0, 512 / max(mask.shape))
            shape = (int(mask.shape[1] * scale), int(mask.shape[0] * scale))
            small = cv2.resize(mask.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST) > 0
            yield category.name, category.name.replace("_", " "), photo, small


def measure(look: Looker, samples: Iterator[Sample], noun: str | None = None) -> dict[str, Figures]:
    """Figures by category; ``noun`` replaces each sample's own."""
    found: dict[str, Figures] = {}
    for category, name, photo, mask in samples:
        states = look.states(name if noun is None else noun)
        anomaly, verdict = look(photo, states, (mask.shape[0], mask.shape[1]))
        found.setdefault(category, Figures()).add(anomaly, mask, verdict)
    return found


def report(title: str, found: dict[str, Figures], *, each: bool) -> None:
    """Print the figures over all pixels, and of each category if asked."""
    whole = Figures()
    for one in found.values():
        whole.sound += one.sound
        whole.defective += one.defective
        whole.truth += one.truth
        for name, values in one.scores.items():
            whole.scores.setdefault(name, []).extend(values)
    rows = {"all": whole, **found} if each else {"all": whole}
    for name, one in rows.items():
        pixel = " ".join(f"{key} {value:.1f}" for key, value in one.pixel().items())
        image = " ".join(f"{key} {value:.1f}" for key, value in one.image().items())
        count = len(one.truth)
        print(f"{title:10s} {name:18s} n {count:4d} | pixel {pixel} | image {image}", flush=True)
    means = [one.pixel() for one in found.values() if one.pixel()]
    keys = ("auroc", "ap", "f1")
    mean = " ".join(f"{key} {np.mean([m[key] for m in means]):.1f}" for key in keys)
    print(f"{title:10s} mean over {len(means)} categories: {mean}", flush=True)


def kinds_matter(look: Looker, count: int) -> dict[tuple[str, str], float]:
    """How sentences about stains and scratches tell stains from scratches apart.

    Returns:
        (sentence's kind, pixels' kind) → mean map value on defect pixels, over made images that
        have one of both kinds.
    """
    two = ("stain", "scratch")
    sums: dict[tuple[str, str], list[float]] = {}
    for i in range(count):
        kind = two[i % 2]
        made = make_image(
            HELD_OUT_SEED + 100_000 + i, families=TRAIN_FAMILIES, kinds=[kind], defective=True
        )
        sound = look.states(made.name)[0]
        for said in two:
            things = [f"{made.name} with {phrase}" for phrase in PHRASES[said]]
            lines = [template.format(thing) for thing in things for template in TEMPLATES[::9]]
            states = torch.stack([sound, look.vector(lines)])
            anomaly, _ = look(made.image, states, (384, 384))
            sums.setdefault((said, kind), []).append(float(anomaly[made.mask].mean()))
    return {pair: float(np.mean(values)) for pair, values in sums.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the shell: ``python -m zsas.training.evaluate_quick --out runs/tiny-clip``."""
    parser = argparse.ArgumentParser(description="Quick figures of the small CLIP.")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny-clip"))
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--seen", type=int, default=150, help="made images, held-out seeds")
    parser.add_argument("--unseen", type=int, default=100, help="made images, held-out families")
    parser.add_argument("--root", type=Path, action="append", default=[])
    parser.add_argument("--per-category", type=int, default=40)
    parser.add_argument("--words", type=int, default=0, help="images for the measures of words")
    parser.add_argument("--raw", action="store_true", help="last instead of averaged weights")
    parser.add_argument("--each", action="store_true", help="figures of each category")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    learner, tokenizer = load_learner(given.out / "checkpoint.pt", ema=not given.raw)
    look = Looker(learner, tokenizer, given.resolution)
    if given.seen:
        found = measure(look, made_samples(given.seen, held_out=False))
        report("seeds", found, each=given.each)
    if given.unseen:
        found = measure(look, made_samples(given.unseen, held_out=True))
        report("families", found, each=given.each)
    for root in given.root:
        report(root.name, measure(look, folder_samples(root, given.per_category)), each=True)
    if given.words:
        for noun in (None, "object", "bicycle", "hazelnut"):
            found = measure(look, made_samples(given.words, held_out=False), noun)
            report(f"as {noun or 'itself'}", found, each=False)
        for (said, shown), value in kinds_matter(look, given.words).items():
            print(f"sentence of a {said} on a {shown}: {value:.3f}")


if __name__ == "__main__":
    main()
