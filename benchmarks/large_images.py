"""Each of `generate32` to `generate512` on images of its size, in one pass of under eight minutes on a GPU:

    python benchmarks/large.py images DATA --out FOLDER [--minutes 6] [--smoke]

Faces of DATA/faces64.zip for 32 and 64 pixels; for 128 to 512, fish drawn at that size whose colours two gratings ripple, so that there is
detail at every scale. `--minutes` are those of training in all, stages included, shared out by `SHARES`; drawing, measuring and pictures come
on top, about a third as much. FD is by wavelets, of as many samples as images are kept aside: a tenth. Into the folder go figures.json, written after each
size, and for each a picture of samples and one of reconstructions; what a user's training leaves stands beside them. With --smoke every
training takes a moment on a few images with a small prior, on a processor too, so that the script is known to run; its figures say nothing.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reparam
from reparam.data import shapes
from reparam.data.open import open_images
from reparam.files.writing import write_json
from reparam.pretrained.pictures import grid, pairs, save_png
from reparam.progress import Plain

GPU = torch.cuda.is_available()
SHARES = {32: 0.12, 64: 0.16, 128: 0.2, 256: 0.26, 512: 0.26}
"""Of the minutes."""
COUNTS = {32: 10_000, 64: 10_000, 128: 4_000, 256: 2_500, 512: 1_000}
"""Images."""
AT_ONCE = 20
"""Images that a process draws at a time."""
SMOKE = {"fitted_prior": "flow_matching('unet(8, 1, patch=2)', steps=1)", "batch_size": 2, "accumulate": 1}
MOST_MEASURED = 500


def drawn(side: int, seed: int, n: int = AT_ONCE) -> np.ndarray:
    """Fish (n, side, side, 3) uint8 whose colours two gratings of 4 to 48 waves a side ripple."""
    fish, rng = shapes.draw(shapes.draw_factors(n, seed), side).astype(np.float32), np.random.default_rng(seed)
    at = np.arange(side, dtype=np.float32) / side
    for _ in range(2):
        angle, waves, phase = (rng.uniform(*ends, (n, 1, 1)).astype(np.float32) for ends in ((0, np.pi), (4, 48), (0, 2 * np.pi)))
        ripple = np.sin(2 * np.pi * waves * (np.cos(angle) * at[None, :, None] + np.sin(angle) * at) + phase)
        fish += ripple[..., None] * rng.uniform(-18, 18, (n, 1, 1, 3)).astype(np.float32)
    return fish.clip(0, 255).astype(np.uint8)


def images_at(side: int, folder: str, n: int) -> np.ndarray:
    """Images (n, side, side, 3)."""
    if side <= 64:
        found = open_images(Path(folder) / "faces64.zip", image_size=side).images
        return np.array(found[:n])
    seeds = range(-(-n // AT_ONCE))
    with ProcessPoolExecutor(max(len(os.sched_getaffinity(0)) - 1, 1)) as pool:
        return np.concatenate(list(pool.map(drawn, [side] * len(seeds), seeds)))[:n]


def trained(side: int, images: np.ndarray, minutes: float, out: Path, *, smoke: bool) -> dict[str, Any]:
    """Trains the preset of this size, measures it, and writes two pictures."""
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    fields: dict[str, Any] = {"precision": "bf16"} if GPU else {}
    most = 4 if smoke else min(MOST_MEASURED, len(images) // 10)
    images, held_out = images[:-most], images[-most:]
    began = time.perf_counter()
    run = reparam.train(images, preset=f"generate{side}", out=out / f"run{side}", report=Plain(), minutes=minutes,
                        **fields, **(SMOKE if smoke else {}))
    seconds = time.perf_counter() - began
    memory = round(torch.cuda.max_memory_reserved() / 2**20) if GPU else None
    model = reparam.load(run.folder)
    save_png(grid(model.sample(4 if side > 128 or smoke else 36, seed=0)), out / f"samples{side}.png")
    some = held_out[: 4 if side > 128 else 8]
    save_png(grid(pairs(some, model.reconstruct(some)), len(some)), out / f"reconstructions{side}.png")
    found = reparam.evaluate(model, held_out, metrics="psnr" if smoke else "psnr, ssim, fd", features="wavelets")
    return {"side": side, "images": len(images), "minutes": minutes, "seconds with report": round(seconds, 1), **run.facts["outcome"],
            "parameters": run.facts["parameters"], "memory_mb": memory,
            "figures": {f.name: f.value for f in found.figures}, "n": len(held_out)}


def run(folder: str, out: Path, minutes: float, sides: list[int], *, smoke: bool) -> None:
    """All sizes, written to a file after each."""
    began, found = time.perf_counter(), list[dict[str, Any]]()
    out.mkdir(parents=True, exist_ok=True)
    for side in sides:
        images = images_at(side, folder, 20 if smoke else COUNTS[side])
        found.append(trained(side, images, 0.01 if smoke else minutes * SHARES[side], out, smoke=smoke))
        facts = {"device": torch.cuda.get_device_name() if GPU else "CPU", "torch": torch.__version__, "smoke": smoke,
                 "seconds": round(time.perf_counter() - began, 1), "sizes": found}
        write_json(out / "figures.json", facts)
        print(found[-1], f"after {facts['seconds']:.0f} s", flush=True)
