"""What training took."""

from __future__ import annotations

from ..parts.registry import metric
from .evaluation import Evaluation, Unavailable
from .figures import Figure

UNITS = {
    "training_seconds": ("training wall time", "s"),
    "cpu_seconds": ("training CPU time", "s, summed over cores"),
    "images_seen": ("images seen", "images, counted as often as they were trained on"),
    "skipped_steps": ("steps skipped", "steps"),
    "rollbacks": ("rollbacks", "rollbacks"),
    "failed_seeds": ("seeds that failed", "seeds"),
}
"""What a run's facts hold, and how it is called."""


@metric("training")
def training(evaluation: Evaluation) -> list[Figure]:
    """Seconds of wall and CPU time, images seen, steps skipped, rollbacks and seeds that failed, as the run wrote them."""
    facts = evaluation.facts or {}
    figures = [Figure(name, float(facts[key]), unit, int(facts.get("seeds", 1)), note="n counts runs")
               for key, (name, unit) in UNITS.items() if facts.get(key) is not None]
    if not figures:
        raise Unavailable("training is told by the run that made a model, and here is none")
    return figures
