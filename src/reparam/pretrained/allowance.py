"""What building a model may cost when its config comes from a stranger: no more than its weights explain.

A model is laid out on the meta device, where its weights take no memory. But every layer takes time, and what is computed by
value meanwhile, such as the masks of autoregressive networks, takes memory. Both are bounded here by the size of the file of
weights, for any part, whatever it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ..errors import ModelFileError, UsageError
from ..parts.call import parse_call
from ..parts.recipe import Recipe

PARTS = ("encoder", "decoder", "latent", "posterior", "prior", "likelihood")
"""Fields of a recipe that a model is built from."""


class Allowance(TorchDispatchMode):
    """Stops what makes more tensors, numbers or bytes than a file of so many tensors and numbers can need.

    The factors are several times what any registered part takes, and the constants what the smallest models do.
    """

    def __init__(self, tensors: int, numbers: int) -> None:
        super().__init__()
        self.tensors, self.numbers, self.bytes = 64 * tensors + 10_000, 16 * numbers + 2**20, 128 * numbers + 2**25

    def __torch_dispatch__(self, func: Any, types: Sequence[Any], args: Sequence[Any] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        made = [] if _views_or_changes(func) else _foreseen(func, args, kwargs)
        self.tensors -= 1
        if _on_meta(args, kwargs):
            self.numbers -= sum(t.numel() for t in made)
        else:
            self.bytes -= sum(t.numel() * t.element_size() for t in made)
        if min(self.tensors, self.numbers, self.bytes) < 0:
            raise ModelFileError("it describes a model larger than its weights")
        return func(*args, **kwargs)


def _views_or_changes(func: Any) -> bool:
    """Whether an operation returns memory that was there before."""
    return all(r.alias_info is not None for r in func._schema.returns)


def _on_meta(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    given = kwargs.get("device")
    if given is not None:
        return torch.device(given).type == "meta"
    held = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    return bool(held) and all(t.is_meta for t in held)


def _foreseen(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """Tensors like those that an operation will return, without memory."""
    args, kwargs = tree_map_only(Tensor, _without_memory, (args, kwargs))
    if kwargs.get("device") is not None or not any(isinstance(t, Tensor) for t in tree_leaves((args, kwargs))):
        kwargs["device"] = torch.device("meta")
    try:
        out = func(*args, **kwargs)
    except (NotImplementedError, RuntimeError, TypeError):  # its size follows from values: no larger than indices of them
        return [torch.empty(t.numel(), t.dim() or 1, dtype=torch.int64, device="meta")
                for t in tree_leaves(args) if isinstance(t, Tensor)]
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def _without_memory(t: Tensor) -> Tensor:
    return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta")


def check_literals(recipe: Recipe, others: Sequence[str | None], image_shape: Sequence[int], numbers: int) -> None:
    """Refuses whole numbers in the parts of a model that are greater than all its weights together: a width, a number of
    layers or of components has at least one weight for each.

    Raises:
        ModelFileError: that.
    """
    most = max(numbers, 4096)
    texts = [*(getattr(recipe, name) for name in PARTS), *(text for text in others if text is not None)]
    for value in [*image_shape, *(n for text in texts for n in _whole_numbers(text))]:
        if abs(value) > most:
            raise ModelFileError(f"it describes a model larger than its weights, by the number {value:.3g}" if
                                 abs(value) < 1e300 else "it describes a model larger than its weights")


def _whole_numbers(text: str) -> list[int]:
    """Those in a part call, in the lists and the part calls among its arguments too."""
    try:
        call = parse_call(text)
    except UsageError:  # a word, or what building will refuse
        return []
    numbers, left = list[int](), [*call.args, *call.kwargs.values()]
    while left:
        value = left.pop()
        if isinstance(value, str):
            numbers += _whole_numbers(value)
        elif isinstance(value, tuple | list | set | dict):
            left += list(value.items() if isinstance(value, dict) else value)  # pyright: ignore
        elif isinstance(value, int):
            numbers.append(value)
    return numbers
