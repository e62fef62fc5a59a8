"""The training loop, as a generator that yields its state after every step.

    for state in training(ModelTask(model, objective), batches, Budget(steps=1000)):
        print(state.step, state.loss)

Logging, saving, evaluating and stopping are the caller's own `for`. Accelerate chooses devices and joins processes; the
step itself is plain PyTorch, since wrappers cost a small model more than its arithmetic. Nothing here reads the disk.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..errors import ModelFileError, TrainingDiverged, UsageError
from ..objectives.adversaries.base import Adversary
from ..parallel import Processes
from ..parts import registry
from .budget import Budget, Optimization
from .guard import Guard, StepDecision
from .snapshots import MAX_ROLLBACKS, Snapshot, check_snapshot, parameters_of, slots_of
from .state import CriticState, State
from .tasks import Task

EMA_EVERY = 8
"""Steps between updates of the averaged weights: memory traffic is what an update costs."""
SNAPSHOT_EVERY = 100
"""Steps between the states that a roll-back can return to."""
M = TypeVar("M", bound=nn.Module)


def training(task: Task[M], batches: Iterable[Any], budget: Budget, optimization: Optimization = Optimization(), *,
             accelerator: Processes | None = None, resume: Snapshot | None = None) -> Iterator[State[M]]:
    """Trains the module of a task on batches; yields the state after every step.

    A batch is a tensor of images (B, C, H, W), uint8 or floats in [0, 1], or a tuple or list of these and labels (B,): what
    a DataLoader gives. Batches that can be iterated again are; an iterator that ends before the budget ends training, with
    a warning. A resumed run that has reached its end already is yielded once as it is. Several processes average their
    gradients. An adversary learns in the same steps and on the same schedule, from shortly before a loss first uses it.

    Args:
        task: what is minimized: `ModelTask(model, objective)`.
        batches: as above.
        budget: how long.
        optimization: how it steps.
        accelerator: devices and other processes; by default an `Accelerator()`.
        resume: a state's `snapshot()`: continues that run, with batches that start at its step, bit for bit on a CPU when
            the budget is in steps.

    Raises:
        TrainingDiverged: losses or gradients stayed non-finite through every roll-back.
        UsageError: no budget, an unknown optimizer or schedule, `compile` with an adversary, no batches, or a first one that
            is no images of the model's shape in [0, 1].
    """
    if optimization.compile and task.adversary is not None:
        raise UsageError("compile=True does not go with an adversary, whose penalties differentiate twice: leave it out")
    budget.check()
    processes = accelerator or Accelerator()
    state = _begin(task, optimization, processes)
    if resume is not None:
        _restore(state, resume, optimization)
    loop = _Loop(task, state, processes, budget, optimization)
    state.progress = budget.progress(state.step, state.seconds)
    if state.progress >= 1:
        yield state
    iterator = task.batches(batches, processes.device)
    while state.progress < 1:
        began, computed = budget.clock(), time.process_time()
        batch = next(iterator, None)
        if batch is None:
            warnings.warn(f"the batches ended after {state.step} steps, at {state.progress:.0%} of training, before the "
                          "learning rate's schedule did: an iterator can be gone through once. Give what can be gone "
                          "through again, such as a DataLoader or a list, or fewer steps", stacklevel=2)
            return
        loop.step(*batch)
        state.seconds += budget.clock() - began
        state.cpu_seconds += time.process_time() - computed
        state.progress = budget.progress(state.step, state.seconds)
        yield state


def _begin(task: Task[M], optimization: Optimization, processes: Processes) -> State[M]:
    """The state before the first step."""
    module = task.module
    _place(module, processes)
    averaged = copy.deepcopy(module).requires_grad_(False) if optimization.ema else module
    trained = [p for p in module.parameters() if p.requires_grad]
    return State(module, averaged, registry.optimizer.make(optimization.optimizer, trained), Guard(clip=optimization.clip),
                 _critic_state(task.adversary, optimization, processes), weights=task.initial_weights)


def _critic_state(adversary: Adversary | None, optimization: Optimization, processes: Processes) -> CriticState | None:
    if adversary is None:
        return None
    _place(adversary, processes)
    own = list(adversary.parameters())
    optimizer = registry.optimizer.make(optimization.critic_optimizer, own) if own else None
    return CriticState(adversary, optimizer, Guard(clip=optimization.clip))


def _place(module: nn.Module, processes: Processes) -> None:
    module.to(processes.device)
    if any(isinstance(m, nn.Conv2d) for m in module.modules()):
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _restore(state: State[M], saved: Snapshot, optimization: Optimization) -> None:
    """Continues from a snapshot, which is checked before anything is copied: optimizers do not look at shapes.

    Raises:
        ModelFileError: it does not fit.
    """
    critic = state.critic.optimizer if state.critic is not None else None
    try:
        slots = slots_of("optimizer", state.optimizer, lambda p: registry.optimizer.make(optimization.optimizer, p)) | \
            slots_of("critic_optimizer", critic, lambda p: registry.optimizer.make(optimization.critic_optimizer, p))
        check_snapshot(saved, state.tensors(), slots)
        state.restore(saved)
    except (KeyError, RuntimeError, ValueError) as e:
        raise ModelFileError(f"the saved state does not fit this model ({e}); remove the run's state folder to start "
                             "it again from its beginning") from e


class _Turn(NamedTuple):
    """Which side learns in a step."""

    critic: CriticState | None
    """None before it begins to learn, and where there is none."""
    update_model: bool


class _Loop(Generic[M]):
    """One run's step, with what it needs at hand."""

    def __init__(self, task: Task[M], state: State[M], processes: Processes, budget: Budget, optimization: Optimization
                 ) -> None:
        self.task, self.state, self.processes = task, state, processes
        self.schedule = registry.schedule.make(optimization.schedule)
        self.ema, self.accumulate, self.bf16 = optimization.ema, optimization.accumulate, budget.precision == "bf16"
        critic = state.critic.optimizer if state.critic is not None else None
        self.optimizers = [o for o in (state.optimizer, critic) if o is not None]
        self.trained, self.critic_trained = parameters_of(state.optimizer), parameters_of(critic)
        self.peaks = [float(group["lr"]) for group in self._groups()]
        self.pairs = _ema_pairs(state)
        self.good: deque[Snapshot] = deque([state.snapshot()], maxlen=2)
        self.losses_of = torch.compile(self._losses, fullgraph=True) if optimization.compile else self._losses

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _losses(self, x: Tensor, y: Tensor | None, progress: Tensor, with_critic: bool, update_model: bool) -> Tensor:
        """Batch means of the losses, and the critic's loss, (losses + 1,)."""
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.bf16):
            return self.task.losses(x, y, progress, with_critic=with_critic, update_model=update_model)

    def step(self, x: Tensor, y: Tensor | None) -> None:
        state = self.state
        state.event = ""
        if not state.model.training:
            state.model.train()
        for group, peak in zip(self._groups(), self.peaks, strict=True):
            group["lr"] = peak * self.schedule(state.progress) * state.lr_scale
        turn = self._turn()
        losses = self._backward(x, y, turn)
        gradients = [[p.grad for p in each if p.grad is not None] for each in (self.trained, self.critic_trained)]
        norms = [_norm(g, like=losses) for g in gradients]
        decisions = self._judge(torch.cat([losses, *norms]).tolist(), turn)
        self._update(gradients, decisions, turn)
        state.step += 1
        state.images += len(x) * self.processes.num_processes
        self._conclude(decisions)

    def _turn(self) -> _Turn:
        """The critic learns from `warmup` before a loss first uses it; the model, in one of so many steps of the critic."""
        state, critic = self.state, self.state.critic
        if critic is not None:
            soon = min(state.progress + critic.adversary.game.warmup, 1.0)
            critic = critic if self.task.uses_critic(state.progress) or self.task.uses_critic(soon) else None
        return _Turn(critic, critic is None or critic.optimizer is None or state.step % critic.adversary.game.steps == 0)

    def _judge(self, numbers: list[float], turn: _Turn) -> list[StepDecision]:
        """Writes a step's losses and norms into the state; what the guards make of them, model first."""
        state, names = self.state, self.task.names
        *values, critic_loss, norm, critic_norm = numbers
        state.critic_loss = critic_loss if turn.critic is not None else math.nan
        decisions: list[StepDecision] = []
        if turn.update_model:
            state.grad_norm = norm
            state.parts = dict(zip(names, values, strict=True))
            state.loss = sum(w * v for w, v in zip(self._weights(), values, strict=True))
            decreasing_loss = state.loss if turn.critic is None else math.nan  # a game's loss need not decrease
            decisions.append(state.guard.judge(names, values, norm, decreasing_loss))
        if turn.critic is not None:
            decisions.append(turn.critic.guard.judge(["critic"], [critic_loss], critic_norm))
        return decisions

    def _update(self, gradients: list[list[Tensor]], decisions: list[StepDecision], turn: _Turn) -> None:
        """Steps the optimizers of the sides that have gradients; none of them where one side skips the step."""
        skipped = next((d for d in decisions if not d.scale), None)
        if skipped is not None:
            self.state.event = f"step skipped: {skipped.reason}"
            return
        first = 0 if turn.update_model else 1
        moved = [g for g in gradients[first:] if g]
        for optimizer, own, decision in zip(self.optimizers[first:], moved, decisions, strict=False):
            if decision.scale < 1:
                torch._foreach_mul_(own, decision.scale)  # pyright: ignore
            optimizer.step()
        if turn.update_model:
            self.state.weights = self.task.updated(self.state.weights, self.state.parts)

    def _weights(self) -> list[float]:
        """Of the losses, in this step."""
        return self.task.weights(self.state.progress, self.state.weights)

    def _backward(self, x: Tensor, y: Tensor | None, turn: _Turn) -> Tensor:
        """Accumulates the gradients of the weighted losses and of the critic's; returns their means, (losses + 1,)."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        device = self.processes.device
        weights = torch.tensor([*self._weights(), 1.0], device=device)
        total = torch.zeros_like(weights)
        progress = torch.tensor(self.state.progress, device=device)
        size = self.task.together * -(-len(x) // (self.task.together * self.accumulate))
        labels = y.split(size) if y is not None else [None] * self.accumulate
        pieces = [*zip(x.split(size), labels, strict=False)]
        with self.task.one_batch(pieces if turn.update_model else [], self.processes, self.bf16):
            for piece, piece_labels in pieces:
                losses = self.losses_of(piece, piece_labels, progress, turn.critic is not None, turn.update_model)
                losses = losses * (len(piece) / len(x))
                (losses * weights).sum().backward()
                total += losses.detach()
        return self._average(total) if self.processes.num_processes > 1 else total

    def _average(self, losses: Tensor) -> Tensor:
        """Means of gradients, losses and elapsed time over the processes, in one exchange."""
        everyone = self.trained + self.critic_trained
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in everyone]
        seconds = losses.new_tensor([self.state.seconds])
        vector: Any = self.processes.reduce(torch.cat([g.flatten() for g in gradients] + [losses, seconds]), "mean")
        offset = 0
        for p, g in zip(everyone, gradients, strict=True):
            p.grad = torch.empty_like(p).copy_(vector[offset : offset + g.numel()].view_as(g))
            offset += g.numel()
        self.state.seconds = float(vector[-1])
        return vector[offset:-1]

    def _conclude(self, decisions: list[StepDecision]) -> None:
        """Rolls back or takes a snapshot where it is time, and moves the averaged weights."""
        state = self.state
        failed = next((d for d in decisions if d.roll_back), None)
        if failed is not None:
            self._roll_back(failed.reason)
        elif state.step % SNAPSHOT_EVERY == 0 and all(d.scale for d in decisions):
            self.good.append(state.snapshot())
        if self.pairs and state.step % EMA_EVERY == 0:
            decay = min(self.ema, (1 + state.step) / (10 + state.step)) ** EMA_EVERY
            averaged, current = self.pairs
            torch._foreach_lerp_(averaged, current, 1 - decay)  # pyright: ignore

    def _roll_back(self, reason: str) -> None:
        state = self.state
        state.rollbacks += 1
        if state.rollbacks > MAX_ROLLBACKS:
            raise TrainingDiverged(
                f"training diverged at step {state.step}: {reason}, still after {MAX_ROLLBACKS} returns to an earlier "
                f"state and a learning rate {1 / state.lr_scale:.0f} times lower. Lower it further, or try another "
                "likelihood or a smaller network")
        state.restore(self.good[0], weights_only=True)
        state.lr_scale /= 2
        state.event = (f"rolled back to step {self.good[0][1]['step']} at half the learning rate: {reason} for "
                       f"{state.guard.patience} steps in a row")


def _norm(gradients: list[Tensor], like: Tensor) -> Tensor:
    """Norm of all gradients together, (1,)."""
    if not gradients:
        return like.new_zeros(1)
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))[None]  # pyright: ignore


def _ema_pairs(state: State[M]) -> tuple[list[Tensor], list[Tensor]] | None:
    """Floating-point tensors of the average and of the model, in the same order."""
    if state.ema is state.model:
        return None
    averaged, current = state.ema.state_dict(), state.model.state_dict()
    names = [k for k, v in current.items() if v.is_floating_point()]
    return [averaged[k] for k in names], [current[k] for k in names]
