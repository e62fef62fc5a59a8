"""What the training loop minimizes: an objective's terms with the critic's loss, or the loss of one part."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import forever, last

from reparam.models.priors import Mixture
from reparam.models.space import Space
from reparam.objectives.context import Context
from reparam.objectives.objective import Term, parse_objective
from reparam.objectives.terms import nll
from reparam.parallel import SingleProcess
from reparam.parts.recipe import Recipe
from reparam.trainer.budget import Budget, Optimization
from reparam.trainer.loop import training
from reparam.trainer.tasks import ModelTask, PartTask

PLAIN = Optimization("adam(lr=0.1)", schedule="constant", clip=0, ema=0)


def test_a_part_moves_by_the_gradient_of_its_own_loss():
    prior = Mixture(Space((3,)), 2)
    z = torch.randn(16, 3)
    expected = copy.deepcopy(prior)
    expected.loss(z + 1).mean().backward()
    state = last(training(PartTask(prior, lambda z, y: (z + 1, y)), [z], Budget(1), PLAIN,
                          accelerator=SingleProcess(torch.device("cpu"))))
    assert state.model is prior and list(state.parts) == ["loss"]
    for moved, before in zip(prior.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(moved.grad, before.grad)
        assert not torch.equal(moved, before)


def test_a_part_is_given_the_labels_of_its_batch():
    labels = []
    prior = Mixture(Space((3,)), 2)
    task = PartTask(prior, lambda z, y: (z, labels.append(y)))
    last(training(task, [(torch.randn(4, 3), torch.arange(4))], Budget(2), PLAIN))
    assert [y.tolist() for y in labels] == [[0, 1, 2, 3]] * 2


def test_a_term_reads_progress_and_the_size_of_the_data_set(small, images):
    seen = []

    def of(trace, context):
        seen.append((round(context.progress.item(), 3), context.dataset_size, context.adversarial))
        return trace.log_px.new_zeros(len(trace.x))

    task = ModelTask(small(), nll + Term("reads", of), dataset_size=60)
    last(training(task, forever(images(4, (1, 4, 4))), Budget(4), PLAIN))
    assert seen == [(0.0, 60, None), (0.25, 60, None), (0.5, 60, None), (0.75, 60, None)]


def test_outside_training_a_term_has_an_empty_context(small, images):
    contexts = []
    term = Term("reads", lambda trace, context: contexts.append(context) or trace.log_px.mean(0))
    trace = small()(images(2, (1, 4, 4)))
    term(trace)
    (nll + term)(trace)
    assert contexts == [Context(), Context()] and Context() == Context(None, 0, None)


@pytest.mark.parametrize(("with_critic", "update_model"), [(False, True), (True, False), (True, True)])
def test_a_step_of_one_side_leaves_the_other_out_of_the_losses(with_critic, update_model, images):
    from reparam.models.build import build_model
    from reparam.objectives.adversaries.build import build_adversary

    recipe = Recipe(encoder="mlp(hidden=(8,))", decoder="mlp(hidden=(8,))", latent="flat(2)", adversary="images",
                    critic="mlp(hidden=(8,))", objective="nll + kl + adversarial")
    model = build_model(recipe, (1, 4, 4))
    task = ModelTask(model, parse_objective(recipe.objective), build_adversary(recipe, model, (1, 4, 4)))
    losses = task.losses(images(3, (1, 4, 4)), None, torch.tensor(0.5), with_critic=with_critic, update_critic=with_critic,
                         update_model=update_model)
    assert losses.shape == (4,)
    assert bool(losses[:2].any()) == update_model and bool(losses[3]) == with_critic
    losses.sum().backward()
    assert any(p.grad is not None for p in model.parameters()) == update_model
