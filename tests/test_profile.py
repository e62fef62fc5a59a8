"""Where the time of training goes, as `--profile` tells it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import forever, training

from reparam.objectives.objective import Term, parse_objective
from reparam.objectives.terms import nll
from reparam.parts.presets import find
from reparam.parts.recipe import Recipe
from reparam.progress import Plain
from reparam.runs.train import train
from reparam.trainer import profile as timing
from reparam.trainer.assembly import Assembly
from reparam.trainer.profile import BETWEEN, FEWEST, Profile, machine_rates, operations

SHAPE = (1, 4, 4)
STEADY = {"schedule": "constant", "optimizer": "adamw(lr=0.01)"}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.02)


def spent(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def slowly(batches):
    for batch in batches:
        spent(0.004)
        yield batch


def test_phases_are_where_the_time_goes(small, images, tmp_path):
    def of(trace, context):
        spent(0.008)
        return trace.log_px.mean(0) * 0.0

    profile = Profile(tmp_path / "trace.json")
    states = training(small(), nll + Term("slow", of), slowly(forever(images(6, SHAPE))), steps=FEWEST + 5,
                      phase=profile.phase, **STEADY)
    seen = []
    for state in profile.follow(states, 6):
        seen.append(state.step)
        spent(0.002)
    assert seen == [*range(1, FEWEST + 6)], "every state is passed on"
    phases = profile.phases
    assert [*phases] == ["data", "forward", "backward", "gradients", "optimizer", "waiting for losses and norms", "average",
                         "the rest of a step", BETWEEN]
    assert 4 <= phases["data"] < phases["forward"] and phases["forward"] >= 8 and phases[BETWEEN] >= 2
    assert profile.step > 14 and profile.images == pytest.approx(6000 / profile.step)
    names = {event.get("name") for event in json.loads(profile.trace.read_text())["traceEvents"]}
    assert {"forward", "optimizer"} <= names


def test_a_critic_is_told_apart_from_the_forward_pass(tmp_path):
    rng = np.random.default_rng(0)
    assembly = Assembly(find("dcgan").recipe.but(steps=FEWEST, batch_size=4), (1, 16, 16))
    stream, profile = assembly.stream(rng.integers(0, 256, (16, 16, 16, 1), dtype=np.uint8)), Profile(tmp_path / "t.json")
    for _ in profile.follow(assembly.training(stream, assembly.budget(stream), phase=profile.phase), 4):
        pass
    assert profile.phases["critic"] > 0 and profile.phases["forward"] > 0


def test_arithmetic_is_counted(images):
    """A linear map of n numbers to m takes 2nm operations an image, and twice that on the way back."""
    recipe = Recipe(encoder="mlp((64,))", decoder="mlp((64,))", latent="flat(4)", steps=1, batch_size=8, optimizer="adamw")
    assembly = Assembly(recipe, (1, 16, 16))
    stream = assembly.stream((images(16, (16, 16, 1)).numpy() * 255).astype(np.uint8))
    weights = sum(p.numel() for p in assembly.model.parameters() if p.dim() == 2)
    work = operations(assembly.training(stream, assembly.budget(stream)))
    assert 8 * 2 * weights * 2 < work * 1e9 <= 8 * 2 * weights * 3
    assert Profile(Path(), step=20.0, work=3.0, rates={"matrix product": 300.0}).shares == {"matrix product": 0.5}


TINY = {"encoder": "mlp((8,))", "decoder": "mlp((8,))", "latent": "flat(2)", "report": Plain(), "profile": True}


def test_a_run_tells_its_profile(tmp_path, capsys, images):
    folder = tmp_path / "run"
    train(images(40, SHAPE).numpy(), steps=FEWEST + 3, out=folder, **TINY)
    said = capsys.readouterr().err
    assert "forward" in said and "a step, left alone" in said and "GFLOP/s of a convolution in float32" in said
    assert (folder / "trace.json").stat().st_size > 1000


def test_a_profile_leaves_the_weights(small, images, tmp_path):
    x, ends = images(6, SHAPE), []
    for with_profile in (False, True):
        torch.manual_seed(0)
        model, profile = small(), Profile(tmp_path / "t.json")
        how = {"phase": profile.phase} if with_profile else {}
        states = training(model, parse_objective("nll + kl"), forever(x), steps=FEWEST, **how, **STEADY)
        for _ in profile.follow(states, 6) if with_profile else states:
            pass
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)


def test_too_few_steps_are_said(tmp_path, capsys, images):
    train(images(40, SHAPE).numpy(), steps=30, out=tmp_path / "run", **TINY)
    assert f"too few steps for a profile: it takes {FEWEST}" in capsys.readouterr().err


def test_rates_are_of_the_precision():
    rates = machine_rates("float32")
    assert set(rates) == {"matrix product", "convolution"} and min(rates.values()) > 0.1
