"""Labels of several columns: a model trains without them, and every command that measures scores latents against them."""

import json

import numpy as np
import pytest

import reparam
from reparam.cli.app import main as command
from reparam.runs.measuring import compare, evaluate
from reparam.runs.train import train

SMALL = {"threads": 1, "precision": "float32", "encoder": "mlp((16,))", "decoder": "mlp((16,))", "latent": "flat(3)",
         "fitted_prior": "none", "steps": 20, "batch_size": 32}
N = 300


def drawn():
    """Bars whose height and brightness are known."""
    height, light = np.arange(2 * N) % 4, np.arange(2 * N) // 4 % 3
    images = np.zeros((2 * N, 8, 8), np.uint8)
    for image, h, b in zip(images, height, light, strict=True):
        image[:, : 2 * h + 2] = 80 * b + 60
    noise = np.random.default_rng(0).integers(0, 20, images.shape)
    return (images + noise).astype(np.uint8), np.stack([height, light], 1)


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    images, labels = drawn()
    np.savez(folder / "bars.npz", train_images=images[:N], train_labels=labels[:N], test_images=images[N:],
             test_labels=labels[N:], factor_names=["height", "light"])
    for dim in (3, 2):
        train(folder / "bars.npz", out=folder / f"run{dim}", **SMALL | {"latent": f"flat({dim})"})
    return folder


def test_a_run_says_which_factors_its_images_have(bars):
    run = json.loads((bars / "run3" / "run.json").read_text(encoding="utf-8"))
    assert run["facts"]["factors"] == ["height", "light"] and run["facts"]["classes"] == []
    assert any("labels of 2 columns (height, light)" in note for note in run["facts"]["notes"])
    assert reparam.load(bars / "run3").config.data["factors"] == ("height", "light")


def test_evaluate_scores_latents_against_the_datas_own_factors(bars, capsys):
    assert command(["evaluate", str(bars / "run3"), "--metrics", "factors", "--json"]) == 0
    figures = {f["name"]: f for f in json.loads(capsys.readouterr().out)["metrics"]}
    assert figures["mig"]["n"] == N and "over height, light" in json.dumps(figures["mig"])
    images, labels = drawn()
    model = reparam.load(bars / "run3")
    held = evaluate(model, images[N:], labels=labels[N:], metrics="factors")
    assert held["mig"].value == pytest.approx(figures["mig"]["value"])
    names = "\n".join(f"{i},{a},{b}" for i, (a, b) in enumerate(labels))
    (bars / "factors.csv").write_text(f"name,height,light\n{names}\n", encoding="utf-8")
    table = evaluate(bars / "run3", metrics="factors", factors=str(bars / "factors.csv"))
    assert table["mig"].value == pytest.approx(figures["mig"]["value"])


def test_compare_sets_the_scores_side_by_side(bars):
    found = compare([bars / "run3", bars / "run2"], metrics="factors, psnr")
    assert "mig" in json.dumps(found)


def test_scores_that_the_images_do_not_allow_are_left_out(bars, monkeypatch):
    for module in ("reparam.metrics", "reparam.runs.evaluate"):
        monkeypatch.setattr(f"{module}.STANDARD", "psnr, factors")  # what is standard is left out, not refused
    images, labels = drawn()
    model = reparam.load(bars / "run3")
    few = evaluate(model, images[:100], labels=labels[:100], metrics=None)
    constant = evaluate(model, images[:N], labels=np.zeros((N, 2)), metrics=None)
    for found in (few, constant):
        assert not found.failures and "mig" not in [f.name for f in found.figures]
