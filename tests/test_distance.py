"""The Fréchet distance against scipy's matrix root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from reparam.metrics.distance import frechet


@pytest.mark.parametrize("d", [1, 3, 20])
def test_frechet_equals_the_matrix_root_route(d):
    rng = np.random.default_rng(d)
    a, b = rng.normal(size=(200, d)) @ rng.normal(size=(d, d)), rng.normal(1, 2, size=(300, d))
    cov_a, cov_b = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_a_set_with_itself_is_zero_even_when_singular():
    a = np.random.default_rng(0).normal(size=(10, 30))
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
