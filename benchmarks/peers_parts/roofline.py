"""How near a training step comes to this machine: to its products and convolutions alone, at the step's own shapes.

Every dense layer and convolution of the network is run forward and backward by itself, in the step's precision and memory
layout, on weights in that precision already: what they take together is the least that a step can take with these kernels.
Beside it stands what the machine reaches where its kernels are best, a product of 1,024² matrices and a 3×3 convolution of
128 channels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reparam.models.vae import Model
from reparam.runtime import hush_threads, keep_memory
from reparam.tensors import Shape
from reparam.trainer.assembly import Assembly
from reparam.trainer.budget import Budget
from reparam.trainer.profile import machine_rates

from .child import Program
from .networks import RECIPES, images_for, shape_for
from .ours import chosen

BATCHES = {"mlp64": ("mlp", 64), "mlp512": ("mlp", 512), "resnet": ("resnet", 128), "vanilla": ("vanilla", 64)}
COMPILED = "-compiled"
CELLS = tuple(name + how for name in BATCHES for how in ("", COMPILED))
ROUNDS, SECONDS = 5, 0.7
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    """Of a step, as it is or compiled; the child's threads and memory are set as reparam's command sets them."""
    hush_threads()
    name, batch = BATCHES[cell.removesuffix(COMPILED)]
    with Program("roofline", "shares", name, str(given.data), batch, cell.endswith(COMPILED)) as program:
        return {"batch": batch, **program.turn()}


def shares(name: str, data: str, batch: int, compiled: bool) -> tuple[dict[str, Any], Callable[[], Any]]:
    """Of a recipe's step: the layers alone and the step in turn."""
    keep_memory()
    images = images_for(name, data)
    recipe = chosen(RECIPES[name].but(batch_size=batch), images).but(compile=compiled)
    assembly, precision = Assembly(recipe, shape_for(name)), recipe.precision
    states = assembly.training(assembly.stream(images), Budget(steps=10**9, precision=precision, compile=compiled))
    for _ in range(12):
        next(states)
    layers = inputs_of(assembly.model, (batch, *shape_for(name)))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    works = [alone(layer, shape, dtype, first=i == 0) for i, (layer, shape) in enumerate(layers)]
    work = sum(operations(layer, shape) * (2 if i == 0 else 3) for i, (layer, shape) in enumerate(layers)) / 1e9

    def run() -> dict[str, Any]:
        of_step, of_layers = [], []
        for _ in range(ROUNDS):
            of_step.append(seconds(lambda: next(states)))
            of_layers.append([seconds(w, SECONDS / len(works)) for w in works])
        step = statistics.median(of_step)
        each = [statistics.median(times) for times in zip(*of_layers, strict=True)]
        rates = machine_rates(precision)
        return {"precision": precision, "threads": recipe.threads, "GFLOP a step": round(work, 2), "ms a step": round(1000 * step, 2),
                "ms of layers": round(1000 * sum(each), 2),
                "GFLOP/s": {"step": round(work / step), "layers": round(work / sum(each)),
                            **{k: round(v) for k, v in rates.items()}},
                "share of its layers": round(sum(each) / step, 3),
                "shares": [round(sum(e) / s, 3) for s, e in zip(of_step, of_layers, strict=True)],
                "layers": [{"layer": str(layer), "ms": round(1000 * t, 3),
                            "GFLOP/s": round(operations(layer, shape) * (2 if i == 0 else 3) / t / 1e9)}
                           for i, ((layer, shape), t) in enumerate(zip(layers, each, strict=True))]}

    return {}, run


def inputs_of(model: Model, shape: Shape) -> list[tuple[Layer, Shape]]:
    """Layers that multiply, in the order in which they run, and the shapes of their inputs."""
    found: list[tuple[Layer, Shape]] = []
    hooks = [m.register_forward_hook(lambda m, x, _: found.append((m, tuple(x[0].shape)))) for m in model.modules()
             if isinstance(m, LAYERS)]
    with torch.no_grad():
        model(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    return found


def operations(layer: Layer, shape: Shape) -> float:
    """Of one pass forward: two for each weight and place that it is used at."""
    places = 1
    if isinstance(layer, nn.ConvTranspose2d):
        places = shape[2] * shape[3]
    elif isinstance(layer, nn.Conv2d):
        (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
        places = ((shape[2] + 2 * ph - kh) // sh + 1) * ((shape[3] + 2 * pw - kw) // sw + 1)
    return 2.0 * shape[0] * places * layer.weight.numel()


def alone(layer: Layer, shape: Shape, dtype: torch.dtype, first: bool) -> Callable[[], Any]:
    """The layer forward and backward on random numbers; no gradient reaches the images, which `first` reads."""
    where = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    x = torch.randn(shape, dtype=dtype).to(memory_format=where).requires_grad_(not first)
    weight, bias = layer.weight.detach().to(dtype).requires_grad_(), layer.bias.detach().to(dtype).requires_grad_()

    def forward() -> Tensor:
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, bias)
        if isinstance(layer, nn.ConvTranspose2d):
            return F.conv_transpose2d(x, weight, bias, layer.stride, layer.padding, layer.output_padding)
        return F.conv2d(x, weight, bias, layer.stride, layer.padding)

    gradient = torch.randn_like(forward())
    needed = (weight, bias) if first else (x, weight, bias)
    return lambda: torch.autograd.grad(forward(), needed, gradient)


def seconds(work: Callable[[], Any], most: float = SECONDS) -> float:
    """Of one call."""
    work()
    began, times, past = time.perf_counter(), 0, 0.0
    while past < most:
        work()
        times, past = times + 1, time.perf_counter() - began
    return past / times
