"""Two processes on two cores against one process on one of them: images a second, in turn.

    python benchmarks/processes.py [--preset default] [--size 64] [--batch 128] [--seconds 150]

All train the same model on the same images, one thread each and pinned to a core, with batches of the same size, of which two
processes take a half each. They stay alive, and take their steps by turns, a lot each; the median over the lots counts. Other
programs that want a core as well halve the speed of two processes, and leave one alone, which gets the other core: so lots are
told apart in which some process waited for its core for more than a tenth of the time. The figures are stored in
benchmarks/results/processes.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from downstream import processor

from reparam.parallel import SingleProcess, join
from reparam.parts.presets import find
from reparam.parts.recipe import Recipe
from reparam.runtime import keep_memory
from reparam.trainer.assembly import Assembly
from reparam.trainer.autotune import computes_in_bf16

RESULTS = Path(__file__).parent / "results" / "processes.json"
WARM = 3
LOT = 4
"""Steps of a turn."""
DISTURBED = 0.1
"""Share of a turn's time that a process waits for its core."""


def work(orders: Connection, core: int, rank: int, processes: int, meeting: str, recipe: Recipe, size: int) -> None:
    """Trains so many steps as it is told to, and answers with the seconds that they took, and that it waited for its core."""
    os.sched_setaffinity(0, {core})
    if processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), MASTER_ADDR="127.0.0.1",
                          MASTER_PORT="0")
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    where = join("cpu") if processes > 1 else SingleProcess(torch.device("cpu"))
    torch.set_num_threads(1)  # which joining may have changed
    assembly = Assembly(recipe, (3, size, size))
    images = np.random.default_rng(0).integers(0, 256, (512, size, size, 3), dtype=np.uint8)
    stream = assembly.stream(images, accelerator=where)
    states = assembly.training(stream, assembly.budget(stream), accelerator=where)
    while steps := orders.recv():
        began, before = time.perf_counter(), waited()
        for _ in range(steps):
            next(states)
        orders.send((time.perf_counter() - began, waited() - before))


def waited() -> float:
    """Seconds in which this process was ready to run, and another had the core."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def started(cores: Sequence[int], folder: str, recipe: Recipe, size: int) -> list[Connection]:
    """A process on each of some cores, which train one model together."""
    context, orders = multiprocessing.get_context("fork"), list[Connection]()
    for rank, core in enumerate(cores):
        ours, theirs = context.Pipe()
        context.Process(target=work, args=(theirs, core, rank, len(cores), f"{folder}/{len(cores)}", recipe, size),
                        daemon=True).start()
        orders.append(ours)
    return orders


def lot(processes: list[Connection], steps: int) -> tuple[float, float]:
    """Seconds that so many steps took, and the largest share of them in which a process waited for its core."""
    for orders in processes:
        orders.send(steps)
    answers = [orders.recv() for orders in processes]
    took = max(seconds for seconds, _ in answers)
    return took, max(waiting for _, waiting in answers) / took


def summary(rates: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    return {"lots": len(rates), "one": round(statistics.median(rate[0] for rate in rates), 1),
            "two": round(statistics.median(rate[1] for rate in rates), 1),
            "ratio": round(statistics.median(rate[1] / rate[0] for rate in rates), 3),
            "ratios": sorted(round(rate[1] / rate[0], 3) for rate in rates),
            "waited": round(statistics.median(rate[2] for rate in rates), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--size", type=int, default=64, help="of the images")
    parser.add_argument("--batch", type=int, default=128, help="images of a step, over all processes")
    parser.add_argument("--seconds", type=float, default=150, help="how long to measure, about")
    asked = parser.parse_args()
    keep_memory()
    precision = "bf16" if computes_in_bf16() else "float32"
    recipe = find(asked.preset).recipe.but(batch_size=asked.batch, steps=10**9, minutes=None, precision=precision)
    torch.set_num_threads(1)
    Assembly(recipe, (3, asked.size, asked.size)).check()  # what it loads is loaded once, before there are more processes
    cores = sorted(os.sched_getaffinity(0))[:2]
    began, rates = time.monotonic(), list[tuple[float, float, float]]()
    with tempfile.TemporaryDirectory() as folder:
        both = [started(each, folder, recipe, asked.size) for each in (cores[:1], cores)]
        for processes in both:
            lot(processes, WARM)
        while time.monotonic() - began < asked.seconds:
            (one, alone), (two, together) = (lot(processes, LOT) for processes in both)
            rates.append((LOT * asked.batch / one, LOT * asked.batch / two, max(alone, together)))
            print(f"one process {rates[-1][0]:.1f} images/s, two {rates[-1][1]:.1f}: {one / two:.2f}×, waited for a core "
                  f"{alone:.0%} and {together:.0%} of the time", flush=True)
        for orders in both[0] + both[1]:
            orders.send(0)
    quiet = [rate for rate in rates if rate[2] < DISTURBED]
    found = {"preset": asked.preset, "image_size": asked.size, "batch": asked.batch, "precision": precision,
             "all": summary(rates), "undisturbed": summary(quiet) if quiet else None,
             "machine": processor(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "torch": torch.__version__}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
