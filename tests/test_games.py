"""Games at their optimum, penalties in closed form, and what random changes do to images."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog, minimize
from scipy.stats import kstest, wasserstein_distance
from torch import nn

from reparam.data.augment import affine, color, crop, cutout, flip, parse_augmentation, translate
from reparam.errors import UsageError
from reparam.nets.critic import Critic, make_critic
from reparam.objectives.adversaries.penalties import Scored, parse_penalties, same_quarter
from reparam.parts.registry import ROLES

P = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
Q = torch.tensor([0.05, 0.1, 0.25, 0.6], dtype=torch.float64)
"""Real inputs and fakes on four points."""
GAMES = sorted(ROLES["game"].parts)
SMOOTH = [g for g in GAMES if g not in ("hinge", "wasserstein")]

game_of = ROLES["game"].make


def penalty_of(text):
    ((_, penalty),) = parse_penalties(text)
    return penalty


def expected(loss, s, p=P, q=Q):
    """E of a game's loss where real inputs are drawn from p and fakes from q, at scores s of the points."""
    n = len(s)
    each = loss(s.repeat_interleave(n), s.repeat(n)).view(n, n)
    return (p[:, None] * q * each).sum()


def best(game, p=P, q=Q):
    """Scores of the optimal critic, found by minimising its loss, and that loss."""

    def of(values):
        s = torch.tensor(values, requires_grad=True)
        loss = expected(game.critic, s, p, q)
        return loss.item(), torch.autograd.grad(loss, s)[0].numpy()

    found = minimize(of, np.zeros(len(p)), jac=True, method="BFGS", options={"gtol": 1e-9})
    return torch.from_numpy(found.x), found.fun


def kl(p, q):
    return (p * (p / q).log()).sum().item()


def test_the_best_nonsaturating_critic_is_the_log_ratio_and_reaches_the_jensen_shannon_divergence():
    """(Goodfellow et al., 2014, Theorem 1)"""
    game = game_of("nonsaturating")
    s, loss = best(game)
    torch.testing.assert_close(s, (P / Q).log(), rtol=0, atol=1e-6)
    m = (P + Q) / 2
    assert loss == pytest.approx(2 * math.log(2) - (kl(P, m) + kl(Q, m)), abs=1e-10)
    assert expected(game.model, s).item() == pytest.approx((Q * ((P + Q) / P).log()).sum().item(), abs=1e-6)


def test_the_ratio_game_estimates_the_divergence_of_fakes_from_real():
    game = game_of("ratio")
    s, _ = best(game)
    torch.testing.assert_close(s, (P / Q).log(), rtol=0, atol=1e-6)
    assert expected(game.model, s).item() == pytest.approx(kl(Q, P), abs=1e-6)
    assert abs(kl(Q, P) - kl(P, Q)) > 0.01


def test_the_best_hinge_critic_is_the_sign_and_reaches_the_total_variation():
    """The loss is convex in each score by itself, so that no neighbour being better proves it."""
    game, s = game_of("hinge"), (P - Q).sign()
    least = expected(game.critic, s).item()
    assert least == pytest.approx(2 - (P - Q).abs().sum().item(), abs=1e-12)
    for i, by in itertools.product(range(4), (-1e-3, 1e-3)):
        assert expected(game.critic, s + by * torch.eye(4, dtype=torch.float64)[i]).item() > least


def test_the_best_least_squares_critic_and_its_value():
    """(Mao et al., 2017, Eq. 5): the loss is 1 less half the triangular discrimination, a χ² of p and their mean."""
    game = game_of("least_squares")
    s, loss = best(game)
    torch.testing.assert_close(s, (P - Q) / (P + Q), rtol=0, atol=1e-7)
    m = (P + Q) / 2
    assert loss == pytest.approx(1 - ((P - m) ** 2 / m).sum().item(), abs=1e-10)
    assert expected(game.model, s).item() == pytest.approx((2 * Q**3 / (P + Q) ** 2).sum().item(), abs=1e-6)


def test_the_best_smooth_critic_of_wasserstein_is_the_distance():
    """A linear programme over scores whose differences are no larger than the points are apart."""
    game, at = game_of("wasserstein"), np.array([-1.0, 0.3, 0.7, 2.0])
    s = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(expected(game.critic, s), s)[0].numpy()
    pairs = list(itertools.permutations(range(4), 2))
    rows = np.array([np.eye(4)[i] - np.eye(4)[j] for i, j in pairs])
    found = linprog(slope, rows, [abs(at[i] - at[j]) for i, j in pairs], bounds=[(-10, 10)] * 4)
    assert -found.fun == pytest.approx(wasserstein_distance(at, at, P.numpy(), Q.numpy()), abs=1e-9)
    scores = torch.from_numpy(found.x)
    gap = expected(game.model, scores) - (P * -scores).sum()
    assert gap.item() == pytest.approx(-found.fun, abs=1e-9)


def test_the_best_relativistic_critic_ranks_by_the_ratio():
    """Of a pair, one real, the odds of which it is are p_i q_j to p_j q_i. (Bradley & Terry, 1952)"""
    s, loss = best(game_of("relativistic"))
    ratio = (P / Q).log()
    torch.testing.assert_close(s - s.mean(), ratio - ratio.mean(), rtol=0, atol=1e-5)
    assert loss < math.log(2)


def test_relativistic_scores_have_no_origin():
    game, (real, fake) = game_of("relativistic"), torch.randn(2, 9)
    torch.testing.assert_close(game.critic(real + 3, fake + 3), game.critic(real, fake))
    torch.testing.assert_close(game.model(real + 3, fake + 3), game.model(real, fake))


@pytest.mark.parametrize("name", [g for g in GAMES if g != "wasserstein"])
def test_where_all_is_won_nobody_moves(name):
    """With p = q the best critic is flat, so that no fake can gain by moving, and the loss is the one of guessing."""
    game = game_of(name)
    flat = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    loss = expected(game.critic, flat, P, P)
    assert torch.autograd.grad(loss, flat)[0].abs().max() < 1e-12
    for seed in range(5):
        other = 3 * torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert expected(game.critic, other, P, P) > loss
    guessing = {"relativistic": math.log(2), "hinge": 2.0, "least_squares": 1.0}.get(name, 2 * math.log(2))
    assert loss.item() == pytest.approx(guessing, abs=1e-12)


@pytest.mark.parametrize("name", GAMES)
def test_a_game_treats_both_sides_alike(name):
    """The critic cannot tell which side is called real, but for the sign; nor may one who moves the other side."""
    game = game_of(name)
    real, fake = torch.randn(2, 50, dtype=torch.float64)
    torch.testing.assert_close(game.critic(-fake, -real), game.critic(real, fake))
    real.requires_grad_()
    fake.requires_grad_()
    up = torch.autograd.grad(game.model(real, fake).sum(), fake)[0]
    down = torch.autograd.grad(game.model(-fake, -real).sum(), real)[0]
    inside = fake.detach() < 1, real.detach() > -1
    assert (up[inside[0]] < 0).all()  # a higher score of a fake, and a lower one of a real input, lower the loss
    assert (down[inside[1]] > 0).all()
    if not game.paired:  # the same loss, of scores with the sign turned
        torch.testing.assert_close(game.model(-fake, -real), game.model(torch.zeros(50), -real.detach()))


@pytest.mark.parametrize("name", GAMES)
def test_only_a_paired_game_looks_at_real_scores(name):
    game, (real, fake) = game_of(name), torch.randn(2, 9)
    assert torch.equal(game.model(real, fake), game.model(real + 1, fake)) == (not game.paired)


@pytest.mark.parametrize("name", GAMES)
def test_scores_of_places_are_judged_one_by_one(name):
    game, (real, fake) = game_of(name), torch.randn(2, 3, 4)
    for loss in (game.critic, game.model):
        assert torch.equal(loss(real, fake)[:, 2], loss(real[:, 2], fake[:, 2]))


@pytest.mark.parametrize("wrong", ["hinge(0)", "ratio(steps=-1)", "wasserstein(warmup=1.5)", "hinge(warmup=-0.1)"])
def test_games_without_sense_are_refused(wrong):
    with pytest.raises(UsageError, match=r"steps must be at least 1|warmup must be from 0 to 1"):
        game_of(wrong)


# Penalties


class Quadratic(nn.Module):
    """½ xᵀA x + bᵀx, of all inputs joined."""

    def __init__(self, size, curved=1.0):
        super().__init__()
        a = curved * torch.randn(size, size, dtype=torch.float64)
        self.a = nn.Parameter((a + a.T) / 2)
        self.b = nn.Parameter(torch.randn(size, dtype=torch.float64))

    def forward(self, *inputs):
        x = torch.cat([t.flatten(1) for t in inputs], 1)
        return 0.5 * torch.einsum("ni,ij,nj->n", x, self.a, x) + x @ self.b

    def gradient(self, *inputs):
        return torch.cat([t.flatten(1) for t in inputs], 1) @ (self.a + self.a.T) / 2 + self.b


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def scored(critic, real, fake):
    for t in (*real, *fake):
        t.requires_grad_()
    return Scored(critic, real, fake, critic(*real), critic(*fake))


@pytest.mark.parametrize("joint", [False, True], ids=["images", "joint"])
@pytest.mark.parametrize(("name", "side"), [("r1", 0), ("r2", 1)])
def test_slopes_of_a_quadratic_critic_are_exact(name, side, joint):
    critic = Quadratic(6 if joint else 4)
    sides = [(doubles(5, 1, 2, 2), doubles(5, 2)) if joint else (doubles(5, 1, 2, 2),) for _ in range(2)]
    got = penalty_of(name)(scored(critic, *sides))
    hand = 0.5 * critic.gradient(*sides[side]).square().sum(1).mean()
    torch.testing.assert_close(got, hand)
    for a, b in zip(torch.autograd.grad(got, critic.parameters()), torch.autograd.grad(hand, critic.parameters()),
                    strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("name", "side"), [("r1", 0), ("r2", 1)])
def test_slopes_by_noise_have_the_bias_that_curvature_gives(name, side):
    """E (D(x + σε) − D(x))² / σ² = ‖∇D‖² + σ²/4 (tr(A)² + 2 tr(A²)) for a quadratic critic."""
    critic, sigma, n = Quadratic(4), 0.5, 200_000
    sides = [doubles(1, 4).expand(n, 4).clone() for _ in range(2)]
    with torch.no_grad():
        got = penalty_of(f"{name}({sigma})")(Scored(critic, (sides[0],), (sides[1],), *map(critic, sides)))
        slope = critic.gradient(sides[side][:1]).square().sum()
        bias = sigma**2 / 4 * (critic.a.trace() ** 2 + 2 * (critic.a @ critic.a).trace())
    assert bias > 0.1 * slope
    assert got.item() == pytest.approx(0.5 * (slope + bias).item(), rel=0.02)


def test_slopes_by_noise_approach_the_exact_ones():
    critic, x = Quadratic(4), doubles(1, 4)
    many = x.expand(100_000, 4)
    with torch.no_grad():
        got = penalty_of("r1(0.001)")(Scored(critic, (many,), (many,), critic(many), critic(many)))
    exact = penalty_of("r1")(scored(critic, (x,), (x.clone(),)))
    assert got.item() == pytest.approx(exact.item(), rel=0.02)
    assert not penalty_of("r1(0.001)").differentiates
    assert penalty_of("r1").differentiates


class Lined(nn.Module):
    """A linear critic that remembers where it was asked."""

    def __init__(self, size):
        super().__init__()
        self.w = nn.Parameter(doubles(size))
        self.seen = []

    def forward(self, *inputs):
        self.seen.append(torch.cat([t.flatten(1) for t in inputs], 1).detach())
        return torch.cat([t.flatten(1) for t in inputs], 1) @ self.w


@pytest.mark.parametrize("joint", [False, True], ids=["images", "joint"])
def test_the_gradient_penalty_of_a_linear_critic_is_exact_and_taken_between_the_two(joint):
    critic = Lined(6 if joint else 4)
    real, fake = [(doubles(7, 1, 2, 2), doubles(7, 2)) if joint else (doubles(7, 1, 2, 2),) for _ in range(2)]
    got = penalty_of("gradient")(scored(critic, real, fake))
    torch.testing.assert_close(got, (critic.w.norm() - 1) ** 2)
    torch.testing.assert_close(torch.autograd.grad(got, critic.w)[0], 2 * (1 - 1 / critic.w.norm()).detach() * critic.w)
    a, b = (torch.cat([t.detach().flatten(1) for t in side], 1) for side in (real, fake))
    t = (critic.seen[-1] - a) / (b - a)
    assert ((t > 0) & (t < 1)).all()
    torch.testing.assert_close(t, t[:, :1].expand_as(t))  # one point on the line from each pair to the other
    assert t[:, 0].std() > 0.1


def test_slopes_of_a_map_of_scores_are_those_of_their_mean():
    w = doubles(4, 3)
    sides = (doubles(5, 4),), (doubles(5, 4),)
    got = penalty_of("r1")(scored(lambda x: x @ w, *sides))
    torch.testing.assert_close(got, 0.5 * w.mean(1).square().sum())
    many = torch.zeros(100_000, 4, dtype=torch.float64)
    noisy = penalty_of("r1(0.1)")(Scored(lambda x: x @ w, (many,), (many,), many @ w, many @ w))
    assert noisy.item() == pytest.approx(got.item(), rel=0.03)


def test_lecam_draws_scores_to_the_other_sides_average():
    penalty, decay = penalty_of("lecam(decay=0.9)"), 0.9
    real_average, fake_average = 0.0, 0.0
    for step in range(3):
        real, fake = torch.randn(2, 6) + step
        got = penalty(Scored(nn.Identity(), (real,), (fake,), real, fake))
        real_average = decay * real_average + (1 - decay) * real.mean().item()
        fake_average = decay * fake_average + (1 - decay) * fake.mean().item()
        hand = (real - fake_average).square().mean() + (fake - real_average).square().mean()
        torch.testing.assert_close(got, hand)
    assert penalty.state_dict()["averages"].tolist() == pytest.approx([real_average, fake_average], rel=1e-5)
    other = penalty_of("lecam")
    other.load_state_dict(penalty.state_dict())
    assert torch.equal(other.averages, penalty.averages)


def test_a_broken_batch_leaves_lecams_averages_alone():
    penalty, ones = penalty_of("lecam"), torch.ones(4)
    penalty(Scored(nn.Identity(), (ones,), (ones,), ones, -ones))
    before = penalty.averages.clone()
    bad = torch.full((4,), math.nan)
    assert penalty(Scored(nn.Identity(), (bad,), (ones,), bad, ones)).isnan()
    torch.testing.assert_close(penalty.averages[0], before[0])
    assert penalty(Scored(nn.Identity(), (ones,), (ones,), ones, -ones)).isfinite()


NETWORKS = ["mlp((16, 16))", "conv(width=4)", "resnet(width=4)", "vit(width=16, depth=1, heads=2)", "dcgan(width=4)"]


@pytest.mark.parametrize("network", NETWORKS)
def test_spectral_norm_makes_the_largest_singular_value_one(network):
    critic = make_critic(network, (3, 12, 12))
    layers = [m for m in critic.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    zero = sum(not m.weight.any() for m in layers)
    assert zero > 0 or network not in (NETWORKS[2], NETWORKS[3])
    penalty = penalty_of("spectral_norm")
    penalty.attach(critic, (3, 12, 12))
    x = torch.rand(2, 3, 12, 12)
    assert penalty(Scored(critic, (x,), (x,), critic(x), critic(x))).item() == 0
    for layer in layers:
        for _ in range(300):  # asking for the weight takes a step of power iteration
            weight = layer.weight
        largest = np.linalg.svd(weight.detach().flatten(1).numpy(), compute_uv=False)[0]
        assert largest == pytest.approx(1, abs=2e-3)
    critic(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters())


def test_penalties_are_read_with_their_weights():
    found = parse_penalties("10*r1 + 2.5*lecam(0.5) + spectral_norm + 0*r2(0.1)")
    assert [w(0.3) for w, _ in found] == [10, 2.5, 1, 0]
    assert [type(p).__name__ for _, p in found] == ["R1", "LeCam", "SpectralNorm", "R2"]
    assert found[1][1].decay == 0.5
    assert parse_penalties("none") == []


@pytest.mark.parametrize(("text", "why"), [
    ("r3", "unknown penalty 'r3'"), ("linear(1, -1)*r1", "at least 0 and finite throughout"),
    ("target_rate(30)*r1", "adapts to a term"), ("wave(0, 1)*r1", "unknown weight"), ("-1*r1", "at least 0"),
    ("r1 - r2", "at least 0"), ("", "cannot read"), ("r1(-0.1)", "noise must be at least 0"),
    ("lecam(1.0)", "decay must be from 0 to below 1"), ("lecam(-0.1)", "decay must be from 0 to below 1"),
    ("10*gradient(5)", "Write it as gradient"), ("spectral_norm(n=3)", "Write it as spectral_norm")])
def test_penalties_without_sense_are_refused(text, why):
    with pytest.raises(UsageError, match=why):
        parse_penalties(text)


@pytest.mark.parametrize("penalty", ["none", "r1", "r2", "gradient", "lecam", "2*r1 + 3*r2(0.5) + gradient + lecam"])
@pytest.mark.parametrize("name", GAMES)
def test_the_critics_gradients_are_those_of_its_loss(name, penalty):
    """To the second order, in double precision, of a small smooth critic's loss in its weights."""
    game, penalties = game_of(name), parse_penalties(penalty)
    real, fake = doubles(3, 2), doubles(3, 2)
    for _, p in penalties:
        p.double()
    start = [copy.deepcopy(p.state_dict()) for _, p in penalties]

    def loss(a, b, c):
        def critic(x):
            return torch.tanh(x @ a + b) @ c

        torch.manual_seed(1)
        for (_, p), state in zip(penalties, start, strict=True):
            p.load_state_dict(state)
        sides = [(t.clone().requires_grad_(),) for t in (real, fake)]
        judged = Scored(critic, *sides, critic(*sides[0]), critic(*sides[1]))
        total = game.critic(judged.real_scores, judged.fake_scores).mean()
        return total + sum(w(0.0) * p(judged) for w, p in penalties)

    weights = [t.requires_grad_() for t in (doubles(2, 3), doubles(3), 0.3 * doubles(3))]
    if "lecam" not in penalty:  # lecam's averages take no gradient, which finite differences do not know
        assert torch.autograd.gradcheck(loss, weights, fast_mode=True)
        assert torch.autograd.gradgradcheck(loss, weights, fast_mode=True)
    else:
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss(*weights), weights))


def test_a_map_of_scores_has_one_for_each_place():
    for patch, network in itertools.product((2, 4, 8), ("conv(width=4)", "resnet(width=4)")):
        grid = (-(-16 // patch), -(-12 // patch))
        critic = make_critic(network, (3, 16, 12), grid)
        assert critic(torch.rand(2, 3, 16, 12)).shape == (2, math.prod(grid))
    whole = make_critic("conv(width=4)", (3, 16, 12))
    assert isinstance(whole, Critic)
    assert whole(torch.rand(2, 3, 16, 12)).shape == (2,)


# Random changes


def drawn(change, image, n):
    return change(image.expand(n, *image.shape).contiguous())


CHANGES = {"color": color(), "translate": translate(0.25), "cutout": cutout(0.5), "flip": flip(), "crop": crop(2)}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@every_change
@pytest.mark.parametrize("shape", [(1, 1, 5, 7), (4, 3, 8, 8), (3, 1, 1, 1), (2, 5, 9, 4)], ids=str)
def test_a_change_keeps_the_shape(change, shape):
    x = torch.rand(shape)
    before = x.clone()
    out = change(x)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert torch.equal(x, before)


@every_change
def test_a_change_is_differentiable(change):
    def of(x):
        torch.manual_seed(3)
        return change(x)

    x = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of, x)
    assert torch.autograd.grad(of(x).square().sum(), x)[0].any()


@every_change
def test_images_of_a_batch_change_each_by_itself_and_alike(change):
    """Each place in the batch meets the same changes equally often: as first, as last, and alone."""
    x = torch.rand(3, 6, 6)
    rows = torch.stack([drawn(change, x, 3) for _ in range(1500)])
    alone = torch.stack([drawn(change, x, 1) for _ in range(1500)])
    figures = torch.cat([rows, alone], 1).flatten(2)  # (draws, places, numbers)
    spread = (figures.var(0).mean(0) / len(figures)).sqrt().clamp(min=1e-3)
    assert ((figures.mean(0) - figures.mean((0, 1))) / spread).abs().max() < 5
    assert (rows[:, 0] != rows[:, 1]).flatten(1).any(1).float().mean() > 0.3


def test_colour_changes_lie_in_their_range():
    """Brightness by a quarter of the pixel range either way, saturation by 0 to 2, contrast by ½ to 1½: the paper's numbers,
    whose images lie in [−1, 1]."""
    x = torch.rand(3, 6, 6, dtype=torch.float64)
    out = drawn(color(), x, 4000)
    grey, new_grey = x.mean(0), out.mean(1)
    shift = new_grey.mean((1, 2)) - grey.mean()
    contrast = ((new_grey - new_grey.mean((1, 2), keepdim=True)) * (grey - grey.mean())).sum((1, 2)) / (
        grey - grey.mean()).square().sum()
    chroma = ((out - new_grey[:, None]) * (x - grey)).sum((1, 2, 3)) / (x - grey).square().sum()
    rebuilt = (new_grey.mean((1, 2))[:, None, None, None] + contrast[:, None, None, None] * (grey - grey.mean())
               + chroma[:, None, None, None] * (x - grey))
    torch.testing.assert_close(out, rebuilt)
    assert kstest(contrast - 0.5, "uniform").pvalue > 1e-3
    assert kstest(chroma / contrast / 2, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(np.stack([shift, contrast, chroma / contrast]))[np.triu_indices(3, 1)]).max() < 0.06
    assert kstest(2 * shift + 0.5, "uniform").pvalue > 1e-3


def test_colours_are_kept_in_expectation():
    x = torch.rand(3, 4, 4, dtype=torch.float64)
    out = drawn(color(), x, 40_000)
    assert ((out.mean(0) - x) / (out.std(0) / 200)).abs().max() < 5


def test_a_grey_image_has_no_saturation_to_change():
    out = drawn(color(), torch.rand(1, 5, 5), 20)
    flat = (out - out.mean((1, 2, 3), keepdim=True)).flatten(1)
    assert torch.linalg.matrix_rank(flat, rtol=1e-3) == 1
    assert flat.abs().sum(1).min() > 0


def test_translations_shift_by_up_to_their_share_with_black_coming_in():
    x = torch.arange(1.0, 33.0).view(1, 4, 8)  # every pixel tells where it was
    out = drawn(translate(0.25), x, 3000)
    seen = {}
    for image in out:
        at = image[0].nonzero()[0]
        came_from = int(image[0, at[0], at[1]]) - 1
        down, right = int(at[0]) - came_from // 8, int(at[1]) - came_from % 8
        expected_image = torch.zeros(4, 8)
        expected_image[max(down, 0) : 4 + down, max(right, 0) : 8 + right] = x[0, max(-down, 0) : 4 - down,
                                                                               max(-right, 0) : 8 - right]
        assert torch.equal(image[0], expected_image)
        seen[down, right] = seen.get((down, right), 0) + 1
    assert seen.keys() == set(itertools.product(range(-1, 2), range(-2, 3)))
    assert sum((n - 200) ** 2 / 200 for n in seen.values()) < 36  # χ² with 14 degrees of freedom: one in a thousand


def test_cutouts_hide_a_square_that_may_lie_half_outside():
    side, share, n = 10, 0.4, 20_000
    hidden = drawn(cutout(share), torch.ones(1, side, side), n)[:, 0] == 0
    rows, columns = hidden.any(2), hidden.any(1)
    assert torch.equal(hidden, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(1).max() <= 5 and columns.sum(1).max() <= 5
    assert rows.sum(1).min() >= 2
    reach, centre = share * side / 2, torch.arange(side) + 0.5
    chance = ((centre + reach).clamp(max=side) - (centre - reach).clamp(min=0)) / side
    got = hidden.float().mean(0)
    want = chance[:, None] * chance
    assert ((got - want) / (want * (1 - want) / n).sqrt()).abs().max() < 5


def test_crops_and_mirrors_are_what_they_were():
    x = torch.rand(5, 2, 4, 6)
    torch.manual_seed(2)
    got = crop(2)(x)
    torch.manual_seed(2)
    top, left = torch.randint(0, 5, (2, 5))
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    for i in range(5):
        assert torch.equal(got[i], padded[i, :, top[i] : top[i] + 4, left[i] : left[i] + 6])
    torch.manual_seed(2)
    got = flip()(x)
    torch.manual_seed(2)
    mirrored = torch.rand(5, 1, 1, 1) < 0.5
    assert torch.equal(got, torch.where(mirrored, x.flip(-1), x))


@pytest.mark.parametrize("wrong", ["translate(0)", "translate(1.0)", "cutout(0)", "cutout(1)", "crop(0)", "2*flip",
                                   "colour"])
def test_changes_without_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        parse_augmentation(wrong, for_critic=True)


def test_only_a_critic_bears_pixels_out_of_their_range():
    with pytest.raises(UsageError, match="--critic-augment color"):
        parse_augmentation("flip + color")
    assert drawn(color(), torch.zeros(1, 2, 2), 50).min() < 0
    for text in ("flip + crop(1)", "translate + cutout"):
        assert parse_augmentation(text)(torch.rand(9, 1, 6, 6)).min() >= 0


def test_changes_are_made_one_after_another():
    assert parse_augmentation("none") is None
    x = torch.rand(3, 1, 6, 6)
    both = parse_augmentation("cutout(0.5) + color", for_critic=True)
    torch.manual_seed(0)
    got = both(x)
    torch.manual_seed(0)
    torch.testing.assert_close(got, color()(cutout(0.5)(x)))


def moved(apply, right, down):
    """Where a spot, so far from the centre of 300 images of 41×61 pixels, is after a change: (300, 2)."""
    row, column = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(61.0) - 30, indexing="ij")
    spot = (-((row - down) ** 2 + (column - right) ** 2) / 4).exp().expand(300, 1, 41, 61)
    weight = apply(spot)[:, 0]
    weight = weight / weight.sum((1, 2), keepdim=True)
    return torch.stack([(weight * column).sum((1, 2)), (weight * row).sum((1, 2))], 1)


def test_affine_changes_are_as_large_as_said():
    x = torch.rand(5, 3, 7, 9)
    torch.testing.assert_close(affine(0, 0, 0, 0)(x), x)
    turned = moved(affine(30, 0, 0, 0), 10, 0)
    torch.testing.assert_close(turned.norm(dim=1), torch.full((300,), 10.0), atol=0.05, rtol=0)
    assert 28 < turned[:, 1].atan2(turned[:, 0]).rad2deg().abs().max() < 30.2
    shifted = moved(affine(0, 0, 0, 0.1), 0, 0).abs().max(0).values  # by a share of each side
    assert 5.8 < shifted[0] < 6.15 and 3.9 < shifted[1] < 4.15
    stretched = moved(affine(0, 0.2, 0, 0), 10, 0)
    assert stretched[:, 1].abs().max() < 0.05
    assert 10 / 1.2 - 0.05 < stretched[:, 0].min() < 8.5 and 12.2 < stretched[:, 0].max() < 12.55
    slanted = moved(affine(0, 0, 0.5, 0), 0, 10)
    assert (slanted[:, 1] - 10).abs().max() < 0.05 and 4.8 < slanted[:, 0].abs().max() < 5.1


def test_smoothed_margins_are_drawn_between_less_and_one():
    game, scores = ROLES["game"].make("hinge(smoothing=0.2)"), torch.zeros(5000)
    both = game.critic(scores, scores)
    assert both.min() >= 2 * 0.8 and both.max() <= 2
    assert both.mean().item() == pytest.approx(1.8, abs=0.01)
    assert both.std().item() == pytest.approx(0.2 * math.sqrt(2 / 12), rel=0.05)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 9, 15), (5, 64, 64)])
def test_a_critic_that_reconstructs_learns_to(shape):
    """Both decoders and the critic's trunk follow the error, which falls; fakes do not count."""
    torch.manual_seed(0)
    critic, penalty = make_critic("fastgan(8)", shape), penalty_of("reconstruct")
    penalty.attach(critic, shape)
    y, x = torch.meshgrid(torch.linspace(0, 1, shape[1]), torch.linspace(0, 1, shape[2]), indexing="ij")
    real = (torch.rand(8, shape[0], 1, 1) * x + torch.rand(8, shape[0], 1, 1) * y) / 2
    fake = torch.full_like(real, math.nan)
    learned = [*critic.trunk.parameters(), *penalty.parameters()]
    optimizer = torch.optim.Adam(learned, 0.003)
    errors = []
    for _ in range(25):
        loss = penalty(Scored(critic, (real,), (fake,), real, fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learned)
    assert sum(errors[-3:]) < 0.5 * sum(errors[:3])


def test_a_quarter_of_a_map_goes_with_its_pixels():
    """A map that is the mean of each place's pixels says which these are."""
    x = torch.rand(2, 3, 32, 48)
    for _ in range(20):
        part, h = same_quarter(x, F.avg_pool2d(x, 8))
        assert part.shape == (2, 3, 16, 24)
        torch.testing.assert_close(F.avg_pool2d(part, 8), h)


@pytest.mark.parametrize("critic", ["mlp((8,))", "dcgan(8)"])
def test_a_critic_without_a_map_is_not_asked_to_reconstruct(critic):
    with pytest.raises(UsageError, match=r"give a convolutional one"):
        penalty_of("reconstruct").attach(make_critic(critic, (1, 2, 1)), (1, 2, 1))
