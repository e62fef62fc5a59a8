"""Objectives: named functionals of a trace, added with weights that may change over training.

    nll + kl                     the negative ELBO, nats per example
    nll + 4*kl                   β-VAE
    nll + linear(0, 1, 0.1)*kl   KL warm-up over the first tenth of training
    nll + target_rate(30)*kl     30 nats of KL, by the weight that it takes

In Python the same is written with the same operators: `nll + linear(0, 1, 0.1) * kl`. Terms and objectives form a vector
space: they add, subtract, and take a number or a schedule on either side, `2 * (nll + kl) - 0.1 * tc`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UsageError
from ..models.trace import Trace
from ..parts import registry
from ..parts.call import Call, parse_sum
from ..parts.recipe import Recipe
from .context import Context
from .weights import WEIGHTS, AdaptiveWeight, Weight


def product(a: float | Weight, b: float | Weight) -> float | Weight:
    """a · b, of which one at most changes over training.

    Raises:
        UsageError: both do.
    """
    if not isinstance(a, Weight):
        a, b = b, a
    if not isinstance(a, Weight):
        return float(a * b)  # pyright: ignore[reportOperatorIssue]
    if isinstance(b, Weight):
        raise UsageError(f"{a} times {b}: a term has one schedule, so leave one of them out")
    return a if b == 1 else a.scaled(b)


class Summable(ABC):
    """What adds, subtracts and scales into an objective: terms, and objectives themselves."""

    @abstractmethod
    def summands(self) -> tuple[tuple[float | Weight, Term], ...]:
        """Terms with their weights."""

    def __add__(self, other: Summable) -> Objective:
        return Objective(self.summands() + other.summands())

    def __sub__(self, other: Summable) -> Objective:
        return self + -other

    def __neg__(self) -> Objective:
        return self * -1.0

    def __mul__(self, weight: float | Weight) -> Objective:
        return Objective(tuple((product(weight, w), term) for w, term in self.summands()))

    def __rmul__(self, weight: float | Weight) -> Objective:
        return self * weight


@dataclass(frozen=True)
class Term(Summable):
    """A named functional of a trace, nats per example, (B,). Terms add and scale into an objective.

        sharpness = Term("sharpness", lambda trace, context: trace.px.mean[0].flatten(1).var(1))

    A term that depends on the trace alone ignores the context.
    """

    name: str
    of: Callable[[Trace, Context], Tensor]
    samples: int = 1
    """Importance samples that the trace must hold."""
    uses_critic: bool = False
    """Whether it reads `Context.adversarial`."""

    def __call__(self, trace: Trace, context: Context = Context()) -> Tensor:
        """The term of each example, (B,), nats."""
        return self.of(trace, context)

    def summands(self) -> tuple[tuple[float | Weight, Term], ...]:
        return ((1.0, self),)


TERMS = registry.term.of(Term)


@dataclass(frozen=True)
class Objective(Summable):
    """Σ_k w_k(progress) · E_B[term_k]. Written, printed and stored alike: 'nll + linear(0, 1, 0.1)*kl'."""

    terms: tuple[tuple[float | Weight, Term], ...]

    def __post_init__(self) -> None:
        names = [term.name for _, term in self.terms]
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise UsageError(f"the term {twice} stands twice in {self}: add up its weights")

    def summands(self) -> tuple[tuple[float | Weight, Term], ...]:
        return self.terms

    @property
    def samples(self) -> int:
        """Importance samples that a trace must hold for every term."""
        return max(term.samples for _, term in self.terms)

    @property
    def names(self) -> list[str]:
        return [term.name for _, term in self.terms]

    def weights(self, progress: float, adaptive: Mapping[str, float] | None = None) -> list[float]:
        """The weight of each term; `adaptive` holds the current adaptive weights, by term."""
        current = adaptive or {}
        return [current[term.name] if term.name in current else w(progress) if isinstance(w, Weight) else w
                for w, term in self.terms]

    @property
    def initial_weights(self) -> dict[str, float]:
        """The adaptive weights at the start of training, by term."""
        return {term.name: w(0.0) for w, term in self.terms if isinstance(w, AdaptiveWeight)}

    def updated(self, adaptive: Mapping[str, float], parts: Mapping[str, float]) -> dict[str, float]:
        """The adaptive weights after a step in which the terms had the batch means `parts`, nats per example."""
        return {term.name: w.updated(adaptive[term.name], parts[term.name])
                for w, term in self.terms if isinstance(w, AdaptiveWeight)}

    def settled(self) -> Objective:
        """What training ends with, without terms that read a critic: their last weights, for good.

        Raises:
            UsageError: nothing is left.
        """
        last = self.weights(1.0, self.initial_weights)
        kept = tuple((w, term) for w, (_, term) in zip(last, self.terms, strict=True) if w and not term.uses_critic)
        if not kept:
            raise UsageError(f"the objective {self} is a game against a critic, whose loss tells nothing of a rate: give "
                             "the optimizer a number in the place of lr=auto")
        return Objective(kept)

    def uses_critic(self, progress: float) -> bool:
        """Whether any term that reads the critic has a non-zero weight at `progress`."""
        return any(weight for weight, (_, term) in zip(self.weights(progress), self.terms, strict=True) if term.uses_critic)

    def parts(self, trace: Trace, context: Context = Context()) -> Tensor:
        """Batch mean of each term, (terms,), nats per example."""
        return torch.stack([term.of(trace, context).mean() for _, term in self.terms])

    def __call__(self, trace: Trace, context: Context = Context()) -> Tensor:
        """The weighted sum, nats per example, with the weights of `context.progress`: outside training, those of its end."""
        parts = self.parts(trace, context)
        progress = 1.0 if context.progress is None else float(context.progress)
        return (parts * parts.new_tensor(self.weights(progress))).sum()

    def __str__(self) -> str:
        pieces: list[str] = []
        for weight, term in self.terms:
            if isinstance(weight, Weight):
                pieces.append(f"+ {weight}*{term.name}")
            else:
                factor = "" if abs(weight) == 1 else f"{abs(weight):.12g}*"
                pieces.append(f"{'-' if weight < 0 else '+'} {factor}{term.name}")
        return " ".join(pieces).removeprefix("+ ")


def parse_objective(text: str) -> Objective:
    """Reads 'nll + 4*kl'.

    Raises:
        UsageError: an unknown term or schedule, or text that is not a sum of weighted terms.
    """
    return Objective(tuple(
        (WEIGHTS.make(weight) if isinstance(weight, Call) else weight, TERMS.make(part))
        for weight, part in parse_sum(text)))


def build_objective(recipe: Recipe) -> Objective:
    """The objective of a recipe."""
    return parse_objective(recipe.objective)
