"""Runs of one recipe with several seeds, pooled into one contender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...metrics.catalogue import GROUPS, FigureType, find, metric_of, types_of
from ...metrics.figures import PROTOCOL, Figure
from ...metrics.training_cost import FAILED_SEEDS
from ...parts.call import parse_call
from ...parts.recipe import Recipe
from ..folder import Run
from ..records import read_metrics
from ..seeds import FAILED
from .ranking import Cell, Standing, listed, pooled, rank, with_target

COURSE = "fd (wavelets)"
"""The figure that is measured while a model trains."""


@dataclass(frozen=True)
class Entry:
    """One run, and its figures by name; none of a run that failed."""

    run: Run
    figures: dict[str, Figure] = field(default_factory=dict[str, Figure])
    protocol: int = PROTOCOL
    kind: str = ""
    """Which images it was measured on: test or held-out ones."""
    unavailable: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why metrics that do not apply were not measured."""

    @property
    def failed(self) -> bool:
        return self.run.status == FAILED

    def course(self) -> list[tuple[float, float]]:
        """Seconds of training, and the distance of samples to held-out images at that time."""
        return [(r["seconds"], r["held_out"][COURSE]) for r in read_metrics(self.run.folder / "metrics.jsonl")
                if COURSE in r.get("held_out", {})]


@dataclass(frozen=True)
class Contender:
    """A model: the runs of one recipe, which differ in their seeds."""

    name: str
    entries: tuple[Entry, ...]
    """Runs that were trained to the end."""
    failed: tuple[Entry, ...]
    cells: dict[str, Cell]

    @property
    def recipe(self) -> Recipe:
        return (*self.entries, *self.failed)[0].run.recipe

    @property
    def kind(self) -> str:
        if not self.recipe.has_encoder:
            return "GAN"
        plain = "autoencoder" if deterministic(self.recipe) else "VAE"
        return plain if self.recipe.adversary == "none" else f"{plain} with a critic"

    def lacks(self, name: str) -> str:
        """Why it has no such figure."""
        if not self.entries:
            return "every seed failed"
        metric = metric_of(name)
        if metric is None:
            return "not measured"
        reasons = [e.unavailable[metric] for e in self.entries if metric in e.unavailable]
        was_measured = any(find(each) in types_of(metric) for each in self.cells)
        return next(iter(reasons), (was_measured and find(name).absent) or "not measured")

    def cannot(self) -> list[str]:
        """What this kind of model cannot do."""
        if not self.recipe.has_encoder:
            return ["encode or reconstruct an image", "interpolate between given images", "tell how likely an image is"]
        if deterministic(self.recipe) or parse_call(self.recipe.likelihood).name == "implicit":
            return ["tell how likely an image is"]
        return []


@dataclass(frozen=True)
class Row:
    """A figure of all models."""

    name: str
    kind: FigureType
    """With the number of its target."""
    cells: dict[str, Cell]
    """By the names of the models that have the figure."""
    sample: Figure
    """That of the first model that has it; its unit, n, features and resize rule are those of all."""
    standing: Standing


def pool(entries: Sequence[Entry]) -> tuple[Contender, ...]:
    groups: dict[Recipe, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.run.recipe.identity(), []).append(entry)
    names = _names([[e.run for e in group] for group in groups.values()])
    return tuple(_contender(name, group) for name, group in zip(names, groups.values(), strict=True))


def _contender(name: str, group: Sequence[Entry]) -> Contender:
    ended = [e for e in group if not e.failed]
    shared = [n for n in dict.fromkeys(n for e in ended for n in e.figures) if all(n in e.figures for e in ended)]
    failed = tuple(e for e in group if e.failed)
    lost = FAILED_SEEDS.of(float(len(failed)), len(group))
    cells = {n: pooled([e.figures[n] for e in ended]) for n in shared}
    return Contender(name, tuple(ended), failed, cells | {lost.name: pooled([lost])})


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Names of models: that of the folder, without the seed where there are several; numbered where two are the same."""
    short = [_stem(group) for group in groups]
    return [name if short.count(name) == 1 else f"{name} ({1 + short[:i].count(name)})" for i, name in enumerate(short)]


def _stem(group: Sequence[Run]) -> str:
    stems = {_without_seed(run) for run in group}
    return stems.pop() if len(stems) == 1 else group[0].folder.resolve().name


def _without_seed(run: Run) -> str:
    name = run.folder.resolve().name
    shorter = name.removesuffix(f"-{run.recipe.seed}")
    return shorter or name


def rows_of(contenders: Sequence[Contender]) -> tuple[Row, ...]:
    names = dict.fromkeys(n for c in contenders for n in c.cells)
    rows: list[Row] = []
    for name in sorted(names, key=lambda n: GROUPS.index(find(n).group)):
        cells = {c.name: c.cells[name] for c in contenders if name in c.cells}
        scale = next(c.cells for c in contenders if name in c.cells)
        kind = with_target(find(name), {n: cell.value for n, cell in scale.items()})
        sample = next(iter(cells.values())).figures[0]
        rows.append(Row(name, kind, cells, sample, rank(kind, cells, why_not=_unlike(name, contenders))))
    return tuple(rows)


def _unlike(name: str, contenders: Sequence[Contender]) -> str:
    """Why models cannot be ranked by a figure although it was measured in the same way."""
    have = [c for c in contenders if name in c.cells]
    figures = [c.cells[name].figures[0] for c in have]
    if find(name).group in ("Likelihood", "Reconstructions") and len({c.recipe.binarize for c in have}) > 1:
        return "not ranked: some models are of binarized images"
    units = {f.unit for f in figures}
    if len(units) > 1:
        return f"not ranked: {listed(sorted(units))} cannot be compared"
    if any(f.is_density for f in figures) and len({parse_call(c.recipe.likelihood).name for c in have}) > 1:
        return "not ranked: densities under different likelihoods"
    return ""


def deterministic(recipe: Recipe) -> bool:
    return parse_call(recipe.posterior).name == "deterministic"
