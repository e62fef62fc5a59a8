"""The Hamiltonian posterior, against autograd's Jacobian, quadrature and a model whose evidence is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from reparam.distributions.gaussian import Gaussian
from reparam.downstream.regret import encoded
from reparam.errors import UsageError
from reparam.exporters.programs import programs
from reparam.models.posteriors.hamiltonian import Hamiltonian, Leapfrog, cooling
from reparam.models.sampler import Sampler
from reparam.objectives.objective import parse_objective
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel

F64 = {"dtype": torch.float64}
IMAGE = (3, 6, 5)


def bent(z):
    """An unnormalised log density (K, B) that is no Gaussian's and ties its dimensions together."""
    return -(0.1 * z**4 - z.sin()).sum(-1) - 0.5 * (z.sum(-1) - 0.5) ** 2


def cooled(steps, first=0.6):
    return cooling(torch.tensor(first, **F64), steps) if steps else torch.ones(1, **F64)


def law(dims=2, steps=3, batch=1, step=0.4, momenta=16, target=bent):
    base = Gaussian(0.3 * torch.randn(batch, dims, **F64), 0.3 * torch.randn(batch, dims, **F64))
    leapfrog = Leapfrog(target, torch.full((batch, dims), step, **F64), cooled(steps))
    return Hamiltonian(base, leapfrog, momenta)


def test_the_temperature_falls_to_one():
    roots = cooled(5)
    assert roots[0].item() == pytest.approx(0.6) and roots[-1].item() == pytest.approx(1)
    assert (roots.diff() > 0).all()


def test_the_steps_run_backwards():
    leapfrog = law(batch=5, dims=4, steps=6).leapfrog
    z, momentum = torch.randn(2, 3, 5, 4, **F64)
    for a, b in zip(leapfrog.inverse(*leapfrog(z, momentum)), (z, momentum), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_steps_keep_volume(steps):
    leapfrog = law(steps=steps).leapfrog
    jacobian = torch.autograd.functional.jacobian(
        lambda both: torch.cat([t[0] for t in leapfrog(both[None, :2], both[None, 2:])]), torch.randn(4, **F64))
    assert not torch.allclose(jacobian, torch.eye(4, **F64), atol=0.1)
    assert jacobian.det().item() == pytest.approx(1, abs=1e-10)


def test_each_force_is_the_gradient_of_its_own_draw(monkeypatch):
    monkeypatch.setattr("reparam.models.posteriors.hamiltonian.AT_ONCE", 10)  # in pieces
    z = torch.randn(3, 7, 5, 2, **F64, requires_grad=True)
    torch.testing.assert_close(law(batch=5).leapfrog.force(z), torch.autograd.grad(bent(z).sum(), z)[0])


def test_without_steps_it_is_the_gaussian():
    q = law(batch=3)
    none = Hamiltonian(q.base, Leapfrog(bent, q.leapfrog.step, cooled(0)))
    z = none.rsample((4,))
    torch.testing.assert_close(none.log_prob(z), q.base.log_prob(z))
    torch.testing.assert_close(none.log_prob(z.clone()), q.base.log_prob(z))
    assert torch.equal(none.mean, q.base.mean)


def test_the_density_of_any_value_integrates_to_one():
    q = law(dims=1, momenta=1000)
    x = torch.linspace(-6, 6, 121, **F64).reshape(-1, 1, 1)
    assert float(q.log_prob(x).exp().sum() * 12 / 120) == pytest.approx(1, abs=1e-2)


def test_what_a_draw_knows_stands_for_its_density():
    """E[1[a < z < b] exp(−log q)] = b − a, whatever the law of z; and so for the density elsewhere."""
    q = law(dims=1, momenta=100)
    z = q.rsample((20_000,))
    inside = ((z > -0.5) & (z < 1.0)).squeeze(-1)
    of_draws = inside * (-q.log_prob(z)).exp()
    assert float(of_draws.mean()) == pytest.approx(1.5, abs=5 * float(of_draws.std()) / math.sqrt(len(z)))
    few = z[:1000].clone()
    elsewhere = inside[:1000] * (-q.log_prob(few)).exp()
    assert float(elsewhere.mean()) == pytest.approx(1.5, abs=0.15)


def linear(steps, n=2000, wider=2.0):
    """log weights (n,) of x = W z + noise, whose Gaussian has `wider` times the posterior's variance; and log p(x)."""
    w = torch.tensor([[1.0, 0.5], [0.2, -1.0], [0.7, -3 / 7]], **F64)
    x, noise, zero = torch.tensor([1.0, -0.5, 0.8], **F64), 0.5, torch.zeros(2, **F64)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(3, **F64), w @ w.mT + noise * torch.eye(3, **F64))
    precision = torch.eye(2, **F64) + w.mT @ w / noise

    def log_joint(z):
        px = Gaussian(z @ w.mT, torch.full((3,), math.log(noise), **F64))
        return px.log_prob(x) + Gaussian(zero, zero).log_prob(z)

    loc = torch.linalg.solve(precision, w.mT @ x / noise)
    base = Gaussian(loc[None], (wider / precision.diagonal()).log()[None])
    z = (q := Hamiltonian(base, Leapfrog(log_joint, 0.1 + 0 * loc[None], cooled(steps, wider**-0.5)))).rsample((n,))
    return (log_joint(z) - q.log_prob(z)).squeeze(-1), float(evidence.log_prob(x))


def test_the_bound_of_a_linear_model_rises_to_the_best_that_keeps_volume():
    """Of a Gaussian with D times the posterior's variance in each of 2 dimensions, the bound is D − 1 − log D below the
    evidence; slowly cooled, positions and momenta both end with √D times their variance, and no map that keeps volume is
    better: 2 (√D − 1) − log D. The weights average to p(x) on the way."""
    gaps = []
    for steps in (0, 8, 60):
        log_w, evidence = linear(steps)
        gaps.append((evidence - float(log_w.mean()), float(log_w.std()) / math.sqrt(len(log_w))))
        assert float(log_w.logsumexp(0)) - math.log(len(log_w)) == pytest.approx(evidence, abs=0.05)
    (none, a), (few, _), (many, b) = gaps
    assert none == pytest.approx(1 - math.log(2), abs=4 * a)
    assert many == pytest.approx(2 * (math.sqrt(2) - 1) - math.log(2), abs=4 * b)
    assert many < few < none


def test_log_prob_has_its_gradient():
    def log_prob(value, loc, log_var, step, roots):
        torch.manual_seed(1)
        q = Hamiltonian(Gaussian(loc, log_var), Leapfrog(bent, step.exp(), roots.cumsum(0)), 2)
        z = q.rsample((2,))
        return torch.cat([q.log_prob(z), q.log_prob(value), bent(z)])

    def real(*shape):
        return (0.3 * torch.randn(*shape, **F64)).requires_grad_()

    roots = torch.tensor([0.6, 0.3, 0.1], **F64, requires_grad=True)
    assert gradcheck(log_prob, (real(2, 3, 2), real(3, 2), real(3, 2), real(3, 2), roots))


MODELS = {"flat": {"latent": "flat(4)"}, "spatial": {"latent": "spatial(2, 3)"},
          "conditional": {"latent": "conditional(4, 3)"}, "flow": {"prior": "flow"},
          "ladder": {"latent": "top_down(4, (1,), 2, 8, 2)", "encoder": "conv(width=8)", "decoder": "conv(width=8)"}}
every_model = pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)


@every_model
def test_a_model_learns_with_it(small, images, fields):
    vae, x = small(IMAGE, posterior="hamiltonian(2)", **fields), images(8, IMAGE)
    parse_objective("nll + kl")(vae(x, samples=2, y=torch.arange(8) % 3)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
    own = [p.grad for name, p in vae.named_parameters() if name.endswith((".step", ".cold"))]
    assert len(own) == 2 and all(g.any() for g in own)


@every_model
def test_inference_is_the_same_without_gradients_around_it(small, images, fields):
    vae, x = small(IMAGE, posterior="hamiltonian(2)", **fields).eval(), images(3, IMAGE)

    def run():
        torch.manual_seed(1)
        trace = vae(x * 1, samples=2)
        return trace.layers[0].z, trace.layers[0].q.log_prob(trace.layers[0].z), vae.encode(x), vae.encode(x, sample=True)

    expected = run()
    assert expected[0].requires_grad
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            for a, b in zip(run(), expected, strict=True):
                assert not a.requires_grad
                torch.testing.assert_close(a, b)


def test_draws_move_towards_what_explains_the_image(small, images):
    """From rest, the Gaussian's mean falls towards where log p(x, z) is higher."""
    vae, x = small(IMAGE, posterior="hamiltonian(8)", likelihood="gaussian(sigma=0.5)").eval(), images(16, IMAGE)
    seen = vae.observe(x)
    before, after = vae.latent.posterior(seen.h).mean[None], vae.encode(x)[None]
    joint = [seen.log_px(z) + vae.latent.prior().log_prob(z) for z in (before, after)]
    assert (joint[1] > joint[0]).all()


def test_scores_of_one_image_do_not_depend_on_the_others(small, images):
    recipe = Recipe(posterior="hamiltonian(2)", encoder="mlp((8,))", decoder="mlp((8,))", latent="flat(3)",
                    likelihood="gaussian(0.3)")
    model = ImageModel(Sampler(small(IMAGE, posterior="hamiltonian(2)").eval()), Config(recipe, IMAGE))
    x = images(4, IMAGE)
    together, alone = model.score(x.numpy(), samples=3), model.score(x[1:2].numpy(), samples=3)
    assert together[1] == pytest.approx(alone[0], rel=1e-5)
    with pytest.raises(UsageError, match="regret fits"):
        encoded(model, x)
    with pytest.raises(UsageError, match="which these programs cannot take"):
        programs(model)


@pytest.mark.parametrize(("fields", "said"), [
    ({"latent": "semi_supervised(4, 3)"}, "semi_supervised draws z for each class"),
    ({"likelihood": "implicit"}, "gives images no density"),
    ({"decoder": "dcgan(8)"}, "makes it depend on the others"),
    ({"prior": "sphere"}, "lives in real numbers"),
])
def test_parts_that_do_not_go_with_it_are_named(small, fields, said):
    with pytest.raises(UsageError, match=said):
        small((1, 16, 16), posterior="hamiltonian", **fields)
