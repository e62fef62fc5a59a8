"""docs/gallery.md: samples of every data set as they came, each with the command that made it.

    python benchmarks/gallery.py [--work runs/vae_vs_gan]

The models are those that `vae_vs_gan.py run` left in --work: on each set of images the VAE, the hybrid and the GAN with the least
Fréchet distance, after the longest time that was measured. The pictures hold the first 64 samples of seed 0; none is left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image
from vae_vs_gan import MINUTES, RESULTS, SETS, budget
from vae_vs_gan_table import DOCS, KINDS, NAMES, values


def measured(data: str) -> dict[float, dict[str, dict]]:
    """Cells of seed 0, by minutes and model."""
    found: dict[float, dict[str, dict]] = {}
    for path in RESULTS.glob(f"{data}-*-0*.json"):
        _, name, _, *rest = path.stem.split("-")
        cell = json.loads(path.read_text())
        if "failed" not in cell:
            found.setdefault(float(rest[0].removesuffix("min")) if rest else MINUTES, {})[name] = cell
    return found


def entry(kind: str, data: str, name: str, minutes: float, cell: dict, work: Path) -> list[str]:
    """A heading, the commands, the picture and its figures."""
    picture = f"gallery-{data}-{name}.png"
    Image.open(work / data / f"{name}-0{budget(minutes)}" / "samples.png").convert("RGB").quantize(128).save(DOCS / picture, optimize=True)
    longer = "" if minutes == MINUTES else f" --minutes {minutes:g}"
    options = " ".join(f'--{k.replace("_", "-")} "{v}"' for k, v in cell["recipe"].items() if k != "seed")
    told = [f"FD {values([cell], 'fd')[0]:.0f}", f"coverage {values([cell], 'coverage')[0]:.2f}", f"recall {values([cell], 'recall')[0]:.2f}",
            f"{cell['parameters']:,} parameters to sample with", f"{cell['images_per_second']:,} images/s on one core"]
    return [f"### A {kind}: `{name}`, {minutes:g} minutes on one core", "", f"{', '.join(told)}.", "", f"![{name} on {NAMES[data]}]({picture})", "",
            "```", f"python benchmarks/vae_vs_gan.py run DATA --only {data}/{name}/0{longer}",
            f"reparam train {SETS[data]} --minutes {minutes:g} {options}", "```", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/vae_vs_gan"))
    work = parser.parse_args().work
    lines = ["# Gallery", "", "The first 64 samples of seed 0, as they came: none was selected, and none left out. Written by "
             "`python benchmarks/gallery.py` from the models that [vae-versus-gan.md](vae-versus-gan.md) measures; under each picture stand "
             "the command that made it and the same model as a run of one's own, for as many minutes.", ""]
    for data, label in NAMES.items():
        lines += [f"## {label}", ""]
        by_minutes = measured(data)
        for kind, names in KINDS.items():
            minutes = max((m for m, cells in by_minutes.items() if cells.keys() & set(names)), default=None)
            if minutes is not None:
                cells = {n: c for n, c in by_minutes[minutes].items() if n in names}
                best = min(cells, key=lambda n: values([cells[n]], "fd")[0])
                lines += entry(kind, data, best, minutes, cells[best], work)
    (DOCS / "gallery.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
