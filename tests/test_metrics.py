"""Figures against what they claim to measure: exact likelihoods, formulas, and made-up models with known answers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture
from torch import nn

from reparam.distributions.gaussian import Gaussian
from reparam.errors import UsageError
from reparam.functional.two_sample import DRAWS, LEAST, PRIOR, told_apart
from reparam.metrics import STANDARD, likelihood, measure, quick
from reparam.metrics.catalogue import GROUPS, FigureType, find, types_of
from reparam.metrics.evaluation import Evaluation, FactorTable
from reparam.metrics.figures import Figure, mean_figure
from reparam.metrics.likelihood import importance_nll
from reparam.metrics.reconstructions import psnr_of
from reparam.models.codes import axes_of, codes_of
from reparam.models.priors import Mixture
from reparam.models.sampler import Sampler
from reparam.models.trace import Layer
from reparam.models.vae import VAE
from reparam.parts.call import parse_list
from reparam.parts.registry import ROLES, metric
from reparam.progress import Attempts

SHAPE = (1, 4, 4)


def by_name(figures):
    return {f.name: f for f in figures}


@pytest.fixture
def linear(small):
    """A linear-Gaussian model, whose images are N(b, W Wᵀ + σ² I) exactly, and images drawn from it."""
    model = small(SHAPE, moved=0.0, encoder="mlp(hidden=())", decoder="mlp(hidden=())", latent="flat(2)").eval()
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(16, 2)) * 0.3
    bias = rng.uniform(0.3, 0.7, 16)
    params = model.state_dict()
    precision = np.eye(2) + weights.T @ weights / 0.09
    inferred = np.linalg.solve(precision, weights.T / 0.09)  # the posterior's mean is inferred @ (x − bias)
    with torch.no_grad():
        params["decoder.net.1.weight"].copy_(torch.from_numpy(weights))
        params["decoder.net.1.bias"].copy_(torch.from_numpy(bias))
        # near the exact posterior, but off it, so that importance sampling has something to do
        params["latent.posterior.loc.1.weight"].copy_(torch.from_numpy(inferred))
        params["latent.posterior.loc.1.bias"].copy_(torch.from_numpy(-inferred @ bias + 0.1))
        params["latent.posterior.log_var.1.weight"].zero_()
        params["latent.posterior.log_var.1.bias"].copy_(torch.from_numpy(np.log(1.5 / np.diag(precision))))
    z = rng.normal(size=(200, 2))
    x = (z @ weights.T + bias + 0.3 * rng.normal(size=(200, 16))).astype(np.float32)
    exact = -stats.multivariate_normal(bias, weights @ weights.T + 0.09 * np.eye(16)).logpdf(x.astype(np.float64))
    return model, torch.from_numpy(x).view(-1, *SHAPE), exact


# Likelihoods


def test_the_importance_bound_lies_just_above_the_exact_likelihood(linear):
    model, x, exact = linear
    runs = np.stack([importance_nll(model, x, 200).numpy() for _ in range(20)]) - exact
    gap, error = runs.mean(), runs.mean(1).std(ddof=1) / 20**0.5
    assert -4 * error < gap < 0.02, (gap, error)
    # with one sample it is far from it, which the bound of 200 has to beat
    loose = np.stack([importance_nll(model, x, 1).numpy() for _ in range(20)]).mean() - exact.mean()
    assert loose > 0.1 and loose > 10 * gap


def test_the_bound_tightens_as_one_over_k(linear):
    model, x, exact = linear
    gaps = [np.mean([importance_nll(model, x, k).numpy().mean() for _ in range(20)]) - exact.mean() for k in (1, 4, 16)]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def test_the_bound_of_one_sample_is_the_elbo(linear, monkeypatch):
    model, x, _ = linear
    monkeypatch.setattr(likelihood, "PIXELS_AT_ONCE", x.numel())
    torch.manual_seed(7)
    ours = importance_nll(model, x, 1).numpy()
    torch.manual_seed(7)
    torch.manual_seed(int(torch.randint(2**31, ())))  # of the first chunk, here the only one
    with torch.no_grad():
        trace = model(x)
    z, q, p = trace.layers[0]
    elbo = trace.log_px + p.log_prob(z) - q.log_prob(z)
    np.testing.assert_allclose(ours, -elbo[0], rtol=1e-5)
    # on average it is the figure that `elbo` gives, which has the KL in closed form
    runs = np.array([importance_nll(model, x, 1).mean().item() for _ in range(60)])
    figures = [by_name(measure(Evaluation(Sampler(model), x, seed=i), "elbo"))["-elbo"].value for i in range(60)]
    assert abs(runs.mean() - np.mean(figures)) < 4 * np.hypot(runs.std(), np.std(figures)) / 60**0.5


@pytest.mark.parametrize("budget", [1, 7, 64, 100, 10**6])
def test_chunks_do_not_change_the_bound(linear, budget, monkeypatch):
    model, x, _ = linear
    monkeypatch.setattr(likelihood, "PIXELS_AT_ONCE", budget * x[0].numel())
    x, decodes = x[:40], []
    handle = model.decoder.register_forward_hook(lambda module, args, out: decodes.append(len(args[0])))
    ours = importance_nll(model, x, 100)
    handle.remove()
    assert ours.shape == (40,)
    assert max(decodes) <= budget and sum(decodes) == 40 * 100
    runs = torch.stack([importance_nll(model, x, 100) for _ in range(10)])
    assert ((ours - runs.mean(0)).abs() < 6 * runs.std(0) + 1e-4).all()


def test_the_elbo_is_its_two_terms(linear):
    model, x, exact = linear
    f = by_name(measure(Evaluation(Sampler(model), x), "elbo"))
    assert f["-elbo"].value == pytest.approx(f["nll"].value + f["kl"].value)
    with torch.no_grad():
        q = model.latent.posterior(model.encoder(x))
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(q.loc, (q.log_var / 2).exp()),
                                           torch.distributions.Normal(0.0, 1.0)).sum(1)
    assert f["kl"].value == pytest.approx(kl.mean().item(), rel=1e-5)
    assert f["-elbo bits/dim"].value == pytest.approx(f["-elbo"].value / 16 / math.log(2))
    assert f["-elbo"].unit == "nats (density)" and f["-elbo bits/dim"].unit == "bits/dim (density)"
    assert "density" in f["-elbo bits/dim"].note and f["-elbo"].value > exact.mean()


def test_units_of_discrete_likelihoods_are_plain(small, images):
    figures = measure(Evaluation(Sampler(small(SHAPE, likelihood="bernoulli")), images(20, SHAPE).round()),
                      "elbo, iw_nll(2)")
    assert {f.unit for f in figures} == {"nats", "bits/dim"} and not any(f.note for f in figures)


def test_a_bernoulli_of_grey_images_is_called_a_cross_entropy(small, images):
    """One grey value is enough: there is no density then, and so no bits."""
    x = images(20, SHAPE).round()
    x[3, 0, 0, 0] = 0.5
    f = by_name(measure(Evaluation(Sampler(small(SHAPE, likelihood="bernoulli")), x), "elbo, iw_nll(2)"))
    assert list(f) == ["-elbo", "nll", "kl", "iw_nll(2)"]
    assert {f[n].unit for n in ("-elbo", "nll", "iw_nll(2)")} == {"nats (cross-entropy, not a density)"}
    assert all("continuous_bernoulli" in f[n].note for n in ("-elbo", "iw_nll(2)"))
    f = by_name(measure(Evaluation(Sampler(small(SHAPE, likelihood="continuous_bernoulli")), x), "elbo"))
    assert f["-elbo"].unit == "nats (density)" and "-elbo bits/dim" in f


@pytest.mark.parametrize(("text", "total"), [("bernoulli", 0.5), ("continuous_bernoulli", 1.0)])
def test_of_the_two_bernoullis_the_continuous_is_a_density_of_grey(text, total):
    """∫₀¹ of both at log-odds of 5: a cross-entropy's is ∫ p^x (1 − p)^(1 − x), less than half."""
    p = ROLES["likelihood"].make(text, (1, 1, 1))(torch.full((1, 1, 1), 5.0))
    x = torch.linspace(0, 1, 20_001).reshape(-1, 1, 1, 1)
    mass = torch.trapezoid(p.log_prob(x).exp(), dx=1 / 20_000).item()
    assert mass == pytest.approx(1, abs=1e-4) if total == 1 else mass < total


def test_evenly_spaced_images_are_measured(linear):
    model, x, _ = linear
    figure = measure(Evaluation(Sampler(model), x), "iw_nll(3, images=50)")[0]
    assert figure.n == 50 and figure.name == "iw_nll(3)"
    with Evaluation(Sampler(model), x).drawing():
        assert figure.value == pytest.approx(importance_nll(model, x[::4], 3).mean().item(), rel=1e-6)
    assert measure(Evaluation(Sampler(model), x), "iw_nll(3, images=1000)")[0].n == 200


# Latents


class Codes(VAE):
    """In place of a model: hands out given posteriors, and draws its prior from N(0, 1)."""

    def __init__(self, loc, log_var, *, centre=0.0):
        nn.Module.__init__(self)
        self.loc, self.log_var, self.centre = loc, log_var, centre
        self.encoder = nn.Identity()

    @property
    def latent(self):
        return self

    def code(self, seen, *, sample=False):
        rows = seen.h[:, 0, 0, 0].long()
        return Gaussian(self.loc[rows], self.log_var[rows]).rsample() if sample else self.loc[rows]

    def infer(self, seen, samples):
        rows = seen.h[:, 0, 0, 0].long()
        q = Gaussian(self.loc[rows], self.log_var[rows])
        zero = torch.zeros(self.loc.shape[1])
        z = q.rsample((samples,))
        return z, (Layer(z, q, Gaussian(zero, zero)),)

    def generate(self, n, options=None, prior=None):
        return self.centre + torch.randn(1, n, self.loc.shape[1])


def numbered(n):
    """Images that carry their number, by which `Codes` finds their posterior."""
    return torch.arange(n).float().view(n, 1, 1, 1)


def test_active_units_counts_the_informative_ones():
    n = 1000
    loc = torch.zeros(n, 5)
    loc[:, 1], loc[:, 4] = 2 * torch.randn(n), 0.5 * torch.randn(n)
    loc[:, 2], loc[:, 3] = 3.0, 0.03 * torch.randn(n)  # far from 0 but the same for all; 0.1 % of the variance
    log_var = torch.zeros(n, 5)
    log_var[:, 1] = -3.0
    evaluation = Evaluation(Sampler(Codes(loc, log_var)), numbered(n))
    active, information = measure(evaluation, "active_units")
    assert (active.value, active.unit, active.n) == (2, "of 5 latents", n)
    expected = 0.5 * (log_var.exp() + loc**2 - 1 - log_var).mean(0)
    np.testing.assert_allclose(information.detail, expected, atol=1e-3)
    assert information.value == pytest.approx(expected.sum().item(), rel=1e-4)
    axes = axes_of(evaluation.codes)
    assert [a.index for a in axes] == expected.argsort(descending=True).tolist()
    assert axes[0].index == 2 and axes[0].mean == pytest.approx(3, abs=0.2) and axes[0].std == pytest.approx(1, abs=0.2)


def test_information_of_a_prior_without_a_kl_per_latent(small, images):
    """To a Gaussian with the moments of all the codes: none, when every image has the same posterior."""
    codes = codes_of(small((1, 4, 4), prior="flow(2, hidden=8)", moved=0.0), images(30, (1, 4, 4)))
    assert codes.information.shape == (4,) and (codes.information > -1e-4).all()
    # a linear encoder at its start hardly tells images apart: a shift of all codes must not count
    model = small((1, 4, 4), prior="flow(2, hidden=8)", moved=0.0)
    with torch.no_grad():
        for name, p in model.latent.posterior.named_parameters():
            p.fill_(5.0 if name == "loc.1.bias" else 0.0)
    assert codes_of(model, images(30, (1, 4, 4))).information.abs().max() < 1e-4


@pytest.mark.parametrize(("centre", "low", "high"), [(0.0, 0.47, 0.53), (3.0, 0.99, 1.0), (-3.0, 0.99, 1.0)])
def test_prior_auc_tells_whether_the_codes_follow_the_prior(centre, low, high):
    n = 1500
    loc = torch.randn(n, 4) * 0.8  # with a posterior of variance 0.36, the codes are N(0, 1)
    model = Codes(loc, torch.full((n, 4), math.log(0.36)), centre=centre)
    figure = measure(Evaluation(Sampler(model), numbered(n)), "prior_auc")[0]
    assert low <= figure.value <= high and figure.interval[0] <= figure.value <= figure.interval[1]
    assert (figure.n, figure.name, figure.null, figure.better) == (n, "prior_auc", 0.5, "lower")


def codes_of_kind(kind, n, rng):
    """n images with 8 draws of each one's posterior, of 12 numbers of which 6 are noise: `same` follows N(0, 1)."""
    centres = np.random.default_rng(5).normal(size=(6, 6))
    loc, noise = {
        "same": lambda: (rng.normal(size=(n, 6)) * 0.8, 0.6),
        "wide": lambda: (rng.normal(size=(n, 6)) * 1.6, 0.6), "clusters": lambda: (centres[rng.integers(0, 6, n)], 0.3),
    }[kind]()
    drawn = loc[:, None] + noise * rng.normal(size=(n, 8, 6))
    return np.concatenate([drawn, rng.normal(size=(n, 8, 6))], 2)


@pytest.mark.parametrize(("kind", "low", "high"), [("same", 0.48, 0.52), ("wide", 0.8, 0.95),
                                                   ("clusters", 0.8, 0.98)])
def test_a_prior_auc_does_not_move_with_the_number_of_images(kind, low, high):
    rng = np.random.default_rng(0)
    found = {n: np.array([told_apart(codes_of_kind(kind, n, rng), rng.normal(size=(PRIOR, 12)), seed=i)
                          for i in range(times)]) for n, times in ((64, 6), (160, 4), (1797, 1))}
    most = found[1797][:, 0].mean()
    assert low <= most <= high
    for each in found.values():  # within four standard errors of their mean
        assert abs(each[:, 0].mean() - most) < 4 * np.sqrt((each[:, 1] ** 2).mean() / len(each)) + 0.005


def test_noise_beside_hides_no_codes_that_lie_elsewhere():
    """With 8 numbers that differ and 120 that follow the prior."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(200, DRAWS, 128))
    codes[:, :, :8] += 3 * rng.normal(size=(200, 1, 8))
    assert told_apart(codes, rng.normal(size=(PRIOR, 128))).value > 0.97


def test_no_image_both_teaches_and_judges():
    """Codes that are the same for every draw of an image, and follow the prior: who learns images by heart gains nothing."""
    rng = np.random.default_rng(0)
    codes = np.repeat(rng.normal(size=(LEAST, 1, 4)), DRAWS, 1)
    found = np.array([told_apart(np.repeat(rng.normal(size=(LEAST, 1, 4)), DRAWS, 1), rng.normal(size=(PRIOR, 4)), seed=i)
                      for i in range(12)])
    assert abs(found[:, 0].mean() - 0.5) < 4 * found[:, 0].std(ddof=1) / 12**0.5
    with pytest.raises(UsageError, match="60 images"):
        told_apart(codes[:59], rng.normal(size=(PRIOR, 4)))


def test_prior_auc_measures_the_fitted_prior_too(small, images):
    model = small(SHAPE, moved=0.3).eval()
    x = images(600, SHAPE)
    with torch.no_grad():  # codes a good way off N(0, 1), which the model's own prior misses and the mixture meets
        model.latent.posterior.loc[1].bias.add_(3.0)
        codes = torch.cat([model.encode(x, sample=True) for _ in range(5)])
    sampler = Sampler(model, {"fitted_prior": Mixture.fit(codes.numpy().astype(np.float64), (4,), 2)})
    f = by_name(measure(Evaluation(sampler, x), "prior_auc"))
    assert f["prior_auc"].value > 0.95 and abs(f["fitted_prior_auc"].value - 0.5) < 0.03


@pytest.mark.parametrize("n", [1, 2, 3, 8, 17])
def test_a_few_images_can_be_measured(small, images, n):
    figures = measure(Evaluation(Sampler(small(SHAPE)), images(n, SHAPE)), STANDARD)
    assert all(math.isfinite(f.value) and f.n == n for f in figures), [str(f) for f in figures]


# Images


def test_psnr_is_its_formula():
    x, y = torch.rand(2, 7, 3, 5, 4)
    mse = ((x.numpy().astype(np.float64) - y.numpy()) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(psnr_of(x, y), 10 * np.log10(1 / mse), rtol=1e-5)
    assert psnr_of(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1)).item() == pytest.approx(20)
    assert torch.isfinite(psnr_of(x, x)).all()


def test_psnr_compares_reconstructions_and_the_average_image(small, images):
    """Reconstructions are of draws of the posterior, as in training, and beside them of its means."""
    model, x = small(SHAPE).eval(), images(200, SHAPE)
    f = by_name(measure(Evaluation(Sampler(model), x, seed=5), "psnr"))
    with torch.no_grad():
        q = model.latent.posterior(model.encoder(x))
        torch.manual_seed(5)
        torch.manual_seed(int(torch.randint(2**31, ())))  # of the only chunk
        for name, z in (("psnr", q.sample((1,))), ("psnr of posterior means", q.mean[None])):
            rebuilt = model.decode(z).mean[0].clamp(0, 1)
            assert f[name].value == pytest.approx(psnr_of(x, rebuilt).mean().item(), rel=1e-5)
    assert f["psnr"].value != f["psnr of posterior means"].value
    point = small(SHAPE, posterior="deterministic").eval()
    assert list(by_name(measure(Evaluation(Sampler(point), x), "psnr"))) == ["psnr", "psnr of the average image"]
    average = x.mean(0).expand_as(x)
    assert f["psnr of the average image"].value == pytest.approx(psnr_of(x, average).mean().item(), rel=1e-5)


# Figures


def test_unknown_metrics_are_told_before_any_runs(small, images, monkeypatch):
    ran = []
    monkeypatch.setitem(metric.parts, "elbo", lambda evaluation: ran.append(1) or [])
    evaluation = Evaluation(Sampler(small(SHAPE)), images(4, SHAPE))
    for wrong in ("elbo, psnrr", "elbo, iw_nll('many')", "elbo, iw_nll(3, picture=2)", "elbo, psnr(2)"):
        with pytest.raises(UsageError):
            measure(evaluation, wrong)
    assert not ran
    with pytest.raises(UsageError, match="did you mean 'psnr'"):
        measure(evaluation, "elbo, psnrr")
    assert measure(evaluation, "elbo") == [] and ran


@pytest.mark.parametrize("samples", ["iw_nll(0)", "iw_nll(-3)", "iw_nll(3, images=-1)"])
def test_senseless_numbers_of_samples_are_refused(small, images, samples):
    with pytest.raises(UsageError):
        measure(Evaluation(Sampler(small(SHAPE)), images(4, SHAPE)), samples)


@pytest.mark.parametrize("metrics", [STANDARD, quick(SHAPE)])
def test_every_figure_says_what_it_is(small, images, metrics):
    told = []
    figures = measure(Evaluation(Sampler(small(SHAPE)), images(60, SHAPE), features="wavelets"), metrics, told.append,
                      skip_unavailable=True)
    assert told == [f"measuring {call}" for call in parse_list(metrics)]
    assert len({f.name for f in figures}) == len(figures) >= 9
    for f in figures:
        assert f.name and f.unit and f.n == 60 and math.isfinite(f.value)
        assert f"(n = {f.n})" in str(f) and f.unit in str(f)
        assert f.to_dict().keys() >= {"name", "value", "unit", "n"}
        averaged = f.name not in ("active_units", "information", "effective dimensions")  # the last: of 100 codes at least
        assert (f.interval is not None) == averaged
        if f.interval:
            assert f.interval[0] <= f.value <= f.interval[1]


def whole(model, x):
    """An evaluation that lacks nothing."""
    y = torch.arange(len(x)) % 3
    return Evaluation(Sampler(model), x, y, train_images=x.flip(0), train_labels=y.flip(0), features="wavelets",
                      facts={"rollbacks": 0},
                      factors=FactorTable(("class", "half"), torch.stack([y, y % 2], 1), (True, False)))


class FewFeatures:
    """So few that 200 images are enough to extrapolate from."""

    name, resize, standard = "means", "none", False

    def embed(self, x):
        return torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3)), x[:, :, :2].mean((1, 2, 3))], 1)


def test_every_registered_metric_declares_its_figures(small, images):
    """Group, unit and direction, of all that it returns."""
    of_its_own = {"accuracy": {"latent": "semi_supervised(4, 3)"},
                  "codebook_usage": {"posterior": "lfq(2)", "prior": "uniform"}}
    for name in metric.parts:
        model, seen = small(SHAPE, **of_its_own.get(name, {})), images(200, SHAPE)
        evaluation = replace(whole(model, seen), features=FewFeatures()) if name == "fd_inf" else whole(model, seen)
        figures = measure(evaluation, name)
        assert figures and all(isinstance(f, Figure) and f.unit and f.n for f in figures)
        assert {find(f.name) for f in figures} <= set(types_of(name)), name
        for kind in types_of(name):
            assert kind.group in GROUPS[:-1] and kind.unit and kind.meaning, kind
            assert kind.better in ("higher", "lower") or kind.undirected, kind
        assert all((f.better, f.undirected) == (find(f.name).better, find(f.name).undirected) for f in figures)


@pytest.mark.parametrize("direction", [{}, {"better": "lower", "why_neither": "for scale"},
                                       {"target": 1.0, "why_neither": "for scale"}])
def test_a_figure_needs_one_direction(direction):
    with pytest.raises(ValueError, match="why_neither"):
        FigureType("x", "Samples", "u", "meaning", **direction)


def test_what_was_skipped_is_recorded_with_its_reason(small, images):
    attempt = Attempts()
    figures = measure(Evaluation(Sampler(small(SHAPE)), images(60, SHAPE)), "psnr, accuracy, codebook_usage",
                      attempt=attempt, skip_unavailable=True)
    assert {f.name for f in figures} >= {"psnr"}
    assert attempt.unavailable == {"accuracy": "the images have no labels",
                                   "codebook_usage": "its posterior has no codebook"}


def test_metrics_draw_the_same_numbers_alone_and_together(small, images):
    model, x = small(SHAPE), images(60, SHAPE)
    together = by_name(measure(Evaluation(Sampler(model), x, features="wavelets"), STANDARD))
    torch.rand(5)
    for name in ("prior_auc", "psnr", "elbo", "fd", "mutual_information"):
        for f in measure(Evaluation(Sampler(model), x, features="wavelets"), name):
            assert f == together[f.name]


def test_measuring_leaves_the_random_numbers_alone(small, images):
    model, x = small(SHAPE), images(30, SHAPE)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    measure(Evaluation(Sampler(model), x, features="wavelets"), STANDARD)
    assert torch.equal(torch.rand(2), expected)


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).gamma(2, 3, 500)
    f = mean_figure("x", torch.from_numpy(values), "nats")
    expected = stats.norm.interval(0.95, loc=values.mean(), scale=stats.sem(values))
    assert f.value == pytest.approx(values.mean()) and f.n == 500
    np.testing.assert_allclose(f.interval, expected, rtol=1e-4)
    assert mean_figure("x", np.array([2.5]), "nats").interval is None


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = [f.interval[0] < 1 < f.interval[1] for f in (mean_figure("x", rng.normal(1, 2, 400), "") for _ in range(2000))]
    assert abs(np.mean(inside) - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5


# The mixture fitted to codes


@pytest.mark.parametrize("seed", [0, 1])
def test_a_mixture_is_fitted_to_the_active_latents_only(seed):
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 2, 3000)
    codes = np.empty((3000, 5))
    codes[:, [1, 3]] = np.where(which[:, None], [2.0, -1.0], [-2.0, 3.0])
    codes[:, [1, 3]] += rng.normal(size=(3000, 2)) @ [[0.5, 0.3], [0, 0.4]]
    codes[:, [0, 2, 4]] = rng.normal([0.0, 5.0, -1.0], [1.0, 0.2, 3.0], (3000, 3))
    active = np.array([False, True, False, True, False])
    with torch.no_grad():
        p = Mixture.fit(codes, (5,), 2, seed, active)()
    mean, std = codes.mean(0), codes.std(0)
    standard = ((codes - mean) / std)[:, active]
    reference = GaussianMixture(2, reg_covar=1e-3, max_iter=50, tol=1e-2, random_state=seed,
                                init_params="k-means++").fit(standard)
    x = codes[:300] + rng.normal(size=(300, 5))
    of_active = reference.score_samples(((x - mean) / std)[:, active]) - np.log(std[active]).sum()
    of_rest = stats.norm.logpdf(x[:, ~active], mean[~active], std[~active]).sum(1)
    np.testing.assert_allclose(p.log_prob(torch.from_numpy(x)).numpy(), of_active + of_rest, rtol=2e-4, atol=2e-3)
    # the draws follow it, too
    torch.manual_seed(seed)
    z = p.sample((20_000,)).numpy()
    np.testing.assert_allclose(z.mean(0), mean, atol=0.15)
    np.testing.assert_allclose(np.cov(z.T)[1, 3], np.cov(codes.T)[1, 3], rtol=0.1)
    assert stats.kstest(z[:, 2], stats.norm(mean[2], std[2]).cdf).pvalue > 1e-4


@pytest.mark.parametrize("active", [None, np.ones(3, bool)])
def test_a_mixture_of_all_latents_is_scikit_learns(active):
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(-1, 0.3, (900, 3)), rng.normal([1, 2, 0], 0.5, (600, 3))])
    with torch.no_grad():
        ours = Mixture.fit(codes, (3,), 2, 0, active)().log_prob(torch.from_numpy(codes))
    mean, std = codes.mean(0), codes.std(0)
    reference = GaussianMixture(2, reg_covar=1e-3, max_iter=50, tol=1e-2, random_state=0,
                                init_params="k-means++").fit((codes - mean) / std)
    np.testing.assert_allclose(ours, reference.score_samples((codes - mean) / std) - np.log(std).sum(), atol=2e-3)


def test_a_mixture_of_noise_alone_is_a_gaussian_in_each_dimension():
    codes = np.random.default_rng(0).normal([1, -2, 0], [0.5, 1, 2], size=(900, 3))
    with torch.no_grad():
        ours = Mixture.fit(codes, (3,), 50, 0, np.zeros(3, bool))().log_prob(torch.from_numpy(codes))
    expected = stats.norm(codes.mean(0), codes.std(0)).logpdf(codes).sum(1)
    np.testing.assert_allclose(ours, expected, atol=0.02)


def test_a_mixture_has_codes_for_every_component():
    codes = np.random.default_rng(0).normal(size=(40, 4))
    assert len(Mixture.fit(codes, (4,), 50).logits) == 5
    assert len(Mixture.fit(codes, (4,), 50, 0, np.array([True, False, False, False])).logits) == 20
    assert len(Mixture.fit(codes[:3], (4,), 50).logits) == 1


# Information


def test_information_splits_the_kl_of_codes(small, images):
    """I + KL(q(z) ‖ p(z)) is the KL of each code; equal posteriors know nothing, and far ones all, log n nats."""
    n = 400
    loc = torch.randn(n, 3)
    f = by_name(measure(Evaluation(Sampler(Codes(loc, torch.full((n, 3), -1.0))), numbered(n)), "mutual_information"))
    parts = f["mutual_information"].value + f["kl of all codes together"].value
    exact = 0.5 * (math.exp(-1.0) + loc.square() - 1 + 1.0).sum(1).mean().item()
    assert parts == pytest.approx(exact, abs=0.35)  # one draw of each image
    silent = Sampler(Codes(torch.zeros(n, 3), torch.zeros(n, 3)))
    none = by_name(measure(Evaluation(silent, numbered(n)), "mutual_information"))
    assert none["mutual_information"].value == pytest.approx(0, abs=1e-4)
    assert none["kl of all codes together"].value == pytest.approx(0, abs=1e-4)
    apart = Codes(100 * torch.arange(n).float()[:, None], torch.zeros(n, 1))
    figure = measure(Evaluation(Sampler(apart), numbered(n)), "mutual_information")[0]
    assert figure.value == pytest.approx(math.log(n), rel=1e-4)


@pytest.mark.parametrize(("ones", "n"), [(0, 160), (6, 160), (80, 160), (160, 160), (1, 1), (3, 7)])
def test_the_interval_of_a_share_is_wilsons(ones, n):
    from scipy.stats import binomtest

    from reparam.metrics.figures import mean_figure

    figure = mean_figure("share", torch.tensor([1.0] * ones + [0.0] * (n - ones)), "of the images")
    expected = binomtest(ones, n).proportion_ci(0.95, method="wilson")
    assert figure.value == ones / n
    np.testing.assert_allclose(figure.interval, (expected.low, expected.high), atol=1e-4)
