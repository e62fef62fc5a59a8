"""New images: draws of each of a model's priors, and draws around an image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..downstream.sampling import Around, draw_codes
from ..errors import UsageError
from ..models.priors import FlowMatching
from ..parts.call import parse_call
from ..parts.ranges import GUIDANCE, SEED, TEMPERATURE, VARIATION, Within
from .explored import Explored
from .questions import Answer, Question

SAMPLES = Within(1, 256, whole=True)
VARIED = 0.4
"""How far variations go from their image by default, as those of `reparam sample --like`."""


@dataclass(frozen=True)
class Way:
    """One way of drawing new images from a model."""

    prior: str
    title: str
    resample: bool
    """Whether a resampler chooses among the draws."""
    labels: bool
    """Whether a class can be asked for."""
    guides: bool
    """Whether draws can go beyond what the label says."""


def ways_of(run: Explored) -> list[dict[str, Any]]:
    """The ways that there are, the one of `reparam sample` first."""
    sampler, config = run.model.sampler, run.model.config
    own, fitted = parse_call(config.recipe.prior).name, sampler.fitted_prior
    guides = isinstance(fitted, FlowMatching) and fitted.velocity.classes > 0
    labels = run.model.network.latent.classes > 0
    ways: list[Way] = []
    if fitted is not None and config.fitted_prior is not None:
        name = parse_call(config.fitted_prior).name
        ways.append(Way(name, f"{name}, fitted", False, labels or guides, guides))
    if own not in [way.prior for way in ways]:
        ways.append(Way(own, f"{own}, the model's own" if ways else own, False, labels, False))
    if sampler.resampler is not None:
        first = ways[0]
        ways.insert(0, Way(first.prior, f"{first.title}, resampled", True, first.labels, first.guides))
    return [asdict(way) for way in ways]


def classes_of(run: Explored) -> list[str]:
    """Names of the classes that can be asked for; their numbers where they have no names."""
    fitted = run.model.sampler.fitted_prior
    known = fitted.velocity.classes if isinstance(fitted, FlowMatching) else 0
    return list(run.model.config.classes) or [str(i) for i in range(max(known, run.model.network.latent.classes))]


def sample(run: Explored, question: Question) -> Answer:
    """New images and their codes; drawn as training chose, where nothing else is asked for."""
    model, label = run.model, question.said.get("label")
    if label is not None and (isinstance(label, bool) or not isinstance(label, int | str)):
        raise UsageError("a label is the name or the number of a class")
    options = model.options(
        prior=question.text("prior", "") or None, label=label if label != "" else None,
        temperature=question.number("temperature", TEMPERATURE) if "temperature" in question.said else None,
        guidance=question.number("guidance", GUIDANCE, 1.0),
        resample=question.flag("resample", True) if "resample" in question.said else None,
        refine=question.flag("detail", True))
    codes, images = model.drawn(question.whole("n", SAMPLES, 16), options, seed=question.whole("seed", SEED, 0))
    return Answer(arrays={"images": run.written(images), "codes": codes.flatten(1).numpy()})


def variations(run: Explored, question: Question) -> Answer:
    """Draws around a code, as `reparam sample --like` makes them."""
    code = torch.from_numpy(run.placed(question.code(run.d))).unflatten(1, run.model.latent_shape)
    around = Around(code, question.number("variation", VARIATION, VARIED))
    codes = draw_codes(run.model, question.whole("n", SAMPLES, 8), around=around, seed=question.whole("seed", SEED, 0))
    flat = codes.flatten(1).numpy()
    return Answer(arrays={"images": run.decoded(flat, detail=question.flag("detail", True)), "codes": flat})
