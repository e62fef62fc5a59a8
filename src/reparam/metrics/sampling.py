"""Choosing how a model draws: at which temperature, how many draws a resampler keeps, and at which temperature of a refiner.

Every way draws as many images from the same noise, and is compared by the Fréchet distance to one half of the held-out
images; the other half gives the figures that are reported. Of few images a Fréchet distance is too high, and the more so the
more varied the images are, which would favour low temperatures. So the half that chooses looks at the leading principal
components of its images' features, an eighth as many as images at most, and takes the rest of the bias off by a line in
1/n through all rows and half of them (Chong & Forsyth, 2020, arXiv:1911.07023).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from ..chunks import in_chunks, of_each
from ..errors import UsageError
from ..functional.distance import frechet, frechet_influence
from ..models.draw import Draw
from ..models.resampler import KEPT, Resampler
from ..models.sampler import Sampler
from ..models.sampling import Sampling, Tried
from ..tensors import at_once, evenly, forked_rng
from .evaluation import saved

Array = npt.NDArray[np.float64]
Embed = Callable[[Tensor], Tensor]
"""Vectors (n, D) of images (n, C, H, W) in [0, 1]."""

TEMPERATURES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
KEEPS = (0.2, 0.5)
"""Shares of plain draws that a resampler may keep."""
REFINE_TEMPERATURES = (0.3, 0.5, 0.7, 0.85, 1.0)
FEWEST = 200
"""Images in each half: with fewer nothing is chosen."""
ROWS = 8
"""Images for each principal component."""
BEYOND = 2.5
"""Standard errors by which another way must be closer than plain draws. Of five that are no better, one is so by chance in
about 3 % of cases, and closer to the other half as well in half of these."""


def choose_sampling(sampler: Sampler, held_out: Float[Tensor, "n c h w"], embed: Embed, *, features: str = "",
                    temperatures: Sequence[float] = TEMPERATURES, keeps: Sequence[float] = KEEPS,
                    refine_temperatures: Sequence[float] = REFINE_TEMPERATURES, n: int = 1000, seed: int = 0) -> Sampling:
    """How this model is best drawn from, by the Fréchet distance of `n` images to as many held-out ones (fewer, where half
    of `held_out` is fewer), and how far that brings its draws.

    Another way than plain draws (temperature 1, every draw kept) is taken where it is closer by `BEYOND` standard errors to
    the half that chooses, and closer to the other half as well; of ways that are as close within a standard error the one
    with a temperature nearest to 1, or that keeps most draws. A resampler's threshold is left at the share that was
    chosen; for the rest the sampler stays as it is. `features` is the name of what `embed` gives.

    Example:
        sampling = choose_sampling(model.sampler, x[-2000:], get_features("efficientnet").embed)
        images = sampler.images(sampler.codes(64, sampling.draw), sampling.draw)

    Raises:
        UsageError: fewer held-out images than twice `FEWEST`.
    """
    m = min(n, len(held_out) // 2)
    if m < FEWEST:
        raise UsageError(f"choosing how to sample takes {2 * FEWEST} held-out images and {FEWEST} draws of each kind; got "
                         f"{len(held_out)} and {n}")
    choosing, reporting = (held_out[i::2][evenly(len(held_out) // 2, m)] for i in (0, 1))
    with _as_it_was(sampler.resampler), torch.inference_mode(), forked_rng():
        search = _Search(_Draws(sampler, embed, m, seed), _features(choosing, embed))
        best = PLAIN
        for _ in range(2):  # of a refiner's temperature and the prior's, the one that helps more comes first
            best = search.best(_around(best, temperatures, keeps if sampler.resampler is not None else (),
                                       refine_temperatures if sampler.refiner is not None else ()), best)
        fresh, real = _Draws(sampler, embed, m, seed + 1), _features(reporting, embed)
        drawn = {way: fresh.features(way) for way in dict.fromkeys((PLAIN, best))}
        axes = _Axes.of(real)
        best = min(drawn, key=lambda way: _Distance.of(axes(real), axes(drawn[way])).value)
    with torch.inference_mode(), forked_rng():
        fresh.settle(best.keep if best.keep < 1 else KEPT)
    fd, fd_plain = (round(frechet(real, drawn[way]), 4) for way in (best, PLAIN))
    return Sampling(best.temperature, best.keep, best.refine_temperature, fd, fd_plain, m, features, search.table())


@contextmanager
def _as_it_was(resampler: Resampler | None) -> Generator[None]:
    """Puts a resampler's threshold back, whatever was tried, and also where an error ended it."""
    level = None if resampler is None else resampler.level.clone()
    try:
        yield
    finally:
        if resampler is not None and level is not None:
            resampler.level.copy_(level)


def _features(images: Tensor, embed: Embed) -> Array:
    return in_chunks(lambda chunk: embed(chunk).float().cpu(), images,
                     size=at_once(images.shape)).double().numpy()


@dataclass(frozen=True)
class _Way:
    """A way of drawing."""

    temperature: float = 1.0
    keep: float = 1.0
    refine_temperature: float | None = None

    @property
    def options(self) -> Draw:
        return Draw(self.temperature, resample=self.keep < 1, refine_temperature=self.refine_temperature)


PLAIN = _Way()


def _around(way: _Way, temperatures: Sequence[float], keeps: Sequence[float], refine_temperatures: Sequence[float]
            ) -> list[_Way]:
    """Ways that differ from one in the prior's draws or in the refiner's temperature: those near to plain draws first."""
    ways = [replace(way, temperature=t, keep=1.0) for t in sorted(temperatures, key=lambda t: abs(t - 1))]
    ways += [replace(way, temperature=1.0, keep=k) for k in sorted(keeps, reverse=True)]
    return [*ways, *(replace(way, refine_temperature=t) for t in refine_temperatures)]


@dataclass(frozen=True)
class _Draws:
    """n draws of a sampler in each way, from the same noise."""

    sampler: Sampler
    embed: Embed
    n: int
    seed: int

    def features(self, way: _Way) -> Array:
        """Features (n, D) of their images."""
        if way.keep < 1:
            self.settle(way.keep)
        return self._of_each(lambda count: self._embedded(count, way.options)).double().numpy()

    def settle(self, keep: float) -> None:
        """Sets the resampler's threshold to a share of plain draws."""
        if (resampler := self.sampler.resampler) is not None:
            plain, means = Draw(resample=False), self.sampler.means
            resampler.settle(self._of_each(lambda count: resampler(means(self.sampler.codes(count, plain)))), keep)

    def _embedded(self, count: int, options: Draw) -> Tensor:
        return self.embed(saved(self.sampler.images(self.sampler.codes(count, options), options)))

    def _of_each(self, f: Callable[[int], Tensor]) -> Tensor:
        with forked_rng():
            torch.manual_seed(self.seed)
            size = at_once(self.sampler.model.image_shape or (1, 1, 1))
            sizes = [min(size, self.n - begin) for begin in range(0, self.n, size)]
            return torch.cat([rows for rows, in of_each(lambda count: (f(count).float().cpu(),), sizes)])


@dataclass(frozen=True)
class _Distance:
    """A Fréchet distance to real images, and its derivatives by the weight of each real image and each draw."""

    value: float
    influence: tuple[Array, Array]

    @staticmethod
    def of(real: Array, drawn: Array) -> _Distance:
        halves = [frechet(real[i::2], drawn[i::2]) for i in (0, 1)]
        value = 2 * frechet(real, drawn) - sum(halves) / 2  # below 0 where there is nothing to tell
        return _Distance(max(value, 0.0), frechet_influence(real, drawn))

    def error(self, other: _Distance) -> float:
        """Standard error of the difference to another one, of the same real images and of draws from the same noise."""
        pairs = zip(self.influence, other.influence, strict=True)
        return float(sum(np.square(own - others).mean() / len(own) for own, others in pairs) ** 0.5)


@dataclass(frozen=True)
class _Axes:
    """The leading principal components of features, an eighth as many as rows."""

    centre: Array
    axes: Array
    """(D, d)."""

    @staticmethod
    def of(rows: Array) -> _Axes:
        centre = rows.mean(0)
        axes = np.linalg.svd(rows - centre, full_matrices=False)[2]
        return _Axes(centre, axes[: max(len(rows) // ROWS, 2)].T)

    def __call__(self, rows: Array) -> Array:
        return (rows - self.centre) @ self.axes


class _Search:
    """Ways of drawing that have been tried, by one half of the held-out images."""

    def __init__(self, draws: _Draws, real: Array) -> None:
        self.draws, self.axes = draws, _Axes.of(real)
        self.real = self.axes(real)
        self.tried = {PLAIN: self._distance(PLAIN)}

    def best(self, ways: Sequence[_Way], before: _Way) -> _Way:
        """The first of several ways that is as close as the closest of them within a standard error, where that is closer
        than `before` beyond noise; or else `before`."""
        self.tried |= {way: self._distance(way) for way in ways if way not in self.tried}
        than = self.tried[before]
        closer = [way for way in ways if than.value - self.tried[way].value > BEYOND * self.tried[way].error(than)]
        if not closer:
            return before
        least = min((self.tried[way] for way in closer), key=lambda d: d.value)
        return next(way for way in closer if self.tried[way].value - least.value <= self.tried[way].error(least))

    def table(self) -> tuple[Tried, ...]:
        """All of them, plain draws first."""
        plain = self.tried[PLAIN]
        return tuple(Tried(way.temperature, way.keep, way.refine_temperature, round(d.value, 4), round(d.error(plain), 4))
                     for way, d in self.tried.items())

    def _distance(self, way: _Way) -> _Distance:
        return _Distance.of(self.real, self.axes(self.draws.features(way)))
