"""reparam trains, measures and uses variational autoencoders on images. Importing it imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .build import build_model as build_model
    from .build import build_objective as build_objective
    from .compare import compare_runs as compare_runs
    from .data import open_images as open_images
    from .errors import ReparamError as ReparamError
    from .estimator import ImageVAE as ImageVAE
    from .generate import ImageModel as ImageModel
    from .generate import load as load
    from .keeping import fit_prior as fit_prior
    from .keeping import save as save
    from .loop import State as State
    from .loop import training as training
    from .measuring import evaluate as evaluate
    from .objective import Objective as Objective
    from .objective import Term as Term
    from .presets import PRESETS as PRESETS
    from .recipe import Recipe as Recipe
    from .run import resume as resume
    from .run import train as train
    from .vae import VAE as VAE
    from .vae import Trace as Trace

_HOME = {
    "build_model": "build", "build_objective": "build", "open_images": "data", "ReparamError": "errors",
    "evaluate": "measuring", "fit_prior": "keeping", "save": "keeping", "compare_runs": "compare",
    "ImageVAE": "estimator", "ImageModel": "generate", "load": "generate", "Objective": "objective",
    "Term": "objective", "PRESETS": "presets", "Recipe": "recipe", "resume": "run", "train": "run", "State": "loop",
    "training": "loop", "VAE": "vae", "Trace": "vae",
}
__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from .environment import version_of

        return version_of("reparam") or "unknown"
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
