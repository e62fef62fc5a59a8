"""Does a run's folder that somebody damaged, or made to harm, end in words? Damages the files of one and uses it, many times.

    python benchmarks/fuzz_run_folder.py [--mutations 2000] [--seed 0] [--workers 2] [--minutes M]

Two small runs on the bundled digits are trained and compared. Then, again and again, one file of one of them is damaged: a bit
flipped, cut, extended, emptied, filled with noise, replaced by a pipe, a folder or another file, a value of its JSON (also in
the header of safetensors) replaced by one of another type or beyond measure, a tensor resized, retyped or filled with NaN. What
reads that file is then run: sampling, measuring, comparing, fitting a prior, or going on for a step. Each must do its work or
raise a `ReparamError`, within 10 s and 1.5 GB. What comes after training, which is drawn and measured from memory, is left out.
Prints and writes benchmarks/results/fuzz_run_folder.json: how many of each kind, and the worst time and memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "fuzz_run_folder.json"
SECONDS, KIB = 10, 1_500_000
SMALL = {"encoder": "mlp((8,))", "decoder": "mlp((8,))", "threads": 1, "precision": "float32", "fitted_prior": "mixture(3)"}

USES = {
    "config.json": ("sample", "measure", "refit"), "model.safetensors": ("sample", "measure", "refit"),
    "run.json": ("measure", "compare", "refit", "go on"), "evaluation.json": ("compare",),
    "metrics.jsonl": ("compare", "go on"), "state/training.safetensors": ("go on",),
}
"""Files of a run, and what reads them."""

ODD: list[Any] = [None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**400, 1.5, -1e308, float("nan"), float("inf"), "", "x", "none", "digits",
                  "~nobody/x", "/dev/zero", "x" * 5000, "\ud800", "a\x00b", "mlp((1000000000,))", "flat(100000)", "mixture(10**9)",
                  "((((", "{0}%s", [], [[]], [1, 2], ["x"], {}, {"x": 1}, {"": []}]


def prepare(folder: Path) -> None:
    """Two runs that have been compared."""
    from reparam.runs.comparison.compare import compare
    from reparam.runs.train import train

    for name, latent in (("a", "flat(4)"), ("b", "flat(3)")):
        train("digits", out=folder / name, latent=latent, steps=3, device="cpu", **SMALL)
    compare([folder / "a", folder / "b"], request(), device="cpu")


def request() -> Any:
    from reparam.runs.comparison.compare import Request

    return Request("fd", "wavelets", 64)


def patch(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Leaves out what follows training: it reads no file of the folder, and takes seconds."""
    from reparam.runs import finish

    put(finish, "evaluate_arrays", lambda *_, **__: [])
    put(finish, "draw", lambda *_, **__: None)


def use(action: str, folder: Path) -> None:
    """Uses run `a` of a folder."""
    from reparam.pretrained.image_model import load
    from reparam.progress import Silent
    from reparam.runs.comparison.compare import compare
    from reparam.runs.measuring import evaluate
    from reparam.runs.refit import refit
    from reparam.runs.reports.comparison_page import write_comparison
    from reparam.runs.train import resume

    run = folder / "a"
    match action:
        case "sample":
            load(run, device="cpu").sample(2, seed=0)
        case "measure":
            evaluate(run, metrics="psnr", device="cpu")
        case "compare":
            write_comparison(compare([run, folder / "b"], request(), device="cpu"), folder / "page", device="cpu", report=Silent())
        case "refit":
            refit(run, "mixture(2)", device="cpu")
        case _:
            resume(run, steps=4, device="cpu")


def damage(folder: Path, rng: random.Random) -> tuple[str, str]:
    """Damages one file of run `a`; returns its name and how."""
    name = rng.choice(list(USES))
    path = folder / "a" / name
    ways: list[Callable[[Path, random.Random], None]] = [flip, flip, cut, extend, empty, noise, pipe, directory, other]
    ways += [of_values] * (12 if path.suffix != ".safetensors" else 6) + [of_tensors] * (10 if path.suffix == ".safetensors" else 0)
    way = rng.choice(ways)
    way(path, rng)
    return name, way.__name__.replace("_", " ")


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def extend(path: Path, rng: random.Random) -> None:
    with path.open("ab") as f:
        f.write(rng.choice((b"\0", b"}", b"[" * 10_000, rng.randbytes(100), path.read_bytes())))


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def noise(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.choice((rng.randbytes(300), b"[" * 100_000, b'{"a":' * 50_000, struct.pack("<Q", 2**62) + b"{}", b"\xff" * 9)))


def pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def other(path: Path, rng: random.Random) -> None:
    files = [p for p in path.parents[1 if path.parent.name == "state" else 0].rglob("*") if p.is_file() and p != path]
    source = rng.choice([*files, *(p for p in (path.parents[2] / "b", path.parents[1] / "b") for p in p.glob(path.name)), "/dev/zero"])
    path.unlink()
    path.symlink_to(source) if source == "/dev/zero" else path.write_bytes(Path(source).read_bytes())


def of_values(path: Path, rng: random.Random) -> None:
    """Another value somewhere in the JSON."""
    if path.suffix == ".safetensors":
        return in_header(path, rng, lambda header: replaced(header, rng))
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    i = rng.randrange(len(lines))
    lines[i] = json.dumps(replaced(json.loads(lines[i]), rng))
    path.write_text("\n".join(lines))


def replaced(value: Any, rng: random.Random) -> Any:
    """With one of its values, wherever that stands, left out, doubled or exchanged."""
    places: list[tuple[Any, Any]] = []
    left = [value]
    while left:
        each = left.pop()
        inner = list(each.items()) if isinstance(each, dict) else list(enumerate(each)) if isinstance(each, list) else []
        places += [(each, key) for key, _ in inner]
        left += [v for _, v in inner if isinstance(v, dict | list)]
    if not places or rng.random() < 0.02:
        return rng.choice(ODD)
    holder, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.15:
        del holder[key]
    elif kind < 0.25 and isinstance(holder, dict):
        holder[rng.choice(("x", "step", "steps", "seeds", "data"))] = holder.pop(key)
    elif kind < 0.4 and isinstance(holder[key], int | float):
        holder[key] = rng.choice((-holder[key], holder[key] + 1, holder[key] * 1000, holder[key] * 10**12, str(holder[key])))
    else:
        holder[key] = rng.choice(ODD)
    return value


def in_header(path: Path, rng: random.Random, change: Callable[[Any], Any]) -> None:
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    told = header.get("__metadata__", {})
    if rng.random() < 0.7 and "reparam" in told:  # its own numbers
        told["reparam"] = json.dumps(replaced(json.loads(told["reparam"]), rng))
    else:
        header = change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def of_tensors(path: Path, rng: random.Random) -> None:
    """Another shape, type, value or name of a tensor."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as f:
        told, tensors = f.metadata(), {k: f.get_tensor(k).clone() for k in f.keys()}  # noqa: SIM118
    name = rng.choice(list(tensors))
    t = tensors[name]
    changes: list[Callable[[], Any]] = [
        lambda: t.flatten()[:1], lambda: torch.zeros(0), lambda: t[None], lambda: torch.cat([t.flatten(), t.flatten()]), lambda: t.double(),
        lambda: t.half(), lambda: torch.full_like(t.float(), float("nan")), lambda: torch.full_like(t.float(), 1e38), lambda: -t.float(),
        lambda: torch.zeros(2_000_000), lambda: t.to(torch.uint8), lambda: torch.randn(t.shape) * 1e6]
    if rng.random() < 0.2:
        tensors[rng.choice((name + "x", "optimizer.999.exp_avg", "model.x", ""))] = tensors.pop(name)
    else:
        tensors[name] = rng.choice(changes)().contiguous().clone()
    save_file(tensors, path, told)


class TooSlow(BaseException):
    """It has not ended in time."""


def attempt(original: Path, place: Path, seed: int) -> list[dict[str, Any]]:
    """Damages a copy of the runs, uses it in every way, and says how each ended."""
    from reparam.errors import ReparamError

    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(original, place)
    name, way = damage(place, random.Random(seed))
    outcomes = list[dict[str, Any]]()
    for action in USES[name]:
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        how, why = "done", ""
        try:
            use(action, place)
        except ReparamError as e:
            how = "refused"
            why = str(e)
        except TooSlow:
            how = "hangs"
        except Exception as e:
            how, why = "traceback", f"{type(e).__name__}: {e}\n{traceback.format_exc()[-1500:]}"
        spent, grown = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        how = "too much" if how in ("done", "refused") and (spent > SECONDS or grown > KIB) else how
        outcomes.append({"seed": seed, "file": name, "damage": way, "use": action, "how": how, "why": why,
                         "seconds": round(spent, 2), "mb": grown // 1024})
    return outcomes


def work(original: str, seeds: list[int], out: Any) -> None:
    """A worker: one process for many mutations, as a server would be."""
    def late(*_: object) -> None:
        raise TooSlow

    import torch

    torch.set_num_threads(1)
    patch()
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    signal.signal(signal.SIGALRM, late)
    with tempfile.TemporaryDirectory() as place:
        for seed in seeds:
            signal.alarm(3 * SECONDS)
            out.put((seed, attempt(Path(original), Path(place) / "runs", seed)))
            signal.alarm(0)
    out.put(None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=600, help="stop after so many, whatever is left")
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        patch()
        prepare(Path(folder))
        context = multiprocessing.get_context("spawn")
        queue: Any = context.Queue()
        seeds = list(range(args.seed, args.seed + args.mutations))
        workers = [context.Process(target=work, args=(folder, seeds[i :: args.workers], queue)) for i in range(args.workers)]
        for worker in workers:
            worker.start()
        outcomes, ended, died = list[dict[str, Any]](), 0, 0
        while ended + died < len(workers) and time.perf_counter() - began < 60 * args.minutes:
            with contextlib.suppress(Exception):
                found = queue.get(timeout=60)
                ended += found is None
                outcomes += found[1] if found else []
            died = sum(not w.is_alive() and w.exitcode != 0 for w in workers)
        for worker in workers:
            worker.terminate()
    tell(args, outcomes, died, time.perf_counter() - began)


def tell(args: Any, outcomes: list[dict[str, Any]], died: int, seconds: float) -> None:
    faults = [o for o in outcomes if o["how"] not in ("done", "refused")]
    for each in faults:
        print(json.dumps({k: v for k, v in each.items() if k != "why"}), each["why"], flush=True)
    slowest, largest = (max(outcomes, key=lambda o: o[key]) for key in ("seconds", "mb"))
    facts = {
        "mutations": len({o["seed"] for o in outcomes}), "seed": args.seed, "uses": len(outcomes), "workers that died": died,
        "ended": Counter(o["how"] for o in outcomes), "seconds": round(seconds),
        "worst seconds": {k: slowest[k] for k in ("file", "damage", "use", "seconds")},
        "worst growth, MB": {k: largest[k] for k in ("file", "damage", "use", "mb")},
        "by file": {name: Counter(o["how"] for o in outcomes if o["file"] == name) for name in USES},
        "by damage": {way: Counter(o["how"] for o in outcomes if o["damage"] == way) for way in sorted({o["damage"] for o in outcomes})},
        "faults": [{k: v for k, v in o.items() if k in ("seed", "file", "damage", "use", "how")} for o in faults]}
    print(json.dumps(facts, indent=1))
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
