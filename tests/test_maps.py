"""Maps of codes and choices among draws, against scikit-learn and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from reparam.downstream.choosing import diverse, typical
from reparam.downstream.maps import plane_map, principal_map
from reparam.errors import UsageError

CODES = np.random.default_rng(0).normal(size=(120, 5)) @ np.diag([3, 2, 1, 0.5, 0.1]) + 2


def test_a_principal_map_is_a_plane_whose_points_can_be_decoded():
    found = principal_map(CODES)
    theirs = PCA(2).fit(CODES)
    assert np.allclose(np.abs(found.xy), np.abs(theirs.transform(CODES)) /
                       np.sqrt(theirs.explained_variance_[0] * 119 / 120))
    assert np.allclose(found.centre + found.xy @ found.axes, theirs.inverse_transform(theirs.transform(CODES)))
    assert found.trustworthiness == pytest.approx(trustworthiness(CODES, found.xy, n_neighbors=5))


def test_a_map_of_two_latents_holds_the_others_at_their_mean():
    found = plane_map(CODES, 3, 1)
    back = found.centre + found.xy @ found.axes
    assert np.allclose(back[:, [3, 1]], CODES[:, [3, 1]]) and np.allclose(back[:, [0, 2, 4]], CODES.mean(0)[[0, 2, 4]])
    with pytest.raises(UsageError, match="from 0 to 4"):
        plane_map(CODES, 1, 5)
    with pytest.raises(UsageError, match="at least two dimensions"):
        principal_map(CODES[:, :1])


def test_typical_draws_are_the_likeliest_in_their_order():
    assert list(typical([-3.0, -1.0, -2.0, -9.0], 0.5)) == [1, 2] and list(typical([-3.0], 0.1)) == [0]
    with pytest.raises(UsageError, match="above 0"):
        typical([1.0], 0.0)


def test_diverse_draws_cover_within_twice_the_best_radius():
    points = np.random.default_rng(1).normal(size=(14, 2))
    distance = np.linalg.norm(points[:, None] - points, axis=2)

    def radius(rows):
        return distance[:, list(rows)].min(1).max()

    chosen = diverse(points, 4)
    best = min(radius(rows) for rows in itertools.combinations(range(14), 4))
    assert len(set(chosen)) == 4 and radius(chosen) <= 2 * best + 1e-12
    with pytest.raises(UsageError, match="from 1 to as many"):
        diverse(points, 15)
