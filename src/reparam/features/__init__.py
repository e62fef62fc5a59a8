"""Feature networks: what perceptual terms and distances between sets of images see of an image."""

from .base import Features
from .efficientnet import EfficientNetLite
from .load import get_features
from .wavelets import Wavelets

__all__ = ["EfficientNetLite", "Features", "Wavelets", "get_features"]
