"""How near pictures are to test images, by two unrelated networks and by wavelets: features kept, figures of any set of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reparam.functional.distance import frechet, kernel_distance
from reparam.functional.diversity import vendi
from reparam.functional.neighbours import duplicated, prdc
from reparam.functional.spectrum import as_smooth_as, high_frequencies
from reparam.metrics.evaluation import saved
from reparam.models.draw import Draw
from reparam.models.sampler import Sampler
from reparam.tensors import evenly, forked_rng

from .training import embedded

JUDGES = ("efficientnet", "inception")
"""Networks of which claims are made: trained on ImageNet, of unlike architecture. The first alone chooses settings and draws."""
FEATURES = (*JUDGES, "wavelets")
NEIGHBOURS = 2500
"""Of figures by neighbours, whose cost grows with the square."""
SUBSETS = 20
"""Of the kernel distance, of 1,000 pictures each."""
CHUNK = 250
FLOOR = (1 / 255) ** 2 / 12
"""High-frequency energy of rounding to 256 levels."""
Figures = dict[str, float]


@dataclass(frozen=True)
class Judge:
    """The test images of a set, with their features, which are kept in a folder."""

    name: str
    test: Tensor
    inception: Path
    """The archive of nsfwjs."""
    kept: Path

    def embed(self, features: str, x: Tensor) -> np.ndarray:
        return embedded(x, str(self.inception) if features == "inception" else features)

    def real(self, features: str) -> np.ndarray:
        """Of the test images."""
        path = self.kept / f"{self.name}-{len(self.test)}-{features}.npy"
        if not path.exists():
            found = self.embed(features, self.test)
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(f".{np.random.default_rng().integers(2**32)}.npy")
            np.save(beside, found)
            beside.rename(path)
        return np.load(path)

    @cached_property
    def few(self) -> np.ndarray:
        """Rows by which neighbours are looked for."""
        return evenly(len(self.test), NEIGHBOURS)

    def figures(self, pictures: Tensor, alike: int = 1) -> dict[str, Figures]:
        """By each features' name; as many pictures as test images, of which each is there `alike` times in a row."""
        found: dict[str, Figures] = {}
        for features in FEATURES:
            drawn = self.embed(features, pictures[::alike]).repeat(alike, 0)[: len(pictures)]
            found[features] = self._by(drawn, self.real(features), alike == 1)
            if features == JUDGES[0]:
                found["all"] = self._of_one_network(pictures, drawn)
        return {features: {k: float(f"{v:.5g}") for k, v in of.items()} for features, of in found.items()}

    def _by(self, drawn: np.ndarray, real: np.ndarray, spread: bool) -> Figures:
        distances = {"fd": frechet(drawn, real), "kd": kernel_distance(drawn, real, subsets=SUBSETS).value}
        if not spread:
            return distances
        shares = prdc(*(torch.from_numpy(each[self.few]) for each in (real, drawn)))
        return {**distances, **{k: float(v.float().mean()) for k, v in shares._asdict().items()}}

    def _of_one_network(self, pictures: Tensor, drawn: np.ndarray) -> Figures:
        """What says whether a player is able, and how sharp its pictures are."""
        smoothed = self.embed(JUDGES[0], saved(as_smooth_as(self.test[self.few], pictures[self.few])))
        copies = duplicated(torch.from_numpy(drawn[self.few]), torch.from_numpy(smoothed))
        energy = [high_frequencies(x[self.few]).mean().clamp(min=FLOOR) for x in (pictures, self.test)]
        return {"duplicates": float(copies.double().mean()), "vendi": vendi(drawn[self.few]).value,
                "sharpness": 10 * float((energy[0] / energy[1]).log10())}

    def references(self, training: Tensor) -> dict[str, dict[str, Figures]]:
        """What training images get, the floor; and two ceilings, the average image and noise of the images' mean and spread."""
        n = len(self.test)
        noise = torch.randn(self.test.shape, generator=torch.Generator().manual_seed(0))
        mean, spread = training.mean((0, 2, 3), keepdim=True), training.std((0, 2, 3), keepdim=True)
        average = training.mean(0, keepdim=True).expand(n, -1, -1, -1)
        return {"training images": self.figures(training[evenly(len(training), n)]),
                "average image": self.figures(saved(average), alike=n), "noise": self.figures(saved(mean + spread * noise))}


def pictures_of(sampler: Sampler, n: int, options: Draw, seed: int = 1234) -> Tensor:
    """So many draws, as a file holds them."""
    with forked_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        sizes = [min(CHUNK, n - begin) for begin in range(0, n, CHUNK)]
        return torch.cat([saved(sampler.images(sampler.codes(size, options), options)) for size in sizes])
