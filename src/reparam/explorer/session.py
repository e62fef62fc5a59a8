"""What the page can ask of one or two runs: questions in, arrays out, without a word of HTTP.

`Session.steps` answers in steps of a few hundredths of a second each, so that others can be answered between them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.imageset import ImageSet
from ..downstream.neighbourhoods import INSTALL, has_package
from ..errors import DataError, UsageError, nearest
from ..metrics.factors import Table, read_table
from ..parts.ranges import Within
from ..pretrained.image_model import ImageModel, load
from ..progress import Reporter, Silent
from ..runs.evaluate import own_images
from ..runs.folder import Run
from ..runs.measuring import run_of
from . import beside, draws, synthesis, views
from .explored import Explored
from .figures import titles_of
from .planes import NEIGHBOURHOODS, PCA
from .points import Kept, Points, classes_of, codes_of_points, points_of
from .questions import Answer, Question

MOST = 100_000
"""Images, evenly spaced among more."""
HELLO = "hello"


@dataclass
class Session:
    """One or two runs, of images of one size, and the images that they are looked at with."""

    runs: tuple[Explored, ...]
    points: Points | None
    notes: tuple[str, ...] = ()
    """What is not there and why, in sentences."""

    @staticmethod
    def open(folders: Sequence[str | Path], *, table: str | Path | None = None, most: int = MOST, device: str = "auto",
             report: Reporter | None = None) -> Session:
        """Loads the models, and encodes the images of the first run whose model has an encoder and whose data are there.

        Raises:
            ModelFileError: no model there.
            DataError: a table that does not name the images.
            UsageError: not one or two runs, or runs of images of different sizes.
        """
        report = report or Silent()
        if not 1 <= len(folders) <= 2:
            raise UsageError(f"explore one run, or two side by side; got {len(folders)}")
        attributes = read_table(table) if table is not None else None
        runs = [run_of(folder) for folder in folders]
        models = [load(folder, device=device) for folder in folders]
        shapes = [model.config.image_shape for model in models]
        if shapes[0] != shapes[-1]:
            sizes = " and ".join(f"{h}×{w}×{c}" for c, h, w in shapes)
            raise UsageError(f"runs side by side make images of one size; these make {sizes}")
        points, notes = _points(runs, models, attributes, most, report)
        if points is None and attributes is not None:
            notes.append("The table is not used: there are no images here that it could tell of.")
        explored = tuple(_explored(Path(folder), model, points, report)
                         for folder, model in zip(folders, models, strict=True))
        if len(explored) == 2:
            explored[0].other, explored[1].other = explored[1], explored[0]
        return Session(explored, points, tuple(notes))

    def steps(self, question: Question) -> Iterator[Answer | None]:
        """None after each step of the work, and the answer at last.

        Raises:
            ReparamError: what is asked for cannot be, in words for the one who asked.
        """
        op = question.text("op")
        if op not in (HELLO, *OPS):
            raise UsageError(f"unknown op {op!r}{nearest(op, (HELLO, *OPS))}. There are {', '.join((HELLO, *OPS))}")
        made = self.hello() if op == HELLO else OPS[op](self.of(question), question)
        if isinstance(made, Answer):
            yield made
        else:
            yield from made

    def answer(self, question: Question) -> Answer:
        """`steps` at once."""
        return next(answer for answer in self.steps(question) if answer is not None)

    def close(self) -> None:
        """Ends what is still computed in the background."""
        for run in self.runs:
            run.close()

    def of(self, question: Question) -> Explored:
        """The run that is asked about, by default the first."""
        return self.runs[question.whole("run", Within(0, len(self.runs) - 1, whole=True), 0)]

    def hello(self) -> Answer:
        """What there is."""
        first = self.runs[0]
        planes = [] if not len(first.codes) else [
            {"name": PCA, "title": "principal components", "exact": first.is_plain}]
        two = [axis.index for axis in first.model.config.axes[:2]]
        if len(two) == 2:
            planes.append({"name": f"latents:{two[0]},{two[1]}", "title": f"latents {two[0]} and {two[1]}",
                           "exact": first.is_plain})
        if first.has_neighbourhoods:
            planes.append({"name": NEIGHBOURHOODS, "title": "neighbourhoods", "exact": False,
                           **({} if has_package() else {"missing": INSTALL})})
        columns = [] if self.points is None else classes_of(list(self.points.known.values()))
        factors = {} if self.points is None else self.points.images.factors or {}
        columns = [each | {"factor": each["name"] in factors} for each in columns]
        columns += [{"name": name, "title": title, "kind": "number"} for name, title in titles_of(first).items()]
        runs = [run.summary() | {"ways": draws.ways_of(run), "classes": draws.classes_of(run)} for run in self.runs]
        return Answer({"runs": runs, "planes": planes, "training": False, "films": shutil.which("ffmpeg") is not None,
                       "points": {"n": 0 if self.points is None else len(self.points), "columns": columns},
                       "notes": list(self.notes)})


Op = Callable[[Explored, Question], Answer | Iterator[Answer | None]]
OPS: dict[str, Op] = {op.__name__: op for op in (
    views.plane, views.at, views.places, views.decode, views.column, views.thumbs, views.of_row, views.encode,
    views.neighbours, synthesis.mean, synthesis.path, synthesis.direction, synthesis.save, draws.sample,
    draws.variations, beside.counterpart, views.training, views.snapshot)}
"""What can be asked of a run, by name."""


def _points(runs: Sequence[Run | None], models: Sequence[ImageModel], table: Table | None, most: int, report: Reporter
            ) -> tuple[Points | None, list[str]]:
    """The images of the first run that has some and can encode them; and why there are none."""
    notes: list[str] = []
    for run, model in zip(runs, models, strict=True):
        images: ImageSet | None = None
        if not model.network.has_encoder:
            notes.append("A GAN cannot encode images, so that there is no map of them.")
        elif run is None:
            notes.append("Nothing beside this model tells what its images were, so that there is no map of them.")
        else:
            try:
                images = own_images(run, report, "")
            except DataError:
                notes.append("The images that this run was trained on are gone or changed, so that there is no map of them.")
        if images is not None:
            return points_of(images, table, most), notes
    return None, list(dict.fromkeys(notes))


def _explored(folder: Path, model: ImageModel, points: Points | None, report: Reporter) -> Explored:
    if points is None or not model.network.has_encoder:
        return Explored(folder, model, points, None, np.zeros((0, int(np.prod(model.latent_shape))), np.float32))
    kept = Kept.open(folder, model, points)
    return Explored(folder, model, points, kept, codes_of_points(kept, report))
