"""Feature networks: what perceptual terms and distances between sets of images see of an image."""

from .base import Features, get_features
from .efficientnet import EfficientNetLite
from .wavelets import Wavelets

__all__ = ["EfficientNetLite", "Features", "Wavelets", "get_features"]
