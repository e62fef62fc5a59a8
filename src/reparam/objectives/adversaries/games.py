"""Games between a model and its critic.

A critic gives each input a score, higher for the real ones. A game says what the two minimise given the scores of real
inputs and of the model's own (Mescheder et al., 2018, arXiv:1801.04406, compare them). Scores are (n,), or (n, places)
for a critic that judges each place of an image by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...parts import registry
from ...parts.ranges import at_least, between
from ...parts.registry import game

Scores = Float[Tensor, "n ..."]


class Game(ABC):
    """What critic and model minimise.

    `steps` is how many steps the critic takes for each of the model's; `warmup` the fraction of training for
    which it learns before a term first uses it.
    """

    paired = False
    """Whether the model's loss depends on the scores of real inputs too."""

    def __init__(self, steps: Annotated[int, at_least(1)] = 1, warmup: Annotated[float, between(0, 1)] = 0.05) -> None:
        self.steps, self.warmup = steps, warmup

    @abstractmethod
    def critic(self, real: Scores, fake: Scores) -> Scores:
        """The critic's loss, of each pair."""

    @abstractmethod
    def model(self, real: Scores, fake: Scores) -> Scores:
        """The model's loss, of each pair; `model(-fake, -real)` is the loss with respect to the real inputs."""


GAMES = registry.game.of(Game)


@game("nonsaturating")
class Nonsaturating(Game):
    """log(1 + e^−s): the critic classifies; the model raises its odds of passing (Goodfellow et al., 2014, section 3)."""

    def critic(self, real: Scores, fake: Scores) -> Scores:
        return F.softplus(-real) + F.softplus(fake)

    def model(self, real: Scores, fake: Scores) -> Scores:
        return F.softplus(-fake)


@game("ratio")
class Ratio(Game):
    """The same critic, whose score estimates log p(real) / p(fake); the model's loss is then an estimate of the divergence
    KL(fake ‖ real), in nats: for codes, in place of a term that has no closed form (Mescheder et al., 2017,
    arXiv:1701.04722; Kim & Mnih, 2018, arXiv:1802.05983)."""

    def critic(self, real: Scores, fake: Scores) -> Scores:
        return F.softplus(-real) + F.softplus(fake)

    def model(self, real: Scores, fake: Scores) -> Scores:
        return -fake


@game("hinge")
class Hinge(Game):
    """The critic's scores count up to a margin of one, or with `smoothing` up to one between 1 − smoothing and 1 that is
    drawn for each (Lim & Ye, 2017, arXiv:1705.02894; Liu et al., 2021, arXiv:2101.04775)."""

    def __init__(self, steps: Annotated[int, at_least(1)] = 1, warmup: Annotated[float, between(0, 1)] = 0.05,
                 smoothing: Annotated[float, between(0, 1)] = 0.0) -> None:
        super().__init__(steps, warmup)
        self.smoothing = smoothing

    def critic(self, real: Scores, fake: Scores) -> Scores:
        return F.relu(self._margin(real) - real) + F.relu(self._margin(fake) + fake)

    def _margin(self, scores: Scores) -> Scores | float:
        return 1 - self.smoothing * torch.rand_like(scores) if self.smoothing else 1.0

    def model(self, real: Scores, fake: Scores) -> Scores:
        return -fake


@game("wasserstein")
class Wasserstein(Game):
    """Differences of plain scores, which takes a critic held smooth, and near its best (Arjovsky et al., 2017,
    arXiv:1701.07875): give the penalty `10*gradient`."""

    def critic(self, real: Scores, fake: Scores) -> Scores:
        return fake - real

    def model(self, real: Scores, fake: Scores) -> Scores:
        return -fake


@game("least_squares")
class LeastSquares(Game):
    """½(s − 1)² for what should pass, ½(s + 1)² for what should not (Mao et al., 2017, arXiv:1611.04076)."""

    def critic(self, real: Scores, fake: Scores) -> Scores:
        return 0.5 * ((real - 1) ** 2 + (fake + 1) ** 2)

    def model(self, real: Scores, fake: Scores) -> Scores:
        return 0.5 * (fake - 1) ** 2


@game("relativistic")
class Relativistic(Game):
    """Each fake against one real input, so that no score counts by itself (Jolicoeur-Martineau, 2019, arXiv:1807.00734).

    With the penalties R1 and R2 it converges, and drops no modes (Huang et al., 2024, arXiv:2501.05441).
    """

    paired = True

    def critic(self, real: Scores, fake: Scores) -> Scores:
        return F.softplus(fake - real)

    def model(self, real: Scores, fake: Scores) -> Scores:
        return F.softplus(real - fake)
