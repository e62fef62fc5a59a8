"""What a diagnosis is made from: figures, the history of training, and the recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.distinct import distinct_images
from ..data.imageset import ImageSet
from ..metrics.figures import Figure
from ..objectives.objective import parse_objective
from ..objectives.weights import Weight
from ..parts.call import parse_call
from ..parts.recipe import Recipe
from ..parts.registry import ROLES, schedule
from ..pretrained.config import Config
from ..tensors import at_once


@dataclass(frozen=True)
class History:
    """A record of training and of its images; None, 0 or empty for what is not known."""

    steps: int | None = None
    skipped: int = 0
    rollbacks: int = 0
    held_out: Sequence[float] = ()
    """−ELBO of held-out images over training, nats."""
    images_seen: int | None = None
    training: int | None = None
    """Training images."""
    distinct: int | None = None
    """Distinct images among these, where the others are copies or near copies; None where there are no such copies."""
    watched: int = 0
    """Held-out images that the −ELBO was measured on."""
    trained_on: float = 0.0
    """Share of the images of the figures that are training images, too, or near copies of them."""
    on_test: bool = False
    """Whether the figures are of test images rather than of held-out ones."""


WATCHED = 500
"""Held-out images of up to 64×64 pixels that are watched in training, fewer of larger ones."""


def history_of(images: ImageSet, measured: np.ndarray, records: Sequence[Mapping[str, Any]],
               outcome: Mapping[str, Any]) -> History:
    """The history of a run from its images, the rows of those that were measured, its records and its outcome."""
    training, validation, test = images.split()
    watched = min(len(validation), at_once(images.images.shape[1:3], WATCHED))
    return History(
        outcome["steps"], outcome["skipped_steps"], outcome["rollbacks"],
        tuple(r["held_out"]["-elbo"] for r in records if "-elbo" in r.get("held_out", {})),
        outcome["images_seen"], len(training), distinct_images(images.images, training), watched,
        float(np.isin(images.groups[measured], images.groups[training]).mean()), len(test) > 0)


def as_made(config: Config) -> Recipe:
    """A model's recipe with the prior that was fitted to its codes in the end, whatever 'auto' or `fit-prior` chose."""
    return config.recipe.but(fitted_prior=config.fitted_prior or "none")


RATES = ("kl", "free_bits", "capacity", "balanced_kl", "layer_balanced_kl", "dwkl", "iw_bound", "stl", "dreg", "miwae",
         "ciwae", "piwae")
"""Terms that pull posteriors to the prior, so that the −ELBO is close to what is minimised."""


@dataclass(frozen=True)
class Case:
    """Everything that a check, or an advice, may look at."""

    figures: Mapping[str, Figure]
    history: History = field(default_factory=History)
    recipe: Recipe = field(default_factory=Recipe)

    def value(self, name: str) -> float | None:
        return self.figures[name].value if name in self.figures else None

    def half(self, name: str) -> float:
        """Half the width of the figure's interval; 0 where it has none."""
        low, high = self.figures[name].interval or (0.0, 0.0)
        return (high - low) / 2

    @property
    def gain(self) -> tuple[float, float] | None:
        """What reconstructions gain over the average image, dB, and half the width of its 95 % interval: those of posterior
        means where these are measured, since the noise of draws would hide what codes know of images that are mostly noise.

        The average of n images is nearer to these than that of all images would be: its mean square error is (n − 1) / n of
        their variance, which is allowed for.
        """
        own = self.figures.get("psnr of posterior means") or self.figures.get("psnr")
        average = self.figures.get("psnr of the average image")
        if own is None or average is None or average.n < 2:
            return None
        flattered = 10 * math.log10(average.n / (average.n - 1))
        return own.value - average.value + flattered, math.hypot(self.half(own.name), self.half(average.name))

    @property
    def residual(self) -> float | None:
        """Root mean square error of reconstructions, in units of the pixel range, by their mean PSNR."""
        psnr = self.value("psnr")
        return None if psnr is None else 10 ** (-psnr / 20)

    @property
    def late(self) -> float | None:
        """The share of all that the held-out −ELBO fell by which it fell in the last fifth of training."""
        curve = self.history.held_out
        fall = curve[0] - min(curve) if len(curve) >= 6 else 0.0
        return (curve[-1 - len(curve) // 5] - curve[-1]) / fall if fall > 0 else None

    def weight(self, term: str) -> float:
        """The weight of a term at the end of training; 0 of one that the objective lacks."""
        return sum(w(1.0) if isinstance(w, Weight) else w for w, t in parse_objective(self.recipe.objective).terms
                   if t.name.partition("(")[0] == term)

    @property
    def rate(self) -> float:
        """The largest weight of a term that draws posteriors to the prior."""
        return max(self.weight(term) for term in RATES)

    @property
    def constant_kl(self) -> bool:
        """Whether the objective holds the KL itself, with a weight that does not change, and codes have one that can."""
        terms = parse_objective(self.recipe.objective).terms
        return not self.quantized and any(t.name == "kl" and not isinstance(w, Weight) for w, t in terms)

    def part(self, role: str) -> str:
        """The name of the recipe's part for a role."""
        return parse_call(getattr(self.recipe, role)).name

    def argument(self, role: str, name: str) -> Any:
        """An argument of the recipe's part for a role, given or by default; None of a part without it."""
        bound = ROLES[role].check(parse_call(getattr(self.recipe, role)))
        bound.apply_defaults()
        return bound.arguments.get(name)

    @property
    def quantized(self) -> bool:
        return self.part("posterior") in ("vq", "rvq", "fsq", "lfq")

    @property
    def learning_rate(self) -> float:
        """The highest of training."""
        return float(self.argument("optimizer", "lr"))

    @property
    def way(self) -> float | None:
        """How far each weight could go: the sum of the learning rates of all steps, since a step of Adam is about one
        learning rate long. None of an optimizer with another step."""
        if not self.history.steps or not self.part("optimizer").startswith("adam"):
            return None
        factor = schedule.make(self.recipe.schedule)
        return self.learning_rate * self.history.steps * sum(factor((i + 0.5) / 100) for i in range(100)) / 100

    @property
    def scale(self) -> float | str | None:
        """What the recipe says of the likelihood's scale; None of a likelihood without one."""
        sigma = self.argument("likelihood", "sigma")
        return self.argument("likelihood", "scale") if sigma is None else sigma

    @property
    def deviation(self) -> float | None:
        """The standard deviation of a pixel under a likelihood whose scale is fixed; None where it is learned."""
        if isinstance(self.scale, str) or self.scale is None:
            return None
        return self.scale * (2**0.5 if self.part("likelihood") == "laplace" else 1.0)
