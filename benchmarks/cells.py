"""What a benchmark of several parts measures: cells, each by itself and with a file of its own, so that it goes on where it stopped.

A part is a module with
    CELLS                     names of what is measured
    measure(cell, given)      the figures of one, as JSON holds them; `given` are the arguments of the command
The results of a folder are PART-CELL.json, with the processor, whether it computes in bfloat16, its number of cores and how busy they were.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from downstream import processor

from reparam.files.writing import write_json
from reparam.runtime import Load, cores
from reparam.trainer.autotune import computes_in_bf16


def results(folder: Path, name: str, part: ModuleType) -> dict[str, dict[str, Any]]:
    """What has been measured of a part, by cell."""
    paths = {cell: folder / f"{name}-{cell}.json" for cell in part.CELLS}
    return {cell: json.loads(path.read_text(encoding="utf-8")) for cell, path in paths.items() if path.exists()}


def run(folder: Path, name: str, part: ModuleType, given: argparse.Namespace) -> bool:
    """Measures what is asked for and not there yet; says whether all went well.

    Args:
        folder: where results are kept.
        name: the part's.
        part: its module.
        given: among the arguments `only`, cells with commas between or "" for all, and `again`, also what has been measured.
    """
    well, there = True, {} if given.again else results(folder, name, part)
    wanted = given.only.split(",") if given.only else part.CELLS
    unknown = set(wanted) - set(part.CELLS)
    if unknown:
        sys.exit(f"{name} has no {', '.join(sorted(unknown))}: there are {', '.join(part.CELLS)}")
    for cell in wanted:
        if cell in there:
            continue
        load, began = Load(), time.perf_counter()
        try:
            found = part.measure(cell, given)
        except Exception:
            traceback.print_exc()
            well = False
            continue
        machine = {"processor": processor(), "bf16": computes_in_bf16(), "cores": cores(), "load": round(os.getloadavg()[0], 1),
                   "cores_taken_by_others": round(cores() - load.free(), 2), "seconds": round(time.perf_counter() - began)}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}-{cell}.json", {**found, "machine": machine})
        print(cell, found, machine, file=sys.stderr, flush=True)
    return well


def side_by_side(tasks: list[list[str]], jobs: int, script: str) -> None:
    """Runs a script with each list of arguments, `jobs` at a time, each on a core of its own."""
    cores, running = sorted(os.sched_getaffinity(0)), {}
    free = cores[:jobs]
    while tasks or running:
        while tasks and free:
            core, task = free.pop(0), tasks.pop(0)
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            running[core] = subprocess.Popen(["taskset", "-c", str(core), sys.executable, script, *task], env=environment)
        time.sleep(0.5)
        for core in [c for c, p in running.items() if p.poll() is not None]:
            if running[core].returncode:
                print("failed:", running[core].args[4:], file=sys.stderr, flush=True)
            del running[core]
            free.append(core)


def between(name: str, lines: str) -> str:
    """Lines of a page with the marks by which they are found again."""
    return f"<!-- {name} -->\n{lines.strip()}\n<!-- end of {name} -->"


def put(page: str, name: str, lines: str) -> str:
    """A page with new lines between the marks of a name."""
    text, times = re.subn(f"<!-- {name} -->\n.*?<!-- end of {name} -->", lambda _: between(name, lines), page, flags=re.S)
    if times != 1:
        sys.exit(f"the page has {times} places marked {name}, where one is needed")
    return text
