"""How fast training is on a GPU, in one pass of under eight minutes: `python benchmarks/large.py speed DATA [--smoke]`.

  rates      images/s of each cell of large.py by itself, against those of before the step was rebuilt
  mlp        the MLP of Pythae's defaults on MNIST: by Pythae's pipeline, where that is installed, and by ours at its batch and beyond
  elbo       seconds of training to a −ELBO of 100, 90 and 85 nats on MNIST's test images, binarised once, by `flow_prior`
  waiting    the steady loop under `torch.cuda.set_sync_debug_mode("error")`, where a host that waits for the device is an error

DATA is a folder with mnist.npz, faces64.zip and cifar10-jpeg.zip. Results are written after each part. With --smoke every part takes
a few steps of small batches, on a processor too, so that the script is known to run; its figures say nothing.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from versus_parts.training import images_of

from reparam.data.stream import binarized, to_batch
from reparam.files.writing import write_json
from reparam.metrics.likelihood import importance_nll
from reparam.parallel import SingleProcess
from reparam.parts.presets import PRESETS
from reparam.parts.recipe import Recipe
from reparam.trainer.assembly import Assembly
from reparam.trainer.budget import Budget
from reparam.trainer.state import State

GPU = torch.cuda.is_available()
WHERE = torch.device("cuda" if GPU else "cpu")
PRECISION = "bf16" if GPU else "float32"
GOALS = {"cifar/generate32": (2270, 5.0), "cifar/ladder_m": (386, 3.0)}
"""Images/s on an H200 before the step was rebuilt, and how many times as many are wanted."""
TIMES_PYTHAE = 20.0
NATS = (100.0, 90.0, 85.0)
WARM = 30
"""Steps before anything is timed."""
MLP = Recipe(encoder="mlp((512,), 'relu')", decoder="mlp((512,), 'relu')", latent="flat(16)", likelihood="bernoulli", binarize=True,
             optimizer="adamw(lr=1e-3)", ema=0.0)


def loop_of(recipe: Recipe, images: np.ndarray, rows: np.ndarray | None = None, minutes: float = 1e6
            ) -> tuple[Assembly, Iterator[State[Any]]]:
    """A training that nobody follows, and what it trains."""
    _, h, w, c = images.shape
    assembly, alone = Assembly(recipe, (c, h, w)), SingleProcess(WHERE)
    stream = assembly.stream(images, rows, accelerator=alone)
    return assembly, assembly.training(stream, Budget(minutes=minutes, precision=PRECISION), accelerator=alone)


def rate(recipe: Recipe, images: np.ndarray, rows: np.ndarray | None, seconds: float, smoke: bool) -> dict[str, Any]:
    """Images/s once the loop runs evenly, and memory."""
    assembly, loop = loop_of(recipe, images, rows)
    if GPU:
        gc.collect()  # a loop that has ended holds its model in a cycle
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(1 if smoke else WARM):
        next(loop)
    settle()
    began, steps = time.perf_counter(), 0
    while steps < 1 or time.perf_counter() - began < seconds:
        next(loop)
        steps += 1
    settle()
    taken = time.perf_counter() - began
    return {"images_per_second": round(steps * recipe.batch_size / taken), "batch_size": recipe.batch_size,
            "memory_mb": round(torch.cuda.max_memory_reserved() / 2**20) if GPU else None,
            "device": torch.cuda.get_device_name() if GPU else "CPU",
            "parameters": sum(p.numel() for p in assembly.model.parameters())}


def settle() -> None:
    if GPU:
        torch.cuda.synchronize()


def with_critic(recipe: Recipe) -> Recipe:
    """The recipe with its critic, if any, heard from the first step on."""
    heard = recipe.objective.replace("late(1, 0.6, 0.1)", "late(1, 0.0, 0.1)")
    if heard == recipe.objective and "late(" in heard:
        raise SystemExit("when a preset's critic is heard has changed, and this asks for it at once")
    return recipe.but(objective=heard)


def pictures(data: str, folder: str, smoke: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and the rows to train on; noise of their size for a trial."""
    if smoke:
        side = {"cifar": 32, "faces": 64}[data]
        return np.random.default_rng(0).integers(0, 256, (64, side, side, 3), dtype=np.uint8), None
    source, rows, _ = images_of(data, folder)
    return source.images, rows


def rates(cells: list[str], folder: str, seconds: float, smoke: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cell in cells:
        data, preset = cell.split("/")
        recipe = with_critic(PRESETS[preset].recipe).but(**({"batch_size": 2} if smoke else {}))
        found[cell] = r = rate(recipe, *pictures(data, folder, smoke), seconds, smoke)
        if cell in GOALS:
            before, wanted = GOALS[cell]
            r |= {"times": round(r["images_per_second"] / before, 2), "wanted": wanted}
    return found


def pythae_rate(x: torch.Tensor, batch: int) -> float:
    """Images/s of Pythae's own pipeline, one epoch of its default MLP on the same device."""
    import contextlib
    import io
    import logging
    import tempfile

    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.CRITICAL)
    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce"))
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        config = BaseTrainerConfig(output_dir=out, num_epochs=1, learning_rate=1e-3, per_device_train_batch_size=batch,
                                   steps_saving=None, no_cuda=not GPU, optimizer_cls="Adam")
        trainer = BaseTrainer(model=model, train_dataset=BaseDataset(x, torch.ones(len(x))), training_config=config)
        began = time.perf_counter()
        trainer.train()
        settle()
        taken = time.perf_counter() - began
    logging.disable(logging.NOTSET)
    return len(x) / taken


def mlp(images: np.ndarray, seconds: float, smoke: bool) -> dict[str, Any]:
    sizes = (8,) if smoke else (64, 512, 4096)
    found: dict[str, Any] = {"ours": {n: rate(MLP.but(batch_size=n), images, None, seconds, smoke)["images_per_second"] for n in sizes}}
    if importlib.util.find_spec("pythae") is None:
        print("Pythae is not installed: left out")
        return found
    few = images[: 256 if smoke else len(images)]
    found["pythae"] = {64: round(pythae_rate(to_batch(few), 64))}
    times = max(found["ours"].values()) / found["pythae"][64]
    return found | {"times": round(times, 1), "times at its batch": round(found["ours"][sizes[0]] / found["pythae"][64], 1),
                    "wanted": TIMES_PYTHAE}


def elbo(images: np.ndarray, test: np.ndarray, minutes: float, smoke: bool) -> dict[str, Any]:
    """Seconds of training, those of measuring left out, at which −ELBO was first below each of `NATS`."""
    recipe = PRESETS["flow_prior"].recipe.but(**({"batch_size": 8} if smoke else {}))
    x = binarized(to_batch(test, WHERE))
    _, loop = loop_of(recipe, images, minutes=minutes)
    reached: dict[float, float] = {}
    last, state, measured_at = float("nan"), None, 0.0
    for state in loop:
        if state.progress < 1 and state.seconds - measured_at < minutes * 60 / 40:
            continue
        measured_at = state.seconds
        state.ema.eval()
        with torch.random.fork_rng([WHERE] if GPU else []):
            torch.manual_seed(0)
            last = float(importance_nll(state.ema, x, 1).mean())
        reached |= {n: round(state.seconds, 2) for n in NATS if last <= n and n not in reached}
    return {"seconds": {f"{n:g}": reached.get(n) for n in NATS}, "-elbo at the end": round(last, 2), "n": len(x),
            "training seconds": round(state.seconds, 1) if state is not None else None, "steps": state.step if state is not None else 0,
            "batch_size": recipe.batch_size, "seed": recipe.seed}


def waiting(cells: list[str], folder: str, smoke: bool) -> dict[str, str]:
    """Whether the host waits for the device in steps 31 to 90, between two snapshots."""
    found: dict[str, str] = {}
    for cell in cells:
        data, preset = cell.split("/")
        recipe = with_critic(PRESETS[preset].recipe).but(**({"batch_size": 2} if smoke else {}))
        _, loop = loop_of(recipe, *pictures(data, folder, smoke))
        for _ in range(1 if smoke else WARM):
            next(loop)
        if GPU:
            torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(1 if smoke else 60):
                next(loop)
            found[cell] = "no waiting" if GPU else "no GPU"
        except RuntimeError as e:
            found[cell] = str(e).splitlines()[0]
        finally:
            if GPU:
                torch.cuda.set_sync_debug_mode("default")
    return found


def run(cells: list[str], folder: str, seconds: float, out: Path, *, smoke: bool) -> dict[str, Any]:
    """All parts, written to a file after each."""
    began, (mnist, rows, _) = time.perf_counter(), images_of("mnist", folder)
    train, test = mnist.images[rows], mnist.images[mnist.test]
    if smoke:
        seconds, train, test = 0.0, train[:512], test[:64]
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if GPU else "CPU", "torch": torch.__version__, "smoke": smoke}
    parts = {"rates": lambda: rates(cells, folder, seconds, smoke), "mlp": lambda: mlp(train, min(seconds, 8.0), smoke),
             "elbo": lambda: elbo(train, test, 0.005 if smoke else 2.0, smoke),
             "waiting": lambda: waiting([c for c in cells if c in GOALS], folder, smoke)}
    for name, part in parts.items():
        found[name] = part()
        found["seconds"] = round(time.perf_counter() - began, 1)
        write_json(out, found)
        print(name, json.dumps(found[name]), f"after {found['seconds']:.0f} s", flush=True)
    return found
