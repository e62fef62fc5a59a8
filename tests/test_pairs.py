"""Weak supervision by pairs: the posterior that partners share, partners by factors, and batches of pairs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import training

from reparam.data.arrays import from_arrays
from reparam.data.open import open_images
from reparam.data.pairs import differing, redrawn
from reparam.data.stream import Stream
from reparam.distributions.gaussian import Gaussian
from reparam.errors import DataError, UsageError
from reparam.models.posteriors.adaptive import shared
from reparam.objectives.objective import parse_objective
from reparam.parts.recipe import Recipe
from reparam.runs.pairing import find_pairs
from reparam.runs.train import resume, train
from reparam.trainer.assembly import Assembly

IMAGE = (1, 6, 5)


def partners_of(loc, log_var):
    return shared(Gaussian(torch.tensor(loc), torch.tensor(log_var)))


def test_what_differs_little_is_averaged_and_the_rest_is_left():
    """By hand, with unit variances: KL is half the squared distance, 0, 0.5 and 2, of which 1 is half-way."""
    q = partners_of([[1.0, 0.0, 0.0], [1.0, 1.0, 2.0]], [[0.0] * 3] * 2)
    torch.testing.assert_close(q.loc, torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.5, 2.0]]))
    assert not q.log_var.any()


def test_variances_are_averaged_themselves():
    q = partners_of([[0.0, 0.0], [0.0, 9.0]], [[math.log(1.0), 0.0], [math.log(3.0), 0.0]])
    torch.testing.assert_close(q.log_var.exp(), torch.tensor([[2.0, 1.0], [2.0, 1.0]]))


def test_the_choice_is_by_torchs_kl_of_each_pair_alone():
    torch.manual_seed(0)
    loc, log_var = torch.randn(10, 2, 3), torch.randn(10, 2, 3)
    q = shared(Gaussian(loc, log_var, 2))
    normal = [torch.distributions.Normal(loc[i::2], (0.5 * log_var[i::2]).exp()) for i in (0, 1)]
    for pair, kl in enumerate(torch.distributions.kl_divergence(*normal)):
        common = kl < (kl.min() + kl.max()) / 2
        assert common.any() and not common.all()
        a, b = 2 * pair, 2 * pair + 1
        assert torch.equal(q.loc[a][common], q.loc[b][common])
        for i in (a, b):
            assert torch.equal(q.loc[i] != loc[i], common) and torch.equal(q.log_var[i] != log_var[i], common)


def test_where_all_differ_alike_or_none_the_elbo_is_that_of_a_gaussian(small, images):
    """All KLs equal their half-way: nothing is shared; a partner that is the image itself changes nothing either."""
    apart = Gaussian(torch.randn(4, 1).expand(4, 3), torch.zeros(4, 3))
    assert torch.equal(shared(apart).loc, apart.loc)
    adaptive, plain = small(IMAGE, posterior="adaptive"), small(IMAGE)
    plain.load_state_dict({k.replace(".base.", "."): v for k, v in adaptive.state_dict().items()})
    elbo = parse_objective("nll + kl")

    def of(model, x):
        torch.manual_seed(1)
        return elbo(model(x))

    twice, pairs = images(3, IMAGE).repeat_interleave(2, 0), images(6, IMAGE)
    torch.testing.assert_close(of(adaptive, twice), of(plain, twice))
    assert of(adaptive, pairs) != of(plain, pairs)
    assert torch.equal(of(adaptive.eval(), pairs), of(plain.eval(), pairs))


def test_the_last_of_an_odd_number_is_alone():
    q = Gaussian(torch.randn(5, 4), torch.randn(5, 4))
    joint = shared(q)
    assert torch.equal(joint.loc[4], q.loc[4]) and torch.equal(joint.log_var[4], q.log_var[4])
    assert torch.equal(joint.loc[:4], shared(Gaussian(q.loc[:4], q.log_var[:4])).loc)


def test_both_images_of_a_pair_move_what_they_share():
    loc = torch.tensor([[0.0, 0.0], [1.0, 5.0]], requires_grad=True)
    shared(Gaussian(loc, torch.zeros(2, 2))).loc[0].sum().backward()
    assert loc.grad.tolist() == [[0.5, 1.0], [0.5, 0.0]]


def numbered(n):
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)


def seen(stream, steps):
    """The numbers of images, a list for each step."""
    batches = (b[0] if isinstance(b, tuple) else b for b in itertools.islice(stream, steps))
    return [(b.flatten() * 255).round().long() for b in batches]


def test_each_image_is_followed_by_its_partner_and_each_comes_first_once_a_pass():
    partners = np.random.default_rng(0).permutation(40)
    stream = Stream(numbered(40), np.arange(20), batch_size=8, seed=2, partners=partners, labels=np.arange(40))
    whole = seen(stream, 15)
    for batch in whole:
        assert len(batch) == 8 and torch.equal(batch[1::2], torch.from_numpy(partners)[batch[::2]])
    for one_pass in torch.cat([batch[::2] for batch in whole]).view(3, 20):
        assert torch.equal(one_pass.sort().values, torch.arange(20))
    assert all(torch.equal((x.flatten() * 255).round().long(), y) for x, y in itertools.islice(stream, 3))
    assert all(map(torch.equal, seen(replace(stream, start=4), 6), whole[4:]))


def test_pairs_stay_on_one_process_and_few_labels_lead_theirs():
    partners = np.roll(np.arange(100), 1)
    labels = np.where(np.arange(100) % 16 == 5, np.arange(100), -1)
    stream = Stream(numbered(100), np.arange(100), batch_size=16, partners=partners, labels=labels)
    shares = [seen(replace(stream, process=i, processes=2), 9) for i in range(2)]
    for batch, *parts in zip(seen(stream, 9), *shares, strict=True):
        assert all(len(p) == 8 and torch.equal(p[1::2], (p[::2] - 1) % 100) for p in parts)
        assert torch.equal(torch.cat(parts).sort().values, batch.sort().values)
        assert (batch[:4:2] % 16 == 5).all()


EXPECTED = [9, 6, 0, 2, 1, 4, 7, 5, 3, 8, 4, 1]
"""Three batches of 4 of 10 images at seed 3, before there were partners."""


def test_without_partners_batches_are_what_they_were():
    assert torch.cat(seen(Stream(numbered(10), np.arange(10), batch_size=4, seed=3), 3)).tolist() == EXPECTED


@pytest.mark.parametrize("accumulate", [1, 2, 3, 6])
def test_pieces_of_a_batch_keep_pairs_together(small, images, accumulate):
    """Of 8 pairs, also where sixths of 16 images would be threes."""
    sizes, x = [], images(16, IMAGE)
    model = small(IMAGE, posterior="adaptive")
    model.encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    next(training(model, parse_objective("nll + kl"), [x], steps=1, accumulate=accumulate))
    assert sum(sizes) == 16 and not any(size % 2 for size in sizes) and len(sizes) >= min(accumulate, 4)


FACTORS = {name: column.ravel() for name, column in
           zip("abc", np.meshgrid(range(4), ["x", "y", "z"], range(3), indexing="ij"), strict=True)}


@pytest.mark.parametrize("k", [1, 2])
def test_partners_differ_in_k_factors_at_most(k):
    rows = np.arange(0, 36)
    partners = differing(FACTORS, rows, k)
    unlike = np.stack([column != column[partners] for column in FACTORS.values()])
    assert (partners != rows).all() and (unlike.sum(0) <= k).all() and unlike.any(1).all()
    assert len(np.unique(partners)) > 18 and (differing(FACTORS, rows, k, seed=1) != partners).any()


def test_partners_are_among_the_rows_and_one_without_is_its_own():
    rows = np.array([0, 1, 2, 35])  # the first three differ in c alone, the last in everything
    partners = differing(FACTORS, rows, 1)
    assert partners[35] == 35 and (partners[3:] == np.arange(3, 36)).all()
    assert set(partners[:3]) <= {0, 1, 2}
    with pytest.raises(UsageError, match=r"from 1 to 2, such as factors\(1\); got 3"):
        differing(FACTORS, rows, 3)


def a_set(n=40, **changes):
    """Pictures of noise, 8×8, of two factors where these are named."""
    noise = np.random.default_rng(0).integers(0, 256, (n, 8, 8), np.uint8)
    return from_arrays(noise, **changes)


TWO = np.stack([np.arange(40) % 4, np.arange(40) // 4 % 5], 1)


def test_partners_that_are_drawn_keep_all_factors_but_k():
    factors = {name: np.random.default_rng(i).random(50) for i, name in enumerate("abcd")}
    rows = np.arange(0, 50, 2)
    drawn = redrawn(factors, rows, 2)
    unlike = np.stack([drawn[name] != factors[name][rows] for name in factors])
    assert (unlike.sum(0) <= 2).all() and unlike.sum() > 1.5 * len(rows) and unlike.any(1).all()
    assert all(np.isin(drawn[name], factors[name][rows]).all() for name in factors)


def test_shapes_are_drawn_anew_as_partners():
    shapes = open_images("shapes", image_size=16)
    rows = np.arange(0, 10_000, 500)
    images, partners = find_pairs("factors(1)", shapes, rows, 0)
    assert images.shape == (10_020, 16, 16, 3) and np.array_equal(images[:10_000], shapes.images)
    assert (partners[rows] == np.arange(10_000, 10_020)).all() and np.delete(partners, rows).tolist() == [
        i for i in range(10_020) if i not in set(rows)]
    same = shapes.redraw({name: column[rows] for name, column in shapes.factors.items()})
    assert np.array_equal(same, shapes.images[rows])


def test_a_table_names_each_pair_once_and_no_held_out_image(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("file,note,partner\n0,a,1\n2,b,39\n3,c,4\n5,d,\n")
    images, partners = find_pairs(str(table), made := a_set(), np.arange(30), 0)
    assert images is made.images
    assert {i: int(j) for i, j in enumerate(partners) if i != j} == {0: 1, 1: 0, 3: 4, 4: 3}


@pytest.mark.parametrize(("text", "said"), [
    ("file,mate\n0,1\n", "has no column 'partner'.*it has mate"),
    ("file,partner\n0,99\n", "'0' has the partner '99', and array has no such image"),
    ("file,partner\n0,35\n1,1\n", "makes no pair of the 30 training images"),
])
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, said):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        find_pairs(str(tmp_path / "pairs.csv"), a_set(), np.arange(30), 0)


@pytest.mark.parametrize(("pairs", "images", "error", "said"), [
    ("factors(1)", a_set(), DataError, r"factors\(1\) needs data whose factors are known, and array has none"),
    ("factors(2)", a_set(labels=TWO), UsageError, "a number from 1 to 1, such as"),
    ("factors", a_set(labels=TWO), UsageError, "neither a table nor a number of factors: accepted are a .csv"),
    ("factors('a')", a_set(labels=TWO), UsageError, "neither a table nor a number of factors"),
])
def test_what_is_no_pairs_is_refused(pairs, images, error, said):
    with pytest.raises(error, match=said):
        find_pairs(pairs, images, np.arange(30), 0)


def test_a_run_learns_from_pairs_and_goes_on_with_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields = {"encoder": "mlp((8,))", "decoder": "mlp((8,))", "latent": "flat(3)", "batch_size": 8, "fitted_prior": "none"}
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    with pytest.raises(UsageError, match="learns from pairs of images: name them with --pairs"):
        train(x, labels=TWO, preset="ada_gvae", steps=2, **fields)
    with pytest.raises(UsageError, match="the posterior gaussian has no use for pairs"):
        train(x, labels=TWO, pairs="factors(1)", steps=2, **fields)
    assert not list(tmp_path.iterdir())
    run = train(x, labels=TWO, preset="ada_gvae", pairs="factors(1)", steps=2, out="run", **fields)
    assert resume(run.folder, data=x, labels=TWO, steps=3).facts["pairs"] == "factors(1)"


def assembly(**changes):
    recipe = Recipe(encoder="mlp((8,))", decoder="mlp((8,))", latent="flat(3)", posterior="adaptive", batch_size=7, steps=2,
                    fitted_prior="none")
    return Assembly(recipe.but(**changes), (1, 1, 1))


def test_a_stream_without_partners_is_refused_in_words():
    made = assembly().check()
    stream = made.stream(numbered(20))
    with pytest.raises(UsageError, match="these have no partners: name each one's"):
        next(made.training(stream, made.budget(stream)))
    for wrong in (np.arange(19), np.arange(1, 21), np.zeros(20)):
        with pytest.raises(UsageError, match=r"partners are \(20,\) whole numbers from 0 to 19"):
            made.stream(numbered(20), partners=wrong)
    with pytest.raises(UsageError, match="a batch of one image holds no pair"):
        assembly(batch_size=1).stream(numbered(20), partners=np.arange(20))
    with pytest.raises(UsageError, match="for latents drawn for an image"):
        assembly(latent="semi_supervised(4, 3)")


def test_it_trains_and_afterwards_reads_single_images():
    made = assembly()
    stream = made.stream(numbered(20), partners=np.roll(np.arange(20), 1))
    assert stream.batch_size == 6
    model = made.fit(stream)
    x = numbered(20) / np.float32(255)
    together, alone = (model.network.encode(torch.from_numpy(v).permute(0, 3, 1, 2)) for v in (x, x[:1]))
    torch.testing.assert_close(together[:1], alone)
