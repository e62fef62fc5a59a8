"""`reparam plan`: what it reckons from a short trial."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from reparam.cli.app import main
from reparam.data.open import open_images
from reparam.data.options import DataOptions
from reparam.parts.presets import PRESETS
from reparam.parts.profiles import FEW, RULES, of_few, result_of
from reparam.parts.recipe import Recipe
from reparam.runs import planning
from reparam.runs.folder import Run

TRAINED = {"outcome": {"training_seconds": 4.0, "steps": 40}, "parameters": 5}


def reckoned(recipe: Recipe, n: int = 1280) -> planning.TrainingPlan:
    run = Run(Path("run"), "x", DataOptions(), recipe, facts=TRAINED, threads=1, precision="bf16")
    trial = planning._Trial(run, 10.0, 0.5)
    return planning._reckoned("why", "default", recipe, SimpleNamespace(trained_on=n), trial, 11.0)


@pytest.mark.parametrize(("end", "training"), [({}, 300), ({"minutes": 2}, 120), ({"steps": 100}, 10), ({"epochs": 5}, 5),
                                               ({"steps": 10_000, "minutes": 1}, 60), ({"steps": 70, "epochs": 100}, 7)])
def test_time_is_that_of_training_and_of_what_follows(end, training):
    found = reckoned(Recipe(**end))
    assert found.after == 6 and found.seconds == pytest.approx(training + 6)
    assert found.passes == pytest.approx(training / 0.1 * 128 / 1280)
    assert planning.compiler_is_tried(found) == (training >= 100)
    assert not planning.compiler_is_tried(replace(found, recipe=Recipe(compile="off")))


@pytest.mark.parametrize(("minutes", "measurements"), [(0.1, 2), (1, 13), (10, 31)])
def test_held_out_images_are_measured_more_often_in_a_longer_training(minutes, measurements):
    run = Run(Path("run"), "x", DataOptions(), Recipe(minutes=0.1), facts={**TRAINED, "measuring_seconds": 3.0}, threads=1)
    found = planning._reckoned("why", "default", Recipe(minutes=minutes), SimpleNamespace(trained_on=1280),
                               planning._Trial(run, 10.0, 0.5), 11.0)
    assert found.after == pytest.approx(6 - 3 + 1.5 * measurements)


def test_few_images_are_told_what_they_can_give():
    assert of_few(40) in reckoned(Recipe(), 40).result and of_few(FEW) not in reckoned(Recipe(), FEW).result
    assert all(result_of(rule.preset) != PRESETS[rule.preset].about for rule in RULES)  # for those who did not choose
    assert result_of("wae") == PRESETS["wae"].about


def test_flags_say_what_differs():
    usual = PRESETS["vae"].recipe
    changed = usual.but(binarize=False, latent="flat(3)", steps=7)
    assert planning._flags(changed.to_dict(), usual.to_dict()) == ["--latent=flat(3)", "--steps=7", "--no-binarize"]
    assert planning._flags(vars(DataOptions(16, value_range=(0, 4095))), vars(DataOptions())) == [
        "--image-size=16", "--value-range=0,4095"]


def test_nothing_is_left_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.save("x.npy", x)
    assert main(["plan", "x.npy", "--encoder", "mlp((4,))", "--decoder", "mlp((4,))", "--fitted-prior", "none", "--steps",
                 "5", "--threads", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
    assert told["reason"].startswith("35 grey images") and told["recipe"]["steps"] == 5
    assert 0.1 < told["memory"] < 4 and told["after"] <= told["seconds"] < told["probe"] + 60
    assert told["images"] == len(open_images("x.npy").split()[0])


def test_what_training_refuses_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "nowhere"]) == 1 and "no such folder" in capsys.readouterr().err
    assert main(["plan", "digits", "--preset", "defalt"]) == 2 and "did you mean 'default'" in capsys.readouterr().err
    assert main(["plan", "digits", "--preset", "cvae", "--latent", "conditional(4, 5)"]) == 2
    assert "10 classes" in capsys.readouterr().err and not [*tmp_path.iterdir()]
