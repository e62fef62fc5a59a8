"""The page of a comparison: a summary in words, samples, curves, and every figure with how it was measured."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import DataError
from ...files.writing import write_json, write_text
from ...metrics.catalogue import GROUPS
from ...pretrained.image_model import load
from ...pretrained.pictures import grid, save_png
from ...progress import Reporter, Silent
from ...tensors import evenly
from ...text import Html, counted, for_plot, joined, markup, short
from ..comparison.compare import Comparison
from ..comparison.pooling import COURSE, Contender, Entry, Row
from ..comparison.ranking import Cell, listed
from ..folder import open_data
from .run_page import STYLE, embedded, page

SHOWN = 36
"""Samples of each model."""
SEED = 0
"""Of the samples on the page."""

LOOKS = STYLE + """
body { max-width: 76rem; }
.models { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(14rem, 45%), 1fr)); gap: 1.2rem 1rem; }
.models img { width: 100%; image-rendering: pixelated; }
.wide { overflow-x: auto; } .figures { min-width: 34rem; }
.figures th[scope=row] { font-weight: normal; min-width: 13rem; max-width: 34rem; padding-right: 1.2rem; }
.figures th[scope=rowgroup] { padding-top: 1.4rem; font-size: 1.05rem; }
.figures small { color: var(--soft); display: block; line-height: 1.35; } .figures td { min-width: 7rem; }
.best { font-weight: 600; } .tag { color: var(--good); font-weight: 600; white-space: nowrap; }
.warning { color: var(--bad); }
ul { margin: .2rem 0 .6rem; padding-left: 1.2rem; } h3 { margin: 1rem 0 .2rem; font-size: 1rem; }
"""


def write_comparison(comparison: Comparison, out: str | Path, *, device: str = "auto",
                     report: Reporter | None = None) -> dict[str, Any]:
    """Writes `index.html`, which stands alone, `comparison.json` and the pictures into the folder `out`.

    Returns what `comparison.json` holds.

    Raises:
        ModelFileError: a model cannot be loaded.
        ReparamError: the folder cannot be written.
    """
    folder = Path(out)
    (report or Silent()).say("drawing samples")
    pictures = {"samples of " + c.name: _samples(c, device) for c in comparison.contenders if c.entries}
    real = _real_images(comparison)
    pictures = ({f"real images, {comparison.kind}": real} if real is not None else {}) | pictures
    course = _curves(comparison)
    for i, picture in enumerate(pictures.values()):
        save_png(picture, folder / f"samples-{i}.png")
    files = [folder / f"samples-{i}.png" for i in range(len(pictures))]
    if course is not None:
        save_png(course, folder / "curves.png")
    facts = comparison_dict(comparison)
    write_json(folder / "comparison.json", facts)
    write_text(folder / "index.html", comparison_html(comparison, dict(zip(pictures, files, strict=True)),
                                                      folder / "curves.png" if course is not None else None))
    return facts


def _samples(contender: Contender, device: str) -> Image.Image:
    model = load(contender.entries[0].run.folder, device=device)
    return grid(model.sample(SHOWN, seed=SEED))


def _real_images(comparison: Comparison) -> Image.Image | None:
    """As many of the images that the models were measured on, evenly spaced; None when they are gone."""
    run = comparison.first
    try:
        images = open_data(run.source, run.options, Silent())
    except DataError:
        return None
    _, validation, test = images.split()
    rows = test if len(test) else validation
    return grid(images.images[rows[evenly(len(rows), SHOWN)]])


def _curves(comparison: Comparison) -> Image.Image | None:
    """Distance of samples to held-out images against seconds of training, a line for each run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axis = figure.subplots()
    for i, c in enumerate(comparison.contenders):
        label: str | None = for_plot(c.name)
        for e in (*c.entries, *c.failed):
            if points := e.course():
                axis.plot(*zip(*points, strict=True), f"C{i}{':' if e.failed else '-'}", label=label, lw=1.5)
                label = None
    if not axis.lines:
        return None
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("seconds of training, wall time")
    axis.set_ylabel(f"{COURSE}, squared distance")
    axis.legend(frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer)


def results(comparison: Comparison, name: str) -> dict[str, list[Row]]:
    """The figures of the summary at which a model is 'best', 'tied' for best or 'behind'."""
    found: dict[str, list[Row]] = {"best": [], "tied": [], "behind": []}
    for row in comparison.rows:
        if row.kind.headline and (tag := row.standing.tag(name)):
            found[tag].append(row)
    return found


def headline(comparison: Comparison) -> str:
    """Which model is best at most of the figures that all models have, in one sentence."""
    measured = [c.name for c in comparison.contenders if c.entries]
    ranked = [row for row in comparison.rows if row.kind.headline and row.standing.best and len(row.cells) == len(measured)]
    if not ranked:
        return "No figure ranks all of these models."
    wins = {name: sum(row.standing.alone == name for row in ranked) for name in measured}
    most, tied = max(wins.values()), len(ranked) - sum(wins.values())
    of = f"{counted(len(ranked), 'figure')} that all models have"
    if not most:
        return f"No model is clearly best at any of the {of}: the intervals of the best overlap."
    leaders = [name for name in measured if wins[name] == most]
    others = [f"{name} at {wins[name]}" for name in measured if 0 < wins[name] < most]
    first = f"{leaders[0]} is best at {most}" if len(leaders) == 1 else f"{listed(leaders)} are each best at {most}"
    rest = "other" if tied == 1 else f"other {tied}"
    return (f"Of the {of}, {first}{f' and {listed(others)}' if others else ''}"
            f"{f'; at the {rest} the intervals of the best overlap' if tied else ''}.")


def caution(comparison: Comparison) -> str:
    """A warning that the intervals of single runs leave out the spread over seeds; '' where every model has several."""
    single = [c.name for c in comparison.contenders if len(c.entries) == 1]
    if not single:
        return ""
    one, their = ("one trained run", "its") if len(single) == 1 else ("one trained run each", "their")
    return (f"Of {listed(single)} there is {one}: {their} intervals are over images alone, and another seed may change who "
            "is best.")


def sentences(comparison: Comparison, contender: Contender) -> list[str]:
    """At which figures a model is best, tied or behind, and what it cannot do."""
    if not contender.entries:
        return [f"Every seed failed: {counted(len(contender.failed), 'run')} diverged, and there is nothing to measure."]
    found, name, said = results(comparison, contender.name), contender.name, list[str]()
    if found["best"]:
        said.append("Best at " + "; ".join(f"{row.name}, {row.kind.meaning} ({_value(row, name)})"
                                           for row in found["best"]) + ".")
    if found["tied"]:
        said.append("Tied for best at " + "; ".join(
            f"{row.name} (with {listed([n for n in row.standing.best if n != name])})" for row in found["tied"]) + ".")
    for rival in dict.fromkeys(row.standing.best[0] for row in found["behind"]):
        said.append(f"Behind {rival} at " + "; ".join(
            f"{row.name} ({_value(row, name)} against {_value(row, rival)})" for row in found["behind"]
            if row.standing.best[0] == rival) + ".")
    if cannot := contender.cannot():
        said.append(f"It cannot {listed(cannot, 'or')}.")
    if contender.failed:
        said.append(f"{len(contender.failed)} of {counted(len(contender.failed) + len(contender.entries), 'seed')} failed: "
                    "training diverged; the figures are of the others.")
    return said or ["Ranked by no figure."]


def _value(row: Row, model: str) -> str:
    return _number(row.cells[model].value)


def _number(value: float) -> str:
    """Four digits, as people write them."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """What the page shows, as JSON; runs and data by their names, since folders are of one machine."""
    run = comparison.first
    return {
        "protocol": comparison.protocol, "measured_on": comparison.kind, "data": Path(run.source).name,
        "fingerprint": run.fingerprint, "headline": headline(comparison), "caution": caution(comparison),
        "models": [{
            "name": c.name, "kind": c.kind, "runs": [_run_facts(e) for e in c.entries],
            "failed": [_run_facts(e) for e in c.failed], "recipe": c.recipe.to_dict(),
            **{tag: [row.name for row in rows] for tag, rows in results(comparison, c.name).items()},
            "cannot": c.cannot(), "words": sentences(comparison, c)} for c in comparison.contenders],
        "figures": [{
            "name": row.name, "group": row.kind.group, "meaning": row.kind.meaning, "better": row.kind.better,
            "target": row.kind.target, "why_neither": row.kind.why_neither, "standing": row.standing.words,
            "best": list(row.standing.best), "behind": list(row.standing.behind),
            "models": {c.name: row.cells[c.name].to_dict() if c.name in row.cells else {"missing": c.lacks(row.name)}
                       for c in comparison.contenders}} for row in comparison.rows]}


def _run_facts(entry: Entry) -> dict[str, Any]:
    return {"name": entry.run.folder.resolve().name, "seed": entry.run.recipe.seed, "course": entry.course()}


def comparison_html(comparison: Comparison, pictures: dict[str, Path], course: Path | None) -> str:
    """The page; `pictures` are the grids of samples by what they show."""
    return page(short(listed([c.name for c in comparison.contenders]), 120), LOOKS, markup(
        "{}{}<h2>Samples</h2><p class='soft'>The first {} of seed {}, of each model's first run. Not selected.</p>"
        "<div class='models'>{}</div>{}<h2>Figures</h2>{}", _about(comparison), _summary(comparison), SHOWN, SEED,
        joined(embedded(path, what, what) for what, path in pictures.items()), _course(comparison, course),
        _table(comparison)))


def _about(comparison: Comparison) -> Html:
    run, facts = comparison.first, comparison.first.facts
    return markup(
        "<p class='soft'>Trained on the same {} from <code>{}</code>, {}×{}, {}; measured in the same way on {} images, "
        "protocol {}."
        "</p>", counted(facts["training"], "image"), Path(run.source).name, facts["width"], facts["height"],
        counted(facts["channels"], "channel"), comparison.kind, comparison.protocol)


def _summary(comparison: Comparison) -> Html:
    models = joined(markup("<h3>{} <span class='soft'>{}</span></h3><ul>{}</ul>", short(c.name), _described(c), joined(
        markup("<li>{}</li>", said) for said in sentences(comparison, c))) for c in comparison.contenders)
    warned = joined(markup("<p><span class='warning'>Do not rely on figures marked {}</span>: {}.</p>", mark, warning)
                    for warning, mark in _marks(comparison).items())
    return markup(
        "<div class='verdict'><strong>{}</strong>{}<p class='soft'>A model is best where its 95 % interval "
        "overlaps no other model's; models whose intervals overlap the best one's are tied with it. {}</p></div>{}",
        headline(comparison), warned, caution(comparison), models)


def _described(c: Contender) -> str:
    facts = (*c.entries, *c.failed)[0].run.facts
    size = f", {counted(facts['parameters'], 'parameter')}" if "parameters" in facts else ""
    critic = f" and {facts['critic_parameters']:,} in the critic" if facts.get("critic_parameters") else ""
    return f"{c.kind}, {counted(len(c.entries) + len(c.failed), 'seed')}{size}{critic}"


def _course(comparison: Comparison, course: Path | None) -> Html:
    if course is None:
        return Html()
    held_out = comparison.first.facts["validation"]
    dotted = " Dotted lines are runs that failed." if any(c.failed for c in comparison.contenders) else ""
    return markup(
        "<h2>Quality against time</h2>{}<p class='soft'>{} between n = {:,} held-out images and as many samples, drawn "
        "with the averaged weights from the model's own prior, at the images' own size. Lower is better. There are no "
        "intervals, so that this shows the course of training and ranks no model. One line is one seed.{}</p>",
        embedded(course, (about := "distance of samples to held-out images while training"), about), COURSE,
        min(held_out, 500), dotted)  # 500 at most, as a run watches them


def _marks(comparison: Comparison) -> dict[str, str]:
    """A mark, such as '*', for each warning of a figure."""
    warnings = dict.fromkeys(f.warning for row in comparison.rows for cell in row.cells.values() for f in cell.figures)
    return {warning: "*" * (i + 1) for i, warning in enumerate(w for w in warnings if w)}


def _mark(row: Row, marks: dict[str, str]) -> str:
    return next((marks[f.warning] for cell in row.cells.values() for f in cell.figures if f.warning), "")


def _table(comparison: Comparison) -> Html:
    heads = joined(markup("<th scope='col'>{}</th>", short(c.name)) for c in comparison.contenders)
    marks = _marks(comparison)

    def group_of(name: str) -> Html:
        rows = joined(_row(row, comparison.contenders, _mark(row, marks)) for row in comparison.rows
                      if row.kind.group == name)
        return markup("<tbody><tr><th scope='rowgroup' colspan='{}'>{}</th></tr>{}</tbody>", len(comparison.contenders) + 1,
                      name, rows) if rows else rows

    return markup(
        "<p class='soft'>Under each name: what it measures, its unit, the number of images n, the network that compares "
        "images with its resize rule, and which way is better; under each value its 95 % interval. All by protocol {}. "
        "The value of several seeds is their mean, with Student's interval over seeds where that is the wider one.</p>"
        "<div class='wide' tabindex='0' role='region' aria-label='figures'><table class='figures'><thead><tr><th>figure</th>"
        "{}</tr></thead>{}</table></div>", comparison.protocol, heads, joined(map(group_of, GROUPS)))


def _row(row: Row, contenders: Sequence[Contender], mark: str) -> Html:
    return markup("<tr><th scope='row'>{}{}<small>{}</small></th>{}</tr>", row.name, mark, _explained(row),
                  joined(_cell(row, c) for c in contenders))


def _explained(row: Row) -> str:
    kind, figure = row.kind, row.sample
    better = f"{kind.better} is better" if kind.better else f"nearer to {_number(float(kind.target or 0))} is better"
    ranked = better if row.standing.best else row.standing.why_not
    counted = "" if kind.group == "Training" else f"n = {figure.n:,}"
    network = f"by {figure.features}, resized {figure.resize}" if figure.features else ""
    return "; ".join(part for part in (kind.meaning, figure.unit, counted, network, ranked) if part)


def _cell(row: Row, contender: Contender) -> Html:
    cell = row.cells.get(contender.name)
    if cell is None:
        return markup("<td>–<small>{}</small></td>", contender.lacks(row.name))
    tag = row.standing.tag(contender.name)
    mark = markup(" <span class='tag'>{}</span>", tag) if tag in ("best", "tied") else ""
    return markup("<td><span class='{}'>{}</span>{}<small>{}</small></td>", tag or "unranked", _number(cell.value), mark,
                  _spread(row, cell))


def _spread(row: Row, cell: Cell) -> str:
    parts = [f"{_number(cell.interval[0])} … {_number(cell.interval[1])}"] if cell.interval else []
    if len(cell.figures) > 1:
        parts.append(f"{len(cell.figures)} seeds")
    elif row.kind.group == "Training":
        parts.append(f"of {counted(next(f.n for f in cell.figures), 'seed')}")
    return ", ".join(parts)
