"""Terms of objectives. Each returns one number per example, (B,), in nats."""

from .decomposition import dip, dwkl, mi, tc
from .elbo import balanced_kl, capacity, free_bits, iw_bound, kl, layer_balanced_kl, nll
from .importance import ciwae, dreg, miwae, piwae, stl
from .mmd import mmd
from .quantized import codebook, commitment, entropy
from .regularity import equivariance, gradient_penalty, latent_noise, spectral_penalty
from .similarity import ms_ssim_term

__all__ = ["balanced_kl", "capacity", "ciwae", "codebook", "commitment", "dip", "dreg", "dwkl", "entropy",
           "equivariance", "free_bits", "gradient_penalty", "iw_bound", "kl", "latent_noise", "layer_balanced_kl",
           "mi", "miwae", "mmd", "ms_ssim_term", "nll", "piwae", "spectral_penalty", "stl", "tc"]
