"""docs/vae-versus-gan.md and its pictures, from what benchmarks/vae_vs_gan.py has measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"
NAMES = {"mnist": "MNIST", "fashion": "Fashion-MNIST", "faces": "faces64", "cifar": "CIFAR-10 (recompressed)"}
GANS = ("dcgan", "sngan", "wgan_gp", "r3gan")
VAES = ("vae", "vae_gan")
CRITICS = ("vae_gan",)
"""Those of them that learn from a critic too."""
COLUMNS = (("fd", "FD", 0, False), ("kd", "KD", 3, False), ("precision", "precision", 2, True), ("recall", "recall", 2, True),
           ("density", "density", 2, True), ("coverage", "coverage", 2, True), ("duplicates", "duplicates", 3, False),
           ("sharpness", "sharpness, dB", 1, None), ("copying AUC", "copying AUC", 2, None))
OF_VAES = (("fd of reconstructions", "FD of reconstructions", 0), ("fd of prior samples", "FD, own prior", 0),
           ("fd", "FD, fitted prior", 0), ("psnr", "PSNR, dB", 1), ("ssim", "SSIM", 3), ("-elbo", "−ELBO, nats", 0),
           ("-elbo bits/dim", "bits/dim", 2))
COLLAPSED = ("duplicates of 0.2 or more, or coverage of 0.05 or less; coverage is not asked where no model of the set goes beyond "
             "that, as on faces64, where it says that all are far from the images, and not which have collapsed")


def read(results: Path) -> dict[tuple[str, str], list[dict]]:
    """Cells of the grid by data and model, in the order of their seeds."""
    found: dict[tuple[str, str], list[dict]] = {}
    for path in sorted(results.glob("*-[0-9].json")):
        data, name, seed = path.stem.split("-")
        found.setdefault((data, name), []).append({"seed": int(seed), **json.loads(path.read_text())})
    return found


def values(cells: list[dict], figure: str) -> list[float]:
    return [f["value"] for c in cells if "failed" not in c for f in c["figures"] if f["name"] == figure]


def spread(numbers: list[float], digits: int) -> str:
    """Mean, and the least and greatest of several seeds."""
    if not numbers:
        return "–"
    text = f"{np.mean(numbers):.{digits}f}"
    return text if len(numbers) == 1 else f"{text} [{min(numbers):.{digits}f}, {max(numbers):.{digits}f}]"


def losses(cells: dict[tuple[str, str], list[dict]], data: str) -> dict[str, int]:
    """Seeds of each model that ended in an error or collapsed."""
    here = {name: cells[data, name] for name in (*VAES, *GANS) if (data, name) in cells}
    covered = any(c > 0.05 for found in here.values() for c in values(found, "coverage"))
    return {name: sum("failed" in c or not values([c], "fd") or values([c], "duplicates")[0] >= 0.2
                      or (covered and values([c], "coverage")[0] <= 0.05) for c in found) for name, found in here.items()}


def told_losses(cells: dict[tuple[str, str], list[dict]], data: str) -> str:
    return ", ".join(f"`{name}` {n} of {len(cells[data, name])}" for name, n in losses(cells, data).items() if n)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows), ""]


def section(data: str, cells: dict[tuple[str, str], list[dict]]) -> list[str]:
    gone = losses(cells, data)
    here = {name: cells[data, name] for name in (*VAES, *GANS) if (data, name) in cells}
    if not here:
        return [f"## {NAMES[data]}", "", "Not measured yet.", ""]
    rows = []
    for name, found in here.items():
        whole = [c for c in found if "failed" not in c]
        rows.append([f"`{name}`", str(len(found)), str(gone[name]), f"{whole[0]['parameters']:,}" if whole else "–",
                     f"{np.mean([c['images_seen'] for c in whole]):,.0f}" if whole else "–",
                     *(spread(values(found, key), digits) for key, _, digits, _ in COLUMNS)])
    lines = [f"## {NAMES[data]}", "", *table(["model", "seeds", "lost", "parameters", "images seen", *(c[1] for c in COLUMNS)], rows)]
    own = [[f"`{name}`", *(spread(values(here[name], key), digits) for key, _, digits in OF_VAES)] for name in VAES if name in here]
    if own:
        lines += ["What only models with an encoder have:", "", *table(["model", *(c[1] for c in OF_VAES)], own)]
    lines += [words(data, here), "", f"![samples on {NAMES[data]}](vae-versus-gan-{data}.png)", ""]
    return lines


def words(data: str, here: dict[str, list[dict]]) -> str:
    """Who wins what, from the figures; nothing is called a win where ranges over seeds meet."""
    said: list[str] = []
    for key, label, digits, high in COLUMNS:
        if high is None:
            continue
        known = {name: values(found, key) for name, found in here.items() if values(found, key)}
        if len(known) < 2:
            continue
        order = sorted(known, key=lambda n: np.mean(known[n]), reverse=high)
        first, second = known[order[0]], known[order[1]]
        apart = (min(first) > max(second)) if high else (max(first) < min(second))
        seeds = min(len(first), len(second))
        said.append(f"{label}: `{order[0]}` ({np.mean(first):.{digits}f})" + (
            f", then `{order[1]}` ({np.mean(second):.{digits}f})" if apart or seeds == 1 else
            f", level with `{order[1]}` ({np.mean(second):.{digits}f})") + (" (one seed)" if seeds == 1 else ""))
    return "Best first. " + ". ".join(said) + "."


def answer(cells: dict[tuple[str, str], list[dict]]) -> list[str]:
    """The article's question on each data set, in figures."""
    rows = []
    for data, label in NAMES.items():
        gans = {n: np.mean(values(cells[data, n], "fd")) for n in GANS if (data, n) in cells and values(cells[data, n], "fd")}
        if not gans or (data, "vae") not in cells:
            continue
        best = min(gans, key=gans.__getitem__)
        plain = np.mean(values(cells[data, "vae"], "fd of prior samples"))
        fitted = np.mean(values(cells[data, "vae"], "fd"))
        hybrid = np.mean(values(cells[data, "vae_gan"], "fd")) if (data, "vae_gan") in cells else np.nan
        rows.append([label, f"{plain:.0f}", f"{fitted:.0f}", f"{hybrid:.0f}", f"{gans[best]:.0f} (`{best}`)",
                     told_losses(cells, data) or "none"])
    return table(["data", "VAE, N(0, I)", "VAE, fitted prior", "VAE-GAN, fitted prior", "best GAN", "seeds lost"], rows)


def reading(cells: dict[tuple[str, str], list[dict]]) -> list[str]:
    """The same in words, made from the figures."""
    lines = []
    for data, label in NAMES.items():
        gans = {n: float(np.mean(values(cells[data, n], "fd"))) for n in GANS if values(cells.get((data, n), []), "fd")}
        vae = cells.get((data, "vae"), [])
        if not gans or not values(vae, "fd"):
            continue
        best = min(gans, key=gans.__getitem__)
        plain, fitted, floor = (float(np.mean(values(vae, k))) for k in ("fd of prior samples", "fd", "fd of reconstructions"))
        ahead = (f"the VAE with its fitted prior is ahead of every GAN, FD {fitted:.0f} against {gans[best]:.0f} of `{best}`"
                 if fitted <= gans[best] else f"`{best}` is ahead, FD {gans[best]:.0f} against {fitted:.0f} of the VAE with its fitted prior")
        if plain <= gans[best]:
            gap = f"N(0, I) alone, at {plain:.0f}, is ahead already"
        elif fitted <= gans[best]:
            gap = f"the fitted prior closes the gap that N(0, I) leaves, {plain:.0f}, and goes beyond it"
        else:
            gap = f"of the gap that N(0, I) leaves, {plain:.0f}, the fitted prior closes {100 * (plain - fitted) / (plain - gans[best]):.0f} %"
        said = [ahead, gap, f"reconstructions are at {floor:.0f}, so the decoder costs that much and the prior {fitted - floor:.0f} more"]
        hybrid = cells.get((data, "vae_gan"), [])
        if values(hybrid, "fd"):
            fd, elbo = float(np.mean(values(hybrid, "fd"))), float(np.mean(values(hybrid, "-elbo")) - np.mean(values(vae, "-elbo")))
            said.append(f"the hybrid is {'nearer' if fd < fitted else 'farther'} than the VAE, {fd:.0f}, and its −ELBO is "
                        f"{abs(elbo):.0f} nats {'worse' if elbo > 0 else 'better'}")
        gone = told_losses(cells, data)
        said.append(f"seeds lost: {gone}" if gone else "no seed was lost")
        lines.append(f"- **{label}**: {'; '.join(said)}.")
    return [*lines, ""]


def read_all(results: Path) -> dict[int, dict[tuple[str, str], list[dict]]]:
    """The grid, and what was measured with other budgets, by minutes."""
    found = {4: read(results)}
    for path in sorted(results.glob("*-*min.json")):
        data, name, seed, minutes = path.stem.split("-")
        cells = found.setdefault(int(minutes.removesuffix("min")), {})
        cells.setdefault((data, name), []).append({"seed": int(seed), **json.loads(path.read_text())})
    return dict(sorted(found.items()))


KINDS = {"VAE": tuple(n for n in VAES if n not in CRITICS), "VAE with a critic": CRITICS, "GAN": GANS}


def best(cells: dict[tuple[str, str], list[dict]], data: str, names: tuple[str, ...]) -> str | None:
    """The model with the least mean FD."""
    known = [n for n in names if values(cells.get((data, n), []), "fd")]
    return min(known, key=lambda n: np.mean(values(cells[data, n], "fd")), default=None)


def budgets(found: dict[int, dict[tuple[str, str], list[dict]]]) -> list[str]:
    """The best of each kind at every budget, and how often the VAE is ahead."""
    rows, words = [], []
    for minutes, cells in found.items():
        ahead: dict[str, list[str]] = {"FD without a critic": [], "FD": [], "coverage": [], "recall": []}
        asked = []
        for data, label in NAMES.items():
            chosen = {kind: best(cells, data, names) for kind, names in KINDS.items()}
            if not any(chosen.values()):
                continue
            figures = {kind: {k: float(np.mean(values(cells[data, n], k))) for k in ("fd", "coverage", "recall")}
                       for kind, n in chosen.items() if n is not None}
            rows.append([label, f"{minutes}", *(
                f"`{chosen[k]}` {figures[k]['fd']:.0f}; {figures[k]['coverage']:.2f}, {figures[k]['recall']:.2f}" if k in figures else "–"
                for k in KINDS)])
            gan = figures.pop("GAN", None)
            if gan is None or not figures:
                continue
            asked.append(label)
            winner = min(figures.values(), key=lambda f: f["fd"])
            if "VAE" in figures and figures["VAE"]["fd"] <= gan["fd"]:
                ahead["FD without a critic"].append(label)
            if winner["fd"] <= gan["fd"]:
                ahead["FD"].append(label)
            for k in ("coverage", "recall"):
                if winner[k] > gan[k]:
                    ahead[k].append(label)
        if asked:
            words.append(f"- {minutes} minutes: against the best GAN, the best VAE is " + "; ".join(
                f"ahead in {k} on {len(where)} of {len(asked)}" + (f" ({', '.join(where)})" if where else "")
                for k, where in ahead.items()) + ".")
    return ["## At every budget", "", "The best of each kind by FD, with its FD; coverage, recall. Means over the seeds at 4 minutes, seed 0 beyond.",
            "", *table(["data", "minutes", *KINDS], rows), *words, ""]


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
    return ["## Trials", "", "Each model has eight, of 75 s of processor time (60 and a fit where there is a prior to be fitted), on "
            "Fashion-MNIST without its last 5,000 training images, judged by the FD to 2,500 of those, one seed.", "",
            *table(["model", "trial", "changes to the preset", "FD", "steps", ""], rows)]


def curves(cells: dict[tuple[str, str], list[dict]]) -> None:
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


def pictures(work: Path) -> None:
    """A strip of each model's first samples of its first seed, none of them selected."""
    for data in NAMES:
        rows = []
        for name in (*VAES, *GANS):
            path = work / data / f"{name}-0" / "samples.png"
            if path.exists():
                picture = Image.open(path).convert("RGB")
                rows.append((name, picture.crop((0, 0, picture.width, 2 + 2 * (picture.height - 2) // 8))))
        if not rows:
            continue
        from PIL import ImageDraw

        label = 70
        paper = Image.new("RGB", (label + max(r.width for _, r in rows), sum(r.height + 6 for _, r in rows)), "white")
        top = 0
        for name, row in rows:
            ImageDraw.Draw(paper).text((4, top + row.height // 2 - 6), name, fill="black")
            paper.paste(row, (label, top))
            top += row.height + 6
        paper.quantize(128).save(DOCS / f"vae-versus-gan-{data}.png", optimize=True)


HEAD = """# VAE versus GAN

The article's question, answered by measurement: how far is a plain VAE from a GAN, and how much of the gap do a prior fitted to
its codes and a hybrid close? Written by `python benchmarks/vae_vs_gan.py table DATA` from `benchmarks/results/vae_vs_gan`.

**Same for all.** The data; 4 minutes of processor time on one core, two runs side by side, which covers the fitted prior too; the
parameters of everything that sampling needs (decoder, prior, fitted prior) within 10 %; eight trials each, on a held-out part of
the training set; batches of 64, averaged weights. What only training needs (encoder, critic) is not counted.

**Models.** `vae`: the default preset, the σ-VAE with a mixture of 50 Gaussians fitted to its codes. `vae_gan`: the same with a critic
of reconstructions and samples. `dcgan`, `sngan`, `wgan_gp`, `r3gan`: the presets of these names, with 64 latents.
"""


def write(results: Path, trial_file: Path, work: Path) -> None:
    cells = read(results)
    lines = [HEAD]
    if cells:
        if work.exists():
            pictures(work)
        curves(cells)
        sample = next(f for v in cells.values() for c in v for f in c.get("figures", []) if f["name"] == "fd")
        lines += ["## The answer in figures", "", "FD of samples, mean over seeds, lower is better.", "", *answer(cells), *reading(cells),
                  f"{sum(len(v) for v in cells.values())} of 72 cells are measured. FD and its like: features "
                  f"`{sample['features']}`, images resized {sample['resize']}, {sample['n']:,} samples against as many test images; "
                  "numbers in brackets are the least and greatest over seeds. A seed counts as lost when training ended in an "
                  f"error or the model collapsed: {COLLAPSED}.", "", "![quality against time](vae-versus-gan-curves.png)", "",
                  "FD by features that need no weights (500 samples from the model's own prior), seed 0, over training.", ""]
        for data in NAMES:
            lines += section(data, cells)
        lines += budgets(read_all(results))
    else:
        lines += ["The grid has not been run yet; what stands are the trials that choose each model's settings.", ""]
    lines += trials(trial_file)
    (DOCS / "vae-versus-gan.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
