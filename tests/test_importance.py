"""Importance-weighted terms: their values by other routes, and their gradients by hand and in the mean over draws."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import logsumexp

from reparam.distributions.gaussian import Gaussian
from reparam.errors import UsageError
from reparam.models.trace import Layer, Trace, log_weight
from reparam.objectives.objective import parse_objective
from reparam.objectives.terms import ciwae, dreg, iw_bound, miwae, nll, piwae, stl

F64 = {"dtype": torch.float64}
MODELS = [{}, {"prior": "flow", "likelihood": "gaussian(sigma='learned')"}, {"likelihood": "gaussian(sigma='optimal')"},
          {"likelihood": "bernoulli", "latent": "spatial(2, 2)"}]
IDS = ["normal", "learned prior", "best scale", "spatial"]


class Linear:
    """z ~ N(m, 1), x | z ~ N(Wz, σ²), with everything in closed form; x is an image of one column."""

    sigma = 0.7

    def __init__(self, n):
        g = torch.Generator().manual_seed(5)
        self.w = torch.randn(3, 2, generator=g, **F64).requires_grad_()
        self.m = torch.randn(2, generator=g, **F64).requires_grad_()
        self.x = torch.randn(3, generator=g, **F64).expand(n, 3)
        self.loc = torch.tensor([0.3, -0.2], **F64).repeat(n, 1).requires_grad_()
        self.log_var = torch.tensor([-0.5, -1.0], **F64).repeat(n, 1).requires_grad_()

    def decode(self, z):
        var = torch.tensor(2 * math.log(self.sigma), **F64)
        return Gaussian((z @ self.w.T)[..., None, :, None], var, 3)

    def trace(self, samples):
        q = Gaussian(self.loc, self.log_var)
        z, p, x = q.rsample((samples,)), Gaussian(self.m, torch.zeros_like(self.m)), self.x[:, None, :, None]
        px = self.decode(z)
        return Trace(x, (Layer(z, q, p),), px, px.log_prob(x), z, self.decode)

    def at_posterior(self):
        with torch.no_grad():
            # one-dimensional given the other: a diagonal posterior needs orthogonal columns
            self.w.copy_(torch.linalg.qr(self.w)[0] * torch.tensor([1.5, 0.8], **F64))
            precision = (self.w**2).sum(0) / self.sigma**2 + 1
            self.loc.copy_((self.x @ self.w / self.sigma**2 + self.m) / precision)
            self.log_var.copy_(-precision.log().expand_as(self.log_var))
        return self


def gradients(model, term, samples, x):
    """Of every parameter, from the same draws each time."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    trace = model(x, samples=samples)
    term(trace).mean().backward()
    return {name: p.grad for name, p in model.named_parameters()}


def learns_to_infer(name):
    return name.startswith(("encoder.", "latent.posterior."))


def split(found):
    """Gradients of encoder and posterior, and of decoder, prior and likelihood."""
    return tuple({k: v for k, v in found.items() if learns_to_infer(k) is inference} for inference in (True, False))


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4 * float(b[name].abs().max()), msg=name)


def differ(a, b):
    return any((a[k] - b[k]).abs().max() > 0.01 * b[k].abs().max() for k in a)


# Values


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("changes", MODELS, ids=IDS)
def test_special_gradients_keep_the_value_of_the_bound(changes, extra, small, images):
    trace = small(**changes)(images(3, (1, 4, 4)), samples=6 + extra)
    for term in (dreg(6), piwae(2, 3), piwae(6, 1)):
        torch.testing.assert_close(term(trace), iw_bound(6)(trace))
    torch.testing.assert_close(stl(6)(trace), -log_weight(trace)[:6].mean(0))


def test_bounds_of_groups_are_means_of_their_bounds():
    trace = Linear(4).trace(7)
    log_w = log_weight(trace).detach().numpy()
    for m, k in [(2, 3), (3, 2), (7, 1), (1, 7), (2, 2)]:
        groups = [logsumexp(log_w[i * k : (i + 1) * k], axis=0) - math.log(k) for i in range(m)]
        torch.testing.assert_close(miwae(m, k)(trace), -torch.from_numpy(sum(groups) / m))
    torch.testing.assert_close(miwae(1, 5)(trace), iw_bound(5)(trace))
    torch.testing.assert_close(miwae(5, 1)(trace), -log_weight(trace)[:5].mean(0))


def test_a_convex_combination_goes_from_elbo_to_bound():
    trace = Linear(4).trace(6)
    elbo, bound = -log_weight(trace)[:5].mean(0), iw_bound(5)(trace)
    torch.testing.assert_close(ciwae(1, 5)(trace), elbo)
    torch.testing.assert_close(ciwae(0, 5)(trace), bound)
    torch.testing.assert_close(ciwae(0.3, 5)(trace), 0.3 * elbo + 0.7 * bound)
    assert (elbo > bound).all()


# The doubly reparameterised gradient


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_dreg_is_the_equation(samples):
    """(Tucker et al., 2019): ∂log w/∂z by hand, for a linear model and a diagonal Gaussian q."""
    toy = Linear(5)
    trace = toy.trace(samples)
    dreg(samples)(trace).sum().backward()
    z, x, w = trace.layers[0].z.detach(), toy.x, toy.w.detach()
    weight = log_weight(trace).detach().softmax(0)[..., None]
    residual = x - z @ w.T
    to_z = residual @ w / toy.sigma**2 - (z - toy.m.detach()) + (z - toy.loc.detach()) * (-toy.log_var.detach()).exp()
    pathwise = weight**2 * to_z
    torch.testing.assert_close(toy.loc.grad, -pathwise.sum(0))
    torch.testing.assert_close(toy.log_var.grad, -(pathwise * (z - toy.loc.detach()) / 2).sum(0))
    torch.testing.assert_close(toy.w.grad, -torch.einsum("kbi,kbj->ij", weight * residual, z) / toy.sigma**2)
    torch.testing.assert_close(toy.m.grad, -(weight * (z - toy.m.detach())).sum((0, 1)))


def test_dreg_has_the_mean_of_the_bounds_gradient_and_less_variance():
    found = {}
    for term in (dreg(4), iw_bound(4)):
        torch.manual_seed(1)
        toy = Linear(40_000)
        term(toy.trace(4)).sum().backward()
        found[term.name] = torch.cat([toy.loc.grad, toy.log_var.grad], 1)
    special, plain = found["dreg(4)"], found["iw_bound(4)"]
    gap = special - plain
    assert (gap.mean(0).abs() < 4 * gap.std(0) / math.sqrt(len(gap))).all()
    assert (gap.std(0) > 0.1 * plain.std(0)).all()
    assert (special.var(0) < 0.7 * plain.var(0)).all()
    assert (plain.mean(0).abs() > 8 * plain.std(0) / math.sqrt(len(plain))).any()


@pytest.mark.parametrize("changes", MODELS, ids=IDS)
def test_dreg_leaves_decoder_and_prior_the_bounds_gradient(changes, small, images):
    model, x = small(**changes), images(3, (1, 4, 4))
    special, plain = (split(gradients(model, term, 5, x)) for term in (dreg(5), iw_bound(5)))
    same(special[1], plain[1])
    assert differ(special[0], plain[0])


def test_dreg_of_one_sample_sticks_the_landing(small, images):
    model, x = small(prior="flow"), images(3, (1, 4, 4))
    special, landing, plain = (gradients(model, term, 1, x) for term in (dreg(1), stl(1), iw_bound(1)))
    same(special, landing)
    assert differ(split(special)[0], split(plain)[0])


def test_dreg_stands_beside_terms_that_use_the_same_draws(small, images):
    model, x = small(), images(3, (1, 4, 4))
    parts = [gradients(model, term, 6, x) for term in (nll, dreg(4), iw_bound(6), piwae(2, 2))]
    together = gradients(model, lambda t: sum(term(t) for term in (nll, dreg(4), iw_bound(6), piwae(2, 2))), 6, x)
    same(together, {k: sum(p[k] for p in parts) for k in together})


# Sticking the landing


def test_stl_is_silent_where_the_posterior_is_true():
    toy = Linear(50).at_posterior()
    stl(3)(toy.trace(3)).sum().backward()
    assert toy.loc.grad.abs().max() < 1e-12
    assert toy.log_var.grad.abs().max() < 1e-12
    other = Linear(50).at_posterior()
    miwae(3, 1)(other.trace(3)).sum().backward()
    assert other.loc.grad.abs().max() > 0.1


def test_stl_has_the_gradient_of_the_elbo_in_the_mean():
    toy = Linear(40_000)
    stl(2)(toy.trace(2)).sum().backward()
    # the ELBO in closed form: −½σ⁻²(‖x − Wμ‖² + Σ_d v_d ‖W_d‖²) − KL(N(μ, v) ‖ N(m, 1))
    loc, log_var = (t.detach()[0].requires_grad_() for t in (toy.loc, toy.log_var))
    w, x, m = toy.w.detach(), toy.x[0], toy.m.detach()
    loss = ((x - w @ loc) ** 2).sum() + (log_var.exp() * (w**2).sum(0)).sum()
    loss = 0.5 * loss / toy.sigma**2 + 0.5 * (log_var.exp() + (loc - m) ** 2 - 1 - log_var).sum()
    loss.backward()
    for got, expected in [(toy.loc.grad, loc.grad), (toy.log_var.grad, log_var.grad)]:
        assert ((got.mean(0) - expected).abs() < 4 * got.std(0) / math.sqrt(len(got))).all()
        assert (expected.abs() > 0.05).all()


def test_stl_holds_for_a_layer_below_another():
    """q(z₂ | z₁) depends on the draw above it, and through it on the parameters above."""
    found = {}
    for name in ("stl", "plain"):
        torch.manual_seed(2)
        n = 40_000
        top, link = torch.full((n, 1), 0.4, **F64, requires_grad=True), torch.full((n, 1), 0.6, **F64, requires_grad=True)
        q1 = Gaussian(top, torch.full((n, 1), -1.0, **F64))
        z1 = q1.rsample((1,))
        q2 = Gaussian(link * torch.sin(z1), torch.full((1, n, 1), -0.5, **F64))
        z2 = q2.rsample()
        zero, x = torch.zeros(1, **F64), torch.ones(n, 1, 1, 1, **F64)
        px = Gaussian((z2 + z1)[..., None, None], zero[0], 3)
        trace = Trace(x, (Layer(z1, q1, Gaussian(zero, zero)), Layer(z2, q2, Gaussian(z1 / 2, zero))), px, px.log_prob(x))
        (stl(1) if name == "stl" else iw_bound(1))(trace).sum().backward()
        found[name] = torch.cat([top.grad, link.grad], 1)
    gap = found["stl"] - found["plain"]
    assert (gap.std(0) > 0.1).all()
    assert (gap.mean(0).abs() < 4 * gap.std(0) / math.sqrt(len(gap))).all()
    assert (found["plain"].mean(0).abs() > 0.1).all()


# Partial importance weighting


@pytest.mark.parametrize(("m", "k"), [(2, 3), (3, 1), (1, 4)])
def test_piwae_teaches_the_decoder_one_bound_and_the_encoder_another(m, k, small, images):
    model, x = small(prior="flow"), images(3, (1, 4, 4))
    partly, tight, loose = (split(gradients(model, term, m * k, x)) for term in (piwae(m, k), iw_bound(m * k), miwae(m, k)))
    same(partly[1], tight[1])
    same(partly[0], loose[0])
    if m > 1:
        assert differ(loose[0], tight[0])
        assert differ(loose[1], tight[1])


# Refusals


@pytest.mark.parametrize("text", ["dreg(0)", "stl(0)", "miwae(0, 2)", "piwae(2, -1)", "ciwae(0.5, 0)", "ciwae(1.5, 2)"])
def test_senseless_numbers_are_refused(text):
    with pytest.raises(UsageError, match=r"at least 1|from 0 to 1"):
        parse_objective(text)


@pytest.mark.parametrize("term", [dreg(2), piwae(1, 2)])
def test_a_decoder_that_reads_more_than_z_is_refused(term, small, images):
    model = small(latent="conditional(4, 3)")
    trace = model(images(2, (1, 4, 4)), samples=2, y=torch.tensor([0, 2]))
    with pytest.raises(UsageError, match="one stochastic layer"):
        term(trace)
    assert stl(2)(trace).isfinite().all()


def test_several_layers_are_refused_where_they_would_be_wrong(small, images):
    toy = Linear(2).trace(2)
    deep = Trace(toy.x, toy.layers * 2, toy.px, toy.log_px, toy.decoder_input, toy.decode)
    for term in (dreg(2), piwae(1, 2)):
        with pytest.raises(UsageError, match="one stochastic layer"):
            term(deep)
