"""Figures stay: in the run's folder, by how they were measured, and on its pages; Python measures as the command does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import reparam
from reparam.cli.app import main
from reparam.errors import ModelFileError, UsageError
from reparam.metrics.figures import PROTOCOL, Figure
from reparam.runs.evaluations import figure_of, keep, sorted_out
from reparam.runs.records import read_evaluation
from reparam.runs.train import train

SMALL = {"threads": 1, "precision": "float32", "encoder": "mlp((16,))", "decoder": "mlp((16,))", "latent": "flat(3)",
         "fitted_prior": "none", "steps": 4}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A finished run. Nobody writes to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPARAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        return train("digits", out=tmp_path_factory.mktemp("once") / "run", **SMALL).folder


@pytest.fixture
def run(once, tmp_path, monkeypatch):
    """The same, to be written to."""
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(once, tmp_path / "run"))


def written(folder, name="evaluation.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def figure(name="fd", value=1.0, n=100, features="wavelets"):
    return Figure(name, value, "u", n, (value - 1, value + 1), detail=(1.0,), features=features,
                  better="lower")


# The store


def test_figures_of_fewer_images_stand_beside_those_of_more():
    many, few, again = figure(n=100), figure(value=2.0, n=20), figure(value=3.0, n=100)
    other = figure(value=4.0, n=20, features="pixels")
    assert sorted_out([many, few, other]) == ([many, other], [few])
    assert sorted_out([few, many]) == ([many], [few])
    assert sorted_out([many, few, again]) == ([again], [few])


def test_what_is_kept_reads_as_it_was(tmp_path):
    path = tmp_path / "evaluations" / "x.json"
    keep(path, [figure()], {"measured_on": "x's"})
    facts = keep(path, [figure(n=30), figure("kd")], {"measured_on": "x's", "compared": []})
    assert json.dumps(facts, sort_keys=True) == json.dumps(read_evaluation(path), sort_keys=True) and facts["compared"] == []
    assert [figure_of(m) for m in facts["metrics"]] == [figure(), figure("kd")]
    assert [figure_of(m) for m in facts["fewer"]] == [figure(n=30)]


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    """It has `illnesses` for `problems`, and figures without what is recorded of them today."""
    finding, path = {"title": "unstable", "evidence": "e", "advice": "a"}, tmp_path / "evaluation.json"
    figures = [{"name": name, "value": 1.0, "n": 9, "unit": unit} for name, unit in (
        ("active_units", "of 32 latents"), ("codebook_perplexity", "codes of 256"), ("-elbo", "nats (density)"),
        ("kl", "nats"))]
    path.write_text(json.dumps({"protocol": PROTOCOL, "metrics": figures, "remarks": [], "measured_on": "test",
                                "verdict": "unstable", "illnesses": [finding]}))
    facts = read_evaluation(path)
    assert facts["problems"] == [finding] and "illnesses" not in facts
    read = [figure_of(each) for each in facts["metrics"]]
    assert [(f.total, f.is_density, f.better) for f in read] == [
        (32, False, None), (256, False, "higher"), (None, True, "lower"), (None, False, None)]
    assert read[0].undirected == "how many are needed depends on the images"


def test_another_protocols_figures_are_set_aside(tmp_path):
    path = tmp_path / "evaluation.json"
    keep(path, [figure("old")], {"measured_on": "test"})
    path.write_text(json.dumps(written(tmp_path) | {"protocol": PROTOCOL - 1}))
    assert [m["name"] for m in keep(path, [figure("new")], {"measured_on": "test"})["metrics"]] == ["new"]
    assert written(tmp_path, f"evaluation-protocol-{PROTOCOL - 1}.json")["metrics"][0]["name"] == "old"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"metrics": [3], "protocol": 1}'])
def test_a_damaged_file_is_told_and_written_anew(tmp_path, text):
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(ModelFileError, match="reparam evaluate"):
        read_evaluation(tmp_path / "evaluation.json")
    keep(tmp_path / "evaluation.json", [figure()], {"measured_on": "test"})
    assert read_evaluation(tmp_path / "evaluation.json")["metrics"][0]["name"] == "fd"


# The command


def test_evaluate_keeps_its_figures_and_writes_the_pages_again(run, capsys):
    before = {m["name"]: m for m in written(run)["metrics"]}
    assert main(["evaluate", str(run), "--metrics", "sharpness, duplicates", "--features", "wavelets", "-n", "50"]) == 0
    assert f"kept in {run / 'evaluation.json'}" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--metrics", "sharpness", "-n", "30"]) == 0
    facts = written(run)
    now = {m["name"]: m for m in facts["metrics"]}
    assert now.keys() == before.keys() | {"sharpness", "duplicates", "vendi of smoothed real images"}
    assert now["psnr"] == before["psnr"]
    assert now["sharpness"]["n"] == 50 and [(m["name"], m["n"]) for m in facts["fewer"]] == [("sharpness", 30)]
    assert facts["measured_on"] == "held-out" and "verdict" in facts
    for page in ("report.html", "README.md"):
        assert "sharpness" in (run / page).read_text(encoding="utf-8")


def test_figures_of_other_images_have_a_file_of_their_own(run, capsys):
    before = written(run)
    np.save("few.npy", np.zeros((3, 8, 8), np.uint8))
    assert main(["evaluate", str(run), "few.npy", "--metrics", "psnr", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (file,) = (run / "evaluations").iterdir()
    assert file.name.startswith("few.npy-") and written(run / "evaluations", file.name)["metrics"] == told["metrics"]
    assert written(run) == before


def test_a_model_that_changes_loses_its_figures(run):
    reparam.evaluate(run, np.zeros((3, 8, 8), np.uint8), metrics="psnr")
    reparam.evaluate(run, metrics="sharpness", n=50)
    reparam.resume(run, steps=6)
    assert "sharpness" not in {m["name"] for m in written(run)["metrics"]} and not (run / "evaluations").exists()


def test_comparing_on_few_images_takes_nothing_away(run, tmp_path):
    from reparam.runs.comparison.compare import Request, compare

    other = train("digits", out=tmp_path / "other", **{**SMALL, "latent": "flat(2)"}).folder
    metrics = "sharpness, psnr"
    compare([run, other], Request(metrics, "wavelets", 90))
    large = {m["name"]: m for m in written(run)["metrics"]}
    few = compare([run, other], Request(metrics, "wavelets", 40))
    assert {cell.figures[0].n for row in few.rows if row.name == "sharpness" for cell in row.cells.values()} == {40}
    assert {m["name"]: m for m in written(run)["metrics"]} == large and large["sharpness"]["n"] == 90
    again = compare([run, other], Request(metrics, "wavelets", 90))
    assert {cell.figures[0].n for row in again.rows if row.name == "sharpness" for cell in row.cells.values()} == {90}


def test_a_metric_that_fails_leaves_the_others(run, capsys, monkeypatch, failures_are_listed):
    from reparam.parts import registry

    def broken(evaluation):
        raise ArithmeticError("singular")

    monkeypatch.setitem(registry.metric.parts, "ssim", broken)
    assert main(["evaluate", str(run), "--metrics", "ssim, psnr"]) == 0
    out = capsys.readouterr().out
    assert "psnr" in out and "measuring ssim failed: ArithmeticError: singular" in out


# Python


def test_python_measures_what_the_command_does(run, capsys):
    found = reparam.evaluate(run, metrics="elbo, psnr")
    assert main(["evaluate", str(run), "--metrics", "elbo, psnr", "--json"]) == 0
    assert json.loads(json.dumps(found.to_dict())) == json.loads(capsys.readouterr().out)
    assert found["psnr"].n == 160 and found.own and found.kept == run / "evaluation.json"


def test_arrays_are_measured_with_a_loaded_model(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    model = reparam.load(run, device="cpu")
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8), np.uint8)
    found = reparam.evaluate(model, x, metrics="psnr")
    assert found["psnr"].n == 30 and found.kept is None
    floats = reparam.evaluate(model, x.astype(np.float32)[:, None] / 255, metrics="psnr")
    assert floats["psnr"].value == pytest.approx(found["psnr"].value)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="give images"):
        reparam.evaluate(model)


def test_a_model_without_its_run_is_measured_on_given_images(run, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(run / name, alone / name)
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8), np.uint8))
    assert reparam.evaluate(alone, tmp_path / "x.npy", metrics="psnr")["psnr"].n == 2
    with pytest.raises(UsageError, match="name images"):
        reparam.evaluate(alone)
    with pytest.raises(ModelFileError, match="no run"):
        reparam.evaluate(tmp_path / "nothing")
