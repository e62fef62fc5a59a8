"""A run: from data to a trained model, its pictures and its report, in one folder that survives a kill at any moment.

    run.json            recipe, data and its fingerprint, seed, versions, times; written first
    state/              what continues training, replaced every so often while it lasts; a few held-out images
    metrics.jsonl       one line per record of training
    model.safetensors, config.json, evaluation.json, README.md, report.html, *.png      written at the end
"""

from __future__ import annotations

import contextlib
import math
import platform
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.archives import Skipped
from ..data.imageset import ImageSet
from ..data.options import DataOptions
from ..data.stream import Batches, binarized, keep_labels, to_batch
from ..doctor.case import WATCHED
from ..errors import DataError, UsageError
from ..files.writing import replacing, write_json
from ..models.trace import Batch
from ..models.vae import Model
from ..parallel import SingleProcess, answered, join
from ..parts.call import parse_call
from ..parts.profiles import AUTO
from ..progress import Reporter, Silent, aligned
from ..runtime import Load, cores
from ..tensors import at_once, evenly, forked_rng
from ..text import counted, for_shell
from ..trainer import autotune
from ..trainer.assembly import Assembly
from ..trainer.budget import Budget
from ..trainer.profile import FEWEST, Profile, operations, unnamed
from ..trainer.settle import is_open
from ..trainer.snapshots import Snapshot
from ..trainer.state import State
from ..trainer.state_file import check_state, load_state, save_state
from .folder import ARRAY, Run, held_in_memory, images_of, open_data
from .initial import find_init, start_from
from .journal import Journal
from .pairing import Pairs, check_pairs, find_pairs
from .restarts import begun_before, job, new_folder
from .settling import DEFAULT_MINUTES, open_settled, settle_run, settle_size, starting_recipe

SAVE_EVERY = 5.0
"""Seconds between saved states, at least; and twenty times what saving one takes."""
SHOWN = 64
"""Held-out images that are kept beside the state, to see how training goes."""


def train(data: str | Path | npt.NDArray[np.generic], *, preset: str = AUTO, out: str | Path | None = None,
          options: DataOptions | None = None, labels: npt.ArrayLike | None = None, device: str = "auto",
          report: Reporter | None = None, init: str | Path | None = None, pairs: str | Path | None = None,
          begun: Callable[[Path], None] | None = None, profile: bool = False, **fields: Any) -> Run:
    """Trains a model on `data` and leaves everything in a new folder, `runs/<name>` unless `out` names one.

    Data are what the command takes, or an array of images, (n, H, W), (n, H, W, C) or (n, C, H, W), with its `labels` (n,).
    An array is not kept: what needs the images again, such as `resume`, has to be given it.
    With `init`, a folder of a model or run, training starts from its weights; the model's parts have to be the same, while
    objective, optimizer and data may differ. What was trained after that model, such as a fitted prior, is trained anew.

    `pairs` names partners for a posterior that learns from pairs: a table with a column 'partner', or "factors(1)".

    `begun` is told the run's folder once all that is asked for has been looked at, before images are read.

    With `profile`, thirty steps are timed phase by phase: a table is reported, and `trace.json` in the folder shows them in
    Perfetto or about:tracing.

    `preset` is a name of those that `reparam presets` lists, or "auto", which chooses by images, machine and minutes.
    `fields` are those of `Recipe` and replace the preset's, as in `train("photos/", preset="mlp", minutes=30)`.

    Raises:
        UsageError: an unknown preset, field or part, or a folder that holds something already.
        ModelFileError: `init` holds no model, or a damaged one.
        DataError: the images cannot be used.
        TrainingDiverged: no learning rate was low enough.
    """
    recipe, load = starting_recipe(preset, fields), Load()
    autotune.check_threads(recipe.threads)
    started = find_init(init, recipe) if init is not None else None
    made = Assembly(recipe, (1, 32, 32)).check()  # unknown parts, or parts that do not fit, are refused before reading
    pairs = str(Path(pairs).absolute()) if pairs is not None and Path(pairs).is_file() else pairs and str(pairs)
    check_pairs(pairs, made.model, recipe.posterior)
    if not isinstance(data, str | Path | np.ndarray) or (isinstance(data, str) and not data):  # pyright: ignore
        raise UsageError(f"name the data: a folder of images, a .zip, .npy or .npz file, 'digits', 'shapes', or an array of "
                         f"images; got {'nothing' if data == '' else type(data).__name__}")
    in_memory = isinstance(data, np.ndarray)
    if labels is not None and not in_memory:
        raise UsageError("labels are given with an array of images; files and folders have their own")
    name = ARRAY if in_memory else data
    path = Path(name).expanduser()
    source = str(path.absolute()) if not in_memory and path.exists() else str(name)
    folder = Path(out) if out is not None else new_folder(name)
    facts = {"init": started, "pairs": pairs, "job": job()}
    run = Run(folder, source, options or DataOptions(), recipe, facts={k: v for k, v in facts.items() if v is not None})
    settle_size(run, preset, device)
    if (earlier := begun_before(run, out, name)) is not None:
        return resume(earlier, data=data if in_memory else None, labels=labels, device=device, report=report, begun=begun,
                      profile=profile)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already. Continue it with: reparam train --resume {folder}, or give another "
                         "--out")
    # before the folder is made: a wrong path leaves nothing behind
    if not in_memory:
        _check_outside(folder, path)
    report, begun = report or Silent(), begun or (lambda _: None)
    begun(folder)
    images = open_settled(run, preset, fields, device, options or DataOptions(), lambda o: open_data(
        source, o, report) if not isinstance(data, np.ndarray) else held_in_memory(data, labels, o), report)
    return _RunTrainer(run, images, device, report, load, profile=profile).carry_out()


def resume(folder: str | Path, *, data: npt.NDArray[np.generic] | None = None, labels: npt.ArrayLike | None = None,
           device: str = "auto", report: Reporter | None = None, begun: Callable[[Path], None] | None = None,
           profile: bool = False, **budget: Any) -> Run:
    """Continues a run exactly where it stopped; `steps`, `epochs` or `minutes` give it a new end. Of a finished run it
    makes anew what follows training, where some of that had failed. A run that was trained on an array needs it again, as
    `data`.

    Raises:
        ModelFileError: no run there.
        DataError: the data changed since the run began.
    """
    run, load = Run.read(folder), Load()
    changes = {k: v for k, v in budget.items() if v is not None}
    other = changes.keys() - {"steps", "epochs", "minutes"}
    if other:
        raise UsageError(f"a resumed run keeps its recipe; only steps, epochs and minutes may change, not "
                         f"{', '.join(sorted(other))}")
    if changes:
        run.recipe = run.recipe.but(**{"steps": None, "epochs": None, "minutes": None, **changes})
    elif run.status == "finished" and not run.facts.get("failures"):
        raise UsageError(f"the run in {folder} is finished. To train it further give it a later end: --steps, --epochs "
                         "or --minutes")
    if changes and run.state_file.exists():
        _check_end(run)
    report = report or Silent()
    if begun is not None:
        begun(run.folder)
    images = images_of(run, data, labels, report)
    return _RunTrainer(run, images, device, report, load, profile=profile).carry_out()


def _check_outside(folder: Path, data: Path) -> None:
    """Refuses a run among its own images: its pictures would be trained on next time, and the data would have changed."""
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        other = data.resolve().parent / "runs" / (data.resolve().name or "run")
        raise UsageError(f"the run's folder {folder} would lie among the images in {data}: give an --out elsewhere, such as "
                         f"--out {for_shell(str(other))}")


def _check_end(run: Run) -> None:
    """Refuses an end that training has passed already."""
    stands, r = load_state(run.state_file)[1], run.recipe
    of_images = r.epochs and stands.get("images", 0) / run.facts.get("training", math.inf)
    at: dict[str, tuple[float | None, float]] = {
        "steps": (r.steps, stands["step"]), "epochs": (r.epochs, of_images or 0.0),
        "minutes": (r.minutes, stands.get("seconds", 0.0) / 60)}
    for name, (end, now) in at.items():
        if end is not None and end < now:
            raise UsageError(f"the run in {run.folder} stands at {now:,.6g} {name} already: give a later end than --{name} "
                             f"{end:g}")


class _RunTrainer:
    """One sitting of a run, from its state on disk to its end or an interruption."""

    def __init__(self, run: Run, images: ImageSet, device: str, report: Reporter, load: Load, *, profile: bool = False
                 ) -> None:
        self.run, self.images, self.report, self.load = run, images, report, load
        self.recipe, self.most = run.recipe, run.recipe.threads or torch.get_num_threads()
        self.training_set, self.validation_set, self.test_set = images.split()
        _, h, w, c = images.images.shape
        self.image_shape = (c, h, w)
        if run.state_file.exists():
            check_state(run.state_file, self.recipe, self.image_shape)
        # what does not fit the images is told before a folder is made
        self.assembly = Assembly(self.recipe, self.image_shape).check()
        if "init" in run.facts and not run.state_file.exists():
            start_from(run.facts["init"], self.assembly.model, self.recipe, self.image_shape)
        self.labels = self._labels(self.assembly.model.latent.classes)
        self.pairs = self._pairs(run.facts.get("pairs"))
        self.accelerator = join(device)
        self.stopped = False
        self.profile = Profile(run.folder / "trace.json") if profile and self.accelerator.is_main_process else None
        self.made: list[Path] = []
        """Folders that this sitting makes."""

    def carry_out(self) -> Run:
        from .finish import finish

        if self.accelerator.is_main_process:
            self._begin()
        self.accelerator.wait_for_everyone()
        try:
            with answered():
                state = self._train()
        except (UsageError, DataError):
            self._withdraw()
            raise
        if self.accelerator.is_main_process and self.images.streamed is not None:
            self._list_skipped(self.images.streamed.skips)
        with autotune.sharing(self.report, self.most) as report:
            finish(self.run, self.images, state, report, self.accelerator, interrupted=self.stopped)
        return self.run

    def _begin(self) -> None:
        run, images = self.run, self.images
        self.made = [folder for folder in (run.folder, *run.folder.parents) if not folder.exists()]
        _, h, w, c = images.images.shape
        run.fingerprint = images.fingerprint
        run.facts |= {
            "images": images.total, "height": h, "width": w, "channels": c, "classes": list(images.classes),
            "training": images.trained_on, "validation": len(self.validation_set), "test": len(self.test_set),
            **({"factors": list(images.factors)} if images.factors else {}),
            "notes": list(images.notes), "started": run.facts.get("started", _now()), "versions": _versions()}
        run.status = "training"
        run.save()
        self._list_skipped(images.skipped)
        shown = self.validation_set[evenly(len(self.validation_set), SHOWN)]
        with replacing(run.watched_file) as temporary, temporary.open("wb") as file:
            np.save(file, images.images[shown])
        for note in images.notes:
            self.report.say(note)
        test = f", {len(self.test_set):,} to test" if len(self.test_set) else ""
        self.report.say(f"{counted(images.trained_on, 'image')} to train on, {len(self.validation_set):,} held out"
                        f"{test}: {w}×{h}, {counted(c, 'channel')}; what is made goes to {run.folder}")

    def _list_skipped(self, skipped: Sequence[Skipped]) -> None:
        """Writes down what could not be read, and says so."""
        path = self.run.folder / "skipped.json"
        write_json(path, [{"name": s.name, "reason": s.reason} for s in skipped])
        if skipped:
            self.report.say(f"{counted(len(skipped), 'file')} could not be read, listed in {path}")

    def _withdraw(self) -> None:
        """Leaves nothing of a run that was refused before it had begun."""
        run = self.run
        if self.made and not run.state_file.exists():
            written = [run.folder / name for name in ("run.json", "skipped.json", "metrics.jsonl")]
            for path in (*written, run.watched_file):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a folder that holds something stays
                for folder in (run.watched_file.parent, *self.made):
                    folder.rmdir()

    def _train(self) -> State[Model]:
        run, assembly = self.run, self.assembly
        saved = load_state(run.state_file) if run.state_file.exists() else None
        images, partners = self.pairs or (self.images.images, None)

        def stream_of(assembly: Assembly, start: int = 0) -> Batches:
            return assembly.stream(self.images.streamed or images, self.training_set, self.labels, partners=partners,
                                   accelerator=self.accelerator, start=start)

        if is_open(self.recipe):
            torch.set_num_threads(self.recipe.threads or autotune.threads_left(self.load, self.most))
            self.recipe = settle_run(run, assembly, stream_of, self.accelerator, self.report)
        recipe, stream = self.recipe, stream_of(assembly, int(saved[1]["step"]) if saved else 0)
        budget = self._budget(stream)
        budget = self._at_speed(stream, assembly.of_model(budget))
        with _stopping_at_interrupt(self):
            loop = self._steps(stream, budget, saved)
            counts = autotune.thread_counts(self.accelerator)
            adapts = (budget.minutes is not None and not recipe.threads and len(counts) > 1
                      and self.accelerator.num_processes == 1)
            return self._follow(loop, Journal(run, self._watched(), self.report),
                                autotune.ThreadTuner(counts[0], counts[-1]) if adapts else None)

    def _steps(self, stream: Batches, budget: Budget, saved: Snapshot | None) -> Iterator[State[Model]]:
        """The training, some of whose steps are timed where that was asked for."""
        profile = self.profile
        if profile is not None:
            copied = self.assembly.copied(ema=0, compile="off")
            with forked_rng():
                alone = SingleProcess(self.accelerator.device)  # the others do not look at this
                profile.work = operations(copied.training(stream, budget, accelerator=alone))
        steps = self.assembly.training(stream, budget, accelerator=self.accelerator, resume=saved,
                                       phase=profile.phase if profile is not None else unnamed)
        if profile is None:
            yield from steps
            return
        profile.precision = budget.precision
        told = False
        for state in profile.follow(steps, stream.batch_size):
            if profile.rates and not told:
                told = True
                self._tell(profile)
            yield state
        if not told:
            self.report.say(f"too few steps for a profile: it takes {FEWEST}")

    def _tell(self, profile: Profile) -> None:
        for line in aligned(profile.told(), right=(1, 2)):
            self.report.say(line)
        reached = ", ".join(f"{share:.0%} of the {profile.rates[name]:,.0f} GFLOP/s of a {name}"
                            for name, share in profile.shares.items())
        self.report.say(f"{profile.images:,.0f} images/s" + (f", {reached} in {profile.precision}" if reached else ""))
        self.report.say(f"{profile.trace} opens in ui.perfetto.dev")

    def _pairs(self, given: Any) -> Pairs | None:
        """Partners, for a posterior that learns from pairs; those that were drawn have no label."""
        check_pairs(given, self.assembly.model, self.recipe.posterior)
        if given is None:
            return None
        if self.images.streamed is not None:
            raise UsageError("images that are streamed have no partners: give --no-stream, which decodes them first")
        pairs, rows = find_pairs(str(given), self.images, self.training_set, self.recipe.seed), self.training_set
        if self.labels is not None:
            self.labels = np.concatenate([self.labels, np.full(len(pairs.images) - len(self.images), -1)])
        paired = int((pairs.partners[rows] != rows).sum())
        self.report.say(f"{paired:,} of {counted(len(rows), 'training image')} have a partner"
                        + ("" if paired == len(rows) else "; the others are learned from alone"))
        return pairs

    def _labels(self, classes: int) -> np.ndarray | None:
        """Labels that training may see, for a latent that knows of so many classes."""
        labels, streamed = self.images.labels, self.images.streamed
        if not classes:
            return None
        if streamed is not None and self.recipe.labelled is not None:
            raise UsageError("labelled keeps the labels of some images, and these are streamed with those of all: leave it "
                             "out, or give --no-stream, which decodes them first")
        if labels is None or not (labels >= 0).any():
            why = f" ({self.images.about_labels})" if self.images.about_labels else ""
            raise DataError(f"the latent {self.recipe.latent} needs labels, and {self.run.source} has none{why}: put images "
                            "of a class into a folder of its own, or add the array 'labels' to the .npz")
        known = max(int(labels.max()) + 1, len(self.images.classes) if streamed is not None else 0)
        if known > classes:
            raise UsageError(f"{self.run.source} has {known} classes; give the latent as many: "
                             f"--latent \"{parse_call(self.recipe.latent).name}(…, classes={known})\"")
        return keep_labels(labels, self.training_set, self.recipe.labelled, self.recipe.seed)

    def _budget(self, stream: Batches) -> Budget:
        budget = self.assembly.budget(stream)
        if budget.steps is None and budget.minutes is None:
            self.report.say(f"training for {DEFAULT_MINUTES:g} minutes; --minutes, --epochs or --steps set another end")
            return replace(budget, minutes=DEFAULT_MINUTES)
        return budget

    def _at_speed(self, stream: Batches, budget: Budget) -> Budget:
        """The budget at the speed that is chosen, by precision, threads and compiler: as a run began, so it goes on."""
        run, recipe = self.run, self.recipe
        if not run.precision:
            run.compiled = recipe.compile == "on"
            if budget.steps is not None and budget.steps < 500:  # too short for measuring to pay
                run.threads = recipe.threads or autotune.threads_left(self.load, self.most)
                run.precision = "float32" if recipe.precision == "auto" else recipe.precision
            else:
                batch = _first(stream)
                run.threads, run.precision = autotune.choose(self.assembly, batch, self.accelerator)
                if recipe.compile == "auto" and self.load.free() >= 1:  # beside busy programs the compiler takes minutes
                    run.compiled = autotune.compiling_pays(self.assembly, batch, self.accelerator,
                                                           replace(budget, precision=run.precision), self.report)
            if self.accelerator.is_main_process:
                run.save()
        torch.set_num_threads(min(run.threads, cores()))  # the machine may be another than it began on
        self._say_speed()
        return replace(budget, precision=run.precision, compile=run.compiled)

    def _say_speed(self) -> None:
        run, model, adversary = self.run, self.assembly.model, self.assembly.adversary
        size = sum(p.numel() for p in model.parameters())
        critic = sum(p.numel() for p in adversary.parameters()) if adversary is not None else 0
        run.facts["parameters"], run.facts["critic_parameters"] = size, critic
        beside = f", {critic:,} in the critic," if critic else ""
        self.report.say(f"{size:,} parameters{beside} on {self.accelerator.device.type}, {counted(run.threads, 'thread')}, "
                        f"{run.precision}{', compiled' * run.compiled}")

    def _watched(self) -> tuple[Tensor, Tensor]:
        """Training images to calibrate the likelihood on, and held-out ones to measure."""
        device = self.accelerator.device
        most = at_once(self.images.images.shape[1:3], WATCHED)
        pair = tuple(to_batch(self.images.images[rows[evenly(len(rows), most)]], device)
                     for rows in (self.training_set, self.validation_set))
        return (binarized(pair[0]), binarized(pair[1])) if self.recipe.binarize else (pair[0], pair[1])

    def _follow(self, loop: Iterator[State[Model]], journal: Journal, tuner: autotune.ThreadTuner | None) -> State[Model]:
        state, saved_at, pause = None, time.monotonic(), SAVE_EVERY
        for state in loop:
            if not self.accelerator.is_main_process:
                continue
            if tuner is not None:
                tuner.note(state.seconds)
            if state.parts:  # none when a resumed run had reached its end already
                journal.note(state)
            if state.progress >= 1 or self.stopped or time.monotonic() - saved_at > pause:
                began = time.monotonic()
                save_state(self.run.state_file, state.snapshot())
                saved_at = time.monotonic()
                pause = max(SAVE_EVERY, 20 * (saved_at - began))
            if self.stopped:
                break
        if state is None:
            raise DataError("there was nothing to train on")
        journal.close(state)
        return state


def _first(stream: Batches) -> Batch:
    """A batch of the stream, which goes on as if nothing had been taken."""
    with forked_rng():
        return next(iter(stream))


@contextlib.contextmanager
def _stopping_at_interrupt(trainer: _RunTrainer) -> Generator[None]:
    """Ctrl-C ends training after the current step; a second one ends the program. Several processes, which would
    have to agree on the step, are ended by the first."""
    if trainer.accelerator.num_processes > 1:
        yield
        return

    def stop(*_: object) -> None:
        trainer.stopped = True
        signal.signal(signal.SIGINT, before)
        trainer.report.say("stopping after this step; press Ctrl-C again to leave at once")

    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not in the main thread: signals go elsewhere
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{p: version(p) for p in ("reparam", "torch", "numpy", "accelerate")},
            "machine": f"{platform.system()} {platform.machine()}"}
