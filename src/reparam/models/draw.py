"""How new images are drawn: what is asked of the prior, the resampler and the refiner, in one value."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from ..parts.ranges import GUIDANCE, REFINEMENT, SOLVER_STEPS, TEMPERATURE


@dataclass(frozen=True)
class Draw:
    """Options of drawing new images.

    Raises:
        UsageError: a number out of its range, or a temperature for a refiner that is left out.
    """

    temperature: float | tuple[float, ...] = 1.0
    """Of the prior; below 1: less varied. Layers from the top down may have one each, the last for all below."""
    fitted: bool = True
    """Use the prior that was fitted to the codes, where there is one, in place of the model's own."""
    label: int | None = None
    """Only of this class."""
    steps: int | None = None
    """Integration steps of a prior that draws in steps; None for as many as it was fitted with."""
    guidance: float = 1.0
    """Classifier-free guidance scale; 1 is plain conditional sampling."""
    resample: bool = True
    """Let a resampler, where there is one, choose among draws."""
    refine: bool = True
    """Let a refiner, where there is one, add detail."""
    refine_temperature: float | None = None
    """Of the refiner, above 0 and up to 1: below 1, cleaner detail; None for the refiner's own."""

    def __post_init__(self) -> None:
        for each in self.temperature if isinstance(self.temperature, tuple) else (self.temperature,):
            TEMPERATURE.check("temperature", each)
        SOLVER_STEPS.check("steps", self.steps)
        GUIDANCE.check("guidance", self.guidance)
        if self.refine_temperature is not None:
            REFINEMENT.check("refine_temperature", self.refine_temperature)
            if not self.refine:
                raise UsageError("refine=False leaves out the refiner, whose temperature refine_temperature sets: give one "
                                 "of them")

    @property
    def is_plain(self) -> bool:
        """Whether it draws from the prior as it is: neither sharpened, nor of one class, nor guided."""
        return self.temperature in (1.0, (1.0,)) and self.label is None and self.guidance == 1

    @property
    def one_temperature(self) -> float:
        """The temperature of a prior, which is of one layer.

        Raises:
            UsageError: several were given.
        """
        if isinstance(self.temperature, tuple):
            if len(self.temperature) != 1:
                raise UsageError(f"this model has one stochastic layer, so it takes one temperature; got {self.temperature}")
            return self.temperature[0]
        return self.temperature

    def check_plain_prior(self) -> None:
        """Refuses what only some priors can do.

        Raises:
            UsageError: a label, steps or guidance.
        """
        if self.label is not None:
            raise UsageError("this model knows no classes: train one with --preset cvae or --preset m2, or fit a prior to "
                             "labelled images with reparam fit-prior RUN --prior flow_matching")
        if self.steps is not None or self.guidance != 1:
            raise UsageError("this model's prior draws at once, without steps or guidance: they are for flow_matching, "
                             "which reparam fit-prior RUN --prior flow_matching fits")
