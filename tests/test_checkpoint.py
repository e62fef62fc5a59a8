"""Model files: what is saved comes back bit for bit, what does not fit is refused, and loading runs no code."""

from __future__ import annotations

import ast
import json
import math
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import reparam
from reparam.errors import ModelFileError
from reparam.models.codes import Axis
from reparam.models.sampler import Sampler
from reparam.models.space import Space
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.trainer.state_file import load_state, save_state

SHAPE = (1, 4, 4)
RECIPE = Recipe(encoder="mlp(hidden=(16,))", decoder="mlp(hidden=(16,))", latent="flat(4)", prior="normal",
                likelihood="gaussian(sigma=0.3)")


def bits(tensors):
    return {k: (v.dtype, v.shape, v.contiguous().numpy().tobytes()) for k, v in tensors.items()}


@pytest.fixture
def saved(small, tmp_path):
    """A folder with a small model."""
    save_model(tmp_path / "model", Sampler(small(SHAPE)), Config(RECIPE, SHAPE))
    return tmp_path / "model"


@pytest.fixture
def edit(saved):
    """Rewrites the saved config: `edit(version=2)`, or `edit(recipe={...})` to change fields of the recipe."""

    def change(recipe=None, **fields):
        path = saved / "config.json"
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["recipe"] |= recipe or {}
        path.write_text(json.dumps(raw | fields), encoding="utf-8")

    return change


# What is saved comes back


@pytest.mark.parametrize("changes", [
    {}, {"prior": "flow(2, hidden=8)"}, {"prior": "mixture(3)", "likelihood": "gaussian(sigma='learned')"},
    {"encoder": "conv(width=4)", "decoder": "conv(width=4)", "latent": "spatial(2, 2)", "likelihood": "logistic(2)"},
    {"encoder": "resnet(width=4)", "decoder": "resnet(width=4)", "likelihood": "laplace"},
], ids=["linear", "flow", "mixture", "spatial", "residual"])
def test_a_model_comes_back_bit_for_bit(small, images, tmp_path, changes):
    shape = (3, 6, 5) if "latent" not in changes else (3, 8, 8)
    model = small(shape, **changes)
    save_model(tmp_path, Sampler(model), Config(RECIPE.but(**changes), shape))
    loaded = load_model(tmp_path)[0].model
    assert bits(loaded.state_dict()) == bits(model.state_dict())
    assert not loaded.training and not any(t.is_meta for t in loaded.state_dict().values())
    x = images(3, shape)
    torch.manual_seed(1)
    expected = model.eval()(x, samples=2).log_px
    torch.manual_seed(1)
    assert torch.equal(loaded(x, samples=2).log_px, expected)


def test_odd_numbers_survive(small, tmp_path):
    model = small(SHAPE)
    # values that rounding or a detour over text would lose
    odd = torch.tensor([-0.0, 1e-45, 3.4e38, -3.4e38, 1.0000001])
    with torch.no_grad():
        next(model.parameters()).view(-1)[:5] = odd
    save_model(tmp_path, Sampler(model), Config(RECIPE, SHAPE))
    back = next(load_model(tmp_path)[0].model.parameters()).detach().view(-1)[:5]
    assert torch.equal(back.view(torch.int32), odd.view(torch.int32))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(small, tmp_path, value):
    model = small(SHAPE)
    name, last = list(model.named_parameters())[-1]
    with torch.no_grad():
        last.view(-1)[-1] = value
    save_model(tmp_path, Sampler(model), Config(RECIPE, SHAPE))
    with pytest.raises(ModelFileError, match=rf"holds values that are not finite, the first of them in {name}"):
        load_model(tmp_path)


def test_the_config_and_the_fitted_prior_come_back(small, tmp_path):
    from reparam.models.priors import Mixture

    model = small(SHAPE)
    saved = Sampler(model, {"fitted_prior": Mixture(Space((4,)), 3)})
    config = Config(RECIPE.but(augment="flip", epochs=2.5), SHAPE, (Axis(2, 1.25, -0.1, 0.9), Axis(0, 0.1 + 0.2, 1e-9, 1.0)),
                    ("ä", "b"), {"source": "digits", "images": 7}, {"fitted_prior": "mixture(3)"})
    save_model(tmp_path, saved, config)
    loaded, read = load_model(tmp_path)
    assert read == config
    assert bits(loaded.fitted_prior.state_dict()) == bits(saved.fitted_prior.state_dict())


def test_a_state_comes_back_bit_for_bit(tmp_path):
    tensors = {"model.w": torch.randn(3, 5), "rng": torch.get_rng_state(), "step": torch.tensor(2**40)}
    numbers = {"step": 7, "loss": 0.1 + 0.2, "norms": [1.5, 2.5], "event": None}
    save_state(tmp_path / "state" / "training.safetensors", (tensors, numbers))
    back, read = load_state(tmp_path / "state" / "training.safetensors")
    assert bits(back) == bits(tensors) and read == numbers


# What does not fit is refused


@pytest.mark.parametrize("kept", ["nothing", "six bytes", "half the header", "all but a byte"])
def test_truncated_weights_are_refused(saved, kept):
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    path.write_bytes(whole[: {"nothing": 0, "six bytes": 6, "half the header": 8 + header // 2,
                              "all but a byte": len(whole) - 1}[kept]])
    with pytest.raises(ModelFileError, match=r"model\.safetensors cannot be read.*truncated"):
        load_model(saved)


@pytest.mark.parametrize("kept", [0, 6, 60])
def test_a_truncated_state_is_refused(tmp_path, kept):
    path = tmp_path / "training.safetensors"
    save_state(path, ({"w": torch.ones(3)}, {"step": 1}))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match="remove it to start this run again"):
        load_state(path)


def test_a_state_without_numbers_is_refused(tmp_path):
    save_file({"w": torch.ones(3)}, tmp_path / "training.safetensors")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_state(tmp_path / "training.safetensors")


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_another_version_is_refused(saved, edit, version):
    edit(version=version)
    with pytest.raises(ModelFileError, match=rf"is of version {version}; this reparam reads versions 1 and 2"):
        load_model(saved)


def without(tensors, name):
    return {k: v for k, v in tensors.items() if k != name}


@pytest.mark.parametrize(("change", "problem"), [
    (lambda t, k: without(t, k), "{k} is missing"),
    (lambda t, k: t | {"decoder.hidden.weight": torch.ones(2)}, "decoder.hidden.weight is not expected"),
    (lambda t, k: t | {k: torch.ones(3, 2)}, "{k} is (3, 2), not (16, 16)"),
    (lambda t, k: t | {k: t[k].T.reshape(1, 16, 16)}, "{k} is (1, 16, 16), not (16, 16)"),
    (lambda t, k: {}, "and 10 more"),
], ids=["missing", "extra", "shape", "dimensions", "empty"])
def test_tensors_unlike_the_config_are_refused(saved, change, problem):
    path = saved / "model.safetensors"
    tensors = load_file(path)
    first = "encoder.net.1.weight"
    assert tensors[first].shape == (16, 16)
    save_file({k: v.contiguous() for k, v in change(tensors, first).items()}, path)
    with pytest.raises(ModelFileError) as caught:
        load_model(saved)
    expected = f"and {len(tensors) - 3} more" if problem == "and 10 more" else problem.format(k=first)
    assert "does not fit its config.json" in str(caught.value) and expected in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.float16])
def test_tensors_of_another_type_are_refused(saved, dtype):
    path = saved / "model.safetensors"
    save_file({k: v.to(dtype) for k, v in load_file(path).items()}, path)
    with pytest.raises(ModelFileError, match=r"does not fit its config\.json"):
        load_model(saved)


@pytest.mark.parametrize("text", ["", "{", "not json", '{"format": "reparam", "version": 1', "\x00\x01",
                                  "[" * 100_000], ids=["empty", "brace", "words", "cut", "bytes", "nested"])
def test_a_config_that_is_not_json_is_refused(saved, text):
    (saved / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"config\.json cannot be read"):
        load_model(saved)


def test_a_config_that_is_not_text_is_refused(saved):
    (saved / "config.json").write_bytes(b"\xff\xfe\x00{}")
    with pytest.raises(ModelFileError, match=r"config\.json cannot be read"):
        load_model(saved)


@pytest.mark.parametrize("text", ["[]", "7", "null", "{}", '{"format": "other", "version": 1}'])
def test_the_config_of_something_else_is_refused(saved, text):
    (saved / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelFileError, match="is not a reparam model's config"):
        load_model(saved)


@pytest.mark.parametrize("fields", [
    {"image_shape": [1, 4]}, {"image_shape": [1, 4, "x"]}, {"image_shape": [1, 0, 4]}, {"image_shape": [1, 4, 1000]},
    {"image_shape": [-1, 4, 4]}, {"image_shape": [1, 4, 10**400]}, {"image_shape": [10**9, 4, 4]},
    {"axes": [{"index": 4, "nats": 1, "mean": 0, "std": 1}]},
    {"classes": [1]}, {"data": {"value_range": [0]}},
    {"image_shape": None}, {"axes": [{"index": 1}]}, {"axes": 3}, {"classes": None}, {"data": 1},
    {"stages": {"fitted_prior": "mixtur(3)"}}, {"stages": {"fitted_prior": 3}}, {"stages": {"fitted_prior": "mixture(-1)"}},
    {"stages": ["mixture(3)"]}, {"stages": {"encoder": "mlp"}}, {"stages": None}, {"stages": {"refiner": None}},
    {"version": 1, "fitted_prior": "mixtur(3)"}, {"version": 1, "fitted_prior": 3}, {"version": 1, "refiner": 0},
    {"recipe": {"encoder": "mlpp"}}, {"recipe": {"encoder": 5}}, {"recipe": {"encoder": None}},
    {"recipe": {"latent": "flat(-2)"}}, {"recipe": {"latent": "flat('4')"}}, {"recipe": {"colour": "blue"}},
    {"recipe": {"steps": "many"}}, {"recipe": {"likelihood": "gaussian(sigma=__import__('os'))"}},
], ids=str)
def test_a_config_that_describes_no_model_is_refused(saved, edit, fields):
    edit(**fields)
    with pytest.raises(ModelFileError, match=r"config\.json (does not describe a model|.*version)"):
        load_model(saved)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_config_with_numbers_that_json_lacks_is_refused(saved, edit, number):
    edit(image_shape=[1, 4, number])
    with pytest.raises(ModelFileError, match=r"config\.json cannot be read: (NaN|-?Infinity) is not a number of JSON"):
        load_model(saved)


def test_missing_files_are_told_apart(saved, tmp_path):
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"no model\.safetensors.*reparam train --resume"):
        load_model(saved)
    with pytest.raises(ModelFileError, match=r"no model in .*no config\.json"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("recipe", [
    {"encoder": "mlp(hidden=(10000000,))"}, {"decoder": "mlp(hidden=(10000000, 10000000))"},
    {"latent": "flat(1000000000)"}, {"encoder": "conv(width=1000000)"}, {"prior": "mixture(1000000000)"},
    {"encoder": "mlp(hidden=(1000000000000000000000,))"},
], ids=str)
def test_a_config_that_asks_for_a_huge_model_costs_nothing(saved, edit, recipe):
    edit(recipe=recipe)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ModelFileError):
            load_model(saved)
        assert time.process_time() - began < 2
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_config_that_asks_for_endless_layers_is_refused_at_once(saved):
    code = ("import signal, sys; from reparam.errors import ModelFileError\n"
            "from reparam.pretrained.files import load_model\n"
            "import reparam.nets.mlp, reparam.nets.conv, reparam.models.priors, reparam.models.posteriors\n"
            "import reparam.models.likelihoods\n"
            "for folder in sys.argv[1:]:\n"
            "    signal.alarm(2)\n"
            "    try: load_model(folder)\n"
            "    except ModelFileError: print('refused', flush=True)")
    folders = []
    for i, recipe in enumerate([{"encoder": "resnet(blocks=100000000)"}, {"decoder": "resnet(blocks=100000000)"},
                                {"prior": "flow(100000000)"}]):
        folders.append(saved.with_name(f"endless{i}"))
        shutil.copytree(saved, folders[-1])
        raw = json.loads((saved / "config.json").read_text(encoding="utf-8"))
        raw["recipe"] |= recipe
        (folders[-1] / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code, *map(str, folders)], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.stdout.split() == ["refused"] * 3, f"exit code {done.returncode}: {done.stderr[-500:]}"


# Loading runs no code


WATCHED = """
import pickle, sys
from reparam import load
from reparam.errors import ReparamError

forbidden = {"pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn",
             "os.spawn", "socket.connect", "marshal.loads"}
seen, opened = [], []

def watch(event, args):
    if event in forbidden and not (event == "marshal.loads" and importing()):
        seen.append(event)
    if event == "open" and isinstance(args[0], str):
        opened.append(args[0])

def importing():
    frame = sys._getframe()
    while frame:
        if "importlib" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False

sys.addaudithook(watch)
for folder in sys.argv[1:]:
    try:
        load(folder, device="cpu").sample(2, seed=0)
        print("loaded", seen)
    except ReparamError as e:
        print("refused", seen)
print("opened", any("config.json" in path for path in opened))
seen.clear()
pickle.loads(b"cbuiltins\\nlen\\n.")
print("hook alive", seen)
"""


def test_loading_runs_no_code(saved, tmp_path):
    """Neither what a good model's folder holds besides its two files, nor what a hostile config names."""
    trap = tmp_path / "trap"

    class Touch:
        def __reduce__(self):
            return os.system, (f"touch '{trap}'",)

    for name in ("model.pt", "model.bin", "pytorch_model.bin", "model.pkl"):
        (saved / name).write_bytes(pickle.dumps(Touch()))
    for name in ("__init__.py", "model.py", "config.py"):
        (saved / name).write_text(f"open({str(trap)!r}, 'w')")
    config = (saved / "config.json").read_text(encoding="utf-8")
    hostile = []
    for i, encoder in enumerate([f"__import__('os').system(\"touch '{trap}'\")", f"mlp(hidden=open({str(trap)!r}, 'w'))",
                                 "mlp(hidden=(lambda: (16,))())"]):
        hostile.append(tmp_path / f"hostile{i}")
        hostile[-1].mkdir()
        raw = json.loads(config)
        raw["recipe"]["encoder"] = encoder
        (hostile[-1] / "config.json").write_text(json.dumps(raw), encoding="utf-8")
        (hostile[-1] / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text(config, encoding="utf-8")
    (pickled / "model.safetensors").write_bytes(pickle.dumps(Touch()))
    done = subprocess.run([sys.executable, "-c", WATCHED, *map(str, [saved, *hostile, pickled])], capture_output=True,
                          text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["loaded []", *["refused []"] * 4, "opened True",
                                        "hook alive ['pickle.find_class']"]
    assert not trap.exists()


FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"torch.load", "torch.save", "torch.hub.load", "eval", "exec", "np.save_pickle", "os.system"}
SOURCES = sorted(Path(reparam.__file__).parent.rglob("*.py"))


def offences(source):
    """What in a module's source could run the code in a file."""
    found = []
    tree = ast.parse(source)
    safe = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
            and any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)]
    for node in ast.walk(tree):
        if node in safe:
            continue
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module.split(".")[0] in FORBIDDEN_MODULES:
                found.append(node.module)
            found += [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in FORBIDDEN_CALLS]
        elif isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in FORBIDDEN_CALLS:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.append("allow_pickle")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(SOURCES[0].parent).as_posix())
def test_no_module_unpickles(path):
    of_its_own_processes = ["pickle"] if path.parts[-2:] == ("data", "workers.py") else []  # through pipes that it opened
    assert offences(path.read_text(encoding="utf-8")) == of_its_own_processes


@pytest.mark.parametrize("source", ["import pickle", "import pickle as p", "from pickle import loads",
                                    "from joblib import load",
                                    "import torch\ntorch.load('x')", "torch.load('x', weights_only=False)",
                                    "from torch import load", "x = torch.save",
                                    "np.load(f, allow_pickle=True)", "eval('1')", "def f():\n    import dill"])
def test_the_scan_sees_what_it_looks_for(source):
    assert offences(source)
