"""Quantised latents: codes and vectors, codebooks, their terms, priors over codes, and how many of them are used."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from reparam.distributions.quantized import Quantized
from reparam.errors import UsageError
from reparam.metrics.codebook import codebook_usage
from reparam.metrics.evaluation import Evaluation, Unavailable
from reparam.models.draw import Draw
from reparam.models.posteriors.quantized import Cells, Codebook
from reparam.models.sampler import Sampler
from reparam.models.space import Space
from reparam.models.trace import Layer, Trace
from reparam.objectives.objective import parse_objective
from reparam.objectives.terms.quantized import soft_entropy
from reparam.parts.registry import ROLES

IMAGE = (3, 6, 5)
POSTERIORS = ["vq(6)", "vq(6, decay=0.0)", "vq(6, dim=2)", "rvq(5, 3)", "rvq(5, 2, dim=2)", "fsq((4, 3, 5, 3))",
              "fsq((4, 3))", "lfq", "lfq(2)"]
LATENTS = ["flat(4)", "spatial(4, 2)"]
every_posterior = pytest.mark.parametrize("text", POSTERIORS)
every_latent = pytest.mark.parametrize("latent", LATENTS)


def posterior(text, shape=(4,), features=None):
    return ROLES["posterior"].make(text, features or (math.prod(shape),), shape)


def identity(text, shape=(4,)):
    """A posterior whose head passes the features on, so that they are the encoder's output."""
    made = posterior(text, shape)
    made.head = torch.nn.Unflatten(1, shape)
    return made


def prior(text, shape, levels):
    return ROLES["prior"].make(text, Space(shape, "codes", levels))


def moved(module, by=0.5):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by * torch.randn_like(p))
    return module


def everything(levels, shape):
    """All grids of codes, (levels^N, *shape)."""
    return torch.cartesian_prod(*[torch.arange(levels)] * math.prod(shape)).reshape(-1, *shape)


def trace_of(q):
    x = torch.zeros(len(q.codes), 1, 2, 2)
    p = prior("uniform", tuple(q.codes.shape[1:]), 5)()
    return Trace(x, (Layer(q.codes[None], q, p),), p, torch.zeros(1, len(x)))


def value(objective, q):
    return parse_objective(objective).terms[0][1](trace_of(q))


# Straight-through gradients


@every_latent
@every_posterior
def test_the_gradient_at_the_decoder_s_input_is_that_of_the_encoder_s_output(text, latent):
    """(van den Oord et al., 2017, section 3.2); the decoder reads the quantised value to the last bit."""
    shape = (4,) if latent == "flat(4)" else (4, 3, 2)
    made = posterior(text, shape, (7,))
    q = made(torch.randn(3, 7))
    assert q.raw.shape == q.vectors.shape == q.quantized.shape == (3, *shape)
    read = made.embed(q.rsample((2,)), q)
    assert read.shape == (2, 3, *shape)
    assert torch.equal(read[0], q.quantized)
    assert not torch.equal(q.raw, q.quantized)
    weight = torch.randn_like(read)
    at_raw, at_read = torch.autograd.grad((read * weight).sum(), (q.raw, q.vectors))
    torch.testing.assert_close(at_read, weight.sum(0))
    assert torch.equal(at_raw, at_read)


@every_posterior
def test_codes_alone_stand_for_the_vectors(text):
    made = posterior(text, (4, 3, 2), (7,)).eval()
    q = made(torch.randn(5, 7))
    assert q.codes.dtype == torch.int64
    assert q.codes.shape[1:] == made.space.shape
    assert 0 <= q.codes.min() <= q.codes.max() < made.space.levels
    assert torch.equal(made.embed(q.codes[None])[0], q.quantized)
    assert torch.equal(q.mean, q.quantized)


def test_commitment_and_codebook_have_a_side_each():
    """(van den Oord et al., 2017, Eq. 3): ‖sg[z] − e‖² moves the code, ‖z − sg[e]‖² the encoder."""
    made = identity("vq(6, decay=0.0)", (4, 3, 2)).eval()
    h = torch.randn(5, 24, requires_grad=True)
    q = made(h)
    vectors = made.books[0].vectors
    z, e = made.cells.split(q.raw).reshape(-1, 4), vectors[q.codes.flatten()]
    expected = (z - e).square().sum(1).reshape(5, 6).sum(1)
    for name, moves, stays in (("commitment", h, vectors), ("codebook", vectors, h)):
        got = value(name, q)
        torch.testing.assert_close(got, expected)
        gradient, none = torch.autograd.grad(got.sum(), (moves, stays), retain_graph=True, allow_unused=True)
        assert none is None
        if moves is h:
            torch.testing.assert_close(gradient, 2 * (q.raw - q.quantized).flatten(1))
        else:
            by_hand = torch.zeros_like(vectors).index_add_(0, q.codes.flatten(), 2 * (e - z).detach())
            torch.testing.assert_close(gradient, by_hand)


def test_reconstruction_does_not_move_a_codebook():
    made = identity("vq(6, decay=0.0)")
    q = made(torch.randn(3, 4, requires_grad=True))
    (gradient,) = torch.autograd.grad(q.vectors.sum(), made.books[0].vectors, allow_unused=True)
    assert gradient is None


# Codebooks


def test_a_vector_gets_its_nearest_code():
    made = identity("vq(20)", (3, 4, 5)).eval()
    h = torch.randn(6, 60)
    q = made(h)
    vectors = made.books[0].vectors.double()
    for b, i, j in itertools.product(range(6), range(4), range(5)):
        v = h[b].reshape(3, 4, 5)[:, i, j].double()
        assert q.codes[b, i, j] == (vectors - v).norm(dim=1).argmin()
        assert torch.equal(q.quantized[b, :, i, j], made.books[0].vectors[q.codes[b, i, j]])


def test_flat_latents_are_cut_in_order():
    cells = Cells.of((6,), 2, "vq")
    assert cells.split(torch.arange(6.0)).tolist() == [[0, 1], [2, 3], [4, 5]]
    for shape, dim in (((6,), 3), ((6, 5, 7), 6), ((6, 5, 7), 3), ((6, 1, 1), 1)):
        cells, t = Cells.of(shape, dim, "vq"), torch.randn(2, 3, *shape)
        v = cells.split(t)
        assert v.shape == (2, 3, *cells.grid, dim)
        assert torch.equal(cells.join(v), t)
    grouped = Cells.of((6, 5, 7), 3, "vq").split(t := torch.randn(6, 5, 7))
    assert torch.equal(grouped[1, 2, 4], t[3:, 2, 4])


def test_codebooks_follow_the_running_means():
    """(van den Oord et al., 2017, Eq. 6–8), step by step in float64."""
    torch.manual_seed(3)
    book, gamma = Codebook(5, 3, decay=0.9, revive=0.0), 0.9
    counts, sums = np.zeros(5), np.zeros((5, 3))
    expected = book.vectors.double().numpy().copy()
    for _step in range(20):
        v = torch.randn(40, 3)
        before = expected.copy()
        codes, quantized, _ = book(v)
        distances = ((v.double().numpy()[:, None] - before[None]) ** 2).sum(-1)
        assert (codes.numpy() == distances.argmin(1)).all()
        np.testing.assert_allclose(quantized, before[codes.numpy()], rtol=1e-5, atol=1e-6)
        for i in range(5):
            mine = v.double().numpy()[codes.numpy() == i]
            counts[i] = gamma * counts[i] + (1 - gamma) * len(mine)
            sums[i] = gamma * sums[i] + (1 - gamma) * mine.sum(0)
            if len(mine):
                expected[i] = sums[i] / counts[i]
        np.testing.assert_allclose(book.vectors, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(book.counts, counts, rtol=1e-5)


def test_a_codebook_rests_outside_training():
    book = Codebook(5, 3, decay=0.9, revive=0.1).eval()
    before = copy.deepcopy(book.state_dict())
    book(torch.randn(40, 3))
    assert all(torch.equal(v, before[k]) for k, v in book.state_dict().items())


def test_vectors_that_are_not_finite_teach_nothing():
    a, b = (Codebook(5, 3, decay=0.9, revive=0.0) for _ in range(2))
    b.load_state_dict(a.state_dict())
    v = torch.randn(40, 3)
    bad = torch.tensor([[math.nan] * 3, [math.inf, 0, 0], [1e30, 0, 0]])
    for book, seen in ((a, v), (b, torch.cat([bad, v]))):
        codes, _, _ = Codebook.forward(book, seen)
        assert codes.min() >= 0
    for name, kept in a.state_dict().items():
        torch.testing.assert_close(b.state_dict()[name], kept)
    lost = Codebook(5, 3, decay=0.9, revive=0.9)
    lost.counts.fill_(1.0)
    before = lost.vectors.clone()
    lost(bad)
    assert torch.equal(lost.vectors, before)


@pytest.mark.parametrize("decay", [0.9, 0.0])
@pytest.mark.parametrize("revive", [0.05, 0.0])
def test_dead_codes_are_revived(decay, revive):
    """Codes far from every vector are never nearest: only by reviving does their use rise."""
    book = Codebook(32, 2, decay=decay, revive=revive)
    with torch.no_grad():
        book.vectors[4:] += 1000
    book.counts.fill_(8.0)
    if decay:
        book.sums.copy_(8 * book.vectors)
    used = []
    for _step in range(400 if decay == 0 else 80):
        codes, _, _ = book(torch.randn(256, 2))
        used.append(len(codes.unique()))
    assert used[0] <= 4
    assert used[-1] >= 28 if revive else used[-1] <= 4


def test_the_first_batch_lays_a_codebook_among_its_vectors():
    book = Codebook(16, 2, decay=0.99, revive=0.05)
    v = 100 + torch.randn(64, 2)
    book(v)
    distance = torch.cdist(book.vectors, v).min(1).values
    assert (distance < 3).all()
    assert len(book(v)[0].unique()) == 16
    assert torch.cdist(book.vectors, book.vectors).add(torch.eye(16)).min() > 0


def test_residual_codes_equal_a_plain_loop_and_come_nearer_with_depth():
    made = identity("rvq(16, 4, dim=2)").eval()
    h = torch.randn(50, 4)
    with torch.no_grad():
        for d, book in enumerate(made.books):
            book.vectors.mul_(0.6**d)
            book.vectors[0] = 0  # then a further depth cannot make it worse
    q = made(h)
    assert q.codes.shape == (50, 4, 2)
    errors, total = [], torch.zeros(50, 2, 2)
    for d, book in enumerate(made.books):
        left = h.reshape(50, 2, 2) - total
        nearest = torch.cdist(left.reshape(-1, 2), book.vectors).argmin(1).reshape(50, 2)
        assert torch.equal(q.codes[:, d], nearest)
        total = total + book.vectors[nearest]
        errors.append((h.reshape(50, 2, 2) - total).square().sum().item())
    torch.testing.assert_close(q.quantized, total.reshape(50, 4))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


# Rounding without a codebook


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (4, 3), (3,), (6, 7, 4)], ids=str)
def test_every_fsq_code_is_a_vector_of_its_own_and_is_reached(levels):
    made = identity(f"fsq({levels})", (len(levels),)).eval()
    codes = torch.arange(math.prod(levels))
    vectors = made.look_up(codes)
    assert vectors.shape == (len(codes), len(levels))
    assert len(vectors.unique(dim=0)) == len(codes)
    assert vectors.abs().max() <= 1
    # mixed radix, the first number the least significant
    first = vectors[: levels[0], 0]
    torch.testing.assert_close(first, (torch.arange(levels[0]) - levels[0] // 2) / (levels[0] // 2))
    # the inverse of the squashing: each level is the nearest to its own pre-image
    count = torch.tensor(levels)
    h, o = (count - 1) / 2, 0.5 * (count % 2 == 0)
    u = (vectors * (count // 2) + o).clamp(-h + 0.2, h - 0.2)
    q = made(torch.atanh(u / h) - torch.atanh(o / h))
    assert torch.equal(q.codes.flatten(), codes)
    assert torch.equal(q.quantized, vectors)
    assert made(torch.zeros(1, len(levels))).quantized.abs().max() == 0
    for extreme in (-1e9, 1e9):
        digits = made(torch.full((1, len(levels)), extreme)).quantized * (count // 2) + count // 2
        torch.testing.assert_close(digits[0], torch.zeros(len(levels)) if extreme < 0 else (count - 1).float())


def test_fsq_rounds_its_bounded_numbers():
    made = identity("fsq((5, 4))", (4,))
    h = torch.randn(200, 4, requires_grad=True)
    q = made(h)
    count = torch.tensor([5, 4, 5, 4])
    assert ((q.raw - q.quantized).abs() * (count // 2)).max() <= 0.5 + 1e-6
    (gradient,) = torch.autograd.grad(q.vectors.sum(), h)
    span, offset = (count - 1) / 2, torch.tensor([0, 0.5, 0, 0.5])
    shift = torch.atanh(offset / span)
    torch.testing.assert_close(gradient, span * (1 - torch.tanh(h.detach() + shift) ** 2) / (count // 2))


def test_lfq_reads_signs_as_bits():
    made = identity("lfq", (3,))
    q = made(torch.tensor([[-0.1, 2.0, 0.3], [0.5, -1.0, -3.0]]))
    assert q.codes.tolist() == [[6], [1]]
    assert q.quantized.tolist() == [[-1, 1, 1], [1, -1, -1]]
    vectors = made.look_up(torch.arange(8))
    assert len(vectors.unique(dim=0)) == 8
    assert torch.equal(made(vectors).codes.flatten(), torch.arange(8))


@pytest.mark.parametrize(("text", "shape", "says"), [
    ("vq(dim=3)", (4,), "divide"), ("fsq", (6,), "divide"), ("lfq", (17, 2, 2), "fewer numbers per code"),
    ("fsq((255, 255, 3))", (3,), "fewer numbers per code"), ("fsq((2, 3))", (2,), "lfq"), ("vq(1)", (4,), "2 to"),
    ("vq(100000)", (4,), "rvq"), ("vq(decay=1.0)", (4,), "below 1"), ("rvq(depth=0)", (4,), "depth"),
])
def test_what_does_not_fit_is_refused(text, shape, says):
    with pytest.raises(UsageError, match=says):
        posterior(text, shape)


# Entropy


@pytest.mark.parametrize("text", ["vq(6)", "vq(6, dim=2)", "fsq((4, 3, 5, 3))", "fsq((4, 3))", "lfq", "lfq(2)", "rvq(5, 3)"])
def test_entropy_is_that_of_all_codes_written_out(text):
    """Against softmax(−‖r − e_c‖² / τ) over every code c, by brute force in float64."""
    tau, made = 0.7, identity(text, (4, 3, 2)).eval()
    q = made(0.7 * torch.randn(5, 24))
    depths = len(made.books) if text.startswith("rvq") else 1
    flat = made.cells.split(q.raw).reshape(-1, made.cells.dim).double()
    expected = torch.zeros(5, dtype=torch.float64)
    for d in range(depths):
        table = (made.books[d].vectors if "vq" in text else made.look_up(torch.arange(made.space.levels))).double()
        p = (-(flat[:, None] - table).square().sum(-1) / tau).softmax(-1)
        own, mean = -(p * p.log()).sum(-1), p.mean(0)
        expected += (own + (mean * mean.log()).sum()).reshape(5, -1).sum(1)
        if "vq" in text:
            flat = flat - table[p.argmax(-1)]
    got = value(f"entropy({tau})", q)
    assert got.shape == (5,)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


def test_entropy_is_lowest_where_codes_are_sure_and_all_used():
    made = identity("lfq", (2,))
    corners = 30 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert soft_entropy(made(corners), 1.0).sum() == pytest.approx(-4 * math.log(4), abs=1e-4)
    assert soft_entropy(made(corners[:1].repeat(4, 1)), 1.0).sum() == pytest.approx(0, abs=1e-4)
    h = torch.zeros(4, 2, requires_grad=True)
    value("entropy", made(h)).sum().backward()
    assert h.grad.isfinite().all()


def test_sixteen_bits_have_an_entropy():
    h = (torch.randn(8, 16, 2, 2)).flatten(1).requires_grad_()
    got = value("entropy", identity("lfq", (16, 2, 2))(h))
    got.sum().backward()
    assert (got < 0).all()
    assert h.grad.isfinite().all()
    assert h.grad.any()


@pytest.mark.parametrize("name", ["commitment", "codebook", "entropy"])
def test_terms_of_quantised_latents_name_the_posteriors_they_need(name, small, images):
    with pytest.raises(UsageError, match="vq, rvq, fsq or lfq"):
        parse_objective(name).parts(small(IMAGE)(images(2, IMAGE)))


# Priors


def test_a_point_mass_is_one_at_its_codes():
    codes = torch.randint(0, 3, (4, 2, 2))
    q = Quantized(codes, codes, codes, codes, ())
    assert q.log_prob(q.sample((3,))).tolist() == [[0.0] * 4] * 3
    other = codes.clone()
    other[1, 0, 0] += 1
    assert q.log_prob(other).tolist() == [0, -math.inf, 0, 0]


@pytest.mark.parametrize("text", ["uniform", "autoregressive(8, 2, 2)"])
@pytest.mark.parametrize(("levels", "shape"), [(3, (2, 2)), (2, (3,)), (2, (2, 1, 3)), (5, (1,))], ids=str)
def test_probabilities_of_all_grids_sum_to_one(text, levels, shape):
    p = moved(prior(text, shape, levels))()
    log_p = p.log_prob(everything(levels, shape))
    assert log_p.dtype == torch.float32
    assert log_p.double().exp().sum().item() == pytest.approx(1, abs=1e-5)
    if text == "uniform":
        torch.testing.assert_close(log_p, torch.full_like(log_p, -math.prod(shape) * math.log(levels)))
    else:
        assert log_p.std() > 0.1


def test_autoregressive_starts_uniform():
    p = prior("autoregressive", (2, 3), 7)()
    codes = torch.randint(0, 7, (4, 2, 3))
    torch.testing.assert_close(p.log_prob(codes), torch.full((4,), -6 * math.log(7)))


def test_autoregressive_sees_only_what_came_before():
    net = moved(prior("autoregressive(16, 2, 4)", (3, 3), 5))
    codes = torch.randint(0, 5, (2, 9))
    base = net.logits(codes)
    for i in range(9):
        other = codes.clone()
        other[:, i] = (other[:, i] + 1) % 5
        change = (net.logits(other) - base).abs().amax((0, 2))
        assert (change[: i + 1] == 0).all()
        assert (change[i + 1 :] > 1e-4).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("text", ["uniform", "autoregressive(8, 2, 2)"])
def test_codes_are_drawn_with_their_probabilities(text, temperature):
    """χ² over all 81 grids; a temperature divides the logits of each step."""
    net = moved(prior(text, (2, 2), 3), 0.4)
    grids, n = everything(3, (2, 2)), 20_000
    if text == "uniform" or temperature == 1:
        law = net().log_prob(grids)
    else:
        logs = (net.logits(grids.flatten(1)) / temperature).log_softmax(-1)
        law = logs.gather(-1, grids.flatten(1)[..., None]).sum((1, 2))
    drawn = net().sample((n,)) if temperature == 1 else net().tempered((n,), temperature)
    assert drawn.dtype == torch.int64
    counts = (drawn.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1).bincount(minlength=81).numpy()
    expected = law.double().exp().detach().numpy()
    assert (expected * n).min() > 1
    assert stats.chisquare(counts, expected / expected.sum() * n).pvalue > 1e-3
    if "auto" in text:
        assert expected.max() / expected.min() > 4


def test_no_temperature_takes_the_likeliest_code_each_time():
    net = moved(prior("autoregressive(8, 2, 2)", (4,), 3))
    p = net()
    drawn = p.tempered((5,), 0.0)
    assert (drawn == p.mean).all()
    assert torch.equal(net.logits(p.mean[None]).argmax(-1)[0], p.mean)


def test_the_bound_of_quantised_latents_is_the_joint(small, images):
    """q is a point mass, so nll + kl is −log p(x | e(c)) − log p(c), without any estimate."""
    model = small(IMAGE, posterior="rvq(5, 2, dim=2)", prior="autoregressive(8, 1, 2)").eval()
    x = images(4, IMAGE)
    trace = model(x, samples=3)
    layer = trace.layers[0]
    loss = sum(parse_objective("nll + kl").parts(trace))
    alone = model.decode(layer.q.quantized[None]).log_prob(x) + model.latent.prior().log_prob(layer.q.codes)
    torch.testing.assert_close(loss, -alone.mean())
    torch.testing.assert_close(parse_objective("iw_bound(3)").parts(trace)[0], -alone.mean())


@pytest.mark.parametrize(("text", "says"), [("autoregressive(10, heads=4)", "multiple"),
                                            ("autoregressive(layers=0)", "layers must be at least 1")])
def test_a_prior_that_cannot_be_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        prior(text, (4,), 3)
    with pytest.raises(UsageError, match="coarser"):
        prior("autoregressive", (65, 64), 3)


# In a model


@every_latent
@every_posterior
def test_a_model_trains_generates_and_is_restored(text, latent, small, images, tmp_path):
    from safetensors.torch import load_file, save_file

    def build():
        return small(IMAGE, posterior=text, prior="autoregressive(8, 1, 2)", latent=latent,
                     encoder="conv(width=4)" if "spatial" in latent else "mlp(hidden=(8,))")

    def step(model, x):
        torch.manual_seed(9)
        objective(model(x, samples=2)).backward()
        with torch.no_grad():
            for p in model.parameters():
                p.sub_(1e-4 * p.grad)
                p.grad = None

    objective = parse_objective("nll + kl + 0.25*commitment + codebook + 0.1*entropy")
    model, x = build(), images(6, IMAGE)
    step(model, x)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "model.safetensors")
    other = build()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for m in (model, other):  # a step that begins from what was stored ends in the same place
        step(m, x)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    assert torch.equal(model.eval()(x).layers[0].z, other.eval()(x).layers[0].z)
    for temperature in (1.0, 0.0):
        code = model.latent.generate(3, Draw(temperature))
        assert code.shape == (1, 3, *model.latent.shape)
        assert model.decode(code).mean.shape == (1, 3, *IMAGE)


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize("text", ["vq(6)", "vq(6, decay=0.0)", "rvq(5, 2, dim=2)", "fsq((4, 3))", "lfq"])
def test_training_compiles_as_one_graph(text, small, images):
    """Codebooks change while they are used, so both ways start from the same state; they end in the same one too."""
    x = images(4, IMAGE)
    objective = parse_objective("nll + kl + commitment + codebook + entropy")
    plain = small(IMAGE, posterior=text, prior="autoregressive(8, 1, 2)")
    compiled = copy.deepcopy(plain)
    torch._dynamo.reset()
    results = []
    for model, backend in ((plain, None), (compiled, "eager")):
        def run(x, model=model):
            return objective.parts(model(x))

        torch.manual_seed(1)
        parts = (torch.compile(run, fullgraph=True, backend=backend) if backend else run)(x)
        parts.sum().backward()
        results.append(parts.detach())
    torch.testing.assert_close(*results)
    for name, kept in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], kept)
    for (name, a), b in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


# The metric


def usage(model, x):
    return {f.name: f for f in codebook_usage(Evaluation(Sampler(model.eval()), x))}


def test_usage_counts_the_codes_of_all_images(small, images):
    model, x = small(IMAGE, posterior="rvq(7, 2, dim=2)", prior="uniform"), images(300, IMAGE)
    figures = usage(model, x)
    with torch.no_grad():
        codes = model.eval()(x).layers[0].q.codes
    for d in range(2):
        counts = np.bincount(codes[:, d].flatten().numpy(), minlength=7)
        assert figures["codebook_usage"].detail[d] == pytest.approx((counts > 0).mean(), abs=1e-4)
        assert figures["codebook_perplexity"].detail[d] == pytest.approx(
            math.exp(stats.entropy(counts)), abs=1e-3)
    assert figures["codebook_usage"].value == pytest.approx(np.mean(figures["codebook_usage"].detail), abs=1e-4)
    assert figures["codebook_usage"].n == 300
    few = usage(small(IMAGE, posterior="vq(64)", prior="uniform"), images(3, IMAGE))
    assert "fewer" in few["codebook_usage"].note
    assert few["codebook_usage"].value <= 3 / 64


def test_models_without_codes_have_no_usage(small, images):
    with pytest.raises(Unavailable, match="models with a codebook"):
        codebook_usage(Evaluation(Sampler(small(IMAGE)), images(3, IMAGE)))
