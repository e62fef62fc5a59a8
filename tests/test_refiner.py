"""The refiner: detail in pixels that codes do not hold."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest
import torch
from conftest import trained_stage
from PIL import Image
from scipy import stats

from reparam.cli.app import main
from reparam.distributions.pixels import LogisticMixture
from reparam.errors import UsageError
from reparam.metrics.evaluation import Evaluation
from reparam.models.build import build_model
from reparam.models.draw import Draw
from reparam.models.refiner import Refiner, build_refiner, dithered, energy_score
from reparam.models.sampler import Sampler, build_sampler
from reparam.nets.masked import CausalConv, baked
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.pretrained.image_model import ImageModel
from reparam.trainer.assembly import Assembly
from reparam.trainer.stages import base as stages
from reparam.trainer.stages.sequence import TimeSplit

NET = "flow_matching('unet(8)')"
NETS = (NET, "autoregressive(8, 4, 1, temperature=1.0)", "energy(16, 1, 1, temperature=1.0)")
RECIPE = Recipe(encoder="mlp((16,))", decoder="mlp((16,))", latent="flat(3)", refiner=NET, batch_size=32)


def checkered(n):
    """Grey images, each plus or minus a checkerboard: what a mean over both signs does not show."""
    sign = 2.0 * torch.randint(2, (n, 1, 1, 1)) - 1
    board = torch.tensor([[1.0, -1.0] * 2, [-1.0, 1.0] * 2] * 2)[None, None]
    return torch.full((n, 1, 4, 4), 0.5), 0.3 * sign * board


def refined(seed=0):
    """A model whose decoder says grey, with a refiner trained for a moment."""
    torch.manual_seed(seed)
    model = build_model(RECIPE, (1, 4, 4)).eval()
    for p in model.decoder.parameters():
        p.data.zero_()
    model.decoder.net[-2].bias.data.fill_(0.5)
    return Sampler(model)


@pytest.mark.parametrize("net", NETS)
def test_a_refiner_draws_what_the_mean_leaves_out(net):
    model = refined()
    grey, detail = checkered(400)
    assert trained_stage("refiner", model, RECIPE.but(refiner=net), grey + detail, steps=500) == net
    torch.testing.assert_close(model.refiner.scale, torch.full((1, 1, 1), 0.3), atol=0.01, rtol=0)
    with torch.no_grad():
        x = model.images(torch.randn(200, 3))
    board = detail[0] / detail[0, 0, 0, 0]
    share = (board * (x - 0.5)).mean((1, 2, 3))
    assert (share.abs() - 0.3).abs().mean() < 0.1  # one of the two, and not the grey between them
    assert 0.25 < float((share > 0).float().mean()) < 0.75
    assert not any(p.requires_grad for p in model.refiner.parameters())


def test_the_model_itself_stays_as_it_is(adds_only):
    model, x = refined(), torch.rand(40, 1, 4, 4)
    adds_only(model, "refiner", lambda model: trained_stage("refiner", model, RECIPE, x, steps=3))
    assert trained_stage("refiner", refined(), RECIPE.but(refiner="none"), x, steps=3) is None


@pytest.fixture(params=NETS)
def trained(request):
    """A model that has a refiner which does something."""
    model = build_sampler(RECIPE, (3, 6, 5), {"refiner": request.param}).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return ImageModel(model, Config(RECIPE, (3, 6, 5), stages={"refiner": request.param}))


def test_images_are_refined_unless_told_otherwise(trained):
    plain = trained.sample(5, seed=1, refine=False)
    assert np.array_equal(trained.sample(5, seed=1), trained.sample(5, seed=1))
    assert not np.array_equal(trained.sample(5, seed=1), plain)
    x = np.random.default_rng(0).random((4, 6, 5, 3)).astype(np.float32)
    assert not np.allclose(trained.reconstruct(x), trained.reconstruct(x, refine=False))
    assert np.array_equal(trained.reconstruct(x), trained.reconstruct(x))
    model, z = trained.sampler, torch.randn(4, 3)
    with torch.no_grad():
        assert torch.equal(model.images(z, Draw(refine=False)), model.means(z))
        twice = model.images(torch.cat([z[:1], z[:1]]))
        assert not torch.allclose(twice[0], twice[1])  # fresh noise for each


def test_an_image_follows_its_code_and_no_other_chance(trained):
    z = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    assert np.array_equal(trained.decode(z)[::-1], trained.decode(z[::-1]))  # the same noise for all
    near = trained.decode_pixels(torch.tensor(np.stack([z[0], z[0] + 1e-5])))
    assert (near[0] - near[1]).abs().median() < 1e-3  # a few of those that are drawn as levels may fall on another one


def test_metrics_of_pictures_see_the_refiner_and_likelihoods_do_not(trained):
    x = torch.rand(30, 3, 6, 5)
    refined, score = Evaluation(trained.sampler, x, n=30).reconstructions, trained.score_pixels(x)
    del trained.sampler.stages["refiner"]
    assert not torch.allclose(Evaluation(trained.sampler, x, n=30).reconstructions, refined)
    assert torch.equal(trained.score_pixels(x), score)


def test_a_refiner_is_saved_with_its_model(trained, tmp_path):
    trained.sampler.to(memory_format=torch.channels_last)  # as training leaves networks, and a file does not
    save_model(tmp_path, trained.sampler, trained.config)
    loaded = ImageModel(*load_model(tmp_path))
    assert loaded.config.stages["refiner"] == trained.config.stages["refiner"]
    assert np.array_equal(loaded.sample(3, seed=2), trained.sample(3, seed=2))


def test_shares_divide_the_minutes():
    model = build_model(RECIPE, (1, 4, 4))
    assert TimeSplit.of(RECIPE, model) == TimeSplit({"refiner": 0.4})
    assert TimeSplit.of(RECIPE, model).model == pytest.approx(0.6)
    both = RECIPE.but(fitted_prior="flow", prior_share=0.25, refiner_share=0.5)
    assert TimeSplit.of(both, model) == TimeSplit({"fitted_prior": 0.25, "refiner": 0.5})
    assert TimeSplit.of(both, model).model == pytest.approx(0.25)
    assert TimeSplit.of(RECIPE.but(refiner="none"), model).model == 1
    with pytest.raises(UsageError, match="leave nothing"):
        Assembly(both.but(prior_share=0.5), (1, 4, 4)).check()
    Assembly(both.but(prior_share=0.5, fitted_prior="mixture"), (1, 4, 4)).check()  # which takes no share
    with pytest.raises(UsageError, match="refiner_share is a share"):
        RECIPE.but(refiner_share=0.0)


def test_the_energy_score_of_single_values_is_the_crps():
    """Of N(m, s²) at y it is s (u (2Φ(u) − 1) + 2φ(u) − 1/√π), u = (y − m) / s (Gneiting & Raftery, 2007, section 4.2)."""
    m, s, y, n = 0.4, 0.2, 0.75, 200_000
    a, b = (m + s * torch.randn(n, 1, 1, 1, dtype=torch.float64) for _ in range(2))
    found = energy_score(a, b, torch.full_like(a, y), 1)
    u, normal = (y - m) / s, stats.norm
    crps = s * (u * (2 * normal.cdf(u) - 1) + 2 * normal.pdf(u) - 1 / math.sqrt(math.pi))
    assert float(found.mean()) == pytest.approx(crps, abs=4 * float(found.std()) / math.sqrt(n))


@pytest.mark.parametrize("side", [2, 3])
def test_the_energy_score_takes_every_square_as_one(side):
    a, b, x = (torch.rand(2, 3, 5, 4, dtype=torch.float64) for _ in range(3))
    first, score = max(side // 2, 1), torch.zeros(2, dtype=torch.float64)
    rows, columns = ([slice(i, i + side) for i in range(0, n - side + first, first)] for n in (5, 4))
    squares = list(product(rows, columns))
    for i, j in squares:
        here = [each[..., i, j].flatten(1) for each in (a, b, x)]
        near = sum((draw - here[2]).square().mean(1).sqrt() for draw in here[:2])
        score += (near - (here[0] - here[1]).square().mean(1).sqrt()) / 2
    torch.testing.assert_close(energy_score(a, b, x, side), score / len(squares), atol=1e-4, rtol=0)


def test_the_energy_score_is_least_at_the_distribution_itself():
    """Squares of two signs, alike within a square: neither their mean, nor single pixels of the same signs, do as well."""
    def signs(*shape):
        return 2.0 * torch.randint(2, shape) - 1

    n = 4000
    x = signs(n, 1, 1, 1).expand(n, 1, 4, 4)
    laws = {"right": lambda: signs(n, 1, 1, 1).expand(n, 1, 4, 4), "mean": lambda: torch.zeros(n, 1, 4, 4),
            "pixels": lambda: signs(n, 1, 4, 4)}
    score = {name: float(energy_score(draw(), draw(), x, 4).mean()) for name, draw in laws.items()}
    assert score["right"] < min(score["mean"], score["pixels"]) - 0.1


@pytest.fixture
def groupwise():
    """A refiner of images of 5×6 pixels and two channels."""
    torch.manual_seed(0)
    return spoken(build_refiner("autoregressive(16, mixtures=3, side=2)", (2, 5, 6)).double().eval())


def spoken(refiner):
    """With residual blocks that say something, as they do not at the start."""
    for p in refiner.parameters():
        torch.nn.init.normal_(p, 0.0, 0.1)
    return refiner


def pictures(n=3):
    return torch.randint(256, (n, 2, 5, 6)).double() / 255, torch.rand(n, 2, 5, 6, dtype=torch.float64)


def groups(side=2, size=(5, 6)):
    """The number of each pixel's group."""
    h, w = size
    return torch.tensor(dithered(side)).repeat(h, w)[:h, :w]


def test_a_group_is_told_of_those_before_it_and_of_no_other(groupwise):
    x, means = pictures(1)
    order = groups()
    for group in range(4):
        seen, image = x.clone().requires_grad_(), means.clone().requires_grad_()
        p = groupwise.given(seen, image)
        own = (p.means.sin() + p.log_scales.sin()).sum((0, 1, 2)) + p.log_weights.sin().sum((0, 1, 2))
        slopes = torch.autograd.grad(own[order == group].sum(), (seen, image))
        told, shown = (slope.abs().sum((0, 1)) > 0 for slope in slopes)
        assert torch.equal(told, order < group)
        assert shown.all()


@pytest.mark.parametrize("shape", [(2, 5, 6), (1, 1, 7)])
def test_the_loss_is_the_likelihood_group_after_group(shape):
    refiner = spoken(build_refiner("autoregressive(16, mixtures=3, side=2)", shape).double())
    x, means = torch.randint(256, (1, *shape)).double() / 255, torch.rand(1, *shape, dtype=torch.float64)
    order, exact = groups(2, shape[1:]), 0.0
    with torch.no_grad():
        for group in range(4):
            p = refiner.given(torch.where(order < group, x, means), means)  # of what is not yet drawn nothing is known
            fields = (p.log_weights, p.means, p.log_scales, p.chain)
            alone = [LogisticMixture(*(t[..., i, None, j, None] for t in fields)).log_prob(x[..., i, None, j, None])
                     for i, j in (order == group).nonzero()]
            exact -= float(sum(alone)) / x.numel()
        assert float(refiner.loss(x, means)) == pytest.approx(exact)


@pytest.mark.parametrize(("inputs", "outputs", "size", "strict"), [
    ([0, 1, 2], [0, 1, 1], 3, False), ([0, 1, 2, 0], [2, 1], 3, True), ([0, 1, 2], [1, 2], 1, True)])
def test_weights_that_would_tell_too_much_do_not_exist(inputs, outputs, size, strict):
    conv, x = CausalConv(inputs, outputs, size, strict), torch.randn(2, len(inputs), 4, 5)
    weights, dense = iter(conv.weight.tolist()), torch.zeros(len(outputs), len(inputs), size, size)
    for o, i in np.ndindex(len(outputs), len(inputs)):
        if inputs[i] < outputs[o] + (not strict):
            dense[o, i] = torch.tensor([next(weights) for _ in range(size**2)]).view(size, size)
    assert next(weights, None) is None
    for form in (torch.contiguous_format, torch.channels_last):
        found = conv.to(memory_format=form)(x.to(memory_format=form))
        torch.testing.assert_close(found, torch.nn.functional.conv2d(x, dense, conv.bias, padding="same"))


@pytest.mark.parametrize(("role", "part"), [
    ("posterior", "iaf"), ("prior", "autoregressive_flow"), ("prior", "spline_flow")])
def test_masks_are_baked_in_to_the_last_bit(role, part, small):
    model = small((1, 4, 4), **{role: part}).eval()
    dense = baked(model)
    assert any(name.endswith("mask") for name, _ in model.named_buffers())
    assert not any(name.endswith("mask") for name, _ in dense.named_buffers())
    x, noise = torch.rand(5, 1, 4, 4), model.latent.noise(5)
    with torch.no_grad():
        assert torch.equal(dense.encode(x), model.encode(x))
        assert torch.equal(dense.latent.from_noise(noise), model.latent.from_noise(noise))


def test_a_refiner_draws_the_same_with_its_masks_baked_in(monkeypatch):
    refiner = build_refiner("autoregressive(8, 1, 1)", (2, 6, 6)).eval()
    for p in refiner.parameters():
        p.detach().add_(0.1 * torch.randn_like(p))
    x = torch.rand(3, 2, 6, 6), torch.randn(3, 2, 6, 6)
    with torch.no_grad():
        drawn = refiner(*x)
        assert torch.equal(baked(refiner)(*x), drawn)
        monkeypatch.setattr("reparam.models.refiner.baked", lambda net: net)
        assert torch.equal(refiner(*x), drawn)
    assert not any(isinstance(m, CausalConv) for m in baked(refiner).modules())


def test_a_refiner_is_exported_for_any_number_of_images():
    refiner = baked(build_refiner("autoregressive(8, 1, 1, side=2)", (2, 6, 6))).eval()
    x = torch.rand(5, 2, 6, 6), torch.randn(5, 2, 6, 6)
    rows = torch.export.Dim("rows", min=1, max=4096)
    with torch.no_grad():
        whole = torch.export.export(refiner, (x[0][:2], x[1][:2]), dynamic_shapes=({0: rows}, {0: rows}), strict=False)
        torch.testing.assert_close(whole.module()(*x), refiner(*x))


def test_all_outputs_start_alike_whatever_they_see():
    torch.manual_seed(0)
    conv = CausalConv(10 * [0] + 990 * [1], 400 * [0] + 400 * [1], 1)
    spread = conv(torch.randn(500, 1000, 1, 1)).detach().std(0).flatten()
    assert float(spread[:400].mean() / spread[400:].mean()) == pytest.approx(1, abs=0.05)  # or 0.1, were all weights alike


def test_a_refiner_is_trained_at_its_own_rate(monkeypatch):
    told = []
    monkeypatch.setattr(stages, "training", lambda _, __, ___, how, **____: told.append(how.optimizer) or iter(()))
    for net in NETS:
        trained_stage("refiner", refined(), RECIPE.but(refiner=net), torch.rand(8, 1, 4, 4))
    assert told == ["adamw(lr=0.001)", "adamw(lr=0.006)", "adamw(lr=0.003)"]


def test_pixels_are_drawn_from_what_the_groups_before_them_say(groupwise):
    _, means = pictures()
    noise = torch.randn(3, 2, 5, 6, dtype=torch.float64)
    assert groupwise.temperature == 0.5
    with torch.no_grad():
        x = groupwise(means, noise)
        # the image that is drawn is the fixed point of drawing every pixel given those before it
        torch.testing.assert_close(groupwise.given(x, means).sharpened(0.5).from_uniform(torch.special.ndtr(noise)), x)


def test_links_between_channels_are_of_what_the_decoder_lacks(groupwise):
    """As far as the first channel is from the decoder's image, so much is the second's mean moved, times the link."""
    x, means = pictures(1)
    with torch.no_grad():
        p = groupwise.given(x, means)
        right = p.means[:, :, 1] + p.chain[:, :, 1, 0] * (2 * means[:, None, 0] - 1)  # at the decoder's own image
        link = p.chain[:, :, 1, 0]
        moved = p._shifted(2 * x - 1)[:, :, 1] - right
    torch.testing.assert_close(moved, link * 2 * (x - means)[:, None, 0])
    assert link.abs().max() > 1e-3


@pytest.mark.parametrize("temperature", [None, 0.5, 0.8])
def test_a_temperature_may_be_asked_for_in_place_of_the_refiners_own(groupwise, temperature):
    _, means = pictures()
    noise = torch.randn(3, 2, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        found = groupwise(means, noise, temperature)
        groupwise.temperature = temperature or 0.5
        assert torch.equal(found, groupwise(means, noise))
        cool = build_refiner(NET, (2, 5, 6)).eval()
        torch.testing.assert_close(cool(means.float(), noise.float(), 0.5), cool(means.float(), 0.5 * noise.float()))


def test_a_model_is_told_the_temperature_of_its_refiner(trained):
    own = trained.sample(3, seed=1)
    assert not np.array_equal(trained.sample(3, seed=1, refine_temperature=0.1), own)
    x = np.random.default_rng(0).random((4, 6, 5, 3)).astype(np.float32)
    assert not np.array_equal(trained.reconstruct(x, refine_temperature=0.1), trained.reconstruct(x))
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="above 0 and up to 1"):
            trained.sample(1, refine_temperature=wrong)
    with pytest.raises(UsageError, match="give one of them"):
        trained.sample(1, refine=False, refine_temperature=0.5)
    del trained.sampler.stages["refiner"]
    with pytest.raises(UsageError, match="no refiner"):
        trained.sample(1, refine_temperature=0.5)


def test_the_order_of_groups_is_that_of_ordered_dithering():
    known = [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]  # Bayer's, as in textbooks
    assert dithered(4) == known
    assert sorted(n for row in dithered(8) for n in row) == list(range(64))


def test_a_low_temperature_is_a_law_nearer_to_the_likeliest():
    shape = (1, 2, 1, 4, 4)
    weights, means = (torch.tensor(v).view(1, 2, 1, 1, 1).expand(shape) for v in ([0.8, 0.2], [-0.5, 0.5]))
    p = LogisticMixture(weights.log(), means, torch.full(shape, -3.0), torch.zeros(1, 2, 1, 1, 4, 4))
    low = p.sharpened(0.5)
    assert float(low.log_weights.exp()[0, 0, 0, 0, 0]) == pytest.approx(0.64 / 0.68)  # 0.8² / (0.8² + 0.2²)
    torch.testing.assert_close(low.log_scales.exp(), 0.5 * p.log_scales.exp())


@pytest.mark.parametrize(("what", "told"), [
    ("flow_matching('mlp')", "a list of numbers"), ("flow_matching('unit')", "did you mean 'unet'"),
    ("flow_matching('unet(0)')", "width"), ("flow_matching(steps=0)", "steps must be from 1 to 1000"),
    ("autoregresive", "did you mean 'autoregressive'"), ("autoregressive(side=3)", "1, 2, 4 or 8"),
    ("autoregressive(temperature=0.0)", "above 0"), ("autoregressive(0)", "width"),
    ("autoregressive(each=0)", "each must be at least 1")])
def test_networks_that_cannot_refine_are_refused(what, told):
    with pytest.raises(UsageError, match=told):
        build_refiner(what, (1, 8, 8))
    assert isinstance(build_refiner("flow_matching('dit(16, 1, 2)')", (1, 8, 8)), Refiner)


def test_black_and_white_is_not_refined_and_networks_are_told_their_place():
    with pytest.raises(UsageError, match="shades of grey"):
        Assembly(RECIPE.but(likelihood="bernoulli", binarize=True), (1, 4, 4)).check()
    with pytest.raises(UsageError, match=r"flow_matching\('unet\(8\)'\)"):
        build_refiner("unet(8)", (1, 8, 8))


def test_a_refiner_learns_from_images_that_are_decoded_as_their_class(monkeypatch):
    class Shade(torch.nn.Module):
        def forward(self, code):
            return (code[:, 3] * 0.2 + code[:, 4] * 0.8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)

    seen = []
    monkeypatch.setattr(Refiner, "prepare", lambda self, x, means: seen.append((x, means)))
    model = build_model(RECIPE.but(latent="conditional(3, 2)"), (1, 4, 4)).eval()
    model.decoder, y = Shade(), torch.arange(30) % 2
    x = y.view(-1, 1, 1, 1).expand(-1, 1, 4, 4).float()
    trained_stage("refiner", Sampler(model), RECIPE, x, y, steps=1)
    torch.testing.assert_close(seen[0][1], 0.2 + 0.6 * x)


def test_a_gan_has_nothing_to_refine():
    with pytest.raises(UsageError, match="a GAN has no encoder"):
        Assembly(Recipe(encoder="none", likelihood="implicit", objective="adversarial", adversary="images", refiner=NET),
                 (1, 8, 8)).check()


def test_the_commands_train_and_use_a_refiner(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--encoder", "mlp((32,))", "--decoder", "mlp((32,))", "--latent", "flat(4)", "--steps", "10"]
    assert main(["train", "digits", "--out", "run", *small, "--refiner", NET, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"
    assert load_model("run")[1].stages["refiner"] == NET
    Image.fromarray(np.full((8, 8), 99, np.uint8)).save("grey.png")
    for command in (["sample", "run", "-n", "3"], ["reconstruct", "run", "grey.png"]):
        for extra in ([], ["--no-refine"], ["--refine-temperature", "0.1"]):
            assert main([*command, "--out", f"{len(extra)}.npy", *extra]) == 0
        assert len({np.load(f"{i}.npy").tobytes() for i in range(3)}) == 3
    assert main(["sample", "run", "--no-refine", "--refine-temperature", "0.1"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main(["fit-prior", "run", "--prior", "mixture(2)"]) == 0
    assert load_model("run")[1].stages["refiner"] == NET  # a new prior leaves it
    capsys.readouterr()
    assert main(["train", "digits", "--out", "other", *small, "--refiner", "flow_matching('mlp')"]) == 2
    assert "a list of numbers" in capsys.readouterr().err and not (tmp_path / "other").exists()
