"""A target rate in place of a weight: what is found, that it goes on exactly, and that it belongs to the run."""

from __future__ import annotations

import copy
import itertools
import json
import math
from statistics import mean

import pytest
import torch
from conftest import forever, last, training
from safetensors.torch import load, save
from sklearn.datasets import load_digits

from reparam.distributions.gaussian import Gaussian
from reparam.errors import UsageError
from reparam.models.build import build_model
from reparam.objectives.adversaries.build import build_adversary
from reparam.objectives.context import Context
from reparam.objectives.objective import Term, parse_objective
from reparam.objectives.terms import kl, nll
from reparam.objectives.weights import BOUNDS, target_rate
from reparam.parts.recipe import Recipe
from reparam.trainer import loop

SHAPE = (1, 4, 4)
STEADY = {"schedule": "constant", "optimizer": "adam(lr=0.01)"}


@pytest.fixture
def batch(images):
    return images(6, SHAPE)


def test_a_step_of_the_weight_by_hand():
    rate = target_rate(8, start=2, speed=0.1)
    assert rate.updated(2.0, 8.0) == 2
    assert rate.updated(2.0, 10.0) == pytest.approx(2 * math.exp(0.1 * 0.25))
    assert rate.updated(2.0, 6.0) == pytest.approx(2 * math.exp(-0.1 * 0.25))
    for far in (16.0, 1e30):
        assert rate.updated(2.0, far) == pytest.approx(2 * math.exp(0.1))
    for far in (0.0, -1e30):
        assert rate.updated(2.0, far) == pytest.approx(2 * math.exp(-0.1))
    low, high = BOUNDS
    assert rate.updated(high, 1e30) == high
    assert rate.updated(low, 0.0) == low
    assert rate.updated(high, 0.0) < high


@pytest.mark.parametrize(("text", "printed"), [
    ("nll + target_rate(30)*kl",) * 2, ("nll + target_rate(30, 1, 0.01)*kl", "nll + target_rate(30)*kl"),
    ("nll + target_rate(nats=2.5, start=4)*kl", "nll + target_rate(2.5, 4)*kl"),
    ("nll + target_rate(30, speed=0.02)*kl", "nll + target_rate(30, 1, 0.02)*kl"),
])
def test_it_prints_as_it_is_written(text, printed):
    assert str(parse_objective(text)) == str(parse_objective(printed)) == printed
    assert str(nll + target_rate(30) * kl) == "nll + target_rate(30)*kl"


@pytest.mark.parametrize(("make", "says"), [
    (lambda: target_rate(0), r"target_rate\(nats=0\): nats must be above 0; got 0\. .* target_rate\(30\)\*kl.*leave it out"),
    (lambda: target_rate(-3), r"target_rate\(nats=-3\): nats must be"),
    (lambda: target_rate(math.inf), "nats must be above 0"), (lambda: target_rate(math.nan), "nats must be above 0"),
    (lambda: target_rate(30, start=0), "start must be from 0.0001 to 10000"),
    (lambda: target_rate(30, start=1e5), "1 does for most"),
    (lambda: target_rate(30, speed=0), "speed must be above 0 and up to 1; got 0. It is the most that log w moves"),
    (lambda: target_rate(30, speed=2), "speed must be"),
    (lambda: parse_objective("nll + target_rate(-1)*kl"), "nats must be above 0"),
    (lambda: parse_objective("nll + target_rate*kl"), "Write it as target_rate"),
])
def test_senseless_targets_are_refused_in_words(make, says):
    with pytest.raises(UsageError, match=says):
        make()


def test_an_objective_holds_no_weight_that_was_found(small, batch):
    """Two runs on one objective start alike, and outside of training it weighs as it starts."""
    objective = parse_objective("nll + target_rate(3, 2)*kl + linear(0, 1)*free_bits(0.1)")
    ends = []
    for _ in range(2):
        torch.manual_seed(1)
        states = training(small(), objective, forever(batch), steps=20, **STEADY)
        ends.append([dict(s.weights) for s in states])
    assert ends[0] == ends[1]
    assert list(ends[0][0]) == ["kl"]
    assert ends[0][-1]["kl"] != ends[0][0]["kl"] != 2
    assert objective.weights(0.5) == [1, 2, 0.5]
    assert objective.weights(0.5, {"kl": 7.0}) == [1, 7, 0.5]
    trace = small()(batch)
    parts = objective.parts(trace)
    torch.testing.assert_close(objective(trace, Context(torch.tensor(0.5))), parts[0] + 2 * parts[1] + 0.5 * parts[2])


@pytest.mark.parametrize(("target", "start"), [(9, 20.0), (9, 0.05), (18, 1.0)])
def test_digits_come_to_their_rate(target, start):
    """From either side, to rates below and above the plain bound's 13 nats, in an annealed run as a recipe makes it."""
    x = torch.from_numpy(load_digits().images).float()[:, None] / 16
    torch.manual_seed(0)
    recipe = Recipe(encoder="mlp(hidden=(64,))", decoder="mlp(hidden=(64,))", latent="flat(8)")
    shuffled = torch.Generator().manual_seed(0)
    batches = (x[torch.randint(len(x), (128,), generator=shuffled)] for _ in itertools.count())
    rates = []
    for state in training(build_model(recipe, (1, 8, 8)), parse_objective(f"nll + target_rate({target}, {start}, 0.03)*kl"),
                          batches, steps=800, optimizer="adamw(lr=4e-3)"):
        rates.append(state.parts["kl"])
    assert mean(rates[-100:]) == pytest.approx(target, rel=0.05)
    with torch.no_grad():
        averaged = kl(state.ema.eval()(x)).mean().item()
    assert averaged == pytest.approx(target, rel=0.05)
    assert (state.weights["kl"] > 1) == (target < 13)


def test_every_step_moves_the_weight_by_its_own_mean(small, batch):
    """Also over parts of a batch: what moves the weight is what the state says of the term."""
    objective = parse_objective("nll + target_rate(3)*kl")
    for options in ({}, {"accumulate": 3}):
        weights, used = dict(objective.initial_weights), 1.0
        torch.manual_seed(2)
        for state in training(small(), objective, forever(batch), steps=8, **options, **STEADY):
            assert state.loss == pytest.approx(state.parts["nll"] + used * state.parts["kl"])
            weights = {"kl": target_rate(3).updated(weights["kl"], state.parts["kl"])}
            assert state.weights == weights
            used = weights["kl"]
        assert used != 1


def test_the_weight_that_was_found_is_the_one_that_is_used(small, batch):
    """From the same state, a step with a found weight moves the model as a constant weight of that size does."""
    start = small()
    tensors, numbers = next(training(start, parse_objective("nll + target_rate(3)*kl"), forever(batch), steps=4,
                                     **STEADY)).snapshot()
    ends = []
    for text, found in (("target_rate(3)", 7.5), ("7.5", 0.0), ("target_rate(3)", 2.0)):
        state = next(training(copy.deepcopy(start), parse_objective(f"nll + {text}*kl"), forever(batch), steps=4,
                              resume=(tensors, numbers | {"weights": {"kl": found}}), **STEADY))
        ends.append((state.loss, torch.cat([p.detach().flatten() for p in state.model.parameters()])))
    assert ends[0][0] == ends[1][0] != ends[2][0]
    assert torch.equal(ends[0][1], ends[1][1])
    assert not torch.equal(ends[0][1], ends[2][1])


def test_accumulating_finds_the_same_weight(small, images, monkeypatch):
    monkeypatch.setattr(Gaussian, "rsample", lambda self, shape=(): self.loc.expand(*shape, *self.loc.shape))
    start, x, found = small(), images(7, SHAPE), []
    for accumulate in (1, 3):
        states = training(copy.deepcopy(start), parse_objective("nll + target_rate(3)*kl"), forever(x), steps=3,
                          accumulate=accumulate, **STEADY)
        found.append(last(states).weights["kl"])
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_steps_left_out_do_not_move_it(small, batch):
    bad = torch.full_like(batch, math.nan)
    before = {"kl": 1.0}
    batches = [bad if i % 3 == 1 else batch for i in range(12)]
    for i, state in enumerate(training(small(), parse_objective("nll + target_rate(3)*kl"), batches, steps=12, **STEADY)):
        assert ("skipped" in state.event) == (i % 3 == 1) == (state.weights == before)
        before = dict(state.weights)


def test_a_roll_back_takes_the_weight_along(small, batch, monkeypatch):
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 4)
    calls, kept = itertools.count(), {}
    shaky = Term("shaky", lambda trace, _: trace.log_px.mean(0) * (math.nan if 13 <= next(calls) < 18 else 0.0))
    objective = nll + target_rate(3) * kl + shaky
    for state in training(small(), objective, forever(batch), steps=19, **STEADY):
        kept[state.step] = dict(state.weights)
    assert kept[18] == kept[8] != kept[17] == kept[13]
    assert kept[19] != kept[18]


def test_steps_that_only_the_critic_takes_do_not_move_it(small, batch):
    model = small()
    adversary = build_adversary(Recipe(adversary="images", critic="mlp(hidden=(8,))", game="wasserstein(3)"), model, SHAPE)
    moved, before = [], {"kl": 1.0}
    for state in training(model, parse_objective("nll + target_rate(3)*kl + adversarial"), forever(batch), steps=9,
                          adversary=adversary, **STEADY):
        moved.append(state.weights != before)
        before = dict(state.weights)
    assert moved == [True, False, False] * 3


@pytest.mark.parametrize("through_a_file", [False, True], ids=["memory", "file"])
def test_a_resumed_run_finds_the_same_weight(through_a_file, small, images):
    batches = list(images(20 * 6, SHAPE).split(6))
    objective = parse_objective("nll + target_rate(3)*kl")

    def trained(start, seed, **resume):
        torch.manual_seed(seed)
        return training(small(), objective, batches[start:], steps=20, **resume, **STEADY)

    for state in trained(0, 5):
        if state.step == 10:
            saved = state.snapshot()
            kept = dict(state.weights)
    whole = state
    if through_a_file:
        saved = load(save({k: v.contiguous() for k, v in saved[0].items()})), json.loads(json.dumps(saved[1]))
    assert saved[1]["weights"] == kept != whole.weights
    again = last(trained(10, 99, resume=saved))
    assert again.weights == whole.weights
    assert again.loss == whole.loss
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))


def test_a_state_without_weights_resumes(small, batch):
    """As runs of earlier versions left it."""
    tensors, numbers = last(training(small(), parse_objective("nll + kl"), forever(batch), steps=2, **STEADY)).snapshot()
    assert numbers.pop("weights") == {}
    state = next(training(small(), parse_objective("nll + target_rate(3)*kl"), forever(batch), steps=4,
                          resume=(tensors, numbers), **STEADY))
    assert state.step == 3
    assert state.weights["kl"] == target_rate(3).updated(1.0, state.parts["kl"])
