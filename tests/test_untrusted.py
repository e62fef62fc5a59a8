"""A folder from a stranger: what its files hold is refused in words or used as it is, at a cost that their sizes explain."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import resource
import time
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
import torch
from conftest import COMPANIONS, forever, last, training

from reparam.errors import ModelFileError
from reparam.files.untrusted import Malformed, conform
from reparam.models.build import build_model
from reparam.models.sampler import Sampler, build_sampler
from reparam.objectives.adversaries.build import build_adversary
from reparam.objectives.objective import parse_objective
from reparam.parts.presets import PRESETS
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES
from reparam.pretrained.allowance import Allowance
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.runs.records import Outcome, read_evaluation
from reparam.trainer.stages.prior import codes_to_fit
from reparam.trainer.state_file import check_state, load_state, save_state

STEADY = {"schedule": "constant", "ema": 0.9}
RECIPE = Recipe(encoder="mlp((8,))", decoder="mlp((8,))", latent="flat(4)")
SHAPE = (1, 16, 16)


# What continues a run


@pytest.fixture(scope="module")
def begun(small):
    """A game after two steps: how to go on from a snapshot of it, and that snapshot."""
    recipe = Recipe(encoder="mlp(hidden=(16,))", decoder="mlp(hidden=(16,))", latent="flat(4)", critic="mlp(hidden=(8,))",
                    likelihood="gaussian(sigma=0.3)", adversary="images")

    def go_on(snapshot=None, steps=3):
        torch.manual_seed(0)
        model = small()
        return last(training(model, parse_objective("nll + kl + adversarial"), forever(torch.rand(8, 1, 4, 4)), steps=steps,
                             adversary=build_adversary(recipe, model, (1, 4, 4)), resume=snapshot, **STEADY))

    return go_on, go_on(steps=2).snapshot()


OF_ALL_KINDS = ["model.encoder.net.1.weight", "ema.encoder.net.1.weight", "optimizer.5.exp_avg", "optimizer.5.exp_avg_sq",
                "optimizer.5.step", "critic_optimizer.0.exp_avg_sq", "rng.cpu"]


@pytest.mark.parametrize("name", OF_ALL_KINDS)
@pytest.mark.parametrize("change", [
    lambda t: t.flatten()[:1].clone(), lambda t: t[None], lambda t: torch.zeros(3, 5, 7), lambda t: t.double(),
    lambda t: torch.zeros(0), lambda t: None,
    lambda t: t.float().clone().fill_(math.nan), lambda t: t.float().clone().fill_(math.inf),
], ids=["one number", "a dimension more", "other shape", "other type", "nothing", "missing", "nan", "infinite"])
def test_a_tensor_that_does_not_fit_is_refused_by_name(begun, name, change):
    go_on, (tensors, numbers) = begun
    changed = change(tensors[name])
    damaged = {k: v for k, v in tensors.items() if k != name} | ({name: changed} if changed is not None else {})
    with pytest.raises(ModelFileError, match=rf"does not fit this model \({name} (is|holds)"):
        go_on((damaged, numbers))


@pytest.mark.parametrize("name", ["optimizer.999.exp_avg", "optimizer.0.max_exp_avg_sq", "optimizer.x.exp_avg", "model.more",
                                  "optimizer", "", "critic_optimizer.0", "new.1"])
def test_a_tensor_that_has_no_place_is_refused_by_name(begun, name):
    go_on, (tensors, numbers) = begun
    with pytest.raises(ModelFileError, match=rf"\({name} is not expected"):
        go_on((tensors | {name: torch.zeros(2)}, numbers))


@pytest.mark.parametrize(("change", "told"), [
    ({"step": -1}, "step is -1, not from 0"), ({"step": 1.5}, "step is 1.5, not a whole number"),
    ({"step": True}, "step is true, not a whole number"),
    ({"step": 10**400}, "step is a number beyond measure"), ({"images": None}, "images is null"),
    ({"seconds": math.nan}, "seconds"), ({"seconds": 10**400}, "seconds"), ({"progress": 1.5}, "progress is 1.5"),
    ({"lr_scale": 0}, "lr_scale"), ({"lr_scale": 1e9}, "lr_scale"), ({"rollbacks": 10**6}, "rollbacks"),
    ({"weights": ["kl"]}, "weights is a list"), ({"weights": {"kl": "much"}}, r"weights\.kl is"),
    ({"guard": 3}, "guard is 3"),
    ({"guard": {}}, r"guard\.at_start is missing"), ({"critic_guard": []}, "critic_guard is a list"),
], ids=str)
def test_numbers_of_another_kind_are_refused_by_name(begun, change, told):
    go_on, (tensors, numbers) = begun
    with pytest.raises(ModelFileError, match=told):
        go_on((tensors, numbers | change))


@pytest.mark.parametrize("change", [{"norms": "12"}, {"norms": [math.nan]}, {"norms": [-1.0]}, {"skipped": -1},
                                    {"rescues": "2"}, {"at_start": math.nan}, {"in_a_row": None}], ids=str)
def test_a_guard_that_remembers_nonsense_is_refused(begun, change):
    go_on, (tensors, numbers) = begun
    with pytest.raises(ModelFileError, match=rf"guard\.{next(iter(change))}"):
        go_on((tensors, numbers | {"guard": numbers["guard"] | change}))


def test_a_snapshot_that_fits_goes_on(begun):
    go_on, (tensors, numbers) = begun
    assert numbers["guard"]["at_start"] == -math.inf  # which JSON has no word for
    assert go_on((tensors, json.loads(json.dumps(numbers)))).step == 3
    without_slots = {k: v for k, v in tensors.items() if not k.startswith("optimizer.0.")}  # it had no gradient yet
    assert go_on((without_slots, numbers)).step == 3
    assert go_on((tensors, numbers | {"guard": numbers["guard"] | {"at_start": 9.5, "norms": []}})).step == 3


# What a config may cost


def whole_numbers():
    """(role, part, argument, how it is written) of every part of a model that takes a whole number."""
    for role in ("encoder", "decoder", "latent", "posterior", "prior", "likelihood", "refiner", "velocity"):
        for name, part in ROLES[role].parts.items():
            hints = get_type_hints(part.__init__ if inspect.isclass(part) else part)
            for argument in list(inspect.signature(part).parameters)[len(ROLES[role].context):]:
                hint = hints.get(argument)
                if hint is int or int in get_args(hint):
                    yield role, name, argument, "({},)" if get_origin(hint) is tuple else "{}"


def config_with(role, name, argument, form, value):
    """Changes of a config that write a part with one huge argument."""
    own = list(inspect.signature(ROLES[role].parts[name]).parameters.values())[len(ROLES[role].context):]
    given = {p.name: "2" for p in own if p.default is p.empty} | {argument: form.format(value)}
    text = f"{name}({', '.join(f'{k}={v}' for k, v in given.items())})"
    companions = COMPANIONS.get((role, name), {})
    match role:
        case "prior":
            return companions, {"stages": {"fitted_prior": text}}
        case "velocity":
            return {}, {"stages": {"fitted_prior": f"flow_matching({text!r})"}}
        case "refiner":
            return {}, {"stages": {"refiner": text}}
        case _:
            return {**companions, role: text}, {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model's folder, whose config each test replaces."""
    made = tmp_path_factory.mktemp("model")
    save_model(made, Sampler(build_model(RECIPE, SHAPE)), Config(RECIPE, SHAPE))
    with torch.device("meta"):  # what it imports when first built counts for none
        for encoder in ("resnet", "vit", "conv", "dcgan"):
            build_sampler(RECIPE.but(encoder=encoder), SHAPE, {"fitted_prior": "spline_flow", "refiner": "flow_matching"})
    return made, json.loads((made / "config.json").read_text())


@pytest.mark.parametrize("value", [3000, 10**6, 10**30])
@pytest.mark.parametrize(("role", "name", "argument", "form"), list(whole_numbers()))
def test_a_huge_number_in_a_part_costs_nothing(role, name, argument, form, value, folder):
    made, config = folder
    recipe, added = config_with(role, name, argument, form, value)
    text = json.dumps({**config, **added, "recipe": {**config["recipe"], **recipe}})
    (made / "config.json").write_text(text)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ModelFileError):
        load_model(made)
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("fields", [
    {"image_shape": [64, 256, 256], "recipe": {"latent": "flat(4000)", "encoder": "mlp((4000, 4000, 4000))"}},
    {"recipe": {"encoder": f"mlp(({'4000, ' * 400}))"}}, {"recipe": {"posterior": "iaf(64, 4000)"}},
    {"stages": {"refiner": "autoregressive(4000, 200, 64)"}}, {"stages": {"fitted_prior": "autoregressive_flow(64, 4000)"}},
    {"stages": {"fitted_prior": "flow_matching('dit(4096, 64)')"}},
    {"version": 1, "fitted_prior": None, "refiner": "autoregressive(4000, 200, 64)"},
], ids=str)
def test_many_large_numbers_cost_nothing(fields, folder):
    made, config = folder
    recipe = {**config["recipe"], **fields.get("recipe", {})}
    (made / "config.json").write_text(json.dumps({**config, **fields, "recipe": recipe}))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ModelFileError):
        load_model(made)
    assert time.process_time() - began < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_far_less_than_it_may(name):
    recipe, shape = PRESETS[name].recipe, (3, 32, 32)
    with torch.device("meta"):
        state = build_model(recipe, shape).state_dict()
    may = Allowance(len(state), sum(v.numel() for v in state.values()))
    given = may.tensors, may.numbers, may.bytes
    with torch.device("meta"), may:
        build_model(recipe, shape)
    assert all(left > 0.8 * all_of_it for left, all_of_it in zip((may.tensors, may.numbers, may.bytes), given, strict=True))


@pytest.mark.parametrize("added", [{"refiner": "autoregressive(128)"}, {"fitted_prior": "autoregressive_flow(4, 512)"},
                                   {"fitted_prior": "spline_flow(4, 32, 256)"},
                                   {"refiner": "autoregressive(1, 1, 0, 1, 8)"}], ids=str)
def test_masks_of_large_networks_are_allowed(added):
    with torch.device("meta"):
        state = build_sampler(RECIPE, SHAPE, added).tensors()
    with torch.device("meta"), Allowance(len(state), sum(v.numel() for v in state.values())):
        build_sampler(RECIPE, SHAPE, added)


@pytest.mark.parametrize("change", [{"interval": [2.0, 1.0]}, {"interval": [1.0]}, {"interval": "wide"}, {"n": -1}], ids=str)
def test_a_figure_that_makes_no_sense_is_refused(change, tmp_path):
    figure = {"name": "psnr", "value": 1.5, "n": 3, "interval": [1.0, 2.0]}
    path = tmp_path / "evaluation.json"
    for facts in (figure, figure | change):
        path.write_text(json.dumps({"protocol": 3, "metrics": [facts], "measured_on": "test"}))
        if facts is figure:
            assert read_evaluation(path)["metrics"] == [figure | {"interval": (1.0, 2.0)}]
    with pytest.raises(ModelFileError, match=next(iter(change))):
        read_evaluation(path)


@pytest.mark.parametrize("missing", ["steps", "images_seen", "training_seconds", "skipped_steps", "rollbacks"])
def test_what_training_took_is_told_whole(missing):
    took = {"steps": 3, "images_seen": 9, "training_seconds": 1.0, "skipped_steps": 0, "rollbacks": 0}
    assert conform(took, Outcome) == took
    with pytest.raises(Malformed, match=f"{missing} is missing"):
        conform({k: v for k, v in took.items() if k != missing}, Outcome)


@pytest.mark.parametrize("change", [{"seconds": {}}, {"seconds": -1.0}, {"images": "many"}], ids=str)
def test_the_numbers_of_a_state_are_read_by_type(change, tmp_path):
    path = tmp_path / "training.safetensors"
    save_state(path, ({"model.x": torch.zeros(2)}, {"step": 1, "seconds": 2.0, "images": 3} | change))
    with pytest.raises(ModelFileError, match=next(iter(change))):
        load_state(path)


@pytest.mark.parametrize("size", [1e25, math.inf])
def test_no_prior_is_fitted_to_codes_beyond_measure(size):
    model = build_model(RECIPE, SHAPE)
    model.latent.to_fit = lambda seen, draws: torch.full((draws, len(seen.h), 4), size)
    with pytest.raises(ModelFileError, match="beyond measure"):
        codes_to_fit(model, torch.rand(20, *SHAPE))


def test_a_state_of_another_recipe_is_refused_before_the_model_is_built(tmp_path):
    path = tmp_path / "training.safetensors"
    tensors = {f"model.{k}": v for k, v in build_model(RECIPE, SHAPE).state_dict().items()}
    save_state(path, (tensors, {"step": 1}))
    check_state(path, RECIPE, SHAPE)
    for changes, told in (({"encoder": "mlp((9,))"}, "does not fit the recipe in run.json; remove it"),
                          ({"encoder": "mlp((1000000000,))"}, "is not of the recipe in run.json: .* than its weights")):
        with pytest.raises(ModelFileError, match=told):
            check_state(path, RECIPE.but(**changes), SHAPE)


# Whole folders, damaged at random


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    """The benchmark that damages folders, and two runs for it."""
    path = Path(__file__).parents[1] / "benchmarks" / "fuzz_run_folder.py"
    spec = importlib.util.spec_from_file_location("fuzz_run_folder", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    runs = tmp_path_factory.mktemp("fuzz") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        module.patch(patch.setattr)
        module.prepare(runs)
        yield module, runs


@pytest.mark.parametrize("seed", range(25))
def test_a_damaged_folder_ends_in_words(seed, fuzz, tmp_path):
    module, runs = fuzz
    for outcome in module.attempt(runs, tmp_path / "runs", seed):
        assert outcome["how"] in ("done", "refused"), outcome
