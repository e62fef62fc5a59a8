"""Objectives form a vector space, and what is printed is what is parsed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reparam.errors import UsageError
from reparam.objectives.objective import Objective, parse_objective
from reparam.objectives.terms import kl, nll
from reparam.objectives.weights import constant, cyclic, late, linear, target_rate

WEIGHTS = st.one_of(st.floats(-8, 8).map(lambda v: round(v, 3)),
                    st.floats(0, 4).map(lambda v: linear(0.0, round(v, 3), 0.5)))


def weights(objective: Objective, progress: float = 0.3) -> dict[str, float]:
    return dict(zip(objective.names, objective.weights(progress), strict=True))


@pytest.mark.parametrize("written, expected", [
    (nll - kl, {"nll": 1, "kl": -1}), (kl * 4, {"kl": 4}), (4 * kl, {"kl": 4}), (-nll, {"nll": -1}),
    (2 * (nll + kl), {"nll": 2, "kl": 2}), ((nll + 3 * kl) * 0.5, {"nll": 0.5, "kl": 1.5}),
    (nll - kl * 2, {"nll": 1, "kl": -2}), (linear(0, 1) * kl, {"kl": 0.3}), (kl * linear(0, 1), {"kl": 0.3}),
    (linear(0, 1) * (nll + 2 * kl), {"nll": 0.3, "kl": 0.6}), (3 * (nll + linear(0, 1) * kl), {"nll": 3, "kl": 0.9}),
    (-(late(2, 0.1, 0.1) * kl), {"kl": -2}), (2 * (constant(3) * kl), {"kl": 6}),
    (2 * (cyclic(0, 1, 1, 0.6) * kl), {"kl": 1}), (target_rate(3) * kl, {"kl": 1}),
    (target_rate(3) * kl + nll, {"kl": 1, "nll": 1})])
def test_algebra(written, expected):
    assert weights(written) == pytest.approx(expected)


@settings(deadline=None)
@given(WEIGHTS, WEIGHTS)
def test_what_is_printed_is_what_is_parsed(a, b):
    written = a * nll + b * kl
    again = parse_objective(str(written))
    assert str(again) == str(written)
    for progress in (0.0, 0.4, 1.0):
        assert weights(again, progress) == pytest.approx(weights(written, progress))


@settings(deadline=None)
@given(st.floats(-4, 4), st.floats(-4, 4))
def test_scaling_distributes(a, b):
    values = [torch.tensor([1.5]), torch.tensor([-0.5])]
    total = lambda o: sum(w * v for w, v in zip(o.weights(1.0), values, strict=True))  # noqa: E731
    assert float(total(a * (nll + b * kl))) == pytest.approx(a * (1.5 - 0.5 * b), abs=1e-5)


@pytest.mark.parametrize("wrong", [
    lambda: linear(0, 1) * (linear(0, 1) * kl), lambda: 2 * (target_rate(3) * kl), lambda: nll + nll])
def test_what_has_no_meaning_is_refused(wrong):
    with pytest.raises(UsageError):
        wrong()
