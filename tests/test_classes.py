"""Latents with classes: what is given, what is inferred, and that the bound is one."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, kl_divergence

import reparam
from reparam.cli.app import main
from reparam.data.stream import Stream, keep_labels
from reparam.distributions.base import kl
from reparam.errors import DataError, UsageError
from reparam.metrics import measure
from reparam.metrics.evaluation import Evaluation
from reparam.models.build import build_model
from reparam.models.draw import Draw
from reparam.models.latents.labelled import ClassPosterior, UniformClass
from reparam.models.sampler import Sampler
from reparam.models.trace import log_weight
from reparam.objectives.terms import kl as rate
from reparam.parts.recipe import Recipe

IMAGE = (1, 4, 4)


def model_of(latent, **changes):
    recipe = Recipe(encoder="mlp(hidden=(16,))", decoder="mlp(hidden=(16,))", likelihood="bernoulli", latent=latent)
    model = build_model(recipe.but(**changes), IMAGE)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def posterior(n=6, known=()):
    y = torch.full((n,), -1)
    for i, label in known:
        y[i] = label
    one_hot = F.one_hot(y.clamp(min=0), 3).float() * (y >= 0)[:, None]
    return ClassPosterior(torch.randn(n, 3), one_hot)


def test_inferred_classes_follow_their_probabilities():
    q = posterior()
    n = 40_000
    drawn = q.sample((n,))
    assert set(drawn.unique().tolist()) == {0.0, 1.0} and (drawn.sum(-1) == 1).all()
    p = q.logits.softmax(-1)
    assert ((drawn.mean(0) - p).abs() < 4 * (p * (1 - p) / n).sqrt() + 1e-9).all()
    torch.testing.assert_close(q.log_prob(drawn[:5]), Categorical(logits=q.logits).log_prob(drawn[:5].argmax(-1)))


def test_known_classes_stay_what_they_are():
    q = posterior(known=[(1, 2), (4, 0)])
    drawn = q.rsample((50,))
    assert torch.equal(drawn[:, 1], torch.tensor([0.0, 0, 1]).expand(50, 3))
    assert torch.equal(drawn[:, 4], torch.tensor([1.0, 0, 0]).expand(50, 3))
    assert not q.log_prob(drawn)[:, [1, 4]].any()


def test_the_divergence_of_a_class_is_its_closed_form():
    q, p = posterior(known=[(2, 1)]), UniformClass(torch.full((3,), 1 / 3))
    got = kl(q, p, q.sample((1,)))[0]
    expected = kl_divergence(Categorical(logits=q.logits), Categorical(probs=torch.full((3,), 1 / 3)))
    expected[2] = math.log(3)  # −log p(y) of the class that is known
    torch.testing.assert_close(got, expected)
    z = q.sample((40_000,))
    logs = q.log_prob(z) - p.log_prob(z)
    assert ((logs.mean(0) - got).abs() < 4 * logs.std(0) / 200 + 1e-5).all()


def test_gradients_of_a_drawn_class_pass_straight_through():
    """The value is one-hot, the gradient that of the softmax of the noisy logits. (Jang et al., 2017, section 2.2)"""
    logits, c = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    torch.manual_seed(5)
    (ClassPosterior(logits, torch.zeros(4, 3)).rsample() * c).sum().backward()
    got, logits.grad = logits.grad, None
    torch.manual_seed(5)
    gumbel = -(-torch.rand(4, 3).clamp(1e-9, 1 - 1e-7).log()).log()
    (((logits + gumbel) / (2 / 3)).softmax(-1) * c).sum().backward()
    torch.testing.assert_close(got, logits.grad)


def test_importance_weights_of_an_inferred_class_are_unbiased():
    """E[w] = p(x) = Σ_y ∫ p(x | z, y) p(z) dz / classes, by draws of the prior, for images with and without a label."""
    model = model_of("semi_supervised(1, 3)").eval()
    x = torch.rand(1, *IMAGE).round()
    with torch.no_grad():
        n = 60_000
        log_p = torch.cat([model.decode(model.latent.generate(n // 3, Draw(label=y))).log_prob(x) for y in range(3)], 1)[0]
        exact = log_p.logsumexp(0) - math.log(n)
        each = [log_p[y * (n // 3) : (y + 1) * (n // 3)] for y in range(3)]
        assert each[0].mean() != each[1].mean()
        for y, reference in ((None, exact), (torch.tensor([1]), each[1].logsumexp(0) - math.log(n // 3) - math.log(3))):
            w = (log_weight(model(x, samples=n, y=y)) - reference).exp()[:, 0]
            error = w.std() / n**0.5 + 3 * (log_p - exact).exp().std() / n**0.5
            assert abs(w.mean() - 1) < 4 * error
        elbo = log_weight(model(x.expand(4000, -1, -1, -1))).mean()
    assert elbo < exact


def test_the_rate_counts_class_and_vector():
    model, x = model_of("semi_supervised(2, 3)").eval(), torch.rand(3, *IMAGE)
    trace = model(x, samples=4, y=torch.tensor([-1, 2, -1]))
    parts = torch.stack([kl(layer.q, layer.p, layer.z) for layer in trace.layers])
    assert parts.shape == (2, 4, 3)
    torch.testing.assert_close(parts.sum(0).mean(0), rate(trace))
    torch.testing.assert_close(parts[0, :, 1], torch.full((4,), math.log(3)))


def test_labels_are_left_out_as_often_as_said():
    model = model_of("conditional(2, 3, dropout=0.3)").train()
    y = torch.randint(3, (4000,))
    seen = model(torch.rand(4000, *IMAGE), y=y).decoder_input[0, :, 2:]
    kept = seen.sum(1)
    assert abs(kept.mean() - 0.7) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    assert torch.equal(seen[kept == 1].argmax(1), y[kept == 1])
    all_seen = model.eval()(torch.rand(50, *IMAGE), y=y[:50]).decoder_input[0, :, 2:]
    assert torch.equal(all_seen.argmax(1), y[:50])
    assert not model(torch.rand(5, *IMAGE)).decoder_input[..., 2:].any()  # none known
    some = model(torch.rand(2, *IMAGE), y=torch.tensor([-1, 1])).decoder_input[0, :, 2:]
    assert torch.equal(some, torch.tensor([[0.0, 0, 0], [0, 1, 0]]))


@pytest.mark.parametrize("latent", ["conditional(2, 3)", "semi_supervised(2, 3)"])
def test_a_chosen_class_is_the_one_in_the_code(latent):
    model = model_of(latent).eval()
    code = model.latent.generate(5, Draw(label=2))
    assert torch.equal(code[0, :, 2:], torch.tensor([0.0, 0, 1]).expand(5, 3))
    with pytest.raises(UsageError, match="0 to 2"):
        model.latent.generate(1, Draw(label=3))
    free = model.latent.generate(400)[0, :, 2:]
    assert free.sum() == (0 if latent.startswith("cond") else 400)


def test_a_model_without_classes_refuses_one():
    with pytest.raises(UsageError, match="knows no classes"):
        model_of("flat(2)").latent.generate(1, Draw(label=0))


def test_few_labels_are_kept_evenly():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    kept = keep_labels(labels, np.arange(0, 160, 2), 12, seed=0)
    assert [(kept == c).sum() for c in range(3)] == [4, 4, 4]
    assert (kept >= 0).sum() == 12
    assert (kept[kept >= 0] == labels[kept >= 0]).all() and not (kept[1::2] >= 0).any()
    assert keep_labels(labels, np.arange(160), None, seed=0) is labels


def test_batches_bring_their_own_labels():
    images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)
    stream = iter(Stream(images, np.arange(12), batch_size=5, labels=np.arange(12)))
    for _ in range(4):
        x, y = next(stream)
        assert torch.equal((x.flatten() * 255).round().long(), y)


def few_labels(batch=8, **changes):
    """Of 100 images 6 with a label: those of the batches of a stream, with the labels."""
    images = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    labels = np.where(np.arange(100) % 16 == 5, np.arange(100), -1)
    stream = Stream(images, np.arange(100), batch_size=batch, labels=labels, **changes)
    return [((x.flatten() * 255).round().long(), y) for x, y in itertools.islice(stream, 30)]


def test_few_labels_come_in_every_batch():
    batches = few_labels()
    assert all(torch.equal(y, torch.where(x % 16 == 5, x, -1)) for x, y in batches)
    assert all((y[:2] >= 0).all() for _, y in batches)
    labelled = torch.cat([x[:2] for x, _ in batches]).view(10, 6)  # passes of their own
    assert (labelled.sort(1).values == torch.arange(5, 100, 16)).all()
    others = torch.cat([x[2:] for x, _ in batches])[:100]
    assert torch.equal(others.sort().values, torch.arange(100))
    later = few_labels(start=7)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches[7:], later, strict=False))
    shares = [few_labels(process=i, processes=2) for i in range(2)]
    for (x, _), *parts in zip(batches, *shares, strict=True):
        assert all((y >= 0).sum() >= 1 for _, y in parts)
        assert torch.equal(torch.cat([part for part, _ in parts]).sort().values, x.sort().values)


@pytest.mark.parametrize("known", [0, 25, 100])
def test_without_labels_or_with_many_batches_are_as_without_any(known):
    images = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    labels = np.where(np.arange(100) < known, 1, -1)
    plain = itertools.islice(Stream(images, np.arange(100), batch_size=8), 30)
    told = Stream(images, np.arange(100), batch_size=8, labels=labels)
    assert all(torch.equal(a, b) for (a, _), b in zip(told, plain, strict=False))


def test_labels_that_are_kept_are_drawn():
    labels = np.arange(300) % 3
    drawn = [np.flatnonzero(keep_labels(labels, np.arange(300), 30, seed) >= 0) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert drawn[0].max() > 200  # not the first ones


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32).reshape(-1, 8, 8), y


def test_few_labels_teach_a_classifier(tmp_path, capsys):
    """Fifty labels and all images: well above what chance gives; the command, the metric and the model file agree."""
    x, y = digits()
    np.savez(tmp_path / "d.npz", images=(x * 255).astype(np.uint8), labels=y)
    run = reparam.train(tmp_path / "d.npz", preset="m2", labelled=50, steps=300, latent="semi_supervised(8)",
                        out=tmp_path / "run", encoder="mlp", decoder="mlp", binarize=False, batch_size=128)
    model = reparam.load(run.folder)
    at = torch.from_numpy(x[:600, None])
    accuracy = measure(Evaluation(model.sampler, at, torch.from_numpy(y[:600])), "accuracy")[0].value
    assert accuracy > 0.6
    assert (model.class_probabilities(x[:600]).argmax(1) == y[:600]).mean() == pytest.approx(accuracy)
    assert main(["classify", str(run.folder), str(tmp_path / "d.npz"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    held_out = reparam.open_images(tmp_path / "d.npz").split()[1]
    right = model.class_probabilities(x[held_out]).argmax(1) == y[held_out]
    assert facts["learned_from"] == 50  # as the model did
    assert facts["figures_of_the_model"][0]["value"] == pytest.approx(right.mean())
    assert "inferred by the model" in (run.folder / "classifier.html").read_text()
    assert model.sample(4, label="3").shape == (4, 8, 8)
    with pytest.raises(UsageError, match="unknown class"):
        model.sample(1, label="cat")


def test_data_without_labels_are_refused(tmp_path):
    x, y = digits()
    np.savez(tmp_path / "d.npz", images=(x * 255).astype(np.uint8))
    with pytest.raises(DataError, match="needs labels"):
        reparam.train(tmp_path / "d.npz", preset="cvae", steps=2, out=tmp_path / "run")
    np.savez(tmp_path / "e.npz", images=(x * 255).astype(np.uint8), labels=y)
    with pytest.raises(UsageError, match="classes=10"):
        reparam.train(tmp_path / "e.npz", preset="cvae", latent="conditional(4, 5)", steps=2, out=tmp_path / "other")


def test_the_estimator_takes_labels():
    x, y = digits()
    vae = reparam.ImageVAE(preset="cvae", latent="conditional(4, 10)", steps=3, encoder="mlp", decoder="mlp")
    vae.fit(x[:200], y[:200])
    assert vae.transform(x[:5]).shape == (5, 14)
    for wrong in (None, y[:199], y[:200].astype(float), y[:200] + 1):
        with pytest.raises(UsageError, match="needs y"):
            reparam.ImageVAE(preset="cvae", latent="conditional(4, 10)", steps=1).fit(x[:200], wrong)


def test_classes_named_by_numbers_go_by_their_names():
    from reparam.pretrained.config import Config
    from reparam.pretrained.image_model import ImageModel

    network = model_of("conditional(2, classes=3)")
    recipe = Recipe(latent="conditional(2, classes=3)")
    model = ImageModel(Sampler(network), Config(recipe, IMAGE, classes=("1", "2", "3")))
    for label in (3, "3"):
        np.testing.assert_array_equal(model.sample(4, label=label, seed=0),
                                      ImageModel(Sampler(network), Config(recipe, IMAGE)).sample(4, label=2, seed=0))
