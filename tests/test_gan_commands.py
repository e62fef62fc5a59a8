"""A GAN goes through the same commands as any model, and says clearly what it cannot do."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

SMALL = ["--preset", "dcgan", "--decoder", "dcgan(8)", "--critic", "dcgan(8)", "--latent", "flat(8)", "--steps", "30",
         "--threads", "1", "--precision", "float32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from reparam.cli.app import main

    patch = pytest.MonkeyPatch()
    patch.setenv("REPARAM_CACHE", str(tmp_path_factory.mktemp("cache")))
    out = tmp_path_factory.mktemp("runs") / "gan"
    assert main(["train", "digits", *SMALL, "--out", str(out), "--json"]) == 0
    yield out
    patch.undo()


def test_its_folder_has_all_but_reconstructions(folder):
    found = {p.name for p in folder.iterdir()}
    assert {"config.json", "model.safetensors", "report.html", "samples.png", "traversals.png", "curves.png"} <= found
    assert "reconstructions.png" not in found
    report, card = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "README.md"))
    assert "in the critic" in report
    assert card.startswith("---\nlibrary_name: reparam\ntags: [gan,")
    assert "A GAN of 8×8 images" in card and "model.encode" not in card


def test_training_leaves_the_critics_loss_and_a_curve(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(np.isfinite(r["critic"]) for r in records)
    curve = [r["held_out"] for r in records if "held_out" in r]
    assert curve and all(c.keys() == {"fd (wavelets)"} and c["fd (wavelets)"] > 0 for c in curve)


def test_its_verdict_rests_on_the_variety_of_its_samples(folder):
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    names = {m["name"] for m in evaluation["metrics"]}
    assert {"coverage", "duplicates", "recall", "sharpness"} <= names
    assert all(m["features"] == "wavelets" for m in evaluation["metrics"] if m["name"] in ("coverage", "duplicates"))
    assert not any("elbo" in n or "iw_nll" in n for n in names)


@pytest.mark.parametrize("command", [["sample", "-n", "4"], ["interpolate", "--steps", "5"],
                                     ["traverse", "--dims", "3", "--steps", "4"]], ids=lambda c: c[0])
def test_what_it_can_do(folder, command, tmp_path):
    from reparam.cli.app import main

    out = tmp_path / "x.npy"
    assert main([command[0], str(folder), *command[1:], "--out", str(out)]) == 0
    images = np.load(out)
    assert images.shape == ({"sample": 4, "interpolate": 5, "traverse": 12}[command[0]], 8, 8)
    assert images.dtype == np.uint8
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 1


def test_interpolation_begins_and_ends_at_two_draws(folder):
    import reparam

    model = reparam.load(folder)
    path = model.interpolate(steps=7, seed=3)
    assert np.array_equal(path, model.interpolate(steps=7, seed=3))
    assert not np.array_equal(path, model.interpolate(steps=7, seed=4))
    steps = np.abs(np.diff(path.astype(float), axis=0)).mean((1, 2))
    assert steps.max() < np.abs(path[0].astype(float) - path[-1]).mean()


@pytest.mark.parametrize("command", ["encode", "reconstruct", "interpolate"])
def test_what_it_cannot_do_it_says(folder, command, tmp_path, capsys):
    from reparam.cli.app import main

    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture)
    images = [str(picture)] * (2 if command == "interpolate" else 1)
    assert main([command, str(folder), *images]) == 2
    told = capsys.readouterr().err
    assert "a GAN has no encoder" in told and "--preset vae_gan" in told


def test_evaluate_measures_its_samples_and_refuses_a_likelihood(folder, capsys):
    from reparam.cli.app import main

    assert main(["evaluate", str(folder), "--features", "wavelets", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    figures = {m["name"]: m for m in answer["metrics"]}
    assert {"fd", "kd", "precision", "coverage", "vendi", "authenticity", "sharpness", "rollbacks"} <= figures.keys()
    assert not any(n.startswith(("-elbo", "iw_nll", "psnr", "fd of")) for n in figures)
    assert "160" in figures["fd"]["warning"]
    assert main(["evaluate", str(folder), "--metrics", "iw_nll(5)"]) == 2
    assert "a GAN has no encoder" in capsys.readouterr().err
