"""What the training loop minimizes: a model's objective, or the loss of a part that is trained after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.stream import Batches
from ..errors import UsageError
from ..models.priors import Prior
from ..models.refiner import Refiner
from ..models.resampler import Resampler
from ..models.trace import Trace
from ..models.vae import VAE, Model
from ..objectives.adversaries.base import Adversary
from ..objectives.context import AdversarialBatch, Context
from ..objectives.objective import Objective
from ..parallel import Processes
from .batches import read_codes, read_images
from .pieces import Pieces, one_scale
from .profile import Phase, unnamed

M = TypeVar("M", bound=nn.Module)


class Task(ABC, Generic[M]):
    """A module to train, and the named losses whose weighted sum is minimized.

    Attributes:
        module: what is trained, and averaged.
        names: of the losses.
        adversary: what learns against the module in the same steps, or None.
    """

    module: M
    names: list[str]
    adversary: Adversary | None = None
    phase: Phase = staticmethod(unnamed)
    """Told what a region of a step does."""
    together: int = 1
    """Rows of a batch that stay together when it is taken in pieces: rows 2i and 2i + 1 where these are partners."""

    takes_turns: bool = False
    """Whether the module learns from an adversary that has learned from the same images before it, and not beside it."""

    @abstractmethod
    def losses(self, x: Tensor, y: Tensor | None, progress: Float[Tensor, ""], *, with_critic: bool, update_critic: bool,
               update_model: bool) -> Float[Tensor, "n"]:
        """Batch mean of each loss, and last the critic's loss: that is 0 unless `update_critic`, the others are 0 unless
        `update_model`. `with_critic` says whether these may read the critic."""

    @abstractmethod
    def run(self, module: M, x: Tensor, y: Tensor | None) -> None:
        """Passes a batch through such a module, all of its networks."""

    @abstractmethod
    def batches(self, batches: Iterable[Any], device: torch.device) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Inputs and labels of batch after batch, on the device.

        Raises:
            UsageError: no batch at all, or one that the module cannot read.
        """

    @property
    def initial_weights(self) -> dict[str, float]:
        """The adaptive weights at the start of training, by loss."""
        return {}

    def weights(self, progress: float, adaptive: Mapping[str, float]) -> list[float]:
        """The weight of each loss; `adaptive` holds the current adaptive weights."""
        return [1.0] * len(self.names)

    def updated(self, adaptive: Mapping[str, float], parts: Mapping[str, float]) -> dict[str, float]:
        """The adaptive weights after a step in which the losses had the batch means `parts`."""
        return {}

    def uses_critic(self, progress: float) -> bool:
        """Whether any loss that reads the critic has a non-zero weight at `progress`."""
        return False

    @property
    def networks(self) -> list[nn.Module] | None:
        """What a compiler may make of the losses, each by itself, where these take gradients on their way: networks that are
        differentiated once. None where the losses are one graph."""
        return None

    def one_batch(self, pieces: Pieces, processes: Processes, bf16: bool) -> AbstractContextManager[None]:
        """A region in which the pieces of a batch are computed as the whole batch would be."""
        return nullcontext()


class ModelTask(Task[Model]):
    """Trains a model on an objective, and an adversary beside it.

    Args:
        model: what is trained.
        objective: what it minimizes.
        adversary: what learns against it, where a term of the objective uses one.
        dataset_size: number of images that batches are drawn from, where it is known; terms that estimate q(z) use it.
    """

    def __init__(self, model: Model, objective: Objective, adversary: Adversary | None = None, *, dataset_size: int = 0
                 ) -> None:
        self.module, self.objective, self.adversary, self.dataset_size = model, objective, adversary, dataset_size
        self.names = objective.names
        self.together = 2 if model.latent.in_pairs else 1
        self.takes_turns = not model.has_encoder

    def losses(self, x: Tensor, y: Tensor | None, progress: Float[Tensor, ""], *, with_critic: bool, update_critic: bool,
               update_model: bool) -> Float[Tensor, "n"]:
        model, objective = self.module, self.objective
        with torch.set_grad_enabled(update_model):
            trace = model(x, samples=objective.samples, y=y)
            adversarial = self._adversarial(trace) if with_critic else None
            context = Context(progress, self.dataset_size, adversarial)
            parts = objective.parts(trace, context) if update_model else x.new_zeros(len(objective.terms))
        return torch.cat([parts, self._critic_loss(adversarial if update_critic else None, like=parts)[None]])

    def run(self, module: Model, x: Tensor, y: Tensor | None) -> None:
        module(x, y=y)

    def _adversarial(self, trace: Trace) -> AdversarialBatch | None:
        if self.adversary is None:
            return None
        with self.phase("critic"):
            return self.adversary(self.module, trace)

    def _critic_loss(self, adversarial: AdversarialBatch | None, like: Tensor) -> Tensor:
        if adversarial is None:
            return like.new_zeros(())
        with self.phase("critic"):
            return adversarial.critic_loss()

    def batches(self, batches: Iterable[Any], device: torch.device) -> Iterator[tuple[Tensor, Tensor | None]]:
        if self.module.latent.in_pairs and isinstance(batches, Batches) and not batches.in_pairs:
            raise UsageError("this model's posterior learns from pairs of images, and these have no partners: name each "
                             "one's with --pairs, in Python as the stream's partners, or choose the posterior gaussian")
        return read_images(batches, self.module, device)

    @property
    def initial_weights(self) -> dict[str, float]:
        return self.objective.initial_weights

    def weights(self, progress: float, adaptive: Mapping[str, float]) -> list[float]:
        return self.objective.weights(progress, adaptive)

    def updated(self, adaptive: Mapping[str, float], parts: Mapping[str, float]) -> dict[str, float]:
        return self.objective.updated(adaptive, parts)

    def uses_critic(self, progress: float) -> bool:
        return self.objective.uses_critic(progress)

    @property
    def networks(self) -> list[nn.Module] | None:
        if self.adversary is None:
            return None
        own = [self.module.encoder] if isinstance(self.module, VAE) else []
        return [*own, self.module.decoder, *self.adversary.networks]

    def one_batch(self, pieces: Pieces, processes: Processes, bf16: bool) -> AbstractContextManager[None]:
        return one_scale(self.module, pieces, processes, self.objective.samples, bf16)


Part = TypeVar("Part", Prior, Resampler, Refiner)
Inputs = Callable[[Tensor, Tensor | None], tuple[Any, ...]]
"""Makes the arguments of a part's loss from a batch and its labels."""


class PartTask(Task[Part], Generic[Part]):
    """Trains a part on its own loss, `part.loss(*inputs(x, y))`.

    Args:
        part: what is trained.
        inputs: makes the arguments of the loss from a batch and its labels.
    """

    def __init__(self, part: Part, inputs: Inputs) -> None:
        self.module, self.inputs, self.names = part, inputs, ["loss"]

    def losses(self, x: Tensor, y: Tensor | None, progress: Float[Tensor, ""], *, with_critic: bool, update_critic: bool,
               update_model: bool) -> Float[Tensor, "n"]:
        loss = self.module.loss(*self.inputs(x, y)).mean()
        return torch.stack([loss, loss.new_zeros(())])

    def run(self, module: Part, x: Tensor, y: Tensor | None) -> None:
        module.loss(*self.inputs(x, y))

    def batches(self, batches: Iterable[Any], device: torch.device) -> Iterator[tuple[Tensor, Tensor | None]]:
        return read_codes(batches, device)
