"""reparam trains, measures and uses variational autoencoders on images. Importing it imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .data.open import open_images as open_images
    from .doctor.diagnosis import diagnose as diagnose
    from .errors import ReparamError as ReparamError
    from .estimator import ImageVAE as ImageVAE
    from .estimator import ImageVAEClassifier as ImageVAEClassifier
    from .models.build import build_model as build_model
    from .models.draw import Draw as Draw
    from .models.trace import Batch as Batch
    from .models.trace import Layer as Layer
    from .models.trace import Trace as Trace
    from .models.vae import VAE as VAE
    from .objectives.context import Context as Context
    from .objectives.objective import Objective as Objective
    from .objectives.objective import Term as Term
    from .objectives.objective import build_objective as build_objective
    from .parts.presets import PRESETS as PRESETS
    from .parts.recipe import Recipe as Recipe
    from .pretrained.image_model import ImageModel as ImageModel
    from .pretrained.image_model import load as load
    from .runs.describing import describe as describe
    from .runs.keeping import fit_prior as fit_prior
    from .runs.keeping import save as save
    from .runs.mapping import map_codes as map_codes
    from .runs.measuring import compare as compare
    from .runs.measuring import evaluate as evaluate
    from .runs.searching import build_index as build_index
    from .runs.train import resume as resume
    from .runs.train import train as train
    from .trainer.assembly import Assembly as Assembly
    from .trainer.budget import Budget as Budget
    from .trainer.budget import Optimization as Optimization
    from .trainer.loop import training as training
    from .trainer.state import State as State
    from .trainer.tasks import ModelTask as ModelTask

_HOME = {
    "Assembly": "trainer.assembly",
    "build_index": "runs.searching",
    "build_model": "models.build",
    "build_objective": "objectives.objective",
    "compare": "runs.measuring",
    "describe": "runs.describing",
    "diagnose": "doctor.diagnosis",
    "Draw": "models.draw",
    "open_images": "data.open",
    "ReparamError": "errors",
    "ImageVAE": "estimator",
    "ImageVAEClassifier": "estimator",
    "ImageModel": "pretrained.image_model",
    "load": "pretrained.image_model",
    "map_codes": "runs.mapping",
    "fit_prior": "runs.keeping",
    "save": "runs.keeping",
    "evaluate": "runs.measuring",
    "Context": "objectives.context",
    "Objective": "objectives.objective",
    "Term": "objectives.objective",
    "PRESETS": "parts.presets",
    "Recipe": "parts.recipe",
    "resume": "runs.train",
    "train": "runs.train",
    "State": "trainer.state",
    "training": "trainer.loop",
    "Budget": "trainer.budget",
    "ModelTask": "trainer.tasks",
    "Optimization": "trainer.budget",
    "VAE": "models.vae",
    "Trace": "models.trace",
    "Batch": "models.trace",
    "Layer": "models.trace",
}
__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from .runs.environment import version_of

        return version_of("reparam") or "unknown"
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
