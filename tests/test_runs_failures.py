"""What fails in a run costs itself and no more: a step, a figure, a picture, a second stage."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from reparam.metrics.evaluation import Unavailable
from reparam.metrics.figures import Figure
from reparam.models.sampler import Sampler
from reparam.objectives.objective import Term
from reparam.parts import registry
from reparam.progress import Attempts
from reparam.runs.reports.curves import curves

SMALL = {"threads": 1, "precision": "float32", "encoder": "mlp((16,))", "decoder": "mlp((16,))", "latent": "flat(3)",
         "fitted_prior": "mixture(2)", "steps": 4, "batch_size": 16}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An .npy of 200 images."""
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 256, (200, 8, 8), np.uint8))
    return tmp_path / "noise.npy"


def train(data, out, **changes):
    from reparam.runs.train import train

    return train(data, out=out, **{**SMALL, **changes})


def written(folder, name="run.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def broken(*_, **__):
    raise RuntimeError("a\nfault")


# Skipped steps


@pytest.mark.parametrize("bad", [range(20, 25), range(11, 26), range(36, 41)], ids=["one return", "several", "at the end"])
def test_a_run_with_steps_that_are_not_finite_ends_with_its_report(data, tmp_path, bad, monkeypatch):
    calls = itertools.count(-1)  # two calls check the recipe
    monkeypatch.setitem(registry.term.registered, "shaky", lambda: Term(
        "shaky", lambda trace, _: trace.log_px.mean(0) * 0 + (math.nan if next(calls) in bad else 0.0)))
    run = train(data, tmp_path / "run", steps=40, objective="nll + kl + shaky")
    assert run.status == "finished" and run.facts["failures"] == []
    assert run.facts["outcome"]["skipped_steps"] == len(bad) and run.facts["outcome"]["rollbacks"] == len(bad) // 5
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["loss"] is None] == list(bad)
    assert all(r["terms"].keys() == {"nll", "kl", "shaky"} for r in records)
    assert (run.folder / "report.html").exists() and (run.folder / "curves.png").exists()


def record(step, value):
    return {"step": step, "loss": value, "grad_norm": value, "critic": None, "terms": {"nll": value, "kl": value}}


@pytest.mark.parametrize("records", [[record(1, None)], [record(1, 2.0)], [record(1, None), record(2, 3.0)],
                                     [record(1, 2.0), {**record(2, 1.0), "terms": {}}], [record(1, 0.0)]])
def test_curves_are_drawn_with_gaps(records):
    assert curves(records, [], ["nll", "kl"]).size == curves([record(1, 1.0), record(2, 2.0)], [], ["nll", "kl"]).size


# What follows training


def test_each_thing_that_fails_is_missing_by_itself_and_made_when_resumed(data, tmp_path, monkeypatch, failures_are_listed):
    with monkeypatch.context() as patch:
        patch.setattr("reparam.trainer.stages.prior.PriorStage.fit", broken)
        patch.setattr("reparam.pretrained.image_model.ImageModel.traverse", broken)
        patch.setitem(registry.metric.parts, "psnr", broken)
        patch.setattr("reparam.runs.journal.held_out_figures", broken)
        run = train(data, tmp_path / "run")
    assert run.status == "finished"
    failed = {each["what"]: each for each in written(run.folder)["facts"]["failures"]}
    assert list(failed) == ["fitting the prior", "measuring psnr", "drawing traversals"]
    assert {each["why"] for each in failed.values()} == {"RuntimeError: a fault"}
    assert all("in broken" in each["traceback"] for each in failed.values())
    measured = {m["name"] for m in written(run.folder, "evaluation.json")["metrics"]}
    assert "-elbo" in measured and "ssim" in measured and "psnr" not in measured
    assert written(run.folder, "config.json")["stages"] == {}
    assert not (run.folder / "traversals.png").exists() and (run.folder / "reconstructions.png").exists()
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert all(f"<li>{what}: RuntimeError: a fault</li>" in page for what in failed)

    from reparam.pretrained.image_model import load
    from reparam.runs.train import resume

    assert load(run.folder, device="cpu").sample(2).shape == (2, 8, 8)
    again = resume(run.folder)
    assert again.facts["failures"] == [] and (run.folder / "traversals.png").exists()
    assert written(run.folder, "config.json")["stages"] == {"fitted_prior": "mixture(2)"}
    assert "failed after training" not in (run.folder / "report.html").read_text(encoding="utf-8")


def test_a_prior_that_is_not_finite_is_left_out(data, tmp_path, monkeypatch, failures_are_listed):
    from reparam.trainer.stages.prior import PriorStage

    fit = PriorStage.fit

    def spoilt(*arguments):
        fitted = fit(*arguments)
        next(iter(fitted.module.state_dict().values())).fill_(math.nan)
        return fitted

    monkeypatch.setattr(PriorStage, "fit", spoilt)
    run = train(data, tmp_path / "run")
    assert run.status == "finished" and written(run.folder, "config.json")["stages"] == {}
    assert [each["what"] for each in run.facts["failures"]] == ["fitting the prior"]


@pytest.mark.parametrize("where, what, gone", [
    ("calibrate_likelihood", "estimating the likelihood's scale", None),
    ("latent_axes", "sorting the latents by their information", "traversals.png"),
    ("evaluate_arrays", "measuring the model", None), ("diagnose", "judging the model", None),
    ("report_html", "writing the report", "report.html"), ("model_card", "writing the model card", "README.md"),
    ("curves", "drawing curves", "curves.png")])
def test_the_model_stays_whatever_fails(data, tmp_path, monkeypatch, failures_are_listed, where, what, gone):
    run = train(data, tmp_path / "run", fitted_prior="none")
    monkeypatch.setattr(f"reparam.runs.finish.{where}", broken)

    from reparam.pretrained.image_model import load
    from reparam.runs.train import resume

    run = resume(run.folder, steps=6)
    assert run.status == "finished" and what in [each["what"] for each in written(run.folder)["facts"]["failures"]]
    assert gone is None or not (run.folder / gone).exists()  # rather than one of the model as it was before
    assert load(run.folder, device="cpu").reconstruct(np.zeros((1, 8, 8), np.uint8)).shape == (1, 8, 8)
    assert written(run.folder, "evaluation.json")["verdict"] == "not judged" or where != "diagnose"


def test_an_interruption_passes(data, tmp_path, monkeypatch, failures_are_listed):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("reparam.runs.finish.report_html", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run")
    assert written(tmp_path / "run")["status"] == "training"


def test_tests_see_what_fails():
    with pytest.raises(RuntimeError), Attempts()("anything"):
        broken()


# Figures that are no numbers


def test_a_figure_that_is_not_finite_is_left_out(small, images, monkeypatch):
    from reparam.metrics import measure, quick
    from reparam.metrics.evaluation import Evaluation

    given = [Figure("ok", 1.0, "", 3, (0.0, math.inf), detail=(1.0, math.nan)), Figure("no", math.nan, "", 3)]
    monkeypatch.setitem(registry.metric.parts, "psnr", lambda evaluation: given)
    evaluation = Evaluation(Sampler(small().eval()), images(3, (1, 4, 4)))
    assert "no" not in [f.name for f in measure(evaluation, quick((1, 4, 4)), skip_unavailable=True)]
    with pytest.raises(Unavailable, match="no of these images is not finite"):
        measure(evaluation, "psnr")
    given.pop()
    assert measure(evaluation, "psnr") == [Figure("ok", 1.0, "", 3)]
