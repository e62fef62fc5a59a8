"""Runs: what a folder holds, and that an interruption, a kill or a damaged file costs nothing but time."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

SMALL = {"threads": 1, "precision": "float32", "encoder": "mlp((32,))", "decoder": "mlp((32,))", "latent": "flat(4)",
         "fitted_prior": "mixture(3)"}
FILES = ["README.md", "config.json", "curves.png", "evaluation.json", "metrics.jsonl", "model.safetensors",
         "reconstructions.png", "report.html", "run.json", "samples.png", "skipped.json", "state", "traversals.png"]
EAGER = """
import sys
import reparam.runs.train
from reparam.cli import main
reparam.runs.train.SAVE_EVERY = 0.02
sys.exit(main(sys.argv[1:]))
"""
"""The `reparam` program, except that it saves its state after nearly every step."""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path_factory.mktemp("cache")))


def train(data, out, **changes):
    from reparam.runs import train as run

    return run.train(data, out=out, **{**SMALL, "steps": 40, **changes})


def resume(folder, **budget):
    from reparam.runs import train as run

    return run.resume(folder, **budget)


def interrupted(data, out, *, at, **changes):
    """A run that Ctrl-C reached during the steps `at`."""
    from reparam.progress import Silent

    class Interrupting(Silent):
        taken = 0

        def step(self, fraction, line):
            self.taken += 1
            for _ in range(at.count(self.taken)):
                signal.raise_signal(signal.SIGINT)

    return train(data, out, report=Interrupting(), **changes)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def steps_of(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def written(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of 40 steps on the digits. Nobody writes to it."""
    return train("digits", tmp_path_factory.mktemp("trained") / "digits")


@pytest.fixture
def noise(tmp_path):
    """How to write an .npy of 300 images, 8×8."""
    path = tmp_path / "noise.npy"

    def write(seed=0):
        np.save(path, np.random.default_rng(seed).integers(0, 256, (300, 8, 8), np.uint8))
        return path

    return write


# What a run leaves


def test_a_finished_run_holds_its_files_and_nothing_else(trained):
    assert sorted(p.name for p in trained.folder.iterdir()) == FILES
    assert sorted(p.name for p in (trained.folder / "state").iterdir()) == ["held_out.npy", "training.safetensors"]
    assert trained.status == "finished" == written(trained.folder)["status"]
    assert trained.facts["outcome"]["steps"] == 40
    assert trained.facts["outcome"]["images_seen"] == 40 * 128
    for name in FILES:
        if name.endswith(".png"):
            with Image.open(trained.folder / name) as picture:
                picture.load()


def test_what_is_read_back_is_what_was_written(trained):
    from reparam.runs.folder import Run

    assert Run.read(trained.folder) == trained


def test_training_is_offered_by_the_package_after_modules_were_imported(trained):
    import reparam

    assert all(callable(getattr(reparam, name)) for name in ("train", "resume", "load", "training"))


def test_sigma_is_the_residual_of_reconstructions(trained):
    from reparam.data.open import open_images
    from reparam.data.stream import to_batch
    from reparam.pretrained import image_model as generate

    model = generate.load(trained.folder, device="cpu")
    images = open_images("digits")
    x = to_batch(images.images[images.split()[0]])
    torch.manual_seed(5)
    residual = x - model.decode_pixels(model.encode_pixels(x, sample=True))
    sigma = float(model.vae.likelihood.log_scale.exp())
    assert sigma == pytest.approx(float(residual.square().mean().sqrt()), rel=0.02)


def test_epochs_give_the_number_of_steps(tmp_path):
    run = train("digits", tmp_path / "run", steps=None, epochs=1.3, batch_size=100, fitted_prior="none")
    assert run.facts["outcome"]["steps"] == math.ceil(1.3 * run.facts["training"] / 100)


def test_the_earlier_of_two_ends_counts(noise, tmp_path):
    run = train(noise(), tmp_path / "run", steps=3, epochs=100.0, fitted_prior="none")
    assert run.facts["outcome"]["steps"] == 3


def test_files_left_out_are_listed(tmp_path):
    (tmp_path / "data").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 8, 8), np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "data" / f"{i:03}.png")
    (tmp_path / "data" / "broken.png").write_bytes(b"not a picture")
    run = train(tmp_path / "data", tmp_path / "run", steps=2, fitted_prior="none")
    (skipped,) = json.loads((run.folder / "skipped.json").read_text())
    assert skipped["name"] == "broken.png"
    assert "PNG" in skipped["reason"]
    assert run.facts["images"] == 300


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    from reparam.errors import UsageError

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        train("digits", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


# Interrupted and resumed


def test_an_interrupted_run_is_usable_and_ends_as_if_undisturbed(trained, tmp_path):
    from reparam.pretrained import image_model as generate

    handler = signal.getsignal(signal.SIGINT)
    run = interrupted("digits", tmp_path / "run", at=[13])
    assert signal.getsignal(signal.SIGINT) is handler
    assert run.status == "interrupted" == written(run.folder)["status"]
    assert run.facts["outcome"]["steps"] == 13
    assert sorted(p.name for p in run.folder.iterdir()) == FILES
    assert generate.load(run.folder, device="cpu").sample(3).shape == (3, 8, 8)
    assert weights(run.folder) != weights(trained.folder)

    again = resume(run.folder)
    assert again.status == "finished" == written(run.folder)["status"]
    assert again.facts["outcome"]["steps"] == 40
    assert weights(run.folder) == weights(trained.folder)


def test_a_second_interrupt_leaves_at_once(trained, tmp_path):
    around = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner may ignore interrupts
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted("digits", tmp_path / "run", at=[7, 7])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, around)
    assert written(tmp_path / "run")["status"] == "training"
    resume(tmp_path / "run")
    assert weights(tmp_path / "run") == weights(trained.folder)


def test_a_killed_run_ends_as_if_undisturbed(tmp_path):
    steps = 1200
    flags = [part for name, value in {**SMALL, "steps": steps}.items()
             for part in (f"--{name.replace('_', '-')}", str(value))]
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", EAGER, "train", "digits", "--out", str(folder), "--json", *flags],
                               env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (folder / "metrics.jsonl").exists() and len(steps_of_whole_lines(folder)) > 100:
                break
            time.sleep(0.005)
        alive = process.poll() is None
    finally:
        process.kill()
        _, said = process.communicate()
    assert alive, said.decode()
    assert process.returncode == -signal.SIGKILL
    assert written(folder)["status"] == "training"
    assert not (folder / "model.safetensors").exists()

    from reparam.trainer.state_file import load_state

    assert 0 < load_state(folder / "state" / "training.safetensors")[1]["step"] < steps
    resume(folder)
    undisturbed = train("digits", tmp_path / "undisturbed", steps=steps)
    assert weights(folder) == weights(undisturbed.folder)
    steps_written = steps_of(folder)
    assert steps_written == sorted(set(steps_written))
    assert steps_written[-1] == steps


def steps_of_whole_lines(folder):
    return [line for line in (folder / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]


def test_steps_only_grow_after_a_kill_in_the_middle_of_a_line(tmp_path):
    run = interrupted("digits", tmp_path / "run", at=[13])
    with (run.folder / "metrics.jsonl").open("a") as f:  # what a kill leaves: steps after the last state, and half a line
        last = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
        f.write(json.dumps({**last, "step": 14}) + "\n" + json.dumps({**last, "step": 15})[:30])
    resume(run.folder)
    steps = steps_of(run.folder)
    assert steps == sorted(set(steps))
    assert steps[-1] == 40
    assert {13, 14, 15} <= set(steps)


def test_data_that_changed_are_refused(noise, tmp_path):
    from reparam.errors import DataError

    run = interrupted(noise(), tmp_path / "run", at=[2], fitted_prior="none")
    before = weights(run.folder), written(run.folder)
    noise(seed=1)
    with pytest.raises(DataError, match=r"noise\.npy changed since this run began"):
        resume(run.folder)
    assert (weights(run.folder), written(run.folder)) == before
    (tmp_path / "noise.npy").unlink()
    with pytest.raises(DataError, match="no such folder or file"):
        resume(run.folder)


def test_a_finished_run_goes_on_only_with_a_later_end(noise, tmp_path):
    from reparam.errors import UsageError

    run = train(noise(), tmp_path / "run", steps=5, fitted_prior="none")
    before = weights(run.folder)
    with pytest.raises(UsageError, match=r"is finished.*--steps"):
        resume(run.folder)
    with pytest.raises(UsageError, match="only steps, epochs and minutes may change, not prior"):
        resume(run.folder, prior="vamp")
    assert weights(run.folder) == before
    longer = resume(run.folder, steps=9)
    assert longer.status == "finished"
    assert longer.facts["outcome"]["steps"] == 9
    assert longer.recipe.steps == 9 == written(run.folder)["recipe"]["steps"]
    assert steps_of(run.folder) == [*range(1, 10)]
    assert weights(run.folder) != before


@pytest.mark.parametrize("damage", [
    lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\0" * len(b), lambda b: b"{}" + b,
    lambda b: b.replace(b"reparam", b"reparan", 1), lambda b: b.replace(b'"model.', b'"modem.', 1),
    lambda b: b.replace(b'\\"step\\"', b'\\"stop\\"', 1),
], ids=["truncated", "empty", "zeros", "shifted", "another program's", "a tensor renamed", "a number renamed"])
def test_a_damaged_state_is_told(damage, noise, tmp_path):
    from reparam.errors import ModelFileError

    run = interrupted(noise(), tmp_path / "run", at=[2], fitted_prior="none")
    state = run.folder / "state" / "training.safetensors"
    damaged = damage(state.read_bytes())
    assert damaged != state.read_bytes()
    state.write_bytes(damaged)
    with pytest.raises(ModelFileError, match=r"state.*remove .* again from its beginning"):
        resume(run.folder)
    assert state.read_bytes() == damaged


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"options": 3}'])
def test_a_damaged_run_file_is_told(text, tmp_path):
    from reparam.errors import ModelFileError

    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"run\.json cannot be read"):
        resume(tmp_path)


def test_no_run_is_told(tmp_path):
    from reparam.errors import ModelFileError

    with pytest.raises(ModelFileError, match=r"no run in .*it has no run\.json"):
        resume(tmp_path)
    assert not [*tmp_path.iterdir()]


# A full disk


def test_a_full_disk_in_the_middle_costs_nothing(trained, tmp_path, monkeypatch):
    """The state that was saved last stays whole, and the run goes on from it once there is space."""
    from reparam.errors import ReparamError
    from reparam.files import writing as files
    from reparam.runs import train as run

    monkeypatch.setattr(run, "SAVE_EVERY", 0.0)
    left = [6]

    def fsync(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(ReparamError, match=r"No space left on device\. Nothing was lost"):
            train("digits", tmp_path / "run")
    assert not [p for p in (tmp_path / "run").rglob("*") if p.name.endswith(".tmp")]
    resume(tmp_path / "run")
    assert weights(tmp_path / "run") == weights(trained.folder)
