"""What is refused before anything is read or written: numbers that no training takes, ends that lie behind."""

from __future__ import annotations

import math
import os
import signal

import numpy as np
import pytest
import torch

from reparam.cli.app import main
from reparam.errors import DataError, UsageError
from reparam.parts.recipe import MOST_SEED, Recipe
from reparam.runs.train import resume, train
from reparam.trainer.assembly import Assembly

SMALL = {"threads": 1, "precision": "float32", "encoder": "mlp((16,))", "decoder": "mlp((16,))", "latent": "flat(3)",
         "fitted_prior": "none", "steps": 4, "batch_size": 16}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("flags, said", [
    ("--optimizer adam(lr=abc)", "'abc'"), ("--optimizer adam(lr=0.0)", "lr must be above 0; got 0.0"),
    ("--optimizer adamax(lr=-1)", "above 0; got -1"), ("--optimizer adam(betas=(0.9,))", "betas must be 2 numbers"),
    ("--optimizer adamw(betas=(0.9,1.0))", "below 1"), ("--optimizer adamw(weight_decay=-1.0)", "weight_decay"),
    ("--critic-optimizer adam(lr=-2.0)", "above 0; got -2"), ("--schedule cosine(floor=-1)", "floor"),
    ("--schedule linear(warmup=1.5)", "warmup"), ("--schedule cosin", "cosine"), ("--penalty 3*r9", "r1"),
    ("--penalty=-3*r1", "at least 0"), ("--game nonsaturate", "nonsaturating"), ("--critic cnv", "conv"),
    ("--augment crop(-1)", "crop"), ("--critic-augment cutout(7.0)", "share"),
    ("--objective nll+linear(0,1%s)*kl" % ("0" * 400), "not finite"),
    ("--seed -1", "from 0 to"), (f"--seed {MOST_SEED + 1}", "from 0 to"), ("--threads 4096", "processor"),
    ("--threads -1", "at least 0"), ("--steps 0", "above 0"), ("--epochs nan", "finite"), ("--epochs -0.5", "above 0"),
    ("--minutes inf", "finite"), ("--minutes 1e400", "finite"), ("--batch-size -1", "at least 0"),
    ("--ema 1.0", "below 1"),
    ("--ema -0.1", "at least 0"), ("--clip nan", "finite"), ("--clip inf", "finite"), ("--prior-share 1.5", "share"),
    ("--refiner-share -inf", "finite"), ("--resampler-share 0", "above 0"), ("--labelled 0", "above 0"),
])
def test_wrong_numbers_are_told_before_anything_is_read(here, capsys, flags, said, monkeypatch):
    monkeypatch.setattr("reparam.runs.folder.open_images", lambda *_, **__: pytest.fail("the data were read"))
    assert main(["train", "digits", *flags.split()]) == 2
    assert said in capsys.readouterr().err
    assert not list(here.iterdir())


@pytest.mark.parametrize("changes, said", [
    ({"steps": 2.5}, "whole number"), ({"steps": "7"}, "whole number; got '7'"), ({"batch_size": True}, "whole number"),
    ({"minutes": "ten"}, "is a number"), ({"encoder": 3}, "text"), ({"binarize": 1}, "True or False"),
    ({"ema": None}, "ema"),
    ({"steps": 10**400}, "finite")])
def test_values_of_another_kind_are_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        Recipe(**changes)


def test_numpys_numbers_are_numbers():
    made = Recipe(steps=np.int64(3), minutes=np.float32(0.5), epochs=2, seed=np.uint8(7), binarize=np.True_)
    kinds = [type(v) for v in (made.steps, made.minutes, made.epochs, made.seed, made.binarize)]
    assert kinds == [int, float, int, int, bool]
    assert made == Recipe(steps=3, minutes=0.5, epochs=2, seed=7, binarize=True)


def test_as_many_threads_as_processors_are_taken(here):
    most = len(os.sched_getaffinity(0))
    assert train("digits", out="run", **{**SMALL, "threads": most}).threads == most
    with pytest.raises(UsageError, match=f"threads={most + 1}"):
        train("digits", out="another", **{**SMALL, "threads": most + 1})


def test_what_only_the_data_tell_leaves_no_folder(here, monkeypatch):
    np.save("plain.npy", np.zeros((40, 8, 8), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None])
    with pytest.raises(DataError, match="needs labels"):
        train("plain.npy", **{**SMALL, "latent": "conditional(3, 10)"})
    with pytest.raises(UsageError, match="10 classes"):
        train("digits", **{**SMALL, "latent": "conditional(3, 4)"})

    def refused(*_, **__):
        raise UsageError("in the last moment")

    monkeypatch.setattr("reparam.trainer.assembly.training", refused)
    with pytest.raises(UsageError, match="last moment"):
        train("digits", **SMALL)
    assert [p.name for p in here.iterdir()] == ["plain.npy"]


@pytest.mark.parametrize("changes", [
    {}, {"posterior": "vq(16)", "prior": "autoregressive", "encoder": "conv(4)", "decoder": "conv(4)",
         "latent": "spatial(3, 2)", "objective": "nll + kl + commitment"}], ids=["plain", "vq"])
def test_checking_changes_neither_weights_nor_random_numbers(changes):
    """Not even what a forward pass in training writes, such as a codebook."""
    assembly = Assembly(Recipe(**(SMALL | changes)), (1, 8, 8))
    before, random = {k: v.clone() for k, v in assembly.model.state_dict().items()}, torch.get_rng_state()
    assert assembly.check() is assembly and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, before[k]) for k, v in assembly.model.state_dict().items())


@pytest.mark.parametrize("data, out", [
    (".", None), (".", "run"), ("../work", "deep/er/run"), ("../link", None), (".", "../link/run"), (".", "."),
    ("sub", "sub/run"), ("sub", "../work/sub/../sub/run")])
def test_a_run_never_lies_among_its_images(here, capsys, data, out):
    (here / "sub").mkdir()
    (here.parent / "link").symlink_to(here, target_is_directory=True)
    assert main(["train", data, "--steps", "3", *(["--out", out] if out else [])]) == 2
    assert "--out" in capsys.readouterr().err
    assert [p.name for p in here.rglob("*")] == ["sub"]


def test_the_advice_for_a_run_among_its_images_is_a_folder_outside(here, monkeypatch):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(here / f"{i}.png")
    with pytest.raises(UsageError, match="--out ") as e:
        train(".", **SMALL)
    run = train(".", out=str(e.value).rsplit("--out ", 1)[1], **SMALL)
    assert run.status == "finished" and run.folder == here.parent / "runs" / "work"
    assert train(".", out="../work-2", **SMALL).status == "finished"  # a sibling whose name begins alike
    assert len(list(here.iterdir())) == 40


# Ends that lie behind


@pytest.fixture
def stopped(here):
    """A run that an interruption ended at step 30 of 400."""
    from reparam.progress import Silent

    class Interrupting(Silent):
        def step(self, fraction, line):
            if fraction == 30 / 400:
                signal.raise_signal(signal.SIGINT)

    return train("digits", out="run", report=Interrupting(), **{**SMALL, "steps": 400}).folder


def test_an_end_that_lies_behind_is_refused(stopped):
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    for budget, said in (({"steps": 29}, "stands at 30 steps"), ({"epochs": 0.1}, "stands at .* epochs"),
                         ({"minutes": 1e-9}, "stands at .* minutes"), ({"steps": math.nan}, "whole number")):
        with pytest.raises(UsageError, match=said):
            resume(stopped, **budget)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before
    assert resume(stopped, steps=31).facts["outcome"]["steps"] == 31


def test_a_run_of_a_larger_machine_goes_on(stopped, monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr("reparam.runs.train.cores", lambda: 0)
    resume(stopped, steps=31)
    assert asked[0] == 0  # no more than there are


# The other commands


@pytest.mark.parametrize("arguments", [
    ("demo", "--minutes", "nan"), ("demo", "--minutes", "-1"), ("fit-prior", "run", "--minutes", "inf"),
    ("fit-prior", "run", "--steps", "-3"), ("compare", "--presets", "vae,dcgan", "--data", "digits", "--minutes", "nan"),
    ("compare", "--presets", "vae,dcgan", "--data", "digits", "--threads", "4096")])
def test_other_commands_refuse_alike(here, capsys, arguments):
    (here / "runs" / "demo").mkdir(parents=True)
    (here / "runs" / "demo" / "run.json").write_text("the last demo")
    assert main(list(arguments)) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert [p.name for p in here.rglob("*")] == ["runs", "demo", "run.json"]
