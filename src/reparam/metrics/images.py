"""Images: how faithful reconstructions are."""

from __future__ import annotations

import torch
from torch import Tensor

from ..registry import metric
from .evaluation import Evaluation
from .figures import Figure, mean_figure


def psnr_of(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image (n,), dB, for pixels in [0, 1]."""
    return -10 * ((x - y) ** 2).flatten(1).mean(1).clamp(min=1e-10).log10()


@metric("psnr")
def psnr(evaluation: Evaluation) -> list[Figure]:
    """Reconstructions from the posterior's mean; and, for scale, the average image in place of every reconstruction."""
    model = evaluation.model
    with evaluation.drawing():
        rebuilt = torch.cat([
            model.decode(model.encode(chunk)[None]).mean[0].clamp(0, 1)
            for chunk in evaluation.x.split(250)])
    average = evaluation.x.mean(0, keepdim=True).expand_as(evaluation.x)
    return [mean_figure("psnr", psnr_of(evaluation.x, rebuilt).cpu(), "dB"),
            mean_figure("psnr of the average image", psnr_of(evaluation.x, average).cpu(), "dB")]
