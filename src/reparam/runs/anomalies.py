"""`anomalies`: which of some images are unlike a model's own, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.imageset import ImageSet
from ..data.stream import to_batch
from ..downstream.anomaly import Detector, Oddness
from ..downstream.measures import DEFAULT, MOST_CODES, MOST_HELD_OUT, chosen
from ..errors import UsageError
from ..models.draw import Draw
from ..pretrained.image_model import ImageModel, load
from ..progress import Reporter, Silent
from ..tensors import evenly
from .evaluate import own_images
from .folder import Run
from .measuring import Images, images_for, run_of

FILE = "anomalies.safetensors"
"""Beside the model: what its own images are typically like."""


@dataclass(frozen=True)
class Anomalies:
    """Some images, judged."""

    images: ImageSet
    oddness: Oddness
    odd: npt.NDArray[np.bool_]
    """(n,) which are called odd, at the rate of false discoveries that was asked for."""
    rate: float
    calibrated_on: int
    """Held-out images that p-values are shares of."""
    rebuilt: npt.NDArray[np.uint8]
    """(m, H, W, C): reconstructions of the oddest images, in the order of `order`."""

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """Rows, the oddest first."""
        return np.argsort(-self.oddness.score, kind="stable")


def anomalies(of: Run | str | Path, images: Images, *, score: str | None = None, rate: float = 0.1, shown: int = 60,
              device: str = "auto", report: Reporter | None = None) -> Anomalies:
    """Judges `images` by a run's model: how unlike its training images each is.

    What is typical is measured on the run's own images the first time, and kept beside the model. `score` names the
    statistics that are combined, such as "rate,distortion", as in `downstream.measures`. `rate` is the share of false
    discoveries that is expected among the images called odd; the `shown` oddest are reconstructed.

    Raises:
        ModelFileError: no model there.
        DataError: the run's own data are gone, or images that do not fit the model.
        UsageError: a GAN or a model without a density, a rate that is no share, an unknown statistic or one that this model
            has not, or too few held-out images.

    Example:
        found = reparam.anomalies("runs/photos", "new/")
        found.images.names[found.order[0]], found.oddness.p_value.min()
    """
    if not 0 < rate < 1:
        raise UsageError(f"the rate of false discoveries is a share above 0 and below 1; got {rate}")
    names = DEFAULT if score is None else chosen(score)
    report = report or Silent()
    run = run_of(of)
    folder = run.folder if run is not None else Path(str(of))
    model = load(folder, device=device)
    _check(model)
    found = images_for(model, images, None, report)
    detector = _detector(model, folder, run, names, report)
    oddness = detector.judge(found.images, names, lambda done, total: report.count("judging images", done, total))
    oddest = np.argsort(-oddness.score, kind="stable")[:shown]
    rebuilt = model.decode_pixels(model.encode_pixels(to_batch(found.images[oddest])), Draw(refine=False))
    levels = (rebuilt.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)
    return Anomalies(found, oddness, oddness.found(rate), rate, len(detector.calibration), levels)


def _check(model: ImageModel) -> None:
    likelihood = model.vae.likelihood  # a GAN is refused here
    if not likelihood.has_density:
        raise UsageError("this model has no density of images, from which odd ones could be told")


def _detector(model: ImageModel, folder: Path, run: Run | None, names: tuple[str, ...], report: Reporter) -> Detector:
    """The one that is kept, or a new one where there is none or it lacks some of these statistics."""
    kept = _kept(model, folder)
    missing = [name for name in names if kept is None or name not in kept.names]
    if kept is not None and not missing:
        return kept
    if run is None:
        lacks = f"no {FILE}: what" if kept is None else f"a {FILE} that lacks {', '.join(missing)}: what else"
        raise UsageError(f"{folder} holds a model without its run, and {lacks} is typical of its images is not known")
    own = own_images(run, report, f"for what is typical of them, bring them back, or copy the file {FILE} of this model")
    training, held_out, test = own.split()
    held_out = held_out if len(held_out) >= len(test) else test
    report.say("measuring what is typical of the model's own images")
    detector = Detector.fit(
        model, own.images[training[evenly(len(training), MOST_CODES)]],
        own.images[held_out[evenly(len(held_out), MOST_HELD_OUT)]],
        [*(() if kept is None else kept.names), *missing], lambda done, total: report.count("own images", done, total))
    detector.save(folder / FILE)
    return detector


def _kept(model: ImageModel, folder: Path) -> Detector | None:
    try:
        return Detector.load(folder / FILE, model, again=f"reparam anomalies {folder} DATA, after removing {folder / FILE}")
    except FileNotFoundError:
        return None
