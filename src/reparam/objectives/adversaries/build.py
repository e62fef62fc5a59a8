"""From a recipe to its adversary."""

from __future__ import annotations

from ...data.augment import parse_augmentation
from ...models.vae import Model
from ...parts.call import parse_call
from ...parts.recipe import Recipe
from ...tensors import Shape
from .base import ADVERSARIES, Adversary, AdversaryInputs
from .games import GAMES
from .penalties import parse_penalties


def build_adversary(recipe: Recipe, model: Model, image_shape: Shape) -> Adversary | None:
    """The adversary of a recipe, or None.

    Raises:
        UsageError: an unknown part, or a game that does not fit the model.
    """
    call = parse_call(recipe.adversary)
    if call.name == "none":
        return None
    game = GAMES.make(recipe.game)
    inputs = AdversaryInputs(model, image_shape, recipe.critic, game, tuple(parse_penalties(recipe.penalty)),
                             parse_augmentation(recipe.critic_augment, for_critic=True))
    return ADVERSARIES.make(call, inputs)
