"""Every figure of sets of samples against an independent implementation, and what each costs on one core.

    python benchmarks/parity.py [rows ...]          writes benchmarks/results/parity.json

Features are drawn: 1280 numbers a row with a decaying spectrum, as a network's are.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from prdc import compute_prdc
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from reparam.functional.distance import frechet, frechet_estimate, frechet_inf, kernel_distance, mmd2
from reparam.functional.diversity import vendi, vendi_of
from reparam.functional.neighbours import authentic, copied, duplicated, nearer_to_training, prdc

D = 1280
RESULTS = Path(__file__).parent / "results" / "parity.json"


class AsTheyAre(torch.nn.Module):
    """In place of torchmetrics' network: features come ready."""

    num_features = D

    def forward(self, x):
        return x


def features(n, shift=0.0, seed=0):
    rng = np.random.default_rng([seed, n])
    return rng.normal(size=(n, D)) / np.arange(1, D + 1) ** 0.5 * (1 + shift) + 0.1 * shift


def by_torchmetrics(metric, a, b):
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    return metric.compute()


def by_sqrtm(a, b):
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * np.real(np.trace(sqrtm(cov_a @ cov_b)))


def compared(n=1500):
    """Name, ours, theirs, and by whom."""
    a, b = features(n), features(n, 0.1, 1)
    ours, rows = frechet(a, b), []
    rows.append(("fd", ours, by_sqrtm(a, b), "scipy.linalg.sqrtm"))
    rows.append(("fd", ours, by_torchmetrics(FrechetInceptionDistance(feature=AsTheyAre()), a, b).item(), "torchmetrics"))
    kid = KernelInceptionDistance(feature=AsTheyAre(), subsets=1, subset_size=n)
    rows.append(("kd", mmd2(a, b), by_torchmetrics(kid, a, b)[0].item(), "torchmetrics"))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = compute_prdc(a, b, nearest_k=5)
    mine = prdc(torch.from_numpy(a), torch.from_numpy(b))._asdict()
    rows += [(name, values.mean().item(), float(theirs[name]), "prdc") for name, values in mine.items()]
    unit = a / np.linalg.norm(a, axis=1, keepdims=True)
    rows.append(("vendi", vendi(a).value, vendi_of(unit @ unit.T), "eigenvalues of the n×n similarities"))
    return rows


def timed(n):
    """CPU seconds of each figure for n real rows, n samples and n training rows; other work on the machine hardly counts."""
    a, b, c = features(n), features(n, 0.1, 1), features(n, 0.0, 2)
    ta, tb, tc = (torch.from_numpy(x) for x in (a, b, c))
    work = {
        "fd, each set": lambda: frechet_estimate(a, b), "fd_inf": lambda: frechet_inf(a, b),
        "kd": lambda: kernel_distance(a, b), "prdc": lambda: prdc(ta, tb), "vendi, samples and real": lambda: (vendi(a), vendi(b)),
        "memorisation": lambda: (authentic(tb, tc), authentic(ta, tc), nearer_to_training(tb, tc, ta), copied(tb, tc, ta)),
        "duplicates": lambda: duplicated(tb, ta)}
    seconds = {}
    for name, run in work.items():
        began = time.process_time()
        run()
        seconds[name] = round(time.process_time() - began, 2)
        print(f"  n = {n:,}: {name} {seconds[name]:.1f} s", flush=True)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=int, default=[5000, 10000], help="sizes of the sets that are timed")
    sizes = parser.parse_args().rows
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [{"figure": name, "reparam": ours, "other": theirs, "by": who, "relative_difference": abs(ours - theirs) / abs(theirs)}
            for name, ours, theirs, who in compared()]
    for r in rows:
        print(f"{r['figure']:10} {r['reparam']:14.7g} {r['other']:14.7g}  {r['relative_difference']:.1e}  {r['by']}", flush=True)
    seconds = {}
    found = {"rows_compared": 1500, "dimensions": D, "parity": rows, "cpu_seconds_on_one_core": seconds}
    for n in [None, *sizes]:  # written first without, since the times take minutes
        if n:
            seconds[n] = timed(n)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    worst = max(r["relative_difference"] for r in rows)
    if worst > 5e-5:
        sys.exit(f"the largest difference is {worst:.1e}: not equal to four digits")


if __name__ == "__main__":
    main()
