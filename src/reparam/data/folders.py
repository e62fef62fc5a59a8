"""What the folders in which images lie say of them: labels, splits, and what is no data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

TRAINING = frozenset({"train", "training"})
VALIDATION = frozenset({"val", "valid", "validation"})
TESTING = frozenset({"test", "testing"})
_SPLITS = TRAINING | VALIDATION | TESTING
_OF_DEVICES = frozenset({"__macosx", "@eadir", "@__thumb", "#recycle", "@recycle", "$recycle.bin",
                         "system volume information"})
_RUN, _IN_A_RUN = "run.json", frozenset({"config.json", "metrics.jsonl"})

Folders = list[tuple[str, ...]]


class Said(NamedTuple):
    """What folders, or columns beside them, say of images."""

    labels: npt.NDArray[np.int64] | None  # (n,); −1 for an image outside every class's folder
    classes: tuple[str, ...]
    validation: npt.NDArray[np.bool_]     # (n,)
    test: npt.NDArray[np.bool_]           # (n,)
    note: str = ""                        # what was done to get the labels
    factors: dict[str, npt.NDArray[Any]] | None = None  # (n,) each: what else is known of the images


def made_by_a_device(parts: Iterable[str]) -> bool:
    """Whether a path is hidden, or leads through a folder where cameras, NAS boxes and systems keep copies."""
    return any(part != ".." and (part.startswith(".") or part.lower() in _OF_DEVICES) for part in parts)


def runs_among(names: Iterable[str]) -> list[str]:
    """Folders that hold a run of this product, of files by their names with "/"."""
    inside: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        if file == _RUN or file in _IN_A_RUN:
            inside.setdefault(folder, set()).add(file)
    return sorted(folder for folder, files in inside.items() if _RUN in files and files & _IN_A_RUN)


def is_below(name: str, folders: Iterable[str]) -> bool:
    """Whether a file lies in or below one of the folders; "" is the root."""
    return any(not folder or name.startswith(f"{folder}/") for folder in folders)


def read_folders(names: Sequence[str]) -> Said:
    """Labels, their names and splits, read off the folders in which files lie.

    The first folders that differ are the splits, where they are named so, or else the labels; splits may also lie
    below the labels, as in cat/train and cat/test. A folder that all images of a split share says nothing.
    """
    folders = _without_shared([tuple(name.split("/")[:-1]) for name in names])
    validation = test = np.zeros(len(names), np.bool_)
    level = _split_level(folders)
    if level is not None:
        splits = [p[level].lower() if len(p) > level else "" for p in folders]
        validation = np.array([split in VALIDATION for split in splits])
        test = np.array([split in TESTING for split in splits])
        if (validation | test).all():  # nothing to train on: all of it is data
            validation = test = np.zeros(len(names), np.bool_)
        folders = [p[:level] + p[level + 1:] if split in _SPLITS else p
                   for p, split in zip(folders, splits, strict=True)]
        folders = _without_shared(_without_own(folders, splits))
    found = {parts[0] for parts in folders if parts}
    if len(found) < 2:
        return Said(None, (), validation, test)
    classes = sorted(found, key=lambda c: (not c.isdecimal(), int(c) if c.isdecimal() else 0, c))
    number = {label: i for i, label in enumerate(classes)}
    labels = np.array([number[p[0]] if p else -1 for p in folders], np.int64)
    return Said(labels, tuple(classes), validation, test)


def _split_level(folders: Folders) -> int | None:
    """At which level the folders are named by splits: the first, or the one below labels."""
    tops = {p[0].lower() for p in folders if p}
    held_out = VALIDATION | TESTING
    if tops and (tops <= _SPLITS or (tops & TRAINING and tops & held_out)):
        return 0
    below = {p[1].lower() if len(p) > 1 else "" for p in folders}
    return 1 if below <= _SPLITS and below & TRAINING and below & held_out else None


def _without_own(folders: Folders, splits: Sequence[str]) -> Folders:
    """Without the folders that all images of one split share and no other split has, as in train/train and test/test."""
    left = list(folders)
    while True:
        firsts = {split: {left[i][:1] for i, s in enumerate(splits) if s == split} for split in set(splits)}
        own = {split for split, found in firsts.items() if len(found) == 1
               and not any(found & firsts[other] for other in firsts if other != split)
               and all(len(left[i]) > 1 for i, s in enumerate(splits) if s == split)}
        if not own:
            return left
        left = [p[1:] if split in own else p for p, split in zip(left, splits, strict=True)]


def _without_shared(folders: Folders) -> Folders:
    while folders and folders[0] and all(p[:1] == folders[0][:1] for p in folders):
        folders = [parts[1:] for parts in folders]
    return folders
