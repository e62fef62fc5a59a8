"""The command `decode`: codes from files and from the command line become the images that the model makes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import reparam
from reparam.cli import main


@pytest.fixture(scope="module")
def run(explorable):
    return explorable()


@pytest.fixture
def model(run):
    return reparam.load(run, device="cpu")


def decoded(run, *words):
    assert main(["decode", str(run), *words, "--out", "images.npy", "--device", "cpu"]) == 0
    return np.load("images.npy")


@pytest.mark.parametrize("form", ["npz", "csv", "npy"])
def test_codes_of_encode_are_decoded(run, model, form, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = reparam.open_images("digits").images[:6]
    np.save("six.npy", images)
    if form == "npy":
        np.save("codes.npy", model.encode(images))
    else:
        assert main(["encode", str(run), "six.npy", "--out", f"codes.{form}", "--device", "cpu"]) == 0
    apart = decoded(run, f"codes.{form}").astype(int) - model.reconstruct(images)[..., 0]
    assert np.abs(apart).max() <= 1


def test_codes_are_named_on_the_command_line_and_walked_through(run, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    codes = np.array([[-1, 0.5, 0, 2], [1, 0, -0.25, 0], [0, 0, 1, 1]], np.float32)
    given = [f"--code={','.join(map(str, code))}" for code in codes.tolist()]
    np.testing.assert_array_equal(decoded(run, *given), model.decode(codes))
    np.testing.assert_array_equal(decoded(run, "--code", "-1,0.5,0,2"), model.decode(codes[:1]))
    walked = decoded(run, *given, "--steps", "9")
    np.testing.assert_array_equal(walked[[0, 4, 8]], model.decode(codes))
    np.testing.assert_array_equal(walked[:5], model.decode(np.stack([
        model.between(torch.from_numpy(codes[:2]), t).numpy() for t in np.linspace(0, 1, 5).tolist()])))
    shortest = decoded(run, *given, "--steps", "9", "--geodesic")
    np.testing.assert_allclose(shortest[[0, 4, 8]].astype(int), model.decode(codes), atol=1)
    assert main(["decode", str(run), *given, "--out", "three/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"out": "three/", "n": 3}
    assert len(list((tmp_path / "three").iterdir())) == 3


@pytest.mark.parametrize(("words", "said"), [
    ([], "name a file of codes"), (["codes.npy", "--code=1,2,3,4"], "name a file of codes"),
    (["--code=1,2"], "has 4 numbers"), (["--code=a,b"], "takes numbers"),
    (["--code=1,2,3,4", "--geodesic"], "--steps"), (["codes.txt"], ".npz"),
    (["--code=1,2,3,4", "--steps", "5"], "two codes"), (["none.npy"], "no file"), (["images.npy"], "holds no codes"),
    (["nan.npy"], "NaN")])
def test_what_cannot_be_decoded_is_told(run, words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("codes.npy", np.zeros((2, 4)))
    np.save("images.npy", np.zeros((2, 3)))
    np.save("nan.npy", np.full((2, 4), np.nan))
    assert main(["decode", str(run), *words, "--device", "cpu"]) in (1, 2)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "decoded.png").exists()
