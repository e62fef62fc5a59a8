"""`index` and `search`: what the commands of these names do, for runs, models and images in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.imageset import ImageSet
from ..downstream.duplicates import Duplicates, duplicates, threshold_of
from ..downstream.image_index import KINDS, By, ImageIndex, embedded, read_index
from ..downstream.recognition import Recognised, Recogniser
from ..downstream.search import Found
from ..errors import UsageError
from ..pretrained.image_model import ImageModel, load
from ..progress import Reporter, Silent
from ..text import for_shell
from .evaluate import own_images
from .folder import Run
from .measuring import Images, images_for, run_of


def build_index(of: ImageModel | Run | str | Path, images: Images | None = None, *, labels: npt.ArrayLike | None = None,
                features: bool = False, device: str = "auto", report: Reporter | None = None) -> ImageIndex:
    """An index of images by a model's codes, in which others are searched for: of a run's own data, or of `images`, of
    which an array has `labels` (n,). With `features` also by image features, which take far longer.

    Raises:
        ModelFileError: no model there.
        DataError: the run's own data are gone or changed, or images that do not fit the model.
        UsageError: a model without images, a GAN, a model whose codes say nothing, or a missing package.

    Example:
        index = reparam.build_index("runs/photos")     # or of a model in hand and an array
        found = index.search(images, 5)                # rows and distances (n, 5), nearest first
        [index.names[i] for i in found.rows[0]]
    """
    report = report or Silent()
    run = None if isinstance(of, ImageModel) else run_of(of)
    model = of if isinstance(of, ImageModel) else load(run.folder if run is not None else Path(str(of)), device=device)
    _ = model.vae  # which tells a GAN before anything is read
    if images is not None:
        found = images_for(model, images, labels, report)
    elif run is not None:
        found = own_images(run, report, f"reparam index {for_shell(str(run.folder))} DATA")
    else:
        raise UsageError("name images: nothing here tells what the model's own were")
    return ImageIndex.of(model, found, features=features,
                         progress=lambda done, total: report.count("indexing images", done, total))


@dataclass(frozen=True)
class Searched:
    """Queries, and what an index has for each."""

    index: ImageIndex
    queries: ImageSet
    by: By
    found: Found
    recognised: Recognised | None = None
    recogniser: Recogniser | None = None


@dataclass(frozen=True)
class FoundDuplicates:
    """Images, and which of them are duplicates."""

    index: ImageIndex
    images: ImageSet | None
    """None: those of the index."""
    by: By
    duplicates: Duplicates

    @property
    def names(self) -> tuple[str, ...]:
        return self.index.names if self.images is None else self.images.names


def open_index(run: str | Path, model: ImageModel) -> ImageIndex:
    """The index of a run's folder.

    Raises:
        UsageError: there is none.
        ModelFileError: it cannot be read, or is of another model's codes.
    """
    again = f"reparam index {for_shell(str(run))}"
    try:
        return read_index(Path(run), model, again=again)
    except FileNotFoundError:
        raise UsageError(f"{run} has no index yet. Make one first: {again}, for its own images, or {again} DATA, for "
                         "others") from None


def search(index: ImageIndex, queries: ImageSet, *, n: int = 20, by: By = "codes",
           refused: float | None = None) -> Searched:
    """The n nearest images of an index for each query, and with `refused`, the share of images of unknown classes that is to
    be called unknown, the class of each query.

    Raises:
        UsageError: features that the index does not hold, labels that it does not hold, or a number out of its range.
    """
    if n < 1:
        raise UsageError(f"-n must be at least 1, got {n}")
    recogniser = Recogniser.of(index, by, refused=refused) if refused is not None else None
    space = index.space(by)
    placed = space.place(embedded(index.model, queries.images, KINDS[by]))
    found = space.search(placed, min(n, len(index)))
    return Searched(index, queries, by, found, recogniser(placed) if recogniser is not None else None, recogniser)


def find_duplicates(index: ImageIndex, images: ImageSet | None = None, *, by: By = "codes", rate: float = 0.01
                    ) -> FoundDuplicates:
    """Duplicates among the images of an index, or among other images, by what its images tell of distances; of images
    without a duplicate a share of at most `rate` is called one.

    Raises:
        UsageError: features that the index does not hold, or a rate that is no share.
    """
    n = len(index) if images is None else len(images)
    threshold = threshold_of(index, by, n, rate)
    space = index.space(by)
    if images is None:
        return FoundDuplicates(index, None, by, duplicates(space.index.vectors, index.digests, threshold))
    vectors = space.place(embedded(index.model, images.images, KINDS[by]))
    return FoundDuplicates(index, images, by, duplicates(vectors, images.digests.view(np.int64), threshold))
