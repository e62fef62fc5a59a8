"""Images of up to 512 pixels a side: networks whose width grows as maps shrink, and what keeps memory in bounds."""

import numpy as np
import pytest
import torch
from torch import nn

from reparam.data.open import open_images
from reparam.errors import UsageError
from reparam.nets.deep import DeepDecoder, DeepEncoder, Double, Halve
from reparam.nets.vit import OnGrid
from reparam.parts.ranges import MOST_SIDE


def silenced(module):
    """With convolutions that give nothing, so that the shortcuts alone speak."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return module


@pytest.mark.parametrize("out", [2, 4, 8])
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_shortcuts_move_pixels_into_channels_and_back(out, size):
    """Four times the channels hold every pixel; of fewer, each holds the mean of its own."""
    x = torch.randn(2, 2, *size)
    small = silenced(Halve(2, out))(x)
    assert small.shape == (2, out, -(-size[0] // 2), -(-size[1] // 2))
    back = silenced(Double(out, 2, size))(small)
    if out == 8:
        assert torch.equal(back, x)
    pooled = nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(small.unflatten(1, (2, -1)).mean(2)[..., : pooled.shape[2], : pooled.shape[3]], pooled)
    torch.testing.assert_close(nn.functional.avg_pool2d(back, 2), pooled)


def test_channels_grow_as_maps_shrink_and_attention_is_at_the_coarsest_map_alone():
    encoder = DeepEncoder((3, 64, 64), (4, 4), width=8, blocks=2, attention=2)
    seen = []
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d | OnGrid):
            layer.register_forward_hook(lambda m, _, y: seen.append((type(m), *y.shape[1:3])))
    encoder(torch.rand(1, 3, 64, 64))
    assert {(c, h) for _, c, h in seen} == {(8, 32), (16, 16), (32, 8), (64, 4)}
    assert {(c, h) for kind, c, h in seen if kind is OnGrid} == {(64, 4)}


@pytest.mark.parametrize(("size", "factor"), [((40, 40), 5), ((48, 36), 6), ((33, 70), 8), ((30, 30), 3), ((20, 20), 1)])
def test_any_factor_of_the_latent_is_met(size, factor):
    grid = (-(-size[0] // factor), -(-size[1] // factor))
    assert DeepEncoder((1, *size), grid, width=4)(torch.rand(1, 1, *size)).shape[2:] == grid
    assert DeepDecoder((2, *grid), (1, *size), width=4)(torch.randn(1, 2, *grid)).shape == (1, 1, *size)


def test_a_patch_off_the_latents_grid_is_refused():
    with pytest.raises(UsageError, match="no 8×8 latent lies on that way"):
        DeepEncoder((3, 64, 64), (8, 8), patch=3)


def test_images_are_read_at_the_greatest_side():
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
    from reparam.data.arrays import from_arrays

    assert from_arrays(images, image_size=MOST_SIDE).images.shape[1:] == (MOST_SIDE, MOST_SIDE, 3)
    with pytest.raises(UsageError, match=f"from 8 to {MOST_SIDE}; got {MOST_SIDE + 1}"):
        open_images("shapes", image_size=MOST_SIDE + 1)
