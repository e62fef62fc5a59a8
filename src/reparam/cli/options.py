"""Flags that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

from cyclopts import Group, Parameter

from ..errors import UsageError
from ..parts.ranges import KEPT, REFINEMENT, TIMES, VARIATION
from ..parts.recipe import ARCHITECTURE, MACHINE, MEASURED, Recipe, field_help

COMMON, READING, OTHER = "Common", "Reading images", "Other"
_FIELDS = {
    COMMON: ("steps", "minutes", "epochs"),
    "Model": ARCHITECTURE,
    "Objective": ("objective",),
    "After the model": ("fitted_prior", "prior_share", "resampler", "resampler_share", "refiner", "refiner_share"),
    "Critic": ("adversary", "critic", "game", "penalty", "critic_optimizer", "critic_augment"),
    "Optimisation": ("optimizer", "schedule", "batch_size", "accumulate", "clip", "ema", "seed"),
    "Images in training": ("augment", "binarize", "labelled"),
    READING: (),
    "Machine": MACHINE,
    OTHER: ()}
GROUPS = {name: Group(name, sort_key=place) for place, name in enumerate(_FIELDS)}
"""Headings of 'reparam train --help', in their order."""


def _overrides() -> type:
    """Recipe's fields as optional flags: what is not given keeps the preset's value."""
    descriptions, types = field_help(), get_type_hints(Recipe)
    group = {name: GROUPS[heading] for heading, names in _FIELDS.items() for name in names}
    types |= {name: types[name] | Literal["auto"] for name in MEASURED}
    flags = [(f.name, Annotated[types[f.name] | None, Parameter(
        help=" ".join(descriptions[f.name].split()) + (f" [default: {f.default}]" if f.default is not None else ""),
        group=group.get(f.name, GROUPS[OTHER]))], field(default=None)) for f in fields(Recipe)]
    made = make_dataclass("Overrides", flags, kw_only=True)
    made.__module__ = __name__
    return Parameter(name="*")(made)


if TYPE_CHECKING:
    Overrides = Recipe
else:
    Overrides = _overrides()
Json = Annotated[bool, Parameter(help="Print one JSON object on stdout and nothing else.", negative="")]
Device = Annotated[Literal["auto", "cpu"], Parameter(help="auto takes an accelerator when there is one.")]
TableOut = Annotated[str | None, Parameter(help="A table for other programs, a .csv or .parquet; by default a .csv "
                                                "beside the page.")]
Range = Annotated[str | None, Parameter(help="LO,HI: the sample values that become black and white, for 16-bit and "
                                        "float images.")]


def table_beside(page: Path, named: str | None) -> Path:
    """The table that is asked for, or one beside the page.

    Raises:
        UsageError: as `table_path`.
    """
    from ..files.tables import table_path

    return page.with_suffix(".csv") if named is None else table_path(named)


@Parameter(name="*", group=GROUPS[READING])
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images are read."""

    image_size: Annotated[int | None, Parameter(group=GROUPS[COMMON])] = None
    """Side of the square that images are resized and cropped to; by default the commonest size, at most --largest."""
    background: str = "white"
    """What transparency is drawn on: white, black, #rrggbb; or keep, for an alpha channel."""
    value_range: Range = None
    on_bad: Literal["skip", "error"] = "skip"
    """Leave out files that cannot be read, or stop at the first."""
    max_pixels: int = 50_000_000
    """Largest image that is opened, in pixels."""
    stream: bool | None = None
    """Decode images in shards while they are trained on; by default when they would take more than 4 GiB once decoded."""
    largest: int = 64
    """Side above which images are shrunk to it, 8 to 512; generate128 to generate512 raise it to theirs, --preset auto where
    a GPU has time and memory."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Refining:
    """What a refiner adds, when the model has one."""

    refine: bool = True
    """Add the detail that a refiner draws, when the model has one; without it, what the code alone says."""
    refine_temperature: float | None = None
    """Below 1: cleaner detail than the refiner's law has; by default the refiner's own."""

    def check(self) -> None:
        """Looks at the two together.

        Raises:
            UsageError: a temperature out of its range, or for what is left out.
        """
        if self.refine_temperature is not None:
            REFINEMENT.check("--refine-temperature", self.refine_temperature)
        if self.refine_temperature is not None and not self.refine:
            raise UsageError("--no-refine leaves out what --refine-temperature is for: give one of them")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choosing:
    """Draws that lie where they are asked for."""

    like: str | None = None
    """An image that draws are to resemble."""
    between: tuple[str, str] | None = None
    """Two images that draws are to lie between, from the first to the second."""
    variation: float | None = None
    """From 0, the images' own codes, to 1, draws that know nothing of --like or --between. [default: 0.4]"""
    typical: float = 1.0
    """Share of the draws, such as 0.7, that are kept: those that the prior finds likeliest: less varied, less odd."""
    diverse: int = 1
    """Choose from so many times as many draws, such as 4, those that are farthest from one another."""
    add: Annotated[list[str] | None, Parameter(negative="")] = None
    """Move each draw along a direction of 'reparam direction', such as smiling=1.5; 1 by default. Repeat it for several."""

    @property
    def is_plain(self) -> bool:
        return self == Choosing()

    def check(self) -> None:
        """Looks at what is given together.

        Raises:
            UsageError: a number out of its range, or flags that do not go together.
        """
        if self.like is not None and self.between is not None:
            raise UsageError("--like draws around one image, --between between two: give one of them")
        if self.variation is not None and self.like is None and self.between is None:
            raise UsageError("--variation says how far draws go from the image that --like or --between names: name one")
        for name, value, within in (("--variation", self.variation, VARIATION), ("--typical", self.typical, KEPT),
                                    ("--diverse", self.diverse, TIMES)):
            within.check(name, value)
