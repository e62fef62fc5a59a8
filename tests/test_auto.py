"""What `--preset auto` chooses, and that a run keeps it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import reparam
from reparam.data.options import DataOptions
from reparam.data.symmetry import mirrored
from reparam.parts.presets import PRESETS
from reparam.parts.profiles import ADJUSTMENTS, COMPOSED, FEW, RULES, Situation, choose, of_few
from reparam.parts.recipe import Recipe
from reparam.progress import Silent
from reparam.runs.folder import Run, held_in_memory
from reparam.runs.reports.run_page import chosen
from reparam.runs.settling import machine, open_settled, settle_size
from reparam.trainer.assembly import Assembly

CIFAR = Situation(images=50_000, side=32, channels=3, minutes=5.0)
MNIST = replace(CIFAR, side=28, channels=1)
SITUATIONS = [replace(CIFAR, images=n, side=side, channels=c, minutes=minutes, device=device, memory=memory,
                      mirrored=c == 3)
              for n in (16, 300, 10_000) for side in (8, 28, 32, 64, 128, 256, 512) for c in (1, 2, 3, 4, 5)
              for minutes, device, memory in ((None, "cpu", 2), (0.5, "cpu", 2), (5, "cpu", 8), (60, "cpu", 8),
                                              (5, "gpu", 100), (30, "gpu", 100))]


def said(situation: Situation) -> str:
    return choose(situation).preset


def test_every_rule_and_adjustment_is_for_some_situation():
    first = {next(rule for rule in RULES if rule.fits(s)).preset for s in SITUATIONS}
    assert first == {rule.preset for rule in RULES}
    assert all({a.fits(s) for s in SITUATIONS} == {True, False} for a in ADJUSTMENTS)


def test_what_is_chosen_can_be_built():
    assert {rule.preset for rule in RULES} <= PRESETS.keys()
    chosen = {(choose(s).recipe, s.side, s.channels) for s in SITUATIONS if s.channels in (1, 5) and s.images > 16}
    for recipe, side, channels in chosen:
        small = {"steps": 1} if recipe.minutes is None else {}
        assembly = Assembly(recipe.but(**small), (channels, side, side))
        assert assembly.split.model > 0


@pytest.mark.parametrize(("minutes", "memory", "side"), [(8, 80, 256), (8, 24, 256), (8, 14, 128), (8, 8, 64), (5, 80, 64)])
def test_images_keep_their_size_where_a_gpu_has_room_and_time(tmp_path, monkeypatch, minutes, memory, side):
    gpu = {"device": "gpu", "memory": memory}
    monkeypatch.setattr("reparam.runs.settling.machine", lambda device: gpu)
    images = np.random.default_rng(0).integers(0, 256, (20, 256, 256, 3), dtype=np.uint8)
    run = Run(tmp_path / "run", "array", DataOptions(), Recipe(minutes=minutes))
    settle_size(run, "auto", "cpu")
    assert held_in_memory(images, None, run.options).images.shape[1:3] == (side, side)
    for named, kept in ((DataOptions(image_size=32), 32), (DataOptions(largest=16), 16)):
        run.options = named
        settle_size(run, "auto", "cpu")
        assert held_in_memory(images, None, run.options).images.shape[1:3] == (kept, kept), "what was named stays"


@pytest.mark.parametrize(("fields", "options", "side"), [
    ({}, {}, 128), ({"latent": "flat(4)"}, {}, 64), ({"latent": "flat(4)"}, {"largest": 128}, 128),
    ({"latent": "flat(4)"}, {"image_size": 96}, 96)])
def test_images_keep_their_size_only_for_a_preset_that_is_made_for_it(tmp_path, monkeypatch, fields, options, side):
    gpu = {"device": "gpu", "memory": 80}
    monkeypatch.setattr("reparam.runs.settling.machine", lambda device: gpu)
    images = np.random.default_rng(0).integers(0, 256, (2300, 128, 128, 1), dtype=np.uint8)
    usual, opened = DataOptions(**options), []

    def as_told(options):
        opened.append(options)
        return held_in_memory(images, None, options)

    run = Run(tmp_path / "run", "array", usual, Recipe(minutes=8))
    settle_size(run, "auto", "cpu")
    found = open_settled(run, "auto", fields, "cpu", usual, as_told, Silent())
    assert found.images.shape[1:3] == (side, side)
    assert run.facts["auto"]["preset"] == ("default" if fields else "generate128")
    assert (run.options, len(opened)) == ((usual, 2) if fields and not options else (run.options, 1))
    assert run.facts["auto"]["reason"].startswith(f"{found.trained_on:,} grey images of {side} pixels")


@pytest.mark.parametrize(("preset", "options", "side"), [
    ("generate128", {}, 128), ("generate256", {}, 150), ("generate64", {}, 64), ("default", {}, 64),
    ("generate256", {"image_size": 32}, 32), ("generate256", {"largest": 96}, 96)])
def test_a_preset_for_large_images_that_is_named_gets_them(tmp_path, preset, options, side):
    images = np.random.default_rng(0).integers(0, 256, (20, 150, 150, 3), dtype=np.uint8)
    run = Run(tmp_path / "run", "array", DataOptions(**options), Recipe())
    settle_size(run, preset, "cpu")
    found = open_settled(run, preset, {}, "cpu", DataOptions(**options), lambda o: held_in_memory(images, None, o), Silent())
    assert found.images.shape[1:3] == (side, side)


def test_time_images_and_machine_decide():
    assert said(CIFAR) == said(replace(CIFAR, channels=4, minutes=60)) == "default"
    assert said(MNIST) == said(replace(MNIST, minutes=2)) == "terse"
    assert said(replace(MNIST, minutes=1)) == said(replace(MNIST, images=1000)) == "default"
    assert said(replace(CIFAR, minutes=30)) == "latent_flow"
    gpu = replace(CIFAR, device="gpu", memory=80.0)
    assert said(gpu) == "generate32" and said(replace(gpu, side=64)) == "generate64"
    assert [said(replace(gpu, side=side, minutes=8)) for side in (128, 200, 512, 600)] == [
        "generate128", "generate256", "generate512", "default"]
    assert said(replace(gpu, side=128)) == "default"  # too little time
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


@pytest.mark.parametrize(("found", "asked", "device", "told"), [
    ("mps", "auto", "mps", "no CUDA GPU but mps"), ("mps", "cpu", "cpu", "a CPU"), (None, "auto", "cpu", "a CPU")])
def test_the_device_is_called_what_it_is_and_without_cuda_has_the_rules_of_a_cpu(monkeypatch, found, asked, device, told):
    there = None if found is None else torch.device(found)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: there)
    assert machine(asked) == {"device": device}
    choice = choose(replace(MNIST, **machine(asked)))
    assert f", {told}, " in choice.reason and choice.preset == "terse"


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


@pytest.mark.parametrize(("side", "largest"), [(8, 128), (80, 64)])
def test_a_restarted_job_goes_on_where_images_may_keep_their_size(tmp_path, monkeypatch, side, largest):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setattr("reparam.runs.settling.largest_side", lambda *_, **__: 128)
    x = np.random.default_rng(0).integers(0, 256, (40, side, side), np.uint8)
    first = reparam.train(x, out="run", steps=1, threads=1, fitted_prior="none")
    assert first.options.largest == largest
    monkeypatch.setattr("reparam.runs.train.resume", lambda folder, **_: folder)
    again = reparam.train(x, out="run", steps=1, threads=1, fitted_prior="none")  # and not: the folder exists already
    assert str(again) == "run"


def test_the_report_says_what_was_chosen_and_what_few_images_can_give():
    auto = {"auto": {"reason": "40 images <of> 8 pixels: default"}}
    assert chosen(auto | {"training": FEW}) == "<p>Chosen for 40 images &lt;of&gt; 8 pixels: default.</p>"
    assert of_few(40) in chosen(auto | {"training": 40}) and chosen({"training": 40}) == f"<p>{of_few(40)}</p>"
    assert not chosen({"training": FEW})


def test_few_images_get_few_latents_few_passes_and_changes_that_show_little_that_could_not_be():
    few, small = replace(CIFAR, images=FEW - 1), {"latent": "flat(16)", "batch_size": 32}
    shifted = small | {"augment": "crop(2)"}
    assert choose(few).changes == shifted | {"epochs": 100} and not choose(replace(few, images=FEW, mirrored=True)).changes
    assert choose(replace(few, mirrored=True)).changes == small | {"epochs": 100, "augment": "flip + crop(2)"}
    assert choose(replace(few, mirrored=True, side=16)).changes == small | {"epochs": 100, "augment": "flip"}
    assert choose(replace(few, images=40)).changes["epochs"] == 400
    assert choose(replace(few, images=40)).reason.startswith(
        "40 colour images of 32 pixels, a CPU, 5 minutes: default --latent 'flat(16)' --batch-size 32 --augment "
        "'crop(2)' --epochs 400 (")
    for end in ("steps", "epochs", "minutes"):
        assert choose(replace(few, named=frozenset({end}))).changes == shifted  # it means what it says
    assert choose(replace(few, named=frozenset({"latent", "minutes", "augment"}))).changes == {"batch_size": 32}


@pytest.mark.parametrize("n", [20, 100, 400])
def test_lopsided_images_are_not_mirrored(n):
    rng = np.random.default_rng(n)
    x = rng.integers(0, 200, (n, 16, 16, 3), np.uint8)
    either = x.copy()
    x[:, 4:8, 2:5] = 255  # on the left of each
    either[: n // 2, 4:8, 2:5], either[n // 2 :, 4:8, 11:14] = 255, 255  # on the left of some, on the right of others
    assert not mirrored(x) and mirrored(either)
    unlike = [mirrored(rng.integers(0, 256, (n, 16, 16, 1), np.uint8), seed=seed) for seed in range(50)]
    assert 0.55 < np.mean(unlike) < 0.95  # a level of 0.2
