"""The interface of adversaries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from ...data.augment import Augmentation
from ...models.trace import Trace
from ...models.vae import Model
from ...parts import registry
from ...tensors import Shape
from ..context import AdversarialBatch
from ..weights import Weight
from .games import Game
from .penalties import Penalty


@dataclass(frozen=True)
class AdversaryInputs:
    """Arguments of every adversary, from the rest of the recipe."""

    model: Model
    image_shape: Shape
    critic: str
    game: Game
    penalties: tuple[tuple[Weight, Penalty], ...] = ()
    augment: Augmentation | None = None


class Adversary(nn.Module, ABC):
    """Chooses what a critic compares, and by which game. Called on the trace of a batch, it gives both sides' losses."""

    def __init__(self, inputs: AdversaryInputs) -> None:
        super().__init__()
        self.game = inputs.game

    @property
    def networks(self) -> list[nn.Module]:
        """Networks of its own that are differentiated once and no more."""
        return []

    def move_to(self, progress: float) -> None:
        """Brings what follows a schedule to where training stands, from 0 to 1; nothing does in most."""

    @abstractmethod
    def forward(self, model: Model, trace: Trace) -> AdversarialBatch:
        """The batch as the adversary sees it, given the model's trace of it."""


ADVERSARIES = registry.adversary.of(Adversary)


def detached(module: nn.Module, *prefixes: str) -> dict[str, Tensor]:
    """Detached parameters: all, or those whose names start with one of `prefixes`."""
    return {name: p.detach() for name, p in module.named_parameters() if not prefixes or name.startswith(prefixes)}
