"""Disentanglement scores where their values are known, and the drawn pictures that benchmarks measure them on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from reparam.errors import UsageError
from reparam.functional.disentanglement import dci, entropy, factor_vae_score, mig, mutual_information, sap

LEVELS = (3, 5, 4)


@pytest.fixture(scope="module")
def factors():
    return np.random.default_rng(0).integers(0, LEVELS, (3000, 3))


@pytest.fixture(scope="module")
def rotated(factors):
    """Each pair of neighbouring latents turned by 45°: every factor stands in two of the latents."""
    z = np.column_stack([factors, np.random.default_rng(1).normal(size=len(factors))])
    z = (z - z.mean(0)) / z.std(0)
    for a, b in ((0, 1), (2, 3), (1, 2)):
        z[:, a], z[:, b] = (z[:, a] + z[:, b]) / 2**0.5, (z[:, a] - z[:, b]) / 2**0.5
    return z


def halves(codes, factors):
    n = len(codes) // 2
    return codes[:n], factors[:n], codes[n:], factors[n:]


def every_score(codes, factors):
    told = dci(*halves(codes, factors), trees=10)
    return {"mig": mig(codes, factors).value, "sap": sap(codes, factors).value, "D": told.disentanglement,
            "C": told.completeness, "factor_vae": factor_vae_score(codes, factors).value}


def test_mutual_information_equals_scikit_learns(factors):
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(len(factors), 2))
    codes = np.column_stack([factors[:, 0] + noise[:, 0], np.exp(factors[:, 1] * noise[:, 1])])
    for bins in (20, 7):
        got = mutual_information(codes, factors, bins=bins)
        for j, k in np.ndindex(2, 3):
            low, high = codes[:, j].min(), codes[:, j].max()
            binned = np.minimum(np.floor((codes[:, j] - low) / (high - low) * bins), bins - 1)
            assert got[j, k] == pytest.approx(mutual_info_score(binned, factors[:, k]), abs=1e-9)
    np.testing.assert_allclose(entropy(factors), [mutual_info_score(f, f) for f in factors.T], atol=1e-12)


def test_information_approaches_that_of_a_gaussian_channel():
    """z = v + σε with v = ±1: I by quadrature of the mixture, up to the bins."""
    rng = np.random.default_rng(3)
    v, sigma = rng.integers(0, 2, (200_000, 1)), 0.7
    z = 2 * v - 1 + sigma * rng.normal(size=v.shape)
    t = np.linspace(-8, 8, 20_001)
    p = [np.exp(-0.5 * ((t - m) / sigma) ** 2) / sigma / (2 * np.pi) ** 0.5 for m in (-1, 1)]
    mean = (p[0] + p[1]) / 2
    exact = float(sum(0.5 * q * np.log(q / mean) for q in p).sum() * (t[1] - t[0]))
    assert mutual_information(z, v, bins=200)[0, 0] == pytest.approx(exact, abs=0.006)


def test_bias_on_independent_codes_is_what_is_documented(factors):
    """The mean over 200 codes of (bins − 1)(values − 1) / 2n, within four standard errors."""
    got = mutual_information(np.random.default_rng(4).uniform(size=(len(factors), 200)), factors)
    expected = 19 * (np.array(LEVELS) - 1) / (2 * len(factors))
    error = 4 * got.std(0) / 200**0.5
    assert (abs(got.mean(0) - expected) < error + 0.02 * expected).all()


def test_each_factor_in_a_latent_of_its_own_is_best_by_every_score(factors):
    noise = np.random.default_rng(5).normal(size=(len(factors), 2))
    codes = np.column_stack([factors, noise])
    gaps = mig(codes, factors)
    information = mutual_information(codes, factors)
    rivals = np.sort(information, 0)[-2] / entropy(factors)  # what the next latent knows by chance
    assert gaps.each == pytest.approx(1 - rivals, abs=1e-9)
    assert gaps.value > 0.98 and float(gaps) == gaps.value == pytest.approx(np.mean(gaps.each))
    assert sap(codes, factors).value > 0.98
    told = dci(*halves(codes, factors), trees=10)
    assert (told.disentanglement, told.completeness, told.informativeness) == pytest.approx((1, 1, 1), abs=1e-9)
    np.testing.assert_allclose(np.array(told.importance)[:3], np.eye(3), atol=1e-9)
    assert factor_vae_score(codes, factors).value == 1
    assert gaps.n == len(factors) and told.n == len(factors) // 2


def test_codes_that_know_nothing_score_nothing(factors):
    codes = np.random.default_rng(6).normal(size=(len(factors), 5))
    assert 0 <= mig(codes, factors).value < 0.01
    assert 0 <= sap(codes, factors).value < 0.01
    assert 0 <= sap(codes, factors, categorical=(0, 1, 2)).value < 0.03
    told = dci(*halves(codes, factors), trees=10)
    assert 0 <= told.disentanglement < 0.05 and 0 <= told.completeness < 0.05
    chance = np.mean(1 / np.array(LEVELS))
    assert told.informativeness == pytest.approx(chance, abs=4 * (0.25 / 1500) ** 0.5)
    assert factor_vae_score(codes, factors, votes=900).value == pytest.approx(1 / 3, abs=4 * (2 / 9 / 900) ** 0.5)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_constant_codes_score_zero(factors, value):
    codes = np.full((len(factors), 3), value)
    assert list(every_score(codes, factors).values()) == pytest.approx([0, 0, 0, 0, 0], abs=1e-9)


def test_entangled_codes_score_clearly_lower(factors, rotated):
    apart, mixed = every_score(factors, factors), every_score(rotated, factors)
    for name in ("mig", "sap", "D", "C"):
        assert mixed[name] < apart[name] - 0.4, name
    assert mixed["factor_vae"] < apart["factor_vae"] - 0.1


def test_permutation_sign_scale_and_shift_of_latents_change_nothing(factors, rotated):
    rng = np.random.default_rng(7)
    changed = rotated[:, [2, 0, 3, 1]] * [3.0, -0.7, -20.0, 1.0] + [0, 5, -1, 2]
    before, after = every_score(rotated, factors), every_score(changed, factors)
    # thresholds of trees fall between the same codes; which of two equal splits is taken is chance
    assert after == pytest.approx(before, abs=0.02)
    assert before["mig"] == pytest.approx(after["mig"], abs=0.005)
    order = rng.permutation(len(factors))
    assert mig(rotated[order], factors[order]).value == pytest.approx(before["mig"], abs=1e-12)
    assert mig(rotated, factors * 7 - 3).value == pytest.approx(before["mig"], abs=1e-12)


def test_dci_by_hand():
    """Latents are two bits a and b, factors a and the pair (a, b): importances are (1, 0) and by symmetry (½, ½)."""
    bits = np.tile(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), (500, 1))
    pair = 2 * bits[:, 0] + bits[:, 1]
    told = dci(*halves(bits, np.column_stack([bits[:, 0], pair])), trees=400)
    r = np.array([[1, 0.5], [0, 0.5]])
    np.testing.assert_allclose(np.array(told.importance), r, atol=0.04)
    third = 1 + (2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3))
    assert told.disentanglement == pytest.approx(1.5 / 2 * third + 0.5 / 2 * 1, abs=0.03)
    assert told.completeness == pytest.approx((1 + 0) / 2, abs=0.01)
    assert told.informativeness == 1


def test_informativeness_is_measured_on_held_out_images(factors):
    """Codes of the training images that name each image tell nothing of others."""
    rng = np.random.default_rng(9)
    told = dci(rng.normal(size=(3000, 2)), factors, rng.normal(size=(3000, 2)), factors, trees=10, leaf=1)
    assert told.informativeness < 0.35


def test_sap_is_the_gap_in_explained_variance():
    """z1 = v + ε, z2 = v + 2ε: R² is 1 / (1 + σ²) of each."""
    rng = np.random.default_rng(10)
    v = rng.integers(0, 6, (100_000, 1))
    unit = v / v.std()
    codes = np.column_stack([unit + rng.normal(size=v.shape), -unit + 2 * rng.normal(size=v.shape)])
    assert sap(codes, v).value == pytest.approx(1 / 2 - 1 / 5, abs=0.01)


def test_sap_of_a_category_is_the_gap_in_balanced_accuracy():
    """Thresholds find categories whose order along the latent is not that of their numbers; rare ones count as much."""
    rng = np.random.default_rng(11)
    v = rng.choice(3, size=(4000, 1), p=(0.9, 0.05, 0.05))
    place = np.array([0.0, 2.0, 1.0])[v]
    wide = np.column_stack([place + 0.1 * rng.normal(size=v.shape), rng.normal(size=v.shape)])
    assert sap(wide, v, categorical=(0,)).value > 0.55  # 1 against a third and a little
    flipped = np.column_stack([place, np.where(v == 0, rng.integers(0, 2, v.shape), 2)])
    assert sap(flipped, v, categorical=(0,)).value == pytest.approx(1 - 2 / 3, abs=0.01)


def test_a_rare_category_counts_as_much_as_a_common_one():
    """N(0, 1) against N(1, 1), one in twenty: the best threshold is 1/2, where each is told in Φ(1/2) of the cases."""
    rng = np.random.default_rng(14)
    v = (rng.random((40_000, 1)) < 0.05).astype(int)
    codes = np.column_stack([v + rng.normal(size=v.shape), rng.normal(size=v.shape)])
    assert sap(codes, v, categorical=(0,)).value == pytest.approx(0.69146 - 0.5, abs=0.025)


def test_factor_vae_score_sees_through_what_gaps_do_not(factors):
    """A factor in two latents costs gaps everything and votes nothing; collapsed latents take no part."""
    codes = np.column_stack([factors, factors[:, 0], np.random.default_rng(12).normal(size=len(factors)) * 1e-3])
    assert factor_vae_score(codes, factors, active=[True] * 4 + [False]).value == 1
    assert mig(codes, factors).each[0] == pytest.approx(0, abs=1e-9)
    assert sap(codes, factors).each[0] == pytest.approx(0, abs=1e-9)
    merged = (factors / factors.std(0)).sum(1, keepdims=True)
    assert factor_vae_score(merged, factors).value == pytest.approx(1 / 3, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 100.0])
def test_the_unit_of_a_latent_changes_no_vote(factors, rotated, scale):
    unit = np.array([1.0, scale, 1.0, 1 / scale])
    assert factor_vae_score(rotated * unit, factors) == factor_vae_score(rotated, factors)


def test_one_latent_has_no_rival(factors):
    assert mig(factors[:, :1], factors[:, :1]).value == pytest.approx(1)
    told = dci(*halves(factors[:, :1], factors[:, :1]), trees=5)
    assert (told.disentanglement, told.completeness) == (1, 1)


@pytest.mark.parametrize(("codes", "values", "words"), [
    (np.zeros((4, 2)), np.zeros((5, 1), int), "same images"),
    (np.zeros(4), np.zeros((4, 1), int), "same images"),
    (np.full((4, 2), np.nan), np.arange(4)[:, None], "finite"),
    (np.zeros((4, 2)), np.zeros((4, 1), int), "one value"),
    (np.zeros((4, 2)), np.zeros((4, 1)), "whole numbers"),
])
def test_what_cannot_be_scored_is_refused(codes, values, words):
    for score in (mig, sap, factor_vae_score):
        with pytest.raises(UsageError, match=words):
            score(codes, values)


def test_a_category_that_does_not_exist_is_refused(factors):
    with pytest.raises(UsageError, match="from 0 to 2"):
        sap(factors, factors, categorical=(3,))
    with pytest.raises(UsageError, match="columns"):
        dci(factors, factors, factors[:, :2], factors)


@pytest.fixture(scope="module")
def sprites():
    path = Path(__file__).parents[1] / "benchmarks" / "sprites.py"
    spec = importlib.util.spec_from_file_location("sprites", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(sprites):
    factors = sprites.all_factors()
    return factors, sprites.draw(factors)


def test_pictures_are_the_same_every_time_and_all_different(sprites, drawn):
    factors, images = drawn
    assert images.shape == (13_824, 32, 32, 1) and set(np.unique(images)) == {0, 255}
    assert len(factors) == len(np.unique(factors, axis=0)) == np.prod(sprites.LEVELS)
    assert len({image.tobytes() for image in images}) == len(images)
    some = np.random.default_rng(13).choice(len(factors), 200, replace=False)
    np.testing.assert_array_equal(sprites.draw(factors[some]), images[some])


def test_each_factor_moves_what_it_should(sprites, drawn):
    factors, images = drawn
    ink = images[..., 0] / 255
    area = ink.sum((1, 2))
    pixel = np.arange(32) + 0.5
    middle_x, middle_y = ((ink.sum(axis) @ pixel) / area for axis in (1, 2))
    _, scale, _, x, y = factors.T
    inside = np.ones(len(factors), bool)
    inside[[i for i, m in enumerate(ink) if m[0].any() or m[-1].any() or m[:, 0].any() or m[:, -1].any()]] = False
    assert inside.mean() > 0.98
    assert abs(middle_x - sprites.CENTRES[x])[inside].max() < 0.6 and abs(middle_y - sprites.CENTRES[y])[inside].max() < 0.6
    assert abs(middle_x - sprites.CENTRES[x]).mean() < 0.15
    assert abs(area / sprites.SIDES[scale] ** 2 - 1)[inside].max() < 0.25
    for s in range(3):
        mean = [area[(factors[:, 0] == s) & (scale == k)].mean() for k in range(4)]
        np.testing.assert_allclose(mean, sprites.SIDES**2, rtol=0.02)


def test_orientation_turns_the_long_axis_of_an_ellipse(sprites):
    turns = np.array([[1, 3, t, 6, 6] for t in range(8)])
    pixel = np.arange(32) + 0.5
    for image, angle in zip(sprites.draw(turns)[..., 0] / 255, sprites.ANGLES, strict=True):
        y, x = np.nonzero(image)
        dx, dy = pixel[x] - pixel[x].mean(), pixel[y] - pixel[y].mean()
        major = 0.5 * np.arctan2(2 * (dx * dy).mean(), (dx**2).mean() - (dy**2).mean())
        assert abs(np.angle(np.exp(2j * (major - angle)))) / 2 < np.deg2rad(5)
    square, heart = sprites.draw(np.array([[0, 3, 0, 6, 6], [2, 3, 0, 6, 6]]))[..., 0] / 255
    assert square.any(1).sum() == square.any(0).sum() and (square.sum() == square.any(1).sum() ** 2)
    rows = np.flatnonzero(heart.any(1))
    assert heart[rows[:4]].sum() > 1.5 * heart[rows[-4:]].sum()  # stands on its tip
