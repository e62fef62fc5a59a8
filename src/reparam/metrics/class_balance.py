"""Whether samples hold every class as often as real images do, as a small classifier sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..chunks import in_chunks
from ..parts.registry import metric
from ..tensors import forked_rng
from .catalogue import FigureType, measures
from .evaluation import FEWEST, Evaluation, Unavailable
from .figures import Figure, small_sample_warning

Counts = npt.NDArray[np.int64]
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
    with forked_rng(), torch.inference_mode(False), torch.enable_grad():
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
    with forked_rng(), torch.inference_mode():
        return in_chunks(lambda chunk: net(_smaller(chunk)).argmax(1), x, size=500)


BALANCE = FigureType("class_balance", "Samples", "total variation distance, 0 is real images' balance",
                     "how far the classes of samples are from real images' balance", "lower", least=0.0, most=1.0, null=0.0)
MISSING_CLASSES = FigureType("classes missing", "Samples", "of {total} classes", "classes that samples leave out", "lower",
                             least=0.0, null=0.0)
ACCURACY = FigureType("accuracy of class_balance's classifier", "Samples", "of the images",
                      "how far to trust class_balance and the classes missing",
                      why_neither="a figure of the classifier, not of the model", least=0.0, most=1.0,
                      absent="none of these images has a label")


@metric("class_balance")
@measures(BALANCE, MISSING_CLASSES, ACCURACY)
def class_balance(evaluation: Evaluation) -> list[Figure]:
    """How far the classes of samples are from those of real images, by a classifier trained on training images.

    The total variation distance ½ Σ_c |p_c − q_c| of the classes that it sees in samples and in real images, so that its
    own confusions cancel, without what chance adds; the detail is each class's share of the samples. With it, how many
    classes are missing (held a tenth as often as by real images, or less, and not by chance), and the classifier's accuracy
    on real images, without which neither says much. For data with labels only.
    """
    train_images, train_labels, y = evaluation.train_images, evaluation.train_labels, evaluation.y
    labelled = None if train_labels is None else train_labels >= 0
    if train_images is None or train_labels is None or labelled is None or y is None or int(labelled.sum()) < FEWEST:
        raise Unavailable("class_balance trains a classifier on labelled training images, and there are none here")
    classes = int(train_labels.max()) + 1
    if classes < 2:
        raise Unavailable("class_balance compares classes, and there is one only")
    net = classifier(train_images[labelled], train_labels[labelled], classes)
    real, samples = classes_of(net, evaluation.real).cpu(), classes_of(net, evaluation.samples).cpu()
    p, q = (each.bincount(minlength=classes).numpy() for each in (samples, real))
    n = len(samples)
    found = imbalance(p, q)
    pictures = evaluation.x if evaluation.pictures is None else evaluation.pictures
    right = (classes_of(net, pictures) == y)[y >= 0].float().cpu()
    accuracy = ACCURACY.mean(right) if len(right) else None
    sure = f"by a classifier that is right on {accuracy.value:.1%} of real images" if accuracy else "by a classifier"
    figures = [BALANCE.of(found.value, n, found.interval, f"{sure}; what chance adds is taken off",
                          detail=tuple(round(float(v), 5) for v in p / n)),
               MISSING_CLASSES.of(missing(p, q), n, note=sure, total=classes)]
    return [replace(figure, warning=small_sample_warning(n)) for figure in figures] + ([accuracy] if accuracy else [])


def missing(samples: Counts, real: Counts) -> int:
    """How many classes samples hold a tenth as often as real images, or less, and too seldom for chance.

    Chance: of all of a class, in both sets, each is a sample with probability m / (m + n); so few of them being samples has
    to be less likely than 1 % over the number of classes.
    """
    from scipy.stats import binom

    m, n = samples.sum(), real.sum()
    chance = binom.cdf(samples, samples + real, m / (m + n))
    seldom = (samples / m <= MISSING * real / n) & (real > 0)
    return int((seldom & (np.asarray(chance) < 0.01 / len(samples))).sum())


class Imbalance(NamedTuple):
    """A total variation distance, without what chance adds, and its 95 % interval."""

    value: float
    interval: tuple[float, float]


def imbalance(samples: Counts, real: Counts, *, draws: int = 1000, seed: int = 0) -> Imbalance:
    """The total variation distance ½ Σ_c |p_c − q_c| between the classes that counts (C,) of two sets were drawn from.

    That of the sets' own shares is too large: chance makes it 0.03 of two sets of 2,000 with the same ten classes. What
    shares would be observed if the distance were t is simulated, for values t from 0 on: classes p = r + t v and q = r − t v
    with v half the observed difference, scaled to a distance of 1, and r the mean of both, less what makes them negative,
    with multinomial noise. The figure is the t whose median is the distance observed, 0 where that is less than chance
    gives; the interval holds the t under which it lies within the middle 95 %. (Neyman, 1937, on intervals by inverting
    tests)
    """
    m, n = int(samples.sum()), int(real.sum())
    p, q = samples / m, real / n
    observed = 0.5 * float(np.abs(p - q).sum())
    if observed == 0:
        return Imbalance(0.0, (0.0, _largest(p, n, m, observed, draws, seed)))
    middle, towards = (p + q) / 2, (p - q) / (2 * observed)
    grid = np.unique(np.r_[np.linspace(0, min(2 * observed, 1.0), 41), min(observed + 3 / min(m, n) ** 0.5, 1.0)])
    low, median, high = (np.maximum.accumulate(each) for each in np.array([
        np.quantile(_distances(middle + t * towards, middle - t * towards, m, n, draws, seed), (0.025, 0.5, 0.975))
        for t in grid]).T)
    value = float(np.interp(observed, median, grid)) if observed > median[0] else 0.0
    least = float(np.interp(observed, high, grid)) if observed > high[0] else 0.0
    most = float(np.interp(observed, low, grid))
    return Imbalance(value, (min(least, value), max(most, value)))


def _largest(p: npt.NDArray[np.float64], n: int, m: int, observed: float, draws: int, seed: int) -> float:
    """The upper end where both sets have the very same shares: what chance alone makes in 97.5 % of pairs."""
    return float(np.quantile(_distances(p, p, m, n, draws, seed), 0.975))


def _distances(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64], m: int, n: int, draws: int, seed: int
               ) -> npt.NDArray[np.float64]:
    """Of pairs of sets of m and n images, (draws,), the same random numbers every time."""
    rng = np.random.default_rng(seed)
    p, q = (each.clip(min=0) / each.clip(min=0).sum() for each in (p, q))
    return 0.5 * np.abs(rng.multinomial(m, p, draws) / m - rng.multinomial(n, q, draws) / n).sum(1)


def _smaller(x: Tensor) -> Tensor:
    h, w = (min(side, LARGEST) for side in x.shape[-2:])
    return x if (h, w) == x.shape[-2:] else F.adaptive_avg_pool2d(x, (h, w))
