"""Does a change of the code change what it computes? Trains presets with two commits on one machine and compares everything.

    python benchmarks/same_weights.py OLD NEW [--only vae cvae] [--rounds 3]

Both commits are checked out beside each other. Each preset is trained for sixty steps on the bundled digits, in float32 on one
thread, `--rounds` times by either commit in turn, and compared are: every tensor of the model, by its bytes (names may differ); 64
samples; the figures of the evaluation; and the processor seconds of training, of which the fewest of each commit count. Folders that
OLD wrote are loaded by NEW, too, and must sample the same numbers. Equal is equal to the bit. Prints a line for each preset and writes
benchmarks/results/same_weights.json. About four minutes of one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "same_weights.json"
SMALL = {"encoder": "resnet(width=16)", "decoder": "resnet(width=16)"}
TRAINED = {
    "default": SMALL, "vae": SMALL, "flow_prior": {}, "ladder": {}, "vq_vae": {}, "fsq": {}, "m2": {}, "cvae": {},
    "beta_tcvae": {}, "iwae": {}, "vamp": {}, "target_rate": {"preset": "default", "objective": "nll + target_rate(10)*kl", **SMALL},
    "vae_gan": {}, "factor_vae": {}, "soft_intro_vae": {}, "dcgan": {}, "terse": {},
}
"""What is trained: a preset, and what is changed of it."""
DRIVER = """
import json, sys
import numpy as np, reparam
from reparam import load, train
what, folder, changes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if what == "train":
    preset = changes.pop("preset")
    train("digits", preset=preset, out=folder, device="cpu", steps=60, seed=0, threads=1, precision="float32", **changes)
np.save(sys.argv[4], load(folder, device="cpu").sample(64, seed=1))
"""


def call(tree: Path, *arguments: str) -> str:
    """Runs the driver with the package of `tree`; returns what it wrote to standard error if it failed."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", DRIVER, *arguments], env=environment, capture_output=True, text=True, cwd=tree)
    return "" if done.returncode == 0 else done.stderr[-600:] or "failed"


def tensors(folder: Path) -> list[str]:
    """A hash of every tensor of a model, in an order that does not depend on names."""
    from safetensors.numpy import load_file

    return sorted(hashlib.sha256(repr((v.shape, v.dtype)).encode() + v.tobytes()).hexdigest()
                  for v in load_file(folder / "model.safetensors").values())


def figures(folder: Path) -> dict[str, float]:
    return {m["name"]: m["value"] for m in json.loads((folder / "evaluation.json").read_text())["metrics"]}


def compared(trees: dict[str, Path], name: str, work: Path, rounds: int) -> dict:
    """One preset, trained by both."""
    changes = {"preset": name, **TRAINED[name]}
    seconds: dict[str, list[float]] = {side: [] for side in trees}
    for i in range(rounds):
        for side, tree in trees.items():
            folder = work / f"{name}-{side}-{i}"
            if error := call(tree, "train", str(folder), json.dumps(changes), str(work / f"{name}-{side}.npy")):
                return {"failed": f"{side}: {error}"}
            seconds[side].append(json.loads((folder / "run.json").read_text())["facts"]["outcome"]["cpu_seconds"])
    old, new = (work / f"{name}-{side}-0" for side in trees)
    if error := call(trees["new"], "load", str(old), "{}", str(work / f"{name}-loaded.npy")):
        return {"failed": f"new does not load what old wrote: {error}"}
    pictures = [(work / f"{name}-{which}.npy").read_bytes() for which in ("old", "new", "loaded")]
    a, b = figures(old), figures(new)
    return {"weights": tensors(old) == tensors(new), "samples": pictures[0] == pictures[1],
            "samples of old folder": pictures[0] == pictures[2],
            "figures that differ": {k: [a.get(k), b.get(k)] for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)},
            "cpu seconds": {side: min(s) for side, s in seconds.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--only", nargs="*", choices=tuple(TRAINED), default=list(TRAINED))
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    results: dict = {"old": "", "new": "", "presets": {}}
    with tempfile.TemporaryDirectory() as temporary:
        work, trees = Path(temporary), {}
        for side, commit in (("old", given.old), ("new", given.new)):
            trees[side] = work / side
            subprocess.run(["git", "worktree", "add", "--quiet", "--detach", trees[side], commit], cwd=ROOT, check=True)
            results[side] = subprocess.run(["git", "rev-parse", commit], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
        try:
            for name in given.only:
                results["presets"][name] = found = compared(trees, name, work, given.rounds)
                print(name, json.dumps(found, ensure_ascii=False), flush=True)
        finally:
            for tree in trees.values():
                subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    spent = [f["cpu seconds"] for f in results["presets"].values() if "cpu seconds" in f]
    if spent:
        results["new over old, cpu seconds of all"] = round(sum(s["new"] for s in spent) / sum(s["old"] for s in spent), 4)
        print("new over old, cpu seconds of all:", results["new over old, cpu seconds of all"])
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
