"""Using a trained model: arrays in, arrays out, in the layout they came in; seeds, priors, paths and scores."""

from __future__ import annotations

import dataclasses
import importlib
import io
import math
import pkgutil
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import expm, logm
from sklearn.datasets import load_digits

import reparam
from reparam.errors import DataError, ReparamError, UsageError
from reparam.models.build import build_model
from reparam.models.codes import latent_axes
from reparam.models.draw import Draw
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel, load, slerp
from reparam.pretrained.layout import Layout
from reparam.runs.train import train

SMALL = {"encoder": "mlp((32,))", "decoder": "mlp((32,))", "latent": "flat(4)"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the digits, trained briefly."""
    folder = tmp_path_factory.mktemp("generate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPARAM_CACHE", str(folder / "cache"))
        train("digits", out=folder / "run", steps=40, threads=1, optimizer="adamw(lr=2e-3)", precision="float32", ema=0.9,
              fitted_prior="mixture(3)", **SMALL)
    return load(folder / "run", device="cpu")


@pytest.fixture(scope="module")
def digits():
    """uint8 (n, 8, 8)."""
    return (load_digits().images[:40] * (255 / 16)).round().astype(np.uint8)


@pytest.fixture
def made(small):
    """An untrained model of images of a given shape: `made((3, 6, 5), binarize=True)`."""

    def make(shape, *, binarize=False, **changes):
        vae = small(shape, moved=0.3, **changes).eval()
        recipe = Recipe(likelihood="gaussian(sigma=0.3)", latent="flat(4)", binarize=binarize).but(**changes)
        axes = latent_axes(vae, torch.rand(50, *shape))
        return ImageModel(Sampler(vae), Config(recipe, shape, axes=axes))

    return make


# Layouts


LAYOUTS = {  # from (n, H, W, C) to a layout, and back
    "grey": (lambda x: x[..., 0], lambda x: x[..., None]),
    "last": (lambda x: x, lambda x: x),
    "first": (lambda x: x.transpose(0, 3, 1, 2), lambda x: x.transpose(0, 2, 3, 1)),
    "flat": (lambda x: x.transpose(0, 3, 1, 2).reshape(len(x), -1), None),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "layout"), [((1, 6, 5), "grey"), ((1, 6, 5), "last"), ((1, 6, 5), "first"),
                                               ((1, 6, 5), "flat"), ((3, 6, 5), "last"), ((3, 6, 5), "first"),
                                               ((3, 6, 5), "flat")])
def test_what_comes_back_has_the_layout_that_came_in(made, shape, layout, dtype):
    model = made(shape)
    c, h, w = shape
    levels = np.random.default_rng(0).integers(0, 256, (5, h, w, c)).astype(np.uint8)
    images = levels if dtype == np.uint8 else (levels / 255).astype(dtype)
    given = LAYOUTS[layout][0](images)
    back = model.reconstruct(given)
    assert back.shape == given.shape
    assert back.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    # the same pictures stand in it as when the model is run by hand
    x = torch.from_numpy(levels.astype(np.float32) / 255).permute(0, 3, 1, 2)
    with torch.no_grad():
        z = model.vae.encode(x)
        expected = LAYOUTS[layout][0](model.vae.decode(z[None]).mean[0].clamp(0, 1).permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(back / 255 if dtype == np.uint8 else back, expected, atol=0.6 / 255)
    assert expected.std() > 0.05
    np.testing.assert_allclose(model.encode(given), z, atol=1e-5)


@pytest.mark.parametrize("layout", ["grey", "last", "flat"])  # (1, H, W) is a batch of one already
@pytest.mark.parametrize("uint8", [True, False])
def test_one_image_works_like_a_batch_of_one(made, layout, uint8):
    model = made((1, 6, 5))
    levels = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 1)).astype(np.uint8)
    batch = LAYOUTS[layout][0](levels if uint8 else levels.astype(np.float32) / 255)
    one = batch[1]
    assert model.encode(one).shape == (4,)
    np.testing.assert_allclose(model.encode(one), model.encode(batch)[1], atol=1e-5)
    back = model.reconstruct(one)
    assert back.shape == one.shape and back.dtype == one.dtype
    np.testing.assert_allclose(back.astype(float), model.reconstruct(batch)[1].astype(float), atol=1 if uint8 else 1e-5)
    assert model.score(one).shape == (1,)


def test_a_colour_image_alone(made):
    model = made((3, 6, 5))
    one = np.random.default_rng(0).random((6, 5, 3), dtype=np.float32)
    assert model.reconstruct(one).shape == (6, 5, 3)
    np.testing.assert_allclose(model.encode(one), model.encode(one.transpose(2, 0, 1)), atol=1e-6)


def test_new_images_are_grey_or_channels_last(made):
    assert made((1, 6, 5)).sample(3).shape == (3, 6, 5)
    color = made((3, 6, 5))
    assert color.sample(3).shape == (3, 6, 5, 3) and color.sample(3).dtype == np.uint8
    assert color.decode(np.zeros((2, 4))).shape == (2, 6, 5, 3)


def test_more_images_than_pass_at_a_time(made):
    model = made((1, 6, 5))
    x = np.random.default_rng(0).random((601, 6, 5), dtype=np.float32)
    z = model.encode(x)
    assert z.shape == (601, 4)
    np.testing.assert_allclose(z[[0, 249, 250, 600]], model.encode(x[[0, 249, 250, 600]]), atol=1e-5)


def test_no_images(made):
    none = np.zeros((0, 6, 5), np.uint8)
    model = made((1, 6, 5))
    assert model.encode(none).shape == (0, 4)
    assert model.reconstruct(none).shape == (0, 6, 5)
    assert model.score(none).shape == (0,)
    assert model.sample(0).shape == (0, 6, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(model, digits, value):
    x = digits.astype(np.float32) / 255
    x[3, 2, 1] = value
    for use in (model.encode, model.reconstruct, model.score):
        with pytest.raises(DataError, match="NaN or infinity"):
            use(x)


@pytest.mark.parametrize(("low", "high"), [(0, 16), (0, 255), (-1, 1), (-0.01, 1), (0, 1.01)])
def test_floats_outside_the_range_are_refused(model, digits, low, high):
    x = (digits / 255 * (high - low) + low).astype(np.float32)
    with pytest.raises(DataError, match=rf"float images lie in \[0, 1\].*from {low:g} to {high:g}"):
        model.encode(x)


@pytest.mark.parametrize("shape", [(8,), (9, 9), (2, 9, 9), (2, 8, 8, 3), (2, 63), (2, 2, 8, 8), ()])
def test_another_shape_is_refused(model, shape):
    with pytest.raises(DataError, match=r"do not fit this model; it takes \(n, 8, 8\) or \(n, 8, 8, 1\)"):
        model.encode(np.zeros(shape, np.float32))


def test_latents_of_another_shape_are_refused(model):
    with pytest.raises(DataError, match=r"latents of shape \(2, 5\).*\(n, 4\)"):
        model.decode(np.zeros((2, 5)))


# Codes and seeds


def test_codes_are_the_posterior_means(model, digits):
    a, b = model.encode(digits), model.encode(digits)
    assert np.array_equal(a, b) and a.dtype == np.float32
    x = torch.from_numpy(digits / 255).float()[:, None]
    with torch.no_grad():
        np.testing.assert_allclose(a, model.vae.latent.posterior(model.vae.encoder(x)).loc, atol=1e-5)


def test_a_drawn_code_is_reproducible_and_not_the_mean(model, digits):
    a, b = (model.encode(digits, sample=True, seed=3) for _ in range(2))
    assert np.array_equal(a, b)
    assert not np.allclose(a, model.encode(digits, sample=True, seed=4), atol=0.01)
    assert np.abs(a - model.encode(digits)).mean() > 0.05
    # drawn from the posterior: standardised, the draws are N(0, 1)
    x = torch.from_numpy(digits / 255).float()[:, None]
    with torch.no_grad():
        q = model.vae.latent.posterior(model.vae.encoder(x))
    draws = np.stack([model.encode(digits, sample=True, seed=i) for i in range(100)])
    u = (draws - q.loc.numpy()) / (0.5 * q.log_var).exp().numpy()
    assert abs(u.mean()) < 4 / u.size**0.5 and abs(u.var() - 1) < 4 * (2 / u.size) ** 0.5


def test_samples_are_reproducible(model):
    a = model.sample(8, seed=1)
    assert a.shape == (8, 8, 8) and a.dtype == np.uint8
    assert np.array_equal(a, model.sample(8, seed=1))
    assert not np.array_equal(a, model.sample(8, seed=2))
    assert not np.array_equal(model.sample(8), model.sample(8))


def test_a_seed_leaves_the_random_numbers_outside_alone(model, digits):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.sample(4, seed=1)
    model.encode(digits, sample=True, seed=1)
    model.score(digits, seed=1)
    model.decode(model.encode(digits))
    model.traverse()
    assert torch.equal(torch.rand(3), expected)


def test_the_prior_is_chosen_by_name(model):
    fitted = model.sample(32, seed=1)
    assert np.array_equal(fitted, model.sample(32, seed=1, prior="mixture"))
    assert not np.array_equal(fitted, model.sample(32, seed=1, prior="normal"))
    # the default is where the codes were fitted: its mean code is the mixture's, and not 0
    with torch.no_grad():
        codes = model.sampler.codes(20_000).mean(0)
        assert torch.allclose(codes, model.sampler.fitted_prior().mean, atol=0.05) and codes.abs().max() > 0.1
        plain = model.vae.latent.generate(20_000)[0]
        assert plain.mean(0).abs().max() < 0.05 and torch.allclose(plain.std(0), torch.ones(4), atol=0.05)
    # and that is what decides between the two pictures above
    torch.manual_seed(1)
    with torch.no_grad():
        z = torch.randn(1, 32, 4)[0]
    assert np.array_equal(model.decode(z.numpy()), model.sample(32, seed=1, prior="normal"))


@pytest.mark.parametrize("name", ["flow", "vamp", "mixtur"])
def test_a_prior_that_the_model_does_not_carry_is_refused(model, made, name):
    with pytest.raises(UsageError, match=f"carries the prior 'normal' and 'mixture'; got '{name}'"):
        model.sample(2, prior=name)
    with pytest.raises(UsageError, match="carries the prior 'normal' only"):
        made((1, 4, 4)).sample(2, prior="mixture")


def test_temperature_draws_samples_to_the_middle(model):
    spread = [model.sample_pixels(200, Draw(t, fitted=False), seed=0).std(0).mean() for t in (0.0, 0.5, 1.0)]
    assert spread[0] < 1e-6 < spread[1] < spread[2]
    middle = model.decode(np.zeros((1, 4)))
    assert np.array_equal(model.sample(1, seed=0, temperature=0.0, prior="normal"), middle)


def test_a_reconstruction_is_of_the_mean_or_of_a_draw(model, digits):
    assert np.array_equal(model.reconstruct(digits), model.decode(model.encode(digits)))
    drawn = model.reconstruct(digits, sample=True)
    assert np.array_equal(drawn, model.decode(model.encode(digits, sample=True, seed=0)))  # the same again and again
    assert not np.array_equal(drawn, model.reconstruct(digits, sample=True, seed=1))
    assert not np.array_equal(drawn, model.reconstruct(digits))


@pytest.mark.parametrize(("dtype", "most"), [(np.uint16, 65535), (np.bool_, 1)])
def test_other_numbers_that_have_a_range_of_their_own(model, digits, dtype, most):
    images = np.rint(digits / 255.0 * most).astype(dtype)
    expected = model.encode((images / most).astype(np.float32))
    np.testing.assert_allclose(model.encode(images), expected, atol=0.05)  # 16 bits are read as 8
    back = model.reconstruct(images)
    assert back.dtype == (np.uint16 if dtype is np.uint16 else np.float32)
    levels = model.reconstruct((images / most).astype(np.float32)) * (most if dtype is np.uint16 else 1)
    np.testing.assert_allclose(back, levels, atol=0.02 * most)
    assert back.max() > 0.5 * most


def test_whole_numbers_have_the_range_that_the_training_images_had(made):
    model = made((1, 6, 5))
    levels = np.random.default_rng(0).integers(0, 256, (4, 6, 5))
    with pytest.raises(DataError, match="type int64 do not say what is black and white: pass uint8 levels"):
        model.encode(levels)
    stated = ImageModel(model.sampler, dataclasses.replace(model.config, data={"value_range": [-1000, 3080]}))
    hounsfield = levels * 16 - 1000
    np.testing.assert_allclose(stated.encode(hounsfield), model.encode(levels.astype(np.uint8)), atol=1e-5)
    back = stated.reconstruct(hounsfield)
    assert back.dtype == np.int64
    assert np.abs((back + 1000) / 16 - model.reconstruct(levels.astype(np.uint8))).max() <= 0.6
    np.testing.assert_array_equal(stated.encode(levels.astype(np.uint8)), model.encode(levels.astype(np.uint8)))  # levels


def test_images_and_codes_may_be_tensors_and_lists(model, digits):
    expected = model.encode(digits[:2])
    np.testing.assert_array_equal(model.encode(torch.from_numpy(digits[:2])), expected)
    np.testing.assert_allclose(model.encode((digits[:2] / 255).tolist()), expected, atol=1e-5)
    np.testing.assert_array_equal(model.decode(torch.from_numpy(expected)), model.decode(expected.tolist()))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 1e308, "2", None])
def test_numbers_out_of_their_range_are_refused(value, model, digits):
    uses = {"n": lambda v: model.sample(v), "seed": lambda v: model.sample(1, seed=v),
            "temperature": lambda v: model.sample(1, temperature=v), "guidance": lambda v: model.sample(1, guidance=v),
            "steps": lambda v: model.sample(1, steps=v),
            "refine_temperature": lambda v: model.reconstruct(digits, refine_temperature=v),
            "width": lambda v: model.traverse(width=v), "dims": lambda v: model.traverse(dims=v),
            "samples": lambda v: model.score(digits, samples=v)}
    for name, use in uses.items():
        if value is None and name in ("seed", "steps", "temperature", "refine_temperature"):
            continue  # not given
        with pytest.raises(UsageError, match=f"{name} must be a (whole )?number (from|above) "):
            use(value)
    for use in (lambda: model.sample(1, temperature=(1.0, value)), lambda: model.interpolate(steps=value),
                lambda: model.traverse(steps=value)):
        with pytest.raises(UsageError, match=r"must be a (whole )?number from"):
            use()
    if isinstance(value, float):
        with pytest.raises(DataError, match="NaN or infinity"):
            model.decode(np.full((1, 4), value))


@pytest.mark.parametrize("seed", [2**32, 2**64, 0.5, True])
def test_seeds_are_whole_numbers_of_32_bits(seed, model, digits):
    for use in (model.sample, lambda seed: model.encode(digits, sample=True, seed=seed),
                lambda seed: model.reconstruct(digits, seed=seed), lambda seed: model.score(digits, seed=seed),
                lambda seed: model.interpolate(seed=seed)):
        with pytest.raises(UsageError, match="seed must be a whole number from 0 to 4294967295"):
            use(seed=seed)
    assert len(model.sample(np.int64(2), seed=np.int64(2**32 - 1))) == 2


def test_a_model_says_what_it_is(model, made):
    assert repr(model) == (f"ImageModel(mlp((32,)) → flat(4) → mlp((32,)), images 8×8×1, latent 4, "
                           f"{sum(p.numel() for p in model.sampler.parameters()):,} parameters, cpu)")
    assert "images 6×5×3" in repr(made((3, 6, 5)))
    with Image.open(io.BytesIO(model._repr_png_())) as picture:
        assert picture.size == (2 + 4 * 66, 2 + 4 * 66)
        assert (np.asarray(picture)[2:66:8, 2:66:8, 0] == model.sample(16, seed=0)[0]).all()


# Paths


@pytest.mark.parametrize("dims", [2, 3, 16])
def test_slerp_is_the_rotation_that_takes_one_end_to_the_other(dims):
    """Against a derivation of its own: the matrix power R^t of the rotation R in the plane of the two ends."""
    rng = np.random.default_rng(dims)
    a, b = (v / np.linalg.norm(v) * 1.7 for v in rng.normal(size=(2, dims)))
    e1 = a / np.linalg.norm(a)
    e2 = b - (b @ e1) * e1
    e2 /= np.linalg.norm(e2)
    angle = math.atan2(b @ e2, b @ e1)
    turn = np.eye(dims) + (math.cos(angle) - 1) * (np.outer(e1, e1) + np.outer(e2, e2)) \
        + math.sin(angle) * (np.outer(e2, e1) - np.outer(e1, e2))
    np.testing.assert_allclose(turn @ a, b, atol=1e-12)
    ends = [torch.from_numpy(v)[None] for v in (a, b)]
    for t in (0.0, 0.2, 0.5, 0.9, 1.0):
        np.testing.assert_allclose(slerp(*ends, t)[0], np.real(expm(t * logm(turn))) @ a, atol=1e-9)


def test_slerp_keeps_the_ends_and_the_norm():
    a, b = torch.randn(2, 50, 2, 3, dtype=torch.float64)
    unit = a / a.flatten(1).norm(dim=1)[:, None, None], b / b.flatten(1).norm(dim=1)[:, None, None]
    assert torch.allclose(slerp(a, b, 0.0), a) and torch.allclose(slerp(a, b, 1.0), b)
    for t in torch.linspace(0, 1, 7):
        z = slerp(*unit, t)
        assert z.shape == a.shape
        assert torch.allclose(z.flatten(1).norm(dim=1), torch.ones(50, dtype=torch.float64))
    # equal angles between the steps
    steps = torch.stack([slerp(*unit, t).flatten(1) for t in torch.linspace(0, 1, 6, dtype=torch.float64)])
    cosines = (steps[1:] * steps[:-1]).sum(-1)
    assert torch.allclose(cosines, cosines[:1].expand_as(cosines))


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_slerp_of_parallel_ends_is_a_straight_line(scale):
    a = torch.randn(4, 6)
    assert torch.allclose(slerp(a, scale * a, 0.25), (0.75 + 0.25 * scale) * a, atol=1e-5)


def test_slerp_from_nowhere_stays_finite():
    a = torch.randn(4, 6)
    assert all(torch.isfinite(slerp(u, v, 0.5)).all() for u, v in ((a, 0 * a), (0 * a, a), (0 * a, 0 * a), (a, -a)))


def test_an_interpolation_goes_from_one_reconstruction_to_the_other(model, digits):
    a, b = digits[0], digits[1]
    path = model.interpolate(a, b, steps=7)
    assert path.shape == (7, 8, 8) and path.dtype == np.uint8
    ends = model.reconstruct(digits[:2])
    assert np.abs(path[[0, -1]].astype(int) - ends).max() <= 1 and not np.array_equal(*ends)
    codes = torch.from_numpy(model.encode(digits[:2]))
    middle = model.decode(slerp(codes[:1], codes[1:], 0.5).numpy())
    assert np.abs(path[3].astype(int) - middle[0]).max() <= 1
    # ends in other layouts
    assert np.array_equal(path, model.interpolate(a[None] / 255, b.reshape(-1), steps=7))


def test_a_learned_prior_is_crossed_straight(made):
    model = made((1, 4, 4), prior="flow(2, hidden=8)")
    a, b = np.random.default_rng(0).random((2, 4, 4), dtype=np.float32)
    z = model.encode(np.stack([a, b]))
    middle = model.decode(z.mean(0, keepdims=True))
    assert np.abs(model.interpolate(a, b, steps=3)[1].astype(int) - middle[0]).max() <= 1


def test_interpolations_that_have_no_ends_are_refused(model, digits):
    with pytest.raises(UsageError, match="steps must be a whole number from 2 to 10000; got 1"):
        model.interpolate(digits[0], digits[1], steps=1)
    with pytest.raises(DataError, match="between one image and one other"):
        model.interpolate(digits[:2], digits[1])


def test_a_traversal_moves_one_axis_in_each_row(model, digits):
    rows = model.traverse(dims=3, steps=5, width=2.0)
    assert rows.shape == (3, 5, 8, 8) and rows.dtype == np.uint8
    asked, decode = [], ImageModel.decode_pixels

    def listening(self, z):
        asked.append(z)
        return decode(self, z)

    for centre, image in ((None, None), (model.encode(digits[7]), digits[7])):
        asked.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ImageModel, "decode_pixels", listening)
            shown = model.traverse(image, dims=3, steps=5, width=2.0)
        z = torch.cat(asked).reshape(3, 5, 4).numpy()
        assert np.array_equal(shown, model.decode(z.reshape(15, 4)).reshape(3, 5, 8, 8))
        if centre is None:
            centre = np.array([next(a.mean for a in model.config.axes if a.index == i) for i in range(4)])
        for row, axis in zip(z, model.config.axes, strict=False):
            others = [i for i in range(4) if i != axis.index]
            np.testing.assert_allclose(row[:, others], np.tile(centre[others], (5, 1)), atol=1e-6)
            np.testing.assert_allclose(row[:, axis.index], axis.mean + axis.std * np.linspace(-2, 2, 5), atol=1e-6)
    assert len({a.index for a in model.config.axes}) == 4
    assert [a.nats for a in model.config.axes] == sorted((a.nats for a in model.config.axes), reverse=True)


def test_a_traversal_of_more_rows_than_latents_shows_them_all(model):
    assert model.traverse(dims=100, steps=2).shape == (4, 2, 8, 8)


def test_a_traversal_of_a_map_and_of_colour(made):
    model = made((3, 8, 8), encoder="conv(width=4)", decoder="conv(width=4)", latent="spatial(2, 4)")
    assert model.traverse(dims=5, steps=3).shape == (5, 3, 8, 8, 3)
    assert model.latent_shape == (2, 2, 2)


# Scores


def elbo_by_hand(vae, images, draws, seed):
    """The ELBO in NumPy: closed-form KL of Gaussians, Monte Carlo mean of log p(x | z), (n,), with errors."""
    p = {k: v.detach().numpy().astype(np.float64) for k, v in vae.state_dict().items()}

    def silu(v):
        return v / (1 + np.exp(-v))

    def dense(v, name):
        return v @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    x = images.reshape(len(images), -1).astype(np.float64)
    h = silu(dense(x, "encoder.net.1"))
    mean = dense(h, "latent.posterior.loc.1")
    log_var = 10 * np.tanh(dense(h, "latent.posterior.log_var.1") / 10)
    kl = 0.5 * (np.exp(log_var) + mean**2 - 1 - log_var).sum(1)
    eps = np.random.default_rng(seed).normal(size=(draws, *mean.shape))
    z = mean + np.exp(log_var / 2) * eps
    rebuilt = dense(silu(dense(z, "decoder.net.1")), "decoder.net.3")
    sigma = np.exp(p["likelihood.log_scale"])
    log_px = (-0.5 * ((x - rebuilt) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi)).sum(2)
    return log_px.mean(0) - kl, log_px.std(0) / draws**0.5


def test_scores_average_to_the_elbo(model, digits):
    x = digits[:6] / 255
    scores = np.stack([model.score(x, seed=i) for i in range(400)]).astype(np.float64)
    expected, error = elbo_by_hand(model.vae, x, 4000, seed=0)
    errors = np.hypot(scores.std(0, ddof=1) / len(scores) ** 0.5, error)
    assert (np.abs(scores.mean(0) - expected) < 4 * errors).all(), (scores.mean(0) - expected) / errors
    assert errors.max() < 0.3 and np.ptp(expected) > 1


def test_a_score_depends_on_its_image_alone(model, digits):
    together = model.score(digits)
    assert together.shape == (40,)
    np.testing.assert_allclose(np.concatenate([model.score(x) for x in digits[:5]]), together[:5], rtol=1e-5)
    np.testing.assert_allclose(model.score(digits[::-1]), together[::-1], rtol=1e-5)
    np.testing.assert_allclose(model.score(digits[17:20]), together[17:20], rtol=1e-5)
    np.testing.assert_allclose(model.score(np.tile(digits, (10, 1, 1)))[-40:], together, rtol=1e-5)


def test_a_score_of_binarised_images_depends_on_its_image_alone(made):
    model = made((1, 4, 4), likelihood="bernoulli", binarize=True)
    x = np.random.default_rng(0).random((9, 4, 4), dtype=np.float32)
    np.testing.assert_allclose(np.concatenate([model.score(one) for one in x]), model.score(x), rtol=1e-5)


def test_scores_are_reproducible_and_follow_the_seed(model, digits):
    assert np.array_equal(model.score(digits), model.score(digits))
    assert not np.allclose(model.score(digits, seed=1), model.score(digits), atol=1e-3)
    assert not np.allclose(model.score(digits, seed=None), model.score(digits, seed=None), atol=1e-3)


def test_more_samples_give_a_tighter_bound(model, digits):
    one = np.mean([model.score(digits, seed=i).mean() for i in range(40)])
    many = np.mean([model.score(digits, samples=64, seed=i).mean() for i in range(10)])
    assert many > one + 0.1


# The package


def test_public_names_stay_what_they_are():
    """A submodule of the same name must not take the place of a function once it is imported."""
    for module in pkgutil.iter_modules(reparam.__path__):
        if not module.name.startswith("__"):
            importlib.import_module(f"reparam.{module.name}")
    assert [name for name in reparam.__all__ if isinstance(getattr(reparam, name), ModuleType)] == []


def test_building_by_hand_gives_what_the_recipe_says():
    vae = build_model(Recipe(**SMALL, likelihood="bernoulli"), (1, 8, 8))
    model = ImageModel(Sampler(vae), Config(Recipe(**SMALL, likelihood="bernoulli"), (1, 8, 8)))
    assert not model.vae.training and model.latent_shape == (4,) and model.prior_is_normal
    assert model.sample(2, seed=0).max() > 0


def test_pixels_that_are_not_finite_are_told_not_cast():
    layout = Layout("grey", False, np.dtype(np.uint8), (0, 255))
    x = torch.full((3, 1, 4, 4), 0.5)
    assert (layout.write(x) == 128).all()
    x[1, 0, 2, 2] = float("nan")
    with pytest.raises(ReparamError, match="1 of 3 images that the model made is not finite"):
        layout.write(x)
    x[1, 0, 2, 2] = float("inf")
    assert layout.write(x)[1, 2, 2] == 255
