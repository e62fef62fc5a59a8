"""The last pass over a trained model: how it is to sample, chosen by held-out images within a share of the time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from ..chunks import from_first
from ..data.imageset import ImageSet
from ..data.stream import to_batch
from ..errors import UsageError
from ..features import get_features
from ..metrics.sampling import FEWEST, KEEPS, REFINE_TEMPERATURES, TEMPERATURES, choose_sampling
from ..models.draw import Draw
from ..models.sampler import Sampler
from ..models.sampling import Sampling
from ..progress import Attempts
from ..tensors import evenly, forked_rng
from .folder import Run

FEATURES = "efficientnet"
"""Of the package `features`. Wavelets take a twentieth of the time and would mislead: of the default VAE of MNIST they find
the temperature 1.1 closer than 1 and that closer than 0.9, and a network the reverse."""
SHARE, MOST_SECONDS = 0.03, 20.0
"""Of the seconds of training that the choice may take, and how many at most."""
IMAGES_PER_DRAW = 2500
"""Images that training saw for each draw of each kind, where its end was given in steps: the same on every machine."""
MOST_DRAWS = 1000
PROBED = 64
"""Draws by which the speed is measured."""


@dataclass(frozen=True)
class Trained:
    """How long a model was trained."""

    images: int
    """Seen."""
    seconds: float
    by_steps: bool
    """Whether the end of training was given in steps or epochs, not in minutes."""

    @staticmethod
    def of(run: Run) -> Trained:
        """As a run's outcome says."""
        outcome, r = run.facts["outcome"], run.recipe
        return Trained(outcome["images_seen"], outcome["training_seconds"],
                       r.minutes is None and (r.steps is not None or r.epochs is not None))


def sampling_of(run: Run, images: ImageSet, sampler: Sampler, trained: Trained, attempt: Attempts) -> Sampling | None:
    """How the model of a run is to sample by default, or None where too little would speak for it; says which, and why, in
    one line and in the run."""
    outcome, found = run.facts["outcome"], None
    outcome.pop("sampling", None)
    with attempt("choosing how to sample"):
        held_out = images.split()[1]
        try:
            n = _size(sampler, len(held_out) // 2, trained)
            rows = held_out[evenly(len(held_out), 2 * n)]  # not binarised: draws are means, which are grey
            x = to_batch(images.images[rows], next(sampler.parameters()).device)
            attempt.report.say("choosing how to sample")
            found = choose_sampling(sampler, x, get_features(FEATURES).embed, features=FEATURES, n=n, seed=run.recipe.seed)
            outcome["sampling"] = found.reason
            attempt.report.say(f"by default it samples at {found.reason}")
        except UsageError as e:
            outcome["sampling"] = f"not chosen: {e}"
            attempt.report.say(f"how to sample was not chosen: {e}")
    return found


def _size(sampler: Sampler, half: int, trained: Trained) -> int:
    """How many images of each kind are compared, at most `MOST_DRAWS`.

    Raises:
        UsageError: fewer than `FEWEST`, and why.
    """
    if half < FEWEST:
        raise UsageError(f"{2 * half:,} held-out images are fewer than the {2 * FEWEST} that it takes")
    if trained.by_steps:
        n, why = trained.images // IMAGES_PER_DRAW, f"training saw fewer than {FEWEST * IMAGES_PER_DRAW:,} images"
    else:
        seconds = min(SHARE * trained.seconds, MOST_SECONDS)
        n = from_first(lambda: int(seconds / (_seconds_for_each(sampler) * _kinds(sampler))))
        why = f"it would take longer than {SHARE:.0%} of the time of training, {seconds:.2g} s"
    if n < FEWEST:
        raise UsageError(why)
    return min(n, half, MOST_DRAWS)


def _kinds(sampler: Sampler) -> float:
    """Draws for each image of a half: of every way that is tried, and of two with which the other half is compared."""
    tried = len(TEMPERATURES) + 2.0
    if sampler.resampler is not None:
        tried += sum(1 / keep + 1 for keep in KEEPS)
    return tried + (len(REFINE_TEMPERATURES) + len(TEMPERATURES) if sampler.refiner is not None else 0)


def _seconds_for_each(sampler: Sampler) -> float:
    """Seconds to draw an image and to take its features, by a few: the second time, when memory has been claimed."""
    embed, options, taken = get_features(FEATURES).embed, Draw(resample=False), 0.0
    with forked_rng(), torch.inference_mode():
        for _ in range(2):
            began = time.perf_counter()
            embed(sampler.images(sampler.codes(PROBED, options), options)).sum().item()
            taken = time.perf_counter() - began
    return taken / PROBED
