"""`reparam train DATA` with no flag but the data, on each of five sources: the verdict and the figures.

    python benchmarks/defaults.py FOLDER [--only mnist.npz]

FOLDER holds mnist.npz, fashion-mnist.npz, faces64.zip and cifar10-jpeg.zip. The fifth source is drawn on the spot: a
folder that mixes sizes, colour modes, bit depths and broken files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

RESULTS = Path(__file__).parent / "results" / "defaults.json"
SOURCES = ("mnist.npz", "fashion-mnist.npz", "faces64.zip", "cifar10-jpeg.zip", "mixed")


def draw_mixed(folder: Path, n: int = 800) -> None:
    """Pictures of one to three shapes in many sizes, modes and formats, with broken files among them."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        width, height = (int(v) for v in rng.integers(40, 200, 2))
        picture = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(0, 90, 3)))
        pen = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(1, 4))):
            x, y, r = int(rng.integers(0, width)), int(rng.integers(0, height)), int(rng.integers(8, 40))
            shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
            shape((x - r, y - r, x + r, y + r), fill=tuple(int(v) for v in rng.integers(100, 256, 3)))
        path = folder / f"{i:04d}"
        match i % 8:
            case 0: picture.convert("L").save(path.with_suffix(".png"))
            case 1: picture.convert("P").save(path.with_suffix(".png"))
            case 2: picture.convert("RGBA").save(path.with_suffix(".webp"))
            case 3: picture.convert("CMYK").save(path.with_suffix(".tiff"))
            case 4: Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(path.with_suffix(".png"))
            case 5: np.save(path.with_suffix(".npy"), np.asarray(picture))
            case 6: picture.save(path.with_suffix(".bmp"))
            case _: picture.save(path.with_suffix(".jpg"), quality=90)
        if i % 40 == 0:
            (folder / f"broken{i}.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    (folder / "notes.txt").write_text("not an image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--only", choices=SOURCES)
    parser.add_argument("--runs", default="runs/defaults", help="where the runs are left")
    given = parser.parse_args()
    for source in (given.only,) if given.only else SOURCES:
        data, out = Path(given.folder) / source, Path(given.runs) / source.split(".")[0]
        if source == "mixed":
            data = Path(given.runs) / "mixed-images"
            if not data.exists():
                draw_mixed(data)
        if not (out / "report.html").exists():  # a run that is there already is read, not repeated
            subprocess.run([sys.executable, "-m", "reparam", "train", str(data), "--out", str(out), "--json"],
                           stdout=subprocess.DEVNULL, check=True)
        run, evaluation = (json.loads((out / f"{name}.json").read_text()) for name in ("run", "evaluation"))
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[source] = {
            "verdict": evaluation["verdict"], "problems": evaluation["problems"], "remarks": evaluation["remarks"],
            "figures": {m["name"]: {k: m[k] for k in ("value", "unit", "n")} for m in evaluation["metrics"]},
            "notes": run["facts"]["notes"], "parameters": run["facts"]["parameters"], "threads": run["threads"],
            "precision": run["precision"], "outcome": run["facts"]["outcome"],
            "skipped_files": len(json.loads((out / "skipped.json").read_text()))}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(source, evaluation["verdict"], run["facts"]["outcome"], flush=True)


if __name__ == "__main__":
    main()
