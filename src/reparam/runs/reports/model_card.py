"""The model card, a run's README.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...doctor.diagnosis import Diagnosis
from ...metrics.figures import PROTOCOL, Figure
from ...models.sampler import FITTED_PRIOR
from ...pretrained.config import Config
from ...text import code_for_markdown, counted, for_markdown
from .run_page import about_samples, interval_text, with_arrow

if TYPE_CHECKING:
    from ..folder import Run



def model_card(run: Run, config: Config, figures: Sequence[Figure], diagnosis: Diagnosis) -> str:
    """README.md of the run's folder, which is the model's page when the folder is shared."""
    c, h, w = config.image_shape
    gan, source = not config.recipe.has_encoder, code_for_markdown(str(config.data["name"]))
    shape = "D" if config.recipe.latent.startswith("flat") else "C, h, w"
    use = "path = model.interpolate()       # between two draws; a GAN has no encoder" if gan else \
        f"codes = model.encode(images)     # (16, {shape})"
    found = " ".join(for_markdown(f"{f.title}: {f.evidence}.") for f in (*diagnosis.problems, *diagnosis.remarks))
    rows = "\n".join(_card_row(for_markdown("; ".join((with_arrow(f), *f.beside))), f"{f.value:,.4g}", interval_text(f),
                               for_markdown(f.unit), f"{f.n:,}") for f in figures)
    return f"""---
library_name: reparam
tags: [{'gan' if gan else 'vae'}, image-generation]
---
# {for_markdown(run.folder.resolve().name)}

A {'GAN' if gan else 'variational autoencoder'} of {w}×{h} images with {counted(c, 'channel')}, trained with reparam on \
{counted(run.facts['training'], 'image')} from {source} (fingerprint {code_for_markdown(config.data['fingerprint'])})\
{_started_from(run)}.

![samples](samples.png)

{for_markdown(about_samples(run, config))}

**Verdict: {for_markdown(diagnosis.title)}.** {found}

```python
import reparam

model = reparam.load('<this folder>')
images = model.sample(16)        # uint8 {'(16, H, W)' if c == 1 else '(16, H, W, C)'}
{use}
```

| part | choice |
|---|---|
{_parts(config)}

Measured on {for_markdown(run.facts['outcome']['measured_on'])} images, protocol {PROTOCOL}; nats are sums over an image. \
↑ higher is better, ↓ lower.

| figure | value | 95 % interval | unit | images |
|---|---|---|---|---|
{rows}

Samples resemble the training images, and a model can memorise some of them: do not publish a model of images that must
not be seen. Loading it runs no code: `config.json` and `model.safetensors` are data.
"""


def _started_from(run: Run) -> str:
    init = run.facts.get("init")
    return "" if init is None else (f", started from the weights of {code_for_markdown(init['name'])} "
                                    f"(fingerprint {code_for_markdown(init['fingerprint'])})")


def _card_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _parts(config: Config) -> str:
    """The model's parts as rows of a table."""
    r = config.recipe

    def code(*parts: str) -> str:
        return ", ".join(code_for_markdown(part, cell=True) for part in parts)

    fitted = f", and {code(config.fitted_prior)} fitted to the codes" if config.fitted_prior else ""
    rows = [("encoder, decoder", code(r.encoder, r.decoder))]
    if r.adversary != "none":
        rows.append(("adversary, critic, game, penalty", code(r.adversary, r.critic, r.game, r.penalty)))
    rows += [("latent, posterior", code(r.latent, r.posterior)) if r.has_encoder else ("latent", code(r.latent)),
             ("prior", code(r.prior) + fitted)]
    rows += [(name, code(call)) for name, call in config.stages.items() if name != FITTED_PRIOR]
    rows += [("likelihood", code(r.likelihood)), ("objective", code(r.objective))]
    return "\n".join(_card_row(*row) for row in rows)
