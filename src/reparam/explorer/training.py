"""How the training of a run goes, told from the files in its folder, while it lasts and afterwards.

The run itself is not asked and does not know who looks: what costs anything is done here, in the process of the explorer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelFileError
from ..files.untrusted import MOST_BYTES, conform, open_regular, parse_json
from ..parts.presets import PRESETS
from ..runs.records import Record as Written
from ..runs.records import RunFile, read_evaluation, read_run_file
from ..text import for_shell
from .questions import Answer, Question

ENDED = ("finished", "interrupted")
MOST_RECORDS, MOST_EVENTS = 2_000, 50
"""Points of a curve, evenly spaced among more; and the latest of what was unusual."""
AS_READ = {"image_size": None, "background": "white", "value_range": None, "on_bad": "skip", "max_pixels": 50_000_000,
           "stream": None, "largest": 64}
"""How images are read by default: `DataOptions`, which is not to be loaded here, since PyTorch comes with it."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """A figure of the records, over the steps."""

    name: str
    group: str
    """Those of a group are drawn together."""
    of: Callable[[Record], float | None]


@dataclass
class Growing:
    """The records of a `metrics.jsonl` that grows: each is read once, however often it is asked for."""

    path: Path
    stamp: str = ""
    """Changes whenever the file does."""
    records: list[Record] = field(default_factory=list[Record])
    _file: int = 0
    _at: int = 0
    """Bytes that have been read, up to the end of a line."""

    def read(self) -> None:
        """Reads what is new; all of it where the file is another, as after a resumed run has cut it short."""
        stamp = _signature(self.path)
        if stamp == self.stamp:
            return
        with contextlib.suppress(OSError, ValueError), open_regular(self.path) as f:  # a line that is no record ends it
            found = os.fstat(f.fileno())
            if found.st_ino != self._file or found.st_size < self._at:
                self.records, self._file, self._at = [], found.st_ino, 0
            f.seek(self._at)
            for line in f.read(MOST_BYTES).splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                self.records.append(conform(parse_json(line.decode("utf-8")), Written))
                self._at += len(line)
        self.stamp = stamp


@dataclass
class Training:
    """The training of the run in a folder, which need not be there yet."""

    folder: Path
    _record: Growing = field(init=False, repr=False)
    _run: tuple[str, RunFile | None, str] = field(default=("", None, ""), repr=False)

    def __post_init__(self) -> None:
        self._record = Growing(self.folder / "metrics.jsonl")

    @property
    def has_curves(self) -> bool:
        return self._record.path.exists()

    @property
    def signature(self) -> str:
        """Changes whenever the run's own file is written anew."""
        return _signature(self.folder / "run.json")

    def run_file(self) -> RunFile | None:
        """None while there is none: images are still being read."""
        self._look()
        return self._run[1]

    def _look(self) -> None:
        """Reads the run's own file where it has changed, and finds the command that makes such a run."""
        signature = self.signature
        if signature == self._run[0]:
            return
        try:
            run = read_run_file(self.folder)
        except ModelFileError:
            self._run = signature, None, ""
        else:
            self._run = signature, run, _again(run)

    def answer(self, question: Question) -> Answer:
        """Where training stands, what was unusual, and the curves, unless `known` says that the page has them."""
        self._look()
        self._record.read()
        _, run, command = self._run
        stamp, records = self._record.stamp, self._record.records
        fields = _standing(self.folder, run, records) | {"stamp": stamp, "command": command}
        return Answer(fields) if question.text("known", "") == stamp else _with_curves(fields, records)


def _standing(folder: Path, run: RunFile | None, records: Sequence[Record]) -> dict[str, Any]:
    last = records[-1] if records else {}
    progress, seconds = last.get("progress"), float(last.get("seconds", 0.0))
    return {"status": run["status"] if run is not None else "reading images", "step": last.get("step", 0),
            "steps": run["recipe"].steps if run is not None else None, "progress": progress, "seconds": seconds,
            "left": seconds * (1 / progress - 1) if progress else None,
            "speed": last.get("images", 0) / seconds if seconds else None, "quiet": _quiet(folder),
            "remarks": _remarks(folder, run, records)}


def _with_curves(fields: dict[str, Any], records: Sequence[Record]) -> Answer:
    series, kept = series_of(records), records[:: max(1, -(-len(records) // MOST_RECORDS))]
    values = np.array([[_number(each.of(record)) for record in kept] for each in series], np.float32)
    return Answer(fields | {"series": [{"name": each.name, "group": each.group} for each in series]}, {
        "steps": np.array([record["step"] for record in kept], np.int32),
        "seconds": np.array([record["seconds"] for record in kept], np.float32),
        "values": values.reshape(len(series), len(kept))})


def series_of(records: Sequence[Record]) -> list[Series]:
    """What some of the records tell, in the order in which it is shown."""
    terms = dict.fromkeys(name for record in records for name in record["terms"])
    held_out = dict.fromkeys(name for record in records for name in record.get("held_out", {}))
    weights = dict.fromkeys(name for record in records for name in record.get("weights", {}))
    found = [Series("training loss", "Loss, nats per image", lambda r: r.get("loss"))]
    found += [Series("held-out −ELBO", found[0].group, _inside("held_out", name)) for name in held_out if name == "-elbo"]
    found += [Series(name, "Terms, nats per image", _inside("terms", name)) for name in terms]
    found += [Series("critic", "Critic's loss", lambda r: r.get("critic"))]
    found += [Series(name, "Distance of samples to held-out images", _inside("held_out", name)) for name in held_out
              if name != "-elbo"]
    found += [Series("gradient norm", "Gradient norm", lambda r: r.get("grad_norm")),
              Series("learning rate", "Learning rate", lambda r: r.get("lr"))]
    found += [Series(name, "Adaptive weights", _inside("weights", name)) for name in weights]
    return [each for each in found if any(each.of(record) is not None for record in records)]


def _inside(part: str, name: str) -> Callable[[Record], float | None]:
    return lambda record: record.get(part, {}).get(name)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _remarks(folder: Path, run: RunFile | None, records: Iterable[Record]) -> list[dict[str, Any]]:
    """What was unusual, the latest last: notes on the images, skipped steps and roll-backs, and the verdict."""
    facts = run["facts"] if run is not None else {}
    told = [{"step": None, "text": note} for note in facts.get("notes", ())]
    told += [{"step": record["step"], "text": record["event"]} for record in records if "event" in record][-MOST_EVENTS:]
    told += [{"step": None, "text": f"{each['what']} failed: {each['why']}"} for each in facts.get("failures", ())]
    if run is not None and run["status"] in ENDED:
        with contextlib.suppress(ModelFileError):
            evaluation = read_evaluation(folder / "evaluation.json")
            told.append({"step": None, "text": f"Verdict: {evaluation.get('verdict', 'none')}"})
            told += [{"step": None, "text": f"{each['title']}: {each['evidence']}. What to do: {each['advice']}"}
                     for each in (*evaluation.get("problems", ()), *evaluation.get("remarks", ()))]
    return told


def _again(run: RunFile) -> str:
    """The command that makes such a run: the preset that is nearest, and what differs from it."""
    own, presets = run["recipe"].to_dict(), {name: preset.recipe.to_dict() for name, preset in PRESETS.items()}
    preset, differs = min(((name, {k: v for k, v in own.items() if v != known[k]}) for name, known in presets.items()),
                          key=lambda each: len(each[1]))
    given: dict[str, Any] = {**differs, **{k: v for k, v in run["options"].items() if v != AS_READ.get(k)}}
    if run["options"]["value_range"] is not None:
        given["value_range"] = ",".join(f"{v:g}" for v in run["options"]["value_range"])
    given |= {"init": run["facts"].get("init", {}).get("path"), "pairs": run["facts"].get("pairs")}
    flags = ["reparam train", for_shell(run["data"]), f"--preset {preset}"]
    for name, value in given.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            flags.append(f"--{flag} {for_shell(str(value))}")
    return " ".join(flags)


def _quiet(folder: Path) -> float | None:
    """Seconds since the run last wrote of its training."""
    found = [at for name in ("metrics.jsonl", "state/training.safetensors", "run.json")
             if (at := _written(folder / name)) is not None]
    return max(0.0, time.time() - max(found)) if found else None


def _written(path: Path) -> float | None:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return None


def _signature(path: Path) -> str:
    """Of a file as it stands; empty where there is none."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"
    return ""
