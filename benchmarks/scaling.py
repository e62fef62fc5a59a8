"""What training on many processes costs: a model of a step, its constants measured here where they can be, and what it predicts.

    python benchmarks/scaling.py [--only default,generate64,ladder_m] [--seconds 6]      measure, about three minutes
    python benchmarks/scaling.py --table                                     print the tables, and put them into docs/scaling.md

Two processes on this machine, each pinned to a core, measure gloo's latency and bandwidth, a training step of one process by itself,
of both side by side without a word to one another, and of both together. The model says of a step on n processes

    step = (computation + exposed communication) · (1 + jitter · √(2 ln n))
    all-reduce of S bytes = latency(n) + 2 (n − 1)/n · S / bandwidth
    exposed = that of the last bucket, and what of the others the backward pass does not cover

and its prediction for two processes stands beside what was measured. Of several timings the quickest counts, since other programs only
ever slow one down. Constants of GPUs and networks cannot be measured here:
`ASSUMED` names them and where they are from. Results stand in benchmarks/results/scaling.json.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cells import put
from downstream import processor

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "scaling.json"
PAGE = ROOT.parent / "docs" / "scaling.md"
SHAPES = {"default": (28, 28, 1), "generate64": (64, 64, 3), "ladder_m": (32, 32, 3)}
MEASURED_BATCH = {"default": 128, "generate64": 32, "ladder_m": 8}
"""Images of a batch of both processes here."""
GPUS = (8, 64, 1024)
ROUNDS = 4
A_MACHINE = 8
MB, GB = 1e6, 1e9


class Assumption(NamedTuple):
    """A constant that cannot be measured here."""

    value: float
    unit: str
    source: str


ASSUMED = {
    "nvlink": Assumption(476 * GB, "B/s", "all-reduce among the eight H100 of a machine, github.com/NVIDIA/nccl-tests/issues/290"),
    "infiniband": Assumption(47 * GB, "B/s", "an adapter of 400 Gb/s, one for each GPU, github.com/NVIDIA/nccl-tests/issues/290"),
    "ethernet": Assumption(10 * GB, "B/s", "an adapter of 100 Gb/s, one for eight GPUs, at four fifths of its nominal rate"),
    "launch": Assumption(42e-6, "s", "an all-reduce of 8 bytes among eight GPUs, github.com/NVIDIA/nccl/issues/1530"),
    "infiniband hop": Assumption(5e-6, "s", "from machine to machine and through NCCL's proxy; assumed"),
    "ethernet hop": Assumption(30e-6, "s", "the same over TCP; assumed"),
    "bucket": Assumption(25 * 2**20, "B", "DistributedDataParallel's default, after a first one of 1 MB"),
    "jitter": Assumption(0.03, "of a step", "standard deviation of a step from process to process; assumed"),
}


# ---- the model


class Network(NamedTuple):
    """What connects processes."""

    name: str
    bandwidth: float
    """Of a ring through all of them, bytes/s."""
    latency: float
    """Of the smallest all-reduce, s."""


def network(name: str, n: int) -> Network:
    """GPUs in machines of eight. A ring's bandwidth is that of its narrowest link; between machines NCCL takes trees for what is
    small, whose latency grows with the logarithm of their number."""
    a = {k: v.value for k, v in ASSUMED.items()}
    if n <= A_MACHINE:
        return Network(name, a["nvlink"], a["launch"])
    between = A_MACHINE * a["infiniband"] if name == "infiniband" else a["ethernet"]
    hops = 2 * math.ceil(math.log2(n / A_MACHINE))
    return Network(name, min(a["nvlink"], between), a["launch"] + hops * a[f"{name} hop"])


def all_reduce(size: float, n: int, net: Network) -> float:
    """Seconds for so many bytes among n processes."""
    return net.latency + 2 * (n - 1) / n * size / net.bandwidth


def exposed(size: float, n: int, net: Network, backward: float, bucket: float) -> float:
    """Seconds of communication of so many bytes of gradients that a backward pass of so many seconds does not cover."""
    last = min(size, bucket)
    before = [bucket] * int((size - last) // bucket)
    return all_reduce(last, n, net) + max(0.0, sum(all_reduce(b, n, net) for b in before) - backward)


def step_of(compute: float, size: float, n: int, net: Network, *, backward: float, bucket: float, jitter: float) -> float:
    """Seconds of a step: of n processes the slowest counts, whose expectation is about √(2 ln n) deviations above the mean."""
    waited = exposed(size, n, net, backward * compute, bucket) if n > 1 else 0.0
    return (compute + waited) * (1 + jitter * math.sqrt(2 * math.log(n)) if n > 1 else 1)


# ---- measured here, by two processes


def pinned(rank: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})


def gloo() -> dict[str, float]:
    """Latency and bandwidth of all-reduces between two processes."""
    import torch
    from torch import distributed as dist

    def timed(numbers: int, times: int) -> float:
        t = torch.ones(numbers)
        taken = []
        for _ in range(times):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(t)
            taken.append(time.perf_counter() - began)
        return min(taken)

    latency, size = timed(1, 200), 16 * 2**20
    return {"latency_us": 1e6 * latency, "bandwidth_gb_s": size / (timed(size // 4, 15) - latency) / GB}  # 2 (n − 1)/n = 1


def steps(preset: str, rank: int, seconds: float) -> dict[str, Any]:
    """Seconds of a step: of one process by itself, of two side by side, of two together, and of one with all of the batch."""
    import numpy as np
    import torch
    from accelerate import Accelerator
    from torch import distributed as dist

    from reparam.parallel import SingleProcess
    from reparam.parts.presets import PRESETS
    from reparam.trainer.assembly import Assembly
    from reparam.trainer.budget import Budget

    h, w, c = SHAPES[preset]
    batch, alone = MEASURED_BATCH[preset], SingleProcess(torch.device("cpu"))
    images = np.random.default_rng(0).integers(0, 256, (512, h, w, c), dtype=np.uint8)
    spent: dict[str, float] = {}
    shares: list[float] = []

    @contextlib.contextmanager
    def phase(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - began

    def loop_of(size: int, processes: Any) -> Iterator[Any]:
        assembly = Assembly(PRESETS[preset].recipe.but(batch_size=size), (c, h, w))
        return assembly.training(assembly.stream(images, accelerator=processes), Budget(10**6), accelerator=processes, phase=phase)

    own = {} if rank else {"alone": loop_of(batch // 2, alone), "one": loop_of(batch, alone)}
    both = {"side by side": loop_of(batch // 2, alone), "together": loop_of(batch, Accelerator(cpu=True))}
    taken: dict[str, list[float]] = {"alone": [], "one": [], "side by side": [], "together": []}
    for loop in (*own.values(), *both.values()):
        next(loop)  # the first is slower
    for _ in range(ROUNDS):  # in turn, since a busy machine is not always as busy
        for name in taken:
            dist.barrier()
            spent.clear()
            began = time.perf_counter()
            for i in itertools.count():
                going = torch.tensor(float(i < 2 or time.perf_counter() - began < seconds / ROUNDS))
                if name in both:
                    dist.broadcast(going, 0)
                if not going or name not in own | both:
                    break
                at = time.perf_counter()
                next((own | both)[name])
                taken[name].append(time.perf_counter() - at)
            if name == "alone" and spent:
                shares.append(spent["backward"] / sum(spent.values()))
    found: dict[str, Any] = {"batch": batch, **{name: min(times) for name, times in taken.items() if times}}
    if shares:
        found["backward share"] = statistics.median(shares)
    found["bytes"] = 4 * sum(p.numel() for p in Assembly(PRESETS[preset].recipe, (c, h, w)).model.parameters())
    return found


def worker(rank: int, presets: list[str], seconds: float) -> None:
    """One of the two processes; the first prints what was measured."""
    import torch
    from accelerate import Accelerator

    pinned(rank)
    torch.set_num_threads(1)
    Accelerator(cpu=True)  # joins the other
    found = {"gloo": gloo(), "presets": {}}
    for preset in presets:
        found["presets"][preset] = steps(preset, rank, seconds)
        print(preset, found["presets"][preset], file=sys.stderr, flush=True)
    if rank == 0:
        print(json.dumps(found))


def measure(presets: list[str], seconds: float) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                           "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen([sys.executable, __file__, "--rank", str(i), "--seconds", str(seconds), "--only", ",".join(presets)],
                                env=shared | {"RANK": str(i), "LOCAL_RANK": str(i)}, stdout=subprocess.PIPE, text=True)
               for i in (0, 1)]
    try:
        said = [process.communicate(timeout=600)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    if any(process.returncode for process in running):
        raise SystemExit("a process failed; see above")
    return json.loads(said[0])


# ---- what it says


def predicted(found: dict[str, Any], preset: str) -> float:
    """Seconds of a step of both processes together, by the model: that of both side by side, and the communication."""
    p, g = found["presets"][preset], found["gloo"]
    net = Network("gloo", g["bandwidth_gb_s"] * GB, g["latency_us"] / 1e6)
    return step_of(p["side by side"], p["bytes"], 2, net, backward=p["backward share"], bucket=ASSUMED["bucket"].value, jitter=0.0)


def checked(found: dict[str, Any]) -> list[list[str]]:
    """The prediction beside what was measured."""
    rows = [["preset", "gradients, MB", "a step alone, ms", "side by side, ms", "predicted together, ms", "measured, ms",
             "measured / predicted", "against one process with all of the batch"]]
    for preset, p in found["presets"].items():
        foretold = predicted(found, preset)
        rows.append([f"`{preset}`", f"{p['bytes'] / MB:.1f}", *(f"{1e3 * p[k]:.1f}" for k in ("alone", "side by side")),
                     f"{1e3 * foretold:.1f}", f"{1e3 * p['together']:.1f}", f"{p['together'] / foretold:.2f}",
                     f"{p['one'] / p['together']:.2f}×"])
    return rows


H200 = {"generate64": "faces/generate64", "ladder_m": "cifar/ladder_m"}
"""Where the speed of a preset on one GPU stands."""


def on_gpus(found: dict[str, Any]) -> list[list[str]]:
    """What to expect of each preset on each number of GPUs, each with as many images a step as one has."""
    bucket, jitter = ASSUMED["bucket"].value, ASSUMED["jitter"].value
    decoded = found["decoded a core"]
    rows = [["preset", "GPUs", "network", "batch", "step, ms", "communication", "the same if GPUs were five times as fast", "images/s",
             "of n times one GPU", "cores a GPU to decode"]]
    for preset in H200:
        speed, p = _speed(preset), found["presets"][preset]
        compute, batch, backward = speed["batch_size"] / speed["images_per_second"], speed["batch_size"], p["backward share"]

        def share(faster: float, n: int, net: Network, compute: float = compute, backward: float = backward, size: int = p["bytes"]
                  ) -> float:
            waited = exposed(size, n, net, backward * compute / faster, bucket)
            return waited / (waited + compute / faster)

        for n in GPUS:
            for name in ("infiniband", "ethernet")[: 1 if n <= A_MACHINE else 2]:
                net = network(name, n)
                step = step_of(compute, p["bytes"], n, net, backward=backward, bucket=bucket, jitter=jitter)
                rows.append([f"`{preset}`", f"{n:,}", "of a machine" if n <= A_MACHINE else name, f"{n * batch:,}",
                             f"{1e3 * step:.1f}", f"{share(1, n, net):.1%}", f"{share(5, n, net):.1%}", f"{n * batch / step:,.0f}",
                             f"{compute / step:.0%}", f"{batch / step / decoded:.1f}"])
    return rows


def _speed(preset: str) -> dict[str, Any]:
    return json.loads((ROOT / "results" / "large" / "speed.json").read_text())["rates"][H200[preset]]


def tables(found: dict[str, Any]) -> dict[str, str]:
    """All of it as markdown, by the name of its place in docs/scaling.md."""
    def markdown(rows: list[list[str]]) -> str:
        return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))

    assumed = [["constant", "value", "from"], *([name, _with_unit(v), v.source] for name, v in ASSUMED.items())]
    g = found["gloo"]
    measured = (f"\n\n{found['processor']}, {found['cores']} cores, load {found['load']:g} while it was measured. gloo: "
                f"{g['latency_us']:.0f} µs, {g['bandwidth_gb_s']:.1f} GB/s.")
    return {"checked": markdown(checked(found)) + measured, "on GPUs": markdown(on_gpus(found)), "assumed": markdown(assumed)}


def filled(page: str, found: dict[str, Any]) -> str:
    """The page with the tables as they now are."""
    for name, text in tables(found).items():
        page = put(page, name, text)
    return page


def _with_unit(a: Assumption) -> str:
    if a.unit == "B/s":
        return f"{a.value / GB:g} GB/s"
    if a.unit == "B":
        return f"{a.value / 2**20:g} MB"
    return f"{1e6 * a.value:g} µs" if a.unit == "s" and a.value < 1 else f"{a.value:g} {a.unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SHAPES))
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    presets = given.only.split(",")
    if given.rank is not None:
        worker(given.rank, presets, given.seconds)
        return
    if not given.table:
        found = measure(presets, given.seconds)
        if RESULTS.exists():  # presets that were measured before stay
            found["presets"] = json.loads(RESULTS.read_text())["presets"] | found["presets"]
        shards = json.loads((ROOT / "results" / "data.json").read_text())["shards"]
        found["decoded a core"] = shards["decoder alone, per core and second"]
        found |= {"processor": processor(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    stored = json.loads(RESULTS.read_text())
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), stored), encoding="utf-8")
    print("\n\n".join(tables(stored).values()))


if __name__ == "__main__":
    main()
