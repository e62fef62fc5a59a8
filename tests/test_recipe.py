"""The language of parts: what it reads, what it refuses and how, and that it prints as it is written."""

from __future__ import annotations

import math
import string

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reparam.data.augment import parse_augmentation
from reparam.errors import UsageError
from reparam.models.space import Space
from reparam.objectives.context import Context
from reparam.objectives.objective import Objective, Term, build_objective, parse_objective
from reparam.objectives.terms import free_bits, iw_bound, kl, nll
from reparam.objectives.weights import constant, cyclic, linear
from reparam.parts.call import Call, parse_call, parse_list, parse_sum
from reparam.parts.presets import ANY, PRESETS
from reparam.parts.recipe import Recipe, field_help
from reparam.parts.registry import ROLES
from reparam.trainer.assembly import Assembly

quick = settings(deadline=None, max_examples=150, derandomize=True, database=None)

names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda s: s.isidentifier() and not iskeyword(s))
finite = st.floats(allow_nan=False, allow_infinity=False).map(lambda v: v + 0.0)  # no −0
literals = st.recursive(st.none() | st.booleans() | st.integers() | finite | st.text(max_size=8), max_leaves=4,
                        extend=lambda inner: st.lists(inner, max_size=3).map(tuple) | st.lists(inner, max_size=3))
calls = st.builds(Call, names, st.lists(literals, max_size=3).map(tuple), st.dictionaries(names, literals, max_size=3))
fractions = st.floats(0.01, 1)
moderate = st.floats(-1000, 1000).map(lambda v: v + 0.0)
weights = st.one_of(
    moderate, st.integers(-1000, 1000), st.tuples(st.just(constant), moderate),
    st.tuples(st.just(linear), moderate, moderate, fractions),
    st.tuples(st.just(cyclic), moderate, moderate, st.integers(1, 9), fractions))
terms = st.one_of(st.just(nll), st.just(kl), st.tuples(st.just(free_bits), st.integers(0, 999).map(lambda i: i / 7)),
                  st.tuples(st.just(iw_bound), st.integers(1, 100)))
written_objectives = st.lists(st.tuples(weights, terms), min_size=1, max_size=4, unique_by=lambda pair: pair[1])
fragments = st.lists(st.sampled_from([
    "nll", "kl", "free_bits", "iw_bound", "linear", "mixture", "+", "-", "*", "**", "/", "(", ")", "[", "]", "{", "}",
    ",", "=", ":", ".", "'", '"', "1", "0.5", "-1", "1e999", "9" * 400, "1j", "True", "None", "lambda", "x=1", "f'{x}'",
    "b'a'", "[[]]", "{[]}", "{[]: 1}", "{1: 2}", "...", "#", "\\", "\n", "\x00", "\ud800", "é", "@", "if", "else", " ",
]), max_size=8).map("".join)


def built(pairs):
    """An objective of weights and terms, each as it is or as a function and its arguments."""
    return Objective(tuple(tuple(p[0](*p[1:]) if isinstance(p, tuple) else p for p in pair) for pair in pairs))


def iskeyword(text):
    from keyword import iskeyword

    return iskeyword(text)


@quick
@given(calls)
@example(Call("a", (1, -2.5, "it's \"so\"\n", (1,), ()), {"b": None, "c": True}))
def test_a_call_reads_as_it_prints(call):
    assert parse_call(str(call)) == call
    assert str(parse_call(str(call))) == str(call)


@quick
@given(st.lists(calls, min_size=1, max_size=4))
def test_a_list_of_calls_reads_as_it_prints(listed):
    assert parse_list(", ".join(map(str, listed))) == listed


@quick
@given(written_objectives)
def test_an_objective_reads_as_it_prints(pairs):
    objective = built(pairs)
    again = parse_objective(str(objective))
    assert str(again) == str(objective)
    assert again.names == objective.names
    assert again.samples == objective.samples


@quick
@given(written_objectives, st.floats(0, 1))
@example([((linear, 0, 1234567, 0.125), kl)], 1.0)
@example([(0.12345678901234567, kl)], 1.0)
@example([((constant, 1 / 3), (free_bits, 2 / 3))], 1.0)
def test_an_objective_read_back_has_the_same_weights(pairs, progress):
    objective = built(pairs)
    again = parse_objective(str(objective))
    assert again.weights(progress) == pytest.approx(objective.weights(progress), rel=1e-9, abs=1e-7)


@pytest.mark.parametrize(("text", "printed"), [
    ("nll+kl", "nll + kl"), ("nll + 4*kl", "nll + 4*kl"), ("nll - 0.5*kl", "nll - 0.5*kl"), ("-kl + nll", "- kl + nll"),
    ("nll + (0.5*kl - free_bits(0.25))", "nll + 0.5*kl - free_bits(0.25)"), ("iw_bound(8)", "iw_bound(8)"),
    ("nll - (kl - free_bits(1))", "nll - kl + free_bits(1)"), ("-2*kl", "- 2*kl"), ("0*kl + nll", "0*kl + nll"),
    ("nll + linear(0, 1, 0.1)*kl", "nll + linear(0, 1, 0.1)*kl"), ("linear(0, end=1)*kl", "linear(0, 1, 1)*kl"),
    ("nll + cyclic(0, 1, cycles=2)*kl", "nll + cyclic(0, 1, 2, 0.5)*kl"),
])
def test_objectives_are_printed_in_one_way(text, printed):
    objective = parse_objective(text)
    assert str(objective) == printed
    assert str(parse_objective(printed)) == printed


def test_operators_write_the_same_objective_as_text():
    written = nll + 4 * kl + linear(0, 1, 0.1) * free_bits(0.5)
    assert str(written) == "nll + 4*kl + linear(0, 1, 0.1)*free_bits(0.5)"
    assert str(nll + kl) == str(build_objective(Recipe()))
    assert str(4 * kl + nll) == "4*kl + nll"
    assert str((nll + kl) + (2 * free_bits(1) + 3 * iw_bound(2))) == "nll + kl + 2*free_bits(1) + 3*iw_bound(2)"


def test_an_objective_is_the_weighted_sum_of_its_terms(small, images):
    trace = small()(images(3, (1, 4, 4)), samples=2)
    objective = parse_objective("nll + linear(0, 2, 0.5)*kl - 3*iw_bound(2)")
    parts = objective.parts(trace)
    assert parts.tolist() == [term(trace).mean().item() for _, term in objective.terms]
    for progress, weight in [(0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)]:
        expected = parts[0] + weight * parts[1] - 3 * parts[2]
        assert objective(trace, Context(torch.tensor(progress))).item() == pytest.approx(expected.item(), rel=1e-6)


def test_two_terms_of_one_name_are_refused():
    with pytest.raises(UsageError, match="kl stands twice"):
        parse_objective("kl + nll + 2*kl")
    with pytest.raises(UsageError, match="kl stands twice"):
        nll + kl + Term("kl", lambda trace, _: trace.log_px.mean(0))
    assert parse_objective("free_bits(1) + free_bits(2)").names == ["free_bits(1)", "free_bits(2)"]


def test_an_objective_holds_enough_samples_for_every_term():
    assert parse_objective("nll + kl").samples == 1
    assert parse_objective("nll + iw_bound(3) + iw_bound(8)").samples == 8


@quick
@given(st.text(max_size=30) | st.text(string.printable, max_size=30) | fragments)
@example("f({[]})")
@example("f({[]: 1})")
@example("9" * 400 + "*kl")
@example("f(a=1, a=2)")
@example("(" * 300)
@example("f(" * 90 + ")" * 90)
def test_any_text_is_read_or_refused_in_words(text):
    for parse in (parse_call, parse_list, parse_sum, parse_objective, parse_augmentation):
        try:
            parse(text)
        except UsageError as e:
            assert str(e)


@pytest.mark.parametrize("text", ["-" * 10_000 + "kl", " + ".join(["kl"] * 5000), "[" * 150 + "]" * 150,
                                  "f(" + "-" * 5000 + "1)"], ids=["minus", "plus", "brackets", "argument"])
def test_text_of_absurd_depth_is_refused_in_words(text):
    with pytest.raises(UsageError):
        parse_objective(text)


@pytest.mark.parametrize("text", ["f(a=1, a=2)", "1e999*kl", "f(1e999)"])
def test_text_without_one_meaning_is_refused(text):
    """A repeated argument would lose its first value; an infinite number could not be printed and read back."""
    with pytest.raises(UsageError):
        parse_sum(text)


@pytest.mark.parametrize(("text", "says"), [
    ("", "write a name or a call"), ("mixture(64", "write a name or a call"), ("mixture(n)", "cannot read 'n'"),
    ("mixture(**{'n': 4})", r"\*\* is not part"), ("mixture(*[4])", "cannot read"), ("a.b", "expected a name or a"),
    ("mixture(__import__('os'))", "arguments are numbers"), ("f(1)(2)", "expected a name or a call"),
    ("mixture(f'{1}')", "arguments are numbers"), ("4", "expected a name or a call"),
])
def test_what_is_not_a_call_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        parse_call(text)


@pytest.mark.parametrize(("text", "says"), [
    ("nll + 'a'*kl", "expected a number or a schedule"), ("True*kl", "expected a number"),
    ("nll * kl", "unknown weight 'nll'"),
    ("nll - linear(0, 1)*kl", "negative ends"), ("nll / 2", "cannot read"), ("nll + 4", "cannot read"),
    ("warmup(0, 1)*kl", "unknown weight"), ("linear(0)*kl", "Write it as linear"),
])
def test_what_is_not_a_sum_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        parse_objective(text)


@quick
@given(st.sampled_from(sorted(ROLES)), st.data())
def test_a_misspelt_part_suggests_the_nearest(role, data):
    name = data.draw(st.sampled_from(sorted(ROLES[role].parts)))
    at = data.draw(st.integers(0, len(name) - 1))
    wrong = name[: at + 1] + name[at] + name[at + 1 :]
    with pytest.raises(UsageError) as e:
        ROLES[role].make(wrong)
    assert f"unknown {ROLES[role].name} {wrong!r}" in str(e.value)
    assert "did you mean " in str(e.value)
    assert all(ROLES[role].signature(known) in str(e.value) for known in ROLES[role].parts)


def test_a_hopeless_name_suggests_nothing_but_lists_all():
    with pytest.raises(UsageError) as e:
        ROLES["prior"].make("zzzzqqq", Space((2,)))
    assert "did you mean" not in str(e.value)
    assert "normal" in str(e.value)


@pytest.mark.parametrize(("role", "text", "context"), [
    ("prior", "mixture(3, 4)", ((2,),)), ("prior", "mixture(m=3)", ((2,),)), ("prior", "mixture(shape=(3,))", ((2,),)),
    ("latent", "flat", ((1, 4, 4),)), ("term", "free_bits", ()), ("term", "nll(3)", ()),
])
def test_arguments_that_do_not_fit_show_how_to_write_the_part(role, text, context):
    with pytest.raises(UsageError, match="Write it as") as e:
        ROLES[role].make(text, *context)
    assert ROLES[role].signature(parse_call(text).name) in str(e.value)


BAD_ARGUMENTS = [
    ("latent", "flat('a')"), ("latent", "flat(0)"), ("latent", "flat(2.5)"), ("latent", "spatial(0, 2)"),
    ("latent", "spatial(2, 0)"), ("latent", "spatial(2, 1.5)"), ("encoder", "mlp(64)"), ("encoder", "mlp(hidden=(0,))"),
    ("encoder", "mlp(activation='rleu')"), ("encoder", "conv(0)"), ("encoder", "conv('wide')"),
    ("encoder", "resnet(patch=-1)"),
    ("prior", "mixture(0)"), ("prior", "mixture('many')"), ("prior", "flow('deep')"), ("prior", "flow(hidden=0)"),
    ("likelihood", "gaussian(0)"), ("likelihood", "gaussian('best')"), ("likelihood", "gaussian(-1)"),
    ("likelihood", "logistic(0)"), ("term", "free_bits('a')"), ("term", "iw_bound(0)"),
    ("term", "iw_bound(2.5)"), ("term", "iw_bound('a')"), ("weight", "linear(0, 1, 0)"), ("weight", "linear('a', 1)"),
    ("weight", "cyclic(0, 1, 0)"), ("weight", "cyclic(0, 1, fraction=0)"), ("weight", "constant('a')"),
    ("weight", "target_rate(0)"), ("weight", "target_rate(-3)"), ("weight", "target_rate('a')"), ("weight", "target_rate"),
    ("weight", "target_rate(30, start=0)"), ("weight", "target_rate(30, speed=0)"),
    ("augmentation", "crop(0)"), ("augmentation", "crop(1.5)"), ("augmentation", "crop('a')"),
    ("schedule", "cosine('a')"), ("schedule", "cosine(2.0)"), ("schedule", "cosine(-0.1)"),
    ("optimizer", "adamw('fast')"), ("optimizer", "adamw(-1.0)"),
]


@pytest.mark.parametrize(("role", "text"), BAD_ARGUMENTS, ids=[t for _, t in BAD_ARGUMENTS])
def test_arguments_out_of_range_are_refused_in_words(role, text):
    from torch import nn

    context = {"latent": ((1, 8, 8),), "encoder": ((1, 8, 8), None), "prior": (Space((2,)),), "likelihood": ((1, 8, 8),),
               "optimizer": ([nn.Linear(1, 1).weight],)}
    with pytest.raises(UsageError):
        ROLES[role].make(text, *context.get(role, ()))


def test_a_recipe_rejects_an_unknown_field_and_suggests_one():
    with pytest.raises(UsageError, match=r"no field 'encodr'.*did you mean 'encoder'") as e:
        Recipe().but(encodr="mlp")
    assert "batch_size" in str(e.value)


@quick
@given(st.from_regex(r"[a-z]{1,12}", fullmatch=True).filter(lambda n: n not in Recipe().to_dict()))
def test_a_recipe_rejects_any_unknown_field(name):
    with pytest.raises(UsageError, match=f"no field '{name}'"):
        Recipe().but(**{name: 1})


def test_a_recipe_changes_only_what_is_named():
    changed = Recipe().but(steps=7, prior="flow(2)")
    assert changed.to_dict() == {**Recipe().to_dict(), "steps": 7, "prior": "flow(2)"}
    assert Recipe(**changed.to_dict()) == changed


@pytest.mark.parametrize("change", [
    {"batch_size": -1}, {"accumulate": 0}, {"accumulate": 3}, {"threads": -1}, {"clip": -1.0}, {"ema": -0.1},
    {"ema": 1.0}, {"steps": 0}, {"epochs": 0}, {"minutes": -1}, {"precision": "fp16"}, {"clip": math.nan},
    {"ema": math.nan}, {"minutes": math.nan},
], ids=str)
def test_a_recipe_checks_its_numbers(change):
    with pytest.raises(UsageError, match=next(iter(change))):
        Recipe().but(**change)


def test_every_field_of_a_recipe_says_what_it_is():
    assert list(field_help()) == list(Recipe().to_dict())
    assert all(sentence.endswith(".") for sentence in field_help().values())


def test_every_default_of_a_recipe_can_be_built():
    from reparam.models.sampler import build_sampler

    model = build_sampler(Recipe(), (1, 8, 8), {"fitted_prior": "mixture(2)"})
    assert parse_augmentation(Recipe().augment) is None
    ROLES["schedule"].make(Recipe().schedule)
    ROLES["optimizer"].make(Recipe().optimizer, list(model.parameters()))


def test_weights_hit_their_end_points():
    rise = linear(0.5, 2.0, 0.1)
    assert [rise(0), rise(0.05), rise(0.1), rise(0.7), rise(1)] == pytest.approx([0.5, 1.25, 2, 2, 2])
    waves = cyclic(0.0, 1.0, cycles=4, fraction=0.5)
    assert [waves(t) for t in (0, 0.0625, 0.125, 0.2, 0.25, 0.3125, 1)] == pytest.approx([0, 0.5, 1, 1, 0, 0.5, 1])
    assert constant(3.0)(0.4) == 3


def test_a_sum_of_augmentations_applies_each_in_turn(images):
    x = images(8, (1, 6, 6))
    assert not x.equal(parse_augmentation("flip + crop(1)")(x))
    with pytest.raises(UsageError, match="takes no weight"):
        parse_augmentation("2*flip")
    with pytest.raises(UsageError, match="takes no weight"):
        parse_augmentation("flip - crop(1)")
    with pytest.raises(UsageError, match="did you mean 'crop'"):
        parse_augmentation("crp(1)")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_its_images(name):
    """Its parts exist, go together, and give finite losses on grey images and on colour ones that are not square."""
    for shape in ((1, 28, 28), (3, 33, 20)) if PRESETS[name].data == ANY and name != "ladder_l" else ((1, 28, 28),):
        Assembly(PRESETS[name].recipe, shape).check()


def test_the_identity_of_a_recipe_leaves_out_seed_and_machine():
    recipe = Recipe(latent="flat(3)", steps=7)
    assert recipe.but(seed=3, threads=1, precision="bf16", compile=True).identity() == recipe.identity() == recipe
    assert all(recipe.but(**changes).identity() != recipe.identity() for changes in ({"ema": 0.9}, {"latent": "flat(4)"}))
