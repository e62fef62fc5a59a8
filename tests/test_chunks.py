"""Work in chunks: what several processes share out comes to the same, errors reach all, and nobody waits for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reparam import tensors
from reparam.chunks import columns_in_chunks, in_chunks, of_each

ROOT = Path(__file__).parents[1]
ALONE = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT / "src")}
JOINED = """
import json, os, sys
import torch
from torch import distributed as dist
from reparam import chunks
from reparam.chunks import *
from reparam.errors import ProcessLost, UsageError
torch.set_num_threads(1)
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
told = {}
"""
"""Begins the program of each of two processes, which ends by printing what it was `told`."""


def two(program, folder, *, fails=()):
    """What two processes that run a program together tell at their ends."""
    code = JOINED + program + "\nprint(json.dumps(told), flush=True)\nos._exit(0)"  # a store in a file may fail to be closed
    running = [subprocess.Popen([sys.executable, "-c", code, str(i), str(folder / "store")], stdout=subprocess.PIPE,
                                text=True, env=os.environ | ALONE) for i in (0, 1)]
    try:
        said = [process.communicate(timeout=240)[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
            process.stdout.close()
    assert [process.returncode for process in running] == [int(i in fails) for i in (0, 1)]
    return [json.loads(text) for i, text in enumerate(said) if i not in fails]


def noisy(x):
    """Draws, and how much depends on the row."""
    return x + torch.randn(x.shape)


def test_a_chunk_has_its_own_random_numbers():
    x = torch.arange(10.0)
    torch.manual_seed(3)
    whole = in_chunks(noisy, x, size=4)
    after = torch.rand(())
    torch.manual_seed(3)
    pieces = torch.cat([t for t, in of_each(lambda i: (noisy(x[4 * i : 4 * i + 4]),), range(3))])
    assert torch.equal(whole, pieces) and torch.equal(after, torch.rand(()))
    assert not torch.equal(whole[:2] - x[:2], whole[4:6] - x[4:6])
    both = columns_in_chunks(lambda a, b: (a + b, a - b), x, 2 * x, size=3)
    assert torch.equal(both[0], 3 * x) and torch.equal(both[1], -x)


EVALUATED = """
from reparam.metrics import Evaluation, measure
from reparam.models.build import build_model
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe

torch.manual_seed(0)
model = build_model(Recipe(encoder="conv(4)", decoder="conv(4)", latent="flat(4)"), (1, 16, 16)).eval()
x = torch.rand(620, 1, 16, 16)  # chunks of 250, 250 and 120
evaluation = lambda: Evaluation(Sampler(model), x, torch.arange(620) % 3, train_images=x, train_labels=torch.arange(620) % 3,
                                features="wavelets")
metrics = ("elbo, iw_nll(5), psnr, ssim, perceptual, active_units, mutual_information, modellable, fd, prdc, "
           "vendi, memorisation, duplicates, sharpness")
asked = []
embed = type(evaluation().network).embed
type(evaluation().network).embed = lambda self, chunk: asked.append(len(chunk)) or embed(self, chunk)
alone = [f.to_dict() for f in measure(evaluation(), metrics)]
by_one = sum(asked)
asked.clear()
with shared_out():
    together = [f.to_dict() for f in measure(evaluation(), metrics)]
told = {"equal": alone == together, "figures": len(alone), "embedded": sum(asked), "by one": by_one, "unlike": [
    (a["name"], a["value"], b["value"]) for a, b in zip(alone, together) if a != b]}
"""


def test_two_processes_measure_what_one_does(tmp_path):
    """To the bit, and each embeds its share of the chunks only."""
    first, second = two(EVALUATED, tmp_path)
    assert first["equal"] and second["equal"] and first["figures"] > 20, first["unlike"]
    assert first["embedded"] + second["embedded"] == first["by one"]
    assert second["embedded"] / first["by one"] == pytest.approx(250 / 620)


SHARED = """
def failing(i):
    if i == 3:
        raise UsageError("the fourth is wrong")
    return (torch.full((2,), float(i)),)

def unknown(i):
    raise [ValueError, KeyError][rank]("odd")

def first_only():
    raise UsageError("of the first")

with shared_out():
    told["own"] = [t.tolist() for t, in of_each(lambda i: (torch.full((i % 3,), i + 10 * rank),), range(5))]
    told["first"] = from_first(lambda: rank)
    picture = in_chunks(lambda x: x.to(memory_format=torch.channels_last), torch.rand(5, 3, 4, 4), size=2)
    told["layout"] = [t.is_contiguous(memory_format=torch.channels_last)
                      for t, in of_each(lambda x: (x.to(memory_format=torch.channels_last),), torch.rand(2, 1, 3, 4, 4))]
    for name, work in (("known", lambda: of_each(failing, range(5))), ("unknown", lambda: of_each(unknown, range(5))),
                       ("of first", lambda: from_first(first_only))):
        try:
            work()
        except Exception as e:
            told[name] = [type(e).__name__, str(e)]
    told["after"] = from_first(lambda: 7)
"""


def test_an_error_in_one_process_is_raised_in_all(tmp_path):
    first, second = two(SHARED, tmp_path)
    assert first["own"] == second["own"] == [[], [11], [2, 2], [], [4]]
    assert first["first"] == second["first"] == 0 and first["after"] == second["after"] == 7
    assert first["layout"] == second["layout"] == [True, True]
    assert first["known"] == second["known"] == ["UsageError", "the fourth is wrong"]
    assert first["unknown"] == ["ValueError", "odd"]
    assert second["unknown"] == ["RuntimeError", "in process 0: ValueError: odd"]
    assert first["of first"] == second["of first"] == ["UsageError", "of the first"]


LOST = """
import datetime, time
from reparam.progress import Attempts
chunks.PATIENCE = datetime.timedelta(seconds=2)
attempt = Attempts()
with shared_out():
    if rank == 1:
        END
    began = time.monotonic()
    try:
        with attempt("measuring"):
            of_each(lambda i: (torch.zeros(1),), range(4))
    except ProcessLost as e:
        told = {"lost": str(e), "seconds": time.monotonic() - began}
"""


@pytest.mark.parametrize(("end", "fails"), [("sys.exit(1)", (1,)), ("time.sleep(6)", ())])
def test_nobody_waits_for_a_process_that_is_gone(end, fails, tmp_path):
    """It has ended, or it stands still: the others say so, and no attempt takes it for a figure that failed."""
    first = two(LOST.replace("END", end), tmp_path, fails=fails)[0]
    assert "another process of this run has ended" in first["lost"] and first["seconds"] < 5


def test_a_forked_region_leaves_other_gpus_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices, enabled: asked.append((devices, enabled)))
    tensors.forked_rng(enabled=False)
    assert asked == [([3], False)]
    own = (ROOT / "src" / "reparam").rglob("*.py")
    assert [p.name for p in own if "random.fork_rng" in p.read_text(encoding="utf-8")] == ["tensors.py"]

