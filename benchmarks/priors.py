"""Which prior: N(0, I), N(0, I) with a mixture fitted to the codes, or a flow learned with the model.

    python benchmarks/priors.py FOLDER [--minutes 2] [--only mnist.npz]

Everything is measured on held-out training images, never on test images: this is where the defaults of `train` come from.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

import reparam
from reparam.data.open import open_images
from reparam.functional.distance import frechet
from reparam.progress import Silent
from reparam.runs.evaluate import evaluate_arrays

RESULTS = Path(__file__).parent / "results" / "priors.json"
SOURCES = ("mnist.npz", "fashion-mnist.npz", "faces64.zip")


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def rows_of(source: Path, prior: str, minutes: float, out: Path) -> list[dict]:
    """One training; a row for each density that its samples can come from."""
    folder = out / f"{source.name.split('.')[0]}-{prior}"
    if not (folder / "report.html").exists():
        reparam.train(str(source), out=folder, minutes=minutes, prior=prior, fitted_prior="mixture(50)")
    data = open_images(source)
    train, held_out, _ = data.split()
    model = reparam.load(folder)
    x = data.images[held_out][:2000]
    features = PCA(64).fit(flat(data.images[train][:10_000]))
    figures = {f.name: f.value for f in evaluate_arrays(model, x, "iw_nll(50, images=250), psnr, prior_auc", Silent())}
    rows = []
    for name, auc in ((prior, "prior_auc"), ("mixture", "fitted_prior_auc")):
        samples = model.sample(len(x), seed=0, prior=name)
        rows.append({"data": source.name, "prior": prior, "sampled from": name, "iw_nll": round(figures["iw_nll(50)"], 1),
                     "psnr": round(figures["psnr"], 2), "auc": round(figures[auc], 3),
                     "fd": round(frechet(features.transform(flat(x)), features.transform(flat(samples))), 2)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--only", choices=SOURCES)
    parser.add_argument("--runs", default="runs/priors")
    given = parser.parse_args()
    for source in (given.only,) if given.only else SOURCES:
        for prior in ("normal", "flow"):
            rows = rows_of(Path(given.folder) / source, prior, given.minutes, Path(given.runs))
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": []}
            kept = [r for r in results["rows"] if (r["data"], r["prior"]) != (source, prior)]
            about = (f"the default recipe, {given.minutes:g} minutes each, one seed; held-out training images; the distance is a "
                     "squared Fréchet distance of 64 principal components of the pixels, 2,000 samples against held-out images.")
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps({"about": about, "rows": kept + rows}, indent=1) + "\n")
            print(*rows, sep="\n", flush=True)


if __name__ == "__main__":
    main()
