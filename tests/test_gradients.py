"""Gradients by autograd against finite differences, in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.autograd import gradcheck

from reparam.distributions.base import Distribution
from reparam.distributions.gaussian import BestScale, Gaussian, Laplace
from reparam.distributions.multivariate import FullGaussian
from reparam.distributions.pixels import Bernoulli, LogisticMixture
from reparam.distributions.point import Implicit, Point
from reparam.distributions.quantized import Quantized
from reparam.distributions.sphere import UniformSphere
from reparam.models.latents.labelled import ClassPosterior, UniformClass
from reparam.models.priors import Autoregressive, Flow, FlowDistribution, GaussianMixture
from reparam.models.priors.discrete import AutoregressiveCodes, UniformCodes
from reparam.models.space import Space
from reparam.models.trace import Layer, Trace
from reparam.objectives.context import Context
from reparam.objectives.objective import parse_objective
from reparam.parts.registry import ROLES


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """Parts compute in float32 by calling `.float()`; here that stays in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def real(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def lower(raw):
    """Strictly lower-triangular in the channel axes."""
    return torch.tanh(raw) * torch.ones(raw.shape[-4], raw.shape[-3]).tril(-1)[..., None, None]


def flow_log_prob():
    flow = Flow(Space((3,)), couplings=3, hidden=6).double()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.3 * torch.randn_like(p))
    names = [n for n, _ in flow.named_parameters()]

    def log_prob(z, *parameters):
        class Call(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.flow = flow

            def forward(self, z):
                return FlowDistribution(self.flow).log_prob(z)

        values = {f"flow.{n}": p for n, p in zip(names, parameters, strict=True)}
        return torch.func.functional_call(Call(), values, (z,))

    return log_prob, (real(2, 2, 3), *(p.detach().clone().requires_grad_() for p in flow.parameters()))


def codes_log_prob():
    prior = Autoregressive(Space((2, 2), "codes", 3), width=4, layers=1, heads=2).double()
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.3 * torch.randn_like(p))
    names = [n for n, _ in prior.named_parameters()]
    codes = torch.randint(3, (5, 2, 2))

    def log_prob(*parameters):
        class Call(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.prior = prior

            def forward(self, codes):
                return AutoregressiveCodes(self.prior).log_prob(codes)

        values = {f"prior.{n}": p for n, p in zip(names, parameters, strict=True)}
        return torch.func.functional_call(Call(), values, (codes,))

    return log_prob, tuple(p.detach().clone().requires_grad_() for p in prior.parameters())


KNOWN = torch.tensor([[1.0], [0.0], [0.0]])
LEVELS = torch.tensor([0.0, 17.0, 254.0, 255.0, 128.0, 3.0, 255.0, 0.0]).double().reshape(2, 2, 2) / 255
DENSITIES = {
    Gaussian: lambda: (lambda v, a, b: Gaussian(a, b, 2).log_prob(v), (real(2, 3, 4), real(3, 4), real(3, 4))),
    Laplace: lambda: (lambda v, a, b: Laplace(a, b, 2).log_prob(v), (real(2, 3, 4), real(3, 4), real(3, 4))),
    BestScale: lambda: (lambda v, a: torch.cat([BestScale(f, a, torch.zeros(()), 2).log_prob(v)
                                                for f in (Gaussian, Laplace)]), (real(2, 3, 4), real(2, 3, 4))),
    Bernoulli: lambda: (lambda v, a: Bernoulli(a, 2).log_prob(v), (torch.rand(3, 4).double().requires_grad_(),
                                                                    real(2, 3, 4))),
    LogisticMixture: lambda: (
        lambda w, m, s, c: LogisticMixture(w.log_softmax(-4), m, s - 1, lower(c)).log_prob(LEVELS),
        (real(3, 1, 2, 2), real(3, 2, 2, 2), real(3, 2, 2, 2), real(3, 2, 2, 2, 2))),
    GaussianMixture: lambda: (
        lambda z, w, m, f: GaussianMixture(w.log_softmax(0), m, f.triu(1) + torch.diag_embed(f.diagonal(0, 1, 2).exp()),
                                           (2, 1, 1)).log_prob(z),
        (real(4, 2, 1, 1), real(3), real(3, 2), real(3, 2, 2))),
    FlowDistribution: flow_log_prob,
    FullGaussian: lambda: (lambda v, a, f: FullGaussian(a, f.tril(-1) + f.diagonal(0, 1, 2).exp().diag_embed()).log_prob(v),
                           (real(2, 3, 4), real(3, 4), real(3, 4, 4))),
    ClassPosterior: lambda: (lambda v, a: ClassPosterior(a, torch.eye(3, 4).double() * KNOWN).log_prob(v),
                             (real(2, 3, 4), real(3, 4))),
    AutoregressiveCodes: codes_log_prob,
}
"""For each distribution, log p as a function of its value and parameters, and where to differentiate it."""


CONSTANT = (Implicit, Point, Quantized, UniformSphere, UniformClass, UniformCodes)
"""Their log p is the same wherever a draw can lie, or there is none."""
ELSEWHERE_DENSITIES = {
    "Student": "test_likelihoods.py", "Categorical": "test_likelihoods.py", "ContinuousBernoulli": "test_likelihoods.py",
    "BetaBinomial": "test_likelihoods.py", "VonMisesFisher": "test_posteriors.py", "RelaxedBernoulli": "test_posteriors.py",
    "RelaxedCategorical": "test_posteriors.py", "FlowedGaussian": "test_flows.py", "EvenMixture": "test_flows.py",
    "Transported": "test_fit_prior.py", "WrappedNormal": "test_hyperbolic.py", "SecondStage": "test_two_stage.py",
    "RiemannianUniform": "test_riemannian.py", "Hamiltonian": "test_hamiltonian.py"}
"""Tested in the file of their family."""


def concrete(kind):
    below = [c for sub in kind.__subclasses__() for c in concrete(sub)]
    return below + ([kind] if not kind.__abstractmethods__ and kind.__module__.startswith("reparam.") else [])


@pytest.mark.parametrize("kind", concrete(Distribution), ids=lambda c: c.__name__)
def test_log_prob_has_its_gradient(kind):
    if kind in CONSTANT:
        return
    if kind.__name__ in ELSEWHERE_DENSITIES:
        text = (Path(__file__).parent / ELSEWHERE_DENSITIES[kind.__name__]).read_text(encoding="utf-8")
        assert "gradcheck" in text
        assert kind.__name__ in text
        return
    assert kind in DENSITIES, f"add a row for {kind.__name__} to DENSITIES"
    function, inputs = DENSITIES[kind]()
    assert gradcheck(function, inputs)


@pytest.mark.parametrize("kind", [Gaussian, Laplace], ids=lambda c: c.__name__)
def test_samples_are_differentiable_in_the_parameters(kind):
    def draw(a, b):
        torch.manual_seed(1)
        return kind(a, b).rsample((3,))

    assert gradcheck(draw, (real(2, 3), real(2, 3)))
    assert not kind(real(2, 3), real(2, 3)).sample((3,)).requires_grad


def test_flow_samples_are_differentiable_in_the_noise():
    flow = Flow(Space((3,)), couplings=3, hidden=6).double()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.3 * torch.randn_like(p))
    assert gradcheck(flow.decode, (real(2, 3),))


def traced(log_var, loc, prior_loc, links, samples):
    """A tiny model by hand: q and p are Gaussians, and the image's mean is a non-linear function of z."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn((samples, *loc.shape), dtype=torch.float64, generator=generator)
    z = loc + (log_var / 2).exp() * noise
    q, p = Gaussian(loc, log_var), Gaussian(prior_loc, torch.full_like(prior_loc, 0.2))

    def decode(z):
        return Gaussian(torch.sin(z @ links).unflatten(-1, (1, 2, 2)), torch.zeros((), dtype=torch.float64), 3)

    x, px = torch.linspace(0, 1, 4 * len(loc), dtype=torch.float64).reshape(-1, 1, 2, 2), decode(z)
    return Trace(x, (Layer(z, q, p),), px, px.log_prob(x), z, decode)


ELSEWHERE = ("dreg", "stl", "piwae", "spectral_penalty", "latent_noise", "equivariance", "balanced_kl",
             "commitment", "codebook", "entropy", "classify")
"""Terms whose gradient is by design not that of their value, or that read other latents: tested in their own files."""


@pytest.mark.parametrize("name", sorted(ROLES["term"].parts))
def test_a_term_has_its_gradient(name, written):
    if name in ELSEWHERE:
        return
    objective = parse_objective(written(ROLES["term"], name))

    def value(*inputs):
        torch.manual_seed(1)
        return objective.terms[0][1](traced(*inputs, objective.samples))

    assert gradcheck(value, (real(3, 2), real(3, 2), real(2), real(2, 4)))


def test_an_objective_has_its_gradient():
    objective = parse_objective("nll + 3*kl - 0.5*iw_bound(4) + linear(0, 1, 0.5)*free_bits(0.01)")

    def value(*inputs):
        return objective(traced(*inputs, objective.samples), Context(torch.tensor(0.3)))

    assert gradcheck(value, (real(3, 2), real(3, 2), real(2), real(2, 4)))


@pytest.mark.parametrize("log_scale", [-9.5, 4.5])
@pytest.mark.parametrize("far", [-30.0, 0.0, 30.0])
def test_logistic_gradients_are_finite_however_narrow_or_far(log_scale, far):
    means = torch.full((1, 1, 1, 256), far, dtype=torch.float32, requires_grad=True)
    scales = torch.full((1, 1, 1, 256), log_scale, dtype=torch.float32, requires_grad=True)
    d = LogisticMixture(torch.zeros(1, 1, 1, 256), means, scales, torch.zeros(1, 1, 1, 1, 256))
    log_p = d.log_prob((torch.arange(256, dtype=torch.float32) / 255).reshape(1, 1, 256))
    log_p.backward()
    assert log_p.isfinite()
    assert means.grad.isfinite().all()
    assert scales.grad.isfinite().all()
    assert means.grad.any()


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_bernoulli_gradients_are_finite_however_sure(logit):
    logits = torch.full((1, 1, 2), logit, dtype=torch.float32, requires_grad=True)
    Bernoulli(logits).log_prob(torch.tensor([0.0, 1.0]).reshape(1, 1, 2)).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


def of_posterior(name, q):
    """The named term on a trace whose one posterior is `q`."""
    none = torch.zeros(1, 2, dtype=torch.float64)
    trace = Trace(torch.zeros(2, 1, 1, 1), (Layer(none, q, None),), None, none)
    return ROLES["term"].make(name)(trace)


CODES = torch.zeros(2, 3, dtype=torch.int64)
FIXED = torch.linspace(-1, 1, 12).double().reshape(2, 6)
READING_POSTERIORS = {
    "commitment": lambda: (lambda raw: of_posterior(
        "commitment", Quantized(CODES, raw, raw, FIXED, ())), (real(2, 6),)),
    "codebook": lambda: (lambda vectors: of_posterior(
        "codebook", Quantized(CODES, vectors, FIXED, vectors, ())), (real(2, 6),)),
    "entropy(0.7)": lambda: (lambda raw, a, b: of_posterior(
        "entropy(0.7)", Quantized(CODES, raw, raw, raw, (a, b))), (real(2, 6), real(2, 1, 3, 4), real(2, 1, 3, 2))),
    "classify": lambda: (lambda logits: of_posterior("classify", ClassPosterior(logits, torch.eye(2, 3).double())),
                         (real(2, 3),)),
}


@pytest.mark.parametrize("name", READING_POSTERIORS)
def test_a_term_of_codes_or_classes_has_its_gradient(name):
    function, inputs = READING_POSTERIORS[name]()
    assert gradcheck(function, inputs)
