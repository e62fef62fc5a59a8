"""Trains the models that `test_old_models.py` loads, with the version of the package on the path, and notes what it does.

Run once, with an older commit's source:

    git worktree add ../older 3b0e521
    PYTHONPATH=../older/src python tests/old_models/make.py

Every folder holds config.json and model.safetensors as that version wrote them (training is cut short and every
parameter moved a little, so that small files say much), and expected.safetensors: what the same
version samples, encodes, decodes and reconstructs, as pixels that are not rounded.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from reparam.checkpoint import load_model, save_model
from safetensors.torch import save_file
from sklearn.datasets import load_digits

import reparam

HERE = Path(__file__).parent
MLP = {"encoder": "mlp((8,))", "decoder": "mlp((8,))"}
CONV = {"encoder": "resnet(4, patch=2)", "decoder": "resnet(4, patch=2)"}
GAN = {"encoder": "none", "decoder": "dcgan(4)", "latent": "flat(4)", "likelihood": "implicit(squash=True)",
       "objective": "adversarial", "adversary": "images", "critic": "dcgan(4)",
       "optimizer": "adamw(lr=4e-4, betas=(0.5, 0.99))"}
CODES = {**CONV, "latent": "spatial(4, 4)", "prior": "autoregressive(8, 1, 2)"}
LADDER = {"encoder": "resnet(4, patch=2)", "decoder": "resnet(4, blocks=0, patch=2)"}

MODELS: dict[str, dict[str, object]] = {
    "flat": {**MLP, "latent": "flat(4)", "fitted_prior": "none"},
    "flat_mixture": {**MLP, "latent": "flat(4)", "fitted_prior": "mixture(3)"},
    "conv_logistic": {"encoder": "conv(4)", "decoder": "conv(4)", "latent": "flat(4)", "likelihood": "logistic(2)",
                      "fitted_prior": "none"},
    "vit": {"encoder": "vit(8, 1, 2)", "decoder": "vit(8, 1, 2)", "latent": "flat(4)", "fitted_prior": "none"},
    "spatial": {**CONV, "latent": "spatial(2, 4)", "likelihood": "laplace", "fitted_prior": "mixture(3)"},
    "ladder": {**LADDER, "latent": "top_down(4, (1, 1), 2, 4, 2)", "fitted_prior": "mixture(3)"},
    "ladder_flow": {**LADDER, "latent": "top_down(4, (2,), 2, 4, 4, (1,), 2)", "prior": "flow(2, hidden=8)"},
    "flow_prior": {**MLP, "latent": "flat(4)", "prior": "flow(2, hidden=8)", "likelihood": "bernoulli", "binarize": True},
    "spline_prior": {**MLP, "latent": "flat(4)", "prior": "spline_flow(2, bins=4, hidden=8)"},
    "autoregressive_prior": {**MLP, "latent": "flat(4)", "prior": "autoregressive_flow(2, hidden=8)"},
    "learned_mixture": {**MLP, "latent": "flat(4)", "prior": "mixture(3)"},
    "vamp": {**MLP, "latent": "flat(4)", "prior": "vamp(3)"},
    "vamp_conv": {**CONV, "latent": "spatial(2, 4)", "prior": "vamp(3)"},
    "iaf": {**MLP, "latent": "flat(4)", "posterior": "iaf(1, hidden=8)", "fitted_prior": "none"},
    "full": {**MLP, "latent": "flat(4)", "posterior": "full", "fitted_prior": "flow(2, hidden=8)"},
    "deterministic": {**MLP, "latent": "flat(4)", "posterior": "deterministic", "fitted_prior": "mixture(2)",
                      "objective": "nll + 500*mmd"},
    "sphere": {**MLP, "latent": "flat(4)", "posterior": "vmf", "prior": "sphere", "fitted_prior": "none"},
    "relaxed": {**MLP, "latent": "flat(8)", "posterior": "relaxed_bernoulli", "prior": "relaxed",
               "fitted_prior": "none"},
    "gumbel": {**MLP, "latent": "flat(8)", "posterior": "relaxed_categorical(4)", "prior": "relaxed",
               "fitted_prior": "none"},
    "vq": {**CODES, "posterior": "vq(8, dim=2)", "objective": "nll + kl + 10*commitment"},
    "vq_fitted": {**CODES, "posterior": "vq(8, dim=2)", "prior": "uniform", "fitted_prior": "autoregressive(8, 1, 2)",
                  "objective": "nll + kl + 10*commitment"},
    "rvq": {**CODES, "posterior": "rvq(8, 2, dim=2)", "objective": "nll + kl + 10*commitment"},
    "fsq": {**CODES, "posterior": "fsq((3, 5))"},
    "lfq": {**CODES, "posterior": "lfq(2)", "objective": "nll + kl + 10*commitment + 0.1*entropy"},
    "cvae": {**MLP, "latent": "conditional(4, classes=10)", "prior": "flow(2, hidden=8)"},
    "cvae_normal": {**MLP, "latent": "conditional(4, classes=10)", "fitted_prior": "none"},
    "m2": {**MLP, "latent": "semi_supervised(4, classes=10)", "objective": "nll + kl + 50*classify"},
    "gan": {**GAN, "fitted_prior": "none"},
    "vae_gan": {**MLP, "latent": "flat(4)", "adversary": "images('reconstructions')", "critic": "conv(4)",
                "objective": "nll + kl + adversarial(balance=0.1)", "fitted_prior": "mixture(2)"},
    "flow_matching": {**CONV, "latent": "spatial(2, 4)", "fitted_prior": "flow_matching('unet(4)', steps=2)"},
    "flow_matching_classes": {**MLP, "latent": "flat(4)", "fitted_prior": "flow_matching('mlp(8, 1)', steps=2, classes=10)"},
    "resampler": {**MLP, "latent": "flat(4)", "fitted_prior": "mixture(2)", "resampler": "mlp((8,))"},
    "terse": {**CONV, "latent": "flat(4)", "fitted_prior": "mixture(2)", "resampler": "conv(4)",
              "refiner": "autoregressive(4, temperature=0.6)"},
    "refined_by_flow": {**MLP, "latent": "flat(4)", "fitted_prior": "none", "refiner": "flow_matching('unet(4)', steps=2)"},
}
SEED = 3


def expected(folder: Path) -> dict[str, torch.Tensor]:
    """What the model in `folder` does, by name."""
    model = reparam.load(folder, device="cpu")
    x = torch.from_numpy(load_digits().images[:4, None].astype(np.float32) / 16)
    done = {"samples": model.sample_pixels(4, seed=SEED)}
    if model.config.fitted_prior:
        done["samples of the own prior"] = model.sample_pixels(4, seed=SEED, prior=str(model.config.recipe.prior))
    if model.config.resampler:
        done["samples without resampler"] = model.sample_pixels(4, seed=SEED, resample=False)
    if model.config.refiner:
        done["samples without refiner"] = model.sample_pixels(4, seed=SEED, refine=False)
    if "conditional" in model.config.recipe.latent or "classes" in (model.config.fitted_prior or ""):
        done["samples of class 3"] = model.sample_pixels(4, seed=SEED, label=3)
    if model.config.recipe.encoder != "none":
        done["codes"] = model.encode_pixels(x)
        done["reconstructions"] = model.decode_pixels(done["codes"])
    else:
        done["decoded"] = model.decode_pixels(torch.linspace(-1, 1, 16).reshape(4, 4))
    if "logistic" in model.config.recipe.likelihood:
        done["log-likelihoods"] = model.score_pixels(x, seed=SEED)
        del done["samples"], done["reconstructions"]
    return done


def moved(network: torch.nn.Module) -> None:
    """Moves every parameter off where training began, zero for many, so that none can be mistaken for another unseen."""
    torch.manual_seed(SEED)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def make(name: str, fields: dict[str, object]) -> None:
    """Trains one model for a few steps and keeps what makes it a model."""
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / name
        reparam.train("digits", out=run, steps=6, batch_size=16, threads=1, precision="float32", device="cpu", **fields)
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        network, config = load_model(run)
        moved(network)
        save_model(folder, network, config)
    save_file({k: v.contiguous() for k, v in expected(folder).items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        make(name, MODELS[name])
        print(name, sum(f.stat().st_size for f in (HERE / name).iterdir()), flush=True)
