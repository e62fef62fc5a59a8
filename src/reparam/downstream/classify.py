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
KINDS = ("linear", "discriminant", "kernel", "neighbours", "mlp")
FOLDS = 5
MOST_SEARCHED = 2_000
"""Labelled codes that candidates are compared on; the chosen one learns from all."""
MANY = 1_000
"""Labelled codes from which three folds do."""
LANDMARKS = 500
"""Codes that a kernel is approximated from."""
WIDEST = 1_024
"""Numbers of a code for which discriminants and networks are tried, which take long for more."""
CHUNK = 4_096
"""Codes that are classified at a time."""
TINY = 1e-6
"""Least probability that a candidate is taken to have given."""


@dataclass(frozen=True)
class Probe:
    """A classifier of codes (n, d): softmax regression (`linear`), Gaussian classes of one covariance (`discriminant`),
    softmax regression on radial functions (`kernel`), k nearest (`neighbours`), or one hidden layer (`mlp`).

    It holds arrays only, so that it can be stored without pickling.
    """

    kind: str
    arrays: Mapping[str, Array]
    """`present` classes; `mean` and `scale` of codes; `temperature` of the logits; and what the kind has learned."""
    cross_validated: Mapping[str, float]
    """Log loss of every candidate, nats, by cross-validation; empty where no class had two images."""

    @property
    def classes(self) -> Integers:
        """The classes that had labelled images, ascending; columns of `probabilities`."""
        return self.arrays["present"].astype(np.int64)

    def probabilities(self, codes: npt.ArrayLike) -> Array:
        """(n, classes), calibrated; rows add up to 1."""
        x, temperature = np.asarray(codes, np.float64), float(self.arrays["temperature"])
        z = [(x[i : i + CHUNK] - self.arrays["mean"]) * self.arrays["scale"] for i in range(0, max(len(x), 1), CHUNK)]
        return np.concatenate([softmax(_LOGITS[self.kind](chunk, self.arrays) / temperature) for chunk in z])

    def predict(self, codes: npt.ArrayLike) -> Integers:
        """(n,) the likeliest class of each code."""
        return self.classes[self.probabilities(codes).argmax(1)]


@dataclass(frozen=True)
class _Candidate:
    kind: str
    scaling: str
    model: Any


def fit_probe(codes: npt.ArrayLike, labels: npt.ArrayLike, *, kinds: tuple[str, ...] = KINDS, seed: int = 0) -> Probe:
    """Learns labels (n,), whole numbers, from codes (n, d); −1 is no label: such a code only helps to tell how codes spread.

    Candidates are classifiers of several kinds and strengths, on codes of which either each number is brought to a variance
    of 1, or all together, so that numbers that hardly vary hardly count. The least log loss by cross-validation wins, each
    candidate at its best temperature; the winner keeps that temperature (Guo et al., 2017, arXiv:1706.04599). With one
    image of each class nothing can be held out, and softmax regression is taken as it comes.

    Raises:
        UsageError: fewer than two classes, or codes that none of the kinds fits.
    """
    x, given = np.asarray(codes, np.float64), np.asarray(labels, np.int64)
    present, y = np.unique(given[given >= 0], return_inverse=True)
    if len(present) < 2:
        raise UsageError(f"a classifier takes labelled images of at least two classes, and there is {len(present)}")
    mean, scales = x.mean(0), _scales(x)
    some = _searched(y, seed)
    inputs = {name: (x[given >= 0] - mean) * scale for name, scale in scales.items()}
    candidates, best, temperature = _candidates(inputs, y, kinds, seed), "", 1.0
    if not candidates:
        raise UsageError(f"{len(y):,} labelled codes of {x.shape[1]:,} numbers are too few, or too long, for a classifier "
                         f"of the kind {' or '.join(kinds)}: take linear")
    loss: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a candidate that has not converged is judged as it is
        if np.bincount(y).max() > 1:
            tried = {name: _tried(each, inputs[each.scaling][some], y[some], seed) for name, each in candidates.items()}
            loss = {name: each[0] for name, each in tried.items()}
            best = min(loss, key=lambda name: loss[name])
            temperature = tried[best][1]
        chosen = candidates[best or next(iter(candidates))]
        z = inputs[chosen.scaling]
        fitted = chosen.model.fit(z, y)
    return Probe(chosen.kind, {"present": present, "mean": mean, "scale": scales[chosen.scaling],
                               "temperature": np.array(temperature), **_ARRAYS[chosen.kind](fitted, z, y)}, loss)


def _scales(x: Array) -> dict[str, Array]:
    """What codes are multiplied with."""
    variance = x.var(0)
    typical = max(float(variance.mean()), 1e-16)
    return {"together": np.full(x.shape[1], typical**-0.5), "each": np.maximum(variance, 1e-6 * typical) ** -0.5}


def _searched(y: Integers, seed: int) -> Integers:
    """Rows to compare candidates on: two of each class at least, where there are two."""
    shuffled = np.random.default_rng(seed).permutation(len(y))
    some = shuffled[:MOST_SEARCHED]
    rare = [shuffled[y[shuffled] == k][:2] for k in np.unique(y)]
    return np.unique(np.concatenate([some, *rare]))


def _tried(candidate: _Candidate, z: Array, y: Integers, seed: int) -> tuple[float, float]:
    """Log loss of held-out predictions at their best temperature, and that temperature. A class of one image is learned
    from, but not tested with."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    counts = np.bincount(y)
    folds = StratifiedKFold(int(min(3 if len(y) > MANY else FOLDS, counts.max())), shuffle=True, random_state=seed)
    x = z if candidate.kind in ("discriminant", "mlp") else _rotated(z)
    p = np.asarray(cross_val_predict(candidate.model, x, y, cv=folds, method="predict_proba"))
    tested = counts[y] > 1
    logits = np.log(np.maximum(p[tested], TINY))
    temperature = best_temperature(logits, y[tested])
    return log_loss(softmax(logits / temperature), y[tested]), temperature


def _rotated(z: Array) -> Array:
    """The same products and distances, in no more numbers than there are rows."""
    if z.shape[1] <= len(z):
        return z
    values, vectors = np.linalg.eigh(z @ z.T)
    return vectors * np.sqrt(np.maximum(values, 0))


def _candidates(inputs: Mapping[str, Array], y: Integers, kinds: tuple[str, ...], seed: int) -> dict[str, _Candidate]:
    """By name, such as "linear(C=0.1, each)"; the first one is taken where they cannot be compared."""
    found: dict[str, _Candidate] = {}
    for scaling, z in inputs.items():
        for kind in kinds:
            found |= {f"{kind}({said}, {scaling})": _Candidate(kind, scaling, model)
                      for said, model in _MODELS[kind](z, y, seed).items()
                      if kind != "mlp" or scaling == "each"}  # which is the slowest
    return found


def _linear_models(z: Array, y: Integers, seed: int) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    return {f"C={c:g}": LogisticRegression(C=c, max_iter=200) for c in (0.1, 0.001, 0.01, 1.0)}


def _discriminants(z: Array, y: Integers, seed: int) -> dict[str, Any]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    fits = np.bincount(y).min() > 2 and z.shape[1] <= WIDEST
    return {"shrunk": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")} if fits else {}


def _kernels(z: Array, y: Integers, seed: int) -> dict[str, Any]:
    """exp(−|a − b|² / (2 w² median)), by the Nyström approximation. (Williams & Seeger, 2001)"""
    from scipy.spatial.distance import pdist
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    few = np.random.default_rng(seed).permutation(len(z))[:LANDMARKS]
    median = max(float(np.median(pdist(z[few], "sqeuclidean"))), 1e-12)
    return {f"w={w:g}, C={c:g}": make_pipeline(
        Nystroem(gamma=0.5 / (w**2 * median), n_components=min(LANDMARKS, len(z)), random_state=seed),
        LogisticRegression(C=c, max_iter=200)) for w in (0.5, 1.0) for c in (1.0, 10.0)}


def _nearest(z: Array, y: Integers, seed: int) -> dict[str, Any]:
    from sklearn.neighbors import KNeighborsClassifier

    return {f"{k}": KNeighborsClassifier(k) for k in (1, 5, 15) if k < len(y) // 4}


def _networks(z: Array, y: Integers, seed: int) -> dict[str, Any]:
    from sklearn.neural_network import MLPClassifier

    n = len(y)
    return {f"alpha={a:g}": MLPClassifier((128,), alpha=a, early_stopping=n >= MANY, max_iter=100, random_state=seed)
            for a in (0.1, 1.0)} if n >= 200 and z.shape[1] <= WIDEST else {}


_MODELS: dict[str, Callable[[Array, Integers, int], dict[str, Any]]] = {
    "linear": _linear_models, "discriminant": _discriminants, "kernel": _kernels, "neighbours": _nearest, "mlp": _networks}


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


def _kernel(x: Array, a: Mapping[str, Array]) -> Array:
    landmarks = a["landmarks"]
    squares = (x**2).sum(1)[:, None] - 2 * x @ landmarks.T + (landmarks**2).sum(1)
    return np.exp(-a["gamma"] * np.maximum(squares, 0)) @ a["weight"].T + a["bias"]


def _kernel_arrays(fitted: Any, z: Array, y: Integers) -> dict[str, Array]:
    features, regression = fitted[0], _linear_arrays(fitted[1], z, y)
    return {"landmarks": features.components_, "gamma": np.array(features.gamma),
            "weight": regression["weight"] @ features.normalization_, "bias": regression["bias"]}


def _neighbours(x: Array, a: Mapping[str, Array]) -> Array:
    from .search import Index

    k, y = int(a["k"]), a["labels"].astype(np.int64)
    votes = y[Index.of(a["codes"]).search(x, k).rows]
    share = (votes[:, :, None] == np.arange(len(a["present"]))).mean(1)
    return np.log(np.maximum(share, TINY))


def _neighbours_arrays(fitted: Any, z: Array, y: Integers) -> dict[str, Array]:
    return {"codes": z.astype(np.float32), "labels": y, "k": np.array(fitted.n_neighbors)}


def _mlp(x: Array, a: Mapping[str, Array]) -> Array:
    hidden = np.maximum(x @ a["weight_1"] + a["bias_1"], 0)
    out = hidden @ a["weight_2"] + a["bias_2"]
    return np.concatenate([-out, out], 1) / 2 if out.shape[1] == 1 else out


def _mlp_arrays(fitted: Any, z: Array, y: Integers) -> dict[str, Array]:
    (w1, w2), (b1, b2) = fitted.coefs_, fitted.intercepts_
    return {"weight_1": w1, "bias_1": b1, "weight_2": w2, "bias_2": b2}


_LOGITS: dict[str, Callable[[Array, Mapping[str, Array]], Array]] = {
    "linear": _linear, "discriminant": _linear, "kernel": _kernel, "neighbours": _neighbours, "mlp": _mlp}
_ARRAYS: dict[str, Callable[[Any, Array, Integers], dict[str, Array]]] = {
    "linear": _linear_arrays, "discriminant": _linear_arrays, "kernel": _kernel_arrays, "neighbours": _neighbours_arrays,
    "mlp": _mlp_arrays}
