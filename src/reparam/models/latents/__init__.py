"""How latents are inferred and generated: flat and spatial, ladders, with classes."""

from .base import LATENTS, NO_ENCODER, Latents, LatentSpec, Observed
from .flat import Drawn, FlatSpec, OneLayer, flat, spatial
from .labelled import Classed, Conditional, SemiSupervised
from .top_down import TopDown

__all__ = ["Classed", "Conditional", "Drawn", "FlatSpec", "LATENTS", "LatentSpec", "Latents", "NO_ENCODER", "Observed",
          "OneLayer",
           "SemiSupervised", "TopDown", "flat", "spatial"]
