"""Soft-IntroVAE: the encoder as its own critic."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from ...errors import UsageError
from ...models.latents import OneLayer
from ...models.trace import Trace, rate
from ...models.vae import VAE, Model
from ...parts.registry import adversary
from ..context import AdversarialBatch
from .base import Adversary, AdversaryInputs, detached


@adversary("introspective")
class Introspective(Adversary):
    """The encoder is the critic: it lowers the ELBO of the decoder's new images, which the decoder raises (Daniel & Tamar,
    2021, arXiv:2012.13253, Eq. 3). For a fixed prior, beside `nll + kl`.

    With n numbers in an image, the encoder adds n/2 exp(−2/n (−log p(x̃ | z̃) + `beta_neg` KL(q(z̃ | x̃) ‖ p))) for new images
    x̃, and the decoder KL(q(z̃ | x̃) ‖ p); per number of the image these are the paper's terms. `critic`, `penalty` and
    `critic_augment` are not used.
    """

    def __init__(self, inputs: AdversaryInputs, beta_neg: float = 256.0) -> None:
        if not isinstance(inputs.model, VAE):
            raise UsageError("the adversary introspective makes the encoder its critic, and a GAN has no encoder")
        if not isinstance(inputs.model.latent, OneLayer):
            raise UsageError("the adversary introspective sets encoder against decoder, and in a latent of more than "
                             "one stochastic layer the two share parts: use a latent such as flat(64)")
        if inputs.penalties or inputs.augment is not None:
            raise UsageError("the adversary introspective has no critic of its own: leave penalty and critic_augment at "
                             "'none'")
        super().__init__(inputs)
        self.beta_neg = beta_neg

    def forward(self, model: Model, trace: Trace) -> AdversarialBatch:
        return IntrospectiveBatch(model, model.draw(len(trace.x)).mean[0], self.beta_neg)


class IntrospectiveBatch(AdversarialBatch):
    def __init__(self, model: Model, fake: Tensor, beta_neg: float) -> None:
        self.model, self.fake, self.beta_neg = model, fake, beta_neg

    def critic_loss(self) -> Float[Tensor, ""]:
        parameters = detached(self.model, "decoder.", "likelihood.", "latent.prior.")
        trace: Trace = functional_call(self.model, parameters, (self.fake.detach(),))
        n = math.prod(self.fake.shape[1:])
        energy = (-trace.log_px + self.beta_neg * rate(trace)).mean(0) / n
        return (0.5 * n * (-2 * energy).clamp(max=10).exp()).mean()

    def adversarial(self, balance: float, cap: float) -> Float[Tensor, "b"]:
        if balance:
            raise UsageError("adversarial(balance) compares gradients at images, and the adversary introspective takes a "
                             "KL: give the term a fixed weight")
        trace: Trace = functional_call(self.model, detached(self.model, "encoder.", "latent."), (self.fake,))
        return rate(trace).mean(0)

    def features(self, x: Tensor) -> Tensor:
        raise UsageError("learned_similarity compares a critic's features, and the adversary introspective has no critic: "
                         "use images")
