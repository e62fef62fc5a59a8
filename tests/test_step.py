"""The step: parameters as one vector, judged on the device, without waiting for it."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from conftest import forever, last, training
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from reparam.errors import UsageError
from reparam.objectives.objective import Term, parse_objective
from reparam.objectives.terms import nll
from reparam.parts import registry
from reparam.parts.presets import find
from reparam.trainer import loop
from reparam.trainer.assembly import Assembly
from reparam.trainer.flat import LINE, Flat
from reparam.trainer.guard import Guard, Limits
from reparam.trainer.side import Side, judge

ELBO = parse_objective("nll + kl")
SHAPE = (1, 4, 4)
STEADY = {"schedule": "constant", "optimizer": "adamw(lr=0.01)"}


def network():
    conv, linear = nn.Conv2d(3, 5, 3, bias=False), nn.Linear(20, 7, bias=False)
    net = nn.Sequential(conv, nn.BatchNorm2d(5), nn.Flatten(), linear, nn.PReLU())
    return net.to(memory_format=torch.channels_last)


def numbers_of(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()]).clone()


# One vector


def test_parameters_keep_their_values_names_and_layouts():
    net = network()
    before, strides = {k: v.clone() for k, v in net.state_dict().items()}, [p.stride() for p in net.parameters()]
    flat = Flat([*net.parameters()])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [p.stride() for p in net.parameters()] == strides
    assert all(p.data_ptr() % 4 == 0 and (p.data_ptr() - flat.vector.data_ptr()) % (4 * LINE) == 0 for p in net.parameters())
    with torch.no_grad():
        flat.vector.fill_(2.0)
    assert all((p == 2).all() for p in net.parameters())


@pytest.mark.parametrize("optimizer", ["adamw(lr=0.05, weight_decay=0.1)", "adam(lr=0.05)", "adamax(lr=0.05)",
                                       "muon(0.05)", "adan(0.05)"])
def test_steps_are_those_of_the_parameters_one_by_one(optimizer):
    torch.manual_seed(0)
    net, x = network().double(), torch.randn(4, 3, 4, 4).double()  # matrices of other orders of columns round otherwise
    twin = copy.deepcopy(net)
    side = Side(net.parameters(), optimizer, clip=2.0)
    plain = registry.optimizer.make(optimizer, [*twin.parameters()])
    for _ in range(5):
        side.forget()
        net(x).square().sum().backward()
        side.gather()
        side.step(torch.tensor([4.0]), torch.tensor(0.0))
        plain.zero_grad()
        (twin(x).square().sum() / 4).backward()
        plain.step()
    torch.testing.assert_close(numbers_of(net), numbers_of(twin), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "adamax", "lion", "muon"])
def test_a_skipped_step_leaves_parameters_and_moments(optimizer):
    net = network()
    side = Side(net.parameters(), optimizer, clip=2.0)
    for skip in (0.0, 1.0):
        side.forget()
        (net(torch.randn(2, 3, 4, 4)).sum() * (math.nan if skip else 1.0)).backward()
        side.gather()
        before = numbers_of(net), copy.deepcopy(side.optimizer.state_dict()["state"])
        side.step(torch.tensor([1.0]), torch.tensor(skip))
    assert torch.equal(numbers_of(net), before[0])
    after = side.optimizer.state_dict()["state"]
    assert all(torch.equal(v, state[k]) for state, now in zip(before[1].values(), after.values(), strict=True)
               for k, v in now.items())


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_schedule_free_averages_is_what_is_used(ema, small, images):
    state = last(training(small(), ELBO, forever(images(6, SHAPE)), steps=16, ema=ema, schedule="constant",
                          optimizer="schedule_free(0.01)"))
    [flat], averaged = state.side.flats, dict(state.ema.named_parameters())
    own = Flat([averaged[name] for name, _ in state.model.named_parameters()]).vector
    torch.testing.assert_close(own, state.side.optimizer.average(flat.vector))
    assert not torch.allclose(own, flat.vector)


def test_a_critic_has_no_average():
    recipe = find("vae_gan").recipe.but(critic_optimizer="schedule_free")
    with pytest.raises(UsageError, match="a critic is used as it stands"):
        Assembly(recipe, (1, 16, 16)).check()


def test_kernels_are_matrices_of_outputs_by_the_rest():
    net = network()
    flat = Flat([*net.parameters()])
    assert [tuple(m.shape) for m in flat.matrices] == [(5, 27), (5,), (5,), (7, 20), (1,)]
    torch.testing.assert_close(flat.matrices[0].view(5, 3, 3, 3), net[0].weight.permute(0, 2, 3, 1))
    flat.vector.grad = torch.arange(len(flat.vector)).float()
    flat.share()
    with torch.no_grad():
        for m in flat.matrices:
            m.copy_(m.grad)
    for p, view in zip(net.parameters(), flat.views, strict=True):
        assert torch.equal(p, flat.vector.grad.as_strided(view.shape, view.stride(), view.storage_offset()))


def test_a_parameter_without_a_gradient_stays():
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(5))
    side = Side([used, unused], "adamw", clip=2.0)
    used.sum().backward()
    side.gather()
    side.step(torch.tensor([1.0]), torch.tensor(0.0))
    assert (used < 1).all() and (unused == 1).all()


def test_a_model_without_anything_to_train_is_refused(small, images):
    with pytest.raises(UsageError, match="nothing to train"):
        next(training(small().requires_grad_(False), ELBO, forever(images(2, SHAPE)), steps=1))


# The verdict


def test_device_and_host_judge_alike():
    rng, guard = np.random.default_rng(0), Guard()
    for _ in range(300):
        often = rng.choice([1, 30, math.inf, math.nan], p=[0.9, 0.08, 0.01, 0.01])
        norm = float(np.float32(np.exp(rng.normal(0, 1.5)) * often))
        part, limits = float(rng.choice([1.0, math.nan], p=[0.98, 0.02])), guard.limits()
        on_device = judge(torch.tensor([part, norm]), torch.tensor([limits]))
        decision = guard.judge(["nll"], [part], norm, limits=limits)
        assert bool(on_device.skip) == (decision.scale == 0)
        if decision.scale:
            assert 1 / on_device.scales.item() == pytest.approx(decision.scale)
    assert guard.skipped > 10


def test_limits_are_what_a_step_was_taken_by():
    """Steps that have been judged since do not change what is said of it."""
    guard = Guard()
    for _ in range(40):
        guard.judge(["nll"], [1.0], 1.0)
    assert guard.judge(["nll"], [1.0], 50.0, limits=Limits(math.inf, math.inf)).scale == 1
    assert guard.judge(["nll"], [1.0], 5.0, limits=Limits(4.0, 2.0)).scale == 0


# What the host waits for


@pytest.fixture
def late(monkeypatch):
    monkeypatch.setitem(loop.LATE, "cpu", 8)


def test_reading_late_changes_nothing(small, images, request):
    """As long as no limit is set by norms that have not been read."""
    x, ends = images(6, SHAPE), []
    for reading in (None, "late"):
        if reading:
            request.getfixturevalue(reading)
        torch.manual_seed(0)
        model = small()
        state = last(training(model, ELBO, forever(x), steps=30, clip=0, **STEADY))
        ends.append((numbers_of(model), state.loss, state.parts, state.grad_norm, list(state.guard.norms)))
    assert torch.equal(ends[0][0], ends[1][0]) and ends[0][1:] == ends[1][1:]


def test_a_broken_step_is_skipped_before_it_is_read(small, images, late):
    calls = iter(range(100))
    shaky = nll + Term("shaky", lambda trace, context: trace.log_px.mean(0) * (math.nan if next(calls) == 3 else 0.0))
    model, events, kept = small(), {}, []
    for state in training(model, shaky, forever(images(6, SHAPE)), steps=20, **STEADY):
        kept.append(numbers_of(model))
        if state.event:
            events[state.step] = state.event
    assert torch.equal(kept[2], kept[3]) and not torch.equal(kept[3], kept[4])
    assert events == {12: "step skipped: the term shaky is not finite"}


def test_steps_from_weights_given_up_are_forgotten(small, images, late):
    calls = iter(range(100))
    shaky = nll + Term("shaky", lambda trace, context: trace.log_px.mean(0) * (math.nan if 10 <= next(calls) < 15 else 0.0))
    model = small()
    start = numbers_of(model)
    for state in training(model, shaky, forever(images(6, SHAPE)), steps=60, **STEADY):
        if "rolled back" in state.event:
            assert torch.equal(numbers_of(model), start)
    assert state.rollbacks == 1 and len(state.guard.norms) == 60 - 5 - 8


class Waits(TorchDispatchMode):
    """Where the host waits for a number of the device."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        by_mask = name == "aten::index" and any(getattr(i, "dtype", None) is torch.bool for i in args[1])
        if by_mask or name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2",
                               "aten::unique_dim", "aten::equal", "aten::bincount"):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("preset", ["default", "ladder", "vq_vae", "m2", "beta_tcvae", "vae_gan", "dcgan", "latent_flow",
                                    "gumbel"])
def test_no_step_waits_for_the_device(preset, late, monkeypatch):
    read = []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t, real=torch.Tensor.tolist: (read.append(t), real(t))[1])
    rng, labels = np.random.default_rng(0), np.arange(32) % 10
    images = rng.integers(0, 256, (32, 16, 16, 1), dtype=np.uint8)
    assembly = Assembly(find(preset).recipe.but(steps=20, batch_size=4), (1, 16, 16))
    stream = assembly.stream(images, labels=labels if assembly.model.latent.classes else None)
    states = assembly.training(stream, assembly.budget(stream))
    for _ in range(9):
        next(states)
    read.clear()
    with Waits() as waits:
        for _ in range(3):
            next(states)
    assert waits.seen == []
    turns = 2 if preset == "dcgan" else 1
    assert len(read) == 3 * turns, "the numbers of a step each, or of two where sides take turns, which were taken before"
