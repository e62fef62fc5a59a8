"""What is estimated once training has ended: the likelihood's scale, a prior for the codes, and the latents' order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from . import registry
from .batches import Batch
from .build import MOST_DIMS, Shares, build_prior, check_fitting, fitting_of
from .checkpoint import Added, Axis
from .data.stream import evenly
from .distributions import Implicit
from .errors import ModelFileError, UsageError
from .loop import Alone, State, training
from .metrics.latents import axes_of, codes_of
from .objective import Objective
from .priors import Draw, Mixture, Prior
from .recipe import Call, Recipe
from .refiner import Refiner, build_refiner
from .resampler import MOST, Resampler, build_resampler
from .space import Space
from .terms import nll
from .vae import VAE, Model, Trace

CODES = 20_000
"""Codes that a prior is fitted to; with fewer images, each is drawn several times, 100 at most."""
DRAWS, MOST_NUMBERS = 4, 100_000_000
"""Draws of each code that a prior learns from, as far as so many numbers hold them."""
BATCH = 256
"""Codes a step, at least, where there is an accelerator, which takes hardly longer for many than for few."""
MOST_CLASSES = 1000
SETTLED_ON = 8
"""Batches of draws that a resampler's level is set by."""
NOISE = 0.01
"""A dimension that carries less about an image, in nats, is left out of the fit."""


@torch.no_grad()
def calibrate_likelihood(model: Model, x: Tensor, seed: int = 0) -> None:
    """Fixes the likelihood's scale as the best one for images x (n, C, H, W) and one posterior draw each.

    Does nothing for a model without an encoder.
    """
    if not isinstance(model, VAE):
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        means = torch.cat([model.decode(model.encode(chunk, sample=True)[None]).mean[0] for chunk in x.split(250)])
    model.likelihood.calibrate(means, x)


@dataclass(frozen=True)
class Effort:
    """How long something is trained after the model."""

    minutes: float | None = None
    steps: int | None = None
    clock: Callable[[], float] | None = None
    """Seconds, where they are not the wall's."""
    precision: str = "float32"
    follow: Callable[[State], None] | None = None
    """Told of every step."""


def fit_second_stages(model: Model, recipe: Recipe, x: Tensor, effort: Callable[[float, str], Effort], *,
                      y: Tensor | None = None,
                      attempt: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()) -> Added:
    """Trains what a recipe adds to a trained model: prior, resampler and refiner, which it puts into the model.

    `effort` says how long, given a share of the minutes and what is being done. Each is trained within an `attempt`: where
    that lets go of an error, the model stays without what failed. Returns what they are.
    """
    shares, seed, added = Shares.of(recipe, model.latent), recipe.seed, Added()
    with attempt("fitting the prior"):
        added["fitted_prior"] = fit_prior(model, recipe, x, seed, y=y, effort=effort(shares.prior, "fitting the prior"))
    with attempt("training the resampler"):
        added["resampler"] = fit_resampler(model, recipe, x, seed,
                                           effort=effort(shares.resampler, "training the resampler"))
    with attempt("training the refiner"):
        added["refiner"] = fit_refiner(model, recipe, x, seed, y=y, effort=effort(shares.refiner, "training the refiner"))
    return added


def fit_prior_anew(model: VAE, recipe: Recipe, x: Tensor, y: Tensor | None, effort: Effort, resampling: Effort
                   ) -> tuple[str | None, str | None]:
    """Fits prior and resampler of a recipe in place of those that a model carries; returns what they are."""
    model.latent.fitted = model.resampler = None
    fitted = fit_prior(model, recipe, x, recipe.seed, y=y, effort=effort)
    return fitted, fit_resampler(model, recipe, x, recipe.seed, effort=resampling)


def fit_prior(model: Model, recipe: Recipe, x: Tensor, seed: int = 0, *, y: Tensor | None = None,
              effort: Effort = Effort(steps=2000)) -> str | None:
    """Fits the recipe's `fitted_prior` to the codes of images x and puts it into the model; returns it as a part call.

    A mixture takes the time that it takes; what learns step by step takes the `effort`. With labels `y` (n,), −1 for
    none, a prior that knows classes learns them. 'auto' stands for what `fitting_of` says.

    Raises:
        UsageError: a part that cannot be fitted to codes.
    """
    call = fitting_of(recipe, model.latent)
    if call is None or not isinstance(model, VAE):
        return None
    check_fitting(recipe, model.latent)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if call.name == "mixture":
            call, fitted = _fit_mixture(model, call, x, seed)
        else:
            call, fitted = _learn(model, call, x, y, effort)
    model.latent.fitted = fitted.to(x.device).eval().requires_grad_(False)
    return str(call)


def effort_of(recipe: Recipe, state: State, share: float, shares: Shares, precision: str) -> Effort:
    """A share of the minutes, of which training took the model's; where the end was counted in steps, as many steps."""
    if recipe.minutes is None and (recipe.steps is not None or recipe.epochs is not None):
        return Effort(steps=state.step, precision=precision)
    return Effort(state.seconds / 60 * share / shares.model, precision=precision)


@torch.no_grad()
def _fit_mixture(model: VAE, call: Call, x: Tensor, seed: int) -> tuple[Call, Prior]:
    n = int(call.args[0] if call.args else call.kwargs.get("n", 50))
    few, x = x[evenly(len(x), 2000)], x[evenly(len(x), CODES)]
    codes = codes_to_fit(model, x, 1).flatten(1)
    informative = (codes_of(model, few).information.numpy() > NOISE
                   if codes.shape[1] == math.prod(model.latent.shape) else None)
    with threadpool_limits(torch.get_num_threads()):  # waiting threads of several libraries hinder one another
        fitted = Mixture.fit(codes.cpu().numpy(), _space(model).shape, n, seed, informative)
    return Call("mixture", (len(fitted.logits),)), fitted


def _space(model: VAE) -> Space:
    space = model.latent.fit_space
    if space is None:
        raise UsageError("nothing can be fitted to the codes of this latent: choose a learned --prior")
    return space


@torch.no_grad()
def codes_to_fit(model: VAE, x: Tensor, most: int = DRAWS) -> Tensor:
    """Draws of the posterior of images x, `most` for each where memory allows and more where images are few: (m, *d),
    image after image, over and over.

    Raises:
        ModelFileError: the model gives codes that are not finite.
    """
    draws = max(min(-(-CODES // len(x)), 100), min(most, MOST_NUMBERS // (len(x) * math.prod(_space(model).shape))))
    codes = torch.cat([model.latent.to_fit(model.encoder(chunk), draws) for chunk in x.split(250)], 1).flatten(0, 1)
    if not bool(codes.isfinite().all()):
        raise ModelFileError("codes of images are not finite, so no prior can be fitted to them: the weights are "
                             "damaged, or its training had diverged")
    return codes


def codes_a_step(prior: Prior, device: torch.device) -> int:
    """How many codes a fit takes at a time."""
    return prior.batch if device.type == "cpu" else max(prior.batch, BATCH)


def _learn(model: VAE, call: Call, x: Tensor, y: Tensor | None, effort: Effort) -> tuple[Call, Prior]:
    """Trains a prior on codes that are drawn once, with the loop that trains models."""
    call, labels = _with_classes(call, y)
    prior = build_prior(str(call), _space(model), of="codes").to(x.device)
    codes = codes_to_fit(model, x)
    labels = labels.repeat(len(codes) // len(labels)) if labels is not None else None
    prior.prepare(codes, labels)
    batches = _batches(codes, labels, codes_a_step(prior, x.device))
    return call, _trained(prior, lambda z, y: (z, y), batches, effort, x.device)


def fit_resampler(model: Model, recipe: Recipe, x: Tensor, seed: int = 0, *, effort: Effort = Effort(steps=2000)
                  ) -> str | None:
    """Trains the recipe's resampler to tell codes of images x from draws of the prior that `sample` uses, and puts it into
    the model; returns its network as a part call."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        resampler = build_resampler(recipe.resampler, tuple(x.shape[1:]))
        if resampler is None or not isinstance(model, VAE):
            return None
        model.resampler = None  # draws are to be the prior's own
        resampler = _trained(resampler.to(x.device), lambda x, _: _alike(model, x), _batches(x, None, recipe.batch_size),
                             effort, x.device).eval()
        with torch.no_grad():
            resampler.settle(torch.cat([resampler(_drawn_images(model, MOST)) for _ in range(SETTLED_ON)]))
        model.resampler = resampler.requires_grad_(False)
        return recipe.resampler


@torch.no_grad()
def _alike(model: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """The decoder's images of the codes of images, and of as many draws of the prior."""
    return model.decode(model.encode(x, sample=True)[None]).mean[0], _drawn_images(model, len(x))


def _drawn_images(model: VAE, n: int) -> Tensor:
    return model.decode(model.generate(n)[None]).mean[0]


def fit_refiner(model: Model, recipe: Recipe, x: Tensor, seed: int = 0, *, y: Tensor | None = None,
                effort: Effort = Effort(steps=2000)) -> str | None:
    """Trains the recipe's refiner on images x, with their labels y (n,) where a decoder reads them, and puts it into the
    model; returns it as a part call.

    Raises:
        UsageError: a refiner that does not exist or fit.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        refiner = build_refiner(recipe.refiner, tuple(x.shape[1:]))
        if refiner is None or not isinstance(model, VAE):
            return None
        few = evenly(len(x), 1000)
        refiner.to(x.device).prepare(*_pairs(model, x[few], None if y is None else y[few]))
        batches = _batches(x, y, recipe.batch_size)
        model.refiner = _trained(refiner, lambda x, y: _pairs(model, x, y), batches, effort, x.device)
    model.refiner.eval().requires_grad_(False)
    return recipe.refiner


@torch.no_grad()
def _pairs(model: VAE, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Images, and what the decoder makes of a draw of their codes."""
    return x, model(x, y=y).px.mean[0]


def _with_classes(call: Call, y: Tensor | None) -> tuple[Call, Tensor | None]:
    """`flow_matching` is told how many classes the labels have, and gets them; other priors get none.

    Raises:
        UsageError: it is told of fewer classes than there are, or of classes where images have no labels.
    """
    if call.name != "flow_matching":
        return call, None
    most = int(y.max()) + 1 if y is not None else 0
    told = registry.prior.check(call).arguments.get("classes")
    if told is None and 2 <= most <= MOST_CLASSES:
        return Call(call.name, call.args, call.kwargs | {"classes": most}), y
    if told and not most:
        raise UsageError(f"{call}: the images have no labels; leave the classes out")
    if told and told < most:
        raise UsageError(f"{call}: the images are of {most} classes; give as many, or leave the number out")
    return call, y if told else None


def _batches(examples: Tensor, labels: Tensor | None, size: int) -> Iterator[Batch]:
    while True:
        chosen = torch.randint(len(examples), (min(size, len(examples)),), device=examples.device)
        yield examples[chosen] if labels is None else (examples[chosen], labels[chosen])


Part = TypeVar("Part", Prior, Resampler, Refiner)
Inputs = Callable[[Tensor, Tensor | None], tuple[Any, ...]]
"""What a loss is of, made of a batch and its labels."""


class Learner(nn.Module, Generic[Part]):
    """A part with a loss of its own, for the loop that trains models: what it calls −log p(x | z) is that loss."""

    def __init__(self, part: Part, inputs: Inputs) -> None:
        super().__init__()
        self.part, self.inputs = part, inputs

    def forward(self, x: Tensor, samples: int = 1, y: Tensor | None = None, *, progress: Tensor | None = None,
                population: int = 0) -> Trace:
        loss = self.part.loss(*self.inputs(x, y))
        return Trace(x, (), Implicit(x[None]), -loss[None], y=y, progress=progress, population=population)


def _trained(part: Part, inputs: Inputs, batches: Iterator[Batch], effort: Effort, device: torch.device) -> Part:
    """Trains with the loop that trains models, which asks of a model that it makes traces, and no more."""
    learner = Learner(part, inputs)
    state = None
    for state in training(cast(Model, learner), Objective(((1.0, nll),)), batches, steps=effort.steps,
                          minutes=effort.minutes, optimizer=f"adamw(lr={part.rate})", ema=0.998, precision=effort.precision,
                          clock=effort.clock, accelerator=Alone(device)):
        if effort.follow is not None:
            effort.follow(state)
    return cast(Learner[Part], state.ema).part if state is not None else part


@torch.no_grad()
def latent_axes(model: Model, x: Tensor, seed: int = 0) -> tuple[Axis, ...]:
    """The latent dimensions by the information that they carry about images x; without an encoder, by how much they change
    an image."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return axes_of(codes_of(model, x)) if isinstance(model, VAE) else _drawn_axes(model)


DRAWN_AXES = 16
"""Dimensions of a GAN's latent that are kept for traversals."""


def _drawn_axes(model: Model) -> tuple[Axis, ...]:
    """By the mean square change of 16 images when a number of their codes moves by two standard deviations."""
    z = model.latent.generate(512, Draw(fitted=False)).flatten(2)
    mean, std, few = z.mean((0, 1)), z.std((0, 1)), z[:, :16]
    changes = torch.zeros(z.shape[-1])
    for i in range(min(z.shape[-1], MOST_DIMS)):
        step = torch.zeros_like(mean)
        step[i] = std[i]
        low, high = (model.decode((few + way * step).unflatten(2, model.latent.shape)).mean for way in (-1, 1))
        changes[i] = (high - low).square().mean().cpu()
    order = changes.argsort(descending=True)[:DRAWN_AXES]
    return tuple(Axis(int(i), 0.0, round(float(mean[i]), 5), round(float(std[i]), 5)) for i in order)
