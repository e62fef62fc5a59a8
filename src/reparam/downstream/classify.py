"""Classes from codes: a small classifier (a probe), chosen by cross-validation, whose probabilities are calibrated."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .smooth import NEAREST, Graph, Radial, Spread, radial_scores, spread_scores

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
KINDS = ("linear", "discriminant", "kernel", "neighbours", "spread", "mlp")
BLEND = "blend"
"""The best `kernel` and the best `spread`, their probabilities multiplied."""
FOLDS = 5
MOST_SEARCHED = 2_000
"""Labelled codes that candidates are compared on; the chosen one learns from all."""
MANY = 1_000
"""Labelled codes from which three folds do."""
MOST_SPREAD = 8_000
"""Codes, labelled or not, up to which labels are spread among them."""
WIDEST = 512
"""Numbers of a code for which discriminants and networks are tried, which take long for more."""
CHUNK = 4_096
"""Codes that are classified at a time."""
TINY = 1e-6
"""Least probability that a candidate is taken to have given."""


@dataclass(frozen=True)
class Probe:
    """A classifier of codes (n, d): softmax regression (`linear`), Gaussian classes of one covariance (`discriminant`),
    least squares on radial functions (`kernel`), k nearest (`neighbours`), labels spread to codes without one (`spread`),
    one hidden layer (`mlp`), or kernel and spread together (`blend`).

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


@dataclass(frozen=True)
class _Tried:
    """How good a candidate is on codes that it has not learned from."""

    candidate: _Candidate
    logits: Array
    """(n, k)"""
    temperature: float
    loss: float

    @staticmethod
    def of(candidate: _Candidate, logits: Array, y: Integers) -> _Tried:
        """A class of one image is learned from, but not tested with."""
        tested = np.bincount(y)[y] > 1
        temperature = best_temperature(logits[tested], y[tested])
        return _Tried(candidate, logits, temperature, log_loss(softmax(logits[tested] / temperature), y[tested]))


def fit_probe(codes: npt.ArrayLike, labels: npt.ArrayLike, *, kinds: tuple[str, ...] = KINDS, seed: int = 0) -> Probe:
    """Learns labels (n,), whole numbers, from codes (n, d); −1 is no label: such a code only helps to tell where codes lie.

    Candidates are classifiers of several kinds and strengths, on codes of which either each number is brought to a variance
    of 1, or all together, so that numbers that hardly vary hardly count. The least log loss by cross-validation wins, each
    candidate at its best temperature; the winner keeps that temperature (Guo et al., 2017, arXiv:1706.04599). With one
    image of each class nothing can be held out: its label spreads to codes without one, if there are ten times as many, or
    else softmax regression is taken as it comes.

    Raises:
        UsageError: fewer than two classes, or codes that none of the kinds fits.
    """
    x, given = np.asarray(codes, np.float64), np.asarray(labels, np.int64)
    present, y = np.unique(given[given >= 0], return_inverse=True)
    if len(present) < 2:
        raise UsageError(f"a classifier takes labelled images of at least two classes, and there is {len(present)}")
    mean, scales, known = x.mean(0), _scales(x), given >= 0
    inputs = {name: (x - mean) * scale for name, scale in scales.items()}
    sets = {name: _Codes(z[known], y, z[~known], scales[name], seed) for name, z in inputs.items()}
    candidates = _candidates(sets, kinds)
    if not candidates:
        raise UsageError(f"{len(y):,} labelled codes of {x.shape[1]:,} numbers are too few, or too long, for a classifier "
                         f"of the kind {' or '.join(kinds)}: take linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a candidate that has not converged is judged as it is
        tried = _compared(candidates, sets) if np.bincount(y).max() > 1 else {}
        best = min(tried, key=lambda name: tried[name].loss) if tried else next(iter(candidates))
        chosen = tried[best].candidate if tried else candidates[best]
        learned = _learned(chosen, sets)
    return Probe(chosen.kind, {"present": present, "mean": mean, **learned,
                               "temperature": np.array(tried[best].temperature if tried else 1.0)},
                 {name: each.loss for name, each in tried.items()})


def _compared(candidates: Mapping[str, _Candidate], sets: Mapping[str, _Codes]) -> dict[str, _Tried]:
    """All of them, and the best two of the kinds that err in different ways as one."""
    y = next(iter(sets.values())).few[1]
    tried = {name: _Tried.of(each, _held_out(each, sets[each.scaling]), y) for name, each in candidates.items()}
    best = [min((each for each in tried.values() if each.candidate.kind == kind), key=lambda each: each.loss, default=None)
            for kind in ("kernel", "spread")]
    parts = [each for each in best if each is not None]
    if len(parts) == 2:
        tried[BLEND] = _Tried.of(_Candidate(BLEND, "", [(each.candidate, each.temperature) for each in parts]),
                                 np.sum([each.logits / each.temperature for each in parts], axis=0), y)
    return tried


@dataclass(frozen=True)
class _Codes:
    """Scaled codes with a label from 0, and those without one."""

    z: Array
    y: Integers
    others: Array
    scale: Array
    seed: int

    @cached_property
    def some(self) -> Integers:
        """Labelled ones that candidates are compared on."""
        return _searched(self.y, self.seed)

    @property
    def few(self) -> tuple[Array, Integers]:
        return self.z[self.some], self.y[self.some]

    @cached_property
    def rotated(self) -> Array:
        """`few` with the same products and distances, in no more numbers than there are rows."""
        return _rotated(self.few[0])

    @cached_property
    def graph(self) -> Graph:
        return Graph.of(np.concatenate([self.z, self.others]))


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


def _held_out(candidate: _Candidate, codes: _Codes) -> Array:
    """(n, k) logits of the codes at `some`, each without its own label."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    model, y = candidate.model, codes.y if candidate.kind == "spread" else codes.few[1]
    if isinstance(model, Radial):
        return model.held_out(codes.rotated, y, codes.seed)
    folds = StratifiedKFold(int(min(3 if len(y) > MANY else FOLDS, np.bincount(y).max())), shuffle=True,
                            random_state=codes.seed)
    if isinstance(model, Spread):
        return model.held_out(codes.graph, y, folds)[codes.some]
    x = codes.few[0] if candidate.kind in ("discriminant", "mlp") else codes.rotated
    return np.log(np.maximum(np.asarray(cross_val_predict(model, x, y, cv=folds, method="predict_proba")), TINY))


def _learned(candidate: _Candidate, sets: Mapping[str, _Codes]) -> dict[str, Array]:
    """Arrays of a candidate that has learned from all codes, and the scale of what it reads."""
    model = candidate.model
    if candidate.kind == BLEND:
        parts = {each.kind: {**_learned(each, sets), "temperature": np.array(t)} for each, t in model}
        width = next(iter(sets.values())).z.shape[1]
        return {"scale": np.ones(width), **{f"{k}.{name}": a for k, part in parts.items() for name, a in part.items()}}
    codes = sets[candidate.scaling]
    if isinstance(model, Radial):
        return {"scale": codes.scale, **model.learn(codes.z, codes.y, codes.seed)}
    if isinstance(model, Spread):
        return {"scale": codes.scale, **model.learn(codes.graph, codes.y)}
    return {"scale": codes.scale, **_ARRAYS[candidate.kind](model.fit(codes.z, codes.y), codes.z, codes.y)}


def _rotated(z: Array) -> Array:
    """The same products and distances, in no more numbers than there are rows."""
    if z.shape[1] <= len(z):
        return z
    values, vectors = np.linalg.eigh(z @ z.T)
    return vectors * np.sqrt(np.maximum(values, 0))


def _candidates(sets: Mapping[str, _Codes], kinds: tuple[str, ...]) -> dict[str, _Candidate]:
    """By name, such as "linear(C=0.1, each)"; the first one is taken where they cannot be compared."""
    found: dict[str, _Candidate] = {}
    unlabelled = all(len(codes.others) > 10 * len(codes.y) for codes in sets.values())
    for kind in sorted(kinds, key=lambda kind: unlabelled and kind != "spread"):
        for scaling, codes in sets.items():
            found |= {f"{kind}({said}, {scaling})": _Candidate(kind, scaling, model)
                      for said, model in _MODELS[kind](codes).items()
                      if kind != "mlp" or scaling == "each"}  # which is the slowest
    return found


def _linear_models(codes: _Codes) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    return {f"C={c:g}": LogisticRegression(C=c, max_iter=60) for c in (0.1, 0.001, 0.01)}


def _spreads(codes: _Codes) -> dict[str, Any]:
    fits = NEAREST < len(codes.y) + len(codes.others) <= MOST_SPREAD
    return {f"alpha={alpha:g}": Spread(alpha) for alpha in (0.99, 0.9)} if fits else {}


def _kernels(codes: _Codes) -> dict[str, Any]:
    return {f"{shape}, w={w:g}, ridge={ridge:g}": Radial(shape, w, ridge)
            for shape, w in (("laplace", 1), ("laplace", 3), ("gauss", 1)) for ridge in (0.01, 0.1)}


def _discriminants(codes: _Codes) -> dict[str, Any]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    fits = np.bincount(codes.y).min() > 2 and codes.z.shape[1] <= WIDEST
    return {"shrunk": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")} if fits else {}


def _nearest(codes: _Codes) -> dict[str, Any]:
    from sklearn.neighbors import KNeighborsClassifier

    return {f"{k}": KNeighborsClassifier(k) for k in (1, 5, 15) if k < len(codes.y) // 4}


def _networks(codes: _Codes) -> dict[str, Any]:
    from sklearn.neural_network import MLPClassifier

    n = len(codes.y)
    return {f"alpha={a:g}": MLPClassifier((128,), alpha=a, early_stopping=n >= MANY, max_iter=100, random_state=codes.seed)
            for a in (1.0,)} if n >= 200 and codes.z.shape[1] <= WIDEST else {}


_MODELS: dict[str, Callable[[_Codes], dict[str, Any]]] = {
    "linear": _linear_models, "discriminant": _discriminants, "kernel": _kernels, "neighbours": _nearest, "spread": _spreads,
    "mlp": _networks}


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


def _blend(x: Array, a: Mapping[str, Array]) -> Array:
    def of(kind: str) -> Array:
        part = {name.removeprefix(f"{kind}."): array for name, array in a.items() if name.startswith(f"{kind}.")}
        return _LOGITS[kind](x * part["scale"], part) / part["temperature"]

    return of("kernel") + of("spread")


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
    "linear": _linear, "discriminant": _linear, "kernel": radial_scores, "neighbours": _neighbours,
    "spread": spread_scores, "mlp": _mlp, BLEND: _blend}
_ARRAYS: dict[str, Callable[[Any, Array, Integers], dict[str, Array]]] = {
    "linear": _linear_arrays, "discriminant": _linear_arrays, "neighbours": _neighbours_arrays, "mlp": _mlp_arrays}
"""Of kinds that scikit-learn learns."""
