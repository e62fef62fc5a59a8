"""How fast images reach training, and what it takes to train on a million of them.

    python benchmarks/data.py cache      images a second and core into the cache, from 64×64 PNG files
    python benchmarks/data.py map        images a second from the cache's memory map, as a model gets them
    python benchmarks/data.py shards     images a second from shards, and what share of the decoder's own speed that is
    python benchmarks/data.py million    a million images made on the spot, packed, trained on for an epoch, killed half-way
                                         and resumed; memory beyond the model, and whether the order of images stayed
    python benchmarks/data.py samples    what a million samples take in memory on their way through the metrics of sets

Seconds are those of the processors, of all processes together, since other programs may run beside. `--count` sets how
many images. Every part adds its figures to benchmarks/results/data.json.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from downstream import processor

RESULTS = Path(__file__).parent / "results" / "data.json"
BATCH, ROUNDS = 500, 7


def spent() -> float:
    """Processor seconds of this process and of those that it waited for."""
    return time.process_time() + waited()


def drawn(n: int, side: int, seed: int, noise: float = 0.0) -> np.ndarray:
    """Soft spots of any colour at any place, (n, side, side, 3)."""
    rng = np.random.default_rng(seed)
    grid, spots = np.arange(side) / side, []
    for _ in range(2):
        place, width = rng.random((n, 1)), rng.uniform(0.05, 0.4, (n, 1))
        spots.append((255 * np.exp(-((grid - place) / width) ** 2)).astype(np.uint32))
    shape = (spots[0][:, :, None] * spots[1][:, None] >> 8)[..., None]
    pixels = (shape * rng.integers(20, 256, (n, 1, 1, 3), dtype=np.uint32) >> 8).astype(np.float32)
    return (pixels + rng.normal(0, noise, pixels.shape) if noise else pixels).clip(0, 255).astype(np.uint8)


def write_pngs(folder: Path, count: int) -> None:
    from PIL import Image

    for i, pixels in enumerate(drawn(count, 64, 0, noise=2)):
        path = folder / str(i % 10) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def bare(files: list[Path]) -> float:
    """Images per processor second by Pillow alone."""
    from PIL import Image

    began = time.process_time()
    for path in files:
        np.asarray(Image.open(path))
    return len(files) / (time.process_time() - began)


def cache(count: int, folder: Path) -> dict:
    from reparam.data import open_images

    write_pngs(folder / "png", count)
    began, wall = spent(), time.perf_counter()
    found = open_images(folder / "png")
    seconds = spent() - began
    return {"images": len(found), "images per core and second": len(found) / seconds,
            "images per second": len(found) / (time.perf_counter() - wall), "Pillow alone": bare(sorted((folder / "png").rglob("*.png")))}


def memory_map(count: int, folder: Path) -> dict:
    import torch

    from reparam.data.stream import Stream
    from reparam.runtime import keep_memory

    torch.set_num_threads(1)
    keep_memory()  # as the command does
    result = {}
    for side, channels in ((28, 1), (32, 3), (64, 3)):
        path = folder / f"{side}.npy"
        np.save(path, np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8))
        stream = iter(Stream(np.load(path, mmap_mode="r"), np.arange(count), batch_size=256))
        next(stream)
        began = time.process_time()
        seen = sum(len(batch) for batch in itertools.islice(stream, 4 * count // 256))
        result[f"{side}x{side}x{channels}"] = seen / (time.process_time() - began)
    return {"images per core and second": result}


def shards(count: int, folder: Path) -> dict:
    """The decoder by itself and the stream in turns, so that other programs take from both alike."""
    from reparam.data import open_images
    from reparam.data.pack import pack
    from reparam.data.streaming import BATCHES_AHEAD, decode_all
    from reparam.runtime import keep_memory

    keep_memory()
    write_pngs(folder / "png", count)
    pack(folder / "png", folder / "packed")
    streamed = open_images(folder / "packed", stream=True).streamed
    files = [row.member.file for number in range(4) for row in streamed.rows(number)]
    batches = streamed.batches(128, 0, 0, 0, 1)
    next(batches)
    alone, clock, own, seen = [], [], 0.0, 0
    for _ in range(ROUNDS):
        time.sleep(0.2)  # until as many batches lie ahead as may
        began, wall = time.process_time(), time.perf_counter()
        decode_all(streamed.plan, files)
        alone.append((len(files) / (time.process_time() - began), len(files) / (time.perf_counter() - wall)))
        for _ in range(2 * BATCHES_AHEAD):
            next(batches)
        began, wall = time.process_time(), time.perf_counter()
        n = sum(len(images) for images, _ in itertools.islice(batches, 16))
        clock.append(n / (time.perf_counter() - wall))
        own, seen = own + time.process_time() - began, seen + n
    batches.close()
    return {"images": seen, "rounds": ROUNDS, "decoder alone, per core and second": statistics.median(cpu for cpu, _ in alone),
            "decoder alone, per second by the clock": statistics.median(wall for _, wall in alone),
            "per second by the clock": statistics.median(clock), "per second of the process that trains": seen / own,
            "share by the clock": statistics.median(mine / wall for mine, (_, wall) in zip(clock, alone, strict=True)),
            "shares": [mine / wall for mine, (_, wall) in zip(clock, alone, strict=True)]}


def waited() -> float:
    """Processor seconds of the processes that this one waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


CHILD = """
import hashlib, itertools, json, sys
from pathlib import Path
import psutil, torch
import reparam
from reparam.data import open_images
from reparam.trainer.state_file import load_state, save_state
packed, folder, size, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
recipe = reparam.Recipe(encoder="mlp(hidden=(64,))", decoder="mlp(hidden=(64,))", latent="flat(16)", batch_size=batch, epochs=1, threads=1)
assembly = reparam.Assembly(recipe, (3, size, size))
warm = itertools.islice(assembly.training(assembly.stream(torch.zeros(999, size, size, 3).numpy()), reparam.Budget(steps=20)), 20)
list(warm)
assembly = reparam.Assembly(recipe, (3, size, size))
(folder / "model.rss").write_text(str(psutil.Process().memory_info().rss))
found = open_images(packed, stream=True)
state = folder / "state.safetensors"
saved = load_state(state) if state.exists() else None
start = int(saved[1]["step"]) if saved else 0
stream = assembly.stream(found.streamed, start=start)
log = (folder / "order.txt").open("a")
def noted():
    for step, batch in enumerate(stream, start):
        x = batch[0] if isinstance(batch, tuple) else batch
        print(step, hashlib.blake2b(x.contiguous().numpy().tobytes(), digest_size=8).hexdigest(), file=log, flush=True)
        yield batch
budget = assembly.budget(stream)
for each in assembly.training(noted(), budget, resume=saved):
    if each.step % 100 == 0 or each.progress >= 1:
        save_state(state, each.snapshot())
(folder / "done").write_text(json.dumps({"steps": each.step, "images": each.images, "seconds": each.seconds}))
"""


def watched(command: list[str], until=lambda: False) -> tuple[int, int, float]:
    """Runs a program, ended with SIGKILL when `until` says so: exit code, peak of resident bytes of it and its children, seconds."""
    began, peak = time.perf_counter(), 0
    program = subprocess.Popen(command, start_new_session=True)
    watch = psutil.Process(program.pid)
    while program.poll() is None:
        try:
            rss = sum(each.memory_info().rss for each in (watch, *watch.children(recursive=True)))
        except psutil.Error:
            continue
        peak = max(peak, rss)
        if until():
            os.kill(program.pid, signal.SIGKILL)
        time.sleep(0.2)
    return program.wait(), peak, time.perf_counter() - began


def million(count: int, folder: Path, side: int = 16) -> dict:
    """One million by default; what is there already is used again."""
    from reparam.data import open_images

    array, packed, run = folder / "images.npy", folder / "packed", folder / "run"
    if not (packed / "pack.json").exists():
        out = np.lib.format.open_memmap(array, "w+", np.uint8, (count, side, side, 3))
        for i in range(0, count, 10_000):
            out[i : i + 10_000] = drawn(min(10_000, count - i), side, i)
        del out
    code, pack_peak, pack_seconds = watched([sys.executable, "-m", "reparam", "pack", str(array), str(packed)])
    if code:
        raise SystemExit("packing failed")
    run.mkdir(exist_ok=True)
    order, total = run / "order.txt", count // BATCH
    child = [sys.executable, "-c", CHILD, str(packed), str(run), str(side), str(BATCH)]
    half = total // 2
    steps = lambda: order.read_text().count("\n") if order.exists() else 0  # noqa: E731
    first = watched(child, lambda: steps() > half) if not (run / "done").exists() else (0, 0, 0.0)
    second = watched(child)
    lines = [line.split() for line in order.read_text().splitlines()]
    seen: dict[int, set[str]] = {}
    for step, digest in lines:
        seen.setdefault(int(step), set()).add(digest)
    plain = plain_order(open_images(packed, stream=True).streamed, max(half - 50, 0), min(100, total))
    base = int((run / "model.rss").read_text())
    peak = max(first[1], second[1])
    return {"images": count, "side": side, "killed at step": half, "steps": len(seen),
            "steps seen twice with other images": sum(len(each) > 1 for each in seen.values()),
            "steps around the kill that differ from an undisturbed pass": sum(seen[s] != {d} for s, d in plain.items()),
            "bytes of shards": sum(p.stat().st_size for p in packed.glob("*.parquet")),
            "packing, seconds": pack_seconds, "packing, peak MB": pack_peak / 1e6,
            "training, seconds": first[2] + second[2], "training, peak MB of all processes": peak / 1e6,
            "model alone, MB": base / 1e6, "beyond the model, MB": (peak - base) / 1e6,
            **json.loads((run / "done").read_text())}


def plain_order(streamed, start: int, count: int) -> dict[int, str]:
    """Digests of batches of an undisturbed pass."""
    import torch

    from reparam.data.stream import LateStream

    digests = {}
    for step, batch in enumerate(itertools.islice(LateStream(streamed, batch_size=BATCH, start=start), count), start):
        assert isinstance(batch, torch.Tensor)  # noqa: S101
        digests[step] = hashlib.blake2b(batch.contiguous().numpy().tobytes(), digest_size=8).hexdigest()
    return digests


METRICS = "fd, kd, prdc, vendi, duplicates, memorisation, sharpness"


def samples(count: int, folder: Path, side: int = 8, features: int = 512) -> dict:
    """Noise, by random features. Freed memory goes back here, of which the command keeps up to 2 GB for what comes next."""
    import torch

    from reparam.metrics import measure
    from reparam.metrics.evaluation import AT_HAND, Evaluation

    class Noise:
        resampler = fitted_prior = None
        has_encoder = False
        codes = staticmethod(lambda n, options: torch.rand(n, 1, side, side))
        images = staticmethod(lambda z: z)
        model = property(lambda self: self)

    class Random:
        name = resize = "random"
        standard = False

        def __init__(self, features: int) -> None:
            self.weight = torch.randn(side * side, features)

        def embed(self, x: torch.Tensor) -> torch.Tensor:
            return (x.flatten(1) @ self.weight).relu()

    result: dict = {}
    x = torch.rand(count, 1, side, side)
    before, began = psutil.Process().memory_info().rss, time.process_time()
    evaluation = Evaluation(Noise(), x, train_images=x[:AT_HAND], features=Random(features), n=count)  # pyright: ignore
    beyond = {}
    for metric in METRICS.split(", "):
        result |= {f.name: f.n for f in measure(evaluation, metric)}
        beyond[metric] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6
        print(metric, beyond[metric], flush=True)
    return {"samples": count, "features": features, "n of each figure": result, "peak beyond the real images so far, MB": beyond,
            "processor seconds": time.process_time() - began}


PARTS = {"cache": (cache, 12_000), "map": (memory_map, 20_000), "shards": (shards, 8000), "million": (million, 1_000_000),
         "samples": (samples, 1_000_000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--count", type=int)
    parser.add_argument("--work", type=Path, help="a folder for what is made, which is kept; by default a temporary one")
    asked = parser.parse_args()
    part, count = PARTS[asked.part]
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["REPARAM_CACHE"] = str(folder / "cache")
        found = part(asked.count or count, folder)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[asked.part] = found | {"machine": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    print(json.dumps(kept[asked.part], indent=2))


if __name__ == "__main__":
    main()
