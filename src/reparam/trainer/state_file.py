"""The state of training as one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ..errors import ModelFileError
from ..files.untrusted import Amount, Count, conform, open_tensors, parse_json
from ..models.sampler import Sampler
from ..parts.recipe import Recipe
from ..pretrained.config import UNBUILT, Config
from ..pretrained.files import check_header, header_of, laid_out, saving
from .snapshots import Snapshot


def save_state(path: str | Path, snapshot: Snapshot) -> None:
    """Writes what continues a run as one safetensors file, atomically; its numbers stand in the header as JSON."""
    tensors, numbers = snapshot
    with saving(Path(path), tensors, {"reparam": json.dumps(numbers)}):
        pass


def load_state(path: str | Path) -> Snapshot:
    """Reads what `save_state` wrote. Its tensors lie in the file until they are used, whatever sizes it claims.

    Raises:
        ModelFileError: the file is truncated or not such a state.
    """
    with open_tensors(path, advice=DISCARD) as f:
        return {k: f.get_tensor(k) for k in f.keys()}, _numbers(Path(path), f)  # noqa: SIM118


def check_state(path: str | Path, recipe: Recipe, image_shape: tuple[int, int, int]) -> None:
    """Compares the sizes of a state with those of the model that it is of, before either takes memory.

    Raises:
        ModelFileError: they differ, or the file cannot be read.
    """
    path = Path(path)
    with open_tensors(path, advice=DISCARD) as f:
        found = {k.removeprefix("model."): v for k, v in header_of(f).items() if k.startswith("model.")}
    try:
        expected = laid_out(Config(recipe, image_shape), found).tensors()
    except UNBUILT as e:
        raise ModelFileError(f"{path} is not of the recipe in run.json: {e}{DISCARD}") from e
    check_header(path, found, expected, f"the recipe in run.json{DISCARD}")


def load_average(path: str | Path, recipe: Recipe, image_shape: tuple[int, int, int]) -> tuple[Sampler, int]:
    """The model with the averaged weights of a state, in evaluation mode on the CPU, and its step.

    Raises:
        ModelFileError: no state there, or one that does not fit the recipe or cannot be read.
    """
    path = Path(path)
    try:
        with open_tensors(path, advice=DISCARD) as f:
            header, numbers = header_of(f), _numbers(path, f)
            which = "ema." if any(k.startswith("ema.") for k in header) else "model."
            found = {k.removeprefix(which): v for k, v in header.items() if k.startswith(which)}
            sampler = laid_out(Config(recipe, image_shape), found)
            check_header(path, found, sampler.tensors(), f"the recipe in run.json{DISCARD}")
            sampler.load_tensors({k: f.get_tensor(which + k) for k in found})
    except FileNotFoundError as e:
        raise ModelFileError(f"{path} is not there yet") from e
    except UNBUILT as e:
        raise ModelFileError(f"{path} is not of the recipe in run.json: {e}{DISCARD}") from e
    return sampler.eval(), int(numbers["step"])


def _numbers(path: Path, file: Any) -> dict[str, Any]:
    """The numbers of a state, which stand in its header."""
    try:
        return conform(parse_json((file.metadata() or {})["reparam"], infinite=True), Begun)
    except (KeyError, ValueError) as e:
        raise ModelFileError(f"{path} cannot be read ({e}){DISCARD}") from e


DISCARD = "; remove it to start this run again from its beginning"


class Begun(TypedDict):
    """What every state says, whoever reads it."""

    step: Count
    images: NotRequired[Count]
    seconds: NotRequired[Amount]
