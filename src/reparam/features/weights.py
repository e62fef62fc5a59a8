"""Reading a file of weights: tensors only, nothing in it is ever run, and its hash is checked where its name holds one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ModelFileError

Weights = dict[str, Tensor]
HASHED = re.compile(r"-([0-9a-f]{8})\.pth?$")
"""Name of a file that carries the first digits of its own sha256, as files of torch's hub do."""


def read_weights(path: Path) -> tuple[Weights, str]:
    """Tensors by name, floating-point ones in float32, and the sha256 of the file.

    Raises:
        ModelFileError: a file that is truncated or damaged, is not the one that its name promises, or holds anything but
            tensors by name.
    """
    try:
        with path.open("rb") as f:
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise ModelFileError(f"cannot read {path}: {e.strerror or e}") from e
    promised = HASHED.search(path.name)
    if promised and not sha256.startswith(promised[1]):
        raise ModelFileError(f"{path} is damaged or another file: its name promises a sha256 that begins with "
                             f"{promised[1]}, and it begins with {sha256[:8]}. Get it again, or rename it if those digits "
                             "are no hash.")
    held = _held(path)
    if not isinstance(held, dict) or not held or not all(isinstance(t, Tensor) for t in cast(dict[Any, Any], held).values()):
        raise ModelFileError(f"{path} holds no tensors by name: save a network's state_dict() alone")
    return {str(k): t.float() if t.is_floating_point() else t for k, t in cast(Weights, held).items()}, sha256


def _held(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as e:
        raise ModelFileError(f"{path} is truncated or no .safetensors file: {e}. Get it again.") from e
    except Exception as e:  # what a damaged pickle raises depends on where it broke
        reason = str(e).partition("\n")[0] or type(e).__name__
        raise ModelFileError(f"{path} is truncated or holds more than weights, and is not read: {reason[:200]}. "
                             "Get it again, or save a network's state_dict() alone.") from e


def fill(net: nn.Module, weights: Weights, path: Path) -> None:
    """Puts the weights into a network laid out without memory; names and shapes must be the network's own.

    Raises:
        ModelFileError: they are not.
    """
    try:
        net.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as e:
        first = " ".join(str(e).split("\n\t")[1:2]).strip()
        raise ModelFileError(f"{path} does not hold the weights of {type(net).__name__}: {first[:300]}") from e
