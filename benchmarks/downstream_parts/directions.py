"""Edits of faces along attributes, judged by a classifier of real faces.

faces64.zip: 10,000 faces with a table of their factors. Goal: a step of 1.5 gives 80 % of held-out faces what it is for, and
changes any other factor of at most 15 %. `naive` adds 1.5 times the difference of means, the same vector for all faces; `kept` is
what `reparam direction --keep` and `reparam edit` do.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import reparam
from reparam.downstream.directions import Direction, calibrated, edit, encoded_again, find_direction
from reparam.functional.intervals import wilson
from reparam.metrics.factors import read_table
from reparam.pretrained.pictures import grid, save_png


def cells(data: Path, work: Path) -> dict[str, Callable[[], dict]]:
    """By the plain difference of means, and by directions that keep the other factors."""
    faces = Faces(data / "faces64.zip", work)
    return {"naive": lambda: judged(faces, keep=False), "kept": lambda: judged(faces, keep=True)}


STEP, EDITED = 1.5, 200
TRAINED = 8_000
"""Faces that model, directions and judge are made from; the other 2,000 are edited."""
FACTORS = {"skinColor": 0, "hairColor": 0, "glassesVariant": "none", "earringsVariant": "none", "detailsVariant": 0,
           "backgroundColor": 0}
"""Those that a judge can see; of glasses and earrings, whether there are any."""
RECIPE = {"encoder": "resnet(width=32, patch=4)", "decoder": "resnet(width=48, patch=4)", "latent": "flat(96)",
          "objective": "nll + 0.3*kl", "batch_size": 32, "optimizer": "adamw(lr=4e-3)", "steps": 2000, "threads": 1,
          "fitted_prior": "none"}
"""Some three minutes of one core."""


@dataclass(frozen=True)
class Faces:
    """Images, factors and what is made of them, each when it is first asked for."""

    archive: Path
    work: Path

    @cached_property
    def opened(self) -> tuple[np.ndarray, tuple[str, ...]]:
        found = reparam.open_images(str(self.archive))
        return found.images, found.names

    @property
    def images(self) -> np.ndarray:
        return self.opened[0]

    @cached_property
    def levels(self) -> dict[str, np.ndarray]:
        """Factor: its value of each face, as written."""
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / "factors.csv"
        with zipfile.ZipFile(self.archive) as file:
            path.write_bytes(file.read("factors.csv"))
        table = read_table(path)
        columns = dict(zip(table.names, np.array([table.rows[name] for name in self.opened[1]]).T, strict=True))
        return {name: np.where(columns[name] == "none", "none", "some") if none else columns[name]
                for name, none in FACTORS.items()}

    @cached_property
    def numbers(self) -> np.ndarray:
        """(n, factors), levels from 0 in the order of their names."""
        return np.stack([np.unique(column, return_inverse=True)[1] for column in self.levels.values()], 1)

    @cached_property
    def model(self) -> reparam.ImageModel:
        folder = self.work / "faces64"
        if not (folder / "model.safetensors").exists():
            reparam.train(self.images[:TRAINED], out=folder, **RECIPE)
        return reparam.load(folder, device="cpu")

    @cached_property
    def judge(self) -> Judge:
        """The factors of faces, by a network that has seen real ones alone."""
        made, path = Judge(self.numbers.max(0) + 1), self.work / "judge.safetensors"
        if path.exists():
            made.net.load_state_dict(load_file(path))
        else:
            made.learn(self.images[:TRAINED], self.numbers[:TRAINED])
            save_file(made.net.state_dict(), path)
        made.net.eval()
        return made


class Judge:
    def __init__(self, levels: np.ndarray) -> None:
        def block(i: int, o: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU())

        self.levels = levels.tolist()
        self.net = nn.Sequential(block(3, 24), block(24, 48), block(48, 64), block(64, 64), nn.Flatten(),
                                 nn.Linear(64 * 16, 128), nn.ReLU(), nn.Linear(128, sum(self.levels)))

    def learn(self, images: np.ndarray, numbers: np.ndarray, steps: int = 1200) -> None:
        """With a little noise on the images, so that pixels that an edit smooths are no riddle."""
        torch.manual_seed(0)
        y = torch.from_numpy(numbers)
        optimizer = torch.optim.AdamW(self.net.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(0, len(images), (64,))
            x = pixels(images[rows.numpy()]) + 0.05 * torch.randn(64, 3, 64, 64)
            loss = sum(F.cross_entropy(out, y[rows, j]) for j, out in enumerate(self.net(x).split(self.levels, 1)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """(n, factors)"""
        return np.stack([out.argmax(1).numpy() for out in self.net(pixels(images)).split(self.levels, 1)], 1)


def pixels(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def judged(faces: Faces, keep: bool) -> dict:
    """Of each edit at a step of 1.5: shares of faces that got what it is for, and whose other factors changed."""
    names, levels = list(FACTORS), faces.levels
    codes = faces.model.encode(faces.images[:TRAINED]).reshape(TRAINED, -1)
    rows, strips = [], []
    for factor, value in wanted(levels):
        has, column = levels[factor] == value, names.index(factor)
        lacking = TRAINED + np.flatnonzero(~has[TRAINED:])[:EDITED]
        before = faces.images[lacking]
        if keep:
            way = calibrated(direction(codes, levels, factor, value), codes[~has[:TRAINED]], partial(encoded_again, faces.model))
        else:
            way = difference(codes, has[:TRAINED])
        after = edit(faces.model, before, [(way, STEP)])
        row = {"edit": f"{factor}={value}", "faces": len(lacking), **({"shown": way.shown} if keep else {}),
               **effect(faces.judge(before), faces.judge(after), column, np.unique(levels[factor]).tolist().index(value))}
        rows.append(row)
        strips.append(np.concatenate([before[:8], after[:8]]))
        print(f"{row['edit']:28} reached {row['reached']:.3f}  {row['worst']} changed in {row['most_changed']:.3f}", flush=True)
    save_png(grid(np.concatenate(strips), 16), faces.work / f"directions-{'kept' if keep else 'naive'}.png")
    return {"step": STEP, "detail": 1.0, "met": sum(row["met"] for row in rows), "of": len(rows), "edits": rows}


def direction(codes: np.ndarray, levels: dict[str, np.ndarray], factor: str, value: str) -> Direction:
    """As the command finds it: the factor's other values are kinds, every other factor is kept."""
    known = {name: column[:TRAINED] for name, column in levels.items()}
    others = {f"{name}={v}": column == v for name, column in known.items() if name != factor for v in np.unique(column)[1:]}
    return find_direction(f"{factor}={value}", codes, known[factor] == value, others, known[factor])


def difference(codes: np.ndarray, has: np.ndarray) -> np.ndarray:
    return codes[has].mean(0) - codes[~has].mean(0)


def effect(before: np.ndarray, after: np.ndarray, column: int, value: int) -> dict:
    """Of factors (n, factors) as judged before and after: the share that reached the value, and what else changed."""
    reached = float((after[:, column] == value).mean())
    changed = {name: float((after[:, i] != before[:, i]).mean()) for i, name in enumerate(FACTORS) if i != column}
    worst = max(changed, key=lambda name: changed[name])
    return {"reached": reached, "interval": [round(v, 3) for v in wilson(reached, len(after))], "changed": changed,
            "worst": worst, "most_changed": changed[worst], "met": reached >= 0.8 and changed[worst] <= 0.15}


def wanted(levels: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """Glasses, and each colour of skin and hair."""
    return [("glassesVariant", "some"), *(("skinColor", v) for v in np.unique(levels["skinColor"])),
            *(("hairColor", v) for v in np.unique(levels["hairColor"]) if v != "none")]
