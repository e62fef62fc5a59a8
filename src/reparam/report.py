"""The report and the model card: figures with their units and sample sizes, pictures, and a plain verdict."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .build import NO_ENCODER
from .checkpoint import Config
from .diagnose import Finding, Verdict
from .metrics.figures import PROTOCOL, Figure

if TYPE_CHECKING:
    from .run import Run

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --paper: #ffffff; --good: #17703c;
        --bad: #a8321d; --tint: #f5f7fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #a3adba; --line: #323b46; --paper: #161b21;
        --good: #6fd39a; --bad: #ff9a85; --tint: #1e252d; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
       max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); }
.verdict { border-left: .35rem solid var(--good); background: var(--tint); padding: .8rem 1rem; margin: 1.2rem 0; }
.verdict.ill { border-color: var(--bad); } .verdict strong { font-size: 1.15rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
img { max-width: 100%; height: auto; background: #fff; } code { background: var(--tint); padding: .1rem .3rem; }
.bars { display: flex; align-items: flex-end; gap: 2px; height: 6rem; border-bottom: 1px solid var(--line); }
.bars div { background: currentColor; opacity: .65; flex: 1 1 0; min-width: 1px; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .9rem; margin-top: .3rem; }
"""

HEALTHY = "the latents are in use, and the prior matches the codes"
HEALTHY_GAN = "and the samples are varied"
PICTURES = (
    ("samples.png", "Samples", "New images, drawn from the prior: none of them is in the data. Not selected."),
    ("reconstructions.png", "Reconstructions", "Each row of originals stands above what the model rebuilds from their "
     "codes."),
    ("traversals.png", "Traversals", "Each row moves one latent, most informative first, through 2.5 standard "
     "deviations of the codes to either side of their mean; the others stay at the code of the first image above."),
    ("curves.png", "Training", "Terms of the objective on training batches, and the negative ELBO of held-out images "
     "with the averaged weights."),
)


def report_html(run: Run, config: Config, figures: Sequence[Figure], verdict: Verdict) -> str:
    """One self-contained page."""
    name = html.escape(run.folder.name)
    pictures = "".join(_picture(run, *entry) for entry in PICTURES if (run.folder / entry[0]).exists())
    return (f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{name} · reparam</title>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<style>{STYLE}</style></head><body><main><h1>{name}</h1>{_summary(run, config)}"
            f"{_verdict(verdict, HEALTHY_GAN if is_gan(config) else HEALTHY)}"
            f"{_failures(run)}{pictures}<h2>Figures</h2>{_table(run, figures)}{_information(figures)}<h2>Recipe</h2>"
            f"{_recipe(run)}</main></body></html>\n")


def is_gan(config: Config) -> bool:
    """Whether the model has no encoder."""
    return config.recipe.encoder == NO_ENCODER


def _summary(run: Run, config: Config) -> str:
    facts, outcome = run.facts, run.facts["outcome"]
    c, h, w = config.image_shape
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in facts["notes"])
    critic = f"{facts['critic_parameters']:,} in the critic, " if facts.get("critic_parameters") else ""
    return (f"<p class='soft'>{facts['training']:,} training images from <code>{html.escape(config.data['name'])}</code>, "
            f"{w}×{h}, {c} channel{'s' if c > 1 else ''}. {facts['parameters']:,} parameters, {critic}{outcome['steps']:,} "
            f"steps, {outcome['training_seconds']:,.0f} s of training.</p>" + (f"<ul>{notes}</ul>" if notes else ""))


def _verdict(verdict: Verdict, healthy: str) -> str:
    ill = " ill" if verdict.illnesses else ""
    found = "".join(map(_finding, verdict.illnesses)) or f"<p>Training was stable, {html.escape(healthy)}.</p>"
    remarks = "".join(map(_finding, verdict.remarks))
    return f"<div class='verdict{ill}'><strong>{html.escape(verdict.title)}</strong>{found}{remarks}</div>"


def _finding(f: Finding) -> str:
    return (f"<p><b>{html.escape(f.title)}</b>: {html.escape(f.evidence)}. <span class='soft'>What to do: "
            f"{html.escape(f.advice)}.</span></p>")


def _failures(run: Run) -> str:
    """What could not be measured or drawn."""
    failed = "".join(f"<li>{html.escape(each['what'])}: {html.escape(each['why'])}</li>"
                     for each in run.facts.get("failures", ()))
    return failed and f"<h2>What failed after training</h2><p>The model was kept; this is missing:</p><ul>{failed}</ul>"


def _picture(run: Run, file: str, title: str, caption: str) -> str:
    data = base64.b64encode((run.folder / file).read_bytes()).decode("ascii")
    return (f"<h2>{title}</h2><figure><img src='data:image/png;base64,{data}' alt='{title.lower()} of this model'>"
            f"<figcaption>{caption}</figcaption></figure>")


def _table(run: Run, figures: Sequence[Figure]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(f.name)}{''.join(f'<br><span class=soft>{html.escape(t)}</span>' for t in f.beside)}</td>"
        f"<td class='number'>{f.value:,.4g}</td><td class='number'>{_interval(f)}</td><td>{html.escape(f.unit)}</td>"
        f"<td class='number'>{f.n:,}</td></tr>" for f in figures)
    kind = run.facts["outcome"]["measured_on"]
    return (f"<p class='soft'>Measured on {kind} images, protocol {PROTOCOL}. Nats are sums over an image.</p><table>"
            "<thead><tr><th>figure</th><th class='number'>value</th><th class='number'>95 % interval</th><th>unit</th>"
            f"<th class='number'>images</th></tr></thead><tbody>{rows}</tbody></table>")


def _interval(f: Figure) -> str:
    return f"{f.interval[0]:,.4g} … {f.interval[1]:,.4g}" if f.interval else "–"


def _information(figures: Sequence[Figure]) -> str:
    found = next((f for f in figures if f.name == "information" and f.detail), None)
    if found is None or not found.detail:
        return ""
    values = sorted(found.detail, reverse=True)[:128]
    top = max(values[0], 1e-9)
    bars = "".join(f"<div style='height:{max(100 * v / top, 0.5):.1f}%' title='{v:.2f} nats'></div>" for v in values)
    return (f"<h2>Information per latent</h2><figure><div class='bars' role='img' aria-label='information of each latent, "
            f"most first'>{bars}</div><figcaption>{len(values)} of {len(found.detail)} latents, most informative first; "
            f"the first carries {values[0]:.2f} nats.</figcaption></figure>")


def _recipe(run: Run) -> str:
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td><code>{html.escape(str(v))}</code></td></tr>"
                   for k, v in run.recipe.to_dict().items() if v is not None)
    speed = f"<tr><td>chosen on this machine</td><td>{run.threads} threads, {run.precision}</td></tr>"
    return f"<table><tbody>{rows}{speed}</tbody></table>"


def model_card(run: Run, config: Config, figures: Sequence[Figure], verdict: Verdict) -> str:
    """README.md of the run's folder, which is the model's page when the folder is shared."""
    rows = "\n".join(f"| {'; '.join((f.name, *f.beside))} | {f.value:,.4g} | {_interval(f)} | {f.unit} | {f.n:,} |"
                     for f in figures)
    c, h, w = config.image_shape
    kind, r = run.facts["outcome"]["measured_on"], config.recipe
    shape = "D" if r.latent.startswith("flat") else "C, h, w"
    use = "path = model.interpolate()       # between two draws; a GAN has no encoder" if is_gan(config) else \
        f"codes = model.encode(images)     # (16, {shape})"
    judged = "" if r.adversary == "none" else \
        f"\n| adversary, critic, game, penalty | `{r.adversary}`, `{r.critic}`, `{r.game}`, `{r.penalty}` |"
    added = "".join(f"\n| {name} | `{what}` |" for name, what in
                    (("resampler", config.resampler), ("refiner", config.refiner)) if what)
    source = str(config.data["name"]).replace("`", "'")  # a backtick would end the code span
    return f"""---
library_name: reparam
tags: [{'gan' if is_gan(config) else 'vae'}, image-generation]
---
# {html.escape(run.folder.name)}

A {'GAN' if is_gan(config) else 'variational autoencoder'} of {w}×{h} images with {c} channel{'s' if c > 1 else ''}, \
trained with reparam on \
{run.facts['training']:,} images from `{source}` (fingerprint `{config.data['fingerprint']}`).

![samples](samples.png)

**Verdict: {verdict.title}.** {' '.join(f'{f.title}: {f.evidence}.' for f in (*verdict.illnesses, *verdict.remarks))}

```python
import reparam

model = reparam.load('<this folder>')
images = model.sample(16)        # uint8 {'(16, H, W)' if c == 1 else '(16, H, W, C)'}
{use}
```

| part | choice |
|---|---|
| encoder, decoder | `{r.encoder}`, `{r.decoder}` |{judged}
| {'latent' if is_gan(config) else 'latent, posterior'} | `{r.latent}`{'' if is_gan(config) else f', `{r.posterior}`'} |
| prior | `{r.prior}`{f', and `{config.fitted_prior}` fitted to the codes' if config.fitted_prior else ''} |{added}
| likelihood | `{r.likelihood}` |
| objective | `{r.objective}` |

Measured on {kind} images, protocol {PROTOCOL}; nats are sums over an image.

| figure | value | 95 % interval | unit | images |
|---|---|---|---|---|
{rows}

Samples resemble the training images, and a model can memorise some of them: do not publish a model of images that must
not be seen. Loading it runs no code: `config.json` and `model.safetensors` are data.
"""
