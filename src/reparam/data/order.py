"""The order in which images of shards come: a function of the seed and of one integer, the position of the first of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

MIXED = 4
"""Groups whose images are mixed."""
MOST_BYTES = 256 << 20
"""Of groups that are mixed; of larger groups fewer are."""
_DEALT, _GROUPS, _ROWS = 0, 1, 2  # what random numbers are for

Numbers = npt.NDArray[np.int64]


class Block(NamedTuple):
    """Some groups that are read together, and their images in the order in which they come."""

    groups: Numbers
    rows: Numbers
    """Numbers of images, counted through the groups."""
    first: int
    """How many of the rows come before the position that was asked for."""


class Order:
    """Passes of one of several processes over its share of the groups, each image once, in a new order every time.

    Groups are shared out between the processes once, in an order of chance; a pass is as long as the smallest share.

    Raises:
        UsageError: fewer groups than processes.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[int], seed: int, process: int = 0, processes: int = 1
                 ) -> None:
        if len(sizes) < processes:
            raise UsageError(f"{processes} processes share {len(sizes)} groups of images, which are read as a whole: use "
                             "fewer processes, or write smaller groups with: reparam pack DATA OUT")
        self.sizes, self.seed = np.array(sizes, np.int64), seed
        dealt = np.random.default_rng([seed, _DEALT]).permutation(len(sizes))
        shares = [dealt[i::processes] for i in range(processes)]
        self.own, self.length = shares[process], min(int(self.sizes[share].sum()) for share in shares)
        self.mixed = int(min(max(MOST_BYTES // max(1, *weights), 1), MIXED))

    def blocks(self, position: int) -> Iterator[Block]:
        """Block after block from the one that holds the image at `position`."""
        first, offset = divmod(position, self.length)
        for number in itertools.count(first):
            yield from self._pass(number, offset)
            offset = 0

    def _pass(self, number: int, offset: int) -> Iterator[Block]:
        order, begin = np.random.default_rng([self.seed, number, _GROUPS]).permutation(self.own), 0
        for k in range(0, len(order), self.mixed):
            groups = order[k : k + self.mixed]
            n = int(self.sizes[groups].sum())
            used = min(n, self.length - begin)
            if begin + used > max(offset, begin):
                rows = np.random.default_rng([self.seed, number, _ROWS, k]).permutation(n)[:used]
                yield Block(groups, rows, max(offset - begin, 0))
            begin += used
