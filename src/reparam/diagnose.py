"""A plain verdict on a trained model: healthy, or which illness, by what evidence, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .metrics.figures import Figure


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing."""

    title: str
    evidence: str
    advice: str


@dataclass(frozen=True)
class Verdict:
    """The illnesses found, most serious first, and remarks that do not make a model ill."""

    illnesses: tuple[Finding, ...]
    remarks: tuple[Finding, ...]

    @property
    def title(self) -> str:
        return self.illnesses[0].title if self.illnesses else "healthy"

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": self.title, "illnesses": [vars(f) for f in self.illnesses],
                "remarks": [vars(f) for f in self.remarks]}


@dataclass(frozen=True)
class History:
    """What training left behind."""

    steps: int = 0
    skipped: int = 0
    rollbacks: int = 0
    held_out: Sequence[float] = ()
    """−ELBO of held-out images over training, nats."""


Check = Callable[[dict[str, Figure], History], Finding | None]


def collapsed(figures: dict[str, Figure], history: History) -> Finding | None:
    """The decoder ignores the latent: reconstructions are no better than the average image."""
    if not {"active_units", "kl", "psnr", "psnr of the average image"} <= figures.keys():
        return None
    active, rate = figures["active_units"], figures["kl"].value
    gain = figures["psnr"].value - figures["psnr of the average image"].value
    if active.value >= 1 and rate >= 0.5 and gain >= 0.5:
        return None
    return Finding(
        f"collapsed: {active.value:.0f} {active.unit.replace('latents', 'units')} active",
        f"the latents carry {rate:.2f} nats, and reconstructions gain {gain:.1f} dB over the average image",
        "use the likelihood gaussian(sigma='optimal'), which weighs pixels against the KL by itself; or warm the KL up, "
        "--objective \"nll + linear(0, 1, 0.3)*kl\"; or keep it alive, --objective \"nll + free_bits(0.1)\"")


def mode_collapse(figures: dict[str, Figure], history: History) -> Finding | None:
    """Samples repeat one another, or leave out most of what the images show."""
    duplicates, coverage, missing = (figures.get(k) for k in ("duplicates", "coverage", "classes missing"))
    judge = figures.get("accuracy of class_balance's classifier")
    evidence: list[str] = []
    if duplicates is not None and duplicates.value >= 0.2:
        evidence.append(f"{duplicates.value:.0%} of the samples nearly repeat another one, where real images do in 1 %")
    if coverage is not None and coverage.value <= UNCOVERED and not _astray(figures):
        evidence.append(f"only {coverage.value:.0%} of the real images have a sample in their neighbourhood")
    if missing is not None and missing.value >= 1 and (judge is None or judge.value >= 0.8):
        evidence.append(f"{missing.value:.0f} classes do not occur among the samples")
    if not evidence:
        return None
    return Finding(
        "mode collapse", "; ".join(evidence),
        "train longer; hold the critic flat, --penalty \"r1 + r2\" --game relativistic, or show it changed images, "
        "--critic-augment \"translate + cutout\"; or take a hybrid, --preset vae_gan, which has to rebuild every image")


UNCOVERED = 0.1
"""Share of real images with a sample near them below which something is missing; and of samples among real images."""


def _astray(figures: dict[str, Figure]) -> bool:
    """Whether samples are hardly ever where images are, so that what they miss says nothing of their variety."""
    return "precision" in figures and figures["precision"].value <= UNCOVERED


def far_samples(figures: dict[str, Figure], history: History) -> Finding | None:
    """Samples do not look like the images."""
    coverage = figures.get("coverage")
    if coverage is None or coverage.value > UNCOVERED or not _astray(figures):
        return None
    among = figures["precision"].value
    return Finding("samples far from the images", f"{among:.0%} of the samples lie among real images, and "
                   f"{coverage.value:.0%} of these have a sample near them", "train longer, or take a larger network")


def prior_mismatch(figures: dict[str, Figure], history: History) -> Finding | None:
    """Samples start from where no image's code lies."""
    auc = figures.get("fitted_prior_auc") or figures.get("prior_auc")
    if auc is None or auc.value < 0.9:
        return None
    return Finding(
        "prior mismatch", f"a small classifier tells codes from draws of the prior with an AUC of {auc.value:.2f}",
        "fit a richer prior to its codes, reparam fit-prior RUN --prior flow_matching --minutes 10; or learn the prior with "
        "the model, --prior flow; or use fewer latents")


def overfitted(figures: dict[str, Figure], history: History) -> Finding | None:
    """Held-out images got less likely while training went on."""
    curve = history.held_out
    if len(curve) < 4:
        return None
    best, fall = min(curve), curve[0] - min(curve)
    if curve[-1] - best <= max(0.1 * fall, 1.0):
        return None
    when = curve.index(best) / (len(curve) - 1)
    first = f"train {when:.1f} times as long" if when >= 0.05 else "lower the learning rate"
    return Finding(
        "overfitted", f"the −ELBO of held-out images was best, {best:.1f} nats, after {when:.0%} of training, and ended "
        f"at {curve[-1]:.1f}",
        f"{first}, add --augment \"flip + crop(2)\" where mirrored images make sense, use a "
        "smaller network, or more images")


def unstable(figures: dict[str, Figure], history: History) -> Finding | None:
    """Many steps had to be left out."""
    share = history.skipped / max(history.steps, 1)
    if share < 0.05 and not history.rollbacks:
        return None
    return Finding("unstable", f"{history.skipped} of {history.steps} steps were left out, {history.rollbacks} "
                   "roll-backs", "lower the learning rate, --optimizer \"adamw(lr=5e-4)\"")


def oversized(figures: dict[str, Figure], history: History) -> Finding | None:
    """Many latents stay unused, which costs nothing but says what would do."""
    active = figures.get("active_units")
    if active is None:
        return None
    total = int(active.unit.split()[1])
    if active.value >= 0.5 * total or collapsed(figures, history):
        return None
    return Finding("more latents than needed", f"{active.value:.0f} {active.unit} are active",
                   f"nothing is lost; flat({max(int(active.value * 1.25), 2)}) would do as well")


def unfinished(figures: dict[str, Figure], history: History) -> Finding | None:
    """Held-out images were still getting likelier quickly when training ended."""
    curve = history.held_out
    if len(curve) < 6:
        return None
    fall, late = curve[0] - min(curve), curve[-1 - len(curve) // 5] - curve[-1]
    if late <= 0.03 * fall:
        return None
    return Finding("still improving", f"the last fifth of training brought {late:.1f} of {fall:.1f} nats",
                   "train longer: --minutes, --epochs or --steps")


ILLNESSES: tuple[Check, ...] = (collapsed, mode_collapse, far_samples, prior_mismatch, overfitted, unstable)
REMARKS: tuple[Check, ...] = (oversized, unfinished)


def diagnose(figures: Sequence[Figure], history: History) -> Verdict:
    """Judges a model by its figures and its training."""
    named = {f.name: f for f in figures}
    found = [tuple(f for f in (check(named, history) for check in checks) if f) for checks in (ILLNESSES, REMARKS)]
    return Verdict(*found)


def illnesses_of(figures: Sequence[Figure]) -> tuple[Finding, ...]:
    """What figures alone tell, of a model whose training is not known."""
    return diagnose(figures, History()).illnesses
