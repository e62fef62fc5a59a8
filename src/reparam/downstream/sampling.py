"""New images that are asked for by their codes: around an image, between two, moved along a direction, likely, different."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UsageError
from ..models.draw import Draw
from ..models.latents import Latents
from ..models.latents.flat import OneLayer
from ..parts.ranges import KEPT, TIMES, VARIATION
from ..pretrained.image_model import ImageModel, slerp
from ..tensors import forked_rng
from .choosing import diverse, typical
from .directions import Change, moved, steps
from .statistics import code_scale


@dataclass(frozen=True)
class Around:
    """Where draws lie.

    Raises:
        UsageError: a variation that is not from 0 to 1.
    """

    codes: Float[Tensor, "k *d"]
    """Of the image that draws lie around, or of the two that they lie between."""
    variation: float = 0.4
    """From 0, the images' own codes, to 1, draws that know nothing of them."""

    def __post_init__(self) -> None:
        VARIATION.check("variation", self.variation)


@dataclass(frozen=True)
class Keep:
    """Which draws are kept.

    Raises:
        UsageError: a number out of its range.
    """

    typical: float = 1.0
    """The share of draws that the prior finds likeliest."""
    diverse: int = 1
    """Of so many times as many draws, those that are far from one another."""

    def __post_init__(self) -> None:
        KEPT.check("typical", self.typical)
        TIMES.check("diverse", self.diverse)


def draw_codes(model: ImageModel, n: int, options: Draw = Draw(), *, around: Around | None = None, keep: Keep = Keep(),
               add: Sequence[Change] = (), seed: int | None = None) -> Float[Tensor, "n *d"]:
    """Codes of n new images: draws of the prior as `options` say, led to `around`, chosen as `keep` says, and then moved
    along the directions to `add`.

    Raises:
        UsageError: likely draws are asked of a prior without a density in reach, or codes that are whole numbers to be
            moved.
    """
    wanted = n * keep.diverse
    drawn = math.ceil(wanted / keep.typical)
    with forked_rng(enabled=seed is not None), torch.no_grad():
        if seed is not None:
            torch.manual_seed(seed)
        size = model.at_once
        z = torch.cat([model.sampler.codes(min(size, drawn - begin), options).cpu() for begin in range(0, drawn, size)])
        if around is not None:
            z = lead(model, z, around, options)
        if keep.typical < 1:
            z = z[torch.from_numpy(typical(log_density(model, z, options), wanted / drawn))]
        if keep.diverse > 1:
            z = z[torch.from_numpy(np.sort(diverse(_comparable(model, z), n)))]
    return torch.from_numpy(moved(model, z.numpy(), steps(z.numpy(), add))) if add else z


def draw_images(model: ImageModel, n: int, options: Draw = Draw(), *, around: Around | None = None, keep: Keep = Keep(),
                add: Sequence[Change] = (), seed: int | None = None) -> npt.NDArray[np.uint8]:
    """n new images, uint8 (n, H, W[, C]), of the codes of `draw_codes`. Around an image, a refiner's noise is the same for
    all, as in `reconstruct`."""
    z = draw_codes(model, n, options, around=around, keep=keep, add=add, seed=seed)
    with forked_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return model.decode(z.numpy(), options, own_noise=around is None)


def log_density(model: ImageModel, codes: Float[Tensor, "n *d"], options: Draw = Draw()) -> npt.NDArray[np.float64]:
    """log p(z) of codes under the prior that `options` draw from, nats, (n,); up to a constant, where it has no more.

    Raises:
        UsageError: it has no density in reach, or none of one class.
    """
    latent, prior = model.network.latent, model.sampler.fitted_prior if options.fitted else None
    if options.label is not None and not latent.classes:
        raise UsageError("how likely a code is among those of one class is not known: draw without a label, or without "
                         "choosing typical ones")
    with torch.no_grad():
        each = [latent.log_density(chunk.to(model.device), prior).cpu() for chunk in codes.split(model.at_once)]
    return torch.cat(each).double().numpy()


def lead(model: ImageModel, drawn: Float[Tensor, "n *d"], around: Around, options: Draw = Draw()) -> Float[Tensor, "n *d"]:
    """Draws of the prior led towards the code c of an image, or evenly spaced points c on the way between two.

    With variation v and the prior's mean μ, z = μ + √(1 − v²) (c − μ) + v (ε − μ): where codes and draws ε have one mean and
    covariance, so has z, and under N(0, I) it has that very law. (Cotter et al., 2013, arXiv:1202.0709, Eq. 4.3: the
    preconditioned Crank–Nicolson proposal.) On a sphere z lies at the fraction v of the arc from c to ε, which keeps draws
    uniform. Of codes from a codebook and of relaxed bits each place is taken from ε with probability v. A class stays that
    of the image unless `options` name another.
    """
    latent, n = model.network.latent, len(drawn)
    ends, of_ends = _apart(latent, around.codes.to(drawn))
    z, classes = _apart(latent, drawn)
    mean = _mean(model, options)
    c = _places(ends, n, curved=mean is None or latent.space.kind == "sphere")
    mixed = _mixed(latent, c, z, around.variation, torch.zeros(z.shape[1:]) if mean is None else mean)
    if of_ends is None or classes is None:
        return mixed
    return torch.cat([mixed, classes if options.label is not None else _nearer(of_ends, n)], 1)


def _apart(latent: Latents, codes: Float[Tensor, "n *d"]) -> tuple[Tensor, Tensor | None]:
    """What is drawn from the prior of a code, and its class where it holds one."""
    return (codes[:, : -latent.classes], codes[:, -latent.classes :]) if latent.classes else (codes, None)


def _places(ends: Float[Tensor, "k *d"], n: int, *, curved: bool) -> Float[Tensor, "n *d"]:
    """n times the one code, or n points from the first to the second."""
    if len(ends) == 1:
        return ends.expand(n, *ends.shape[1:])
    if len(ends) != 2:
        raise UsageError(f"draws lie around one image or between two; got {len(ends)}")
    path = slerp if curved else torch.lerp
    return torch.cat([path(ends[:1], ends[1:], t) for t in torch.linspace(0, 1, n)])


def _nearer(of_ends: Float[Tensor, "k c"], n: int) -> Float[Tensor, "n c"]:
    """The class of the nearer end."""
    return of_ends[torch.linspace(0, len(of_ends) - 1, n).round().long()]


def _mixed(latent: Latents, c: Float[Tensor, "n *d"], drawn: Float[Tensor, "n *d"], v: float, mean: Float[Tensor, "*d"]
           ) -> Float[Tensor, "n *d"]:
    kind = latent.space.kind
    if kind == "real":
        return mean + math.sqrt(1 - v * v) * (c - mean) + v * (drawn - mean)
    if not isinstance(latent, OneLayer):
        raise UsageError("draws around an image take a latent of one layer, or of real numbers; this one has several")
    if kind == "sphere":
        start, end = (t[..., None].flatten(2).movedim(1, 2).flatten(0, 1) for t in (c, drawn))
        return slerp(start, end, v).unflatten(0, (len(c), -1)).movedim(2, 1).reshape(c.shape)
    if c.dim() == 4:
        replaced = torch.rand(len(c), 1, *c.shape[2:]) < v
    else:
        each = max(latent.space.levels, 1) if kind == "relaxed" else c.shape[1] // latent.space.shape[0]
        replaced = (torch.rand(len(c), c.shape[1] // each) < v).repeat_interleave(each, 1)
    return torch.where(replaced, drawn, c)


def _mean(model: ImageModel, options: Draw) -> Float[Tensor, "*d"] | None:
    """The mean of the codes, which a fitted prior shares; None for a prior that is N(0, I)."""
    if model.prior_is_normal and not (options.fitted and model.sampler.fitted_prior is not None):
        return None
    mean = torch.zeros(model.latent_shape).flatten()
    for axis in model.config.axes:
        mean[axis.index] = axis.mean
    return _apart(model.network.latent, mean.unflatten(0, model.latent_shape)[None])[0][0]


def _comparable(model: ImageModel, codes: Float[Tensor, "n *d"]) -> npt.NDArray[np.float64]:
    """Codes in units in which their distances count what they say of an image, where that is known."""
    rows, scale = code_scale(model)
    flat = codes.flatten(1).double().numpy()
    return flat[:, rows] * scale if len(rows) else flat
