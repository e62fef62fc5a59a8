"""How the process keeps memory."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from reparam.runtime import keep_memory
if "keep" in sys.argv:
    keep_memory()
import torch
for _ in range(20):
    torch.zeros(10_000_000).add_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_arrays_are_not_asked_for_anew():
    """Twenty arrays of 40 MB one after the other: ten thousand pages each, or the same pages again."""
    plain, kept = (int(subprocess.run([sys.executable, "-c", FAULTS, *how], capture_output=True, text=True, check=True,
                                      env={"OMP_NUM_THREADS": "1"}).stdout) for how in ([], ["keep"]))
    assert plain - kept > 100_000 or plain < 60_000  # a kernel that hands out huge pages has few faults to save
