"""What a model folder's `config.json` says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, cast

from ..errors import ModelFileError, ReparamError
from ..files.untrusted import Count, Within, conform, parse_json
from ..models.codes import Axis
from ..models.sampler import FITTED_PRIOR
from ..models.sampling import Sampling
from ..parts.ranges import MOST_SIDE
from ..parts.recipe import Recipe
from .version_1 import upgraded_config

VERSION = 2
"""Of what is written; version 1 is read as well."""

Side = Annotated[int, Within(1, MOST_SIDE)]
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


@dataclass(frozen=True)
class Config:
    """What a model is: its recipe, what its images look like, and what was learned about its latents."""

    recipe: Recipe
    image_shape: tuple[int, int, int]
    """(C, H, W)."""
    axes: tuple[Axis, ...] = ()
    """Latent dimensions by information, most first; at most 256."""
    classes: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the model was trained on, as `Source` says."""
    stages: dict[str, str] = field(default_factory=dict[str, str])
    """What was trained after the model, in this order: part calls by the names of `models.sampler.STAGES`."""
    sampling: Sampling | None = None
    """How it draws by default; None where nothing was chosen: at temperature 1, with every stage that it has."""

    @property
    def fitted_prior(self) -> str | None:
        """The prior that was fitted to the codes, as a part call."""
        return self.stages.get(FITTED_PRIOR)

    def to_dict(self) -> dict[str, Any]:
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return {"format": "reparam", "version": VERSION, **fields}


UNBUILT = (ReparamError, RuntimeError, TypeError, ValueError, AttributeError, ArithmeticError, LookupError, MemoryError)
"""What building a model raises for parts that nobody would write."""


class Written(TypedDict):
    """What `config.json` says."""

    recipe: Recipe
    image_shape: tuple[Channels, Side, Side]
    stages: dict[str, str]
    axes: tuple[Axis, ...]
    classes: tuple[str, ...]
    data: Source
    sampling: NotRequired[Sampling]


def parse_config(path: Path, text: str) -> tuple[Config, int]:
    """What the text of a `config.json` says, and the version that it was written in.

    Raises:
        ModelFileError: it is of another version, or does not describe a model.
    """
    try:
        parsed = parse_json(text)
    except ValueError as e:
        raise ModelFileError(f"{path} cannot be read: {e}") from e
    if not isinstance(parsed, dict) or parsed.get("format") != "reparam":  # pyright: ignore[reportUnknownMemberType]
        raise ModelFileError(f"{path} is not a reparam model's config")
    raw = cast(dict[str, Any], parsed)
    version = raw.get("version")
    if version not in (1, VERSION):
        raise ModelFileError(f"{path} is of version {version}; this reparam reads versions 1 and {VERSION}")
    try:
        read: Written = conform(upgraded_config(raw) if version == 1 else raw, Written)
    except ValueError as e:
        raise ModelFileError(f"{path} does not describe a model: {e}") from e
    return Config(read["recipe"], read["image_shape"], read["axes"], read["classes"], dict(read["data"]),
                  read["stages"], read.get("sampling")), version
