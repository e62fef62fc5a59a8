"""Whether samples hold every class as often as real images do, as a small classifier sees it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import metric
from .evaluation import FEWEST, Evaluation, Unavailable
from .figures import Figure, few, mean_figure

STEPS, BATCH, RATE = 400, 128, 3e-3
LARGEST = 32
"""Images are averaged down to at most this side."""
MISSING = 0.1
"""A class is missing when samples hold it less than this share as often as real images do."""


def classifier(x: Tensor, y: Tensor, classes: int, *, steps: int = STEPS, seed: int = 0) -> nn.Module:
    """A small convolutional network trained to tell classes y (n,) of images x (n, C, H, W), in evaluation mode.

    Three convolutions of 32, 64 and 128 channels and stride 2 with batch normalisation, the mean over places, one linear
    layer; AdamW with one cycle of the learning rate, shifted by up to 2 pixels. Fixed by the seed.
    """
    with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after in ((x.shape[1], 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes)).to(x.device)
        optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        x, y = _smaller(x), y.long()
        for _ in range(steps):
            rows = torch.randint(len(x), (min(BATCH, len(x)),)).to(x.device)
            down, right = (int(shift) for shift in torch.randint(-2, 3, (2,)))
            loss = F.cross_entropy(net(torch.roll(x[rows], (down, right), (2, 3))), y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return net.eval()


def classes_of(net: nn.Module, x: Tensor) -> Tensor:
    """The likeliest class of each image, (n,)."""
    with torch.inference_mode():
        return torch.cat([net(_smaller(chunk)).argmax(1) for chunk in x.split(500)])


@metric("class_balance")
def class_balance(evaluation: Evaluation) -> list[Figure]:
    """How far the classes of samples are from those of real images, by a classifier trained on training images.

    The total variation distance ½ Σ_c |p_c − q_c| of the classes that it sees in samples and in real images, so that its
    own confusions cancel; the detail is each class's share of the samples. With it, how many classes are missing (held a
    tenth as often as by real images, or less), and the classifier's accuracy on real images, without which neither says
    much. For data with labels only.
    """
    known, known_y, y = evaluation.known, evaluation.known_y, evaluation.y
    labelled = None if known_y is None else known_y >= 0
    if known is None or known_y is None or labelled is None or y is None or int(labelled.sum()) < FEWEST:
        raise Unavailable("class_balance trains a classifier on labelled training images, and there are none here")
    classes = int(known_y.max()) + 1
    if classes < 2:
        raise Unavailable("class_balance compares classes, and there is one only")
    net = classifier(known[labelled], known_y[labelled], classes)
    real, samples = classes_of(net, evaluation.real).cpu(), classes_of(net, evaluation.samples).cpu()
    p, q = (each.bincount(minlength=classes).double().numpy() / len(each) for each in (samples, real))
    n = len(samples)
    distance = 0.5 * float(np.abs(p - q).sum())
    gone = int(((p <= MISSING * q) & (q > 0)).sum())
    pictures = evaluation.x if evaluation.pictures is None else evaluation.pictures
    right = (classes_of(net, pictures) == y)[y >= 0].float().cpu()
    accuracy = mean_figure("accuracy of class_balance's classifier", right, "of the images") if len(right) else None
    sure = f"by a classifier that is right on {accuracy.value:.1%} of real images" if accuracy else "by a classifier"
    figures = [Figure("class_balance", distance, "total variation distance, 0 is real images' balance", n,
                      _interval(distance, p, q, n), sure, tuple(round(float(v), 5) for v in p)),
               Figure("classes missing", gone, f"of {classes} classes", n, None, sure)]
    return [replace(figure, warning=few(n)) for figure in figures] + ([accuracy] if accuracy else [])


def _interval(distance: float, p: np.ndarray, q: np.ndarray, n: int, draws: int = 1000) -> tuple[float, float]:
    """The distance ± 1.96 standard deviations of it over bootstrap samples of both sets."""
    rng = np.random.default_rng(0)
    each = 0.5 * np.abs(rng.multinomial(n, p / p.sum(), draws) - rng.multinomial(n, q / q.sum(), draws)).sum(1) / n
    half = 1.96 * float(each.std())
    return max(distance - half, 0.0), min(distance + half, 1.0)


def _smaller(x: Tensor) -> Tensor:
    h, w = (min(side, LARGEST) for side in x.shape[-2:])
    return x if (h, w) == x.shape[-2:] else F.adaptive_avg_pool2d(x, (h, w))
