"""All findings in order, causes before effects, each with advice, of which what suits the model is shown."""

from __future__ import annotations

from . import checks as c
from .case import Case
from .checks import Advice, Check

DEFAULT_MINUTES = 5.0
"""Training time of a recipe without steps, epochs or minutes."""


def _longer(case: Case) -> str:
    recipe, steps = case.recipe, case.history.steps or 0
    if case.way is not None and case.way < c.SHORTEST_WAY and steps >= c.FEWEST_STEPS:
        return f"raise the learning rate, --optimizer \"adamw(lr={c.USUAL_RATE['adamw']:g})\""
    times = 10 if steps < 10 * c.FEWEST_STEPS else 3
    if recipe.steps:
        return f"train longer, --steps {times * recipe.steps}"
    return f"train longer, --epochs {times * recipe.epochs:g}" if recipe.epochs else \
        f"train longer, --minutes {times * (recipe.minutes or DEFAULT_MINUTES):g}"


def _shorter(case: Case) -> str:
    when = c.when_best(case)
    return f"train {when:.1f} times as long" if when >= 0.05 else _slower(case)


def _slower(case: Case) -> str:
    name = "muon" if case.part("optimizer") == "muon" else "adamw"
    return f"lower the learning rate, --optimizer \"{name}(lr={min(case.learning_rate / 4, c.USUAL_RATE[name]):.2g})\""


def _calibrated(case: Case) -> str:
    which = "gaussian(sigma='optimal')" if case.part("likelihood") != "laplace" else "laplace(scale='optimal')"
    return f"let the scale be estimated, --likelihood \"{which}\", which weighs pixels against the KL by itself"


def _smaller(case: Case) -> str:
    return f"nothing is lost; flat({max(int((case.value('active_units') or 0) * 1.25), 2)}) would do as well"


def _fits_codes(case: Case) -> bool:
    """Whether a prior over real numbers can be fitted to the model's codes."""
    return case.part("latent") in ("flat", "spatial") and not case.quantized and case.part("posterior") != "vmf"


def _plain_prior(case: Case) -> bool:
    return case.part("prior") == "normal" and _fits_codes(case) and case.part("posterior") != "deterministic"


LONGER = Advice(_longer)
SHORTER = Advice(_shorter)
SLOWER = Advice(_slower)
CALIBRATED = Advice(_calibrated, lambda case: case.deviation is not None)
LIGHTER = Advice("weigh the KL by 1, --objective \"nll + kl\"", lambda case: case.weight("kl") > 1)
WARM = Advice("warm the KL up, --objective \"nll + linear(0, 1, 0.3)*kl\"", lambda case: case.constant_kl)
FREE = Advice("keep the KL alive, --objective \"nll + free_bits(0.1)\"", lambda case: case.constant_kl)
WIDER = Advice("try another decoder, or look whether the images have anything in common that a code could hold")
WITH_KL = Advice("draw the codes to the prior while they are learned, --objective \"nll + kl\"",
                 lambda case: case.rate < 0.1 and not case.quantized and case.part("posterior") != "deterministic")
FITTED = Advice("fit a prior to the codes, reparam fit-prior RUN --prior flow_matching --minutes 10",
                lambda case: _fits_codes(case) and case.part("fitted_prior") != "flow_matching")
LEARNED = Advice("learn the prior with the model, --prior flow", _plain_prior)
FEWER = Advice("use fewer latents, --latent")
AUGMENTED = Advice("change images at random, --augment \"flip + crop(2)\", where mirrored ones make sense",
                   lambda case: case.recipe.augment == "none")
REVIVED = Advice("put unused codes to use again, as --posterior vq does unless it is given revive=0",
                 lambda case: case.argument("posterior", "revive") == 0)
LOOSER = Advice("hold the encoder to its codes less, 10*commitment", lambda case: case.weight("commitment") > 50)
ENTROPY = Advice("reward the use of all codes, with the term entropy: + 0.1*entropy",
                 lambda case: case.part("posterior") == "lfq" and not case.weight("entropy"))
UNLEARNED = Advice("round to fixed levels, which need no codebook, --posterior \"fsq((8, 5, 5, 5))\"",
                   lambda case: case.part("posterior") in ("vq", "rvq"))
FLAT_CRITIC = Advice("hold the critic flat, --penalty \"r1 + r2\" --game relativistic",
                     lambda case: case.recipe.adversary == "images" and case.recipe.penalty == "none")
CHANGED = Advice("show the critic changed images, --critic-augment \"translate + cutout\"",
                 lambda case: case.recipe.adversary == "images" and case.recipe.critic_augment == "none")
HYBRID = Advice("take a hybrid, --preset vae_gan, which has to rebuild every image",
                lambda case: case.part("encoder") == "none")

PROBLEMS: tuple[Check, ...] = (
    Check("not judged", c.unmeasured, (Advice("see what was left out, and reparam evaluate RUN"),), alone=True),
    Check("unstable", c.broken, (SLOWER,), alone=True),
    Check("undertrained", c.undertrained, (LONGER,), alone=True),
    Check("test images unlike the training images", c.shifted, (Advice(
        "look at the test images: were they made, cropped or scaled in another way"),), alone=True),
    Check("tested on training images", c.trained_on, (Advice("take images for the test that are not trained on"),)),
    Check("few distinct images", c.few_distinct, (Advice("add other images; copies teach nothing and hide overfitting"),)),
    Check("unstable", c.skips, (SLOWER,)),
    Check("likelihood scale", c.mis_scaled, (CALIBRATED, Advice("choose a scale near the error of reconstructions"))),
    Check("codebook collapse", c.few_codes, (REVIVED, LOOSER, ENTROPY, UNLEARNED, Advice("take fewer codes"))),
    Check("posterior collapse", c.collapsed, (CALIBRATED, LIGHTER, WARM, FREE, WIDER)),
    Check("overfitted", c.overfitted, (SHORTER, AUGMENTED, Advice("use a smaller network, or more images"))),
    Check("prior mismatch", c.prior_differs, (WITH_KL, FITTED, LEARNED, FEWER)),
    Check("mode collapse", c.repeats, (FLAT_CRITIC, CHANGED, HYBRID, Advice("train longer"))),
    Check("samples far from the images", c.samples_far, (Advice("train longer, or take a larger network"),)))

IN_TRAINING = tuple(check for check in PROBLEMS if check.evidence in (c.skips, c.overfitted))
"""What the record of training alone can tell."""

REMARKS: tuple[Check, ...] = (
    Check("few images to judge by", c.few_measured, (Advice("add images, or measure others, reparam evaluate RUN DATA"),)),
    Check("early: pictures are still blurred", c.early, (LONGER,)),
    Check("still improving", c.improving, (LONGER,)),
    Check("more latents than needed", c.oversized, (Advice(_smaller, lambda case: case.part("latent") == "flat"),
                                                    Advice("nothing is lost; fewer would do as well",
                                                           lambda case: case.part("latent") != "flat"))))
