"""The report of a run: the verdict, pictures, and figures with their units and sample sizes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...doctor.diagnosis import Diagnosis, Finding
from ...metrics.catalogue import GROUPS, find
from ...metrics.figures import PROTOCOL, Figure
from ...models.sampler import FITTED_PRIOR, REFINER, RESAMPLER
from ...parts.profiles import FEW, of_few
from ...parts.recipe import Recipe
from ...pretrained.config import Config
from ...text import Html, counted, joined, markup
from ...trainer.stages.sequence import STAGES
from .copies import describe
from .traversals import Row

if TYPE_CHECKING:
    from ..folder import Run


STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --paper: #ffffff; --good: #17703c;
        --bad: #a8321d; --tint: #f5f7fa; --bar: #3b73b9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #a3adba; --line: #323b46; --paper: #14181d;
        --good: #6fd39a; --bad: #ff9a85; --tint: #1e252d; --bar: #7db0ee; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       max-width: 76rem; padding: 1.5rem clamp(1rem, 3vw, 2.5rem) 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
p { margin: .4rem 0; max-width: 50rem; } .soft { color: var(--soft); }
.verdict { border-left: .35rem solid var(--good); background: var(--tint); padding: .9rem 1.1rem; margin: 1.1rem 0;
           border-radius: 0 .4rem .4rem 0; }
.verdict.problem { border-color: var(--bad); } .verdict strong { font-size: 1.3rem; color: var(--good); }
.verdict.problem strong { color: var(--bad); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: baseline; }
th { font-weight: 600; color: var(--soft); } td .soft { font-size: .9rem; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.group th { color: var(--ink); padding-top: 1.4rem; }
td code, details code { overflow-wrap: anywhere; }
code { background: var(--tint); padding: .1rem .3rem; border-radius: .2rem; font-size: .92em; }
summary { cursor: pointer; margin: .9rem 0; color: var(--soft); }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .9rem; margin-top: .4rem; max-width: 50rem; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: .3rem; }
img.pixels { image-rendering: pixelated; }
.pictures { display: grid; grid-template-columns: minmax(0, 1fr); column-gap: 2rem; }
@media (min-width: 56rem) { .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); } .wide { grid-column: 1 / -1; } }
.rows { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .8rem; }
.rows ol { list-style: none; margin: 0; padding: 0; display: grid; grid-auto-rows: 1fr; font-size: .9rem;
           line-height: 1.25; }
.rows li { align-self: center; text-align: right; } .rows li span { display: block; color: var(--soft); }
.bars { display: flex; align-items: flex-end; gap: 2px; height: 7rem; border-bottom: 1px solid var(--line); }
.bars div { background: var(--bar); flex: 1 1 0; min-width: 1px; max-width: 3rem; border-radius: 2px 2px 0 0; }
@media (max-width: 42rem) {
  .rows { gap: .4rem; } .rows ol { font-size: .68rem; }
  .figures thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .figures tbody tr { display: grid; grid-template-columns: minmax(0, 1fr) auto; column-gap: 1rem; padding: .45rem 0;
                      border-bottom: 1px solid var(--line); }
  .figures td, .figures th { border: 0; padding: 0; }
  .figures td:nth-child(n+3) { color: var(--soft); font-size: .9rem; }
  .figures td:nth-child(3) { order: 2; } .figures td:nth-child(4) { order: 1; }
  .figures td:nth-child(5) { order: 3; grid-column: 1 / -1; text-align: left; }
  .figures td:nth-child(5)::after { content: " images"; }
}
"""

ARROWS = {"higher": "↑", "lower": "↓"}
"""Which way is better."""
HEALTHY = "the latents are in use, and the prior matches the codes"
UNCOMPARED = "and the latents are in use"
HEALTHY_GAN = "and the samples are varied"
PICTURES = (
    ("samples.png", "Samples"), ("reconstructions.png", "Reconstructions"), ("traversals.png", "Traversals"),
    ("curves.png", "Training"))
CAPTIONS = {
    "Reconstructions": "Each row of originals stands above what the model rebuilds from their codes.",
    "Traversals": "Each row moves one latent, most informative first, through 2.5 standard deviations of the codes to "
                  "either side of their mean; the others stay at the code of the first image above.",
    "Training": "Terms of the objective on training batches, and the negative ELBO of held-out images with the averaged "
                "weights."}
FACTORS = " Beside it stand its information and, where a known factor explains a fifth of its variance or more, that factor."


def page(title: str, style: str, body: Html) -> str:
    """One self-contained page."""
    return markup(
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title} · reparam</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'><style>{style}</style></head>"
        "<body><main><h1>{title}</h1>{body}</main></body></html>\n", title=title, style=Html(style), body=body)


def embedded(path: Path, alt: str, caption: str, *, pixels: bool = True, rows: Html | None = None) -> Html:
    """A PNG file within the page, `pixels` enlarged as squares, with labels of its `rows` beside it."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    picture = markup("<img{} src='data:image/png;base64,{}' alt='{}'>", Html(" class='pixels'" if pixels else ""), data, alt)
    return markup("<figure>{}<figcaption>{}</figcaption></figure>",
                  markup("<div class='rows'>{}{}</div>", rows, picture) if rows else picture, caption)


def report_html(run: Run, config: Config, figures: Sequence[Figure], diagnosis: Diagnosis) -> str:
    """The run's page."""
    pictures = joined(_picture(run, config, file, title) for file, title in PICTURES if (run.folder / file).exists())
    return page(run.folder.resolve().name, STYLE, markup(
        "{}{}{}{}<div class='pictures'>{}</div><h2>Figures</h2>{}{}<h2>Recipe</h2>{}", _summary(run, config),
        _verdict(diagnosis, _praise(config, figures)), chosen(run.facts), _failures(run), pictures, _table(run, figures),
        _information(figures), _recipe(run, config)))


def _picture(run: Run, config: Config, file: str, title: str) -> Html:
    """A picture under its heading; samples and reconstructions share a row of a wide page."""
    rows = _rows(run.facts["outcome"].get("traversals", ())) if title == "Traversals" else None
    caption = (CAPTIONS.get(title) or about_samples(run, config)) + (FACTORS if rows else "")
    shown = embedded(run.folder / file, f"{title.lower()} of this model", caption, pixels=title != "Training", rows=rows)
    wide = "" if title in ("Samples", "Reconstructions") else " class='wide'"
    return markup("<section{}><h2>{}</h2>{}</section>", Html(wide), title, shown)


def _rows(rows: Sequence[Row]) -> Html:
    """A label for each row of the traversals: the factor that its latent follows, and the latent's information."""
    labels = joined(markup("<li>{}<span>{:.2f} nats</span></li>", markup("{} {:.0%}", row["factor"], row["explained"])
                           if row["factor"] else Html(), row["nats"]) for row in rows)
    return markup("<ol>{}</ol>", labels) if labels else labels


def _praise(config: Config, figures: Sequence[Figure]) -> str:
    """What is said of a healthy model, of which codes and prior may not have been compared."""
    if not config.recipe.has_encoder:
        return HEALTHY_GAN
    return HEALTHY if any(f.name in ("prior_auc", "fitted_prior_auc") for f in figures) else UNCOMPARED


def _summary(run: Run, config: Config) -> Html:
    facts, outcome = run.facts, run.facts["outcome"]
    c, h, w = config.image_shape
    critic = f", {facts['critic_parameters']:,} in the critic" if facts.get("critic_parameters") else ""
    return markup(
        "<p class='soft'>{} from <code>{}</code>, {}×{}, {}. {}{}, {}, {:,.0f} s of training{}.</p>",
        counted(facts["training"], "training image"), config.data["name"], w, h, counted(c, "channel"),
        counted(facts["parameters"], "parameter"), critic, counted(outcome["steps"], "step"), outcome["training_seconds"],
        _started_from(facts))


def chosen(facts: Mapping[str, Any]) -> Html:
    """Why the run trained what it did, where that was left to `--preset auto`; and what few images can give."""
    auto, n = facts.get("auto"), facts["training"]
    why = markup("<p>Chosen for {}.</p>", auto["reason"]) if auto is not None else markup("")
    return joined([why, markup("<p>{}</p>", of_few(n)) if n < FEW else markup("")])


def _started_from(facts: Mapping[str, Any]) -> Html:
    init = facts.get("init")
    return markup(", started from the weights of <code>{}</code> (fingerprint <code>{}</code>)", init["name"],
                  init["fingerprint"]) if init is not None else markup("")


ADDED = {RESAMPLER: ", chosen among draws by its resampler", REFINER: ", with detail from its refiner"}
"""What stages do to draws of the prior."""


def about_samples(run: Run, config: Config) -> str:
    """Where samples come from, how they were drawn and why so, and how many of those shown copy a training image."""
    sampling = config.sampling
    source = f"the prior that was fitted to its codes, {config.fitted_prior}" if config.fitted_prior else \
        f"its prior, {config.recipe.prior}"
    idle = (RESAMPLER,) if sampling is not None and sampling.keep == 1 else ()
    others = "".join(ADDED[name] for name in config.stages if name in ADDED and name not in idle)
    how = f"Drawn by default at {sampling.reason}. " if sampling is not None else ""
    return f"New images, not selected: drawn from {source}{others}. {how}{describe(run.facts['outcome'].get('copies'))}"


def _verdict(diagnosis: Diagnosis, healthy: str) -> Html:
    found = joined(map(_finding, diagnosis.problems)) or markup("<p>Training was stable, {}.</p>", healthy)
    return markup("<div class='verdict{}'><strong>{}</strong>{}{}</div>", " problem" if diagnosis.problems else "",
                  diagnosis.title, found, joined(map(_finding, diagnosis.remarks)))


def _finding(f: Finding) -> Html:
    return markup("<p><b>{}</b>: {}. <span class='soft'>What to do: {}.</span></p>", f.title, f.evidence, f.advice)


def _failures(run: Run) -> Html:
    """What could not be measured or drawn."""
    failed = joined(markup("<li>{}: {}</li>", each["what"], each["why"]) for each in run.facts.get("failures", ()))
    return markup("<h2>What failed after training</h2><p>The model was kept; this is missing:</p><ul>{}</ul>",
                  failed) if failed else failed


def _table(run: Run, figures: Sequence[Figure]) -> Html:
    """The figures under the headings of the metrics' catalogue."""
    groups = joined(_group(group, [f for f in figures if find(f.name).group == group]) for group in GROUPS)
    return markup(
        "<p class='soft'>Measured on {} images, protocol {}. Nats are sums over an image. ↑ higher is better, ↓ lower.</p>"
        "<table class='figures'><thead><tr>"
        "<th>figure</th><th class='number'>value</th><th class='number'>95 % interval</th><th>unit</th>"
        "<th class='number'>images</th></tr></thead>{}</table>",
        run.facts["outcome"]["measured_on"], PROTOCOL, groups)


def _group(name: str, figures: Sequence[Figure]) -> Html:
    rows = joined(markup(
        "<tr><td>{}{}{}</td><td class='number'>{:,.4g}</td><td class='number'>{}</td><td>{}</td><td class='number'>{:,}</td>"
        "</tr>", f.name, _direction(f), joined(markup("<br><span class=soft>{}</span>", text) for text in f.beside), f.value,
        interval_text(f), f.unit, f.n) for f in figures)
    return markup("<tbody><tr class='group'><th colspan='5' scope='rowgroup'>{}</th></tr>{}</tbody>", name, rows) if rows \
        else rows


def _direction(f: Figure) -> Html:
    return markup("<span class='soft' title='{} is better'> {}</span>", f.better, ARROWS[f.better]) if f.better else Html()


def interval_text(f: Figure) -> str:
    return f"{f.interval[0]:,.4g} … {f.interval[1]:,.4g}" if f.interval else "–"


def _information(figures: Sequence[Figure]) -> Html:
    found = next((f for f in figures if f.name == "information" and f.detail), None)
    if found is None or not found.detail:
        return Html()
    values = sorted(found.detail, reverse=True)[:128]
    top = max(values[0], 1e-9)
    bars = joined(markup("<div style='height:{:.1f}%' title='{:.2f} nats'></div>", max(100 * v / top, 0.5), v)
                  for v in values)
    return markup(
        "<h2>Information per latent</h2><figure><div class='bars' role='img' aria-label='information of each latent, most "
        "first'>{}</div><figcaption>{:,} of {}, most informative first; the first carries {:.2f} nats.</figcaption>"
        "</figure>", bars, len(values), counted(len(found.detail), "latent"), values[0])


def _recipe(run: Run, config: Config) -> Html:
    """What differs from the default recipe; the rest, and what was noted of the data, folded away."""
    used, plain = _used(run.recipe), Recipe().to_dict()
    machine = markup("<tr><td>on this machine</td><td>{}, {}{}</td></tr>", counted(run.threads, "thread"), run.precision,
                     ", compiled" if run.compiled else "")
    fitted = _field("fitted prior", config.fitted_prior) if config.fitted_prior else Html()
    changed = joined(_field(k, v) for k, v in used.items() if v != plain[k])
    others = joined(_field(k, v) for k, v in used.items() if v == plain[k])
    notes = joined(markup("<li>{}</li>", note) for note in run.facts["notes"])
    return markup(
        "<table><tbody>{}{}{}</tbody></table><details><summary>Fields at their defaults</summary><table><tbody>{}</tbody>"
        "</table></details>{}", changed, fitted, machine, others, markup("<h2>Data</h2><ul>{}</ul>", notes) if notes else "")


def _field(name: str, value: object) -> Html:
    return markup("<tr><td>{}</td><td><code>{}</code></td></tr>", name, value)


OWNERS = {
    "adversary": ("critic", "game", "penalty", "critic_optimizer", "critic_augment"),
    **{stage.name: (stage.share_field,) for stage in STAGES}}
"""Fields of a recipe that say nothing where another one is 'none'."""


def _used(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe that this model has a use for; what was chosen for the machine stands apart."""
    values = recipe.to_dict()
    idle = {field for owner, fields in OWNERS.items() if values[owner] == "none" for field in fields}
    idle |= {"threads", "precision", "compile"} | ({"accumulate"} if recipe.accumulate == 1 else set())
    idle |= {"posterior", FITTED_PRIOR, *OWNERS[FITTED_PRIOR]} if not recipe.has_encoder else set()
    return {k: v for k, v in values.items() if k == "encoder" or not (k in idle or v is None or v is False or v == "none")}


def with_arrow(f: Figure) -> str:
    """The figure's name, and which way is better."""
    return f"{f.name} {ARROWS[f.better]}" if f.better else f.name
