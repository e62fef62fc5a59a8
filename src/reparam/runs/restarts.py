"""Where a new run goes, and the run that torchrun has begun there before.

When a process dies, torchrun stops the others and starts the same command anew, up to `--max-restarts` times. A run keeps
the name of torchrun's job, so that the command goes on with what it began, and not with another run that is in its way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path

from ..errors import ModelFileError
from ..parallel import restarts
from .folder import Run

UNNAMED = "none"
"""What torchrun calls a job without a name: of any that says so."""


def job() -> str | None:
    """The name of the job, where torchrun has started this process."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def folders_for(data: str | Path) -> Iterator[Path]:
    """Folders that are named after the data, in the order in which runs take them."""
    named = str(data).rstrip("/*?")  # of an address that ends in wildcards, the folder
    stem = Path(named).name.split(".")[0].strip("*?[]") or "run"
    return (Path("runs") / (stem if i == 1 else f"{stem}-{i}") for i in count(1))


def new_folder(data: str | Path) -> Path:
    """The first of them that is not there."""
    return next(folder for folder in folders_for(data) if not folder.exists())


def begun_before(wanted: Run, out: str | Path | None, data: str | Path) -> Path | None:
    """The folder of a run that this job has begun as `wanted` is, in `out` or where runs of the data go."""
    name = job()
    if name is None or (name == UNNAMED and not restarts()):
        return None
    folders = [Path(out)] if out is not None else takewhile(Path.exists, folders_for(data))
    return next((folder for folder in folders if _is_of(folder, wanted, name)), None)


def _is_of(folder: Path, wanted: Run, name: str) -> bool:
    try:
        run = Run.read(folder)
    except ModelFileError:
        return False
    asked = run.recipe.but(**run.facts.get("asked", {}))  # before what it left open was found
    let = run.facts.get("auto", {}).get("largest", run.options.largest)  # of which images may have been opened smaller
    return run.facts.get("job") == name and (run.source, replace(run.options, largest=let), asked) == (
        wanted.source, wanted.options, wanted.recipe)
