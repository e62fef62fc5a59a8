"""The VAE that many articles print, and what is wrong with it.

    python examples/01_the_listing.py [MNIST.npz]

The code found in many articles is

    encoder  784 → 128 (ReLU) → 256          decoder  256 → 128 (ReLU) → 784          loss = MSE(x_hat, x), Adam, batch 32

and is then said to sample new images by decoding draws of N(0, I). Four things are wrong with it:

1. It has one head. A posterior needs a mean and a log-variance, and a head for each.
2. Its code is not sampled, z = μ + σ·ε, so the decoder never sees anything but the codes of training images.
3. No KL ties the codes to the prior, so draws of N(0, I) lie where no image does: an autoencoder cannot draw.
4. A bare MSE, averaged over pixels, is no likelihood. Beside a KL, which is a sum, its weight is hundreds of times too
   small: with a KL added, every code collapses. A Gaussian likelihood with its own noise level needs no weight at all.

`reparam.ImageVAE` has all four right. Without a file, 8×8 digits enlarged to 28×28 stand in for MNIST.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn

import reparam
from reparam.functional.distance import frechet

EPOCHS, BATCH = 10, 32


class Listing(nn.Module):
    """As printed. With `kl`, as many readers then mend it: a KL beside the averaged MSE."""

    def __init__(self, kl: bool) -> None:
        super().__init__()
        self.kl = kl
        self.encoder = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 512 if kl else 256))
        self.decoder = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 784), nn.Sigmoid())

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        if not self.kl:
            return nn.functional.mse_loss(self.decoder(self.encoder(x)), x)
        mu, log_var = self.encoder(x).chunk(2, 1)
        x_hat = self.decoder(mu + (0.5 * log_var).exp() * torch.randn_like(mu))
        kl = -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum(1).mean()
        return nn.functional.mse_loss(x_hat, x) + kl

    def transform(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            h = self.encoder(torch.from_numpy(x))
            if not self.kl:
                return h.numpy()
            mu, log_var = h.chunk(2, 1)
            return (mu + (0.5 * log_var).exp() * torch.randn_like(mu)).numpy()

    def inverse_transform(self, z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.decoder(torch.from_numpy(z)).numpy()

    def sample(self, n: int) -> np.ndarray:
        return self.inverse_transform(np.random.default_rng(0).normal(size=(n, 256)).astype(np.float32))

    def fit(self, x: np.ndarray) -> Listing:
        torch.manual_seed(0)
        optimizer, data = torch.optim.Adam(self.parameters()), torch.from_numpy(x)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(data)).split(BATCH):
                optimizer.zero_grad()
                self.loss(data[batch]).backward()
                optimizer.step()
        return self


def auc(codes: np.ndarray) -> float:
    """How well squares of the codes tell them from draws of N(0, I): 0.5 is a match, 1 none."""
    drawn = np.random.default_rng(0).normal(size=codes.shape)
    both = np.concatenate([codes, drawn]) ** 2
    label = np.repeat([1, 0], len(codes))
    train = np.random.default_rng(1).random(len(both)) < 0.5
    judge = LogisticRegression(max_iter=500).fit(both[train], label[train])
    return roc_auc_score(label[~train], judge.predict_proba(both[~train])[:, 1])


def main() -> None:
    if len(sys.argv) > 1:
        arrays = np.load(sys.argv[1])
        train, test = (arrays[k].reshape(-1, 784).astype(np.float32) / 255 for k in ("train_images", "test_images"))
    else:
        digits = np.kron(load_digits().images, np.ones((4, 4)))[:, 2:30, 2:30].reshape(-1, 784).astype(np.float32) / 16
        train, test = digits[::2], digits[1::2]

    vae = reparam.ImageVAE(latent_dim=256).fit(train, epochs=10, batch_size=32)

    models = {"as printed: MSE, no KL": Listing(kl=False).fit(train),
              "with a KL beside the averaged MSE": Listing(kl=True).fit(train), "reparam.ImageVAE(latent_dim=256)": vae}
    features = PCA(64).fit(train)
    rows = []
    for name, model in models.items():
        z = model.transform(test)
        drawn = vae.model_.encode(test.reshape(-1, 28, 28), sample=True, seed=0) if model is vae else z
        samples = np.clip(model.sample(len(test)), 0, 1)
        rows.append({"what": name, "mse": round(float(((model.inverse_transform(z) - test) ** 2).mean()), 4),
                     "sample_distance": round(frechet(features.transform(test), features.transform(samples)), 2),
                     "auc": round(float(auc(drawn)), 3)})
        print(f"{name:36s} reconstruction MSE {rows[-1]['mse']:.4f}   distance of samples {rows[-1]['sample_distance']:7.2f}"
              f"   AUC codes / N(0, I) {rows[-1]['auc']:.3f}")
    print(f"and only the last has a likelihood: log p(x) ≥ {vae.score(test):.1f} nats per image (a density)")
    if len(sys.argv) > 1:
        about = (f"{len(train):,} training images, {EPOCHS} epochs at batch {BATCH}; the distance is a squared Fréchet "
                 "distance of 64 principal components of the pixels, samples against test images.")
        path = Path(__file__).parent.parent / "benchmarks" / "results" / "the_listing.json"
        path.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
