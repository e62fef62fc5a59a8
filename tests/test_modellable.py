"""How easy latents are to model: figures of codes whose covariance, noise and shape are known, and of decoders that turn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from reparam.distributions.gaussian import Gaussian
from reparam.errors import UsageError
from reparam.metrics import STANDARD, measure
from reparam.metrics.evaluation import Evaluation
from reparam.metrics.latent_geometry import EVEN, ODD, negentropies, noise_shares, participation, turning_errors
from reparam.models.build import build_model
from reparam.models.sampler import Sampler
from reparam.models.trace import Layer
from reparam.models.vae import VAE
from reparam.parts.recipe import Recipe

SHAPE = (1, 8, 8)


def by_name(figures):
    return {f.name: f for f in figures}


class Codes(VAE):
    """In place of a model: hands out given posteriors by the number that an image carries."""

    def __init__(self, loc, log_var):
        nn.Module.__init__(self)
        self.loc, self.log_var, self.shape = loc, log_var, tuple(loc.shape[1:])
        self.encoder = nn.Identity()

    @property
    def latent(self):
        return self

    def infer(self, seen, samples):
        rows = seen.h[:, 0, 0, 0].long()
        q = Gaussian(self.loc[rows], self.log_var[rows], len(self.shape))
        zero = torch.zeros(self.shape)
        z = q.rsample((samples,))
        return z, (Layer(z, q, Gaussian(zero, zero, len(self.shape))),)


def numbered(n):
    return torch.arange(n).float().view(n, 1, 1, 1)


# Effective dimensions


def with_correlations(n, correlations, seed=0):
    """n Gaussian codes with unequal scales whose correlation matrix is given."""
    rng = np.random.default_rng(seed)
    d = len(correlations)
    codes = rng.normal(size=(n, d)) @ np.linalg.cholesky(correlations).T
    return torch.from_numpy(codes * np.geomspace(0.01, 100, d) + rng.normal(size=d))


def test_the_participation_ratio_is_exact_of_a_known_covariance():
    """One common factor: correlations ρ off the diagonal, eigenvalues 1 + (d − 1)ρ and d − 1 times 1 − ρ."""
    d, rho = 6, 0.6
    wanted = np.full((d, d), rho) + (1 - rho) * np.eye(d)
    found = participation(with_correlations(200_000, wanted))
    values = np.array([1 + (d - 1) * rho] + [1 - rho] * (d - 1))
    np.testing.assert_allclose(found.values, values, rtol=0.02)
    exact = values.sum() ** 2 / (values**2).sum()
    assert exact == pytest.approx(d / (1 + (d - 1) * rho**2))
    assert found.effective == pytest.approx(exact, rel=0.01)
    assert abs(found.effective - exact) < 4 * found.error < 0.1


def test_the_spectrum_is_that_of_the_correlations():
    codes = with_correlations(50, np.eye(7) + 0.3 * (np.ones((7, 7)) - np.eye(7)))
    np.testing.assert_allclose(participation(codes).values, np.linalg.eigvalsh(np.corrcoef(codes.T))[::-1], rtol=1e-4)
    few = codes[:4].repeat(1, 1).float()  # fewer codes than numbers
    np.testing.assert_allclose(participation(few).values[:3], np.linalg.eigvalsh(np.corrcoef(few.T))[::-1][:3], rtol=1e-4)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (300, 300), (300, 1000)])
def test_few_codes_do_not_look_like_few_dimensions(n, d):
    found = participation(torch.randn(n, d, generator=torch.Generator().manual_seed(0)))
    uncorrected = float(found.values.sum() ** 2 / found.values.square().sum())
    assert found.effective == pytest.approx(d, rel=0.03)
    assert uncorrected == pytest.approx(d / (1 + d / n), rel=0.03)


def test_copies_and_constants_add_no_dimension():
    codes = torch.randn(5000, 3)
    assert participation(codes).effective == pytest.approx(3, rel=0.01)
    assert participation(codes.repeat(1, 4)).effective == pytest.approx(3, rel=0.01)
    assert participation(torch.cat([codes, torch.full((5000, 5), 3.7)], 1)).effective == pytest.approx(3, rel=0.01)
    assert participation(torch.full((50, 4), 2.0)).effective == 0


def test_maps_are_standardised_by_their_channels():
    """The scale of a channel does not count, how its variance lies over the places does: 4 and 1 → 25 / 17 of 2."""
    codes = torch.randn(20_000, 2, 1, 2) * torch.tensor([[2.0, 1.0]]) * torch.tensor([1.0, 50.0]).view(2, 1, 1)
    assert participation(codes).effective == pytest.approx(2 * 25 / 17, rel=0.02)


@pytest.mark.parametrize("shape", [(5,), (2, 2, 2)], ids=str)
def test_errors_of_the_ratio_are_what_repeating_it_gives(shape):
    mix = torch.randn(math.prod(shape), math.prod(shape), generator=torch.Generator().manual_seed(1))
    runs = [participation((torch.randn(1000, math.prod(shape)) @ mix).unflatten(1, shape)) for _ in range(400)]
    spread = np.std([r.effective for r in runs])
    assert np.mean([r.error for r in runs]) == pytest.approx(spread, rel=0.15)


def test_products_do_not_depend_on_which_side_is_shorter():
    """Errors of more numbers than codes, against the same by hand with the whole covariance."""
    n, d = 40, 60
    codes = torch.randn(n, d, generator=torch.Generator().manual_seed(2)) @ torch.diag(torch.linspace(0.1, 3, d))
    codes = codes + codes.roll(1, 1)
    u = codes.double()
    u = (u - u.mean(0)) / u.std(0)
    s, nu = u.T @ u / (n - 1), n - 1
    scale = nu**2 / ((nu - 1) * (nu + 2))
    ratio = d**2 / (scale * (s.square().sum() - d**2 / nu))
    influence = 2 * ((u @ s * u).sum(1) - s.square().sum() - (u.square() - 1) @ (s @ s).diagonal())
    found = participation(codes)
    assert found.effective == pytest.approx(float(ratio), rel=1e-4)
    assert found.error == pytest.approx(float(ratio**2 / d**2 * scale * influence.square().mean().sqrt() / n**0.5), rel=1e-4)


# Noise


def test_the_noise_share_is_the_posteriors_variance_over_all():
    """Three dimensions with shares 1, 0 and 1/4."""
    n = 2000
    loc = torch.randn(n, 3) * torch.tensor([0.0, 7.0, 3**0.5])
    log_var = torch.tensor([0.0, -60.0, 0.0]).expand(n, 3)
    figure = by_name(measure(Evaluation(Sampler(Codes(loc, log_var)), numbered(n)), "modellable"))["noise share"]
    exact = (1 + 0 + 1 / 4) / 3
    assert figure.value == pytest.approx(exact, abs=0.02)
    assert figure.interval[0] < exact < figure.interval[1] and figure.n == n
    assert 0.005 < figure.interval[1] - figure.interval[0] < 0.05


def test_intervals_of_the_noise_share_cover_it():
    inside = []
    for _ in range(300):
        loc = torch.randn(400, 2) * torch.tensor([0.3, 2.0])
        each = noise_shares(loc + torch.randn(400, 2), loc + torch.randn(400, 2))
        half = 1.96 * each.std() / 20
        inside.append(abs(each.mean() - (1 / 1.09 + 1 / 5) / 2) < half)
    assert 0.91 <= np.mean(inside) <= 0.985


def test_no_noise_and_nothing_but_noise():
    z = torch.randn(500, 4)
    z[:, 3] = 2.5
    assert noise_shares(z, z).abs().max() < 1e-6
    assert noise_shares(torch.randn(5000, 4), torch.randn(5000, 4)).mean() == pytest.approx(1, abs=0.03)


# Shape


def test_a_gaussian_misses_nothing_of_a_gaussian():
    rng = torch.Generator().manual_seed(0)
    values, each = negentropies(3 + 0.2 * torch.randn(500, 2000, generator=rng))
    assert abs(values.mean()) < 4 * values.std() / 2000**0.5 < 3e-4  # what 500 draws add, 2e-3, is taken off
    assert each.mean() == pytest.approx(values.mean().item(), abs=1e-6)


@pytest.mark.parametrize(("law", "rel"), [(stats.uniform(), 0.75), (stats.laplace(), 0.75), (stats.norm(), None),
                                          (stats.gamma(4), 0.5)], ids=["uniform", "laplace", "normal", "gamma"])
def test_negentropies_are_near_their_true_values(law, rel):
    """Near ½ log 2πe σ² less the entropy, and exactly the formula by quadrature."""
    codes = torch.from_numpy(law.rvs(size=(200_000, 1), random_state=0))
    (value,), _ = negentropies(codes)
    m, s = law.mean(), law.std()
    odd, even = (law.expect(lambda v, f=f: f((v - m) / s)) for f in (
        lambda u: u * np.exp(-u**2 / 2), lambda u: np.exp(-u**2 / 2) - 0.5**0.5))
    assert value.item() == pytest.approx(ODD * odd**2 + EVEN * even**2, rel=0.05, abs=2e-5)
    true = 0.5 * math.log(2 * math.pi * math.e * s**2) - float(law.entropy())
    if rel is not None:
        assert true * (1 - rel) < value < true * (1 + rel)


def test_negentropies_do_not_care_for_place_scale_or_outliers():
    codes = torch.from_numpy(stats.laplace.rvs(size=(4000, 3), random_state=1))
    plain, _ = negentropies(codes)
    moved, _ = negentropies(codes * torch.tensor([1e-3, 1.0, 100.0]) - 5)
    torch.testing.assert_close(moved, plain, rtol=1e-3, atol=1e-4)
    assert negentropies(torch.full((50, 2), 3.0))[0].abs().max() == 0
    gaussian = torch.randn(4000, 1)
    gaussian[0] = 30.0
    assert negentropies(gaussian)[0].item() < 0.05 < 10 < stats.kurtosis(gaussian)[0]


@pytest.mark.parametrize("law", [stats.laplace, stats.expon])
def test_intervals_of_negentropies_cover_them(law):
    exact = negentropies(torch.from_numpy(law.rvs(size=(400_000, 1), random_state=9)))[0].item()
    inside = []
    for seed in range(200):
        _, each = negentropies(torch.from_numpy(law.rvs(size=(1000, 3), random_state=seed)))
        inside.append(abs(each.mean() - exact) < 1.96 * each.std() / 1000**0.5)
    assert 0.89 <= np.mean(inside) <= 0.99


# Turning


@pytest.fixture
def spatial():
    """A model whose codes are maps of 2 × 4 × 4."""
    recipe = Recipe(encoder="mlp(hidden=(16,))", decoder="conv(width=8)", latent="spatial(2, 2)",
                    likelihood="gaussian(sigma=0.3)")
    return build_model(recipe, SHAPE).eval()


class Enlarged(nn.Module):
    """Nearest neighbours, which turn with what is enlarged; with `tilt`, brighter towards one side."""

    def __init__(self, tilt=0.0):
        super().__init__()
        self.tilt = tilt

    def forward(self, z):
        return z[:, :1].repeat_interleave(2, 2).repeat_interleave(2, 3) + self.tilt * torch.linspace(-1, 1, 8)


def test_a_decoder_that_turns_with_its_codes_has_no_error(spatial, images):
    x, values = images(40, SHAPE), {}
    for name, decoder in {"none": Enlarged(), "slight": Enlarged(0.03), "strong": Enlarged(0.3),
                          "any": spatial.decoder}.items():
        spatial.decoder = decoder
        values[name] = by_name(measure(Evaluation(Sampler(spatial), x), "modellable"))["equivariance error"]
    assert values["none"].value < -80
    assert values["none"].value + 40 < values["slight"].value < values["strong"].value < values["any"].value + 20
    assert values["strong"].value - values["slight"].value > 10
    figure = values["slight"]
    assert figure.interval[0] < figure.value < figure.interval[1] and "dB" in figure.unit and figure.n == 40


def test_turning_errors_by_hand(spatial):
    """A constant side light g turned: error E‖g − Tg‖² over three turns; and a decoder blind to turning, +3 dB."""
    spatial.decoder = Enlarged(0.5)
    code = torch.randn(3, 2, 4, 4)
    error, spread = turning_errors(spatial, code)
    light = 0.5 * torch.linspace(-1, 1, 8).expand(8, 8)
    by_hand = sum((light - light.rot90(i, (0, 1))).square().mean() for i in (1, 2, 3)) / 3
    torch.testing.assert_close(error, by_hand.expand(3))
    picture = spatial.decode(code[None]).mean[0]
    ways = torch.stack([p.rot90(i, (-2, -1)) for p in (picture, picture.flip(-1)) for i in range(4)])
    torch.testing.assert_close(spread, ways.var(0, correction=0).mean((1, 2, 3)))


def test_only_square_maps_of_square_images_are_turned(spatial, small, images):
    assert "equivariance error" in by_name(measure(Evaluation(Sampler(spatial), images(30, SHAPE)), "modellable"))
    for shape, latent in (((1, 8, 6), "spatial(2, 2)"), ((1, 7, 7), "spatial(2, 2)"), ((1, 8, 8), "flat(4)")):
        figures = by_name(measure(Evaluation(Sampler(small(shape, latent=latent)), images(30, shape)), "modellable"))
        assert list(figures) == ["effective dimensions", "noise share", "non-Gaussianity"]


# The metric


@pytest.mark.parametrize(("fields", "latents"), [
    ({}, 4), ({"posterior": "deterministic"}, 4), ({"posterior": "full"}, 4), ({"posterior": "iaf(1, hidden=8)"}, 4),
    ({"latent": "semi_supervised(3, 2)"}, 3), ({"latent": "conditional(3, 2)"}, 3), ({"latent": "spatial(3, 4)"}, 12),
    ({"latent": "top_down(5, (1, 1), 2, 8, 2)", "encoder": "resnet(width=8, patch=2)",
      "decoder": "resnet(width=8, patch=1)"}, 5),
], ids=str)
def test_every_kind_of_real_codes_has_figures(fields, latents, small, images):
    figures = by_name(measure(Evaluation(Sampler(small(SHAPE, **fields)), images(60, SHAPE)), "modellable"))
    for name, figure in figures.items():
        assert figure.n == 60 and figure.unit and figure.note and math.isfinite(figure.value)
        assert (figure.interval is None) == (name == "effective dimensions")  # of fewer than 100 codes
        assert figure.interval is None or figure.interval[0] <= figure.value <= figure.interval[1]
    assert figures["effective dimensions"].unit == f"of {latents} latents"
    assert 1 <= figures["effective dimensions"].value <= latents
    assert len(figures["effective dimensions"].detail) == len(figures["non-Gaussianity"].detail) == latents
    assert 0 <= figures["noise share"].value <= 1.2
    assert (figures["noise share"].value < 1e-6) == (fields.get("posterior") == "deterministic")


def test_the_codes_of_a_model_reach_the_figures():
    """Two of four dimensions alike, one of them skewed; the noise of one is all that it holds."""
    n = 3000
    g = torch.randn(n)
    loc = torch.stack([g, g * 2, torch.from_numpy(stats.expon.rvs(size=n, random_state=0)).float(), torch.zeros(n)], 1)
    log_var = torch.tensor([-20.0, -20.0, -20.0, 0.0]).expand(n, 4)
    f = by_name(measure(Evaluation(Sampler(Codes(loc, log_var)), numbered(n)), "modellable(most=1500)"))
    assert all(figure.n == 1500 for figure in f.values())
    assert f["effective dimensions"].value == pytest.approx(16 / 6, rel=0.02)
    assert f["noise share"].value == pytest.approx(1 / 4, abs=0.02)
    shapes = f["non-Gaussianity"].detail
    assert shapes[2] > 0.1 > 0.01 > max(abs(shapes[i]) for i in (0, 1, 3))
    assert f["non-Gaussianity"].value == pytest.approx(np.mean(shapes), abs=1e-4)


def test_what_has_no_real_codes_is_refused_in_words(small, images):
    x = images(30, SHAPE)
    with pytest.raises(UsageError, match=r"modellable: .*codes are integers: codebook_usage"):
        measure(Evaluation(Sampler(small(SHAPE, posterior="fsq((3, 3))", prior="uniform")), x), "modellable")
    gan = build_model(Recipe(encoder="none", decoder="mlp(hidden=(8,))", latent="flat(4)", objective="adversarial"), SHAPE)
    with pytest.raises(UsageError, match="modellable: a GAN has no encoder"):
        measure(Evaluation(Sampler(gan), x), "modellable")
    with pytest.raises(UsageError, match="modellable: 5 images are too few"):
        measure(Evaluation(Sampler(small(SHAPE)), images(5, SHAPE)), "modellable")
    assert "modellable" in STANDARD
