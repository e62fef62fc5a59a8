"""What training images, the average image and noise get on each set: the floor and the ceilings of every figure."""

from __future__ import annotations

import argparse
from typing import Any

from reparam.data.stream import to_batch

from . import scales
from .grid import judge_of
from .training import images_of


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    source, indices, _ = images_of(cell, given.data, scales.of(given).test)
    known, _ = scales.parted(indices, scales.of(given))
    return judge_of(cell, given).references(to_batch(source.images[known]))
