"""Batches for the training loop: read as images and labels, or refused with the reason.

The first batch is checked, since torch's own errors would not name what is wrong with it. Later ones are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from ..data.stream import Batches
from ..errors import UsageError
from ..models.vae import Model
from ..tensors import Shape, as_pixels

HALF_A_LEVEL = 0.5 / 255
"""Tolerance around [0, 1], for the rounding of resized images."""
ACCEPTED = ("a batch is a tensor of images (B, C, H, W), uint8 or floats in [0, 1], or a tuple or list of one and of labels "
            "(B,): x, (x,) or (x, y)")


def read_codes(batches: Iterable[Any], device: torch.device) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Inputs and labels of batch after batch, on the device, unchecked.

    Raises:
        UsageError: no batch at all, or one that is neither a tensor nor a tensor with labels.
    """
    for batch in repeated(batches):
        x, y = _split(batch)
        yield x.to(device), cast(Tensor, y).to(device) if y is not None else None


def read_images(batches: Iterable[Any], model: Model, device: torch.device) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Images and labels of batch after batch, on the device; the first batch is checked.

    uint8 is read as levels 0 to 255. Labels are dropped where the model has no use for them. A `Stream`
    and the like are trusted.

    Raises:
        UsageError: no batch at all, or one that is no images of the model's shape in [0, 1].
    """
    checked, classes = isinstance(batches, Batches), model.latent.classes
    for batch in repeated(batches):
        x, y = _split(batch)
        if not checked:
            _check_images(x, model, device)
            if classes and y is not None:
                _check_labels(y, len(x), classes)
            checked = True
        x = x if x.dtype is torch.float32 else as_pixels(x)
        yield x.to(device), cast(Tensor, y).to(device) if classes and y is not None else None


def repeated(batches: Iterable[Any]) -> Iterator[Any]:
    """Batch after batch. What can be iterated again, such as a list or a DataLoader, has no end; an iterator has.

    Raises:
        UsageError: no batch at all.
    """
    iterator, empty = iter(batches), True
    while True:
        before, empty = empty, True
        for batch in iterator:
            empty = False
            yield batch
        if empty and before:
            raise UsageError("there is nothing to train on: no batch came")
        if empty or iterator is batches:
            return
        iterator = iter(batches)


def _split(batch: Any) -> tuple[Tensor, Any]:
    """Images and labels of a batch."""
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, tuple | list) and 1 <= len(cast(list[Any], batch)) <= 2 and isinstance(batch[0], Tensor):
        return batch[0], batch[1] if len(cast(list[Any], batch)) == 2 else None
    got = _named(cast(Any, batch))
    fix = ("take what you need out of it, such as ((b['image'], b['label']) for b in loader)" if isinstance(batch, dict) else
           "bring them to tensors, with torch.as_tensor or torch.stack")
    raise UsageError(f"cannot read a batch that is {got}: {ACCEPTED}. {fix[0].upper()}{fix[1:]}")


def _named(value: Any) -> str:
    """What something is, and what is in it."""
    if isinstance(value, dict):
        return f"a dict with the keys {', '.join(map(repr, cast(dict[Any, Any], value)))}"
    if isinstance(value, tuple | list):
        items = cast(list[Any], value)
        inside = ", ".join(type(v).__name__ for v in items[:3]) + (", …" if len(items) > 3 else "")
        return f"a {type(items).__name__} of {len(items)} ({inside})"
    return f"a {type(value).__name__}"


def _check_images(x: Tensor, model: Model, device: torch.device) -> None:
    shape = image_shape_of(model, device)
    if x.dim() != 4 or not len(x):
        raise UsageError(f"a batch of shape {tuple(x.shape)}: images are (B, C, H, W), here (B, {_sizes(shape)}), and at "
                         "least one; grey images (B, H, W) become them by x[:, None]")
    if tuple(x.shape[1:]) != shape:
        last = tuple(x.shape[1:]) == (*shape[1:], shape[0])
        fix = ("channels come first: x.permute(0, 3, 1, 2)" if last else
               f"resize the images, or build the model for theirs: build_model(recipe, {tuple(x.shape[1:])})")
        raise UsageError(f"a batch of images of shape {tuple(x.shape[1:])}, but the model is for {shape} (channels, height, "
                         f"width): {fix}")
    if not x.is_floating_point() and x.dtype not in (torch.uint8, torch.bool):
        raise UsageError(f"images of whole numbers of type {_type(x)}, from {x.min():d} to {x.max():d}, have no range of "
                         "their own: give uint8 levels, or floats in [0, 1]")
    if not x.is_floating_point():
        return
    if not x.isfinite().all():
        raise UsageError("the first batch of images contains NaN or infinity")
    low, high = float(x.min()), float(x.max())
    if low < -HALF_A_LEVEL or high > 1 + HALF_A_LEVEL:
        fix = ("divide by 255, or pass uint8" if low >= 0 and high <= 255 else
               "bring them there, such as (x + 1) / 2 for what lies from -1 to 1")
        raise UsageError(f"images are floats in [0, 1]; got {_type(x)} from {low:g} to {high:g}: {fix}")


def _check_labels(y: Any, n: int, classes: int) -> None:
    if not isinstance(y, Tensor) or y.shape != (n,) or y.is_floating_point() or y.min() < -1 or y.max() >= classes:
        got = (f"{_type(y)} {tuple(y.shape)}" + (f" from {y.min()} to {y.max()}" if y.numel() else "")
               if isinstance(y, Tensor) else _named(y))
        raise UsageError(f"the model has {classes} classes, so labels are ({n},) whole numbers from 0 to {classes - 1}, "
                         f"or -1 for an image without one; got {got}")


def _sizes(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def _type(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


@torch.no_grad()
def image_shape_of(model: Model, device: torch.device) -> Shape:
    """(C, H, W) of the images that a model makes: those of one code, which is decoded. Leaves the model as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return tuple(model.decode(torch.zeros(1, 1, *model.latent.shape, device=device)).mean.shape[2:])
    finally:
        for module, mode in modes:
            module.training = mode
