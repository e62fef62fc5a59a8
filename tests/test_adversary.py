"""Adversaries: what a critic compares, which gradient goes where, how both sides train; and models without an encoder."""

from __future__ import annotations

import copy
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import forever, last, trained_stage, training
from safetensors.torch import load, save
from torch import nn
from torch.nn.functional import softplus

from reparam.data.stream import to_batch
from reparam.distributions.gaussian import Gaussian
from reparam.errors import ModelFileError, UsageError
from reparam.models.calibration import calibrate_likelihood
from reparam.models.codes import latent_axes
from reparam.models.sampler import Sampler
from reparam.models.trace import Layer
from reparam.models.vae import VAE, Generator
from reparam.objectives.adversaries.build import build_adversary
from reparam.objectives.adversaries.games import Game, Ratio
from reparam.objectives.context import Context
from reparam.objectives.objective import parse_objective
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.pretrained.image_model import ImageModel
from reparam.tensors import forked_rng
from reparam.trainer.assembly import Assembly
from reparam.trainer.loop import EMA_EVERY

SHAPE = (1, 4, 4)
STEADY = {"schedule": "constant", "optimizer": "adam(lr=0.01)", "critic_optimizer": "adam(lr=0.01)"}
PLAIN = {"posterior": "deterministic"}
"""An autoencoder, which draws no random numbers."""
GAN = {"encoder": "none", "likelihood": "implicit"}
JUDGES = ["images('both')", "images('samples')", "images('reconstructions')", "images(patch=2)", "codes", "permuted",
          "joint"]


@pytest.fixture
def play(small):
    """A model and its adversary: `play("codes", game="ratio")`; other words are fields of a small model."""

    def make(adversary="images", *, shape=SHAPE, game="nonsaturating", penalty="none", critic=None, critic_augment="none",
             **changes):
        model = small(shape, **changes)
        critic = critic or ("conv(width=4)" if "patch" in adversary else "mlp(hidden=(8,))")
        recipe = Recipe(adversary=adversary, critic=critic, game=game, penalty=penalty, critic_augment=critic_augment)
        return model, build_adversary(recipe, model, shape)

    return make


def of(model, prefix=""):
    return [p for name, p in model.named_parameters() if name.startswith(prefix)]


def grads(loss, parameters):
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)


def untouched(found):
    return all(g is None or not g.any() for g in found)


def close(got, want):
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(torch.zeros(()) if a is None or not a.any() else a,
                                   torch.zeros(()) if b is None or not b.any() else b, rtol=1e-5, atol=1e-6)


def with_codes(model, z):
    """A trace of images whose codes are z (1, n, *d)."""
    trace = model(torch.zeros(1, *SHAPE))
    layer = Layer(z, Gaussian(z, z), Gaussian(z, z))
    return replace(trace, x=trace.x.expand(z.shape[1], *SHAPE), layers=(layer,), decoder_input=z)


# Who gets which gradient


@pytest.mark.parametrize("penalty", ["none", "r1 + r2", "gradient"])
@pytest.mark.parametrize("game", ["nonsaturating", "relativistic"])
@pytest.mark.parametrize("name", JUDGES)
def test_each_player_learns_from_its_own_loss_alone(name, game, penalty, play, images):
    """By one backward pass of both losses, and by each by itself, with the game written out."""
    model, adversary = play(name, game=game, penalty=penalty)
    objective, rules = parse_objective("nll + kl + 3*adversarial"), adversary.game
    trace = model(images(5, SHAPE))
    batch, critic = adversary(model, trace), adversary.critic
    context = Context(adversarial=batch)
    torch.manual_seed(7)
    critic_loss = batch.critic_loss()
    own, critics = of(model), of(critic)
    assert untouched(grads(objective(trace, context), critics))
    assert untouched(grads(critic_loss, own))

    by_hand = rules.model(critic(*batch.real), critic(*batch.fake))
    if name == "joint":
        by_hand = by_hand + rules.model(-critic(*batch.fake), -critic(*batch.real))
    expected = grads(parse_objective("nll + kl")(trace) + 3 * by_hand.mean(), own)
    torch.manual_seed(7)
    alone = grads(batch.critic_loss(), critics)
    if penalty == "none":
        both = rules.critic(critic(*(t.detach() for t in batch.real)), critic(*(t.detach() for t in batch.fake)))
        close(alone, grads(both.mean(), critics))
    (objective(trace, context) + critic_loss).backward()
    close([p.grad for p in own], expected)
    close([p.grad for p in critics], alone)
    assert any(g is not None and g.any() for g in alone)
    reached = {"encoder." for p in of(model, "encoder.") if p.grad is not None and p.grad.any()}
    assert reached == {"encoder."}


@pytest.mark.parametrize(("name", "encoder", "decoder"), [
    ("images('reconstructions')", True, True), ("images('samples')", False, True), ("images('both')", True, True),
    ("codes", True, False), ("permuted", True, False), ("joint", True, True)])
def test_the_game_moves_those_whose_work_is_judged(name, encoder, decoder, play, images):
    model, adversary = play(name)
    batch = adversary(model, model(images(5, SHAPE)))
    loss = batch.adversarial(0.0, 1.0).mean()
    assert untouched(grads(loss, of(model, "encoder."))) == (not encoder)
    assert untouched(grads(loss, of(model, "decoder."))) == (not decoder)


def test_what_is_judged(play, images):
    x = images(5, SHAPE)
    for of_what, kept in (("both", 2), ("samples", 0), ("reconstructions", 5)):
        model, adversary = play(f"images({of_what!r})")
        trace = model(x)
        torch.manual_seed(3)
        batch = adversary(model, trace)
        torch.manual_seed(3)
        drawn = model.decode(model.latent.generate(5 - kept)).mean[0]
        assert torch.equal(batch.real[0], x)
        assert torch.equal(batch.fake[0], torch.cat([trace.px.mean[0, :kept], drawn]))
    model, adversary = play("codes", prior="mixture(3)")
    trace = model(x)
    torch.manual_seed(3)
    batch = adversary(model, trace)
    torch.manual_seed(3)
    assert torch.equal(batch.real[0], model.latent.generate(5)[0])
    assert not batch.real[0].requires_grad
    assert torch.equal(batch.fake[0], trace.layers[0].z[0])
    model, adversary = play("joint")
    trace = model(x)
    batch = adversary(model, trace)
    assert torch.equal(batch.real[0], x)
    assert torch.equal(batch.real[1], trace.layers[0].z[0])
    torch.testing.assert_close(batch.fake[0], model.decode(batch.fake[1][None]).mean[0])


def test_permuted_codes_keep_each_number_and_lose_how_they_go_together(play):
    model, adversary = play("permuted", latent="spatial(2, 2)")
    n = 4000
    z = torch.randn(n, 1).expand(n, 8) + 0.1 * torch.randn(n, 8)
    z = z.view(1, n, 2, 2, 2).requires_grad_()
    trace = with_codes(model, z)
    (real,), (fake,) = adversary.sides(model, trace)
    assert torch.equal(fake, z[0])
    assert not real.requires_grad
    assert torch.equal(real.flatten(1).sort(0).values, z[0].flatten(1).sort(0).values)
    apart = torch.corrcoef(real.flatten(1).T) - torch.eye(8)
    assert apart.abs().max() < 4.5 / math.sqrt(n)
    assert torch.corrcoef(z[0].flatten(1).T).min() > 0.9


@pytest.mark.parametrize("name", [*JUDGES, "introspective"])
@pytest.mark.parametrize(("n", "samples"), [(1, 1), (3, 1), (1, 4), (5, 3)])
def test_any_batch_and_any_number_of_samples_can_be_judged(name, n, samples, play, images):
    model, adversary = play(name, penalty="none" if name == "introspective" else "r1 + gradient")
    batch = adversary(model, model(images(n, SHAPE), samples=samples))
    term = batch.adversarial(0.0, 1.0)
    assert term.shape == (n,)
    loss = batch.critic_loss()
    assert loss.shape == ()
    (term.mean() + loss).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in (*of(model), *of(adversary)))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_a_critic_of_patches_scores_each_by_itself(patch, play, images):
    shape = (1, 8, 12)
    model, adversary = play(f"images(patch={patch})", shape=shape)
    x = images(3, shape)
    batch = adversary(model, model(x))
    assert adversary.critic(x).shape == (3, (8 // patch) * (12 // patch))
    scores = adversary.critic(*batch.fake)
    torch.testing.assert_close(batch.adversarial(0.0, 1.0), torch.nn.functional.softplus(-scores).mean(1))


def test_both_sides_of_a_joint_game_are_pushed_apart_from_what_they_are(play, images):
    """Hinge scores are linear for the model: fakes up, real ones down."""
    model, adversary = play("joint", game="hinge")
    batch = adversary(model, model(images(5, SHAPE)))
    scores = adversary.critic(*batch.real) - adversary.critic(*batch.fake)
    torch.testing.assert_close(batch.adversarial(0.0, 1.0), scores)


def test_a_critic_sees_both_sides_changed_and_codes_unchanged(play, images):
    x = images(200, SHAPE)
    model, adversary = play("joint", critic_augment="cutout(0.5)")
    trace = model(x)
    (real, z), (fake, code) = adversary.sides(model, trace)
    batch = adversary(model, trace)
    for seen, whole in ((batch.real[0], real), (batch.fake[0], fake)):
        assert 0.05 < ((seen == 0) & (whole != 0)).float().mean() < 0.4
    assert torch.equal(batch.real[1], z)
    assert batch.fake[1].shape == code.shape
    assert batch.fake[0].requires_grad


def test_learned_similarity_by_hand(play, images):
    model, adversary = play("images", critic="conv(width=4)")
    trace = model(images(4, SHAPE), samples=2)
    context = Context(adversarial=adversary(model, trace))
    trunk = adversary.critic.trunk
    hand = 0.5 * (trunk(trace.px.mean[0]) - trunk(trace.x).detach()).square().sum((1, 2, 3))
    ((_, term),) = parse_objective("learned_similarity").terms
    got = term(trace, context)
    torch.testing.assert_close(got, hand)
    close(grads(got.mean(), of(model)), grads(hand.mean(), of(model)))
    assert untouched(grads(got.mean(), of(adversary)))
    assert not term(trace).any()


@pytest.mark.parametrize(("what", "encoder_moves"), [("samples", False), ("both", True), ("reconstructions", True)])
def test_a_critic_of_samples_moves_the_decoder_alone(what, encoder_moves, play, images):
    model, adversary = play(f"images({what!r})", critic="conv(width=4)")
    trace = model(images(4, SHAPE))
    loss = parse_objective("adversarial")(trace, Context(adversarial=adversary(model, trace)))
    assert untouched(grads(loss, of(model.encoder))) != encoder_moves
    assert not untouched(grads(loss, of(model.decoder)))


@pytest.mark.parametrize("game", ["nonsaturating", "hinge", "relativistic"])
@pytest.mark.parametrize(("what", "samples"), [("reconstructions", 1), ("reconstructions", 3), ("both", 1), ("samples", 1)])
def test_balance_gives_the_gradient_its_share(what, samples, game, play, images):
    model, adversary = play(f"images({what!r})", game=game)
    trace = model(images(6, SHAPE), samples=samples)
    context = Context(adversarial=adversary(model, trace))
    nll, balanced, plain = (parse_objective(t)(trace, context)
                            for t in ("nll", "adversarial(balance=0.25, cap=1e9)", "adversarial"))
    (wanted,) = torch.autograd.grad(nll, trace.px.mean, retain_graph=True)
    image = context.adversarial.fake[0]
    (found,) = torch.autograd.grad(balanced, image, retain_graph=True)
    (direction,) = torch.autograd.grad(plain, image, retain_graph=True)
    assert (found.norm() / wanted.norm()).item() == pytest.approx(0.25, rel=1e-4)
    torch.testing.assert_close(found / found.norm(), direction / direction.norm(), rtol=1e-4, atol=1e-5)
    capped = parse_objective("adversarial(balance=0.25, cap=0.5)")(trace, context)
    torch.testing.assert_close(capped, 0.5 * plain)
    factor = (balanced / plain).item()
    assert factor > 0.5
    own = of(model)
    close(grads(balanced, own), [g if g is None else factor * g for g in grads(plain, own)])
    assert untouched(grads(balanced, of(adversary)))


@pytest.mark.parametrize("wrong", ["adversarial(balance=-1)", "adversarial(cap=0)"])
def test_shares_without_sense_are_refused(wrong):
    with pytest.raises(UsageError, match=r"balance must be at least 0|cap must be above 0"):
        parse_objective(wrong)


def test_a_share_is_measured_without_a_gradient_too(play, images):
    model, adversary = play("images('reconstructions')")
    with torch.no_grad():
        trace = model(images(3, SHAPE))
        context = Context(adversarial=adversary(model, trace))
        balanced, plain = (parse_objective(text)(trace, context) for text in ("adversarial(balance=1)", "adversarial"))
        assert torch.equal(balanced, plain)


class Known(nn.Module):
    """log p(z₁) p(z₂) − log p(z) of a correlated pair, times `scale`."""

    def __init__(self, rho, scale=1.0):
        super().__init__()
        self.rho, self.scale = rho, scale

    def forward(self, z):
        r2 = self.rho**2
        quadratic = (r2 * z.square().sum(1) - 2 * self.rho * z.prod(1)) / (1 - r2)
        return self.scale * 0.5 * (quadratic + math.log(1 - r2))


def test_the_ratio_game_of_permuted_codes_estimates_the_total_correlation(play):
    """Of a Gaussian pair it is −½ log(1 − ρ²). (Kim & Mnih, 2018, Eq. 3)"""
    model, adversary = play("permuted", game="ratio", latent="flat(2)")
    rho, n = 0.8, 40_000
    z = torch.randn(1, n, 2) @ torch.tensor([[1.0, rho], [0.0, math.sqrt(1 - rho**2)]])
    trace = with_codes(model, z)
    losses = {}
    for scale in (0.7, 1.0, 1.3):
        adversary.critic = Known(rho, scale)
        torch.manual_seed(0)
        batch = adversary(model, trace)
        losses[scale] = batch.critic_loss().item()
        if scale == 1:
            each = batch.adversarial(0.0, 1.0)
    assert each.mean().item() == pytest.approx(-0.5 * math.log(1 - rho**2), abs=5 * each.std().item() / math.sqrt(n))
    assert losses[1.0] < min(losses[0.7], losses[1.3])


# Introspection


@pytest.mark.parametrize("beta_neg", [1.0, 256.0])
def test_introspection_is_the_papers(beta_neg, small, play, images):
    """Soft-IntroVAE written out: L_E = ELBO(x) − ½ exp(2 s ELBO_neg(x̃)), L_D = ELBO(x) + KL of x̃, with s one over the
    number of pixel values. (Daniel & Tamar, 2021, Eq. 3, with the scale and the β_neg of its section 4)"""
    model, adversary = play(f"introspective({beta_neg})")
    x, n = images(6, SHAPE), 16
    batch = adversary(model, model(x))
    fake = batch.fake
    assert fake.shape == x.shape

    def elbo_parts(images_):
        h = model.encoder(images_)
        mu, log_var = model.latent.posterior.loc(h), 10 * torch.tanh(model.latent.posterior.log_var(h) / 10)
        z = mu + (0.5 * log_var).exp() * torch.randn(1, *mu.shape)[0]
        rebuilt = model.likelihood(model.decoder(z)).mean
        sigma = 0.3
        log_px = (-0.5 * ((images_ - rebuilt) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)).sum((1, 2, 3))
        rate = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)
        return log_px, rate

    torch.manual_seed(5)
    log_px, rate = elbo_parts(fake.detach())
    hand = n * (0.5 * torch.exp(2 / n * (log_px - beta_neg * rate))).mean()
    torch.manual_seed(5)
    got = batch.critic_loss()
    torch.testing.assert_close(got, hand, rtol=1e-4, atol=1e-6)
    encoders = of(model, "encoder.") + of(model, "latent.")
    close(grads(got, encoders), grads(hand, encoders))
    assert untouched(grads(got, of(model, "decoder.")))

    _, rate = elbo_parts(fake)
    got = batch.adversarial(0.0, 1.0)
    torch.testing.assert_close(got, rate, rtol=1e-4, atol=1e-5)
    close(grads(got.mean(), of(model, "decoder.")), grads(rate.mean(), of(model, "decoder.")))
    assert untouched(grads(got.mean(), encoders))
    assert not untouched(grads(got.mean(), of(model, "decoder.")))


def test_introspection_leaves_a_learned_prior_to_the_elbo(play, images):
    """The prior belongs to the decoder's side: the encoder's loss must not lower the ELBO of new images through it."""
    model, adversary = play("introspective", prior="mixture(3)")
    batch = adversary(model, model(images(6, SHAPE)))
    assert untouched(grads(batch.critic_loss(), of(model, "latent.prior.")))


def test_an_introspective_model_trains(play, images):
    model, adversary = play("introspective(16.0)")
    start = {k: v.clone() for k, v in model.state_dict().items()}
    state = last(training(model, parse_objective("nll + kl + adversarial"), forever(images(6, SHAPE)), steps=5,
                          adversary=adversary, **STEADY))
    assert math.isfinite(state.loss) and math.isfinite(state.critic_loss)
    assert all(not torch.equal(start[k], v) for k, v in model.named_parameters())
    assert state.critic.optimizer is None


# Training


def numbers_of(module):
    return torch.cat([t.detach().flatten().double() for t in module.state_dict().values()]).clone()


def stored(snapshot):
    """As it comes back from a file."""
    tensors, numbers = snapshot
    return load(save({k: v.contiguous() for k, v in tensors.items()})), json.loads(json.dumps(numbers))


CASES = {
    "hybrid": ({"critic": "conv(width=4)", "penalty": "r1(0.1) + lecam"}, "nll + kl + 0.1*adversarial", "adamw(0.01)"),
    "gan": ({**GAN, "decoder": "dcgan(width=4)", "critic": "dcgan(width=4)", "penalty": "spectral_norm", "game": "hinge(2)",
             "critic_augment": "color + translate + cutout"}, "adversarial", "adam(0.01, (0.5, 0.99))"),
    "codes": ({"adversary": "permuted", "game": "ratio"}, "nll + kl + late(5, 0.5, 0.2)*adversarial", "adamax(0.01)"),
    "introspective": ({"adversary": "introspective"}, "nll + kl + adversarial", "adam(0.01)")}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_game_is_the_undisturbed_one(case, play, images):
    fields, objective, optimizer = CASES[case]
    chosen = {"steps": 15, "schedule": "cosine(warmup=0.2)", "optimizer": optimizer, "critic_optimizer": optimizer}
    batches = list(images(15 * 4, (1, 9, 7)).split(4))

    def players(seed):
        torch.manual_seed(seed)
        return play(**{"shape": (1, 9, 7), **fields})

    model, adversary = players(5)
    for state in training(model, parse_objective(objective), batches, adversary=adversary, **chosen):
        if state.step == 7:
            saved = state.snapshot()
    whole = state
    model, adversary = players(99)
    again = last(training(model, parse_objective(objective), batches[7:], adversary=adversary, resume=stored(saved),
                          **chosen))
    assert again.step == whole.step == 15
    ends = [s.snapshot() for s in (whole, again)]
    assert ends[0][0].keys() == ends[1][0].keys()
    for name, value in ends[0][0].items():
        assert torch.equal(value, ends[1][0][name]), name
    first, second = ({k: v for k, v in numbers.items() if "seconds" not in k} for _, numbers in ends)
    assert first == second
    assert (again.loss, again.critic_loss) == (whole.loss, whole.critic_loss)
    kinds = {name.split(".")[0] for name in ends[0][0]}
    assert {"model", "ema", "optimizer"} <= kinds
    assert ({"critic", "critic_optimizer"} <= kinds) == (case != "introspective")


def test_a_state_of_a_model_alone_does_not_resume_a_game(play, images):
    x = images(4, SHAPE)
    model, adversary = play()
    saved = last(training(model, parse_objective("nll + kl"), forever(x), steps=2, **STEADY)).snapshot()
    with pytest.raises(ModelFileError, match="does not fit"):
        next(training(model, parse_objective("nll + kl + adversarial"), forever(x), steps=4, adversary=adversary,
                      resume=saved, **STEADY))


def test_the_model_waits_for_the_critics_steps(play, images):
    model, adversary = play(game="wasserstein(3)", **GAN)
    before, moved = (numbers_of(model), numbers_of(adversary)), []
    for state in training(model, parse_objective("adversarial"), forever(images(4, SHAPE)), steps=9, adversary=adversary,
                          ema=0, **STEADY):
        after = numbers_of(model), numbers_of(adversary)
        moved.append(tuple(not torch.equal(a, b) for a, b in zip(before, after, strict=True)))
        before = after
        assert math.isfinite(state.critic_loss)
    assert moved == [(i % 3 == 0, True) for i in range(9)]


def test_the_critic_learns_before_the_model_listens(play, images):
    """Until then the model's path is the one that it takes alone, as far as the critic draws no random numbers."""
    x, start = images(4, SHAPE), play("images('reconstructions')", game="nonsaturating(warmup=0.2)", **PLAIN)
    objective = "nll + late(100, 0.5, 0.1)*adversarial"
    alone = []
    model, _ = copy.deepcopy(start)
    for state in training(model, parse_objective("nll"), forever(x), steps=20, **STEADY):
        alone.append(numbers_of(model))
    model, adversary = copy.deepcopy(start)
    critic, together, learned = numbers_of(adversary), [], []
    for state in training(model, parse_objective(objective), forever(x), steps=20, adversary=adversary, **STEADY):
        together.append(numbers_of(model))
        after = numbers_of(adversary)
        learned.append(not torch.equal(critic, after))
        critic = after
        assert math.isnan(state.critic_loss) == (not learned[-1])
        assert bool(state.parts["adversarial"]) == learned[-1]
    # the weight is above 0 from progress 0.5 on, not at it: the critic wakes at 0.3, one step later for the same reason
    assert learned == [i >= 7 for i in range(20)]
    same = [torch.equal(a, b) for a, b in zip(alone, together, strict=True)]
    assert same == [i <= 10 for i in range(20)]


def test_the_critic_plays_as_long_as_it_is_heeded(play, images):
    model, adversary = play()
    objective = parse_objective("nll + kl + linear(1, 0, 0.5)*adversarial")
    for state in training(model, objective, forever(images(4, SHAPE)), steps=40, adversary=adversary, **STEADY):
        if objective.uses_critic((state.step - 1) / 40):
            assert state.parts["adversarial"] != 0
    assert math.isnan(state.critic_loss)


class Shaky(Game):
    """The critic's loss is not finite on some of its calls."""

    def __init__(self, bad):
        super().__init__()
        self.bad, self.calls = bad, itertools.count()

    def critic(self, real, fake):
        return (fake - real).square() * (math.nan if next(self.calls) in self.bad else 1)

    def model(self, real, fake):
        return -fake


def test_a_broken_critic_leaves_the_step_out_for_both(play, images):
    model, adversary = play(penalty="0.1*lecam")
    adversary.game = Shaky({3, 6})
    before = numbers_of(model), numbers_of(adversary.critic)
    for state in training(model, parse_objective("nll + kl + adversarial"), forever(images(4, SHAPE)), steps=9,
                          adversary=adversary, **STEADY):
        after = numbers_of(model), numbers_of(adversary.critic)
        left_out = state.step in (4, 7)
        assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [left_out] * 2
        assert state.event == ("step skipped: the term critic is not finite" if left_out else "")
        before = after
    assert state.rollbacks == 0
    assert state.critic.guard.skipped == 2


def test_a_penalty_follows_its_schedule(play, images):
    """From its start by half a period of a cosine to its end, and there it stays."""
    model, adversary = play(penalty="cosine(2, 0.2, 0.5)*r1 + 3*r2")
    found = [adversary.weights]
    for _ in training(model, parse_objective("nll + kl + adversarial"), forever(images(4, SHAPE)), steps=8,
                      adversary=adversary, **STEADY):
        found.append(adversary.weights)
    wanted = [1.1 + 0.9 * math.cos(math.pi * min(step / 4, 1)) for step in range(8)]
    assert [weight for weight, _ in found[1:]] == pytest.approx(wanted)
    assert {weight for _, weight in found} == {3}


def test_a_penalty_counts_by_its_weight_of_now(play, images):
    model, adversary = play(penalty="linear(1, 3)*r1")
    batch = adversary(model, model(images(6, SHAPE)))
    at = []
    for progress in (0.0, 0.5, 1.0):
        adversary.move_to(progress)
        at.append(batch.critic_loss().item())
    assert at[1] - at[0] == pytest.approx(at[2] - at[1], rel=1e-3)
    assert at[1] - at[0] > 0


def test_a_broken_batch_costs_one_step(play, images):
    """What it did to the averages of a penalty must not break the steps after it."""
    x = images(4, SHAPE)
    model, adversary = play(penalty="0.1*lecam")
    batches = [torch.full_like(x, math.nan) if i == 2 else x for i in range(9)]
    events = [state.event for state in training(model, parse_objective("nll + kl + adversarial"), batches, steps=9,
                                                adversary=adversary, **STEADY)]
    assert [bool(e) for e in events] == [i == 2 for i in range(9)]


def test_five_broken_steps_of_the_critic_roll_both_back(play, images):
    model, adversary = play(critic="conv(width=4)", penalty="spectral_norm")
    adversary.game = Shaky(range(10, 15))
    starts = numbers_of(model), numbers_of(adversary)
    for state in training(model, parse_objective("nll + kl + adversarial"), forever(images(4, SHAPE)), steps=20,
                          adversary=adversary, **STEADY):
        if state.step == 10:
            assert not any(torch.equal(a, numbers_of(b)) for a, b in zip(starts, (model, adversary), strict=True))
        if state.step == 15:
            assert "rolled back to step 0 at half the learning rate: the term critic is not finite" in state.event
            assert all(torch.equal(a, numbers_of(b)) for a, b in zip(starts, (model, adversary), strict=True))
            assert not state.side.optimizer.state_dict()["state"] and not state.critic.optimizer.state_dict()["state"]
    assert state.rollbacks == 1
    assert [side.groups[0]["lr"] for side in (state.side, state.critic)] == pytest.approx([0.005, 0.005])


@pytest.mark.parametrize("name", ["images('reconstructions')", "images('reconstructions', patch=2)"])
def test_accumulating_gives_both_the_same_step(name, play, images):
    start = play(name, penalty="r1 + r2", critic="conv(width=4)", **PLAIN)
    x, found = images(7, SHAPE), []
    for accumulate in (1, 2):
        model, adversary = copy.deepcopy(start)
        state = next(training(model, parse_objective("nll + adversarial"), [x], steps=1, accumulate=accumulate,
                              adversary=adversary, **STEADY))
        found.append(([p.grad for p in (*of(model), *of(adversary))], state))
    close(found[1][0], found[0][0])
    assert found[1][1].critic_loss == pytest.approx(found[0][1].critic_loss, rel=1e-5)
    assert found[1][1].parts == pytest.approx(found[0][1].parts, rel=1e-5)


@pytest.mark.parametrize("penalty", ["r1 + gradient", "r2(0.1) + lecam + spectral_norm"])
@pytest.mark.parametrize("name", JUDGES)
def test_games_train_in_bf16(name, penalty, play, images):
    model, adversary = play(name, penalty=penalty)
    state = last(training(model, parse_objective("nll + kl + adversarial"), forever(images(3, SHAPE)), steps=2,
                          adversary=adversary, precision="bf16", **STEADY))
    assert math.isfinite(state.loss) and math.isfinite(state.critic_loss)
    assert not state.event
    assert {p.dtype for p in (*of(model), *of(adversary))} == {torch.float32}


def test_the_players_have_their_own_rates_on_one_schedule(play, images):
    model, adversary = play()
    for i, state in enumerate(training(model, parse_objective("nll + kl + adversarial"), forever(images(3, SHAPE)), steps=5,
                                       adversary=adversary, optimizer="adam(lr=0.01)", critic_optimizer="adam(lr=0.04)",
                                       schedule="linear(0.4)")):
        factor = ROLES["schedule"].make("linear(0.4)")(i / 5)
        rates = [side.groups[0]["lr"] for side in (state.side, state.critic)]
        assert rates == pytest.approx([0.01 * factor, 0.04 * factor])


def test_the_average_follows_the_model_through_a_game(play, images):
    """The average of the critic is nowhere; that of the model gathers the statistics of its own normalisation."""
    model, adversary = play(decoder="dcgan(width=4)", shape=(1, 8, 8), **GAN)
    own, decay = copy.deepcopy(model).train(), 0.9
    for state in training(model, parse_objective("adversarial"), forever(images(4, (1, 8, 8))), steps=2 * EMA_EVERY,
                          adversary=adversary, ema=decay, **STEADY):
        if state.step % EMA_EVERY == 0:
            d = min(decay, (1 + state.step) / (10 + state.step)) ** EMA_EVERY
            with torch.no_grad(), forked_rng():
                for average, current in zip(own.parameters(), model.parameters(), strict=True):
                    average.lerp_(current, 1 - d)
                own.draw(4)
    torch.testing.assert_close(numbers_of(state.ema), numbers_of(own), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(numbers_of(own), numbers_of(model), rtol=1e-3)


def test_the_players_of_a_gan_take_turns(play, images):
    """A plain loop: a step of the critic, then one of the generator with fakes of its own through that critic."""
    model, adversary = play(decoder="dcgan(width=4)", shape=(1, 8, 8), penalty="r1", **GAN)
    other, critic = copy.deepcopy((model.train(), adversary.critic))
    x = images(4, (1, 8, 8))
    torch.manual_seed(3)
    last(training(model, parse_objective("adversarial"), forever(x), steps=3, adversary=adversary, **STEADY))
    torch.manual_seed(3)
    theirs, own = (torch.optim.Adam(m.parameters(), 0.01) for m in (critic, other))
    for _ in range(3):
        fake, real = other.draw(4).mean[0].detach(), x.clone().requires_grad_()
        scores = critic(real)
        slope, = torch.autograd.grad(scores.sum(), real, create_graph=True)
        loss = softplus(-scores).mean() + softplus(critic(fake)).mean() + 0.5 * slope.flatten(1).square().sum(1).mean()
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        own.zero_grad()
        softplus(-critic(other.draw(4).mean[0])).mean().backward()
        own.step()
    torch.testing.assert_close(numbers_of(model), numbers_of(other), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(numbers_of(adversary.critic), numbers_of(critic), rtol=1e-4, atol=1e-6)


def test_minutes_are_read_from_the_clock_that_is_given(play, images):
    model, adversary = play()
    ticks = itertools.count()
    seconds = [state.seconds for state in training(
        model, parse_objective("nll + kl + adversarial"), forever(images(3, SHAPE)), minutes=0.1, adversary=adversary,
        clock=lambda: 2.0 * next(ticks), **STEADY)]
    assert seconds == [2.0, 4.0, 6.0]


def test_a_gan_learns_the_mean_and_the_spread_of_grey_squares(play):
    """Flat images whose grey is N(0.6, 0.1²)."""
    torch.manual_seed(1)
    model, adversary = play(latent="flat(2)", shape=(1, 2, 2), penalty="r1", critic="mlp(hidden=(32,))",
                            decoder="mlp(hidden=(32,))", **GAN)

    def batches():
        while True:
            yield (0.6 + 0.1 * torch.randn(128, 1, 1, 1)).expand(128, 1, 2, 2)

    state = last(training(model, parse_objective("adversarial"), batches(), steps=400, adversary=adversary,
                          optimizer="adam(0.003, (0.5, 0.99))", critic_optimizer="adam(0.01, (0.5, 0.99))",
                          schedule="cosine", ema=0.98))
    drawn = state.ema.eval().draw(4000).mean[0].detach()
    assert drawn.mean().item() == pytest.approx(0.6, abs=0.05)
    assert drawn.mean((1, 2, 3)).std().item() == pytest.approx(0.1, abs=0.05)
    assert drawn.std((1, 2, 3)).mean() < 0.03


# A model without an encoder


@pytest.fixture
def gan(small):
    """A small generator as people meet it: an `ImageModel`."""

    def make(shape=(3, 8, 6), **changes):
        model = small(shape, **{**GAN, "decoder": "dcgan(width=4)", **changes}).eval()
        recipe = Recipe(**{**GAN, "decoder": "dcgan(width=4)", "latent": "flat(4)", "objective": "adversarial",
                           "adversary": "images", **changes})
        return ImageModel(Sampler(model), Config(recipe, shape, latent_axes(model, torch.zeros(2, *shape))))

    return make


def test_a_generator_has_no_encoder(small):
    model = small(**GAN)
    assert isinstance(model, Generator)
    assert not isinstance(model, VAE)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"decoder"}
    trace = model(torch.rand(3, *SHAPE))
    assert trace.layers == ()
    assert trace.px.mean.shape == (1, 3, *SHAPE)
    assert trace.log_density is None
    with pytest.raises(UsageError, match="needs a density of images"):
        _ = trace.log_px
    assert ((trace.px.mean >= 0) & (trace.px.mean <= 1)).all()


@pytest.mark.parametrize("latent", ["flat(5)", "spatial(2, 4)"])
@pytest.mark.parametrize("prior", ["normal", "flow(2, hidden=8)", "mixture(3)"])
def test_a_saved_generator_is_bit_equal(latent, prior, gan, tmp_path):
    model = gan((3, 8, 8), latent=latent, prior=prior)
    last_batch = to_batch(np.zeros((4, 8, 8, 3), np.uint8))
    model.network.train()
    model.network(last_batch)  # moves the running statistics
    model.network.eval()
    save_model(tmp_path, model.sampler, model.config)
    sampler, config = load_model(tmp_path)
    network = sampler.model
    assert isinstance(network, Generator)
    assert config == model.config
    again = ImageModel(sampler, config)
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    assert np.array_equal(again.sample(5, seed=3), model.sample(5, seed=3))
    assert again.latent_shape == model.latent_shape


def test_a_generator_samples_interpolates_and_traverses(gan):
    model = gan()
    x = model.sample(7, seed=1)
    assert x.shape == (7, 8, 6, 3)
    assert x.dtype == np.uint8
    assert len(np.unique(x.reshape(7, -1), axis=0)) == 7
    assert np.array_equal(model.sample(7, seed=1), x)
    assert not np.array_equal(model.sample(7, seed=2), x)
    way = model.interpolate(steps=5, seed=1)
    assert way.shape == (5, 8, 6, 3)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ends = model.network.latent.generate(2)[0]
    assert np.array_equal(way[[0, -1]], model.decode(ends.numpy()))
    rows = model.traverse(dims=3, steps=5)
    assert rows.shape == (3, 5, 8, 6, 3)
    assert np.array_equal(rows[0, 2], rows[1, 2])  # all rows cross at the mean of all codes
    assert model.decode(model.network.latent.generate(2)[0].numpy()).shape == (2, 8, 6, 3)


USES = {"encode": lambda m, x: m.encode(x), "reconstruct": lambda m, x: m.reconstruct(x), "score": lambda m, x: m.score(x),
        "interpolate": lambda m, x: m.interpolate(x[0], x[1]), "traverse": lambda m, x: m.traverse(x[0]),
        "vae": lambda m, x: m.vae}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_takes_an_encoder_says_so_and_names_a_way_on(use, gan):
    model = gan()
    with pytest.raises(UsageError, match=r"a GAN has no encoder.* --preset vae_gan"):
        use(model, model.sample(2, seed=0))


def test_what_follows_training_leaves_a_generator_alone(small):
    model, x = small(**GAN), torch.rand(5, *SHAPE)
    before = numbers_of(model)
    calibrate_likelihood(model, x)
    assert trained_stage("fitted_prior", Sampler(model), Recipe(**GAN, latent="flat(4)"), x) is None
    assert torch.equal(numbers_of(model), before)


def test_a_generators_axes_are_sorted_by_what_they_change(small):
    """Weights of a linear generator say how much each number of the code does."""
    model = small((1, 2, 2), encoder="none", decoder="mlp(hidden=())", likelihood="gaussian(sigma=1.0)", latent="flat(4)")
    strength = torch.tensor([1.0, 4.0, 0.5, 2.0])
    with torch.no_grad():
        model.decoder.net[1].weight.copy_(strength.expand(4, 4))
    axes = latent_axes(model.eval(), torch.zeros(2, 1, 2, 2))
    assert [a.index for a in axes] == [1, 3, 0, 2]
    assert all(abs(a.mean) < 0.2 and abs(a.std - 1) < 0.15 and a.nats == 0 for a in axes)


# Recipes without sense


BASE = {"decoder": "mlp(hidden=(8,))", "latent": "flat(4)", "critic": "mlp(hidden=(8,))"}
A_GAN = {**BASE, **GAN, "objective": "adversarial", "adversary": "images"}
A_HYBRID = {**BASE, "encoder": "mlp(hidden=(8,))", "likelihood": "gaussian(sigma=0.3)", "adversary": "images",
            "objective": "nll + kl + adversarial"}


@pytest.mark.parametrize("recipe", [A_GAN, A_HYBRID, A_HYBRID | {"adversary": "codes", "objective": "nll + adversarial"},
                                    A_GAN | {"critic": "dcgan(width=4)", "decoder": "dcgan(width=4)"},
                                    A_HYBRID | {"objective": "learned_similarity + kl + adversarial"},
                                    A_HYBRID | {"likelihood": "implicit", "adversary": "joint", "objective": "adversarial"}],
                         ids=["gan", "hybrid", "aae", "dcgan", "vae_gan", "bigan"])
def test_recipes_with_sense_are_taken(recipe):
    Assembly(Recipe(**recipe), (1, 8, 8)).check()


TOP_DOWN = {"latent": "top_down(3, (1, 2), 2, 8, 2)", "encoder": "resnet(width=8, patch=2)",
            "decoder": "resnet(width=8, patch=1)"}
SENSELESS = {
    "nll of a gan": (A_GAN | {"objective": "nll + adversarial"}, "density|encoder"),
    "nll of a gan with a density": (A_GAN | {"objective": "nll + adversarial", "likelihood": "gaussian"}, "encoder"),
    "kl of a gan": (A_GAN | {"objective": "kl + adversarial"}, "encoder"),
    "similarity of a gan": (A_GAN | {"objective": "learned_similarity + adversarial"}, "encoder"),
    "gan without a critic": (A_GAN | {"objective": "nll", "adversary": "none", "likelihood": "gaussian"}, "--adversary"),
    "the default objective of a gan": (A_GAN | {"objective": "nll + kl", "adversary": "none"}, "--objective|--adversary"),
    "balance of a gan": (A_GAN | {"objective": "adversarial(balance=1)"}, "balance"),
    "balance without a density": (A_HYBRID | {"objective": "kl + adversarial(balance=1)", "likelihood": "implicit"},
                                  "balance"),
    "balance of a bernoulli": (A_HYBRID | {"objective": "nll + adversarial(balance=1)", "likelihood": "bernoulli"},
                               "take gaussian, laplace or student"),
    "balance of codes": (A_HYBRID | {"objective": "nll + adversarial(balance=1)", "adversary": "codes"}, "balance"),
    "balance of introspection": (A_HYBRID | {"objective": "nll + kl + adversarial(balance=1)",
                                             "adversary": "introspective"}, "balance"),
    "fitted prior of a gan": (A_GAN | {"fitted_prior": "mixture(5)"}, "leave it at 'auto'"),
    "ladder of a gan": (A_GAN | TOP_DOWN | {"encoder": "none"}, r"flat\(dim\) or spatial"),
    "codes of a gan": (A_GAN | {"adversary": "codes"}, "use images"),
    "joint of a gan": (A_GAN | {"adversary": "joint"}, "use images"),
    "introspective gan": (A_GAN | {"adversary": "introspective"}, "no encoder"),
    "posterior prior of a gan": (A_GAN | {"prior": "vamp(3)"}, "vamp"),
    "adversary nobody hears": (A_HYBRID | {"objective": "nll + kl"}, "Add the term adversarial"),
    "term without adversary": (A_HYBRID | {"adversary": "none"}, "give one, such as --adversary images"),
    "similarity without adversary": (A_HYBRID | {"adversary": "none", "objective": "learned_similarity + kl"},
                                     "give one, such as --adversary images"),
    "similarity of a critic of codes": (A_HYBRID | {"adversary": "codes", "objective": "learned_similarity + adversarial"},
                                        "use images"),
    "similarity of introspection": (A_HYBRID | {"adversary": "introspective",
                                                "objective": "learned_similarity + kl + adversarial"}, "use images"),
    "conv for codes": (A_HYBRID | {"adversary": "codes", "critic": "conv"}, "give --critic mlp"),
    "changes of codes": (A_HYBRID | {"adversary": "codes", "critic_augment": "color"}, "leave it at 'none'"),
    "codes of a ladder": (A_HYBRID | TOP_DOWN | {"adversary": "codes"}, "one stochastic layer"),
    "introspective ladder": (A_HYBRID | TOP_DOWN | {"adversary": "introspective"}, "one stochastic layer"),
    "penalty of introspection": (A_HYBRID | {"adversary": "introspective", "penalty": "r1"}, "leave penalty"),
    "images of nothing": (A_HYBRID | {"adversary": "images('all')"}, "of must be 'both', 'samples' or 'reconstructions'"),
    "negative patch": (A_HYBRID | {"adversary": "images(patch=-1)"}, "0 judges images as a whole"),
    "patches of a dense critic": (A_HYBRID | {"adversary": "images(patch=2)"}, "give a convolutional one"),
    "patches off the pyramid": (A_HYBRID | {"adversary": "images(patch=3)", "critic": "conv(width=4)"}, r"images\(patch"),
}


@pytest.mark.parametrize("case", SENSELESS)
def test_recipes_without_sense_are_refused(case):
    fields, why = SENSELESS[case]
    with pytest.raises(UsageError, match=why):
        Assembly(Recipe(**fields), (1, 8, 8)).check()


OTHER_CODES = [{"posterior": "relaxed_bernoulli", "prior": "relaxed"}, {"posterior": "vq(8)", "prior": "uniform"},
               {"posterior": "rvq(8, 2, dim=2)", "prior": "uniform"}, {"posterior": "lfq(2)", "prior": "uniform"},
               {"posterior": "vmf", "prior": "sphere"}, {"posterior": "iaf(2, hidden=8)"}, {"latent": "conditional(4, 3)"},
               {"latent": "spatial(2, 2)"}]


@pytest.mark.parametrize("fields", OTHER_CODES, ids=lambda f: "-".join(f.values()))
@pytest.mark.parametrize("name", ["codes", "permuted", "joint"])
def test_codes_of_every_kind_are_judged_as_the_decoder_reads_them(name, fields, play, images):
    """Draws of the prior as those of the posterior: real numbers of one shape, within one range."""
    model, adversary = play(name, **fields)
    model.train()
    x = images(40, SHAPE)
    trace = model(x)
    batch = adversary(model, trace)
    real, fake = batch.real[-1], batch.fake[-1]
    own = (fake, real)[name == "joint"]
    assert real.shape == fake.shape == (40, *model.latent.shape)
    torch.testing.assert_close(model.decode(own[None]).mean[0], trace.px.mean[0])
    assert not untouched(grads(batch.adversarial(0.0, 1.0).mean(), of(model, "encoder.")))
    if "relaxed" in fields.get("prior", ""):
        assert all(((side >= 0) & (side <= 1)).all() for side in (real, fake))
    assert batch.critic_loss().isfinite()


def test_an_unseen_objective_asks_no_critic():
    objective = parse_objective("nll + late(3, 0.5, 0.1)*adversarial")
    assert [objective.uses_critic(p) for p in (0.0, 0.49, 0.5, 0.51, 1.0)] == [False, False, False, True, True]
    assert not parse_objective("nll + 0*learned_similarity").uses_critic(0.5)
    weight = objective.terms[1][0]
    assert [weight(p) for p in (0.49, 0.55, 0.6, 1.0)] == pytest.approx([0, 1.5, 3, 3])
    assert str(objective) == "nll + late(3, 0.5, 0.1)*adversarial"
    assert ROLES["weight"].make("late(3, 0.5, 0)")(0.5) == 3
    for wrong in ("late(1, 1.0)", "late(1, -0.1)", "late(1, 0.5, 2.0)"):
        with pytest.raises(UsageError, match=r"(start|ramp) must be from 0 to"):
            ROLES["weight"].make(wrong)


def test_a_critic_learns_to_tell_codes_from_the_prior(play):
    """Codes of N(0.8, 0.5²) against N(0, 1): its score comes near the log ratio of the densities."""
    model, adversary = play("codes", game="ratio", latent="flat(1)", critic="mlp(hidden=(32, 32))")
    optimizer = torch.optim.Adam(of(adversary), 0.01)
    for _ in range(300):
        loss = adversary(model, with_codes(model, 0.8 + 0.5 * torch.randn(1, 512, 1))).critic_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    at = torch.linspace(0.0, 1.4, 8)[:, None]
    real, fake = torch.distributions.Normal(0, 1), torch.distributions.Normal(0.8, 0.5)
    torch.testing.assert_close(adversary.critic(at), (real.log_prob(at) - fake.log_prob(at))[:, 0], rtol=0, atol=0.3)
    assert isinstance(adversary.game, Ratio)
