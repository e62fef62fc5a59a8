"""Runs side by side: measured alike or not at all, pooled over seeds, and ranked as far as intervals tell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import ModelFileError, UsageError
from .evaluating import MOST_SAMPLES, Evaluated, Options, measure_on_own
from .evaluations import OWN, all_figures, figure_of
from .finish import keep_figures
from .generate import ImageModel, load
from .metrics import PROTOCOL, STANDARD
from .metrics.evaluation import Unavailable
from .metrics.figures import Figure
from .recipe import Recipe, parse_call, parse_list
from .records import read_evaluation, read_metrics
from .registry import metric
from .reporting import Reporter, Silent
from .run import Run
from .seeds import FAILED
from .standings import GROUPS, About, Cell, Standing, about, aimed, listed, pooled, rank

OF_SAMPLES = {"fd", "FID", "kd", "KID", "precision", "sharpness"}
"""An evaluation that has one of these has been made for comparing; what training leaves behind has none."""
COURSE = "fd (wavelets)"
"""What is followed while a model trains."""


@dataclass(frozen=True)
class Request:
    """How runs are to be measured; what is None is as some of them were measured before, or by default."""

    metrics: str | None = None
    features: str | None = None
    n: int | None = None
    again: bool = False
    """Measure also what has been measured."""

    @property
    def full(self) -> tuple[str, str | None, int]:
        """Metrics, features and n, defaults written out."""
        return self.metrics or STANDARD, self.features, self.n or MOST_SAMPLES

    def check(self) -> None:
        """Raises UsageError for a metric or a feature network that does not exist, before any work."""
        for call in parse_list(self.metrics or STANDARD):
            metric.check(call)
        Options(features=self.features, n=self.n or MOST_SAMPLES).check()


@dataclass(frozen=True)
class Entry:
    """One run, and its figures by name; none of a run that failed."""

    run: Run
    figures: dict[str, Figure] = field(default_factory=dict[str, Figure])
    protocol: int = PROTOCOL
    kind: str = ""
    """What it was measured on: test or held-out images."""

    @property
    def failed(self) -> bool:
        return self.run.status == FAILED

    def course(self) -> list[tuple[float, float]]:
        """Seconds of training, and the distance of samples to held-out images then."""
        return [(r["seconds"], r["held_out"][COURSE]) for r in read_metrics(self.run.folder / "metrics.jsonl")
                if COURSE in r.get("held_out", {})]


@dataclass(frozen=True)
class Contender:
    """A model: the runs of one recipe, which differ in their seeds."""

    name: str
    entries: tuple[Entry, ...]
    """Runs that reached their end."""
    failed: tuple[Entry, ...]
    cells: dict[str, Cell]

    @property
    def recipe(self) -> Recipe:
        return (*self.entries, *self.failed)[0].run.recipe

    @property
    def kind(self) -> str:
        if self.recipe.encoder == "none":
            return "GAN"
        plain = "autoencoder" if _deterministic(self.recipe) else "VAE"
        return plain if self.recipe.adversary == "none" else f"{plain} with a critic"

    def lacks(self, name: str) -> str:
        """Why it has no such figure."""
        group, recipe = about(name).group, self.recipe
        if not self.entries:
            return "every seed failed"
        if recipe.encoder == "none" and group in ("Reconstructions", "Likelihood", "Codes", "Factors"):
            return "a GAN has no encoder"
        if recipe.encoder == "none" and "prior samples" in name:
            return "a GAN samples from its own prior alone"
        if group == "Likelihood" and parse_call(recipe.likelihood).name == "implicit":
            return "its likelihood gives images no density"
        if group == "Likelihood" and _deterministic(recipe):
            return "a deterministic posterior bounds no likelihood"
        if "fitted" in name:
            return "no prior was fitted to its codes"
        return "not measured"

    def cannot(self) -> list[str]:
        """What this kind of model cannot do."""
        if self.recipe.encoder == "none":
            return ["encode or reconstruct an image", "interpolate between given images", "tell how likely an image is"]
        if _deterministic(self.recipe) or parse_call(self.recipe.likelihood).name == "implicit":
            return ["tell how likely an image is"]
        return []


@dataclass(frozen=True)
class Row:
    """A figure of all models."""

    name: str
    about: About
    cells: dict[str, Cell]
    """Of the models that have it."""
    sample: Figure
    """Of the first model that has it: its unit, n, features and resize rule are those of all."""
    standing: Standing


@dataclass(frozen=True)
class Comparison:
    """All that the page says."""

    contenders: tuple[Contender, ...]
    rows: tuple[Row, ...]
    protocol: int
    kind: str

    @property
    def first(self) -> Run:
        return next(self.entries()).run

    def entries(self) -> Iterator[Entry]:
        """Every run, those that failed too."""
        for c in self.contenders:
            yield from (*c.entries, *c.failed)


def compare(folders: Sequence[str | Path], request: Request = Request(), *, device: str = "auto",
            report: Reporter | None = None) -> Comparison:
    """Sets the runs in `folders` side by side; those that lack figures of samples are measured first, all alike.

    Figures are kept in each run's `evaluation.json`, those of fewer images beside those of more. Runs of one recipe but for
    the seed are pooled.

    Raises:
        UsageError: fewer than two models, runs of other data or image sizes, or figures that were not measured alike.
        ModelFileError: no finished run in a folder.
        DataError: a run has to be measured, and its data are gone or changed.
    """
    report = report or Silent()
    request.check()
    runs = _read_runs(folders)
    request, old = _measured_alike(runs, request)
    entries = [old.get(run.folder) or (Entry(run) if run.status == FAILED else _measure(run, request, device, report))
               for run in runs]
    _check_alike(entries)
    contenders = _pool(entries)
    measured = [e for e in entries if not e.failed]
    return Comparison(contenders, _rows(contenders), measured[0].protocol, measured[0].kind)


def compare_runs(folders: Sequence[str | Path], *, metrics: str | None = None, features: str | None = None,
                 n: int | None = None, again: bool = False, out: str | Path | None = None, device: str = "auto",
                 report: Reporter | None = None) -> dict[str, Any]:
    """Sets runs side by side as the command `compare` does, and returns what its `--json` prints; with `out`, the page is
    written there.

    Raises:
        UsageError: fewer than two models, runs of other data, or figures that were not measured alike.
    """
    from .comparison_page import comparison_dict, write_comparison

    found = compare(folders, Request(metrics, features, n, again), device=device, report=report)
    return comparison_dict(found) if out is None else write_comparison(found, out, device=device, report=report)


def _read_runs(folders: Sequence[str | Path]) -> list[Run]:
    paths = [Path(f) for f in folders]
    if len({p.resolve() for p in paths}) < len(paths):
        raise UsageError("a run is named twice: name each folder once")
    runs = [Run.read(p) for p in paths]
    for run in runs:
        run.needs("channels", "height", "width", "training", "validation")
        if run.status != FAILED and not (run.folder / "evaluation.json").exists():
            raise ModelFileError(f"the run in {run.folder} has not ended (its status is {run.status!r}). Go on with: "
                                 f"reparam train --resume {run.folder}")
    if len({_key(run.recipe) for run in runs}) < 2:
        raise UsageError(f"a comparison takes runs of at least two models; got {len(runs)} "
                         f"run{'s of one recipe' if len(runs) > 1 else ''}. Name another run, or train some with --presets")
    if all(run.status == FAILED for run in runs):
        raise UsageError("every one of these runs failed: there is nothing to compare")
    for run in runs[1:]:
        _check_same_data(runs[0], run)
    return runs


def _check_same_data(a: Run, b: Run) -> None:
    if _shape(a) != _shape(b):
        raise UsageError(f"{b.folder} is a model of {_size(b)} images and {a.folder} of {_size(a)} ones. Compare models of "
                         f"images of one size: train one again with --image-size {a.facts.get('height')}")
    if a.fingerprint != b.fingerprint:
        raise UsageError(f"{b.folder} was trained on other images than {a.folder}: {b.source}, fingerprint {b.fingerprint}, "
                         f"not {a.source}, fingerprint {a.fingerprint}. Train one of them again on the other's data")


def _shape(run: Run) -> tuple[Any, ...]:
    return tuple(run.facts.get(k) for k in ("channels", "height", "width"))


def _size(run: Run) -> str:
    c, h, w = _shape(run)
    return f"{w}×{h}, {c}-channel"


def _measured_alike(runs: Sequence[Run], request: Request) -> tuple[Request, dict[Path, Entry]]:
    """The request with nothing left open, and the runs that have been measured as it says.

    With nothing asked for, what has been measured stands, and other runs are measured like the first that `compare` did.
    """
    stored = {run.folder: _stored(run) for run in runs if run.status != FAILED and not request.again}
    if (request.metrics, request.features, request.n) == (None, None, None):
        request = next((_made(facts["compared"][0]) for facts in stored.values() if facts.get("compared")), request)
        done = {f: facts for f, facts in stored.items() if any(m["name"] in OF_SAMPLES for m in facts["metrics"])}
    else:
        done = {f: facts for f, facts in stored.items()
                if any(_made(each).full == request.full for each in facts.get("compared", ()))}
    old = {run.folder: _entry(run, done[run.folder], request) for run in runs if run.folder in done}
    if len(old) < len([r for r in runs if r.status != FAILED]):
        for entry in old.values():  # told before the others are measured, which can take minutes
            if entry.protocol != PROTOCOL:
                raise UsageError(f"{entry.run.folder} was measured by protocol {entry.protocol}, and measuring the others "
                                 f"now is by protocol {PROTOCOL}. {_mend(runs)}")
    return request, old


def _made(facts: Mapping[str, Any]) -> Request:
    """What figures that `compare` measured were asked for."""
    return Request(facts["metrics"], facts["features"], facts["n"])


def _mend(runs: Sequence[Run]) -> str:
    return f"Measure all alike: reparam compare {' '.join(str(run.folder) for run in runs)} --again"


def _stored(run: Run) -> dict[str, Any]:
    return read_evaluation(run.folder / OWN)


def _entry(run: Run, facts: dict[str, Any], request: Request) -> Entry:
    """A run's figures: those that `compare` measured last as requested, or else the ones of most images."""
    most = {m["name"]: figure_of(m) for m in facts["metrics"]}
    made = next((each for each in facts.get("compared", ()) if _made(each).full == request.full), None)
    if made is not None:
        named = {(f.name, f.features, f.n): f for f in all_figures(facts)}
        found = [named.get((name, features, n), most.get(name)) for name, features, n in made["figures"]]
        most = {f.name: f for f in found if f is not None}
    return Entry(run, most, facts["protocol"], facts["measured_on"])


def _measure(run: Run, request: Request, device: str, report: Reporter) -> Entry:
    """Measures a run and keeps the figures beside those that it has."""
    options = Options(features=request.features or _default_features(report), n=request.n or MOST_SAMPLES)
    report.say(f"measuring {run.folder}")
    model = load(run.folder, device=device)
    found = _available(run, model, request, options, report)
    made = {"metrics": request.metrics, "features": request.features, "n": request.n,
            "figures": [[f.name, f.features, f.n] for f in found.figures]}
    before: list[dict[str, Any]] = []
    with contextlib.suppress(ModelFileError):  # one that cannot be read is written anew
        facts = read_evaluation(run.folder / OWN)
        if facts["protocol"] == PROTOCOL:
            before = [each for each in facts.get("compared", ()) if _made(each).full != request.full]
    return _entry(run, keep_figures(run, model.config, found, report, {"compared": [made, *before]}), request)


def _default_features(report: Reporter) -> str | None:
    """None for the default network; 'wavelets', and a line that says so, where its package is missing."""
    try:
        Options(features="efficientnet").check()
    except UsageError as e:
        report.say(f"comparing sets of images by wavelets, which see no meaning: {e}")
        return "wavelets"
    return None


def _available(run: Run, model: ImageModel, request: Request, options: Options, report: Reporter) -> Evaluated:
    """The figures of those metrics that this model and its images allow."""
    if request.metrics is None:
        return measure_on_own(run, model, None, report, options)
    calls = [str(call) for call in parse_list(request.metrics)]
    calls.sort(key=lambda call: about(call).group == "Samples")  # what needs an encoder is refused first, at no cost
    reasons: list[str] = []
    while calls:
        try:
            return measure_on_own(run, model, ", ".join(calls), report, options)
        except Unavailable as e:
            refused = next((call for call in calls if str(e).startswith(f"{call}: ")), None)
            if refused is None:
                raise
            calls.remove(refused)
            reasons.append(str(e))
    raise UsageError(f"nothing of {request.metrics!r} can be measured of {run.folder}: {'; '.join(reasons)}")


def _check_alike(entries: Sequence[Entry]) -> None:
    """Refuses figures that were measured in different ways."""
    runs, measured = [e.run for e in entries], [e for e in entries if not e.failed]
    a = measured[0]
    for b in measured[1:]:
        pairs = (("by protocol", a.protocol, b.protocol), ("on", f"{a.kind} images", f"{b.kind} images"))
        for what, one, other in pairs:
            if one != other:
                raise UsageError(f"{b.run.folder} was measured {what} {other}, and {a.run.folder} {what} {one}: figures of "
                                 f"unlike protocols are not set side by side. {_mend(runs)}")
    for name in dict.fromkeys(name for e in measured for name in e.figures):
        have = [e for e in measured if name in e.figures]
        for e in have[1:]:
            one, other = have[0].figures[name], e.figures[name]
            for what in ("n", "features", "resize"):
                if getattr(one, what) != getattr(other, what):
                    raise UsageError(f"{name} of {e.run.folder} has {what} = {getattr(other, what) or 'none'}, and that of "
                                     f"{have[0].run.folder} {what} = {getattr(one, what) or 'none'}: figures that were not "
                                     f"measured alike are not set side by side. {_mend(runs)}")


def _key(recipe: Recipe) -> Recipe:
    return replace(recipe, seed=0)


def _pool(entries: Sequence[Entry]) -> tuple[Contender, ...]:
    groups: dict[Recipe, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_key(entry.run.recipe), []).append(entry)
    names = _names([[e.run for e in group] for group in groups.values()])
    return tuple(_contender(name, group) for name, group in zip(names, groups.values(), strict=True))


def _contender(name: str, group: Sequence[Entry]) -> Contender:
    ended = [e for e in group if not e.failed]
    shared = [n for n in dict.fromkeys(n for e in ended for n in e.figures) if all(n in e.figures for e in ended)]
    failed = tuple(e for e in group if e.failed)
    lost = Figure("seeds that failed", float(len(failed)), "seeds whose training diverged", len(group))
    cells = {n: pooled([e.figures[n] for e in ended]) for n in shared}
    return Contender(name, tuple(ended), failed, cells | {lost.name: pooled([lost])})


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Short names: the folder's, without the seeds where there are several; longer where two are the same."""
    short = [_stem(group) for group in groups]
    return [name if short.count(name) == 1 else str(group[0].folder) for name, group in zip(short, groups, strict=True)]


def _stem(group: Sequence[Run]) -> str:
    stems = {_without_seed(run) for run in group}
    return stems.pop() if len(stems) == 1 else group[0].folder.resolve().name


def _without_seed(run: Run) -> str:
    name = run.folder.resolve().name
    shorter = name.removesuffix(f"-{run.recipe.seed}")
    return shorter or name


def _rows(contenders: Sequence[Contender]) -> tuple[Row, ...]:
    names = dict.fromkeys(n for c in contenders for n in c.cells)
    rows: list[Row] = []
    for name in sorted(names, key=lambda n: GROUPS.index(about(n).group)):
        cells = {c.name: c.cells[name] for c in contenders if name in c.cells}
        scale = next(c.cells for c in contenders if name in c.cells)
        known = aimed(about(name), {n: cell.value for n, cell in scale.items()})
        sample = next(iter(cells.values())).figures[0]
        rows.append(Row(name, known, cells, sample, rank(known, cells, why_not=_unlike(name, contenders))))
    return tuple(rows)


def _unlike(name: str, contenders: Sequence[Contender]) -> str:
    """Why models cannot be ranked by a figure although it was measured alike."""
    have = [c for c in contenders if name in c.cells]
    group = about(name).group
    if group in ("Likelihood", "Reconstructions") and len({c.recipe.binarize for c in have}) > 1:
        return "not ranked: some models see black and white only"
    units = {c.cells[name].figures[0].unit for c in have}
    if len(units) > 1:
        return f"not ranked: {listed(sorted(units))} do not compare"
    if group == "Likelihood" and "density" in units.pop() and len({parse_call(c.recipe.likelihood).name for c in have}) > 1:
        return "not ranked: densities of unlike likelihoods"
    return ""


def _deterministic(recipe: Recipe) -> bool:
    return parse_call(recipe.posterior).name == "deterministic"
