"""Pictures of a model while it is trained: of the averaged weights that its run has last saved."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..data.stream import binarized, to_batch
from ..doctor.case import History
from ..doctor.diagnosis import while_training
from ..errors import ModelFileError
from ..metrics.latents import ACTIVE, active_share
from ..models.codes import codes_of
from ..models.vae import VAE
from ..pretrained.config import Config
from ..pretrained.image_model import ImageModel
from ..runs.folder import STATE, Run
from ..runs.records import read_metrics
from ..tensors import forked_rng
from ..trainer.state_file import load_average
from .questions import Answer, Question

SAMPLES, REBUILT, LATENTS = 16, 8, 64
SHARE = 0.01
"""Of a processor's time that pictures take while they are looked at."""


@dataclass
class Snapshots:
    """The latest pictures of the run in a folder."""

    folder: Path
    _stamp: str = ""
    _not_before: float = 0.0
    _drawn: Answer | None = None

    def latest(self) -> Answer:
        """Drawn anew where a later state has been saved, and the share of the time allows it.

        Raises:
            ModelFileError: no state yet, or one that cannot be read.
        """
        try:
            found = (self.folder / STATE).stat()
        except OSError as e:
            raise ModelFileError("no weights have been saved yet") from e
        stamp = f"{found.st_ino}-{found.st_mtime_ns}"
        if self._drawn is None or (stamp != self._stamp and time.monotonic() >= self._not_before):
            began = time.process_time()
            self._drawn, self._stamp = drawn(Run.read(self.folder), stamp), stamp
            self._not_before = time.monotonic() + (time.process_time() - began) / SHARE
        return self._drawn

    def answer(self, question: Question) -> Answer:
        """The latest pictures, unless `known` says that the page has them."""
        latest = self.latest()
        stamp = latest.fields["stamp"]
        return Answer({"stamp": stamp}) if question.text("known", "") == stamp else latest


def drawn(run: Run, stamp: str) -> Answer:
    """Samples from the same noise each time, held-out images beside their reconstructions, what each latent carries, and
    what the record alone tells of problems."""
    run.needs("channels", "height", "width")
    shape = (int(run.facts["channels"]), int(run.facts["height"]), int(run.facts["width"]))
    sampler, step = load_average(run.state_file, run.recipe, shape)
    model = ImageModel(sampler, Config(run.recipe, shape))
    n, (c, h, w) = SAMPLES, shape
    arrays = {"samples": model.sample(n, seed=0).reshape(n, h, w, c)}
    fields: dict[str, object] = {"stamp": stamp, "step": step, "findings": findings(run)}
    images = held_out(run, shape)
    if isinstance(model.network, VAE) and images is not None:
        shown = images[:REBUILT]
        arrays |= {"originals": shown, "rebuilt": model.reconstruct(shown).reshape(shown.shape)}
        nats, active = information(model.network, images, binarize=run.recipe.binarize)
        order = np.argsort(-nats, kind="stable")[:LATENTS]
        arrays |= {"latents": order.astype(np.int32), "nats": nats[order]}
        fields |= {"active": active, "latents": len(nats), "total": float(nats.sum()), "of": len(images)}
    return Answer(fields, arrays)


def information(vae: VAE, images: npt.NDArray[np.uint8], *, binarize: bool) -> tuple[npt.NDArray[np.float32], int]:
    """Nats that each latent carries of images (n, H, W, C), (d,), and how many latents are active."""
    x = to_batch(images)
    with torch.inference_mode(), forked_rng():
        torch.manual_seed(0)
        codes = codes_of(vae, binarized(x, shared=True) if binarize else x)
    return codes.information.float().nan_to_num().numpy(), int((active_share(codes) > ACTIVE).sum())


def held_out(run: Run, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8] | None:
    """The run's few held-out images, (n, H, W, C); None of a run that has kept none."""
    try:
        images = np.load(run.watched_file, allow_pickle=False)
    except (OSError, ValueError):
        return None
    c, h, w = shape
    fits = images.dtype == np.uint8 and images.ndim == 4 and images.shape[1:] == (h, w, c) and 0 < len(images) <= 512
    return images if fits else None


def findings(run: Run) -> list[dict[str, str]]:
    """What the doctor sees in the record alone."""
    records = read_metrics(run.folder / "metrics.jsonl")
    if not records:
        return []
    history = History(records[-1]["step"], records[-1].get("skipped", 0), 0, tuple(
        r["held_out"]["-elbo"] for r in records if "-elbo" in r.get("held_out", {})))
    return [vars(finding) for finding in while_training(history, run.recipe)]
