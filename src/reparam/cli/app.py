"""The commands. Nothing here imports torch before a command runs, so that help is there at once."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter

from ..errors import ReparamError, UsageError
from ..parts.profiles import AUTO
from ..parts.recipe import Recipe
from ..progress import Reporter, Silent, aligned, for_this_terminal, tell
from ..runtime import hush_threads, keep_memory, keep_speaking, process_number
from ..text import for_shell
from .options import COMMON, GROUPS, OTHER, Device, Json, Overrides, Reading
from .watch import watched

if TYPE_CHECKING:
    from ..data.options import DataOptions
    from ..metrics.figures import Figure
    from ..runs.evaluate import Evaluated
    from ..runs.folder import Run


app = App(name="reparam", help="Train, measure and use variational autoencoders on images.",
          result_action="return_value", version_flags=["--version"], help_format="plaintext")
TRAINING, USING, LATENTS, REFERENCE = map(Group.create_ordered, (
    "Train and measure", "Use a model", "Latents at work", "What there is"))
"""Of commands, in the order of the help."""


@app.command(group=TRAINING)
def train(
    data: str | None = None,
    /,
    *,
    preset: Annotated[str | None, Parameter(group=GROUPS[COMMON])] = None,
    out: Annotated[str | None, Parameter(group=GROUPS[COMMON])] = None,
    resume: Annotated[str | None, Parameter(group=GROUPS[COMMON])] = None,
    init: Annotated[str | None, Parameter(group=GROUPS[COMMON])] = None,
    pairs: Annotated[str | None, Parameter(group=GROUPS["Images in training"])] = None,
    changes: Overrides = Overrides(),
    reading: Reading = Reading(),
    device: Annotated[Device, Parameter(group=GROUPS["Machine"])] = "auto",
    watch: Annotated[bool, Parameter(group=GROUPS[COMMON], negative="")] = False,
    open_page: Annotated[bool, Parameter(name="--open", group=GROUPS[OTHER])] = True,
    profile: Annotated[bool, Parameter(group=GROUPS["Machine"], negative="")] = False,
    json: Annotated[Json, Parameter(group=GROUPS[OTHER])] = False,
) -> None:
    """Train a model on DATA and leave the model, pictures and a report in a new folder.

    Parameters
    ----------
    data
        A folder of images (sub-folders are labels), a .zip or .tar of one, an .npy or .npz file, shards (.parquet, or
        .tar of WebDataset), also at an address such as s3://bucket/folder or hf:owner/name, 'digits' or 'shapes'.
    preset
        A named recipe that the other flags change; see 'reparam presets'. By default auto: chosen by the images, the
        machine and the minutes, and said in a line.
    out
        The run's folder; by default runs/<name of the data>.
    resume
        Continue the run in this folder exactly where it stopped.
    init
        Start from the weights of the model in this folder, which has the same parts; data and objective may differ.
    pairs
        Which images are partners, for the posterior adaptive: a .csv or .parquet with a column 'partner' beside the images'
        names, or "factors(1)", which takes images that differ in one of the factors that are known of the data.
    watch
        Show how training goes on a page in the browser: curves, samples, reconstructions, remarks.
    open_page
        Open the page of --watch.
    profile
        Time thirty steps phase by phase: a table here, and trace.json in the run's folder, which ui.perfetto.dev opens.
    """
    given = {k: v for k, v in vars(changes).items() if v is not None} | {"profile": profile}
    with watched(open_page=open_page) if watch else contextlib.nullcontext() as begun:
        _train(data, preset, out, resume, {"init": init, "pairs": pairs}, given, reading, device, json, begun)


def _train(data: str | None, preset: str | None, out: str | None, resumed: str | None, beside: dict[str, str | None],
           given: dict[str, Any], reading: Reading, device: str, as_json: bool,
           begun: Callable[[Path], None] | None = None) -> None:
    if (data is None) == (resumed is None):
        raise UsageError("name the DATA to train on, or a run to continue with --resume; one of the two")
    if resumed is not None and (preset or out):
        raise UsageError("a resumed run keeps its preset and its folder: leave out --preset and --out")
    if resumed is not None and beside.get("init") is not None:
        raise UsageError("a resumed run goes on from its own weights: leave out --init")
    if resumed is not None and beside.get("pairs") is not None:
        raise UsageError("a resumed run keeps its pairs: leave out --pairs")
    from ..runs import train as runs

    report = reporter(as_json)
    if resumed is not None:
        run = runs.resume(resumed, device=device, report=report, begun=begun, **given)
    else:
        run = runs.train(str(data), preset=preset or AUTO, out=out, options=options_of(reading), device=device,
                         report=report, begun=begun, **beside, **given)
    _conclude(run, as_json)


def _conclude(run: Run, as_json: bool) -> None:
    from ..parallel import is_main_process
    from ..runs.records import read_evaluation

    if not is_main_process():
        return
    evaluation = read_evaluation(run.folder / "evaluation.json")
    if as_json:
        print_json({"run": str(run.folder), "status": run.status, "evaluation": evaluation})
        return
    tell("", str(evaluation["verdict"]))
    for finding in (*evaluation["problems"], *evaluation["remarks"]):
        tell(f"  {finding['title']}: {finding['evidence']}.", f"    What to do: {finding['advice']}.")
    tell("", f"The model, its report and its pictures are in {run.folder}. Next:",
         *(f"  {line}" for line in aligned(_next(run))))


def _next(run: Run) -> list[tuple[str, str]]:
    """Commands that work on this run, and what each is for."""
    folder, gan = for_shell(str(run.folder)), not run.recipe.has_encoder
    first = [(f"reparam train --resume {folder}", "go on: it was stopped early")] if run.status == "interrupted" else []
    return [*first, (for_shell(str(run.folder / "report.html")), "to open in a browser: verdict, pictures and figures"),
            (f"reparam sample {folder}", "64 new images in samples.png"),
            (f"reparam {'interpolate' if gan else 'traverse'} {folder}",
             "from one draw to another" if gan else "what each latent changes"),
            (f"reparam evaluate {folder}", "measure it on all of its held-out images"),
            (f"reparam explore {folder}", "walk in its latent space, in the browser")]


@app.command(group=TRAINING)
def demo(*, out: str = "runs/demo", minutes: float = 0.5, json: Json = False) -> None:
    """Train on 10,000 fish, drawn on the spot from known factors: pictures and a report within a minute.

    Parameters
    ----------
    out
        The run's folder; replaced by the next demo.
    minutes
        Training time.
    """
    Recipe(minutes=minutes)  # refused before the last demo is removed
    _clear_demo(Path(out))
    _train("shapes", "quick", out, None, {}, {"minutes": minutes}, Reading(), "auto", json)


def _clear_demo(folder: Path) -> None:
    """Removes the last demo, and only that."""
    import shutil

    from ..runs.folder import Run

    if (folder / "run.json").exists() and Run.read(folder).source == "shapes":
        shutil.rmtree(folder)


@app.command(group=TRAINING)
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
        A .csv or .parquet of what each image was drawn from: its name as in the data, then a column for each factor.
    n
        Samples, and real images beside them, at most; fewer than 2048 are too few for most figures of samples.
    """
    from ..runs.measuring import evaluate as measure

    _tell_evaluated(run, measure(run, data, metrics=metrics, features=features, factors=factors, n=n, device=device,
                                 report=reporter(json)), json)


def _tell_evaluated(run: str, found: Evaluated, as_json: bool) -> None:
    from ..doctor.case import as_made
    from ..doctor.diagnosis import problems_of
    from ..pretrained.files import read_config

    if as_json:
        print_json(found.to_dict())
        return
    tell(f"measured on {found.kind} images, protocol {found.to_dict()['protocol']}", *figure_table(found.figures))
    for finding in problems_of(found.figures, as_made(read_config(run))):
        tell(f"{finding.title}: {finding.evidence}.", f"  What to do: {finding.advice}.")
    for failure in found.failures:
        tell(f"{failure['what']} failed: {failure['why']}")
    if found.kept:
        tell(f"kept in {found.kept}")


def figure_table(figures: Sequence[Figure]) -> list[str]:
    """Lines of an aligned table; what several figures have beside them stands once, under it, warnings first."""
    from ..runs.reports.run_page import with_arrow

    if not figures:
        return []
    beside = Counter(text for f in figures for text in f.beside)
    warnings = dict.fromkeys(f.warning for f in figures if f.warning)
    shared = [*warnings, *(text for text, times in beside.items() if times > 1 and text not in warnings)]
    marks = {text: f"[{i}]" for i, text in enumerate(shared, 1)}
    rows = [(with_arrow(f), f"{f.value:,.4g}", f"{f.interval[0]:,.4g} … {f.interval[1]:,.4g}" if f.interval else "–", f.unit,
             f"{f.n:,}", " ".join(marks.get(text, text) for text in f.beside)) for f in figures]
    lines = aligned([("figure", "value", "95 % interval", "unit", "images", ""), *rows], right=(1, 2, 4))
    notes = [f"{mark} {'WARNING: ' if text in warnings else ''}{text}" for text, mark in marks.items()]
    return [f"  {line}" for line in (*lines, *notes)]


def reporter(as_json: bool) -> Reporter:
    return Silent() if as_json else for_this_terminal()


def options_of(reading: Reading) -> DataOptions:
    """How images are read, as the flags say."""
    from ..data.options import DataOptions

    return DataOptions(reading.image_size, reading.background, _range(reading.value_range), reading.on_bad,
                       reading.max_pixels, reading.stream, reading.largest)


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    wanted = "--value-range takes two numbers, such as 0,4095"
    bounds = numbers(text, wanted)
    if len(bounds) != 2:
        raise UsageError(f"{wanted}; got {text!r}")
    return bounds[0], bounds[1]


def numbers(text: str, wanted: str) -> tuple[float, ...]:
    try:
        return tuple(float(v) for v in text.split(","))
    except ValueError as e:
        raise UsageError(f"{wanted}; got {text!r}") from e


def print_json(value: dict[str, Any]) -> None:
    tell(json.dumps(value, allow_nan=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command: 0 done, 1 the work failed, 2 wrong usage."""
    for module in ("use", "decode", "edit", "compare", "listing", "fit_prior", "describe", "classify", "anomalies", "search",
                   "map", "export", "explore", "pack", "plan", "judge"):
        import_module(f"reparam.cli.{module}")  # which adds its commands to `app`
    hush_threads()
    keep_memory()
    try:
        app(list(arguments) if arguments is not None else None, exit_on_error=False, print_error=False)
        return 0
    except CycloptsError as e:
        command = " ".join(("reparam", *(e.command_chain or ())))
        _complain(f"error: {' '.join(str(e).split())}", f"See: {command} --help", alike=True)
        return 2
    except UsageError as e:
        _complain(f"error: {e}", alike=True)
        return 2
    except ReparamError as e:
        _complain(f"error: {e}")
        return 1
    except OSError as e:
        _complain(f"error: {e.filename or 'a file'}: {e.strerror or e}")
        return 1
    except KeyboardInterrupt:
        _complain("stopped", alike=True)
        return 1


def _complain(*lines: str, alike: bool = False) -> None:
    """Tells what went wrong. What all processes of a run say `alike`, such as that an argument is wrong, the first one says;
    of anything else each says its own, with its number."""
    number = process_number()
    if not number:
        tell(*lines, error=True)
    elif not alike:
        tell(*(f"process {number}: {line}" for line in lines), error=True)


def run() -> None:
    """The `reparam` program."""
    keep_speaking()
    sys.exit(main())
