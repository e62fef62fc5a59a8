"""A short run beside other programs: how long it takes when it chooses its threads, and on one thread.

    python benchmarks/busy_machine.py [--beside 4] [--rounds 1]

Processes that compute without end take part of every processor; `reparam train digits --steps 400` runs beside them whole,
training and finishing, in turn with --threads 1. The other programs start before the run does. Seconds of the wall's clock: about four
minutes a run.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reparam.runtime import cores

RESULTS = Path(__file__).parent / "results" / "busy_machine.json"
RUNS: dict[str, list[str]] = {"chosen": [], "one thread": ["--threads", "1"]}


def seconds(options: list[str], folder: Path, steps: int) -> dict[str, float]:
    """Wall time of the command, and what the run says of it."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "reparam", "train", "digits", "--steps", str(steps), "--out", str(folder), *options],
                   check=True, capture_output=True)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    outcome = run["facts"]["outcome"]
    return {"seconds": round(time.perf_counter() - began, 1), "threads": run["threads"],
            "training": outcome["training_seconds"], "finishing": outcome["finishing_seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and the other programs with it
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(asked.beside)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for i in range(asked.rounds):
                for name, options in RUNS.items():
                    found[name].append(seconds(options, Path(folder) / f"{name}-{i}", asked.steps))
                    print(name, found[name][-1], flush=True)
    finally:
        for process in beside:
            process.kill()
    medians = {name: statistics.median(r["seconds"] for r in rows) for name, rows in found.items()}
    ratio = round(medians["chosen"] / medians["one thread"], 2)
    print(medians, f"ratio {ratio}")
    RESULTS.write_text(json.dumps({"machine": f"{platform.processor() or platform.machine()}, {cores()} cores",
                                   "beside": asked.beside, "steps": asked.steps, "rounds": found, "medians": medians,
                                   "ratio": ratio}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
