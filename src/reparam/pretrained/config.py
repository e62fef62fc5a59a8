"""What a model folder's `config.json` says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from ..errors import ModelFileError, ReparamError
from ..files.untrusted import Count, Within, conform, parse_json
from ..models.codes import Axis
from ..parts.recipe import Recipe

VERSION = 1


Side = Annotated[int, Within(1, 256)]
Channels = Annotated[int, Within(1, 64)]


class Source(TypedDict, total=False):
    """What a model was trained on. Where that lay stands in `run.json` alone, which is not published with the model."""

    name: str
    source: str
    """Its path, in configs of earlier versions."""
    fingerprint: str
    images: Count
    background: str
    value_range: tuple[float, float] | None
    factors: tuple[str, ...]
    """Names of what labels of several columns say of each image; evaluation scores latents against them."""


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
    """What the model was trained on, as `Source` says."""
    resampler: str | None = None
    """The network of the resampler trained after the prior, as a part call."""
    refiner: str | None = None
    """The refiner trained after the model, as a part call."""

    def to_dict(self) -> dict[str, Any]:
        return {"format": "reparam", "version": VERSION, **asdict(self)}


UNBUILT = (ReparamError, RuntimeError, TypeError, ValueError, AttributeError, ArithmeticError, LookupError, MemoryError)
"""What building a model raises for parts that nobody would write."""


class Written(TypedDict):
    """What `config.json` says."""

    recipe: Recipe
    image_shape: tuple[Channels, Side, Side]
    fitted_prior: str | None
    axes: tuple[Axis, ...]
    classes: tuple[str, ...]
    data: Source
    resampler: NotRequired[str | None]
    refiner: str | None


def parse_config(path: Path, text: str) -> Config:
    try:
        raw = parse_json(text)
    except ValueError as e:
        raise ModelFileError(f"{path} cannot be read: {e}") from e
    if not isinstance(raw, dict) or raw.get("format") != "reparam":  # pyright: ignore[reportUnknownMemberType]
        raise ModelFileError(f"{path} is not a reparam model's config")
    if raw.get("version") != VERSION:  # pyright: ignore[reportUnknownMemberType]
        raise ModelFileError(f"{path} is of version {raw.get('version')}; "  # pyright: ignore[reportUnknownMemberType]
                             f"this reparam reads version {VERSION}")
    try:
        read: Written = conform(raw, Written)
    except ValueError as e:
        raise ModelFileError(f"{path} does not describe a model: {e}") from e
    return Config(read["recipe"], read["image_shape"], read["fitted_prior"], read["axes"], read["classes"],
                  dict(read["data"]), read.get("resampler"), read["refiner"])
