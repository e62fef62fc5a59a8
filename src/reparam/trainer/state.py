"""The state of training: everything that a resumed run needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..objectives.adversaries.base import Adversary
from .guard import Guard
from .side import Side
from .snapshots import Snapshot, begin, fill, held_by, steps_of

M = TypeVar("M", bound=nn.Module)
COUNTED = ("step", "images", "seconds", "cpu_seconds", "progress", "lr_scale", "rollbacks")
"""Numbers of a state that a resumed run continues from."""


@dataclass
class State(Generic[M]):
    """Where training stands after a step."""

    model: M
    """What is trained."""
    ema: M
    """The averaged weights, which everything after training uses."""
    side: Side
    """What trains it."""
    adversary: Adversary | None = None
    critic: Side | None = None
    """What trains the adversary, where there is one."""
    step: int = 0
    images: int = 0
    """Images trained on, counted with repetitions, over all processes."""
    seconds: float = 0.0
    """Time spent in steps, without what the caller does between them."""
    cpu_seconds: float = 0.0
    """Processor time of this process in steps, over all its threads."""
    progress: float = 0.0
    """0 at the start, 1 at the end of the budget."""
    parts: dict[str, float] = field(default_factory=dict[str, float])
    """Batch mean of each term, nats per example."""
    weights: dict[str, float] = field(default_factory=dict[str, float])
    """Adaptive weights, by term, as the next step will use them; none for most objectives."""
    loss: float = float("nan")
    critic_loss: float = float("nan")
    """The critic's; NaN while it does not learn."""
    grad_norm: float = float("nan")
    lr_scale: float = 1.0
    """Halved by every roll-back."""
    rollbacks: int = 0
    event: str = ""
    """What was unusual in this step: that it was skipped, or a roll-back."""

    @property
    def guard(self) -> Guard:
        """The model's."""
        return self.side.guard

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return self.side.groups[0]["lr"]

    def line(self, held_out: str = "") -> str:
        """Step, terms, speed and time left in one line, with figures of held-out images."""
        terms = "  ".join(f"{k} {v:,.1f}" for k, v in self.parts.items())
        left = self.seconds * (1 / self.progress - 1) if self.progress else 0.0
        speed = self.images / self.seconds if self.seconds else 0.0
        critic = f"  critic {self.critic_loss:.2f}" if math.isfinite(self.critic_loss) else ""
        return (f"step {self.step:,}  {terms}{critic} nats{f'  {held_out}' if held_out else ''}  {speed:,.0f} images/s  "
                f"{int(left) // 60}:{int(left) % 60:02d} left")

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that the next steps depend on, as they stand."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self.ema is not self.model:
            tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        if self.adversary is not None and self.critic is not None:
            tensors |= {f"critic.{k}": v for k, v in self.adversary.state_dict().items()}
        tensors |= self.slots()
        tensors["rng.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        return tensors

    def slots(self) -> dict[str, Tensor]:
        """Those of them that are the optimizers'."""
        slots = held_by("optimizer", self.side.optimizer)
        return slots | held_by("critic_optimizer", self.critic.optimizer) if self.critic is not None else slots

    def begin(self) -> None:
        """Gives the optimizers the state that they have after a step, for a saved one to take the place of."""
        for side in (self.side, self.critic):
            if side is not None:
                begin(side.optimizer, side.make)

    def snapshot(self) -> Snapshot:
        """A copy of all that the next steps depend on."""
        numbers: dict[str, Any] = {k: getattr(self, k) for k in COUNTED}
        numbers["weights"], numbers["steps"] = dict(self.weights), steps_of(self.side.optimizer)
        numbers["guard"] = self.guard.to_dict()
        if self.critic is not None:
            numbers["critic_guard"] = self.critic.guard.to_dict()
            numbers["critic_steps"] = steps_of(self.critic.optimizer)
        return {k: v.detach().clone() for k, v in self.tensors().items()}, numbers

    def restore(self, saved: Snapshot, *, weights_only: bool = False) -> None:
        """Returns to a snapshot; with `weights_only`, keeps time and the random state."""
        tensors, numbers = saved
        groups: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            head, _, rest = name.partition(".")
            groups.setdefault(head, {})[rest] = value
        self.model.load_state_dict(groups["model"])
        if self.ema is not self.model:
            self.ema.load_state_dict(groups["ema"])
        fill(self.side.optimizer, groups.get("optimizer", {}), numbers.get("steps", ()))
        if self.adversary is not None and self.critic is not None:
            self.adversary.load_state_dict(groups.get("critic", {}))
            fill(self.critic.optimizer, groups.get("critic_optimizer", {}), numbers.get("critic_steps", ()))
        saved_weights = numbers.get("weights", {})  # a state of an earlier version has none
        self.weights = {k: saved_weights.get(k, v) for k, v in self.weights.items()}
        if weights_only:
            return
        torch.set_rng_state(groups["rng"]["cpu"].cpu())
        if "cuda" in groups["rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(groups["rng"]["cuda"].cpu())
        for k in COUNTED:
            setattr(self, k, numbers[k])
        self.guard.load(numbers["guard"])
        if self.critic is not None:
            self.critic.guard.load(numbers["critic_guard"])
