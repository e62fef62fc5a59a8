"""Work on many rows, a chunk at a time. Of several processes each takes some of the chunks, and all get what all made.

    features = in_chunks(network.embed, images, size=250)

Every chunk has random numbers of its own, so that what is drawn in it depends neither on the number of processes nor on
which of them has it. An error in one process is raised in all, so that none waits for what never comes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

from .errors import ProcessLost, ReparamError
from .tensors import forked_rng

PATIENCE = timedelta(minutes=30)
"""How long processes wait for one another: while one writes files, say, or fits what only one can."""

Columns = tuple[Tensor, ...]
"""Tensors with as many rows."""
T = TypeVar("T")
P = TypeVar("P")
_group: ContextVar[dist.ProcessGroup | None] = ContextVar("group", default=None)


@contextlib.contextmanager
def shared_out() -> Generator[None]:
    """A region in which the processes of a run share chunks out between them. All of them have to go through the same calls
    in it; what only one does there must not work in chunks."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        yield
        return
    token = _group.set(cast(dist.ProcessGroup, dist.new_group(timeout=PATIENCE, backend="gloo")))
    try:
        yield
    finally:
        _group.reset(token)


def in_chunks(f: Callable[..., Tensor], *rows: Tensor, size: int) -> Tensor:
    """f of tensors with as many rows, `size` of them at a time: a tensor with a row for each."""
    return columns_in_chunks(lambda *chunk: (f(*chunk),), *rows, size=size)[0]


def columns_in_chunks(f: Callable[..., Columns], *rows: Tensor, size: int) -> Columns:
    """The same of a function that gives several tensors."""
    pieces = [*zip(*(each.split(size) for each in rows), strict=True)]
    return tuple(map(torch.cat, zip(*of_each(lambda chunk: f(*chunk), pieces), strict=True)))


def of_each(f: Callable[[P], Columns], pieces: Sequence[P]) -> list[Columns]:
    """f of each piece, in their order."""
    group = _group.get()
    rank, count = (group.rank(), group.size()) if group is not None else (0, 1)
    drawn = int(torch.randint(2**31, (), device="cpu"))
    seed = from_first(lambda: drawn)
    made: dict[int, Columns] = {}
    failure: Exception | None = None
    with forked_rng():
        try:
            for i in range(rank, len(pieces), count):
                _seed(seed + i)
                made[i] = f(pieces[i])
        except Exception as e:
            failure = e
    if group is not None:
        return _exchanged(made, failure, len(pieces), group)
    if failure is not None:
        raise failure
    return [made[i] for i in range(len(pieces))]


def _seed(seed: int) -> None:
    """torch.manual_seed, which takes 160 µs to note down what accelerators are to be seeded with, where there is one."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, for work that cannot be divided: the others wait for it, and get a copy."""
    group = _group.get()
    if group is None:
        return make()
    box: list[Any] = [None]
    if group.rank() == 0:
        try:
            box[0] = make()
        except Exception as e:
            box[0] = _Failure(_portable(e, 0))
            with _answered():
                dist.broadcast_object_list(box, 0, group)
            raise
    with _answered():
        dist.broadcast_object_list(box, 0, group)
    if isinstance(box[0], _Failure):
        raise box[0].error
    return cast(T, box[0])


class _Failure(NamedTuple):
    """Stands for what a process should have made."""

    error: Exception


class _Layout(NamedTuple):
    """Of a tensor that another process holds."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    """Its kind: of several GPUs each process has its own."""
    channels_last: bool

    @staticmethod
    def of(t: Tensor) -> _Layout:
        last = t.dim() == 4 and not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)
        return _Layout(tuple(t.shape), t.dtype, t.device.type, last)

    def restored(self, t: Tensor) -> Tensor:
        return t.to(self.device, memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def _exchanged(made: dict[int, Columns], failure: Exception | None, pieces: int, group: dist.ProcessGroup) -> list[Columns]:
    """What all processes made of so many pieces.

    Raises:
        Exception: the failure of the first process that had one.
    """
    own = _Failure(_portable(failure, group.rank())) if failure is not None else \
        {i: [_Layout.of(t) for t in columns] for i, columns in made.items()}
    told: list[Any] = [None] * group.size()
    with _answered():
        dist.all_gather_object(told, own, group)
    for rank, of_process in enumerate(told):
        if isinstance(of_process, _Failure):
            raise failure if failure is not None and rank == group.rank() else of_process.error
    return [tuple(_sent(made[i][k] if i in made else None, layout, i % group.size(), group)
                  for k, layout in enumerate(told[i % group.size()][i])) for i in range(pieces)]


def _sent(own: Tensor | None, layout: _Layout, owner: int, group: dist.ProcessGroup) -> Tensor:
    """A tensor of the process that owns it, in all processes."""
    t = torch.empty(layout.shape, dtype=layout.dtype) if own is None else own.cpu().contiguous()
    with _answered():
        dist.broadcast(t, owner, group)
    return layout.restored(t) if own is None else own


def _portable(error: Exception, rank: int) -> Exception:
    """An error as other processes are told of it: one of reparam's own as it is, of others what they say."""
    return error if isinstance(error, ReparamError) else RuntimeError(f"in process {rank}: {type(error).__name__}: {error}")


@contextlib.contextmanager
def _answered() -> Generator[None]:
    """
    Raises:
        ProcessLost: another process has ended, or keeps the others waiting for too long.
    """
    try:
        yield
    except RuntimeError as e:
        minutes = PATIENCE.total_seconds() / 60
        raise ProcessLost(f"another process of this run has ended, or has not answered for {minutes:g} minutes "
                          f"({str(e).splitlines()[0][:200]}); see what it said. What was trained is saved: resume the run "
                          "to complete it") from e
