"""Batches as people have them: what the training loop reads, what it refuses and in which words, and how often it asks."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import last, training
from torch.utils.data import DataLoader, TensorDataset

from reparam.errors import UsageError
from reparam.objectives.objective import parse_objective
from reparam.trainer import batches
from reparam.trainer.batches import image_shape_of, read_images

ELBO = parse_objective("nll + kl")
SHAPE = (3, 4, 5)
CPU = torch.device("cpu")
CLASSED = {"latent": "conditional(4, 3)"}


@pytest.fixture
def levels():
    return torch.randint(0, 256, (12, *SHAPE), generator=torch.Generator().manual_seed(0)).byte()


def trained(model, given, steps=3):
    """Weights after a few steps from the same start and noise."""
    torch.manual_seed(5)
    model = copy.deepcopy(model)
    state = last(training(model, ELBO, given, steps=steps, optimizer="adam(lr=0.01)"))
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


def loader(*arrays):
    """With random numbers of its own, which leaves the others alone."""
    return DataLoader(TensorDataset(*arrays), 12, generator=torch.Generator())


def test_the_ways_to_hold_images_train_alike(small, levels):
    model, x, y = small(SHAPE), levels.float() / 255, torch.arange(12)
    expected = trained(model, [x, x])
    for given in ([levels], [(x,)], [[x]], [(x, y)], [[levels, y]], [x.double()], [(x, ["name"] * 12)], iter([x] * 3),
                  (b for b in [x] * 3), loader(x), loader(levels, y)):
        torch.testing.assert_close(trained(model, given), expected)
    black = x > 0.5
    torch.testing.assert_close(trained(model, [black]), trained(model, [black.float()]))


def test_a_loader_is_gone_through_again(small, levels):
    loader = DataLoader(TensorDataset(levels), 5, shuffle=True)
    states = [(s.step, s.images) for s in training(small(SHAPE), ELBO, loader, steps=7, optimizer="adam(lr=0.01)")]
    assert states == [(1, 5), (2, 10), (3, 12), (4, 17), (5, 22), (6, 24), (7, 29)]


def test_an_iterator_that_ends_early_ends_training_in_words(small, levels):
    with pytest.warns(UserWarning, match="ended after 2 steps, at 20% of training"):
        assert last(training(small(SHAPE), ELBO, iter([levels] * 2), steps=10)).step == 2

    class Once:
        """Gives another iterator when asked again, and that one has nothing left."""

        left = iter([levels] * 2)

        def __iter__(self):
            return (x for x in self.left)

    with pytest.warns(UserWarning, match="ended after 2 steps"):
        assert last(training(small(SHAPE), ELBO, Once(), steps=10)).step == 2
    for nothing in ([], iter([])):
        with pytest.raises(UsageError, match="no batch came"):
            last(training(small(SHAPE), ELBO, nothing, steps=10))


def test_labels_reach_a_model_that_knows_classes_and_no_other(small, levels):
    y = torch.arange(12) % 3 - 1
    got = next(read_images([(levels, y)], small(SHAPE, **CLASSED), CPU))
    assert torch.equal(got[1], y) and got[0].dtype == torch.float32
    assert next(read_images([(levels, y)], small(SHAPE), CPU))[1] is None
    assert next(read_images([levels], small(SHAPE, **CLASSED), CPU))[1] is None


@pytest.mark.parametrize(("given", "told"), [
    (lambda x: {"image": x, "label": 1}, r"a dict with the keys 'image', 'label'.*for b in loader"),
    (lambda x: x.numpy(), r"a ndarray.*uint8 or floats in \[0, 1\].*torch.as_tensor"),
    (lambda x: [x, x, x], r"a list of 3 \(Tensor, Tensor, Tensor\)"),
    (lambda x: list(x), r"a list of 12"),
    (lambda x: [x.numpy()], r"a list of 1 \(ndarray\)"),
    (lambda x: x.float(), r"got float32 from 0 to 255: divide by 255, or pass uint8"),
    (lambda x: x.float() / 127.5 - 1, r"from -1 to 1: bring them there, such as \(x \+ 1\) / 2"),
    (lambda x: x.long(), r"whole numbers of type int64, from 0 to 255, have no range"),
    (lambda x: x[:, :1], r"of shape \(1, 4, 5\), but the model is for \(3, 4, 5\).*build_model\(recipe, \(1, 4, 5\)\)"),
    (lambda x: x.permute(0, 2, 3, 1), r"channels come first: x.permute\(0, 3, 1, 2\)"),
    (lambda x: x[..., :4], r"of shape \(3, 4, 4\), but"),
    (lambda x: x.flatten(1), r"shape \(12, 60\): images are \(B, C, H, W\), here \(B, 3, 4, 5\)"),
    (lambda x: x[:0], r"at least one"),
    (lambda x: x.float() / 0, r"NaN or infinity"),
], ids=["dict", "numpy", "three", "images", "list of numpy", "0 to 255", "-1 to 1", "int64", "grey", "last", "size", "flat",
        "empty", "nan"])
def test_what_is_no_batch_is_told(given, told, small, levels):
    batch = given(levels)
    with pytest.raises(UsageError, match=told):
        last(training(small(SHAPE), ELBO, [batch], steps=2))


@pytest.mark.parametrize("y", [torch.arange(12), torch.full((12,), -2), torch.zeros(12), torch.zeros(12, 3).long(),
                               torch.zeros(11).long(), ["cat"] * 12],
                         ids=["beyond", "below", "float", "one-hot", "few", "words"])
def test_what_are_no_labels_is_told(y, small, levels):
    with pytest.raises(UsageError, match=r"has 3 classes, so labels are \(12,\) whole numbers from 0 to 2, or -1"):
        last(training(small(SHAPE, **CLASSED), ELBO, [(levels, y)], steps=2))


@pytest.mark.parametrize("changes", [
    {}, {"encoder": "none", "latent": "spatial(2, 2)"}, CLASSED, {"posterior": "vq(8, dim=2)", "prior": "uniform"},
    {"encoder": "resnet(width=8)", "decoder": "dcgan(8)"}, {"likelihood": "logistic(2)"},
    {"latent": "top_down(3, (1, 2), 2, 8, 2)", "encoder": "resnet(width=8, patch=2)", "decoder": "resnet(width=8, patch=1)"},
], ids=str)
def test_a_model_says_what_images_it_is_for_and_stays_as_it_was(changes, small):
    model = small((3, 8, 12), **changes)
    model.decoder.eval()
    modes, state, noise = [m.training for m in model.modules()], copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert image_shape_of(model, CPU) == (3, 8, 12)
    assert [m.training for m in model.modules()] == modes and torch.equal(torch.get_rng_state(), noise)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_the_first_batch_alone_is_looked_at(small, levels, monkeypatch):
    looks = []
    monkeypatch.setattr(batches, "image_shape_of", lambda *given: looks.append(1) or SHAPE)
    last(training(small(SHAPE), ELBO, [levels], steps=5))
    assert len(looks) == 1
