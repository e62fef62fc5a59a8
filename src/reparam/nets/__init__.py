"""Networks: encoders, decoders, critics and their layers."""

from __future__ import annotations




