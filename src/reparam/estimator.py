"""The scikit-learn face: `ImageVAE` fits, transforms, inverts, scores and samples like any other estimator, and
`ImageVAEClassifier` tells classes from its codes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .data.pixels import MAX_CHANNELS, Range, as_array, pixels_of
from .data.stream import Batches, keep_labels, to_batch
from .downstream.classify import KINDS, fit_probe
from .errors import UsageError, nearest
from .models.likelihoods import Likelihood
from .parallel import join
from .parts.presets import find
from .parts.recipe import Recipe
from .pretrained.image_model import ImageModel
from .tensors import forked_rng
from .trainer.assembly import Assembly
from .trainer.autotune import check_threads
from .trainer.settle import settle
from .trainer.state import State

FEW = 32
"""Images that are encoded at a time, at least."""


@contextlib.contextmanager
def _threads(count: int) -> Generator[None]:
    """A region with so many of torch's threads; 0 leaves their number alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ImageVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A variational autoencoder with scikit-learn's manners.

    X is an array, a torch tensor or nested lists: (n, features), (n, H, W), (n, H, W, C), or (n, C, H, W) of up to four
    channels. A square number of features is taken for a grey image. uint8 is read as levels 0 to 255. Other numbers are what
    they are, whatever their type: in [0, 1] (and bool) they are pixels already, else they are mapped to them from
    `value_range`, or from the range seen in `fit`, no wider than four standard deviations to either side of their mean.
    What comes out is a numpy array in the layout, the units and the type of what `fit` saw; of bool, float32.

    Args:
        latent_dim: number of latents; a short way to write latent="flat(latent_dim)".
        preset: the recipe that the other arguments change; the default is the article's small network.
        value_range: the numbers that are black and white, such as (0, 4095) or (-1, 1); others are then refused.
        random_state: seed, or a numpy RandomState.
        device: "auto", or "cpu" to leave an accelerator alone.
        encoder … threads: fields of `Recipe`; None keeps the preset's.

    Attributes:
        model_: the trained `ImageModel`.
        n_iter_: steps taken.
        loss_curve_: the objective at each step, nats per example.

    Example:
        vae = ImageVAE(latent_dim=8, epochs=5).fit(x)
        z = vae.transform(x)                   # (n, 8)
        x_hat = vae.inverse_transform(z)       # the layout and type of x
    """

    def __init__(
        self, latent_dim: int | None = None, *, preset: str = "mlp", value_range: Range | None = None,
        random_state: Any = None, device: str = "auto",
        encoder: str | None = None, decoder: str | None = None, latent: str | None = None,
        posterior: str | None = None, prior: str | None = None, fitted_prior: str | None = None,
        prior_share: float | None = None, resampler: str | None = None, resampler_share: float | None = None,
        refiner: str | None = None, refiner_share: float | None = None,
        likelihood: str | None = None, objective: str | None = None,
        adversary: str | None = None, critic: str | None = None, game: str | None = None, penalty: str | None = None,
        critic_optimizer: str | None = None, critic_augment: str | None = None, optimizer: str | None = None,
        schedule: str | None = None, batch_size: int | None = None, steps: int | None = None,
        epochs: float | None = None, minutes: float | None = None, augment: str | None = None,
        binarize: bool | None = None, labelled: int | None = None, clip: float | None = None, ema: float | None = None,
        accumulate: int | None = None, precision: str | None = None, compile: str | bool | None = None,
        compress_gradients: bool | None = None, threads: int | None = None, seed: int | None = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.preset = preset
        self.value_range = value_range
        self.random_state = random_state
        self.device = device
        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent
        self.posterior = posterior
        self.prior = prior
        self.fitted_prior = fitted_prior
        self.prior_share = prior_share
        self.resampler = resampler
        self.resampler_share = resampler_share
        self.refiner = refiner
        self.refiner_share = refiner_share
        self.likelihood = likelihood
        self.objective = objective
        self.adversary = adversary
        self.critic = critic
        self.game = game
        self.penalty = penalty
        self.critic_optimizer = critic_optimizer
        self.critic_augment = critic_augment
        self.optimizer = optimizer
        self.schedule = schedule
        self.batch_size = batch_size
        self.steps = steps
        self.epochs = epochs
        self.minutes = minutes
        self.augment = augment
        self.binarize = binarize
        self.labelled = labelled
        self.clip = clip
        self.ema = ema
        self.accumulate = accumulate
        self.precision = precision
        self.compile = compile
        self.compress_gradients = compress_gradients
        self.threads = threads
        self.seed = seed

    def fit(self, X: npt.ArrayLike, y: Any = None, *, epochs: float | None = None,
            batch_size: int | None = None) -> Self:
        """Trains on X; `epochs` and `batch_size` given here replace the constructor's.

        Class labels y (n,) are whole numbers from 0, or −1 where there is none; what knows of classes looks at them, a
        latent, a refiner or a fitted prior. Without any limit on training, 10 epochs.
        """
        recipe = self._recipe(epochs, batch_size)
        check_threads(recipe.threads)
        array = self._validated(X, reset=True)
        pixels = self._to_images(array)
        shape = (pixels.shape[3], pixels.shape[1], pixels.shape[2])
        with forked_rng(), _threads(recipe.threads):
            assembly = Assembly(recipe, shape).check()
            self._check_range(assembly.model.likelihood, recipe, pixels)
            labels = _labels(y, len(pixels), assembly.model.latent.classes, recipe)
            losses = list[float]()

            def note(doing: str, state: State[Any]) -> None:
                if doing == "training":
                    losses.append(state.loss)

            accelerator = join(self.device)

            def stream(assembly: Assembly) -> Batches:
                return assembly.stream(pixels, labels=labels, accelerator=accelerator)

            settle(assembly, stream, accelerator, tuned_at=find(self.preset).recipe.batch_size)
            model = assembly.fit(stream(assembly), progress=note, accelerator=accelerator)
        self.model_ = ImageModel(model.sampler.cpu(), model.config)
        self.n_iter_, self.loss_curve_ = len(losses), losses
        self._n_features_out = math.prod(self.model_.latent_shape)
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
        """The latents of X, (n, D): the posterior's mean."""
        check_is_fitted(self)
        x = self._validated(X, reset=False)
        z = self._of_pixels(self.model_.encode_pixels, x).flatten(1).numpy()
        return z.astype(np.float64) if x.dtype == np.float64 else z

    def inverse_transform(self, Z: npt.ArrayLike) -> np.ndarray:
        """Images of latents (n, D), in the layout, units and type that `fit` saw."""
        check_is_fitted(self)
        z, d = torch.from_numpy(np.ascontiguousarray(as_array(Z), dtype=np.float32)), self._n_features_out
        if z.shape[1:].numel() != d or z.dim() < 2:
            raise UsageError(f"latents of shape {tuple(z.shape)} do not fit this model; it takes (n, {d})")
        return self._from_pixels(self.model_.decode_pixels(z.reshape(len(z), *self.model_.latent_shape)))

    def reconstruct(self, X: npt.ArrayLike) -> np.ndarray:
        """What remains of X after encoding and decoding."""
        return self.inverse_transform(self.transform(X))

    def score_samples(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """A lower bound of log p(x) of each example, nats, (n,): the ELBO with one sample, from a fixed seed per call."""
        check_is_fitted(self)
        x = self._validated(X, reset=False)
        nats = self._of_pixels(self.model_.score_pixels, x).double().numpy()
        discrete = self.model_.network.likelihood.discrete or self._uint8
        # a density per unit of X, not of the [0, 1] range that it was mapped to
        return nats if discrete else nats - math.prod(x.shape[1:]) * math.log(self._range[1] - self._range[0])

    def score(self, X: npt.ArrayLike, y: Any = None) -> float:
        """The mean of `score_samples`; higher is better."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> np.ndarray:
        """New examples, in the layout and type that `fit` saw."""
        check_is_fitted(self)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return self._from_pixels(self.model_.sample_pixels(n_samples, seed=seed))

    def _recipe(self, epochs: float | None, batch_size: int | None) -> Recipe:
        given = {k: getattr(self, k) for k in Recipe().to_dict() if getattr(self, k) is not None}
        if self.latent_dim is not None:
            if "latent" in given:
                raise UsageError("give latent_dim or latent, not both")
            given["latent"] = f"flat({self.latent_dim})"
        given |= {k: v for k, v in (("epochs", epochs), ("batch_size", batch_size)) if v is not None}
        if self.seed is None:
            given["seed"] = int(check_random_state(self.random_state).randint(2**31 - 1))
        recipe = find(self.preset).recipe.but(**given)
        no_end = recipe.steps is None and recipe.epochs is None and recipe.minutes is None
        return recipe.but(epochs=10) if no_end else recipe

    def _validated(self, X: npt.ArrayLike, *, reset: bool) -> np.ndarray:
        array: Any = validate_data(self, _given(X), reset=reset, allow_nd=True, dtype="numeric")
        if reset:
            if array.ndim > 4 or (array.ndim == 4 and min(array.shape[1], array.shape[3]) > MAX_CHANNELS):
                raise UsageError(f"X of shape {array.shape}: accepted are (n, features), (n, H, W), (n, H, W, C), and "
                                 f"(n, C, H, W) of up to four channels, and up to {MAX_CHANNELS} channels")
            self._uint8 = array.dtype == np.uint8
            self._range = self.value_range or ((0.0, 255.0) if self._uint8 else _range_of(array))
            self._shape, self._dtype = array.shape[1:], array.dtype
        elif array.shape[1:] != self._shape:
            raise UsageError(f"X has examples of shape {array.shape[1:]}, but fit saw {self._shape}")
        return array

    def _to_images(self, array: np.ndarray) -> np.ndarray:
        """(n, H, W, C) in [0, 1] as float32, or uint8 as it came."""
        n, shape, (low, high) = len(array), array.shape[1:], self._range
        if self.value_range is not None:
            array = pixels_of(array.astype(np.float64), self.value_range)[0].astype(np.float32)
        elif array.dtype != np.uint8 or self._range not in ((0.0, 1.0), (0.0, 255.0)):
            array = ((array.astype(np.float64) - low) / (high - low)).astype(np.float32)
        if len(shape) == 1:
            side = math.isqrt(shape[0])
            return array.reshape(n, side, side, 1) if side * side == shape[0] else array.reshape(n, 1, -1, 1)
        if len(shape) == 2:
            return array[..., None]
        return array.transpose(0, 2, 3, 1) if self._channels_first else array

    @property
    def _channels_first(self) -> bool:
        """Whether examples are (C, H, W): few numbers on the first axis and many on the last."""
        return len(self._shape) == 3 and self._shape[0] <= 4 < self._shape[2]

    def _of_pixels(self, f: Callable[[torch.Tensor], torch.Tensor], array: np.ndarray) -> torch.Tensor:
        """f of images, of at least `FEW` at a time: matrix products of fewer rows round in another way, and what is said of
        an image is not to depend on its company."""
        x = to_batch(self._to_images(array))
        return f(torch.cat([x, x.new_zeros(max(FEW - len(x), 0), *x.shape[1:])]))[: len(x)]

    def _from_pixels(self, x: torch.Tensor) -> np.ndarray:
        """(n, C, H, W), about [0, 1], in the layout, units and type of X."""
        low, high = self._range
        pixels = (x if self._channels_first else x.permute(0, 2, 3, 1)).reshape(len(x), *self._shape).double().numpy()
        values = pixels * (high - low) + low
        if self._dtype.kind not in "iu":
            return values.astype(np.float32 if self._dtype.kind == "b" else self._dtype)
        bounds = np.iinfo(self._dtype)
        return values.round().clip(bounds.min, bounds.max).astype(self._dtype)

    def _check_range(self, likelihood: Likelihood, recipe: Recipe, pixels: np.ndarray) -> None:
        """Refuses values beyond black and white for a likelihood that has no density there."""
        in_unit = likelihood.discrete or likelihood.ends or recipe.binarize
        if in_unit and pixels.dtype != np.uint8 and not (pixels.min() >= 0 and pixels.max() <= 1):
            raise UsageError(f"{recipe.likelihood} takes pixels in [0, 1], and some of X lie beyond the range {self._range} "
                             "that was seen without rare extremes: give the whole of it as value_range=(LO, HI)")


class ImageVAEClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of the codes of an `ImageVAE`: few labels, and many images without.

    The autoencoder learns from all images, the probe from those with a label.

    Args:
        vae: an unfitted `ImageVAE`; by default with 16 latents and no fitted prior.
        probe: "linear", "discriminant", "kernel", "neighbours" or "mlp", whose strength is chosen by cross-validation; or
            "any", which chooses among all of them and takes longer.
        unlabelled: the label that says that an image has none, such as -1 or ""; by default every label is a class.
        random_state: seed of the choice, and of the default autoencoder.

    Attributes:
        classes_: the classes, ascending; columns of `predict_proba`.
        vae_: the trained `ImageVAE`.
        probe_: the classifier of its codes.

    Example:
        model = ImageVAEClassifier(ImageVAE(latent_dim=8, epochs=5)).fit(x, y)
        model.predict(x), model.score(x, y)
    """

    def __init__(self, vae: ImageVAE | None = None, *, probe: str = "linear", unlabelled: int | str | None = None,
                 random_state: Any = None) -> None:
        self.vae = vae
        self.probe = probe
        self.unlabelled = unlabelled
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Trains an autoencoder on X, as `ImageVAE.fit` reads it, and a probe on the codes of those with a label.

        Raises:
            ValueError: labels are missing, are not classes, or are of fewer than two.
        """
        if self.probe not in (*KINDS, "any"):
            close = nearest(str(self.probe), KINDS)
            raise UsageError(f"probe must be one of {', '.join(KINDS)} or any; got {self.probe!r}{close}")
        x, labels = cast(tuple[Any, Any], validate_data(self, _given(X), _given(y), allow_nd=True, dtype="numeric"))
        check_classification_targets(labels)
        known = np.array([label != self.unlabelled for label in labels.tolist()])
        self.classes_, numbers = np.unique(labels[known], return_inverse=True)
        if len(self.classes_) < 2:
            count = "no class" if not len(self.classes_) else "1 class"
            raise UsageError(f"y has {count} (labels equal to unlabelled={self.unlabelled!r} do not count), and a "
                             "classifier takes two or more")
        targets = np.full(len(labels), -1)
        targets[known] = numbers
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        vae = ImageVAE(latent_dim=16, fitted_prior="none", random_state=seed) if self.vae is None else clone(self.vae)
        self.vae_ = cast(ImageVAE, vae).fit(x, targets)
        kinds = KINDS if self.probe == "any" else (self.probe,)
        self.probe_ = fit_probe(self.vae_.transform(x), targets, kinds=kinds, seed=seed)
        return self

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(n, classes), calibrated; rows add up to 1."""
        check_is_fitted(self)
        x: Any = validate_data(self, _given(X), reset=False, allow_nd=True, dtype="numeric")
        return self.probe_.probabilities(self.vae_.transform(x))

    def predict(self, X: npt.ArrayLike) -> np.ndarray:
        """(n,) the likeliest class of each image."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]


def _given(values: npt.ArrayLike) -> Any:
    """What `validate_data` takes: tensors and lists as arrays, others, such as tables with names, as they are."""
    return as_array(values) if isinstance(values, torch.Tensor | list | tuple) else values


def _labels(y: Any, n: int, classes: int, recipe: Recipe) -> np.ndarray | None:
    """Labels, which a latent that knows of so many `classes` needs; None where what others were given are no labels."""
    labels = as_array(y)
    found = labels.shape == (n,) and labels.dtype.kind in "iu" and labels.min() >= -1
    if not classes and not found:
        return None
    if not found or (classes and labels.max() >= classes):
        raise UsageError(f"the latent {recipe.latent} needs y, (n,) whole numbers from 0 to {classes - 1}, or -1 for an "
                         "image without a label")
    return keep_labels(labels.astype(np.int64), np.arange(n), recipe.labelled, recipe.seed)


def _range_of(array: np.ndarray) -> tuple[float, float]:
    """What becomes 0 and 1: [0, 1] itself when all values lie in it; rare extremes do not decide."""
    array = array.astype(np.float64)
    low, high, mean, spread = (float(v) for v in (array.min(), array.max(), array.mean(), array.std()))
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    low, high = max(low, mean - 4 * spread), min(high, mean + 4 * spread)
    return low, high if high > low else low + 1.0
