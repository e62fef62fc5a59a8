"""What each preset reaches in half a minute on one core: `src/reparam/parts/preset_figures.json`, which docs and command show.

    python benchmarks/presets.py MNIST.npz FASHION-MNIST.npz [--only iwae,vamp] [--minutes 0.5] [--again]

Each preset is trained by its own command, `reparam train DATA --preset P --minutes 0.5 --threads 1`, with nothing tuned,
and measured on 1,000 evenly spaced test images. Presets that have been measured are left out unless asked for again, so
an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from mnist_likelihood import reparam

import reparam as package
from reparam.parts.presets import ANY, PAIRS, PRESETS
from reparam.parts.recipe import Recipe

RESULTS = Path(package.__file__).parent / "parts" / "preset_figures.json"
KEPT = ("-elbo", "kl", "iw_nll(50)", "psnr", "active_units", "accuracy", "codebook_usage", "codebook_perplexity")


def some_of(source: str, folder: Path) -> str:
    """The data with every tenth test image only."""
    with np.load(source) as arrays:
        part = {k: v[::10] if k.startswith("test") else v for k, v in arrays.items()}
    path = folder / Path(source).name
    np.savez(path, **part)
    return str(path)


def metrics_of(recipe: Recipe) -> str:
    """Those that a recipe's model has."""
    quantised = recipe.posterior.startswith(("vq", "fsq", "lfq", "rvq"))
    chosen = {"psnr": True, "active_units": True, "elbo": recipe.posterior != "deterministic",
              "iw_nll(50)": recipe.posterior != "deterministic", "accuracy": recipe.latent.startswith("semi_supervised"),
              "codebook_usage": quantised}
    return ", ".join(name for name, has in chosen.items() if has)


def measure(name: str, data: str, minutes: str, folder: Path) -> dict:
    out = folder / name
    reparam("train", data, "--preset", name, "--minutes", minutes, "--threads", "1", "--out", str(out))
    figures = reparam("evaluate", str(out), "--metrics", metrics_of(PRESETS[name].recipe))["metrics"]
    facts = json.loads((out / "run.json").read_text())
    outcome = facts["facts"]["outcome"]
    return {"data": Path(data).stem, "seconds": outcome["training_seconds"], "images": outcome["images_seen"],
            "precision": facts["precision"], "parameters": facts["facts"]["parameters"],
            "figures": {f["name"]: round(f["value"], 3) for f in figures if f["name"].startswith(KEPT)
                        and "bits" not in f["name"] and "layer" not in f["name"] and "average" not in f["name"]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist")
    parser.add_argument("fashion")
    parser.add_argument("--only", default=",".join(name for name in PRESETS if PRESETS[name].data != PAIRS))
    parser.add_argument("--minutes", default="0.5")
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mnist, fashion = some_of(given.mnist, folder), some_of(given.fashion, folder)
        for name in given.only.split(","):
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            if name in results and not given.again:
                continue
            results[name] = measure(name, fashion if PRESETS[name].data == ANY else mnist, given.minutes, folder)
            ordered = {k: results[k] for k in PRESETS if k in results}
            RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")
            print(name, results[name], flush=True, file=sys.stderr)


if __name__ == "__main__":
    main()
