"""Steps that torch's compiler makes: of what, and when."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import forever, last, training

from reparam.errors import UsageError
from reparam.metrics.figures import Figure
from reparam.objectives.adversaries.build import build_adversary
from reparam.objectives.objective import parse_objective
from reparam.parts.recipe import Recipe
from reparam.progress import Silent
from reparam.runs import finish
from reparam.runs.train import resume, train
from reparam.runtime import Load
from reparam.trainer import autotune
from reparam.trainer.assembly import Assembly
from reparam.trainer.budget import Budget
from reparam.trainer.compiling import compiled, compiler_at_hand

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SHAPE = (1, 8, 8)
STEADY = {"schedule": "constant", "optimizer": "adamw(lr=0.01)", "ema": 0}
pytestmark = pytest.mark.usefixtures("unhooked")
needs_compiler = pytest.mark.skipif(not compiler_at_hand(CPU), reason="no C++ compiler")


class Told(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def asked(monkeypatch):
    """What torch.compile is asked for; graphs are made and differentiated, but not brought to machine code."""
    calls, real = [], torch.compile

    def compile(function, fullgraph=False, mode=None):
        calls.append({"fullgraph": fullgraph, "mode": mode})
        return real(function, backend="aot_eager", fullgraph=fullgraph)

    monkeypatch.setattr(torch, "compile", compile)
    torch._dynamo.reset()
    return calls


# Beside an adversary

CONV = {"critic": "conv(width=4)"}
GAMES = {
    "images": {"adversary": "images('both')"},
    "smooth": {"adversary": "images", "penalty": "r1 + gradient", "game": "relativistic"},
    "moved": CONV | {"adversary": "images(patch=4)", "penalty": "r2(0.1) + lecam + spectral_norm"},
    "balanced": {"adversary": "images", "objective": "nll + kl + adversarial(balance=1)"},
    "codes": {"adversary": "codes"},
    "permuted": {"adversary": "permuted", "game": "ratio"},
    "joint": {"adversary": "joint"},
    "introspective": {"adversary": "introspective"},
    "gan": {"encoder": "none", "likelihood": "implicit", "objective": "adversarial", "adversary": "images", "penalty": "r1"},
    "asking": {"adversary": "images", "posterior": "hamiltonian"},
}


@pytest.mark.parametrize("game", GAMES)
def test_gradients_of_a_compiled_game_are_those_of_the_plain_one(game, small, images, asked):
    fields = {"critic": "mlp(hidden=(8,))", "objective": "nll + kl + adversarial", **GAMES[game]}
    recipe, found = Recipe(**fields), []
    for compiles in (False, True):
        torch.manual_seed(0)
        model = small(SHAPE, **{k: v for k, v in fields.items() if k in ("encoder", "likelihood", "posterior")})
        adversary = build_adversary(recipe, model, SHAPE)
        torch.manual_seed(1)
        state = last(training(model, parse_objective(recipe.objective), forever(images(6, SHAPE)), steps=2, compile=compiles,
                              adversary=adversary, **STEADY))
        found.append([f.vector.grad for side in (state.side, state.critic) for f in side.flats])
        found[-1].append(torch.tensor([state.loss, state.critic_loss]))
        assert all("forward" not in vars(net) for net in (*model.modules(), *adversary.modules()))
    assert len(asked) >= 1 and not any(how["fullgraph"] for how in asked)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


# Whether it pays


DIGITS = {"encoder": "mlp((8,))", "decoder": "mlp((8,))", "latent": "flat(4)"}


class Trial:
    """Stands for steps of a copy: so many a second, the first of which takes its time."""

    plain, made, error = 10.0, 12.0, None

    def __init__(self, *_, compiles=False):
        self.compiles = compiles

    def warm(self):
        if self.compiles and self.error is not None:
            raise self.error

    def rate(self):
        return self.made if self.compiles else self.plain


@pytest.fixture
def trial(monkeypatch):
    """Trials whose first compiled step takes nine seconds."""
    class Given(Trial):
        pass

    ticks = iter([0.0, 9.0])
    monkeypatch.setattr(autotune, "_Trial", Given)
    monkeypatch.setattr(autotune, "compiler_at_hand", lambda device: True)
    monkeypatch.setattr(autotune.time, "perf_counter", lambda: next(ticks))
    return Given


def pays(**budget):
    told = Told()
    assembly = Assembly(Recipe(**DIGITS, batch_size=100), (1, 8, 8))
    batch = torch.zeros(2, 1, 8, 8)
    return autotune.compiling_pays(assembly, batch, Accelerator(cpu=True), Budget(**budget), told), told.lines


def test_a_long_run_is_compiled(trial):
    compiled, lines = pays(minutes=2)
    assert compiled and lines[-1] == "compiled: 1,200 images/s instead of 1,000, for 9 s of compiling"


def test_what_does_not_make_up_for_its_first_step_is_not_compiled(trial):
    trial.made = 10.5
    compiled, lines = pays(minutes=2)
    assert not compiled and lines[-1].startswith("not compiled: 1,050 images/s instead of 1,000")


@pytest.mark.parametrize("budget", [{"minutes": 0.5}, {"steps": 900}, {"steps": 500, "minutes": 60}])
def test_a_short_run_does_not_try(trial, budget):
    """900 steps at 10 a second."""
    trial.error = AssertionError("tried")
    assert pays(**budget) == (False, [])


def test_without_a_compiler_nothing_is_tried_or_said(trial, monkeypatch):
    trial.error = AssertionError("tried")
    monkeypatch.setattr(autotune, "compiler_at_hand", compiler_at_hand)
    monkeypatch.setenv("CXX", "a-compiler-that-nobody-has")
    assert pays(minutes=60) == (False, [])


def test_a_model_that_cannot_be_compiled_trains_as_it_is(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no such\nkernel")

    real = torch.compile
    monkeypatch.setattr(autotune, "LEAST", 0.0)
    monkeypatch.setattr(autotune, "compiler_at_hand", lambda device: True)
    monkeypatch.setattr(torch, "compile", lambda function, **_: real(function, backend=broken))
    compiled, lines = pays(steps=100)
    assert not compiled and lines[-1].startswith("not compiled: ") and "no such" in lines[-1] and "\n" not in lines[-1]
    images, recipe = np.zeros((8, 8, 8, 1), np.uint8), Recipe(**DIGITS, compile="on", steps=2, batch_size=4)
    assembly = Assembly(recipe, (1, 8, 8))
    with pytest.raises(UsageError, match="give compile off"):
        assembly.fit(assembly.stream(images))


@pytest.fixture
def unmeasured(monkeypatch):
    """Runs whose end is neither measured nor drawn."""
    monkeypatch.setattr(finish, "evaluate_arrays", lambda *_, **__: [Figure("fd", 1.0, "", 64)])
    monkeypatch.setattr(finish, "draw", lambda *_: None)


@pytest.mark.usefixtures("unmeasured")
def test_as_a_run_began_so_it_goes_on(tmp_path, monkeypatch, asked):
    """The choice stands in run.json before the first step; nothing is tried beside busy programs."""
    measured, free = [], 0.9

    def choose(assembly, batch, accelerator, budget, report):
        measured.append(budget.steps)
        return True

    monkeypatch.setattr(autotune, "compiling_pays", choose)
    monkeypatch.setattr(autotune, "choose", lambda *_: (1, "float32"))
    monkeypatch.setattr(Load, "free", lambda self: free)
    chosen = {"steps": 500, "device": "cpu", "fitted_prior": "none", "ema": 0, "batch_size": 4, **DIGITS}
    assert not train("digits", out=tmp_path / "busy", **chosen).compiled and not measured
    free = 1.0
    run = train("digits", out=tmp_path / "run", **chosen)
    assert json.loads((run.folder / "run.json").read_text())["compiled"] and run.compiled
    compiled_once = len(asked)
    assert compiled_once
    again = resume(run.folder, steps=502, device="cpu")
    assert again.compiled and len(asked) > compiled_once and measured == [500]
    assert "compiled" in (run.folder / "report.html").read_text()


@pytest.mark.usefixtures("unmeasured")
def test_short_runs_are_not_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(autotune, "compiling_pays", lambda *_: pytest.fail("measured"))
    run = train("digits", out=tmp_path / "run", steps=3, device="cpu", fitted_prior="none", **DIGITS)
    assert not json.loads((run.folder / "run.json").read_text())["compiled"]


@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, on the way to its compiler
def test_a_compiled_run_resumes_bit_for_bit(small, images):
    objective, batches = parse_objective("nll + kl"), list(images(24, SHAPE).split(4))
    chosen = {"steps": 6, "compile": True, "optimizer": "adamw(lr=0.01)", "ema": 0.9}
    torch.manual_seed(5)
    states = training(small(SHAPE), objective, batches, **chosen)
    saved = [next(states) for _ in range(3)][-1].snapshot()
    whole = last(states).snapshot()[0]
    torch._dynamo.reset()
    resumed = last(training(small(SHAPE), objective, batches[3:], resume=saved, **chosen)).snapshot()[0]
    assert all(torch.equal(v, resumed[k]) for k, v in whole.items())


def test_old_spellings_are_read():
    assert (Recipe(compile=True).compile, Recipe(compile=False).compile, Recipe().compile) == ("on", "off", "auto")
    with pytest.raises(UsageError, match="compile must be 'auto', 'on' or 'off'"):
        Recipe(compile="perhaps")


# What is asked of the compiler


@pytest.mark.parametrize(("device", "networks", "pieces", "mode"), [
    (GPU, None, 1, "reduce-overhead"), (GPU, None, 2, None), (GPU, [torch.nn.Identity()], 1, None), (CPU, None, 1, None)])
def test_a_gpu_replays_whole_steps(monkeypatch, device, networks, pieces, mode):
    asked, begun = [], []
    monkeypatch.setattr(torch, "compile", lambda function, **how: (asked.append(how), function)[1])
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    step = compiled(lambda x: x, networks, device, pieces)
    assert step(3) == 3 and step(4) == 4
    assert [how["mode"] for how in asked] == [mode] and len(begun) == (2 if mode else 0)
