"""Directions in the latent space and what latents mean, against scipy, scikit-learn, dense Jacobians and simulation."""

from __future__ import annotations

import colorsys
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from reparam.downstream.directions import (
    calibrated,
    edit,
    encoded_again,
    find_direction,
    principal_directions,
    visible_directions,
)
from reparam.downstream.meaning import anova, associations, effect_of, explained, noncentral_f
from reparam.errors import UsageError
from reparam.models.codes import latent_axes
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel


def confounded(n=4000, seed=0):
    """Codes in which `glasses` moves by (2, 0, 0, 1) and `beard` by (0, 3, 0, 0), and men with one often have the other."""
    rng = np.random.default_rng(seed)
    beard = rng.random(n) < 0.5
    glasses = rng.random(n) < np.where(beard, 0.8, 0.2)
    z = rng.normal(size=(n, 4)) + np.outer(glasses, (2, 0, 0, 1)) + np.outer(beard, (0, 3, 0, 0))
    return z, glasses, beard


def test_a_direction_is_the_difference_of_the_groups():
    z, glasses, _ = confounded()
    found = find_direction("glasses", z, glasses)
    assert np.allclose(found.vector, z[glasses].mean(0) - z[~glasses].mean(0))
    assert 0.85 < found.accuracy < 1 and found.interval[0] < found.accuracy < found.interval[1]


def test_what_is_kept_does_not_move():
    z, glasses, beard = confounded()
    found = find_direction("glasses", z, glasses, {"beard": beard})
    assert np.allclose(found.vector, (2, 0, 0, 1), atol=0.15)  # its own effect, and nothing of beards
    balanced, _, worn = confounded_less()
    bearded = LogisticRegression(max_iter=300).fit(balanced, worn)  # of people of whom beards tell nothing else
    a_beard = bearded.coef_[0] @ (0, 3, 0, 0)
    moved = [float(bearded.coef_[0] @ find_direction("glasses", z, glasses, kept).vector / a_beard)
             for kept in (None, {"beard": beard})]
    assert moved[0] > 0.3 and abs(moved[1]) < 0.05


def confounded_less(n=4000):
    """The same people, without the link between the two."""
    rng = np.random.default_rng(5)
    beard, glasses = rng.random(n) < 0.5, rng.random(n) < 0.5
    return rng.normal(size=(n, 4)) + np.outer(glasses, (2, 0, 0, 1)) + np.outer(beard, (0, 3, 0, 0)), glasses, beard


def test_to_keep_one_thing_twice_is_to_keep_it_once():
    z, glasses, beard = confounded()
    once = find_direction("glasses", z, glasses, {"beard": beard}).vector
    for again in (beard, ~beard):
        assert np.allclose(find_direction("glasses", z, glasses, {"beard": beard, "shaved": again}).vector, once, atol=1e-6)


def test_the_moved_are_like_those_who_have_it_and_are_else_the_same():
    rng = np.random.default_rng(3)
    mix = np.array([[1, 0.8, 0], [0, 0.6, 0], [0, 0, 1.0]])  # noise goes along with what the other attribute does
    b = rng.random(20000) < 0.5
    a = rng.random(20000) < np.where(b, 0.9, 0.2)
    z = rng.normal(size=(20000, 3)) @ mix + np.outer(a, (8, 0, 0)) + np.outer(b, (0, 4, 2))
    found, plain = find_direction("a", z, a, {"b": b}), find_direction("a", z, a)
    for bearded in (b, ~b):
        before, wanted = z[~a & bearded], z[a & bearded].mean(0)
        assert np.allclose((before + found.step(before, 1)).mean(0), wanted, atol=0.1)
        assert not np.allclose((before + plain.step(before, 1)).mean(0), wanted, atol=1)


def colours(n=3000, seed=0):
    """Codes of four kinds in a row and one beside it; kinds differ by far more than their noise."""
    centers = np.array([[0, 0, 0], [4, 0, 0], [8, 0.5, 0], [14, 0, 0], [4, 9, 0.0]])
    kind = np.random.default_rng(seed).integers(0, 5, n)
    return centers[kind] + 0.4 * np.random.default_rng(seed + 1).normal(size=(n, 3)), kind


def test_a_step_of_1_leads_from_each_kind_to_the_mean_of_the_wanted_one():
    z, kind = colours()
    center = np.stack([z[kind == k].mean(0) for k in range(5)])
    for k in range(5):
        found = find_direction("k", z, kind == k, kinds=kind)
        for other in range(5):
            step = found.step(z[kind == other], 1)
            assert np.allclose(step, center[k] - center[other], atol=1e-3)  # all by one vector, as each is sure
            assert np.allclose(found.step(z[kind == other], 0.5), step / 2)
        away = found.step(z[kind == k], -1)
        assert np.allclose(away, z[kind != k].mean(0) - center[k], atol=1e-3)
        assert np.allclose(found.step(z[kind != k], -1), 0, atol=1e-3)  # what is not there cannot be taken away
    two = find_direction("0", z, kind == 0)
    assert np.allclose(two.vector, two.beyond) and two.means.shape == (2, 3)
    assert np.allclose(two.step(z, 3) - two.step(z, 1), 2 * two.vector) and np.allclose(two.step(z, 0), 0)


def test_beyond_1_no_other_kind_comes_nearer():
    z, kind = colours()
    center = np.stack([z[kind == k].mean(0) for k in range(5)])
    precision = np.linalg.inv(np.cov((z - center[kind]).T))
    for k in range(5):
        found = find_direction("k", z, kind == k, kinds=kind)
        others = [center[k] - center[j] for j in range(5) if j != k]
        away = optimize.minimize(lambda s, v=found.vector: (s - v) @ precision @ (s - v), np.zeros(3), method="SLSQP",
                                 constraints=[{"type": "ineq", "fun": lambda s, e=e: e @ precision @ s} for e in others])
        assert np.allclose(found.beyond, away.x, atol=0.1)  # of a covariance that is shrunk a little
        seen = ((z[kind != k] + found.step(z[kind != k], 1.5))[:, None] - center)
        assert (np.einsum("nkd,de,nke->nk", seen, precision, seen).argmin(1) == k).all()
    naive = z[kind == 0] + 1.5 * find_direction("1", z, kind == 1).vector
    assert ((naive[:, None] - center) ** 2).sum(2).argmin(1).tolist() != [1] * len(naive)


def test_the_kind_of_an_image_is_told_as_by_a_discriminant():
    z, kind = colours()
    z = z + np.random.default_rng(7).normal(size=z.shape) * 2
    found = find_direction("2", z, kind == 2, kinds=kind)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(z, np.where(kind == 2, -1, kind)).decision_function(z)
    ours = z @ found.normals.T + found.offsets
    assert np.allclose(ours - ours[:, :1], theirs - theirs[:, :1], atol=0.25)
    odds = np.exp(theirs - theirs.max(1, keepdims=True))
    step = found.means[0] - odds / odds.sum(1, keepdims=True) @ found.means
    assert np.abs(found.step(z, 1) - step).mean() < 0.03


def faintly(gain, seed=0):
    """Encodes again what a linear decoder draws, of which the part along `glasses` is `gain` times what it was."""
    axis = np.array([2, 0, 0, 1]) / 5**0.5
    decoder = np.random.default_rng(seed).normal(size=(4, 16))
    return lambda z: (z + (gain - 1) * np.outer(z @ axis, axis)) @ decoder @ np.linalg.pinv(decoder)


@pytest.mark.parametrize("gain", [0.6, 0.8])
def test_a_strength_of_1_is_what_images_show(gain):
    z, glasses, beard = confounded()
    again, found = faintly(gain), find_direction("glasses", z, glasses, {"beard": beard})
    longer = calibrated(found, z[~glasses], again)
    assert longer.shown == pytest.approx(gain, abs=0.02)
    seen = again(z + longer.step(z, 1)) - again(z)
    assert np.allclose(seen, found.step(z, 1), atol=0.12) and np.allclose(longer.step(z, -1), found.step(z, -1))
    shown = calibrated(find_direction("beard", z, beard, {"glasses": glasses}), z[~beard], again)
    assert shown.shown == pytest.approx(1, abs=0.02)  # it is another axis


def test_a_strength_is_made_at_most_twice_as_long_and_never_shorter():
    z, glasses, _ = confounded()
    found = find_direction("glasses", z, glasses)
    for gain, times in ((0.1, 2), (-1, 2), (1.5, 1)):
        assert np.allclose(calibrated(found, z[~glasses], faintly(gain)).step(z, 1), times * found.step(z, 1))
    assert calibrated(found, z[:1] + 100, lambda z: z).shown == 1


def test_few_of_a_kind_are_taken_together():
    z, kind = colours(400)
    rare = np.where(kind == 4, 4 + np.arange(400) % 80, kind)  # one of each, or two
    assert find_direction("0", z, kind == 0, kinds=rare).means.shape == (5, 3)
    assert find_direction("0", z, kind == 0, kinds=np.arange(400)).means.shape == (2, 3)


def test_a_direction_that_means_nothing_is_seen_to():
    rng = np.random.default_rng(1)
    inside = sum(low <= 0.5 <= high for low, high in (
        find_direction("x", rng.normal(size=(120, 3)), rng.random(120) < 0.5).interval for _ in range(60)))
    assert inside >= 51  # 95 %, with folds that are not quite independent


def test_directions_say_what_is_missing():
    z, glasses, _ = confounded(200)
    with pytest.raises(UsageError, match="'hat': 3 images have it and 197 do not"):
        find_direction("hat", z, np.arange(200) < 3)
    with pytest.raises(UsageError, match="cannot be told from beard"):
        find_direction("glasses", z, glasses, {"beard": glasses})


def test_principal_directions_are_those_of_pca():
    z = np.random.default_rng(0).normal(size=(500, 6)) @ np.diag([3, 2, 1, 0.5, 0.2, 0.1])
    vectors, shares = principal_directions(z, 3)
    theirs = PCA(3).fit(z)
    assert np.allclose(np.abs((vectors * theirs.components_).sum(1)), np.sqrt(theirs.explained_variance_ * 499 / 500))
    assert np.allclose(shares, theirs.explained_variance_ratio_)


@pytest.fixture
def model(small):
    vae = small((1, 4, 4), moved=0.3).eval()
    recipe = Recipe(likelihood="gaussian(sigma=0.3)", latent="flat(4)")
    return ImageModel(Sampler(vae), Config(recipe, (1, 4, 4), axes=latent_axes(vae, torch.rand(50, 1, 4, 4))))


@pytest.mark.parametrize("decoder", ["mlp(hidden=(16,))", "resnet(width=8)", "vit(width=16, depth=1, heads=2)"])
def test_visible_directions_are_singular_vectors_of_the_jacobian(small, decoder):
    vae = small((1, 8, 8), moved=0.3, decoder=decoder).eval()
    network = ImageModel(Sampler(vae), Config(Recipe(latent="flat(4)"), (1, 8, 8)))
    codes, std = torch.randn(3, 4), torch.tensor([1.0, 0.5, 2.0, 1.5])
    vectors, sizes = visible_directions(network, codes, std, 2, iterations=30)
    rows = [torch.autograd.functional.jacobian(lambda z: vae.decode(z[None, None]).mean.flatten(), code) for code in codes]
    dense = torch.cat(rows) * std
    _, values, right = torch.linalg.svd(dense, full_matrices=False)
    assert torch.allclose(sizes, values[:2] / len(dense) ** 0.5, rtol=1e-3)
    cosine = ((vectors / std) * right[:2]).sum(1).abs()
    assert torch.allclose(cosine, torch.ones(2), atol=1e-3)


def test_an_edit_of_nothing_is_the_image_and_detail_comes_back(model):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    vector = np.array([1.0, -1.0, 0.5, 2.0])
    assert (edit(model, images, [(vector, 0.0)]) == images).all()
    rebuilt = model.reconstruct(images)
    assert (edit(model, images, [(vector, 0.0)], detail=0.0) == rebuilt).all()
    moved = model.decode(model.encode(images) + (1.5 * vector - 0.5 * vector[::-1]).astype(np.float32))
    both = edit(model, images, [(vector, 1.5), (vector[::-1], -0.5)], detail=0.0)
    assert (both == moved.reshape(images.shape)).all()
    with pytest.raises(UsageError, match="detail"):
        edit(model, images, [(vector, 1.0)], detail=1.5)


def test_codes_of_decoded_images(model):
    z = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert np.allclose(encoded_again(model, z), model.encode(model.decode(z)).reshape(5, 4))


def test_the_benchmark_of_edits_counts_what_is_reached_and_what_else_changes(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    edits = importlib.import_module("downstream_parts.directions")
    assert list(edits.cells(tmp_path, tmp_path)) == ["naive", "kept"]
    before = np.zeros((10, len(edits.FACTORS)), int)
    after = before.copy()
    after[:8, 1] = 3  # hair, as wanted
    after[:1, 0] = 1
    after[8:, 2] = 1
    found = edits.effect(before, after, 1, 3)
    assert (found["reached"], found["worst"], found["most_changed"], found["met"]) == (0.8, "glassesVariant", 0.2, False)
    assert found["changed"]["skinColor"] == 0.1 and "hairColor" not in found["changed"]
    assert edits.effect(before, after * [1, 1, 0, 0, 0, 0], 1, 3)["met"]
    assert not edits.effect(before, after * [1, 1, 0, 0, 0, 0], 1, 2)["met"]


# what latents mean


def test_analysis_of_variance_is_scipys():
    rng = np.random.default_rng(0)
    level = rng.integers(0, 3, 90)
    z = rng.normal(size=(90, 2)) + np.outer(level, (1, 0))
    theirs = [stats.f_oneway(*(column[level == k] for k in range(3))).statistic for column in z.T]
    assert np.allclose(anova(z, level), theirs)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_the_interval_of_what_is_explained_covers_it(share):
    rng = np.random.default_rng(2)
    level, hits, values = np.repeat(np.arange(4), 50), 0, []
    means = np.array([-1.0, 0.0, 0.0, 1.0])
    means *= (share / (1 - share) / means.var()) ** 0.5
    for _ in range(300):
        z = rng.normal(size=(200, 1)) + means[level][:, None]
        value, (low, high) = explained(float(anova(z, level)[0]), 4, 200)
        hits += low <= share <= high
        values.append(value)
    assert 0.92 <= hits / 300 <= 0.985 and np.mean(values) == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize(("f", "a", "b", "nc"), [(560.0, 2, 900, 1100.0), (90.0, 19, 980, 1600.0), (300.0, 9, 9990, 2500.0),
                                               (3000.0, 9, 9990, 26000.0)])
def test_the_noncentral_distribution_far_out_is_that_of_draws(f, a, b, nc):
    rng = np.random.default_rng(0)
    drawn = rng.noncentral_chisquare(a, nc, 200_000) / a / (rng.chisquare(b, 200_000) / b)
    assert noncentral_f(f, a, b, nc) == pytest.approx((drawn <= f).mean(), abs=0.005)


def test_what_explains_nearly_all_has_an_interval():
    value, (low, high) = explained(1e6, 10, 10_000)
    assert 0.99 < low < value < high < 1


def test_associations_find_what_is_there_and_little_else():
    rng = np.random.default_rng(0)
    levels = np.stack([rng.integers(0, 2, 600), rng.integers(0, 5, 600), rng.integers(0, 3, 600)], 1)
    z = rng.normal(size=(600, 8))
    z[:, 3] += levels[:, 0]
    z[:, 5] += (levels[:, 1] - 2) ** 2  # a bend, without a slope
    found = associations(z, levels, ["glasses", "size", "kind"])
    assert len(found) == 24 and [(a.dimension, a.column) for a in found[:2]] == [(5, "size"), (3, "glasses")]
    assert all(a.found for a in found[:2]) and sum(a.found for a in found) <= 4


def scene(x=10, y=10, r=3, hue=0.0, background=0.2):
    image = np.full((24, 24, 3), background)
    rows, columns = np.mgrid[:24, :24]
    image[np.hypot(columns - x, rows - y) <= r] = colorsys.hsv_to_rgb(hue, 1, 1)
    return (255 * image).astype(np.uint8)


def test_effects_of_known_changes():
    assert effect_of(np.stack([scene(), scene(x=14)])).x == pytest.approx(4, abs=0.1)
    assert effect_of(np.stack([scene(), scene(y=6)])).y == pytest.approx(-4, abs=0.1)
    grown = effect_of(np.stack([scene(), scene(r=6)]))
    assert grown.size == pytest.approx((113 - 29) / 576, abs=0.01) and abs(grown.x) < 0.1
    assert effect_of(np.stack([scene(hue=0.1), scene(hue=0.4)])).hue == pytest.approx(108, abs=6)
    lighter = effect_of(np.stack([scene(), scene(background=0.4)]))
    assert lighter.brightness == pytest.approx(0.2 * (576 - 29) / 576, abs=0.01)
    still = effect_of(np.stack([scene(), scene()]))
    assert (still.changed, still.x, still.size, still.hue) == (0, 0, 0, 0) and still.where.shape == (24, 24)
