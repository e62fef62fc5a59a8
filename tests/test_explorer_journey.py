"""A person's whole way through the explorer, on trained models behind its real server: by mouse, and by keyboard alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from pages import faults, pixels, rests, shows, until
from PIL import Image

import reparam
from reparam.explorer.questions import Question
from reparam.explorer.session import Session

SOURCE = Path(reparam.__file__).parents[1]
CLEAR = 14
"""Pixels from every point beyond which a place of the map counts as empty."""
FRACTIONS = np.arange(0.3, 0.7, 0.01)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of a moment on the digits."""
    from reparam.runs import train as run

    return [str(run.train("digits", out=tmp_path_factory.mktemp("runs") / name, steps=60, threads=1, precision="float32",
                          encoder="mlp((64,))", decoder="mlp((64,))", latent=f"flat({d})", fitted_prior="none").folder)
            for name, d in (("four", 4), ("eight", 8))]


@pytest.fixture(scope="module")
def link(runs):
    """What the command prints, while it runs."""
    command = [sys.executable, "-m", "reparam", "explore", *runs, "--no-open", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}) as server:
        yield next(line.split()[1] for line in server.stdout if line.startswith("Open "))
        server.terminate()


@pytest.fixture(scope="module")
def session(runs, link):
    """The same runs in hand."""
    return Session.open(runs, device="cpu")


@pytest.fixture
def page(browser, link):
    """The printed link, opened. In the end nothing may have complained, and no other server been asked."""
    server, problems, asked = link.split("?")[0], [], []
    page = browser.new_page(viewport={"width": 1300, "height": 850}, reduced_motion="reduce", accept_downloads=True)
    page.on("request", lambda r: asked.append(r.url))
    page.on("websocket", lambda s: asked.append(s.url.replace("ws://", "http://")))
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.set_default_timeout(60_000)
    page.goto(link)
    page.wait_for_selector("body.ready")
    yield page
    page.close()
    elsewhere = [url for url in asked if not url.startswith((server, "blob:", "data:"))]
    assert problems == [] and elsewhere == [] and f"{server}ws" in asked
    assert all("token" not in url for url in asked[1:])


class Seen:
    """What a page shows, beside what the models say of it."""

    def __init__(self, page, session):
        self.page, self.session = page, session
        self.xy = session.answer(Question({"op": "plane", "plane": "pca"})).arrays["xy"]

    def state(self):
        """What the address says, once it has come to rest."""
        rests(self.page)
        return dict(part.split("=") for part in self.page.url.split("#")[1].split("&"))

    def screen(self, xy):
        """Where places of the map (n, 2) lie on the screen, once the map has been moved or zoomed."""
        x, y, across = map(float, self.state()["view"].split(","))
        box = self.page.locator("#over").bounding_box()
        scale = box["width"] / across
        return np.stack([box["x"] + box["width"] / 2 + (xy[:, 0] - x) * scale,
                         box["y"] + box["height"] / 2 - (xy[:, 1] - y) * scale], 1)

    def place(self, at):
        """The place of the map under a place of the screen."""
        origin, right, down = (self.screen(np.array([each]))[0] for each in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
        return ((np.asarray(at) - origin) / [right[0] - origin[0], down[1] - origin[1]]).tolist()

    def made_at(self, place):
        """What the first model makes at a place of the plane: its code and image."""
        found = self.session.answer(Question({"op": "at", "plane": "pca", "x": place[0], "y": place[1]})).arrays
        return found["code"][0], found["image"][0]

    def decoded(self, code, run=0):
        return self.session.runs[run].decoded(code)[0]

    def sliders(self):
        """Values of the four latents' sliders, in the latents' order."""
        values = self.page.eval_on_selector_all("#sliders .range", "all => all.map(r => Number(r.value))")
        axes = sorted(self.session.runs[0].model.config.axes, key=lambda axis: -axis.nats)
        code = np.zeros(4)
        for axis, value in zip(axes, values, strict=True):
            code[axis.index] = value
        return code

    def shows_the_sliders_code(self):
        """The large image is that of the code on the sliders, and of nothing else."""
        shows(self.page, "#image", self.decoded(self.sliders()))

    def count(self):
        """Images in the last lasso, of the list and of its outline."""
        text = self.page.locator("#groups .count").last.inner_text()
        corners = [tuple(map(float, corner.split("_"))) for corner in self.state()["lasso"].split("|")[-1].split(",")]
        return int(re.sub(r"\D", "", text)), int(Outline(corners).contains_points(self.xy).sum())

    def is_a_film(self, saved):
        """A GIF that goes through the path's frames there and back, from what is on the workbench."""
        n, expected = int(self.page.input_value("#frames")), self.decoded(self.sliders())[..., 0]
        with Image.open(saved.value.path()) as film:
            assert (film.format, film.n_frames) == ("GIF", 2 * n - 2)
            first = np.asarray(film.convert("L"), int)
        side, edge = first.shape[0] // 8, first.shape[0] % 8 // 2
        assert np.abs(first[edge + side // 2 :: side, edge + side // 2 :: side] - expected).max() <= 1

    def both_rebuild(self, image):
        """Both runs' reconstruction of an image (h, w, c)."""
        until(self.page, lambda: self.page.locator("#bothimages canvas").count() == 6)
        for run, canvas in ((0, 1), (1, 4)):
            model = self.session.runs[run]
            shows(self.page, f"#bothimages canvas >> nth={canvas}", model.decoded(model.encoded(image[None]))[0])

    def is_the_same_after_reload(self):
        """The link shows the same again."""
        before, state, sliders = pixels(self.page, "#image"), self.state(), self.sliders()
        chosen = [self.page.input_value(f"#{name}") for name in ("plane", "colour", "frames")]
        self.page.reload()
        self.page.wait_for_selector("body.ready")
        shows(self.page, "#image", before, within=0)
        assert self.state() == state and np.abs(self.sliders() - sliders).max() < 1e-4
        assert chosen == [self.page.input_value(f"#{name}") for name in ("plane", "colour", "frames")]


@pytest.fixture
def seen(page, session):
    return Seen(page, session)


@pytest.fixture
def photo(tmp_path):
    """A picture of a disc, larger than the model's images."""
    y, x = np.mgrid[:40, :40]
    path = tmp_path / "disc.png"
    Image.fromarray((255 * (np.hypot(x - 19.5, y - 19.5) < 14)).astype(np.uint8)).save(path)
    return path


DROP = """bytes => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], 'disc.png', {type: 'image/png'}));
    document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); }"""
BURST = """async slider => {
    const low = Number(slider.min), high = Number(slider.max);
    for (let k = 0; k < 200; k++) {
        slider.value = low + (high - low) * (0.5 + 0.4 * Math.sin(k / 20));
        slider.dispatchEvent(new Event('input', {bubbles: true}));
        if (k % 5 === 0) await new Promise(requestAnimationFrame);
    } }"""
"""200 events of a slider, faster than they are answered."""


def as_seen(session, path):
    """A picture as the model sees it, (h, w, c)."""
    return session.answer(Question({"op": "encode"}, path.read_bytes())).arrays["image"][0]


def test_by_mouse(page, seen, session, photo):
    page.select_option("#plane", "pca")
    page.click("#in")
    page.click("#out")
    box = page.locator("#over").bounding_box()
    # over an image, and where there is none
    on_screen = seen.screen(seen.xy)
    lone = int(np.argmax(np.sort(np.linalg.norm(on_screen[:, None] - on_screen, axis=2), 1)[:, 1]))
    page.mouse.move(*on_screen[lone].tolist())
    shows(page, "#cardimage", session.points.pixels(np.array([lone]))[0], within=0)
    across, down = box["x"] + box["width"] * FRACTIONS, box["y"] + box["height"] * FRACTIONS
    grid = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
    gaps = grid[np.linalg.norm(grid[:, None] - on_screen, axis=2).min(1) > CLEAR]
    gap = gaps[np.argmin(np.linalg.norm(gaps - on_screen.mean(0), axis=1))]
    gap = seen.place(gap.round())
    code, image = seen.made_at(gap)
    page.mouse.move(*seen.screen(np.array([gap]))[0].tolist())
    shows(page, "#cardimage", image)
    # a lasso of a good part of them
    page.click("#lasso")
    turn = np.linspace(0, 2 * np.pi, 40)
    ring = on_screen.mean(0) + 0.36 * box["height"] * np.stack([np.cos(turn), np.sin(turn)], 1)
    page.mouse.move(*ring[0].tolist())
    page.mouse.down()
    for corner in ring[1:]:
        page.mouse.move(*corner.tolist())
    page.mouse.up()
    listed, inside = seen.count()
    assert listed >= 500 and abs(listed - inside) <= 0.01 * inside
    # what the model makes there goes to the workbench; a slider is dragged
    page.mouse.click(*seen.screen(np.array([gap]))[0].tolist())
    until(page, lambda: np.abs(seen.sliders() - code).max() < 0.01)
    seen.shows_the_sliders_code()
    slider = page.locator("#sliders .range").first
    slider.scroll_into_view_if_needed()
    track = slider.bounding_box()
    before, middle = seen.sliders(), track["y"] + track["height"] / 2
    page.mouse.move(track["x"] + track["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(track["x"] + 0.7 * track["width"], middle, steps=20)
    page.mouse.up()
    assert np.abs(seen.sliders() - before).max() > 0.05
    seen.shows_the_sliders_code()
    slider.evaluate(BURST)
    seen.shows_the_sliders_code()
    # one's own picture, and an edit of it
    page.evaluate(DROP, list(photo.read_bytes()))
    page.wait_for_selector("#originals:not([hidden]) canvas")
    picture = as_seen(session, photo)
    shows(page, "#originals canvas >> nth=0", picture, within=0)
    assert "disc" not in page.url
    encoded = session.runs[0].encoded(picture[None])[0]
    until(page, lambda: np.abs(seen.sliders() - encoded).max() < 1e-3)
    slider.click(position={"x": 0.8 * track["width"], "y": track["height"] / 2})
    assert np.abs(seen.sliders() - encoded).max() > 0.2
    seen.shows_the_sliders_code()
    # from there to an image and back, as a film
    page.click("#tab-path")
    page.click("#addstop")
    at_lone = seen.screen(seen.xy[[lone]])[0].tolist()
    page.mouse.click(*at_lone)
    page.wait_for_selector("#film:not([hidden])")
    with page.expect_download() as saved:
        page.click("#savegif")
    seen.is_a_film(saved)
    # both runs
    page.click("#tab-both")
    seen.both_rebuild(picture)
    page.mouse.click(*at_lone)
    seen.both_rebuild(session.points.pixels(np.array([lone]))[0])
    seen.is_the_same_after_reload()


class Keys:
    """A keyboard, and nothing else."""

    def __init__(self, page):
        self.page = page

    def to(self, selector, most=80):
        """Goes there by the tab key, and sees where it is."""
        for _ in range(most):
            if self.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                assert self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'"), selector
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{selector} is not reached by {most} presses of the tab key")

    def press(self, key, times=1):
        for _ in range(times):
            self.page.keyboard.press(key)

    def use(self, selector, key="Enter"):
        self.to(selector)
        self.press(key)


def test_by_keyboard_alone(page, seen, session, photo):
    keys, choosers = Keys(page), []
    page.on("filechooser", lambda chooser: choosers.append(chooser))  # playwright marks what it is given
    keys.use("#in")
    keys.use("#over", "-")
    keys.press("+")  # so that the address says where the map stands
    box = page.locator("#over").bounding_box()
    middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    on_screen = seen.screen(seen.xy)
    # by arrows to a place where no image is, and to one that has some
    steps = np.stack(np.meshgrid(np.arange(-12, 13), np.arange(-12, 13)), -1).reshape(-1, 2)
    clear = np.linalg.norm((middle + 12 * steps)[:, None] - on_screen, axis=2).min(1)
    gap = min(steps[clear > CLEAR].tolist(), key=lambda step: abs(step[0]) + abs(step[1]))
    keys.press("ArrowRight" if gap[0] > 0 else "ArrowLeft", abs(gap[0]))
    keys.press("ArrowDown" if gap[1] > 0 else "ArrowUp", abs(gap[1]))
    code, image = seen.made_at(seen.place(middle + 12 * np.array(gap)))
    shows(page, "#cardimage", image)
    keys.press("Enter")
    until(page, lambda: np.abs(seen.sliders() - code).max() < 0.01)
    seen.shows_the_sliders_code()
    # a lasso around most
    keys.press("l")
    across, down = int(0.38 * box["width"] / 60), int(0.38 * box["height"] / 60)
    for arrows in ((("ArrowLeft", across), ("ArrowUp", down)), (("ArrowRight", 2 * across),), (("ArrowDown", 2 * down),),
                   (("ArrowLeft", 2 * across),)):
        for arrow, times in arrows:
            keys.press(f"Shift+{arrow}", times)
        keys.press(" ")
    keys.press("Enter")
    listed, inside = seen.count()
    assert listed >= 500 and abs(listed - inside) <= 0.01 * inside
    # a slider by 200 presses
    keys.to("#sliders .range")
    before = seen.sliders()
    keys.press("ArrowRight", 120)
    keys.press("ArrowLeft", 80)
    value = seen.sliders()[np.argmax(np.abs(seen.sliders() - before))]
    assert f"{round(value, 2):g}, " in page.evaluate("document.activeElement.getAttribute('aria-valuetext')")
    seen.shows_the_sliders_code()
    # one's own picture, and an edit of it
    keys.use("#photo")
    until(page, lambda: choosers)
    choosers[0].set_files(photo)
    page.wait_for_selector("#originals:not([hidden]) canvas")
    picture = as_seen(session, photo)
    encoded = session.runs[0].encoded(picture[None])[0]
    until(page, lambda: np.abs(seen.sliders() - encoded).max() < 1e-3)
    keys.to("#sliders .value")
    keys.press("Control+a")
    low, high = (float(page.locator("#sliders .range").first.get_attribute(end)) for end in ("min", "max"))
    page.keyboard.type(f"{0.3 * low + 0.7 * high:.2f}")
    keys.press("Enter")
    assert np.abs(seen.sliders() - round(0.3 * low + 0.7 * high, 2)).min() < 1e-6
    seen.shows_the_sliders_code()
    # a path from there to another place, as a film
    keys.use("[role=tab][aria-selected=true]", "ArrowRight")
    keys.use("#addstop")
    keys.to("#over")
    keys.press("ArrowUp", 5)
    keys.press("Enter")
    page.wait_for_selector("#film:not([hidden])")
    keys.to("#savegif")
    with page.expect_download() as saved:
        keys.press("Enter")
    seen.is_a_film(saved)
    # a stop that is taken away leaves the focus at the next
    keys.use("#addstop")
    until(page, lambda: page.locator("#stops li").count() == 3)
    keys.use("#stops button")
    until(page, lambda: page.locator("#stops li").count() == 2)
    assert page.evaluate("document.activeElement.matches('#stops li:first-child button')")
    # both runs
    keys.to("[role=tab][aria-selected=true]")
    keys.press("ArrowRight", 2)
    assert page.get_attribute("#tab-both", "aria-selected") == "true"
    seen.both_rebuild(picture)
    seen.is_the_same_after_reload()


def test_axe_finds_nothing_that_keeps_people_out(page):
    page.click("#tab-path")
    page.click("#addstop")
    page.click("#over")
    page.click("#table summary")
    page.wait_for_selector("#film:not([hidden])")
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for tab in page.locator("[role=tab]:visible").all():
            tab.click()
            page.wait_for_timeout(300)
            found[scheme, tab.inner_text()] = faults(page)
        for button, dialog in (("#copyas", "#copybox"), ("#helping", "#help")):
            page.click(button)
            found[scheme, dialog] = faults(page)
            page.click(f"{dialog} .close")
    assert {where: broken for where, broken in found.items() if broken} == {} and len(found) >= 12
