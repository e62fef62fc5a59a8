"""One program in a process of its own, set up as its users have it, that waits for its turn.

    python -m peers_parts.child ours|plain|with_pythae FACTORY ARGUMENTS

calls FACTORY(*ARGUMENTS) of that module, which gives what there is to tell and a function; prints the former, then the
function's value each time when a line is read. All as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]


class Program:
    """The process, seen from the one that asks."""

    def __init__(self, module: str, factory: str, *arguments: Any) -> None:
        paths = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "peers_parts.child", module, factory, json.dumps(arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        self.told: dict[str, Any] = self._read()

    def turn(self) -> Any:
        """What its function returns this time."""
        assert self.process.stdin is not None  # noqa: S101
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None  # noqa: S101
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended")
        return json.loads(line)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def main() -> None:
    module, factory, arguments = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what programs print goes elsewhere
    if module == "ours":  # as the command line does before it imports torch
        from reparam.runtime import hush_threads, keep_memory

        hush_threads()
        keep_memory()
    told, function = getattr(importlib.import_module(f"peers_parts.{module}"), factory)(*json.loads(arguments))
    answers.write(json.dumps(told) + "\n")
    with contextlib.suppress(KeyboardInterrupt):
        for _ in sys.stdin:
            answers.write(json.dumps(function()) + "\n")


if __name__ == "__main__":
    main()
