"""Where what a model makes is written: a picture, an animation, an array, a table of codes, or a folder of images."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ..data.imageset import ImageSet
from ..errors import ReparamError, UsageError
from ..files.tables import need_parquet, write_table
from ..files.writing import replacing
from ..text import printable
from .pictures import grid

FOLDER = "a folder"
PICTURES = (".png", ".npy", FOLDER)
ANIMATED = (".png", ".gif", ".webp", ".mp4", ".npy", FOLDER)
TABLES = (".npz", ".csv", ".parquet")
SOFTWARE = "reparam"
"""What the PNG files in a folder name as their maker, by which a later command knows that it may replace them."""


@dataclass(frozen=True)
class Output:
    """A place to write to, and in which form."""

    path: Path
    form: str
    """An ending such as ".png", or a folder."""

    @staticmethod
    def of(out: str, accepted: Sequence[str]) -> Output:
        """The place that a user names, looked at before anything is made for it.

        Raises:
            UsageError: another ending, a program or package that is missing, or a folder of other files.
        """
        path, form = Path(out), Path(out).suffix.lower()
        if out.endswith(("/", os.sep)) or path.is_dir() or (not form and FOLDER in accepted):
            form = FOLDER
        if form not in accepted:
            hint = f"; for a folder of that name: {out}/" if form and FOLDER in accepted else ""
            raise UsageError(f"--out must be {_either(accepted)}; got {out!r}{hint}")
        if form == FOLDER:
            _check_replaceable(path)
        elif form == ".mp4" and shutil.which("ffmpeg") is None:
            raise UsageError(".mp4 is written by ffmpeg, which is not on the PATH: install it, or write a .gif or .webp")
        elif form == ".parquet":
            need_parquet("write a .csv or .npz")
        return Output(path, form)


def _either(accepted: Sequence[str]) -> str:
    forms = [f"an {f}" if f in (".npy", ".npz", ".mp4") else f"a {f}" if f != FOLDER else f for f in accepted]
    return " or ".join([", ".join(forms[:-1]), forms[-1]] if len(forms) > 1 else forms)


def save_images(images: np.ndarray, to: Output, *, columns: int | None = None, names: Sequence[str] | None = None,
                shown: np.ndarray | None = None, moving: Iterable[np.ndarray] | None = None,
                seconds: float = 0.1) -> None:
    """Images (n, H, W[, C]) uint8 to a place.

    An array or a folder gets them as they are; in a folder each has a file, under its name if `names` are given. A picture
    shows them in `columns`, or what is `shown` in their stead. An animation shows each for so many `seconds`, or one set of
    images `moving` after the other.

    Raises:
        ReparamError: the disk is full or the folder cannot be written to. What stood there is untouched.
    """
    if to.form == FOLDER:
        _save_folder(images, to.path, names)
    elif to.form == ".npy":
        with replacing(to.path) as temporary, temporary.open("wb") as f:
            np.save(f, images)
    elif to.form == ".png":
        with replacing(to.path) as temporary:
            grid(images if shown is None else shown, columns).save(temporary, "PNG", optimize=True)
    else:
        frames = images[:, None] if moving is None else moving
        save_animation([grid(each, side=256 if len(each) == 1 else 128) for each in frames], to, seconds)


def there_and_back(frames: np.ndarray) -> np.ndarray:
    """The frames of a path and of the way back, which loop without a jump."""
    return np.concatenate([frames, frames[-2:0:-1]])


def save_animation(frames: Sequence[Image.Image], to: Output, seconds: float) -> None:
    """Frames of one size, each shown for so many seconds: an endless loop, except as .mp4."""
    with replacing(to.path) as temporary:
        if to.form == ".mp4":
            _encode_video(frames, temporary, 1 / seconds)
        else:
            grey = all(_is_grey(frame) for frame in frames)  # whose 256 levels a GIF can hold
            first, *rest = [frame.convert("L") if grey and to.form == ".gif" else frame for frame in frames]
            how: dict[str, Any] = {"lossless": True} if to.form == ".webp" else {}
            first.save(temporary, to.form[1:].upper(), save_all=True, append_images=rest, duration=round(1000 * seconds),
                       loop=0, **how)


def _is_grey(picture: Image.Image) -> bool:
    x = np.asarray(picture)
    return bool((x == x[..., :1]).all())


def _encode_video(frames: Sequence[Image.Image], path: Path, fps: float) -> None:
    """H.264 or what else ffmpeg writes into .mp4; players want sides that are even."""
    x = np.stack([np.asarray(frame) for frame in frames])
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), constant_values=255)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{x.shape[2]}x{x.shape[1]}",
               "-r", f"{fps:g}", "-i", "-", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4",
               str(path.absolute())]
    done = subprocess.run(command, input=x.tobytes(), capture_output=True, check=False)
    if done.returncode:
        said = printable(done.stderr.decode(errors="replace").strip().split("\n")[-1])
        raise ReparamError(f"ffmpeg could not write the video ({said}): write a .gif or .webp instead")


def _save_folder(images: np.ndarray, folder: Path, names: Sequence[str] | None) -> None:
    """PNG files with all channels that an image has; NPY files of more than four channels, which PNG cannot hold."""
    suffix = ".npy" if images.ndim == 4 and images.shape[3] > 4 else ".png"
    files = [f"{i:05}{suffix}" for i in range(len(images))] if names is None else safe_names(names, suffix)
    made = PngImagePlugin.PngInfo()
    made.add_text("Software", SOFTWARE)
    with _replacing_all(folder) as temporary:
        for name, image in zip(files, images, strict=True):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            if suffix == ".npy":
                np.save(temporary / name, image)
            else:
                flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
                Image.fromarray(flat).save(temporary / name, "PNG", optimize=True, pnginfo=made)


def safe_names(names: Sequence[str], suffix: str) -> list[str]:
    """Files for images of these names, inside one folder: different for all, and with this suffix.

    Folders that all names share are left out, as are steps upwards and roots.
    """
    paths = [[_safe(part) for part in PurePosixPath(name.replace("\\", "/")).parts if part.strip("./~")] or ["image"]
             for name in names]
    while all(len(parts) > 1 for parts in paths) and len({parts[0] for parts in paths}) == 1:
        paths = [parts[1:] for parts in paths]
    taken, safe = set[str](), list[str]()
    for parts in paths:
        folders = [f"{part}_" if part.casefold().endswith(suffix) else part for part in parts[:-1]]  # no file is called so
        stem = "/".join([*folders, PurePosixPath(parts[-1]).stem])
        name, again = stem, 1
        while name.casefold() in taken:  # some file systems know no case
            again += 1
            name = f"{stem}-{again}"
        taken.add(name.casefold())
        safe.append(name + suffix)
    return safe


def _safe(part: str) -> str:
    """A file's name without what a system could take for more than a name."""
    return re.sub(r'[\x00-\x1f\x7f<>:"|?*]', "_", part).lstrip(".").rstrip(". ") or "_"


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder, or a file with an ending")
    other = next((file for file in sorted(folder.rglob("*")) if not (file.is_dir() or _is_ours(file))), None)
    if other is not None:
        raise UsageError(f"{folder} holds other files, such as {other.relative_to(folder)}, which would lie among the new "
                         "ones: name a new folder, or empty this one")


def _is_ours(file: Path) -> bool:
    if file.is_symlink() or not file.is_file() or file.suffix.lower() != ".png":
        return False
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            return picture.info.get("Software") == SOFTWARE
    except Exception:  # what cannot be read is not what was written
        return False


@contextlib.contextmanager
def _replacing_all(folder: Path) -> Generator[Path]:
    """Yields a new folder beside `folder`; on success what lies in it takes the place of all that lies in `folder`."""
    target = folder.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            yield Path(temporary)
            target.mkdir(exist_ok=True)
            _check_replaceable(target)
            for old in target.iterdir():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            for new in Path(temporary).iterdir():
                new.rename(target / new.name)
    except OSError as e:
        raise ReparamError(f"cannot write {folder}: {e.strerror or e}. Free some space or name another folder, then run the "
                           "command again.") from e


def save_codes(z: np.ndarray, found: ImageSet, to: Output) -> None:
    """Codes (n, *latent) with the name of each image, and its label where there are labels.

    An .npz holds `names`, `labels` and `z`; a table has a column for each number of a code, z0, z1, ….

    Raises:
        ReparamError: the disk is full or the folder cannot be written to. What stood there is untouched.
    """
    labels = _labels(found)
    if to.form == ".npz":
        arrays = {"names": np.array(found.names), "z": z} | ({} if labels is None else {"labels": np.array(labels)})
        with replacing(to.path) as temporary, temporary.open("wb") as f:
            np.savez(f, **arrays)  # pyright: ignore[reportArgumentType]
        return
    flat = z.reshape(len(z), -1).T
    write_table(to.path, {"name": found.names, **({} if labels is None else {"label": labels}),
                          **{f"z{i}": column for i, column in enumerate(flat)}})


def check_files(sources: Sequence[str], names: Sequence[str], target: str) -> list[Path]:
    """The files of images that were read from a folder or one by one, to be copied into a folder that is new or empty.

    Raises:
        UsageError: images of an archive or array, which are no files, or a target that holds something.
    """
    if Path(target).exists() and (not Path(target).is_dir() or any(Path(target).iterdir())):
        raise UsageError(f"{target} exists and is not an empty folder: name a new one for the sorted copies")
    first = Path(sources[0]).expanduser()
    files = [first / name for name in names] if len(sources) == 1 and first.is_dir() else \
        [Path(name).expanduser() for name in names]
    gone = next((file for file in files if not file.is_file() or (file == first and len(files) > 1)), None)
    if gone is not None:
        raise UsageError(f"sorted copies are made of files, and {gone} is none: name a folder of images, or image files "
                         "(of an archive, unpack it)")
    return files


def sort_files(files: Sequence[Path], folders: Sequence[str], target: Path) -> None:
    """Copies each file into its folder within `target`; the files themselves stay as they are.

    Raises:
        ReparamError: the disk is full or the folder cannot be written to.
    """
    stems = safe_names([str(file) for file in files], ".")
    named = dict(zip(dict.fromkeys(folders), safe_names(list(dict.fromkeys(f.replace("/", "_") for f in folders)), "."),
                     strict=False))
    with _replacing_all(target) as temporary:
        for file, stem, folder in zip(files, stems, folders, strict=True):
            copy = temporary / named[folder].rstrip(".") / (stem.rstrip(".") + file.suffix)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _labels(found: ImageSet) -> list[str] | list[int] | None:
    """Names of classes, or numbers where they have none; "" for an image without."""
    if found.labels is None:
        return None
    if not found.classes:
        return found.labels.tolist()
    return [found.classes[i] if i >= 0 else "" for i in found.labels.tolist()]
