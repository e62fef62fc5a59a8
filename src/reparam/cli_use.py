"""The commands that use a trained model: sample, reconstruct, interpolate, traverse, encode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from .cli import app, numbers, print_json
from .cli_options import Device, Json, Refining
from .errors import UsageError
from .reporting import tell

if TYPE_CHECKING:
    import numpy as np

    from .data import ImageSet
    from .generate import ImageModel


@app.command
def sample(run: str, /, *, n: Annotated[int, Parameter(name=["--number", "-n"])] = 64, out: str = "samples.png",
           prior: str | None = None, temperature: str = "1", label: str | None = None, steps: int | None = None,
           guidance: float = 1.0, resample: bool = True, refining: Refining = Refining(), seed: int = 0,
           device: Device = "auto", json: Json = False) -> None:
    """Draw new images into one picture, or into a folder of single images.

    Parameters
    ----------
    run
        A run's folder.
    n
        How many.
    out
        A .png for all of them in a grid, an .npy for an array, or a folder for one file each.
    prior
        The model's own prior by name, such as normal, in place of the one fitted to its codes.
    temperature
        Below 1: less varied, nearer to the typical; one for each layer from the top down, such as 0.9,0.7.
    label
        Only of this class, by name or number, when the model or its prior knows classes.
    steps
        Steps of integration of a prior fitted by flow_matching; by default as it was fitted.
    guidance
        Above 1: beyond what the label says, more typical of it and less varied.
    resample
        Let a resampler choose among plain draws, when the model has one.
    """
    if n < 1:
        raise UsageError(f"-n must be at least 1; got {n}")
    model = _load(run, device)
    each = numbers(temperature, "--temperature takes numbers, such as 0.8 or 0.9,0.7")
    _write(model.sample(n, seed=seed, temperature=each, prior=prior, label=label, steps=steps, guidance=guidance,
                        resample=resample, refine=refining.choice()), out, json)


@app.command
def reconstruct(run: str, /, *images: str, out: str = "reconstructions.png", refining: Refining = Refining(),
                device: Device = "auto", json: Json = False) -> None:
    """Encode and decode images: originals above what the model rebuilds.

    Parameters
    ----------
    run
        A run's folder.
    images
        Image files.
    out
        A .png for a picture, an .npy for the rebuilt images as an array, or a folder for one file each.
    """
    from .pictures import pairs

    model = _load(run, device)
    x = _images(model, images).images
    rebuilt = model.reconstruct(x, refine=refining.choice())
    _write(pairs(x, rebuilt, min(len(x), 8)) if out.endswith(".png") else rebuilt, out, json, columns=min(len(x), 8))


@app.command
def interpolate(run: str, a: str | None = None, b: str | None = None, /, *, steps: int = 10,
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
    out
        A .png for all of them in a row, an .npy for an array, or a folder for one file each.
    """
    model = _load(run, device)
    if a is not None and b is None:
        raise UsageError("name two images, or none for a walk between two draws of the prior")
    ends = [_image(model, path) if path is not None else None for path in (a, b)]
    _write(model.interpolate(ends[0], ends[1], steps, seed=seed), out, json, columns=steps)


@app.command
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
        A .png for all of them in a grid, an .npy for an array, or a folder for one file each.
    """
    model = _load(run, device)
    start = _image(model, image) if image is not None else None
    rows = model.traverse(start, dims=dims, steps=steps)
    _write(rows.reshape(-1, *rows.shape[2:]), out, json, columns=steps)


@app.command
def encode(run: str, /, *images: str, out: str = "codes.npz", draw: bool = False, seed: int = 0,
           device: Device = "auto", json: Json = False) -> None:
    """Write the latents of images: names and z (n, *latent).

    Parameters
    ----------
    run
        A run's folder.
    images
        Image files, or one source of data as for training: a folder, archive, .npy or .npz.
    out
        An .npz file.
    draw
        Draw from the posterior; by default its mean is taken.
    """
    import numpy as np

    from .files import replacing

    model = _load(run, device)
    found = _images(model, images)
    z = model.encode(found.images, sample=draw, seed=seed)
    with replacing(_with_suffix(out, ".npz")) as temporary, temporary.open("wb") as f:
        np.savez(f, names=np.array(found.names), z=z)
    _done({"out": out, "n": len(z), "latent": list(z.shape[1:])}, f"{len(z)} codes of shape {z.shape[1:]} in {out}", json)


def _load(folder: str, device: str) -> ImageModel:
    from .generate import load

    return load(folder, device=device)


def _images(model: ImageModel, sources: Sequence[str]) -> ImageSet:
    """The images that are named; files left out are told on stderr, also beside --json."""
    if not sources:
        raise UsageError("name at least 1 image file, or a folder of them")
    from .inputs import read_inputs
    from .reporting import for_this_terminal

    return read_inputs(model.config, sources, for_this_terminal())


def _image(model: ImageModel, path: str) -> np.ndarray:
    """The one image that is named."""
    found = _images(model, [path])
    if len(found.images) != 1:
        raise UsageError(f"name one image; {path} holds {len(found.images)}")
    return found.images[0]


def _with_suffix(out: str, suffix: str) -> str:
    if Path(out).suffix.lower() != suffix:
        raise UsageError(f"--out must end in {suffix}; got {out!r}")
    return out


def _write(images: np.ndarray, out: str, as_json: bool, columns: int | None = None) -> None:
    from .pictures import save_images

    save_images(images, out, columns)
    _done({"out": out, "n": len(images)}, out, as_json)


def _done(facts: dict[str, Any], text: str, as_json: bool) -> None:
    print_json(facts) if as_json else tell(text)
