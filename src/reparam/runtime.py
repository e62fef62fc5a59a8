"""How this process waits, keeps memory and speaks. Torch-free: threads must be settled before torch is imported."""

from __future__ import annotations

import errno
import io
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


SPIN = "10000"
GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
"""What writing gives when nobody reads any more: the pipe was closed, the terminal died, the stream was never open."""
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Of mallopt(3)."""


def hush_threads() -> None:
    """Lets waiting threads spin for a moment only, then sleep.

    By default they spin for milliseconds, which on a machine with another busy process makes two threads up to fifty
    times slower than one. A short spin keeps the speed of a quiet machine.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler, which announces itself on stderr
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)


def keep_memory() -> None:
    """Keeps freed memory for the next allocation, up to 2 GB of it, where the C library is glibc; elsewhere does nothing.

    By default arrays beyond 32 MB go back to the system as soon as they are freed, and every step asks for them anew and
    clears them page by page. Without that, images go through a feature network on a CPU twice as fast, and a
    convolutional VAE trains on 64×64 pixels a tenth faster.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, 2_000_000_000), (M_TOP_PAD, 64 << 20)):
            mallopt(option, value)


def peak_memory(process: int | str = "self") -> float | None:
    """GiB of main memory that a process, this one or that of a number, has held at most; None where the system does not say,
    or the process is gone.

    On Linux it is VmHWM, which begins anew with each program; getrusage's ru_maxrss begins at what the process held that
    started it.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    kib = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    if kib is None and process == "self" and sys.platform == "darwin":
        import resource

        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return None if kib is None else kib / 2**20


def watched(process: subprocess.Popen[bytes], every: float = 0.02) -> float | None:
    """Waits for a process; GiB that it held at most, without its children; None where the system does not say.

    Args:
        every: seconds between two looks.
    """
    held = None
    while process.poll() is None:
        held = peak_memory(process.pid) or held
        time.sleep(every)
    return held


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_number() -> int:
    """The number of this process among those that `torchrun` or `accelerate launch` started together; 0 of one alone."""
    number = os.environ.get("RANK", "0")
    return int(number) if number.isdecimal() else 0


class Load:
    """What other programs leave free of the processors that this one may use, since it was last asked.

    Known on Linux only; elsewhere all are taken for free.
    """

    SHORTEST = 0.25
    """Seconds between two looks: the system counts in hundredths."""

    def __init__(self) -> None:
        self.seen = self._look()
        self.found = float(cores())

    def free(self) -> float:
        """Processors that others left free, from 0 to all; what it found before where too little time has passed."""
        now, busy, own = self._look()
        past = now - self.seen[0]
        if past >= self.SHORTEST:
            others = (busy - self.seen[1] - (own - self.seen[2])) / past
            self.seen, self.found = (now, busy, own), min(max(cores() - others, 0.0), cores())
        return self.found

    @staticmethod
    def _look() -> tuple[float, float, float]:
        """Seconds: now, of these processors' work so far, and of this process's own."""
        used = os.times()
        own = used.user + used.system + used.children_user + used.children_system
        try:
            lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        except OSError:
            return time.monotonic(), own, own
        rows = {name: [*map(int, rest)] for name, *rest in map(str.split, lines) if name.startswith("cpu")}
        # user, nice, system, idle, iowait, irq, softirq, steal
        ticks = sum(sum(rows[f"cpu{i}"][k] for k in (0, 1, 2, 5, 6, 7)) for i in os.sched_getaffinity(0))
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), own


class _Spoken(io.RawIOBase):
    """A stream to whoever may listen: what comes after they left is dropped, and the work goes on."""

    def __init__(self, number: int) -> None:
        self.number, self.failed = number, False

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        while True:
            try:
                return os.write(self.number, data)
            except BlockingIOError:
                select.select([], [self.number], [])
            except OSError as e:
                if e.errno in GONE or self.failed:
                    return memoryview(data).nbytes
                self.failed = True  # a full disk is told once, and not again when the program ends
                raise OSError(e.errno, e.strerror, "stdout" if self.number == 1 else "stderr") from e


def keep_speaking() -> None:
    """Makes stdout and stderr outlast their readers, and show as escapes what their encoding lacks.

    Streams that were closed before the start lead nowhere: else the next file opened would be taken for one of them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest free number, this one
    sys.stdout, sys.stderr = _outlasting(sys.stdout, 1), _outlasting(sys.stderr, 2)


def _outlasting(stream: TextIO | None, number: int) -> TextIO:
    if stream is not None:
        stream.flush()
    raw = _Spoken(number)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding if stream else "utf-8",
                            errors="backslashreplace", line_buffering=number == 2 or raw.isatty())
