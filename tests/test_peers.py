"""The networks and settings with which other programs are compared are what they are said to be."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reparam.trainer.assembly import Assembly

PARAMETERS = {"mlp": 829_232, "resnet": 766_689, "vq": 678_737, "vanilla": 3_937_635}
"""Of Pythae's own networks, and of VanillaVAE."""


@pytest.fixture
def part(monkeypatch):
    """Imports a module of the benchmark."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return lambda name: importlib.import_module(f"peers_parts.{name}")


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_parameters_of_the_others(part, name):
    networks = part("networks")
    shape = networks.shape_for(name)
    model = Assembly(networks.RECIPES[name], shape).model
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert model(torch.rand(2, *shape)).px.mean.shape[-3:] == shape


def test_a_transposed_convolution_to_an_odd_size_is_the_plain_one(part):
    ours, plain = part("networks").OddTransposed(5, 3), nn.ConvTranspose2d(5, 3, 3, 2, 1)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(ours(x), plain(x))


def test_settings_that_are_measured_were_tried_on_held_out_images(part):
    settings = part("quality").RECIPES
    for target, kinds in settings["chosen"].items():
        assert all(changes in settings["tried"][target] for changes in kinds.values())


def test_operations_are_those_that_torch_counts(part):
    roofline = part("roofline")
    layers = roofline.inputs_of(Assembly(part("networks").RECIPES["resnet"], (1, 28, 28)).model, (2, 1, 28, 28))
    assert len(layers) == 17
    for i, (layer, shape) in enumerate(layers):
        work = roofline.alone(layer, shape, torch.float32, first=i == 0)
        with FlopCounterMode(display=False) as counter:
            work()
        assert counter.get_total_flops() == roofline.operations(layer, shape) * (2 if i == 0 else 3)
