"""Disentanglement: how well single latents stand for the known factors that images were drawn from.

Every score reads codes (n, D), one row an image, and factors (n, F), the value of each factor as an integer; n from a
few thousand on. Codes are posterior means by custom. The mean of a collapsed latent still moves with the image, by an
amount too small for the decoder to see, and scores that look at one latent at a time (MIG, SAP) see it: with draws from
the posterior instead of means they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

Codes = npt.NDArray[np.float64]
Factors = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """A score of a code."""

    value: float
    """Mean over the factors."""
    each: tuple[float, ...]
    """Of each factor."""
    n: int
    """Images, or groups of images, that it was measured on."""

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness, each from 0 to 1 (best)."""

    disentanglement: float
    """How far each latent stands for one factor only."""
    completeness: float
    """How far each factor is found in one latent only."""
    informativeness: float
    """Accuracy with which factors are told from held-out codes, mean over factors."""
    accuracy: tuple[float, ...]
    """The same, of each factor; chance is one over its number of values."""
    importance: tuple[tuple[float, ...], ...]
    """(D, F): what each latent contributes to telling each factor; a column sums to 1."""
    right: npt.NDArray[np.float64]
    """Share of the factors told rightly of each held-out image."""
    n: int
    """Held-out images."""


def mutual_information(codes: npt.ArrayLike, factors: npt.ArrayLike, *, bins: int = 20) -> npt.NDArray[np.float64]:
    """I(z_j; v_k) of each latent and factor, (D, F), nats; latents cut into `bins` of equal width over their range.

    Σ p(b, v) log p(b, v) / (p(b) p(v)) with the frequencies of bins b and values v. It is too high by about
    (bins − 1)(values − 1) / 2n nats, which independent codes show as well (Miller, 1955).
    """
    z, v = _checked(codes, factors)
    if bins < 2:
        raise UsageError(f"mutual information needs at least 2 bins; got {bins}")
    binned = [np.digitize(c, np.histogram_bin_edges(c, bins)[1:-1]) for c in z.T]
    return np.array([[_information(b, f) for f in v.T] for b in binned])


def entropy(factors: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """H(v_k) of each factor, (F,), nats.

    >>> entropy([[0], [1]]).round(4).tolist()  # log 2
    [0.6931]
    """
    return np.array([_entropy(np.bincount(f)) for f in _levels(np.asarray(factors)).T])


def mig(codes: npt.ArrayLike, factors: npt.ArrayLike, *, bins: int = 20) -> Score:
    """Mutual information gap: how far the best latent of a factor is ahead of the second best.

    MIG = 1/F Σ_k (I(z_(1); v_k) − I(z_(2); v_k)) / H(v_k),   from 0 to 1    (Chen et al., 2018, arXiv:1802.04942, section 4)

    where (1) and (2) are the latents with the most information on v_k. The information is that of `mutual_information`, with
    20 bins, as Locatello et al. (2019, arXiv:1811.12359) measure it on means; the paper itself averages log q(z | x) over
    the posterior instead. A factor with more values than `bins` cannot reach 1.

    Raises:
        UsageError: arrays of unlike length, codes that are not finite, or a factor that never changes.
    """
    information = mutual_information(codes, factors, bins=bins)
    return _score(_gaps(information) / entropy(factors), len(np.asarray(codes)))


def sap(codes: npt.ArrayLike, factors: npt.ArrayLike, *, categorical: Sequence[int] = ()) -> Score:
    """Separated attribute predictability: how far the best latent of a factor is ahead in telling it by itself.

    SAP = 1/F Σ_k (S_(1)k − S_(2)k)    (Kumar et al., 2018, arXiv:1711.00848, section 3)

    S_jk is R² of a line from z_j to v_k; for factors whose columns are `categorical`, the balanced accuracy of thresholds
    on z_j, one fewer than v_k has values, which a decision tree chooses; 0 for a latent that is constant. Both are
    measured where they were fitted, since so few numbers cannot fit thousands of images by chance.
    """
    z, v = _checked(codes, factors)
    wrong = [k for k in categorical if not 0 <= k < v.shape[1]]
    if wrong:
        raise UsageError(f"categorical names the columns of factors from 0 to {v.shape[1] - 1}; got {wrong}")
    alive = z.std(0) > 1e-12 * np.abs(z).max(0)
    table = np.zeros((z.shape[1], v.shape[1]))
    numbers = np.asarray(factors, dtype=np.float64)
    for j in np.flatnonzero(alive):
        for k in range(v.shape[1]):
            if k in categorical:
                table[j, k] = _threshold_accuracy(z[:, j], v[:, k])
            else:
                table[j, k] = np.corrcoef(z[:, j], numbers[:, k])[0, 1] ** 2
    return _score(_gaps(table), len(z))


def dci(codes_train: npt.ArrayLike, factors_train: npt.ArrayLike, codes_test: npt.ArrayLike, factors_test: npt.ArrayLike,
        *, trees: int = 50, leaf: int = 5, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness of a code. (Eastwood & Williams, 2018, ICLR, section 2)

    A random forest tells each factor from all latents; R_jk is the share of latent j in its decrease of Gini impurity.

        D = Σ_j ρ_j (1 − H_F(R_j· / Σ_k R_jk)),   ρ_j = Σ_k R_jk / Σ R
        C = 1/F Σ_k (1 − H_D(R_·k / Σ_j R_jk)),   I = accuracy on the test images

    H_F and H_D are entropies to the base of their number of outcomes. The forest is scikit-learn's RandomForestClassifier
    with `trees` trees, where every split looks at all latents (else some had to use what says nothing) and a leaf holds at
    least `leaf` images. The paper's own I is an error of regression; accuracy is what Locatello et al. (2019,
    arXiv:1811.12359) report, who use boosted trees: compare figures of one estimator only.
    """
    from sklearn.ensemble import RandomForestClassifier

    z, v = _checked(codes_train, factors_train)
    z_test, v_test = _checked(codes_test, factors_test, varying=False)
    if z.shape[1] != z_test.shape[1] or v.shape[1] != v_test.shape[1]:
        raise UsageError(f"training codes and factors have {z.shape[1]} and {v.shape[1]} columns, those of the test images "
                         f"{z_test.shape[1]} and {v_test.shape[1]}")
    train, test = np.asarray(factors_train), np.asarray(factors_test)
    importance, right = np.zeros((z.shape[1], v.shape[1])), np.zeros(test.shape)
    for k in range(v.shape[1]):
        forest = RandomForestClassifier(trees, max_features=None,  # pyright: ignore[reportArgumentType]
                                        min_samples_leaf=leaf, random_state=seed)
        forest.fit(z, train[:, k])
        importance[:, k] = np.asarray(forest.feature_importances_)
        right[:, k] = np.asarray(forest.predict(z_test)) == test[:, k]
    share = importance.sum(1) / max(float(importance.sum()), 1e-300)
    return DCI(float(share @ _purity(importance)), float(_purity(importance.T).mean()), float(right.mean()),
               tuple(right.mean(0).tolist()), tuple(tuple(row) for row in importance.tolist()), right.mean(1), len(z_test))


def factor_vae_score(codes: npt.ArrayLike, factors: npt.ArrayLike, *, active: npt.ArrayLike | None = None, group: int = 64,
                     votes: int = 800, seed: int = 0) -> Score:
    """Accuracy of telling which factor is fixed from which latent varies least. (Kim & Mnih, 2018, arXiv:1802.05983)

    A vote takes `group` images that share the value of one factor, chosen at random: (d*, k) with d* the latent of the
    least Var_group(z_d) / Var(z_d) and k the factor. A latent stands for the factor that most of its `votes` name; the
    score is the share of right answers in as many fresh votes, mean over factors. Chance is 1/F. Latents that
    are not `active` (D,) have collapsed and take no part, nor do constant ones: by default all others do. The variance over
    all images, by which a group's is divided, makes the score the same in whatever unit a latent is measured. Groups are
    drawn with replacement.
    """
    z, v = _checked(codes, factors)
    kept = z.std(0) > 1e-12 * np.abs(z).max(0)
    z = z[:, kept if active is None else kept & np.asarray(active, dtype=bool)]
    if not z.shape[1]:
        return _score(np.zeros(v.shape[1]), votes)
    rng = np.random.default_rng(seed)
    spread = z.var(0)
    members = [[np.flatnonzero(f == level) for level in range(int(f.max()) + 1)] for f in v.T]

    def vote() -> npt.NDArray[np.int64]:
        table = np.zeros((z.shape[1], v.shape[1]), dtype=np.int64)
        for i in range(votes):
            k = i % v.shape[1]
            same = members[k][int(rng.integers(len(members[k])))]
            table[np.argmin(z[rng.choice(same, group)].var(0) / spread), k] += 1
        return table

    stands_for = vote().argmax(1)
    fresh = vote()
    right = np.array([fresh[stands_for == k, k].sum() for k in range(v.shape[1])])
    return _score(right / fresh.sum(0), votes)


def _checked(codes: npt.ArrayLike, factors: npt.ArrayLike, *, varying: bool = True) -> tuple[Codes, Factors]:
    """Codes as floats, and factors as levels from 0 on."""
    z, v = np.asarray(codes, dtype=np.float64), np.asarray(factors)
    if z.ndim != 2 or v.ndim != 2 or len(z) != len(v) or not z.size or not v.size:
        raise UsageError(f"scores need codes (n, D) and factors (n, F) of the same images; got {z.shape} and {v.shape}")
    if v.dtype.kind not in "iub":
        raise UsageError(f"factors are whole numbers, one for each value that a factor takes; got {v.dtype}")
    if not np.isfinite(z).all():
        raise UsageError("some codes are not finite")
    levels = _levels(v)
    constant = np.flatnonzero(levels.max(0) == 0).tolist()
    if varying and constant:
        raise UsageError(f"factors {constant} have one value in all images: leave them out")
    return z, levels


def _levels(factors: npt.NDArray[np.int64]) -> Factors:
    return np.stack([np.unique(f, return_inverse=True)[1] for f in factors.T], 1)


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _information(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float:
    """H(a) + H(b) − H(a, b) of two columns of levels."""
    joint = np.bincount(a * (b.max() + 1) + b)
    return max(_entropy(np.bincount(a)) + _entropy(np.bincount(b)) - _entropy(joint), 0.0)


def _gaps(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Best minus second best of each column of (D, F); a single latent has no rival."""
    ordered = np.sort(np.vstack([table, np.zeros(table.shape[1])]) if len(table) == 1 else table, 0)
    return ordered[-1] - ordered[-2]


def _purity(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 − entropy of each row, to the base of its length; 0 for a row of nothing, 1 where there is one outcome."""
    outcomes = rows.shape[1]
    if outcomes == 1:
        return np.ones(len(rows))
    total = rows.sum(1, keepdims=True)
    p = np.where(total > 0, rows / np.where(total > 0, total, 1), 1 / outcomes)
    return 1 + (p * np.log(np.where(p > 0, p, 1))).sum(1) / np.log(outcomes)


def _threshold_accuracy(z: npt.NDArray[np.float64], v: npt.NDArray[np.int64]) -> float:
    """Balanced accuracy of telling v from thresholds on z."""
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=int(v.max()) + 1, class_weight="balanced", random_state=0)
    told = np.asarray(tree.fit(z[:, None], v).predict(z[:, None])) == v
    return float(np.mean([told[v == level].mean() for level in range(int(v.max()) + 1)]))


def _score(each: npt.NDArray[np.float64], n: int) -> Score:
    return Score(float(each.mean()), tuple(each.tolist()), n)
