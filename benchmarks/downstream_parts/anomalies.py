"""Odd images among usual ones: how well scores part them, and how many usual ones are called odd.

1,000 test images of a set beside 1,000 odd ones: another set's, a digit that was left out of training, or the same set's with
a patch of 8×8 from another image. What is typical is told by the held-out images (`Set.rows[1]`). Goals: Fashion-MNIST against
MNIST 0.95 by the default score; false discoveries at 10 % nominal between 5 and 15 % in clean folders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score

from reparam.data.stream import to_batch
from reparam.downstream.anomaly import Detector, Oddness, benjamini_hochberg
from reparam.downstream.measures import DEFAULT, feature_directions, measured
from reparam.functional.intervals import of_share, wilson
from reparam.functional.neighbours import nearest

from .models import FILES, Set, trained

MEASURED = (*DEFAULT, "typicality")
N, TRAINING, SPARE = 1_000, 5_000, 1_500
"""Usual images and odd ones, each; training images that the other methods learn from; those more of which one digit at most
is left out."""
COMPONENTS, NEIGHBOUR = 64, 5
PATCH = 8
WITHOUT = 1.5
"""Minutes of a model without one of the digits."""
AGAINST = {"fashion": "mnist", "mnist": "fashion", "cifar": "faces"}
"""The sets whose images are the odd ones."""
FOLDER, FOLDERS, RATE, ODD = 200, 500, 0.1, 0.1
"""Images of a folder, folders, the nominal share of false discoveries, and the share of odd images."""
REGRET = 200
"""Images that a posterior is fitted to, of each kind; twice as many held-out ones."""


def cells(data: Path, work: Path) -> dict[str, Callable[[], dict]]:
    """A set's model against odd images of all kinds, each digit left out, and the statistics that are not in the default."""
    return {**{name: lambda name=name: of_set(Set(name, data), work) for name in FILES},
            **{f"without-{k}": lambda k=k: of_digit(Set("mnist", data), k, work) for k in range(10)},
            "regret": lambda: of_regret(Set("fashion", data), work)}


def of_set(images: Set, work: Path) -> dict:
    """Another set's images and patches against a set's own, and false discoveries among its own."""
    usual, others = tested(images)
    pasted, boxes = with_patches(images.images[others], np.random.default_rng(0))
    kinds = {"patch": pasted}
    if images.name in AGAINST:
        against = Set(AGAINST[images.name], images.data)
        kinds = {against.name: resized(against.images[tested(against)[0]], images.images.shape[1]), **kinds}
    scores = Scores(Detector.fit(trained(images, "default", work), images.images[images.rows[0]],
                                 images.images[images.rows[1]], MEASURED))
    rivals = Rivals(images, images.rows[0][:TRAINING], work)
    clean, of_rivals = scores(images.images[usual]), rivals(images.images[usual])
    found: dict[str, dict] = {}
    for kind, odd in kinds.items():
        judged = scores(odd)
        found[kind] = {**parted(clean, judged), **parted(of_rivals, rivals(odd)), "folders": folders(clean, judged)}
        if kind == "patch":
            found[kind]["hottest in the patch"] = pointed(judged.default.where.numpy(), boxes)
    return {"n": N, **found, "clean": clean_folders(clean)}


def of_digit(images: Set, digit: int, work: Path) -> dict:
    """A digit that neither the model nor any other method has seen, against the others."""
    training, held_out, test = (rows[images.labels["class"][rows] != digit] for rows in images.rows)
    model = trained(images, "default", work, rows=training, minutes=WITHOUT, name=f"without-{digit}")
    usual, odd = (images.images[shuffled(rows)[:N]] for rows in (test, np.setdiff1d(images.rows[2], test)))
    scores = Scores(Detector.fit(model, images.images[training], images.images[held_out], MEASURED))
    rivals, clean = Rivals(images, training[:TRAINING], work), scores(usual)
    return {"n": [len(usual), len(odd)], "digit": {**parted(clean, scores(odd)), **parted(rivals(usual), rivals(odd))},
            "clean": clean_folders(clean)}


def of_regret(images: Set, work: Path) -> dict:
    """Likelihood regret of a few images, by its value and by its density."""
    training, held_out, _ = images.rows
    against = Set(AGAINST[images.name], images.data)
    scores = Scores(Detector.fit(trained(images, "default", work), images.images[training],
                                 images.images[held_out[:2 * REGRET]], (*DEFAULT, "regret")))
    usual, odd = (scores(s.images[tested(s)[0][:REGRET]]) for s in (images, against))
    return {"n": REGRET, against.name: parted(usual, odd)}


# images


def shuffled(rows: np.ndarray) -> np.ndarray:
    """Files and arrays come class by class or easy ones first."""
    return np.random.default_rng(1).permutation(rows)


def tested(images: Set) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 1,000 test images that stay as they are, and of 1,000 others."""
    rows = shuffled(images.rows[2])
    return rows[:N], rows[N : 2 * N]


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """Averaged over the area of each pixel, in colour as they are."""
    if images.shape[1] == side:
        return images
    return np.stack([np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BOX)) for x in images])


def with_patches(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each image with a square of another in it, and the square's place (n, 2): row, column.

    Places are drawn again until the square changes a pixel: black on black is not odd.
    """
    pasted, boxes = images.copy(), np.zeros((len(images), 2), int)
    for i, x in enumerate(pasted):
        before = x.copy()
        while (x == before).all():
            source = images[(i + rng.integers(1, len(images))) % len(images)]
            (r, c), (row, column) = rng.integers(0, x.shape[0] - PATCH + 1, (2, 2))
            x[row : row + PATCH, column : column + PATCH] = source[r : r + PATCH, c : c + PATCH]
            boxes[i] = row, column
    return pasted, boxes


# scores


Named = dict[str, np.ndarray]
"""Scores (n,) by name, higher for odder images."""


@dataclass(frozen=True)
class Judged:
    """Images and their scores by a detector."""

    scores: Named
    default: Oddness


@dataclass(frozen=True)
class Scores:
    """Those of a detector: the default, −ELBO plainly, and each statistic by its density."""

    detector: Detector

    def __call__(self, images: np.ndarray) -> Judged:
        names = self.detector.names
        statistics, where = measured(self.detector.reference, names, images)
        whole = self.detector.by(names, statistics, where)
        default = self.detector.by(DEFAULT, statistics[:, : len(DEFAULT)], where)
        plain = {"−ELBO, high": statistics[:, :2].sum(1)}
        if "regret" in names:
            plain["regret, high"] = statistics[:, names.index("regret")]
        return Judged({"default": default.score, **plain, **dict(zip(names, whole.surprisal.T, strict=True))}, default)


class Rivals:
    """What else finds odd images, each learned from the same training images: the error of as many principal components as
    the model has latents, an isolation forest on these, and the fifth nearest neighbour in EfficientNet features."""

    def __init__(self, images: Set, rows: np.ndarray, work: Path) -> None:
        seen = flat(images.images[rows])
        self.pca = PCA(COMPONENTS, random_state=0).fit(seen)
        self.forest = IsolationForest(random_state=0).fit(self.pca.transform(seen))
        self.features = kept_features(images, rows, work)

    def __call__(self, images: np.ndarray) -> Named:
        x = flat(images)
        z = self.pca.transform(x)
        near = nearest(feature_directions(to_batch(images)), self.features, k=NEIGHBOUR).distance[:, -1].numpy()
        return {"PCA error": ((x - self.pca.inverse_transform(z)) ** 2).sum(1),
                "isolation forest on PCA": -self.forest.score_samples(z), "neighbours in features": near}


def kept_features(images: Set, rows: np.ndarray, work: Path) -> torch.Tensor:
    """EfficientNet features, of length 1, of some training images; those of a set are made once."""
    path, first = work / images.name / "features.npy", images.rows[0][: TRAINING + SPARE]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, feature_directions(to_batch(images.images[first])).half().numpy())
    place = {row: i for i, row in enumerate(first.tolist())}
    return torch.from_numpy(np.load(path)[[place[row] for row in rows.tolist()]]).float()


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


# figures


def parted(usual: Judged | Named, odd: Judged | Named) -> dict[str, dict]:
    a, b = (each.scores if isinstance(each, Judged) else each for each in (usual, odd))
    return {name: separation(a[name], b[name]) for name in a}


def separation(usual: np.ndarray, odd: np.ndarray, draws: int = 200) -> dict:
    """AUROC with DeLong's interval (1988, doi:10.2307/2531595) on the scale of log odds; average precision with quantiles of the
    bootstrap."""
    above, below = ranks(odd, usual), 1 - ranks(usual, odd)
    area = float(above.mean())
    error = float((above.var(ddof=1) / len(odd) + below.var(ddof=1) / len(usual)) ** 0.5)
    rng = np.random.default_rng(0)
    precision = [average_precision(rng.choice(usual, len(usual)), rng.choice(odd, len(odd))) for _ in range(draws)]
    return {"auroc": round(area, 4), "auroc_95": [round(v, 4) for v in of_share(area, error)],
            "ap": round(average_precision(usual, odd), 4), "ap_95": np.quantile(precision, (0.025, 0.975)).round(4).tolist()}


def ranks(x: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The share of the others that are lower, half of equal ones."""
    ordered = np.sort(among)
    return (np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")) / 2 / len(among)


def average_precision(usual: np.ndarray, odd: np.ndarray) -> float:
    return float(average_precision_score(np.repeat([0, 1], (len(usual), len(odd))), np.concatenate([usual, odd])))


def clean_folders(clean: Judged) -> dict:
    """How many usual images have a p-value of 10 % or less: of all, in folders of 200, and by each statistic; and the share of
    those folders of which any image is called odd."""
    p, rng = clean.default.p_value, np.random.default_rng(0)
    drawn = [p[rng.permutation(len(p))[:FOLDER]] for _ in range(FOLDERS)]
    low = float((p <= RATE).mean())
    each = (clean.default.p_values <= RATE).mean(0)
    return {"p ≤ 0.1": round(low, 4), "p ≤ 0.1, 95 %": [round(v, 4) for v in wilson(low, len(p))],
            "folders, 95 %": np.quantile([(d <= RATE).mean() for d in drawn], (0.025, 0.975)).round(4).tolist(),
            "by statistic": dict(zip(clean.default.names, each.round(4).tolist(), strict=True)),
            "folders with a discovery": float(np.mean([benjamini_hochberg(d, RATE).any() for d in drawn]))}


def folders(clean: Judged, odd: Judged) -> dict:
    """Of folders of 180 usual images and 20 odd ones: the mean share of mistakes among those called odd, and the share of odd
    ones that are."""
    rng, odds = np.random.default_rng(0), round(ODD * FOLDER)
    wrong, power = [], []
    for _ in range(FOLDERS):
        p = np.concatenate([rng.permutation(clean.default.p_value)[: FOLDER - odds],
                            rng.permutation(odd.default.p_value)[:odds]])
        called = benjamini_hochberg(p, RATE)
        wrong.append(called[:-odds].sum() / max(called.sum(), 1))
        power.append(called[-odds:].mean())
    return {"false discoveries": round(float(np.mean(wrong)), 4), "found": round(float(np.mean(power)), 4)}


def pointed(where: np.ndarray, boxes: np.ndarray) -> dict:
    """In how many images the hottest pixel lies in the patch; by chance, as many as the patch covers."""
    hottest = np.stack(np.unravel_index(where.reshape(len(where), -1).argmax(1), where.shape[1:]), 1)
    inside = float(((hottest >= boxes) & (hottest < boxes + PATCH)).all(1).mean())
    return {"share": round(inside, 4), "share_95": [round(v, 4) for v in wilson(inside, len(where))],
            "by chance": round(PATCH**2 / where[0].size, 4)}
