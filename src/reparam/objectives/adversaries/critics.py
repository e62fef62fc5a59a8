"""Critics that learn to tell real inputs from the model's, while the model learns to produce what they take for real.

What a critic compares is a part: `images` (a GAN, VAE-GAN, the autoencoder of latent diffusion), `codes` (the adversarial
autoencoder), `permuted` codes (FactorVAE), images and codes together, `joint` (ALI, BiGAN), or, with the encoder itself in
the critic's place, `introspective` (Soft-IntroVAE). Gradients of the critic's loss stop at its inputs, and the model's loss
reads the critic with its parameters detached, so that both can learn in one backward pass, as in hybrids; a GAN's players
take turns.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from ...errors import UsageError
from ...models.trace import Trace, only_layer
from ...models.vae import VAE, Generator, Model
from ...nets.critic import Critic, make_critic
from ...parallel import norm_over_processes
from ...parts.ranges import at_least, one_of
from ...parts.registry import adversary
from ...tensors import Shape
from ..context import AdversarialBatch
from .base import Adversary, AdversaryInputs, detached
from .penalties import Inputs, Scored


class CriticAdversary(Adversary):
    """An adversary with a critic of its own."""

    of_images = False
    """Whether its inputs are images, which may be augmented."""
    real_depends_on_model = False
    """Whether the "real" inputs depend on the model's parameters as well (the codes, in `joint`)."""

    def __init__(self, inputs: AdversaryInputs, critic: Critic) -> None:
        super().__init__(inputs)
        if inputs.augment is not None and not self.of_images:
            raise UsageError("critic_augment changes images, and this adversary judges codes: leave it at 'none'")
        self.critic, self.augment = critic, inputs.augment
        self.schedules = [weight for weight, _ in inputs.penalties]
        self.move_to(0.0)
        self.penalties = nn.ModuleList(penalty for _, penalty in inputs.penalties)
        for _, penalty in inputs.penalties:
            penalty.attach(critic, inputs.image_shape)
        self.differentiates = any(penalty.differentiates for _, penalty in inputs.penalties)

    @property
    def networks(self) -> list[nn.Module]:
        return [] if self.differentiates else [self.critic]

    def move_to(self, progress: float) -> None:
        self.weights = [weight(progress) for weight in self.schedules]

    @abstractmethod
    def sides(self, model: Model, trace: Trace) -> tuple[Inputs, Inputs]:
        """Real inputs, and as many of the model's own, with its graph for gradients."""

    def forward(self, model: Model, trace: Trace) -> AdversarialBatch:
        real, fake = self.sides(model, trace)
        return CriticBatch(self, trace, self.augmented(real), self.augmented(fake))

    def augmented(self, inputs: Inputs) -> Inputs:
        """Inputs as the critic is given them."""
        return inputs if self.augment is None else (self.augment(inputs[0]), *inputs[1:])

    def frozen_scores(self, *inputs: Tensor) -> Tensor:
        """The critic's scores, with no gradient to its parameters."""
        return functional_call(self.critic, detached(self.critic), inputs)


class CriticBatch(AdversarialBatch):
    """The real inputs and fakes of one batch, with the losses on them."""

    def __init__(self, adversary: CriticAdversary, trace: Trace, real: Inputs, fake: Inputs) -> None:
        self.adversary, self.trace, self.real, self.fake = adversary, trace, real, fake

    def critic_loss(self) -> Float[Tensor, ""]:
        adversary = self.adversary
        real, fake = (tuple(t.detach().requires_grad_(adversary.differentiates) for t in side)
                      for side in (self.real, self.fake))
        scored = Scored(adversary.critic, real, fake, adversary.critic(*real), adversary.critic(*fake))
        loss = adversary.game.critic(scored.real_scores, scored.fake_scores).mean()
        for weight, penalty in zip(adversary.weights, adversary.penalties, strict=True):
            loss = loss + weight * penalty(scored)
        return loss

    def adversarial(self, balance: float, cap: float) -> Float[Tensor, "b"]:
        adversary = self.adversary
        if balance and not adversary.of_images:
            raise UsageError("adversarial(balance) compares gradients at images, and this adversary judges codes: give it "
                             "a fixed weight, or use the adversary images")
        fake = adversary.frozen_scores(*self.fake)
        real = adversary.frozen_scores(*self.real) if adversary.real_depends_on_model or adversary.game.paired else fake
        each = adversary.game.model(real, fake)
        if adversary.real_depends_on_model:
            each = each + adversary.game.model(-fake, -real)
        each = each.flatten(1).mean(1) if each.dim() > 1 else each
        return each if not balance else each * self._factor(each, balance, cap)

    def features(self, x: Float[Tensor, "n c h w"]) -> Tensor:
        critic = self.adversary.critic
        if not self.adversary.of_images:
            raise UsageError("learned_similarity compares a critic's features of images, and this critic reads codes: use "
                             "images")
        return functional_call(critic.trunk, detached(critic.trunk), (x,))

    def _factor(self, each: Tensor, balance: float, cap: float) -> Tensor:
        """The factor that makes the gradient at the images `balance` times that of −log p(x | z), at most `cap`."""
        mean, images = self.trace.px.mean, self.fake[0]
        if not (mean.requires_grad and images.requires_grad):
            return each.new_ones(())
        wanted: Tensor | None = None
        log_density = self.trace.log_density
        if log_density is not None and log_density.requires_grad:
            wanted, = torch.autograd.grad(log_density.mean(), mean, retain_graph=True, allow_unused=True)
        if wanted is None:
            raise UsageError("adversarial(balance) compares gradients at the decoder's mean, which this likelihood does not "
                             "use: take gaussian, laplace or student, or a fixed weight")
        found = torch.autograd.grad(each.mean(), images, retain_graph=True)[0]
        wanted_norm, found_norm = norm_over_processes(torch.stack([wanted.norm(), found.norm()]))
        return (balance * wanted_norm / found_norm.clamp(min=1e-12)).clamp(max=cap)


@adversary("images")
class Images(CriticAdversary):
    """Images against the model's: its reconstructions, new samples, or half of each ('both'); a GAN has samples alone.

    With `patch` the critic scores squares of about so many pixels, each by itself (Isola et al., 2017, arXiv:1611.07004),
    which sharpens texture and leaves the whole to the likelihood. (Goodfellow et al., 2014, arXiv:1406.2661; Larsen et al.,
    2016, arXiv:1512.09300)
    """

    of_images = True

    def __init__(self, inputs: AdversaryInputs, of: Annotated[str, one_of("both", "samples", "reconstructions")] = "both",
                 patch: Annotated[int, at_least(0, advice="0 judges images as a whole")] = 0) -> None:
        h, w = inputs.image_shape[1:]
        grid = (-(-h // patch), -(-w // patch)) if patch else None
        super().__init__(inputs, make_critic(inputs.critic, inputs.image_shape, grid))
        self.of = of

    def sides(self, model: Model, trace: Trace) -> tuple[Inputs, Inputs]:
        rebuilt, n = trace.px.mean[0], len(trace.x)
        if isinstance(model, Generator):
            return (trace.x,), (rebuilt,)
        kept = {"both": n // 2, "samples": 0, "reconstructions": n}[self.of]
        fake = torch.cat([rebuilt[:kept], model.draw(n - kept).mean[0]]) if kept < n else rebuilt
        return (trace.x,), (fake,)


@adversary("codes")
class Codes(CriticAdversary):
    """Draws from the prior against codes of images, in place of a KL term (Makhzani et al., 2016, arXiv:1511.05644)."""

    def __init__(self, inputs: AdversaryInputs) -> None:
        super().__init__(inputs, make_critic(inputs.critic, _only_code(inputs.model)))

    def sides(self, model: Model, trace: Trace) -> tuple[Inputs, Inputs]:
        z = _read(trace, "the adversary codes")
        with torch.no_grad():
            drawn = model.latent.generate(len(z))[0]
        return (drawn,), (z,)


@adversary("permuted")
class Permuted(CriticAdversary):
    """Codes against codes each of whose numbers comes from another image: with the game `ratio`, the total correlation
    (Kim & Mnih, 2018, arXiv:1802.05983, section 3)."""

    def __init__(self, inputs: AdversaryInputs) -> None:
        super().__init__(inputs, make_critic(inputs.critic, _only_code(inputs.model)))

    def sides(self, model: Model, trace: Trace) -> tuple[Inputs, Inputs]:
        z = _read(trace, "the adversary permuted")
        flat = z.detach().flatten(1)
        order = torch.rand_like(flat).argsort(0)
        return (flat.gather(0, order).view_as(z),), (z,)


@adversary("joint")
class Joint(CriticAdversary):
    """Images with their codes against codes with their images: encoder and decoder learn to be each other's inverse, from
    the critic alone (Dumoulin et al., 2017, arXiv:1606.00704; Donahue et al., 2017, arXiv:1605.09782)."""

    of_images = True
    real_depends_on_model = True

    def __init__(self, inputs: AdversaryInputs) -> None:
        shape = _only_code(inputs.model)
        super().__init__(inputs, make_critic(inputs.critic, inputs.image_shape, code=math.prod(shape)))

    def sides(self, model: Model, trace: Trace) -> tuple[Inputs, Inputs]:
        z = _read(trace, "the adversary joint")
        code = model.latent.generate(len(z))
        return (trace.x, z), (model.decode(code).mean[0], code[0])


def _read(trace: Trace, who: str) -> Tensor:
    """Codes of images as the decoder reads them, (n, *d); `generate` gives the same kind."""
    only_layer(trace, who)
    if trace.decoder_input is None:
        raise UsageError(f"{who} judges codes of images, and this model finds none")
    return trace.decoder_input[0]


def _only_code(model: Model) -> Shape:
    if not isinstance(model, VAE):
        raise UsageError("this adversary judges codes of images, and a GAN has no encoder to find them: use images")
    return model.latent.shape
