"""How latents are inferred and generated: flat and spatial, ladders, with classes."""

from .base import NO_ENCODER, Latents
from .flat import Drawn, FlatSpec, OneLayer, flat, spatial
from .labelled import Classed, Conditional, SemiSupervised
from .top_down import TopDown

__all__ = ["Classed", "Conditional", "Drawn", "Latents", "NO_ENCODER", "OneLayer", "FlatSpec", "SemiSupervised",
           "TopDown", "flat", "spatial"]
