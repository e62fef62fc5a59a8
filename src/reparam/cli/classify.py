"""The command `classify`: a classifier of a model's codes, learned, measured and used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError
from ..progress import aligned, tell
from ..text import counted, for_shell
from .app import LATENTS, app, print_json
from .options import Device, Json
from .use import done, opened, skipped_of

if TYPE_CHECKING:
    import numpy as np

    from ..data.imageset import ImageSet
    from ..downstream.scores import Score
    from ..pretrained.image_model import ImageModel

PREDICTIONS = "predictions.csv"


@app.command(group=LATENTS)
def classify(run: str, /, *images: str, labels: int | None = None, table: str | None = None, column: str | None = None,
             predict: bool = False, table_out: str | None = None, sort: str | None = None, device: Device = "auto",
             json: Json = False) -> None:
    """Learn the classes of labelled images from their codes, or tell the classes of other images.

    Images with labels teach a classifier, which is measured on their test or held-out images, and kept in the run's folder
    with a page, classifier.html. Images without labels, or any with --predict, are told apart by that classifier.

    Parameters
    ----------
    run
        A run's folder.
    images
        One source of data as for training, whose sub-folders are labels; to predict, image files too.
    labels
        Learn from so many labels only, evenly over the classes.
    table
        A .csv or .parquet whose first column names the images and whose others are attributes, in place of labels.
    column
        The attribute in the table to learn.
    predict
        Predict, also where there are labels.
    table_out
        A table of the images with their class and the probability of each, a .csv or .parquet; predictions.csv by default.
        When a classifier is learned: of the images that it is measured on, if this is given.
    sort
        When predicting: a new folder for copies of the files, in a folder for each class; the files stay where they are.
    """
    if (table is None) != (column is None):
        raise UsageError("--table and --column go together: the file, and which of its columns to learn")
    if labels is not None and labels < 2:
        raise UsageError(f"--labels must be at least 2, got {labels}")
    if predict and (labels is not None or table is not None):
        raise UsageError("--labels and --table are for learning: leave out --predict")
    from ..files.tables import table_path

    to = table_path(table_out) if table_out is not None else None
    model, found = opened(run, images, device)
    _ = model.vae  # which tells a GAN
    y, names = _labels(found, table, column)
    if predict or y is None:
        _predict(run, images, model, found, to or Path(PREDICTIONS), sort, json)
        return
    if sort is not None:
        raise UsageError("--sort copies files by their predicted class: add --predict")
    _learn(run, model, found, y, names, labels, to, json)


def _labels(found: ImageSet, table: str | None, column: str | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels (n,), −1 for none, and the names of their classes."""
    import numpy as np

    if table is None or column is None:
        if found.labels is None or not bool((found.labels >= 0).any()):
            return None, found.classes
        _tell_missing(int((found.labels < 0).sum()), len(found.labels), "a label")
        return found.labels, found.classes
    from ..metrics.factors import known_column, read_table

    cells = known_column(read_table(table), column, found.names)
    values = sorted({cell for cell in cells if cell})
    if len(values) > max(20, len(cells) // 10):
        raise UsageError(f"the column {column} of {table} has {len(values):,} values for {len(cells):,} images, too many "
                         "to be classes: name a column of words or of few numbers")
    _tell_missing(sum(not cell for cell in cells), len(cells), f"a value of {column}")
    number = {value: i for i, value in enumerate(values)} | {"": -1}
    return np.array([number[cell or ""] for cell in cells], np.int64), tuple(values)


def _tell_missing(missing: int, n: int, what: str) -> None:
    if missing:
        tell(f"{counted(missing, 'image')} of {n:,} without {what}: only how their codes lie is learned from", error=True)


def _learn(run: str, model: ImageModel, found: ImageSet, y: np.ndarray, names: tuple[str, ...], most: int | None,
           to: Path | None, as_json: bool) -> None:
    import numpy as np

    from ..data.stream import keep_labels
    from ..downstream.classifier import FILE, about_codes, learn_classifier
    from ..downstream.scores import judge
    from ..files.writing import write_text
    from ..runs.reports.classifier_page import Measured, classifier_html

    training, held_out, test = found.split()
    rows, kind = (test, "test") if len(test) else (held_out, "held-out")
    recipe = model.config.recipe  # a semi-supervised model and the probe learn from the same labels
    shown = keep_labels(y, training, most or (recipe.labelled if model.infers_classes else None), recipe.seed)
    classifier = learn_classifier(model, found.images[training], shown[training], names)
    column = np.full(max(int(y.max()), int(classifier.probe.classes.max())) + 1, -1)
    column[classifier.probe.classes] = np.arange(len(classifier.classes))
    known = rows[(y[rows] >= 0) & (column[y[rows]] >= 0)]
    unknown = [names[i] if names else str(i) for i in np.unique(y[rows][y[rows] >= 0]) if column[i] < 0]
    if not len(known):
        raise DataError(f"a classifier could not be measured: of {counted(len(rows), f'{kind} image')} none is of a class "
                        f"that {counted(len(training), 'training image')} show. Give more images of each class, ten or so")
    notes = [f"measured without the classes {', '.join(unknown)}, which no labelled training image has"] if unknown else []
    judged = judge(classifier.probabilities(found.images[known]), column[y[known]])
    own = _of_model(model, found.images[known], y[known], names)
    file, page = Path(run) / FILE, Path(run) / "classifier.html"
    classifier.save(file)
    write_text(page, classifier_html(Path(run).resolve().name, Measured(
        classifier, judged, found.images[known], kind, found.source, notes, own)))
    if to is not None:
        truth = [classifier.classes[i] for i in judged.truth.tolist()]
        _write([found.names[i] for i in known], judged.probabilities, classifier.classes, to, {"label": truth})
    scores = judged.scores()
    lines = _beside(scores, own)
    said = [f"a {classifier.probe.kind} classifier on {about_codes(model)}, learned from "
                      f"{counted(classifier.learned_from, 'label')}, on {counted(len(known), f'{kind} image')}:",
                      *(f"  {line}" for line in lines), *notes, str(page)]
    facts = {"classifier": str(file), "page": str(page), "kind": classifier.probe.kind, "classes": list(classifier.classes),
             "codes": about_codes(model), "learned_from": classifier.learned_from, "measured_on": kind, "n": len(known),
             "figures": _as_json(scores), "figures_of_the_model": _as_json(own),
             "cross_validated": dict(classifier.probe.cross_validated), "notes": notes, "skipped": skipped_of(found)}
    print_json(facts) if as_json else tell(*said)


def _of_model(model: ImageModel, images: np.ndarray, y: np.ndarray, names: tuple[str, ...]) -> list[Score]:
    """How good the classes are that a semi-supervised model infers itself; nothing of other models, or other classes."""
    from ..downstream.scores import judge

    if not model.infers_classes or model.config.classes != names:
        return []
    return judge(model.class_probabilities(images), y).scores()


def _beside(scores: list[Score], own: list[Score]) -> list[str]:
    """A table of the probe's figures, and of the model's own where it has any."""
    from ..runs.reports.classifier_page import interval

    rows = [(s.name, f"{s.value:.4g}", interval(s)) for s in scores]
    if not own:
        return aligned([("figure", "value", "95 % interval"), *rows], right=(1, 2))
    both = [(*row, f"{s.value:.4g}", interval(s)) for row, s in zip(rows, own, strict=True)]
    return aligned([("figure", "probe", "95 % interval", "inferred", "95 % interval"), *both], right=(1, 2, 3, 4))


def _as_json(scores: list[Score]) -> list[dict[str, Any]]:
    return [{"name": s.name, "value": s.value, "interval": s.interval} for s in scores]


def _predict(run: str, sources: tuple[str, ...], model: ImageModel, found: ImageSet, to: Path, sort: str | None,
             as_json: bool) -> None:
    from ..downstream.classifier import FILE, read_classifier
    from ..pretrained.outputs import check_files, sort_files

    again = f"reparam classify {for_shell(run)} LABELLED_IMAGES"
    files = check_files(sources, found.names, sort) if sort is not None else []
    try:
        classifier = read_classifier(Path(run) / FILE, model, again=again)
    except FileNotFoundError:
        raise UsageError(f"these images have no labels, and {run} has no classifier yet. Learn one first: {again}; labels "
                         "are sub-folders, or a column of a --table") from None
    p = classifier.probabilities(found.images)
    answers = [classifier.classes[i] for i in p.argmax(1).tolist()]
    _write(list(found.names), p, classifier.classes, to, {})
    if sort is not None:
        sort_files(files, answers, Path(sort))
    counts = {name: answers.count(name) for name in classifier.classes}
    said = ", ".join(f"{name} {n:,}" for name, n in counts.items() if n)
    done({"table": str(to), "n": len(p), "counts": counts, "sorted": sort, "skipped": skipped_of(found)},
         f"{counted(len(p), 'image')} in {to}: {said}" + (f"; sorted copies in {sort}" if sort else ""), as_json)


def _write(names: list[str], p: np.ndarray, classes: tuple[str, ...], to: Path, more: dict[str, list[str]]) -> None:
    from ..files.tables import write_table

    best = p.argmax(1)
    each = {f"p({name})": p[:, i].tolist() for i, name in enumerate(classes)}
    write_table(to, {"name": names, **more, "class": [classes[i] for i in best.tolist()],
                     "probability": p.max(1).tolist(), **each})
