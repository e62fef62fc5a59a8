"""Which optimizer reaches a given held-out ELBO in the fewest processor seconds? Settings, grid and table.

    python benchmarks/optimizers.py DATA [--only mnist/mlp/soap]      the cells that are not there yet
    python benchmarks/optimizers.py DATA --table                      docs/optimizers.md from what has been measured

DATA is a folder with mnist.npz, fashion-mnist.npz and faces64.zip. Each cell is an optimizer on one set of images and one
architecture: four trials find its learning rate, then three seeds are trained with it. A cell's file in
benchmarks/results/optimizers is written after every training, so that an interrupted cell goes on where it stopped; `--only`
takes a part of the cells' names, such as `/ladder/`.

Every training, trials too, gets the same processor seconds of one thread (`SECONDS`, by architecture), over which its schedule
runs. They are given as steps: before a pair of images and architecture begins, its optimizers step in turns (`paces`), and the
seconds divided by the milliseconds of a step are the steps that each may take. So what else the machine does falls on all alike,
and a training comes to the same end whenever it is run. Trials are judged by 1,000 training images that none of them learns from:
the optimizer's own default, a third and three times of it, and then the next beyond the best or, where that is in the middle,
half-way to its better neighbour. Seeds are judged by 1,000 test images. `auto` is AdamW with the rate that `adamw(lr=auto)`
finds, without any trial; the steps that it looks for it are not in its seconds, and stand beside.

The −ELBO is that of one draw for each image, in nats, of the averaged weights, with the likelihood's scale set on training
images. Its course over training is measured ten times, which is not in the seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from downstream import processor
from torch import Tensor

from reparam.data.imageset import ImageSet
from reparam.data.open import open_images
from reparam.data.stream import to_batch
from reparam.errors import TrainingDiverged
from reparam.files.writing import write_json, write_text
from reparam.metrics.likelihood import importance_nll
from reparam.models.calibration import calibrate_likelihood
from reparam.models.vae import VAE
from reparam.parallel import SingleProcess
from reparam.parts.recipe import Recipe
from reparam.tensors import evenly
from reparam.trainer.assembly import Assembly
from reparam.trainer.budget import Budget
from reparam.trainer.optim import asks_rate, default_rate, rate_of, with_rate
from reparam.trainer.rates import find_rate

RESULTS = Path(__file__).parent / "results" / "optimizers"
PAGE = Path(__file__).parents[1] / "docs" / "optimizers.md"
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "mnist": ("mnist.npz", {}), "fashion": ("fashion-mnist.npz", {}), "faces": ("faces64.zip", {"image_size": 32})}
SMALL_RESNET = {"encoder": "resnet(width=32, patch=4)", "decoder": "resnet(width=48, patch=4)"}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "mlp": {"encoder": "mlp((256,))", "decoder": "mlp((256,))", "latent": "flat(32)", "batch_size": 128},
    "resnet": {**SMALL_RESNET, "latent": "flat(32)", "batch_size": 64},
    "ladder": {"encoder": "resnet(32, blocks=0, patch=4)", "decoder": "resnet(32, blocks=0, patch=4)",
               "latent": "top_down(16, (1, 2), 8, 32)", "batch_size": 64},
    "default": {}}
"""Parts of the networks; all else is the default recipe's."""
SECONDS = {"mlp": 5.0, "resnet": 8.0, "ladder": 12.0, "default": 60.0}
AUTO = "auto"
OPTIMIZERS = ("adamw", "adamax", "adan", "lion", "muon", "soap", "schedule_free", AUTO)
LONGER = ("adamw", "muon", "schedule_free")
"""Those that lead somewhere in seconds, for the default recipe in a minute: whether they still do."""
SEEDS, TRIALS, TRIAL_SEED = (0, 1, 2), 4, 100
JUDGED, WATCHED, LOOKS = 1000, 300, 10
"""Images that judge an end, those that are looked at on the way, and how often."""
ROUNDS, STRIDE = 9, 12
"""Turns in which optimizers are timed, and the steps of each."""
PAIRS = (("mnist", "mlp"), ("fashion", "resnet"), ("fashion", "mlp"), ("mnist", "resnet"), ("mnist", "ladder"),
         ("fashion", "ladder"), ("faces", "resnet"), ("faces", "mlp"), ("faces", "ladder"), ("fashion", "default"))
"""The most telling first."""


def recipe_of(architecture: str, optimizer: str, seed: int) -> Recipe:
    """A training of the grid; `optimizer` is a call with its rate."""
    schedule = "constant(0.05)" if optimizer.startswith("schedule_free") else "cosine(warmup=0.05)"
    return Recipe(**ARCHITECTURES[architecture], optimizer=optimizer, schedule=schedule, seed=seed, precision="float32", threads=1)


@cache
def images_of(data: str, folder: str) -> tuple[ImageSet, np.ndarray, np.ndarray, np.ndarray]:
    """Images, and the rows to train on, to judge trials by and to judge ends by."""
    name, options = SETS[data]
    source = open_images(str(Path(folder) / name), **options)
    train, test = np.flatnonzero(~source.test), np.flatnonzero(source.test)
    if not len(test):  # the last ones, which nothing learns from
        train, test = train[:-JUDGED], train[-JUDGED:]
    return source, train[:-JUDGED], train[-JUDGED:], test[evenly(len(test), JUDGED)]


def negative_elbo(model: VAE, known: Tensor, x: Tensor) -> float:
    """Nats per image, with the likelihood's scale of `known`. Leaves random numbers and the model's mode alone."""
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        calibrate_likelihood(model, known)
        torch.manual_seed(0)
        found = float(importance_nll(model, x, 1).mean())
    model.train(was_training)
    return round(found, 3)


def players(architecture: str) -> tuple[str, ...]:
    """The optimizers that an architecture is trained with."""
    return LONGER if architecture == "default" else OPTIMIZERS


def paces(data: str, architecture: str, folder: str) -> dict[str, float]:
    """Processor milliseconds of a step of each optimizer, timed in turns: medians, written down once for a pair."""
    path = RESULTS / f"{data}-{architecture}-paces.json"
    if path.exists():
        return json.loads(path.read_text())["ms"]
    source, rows, _, _ = images_of(data, folder)
    _, h, w, c = source.images.shape
    trainings = {}
    for name in (n for n in players(architecture) if n != AUTO):
        assembly, alone = Assembly(recipe_of(architecture, f"{name}(lr={default_rate(name):.4g})", 0), (c, h, w)), SingleProcess(
            torch.device("cpu"))
        stream = assembly.stream(source.images, rows, accelerator=alone)
        trainings[name] = assembly.training(stream, Budget(steps=10 * ROUNDS * STRIDE), accelerator=alone)
    times: dict[str, list[float]] = {name: [] for name in trainings}
    for turn in range(ROUNDS + 1):
        for name, training in trainings.items():
            began = time.process_time()
            for _ in range(STRIDE):
                next(training)
            if turn:  # what is slow only at first has passed
                times[name].append(1000 * (time.process_time() - began) / STRIDE)
    found = {name: float(f"{statistics.median(t):.4g}") for name, t in times.items()}
    write_json(path, {"ms": found, "rounds": ROUNDS, "steps": STRIDE, "machine": processor(), "load": round(os.getloadavg()[0], 1)})
    return found


def trained(data: str, recipe: Recipe, ms: float, seconds: float, folder: str, *, final: bool) -> dict[str, Any]:
    """What a training comes to, at `ms` a step, on the images that judge it: test images where it is final, else held-out
    training images."""
    source, rows, held_out, test = images_of(data, folder)
    judges = test if final else held_out
    x, known = to_batch(source.images[judges]), to_batch(source.images[rows[evenly(len(rows), WATCHED)]])
    _, h, w, c = source.images.shape
    assembly, alone = Assembly(recipe, (c, h, w)), SingleProcess(torch.device("cpu"))
    stream, began = assembly.stream(source.images, rows, accelerator=alone), time.process_time()
    if asks_rate(recipe.optimizer):
        rate = find_rate(assembly, stream, recipe.precision, alone)
        recipe = assembly.recipe = recipe.but(optimizer=with_rate(recipe.optimizer, rate))
    searched = time.process_time() - began
    budget = Budget(steps=round(1000 * seconds / ms))
    curve: list[tuple[float, int, float]] = []
    state = None
    try:
        for state in assembly.training(stream, budget, accelerator=alone):
            if state.progress * LOOKS >= len(curve) + 1:
                curve.append((round(state.step * ms / 1000, 2), state.step, negative_elbo(cast(VAE, state.ema), known, x[:WATCHED])))
    except TrainingDiverged as e:
        return {"optimizer": recipe.optimizer, "elbo": math.inf, "failed": str(e)}
    if state is None:
        raise SystemExit("no steps to train for")
    return {"optimizer": recipe.optimizer, "elbo": negative_elbo(cast(VAE, state.ema), known, x), "ms": ms,
            "steps": state.step, "search_seconds": round(searched, 2), "skipped": state.guard.skipped, "rollbacks": state.rollbacks,
            "parameters": sum(p.numel() for p in assembly.model.parameters()), "curve": curve}


def next_rate(optimizer: str, tried: dict[float, float]) -> float:
    """The rate of the next trial, from those that have been tried and what they came to."""
    default = default_rate(optimizer)
    first = [rate for rate in (default, default / 3, 3 * default) if not any(math.isclose(rate, t) for t in tried)]
    if first:
        return first[0]
    ordered = sorted(tried)
    best = min(tried, key=lambda rate: tried[rate])
    at = ordered.index(best)
    if at == 0:
        return best / 3
    if at == len(ordered) - 1:
        return 3 * best
    return math.sqrt(best * min(ordered[at - 1], ordered[at + 1], key=lambda rate: tried[rate]))


def go_on(data: str, architecture: str, optimizer: str, folder: str) -> bool:
    """Takes the next training of a cell that is missing and writes it down; False where none is."""
    path, seconds = RESULTS / f"{data}-{architecture}-{optimizer}.json", SECONDS[architecture]
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"trials": [], "runs": {}}
    missing = [seed for seed in SEEDS if str(seed) not in found["runs"]]
    ms = paces(data, architecture, folder)["adamw" if optimizer == AUTO else optimizer]
    if optimizer != AUTO and len(found["trials"]) < TRIALS:
        rate = next_rate(optimizer, {t["rate"]: t["elbo"] for t in found["trials"]})
        recipe = recipe_of(architecture, f"{optimizer}(lr={rate:.4g})", TRIAL_SEED)
        result = {"rate": rate, **trained(data, recipe, ms, seconds, folder, final=False)}
        found["trials"].append({k: v for k, v in result.items() if k != "curve"})
    elif missing:
        call = "adamw(lr=auto)" if optimizer == AUTO else min(found["trials"], key=lambda t: t["elbo"])["optimizer"]
        result = trained(data, recipe_of(architecture, call, missing[0]), ms, seconds, folder, final=True)
        found["runs"][str(missing[0])] = result
    else:
        return False
    write_json(path, found | {"budget_seconds": seconds, "machine": processor(), "cores": os.cpu_count(),
                              "load": round(os.getloadavg()[0], 1)})
    print(path.stem, {k: v for k, v in result.items() if k != "curve"}, file=sys.stderr, flush=True)
    return True


def ends(found: dict[str, Any]) -> list[float]:
    """The −ELBO of each seed."""
    return [run["elbo"] for run in found["runs"].values()]


def reached(run: dict[str, Any], target: float) -> tuple[float, float] | None:
    """Processor seconds and steps after which the watched −ELBO was at a target, by straight lines between looks."""
    for before, after in pairwise(run["curve"]):
        if after[2] <= target < before[2]:
            share = (before[2] - target) / (before[2] - after[2])
            return before[0] + share * (after[0] - before[0]), before[1] + share * (after[1] - before[1])
    return None


def compared(found: dict[str, Any], standard: dict[str, Any]) -> str:
    """Whether the seeds of a cell all end better than all of AdamW's, or all worse."""
    if max(ends(found)) < min(ends(standard)):
        return "better"
    return "worse" if min(ends(found)) > max(ends(standard)) else "overlap"


def row(name: str, found: dict[str, Any], standard: dict[str, Any]) -> str:
    """A line of a table."""
    runs, target = [*found["runs"].values()], max(run["curve"][-1][2] for run in standard["runs"].values())
    times = [time for run in runs if (time := reached(run, target)) is not None]
    seconds, steps = ([statistics.median(t[i] for t in times) for i in (0, 1)] if len(times) == len(runs) else (None, None))
    told = [f"{seconds:.1f}" if seconds else f"{len(times)} of {len(runs)}", f"{steps:,.0f}" if steps else ""]
    rate = ", ".join(f"{r:g}" for r in sorted(set(rates(found))))
    each = runs[0]["ms"]
    e = ends(found)
    verdict = "" if found is standard else compared(found, standard)
    return (f"| {name} | {rate} | {statistics.mean(e):,.1f} | {min(e):,.1f} to {max(e):,.1f} | {each:.1f} | "
            f"{told[0]} | {told[1]} | {verdict} |")


def measured() -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """All cells whose seeds have been trained, by data and architecture, those where AdamW's have."""
    cells: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for pair in PAIRS:
        for name in players(pair[1]):
            path = RESULTS / f"{'-'.join(pair)}-{name}.json"
            if path.exists() and len((found := json.loads(path.read_text()))["runs"]) == len(SEEDS):
                cells.setdefault(pair, {})[name] = found
    return {pair: found for pair, found in cells.items() if "adamw" in found}


def rates(found: dict[str, Any]) -> list[float]:
    """The learning rate of each seed."""
    return [rate_of(run["optimizer"]) for run in found["runs"].values()]


def found_rates(cells: dict[tuple[str, str], dict[str, dict[str, Any]]]) -> list[str]:
    """The rates that `lr=auto` finds beside the tuned ones."""
    lines = [FOUND, "| | found rates | tuned | times the tuned | −ELBO less the tuned one's | seconds to find it | |",
             "|---|---|---|---|---|---|---|"]
    for pair, found in cells.items():
        if AUTO in found:
            auto, tuned = found[AUTO], found["adamw"]
            times = statistics.geometric_mean(rates(auto)) / rates(tuned)[0]
            seconds = statistics.median(run["search_seconds"] for run in auto["runs"].values())
            lines.append(f"| {', '.join(pair)} | {', '.join(f'{r:g}' for r in rates(auto))} | {rates(tuned)[0]:g} | {times:.2f} | "
                         f"{statistics.mean(ends(auto)) - statistics.mean(ends(tuned)):+.1f} | {seconds:.1f} | "
                         f"{compared(auto, tuned)} |")
    return lines if len(lines) > 3 else [FOUND, "No cell of it has been measured yet."]


def page() -> str:
    """docs/optimizers.md."""
    cells, lines = measured(), [HEAD]
    verdicts = {name: [compared(found[name], found["adamw"]) for found in cells.values() if name in found]
                for name in OPTIMIZERS[1:]}
    lines += ["| | cells | better than AdamW | ranges overlap | worse |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {len(v)} | {v.count('better')} | {v.count('overlap')} | {v.count('worse')} |"
              for name, v in verdicts.items() if v]
    for (data, architecture), found in cells.items():
        lines += [f"\n## {data}, {architecture}\n",
                  f"{found['adamw']['runs']['0']['parameters']:,} parameters, {SECONDS[architecture]:g} processor seconds.\n",
                  "| | rate | −ELBO, mean | three seeds | ms a step | seconds to AdamW's end | steps to it | |",
                  "|---|---|---|---|---|---|---|---|"]
        lines += [row(name, cell, found["adamw"]) for name, cell in found.items()]
    lines += found_rates(cells)
    missing = [f"{'/'.join(pair)}" for pair in PAIRS if len(cells.get(pair, {})) < len(players(pair[1]))]
    if missing:
        lines.append(f"\nNot all measured yet: {', '.join(missing)}.")
    return "\n".join(lines) + "\n"


HEAD = """# Optimizers

Which of them reaches the ELBO of a tuned AdamW in less time? Written by `python benchmarks/optimizers.py DATA --table` from the
cells in `benchmarks/results/optimizers`, which name the machine; that script says how they are measured. Each optimizer's rate comes
from four trials on held-out training images; three seeds are then trained for the same processor seconds of one thread, and judged by
1,000 test images. −ELBO is in nats an image, of pixels as numbers between 0 and 1, and therefore below 0; lower is better.
*better* and *worse* are ends whose ranges of three seeds do not touch AdamW's. *Seconds to AdamW's end* are those until the worst of
AdamW's three ends was reached, the median of three seeds, or how many of them reached it; a schedule falls over all of a training's
seconds, so that most reach their best at its end. *auto* is AdamW with the rate of `lr=auto`.

**What presets use.** Muon, at its default rate of 0.02: trials of a few seconds choose three times as much, but with a minute for the
default recipe 0.02 is level with the best. AdamW stays in `mlp` (large layers, for which making matrices orthogonal costs more than
the rest of a step), in `gumbel`, for GANs, and for what is trained after the model.
"""


FOUND = """
## A rate that is found

`adamw(lr=auto)` takes 120 steps of a copy while the rate rises, and half of that at which the loss was lowest; see
[training](training.md). Its ends beside those of the rate that four trials chose, in nats: below 0 it is better. The half was set
while looking at MNIST with the MLP and Fashion-MNIST with the residual network; the other rows had no say in it.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--only", default="")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        write_text(PAGE, page())
        return
    torch.set_num_threads(1)
    for data, architecture in PAIRS:
        wanted = [name for name in players(architecture) if given.only in f"{data}/{architecture}/{name}"]
        while wanted:
            wanted = [name for name in wanted if go_on(data, architecture, name, given.data)]


if __name__ == "__main__":
    main()
