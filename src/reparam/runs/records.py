"""What a run writes of itself as JSON: the types of `run.json`, `metrics.jsonl` and `evaluation.json`, and their readers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

from ..errors import ModelFileError
from ..files.untrusted import Amount, Count, Malformed, Share, Within, conform, parse_json, read_json, read_text
from ..parts.recipe import Recipe

Measured = Annotated[float, Within(-1e30, 1e30)]
Processors = Annotated[int, Within(0, 4096)]


class TraversalFacts(TypedDict):
    """A row of the picture of traversals."""

    nats: Measured
    factor: str
    explained: Measured


class Outcome(TypedDict, total=False):
    """What training took."""

    steps: Required[Count]
    images_seen: Required[Count]
    training_seconds: Required[Amount]
    second_stage_seconds: Amount
    cpu_seconds: Amount
    finishing_seconds: Amount
    skipped_steps: Required[Count]
    rollbacks: Required[Count]
    seeds: Count
    failed_seeds: Count
    measured_on: str
    sampling: str
    """How it samples by default, and why."""
    traversals: list[TraversalFacts]


class Init(TypedDict):
    """The weights that a run started from."""

    name: str
    fingerprint: str
    """Of the file of weights."""
    path: str


class Facts(TypedDict, total=False):
    """Sizes, times, versions and what training left behind."""

    images: Count
    height: Count
    width: Count
    channels: Count
    training: Count
    validation: Count
    test: Count
    classes: list[str]
    factors: list[str]
    notes: list[str]
    started: str
    versions: dict[str, str]
    init: Init
    parameters: Count
    critic_parameters: Count
    measuring_seconds: Amount
    """Of measuring held-out images while training, which its minutes do not count."""
    outcome: Outcome
    failures: list[dict[str, str]]


class Reading(TypedDict):
    """How images were read; see `data.open_images`."""

    image_size: Count | None
    background: str
    value_range: tuple[Measured, Measured] | None
    on_bad: Literal["skip", "error"]
    max_pixels: Count
    stream: NotRequired[bool | None]
    largest: NotRequired[Count]


class RunFile(TypedDict):
    """`run.json`."""

    data: str
    options: Reading
    recipe: Recipe
    status: str
    fingerprint: str
    threads: Processors
    precision: Literal["", "float32", "bf16"]
    compiled: NotRequired[bool]
    """Not said by runs of earlier versions."""
    facts: Facts


class Compared(TypedDict):
    """What was asked for when a run was measured to be compared."""

    metrics: str | None
    features: str | None
    n: Count | None
    figures: list[tuple[str, str, Count]]
    """What was measured: names, networks and numbers of images."""


class FigureFacts(TypedDict):
    """What `Figure.to_dict` gives, which leaves out what is empty."""

    name: str
    value: Measured
    n: Count
    unit: NotRequired[str]
    interval: NotRequired[tuple[Measured, Measured] | None]
    note: NotRequired[str]
    detail: NotRequired[list[Measured] | None]
    features: NotRequired[str]
    resize: NotRequired[str]
    warning: NotRequired[str]
    better: NotRequired[Literal["higher", "lower"] | None]
    undirected: NotRequired[str]
    null: NotRequired[Measured | None]
    total: NotRequired[Count]
    is_density: NotRequired[bool]


class Finding(TypedDict):
    """A finding of the verdict."""

    title: str
    evidence: str
    advice: str


class Evaluation(TypedDict):
    """`evaluation.json`, and the files of other images in `evaluations/`."""

    protocol: Count
    metrics: list[FigureFacts]
    measured_on: str
    verdict: NotRequired[str]
    problems: NotRequired[list[Finding]]
    remarks: NotRequired[list[Finding]]
    fewer: NotRequired[list[FigureFacts]]
    """Figures of which `metrics` holds one of more images."""
    unavailable: NotRequired[dict[str, str]]
    """Why metrics that do not apply were not measured, by the metric's name."""
    compared: NotRequired[list[Compared]]
    data: NotRequired[str]
    fingerprint: NotRequired[str]


class Record(TypedDict):
    """A line of `metrics.jsonl`."""

    step: Count
    seconds: Amount
    loss: Measured | None
    grad_norm: Measured | None
    terms: dict[str, Measured | None]
    images: NotRequired[Count]
    progress: NotRequired[Share]
    """From 0 to 1, the end of the budget."""
    critic: NotRequired[Measured | None]
    lr: NotRequired[Measured]
    skipped: NotRequired[Count]
    weights: NotRequired[dict[str, Measured]]
    event: NotRequired[str]
    held_out: NotRequired[dict[str, Measured]]


def read_run_file(folder: str | Path) -> RunFile:
    """What the `run.json` of a folder says.

    Raises:
        ModelFileError: it holds no run, or one that cannot be read.
    """
    try:
        return read_json(Path(folder) / "run.json", RunFile)
    except FileNotFoundError as e:
        raise ModelFileError(f"no run in {folder}: it has no run.json") from e


def read_evaluation(path: str | Path) -> dict[str, Any]:
    """What an `evaluation.json` says; `problems` were called `illnesses` once.

    Raises:
        ModelFileError: it is missing, cannot be read, or has an interval that ends before it begins.
    """
    advice = "Write it again: reparam evaluate RUN, or reparam compare … --again"
    try:
        found = read_json(path, Evaluation, advice=advice)
    except FileNotFoundError as e:
        raise ModelFileError(f"there is no {path}. {advice}") from e
    if "illnesses" in found:
        found["problems"] = found.pop("illnesses")
    for figure in (*found["metrics"], *found.get("fewer", ())):
        if (ends := figure.get("interval")) is not None and not ends[0] <= ends[1]:
            raise ModelFileError(f"{path} cannot be read: the interval of {figure['name']} goes from {ends[0]:g} to "
                                 f"{ends[1]:g}. {advice}")
    return found


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, without a last line that a kill cut short; none where there is no such file.

    Raises:
        ModelFileError: another line is no record.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as e:
        raise ModelFileError(f"{path} cannot be read: {e}. Remove it: the run goes on without its curves") from e
    lines, records = text.split("\n"), list[dict[str, Any]]()
    for i, line in enumerate(lines):
        try:
            if line:
                records.append(conform(parse_json(line), Record))
        except ValueError as e:
            if i < len(lines) - 1 or isinstance(e, Malformed):
                raise ModelFileError(f"line {i + 1} of {path} cannot be read: {e}. Remove that line") from e
    return records
