"""Models as ONNX files: the numbers are PyTorch's, for any number of rows, and what cannot go is said."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import reparam
from reparam.cli.app import main
from reparam.errors import ReparamError, UsageError
from reparam.exporters import onnx as exporter
from reparam.exporters.loops import Looped
from reparam.exporters.onnx import difference, export_onnx, onnx_bytes
from reparam.exporters.programs import description, programs
from reparam.models.build import build_model
from reparam.models.draw import Draw
from reparam.models.priors import FlowMatching
from reparam.models.sampler import FITTED_PRIOR, REFINER, RESAMPLER, Sampler, build_stage
from reparam.models.sampling import Sampling
from reparam.models.space import Space
from reparam.parts.presets import PRESETS
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel
from reparam.trainer.stages.prior import PriorStage

ROOT = Path(__file__).parent.parent
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Digits, black and white, with a mixture fitted to the codes."""
    folder = tmp_path_factory.mktemp("export") / "run"
    reparam.train("digits", steps=30, encoder="mlp((32,))", decoder="mlp((32,))", latent="flat(4)", likelihood="bernoulli",
                  binarize=True, threads=1, out=folder, fitted_prior="mixture(3)")
    return reparam.load(folder, device="cpu"), folder


def ran(file, **inputs):
    data = file if isinstance(file, bytes) else file.read_bytes()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
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
        drawn = m.sampler.codes(6, m.options())
    np.testing.assert_allclose(ran(tmp_path / "prior.onnx", noise=noise), drawn, atol=1e-5)


def flow_of(classes, shape=(4,)):
    """A prior by flow matching, as if it were fitted."""
    prior = FlowMatching(Space(shape), "mlp(16, 1)", steps=3, classes=classes)
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.3 * torch.randn_like(p))
    y = torch.randint(-1, classes, (50,)) if classes else None
    prior.prepare(3 + 2 * torch.randn(50, *shape), y)
    return prior


FLOWS = {"labelled": (3, {"latent": "flat(4)"}), "beside_a_class": (3, {"latent": "conditional(4, 2)"}),
         "top_of_a_ladder": (0, {"latent": "top_down(3, (1, 2), 2, 8, 2)", "encoder": "resnet(width=8, patch=2)",
                                 "decoder": "resnet(width=8, patch=1)"})}


def carried(told, run, noise, label=None, guidance=1.0):
    """Codes by Heun's steps, as model.json describes them, with programs that `run(name, **inputs)` runs."""
    size, h = math.prod(told["point"]), 1 / told["steps"]
    z = told["temperature"] * noise[:, :size].reshape(-1, *told["point"])
    drawn = (noise[:, size, None] >= told["label_from"]).sum(1) - 1 if "label_from" in told else None

    def velocity(point, t, y):
        return run("velocity", point=point, time=np.full(len(z), t), **({} if y is None else {"label": y}))

    def v(point, t):
        got = velocity(point, t, drawn if label is None else np.full(len(z), label))
        return got if guidance == 1 else (1 - guidance) * velocity(point, t, np.full(len(z), -1)) + guidance * got

    for i in range(told["steps"]):
        first = v(z, i * h)
        z = z + h / 2 * (first + v(z + h * first, (i + 1) * h))
    return run("codes", point=z, noise=noise)


@pytest.mark.parametrize("name", FLOWS)
def test_flow_matching_is_walked_by_its_caller(name, small):
    """Heun's steps outside the programs, as the description tells them, end where the model's own end: with the labels that
    the noise draws or one that is asked for, in a latent with layers below or a class beside, at the temperature that
    training chose."""
    torch.manual_seed(2)
    classes, parts = FLOWS[name]
    vae = small((1, 8, 8), **parts).eval()
    prior = flow_of(classes, vae.latent.space.shape)
    model = ImageModel(Sampler(vae, {"fitted_prior": prior}), Config(Recipe(**parts), (1, 8, 8), sampling=Sampling(0.7)))
    found, told, noise = programs(model), description(model), vae.latent.noise(40, prior)

    def by_torch(name, **inputs):
        return found[name].module(**{k: torch.as_tensor(v, dtype=torch.float32) for k, v in inputs.items()}).detach().numpy()

    want = vae.latent.from_noise(noise, Draw(0.7), prior).detach()
    np.testing.assert_allclose(carried(told, by_torch, noise.numpy()), want, atol=1e-4)
    if name == "labelled":
        files = {name: onnx_bytes(name, found[name]) for name in ("velocity", "codes")}
        want = vae.latent.from_noise(noise, Draw(0.7, label=1, guidance=2.5), prior)
        got = carried(told, lambda name, **inputs: ran(files[name], **inputs), noise.numpy(), 1, 2.5)
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_codes_that_follow_each_other_are_drawn_in_one_loop(small):
    """The file holds one step, however many codes there are, and draws what PyTorch draws of the same noise."""
    import onnx

    torch.manual_seed(2)
    parts = {"latent": "spatial(4, 4)", "posterior": "rvq(8, 2)"}
    vae = small((1, 14, 14), prior="autoregressive(16, 2, 2)", moved=0.5, **parts).eval()
    noise = vae.latent.noise(30)
    for temperature in (0.3, 1.0):
        config = Config(Recipe(**parts), (1, 14, 14), sampling=Sampling(temperature))
        file = onnx_bytes("prior", programs(ImageModel(Sampler(vae), config))["prior"])
        np.testing.assert_allclose(ran(file, noise=noise), vae.latent.from_noise(noise, Draw(temperature)), atol=1e-5)
    kinds = [node.op_type for node in onnx.load_from_string(file).graph.node]
    assert kinds.count("Scan") == 1 and len(kinds) < 60


@pytest.mark.parametrize("call", ["flow_matching('unet(8)', steps=2)", "energy(8)"])
def test_a_refiner_becomes_a_file_for_any_number_of_images(small, call):
    vae, shape = small((1, 8, 8)).eval(), (1, 8, 8)
    refiner = build_stage(REFINER, call, vae, shape)
    with torch.no_grad():
        for p in refiner.parameters():
            p.add_(0.1 * torch.randn_like(p))
    sampler = Sampler(vae, {REFINER: refiner.eval()})
    images, noise = torch.rand(5, *shape), torch.randn(5, *shape)
    for sampling, temperature in ((None, None), (Sampling(refine_temperature=0.2), 0.2)):
        file = onnx_bytes("refiner", programs(ImageModel(sampler, Config(Recipe(), shape, sampling=sampling)))["refiner"])
        with torch.inference_mode():
            want = refiner(images, noise, temperature)
        np.testing.assert_allclose(ran(file, images=images, noise=noise), want, atol=1e-4)


@pytest.mark.parametrize(("sampling", "there"), [
    (None, True), (Sampling(), False), (Sampling(0.8), False), (Sampling(keep=0.2), True)])
def test_a_resampler_that_training_left_out_is_left_out(small, sampling, there):
    vae, shape = small((1, 8, 8)).eval(), (1, 8, 8)
    sampler = Sampler(vae, {RESAMPLER: build_stage(RESAMPLER, "conv(4)", vae, shape).eval()})
    model = ImageModel(sampler, Config(Recipe(), shape, sampling=sampling))
    assert ("resampler" in programs(model)) == ("resampler" in description(model)) == there


def test_a_temperature_that_training_chose_is_that_of_the_files(small):
    vae = small((1, 8, 8)).eval()
    found = programs(ImageModel(Sampler(vae), Config(Recipe(), (1, 8, 8), sampling=Sampling(0.5))))["prior"]
    noise = vae.latent.noise(4)
    with torch.inference_mode():
        drawn = ran(onnx_bytes("prior", found), noise=noise)
        np.testing.assert_allclose(drawn, vae.latent.from_noise(noise, Draw(0.5)), atol=1e-5)
        assert not np.allclose(drawn, vae.latent.from_noise(noise), atol=1e-2)


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


def road(name):
    """What an export of a preset has for encoding and for sampling, or why there is none."""
    recipe, shape = PRESETS[name].recipe, (1, 16, 16)
    vae = build_model(recipe, shape)
    parts = {FITTED_PRIOR: PriorStage().choice(recipe, vae), RESAMPLER: recipe.resampler, REFINER: recipe.refiner}
    stages = {k: build_stage(k, call, vae, shape) for k, call in parts.items() if call not in (None, "none")}
    try:
        found = programs(ImageModel(Sampler(vae, stages), Config(recipe, shape)))
    except UsageError as refused:
        return "–", str(refused).partition(":")[0]
    drawn = ("steps of flow matching: `velocity`, `codes`" if "velocity" in found else
             "code after code: `prior`" if isinstance(found["prior"].module.prior, Looped) else "at once: `prior`")
    chosen = ", chosen by `resampler`" if "resampler" in found else ""
    detailed = ", detail by `refiner`" if "refiner" in found else ""
    return "yes" if "encoder" in found else "no: a GAN", drawn + chosen + detailed


def test_the_page_of_the_docs_tells_what_becomes_of_each_preset():
    """To renew the table, paste what this prints."""
    table = "\n".join(f"| `{name}` | {' | '.join(road(name))} |" for name in PRESETS)
    assert table in (ROOT / "docs" / "exporting.md").read_text(encoding="utf-8"), table
