"""Several processes against one that has the whole batch, and what is left of a run when one of them is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import killed_process
import many_processes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from reparam.data.options import DataOptions
from reparam.errors import UsageError
from reparam.parallel import SingleProcess
from reparam.parts.recipe import Recipe
from reparam.runs import restarts
from reparam.runs.folder import Run
from reparam.trainer.assembly import Assembly

PROCESSES = (2, 4)
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}
RESUMED_AFTER = 2


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What came of one process, of two and of four."""
    folder = tmp_path_factory.mktemp("processes")
    subprocess.run([sys.executable, "-W", "error", many_processes.__file__, str(folder)], env=ALONE, check=True, timeout=240)
    return {n: torch.load(folder / f"{n}.pt") for n in (1, *PROCESSES)}


def assert_alike(several, one, rtol=1e-4, atol=1e-6):
    for step, (got, want) in enumerate(zip(several["gradients"], one["gradients"], strict=True)):
        largest = max(float(g.abs().max()) for g in want)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * largest, msg=lambda m, step=step: f"step {step}: {m}")
    torch.testing.assert_close(several["losses"], one["losses"], rtol=rtol, atol=atol, equal_nan=True)
    torch.testing.assert_close(several["weights"], one["weights"], rtol=rtol, atol=1e-5)
    assert several["images"] == one["images"]
    assert several["adaptive"] == pytest.approx(one["adaptive"])


@pytest.mark.parametrize(("processes", "case"), [*((2, case) for case in many_processes.CASES),
                                                 *((4, case) for case in many_processes.BY_FOUR)])
def test_several_processes_train_as_one_with_the_whole_batch(processes, case, found):
    """Gradients of every step, to the order of summation, losses, and the model and its critic after the last."""
    assert_alike(found[processes][case], found[1][case])


def test_every_kind_of_turn_has_been_compared(found):
    """The model alone, both, and the critic alone, whose numbers of gradients differ."""
    assert len({len(gradients) for gradients in found[1]["adversary"]["gradients"]}) == 3


@pytest.mark.parametrize("processes", PROCESSES)
def test_what_one_process_began_several_end(processes, found):
    one = found[1]["adversary"]
    rest = {**one, "gradients": one["gradients"][RESUMED_AFTER:], "losses": one["losses"][RESUMED_AFTER:]}
    resumed = found[processes]["resumed"]
    assert_alike(resumed, rest)


@pytest.mark.parametrize("processes", PROCESSES)
def test_compressed_gradients_are_rounded_to_eight_bits_and_no_worse(processes, found):
    """bfloat16 has 8 bits: each of the numbers that are added up, and each sum, is rounded by 2⁻⁹ of it at most."""
    got, want = (torch.cat([g.flatten() for g in found[n][case]["gradients"][0]])
                 for n, case in ((processes, "compressed"), (1, "plain")))
    assert 0 < (got - want).norm() / want.norm() < processes * 2**-9


def test_pieces_of_a_batch_are_exchanged_once(found):
    assert found[2]["exchanges"] == 1


@pytest.mark.parametrize("processes", PROCESSES)
def test_processes_draw_apart_and_stay_together(processes, found):
    """Each has random numbers of its own, and all have the same state before and after."""
    own, after = ({tuple(draw[i]) for draw in found[processes]["draws"]} for i in (0, 1))
    assert len(own) == processes and len(after) == 1


@pytest.mark.parametrize("case", many_processes.OTHERS)
def test_all_processes_have_the_same_weights(case, found):
    assert found[2]["others"][case]


@pytest.mark.parametrize("processes", PROCESSES)
def test_processes_share_one_codebook(processes, found):
    """It ends where that of one process with all vectors does, and codes that nobody uses move to vectors of all of them."""
    books = found[processes]["codebooks"]
    torch.testing.assert_close(books["shared"], books["whole"])
    nearest = torch.cdist(books["revived"]["vectors"], books["vectors"].flatten(0, 1)).min(1)
    moved = nearest.indices[nearest.values < 1e-3]
    assert {int(i) // 30 for i in moved} == set(range(processes))


def test_a_killed_process_costs_the_steps_since_the_last_state(tmp_path):
    """torchrun's agent starts both anew, which go on from the saved state to the weights of a run that was left alone."""
    program = [sys.executable, "-W", "error", killed_process.__file__, str(tmp_path)]
    subprocess.run(program, env=ALONE, check=True, timeout=300)
    ends = [load_file(tmp_path / name / "state" / "training.safetensors") for name in ("killed", "whole")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], value) for name, value in ends[1].items())
    steps = [int(line) for line in (tmp_path / "steps1").read_text().split()]
    died = next(i for i, (a, b) in enumerate(pairwise(steps)) if b <= a)
    assert 0 < steps[died + 1] <= steps[died]
    end = killed_process.RECIPE["steps"]
    assert steps[died + 1 :] == [*range(steps[died + 1], end), *range(end)]


def begun(folder, **facts):
    Run(folder, "digits", DataOptions(), Recipe(steps=5), facts=facts).save()


def test_a_command_goes_on_only_with_what_its_own_job_has_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = Run(Path("runs/digits"), "digits", DataOptions(), Recipe(steps=5))
    for name, job in (("digits", "other"), ("digits-2", "mine"), ("digits-3", "other")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        begun(tmp_path / "runs" / name, job=job)
    assert restarts.begun_before(wanted, None, "digits") is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    assert restarts.begun_before(wanted, None, "digits") == Path("runs/digits-2")
    assert restarts.begun_before(wanted, "runs/digits", "digits") is None
    assert restarts.begun_before(replace(wanted, recipe=Recipe(steps=6)), None, "digits") is None
    begun(tmp_path / "runs" / "digits-3", job="none")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # any job without a name
    assert restarts.begun_before(wanted, None, "digits") is None
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert restarts.begun_before(wanted, None, "digits") == Path("runs/digits-3")


@dataclass(frozen=True)
class Second(SingleProcess):
    """The second of several processes."""

    num_processes: int = 3
    process_index: int = 1


def test_processes_get_equal_shares():
    images = np.zeros((40, 4, 4, 1), np.uint8)
    recipe = Recipe(encoder="mlp((8,))", decoder="mlp((8,))", batch_size=16)
    accelerator = Second(torch.device("cpu"))
    stream = Assembly(recipe, (1, 4, 4)).stream(images, accelerator=accelerator)
    assert stream.batch_size == 15 and len(next(iter(stream))) == 5
    partners = np.arange(40)
    paired = Assembly(recipe, (1, 4, 4)).stream(images, partners=partners, accelerator=accelerator)
    assert paired.batch_size == 12 and len(next(iter(paired))) == 4
    with pytest.raises(UsageError, match="a batch of 2 images has no image for each of 3 processes"):
        Assembly(recipe.but(batch_size=2), (1, 4, 4)).stream(images, accelerator=accelerator)
