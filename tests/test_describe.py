"""What latents mean: a model whose latents are known by construction, tables with gaps, and the command."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

import reparam
from reparam.cli.app import main as command
from reparam.data.arrays import from_arrays
from reparam.downstream.columns import as_levels, columns_of
from reparam.downstream.description import describe_latents
from reparam.downstream.meaning import effect_of, in_words, place_of
from reparam.errors import DataError, UsageError
from reparam.files.tables import read_cells
from reparam.metrics.factors import Table
from reparam.models.codes import latent_axes
from reparam.models.posteriors import Posterior
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel
from reparam.runs.describing import describe

SIDE, RADIUS, LIGHT = 20, 3.0, 0.6


def discs(x, y, shade):
    """Images (n, 1, SIDE, SIDE) of a soft disc at (x, y), pixels from the middle, on a background of this shade."""
    rows, columns = torch.meshgrid(*[torch.arange(SIDE) - (SIDE - 1) / 2] * 2, indexing="ij")
    distance = ((columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2).sqrt()
    inside = (RADIUS - distance + 0.5).clamp(0, 1)
    return (shade[:, None, None] + LIGHT * inside)[:, None]


class Reading(nn.Module):
    """The encoder: measures a disc's place and the background's shade."""

    features = (3,)

    def forward(self, image):
        shade = image[:, 0, 0, 0]
        mass = image[:, 0] - shade[:, None, None]
        at = torch.arange(SIDE) - (SIDE - 1) / 2
        x, y = ((mass.sum(axis) * at).sum(1) / mass.sum((1, 2)) for axis in (1, 2))
        return torch.stack([y / 3, shade * 20 - 2, x / 3], 1)


class Drawing(nn.Module):
    """The decoder: draws them."""

    def forward(self, z):
        return discs(z[:, 2] * 3, z[:, 0] * 3, (z[:, 1] + 2) / 20)


@pytest.fixture(scope="module")
def known(small):
    """A model of five latents: y, shade, x, and two that carry nothing; and 600 images with their factors."""
    rng = np.random.default_rng(0)
    x, y, shade = (torch.from_numpy(rng.uniform(-1.7, 1.7, 600)).float() for _ in range(3))
    images = (discs(3 * x, 3 * y, (shade + 2) / 20)[:, 0].clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    vae = small((1, SIDE, SIDE), latent="flat(5)").eval()
    vae.encoder = Reading()
    vae.latent.posterior = Fixed(vae.latent.posterior)
    vae.decoder = Drawing()
    batch = torch.from_numpy(images)[:, None] / 255
    recipe = Recipe(likelihood="gaussian(sigma=0.3)", latent="flat(5)")
    config = Config(recipe, (1, SIDE, SIDE), axes=latent_axes(vae, batch))
    return ImageModel(Sampler(vae), config), images, {"x": x.numpy(), "y": y.numpy(), "shade": shade.numpy()}


class Fixed(Posterior):
    """A posterior whose means are what the encoder measured, and zeros."""

    def __init__(self, other):
        super().__init__()
        self.space = other.space

    def forward(self, h):
        from reparam.distributions.gaussian import Gaussian

        mean = torch.cat([h, torch.zeros(len(h), 2)], 1)
        return Gaussian(mean, torch.tensor([-4.0, -4, -4, 0, 0]).expand_as(mean))


def test_known_latents_are_named_exactly(known):
    model, images, factors = known
    said = describe(model, images, labels=np.stack(list(factors.values()), 1))
    assert said.carrying == 3 and said.n == 600
    columns = {d.name: said.columns.index(d.best.column) for d in said.latents}
    assert columns == {"latent 0": 1, "latent 1": 2, "latent 2": 0}  # y, shade, x
    for each in said.latents:
        best, *others = each.associations
        assert best.explained > 0.98 and best.interval[0] < best.explained < best.interval[1]
        assert all(a.explained < 0.03 for a in others)
    assert {s.name: s.value for s in said.scores}["mig"] > 0.5


def test_known_latents_move_what_they_should(known):
    model, images, factors = known
    found = {d.name: d for d in describe(model, images, labels=np.stack(list(factors.values()), 1)).latents}
    y, shade, x = (found[f"latent {i}"].effect for i in range(3))
    span = 3 * 3.4 * 0.98  # from the first to the last percentile of a uniform factor
    assert (x.x, x.y) == (pytest.approx(span, abs=0.3), pytest.approx(0, abs=0.2))
    assert (y.x, y.y) == (pytest.approx(0, abs=0.2), pytest.approx(span, abs=0.3))
    assert shade.brightness == pytest.approx(3.4 * 0.98 / 20, abs=0.01) and abs(shade.x) + abs(shade.y) < 0.1
    assert "px right" in found["latent 2"].moves and "lighter" in found["latent 1"].moves
    assert place_of(shade.where) == "all over the picture"


def test_directions_pass_over_what_carries_nothing(known):
    model, images, _ = known
    said = describe(model, images)
    assert (len(said.components), said.columns) == (3, ())
    most = said.visible[0]
    assert np.abs(most.vector[3:]).max() < 1e-6 and most.amount >= said.visible[-1].amount
    assert sum(c.amount for c in said.components) == pytest.approx(1, abs=1e-6)


def test_columns_say_what_is_left_out():
    n = 100
    cells = {"good": ["a", "b"] * 50, "gaps": [*("" for _ in range(30)), *map(str, range(70))], "same": [1] * n,
             "names": [f"{i}.png" for i in range(n)], "few": ["a", "b", *[""] * 98], "twin": [0, 1] * 50,
             "holes": [float("nan"), 2.0, 3.0, 4.0] * 25}
    found = as_levels(cells, n)
    assert found.names == ("good", "gaps", "holes") and found.categorical == (True, False, False)
    assert (found.levels[:30, 1] == -1).all() and found.levels[30:, 1].max() == 19
    assert [note.split("'")[1] for note in found.notes] == ["same", "names", "few", "twin"]
    rows, factors = found.complete
    assert len(rows) == 53 and (factors.levels >= 0).all()


def test_a_table_may_lack_rows_and_not_all():
    images = from_arrays(np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
    table = Table(("size",), {str(i): (str(i % 4),) for i in range(40)}, "attributes.csv")
    found = columns_of(images, np.arange(60), table)
    assert found.names == ("size",) and (found.levels[40:] == -1).all()
    assert "no row for 20 of 60 images, such as 40" in found.notes[0]
    with pytest.raises(DataError, match=r"does not name '0'; its first names are 'a\.png'"):
        columns_of(images, np.arange(60), Table(("size",), {"a.png": ("1",)}, "attributes.csv"))


def test_effects_in_words():
    walk = np.zeros((5, 12, 12), np.uint8)
    for step, image in enumerate(walk):
        image[2:5, 1 + step : 4 + step] = 255
    assert in_words(effect_of(walk)) == "4.0 px right"
    there_and_back = np.concatenate([walk, walk[-2::-1]])
    assert in_words(effect_of(there_and_back)) == "form, mostly at the top"
    assert in_words(effect_of(walk[:1].repeat(3, 0))) == "hardly anything"


def test_a_hue_turns_the_way_that_it_went_and_the_background_by_itself():
    import colorsys

    walk = np.stack([np.full((12, 12, 3), 0.0) for _ in range(9)])
    for step, image in enumerate(walk):
        image[:] = colorsys.hsv_to_rgb(0.5 + 0.01 * step, 0.5, 0.4)
        image[4:8, 4:8] = colorsys.hsv_to_rgb(0.7 * step / 8, 1, 1)
    effect = effect_of((255 * walk).astype(np.uint8))
    assert effect.hue == pytest.approx(252, abs=4) and effect.background_hue == pytest.approx(28.8, abs=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    height, light = np.arange(900) % 4, np.arange(900) // 4 % 3
    images = np.random.default_rng(0).integers(0, 20, (900, 8, 8))
    for image, h, b in zip(images, height, light, strict=True):
        image[:, : 2 * h + 2] += 80 * b + 60
    np.savez(folder / "bars.npz", images=images.astype(np.uint8), labels=np.stack([height, light], 1),
             factor_names=["height", "<b>light</b>"])
    reparam.train(folder / "bars.npz", out=folder / "run", threads=1, precision="float32", encoder="mlp((16,))",
                  decoder="mlp((16,))", latent="flat(3)", fitted_prior="none", steps=60, batch_size=32)
    return folder


def test_the_command_writes_a_page_and_a_table(run, capsys):
    capsys.readouterr()
    assert command(["describe", str(run / "run"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["columns"] == ["height", "<b>light</b>"] and said["latents"][0]["goes_with"] in said["columns"]
    page = (run / "run" / "latents.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;light" in page and "<b>light" not in page and "src='http" not in page
    rows = list(csv.DictReader((run / "run" / "latents.csv").read_text(encoding="utf-8").splitlines()))
    first = {a["column"]: a for a in said["latents"][0]["associations"]}["height"]
    assert float(rows[0]["height share"]) == first["share"] and float(rows[0]["height low"]) == first["interval"][0]
    assert {row["kind"] for row in rows} == {"latent", "component", "visible"}
    assert command(["describe", str(run / "run"), "--out", str(run / "page.html"), "--table-out",
                    str(run / "of.parquet")]) == 0
    assert "goes with" in capsys.readouterr().out and not (run / "page.csv").exists()
    assert read_cells(run / "of.parquet")[0][:3] == ["direction", "kind", "place"]


def test_what_a_stranger_does_wrong_is_said(run, capsys):
    (run / "mine.csv").write_text("file,size\nx.png,1\n", encoding="utf-8")
    for given, code, words in (
            (["--table", str(run / "mine.csv"), "--out", str(run / "mine.html")], 2, "written over"),
            (["--table", str(run / "mine.csv")], 1, "does not name"), (["--out", "page.png"], 2, "must be an .html"),
            (["--dims", "0"], 2, "dims"), (["--table", str(run / "no.csv")], 1, "cannot be read")):
        capsys.readouterr()
        assert command(["describe", str(run / "run"), *given]) == code
        assert words in capsys.readouterr().err


def test_a_gan_is_described_by_what_it_changes(small):
    generator = small((1, 8, 8), encoder="none", latent="flat(6)", likelihood="bernoulli", moved=0.3).eval()
    config = Config(Recipe(encoder="none", latent="flat(6)"), (1, 8, 8), axes=latent_axes(generator, torch.zeros(0)))
    model = ImageModel(Sampler(generator), config)
    said = describe(model, dims=4)
    assert len(said.latents) == 4 and said.n == 0 and not said.components and said.visible and "no encoder" in said.notes[0]
    with pytest.raises(UsageError, match="cannot encode"):
        describe(model, np.zeros((4, 8, 8), np.uint8))


@pytest.mark.parametrize(("changes", "words", "place"), [
    ({"latent": "spatial(2, 4)", "encoder": "resnet(width=8)", "decoder": "resnet(width=8)"}, "grid", "channel"),
    ({"latent": "top_down(3, (1, 2), 2, 8, 2)", "encoder": "resnet(width=8, patch=2)",
      "decoder": "resnet(width=8, patch=1)"}, "layers", "of 4 from the top"),
    ({"latent": "spatial(2, 4)", "encoder": "resnet(width=8)", "decoder": "resnet(width=8)", "posterior": "vq(8, dim=2)",
      "prior": "uniform"}, "codebook", "channel")])
def test_other_latents_say_what_they_are(small, changes, words, place):
    vae = small((1, 8, 8), **changes).eval()
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    axes = latent_axes(vae, torch.from_numpy(images)[:, None] / 255)
    model = ImageModel(Sampler(vae), Config(Recipe(**changes), (1, 8, 8), axes=axes))
    said = describe_latents(model, from_arrays(images, np.arange(40) % 2))
    assert words in " ".join(said.notes) and any(place in d.place for d in said.latents) and said.columns == ("label",)
