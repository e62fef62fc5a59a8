"""How the process keeps memory, and shares processors with other programs."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from reparam.progress import Silent
from reparam.runtime import Load, cores, peak_memory, watched
from reparam.tensors import no_denormals
from reparam.trainer.autotune import sharing, threads_left

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


def burn(processes):
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/stat")
def test_what_other_programs_leave_free(monkeypatch):
    """Own work counts as free, others' does not."""
    monkeypatch.setattr(Load, "SHORTEST", 0.01)
    beside = burn(2 * cores())
    try:
        load = Load()
        time.sleep(0.7)
        assert load.free() < 0.3 * cores()
        began = time.process_time()
        while time.process_time() - began < 0.3:
            pass
        assert 0 < load.free() <= cores()
    finally:
        for process in beside:
            process.kill()
            process.wait()


@pytest.fixture
def looks(monkeypatch):
    """A machine of four processors, whose counters the test moves: seconds, work of all, work of this process."""
    seen = [0.0, 0.0, 0.0]
    monkeypatch.setattr(Load, "_look", staticmethod(lambda: tuple(seen)))
    monkeypatch.setattr("reparam.runtime.cores", lambda: 4)
    return seen


@pytest.mark.parametrize("others, free, threads", [(0.0, 4, 4), (1.0, 3, 3), (2.6, 1.4, 1), (4.0, 0, 1)])
def test_threads_follow_what_is_left(looks, others, free, threads):
    load = Load()
    looks[:] = [2.0, 2 * others + 1.5, 1.5]
    assert load.free() == pytest.approx(free)
    looks[0] += 0.1
    assert load.free() == pytest.approx(free), "too soon to tell"
    assert threads_left(load, 4) == threads and threads_left(load, 2) == min(threads, 2)


def test_a_region_shares_and_ends_as_it_began(looks, monkeypatch):
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: set_to[-1] if set_to else 4)
    with sharing(Silent()) as told:
        for busy in (0.0, 12.0, 12.0, 0.0):
            looks[:] = [looks[0] + 4, looks[1] + busy, 0.0]
            told.count("measuring", 1, 2)
        assert set_to == [1, 4]
        told.say("done")
    assert set_to == [1, 4, 4]


def test_a_number_that_was_asked_for_stays(looks, monkeypatch):
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    with sharing(Silent(), 1) as told:
        looks[:] = [4.0, 0.0, 0.0]
        told.count("measuring", 1, 2)
    assert len(set_to) == 1


def test_the_compiler_is_not_loaded_before_it_is_used():
    """It takes two seconds of a processor."""
    loaded = "import sys, reparam.runs.train, reparam.explorer.session; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux tells it")
def test_the_memory_of_a_process_is_its_own():
    """And not what the process held that started it, which getrusage counts as the child's."""
    bytearray(600 * 2**20).clear()
    idle, grown = (watched(subprocess.Popen([sys.executable, "-c", f"import time; {what}; time.sleep(0.3)"]))
                   for what in ("x = 0", "x = bytearray(300 * 2**20)"))
    assert peak_memory() > 0.58
    assert idle < 0.1
    assert grown - idle == pytest.approx(300 / 1024, rel=0.05)
    assert peak_memory(2**22 + 1) is None


def test_denormals_are_zero_in_the_region_alone():
    def left():
        return float(torch.tensor(1e-40) * 1), float((np.float32(1e-40) * np.ones(40, np.float32)).sum())

    assert min(left()) > 0
    with pytest.raises(KeyError), no_denormals():
        assert left() == (0, 0)
        with no_denormals():
            pass
        assert left() == (0, 0)
        raise KeyError
    assert min(left()) > 0
