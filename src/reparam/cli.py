"""The commands. Nothing here imports torch before a command runs, so that help is there at once."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from .cli_options import Device, Json, Overrides, Reading, Refining
from .errors import ReparamError, UsageError
from .process import hush_threads, keep_memory

if TYPE_CHECKING:
    import numpy as np

    from .generate import ImageModel
    from .metrics.figures import Figure
    from .reporting import Reporter
    from .run import Run

app = App(name="reparam", help="Train, measure and use variational autoencoders on images.",
          result_action="return_value", version_flags=["--version"], help_format="plaintext")


@app.command
def train(
    data: str | None = None,
    /,
    *,
    preset: str | None = None,
    out: str | None = None,
    resume: Annotated[str | None, Parameter(help="Continue the run in this folder exactly where it stopped.")] = None,
    changes: Overrides = Overrides(),
    reading: Reading = Reading(),
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a model on DATA and leave the model, pictures and a report in a new folder.

    Parameters
    ----------
    data
        A folder of images (sub-folders are labels), a .zip or .tar of one, an .npy or .npz file, or 'digits'.
    preset
        A named recipe that the other flags change; see 'reparam presets'.
    out
        The run's folder; by default runs/<name of the data>.
    """
    given = {k: v for k, v in vars(changes).items() if v is not None}
    _train(data, preset, out, resume, given, reading, device, json)


def _train(data: str | None, preset: str | None, out: str | None, resumed: str | None, given: dict[str, Any],
           reading: Reading, device: str, as_json: bool) -> None:
    if (data is None) == (resumed is None):
        raise UsageError("name the DATA to train on, or a run to continue with --resume; one of the two")
    if resumed is not None and (preset or out):
        raise UsageError("a resumed run keeps its preset and its folder: leave out --preset and --out")
    from . import run as runs

    report = _reporter(as_json)
    if resumed is not None:
        run = runs.resume(resumed, device=device, report=report, **given)
    else:
        options = runs.DataOptions(reading.image_size, reading.background, _range(reading.value_range), reading.on_bad,
                                   reading.max_pixels)
        run = runs.train(str(data), preset=preset or "default", out=out, options=options, device=device, report=report,
                         **given)
    _conclude(run, as_json)


def _conclude(run: Run, as_json: bool) -> None:
    from .run import is_main_process

    if not is_main_process():
        return
    evaluation = json.loads((run.folder / "evaluation.json").read_text(encoding="utf-8"))
    if as_json:
        print_json({"run": str(run.folder), "status": run.status, "evaluation": evaluation})
        return
    print(f"\n{evaluation['verdict']}")
    for finding in (*evaluation["illnesses"], *evaluation["remarks"]):
        print(f"  {finding['title']}: {finding['evidence']}.\n    What to do: {finding['advice']}.")
    for name in ("report.html", "samples.png", "reconstructions.png", "traversals.png"):
        if (run.folder / name).exists():
            print(f"  {run.folder / name}")
    if run.status == "interrupted":
        print(f"stopped early; go on with: reparam train --resume {run.folder}")


@app.command
def demo(*, out: str = "runs/demo", minutes: float = 0.4, json: Json = False) -> None:
    """Train on the 1,797 handwritten digits that come with scikit-learn: pictures and a report within a minute.

    Parameters
    ----------
    out
        The run's folder; replaced by the next demo.
    minutes
        Training time.
    """
    _clear_demo(Path(out))
    given: dict[str, Any] = {"minutes": minutes, "latent": "flat(16)", "encoder": "resnet(width=32)",
                             "decoder": "resnet(width=32)"}
    _train("digits", None, out, None, given, Reading(), "auto", json)


def _clear_demo(folder: Path) -> None:
    """Removes the last demo, and only that."""
    import shutil

    from .run import Run

    if (folder / "run.json").exists() and Run.read(folder).source == "digits":
        shutil.rmtree(folder)


@app.command
def sample(run: str, /, *, n: Annotated[int, Parameter(name=["--number", "-n"])] = 64, out: str = "samples.png",
           prior: str | None = None, temperature: str = "1", label: str | None = None, steps: int | None = None,
           guidance: float = 1.0, resample: bool = True, refining: Refining = Refining(), seed: int = 0,
           device: Device = "auto", json: Json = False) -> None:
    """Draw new images into one picture, or into a folder of single images.

    Parameters
    ----------
    run
        A run's folder.
    n
        How many.
    out
        A .png for all of them in a grid, an .npy for an array, or a folder for one file each.
    prior
        The model's own prior by name, such as normal, in place of the one fitted to its codes.
    temperature
        Below 1: less varied, nearer to the typical; one for each layer from the top down, such as 0.9,0.7.
    label
        Only of this class, by name or number, when the model or its prior knows classes.
    steps
        Steps of integration of a prior fitted by flow_matching; by default as it was fitted.
    guidance
        Above 1: beyond what the label says, more typical of it and less varied.
    resample
        Let a resampler choose among plain draws, when the model has one.
    """
    if n < 1:
        raise UsageError(f"-n must be at least 1; got {n}")
    model = _load(run, device)
    each = _numbers(temperature, "--temperature takes numbers, such as 0.8 or 0.9,0.7")
    _write(model.sample(n, seed=seed, temperature=each, prior=prior, label=label, steps=steps, guidance=guidance,
                        resample=resample, refine=refining.choice()), out, json)


@app.command
def reconstruct(run: str, /, *images: str, out: str = "reconstructions.png", refining: Refining = Refining(),
                device: Device = "auto", json: Json = False) -> None:
    """Encode and decode images: originals above what the model rebuilds.

    Parameters
    ----------
    run
        A run's folder.
    images
        Image files.
    out
        A .png for a picture, an .npy for the rebuilt images as an array, or a folder for one file each.
    """
    from .pictures import pairs

    model = _load(run, device)
    x = _images(model, images, at_least=1)
    rebuilt = model.reconstruct(x, refine=refining.choice())
    _write(pairs(x, rebuilt, min(len(x), 8)) if out.endswith(".png") else rebuilt, out, json, columns=min(len(x), 8))


@app.command
def interpolate(run: str, a: str | None = None, b: str | None = None, /, *, steps: int = 10,
                out: str = "interpolation.png", seed: int = 0, device: Device = "auto", json: Json = False) -> None:
    """Walk through the latent space from one image to another, or between two draws of the prior.

    Parameters
    ----------
    run
        A run's folder.
    a
        The image to start from; without images the walk goes from one draw of the prior to another.
    b
        The image to end at.
    steps
        Images on the way, both ends included.
    out
        A .png for all of them in a row, an .npy for an array, or a folder for one file each.
    """
    model = _load(run, device)
    ends = _images(model, [path for path in (a, b) if path is not None], at_least=2) if a is not None else (None, None)
    _write(model.interpolate(ends[0], ends[1], steps, seed=seed), out, json, columns=steps)


@app.command
def traverse(run: str, image: str | None = None, /, *, dims: int = 8, steps: int = 9, out: str = "traversals.png",
             device: Device = "auto", json: Json = False) -> None:
    """Move along the most informative latents, one a row.

    Parameters
    ----------
    run
        A run's folder.
    image
        Start from this image's code; by default from the mean of all codes.
    dims
        Rows: how many latents.
    steps
        Columns: images for each.
    out
        A .png for all of them in a grid, an .npy for an array, or a folder for one file each.
    """
    model = _load(run, device)
    start = _images(model, (image,), at_least=1)[0] if image is not None else None
    rows = model.traverse(start, dims=dims, steps=steps)
    _write(rows.reshape(-1, *rows.shape[2:]), out, json, columns=steps)


@app.command
def encode(run: str, /, *images: str, out: str = "codes.npz", draw: bool = False, seed: int = 0,
           device: Device = "auto", json: Json = False) -> None:
    """Write the latents of images: names and z (n, *latent).

    Parameters
    ----------
    run
        A run's folder.
    images
        Image files, or one source of data as for training: a folder, archive, .npy or .npz.
    out
        An .npz file.
    draw
        Draw from the posterior; by default its mean is taken.
    """
    import numpy as np

    from .files import replacing

    model = _load(run, device)
    names, x = _source_or_images(model, images)
    z = model.encode(x, sample=draw, seed=seed)
    with replacing(_with_suffix(out, ".npz")) as temporary, temporary.open("wb") as f:
        np.savez(f, names=np.array(names), z=z)
    _done({"out": out, "n": len(z), "latent": list(z.shape[1:])}, f"{len(z)} codes of shape {z.shape[1:]} in {out}", json)


@app.command
def evaluate(run: str, data: str | None = None, /, *, metrics: str | None = None, features: str | None = None,
             factors: str | None = None, n: Annotated[int, Parameter(name=["--number", "-n"])] = 10_000,
             device: Device = "auto", json: Json = False) -> None:
    """Measure a model, by default on all test or held-out images of the data that it was trained on.

    Parameters
    ----------
    run
        A run's folder.
    data
        Other images to measure it on.
    metrics
        Names separated by commas, such as "fd, prdc, iw_nll(500)"; see 'reparam parts metric'. By default all that apply.
    features
        The network that compares sets of images, such as wavelets or a file of weights; by default efficientnet.
    factors
        A .csv of what each image was drawn from: its name as in the data, then a column for each factor.
    n
        Samples, and real images beside them, at most; fewer than 2048 are too few for most figures of samples.
    """
    from .evaluating import Options, evaluate_run

    figures, kind = evaluate_run(run, data, metrics, device, _reporter(json), Options(features, factors, n))
    _tell_figures(figures, kind, json)


def _tell_figures(figures: Sequence[Figure], kind: str, as_json: bool) -> None:
    from .diagnose import illnesses_of
    from .evaluating import evaluation_dict

    facts = evaluation_dict(figures)
    if as_json:
        print_json(facts | {"measured_on": kind})
        return
    print(f"measured on {kind} images, protocol {facts['protocol']}")
    for figure in figures:
        print(f"  {figure}{f': {figure.note}' if figure.note else ''}")
    for finding in illnesses_of(figures):
        print(f"{finding.title}: {finding.evidence}.\n  What to do: {finding.advice}.")


def _reporter(as_json: bool) -> Reporter:
    from .reporting import Silent, for_this_terminal

    return Silent() if as_json else for_this_terminal()


def _load(folder: str, device: str) -> ImageModel:
    from .generate import load

    return load(folder, device=device)


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    wanted = "--value-range takes two numbers, such as 0,4095"
    bounds = _numbers(text, wanted)
    if len(bounds) != 2:
        raise UsageError(f"{wanted}; got {text!r}")
    return bounds[0], bounds[1]


def _numbers(text: str, wanted: str) -> tuple[float, ...]:
    try:
        return tuple(float(v) for v in text.split(","))
    except ValueError as e:
        raise UsageError(f"{wanted}; got {text!r}") from e


def _images(model: ImageModel, paths: Sequence[str], at_least: int) -> np.ndarray:
    from .data import read_like

    if len(paths) < at_least:
        raise UsageError(f"name at least {at_least} image file{'s' if at_least > 1 else ''}")
    made = model.config.data
    return read_like(paths, model.config.image_shape, background=made.get("background", "white"),
                     value_range=_pair(made.get("value_range")))


def _pair(value: Any) -> tuple[float, float] | None:
    return (float(value[0]), float(value[1])) if value else None


def _source_or_images(model: ImageModel, paths: Sequence[str]) -> tuple[list[str], np.ndarray]:
    from .evaluating import open_for
    from .reporting import Silent

    one = paths[0] if len(paths) == 1 else ""
    if one and (one == "digits" or Path(one).is_dir() or Path(one).suffix.lower() in (".zip", ".tar", ".npz", ".npy")):
        images = open_for(model, one, Silent())
        return [str(i) for i in range(len(images.images))], images.images
    return list(paths), _images(model, paths, at_least=1)


def _with_suffix(out: str, suffix: str) -> str:
    if Path(out).suffix.lower() != suffix:
        raise UsageError(f"--out must end in {suffix}; got {out!r}")
    return out


def _write(images: np.ndarray, out: str, as_json: bool, columns: int | None = None) -> None:
    from .pictures import save_images

    save_images(images, out, columns)
    _done({"out": out, "n": len(images)}, out, as_json)


def _done(facts: dict[str, Any], text: str, as_json: bool) -> None:
    print_json(facts) if as_json else print(text)


def print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, allow_nan=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command: 0 done, 1 the work failed, 2 wrong usage."""
    for module in ("cli_compare", "cli_listing", "cli_prior"):
        import_module(f".{module}", __package__)  # which adds its commands to `app`
    hush_threads()
    keep_memory()
    try:
        app(list(arguments) if arguments is not None else None, exit_on_error=False, print_error=False)
        return 0
    except CycloptsError as e:
        message = " ".join(str(e).split())
        print(f"error: {message}\nSee: reparam --help", file=sys.stderr)
        return 2
    except ReparamError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2 if isinstance(e, UsageError) else 1
    except BrokenPipeError:
        raise
    except OSError as e:
        print(f"error: {e.filename or 'a file'}: {e.strerror or e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1


def run() -> None:
    """The `reparam` program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal has Greek letters
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)

