"""Metrics of a handful of images: right, or said to be unavailable."""

from __future__ import annotations

import math

import pytest
import torch

from reparam.metrics import STANDARD, measure
from reparam.metrics.evaluation import Evaluation, Unavailable
from reparam.models.sampler import Sampler
from reparam.parts.call import parse_list

PER_IMAGE = {"elbo", "iw_nll", "psnr", "ssim", "perceptual"}


@pytest.mark.parametrize("n", [1, 2, 3, 5, 19])
def test_every_metric_is_right_or_unavailable(small, images, n):
    evaluation = Evaluation(Sampler(small((1, 8, 8)).eval()), images(n, (1, 8, 8)), torch.arange(n) % 2,
                            train_images=images(60, (1, 8, 8)), train_labels=torch.arange(60) % 2, features="wavelets")
    for call in parse_list(STANDARD):
        if call.name in PER_IMAGE:
            for figure in measure(evaluation, str(call)):
                assert math.isfinite(figure.value) and (figure.interval is None) == (n == 1)
        else:
            with pytest.raises(Unavailable):
                measure(evaluation, str(call))
    assert {f.name for f in measure(evaluation)} >= {"-elbo", "psnr"}
