"""The players: presets, what of them is searched, and the settings that a search of each tries, the paper's own first."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reparam.models.resampler import Resampler
from reparam.parts.presets import PRESETS
from reparam.parts.recipe import Recipe

from .training import PRECISION, TARGET, of_size

Settings = dict[str, Any]
Space = Callable[[random.Random], Settings]
RESAMPLER, RESAMPLER_SHARE = "resnet(32)", 0.1
"""What chooses among draws, the same network and the same share of the time for all."""
VAE, HYBRID, GAN = "VAE", "VAE with a critic", "GAN"
ENTERING = {VAE: 2, HYBRID: 1, GAN: 2}
"""Players of a side that are trained with several seeds on a set: those whose searches on it ended best."""


@dataclass(frozen=True)
class Player:
    """A preset on a side, with its decoder, of which the width follows from the parameters, and its space of settings."""

    side: str
    decoder: str
    paper: Settings
    """Changes to the preset that make it its paper's own, with those of `OF_DECODER` that its decoder takes."""
    space: Space
    step: int = 2
    """Of the decoder's width."""


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    """Of two digits."""
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.1e}")


def adam(rng: random.Random, low: float, high: float, first: tuple[float, ...] = (0.9,), second: tuple[float, ...] = (0.99, 0.999)) -> str:
    return f"adamw(lr={log_uniform(rng, low, high):g}, betas=({rng.choice(first)!r}, {rng.choice(second)!r}))"


def muon(rng: random.Random, low: float, high: float) -> str:
    return f"muon(lr={log_uniform(rng, low, high):g})"


def of_vae(rng: random.Random) -> str:
    """Muon mostly, which presets have; AdamW in a quarter."""
    return adam(rng, 1e-3, 8e-3) if rng.random() < 0.25 else muon(rng, 0.01, 0.06)


def default(rng: random.Random) -> Settings:
    weight = rng.choice((0.5, 1, 1, 2, 3))
    return {"patch": rng.choice("24"), "optimizer": of_vae(rng), "latent": f"flat({rng.choice((32, 64, 96, 128))})",
            "objective": f"nll + {weight}*kl" if weight != 1 else "nll + kl", "fitted_prior": f"mixture({rng.choice((30, 50))})"}


def terse(rng: random.Random) -> Settings:
    prior = rng.choice((0.15, 0.2, 0.25))
    return {"patch": rng.choice("24"), "optimizer": of_vae(rng), "latent": f"flat({rng.choice((16, 32, 64))})",
            "objective": f"nll + {rng.choice((1.5, 2, 3, 4))}*kl", "prior_share": prior,
            "fitted_prior": f"flow_matching('mlp({rng.choice((128, 192))}, 2)')",
            "refiner": f"autoregressive({rng.choice((24, 32, 48))}, temperature={rng.choice((0.5, 0.6, 0.7, 1.0))})",
            "refiner_share": rng.choice((0.3, 0.4, 0.5))}


def refined(rng: random.Random) -> Settings:
    return default(rng) | {"refiner": f"energy({rng.choice((24, 32, 48))}, temperature={rng.choice((0.4, 0.5, 0.6, 1.0))})",
                           "refiner_share": rng.choice((0.2, 0.3, 0.4))}


def vae_gan(rng: random.Random) -> Settings:
    start = rng.choice((0.3, 0.5, 0.6))
    return {"patch": rng.choice("24"), "optimizer": of_vae(rng), "critic_optimizer": adam(rng, 1e-4, 2e-3, (0.0, 0.5)),
            "objective": f"nll + {rng.choice((0.5, 1, 2))}*kl + late(1, {start}, 0.1)*adversarial(balance={log_uniform(rng, 0.05, 0.6):g})",
            "adversary": rng.choice(("images", "images('reconstructions')")), "critic": f"dcgan({rng.choice((16, 32, 64))})",
            "latent": f"flat({rng.choice((32, 64, 96))})", "critic_augment": rng.choice(("none", "translate"))}


def gan(rng: random.Random, critics: tuple[str, ...], first: tuple[float, ...] = (0.0, 0.5),
        second: tuple[float, ...] = (0.99, 0.999)) -> Settings:
    """What all GANs are searched for: a rate for each player, and AdamW with one pair of betas for both or, in an eighth, Muon."""
    one, other = (rng.choice(first),), (rng.choice(second),)
    orthogonal = rng.random() < 0.125
    model, critic = (muon(rng, 1e-3, 2e-2) if orthogonal else adam(rng, 1e-4, 2e-3, one, other) for _ in range(2))
    return {"optimizer": model, "critic_optimizer": critic, "critic": rng.choice(critics), "latent": f"flat({rng.choice((64, 100, 128, 256))})",
            "critic_augment": rng.choice(("none", "translate", "color + translate", "color + translate + cutout")),
            "batch_size": rng.choice((16, 32, 64)), "ema": rng.choice((0.99, 0.995, 0.998)),
            "schedule": rng.choice(("constant", "linear(warmup=0.02)"))}


def dcgan(rng: random.Random) -> Settings:
    slope, start = log_uniform(rng, 0.01, 1), rng.choice(("normal", "uniform"))
    critics = tuple(f"dcgan({width}, start='{start}')" for width in (16, 32, 64))
    return gan(rng, critics) | {"penalty": rng.choice(("none", f"{slope:g}*r1(0.1)")), "start": start}


def fastgan(rng: random.Random) -> Settings:
    return gan(rng, ("fastgan(8)", "fastgan(16)", "fastgan(24)"), (0.5,)) | {
        "batch_size": rng.choice((8, 16, 32, 64)), "game": rng.choice(("hinge(smoothing=0.2)", "hinge", "nonsaturating")),
        "patch": rng.choice("012"),
        "penalty": rng.choice(("reconstruct", "0.3*reconstruct", "reconstruct + 0.1*r1(0.1)", "spectral_norm + reconstruct"))}


def r3gan(rng: random.Random) -> Settings:
    start = log_uniform(rng, 0.003, 1)
    slope = rng.choice((f"{start:g}", f"cosine({start:g}, {start / 10:g}, 0.5)"))
    return gan(rng, ("r3gan(32)", "resnet(32)", "resnet(64)", "resnet(32, patch=2)", "conv", "dcgan(32)"), (0.0,), (0.9, 0.99)) | {
        "net": rng.choice(("r3gan", "resnet")), "patch": rng.choice("24"), "penalty": f"{slope}*r1(0.1) + {slope}*r2(0.1)",
        "likelihood": squashed(rng)}


def squashed(rng: random.Random) -> str:
    return rng.choice(("implicit", "implicit(squash=True)"))


RESNET = "resnet(width={w}, patch=%(patch)s)"
OF_DECODER = {"net": "r3gan", "patch": "0", "start": "normal"}
"""Settings that go into the decoder's call, and what they are unless changed."""
PLAYERS: dict[str, Player] = {
    "default": Player(VAE, RESNET, {}, default),
    "terse": Player(VAE, RESNET, {"fitted_prior": "flow_matching('mlp(192, 2)')"}, terse),
    "refined": Player(VAE, RESNET, {}, refined),
    "dcgan": Player(GAN, "dcgan({w}, start='%(start)s')", {"latent": "flat(100)", "schedule": "constant"}, dcgan),
    "fastgan": Player(GAN, "fastgan({w}, patch=%(patch)s)", {
        "optimizer": "adamw(lr=2e-4, betas=(0.5, 0.999))", "critic_optimizer": "adamw(lr=2e-4, betas=(0.5, 0.999))",
        "batch_size": 8, "latent": "flat(256)", "critic_augment": "color + translate", "ema": 0.999}, fastgan, step=1),
    "r3gan": Player(GAN, "%(net)s(width={w}, patch=%(patch)s)", {}, r3gan),
    "vae_gan": Player(HYBRID, RESNET, {}, vae_gan),
}
"""The most telling first."""


def settings_of(name: str, data: str, n: int) -> list[Settings]:
    """The paper's own, then random ones, the same whenever they are asked for."""
    rng = random.Random(f"{name} on {data}")
    player = PLAYERS[name]
    return [player.paper, *(player.space(rng) for _ in range(n - 1))]


def recipe_of(name: str, settings: dict[str, Any], data: str, image_shape: tuple[int, ...], seed: int, *, chooses: bool) -> Recipe:
    """The preset with settings, of the decoder's width that meets the target with the resampler among the parameters; with the
    resampler itself only where the model `chooses` among its draws."""
    decoder = PLAYERS[name].decoder % {k: settings.get(k, v) for k, v in OF_DECODER.items()}
    settings = {k: v for k, v in settings.items() if k not in OF_DECODER}
    base = {"batch_size": 64, "seed": seed, "precision": PRECISION, "threads": 1, "ema": 0.998, "compile": "off"}
    recipe = PRESETS[name].recipe.but(**base | settings | {"resampler": "none"})
    sized = of_size(recipe, decoder, image_shape, TARGET[data] - resampler_parameters(image_shape),
                    PLAYERS[name].step)
    return sized.but(resampler=RESAMPLER, resampler_share=RESAMPLER_SHARE) if chooses else sized


def resampler_parameters(image_shape: tuple[int, ...]) -> int:
    return sum(p.numel() for p in Resampler(RESAMPLER, image_shape).parameters())
