"""What `reparam plan` foretells, beside what `reparam train` with the same flags then takes: seconds and memory, of all of it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reparam.runtime import watched

from .sets import bands, photographs

CELLS = ["digits", "fashion", "faces", "large", "bands", "few"]
MINUTES = "1"


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    given.work.mkdir(parents=True, exist_ok=True)
    flags = [data_of(cell, given.data, given.work), "--minutes", MINUTES, "--threads", "1", "--json"]
    told, _, _ = _run(["plan", *flags])
    _, seconds, memory = _run(["train", *flags, "--out", str(given.work / f"plan-{cell}-{os.getpid()}")])
    return {"foretold": {"seconds": round(told["seconds"], 1), "memory": round(told["memory"], 3)}, "reason": told["reason"],
            "taken": {"seconds": round(seconds, 1), "memory": round(memory, 3)}, "finding_out": round(told["probe"], 1),
            "off": {"seconds": round(told["seconds"] / seconds - 1, 3), "memory": round(told["memory"] / memory - 1, 3)}}


def data_of(cell: str, folder: Path, work: Path) -> str:
    """What a case trains on; drawn where it has to be."""
    rng = np.random.default_rng(0)
    if cell in ("digits", "fashion", "faces"):
        return {"digits": "digits", "fashion": str(folder / "fashion-mnist.npz"), "faces": str(folder / "faces64.zip")}[cell]
    if cell == "bands":
        np.save(work / "bands.npy", bands(2000, rng))
        return str(work / "bands.npy")
    n, side = (300, 256) if cell == "large" else (40, 64)
    (work / cell).mkdir(exist_ok=True)
    for i, image in enumerate(photographs(n, rng, side)):
        Image.fromarray(image).save(work / cell / f"{i:03}.png")
    return str(work / cell)


def _run(arguments: list[str]) -> tuple[dict[str, Any], float, float]:
    """What a command prints as JSON, its seconds, and the GiB that it took at most."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out, subprocess.Popen([sys.executable, "-m", "reparam", *arguments], stdout=out) as process:
        memory = watched(process)
        out.seek(0)
        said = out.read()
    if process.returncode:
        raise RuntimeError(f"{arguments} failed")
    return json.loads(said), time.perf_counter() - began, memory or 0.0
