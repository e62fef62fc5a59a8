"""Work on many files over all cores, with a bound on what waits."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from .decode import Named

_BATCH_FILES, _BATCH_BYTES = 64, 8 << 20
MOST_WAITING = 128 << 20
"""Bytes of files read from archives that wait for a core or are at work, one batch aside."""

In = TypeVar("In")
Out = TypeVar("Out")


def in_parallel(work: Callable[[In], Out],
                files: Iterable[tuple[str, In]]) -> Iterator[tuple[str, Out]]:
    """(name, work(file)) in order, over all cores; what waits is bounded in number and bytes."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[int, Future[list[tuple[str, Out]]]]] = deque()
        try:
            for size, batch in _batches(files):
                waiting.append((size, pool.submit(lambda batch: [(n, work(f)) for n, f in batch], batch)))
                del batch  # of which only those at work are to stay in memory
                while len(waiting) > workers + 1 or (waiting and sum(held for held, _ in waiting) > MOST_WAITING):
                    yield from waiting.popleft()[1].result()
            while waiting:
                yield from waiting.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)


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
