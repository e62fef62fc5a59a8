"""reparam's own side: its loop on a recipe, timed, or trained to the end and measured."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from reparam.data.stream import binarized, to_batch
from reparam.metrics.likelihood import importance_nll
from reparam.models.vae import VAE
from reparam.parts.recipe import Recipe
from reparam.trainer.assembly import Assembly
from reparam.trainer.autotune import choose
from reparam.trainer.budget import Budget

from .networks import RECIPES, images_for, shape_for

T = TypeVar("T", bound=tuple[Any, ...])
SECONDS = 2.0
"""Of a turn."""
WARM = 12
"""Steps before the first that is timed, in which what is compiled is compiled."""


def rate(step: Callable[[], int]) -> float:
    """Images a second of steps that return how many images they took."""
    began, images, past = time.perf_counter(), 0, 0.0
    while past < SECONDS:
        images += step()
        past = time.perf_counter() - began
    return images / past


def quickest(made: Mapping[T, Callable[[], int]]) -> T:
    """Which of these steps takes more images a second; a key begins with a number of threads, and the best one's is set."""
    def found(key: T) -> float:
        torch.set_num_threads(key[0])
        made[key]()
        return rate(made[key])

    best = max(made, key=found)
    torch.set_num_threads(best[0])
    return best


def chosen(recipe: Recipe, images: np.ndarray) -> Recipe:
    """The recipe with the threads and the precision that reparam chooses here, where it leaves them open."""
    shape = (images.shape[3], *images.shape[1:3])
    batch = to_batch(images[: recipe.batch_size])
    threads, precision = choose(Assembly(recipe, shape), (batch > 0.5).float() if recipe.binarize else batch, Accelerator())
    return recipe.but(threads=threads, precision=precision)


def parameters(assembly: Assembly) -> int:
    return sum(p.numel() for module in (assembly.model, assembly.adversary) if module is not None
               for p in module.parameters())


def speed(name: str, data: str, batch: int, threads: int, compiled: bool, processes: int = 1
          ) -> tuple[dict[str, Any], Callable[[], float]]:
    """Images a second of the loop on a recipe; of all processes together, which share a batch."""
    recipe, images = RECIPES[name].but(batch_size=batch, threads=threads), images_for(name, data)
    if processes > 1:
        accompany(processes, name, data, batch, threads, compiled)
    recipe = chosen(recipe, images).but(compile=compiled)
    step, size = _step(recipe, name, images)
    began = time.perf_counter()
    for _ in range(WARM):
        step()
    told = {"precision": recipe.precision, "threads": recipe.threads, "processes": processes, "parameters": size,
            "seconds_of_first_steps": round(time.perf_counter() - began, 1)}
    return told, lambda: rate(step)


def follow(*arguments: Any) -> NoReturn:
    """Takes steps as long as the first process does."""
    _, turn = speed(*arguments)
    while True:
        turn()


def _step(recipe: Recipe, name: str, images: np.ndarray) -> tuple[Callable[[], int], int]:
    """A step of training that tells how many images it took, and the number of parameters."""
    assembly, accelerator = Assembly(recipe, shape_for(name)), Accelerator()
    states = assembly.training(assembly.stream(images, accelerator=accelerator),
                               Budget(steps=10**9, precision=recipe.precision, compile=recipe.compile == "on"),
                               accelerator=accelerator)

    def step() -> int:
        next(states)
        return recipe.batch_size

    return step, parameters(assembly)


def accompany(processes: int, *arguments: Any) -> None:
    """Makes this process the first of several, and starts the others, which take every step that this one takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes), "RANK": "0",
                   "LOCAL_RANK": "0", "ACCELERATE_USE_CPU": "true"}
    for rank in range(1, processes):
        subprocess.Popen([sys.executable, "-m", "peers_parts.child", "ours", "follow", json.dumps(arguments)],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)})


def measured(model: VAE, x: Tensor) -> dict[str, Any]:
    """The ELBO of binary images, and of a fifth of them a tighter bound."""
    model.eval()
    torch.manual_seed(0)
    elbo, iw = importance_nll(model, x, 1), importance_nll(model, x[::5], 100)
    return {"-elbo": round(float(elbo.mean()), 2), "iw_nll(100)": round(float(iw.mean()), 2), "n": len(x), "iw_n": len(iw)}


def split(data: str, held_out: int) -> tuple[np.ndarray, Tensor]:
    """Images to train on, and images to measure on, in black and white: MNIST's test images, or so many of its training
    images, which are then left out of training."""
    arrays = np.load(data)
    images, test = arrays["train_images"][..., None], arrays["test_images"][..., None]
    if held_out:
        order = np.random.default_rng(0).permutation(len(images))
        images, test = images[order[held_out:]], images[order[:held_out]]
    return images, binarized(to_batch(test))


def trained(changes: dict[str, Any], data: str, held_out: int) -> tuple[dict[str, Any], Callable[[], Any]]:
    """A training from nothing, all that a user waits for after the data is read and threads and precision are chosen, and
    what its model reaches."""
    images, x = split(data, held_out)
    recipe = chosen(Recipe(**changes), images)

    def run() -> dict[str, Any]:
        assembly = Assembly(recipe, (1, 28, 28))
        stream = assembly.stream(images)
        state = None
        began, computed = time.perf_counter(), time.process_time()
        for state in assembly.training(stream, assembly.budget(stream)):
            pass
        seconds, processor_seconds = time.perf_counter() - began, time.process_time() - computed
        assert state is not None  # noqa: S101
        return {"seconds": round(seconds, 2), "processor_seconds": round(processor_seconds, 2), "steps": state.step,
                "epochs": round(state.images / len(images), 2), "precision": recipe.precision, "threads": recipe.threads,
                **measured(state.ema, x)}

    return {}, run
