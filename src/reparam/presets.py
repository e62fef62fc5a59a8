"""Recipes with a name: each with its reference, the data it is for, and what to expect of it."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UsageError, nearest
from .recipe import Recipe


@dataclass(frozen=True)
class Preset:
    """A recipe that people know by a name."""

    recipe: Recipe
    about: str
    data: str
    reference: str


PRESETS: dict[str, Preset] = {
    "default": Preset(
        Recipe(),
        "σ-VAE: a residual network whose noise level is calibrated at every step, so that no weight has to be chosen; "
        "a mixture is fitted to its codes for sampling.",
        "any images",
        "Rybkin et al., 2021, arXiv:2006.13202; Ghosh et al., 2020, arXiv:1903.12436",
    ),
    "mlp": Preset(
        Recipe(encoder="mlp((128,), 'relu')", decoder="mlp((128,), 'relu')", latent="flat(256)",
               optimizer="adam(lr=1e-3)", schedule="constant", batch_size=32, ema=0.0),
        "The listing found in articles, put right: 784 → 128 → 256 latents → 128 → 784.",
        "small images, 28×28 and the like",
        "Kingma & Welling, 2014, arXiv:1312.6114",
    ),
    "flow_prior": Preset(
        Recipe(likelihood="bernoulli", binarize=True, prior="flow", latent="flat(32)",
               optimizer="adamw(lr=3e-3)", schedule="linear(warmup=0.05)"),
        "Black-and-white images with a prior of affine couplings that is learned with the model.",
        "ink on paper: MNIST and the like",
        "Chen et al., 2017, arXiv:1611.02731; Dinh et al., 2017, arXiv:1605.08803",
    ),
}


def find(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: there is none; the nearest is suggested and all are listed.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}{nearest(name, PRESETS)}. Presets: {', '.join(PRESETS)}")
    return PRESETS[name]
