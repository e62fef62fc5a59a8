"""A model's index: the codes of many images, whitened by their information, with names, labels and thumbnails.

Of each kind of vector, codes or image features, the direction counts, from the mean of the model's training codes or of the
index's features: vectors have length 1, so that distances go from 0 to 2 and are 1.41 between images that have nothing in
common. Of both, the root mean square.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..data.imageset import ImageSet
from ..data.near_copies import groups_of
from ..data.stream import to_batch
from ..errors import DataError, ModelFileError, UsageError
from ..pretrained.image_model import ImageModel
from ..pretrained.layout import Layout
from ..pretrained.pictures import visible
from .approximate import Graph, has_graphs
from .saved import read_fitted, save_fitted
from .search import Found, Index
from .statistics import code_scale, has_features, image_features, scaled_codes

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
By = Literal["codes", "features", "both"]
KINDS: dict[By, tuple[str, ...]] = {"codes": ("codes",), "features": ("features",), "both": ("codes", "features")}
FILE = "index.safetensors"
"""Beside the model; a graph of codes is index-codes.usearch."""
WHAT = "an index"
EXACT = 100_000
"""Images up to which all are compared."""
SIDE = 64
"""Of a thumbnail, pixels; smaller images are kept as they are."""


@dataclass(frozen=True)
class Pieces:
    """Many short strings of bytes in one array."""

    data: npt.NDArray[np.uint8]
    ends: Integers
    """(n,), where each ends."""

    @staticmethod
    def of(pieces: Sequence[bytes]) -> Pieces:
        return Pieces(np.frombuffer(bytearray().join(pieces), np.uint8), np.cumsum([len(p) for p in pieces], dtype=np.int64))

    def __getitem__(self, i: int) -> bytes:
        begin = int(self.ends[i - 1]) if i else 0
        return self.data[begin : int(self.ends[i])].tobytes()

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def fits(self) -> bool:
        """Whether the ends lie within the data, in order."""
        edges = np.concatenate([[0], self.ends, [len(self.data)]])
        return bool((np.diff(edges) >= 0).all())


@dataclass(frozen=True)
class Space:
    """Vectors of one kind or of both, as they are compared."""

    centres: tuple[Tensor, ...]
    index: Index
    graph: Graph | None = None

    @staticmethod
    def of(kinds: Mapping[str, Float[Tensor, "n _"]], graph: Graph | None = None) -> Space:
        """Of the vectors of one kind or more; codes have their centre at 0."""
        centres = tuple(v.mean(0) if kind == "features" else v.new_zeros(v.shape[1]) for kind, v in kinds.items())
        return Space(centres, Index.of(_placed(kinds, centres)), graph)

    def place(self, kinds: Mapping[str, Float[Tensor, "q _"]]) -> Float[Tensor, "q d"]:
        """Other vectors of the same kinds."""
        return _placed(kinds, self.centres)

    def search(self, queries: Tensor, k: int) -> Found:
        """The k nearest of each query (q, d): exactly, or as far as the graph leads, where there is one."""
        if self.graph is None:
            return self.index.search(queries, k)
        return self.graph.search(self.index.vectors, queries, k)


def _placed(kinds: Mapping[str, Tensor], centres: Sequence[Tensor]) -> Tensor:
    units = [F.normalize(v - centre, dim=1) for v, centre in zip(kinds.values(), centres, strict=True)]
    return torch.cat(units, 1) / len(units) ** 0.5


class Facts(TypedDict):
    """What a saved index says besides its arrays."""

    classes: list[str]
    source: str
    graphs: dict[str, str]
    """Digests of the graphs beside it, by what they are of."""


@dataclass(frozen=True)
class ImageIndex:
    """n images that can be searched among."""

    model: ImageModel
    names: tuple[str, ...]
    labels: Integers
    """(n,), −1 for none."""
    classes: tuple[str, ...]
    digests: Integers
    """(n,), of pixels."""
    groups: Integers
    """(n,), the same number for copies and near copies."""
    held_out: npt.NDArray[np.bool_]
    """(n,), images that calibrations ask with: of the model's own data, those that it was not trained on."""
    vectors: Mapping[str, Tensor]
    """(n, d) each: codes less the model's mean, in the units of `code_scale`; image features where they were asked for."""
    thumbnails: Pieces
    """WebP files."""
    source: str
    graphs: Mapping[str, Graph] = field(default_factory=dict[str, Graph])
    _spaces: dict[str, Space] = field(default_factory=dict[str, Space], repr=False, compare=False)

    @staticmethod
    def of(model: ImageModel, images: ImageSet, *, features: bool = False,
           progress: Callable[[int, int], None] | None = None) -> ImageIndex:
        """An index of a model's images; with `features` also by image features, which take far longer.

        Raises:
            UsageError: a GAN, a model whose codes say nothing, or a package for features that is missing.
        """
        if features and not has_features():
            raise UsageError('image features need a package: pip install "reparam[features]", or leave --features out')
        vectors = embedded(model, images.images, ("codes", "features") if features else ("codes",), progress)
        n, labels = len(images), images.labels
        classes = images.classes or tuple(map(str, range(int(labels.max(initial=-1)) + 1))) if labels is not None else ()
        return ImageIndex(
            model, images.names, labels if labels is not None else np.full(n, -1), classes, images.digests.view(np.int64),
            groups_of(images.images, images.digests).view(np.int64), _held_out(images), vectors,
            Pieces.of([thumbnail(image) for image in images.images]), images.source).with_graphs()

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.has_labels else ""
        return f"<ImageIndex of {self.source!r}: {len(self):,} images by {' and '.join(self.vectors)}{classes}>"

    @property
    def has_labels(self) -> bool:
        return bool((self.labels >= 0).any())

    def label(self, row: int) -> str:
        """The name of an image's class; "" without one."""
        return self.classes[self.labels[row]] if self.labels[row] >= 0 else ""

    def with_graphs(self) -> ImageIndex:
        """With a graph for each kind of vector where there are too many to compare all, and usearch is installed."""
        if len(self) <= EXACT or not has_graphs():
            return self
        graphs = {kind: Graph.of(Space.of({kind: v}).index.vectors) for kind, v in self.vectors.items()}
        return replace(self, graphs=graphs, _spaces={})

    def space(self, by: By = "codes") -> Space:
        """The vectors that images are compared by. Those of both have no graph: all are compared.

        Raises:
            UsageError: another word, or features that the index does not hold.
        """
        if by not in KINDS:
            raise UsageError(f"images are compared by codes, features or both; got {by!r}")
        if "features" in KINDS[by] and "features" not in self.vectors:
            raise UsageError("this index holds no image features: make it again with --features, or compare by codes")
        if by not in self._spaces:
            self._spaces[by] = Space.of({kind: self.vectors[kind] for kind in KINDS[by]}, self.graphs.get(by))
        return self._spaces[by]

    def place(self, images: npt.ArrayLike, by: By = "codes") -> Float[Tensor, "q d"]:
        """Images of the model's size as vectors of `space(by)`.

        Raises:
            DataError: images that do not fit the model.
        """
        space, (_, x) = self.space(by), Layout.read(images, self.model.config.image_shape)
        return space.place(_embed(self.model, x, KINDS[by]))

    def search(self, images: npt.ArrayLike, k: int = 20, by: By = "codes") -> Found:
        """The k nearest of each image, nearest first: rows of the index, and distances from 0 to 2.

        Raises:
            DataError: images that do not fit the model.
            UsageError: features that the index does not hold, or a k that is more than its images.
        """
        return self.space(by).search(self.place(images, by), k)

    def save(self, folder: Path) -> None:
        """Raises ReparamError when the disk is full; what stood there is as it was."""
        digests = {kind: graph.save(graph_file(folder, kind)) for kind, graph in self.graphs.items()}
        names = Pieces.of([name.encode("utf-8", "surrogatepass") for name in self.names])
        facts: Facts = {"classes": list(self.classes), "source": self.source, "graphs": digests}
        half = {"features": self.vectors["features"].half()} if "features" in self.vectors else {}
        save_fitted(folder / FILE, WHAT, self.model, {
            "names": names.data, "name_ends": names.ends, "labels": self.labels, "digests": self.digests,
            "groups": self.groups, "held_out": self.held_out.astype(np.uint8), "codes": self.vectors["codes"], **half,
            "thumbnails": self.thumbnails.data, "thumbnail_ends": self.thumbnails.ends}, facts)


def graph_file(folder: Path, kind: str) -> Path:
    return folder / f"index-{kind}.usearch"


def read_index(folder: Path, model: ImageModel, *, again: str) -> ImageIndex:
    """The index that was saved for this model; `again` is the command that makes it.

    Raises:
        FileNotFoundError: there is none.
        ModelFileError: it cannot be read, or is of another model's codes.
    """
    a, facts = read_fitted(folder / FILE, WHAT, model, Facts, again=again)
    wrong = ModelFileError(f"{folder / FILE} does not hold an index of this model's images. Write it again with: {again}")
    try:
        names, thumbnails = Pieces(a["names"], a["name_ends"]), Pieces(a["thumbnails"], a["thumbnail_ends"])
        n, classes = len(names), tuple(facts["classes"])
        each = [a[key] for key in ("labels", "digests", "groups", "held_out", "codes", "thumbnail_ends")]
        fits = (n and all(len(rows) == n for rows in each) and names.fits and thumbnails.fits
                and a["codes"].shape == (n, len(code_scale(model)[0])) and a["labels"].min() >= -1
                and a["labels"].max() < len(classes)
                and ("features" not in a or (a["features"].ndim == 2 and len(a["features"]) == n)))
        said = tuple(names[i].decode("utf-8", "surrogatepass") for i in range(n)) if fits else ()
    except (KeyError, ValueError, IndexError, TypeError) as e:
        raise wrong from e
    if not fits:
        raise wrong
    vectors = {kind: torch.from_numpy(a[kind]).float() for kind in ("codes", "features") if kind in a}
    graphs = {kind: Graph.load(graph_file(folder, kind), tuple(vectors[kind].shape), digest, again=again)  # pyright: ignore
              for kind, digest in facts["graphs"].items() if kind in vectors and has_graphs()}
    return ImageIndex(model, said, a["labels"].astype(np.int64), classes, a["digests"], a["groups"],
                      a["held_out"].astype(bool), vectors, thumbnails, facts["source"], graphs)


def embedded(model: ImageModel, images: npt.NDArray[np.uint8], kinds: Sequence[str],
             progress: Callable[[int, int], None] | None = None) -> dict[str, Tensor]:
    """Vectors (n, d) of each kind of images (n, H, W, C), uint8.

    Raises:
        UsageError: a GAN, or a model whose codes say nothing.
    """
    pieces: list[dict[str, Tensor]] = []
    size = 4 * model.at_once
    for begin in range(0, len(images), size):
        pieces.append(_embed(model, to_batch(np.array(images[begin : begin + size])), kinds))
        if progress:
            progress(min(begin + size, len(images)), len(images))
    return {kind: torch.cat([piece[kind] for piece in pieces]) for kind in kinds}


def _embed(model: ImageModel, x: Tensor, kinds: Sequence[str]) -> dict[str, Tensor]:
    _ = model.vae  # which tells a GAN
    if not len(code_scale(model)[0]):
        raise UsageError("no latent of this model carries information, so that its codes tell images apart by nothing: "
                         "train it again; 'reparam evaluate' says what is wrong")
    makers: dict[str, Callable[[], Tensor]] = {"codes": lambda: scaled_codes(model, x) - _centre(model),
                                               "features": lambda: image_features(x, model.device)}
    return {kind: makers[kind]().float().cpu() for kind in kinds}


def _centre(model: ImageModel) -> Tensor:
    """(d,) the mean of the training images' codes, in the units of `code_scale`."""
    rows, scale = code_scale(model)
    mean = {axis.index: axis.mean for axis in model.config.axes}
    return torch.tensor([mean[row] for row in rows.tolist()]) * torch.from_numpy(scale).float()


def _held_out(images: ImageSet) -> npt.NDArray[np.bool_]:
    held_out = np.zeros(len(images), bool)
    try:
        _, validation, test = images.split()
    except DataError:  # too few images to hold any out
        return held_out
    held_out[validation] = held_out[test] = True
    return held_out


def thumbnail(image: npt.NDArray[np.uint8]) -> bytes:
    """A small WebP file of an image (H, W, C); without loss where images are tiny."""
    picture = Image.fromarray(visible(image[None])[0])
    picture.thumbnail((SIDE, SIDE))
    data = io.BytesIO()
    picture.save(data, "WEBP", lossless=max(picture.size) <= SIDE // 2, quality=80, method=2)
    return data.getvalue()
