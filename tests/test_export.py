"""Models as ONNX files: the numbers are PyTorch's, for any number of rows, and what cannot go is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import reparam
from reparam.cli.app import main
from reparam.errors import ReparamError, UsageError
from reparam.exporters import onnx as exporter
from reparam.exporters.onnx import difference, export_onnx, onnx_bytes
from reparam.exporters.programs import programs

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Digits, black and white, with a mixture fitted to the codes."""
    folder = tmp_path_factory.mktemp("export") / "run"
    reparam.train("digits", steps=30, encoder="mlp((32,))", decoder="mlp((32,))", latent="flat(4)", likelihood="bernoulli",
                  binarize=True, threads=1, out=folder, fitted_prior="mixture(3)")
    return reparam.load(folder, device="cpu"), folder


def ran(path, **inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(x, np.float32) for name, x in inputs.items()})[0]


def test_files_give_what_the_model_gives(model, tmp_path):
    m, _ = model
    written = export_onnx(m, tmp_path)
    assert [each.path.name for each in written] == ["encoder.onnx", "decoder.onnx", "prior.onnx"]
    assert all(each.apart < 1e-4 and each.bytes == each.path.stat().st_size for each in written)
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["image"] == [1, 8, 8] and told["latent"] == [4] and told["noise"] == 5
    for n in (1, 7):
        images = reparam.open_images("digits").images[:n]
        codes = ran(tmp_path / "encoder.onnx", images=images.transpose(0, 3, 1, 2) / 255)
        np.testing.assert_allclose(codes, m.encode(images), atol=1e-5)
        pixels = ran(tmp_path / "decoder.onnx", codes=codes)
        np.testing.assert_array_equal(np.round(np.clip(pixels, 0, 1)[:, 0] * 255), m.decode(codes))
    torch.manual_seed(5)
    noise = m.network.latent.noise(6, m.sampler.fitted_prior)
    torch.manual_seed(5)
    with torch.inference_mode():
        drawn = m.sampler.codes(6)
    np.testing.assert_allclose(ran(tmp_path / "prior.onnx", noise=noise), drawn, atol=1e-5)


def test_flow_matching_is_walked_by_its_caller(small, tmp_path):
    """Heun's steps outside the file, as model.json describes them, end where the prior's own end."""
    from reparam.models.priors import FlowMatching
    from reparam.models.sampler import Sampler
    from reparam.models.space import Space
    from reparam.parts.recipe import Recipe
    from reparam.pretrained.config import Config
    from reparam.pretrained.image_model import ImageModel

    vae, prior = small((1, 8, 8)).eval(), FlowMatching(Space((4,)), "mlp(16, 1)", steps=3)
    torch.nn.init.normal_(next(reversed(list(prior.velocity.parameters()))))
    prior.prepare(3 + 2 * torch.randn(50, 4))
    m = ImageModel(Sampler(vae, {"fitted_prior": prior}), Config(Recipe(latent="flat(4)"), (1, 8, 8)))
    export_onnx(m, tmp_path)
    told, noise = json.loads((tmp_path / "model.json").read_text()), torch.randn(5, 4)
    z, h = noise.numpy(), 1 / told["steps"]

    def v(point, t):
        return ran(tmp_path / "velocity.onnx", point=point, time=np.full(5, t))

    for i in range(told["steps"]):
        first = v(z, i * h)
        z = z + h / 2 * (first + v(z + h * first, (i + 1) * h))
    codes = np.array(told["whitening"]["loc"]) + z * np.array(told["whitening"]["scale"])
    np.testing.assert_allclose(codes, prior.from_noise(noise), atol=1e-4)


def test_a_file_that_computes_something_else_is_not_written(model, tmp_path, monkeypatch):
    m, _ = model
    program = programs(m)["decoder"]
    data = onnx_bytes("decoder", program)
    assert difference(data, program) < 1e-5 and b".py" not in data  # nor does it name files of this machine
    with torch.no_grad():
        for p in program.module.parameters():
            p.add_(0.1)
    assert difference(data, program) > 1e-3
    with torch.no_grad():
        for p in program.module.parameters():
            p.sub_(0.1)
    monkeypatch.setattr(exporter, "difference", lambda data, program: float("nan"))
    with pytest.raises(ReparamError, match="differs from PyTorch"):
        export_onnx(m, tmp_path / "new")
    assert not list((tmp_path / "new").glob("*.onnx"))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(exporter, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"onnx onnxscript onnxruntime: pip install 'reparam\[export\]'"):
        exporter.check_packages()


def test_the_command_writes_into_the_run(model, capsys):
    _, folder = model
    assert main(["export", str(folder)]) == 0
    assert "decoder.onnx" in capsys.readouterr().out and (folder / "onnx" / "decoder.onnx").exists()
    assert main(["export", str(folder), "--format", "tflite"]) == 2
    assert "onnx" in capsys.readouterr().err
