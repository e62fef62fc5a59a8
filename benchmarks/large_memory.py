"""Memory of training on large images with a processor: `python benchmarks/large.py memory [--only 256] [--minutes 2] [--smoke]`.

Folders of fish drawn at 256 and 512 pixels are trained on by the command, `generate256` and `generate512` as they stand, and the model then
draws four images and rebuilds four; each is a process of its own, whose peak of resident memory is taken. Beside that, two steps without a
prior, the batch in one piece, two and four. With --smoke 16 images, one step and a small prior.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from large_images import drawn
from PIL import Image

from reparam.files.writing import write_json

COUNTS = {256: 300, 512: 150}
CHILD = """
import json, resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "reparam", *sys.argv[1:]], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"memory_mb": round(used.ru_maxrss / 1024), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1)}))
sys.exit(code)
"""


def measured(*command: str) -> dict[str, float]:
    """Peak memory and processor time of a command, and seconds until it ended."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CHILD, *command], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) | {"seconds": round(time.perf_counter() - began, 1)}


def folder_of(side: int, work: Path, n: int) -> Path:
    folder = work / f"fish{side}"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(-(-n // 20)):
        for i, image in enumerate(drawn(side, seed)[: n - 20 * seed]):
            Image.fromarray(image).save(folder / f"{20 * seed + i:03}.png")
    return folder


def of_size(side: int, work: Path, minutes: float, known: dict[str, Any], *, smoke: bool) -> dict[str, Any]:
    """Memory of every command for images of this size; of two steps, where that is not known."""
    folder, out = folder_of(side, work, 16 if smoke else COUNTS[side]), work / f"run{side}-{time.time_ns()}"
    usual = ["train", str(folder), "--preset", f"generate{side}", "--image-size", str(side), "--threads", "1"]
    brief = ["--fitted-prior", "flow_matching('unet(8, 1, patch=2)', steps=1)", "--steps", "1", "--batch-size", "2"]
    some = [str(path) for path in sorted(folder.glob("*.png"))[:4]]
    found = {"train": measured(*usual, "--out", str(out), *(brief if smoke else ["--minutes", str(minutes)])),
             "sample": measured("sample", str(out), "-n", "4", "--out", str(work / f"samples{side}.png")),
             "reconstruct": measured("reconstruct", str(out), *some, "--out", str(work / f"reconstructions{side}.png"))}
    for pieces in () if smoke else (1, 2, 4):
        found[f"two steps in {pieces}"] = known.get(f"two steps in {pieces}") or measured(
            *usual, "--steps", "2", "--fitted-prior", "none", "--accumulate", str(pieces), "--out", f"{out}-in-{pieces}")
    return found


def run(sides: list[int], work: Path, minutes: float, out: Path, *, smoke: bool) -> None:
    """All sizes, written to a file after each."""
    found = json.loads(out.read_text()) if out.is_file() and not smoke else {}
    for side in sides:
        found[str(side)] = of_size(side, work, minutes, found.get(str(side), {}), smoke=smoke)
        write_json(out, found)
        print(side, found[str(side)], flush=True)
