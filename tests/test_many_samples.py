"""Sets of more pictures than are held: what passes by, and what is measured on some of them."""

import numpy as np
import pytest
import torch

from reparam.functional.distance import frechet, frechet_estimate, frechet_of, without_pairs
from reparam.functional.moments import Moments
from reparam.metrics import evaluation, measure
from reparam.metrics.evaluation import Evaluation
from reparam.tensors import at_once


def rows(n, d, seed):
    rng = np.random.default_rng(seed)
    return 1e4 + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))


def test_moments_of_pieces_are_those_of_the_whole():
    x, y = rows(1000, 6, 0), rows(900, 6, 1)
    pieces = Moments()
    for part in np.split(x, [1, 2, 70, 700]):
        pieces.add(part)
    assert pieces.n == 1000
    np.testing.assert_allclose(pieces.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(pieces.covariance, np.cov(x, rowvar=False), rtol=1e-9)
    assert frechet_of(pieces, Moments(y)) == pytest.approx(frechet(x, y), rel=1e-9)


def test_the_error_of_more_rows_is_that_which_they_have():
    x, y = rows(4000, 4, 0), rows(4000, 4, 1)
    some = frechet_estimate(x[::4], y[::4], (Moments(x), Moments(y)))
    whole = frechet_estimate(x, y)
    assert some.value == pytest.approx(whole.value, rel=1e-9) and some.error == pytest.approx(whole.error, rel=0.15)
    assert without_pairs(4.0, 9.0) == 4 - 0.25 and without_pairs(4.0, 9.0, 2.0) == pytest.approx(3.5 / 2 + 0.25 / 4)


class Noise:
    """A model that draws noise."""

    resampler = fitted_prior = None
    has_encoder = False

    def __init__(self):
        self.model = self

    def codes(self, n, options):
        return torch.rand(n, 1, 4, 4)

    def images(self, z):
        return z


class Pixels:
    name = resize = "pixels"
    standard = False

    def __init__(self):
        self.seen = []

    def embed(self, x):
        assert len(x) <= at_once(x.shape)
        self.seen.append(x.flatten(1))
        return self.seen[-1]


def test_of_many_samples_fd_is_of_all_and_neighbours_are_of_some(monkeypatch):
    x, figures = torch.rand(1200, 1, 4, 4), []
    for at_hand in (10_000, 300):
        monkeypatch.setattr(evaluation, "AT_HAND", at_hand)
        seen, n = Evaluation(Noise(), x, train_images=x, features=Pixels()), min(at_hand, 1200)
        figures.append({f.name: f for f in measure(seen, "fd, kd, prdc, vendi, duplicates, memorisation, sharpness")})
        assert len(seen.embedded("samples")) == len(seen.samples) == n
        assert torch.equal(seen.embedded("real"), x[torch.arange(n) * 1200 // n].flatten(1))
    whole, some = figures
    real, samples = torch.cat(seen.features.seen).split(1200)[:2]
    assert torch.equal(real, x.flatten(1)) and len(samples.unique(dim=0)) == 1200
    assert some["fd"].value == pytest.approx(frechet(real, samples), rel=1e-9) and some["fd"].n == 1200
    assert some["fd"].interval[1] - some["fd"].value == pytest.approx(whole["fd"].interval[1] - whole["fd"].value, rel=0.5)
    assert {some[name].n for name in ("kd", "recall", "vendi", "duplicates", "authenticity", "sharpness")} == {300}
