"""What to train where nothing is asked for: `--preset auto`.

From what is known before training (`Situation`) to a preset and changes to it (`Choice`), by two small tables: `RULES`, of
which the first that fits names the preset, and `ADJUSTMENTS`, all of which apply that fit. docs/auto.md says what the rules
rest on, and `benchmarks/auto.py` measures them; nothing here looks at an image or at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..text import for_shell
from .presets import PRESETS
from .recipe import ARCHITECTURE, Recipe

AUTO = "auto"
COMPOSED = (*ARCHITECTURE, "objective", "fitted_prior", "resampler", "refiner", "adversary", "critic", "game", "penalty",
            "binarize", "labelled")
"""Fields by which somebody composes a model: where one is named, the other parts are the default recipe's."""
ENDS = ("steps", "epochs", "minutes")
"""Fields that say when training ends."""
SHIFTED_FROM = 24
"""Pixels of the longer side from which two are little."""
FEW = 500
"""Images below which a model learns them by heart sooner than what they have in common."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known before training."""

    images: int
    """Those that are trained on."""
    side: int
    """The longer side, pixels."""
    channels: int
    minutes: float | None
    """Training time; None where the end is counted in steps or epochs, which say nothing of time."""
    device: str = "cpu"
    """"gpu" for one of CUDA, "cpu", or another by torch's name, such as "mps", for which the rules are those of a CPU."""
    memory: float = 0.0
    """Of a GPU, GiB."""
    labelled: bool = False
    mirrored: bool = False
    """Whether nothing speaks against images being as likely as their mirror images."""
    named: frozenset[str] = frozenset()
    """Fields of the recipe that were given, which nothing here changes."""

    def __str__(self) -> str:
        kind = {1: "grey images", 2: "grey images with transparency", 3: "colour images",
                4: "colour images with transparency"}.get(self.channels, f"images of {self.channels} channels")
        labels = " and labels" if self.labelled else ""
        machine = {"gpu": "one GPU", "cpu": "a CPU"}.get(self.device, f"no CUDA GPU but {self.device}")
        end = "an end in steps" if self.minutes is None else f"{self.minutes:g} minute{'' if self.minutes == 1 else 's'}"
        return f"{self.images:,} {kind} of {self.side} pixels{labels}, {machine}, {end}"


@dataclass(frozen=True)
class Choice:
    """A preset, what is changed of it, and why."""

    preset: str
    changes: Mapping[str, Any]
    reason: str
    """A line for people."""

    @property
    def recipe(self) -> Recipe:
        return PRESETS[self.preset].recipe.but(**self.changes)


@dataclass(frozen=True)
class Rule:
    """A preset, and the situations that it is for."""

    preset: str
    why: str
    fits: Callable[[Situation], bool]


@dataclass(frozen=True)
class Adjustment:
    """Changes to whatever preset was chosen, and the situations that ask for them."""

    why: str
    fits: Callable[[Situation], bool]
    changes: Callable[[Situation], Mapping[str, Any]]


def _has_time(s: Situation, device: str, *, minutes: float, images: int, side: int) -> bool:
    """Whether there is so much time on a device for so many images at least, of so many pixels at most."""
    return ((s.device == "gpu") == (device == "gpu") and s.minutes is not None and s.minutes >= minutes
            and s.images >= images and s.side <= side)


SIDES = {128: 12, 256: 20, 512: 40}
"""GiB of a GPU that models of images of so many pixels a side want."""
FOR_LARGE = {f"generate{side}": side for side in SIDES}
"""Presets for images of these sides, at most."""
LONG = 8.0
"""Minutes that they want."""


def largest_side(minutes: float | None, *, device: str, memory: float = 0.0) -> int | None:
    """The side that images may keep on a device in so much time; None where it is that of every machine."""
    if device != "gpu" or minutes is None or minutes < LONG:
        return None
    return max((side for side, least in SIDES.items() if memory >= least), default=None)


LARGE = "a GPU has time for deep networks and a prior over a map of codes"
RULES = (
    Rule("default", "the default's other parts, where some are named", lambda s: bool(s.named.intersection(COMPOSED))),
    Rule("default", "steps say nothing of time", lambda s: s.minutes is None),
    Rule("generate32", "a GPU has time for a prior over a map of codes",
         lambda s: _has_time(s, "gpu", minutes=1, images=2000, side=40) and s.memory >= 6),
    Rule("generate64", "a GPU has time for a prior over a map of codes",
         lambda s: _has_time(s, "gpu", minutes=1, images=2000, side=64) and s.memory >= 8),
    *(Rule(f"generate{side}", LARGE, lambda s, side=side: _has_time(s, "gpu", minutes=LONG, images=2000, side=side)
           and s.memory >= SIDES[side]) for side in SIDES),
    Rule("terse", "of small grey images a refiner draws the detail in so much time",
         lambda s: _has_time(s, "cpu", minutes=2, images=2000, side=32) and s.channels == 1),
    Rule("latent_flow", "in half an hour a prior over a map of codes can be learned",
         lambda s: _has_time(s, "cpu", minutes=30, images=2000, side=40) and s.channels == 3),
    Rule("default", "sound for any images", lambda s: True),
)
"""The first that fits is taken."""


def _few(s: Situation) -> bool:
    return s.images < FEW


def _large(s: Situation) -> bool:
    return s.side >= SHIFTED_FROM


def _passes(s: Situation) -> Mapping[str, Any]:
    """A hundred passes, or more where these are fewer than 500 batches of 32."""
    return {"epochs": float(max(100, round(500 * 32 / s.images)))}


ADJUSTMENTS = (
    Adjustment("few images: few latents", _few, lambda _: {"latent": "flat(16)", "batch_size": 32}),
    Adjustment("shifts keep them from being learned by heart", lambda s: _few(s) and _large(s) and not s.mirrored,
               lambda _: {"augment": "crop(2)"}),
    Adjustment("shifts keep them from being learned by heart, and their mirror images are as likely",
               lambda s: _few(s) and _large(s) and s.mirrored, lambda _: {"augment": "flip + crop(2)"}),
    Adjustment("their mirror images are as likely", lambda s: _few(s) and not _large(s) and s.mirrored,
               lambda _: {"augment": "flip"}),
    Adjustment("more passes would learn them by heart", lambda s: _few(s) and not s.named.intersection(ENDS), _passes),
)
"""All that fit are made, but for fields that were named."""


_RESULTS = {
    "default": "a VAE with codes that can be looked at and edited; close reconstructions, new images softer than real ones.",
    "terse": "a VAE with a small code that says what matters and a refiner that draws the rest: sharp new images, loose "
             "reconstructions; drawing takes longer.",
    "refined": "a VAE with codes that can be looked at and edited, and a refiner that draws the detail they lack.",
    "latent_flow": "a map of codes and a prior over it: close reconstructions, varied new images.",
    **dict.fromkeys(("generate32", "generate64", "generate128", "generate256", "generate512"),
                    "new images above all, with close reconstructions; the code is a map, not a few numbers to turn.")}


def result_of(preset: str) -> str:
    """What kind of model comes of a preset."""
    return _RESULTS.get(preset, PRESETS[preset].about)


def of_few(images: int) -> str:
    """What so few training images can give, where they are fewer than `FEW`."""
    return (f"{images:,} images show a model what they have in common, and little of what else there could be. Expect new "
            "images that blend those it has seen, and reconstructions of others that are worse than of its own; where "
            "the −ELBO of held-out images rises in the curves, it is learning its images by heart. Look beside the samples "
            "for copies. A few hundred more images help more than any setting.")


def choose(situation: Situation) -> Choice:
    """The preset and the changes for a situation."""
    rule = next(rule for rule in RULES if rule.fits(situation))
    made = [(a.why, {k: v for k, v in a.changes(situation).items() if k not in situation.named})
            for a in ADJUSTMENTS if a.fits(situation)]
    changes = {k: v for _, each in made for k, v in each.items()}
    flags = "".join(f" --{k.replace('_', '-')} {for_shell(f'{v:g}' if isinstance(v, float) else str(v))}"
                    for k, v in changes.items())
    whys = "; ".join([rule.why, *(why for why, each in made if each)])
    return Choice(rule.preset, changes, f"{situation}: {rule.preset}{flags} ({whys})")
