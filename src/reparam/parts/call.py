"""The small language that names parts: calls with literal arguments, lists and weighted sums of them."""

from __future__ import annotations

import ast
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError

AUTO = "auto"
"""The one word that needs no quotes as an argument: what stands there is to be found."""


@dataclass(frozen=True)
class Call:
    """A part by name, with literal arguments: `mixture(64)`.

    >>> str(Call("mixture", (64,)))
    'mixture(64)'
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        arguments = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(arguments)})" if arguments else self.name


def parse_call(text: str) -> Call:
    """Reads one part.

    >>> parse_call("spline_flow(3, bins=16)")
    Call(name='spline_flow', args=(3,), kwargs={'bins': 16})

    Raises:
        UsageError: the text is not a name or a call with literal arguments.
    """
    return _call(_expression(text), text)


def parse_list(text: str) -> list[Call]:
    """Reads parts separated by commas.

    >>> [str(call) for call in parse_list("elbo, iw_nll(500)")]
    ['elbo', 'iw_nll(500)']
    """
    node = _expression(text)
    return [_call(n, text) for n in (node.elts if isinstance(node, ast.Tuple) else [node])]


def parse_sum(text: str) -> list[tuple[float | Call, Call]]:
    """Reads a sum of weighted parts as (weight, part) pairs; a weight may be a schedule.

    >>> [(str(weight), str(part)) for weight, part in parse_sum("nll - 4*kl")]
    [('1.0', 'nll'), ('-4.0', 'kl')]

    Raises:
        UsageError: anything but names, calls with literals, numbers, `+`, `-` and `*`.
    """
    return _terms(_expression(text), text)


def _expression(text: str) -> ast.expr:
    try:
        if len(text) > 2000:  # deeper nesting than Python's own recursion allows
            raise ValueError
        with warnings.catch_warnings():  # Python remarks on text such as '1if x', which is refused below
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as e:
        raise UsageError(f"cannot read {text!r}: write a name or a call, such as 'normal' or 'mixture(64)'") from e


def _call(node: ast.expr, text: str) -> Call:
    match node:
        case ast.Name(id=name):
            return Call(name)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            if any(k.arg is None for k in keywords):
                raise UsageError(f"cannot read {text!r}: ** is not part of this language")
            given = [k.arg for k in keywords]
            if len(set(given)) < len(given):
                raise UsageError(f"cannot read {text!r}: an argument stands twice")
            return Call(name, tuple(_literal(a, text) for a in args),
                        {str(k.arg): _literal(k.value, text) for k in keywords})
        case _:
            raise UsageError(f"cannot read {ast.unparse(node)!r} in {text!r}: expected a name or a call, such as "
                             "'normal' or 'mixture(64)'")


def _literal(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name) and node.id == AUTO:
        return AUTO
    try:
        value = ast.literal_eval(node)
        ast.literal_eval(repr(value))  # an infinite number has no literal
        return value
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as e:
        raise UsageError(f"cannot read {ast.unparse(node)!r} in {text!r}: arguments are numbers, quoted strings or "
                         "tuples of them") from e


def _terms(node: ast.expr, text: str) -> list[tuple[float | Call, Call]]:
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _terms(left, text) + _terms(right, text)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _terms(left, text) + _negated(right, text)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _negated(operand, text)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return [(_weight(left, text), _call(right, text))]
        case _:
            return [(1.0, _call(node, text))]


def _negated(node: ast.expr, text: str) -> list[tuple[float | Call, Call]]:
    negated: list[tuple[float | Call, Call]] = []
    for weight, part in _terms(node, text):
        if isinstance(weight, Call):
            raise UsageError(f"cannot subtract a scheduled term in {text!r}: give the schedule negative ends")
        negated.append((-weight, part))
    return negated


def _weight(node: ast.expr, text: str) -> float | Call:
    if isinstance(node, ast.Call | ast.Name):
        return _call(node, text)
    value = _literal(node, text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"cannot read the weight {ast.unparse(node)!r} in {text!r}: expected a number or a schedule, "
                         "such as '4*kl' or 'linear(0, 1, 0.1)*kl'")
    try:
        weight = float(value)
    except OverflowError:
        weight = math.inf
    if not math.isfinite(weight):
        raise UsageError(f"the weight in {text!r} is not finite")
    return weight
