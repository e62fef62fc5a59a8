"""Two runs over the same images: where a code of one lies in the other, and what both make of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from ..errors import UsageError
from ..tensors import evenly
from .explored import Explored
from .questions import Answer, Question
from .views import decoded_in_pieces

LANDMARKS, HELD_OUT, RIDGE = 2_000, 5, 1.0
"""Images that two latent spaces are laid over one another by, every which of them tells how well, and the penalty."""
LEAST = 20
"""Images, fewer than which tell nothing."""


def other_of(run: Explored) -> Explored:
    """Raises UsageError where there is no second run, or no codes of both."""
    if run.other is None:
        raise UsageError("one run is explored; for two, start: reparam explore RUN RUN2")
    if len(run.some_codes()) < LEAST or len(run.other.some_codes()) < LEAST:
        raise UsageError(f"two latent spaces are laid over one another by {LEAST} images at least")
    return run.other


def counterpart(run: Explored, question: Question) -> Iterator[Answer | None]:
    """The codes of the other run that lie where these lie among the images, their images, and how well the two spaces agree.

    The way from one latent space to the other is the affine map W that takes codes of the same images to one another,
    argmin ‖Z W + b − Z′‖² + ‖W‖² (Maiorca et al., 2023, arXiv:2311.00664). `explained` is the share of the variance of Z′
    that it tells of images that it was not fitted to.
    """
    other = other_of(run)
    if run.overlay is None:
        yield None
        run.overlay = _overlay(run.codes, other.codes)
    ridge, explained = run.overlay
    codes = other.placed(ridge.predict(run.placed(question.codes(run.d)).astype(np.float64)))
    for images in decoded_in_pieces(other, codes, question.flag("detail", True)):
        yield None if images is None else Answer({"explained": explained}, {"images": images, "codes": codes})


def _overlay(codes: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> tuple[Ridge, float]:
    rows = evenly(len(codes), LANDMARKS)
    x, y = codes[rows].astype(np.float64), others[rows].astype(np.float64)
    held = np.arange(len(rows)) % HELD_OUT == 0
    tried = Ridge(RIDGE).fit(x[~held], y[~held])
    explained = float(r2_score(y[held], tried.predict(x[held]), multioutput="variance_weighted"))
    return Ridge(RIDGE).fit(x, y), explained
