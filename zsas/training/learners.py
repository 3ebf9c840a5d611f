"""The learners of the systems, on a frozen CLIP: what is cached of an image, the losses, the file of weights.

A learner keeps of an image what the frozen towers say of it, so that it is computed once; everything else depends on
what is being learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsas.backbones.text import ENSEMBLE
from zsas.errors import ZsasError
from zsas.localizers import anomalyclip, sdp, umci
from zsas.localizers.adapter import Adapter, AdapterCard, Card, quarters
from zsas.localizers.patches import enlarged
from zsas.settings import Settings
from zsas.training.learner import Learner, Losses, Recipe
from zsas.training.losses import dice_loss, each_layer, focal_loss
from zsas.training.towers import AdaptedTower, VisualTokens

if TYPE_CHECKING:
    from zsas.backbones.clip import ClipBackbone

APRIL_GAN_EPOCHS = {"mvtec": 3, "visa": 15}
"""Those of APRIL-GAN's training; see docs/method.md for which data set gets which."""


@dataclass(frozen=True)
class UmciRecipe(Recipe):
    """Further settings of a training of UMCI; see `zsas.localizers.umci.UmciCard`.

    Attributes:
        hidden: Channels inside.
        kernels: Sides of the poolings of the scale path, in patches.
        visual: Whether the stage's own patches join both paths.
        shared: Whether the stages share all but their first layer.
    """

    hidden: int = umci.HIDDEN
    kernels: tuple[int, ...] = umci.KERNELS
    visual: bool = True
    shared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 4 <= self.hidden <= 4096:
            raise ZsasError(f"hidden is {self.hidden}, but it must be 4 to 4096.")
        if not self.kernels or not all(1 <= side <= 64 for side in self.kernels):
            raise ZsasError(
                f"kernels are {self.kernels}, but they must be one or several sides of 1 to 64 patches, as 3,9."
            )


class LinearLayers(Learner):
    """The linear layers of the paper's localizer, which are APRIL-GAN's: one for each of four blocks."""

    system = "april-gan"
    file = "adapter.safetensors"
    what = "Linear layers"
    paper = "arXiv 2510.11028, which is APRIL-GAN's"
    terms = ("focal", "dice")
    recipe = Recipe()
    epochs: ClassVar[Mapping[str, int]] = APRIL_GAN_EPOCHS
    ensemble: ClassVar[str] = ENSEMBLE
    localizer: ClassVar[str] = "linear"

    def __init__(self, clip: ClipBackbone, recipe: Recipe) -> None:
        super().__init__(clip, recipe)
        self.blocks = blocks_for(clip, recipe)
        self.kept = (len(self.blocks), self.grid * self.grid, clip.width)
        self.module = nn.ModuleList(nn.Linear(clip.width, clip.projection) for _ in self.blocks).to(
            clip.device
        )

    @property
    def stamp(self) -> dict[str, Any]:
        """With the blocks."""
        return {**super().stamp, "blocks": self.blocks}

    def keep(self, pixels: Tensor) -> Tensor:
        """Tokens after the blocks."""
        seen = self.clip.forward_vision(pixels, blocks=self.blocks)
        return torch.stack([seen.blocks[block] for block in self.blocks], dim=1)

    def states(self, object_name: str) -> Tensor:
        """The two text vectors of an object, (2, D)."""
        return self.clip.state_vectors(object_name)

    def losses(self, kept: Tensor, objects: Sequence[str], mask: Tensor) -> Losses:
        """Focal and Dice loss of each layer, summed."""
        states = torch.stack([self.states(name) for name in objects]).clone()
        device = self.clip.device.type
        assert isinstance(self.module, nn.ModuleList)
        with torch.autocast(device, torch.bfloat16, enabled=self.clip.dtype == torch.bfloat16):
            margin = margins(kept, self.module, states, self.side, self.chosen.scale)
        return Losses(each_layer(margin, mask), margin.detach().sigmoid().mean(1))

    def weights(self, trained_on: str = "", categories: tuple[str, ...] = ()) -> Adapter:
        """See `Learner.weights`."""
        card = AdapterCard(
            backbone=self.clip.name,
            blocks=self.blocks,
            resolution=self.side,
            activation=self.clip.activation,
            trained_on=trained_on,
            trained_categories=categories,
            text_ensemble=self.ensemble,
            scale=self.chosen.scale,
            localizer=self.localizer,
            corners=True,
        )
        assert isinstance(self.module, nn.ModuleList)
        weights = tuple(layer.weight.detach().cpu() for layer in self.module)
        biases = tuple(layer.bias.detach().cpu() for layer in self.module)
        return Adapter(card, weights, biases)


class SdpPlusLayers(LinearLayers):
    """The linear layers of SDP+, against SDP's text vectors."""

    system = "sdp+"
    file = "sdp+.safetensors"
    what = "Linear layers of SDP+"
    paper = "arXiv 2311.00453"
    recipe = Recipe(5, 8, 1e-4, (0.9, 0.999), 240, seed=42, shuffle=False)
    epochs: ClassVar[Mapping[str, int]] = {}
    ensemble = sdp.ENSEMBLE
    localizer = "sdp+"

    def __init__(self, clip: ClipBackbone, recipe: Recipe) -> None:
        if recipe.blocks and recipe.blocks != quarters(clip.depth):
            raise ZsasError(
                f"SDP+ reads the last block of each quarter, {quarters(clip.depth)}; leave the blocks out."
            )
        super().__init__(clip, recipe)
        self._localizer = sdp.Sdp(clip)

    def states(self, object_name: str) -> Tensor:
        """SDP's two text vectors, (2, D)."""
        return self._localizer.states(Settings(system="sdp", object_name=object_name))


class LearnedPrompts(Learner):
    """The prompts of AnomalyCLIP; the vision tower is as frozen as for the others."""

    system = "anomalyclip"
    file = "anomalyclip.safetensors"
    what = "Learned prompts of AnomalyCLIP"
    paper = "arXiv 2310.18961"
    terms = ("focal", "dice", "image")
    recipe = Recipe(15, 8, 1e-3, (0.5, 0.999), 518, seed=111)
    maps_weight: ClassVar[float] = 4.0

    def __init__(self, clip: ClipBackbone, recipe: Recipe) -> None:
        super().__init__(clip, recipe)
        if recipe.blocks:
            raise ZsasError("AnomalyCLIP trains no layers on blocks; leave the blocks out.")
        self.kept = (1, 1 + self.grid * self.grid, clip.projection)
        text = clip.model.config.text_config
        deep = anomalyclip.deep_blocks(text.num_hidden_layers)
        counts = (*[anomalyclip.LEARNED] * 2, *[anomalyclip.DEEP] * deep)
        self.module = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(count, text.hidden_size)) for count in counts
        ).to(clip.device)

    def keep(self, pixels: Tensor) -> Tensor:
        """The image embedding, then the projected patches of the V-V stream."""
        patches, image = anomalyclip.look(self.clip, pixels, self.clip.activation)
        return torch.cat([image[:, None], patches.flatten(1, 2)], dim=1)[:, None]

    def weights(
        self, trained_on: str = "", categories: tuple[str, ...] = ()
    ) -> anomalyclip.Prompts:
        """See `Learner.weights`."""
        card = Card(self.clip.name, self.side, self.clip.activation, trained_on, categories)
        normal, anomalous, *deep = self.module.parameters()
        return anomalyclip.Prompts(card, normal, anomalous, tuple(deep))

    def losses(self, kept: Tensor, objects: Sequence[str], mask: Tensor) -> Losses:
        """Four times focal loss and both states' Dice losses of the map, and cross-entropy of the image."""
        states = anomalyclip.text_vectors(self.clip, self.weights())
        difference = (states[1] - states[0]) / anomalyclip.TEMPERATURE
        logits = kept[:, 0] @ difference
        grid = torch.sigmoid(logits[:, 1:]).unflatten(1, (1, self.grid, self.grid))
        maps = F.interpolate(grid, size=(self.side, self.side), mode="bilinear")[:, 0]
        margin = torch.logit(maps, eps=1e-6)
        image = F.binary_cross_entropy_with_logits(logits[:, 0], mask.flatten(1).amax(1))
        return Losses(
            {
                "focal": self.maps_weight * focal_loss(margin, mask),
                "dice": self.maps_weight * (dice_loss(margin, mask) + dice_loss(-margin, 1 - mask)),
                "image": image,
            },
            maps.detach(),
        )


class UmciModule(Learner):
    """ClipSAM's UMCI, against the same sentences as the linear layers; our reading."""

    system = "clipsam"
    file = "umci.safetensors"
    what = "UMCI"
    paper = "arXiv 2401.12665 as we read it (its code is not public)"
    terms = ("focal", "dice")
    recipe = UmciRecipe(6, 8, 1e-4, (0.9, 0.999), 518)

    def __init__(self, clip: ClipBackbone, recipe: Recipe) -> None:
        super().__init__(clip, recipe)
        assert isinstance(recipe, UmciRecipe)
        blocks = blocks_for(clip, recipe)
        self.card = umci.UmciCard(
            backbone=clip.name,
            blocks=blocks,
            resolution=self.side,
            activation=clip.activation,
            trained_on="",
            text_ensemble=ENSEMBLE,
            hidden=recipe.hidden,
            kernels=recipe.kernels,
            visual=recipe.visual,
            shared=recipe.shared,
        )
        self.kept = (len(blocks), self.grid * self.grid, clip.width)
        # Names in a module must have no dots.
        self.module = nn.ParameterDict(
            {
                name.replace(".", ":"): nn.Parameter(one)
                for name, one in umci.first_weights(self.card, clip.width, clip.projection).items()
            }
        ).to(clip.device)

    @property
    def stamp(self) -> dict[str, Any]:
        """With the blocks, and that tokens are of one length."""
        return {**super().stamp, "blocks": self.card.blocks, "normalised": True}

    def keep(self, pixels: Tensor) -> Tensor:
        """Tokens after the blocks, L2-normalised."""
        seen = self.clip.forward_vision(pixels, blocks=self.card.blocks)
        tokens = torch.stack([seen.blocks[block] for block in self.card.blocks], dim=1)
        return F.normalize(tokens.float(), dim=-1)

    def weights(self, trained_on: str = "", categories: tuple[str, ...] = ()) -> umci.Umci:
        """See `Learner.weights`."""
        card = replace(self.card, trained_on=trained_on, trained_categories=categories)
        tensors = {name.replace(":", "."): one for name, one in self.module.named_parameters()}
        return umci.Umci(card, tensors)

    def losses(self, kept: Tensor, objects: Sequence[str], mask: Tensor) -> Losses:
        """Focal and Dice loss of each stage, summed."""
        states = torch.stack([self.clip.state_vectors(name) for name in objects]).clone()
        patches = kept.unflatten(2, (self.grid, self.grid))
        margin = F.interpolate(
            umci.margins(self.weights(), patches, states),
            size=(self.side, self.side),
            mode="bilinear",
            align_corners=True,
        )
        return Losses(each_layer(margin, mask), margin.detach().sigmoid().mean(1))


LEARNERS: dict[str, type[Learner]] = {
    one.system: one
    for one in (
        LinearLayers,
        SdpPlusLayers,
        LearnedPrompts,
        UmciModule,
        AdaptedTower,
        VisualTokens,
    )
}
"""The learner of each system that can be trained here."""


def blocks_for(clip: ClipBackbone, recipe: Recipe) -> tuple[int, ...]:
    """Blocks whose tokens the layers read: the recipe's, or the last block of each quarter of the depth.

    Raises:
        ZsasError: If the backbone has no such block.
    """
    blocks = recipe.blocks or quarters(clip.depth)
    if not all(1 <= block <= clip.depth for block in blocks):
        raise ZsasError(
            f"The blocks {blocks} must be numbers from 1 to {clip.depth}, the depth of {clip.name}."
        )
    return blocks


def margins(
    tokens: Tensor,
    layers: nn.ModuleList,
    states: Tensor,
    side: int,
    scale: float,
) -> Tensor:
    """Anomalous minus normal logit of each layer in the CLIP frame, fp32 (B, layers, side, side).

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
        return enlarged(maps, (side, side), corners=True)
