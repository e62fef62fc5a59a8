"""Model files: `config.json` and `model.safetensors`, which are data and nothing else; loading one never runs its code.

Sizes are compared before anything is allocated: the config's model is laid out without memory, and the weights' header
must name the same tensors with the same shapes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .build import build_model
from .errors import ModelFileError, ReparamError, UsageError
from .files import replacing, write_json
from .recipe import Recipe
from .snapshots import Snapshot
from .untrusted import Count, conform, open_tensors, parse_json
from .vae import Model

VERSION = 1


@dataclass(frozen=True)
class Axis:
    """One latent dimension, as the training images use it."""

    index: int
    """Position in the flattened latent."""
    nats: float
    """Information that it carries about an image on average; 0 where nothing tells, as in a GAN."""
    mean: float
    std: float
    """Of the aggregate posterior."""


class Added(TypedDict, total=False):
    """What was trained after a model, as part calls; fields of its `Config`."""

    fitted_prior: str | None
    resampler: str | None
    refiner: str | None


@dataclass(frozen=True)
class Config:
    """What a model is: its recipe, what its images look like, and what was learned about its latents."""

    recipe: Recipe
    image_shape: tuple[int, int, int]
    """(C, H, W)."""
    fitted_prior: str | None = None
    """The prior fitted after training, as a part call."""
    axes: tuple[Axis, ...] = ()
    """Latent dimensions by information, most first; at most 256."""
    classes: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the model was trained on: source, number of images, fingerprint."""
    resampler: str | None = None
    """The network of the resampler trained after the prior, as a part call."""
    refiner: str | None = None
    """The refiner trained after the model, as a part call."""

    def to_dict(self) -> dict[str, Any]:
        return {"format": "reparam", "version": VERSION, **asdict(self)}


def save_model(folder: str | Path, model: Model, config: Config) -> None:
    """Writes `model.safetensors`, then `config.json`, each atomically."""
    folder = Path(folder)
    _save_tensors(folder / "model.safetensors", model.state_dict(), {"format": "pt"})
    write_json(folder / "config.json", config.to_dict())


def load_model(folder: str | Path) -> tuple[Model, Config]:
    """Reads a model that `save_model` wrote, in evaluation mode on the CPU.

    Raises:
        ModelFileError: a file is missing, truncated or of another version, or the tensors do not fit the config.
    """
    folder = Path(folder)
    config = read_config(folder / "config.json")
    path = folder / "model.safetensors"
    try:
        with torch.device("meta"):
            model = build_model(config.recipe, config.image_shape, fitted_prior=config.fitted_prior,
                                resampler=config.resampler, refiner=config.refiner)
        with safe_open(path, "pt") as f:
            _check_header(path, _header(f), model)
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    except FileNotFoundError as e:
        raise ModelFileError(f"{folder} has no model.safetensors: training had not saved a model there yet. "
                             f"Go on with: reparam train --resume {folder}") from e
    except (SafetensorError, OSError) as e:
        raise ModelFileError(f"{path} cannot be read ({e}): the file is truncated or not a safetensors file") from e
    except (UsageError, RuntimeError, TypeError, ValueError, AttributeError) as e:
        raise ModelFileError(f"{folder / 'config.json'} does not describe a model of this version: {e}") from e
    model.load_state_dict(tensors, assign=True)
    return model.eval(), config


def read_config(path: Path) -> Config:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ModelFileError(f"no model in {path.parent}: it has no config.json") from e
    except (OSError, ValueError, RecursionError) as e:
        raise ModelFileError(f"{path} cannot be read: {e}") from e
    if not isinstance(raw, dict) or raw.get("format") != "reparam":
        raise ModelFileError(f"{path} is not a reparam model's config")
    if raw.get("version") != VERSION:
        raise ModelFileError(f"{path} is of version {raw.get('version')}; this reparam reads version {VERSION}")
    try:
        c, h, w = (int(n) for n in raw["image_shape"])
        return Config(Recipe().but(**raw["recipe"]), (c, h, w), raw["fitted_prior"],
                      tuple(Axis(**a) for a in raw["axes"]), tuple(raw["classes"]), dict(raw["data"]), raw.get("resampler"),
                      raw["refiner"])
    except (KeyError, TypeError, ValueError, OverflowError) as e:
        raise ModelFileError(f"{path} does not describe a model: {e}") from e


_KINDS = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL"}
"""How a file names the types that models hold."""


def _described(kind: str, shape: Sequence[int]) -> str:
    """Shape of a tensor, and its type where that is not the usual one: '(3, 4)', 'F64 (3, 4)'."""
    return f"{'' if kind == 'F32' else f'{kind} '}{tuple(shape)}"


def _header(file: Any) -> dict[str, str]:
    slices = {k: file.get_slice(k) for k in file.keys()}  # noqa: SIM118
    return {k: _described(s.get_dtype(), s.get_shape()) for k, s in slices.items()}


def _check_header(path: Path, found: dict[str, str], model: Model) -> None:
    wanted = {k: _described(_KINDS[v.dtype], v.shape) for k, v in model.state_dict().items()}
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    unlike = [f"{k} is {found[k]}, not {wanted[k]}" for k in sorted(wanted.keys() & found.keys())
              if found[k] != wanted[k]]
    if missing or extra or unlike:
        problems = [*(f"{k} is missing" for k in missing), *(f"{k} is not expected" for k in extra), *unlike]
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelFileError(f"{path} does not fit its config.json: {'; '.join(problems[:3])}{more}")


def save_state(path: str | Path, snapshot: Snapshot) -> None:
    """Writes what continues a run as one safetensors file, atomically; its numbers stand in the header as JSON."""
    tensors, numbers = snapshot
    _save_tensors(Path(path), tensors, {"reparam": json.dumps(numbers)})


def load_state(path: str | Path) -> Snapshot:
    """Reads what `save_state` wrote. Its tensors lie in the file until they are used, whatever sizes it claims.

    Raises:
        ModelFileError: the file is truncated or not such a state.
    """
    advice = "; remove it to start this run again from its beginning"
    with open_tensors(path, advice=advice) as f:
        try:
            numbers = conform(parse_json((f.metadata() or {})["reparam"], infinite=True), Begun)
        except (KeyError, ValueError) as e:
            raise ModelFileError(f"{path} cannot be read ({e}){advice}") from e
        return {k: f.get_tensor(k) for k in f.keys()}, numbers  # noqa: SIM118


class Begun(TypedDict):
    """What every state says, whoever reads it."""

    step: Count


def _save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    # clones: safetensors refuses tensors that share memory, as an expanded buffer would
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    try:
        with replacing(path) as temporary:
            save_file(plain, temporary, metadata)
    except SafetensorError as e:
        raise ReparamError(f"cannot write {path}: {e}. Nothing was lost: free some space or name another folder, then "
                           "run the command again.") from e
