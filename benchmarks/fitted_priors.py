"""Four priors over the codes of one model: what each brings to samples, what it costs to fit and to draw from.

    python benchmarks/fitted_priors.py run DATA [--jobs 2] [--only mnist]
    python benchmarks/fitted_priors.py table

The model is the preset `default` (seed 0, 0.8 to 1.2 million parameters, four minutes of processor time on one core, taken from --work or
trained first).
`normal` is its own prior; `mixture` takes the time it takes; `flow` and `flow_matching` get `--seconds` (30) of processor time. Fréchet
distances are to 2,500 evenly spaced test images (faces64: the last 2,500), by EfficientNet-Lite0, with as many samples. Speed is of one
core: images per second from the prior through the decoder, and through the decoder alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from cells import side_by_side
from versus_parts.training import MEASURED, PRECISION, SETS, TARGET, embedded, images_of, of_size, parameters, train

from reparam.data.stream import to_batch
from reparam.files.writing import write_json
from reparam.functional.distance import frechet
from reparam.parts.recipe import Recipe
from reparam.pretrained.files import load_model
from reparam.pretrained.image_model import ImageModel
from reparam.trainer.stages.base import Data, StageBudget
from reparam.trainer.stages.sequence import fit_anew

RESULTS = Path(__file__).parent / "results" / "fitted_priors"
MODEL = Recipe(latent="flat(96)", optimizer="adamw(lr=4e-3)", batch_size=64, precision=PRECISION, threads=1, ema=0.998)
"""The best of eight trials on held-out training images of Fashion-MNIST."""
PRIORS = ("none", "mixture(50)", "flow", "flow_matching")


def run(data: str, folder: str, work: Path, seconds: float, minutes: float) -> None:
    """Fits every prior to one model's codes, and measures."""
    source, indices, test = images_of(data, folder)
    _, h, w, c = source.images.shape
    out = work / data / "vae-0"
    if not (out / "config.json").exists():
        recipe = of_size(MODEL, "resnet(width={w}, patch=4)", (c, h, w), TARGET[data])
        train(recipe, source.images, indices, 60 * minutes, test, out)
    torch.set_num_threads(1)
    sampler, config = load_model(out)
    x, real_images = to_batch(source.images[indices]), to_batch(source.images[test])
    real = embedded(real_images)
    sampler.stages.clear()
    model = ImageModel(sampler, config)
    rebuilt = model.decode_pixels(model.encode_pixels(real_images)).clamp(0, 1)
    z = torch.randn(MEASURED, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    model.decode_pixels(z[:250])
    began = time.process_time()
    model.decode_pixels(z)
    decoding = time.process_time() - began
    found: dict[str, object] = {"recipe": config.recipe.to_dict(), "seconds": seconds, "n": len(test),
                                "fd of reconstructions": round(frechet(embedded(rebuilt), real), 2),
                                "decoder, images/s": round(MEASURED / decoding), "priors": {}}
    for prior in PRIORS:
        began = time.process_time()
        fit_anew("fitted_prior", sampler, {}, config.recipe.but(fitted_prior=prior), Data(x), lambda _: StageBudget(
            minutes=seconds / 60, clock=time.process_time, precision=PRECISION))
        fitting = time.process_time() - began
        began = time.process_time()
        samples = model.sample_pixels(MEASURED, seed=0).clamp(0, 1)
        drawing = time.process_time() - began
        own, all_of_it = (parameters(config.recipe.but(fitted_prior=p), (c, h, w)) for p in ("none", prior))
        found["priors"][prior if prior != "none" else "normal"] = {
            "fd": round(frechet(embedded(samples), real), 2), "fitting_seconds": round(fitting, 1),
            "images/s": round(MEASURED / drawing), "parameters": all_of_it - own}
        print(data, prior, found["priors"][prior if prior != "none" else "normal"], file=sys.stderr, flush=True)
    write_json(RESULTS / f"{data}.json", found)


def rows() -> list[list[str]]:
    """One row for each data set and prior; used by docs/make_reference.py too."""
    lines = []
    for data in SETS:
        path = RESULTS / f"{data}.json"
        if path.exists():
            found = json.loads(path.read_text())
            for name, r in found["priors"].items():
                lines.append([data, f"`{name}`", f"{r['fd']:.0f}", f"{found['fd of reconstructions']:.0f}", f"{r['fitting_seconds']:.0f}",
                              f"{r['images/s']:,}", f"{r['images/s'] / found['decoder, images/s']:.2f}", f"{r['parameters']:,}"])
    return lines


HEAD = ["data", "prior", "FD of samples", "FD of reconstructions", "seconds to fit", "images/s", "share of the decoder's speed",
        "parameters"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "set", "table"))
    parser.add_argument("data", nargs="?", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--work", type=Path, default=Path("runs/fitted_priors"))
    given = parser.parse_args()
    if given.what == "set":
        run(given.only, given.data, given.work, given.seconds, given.minutes)
    elif given.what == "run":
        wanted = [d for d in SETS if given.only in d and not (RESULTS / f"{d}.json").exists()]
        side_by_side([["set", given.data, "--only", d, "--seconds", str(given.seconds), "--minutes", str(given.minutes), "--work",
                       str(given.work)] for d in wanted], given.jobs, __file__)
    else:
        print("\n".join(" | ".join(r) for r in [HEAD, *rows()]))


if __name__ == "__main__":
    main()
