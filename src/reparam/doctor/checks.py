"""What may be wrong with a model: each check returns its evidence, and its advice that suits the model.

Thresholds are from simulation: `benchmarks/verdicts.py` trains small models with a known problem, and healthy ones,
and docs/evaluation.md says how often each finding comes up among the latter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..metrics.catalogue import find
from ..metrics.codebook import PERPLEXITY
from ..text import counted
from .case import Case

Evidence = Callable[[Case], str | None]


@dataclass(frozen=True)
class Advice:
    """Something to do, for the models that it suits."""

    text: str | Callable[[Case], str]
    suits: Callable[[Case], bool] = lambda case: True

    def of(self, case: Case) -> str:
        return self.text if isinstance(self.text, str) else self.text(case)


@dataclass(frozen=True)
class Check:
    """A possible finding: its name, its evidence, and what may help, best first."""

    title: str
    evidence: Evidence
    """The evidence in words, or None where there is none."""
    advice: tuple[Advice, ...]
    alone: bool = False
    """Whether it explains everything else that the figures of such a model show, so that it is reported alone."""


def unmeasured(case: Case) -> str | None:
    return None if case.figures else "there are no figures to judge the model by"


# Of the images

LEAKED = 0.1
"""Share of training images among the measured ones, above which figures say too little about new images."""
SHIFTED = 0.25
"""How much worse test images must be than held-out ones, as a share of what training gained, to be called unlike."""


def few_distinct(case: Case) -> str | None:
    distinct, training = case.history.distinct, case.history.training
    if distinct is None or training is None:
        return None
    what = f"{distinct:,} distinct ones, and copies or near copies of them" if distinct > 1 else "all the same to the eye"
    return f"the {training:,} training images are {what}: little to learn from, and held-out ones may be copies, too"


def trained_on(case: Case) -> str | None:
    share = case.history.trained_on
    return f"{share:.0%} of the images that the figures are measured on are training images" if share >= LEAKED else None


def shifted(case: Case) -> str | None:
    curve, test = case.history.held_out, case.value("-elbo")
    if not case.history.on_test or len(curve) < 4 or test is None or not case.history.watched:
        return None
    half = case.half("-elbo") * (1 + case.figures["-elbo"].n / case.history.watched) ** 0.5
    if test - curve[-1] <= max(2 * half, SHIFTED * (curve[0] - min(curve))):
        return None
    return f"their −ELBO is {test:.1f} nats, and that of images held out of the training images {curve[-1]:.1f}"


# Of training

FEWEST_STEPS, FEWEST_SEEN = 100, 5000
"""Steps, and images seen in them, that are too few for any model."""
SHORTEST_WAY = 0.02
"""The least distance that each weight must be able to move: initial weights are about 1 / √inputs, from 0.02 to 0.2."""
STEEP = 0.1
"""Share of the fall of the held-out −ELBO that came in the last fifth of training, above which it was still falling fast."""
CLEAR = 0.9
"""SSIM of reconstructions above which such a fall is of little use."""
SKIPPED = 0.05
"""Share of skipped steps."""
TOO_FAST = {"adam": 0.02, "adamw": 0.02, "adamax": 0.02, "muon": 0.15}
"""Learning rates at which no model trains."""
USUAL_RATE = {"adamw": 2e-3, "muon": 0.02}
"""Those that suit most."""


def short(case: Case) -> str | None:
    """Too few steps, or too short ones."""
    steps, seen, way = case.history.steps, case.history.images_seen, case.way
    if steps is None:
        return None
    if steps < FEWEST_STEPS:
        return counted(steps, "step is", "steps are") + " too few to learn anything"
    if seen is not None and seen < FEWEST_SEEN:
        return f"{counted(steps, 'step')} saw {counted(seen, 'image')}, too few to learn from"
    if way is not None and way < SHORTEST_WAY:
        return (f"at a learning rate of {case.learning_rate:g} no weight could move by more than {way:.1g} in {steps:,} "
                "steps, and weights start larger than that")
    return None


def below_average(case: Case) -> str | None:
    gain = case.gain
    if gain is None or gain[0] + gain[1] >= 0 or gain[0] > -LEAST_GAIN or shifted(case) or few_distinct(case):
        return None
    return f"reconstructions are {-gain[0]:.1f} dB worse than the average image would be"


def undertrained(case: Case) -> str | None:
    found = [short(case), below_average(case) if not too_fast(case) else None]
    if case.late is not None and case.late > STEEP and (case.value("ssim") or 0.0) < CLEAR:
        found.append(f"held-out images were still getting likelier fast: the last fifth of training brought {case.late:.0%} "
                     "of all that was gained")
    return "; ".join(f for f in found if f) or None


def too_fast(case: Case) -> bool:
    return case.learning_rate >= TOO_FAST.get(case.part("optimizer"), math.inf)


def broken(case: Case) -> str | None:
    """Training that its own steps made worse."""
    below = below_average(case) or collapsed(case)
    if not below or not (too_fast(case) or skips(case)):
        return None
    return f"{below}, and {skips(case) or f'the learning rate was {case.learning_rate:g}'}"


def skips(case: Case) -> str | None:
    steps, skipped, rollbacks = case.history.steps or 0, case.history.skipped, case.history.rollbacks
    if skipped < SKIPPED * max(steps, 1) and not rollbacks:
        return None
    were = "was" if skipped == 1 else "were"
    return f"{skipped} of {counted(steps, 'step')} {were} skipped, {counted(rollbacks, 'roll-back')}"


def overfitted(case: Case) -> str | None:
    curve = case.history.held_out
    if len(curve) < 4 or case.rate < 0.1:  # without a rate in the objective the −ELBO is not what training lowers
        return None
    best, fall = min(curve), curve[0] - min(curve)
    if curve[-1] - best <= max(0.1 * fall, 1.0):
        return None
    return (f"the −ELBO of held-out images was best, {best:.1f} nats, after {when_best(case):.0%} of training, and ended at "
            f"{curve[-1]:.1f}")


def when_best(case: Case) -> float:
    curve = case.history.held_out
    return list(curve).index(min(curve)) / (len(curve) - 1)


# Of the latents

LEAST_RATE = 0.1
"""The least information of the latents, nats."""
LEAST_GAIN = 0.5
"""A gain over the average image, dB, that counts even where its interval is wide because there are few images."""
NARROW, WIDE = 1 / 3, 3.0
"""Fixed standard deviations, as shares of the residual, beyond which the likelihood and the KL are out of proportion."""
FEWEST_CODES = 0.04
"""Perplexity of a codebook's use, as a share of what its use by these images could be."""
MISMATCH = 0.95
"""AUC at which codes are separated from draws of the prior."""


def collapsed(case: Case) -> str | None:
    """The decoder ignores the latent, or the latent holds nothing: by active units and nats, and by the interval of what
    reconstructions gain, since images that are mostly noise leave little to gain."""
    active, rate, gain = case.value("active_units"), case.value("kl"), case.gain
    found: list[str] = []
    if active is not None and active < 1 and case.figures["active_units"].n > 1:
        found.append(f"{active:.0f} of {case.figures['active_units'].total} units are active")
    if rate is not None and rate < LEAST_RATE:
        found.append(f"the latents carry {rate:.2f} nats")
    if gain is not None and gain[0] - gain[1] <= 0 and gain[0] < LEAST_GAIN:
        found.append(f"reconstructions gain {gain[0]:.2f} ± {gain[1]:.2f} dB over the average image")
    return "; ".join(found) or None


def mis_scaled(case: Case) -> str | None:
    deviation, residual = case.deviation, case.residual
    if deviation is None or residual is None or NARROW <= deviation / residual <= WIDE:
        return None
    ratio, how, effect = deviation / residual, "times", "much"
    if ratio < 1:
        ratio, how, effect = 1 / ratio, "times less than", "little"
    return (f"the recipe fixes the deviation of a pixel at {deviation:.2g}, {ratio:,.3g} {how} the {residual:.2g} by which "
            f"reconstructions are off (root mean square), so that the KL counts {ratio**2:,.3g} times too {effect}")


def few_codes(case: Case) -> str | None:
    found: list[str] = []
    for figure in case.figures.values():
        if figure.total is not None and find(figure.name) is PERPLEXITY:
            least = min(figure.detail or (figure.value,))
            if least < FEWEST_CODES * min(figure.total, figure.n):
                found.append(f"the codebook has a perplexity of {least:.1f}, of {figure.total} codes")
    return "; ".join(found) or None


def prior_differs(case: Case) -> str | None:
    auc = case.figures.get("fitted_prior_auc") or case.figures.get("prior_auc")
    if auc is None or auc.value < MISMATCH:
        return None
    which = "the fitted prior" if auc.name == "fitted_prior_auc" else "the prior"
    return f"a small classifier separates codes from draws of {which} with an AUC of {auc.value:.2f}"


# Of samples

REPEATED = 0.2
"""Share of samples that nearly repeat another one."""
UNCOVERED = 0.1
"""Share of real images with a sample near them below which something is missing; and of samples among real images."""


def imprecise(case: Case) -> bool:
    """Whether hardly any sample lies near real images, so that coverage says nothing about variety."""
    precision = case.value("precision")
    return precision is not None and precision <= UNCOVERED


def repeats(case: Case) -> str | None:
    duplicates = case.figures.get("duplicates")
    coverage, missing = (case.value(k) for k in ("coverage", "classes missing"))
    judge = case.value("accuracy of class_balance's classifier")
    found: list[str] = []
    if duplicates is not None:
        usual = 0.01 if duplicates.null is None else duplicates.null
        lowest = duplicates.interval[0] if duplicates.interval else duplicates.value
        if duplicates.value >= REPEATED and lowest > usual:
            found.append(f"{duplicates.value:.0%} of the samples nearly repeat another, as {usual:.0%} of real images do")
    if coverage is not None and coverage <= UNCOVERED and not imprecise(case):
        found.append(f"only {coverage:.0%} of the real images have a sample in their neighbourhood")
    if missing is not None and missing >= 1 and (judge is None or judge >= 0.8):
        found.append(counted(round(missing), "class does", "classes do") + " not occur among the samples")
    return "; ".join(found) or None


def samples_far(case: Case) -> str | None:
    coverage = case.value("coverage")
    if coverage is None or coverage > UNCOVERED or not imprecise(case):
        return None
    return (f"{case.value('precision') or 0:.0%} of the samples lie among real images, and {coverage:.0%} of these have a "
            "sample near them")


# Remarks

FEWEST_MEASURED = 60
"""Fewer images than this, and codes are not compared with the prior either."""
BLURRED = 0.7
"""SSIM of reconstructions."""
FINISHED = 0.01
"""Share of what the held-out −ELBO fell by in the last fifth of training, below which more of the same brings little."""


def few_measured(case: Case) -> str | None:
    n = max((figure.n for figure in case.figures.values()), default=0)
    return f"the figures are of {counted(n, 'image')}, so few that they are rough, and prior and codes may not be compared" \
        if n < FEWEST_MEASURED else None


def oversized(case: Case) -> str | None:
    active = case.figures.get("active_units")
    if active is None or active.total is None or active.value >= 0.5 * active.total or collapsed(case):
        return None
    return f"{active.value:.0f} of {active.total} latents are active"


def early(case: Case) -> str | None:
    ssim, steps = case.value("ssim"), case.history.steps
    if ssim is None or ssim >= BLURRED or steps is None:
        return None
    if (case.late is None or case.late <= FINISHED) and steps >= 1000:
        return None
    rising = ", and held-out images were still getting likelier" if case.late is not None and case.late > FINISHED else ""
    return f"reconstructions have an SSIM of {ssim:.2f} after {counted(steps, 'step')}{rising}"


def improving(case: Case) -> str | None:
    if case.late is None or case.late <= 0.03 or early(case):
        return None
    return f"the last fifth of training brought {case.late:.0%} of all that the −ELBO of held-out images fell by"
