"""Learners that change the vision tower itself, so that only the pixels of an image can be cached."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from zsas.errors import ZsasError
from zsas.localizers import anomalyvfm_net as vfm
from zsas.localizers import visualad_net as visual
from zsas.training.learner import Learner, Losses, Recipe
from zsas.training.losses import alpha_focal_loss, each_layer

if TYPE_CHECKING:
    from zsas.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class TowerRecipe(Recipe):
    """The settings of a training inside the tower.

    Attributes:
        weight_decay: AdamW's.
    """

    weight_decay: float = 0.01


@dataclass(frozen=True)
class VfmRecipe(TowerRecipe):
    """Further settings of a training of AnomalyVFM.

    Attributes:
        rank: Of the low-rank changes.
        channels: Of the decoder's first two convolutions; 0 takes the tower's.
    """

    rank: int = 64
    channels: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (("rank", 1, 1024), ("channels", 0, 4096)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ZsasError(f"{name} is {value}, but it must be {low} to {high}.")


class TowerLearner(Learner):
    """Base of learners that run the tower in every step.

    Attributes:
        module: A dict of parameters under the names of the file, with / for the dots.
    """

    module: nn.ParameterDict

    def __init__(self, clip: ClipBackbone, recipe: Recipe) -> None:
        super().__init__(clip, recipe)
        if recipe.blocks:
            raise ZsasError(
                f"The system {self.system} chooses its blocks itself; leave the blocks out."
            )
        if hasattr(clip.layers[0].self_attn.k_proj, "scale"):
            raise ZsasError(
                f"What {self.system} learns lies inside the tower, which cannot learn in int8; take another precision."
            )
        self.kept = (3, self.side, self.side)

    def keep(self, pixels: Tensor) -> Tensor:
        """The pixels themselves."""
        return pixels

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The learned tensors, by their names in the file."""
        return {name.replace("/", "."): parameter for name, parameter in self.module.items()}


def parameters_named(tensors: Mapping[str, Tensor], clip: ClipBackbone) -> nn.ParameterDict:
    """Tensors as parameters, on the backbone's device."""
    return nn.ParameterDict(
        {name.replace(".", "/"): nn.Parameter(one.to(clip.device)) for name, one in tensors.items()}
    )


class AdaptedTower(TowerLearner):
    """DoRA, decoder and predictor of AnomalyVFM."""

    system = "anomalyvfm"
    file = "anomalyvfm.safetensors"
    what = "Adapted tower and decoder of AnomalyVFM"
    paper = "arXiv 2601.20524"
    terms = ("pixels", "image")
    recipe = VfmRecipe(15, 32, 1e-4, (0.9, 0.999), 672, seed=12, steps=500, at_once=4)

    def __init__(self, clip: ClipBackbone, recipe: Recipe) -> None:
        super().__init__(clip, recipe)
        assert isinstance(recipe, VfmRecipe)
        channels = recipe.channels or clip.width
        self.card = vfm.VfmCard(
            clip.name, self.side, clip.activation, "", groups=min(32, max(1, channels // 8))
        )
        if channels % (2 * self.card.groups):
            raise ZsasError(
                f"channels is {channels}, but it must be a multiple of {2 * self.card.groups}."
            )
        self.module = parameters_named(fresh(clip, recipe.rank, channels), clip)

    def pixels(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Resized bilinearly, as the localizer does it."""
        return self.clip.pixels(images, self.side, smooth=False)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW at a constant rate."""
        chosen = self.chosen
        assert isinstance(chosen, TowerRecipe)
        return torch.optim.AdamW(
            self.module.parameters(), chosen.lr, chosen.betas, weight_decay=chosen.weight_decay
        )

    def logits(self, pixels: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Logits of masks and confidence, (B, 2 g, 2 g), and of the image scores, (B,)."""
        tensors, card = self.tensors, self.card
        blocks = vfm.fold_tower(self.clip, tensors, card.alpha)
        tokens = vfm.adapted_pass(self.clip, pixels.to(self.clip.dtype), blocks, card.activation)
        grid = (pixels.shape[-2] // self.clip.patch, pixels.shape[-1] // self.clip.patch)
        patches = tokens[:, 1:].unflatten(1, grid)
        return (*vfm.decoded(tensors, patches, card.groups), vfm.predicted(tensors, tokens[:, 0]))

    def losses(self, kept: Tensor, objects: Sequence[str], mask: Tensor) -> Losses:
        """`pixel_loss` at the decoder's size, and the focal loss of the image score."""
        found, confidence, image = self.logits(kept)
        small = F.interpolate(
            mask[:, None], size=found.shape[-2:], mode="bilinear", antialias=True
        )[:, 0]
        damaged = mask.flatten(1).amax(1)
        terms = {
            "pixels": pixel_loss(found, confidence, (small > 0.5).float()).mean(),
            "image": alpha_focal_loss(image, damaged).mean(),
        }
        maps = F.interpolate(found.detach().sigmoid()[:, None], mask.shape[-2:], mode="bilinear")
        return Losses(terms, maps[:, 0])

    def weights(self, trained_on: str = "", categories: tuple[str, ...] = ()) -> vfm.VfmWeights:
        """What is learned, as the localizer reads it."""
        card = vfm.VfmCard(
            **{**asdict(self.card), "trained_on": trained_on, "trained_categories": categories}
        )
        return vfm.VfmWeights(card, self.tensors)


class VisualTokens(TowerLearner):
    """Tokens, last norm, transforms and attention of VisualAD."""

    system = "visualad"
    file = "visualad.safetensors"
    what = "Tokens and transforms of VisualAD"
    paper = "arXiv 2603.07952"
    terms = ("image", "focal", "dice", "apart")
    recipe = TowerRecipe(2, 8, 1e-4, (0.9, 0.999), 518, seed=111)
    epochs: ClassVar[Mapping[str, int]] = {"visa": 1, "mvtec": 2}
    token_lr: ClassVar[float] = 1e-3
    dropout: ClassVar[float] = 0.1
    attention: ClassVar[bool] = True

    def __init__(self, clip: ClipBackbone, recipe: Recipe) -> None:
        super().__init__(clip, recipe)
        blocks = visual.layers_of(clip)
        self.card = visual.VisualCard(clip.name, self.side, clip.activation, "", blocks=blocks)
        tensors = fresh_visual(clip, blocks, self.grid**2, attention=self.attention)
        self.module = parameters_named(tensors, clip)
        self._level = _Level()
        # Level and spread of the map; a buffer, so that a training that goes on knows them.
        self.module.register_buffer("level", torch.tensor([0.0, 1.0]))

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW; the tokens have a rate of their own."""
        chosen = self.chosen
        assert isinstance(chosen, TowerRecipe)
        tokens = [self.module[name] for name in visual.TOKENS]
        others = [p for name, p in self.module.items() if name not in visual.TOKENS]
        groups = [{"params": tokens, "lr": self.token_lr}, {"params": others, "lr": chosen.lr}]
        return torch.optim.AdamW(groups, chosen.lr, chosen.betas, weight_decay=chosen.weight_decay)

    def before_epoch(self, optimizer: torch.optim.Optimizer, epoch: int, epochs: int) -> None:
        """The tokens' rate falls along half a cosine to that of the others."""
        low = min(self.chosen.lr, self.token_lr)
        turn = 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
        optimizer.param_groups[0]["lr"] = low + (self.token_lr - low) * turn

    def before_step(self) -> None:
        """Each token's gradient is at most 1 long."""
        for name in visual.TOKENS:
            nn.utils.clip_grad_norm_([self.module[name]], 1.0)

    def layers(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Each layer's map on the patch grid, (B, L, g_h, g_w), and the two tokens of the last one, (B, 2, D)."""
        tensors, card = self.tensors, self.card
        dropout = self.dropout if torch.is_grad_enabled() else 0.0
        grid = (pixels.shape[-2] // self.clip.patch, pixels.shape[-1] // self.clip.patch)
        looked = visual.look(self.clip, pixels.to(self.clip.dtype), tensors, card, "trained")
        patches = visual.transformed(tensors, looked, card, dropout)
        tokens = visual.aimed(tensors, looked, card, grid, self.grid, dropout)
        found = (patches * visual.differences(tokens)[:, :, None]).sum(dim=-1)
        return found.unflatten(2, grid), tokens[:, -1]

    def remember(self, total: Tensor, mask: Tensor) -> None:
        """Choose the map's level anew, from the sums of the layers (B, H, W) in a batch and those before."""
        self._level.remember(total, mask)
        self.module.level.copy_(torch.tensor(self._level.found()))

    def losses(self, kept: Tensor, objects: Sequence[str], mask: Tensor) -> Losses:
        """Cross-entropy of the image score, focal and Dice loss of each layer, and the angle between the tokens."""
        found, tokens = self.layers(kept)
        wide = F.interpolate(found, size=mask.shape[-2:], mode="bilinear")
        total = wide.sum(dim=1)
        if torch.is_grad_enabled():
            self.remember(total, mask)
        count = math.ceil(0.01 * total[0].numel())
        score = total.flatten(1).topk(count, dim=1).values.mean(dim=1)
        terms = {
            "image": F.binary_cross_entropy_with_logits(score, mask.flatten(1).amax(1)),
            **each_layer(wide, mask),
            "apart": apart_loss(tokens),
        }
        level, spread = self.module.level.tolist()
        return Losses(terms, ((total.detach() - level) / spread).sigmoid())

    def weights(
        self, trained_on: str = "", categories: tuple[str, ...] = ()
    ) -> visual.VisualWeights:
        """What is learned, as the localizer reads it, with the level of the last batches."""
        level, spread = self.module.level.tolist()
        card = replace(
            self.card,
            trained_on=trained_on,
            trained_categories=categories,
            level=level,
            spread=spread,
        )
        return visual.VisualWeights(card, self.tensors)


class _Level:
    """Values of the summed layers in the last batches, from which the map's level is chosen."""

    batches, pixels = 64, 4096

    def __init__(self) -> None:
        self._kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.batches)
        self._random = torch.Generator().manual_seed(0)

    def remember(self, total: Tensor, mask: Tensor) -> None:
        """Some pixels of a batch."""
        values, truth = total.detach().flatten().cpu(), mask.flatten().cpu() > 0.5
        chosen = torch.randint(len(values), (self.pixels,), generator=self._random)
        self._kept.append((values[chosen], truth[chosen]))

    def found(self) -> tuple[float, float]:
        """The level with the best F1 and the standard deviation of normal pixels; 0 and 1 before any defect."""
        if not self._kept:
            return 0.0, 1.0
        values = torch.cat([v for v, _ in self._kept])
        truth = torch.cat([t for _, t in self._kept])
        if not truth.any() or truth.all():
            return 0.0, 1.0
        ordered, order = values.sort(descending=True)
        hits = truth[order].double().cumsum(0)
        f1 = 2 * hits / (torch.arange(1, len(hits) + 1) + hits[-1])
        spread = max(float(values[~truth].std()), 1e-3)
        return float(ordered[int(f1.argmax())]), spread


def apart_loss(tokens: Tensor) -> Tensor:
    """Loss on the angle between the two tokens: mean of relu(cos + ½); 0 from 120° on, 1.5 where they coincide.

    Args:
        tokens: (B, 2, D).
    """
    cosine = F.cosine_similarity(tokens[:, 0], tokens[:, 1], dim=-1)
    return F.relu(cosine + 0.5).mean()


def fresh_visual(
    clip: ClipBackbone, blocks: Sequence[int], places: int, *, attention: bool = True
) -> dict[str, Tensor]:
    """What VisualAD starts from, of torch's generator.

    Args:
        clip: The backbone.
        blocks: Whose patches are read.
        places: Patches of the training's square: rows of the attention's table of positions.
        attention: Whether the tokens gather from the patches of each layer (SCA).
    """
    width = clip.width
    own = clip.model.vision_model.post_layernorm
    tensors = {name: 0.1 * torch.randn(width) / width**0.5 for name in visual.TOKENS}
    tensors |= {
        "ln_post_weight": own.weight.float().clone(),
        "ln_post_bias": own.bias.float().clone(),
    }
    for block in blocks:
        for part in (0, 3):
            layer = nn.Linear(width, width)
            name = f"layer_transforms.layer_{block}.mlp.{part}."
            tensors |= {name + "weight": layer.weight.detach(), name + "bias": layer.bias.detach()}
        if not attention:
            continue
        name = f"cross_attn.layer_attentions.layer_{block}."
        tensors |= {
            name + "anchor_queries": 0.02 * torch.randn(4, width),
            name + "pos_encoding": 0.02 * torch.randn(1, places, width),
            name + "gate.0.weight": nn.Linear(width, 4).weight.detach(),
            name + "gate.0.bias": torch.zeros(4),
            name + "out_proj.bias": torch.zeros(width),
            name + "res_scale": torch.tensor([0.01]),
        }
        for matrix in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors[f"{name}{matrix}.weight"] = nn.init.xavier_uniform_(torch.empty(width, width))
        for norm in ("q_norm", "k_norm"):
            tensors |= {
                f"{name}{norm}.weight": torch.ones(width),
                f"{name}{norm}.bias": torch.zeros(width),
            }
    return tensors


def pixel_loss(logits: Tensor, confidence: Tensor | None, truth: Tensor) -> Tensor:
    """C · (5 · focal + |clip(σ, 0.1, 0.9) − y|) − 0.1 · ln C with C = 1 + exp(confidence), of the logits' shape.

    As the bracket is at least 0.1 everywhere, the best C is 1; it is there because the published recipe has it.

    Args:
        logits: Of masks.
        confidence: Logits of the confidence; None for C = 1.
        truth: y, 1 where anomalous and 0 elsewhere.
    """
    bracket = (
        5.0 * alpha_focal_loss(logits, truth) + (logits.sigmoid().clamp(0.1, 0.9) - truth).abs()
    )
    if confidence is None:
        return bracket
    sure = 1.0 + confidence.exp()
    return sure * bracket - 0.1 * sure.log()


def fresh(
    clip: ClipBackbone, rank: int, channels: int, *, confidence: bool = True
) -> dict[str, Tensor]:
    """What AnomalyVFM starts from: a tower as it was, and a random decoder; from torch's generator.

    Args:
        clip: The backbone.
        rank: Of the low-rank changes.
        channels: Of the decoder's first two convolutions; the others have half of them.
        confidence: Whether the decoder says how sure it is, too.
    """
    tensors: dict[str, Tensor] = {}
    for number, layer in enumerate(clip.layers):
        for matrix in vfm.ADAPTED:
            name = f"layers.{number}.self_attn.{matrix}."
            weight = vfm.plain_weight(getattr(layer.self_attn, matrix)).cpu()
            tensors[name + "lora_A"] = 0.01 * torch.randn(rank, weight.shape[1])
            tensors[name + "lora_B"] = torch.zeros(weight.shape[0], rank)
            tensors[name + "magnitude"] = weight.norm(dim=1)
    half = channels // 2
    layers: dict[str, nn.Module] = {"predictor.lin": nn.Linear(clip.width, 1)}
    for block, wide, deep in (("bot", clip.width, channels), ("blocks.0", channels, half)):
        layers[f"decoder.{block}.conv1"] = nn.Conv2d(wide, deep, 3)
        layers[f"decoder.{block}.bn1"] = nn.GroupNorm(1, deep)
        layers[f"decoder.{block}.conv2"] = nn.Conv2d(deep, deep, 3)
        layers[f"decoder.{block}.bn2"] = nn.GroupNorm(1, deep)
    layers["decoder.final"] = nn.Conv2d(half, 1, 1)
    if confidence:
        layers["decoder.final_conf"] = nn.Conv2d(half, 1, 1)
    for name, layer in layers.items():
        tensors |= {f"{name}.{end}": value.detach() for end, value in layer.named_parameters()}
    return tensors
