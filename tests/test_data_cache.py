"""The cache is built by several processes, and what interrupts a build costs no more than the images since its last note."""

import io
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from reparam.data import build, cache, open_images, parallel
from reparam.data.decode import Named, read_image
from reparam.data.pixels import UnreadableImage
from reparam.data.workers import Workers
from reparam.errors import DataError, ReparamError


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "the-cache"))


@pytest.fixture
def archive(tmp_path):
    """120 pictures, of which the last but one is broken."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for i in range(120):
            picture = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(picture, "PNG")
            packed.writestr(f"{'ab'[i % 2]}/{i:03d}.png", picture.getvalue()[: 60 if i == 118 else None])
    return tmp_path / "a.zip"


def same(a, b):
    return (np.array_equal(a.images, b.images) and np.array_equal(a.digests, b.digests) and a.skipped == b.skipped
            and np.array_equal(a.labels, b.labels) and a.notes == b.notes and a.fingerprint == b.fingerprint)


KILLED = """
import os, sys
from reparam.data import build, cache, open_images, parallel
cache.NOTE_EVERY, cache.NOTE_SHARE, parallel.WORTH_PROCESSES, parallel._BATCH_FILES = 0, 0, 1, 4
open_images(sys.argv[1], progress=lambda done, total: done == 119 and os.kill(os.getpid(), 9))
"""


def test_a_killed_build_goes_on_where_it_stopped(archive, monkeypatch, tmp_path):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(archive)], timeout=60,
                           env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert ended.returncode == -signal.SIGKILL
    done = []
    with monkeypatch.context() as noted:
        noted.setattr(build, "header_of", lambda *_: pytest.fail("what all are like was noted"))
        resumed = open_images(archive, progress=lambda k, n: done.append((k, n)))
    assert done[0][0] > 110 and done[-1] == (120, 120)
    assert [each.name for each in resumed.skipped] == ["a/118.png"]
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "another"))
    assert same(resumed, open_images(archive))
    assert not [*(tmp_path / "the-cache").glob(".*")]


def test_an_interrupted_build_waits_a_week(archive, monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "NOTE_EVERY", 0)
    monkeypatch.setattr(cache, "NOTE_SHARE", 0)

    def stop(done, total):
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_images(archive, progress=stop)
    (left,) = (tmp_path / "the-cache").glob(".*")
    with cache.building("another"):
        assert left.exists()
    os.utime(left, (0, 0))
    with cache.building("another"):
        assert not left.exists()


def test_a_failed_build_leaves_nothing(archive, tmp_path):
    with pytest.raises(DataError, match="118"):
        open_images(archive, on_bad="error")
    assert not [*(tmp_path / "the-cache").iterdir()]


def test_processes_and_threads_decode_alike(archive, monkeypatch, tmp_path):
    by_threads = open_images(archive)
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr(parallel, "WORTH_PROCESSES", 1)
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 2)
    assert same(by_threads, open_images(archive))



def test_workers_raise_what_the_work_raises_and_say_when_they_die():
    with Workers(1) as workers:
        assert workers.call(divmod, 7, 2) == (3, 1)
        with pytest.raises(UnreadableImage, match="it is empty") as raised:
            workers.call(read_image, Named("a.png", b""))
        assert (raised.value.reason, raised.value.name) == ("it is empty", "a.png")
        assert workers.call(print, "this is no answer") is None
        with pytest.raises(ReparamError, match=r"ended by itself \(exit code 3\)"):
            workers.call(os._exit, 3)
