"""A model as one web page that needs nothing but a browser: no network, no server, no installation.

The page holds the model's programs as ONNX files, ONNX Runtime Web that runs them (single-threaded WebAssembly, MIT), and
a few plain modules, `web/*.js`, as they stand here. A content policy in it lets nothing in from anywhere, and nothing out.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files.writing import write_text
from ..models.priors import FlowMatching
from ..pretrained.image_model import ImageModel
from ..tensors import forked_rng
from .bundle import bundled
from .half import with_half_weights
from .onnx import check_packages, compared, difference
from .packing import packed
from .points import Points, map_of
from .programs import description, programs, top_prior

WEB = Path(__file__).parent / "web"
LOOK = Path(__file__).parents[1] / "web" / "look.css"
"""What all pages look like; `web/style.css` adds what is this one's own."""
MOST_APART_IN_HALF = 2 / 255
"""Beyond which a program keeps weights of float32."""
DIRECTIONS, DRAWS, DRAWS_IN_STEPS = 24, 512, 96
"""Principal directions that a map of codes is moved along, and draws of the prior that they are found in: fewer of flow
matching, where one takes dozens of evaluations of a network."""


@dataclass(frozen=True)
class Page:
    """What was written, and how far its programs are from PyTorch."""

    path: Path
    bytes: int
    apart: Mapping[str, float]
    """The greatest absolute difference of outputs, by program."""
    single: tuple[str, ...]
    """Programs whose weights stay in float32, since rounding them would show."""


def export_html(model: ImageModel, path: str | Path, *, title: str = "", half: bool = True,
                points: Points | None = None) -> Page:
    """Writes a model as one page: decoder, encoder and prior, with weights stored in half precision.

    A map of images is in it only where `points` are given: whoever has the page can see them. Weights of a program whose
    output half precision would change by more than 2/255 stay in float32, as all do without `half`.

    Raises:
        UsageError: packages are missing, a part of the model cannot be exported, or points that make no map.
        ReparamError: a program does not compute what PyTorch does, or the disk is full.
    """
    check_packages()
    made = programs(model)
    files: dict[str, bytes] = {}
    apart: dict[str, float] = {}
    single: list[str] = []
    with forked_rng(), torch.no_grad():
        torch.manual_seed(0)
        told = page_description(model, title)
    for name, program in made.items():
        files[name], apart[name] = compared(name, program)
        if half:
            smaller = with_half_weights(files[name])
            apart_in_half = difference(smaller, program)
            if apart_in_half <= MOST_APART_IN_HALF:
                files[name], apart[name] = smaller, apart_in_half
            else:
                single.append(name)
    if points is not None:
        told |= {"map": map_of(model, points)}
    write_text(path, page({**told, "held": _held(points)}, files))
    return Page(Path(path), Path(path).stat().st_size, apart, tuple(single))


def page_description(model: ImageModel, title: str) -> dict[str, Any]:
    """What the page says and shows beside the programs' answers."""
    found, names, space = description(model), list(model.config.classes), model.network.latent.space
    found |= {"title": title or "A model", "text": _told(model),
              "labels": [names[k] if k < len(names) else str(k) for k in range(found["labels"])],
              "space": {"kind": space.kind, "levels": space.levels},
              "background": model.config.data.get("background", "white"),
              "sliders": [] if space.kind == "codes" else _sliders(model)}
    if model.sampler.refiner is not None:  # the one noise of all decoded codes, as in ImageModel.decode_pixels
        with forked_rng():
            torch.manual_seed(0)
            found["detail"] = packed(torch.randn(1, *model.config.image_shape).numpy().tobytes())
    return found


def _held(points: Points | None) -> str:
    if points is None:
        return "It holds none of the images that the model was trained on. What a model makes can still resemble them."
    return (f"It holds {len(points.codes):,} images of the data, small, and their codes: who has this file can see them. "
            "What a model makes can resemble others that it was trained on.")


def _told(model: ImageModel) -> str:
    c, h, w = model.config.image_shape
    parameters = sum(p.numel() for p in model.sampler.parameters())
    return (f"Images of {w}×{h} {'in grey' if c == 1 else 'in colour' if c == 3 else f'of {c} channels'}, "
            f"{'×'.join(map(str, model.latent_shape))} latents, {parameters / 1e6:,.2f} million parameters")


def _sliders(model: ImageModel) -> list[dict[str, Any]]:
    """Latents by information; of a map, whose numbers each move a patch, principal directions of the prior's draws."""
    size = int(np.prod(model.latent_shape))
    if len(model.latent_shape) == 1 and model.config.axes:
        last = size - model.network.latent.classes
        return [{"name": f"z{a.index}", "index": a.index, "nats": round(a.nats, 4), "mean": a.mean,
                 "scale": max(a.std, 1e-6)}
                for a in model.config.axes if a.index < last]
    n = DRAWS_IN_STEPS if isinstance(top_prior(model.sampler), FlowMatching) else DRAWS
    draws = model.sampler.codes(n).flatten(1).double().numpy()
    mean = draws.mean(0)
    _, scales, directions = np.linalg.svd(draws - mean, full_matrices=False)
    of_all = (scales**2).sum()
    return [{"name": f"direction {k + 1}", "share": round(float(s**2 / of_all), 4), "mean": float(mean @ v),
             "scale": float(s / np.sqrt(n)), "vector": packed(v.astype("<f4").tobytes())}
            for k, (s, v) in enumerate(zip(scales[:DIRECTIONS], directions, strict=False)) if s > 1e-6 * scales[0]]


def page(told: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """The page of a description and of programs."""
    style = "".join(path.read_text(encoding="utf-8") for path in (LOOK, WEB / "style.css"))
    script = bundled(WEB / "page.js")
    data = {**told, "files": {name: packed(data) for name, data in files.items()}}
    parts = {"title": html.escape(str(told["title"])), "policy": policy(style, script), "style": style, "script": script,
             "model": json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"), **_runtime()}
    template = (WEB / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def policy(style: str, script: str) -> str:
    """The content policy: this style and this script, WebAssembly, and the runtime, which the script unpacks."""
    return (f"default-src 'none'; script-src {_digest(script)} 'wasm-unsafe-eval' blob:; style-src {_digest(style)}; "
            "base-uri 'none'; form-action 'none'")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _runtime() -> dict[str, str]:
    vendor = WEB / "vendor"
    return {"runtime": packed((vendor / "ort.wasm.bundle.min.mjs").read_bytes()),
            "wasm": base64.b64encode((vendor / "ort-wasm-simd-threaded.wasm.gz").read_bytes()).decode(),
            "notices": packed((vendor / "ThirdPartyNotices.txt").read_bytes()),
            "licence": html.escape((vendor / "LICENSE").read_text(encoding="utf-8"))}
