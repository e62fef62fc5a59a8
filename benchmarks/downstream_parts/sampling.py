"""What `sample` chooses, measured: FD, precision and recall of draws against test images, by EfficientNet features.

2,000 draws of each way of choosing, of the default preset's model, against 2,000 test images; `--like` and `--between` lead
to images that were held out, ten draws for each image or pair. Beside them stand what no choice gets under: as many other
real images, and reconstructions of as many held-out and training images.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

import reparam
from downstream_parts.models import FILES, Set, trained
from reparam.data.stream import to_batch
from reparam.downstream.sampling import Around, Keep, draw_images
from reparam.downstream.statistics import FEATURE_NETWORK, image_features
from reparam.files.writing import replacing
from reparam.functional.distance import frechet_estimate
from reparam.functional.intervals import wilson
from reparam.functional.neighbours import prdc, prdc_of_halves, spread
from reparam.tensors import evenly

DRAWS, FOR_EACH = 2_000, 10
CHOICES: dict[str, Keep] = {"plain": Keep(), "typical 0.9": Keep(typical=0.9), "typical 0.5": Keep(typical=0.5),
                            "diverse 4": Keep(diverse=4)}
LED = {"like": 1, "between": 2}
"""How many images the draws are led to."""
REAL = ("real", "reconstructions")


def cells(data: Path, work: Path) -> dict[str, Callable[[], dict]]:
    return {f"{name}-{choice.replace(' ', '-')}": lambda name=name, choice=choice: measured(name, data, work, choice)
            for name, choice in itertools.product(FILES, (*CHOICES, *LED, *REAL))}


@cache
def opened(name: str, data: Path) -> Set:
    return Set(name, data)


def tested(images: Set, work: Path) -> torch.Tensor:
    """Features of test images, kept in `work`."""
    path = work / images.name / f"test-{FEATURE_NETWORK}.npy"
    if not path.exists():
        with replacing(path) as temporary, temporary.open("wb") as f:
            np.save(f, embedded(images.images[some(images.rows[2])]).numpy())
    return torch.from_numpy(np.load(path))


def some(rows: np.ndarray, n: int = DRAWS) -> np.ndarray:
    return rows[evenly(len(rows), min(n, len(rows)))]


def embedded(images: np.ndarray) -> torch.Tensor:
    return image_features(to_batch(images[..., None] if images.ndim == 3 else images))


def measured(name: str, data: Path, work: Path, choice: str) -> dict:
    """The figures of one way of choosing."""
    images = opened(name, data)
    made = images_of(choice, images, work)
    return {"data": name, "choice": choice, "features": FEATURE_NETWORK, **figures(tested(images, work), embedded(made))}


def images_of(choice: str, images: Set, work: Path) -> np.ndarray:
    train, held_out, _ = images.rows
    others = np.sort(np.concatenate([held_out, some(train, DRAWS - len(held_out))]))
    if choice == "real":
        return images.images[others]
    model = trained(images, "default", work)
    if choice == "reconstructions":
        return model.reconstruct(images.images[others])
    if choice in CHOICES:
        return draw_images(model, DRAWS, keep=CHOICES[choice], seed=0)
    return led(model, images.images[some(held_out, DRAWS // FOR_EACH * LED[choice])], LED[choice])


def led(model: reparam.ImageModel, towards: np.ndarray, each: int) -> np.ndarray:
    """Ten draws around every image, or between the images of every pair."""
    codes = torch.from_numpy(model.encode(towards)).split(each)
    return np.concatenate([draw_images(model, FOR_EACH, around=Around(ends), seed=i) for i, ends in enumerate(codes)])


def figures(real: torch.Tensor, samples: torch.Tensor) -> dict:
    """FD, precision and recall with 95 % intervals, as `reparam evaluate` measures them."""
    fd, found = frechet_estimate(real, samples), prdc(real, samples)
    halves = spread(prdc_of_halves(real, samples)).tolist()
    shares = {name: shared(values, half) for name, values, half in zip(("precision", "recall"), found[:2], halves[:2],
                                                                       strict=True)}
    return {"n": len(samples), "real": len(real), "fd": round(fd.value, 2),
            "fd_interval": [round(max(fd.value - 1.96 * fd.error, 0.0), 2), round(fd.value + 1.96 * fd.error, 2)],
            **{f"{name}{suffix}": value for name, (mean, interval) in shares.items()
               for suffix, value in (("", mean), ("_interval", interval))}}


def shared(values: torch.Tensor, half: float) -> tuple[float, list[float]]:
    mean, n = float(values.double().mean()), len(values)
    return round(mean, 4), [round(v, 4) for v in wilson(mean, n, half / 1.96)]


def table(results: Sequence[dict]) -> str:
    """The page's table, in Markdown: a row for each choice, FD and precision / recall of each set."""
    by = {(each["data"], each["choice"]): each for each in results}
    lines = ["| draws | " + " | ".join(FILES) + " |", "|---|" + "---|" * len(FILES)]
    for choice in (*CHOICES, *LED, *REAL):
        cells_ = [by.get((name, choice)) for name in FILES]
        lines.append(f"| {choice} | " + " | ".join(
            f"{e['fd']:.0f} ± {(e['fd_interval'][1] - e['fd_interval'][0]) / 2:.0f} · {e['precision']:.2f} · {e['recall']:.2f}"
            if e else "–" for e in cells_) + " |")
    return "\n".join(lines)
