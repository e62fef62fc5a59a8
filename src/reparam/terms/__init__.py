"""Terms of objectives. Each returns one number per example, (B,), in nats."""

from .elbo import free_bits, iw_bound, kl, log_weight, nll, rate

__all__ = ["free_bits", "iw_bound", "kl", "log_weight", "nll", "rate"]
