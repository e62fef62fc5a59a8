"""A few images' posteriors that stand for all, and how near a code is to each of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Centroids(NamedTuple):
    """Gaussian posteriors N(c_i, Σ_i) with diagonal Σ_i, and the width ρ of the kernels around them."""

    means: Float[Tensor, "k d"]
    variances: Float[Tensor, "k d"]
    width: float

    def log_weights(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """log ω_i(z) = −(z − c_i)ᵀ Σ_i⁻¹ (z − c_i) / ρ²."""
        return -squared_distances(z, self.means, self.variances) / self.width**2

    def to(self, like: Tensor) -> Centroids:
        """In the type and on the device of a tensor."""
        return Centroids(self.means.to(like), self.variances.to(like), self.width)


def squared_distances(z: Float[Tensor, "n d"], means: Float[Tensor, "k d"], variances: Float[Tensor, "k d"]
                      ) -> Float[Tensor, "n k"]:
    """(z − c_i)ᵀ Σ_i⁻¹ (z − c_i) of all pairs, by products of matrices alone."""
    precision = 1 / variances
    whole = z.square() @ precision.T - 2 * z @ (precision * means).T + (precision * means.square()).sum(1)
    return whole.clamp(min=0)


def centroids_of(means: Float[Tensor, "n d"], variances: Float[Tensor, "n d"], k: int, seed: int = 0
                 ) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k d"]]:
    """Means and variances of k of n posteriors: those whose means are nearest to the centres that k-means finds."""
    from sklearn.cluster import MiniBatchKMeans

    if len(means) <= k:
        return means, variances
    x = means.cpu().numpy()
    centres = MiniBatchKMeans(k, random_state=seed).fit(x).cluster_centers_
    nearest = torch.cdist(torch.from_numpy(np.asarray(centres, x.dtype)), torch.from_numpy(x)).argmin(1).unique()
    chosen = nearest.to(means.device)
    return means[chosen], variances[chosen]


def apart(means: Float[Tensor, "k d"], variances: Float[Tensor, "k d"]) -> Float[Tensor, "k"]:
    """The distance of each centroid to the nearest other one, in units of the latter's standard deviations; 1 for a single
    one."""
    if len(means) < 2:
        return means.new_ones(1)
    squared = squared_distances(means, means, variances)
    return squared.fill_diagonal_(torch.inf).min(1).values.sqrt()
