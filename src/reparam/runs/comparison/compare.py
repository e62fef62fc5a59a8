"""Compares runs measured under one protocol, pooled over seeds; ranks only where confidence intervals separate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ModelFileError, UsageError
from ...metrics import STANDARD
from ...metrics.figures import PROTOCOL
from ...parts.call import parse_list
from ...parts.registry import metric
from ...pretrained.image_model import ImageModel, load
from ...progress import Reporter, Silent
from ..evaluate import MOST_SAMPLES, Evaluated, Options, measure_on_own
from ..evaluations import OWN, all_figures, figure_of
from ..finish import keep_figures
from ..folder import Run
from ..records import read_evaluation
from ..seeds import FAILED
from .pooling import Contender, Entry, Row, pool, rows_of

OF_SAMPLES = {"fd", "FID", "kd", "KID"}
"""An evaluation with one of these was made for a comparison: the one after training has none of them, nor a GAN's."""


@dataclass(frozen=True)
class Request:
    """How runs are to be measured; None means as some of them were measured before, or by default."""

    metrics: str | None = None
    features: str | None = None
    n: int | None = None
    again: bool = False
    """Measure runs again that have been measured."""

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
class Comparison:
    """Models side by side: what the page shows."""

    contenders: tuple[Contender, ...]
    rows: tuple[Row, ...]
    protocol: int
    kind: str

    @property
    def first(self) -> Run:
        return next(self.entries()).run

    def entries(self) -> Iterator[Entry]:
        """Every run, also those that failed."""
        for c in self.contenders:
            yield from (*c.entries, *c.failed)


def compare(folders: Sequence[str | Path], request: Request = Request(), *, device: str = "auto",
            report: Reporter | None = None) -> Comparison:
    """Compares the runs in `folders`; those without figures of samples are measured first, all in the same way.

    Figures are kept in each run's `evaluation.json`, those of fewer images beside those of more. Runs whose recipes differ
    in the seed alone are pooled.

    Raises:
        UsageError: fewer than two models, runs of other data or image sizes, or figures measured in different ways.
        ModelFileError: no finished run in a folder.
        DataError: a run has to be measured, and its data are missing or have changed.
    """
    report = report or Silent()
    request.check()
    runs = _read_runs(folders)
    request, old = _measured_alike(runs, request)
    entries = [old.get(run.folder) or (Entry(run) if run.status == FAILED else _measure(run, request, device, report))
               for run in runs]
    _check_alike(entries)
    contenders = pool(entries)
    measured = [e for e in entries if not e.failed]
    return Comparison(contenders, rows_of(contenders), measured[0].protocol, measured[0].kind)


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
    if len({run.recipe.identity() for run in runs}) < 2:
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
    """The request with its open fields filled in, and the runs that have been measured in that way already.

    An empty request takes runs as they were measured, and measures others as `compare` measured the first of these.
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
        for entry in old.values():  # before the others are measured, which can take minutes
            if entry.protocol != PROTOCOL:
                raise UsageError(f"{entry.run.folder} was measured by protocol {entry.protocol}, and measuring the others "
                                 f"now is by protocol {PROTOCOL}. {_mend(runs)}")
    return request, old


def _made(facts: Mapping[str, Any]) -> Request:
    """The request by which `compare` measured a run before."""
    return Request(facts["metrics"], facts["features"], facts["n"])


def _mend(runs: Sequence[Run]) -> str:
    return f"Measure all alike: reparam compare {' '.join(str(run.folder) for run in runs)} --again"


def _stored(run: Run) -> dict[str, Any]:
    return read_evaluation(run.folder / OWN)


def _entry(run: Run, facts: dict[str, Any], request: Request) -> Entry:
    """A run's figures: those that `compare` measured for this request, or else those of most images."""
    most = {m["name"]: figure_of(m) for m in facts["metrics"]}
    made = next((each for each in facts.get("compared", ()) if _made(each).full == request.full), None)
    if made is not None:
        named = {(f.name, f.features, f.n): f for f in all_figures(facts)}
        found = [named.get((name, features, n), most.get(name)) for name, features, n in made["figures"]]
        most = {f.name: f for f in found if f is not None}
    return Entry(run, most, facts["protocol"], facts["measured_on"], facts.get("unavailable", {}))


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
    """None for the default network; 'wavelets', with a line that says why, where its package is missing."""
    try:
        Options(features="efficientnet").check()
    except UsageError as e:
        report.say(f"comparing sets of images by wavelets, which see texture and no objects: {e}")
        return "wavelets"
    return None


def _available(run: Run, model: ImageModel, request: Request, options: Options, report: Reporter) -> Evaluated:
    """The figures of those metrics that apply to this model and its images.

    Raises:
        UsageError: none of them does.
    """
    found = measure_on_own(run, model, request.metrics, report, options, skip_unavailable=True)
    if not found.figures:
        reasons = [f"{metric}: {why}" for metric, why in found.unavailable.items()]
        reasons += [f"{failure['what']} failed: {failure['why']}" for failure in found.failures]
        raise UsageError(f"nothing of {request.full[0]!r} can be measured of {run.folder}: {'; '.join(reasons)}")
    return found


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
