"""The page of figures, docs/latents-measured.md, made of the results alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from . import classify, sampling
from .models import FILES

SETS = {"mnist": "MNIST", "fashion": "Fashion-MNIST", "cifar": "CIFAR-10 (JPEG)", "faces": "faces64"}
Results = dict[str, dict[str, Any]]
"""Cells of a part by name."""


def page(results: Path) -> str:
    """The whole page, in Markdown; a part without results says so."""
    def read(part: str) -> Results:
        return {path.stem.removeprefix(f"{part}-"): json.loads(path.read_text()) for path in sorted(results.glob(f"{part}-*.json"))}

    parts = [("Classes from few labels", CLASSIFY, classify.table(results)), ("A hundred labels and M2", M2, m2(read("m2"))),
             ("Odd images", ANOMALIES, anomalies(read("anomalies"))), ("One class left out", DIGITS, digits(read("anomalies"))),
             ("Nearest images", SEARCH, search(read("search"))), ("Edits of faces", DIRECTIONS, directions(read("directions"))),
             ("Draws that are chosen", SAMPLING, sampling.table(list(read("sampling").values()))),
             ("Draws and paths by a metric", GEOMETRY, geometry(read("geometry")))]
    return "\n\n".join([HEAD, *(f"## {title}\n\n{about}\n\n{table or 'Not run yet.'}" for title, about, table in parts)]) + "\n"


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; empty without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    names = list(head)
    return "\n".join([f"| {' | '.join(names)} |", "|" + "---|" * len(names), *lines]) if lines else ""


def per_cent(share: float, interval: Iterable[float] | None = None) -> str:
    low, high = interval or (0.0, 0.0)
    return f"{100 * share:.1f}" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if interval else "")


def m2(cells: Results) -> str:
    rows = [[name.removeprefix("draw-"), *(per_cent(c[k]["accuracy"], c[k]["interval"]) for k in ("m2", "probe", "probe_of_m2_codes")),
             f"{c['model']['processor_seconds']:.0f} s, {c['model']['steps']:,} steps"] for name, c in cells.items()]
    if len(rows) > 1:
        rows.append(["mean", *(f"**{100 * np.mean([c[k]['accuracy'] for c in cells.values()]):.1f}**"
                               for k in ("m2", "probe", "probe_of_m2_codes")), ""])
    return markdown(("draw of the labels", "M2", "probe of the default model's codes", "probe of M2's codes", "training"), rows)


RIVALS = ("default", "−ELBO, high", "PCA error", "isolation forest on PCA", "neighbours in features")


def anomalies(cells: Results) -> str:
    rows, clean = [], []
    for name in (n for n in SETS if n in cells):
        cell = cells[name]
        for kind in (k for k in (*SETS, "patch") if isinstance(cell.get(k), dict) and "default" in cell[k]):
            found = cell[kind]
            singles = {k: v["auroc"] for k, v in found.items() if k not in RIVALS and isinstance(v, dict) and "auroc" in v}
            best = max(singles, key=lambda k: singles[k])
            low, high = found["default"]["auroc_95"]
            rows.append([SETS[name], "8×8 patch" if kind == "patch" else SETS[kind],
                         f"{found['default']['auroc']:.3f} [{low:.3f}, {high:.3f}]", f"{found['default']['ap']:.3f}",
                         *(f"{found[k]['auroc']:.3f}" if k in found else "–" for k in RIVALS[1:]),
                         f"{singles[best]:.3f} {best}"])
        told, low, high = cell["clean"]["p ≤ 0.1"], *cell["clean"]["p ≤ 0.1, 95 %"]
        folders = "; ".join(f"{'patches' if k == 'patch' else SETS[k]} {per_cent(cell[k]['folders']['false discoveries'])}, "
                            f"{per_cent(cell[k]['folders']['found'])}" for k in (*SETS, "patch")
                            if isinstance(cell.get(k), dict) and "folders" in cell[k])
        hottest = cell["patch"]["hottest in the patch"]
        clean.append([SETS[name], per_cent(told, (low, high)), folders,
                      f"{per_cent(hottest['share'])} ({per_cent(hottest['by chance'])})"])
    first = markdown(("usual", "odd", "AUROC [95 %]", "average precision", *RIVALS[1:], "best statistic alone"), rows)
    second = markdown(("set", "clean images with p ≤ 0.1, %", "20 odd ones of 200: mistakes, found, %", "hottest pixel in the "
                       "patch, % (by chance)"), clean)
    return f"{first}\n\n{second}" if rows else ""


def digits(cells: Results) -> str:
    rows = []
    for name, cell in ((n.removeprefix("without-"), c) for n, c in cells.items() if n.startswith("without-")):
        found = next(v for v in cell.values() if isinstance(v, dict) and "default" in v)
        low, high = found["default"]["auroc_95"]
        rows.append([name, f"{found['default']['auroc']:.3f} [{low:.3f}, {high:.3f}]", f"{found['default']['ap']:.3f}",
                     *(f"{found[k]['auroc']:.3f}" if k in found else "–" for k in RIVALS[1:])])
    return markdown(("digit left out", "AUROC [95 %]", "average precision", *RIVALS[1:]), rows)


def search(cells: Results) -> str:
    by = ("codes", "pixels", "pca", "pca, direction", "features", "both")
    rows = []
    for name in SETS:
        found = {k: v for cell in (f"{name}-default", f"{name}-features") for k, v in
                 cells.get(cell, {}).get("precision at 10", {}).items()}
        if found:
            rows.append([SETS[name], *(per_cent(found[k]["precision"]) if k in found else "–" for k in by)])
    who = [[SETS[name], per_cent(c["refused"]), " ".join(f"{100 * v:.0f}" for v in c["refused by class"]), per_cent(c["kept"]),
            per_cent(c["right of kept"])] for name in SETS if (c := cells.get(f"{name}-unknown"))]
    fast = [[title, f"{c['exact queries/s']:,}", f"{c['graph queries/s']:,}", per_cent(c["graph recall at 10"]),
             f"{c['graph built in s']:.0f} s"] for key, title in (("speed", "codes drawn from MNIST's fitted prior"), ("worst", "N(0, I)"))
            if (c := cells.get(key))]
    return "\n\n".join(filter(None, [
        markdown(("precision at 10, %", *by), rows),
        markdown(("unknown classes", "refused, %, 90 nominal", "by class", "known ones kept, %", "right of those, %"), who),
        markdown(("100,000 vectors of 64 numbers", "exact, queries/s", "graph, queries/s", "recall at 10, %", "built in"), fast)]))


def directions(cells: Results) -> str:
    rows = []
    for kept, naive in zip(cells.get("kept", {}).get("edits", []), cells.get("naive", {}).get("edits", []), strict=False):
        rows.append([kept["edit"], str(kept["faces"]), *(text for e in (kept, naive) for text in (
            per_cent(e["reached"], e["interval"]), f"{per_cent(e['most_changed'])} {e['worst']}", "yes" if e["met"] else "no"))])
    if rows:
        rows.append(["**goals met**", "", "", "", *(text for c in (cells["kept"], cells["naive"]) for text in
                                                    (f"**{c['met']} of {c['of']}**", "", ""))][:8])
    return markdown(("edit", "faces", "reached, %", "most changed besides, %", "goal", "difference of means: reached",
                     "most changed", "goal"), rows)


def geometry(cells: Results) -> str:
    priors, ways = [], []
    for name, c in ((n, cells[f"riemannian-{n}"]) for n in SETS if f"riemannian-{n}" in cells):
        for prior, f in c["priors"].items():
            low, high = f["fd_interval"]
            priors.append([SETS[name], prior, f"{f['fd']:.0f} [{low:.0f}, {high:.0f}]", f"{f['precision']:.2f}", f"{f['recall']:.2f}",
                           f"{f['coverage']:.2f}", per_cent(f["nearer"]) if "nearer" in f else "–"])
    for name, c in ((n, cells[f"paths-{n}"]) for n in SETS if f"paths-{n}" in cells):
        ways.append([SETS[name], str(c["pairs"]), *(f"{c['precision'][w]:.2f}" for w in ("usual", "decoder", "codes")),
                     f"{c['precision_of_ends']:.2f}", *(f"{c['length_of_usual'][w]:.2f}" for w in ("decoder", "codes"))])
    return "\n\n".join(filter(None, [
        markdown(("set", "prior", "FD [95 %]", "precision", "recall", "coverage", "nearer to a training image, %"), priors),
        markdown(("paths", "pairs", "precision of the usual way", "shortest by decoder", "shortest by codes", "of the ends",
                  "length by decoder, of the usual", "length by codes"), ways)]))


HEAD = f"""# Latents at work, measured

What [the commands on latents](latents.md) reach on data with known answers. Every table is made by
`python benchmarks/downstream.py tables DATA` from `benchmarks/results/downstream/`, where each cell names its machine (an AMD EPYC, one
core) and its seconds. Models are trained without labels for five minutes of one core (`downstream_parts/models.py`); settings were chosen on
held-out training images, and test images are what is measured. Sets: {', '.join(SETS[name] for name in FILES)}. One model each,
so that no figure says how much another training would differ. A cell that is not here has not been run.
VAEs were trained with AdamW, which was the default optimizer then (`--optimizer "adamw(lr=2e-3)"`), `latent_flow` and `terse` with 4e-3."""

CLASSIFY = """Accuracy on 1,000 test images, %, of the classifier that `reparam classify` learns: 5,000 training images, of which so many have a
label, as many of each class; five draws of the labels, the same for every player, ± a 95 % interval over draws (Student's t). Faces have six
factors, of which the average is shown. `pca64` are the first 64 principal components of pixels, `untrained` codes of the default recipe's
encoder as it starts, `features` those of EfficientNet-Lite0, which was trained on a million labelled photographs."""
M2 = """Accuracy on the 10,000 test images of MNIST, % [95 %], with ten labels of each digit: the preset `m2`, which learns from labels and images
together, and a probe of codes that were learned without labels. Kingma et al. (2014) report 88.0 % for M2 and 96.7 % for M2 on top
of M1, after far longer training."""
ANOMALIES = """1,000 test images of the usual set against 1,000 odd ones, which no setting has seen; 1,000 held-out images say what is usual. AUROC, and
average precision of the default score, the density of five statistics. The best statistic alone was chosen on these images. False
discoveries: the share of clean images with a p-value of at most 0.1; then folders of 180 clean and 20 odd images, of which those are called odd
that Benjamini and Hochberg's rule finds at 10 %."""
DIGITS = """Models of MNIST that have not seen one digit, two minutes each; that digit's test images against those of the others."""
SEARCH = """10,000 training images indexed, 1,000 test images asked for their ten nearest; precision is the share of these with the query's label (faces:
average over six factors; ± about 1.5). Codes are compared by direction, in units of their information; so is `pca, direction`. Unknown
classes: each class in turn is left out of the index and of the threshold's making."""
DIRECTIONS = """200 held-out faces each that lack the wanted value, moved by a strength of 1.5, detail 1. Reached: the share in which a classifier of real
faces sees the wanted value after the edit; most changed besides: the factor that it sees altered most often. Goal: 80 % and 15 %."""
SAMPLING = """2,000 draws against 2,000 test images, features of EfficientNet-Lite0: FD ± half its 95 % interval · precision · recall."""
GEOMETRY = """The fitted prior `riemannian` beside the mixture, 2,000 draws: at a small spread its draws are near-copies of the training images that it is
made of, which the last column tells (50 % where draws know nothing of them). Paths between test images of different classes: the precision of the
images on the way, and how long the shortest way is in units of the usual one."""
