"""Model folders of version 1, whose config named each stage in a field of its own and whose fitted prior was a part of the
latent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..models.sampler import FITTED_PRIOR, REFINER, RESAMPLER

PREFIXES = ("latent.fitted.", "latent.top.fitted.")
"""Of the fitted prior's tensors; those of other stages have kept their names."""


def upgraded_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` says, as version 2 says it."""
    stages = {name: raw[name] for name in (FITTED_PRIOR, RESAMPLER, REFINER) if raw.get(name) is not None}
    return {**raw, "stages": stages}


def upgraded_tensor(name: str) -> str:
    """A tensor's name in version 2."""
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
    return name if prefix is None else f"{FITTED_PRIOR}.{name.removeprefix(prefix)}"
