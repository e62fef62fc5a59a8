"""Quantised posteriors: vectors rounded to integer codes, with a straight-through gradient.

A vector becomes one code. In a spatial latent (C, h, w) the channels of a position form one; a flat latent (D,) is cut
into pieces. `vq` and `rvq` look vectors up in codebooks that are learned; `fsq` and `lfq` round each number by itself.
Objectives for them are such as `nll + kl + 0.25*commitment`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...distributions.base import Distribution
from ...distributions.quantized import Quantized
from ...errors import UsageError
from ...nets.layers import to_latent
from ...parallel import COMPANY, summed
from ...parts.ranges import at_least, between
from ...parts.registry import posterior
from ...tensors import Shape, no_autocast
from ..space import Space
from .base import Posterior

MOST_LEVELS = 2**16
"""Values that a code may take: priors have a logit for each."""
DEFAULT_DIM = 8
"""Numbers of a flat latent that share a code."""
COUNTING = 0.99
"""Decay of the counts of a codebook that is learned by gradient."""
Dim = Annotated[int, at_least(1)]
Codes = Annotated[int, between(2, MOST_LEVELS, advice="For more, give each vector several codes: rvq(codes, depth)")]
Decay = Annotated[float, at_least(0, below=1)]
Levels = tuple[Annotated[int, at_least(3, advice="lfq has two levels for each number")], ...]


@dataclass(frozen=True)
class Cells:
    """A latent's numbers as vectors of `dim`, each of which gets one code."""

    shape: Shape
    dim: int

    @staticmethod
    def of(shape: Shape, dim: int | None, name: str) -> Cells:
        """All channels of a position, or 8 numbers of a flat latent, unless `dim` says otherwise."""
        dim = (min(DEFAULT_DIM, shape[0]) if len(shape) == 1 else shape[0]) if dim is None else dim
        if shape[0] % dim:
            what = f"flat({shape[0]})" if len(shape) == 1 else f"a latent of {shape[0]} channels"
            raise UsageError(f"{name}: {what} does not divide into vectors of {dim} numbers; choose a multiple of {dim}")
        return Cells(shape, dim)

    @property
    def grid(self) -> Shape:
        """Of the vectors: (groups,) of a flat latent, (h, w) or (groups, h, w) of a spatial one."""
        groups = self.shape[0] // self.dim
        return (groups, *self.shape[1:]) if len(self.shape) == 1 or groups > 1 else self.shape[1:]

    def split(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*m dim"]:
        """(…, *shape) to (…, *grid, dim)."""
        first = -len(self.shape)
        return t.unflatten(first, (-1, self.dim)).movedim(first, -1).reshape(*t.shape[:first], *self.grid, self.dim)

    def join(self, v: Float[Tensor, "*m dim"]) -> Float[Tensor, "*n"]:
        """(…, *grid, dim) to (…, *shape)."""
        leading = v.shape[: -1 - len(self.grid)]
        v = v.reshape(*leading, -1, *self.shape[1:], self.dim)
        return v.movedim(-1, -len(self.shape)).flatten(-1 - len(self.shape), -len(self.shape))


def straight_through(raw: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized`, to the last bit, with the gradient of `raw`. (Bengio et al., 2013, arXiv:1308.3432)"""
    return quantized.detach() + (raw - raw.detach())


class QuantizedPosterior(Posterior):
    """What quantised posteriors share: a linear head, and a look-up for codes that no image gave."""

    def __init__(self, features: Shape, cells: Cells, grid: Shape, levels: int, name: str) -> None:
        super().__init__()
        if not 2 <= levels <= MOST_LEVELS:
            raise UsageError(f"{name}: a code would take {levels:,} values; 2 to {MOST_LEVELS:,} are supported. Give an "
                             "image more codes with fewer values each: fewer numbers per code, or a larger grid")
        self.cells, self.space = cells, Space(grid, "codes", levels)
        self.head = to_latent(features, cells.shape)

    @abstractmethod
    def quantize(self, v: Float[Tensor, "b *m dim"]
                 ) -> tuple[Tensor, Float[Tensor, "b *m dim"], Int[Tensor, "b *grid"], tuple[Tensor, ...]]:
        """What is rounded, what it is rounded to, the codes, and the affinities."""

    @abstractmethod
    def look_up(self, codes: Int[Tensor, "*n"]) -> Float[Tensor, "*m dim"]:
        """Vectors of codes (…, *grid), (…, *positions, dim)."""

    def forward(self, h: Tensor) -> Quantized:
        raw = self.head(h).float()
        with no_autocast(raw):
            rounded, quantized, codes, affinities = self.quantize(self.cells.split(raw))
            raw, quantized = self.cells.join(rounded), self.cells.join(quantized)
            return Quantized(codes, straight_through(raw, quantized), raw, quantized, affinities)

    def embed(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        if isinstance(q, Quantized):
            return q.vectors.expand(z.shape[0], *q.vectors.shape)
        return self.cells.join(self.look_up(z))


class Codebook(nn.Module):
    """Vectors that others are rounded to: a running mean of those that are, or a parameter with `decay` 0.

    N_i ← γ N_i + (1 − γ) n_i,  m_i ← γ m_i + (1 − γ) Σ_j v_ij,  e_i = m_i / N_i   over the n_i vectors v_ij of a batch
    that are nearest to e_i, in training mode (van den Oord et al., 2017, arXiv:1711.00937, Appendix A.1). A code whose
    N_i is less than `revive` of its fair share moves to a vector of the batch, as all do at the start (Dhariwal et al.,
    2020, arXiv:2005.00341, section 3.1). Vectors that are not finite have no part in this. Processes share their sums.
    """

    counts: Tensor
    sums: Tensor
    vectors: Tensor

    def __init__(self, codes: int, dim: int, *, decay: float, revive: float) -> None:
        super().__init__()
        self.decay, self.revive = decay, revive
        vectors = torch.randn(codes, dim)
        self.register_buffer("counts", torch.zeros(codes))
        if decay:
            self.register_buffer("vectors", vectors)
            self.register_buffer("sums", torch.zeros(codes, dim))
        else:
            self.vectors = nn.Parameter(vectors)

    def forward(self, v: Float[Tensor, "m dim"]
                ) -> tuple[Int[Tensor, "m"], Float[Tensor, "m dim"], Float[Tensor, "m codes"]]:
        """The nearest code of each vector, what it stands for, and minus the squared distance to every code."""
        vectors = self.vectors.clone()  # what backward reads must outlive `learn`
        affinity = 2 * v @ vectors.mT - vectors.square().sum(-1) - v.square().sum(-1, keepdim=True)
        codes = affinity.detach().argmax(-1)
        if self.training:
            self.learn(v.detach(), codes)
        return codes, F.embedding(codes, vectors), affinity

    @torch.no_grad()
    def learn(self, v: Float[Tensor, "m dim"], codes: Int[Tensor, "m"]) -> None:
        """Takes in vectors and their codes."""
        finite = v.square().sum(-1).isfinite()
        v = torch.where(finite[:, None], v, 0.0)
        n = torch.zeros_like(self.counts).index_add_(0, codes, finite.to(v.dtype))
        total = torch.zeros_like(self.vectors).index_add_(0, codes, v)
        spare, offered = self._spares(v, finite)
        together = summed(torch.cat([n[:, None], total, spare, offered], 1))
        n, total, spare, offered = together.split([1, v.shape[1], v.shape[1], 1], 1)
        n, fair = n.squeeze(1), n.mean()
        self.counts.lerp_(n, 1 - (self.decay or COUNTING))
        if self.decay:
            self.sums.lerp_(total, 1 - self.decay)
            self.vectors.copy_(torch.where(n[:, None] > 0, self.sums / self.counts[:, None], self.vectors))
        dead = (self.counts < self.revive * fair)[:, None] & (offered > 0)
        self.counts.copy_(torch.where(dead.squeeze(1), fair, self.counts))
        self.vectors.copy_(torch.where(dead, spare, self.vectors))
        if self.decay:
            self.sums.copy_(torch.where(dead, fair * spare, self.sums))

    def _spares(self, v: Tensor, finite: Tensor) -> tuple[Tensor, Tensor]:
        """Random vectors of the batch, one for each code that is this process's turn, and which those are, (codes, 1)."""
        size = len(self.counts)
        order = (torch.rand(v.shape[0], device=v.device) + 2 * ~finite).argsort()
        index = torch.arange(size, device=v.device)
        mine = ((index % COMPANY.size == COMPANY.rank) & finite.any())[:, None]
        return torch.where(mine, v[order[index % finite.sum().clamp(min=1)]], 0.0), mine.to(v.dtype)


class ResidualQuantizer(QuantizedPosterior):
    """A sum of vectors from one codebook after the other, each of which rounds what those before it left over."""

    def __init__(self, features: Shape, cells: Cells, grid: Shape, books: list[Codebook], levels: int, name: str) -> None:
        super().__init__(features, cells, grid, levels, name)
        self.books = nn.ModuleList(books)

    def quantize(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        flat = v.reshape(-1, v.shape[-1])
        quantized, codes, affinities = torch.zeros_like(flat), [], []
        for book in self.books:
            code, vector, affinity = book(flat - quantized.detach())
            quantized = quantized + vector
            codes.append(code.unflatten(0, (v.shape[0], -1)))
            affinities.append(affinity.unflatten(0, (v.shape[0], -1)))
        grid = torch.stack(codes, 1).reshape(v.shape[0], *self.space.shape)
        return v, quantized.reshape(v.shape), grid, (torch.stack(affinities, 1),)

    def look_up(self, codes: Tensor) -> Tensor:
        positions = self.cells.grid
        each = codes.reshape(*codes.shape[: codes.dim() - len(self.space.shape)], len(self.books), *positions)
        axis = -1 - len(positions)
        vectors = [F.embedding(c, book.vectors)  # type: ignore[arg-type]
                   for c, book in zip(each.unbind(axis), self.books, strict=True)]
        return torch.stack(vectors).sum(0)


def make_books(n: int, codes: int, dim: int, decay: float, revive: float) -> list[Codebook]:
    return [Codebook(codes, dim, decay=decay, revive=revive) for _ in range(n)]


@posterior("vq")
class VQ(ResidualQuantizer):
    """Each vector of `dim` numbers is rounded to the nearest of `codes` learned ones.

    The codebook is a running mean with `decay`, or at decay=0 a parameter, which the term `codebook` trains. Codes used
    less than `revive` of their fair share are put to use again; 0 leaves them. By default `dim` is the channels of a
    spatial latent, and 8 of a flat one, which it must divide. (van den Oord et al., 2017, arXiv:1711.00937)
    """

    def __init__(self, features: Shape, shape: Shape, codes: Codes = 512, decay: Decay = 0.99, revive: Decay = 0.05,
                 dim: Dim | None = None) -> None:
        cells = Cells.of(shape, dim, "vq")
        super().__init__(features, cells, cells.grid, make_books(1, codes, cells.dim, decay, revive), codes, "vq")


@posterior("rvq")
class RVQ(ResidualQuantizer):
    """Each vector of `dim` numbers is the sum of `depth` learned ones, the next rounding what the last left over.

    Codes lie on a grid (depth, *positions). Each depth has a codebook of its own (Zeghidour et al., 2021,
    arXiv:2107.03312; Lee et al., 2022, arXiv:2203.01941, share one); its arguments are those of `vq`.
    """

    def __init__(self, features: Shape, shape: Shape, codes: Codes = 256, depth: Annotated[int, between(1, 64)] = 4,
                 decay: Decay = 0.99, revive: Decay = 0.05, dim: Dim | None = None) -> None:
        cells = Cells.of(shape, dim, "rvq")
        books = make_books(depth, codes, cells.dim, decay, revive)
        super().__init__(features, cells, (depth, *cells.grid), books, codes, "rvq")


@posterior("fsq")
class FSQ(QuantizedPosterior):
    """Numbers are squashed and rounded to `levels` each; those of one vector together make a code.

    For L levels, u = h·tanh(r + s) − o is rounded to an integer from −⌊L/2⌋ on, where h = (L − 1)/2, o is ½ for even L
    and 0 for odd, and s = artanh(o/h), so that r = 0 is rounded to 0; the decoder reads it divided by ⌊L/2⌋. A code is
    the integers' mixed-radix number, the first the least significant. There is no codebook to learn or to collapse.
    The latent's size is a multiple of the number of levels. (Mentzer et al., 2024, arXiv:2309.15505)
    """

    span: Tensor
    offset: Tensor
    below: Tensor
    base: Tensor
    radix: Tensor

    def __init__(self, features: Shape, shape: Shape, levels: Levels = (8, 5, 5, 5)) -> None:
        if not levels:
            raise UsageError("fsq(levels=()): give the levels of each number of a code, such as (8, 5, 5, 5)")
        cells = Cells.of(shape, len(levels), f"fsq(levels={levels})")
        super().__init__(features, cells, cells.grid, math.prod(levels), f"fsq(levels={levels})")
        count = torch.tensor(levels)
        self.levels = levels
        for name, value in (("span", (count - 1) / 2), ("offset", 0.5 * (count % 2 == 0)), ("below", count // 2),
                            ("base", count.cumprod(0) // count), ("radix", count)):
            self.register_buffer(name, value)

    def quantize(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        u = self.span * torch.tanh(v + torch.atanh(self.offset / self.span)) - self.offset
        digits = u.detach().round().nan_to_num() + self.below
        digits = torch.minimum(digits.clamp(min=0), self.radix - 1)
        codes = (digits.long() * self.base).sum(-1)
        raw = u / self.below
        steps = [torch.arange(n, device=v.device) / (n // 2) - 1 for n in self.levels]
        affinities = tuple(-(raw[..., i].flatten(1)[:, None, :, None] - s).square() for i, s in enumerate(steps))
        return raw, self.look_up(codes), codes, affinities

    def look_up(self, codes: Tensor) -> Tensor:
        return (codes[..., None] // self.base % self.radix - self.below) / self.below


@posterior("lfq")
class LFQ(QuantizedPosterior):
    """Numbers are rounded to their sign, ±1; those of one vector are the bits of a code, the first the lowest.

    Vectors of `dim` numbers have 2^dim codes; by default all channels of a spatial latent, and 8 of a flat one, which
    `dim` must divide. Train it with the terms `commitment` and `entropy`. (Yu et al., 2024, arXiv:2310.05737)
    """

    base: Tensor

    def __init__(self, features: Shape, shape: Shape, dim: Dim | None = None) -> None:
        cells = Cells.of(shape, dim, "lfq")
        super().__init__(features, cells, cells.grid, 2**cells.dim, f"lfq(dim={cells.dim})")
        self.register_buffer("base", 2 ** torch.arange(cells.dim))

    def quantize(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        codes = ((v > 0) * self.base).sum(-1)
        signs = torch.arange(-1.0, 2.0, 2.0, device=v.device)
        affinities = tuple(-(v[..., i].flatten(1)[:, None, :, None] - signs).square() for i in range(self.cells.dim))
        return v, self.look_up(codes), codes, affinities

    def look_up(self, codes: Tensor) -> Tensor:
        return (2 * (codes[..., None] // self.base % 2) - 1).float()
