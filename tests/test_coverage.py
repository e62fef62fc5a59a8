"""Intervals of sets of samples and of `prior_auc` against fresh draws: of 95 % intervals, at least 90 % hold their mean.

And 98 % at most, but of shares near 1, `memorisation` and a `class_balance` of 0, whose intervals are wider than need be.

What an interval is of is the figure's mean over draws of as many images. The simulations are small, and the bounds allow for
what chance does to a share of so many.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom

from reparam.functional.distance import frechet_estimate, kernel_distance
from reparam.functional.diversity import vendi
from reparam.functional.intervals import of_share, wilson
from reparam.functional.neighbours import authentic, copied, nearer_to_training, prdc, prdc_of_halves, spread
from reparam.functional.two_sample import PRIOR, told_apart
from reparam.metrics.class_balance import imbalance
from reparam.metrics.figures import mean_figure


def check(inside, low=0.90, high=0.98):
    """Inside (R,): as many as from `low` to `high` of R would give, but for one in forty on either side."""
    inside = np.asarray(inside)
    least, most = binom.ppf(0.025, len(inside), low), binom.ppf(0.975, len(inside), high)
    assert least <= inside.sum() <= most, f"{inside.mean():.3f} of {len(inside)}"


def draw(n, seed, *, d=4, shift=0.0, scale=1.0):
    return torch.from_numpy(np.random.default_rng([seed, n]).normal(size=(n, d)) * scale + shift)


SETS = {"equal": (100, {"d": 4}), "off": (100, {"d": 8, "shift": 0.4, "scale": 0.8})}


@pytest.mark.parametrize("kind", list(SETS))
def test_of_precision_recall_density_and_coverage(kind):
    n, how = SETS[kind]
    d = how["d"]
    truth = np.mean([[v.mean().item() for v in prdc(draw(n, 10**6 + i, d=d), draw(n, 2 * 10**6 + i, **how))]
                     for i in range(200)], 0)
    inside = []
    for i in range(100):
        real, samples = draw(n, i, d=d), draw(n, 3 * 10**6 + i, **how)
        halves = spread(prdc_of_halves(real, samples, seed=i))
        means = [v.mean().item() for v in prdc(real, samples)]
        ends = [(m - h, m + h) if k == 2 else wilson(m, n, h / 1.96) for k, (m, h) in
                enumerate(zip(means, halves, strict=True))]
        inside.append([low <= t <= high for (low, high), t in zip(ends, truth, strict=True)])
    for each in np.array(inside).T:
        check(each, high=0.99)  # of shares near 1 Wilson's interval holds more


@pytest.mark.parametrize(("classes", "n", "moved"), [(10, 64, 0.0), (10, 500, 0.1), (10, 2000, 0.05), (4, 200, 0.3)])
def test_of_class_balance(classes, n, moved):
    rng = np.random.default_rng(0)
    p = np.full(classes, 1 / classes)
    q = p + moved * np.repeat([1, -1], classes // 2) / (classes // 2)
    found = [imbalance(rng.multinomial(n, p), rng.multinomial(n, q), draws=400) for _ in range(50)]
    # at 0 the interval cannot end above it, and only one of its two sides can miss
    check([f.interval[0] <= moved <= f.interval[1] for f in found], high=0.98 if moved else 1.0)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_of_copying_and_of_memorisation(shift):
    """Of a model whose training images stay, as they are; of authenticity likewise."""
    training = draw(150, 7)
    runs = [(draw(100, 100 + i, shift=shift), draw(150, 9000 + i)) for i in range(300)]
    copies = np.array([copied(s, training, h) for s, h in runs])
    truth = copies[:, 0].mean()
    check([low <= truth <= high for low, high in (of_share(*each) for each in copies)])
    shares = [authentic(s, training).double() for s, _ in runs]
    truth = torch.cat(shares).mean().item()
    check([low <= truth <= high for low, high in (mean_figure("", each, "").interval for each in shares)])
    nearer = [nearer_to_training(s, training, h) for s, h in runs]
    truth = np.mean([each.each.mean() for each in nearer])
    check([low <= truth <= high for low, high in (
        wilson(float(each.each.mean()), 100, float(spread(each.of_halves)) / 1.96) for each in nearer)], high=1.0)


@pytest.mark.parametrize("shift", [0.2, 0.5])
def test_of_distances(shift):
    for estimate in (frechet_estimate, lambda a, b: kernel_distance(a, b, subsets=40)):
        found = np.array([estimate(draw(200, i), draw(200, 10**6 + i, shift=shift)) for i in range(200)])
        check(abs(found[:, 0] - found[:, 0].mean()) <= 1.96 * found[:, 1])


def test_of_vendi():
    found = np.array([vendi(draw(200, i, shift=0.5)) for i in range(300)])
    check(abs(found[:, 0] - found[:, 0].mean()) <= 1.96 * found[:, 1])


@pytest.mark.parametrize("n", [64, 300])
def test_of_prior_auc(n):
    rng = np.random.default_rng(0)
    found = np.array([told_apart(0.4 + rng.normal(size=(n, 1, 4)) * 0.8 + 0.6 * rng.normal(size=(n, 8, 4)),
                                 rng.normal(size=(PRIOR, 4)), seed=i) for i in range(16)])
    truth = found[:, 0].mean()
    check([low <= truth <= high for low, high in (of_share(*each) for each in found)], high=0.99)
