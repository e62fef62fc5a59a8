"""What a part promises by its class and its annotations: no method left out, and arguments in their ranges."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest
from torch import nn

import reparam
from reparam.errors import UsageError
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
