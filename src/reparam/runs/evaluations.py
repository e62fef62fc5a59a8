"""Figures that stay: a file for each set of images that a run's model was measured on.

    evaluation.json                            the test or held-out images of the run's own data, with the verdict
    evaluations/<source>-<fingerprint>.json    other images

`metrics` are the figures of most images, `fewer` those of the same name on fewer images: neither replaces the other, and a
figure that is measured again on as many images replaces the earlier one. `unavailable` says why metrics that do not apply
were not measured. A file holds figures of one protocol; one of an earlier protocol is kept under another name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelFileError
from ..files.writing import write_json
from ..metrics.catalogue import OTHER, find, metric_of
from ..metrics.figures import PROTOCOL, Figure
from .records import read_evaluation

OWN = "evaluation.json"


def evaluation_dict(figures: Sequence[Figure]) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "metrics": [f.to_dict() for f in figures]}


def figure_of(facts: Mapping[str, Any]) -> Figure:
    """A figure from what `Figure.to_dict` gave.

    Its direction is the catalogue's. Files of earlier versions held the total and the density in the unit alone.
    """
    interval, detail, unit = facts.get("interval"), facts.get("detail"), facts.get("unit", "")
    known, count = find(facts["name"]), re.search(r"\bof (\d+)\b", unit)
    is_known = known is not OTHER
    return Figure(str(facts["name"]), float(facts["value"]), unit, int(facts["n"]),
                  (float(interval[0]), float(interval[1])) if interval else None, facts.get("note", ""),
                  tuple(map(float, detail)) if detail else None, features=facts.get("features", ""),
                  resize=facts.get("resize", ""), warning=facts.get("warning", ""),
                  better=known.better if is_known else facts.get("better"),
                  undirected=known.undirected if is_known else facts.get("undirected", ""), null=facts.get("null"),
                  total=facts.get("total", int(count[1]) if count else None),
                  is_density=facts.get("is_density", unit.endswith("(density)")))


def file_of(folder: Path, source: str, fingerprint: str) -> Path:
    """Where the figures of other images than a run's own stand."""
    name = re.sub(r"[^\w.-]+", "-", Path(source).name).strip("-.")[:40] or "images"
    return folder / "evaluations" / f"{name}-{fingerprint[:8]}.json"


def all_figures(facts: Mapping[str, Any]) -> list[Figure]:
    """The figures in a file, those of most images and those of fewer."""
    return [figure_of(m) for m in (*facts["metrics"], *facts.get("fewer", ()))]


def keep(path: Path, figures: Sequence[Figure], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Adds figures to a file, with `facts` beside them, and returns all that it then holds."""
    old: dict[str, Any] = {}
    if path.exists():
        with contextlib.suppress(ModelFileError):  # one that cannot be read is written anew
            old = read_evaluation(path)
    if old and (old["protocol"], old.get("measured_on")) != (PROTOCOL, facts["measured_on"]):
        path.replace(path.with_stem(f"{path.stem}-protocol-{old['protocol']}"))
        old = {}
    most, fewer = sorted_out([*(all_figures(old) if old else ()), *figures])
    measured = {metric_of(f.name) for f in most}
    reasons = {**old.get("unavailable", {}), **facts.get("unavailable", {})}
    whole = old | evaluation_dict(most) | {"fewer": [f.to_dict() for f in fewer]} | dict(facts) | {
        "unavailable": {metric: why for metric, why in reasons.items() if metric not in measured}}
    write_json(path, whole)
    return whole


def sorted_out(figures: Iterable[Figure]) -> tuple[list[Figure], list[Figure]]:
    """Of each figure, by its name and its network, that of most images; and the others. Of as many the last one counts."""
    kept = {(f.name, f.features, f.n): f for f in figures}
    most = {(f.name, f.features): f for f in sorted(kept.values(), key=lambda f: f.n)}
    best = {id(f) for f in most.values()}
    return [f for f in kept.values() if id(f) in best], [f for f in kept.values() if id(f) not in best]


def forget(folder: Path) -> None:
    """Removes the figures of a model that has changed since."""
    for path in (*folder.glob("evaluation*.json"), *(folder / "evaluations").glob("*.json")):
        path.unlink()
    with contextlib.suppress(OSError):
        (folder / "evaluations").rmdir()
