"""Shortest paths: known geodesics, quadrature, Jacobians by autograd; the metric over codes; `interpolate --geodesic`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reparam.cli.app import main
from reparam.downstream.geometry import (
    Metric,
    NearImages,
    PulledBack,
    decoder_metric,
    fit_near_images,
    read_near_images,
    save_near_images,
    shortest,
    shortest_path,
)
from reparam.errors import ModelFileError, UsageError
from reparam.models.centroids import Centroids, apart, centroids_of
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel


def model_of(small, **changes):
    vae = small((1, 4, 4), moved=0.3, **changes).eval()
    return ImageModel(Sampler(vae), Config(Recipe(**{"latent": "flat(4)", "likelihood": "gaussian(sigma=0.3)", **changes}),
                                           (1, 4, 4)))


def straight(a, b):
    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    return lambda t: torch.lerp(a, b, t)


class HalfPlane(Metric):
    """ds² = (dx² + dy²) / y²."""

    def squared_speed(self, z, v):
        return v.square().sum(1) / z[:, 1].square()


def test_in_the_half_plane_they_are_half_circles():
    found = shortest(HalfPlane(), straight([-1.0, 1.0], [2.0, 0.5]), 21)
    exact = math.acosh(1 + (3**2 + 0.5**2) / (2 * 1.0 * 0.5))
    assert found.length == pytest.approx(exact, rel=2e-3) and found.begun_with > 1.2 * exact
    x, y = found.codes.T
    centre = (2**2 + 0.5**2 - 1 - 1) / (2 * (2 - -1))  # of the circle around a point of the x-axis through both ends
    assert torch.allclose((x - centre).square() + y.square(), torch.tensor((1 + centre) ** 2 + 1).double(), atol=0.03)
    speed = HalfPlane().steps(found.codes).sqrt()
    assert speed.std() < 0.03 * speed.mean()


def on_sphere(z):
    """Longitude and latitude, as a point of the unit sphere."""
    longitude, latitude = z.T
    return torch.stack([latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()], 1)


def test_on_a_sphere_they_are_great_circles():
    ends = torch.tensor([[-1.2, 0.7], [1.2, 0.7]], dtype=torch.float64)
    a, b = on_sphere(ends)
    found = shortest(PulledBack(on_sphere), lambda t: torch.lerp(ends[0], ends[1], t), 15)
    assert found.length == pytest.approx(float((a @ b).acos()), rel=1e-3)
    assert found.begun_with == pytest.approx(2.4 * math.cos(0.7), rel=1e-3)  # along the circle of latitude
    points = on_sphere(found.codes)
    assert (points @ torch.linalg.cross(a, b)).abs().max() < 1e-2
    torch.testing.assert_close(points[7], (a + b) / (a + b).norm(), atol=5e-3, rtol=0)


def test_a_linear_decoder_has_straight_lines_whatever_they_begin_with():
    matrix = torch.randn(9, 3, dtype=torch.float64)
    a, b = torch.randn(2, 3, dtype=torch.float64)

    def detour(t):
        return torch.lerp(a, b, t) + math.sin(math.pi * t) * torch.tensor([2.0, -1.0, 1.0])

    found = shortest(PulledBack(lambda z: z @ matrix.T), detour, 9)
    assert found.length == pytest.approx(float((matrix @ (b - a)).norm()), rel=1e-4)
    expected = torch.stack([torch.lerp(a, b, t) for t in np.linspace(0, 1, 9)])
    torch.testing.assert_close(found.codes, expected, atol=2e-2, rtol=0)


def test_a_path_that_is_shortest_stays_and_ends_stay_too():
    begin = straight([0.0, 0.0], [1.0, 2.0])
    found = shortest(PulledBack(lambda z: z), begin, 5)
    assert found.length == found.begun_with == pytest.approx(5**0.5)
    torch.testing.assert_close(found.codes, torch.stack([begin(t) for t in np.linspace(0, 1, 5)]))


def test_what_may_not_bend_does_not():
    found = shortest(HalfPlane(), straight([0.0, 1.0], [3.0, 1.0]), 9, free=torch.tensor([1.0, 0.0]))
    assert (found.codes[:, 1] == 1).all() and found.length == pytest.approx(3)


def test_lengths_are_those_of_quadrature(small):
    metric, (a, b) = decoder_metric(model_of(small, likelihood="gaussian(sigma='per_pixel')")), torch.randn(2, 4)
    t = torch.linspace(0, 1, 400)[:, None]
    bend, slope = torch.tensor([1.0, -1.0, 0.5, 0.0]), b - a
    path = torch.lerp(a, b, t) + torch.sin(3 * t) * bend
    middle = (t[1:] + t[:-1]) / 2
    at, v = torch.lerp(a, b, middle) + torch.sin(3 * middle) * bend, slope + 3 * torch.cos(3 * middle) * bend
    speed = metric.squared_speed(at, v).sqrt().detach()
    assert metric.length(path) == pytest.approx(float(speed.mean()), rel=1e-3)


@pytest.mark.parametrize(("likelihood", "outputs"), [("gaussian(sigma=0.3)", ("mean",)), ("bernoulli", ("mean",)),
                                                     ("gaussian(sigma='per_pixel')", ("mean", "std"))])
def test_the_decoders_metric_is_that_of_its_jacobian(small, likelihood, outputs):
    model = model_of(small, likelihood=likelihood)
    z, v = torch.randn(2, 3, 4)

    def flat(z):
        px = model.network.decode(z[None, None])
        each = {"mean": px.mean, "std": (px.log_var / 2).exp() if "std" in outputs else None}
        return torch.cat([each[name].flatten() for name in outputs])

    for at, way, speed in zip(z, v, decoder_metric(model).squared_speed(z, v), strict=True):
        jacobian = torch.autograd.functional.jacobian(flat, at)
        assert float(speed.detach()) == pytest.approx(float((jacobian @ way).square().sum()), rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"latent": "spatial(2, 2)"}, {"latent": "semi_supervised(4, 3)"},
                                     {"prior": "mixture(3)"}, {"posterior": "vmf", "prior": "sphere"},
                                     {"latent": "top_down(3, (1, 2), 2, 8, 2)", "encoder": "resnet(width=8, patch=2)",
                                      "decoder": "resnet(width=8, patch=1)"}], ids=str)
def test_a_models_paths_are_no_longer_than_the_usual_ones(small, changes):
    model = model_of(small, **changes)
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4), np.uint8)
    ends = model.ends(images[0], images[1])
    found = shortest_path(model, ends, 7)
    assert found.codes.shape == (7, *model.latent_shape)
    torch.testing.assert_close(found.codes[[0, -1]], ends, atol=1e-5, rtol=1e-5)
    usual = torch.stack([model.between(ends, t) for t in np.linspace(0, 1, 65)]).flatten(1).clone()
    assert found.length <= found.begun_with == pytest.approx(decoder_metric(model).length(usual), rel=1e-4)
    assert found.length < found.begun_with
    if "vmf" in str(changes):
        torch.testing.assert_close(found.codes.norm(dim=1), torch.ones(7))
    if "semi" in str(changes):
        torch.testing.assert_close(found.codes[:, 4:].sum(1), usual[:, 4:].sum(1)[:1].expand(7), atol=0.3, rtol=0)


def test_whole_numbers_have_no_paths(small):
    model = model_of(small, posterior="lfq(2)", prior="uniform")
    with pytest.raises(UsageError, match="nothing lies"):
        shortest_path(model, model.ends(seed=0), 5)


def two_groups():
    """Posteriors along a bent road from (-4, 0) to (4, 0) by way of (0, 4)."""
    angle = torch.linspace(0, math.pi, 40).double()
    means = 4 * torch.stack([-angle.cos(), angle.sin()], 1)
    return Centroids(means, torch.full_like(means, 0.04), width=3.0)


def test_the_metric_over_codes_is_as_defined():
    near, z, v = two_groups(), torch.randn(5, 2).double() + 1, torch.randn(5, 2).double()
    metric = NearImages(near, 0.02)
    for at, way, speed in zip(z, v, metric.squared_speed(z, v), strict=True):
        inverse = 0.02 * torch.diag(near.variances.mean(0))
        for mean, variance in zip(near.means, near.variances, strict=True):
            covariance = torch.diag(variance)
            inverse += torch.exp(-(at - mean) @ torch.linalg.inv(covariance) @ (at - mean) / 3.0**2) * covariance
        assert float(speed) == pytest.approx(float(way @ torch.linalg.inv(inverse) @ way), rel=1e-6)


def test_paths_by_the_metric_over_codes_go_where_images_are():
    found = shortest(NearImages(two_groups(), 1e-4), straight([-4.0, 0.0], [4.0, 0.0]), 21)
    radius = found.codes.norm(dim=1)
    assert found.length < 0.5 * found.begun_with and ((radius > 3) & (radius < 5)).all()


def test_centroids_are_some_of_the_posteriors_and_stand_apart():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    means = (centres[:, None] + 0.1 * torch.randn(3, 50, 2)).flatten(0, 1)
    variances = torch.rand(150, 2) + 0.5
    chosen, spread = centroids_of(means, variances, 3)
    assert torch.cdist(centres, chosen).min(1).values.max() < 0.5
    rows = torch.cdist(chosen, means).argmin(1)
    assert torch.equal(chosen, means[rows]) and torch.equal(spread, variances[rows])
    nearest = [min(float(((chosen[i] - chosen[j]) ** 2 / spread[j]).sum() ** 0.5) for j in range(3) if j != i)
               for i in range(3)]
    torch.testing.assert_close(apart(chosen, spread), torch.tensor(nearest), atol=1e-3, rtol=1e-4)
    assert torch.equal(centroids_of(means[:2], variances[:2], 3)[0], means[:2])


def test_the_metric_is_kept_beside_its_model(small, tmp_path):
    model, images = model_of(small), np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), np.uint8)
    metric = fit_near_images(model, images, 20)
    save_near_images(tmp_path, model, metric)
    again, (z, v) = read_near_images(tmp_path, model), torch.randn(2, 6, 4)
    assert torch.equal(again.squared_speed(z, v), metric.squared_speed(z, v))
    assert len(metric.centroids.means) <= 20
    with pytest.raises(ModelFileError, match="as it was before"):
        read_near_images(tmp_path, model_of(small))
    with pytest.raises(UsageError, match="not one Gaussian"):
        fit_near_images(model_of(small, posterior="vmf", prior="sphere"), images)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a run of some steps, and two images."""
    from reparam.runs.train import train

    folder = tmp_path_factory.mktemp("geometry")
    train("digits", out=folder / "run", steps=20, threads=1, precision="float32", encoder="mlp((32,))",
          decoder="mlp((32,))", latent="flat(4)", fitted_prior="none")
    for name, image in zip("ab", np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8), strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize("metric", [(), ("--metric", "codes")], ids=str)
def test_the_command_shows_both_ways_and_tells_their_lengths(run, metric, tmp_path, capsys):
    usual = ["interpolate", str(run / "run"), str(run / "a.png"), str(run / "b.png"), "--steps", "5", "--geodesic", *metric]
    assert main([*usual, "--out", str(tmp_path / "way.png"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["length"] <= told["usual"] and told["metric"] == (metric[1] if metric else "decoder")
    with Image.open(tmp_path / "way.png") as picture:
        assert picture.size == (2 + 5 * 66, 2 + 2 * 66)
    assert (run / "run" / "geometry.safetensors").exists() == bool(metric)
    assert main([*usual, "--out", str(tmp_path / "way.npy")]) == 0
    assert np.load(tmp_path / "way.npy").shape == (5, 8, 8)
    assert "the shortest way has length" in capsys.readouterr().out
    assert main(["interpolate", str(run / "run"), "--geodesic", "--out", str(tmp_path / "way.gif")]) == 0


def test_a_metric_without_a_geodesic_is_refused(run, capsys):
    assert main(["interpolate", str(run / "run"), "--metric", "codes"]) == 2
    assert "--geodesic: give both" in capsys.readouterr().err


def test_the_benchmark_names_its_cells(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from downstream import PARTS
    from downstream_parts.geometry import cells, some

    assert "geometry" in PARTS
    assert set(cells(tmp_path, tmp_path)) == {"riemannian-mnist", "riemannian-fashion", "paths-mnist", "paths-fashion"}
    assert (some(np.arange(10), 5) == [0, 2, 4, 6, 8]).all()
