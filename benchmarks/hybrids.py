"""Do hybrids train with their default settings, without supervision? Ten seeds of two of them on two data sets, beside the same models without a critic.

    python benchmarks/hybrids.py tune DATA [--jobs 2]          the trials that chose the presets' settings
    python benchmarks/hybrids.py run DATA [--jobs 2] [--only faces/vae_gan/3/critic]
    python benchmarks/hybrids.py table

A run has `--seconds` (60) of processor time on one core. Three seeds of each are trained with a critic that is trained as in the
others but has no effect (its term has a weight of 1e-9), so that images seen and learning rates are the same: what is asked is
whether every seed with a critic ends with reconstructions at most 1 dB worse than those, and nearer to test images in Fréchet
distance. Test images: 2,500 evenly spaced ones, or the last 2,500 of faces64. A run that has its file in benchmarks/results/hybrids
is skipped. Trials are runs of one seed without the last 5,000
training images (faces: 1,000), judged on 2,500 (1,000) of those; their outcome is in the presets.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from cells import side_by_side
from versus_parts.training import MEASURED, PRECISION, images_of

from reparam.data.stream import to_batch
from reparam.errors import TrainingDiverged
from reparam.files.writing import write_json
from reparam.metrics import measure
from reparam.metrics.evaluation import Evaluation
from reparam.models.calibration import calibrate_likelihood
from reparam.models.sampler import Sampler
from reparam.parts.presets import PRESETS
from reparam.parts.recipe import Recipe
from reparam.trainer.assembly import Assembly
from reparam.trainer.budget import Budget

RESULTS = Path(__file__).parent / "results" / "hybrids"
TUNED = Path(__file__).parent / "results" / "hybrids_trials"
SETS, HYBRIDS, SEEDS, WITHOUT = ("fashion", "faces"), ("vae_gan", "latent_diffusion"), range(10), range(3)
LDM = "nll + 100*perceptual('wavelets') + 0.01*kl + "
TRIALS: dict[str, tuple[dict[str, str], ...]] = {
    "vae_gan": (
        {"objective": "nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.2)", "adversary": "images"},
        {"objective": "nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.2)", "adversary": "images('reconstructions')"},
        {"objective": "nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.1)", "adversary": "images('reconstructions')"},
        {"objective": "nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.2)", "adversary": "images('reconstructions', patch=8)"}),
    "latent_diffusion": (
        {"objective": LDM + "late(1, 0.4, 0.1)*adversarial(balance=0.5)"},
        {"objective": LDM + "late(1, 0.6, 0.1)*adversarial(balance=0.2)"},
        {"objective": LDM + "late(1, 0.6, 0.1)*adversarial(balance=0.1)"},
        {"objective": LDM + "late(1, 0.6, 0.1)*adversarial(balance=0.2)", "game": "nonsaturating", "penalty": "0.1*r1(0.1)"}),
}
"""The settings that were tried; `plain` beside them is the first one with its critic without effect."""


def path_of(cell: str) -> Path:
    return RESULTS / f"{cell.replace('/', '-')}.json"


def trial_path(cell: str) -> Path:
    return TUNED / f"{cell.replace('/', '-')}.json"


def cells() -> list[str]:
    return [f"{data}/{name}/{seed}/{kind}" for kind, seeds in (("critic", SEEDS), ("plain", WITHOUT))
            for seed in seeds for data in SETS for name in HYBRIDS]


def trials() -> list[str]:
    return [f"{data}/{name}/{i}" for name in HYBRIDS for i in (*map(str, range(len(TRIALS[name]))), "plain") for data in SETS]


def outcome(recipe: Recipe, images: np.ndarray, known: np.ndarray, test: np.ndarray, *, seconds: float, heard: bool) -> dict:
    """Trains for so much processor time, and measures reconstructions."""
    _, h, w, c = images.shape
    recipe = recipe.but(precision=PRECISION, threads=1, ema=0.998)
    if not heard:
        recipe = recipe.but(objective=recipe.objective.replace("late(1, ", "late(1e-9, "))
    torch.set_num_threads(1)
    assembly, state = Assembly(recipe, (c, h, w)), None
    budget = Budget(minutes=seconds / 60, clock=time.process_time, precision=PRECISION)
    for state in assembly.training(assembly.stream(images, known), budget):
        pass
    model = state.ema.eval()
    calibrate_likelihood(model, to_batch(images[known[:2000]]))
    figures = {f.name: f for f in measure(Evaluation(Sampler(model), to_batch(images[test]), n=len(test)), "psnr, ssim, fd, sharpness")}
    kept = {k: round(figures[k].value, 4) for k in ("psnr", "ssim", "fd of reconstructions", "sharpness")}
    return {"steps": state.step, "seconds": round(state.seconds, 1), "skipped": state.guard.skipped, "rollbacks": state.rollbacks,
            "features": figures["fd"].features, "n": figures["fd"].n, **kept}


def trial(what: str, folder: str, seconds: float) -> None:
    """One setting, on training images that are held out."""
    data, name, number = what.split("/")
    source, known, _ = images_of(data, folder)
    out = 1000 if data == "faces" else 5000
    plain = number == "plain"
    changes = TRIALS[name][0 if plain else int(number)]
    found = outcome(PRESETS[name].recipe.but(seed=0, **changes), source.images, known[:-out], known[-out:: max(out // MEASURED, 1)],
                    seconds=seconds, heard=not plain)
    write_json(trial_path(what), {"changes": changes, **found})
    print(what, found, file=sys.stderr, flush=True)


def cell(what: str, folder: str, seconds: float) -> None:
    data, name, seed, kind = what.split("/")
    source, known, test = images_of(data, folder)
    try:
        found = outcome(PRESETS[name].recipe.but(seed=int(seed)), source.images, known, test, seconds=seconds, heard=kind == "critic")
    except TrainingDiverged as e:
        found = {"failed": str(e)}
    write_json(path_of(what), found)
    print(what, found, file=sys.stderr, flush=True)


def rows() -> list[list[str]]:
    """One row for each data set and model; used by docs/make_reference.py too."""
    lines: list[list[str]] = []
    for data in SETS:
        for name in HYBRIDS:
            both = {kind: [json.loads(path_of(f"{data}/{name}/{s}/{kind}").read_text()) for s in seeds
                           if path_of(f"{data}/{name}/{s}/{kind}").exists()]
                    for kind, seeds in (("critic", SEEDS), ("plain", WITHOUT))}
            whole = {kind: [r for r in found if "failed" not in r] for kind, found in both.items()}
            if not whole["critic"] or not whole["plain"]:
                continue
            psnr, fd = ({kind: [r[key] for r in found] for kind, found in whole.items()}
                        for key in ("psnr", "fd of reconstructions"))
            within = sum(p >= np.mean(psnr["plain"]) - 1 for p in psnr["critic"])
            nearer = sum(f < np.mean(fd["plain"]) for f in fd["critic"])
            lines.append([data, f"`{name}`", f"{len(whole['critic'])} of {len(both['critic'])}",
                          *(f"{np.mean(v):.1f} [{min(v):.1f}, {max(v):.1f}]" for v in (psnr["plain"], psnr["critic"])),
                          f"{within}", *(f"{np.mean(v):.0f} [{min(v):.0f}, {max(v):.0f}]" for v in (fd["plain"], fd["critic"])),
                          f"{nearer}"])
    return lines


HEAD = ["data", "model", "seeds that finished", "PSNR without, dB", "PSNR with a critic, dB", "seeds within 1 dB",
        "FD of reconstructions without", "with a critic", "seeds nearer"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tune", "trial", "run", "cell", "table"))
    parser.add_argument("data", nargs="?", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    if given.what == "cell":
        cell(given.only, given.data, given.seconds)
    elif given.what == "trial":
        trial(given.only, given.data, given.seconds)
    elif given.what == "tune":
        tasks = [c for c in trials() if given.only in c and not trial_path(c).exists()]
        side_by_side([["trial", given.data, "--only", c, "--seconds", str(given.seconds)] for c in tasks], given.jobs, __file__)
    elif given.what == "run":
        tasks = [c for c in cells() if given.only in c and not path_of(c).exists()]
        side_by_side([["cell", given.data, "--only", c, "--seconds", str(given.seconds)] for c in tasks], given.jobs, __file__)
    else:
        print("\n".join(" | ".join(r) for r in [HEAD, *rows()]))


if __name__ == "__main__":
    main()
