"""The guard, the loop and the stream: what is skipped, what comes back, what continues exactly, and when it ends."""

from __future__ import annotations

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
from conftest import forever, last, training
from safetensors.torch import load, save
from sklearn.decomposition import PCA

from reparam.data.augment import crop, flip
from reparam.data.stream import Stream, binarized, to_batch
from reparam.distributions.gaussian import Gaussian
from reparam.errors import TrainingDiverged, UsageError
from reparam.objectives.objective import Term, parse_objective
from reparam.objectives.terms import nll
from reparam.parts.registry import ROLES
from reparam.trainer import loop as train
from reparam.trainer.guard import Guard
from reparam.trainer.loop import EMA_EVERY
from reparam.trainer.snapshots import MAX_ROLLBACKS

ELBO = parse_objective("nll + kl")
SHAPE = (1, 4, 4)
STEADY = {"schedule": "constant", "optimizer": "adam(lr=0.01)"}


@pytest.fixture
def batch(images):
    return images(6, SHAPE)


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


# Guard


def judged(guard, norms):
    return [guard.judge(["nll"], [1.0], n) for n in norms]


def test_the_guard_never_locks():
    """Gradients that have grown a thousand times for good are taken again, and soon all of them."""
    guard = Guard()
    judged(guard, [1.0] * 300)
    scales = [v.scale for v in judged(guard, [1000.0] * 300)]
    assert scales[0] == 0
    longest = max((len(list(g)) for scale, g in itertools.groupby(scales) if scale == 0), default=0)
    assert longest <= guard.patience
    assert all(scales[50:])
    assert scales[-1] == 1
    assert guard.skipped == scales.count(0) < 50


def test_the_guard_skips_a_jump_and_says_by_how_much():
    guard = Guard()
    judged(guard, [1.0] * 64)
    verdict = guard.judge(["nll"], [1.0], 500.0)
    assert verdict.scale == 0
    assert "500 times the usual high of 1" in verdict.reason
    assert not verdict.roll_back
    assert guard.skipped == 1
    assert guard.judge(["nll"], [1.0], 1.0).scale == 1


def test_the_guard_scales_down_to_a_multiple_of_the_median():
    guard = Guard(clip=2.0)
    judged(guard, [1.0] * 64)
    assert guard.judge(["nll"], [1.0], 5.0).scale == pytest.approx(0.4)
    assert guard.judge(["nll"], [1.0], 1.9).scale == 1
    off = Guard(clip=0)
    judged(off, [1.0] * 64)
    assert off.judge(["nll"], [1.0], 5.0).scale == 1


def test_the_guard_takes_everything_finite_at_the_start():
    assert all(v.scale == 1 for v in judged(Guard(), [10.0**i for i in range(-10, 20)]))


@pytest.mark.parametrize("later", [1e-6, 1.0])
def test_the_guard_takes_a_gradient_after_none(later):
    """An objective can rest, as free bits do below their floor, and start to move again."""
    guard = Guard()
    assert all(v.scale == 1 for v in judged(guard, [0.0] * 300))
    verdicts = judged(guard, [later] * 300)
    assert verdicts[-1].scale == 1
    assert all(v.reason for v in verdicts if v.scale == 0)
    assert guard.skipped == sum(v.scale == 0 for v in verdicts)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_guard_names_the_broken_term_and_asks_to_go_back(bad):
    guard = Guard()
    judged(guard, [1.0] * 10)
    verdicts = [guard.judge(["nll", "kl"], [1.0, bad], math.nan) for _ in range(guard.patience)]
    assert [v.roll_back for v in verdicts] == [False] * (guard.patience - 1) + [True]
    assert all(v.scale == 0 and v.reason == "the term kl is not finite" for v in verdicts)
    assert guard.skipped == guard.patience
    assert not guard.judge(["nll", "kl"], [1.0, bad], math.nan).roll_back
    assert "gradient is not finite" in guard.judge(["nll"], [1.0], math.inf).reason


@pytest.mark.parametrize(("loss", "ways_back"), [(2.0, 2), (0.5, 0), (math.nan, 0)])
def test_weights_that_have_lost_everything_are_not_kept(loss, ways_back):
    """Norms that jump while the loss is worse than any at the start: back, but not for ever; else as they come."""
    guard = Guard()
    for i in range(300):
        guard.judge(["nll"], [1.0], 1.0, 1.0 - i / 300)
    jumps = ([1000.0] * 5 + [1.0] * 300) * 3
    verdicts = [guard.judge(["nll"], [1.0], norm, loss) for norm in jumps]
    back = [i for i, v in enumerate(verdicts) if v.roll_back]
    assert back == [4, 309][:ways_back]
    assert all("above any at the start" in verdicts[i].reason for i in back)


def test_a_run_whose_weights_break_goes_back(small, batch, monkeypatch):
    """After a step that ruins them, no gradient leads home: they are taken back to what they were."""
    monkeypatch.setattr(train, "SNAPSHOT_EVERY", 10)
    model, kept = small(), {}
    for state in training(model, parse_objective("nll + kl"), forever(batch), steps=60, **STEADY):
        kept[state.step] = weights_of(model)
        if state.step == 45:
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(100)
        if state.rollbacks:
            break
    assert state.step == 50 and "above any at the start" in state.event and "step 30" in state.event
    assert torch.equal(weights_of(model), kept[30]) and state.lr_scale == 0.5


def test_good_steps_between_broken_ones_need_no_way_back():
    guard = Guard()
    for i in range(50):
        broken = i % 5 < guard.patience - 1
        assert not guard.judge(["nll"], [math.nan if broken else 1.0], 1.0).roll_back


def test_a_stored_guard_judges_alike():
    guard, other = Guard(), Guard()
    judged(guard, [float(1 + i % 7) for i in range(300)] + [1000.0] * 3)
    guard.judge(["nll"], [math.nan], 1.0)
    other.load(json.loads(json.dumps(guard.to_dict())))
    for norm in [2.0, 500.0, 30.0, math.nan, 7.0]:
        assert judged(guard, [norm]) == judged(other, [norm])
    assert guard.to_dict() == other.to_dict()


# Loop


def test_training_lowers_the_loss_and_counts(small, batch):
    states = training(small(), ELBO, forever(batch), steps=60, **STEADY)
    losses = [state.loss for state in (s for s in states)]
    assert len(losses) == 60
    assert losses[-1] < losses[0]
    state = last(training(small(), ELBO, forever(batch), steps=3, **STEADY))
    assert (state.step, state.images, state.progress) == (3, 18, 1.0)
    assert state.loss == pytest.approx(sum(state.parts.values()))
    assert list(state.parts) == ["nll", "kl"]
    assert state.grad_norm > 0
    assert state.event == ""


def test_the_weights_of_the_objective_follow_progress(small, batch):
    objective = parse_objective("nll + linear(0, 2, 1)*kl")
    states = [(s.loss, dict(s.parts)) for s in training(small(), objective, forever(batch), steps=4, **STEADY)]
    for i, (loss, parts) in enumerate(states):
        assert loss == pytest.approx(parts["nll"] + 2 * (i / 4) * parts["kl"], rel=1e-5)


def test_broken_batches_are_skipped_and_counted(small, batch):
    bad = torch.full_like(batch, math.nan)
    model = small()
    before, skipped = weights_of(model), 0
    for i, state in enumerate(training(model, ELBO, [bad if i % 3 == 1 else batch for i in range(12)], steps=12,
                                       **STEADY)):
        after = weights_of(model)
        if i % 3 == 1:
            skipped += 1
            assert "step skipped: the term nll is not finite" in state.event
            assert torch.equal(after, before)
        else:
            assert state.event == ""
            assert not torch.equal(after, before)
        assert state.guard.skipped == skipped
        before = after
    assert state.step == 12
    assert state.rollbacks == 0
    assert weights_of(state.ema).isfinite().all()


def broken_between(first, end):
    """A term that is NaN on the calls from `first` to before `end`, and else 0."""
    calls = itertools.count()

    def of(trace, context):
        return trace.log_px.mean(0) * (math.nan if first <= next(calls) < end else 0.0)

    return nll + Term("shaky", of)


def test_five_broken_steps_in_a_row_roll_back(small, batch):
    model = small()
    start = weights_of(model)
    states = training(model, broken_between(10, 15), forever(batch), steps=30, **STEADY)
    for state in states:
        if state.step <= 14:
            assert state.rollbacks == 0
        if state.step == 15:
            assert torch.equal(weights_of(model), start)
            assert torch.equal(weights_of(state.ema), start)
            assert not state.side.optimizer.state_dict()["state"]
            assert "rolled back to step 0 at half the learning rate: the term shaky is not finite" in state.event
    assert state.rollbacks == 1
    assert state.lr_scale == 0.5
    assert state.side.groups[0]["lr"] == pytest.approx(0.005)
    assert state.step == 30
    assert not torch.equal(weights_of(model), start)


def test_a_roll_back_returns_to_the_state_before_the_last(small, batch, monkeypatch):
    """Not to the last: what broke the run may stand in it already."""
    monkeypatch.setattr(train, "SNAPSHOT_EVERY", 4)
    model, kept = small(), {}
    for state in training(model, broken_between(13, 18), forever(batch), steps=18, **STEADY):
        kept[state.step] = weights_of(model)
    assert "step 8" in state.event
    assert torch.equal(kept[18], kept[8])


def test_a_run_that_stays_broken_ends_and_names_the_term(small, batch):
    states = []
    with pytest.raises(TrainingDiverged, match="the term shaky is not finite") as e:
        for state in training(small(), broken_between(3, 10**9), forever(batch), steps=1000, **STEADY):
            states.append((state.step, state.lr_scale))
    assert len(states) == 3 + 5 * (MAX_ROLLBACKS + 1) - 1
    assert states[-1][1] == 0.5**MAX_ROLLBACKS
    assert f"{2**MAX_ROLLBACKS} times lower" in str(e.value)


def stored(snapshot):
    """As it comes back from a file: tensors are contiguous, numbers have been JSON."""
    tensors, numbers = snapshot
    return load(save({k: v.contiguous() for k, v in tensors.items()})), json.loads(json.dumps(numbers))


@pytest.mark.parametrize("through_a_file", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize(("network", "optimizer"), [("mlp(hidden=(16,))", "adamax(0.01)"),
                                                    ("mlp(hidden=(16,))", "adamw(0.01)"),
                                                    ("conv(width=4)", "adam(0.01)"), ("conv(width=4)", "adamw(0.01)"),
                                                    ("mlp(hidden=(16,))", "adan(0.01)"), ("conv(width=4)", "lion(1e-3)"),
                                                    ("conv(width=4)", "muon(0.01)"),
                                                    ("conv(width=4)", "soap(0.01, every=3)"),
                                                    ("conv(width=4)", "schedule_free(0.01)")])
def test_a_resumed_run_is_the_undisturbed_one(network, optimizer, through_a_file, small):
    images = np.random.default_rng(0).integers(0, 256, (20, 11, 9, 3), dtype=np.uint8)
    chosen = {"optimizer": optimizer, "schedule": "cosine(warmup=0.2)"}
    n = 10

    def model():
        torch.manual_seed(5)
        return small((3, 11, 9), encoder=network, decoder=network, prior="flow(2, hidden=8)",
                     likelihood="gaussian(sigma='learned')")

    def stream(start=0):
        return Stream(images, np.arange(20), batch_size=6, seed=1, augment=flip(), binarize=True, start=start)

    whole = last(training(model(), ELBO, stream(), steps=2 * n, **chosen))
    half = model()
    for state in training(half, ELBO, stream(), steps=2 * n, **chosen):
        if state.step == n:
            saved = state.snapshot()
            break
    torch.manual_seed(99)
    fresh = small((3, 11, 9), encoder=network, decoder=network, prior="flow(2, hidden=8)",
                  likelihood="gaussian(sigma='learned')")
    resume = stored(saved) if through_a_file else saved
    again = last(training(fresh, ELBO, stream(n), steps=2 * n, resume=resume, **chosen))
    assert again.step == whole.step == 2 * n
    assert (again.loss, again.grad_norm, again.images) == (whole.loss, whole.grad_norm, whole.images)
    assert torch.equal(weights_of(again.model), weights_of(whole.model))
    assert torch.equal(weights_of(again.ema), weights_of(whole.ema))
    assert not torch.equal(weights_of(again.ema), weights_of(again.model))
    assert again.guard.to_dict() == whole.guard.to_dict()


def test_a_snapshot_does_not_move_with_the_model(small, batch):
    states = training(small(), ELBO, forever(batch), steps=9, **STEADY)
    state = next(states)
    tensors, numbers = state.snapshot()
    kept = {k: v.clone() for k, v in tensors.items()}
    last(states)
    assert all(torch.equal(kept[k], tensors[k]) for k in kept)
    assert numbers["step"] == 1


def test_a_finished_run_resumes_to_its_end(small, batch):
    done = last(training(small(), ELBO, forever(batch), steps=3, **STEADY))
    again = list(training(small(), ELBO, forever(batch), steps=3, resume=done.snapshot(), **STEADY))
    assert [s.step for s in again] == [3]
    assert torch.equal(weights_of(again[0].model), weights_of(done.model))


def test_training_ends_with_its_steps(small, batch):
    assert [s.step for s in training(small(), ELBO, forever(batch), steps=4, **STEADY)] == [1, 2, 3, 4]


def test_minutes_end_a_run_and_count_steps_only(small, batch):
    """Each look at the clock takes a second; a caller's own hour between two steps costs nothing."""
    clock = itertools.count()
    timed = {"clock": lambda: float(next(clock)), **STEADY}
    seconds = []
    for state in training(small(), ELBO, forever(batch), minutes=0.1, **timed):
        seconds.append((state.seconds, state.progress))
        clock = itertools.count(next(clock) + 3600)
    assert seconds == [(float(i), pytest.approx(i / 6)) for i in range(1, 7)]
    assert last(training(small(), ELBO, forever(batch), minutes=0.1, steps=2, **timed)).step == 2
    assert last(training(small(), ELBO, forever(batch), minutes=0.05, steps=200, **timed)).step == 3


@pytest.mark.parametrize("budget", [{}, {"steps": 0}, {"minutes": 0}, {"steps": -1}], ids=str)
def test_a_run_needs_an_end(budget, small, batch):
    with pytest.raises(UsageError, match="steps"):
        next(itertools.islice(training(small(), ELBO, forever(batch), **budget), 3, None), None)


@pytest.mark.parametrize("likelihood", ["gaussian(0.3)", "gaussian", "laplace"])
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulating_gives_the_same_gradient(parts, likelihood, small, images, monkeypatch):
    """Also of the likelihoods whose scale is the best of a batch: pieces take the whole's, though they err unlike."""
    monkeypatch.setattr(Gaussian, "rsample", lambda self, shape=(): self.loc.expand(*shape, *self.loc.shape))
    start, x = small(likelihood=likelihood), images(7, SHAPE) * torch.linspace(0, 1, 7).reshape(7, 1, 1, 1)
    grads, losses = [], []
    for accumulate in (1, parts):
        state = next(training(copy.deepcopy(start), ELBO, [x], steps=1, accumulate=accumulate, **STEADY))
        grads.append([p.grad for p in state.model.parameters()])
        losses.append((state.loss, *state.parts.values(), state.grad_norm))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-4)


def test_measuring_a_batch_in_pieces_leaves_no_trace(small, images):
    """Neither in what the model counts, such as a codebook's means, nor in the noise that the pieces draw."""
    x, ends = images(8, SHAPE), []
    for likelihood in ("gaussian(0.3)", "gaussian"):
        torch.manual_seed(1)
        model = small(likelihood=likelihood, posterior="vq(4, dim=2)", prior="uniform")
        last(training(model, ELBO, [x], steps=1, accumulate=2, optimizer="adam(lr=1e-12)"))
        ends.append((model.latent.posterior.books[0].counts, torch.get_rng_state()))
        assert model.likelihood.error is None if likelihood == "gaussian" else True
    torch.testing.assert_close(ends[1], ends[0])


def test_the_average_is_the_one_computed_by_hand(small, batch):
    model, decay = small(), 0.9
    expected = weights_of(model)
    for state in training(model, ELBO, forever(batch), steps=3 * EMA_EVERY + 3, ema=decay, **STEADY):
        if state.step % EMA_EVERY == 0:
            d = min(decay, (1 + state.step) / (10 + state.step)) ** EMA_EVERY
            expected = d * expected + (1 - d) * weights_of(model)
        torch.testing.assert_close(weights_of(state.ema), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(weights_of(state.ema), weights_of(model))
    assert not any(p.requires_grad for p in state.ema.parameters())


def test_without_an_average_the_model_is_its_own(small, batch):
    state = last(training(small(), ELBO, forever(batch), steps=9, ema=0, **STEADY))
    assert state.ema is state.model
    assert not any(k.startswith("ema") for k in state.snapshot()[0])


@pytest.mark.parametrize("schedule", ["cosine(0.2, floor=0.1)", "linear(0.2, floor=0.1)", "constant(0.2)"])
def test_schedules_hit_their_end_points(schedule, small, batch):
    factor = ROLES["schedule"].make(schedule)
    end = 1.0 if "constant" in schedule else 0.1
    assert 0 < factor(0) <= 1e-3
    assert [factor(0.1), factor(0.2), factor(1)] == pytest.approx([0.5, 1, end])
    assert factor(0.6) == pytest.approx((1 + end) / 2)
    rates = [s.side.groups[0]["lr"] for s in
             training(small(), ELBO, forever(batch), steps=10, optimizer="adam(lr=0.01)", schedule=schedule)]
    assert rates == pytest.approx([0.01 * factor(i / 10) for i in range(10)])


def test_no_warm_up_starts_at_the_peak():
    assert [ROLES["schedule"].make(s)(0) for s in ("cosine(0)", "linear(0)", "constant")] == [1, 1, 1]


def test_bf16_trains_and_keeps_its_parameters_in_float32(small, batch):
    state = last(training(small(), ELBO, forever(batch), steps=3, precision="bf16", **STEADY))
    assert math.isfinite(state.loss)
    assert {p.dtype for p in state.model.parameters()} == {torch.float32}


def test_an_unknown_optimizer_or_schedule_is_refused(small, batch):
    with pytest.raises(UsageError, match="did you mean 'adamax'"):
        next(training(small(), ELBO, [batch], steps=1, optimizer="adamex"))
    with pytest.raises(UsageError, match="did you mean 'cosine'"):
        next(training(small(), ELBO, [batch], steps=1, schedule="cosinus"))


def test_a_trained_linear_model_reaches_principal_components(small):
    """Its best ELBO is probabilistic PCA's log-likelihood. (Lucas et al., 2019, arXiv:1911.02469)"""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(300, 6))
    best = PCA(2).fit(data).score(data)
    x = torch.from_numpy(data).float().reshape(-1, 1, 2, 3)
    model = small((1, 2, 3), encoder="mlp(hidden=())", decoder="mlp(hidden=())", latent="flat(2)",
                  likelihood="gaussian(sigma='learned')")
    stream = Stream(x.permute(0, 2, 3, 1).numpy(), np.arange(300), batch_size=300)  # what need not lie in [0, 1]
    last(training(model, ELBO, stream, steps=1000, optimizer="adam(lr=0.02)", schedule="cosine(0)", ema=0))
    with torch.no_grad():
        elbo = -ELBO(model(x, samples=300)).item()
    assert best - 0.1 < elbo < best + 0.03


# Stream


def numbered(n):
    """Images that tell their number."""
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)


def seen(stream, batches):
    return [(x.flatten() * 255).round().int().tolist() for x in itertools.islice(stream, batches)]


@pytest.mark.parametrize(("n", "size"), [(12, 4), (10, 4), (3, 8), (7, 7), (5, 1)])
def test_every_image_comes_once_a_pass(n, size):
    stream = Stream(numbered(n), np.arange(n), batch_size=size)
    flat = list(itertools.chain(*seen(stream, 4 * n)))
    passes = [flat[i * n : (i + 1) * n] for i in range(len(flat) // n)]
    assert all(sorted(p) == list(range(n)) for p in passes)
    assert len({tuple(p) for p in passes}) > 1


def test_the_order_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = seen(Stream(numbered(20), np.arange(20), batch_size=6, seed=1), 9)
    torch.manual_seed(2)
    assert seen(Stream(numbered(20), np.arange(20), batch_size=6, seed=1), 9) == first
    assert seen(Stream(numbered(20), np.arange(20), batch_size=6, seed=2), 9) != first


@pytest.mark.parametrize("start", [1, 4, 7])
def test_a_stream_starts_anywhere(start):
    whole = seen(Stream(numbered(10), np.arange(10), batch_size=4), 12)
    assert seen(Stream(numbered(10), np.arange(10), batch_size=4, start=start), 12 - start) == whole[start:]
    stream = Stream(numbered(10), np.arange(10), batch_size=4)
    assert seen(stream, 12) == seen(stream, 12) == whole


def test_processes_share_a_batch_out():
    whole = seen(Stream(numbered(10), np.arange(10), batch_size=6), 8)
    shares = [seen(Stream(numbered(10), np.arange(10), batch_size=6, process=i, processes=3), 8) for i in range(3)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert all(len(p) == 2 for p in parts)
        assert sorted(itertools.chain(*parts)) == sorted(batch)


def test_only_the_chosen_images_are_seen():
    chosen = np.array([3, 5, 8])
    assert {i for b in seen(Stream(numbered(10), chosen, batch_size=2), 9) for i in b} == {3, 5, 8}


def test_images_become_floats_with_channels_first():
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    x = next(iter(Stream(images, np.arange(4), batch_size=4, seed=3)))
    assert x.shape == (4, 3, 5, 6)
    assert x.dtype == torch.float32
    whole = to_batch(images)
    assert torch.equal(whole, torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    assert all((whole == image).flatten(1).all(1).sum() == 1 for image in x)
    floats = next(iter(Stream((images / 255).astype(np.float32), np.arange(4), batch_size=4, seed=3)))
    torch.testing.assert_close(floats, x)


def test_binarising_keeps_the_grey_value_on_average():
    images = np.full((50, 8, 8, 1), 64, dtype=np.uint8)
    x = torch.cat(list(itertools.islice(Stream(images, np.arange(50), batch_size=50, binarize=True), 4)))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert x.mean().item() == pytest.approx(64 / 255, abs=0.02)
    assert not torch.equal(x[:50], x[50:100])
    grey = torch.full((50, 1, 8, 8), 0.25)
    assert torch.equal(binarized(grey), binarized(grey))
    assert not torch.equal(binarized(grey), binarized(grey, seed=1))
    assert binarized(grey).mean().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("pixels", [1, 2, 6])
def test_a_crop_is_a_shift_that_continues_the_border(pixels):
    x = torch.arange(8.0).repeat(300, 1, 1, 1) / 8 + torch.arange(5.0)[:, None]
    x = torch.cat([x, -x], 1)
    y = crop(pixels)(x)
    shifts = set()
    rows, columns = torch.arange(5), torch.arange(8)
    for a, b in zip(x, y, strict=True):
        found = [(i, j) for i in range(-pixels, pixels + 1) for j in range(-pixels, pixels + 1)
                 if torch.equal(a[:, (rows + i).clamp(0, 4)][..., (columns + j).clamp(0, 7)], b)]
        assert found
        shifts.add(found[0])
    assert {abs(i) for i, _ in shifts} >= {0, min(pixels, 4)}
    assert {i > 0 for i, _ in shifts} == {j > 0 for _, j in shifts} == {True, False}


def test_a_flip_mirrors_half_of_the_images(images):
    x = images(400, (2, 3, 5))
    y = flip()(x)
    same, mirrored = (y == x).flatten(1).all(1), (y == x.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 150 < mirrored.sum() < 250
