"""Classes from codes: a small classifier (a probe), chosen by cross-validation, whose probabilities are calibrated."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
FOLDS = 5
MOST_SEARCHED = 4_000
"""Labelled codes that candidates are compared on; the chosen one learns from all."""
FEWEST = 2
"""Labelled images of each class."""


@dataclass(frozen=True)
class Probe:
    """A classifier of codes (n, d): `linear` (softmax regression), `neighbours` (k nearest) or `mlp` (one hidden layer).

    It holds arrays only, so that it can be stored without pickling.
    """

    kind: str
    arrays: Mapping[str, Array]
    """`present` classes; `mean` and `scale` of codes; `temperature` of the logits; and what the kind has learned."""
    cross_validated: Mapping[str, float]
    """Log loss of every candidate, nats, by cross-validation."""

    @property
    def classes(self) -> Integers:
        """The classes that had labelled images, ascending; columns of `probabilities`."""
        return self.arrays["present"].astype(np.int64)

    def probabilities(self, codes: npt.ArrayLike) -> Array:
        """(n, classes), calibrated; rows add up to 1."""
        x = (np.asarray(codes, np.float64) - self.arrays["mean"]) * self.arrays["scale"]
        return softmax(_LOGITS[self.kind](x, self.arrays) / float(self.arrays["temperature"]))

    def predict(self, codes: npt.ArrayLike) -> Integers:
        """(n,) the likeliest class of each code."""
        return self.classes[self.probabilities(codes).argmax(1)]


def fit_probe(codes: npt.ArrayLike, labels: npt.ArrayLike, *, kinds: tuple[str, ...] = ("linear", "neighbours", "mlp"),
              seed: int = 0) -> Probe:
    """Learns labels (n,), whole numbers, from codes (n, d).

    Candidates are softmax regressions, nearest neighbours and small networks of several strengths; the least log loss by
    cross-validation wins, and the same held-out predictions set one temperature for its probabilities (Guo et al., 2017,
    arXiv:1706.04599).

    Raises:
        UsageError: fewer than two classes, or a class with a single image.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x = np.asarray(codes, np.float64)
    present, y = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    counts = np.bincount(y)
    if len(present) < 2:
        raise UsageError(f"a classifier takes labelled images of at least two classes, and there is {len(present)}")
    if counts.min() < FEWEST:
        raise UsageError(f"the class {present[counts.argmin()]} has {counts.min()} labelled image; {FEWEST} are needed of "
                         "each, one to learn from and one to test with")
    mean, scale = x.mean(0), 1 / np.maximum(x.std(0), 1e-8)
    z, some = (x - mean) * scale, _searched(y, seed)
    folds = StratifiedKFold(int(min(FOLDS, np.bincount(y[some]).min())), shuffle=True, random_state=seed)
    candidates = _candidates(len(x), kinds, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a candidate that has not converged is judged as it is
        held_out = {name: np.asarray(cross_val_predict(model, z[some], y[some], cv=folds, method="predict_proba"))
                    for name, model in candidates.items()}
        loss = {name: log_loss(p, y[some]) for name, p in held_out.items()}
        best = min(loss, key=lambda name: loss[name])
        fitted = candidates[best].fit(z, y)
    kind = best.split("(")[0]
    temperature = best_temperature(np.log(np.maximum(held_out[best], TINY)), y[some])
    return Probe(kind, {"present": present, "mean": mean, "scale": scale, "temperature": np.array(temperature),
                        **_ARRAYS[kind](fitted, z, y)}, loss)


TINY = 1e-6
"""Least probability that a candidate is taken to have given."""


def _searched(y: Integers, seed: int) -> Integers:
    """Rows to compare candidates on: two of each class at least."""
    shuffled = np.random.default_rng(seed).permutation(len(y))
    some = shuffled[:MOST_SEARCHED]
    rare = [shuffled[y[shuffled] == k][:FEWEST] for k in np.unique(y)]
    return np.unique(np.concatenate([some, *rare]))


def _candidates(n: int, kinds: tuple[str, ...], seed: int) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier

    found: dict[str, Any] = {}
    if "linear" in kinds:
        found |= {f"linear(C={c:g})": LogisticRegression(C=c, max_iter=200) for c in (0.001, 0.01, 0.1, 1.0)}
    if "neighbours" in kinds:
        found |= {f"neighbours({k})": KNeighborsClassifier(k) for k in (1, 5, 15) if k < n // 4}
    if "mlp" in kinds and n >= 200:
        found |= {f"mlp(alpha={a:g})": MLPClassifier((128,), alpha=a, early_stopping=n >= 1000, max_iter=100,
                                                    random_state=seed) for a in (0.1, 1.0)}
    return found


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_loss(probabilities: Array, y: Integers) -> float:
    """Mean −log probability of the true class, nats, of (n, k) and (n,)."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(y)), y], TINY)).mean())


def best_temperature(logits: Array, y: Integers) -> float:
    """The T > 0 at which softmax(logits / T) has the least log loss: calibration by one number."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda log_t: log_loss(softmax(logits / np.exp(log_t)), y), bounds=(-3, 3), method="bounded")
    return float(np.exp(found.x))


def _linear(x: Array, a: Mapping[str, Array]) -> Array:
    return x @ a["weight"].T + a["bias"]


def _linear_arrays(fitted: Any, z: Array, y: Integers) -> dict[str, Array]:
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # two classes have one row of log odds
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return {"weight": weight, "bias": bias}


def _neighbours(x: Array, a: Mapping[str, Array]) -> Array:
    from .search import Index

    k, y = int(a["k"]), a["labels"].astype(np.int64)
    votes = y[Index.of(a["codes"]).search(x, k).rows]
    share = (votes[:, :, None] == np.arange(len(a["present"]))).mean(1)
    return np.log(np.maximum(share, TINY))


def _neighbours_arrays(fitted: Any, z: Array, y: Integers) -> dict[str, Array]:
    return {"codes": z, "labels": y, "k": np.array(fitted.n_neighbors)}


def _mlp(x: Array, a: Mapping[str, Array]) -> Array:
    hidden = np.maximum(x @ a["weight_1"] + a["bias_1"], 0)
    out = hidden @ a["weight_2"] + a["bias_2"]
    return np.concatenate([-out, out], 1) / 2 if out.shape[1] == 1 else out


def _mlp_arrays(fitted: Any, z: Array, y: Integers) -> dict[str, Array]:
    (w1, w2), (b1, b2) = fitted.coefs_, fitted.intercepts_
    return {"weight_1": w1, "bias_1": b1, "weight_2": w2, "bias_2": b2}


_LOGITS: dict[str, Callable[[Array, Mapping[str, Array]], Array]] = {
    "linear": _linear, "neighbours": _neighbours, "mlp": _mlp}
_ARRAYS: dict[str, Callable[[Any, Array, Integers], dict[str, Array]]] = {
    "linear": _linear_arrays, "neighbours": _neighbours_arrays, "mlp": _mlp_arrays}
