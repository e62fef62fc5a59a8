"""Part `html` of explorer.py: pages of `reparam export --format html`, opened from a file.

Each preset is trained on the bundled fish, at 64×64 where it takes them, for half a minute (or taken from --work), exported with weights in float32 and in half
precision, and opened. Images of the same codes, and a reconstruction of the same image, are compared with PyTorch's on the canvas, in
levels of 255; so is what the same noise becomes. The time is from a code to pixels on the canvas. Beside what a clock says stands the
processor's time of the page's own process, all threads together, which other work on the machine hardly changes: what one idle core takes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from in_chromium import chromium, percentiles
from playwright.sync_api import CDPSession, Page

import reparam
from reparam.data.imageset import ImageSet
from reparam.data.stream import to_batch
from reparam.errors import UsageError
from reparam.exporters.html import export_html
from reparam.models.calibration import calibrate_likelihood
from reparam.models.codes import latent_axes
from reparam.models.sampler import Sampler
from reparam.parts.presets import PRESETS
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.files import save_model
from reparam.pretrained.image_model import ImageModel
from reparam.trainer.assembly import Assembly
from reparam.trainer.budget import Budget
from reparam.trainer.stages.base import StageBudget, stage_data
from reparam.trainer.stages.sequence import fit_stages

PAGE = "exporting.md"
CELLS = {"default": 64, "mlp": 64, "cvae": 64, "flow_prior": 64, "vq_vae": 28, "ladder": 64, "latent_flow": 64, "generate32": 32, "dcgan": 64}
"""Presets, and the side of their images: fewer pixels where codes are drawn one after the other, and where a preset is for them."""
ROWS, TIMES = 8, 60
CANVAS = """async ([codes, rows, times]) => {
    const size = codes.length / rows, took = [], images = [], canvas = document.createElement("canvas");
    for (let i = 0; i < Math.max(rows, times); i++) {
        const code = new Float32Array(codes.slice(i % rows * size, (i % rows + 1) * size)), began = performance.now();
        await draw(canvas, code);
        took.push(performance.now() - began);
        if (i < rows) images.push(Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data));
    }
    return [images, took];
}"""


def model_of(preset: str, given: argparse.Namespace) -> ImageModel:
    """A trained model of a preset, from the folder of work or trained now, by the processor's own clock and without a report."""
    folder = given.work / preset
    if not folder.exists():
        train(PRESETS[preset].recipe.but(precision="float32"), fish(CELLS[preset]), 60 * given.minutes, folder)
    return reparam.load(folder, device="cpu")


def fish(side: int) -> ImageSet:
    return reparam.open_images("shapes", image_size=side)


def train(recipe: Recipe, data: ImageSet, seconds: float, folder: Path) -> None:
    """Trains model and fitted prior."""
    images, labels = data.images[:2000], None if data.labels is None else data.labels[:2000]
    _, h, w, c = images.shape
    assembly, state = Assembly(recipe, (c, h, w)), None
    for state in assembly.training(assembly.stream(images, labels=labels), Budget(minutes=seconds / 60, clock=time.process_time)):
        pass
    sampler, seen = Sampler(state.ema.eval()), stage_data(images, np.arange(len(images)), labels, "cpu", binarize=recipe.binarize)
    calibrate_likelihood(sampler.model, seen.x)
    stages = fit_stages(sampler, recipe, seen, lambda _: StageBudget(minutes=seconds / 60, clock=time.process_time))
    save_model(folder, sampler, Config(recipe, (c, h, w), axes=latent_axes(sampler.model, seen.x), stages=stages))


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    model, path = model_of(cell, given), given.work / f"{cell}.html"
    found: dict[str, Any] = {"image": list(model.config.image_shape),
                             "parameters": sum(p.numel() for p in model.sampler.parameters())}
    try:
        for name, half in (("float32", False), ("half", True)):
            written = export_html(model, path, title=cell, half=half)
            found[name] = {"bytes": written.bytes, "single": list(written.single), **opened(path, model)}
    except UsageError as e:
        found["refused"] = str(e)
    return found


def opened(path: Path, model: ImageModel) -> dict[str, Any]:
    """A page's figures."""
    with chromium() as browser:
        page = browser.new_page()
        ledger = page.context.new_cdp_session(page)
        ledger.send("Performance.enable")
        page.goto(path.absolute().as_uri())
        page.wait_for_selector("body[data-ready]", timeout=600_000)
        ready, until_ready = int(page.get_attribute("body", "data-ready") or 0), processor_ms(ledger)
        page.wait_for_selector("#samples button:nth-child(12)", timeout=600_000)  # nothing more is computed from here on
        codes, apart = with_noise(page, model)
        began = processor_ms(ledger)
        images, times = page.evaluate(CANVAS, [codes.flatten().tolist(), ROWS, TIMES])
        each = round((processor_ms(ledger) - began) / TIMES, 1)
        return {"ready_ms": ready, "ready_processor_ms": round(until_ready), "image_ms": percentiles(times), "image_processor_ms": each, "browser": browser.version, "codes_of_noise": apart,
                "levels_of_samples": levels_apart(images, model.decode_pixels(codes)), "levels_of_reconstruction": rebuilt(page, model)}


def processor_ms(ledger: CDPSession) -> float:
    """What the page's process has taken of the processor so far."""
    return 1000 * next(each["value"] for each in ledger.send("Performance.getMetrics")["metrics"] if each["name"] == "ProcessTime")


def with_noise(page: Page, model: ImageModel) -> tuple[torch.Tensor, float]:
    """PyTorch's codes of some noise, and how far the page's of the same noise are from them, greatest of all numbers."""
    torch.manual_seed(1)
    latent, prior = model.network.latent, model.sampler.fitted_prior
    noise = latent.noise(ROWS, prior)
    with torch.inference_mode():
        codes = latent.from_noise(noise, prior=prior)
    got = page.evaluate("async ([n, rows]) => Array.from(await model.fromNoise(new Float32Array(n), rows))",
                        [noise.flatten().tolist(), ROWS])
    return codes, float(np.abs(np.array(got) - codes.flatten().numpy()).max())


def rebuilt(page: Page, model: ImageModel) -> int | None:
    """Levels by which one image's reconstruction differs; None of a GAN."""
    if not model.network.has_encoder:
        return None
    x = to_batch(fish(model.config.image_shape[-1]).images[:1])
    code = page.evaluate("async (x) => Array.from(await model.encode(new Float32Array(x)))", x.flatten().tolist())
    images, _ = page.evaluate(CANVAS, [code, 1, 1])
    return levels_apart(images, model.decode_pixels(model.encode_pixels(x)))


def levels_apart(canvas: list[list[int]], images: torch.Tensor) -> int:
    """The greatest difference between pixels (n, H · W · 4) of a canvas and PyTorch's images (n, C, H, W)."""
    want = np.rint(images.clamp(0, 1).permute(0, 2, 3, 1).double().numpy() * 255)
    n, h, w, c = want.shape
    return int(np.abs(np.array(canvas).reshape(n, h, w, 4)[..., :c] - want).max())


def table(found: dict[str, dict]) -> list[str]:
    lines = ["| preset | pixels | million parameters | MB, half / float32 | ready, s of a processor (of the clock) | an image, ms of a processor (of the clock: median, p95) "
             "| levels from PyTorch, half / float32 |", "|---|---|---|---|---|---|---|"]
    for cell, r in found.items():
        begun = f"| `{cell}` | {r['image'][1]}×{r['image'][2]} | {r['parameters'] / 1e6:.2f} |"
        if "refused" in r:
            lines.append(f"{begun} refused: {r['refused']} | | | |")
            continue
        half, single = r["half"], r["float32"]
        apart = " / ".join(str(max(each["levels_of_samples"], each["levels_of_reconstruction"] or 0)) for each in (half, single))
        clock = half["image_ms"]
        lines.append(f"{begun} {half['bytes'] / 1e6:.1f} / {single['bytes'] / 1e6:.1f} | {half['ready_processor_ms'] / 1000:.1f} ({half['ready_ms'] / 1000:.1f}) | "
                     f"{half['image_processor_ms']} ({clock['median']}, {clock['p95']}) | {apart} |")
    return lines
