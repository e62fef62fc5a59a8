"""The command `decode`: the images of codes, and the way through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import UsageError
from ..parts.ranges import PATH_STEPS
from .app import USING, app, numbers
from .options import Device, Json, Refining
from .use import done, model_in

if TYPE_CHECKING:
    import numpy as np

    from ..pretrained.image_model import ImageModel


@app.command(group=USING)
def decode(run: str, codes: str | None = None, /, *,
           code: Annotated[list[str] | None, Parameter(negative="", allow_leading_hyphen=True)] = None,
           steps: int | None = None, geodesic: Annotated[bool, Parameter(negative="")] = False, out: str = "decoded.png",
           refining: Refining = Refining(), device: Device = "auto", json: Json = False) -> None:
    """Decode codes to images, or walk through them; the other way of 'reparam encode'.

    Parameters
    ----------
    run
        A run's folder.
    codes
        An .npz, .npy, .csv or .parquet of codes, as 'reparam encode' and the explorer write them.
    code
        The numbers of one code with commas between them, in place of a file. Repeat it for several.
    steps
        Walk through the codes in so many images, the first and the last included.
    geodesic
        Walk the shortest way, along which the images change least.
    out
        A .png for all of them, of a walk in a row; a .gif, .webp or .mp4 that shows one after the other, a walk there and
        back; an .npy for an array, or a folder for one file each.
    """
    import numpy as np

    from ..downstream.geometry import shortest_legs
    from ..models.draw import Draw
    from ..pretrained.outputs import ANIMATED, Output, save_images, there_and_back

    if (codes is None) == (code is None):
        raise UsageError("name a file of codes, or give each as --code=0.5,-1.2,…")
    if steps is not None:
        PATH_STEPS.check("--steps", steps)
    elif geodesic:
        raise UsageError("--geodesic is a way to walk: say in how many images with --steps")
    refining.check()
    to, model = Output.of(out, ANIMATED), model_in(run, device)
    z = _codes(model, codes, code or ())
    if steps is not None:
        z = model.along(np.concatenate(list(shortest_legs(model, z))) if geodesic else z, steps)
    images = model.decode(z, Draw(refine=refining.refine, refine_temperature=refining.refine_temperature))
    save_images(images, to, columns=steps, moving=there_and_back(images[:, None]) if steps is not None else None,
                seconds=0.1 if steps is not None else 0.5)
    done({"out": out, "n": len(images)}, out, json)


def _codes(model: ImageModel, file: str | None, given: list[str] | tuple[()]) -> np.ndarray:
    import math

    import numpy as np

    from ..pretrained.code_files import read_codes

    if file is not None:
        return read_codes(file, model.latent_shape)
    d = math.prod(model.latent_shape)
    found = [numbers(each, "--code takes numbers, such as 0.5,-1.2") for each in given]
    short = next((each for each in found if len(each) != d), None)
    if short is not None:
        raise UsageError(f"a code of this model has {d:,} numbers; --code got {len(short):,}")
    return np.array(found, np.float32).reshape(-1, *model.latent_shape)
