"""How this process waits and keeps memory. Torch-free: threads must be settled before torch is imported."""

from __future__ import annotations

import os
import sys

SPIN = "10000"
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Of mallopt(3)."""


def hush_threads() -> None:
    """Lets waiting threads spin for a moment only, then sleep.

    By default they spin for milliseconds, which on a machine with another busy process makes two threads up to fifty
    times slower than one. A short spin keeps the speed of a quiet machine.
    """
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
