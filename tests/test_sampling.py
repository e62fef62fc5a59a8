"""Draws around an image, between two, likely ones and different ones."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kstest, multivariate_normal

from reparam.downstream.sampling import Around, Keep, draw_codes, draw_images, lead, log_density
from reparam.errors import UsageError
from reparam.models.draw import Draw
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel


def model_of(small, **changes):
    vae = small((1, 4, 4), moved=0.3, **changes).eval()
    return ImageModel(Sampler(vae), Config(Recipe(likelihood="gaussian(sigma=0.3)", **{"latent": "flat(4)", **changes}),
                                           (1, 4, 4)))


IMAGE = np.random.default_rng(0).integers(0, 256, (1, 4, 4), np.uint8)
KINDS = [{}, {"prior": "mixture(3)"}, {"latent": "semi_supervised(4, 3)"}, {"posterior": "vmf", "prior": "sphere"},
         {"posterior": "relaxed_bernoulli", "prior": "relaxed"}, {"posterior": "lfq(2)", "prior": "uniform"}]


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_variation_goes_from_the_reconstruction_to_fresh_draws(small, changes):
    model = model_of(small, **changes)
    z = torch.from_numpy(model.encode(IMAGE))
    assert (draw_images(model, 3, around=Around(z, 0.0), seed=0) == model.reconstruct(IMAGE)).all()
    fresh, led = draw_codes(model, 5, seed=0), draw_codes(model, 5, around=Around(z, 1.0), seed=0)
    own = model.network.latent.classes
    assert torch.allclose(led[:, : led.shape[1] - own], fresh[:, : led.shape[1] - own], atol=1e-5)
    assert not own or (led[:, -own:] == z[:, -own:]).all()


@pytest.mark.parametrize("variation", [0.3, 0.8])
def test_codes_of_the_priors_law_keep_it(small, variation):
    model = model_of(small)
    g = torch.Generator().manual_seed(1)
    c, fresh = torch.randn(2, 4000, 4, generator=g)
    z = torch.cat([lead(model, e[None], Around(a[None], variation)) for a, e in zip(c, fresh, strict=True)])
    assert kstest(z.flatten().numpy(), "norm").pvalue > 0.01
    assert np.corrcoef(c.flatten(), z.flatten())[0, 1] == pytest.approx((1 - variation**2) ** 0.5, abs=0.02)


def test_draws_between_two_images_go_from_one_to_the_other(small):
    model = model_of(small)
    z = torch.from_numpy(model.encode(np.concatenate([IMAGE, 255 - IMAGE])))
    path = draw_codes(model, 5, around=Around(z, 0.0), seed=0)
    assert torch.allclose(path[[0, -1]], z, atol=1e-5)
    assert (draw_images(model, 5, around=Around(z, 0.0)) == model.interpolate(IMAGE, 255 - IMAGE, 5)).all()


def test_log_density_is_the_priors(small):
    model = model_of(small)
    z = torch.randn(6, 4)
    assert np.allclose(log_density(model, z), multivariate_normal(np.zeros(4)).logpdf(z.numpy()), atol=1e-4)
    ladder = model_of(small, latent="top_down(3, (1, 2), 2, 8, 2)", encoder="resnet(width=8, patch=2)",
                      decoder="resnet(width=8, patch=1)")
    codes = torch.randn(6, *ladder.latent_shape)
    d = codes.shape[1]
    assert np.allclose(log_density(ladder, codes), multivariate_normal(np.zeros(d)).logpdf(codes.numpy()), atol=1e-3)
    with pytest.raises(UsageError, match="no density within reach"):
        draw_codes(model_of(small, posterior="lfq(2)", prior="uniform"), 4, keep=Keep(typical=0.5))
    with pytest.raises(UsageError, match="of one class"):
        log_density(model, z, Draw(label=1))


def test_what_is_kept_is_likelier_or_farther_apart(small):
    model = model_of(small)
    plain, likely, different = (draw_codes(model, 20, keep=keep, seed=0)
                                for keep in (Keep(), Keep(typical=0.5), Keep(diverse=5)))
    assert len(plain) == len(likely) == len(different) == 20
    assert log_density(model, likely).min() > np.median(log_density(model, draw_codes(model, 40, seed=0))) - 1e-6
    assert torch.pdist(different).min() > 2 * torch.pdist(plain).min()
    assert draw_codes(model, 7, keep=Keep(0.7, 3), seed=0).shape == (7, 4)
    with pytest.raises(UsageError, match="typical"):
        Keep(typical=0.0)


def test_the_benchmark_of_choices_measures_each_on_each_set(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    part = importlib.import_module("downstream_parts.sampling")
    names = list(part.cells(tmp_path, tmp_path))
    assert len(names) == 32 and {"mnist-typical-0.9", "faces-like", "cifar-between", "fashion-reconstructions"} <= set(names)
    real = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    far = part.figures(real, real + 100)
    assert (far["precision"], far["recall"], far["n"]) == (0, 0, 200) and far["fd"] == pytest.approx(3 * 100**2, rel=1e-3)
    assert part.figures(real, real.flip(0))["precision"] == 1
    near = part.figures(real, real[:100].repeat(2, 1)) | {"data": "mnist", "choice": "like"}
    assert near["recall_interval"][0] < near["recall"] < 1 and near["fd_interval"][0] <= near["fd"] <= near["fd_interval"][1]
    assert f"| like | {near['fd']:.0f} ± " in part.table([near]) and part.table([near]).count("–") == 31
