"""The command `anomalies`: odd images first, calibrated on the run's own, kept beside the model, refused in words."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from reparam.cli import main
from reparam.downstream.anomaly import Detector
from reparam.downstream.measures import DEFAULT
from reparam.errors import ModelFileError
from reparam.files.tables import read_cells
from reparam.pretrained.image_model import load
from reparam.runs.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of the digits, trained briefly."""
    folder = tmp_path_factory.mktemp("anomalies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPARAM_CACHE", str(folder / "cache"))
        train("digits", out=folder / "run", steps=150, threads=1, precision="float32", fitted_prior="none", latent="flat(4)",
              encoder="mlp((32,))", decoder="mlp((32,))")
        assert main(["anomalies", str(folder / "run"), "digits", "--out", str(folder / "digits.html")]) == 0
    return folder / "run"


@pytest.fixture
def mixed(tmp_path):
    """Forty digits, of which the last eight are turned into negatives."""
    digits = (load_digits().images[:40] * (255 / 16)).round().astype(np.uint8)
    digits[32:] = 255 - digits[32:]
    np.save(tmp_path / "mixed.npy", digits)
    return tmp_path / "mixed.npy"


def test_odd_images_come_first(run, mixed, tmp_path, capsys):
    page = tmp_path / "odd.html"
    assert main(["anomalies", str(run), str(mixed), "--out", str(page), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 40 and 8 <= said["odd"] <= 12
    assert {int(each["name"]) for each in said["oddest"][:8]} == set(range(32, 40))
    with (tmp_path / "odd.csv").open(encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 40 and {int(r["name"]) for r in rows[:8]} == set(range(32, 40))
    p = [float(r["p_value"]) for r in rows]
    assert p == sorted(p) and all(name in rows[0] and f"{name} percentile" in rows[0] for name in DEFAULT)
    html = page.read_text(encoding="utf-8")
    assert html.count("<figure>") == 40 and html.index("<b>32</b>") < html.index("<b>0</b>")


def test_images_like_the_trained_ones_are_hardly_ever_odd(run):
    model = load(run, device="cpu")
    detector = Detector.load(run / "anomalies.safetensors", model, again="")
    digits = (load_digits().images * (255 / 16)).round().astype(np.uint8)[..., None]
    share = (detector.judge(digits).p_value <= 0.1).mean()
    assert 0.02 < share < 0.2  # most of these are training images


def test_what_is_typical_is_kept_and_the_data_not_needed_again(run, mixed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "run.json").unlink()
    assert main(["anomalies", str(copy), str(mixed), "--out", str(tmp_path / "a.html")]) == 0


def test_a_file_of_another_shape_is_refused(run, tmp_path):
    model = load(run, device="cpu")
    detector = Detector.load(run / "anomalies.safetensors", model, again="x")
    replace(detector, reference=replace(detector.reference, codes=detector.reference.codes[:, :2])).save(
        tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match="'codes' is missing or of another shape"):
        Detector.load(tmp_path / "a.safetensors", model, again="x")


def test_a_score_is_made_of_the_statistics_that_are_named(run, mixed, tmp_path, capsys):
    copy, table = tmp_path / "copy", tmp_path / "odd.parquet"
    shutil.copytree(run, copy)
    where = ("--out", str(tmp_path / "a.html"), "--json")
    named = ("--score", "typicality, regret", "--table-out", str(table))
    assert main(["anomalies", str(copy), str(mixed), *named, *where]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["score"] == ["typicality", "regret"] and {int(e["name"]) for e in said["oddest"][:8]} == set(range(32, 40))
    assert set(read_cells(table)[0]) == {"name", "odd", "p_value", "score", *(
        f"{name}{ending}" for name in ("typicality", "regret") for ending in ("", " percentile", " p_value"))}
    kept = Detector.load(copy / "anomalies.safetensors", load(copy, device="cpu"), again="")
    assert kept.names == (*DEFAULT, "typicality", "regret")  # what had been measured before stays
    (copy / "run.json").unlink()
    assert main(["anomalies", str(copy), str(mixed), "--score", "rate", *where]) == 0
    assert main(["anomalies", str(copy), str(mixed), "--score", "rate,features", *where]) == 2
    assert "lacks features" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "words"), [
    (("--score", "regrets"), "no statistic is called 'regrets' (did you mean 'regret'?)"), (("--score", ","), "is named"),
    (("--score", "rate,what"), "code_distance (distance from training codes)"),
    (("--rate", "0"), "share above 0"), (("--out", "a.png"), "an .html file"), (("--rate", "nan"), "share above 0")])
def test_what_makes_no_sense_is_refused(run, mixed, capsys, given, words):
    assert main(["anomalies", str(run), str(mixed), *given]) == 2
    assert words in capsys.readouterr().err


def test_a_model_without_its_run_says_what_is_missing(run, mixed, tmp_path, capsys):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(run / name, bare)
    assert main(["anomalies", str(bare), str(mixed), "--out", str(tmp_path / "a.html")]) == 2
    assert "what is typical of its images is not known" in capsys.readouterr().err


def test_the_benchmark_parts_and_patches_as_it_says(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    part = importlib.import_module("downstream_parts.anomalies")
    assert {"fashion", "without-9", "regret"} <= set(part.cells(Path(), Path()))
    rng = np.random.default_rng(0)
    usual, odd = rng.normal(size=300).round(1), rng.normal(1, 1, size=200).round(1)
    found = part.separation(usual, odd)
    areas = [roc_auc_score(np.repeat([0, 1], (300, 200)), np.concatenate([rng.choice(usual, 300), rng.choice(odd, 200)]))
             for _ in range(300)]
    whole = roc_auc_score(np.repeat([0, 1], (300, 200)), np.concatenate([usual, odd]))
    assert found["auroc"] == pytest.approx(whole, abs=1e-4)
    assert found["auroc_95"] == pytest.approx(np.quantile(areas, (0.025, 0.975)), abs=0.012)
    images = rng.choice([0, 0, 9], (20, 12, 12, 1)).astype(np.uint8)
    pasted, boxes = part.with_patches(images, rng)
    for before, after, (row, column) in zip(images, pasted, boxes, strict=True):
        changed = np.argwhere((before != after)[..., 0])
        assert len(changed) and (changed >= (row, column)).all() and (changed < (row + 8, column + 8)).all()
    assert part.pointed((images != pasted)[..., 0].astype(float), boxes)["share"] == 1
