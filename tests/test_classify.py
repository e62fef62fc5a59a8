"""Classifiers of codes: their figures against scikit-learn, and the command from labelled images to sorted files."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix
from sklearn.metrics import log_loss as their_log_loss

from reparam.cli.app import main
from reparam.downstream.scores import calibration_error, judge


def test_figures_are_scikit_learns():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 500)
    y = np.where(rng.random(500) < 0.6, p.argmax(1), rng.integers(0, 4, 500))
    judged = judge(p, y)
    found = {s.name: s for s in judged.scores()}
    assert np.array_equal(judged.confusion, confusion_matrix(y, p.argmax(1)))
    assert found["accuracy"].value == pytest.approx(accuracy_score(y, p.argmax(1)))
    assert found["balanced accuracy"].value == pytest.approx(balanced_accuracy_score(y, p.argmax(1)))
    assert found["log loss"].value == pytest.approx(their_log_loss(y, p), rel=1e-6)
    for name in ("accuracy", "balanced accuracy", "log loss"):
        low, high = found[name].interval
        assert low < found[name].value < high


def test_calibration_error_is_zero_for_honest_probabilities_and_the_gap_for_others():
    p = np.tile([0.8, 0.2], (1000, 1))
    honest = (np.arange(1000) >= 800).astype(int)
    assert calibration_error(p, honest) == pytest.approx(0, abs=1e-12)
    assert calibration_error(p, np.zeros(1000, int)) == pytest.approx(0.2)


def test_the_largest_confusions_come_first_and_their_surest_mistakes():
    p = np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1], [0.7, 0.3]])
    assert [(i, j, rows.tolist()) for i, j, rows in judge(p, [0, 0, 0, 1]).confused(5)] == [(0, 1, [1, 0]), (1, 0, [3])]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of digits in sub-folders, another of unlabelled ones, and a run."""
    folder = tmp_path_factory.mktemp("classify")
    images, target = load_digits(return_X_y=True)
    for i, (image, k) in enumerate(zip(images[:400], target[:400], strict=True)):
        place = folder / (f"labelled/{'abc'[k]}" if i < 380 else "new") if k < 3 else None
        if place:
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.reshape(8, 8) * 15).astype(np.uint8)).save(place / f"{i:03}.png")
    code = main(["train", str(folder / "labelled"), "--steps", "60", "--preset", "mlp", "--latent", "flat(8)", "--out",
                 str(folder / "run"), "--fitted-prior", "none", "--device", "cpu", "--json"])
    assert code == 0
    return folder


def test_the_command_learns_measures_and_sorts(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained)
    assert main(["classify", "run", "new"]) == 2
    assert "has no classifier yet" in capsys.readouterr().err
    assert main(["classify", "run", "labelled", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["classes"] == ["a", "b", "c"] and (trained / "run/classifier.html").read_text().count("<figure>") < 10
    assert main(["classify", "run", "new", "--table-out", "told.csv", "--sort", "sorted"]) == 0
    rows = list(csv.DictReader((trained / "told.csv").read_text().splitlines()))
    assert len(rows) == len(list((trained / "new").iterdir())) == len(list((trained / "sorted").rglob("*.png")))
    for row in rows:
        assert (trained / "sorted" / row["class"] / row["name"]).read_bytes() == (trained / "new" / row["name"]).read_bytes()
        assert sum(float(row[f"p({k})"]) for k in "abc") == pytest.approx(1, abs=1e-6)
    assert main(["classify", "run", "labelled", "--predict"]) == 0  # to a table of the default name, whatever the labels
    told = (trained / "predictions.csv").read_text().splitlines()[1:]
    assert len(told) == len(list((trained / "labelled").rglob("*.png")))
    assert main(["classify", "run", "new", "--sort", "sorted"]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_the_command_learns_a_column_of_a_table(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained)
    files = sorted(path.relative_to(trained / "labelled").as_posix() for path in (trained / "labelled").rglob("*.png"))
    rows = [f"{f},{'yes' if f[0] == 'a' else 'no'}" for f in files[2:]]
    (trained / "table.csv").write_text("\n".join(["file,round", *rows]))
    assert main(["classify", "run", "labelled", "--table", "table.csv", "--column", "round", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["classes"] == ["no", "yes"] and "2 images of" in said.err
    table = ["--table", "table.csv"]
    for wrong, words in ((table, "go together"), ([*table, "--column", "rond"], "no column")):
        assert main(["classify", "run", "labelled", *wrong]) in (1, 2)
        assert words in capsys.readouterr().err


def test_what_cannot_be_measured_and_images_in_colour_or_without_a_label_are_told(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = sorted((trained / "labelled").rglob("*.png"))
    for i, picture in enumerate(pictures[::6]):  # one of each class
        (tmp_path / "one" / f"{i:02}").mkdir(parents=True)
        shutil.copy(picture, tmp_path / "one" / f"{i:02}")
    assert main(["classify", str(trained / "run"), "one"]) == 1
    assert "could not be measured" in capsys.readouterr().err
    for i, picture in enumerate(pictures):
        (tmp_path / "half" / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)  # labels that say nothing
        place = tmp_path / "half" / "abc"[i % 3] if i % 2 else tmp_path / "half"
        Image.open(picture).convert("RGB").save(place / picture.name)
    assert main(["classify", str(trained / "run"), "half"]) == 0
    said = capsys.readouterr().err
    assert f"{len(pictures[::2])} images of {len(pictures)} without a label" in said
    assert f"{len(pictures)} images are in colour, of which this grey model sees the brightness alone" in said
    assert "that this is better has not been shown" in (trained / "run/classifier.html").read_text(encoding="utf-8")
