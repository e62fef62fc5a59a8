"""Images of up to 512 pixels a side: networks whose width grows as maps shrink, and what keeps memory in bounds."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from reparam.data.arrays import from_arrays
from reparam.data.open import open_images
from reparam.errors import UsageError
from reparam.models.build import build_model
from reparam.models.sampler import Sampler
from reparam.nets import tiles
from reparam.nets.base import DECODERS, ENCODERS
from reparam.nets.deep import DeepDecoder, DeepEncoder, Double, Halve
from reparam.nets.layers import Residual
from reparam.nets.vit import OnGrid
from reparam.parts.call import Call
from reparam.parts.presets import PRESETS
from reparam.parts.ranges import MOST_SIDE
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel
from reparam.runs.finish import ORIGINALS, SHOWN, shown
from reparam.tensors import at_once
from reparam.trainer.stages import prior
from reparam.trainer.stages.prior import codes_to_fit


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
    assert from_arrays(images, image_size=MOST_SIDE).images.shape[1:] == (MOST_SIDE, MOST_SIDE, 3)
    with pytest.raises(UsageError, match=f"from 8 to {MOST_SIDE}; got {MOST_SIDE + 1}"):
        open_images("shapes", image_size=MOST_SIDE + 1)


def lively(net):
    """With residual blocks that give as much as trained ones do; they start as the identity."""
    torch.manual_seed(0)
    for block in net.modules():
        if isinstance(block, Residual):
            nn.init.normal_(block.second.weight, std=0.5 / block.second.weight[0].numel() ** 0.5)
    return net.eval()


def networks(name, size, **options):
    grid, factor = (size[0] // 8, size[1] // 8), {"conv": {}}.get(name, {"blocks": 1, **options})
    return (lively(ENCODERS.make(Call(name, (8,), factor), (3, *size), grid)),
            lively(DECODERS.make(Call(name, (8,), factor), (4, *grid), (3, *size))))


def maps_of(net, x):
    """The numbers in the largest map that a convolution makes of x."""
    most = 0

    def look(_, __, y):
        nonlocal most
        most = max(most, y[0].numel())

    hooks = [layer.register_forward_hook(look) for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    y = net(x)
    for hook in hooks:
        hook.remove()
    return y, most


@pytest.mark.parametrize(("name", "options"), [("deep", {}), ("deep", {"attention": 2}), ("resnet", {"attention": 2}),
                                               ("resnet", {"patch": 2}), ("conv", {})], ids=str)
@pytest.mark.parametrize("size", [(384, 384), (384, 200)], ids=str)
def test_tiles_are_as_good_as_the_whole_and_take_a_part_of_the_memory(name, options, size, monkeypatch):
    """Within a ten thousandth of the spread of what a network says, by maps of half the numbers; the same while learning."""
    inputs = torch.rand(2, 3, *size), torch.randn(2, 4, size[0] // 8, size[1] // 8)
    for net, x in zip(networks(name, size, **options), inputs, strict=True):
        with torch.no_grad():
            whole, most = maps_of(net, x)
            monkeypatch.setattr(tiles, "MOST_NUMBERS", most // 3)
            tiled, largest = maps_of(net, x)
        assert not torch.equal(whole, tiled) and largest <= most / 2
        assert (whole - tiled).abs().max() <= 1e-4 * whole.std()
        assert torch.equal(net(x), whole)
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["deep", "resnet"])
def test_a_compiled_network_is_one_graph_without_tiles(name, monkeypatch):
    monkeypatch.setattr(tiles, "MOST_NUMBERS", 1)
    encoder, _ = networks(name, (256, 256))
    x = torch.rand(1, 3, 256, 256)
    whole = encoder(x)
    with torch.no_grad():
        assert torch.equal(torch.compile(encoder, backend="eager", fullgraph=True)(x), whole)


def test_tiles_whose_places_lack_pixels_are_not_cut(monkeypatch):
    monkeypatch.setattr(tiles, "MOST_NUMBERS", 1)
    encoder, decoder = DeepEncoder((3, 381, 381), (48, 48), 8), DeepDecoder((4, 48, 48), (3, 381, 381), 8)
    assert not encoder.tiles.exact and not decoder.tiles.exact
    with torch.no_grad():
        x, z = torch.rand(1, 3, 381, 381), torch.randn(1, 4, 48, 48)
        assert torch.equal(encoder(x), encoder.coarse(encoder.fine(x)))
        assert torch.equal(decoder(z), decoder.fine(decoder.coarse(z)))


@pytest.mark.parametrize(("places", "side"), [(64, 16), (64, 17), (33, 20), (24, 16), (20, 20)])
def test_tiles_cover_a_side_and_their_weights_sum_to_one(places, side):
    spans, out = tiles._spans(places, side), 3
    assert spans[0][0] == 0 and spans[-1][1] == places
    assert all(b - a == side for a, b in spans) and all(b - c >= tiles.OVERLAP for (_, b), (c, _) in pairwise(spans))
    total = torch.zeros(places * out)
    for (begin, end), w in zip(spans, tiles._weights(spans, places, out, total), strict=True):
        total[begin * out : end * out] += w
    torch.testing.assert_close(total, torch.ones(places * out))


@pytest.mark.parametrize(("shape", "most"), [((3, 28, 28), 250), ((3, 64, 64), 250), ((3, 128, 128), 62), ((512, 512, ), 3)])
def test_fewer_images_pass_through_a_network_at_a_time_where_they_are_large(shape, most):
    assert at_once(shape) == most and at_once((1, 512, 512), 20) == 1


@pytest.mark.parametrize("side", [128, 256, 512])
def test_presets_for_large_images_have_small_maps_and_codes_that_a_prior_can_learn(side):
    with torch.device("meta"):
        model = build_model(PRESETS[f"generate{side}"].recipe, (3, side, side))
    assert model.latent.shape[1:] == (32, 32)
    assert model.encoder.tiles.numbers * 32**2 <= tiles.MOST_NUMBERS / 4  # whole passes are small, so that nothing is tiled


def test_a_model_in_hand_encodes_decodes_and_samples_by_tiles(small, monkeypatch):
    shape = (3, 256, 256)
    recipe = {"encoder": "deep(4)", "decoder": "deep(4)", "latent": "spatial(2, 8)"}
    model = ImageModel(Sampler(small(shape, **recipe)), Config(Recipe(**recipe), shape))
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)

    def made():
        z = model.encode(images)
        return z, model.decode(z), model.reconstruct(images), model.sample(2, seed=0)

    whole = made()
    monkeypatch.setattr(tiles, "MOST_NUMBERS", 4 * 128**2 // 3)
    assert model.vae.decoder.tiles.side < 32
    for a, b in zip(whole, made(), strict=True):
        assert a.dtype != np.float32 or not np.array_equal(a, b)
        assert np.abs(a.astype(np.float64) - b).max() <= (1e-4 * a.std() if a.dtype == np.float32 else 1)


@pytest.mark.parametrize(("side", "samples", "originals"), [(64, 64, 16), (128, 64, 16), (256, 16, 4), (512, 4, 4)])
def test_pictures_of_a_run_show_fewer_large_images(side, samples, originals):
    images = from_arrays(np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8), image_size=side)
    assert [shown(images, most) for most in (SHOWN, ORIGINALS)] == [samples, originals]


def test_draws_that_a_prior_learns_from_stay_within_memory(small, monkeypatch):
    """Of few images many draws each, but no more numbers than are to be held."""
    model, x = small((1, 8, 8), encoder="conv(4)", decoder="conv(4)", latent="spatial(1, 1)"), torch.rand(40, 1, 8, 8)
    assert len(codes_to_fit(model, x)) == 40 * 100
    monkeypatch.setattr(prior, "MOST_NUMBERS", 40 * 64 * 7 + 1)
    assert len(codes_to_fit(model, x)) == 40 * 7
    monkeypatch.setattr(prior, "MOST_NUMBERS", 1)
    assert len(codes_to_fit(model, x)) == 40
