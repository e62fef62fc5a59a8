"""How quick a model's page is: `reparam export --format html`, opened from a file in Debian's chromium.

    python benchmarks/explorer.py html PRESET[:SIZE[:CHANNELS]] … [--images 60]

Untrained models of presets at a size of images are exported, and their pages opened: their size, when they are ready, the time from a
code to pixels on the canvas (median and 95th percentile, one thread), and the greatest difference from PyTorch in 255 levels.
Results stand in benchmarks/results/explorer.json, with the processor and how busy it was: on a busy machine they are upper bounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playwright.sync_api import Page, sync_playwright

from reparam.exporters.html import export_html
from reparam.models.build import build_model
from reparam.models.sampler import Sampler
from reparam.parts.presets import PRESETS
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel

RESULTS = Path(__file__).parent / "results" / "explorer.json"
TIMED = """async ([codes, rows, images]) => {
    const size = codes.length / rows, times = [], canvas = document.getElementById("image");
    const pixels = [];
    for (let i = 0; i < images; i++) {
        const began = performance.now();
        const image = await model.decode(new Float32Array(codes.slice(i % rows * size, (i % rows + 1) * size)));
        canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(4 * model.imageSize / model.told.image[0]),
            model.told.image[2], model.told.image[1]), 0, 0);
        times.push(performance.now() - began);
        if (i < rows) pixels.push(Array.from(image));
    }
    return [times, pixels];
}"""
ROWS = 8


def made(case: str) -> tuple[str, ImageModel]:
    """An untrained model of `preset:size:channels`, with its name."""
    preset, size, channels = [*case.split(":"), "28", "1"][:3] if ":" not in case else [*case.split(":"), "1"][:3]
    shape, recipe = (int(channels), int(size), int(size)), PRESETS[preset].recipe
    torch.manual_seed(0)
    return f"{preset} {size}×{size}×{channels}", ImageModel(Sampler(build_model(recipe, shape)), Config(recipe, shape))


def measured(page: Page, model: ImageModel, path: Path, images: int) -> dict[str, Any]:
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]", timeout=300_000)
    codes = model.sampler.codes(ROWS).detach()
    times, pixels = page.evaluate(TIMED, [codes.flatten().tolist(), ROWS, images])
    want = model.decode_pixels(codes).flatten(1).numpy()
    levels = [np.round(255 * np.clip(np.asarray(each), 0, 1)) for each in (pixels, want)]
    return {"megabytes": round(path.stat().st_size / 1e6, 2), "ready_ms": int(page.get_attribute("body", "data-ready") or 0),
            "image_ms": [round(float(np.percentile(times, q)), 1) for q in (50, 95)],
            "levels_apart": int(np.abs(levels[0] - levels[1]).max())}


def html(cases: list[str], images: int) -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for case in cases:
            name, model = made(case)
            path = Path(folder) / "model.html"
            written = export_html(model, path, title=name)
            page = browser.new_page()
            found.setdefault("html", {})[name] = {
                **measured(page, model, path, images), "float32": list(written.single), "load": round(os.getloadavg()[0], 1),
                "browser": browser.version, "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
            page.close()
            print(name, found["html"][name], flush=True)
            RESULTS.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["html"])
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--images", type=int, default=60)
    given = parser.parse_args()
    html(given.cases, given.images)


if __name__ == "__main__":
    main()
