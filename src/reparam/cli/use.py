"""The commands that use a trained model: sample, reconstruct, interpolate, traverse, encode.

Each looks at its numbers and at where it is to write before it reads or computes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..errors import UsageError
from ..parts.ranges import COLUMNS, GUIDANCE, PATH_STEPS, ROWS, SEED, SOLVER_STEPS, SOME_IMAGES, TEMPERATURE
from ..progress import tell
from ..text import counted
from .app import USING, app, numbers, print_json
from .changes import changes_of, strength_in
from .options import Choosing, Device, Json, Refining

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..data.imageset import ImageSet
    from ..models.draw import Draw
    from ..pretrained.image_model import ImageModel
    from ..pretrained.outputs import Output



@app.command(group=USING)
def sample(run: str, /, *, n: Annotated[int, Parameter(name=["--number", "-n"])] = 64, out: str = "samples.png",
           prior: str | None = None, temperature: str | None = None, label: str | None = None, steps: int | None = None,
           guidance: float = 1.0, resample: bool | None = None, refining: Refining = Refining(),
           choosing: Choosing = Choosing(), seed: int = 0, device: Device = "auto", json: Json = False) -> None:
    """Draw new images into one picture, an animation, or a folder of single images.

    Parameters
    ----------
    run
        A run's folder.
    n
        How many.
    out
        A .png for all of them in a grid, a .gif, .webp or .mp4 that shows one after the other, an .npy for an array, or a
        folder for one file each; what an earlier command wrote there is replaced.
    prior
        The model's own prior by name, such as normal, in place of the one fitted to its codes.
    temperature
        Below 1: less varied, nearer to the typical; one for each layer from the top down, such as 0.9,0.7. By default what
        training chose by the distance to held-out images, else 1.
    label
        Only of this class, by name or number, when the model or its prior knows classes.
    steps
        Steps of integration of a prior fitted by flow_matching; by default as it was fitted.
    guidance
        Above 1: beyond what the label says, more typical of it and less varied.
    resample
        Let a resampler choose among plain draws, when the model has one; by default where training chose it.
    """
    from ..pretrained.outputs import ANIMATED, Output, save_images

    each = None if temperature is None else numbers(temperature, "--temperature takes numbers, such as 0.8 or 0.9,0.7")
    for temperature_of_one in each or ():
        TEMPERATURE.check("--temperature", temperature_of_one)
    for name, value, within in (("-n", n, SOME_IMAGES), ("--seed", seed, SEED), ("--steps", steps, SOLVER_STEPS),
                                ("--guidance", guidance, GUIDANCE)):
        within.check(name, value)
    refining.check()
    choosing.check()
    to, wanted = Output.of(out, ANIMATED), [strength_in(each) for each in choosing.add or ()]
    model = model_in(run, device)
    options = model.options(temperature=each, prior=prior, label=label, steps=steps, guidance=guidance, resample=resample,
                            refine=refining.refine, refine_temperature=refining.refine_temperature)
    images = (model.images(n, options, seed=seed) if choosing.is_plain else
              _chosen(run, model, n, options, choosing, wanted, seed))
    save_images(images, to, seconds=0.5)
    done({"out": out, "n": n}, out, json)


@app.command(group=USING)
def reconstruct(run: str, /, *images: str, out: str = "reconstructions.png", draw: bool = False,
                refining: Refining = Refining(), seed: int = 0, device: Device = "auto", json: Json = False) -> None:
    """Encode and decode images: originals above what the model rebuilds.

    Parameters
    ----------
    run
        A run's folder.
    images
        Image files, or one source of data as for training: a folder, archive, .npy or .npz.
    out
        A .png for a picture, an .npy for the rebuilt images as an array, or a folder for one file each, named as the
        originals; what an earlier command wrote there is replaced.
    draw
        Decode a draw from the posterior, as training does; by default its mean.
    """
    from ..pretrained.outputs import PICTURES, Output, save_images
    from ..pretrained.pictures import pairs

    SEED.check("--seed", seed)
    refining.check()
    to = Output.of(out, PICTURES)
    model, found = opened(run, images, device)
    rebuilt = model.reconstruct(found.images, sample=draw, seed=seed, refine=refining.refine,
                                refine_temperature=refining.refine_temperature)
    columns = min(len(rebuilt), 8)
    save_images(rebuilt, to, columns=columns, names=found.names,
                shown=pairs(found.images, rebuilt, columns))
    done({"out": out, "n": len(rebuilt), "skipped": skipped_of(found)}, out, json)


@app.command(group=USING)
def interpolate(run: str, a: str | None = None, b: str | None = None, /, *, steps: int = 10,
                geodesic: Annotated[bool, Parameter(negative="")] = False, metric: Literal["decoder", "codes"] | None = None,
                out: str = "interpolation.png", seed: int = 0, device: Device = "auto", json: Json = False) -> None:
    """Walk through the latent space from one image to another, or between two draws of the prior.

    Parameters
    ----------
    run
        A run's folder.
    a
        The image to start from; without images the walk goes from one draw of the prior to another.
    b
        The image to end at.
    steps
        Images on the way, both ends included.
    geodesic
        The shortest way, as --metric measures; a picture shows it below the usual one.
    metric
        What a shortest way has least of: decoder, change of the decoder's image; codes, distance in units of the noise that
        the codes of the run's own images have, up to ten times as long where there are none. [default: decoder]
    out
        A .png for all of them in a row, a .gif, .webp or .mp4 that goes there and back, an .npy for an array, or a folder
        for one file each; what an earlier command wrote there is replaced.
    """
    from ..pretrained.outputs import ANIMATED, Output, save_images, there_and_back

    PATH_STEPS.check("--steps", steps)
    SEED.check("--seed", seed)
    if a is not None and b is None:
        raise UsageError("name two images, or none for a walk between two draws of the prior")
    if metric is not None and not geodesic:
        raise UsageError("--metric says how the length of a way is measured, for --geodesic: give both")
    to, model = Output.of(out, ANIMATED), model_in(run, device)
    ends = [image_for(model, path) if path is not None else None for path in (a, b)]
    images = model.interpolate(ends[0], ends[1], steps, seed=seed)
    if geodesic:
        _save_geodesic(run, model, images, model.ends(ends[0], ends[1], seed=seed), metric or "decoder", to, json)
        return
    save_images(images, to, columns=steps, moving=there_and_back(images[:, None]))
    done({"out": out, "n": steps}, out, json)


@app.command(group=USING)
def traverse(run: str, image: str | None = None, /, *, dims: int = 8, steps: int = 9, out: str = "traversals.png",
             device: Device = "auto", json: Json = False) -> None:
    """Move along the most informative latents, one a row.

    Parameters
    ----------
    run
        A run's folder.
    image
        Start from this image's code; by default from the mean of all codes.
    dims
        Rows: how many latents.
    steps
        Columns: images for each.
    out
        A .png for all of them in a grid, a .gif, .webp or .mp4 of all latents that move there and back, an .npy for an
        array, or a folder for one file each; what an earlier command wrote there is replaced.
    """
    from ..pretrained.outputs import ANIMATED, Output, save_images, there_and_back

    ROWS.check("--dims", dims)
    COLUMNS.check("--steps", steps)
    to, model = Output.of(out, ANIMATED), model_in(run, device)
    rows = model.traverse(image_for(model, image) if image is not None else None, dims=dims, steps=steps)
    images = rows.reshape(-1, *rows.shape[2:])
    save_images(images, to, columns=steps, moving=there_and_back(rows.swapaxes(0, 1)))
    done({"out": out, "n": len(images)}, out, json)


@app.command(group=USING)
def encode(run: str, /, *images: str, out: str = "codes.npz", draw: bool = False, seed: int = 0,
           device: Device = "auto", json: Json = False) -> None:
    """Write the latents of images with their names, and their labels where there are labels.

    Parameters
    ----------
    run
        A run's folder.
    images
        Image files, or one source of data as for training: a folder, archive, .npy or .npz.
    out
        An .npz of names, labels and z (n, *latent); or a table, .csv or .parquet, of a row for each image.
    draw
        Draw from the posterior; by default its mean is taken.
    """
    from ..pretrained.outputs import TABLES, Output, save_codes

    SEED.check("--seed", seed)
    to = Output.of(out, TABLES)
    model, found = opened(run, images, device)
    z = model.encode(found.images, sample=draw, seed=seed)
    save_codes(z, found, to)
    done({"out": out, "n": len(z), "latent": list(z.shape[1:]), "skipped": skipped_of(found)},
          f"{counted(len(z), 'code')} of shape {z.shape[1:]} in {out}", json)


def _save_geodesic(run: str, model: ImageModel, usual: np.ndarray, ends: Tensor, metric: str, to: Output, json: bool
                   ) -> None:
    """The shortest way, in pictures below the usual one."""
    import numpy as np

    from ..downstream.geometry import shortest_path
    from ..pretrained.outputs import save_images, there_and_back
    from ..progress import for_this_terminal
    from ..runs.geometry import near_images

    report = for_this_terminal()
    found = shortest_path(model, ends, len(usual), near_images(run, model, report) if metric == "codes" else None)
    images = model.decode(found.codes.numpy())
    save_images(images, to, columns=len(images), shown=np.concatenate([usual, images]),
                moving=there_and_back(np.stack([usual, images], 1)))
    saved = 1 - found.length / found.begun_with if found.begun_with else 0.0
    unit = "in units of the codes' noise" if metric == "codes" else "in pixel values from 0 to 1"
    done({"out": str(to.path), "n": len(images), "metric": metric, "length": found.length, "usual": found.begun_with},
         f"{to.path}: the shortest way has length {found.length:.4g} {unit}, the usual one {found.begun_with:.4g}: "
         f"{saved:.1%} less", json)


def _chosen(run: str, model: ImageModel, n: int, options: Draw, choosing: Choosing, wanted: Sequence[tuple[str, float]],
            seed: int) -> np.ndarray:
    import torch

    from ..downstream.sampling import Around, Keep, draw_images

    named = choosing.between or ((choosing.like,) if choosing.like is not None else ())
    around, add = None, changes_of(run, model, wanted) if wanted else ()
    if named:
        codes = torch.cat([torch.from_numpy(model.encode(image_for(model, path)[None])) for path in named])
        around = Around(codes) if choosing.variation is None else Around(codes, choosing.variation)
    keep = Keep(choosing.typical, choosing.diverse)
    return draw_images(model, n, options, around=around, keep=keep, add=add, seed=seed)


def model_in(folder: str, device: str) -> ImageModel:
    from ..pretrained.image_model import load

    return load(folder, device=device)


def opened(run: str, sources: Sequence[str], device: str) -> tuple[ImageModel, ImageSet]:
    """A model and the images that are named for it."""
    if not sources:
        raise UsageError("name at least 1 image file, or a folder of them")
    model = model_in(run, device)
    return model, images_for(model, sources)


def images_for(model: ImageModel, sources: Sequence[str]) -> ImageSet:
    """Images for a model; files left out are told on stderr, also beside --json."""
    from ..pretrained.inputs import read_inputs
    from ..progress import for_this_terminal

    return read_inputs(model.config, sources, for_this_terminal())


def image_for(model: ImageModel, path: str) -> np.ndarray:
    """The one image that is named."""
    found = images_for(model, [path])
    if len(found.images) != 1:
        raise UsageError(f"name one image; {path} holds {len(found.images)}")
    return found.images[0]


def skipped_of(found: ImageSet) -> list[dict[str, str]]:
    return [{"name": each.name, "reason": each.reason} for each in found.skipped]


def done(facts: dict[str, Any], text: str, as_json: bool) -> None:
    print_json(facts) if as_json else tell(text)
