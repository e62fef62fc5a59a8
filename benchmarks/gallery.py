"""docs/gallery.md: samples of what was trained on a GPU as they came, each with the command that made it.

    python benchmarks/gallery.py [--large runs/large]

The pictures hold the first 64 samples of seed 0; none is left out. The models are those that `large.py run` left in --large. The picture
of a model that is not there, because it was trained elsewhere, stays as it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from large import RESULTS, budget
from PIL import Image
from versus_parts.claims import VENDI
from versus_parts.page import DOCS, NAMES
from versus_parts.training import SETS


def on_a_gpu(path: Path, large: Path) -> list[str]:
    """A heading, the commands, the picture and its figures, all of seed 0, of a result of large.py."""
    r = json.loads(path.read_text())
    data, name, _ = path.name.split("-", 2)
    picture, command = f"gallery-{data}-{name}-gpu{budget(r['minutes'])}.png", f"large.py run DATA --minutes {r['minutes']:g} --jobs {r['jobs']}"
    keep(large / f"{data}-{name}{budget(r['minutes'])}" / "samples.png", picture, command)
    said = {f["name"]: f["value"] for f in r["figures"]}
    why = "collapsed" if said["vendi"] <= VENDI else ""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=Path, default=Path("runs/large"))
    given = parser.parse_args()
    lines = ["# Gallery", "", "The first 64 samples of seed 0, as they came: none was selected, and none left out. Written by "
             "`python benchmarks/gallery.py` from the models of [benchmarks.md](benchmarks.md#on-a-gpu) that had a GPU. Under each picture stand "
             f"the command that made it, and a run with the same settings, which will be similar, not equal. *Collapsed* samples amount to {VENDI:g} "
             "different images or fewer (Vendi). What few minutes of a processor make, of VAEs and of GANs, is in "
             "[vae-versus-gan.md](vae-versus-gan.md).", ""]
    for data, label in NAMES.items():
        entries = [line for path in sorted(RESULTS.glob(f"{data}-*min-cuda.json")) for line in on_a_gpu(path, given.large)]
        lines += [f"## {label}", "", *entries] if entries else []
    (DOCS / "gallery.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
