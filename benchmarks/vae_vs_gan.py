"""How far is a VAE from a GAN on the same data, with as many parameters and as much time? Settings, grid and table.

    python benchmarks/vae_vs_gan.py tune DATA [--jobs 2]       the trials that chose each model's settings
    python benchmarks/vae_vs_gan.py run DATA [--jobs 2]        the grid: four sets of images, eight models, three seeds
    python benchmarks/vae_vs_gan.py table DATA                 docs/vae-versus-gan.md from what has been measured

DATA is a folder with mnist.npz, fashion-mnist.npz, faces64.zip and cifar10-jpeg.zip. A cell of the grid that has its file in
benchmarks/results/vae_vs_gan is left out, so that an interrupted run goes on where it stopped; `--only fashion/vae_gan/0` (or
`fashion`, `/vae_gan`, …) runs a part, and `--minutes 10` gives those cells another budget, in files of their own. Trained models stay in `--work`, so that `run --again` measures them without training.

Budget: `--minutes` (4) of processor time on one core, one thread, two runs side by side; it covers everything that is learned,
the fitted prior too. Settings are chosen on Fashion-MNIST: every model has eight trials of equal length, trained without the last
5,000 training images and judged on 2,500 of those. In place of these `vae_terse` has three and `vae_flow` two that are 2.5 times as long,
since each of their stages needs some time; `vae_flow` is for budgets of ten minutes and more. The best GAN and the best of the other
VAEs have such longer trials besides, for budgets beyond four minutes (`tune --minutes 10`). Test images choose nothing: `run` measures
on them, and draws its curves over time with 500 of them. Parameters are those of all networks that sampling needs, within 10 % of a
target; a decoder's width follows from it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reparam.data.open import open_images
from reparam.data.stream import to_batch
from reparam.errors import TrainingDiverged
from reparam.features import get_features
from reparam.files.writing import write_json
from reparam.functional.distance import frechet, kernel_distance
from reparam.functional.diversity import vendi
from reparam.functional.neighbours import prdc
from reparam.metrics import measure
from reparam.metrics.evaluation import Evaluation
from reparam.metrics.figures import PROTOCOL
from reparam.models.build import build_model
from reparam.models.calibration import calibrate_likelihood
from reparam.models.codes import latent_axes
from reparam.models.priors import Mixture
from reparam.models.sampler import Sampler
from reparam.parallel import SingleProcess
from reparam.parts.presets import PRESETS
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model
from reparam.pretrained.image_model import ImageModel
from reparam.pretrained.pictures import grid, save_png
from reparam.runs.journal import held_out_figures
from reparam.runtime import keep_memory
from reparam.tensors import evenly
from reparam.trainer.assembly import Assembly
from reparam.trainer.autotune import computes_in_bf16
from reparam.trainer.budget import Budget
from reparam.trainer.stages.base import Data, StageBudget
from reparam.trainer.stages.sequence import STAGES, fit_stages

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "vae_vs_gan"
TRIALS = HERE / "results" / "vae_vs_gan_trials.json"
SETS = {"mnist": "mnist.npz", "fashion": "fashion-mnist.npz", "faces": "faces64.zip", "cifar": "cifar10-jpeg.zip"}
SEEDS = (0, 1, 2)
MINUTES = 4.0
MEASURED = 2500
"""Real images, and samples, that distances are measured with."""
FIT_SECONDS = 45
"""Kept back from training for fitting a mixture, which took 19 to 42; what learns step by step gets its share of the time."""
TUNING_SECONDS, TUNING_FIT_SECONDS = 75, 15
"""Of a trial; a mixture took longer than is kept back for it."""
PRECISION = "bf16" if computes_in_bf16() else "float32"
"""What is fast here; it stands with the recipe in every result."""
LONGER = 2.5
"""Times as long are the finalists' trials for longer budgets."""


@dataclass(frozen=True)
class Entry:
    """A model of the comparison: a preset, what is the same in all its trials, the trials, and longer ones. With both, the longer
    ones are held against the best of the others, for budgets beyond `MINUTES`; with longer ones alone, they choose for all."""

    preset: str
    trials: tuple[dict[str, Any], ...]
    decoder: str = "resnet(width={w}, patch={p})"
    least: float = 0.0
    """Minutes below which it is not run."""
    longer: tuple[dict[str, Any], ...] = ()


def lrs(model: float, critic: float, first: float = 0.5) -> dict[str, str]:
    return {"optimizer": f"adamw(lr={model:g}, betas=({first!r}, 0.99))",
            "critic_optimizer": f"adamw(lr={critic:g}, betas=({first!r}, 0.99))"}


EARLY = {"objective": "nll + kl + late(1, 0.4, 0.1)*adversarial(balance=0.6)"}
BOTH = {"adversary": "images"}
FAST = {"patch": "4", "optimizer": "adamw(lr=4e-3)", "latent": "flat(96)"}
"""The best trial of `vae`."""
LITTLE = {"refiner": "autoregressive(temperature=0.6)", "refiner_share": 0.35}
MODELS = {
    "vae": Entry("default", (
        {"patch": "4"}, {"patch": "2"}, {"patch": "4", "optimizer": "adamw(lr=4e-3)"}, {"patch": "4", "latent": "flat(32)"},
        {"patch": "4", "optimizer": "adamw(lr=6e-3)"}, {"patch": "2", "optimizer": "adamw(lr=4e-3)"},
        {"patch": "4", "optimizer": "adamw(lr=4e-3)", "latent": "flat(96)"},
        {"decoder": "dcgan", "optimizer": "adamw(lr=4e-3)"})),
    "vae_resampled": Entry("default", (
        {**FAST, "resampler": "resnet(32)"}, {**FAST, "resampler": "resnet(32)", "resampler_share": 0.3},
        {**FAST, "resampler": "resnet(16)"}, {**FAST, "resampler": "dcgan(32)"},
        {**FAST, "resampler": "resnet(32, patch=2)"}, {**FAST, "resampler": "resnet(32)", "optimizer": "adamw(lr=6e-3)"},
        {**FAST, "resampler": "resnet(32)", "fitted_prior": "flow_matching('mlp(256, 2)')"},
        {**FAST, "resampler": "resnet(32)", "objective": "nll + 2*kl"}),
        longer=({**FAST, "resampler": "resnet(32)", "patch": "2"},
                {**FAST, "resampler": "resnet(32)", "patch": "2", "latent": "flat(128)", "fitted_prior": "mixture(30)"})),
    "vae_terse": Entry("terse", (), longer=(
        {"patch": "4", **LITTLE}, {"patch": "4", **LITTLE, "latent": "flat(64)", "objective": "nll + 2*kl"},
        {"patch": "4", "fitted_prior": "flow_matching('mlp(192, 2)')"})),
    "vae_flow": Entry("latent_flow", (), least=10, longer=({"patch": "2", "objective": "nll + kl"}, {"patch": "2"})),
    "vae_gan": Entry("vae_gan", (
        {"patch": "4", **EARLY, **BOTH, **lrs(2e-3, 4e-4)}, {"patch": "4", **EARLY, **BOTH, **lrs(4e-3, 4e-4)},
        {"patch": "2", **EARLY, **BOTH, **lrs(4e-3, 4e-4)},
        {"patch": "4", **lrs(4e-3, 4e-4), **BOTH, "objective": "nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.3)"},
        {"patch": "4", "optimizer": "adamw(lr=4e-3)", "adversary": "images('reconstructions')",
         "objective": "nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.2)"},
        {"patch": "4", "optimizer": "adamw(lr=4e-3)", "penalty": "0.1*r1(0.1)", **BOTH,
         "objective": "nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.2)"},
        {"patch": "2", "optimizer": "adamw(lr=4e-3)", **BOTH,
         "objective": "nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.2)"},
        {"decoder": "dcgan", "optimizer": "adamw(lr=4e-3)", **BOTH,
         "objective": "nll + kl + late(1, 0.6, 0.1)*adversarial(balance=0.2)"})),
    "dcgan": Entry("dcgan", (
        lrs(2e-4, 2e-4), lrs(4e-4, 4e-4), lrs(1e-3, 4e-4), {**lrs(4e-4, 4e-4), "critic": "dcgan(32)"},
        {**lrs(1e-3, 1e-3), "critic": "dcgan(32)"}, {**lrs(4e-4, 4e-4), "critic": "dcgan(16)"},
        {**lrs(8e-4, 4e-4), "critic": "dcgan(32)"}, {**lrs(4e-4, 4e-4), "critic": "dcgan(32)", "penalty": "0.1*r1(0.1)"}), "dcgan({w})",
        longer=({**lrs(1e-3, 1e-3), "critic": "dcgan(64)"}, {**lrs(4e-4, 4e-4), "critic": "dcgan(32)"})),
    "sngan": Entry("sngan", (
        {"patch": "4"}, {"patch": "4", **lrs(1e-3, 1e-3, 0.0)}, {"decoder": "dcgan", **lrs(4e-4, 4e-4)},
        {"decoder": "dcgan", "critic": "dcgan(32)", **lrs(4e-4, 1e-3)},
        {"decoder": "dcgan", "critic": "dcgan(32)", **lrs(4e-4, 4e-4)}, {"decoder": "dcgan", "critic": "conv", **lrs(1e-3, 1e-3)},
        {"patch": "4", "critic": "dcgan(32)", **lrs(1e-3, 1e-3)},
        {"decoder": "dcgan", "critic": "conv", **lrs(4e-4, 1e-3), "likelihood": "implicit(squash=True)"})),
    "wgan_gp": Entry("wgan_gp", (
        {"patch": "4", "game": "wasserstein(steps=2)", **lrs(4e-4, 4e-4, 0.0)},
        {"patch": "4", "game": "wasserstein(steps=1)", **lrs(4e-4, 1e-3, 0.0)},
        {"decoder": "dcgan", "game": "wasserstein(steps=1)", **lrs(4e-4, 1e-3, 0.0)},
        {"decoder": "dcgan", "game": "wasserstein(steps=2)", **lrs(1e-3, 1e-3, 0.0)},
        {"patch": "4", "game": "wasserstein(steps=2)", **lrs(1e-3, 1e-3)},
        {"decoder": "dcgan", "critic": "resnet", "game": "wasserstein(steps=2)", **lrs(1e-3, 1e-3)},
        {"decoder": "dcgan", "game": "wasserstein(steps=1)", **lrs(1e-3, 2e-3), "likelihood": "implicit(squash=True)"},
        {"decoder": "dcgan", "critic": "resnet(32)", "game": "wasserstein(steps=1)", **lrs(1e-3, 1e-3)})),
    "r3gan": Entry("r3gan", (
        {"patch": "4"}, {"patch": "4", **lrs(1.2e-3, 1.2e-3, 0.0)}, {"decoder": "dcgan", **lrs(6e-4, 6e-4, 0.0)},
        {"decoder": "dcgan", "critic": "conv", **lrs(6e-4, 6e-4, 0.0)},
        {"patch": "4", "likelihood": "implicit(squash=True)"},
        {"patch": "4", "likelihood": "implicit(squash=True)", **lrs(1.2e-3, 1.2e-3, 0.0)},
        {"patch": "4", "likelihood": "implicit(squash=True)", "critic": "resnet(32)"},
        {"decoder": "dcgan", "likelihood": "implicit(squash=True)", "critic": "resnet(32)"})),
}
TARGET = {"mnist": 800_000, "fashion": 800_000, "cifar": 800_000, "faces": 1_200_000}
"""Parameters of everything that sampling needs."""


def recipe_of(name: str, changes: dict[str, Any], data: str, image_shape: tuple[int, ...], seed: int) -> Recipe:
    """The preset with its changes and the decoder's width that meets the target."""
    entry = MODELS[name]
    changes = dict(changes)
    patch = changes.pop("patch", "")
    decoder = "dcgan({w})" if changes.pop("decoder", "") == "dcgan" else entry.decoder
    changes = ({"latent": "flat(64)"} if not PRESETS[entry.preset].recipe.has_encoder else {}) | changes
    base = PRESETS[entry.preset].recipe.but(**changes, batch_size=64, seed=seed, precision=PRECISION, threads=1, ema=0.998)

    def at(width: int) -> Recipe:
        return base.but(decoder=decoder.format(w=width, p=patch))

    return min((at(width) for width in range(8, 400, 4)), key=lambda r: abs(parameters(r, image_shape) - TARGET[data]))


def parameters(recipe: Recipe, image_shape: tuple[int, ...]) -> int:
    """Of all networks that sampling needs: decoder, likelihood and prior, with the fitted one's free parameters."""
    with torch.device("meta"):
        model = build_model(recipe, image_shape)
    stages = {stage.name: module for stage in STAGES if (module := stage.check(recipe, model, image_shape)) is not None}
    fitted, prior = sum(p.numel() for m in stages.values() for p in m.parameters()), stages.get("fitted_prior")
    if isinstance(prior, Mixture):  # of which a symmetric covariance counts once, and weights sum to one
        d = math.prod(model.latent.fit_space.shape)
        fitted += len(prior.logits) * (d + d * (d + 1) // 2 + 1) - sum(p.numel() for p in prior.parameters())
    elif prior is None:
        fitted += sum(p.numel() for p in model.latent.prior.parameters())
    return fitted + sum(p.numel() for part in (model.decoder, model.likelihood) for p in part.parameters())


@cache
def images_of(data: str, folder: str):
    """Images, labels and indices: training, the held-out end of it, and the evenly spaced test images."""
    source = open_images(str(Path(folder) / SETS[data]))
    train, test = np.flatnonzero(~source.test), np.flatnonzero(source.test)
    if not len(test):  # the last ones, which no model sees
        train, test = train[:-MEASURED], train[-MEASURED:]
    return source, train, test[:: len(test) // MEASURED][:MEASURED]


def train(recipe: Recipe, images: np.ndarray, indices: np.ndarray, seconds: float, watched: np.ndarray, out: Path,
          kept_back: float = FIT_SECONDS, device: str = "cpu", clock: Callable[[], float] = time.process_time) -> dict:
    """Trains for so many seconds of a clock and leaves the model in `out`; returns what it cost and the course it took."""
    torch.set_num_threads(recipe.threads or torch.get_num_threads())
    _, h, w, c = images.shape
    assembly, alone = Assembly(recipe, (c, h, w)), SingleProcess(torch.device(device))
    prior, adversary = STAGES[0].choice(recipe, assembly.model), assembly.adversary
    kept_back = kept_back if prior is not None and prior.startswith("mixture") else 0.0
    held_out, known = to_batch(images[watched[:500]], device), to_batch(images[indices[:500]], device)
    curve, state = [], None
    budget = Budget(minutes=(assembly.split.model * seconds - kept_back) / 60, clock=clock, precision=recipe.precision)
    for state in assembly.training(assembly.stream(images, indices, accelerator=alone), budget, accelerator=alone):
        if state.progress * 12 >= len(curve) + 1:
            curve.append({"seconds": round(state.seconds, 1), **held_out_figures(state.ema, known, held_out)})
    began = clock()
    model = state.ema.eval()
    spread = to_batch(images[indices], device)
    subset, sampler = spread[evenly(len(spread), 2000)], Sampler(model)
    calibrate_likelihood(model, subset)
    stages = fit_stages(sampler, recipe, Data(spread), lambda stage: StageBudget(
        minutes=max(stage.share(recipe, model) * seconds, 1) / 60, clock=clock, precision=recipe.precision))
    fit_seconds = clock() - began
    save_model(out, sampler, Config(recipe, (c, h, w), axes=latent_axes(model, subset), stages=stages))
    return {"recipe": {k: v for k, v in recipe.to_dict().items() if v != getattr(Recipe(), k)},
            "parameters": parameters(recipe, (c, h, w)),
            "trained_parameters": sum(p.numel() for m in (sampler, adversary) if m is not None for p in m.parameters()),
            "training_seconds": round(state.seconds, 1), "fit_seconds": round(fit_seconds, 1), "steps": state.step,
            "images_seen": state.images, "skipped": state.guard.skipped, "rollbacks": state.rollbacks, "curve": curve}


def is_longer(name: str, minutes: float) -> bool:
    """Whether the longer trials choose a model's settings for a budget."""
    return bool(MODELS[name].longer) and (minutes > MINUTES or not MODELS[name].trials)


def trials_of(name: str, minutes: float) -> tuple[dict[str, Any], ...]:
    """The settings that are tried for a budget."""
    entry = MODELS[name]
    if not is_longer(name, minutes):
        return entry.trials
    return (*((chosen(name),) if entry.trials else ()), *entry.longer)


def trial(name: str, number: int, folder: str, work: Path, minutes: float) -> dict:
    """One trial on Fashion-MNIST, judged on held-out training images."""
    source, indices, _ = images_of("fashion", folder)
    changes, scale = trials_of(name, minutes)[number], LONGER if is_longer(name, minutes) else 1
    _, h, w, c = source.images.shape
    recipe = recipe_of(name, changes, "fashion", (c, h, w), 0)
    out = work / "trials" / f"{tuned(name, minutes)}-{number}"
    facts = train(recipe, source.images, indices[:-5000], scale * TUNING_SECONDS, indices[-5000::2], out, scale * TUNING_FIT_SECONDS)
    model = ImageModel(*load_model(out))
    samples = model.sample_pixels(MEASURED, seed=0).clamp(0, 1)
    save_png(grid(model.sample(64, seed=0), 8), out / "samples.png")
    fd = frechet(embedded(samples), embedded(to_batch(source.images[indices[-5000::2]])))
    return {"changes": changes, "fd": round(fd, 2), "seconds": facts["training_seconds"], "steps": facts["steps"],
            "parameters": facts["parameters"], "skipped": facts["skipped"]}


def real_figures(data: str, folder: str) -> dict[str, float]:
    """What training images get, measured as if they were samples: kept in a file of its own."""
    path = RESULTS / "real.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    if data not in held:
        source, indices, test = images_of(data, folder)
        known = to_batch(source.images[indices[evenly(len(indices), MEASURED)]])
        real, pictures = embedded(to_batch(source.images[test])), embedded(known)
        found = prdc(torch.from_numpy(real), torch.from_numpy(pictures))
        held[data] = {"fd": frechet(pictures, real), "kd": kernel_distance(real, pictures).value, "vendi": vendi(real).value,
                      **{k: float(v.float().mean()) for k, v in found._asdict().items()}}
        write_json(path, held)
    return held[data]


METRICS = "fd, kd, prdc, vendi, memorisation, duplicates, sharpness"
OF_VAES = ", elbo, psnr, ssim, active_units, prior_auc"


def result_path(cell: str, minutes: float) -> Path:
    return RESULTS / f"{cell.replace('/', '-')}{budget(minutes)}.json"


def budget(minutes: float) -> str:
    """What a name says of a budget other than the grid's own."""
    return "" if minutes == MINUTES else f"-{minutes:g}min"


def cell(data: str, name: str, seed: int, folder: str, work: Path, minutes: float) -> None:
    """Trains one model, unless it stands in `work` already, and measures it on test images."""
    source, indices, test = images_of(data, folder)
    _, h, w, c = source.images.shape
    recipe = recipe_of(name, chosen(name, minutes), data, (c, h, w), seed)
    out = work / data / f"{name}-{seed}{budget(minutes)}"
    try:
        if not (out / "facts.json").exists():
            facts = train(recipe, source.images, indices, 60 * minutes, test, out)
            (out / "facts.json").write_text(json.dumps(facts))
    except TrainingDiverged as e:
        write_json(result_path(f"{data}/{name}/{seed}", minutes), {"failed": str(e)})
        return
    keep_memory()
    facts = json.loads((out / "facts.json").read_text())
    model = ImageModel(*load_model(out))
    save_png(grid(model.sample(64, seed=0), 8), out / "samples.png")
    began = time.process_time()
    figures = figures_of(model, data, folder, with_balance=seed == 0)
    began_sampling = time.process_time()
    model.sample(1000, seed=0)
    facts["images_per_second"] = round(1000 / (time.process_time() - began_sampling))
    write_json(result_path(f"{data}/{name}/{seed}", minutes), {
        "protocol": PROTOCOL, **facts, "measuring_seconds": round(began_sampling - began, 1), "figures": figures})
    told = {f["name"]: round(f["value"], 3) for f in figures if f["name"] in ("fd", "fd of reconstructions", "coverage", "recall")}
    print(f"{data}/{name}/{seed}{budget(minutes)}", told, facts["steps"], "steps", file=sys.stderr, flush=True)


def figures_of(model: ImageModel, data: str, folder: str, with_balance: bool) -> list[dict[str, Any]]:
    """A trained model on the test images of a set, on the model's device."""
    source, indices, test = images_of(data, folder)
    known = indices[:: len(indices) // MEASURED][:MEASURED]

    def labels(at: np.ndarray) -> torch.Tensor | None:
        return None if source.labels is None or data == "faces" else torch.from_numpy(source.labels[at]).to(model.device)

    evaluation = Evaluation(model.sampler, to_batch(source.images[test], model.device), labels(test),
                            train_images=to_batch(source.images[known], model.device), train_labels=labels(known), n=MEASURED)
    metrics = METRICS + OF_VAES * model.network.has_encoder + ", class_balance" * (labels(test) is not None and with_balance)
    figures = [f.to_dict() for f in measure(evaluation, metrics)]
    for figure in figures:
        figure.pop("detail", None)
    return figures


def embedded(x: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([get_features("efficientnet").embed(chunk) for chunk in x.split(250)]).numpy()


def tuned(name: str, minutes: float) -> str:
    """What a model's trials for a budget are called."""
    return f"{name}-longer" if is_longer(name, minutes) else name


def chosen(name: str, minutes: float = MINUTES) -> dict[str, Any]:
    """The changes of the trial with the least distance."""
    trials = json.loads(TRIALS.read_text()).get(tuned(name, minutes), {})
    if len(trials) < (n := len(trials_of(name, minutes))):
        sys.exit(f"{tuned(name, minutes)} has {len(trials)} of its {n} trials: go on with `tune` first")
    return min(trials.values(), key=lambda t: t["fd"])["changes"]


def cells(minutes: float) -> list[tuple[str, str, int]]:
    return [(data, name, seed) for seed in SEEDS for data in SETS for name in MODELS if minutes >= MODELS[name].least]


def side_by_side(tasks: list[list[str]], jobs: int, script: str = __file__) -> None:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tune", "run", "table", "trial", "cell"))
    parser.add_argument("data")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--work", type=Path, default=Path("runs/vae_vs_gan"))
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    passed = ["--minutes", str(given.minutes), "--work", str(given.work), *(["--again"] if given.again else [])]
    if given.what == "trial":
        name, number = given.only.split("/")
        found = trial(name, int(number), given.data, given.work, given.minutes)
        keep(TRIALS, (tuned(name, given.minutes), number), found)
        print(given.only, found, file=sys.stderr, flush=True)
    elif given.what == "tune":
        done = json.loads(TRIALS.read_text()) if TRIALS.exists() else {}
        tasks = [(n, i) for i in range(8) for n in MODELS if i < len(trials_of(n, given.minutes))]
        side_by_side([["trial", given.data, "--only", f"{n}/{i}", *passed] for n, i in tasks if given.only in f"{n}/{i}" and
                      str(i) not in done.get(tuned(n, given.minutes), {})], given.jobs)
    elif given.what == "cell":
        data, name, seed = given.only.split("/")
        cell(data, name, int(seed), given.data, given.work, given.minutes)
    elif given.what == "run":
        wanted = [c for c in ("/".join(map(str, c)) for c in cells(given.minutes)) if given.only in c]
        missing = [c for c in wanted if given.again or not result_path(c, given.minutes).exists()]
        side_by_side([["cell", given.data, "--only", c, *passed] for c in missing], given.jobs)
    else:
        from vae_vs_gan_table import write

        write(RESULTS, TRIALS, given.work, {data: real_figures(data, given.data) for data in SETS})


def keep(path: Path, keys: tuple[str, str], found: dict) -> None:
    """Adds a result to a JSON file that two processes write."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = json.loads(path.read_text()) if path.exists() else {}
        held.setdefault(keys[0], {})[keys[1]] = found
        path.write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()
