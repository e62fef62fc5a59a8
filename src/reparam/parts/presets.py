"""Recipes with a name: each with its reference, the data it is for, and the figures to expect of it.

`measured()` is what `benchmarks/presets.py` found of each, with the cost; nothing in it is written by hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from ..errors import UsageError, nearest
from .recipe import Recipe

INK, ANY, CLASSES, PAIRS = "ink", "any", "classes", "pairs"
DATA = {INK: "ink on paper: MNIST and the like", ANY: "any images", CLASSES: "ink on paper with class labels",
        PAIRS: "images of which some are known to be partners"}
"""What a preset is for."""


@dataclass(frozen=True)
class Preset:
    """A recipe that people know by a name."""

    recipe: Recipe
    about: str
    reference: str
    data: str = ANY

    @property
    def changes(self) -> dict[str, Any]:
        """The fields in which the recipe differs from the default one."""
        plain = Recipe()
        return {f.name: getattr(self.recipe, f.name) for f in fields(Recipe)
                if getattr(self.recipe, f.name) != getattr(plain, f.name)}


def _ink(about: str, reference: str, data: str = INK, **changes: Any) -> Preset:
    """A preset for black-and-white images: a residual network, 32 latents and the Bernoulli likelihood unless changed."""
    base = Recipe(likelihood="bernoulli", binarize=True, latent="flat(32)", schedule="linear(warmup=0.05)")
    return Preset(base.but(**changes), about, reference, data)


def _any(about: str, reference: str, **changes: Any) -> Preset:
    """A preset for any images: the default recipe unless changed."""
    return Preset(Recipe().but(**changes), about, reference)


def _gan(about: str, reference: str, **changes: Any) -> Preset:
    """A preset without an encoder."""
    base = Recipe(encoder="none", latent="flat(128)", likelihood="implicit", objective="adversarial", adversary="images",
                  optimizer="adamw(lr=4e-4, betas=(0.5, 0.99))", schedule="linear(warmup=0.02)", batch_size=64)
    return Preset(base.but(**changes), about, reference)


def _generate(about: str, detail: int = 100, **changes: Any) -> Preset:
    """A preset for samples above all: latents that a second model can learn, and that model."""
    usual: dict[str, Any] = {
        "encoder": "resnet(blocks=2, patch=2)", "decoder": "resnet(blocks=2, patch=2)", "batch_size": 64,
        "adversary": "images('reconstructions', patch=8)", "critic": "dcgan(32)",
        "fitted_prior": "flow_matching('unet(128, 2)')", "prior_share": 0.7}
    return _any(about, "Rombach et al., 2022, arXiv:2112.10752; Dao et al., 2023, arXiv:2307.08698",
                objective=f"0.9*nll + 0.1*latent_noise(0.1) + {detail}*perceptual('wavelets') + kl + "
                          "late(1, 0.6, 0.1)*adversarial(balance=0.2)", **usual | changes)


def _generate_large(about: str, net: str, *, detail: int, **changes: Any) -> Preset:
    """The same for images of more than 64 pixels a side: deep networks of few channels at full size, and a prior that reads
    its map in squares of four places. The weight of `perceptual` is in proportion to the number of pixels."""
    return _generate(about, detail, encoder=net, decoder=net, fitted_prior="flow_matching('unet(128, 2, patch=2)')",
                     prior_share=0.5, **changes)


PRESETS: dict[str, Preset] = {
    "default": _any(
        "σ-VAE: a residual network whose noise level is calibrated at every step, so that no weight has to be chosen; "
        "a mixture is fitted to its codes for sampling.",
        "Rybkin et al., 2021, arXiv:2006.13202; Ghosh et al., 2020, arXiv:1903.12436"),
    "sigma_vae": _any(
        "The same by the name of its paper, with the paper's prior alone.",
        "Rybkin et al., 2021, arXiv:2006.13202", fitted_prior="none"),
    "quick": _any(
        "A smaller network, smaller batches and a higher learning rate, for half a minute and images of about 32 pixels: "
        "what the demo trains.", "Rybkin et al., 2021, arXiv:2006.13202",
        latent="flat(16)", encoder="resnet(width=32, patch=4)", decoder="resnet(width=48, patch=4)", batch_size=32),
    "mlp": _any(
        "The small VAE that many articles print, corrected: 784 → 128 → 256 latents → 128 → 784.",
        "Kingma & Welling, 2014, arXiv:1312.6114",
        encoder="mlp((128,), 'relu')", decoder="mlp((128,), 'relu')", latent="flat(256)", optimizer="adam(lr=1e-3)",
        schedule="constant", batch_size=32, ema=0.0),
    "vae": _ink("The plain VAE: Gaussian posterior, standard normal prior, the ELBO.",
                "Kingma & Welling, 2014, arXiv:1312.6114", fitted_prior="none"),
    "annealed": _ink("The plain VAE whose KL is switched on over the first third of training.",
                     "Bowman et al., 2016, arXiv:1511.06349", objective="nll + linear(0, 1, 0.3)*kl", fitted_prior="none"),
    "iwae": _ink("Trained on the importance-weighted bound with five samples, at five times the decoder's cost.",
                 "Burda et al., 2016, arXiv:1509.00519", objective="iw_bound(5)", fitted_prior="none"),
    "dreg": _ink("The same bound with the doubly reparameterised gradient, whose signal-to-noise ratio grows "
                 "with the number of samples.",
                 "Tucker et al., 2019, arXiv:1810.04152", objective="dreg(5)", fitted_prior="none"),
    "vamp": _ink("A prior that is the mixture of the posteriors of a hundred learned pseudo-images.",
                 "Tomczak & Welling, 2018, arXiv:1705.07120", prior="vamp(100)"),
    "flow_prior": _ink("A prior of affine couplings that is learned with the model: the best likelihood for the time.",
                       "Chen et al., 2017, arXiv:1611.02731; Dinh et al., 2017, arXiv:1605.08803", prior="flow"),
    "spline_prior": _ink("A prior of rational-quadratic splines.",
                         "Durkan et al., 2019, arXiv:1906.04032", prior="spline_flow"),
    "iaf": _ink("A posterior bent by an inverse autoregressive flow.",
                "Kingma et al., 2016, arXiv:1606.04934", posterior="iaf", fitted_prior="none"),
    "hamiltonian": _ink("A posterior whose draws follow the gradient of log p(x, z) for three steps.",
                        "Caterini et al., 2018, arXiv:1805.11328", posterior="hamiltonian", fitted_prior="none"),
    "full_covariance": _ink("A posterior with the covariances of all latents.",
                            "Kingma & Welling, 2019, arXiv:1906.02691, section 2.5.1", posterior="full",
                            fitted_prior="none"),
    "ladder": _ink(
        "Three stochastic layers from the top down, the top with a flow prior: the best likelihood when there is time.",
        "Child, 2021, arXiv:2011.10650; Vahdat & Kautz, 2020, arXiv:2007.03898",
        latent="top_down(32, (2,))", encoder="resnet(blocks=2)", decoder="resnet(blocks=0)", prior="flow",
        batch_size=64),
    "ladder_s": _any(
        "Ten stochastic layers on three grids, for two CPU cores and an hour.", "Child, 2021, arXiv:2011.10650",
        latent="top_down(32, (2, 3, 4), 8, 64, 2, (1, 1, 1), 4)", encoder="resnet(64, patch=2)",
        decoder="resnet(64, blocks=0, patch=2)", likelihood="logistic(5)", optimizer="adamw(lr=1e-3)", batch_size=32),
    "ladder_m": _any(
        "Twenty-two stochastic layers on five grids, for one GPU and an hour.", "Child, 2021, arXiv:2011.10650",
        latent="top_down(64, (1, 2, 4, 6, 8), 16, 192, 2, (1, 1, 2, 3, 4), 4)", encoder="resnet(192, blocks=0, patch=2)",
        decoder="resnet(192, blocks=0, patch=2)", likelihood="logistic(10)",
        optimizer="adamw(lr=5e-4, betas=(0.9, 0.9), weight_decay=0.01)", batch_size=64),
    "ladder_l": _any(
        "Forty-four stochastic layers down to single pixels, 40 million parameters, for 32×32 images and days of one GPU; "
        "published for this shape on CIFAR-10: 2.87 bits/dim.", "Child, 2021, arXiv:2011.10650",
        latent="top_down(384, (1, 0, 3, 6, 11, 22), 16, 384, 1, (3, 0, 3, 6, 6, 11), 4)",
        encoder="resnet(384, blocks=0, patch=1)", decoder="resnet(384, blocks=0, patch=1)", likelihood="logistic(10)",
        optimizer="adamw(lr=2e-4, betas=(0.9, 0.9), weight_decay=0.01)", schedule="constant", ema=0.9999, batch_size=32),
    "svae": _ink("Codes on a sphere, where the KL cannot pull them together.",
                 "Davidson et al., 2018, arXiv:1804.00891", latent="flat(16)", posterior="vmf", prior="sphere"),
    "hyperbolic": _ink("Codes in hyperbolic space, which has room for trees: general near the origin, special far out.",
                       "Nagano et al., 2019, arXiv:1902.02992; Mathieu et al., 2019, arXiv:1901.06033",
                       latent="flat(8)", posterior="hyperbolic"),
    "ada_gvae": Preset(Recipe(posterior="adaptive", latent="flat(16)"),
                       "Learns from pairs of images, --pairs, of which it is known only that they share some factors: "
                       "latents in which two partners differ little are made the same for both.",
                       "Locatello et al., 2020, arXiv:2002.02886", PAIRS),
    "gumbel": _ink("Twenty categorical latents of ten classes each, relaxed.",
                   "Jang et al., 2017, arXiv:1611.01144; Maddison et al., 2017, arXiv:1611.00712",
                   latent="flat(200)", posterior="relaxed_categorical(10)", prior="relaxed", optimizer="adamw(lr=3e-3)"),
    "cvae": _ink("Conditioned on each image's class, which is dropped for a tenth of them: --label chooses what "
                  "`sample` draws.",
                 "Sohn et al., 2015; Ho & Salimans, 2022, arXiv:2207.12598", CLASSES,
                 latent="conditional(32, classes=10)", prior="flow"),
    "m2": _ink("Semi-supervised: learns to classify from a hundred labels, ten per class, and all images. Every batch holds "
               "labelled images; all are turned, stretched, slanted and shifted a little, which is for handwriting.",
               "Kingma et al., 2014, arXiv:1406.5298", CLASSES, latent="semi_supervised(16, classes=10)",
               encoder="resnet(32)", decoder="resnet(32)", augment="affine",
               objective="nll + kl + 50*classify", labelled=100),
    "beta_vae": _any("A KL four times as heavy: fewer, more independent latents at the price of detail.",
                     "Higgins et al., 2017, \"β-VAE\", ICLR", objective="nll + 4*kl", latent="flat(16)"),
    "capacity": _any("A rate held at 25 nats, reached step by step.",
                     "Burgess et al., 2018, arXiv:1804.03599", objective="nll + 30*capacity(25)", latent="flat(16)"),
    "beta_tcvae": _any("Only the total correlation of the codes weighs more, which keeps more detail than β-VAE.",
                       "Chen et al., 2018, arXiv:1802.04942", objective="nll + mi + 4*tc + dwkl", latent="flat(16)"),
    "dip_vae": _any("The covariance of all codes is drawn to the identity.",
                    "Kumar et al., 2018, arXiv:1711.00848", objective="nll + kl + dip(2, 10.0, 10.0)", latent="flat(16)"),
    "info_vae": _any("Half the KL, and the codes as a whole matched to the prior by maximum mean discrepancy.",
                     "Zhao et al., 2019, arXiv:1706.02262", objective="nll + 0.5*kl + 500*mmd"),
    "wae": _any("An autoencoder whose codes as a whole are matched to the prior.",
                "Tolstikhin et al., 2018, arXiv:1711.01558", posterior="deterministic", objective="nll + 500*mmd",
                latent="flat(32)"),
    "rae": _any("An autoencoder with small codes and a smooth decoder; the mixture fitted afterwards makes it generate.",
                "Ghosh et al., 2020, arXiv:1903.12436", posterior="deterministic",
                objective="nll + kl + 0.01*gradient_penalty", latent="flat(32)"),
    "vq_vae": _any("A map of codes from a learned codebook, and an autoregressive prior over them.",
                   "van den Oord et al., 2017, arXiv:1711.00937", latent="spatial(16, 4)", posterior="vq(256)",
                   prior="autoregressive", objective="nll + kl + 10*commitment"),
    "fsq": _any("The same without a codebook: numbers rounded to a few levels.",
                "Mentzer et al., 2024, arXiv:2309.15505", latent="spatial(4, 4)", posterior="fsq((8, 5, 5, 5))",
                prior="autoregressive"),
    "lfq": _any("The same with bits: numbers rounded to their signs.",
                "Yu et al., 2024, arXiv:2310.05737", latent="spatial(8, 4)", posterior="lfq", prior="autoregressive",
                objective="nll + kl + 10*commitment + 0.1*entropy"),
    "rvq": _any("Each position of the map is a sum of four codes, from coarse to fine.",
                "Lee et al., 2022, arXiv:2203.01941; Zeghidour et al., 2021, arXiv:2107.03312", latent="spatial(16, 8)",
                posterior="rvq(256, 4)", prior="autoregressive", objective="nll + kl + 10*commitment"),
    "vae_gan": _any(
        "The default model with an adversarial loss on its reconstructions for the last two fifths of training; "
        "still with an encoder, a likelihood and a prior fitted to its codes.",
        "Larsen et al., 2016, arXiv:1512.09300; Esser et al., 2021, arXiv:2012.09841",
        objective="nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.1)", adversary="images('reconstructions')",
        critic="dcgan(32)", batch_size=64),
    "learned_similarity": _any(
        "After the VAE-GAN: a distance between the critic's features, beside a tenth of the pixels' likelihood. Unlike "
        "in the paper's algorithm one objective trains encoder and decoder, and the adversarial loss of reconstructions "
        "also trains the encoder.",
        "Larsen et al., 2016, arXiv:1512.09300",
        objective="0.1*nll + kl + learned_similarity + adversarial", adversary="images", critic="dcgan(32)",
        encoder="dcgan(32)", decoder="dcgan(32)", optimizer="adamw(lr=1e-3, betas=(0.5, 0.99))", batch_size=64),
    "aae": _any("An autoencoder whose codes as a whole are matched to the prior by a critic of codes.",
                "Makhzani et al., 2016, arXiv:1511.05644", posterior="deterministic", latent="flat(16)",
                objective="nll + 20*adversarial", adversary="codes", critic="mlp((256, 256))", fitted_prior="none"),
    "factor_vae": _any("The total correlation of the codes, as a critic estimates it, weighs more than the rest of the KL.",
                       "Kim & Mnih, 2018, arXiv:1802.05983", latent="flat(16)", objective="nll + kl + 6*adversarial",
                       adversary="permuted", game="ratio", critic="mlp((256, 256, 256))",
                       critic_optimizer="adamw(lr=1e-4, betas=(0.5, 0.9))"),
    "ali": _any("Encoder and decoder learn to be each other's inverse from a critic of images with their codes.",
                "Dumoulin et al., 2017, arXiv:1606.00704; Donahue et al., 2017, arXiv:1605.09782",
                objective="adversarial", adversary="joint", likelihood="implicit", fitted_prior="none",
                optimizer="adamw(lr=4e-4, betas=(0.5, 0.99))", batch_size=64),
    "soft_intro_vae": _any("The encoder is the critic: it tells new images by their low ELBO, which the decoder raises.",
                           "Daniel & Tamar, 2021, arXiv:2012.13253", objective="nll + kl + adversarial",
                           adversary="introspective", optimizer="adamw(lr=5e-4)"),
    "latent_diffusion": _any(
        "The autoencoder of latent diffusion: absolute error, perceptual distance, a critic of patches and a small KL on a "
        "map of codes.",
        "Rombach et al., 2022, arXiv:2112.10752", latent="spatial(4, 4)", likelihood="laplace",
        objective="nll + 100*perceptual('wavelets') + 0.01*kl + late(1, 0.6, 0.1)*adversarial(balance=0.2)",
        adversary="images('reconstructions', patch=8)", game="hinge", batch_size=64),
    "terse": _any(
        "For new images from a small code that one can see and edit: the code says what matters, flow matching draws it, a "
        "resampler chooses among the draws, and a refiner adds the detail. Wants ten minutes or more.",
        "Reed et al., 2017, arXiv:1703.03664; Bauer & Mnih, 2019, arXiv:1810.11428; Lipman et al., 2023, arXiv:2210.02747",
        latent="flat(32)", objective="nll + 3*kl", fitted_prior="flow_matching('mlp(256, 2)')", prior_share=0.2,
        resampler="resnet(32)", resampler_share=0.1, refiner="autoregressive(64, temperature=0.6)", refiner_share=0.45,
        batch_size=64),
    "refined": _any(
        "The default, and 30 % of the minutes for a small refiner that draws, in one pass, the detail that a decoder's mean "
        "lacks: in colour, too.", "Rybkin et al., 2021, arXiv:2006.13202; Pacchiardi et al., 2024, arXiv:2112.08217",
        refiner="energy", refiner_share=0.3),
    "latent_flow": _any(
        "For varied new images without a critic: a map of codes by likelihood alone, and flow matching over it for three "
        "quarters of the minutes. Wants half an hour of a processor or more.",
        "Dao et al., 2023, arXiv:2307.08698; Lipman et al., 2023, arXiv:2210.02747", latent="spatial(4, 2)",
        encoder="resnet(patch=2)", decoder="resnet(patch=2)", objective="nll + 3*kl",
        fitted_prior="flow_matching('unet(44, patch=2)')", prior_share=0.75, batch_size=64),
    "generate32": _generate(
        "For new images of about 32 pixels a side, on a GPU: a map of codes, a late critic of patches, and a flow-matching "
        "prior that is fitted within the same minutes. Wants half an hour.", latent="spatial(4, 2)"),
    "generate64": _generate("The same for about 64 pixels a side.", latent="spatial(4, 4)"),
    "generate128": _generate_large(
        "The same for about 128 pixels a side.", "deep(64, 2)", detail=400, latent="spatial(4, 4)", batch_size=32),
    "generate256": _generate_large(
        "The same for about 256 pixels a side, a batch in four pieces to save memory.", "deep(32, 2)", detail=1600,
        latent="spatial(4, 8)", batch_size=16, accumulate=4, adversary="images('reconstructions', patch=16)"),
    "generate512": _generate_large(
        "The same for about 512 pixels a side, in eight pieces; attention joins the places of its map.",
        "deep(24, 2, attention=4)",
        detail=6400, latent="spatial(8, 16)", batch_size=8, accumulate=8, adversary="images('reconstructions', patch=16)"),
    "dcgan": _gan("The classic GAN: BatchNorm, transposed convolutions, the non-saturating game.",
                  "Radford et al., 2016, arXiv:1511.06434", decoder="dcgan(start='normal')", critic="dcgan(start='normal')",
                  likelihood="implicit(squash=True)", optimizer="adamw(lr=2e-4, betas=(0.5, 0.999))",
                  critic_optimizer="adamw(lr=2e-4, betas=(0.5, 0.999))"),
    "sngan": _gan("Hinge game against a critic with spectral normalisation.",
                  "Miyato et al., 2018, arXiv:1802.05957", game="hinge", penalty="spectral_norm", critic="resnet",
                  optimizer="adamw(lr=2e-4, betas=(0.0, 0.9))", critic_optimizer="adamw(lr=4e-4, betas=(0.0, 0.9))"),
    "wgan_gp": _gan("Scores in place of odds, a critic with a slope of one, and five of its steps for each of the model's.",
                    "Gulrajani et al., 2017, arXiv:1704.00028", game="wasserstein(steps=5)", penalty="10*gradient",
                    optimizer="adamw(lr=2e-4, betas=(0.0, 0.9))", critic_optimizer="adamw(lr=2e-4, betas=(0.0, 0.9))"),
    "fastgan": _gan("For few images: a generator whose coarse maps scale its fine ones, and a critic that also learns to "
                    "reconstruct what it sees, of images whose colours and places change.",
                    "Liu et al., 2021, arXiv:2101.04775; Zhao et al., 2020, arXiv:2006.10738", decoder="fastgan",
                    critic="fastgan", likelihood="implicit(squash=True)", game="hinge(smoothing=0.2)",
                    penalty="reconstruct", critic_augment="color + translate + cutout", batch_size=16,
                    optimizer="adamw(lr=4e-4, betas=(0.5, 0.999))", critic_optimizer="adamw(lr=4e-4, betas=(0.5, 0.999))"),
    "r3gan": _gan("The modern baseline: each fake against a real image, and slopes held flat on either side.",
                  "Huang et al., 2024, arXiv:2501.05441", decoder="r3gan", critic="r3gan", game="relativistic",
                  penalty="cosine(0.5, 0.05, 0.5)*r1(0.1) + cosine(0.5, 0.05, 0.5)*r2(0.1)",
                  optimizer="adamw(lr=6e-4, betas=(0.0, 0.99))", critic_optimizer="adamw(lr=6e-4, betas=(0.0, 0.99))"),
    "vit": _any("Small transformers in place of convolutions; fast on images of 64 pixels a side and more.",
                "Dosovitskiy et al., 2021, arXiv:2010.11929", encoder="vit(64, 2)", decoder="vit(64, 2)"),
}


def find(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: there is none; the nearest is suggested and all are listed.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}{nearest(name, PRESETS)}. Presets: {', '.join(PRESETS)}")
    return PRESETS[name]


@cache
def measured() -> dict[str, Any]:
    """What was measured of each preset, by name: figures, data, cost; without an entry where nothing was."""
    path = files("reparam.parts") / "preset_figures.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
