"""docs/gallery.md: samples of every data set as they came, each with the command that made it.

    python benchmarks/gallery.py [--work runs/vae_vs_gan] [--large runs/large]

The models are those that `vae_vs_gan.py run` left in --work: on each set of images the VAE, the hybrid and the GAN with the least
Fréchet distance, after the longest time that was measured. The pictures hold the first 64 samples of seed 0; none is left out.
Those that `large.py run` trained on a GPU, in --large, come after them. The picture of a model that is in neither, because it was
trained elsewhere, stays as it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from large import RESULTS as OF_LARGE
from PIL import Image
from vae_vs_gan import MINUTES, RESULTS, SETS, budget
from vae_vs_gan_table import DOCS, KINDS, NAMES, Cells, covered, failure, nearest, read_all, values


def entry(kind: str, data: str, name: str, minutes: float, cells: Cells, work: Path) -> list[str]:
    """A heading, the commands, the picture and its figures, all of seed 0."""
    picture = f"gallery-{data}-{name}{budget(minutes)}.png"
    longer = "" if minutes == MINUTES else f" --minutes {minutes:g}"
    keep(work / data / f"{name}-0{budget(minutes)}" / "samples.png", picture,
         f"vae_vs_gan.py run DATA --again --only {data}/{name}/0{longer}")
    cell = cells[data, name][0]
    options = " ".join(flag(k, v) for k, v in cell["recipe"].items() if k != "seed")
    said = [*(f"{label} {values([cell], key)[0]:.{digits}f}" for key, label, digits in (("fd", "FD", 0), ("coverage", "coverage", 2),
                                                                                      ("recall", "recall", 2))),
            f"{cell['parameters']:,} parameters to sample with", f"{cell['images_per_second']:,} images/s on one core",
            *([f"**{why}**"] if (why := failure(cell, covered(cells, data))) else [])]
    return [f"### A {kind}: `{name}`, {minutes:g} minutes on one core", "", f"{', '.join(said)}.", "", f"![{name} on {NAMES[data]}]({picture})", "",
            "```", f"python benchmarks/vae_vs_gan.py run DATA --only {data}/{name}/0{longer}",
            f"reparam train {SETS[data]} --minutes {minutes:g} {options}", "```", ""]


def on_a_gpu(path: Path, large: Path) -> list[str]:
    """The same of a result of large.py."""
    r = json.loads(path.read_text())
    data, name, _ = path.name.split("-", 2)
    picture, command = f"gallery-{data}-{name}-gpu{budget(r['minutes'])}.png", f"large.py run DATA --minutes {r['minutes']:g} --jobs {r['jobs']}"
    keep(large / f"{data}-{name}{budget(r['minutes'])}" / "samples.png", picture, command)
    said, why = {f["name"]: f["value"] for f in r["figures"]}, failure(r, False)
    return [f"### On a GPU: `{name}`, {r['minutes']:g} minutes of an {r['device']}"
            f"{f' that {n} trainings shared' if (n := r['jobs']) > 1 else ''}", "",
            f"FD {said['fd']:.0f}, coverage {said['coverage']:.2f}, recall {said['recall']:.2f}{f', **{why}**' if why else ''}.", "",
            f"![{name} on {NAMES[data]}]({picture})", "", "```",
            f"python benchmarks/{command}",
            f"reparam train {SETS[data]} --preset {name} --minutes {r['minutes']:g}", "```", ""]


def keep(samples: Path, picture: str, command: str) -> None:
    """Takes a picture into docs, from where its model was trained, or leaves the one that is there."""
    if samples.exists():
        Image.open(samples).convert("RGB").quantize(128).save(DOCS / picture, optimize=True)
    elif not (DOCS / picture).exists():
        raise SystemExit(f"{samples} is missing: `{command}` draws it")


def flag(name: str, value: object) -> str:
    """A recipe's field on the command line."""
    told = f"--{name.replace('_', '-')}"
    return told if value is True else f'{told} "{value}"'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/vae_vs_gan"))
    parser.add_argument("--large", type=Path, default=Path("runs/large"))
    given = parser.parse_args()
    work = given.work
    lines = ["# Gallery", "", "The first 64 samples of seed 0, as they came: none was selected, and none left out. Written by "
             "`python benchmarks/gallery.py` from the models that [vae-versus-gan.md](vae-versus-gan.md) measures, of each kind the one with the "
             "least FD after the longest time that was measured; then those of "
             "[benchmarks.md](benchmarks.md#on-a-gpu) that had a GPU. Under each picture stand the command that made it, and a run with the same "
             "settings, which will be similar, not equal. What *collapsed* and *far* mean stands there, too.", ""]
    found = read_all(RESULTS)
    for data, label in NAMES.items():
        lines += [f"## {label}", ""]
        for kind, names in KINDS.items():
            minutes = max((m for m, cells in found.items() if nearest(cells, data, names)), default=None)
            if minutes is not None:
                lines += entry(kind, data, nearest(found[minutes], data, names), minutes, found[minutes], work)
        for path in sorted(OF_LARGE.glob(f"{data}-*min-cuda.json")):
            lines += on_a_gpu(path, given.large)
    (DOCS / "gallery.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
