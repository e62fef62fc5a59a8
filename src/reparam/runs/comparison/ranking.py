"""Which figures are better high, low or near a value, and who is best at each, as far as intervals tell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ...functional.intervals import student
from ...metrics.figures import Figure

GROUPS = ("Samples", "Reconstructions", "Likelihood", "Codes", "Factors", "Training", "Other")
"""Headings of figures, in the order of the page."""
Better = Literal["low", "high", "near"]


@dataclass(frozen=True)
class About:
    """What is known of a figure before it is measured."""

    group: str
    says: str
    """What it measures, in words that a sentence can use."""
    better: Better | None = None
    """None where neither way is better: a figure for scale, a cost, one side of a trade."""
    near: float | str = 0.0
    """The value to be near to, or the figure of the same evaluation that gives it."""
    least: float = -math.inf
    most: float = math.inf
    """Values that it can take."""
    lead: bool = True
    """Whether it counts in the summary; False for figures that say the same as another one."""


def _share(says: str, better: Better = "high", near: float | str = 0.0) -> About:
    return About("Samples", says, better, near, 0.0, 1.0)


def _error(group: str, says: str, *, lead: bool = True) -> About:
    return About(group, says, "low", least=0.0, lead=lead)


def _score(says: str) -> About:
    return About("Factors", says, "high", least=0.0, most=1.0)


_DISTANCE = {
    "": _error("Samples", "distance of samples to real images"),
    "_inf": About("Samples", "the same distance, extrapolated to endlessly many images", "low", lead=False)}

KNOWN: dict[str, About] = {
    "fd": _DISTANCE[""], "FID": _DISTANCE[""], "fd_inf": _DISTANCE["_inf"], "FID_inf": _DISTANCE["_inf"],
    **{name: About("Samples", "kernel distance of samples to real images", "low", lead=False) for name in ("kd", "KID")},
    "precision": _share("samples that lie among real images"),
    "recall": _share("real images that samples reach"),
    "density": About("Samples", "how closely samples lie among real images, 1 as these do themselves", "near", 1.0, 0.0),
    "coverage": _share("real images with a sample near by"),
    "vendi": About("Samples", "variety of samples, beside that of real images", "near", "vendi of real images", 1.0),
    "vendi of real images": About("Samples", "variety of as many real images, for scale"),
    "vendi of smoothed real images": About("Samples", "variety of as many real images with as little detail, for scale"),
    "class_balance": _share("how far the classes of samples are from real images' balance", "low"),
    "classes missing": _error("Samples", "classes that samples leave out"),
    "accuracy of class_balance's classifier": About("Samples", "how far to trust the two above"),
    "authenticity": _share("samples that are no copies of training images", "near", "authenticity of real images"),
    "authenticity of real images": About("Samples", "what fresh images reach, for scale"),
    "memorisation": _share("samples nearer to training images than to held-out ones, 0.5 as fresh images", "near", 0.5),
    "copying AUC": _share("how much nearer samples lie to training images than held-out ones do, 0.5 is fair", "near", 0.5),
    "duplicates": _share("samples that repeat one another", "low"),
    "sharpness": About("Samples", "fine detail of samples against real images'", "near", 0.0),
    **{f"{name} of prior samples": About("Samples", "distance of samples from the model's own prior alone", lead=False)
       for name in ("fd", "FID")},
    **{f"{name} of fitted-prior samples": About("Samples", "distance of samples from the fitted prior alone", lead=False)
       for name in ("fd", "FID")},
    **{f"{name} of reconstructions": _error("Reconstructions", "distance of reconstructions to real images", lead=False)
       for name in ("fd", "FID")},
    "psnr": About("Reconstructions", "faithfulness of reconstructions, pixel by pixel", "high"),
    "psnr of posterior means": About("Reconstructions", "faithfulness of what is made of the posterior's mean", "high",
                                     lead=False),
    "psnr of the average image": About("Reconstructions", "the average image in place of each, for scale"),
    "ssim": About("Reconstructions", "structural similarity of reconstructions", "high", least=-1.0, most=1.0),
    "perceptual": _error("Reconstructions", "distance of reconstructions between feature maps"),
    "-elbo": About("Likelihood", "a bound on the bits that an image costs", "low"),
    "-elbo bits/dim": About("Likelihood", "the same for each pixel value", "low", lead=False),
    "iw_nll": About("Likelihood", "a tighter bound", "low", lead=False),
    "iw_nll bits/dim": About("Likelihood", "the same for each pixel value", "low", lead=False),
    "nll": About("Likelihood", "the bound's part for pixels"),
    "kl": About("Likelihood", "the bound's part for codes"),
    "active_units": About("Codes", "latents in use"),
    "information": About("Codes", "information in the codes"),
    "effective dimensions": About("Codes", "dimensions that codes vary in independently"),
    "noise share": About("Codes", "noise in the codes, 1 collapsed"),
    "non-Gaussianity": About("Codes", "what a Gaussian misses of each latent", "low"),
    "equivariance error": About("Codes", "how far decoding turned codes is from turning the pictures", "low"),
    "prior_auc": About("Codes", "how well codes are told from the model's own prior, 0.5 not at all", "low", least=0.5,
                       most=1.0),
    "fitted_prior_auc": About("Codes", "how well codes are told from the fitted prior, 0.5 not at all", "low", least=0.5,
                              most=1.0),
    "mutual_information": About("Codes", "information of a code about which image it is of"),
    "kl of all codes together": About("Codes", "distance of all codes together from the prior"),
    "accuracy": About("Codes", "images whose class is inferred rightly", "high", least=0.0, most=1.0),
    "codebook_usage": About("Codes", "codes in use"),
    "codebook_perplexity": About("Codes", "codes in use, by their frequencies"),
    "mig": _score("one latent for each factor, by information"),
    "sap": _score("one latent for each factor, by prediction"),
    "dci disentanglement": _score("latents that tell of one factor only"),
    "dci completeness": _score("factors told by one latent only"),
    "dci informativeness": _score("factors told from the codes"),
    "factor_vae_score": _score("factors told by the latent that varies least"),
    "training wall time": About("Training", "wall time of training"),
    "training CPU time": About("Training", "processor time of training"),
    "images seen": About("Training", "images trained on, each as often as it was"),
    "steps skipped": About("Training", "steps that the guard skipped"),
    "rollbacks": About("Training", "times that training was taken back"),
    "seeds that failed": About("Training", "seeds whose training diverged"),
}
"""Figures by name, without their arguments."""
UNKNOWN = About("Other", "")


def about(name: str) -> About:
    """What is known of a figure: 'iw_nll(100)' is an 'iw_nll'; a figure that is not in the table has no direction."""
    plain = re.sub(r"\([^)]*\)", "", name).strip()
    return KNOWN.get(plain) or KNOWN.get(re.sub(r" of layer \d+$", "", plain), UNKNOWN)


def aimed(known: About, values: Mapping[str, float]) -> About:
    """With the number that a target has among an evaluation's values; without a direction when it was not measured."""
    if known.better != "near" or not isinstance(known.near, str):
        return known
    return replace(known, near=values[known.near]) if known.near in values else replace(known, better=None)


@dataclass(frozen=True)
class Cell:
    """A figure of one model: of its run, or the mean over its runs."""

    value: float
    interval: tuple[float, float] | None
    figures: tuple[Figure, ...]
    """Of each run."""

    def to_dict(self) -> dict[str, Any]:
        first = self.figures[0].to_dict()
        kept = {k: first[k] for k in ("unit", "n", "features", "resize", "warning", "note") if k in first}
        made: dict[str, Any] = {"value": self.value} | ({"interval": list(self.interval)} if self.interval else {})
        return made | kept | {"seeds": len(self.figures), "each": [f.value for f in self.figures]}


def pooled(figures: Sequence[Figure]) -> Cell:
    """One cell of the same figure of several runs: the mean, and a 95 % interval.

    Of one run the interval is its own, over images. Of k runs it is Student's over runs, ± t(0.975, k − 1) s / √k, and never
    narrower than a run's own on average: what all runs share, the images, does not vary between them.
    """
    values = [f.value for f in figures]
    if len(values) == 1:
        return Cell(values[0], figures[0].interval, tuple(figures))
    k, mean = len(values), math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (k - 1))
    between = student(k - 1) * spread / math.sqrt(k)
    own = [(f.interval[1] - f.interval[0]) / 2 for f in figures if f.interval]
    half = max(between, sum(own) / len(own) if own else 0.0)
    known = about(figures[0].name)
    return Cell(mean, (max(mean - half, known.least), min(mean + half, known.most)), tuple(figures))


@dataclass(frozen=True)
class Standing:
    """Who is best at a figure."""

    best: tuple[str, ...] = ()
    """The model with the best value first, then those whose intervals overlap its own."""
    behind: tuple[str, ...] = ()
    """Whose intervals do not, best first."""
    why_not: str = ""
    """Why models are not ranked by this figure."""

    def tag(self, name: str) -> str:
        """'best', 'level' with the best, 'behind', or '' of a model that is not ranked."""
        if name in self.behind:
            return "behind"
        if name not in self.best:
            return ""
        return "best" if self.alone == name else "level"

    @property
    def alone(self) -> str | None:
        """The one model that is better than all others."""
        return self.best[0] if len(self.best) == 1 and self.behind else None

    @property
    def words(self) -> str:
        if self.why_not:
            return self.why_not
        if self.alone:
            return f"{self.alone} is best"
        names = listed(self.best)
        return f"level: {names}" if not self.behind else f"{names} level at the best"


def rank(known: About, cells: Mapping[str, Cell], *, why_not: str = "") -> Standing:
    """Ranks models by one figure, whose target, if it has one, is a number; `why_not` says why they cannot be ranked.

    The models whose intervals overlap the best one's are level with it. Where a value is to be near a target, values and
    intervals are those of the distance to it.
    """
    if known.better is None or why_not:
        return Standing(why_not=why_not or "not ranked")
    if len(cells) < 2:
        return Standing(why_not=f"of {next(iter(cells))} only" if cells else "not measured")
    bare = [model for model, cell in cells.items() if cell.interval is None]
    if bare:
        return Standing(why_not="no interval, not ranked")
    order = sorted(cells, key=lambda model: cost(known, cells[model])[0])
    _, _, worst_of_best = cost(known, cells[order[0]])
    level = [model for model in order if cost(known, cells[model])[1] <= worst_of_best]
    return Standing(tuple(level), tuple(model for model in order if model not in level))


def cost(known: About, cell: Cell) -> tuple[float, float, float]:
    """A cell and the ends of its interval as numbers that are better low: (value, least, most)."""
    low, high = cell.interval or (cell.value, cell.value)
    if known.better == "low":
        return cell.value, low, high
    if known.better == "high":
        return -cell.value, -high, -low
    target = float(known.near)
    ends = abs(low - target), abs(high - target)
    return abs(cell.value - target), 0.0 if low <= target <= high else min(ends), max(ends)


def listed(names: Sequence[str], last: str = "and") -> str:
    """'a, b and c'."""
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else "".join(names)
