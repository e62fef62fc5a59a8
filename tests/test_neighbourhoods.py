"""Maps of neighbourhoods: the process that computes them, what comes of it, and the way back, against NumPy."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits

from reparam.downstream import neighbourhoods
from reparam.downstream import pacmap_program as program
from reparam.downstream.maps import principal_map
from reparam.downstream.neighbourhoods import Computation, Inverse, neighbour_map
from reparam.errors import ReparamError, UsageError

CODES = np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32)
STAND_IN = """
class PaCMAP:
    def __init__(self, n_components, n_neighbors, random_state): assert n_components == 2

    def fit_transform(self, z):
        print("not for the one who reads")
        {body}
        return z[:, 3:0:-2]
"""


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Puts another package in the place of pacmap, whose places are two of the codes' dimensions."""
    def put(body="pass"):
        (tmp_path / "pacmap.py").write_text(STAND_IN.format(body=body))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "pacmap", raising=False)

    return put


def test_digits_keep_their_neighbourhoods_better_than_on_a_plane():
    if not neighbourhoods.has_package():
        pytest.skip('pacmap is not installed: pip install "reparam[map]"')
    digits = load_digits().data.astype(np.float32)
    found = neighbour_map(digits)
    assert found.xy.shape == (len(digits), 2) and found.axes is None
    assert found.trustworthiness > 0.97 > 0.9 > principal_map(digits).trustworthiness


def test_another_process_lays_the_codes_out(package):
    package()
    found = neighbour_map(CODES)
    np.testing.assert_array_equal(found.xy, CODES[:, [3, 1]])
    assert found.method == "PaCMAP" and 0 < found.trustworthiness < 1


def test_beyond_landmarks_codes_are_placed_amid_those_around_them(package):
    package()
    known, others = CODES[::4], np.delete(CODES, np.s_[::4], 0)
    xy = program.lay_out(CODES, landmarks=30)
    np.testing.assert_array_equal(xy[::4], known[:, [3, 1]])
    for code, place in zip(others, np.delete(xy, np.s_[::4], 0), strict=True):
        near = known[np.linalg.norm(known - code, axis=1).argsort()[: program.PLACED_BY]][:, [3, 1]]
        order = np.linalg.norm(near - np.median(near, 0), axis=1).argsort()
        np.testing.assert_allclose(place, near[order[:3]].mean(0), rtol=1e-5)
    stray = np.array([[[0, 0], [0, 0.1], [0.1, 0], [0, -0.1], [90, 90]]])
    assert np.linalg.norm(program.amid(stray)) < 0.1


@pytest.mark.parametrize(("body", "said"), [("raise RuntimeError('it is full')", "it is full"), ("z = z * float('nan')", ""),
                                            ("z = z[1:]", ""), ("import os; os._exit(0)", "")])
def test_what_fails_in_the_process_is_told(package, body, said):
    package(body)
    with pytest.raises(ReparamError, match=f"could not be computed.*{said}"):
        neighbour_map(CODES)


def test_what_makes_no_map_of_neighbourhoods_is_refused(monkeypatch, package):
    package()
    with pytest.raises(UsageError, match="19 codes are too few"):
        neighbour_map(CODES[:19])
    with pytest.raises(UsageError, match="the same code"):
        neighbour_map(np.ones((30, 3)))
    monkeypatch.setattr(neighbourhoods, "has_package", lambda: False)
    with pytest.raises(UsageError, match=r"pip install \"reparam\[map\]\""):
        neighbour_map(CODES)


def test_a_process_that_is_stopped_is_gone_and_has_low_priority(package):
    package("import time; time.sleep(600)")
    computation = Computation.begin(CODES)
    process, deadline = psutil.Process(computation.process.pid), time.monotonic() + 30
    while (priority := process.nice()) != 19 and time.monotonic() < deadline:
        time.sleep(0.02)
    computation.stop()
    assert priority == 19
    assert not psutil.pid_exists(process.pid)
    with pytest.raises(ReparamError, match="could not be computed"):
        computation.map.result(30)


def test_the_process_ends_with_the_one_that_began_it(package, tmp_path):
    package(f"import pathlib, time; pathlib.Path({str(tmp_path / 'begun')!r}).touch(); time.sleep(600)")
    begin = ("import subprocess, sys, time\n"
             f"made = subprocess.Popen([sys.executable, '-P', '-m', {program.__name__!r}], stdin=subprocess.PIPE)\n"
             f"made.stdin.write({program.SHAPE.pack(*CODES.shape) + CODES.tobytes()!r})\nmade.stdin.close()\n"
             "print(made.pid, flush=True)\ntime.sleep(600)")
    environment = neighbourhoods._environment()
    with subprocess.Popen([sys.executable, "-c", begin], stdout=subprocess.PIPE, env=environment) as caller:
        begun, deadline = psutil.Process(int(caller.stdout.readline())), time.monotonic() + 30
        while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        caller.kill()
    _, alive = psutil.wait_procs([begun], 20)
    for process in alive:
        process.kill()
    assert (tmp_path / "begun").exists() and not alive


def test_places_between_points_have_the_codes_of_those_around_them():
    xy = np.random.default_rng(1).normal(size=(120, 2))
    inverse = Inverse.of(xy, CODES)
    for place in (xy[5] + (0.05, -0.03), xy[7]):
        away = np.linalg.norm(xy - place, axis=1)
        near = away.argsort()[:8]
        weights = np.exp(-((away[near] / away[near[-1]]) ** 2) / 2)
        np.testing.assert_allclose(inverse.code_at(*place)[0], np.average(CODES[near], 0, weights), rtol=1e-6)
    reach = 0.1 * np.sqrt(((xy - xy.mean(0)) ** 2).sum(1).mean())
    edge = xy[xy[:, 0].argmax()]
    assert inverse.code_at(edge[0] + 0.99 * reach, edge[1]) is not None
    assert inverse.code_at(edge[0] + 1.01 * reach, edge[1]) is None
