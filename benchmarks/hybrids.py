"""Do hybrids train without babysitting? Ten seeds of two of them on two data sets, beside the same models without a critic.

    python benchmarks/hybrids.py run DATA [--jobs 2] [--only faces/vae_gan/3/critic]
    python benchmarks/hybrids.py table

A run with a critic has `--seconds` (60) of processor time on one core. Three seeds of each are trained without it, on as many
images, the objective otherwise the same: what is asked is whether every seed with a critic ends with reconstructions at most
1 dB worse than those, and nearer to test images in Fréchet distance. Test images: 2,100 evenly spaced ones, or the last 2,500 of
faces64. A run that has its file in benchmarks/results/hybrids is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from vae_vs_gan import MEASURED, images_of, side_by_side

from reparam.build import build_adversary, build_model, build_objective
from reparam.data.stream import Stream, to_batch
from reparam.errors import TrainingDiverged
from reparam.files import write_json
from reparam.fitting import calibrate_likelihood
from reparam.loop import training
from reparam.metrics import Evaluation, measure
from reparam.objective import Objective
from reparam.presets import PRESETS

RESULTS = Path(__file__).parent / "results" / "hybrids"
SETS, HYBRIDS, SEEDS, WITHOUT = ("fashion", "faces"), ("vae_gan", "latent_diffusion"), range(10), range(3)


def path_of(cell: str) -> Path:
    return RESULTS / f"{cell.replace('/', '-')}.json"


def cells() -> list[str]:
    """Those with a critic come first: how many images they see is what the others get."""
    return [f"{data}/{name}/{seed}/{kind}" for kind, seeds in (("critic", SEEDS), ("plain", WITHOUT))
            for seed in seeds for data in SETS for name in HYBRIDS]


def cell(what: str, folder: str, seconds: float) -> None:
    data, name, seed, kind = what.split("/")
    source, indices, test = images_of(data, folder)
    _, h, w, c = source.images.shape
    recipe = PRESETS[name].recipe.but(seed=int(seed), precision="bf16", threads=1)
    objective = build_objective(recipe)
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, (c, h, w))
    budget: dict[str, float | int | None]
    if kind == "critic":
        adversary, budget = build_adversary(recipe, model, (c, h, w)), {"minutes": seconds / 60, "steps": None}
    else:
        objective = Objective(tuple((weight, term) for weight, term in objective.terms if not term.contest))
        paths = [path_of(f"{data}/{name}/{s}/critic") for s in SEEDS]
        seen = [steps for p in paths if p.exists() and (steps := json.loads(p.read_text()).get("steps"))]
        if not seen:
            sys.exit(f"run {data}/{name} with a critic first: how many steps that takes is what this gets")
        adversary, budget = None, {"minutes": None, "steps": int(np.mean(seen))}
    state = None
    try:
        for state in training(model, objective, Stream(source.images, indices, recipe.batch_size, recipe.seed), **budget,
                              optimizer=recipe.optimizer, schedule=recipe.schedule, clip=recipe.clip, ema=0.998,
                              precision="bf16", population=len(indices), adversary=adversary,
                              critic_optimizer=recipe.critic_optimizer, clock=time.process_time):
            pass
    except TrainingDiverged as e:
        write_json(path_of(what), {"failed": str(e)})
        return
    model = state.ema.eval()
    calibrate_likelihood(model, to_batch(source.images[indices[:2000]]))
    figures = {f.name: f for f in measure(Evaluation(model, to_batch(source.images[test]), n=MEASURED), "psnr, ssim, fd, sharpness")}
    kept = {k: round(figures[k].value, 4) for k in ("psnr", "ssim", "fd of reconstructions", "sharpness")}
    write_json(path_of(what), {"steps": state.step, "seconds": round(state.seconds, 1), "skipped": state.guard.skipped,
                               "rollbacks": state.rollbacks, "features": figures["fd"].features, "n": figures["fd"].n, **kept})
    print(what, kept, file=sys.stderr, flush=True)


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
    parser.add_argument("what", choices=("run", "cell", "table"))
    parser.add_argument("data", nargs="?", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    if given.what == "cell":
        cell(given.only, given.data, given.seconds)
    elif given.what == "run":
        for kind in ("critic", "plain"):  # all of the first before any of the second
            tasks = [c for c in cells() if c.endswith(kind) and given.only in c and not path_of(c).exists()]
            side_by_side([["cell", given.data, "--only", c, "--seconds", str(given.seconds)] for c in tasks], given.jobs, __file__)
    else:
        print("\n".join(" | ".join(r) for r in [HEAD, *rows()]))


if __name__ == "__main__":
    main()
