"""The referee's nulls: `duplicates` of blurred real images, and figures of sets in which nothing is wrong, at three sizes.

    python benchmarks/referee.py cifar10.zip        # some three minutes of one core; writes benchmarks/results/referee.json

The archive holds colour images of 32 × 32, as folders of classes. How often intervals hold what they are of is simulated by
`tests/test_coverage.py`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reparam.features import get_features
from reparam.functional.diversity import vendi
from reparam.functional.neighbours import duplicated, prdc
from reparam.functional.spectrum import as_smooth_as
from reparam.functional.two_sample import PRIOR, told_apart
from reparam.metrics.evaluation import saved

RESULTS = Path(__file__).parent / "results" / "referee.json"


def images(archive: str, n: int) -> Tensor:
    import io
    import zipfile

    from PIL import Image

    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith((".jpg", ".png")))
        chosen = np.random.default_rng(0).permutation(len(names))[:n]
        pictures = [np.array(Image.open(io.BytesIO(file.read(names[i]))).convert("RGB")) for i in chosen]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def averaged(x: Tensor, factor: int) -> Tensor:
    """Over blocks, and enlarged again."""
    return F.interpolate(F.avg_pool2d(x, factor), scale_factor=factor, mode="bilinear") if factor > 1 else x


def blur(archive: str, n: int = 400) -> list[dict[str, float | int]]:
    """Different real images, averaged over blocks, with none and with a quarter of them repeated."""
    network = get_features("efficientnet")
    x = images(archive, 2 * n)
    real, other = x[:n], x[n:]
    repeated = torch.cat([other[: n * 3 // 4], other[: n // 50].repeat(n, 1, 1, 1)])[:n]

    def embed(pictures: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([network.embed(chunk).float() for chunk in saved(pictures).split(100)])

    sharp, rows = embed(real), []
    for factor in (1, 4, 8):
        for share, pictures in ((0.0, other), (0.25, repeated)):
            soft = averaged(pictures, factor)
            found, smoothed = embed(soft), embed(as_smooth_as(real, soft))
            rows.append({"averaged_over": factor, "repeated": share,
                         "duplicates": round(float(duplicated(found, smoothed).double().mean()), 4),
                         "against_sharp_images": round(float(duplicated(found, sharp).double().mean()), 4),
                         "vendi": round(vendi(found).value, 2), "vendi_of_smoothed": round(vendi(smoothed).value, 2)})
            print(rows[-1], flush=True)
    return rows


def nothing_wrong(sizes: tuple[int, ...] = (64, 500, 2000), times: int = 20) -> list[dict[str, float | int]]:
    """The extremes of figures of pairs of equal sets, 16 Gaussian features, and of codes that follow the prior."""
    rows: list[dict[str, float | int]] = []
    for n in sizes:
        rng = np.random.default_rng(n)
        pairs = [[torch.from_numpy(rng.normal(size=(n, 16))) for _ in range(2)] for _ in range(times)]
        auc = [told_apart(rng.normal(size=(n, 1, 16)) * 0.8 + 0.6 * rng.normal(size=(n, 8, 16)),
                          rng.normal(size=(PRIOR, 16)), seed=i).value for i in range(times // 2)]
        rows.append({"n": n, "pairs": times,
                     "most_duplicates": max(float(duplicated(a, b).double().mean()) for a, b in pairs),
                     "least_coverage": min(float(prdc(a, b).coverage.mean()) for a, b in pairs),
                     "least_precision": min(float(prdc(a, b).precision.mean()) for a, b in pairs),
                     "most_prior_auc": max(auc), "least_prior_auc": min(auc)})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", help="a .zip of colour images of 32 × 32")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    results = {"nothing_wrong": nothing_wrong(), "blur": blur(given.archive)}
    RESULTS.write_text(json.dumps(results | {"cpu_seconds": round(time.process_time() - began)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
