"""Base of learners (what is cached of an image, losses, file of weights), and the recipe of a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zsas.errors import ZsasError

if TYPE_CHECKING:
    from zsas.backbones.clip import ClipBackbone

OTHER_EPOCHS = 15


@dataclass(frozen=True)
class Recipe:
    """The settings of a training; defaults are the paper's.

    Attributes:
        epochs: Passes over the images.
        batch: Images a step.
        lr: Adam's step.
        betas: Adam's averages.
        resolution: Side of the CLIP frame in pixels.
        blocks: Blocks that get a linear layer, counted from 1; empty takes every quarter of the depth.
        scale: Factor on the cosines.
        holdout: Fraction of the images kept for the validation curve only; 0 trains on all, as the paper does.
        seed: Seed of weights and order.
        shuffle: Whether the images come in another order in every epoch.
        steps: Steps after which it ends, whatever the epochs; 0 counts epochs.
        at_once: Images that go through the tower at once, where it learns, too; 0 takes the whole batch.
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
    shuffle: bool = True
    steps: int = 0
    at_once: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, 1000),
            ("batch", 1, 1024),
            ("resolution", 32, 2048),
            ("steps", 0, 10_000_000),
            ("seed", 0, 2**32 - 1),
            ("lr", 0.0, 1000.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ZsasError(f"{name} is {value}, but it must be {low} to {high}.")
        if not 0.0 <= self.holdout <= 0.5:
            raise ZsasError(
                f"holdout is {self.holdout}, but it must be a fraction of the images, 0 to 0.5."
            )


@dataclass(frozen=True)
class Losses:
    """The losses of a batch.

    Attributes:
        terms: Each weighted as it is added, by name.
        maps: Anomaly maps in the CLIP frame, fp32 (B, side, side), in [0, 1].
    """

    terms: Mapping[str, Tensor]
    maps: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of the terms."""
        return torch.stack(list(self.terms.values())).sum()


class Learner(ABC):
    """Base of what can be trained: one class for each kind of weights.

    Class attributes:
        system: Name of the system, as in `--system`.
        file: Name of the file that it writes.
        what: A few words for the model card.
        paper: Whose recipe it is.
        terms: Names of its losses.
        recipe: The published recipe.
        epochs: Those of the data sets that have others than the recipe's.

    Attributes:
        module: What is learned.
        kept: Shape of what is kept of an image.
    """

    system: ClassVar[str]
    file: ClassVar[str]
    what: ClassVar[str]
    paper: ClassVar[str]
    terms: ClassVar[tuple[str, ...]]
    recipe: ClassVar[Recipe]
    epochs: ClassVar[Mapping[str, int]] = {}
    module: nn.Module
    kept: tuple[int, ...]

    def __init__(self, clip: ClipBackbone, recipe: Recipe) -> None:
        self.clip = clip
        self.chosen = recipe
        self.grid = recipe.resolution // clip.patch
        self.side = self.grid * clip.patch

    def pixels(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """RGB images, uint8 (H, W, 3), in the CLIP frame; (B, 3, side, side)."""
        return self.clip.pixels(images, self.side)

    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of `module`."""
        return torch.optim.Adam(
            self.module.parameters(), lr=self.chosen.lr, betas=self.chosen.betas
        )

    def before_epoch(  # noqa: B027 - most have no schedule
        self, optimizer: torch.optim.Optimizer, epoch: int, epochs: int
    ) -> None:
        """Called before each epoch, for schedules; epochs count from 0."""

    def before_step(self) -> None:  # noqa: B027 - most do nothing there
        """Called after gradients are computed and before the optimiser's step."""

    @abstractmethod
    def keep(self, pixels: Tensor) -> Tensor:
        """Outputs of the frozen towers that are cached, (B, *kept).

        Args:
            pixels: From `ClipBackbone.pixels`.
        """

    @abstractmethod
    def losses(self, kept: Tensor, objects: Sequence[str], mask: Tensor) -> Losses:
        """Losses of a batch.

        Args:
            kept: fp32 (B, *kept).
            objects: Name of the object on each image.
            mask: 1 where anomalous, fp32 (B, side, side).
        """

    @abstractmethod
    def weights(self, trained_on: str = "", categories: tuple[str, ...] = ()) -> Any:
        """The learned weights as the localizer reads them, an object with `card` and `save`."""

    def save(self, path: Path, trained_on: str, categories: tuple[str, ...]) -> dict[str, Any]:
        """Write the file; its card, as JSON types."""
        found = self.weights(trained_on, categories)
        found.save(path)
        return asdict(found.card)

    @property
    def stamp(self) -> dict[str, Any]:
        """What `keep` depends on beside the model and the images."""
        return {"shape": self.kept, "resolution": self.side}
