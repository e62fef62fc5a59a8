"""A run's folder survives a kill, and a full disk, at any moment of any command that writes into it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from reparam.doctor.case import History
from reparam.errors import ReparamError
from reparam.metrics.figures import Figure
from reparam.pretrained.image_model import load
from reparam.runs import finish, measuring
from reparam.runs.comparison import compare as comparing
from reparam.runs.comparison.compare import Request, compare
from reparam.runs.evaluate import Evaluated
from reparam.runs.folder import Run
from reparam.runs.refit import refit
from reparam.runs.train import resume, train

SMALL = {"encoder": "mlp((8,))", "decoder": "mlp((8,))", "threads": 1, "precision": "float32"}


class Killed(BaseException):
    """The power goes."""


def full():
    return OSError(28, os.strerror(28))


def patched(patch):
    """What a model is measured and drawn by takes seconds; here its one figure says what model it is of."""
    def measured(model, *_, **__):
        return [Figure("fd", 1.0, "", 64, note=str(model.config.fitted_prior))]

    patch.setattr(finish, "evaluate_arrays", measured)
    for module in (comparing, measuring):
        patch.setattr(module, "measure_on_own", lambda run, model, *_, **__: Evaluated(
            tuple(measured(model)), "held-out", run.source, run.fingerprint, True, History()))
    patch.setattr(finish, "draw", lambda *_: None)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    patched(monkeypatch)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patched(patch)
        for name, latent in (("a", "flat(4)"), ("b", "flat(3)")):
            train("digits", out=folder / name, latent=latent, steps=3, fitted_prior="mixture(3)", device="cpu", **SMALL)
    return folder


COMMANDS = {
    "train": lambda f: train("digits", out=f / "new", latent="flat(4)", steps=3, fitted_prior="mixture(3)", device="cpu",
                             **SMALL),
    "resume": lambda f: resume(f / "a", steps=5, device="cpu"),
    "fit-prior": lambda f: refit(f / "a", "mixture(5)", device="cpu"),
    "evaluate": lambda f: measuring.evaluate(f / "a", metrics="fd", device="cpu"),
    "compare": lambda f: compare([f / "a", f / "b"], Request(metrics="fd", features="wavelets", n=64, again=True),
                                 device="cpu"),
}


def cut_short(monkeypatch, command, folder, k, error):
    """Whether a command, whose k-th rename fails, met its end there."""
    count, rename = itertools.count(), Path.replace

    def replace(self, target):
        if next(count) == k:
            raise error()
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with contextlib.suppress(Killed, ReparamError):
            COMMANDS[command](folder)
    return next(count) > k


def is_whole(folder):
    """The model in a folder can be used, and figures beside it are of it; returns what was fitted to its codes."""
    model = load(folder, device="cpu")
    assert model.sample(2, seed=0).shape == (2, 8, 8)
    fitted = model.config.fitted_prior
    evaluation = folder / "evaluation.json"
    if evaluation.exists():
        assert json.loads(evaluation.read_text())["metrics"][0]["note"] == str(fitted)
    return fitted


@pytest.mark.parametrize(("command", "error"), [
    ("train", Killed), ("resume", Killed), ("fit-prior", Killed), ("compare", Killed), ("evaluate", Killed),
    ("train", full), ("fit-prior", full)],
    ids=["train", "resume", "fit-prior", "compare", "evaluate", "train, disk full", "fit-prior, disk full"])
def test_a_run_goes_on_whenever_it_was_cut_short(command, error, runs, tmp_path, monkeypatch):
    for k in itertools.count():
        folder = tmp_path / str(k)
        shutil.copytree(runs, folder)
        if not cut_short(monkeypatch, command, folder, k, error):
            break
        assert not list(folder.rglob("*.tmp"))
        run = folder / ("new" if command == "train" else "a")
        if command != "train" or (run / "model.safetensors").exists():
            is_whole(run)
        if not (run / "run.json").exists():
            continue  # it had not begun
        if Run.read(run).status != "finished":
            resume(run, device="cpu")
        fitted = {"train": "mixture(3)", "resume": "mixture(3)", "fit-prior": "mixture(5)", "compare": "mixture(3)",
                  "evaluate": "mixture(3)"}
        assert is_whole(run) == (fitted[command] if command != "fit-prior" or k else "mixture(3)")
        refit(run, "mixture(2)", device="cpu")
        assert is_whole(run) == "mixture(2)" and Run.read(run).status == "finished"
        compare([run, folder / "b"], device="cpu")
    assert k >= 2


def test_all_files_of_a_run_can_be_read_by_those_whom_the_umask_lets(runs, tmp_path):
    before = os.umask(0o027)
    try:
        run = COMMANDS["train"](tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in run.folder.rglob("*") if path.is_file()}
    assert {"model.safetensors", "training.safetensors", "config.json", "metrics.jsonl"} <= modes.keys()
    assert set(modes.values()) == {0o640}


def test_a_model_of_before_is_loaded(runs, tmp_path):
    """Its weights carry no config, and its config says where the data lay."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(runs / "a", tmp_path / "a")
    weights = tmp_path / "a" / "model.safetensors"
    save_file(load_file(weights), weights, {"format": "pt"})
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config["data"] = {k: v for k, v in config["data"].items() if k != "name"} | {"source": "/somewhere/digits"}
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert is_whole(tmp_path / "a") == "mixture(3)"
    compare([tmp_path / "a", runs / "b"], device="cpu")
    assert is_whole(refit(tmp_path / "a", "mixture(4)", device="cpu").folder) == "mixture(4)"


def test_a_config_edited_by_hand_is_what_counts(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "a")
    path = tmp_path / "a" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": ["mine"]}))
    assert load(tmp_path / "a", device="cpu").config.classes == ("mine",)


def test_what_is_published_does_not_say_where_the_data_lay(tmp_path):
    import numpy as np

    place = tmp_path / "at-home"
    place.mkdir()
    np.save(place / "pictures.npy", np.random.default_rng(0).integers(0, 256, (64, 8, 8), np.uint8))
    run = train(place / "pictures.npy", out=tmp_path / "run", latent="flat(2)", steps=2, fitted_prior="none", device="cpu",
                **SMALL)
    told = {p.name for p in run.folder.rglob("*") if p.is_file() and b"at-home" in p.read_bytes()}
    assert told == {"run.json"}
    for name in ("config.json", "README.md"):
        assert "pictures.npy" in (run.folder / name).read_text()
    assert "reparam.load('<this folder>')" in (run.folder / "README.md").read_text()
    assert str(tmp_path) not in (run.folder / "README.md").read_text()
