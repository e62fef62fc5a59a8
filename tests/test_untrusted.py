"""A folder from a stranger: what its files hold is refused in words or used as it is, at a cost that their sizes explain."""

from __future__ import annotations

import json
import math

import pytest
import torch
from conftest import forever, last

from reparam.build import build_adversary
from reparam.errors import ModelFileError
from reparam.loop import training
from reparam.objective import parse_objective
from reparam.recipe import Recipe

STEADY = {"schedule": "constant", "ema": 0.9}


# What continues a run


@pytest.fixture(scope="module")
def begun(small):
    """A game after two steps: how to go on from a snapshot of it, and that snapshot."""
    recipe = Recipe(encoder="mlp(hidden=(16,))", decoder="mlp(hidden=(16,))", latent="flat(4)", critic="mlp(hidden=(8,))",
                    likelihood="gaussian(sigma=0.3)", adversary="images")

    def go_on(snapshot=None, steps=3):
        torch.manual_seed(0)
        model = small()
        return last(training(model, parse_objective("nll + kl + adversarial"), forever(torch.rand(8, 1, 4, 4)), steps=steps,
                             adversary=build_adversary(recipe, model, (1, 4, 4)), resume=snapshot, **STEADY))

    return go_on, go_on(steps=2).snapshot()


OF_ALL_KINDS = ["model.encoder.net.1.weight", "ema.encoder.net.1.weight", "optimizer.0.exp_avg", "optimizer.0.exp_avg_sq",
                "optimizer.0.step", "critic_optimizer.0.exp_avg_sq", "rng.cpu"]


@pytest.mark.parametrize("name", OF_ALL_KINDS)
@pytest.mark.parametrize("change", [
    lambda t: t.flatten()[:1].clone(), lambda t: t[None], lambda t: torch.zeros(3, 5, 7), lambda t: t.double(),
    lambda t: torch.zeros(0), lambda t: None,
    lambda t: t.float().clone().fill_(math.nan), lambda t: t.float().clone().fill_(math.inf),
], ids=["one number", "a dimension more", "other shape", "other type", "nothing", "missing", "nan", "infinite"])
def test_a_tensor_that_does_not_fit_is_refused_by_name(begun, name, change):
    go_on, (tensors, numbers) = begun
    changed = change(tensors[name])
    damaged = {k: v for k, v in tensors.items() if k != name} | ({name: changed} if changed is not None else {})
    with pytest.raises(ModelFileError, match=rf"does not fit this model \({name} (is|holds)"):
        go_on((damaged, numbers))


@pytest.mark.parametrize("name", ["optimizer.999.exp_avg", "optimizer.0.max_exp_avg_sq", "optimizer.x.exp_avg", "model.more",
                                  "optimizer", "", "critic_optimizer.0", "new.1"])
def test_a_tensor_that_has_no_place_is_refused_by_name(begun, name):
    go_on, (tensors, numbers) = begun
    with pytest.raises(ModelFileError, match=rf"\({name} is not expected"):
        go_on((tensors | {name: torch.zeros(2)}, numbers))


@pytest.mark.parametrize(("change", "told"), [
    ({"step": -1}, "step is -1, not from 0"), ({"step": 1.5}, "step is 1.5, not a whole number"),
    ({"step": True}, "step is true, not a whole number"),
    ({"step": 10**400}, "step is a number beyond measure"), ({"images": None}, "images is null"),
    ({"seconds": math.nan}, "seconds"), ({"seconds": 10**400}, "seconds"), ({"progress": 1.5}, "progress is 1.5"),
    ({"lr_scale": 0}, "lr_scale"), ({"lr_scale": 1e9}, "lr_scale"), ({"rollbacks": 10**6}, "rollbacks"),
    ({"weights": ["kl"]}, "weights is a list"), ({"weights": {"kl": "much"}}, r"weights\.kl is"),
    ({"guard": 3}, "guard is 3"),
    ({"guard": {}}, r"guard\.at_start is missing"), ({"critic_guard": []}, "critic_guard is a list"),
], ids=str)
def test_numbers_of_another_kind_are_refused_by_name(begun, change, told):
    go_on, (tensors, numbers) = begun
    with pytest.raises(ModelFileError, match=told):
        go_on((tensors, numbers | change))


@pytest.mark.parametrize("change", [{"norms": "12"}, {"norms": [math.nan]}, {"norms": [-1.0]}, {"skipped": -1},
                                    {"rescues": "2"}, {"at_start": math.nan}, {"in_a_row": None}], ids=str)
def test_a_guard_that_remembers_nonsense_is_refused(begun, change):
    go_on, (tensors, numbers) = begun
    with pytest.raises(ModelFileError, match=rf"guard\.{next(iter(change))}"):
        go_on((tensors, numbers | {"guard": numbers["guard"] | change}))


def test_a_snapshot_that_fits_goes_on(begun):
    go_on, (tensors, numbers) = begun
    assert numbers["guard"]["at_start"] == -math.inf  # which JSON has no word for
    assert go_on((tensors, json.loads(json.dumps(numbers)))).step == 3
    without_slots = {k: v for k, v in tensors.items() if not k.startswith("optimizer.0.")}  # it had no gradient yet
    assert go_on((without_slots, numbers)).step == 3
    assert go_on((tensors, numbers | {"guard": numbers["guard"] | {"at_start": 9.5, "norms": []}})).step == 3
