"""How threads wait for one another. Torch-free: it must be settled before torch is imported."""

from __future__ import annotations

import os

SPIN = "10000"


def hush_threads() -> None:
    """Lets waiting threads spin for a moment only, then sleep.

    By default they spin for milliseconds, which on a machine with another busy process makes two threads up to fifty
    times slower than one. A short spin keeps the speed of a quiet machine.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
