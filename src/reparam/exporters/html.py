"""A model as one web page that needs nothing but a browser: no network, no server, no installation.

The page holds the model's programs as ONNX files, ONNX Runtime Web that runs them (single-threaded WebAssembly, MIT), and
a few plain modules, `web/*.js`, as they stand here. A content policy in it lets nothing in from anywhere, and nothing out.
"""

from __future__ import annotations

import base64
import gzip
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
from ..pretrained.image_model import ImageModel
from .half import with_half_weights
from .onnx import check_packages, compared, difference
from .programs import description, programs

WEB = Path(__file__).parent / "web"
MODULES = ("unpack.js", "noise.js", "pixels.js", "programs.js", "sliders.js", "page.js")
"""In the order in which they need each other."""
MOST_APART_IN_HALF = 2 / 255
"""Beyond which a program keeps weights of float32."""
DIRECTIONS, DRAWS = 24, 512
"""Principal directions that a map of codes is moved along, and draws of the prior that they are found in."""


@dataclass(frozen=True)
class Page:
    """What was written, and how far its programs are from PyTorch."""

    path: Path
    bytes: int
    apart: Mapping[str, float]
    """The greatest absolute difference of outputs, by program."""
    single: tuple[str, ...]
    """Programs whose weights stay in float32, since rounding them would show."""


def export_html(model: ImageModel, path: str | Path, *, title: str = "", half: bool = True) -> Page:
    """Writes a model as one page: decoder, encoder and prior, with weights stored in half precision.

    It holds no image that the model was trained on. Weights of a program whose output half precision would change by more
    than 2/255 stay in float32, as all do without `half`.

    Raises:
        UsageError: packages are missing, or a part of the model cannot be exported.
        ReparamError: a program does not compute what PyTorch does, or the disk is full.
    """
    check_packages()
    made = programs(model)
    files: dict[str, bytes] = {}
    apart: dict[str, float] = {}
    single: list[str] = []
    with torch.random.fork_rng(), torch.no_grad():
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
    write_text(path, page(told, files))
    return Page(Path(path), Path(path).stat().st_size, apart, tuple(single))


def page_description(model: ImageModel, title: str) -> dict[str, Any]:
    """What the page says and shows beside the programs' answers."""
    found, names = description(model), list(model.config.classes)
    found |= {"title": title or "A model", "text": _told(model),
              "labels": [names[k] if k < len(names) else str(k) for k in range(found["labels"])],
              "background": model.config.data.get("background", "white"),
              "sliders": [] if model.network.latent.space.kind == "codes" else _sliders(model)}
    if model.sampler.refiner is not None:  # the one noise of all decoded codes, as in ImageModel.decode_pixels
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found["detail"] = _packed(torch.randn(1, *model.config.image_shape).numpy().tobytes())
    return found


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
    draws = model.sampler.codes(DRAWS).flatten(1).double().numpy()
    mean = draws.mean(0)
    _, scales, directions = np.linalg.svd(draws - mean, full_matrices=False)
    of_all = (scales**2).sum()
    return [{"name": f"direction {k + 1}", "share": round(float(s**2 / of_all), 4), "mean": float(mean @ v),
             "scale": float(s / np.sqrt(DRAWS)), "vector": _packed(v.astype("<f4").tobytes())}
            for k, (s, v) in enumerate(zip(scales[:DIRECTIONS], directions, strict=False)) if s > 1e-6 * scales[0]]


def page(told: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """The page of a description and of programs."""
    style, script = (WEB / "style.css").read_text(encoding="utf-8"), _bundle()
    data = {**told, "files": {name: _packed(data) for name, data in files.items()}}
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


def _bundle() -> str:
    """The modules as one, without what they import from each other."""
    text = "\n".join((WEB / name).read_text(encoding="utf-8") for name in MODULES)
    return re.sub(r"^(import [^;]*;\n|export )", "", text, flags=re.M)


@cache
def _runtime() -> dict[str, str]:
    vendor = WEB / "vendor"
    return {"runtime": _packed((vendor / "ort.wasm.bundle.min.mjs").read_bytes()),
            "wasm": base64.b64encode((vendor / "ort-wasm-simd-threaded.wasm.gz").read_bytes()).decode(),
            "notices": _packed((vendor / "ThirdPartyNotices.txt").read_bytes()),
            "licence": html.escape((vendor / "LICENSE").read_text(encoding="utf-8"))}


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
