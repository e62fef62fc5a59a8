"""What training took."""

from __future__ import annotations

from ..parts.registry import metric
from .catalogue import FigureType, measures
from .evaluation import Evaluation, Unavailable
from .figures import Figure

CHOSEN = "a budget that the user chose"
FAILED_SEEDS = FigureType("seeds that failed", "Training", "seeds", "seeds whose training diverged", "lower", least=0.0,
                          null=0.0, absent="it is one seed")
TYPES = {
    "training_seconds": FigureType("training wall time", "Training", "s", "wall time of training", why_neither=CHOSEN),
    "cpu_seconds": FigureType("training CPU time", "Training", "s, summed over cores", "processor time of training",
                              why_neither=CHOSEN),
    "images_seen": FigureType("images seen", "Training", "images, counted as often as they were trained on",
                              "images trained on, each as often as it was", why_neither=CHOSEN),
    "skipped_steps": FigureType("steps skipped", "Training", "steps", "steps that were skipped for their gradients", "lower",
                                least=0.0, null=0.0),
    "rollbacks": FigureType("rollbacks", "Training", "rollbacks", "returns to an earlier state of training", "lower",
                            least=0.0, null=0.0),
    "failed_seeds": FAILED_SEEDS,
}
"""Keys of a run's outcome, and the figures made of them."""


@metric("training")
@measures(*TYPES.values())
def training(evaluation: Evaluation) -> list[Figure]:
    """Seconds of wall and CPU time, images seen, steps skipped, rollbacks and seeds that failed, as the run wrote them."""
    facts = evaluation.facts or {}
    figures = [kind.of(float(facts[key]), int(facts.get("seeds", 1)), note="n counts runs")
               for key, kind in TYPES.items() if facts.get(key) is not None]
    if not figures:
        raise Unavailable("these figures are recorded by the run that trained a model, and this model has none")
    return figures
