"""What a metric is given: a model, the images that it is measured on, and what is drawn, rebuilt and embedded of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..chunks import in_chunks, of_each
from ..errors import UsageError
from ..functional.moments import Moments
from ..models.codes import Codes
from ..models.draw import Draw
from ..models.latents import NO_ENCODER
from ..models.sampler import Sampler
from ..models.vae import VAE, Model
from ..tensors import at_once, evenly, forked_rng
from ..text import counted

AT_HAND = 10_000
"""Of larger sets so many are looked at by what holds pictures or features together, such as a search for neighbours."""
FEWEST = 20
"""With fewer images a set of samples, or a classifier of codes, says nothing."""

Kind = Literal["real", "smoothed", "training", "samples", "prior samples", "fitted-prior samples", "reconstructions"]
"""Of which pictures features are taken."""


class Unavailable(UsageError):
    """Raised where a metric does not apply. Standard lists skip it; with `report_reason` they report why.

    `short` is the reason in a few words, for the cell of a table.
    """

    def __init__(self, message: str, *, short: str = "", report_reason: bool = False) -> None:
        super().__init__(message)
        self.short, self.report_reason = short or message, report_reason


@runtime_checkable
class Embedder(Protocol):
    """A feature network, such as `features.get_features` returns."""

    name: str
    resize: str
    standard: bool

    def embed(self, x: Tensor, /) -> Tensor:
        """Vectors (n, D) of images (n, C, H, W) in [0, 1]."""
        ...


@dataclass(frozen=True)
class Embedded:
    """Features of a set of pictures."""

    rows: Tensor
    """(n, D), float32 on the CPU, of all, or of `AT_HAND` evenly spaced ones."""
    moments: Moments | None = None
    """Of all, where they are more than that."""


@dataclass(frozen=True)
class FactorTable:
    """The known factors of the evaluated images."""

    names: tuple[str, ...]
    levels: Tensor  # (n, F), whole numbers
    categorical: tuple[bool, ...]  # of each factor, whether its values are words, without an order


@dataclass(frozen=True)
class Evaluation:
    """A model and the images that it is measured on. Every metric draws from the same fixed seed.

    What metrics share (codes, samples, reconstructions, features) is made when first asked for, and once.
    """

    sampler: Sampler
    x: Tensor
    """(n, C, H, W) in [0, 1], on the model's device; binarised once when the recipe says so."""
    y: Tensor | None = None
    """(n,) class labels, −1 where there is none."""
    seed: int = 1234
    pictures: Tensor | None = None
    """x before it was binarised, which samples are compared with; x itself by default."""
    train_images: Tensor | None = None
    """(m, C, H, W) training images, not binarised, as many as there are images where there are so many."""
    train_labels: Tensor | None = None
    """(m,) their labels."""
    features: str | Embedder = "efficientnet"
    """The feature network: a part call, a file of weights, or an object with its own `embed`."""
    n: int = 10_000
    """Samples and real images that sets are compared with, at most. Of more than `AT_HAND`, FD is of all, and other figures
    of sets are of `AT_HAND`."""
    factors: FactorTable | None = None
    """Of the images x."""
    facts: Mapping[str, Any] | None = None
    """What training left behind: training_seconds, cpu_seconds, images_seen, skipped_steps, rollbacks, failed_seeds."""

    @contextlib.contextmanager
    def drawing(self) -> Generator[None]:
        """A region without gradients whose random numbers start from the evaluation's seed."""
        with forked_rng(), torch.inference_mode():
            torch.manual_seed(self.seed)
            yield

    @property
    def model(self) -> Model:
        """The model without the stages that were trained after it."""
        return self.sampler.model

    @property
    def vae(self) -> VAE:
        """The model with its encoder.

        Raises:
            Unavailable: it has none.
        """
        if not isinstance(self.model, VAE):
            raise Unavailable(NO_ENCODER, short="a GAN has no encoder")
        return self.model

    @property
    def network(self) -> Embedder:
        """The feature network.

        Raises:
            Unavailable: its packages are missing, or there is none of this name.
        """
        if not isinstance(self.features, str):
            return self.features
        from ..features import get_features

        try:
            return get_features(self.features)
        except UsageError as e:
            raise Unavailable(str(e), report_reason=True) from e

    @cached_property
    def codes(self) -> Codes:
        from ..models.codes import codes_of

        model = self.vae
        with self.drawing():
            return codes_of(model, self.x)

    @cached_property
    def count(self) -> int:
        """How many pictures of each kind are compared.

        Raises:
            Unavailable: fewer than 20.
        """
        if len(self.x) < FEWEST:
            raise Unavailable(counted(len(self.x), "image is", "images are")
                              + f" too few to compare a set of samples with; {FEWEST} at least")
        return min(len(self.x), self.n)

    @cached_property
    def real(self) -> Tensor:
        """The pictures that samples are compared with, (n, C, H, W): evenly spaced ones, `n` and `AT_HAND` at most.

        Raises:
            Unavailable: fewer than 20.
        """
        return self._pictured[self._rows(min(self.count, AT_HAND))]

    @property
    def _pictured(self) -> Tensor:
        return self.x if self.pictures is None else self.pictures

    @cached_property
    def training_set(self) -> Tensor:
        """Training images, at most as many as `real`.

        Raises:
            Unavailable: none were given.
        """
        count = 0 if self.train_images is None else len(self.train_images)
        if self.train_images is None or count < FEWEST:
            raise Unavailable(f"this compares with training images, and {count} were "
                              f"given; {FEWEST} at least")
        return self.train_images[: len(self.real)]

    @cached_property
    def samples(self) -> Tensor:
        """As many as `real`, (n, C, H, W), at temperature 1, from the fitted prior and by the resampler where there are any,
        as a saved picture holds them."""
        return self._drawn(Draw())

    def drawn_from(self, which: Literal["prior", "fitted prior"]) -> Kind:
        """The pictures that show what the own prior, or the fitted one, gives by itself, without a resampler."""
        fitted = self.sampler.fitted_prior is not None
        if self.sampler.resampler is None and fitted == (which == "fitted prior"):
            return "samples"
        return "fitted-prior samples" if which == "fitted prior" else "prior samples"

    @cached_property
    def reconstructions(self) -> Tensor:
        """Of all images x, rendered from a draw of the posterior, which is what the decoder was trained on: the mean is a
        code that a young decoder has never seen. Clipped to [0, 1] and not rounded."""
        return self._rebuilt(sample=True)

    @cached_property
    def reconstructions_of_means(self) -> Tensor:
        """The same from the posterior's mean, the code by which an image is known."""
        return self._rebuilt(sample=False)

    def _rebuilt(self, *, sample: bool) -> Tensor:
        model = self.vae
        with self.drawing():
            return in_chunks(lambda chunk: self.sampler.images(model.encode(chunk, sample=sample)).clamp(0, 1), self.x,
                             size=self.at_once)

    @property
    def at_once(self) -> int:
        """Images that pass through a model or a feature network at a time."""
        return at_once(self.x.shape)

    def embedded(self, kind: Kind) -> Tensor:
        """Features (n, D), float32 on the CPU, of one kind of pictures, `AT_HAND` at most."""
        return self.features_of(kind).rows

    def features_of(self, kind: Kind) -> Embedded:
        """Features of one kind of pictures, of as many as are compared."""
        if kind not in self._embedded:
            network = self.network  # before anything is drawn: it may be missing
            passing = self.count > AT_HAND and kind not in ("smoothed", "training")
            self._embedded[kind] = self._of_passing(network, kind) if passing else self._of_held(network, kind)
        return self._embedded[kind]

    @cached_property
    def _embedded(self) -> dict[Kind, Embedded]:
        return {}

    def _of_held(self, network: Embedder, kind: Kind) -> Embedded:
        from ..functional.spectrum import as_smooth_as

        make: dict[Kind, Callable[[], Tensor]] = {
            "real": lambda: self.real, "smoothed": lambda: saved(as_smooth_as(self.real, self.samples)),
            "training": lambda: self.training_set, "samples": lambda: self.samples,
            "reconstructions": lambda: saved(self.reconstructions[self._rows(self.count)])}
        pictures = self._drawn(_DRAWS[kind]) if kind in _DRAWS and kind != "samples" else make[kind]()
        with self.drawing():
            return Embedded(in_chunks(lambda chunk: network.embed(chunk).float().cpu(), pictures, size=self.at_once))

    def _of_passing(self, network: Embedder, kind: Kind) -> Embedded:
        """Features of pictures of which a chunk is held at a time."""
        def pictures(rows: Tensor) -> Tensor:
            if kind == "real":
                return self._pictured[rows]
            if kind == "reconstructions":
                return saved(self.sampler.images(self.vae.encode(self.x[rows], sample=True)).clamp(0, 1))
            return saved(self.sampler.images(self.sampler.codes(len(rows), _DRAWS[kind])))

        moments, kept = Moments(), torch.zeros(self.count, dtype=torch.bool)
        kept[torch.from_numpy(evenly(self.count, AT_HAND))] = True
        some: list[Tensor] = []
        with self.drawing():
            for rows, here in zip(self._rows(self.count).split(AT_HAND), kept.split(AT_HAND), strict=True):
                features = in_chunks(lambda chunk: network.embed(pictures(chunk)).float().cpu(), rows, size=self.at_once)
                moments.add(features.numpy())
                some.append(features[here])
        return Embedded(torch.cat(some), moments)

    def _drawn(self, options: Draw) -> Tensor:
        count, sampler = len(self.real), self.sampler
        sizes = [min(self.at_once, count - begin) for begin in range(0, count, self.at_once)]
        with self.drawing():
            return torch.cat([x for x, in of_each(lambda n: (saved(sampler.images(sampler.codes(n, options))),), sizes)])

    def _rows(self, most: int) -> Tensor:
        """Evenly spaced rows of x, so many at most."""
        return torch.from_numpy(evenly(len(self.x), most))


_DRAWS: Final[dict[Kind, Draw]] = {
    "samples": Draw(), "prior samples": Draw(fitted=False, resample=False), "fitted-prior samples": Draw(resample=False)}


def saved(x: Tensor) -> Tensor:
    """Images as a file with 256 levels holds them."""
    return (x.clamp(0, 1) * 255).round() / 255
