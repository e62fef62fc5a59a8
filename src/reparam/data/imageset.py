"""The set of images that all sources become, and how it is split."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError, UsageError
from ..text import counted
from .archives import Skipped
from .labels import Labels
from .near_copies import groups_of
from .pixels import Pixels

FEWEST = 16
FEWEST_HELD_OUT = 2
HELD_OUT = 0.1

Array: TypeAlias = npt.NDArray[Any]
Flags: TypeAlias = npt.NDArray[np.bool_]
Rows: TypeAlias = npt.NDArray[np.int64]
Shape: TypeAlias = tuple[int, int, int]
Labelled: TypeAlias = tuple[Pixels, Rows]
"""Images (n, H, W, C) and their labels (n,), −1 for none."""
AS_BRIGHTNESS = " in colour, of which this grey model sees the brightness alone"


class Streamed(ABC):
    """Training images that are read when their turn comes, since they are too many to be at hand."""

    skips: list[Skipped]
    """What could not be read so far."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Images of the whole source."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Those that are trained on."""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """(H, W, C) of each."""

    @abstractmethod
    def batches(self, size: int, seed: int, start: int, process: int, processes: int) -> Iterator[Labelled]:
        """Endless batches of so many images, from step `start` on, of one of several processes.

        Each pass visits every image once, but for the few by which one process's share is longer than the smallest.
        """


@dataclass(frozen=True, repr=False)
class ImageSet:
    """Images as they are trained on, and what was done to get them.

    Of images that are `streamed` these are the ones at hand: all that are held out, and some to train on, for whatever looks
    at the data besides training.
    """

    images: Pixels                        # (n, H, W, C) uint8, maybe a read-only memory map
    labels: npt.NDArray[np.int64] | None  # (n,) from 0 to k − 1; -1 for an image without, where others have
    classes: tuple[str, ...]              # (k,) the name of each label; () without labels
    digests: npt.NDArray[np.uint64]       # (n,) hash of each image's pixels
    groups: npt.NDArray[np.uint64]        # (n,) the same number for copies and near copies of an image
    validation: Flags                     # (n,) given as validation data by the source
    test: Flags                           # (n,) given as test data by the source
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]                # what was chosen and done, to be said on screen
    source: str
    fingerprint: str                      # hash of everything above that training depends on
    names: tuple[str, ...]                # of each image: a file's in its folder or archive, an array's row
    factors: Mapping[str, Array] | None = None  # (n,) each: what images were drawn from, where that is known
    redraw: Callable[[Mapping[str, Array]], Pixels] | None = None  # pictures of other factors, where they are drawn
    streamed: Streamed | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def total(self) -> int:
        """Images of the source, at hand or not."""
        return len(self) if self.streamed is None else self.streamed.total

    @property
    def trained_on(self) -> int:
        """Images that training sees."""
        return len(self.split()[0]) if self.streamed is None else self.streamed.count

    def __repr__(self) -> str:
        n, height, width, channels = self.images.shape
        parts = [f"{counted(self.total, 'image')} of {height}×{width}×{channels}"]
        parts += [f"{n:,} of them at hand"] if self.streamed else []
        if self.classes:
            names = ", ".join(self.classes[:5])
            names += ", …" if len(self.classes) > 5 else ""
            parts.append(f"{counted(len(self.classes), 'class', 'classes')} ({names})")
        parts += [counted(len(self.factors), "factor")] if self.factors else []
        parts += [f"{flags.sum():,} {kind}" for kind, flags in (("for validation", self.validation), ("for test", self.test))
                  if flags.any()]
        parts += [f"{counted(len(self.skipped), 'file')} skipped"] if self.skipped else []
        return f"<ImageSet {self.source!r}: {'; '.join(parts)}>"

    @property
    def about_labels(self) -> str:
        """What was noted of the labels, such as why they were left aside; "" when nothing was."""
        return "; ".join(note for note in self.notes if note.startswith("labels "))

    @property
    def about_colour(self) -> str:
        """Of images for a grey model: how many are in colour; "" when none is."""
        return next((note for note in self.notes if note.endswith(AS_BRIGHTNESS)), "")

    def split(self, fraction: float = HELD_OUT) -> tuple[Rows, ...]:
        """Indices of the training, validation and test images, each in ascending order.

        Where the source has validation images, those are they. Otherwise an image is validated on when the number of its
        group / 2**64 < `fraction`: copies and near copies fall on one side, and an image stays on its side as the data
        grow. When that holds out fewer than two images, or leaves fewer to train on, groups of the smallest number are
        added, or left; no more than half of the images for the sake of two. Training images that are copies of
        validation or test images are in none.

        Raises:
            UsageError: `fraction` is not between 0 and 1.
            DataError: fewer than two different images remain besides the test images.
        """
        if not 0 < fraction < 1:
            raise UsageError(f"the validation fraction must lie between 0 and 1, got {fraction}")
        test = np.flatnonzero(self.test)
        rest = np.flatnonzero(~self.test & ~self._copied_from(self.test))
        different = len(np.unique(self.digests[rest]))
        if different < 2:
            raise DataError(f"{self.source} has {different} different images, test images and their copies aside; training "
                            "and validation need two at least")
        given = rest[self.validation[rest]]
        if len(given) and len(given) < len(rest):
            copies = self._copied_from(self.validation)
            training = rest[~self.validation[rest] & ~copies[rest]]
            if len(training) and len(given) >= FEWEST_HELD_OUT:
                return training, given, test
        groups = self.groups[rest]
        if len(np.unique(groups)) < 2:
            groups = self.digests[rest]
        held_out = _at_least(_below(groups, fraction), groups)
        held_out = ~_at_least(~held_out, ~groups)
        return rest[~held_out], rest[held_out], test

    def _copied_from(self, held_out: Flags) -> Flags:
        """Which images, not themselves held out, are exact copies of images that are."""
        return np.isin(self.digests, self.digests[held_out]) & ~held_out


def _below(numbers: npt.NDArray[np.uint64], fraction: float) -> Flags:
    return numbers < np.uint64(min(int(fraction * 2**64), 2**64 - 1))


def _at_least(chosen: Flags, groups: npt.NDArray[np.uint64]) -> Flags:
    """The choice with groups of the smallest numbers added until it has two images, if the others keep more than it."""
    chosen = chosen.copy()
    for group in np.unique(groups[~chosen]):
        if chosen.sum() >= FEWEST_HELD_OUT:
            break
        more = chosen | (groups == group)
        if not more.all() and (more.sum() <= len(more) // 2 or not chosen.any()):
            chosen = more
    return chosen


def in_colour(n: int) -> list[str]:
    """What to note of n images in colour that a grey model reads."""
    return [counted(n, "image is", "images are") + AS_BRIGHTNESS] if n else []


def enough(n: int, skipped: Sequence[Skipped], source: str, least: int = FEWEST) -> None:
    """Raises DataError unless there are images enough: by default, to train on."""
    if n >= least:
        return
    bad = f", {len(skipped)} not" if skipped else ""
    why = "; ".join(f"{each.name}: {each.reason}" for each in skipped[:3])
    raise DataError(f"{source} has {n} readable image{'s' if n != 1 else ''}{bad}; at least "
                    f"{least} {'is' if least == 1 else 'are'} needed. Add images{f' or repair {why}' if skipped else ''}")


def assemble(images: Pixels, digests: npt.NDArray[np.uint64], labels: Labels, validation: Flags, test: Flags,
             skipped: tuple[Skipped, ...], notes: Sequence[str], source: str, names: tuple[str, ...], *,
             joining: bool = False) -> ImageSet:
    """The set with everything that can be said of it; images `joining` a model's are not searched for near copies."""
    said = [*notes]
    if skipped:
        reasons = Counter(each.reason for each in skipped).most_common(3)
        said.append(f"{counted(len(skipped), 'file')} could not be read and left out: "
                    + "; ".join(f"{count} × {reason}" for reason, count in reasons))
    if labels.note:
        said.append(labels.note)
    numbers = labels.numbers
    if numbers is not None and (numbers < 0).any() and labels.classes:
        unlabelled = int((numbers < 0).sum())
        said.append(counted(unlabelled, "image lies in no class's folder and has no label",
                            "images lie in no class's folder and have no label") if labels.given is None else
                    counted(unlabelled, "image has no label", "images have no label"))
    if validation.any():
        said.append(counted(int(validation.sum()), "image is", "images are")
                    + " given as validation data, which is what is held out")
    if test.any():
        said.append(counted(int(test.sum()), "image is", "images are") + " given as test data and not trained on")
    groups = digests.copy() if joining else groups_of(images, digests)
    said += _of_copies(digests, groups, validation, test)
    brightest = int(images.max())
    if brightest < 128:
        said.append(f"the brightest value is {brightest} of 255: if the files use less than their "
                    "type's range, state it with --value-range LO,HI")
    return ImageSet(images, numbers, labels.classes, digests, groups, validation, test, skipped, tuple(said), source,
                    _fingerprint(images.shape, digests, groups, labels, validation, test), names, labels.factors)


def _of_copies(digests: Array, groups: Array, validation: Flags, test: Flags) -> list[str]:
    said: list[str] = []
    copies = len(digests) - len(np.unique(digests))
    if copies:
        said.append(counted(copies, "image is a copy of another", "images are copies of others")
                    + "; copies are split together")
    near = len(np.unique(digests)) - len(np.unique(groups))
    if near:
        said.append(counted(near, "image differs hardly from another", "images differ hardly from others")
                    + ", as if saved anew; such images are split together")
    for kind, held_out, training in (("test", test, ~test), ("validation", validation, ~test & ~validation)):
        leaked = int(np.isin(digests[held_out], digests[training]).sum())
        if leaked:
            said.append(counted(leaked, f"{kind} image also occurs", f"{kind} images also occur")
                        + " among the training images, where copies are left out")
        alike = int(np.isin(groups[held_out], groups[training]).sum()) - leaked
        if alike > 0:
            said.append(counted(alike, f"{kind} image differs", f"{kind} images differ") + " hardly from training images")
    return said


def _fingerprint(shape: tuple[int, ...], digests: Array, groups: Array, labels: Labels, validation: Flags,
                 test: Flags) -> str:
    """Hash of what training depends on. What a set lacks does not count, so that runs of earlier versions go on."""
    named = labels.classes if labels.given is None else ()
    whole = hashlib.blake2b(repr((shape, named)).encode(), digest_size=16)
    numbers = labels.numbers if labels.given is None else labels.given
    parts: list[Array | None] = [digests, test, numbers]
    moved = np.flatnonzero(_below(groups, HELD_OUT) != _below(digests, HELD_OUT))  # to the side of their group
    parts += [moved] if len(moved) else []
    parts += [validation] if validation.any() else []
    parts += [np.array([1])] if np.isin(digests[test], digests[~test]).any() else []
    for part in parts:
        whole.update(b"none" if part is None else np.ascontiguousarray(part).tobytes())
    return whole.hexdigest()
