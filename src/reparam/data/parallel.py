"""Work on many files over all cores, with a bound on what waits."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from .decode import Named, quiet
from .workers import Workers

_BATCH_FILES, _BATCH_BYTES = 64, 8 << 20
MOST_WAITING = 128 << 20
"""Bytes of files read from archives that wait for a core or are at work, one batch aside."""
WORTH_PROCESSES = 2000
"""Images; fewer are decoded by threads sooner than processes start."""

In = TypeVar("In")
Out = TypeVar("Out")


@contextlib.contextmanager
def workers_for(files: int) -> Generator[Workers | None]:
    """Processes for so many files; None where threads will do."""
    cores = os.cpu_count() or 1
    if files < WORTH_PROCESSES or cores == 1:
        yield None
        return
    with Workers(cores) as workers:
        yield workers


def in_parallel(work: Callable[[In], Out], files: Iterable[tuple[str, In]], workers: Workers | None = None,
                ) -> Iterator[tuple[str, Out]]:
    """(name, work(file)) in order, over all cores; what waits is bounded in number and bytes.

    With `workers` the work is done by them, and is a function of a module, or a method of an object that can be pickled.
    """
    cores = workers.count if workers is not None else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        waiting: deque[tuple[int, Future[list[tuple[str, Out]]]]] = deque()
        try:
            for size, batch in _batches(files):
                waiting.append((size, pool.submit(_each, work, batch) if workers is None else
                                pool.submit(workers.call, _each, work, batch)))
                del batch  # of which only those at work are to stay in memory
                while len(waiting) > cores + 1 or (waiting and sum(held for held, _ in waiting) > MOST_WAITING):
                    yield from waiting.popleft()[1].result()
            while waiting:
                yield from waiting.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)


def _each(work: Callable[[In], Out], batch: list[tuple[str, In]]) -> list[tuple[str, Out]]:
    with quiet:
        return [(name, work(file)) for name, file in batch]


def _batches(files: Iterable[tuple[str, In]]) -> Iterator[tuple[int, list[tuple[str, In]]]]:
    """Batches of files and how many bytes they hold in memory."""
    batch: list[tuple[str, In]] = []
    held = 0
    for name, file in files:
        batch.append((name, file))
        held += len(file.data) if isinstance(file, Named) else 0
        if len(batch) == _BATCH_FILES or held > _BATCH_BYTES:
            yield held, batch
            batch, held = [], 0
    if batch:
        yield held, batch
