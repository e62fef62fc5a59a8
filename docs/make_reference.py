"""Writes docs/parts.md from the registry, and docs/benchmarks.md from benchmarks/results: `make docs`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from reparam.parts.presets import DATA, PRESETS, Preset, measured
from reparam.parts.recipe import Recipe, field_help
from reparam.parts.registry import ROLES

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
sys.path.insert(0, str(DOCS.parent / "benchmarks"))


def parts() -> str:
    lines = ["# Parts", "", "Written by `make docs` from the code. `reparam parts` prints the same.", ""]
    for role in ROLES.values():
        lines += [f"## {role.name}", ""]
        for name in role.parts:
            lines += [f"**`{role.signature(name)}`** {' '.join(role.describe(name).split())}", ""]
    lines += ["## Recipe", "", "| field | default | |", "|---|---|---|"]
    lines += [f"| `{k}` | `{Recipe().to_dict()[k]}` | {v} |" for k, v in field_help().items()]
    return "\n".join(lines)


def presets() -> str:
    lines = ["# Presets", "", "Written by `make docs` from `src/reparam/parts/presets.py`; `reparam presets` prints the same.", "",
             "Every preset is a recipe, and every field of it can be changed: `reparam train DATA --preset iwae --objective "
             "\"iw_bound(20)\"`. Fields that are not named are those of the default recipe (see `parts.md`).", ""]
    found = measured()
    if found:
        lines += ["## What to expect", "",
                  f"`python benchmarks/presets.py MNIST.npz FASHION.npz`: {min(r['seconds'] for r in found.values()):.0f} s of training on one core, "
                  "beside other work, with nothing tuned, "
                  "measured on 1,000 evenly spaced test images; ink and classes on MNIST (binarised once with seed 1234), the "
                  "others on Fashion-MNIST. Nats per image; those of a Gaussian likelihood are of a density over pixels in "
                  "[0, 1], and negative ones are not better than ink's. One seed: differences of less than half a nat, or "
                  "0.3 dB, mean nothing. The ones that are slow for each step, such as `ladder`, gain most from more time, and samples "
                  "of quantised models need minutes.", "",
                  *table(["preset", "data", "images seen", "parameters", "−ELBO", "iw_nll(50)", "PSNR of means, dB", "active latents",
                          "more"], [_measured_row(name, found[name]) for name in PRESETS if name in found])]
    lines += ["## Compositions", ""]
    for name, preset in PRESETS.items():
        lines += [f"### {name}", "", f"{preset.about} For {DATA[preset.data]}. ({preset.reference})", "", *_composition(preset), ""]
    return "\n".join(lines)


def _measured_row(name: str, r: dict[str, Any]) -> list[Any]:
    f = dict(r["figures"])
    known = [f.pop(k, None) for k in ("-elbo", "iw_nll(50)", "psnr of posterior means", "active_units")]
    shown = ["–" if v is None else f"{v:.{d}f}" for v, d in zip(known, (1, 1, 1, 0), strict=True)]
    more = ", ".join(f"{k} {v:.3g}" for k, v in f.items())
    return [f"`{name}`", r["data"], f"{r['images']:,}", f"{r['parameters']:,}", *shown, more]


def _composition(preset: Preset) -> list[str]:
    if not preset.changes:
        return ["The default recipe as it stands."]
    return ["```python", "Recipe(" + ",\n       ".join(f"{k}={v!r}" for k, v in preset.changes.items()) + ")", "```"]


def benchmarks() -> str:
    lines = ["# Benchmarks", "", "Written by `make docs` from `benchmarks/results`. Two CPU cores (AMD EPYC with AVX-512 and "
             "bfloat16), no GPU unless one is named; other programs on the host make timings vary by some 20 %. "
             "Measured under protocol 2, in which PSNR and FD of reconstructions decode the mean of the posterior; protocol 3 decodes a draw.", ""]
    for section in (likelihood, disentangled, hybrids, fitted_priors, large, peers, defaults, kills, images_in, priors, listing):
        lines += section()
    return "\n".join(lines)


def read(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(head: list[str], rows: list[list[Any]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(str(v) for v in row) + " |" for row in rows), ""]


def figure(metrics: list[dict[str, Any]], name: str) -> str:
    m = next(m for m in metrics if m["name"] == name)
    spread = f" [{m['interval'][0]:.2f}, {m['interval'][1]:.2f}]" if "interval" in m else ""
    return f"{m['value']:.2f}{spread}"


def likelihood() -> list[str]:
    found = read("mnist_likelihood")
    if not found:
        return []
    rows = [[r["preset"], ", ".join(f"{k}={v}" for k, v in r["changes"].items() if k not in ("threads", "precision")) or "–",
             f"{r['minutes']:g} min, {r['threads']} thread{'s' * (r['threads'] > 1)}, {r['precision']}", r["seed"], f"{r['parameters']:,}",
             f"{r['outcome']['images_seen']:,}", figure(r["metrics"], "-elbo"), figure(r["metrics"], "iw_nll(100)"), r["note"] or "–"]
            for r in found.values()]
    return ["## MNIST likelihood", "",
            "`python benchmarks/mnist_likelihood.py mnist.npz --preset P --minutes M`: dynamic binarisation in training, 54,000 images "
            "to train on, all 10,000 test images binarised once with seed 1234, nats per image with 95 % intervals over images. Learning rate, latents, couplings and batch are those of an earlier "
            "prototype, which had chosen them on the test images: the figures are biased by this selection.", "",
            *table(["preset", "changed", "budget", "seed", "parameters", "images seen", "−ELBO", "iw_nll(100)", "note"], rows),
            "Published, for scale, nats: lower is better. Static MNIST is one fixed binarisation for training and test, dynamic a new draw "
            "at every step as here; the two do not compare to the decimal. Importance samples as given; trained for hours or days. "
            "Marked * are the figures of reproductions in the named repository.", "",
            *table(["model", "static", "dynamic", "importance samples", "source"], [
                ["VAE, dense *", "89.8", "", "200", "Pythae's README"],
                ["IWAE, 50 samples in training *", "86.8", "", "", "Pythae's README"],
                ["VampPrior, one layer *", "85.8", "", "", "Pythae's README"],
                ["MIWAE / PIWAE / CIWAE *", "", "85.1 / 84.6 / 84.7", "", "Pythae's README"],
                ["HVAE + VampPrior, dense / convolutional", "83.2 / 81.1", "81.2 / 79.8", "", "Tomczak & Welling, 2018, arXiv:1705.07120"],
                ["convolutional ladder, 3 / 12 layers *", "79.2 / 78.3", "", "1,000", "README of addtt/ladder-vae-pytorch"],
                ["BIVA", "78.6", "78.4", "", "Maaløe et al., 2019, arXiv:1902.02102"],
                ["NVAE", "", "78.0", "", "Vahdat & Kautz, 2020, arXiv:2007.03898"]])]


def disentangled() -> list[str]:
    found = read("disentangle")
    if not found or "figures" not in found:
        return []
    budget, figures = next(iter(found["figures"].items()))
    names = {"mig": "MIG, posterior means", "mig_of_draws": "MIG, posterior draws", "D": "DCI: disentanglement", "C": "DCI: completeness",
             "I": "DCI: informativeness", "sap": "SAP", "factor_vae": "FactorVAE score", "nll": "nll, nats", "kl": "KL, nats",
             "active": "active latents of 10"}
    columns = ("beta_vae", "beta_tcvae", "beta_tcvae - beta_vae")
    rows = [[names[k], *(f"{v[c]['mean']:.3g} [{v[c]['interval'][0]:.3g}, {v[c]['interval'][1]:.3g}]" for c in columns)]
            for k, v in figures.items()]
    trials = ", ".join(f"{name.split(', ' + str(t['seed']))[0].split(', seed')[0]}: {t['mig']:.2f}" for name, t in found["trials"].items())
    return ["## β-VAE and β-TCVAE", "", "`python benchmarks/disentangle.py`: 13,824 pictures of 32×32 with five known factors, drawn on the "
            f"spot (`benchmarks/sprites.py`; smaller than dSprites and with fewer values, so not to be compared with its figures). {budget} of one "
            "core for the slower of the two, the same steps for both, five seeds; mean and 95 % interval (Student's t) over "
            "seeds, differences paired. β = 4 for β-VAE and 8 for β-TCVAE, each the best by MIG at a seed of its own, with the "
            f"factors at hand; 8 is the largest tried. MIG of the trials: {trials}. Both models encode position and size, and neither encodes "
            f"shape and orientation, so MIG cannot pass 0.6 here.{_no_difference(names, figures)}", "",
            *table(["", "β-VAE", "β-TCVAE", "difference"], rows)]


def _no_difference(names: dict[str, str], figures: dict[str, Any]) -> str:
    """Which differences may be none."""
    spans = {k: v["beta_tcvae - beta_vae"]["interval"] for k, v in figures.items()}
    return f" The interval of the difference includes 0 for: {', '.join(names[k] for k, (low, high) in spans.items() if low <= 0 <= high)}."


def peers() -> list[str]:
    from cells import between
    from peers import measured
    from peers_parts.tables import section

    lines = section(measured())
    return [between("peers", "\n".join(lines)), ""] if lines else []


def defaults() -> list[str]:
    found = read("defaults")
    if not found:
        return []
    rows = []
    for name, r in found.items():
        f = r["figures"]
        auc = f.get("fitted_prior_auc", f["prior_auc"])["value"]
        rows.append([name, r["verdict"], r["outcome"]["steps"], f"{f['psnr']['value']:.1f}",
                     f"{f['active_units']['value']:.0f} {f['active_units']['unit']}", f"{f['kl']['value']:.1f}", f"{auc:.2f}",
                     "; ".join(x["title"] for x in r["remarks"]) or "–"])
    return ["## No flag but the data", "", "`python benchmarks/defaults.py FOLDER`: `reparam train DATA`, five minutes each.", "",
            *table(["data", "verdict", "steps", "PSNR, dB", "active", "KL, nats", "AUC codes / sampling prior", "remarks"], rows)]


def kills() -> list[str]:
    found = read("kill_and_resume")
    if not found:
        return []
    return ["## Killed at random moments", "", "`python benchmarks/kill_and_resume.py`: SIGKILL once in a run's life, then "
            f"resumed. {found['equal']} of {found['trials']} ended with the weights of an undisturbed run, bit for bit.", ""]


def images_in() -> list[str]:
    found = read("data")
    if not found:
        return []
    cells = {"cache": lambda r: [f"into the cache, from 64×64 PNG files, {r['images']:,}",
                                 f"{r['images per core and second']:,.0f} images a second and core; Pillow alone {r['Pillow alone']:,.0f}"],
             "map": lambda r: ["from the cache to the model, batches of 256, one core", "; ".join(
                 f"{shape.replace('x', '×')} {rate:,.0f}" for shape, rate in r["images per core and second"].items()) + " images a second"],
             "shards": lambda r: [f"from shards by the clock, one process that decodes, {r['rounds']} rounds in turns with it alone",
                                  f"{r['share by the clock']:.2f} of the decoder's own speed ({min(r['shares']):.2f} to "
                                  f"{max(r['shares']):.2f}), {r['per second by the clock']:,.0f} images a second"],
             "million": lambda r: [f"{r['images']:,} images in shards, trained on for a pass, killed half-way and resumed",
                                   f"{r['beyond the model, MB']:.0f} MB beyond the model; steps that differ: "
                                   f"{r['steps around the kill that differ from an undisturbed pass']}"],
             "samples": lambda r: [f"{r['samples']:,} samples through the metrics of sets, {r['features']} random features",
                                   f"{max(r['peak beyond the real images so far, MB'].values()):.0f} MB beyond the real images, "
                                   f"{r['processor seconds']:.0f} s of a processor"]}
    return ["## Images on their way to training", "", "`python benchmarks/data.py cache|map|shards|million|samples`, by the seconds of "
            "the processors where nothing else is said; load is how many programs wanted a processor meanwhile.", "",
            *table(["what", "figure", "machine, load"], [[*cells[name](r), f"{r['machine']}, {r['cores']} cores, {r['load']:.0f}"]
                                                         for name, r in found.items() if name in cells])]


def priors() -> list[str]:
    found = read("priors")
    if not found:
        return []
    rows = [[r["data"], r["prior"], r["sampled from"], r["iw_nll"], r["psnr"], r["auc"], r["fd"]] for r in found["rows"]]
    return ["## Which prior", "", f"`python benchmarks/priors.py`: {found['about']}", "",
            *table(["data", "prior", "sampled from", "iw_nll(50), nats", "PSNR, dB", "AUC", "distance of samples"], rows)]


def hybrids() -> list[str]:
    from hybrids import HEAD, rows

    found = rows()
    if not found:
        return []
    return ["## Hybrids with default settings, unsupervised", "", "`python benchmarks/hybrids.py run DATA`: 60 s of processor time on one core; "
            "*without*: the critic is trained as in the others, but its term has a weight of 1e-9. Mean [least, greatest] over seeds; within 1 dB and "
            "nearer: against the mean of those without. FD by EfficientNet-Lite0 of 2,500 reconstructions of test images (the last 2,500 of faces64).", "", *table(HEAD, found)]


def fitted_priors() -> list[str]:
    from fitted_priors import HEAD, rows

    found = rows()
    if not found:
        return []
    return ["## Priors fitted to one model's codes", "", "`python benchmarks/fitted_priors.py run DATA`: the preset `default`, seed 0; "
            "flow and flow matching get 30 s of processor time. One core, one seed.", "", *table(HEAD, found)]


def large() -> list[str]:
    from large import HEAD, SPEED_HEAD, rows, speed_rows

    found, speeds = rows(), speed_rows()
    if not found:
        return []
    return ["## On a GPU", "", "`python benchmarks/large.py run DATA`: presets as they stand, of unequal size, one seed, the fitted prior within the minutes, "
            "which are wall time and held to within 4 %. *One of 6 on it*: so many trainings shared the GPU, and had less of it than "
            "one by itself: `generate32` took in its share of the time as many images as it takes in 22 s alone, `ladder_m` in 77. Parameters are those of all "
            "networks, the encoder included, a critic not. FD and its like by EfficientNet-Lite0 of 2,500 samples and test images; bits per dimension "
            "are of discrete pixels for `ladder_m`, of a density for the others. What minutes on one core reach is in "
            "[vae-versus-gan.md](vae-versus-gan.md), pictures are in [gallery.md](gallery.md).", "", *table(HEAD, found),
            "One training by itself, `python benchmarks/large.py speed DATA`, with the adversarial loss active; memory is what the process had reserved at most, which "
            "may hold some of the presets measured before it:", "", *table(SPEED_HEAD, speeds)]


def listing() -> list[str]:
    found = read("the_listing")
    if not found:
        return []
    rows = [[r["what"], r["mse"], r["sample_distance"]] for r in found["rows"]]
    return ["## The VAE that articles print", "", f"`python examples/01_the_listing.py MNIST.npz`: {found['about']}", "",
            *table(["model", "reconstruction MSE, test", "distance of samples"], rows)]


def main() -> None:
    (DOCS / "parts.md").write_text(parts() + "\n", encoding="utf-8")
    (DOCS / "presets.md").write_text(presets() + "\n", encoding="utf-8")
    (DOCS / "benchmarks.md").write_text(benchmarks() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
