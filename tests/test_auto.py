"""What `--preset auto` chooses, and that a run keeps it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

import reparam
from reparam.parts.presets import PRESETS
from reparam.parts.profiles import ADJUSTMENTS, COMPOSED, RULES, Situation, choose
from reparam.parts.recipe import Recipe
from reparam.progress import Silent
from reparam.trainer.assembly import Assembly

CIFAR = Situation(images=50_000, side=32, channels=3, minutes=5.0)
MNIST = replace(CIFAR, side=28, channels=1)
SITUATIONS = [replace(CIFAR, images=n, side=side, channels=c, minutes=minutes, device=device, memory=memory,
                      mirrored=c == 3)
              for n in (16, 300, 10_000) for side in (8, 28, 32, 64) for c in (1, 2, 3, 4, 5)
              for minutes, device, memory in ((None, "cpu", 2), (0.5, "cpu", 2), (5, "cpu", 8), (60, "cpu", 8),
                                              (5, "gpu", 100))]


def said(situation: Situation) -> str:
    return choose(situation).preset


def test_every_rule_and_adjustment_is_for_some_situation():
    first = {next(rule for rule in RULES if rule.fits(s)).preset for s in SITUATIONS}
    assert first == {rule.preset for rule in RULES}
    assert all(any(a.fits(s) for s in SITUATIONS) and not all(a.fits(s) for s in SITUATIONS) for a in ADJUSTMENTS)


def test_what_is_chosen_can_be_built():
    assert {rule.preset for rule in RULES} <= PRESETS.keys()
    chosen = {(choose(s).recipe, s.side, s.channels) for s in SITUATIONS if s.channels in (1, 5)}
    for recipe, side, channels in chosen:
        small = {"steps": 1} if recipe.minutes is None else {}
        assembly = Assembly(recipe.but(**small), (channels, side, side))
        assert assembly.split.model > 0


def test_time_images_and_machine_decide():
    assert said(CIFAR) == said(replace(CIFAR, channels=4, minutes=60)) == "default"
    assert said(MNIST) == "terse" and said(replace(MNIST, minutes=2)) == said(replace(MNIST, images=1000)) == "default"
    assert said(replace(CIFAR, minutes=30)) == "latent_flow"
    gpu = replace(CIFAR, device="gpu", memory=80.0)
    assert said(gpu) == "generate32" and said(replace(gpu, side=64)) == "generate64"
    assert said(replace(gpu, memory=2)) == said(replace(gpu, minutes=0.5)) == said(replace(gpu, images=100)) == "default"


def test_what_is_named_is_left_alone():
    assert said(replace(MNIST, minutes=None)) == "default"
    assert {said(replace(MNIST, named=frozenset({name}))) for name in COMPOSED} == {"default"}
    assert said(replace(MNIST, named=frozenset({"seed", "minutes"}))) == "terse"
    for s in SITUATIONS:
        assert not choose(replace(s, named=frozenset(Recipe().to_dict()))).changes


def test_the_reason_is_a_sentence_for_people():
    assert choose(replace(CIFAR, images=10_000, side=64, device="gpu", memory=80, labelled=True)).reason == (
        "10,000 colour images of 64 pixels and labels, one GPU, 5 minutes: generate64 (a GPU has time for a prior over a "
        "map of codes)")


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_run_says_what_was_chosen_and_keeps_it(tmp_path, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    heard = Heard()
    run = reparam.train(x, out=tmp_path / "run", steps=2, threads=1, batch_size=8, latent="flat(3)", report=heard)
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    assert stored["facts"]["auto"]["reason"] in heard.lines
    assert stored["facts"]["auto"]["preset"] == "default" and run.recipe.latent == "flat(3)" and run.recipe.batch_size == 8
    assert run.recipe.but(**stored["facts"]["asked"]) == Recipe(steps=2, threads=1, batch_size=8, latent="flat(3)")
    monkeypatch.setattr("reparam.runs.settling.choose", None)  # choosing again would be an error
    again = reparam.resume(tmp_path / "run", data=x, steps=3)
    assert again.facts["auto"] == stored["facts"]["auto"] and again.recipe == run.recipe.but(steps=3)
    plain = reparam.train(x, preset="default", out=tmp_path / "plain", steps=1, threads=1, batch_size=8, fitted_prior="none")
    assert "auto" not in plain.facts and plain.recipe == Recipe(steps=1, threads=1, batch_size=8, fitted_prior="none")


def test_restarted_jobs_know_their_run(tmp_path, monkeypatch):
    """What was asked for is compared, not what was chosen."""
    from reparam.runs.restarts import begun_before

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    run = reparam.train(x, out="run", steps=1, threads=1, fitted_prior="none")
    asked = replace(run, recipe=Recipe(steps=1, threads=1, fitted_prior="none"))
    assert begun_before(asked, "run", "array") is not None
