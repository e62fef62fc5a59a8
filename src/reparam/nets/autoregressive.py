"""Autoregressive transforms, on zuko's masked networks, and the law of a Gaussian that went through some of them."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def zuko_transforms() -> tuple[Any, Any]:
    """zuko's masked autoregressive transform and its rational-quadratic spline.

    Imported when the first flow is built, since `import zuko` switches off the argument checks of torch.distributions for
    the whole process; they are left here as they were.
    """
    from torch.distributions import Distribution

    checked = Distribution._validate_args  # pyright: ignore[reportPrivateUsage]
    from zuko.flows.autoregressive import MaskedAutoregressiveTransform
    from zuko.transforms import MonotonicRQSTransform

    Distribution.set_default_validate_args(checked)
    return MaskedAutoregressiveTransform, MonotonicRQSTransform


class Autoregressive(nn.Module):
    """y_i = f(x_i; θ_i(x_<i, c)): each dimension moves by a monotonic map that those before it determine.

    f is affine (Papamakarios et al., 2017, arXiv:1705.07057), or with `bins` a rational-quadratic spline on [−5, 5] that is
    the identity outside (Durkan et al., 2019, arXiv:1906.04032). θ is one masked network with two hidden layers, so that y
    takes one pass of it and x = f⁻¹(y) one pass for each dimension; given fewer `passes`, blocks of dimensions move at
    once: two are a coupling. A network has no more blocks than hidden units. The transform starts as the identity.
    With `interleaved`, even dimensions stand before odd ones.
    """

    def __init__(self, dim: int, hidden: int, *, context: int = 0, bins: int = 0, passes: int | None = None,
                 interleaved: bool = False) -> None:
        super().__init__()
        masked, spline = zuko_transforms()
        device = torch.get_default_device()
        family = {"univariate": partial(spline, slope=1e-3), "shapes": [(bins,), (bins,), (bins - 1,)]} if bins else {}
        with torch.device("cpu"):  # masks are computed by value, which needs memory even where the model has none yet
            order = torch.arange(dim)
            if interleaved:
                order = order // 2 + order % 2 * ((dim + 1) // 2)
            self.transform: nn.Module = masked(dim, context, passes=min(passes or dim, dim, hidden), order=order,
                                               hidden_features=(hidden, hidden), activation=nn.SiLU, **family)
        _start_as_identity(self.transform)
        _place(self.transform, device)

    def forward(self, x: Float[Tensor, "*n d"], context: Tensor | None = None
                ) -> tuple[Float[Tensor, "*n d"], Float[Tensor, "*n"]]:
        """y, and log |det ∂y/∂x|; the context (…, c) broadcasts over leading axes."""
        return self.transform(context).call_and_ladj(x)

    def inverse(self, y: Float[Tensor, "*n d"], context: Tensor | None = None) -> Float[Tensor, "*n d"]:
        """The x that goes to y."""
        return self.transform(context).inv(y)

    def baked(self) -> Autoregressive:
        """The same with the masks multiplied in."""
        from zuko.nn import MaskedLinear

        dense: dict[int, object] = {id(m): _linear(m) for m in self.modules() if isinstance(m, MaskedLinear)}
        return copy.deepcopy(self, dense)


def _linear(masked: nn.Linear) -> nn.Linear:
    dense = nn.Linear(masked.in_features, masked.out_features, device="meta")
    dense.weight, dense.bias = nn.Parameter((masked.get_buffer("mask") * masked.weight).detach()), masked.bias
    return dense


def _start_as_identity(transform: nn.Module) -> None:
    """Sets to zero what determines the univariate maps: the network's last layer or, without any input, numbers."""
    (child,) = transform.children()
    with torch.no_grad():
        for p in (child[-1] if isinstance(child, nn.Sequential) else child).parameters():
            p.zero_()


def _place(transform: nn.Module, device: torch.device) -> None:
    """Moves a transform to `device`, and leaves its masks, which follow from its sizes, out of the state.

    On the meta device, where a model waits for its weights, the masks stay in memory: nothing will bring them.
    """
    for module in transform.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer if device.type == "meta" else buffer.to(device), persistent=False)
        for name, p in list(module.named_parameters(recurse=False)):
            module.register_parameter(name, nn.Parameter(p.detach().to(device)))


class Autoregressions(nn.ModuleList):
    """Autoregressive transforms one after the other, the dimensions in reversed order after each."""

    def forward(self, u: Float[Tensor, "*n d"], context: Tensor) -> tuple[Float[Tensor, "*n d"], Float[Tensor, "*n"]]:
        """z, and log |det ∂z/∂u|."""
        log_det = u.new_zeros(u.shape[:-1])
        for transform in self:
            u, change = transform(u, context)
            u, log_det = u.flip(-1), log_det + change
        return u, log_det

    def inverse(self, z: Float[Tensor, "*n d"], context: Tensor) -> Float[Tensor, "*n d"]:
        """The u that goes to z."""
        for transform in reversed(list(self)):
            z = transform.inverse(z.flip(-1), context)  # type: ignore[operator]
        return z
