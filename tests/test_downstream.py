"""What a trained model is used for: probes, search, odd images. Against scikit-learn, brute force and simulation."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist, pdist
from scipy.stats import binom, gaussian_kde
from sklearn.datasets import make_moons
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression

from reparam.data.stream import to_batch
from reparam.downstream import measures, search, smooth
from reparam.downstream.anomaly import Detector, LogDensity, benjamini_hochberg, p_values
from reparam.downstream.classify import _rotated, best_temperature, fit_probe, log_loss, softmax
from reparam.downstream.search import Index
from reparam.downstream.smooth import Graph, Radial, Spread, radial_scores
from reparam.downstream.statistics import Surprise, code_length, code_scale, per_image, rate_and_distortion
from reparam.errors import UsageError
from reparam.models.codes import latent_axes
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel


@pytest.fixture
def model(small):
    """An untrained model of 4×4 images with one channel."""
    vae = small((1, 4, 4), moved=0.3).eval()
    recipe = Recipe(likelihood="gaussian(sigma=0.3)", latent="flat(4)")
    return ImageModel(Sampler(vae), Config(recipe, (1, 4, 4), axes=latent_axes(vae, torch.rand(50, 1, 4, 4))))


def blobs(n, classes=3, dims=5, seed=0, apart=3.0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, apart, (classes, dims))
    y = rng.integers(0, classes, n)
    return centres[y] + rng.normal(0, 1, (n, dims)), y


# probes


@pytest.mark.parametrize("kind", ["linear", "discriminant", "kernel", "neighbours", "spread", "mlp"])
def test_a_probe_of_each_kind_learns_and_holds_arrays_alone(kind):
    (x, y), (held_x, held_y) = blobs(400), blobs(300, seed=1)
    probe = fit_probe(x, y + 10, kinds=(kind,))
    assert probe.kind == kind and list(probe.classes) == [10, 11, 12]
    assert (probe.predict(held_x) == held_y + 10).mean() > 0.95
    assert np.allclose(probe.probabilities(held_x).sum(1), 1)
    assert all(np.issubdtype(np.asarray(a).dtype, np.number) for a in probe.arrays.values())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["linear", "discriminant"])
def test_a_probe_is_scikit_learns(classes, kind):
    x, y = blobs(200, classes, apart=0.7)
    x = x * np.arange(1, 6)
    probe = fit_probe(x, y, kinds=(kind,))
    said, scaling = min(probe.cross_validated, key=lambda name: probe.cross_validated[name])[:-1].rsplit(", ", 1)
    z = (x - x.mean(0)) / (x.std(0) if scaling == "each" else x.var(0).mean() ** 0.5)
    if kind == "discriminant":
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    else:
        theirs = LogisticRegression(C=float(said.split("=")[1]), max_iter=200)
    logits = np.log(theirs.fit(z, y).predict_proba(z)) / float(probe.arrays["temperature"])
    assert np.allclose(probe.probabilities(x), softmax(logits), atol=1e-5)


@pytest.mark.parametrize("shape", ["laplace", "gauss"])
def test_radial_functions_are_scikit_learns_ridge_and_their_held_out_scores_those_of_refitting(shape):
    z, y = blobs(60, 3, apart=0.7)
    target = np.eye(3)[y]
    model = Radial(shape, 1.0, 0.1)

    def theirs(rows, at):
        distance = cdist(z, z) / np.median(pdist(z))
        k = np.exp(-distance) if shape == "laplace" else np.exp(-(distance**2) / 2)
        fitted = KernelRidge(alpha=0.1, kernel="precomputed").fit(k[np.ix_(rows, rows)], target[rows] - target.mean(0))
        return fitted.predict(k[np.ix_(at, rows)]) + target.mean(0)

    rows = np.arange(60)
    assert np.allclose(radial_scores(z, model.learn(z, y, 0)), theirs(rows, rows))
    held_out = [theirs(np.delete(rows, i), [i])[0] for i in rows]
    assert np.allclose(model.held_out(z, y, 0), held_out)


def test_radial_functions_on_some_of_the_codes_are_near_those_on_all(monkeypatch):
    z, y = blobs(400, 3, dims=2, apart=0.7)
    model = Radial("gauss", 1.0, 0.1)
    exact = radial_scores(z, model.learn(z, y, 0))
    monkeypatch.setattr(smooth, "LANDMARKS", 100)
    learned = model.learn(z, y, 0)
    assert len(learned["landmarks"]) == 100 and np.abs(radial_scores(z, learned) - exact).mean() < 0.005


def test_a_blend_multiplies_the_probabilities_of_its_parts():
    x, y = blobs(200, 3, apart=0.7)
    given = np.where(np.arange(200) < 60, y, -1)
    both, kernel, spread = (fit_probe(x, given, kinds=kinds) for kinds in (("kernel", "spread"), ("kernel",), ("spread",)))
    product = (kernel.probabilities(x) * spread.probabilities(x)) ** (1 / float(both.arrays["temperature"]))
    assert both.kind == "blend"
    assert np.allclose(both.probabilities(x), product / product.sum(1, keepdims=True))


def test_labels_spread_as_in_the_closed_form():
    x, y = blobs(120, 3, dims=2, apart=2)
    distance = cdist(x, x)
    order = distance.argsort(1)[:, 1:11]
    radius = distance[np.arange(120), order[:, -1]]
    w = np.zeros((120, 120))
    for i in range(120):
        w[i, order[i]] = np.exp(-(distance[i, order[i]] ** 2) / (radius[i] * radius[order[i]]))
    w = np.maximum(w, w.T)
    s = w / np.sqrt(np.outer(w.sum(1), w.sum(1)))
    start = np.zeros((120, 3))
    start[np.arange(12), y[:12]] = 1
    f = np.linalg.inv(np.eye(120) - 0.9 * s) @ start
    f = f * start.sum(0) / f.sum(0)
    found = Spread(0.9).shares(Graph.of(x), y[:12], np.arange(12))
    assert np.allclose(found, f / f.sum(1, keepdims=True), atol=2e-3)


def test_one_label_for_each_of_two_moons_tells_all_of_both():
    x, y = make_moons(800, noise=0.05, random_state=0)
    seen = np.array([np.flatnonzero(y == k)[0] for k in (0, 1)])
    given = np.full(600, -1)
    given[seen] = y[seen]
    probe = fit_probe(x[:600], given)
    assert probe.kind == "spread" and not probe.cross_validated
    assert (probe.predict(x[600:]) == y[600:]).mean() > 0.97
    assert (fit_probe(x[seen], y[seen]).predict(x[600:]) == y[600:]).mean() < 0.9


def test_codes_in_more_numbers_than_rows_are_compared_by_their_products():
    x, y = blobs(30, 3, dims=200, apart=0.2)
    z = _rotated(x)
    assert z.shape == (30, 30) and np.allclose(z @ z.T, x @ x.T)
    assert (fit_probe(x, y).predict(x) == y).mean() > 0.9


def test_one_image_of_a_class_is_learned_from_and_not_tested_with():
    x, y = blobs(40, 3)
    few = np.concatenate([np.flatnonzero(y == k)[:1] for k in range(3)])
    alone = fit_probe(x[few], y[few])
    assert alone.kind == "linear" and not alone.cross_validated
    assert (alone.predict(x) == y).mean() > 0.8
    rare = np.concatenate([np.flatnonzero(y < 2), few[2:]])
    assert (fit_probe(x[rare], y[rare]).predict(x) == y).mean() > 0.8


def test_codes_without_a_label_count_for_their_mean():
    x, y = blobs(60, 3)
    x *= np.array([1, 1, 1, 1, 50])
    some = np.where(np.arange(60) < 20, y, -1)
    probe = fit_probe(x, some)
    assert np.allclose(probe.arrays["mean"], x.mean(0)) and list(probe.classes) == [0, 1, 2]


def test_the_best_candidate_by_cross_validation_is_taken():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (500, 2))
    y = (np.hypot(*x.T) > 0.7).astype(int)  # a ring, which no line tells
    probe = fit_probe(x, y)
    best = min(probe.cross_validated, key=lambda k: probe.cross_validated[k])
    assert probe.kind != "linear" and best.startswith(probe.kind)


def test_temperature_undoes_a_known_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    p = softmax(logits)
    y = (p.cumsum(1) > rng.random((4000, 1))).argmax(1)
    assert best_temperature(3.0 * logits, y) == pytest.approx(3.0, rel=0.1)
    assert log_loss(p, y) == pytest.approx(-np.log(p[np.arange(4000), y]).mean())


def test_a_probe_says_what_is_missing():
    with pytest.raises(UsageError, match="at least two classes"):
        fit_probe(np.zeros((4, 2)), [1, 1, 1, 1])


# search


@pytest.mark.parametrize(("n", "k"), [(50, 50), (3000, 5), (3001, 1)])
def test_search_is_brute_force(n, k, monkeypatch):
    monkeypatch.setattr(search, "GROUP", 16)
    monkeypatch.setattr(search, "QUERIES", 7)
    rng = np.random.default_rng(0)
    v, q = rng.normal(size=(n, 6)).astype(np.float32), rng.normal(size=(20, 6)).astype(np.float32)
    found = Index.of(v).search(q, k)
    distance = np.linalg.norm(q[:, None] - v, axis=2)
    assert (found.rows == distance.argsort(1)[:, :k]).all()
    assert np.allclose(found.distance, np.sort(distance, 1)[:, :k], atol=1e-3)


def test_search_refuses_what_does_not_fit():
    index = Index.of(np.zeros((5, 3)))
    with pytest.raises(UsageError, match="from 1 to as many"):
        index.search(np.zeros((1, 3)), 6)
    with pytest.raises(UsageError, match=r"\(n, 3\)"):
        index.search(np.zeros((1, 4)), 1)
    with pytest.raises(UsageError, match="vectors"):
        Index.of(np.zeros(5))


# statistics of single images


def test_an_image_counts_alone(model):
    x = torch.rand(6, 1, 4, 4)
    together = rate_and_distortion(model, x)
    assert np.allclose(together[3:4], rate_and_distortion(model, x[3:4]), rtol=1e-5)
    assert together.shape == (6, 2) and (together[:, 0] >= 0).all()


def test_rate_and_distortion_add_up_to_the_bound(model):
    x = torch.rand(5, 1, 4, 4)
    bound = rate_and_distortion(model, x, samples=4000).sum(1)
    single = np.stack([-model.score_pixels(x, samples=1, seed=s).numpy() for s in range(300)])
    assert (np.abs(bound - single.mean(0)) < 5 * single.std(0) / 300**0.5).all()
    means = per_image(model, x, lambda trace: trace.px.mean.mean()[None], samples=2)
    assert means.shape == (5, 1)


def test_code_length_is_that_of_the_shorter_file():
    noise = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    flat = np.full((1, 16, 16, 3), 90, np.uint8)
    lengths = []
    for form, options in (("PNG", {"optimize": True}), ("WEBP", {"lossless": True, "quality": 100})):
        file = io.BytesIO()
        Image.fromarray(noise[0]).save(file, form, **options)
        lengths.append(len(file.getvalue()))
    assert code_length(noise)[0] == pytest.approx(min(lengths) * 8 * math.log(2))
    assert code_length(flat)[0] < code_length(noise)[0] / 5
    assert code_length(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2,)


def test_surprise_is_where_the_patch_is():
    usual = torch.rand(200, 12, 12) * torch.linspace(0.1, 1, 12)
    odd = usual[:1].clone()
    odd[0, 2:6, 1:5] += 3.0
    where = Surprise.fit(usual).map(torch.cat([usual[1:2], odd]))
    row, column = divmod(int(where[1].argmax()), 12)
    assert 1 <= row <= 6 and 0 <= column <= 5
    assert where[0].max() < 3 < where[1].max()


def test_noise_hardly_counts_in_distances(model):
    rows, scale = code_scale(model)
    nats = {axis.index: axis.nats for axis in model.config.axes}
    std = {axis.index: axis.std for axis in model.config.axes}
    assert np.allclose((scale * [std[int(r)] for r in rows]) ** 2, [1 - math.exp(-2 * nats[int(r)]) for r in rows])


# odd images


def test_the_log_density_is_a_kernel_estimate():
    x = np.random.default_rng(0).normal(size=300)
    density = LogDensity.fit(x)
    theirs = gaussian_kde(x, bw_method=density.width / x.std(ddof=1))
    at = np.linspace(-2, 2, 9)
    assert np.allclose(density(at), theirs.logpdf(at))
    assert np.isfinite(density(np.array([1e3]))).all()


def test_benjamini_and_hochberg_hold_their_rate():
    rng = np.random.default_rng(0)
    wrong, total = [], []
    for _ in range(400):
        p = np.concatenate([rng.random(80), rng.random(20) * 1e-3])
        found = benjamini_hochberg(p, 0.1)
        wrong.append(found[:80].sum() / max(found.sum(), 1))
        total.append(found[80:].mean())
    assert np.mean(wrong) == pytest.approx(0.08, abs=0.015) and np.mean(total) > 0.95  # 0.1 · 80 / 100
    assert not benjamini_hochberg(np.ones(5), 0.1).any() and not benjamini_hochberg(np.zeros(0), 0.1).any()


def test_odd_images_are_told_and_usual_ones_are_not(model):
    rng = np.random.default_rng(0)

    def usual(n):
        level = rng.integers(60, 200, (n, 1, 1, 1))
        return (level + rng.integers(-12, 12, (n, 4, 4, 1))).clip(0, 255).astype(np.uint8)

    detector = Detector.fit(model, usual(200), usual(400))
    clean, odd = detector.judge(usual(400)), detector.judge(rng.choice([0, 255], (30, 4, 4, 1)).astype(np.uint8))
    low, high = binom.ppf([0.0005, 0.9995], 400, 0.1)
    assert low / 400 - 0.05 <= (clean.p_value <= 0.1).mean() <= high / 400 + 0.05
    assert (odd.p_value < 0.02).all() and odd.found().all() and odd.where.shape == (30, 4, 4)
    assert clean.statistics.shape == (400, 5)
    with pytest.raises(UsageError, match="too few"):
        Detector.fit(model, usual(50), usual(10))


def test_p_values_of_one_law_are_even(model):
    rng = np.random.default_rng(0)
    scores, calibration = rng.normal(size=5).round(1), rng.normal(size=30).round(1)
    assert np.allclose(p_values(scores, calibration), [(1 + (calibration >= s).sum()) / 31 for s in scores])
    low = [(p_values(rng.normal(size=50), rng.normal(size=99)) <= 0.1).mean() for _ in range(2000)]
    assert np.mean(low) == pytest.approx(0.1, abs=0.003)


def test_each_statistic_has_a_p_value_and_those_chosen_add_up(model):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 4, 4, 1), np.uint8)
    detector = Detector.fit(model, images[:50], images[50:250], ("rate", "distortion", "typicality"))
    judged, one = detector.judge(images[250:]), detector.judge(images[250:], ("distortion",))
    assert np.allclose(one.surprisal[:, 0], judged.surprisal[:, 1]) and np.allclose(judged.score, judged.surprisal.sum(1))
    assert np.array_equal(one.p_value, judged.p_values[:, 1]) and np.array_equal(one.p_values[:, 0], one.p_value)
    usual = rate_and_distortion(model, to_batch(images[50:250][::2])).sum(1).mean()
    bound = rate_and_distortion(model, to_batch(images[250:])).sum(1)
    assert np.allclose(judged.statistics[:, 2], np.abs(bound - usual), rtol=1e-4)
    below = (detector.calibration[:, None, 0] < judged.statistics[:, 0]).mean(0)
    assert np.allclose(judged.percentiles[:, 0], below) and len(detector.calibration) == 100


def test_features_are_compared_with_those_of_training_images(model, monkeypatch, tmp_path):
    monkeypatch.setattr(measures, "image_features", lambda x, device: 2 * x.flatten(1))  # whose length is no matter
    images = np.random.default_rng(0).integers(0, 256, (150, 4, 4, 1), np.uint8)
    Detector.fit(model, images[:50], images[50:110], ("features",)).save(tmp_path / "kept.safetensors")
    judged = Detector.load(tmp_path / "kept.safetensors", model, again="").judge(images[110:])
    flat = images.reshape(150, -1) / np.linalg.norm(images.reshape(150, -1).astype(float), axis=1, keepdims=True)
    distance = np.linalg.norm(flat[110:, None] - flat[:50], axis=2)
    assert np.allclose(judged.statistics[:, 0], np.sort(distance, 1)[:, 4], rtol=2e-3)
