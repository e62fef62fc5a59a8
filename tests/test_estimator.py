"""The scikit-learn face: its own checks, pipelines and searches, layouts and scales, seeds and limits."""

from __future__ import annotations

import contextlib
import inspect
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import check_methods_subset_invariance, parametrize_with_checks

from reparam.errors import UsageError
from reparam.estimator import ImageVAE, ImageVAEClassifier
from reparam.models.build import build_model
from reparam.parts.recipe import Recipe

QUICK = {"latent_dim": 2, "encoder": "mlp((16,))", "decoder": "mlp((16,))", "fitted_prior": "none", "random_state": 0}


@parametrize_with_checks([ImageVAE(latent_dim=2, steps=3)])
def test_scikit_learns_own_checks(estimator, check, monkeypatch):
    monkeypatch.setattr("reparam.trainer.stages.prior.CODES", 1000)  # the checks fit a hundred times
    check(estimator)


FEW_STEPS = ImageVAE(latent_dim=8, steps=20, optimizer="adam(lr=2e-2)", objective="nll + 0.01*kl", encoder="mlp((16,))",
                     decoder="mlp((16,))", fitted_prior="none", random_state=0)


@parametrize_with_checks([ImageVAEClassifier(FEW_STEPS, random_state=0)])
def test_scikit_learns_own_checks_of_the_classifier(estimator, check):
    check(estimator)


def test_what_is_said_of_an_image_does_not_depend_on_its_company():
    """To rounding, in a network of the default's size, whose matrix products round by the number of rows."""
    check_methods_subset_invariance("ImageVAE", ImageVAE(epochs=2, fitted_prior="none"))


@pytest.fixture(scope="module")
def digits():
    """(n, 64) floats from 0 to 16, and labels."""
    data = load_digits()
    return data.data, data.target


@pytest.fixture(scope="module")
def levels(digits):
    """uint8 (300, 8, 8)."""
    return (digits[0][:300].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)


# Among other estimators


def test_a_pipeline_learns_the_digits(digits):
    x, y = digits
    vae = ImageVAE(latent_dim=16, steps=400, optimizer="adam(lr=5e-3)", objective="nll + 0.1*kl", random_state=0,
                   fitted_prior="none")
    pipeline = make_pipeline(StandardScaler(), vae, LogisticRegression(max_iter=2000))
    pipeline.fit(x[:1200], y[:1200])
    assert pipeline.score(x[1200:], y[1200:]) > 0.6  # by chance: 0.1
    assert list(pipeline[:-1].get_feature_names_out()) == [f"imagevae{i}" for i in range(16)]


def test_a_grid_search_chooses_by_the_score(digits):
    vae = ImageVAE(steps=150, optimizer="adam(lr=1e-2)", **QUICK)
    search = GridSearchCV(vae, {"latent_dim": [1, 8]}, cv=2).fit(digits[0][:400])
    scores = dict(zip([p["latent_dim"] for p in search.cv_results_["params"]], search.cv_results_["mean_test_score"],
                      strict=True))
    assert scores[8] > scores[1] and search.best_params_ == {"latent_dim": 8}
    assert np.isfinite(list(scores.values())).all()
    assert search.best_estimator_.transform(digits[0][:3]).shape == (3, 8)


# Classes


def _digit_vae():
    return ImageVAE(latent_dim=16, steps=400, optimizer="adam(lr=5e-3)", objective="nll + 0.1*kl", fitted_prior="none",
                    random_state=0)


def test_a_classifier_learns_the_digits_by_their_names(digits):
    x, names = digits[0] / 16, np.array([f"digit {k}" for k in range(10)])[digits[1]]
    model = ImageVAEClassifier(_digit_vae(), random_state=0).fit(x[:1200], names[:1200])
    assert model.classes_.tolist() == sorted(set(names))
    assert model.score(x[1200:], names[1200:]) > 0.85  # by chance: 0.1
    p = model.predict_proba(x[1200:])
    assert p.shape == (597, 10) and np.allclose(p.sum(1), 1)
    assert (model.classes_[p.argmax(1)] == model.predict(x[1200:])).all()


def test_images_without_a_label_are_learned_from(digits):
    x, y = digits[0] / 16, digits[1]
    few = np.where(np.arange(len(y)) < 100, y, -1)
    model = ImageVAEClassifier(_digit_vae(), unlabelled=-1, random_state=0).fit(torch.from_numpy(x), torch.from_numpy(few))
    assert model.classes_.tolist() == list(range(10)) and model.score(x[1000:], y[1000:]) > 0.7
    words = np.where(few < 0, "", few.astype(str))
    named = ImageVAEClassifier(_digit_vae(), unlabelled="", random_state=0).fit(x, words)
    assert (named.predict(x[1000:]) == model.predict(x[1000:]).astype(str)).all()
    alone = ImageVAE(**_digit_vae().get_params()).fit(x)
    assert np.array_equal(model.vae_.transform(x[:50]), alone.transform(x[:50]))  # it saw all images


def test_a_search_chooses_the_autoencoder_and_the_probe_of_a_pipeline(digits):
    x, y = digits[0][:400], digits[1][:400]
    pipeline = make_pipeline(MinMaxScaler(), ImageVAEClassifier(clone(FEW_STEPS).set_params(steps=150), random_state=0))
    grid = {"imagevaeclassifier__vae__latent_dim": [1, 8], "imagevaeclassifier__probe": ["linear", "discriminant"]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(x, y)
    assert search.best_params_["imagevaeclassifier__vae__latent_dim"] == 8 and search.best_score_ > 0.5
    best = search.best_estimator_[-1]
    assert best.probe_.kind == search.best_params_["imagevaeclassifier__probe"] and best.vae_.transform(x).shape == (400, 8)


def test_labels_and_probes_that_do_not_fit_are_refused_in_words(levels, digits):
    y = digits[1][:40]
    for change, labels, said in [({}, np.zeros(40, int), "y has 1 class"),
                                 ({"unlabelled": -1}, np.full(40, -1), "y has no class"),
                                 ({"probe": "liner"}, y, "did you mean 'linear'"), ({"probe": "mlp"}, y, "take linear"),
                                 ({}, np.linspace(0, 1, 40), "continuous")]:
        with pytest.raises(ValueError, match=said):
            ImageVAEClassifier(FEW_STEPS, **change).fit(levels[:40], labels)


# Parameters


def test_every_field_of_a_recipe_is_a_parameter():
    names = {f.name for f in fields(Recipe)}
    assert names < ImageVAE().get_params().keys()
    assert set(ImageVAE().get_params()) == names | {"latent_dim", "preset", "value_range", "random_state", "device"}
    assert set(inspect.signature(ImageVAE.__init__).parameters) == set(ImageVAE().get_params()) | {"self"}
    vae = ImageVAE(latent_dim=3, prior="flow", clip=1.0).set_params(ema=0.5)
    copy = clone(vae).get_params()
    assert copy == vae.get_params() and (copy["prior"], copy["clip"], copy["ema"]) == ("flow", 1.0, 0.5)


def test_parameters_reach_the_recipe(levels):
    changes = {"objective": "nll + 0.5*kl", "optimizer": "adamax(lr=1e-4)", "likelihood": "laplace", "batch_size": 17,
               "accumulate": 1, "steps": 2, "clip": 0.0, "prior": "flow(2, hidden=8)", "seed": 9}
    vae = ImageVAE(**(QUICK | {"random_state": None}), **changes).fit(levels[:40])
    recipe = vae.model_.config.recipe
    assert {k: getattr(recipe, k) for k in changes} == changes
    assert recipe.latent == "flat(2)" and recipe.encoder == "mlp((16,))"
    assert recipe.schedule == "constant" and recipe.ema == 0  # the preset's


# Layouts and scales


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (64,), (60,), (6, 9)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_images_come_back_in_the_layout_and_type_of_fit(shape, dtype):
    x = np.random.default_rng(0).integers(0, 256, (40, *shape))
    x = x.astype(dtype) if dtype == np.uint8 else (x / 255).astype(dtype)
    vae = ImageVAE(steps=2, **QUICK).fit(x)
    z = vae.transform(x)
    assert z.shape == (40, 2) and z.dtype == (np.float64 if dtype == np.float64 else np.float32)
    for back in (vae.inverse_transform(z), vae.reconstruct(x), vae.sample(40)):
        assert back.shape == x.shape and back.dtype == dtype and np.isfinite(back).all()
    assert vae.score_samples(x).shape == (40,) and vae.score_samples(x).dtype == np.float64
    assert vae.score(x) == pytest.approx(vae.score_samples(x).mean())


def test_reconstructions_resemble_their_images(levels):
    vae = ImageVAE(latent_dim=16, steps=400, random_state=0, fitted_prior="none").fit(levels)
    back = vae.inverse_transform(vae.transform(levels))
    assert back.shape == levels.shape and back.dtype == np.uint8
    error = ((back.astype(float) - levels) ** 2).mean()
    assert error < 0.6 * ((levels - levels.mean(0)) ** 2).mean()


def test_other_floats_are_mapped_to_the_range_of_fit_and_back(digits):
    x = digits[0][:300]
    kept = {"steps": 150, "optimizer": "adam(lr=3e-3)", **QUICK, "latent_dim": 8}
    plain = ImageVAE(**kept).fit(x / 16)
    moved = ImageVAE(**kept).fit(x * 10 - 40)
    np.testing.assert_allclose(moved.transform(x * 10 - 40), plain.transform(x / 16), atol=1e-4)
    np.testing.assert_allclose(moved.reconstruct(x * 10 - 40), plain.reconstruct(x / 16) * 160 - 40, atol=0.05)
    assert np.abs(moved.sample(50).mean() - (x * 10 - 40).mean()) < 15


def test_scores_are_densities_per_unit_of_the_input(digits):
    """The same pictures in tenfold units are less dense by 10 in each dimension."""
    x = digits[0][:200]
    a = ImageVAE(steps=5, **QUICK).fit(x)
    b = ImageVAE(steps=5, **QUICK).fit(10 * x)
    difference = b.score_samples(10 * x) - a.score_samples(x)
    np.testing.assert_allclose(difference, -64 * math.log(10), rtol=1e-4)
    unit = ImageVAE(steps=5, **QUICK).fit(x / 16)
    np.testing.assert_allclose(a.score_samples(x) - unit.score_samples(x / 16), -64 * math.log(16), rtol=1e-4)
    # a shift changes no density
    shifted = ImageVAE(steps=5, **QUICK).fit(x - 100)
    np.testing.assert_allclose(shifted.score_samples(x - 100), a.score_samples(x), rtol=1e-4)


def test_probabilities_have_no_unit(levels):
    """Discrete likelihoods, and densities of uint8 on [0, 1], are left as they are."""
    for likelihood in ("bernoulli", "logistic(2)"):
        vae = ImageVAE(steps=2, likelihood=likelihood, **QUICK).fit(levels * 2.0 / 255)
        direct = vae.model_.score(levels.astype(np.float32) / 255)
        np.testing.assert_allclose(vae.score_samples(levels * 2.0 / 255), direct, rtol=1e-3)
    vae = ImageVAE(steps=2, **QUICK).fit(levels)
    np.testing.assert_allclose(vae.score_samples(levels), vae.model_.score(levels), rtol=1e-5)


def test_constant_images_do_not_divide_by_zero():
    vae = ImageVAE(steps=2, **QUICK).fit(np.full((20, 16), 7.0))
    assert np.isfinite(vae.score_samples(np.full((3, 16), 7.0))).all()


def test_images_of_another_shape_are_refused(levels):
    vae = ImageVAE(steps=1, **QUICK).fit(levels)
    with pytest.raises(ValueError, match="7 features"):
        vae.transform(levels[:, :7])
    with pytest.raises(UsageError, match=r"shape \(8, 7\), but fit saw \(8, 8\)"):
        vae.transform(levels[:, :, :7])


def test_levels_are_levels_in_either_type(levels):
    on_levels = ImageVAE(steps=5, **QUICK).fit(levels)
    z = on_levels.transform(levels)
    np.testing.assert_allclose(on_levels.transform(levels.astype(np.float64)), z, atol=1e-5)
    on_floats = ImageVAE(steps=5, **QUICK).fit(levels / 255)
    np.testing.assert_allclose(on_floats.transform(levels / 255), z, atol=1e-5)
    np.testing.assert_allclose(on_floats.transform(levels), z, atol=1e-5)


# Seeds and limits


def test_random_state_decides_everything_random(levels):
    kept = {"steps": 5, **QUICK, "fitted_prior": "mixture(2)"}
    a, b = (ImageVAE(**kept).fit(levels) for _ in range(2))
    other = ImageVAE(**(kept | {"random_state": 1})).fit(levels)
    assert np.array_equal(a.transform(levels), b.transform(levels)) and a.loss_curve_ == b.loss_curve_
    assert np.array_equal(a.sample(5), b.sample(5)) and np.array_equal(a.sample(5), a.sample(5))
    assert np.array_equal(a.score_samples(levels), b.score_samples(levels))
    assert not np.allclose(a.transform(levels), other.transform(levels), atol=1e-3)
    assert not np.array_equal(a.sample(5), other.sample(5))


def test_a_random_state_goes_on_from_draw_to_draw(levels):
    vae = ImageVAE(**(QUICK | {"random_state": np.random.RandomState(0)}), steps=2).fit(levels)
    assert not np.array_equal(vae.sample(5), vae.sample(5))


def test_fitting_leaves_torchs_random_numbers_alone(levels):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    vae = ImageVAE(steps=2, **(QUICK | {"fitted_prior": "mixture(2)"})).fit(levels)
    vae.inverse_transform(vae.transform(levels))
    vae.score(levels)
    vae.sample(2)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("augment", ["none", "nonsense"])
def test_fitting_leaves_the_number_of_threads_alone(levels, augment):
    before = torch.get_num_threads()
    try:
        with contextlib.suppress(UsageError):
            ImageVAE(steps=2, threads=before + 1, augment=augment, **QUICK).fit(levels)
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("made", "given", "steps"), [
    ({"epochs": 2}, {}, 20), ({"epochs": 2}, {"epochs": 3}, 30), ({}, {"epochs": 1}, 10),
    ({"epochs": 2}, {"batch_size": 60}, 10), ({}, {"epochs": 1, "batch_size": 300}, 1), ({}, {"epochs": 0.25}, 3),
    ({}, {}, 100), ({"steps": 7}, {}, 7), ({"steps": 7, "epochs": 5}, {}, 7), ({"batch_size": 1000, "epochs": 2}, {}, 2),
    ({"epochs": 1, "batch_size": 64}, {}, 5),
], ids=str)
def test_epochs_and_batch_size_decide_the_steps(levels, made, given, steps):
    vae = ImageVAE(**({"batch_size": 30} | made), **QUICK).fit(levels, **given)
    assert vae.n_iter_ == steps == len(vae.loss_curve_)
    assert vae.get_params()["epochs"] == made.get("epochs") and np.isfinite(vae.loss_curve_).all()


def test_the_loss_falls(levels):
    curve = ImageVAE(steps=100, optimizer="adam(lr=3e-3)", **QUICK).fit(levels).loss_curve_
    assert np.mean(curve[-10:]) < np.mean(curve[:10]) - 10


def test_wrong_words_are_told(levels):
    for wrong, text in (({"latent": "flat(3)"}, "latent_dim or latent"), ({"preset": "mlpp"}, "did you mean 'mlp'"),
                        ({"prior": "flwo"}, "did you mean 'flow'"), ({"steps": 0}, "steps must be above 0")):
        with pytest.raises(UsageError, match=text):
            ImageVAE(**(QUICK | wrong)).fit(levels)
    for method in ("transform", "inverse_transform", "score_samples", "reconstruct", "score"):
        with pytest.raises(NotFittedError):
            getattr(ImageVAE(), method)(levels)
    with pytest.raises(NotFittedError):
        ImageVAE().sample()


def test_the_model_that_remains_is_the_trained_one(levels):
    """What `transform` uses is the model's own encoder, moved off its start."""
    vae = ImageVAE(steps=30, seed=4, **QUICK).fit(levels)
    x = torch.from_numpy(levels).float()[:, None] / 255
    with torch.no_grad():
        np.testing.assert_allclose(vae.transform(levels), vae.model_.vae.encode(x).numpy(), atol=1e-5)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        start = build_model(vae.model_.config.recipe, (1, 8, 8))
    trained = vae.model_.vae.state_dict()
    weight = "decoder.net.1.weight"
    assert start.state_dict().keys() == trained.keys() and not torch.allclose(start.state_dict()[weight], trained[weight])
    assert (start.state_dict()[weight] - trained[weight]).abs().max() < 0.2


# What holds the numbers


RAMP = np.stack([np.roll(np.tile(np.linspace(0, 1, 8), (8, 1)), i, i % 2) for i in range(40)])


def codes(x, **changes):
    vae = ImageVAE(steps=20, **(QUICK | changes)).fit(x)
    return vae, vae.transform(x)


@pytest.mark.parametrize("given", [
    lambda x: torch.tensor(x), lambda x: torch.tensor(x, requires_grad=True), lambda x: torch.tensor(x).double(),
    lambda x: x.tolist(), lambda x: [*torch.tensor(x)], lambda x: x.astype(np.float64), lambda x: torch.tensor(x).bfloat16(),
    lambda x: x.astype(np.float16), lambda x: tuple(x),
], ids=["tensor", "with gradient", "double", "list", "list of tensors", "float64", "bfloat16", "float16", "tuple"])
def test_the_same_numbers_have_the_same_codes_whatever_holds_them(given):
    x = (RAMP * 16).round().astype(np.float32) / 16  # exact in every type
    (_, expected), (vae, z) = codes(x), codes(given(x))
    np.testing.assert_allclose(z, expected, atol=2e-6)
    back = vae.reconstruct(given(x))
    assert isinstance(back, np.ndarray) and back.shape == x.shape and back.dtype.kind == "f"
    np.testing.assert_allclose(vae.score_samples(given(x)), vae.score_samples(x), rtol=1e-4)


@pytest.mark.parametrize(("dtype", "low", "high"), [
    (np.int16, -1000, 1000), (np.int32, 0, 4095), (np.int64, -3, 300), (np.uint16, 0, 65535), (np.uint32, 5, 10),
    (np.int8, 0, 100)])
def test_whole_numbers_are_the_numbers_that_they_are(dtype, low, high):
    x = (RAMP * (high - low) + low).round().astype(dtype)
    (vae, z), (floats, expected) = codes(x), codes(x.astype(np.float32))
    np.testing.assert_allclose(z, expected, atol=1e-6)
    back, exact = vae.reconstruct(x), floats.reconstruct(x.astype(np.float32))
    assert back.dtype == dtype
    np.testing.assert_allclose(back, exact.clip(np.iinfo(dtype).min, np.iinfo(dtype).max), atol=1 + 1e-6 * high)
    np.testing.assert_allclose(vae.score_samples(x), floats.score_samples(x.astype(np.float32)), rtol=1e-5)


def test_truth_values_are_black_and_white():
    (vae, z), (_, expected) = codes(RAMP > 0.5), codes((RAMP > 0.5).astype(np.float32))
    np.testing.assert_allclose(z, expected, atol=1e-6)
    assert vae.reconstruct(RAMP > 0.5).dtype == np.float32
    binary = ImageVAE(steps=3, likelihood="bernoulli", **QUICK).fit(torch.tensor(RAMP > 0.5))
    assert 0 <= binary.sample(3).min() <= binary.sample(3).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_a_stated_range_is_the_range_and_what_lies_beyond_is_refused(dtype):
    x = (RAMP * 60 + 20).round().astype(dtype)
    vae, z = codes(x, value_range=(0, 100))
    np.testing.assert_allclose(z, codes(x.astype(np.float32) / 100)[1], atol=1e-5)
    assert vae.sample(2).dtype == dtype and 0 < vae.reconstruct(x).mean() < 100
    beyond = x.copy()
    beyond[0, 0, 0] = 101
    for refused in (lambda: vae.transform(beyond), lambda: ImageVAE(value_range=(0, 100), **QUICK).fit(beyond)):
        with pytest.raises(ValueError, match=r"from .* to 101 lie outside the stated range 0 to 100.*value_range"):
            refused()
    with pytest.raises(UsageError, match="empty"):
        ImageVAE(value_range=(1, 0), **QUICK).fit(x)


def test_rare_extremes_are_refused_where_only_pixels_will_do():
    x = RAMP.astype(np.float32) * 10
    x[0, 0, 0] = 1000
    for changes in ({"likelihood": "bernoulli"}, {"likelihood": "continuous_bernoulli"}, {"binarize": True}):
        with pytest.raises(UsageError, match=r"give the whole of it as value_range"):
            ImageVAE(steps=1, **(QUICK | changes)).fit(x)


def test_channels_may_stand_first():
    x = np.random.default_rng(0).random((30, 3, 6, 8))
    vae, z = codes(torch.tensor(x))
    np.testing.assert_allclose(z, codes(x.transpose(0, 2, 3, 1))[1], atol=1e-6)
    last, moved = ImageVAE(steps=20, **QUICK).fit(x.transpose(0, 2, 3, 1)), x.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(vae.reconstruct(x), last.reconstruct(moved).transpose(0, 3, 1, 2), atol=1e-6)
    assert vae.sample(2).shape == (2, 3, 6, 8)
    for shape in ((5, 2, 3, 4, 5), (5, 20, 30, 40)):
        with pytest.raises(UsageError, match=r"accepted are \(n, features\)"):
            ImageVAE(**QUICK).fit(np.zeros(shape))


def test_latents_of_another_shape_are_told(levels):
    vae = ImageVAE(steps=1, **QUICK).fit(levels)
    assert vae.inverse_transform(torch.zeros(3, 2)).shape == (3, 8, 8)
    for z in (np.zeros((3, 5)), np.zeros(2)):
        with pytest.raises(UsageError, match=r"it takes \(n, 2\)"):
            vae.inverse_transform(z)


# Recipes


@pytest.mark.parametrize(("changes", "told"), [
    ({"objective": "nll + kl + adversarial"}, "needs an adversary"), ({"adversary": "images"}, "has no effect"),
    ({"likelihood": "implicit"}, "needs a density"), ({"refiner": "autoregressive", "binarize": True}, "shades of grey"),
    ({"fitted_prior": "sphere"}, "sphere"),
], ids=str)
def test_what_makes_no_sense_is_told_before_training(levels, changes, told):
    vae = ImageVAE(steps=10**9, **(QUICK | changes))
    with pytest.raises(UsageError, match=told):
        vae.fit(levels)


def test_labels_reach_what_is_fitted_after_the_model(levels, monkeypatch):
    seen = []
    monkeypatch.setattr("reparam.trainer.assembly.fit_stages", lambda _, __, data, budget: seen.append(data.y) or {})
    y = load_digits().target[:300]
    classed = QUICK | {"latent_dim": None, "latent": "conditional(2)"}
    for changes, labels in ((QUICK, y), (classed, torch.tensor(y)), (classed | {"labelled": 10}, y), (QUICK, y + 0.5),
                            (QUICK, None), (QUICK, [str(v) for v in y])):
        ImageVAE(steps=1, **changes).fit(levels, labels)
    assert seen[0].tolist() == seen[1].tolist() == y.tolist() and seen[3:] == [None] * 3
    assert (seen[2] >= 0).sum() == 10


def test_a_refiner_learns_from_the_images_of_their_classes(levels):
    """What it refines are the decoder's images of the classes that images have."""
    y = load_digits().target[:300]
    vae = ImageVAE(steps=2, latent="conditional(2)", refiner="autoregressive(4, 1, 1)", encoder="mlp((16,))",
                   decoder="mlp((16,))", random_state=0).fit(levels, y)
    assert vae.model_.sampler.refiner is not None and vae.sample(2).shape == (2, 8, 8)


def test_a_fitted_prior_learns_the_classes(levels):
    y = load_digits().target[:300]
    vae = ImageVAE(steps=2, **(QUICK | {"fitted_prior": "flow_matching('mlp(16, 1)')"})).fit(levels, y)
    assert vae.model_.config.fitted_prior == "flow_matching('mlp(16, 1)', classes=10)"
    assert vae.model_.sample(2, label=3).shape == (2, 8, 8)


def test_more_threads_than_processors_are_refused(levels):
    with pytest.raises(UsageError, match="threads=999 is more than the"):
        ImageVAE(threads=999, **QUICK).fit(levels)
