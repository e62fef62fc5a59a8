"""A few ratios that say whether the code has become slower, in under five minutes; the machine's own speed cancels.

    python benchmarks/quick.py [--record] [--only NAME]

Two ways of the same work are timed in turn, in processor seconds of one thread, and the median of the ratios counts:
  step mlp, step resnet   training steps of the loop against a plain loop as a careful user writes it: fused AdamW, batches
                          sliced from one array, no guard, no average
  sampling                `ImageModel.sample` against a bare call of prior and decoder in one batch
  iw_nll loop, batched    `iw_nll(100)` against one image and one sample at a time, and against all images with one sample at a time
  input                   batches of the stream against slicing the array alone

With --record the ratios are stored; without, it fails where one has fallen by more than 15 %.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from reparam.data.stream import Stream
from reparam.metrics.likelihood import importance_nll
from reparam.models.sampler import Sampler
from reparam.models.trace import log_weight
from reparam.models.vae import VAE
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel
from reparam.runtime import keep_memory
from reparam.trainer.assembly import Assembly

RESULTS = Path(__file__).parent / "results" / "quick.json"
MOST_LOST = 0.15
ROUNDS = 21
Work = Callable[[], None]
MLP = Recipe(encoder="mlp((512,), 'relu')", decoder="mlp((512,), 'relu')", latent="flat(16)", likelihood="bernoulli",
             binarize=True, optimizer="adamw(lr=1e-3)", batch_size=128, ema=0.99, steps=10**9)
RESNET = Recipe(batch_size=64, optimizer="adamw(lr=2e-3)", steps=10**9)


def images(n: int = 4096) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 28, 28, 1), dtype=np.uint8)


def plain_steps(recipe: Recipe, steps: int) -> Work:
    """A plain loop over the same network and objective."""
    assembly, data = Assembly(recipe, (1, 28, 28)), torch.from_numpy(images()).permute(0, 3, 1, 2)
    model = assembly.model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def work() -> None:
        for _ in range(steps):
            x = data[torch.randint(len(data), (recipe.batch_size,))].float() / 255
            x = torch.bernoulli(x) if recipe.binarize else x
            optimizer.zero_grad()
            assembly.objective.parts(model(x)).sum().backward()
            optimizer.step()

    return work


def loop_steps(recipe: Recipe, steps: int) -> Work:
    assembly = Assembly(recipe, (1, 28, 28))
    stream = assembly.stream(images())
    states = assembly.training(stream, assembly.budget(stream))

    def work() -> None:
        for _ in range(steps):
            next(states)

    return work


def model_of(recipe: Recipe) -> VAE:
    return cast(VAE, Assembly(recipe, (1, 28, 28)).model.eval())


def sampling() -> tuple[Work, Work]:
    model, n = model_of(RESNET), 512
    whole = ImageModel(Sampler(model), Config(RESNET, (1, 28, 28)), torch.device("cpu"))

    @torch.inference_mode()
    def bare() -> None:
        void(model.decode(model.latent.generate(n)).mean)

    return lambda: void(whole.sample(n, seed=0)), bare


def void(value: object) -> None:
    """Leaves a result behind."""


def bound(x: Tensor, model: VAE) -> tuple[Work, Work, Work]:
    """iw_nll(100) as it is, image by image, and with one sample of all images at a time."""
    def finished(log_w: Tensor) -> Tensor:
        return math.log(100) - torch.logsumexp(log_w, 0)

    @torch.inference_mode()
    def by_image() -> None:
        for image in x.split(1):
            finished(torch.cat([log_weight(model(image)) for _ in range(100)]))

    @torch.inference_mode()
    def batched() -> None:
        finished(torch.cat([log_weight(model(x)) for _ in range(100)]))

    return lambda: void(importance_nll(model, x, 100)), by_image, batched


def input_of(batches: int) -> tuple[Work, Work]:
    data = images(16_384)
    array = torch.from_numpy(data)
    stream = iter(Stream(data, np.arange(len(data)), batch_size=256, device="cpu"))

    def sliced() -> None:
        for _ in range(batches):
            array[torch.randint(len(array), (256,))].float().div_(255)

    return lambda: [next(stream) for _ in range(batches)] and None, sliced


def pairs() -> dict[str, Callable[[], tuple[Work, Work]]]:
    """By name: the work, and what it is compared with."""
    x = (torch.rand(32, 1, 28, 28) ** 4).round()
    return {
        "step mlp": lambda: (loop_steps(MLP, 40), plain_steps(MLP, 40)),
        "step resnet": lambda: (loop_steps(RESNET, 8), plain_steps(RESNET, 8)),
        "sampling": sampling,
        "iw_nll loop": lambda: bound(x, model_of(MLP))[:2],
        "iw_nll batched": lambda: (bound(x, model_of(MLP))[0], bound(x, model_of(MLP))[2]),
        "input": lambda: input_of(40),
    }


def ratio(work: Work, against: Work) -> float:
    """How many times as fast `work` is: the median over rounds in turn."""
    ratios: list[float] = []
    for i in range(ROUNDS + 1):
        times: list[float] = []
        for each in (work, against):
            began = time.process_time()
            each()
            times.append(time.process_time() - began)
        if i:  # the first is for warming up
            ratios.append(times[1] / times[0])
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="store the ratios")
    parser.add_argument("--only", choices=list(pairs()), help="one of them")
    asked = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"ratios": {}}
    found: dict[str, float] = {}
    fallen: list[str] = []
    for name, made in pairs().items():
        if asked.only in (None, name):
            torch.manual_seed(0)
            found[name] = round(ratio(*made()), 3)
            before = stored["ratios"].get(name)
            print(f"{name:<16}{found[name]:>7.2f}" + (f"   stored {before:.2f}" if before else ""), flush=True)
            if before and found[name] < (1 - MOST_LOST) * before:
                fallen.append(name)
    if asked.record:
        RESULTS.write_text(json.dumps({"machine": platform.processor() or platform.machine(), "torch": torch.__version__,
                                       "rounds": ROUNDS, "ratios": stored["ratios"] | found}, indent=1) + "\n",
                           encoding="utf-8")
    elif fallen:
        sys.exit(f"slower by more than {MOST_LOST:.0%}: {', '.join(fallen)}")


if __name__ == "__main__":
    main()
