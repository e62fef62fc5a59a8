"""The command `plan`: what a training would do, before it is begun."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..parts.profiles import AUTO
from ..progress import aligned, tell
from ..text import counted, for_shell
from .app import TRAINING, app, options_of, print_json, reporter
from .options import COMMON, GROUPS, OTHER, Device, Json, Overrides, Reading


@app.command(group=TRAINING)
def plan(data: str, /, *, preset: Annotated[str | None, Parameter(group=GROUPS[COMMON])] = None,
         changes: Overrides = Overrides(), reading: Reading = Reading(),
         device: Annotated[Device, Parameter(group=GROUPS["Machine"])] = "auto",
         json: Annotated[Json, Parameter(group=GROUPS[OTHER])] = False) -> None:
    """Say what 'train' would do with the same flags: what it chooses, how long it takes, how much memory, what comes of it.

    It trains for a few seconds and does once all that follows training, in a process of its own; nothing of it is kept.

    Parameters
    ----------
    data
        What 'train' takes.
    preset
        A named recipe; by default auto.
    """
    from ..runs.planning import compiler_is_tried
    from ..runs.planning import plan as find_out

    given = {k: v for k, v in vars(changes).items() if v is not None}
    found = find_out(data, preset=preset or AUTO, options=options_of(reading), device=device, report=reporter(json),
                     fields=given)
    if json:
        print_json(found.to_dict())
        return
    memory = "unknown: this system does not say" if found.memory is None else f"{found.memory:.1f} GiB at most"
    rows = [("time", f"{duration(found.seconds)}, of it {duration(found.after)} to start and for what follows training"),
            ("memory", memory),
            ("training", f"sees each of {counted(found.images, 'image')} {found.passes:,.0f} times; {found.parameters:,} "
                         f"parameters, {counted(found.threads, 'thread')}, {found.precision}"),
            ("result", found.result)]
    if compiler_is_tried(found):
        rows.insert(2, ("", "not in it: the compiler, which so long a training tries; --compile off leaves it out"))
    tell("", *aligned(rows), "", f"found out in {duration(found.probe)}. To begin, with the same flags:",
         f"  reparam train {for_shell(data)}")


def duration(seconds: float) -> str:
    """In words, to about two digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
