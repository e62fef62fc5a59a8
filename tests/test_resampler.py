"""The resampler: which draws of a prior are kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import trained_stage
from scipy import stats
from torch import nn
from torch.distributions import Normal

from reparam.cli.app import main
from reparam.errors import UsageError
from reparam.metrics.evaluation import Evaluation
from reparam.models.build import build_model
from reparam.models.draw import Draw
from reparam.models.resampler import KEPT, TRIES, Resampler, level_of
from reparam.models.sampler import Sampler, build_sampler, build_stage
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.pretrained.image_model import ImageModel
from reparam.trainer.assembly import Assembly
from reparam.trainer.stages.sequence import TimeSplit

NET = "mlp((16,))"
RECIPE = Recipe(encoder="mlp((16,))", decoder="mlp((16,))", latent="flat(3)", resampler=NET, fitted_prior="none",
                batch_size=64)


class Odds(nn.Module):
    """log q/π of pixels that are codes themselves, q = N(1, 0.5), π = N(0, 1)."""

    def forward(self, x):
        z = x.flatten()
        return Normal(1, 0.5).log_prob(z) - Normal(0, 1).log_prob(z)


def known_odds(level=None):
    """A resampler that knows the density ratio, at the level for its share or at another."""
    resampler = Resampler("mlp((2,))", (1, 1, 1))
    resampler.critic = Odds()
    torch.manual_seed(0)
    resampler.settle(Odds()(torch.randn(20_000)))
    if level is not None:
        resampler.level.fill_(level)
    return resampler


def test_with_the_true_ratio_and_a_high_level_draws_follow_the_codes():
    top = float(Odds()(torch.linspace(-8, 8, 10_001)).max())  # at its greatest ratio nothing is cut off
    torch.manual_seed(1)
    z = known_odds(top).chosen(4000, lambda n: torch.randn(n, 1), lambda z: z[:, :, None, None])[:, 0]
    assert stats.kstest(z.numpy(), stats.norm(1, 0.5).cdf).pvalue > 0.01
    assert stats.kstest(z.numpy(), stats.norm(0, 1).cdf).pvalue < 1e-6


def test_at_any_level_draws_follow_the_law_that_the_docs_give():
    resampler = known_odds()
    grid = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    weight = Normal(0, 1).log_prob(grid).exp() * (Odds()(grid) - resampler.level).exp().clamp(max=1)
    share = float(torch.trapezoid(weight, grid))
    assert share == pytest.approx(KEPT, abs=0.01)  # Z, by quadrature
    cdf = torch.cumulative_trapezoid(weight, grid) / share
    torch.manual_seed(2)
    z = resampler.chosen(4000, lambda n: torch.randn(n, 1), lambda z: z[:, :, None, None])[:, 0]
    assert stats.kstest(z.numpy(), lambda v: np.interp(v, grid[1:].numpy(), cdf.numpy())).pvalue > 0.01


@pytest.mark.parametrize("odds", [torch.zeros(10), torch.linspace(-300, 300, 50), torch.tensor([2.0]), torch.randn(999)])
def test_the_level_keeps_the_share_that_it_is_to(odds):
    assert (odds - level_of(odds)).exp().clamp(max=1).mean() == pytest.approx(KEPT, abs=1e-3)


@pytest.mark.parametrize("n", [0, 1, 7, 600])
def test_as_many_codes_come_as_are_asked_for(n):
    z = known_odds().chosen(n, lambda count: torch.randn(count, 1), lambda z: z[:, :, None, None])
    assert z.shape == (n, 1)


def test_sampling_ends_where_nothing_is_kept():
    drawn = []
    z = known_odds(1e9).chosen(5, lambda n: drawn.append(n) or torch.randn(n, 1), lambda z: z[:, :, None, None])
    assert len(z) == 5 and sum(drawn) <= TRIES * 5 + 250


@pytest.mark.parametrize(("side", "most"), [(64, 250), (256, 15), (2048, 1)])
def test_large_images_are_judged_fewer_at_once(side, most):
    resampler, counts = Resampler("mlp((1,))", (1, side, side)), []
    resampler.keeps = lambda images: torch.ones(len(images), dtype=torch.bool)
    resampler.chosen(100, lambda n: torch.zeros(n, 1), lambda z: counts.append(len(z)) or z)
    assert max(counts) == most


def two_places(n):
    """Images with one bright side; the code of each says which."""
    side = torch.randint(2, (n,))
    x = torch.zeros(n, 1, 2, 4)
    x[torch.arange(n), 0, :, side * 3] = 1.0
    return x


class Side(nn.Module):
    """Encoder and decoder by hand: z₀ = ±1 for the bright side; between them both are half bright."""

    features = (3,)

    def forward(self, x):
        z = torch.zeros(len(x), 3)
        z[:, 0] = 2 * x[:, 0, 0, 3] - 1
        return z


class Bright(nn.Module):
    def forward(self, z):
        x = torch.zeros(len(z), 1, 2, 4)
        x[:, 0, :, 3] = (0.5 + 0.5 * z[:, :1]).clamp(0, 1)
        x[:, 0, :, 0] = (0.5 - 0.5 * z[:, :1]).clamp(0, 1)
        return x


def halved(seed=0):
    """A model whose codes are ±1 and whose prior, N(0, I), lies mostly between them."""
    torch.manual_seed(seed)
    model = build_model(RECIPE, (1, 2, 4)).eval()
    model.decoder, model.encoder = Bright(), Side()
    model.latent.code = lambda seen, *, sample=False: seen.h + 0.05 * torch.randn_like(seen.h) * sample
    return model


def test_a_resampler_learns_which_draws_have_no_image():
    model, x = Sampler(halved()), two_places(1000)
    between = lambda z: float((z[:, 0].abs() < 0.5).float().mean())  # noqa: E731
    assert trained_stage("resampler", model, RECIPE.but(resampler="mlp((64, 64))"), x, steps=600) == "mlp((64, 64))"
    torch.manual_seed(0)
    with torch.no_grad():
        assert between(model.codes(500, Draw(resample=False))) > 0.3
        assert between(model.codes(500)) < 0.05
        low, high = (float((model.codes(500)[:, 0] * way > 0).float().mean()) for way in (-1, 1))
    assert min(low, high) > 0.3  # neither of the two is lost
    assert not any(p.requires_grad for p in model.resampler.parameters())


def test_the_model_itself_stays_as_it_is(adds_only):
    torch.manual_seed(0)
    model, x = Sampler(build_model(RECIPE, (1, 4, 4)).eval()), torch.rand(40, 1, 4, 4)
    adds_only(model, "resampler", lambda model: trained_stage("resampler", model, RECIPE, x, steps=3))
    assert trained_stage("resampler", model, RECIPE.but(resampler="none"), x, steps=3) is None


@pytest.fixture
def trained():
    """A model with a resampler and a fitted prior."""
    torch.manual_seed(0)
    model = build_sampler(RECIPE, (1, 6, 5), {"fitted_prior": "mixture(2)", "resampler": NET}).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
        model.resampler.settle(model.resampler(model.means(model.codes(500, Draw(resample=False)))))
    return ImageModel(model, Config(RECIPE, (1, 6, 5), stages={"fitted_prior": "mixture(2)", "resampler": NET}))


class FirstPositive(Resampler):
    """Keeps what is bright on the right, so codes of z₀ > 0."""

    def __init__(self):
        super().__init__("mlp((2,))", (1, 2, 4))

    def forward(self, images):
        return 1e4 * (images[:, 0, 0, 3] - images[:, 0, 0, 0])


def right(pictures):
    """Share of pictures (n, C, H, W) or (n, H, W) that are bright on the right."""
    x = torch.as_tensor(pictures)
    x = x if x.dim() == 3 else x[:, 0]
    return float((x[:, 0, 3] > x[:, 0, 0]).float().mean())


@pytest.fixture
def handmade():
    """A model that says left and right, with a fitted prior for both and a resampler that keeps the right."""
    torch.manual_seed(0)
    model = halved()
    prior = build_stage("fitted_prior", "mixture(1)", model, (1, 2, 4))
    torch.nn.init.zeros_(prior.locs)
    return ImageModel(Sampler(model, {"fitted_prior": prior, "resampler": FirstPositive()}),
                      Config(RECIPE, (1, 2, 4), stages={"fitted_prior": "mixture(1)", "resampler": NET}))


@pytest.mark.parametrize("how", [{"prior": "normal"}, {"temperature": 0.9}, {"resample": False}])
def test_what_it_has_not_learned_to_judge_is_left_alone(handmade, how):
    assert right(handmade.sample(200, seed=1)) == right(handmade.sample(200, seed=1, temperature=1.0)) == 1
    assert 0.3 < right(handmade.sample(200, seed=1, **how)) < 0.7


@pytest.mark.parametrize(("how", "plain"), [
    (Draw(), True), (Draw(temperature=(1.0,)), True), (Draw(steps=3), True), (Draw(fitted=False), True),
    (Draw(label=2), False), (Draw(guidance=2.0), False), (Draw(temperature=(1.0, 0.5)), False)])
def test_plain_draws_are_of_the_prior_as_it_is(how, plain):
    assert how.is_plain == plain


def test_with_a_prior_of_its_own_alone_that_one_is_judged(handmade):
    del handmade.sampler.stages["fitted_prior"]
    torch.manual_seed(0)
    with torch.no_grad():
        assert (handmade.sampler.codes(100, Draw(fitted=False))[:, 0] > 0).all()


def test_walks_begin_and_end_at_what_it_keeps(handmade):
    assert all(right(handmade.interpolate(steps=2, seed=seed)) == 1 for seed in range(8))


def test_samples_are_measured_with_it_and_priors_without(handmade):
    seen = Evaluation(handmade.sampler, two_places(60), n=60)
    assert right(seen.samples) == 1
    assert (seen.drawn_from("prior"), seen.drawn_from("fitted prior")) == ("prior samples", "fitted-prior samples")
    for own in (False, True):
        assert 0.2 < right(seen._drawn(Draw(fitted=own, resample=False))) < 0.8
    del handmade.sampler.stages["resampler"]
    plain = Evaluation(handmade.sampler, two_places(60), n=60)
    assert (plain.drawn_from("prior"), plain.drawn_from("fitted prior")) == ("prior samples", "samples")
    del handmade.sampler.stages["fitted_prior"]
    assert plain.drawn_from("prior") == "samples"


def test_draws_that_it_learns_from_are_the_prior_s_own(handmade):
    """A second fit must not see what the first one kept."""
    trained_stage("resampler", handmade.sampler, RECIPE.but(resampler="mlp((64, 64))"), two_places(1000), steps=600)
    assert 0.2 < right(handmade.sample(300, seed=0)) < 0.8


def test_batches_of_a_critic_with_batch_norm_do_not_sway_its_verdicts():
    torch.manual_seed(0)
    model, x = Sampler(build_model(RECIPE.but(batch_size=16), (1, 8, 8)).eval()), torch.rand(64, 1, 8, 8)
    trained_stage("resampler", model, RECIPE.but(resampler="dcgan(8)"), x, steps=4, precision="bf16")
    assert not model.resampler.training
    with torch.no_grad():
        torch.testing.assert_close(model.resampler(x)[:3], model.resampler(x[:3]), atol=1e-5, rtol=1e-4)
        assert model.codes(20).shape == (20, 3)


def test_a_resampler_is_saved_with_its_model(trained, tmp_path):
    save_model(tmp_path, trained.sampler, trained.config)
    loaded = ImageModel(*load_model(tmp_path))
    assert loaded.config.stages["resampler"] == NET and float(loaded.sampler.resampler.level) != 0
    assert np.array_equal(loaded.sample(5, seed=2), trained.sample(5, seed=2))


def test_it_has_its_share_of_the_minutes():
    split = TimeSplit.of(RECIPE, build_model(RECIPE, (1, 4, 4)))
    assert split == TimeSplit({"resampler": 0.15}) and split.model == pytest.approx(0.85)
    with pytest.raises(UsageError, match="leave nothing"):
        Assembly(RECIPE.but(resampler_share=0.6, refiner="autoregressive(8)", refiner_share=0.4), (1, 8, 8)).check()


def test_networks_that_cannot_judge_are_refused():
    with pytest.raises(UsageError, match="did you mean 'resnet'"):
        Resampler("resnt", (1, 8, 8))


def test_a_resampler_of_a_gan_tells_images_from_draws():
    """Half of what this generator draws is black, and no image is."""
    recipe = Recipe(encoder="none", decoder="mlp((8,))", latent="flat(2)", likelihood="implicit", objective="adversarial",
                    adversary="images", resampler="mlp((32,))", batch_size=64)
    Assembly(recipe, (1, 4, 4)).check()
    torch.manual_seed(0)
    model = build_model(recipe, (1, 4, 4)).eval()
    model.decoder = HalfBlack()
    sampler = Sampler(model)
    trained_stage("resampler", sampler, recipe, 0.4 + 0.2 * torch.rand(256, 1, 4, 4), steps=300)
    black = [(sampler.images(sampler.codes(200, Draw(resample=kept))).mean((1, 2, 3)) < 0.2).float().mean()
             for kept in (False, True)]
    assert black[0] > 0.4 and black[1] < 0.15


class HalfBlack(nn.Module):
    """Grey images of codes whose first number is above 0, and black ones of the others."""

    def forward(self, z):
        grey = 1 + 0.1 * torch.tanh(z[:, 1])
        return (grey * (z[:, 0] > 0) - 1)[:, None, None, None].expand(-1, 1, 4, 4)  # of −1 to 1


def test_the_commands_train_and_use_a_resampler(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--encoder", "mlp((32,))", "--decoder", "mlp((32,))", "--latent", "flat(4)", "--steps", "10"]
    assert main(["train", "digits", "--out", "run", *small, "--resampler", NET, "--json"]) == 0
    assert load_model("run")[1].stages["resampler"] == NET
    assert "| resampler |" in (tmp_path / "run" / "README.md").read_text()
    for extra in ([], ["--no-resample"]):
        assert main(["sample", "run", "-n", "3", "--out", f"s{len(extra)}.npy", *extra]) == 0
    assert not np.array_equal(np.load("s0.npy"), np.load("s1.npy"))
    before = load_model("run")[0].resampler.state_dict()
    assert main(["fit-prior", "run", "--prior", "mixture(2)", "--steps", "5"]) == 0
    after = load_model("run")[0].resampler.state_dict()
    assert any(not torch.equal(v, after[k]) for k, v in before.items())  # learned anew, for the new prior
    capsys.readouterr()
    monkeypatch.setattr("reparam.runs.refit.images_of", lambda *_: pytest.fail("told too late"))
    assert main(["fit-prior", "run", "--prior", "mixture(2)", "--resampler", "resnt"]) == 2
    assert "did you mean 'resnet'" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["fit-prior", "run", "--prior", "mixture(2)", "--resampler", "none", "--json"]) == 0
    assert load_model("run")[0].resampler is None and json.loads(capsys.readouterr().out)["resampler"] is None
