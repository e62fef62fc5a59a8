"""Choosing among draws: typical ones, or ones that differ as much as possible."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UsageError


def typical(log_density: npt.ArrayLike, share: float) -> npt.NDArray[np.int64]:
    """Rows of the `share` of draws that their prior finds likeliest, by log density (n,), in their own order.

    Raises:
        UsageError: a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UsageError(f"the share of draws that is kept is above 0 and at most 1; got {share}")
    log_p = np.asarray(log_density, np.float64)
    return np.sort(np.argsort(-log_p, kind="stable")[: max(round(share * len(log_p)), 1)])


def diverse(vectors: npt.ArrayLike | Tensor, n: int) -> npt.NDArray[np.int64]:
    """n rows of vectors (m, d) that are far from one another: begins at the one nearest to the mean, then always takes the
    one that is farthest from those taken, which covers the set within twice the best radius. (Gonzalez, 1985)

    Raises:
        UsageError: more rows than there are.
    """
    v: Float[Tensor, "m d"] = torch.as_tensor(vectors).double()
    if not 1 <= n <= len(v):
        raise UsageError(f"{n} of {len(v)} draws: choose from 1 to as many as there are")
    taken = [int((v - v.mean(0)).square().sum(1).argmin())]
    nearest = (v - v[taken[0]]).square().sum(1)
    while len(taken) < n:
        taken.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (v - v[taken[-1]]).square().sum(1))
    return np.array(taken)
