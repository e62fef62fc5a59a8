"""The commands that move images along attributes: direction finds them, edit and mix use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..errors import ModelFileError, UsageError
from ..parts.ranges import COLUMNS, DETAIL
from ..progress import aligned, tell
from ..text import counted, for_shell
from .app import LATENTS, app, print_json
from .changes import changes_of, finite, strength_in
from .options import Device, Json
from .use import done, image_for, images_for, model_in, opened, skipped_of

if TYPE_CHECKING:
    import numpy as np

    from ..data.imageset import ImageSet
    from ..downstream.attributes import Attribute, Column
    from ..downstream.directions import Direction
    from ..pretrained.image_model import ImageModel


@app.command(group=LATENTS)
def direction(run: str, /, *data: str, label: str | None = None, against: str | None = None, table: str | None = None,
              column: str | None = None, value: str | None = None, keep: str | None = None,
              every: Annotated[bool, Parameter(name="--all", negative="")] = False, name: str | None = None,
              out: str | None = None, table_out: str | None = None, device: Device = "auto", json: Json = False) -> None:
    """Find what to add to a code for an attribute, and keep it with the model; without DATA, list what is kept.

    Parameters
    ----------
    run
        A run's folder.
    data
        Images of which the attribute is known, as for training; or two such sources: with the attribute, and without.
    label
        The class, of the data's sub-folders or labels, that has the attribute.
    against
        The class or value that has it not; by default all others.
    table
        A .csv or .parquet that says what is known of each image: its name as in the data, then a column for each attribute.
    column
        The table's column.
    value
        The value that has the attribute; by default the higher one of two, or the upper half of numbers.
    keep
        Columns or classes that the direction leaves alone, separated by commas.
    every
        One for each class, or for each column and value of the table; each leaves the other columns alone.
    name
        What to call it; by default as the class, or as column:value.
    out
        A .png of an ordinary image moved along each, from -2 to 2; by default directions.png in the run's folder.
    table_out
        A table of the directions, a .csv or .parquet; by default none.
    """
    from ..files.tables import table_path
    from ..pretrained.outputs import Output

    table_to = table_path(table_out) if table_out is not None else None
    if not data:
        _list(run, device, table_to, json)
        return
    kept = () if keep is None else tuple(each.strip() for each in keep.split(","))
    wished = _Wish(label, against, column, value, kept, every, name)
    wished.check(len(data), table)
    if len(data) == 2:
        wished.label = name  # as `of_two` calls the first source's images
    to = Output.of(out or str(Path(run) / "directions.png"), (".png",))
    model = model_in(run, device)
    images, columns, told = _examples(model, data, table, name)
    found, failed = _find(model, images, columns, wished)
    _keep(run, model, images, found, to.path)
    _write(found, table_to)
    if json:
        print_json({"directions": [_facts(each) for each in found], "left_out": failed, "picture": str(to.path)})
        return
    tell(*told, *_table(found), *(f"left out {each}: {why}" for each, why in failed.items()),
         f"{counted(len(found), 'direction')} kept with the model; {to.path} shows each from -2 to 2. Next:",
         f"  reparam edit {for_shell(run)} PHOTO --add {for_shell(found[0].name)}=1.5")


@app.command(group=LATENTS)
def edit(run: str, /, *images: str, add: Annotated[list[str] | None, Parameter(negative="")] = None, detail: float = 1.0,
         steps: int = 7, out: str = "edit.png", device: Device = "auto", json: Json = False) -> None:
    """Move images along directions that were found by 'reparam direction'.

    Parameters
    ----------
    run
        A run's folder.
    images
        Image files, or one source of data as for training: a folder, archive, .npy or .npz.
    add
        A direction and how far to go, such as smiling=1.5 or glasses=-1; 1 by default. Repeat it for several at once.
    detail
        How much to add back of what reconstruction loses of each image, from 0 to 1.
    steps
        Images in a row from the original to the edit, both included, or in an animation of the way.
    out
        A .png of a row for each image, a .gif, .webp or .mp4 that goes there and back, or an .npy or folder of the edits.
    """
    from ..downstream.directions import walk
    from ..pretrained.outputs import ANIMATED, FOLDER, Output, save_images, there_and_back

    COLUMNS.check("--steps", steps)
    DETAIL.check("--detail", detail)
    to, wanted = Output.of(out, ANIMATED), [strength_in(each) for each in add or ()]
    if not wanted:
        raise UsageError("say what to change, such as --add smiling=1.5; see 'reparam direction' for what there is")
    model, found = opened(run, images, device)
    changes = changes_of(run, model, wanted)
    only_edits = to.form in (".npy", FOLDER)
    stops = (1.0,) if only_edits or steps < 2 else tuple(i / (steps - 1) for i in range(steps))
    rows = walk(model, found.images, changes, stops, detail=detail)
    if stops[0] == 0:  # the image itself, whatever reconstruction makes of it
        rows[:, 0] = found.images.reshape(rows[:, 0].shape)
    save_images(rows.reshape(-1, *rows.shape[2:]), to, columns=rows.shape[1], names=found.names,
                moving=there_and_back(rows.swapaxes(0, 1)))
    done({"out": out, "n": len(rows), "changes": dict(wanted), "skipped": skipped_of(found)}, out, json)


@app.command(group=LATENTS)
def mix(run: str, /, *sum_: Annotated[str, Parameter(allow_leading_hyphen=True)], out: str = "mix.png",
        device: Device = "auto", json: Json = False) -> None:
    """Add and subtract the codes of images, and decode the sum: mix RUN a.jpg - b.jpg + 0.5*c.jpg

    Parameters
    ----------
    run
        A run's folder.
    sum_
        Image files with + or - between them, with spaces around; a number and * before a file weighs it.
    out
        A .png of the parts and the result in a row; an .npy or a folder of the result alone.
    """
    import numpy as np

    from ..downstream.directions import mix as mixed
    from ..pretrained.outputs import PICTURES, Output, save_images
    from ..pretrained.pictures import equation, save_png

    terms, to = _terms(sum_), Output.of(out, PICTURES)
    model = model_in(run, device)
    parts = np.stack([image_for(model, path) for _, path in terms])
    result = mixed(model, parts, [weight for weight, _ in terms])
    if to.form == ".png":
        save_png(equation([(weight, image) for (weight, _), image in zip(terms, parts, strict=True)], result), to.path)
    else:
        save_images(result[None], to, names=["mix"])
    done({"out": out, "weights": [weight for weight, _ in terms]}, out, json)


def _list(run: str, device: str, table: Path | None, as_json: bool) -> None:
    from ..downstream.directions import read_directions

    kept = list(read_directions(run, model_in(run, device)).values())
    _write(kept, table)
    if as_json:
        print_json({"directions": [_facts(each) for each in kept]})
    elif kept:
        tell(*_table(kept))
    else:
        tell("no directions are kept with this model. Find one with images of which it is known:",
             f"  reparam direction {for_shell(run)} DATA --label CLASS")


def _facts(found: Direction) -> dict[str, Any]:
    return {"name": found.name, "accuracy": found.accuracy, "interval": list(found.interval), "n": found.n,
            "shown": found.shown, "keeps": list(found.kept)}


def _write(found: Sequence[Direction], table: Path | None) -> None:
    from ..files.tables import write_table

    if table is not None:
        write_table(table, {
            "direction": [d.name for d in found], "accuracy": [d.accuracy for d in found],
            "low": [d.interval[0] for d in found], "high": [d.interval[1] for d in found], "n": [d.n for d in found],
            "shown": [d.shown for d in found], "keeps": [", ".join(d.kept) for d in found]})


def _table(found: Sequence[Direction]) -> list[str]:
    rows = [(d.name, f"{d.accuracy:.3f}", f"{d.interval[0]:.3f} … {d.interval[1]:.3f}", f"{d.n:,}", f"{d.shown:.0%}",
             _columns(d.kept)) for d in found]
    return aligned([("direction", "accuracy", "95 % interval", "images", "shown", "keeps"), *rows], right=(1, 3, 4))


def _columns(kept: Sequence[str]) -> str:
    columns = list(dict.fromkeys(each.partition(":")[0] for each in kept))
    return ", ".join(columns) or "–"


class _Wish:
    """Which directions a command asks for."""

    def __init__(self, label: str | None, against: str | None, column: str | None, value: str | None, keep: tuple[str, ...],
                 every: bool, name: str | None) -> None:
        self.label, self.against, self.column, self.value = label, against, column, value
        self.keep, self.every, self.name = keep, every, name

    def check(self, sources: int, table: str | None) -> None:
        """Raises UsageError where the flags do not go together, or say too little."""
        one = self.label or self.column or self.value or self.against
        if sources > 2:
            raise UsageError(f"name one source of data, or two: with the attribute, and without; got {sources}")
        if sources == 2 and (one or table or self.every or self.keep):
            raise UsageError("two sources say themselves which images have it: leave out --label, --table and the like")
        if sources == 2 and self.name is None:
            raise UsageError("say what the first of the two sources has: --name smiling")
        if (self.column or self.value) and table is None and self.value and not self.column:
            raise UsageError("--value is of a --column of a --table; a class of the data is a --label")
        if self.label and self.column:
            raise UsageError("--label is of the data's classes, --column of a table: give one of the two")
        if self.every and (one or self.name or self.keep):
            raise UsageError("--all finds every direction, each with the other columns kept: leave out the other flags")
        if sources == 1 and not (one or self.every):
            raise UsageError("say which attribute: --label CLASS, --column NAME of a --table, or --all")

    def attribute(self, columns: Mapping[str, Column]) -> Attribute:
        from ..downstream.attributes import LABEL, attribute

        if self.column is None and LABEL not in columns:
            raise UsageError("the data have no labels: put images into a folder for each class, or name a --table")
        return attribute(columns, self.column or LABEL, self.label or self.value, self.against, self.name)


def _examples(model: ImageModel, data: Sequence[str], table: str | None, name: str | None
              ) -> tuple[np.ndarray, dict[str, Column], list[str]]:
    """Images, what is known of them, and what to say of it."""
    import numpy as np

    from ..downstream.attributes import LABEL, of_two

    if len(data) == 2:
        first, second = (images_for(model, [source]).images for source in data)
        return np.concatenate([first, second]), of_two(len(first), len(second), name or ""), []
    found = images_for(model, data)
    columns: dict[str, Column] = {}
    if found.labels is not None:
        columns[LABEL] = [_class(found, i) for i in found.labels.tolist()]
    for factor, cells in (found.factors or {}).items():
        columns[factor] = [str(cell) for cell in cells.tolist()]
    told: list[str] = []
    if table is not None:
        of_table, told = _of_table(found, table)
        columns |= of_table
    return found.images, columns, told


def _class(found: ImageSet, i: int) -> str | None:
    return None if i < 0 else found.classes[i] if found.classes else str(i)


def _of_table(found: ImageSet, table: str) -> tuple[dict[str, Column], list[str]]:
    from ..metrics.factors import read_table, rows_for, unknown_name

    read = read_table(table)
    rows = rows_for(read, found.names)
    missing = rows.count(None)
    if missing == len(rows):
        raise unknown_name(read, found.names[0])
    told = f"{table} names {len(rows) - missing:,} of {counted(len(rows), 'image')}; the others are left out"
    columns: dict[str, Column] = {
        name: [row[i] or None if row is not None else None for row in rows] for i, name in enumerate(read.names)}
    return columns, [told] if missing else []


def _find(model: ImageModel, images: np.ndarray, columns: dict[str, Column], wished: _Wish
          ) -> tuple[list[Direction], dict[str, str]]:
    """Directions, and those that could not be found with the reason."""
    from ..downstream.attributes import all_attributes, held

    if not wished.every:
        wanted = wished.attribute(columns)
        kept = held(columns, wished.keep, wanted)
        codes = model.encode(images).reshape(len(images), -1)
        return [_calibrated(model, codes, wanted, kept)], {}
    everything = all_attributes(columns)
    if not everything:
        raise UsageError("nothing is known of these images that differs among them: give labels, or a --table")
    codes = model.encode(images).reshape(len(images), -1)
    found: list[Direction] = []
    failed: dict[str, str] = {}
    for wanted in everything:
        others = list(dict.fromkeys(each.column for each in everything if each.column != wanted.column))
        try:
            found.append(_calibrated(model, codes, wanted, held(columns, others, wanted)))
        except UsageError as e:
            failed[wanted.name] = str(e)
    if not found:
        raise UsageError(next(iter(failed.values())))
    return found, failed


def _calibrated(model: ImageModel, codes: np.ndarray, wanted: Attribute, kept: dict[str, Attribute]) -> Direction:
    from functools import partial

    from ..downstream.directions import calibrated, direction_of, encoded_again

    without = codes[wanted.known & ~wanted.has]
    return calibrated(direction_of(codes, wanted, kept), without, partial(encoded_again, model))


def _keep(run: str, model: ImageModel, images: np.ndarray, found: Sequence[Direction], picture: Path) -> None:
    """Adds directions to those kept with a model, and draws them."""
    import numpy as np

    from ..downstream.directions import middle, read_directions, save_directions, walk
    from ..pretrained.pictures import grid, save_png

    some = images[:2000]
    typical = some[middle(model.encode(some).reshape(len(some), -1))][None]
    rows = [walk(model, typical, [(each, 1.0)], np.linspace(-2, 2, 9).tolist())[0] for each in found]
    try:
        before = read_directions(run, model)
    except ModelFileError:  # of the model as it was before, or damaged: to write it anew is what its message advises
        before = {}
    save_directions(run, model, before | {each.name: each for each in found})
    save_png(grid(np.concatenate(rows), 9), picture)


def _terms(words: Sequence[str]) -> list[tuple[float, str]]:
    """Weights and files of a sum such as a.jpg - b.jpg + 0.5*c.jpg."""
    wanted = "name images with + or - between them, such as: a.jpg - b.jpg + 0.5*c.jpg"
    terms, sign = list[tuple[float, str]](), 1.0
    expected = True  # a file, after a sign or at the begin
    for word in words:
        if word in ("+", "-", "−"):
            if expected and terms:
                raise UsageError(f"two signs stand side by side: {wanted}")
            sign, expected = 1.0 if word == "+" else -1.0, True
            continue
        if not expected:
            raise UsageError(f"no sign stands before {word!r}: {wanted}")
        number, star, path = word.partition("*")
        try:
            weight, path = (finite(number), path) if star and not Path(word).exists() else (1.0, word)
        except ValueError as e:
            raise UsageError(f"{number!r} is no number: {wanted}") from e
        terms.append((sign * weight, path))
        expected = False
    if expected or not terms:
        raise UsageError(wanted)
    return terms
