"""Terms for smooth decoders and for similar images, against explicit Jacobians, enumeration, numpy and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.autograd import gradcheck
from torch.nn import functional as F

from reparam.distributions.gaussian import Gaussian
from reparam.errors import UsageError
from reparam.functional.similarity import ms_ssim, ssim
from reparam.models.trace import Layer, Trace
from reparam.objectives.objective import parse_objective
from reparam.objectives.terms import equivariance, gradient_penalty, latent_noise, ms_ssim_term, nll, spectral_penalty

F64 = {"dtype": torch.float64}
LOG_VAR = torch.tensor(-1.0, **F64)


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """Parts compute in float32 by calling `.float()`; here that stays in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def trace_of(features, mean, x):
    """A trace whose decoder's mean is a given function of one example's features, N(mean, e⁻¹)."""

    def decode(f):
        return Gaussian(mean(f.flatten(0, 1)).unflatten(0, f.shape[:2]), LOG_VAR, 3)

    zero, px = torch.zeros(features.shape[2:], **F64), decode(features)
    q = Gaussian(features[0], torch.zeros_like(features[0]), features.dim() - 2)
    return Trace(x, (Layer(features, q, Gaussian(zero, zero, zero.dim())),), px, px.log_prob(x), features, decode)


def linear(w):
    return lambda f: (f @ w.T).unflatten(-1, (1, -1, 1))


def curved(w):
    return lambda f: torch.sin(f @ w.T).unflatten(-1, (1, -1, 2))


def jacobians(mean, features):
    """(K, B, pixels, D)."""
    flat = features.flatten(0, 1)
    return torch.stack([torch.autograd.functional.jacobian(lambda f: mean(f[None]).flatten(), f) for f in flat]
                       ).unflatten(0, features.shape[:2])


# Jacobians


def test_the_gradient_penalty_of_a_linear_decoder_is_its_weights_square():
    n, w = 10_000, torch.randn(5, 3, **F64).requires_grad_()
    trace = trace_of(torch.randn(1, n, 3, **F64), linear(w), torch.zeros(n, 1, 5, 1, **F64))
    draws = gradient_penalty()(trace)
    error = draws.std() / math.sqrt(n)
    assert (draws.mean() - (w**2).sum()).abs() < 4 * error
    gram = (w @ w.T).detach()
    variance = 2 * (gram - torch.diag(gram.diagonal())).square().sum()
    assert draws.var().item() == pytest.approx(variance.item(), rel=0.1)
    draws.mean().backward()
    torch.testing.assert_close(w.grad, 2 * w.detach(), rtol=0.05, atol=0.1)
    assert gradient_penalty(4)(trace).var().item() == pytest.approx(variance.item() / 4, rel=0.1)


def test_the_gradient_penalty_of_each_example_is_that_of_its_own_jacobian():
    mean = curved(torch.randn(6, 3, **F64))
    features, x = torch.randn(2, 3, 3, **F64), torch.zeros(3, 1, 3, 2, **F64)
    exact = jacobians(mean, features).square().sum((-2, -1)).mean(0)
    trace = trace_of(features, mean, x)
    draws = torch.stack([gradient_penalty()(trace) for _ in range(1000)])
    assert ((draws.mean(0) - exact).abs() < 4 * draws.std(0) / math.sqrt(len(draws))).all()


def test_the_spectral_penalty_reaches_the_largest_singular_value():
    features, x, mean = torch.randn(2, 4, 3, **F64), torch.zeros(4, 1, 3, 2, **F64), curved(torch.randn(6, 3, **F64))
    sigma = np.linalg.svd(jacobians(mean, features).numpy(), compute_uv=False)[..., 0]
    exact = torch.from_numpy((sigma**2).mean(0))
    trace = trace_of(features, mean, x)
    torch.testing.assert_close(spectral_penalty(200)(trace), exact, rtol=1e-6, atol=0)
    gaps = []
    for steps in (1, 3, 10):
        torch.manual_seed(0)
        gaps.append(exact - spectral_penalty(steps)(trace))
    assert (torch.stack(gaps) > -1e-12).all()
    assert (gaps[0] > gaps[1]).all()
    assert (gaps[1] > gaps[2]).all()


def test_the_spectral_penalty_has_the_gradient_of_the_singular_value():
    w = torch.randn(5, 3, **F64).requires_grad_()
    trace = trace_of(torch.randn(1, 2, 3, **F64), linear(w), torch.zeros(2, 1, 5, 1, **F64))
    spectral_penalty(300)(trace).mean().backward()
    u, s, v = np.linalg.svd(w.detach().numpy())
    np.testing.assert_allclose(w.grad, 2 * s[0] * np.outer(u[:, 0], v[0]), atol=1e-6)


def test_the_spectral_penalty_takes_its_direction_as_constant():
    w, generator = torch.randn(5, 3, **F64).requires_grad_(), torch.Generator().manual_seed(8)
    trace = trace_of(torch.randn(1, 1, 3, **F64), linear(w), torch.zeros(1, 1, 5, 1, **F64))
    torch.manual_seed(8)
    spectral_penalty(1)(trace).sum().backward()
    v = w.detach() @ w.detach().T @ torch.randn(5, **F64, generator=generator)
    v = v / v.norm()
    torch.testing.assert_close(w.grad, 2 * torch.outer(v, v @ w.detach()))


def test_a_decoder_that_ignores_its_features_has_no_slope_and_no_nan():
    w = torch.zeros(5, 3, **F64).requires_grad_()
    trace = trace_of(torch.randn(1, 2, 3, **F64), linear(w), torch.zeros(2, 1, 5, 1, **F64))
    for term in (gradient_penalty(), spectral_penalty()):
        total = term(trace).sum()
        assert total == 0
        total.backward()
        assert w.grad.isfinite().all()


@pytest.mark.parametrize("term", [gradient_penalty(), spectral_penalty()], ids=lambda t: t.name)
def test_attention_can_be_differentiated_twice(term, small, images, monkeypatch):
    monkeypatch.undo()
    model = small((3, 8, 8), decoder="vit(width=16, depth=1, heads=2)")
    term(model(images(2, (3, 8, 8)))).sum().backward()
    reached = [name for name, p in model.decoder.named_parameters() if p.grad is not None and p.grad.any()]
    assert len(reached) > 0.8 * len(list(model.decoder.parameters()))


def test_penalties_move_the_encoder_as_well():
    """Where the decoder is curved, its slope depends on the code."""
    loc = torch.randn(1, 4, 3, **F64).requires_grad_()
    trace = trace_of(loc, curved(torch.randn(6, 3, **F64)), torch.zeros(4, 1, 3, 2, **F64))
    for term in (gradient_penalty(), spectral_penalty()):
        loc.grad = None
        term(trace).sum().backward()
        assert loc.grad.any()


# Jittered features


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2)], ids=["flat", "spatial"])
def test_noise_adds_the_spread_of_what_a_linear_decoder_makes_of_it(shape):
    """E ‖x − W(f + csε)‖² = ‖x − Wf‖² + c² Σ_d s_d² ‖W_d‖², with one s per channel."""
    d, scale, n = math.prod(shape), 0.5, 5000
    spread = torch.tensor([0.1, 1.0, 3.0], **F64).reshape(-1, *[1] * (len(shape) - 1))
    base, w = torch.randn(4, *shape, **F64) * spread + 5, torch.randn(6, d, **F64)
    x = linear(w)(base.flatten(1)) + 0.1 * torch.randn(4, 1, 6, 1, **F64)
    trace = trace_of(base.repeat(n, *[1] * len(shape))[None], lambda f: linear(w)(f.flatten(1)), x.repeat(n, 1, 1, 1))
    s2 = torch.from_numpy(np.var(base.numpy(), axis=(0, 2, 3)[: base.ndim - 1])).repeat_interleave(d // 3)
    added = latent_noise(scale)(trace).unflatten(0, (n, 4)) - nll(trace)[:4]
    expected, error = 0.5 * math.e * scale**2 * (s2 * (w**2).sum(0)).sum(), added.std(0) / math.sqrt(n)
    assert ((added.mean(0) - expected).abs() < 4 * error).all()
    assert (expected > 20 * error).all()


def test_codes_cannot_grow_away_from_the_noise():
    """The same picture from codes ten times larger costs the same."""
    features, w, x = torch.randn(1, 6, 3, **F64), torch.randn(5, 3, **F64), torch.randn(6, 1, 5, 1, **F64)
    values = []
    for factor in (1, 10):
        torch.manual_seed(4)
        values.append(latent_noise(0.3)(trace_of(factor * features, linear(w / factor), x)))
    torch.testing.assert_close(*values)


def test_one_image_has_no_spread_to_jitter_by():
    features = torch.randn(1, 1, 3, **F64).requires_grad_()
    trace = trace_of(features, linear(torch.randn(5, 3, **F64)), torch.zeros(1, 1, 5, 1, **F64))
    value = latent_noise(0.3)(trace)
    torch.testing.assert_close(value, nll(trace))
    value.sum().backward()
    assert features.grad.isfinite().all()


# Turned features


def pixelwise(w, factor=1):
    return lambda f: torch.einsum("oc,nchw->nohw", w, f).repeat_interleave(factor, -1).repeat_interleave(factor, -2).sin()


def shifted(w):
    return lambda f: pixelwise(w)(f).roll((1, 1), (-2, -1))


def turns(square):
    return ([lambda t, k=k: np.rot90(t, k, (-2, -1)).copy() for k in (1, 2, 3)] if square
            else [lambda t: t[..., ::-1].copy(), lambda t: t[..., ::-1, :].copy(), lambda t: t[..., ::-1, ::-1].copy()])


@pytest.mark.parametrize(("grid", "factor"), [((4, 4), 1), ((3, 5), 1), ((4, 4), 2), ((3, 1), 2)])
def test_a_decoder_that_turns_with_its_features_costs_nothing(grid, factor):
    n = 40
    features, w = torch.randn(2, n, 2, *grid, **F64), torch.randn(3, 2, **F64)
    x = torch.rand(n, 3, factor * grid[0], factor * grid[1], **F64)
    assert equivariance()(trace_of(features, pixelwise(w, factor), x)).abs().max() < 1e-20
    best = trace_of(features, pixelwise(w, factor), pixelwise(w, factor)(features[0]))
    torch.testing.assert_close(equivariance("image")(best), nll(best))


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)], ids=str)
def test_every_example_is_turned_in_one_of_three_ways(grid):
    n = 60
    features, mean, x = torch.randn(1, n, 2, *grid, **F64), shifted(torch.randn(3, 2, **F64)), torch.rand(n, 3, *grid, **F64)
    trace = trace_of(features, mean, x)
    gaps, logs = [], []
    for turn in turns(grid[0] == grid[1]):
        made = mean(torch.from_numpy(turn(features[0].numpy()))).numpy()
        gaps.append(((made - turn(mean(features[0]).numpy())) ** 2).sum((1, 2, 3)))
        squares = ((made - turn(x.numpy())) ** 2).sum((1, 2, 3))
        logs.append(0.5 * (squares * math.e + x[0].numel() * (math.log(2 * math.pi) - 1)))
    for term, options in ((equivariance(), gaps), (equivariance("image"), logs)):
        near = np.abs(term(trace).numpy() - np.array(options)) < 1e-9
        assert (near.sum(0) == 1).all()
        assert (near.sum(1) > n / 10).all()
        assert (np.array(options) > 0.1).all()


def test_the_turn_is_drawn_anew():
    trace = trace_of(torch.randn(1, 20, 2, 4, 4, **F64), shifted(torch.randn(3, 2, **F64)), torch.rand(20, 3, 4, 4, **F64))
    assert not torch.equal(equivariance()(trace), equivariance()(trace))


@pytest.mark.parametrize("decoder", ["conv(width=4)", "resnet(width=4)"])
def test_convolutional_decoders_take_turned_features(decoder, small, images, monkeypatch):
    monkeypatch.undo()
    model = small((3, 12, 12), encoder="conv(width=4)", decoder=decoder, latent="spatial(2, 4)")
    values = equivariance()(model(images(5, (3, 12, 12)), samples=2))
    assert values.shape == (5,)
    assert (values > 0).all()


def test_features_that_cannot_be_turned_are_refused(small, images, monkeypatch):
    with pytest.raises(UsageError, match="flat latent"):
        equivariance()(trace_of(torch.zeros(1, 2, 3, **F64), linear(torch.zeros(4, 3, **F64)), torch.zeros(2, 1, 4, 1)))
    monkeypatch.undo()
    with pytest.raises(UsageError, match="3×3 does not divide 10×10"):
        equivariance()(small((1, 10, 10), latent="spatial(1, 4)")(images(1, (1, 10, 10))))


# Gradients


@pytest.mark.parametrize("text", [
    "gradient_penalty(2)", "spectral_penalty(60)", "latent_noise(0.3)", "ms_ssim(1)", "ms_ssim(2)"])
def test_terms_have_their_gradient(text):
    """With respect to features and weights; the batch's spread and the singular vector are constants to the gradient."""
    term, x, generator = parse_objective(text).terms[0][1], torch.rand(2, 1, 24, 22, **F64), torch.Generator().manual_seed(6)
    base = torch.randn(24 * 22, 2, **F64, generator=generator)

    def value(features, w):
        torch.manual_seed(1)
        return term(trace_of(features, lambda f: (0.5 + 0.3 * torch.sin(f @ (base + w).T)).unflatten(-1, (1, 24, 22)), x))

    inputs = [torch.randn(1, 2, 2, **F64).requires_grad_(), torch.randn(1, 2, **F64).requires_grad_()]
    if text.startswith("latent_noise"):  # antithetic codes keep their spread under a common shift
        shift = torch.zeros(1, 1, 2, **F64).requires_grad_()
        assert gradcheck(lambda s, w: value(inputs[0].detach() + s, w), (shift, inputs[1]))
    else:
        assert gradcheck(value, inputs)


@pytest.mark.parametrize("target", ["reconstruction", "image"])
def test_equivariance_has_its_gradient(target):
    x = torch.rand(3, 1, 4, 4, **F64)

    def value(features, w):
        torch.manual_seed(1)
        return equivariance(target)(trace_of(features, shifted(w), x))

    assert gradcheck(value, (torch.randn(1, 3, 2, 4, 4, **F64).requires_grad_(), torch.randn(1, 2, **F64).requires_grad_()))


@pytest.mark.parametrize("text", ["gradient_penalty(0)", "spectral_penalty(0)", "latent_noise(0)", "latent_noise(-1)",
                                  "equivariance('nothing')", "ms_ssim(0)", "ms_ssim(6)"])
def test_senseless_numbers_are_refused(text):
    with pytest.raises(UsageError, match=r"at least 1|above 0|'reconstruction' or 'image'|1 to 5"):
        parse_objective(text)


# Structural similarity


def reference_maps(x, y):
    """l·cs and cs of two grey images by scipy, at positions whose 11×11 window lies within the image."""

    def blur(t):
        return gaussian_filter(t, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur((x - 0.5) ** 2) - (mx - 0.5) ** 2, blur((y - 0.5) ** 2) - (my - 0.5) ** 2, blur(x * y) - mx * my
    cs = (2 * vxy + 0.0009) / (vx + vy + 0.0009)
    return (2 * mx * my + 0.0001) / (mx**2 + my**2 + 0.0001) * cs, cs


def pairs(n, shape, noise=0.2):
    x = F.interpolate(torch.rand(n, shape[0], 5, 4, **F64), shape[1:], mode="bicubic").clamp(0, 1)
    return x, (x + noise * torch.randn_like(x)).clamp(0, 1)


@pytest.mark.parametrize("shape", [(1, 11, 11), (3, 20, 33), (5, 40, 12)], ids=str)
def test_ssim_is_scipys(shape):
    x, y = pairs(3, shape)
    expected = [np.mean([reference_maps(a, b)[0].mean() for a, b in zip(i, j, strict=True)])
                for i, j in zip(x.numpy(), y.numpy(), strict=True)]
    np.testing.assert_allclose(ssim(x, y), expected, rtol=1e-9)
    np.testing.assert_allclose(ms_ssim(x, y, scales=1), expected, rtol=1e-9)


@pytest.mark.parametrize(("shape", "scales", "used"), [
    ((2, 44, 60), 5, 3), ((1, 44, 60), 2, 2), ((1, 176, 192), 5, 5)], ids=str)
def test_ms_ssim_is_the_product_over_halved_images(shape, scales, used):
    """(Wang et al., 2003, Eq. 7) for images that halve evenly."""
    x, y = pairs(2, shape)
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:used]
    weights /= weights.sum()

    def alone(a, b):
        product = 1.0
        for j, weight in enumerate(weights):
            full, cs = reference_maps(a, b)
            product *= (full if j == used - 1 else cs).mean() ** weight
            a, b = (t.reshape(t.shape[0] // 2, 2, -1, 2).mean((1, 3)) if j < used - 1 else t for t in (a, b))
        return product

    expected = [np.mean([alone(a, b) for a, b in zip(i, j, strict=True)]) for i, j in zip(x.numpy(), y.numpy(), strict=True)]
    np.testing.assert_allclose(ms_ssim(x, y, scales=scales), expected, rtol=1e-9)


@pytest.mark.parametrize(("side", "used"), [
    (3, 1), (20, 1), (21, 2), (28, 2), (32, 2), (64, 3), (160, 4), (161, 5), (256, 5)])
def test_small_images_have_fewer_scales(side, used):
    x, y = pairs(1, (1, side, side + 7))
    all_of_them = ms_ssim(x, y)
    torch.testing.assert_close(all_of_them, ms_ssim(x, y, scales=used))
    assert used == 1 or not torch.allclose(all_of_them, ms_ssim(x, y, scales=used - 1))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 6, 5), (1, 28, 27), (5, 70, 64)], ids=str)
def test_similarity_of_equal_images_is_one_and_of_others_less(shape):
    x, y = pairs(2, shape)
    for f in (ssim, ms_ssim):
        torch.testing.assert_close(f(x, x), torch.ones(2, **F64))
        assert (f(x, y) < 1).all()
        torch.testing.assert_close(f(x, y), f(y, x))
        assert f(x, y).shape == (2,)


def test_ssim_of_even_images_is_its_luminance():
    a, b = torch.full((1, 1, 16, 16), 0.3, **F64), torch.full((1, 1, 16, 16), 0.6, **F64)
    assert ssim(a, b).item() == pytest.approx((2 * 0.18 + 1e-4) / (0.09 + 0.36 + 1e-4), rel=1e-9)


def test_a_negative_is_as_unlike_as_can_be():
    x = (torch.arange(32.0, **F64) % 2).expand(1, 1, 32, 32).clone().requires_grad_()
    assert ssim(x, 1 - x).item() < -0.9
    value = ms_ssim(x, 1 - x.detach())
    # the coarser of its two scales is an even grey, the same in both
    assert value.item() == pytest.approx(1e-4 ** (0.0448 / (0.0448 + 0.2856)), rel=1e-6)
    value.backward()
    assert x.grad.isfinite().all()


def test_the_term_is_the_mean_dissimilarity_over_samples():
    features, w, x = torch.randn(3, 2, 4, **F64), torch.randn(24 * 24, 4, **F64), torch.rand(2, 1, 24, 24, **F64)
    trace = trace_of(features, lambda f: torch.sigmoid(f @ w.T).unflatten(-1, (1, 24, 24)), x)
    expected = torch.stack([1 - ms_ssim(mean, x) for mean in trace.px.mean]).mean(0)
    torch.testing.assert_close(ms_ssim_term()(trace), expected)
    expected = torch.stack([1 - ssim(mean, x) for mean in trace.px.mean]).mean(0)
    torch.testing.assert_close(ms_ssim_term(1)(trace), expected)
