"""docs/vae-versus-gan.md and its pictures, from what benchmarks/vae_vs_gan.py has measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

DOCS = Path(__file__).parent.parent / "docs"
NAMES = {"mnist": "MNIST", "fashion": "Fashion-MNIST", "faces": "faces64", "cifar": "CIFAR-10 (recompressed)"}
GANS = ("dcgan", "sngan", "wgan_gp", "r3gan")
CRITICS = ("vae_gan",)
"""VAEs that learn from a critic too."""
VAES = ("vae", "vae_resampled", "vae_terse", "vae_flow", *CRITICS)
LONG = ("vae_flow",)
"""Not run in the grid of four minutes."""
KINDS = {"VAE": tuple(n for n in VAES if n not in CRITICS), "VAE with a critic": CRITICS, "GAN": GANS}
COLUMNS = (("fd", "FD", 0, False), ("kd", "KD", 3, False), ("precision", "precision", 2, True), ("recall", "recall", 2, True),
           ("density", "density", 2, True), ("coverage", "coverage", 2, True), ("vendi", "Vendi", 1, None), ("sharpness", "sharpness, dB", 1, None), ("copying AUC", "copying AUC", 2, None))
"""Figure, heading, digits, and whether more is better; None where neither more nor less is."""
OF_VAES = (("fd of reconstructions", "FD of reconstructions", 0), ("fd of prior samples", "FD, own prior", 0),
           ("fd of fitted-prior samples", "FD, fitted prior", 0), ("psnr", "PSNR of means, dB", 1), ("ssim", "SSIM", 3), ("-elbo", "−ELBO, nats", 0))
ALIKE, FEW = 3.0, 0.05
FAILED = (f"A seed failed when training ended in an error; when all its samples amount to no more than {ALIKE:.0f} different images (Vendi), *collapsed*; "
          f"or when hardly a test image has a sample near it (coverage of {FEW} or less), *far*, which poor samples cause as well as missing ones; "
          "this last is not asked where no model at all has more")

Cells = dict[tuple[str, str], list[dict]]


def read_all(results: Path) -> dict[float, Cells]:
    """What has been measured, by minutes, then data and model, in the order of seeds."""
    found: dict[float, Cells] = {4: {}}
    for path in sorted(results.glob("*-*-*.json")):
        data, name, seed, *minutes = path.stem.split("-")
        cells = found.setdefault(float(minutes[0].removesuffix("min")) if minutes else 4, {})
        cells.setdefault((data, name), []).append({"seed": int(seed), **json.loads(path.read_text())})
    return dict(sorted(found.items()))


def values(cells: list[dict], figure: str) -> list[float]:
    return [f["value"] for c in cells if "failed" not in c for f in c["figures"] if f["name"] == figure]


def mean(cells: Cells, data: str, name: str, figure: str) -> float:
    known = values(cells.get((data, name), []), figure)
    return float(np.mean(known)) if known else float("nan")


def spread(cells: list[dict], figure: str, digits: int) -> str:
    """The mean, and of several seeds the least and greatest."""
    known = values(cells, figure)
    if not known:
        return "–"
    text = f"{np.mean(known):.{digits}f}"
    return text if len(known) == 1 else f"{text} [{min(known):.{digits}f}, {max(known):.{digits}f}]"


def covered(cells: Cells, data: str) -> bool:
    """Whether any model has coverage, so that to have none says something of a model."""
    return any(c > FEW for name in (*VAES, *GANS) for c in values(cells.get((data, name), []), "coverage"))


def failure(cell: dict, asked: bool) -> str | None:
    """Why one seed failed, if it did; `asked` says whether coverage counts."""
    if "failed" in cell or not values([cell], "fd"):
        return "stopped"
    if values([cell], "vendi")[0] <= ALIKE:
        return "collapsed"
    return "far" if asked and values([cell], "coverage")[0] <= FEW else None


def failures(cells: Cells, data: str) -> dict[str, list[str]]:
    """Why seeds of each model failed."""
    here, asked = {name: cells[data, name] for name in (*VAES, *GANS) if (data, name) in cells}, covered(cells, data)
    return {name: [why for cell in found if (why := failure(cell, asked))] for name, found in here.items()}


def told(reasons: list[str], of: int) -> str:
    return ", ".join(f"{reasons.count(r)} of {of} {r}" for r in dict.fromkeys(reasons)) or "0"


def whole(cells: Cells, data: str, names: tuple[str, ...]) -> list[str]:
    """The models that have been measured and of which most seeds did not fail, least mean FD first."""
    gone = failures(cells, data)
    return sorted((n for n in names if values(cells.get((data, n), []), "fd") and 2 * len(gone[n]) < len(cells[data, n])),
                  key=lambda n: mean(cells, data, n, "fd"))


def nearest(cells: Cells, data: str, names: tuple[str, ...]) -> str | None:
    """The model with the least mean FD, failed or not."""
    known = [n for n in names if values(cells.get((data, n), []), "fd")]
    return min(known, key=lambda n: mean(cells, data, n, "fd"), default=None)


def apart(a: list[dict], b: list[dict], figure: str) -> bool:
    """Whether the ranges over seeds do not meet. One seed has no range, and nothing is said of it."""
    x, y = values(a, figure), values(b, figure)
    return min(len(x), len(y)) > 1 and (max(x) < min(y) or max(y) < min(x))


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows), ""]


def section(data: str, cells: Cells, real: dict[str, float]) -> list[str]:
    here = {name: cells[data, name] for name in (*VAES, *GANS) if (data, name) in cells}
    if not here:
        return [f"## {NAMES[data]}", "", "Not measured yet.", ""]
    gone, rows = failures(cells, data), []
    if real:
        rows.append(["*training images*", *["–"] * 5, *(f"{real[k]:.{d}f}" if k in real else "–" for k, _, d, _ in COLUMNS)])
    for name, found in here.items():
        kept = [c for c in found if "failed" not in c]
        seconds = [c["training_seconds"] + c["fit_seconds"] for c in kept]
        rows.append([f"`{name}`{slower(kept)}", str(len(found)), told(gone[name], len(found)), f"{kept[0]['parameters']:,}" if kept else "–",
                     f"{np.mean([c['images_seen'] for c in kept]):,.0f}" if kept else "–",
                     f"{np.mean(seconds):.0f}" if kept else "–", *(spread(found, key, digits) for key, _, digits, _ in COLUMNS)])
    lines = [f"## {NAMES[data]}", "", *table(["model", "seeds", "failed", "parameters", "images seen", "processor s",
                                             *(c[1] for c in COLUMNS)], rows)]
    if any("†" in row[0] for row in rows):
        lines += ["† on a slower machine: see the end.", ""]
    own = [[f"`{name}`", *(spread(here[name], key, digits) for key, _, digits in OF_VAES)] for name in VAES if name in here]
    if own:
        lines += ["What only models with an encoder have:", "", *table(["model", *(c[1] for c in OF_VAES)], own)]
    if any(mean(cells, data, n, "sharpness") < -3 and mean(cells, data, n, "precision") > 0.9 for n in here):
        lines += ["Blurred samples lie near the middle of the features, which raises precision, density, coverage and the copying AUC without "
                  "being better, or copied (see [evaluation.md](evaluation.md)): read these beside recall and sharpness.", ""]
    lines += [ranking(cells, data), "", f"![samples on {NAMES[data]}](vae-versus-gan-{data}.png)", ""]
    return lines


def ranking(cells: Cells, data: str) -> str:
    """Who is first in what, among the models that did not fail and have several seeds; nothing is called a lead where ranges meet."""
    if not covered(cells, data):
        return f"No model has a coverage above {FEW}: all of them fail here, and an order among failures says nothing."
    names = [n for n in whole(cells, data, (*VAES, *GANS)) if len(values(cells[data, n], "fd")) > 1]
    if len(names) < 2:
        return f"Only `{names[0]}` did not fail." if names else "Every model failed."
    said: list[str] = []
    for key, label, digits, high in COLUMNS:
        if high is None:
            continue
        first, second = sorted(names, key=lambda n: mean(cells, data, n, key), reverse=high)[:2]
        a, b = f"{mean(cells, data, first, key):.{digits}f}", f"{mean(cells, data, second, key):.{digits}f}"
        how = "then" if apart(cells[data, first], cells[data, second], key) and a != b else "level with"
        said.append(f"{label}: `{first}` ({a}), {how} `{second}` ({b})")
    return f"First among those with several seeds that did not fail. {'. '.join(said)}."


def answer(cells: Cells) -> list[str]:
    """The question on each data set, in figures."""
    rows = []
    for data, label in NAMES.items():
        standing, least = whole(cells, data, GANS), nearest(cells, data, GANS)
        if least is None or not values(cells.get((data, "vae"), []), "fd"):
            continue
        shown = f"{spread(cells[data, least], 'fd', 0)} (`{least}`{'' if least in standing else ', failed'})"
        rows.append([label, f"{mean(cells, data, 'vae', 'fd of prior samples'):.0f}", spread(cells[data, "vae"], "fd", 0),
                     *(spread(cells.get((data, n), []), "fd", 0) for n in ("vae_resampled", "vae_terse", "vae_gan")), shown,
                     "; ".join(f"`{n}` {told(r, len(cells[data, n]))}" for n, r in failures(cells, data).items() if r) or "none"])
    return table(["data", "VAE, N(0, I)", "VAE, fitted prior", "resampled VAE", "terse VAE", "VAE-GAN, fitted prior", "best GAN", "failed"], rows)


def reading(cells: Cells, real: dict[str, dict[str, float]]) -> list[str]:
    """The same in words, made from the figures."""
    lines = []
    for data, label in NAMES.items():
        vae, least = cells.get((data, "vae"), []), nearest(cells, data, GANS)
        if least is None or not values(vae, "fd"):
            continue
        if not covered(cells, data):
            lines.append(f"- **{label}**: no model has a coverage above {FEW}, so that all of them fail, and no order is claimed; reconstructions are at "
                         f"{mean(cells, data, 'vae', 'fd of reconstructions'):.0f}, training images at {real[data]['fd']:.0f}.")
            continue
        standing = whole(cells, data, GANS)
        plain, fitted, floor = (mean(cells, data, "vae", k) for k in ("fd of prior samples", "fd", "fd of reconstructions"))
        other = mean(cells, data, least, "fd")
        if not apart(vae, cells[data, least], "fd"):
            said = [f"`{least}` and the VAE with its fitted prior are level, FD {other:.0f} and {fitted:.0f}: their ranges meet"]
        elif fitted < other:
            said = [f"the VAE with its fitted prior is ahead of every GAN that was measured, FD {fitted:.0f} against {other:.0f} of `{least}`"]
        else:
            said = [f"`{least}` is ahead, FD {other:.0f} against {fitted:.0f} of the VAE with its fitted prior"]
        if least not in standing:
            others = [n for n in GANS if n != least and (data, n) in cells]
            said.append(f"that GAN failed in most seeds, as did {len(set(others) - set(standing))} of the other {len(others)}")
        if plain > other:
            closed = 100 * (plain - fitted) / (plain - other)
            said.append(f"N(0, I) is at {plain:.0f}, and the fitted prior " + (
                f"closes {closed:.0f} % of the gap to `{least}`" if closed <= 100 else f"closes the gap to `{least}` and goes beyond it"))
        else:
            said.append(f"N(0, I) alone is at {plain:.0f}")
        ground = f", training images at {real[data]['fd']:.0f}" if data in real else ""
        said.append(f"reconstructions are at {floor:.0f}{ground}: most of the distance is there "
                    + ("before the prior comes in" if 2 * floor > fitted else "only when codes are drawn"))
        for name, words in (("vae_resampled", "the resampled VAE"), ("vae_terse", "the terse VAE")):
            later = cells.get((data, name), [])
            if values(later, "fd"):
                chosen, alone = (mean(cells, data, name, k) for k in ("fd", "fd of fitted-prior samples"))
                against = "one seed" if len(later) < 2 else f"level with `{least}`" if not apart(later, cells[data, least], "fd") \
                    else f"ahead of `{least}`" if chosen < other else f"behind `{least}`"
                said.append(f"{words} is at {chosen:.0f}, {against}, and at {alone:.0f} when every draw of its prior is taken")
        if values(cells.get((data, "vae_gan"), []), "fd"):
            fd, elbo = mean(cells, data, "vae_gan", "fd"), mean(cells, data, "vae_gan", "-elbo") - mean(cells, data, "vae", "-elbo")
            level = "level with" if not apart(cells[data, "vae_gan"], vae, "fd") else "nearer than" if fd < fitted else "farther than"
            said.append(f"the hybrid is {level} the VAE, {fd:.0f}, and its −ELBO is {abs(elbo):.0f} nats {'worse' if elbo > 0 else 'better'}")
        lines.append(f"- **{label}**: {'; '.join(said)}.")
    return [*lines, ""]


def budgets(found: dict[float, Cells]) -> list[str]:
    """The best of each kind at every budget, and how often the VAE is ahead."""
    rows, words = [], []
    for minutes, cells in found.items():
        ahead: dict[str, list[str]] = {"FD, without a critic": [], "FD, with or without": [], "coverage": [], "recall": []}
        asked = []
        for data, label in NAMES.items():
            chosen = {kind: nearest(cells, data, names) for kind, names in KINDS.items()}
            if not any(chosen.values()):
                continue
            gone = failures(cells, data)
            rows.append([label, f"{minutes:g}", *(
                f"`{n}` {mean(cells, data, n, 'fd'):.0f}; {mean(cells, data, n, 'coverage'):.2f}, {mean(cells, data, n, 'recall'):.2f}"
                f"{'; failed' * (2 * len(gone[n]) >= len(cells[data, n]))}" if n else "–" for n in chosen.values())])
            gan, ours = chosen["GAN"], [n for kind in ("VAE", "VAE with a critic") if (n := chosen[kind]) is not None]
            if gan is None or not ours:
                continue
            best = min(ours, key=lambda n: mean(cells, data, n, "fd"))
            if not covered(cells, data) or min(len(cells[data, best]), len(cells[data, gan])) < 2:
                continue
            asked.append(label)
            for key, mine, figure in (("FD, without a critic", chosen["VAE"], "fd"), ("FD, with or without", best, "fd"),
                                      ("coverage", best, "coverage"), ("recall", best, "recall")):
                if mine is None or not apart(cells[data, mine], cells[data, gan], figure):
                    continue
                if (mean(cells, data, mine, figure) < mean(cells, data, gan, figure)) == (figure == "fd"):
                    ahead[key].append(label)
        if asked:
            words.append(f"- {minutes:g} minutes, several seeds, ranges apart, the VAE with the least FD against the GAN with the least FD, failed or not: " + "; ".join(
                f"{k}, ahead on {len(where)} of {len(asked)}" + (f" ({', '.join(where)})" if where else "") for k, where in ahead.items()) + ".")
    return ["## At every budget", "", "The least FD of each kind; coverage, recall. Means over the seeds that were run: three after 4 minutes, one after 10 and 30, "
            "of which no lead is claimed. Sets on which no model has coverage are not counted.", "",
            *table(["data", "minutes", *KINDS], rows), *words, "", "Every model that was run for longer, one seed each:", "", *longer(found)]


def longer(found: dict[float, Cells]) -> list[str]:
    """A row for each model, set and budget beyond the grid's."""
    rows = []
    for minutes, cells in found.items():
        for data, name in cells if minutes > 4 else ():
            for cell in cells[data, name]:
                told = [f"{values([cell], key)[0]:.{digits}f}" if values([cell], key) else "–" for key, digits in (
                    ("fd", 0), ("fd of reconstructions", 0), ("coverage", 2), ("recall", 2), ("psnr", 1))]
                rows.append([NAMES[data], f"{minutes:g}", f"`{name}`{slower([cell])}", failure(cell, covered(cells, data)) or "", f"{cell['parameters']:,}",
                             f"{cell['steps']:,}", *told, f"{cell['images_per_second']:,}"])
    head = ["data", "minutes", "model", "failed", "parameters", "steps of the model", "FD", "FD of reconstructions", "coverage", "recall",
            "PSNR, dB", "samples/s"]
    return [*table(head, rows), ""] if rows else []


def slower(cells: list[dict]) -> str:
    """The mark of what was run on a slower machine."""
    return "†" * any(c.get("recipe", {}).get("precision") == "float32" for c in cells)


def on_slower(found: dict[float, Cells]) -> list[str]:
    """What was run on a slower machine, in words."""
    slow = [f"`{name}` on {NAMES[data]} after {minutes:g} minutes" for minutes, cells in found.items() for data, name in cells if slower(cells[data, name])]
    if not slow:
        return []
    return ["## Two machines", "", f"† {', '.join(slow)}: run on a processor that does not compute in bfloat16, which takes fewer steps in the same time. "
            "All else was run on one that does, so that the one stands beside the other in the tables above.", ""]


def trials(path: Path) -> list[str]:
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    rows = []
    for name in sorted(found):
        best = min(found[name].values(), key=lambda t: t["fd"])
        for i, t in sorted(found[name].items()):
            rows.append([f"`{name}`", i, ", ".join(f"{k} `{v}`" for k, v in t["changes"].items()) or "as the preset",
                         f"{t['fd']:.0f}", str(t["steps"]), "chosen" if t is best else ""])
    return ["## Trials", "", "Each model has eight of 75 s of processor time (with a mixture to be fitted 60 s, and the fit, which may pass 75 s), on "
            "Fashion-MNIST without its last 5,000 training images, judged by the FD to 2,500 of those, one seed. In their place `vae_terse` has three and "
            "`vae_flow` two of 188 s (rows `-longer`; those of `vae_flow` had half a core each). For budgets beyond four minutes `dcgan` and "
            "`vae_resampled`, the best of each kind in trials of 75 s, have three such longer ones.", "",
            *table(["model", "trial", "changes to the preset", "FD", "steps", ""], rows)]


def curves(cells: Cells) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axis, data in zip(figure.subplots(1, 4), NAMES, strict=True):
        for i, name in enumerate((*VAES, *GANS)):
            if not (first := next((c for c in cells.get((data, name), []) if "failed" not in c), None)):
                continue
            points = [(p["seconds"], p["fd (wavelets)"]) for p in first["curve"]]
            axis.plot(*zip(*points, strict=True), label=name, color=f"C{i}", ls="-" if name in VAES else "--", lw=1.5)
        axis.set(title=NAMES[data], xlabel="processor seconds", yscale="log")
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("FD (wavelets), own prior")
    next(axis for axis in figure.axes if axis.lines).legend(frameon=False, fontsize=7)
    figure.savefig(DOCS / "vae-versus-gan-curves.png", dpi=100)


def pictures(cells: Cells, work: Path) -> None:
    """A strip of the first samples of each measured model's first seed, none of them selected."""
    for data in NAMES:
        rows = []
        for name in (*VAES, *GANS):
            path = work / data / f"{name}-0" / "samples.png"
            if (data, name) in cells and path.exists():
                picture = Image.open(path).convert("RGB")
                rows.append((name, picture.crop((0, 0, picture.width, 2 + 2 * (picture.height - 2) // 8))))
        if not rows:
            continue
        label = 92
        paper = Image.new("RGB", (label + max(r.width for _, r in rows), sum(r.height + 6 for _, r in rows)), "white")
        top = 0
        for name, row in rows:
            ImageDraw.Draw(paper).text((4, top + row.height // 2 - 6), name, fill="black")
            paper.paste(row, (label, top))
            top += row.height + 6
        paper.quantize(128).save(DOCS / f"vae-versus-gan-{data}.png", optimize=True)


HEAD = """# VAE versus GAN

How far is a VAE from a GAN when both have the same few minutes, and how much of the gap is closed by a prior fitted to its codes, by
choosing among its draws, by drawing the detail that its decoder averages away, or by a critic (a hybrid, `vae_gan`)? Written by `python benchmarks/vae_vs_gan.py table DATA` from `benchmarks/results/vae_vs_gan`.

FD is the Fréchet distance and KD the kernel distance between features of samples and of test images ([evaluation.md](evaluation.md));
neither is FID or KID. Figures are of protocol 2: PSNR, SSIM and FD of reconstructions decode the mean of the posterior. faces64 is 10,000 cartoon faces drawn with DiceBear's "adventurer"; it has no test set of its own, and the last
2,500 are kept out of training. CIFAR-10 (recompressed) is a copy in JPEG, whose figures do not compare with published ones.

**Same for all.** The data; four minutes of processor time on one core, two runs side by side, of which a VAE keeps 45 s back for
fitting its mixture; the parameters of everything that sampling needs (decoder, prior, fitted prior, resampler, refiner) within 10 %; six
to ten minutes of trials each, on a held-out part of Fashion-MNIST's training images; batches of 64, averaged weights. What only training needs (encoder,
critic) is not counted.

**Models.** `vae`: the preset `default` (not the preset `vae`, which is for black-and-white images), a VAE whose likelihood finds its own noise level, with
a mixture of 50 Gaussians fitted to its codes. `vae_resampled`: such a VAE with a classifier that, trained after the mixture, keeps one of
its draws in five ([priors.md](priors.md)); it is not trained adversarially, and it counts among the parameters. Its own trials chose a greater
learning rate (6e-3 for 4e-3), which suits CIFAR and faces64 worse: the effect of the classifier is the difference between FD and that of the fitted
prior. `vae_terse`: the preset `terse`, a VAE with three times the weight on the KL, so that codes hold less information and are easier to draw, flow
matching for the mixture, a resampler, and a refiner that draws the pixels of an image in sixteen groups given the decoder's image, by maximum
likelihood; none of these is trained adversarially. `vae_flow`: the preset `latent_flow`, whose code is a map of half as many rows and columns as the image,
and flow matching over it by a U-Net for three quarters of the time; it wants long budgets, is run for those alone, and so far on CIFAR alone. `vae_gan`: such a VAE with a critic of reconstructions and samples for the last two fifths, tuned by itself: smaller patches, 64
latents for 96, and about a third of the images in the same time, so that what sets it apart from `vae` is not the critic alone. `dcgan`,
`sngan`, `wgan_gp`, `r3gan`: the presets of these names, with 64 latents.

**What this cannot say.** One network of features; minutes, where GANs are given hours. Every model was tuned on Fashion-MNIST alone,
for one minute to three, and its settings were carried to the other sets: a GAN that collapses on faces64 says that these settings do not carry over,
not that GANs cannot draw faces. On faces64 no model reaches a coverage of 0.05, so that the figures there order failures. Beyond four minutes there is
one seed of each. `duplicates` is no column here: as it was measured then, it called blurred images that are all different repeats ([evaluation.md](evaluation.md)).
`dcgan`, `sngan` and `r3gan` chose the greatest learning rates that were tried for both players, so
better ones may exist. The VAE's preset had been worked on before its eight trials, and those of `vae_resampled` begin where they ended; the
resampler itself was first tried on models of seed 0 with held-out training images, on CIFAR with training images, and `vae_terse` was
designed on held-out training images of MNIST and Fashion-MNIST (`latent_flow` after other maps of codes had been tried on
held-out training images of CIFAR, and `generate32`, on a GPU, had been seen to do well on its test images), after a full code with a refiner had been seen to fall behind on test images at
ten minutes. A GAN's samples could be chosen by its critic as well, which was not tried. Test images chose the best of the VAEs as well as of the GANs, and the refiner of `vae_terse` was redesigned after test figures of its first form had been seen (58 on MNIST after four minutes, 487 on Fashion-MNIST after ten).
"""


def write(results: Path, trial_file: Path, work: Path, real: dict[str, dict[str, float]]) -> None:
    found = read_all(results)
    cells, lines = found[4], [HEAD]
    if cells:
        if work.exists():
            pictures(cells, work)
        curves(cells)
        sample = next(f for v in cells.values() for c in v for f in c.get("figures", []) if f["name"] == "fd")
        lines += ["## The answer in figures", "", "FD of samples, lower is better; means and ranges over the seeds that were run.", "",
                  *answer(cells), *reading(cells, real),
                  f"{sum(len(v) for v in cells.values())} of {3 * len(NAMES) * (len((*VAES, *GANS)) - len(LONG))} cells are measured. FD and its like: features "
                  f"`{sample['features']}`, images resized {sample['resize']}, {sample['n']:,} samples against as many test images. Numbers in "
                  "brackets are the least and greatest over seeds. *Level* and *apart*: whether these ranges meet, which with one seed is not asked; "
                  "with three seeds each, ranges of equals are apart in one comparison of ten. *Training images* are measured as "
                  "if they were samples: what a perfect model would get.", "",
                  FAILED + "".join(f", as on {NAMES[d]}" for d in NAMES if not covered(cells, d)) + ".", "",
                  "![quality against time](vae-versus-gan-curves.png)", "",
                  "FD by wavelet features, of 500 samples from the model's own prior, so without a VAE's fitted one, and 500 test images; seed 0. "
                  "The two kinds of features do not agree on how far N(0, I) is from a GAN.", ""]
        for data in NAMES:
            lines += section(data, cells, real.get(data, {}))
        lines += [*budgets(found), *on_slower(found)]
    else:
        lines += ["The grid has not been run yet; what stands are the trials that choose each model's settings.", ""]
    lines += trials(trial_file)
    (DOCS / "vae-versus-gan.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
