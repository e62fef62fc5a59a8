"""The diagnosis of a trained model: healthy, or what is wrong, by what evidence, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..metrics.figures import Figure
from ..parts.recipe import Recipe
from .case import Case, History
from .checks import Check
from .findings import IN_TRAINING, PROBLEMS, REMARKS


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing."""

    title: str
    evidence: str
    advice: str


@dataclass(frozen=True)
class Diagnosis:
    """The problems found, most serious first, and remarks, which are no problems."""

    problems: tuple[Finding, ...]
    remarks: tuple[Finding, ...]

    @property
    def title(self) -> str:
        return self.problems[0].title if self.problems else "healthy"

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": self.title, "problems": [vars(f) for f in self.problems],
                "remarks": [vars(f) for f in self.remarks]}


def diagnose(figures: Sequence[Figure], history: History, recipe: Recipe) -> Diagnosis:
    """Judges a model by its figures, its training and its recipe, which no advice repeats."""
    case = Case({f.name: f for f in figures}, history, recipe)
    found = [check for check in PROBLEMS if check.evidence(case)]
    cause = next((check for check in found if check.alone), None)
    if cause is not None:
        return Diagnosis((_finding(cause, case),), ())
    once = {check.title: check for check in reversed(found)}
    return Diagnosis(tuple(_finding(check, case) for check in found if once[check.title] is check),
                   tuple(_finding(check, case) for check in REMARKS if check.evidence(case)))


def problems_of(figures: Sequence[Figure], recipe: Recipe) -> tuple[Finding, ...]:
    """What figures alone tell, of a model whose training is not known."""
    return diagnose(figures, History(), recipe).problems if figures else ()


def while_training(history: History, recipe: Recipe) -> tuple[Finding, ...]:
    """Problems that the record tells before there are figures."""
    case = Case({}, history, recipe)
    return tuple(_finding(check, case) for check in IN_TRAINING if check.evidence(case))


def _finding(check: Check, case: Case) -> Finding:
    advice = [each.of(case) for each in check.advice if each.suits(case)]
    return Finding(check.title, check.evidence(case) or "", "; or ".join(advice[:MOST_ADVICE]))


MOST_ADVICE = 3
"""Of a finding, the best first."""
