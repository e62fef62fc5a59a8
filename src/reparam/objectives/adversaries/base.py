"""What every adversary is."""

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
from .games import Game
from .penalties import Penalty


@dataclass(frozen=True)
class AdversaryInputs:
    """What the rest of a recipe gives to an adversary."""

    model: Model
    image_shape: Shape
    critic: str
    game: Game
    penalties: tuple[tuple[float, Penalty], ...] = ()
    augment: Augmentation | None = None


class Adversary(nn.Module, ABC):
    """What is judged, by whom and by which rules. Called on the trace of a batch, it gives both sides' losses of it."""

    def __init__(self, setting: AdversaryInputs) -> None:
        super().__init__()
        self.game = setting.game

    @abstractmethod
    def forward(self, model: Model, trace: Trace) -> AdversarialBatch:
        """The batch as the adversary sees it, given the model's trace of it."""


ADVERSARIES = registry.adversary.of(Adversary)


def detached(module: nn.Module, *prefixes: str) -> dict[str, Tensor]:
    """Parameters without gradients: all, or those whose names start with one of `prefixes`."""
    return {name: p.detach() for name, p in module.named_parameters() if not prefixes or name.startswith(prefixes)}
