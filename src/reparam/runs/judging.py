"""Judging by eye: images of two sources, shown blind and by lot, and how often one is preferred.

    judgement = Judgement.open(Pools.of("runs/a", "runs/b", n=100, seed=0), path)
    while not judgement.ended:
        shown = judgement.shown(judgement.done)                # one image of each source, left and right by lot
        judgement.answer(judgement.done, "left")
    judgement.result().in_words

What is shown follows from the seed. Every answer is written at once, so that a stopped judgement goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypedDict, cast

import numpy as np
import numpy.typing as npt

from ..data.open import open_images
from ..errors import DataError, UsageError
from ..files.untrusted import Within, read_json
from ..files.writing import write_json
from ..functional.intervals import wilson
from ..pretrained.image_model import ImageModel, load
from ..pretrained.inputs import read_inputs
from ..pretrained.pictures import visible
from ..progress import Reporter, Silent
from .evaluate import measured_rows, own_images
from .folder import Run

Kind = Literal["pairs", "single"]
Answer = Literal["left", "right", "unsure"]
ANSWERS: tuple[Answer, ...] = ("left", "right", "unsure")
Images = npt.NDArray[np.uint8]
REAL = "real images"
"""Name of the images that a model is measured on, where no second source is named."""
UNFIT = "to judge other images, or by another seed, name another file with --out"


@dataclass(frozen=True)
class Pools:
    """n images of each of two sources; of a single image at a time the second is the real ones."""

    names: tuple[str, str]
    images: tuple[Images, Images]
    """(n, H, W, 3) each."""
    seed: int

    @staticmethod
    def of(a: str, b: str | None, *, n: int, seed: int, device: str = "auto", report: Reporter | None = None) -> Pools:
        """n images of each of two runs, model folders, or folders of images; without a second, the real images that the
        first, a run, is measured on. Images of a folder are read as the model beside them reads them.

        Raises:
            UsageError: one source without images of its own.
            DataError: fewer than n images.
        """
        report = report or Silent()
        models = tuple(load(each, device=device) if each is not None and is_model(each) else None for each in (a, b))
        if b is None and models[0] is None:
            raise UsageError(f"{a} is no run, of whose data real images could be taken: name two sources")
        beside = models[0] or models[1]
        first, second = (drawn(model, n, seed + i) if model is not None else
                         chosen(real_images(a, report) if source is None else read_folder(source, beside, report),
                                n, seed + i, source or REAL)
                         for i, (source, model) in enumerate(zip((a, b), models, strict=True)))
        return Pools((a, b or REAL), (visible(first), visible(second)), seed)

    @property
    def fingerprint(self) -> str:
        """Of the images, in hex."""
        digest = hashlib.sha256()
        for each in self.images:
            digest.update(repr(each.shape).encode() + np.ascontiguousarray(each).tobytes())
        return digest.hexdigest()[:16]


def is_model(folder: str) -> bool:
    return (Path(folder) / "config.json").is_file()


def drawn(model: ImageModel, n: int, seed: int) -> Images:
    """n samples, as the model samples by default."""
    return cast(Images, model.sample(n, seed=seed))


def real_images(run: str, report: Reporter) -> Images:
    """The images that a run is measured on."""
    images = own_images(Run.read(run), report, f"reparam judge {run} FOLDER")
    return images.images[measured_rows(images)[0]]


def read_folder(source: str, model: ImageModel | None, report: Reporter) -> Images:
    """Images of a folder or archive, as a model beside it reads them, or else at their commonest size."""
    return (open_images(source) if model is None else read_inputs(model.config, [source], report)).images


def chosen(images: Images, n: int, seed: int, name: str) -> Images:
    """n of some images, by lot and without repetition.

    Raises:
        DataError: there are fewer.
    """
    if len(images) < n:
        raise DataError(f"{name} has {len(images):,} images for {n:,} comparisons: give a smaller -n")
    return images[np.random.default_rng(seed).permutation(len(images))[:n]]


@dataclass(frozen=True)
class Lot:
    """What is shown at one time: an image of the first source on the left or not; or a single image, of the first or not."""

    first: bool
    rows: tuple[int, int]
    """Of the two pools."""


class File(TypedDict):
    """What is kept of a judgement."""

    kind: Kind
    sources: tuple[str, str]
    seed: Annotated[int, Within(0, 2**32)]
    n: Annotated[int, Within(1, 10**6)]
    images: str
    answers: list[Answer]


class Judgement:
    """Answers to what is shown, kept in a file."""

    def __init__(self, pools: Pools, path: Path, kind: Kind, answers: list[Answer]) -> None:
        self.pools, self.path, self.answers = pools, path, answers
        self.kind: Kind = kind
        self.lots = lots(len(pools.images[0]), pools.seed)

    @staticmethod
    def open(pools: Pools, path: str | Path, kind: Kind = "pairs") -> Judgement:
        """A judgement that goes on where its file, if there is one, was left.

        Raises:
            UsageError: the file holds answers about other images.
            ModelFileError: it cannot be read.
        """
        made = Judgement(pools, Path(path), kind, [])
        try:
            found: File = read_json(path, File)
        except FileNotFoundError:
            return made
        if {**found, "answers": [], "sources": ()} != {**made.file(), "answers": [], "sources": ()}:
            about = f"{' and '.join(found['sources'])}, seed {found['seed']}, -n {found['n']}"
            raise UsageError(f"{path} holds {len(found['answers'])} answers about other images ({about}): {UNFIT}")
        made.answers = found["answers"][: made.n]
        return made

    def file(self) -> File:
        """What the file says."""
        return {"kind": self.kind, "sources": self.pools.names, "seed": self.pools.seed, "n": self.n,
                "images": self.pools.fingerprint, "answers": self.answers}

    @property
    def n(self) -> int:
        return len(self.lots)

    @property
    def done(self) -> int:
        """How many have been answered."""
        return len(self.answers)

    @property
    def ended(self) -> bool:
        return self.done >= self.n

    def shown(self, k: int) -> tuple[Images, ...]:
        """The k-th pair, from left to right, or the k-th single image, each (H, W, 3)."""
        lot = self.lots[k]
        both = [pool[row] for pool, row in zip(self.pools.images, lot.rows, strict=True)]
        if self.kind == "single":
            return (both[0 if lot.first else 1],)
        return tuple(both if lot.first else both[::-1])

    def answer(self, k: int, answer: Answer) -> None:
        """Notes the answer to the k-th; of one that is not the next nothing, such as of a key that was pressed twice."""
        if k == self.done and not self.ended:
            self.answers.append(answer)
            self._save()

    def take_back(self) -> None:
        """Forgets the last answer."""
        if self.answers:
            self.answers.pop()
            self._save()

    def result(self) -> Result:
        """What the answers come to."""
        said = Counter(self._meant(lot, answer) for lot, answer in zip(self.lots, self.answers, strict=False))
        return Result(self.kind, self.pools.names, said["for"], said["against"], said["unsure"], self.pools.seed)

    def _meant(self, lot: Lot, answer: Answer) -> str:
        """Of a pair, whether the first source was preferred; of a single image, for which left is "real", whether that was
        right."""
        if answer == "unsure":
            return "unsure"
        left = answer == "left"
        return "for" if (left == lot.first if self.kind == "pairs" else left != lot.first) else "against"

    def _save(self) -> None:
        write_json(self.path, self.file())


def lots(n: int, seed: int) -> list[Lot]:
    """In which order images are shown, and where."""
    rng = np.random.default_rng((seed, 1))
    orders = rng.permutation(n), rng.permutation(n)
    return [Lot(bool(first), (int(a), int(b))) for first, a, b in zip(rng.integers(0, 2, n), *orders, strict=True)]


@dataclass(frozen=True)
class Result:
    """How often the first source was preferred; or of single images, how often it was told whether they are real."""

    kind: Kind
    names: tuple[str, str]
    times: int
    against: int
    unsure: int
    seed: int

    @property
    def decided(self) -> int:
        return self.times + self.against

    @property
    def share(self) -> float | None:
        """Of those that were decided."""
        return self.times / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, Wilson's."""
        return wilson(self.times / self.decided, self.decided) if self.decided else None

    @property
    def differs(self) -> bool:
        """Whether the share is not one half: whether the interval leaves that out."""
        return self.interval is not None and not self.interval[0] <= 0.5 <= self.interval[1]

    def to_dict(self) -> dict[str, object]:
        return {"kind": self.kind, "sources": list(self.names), "n": self.decided + self.unsure, "for": self.times,
                "against": self.against, "unsure": self.unsure, "share": self.share,
                "interval": list(self.interval) if self.interval else None, "differs": self.differs, "seed": self.seed}

    @property
    def in_words(self) -> str:
        """Share, interval and what follows, in two sentences."""
        if self.interval is None:
            return f"Nothing was decided; {self.unsure} of {self.unsure} could not be told."
        (a, b), (low, high) = self.names, self.interval
        figures = (f"{self.times} of {self.decided}, {self.times / self.decided:.0%}, 95 % interval {low:.0%} to "
                   f"{high:.0%}; {self.unsure} could not be told")
        if self.kind == "single":
            follows = ("They can be told apart." if low > 0.5 else "They were taken for one another." if high < 0.5 else
                       "That may be guessing: the interval holds one half.")
            return f"Whether an image was real was told rightly in {figures}. {follows}"
        follows = (f"{a if low > 0.5 else b} is preferred." if self.differs else
                   "Neither is preferred for sure: the interval holds one half.")
        return f"{a} was preferred to {b} in {figures}. {follows}"
