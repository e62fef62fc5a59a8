"""What a part promises by its class and its annotations: no method left out, and arguments in their ranges."""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest
from torch import nn

import reparam
from reparam.data.augment import crop
from reparam.errors import UsageError
from reparam.models.priors.mixture import Mixture
from reparam.models.space import Space
from reparam.objectives.terms.elbo import iw_bound
from reparam.objectives.weights import linear
from reparam.parts.call import parse_call
from reparam.parts.ranges import in_range, of_kind
from reparam.parts.registry import ROLES

ROOT = Path(reparam.__file__).parent
WITH_ABSTRACT = [(path, node) for path in sorted(ROOT.rglob("*.py")) for node in ast.walk(ast.parse(path.read_text("utf-8")))
                 if isinstance(node, ast.ClassDef) and any(
                     isinstance(f, ast.FunctionDef) and any(ast.unparse(d) == "abstractmethod" for d in f.decorator_list)
                     for f in node.body)]


def test_the_classes_with_abstract_methods_are_found():
    assert {"Prior", "Posterior", "QuantizedPosterior", "Latents", "Refiner", "VelocityNet", "Likelihood", "Encoder",
            "Decoder", "Penalty", "Adversary"} <= {node.name for _, node in WITH_ABSTRACT}


@pytest.mark.parametrize(("path", "node"), WITH_ABSTRACT, ids=[node.name for _, node in WITH_ABSTRACT])
def test_a_class_that_lacks_a_method_cannot_be_made(path, node):
    module = import_module(".".join(("reparam", *path.relative_to(ROOT).with_suffix("").parts)))
    assert inspect.isabstract(getattr(module, node.name)), f"{node.name} needs ABC beside its base"


def test_a_part_that_makes_something_else_is_refused():
    role = ROLES["decoder"]
    role("a_plain_module")(lambda latent_shape, out_shape: nn.Identity())
    try:
        with pytest.raises(UsageError, match=r"makes a Identity, where a Decoder is needed: derive it from reparam\.nets"):
            role.make("a_plain_module", (2,), (1, 4, 4))
    finally:
        role.registered.pop("a_plain_module")


@pytest.mark.parametrize("role", [r for r in ROLES.values() if r.name not in ("augmentation", "schedule", "metric")],
                         ids=lambda r: r.name)
def test_a_role_knows_the_class_of_its_parts(role):
    assert role.parts
    assert role.base is not None


RANGES = [("prior", "mixture(0)", "mixture(0): n must be at least 1; got 0"),
          ("prior", "spline_flow(bins=65)", "bins must be from 2 to 64; got 65"),
          ("encoder", "mlp((8, 0))", "hidden must be numbers, each at least 1; got (8, 0)"),
          ("encoder", "resnet(patch=-1)", "patch must be at least 0; got -1. 0 chooses it by the image's size"),
          ("likelihood", "gaussian(0)", "sigma must be above 0, or 'learned', 'per_pixel' or 'optimal'; got 0"),
          ("optimizer", "adamw(betas=(0.9, 1.0))", "betas must be 2 numbers, each from 0 to below 1; got (0.9, 1.0). betas"),
          ("optimizer", "adam(betas=(0.9,))", "betas must be 2 numbers"), ("metric", "iw_nll(1, images=0)", "None; got 0")]


@pytest.mark.parametrize(("role", "text", "says"), RANGES, ids=[text for _, text, _ in RANGES])
def test_an_argument_out_of_range_is_named_with_what_is_accepted(role, text, says):
    with pytest.raises(UsageError) as e:
        ROLES[role].check(parse_call(text))
    assert says in str(e.value)


@pytest.mark.parametrize("make", [
    lambda: Mixture(Space((2,)), n=0), lambda: Mixture(Space((2,)), 0), lambda: linear(0, 1, 0.0), lambda: iw_bound(0),
    lambda: crop(0), lambda: replace(linear(0, 1), fraction=2.0)])
def test_ranges_hold_for_parts_made_in_python(make):
    with pytest.raises(UsageError, match=r"\(.*\): (n|fraction|samples|pixels) must be "):
        make()


@pytest.mark.parametrize(("role", "name"), [(role, name) for role in ROLES.values() for name in role.parts])
def test_every_default_lies_in_its_range(role, name):
    part = role.parts[name]
    hints = get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)
    for p in list(inspect.signature(part).parameters.values())[len(role.context):]:
        if p.default is not p.empty:
            assert in_range(p.default, hints.get(p.name)), p
            assert of_kind(p.default, hints.get(p.name)), p


def test_a_part_says_its_ranges():
    assert ROLES["prior"].describe("spline_flow").endswith(
        "\n\nAccepted: transforms from 1 to 64; bins from 2 to 64; hidden at least 2.")


@pytest.mark.parametrize(("role", "name"), [(role, name) for role in ROLES.values() for name in role.parts])
def test_the_first_arguments_of_a_part_are_what_its_role_gives(role, name):
    own = list(inspect.signature(role.parts[name]).parameters)
    assert tuple(own[: len(role.context)]) == role.context
