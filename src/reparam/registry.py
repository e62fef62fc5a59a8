"""Parts by role and name. A part is a class or function registered where it is defined:

    @prior("mixture")
    class Mixture(nn.Module):
        def __init__(self, shape, n=50): ...

The first parameters (here `shape`) are what the model's other parts determine; those after them are the user's, given
in a recipe as `mixture(64)`. Parts from outside the package register in the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .errors import UsageError, nearest
from .recipe import Call, parse_call

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Role:
    """A place in a model that parts can fill."""

    name: str
    context: tuple[str, ...] = ()
    """What the rest of the model gives to every part of this role, before the user's own arguments."""
    parts: dict[str, Callable[..., Any]] = field(default_factory=dict[str, Callable[..., Any]])

    def __call__(self, name: str) -> Callable[[F], F]:
        """Registers a part under `name`."""

        def register(part: F) -> F:
            if self.parts.get(name, part) is not part:
                raise UsageError(f"the {self.name} {name!r} is registered already")
            self.parts[name] = part
            return part

        return register

    def signature(self, name: str) -> str:
        """How a user writes the part, `mixture(n=50)`."""
        parameters = list(inspect.signature(self.parts[name]).parameters.values())[len(self.context):]
        shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
        return f"{name}({', '.join(shown)})" if shown else name

    def describe(self, name: str) -> str:
        """What the part is, from its docstring or its class's."""
        part = self.parts[name]
        return inspect.getdoc(part) or ""

    def make(self, what: str | Call, *context: Any) -> Any:
        """Builds the part that `what` names from the user's arguments and the model's `context`.

        Raises:
            UsageError: an unknown name (the nearest is suggested and all are listed) or arguments that do not fit.
        """
        call = parse_call(what) if isinstance(what, str) else what
        bound = self.check(call, *context)
        return self.parts[call.name](*bound.args, **bound.kwargs)

    def check(self, call: Call, *context: Any) -> inspect.BoundArguments:
        """The arguments of the part that `call` names, in order; raises as `make` does, and builds nothing."""
        if call.name not in self.parts:
            known = ", ".join(self.signature(n) for n in self.parts)
            raise UsageError(f"unknown {self.name} {call.name!r}{nearest(call.name, self.parts)}. Known: {known}")
        given = context or (None,) * len(self.context)
        try:
            return inspect.signature(self.parts[call.name]).bind(*given, *call.args, **call.kwargs)
        except TypeError as e:
            raise UsageError(f"{call}: {e}. Write it as {self.signature(call.name)}") from e


encoder = Role("encoder", ("image_shape", "grid"))
decoder = Role("decoder", ("latent_shape", "out_shape"))
latent = Role("latent", ("image_shape",))
posterior = Role("posterior", ("features", "shape"))
prior = Role("prior", ("shape",))
likelihood = Role("likelihood", ("image_shape",))
term = Role("term")
weight = Role("weight schedule")
optimizer = Role("optimizer", ("parameters",))
schedule = Role("schedule")
augmentation = Role("augmentation")

ROLES: dict[str, Role] = {
    "encoder": encoder, "decoder": decoder, "latent": latent, "posterior": posterior, "prior": prior,
    "likelihood": likelihood, "term": term, "weight": weight, "optimizer": optimizer, "schedule": schedule,
    "augmentation": augmentation,
}
