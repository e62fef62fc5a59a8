"""Networks: encoders, decoders, critics and their layers."""

from .base import Decoder, Encoder

__all__ = ["Decoder", "Encoder"]
