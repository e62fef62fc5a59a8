"""What every distribution can do, and the divergence between two of them.

One rule holds for all: `log_prob` sums over the event and returns one number per example, in nats, in float32 also under
autocast. There is no `reduction=` argument. Shapes: K importance samples, B examples, D latent dimensions, C channels,
H height, W width; `*d` stands for the shape of a latent.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import UsageError

LOG_2PI = math.log(2 * math.pi)


def sum_event(t: Tensor, dims: int) -> Tensor:
    """Sums the last `dims` axes."""
    return t.flatten(-dims).sum(-1) if dims else t


class Distribution(ABC):
    """What every distribution can do."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Expectation, batch shape + event shape."""

    @abstractmethod
    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Draws `shape` + batch shape + event shape; gradients may not flow."""

    @abstractmethod
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value), summed over the event, nats."""

    def relative_log_prob(self, value: Tensor) -> Tensor:
        """log p(value) up to a constant, nats: which values are likelier, also where no more than that is known."""
        return self.log_prob(value)

    def tempered(self, shape: tuple[int, ...], temperature: float) -> Tensor:
        """Draws like `sample`, less varied below a temperature of 1 and at 0 without noise, and never where no draw lies.

        Each family has its own way: shrinking all draws towards the mean, which serves one hump, leads between several.

        Raises:
            UsageError: another temperature than 1, of a family without a way.
        """
        if temperature != 1:
            raise UsageError(f"draws of a {type(self).__name__} have no temperature: leave it at 1, or give the class a "
                             "method tempered(shape, temperature)")
        return self.sample(shape)


    def noise(self, n: int) -> Tensor:
        """Standard normal numbers of n draws, (n, k), for `from_noise`.

        Raises:
            UsageError: its draws are not made of such numbers.
        """
        raise UsageError(f"draws of a {type(self).__name__} are not made of a fixed number of standard normal ones: give "
                         "the class the methods noise(n) and from_noise(u, temperature)")

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The draws, (n, *event), that noise u (n, k) becomes: of the same numbers always the same ones, on any device
        and in any program that knows the weights."""
        raise UsageError(f"draws of a {type(self).__name__} are not made of noise")


class FromNoise(Distribution):
    """A distribution, of no batch, whose draws are all made of standard normal numbers."""

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.tempered(shape, 1.0)

    def tempered(self, shape: tuple[int, ...], temperature: float) -> Tensor:
        """Draws of noise at a temperature, as `from_noise` makes them."""
        with torch.no_grad():
            drawn = self.from_noise(self.noise(math.prod(shape)), temperature)
            return drawn.reshape(*shape, *drawn.shape[1:])


def uniform(u: Tensor) -> Tensor:
    """Standard normal numbers as uniform ones, strictly between 0 and 1."""
    return torch.special.ndtr(u).clamp(2**-24, 1 - 2**-24)


def choice(p: Tensor, u: Tensor) -> Tensor:
    """One of the events of probabilities p (…, m), by a standard normal number u (…) each: the first at which the sum of
    probabilities exceeds that of u."""
    return (uniform(u)[..., None] >= p.cumsum(-1)[..., :-1]).sum(-1)


class Reparameterized(Distribution):
    """A distribution whose draws are a differentiable function of its parameters (Kingma & Welling, 2014)."""

    @abstractmethod
    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Draws `shape` + batch shape + event shape, with gradients."""

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(shape)


class LocationScale(Reparameterized):
    """A distribution whose draws are its mean and noise around it."""

    def tempered(self, shape: tuple[int, ...], temperature: float) -> Tensor:
        """Draws whose noise is multiplied by the temperature."""
        return self.mean + temperature * (self.sample(shape) - self.mean)


D = TypeVar("D", bound=Distribution)


def stopped(d: D) -> D:
    """The same distribution with its tensors detached, so that no gradient reaches its parameters.

    Raises:
        UsageError: a network is part of it (a flow), whose parameters are not its own to detach.
    """
    if not is_dataclass(d):
        raise UsageError(f"gradients cannot be stopped in a {type(d).__name__}, which is no dataclass of tensors")
    return replace(d, **{f.name: _detached(getattr(d, f.name), d) for f in fields(d)})


def _detached(value: Any, of: Distribution) -> Any:
    match value:
        case Tensor():
            return value.detach()
        case Distribution():
            return stopped(value)
        case tuple():
            return tuple(_detached(v, of) for v in value)
        case None | int() | float() | str() | type():
            return value
        case _:
            raise UsageError(f"gradients cannot be stopped in a {type(of).__name__}, which is computed by a "
                             f"{type(value).__name__}; in one made of tensors alone, such as a Gaussian, they can")


F = TypeVar("F", bound=Callable[..., Tensor])
_CLOSED: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {}


def closed_kl(q: type[Distribution], p: type[Distribution]) -> Callable[[F], F]:
    """Registers a closed form of KL(q ‖ p) between two classes of distribution: f(q, p) → nats per example, (B,) or ()."""

    def register(f: F) -> F:
        _CLOSED[q, p] = f
        return f

    return register


def kl(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """KL(q ‖ p) per example, nats, (K, B): in closed form where there is one, else log q(z) − log p(z) at z ~ q.

    >>> from reparam.distributions import Gaussian
    >>> zero = torch.zeros(1, 2)
    >>> q, p = Gaussian(zero + 1, zero), Gaussian(zero, zero)
    >>> kl(q, p, q.sample((1,)))  # ½ |μ|²
    tensor([[1.]])
    """
    closed = _CLOSED.get((type(q), type(p)))
    return q.log_prob(z) - p.log_prob(z) if closed is None else closed(q, p).expand(z.shape[:2])
