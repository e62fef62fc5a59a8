"""Training that starts from the weights of another model."""

import json

import numpy as np
import pytest
import torch

from reparam.errors import ModelFileError, UsageError
from reparam.pretrained.files import load_model
from reparam.runs.train import resume, train
from reparam.trainer.assembly import Assembly

SMALL = {"threads": 1, "precision": "float32", "encoder": "mlp((16,))", "decoder": "mlp((16,))", "latent": "flat(3)",
         "fitted_prior": "mixture(2)", "steps": 4, "batch_size": 16}
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return train(IMAGES, out=tmp_path_factory.mktemp("init") / "source", device="cpu", **SMALL).folder


def test_a_run_starts_from_the_weights_and_not_from_what_was_fitted_after_them(source, tmp_path, monkeypatch):
    started = {}
    training = Assembly.training

    def spied(assembly, *arguments, **options):
        started.update({k: v.clone() for k, v in assembly.model.state_dict().items()})
        return training(assembly, *arguments, **options)

    monkeypatch.setattr(Assembly, "training", spied)
    run = train(IMAGES[:40], out=tmp_path / "run", device="cpu", init=source,
                **SMALL | {"objective": "nll + 4*kl", "optimizer": "adam(lr=1e-3)", "fitted_prior": "none", "seed": 5})
    sampler = load_model(source)[0]
    weights = sampler.model.state_dict()
    assert started and all(torch.equal(v, weights[k]) for k, v in started.items())
    assert weights.keys() == started.keys() and sampler.fitted_prior is not None
    assert load_model(run.folder)[0].fitted_prior is None
    init = json.loads((run.folder / "run.json").read_text())["facts"]["init"]
    assert init["name"] == "source" and init["path"] == str(source) and len(init["fingerprint"]) == 16
    for page in ("README.md", "report.html"):
        text = (run.folder / page).read_text(encoding="utf-8")
        assert "started from" in text and init["fingerprint"] in text and str(source) not in text
    monkeypatch.delattr("reparam.runs.train.start_from")  # the state has the weights: those of init are not read again
    again = resume(run.folder, data=IMAGES[:40], device="cpu", steps=6)
    assert again.facts["outcome"]["steps"] == 6 and again.facts["init"] == init


@pytest.mark.parametrize("changes, told", [
    ({"encoder": "mlp((8,))"}, "encoder='mlp\\(\\(16,\\)\\)'"), ({"latent": "flat(4)"}, "latent="),
    ({"encoder": "none", "likelihood": "implicit", "objective": "adversarial", "adversary": "images"}, "GAN")])
def test_another_architecture_is_refused(source, tmp_path, changes, told):
    with pytest.raises(UsageError, match=told):
        train(IMAGES, out=tmp_path / "run", device="cpu", init=source, **SMALL | changes)
    assert not (tmp_path / "run").exists()


def test_images_of_another_size_are_refused(source, tmp_path):
    with pytest.raises(UsageError, match="8×8 with 1 channel, and the data are 12×12"):
        train(np.tile(IMAGES, (1, 2, 2))[:, :12, :12], out=tmp_path / "run", device="cpu", init=source, **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", [True, False])
def test_a_missing_or_damaged_model_is_refused(source, tmp_path, missing):
    if not missing:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_bytes((source / "config.json").read_bytes())
        (tmp_path / "model" / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(ModelFileError, match="no model in" if missing else "cannot be read"):
        train(IMAGES, out=tmp_path / "run", device="cpu", init=tmp_path / "model", **SMALL)
    assert not (tmp_path / "run").exists()
