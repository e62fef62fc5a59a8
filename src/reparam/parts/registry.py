"""Parts by role and name. A part is a class or function registered where it is defined:

    @prior("mixture")
    class Mixture(Prior):
        def __init__(self, space, n=50): ...

The first parameters (here `space`) are what the model's other parts determine; those after them are the user's, given
in a recipe as `mixture(64)`. Parts from outside the package register in the same way, when their
module is imported; an installed package whose entry points in the group `reparam.parts` name its modules needs no import.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ..errors import ReparamError, UsageError, nearest
from .call import Call, parse_call

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Role:
    """A place in a model that parts can fill."""

    name: str
    context: tuple[str, ...] = ()
    """What the rest of the model gives to every part of this role, before the user's own arguments."""
    home: tuple[str, ...] = ()
    """Modules of this package that define parts of this role; imported when the first is asked for."""
    registered: dict[str, Callable[..., Any]] = field(default_factory=dict[str, Callable[..., Any]])

    @property
    def parts(self) -> dict[str, Callable[..., Any]]:
        """Every part by name."""
        for module in self.home:
            import_module(f"reparam.{module}")
        return self.registered

    def __call__(self, name: str) -> Callable[[F], F]:
        """Registers a part under `name`."""

        def register(part: F) -> F:
            if self.registered.get(name, part) is not part:
                raise UsageError(f"the {self.name} {name!r} is registered already")
            self.registered[name] = part
            return part

        return register

    def signature(self, name: str) -> str:
        """How a user writes the part, `mixture(n=50)`."""
        parameters = list(inspect.signature(self.parts[name]).parameters.values())[len(self.context):]
        shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
        return f"{name}({', '.join(shown)})" if shown else name

    def describe(self, name: str) -> str:
        """What the part is, from its docstring."""
        return inspect.getdoc(self.parts[name]) or ""

    def make(self, what: str | Call, *context: Any) -> Any:
        """Builds the part that `what` names from the user's arguments and the model's `context`.

        Raises:
            UsageError: an unknown name (the nearest is suggested and all are listed) or arguments that do not fit.
        """
        call = parse_call(what) if isinstance(what, str) else what
        bound = self.check(call, *context)
        try:
            return self.parts[call.name](*bound.args, **bound.kwargs)
        except ReparamError:
            raise
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as e:
            raise UsageError(f"{call}: {e}. Write it as {self.signature(call.name)}") from e

    def check(self, call: Call, *context: Any) -> inspect.BoundArguments:
        """The arguments of the part that `call` names, in order; raises as `make` does, and builds nothing."""
        if call.name not in self.parts:
            load_outside()
        if call.name not in self.parts:
            known = ", ".join(self.signature(n) for n in self.parts)
            raise UsageError(f"unknown {self.name} {call.name!r}{nearest(call.name, self.parts)}. Known: {known}")
        given = context or (None,) * len(self.context)
        part = self.parts[call.name]
        try:
            bound = inspect.signature(part).bind(*given, *call.args, **call.kwargs)
        except TypeError as e:
            raise UsageError(f"{call}: {e}. Write it as {self.signature(call.name)}") from e
        hints = get_type_hints(part.__init__ if inspect.isclass(part) else part)
        for name, value in bound.arguments.items():
            if name not in self.context and not _fits(value, hints.get(name)):
                raise UsageError(f"{call}: {name}={value!r} is of the wrong kind. "
                                 f"Write it as {self.signature(call.name)}")
        return bound


def _fits(value: Any, hint: Any) -> bool:
    """Whether a literal is what an annotation asks for; a whole number is a float too."""
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(v, get_args(hint)[0]) for v in value)
    if get_args(hint):
        return any(_fits(value, option) for option in get_args(hint))
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def _in(package: str, *modules: str) -> tuple[str, ...]:
    return tuple(f"{package}.{module}" for module in modules)


_NETS = _in("nets", "mlp", "conv", "dcgan", "vit")
encoder = Role("encoder", ("image_shape", "grid"), _NETS)
decoder = Role("decoder", ("latent_shape", "out_shape"), _NETS)
latent = Role("latent", ("image_shape",), _in("models.latents", "flat", "top_down", "labelled"))
posterior = Role("posterior", ("features", "shape"),
                 _in("models.posteriors", "gaussian", "flow", "sphere", "point", "relaxed", "quantized"))
prior = Role("prior", ("space",), _in("models.priors", "normal", "coupling_flow", "mixture", "flows", "vamp", "sphere",
                                      "relaxed", "discrete", "flow_matching"))
velocity = Role("velocity", ("shape", "out_shape", "condition"), _in("nets", "velocity"))
refiner = Role("refiner", ("image_shape",), ("models.refiner",))
likelihood = Role("likelihood", ("image_shape",), ("models.likelihoods",))
term = Role("term", (), _in("objectives.terms", "elbo", "importance", "decomposition", "mmd", "quantized", "regularity",
                            "similarity", "adversarial", "perceptual", "classify"))
adversary = Role("adversary", ("setting",), _in("objectives.adversaries", "critics", "introspective"))
game = Role("game", (), ("objectives.adversaries.games",))
penalty = Role("penalty", (), ("objectives.adversaries.penalties",))
features = Role("features", (), _in("features", "efficientnet", "wavelets"))
weight = Role("weight", (), ("objectives.weights",))
optimizer = Role("optimizer", ("parameters",), ("trainer.optim",))
schedule = Role("schedule", (), ("trainer.optim",))
augmentation = Role("augmentation", (), ("data.augment",))
metric = Role("metric", ("evaluation",), _in("metrics", "likelihood", "reconstructions", "latents", "latent_geometry",
                                                "codebook", "samples", "class_balance", "factors", "training_cost"))

ROLES: dict[str, Role] = {role.name: role for role in (
    encoder, decoder, latent, posterior, prior, velocity, refiner, likelihood, term, weight, adversary, game, penalty,
    features, optimizer, schedule, augmentation, metric)}

GROUP = "reparam.parts"
"""Entry points of installed packages: each names a module that registers parts."""


def outside_packages() -> list[str]:
    """The installed packages that say that they hold parts."""
    return sorted({_package(point) for point in entry_points(group=GROUP)})


@cache
def load_outside() -> None:
    """Imports, once, what installed packages name as their parts; one that fails is warned of and left out."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as e:  # whatever an import can raise
            warnings.warn(f"the parts of the package {_package(point)} cannot be used: {point.value} fails with "
                          f"{type(e).__name__}: {e}", stacklevel=2)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.name
