"""Watching a run that is being trained: its training view until it has ended, and then the whole explorer.

The page is served by a process of its own that follows the files in the run's folder, so that training neither waits for it
nor computes otherwise because of it, and that yields the processor to whatever else wants it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ..errors import ReparamError, UsageError
from .guard import Guard
from .launch import server_of
from .questions import Answer, Question
from .server import application
from .training import ENDED, Training

if TYPE_CHECKING:
    from .session import Session
    from .snapshots import Snapshots


@dataclass
class Watch:
    """Answers about a run that had not ended when one began to watch it."""

    folder: Path
    training: Training = field(init=False)
    _at_first: str = field(init=False)
    _session: Session | None = None
    _pictures: Pictures = field(init=False)

    def __post_init__(self) -> None:
        self.training = Training(self.folder)
        self._at_first = self.training.signature
        self._pictures = Pictures(self.folder)

    @property
    def has_ended(self) -> bool:
        """A run that is resumed had ended before, which is not meant."""
        run = self.training.run_file()
        return run is not None and run["status"] in ENDED and self.training.signature != self._at_first

    def steps(self, question: Question) -> Iterator[Answer | None]:
        """As `Session.steps`."""
        op = question.text("op")
        if op == "hello" and self._session is None and self.has_ended:
            self._open()
        if self._session is not None:
            yield from self._session.steps(question)
        elif op == "hello":
            yield Answer({"runs": [], "planes": [], "points": {"n": 0, "columns": []}, "notes": [], "training": True,
                          "films": False, "name": self.folder.resolve().name, "folder": str(self.folder)})
        elif op == "training":
            yield self.training.answer(question)
        elif op == "snapshot":
            yield from self._pictures.steps(question)
        else:
            raise UsageError(f"{op!r} can be asked of a model that is trained; this one is still being trained")

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _open(self) -> None:
        import torch

        from .session import Session

        torch.set_num_threads(os.cpu_count() or 1)
        self._session = Session.open([self.folder])


@dataclass
class Pictures:
    """Draws pictures on a thread of its own: curves shall not wait for them, nor for PyTorch, which they take."""

    folder: Path
    _thread: ThreadPoolExecutor | None = None
    _snapshots: Snapshots | None = None

    def steps(self, question: Question) -> Iterator[Answer | None]:
        if self._thread is None:  # not before this is in the process that serves
            self._thread = ThreadPoolExecutor(1, "pictures")
        work = self._thread.submit(self._answer, question)
        while not wait([work], timeout=0.05).done:
            yield None
        yield work.result()

    def _answer(self, question: Question) -> Answer:
        import torch

        from .snapshots import Snapshots

        if self._snapshots is None:
            torch.set_num_threads(1)
            self._snapshots = Snapshots(self.folder)
        return self._snapshots.answer(question)


LOADING, SERVING = 10, 19
"""How far this steps back, as Unix counts: a tenth, and a seventieth, of the time of a core that others keep busy."""


def step_back(by: int = SERVING) -> None:
    """Leaves the processor to others that want it. Threads that this one has started keep theirs."""
    psutil.Process().nice(psutil.IDLE_PRIORITY_CLASS if sys.platform == "win32" else by)


def start(watch: Watch, listening: socket.socket, token: str) -> BaseProcess:
    """A process that serves the page of a run in training on a socket, until this one ends.

    Ctrl-C is for training alone: the process does not hear of it.
    """
    child = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(watch, listening, token), name="reparam-watch", daemon=True)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child.start()
    finally:
        signal.signal(signal.SIGINT, before)
    return child


def _serve(watch: Watch, listening: socket.socket, token: str) -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        raise ReparamError("this serves the page of another process's run")
    step_back(LOADING)
    threading.Thread(target=_load, daemon=True).start()
    step_back()
    guard = Guard(application(watch), int(listening.getsockname()[1]), token)
    threading.Thread(target=server_of(guard).run, kwargs={"sockets": [listening]}, daemon=True).start()
    parent.join()


def _load() -> None:
    """PyTorch, before pictures are asked for: it would take minutes at the last priority on cores that are kept busy."""
    import_module(f"{__package__}.snapshots")
