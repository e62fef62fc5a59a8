"""What is trained after the model: a new stage is a file and two rows, and what samples knows nothing of training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from reparam.models import sampler as sampling
from reparam.models.build import build_model
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.trainer.stages import sequence
from reparam.trainer.stages.base import Data, Fitted, Stage, StageBudget

RECIPE = Recipe(encoder="mlp((8,))", decoder="mlp((8,))", latent="flat(2)", fitted_prior="none", resampler="mlp((4,))",
                minutes=1.0)
SHAPE = (1, 4, 4)


class Brightness(nn.Module):
    """The mean of training images."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))


class BrightnessStage(Stage):
    name, share_field, doing = "brightness", "prior_share", "measuring brightness"

    def choice(self, recipe, model):
        return "brightness"

    def fit(self, call, sampler, recipe, data, budget):
        module = Brightness()
        module.mean.copy_(data.x.mean())
        return Fitted(call, module)


def test_a_fourth_stage_trains_saves_and_loads(monkeypatch, tmp_path):
    monkeypatch.setitem(sampling.STAGES, "brightness", lambda call, model, image_shape: Brightness())
    monkeypatch.setattr(sequence, "STAGES", [*sequence.STAGES, BrightnessStage()])
    sampler, x = Sampler(build_model(RECIPE, SHAPE).eval()), torch.rand(40, *SHAPE)
    calls = sequence.fit_stages(sampler, RECIPE, Data(x), lambda _: StageBudget(steps=2))
    assert calls == {"resampler": "mlp((4,))", "brightness": "brightness"}
    assert sequence.TimeSplit.of(RECIPE, sampler.model).stages == {"resampler": 0.15, "brightness": 0.25}
    save_model(tmp_path, sampler, Config(RECIPE, SHAPE, stages=calls))
    loaded, config = load_model(tmp_path)
    assert config.stages == calls
    assert torch.equal(loaded.stages["brightness"].mean, x.mean())
    assert loaded.resampler is not None


def test_loading_and_sampling_import_nothing_that_trains():
    code = ("import sys, reparam; reparam.load(sys.argv[1], device='cpu').sample(2, seed=0); "
            "print([m for m in sys.modules if m.startswith(('reparam.objectives', 'reparam.trainer', 'reparam.runs'))])")
    folder = Path(__file__).parent / "old_models" / "terse"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
