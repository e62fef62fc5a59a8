"""Nothing is made on a device that is not the model's. (For every part, tests/test_contract.py asks the same.)

No GPU is needed to find that out: with torch's default device elsewhere, a tensor that is made without naming one lands
there, and fails where it meets the model's, as it would beside a GPU.
"""

from __future__ import annotations

import pytest
import torch
from conftest import training

from reparam.metrics import measure
from reparam.metrics.evaluation import Evaluation
from reparam.models.build import build_model
from reparam.models.calibration import calibrate_likelihood
from reparam.models.codes import latent_axes
from reparam.models.draw import Draw
from reparam.models.priors import Mixture
from reparam.models.sampler import Sampler
from reparam.objectives.adversaries.build import build_adversary
from reparam.objectives.objective import build_objective
from reparam.parallel import SingleProcess
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel
from reparam.runs.journal import held_out_figures
from reparam.trainer.stages import prior, refiner, resampler
from reparam.trainer.stages.base import Data, StageBudget
from reparam.trainer.stages.sequence import fit_stages

ELSEWHERE = torch.device("meta")
SHAPE = (1, 8, 8)
BASE = Recipe(encoder="mlp((16,))", decoder="mlp((16,))", latent="flat(4)", batch_size=16)
HERE = torch.device("cpu")
OF_ALL = "fd, kd, prdc, vendi, memorisation, duplicates, sharpness"
OF_VAES = "elbo, iw_nll(5), psnr, ssim, perceptual, active_units, prior_auc, mutual_information"


@pytest.fixture
def x():
    return torch.rand(60, *SHAPE, generator=torch.Generator().manual_seed(0))


def model_of(**changes):
    recipe = BASE.but(**changes)
    return build_model(recipe, SHAPE).eval(), recipe


@pytest.mark.parametrize("metric", [*OF_ALL.split(", "), *OF_VAES.split(", ")])
def test_metrics(metric, x):
    model, _ = model_of(latent="spatial(2, 2)", encoder="resnet(width=8, patch=2)", decoder="resnet(width=8, patch=2)")
    seen = Evaluation(Sampler(model), x, train_images=x.flip(0), features="wavelets", n=60)
    with ELSEWHERE:
        assert measure(seen, metric)


def test_metrics_of_a_gan(x):
    model, _ = model_of(encoder="none", likelihood="implicit", objective="adversarial", adversary="images")
    with ELSEWHERE:
        assert measure(Evaluation(Sampler(model), x, train_images=x, features="wavelets", n=60), OF_ALL)


@pytest.mark.parametrize("changes", [
    {"objective": "nll + linear(0, 1, 0.1)*kl"}, {"objective": "nll + mi + 4*tc + dwkl"}, {"objective": "nll + kl + 9*mmd"},
    {"objective": "nll + kl + 10*perceptual('wavelets') + ms_ssim"}, {"objective": "nll + target_rate(5)*kl"},
    {"objective": "nll + kl + late(1, 0, 0.1)*adversarial(balance=0.2)", "adversary": "images", "critic": "mlp((8,))",
     "penalty": "r1(0.1) + gradient"},
    {"encoder": "none", "likelihood": "implicit", "objective": "adversarial", "adversary": "images", "critic": "mlp((8,))",
     "game": "relativistic"}], ids=lambda c: c["objective"])
def test_training(changes, x):
    model, recipe = model_of(**changes)
    with ELSEWHERE:
        for state in training(model, build_objective(recipe), iter(lambda: x[:16], None), steps=3,
                              accelerator=SingleProcess(HERE), dataset_size=60,
                              adversary=made_here(build_adversary)(recipe, model, SHAPE)):
            assert not state.event
        held_out_figures(state.ema, x[:30], x[30:])


def made_here(make):
    def on_the_processor(*args, **kwargs):
        with HERE:
            return make(*args, **kwargs)

    return on_the_processor


@pytest.mark.parametrize("latent", ["conditional(4, 3)", "semi_supervised(4, 3)"])
def test_codes_of_a_class(latent):
    model, _ = model_of(latent=latent)
    with ELSEWHERE:
        codes = model.latent.generate(5, Draw(label=1))[0]
    assert codes[:, 4:].tolist() == [[0, 1, 0]] * 5


@pytest.mark.parametrize("changes", [
    {"fitted_prior": "mixture(2)"}, {"fitted_prior": "flow(2, hidden=8)"},
    {"fitted_prior": "flow_matching('mlp(8, 1)', steps=2)"},
    {"fitted_prior": "none", "resampler": "mlp((8,))"}, {"fitted_prior": "none", "refiner": "autoregressive(8, 2, 1)"},
    {"fitted_prior": "none", "refiner": "energy(8)"},
    {"fitted_prior": "none", "refiner": "flow_matching('unet(8)', steps=2)"}], ids=lambda c: " ".join(c.values()))
def test_what_is_fitted_after_training_and_used(changes, x, monkeypatch):
    for stage in (prior, resampler, refiner):
        monkeypatch.setattr(stage, "build_stage", made_here(stage.build_stage))  # made on a processor, and moved
    monkeypatch.setattr(Mixture, "fit", made_here(Mixture.fit))
    model, recipe = model_of(**changes)
    with ELSEWHERE:
        calibrate_likelihood(model, x)
        sampler = Sampler(model)
        stages = fit_stages(sampler, recipe, Data(x), lambda _: StageBudget(steps=2))
        axes = latent_axes(model, x)
        images = ImageModel(sampler, Config(recipe, SHAPE, axes=axes, stages=stages))
        pictures = images.sample(6, seed=0)
        assert len(images.score(pictures[:2], samples=2)) == 2
