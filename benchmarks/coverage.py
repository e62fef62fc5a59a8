"""How often 95 % intervals hold what they are of: every figure that has one, of data whose truth is known, at several sizes.

    python benchmarks/coverage.py [LAW …]         simulates what benchmarks/results/coverage.json lacks, or the laws named anew
    python benchmarks/coverage.py --table         the table of docs/evaluation.md, from that file

A law is where data come from and which figures are measured of it, by the product's own metrics. The truth of a figure is a
closed form, or its value for so many images that chance is gone; of figures whose definition depends on the number of images
it is their mean over as many, which is what their intervals are of. Results are written after each size, and a
run goes on where one stopped. Some twenty minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy import integrate
from torch import Tensor

from reparam.features import get_features
from reparam.functional.two_sample import DRAWS, PRIOR, told_apart
from reparam.metrics import latent_geometry
from reparam.metrics.class_balance import imbalance
from reparam.metrics.evaluation import Embedded, Evaluation, FactorTable
from reparam.metrics.figures import Figure, mean_figure
from reparam.models.build import build_model
from reparam.models.codes import Codes
from reparam.models.sampler import Sampler
from reparam.models.vae import VAE
from reparam.parts.recipe import Recipe
from reparam.parts.registry import metric

RESULTS = Path(__file__).parent / "results" / "coverage.json"
TIMES = 400
MEAN = "mean over as many images"
"""What the interval of a figure is of whose definition depends on their number."""
Rng = np.random.Generator


@dataclass(frozen=True)
class Law:
    """Where data come from, and what is measured of them."""

    about: str
    measure: Callable[[int, Rng], list[Figure]]
    """Figures of a fresh draw of n images."""
    sizes: tuple[int, ...]
    truths: Mapping[str, tuple[str, Callable[[int], float]]] = field(default_factory=dict)
    """Of some figures, how the truth is known, and the truth for n images; of the others it is `MEAN`."""
    slow: int = TIMES
    """How many draws of 1,000 images and more, where these take long."""


def normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.normal(size=shape))


def run(name: str, evaluation: Any, *args: Any) -> list[Figure]:
    return metric.parts[name](evaluation, *args)


# Sets of features

D = 8
NETWORK = SimpleNamespace(name="given", resize="none", standard=False)


def sets(n: int, rng: Rng, shift: float, scale: float, known: Tensor | None = None) -> Any:
    """Features of real images, N(0, I), and of samples, N(shift, scale² I), in the place of an evaluation."""
    rows = {"real": normal(rng, n, D), "samples": normal(rng, n, D) * scale + shift,
            "training": normal(rng, n, D) if known is None else known, "smoothed": normal(rng, n, D)}
    return SimpleNamespace(embedded=rows.__getitem__, features_of=lambda kind: Embedded(rows[kind]), count=n, real=rows["real"],
                           network=NETWORK, seed=int(rng.integers(2**31)),
                           model=SimpleNamespace(has_encoder=False))


def of_sets(shift: float, scale: float, names: tuple[str, ...]) -> Callable[[int, Rng], list[Figure]]:
    """The model's training images stay; those of `memorisation`, which asks nothing of a single set of them, do not."""
    def measure(n: int, rng: Rng) -> list[Figure]:
        known = normal(np.random.default_rng([5, n]), n, D)
        evaluation = sets(n, rng, shift, scale, known)
        fresh = [f for f in run("memorisation", sets(n, rng, shift, scale)) if f.name == "memorisation"]
        held = [f for name in names for f in run(name, evaluation) if f.name != "memorisation"]
        return held + fresh
    return measure


def frechet_of(shift: float, scale: float) -> float:
    return D * (shift**2 + (1 - scale) ** 2)


def kernel_of(shift: float, scale: float) -> float:
    """The squared MMD under (x·y / D + 1)³ of N(0, I) and N(shift, scale² I), by the moments of x·y."""
    def mean(a: float, s: float, b: float, t: float) -> float:
        ab, aa, bb = D * a * b, D * a * a, D * b * b
        square = ab**2 + s * bb + t * (aa + D * s)  # E (x·y)², with x·y given x of mean x·b and variance t |x|²
        cube = ab**3 + 3 * ab * s * bb + 3 * t * (ab * (aa + D * s) + 2 * s * ab)
        return 1 + 3 * ab / D + 3 * square / D**2 + cube / D**3
    r = scale**2
    return mean(0, 1, 0, 1) + mean(shift, r, shift, r) - 2 * mean(0, 1, shift, r)


def covered(n: int, k: int = 5) -> float:
    """Coverage of equal laws: that of n samples one is among the k nearest of the n − 1 other images and them."""
    return 1 - math.prod((n - 1 - i) / (2 * n - 1 - i) for i in range(k))


SETS = ("fd", "fd_inf", "kd", "prdc", "vendi", "memorisation", "duplicates")
LARGE = (60, 200, 1000)


# Images, and a model of them

@cache
def model(kind: str = "flat(4)", side: int = 8) -> VAE:
    """Trained for a moment, so that its codes know something of the images."""
    torch.manual_seed(0)
    small = {"encoder": "mlp((64,))", "decoder": "mlp((64,))"} if kind.startswith("flat") else {
        "encoder": "conv(8)", "decoder": "conv(8)"}
    made = build_model(Recipe().but(latent=kind, likelihood="gaussian(sigma=0.2)", **small), (1, side, side))
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    rng = np.random.default_rng(0)
    for _ in range(300):
        trace = made(images(100, rng))
        loss = -trace.log_px.mean() + sum((layer.q.log_prob(layer.z) - layer.p.log_prob(layer.z)).mean()
                                          for layer in trace.layers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made.eval()


def images(n: int, rng: Rng, side: int = 8) -> Tensor:
    """Blobs of light at any place, some faint and some bright, with a little noise."""
    at = torch.arange(side) + 0.5
    x, y = (torch.from_numpy(rng.uniform(1, side - 1, (n, 1, 1))) for _ in range(2))
    light = torch.from_numpy(rng.beta(1, 2, (n, 1, 1)))
    blob = light * torch.exp(-((at - x) ** 2 + (at[:, None] - y) ** 2) / 4)
    return (blob + 0.03 * normal(rng, n, side, side)).clamp(0, 1).float()[:, None]


IMAGES = ("elbo", "iw_nll", "psnr", "ssim", "perceptual", "mutual_information", "modellable")


def evaluation_of(n: int, rng: Rng, kind: str = "flat(4)") -> Evaluation:
    return Evaluation(Sampler(model(kind)), images(n, rng), seed=int(rng.integers(2**31)), features=get_features("wavelets"))  # pyright: ignore


def of_images(n: int, rng: Rng) -> list[Figure]:
    evaluation = evaluation_of(n, rng)
    return [f for name in IMAGES for f in run(name, evaluation, *([8] if name == "iw_nll" else []))]


def of_turns(n: int, rng: Rng) -> list[Figure]:
    return [f for f in run("modellable", evaluation_of(n, rng, "spatial(2, 2)")) if f.name == "equivariance error"]


@cache
def of_many(measure: Callable[[int, Rng], list[Figure]], n: int = 2000, times: int = 20) -> dict[str, float]:
    """Means over many draws of many images, of figures that do not depend on their number."""
    draws = [{f.name: f.value for f in measure(n, np.random.default_rng([77, i]))} for i in range(times)]
    return {name: float(np.mean([d[name] for d in draws])) for name in draws[0]}


def limit(measure: Callable[[int, Rng], list[Figure]], *names: str) -> dict[str, tuple[str, Callable[[int], float]]]:
    return {name: ("of 40,000 images", lambda _, name=name: of_many(measure)[name]) for name in names}


def of_detail(n: int, rng: Rng) -> list[Figure]:
    """White noise, whose strength differs from image to image: real images' mean power is twice the samples'."""
    real, samples = (normal(rng, n, 1, 8, 8) * torch.from_numpy(rng.gamma(2, power / 2, (n, 1, 1, 1))).sqrt()
                     for power in (0.02, 0.01))
    return run("sharpness", SimpleNamespace(real=real, samples=samples))


# Codes

def laplace_negentropy() -> float:
    """Of the Laplace law, by quadrature of E exp(−u²/2), in the approximation that the figure makes."""
    b = 0.5**0.5
    bell = 2 * integrate.quad(lambda u: math.exp(-u * u / 2 - u / b) / (2 * b), 0, math.inf)[0]
    return latent_geometry.EVEN * (bell - 0.5**0.5) ** 2


SPREAD = np.array([0.95, 0.9, 0.8, 0.5, 0.2, 0.1])


def of_codes(n: int, rng: Rng) -> list[Figure]:
    """Gaussian codes of correlations 0.6 between neighbours; noise in known shares; Laplace's law."""
    mixing = np.linalg.cholesky(CORRELATION)
    codes = torch.from_numpy(rng.normal(size=(n, 6)) @ mixing.T)
    signal, noise = normal(rng, n, 6) * torch.from_numpy(1 - SPREAD).sqrt(), torch.from_numpy(SPREAD).sqrt()
    draws = torch.stack([signal + noise * normal(rng, n, 6) for _ in range(2)])
    return [latent_geometry._dimensions(codes), latent_geometry._noise(draws),
            latent_geometry._shape(torch.from_numpy(rng.laplace(size=(n, 6))))]


CORRELATION = 0.6 ** np.abs(np.subtract.outer(np.arange(6), np.arange(6)))


def of_gaussian_codes(n: int, rng: Rng) -> list[Figure]:
    return [latent_geometry._dimensions(normal(rng, n, 6)), latent_geometry._shape(normal(rng, n, 6))]


def of_prior(n: int, rng: Rng, moved: float = 0.0) -> list[Figure]:
    from reparam.functional.intervals import of_share

    codes = moved + rng.normal(size=(n, 1, 4)) * 0.8 + 0.6 * rng.normal(size=(n, DRAWS, 4))
    found = told_apart(codes, rng.normal(size=(PRIOR, 4)), seed=int(rng.integers(2**31)))
    return [Figure("prior_auc", found.value, "", n, of_share(*found))]


# Classes and factors

def of_classes(moved: float, classes: int) -> Callable[[int, Rng], list[Figure]]:
    p = np.full(classes, 1 / classes)
    q = p + moved * np.repeat([1, -1], classes // 2) / (classes // 2)

    def measure(n: int, rng: Rng) -> list[Figure]:
        found = imbalance(rng.multinomial(n, p), rng.multinomial(n, q), draws=400, seed=int(rng.integers(2**31)))
        return [Figure("class_balance", found.value, "", n, found.interval)]
    return measure


def of_shares(n: int, rng: Rng) -> list[Figure]:
    return [mean_figure("accuracy", rng.random(n) < 0.9, "")]


def of_factors(n: int, rng: Rng) -> list[Figure]:
    """Three factors of 4, 5 and 3 values, each in a latent of its own with more or less noise, and in part in a fourth."""
    v = np.stack([rng.integers(0, levels, n) for levels in (4, 5, 3)], 1)
    u = (v - v.mean(0)) / v.std(0)
    z = np.column_stack([u + rng.normal(size=(n, 3)) * (0.3, 0.6, 1.0), u[:, 0] + u[:, 1] + rng.normal(size=n),
                         rng.normal(size=n)])
    t = torch.from_numpy(z)
    table = FactorTable(("a", "b", "c"), torch.from_numpy(v), (False, False, True))
    return run("factors", SimpleNamespace(factors=table, codes=Codes(t, t, torch.zeros(5))))


def exactly(value: float) -> tuple[str, Callable[[int], float]]:
    return "closed form", lambda _: value


OF_IMAGES = limit(of_images, "-elbo", "-elbo bits/dim", "nll", "kl", "iw_nll(8)", "iw_nll(8) bits/dim", "psnr",
                  "psnr of posterior means", "psnr of the average image", "ssim", "perceptual", "effective dimensions",
                  "noise share", "non-Gaussianity")

LAWS = {
    "equal sets": Law("features of samples and images from N(0, I) in 8 dimensions", of_sets(0.0, 1.0, SETS), LARGE, {
        "fd_inf": exactly(0.0), "kd": exactly(0.0), "density": exactly(1.0), "coverage": ("closed form", covered),
        "memorisation": exactly(0.5), "copying AUC": exactly(0.5)}, slow=100),
    "unlike sets": Law("the samples' features from N(0.3, 0.8² I)", of_sets(0.3, 0.8, SETS), LARGE, {
        "fd_inf": exactly(frechet_of(0.3, 0.8)), "kd": exactly(kernel_of(0.3, 0.8))}, slow=100),
    "images": Law("blobs of light, and a small model of them", of_images, LARGE, OF_IMAGES),
    "turned codes": Law("the same, a model with maps", of_turns, LARGE, limit(of_turns, "equivariance error")),
    "detail": Law("noise of strengths that differ from image to image, real images' power twice the samples'", of_detail,
                  LARGE, {"sharpness": exactly(10 * math.log10(0.5))}),
    "codes": Law("correlated Gaussian codes, known noise, Laplace's law", of_codes, LARGE, {
        "effective dimensions": exactly(36 / float((CORRELATION**2).sum())), "noise share": exactly(float(SPREAD.mean())),
        "non-Gaussianity": exactly(laplace_negentropy())}),
    "white codes": Law("codes from N(0, I)", of_gaussian_codes, LARGE, {
        "effective dimensions": exactly(6.0), "non-Gaussianity": exactly(0.0)}),
    "codes of the prior": Law("codes that follow the prior", of_prior, LARGE, slow=100),
    "codes off the prior": Law("codes moved by 0.4", lambda n, rng: of_prior(n, rng, 0.4), LARGE, slow=100),
    "equal classes": Law("ten classes, equally many", of_classes(0.0, 10), LARGE, {"class_balance": exactly(0.0)}),
    "unlike classes": Law("a tenth of the samples in other classes", of_classes(0.1, 10), LARGE,
                          {"class_balance": exactly(0.1)}),
    "shares": Law("nine in ten are right", of_shares, LARGE, {"accuracy": exactly(0.9)}),
    "factors": Law("factors with a latent each and a mixed one", of_factors, (200, 1000, 4000),
                   limit(of_factors, "sap"), slow=100),
}


def simulate(law: Law, n: int, times: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Of each figure: the truth, and how often intervals hold it."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for i in range(times):
        for f in law.measure(n, np.random.default_rng([seed, n, i])):
            if f.interval is not None:
                rows.setdefault(f.name, []).append((f.value, *f.interval))
    found: dict[str, dict[str, Any]] = {}
    for name, each in rows.items():
        value, low, high = np.array(each).T
        how, truth = law.truths.get(name, (MEAN, lambda _, value=value: float(value.mean())))
        t = truth(n)
        found[name] = {"truth": t, "by": how, "mean": float(value.mean()), "spread": float(value.std()),
                       "width": float((high - low).mean()), "below": float((high < t).mean()),
                       "above": float((low > t).mean()), "inside": int(((low <= t) & (t <= high)).sum()), "times": len(each)}
    return found


def table(results: Mapping[str, Any]) -> str:
    """Figures down and sizes across, in percent, those out of 90 to 98 in bold."""
    lines: list[str] = []
    for law in LAWS:
        sizes = [n for n in LAWS[law].sizes if f"{law}, {n}" in results]
        if not sizes:
            continue
        cells = [results[f"{law}, {n}"]["figures"] for n in sizes]
        lines += ["", f"*{law}*: {LAWS[law].about}", "", f"| figure | truth | {' | '.join(f'{n:,} images' for n in sizes)} |",
                  "|---" * (2 + len(sizes)) + "|"]
        for name in dict.fromkeys(name for cell in cells for name in cell):
            how = next(cell[name]["by"] for cell in cells if name in cell)
            lines.append(f"| `{name}` | {how} | {' | '.join(_percent(cell.get(name)) for cell in cells)} |")
    return "\n".join(lines[1:])


def _percent(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "no interval"
    share = found["inside"] / found["times"]
    text = f"{share:.1%} of {found['times']}".replace("%", " %")
    return text if 0.9 <= share <= 0.98 else f"**{text}**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("laws", nargs="*", metavar="LAW", help=f"simulated anew: {', '.join(LAWS)}")
    parser.add_argument("--table", action="store_true", help="print the table from what is recorded")
    asked = parser.parse_args()
    if unknown := set(asked.laws) - set(LAWS):
        parser.error(f"there is no law {', '.join(sorted(unknown))}; there are {', '.join(LAWS)}")
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if asked.table:
        print(table(results))
        return
    torch.set_num_threads(1)
    cells = sorted(((n, name) for name in asked.laws or LAWS for n in LAWS[name].sizes), key=lambda cell: cell[0])
    for n, name in cells:
        law = LAWS[name]
        if asked.laws or f"{name}, {n}" not in results:
            began = time.process_time()
            figures = simulate(law, n, TIMES if n < 1000 else law.slow)
            results[f"{name}, {n}"] = {"figures": figures, "cpu_seconds": round(time.process_time() - began),
                                       "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
                                       "torch": torch.__version__}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{name}, {n}: " + ", ".join(f"{k} {_percent(v)}" for k, v in figures.items()), flush=True)


if __name__ == "__main__":
    main()
