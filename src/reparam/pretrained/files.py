"""Model files: `config.json` and `model.safetensors`, which are data and nothing else; loading one never runs its code.

Sizes are compared before anything is allocated: the config's model is laid out without memory, and the weights' header
must name the same tensors with the same shapes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ModelFileError, ReparamError
from ..files.untrusted import conform, not_finite, open_tensors, parse_json, read_text
from ..files.writing import replacing, write_text
from ..models.sampler import Sampler, build_sampler
from ..text import for_json
from .allowance import Allowance, check_literals
from .config import UNBUILT, Config, parse_config
from .version_1 import upgraded_tensor


def save_model(folder: str | Path, sampler: Sampler, config: Config) -> None:
    """Writes `model.safetensors`, then `config.json`, so that a kill at any moment leaves one model or the other.

    The weights carry the config that they belong to and the digest of the one that it is to replace: where that one still
    stands beside them, only the first of the two files had been renamed. Figures of the model that stood there go.

    Raises:
        ReparamError: the disk is full. What stood there is as it was.
    """
    folder = Path(folder)
    text = for_json(config.to_dict(), indent=2) + "\n"
    path = folder / "config.json"
    carried: Carried = {"config": text, "replaces": _digest(path.read_bytes()) if path.is_file() else ""}
    # one entry: safetensors writes several in any order, and the same run is to leave the same bytes
    with saving(folder / "model.safetensors", sampler.tensors(), {"reparam": json.dumps(carried)}):
        (folder / "evaluation.json").unlink(missing_ok=True)
    write_text(path, text)


class Carried(TypedDict):
    """What weights carry of their config."""

    config: str
    replaces: str
    """Digest of the `config.json` that it is to replace."""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load_model(folder: str | Path) -> tuple[Sampler, Config]:
    """Reads a model that `save_model` wrote, in evaluation mode on the CPU.

    Raises:
        ModelFileError: a file is missing, truncated or of another version, or the tensors do not fit the config.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists() and not (folder / "model.safetensors").exists():
        raise ModelFileError(f"no model in {folder}: it has no config.json")
    try:
        with open_tensors(folder / "model.safetensors", advice=": the file is truncated or not a safetensors file") as f:
            return _read_model(folder, f)
    except FileNotFoundError as e:
        _read_config(folder, None)  # which may be what is wrong
        raise ModelFileError(f"{folder} has no model.safetensors: training had not saved a model there yet. "
                             f"Go on with: reparam train --resume {folder}") from e


def _read_model(folder: Path, file: Any) -> tuple[Sampler, Config]:
    path = folder / "model.safetensors"
    config, version = _read_config(folder, _carried(path, file.metadata() or {}))
    header = header_of(file)
    names = {upgraded_tensor(stored) if version == 1 else stored: stored for stored in header}
    found = {name: header[stored] for name, stored in names.items()}
    try:
        sampler = laid_out(config, found)
    except UNBUILT as e:
        raise ModelFileError(f"{folder / 'config.json'} does not describe a model of this version: {e}") from e
    check_header(path, found, sampler.tensors(), "its config.json")
    tensors = {name: file.get_tensor(stored) for name, stored in names.items()}
    if (name := not_finite(tensors)) is not None:
        raise ModelFileError(f"{path} holds values that are not finite, the first of them in {name}: the file is damaged, "
                             "or its training had diverged")
    beyond = next((a.index for a in config.axes if a.index >= math.prod(sampler.model.latent.shape)), None)
    if beyond is not None:
        raise ModelFileError(f"{folder / 'config.json'} does not describe a model: its axes name the latent {beyond} of "
                             f"{math.prod(sampler.model.latent.shape)}")
    sampler.load_tensors(tensors)
    return sampler.eval(), config


def laid_out(config: Config, found: Header) -> Sampler:
    """The model of a config without memory, at no more cost than weights with this header explain."""
    numbers = sum(math.prod(shape) for _, shape in found.values())
    check_literals(config.recipe, list(config.stages.values()), config.image_shape, numbers)
    with torch.device("meta"), Allowance(len(found), numbers):
        return build_sampler(config.recipe, config.image_shape, config.stages)


def _carried(path: Path, header: Mapping[str, str]) -> Carried | None:
    """None in a file of an earlier version."""
    try:
        return conform(parse_json(header["reparam"]), Carried) if "reparam" in header else None
    except ValueError as e:
        raise ModelFileError(f"the header of {path} cannot be read: {e}") from e


def read_config(folder: str | Path) -> Config:
    """The config of the model in a folder, whose weights are left alone.

    Raises:
        ModelFileError: there is none, or it cannot be read.
    """
    folder, carried = Path(folder), None
    path = folder / "model.safetensors"
    with contextlib.suppress(FileNotFoundError), open_tensors(path, advice="") as f:
        carried = _carried(path, f.metadata() or {})
    return _read_config(folder, carried)[0]


def _read_config(folder: Path, carried: Carried | None) -> tuple[Config, int]:
    """The config in a model's folder, or the one that its weights carry where these alone had been replaced; and its
    version."""
    path = folder / "config.json"
    try:
        text = read_text(path)
    except FileNotFoundError as e:
        if carried is None:
            raise ModelFileError(f"no model in {folder}: it has no config.json") from e
        return parse_config(path, carried["config"])
    except (OSError, ValueError) as e:
        raise ModelFileError(f"{path} cannot be read: {e}") from e
    interrupted = carried is not None and carried["replaces"] == _digest(text.encode("utf-8"))
    return parse_config(path, carried["config"] if carried is not None and interrupted else text)


_KINDS = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL"}
"""How a file names the types that models hold."""


Header = dict[str, tuple[str, tuple[int, ...]]]
"""Type and shape of each tensor of a file."""


def _described(kind: str, shape: Sequence[int]) -> str:
    """Shape of a tensor, and its type where that is not the usual one: '(3, 4)', 'F64 (3, 4)'."""
    return f"{'' if kind == 'F32' else f'{kind} '}{tuple(shape)}"


def header_of(file: Any) -> Header:
    slices = {k: file.get_slice(k) for k in file.keys()}  # noqa: SIM118
    return {k: (s.get_dtype(), tuple(s.get_shape())) for k, s in slices.items()}


def check_header(path: Path, found: Header, expected: Mapping[str, Tensor], of: str) -> None:
    """Compares names, types and shapes of a file's tensors with those expected.

    Raises:
        ModelFileError: they differ; the message names the first.
    """
    wanted = {k: (_KINDS[v.dtype], tuple(v.shape)) for k, v in expected.items()}
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    unlike = [f"{k} is {_described(*found[k])}, not {_described(*wanted[k])}" for k in sorted(wanted.keys() & found.keys())
              if found[k] != wanted[k]]
    if missing or extra or unlike:
        problems = [*(f"{k} is missing" for k in missing), *(f"{k} is not expected" for k in extra), *unlike]
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelFileError(f"{path} does not fit {of}: {'; '.join(problems[:3])}{more}")


@contextlib.contextmanager
def saving(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> Generator[None]:
    """Writes tensors atomically; the block is what comes between their last byte and their name."""
    # clones: safetensors refuses tensors that share memory, as an expanded buffer would
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    try:
        with replacing(path) as temporary:
            save_file(plain, temporary, metadata)
            yield
    except SafetensorError as e:
        raise ReparamError(f"cannot write {path}: {e}. Nothing was lost: free some space or name another folder, then "
                           "run the command again.") from e
