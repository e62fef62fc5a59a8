"""β-VAE against β-TCVAE: how well latents come apart into the factors that pictures were drawn from, over five seeds.

    python benchmarks/disentangle.py                                        the grid; goes on where it stopped
    python benchmarks/disentangle.py --model beta_tcvae --seed 3            one cell of it
    python benchmarks/disentangle.py --trials                               how β was chosen
    python benchmarks/disentangle.py --model ada_gvae --seed 0              beside them: pairs that differ in one factor

    beta_vae     nll + β kl                  (Higgins et al., 2017)
    beta_tcvae   nll + mi + β tc + dwkl      (Chen et al., 2018, arXiv:1802.04942)
    ada_gvae     nll + β kl, posterior adaptive, from pairs     (Locatello et al., 2020, arXiv:2002.02886)

Both have the same network and take the same number of steps: as many as β-TCVAE, the slower, takes in `--budget` seconds of
one core. Of the 13,824 pictures of sprites.py, 12,000 are for training and 1,824 held out. nll, KL and DCI's accuracy are of
held-out pictures, DCI's forests are trained on the codes of 4,000 training pictures, and MIG, SAP and the FactorVAE score
are of the codes of all pictures. Codes are posterior means; `mig_of_draws` is of one draw of each posterior. β is the best
of `--trials` by MIG at a seed outside the grid, so that for each method it was chosen with the factors at hand; for β-TCVAE it
is the largest tried. Intervals: 95 %, Student's t over seeds; differences are paired by seed, which sets the first weights and
the order of the pictures.

ada_gvae is no part of the grid, since it is told more: each training picture has one partner, a training picture in which one
factor, drawn for each, may differ. Its β is β-VAE's, not tried. A batch holds 64 pairs, so each step has as many pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np
import sprites
import torch
from scipy import stats

from reparam.data.pairs import differing
from reparam.data.stream import to_batch
from reparam.files.writing import replacing
from reparam.functional.disentanglement import dci, factor_vae_score, mig, sap
from reparam.metrics import measure
from reparam.metrics.evaluation import Evaluation
from reparam.metrics.latents import ACTIVE, active_share
from reparam.models.sampler import Sampler
from reparam.models.vae import VAE
from reparam.parts.recipe import Recipe
from reparam.pretrained.pictures import grid, pairs, save_png
from reparam.trainer.assembly import Assembly

RESULTS = Path(__file__).parent / "results" / "disentangle.json"
OBJECTIVES = {"beta_vae": "nll + {b:g}*kl", "beta_tcvae": "nll + mi + {b:g}*tc + dwkl"}
GRID = tuple(OBJECTIVES)
PAIRED = "ada_gvae"
OBJECTIVES[PAIRED] = OBJECTIVES["beta_vae"]
BETA = {"beta_vae": 4.0, "beta_tcvae": 8.0, PAIRED: 4.0}
TRIED = (2.0, 4.0, 8.0)
TRIAL_SEED = 100
SEEDS = range(5)
BASE = Recipe(encoder="mlp((256, 256))", decoder="mlp((256, 256))", latent="flat(10)", prior="normal", likelihood="bernoulli",
              batch_size=128, optimizer="adamw(lr=2e-3)", schedule="cosine(warmup=0.05)", ema=0.99, threads=1,
              precision="float32")
FACTORS = sprites.all_factors()
ORDER = np.random.default_rng(0).permutation(len(FACTORS))
TRAIN, FOREST, HELD_OUT = ORDER[:12_000], ORDER[:4_000], ORDER[12_000:]
FIGURES = {"mig": "", "mig_of_draws": "", "D": "", "C": "", "I": "", "sap": "", "factor_vae": "", "nll": "nats", "kl": "nats",
           "active": "latents"}


def recipe_of(model: str, beta: float) -> Recipe:
    return BASE.but(objective=OBJECTIVES[model].format(b=beta), posterior="adaptive" if model == PAIRED else BASE.posterior)


def train(recipe: Recipe, images: np.ndarray, *, seed: int, steps: int) -> tuple[VAE, float, float]:
    """The averaged model, the loss of the last step, and the seconds of one core that it took."""
    assembly = Assembly(recipe.but(seed=seed, steps=steps), (1, sprites.SIZE, sprites.SIZE))
    columns = dict(zip(sprites.NAMES, FACTORS.T, strict=True))
    partners = differing(columns, TRAIN, 1, seed) if assembly.model.latent.in_pairs else None
    began, stream = time.process_time(), assembly.stream(images, TRAIN, partners=partners)
    for state in assembly.training(stream, assembly.budget(stream)):
        pass
    return state.ema.eval(), state.loss, time.process_time() - began


def scores(model: VAE, images: np.ndarray) -> dict:
    """Everything measured of a model."""
    figures = {f.name: f.value for f in measure(Evaluation(Sampler(model), to_batch(images[HELD_OUT])), "elbo, active_units")}
    codes = Evaluation(Sampler(model), to_batch(images)).codes
    mean, draw = codes.mean.double().numpy(), codes.draw.double().numpy()
    gap = mig(mean, FACTORS)
    told = dci(mean[FOREST], FACTORS[FOREST], mean[HELD_OUT], FACTORS[HELD_OUT])
    row = {"mig": gap.value, "mig_of_draws": mig(draw, FACTORS).value, "D": told.disentanglement, "C": told.completeness,
           "I": told.informativeness, "sap": sap(mean, FACTORS, categorical=(0,)).value,
           "factor_vae": factor_vae_score(mean, FACTORS, active=active_share(codes).numpy() > ACTIVE).value,
           "nll": figures["nll"], "kl": figures["kl"], "active": figures["active_units"]}
    return {**{k: round(v, 4) for k, v in row.items()},
            "mig of each factor": dict(zip(sprites.NAMES, np.round(gap.each, 3).tolist(), strict=True)),
            "accuracy of each factor": dict(zip(sprites.NAMES, np.round(told.accuracy, 3).tolist(), strict=True)),
            "nats in each latent": np.round(codes.information.double().numpy(), 2).tolist()}


@torch.inference_mode()
def draw_pictures(model: VAE, images: np.ndarray, folder: Path, name: str) -> None:
    """Held-out pictures above their reconstructions; and a row for each latent, most informative first, from −2 to 2."""
    x = to_batch(images[HELD_OUT[:: len(HELD_OUT) // 24][:24]])
    code = model.encode(x)
    rebuilt = model.decode(code[None]).mean[0]
    save_png(grid(as_images(pairs(x.permute(0, 2, 3, 1).numpy(), rebuilt.permute(0, 2, 3, 1).numpy(), 12)), 12),
             folder / f"{name}-reconstructions.png")
    codes = Evaluation(Sampler(model), to_batch(images)).codes
    middle = FACTORS.tolist().index([2, 2, 2, 6, 6])
    centre = codes.mean[middle].clone()
    rows = []
    for j in codes.information.argsort(descending=True):
        for value in torch.linspace(-2, 2, 9):
            rows.append(centre.clone())
            rows[-1][j] = value
    moved = model.decode(torch.stack(rows)[None]).mean[0]
    save_png(grid(as_images(moved.permute(0, 2, 3, 1).numpy()), 9), folder / f"{name}-traversals.png")


def as_images(x: np.ndarray) -> np.ndarray:
    return (np.clip(x, 0, 1) * 255).round().astype(np.uint8)


def load() -> dict:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(results: dict) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with replacing(RESULTS) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")


def steps_for(budget: float, images: np.ndarray) -> int:
    """Steps of β-TCVAE in `budget` seconds of one core; measured once a budget, then read."""
    steps = load().get("steps", {})
    if f"{budget:g}" not in steps:
        recipe = recipe_of("beta_tcvae", 4)
        train(recipe, images, seed=0, steps=20)
        steps[f"{budget:g}"] = round(budget / train(recipe, images, seed=0, steps=200)[2] * 200, -2)
        save({**load(), "steps": {k: int(v) for k, v in steps.items()}})
    return int(steps[f"{budget:g}"])


def cell(part: str, model: str, beta: float, seed: int, budget: float, images: np.ndarray, pictures: Path | None) -> None:
    """Runs one training and stores its row, unless it is there."""
    steps = steps_for(budget, images)
    name = f"{model}, beta {beta:g}, seed {seed}, {budget:g} s"
    if name in load().get(part, {}):
        return
    recipe = recipe_of(model, beta)
    trained, loss, seconds = train(recipe, images, seed=seed, steps=steps)
    row = {"model": model, "beta": beta, "seed": seed, "budget": budget, "objective": recipe.objective, "steps": steps,
           "seconds of one core": round(seconds, 1), "last loss": round(loss, 2), **scores(trained, images)}
    results = load()
    results.setdefault(part, {})[name] = row
    save(results)
    print(name, {k: row[k] for k in FIGURES}, flush=True)
    if pictures is not None:
        draw_pictures(trained, images, pictures, f"{model}-{seed}")


def interval(values: list[float]) -> dict:
    """Mean and 95 % interval of Student's t."""
    v = np.array(values)
    half = stats.t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / len(v) ** 0.5
    return {"mean": round(v.mean(), 4), "interval": [round(v.mean() - half, 4), round(v.mean() + half, 4)], "n": len(v)}


def table(budget: float) -> dict:
    """Each figure over the seeds that both models have, and the paired differences."""
    rows = {(r["model"], r["seed"]): r for r in load().get("runs", {}).values()
            if r["budget"] == budget and r["beta"] == BETA[r["model"]]}
    seeds = [s for s in SEEDS if all((m, s) in rows for m in GRID)]
    if len(seeds) < 2:
        return {}
    each = {m: {k: [rows[m, s][k] for s in seeds] for k in FIGURES} for m in GRID}
    return {k: {**{m: interval(each[m][k]) for m in GRID}, "unit": unit, "beta_tcvae - beta_vae": interval(
        [b - a for a, b in zip(each["beta_vae"][k], each["beta_tcvae"][k], strict=True)])} for k, unit in FIGURES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=OBJECTIVES)
    parser.add_argument("--seed", type=int, choices=SEEDS)
    parser.add_argument("--budget", type=float, default=45, help="seconds of one core for each run")
    parser.add_argument("--trials", action="store_true", help=f"try β of {TRIED} at seed {TRIAL_SEED} instead")
    parser.add_argument("--pictures", default="runs/disentangle", help="where reconstructions and traversals are left")
    given = parser.parse_args()
    torch.set_num_threads(1)
    images = sprites.draw(FACTORS)
    models = [given.model] if given.model else list(GRID)
    if given.trials:
        for beta, model in product(TRIED, models):
            cell("trials", model, beta, TRIAL_SEED, given.budget, images, None)
        return
    for seed, model in product(SEEDS if given.seed is None else [given.seed], models):
        cell("runs", model, BETA[model], seed, given.budget, images, Path(given.pictures))
    save({**load(), "beta": BETA, "recipe": {k: v for k, v in BASE.to_dict().items() if v is not None and k != "objective"},
          "figures": {**load().get("figures", {}), f"{given.budget:g} s": table(given.budget)}})
    for name, row in table(given.budget).items():
        print(f"{name:13}", *(f"{k} {row[k]['mean']:8.3f} {row[k]['interval']}" for k in (*GRID, "beta_tcvae - beta_vae")))


if __name__ == "__main__":
    main()
