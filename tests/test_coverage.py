"""Of 95 % intervals, 90 to 98 % hold what they are of: a seeded part of what `benchmarks/coverage.py` simulates.

Data have a known law, and the figures are made by the product's own metrics. What is recorded of all of them, at three
sizes, has to keep the same bounds. Both allow for what chance does to a share of so many.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from scipy.stats import binom

path = Path(__file__).parents[1] / "benchmarks" / "coverage.py"
spec = importlib.util.spec_from_file_location("coverage_of_intervals", path)
coverage = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage)
RECORDED = json.loads(coverage.RESULTS.read_text())

WIDER = {
    "kd": ("equal sets",), "effective dimensions": ("white codes",), "non-Gaussianity": ("white codes",),
    "class_balance": ("equal classes",)}
"""Figures and laws whose intervals may hold more. Where the truth is the least or the most that a figure can be, one of the
two sides cannot miss; that of equal sets' `kd`, where single images change nothing, has a variance whose estimate grows with
the value that it is to bound."""


def check(found, name, law, chance=0.025):
    """As many as from 90 to 98 % would give, but for `chance` on either side."""
    least, most = binom.ppf(chance, found["times"], 0.90), binom.ppf(1 - chance, found["times"], 0.98)
    most = found["times"] if law in WIDER.get(name, ()) else most
    assert least <= found["inside"] <= most, f"{name} of {law}: {found['inside']} of {found['times']}"


@pytest.mark.parametrize(("law", "n", "times"), [
    ("equal sets", 100, 100), ("unlike sets", 100, 100), ("detail", 60, 300), ("codes", 200, 300), ("white codes", 200, 300),
    ("images", 200, 100), ("turned codes", 200, 100), ("unlike classes", 60, 100), ("equal classes", 60, 100),
    ("shares", 60, 300), ("codes off the prior", 64, 16), ("codes of the prior", 64, 16)])
def test_intervals_hold_their_truth(law, n, times):
    with torch.random.fork_rng():
        for name, found in coverage.simulate(coverage.LAWS[law], n, times, seed=1).items():
            check(found, name, law, chance=0.005)


@pytest.mark.parametrize("cell", list(RECORDED))
def test_recorded_intervals_hold_their_truth(cell):
    law = cell.rsplit(",", 1)[0]
    for name, found in RECORDED[cell]["figures"].items():
        check(found, name, law, chance=0.005)
