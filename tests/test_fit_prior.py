"""Priors that are fitted to the codes of a trained model, and the velocities that carry noise to them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import trained_stage
from scipy import stats
from torch import nn

from reparam.cli.app import main
from reparam.errors import UsageError
from reparam.models.build import build_model
from reparam.models.draw import Draw
from reparam.models.priors import FlowMatching, Standardize
from reparam.models.rectified_flow import EXACT, Velocity
from reparam.models.sampler import Sampler
from reparam.models.space import Space
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.pretrained.image_model import ImageModel
from reparam.runs.folder import Run
from reparam.trainer.assembly import Assembly
from reparam.trainer.stages.base import StageBudget
from reparam.trainer.stages.prior import PriorStage, codes_a_step, codes_to_fit
from reparam.trainer.stages.sequence import TimeSplit

MEAN, SPREAD = 1.5, 0.5


class ToGaussian(Velocity):
    """The velocity that carries N(0, I) to N(MEAN, SPREAD² I), known in closed form; `v` says how far it is off."""

    def __init__(self, dims=1, off=0.0):
        nn.Module.__init__(self)
        self.shape, self.off = (dims,), off

    def forward(self, z, t, y=None, context=None):
        t = t.view(-1, 1)
        variance = (1 - t) ** 2 + (t * SPREAD) ** 2
        return MEAN + (t * SPREAD**2 - (1 - t)) / variance * (z - t * MEAN) + self.off


def test_the_right_velocity_carries_noise_to_the_data():
    noise = torch.randn(50_000, 1)
    z = ToGaussian().carry(noise, 50)
    torch.testing.assert_close(z, MEAN + SPREAD * noise, atol=2e-3, rtol=0)


def test_heuns_error_falls_with_the_square_of_the_steps():
    noise = torch.linspace(-2, 2, 41)[:, None].double()
    errors = [float((ToGaussian().carry(noise, steps) - MEAN - SPREAD * noise).abs().max()) for steps in (16, 32, 64)]
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3.4


@pytest.mark.parametrize("dims", [1, 3, EXACT + 1])
def test_the_density_is_that_of_the_law_carried_to(dims):
    z = MEAN + SPREAD * torch.randn(6, dims)
    expected = torch.distributions.Normal(MEAN, SPREAD).log_prob(z).sum(1)
    # the divergence of this field is the same in every direction, so a random one tells it exactly
    torch.testing.assert_close(ToGaussian(dims).log_prob(z, 100), expected, atol=2e-3 * dims, rtol=1e-4)


class Bent(ToGaussian):
    """A field whose divergence changes from place to place."""

    def forward(self, z, t, y=None, context=None):
        return (z.flip(1) * 1.3).sin() * z


def test_the_density_has_its_gradient():
    """Of `Transported`, whose log p is that of its velocity at whitened codes; that of the divergence too, which a field
    that is linear in z would not show."""
    z = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda z: Bent(2).log_prob(z, 5), (z,))


def some_prior(dims=1):
    """Away from its start, so that the law is no Gaussian."""
    torch.manual_seed(4)
    prior = FlowMatching(Space((dims,)), "mlp(16, 2)", 60)
    with torch.no_grad():
        for p in prior.velocity.net.parameters():
            p.add_(0.4 * torch.randn_like(p))
        prior.whitening.loc.fill_(0.7)
        prior.whitening.scale.fill_(1.6)
    return prior


def test_density_and_draws_are_of_one_law():
    p = some_prior()()
    points = torch.linspace(-25, 25, 4001)[:, None]
    with torch.no_grad():
        mass = p.log_prob(points).exp().double() * 50 / 4000
        drawn = p.sample((20_000,))[:, 0].numpy()
    assert float(mass.sum()) == pytest.approx(1, abs=2e-3)
    cdf = mass.cumsum(0).numpy()
    assert stats.kstest(drawn, lambda v: np.interp(v, points[:, 0].numpy(), cdf)).pvalue > 1e-3
    assert stats.kstest((drawn - drawn.mean()) / drawn.std(), "norm").pvalue < 1e-6


def test_the_divergence_is_the_trace_of_the_jacobian():
    velocity = Velocity("mlp(16, 2)", (5,))
    for p in velocity.parameters():
        p.data += 0.3 * torch.randn_like(p)
    z = torch.randn(4, 5)
    v, divergence = velocity._with_divergence(z, 0.3)
    jacobian = torch.autograd.functional.jacobian(lambda z: velocity(z, torch.full((4,), 0.3)).sum(0), z)
    torch.testing.assert_close(divergence, jacobian.permute(1, 0, 2).diagonal(dim1=1, dim2=2).sum(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(v, velocity(z, torch.full((4,), 0.3)))


def test_beyond_exact_sums_the_divergence_is_estimated_without_bias():
    velocity = Velocity("mlp(16, 1)", (EXACT + 6,))
    for p in velocity.parameters():
        p.data += 0.2 * torch.randn_like(p)
    z = torch.randn(1, EXACT + 6)
    jacobian = torch.autograd.functional.jacobian(lambda z: velocity(z, torch.full((1,), 0.6))[0], z)[:, 0]
    with torch.no_grad():
        each = torch.stack([velocity._with_divergence(z, 0.6)[1][0] for _ in range(400)])
    assert abs(float(each.mean() - jacobian.trace())) < 4 * float(each.std()) / 20
    assert float(each.std()) > 0


def test_the_loss_is_least_for_the_right_velocity():
    """E‖(z − ε) − v*‖² = E_t Var(z − ε | z_t), by quadrature over the logit-normal times."""
    z = MEAN + SPREAD * torch.randn(200_000, 1)
    t = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.0005, 0.9995, 1000)).sigmoid()
    left = 1 + SPREAD**2 - (t * SPREAD**2 - (1 - t)) ** 2 / ((1 - t) ** 2 + (t * SPREAD) ** 2)
    losses = [float(ToGaussian(off=off).loss(z).mean()) for off in (0.0, 0.5)]
    assert losses[0] == pytest.approx(float(left.mean()), rel=0.01)
    assert losses[1] == pytest.approx(float(left.mean()) + 0.25, rel=0.01)


def test_guidance_goes_beyond_the_label():
    class Constant(Velocity):
        def __init__(self):
            nn.Module.__init__(self)

        def forward(self, z, t, y=None, context=None):
            return torch.full_like(z, 1.0 if y is None else 3.0)

    noise, y = torch.randn(4, 2), torch.zeros(4, dtype=torch.int64)
    for guidance, moved in ((0.0, 1.0), (1.0, 3.0), (2.0, 5.0)):
        torch.testing.assert_close(Constant().carry(noise, 4, y=y, guidance=guidance), noise + moved)
    torch.testing.assert_close(Constant().carry(noise, 4, guidance=2.0), noise + 1.0)


SHAPES = [(4,), (3, 8, 8), (2, 5, 7), (1, 2, 2), (2, 32, 24)]
NETS = [(name, shape) for name in sorted(ROLES["velocity"].parts) for shape in SHAPES
        if name == "mlp" or len(shape) == 3]


@pytest.mark.parametrize(("name", "shape"), NETS, ids=str)
def test_a_velocity_starts_at_rest_and_learns_everywhere(name, shape, written):
    velocity = Velocity(written(ROLES["velocity"], name), shape, context=1 if len(shape) == 3 else 0, classes=3)
    z, t, y = torch.randn(6, *shape), torch.rand(6), torch.tensor([0, 1, 2, -1, 1, 2])
    context = torch.randn(6, 1, *shape[1:]) if len(shape) == 3 else None
    assert velocity(z, t, y, context).abs().max() == 0
    with torch.no_grad():
        for p in velocity.parameters():
            p.add_(0.1 * torch.randn_like(p))
    velocity.eval()  # in training labels are dropped at random, which would pass for anything
    v = velocity(z, t, y, context)
    assert v.shape == z.shape and v.dtype == torch.float32
    velocity.loss(z, y, context).sum().backward()
    still = [k for k, p in velocity.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
    for other in ([velocity(z, t.flip(0), y, context), velocity(z, t, y.flip(0), context)]
                  + ([velocity(z, t, y, context.flip(0))] if context is not None else [])):
        assert not torch.allclose(v, other)  # time, label and context are heard


@pytest.mark.parametrize(("net", "shape", "told"), [
    ("dit", (4,), "use mlp"), ("unet", (4,), "use mlp"), ("mlp(0)", (4,), "width must be at least 1"),
    ("resnet", (4,), "unknown velocity"), ("dit(10, 2, 4)", (2, 4, 4), "divides its width")])
def test_networks_that_do_not_fit_are_refused(net, shape, told):
    with pytest.raises(UsageError, match=told):
        Velocity(net, shape)


@pytest.mark.parametrize("shape", [(3,), (2, 4, 5)])
def test_whitening_makes_unit_scale_and_counts_its_volume(shape):
    scale = torch.tensor([0.1, 2.0, 30.0][: shape[0]]).view(-1, *[1] * (len(shape) - 1))
    codes, whitening = 5 + scale * torch.randn(3000, *shape), Standardize(shape)
    assert torch.equal(whitening(codes), codes) and whitening.log_det == 0  # the identity until it is fitted
    whitening.fit(codes)
    u = whitening(codes)
    axes = [0, *range(2, u.dim())]
    torch.testing.assert_close(u.mean(axes), torch.zeros(shape[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(u.std(axes), torch.ones(shape[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(whitening.inverse(u), codes)
    jacobian = torch.autograd.functional.jacobian(whitening, codes[0]).reshape(math.prod(shape), -1)
    torch.testing.assert_close(whitening.log_det, jacobian.slogdet().logabsdet)




def model_of_codes(codes, *, latent="flat(2)", **changes):
    """A model whose posterior is a point at the 'image', so that codes are what is given as images."""
    recipe = Recipe(encoder="mlp(())", decoder="mlp(())", latent=latent, posterior="deterministic",
                    likelihood="gaussian(sigma=1.0)").but(**changes)
    model = build_model(recipe, (1, 1, codes.shape[1]))
    model.encoder = nn.Flatten()
    with torch.no_grad():
        model.latent.posterior.loc[1].weight.copy_(torch.eye(codes.shape[1]))
        model.latent.posterior.loc[1].bias.zero_()
    return Sampler(model.eval()), recipe, codes[:, None, None]


def ring(n):
    """Three tight clusters on a circle of radius 10 around (30, 0), and which one."""
    y = torch.randint(3, (n,))
    angle = 2 * math.pi * y / 3
    return torch.stack([30 + 10 * angle.cos(), 10 * angle.sin()], 1) + 0.5 * torch.randn(n, 2), y


def share_near(z, y=None):
    """Share of points within four spreads of a cluster, or of theirs."""
    angle = 2 * math.pi * torch.arange(3) / 3
    centres = torch.stack([30 + 10 * angle.cos(), 10 * angle.sin()], 1)
    distance = torch.cdist(z, centres)
    return float(((distance.min(1).values if y is None else distance[:, y]) < 2).float().mean())


@pytest.mark.parametrize("prior", ["mixture(3)", "flow_matching('mlp(64, 2)')", "spline_flow(2, hidden=32)",
                                   "flow(4, hidden=32)", "autoregressive_flow(2, hidden=32)"])
def test_a_fitted_prior_finds_clusters_far_from_the_origin(prior):
    torch.manual_seed(1)
    codes, _ = ring(2000)
    model, recipe, x = model_of_codes(codes, fitted_prior=prior)
    before = torch.get_rng_state()
    written = trained_stage("fitted_prior", model, recipe, x, steps=400)
    assert torch.equal(torch.get_rng_state(), before)
    assert written.partition("(")[0] == prior.partition("(")[0]
    assert share_near(model.codes(500, Draw(fitted=False))) < 0.01
    test, _ = ring(500)
    with torch.no_grad():  # in nats; the clusters' own entropy is 2.55, and the best Gaussian has 6.75
        assert 2.4 < -float(model.fitted_prior().log_prob(test).mean()) < 4.5
    drawn = model.codes(2000)
    assert share_near(drawn) > 0.3
    torch.testing.assert_close(drawn.mean(0), test.mean(0), atol=3.0, rtol=0)  # they begin 30 away
    assert not any(p.requires_grad for p in model.fitted_prior.parameters())


def test_labels_steer_a_fitted_flow():
    torch.manual_seed(1)
    codes, y = ring(3000)
    model, recipe, x = model_of_codes(codes, fitted_prior="flow_matching('mlp(64, 2)')")
    assert trained_stage("fitted_prior", model, recipe, x, y, steps=500) == "flow_matching('mlp(64, 2)', classes=3)"
    for label in range(3):
        assert share_near(model.codes(300, Draw(label=label)), label) > 0.9
    drawn = model.codes(900)
    assert all(0.15 < share_near(drawn, label) < 0.5 for label in range(3))
    with pytest.raises(UsageError, match="classes 0 to 2; got 3"):
        model.codes(1, Draw(label=3))
    with pytest.raises(UsageError, match="steps must be a whole number from 1"):
        model.codes(1, Draw(steps=0))


def test_what_a_plain_prior_cannot_do_is_told(small):
    latent = small().latent
    with pytest.raises(UsageError, match="without steps or guidance"):
        latent.generate(1, Draw(steps=3))
    with pytest.raises(UsageError, match="without steps or guidance"):
        latent.generate(1, Draw(guidance=2.0))
    with pytest.raises(UsageError, match="fit-prior RUN --prior flow_matching"):
        latent.generate(1, Draw(label=0))


@pytest.mark.parametrize("fields", [
    {"latent": "flat(4)"}, {"latent": "spatial(2, 4)", "encoder": "conv(8)", "decoder": "conv(8)"},
    {"latent": "top_down(3, (1, 2), 2, 8, 2)", "encoder": "resnet(width=8, patch=2)",
     "decoder": "resnet(width=8, patch=1)"}], ids=lambda f: f["latent"])
def test_models_carry_their_fitted_prior_into_the_file(fields, tmp_path):
    recipe = Recipe(fitted_prior="flow_matching('mlp(16, 1)', 3)", encoder="mlp((16,))", decoder="mlp((16,))").but(**fields)
    model, x = Sampler(build_model(recipe, (1, 8, 8)).eval()), torch.rand(40, 1, 8, 8)
    fitted = trained_stage("fitted_prior", model, recipe, x, steps=9)
    assert model.fitted_prior.velocity(torch.ones(1, *model.model.latent.fit_space.shape), torch.ones(1)).abs().max() > 0
    shape = model.model.latent.fit_space.shape
    assert model.fitted_prior.shape == shape and model.fitted_prior.whitening.scale.std() != 0
    save_model(tmp_path, model, Config(recipe, (1, 8, 8), stages={"fitted_prior": fitted}))
    loaded, config = load_model(tmp_path)
    torch.manual_seed(3)
    drawn = model.codes(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, loaded.codes(4))
    torch.manual_seed(3)
    assert not torch.equal(drawn, loaded.codes(4, Draw(fitted=False)))
    images = ImageModel(loaded, config)
    mine, own = (images.sample_pixels(3, Draw(fitted=fitted), seed=0) for fitted in (True, False))
    assert torch.equal(mine, images.sample_pixels(3, seed=0)) and not torch.equal(mine, own)


def test_integer_codes_get_an_autoregressive_prior():
    """Codes of images that are all alike have one likely sequence, which the fit must find."""
    recipe = Recipe(encoder="conv(8)", decoder="conv(8)", latent="spatial(2, 4)", posterior="vq(8)", prior="uniform",
                    fitted_prior="autoregressive(16, 1, 2)")
    model, x = Sampler(build_model(recipe, (1, 8, 8)).eval()), torch.ones(50, 1, 8, 8) * 0.7
    codes = codes_to_fit(model.model, x)
    assert not codes.is_floating_point() and (codes == codes[0]).all()
    trained_stage("fitted_prior", model, recipe, x, steps=500)
    right = (model.fitted_prior().sample((200,)).flatten(1) == codes[:200].flatten(1)).float().mean()
    assert right > 0.95  # one in eight by chance
    assert PriorStage().choice(recipe.but(fitted_prior="auto"), model.model) == "autoregressive"
    assert float(model.model.latent.prior().log_prob(codes[:1])) < float(model.fitted_prior().log_prob(codes[:1])) - 3


def test_an_image_gives_several_codes_as_far_as_memory_goes(small, monkeypatch):
    model, x = small((1, 4, 4)), torch.rand(6000, 1, 4, 4)
    assert len(codes_to_fit(model, x[:300])) == 20_100  # few images, many draws
    assert len(codes_to_fit(model, x[:50])) == 5_000
    codes = codes_to_fit(model, x)
    assert len(codes) == 24_000
    with torch.no_grad():
        q = model.latent.posterior(model.encoder(x))
    for draw in codes.split(6000):  # image after image, over and over: standard normal noise around each one's mean
        noise = (draw - q.loc) / (0.5 * q.log_var).exp()
        assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05
    assert not torch.equal(codes[:6000], codes[6000:12_000])
    assert len(codes_to_fit(model, x, 1, 10_000)) == 12_000
    monkeypatch.setattr("reparam.trainer.stages.prior.MOST_NUMBERS", 2 * 6000 * 4)
    assert len(codes_to_fit(model, x)) == 12_000


@pytest.mark.parametrize("n", [7, 12, 19, 20, 27, 36, 39])
def test_a_mixture_is_fitted_to_all_classes(small, monkeypatch, n):
    """Images often lie class by class: the last ones count as much as the first."""
    seen = []
    monkeypatch.setattr("reparam.trainer.stages.prior.codes_to_fit",
                        lambda model, x, *numbers: seen.append((x, numbers)) or codes_to_fit(model, x, *numbers))
    model, x = small((1, 4, 4)), (torch.arange(n) / n).view(n, 1, 1, 1).expand(n, 1, 4, 4)
    trained_stage("fitted_prior", Sampler(model), Recipe(fitted_prior="mixture(1)"), x, codes=20)
    assert seen[0][1] == (1, 20)
    rows = (seen[0][0][:, 0, 0, 0] * n).round().long()
    assert len(rows) == min(n, 20) and rows[0] == 0 and rows[-1] >= n - 2 and rows.diff().max() <= -(-n // 20)


@pytest.mark.parametrize(("fields", "name"), [
    ({}, "mixture"), ({"latent": "flat(300)"}, "flow_matching"), ({"prior": "flow"}, None), ({"fitted_prior": "none"}, None),
    ({"posterior": "vmf", "prior": "sphere"}, None), ({"latent": "conditional(4, 3)"}, None),
    ({"fitted_prior": "flow"}, "flow")])
def test_what_is_fitted_follows_from_the_recipe(fields, name):
    recipe = Recipe(encoder="mlp((8,))", decoder="mlp((8,))", prior_share=0.5).but(**fields)
    model = build_model(recipe, (1, 4, 4))
    call = PriorStage().choice(recipe, model)
    assert (call.partition("(")[0] if call else None) == name
    assert TimeSplit.of(recipe, model).model == (0.5 if name in ("flow_matching", "flow") else 1.0)


def test_the_budget_of_a_fit_is_a_share_of_the_minutes_or_as_many_steps():
    state, split = SimpleNamespace(seconds=60.0, step=70), TimeSplit({"fitted_prior": 0.25, "resampler": 0.25})

    def budget(recipe, precision):
        return split.budget(PriorStage(), recipe, state, precision)

    assert budget(Recipe(minutes=2), "bf16") == StageBudget(minutes=0.5, precision="bf16")
    assert budget(Recipe(), "bf16") == StageBudget(minutes=0.5, precision="bf16")
    assert budget(Recipe(steps=70), "float32") == StageBudget(70)
    assert budget(Recipe(epochs=1), "float32") == StageBudget(70)


@pytest.mark.parametrize(("fields", "told"), [
    ({"fitted_prior": "normal"}, "nothing to learn"), ({"fitted_prior": "autoregressive"}, "density over integer codes"),
    ({"fitted_prior": "flow", "posterior": "vmf", "prior": "sphere"}, "neither one layer of real numbers nor integer codes"),
    ({"fitted_prior": "flow_matching('dit')"}, "use mlp"), ({"fitted_prior": "flow_matching(steps=0)"}, "from 1 to 1000")])
def test_what_cannot_be_fitted_is_told(fields, told):
    recipe = Recipe(encoder="mlp((8,))", decoder="mlp((8,))", latent="flat(4)").but(**fields)
    model = Sampler(build_model(recipe, (1, 4, 4)).eval())
    with pytest.raises(UsageError, match=told):
        trained_stage("fitted_prior", model, recipe, torch.rand(20, 1, 4, 4), steps=1)


def test_a_prior_that_is_only_fitted_cannot_be_learned_with_the_model():
    with pytest.raises(UsageError, match='--fitted-prior "flow_matching"'):
        build_model(Recipe(prior="flow_matching"), (1, 8, 8))


@pytest.mark.parametrize(("net", "size", "rate"), [
    ("mlp(8, 1)", 256, 0.002), ("unet(8)", 64, 0.001), ("dit(16, 1, 2)", 64, 0.001)])
def test_codes_a_step_and_learning_rate_of_a_fit_are_those_of_its_network(net, size, rate, small, monkeypatch):
    model = small((1, 8, 8), latent="spatial(2, 2)", encoder="resnet(8, patch=2)", decoder="resnet(8, patch=2)")
    seen = []
    monkeypatch.setattr("reparam.trainer.stages.base.training", lambda _, batches, __, optimization, **kw: seen.append(
        (len(next(batches)), optimization.optimizer)) or iter(()))
    trained_stage("fitted_prior", Sampler(model), Recipe(fitted_prior=f"flow_matching({net!r})"), torch.rand(30, 1, 8, 8))
    assert seen == [(size, f"adamw(lr={rate})")]
    prior = FlowMatching(Space((2, 4, 4)), net)
    assert [codes_a_step(prior, torch.device(where)) for where in ("cpu", "cuda")] == [size, 256]


def test_maps_of_codes_get_a_network_of_their_size():
    assert type(FlowMatching(Space((4, 8, 8))).velocity.net).__name__ == "MLPVelocity"
    assert type(FlowMatching(Space((4, 16, 16))).velocity.net).__name__ == "UNetVelocity"
    assert type(FlowMatching(Space((2000,))).velocity.net).__name__ == "MLPVelocity"


def test_less_temperature_draws_nearer_to_the_middle():
    prior = FlowMatching(Space((2,)), "mlp(8, 1)", 4)
    spread = [prior.draw((2000,), Draw(temperature)).std() for temperature in (1.0, 0.5, 0.0)]
    assert spread[0] > 1.8 * spread[1] > 0 and spread[2] == 0
    assert torch.equal(prior().mean, prior.draw((1,), Draw(0.0))[0])


def told(capsys, *arguments):
    """The command's exit code, and what it said."""
    code = main([*map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_command_fits_a_prior_and_completes_the_folder_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--encoder", "mlp((32,))", "--decoder", "mlp((32,))", "--latent", "flat(4)"]
    assert main(["train", "digits", "--out", "run", "--steps", "40", *small, "--fitted-prior", "none"]) == 0
    weights = load_model("run")[0].model.decoder.state_dict()
    before = {name: (tmp_path / "run" / name).read_bytes() for name in ("samples.png", "report.html", "evaluation.json")}
    capsys.readouterr()
    assert main(["fit-prior", "run", "--prior", "flow_matching('mlp(16, 1)')", "--steps", "20", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["prior"] == "flow_matching('mlp(16, 1)', classes=10)"
    sampler, config = load_model("run")
    assert config.fitted_prior == facts["prior"] and Run.read("run").recipe.fitted_prior == "flow_matching('mlp(16, 1)')"
    assert all(torch.equal(v, sampler.model.decoder.state_dict()[k]) for k, v in weights.items())
    assert all((tmp_path / "run" / name).read_bytes() != content for name, content in before.items())
    guided = ["-n", 2, "--label", 3, "--guidance", 1.5, "--steps", 2]
    assert told(capsys, "sample", "run", *guided, "--out", "three.npy")[0] == 0
    assert np.load("three.npy").shape == (2, 8, 8)
    code, message = told(capsys, "sample", "run", "--label", "eleven")
    assert code == 2 and "unknown class" in message
    for arguments, message in [
            (["--prior", "flw"], "did you mean 'flow'"), (["--minutes", "0"], "minutes must be above 0"),
            (["--steps", "-1"], "steps must be above 0"), (["--prior", "normal"], "nothing to learn")]:
        code, said = told(capsys, "fit-prior", "run", *arguments)
        assert code == 2 and message in said
    assert load_model("run")[1].fitted_prior == facts["prior"]  # a refused fit changes nothing
    assert main(["fit-prior", "run", "--prior", "none"]) == 0
    assert load_model("run")[1].fitted_prior is None
    code, said = told(capsys, "fit-prior", tmp_path / "nothing")
    assert code == 1 and "no model in" in said


def test_training_leaves_the_prior_its_share_of_the_minutes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--encoder", "mlp((32,))", "--decoder", "mlp((32,))", "--latent", "flat(4)"]
    assert main(["train", "digits", "--out", "run", "--minutes", "0.05", *small, "--fitted-prior",
                 "flow_matching('mlp(16, 1)')", "--prior-share", "0.5"]) == 0
    outcome = Run.read("run").facts["outcome"]
    assert outcome["training_seconds"] > 2.9  # all of the 3 seconds, of which the prior had half
    assert abs(outcome["second_stage_seconds"] / outcome["training_seconds"] - 0.5) < 0.2
    assert load_model("run")[1].fitted_prior == "flow_matching('mlp(16, 1)', classes=10)"


def test_several_processes_fit_the_prior_together_and_speak_as_one(tmp_path):
    """They take as many steps, however long each took, also while they try out precisions; and a user sees one program."""
    small = ["--encoder", "mlp((16,))", "--decoder", "mlp((16,))", "--latent", "flat(2)", "--minutes", "0.03", "--device",
             "cpu"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "reparam", "train", "digits", *small, "--out", "run", "--fitted-prior",
               "flow_matching('mlp(8, 1)')"]
    ended = subprocess.run(command, cwd=tmp_path, timeout=240, capture_output=True, text=True, check=False,
                           env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"})
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert load_model(tmp_path / "run")[1].fitted_prior == "flow_matching('mlp(8, 1)', classes=10)"
    run = Run.read(tmp_path / "run")
    assert run.status == "finished" and not run.facts["failures"]
    told = (ended.stderr + ended.stdout).splitlines()
    assert [line for line in told if line.strip() and told.count(line) > 1] == []
    assert sum("images to train on" in line for line in told) == 1 == sum("report.html" in line for line in told)


def test_a_gan_has_no_codes_to_fit_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--out", "run", "--preset", "dcgan", "--steps", "2", "--decoder", "dcgan(8)", "--critic",
                 "dcgan(8)"]) == 0
    code, said = told(capsys, "fit-prior", "run")
    assert code == 2 and "a GAN has no encoder" in said


@pytest.mark.parametrize(("fitted", "told"), [
    ("flw", "did you mean 'flow'"), ("normal", "nothing to learn"), ("flow_matching('dit')", "use mlp"),
    ("autoregressive", "integer codes"), ("flow_matching('unet(8, patch=0)')", "patch must be at least 1"),
    ("mixture('a')", "mixture")])
def test_a_prior_that_cannot_be_fitted_is_told_before_training(fitted, told):
    with pytest.raises(UsageError, match=told):
        Assembly(Recipe(fitted_prior=fitted), (1, 32, 32)).check()


@pytest.mark.parametrize("net", ["unet(8, patch=0)", "unet(8, patch=-1)", "dit(16, 1, patch=-1)"])
def test_squares_have_a_side(net):
    with pytest.raises(UsageError, match="patch"):
        Velocity(net, (2, 8, 8))


def test_classes_that_labels_do_not_have_are_refused(small):
    model, x = Sampler(small((1, 4, 4))), torch.rand(40, 1, 4, 4)

    def fit(prior, y):
        return trained_stage("fitted_prior", model, Recipe(fitted_prior=prior), x, y, steps=9)

    ten = torch.arange(40) % 10
    for prior, y, told in (("flow_matching('mlp(8, 1)', classes=3)", ten, "images are of 10 classes"),
                           ("flow_matching('mlp(8, 1)', 10, 10)", None, "no labels"),
                           ("flow_matching('mlp(8, 1)', classes=10)", torch.full((40,), -1), "no labels")):
        with pytest.raises(UsageError, match=told):
            fit(prior, y)
    assert fit("flow_matching('mlp(8, 1)', 10, 10)", ten) == "flow_matching('mlp(8, 1)', 10, 10)"
    assert fit("flow_matching('mlp(8, 1)')", None) == "flow_matching('mlp(8, 1)')"


def test_without_a_label_each_draw_has_one_as_often_as_codes_had(small):
    """A velocity that moves by the label alone shows which labels were drawn; −1 stands for images without one."""
    model, x = Sampler(small((1, 4, 4))), torch.rand(400, 1, 4, 4)
    y = torch.tensor([-1] * 100 + [0] * 40 + [1] * 260)
    trained_stage("fitted_prior", model, Recipe(fitted_prior="flow_matching('mlp(8, 1)', 1)"), x, y, steps=9)
    prior = model.fitted_prior
    seen = []
    prior.velocity.forward = lambda z, t, y=None, context=None: seen.append(y) or torch.zeros_like(z)
    prior.draw((4000,), Draw())
    shares = torch.bincount(seen[0] + 1, minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.1, 0.65]), atol=0.04, rtol=0)
    seen.clear()
    prior.draw((5,), Draw(guidance=2.0))  # of labels that are drawn, too
    assert any(y is None for y in seen) and any(y is not None for y in seen)


def test_guidance_needs_classes(small):
    model, x = Sampler(small((1, 4, 4))), torch.rand(40, 1, 4, 4)
    trained_stage("fitted_prior", model, Recipe(fitted_prior="flow_matching('mlp(8, 1)')"), x, steps=9)
    with pytest.raises(UsageError, match="fitted without labels"):
        model.codes(2, Draw(guidance=2.0))
