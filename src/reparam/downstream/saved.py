"""What is fitted to a model and kept beside it, such as directions or a classifier: one safetensors file for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from ..errors import ModelFileError
from ..files.untrusted import conform, not_finite, open_tensors, parse_json
from ..pretrained.files import saving
from ..pretrained.image_model import ImageModel
from ..text import for_json

Array = npt.NDArray[Any]


class Kept(TypedDict):
    """What the header of such a file says."""

    what: str
    model: str
    """Digest of the weights that it was fitted to."""
    facts: Any


def digest_of(model: ImageModel) -> str:
    """Of a model's weights: what is fitted to one model's codes says nothing of another's."""
    whole = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.network.state_dict().items()):
        whole.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def save_fitted(path: str | Path, what: str, model: ImageModel, arrays: Mapping[str, npt.ArrayLike], facts: Any) -> None:
    """Writes arrays and facts, JSON, that were fitted to a model, atomically.

    Raises:
        ReparamError: the disk is full. What stood there is as it was.
    """
    kept: Kept = {"what": what, "model": digest_of(model), "facts": facts}
    tensors = {name: torch.as_tensor(np.asarray(array)) for name, array in arrays.items()}
    with saving(Path(path), tensors, {"reparam": json.dumps(json.loads(for_json(kept)))}):
        pass


def read_fitted(path: str | Path, what: str, model: ImageModel, hint: Any, *, again: str) -> tuple[dict[str, Array], Any]:
    """Arrays, and facts as the annotation `hint` asks for them, of a file that `save_fitted` wrote for this model; `again`
    is the command that writes it.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it cannot be read, is something else, or was fitted to other weights.
    """
    advice = f". Write it again with: {again}"
    with open_tensors(path, advice=advice) as f:
        try:
            kept: Kept = conform(parse_json((f.metadata() or {})["reparam"]), Kept)
            facts = conform(kept["facts"], hint) if kept["what"] == what else None
        except (KeyError, ValueError) as e:
            raise ModelFileError(f"{path} cannot be read ({e}){advice}") from e
        if kept["what"] != what:
            raise ModelFileError(f"{path} does not hold {what}{advice}")
        if kept["model"] != digest_of(model):
            raise ModelFileError(f"{path} was fitted to this model as it was before, whose codes were others{advice}")
        tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    if (name := not_finite(tensors)) is not None:
        raise ModelFileError(f"{path} holds values that are not finite, in {name}{advice}")
    return {k: v.numpy() for k, v in tensors.items()}, facts
