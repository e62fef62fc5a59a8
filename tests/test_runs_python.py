"""Python has what the commands have: arrays trained on, models of one's own loop kept, priors fitted, runs compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import reparam
from reparam.cli.app import main
from reparam.errors import DataError, UsageError
from reparam.models.sampler import Sampler

SMALL = {"threads": 1, "precision": "float32", "encoder": "mlp((16,))", "decoder": "mlp((16,))", "latent": "flat(3)",
         "fitted_prior": "none", "batch_size": 16}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)


def test_an_array_trains_as_its_file_would(x, tmp_path):
    np.save("x.npy", x)
    run, other = reparam.train(x, steps=3, **SMALL), reparam.train("x.npy", steps=3, **SMALL)
    assert run.folder.as_posix() == "runs/array" and run.source == "array" and run.fingerprint == other.fingerprint
    ours, theirs = (reparam.load(each.folder, device="cpu").network.state_dict() for each in (run, other))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    floats = reparam.train(x[:, None].astype(np.float32) / 255, out="floats", steps=3, **SMALL)
    assert floats.fingerprint == run.fingerprint


def test_a_run_on_an_array_goes_on_with_the_array_alone(x, capsys):
    run = reparam.train(x, steps=3, labels=np.arange(60) % 2, **SMALL)
    with pytest.raises(UsageError, match="data=array"):
        reparam.resume(run.folder, steps=5)
    with pytest.raises(DataError, match="other images"):
        reparam.resume(run.folder, data=x[::-1], labels=np.arange(60) % 2, steps=5)
    assert reparam.resume(run.folder, data=x, labels=np.arange(60) % 2, steps=5).facts["outcome"]["steps"] == 5
    assert main(["train", "--resume", str(run.folder), "--steps", "9"]) == 2
    assert main(["evaluate", str(run.folder)]) == 1
    assert "trained on an array in memory" in capsys.readouterr().err
    with pytest.raises(UsageError, match="leave the array out"):
        reparam.resume(reparam.train("digits", steps=2, **SMALL).folder, data=x, steps=5)


@pytest.mark.parametrize("data", [[1, 2], None, torch.zeros(20, 8, 8), ["a.png"], ""])
def test_what_is_no_data_is_told(data, tmp_path):
    with pytest.raises(UsageError, match=r"name the data: .* or an array"):
        reparam.train(data, **SMALL)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def mine(x):
    """A model from a loop of one's own, and its state."""
    recipe = reparam.Recipe(**SMALL)
    model = reparam.build_model(recipe, (1, 8, 8))
    batch = torch.from_numpy(x[:32, None].astype(np.float32) / 255)
    task = reparam.ModelTask(model, reparam.build_objective(recipe))
    for state in reparam.training(task, [batch], reparam.Budget(steps=5)):
        pass
    return state.ema


def test_a_model_of_ones_own_loop_is_kept_loaded_and_measured(mine, x):
    saved = reparam.save(mine, "mine", images=x)
    loaded = reparam.load("mine", device="cpu")
    assert np.array_equal(loaded.encode(x), saved.encode(x)) and loaded.config == saved.config
    assert np.allclose(loaded.encode(x), reparam.ImageModel(Sampler(mine), saved.config).encode(x))
    assert len(loaded.config.axes) == 3 and loaded.traverse(steps=2).shape == (3, 2, 8, 8)
    assert reparam.evaluate("mine", x, metrics="psnr")["psnr"].n == 60
    residual = torch.from_numpy(x[:, None] / 255.0).float() - loaded.decode_pixels(loaded.encode_pixels(
        torch.from_numpy(x[:, None] / 255.0).float(), sample=True))
    assert float(loaded.vae.likelihood.log_scale.exp()) == pytest.approx(float(residual.square().mean().sqrt()), rel=0.05)


def test_what_cannot_be_kept_is_told(mine, x):
    mine.recipe = None
    with pytest.raises(UsageError, match="build_model"):
        reparam.save(mine, "mine")
    run = reparam.train(x, steps=2, **SMALL)
    with pytest.raises(UsageError, match="holds a run"):
        reparam.save(reparam.load(run.folder, device="cpu"), run.folder)


def test_a_prior_is_fitted_to_a_model_without_its_run(mine, x, capsys):
    np.save("x.npy", x)
    reparam.save(mine, "mine", images=x)
    assert main(["fit-prior", "mine", "--prior", "mixture(2)"]) == 2
    assert "name images" in capsys.readouterr().err
    assert main(["fit-prior", "mine", "x.npy", "--prior", "mixture(2)", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prior"] == "mixture(2)" == reparam.load("mine").config.fitted_prior
    fitted = reparam.fit_prior(reparam.load("mine", device="cpu"), "mixture(3)", x)
    assert fitted.config.fitted_prior == "mixture(3)" and fitted.sample(2).shape == (2, 8, 8)
    assert reparam.load("mine").config.fitted_prior == "mixture(2)"


def test_a_prior_is_fitted_to_a_run_on_an_array(x):
    run = reparam.train(x, steps=2, **SMALL)
    with pytest.raises(UsageError, match="data=array"):
        reparam.fit_prior(run, "mixture(2)")
    assert reparam.fit_prior(run, "mixture(2)", x).config.fitted_prior == "mixture(2)"


def test_runs_are_compared_from_python(x, tmp_path):
    np.save("x.npy", x)
    folders = [reparam.train("x.npy", out=f"run-{d}", steps=2, **{**SMALL, "latent": f"flat({d})"}).folder for d in (2, 3)]
    facts = reparam.compare(folders, metrics="psnr", out="page")
    assert {"psnr", "psnr of the average image"} <= {f["name"] for f in facts["figures"]}
    assert len(facts["models"]) == 2
    assert json.loads((tmp_path / "page" / "comparison.json").read_text()) == json.loads(json.dumps(facts))


def test_every_public_name_is_there():
    assert all(callable(getattr(reparam, name)) or name in ("Batch", "PRESETS") for name in reparam.__all__)


def test_stages_of_a_run_see_only_the_labels_that_training_may_see(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("reparam.runs.finish.fit_stages", lambda _, __, data, *___, **____: seen.append(data.y) or {})
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    reparam.train(x, labels=np.arange(60) % 3, preset="mlp", labelled=9, steps=1, out=tmp_path / "run", latent="flat(2)")
    assert int((seen[0] >= 0).sum()) == 9
