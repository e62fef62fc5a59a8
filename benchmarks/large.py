"""The presets that are meant for a GPU, beside a GAN with the same minutes: on a GPU where there is one, else on the processor.

    python benchmarks/large.py run DATA [--minutes 30] [--jobs 1] [--only cifar/generate32]
    python benchmarks/large.py speed DATA [--seconds 12] [--smoke] [--out FILE]      how fast training is; see large_speed.py
    python benchmarks/large.py images DATA --out FOLDER [--minutes 6] [--smoke]      32 to 512 pixels a side; see large_images.py
    python benchmarks/large.py memory [--only 256] [--minutes 2] [--smoke]     of a processor at 256 and 512 pixels; see large_memory.py
    python benchmarks/large.py table

`--only` takes parts of names, separated by commas.

DATA is a folder with faces64.zip and cifar10-jpeg.zip. Every cell is a preset as it stands, trained without labels for so many minutes of
wall time, all that is fitted afterwards included, in a process of its own, `--jobs` of them at a time; those that share a GPU have a part of
it each, which the table tells. Training and test images, and what is measured, are those of versus_parts/training.py. Results stand in
benchmarks/results/large, a file for each cell, budget and kind of device.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import large_images
import large_memory
import large_speed
import torch
from versus_parts.training import FIT_SECONDS, PRECISION, figures_of, images_of, train

from reparam import load
from reparam.files.writing import write_json
from reparam.metrics.figures import PROTOCOL
from reparam.parts.presets import PRESETS
from reparam.pretrained.pictures import grid, save_png

RESULTS = Path(__file__).parent / "results" / "large"
SPEED = RESULTS / "speed.json"
MEMORY = RESULTS / "memory.json"
CELLS = ("cifar/generate32", "faces/generate64", "cifar/ladder_m", "faces/ladder_m", "cifar/dcgan", "faces/dcgan")
METRICS = "fd, kd, prdc, vendi, memorisation, duplicates, sharpness"
OF_VAES = ", elbo, psnr, ssim, active_units, prior_auc"
GPU = torch.cuda.is_available()
WHERE = torch.device("cuda" if GPU else "cpu")
DEVICE = torch.cuda.get_device_name() if GPU else f"CPU, {torch.get_num_threads()} threads"


def cell(which: str, folder: str, work: Path, minutes: float, jobs: int) -> None:
    """Trains one preset on one set and measures it."""
    data, preset = which.split("/")
    source, indices, test = images_of(data, folder)
    out = work / f"{data}-{preset}{budget(minutes)}"
    recipe = PRESETS[preset].recipe.but(precision="bf16" if GPU else PRECISION)
    facts = train(recipe, source.images, indices, 60 * minutes, test, out, min(FIT_SECONDS, 9 * minutes), str(WHERE), time.perf_counter)
    memory = peak_memory()
    model = load(out)
    save_png(grid(model.sample(64, seed=0), 8), out / "samples.png")
    began = time.perf_counter()
    model.sample(1000, seed=0)
    speed = round(1000 / (time.perf_counter() - began))
    figures = figures_of(model, data, folder, METRICS + OF_VAES * model.network.has_encoder)
    facts["parameters"] = sum(p.numel() for p in model.sampler.parameters())
    write_json(RESULTS / f"{data}-{preset}-{minutes:g}min-{WHERE.type}.json", {
        "protocol": PROTOCOL, "device": DEVICE, "jobs": jobs, "minutes": minutes, "preset": preset, **facts, "memory_mb": memory,
        "samples_per_second": speed, "figures": figures})
    print(which, {f["name"]: round(f["value"], 3) for f in figures if f["name"] in ("fd", "fd of reconstructions", "coverage", "recall")},
          facts["steps"], "steps", file=sys.stderr, flush=True)


def budget(minutes: float) -> str:
    """What a name says of a budget other than four minutes."""
    return "" if minutes == 4 else f"-{minutes:g}min"


def peak_memory() -> int:
    """Of this process, MB: on the GPU where it trains there."""
    return round(torch.cuda.max_memory_reserved() / 2**20 if GPU else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def in_turn(tasks: list[list[str]], jobs: int) -> bool:
    """Runs this script with each list of arguments, `jobs` at a time; says whether all went well."""
    running, well = list[subprocess.Popen[Any]](), True
    while tasks or running:
        while tasks and len(running) < jobs:
            running.append(subprocess.Popen([sys.executable, __file__, *tasks.pop(0)]))
        time.sleep(0.2)
        for process in [p for p in running if p.poll() is not None]:
            if process.returncode:
                print("failed:", process.args, file=sys.stderr, flush=True)
                well = False
            running.remove(process)
    return well


def rows() -> list[list[str]]:
    """One row for each result; used by docs/make_reference.py too."""
    lines = []
    for path in sorted(RESULTS.glob("*min-*.json")):
        r = json.loads(path.read_text())
        data, preset = path.name.split("-")[:2]
        f = {each["name"]: each["value"] for each in r["figures"]}
        told = [f"{f[k]:{form}}" if k in f else "–" for k, form in (
            ("fd", ".0f"), ("fd of reconstructions", ".0f"), ("coverage", ".2f"), ("recall", ".2f"), ("psnr", ".1f"),
            ("-elbo bits/dim", ".2f"))]
        lines.append([data, f"`{preset}`", f"{r['device']}{f', one of {n} on it' if (n := r['jobs']) > 1 else ''}", f"{r['minutes']:g}",
                      f"{r['parameters']:,}", f"{r['images_seen']:,}", *told,
                      f"{r['samples_per_second']:,}", f"{r['memory_mb']:,}"])
    return lines


HEAD = ["data", "preset", "device", "minutes", "parameters", "images seen", "FD", "FD of reconstructions", "coverage", "recall",
        "PSNR, dB", "−ELBO, bits/dim", "samples/s", "memory, MB"]


def speed_rows() -> list[list[str]]:
    """One row for each preset measured by itself; used by docs/make_reference.py too."""
    measured = json.loads(SPEED.read_text())["rates"]
    return [[cell.split("/")[0], f"`{cell.split('/')[1]}`", r["device"], f"{r['parameters']:,}", str(r["batch_size"]),
             f"{r['images_per_second']:,}", f"{r['memory_mb']:,}" if r["memory_mb"] else "–"] for cell, r in sorted(measured.items())]


SPEED_HEAD = ["data", "preset", "device", "parameters, without a fitted prior", "batch", "images/s", "memory, MB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "speed", "images", "memory", "cell", "table"))
    parser.add_argument("data", nargs="?", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="30, of images 6 in all, of memory 2")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, help="of speed and memory a file, of images a folder; by default among the results, of --smoke the folder of --work")
    parser.add_argument("--work", type=Path, default=Path("runs/large"))
    given = parser.parse_args()
    wanted = [c for c in CELLS if any(part in c for part in given.only.split(","))]
    jobs = min(given.jobs, len(wanted))
    minutes = given.minutes or {"images": 6.0, "memory": 2.0}.get(given.what, 30.0)
    passed = ["--minutes", str(minutes), "--jobs", str(jobs if given.what == "run" else given.jobs), "--work", str(given.work)]
    if given.what == "cell":
        cell(given.only, given.data, given.work, minutes, given.jobs)
    elif given.what == "run":
        for data in {c.split("/")[0] for c in wanted}:
            images_of(data, given.data)  # read once, before several processes want them
        if not in_turn([["cell", given.data, "--only", c, *passed] for c in wanted], jobs):
            sys.exit(1)
    elif given.what == "speed":
        out = given.out or (given.work / "speed.json" if given.smoke else SPEED)
        large_speed.run(wanted, given.data, given.seconds, out, smoke=given.smoke)
    elif given.what == "images":
        sides = [side for side in large_images.SHARES if not given.only or str(side) in given.only.split(",")]
        large_images.run(given.data, given.out or given.work / "images", minutes, sides, smoke=given.smoke)
    elif given.what == "memory":
        out = given.out or (given.work / "memory.json" if given.smoke else MEMORY)
        sides = [side for side in large_memory.COUNTS if not given.only or str(side) in given.only.split(",")]
        large_memory.run(sides, given.work, minutes, out, smoke=given.smoke)
    else:
        for head, lines in ((HEAD, rows()), (SPEED_HEAD, speed_rows())):
            print("\n".join(" | ".join(line) for line in [head, *lines]) + "\n")


if __name__ == "__main__":
    main()
