"""Processes that call functions beside this one, for work at which threads would wait for one another.

Each is a fresh interpreter that reads calls from its standard input and answers on its standard output. Nothing of the
caller's program is run again in it, as spawning would, and none of its threads and locks are copied, as forking would.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, TypeVar, cast

from ..errors import ReparamError

_START = "from reparam.data.workers import serve; serve()"
_BUFFER = 1 << 20

Out = TypeVar("Out")


class Workers:
    """At most `count` processes, started when they are needed; each call takes one of them. Threads may call at once.

    Functions are known to the processes by their module and name, and arguments and results are pickled.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._started: list[_Worker] = []
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def call(self, function: Callable[..., Out], *args: Any) -> Out:
        """What the function returns, or raises, in a process.

        Raises:
            ReparamError: the process ended before it answered.
        """
        worker = self._take()
        try:
            return worker.call(function, args)
        finally:
            self._free.put(worker)

    def _take(self) -> _Worker:
        with self._lock:
            if self._free.empty() and len(self._started) < self.count:
                self._started.append(_Worker())
                return self._started[-1]
        return self._free.get()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes, whatever they are at."""
        for worker in self._started:
            worker.end()


class _Worker:
    def __init__(self) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=_BUFFER,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})

    def call(self, function: Callable[..., Out], args: tuple[Any, ...]) -> Out:
        to, back = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        try:
            pickle.dump((function, args), to, protocol=5)
            to.flush()
            done, answer = pickle.load(back)
        except (EOFError, OSError, pickle.UnpicklingError) as e:
            raise ReparamError(f"a process that works on images ended by itself (exit code {self._process.wait()}): it may "
                               "have run out of memory. Run the command again; it goes on where it can") from e
        if not done:
            raise answer
        return answer

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not sent yet
                    pipe.close()
        self._process.wait()


def serve() -> None:
    """Answers calls until there are no more, or nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the caller ends this one
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", _BUFFER)
    os.dup2(2, 1)  # what a library prints is no answer
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            function, args = pickle.load(calls)
            try:
                answer = pickle.dumps((True, function(*args)), protocol=5)
            except Exception as e:  # which the caller raises
                answer = _told(e)
            answers.write(answer)
            answers.flush()


def _told(error: Exception) -> bytes:
    try:
        return pickle.dumps((False, error), protocol=5)
    except Exception:  # one that cannot be pickled
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")), protocol=5)
