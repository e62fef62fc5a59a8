"""How a model samples by default, and that it is chosen only where held-out images speak for it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import reparam
from reparam.errors import ModelFileError, UsageError
from reparam.metrics.sampling import FEWEST, choose_sampling
from reparam.models.build import build_model
from reparam.models.draw import Draw
from reparam.models.resampler import KEPT, Resampler, level_of
from reparam.models.sampler import Sampler
from reparam.models.sampling import Sampling, Tried
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.pretrained.image_model import ImageModel
from reparam.runs import choosing
from reparam.runs.choosing import Trained
from reparam.runs.folder import Run

GAN = Recipe(encoder="none", decoder="mlp((8,))", latent="flat(16)", likelihood="implicit", objective="adversarial",
             adversary="images")
SHAPE = (1, 4, 4)


class Pixels(nn.Module):
    """Codes as pixels around grey."""

    def forward(self, z):
        return 0.2 * z.view(-1, *SHAPE)  # of −1 to 1


def generator(resampler=None):
    model = build_model(GAN, SHAPE).eval()
    model.decoder = Pixels()
    return Sampler(model, {"resampler": resampler} if resampler is not None else {})


def embed(x):
    return 10 * x.flatten(1)


def draws(sampler, n, options=Draw(), seed=5):
    torch.manual_seed(seed)
    with torch.inference_mode():
        return sampler.images(sampler.codes(n, options), options).clamp(0, 1)


@pytest.mark.parametrize("true", [1.0, 0.8])
def test_the_temperature_that_images_have_is_found(true):
    sampler = generator()
    images = draws(sampler, 800, Draw(true))
    state = torch.get_rng_state()
    found = choose_sampling(sampler, images, embed)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.temperature == true and (found.keep, found.refine_temperature, found.n) == (1.0, None, 400)
    assert (found.fd < 0.7 * found.fd_plain) == (true != 1)
    assert {t.temperature for t in found.table} == {0.6, 0.7, 0.8, 0.9, 1.0, 1.1}
    torch.manual_seed(99)
    assert found == choose_sampling(sampler, images, embed)  # by its seed alone


def test_of_few_images_chance_seldom_chooses():
    """A Fréchet distance as it stands finds a lower temperature closer, since fewer images are less varied draws' gain."""
    sampler = generator()
    found = [choose_sampling(sampler, draws(sampler, 2 * FEWEST, seed=seed), embed, seed=seed).temperature
             for seed in range(100, 120)]
    assert sum(t != 1 for t in found) <= 1


class Noise(nn.Module):
    """A refiner that adds noise, half of it by default."""

    def forward(self, means, noise, temperature=None):
        return means + 0.3 * (0.5 if temperature is None else temperature) * noise


@pytest.mark.parametrize(("true", "chosen"), [(0.5, None), (1.0, 1.0), (0.3, 0.3)])
def test_the_temperature_of_a_refiner_is_found(true, chosen):
    sampler = generator()
    sampler.stages["refiner"] = Noise()
    found = choose_sampling(sampler, draws(sampler, 800, Draw(refine_temperature=true)), embed)
    assert (found.temperature, found.refine_temperature) == (1.0, chosen)
    assert found.draw == Draw(resample=False, refine_temperature=chosen)


class Bright(nn.Module):
    """Log odds that only images brighter than grey come from the data."""

    def forward(self, x):
        return 8 * torch.sign(x.mean((1, 2, 3)) - 0.5)


def test_a_resampler_is_used_where_it_brings_draws_nearer():
    torch.manual_seed(0)
    resampler = Resampler("mlp((2,))", SHAPE)
    resampler.critic = Bright()
    sampler = generator(resampler)
    plain = draws(sampler, 4000, Draw(resample=False))
    bright = plain[plain.mean((1, 2, 3)) > 0.5][:800]
    found = choose_sampling(sampler, bright, embed)
    assert found.keep == 0.5 and found.temperature == 1 and found.draw == Draw(resample=True)
    odds = resampler(draws(sampler, 4000, Draw(resample=False)))
    assert float(resampler.acceptance(draws(sampler, 4000, Draw(resample=False))).mean()) == pytest.approx(0.5, abs=0.03)
    alike = choose_sampling(sampler, plain[:800], embed)
    assert alike.keep == 1 and alike.draw == Draw(resample=False)
    assert float(resampler.level) == pytest.approx(float(level_of(odds, KEPT)), abs=0.3)


def test_a_resampler_is_as_it_was_after_an_error():
    resampler = Resampler("mlp((2,))", SHAPE)
    resampler.level.fill_(0.25)
    seen = []

    def fails_late(x):
        seen.append(float(resampler.level))
        if len(set(seen)) > 1:
            raise UsageError("features ended")
        return embed(x)

    with pytest.raises(UsageError, match="features ended"):
        choose_sampling(generator(resampler), torch.rand(800, *SHAPE), fails_late)
    assert float(resampler.level) == 0.25 and seen[-1] != 0.25


def test_too_few_images_are_told():
    with pytest.raises(UsageError, match="takes 400 held-out images"):
        choose_sampling(generator(), torch.rand(399, *SHAPE), embed)


CHOSEN = Sampling(0.7, fd=1.5, fd_plain=2.5, n=300, features="efficientnet", table=(Tried(0.7, 1.0, None, 1.0, 0.1),))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    recipe = Recipe(encoder="mlp((8,))", decoder="mlp((8,))", latent="flat(3)", fitted_prior="mixture(2)")
    return ImageModel(Sampler(build_model(recipe, SHAPE)), Config(recipe, SHAPE, sampling=CHOSEN))


def test_a_model_samples_as_was_chosen_unless_asked_otherwise(model, tmp_path):
    save_model(tmp_path, model.sampler, model.config)
    loaded = ImageModel(*load_model(tmp_path))
    assert loaded.config.sampling == CHOSEN
    for t in (None, 0.7, 1.0):
        at = 0.7 if t is None else t
        assert np.array_equal(loaded.sample(4, seed=1, temperature=t), model.images(4, Draw(at, resample=False), seed=1))
    assert not np.array_equal(loaded.sample(4, seed=1), loaded.sample(4, seed=1, temperature=1.0))
    by_prior = replace(model.config, stages={"fitted_prior": "mixture(2)"})
    assert ImageModel(model.sampler, by_prior).options(prior="normal") == Draw(fitted=False)  # chosen for the other
    assert "0.7" in CHOSEN.reason and "1.5 rather than 2.5" in CHOSEN.reason and "300 held-out" in CHOSEN.reason


def test_a_model_of_which_nothing_was_chosen_loads_as_before(model, tmp_path):
    save_model(tmp_path, model.sampler, model.config)
    config = json.loads((tmp_path / "config.json").read_text())
    config["sampling"]["temperature"] = 1e9
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match=r"sampling.temperature"):
        load_model(tmp_path)
    del config["sampling"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert ImageModel(*load_model(tmp_path)).options() == Draw(fitted=False)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """A run whose last pass looks at images by wavelets, which need no package; and without enough training."""
    images = np.random.default_rng(0).integers(0, 255, (5000, 8, 8), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "FEATURES", "wavelets")
        patch.setattr(choosing, "IMAGES_PER_DRAW", 1)
        said = Said()
        run = reparam.train(images, preset="quick", steps=10, out=tmp_path_factory.mktemp("run") / "run", report=said)
    return run, said.lines


class Said(reparam.progress.Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def test_a_run_says_how_it_samples_and_why(run_of):
    run, lines = run_of
    sampling = reparam.load(run.folder).config.sampling
    assert sampling is not None and sampling.features == "wavelets" and sampling.n >= FEWEST
    assert Run.read(run.folder).facts["outcome"]["sampling"] == sampling.reason
    assert [line for line in lines if sampling.reason in line] == [f"by default it samples at {sampling.reason}"]
    for page in ("report.html", "README.md"):
        assert f"temperature {sampling.temperature:g}" in (run.folder / page).read_text()


def test_short_training_and_slow_sampling_choose_nothing(run_of, monkeypatch):
    run, _ = run_of
    sampler = reparam.load(run.folder).sampler
    monkeypatch.setattr(choosing, "FEATURES", "wavelets")
    with pytest.raises(UsageError, match="training saw fewer than 500,000 images"):
        choosing._size(sampler, 1000, Trained(10_000, 1e6, by_steps=True))
    assert choosing._size(sampler, 1000, Trained(750_000, 0.0, by_steps=True)) == 300
    with pytest.raises(UsageError, match=r"longer than 3% of the time of training, 0\.03 s"):
        monkeypatch.setattr(choosing, "_seconds_for_each", lambda sampler: 0.01)
        choosing._size(sampler, 1000, Trained(750_000, 1.0, by_steps=False))
    assert choosing._size(sampler, 5000, Trained(750_000, 1e5, by_steps=False)) == pytest.approx(20 / 0.01 / 8, abs=1)
    with pytest.raises(UsageError, match="40 held-out images are fewer than the 400"):
        choosing._size(sampler, 20, Trained(10**9, 1e9, by_steps=False))


def test_draws_are_compared_with_images_as_they_are_read(tmp_path, monkeypatch):
    """Draws of a binarised recipe are means, and grey as well."""
    images = np.random.default_rng(0).integers(0, 255, (5000, 8, 8), dtype=np.uint8)
    seen = []
    monkeypatch.setattr(choosing, "FEATURES", "wavelets")
    monkeypatch.setattr(choosing, "IMAGES_PER_DRAW", 1)
    monkeypatch.setattr(choosing, "choose_sampling", lambda sampler, x, *_, **__: seen.append(x) or Sampling())
    reparam.train(images, preset="vae", steps=10, fitted_prior="none", out=tmp_path / "run")
    (x,) = seen
    assert reparam.load(tmp_path / "run").config.recipe.binarize and len(x.unique()) > 2
