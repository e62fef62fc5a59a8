"""One run that is explored: its model, its images' codes, and what was found of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from ..data.stream import binarized, to_batch
from ..downstream.columns import as_levels
from ..downstream.directions import Direction, moved, read_directions
from ..downstream.meaning import associations
from ..downstream.neighbourhoods import FEWEST, Computation, map_of
from ..downstream.search import Index
from ..errors import ModelFileError, UsageError
from ..models.codes import Axis, codes_of
from ..models.draw import Draw
from ..models.likelihoods import Likelihood
from ..pretrained.image_model import ImageModel
from ..tensors import evenly, forked_rng
from .planes import NEIGHBOURHOODS, Neighbourhoods, Places, plane_of
from .points import Kept, Points
from .snapshots import Snapshots
from .training import Training

Array = npt.NDArray[Any]
NAMED, LOOKED_AT = 32, 5_000
"""Latents that are named by what they go along with, and images that tell it."""
LEAST_EXPLAINED = 0.1
"""Share of a latent's variance that lies between the values of a column, for the column's name to stand beside it."""
PIXELS = 40_000
"""Of the images that are worked on at a time, between which others are answered: a few hundredths of a second."""
ENDS = (0.5, 99.5)
"""Percentiles of the codes between which a slider moves."""


@dataclass
class Explored:
    """A run and what is computed of it, most of it when it is first asked for."""

    folder: Path
    model: ImageModel
    points: Points | None
    """None where there are no images."""
    kept: Kept | None
    codes: npt.NDArray[np.float32]
    """(n, d) of the points; (0, d) without them or without an encoder."""
    planes: dict[str, Places] = field(default_factory=dict[str, Places])
    computation: Computation | None = None
    """Of the map of neighbourhoods, while it goes on."""
    other: Explored | None = field(default=None, repr=False)
    """The run beside it."""
    overlay: tuple[Ridge, float] | None = None
    """From its codes to those of the run beside it, and how well; see `beside.counterpart`."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def has_neighbourhoods(self) -> bool:
        """Whether there are as many codes as a map of neighbourhoods takes."""
        return len(self.codes) >= FEWEST

    @property
    def d(self) -> int:
        return self.codes.shape[1]

    @property
    def likelihood(self) -> Likelihood | None:
        """None of a GAN."""
        return self.model.vae.likelihood if self.model.network.has_encoder else None

    def plane(self, name: str) -> Places | None:
        """A map by its name; None while another process computes it.

        Raises:
            UsageError: no such map, a package that is missing, or too few images.
        """
        if name not in self.planes:
            made = self._neighbourhoods() if name == NEIGHBOURHOODS else plane_of(name, self.codes, self.model.config.axes)
            if made is None:
                return None
            if len(self.planes) >= 16:  # the oldest makes room
                del self.planes[next(iter(self.planes))]
            self.planes[name] = made
        return self.planes[name]

    def _neighbourhoods(self) -> Neighbourhoods | None:
        """What was kept; else it is computed, and kept when it is ready."""
        codes, kept = self.some_codes(), self.kept
        xy = None if kept is None else kept.arrays.get(NEIGHBOURHOODS)
        if xy is not None and xy.shape == (len(codes), 2):
            return Neighbourhoods(map_of(codes, xy), self.index)
        if self.computation is None:
            self.computation = Computation.begin(codes)
        if not self.computation.map.done():
            return None
        computation, self.computation = self.computation, None  # one that failed is begun anew when it is asked for again
        found = computation.map.result()
        if kept is not None:
            kept.keep(NEIGHBOURHOODS, found.xy.astype(np.float32))
        return Neighbourhoods(found, self.index)

    def close(self) -> None:
        """Ends what is still computed for it."""
        if self.computation is not None:
            self.computation.stop()

    @property
    def piece(self) -> int:
        """Images that are worked on at a time."""
        _, h, w = self.model.config.image_shape
        return min(32, max(1, PIXELS // (h * w)))

    def some_points(self) -> Points:
        """Raises UsageError where there are none."""
        if self.points is None:
            raise UsageError("there are no images here: those that the run was trained on are gone, or it is a GAN, which "
                             "cannot encode them")
        return self.points

    def some_codes(self) -> npt.NDArray[np.float32]:
        """Codes of the points; raises UsageError where there are none."""
        self.some_points()
        if not len(self.codes):
            raise UsageError("this model has no encoder, which would tell the codes of images")
        return self.codes

    @property
    def is_plain(self) -> bool:
        """Whether all numbers are codes, so that a point of a plane is decoded as it is."""
        return self.model.network.latent.space.kind == "real"

    def placed(self, codes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Codes (n, d), brought to where this model's codes can be."""
        z = np.asarray(codes, np.float64).reshape(-1, *self.model.latent_shape)
        if self.model.network.latent.space.kind == "codes":  # vectors of a codebook, between which it decodes as well
            return z.reshape(len(z), -1).astype(np.float32)
        return moved(self.model, z, np.zeros(self.d)).reshape(len(z), -1)

    def shaped(self, codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Codes (n, d) in the latent's shape, (n, *latent)."""
        return codes.reshape(-1, *self.model.latent_shape)

    def decoded(self, codes: npt.ArrayLike, *, detail: bool = True) -> npt.NDArray[np.uint8]:
        """Images (n, H, W, C) of codes (n, d) as they are."""
        z = np.asarray(codes, np.float32).reshape(-1, *self.model.latent_shape)
        return self.as_images(self.model.decode(z, Draw(refine=detail)))

    def as_images(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Grey images with an axis for their channel, as all others have."""
        c, h, w = self.model.config.image_shape
        return images.reshape(-1, h, w, c)

    def written(self, images: Tensor) -> npt.NDArray[np.uint8]:
        """Images (n, C, H, W) of the model as uint8 (n, H, W, C)."""
        return np.rint(images.clamp(0, 1).permute(0, 2, 3, 1).numpy().astype(np.float64) * 255).astype(np.uint8)

    def encoded(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Codes (n, d) of images (n, H, W, C)."""
        return self.model.encode_pixels(to_batch(images)).flatten(1).numpy()

    def nats(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(d,): what each latent says of one image (H, W, C)."""
        x = to_batch(image[None])
        x = binarized(x, shared=True) if self.model.config.recipe.binarize else x
        with torch.inference_mode(), forked_rng():
            torch.manual_seed(0)
            found = codes_of(self.model.vae, x.to(self.model.device)).information
        return found.float().nan_to_num().cpu().numpy()

    @cached_property
    def training(self) -> Training:
        return Training(self.folder)

    @cached_property
    def snapshots(self) -> Snapshots:
        return Snapshots(self.folder)

    @cached_property
    def index(self) -> Index:
        """Raises UsageError where there are no images."""
        return Index.of(self.some_codes())

    @cached_property
    def directions(self) -> dict[str, Direction]:
        """Those that are kept with the model, by name; none where they cannot be read."""
        try:
            return read_directions(self.folder, self.model)
        except ModelFileError:
            return {}

    @cached_property
    def axis_names(self) -> dict[int, str]:
        """For each column that latents go along with, the place of the one that does most."""
        if self.points is None or not len(self.codes):
            return {}
        rows = evenly(len(self.points), LOOKED_AT)
        cells = {name: [known.cells[i] for i in rows] for name, known in self.points.known.items() if name != "part"}
        columns = as_levels(cells, len(rows))
        at = [axis.index for axis in self.model.config.axes[:NAMED]]
        if not columns.names or not at:
            return {}
        names: dict[int, str] = {}
        for each in associations(self.codes[rows][:, at], columns.levels, columns.names):  # the strongest first
            if each.found and each.explained >= LEAST_EXPLAINED and each.column not in names.values():
                names.setdefault(at[each.dimension], each.column)
        return names

    def ends(self, axis: Axis) -> tuple[float, float]:
        """From where to where the slider of a latent moves."""
        if len(self.codes):
            low, high = np.percentile(self.codes[:, axis.index], ENDS)
            if high > low:
                return float(low), float(high)
        return axis.mean - 3 * axis.std, axis.mean + 3 * axis.std

    def summary(self) -> dict[str, Any]:
        """What `hello` says of it."""
        c, h, w = self.model.config.image_shape
        axes: list[dict[str, Any]] = []
        for axis in self.model.config.axes:
            low, high = self.ends(axis)
            axes.append({"index": axis.index, "nats": axis.nats, "mean": axis.mean, "std": axis.std, "low": low,
                         "high": high, "name": self.axis_names.get(axis.index, "")})
        sampling = self.model.config.sampling
        return {"name": self.name, "folder": str(self.folder), "image": [h, w, c],
                "temperature": sampling.temperature if sampling is not None else 1.0,
                "latent": list(self.model.latent_shape), "axes": axes,
                "directions": [{"name": d.name, "accuracy": d.accuracy} for d in self.directions.values()],
                "plain": self.is_plain, "has_curves": self.training.has_curves,
                "has_encoder": self.model.network.has_encoder, "refines": self.model.sampler.refiner is not None}
