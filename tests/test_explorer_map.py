"""The explorer's map in a browser: neighbourhoods that are computed meanwhile, pairs of latents, and very many images."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from pages import shows, until
from PIL import Image
from test_explorer_page import D, Server, lasso, opened, wait_for_text  # noqa: F401

MANY = 400_000


@dataclass
class Neighbourly(Server):
    """Has a map of neighbourhoods too, by the third and fourth latent, which is not ready at once."""

    ready: bool = False
    missing: str = ""
    n: int = 300

    def __post_init__(self):
        super().__post_init__()
        self.codes = np.random.default_rng(0).normal(0, 1, (self.n, D)).astype(np.float32)
        self.labels = (self.codes[:, 0] > 0).astype(np.float32)

    def hello(self, q):
        fields, arrays = super().hello(q)
        missing = {"missing": self.missing} if self.missing else {}
        fields["planes"].append({"name": "pacmap", "title": "neighbourhoods", "exact": False, **missing})
        fields["points"]["n"] = self.n
        return fields, arrays

    def axes(self, plane):
        return [2, 3] if plane == "pacmap" else super().axes(plane)

    def plane(self, q):
        if q["plane"] != "pacmap":
            return super().plane(q)
        if not self.ready:
            return {"computing": True}, {}
        return {"titles": [], "exact": False, "by_neighbours": True, "trustworthiness": 0.97}, {"xy": self.codes[:, 2:4]}

    def places(self, q):
        return {}, {"xy": np.asarray(q["codes"], np.float32)[:, 2:4]}

    def at(self, q):
        return ({}, {}) if abs(q["x"]) > 3.6 else super().at(q)


@pytest.fixture
def server(request):
    return Neighbourly(**getattr(request, "param", {}))


def in_view(xy, w, h):
    """What lies in the middle of a canvas that shows all points, and pixels per unit."""
    return (xy.min(0) + xy.max(0)) / 2, 0.92 * min(w / np.ptp(xy[:, 0]), h / np.ptp(xy[:, 1]))


def test_neighbourhoods_are_shown_when_they_are_ready_and_the_page_goes_on_meanwhile(opened, server):  # noqa: F811
    page = opened()
    page.select_option("#plane", "pacmap")
    wait_for_text(page, "#plane option:checked", "^Neighbourhoods: computing …$")
    assert "latent 0" in page.inner_text("#titles"), "what was shown stays"
    page.locator("#sliders .range[aria-label=hue]").evaluate("s => { s.value = 1; s.dispatchEvent(new Event('input')) }")
    code = server.codes[0].copy()
    code[2] = 1
    shows(page, "#image", server.decode(code)[0])
    server.ready = True
    wait_for_text(page, "#trust", "^approximate: places have the codes of their neighbours · trustworthiness 0.97$")
    assert page.inner_text("#plane option:checked") == "Neighbourhoods" and "distances" in page.inner_text("#titles")
    until(page, lambda: server.asked[-1]["op"] != "plane" and "plane=pacmap" in page.url)
    box, view = page.locator("#over").bounding_box(), page.evaluate("() => document.querySelector('.ring').style.translate")
    xy = server.codes[:, 2:4]
    middle, scale = in_view(xy, box["width"], box["height"])
    ring = [float(at.removesuffix("px")) for at in view.split()]
    there = (code[2:4] - middle) * [scale, -scale] + [box["width"] / 2, box["height"] / 2]
    assert np.abs(np.array(ring) - there).max() < 2, "the ring lies where the model says that the code does"
    reloaded = opened(page.url)
    assert reloaded.input_value("#plane") == "pacmap" and "trustworthiness 0.97" in reloaded.inner_text("#trust")


@pytest.mark.parametrize("server", [{"ready": True}], indirect=True)
def test_between_neighbours_it_is_approximate_and_far_from_all_there_is_nothing(opened, server):  # noqa: F811
    page = opened("http://localhost:1/#plane=pacmap")
    box = page.locator("#over").bounding_box()
    xy = server.codes[:, 2:4]
    middle, scale = in_view(xy, box["width"], box["height"])
    away = np.linalg.norm((grid := np.random.default_rng(1).uniform(-2, 2, (400, 2)))[:, None] - xy, axis=2).min(1)
    gap = (grid[away.argmax()] - middle) * [scale, -scale] + [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    page.mouse.move(*gap)
    wait_for_text(page, "#cardtext", "^approximate: between neighbours$")
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    wait_for_text(page, "#cardtext", "^nothing is near$")
    assert not page.locator("#cardimage").is_visible()
    before = page.inner_text("#title")
    page.mouse.click(box["x"] + 3, box["y"] + 3)
    wait_for_text(page, "#said", "^No image is near this place")
    assert page.inner_text("#title") == before
    page.mouse.click(*gap)
    wait_for_text(page, "#title", "^a place between neighbours$")


@pytest.mark.parametrize("server", [{"missing": 'pip install "reparam[map]"'}], indirect=True)
def test_a_package_that_is_missing_is_named_where_maps_are_chosen_and_two_latents_differ(opened, server):  # noqa: F811
    page = opened()
    option = page.locator("#plane option[value=pacmap]")
    assert option.is_disabled() and option.inner_text() == 'Neighbourhoods: pip install "reparam[map]"'
    page.select_option("#plane", "two latents")
    wait_for_text(page, "#titles", "^latent 0 → · latent 1 ↑$")
    page.select_option("#right", "1")
    wait_for_text(page, "#titles", "^latent 1 → · latent 0 ↑$")
    page.select_option("#up", "5")
    wait_for_text(page, "#titles", "^latent 1 → · latent 5 ↑$")
    page.select_option("#up", "1")
    wait_for_text(page, "#titles", "^latent 5 → · latent 1 ↑$")


@pytest.mark.parametrize("server", [{"n": MANY}], indirect=True)
def test_very_many_images_are_shaded_by_density_in_their_colours(opened, server):  # noqa: F811
    page = opened()
    wait_for_text(page, "#about", "400,000 images")
    page.wait_for_function("document.getElementById('points').width > 300")  # painted
    seen = np.asarray(Image.open(io.BytesIO(page.locator("#over").screenshot())).convert("RGB")).astype(int)
    xy, (h, w, _) = server.codes[:, :2], seen.shape
    middle, scale = in_view(xy, w, h)

    def around(x, y):
        column, row = int(w / 2 + (x - middle[0]) * scale), int(h / 2 - (y - middle[1]) * scale)
        return seen[row - 6 : row + 7, column - 6 : column + 7].reshape(-1, 3).mean(0)

    left, right, far = around(-0.8, 0), around(0.8, 0), around(-2.9, 0)
    assert left[2] > left[0] + 40 and right[0] > right[2] + 40, "classes keep their colours, blue and red"
    assert far.mean() > left.mean() + 30, "few points are paler than many"
    lasso(page, server, 0.5, 6, -6, 6)
    count = int(page.inner_text("#groups .count").split()[0].replace(",", ""))
    assert abs(count - (server.codes[:, 0] > 0.5).sum()) < 0.01 * MANY
    page.select_option("#colour", "density")
    wait_for_text(page, "#legend", "few\\s*many")
