"""What a term may need besides the trace: where training stands, and what an adversary says of the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


class AdversarialBatch(ABC):
    """The losses of the critic and of the model on one batch. An adversary makes it; see `objectives/adversaries`."""

    @abstractmethod
    def critic_loss(self) -> Float[Tensor, ""]:
        """What the critic minimises; its gradient does not reach the model."""

    @abstractmethod
    def adversarial(self, balance: float, cap: float) -> Float[Tensor, "b"]:
        """What the model minimises, for each example; its gradient does not reach the critic. See `terms.adversarial`."""

    @abstractmethod
    def features(self, x: Float[Tensor, "n c h w"]) -> Tensor:
        """The critic's hidden features of images, (n, *f); their gradient does not reach the critic."""


@dataclass(frozen=True)
class Context:
    """What a term may need besides the trace. The defaults are those of a model outside training."""

    progress: Tensor | None = None
    """(): 0 at the start of training, 1 at its end; None outside it."""
    dataset_size: int = 0
    """Number of images that the batch is drawn from; 0 when unknown."""
    adversarial: AdversarialBatch | None = None
    """The batch as the adversary sees it; None without an adversary, and until its critic begins to learn."""
