"""Distances between sets against other implementations, and their standard errors against repeated draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from reparam.errors import UsageError
from reparam.functional.distance import frechet, frechet_estimate, frechet_inf, frechet_influence, kernel_distance, mmd2
from reparam.functional.diversity import vendi, vendi_of


def features(n, d=12, *, shift=0.0, seed=0):
    """Gaussian features of decaying spread, as those of images are."""
    rng = np.random.default_rng([seed, n, d])
    return rng.normal(size=(n, d)) / np.arange(1, d + 1) ** 0.7 * (1 + shift) + 0.3 * shift


class AsTheyAre(torch.nn.Module):
    """Passes features through torchmetrics, which asks for images."""

    num_features = 12

    def forward(self, x):
        return x


def judged(metric, a, b):
    """The metric of torchmetrics, on real a and generated b."""
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    return metric.compute()


@pytest.mark.parametrize("d", [1, 3, 20])
def test_frechet_equals_the_matrix_root_route(d):
    rng = np.random.default_rng(d)
    a, b = rng.normal(size=(200, d)) @ rng.normal(size=(d, d)), rng.normal(1, 2, size=(300, d))
    cov_a, cov_b = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)


def test_fewer_rows_than_features_are_measured_in_their_span():
    a, b = features(20, 60), features(25, 60, shift=0.3, seed=1)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    cross = np.linalg.svd((a - a.mean(0)) @ (b - b.mean(0)).T, compute_uv=False).sum() / (19 * 24) ** 0.5
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * cross
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_a_set_with_itself_is_zero_even_when_singular():
    a = np.random.default_rng(0).normal(size=(10, 30))
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_frechet_and_kernel_distance_equal_torchmetrics():
    a, b = features(300), features(260, shift=0.2, seed=1)
    assert frechet(a, b) == pytest.approx(judged(FrechetInceptionDistance(feature=AsTheyAre()), a, b).item(), rel=1e-4)
    whole = KernelInceptionDistance(feature=AsTheyAre(), subsets=1, subset_size=260)
    assert mmd2(a[:260], b) == pytest.approx(judged_kid(whole, a[:260], b), rel=1e-4)


def judged_kid(metric, a, b):
    return judged(metric, a, b)[0].item()


def test_mmd_is_its_double_sum_and_unbiased():
    a, b = features(7, 3), features(9, 3, shift=0.5, seed=1)

    def mean(x, y, *, same):
        pairs = [(x[i] @ y[j] / 3 + 1) ** 3 for i in range(len(x)) for j in range(len(y)) if not (same and i == j)]
        return np.mean(pairs)

    assert mmd2(a, b) == pytest.approx(mean(a, a, same=True) + mean(b, b, same=True) - 2 * mean(a, b, same=False))
    equal = np.array([mmd2(features(20, 3, seed=i), features(20, 3, seed=i + 1000)) for i in range(1000)])
    assert abs(equal.mean()) < 4 * equal.std() / 1000**0.5


def test_the_mean_over_subsets_is_that_of_all_images():
    a, b = features(400), features(400, shift=0.3, seed=1)
    estimate = kernel_distance(a, b, subsets=400, size=100)
    assert estimate.value == pytest.approx(mmd2(a, b), rel=0.03)
    assert kernel_distance(a, b, seed=3) == kernel_distance(a, b, seed=3)
    assert kernel_distance(a, b, seed=3).value != kernel_distance(a, b, seed=4).value


def weighted(a, b, at, by):
    """`frechet` when one row of a weighs by `by` more, as a derivative sees it: 1/n covariances, scaled to 1/(n − 1)."""
    w = np.full(len(a), 1 / len(a)) * (1 - by)
    w[at] += by
    mean = w @ a
    cov = (a - mean).T @ (w[:, None] * (a - mean)) * len(a) / (len(a) - 1)
    cov_b = np.cov(b.T)
    cross = np.sqrt(np.linalg.eigvals(cov @ cov_b).real.clip(min=0)).sum()
    return ((mean - b.mean(0)) ** 2).sum() + np.trace(cov + cov_b) - 2 * cross


@pytest.mark.parametrize("at", [0, 17])
def test_the_influence_of_an_image_is_the_derivative_by_its_weight(at):
    a, b = features(150, 4), features(130, 4, shift=0.4, seed=1)
    of_a, of_b = frechet_influence(a, b)
    for one, other, found in ((a, b, of_a), (b, a, of_b)):
        slope = (weighted(one, other, at, 1e-5) - weighted(one, other, at, -1e-5)) / 2e-5
        assert found[at] == pytest.approx(slope, rel=0.02, abs=0.01)  # n/(n − 1) stands in one and not in the other
        assert found.mean() == pytest.approx(0, abs=1e-9)


def repeated(estimate, times=60, **options):
    """Estimates of fresh draws: their mean, their standard deviation, and the mean of the errors that they state."""
    found = np.array([estimate(features(300, seed=2 * i), features(300, shift=0.2, seed=2 * i + 1), **options)
                      for i in range(times)])
    return found[:, 0].mean(), found[:, 0].std(ddof=1), found[:, 1].mean()


@pytest.mark.parametrize(("estimate", "options"), [(frechet_estimate, {}), (frechet_inf, {}),
                                                   (kernel_distance, {"subsets": 60, "size": 100})])
def test_standard_errors_are_the_spread_of_fresh_draws(estimate, options):
    _, spread, stated = repeated(estimate, **options)
    assert 0.7 * spread < stated < 1.5 * spread


def test_the_bootstrap_tends_to_the_same_error():
    a, b = features(400), features(400, shift=0.2, seed=1)
    rng = np.random.default_rng(0)
    draws = [frechet(a[rng.integers(0, 400, 400)], b[rng.integers(0, 400, 400)]) for _ in range(300)]
    assert frechet_estimate(a, b).error == pytest.approx(np.std(draws), rel=0.2)


def test_the_extrapolation_takes_the_bias_off():
    exact = ((0.3 * 0.2) ** 2) * 12 + ((0.2 / np.arange(1, 13) ** 0.7) ** 2).sum()
    plain, spread, _ = repeated(frechet_estimate)
    free, wider, _ = repeated(frechet_inf)
    assert plain - exact > 8 * spread / 60**0.5
    assert abs(free - exact) < 4 * wider / 60**0.5
    assert frechet_inf(features(300), features(300, seed=1)).value < frechet(features(300), features(300, seed=1)) / 3


def test_vendi_of_known_similarities():
    assert vendi_of(np.eye(7)) == pytest.approx(7)
    assert vendi_of(np.ones((7, 7))) == pytest.approx(1)
    assert vendi_of(np.kron(np.eye(3), np.ones((4, 4)))) == pytest.approx(3)
    with pytest.raises(UsageError, match="1 on its diagonal"):
        vendi_of(2 * np.eye(3))


def test_vendi_of_features_is_that_of_their_cosines():
    x = features(90, 6, shift=1.0)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert vendi(x).value == pytest.approx(vendi_of(unit @ unit.T), rel=1e-6)
    assert vendi(np.eye(5)).value == pytest.approx(5) and vendi(np.ones((9, 5))).value == pytest.approx(1)
    found = np.array([vendi(features(300, 6, shift=1.0, seed=i)) for i in range(60)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(ddof=1), rel=0.3)


@pytest.mark.parametrize("wrong", [
    lambda: frechet(np.ones((3, 2)), np.ones((3, 4))), lambda: frechet(np.ones((1, 2)), np.ones((3, 2))),
    lambda: frechet_inf(np.ones((5, 2)), np.ones((5, 2))), lambda: vendi(np.zeros((4, 2))),
    lambda: kernel_distance(np.ones((3, 2)), np.ones((3, 2)))])
def test_too_few_or_unlike_features_are_refused(wrong):
    with pytest.raises(UsageError):
        wrong()
