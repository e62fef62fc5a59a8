"""The likelihood of MNIST under a preset, by the product's own commands.

    python benchmarks/mnist_likelihood.py MNIST.npz [--preset flow_prior] [--minutes 10] [--seed 0] [-- FLAGS OF reparam train]

Trains with `reparam train --preset P --minutes M` (dynamic binarisation, a tenth of the training images held out), then
`reparam evaluate --metrics "elbo, iw_nll(100)"` on all 10,000 test images, binarised once with seed 1234. With `--run` it
measures a run that was trained by such a command.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from reparam.parts.presets import find

RESULTS = Path(__file__).parent / "results" / "mnist_likelihood.json"


def reparam(*arguments: str) -> dict:
    """One command, and the JSON object that it prints."""
    done = subprocess.run([sys.executable, "-m", "reparam", *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--preset", default="flow_prior")
    parser.add_argument("--minutes", default="10")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--run", help="measure this run instead of training one")
    parser.add_argument("--note", default="", help="what else a reader should know of the run")
    given, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.run or f"{temporary}/run"
        if not given.run:
            reparam("train", given.data, "--preset", given.preset, "--minutes", given.minutes, "--seed", given.seed,
                    "--out", folder, *(f for f in flags if f != "--"))
        figures = reparam("evaluate", folder, "--metrics", "elbo, iw_nll(100)")
        run = json.loads((Path(folder) / "run.json").read_text())
    recipe = run["recipe"]
    usual = find(given.preset).recipe.but(minutes=recipe["minutes"], seed=recipe["seed"]).to_dict()
    changes = {k: v for k, v in recipe.items() if v != usual.get(k)}
    row = {"preset": given.preset, "changes": changes, "minutes": recipe["minutes"], "seed": recipe["seed"],
           "threads": run["threads"], "precision": run["precision"], "parameters": run["facts"]["parameters"],
           "outcome": run["facts"]["outcome"], "note": given.note, **figures}
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[f"{given.preset}, {recipe['minutes']:g} minutes, {run['threads']} threads, seed {recipe['seed']}"] = row
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for m in figures["metrics"]:
        print(m["name"], round(m["value"], 3), m["unit"], "n =", m["n"], m.get("interval", ""))


if __name__ == "__main__":
    main()
