"""Distance between images as a fixed network sees them, as a term and for metrics."""

from __future__ import annotations

import torch
from torch import Tensor

from ...features import get_features
from ...models.trace import Trace
from ...parts import registry
from ..context import Context
from ..objective import Term


@registry.term("perceptual")
def perceptual(features: str = "efficientnet") -> Term:
    """Distance of the decoder's mean from the image under fixed features, `perceptual_distance` (Zhang et al., 2018).

    `features` is a part ('efficientnet', 'efficientnet(size=128)', 'wavelets', which needs no weights) or the path of a
    file of weights ('vgg16-397923af.pth', which Johnson et al., 2016, arXiv:1603.08155, and most since have used).
    Dimensionless, so its weight is in nats. Blur that costs `ms_ssim` 0.07 costs about 1 under a network and 0.1 under
    `wavelets`: beside `nll`, which sums over pixel values, a hundredth of the number of these lets a network have an
    effect, a tenth wavelets (for 3×64×64, `nll + 100*perceptual + kl`). Values that the decoder puts outside [0, 1] are
    clamped and get no gradient from here, and images far apart can look alike to a network, so keep `nll` beside it.

    Raises:
        UsageError: unknown features, a package or file that is missing.
        ModelFileError: a file of weights that is damaged or unknown.
    """
    network = get_features(features)

    def of(trace: Trace, context: Context) -> Tensor:
        means = trace.px.mean
        with torch.no_grad():
            targets = network.maps(trace.x)
        samples = means.shape[0]
        maps = network.maps(means.flatten(0, 1))
        each = [network.compare(t.expand(samples, *t.shape).flatten(0, 1), m) for t, m in zip(targets, maps, strict=True)]
        return torch.stack(each).sum(0).unflatten(0, means.shape[:2]).mean(0)

    return Term(f"perceptual({features!r})", of)
