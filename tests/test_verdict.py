"""The verdict says the right thing first: on models trained here, on figures recorded of trained ones, on made-up ones.

Which is which: `test_a_model_trained_here` trains, finishes and judges; `test_figures_recorded_from_a_trained_model` replays
through `diagnose` what `benchmarks/verdicts.py` recorded of the models that it trained, without training them again.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from reparam.data.augment import parse_augmentation
from reparam.data.distinct import distinct_images
from reparam.doctor.case import History
from reparam.doctor.diagnosis import diagnose, problems_of
from reparam.metrics.figures import Figure
from reparam.objectives.adversaries.penalties import parse_penalties
from reparam.objectives.objective import parse_objective
from reparam.parts.call import parse_call
from reparam.parts.presets import PRESETS
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES


def _benchmark():
    path = Path(__file__).parents[1] / "benchmarks" / "verdicts.py"
    spec = importlib.util.spec_from_file_location("verdicts", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["verdicts"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


verdicts = _benchmark()
TRAINED_HERE = ("20 steps", "lr 10", "beta 30", "no KL", "sigma 1e-3", "near copies", "two codes", "dead decoder, no KL",
                "test shifted", "healthy, 300 digits, seed 0")


def right(cell, verdict):
    assert re.search(cell.right, verdict.title), verdict
    assert not cell.remark or any(re.match(cell.remark, f.title) for f in verdict.remarks), verdict.remarks


@pytest.mark.parametrize("name", TRAINED_HERE)
def test_a_model_trained_here(name, tmp_path, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))
    recorded = verdicts.record(name)
    right(verdicts.CELLS[name], verdicts.judge(recorded))
    assert recorded["verdict"] == verdicts.judge(recorded).title  # what the run itself wrote


@pytest.mark.parametrize("name", verdicts.CELLS)
def test_figures_recorded_from_a_trained_model(name):
    right(verdicts.CELLS[name], verdicts.judge(verdicts.recorded(name)))


def test_healthy_models_have_findings_as_seldom_as_the_page_says():
    rates = verdicts.false_alarms()
    assert rates and all(count == 0 for count, _ in rates.values()), rates
    healthy = [name for name in verdicts.CELLS if name.startswith("healthy, ")]
    assert all(not verdicts.judge(verdicts.recorded(name)).problems for name in healthy)
    page = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert all(line in page for line in verdicts.table()), "python benchmarks/verdicts.py --table"


# Advice

VALUE = re.compile(r'--(?!minutes|epochs|steps)([a-z-]+) (?:"([^"]+)"|(\w+))')


def given(text, recipe):
    """The (field, value) pairs that an advice names."""
    return [(field.replace("-", "_"), quoted or plain) for field, quoted, plain in VALUE.findall(text)]


def sick(recipe):
    """Verdicts on a model of this recipe with every problem that figures can show."""
    low = [Figure("-elbo", 50.0, "nats", 100, (49.0, 51.0)), Figure("kl", 0.01, "nats", 100),
           Figure("psnr", 11.1, "dB", 100, (10.9, 11.3)), Figure("psnr of the average image", 11.0, "dB", 100, (10.8, 11.2)),
           Figure("active_units", 0, "of 32 latents", 100, total=32), Figure("prior_auc", 0.99, "AUC", 1000),
           Figure("codebook_perplexity", 1.5, "codes of 256", 100, total=256),
           Figure("duplicates", 0.9, "of the samples", 1000),
           Figure("precision", 0.01, "of the samples", 1000), Figure("coverage", 0.01, "of the real images", 1000)]
    past = History(2000, 0, 0, (100, 60, 50, 70, 80, 90), 200_000, 1000, 20, 100, 0.5, True)
    return [diagnose(low, past, recipe), diagnose(low, History(20, 0, 0, (), 2000), recipe),
            diagnose(low, History(2000, 400, 1), recipe)]


@pytest.mark.parametrize("name", PRESETS)
def test_no_advice_repeats_the_recipe_or_does_not_suit_the_model(name):
    recipe = PRESETS[name].recipe
    found = [f for verdict in sick(recipe) for f in (*verdict.problems, *verdict.remarks)]
    assert found and all(f.evidence and f.advice for f in found)
    for finding in found:
        for field, value in given(finding.advice, recipe):
            if field not in ("prior", "preset") or "fit-prior" not in finding.advice:
                assert str(getattr(recipe, field, "")) != value, (finding.advice, recipe)
    advice = " ".join(f.advice for f in found)
    quantized = parse_call(recipe.posterior).name in ("vq", "rvq", "fsq", "lfq")
    assert not quantized or ("*kl" not in advice and "free_bits" not in advice and "flow_matching" not in advice)
    assert recipe.likelihood != "gaussian(sigma='optimal')" or "sigma='optimal'" not in advice


@pytest.mark.parametrize("changes", [
    {"likelihood": "gaussian(0.1)"}, {"likelihood": "laplace(0.1)"}, {"likelihood": "student(4.0, 0.1)"},
    {"objective": "nll + 30*kl"}, {"objective": "nll"}, {"optimizer": "adamw(lr=0.5)"},
    {"posterior": "vq(256, revive=0.0)", "objective": "nll + kl + commitment"}, {"fitted_prior": "flow_matching"},
    {"prior": "flow"}, {"encoder": "none", "adversary": "images", "objective": "adversarial"}], ids=str)
def test_advice_can_be_typed(changes):
    """Every part that an advice names is one that the parser takes, for a field of the recipe."""
    texts = [f.advice for verdict in sick(Recipe().but(**changes)) for f in verdict.problems]
    named = [pair for text in texts for pair in given(text, None)]
    assert named
    for field, value in named:
        if field == "objective":
            parse_objective(value)
        elif field == "penalty":
            parse_penalties(value)
        elif "augment" in field:
            parse_augmentation(value, for_critic=field.startswith("critic"))
        elif field == "preset":
            assert value in PRESETS
        elif field in ROLES:
            ROLES[field].check(parse_call(value))
        else:
            Recipe().but(**{field: value})


def test_the_fitted_prior_that_a_model_has_is_not_advised():
    figures = [Figure("prior_auc", 0.99, "AUC", 1000), Figure("fitted_prior_auc", 0.98, "AUC", 1000)]
    for prior, advised in (("mixture(50)", True), ("flow_matching", False)):
        assert ("fit-prior" in problems_of(figures, Recipe(fitted_prior=prior))[0].advice) == advised


# Single checks, on made-up figures


def figures(active=20, latents=32, kl=15.0, psnr=20.0, average=11.0, auc=0.6, fitted=None, n=100, half=0.2, ssim=0.9,
            without=(), more=()):
    listed = [Figure("kl", kl, "nats", n), Figure("psnr", psnr, "dB", n, (psnr - half, psnr + half)),
              Figure("psnr of the average image", average, "dB", n, (average - half, average + half)),
              Figure("ssim", ssim, "SSIM", n),
              Figure("active_units", active, f"of {latents} latents", n, total=latents),
              Figure("prior_auc", auc, "AUC", n), *more]
    listed += [] if fitted is None else [Figure("fitted_prior_auc", fitted, "AUC", n)]
    return [f for f in listed if f.name not in without]


def history(held_out=(100.0, 60.0, 50.0, 48.0, 47.5, 47.4, 47.4, 47.3), steps=1000, skipped=0, rollbacks=0, **more):
    return History(steps, skipped, rollbacks, held_out, **({"images_seen": 100 * (steps or 1000)} | more))


def codes(perplexity, *detail):
    figure = Figure("codebook_perplexity", perplexity, "codes of 256", 100, detail=detail or None, total=256)
    return {"more": [figure], "auc": 0.5}


COLLAPSE = ["posterior collapse"]


@pytest.mark.parametrize(("measured", "past", "problems"), [
    ({}, {}, []),
    ({"active": 1, "latents": 2}, {}, []),
    ({"active": 0, "kl": 0.01, "psnr": 11.0}, {}, COLLAPSE),
    ({"active": 0}, {}, COLLAPSE),
    ({"active": 3, "kl": 0.05}, {}, COLLAPSE),
    ({"active": 3, "kl": 0.4, "psnr": 11.4}, {}, []),  # little, and for sure
    ({"active": 3, "psnr": 11.2}, {}, COLLAPSE),  # within its interval
    ({"active": 3, "psnr": 11.2, "half": 0.05}, {}, []),
    ({"active": 3, "psnr": 11.8, "half": 2.0, "n": 20}, {}, []),  # few images tell nothing of a gain like that
    ({"active": 0, "psnr": 100, "average": 100, "n": 1}, {}, []),  # nor does one of anything
    ({"active": 0, "without": ("psnr",)}, {}, COLLAPSE),
    ({"psnr": 10.8, "half": 0.05, "more": [Figure("psnr of posterior means", 11.2, "dB", 100, (11.15, 11.25))]}, {}, []),
    (codes(3.9), {}, ["codebook collapse"]), (codes(4.1), {}, []), (codes(60.0, 117.0, 3.0), {}, ["codebook collapse"]),
    ({"auc": 0.95}, {}, ["prior mismatch"]),
    ({"auc": 0.95, "fitted": 0.6}, {}, []),  # what samples start from is what counts
    ({"auc": 0.6, "fitted": 0.95}, {}, ["prior mismatch"]),
    ({"without": ("prior_auc",)}, {}, []),
    ({}, {"held_out": (100, 60, 50, 55, 60, 70)}, ["overfitted"]),
    ({}, {"held_out": (100, 60, 50, 54, 53, 52)}, []),  # within a tenth of what was gained
    ({}, {"held_out": (10, 9.5, 9.4, 9.6, 9.9, 10.3)}, []),  # within a nat
    ({}, {"held_out": (-100, -150, -200, -190, -180, -150)}, ["overfitted"]),
    ({}, {"held_out": (100, 50, 99)}, []),  # too few to say
    ({}, {"held_out": ()}, []),
    ({"ssim": 0.5}, {"held_out": (100, 90, 80, 70, 60, 50)}, ["undertrained"]),
    ({"ssim": 0.95}, {"held_out": (100, 90, 80, 70, 60, 50)}, []),
    ({}, {"steps": 99}, ["undertrained"]), ({}, {"steps": 100}, []),
    ({}, {"images_seen": 4999}, ["undertrained"]),
    ({"psnr": 9.0}, {}, ["undertrained"]),
    ({"active": 0, "auc": 0.99, "psnr": 11.0}, {"steps": 20}, ["undertrained"]),  # the rest follows from it
    ({}, {"skipped": 50}, ["unstable"]), ({}, {"skipped": 49}, []), ({}, {"rollbacks": 1}, ["unstable"]),
    ({"active": 0}, {"skipped": 50}, ["unstable"]),
    ({}, {"steps": None, "held_out": (), "images_seen": None}, []),
    ({}, {"trained_on": 0.1}, ["tested on training images"]), ({}, {"trained_on": 0.09}, []),
    ({}, {"training": 900, "distinct": 30}, ["few distinct images"]), ({}, {"training": 900}, []),
    ({"auc": 0.95}, {"held_out": (100, 60, 50, 55, 60, 70), "skipped": 300}, ["unstable", "overfitted", "prior mismatch"]),
], ids=str)
def test_problems_are_told_by_their_figures(measured, past, problems):
    verdict = diagnose(figures(**measured), history(**past), Recipe())
    assert [f.title for f in verdict.problems] == problems
    assert verdict.title == (problems[0] if problems else "healthy") == verdict.to_dict()["verdict"]
    assert all(f.evidence and f.advice for f in (*verdict.problems, *verdict.remarks))
    json.dumps(verdict.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("likelihood", "psnr", "problem"), [
    ("gaussian(0.1)", 20, False), ("gaussian(0.03)", 20, True), ("gaussian(0.034)", 20, False), ("gaussian(0.31)", 20, True),
    ("gaussian(0.29)", 20, False), ("laplace(0.0707)", 20, False), ("laplace(0.22)", 20, True), ("laplace(0.2)", 20, False),
    ("gaussian(sigma='optimal')", 20, False), ("gaussian('learned')", 20, False), ("bernoulli", 20, False)])
def test_a_fixed_scale_is_compared_with_the_residual(likelihood, psnr, problem):
    """A PSNR of 20 dB is a root mean square error of 0.1; the deviation of a Laplace density is √2 times its scale."""
    verdict = diagnose(figures(psnr=psnr), history(), Recipe(likelihood=likelihood))
    assert [f.title for f in verdict.problems] == ["likelihood scale"] * problem


@pytest.mark.parametrize(("lr", "steps", "problem"), [
    (2e-3, 100, False), (1e-5, 1000, True), (1e-5, 10_000, False)])
def test_a_learning_rate_too_low_for_its_steps_is_undertraining(lr, steps, problem):
    verdict = diagnose(figures(), history(steps=steps), Recipe(optimizer=f"adamw(lr={lr})"))
    assert [f.title for f in verdict.problems] == ["undertrained"] * problem
    assert not problem or "raise the learning rate" in verdict.problems[0].advice


@pytest.mark.parametrize(("objective", "problem"), [
    ("nll + kl", True), ("nll + 4*kl", True), ("nll", False), ("nll + 0.01*kl", False), ("nll + linear(0, 1, 0.3)*kl", True),
    ("iw_bound(8)", True)])
def test_a_bound_that_training_does_not_lower_tells_nothing_of_overfitting(objective, problem):
    verdict = diagnose(figures(), history((100, 60, 50, 55, 60, 70)), Recipe(objective=objective))
    assert [f.title for f in verdict.problems] == ["overfitted"] * problem


@pytest.mark.parametrize(("test", "on_test", "problem"), [
    (48.0, True, False), (55.0, True, False), (200.0, True, True), (200.0, False, False)])
def test_test_images_are_compared_with_held_out_ones(test, on_test, problem):
    elbo = Figure("-elbo", test, "nats", 100, (test - 3, test + 3))
    verdict = diagnose(figures(more=[elbo]), history(on_test=on_test, watched=100), Recipe())
    assert [f.title for f in verdict.problems] == ["test images unlike the training images"] * problem


def test_nothing_measured_is_not_healthy():
    assert diagnose([], history(), Recipe()).title == "not judged" and problems_of([], Recipe()) == ()


@pytest.mark.parametrize(("measured", "past", "remarks"), [
    ({}, {}, []),
    ({"active": 15}, {}, ["more latents than needed"]), ({"active": 16}, {}, []),
    ({}, {"held_out": (100, 60, 56, 54, 52, 50)}, ["still improving"]),
    ({}, {"held_out": (100, 51, 50.5, 50.3, 50.2, 50.1)}, []),
    ({}, {"held_out": (100, 70, 50)}, []),
    ({"ssim": 0.5}, {"steps": 500}, ["early: pictures are still blurred"]),
    ({"ssim": 0.5}, {"steps": 5000}, []),  # nothing more to come: it is how these images are
    ({"ssim": 0.5}, {"steps": 5000, "held_out": (100, 60, 52, 52, 51, 50)}, ["early: pictures are still blurred"]),
], ids=str)
def test_remarks_do_not_make_a_model_ill(measured, past, remarks):
    verdict = diagnose(figures(**measured), history(**past), Recipe())
    assert verdict.title == "healthy" and [f.title for f in verdict.remarks] == remarks


def test_evidence_holds_the_numbers():
    def first(measured=None, past=None, **recipe):
        return diagnose(measured or figures(), past or history(), Recipe(**recipe)).problems[0]

    collapsed = first(figures(active=0, kl=0.04, psnr=11.2)).evidence
    assert "0 of 32 units" in collapsed and "0.04 nats" in collapsed
    assert "0.24 ± 0.28 dB" in collapsed  # 10 log₁₀ 100/99 more than 0.2
    assert "0.95" in first(figures(auc=0.95)).evidence
    overfitted = first(past=history((100, 60, 50, 55, 60, 70)))
    assert "50.0 nats, after 40% of training, and ended at 70.0" in overfitted.evidence
    assert "train 0.4 times as long" in overfitted.advice
    unstable = first(past=history(skipped=80, rollbacks=2)).evidence
    assert "80 of 1,000 steps" in unstable and "2 roll-backs" in unstable
    for end, advice in (({"steps": 20}, "--steps 200"), ({"epochs": 0.5}, "--epochs 5"), ({}, "--minutes 50")):
        assert first(past=history(steps=20), **end).advice == f"train longer, {advice}"
    assert "30 distinct" in first(past=history(training=900, distinct=30)).evidence
    scale = first(likelihood="gaussian(0.001)").evidence
    assert "100 times less than the 0.1" in scale and "1e+04 times too little" in scale
    oversized = diagnose(figures(active=8, latents=64), history(), Recipe()).remarks[0]
    assert "8 of 64 latents are active" in oversized.evidence and "flat(10)" in oversized.advice


@pytest.mark.parametrize(("name", "value", "problem"), [
    ("duplicates", 0.2, True), ("duplicates", 0.19, False), ("coverage", 0.1, True), ("coverage", 0.11, False),
    ("classes missing", 1, True), ("classes missing", 0, False)])
def test_mode_collapse_is_told_by_any_of_its_signs(name, value, problem):
    found = problems_of([Figure(name, float(value), "", 2000)], PRESETS["dcgan"].recipe)
    assert [f.title for f in found] == ["mode collapse"] * problem
    assert all(f.evidence and "vae_gan" in f.advice for f in found)


def test_duplicates_are_judged_by_the_lower_end_of_their_interval():
    """Half the width of (0.04, 0.60) is 0.28, and 0.25 less that is below the 5 % of real images; 0.06 would not be."""
    for low, problem in ((0.04, False), (0.06, True)):
        duplicates = Figure("duplicates", 0.25, "of the samples", 2000, (low, 0.60), null=0.05)
        assert [f.title for f in problems_of([duplicates], Recipe())] == ["mode collapse"] * problem


@pytest.mark.parametrize(("measured", "titles"), [
    ({"coverage": 0.02, "precision": 0.5}, ["mode collapse"]),
    ({"coverage": 0.02, "precision": 0.05}, ["samples far from the images"]), ({"coverage": 0.5, "precision": 0.05}, []),
    ({"classes missing": 2, "accuracy of class_balance's classifier": 0.51}, []),
    ({"coverage": 0.0, "precision": 0.0, "duplicates": 0.9}, ["mode collapse", "samples far from the images"])])
def test_poor_samples_are_no_mode_collapse(measured, titles):
    found = problems_of([Figure(name, float(v), "", 2000) for name, v in measured.items()], Recipe())
    assert [f.title for f in found] == titles


# Copies among images


def copies(distinct, each, noise, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (distinct, 8, 8, 1)).repeat(each, 0) + rng.normal(0, noise, (distinct * each, 8, 8, 1))
    return np.clip(images, 0, 255).astype(np.uint8)[rng.permutation(distinct * each)]


def along_a_line(n, ends=255.0):
    """Images that change along one factor: each has near neighbours, and is no copy."""
    t = np.linspace(0, 2 * np.pi, n)[:, None, None, None]
    return (127 + ends / 2 * np.sin(t + np.linspace(0, 3, 64).reshape(1, 8, 8, 1))).astype(np.uint8)


@pytest.mark.parametrize(("images", "distinct"), [
    (copies(30, 20, 4.0), 30), (copies(12, 5, 0.0), 12), (copies(2, 100, 10.0), 2), (copies(1, 50, 0.5), 1),
    (copies(300, 4, 4.0), None), (copies(400, 1, 0.0), None), (copies(1, 300, 40.0), None), (along_a_line(400), None),
    (np.concatenate([along_a_line(200), 255 - along_a_line(200) // 8]), None), (copies(3, 2, 0.0), None)],
    ids=["30", "exact", "two", "one", "too many to be few", "none", "noise", "one factor", "two lines", "three twice"])
def test_distinct_images_are_counted_among_near_copies(images, distinct):
    assert distinct_images(images, np.arange(len(images))) == distinct
