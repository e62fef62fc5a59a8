"""What `benchmarks/downstream.py classify` computes besides probes: draws of labels, intervals, the table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.decomposition import PCA


@pytest.fixture(scope="module")
def part():
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from downstream_parts import classify

    yield classify
    sys.path.pop(0)


def test_it_has_a_cell_for_each_set_and_player(part, tmp_path):
    assert len(part.cells(tmp_path, tmp_path)) == len(part.FILES) * len(part.PLAYERS)


def test_draws_are_even_over_classes_and_differ(part):
    labels = np.arange(500) % 10
    first, second = (part.drawn(labels, 100, draw) for draw in (0, 1))
    assert (np.bincount(first[first >= 0]) == 10).all() and (first >= 0).sum() == 100
    assert (part.drawn(labels[:95], 95, 0) == labels[:95]).all()
    assert (first != second).any() and (part.drawn(labels, 100, 0) == first).all()


@pytest.mark.parametrize("shape", [(60, 8), (30, 50)])
def test_components_are_scikit_learns(part, shape, monkeypatch):
    monkeypatch.setattr(part, "POOL", shape[0] - 10)
    flat = np.random.default_rng(0).normal(size=shape)
    found, facts = part.components(flat, 5)
    theirs = PCA(5).fit(flat[: part.POOL])
    assert np.allclose(np.abs(found), np.abs(theirs.transform(flat)), atol=1e-3)
    assert facts["kept"] == pytest.approx(theirs.explained_variance_ratio_.sum(), abs=1e-4)


def test_the_table_has_intervals_and_paired_differences(part, tmp_path):
    values = {"default": [0.5, 0.6, 0.7, 0.6, 0.6], "pixels": [0.4, 0.5, 0.6, 0.5, 0.5]}
    for player, accuracy in values.items():
        cell = {"numbers": 3, "accuracy": {"10": accuracy, "100": accuracy, "1000": accuracy, "5000": [0.9]}}
        (tmp_path / f"classify-mnist-{player}.json").write_text(json.dumps(cell))
    written = part.table(tmp_path)
    bound = ttest_1samp(values["default"], 0).confidence_interval(0.95)
    assert f"60.0 ± {50 * (bound.high - bound.low):.1f}" in written
    assert "| *default less pixels* | | +10.0 ± 0.0 | +10.0 ± 0.0 | +10.0 ± 0.0 | +0.0 |" in written
