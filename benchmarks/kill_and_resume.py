"""Kills a training run with SIGKILL at random moments, resumes it, and compares the weights with an undisturbed run's.

    python benchmarks/kill_and_resume.py [--trials 20]

Every trial starts a run in an empty folder and kills it once at a random moment of its whole life, reading of data,
training and finishing included. A run that was killed before it wrote `run.json` is started again, any other resumed.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "kill_and_resume.json"
COMMAND = [sys.executable, "-m", "reparam", "train"]
RUN = ["digits", "--steps", "2500", "--threads", "1", "--precision", "float32", "--encoder", "mlp((128,))", "--decoder",
       "resnet(width=8)", "--latent", "flat(8)", "--fitted-prior", "mixture(5)"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    resume = (folder / "run.json").exists()
    arguments = ["--resume", str(folder)] if resume else [*RUN, "--out", str(folder)]
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def trial(folder: Path, moment: float, reference: bytes) -> dict:
    process = start(folder)
    time.sleep(moment)
    process.kill()
    process.communicate()
    found = {"resumed": (folder / "run.json").exists(), "had state": (folder / "state").exists(),
             "had model": (folder / "model.safetensors").exists(),
             "status": json.loads((folder / "run.json").read_text())["status"] if (folder / "run.json").exists() else ""}
    if found["status"] != "finished":
        process = start(folder)
        _, error = process.communicate()
        if process.returncode != 0:
            return {"killed after": round(moment, 2), **found, "equal": False, "error": error.decode()[-500:]}
    return {"killed after": round(moment, 2), **found, "equal": (folder / "model.safetensors").read_bytes() == reference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        undisturbed = Path(temporary) / "undisturbed"
        began = time.perf_counter()
        start(undisturbed).communicate()
        life = time.perf_counter() - began
        reference = (undisturbed / "model.safetensors").read_bytes()
        trials = []
        for i in range(given.trials):
            trials.append(trial(Path(temporary) / str(i), draw.uniform(0, life), reference))
            print(trials[-1], flush=True)
    summary = {"trials": len(trials), "equal": sum(t["equal"] for t in trials), "seconds undisturbed": round(life, 1),
               "each": trials}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{summary['equal']} of {summary['trials']} runs ended with the weights of the undisturbed one")
    sys.exit(summary["equal"] != summary["trials"])


if __name__ == "__main__":
    main()
