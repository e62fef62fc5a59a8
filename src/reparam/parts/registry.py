"""Parts by role and name. A part is a class or function registered where it is defined:

    @prior("mixture")
    class Mixture(Prior):
        def __init__(self, space, n: Annotated[int, at_least(1)] = 50): ...

The first parameters (here `space`) are what the model's other parts determine; those after them are the user's, given
in a recipe as `mixture(64)`. Their ranges (`parts/ranges.py`) hold however a part is made, by name or in Python. Parts from
outside the package register in the same way, when their module is imported; an installed package whose entry points in the
group `reparam.parts` name its modules needs no import.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, wraps
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast, get_type_hints

from ..errors import ReparamError, UsageError, nearest
from .call import Call, parse_call
from .ranges import accepted, advice_of, in_range, of_kind

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Other = TypeVar("Other")


@dataclass(eq=False)
class Role(Generic[T]):
    """A place in a model that parts can fill, each of which makes a T.

    T is known where its class is: `PRIORS = registry.prior.of(Prior)` in `models/priors/base.py`, and so on.
    """

    name: str
    context: tuple[str, ...] = ()
    """What the rest of the model gives to every part of this role, before the user's own arguments."""
    home: tuple[str, ...] = ()
    """Modules of this package that define parts of this role; imported when the first is asked for."""
    registered: dict[str, Callable[..., Any]] = field(default_factory=dict[str, Callable[..., Any]])
    base: type[T] | None = None
    """The class of what a part makes, where that is one class."""

    def of(self, base: type[Other]) -> Role[Other]:
        """This role, whose parts all make instances of `base`."""
        self.base = cast(Any, base)
        return cast(Any, self)

    @property
    def parts(self) -> dict[str, Callable[..., Any]]:
        """Every part by name."""
        for module in self.home:
            import_module(f"reparam.{module}")
        return self.registered

    @property
    def classes(self) -> dict[str, type[T]]:
        """Those parts that are classes derived from the role's own."""
        return {name: part for name, part in self.parts.items()
                if self.base is not None and inspect.isclass(part) and issubclass(part, self.base)}

    def __call__(self, name: str) -> Callable[[F], F]:
        """Registers a part under `name`; from then on its ranges are checked whenever it is made."""

        def register(part: F) -> F:
            known = self.registered.get(name, part)
            if inspect.unwrap(known) is not inspect.unwrap(part):
                raise UsageError(f"the {self.name} {name!r} is registered already")
            checked = self._checked(name, part)
            self.registered[name] = checked
            return checked

        return register

    def _checked(self, name: str, part: F) -> F:
        """The class or function, with its arguments checked when it is called."""
        made_by: Callable[..., Any] = part.__init__ if inspect.isclass(part) else part

        @wraps(made_by)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                given = inspect.signature(made_by).bind(*args, **kwargs).arguments
            except TypeError:  # Python says it when the part is called
                given = {}
            own = {k: v for k, v in given.items() if k not in self.context and k != "self"}
            _check_ranges(Call(name, kwargs=own), own, made_by)
            return made_by(*args, **kwargs)

        if inspect.isclass(part):
            setattr(part, "__init__", checked)  # noqa: B010  (to a checker of types it is final)
            return cast(F, part)
        return cast(F, checked)

    def signature(self, name: str) -> str:
        """How a user writes the part, `mixture(n=50)`."""
        shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in self._own(name)]
        return f"{name}({', '.join(shown)})" if shown else name

    def _own(self, name: str) -> list[inspect.Parameter]:
        """The parameters that are the user's."""
        return list(inspect.signature(self.parts[name]).parameters.values())[len(self.context):]

    def describe(self, name: str) -> str:
        """What the part is, from its docstring, and the ranges of its arguments."""
        hints = _hints(self.parts[name])
        ranges = [f"{p.name} {said}" for p in self._own(name) if (said := accepted(hints.get(p.name)))]
        about = inspect.getdoc(self.parts[name]) or ""
        return f"{about}\n\nAccepted: {'; '.join(ranges)}." if ranges else about

    def make(self, what: str | Call, *context: Any) -> T:
        """Builds the part that `what` names from the user's arguments and the model's `context`.

        Raises:
            UsageError: an unknown name (the nearest is suggested and all are listed) or arguments that do not fit.
        """
        call = parse_call(what) if isinstance(what, str) else what
        bound = self.check(call, *context)
        try:
            made = self.parts[call.name](*bound.args, **bound.kwargs)
        except ReparamError:
            raise
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as e:
            raise UsageError(f"{call}: {e}. Write it as {self.signature(call.name)}") from e
        if self.base is not None and not isinstance(made, self.base):
            raise UsageError(f"the {self.name} {call.name!r} makes a {type(made).__name__}, where a {self.base.__name__} is "
                             f"needed: derive it from {self.base.__module__}.{self.base.__name__}")
        return made

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
        hints = _hints(part)
        own = {k: v for k, v in bound.arguments.items() if k not in self.context}
        for name, value in own.items():
            if not of_kind(value, hints.get(name)):
                raise UsageError(f"{call}: {name}={value!r} is of the wrong kind. "
                                 f"Write it as {self.signature(call.name)}")
        _check_ranges(call, own, part)
        return bound


def _hints(part: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what makes a part, ranges included."""
    return get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)


def _check_ranges(call: Call, arguments: dict[str, Any], part: Callable[..., Any]) -> None:
    """Refuses an argument outside the range that its annotation names."""
    hints = _hints(part) if arguments else {}
    for name, value in arguments.items():
        hint = hints.get(name)
        if not in_range(value, hint):
            advice, finite = advice_of(hint), isinstance(value, float) and not math.isfinite(value)
            raise UsageError(f"{call}: {name} must be {accepted(hint)}{', and finite' if finite else ''}; got {value!r}"
                             f"{advice and f'. {advice}'}")


def _in(package: str, *modules: str) -> tuple[str, ...]:
    return tuple(f"{package}.{module}" for module in modules)


_NETS = _in("nets", "mlp", "conv", "deep", "dcgan", "fastgan", "r3gan", "vit")
encoder = Role[Any]("encoder", ("image_shape", "grid"), _NETS)
decoder = Role[Any]("decoder", ("latent_shape", "out_shape"), _NETS)
latent = Role[Any]("latent", ("image_shape",), _in("models.latents", "flat", "top_down", "labelled"))
posterior = Role[Any]("posterior", ("features", "shape"),
                      _in("models.posteriors", "gaussian", "flow", "planar", "hamiltonian", "adaptive", "sphere",
                          "hyperbolic", "point", "relaxed", "quantized"))
prior = Role[Any]("prior", ("space",), _in("models.priors", "normal", "coupling_flow", "mixture", "flows", "vamp", "sphere",
                                           "relaxed", "discrete", "flow_matching", "two_stage", "riemannian"))
velocity = Role[Any]("velocity", ("shape", "out_shape", "condition"), _in("nets", "velocity"))
refiner = Role[Any]("refiner", ("image_shape",), ("models.refiner",))
likelihood = Role[Any]("likelihood", ("image_shape",), ("models.likelihoods",))
term = Role[Any]("term", (), _in("objectives.terms", "elbo", "importance", "decomposition", "mmd", "quantized", "regularity",
                                 "similarity", "adversarial", "perceptual", "classify"))
adversary = Role[Any]("adversary", ("inputs",), _in("objectives.adversaries", "critics", "introspective"))
game = Role[Any]("game", (), ("objectives.adversaries.games",))
penalty = Role[Any]("penalty", (), ("objectives.adversaries.penalties",))
features = Role[Any]("features", (), _in("features", "efficientnet", "wavelets"))
weight = Role[Any]("weight", (), ("objectives.weights",))
optimizer = Role[Any]("optimizer", ("parameters",), ("trainer.optim",))
schedule = Role[Any]("schedule", (), ("trainer.optim",))
augmentation = Role[Any]("augmentation", (), ("data.augment",))
metric = Role[Any]("metric", ("evaluation",), _in("metrics", "likelihood", "reconstructions", "latents", "latent_geometry",
                                                  "codebook", "samples", "class_balance", "factors", "training_cost"))

ROLES: dict[str, Role[Any]] = {role.name: role for role in (
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
