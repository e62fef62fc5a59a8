"""The training loop, as a generator that yields its state after every step.

    for state in training(ModelTask(model, objective), batches, Budget(steps=1000)):
        print(state.step, state.loss)

Logging, saving, evaluating and stopping are the caller's own `for`. Accelerate chooses devices and joins processes; the
step itself is plain PyTorch, since wrappers cost a small model more than its arithmetic. Nothing here reads the disk.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ModelFileError, TrainingDiverged, UsageError
from ..parallel import Processes, agree_with_first, drawing_apart, in_company, join
from ..parts import registry
from ..tensors import forked_rng, on_device
from .budget import Budget, Optimization
from .compiling import compiled, plainly
from .exchange import Exchange
from .flat import Flat
from .guard import Limits, StepDecision
from .profile import Phase, unnamed
from .side import Side, judge
from .snapshots import MAX_ROLLBACKS, Snapshot, check_snapshot
from .state import State
from .tasks import Task

EMA_EVERY = 8
"""Steps between updates of the averaged weights: memory traffic is what an update costs."""
LATE = {"cuda": 8}
"""Steps after which the host reads a step's losses and norms, where it need not wait for the device until then."""
SNAPSHOT_EVERY = 100
"""Steps between the states that a roll-back can return to."""
M = TypeVar("M", bound=nn.Module)


def training(task: Task[M], batches: Iterable[Any], budget: Budget, optimization: Optimization = Optimization(), *,
             accelerator: Processes | None = None, resume: Snapshot | None = None, phase: Phase = unnamed
             ) -> Iterator[State[M]]:
    """Trains the module of a task on batches; yields the state after every step.

    A batch is a tensor of images (B, C, H, W), uint8 or floats in [0, 1], or a tuple or list of these and labels (B,): what
    a DataLoader gives. Batches that can be iterated again are; an iterator that ends before the budget ends training, with
    a warning. A resumed run that has reached its end already is yielded once as it is. Several processes, each with batches
    of one size, train as one would with all of them. An adversary learns in the same steps and on the same schedule, from
    shortly before a loss first uses it.

    Args:
        task: what is minimized: `ModelTask(model, objective)`.
        batches: as above.
        budget: how long.
        optimization: how it steps.
        accelerator: devices and other processes; by default those that torchrun has started.
        resume: a state's `snapshot()`: continues that run, with batches that start at its step, bit for bit on a CPU when
            the budget is in steps.
        phase: is told what each region of a step does, such as `Profile.phase`.

    Raises:
        TrainingDiverged: losses or gradients stayed non-finite through every roll-back.
        UsageError: no budget, an unknown optimizer or schedule, no batches, or a first one that is no images of the
            model's shape in [0, 1]; or a step that cannot be compiled, where the budget asks for that.
    """
    budget.check()
    processes = accelerator or join()
    state = _begin(task, optimization, processes)
    if resume is not None:
        _restore(state, resume)
    task.phase = phase
    loop = _Loop(task, state, processes, budget, optimization)
    state.progress = budget.progress(state.step, state.seconds)
    if state.progress >= 1:
        yield state
    iterator = task.batches(batches, processes.device)
    while state.progress < 1:
        began, computed = budget.clock(), time.process_time()
        with drawing_apart(processes), plainly(budget.compile):
            with phase("data"):
                batch = next(iterator, None)
            if batch is None:
                warnings.warn(f"the batches ended after {state.step} steps, at {state.progress:.0%} of training, before the "
                              "learning rate's schedule did: an iterator can be gone through once. Give what can be gone "
                              "through again, such as a DataLoader or a list, or fewer steps", stacklevel=2)
                return
            loop.step(*batch)
        state.seconds += budget.clock() - began
        state.cpu_seconds += time.process_time() - computed
        state.progress = budget.progress(state.step, loop.agreed_seconds if processes.num_processes > 1 else state.seconds)
        if state.progress >= 1:
            loop.read(0)
        yield state


def _begin(task: Task[M], optimization: Optimization, processes: Processes) -> State[M]:
    """The state before the first step."""
    module, adversary = task.module, task.adversary
    _place(module, processes)
    side = Side((p for p in module.parameters() if p.requires_grad), optimization.optimizer, optimization.clip)
    if not side.flats:
        raise UsageError("there is nothing to train: no parameter of the model requires a gradient")
    apart = optimization.ema or side.averages is not None
    averaged = copy.deepcopy(module).requires_grad_(False) if apart else module
    if adversary is None:
        return State(module, averaged, side, weights=task.initial_weights)
    _place(adversary, processes)
    critic = Side(adversary.parameters(), optimization.critic_optimizer, optimization.clip)
    return State(module, averaged, side, adversary, critic, weights=task.initial_weights)


def _place(module: nn.Module, processes: Processes) -> None:
    module.to(processes.device)
    if processes.num_processes > 1:
        agree_with_first(module)
    if any(isinstance(m, nn.Conv2d) for m in module.modules()):
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _restore(state: State[M], saved: Snapshot) -> None:
    """Continues from a snapshot, which is checked before anything is copied: optimizers do not look at shapes.

    Raises:
        ModelFileError: it does not fit.
    """
    try:
        state.begin()
        check_snapshot(saved, state.tensors(), state.slots())
        state.restore(saved)
    except (KeyError, RuntimeError, ValueError) as e:
        raise ModelFileError(f"the saved state does not fit this model ({e}); remove the run's state folder to start "
                             "it again from its beginning") from e


class _Turn(NamedTuple):
    """Who learns from a batch."""

    critic: Side | None
    """None where it does not: before it begins to, where there is none, and while the model follows it."""
    update_model: bool
    follows: bool = False
    """Whether the model learns alone, from the critic that has just learned from the same images."""


class _Taken(NamedTuple):
    """A step as it was taken, and the numbers that tell of it."""

    numbers: Tensor
    """Losses and norms, on the host once `ready`."""
    ready: torch.cuda.Event | None
    turn: _Turn
    limits: list[Limits]
    weights: list[float]
    """Of the losses."""


class _Loop(Generic[M]):
    """One run's step, with what it needs at hand."""

    def __init__(self, task: Task[M], state: State[M], processes: Processes, budget: Budget, optimization: Optimization
                 ) -> None:
        self.task, self.state, self.processes = task, state, processes
        self.schedule = registry.schedule.make(optimization.schedule)
        self.ema, self.accumulate, self.bf16 = optimization.ema, optimization.accumulate, budget.precision == "bf16"
        self.sides = [side for side in (state.side, state.critic) if side is not None]
        self.averages = _averages(state)
        self.normalised = state.ema is not state.model and any(map(_is_batch_norm, state.ema.modules()))
        self.agreed_seconds = state.seconds
        self.late = LATE.get(processes.device.type, 0)
        self.decisions: list[StepDecision] = []
        self.good: deque[Snapshot] = deque([state.snapshot()], maxlen=2)
        self.unread: deque[_Taken] = deque()
        self.losses_of = self._losses if not budget.compile else compiled(
            self._losses, task.networks, processes.device, optimization.accumulate)
        self.exchange = Exchange(self.losses_of, processes, compress=optimization.compress_gradients) \
            if processes.num_processes > 1 else None

    def _losses(self, x: Tensor, y: Tensor | None, progress: Tensor, with_critic: bool, update_critic: bool,
                update_model: bool) -> Tensor:
        """Batch means of the losses, and the critic's loss, (losses + 1,)."""
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.bf16):
            return self.task.losses(x, y, progress, with_critic=with_critic, update_critic=update_critic,
                                    update_model=update_model)

    def step(self, x: Tensor, y: Tensor | None) -> None:
        state = self.state
        state.event = ""
        if not state.model.training:
            state.model.train()
        for side in self.sides:
            side.set_rate(self.schedule(state.progress) * state.lr_scale)
        for turn in self._turns():
            self._learn(x, y, turn)
            with self.task.phase("waiting for losses and norms"):
                self.read(self.late)
        state.step += 1
        state.images += len(x) * self.processes.num_processes
        with self.task.phase("average"):
            self._conclude(x, y)

    def _learn(self, x: Tensor, y: Tensor | None, turn: _Turn) -> None:
        """One backward pass, and a step of those whose turn it is."""
        state = self.state
        moved = [state.side] * turn.update_model + ([turn.critic] if turn.critic is not None else [])
        limits, weights = [side.guard.limits() for side in moved], self._weights()
        if state.adversary is not None:
            state.adversary.move_to(state.progress)
        # in one copy, which nothing waits for
        given = on_device([state.progress, *weights, 1.0, *itertools.chain.from_iterable(limits)], self.processes.device)
        progress, loss_weights, bounds = given.tensor_split((1, len(weights) + 2))
        losses = self._backward(x, y, turn, moved, progress[0], loss_weights)
        numbers = self._update(moved, losses, bounds.view(-1, 2)).to("cpu", non_blocking=True)
        self.unread.append(_Taken(numbers, _recorded(losses.device), turn, limits, weights))

    def _turns(self) -> list[_Turn]:
        """Who learns in this step. The critic does from `warmup` before a loss first uses it; the model, in one of so many
        steps of the critic: after it, where the task says so, or from the same pass."""
        state, adversary = self.state, self.state.adversary
        if adversary is None or state.critic is None:
            return [_Turn(None, True)]
        soon = min(state.progress + adversary.game.warmup, 1.0)
        if not self.task.uses_critic(state.progress) and not self.task.uses_critic(soon):
            return [_Turn(None, True)]
        update_model = state.critic.optimizer is None or state.step % adversary.game.steps == 0
        if not self.task.takes_turns:
            return [_Turn(state.critic, update_model)]
        return [_Turn(state.critic, False)] + [_Turn(None, True, follows=True)] * update_model

    def _weights(self) -> list[float]:
        """Of the losses, in this step."""
        return self.task.weights(self.state.progress, self.state.weights)

    def _backward(self, x: Tensor, y: Tensor | None, turn: _Turn, moved: list[Side], progress: Tensor, weights: Tensor
                  ) -> Tensor:
        """Leaves the gradients of the weighted losses and of the critic's, means over all processes; returns the batch means
        of the losses in this one, (losses + 1,)."""
        for side in self.sides:
            side.forget()
        total = torch.zeros_like(weights)
        size = self.task.together * -(-len(x) // (self.task.together * self.accumulate))
        labels = y.split(size) if y is not None else [None] * self.accumulate
        pieces = [*zip(x.split(size), labels, strict=False)]
        with in_company(self.processes), self.task.one_batch(pieces if turn.update_model else [], self.processes, self.bf16):
            for left, (piece, piece_labels) in zip(reversed(range(len(pieces))), pieces, strict=True):
                losses_of = self.losses_of if left or self.exchange is None else self.exchange.averaging(moved)
                with self.task.phase("forward"):
                    losses = losses_of(piece, piece_labels, progress, turn.critic is not None or turn.follows,
                                       turn.critic is not None, turn.update_model)
                    losses = losses * (len(piece) / len(x))
                with self.task.phase("backward"):
                    (losses * weights).sum().backward()
                total += losses.detach()
        return total

    def _update(self, moved: list[Side], losses: Tensor, limits: Tensor) -> Tensor:
        """Steps the sides that learn, none of them where one's gradient is refused; returns losses and norms, and of several
        processes the mean of their seconds."""
        seconds: list[Tensor] = []
        with self.task.phase("gradients"):
            for side in moved:
                side.gather()
            if self.exchange is not None:
                losses, *seconds = self.exchange.means(losses, on_device([self.state.seconds], losses.device))
            numbers = torch.cat([losses, *(_norm(side.gradients, like=losses) for side in moved)])
            verdict = judge(numbers, limits)
        with self.task.phase("optimizer"):
            for side, scale in zip(moved, verdict.scales.split(1), strict=True):
                side.step(scale, verdict.skip)
        return torch.cat([numbers, *seconds])

    def read(self, late: int) -> None:
        """Takes note of the steps that were taken, but for the last few, whose numbers may still be on their way."""
        while len(self.unread) > late:
            self._note(self.unread.popleft())

    def _note(self, taken: _Taken) -> None:
        """Writes a step's losses and norms into the state, and rolls back where the guards say so."""
        if taken.ready is not None:
            taken.ready.synchronize()
        decisions = self._judged(taken)
        self.decisions = self.decisions * taken.turn.follows + decisions
        skipped = next((d for d in decisions if not d.scale), None)
        failed = next((d for d in decisions if d.roll_back), None)
        if skipped is not None:
            self.state.event = f"step skipped: {skipped.reason}"
        elif taken.turn.update_model:
            self.state.weights = self.task.updated(self.state.weights, self.state.parts)
        if failed is not None:
            self._roll_back(failed.reason)

    def _judged(self, taken: _Taken) -> list[StepDecision]:
        """What the guards make of a step, model first."""
        state, names, turn = self.state, self.task.names, taken.turn
        numbers, limits = taken.numbers.tolist(), [*taken.limits]
        values, critic_loss, norms = numbers[: len(names)], numbers[len(names)], numbers[len(names) + 1 :][: len(limits)]
        if self.exchange is not None:
            self.agreed_seconds = numbers[-1]
        if not turn.follows:
            state.critic_loss = critic_loss if turn.critic is not None else math.nan
        decisions: list[StepDecision] = []
        if turn.update_model:
            state.grad_norm = norms[0]
            state.parts = dict(zip(names, values, strict=True))
            state.loss = sum(w * v for w, v in zip(taken.weights, values, strict=True))
            plays = turn.critic is not None or turn.follows
            decreasing_loss = math.nan if plays else state.loss  # a game's loss need not decrease
            decisions.append(state.guard.judge(names, values, norms[0], decreasing_loss, limits[0]))
        if turn.critic is not None:
            decisions.append(turn.critic.guard.judge(["critic"], [critic_loss], norms[-1], limits=limits[-1]))
        return decisions

    def _conclude(self, x: Tensor, y: Tensor | None) -> None:
        """Takes a snapshot where it is time, and moves the averaged weights."""
        state = self.state
        if state.step % SNAPSHOT_EVERY == 0:
            self.read(0)
            if all(d.scale for d in self.decisions):
                self.good.append(state.snapshot())
        if self.averages and state.step % EMA_EVERY == 0:
            decay = min(self.ema, (1 + state.step) / (10 + state.step)) ** EMA_EVERY
            averaged, current = self.averages
            torch._foreach_lerp_(averaged, current, 1 - decay)  # pyright: ignore
            for average, own in zip(averaged, state.side.averages or (), strict=False):
                average.copy_(own)  # the optimizer's, of trained parameters, which come first
            if self.normalised:
                self._gather_statistics(x, y)

    @torch.no_grad()
    def _gather_statistics(self, x: Tensor, y: Tensor | None) -> None:
        """Passes the batch through the averaged module as in training, so that its BatchNorm holds statistics of its own
        layers: those of the module that is trained are of other weights. Leaves random numbers as they are."""
        averaged = self.state.ema
        was_training = averaged.training
        averaged.train()
        with forked_rng(), torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.bf16):
            self.task.run(averaged, x, y)
        averaged.train(was_training)

    def _roll_back(self, reason: str) -> None:
        state = self.state
        self.unread.clear()  # steps from weights that are given up
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


def _recorded(device: torch.device) -> torch.cuda.Event | None:
    """Tells when numbers that a GPU computes have arrived on the host."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record()
    return event


def _norm(gradients: list[Tensor], like: Tensor) -> Tensor:
    """Norm of all gradients together, (1,)."""
    norms = [torch.linalg.vector_norm(g) for g in gradients]
    return torch.linalg.vector_norm(torch.stack(norms))[None] if norms else like.new_zeros(1)


def _averages(state: State[M]) -> tuple[list[Tensor], list[Tensor]] | None:
    """Floating-point tensors of the average and of the model, in the same order; trained parameters as vectors. Without
    the statistics of BatchNorm, which the average gathers itself."""
    if state.ema is state.model:
        return None
    names, averaged = {p: name for name, p in state.model.named_parameters()}, dict(state.ema.named_parameters())
    flats = [Flat([averaged[names[p]] for p in flat.parameters]) for flat in state.side.flats]
    in_flats = {view.data_ptr() for flat in state.side.flats for view in flat.views}
    own, current = state.ema.state_dict(), state.model.state_dict()
    statistics = {f"{name}.{buffer}" for name, m in state.model.named_modules() if _is_batch_norm(m)
                  for buffer, _ in m.named_buffers(recurse=False)}
    others = [k for k, v in current.items()
              if v.is_floating_point() and v.data_ptr() not in in_flats and k not in statistics]
    return ([f.vector.detach() for f in flats] + [own[k] for k in others],
            [f.vector.detach() for f in state.side.flats] + [current[k] for k in others])


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
