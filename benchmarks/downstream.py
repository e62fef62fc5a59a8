"""What a trained model is good for beyond samples: each part measures one use of its codes on data with known answers.

    python benchmarks/downstream.py models /data                     all cells of a part; goes on where it stopped
    python benchmarks/downstream.py directions /data --only kept     one cell
    python benchmarks/downstream.py tables /data                     docs/latents-measured.md, from all results

    models       four sets of images, four presets, five minutes of one core each: trained first, or when a part needs them
    anomalies    odd images among usual ones: how well scores part them, false discoveries, patches found
    directions   edits of faces along glasses, hair and skin colour, judged by a classifier of real faces
    m2           a hundred labels of MNIST: the semi-supervised model beside a probe on codes, five draws of the labels
    search       nearest images by code, pixels and features; queries a second; unknown classes
    geometry     draws by the volume of a metric over codes beside the mixture's; shortest ways between images
    classify     accuracy of a probe of codes from few labels, against pixels, PCA, an untrained encoder and EfficientNet
    sampling     FD, precision and recall of the draws that `sample` chooses: typical, diverse, like an image, between two

DATA is a folder with mnist.npz, fashion-mnist.npz, faces64.zip and cifar10-jpeg.zip. Results lie in
benchmarks/results/downstream/PART-CELL.json; models, which take minutes, under --work.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from importlib import import_module
from pathlib import Path

import torch

from reparam.files.writing import write_json

RESULTS = Path(__file__).parent / "results" / "downstream"
PAGE = Path(__file__).parents[1] / "docs" / "latents-measured.md"
PARTS = ("models", "directions", "anomalies", "m2", "search", "geometry", "classify", "sampling")
"""Modules of downstream_parts; each names its cells."""


def processor() -> str:
    """By name, where the system says it."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("part", choices=(*PARTS, "tables"))
    options.add_argument("data", type=Path, help="folder of the data sets")
    options.add_argument("--only", help="one cell, or the beginning of several")
    options.add_argument("--work", type=Path, default=Path("runs/downstream"), help="where models are kept")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    if chosen.part == "tables":
        from downstream_parts.tables import page

        PAGE.write_text(page(RESULTS), encoding="utf-8")
        return
    for name, cell in import_module(f"downstream_parts.{chosen.part}").cells(chosen.data, chosen.work).items():
        path = RESULTS / f"{chosen.part}-{name}.json"
        if not name.startswith(chosen.only or "") or path.exists():
            continue
        began = time.process_time()
        found = cell()
        write_json(path, {**found, "machine": processor(),
                          "processor_seconds": round(time.process_time() - began)})
        print(f"{path}: {json.dumps({k: v for k, v in found.items() if not isinstance(v, list)})}", flush=True)


if __name__ == "__main__":
    main()
