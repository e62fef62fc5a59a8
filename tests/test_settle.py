"""Batch size and learning rate that are found before training begins."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import reparam
from reparam.errors import UsageError
from reparam.objectives.objective import parse_objective
from reparam.parallel import SingleProcess
from reparam.parts.recipe import Recipe
from reparam.runs.folder import Run
from reparam.trainer import batch_size, settle
from reparam.trainer.assembly import Assembly
from reparam.trainer.optim import asks_rate, rate_of, with_rate
from reparam.trainer.rates import find_rate, lowest_at

TINY = {"encoder": "mlp((8,))", "decoder": "mlp((8,))", "latent": "flat(2)", "threads": 1, "precision": "float32"}


@pytest.fixture(scope="module")
def images():
    """Blots of one shape in places of their own, (2000, 8, 8, 1), uint8."""
    rng = np.random.default_rng(0)
    at, grid = rng.uniform(2, 6, (2000, 2)), np.arange(8)
    rows, columns = (np.exp(-((grid - at[:, i, None]) ** 2) / 2) for i in (0, 1))
    return (255 * rows[:, :, None] * columns[:, None, :]).astype(np.uint8)[..., None]


def rate(images, **changes):
    assembly = Assembly(Recipe(**TINY | {"optimizer": "adamw(lr=auto)", "batch_size": 32} | changes), (1, 8, 8))
    return find_rate(assembly, assembly.stream(images), "float32", SingleProcess(torch.device("cpu"))), assembly


def test_calls_with_a_rate():
    assert asks_rate("adamw(lr=auto)") and asks_rate("adamw(auto)") and not asks_rate("adamw") and not asks_rate("lion(0.1)")
    assert with_rate("adamw(auto, betas=(0.5, 0.9))", 0.1) == "adamw(0.1, betas=(0.5, 0.9))"
    assert with_rate("muon", 0.1) == "muon(lr=0.1)"
    assert (rate_of("adamw"), rate_of("adamw(0.1)"), rate_of("adamw(lr=0.2)")) == (2e-3, 0.1, 0.2)


def test_the_lowest_is_no_outlier():
    losses = [(i - 60) ** 2 / 100 for i in range(120)]
    losses[30], losses[10], losses[90] = -1e6, math.nan, math.inf
    assert abs(lowest_at(losses) - 60) <= 2
    assert lowest_at([]) == 0 and lowest_at([math.nan] * 20) == 0


def test_the_same_recipe_finds_the_same_rate_and_leaves_the_model_alone(images):
    torch.manual_seed(3)
    numbers = torch.get_rng_state()
    found, assembly = rate(images)
    fresh = Assembly(assembly.recipe, (1, 8, 8)).model.state_dict()
    assert all(torch.equal(v, fresh[k]) for k, v in assembly.model.state_dict().items())
    torch.set_rng_state(numbers)
    assert rate(images)[0] == found
    assert 2e-3 <= found <= 0.1


def test_rates_are_found_for_what_training_ends_with():
    objective = parse_objective("nll + linear(0, 4, 0.5)*kl + late(1, 0.5)*adversarial + target_rate(30, 2)*mi")
    assert str(objective.settled()) == "nll + 4*kl + 2*mi"


def test_what_has_no_rate_to_find_is_refused(images):
    with pytest.raises(UsageError, match="tells nothing of a rate"):
        Assembly(reparam.Recipe(encoder="none", objective="adversarial", adversary="images", likelihood="implicit",
                                optimizer="adamw(lr=auto)"), (1, 8, 8)).check()
    with pytest.raises(UsageError, match="give --critic-optimizer a number"):
        Assembly(Recipe(critic_optimizer="adam(lr=auto)"), (1, 8, 8)).check()
    with pytest.raises(UsageError, match="leave accumulate at 1"):
        Recipe(batch_size="auto", accumulate=2)
    with pytest.raises(UsageError, match="give a number here"):
        Assembly(Recipe(**TINY, batch_size="auto"), (1, 8, 8)).stream(images)


def settled(monkeypatch, images, steps_a_second, **changes):
    """What is found where so many steps a second are measured, by batch size."""
    monkeypatch.setattr(batch_size, "speed", lambda threads, precision, assembly, batch, alone: steps_a_second(len(batch)))
    assembly, said = Assembly(Recipe(**TINY | {"batch_size": 0} | changes), (1, 8, 8)), []
    found = settle.settle(assembly, lambda a: a.stream(images), Accelerator(cpu=True), tuned_at=32, say=said.append)
    return assembly.recipe, found["batch_size"], said


def test_the_largest_batch_that_pays(monkeypatch, images):
    """Of steps that take 1 ms and 10 µs an image, 64 of them give 28 % more images a second than 32, and so on."""
    many = np.concatenate([images] * 20)
    recipe, found, said = settled(monkeypatch, many, lambda n: 1 / (1e-3 + 1e-5 * n), optimizer="adamw(lr=1e-3)")
    growth = [(n, 2 * (1e-3 + 1e-5 * n) / (1e-3 + 2e-5 * n)) for n in (32, 64, 128, 256, 512)]
    assert recipe.batch_size == 2 * max(n for n, g in growth if g >= 1.1) == 512
    assert rate_of(recipe.optimizer) == pytest.approx(1e-3 * math.sqrt(512 / 32), rel=1e-2)
    assert rate_of(recipe.critic_optimizer) == pytest.approx(4e-4 * math.sqrt(512 / 32), rel=1e-2)
    assert [*map(int, found["images_per_second"])] == [32, 64, 128, 256, 512, 1024] and len(said) == 1


def test_a_batch_stops_growing_for_lack_of_memory_or_images(monkeypatch, images):
    assert settled(monkeypatch, images, lambda n: 1.0)[0].batch_size == 64  # 16 batches of 128 are more than 2,000 images
    monkeypatch.setattr(batch_size, "_free", lambda device: -1.0)
    recipe, found, _ = settled(monkeypatch, images, lambda n: 1.0)
    assert recipe.batch_size == 32 and "memory" in found["ended"]


def test_a_run_keeps_what_it_found(tmp_path, images, monkeypatch):
    asked = TINY | {"optimizer": "adamw(lr=auto)", "batch_size": "auto", "fitted_prior": "none", "steps": 4}
    run = reparam.train(images[:300], out=tmp_path / "run", **asked)
    written = json.loads((run.folder / "run.json").read_text())
    assert written["recipe"]["batch_size"] == written["facts"]["found"]["batch_size"]["found"] == 32
    assert rate_of(written["recipe"]["optimizer"]) == written["facts"]["found"]["rate"]["found"]
    monkeypatch.setattr("reparam.runs.train.settle_run", None)  # a resumed run looks for nothing
    assert reparam.resume(run.folder, data=images[:300], steps=6).recipe.optimizer == run.recipe.optimizer
    assert Run.read(run.folder).recipe == run.recipe.but(steps=6)


def test_a_run_that_is_killed_while_it_looks_looks_again(tmp_path, images, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    asked = TINY | {"optimizer": "adamw(lr=auto)", "fitted_prior": "none", "steps": 4}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("reparam.trainer.settle.find_rate", killed)
        reparam.train(images[:300], out=tmp_path / "run", **asked)
    assert asks_rate(Run.read(tmp_path / "run").recipe.optimizer)
    resumed = reparam.resume(tmp_path / "run", data=images[:300]).recipe
    whole = reparam.train(images[:300], out=tmp_path / "whole", **asked)
    assert resumed.optimizer == whole.recipe.optimizer and not asks_rate(resumed.optimizer)


def test_the_estimator_finds_them_too(images):
    made = reparam.ImageVAE(**TINY, optimizer="adamw(lr=auto)", batch_size="auto", steps=2, fitted_prior="none")
    made.fit(images[:300])
    assert made.model_.config.recipe.batch_size == 32 and not asks_rate(made.model_.config.recipe.optimizer)
