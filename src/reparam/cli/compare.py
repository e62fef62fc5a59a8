"""The command `compare`: models side by side on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..errors import UsageError
from ..progress import Silent, aligned, for_this_terminal, tell
from ..text import short
from .app import TRAINING, app, print_json
from .options import Device, Json


@app.command(group=TRAINING)
def compare(*runs: str, presets: str | None = None, data: str | None = None, minutes: float | None = None,
            seeds: int | None = None, threads: int | None = None, image_size: int | None = None, metrics: str | None = None,
            features: str | None = None, n: Annotated[int | None, Parameter(name=["--number", "-n"])] = None,
            again: Annotated[bool, Parameter(negative="")] = False, out: str = "comparison", device: Device = "auto",
            json: Json = False) -> None:
    """Compare models measured in the same way: samples, figures with intervals, curves, and which model is best at what.

    Runs of one recipe that differ in their seeds are one model. With --presets, models are trained first.

    Parameters
    ----------
    runs
        Folders of runs on the same data.
    presets
        Names separated by commas: train each on --data into OUT/<preset>-<seed>. The same command goes on after a stop.
    data
        What --presets are trained on, as for 'reparam train'.
    minutes
        Training time of each of them; 5 by default.
    seeds
        How many times each is trained; 3 by default.
    threads
        CPU threads of each; by default what their recipes choose.
    image_size
        Side of the square that --data are resized and cropped to; by default the commonest size, at most 64.
    metrics
        Names separated by commas, such as "fd, prdc"; by default what the runs were compared by before, or all.
    features
        The network that compares sets of images, such as wavelets; by default efficientnet where it is installed.
    n
        Samples, and real images beside them, at most; 10,000 by default.
    again
        Measure runs again that have been measured.
    out
        Folder of the page, its pictures and comparison.json; replaced by the next comparison.
    """
    trained = {"--data": data, "--minutes": minutes, "--seeds": seeds, "--threads": threads, "--image-size": image_size}
    _check_presets(presets, {flag: value for flag, value in trained.items() if value is not None})
    from ..runs.comparison.compare import Request
    from ..runs.comparison.compare import compare as set_side_by_side
    from ..runs.reports.comparison_page import write_comparison

    request, report = Request(metrics, features, n, again), Silent() if json else for_this_terminal()
    request.check()  # before minutes of training
    folders = [Path(run) for run in runs]
    if presets is not None:
        from ..data.options import DataOptions
        from ..runs.seeds import SeedPlan, train_seeds

        given: dict[str, Any] = {"minutes": minutes, "seeds": seeds, "threads": threads}
        given = {k: v for k, v in given.items() if v is not None}
        plan = SeedPlan(tuple(presets.replace(" ", "").split(",")), str(data), options=DataOptions(image_size), **given)
        folders += train_seeds(plan, out, device=device, report=report)
    page = Path(out) / "index.html"
    facts = write_comparison(set_side_by_side(folders, request, device=device, report=report), out, device=device,
                             report=report)
    if json:
        print_json({"page": str(page)} | facts)
    else:
        tell(*_lines(facts), str(page))


def _check_presets(presets: str | None, given: dict[str, Any]) -> None:
    """Refuses flags of training without --presets, and these without data."""
    if presets is None and given:
        raise UsageError(f"{', '.join(given)} say how --presets are trained: name these, such as --presets vae,dcgan")
    if presets is not None and "--data" not in given:
        raise UsageError("--presets are trained on --data: name a folder of images, a .zip, .npy or .npz file, 'digits' or "
                         "'shapes'")


ARROWS = {"higher": " ↑", "lower": " ↓"}


def _lines(facts: dict[str, Any]) -> list[str]:
    """The page's words, and its table with a star at values that are best or tied for best."""
    lines = [facts["headline"], *([facts["caution"]] if facts["caution"] else [])]
    for model in facts["models"]:
        lines += [f"{model['name']}: {model['kind']}", *(f"  {said}" for said in model["words"])]
    names = [model["name"] for model in facts["models"]]
    rows = [[row["name"] + ARROWS.get(row["better"] or "", ""), *(_cell(row, name) for name in names)]
            for row in facts["figures"]]
    table = aligned([["", *(short(name, 24) for name in names)], *rows], right=range(1, len(names) + 1))
    return [*lines, *(f"  {line}" for line in table), *_warned(facts)]


def _cell(row: dict[str, Any], name: str) -> str:
    found = row["models"][name]
    return "–" if "value" not in found else f"{found['value']:,.4g} {'*' if name in row['best'] else ' '}"


def _warned(facts: dict[str, Any]) -> list[str]:
    """Every warning, once."""
    warnings = dict.fromkeys(cell["warning"] for row in facts["figures"] for cell in row["models"].values()
                             if cell.get("warning"))
    return [f"  WARNING: {warning}" for warning in warnings]
