"""Terms of objectives. Each returns one number per example, (B,), in nats."""

from .decomposition import dip, dwkl, mi, tc
from .elbo import balanced_kl, capacity, free_bits, iw_bound, kl, layer_balanced_kl, log_weight, nll, only_layer, rate
from .importance import ciwae, dreg, miwae, piwae, stl
from .matching import mmd
from .quantised import codebook, commitment, entropy
from .regularity import equivariance, gradient_penalty, latent_noise, spectral_penalty
from .similarity import ms_ssim_term

__all__ = ["balanced_kl", "capacity", "ciwae", "codebook", "commitment", "dip", "dreg", "dwkl", "entropy", "equivariance",
           "free_bits", "gradient_penalty", "iw_bound", "kl", "latent_noise", "layer_balanced_kl", "log_weight", "mi",
           "miwae", "mmd", "ms_ssim_term", "nll", "only_layer", "piwae", "rate", "spectral_penalty", "stl", "tc"]
