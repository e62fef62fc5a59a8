"""A linear VAE is probabilistic PCA: its bound must reach that model's exact likelihood and not pass it.

(Tipping & Bishop, 1999, doi:10.1111/1467-9868.00196; Lucas et al., 2019, arXiv:1911.02469)
"""

import pytest
import torch
from conftest import training
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from reparam.data.stream import Stream
from reparam.metrics.likelihood import importance_nll
from reparam.models.build import build_model
from reparam.objectives.objective import build_objective
from reparam.parts.recipe import Recipe


@pytest.mark.parametrize("k", [5, 10])
def test_linear_vae_reaches_ppca(k):
    x = (load_digits().images / 16).astype("float32")[..., None]
    exact = PCA(k).fit(x.reshape(len(x), -1)).score(x.reshape(len(x), -1))
    recipe = Recipe(encoder="mlp(hidden=())", decoder="mlp(hidden=())", latent=f"flat({k})",
                    likelihood="gaussian(sigma='learned')", objective="nll + kl")
    torch.manual_seed(0)
    model = build_model(recipe, (1, 8, 8))
    stream = Stream(x, torch.arange(len(x)).numpy(), batch_size=256)
    for state in training(model, build_objective(recipe), stream, steps=4000, optimizer="adamw(lr=3e-2)", ema=0.99):
        pass
    with torch.random.fork_rng():
        torch.manual_seed(0)
        every = torch.from_numpy(x).permute(0, 3, 1, 2)
        elbo = float(-importance_nll(state.ema.eval(), every, 1).mean())
    assert elbo <= exact
    assert exact - elbo <= 0.005 * abs(exact), f"{elbo:.3f} nats against {exact:.3f}"
