"""A recipe names every choice of a model and its training in one small language.

A part is a call with literal arguments, `mixture(64)` or `gaussian(sigma='optimal')`; a bare name is a call without
any. An objective is a sum of weighted parts, `nll + linear(0, 1, 0.1)*kl`. The same text is used in Python, on the
command line, in `config.json`, in logs and in the documentation. Nothing is ever evaluated: `ast` reads literals only.
"""

from __future__ import annotations

import ast
import math
import numbers
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import UsageError, nearest
from .call import AUTO


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every choice that makes a model: its parts, its objective and how it is trained."""

    encoder: str = "resnet"
    """Network from image to features; none makes the model a GAN's generator."""
    decoder: str = "resnet"
    """Network from latent to the likelihood's parameters."""
    latent: str = "flat(64)"
    """Layers and shape of the latent: flat(dim), spatial(channels, factor), top_down(dim, rungs), or one with classes."""
    posterior: str = "gaussian"
    """q(z | x)."""
    prior: str = "normal"
    """p(z), learned together with the model when it has parameters."""
    fitted_prior: str = "auto"
    """Density fitted to the codes after training, used by `sample`: mixture(n), flow, flow_matching and others; auto: a
    mixture up to 256 dimensions and flow_matching beyond, or none where the prior is learned."""
    prior_share: float = 0.25
    """Share of --minutes for fitting a prior that learns step by step; with --steps it takes as many steps as the model."""
    resampler: str = "none"
    """Network, trained after the prior, that chooses among its draws by their images: 'resnet(32)' and other encoders."""
    resampler_share: float = 0.15
    """Share of the minutes that the resampler gets; with --steps it gets as many as the model."""
    refiner: str = "none"
    """What draws the detail that codes do not hold, trained after the model: autoregressive, energy, flow_matching(net)."""
    refiner_share: float = 0.4
    """Share of the minutes that the refiner gets; with --steps it gets as many as the model."""
    likelihood: str = "gaussian(sigma='optimal')"
    """p(x | z)."""
    objective: str = "nll + kl"
    """What is minimised, nats per example; 'nll + kl' is the negative ELBO."""
    adversary: str = "none"
    """What a critic learns to tell from the model's own: images, codes, permuted, joint, introspective, or none."""
    critic: str = "conv"
    """Network of the critic, one of the encoders."""
    game: str = "nonsaturating"
    """What model and critic minimise."""
    penalty: str = "none"
    """What keeps the critic smooth, such as '10*r1 + 10*r2'."""
    critic_optimizer: str = "adamw(lr=4e-4, betas=(0.5, 0.99))"
    """The critic's optimizer and its learning rate; the schedule is the model's."""
    critic_augment: str = "none"
    """Random changes to all that the critic sees, for little data: 'color + translate + cutout'."""
    optimizer: str = "muon(lr=0.02)"
    """Optimizer and its learning rate; lr=auto finds one at the start."""
    schedule: str = "cosine(warmup=0.05)"
    """Learning rate over training, as a fraction of its peak."""
    batch_size: int = 128
    """Images per step, over all processes; auto, or 0, measures at the start and chooses."""
    steps: int | None = None
    """Stop after so many steps."""
    epochs: float | None = None
    """Stop after so many passes over the training images."""
    minutes: float | None = None
    """Stop after so much training time; with no limit given at all, five minutes."""
    augment: str = "none"
    """Random changes to training images: flip, crop(pixels), affine(degrees), or their sum."""
    binarize: bool = False
    """Treat grey values as probabilities of ink: drawn anew at every step, once with a fixed seed for evaluation."""
    labelled: int | None = None
    """Training images whose label a latent with classes may see, drawn evenly over classes by the seed; by default all."""
    clip: float = 2.0
    """Gradient norms above so many times their running median are scaled down to it; 0 switches it off."""
    ema: float = 0.999
    """Decay per step of the averaged weights that everything after training uses; 0 switches it off."""
    accumulate: int = 1
    """Split each batch into so many parts to save memory; the step is the same."""
    precision: str = "auto"
    """bf16, float32, or auto: bf16 where the processor computes in it."""
    compile: str | bool = "auto"
    """Compile the step with torch.compile: on, off, or auto, which measures whether it pays where training takes minutes."""
    compress_gradients: bool = False
    """Several processes send each other gradients in bfloat16, half as many bytes."""
    threads: int = 0
    """CPU threads; 0 measures at the start and chooses."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        if isinstance(self.compile, bool):
            object.__setattr__(self, "compile", "on" if self.compile else "off")
        for f in fields(self):
            object.__setattr__(self, f.name, _of_kind(f.name, str(f.type), getattr(self, f.name)))
        for name, low in (("batch_size", 0), ("accumulate", 1), ("threads", 0), ("clip", 0), ("ema", 0)):
            if not getattr(self, name) >= low:
                raise UsageError(f"{name} must be at least {low}; got {getattr(self, name)}")
        if not 0 <= self.seed <= MOST_SEED:
            raise UsageError(f"seed must be a whole number from 0 to {MOST_SEED}; got {self.seed}")
        for name in ("steps", "epochs", "minutes", "labelled"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be above 0; got {value}")
        for name in ("prior_share", "resampler_share", "refiner_share"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{name} is a share of the minutes, above 0 and below 1; got {getattr(self, name)}")
        if self.threads > 4096:
            raise UsageError(f"threads must be at most 4096; got {self.threads}")
        if self.ema >= 1:
            raise UsageError(f"ema must be below 1; got {self.ema}")
        if not self.batch_size and self.accumulate > 1:
            raise UsageError("batch_size auto takes what fits in memory whole: leave accumulate at 1, or give a batch size")
        if self.batch_size % self.accumulate:
            raise UsageError(f"accumulate={self.accumulate} does not divide batch_size={self.batch_size}")
        if self.precision not in ("auto", "bf16", "float32"):
            raise UsageError(f"precision must be 'auto', 'bf16' or 'float32'; got {self.precision!r}")
        if self.compile not in ("auto", "on", "off"):
            raise UsageError(f"compile must be 'auto', 'on' or 'off'; got {self.compile!r}")

    @property
    def has_encoder(self) -> bool:
        """Whether its model is a VAE, or a hybrid; without an encoder it is a GAN's generator."""
        return self.encoder != "none"

    def but(self, **changes: Any) -> Recipe:
        """This recipe with some fields changed.

        Raises:
            UsageError: a field that does not exist; the message names the nearest one.
        """
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                raise UsageError(f"a recipe has no field {name!r}{nearest(name, known)}. Fields: {', '.join(known)}")
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def identity(self) -> Recipe:
        """The recipe without what may differ between runs of one model: its seed, and how the machine computes."""
        standard = {f.name: f.default for f in fields(self)}
        return replace(self, seed=standard["seed"], **{name: standard[name] for name in MACHINE})


ARCHITECTURE = ("encoder", "decoder", "latent", "posterior", "prior", "likelihood")
"""Fields that decide which weights a model has."""
MACHINE = ("precision", "compile", "compress_gradients", "threads")
"""Fields that say how a machine computes, not what."""
MEASURED = ("batch_size", "threads")
"""Numbers that are measured and chosen where they are 0, or 'auto'."""
MOST_SEED = 2**32 - 1
"""Every generator of random numbers takes seeds up to here."""


def _of_kind(name: str, kind: str, value: Any) -> Any:
    """A field's value as Python's own number where it is one of NumPy's.

    Raises:
        UsageError: a value of another kind than the field's, or a number that is not finite.
    """
    if value is None and kind.endswith("None"):
        return None
    kind = kind.split()[0]
    if name in MEASURED and value == AUTO:
        return 0
    if kind in ("str", "bool"):
        if type(value).__name__.removesuffix("_") != kind:
            raise UsageError(f"{name} is {'text' if kind == 'str' else 'True or False'}; got {value!r}")
        return bool(value) if kind == "bool" else value
    number = numbers.Integral if kind == "int" else numbers.Real
    if isinstance(value, bool) or not isinstance(value, number):
        raise UsageError(f"{name} is a {'whole ' if kind == 'int' else ''}number; got {value!r}")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number with hundreds of digits
        finite = False
    if not finite:
        raise UsageError(f"{name} is a finite number; got {value!s:.20}")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def field_help() -> dict[str, str]:
    """The sentence under each field of `Recipe`, for the command line's help and the documentation."""
    module = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    statements = next(c.body for c in module.body if isinstance(c, ast.ClassDef) and c.name == Recipe.__name__)
    return {a.target.id: str(b.value.value) for a, b in pairwise(statements)
            if isinstance(a, ast.AnnAssign) and isinstance(a.target, ast.Name)
            and isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant)}
