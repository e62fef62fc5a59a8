"""The command `anomalies`: odd images first, calibrated on the run's own, kept beside the model, refused in words."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from reparam.cli import main
from reparam.downstream.anomaly import Detector
from reparam.downstream.measures import DEFAULT
from reparam.errors import ModelFileError
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


@pytest.mark.parametrize(("given", "words"), [
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
