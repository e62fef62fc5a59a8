"""The explorer's page in a browser, against a stand-in for the server with a linear model."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from pages import rests, shows, until

import reparam

WEB = Path(reparam.__file__).parent / "explorer" / "web"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
          "frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
N, D, SIDE = 300, 6, 8
HOME = "http://localhost:1/"
WAYS = [{"prior": "mixture", "title": "mixture, fitted", "resample": False, "labels": True, "guides": True},
        {"prior": "normal", "title": "normal, the model's own", "resample": False, "labels": False, "guides": False}]


@dataclass
class Server:
    """A linear model whose images tell their code, and the codes of 300 images."""

    asked: list[dict] = field(default_factory=list)
    names: tuple[str, ...] = ("fish",)
    temperature: float = 1

    def __post_init__(self):
        draws = np.random.default_rng(0)
        self.codes = draws.normal(0, 1, (N, D)).astype(np.float32)
        self.labels = (self.codes[:, 0] > 0).astype(np.float32)
        self.weight = draws.normal(0, 24, (D, SIDE * SIDE * 3))

    def decode(self, codes):
        z = np.asarray(codes, np.float32).reshape(-1, D)
        return np.clip(128 + z @ self.weight, 0, 255).astype(np.uint8).reshape(-1, SIDE, SIDE, 3)

    def hello(self, _):
        axes = [{"index": i, "nats": D - i, "mean": 0, "std": 1, "low": -3, "high": 3, "name": "hue" if i == 2 else ""}
                for i in range(D)]
        run = {"name": "fish", "image": [SIDE, SIDE, 3], "latent": [D], "axes": axes, "ways": WAYS,
               "folder": "runs/fish", "plain": True, "temperature": self.temperature,
               "directions": [{"name": "smiling", "accuracy": 0.9}], "classes": ["round", "long"], "has_encoder": True,
               "refines": False}
        runs = [run | {"name": name} for name in self.names]
        columns = [{"name": "label", "kind": "class", "values": ["round", "long"]}, {"name": "size", "kind": "number"}]
        return {"runs": runs, "points": {"n": N, "columns": columns}, "training": False, "films": True,
                "planes": [{"name": "pca", "title": "principal components", "exact": True}]}, {}

    def axes(self, plane):
        return [0, 1] if plane == "pca" else [int(i) for i in plane.removeprefix("latents:").split(",")]

    def plane(self, q):
        i, j = self.axes(q["plane"])
        fields = {"titles": [f"latent {i}", f"latent {j}"], "exact": True, "trustworthiness": 0.9}
        return fields, {"xy": self.codes[:, [i, j]]}

    def column(self, q):
        return {}, {"values": self.labels if q["name"] == "label" else self.codes[:, 5]}

    def thumbs(self, q):
        return {"names": [f"{row}.png" for row in q["rows"]]}, {"images": self.decode(self.codes[q["rows"]])}

    def at(self, q):
        code = np.zeros((1, D), np.float32)
        code[0, self.axes(q["plane"])] = q["x"], q["y"]
        return {}, {"code": code, "image": self.decode(code)}

    def of_row(self, q):
        code = self.codes[[q["row"]]]
        image = self.decode(code)
        return {"name": f"{q['row']}.png", "label": "round"}, {"code": code, "image": image, "reconstruction": image}

    def answer(self, q, file):
        match q["op"]:
            case "decode":
                return {}, {"images": self.decode(q["codes"] if "codes" in q else self.codes[q["rows"]])}
            case "counterpart":
                codes = -np.asarray(q["codes"], np.float32)
                return {"explained": 0.8}, {"codes": codes, "images": self.decode(codes)}
            case "variations":
                codes = np.asarray(q["code"]) + q["variation"] * np.random.default_rng(q["seed"]).normal(0, 1, (q["n"], D))
                return {}, {"images": self.decode(codes), "codes": codes.astype(np.float32)}
            case "direction":
                if "name" in q:
                    return {"accuracy": 0.9}, {"vector": np.eye(D, dtype=np.float32)[[3]]}
                ends = [self.codes[q[side]].mean(0) for side in "ab"]
                return {"accuracy": 0.8}, {"vector": (ends[1] - ends[0])[None]}
            case "mean":
                code = self.codes[q["rows"]].mean(0)[None]
                return {}, {"code": code, "image": self.decode(code)}
            case "neighbours":
                far = np.linalg.norm(self.codes - np.asarray(q["code"], np.float32), axis=1)
                rows = np.argsort(far)[: q["n"]]
                return {}, {"rows": rows.astype(np.int32), "distances": far[rows].astype(np.float32)}
            case "sample":
                codes = np.random.default_rng(q["seed"]).normal(0, q.get("temperature", 1), (q["n"], D)).astype(np.float32)
                return {}, {"images": self.decode(codes), "codes": codes}
            case "save":
                return {"name": f"fish.{q['kind']}", "type": "image/gif"}, {"file": np.frombuffer(b"GIF89a saved", np.uint8)}
        return getattr(self, q["op"])(q)

    def reply(self, message):
        """A message's answer, as the protocol writes it."""
        file = b""
        if isinstance(message, bytes):
            end = 4 + struct.unpack("<I", message[:4])[0]
            message, file = message[4:end], message[end:]
        question = json.loads(message)
        self.asked.append(question)
        fields, arrays = self.answer(question, file)
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        fields |= {"id": question["id"], "arrays": [{"name": name, "dtype": str(a.dtype), "shape": a.shape}
                                                    for name, a in arrays.items()]}
        header = json.dumps(fields).encode()
        header += b" " * (-(4 + len(header)) % 4)
        parts = [struct.pack("<I", len(header)), header]
        for array in arrays.values():
            parts += [array.tobytes(), b"\0" * (-array.nbytes % 4)]
        return b"".join(parts)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def opened(browser, server):
    """Opens the page; afterwards nothing may have complained, and nothing been asked for elsewhere."""
    pages, problems, elsewhere = [], [], []

    def file(route):
        asked = route.request.url.removeprefix(HOME).split("#")[0].split("?")[0] or "index.html"
        path = (WEB.parents[1] if asked.startswith("web/") else WEB) / asked
        route.fulfill(path=path, content_type=TYPES[path.suffix], headers={"content-security-policy": POLICY})

    def open_at(address=HOME, **options):
        page = browser.new_page(viewport={"width": 1200, "height": 800}, reduced_motion="reduce", **options)
        page.route("**/*", lambda route: file(route) if route.request.url.startswith(HOME) else route.abort())
        page.route_web_socket("ws://localhost:1/ws", lambda ws: ws.on_message(lambda m: ws.send(server.reply(m))))
        page.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((HOME, "blob:")) else None)
        page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.set_default_timeout(60_000)
        page.goto(address)
        page.wait_for_selector("body.ready")
        pages.append(page)
        return page

    yield open_at
    for page in pages:
        page.close()
    assert not problems and not elsewhere


def wait_for_text(page, selector, pattern):
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(re.compile(pattern), timeout=30_000)


def place(page, server, x, y):
    """Where a point of the plane lies on the screen, while the whole map is in view."""
    box = page.locator("#over").bounding_box()
    xy = server.codes[:, server.axes(address(page)["plane"])]
    middle, extent = (xy.min(0) + xy.max(0)) / 2, np.ptp(xy, axis=0)
    scale = 0.92 * min(box["width"] / extent[0], box["height"] / extent[1])
    return (float(box["x"] + box["width"] / 2 + (x - middle[0]) * scale),
            float(box["y"] + box["height"] / 2 - (y - middle[1]) * scale))


def address(page):
    """What the page's address says, once it has come to rest."""
    rests(page)
    return dict(part.split("=") for part in page.url.split("#")[1].split("&"))


def lasso(page, server, x0, x1, y0, y1):
    page.click("#lasso")
    box = page.locator("#over").bounding_box()
    low, high = np.array([box["x"], box["y"]]) + 2, np.array([box["x"] + box["width"], box["y"] + box["height"]]) - 2
    corners = [np.clip(place(page, server, x, y), low, high).tolist() for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner)
    page.mouse.up()


def test_what_is_typed_reset_and_locked(opened, server):
    page = opened()
    box = page.locator("#sliders .value[aria-label='hue, value']")
    box.fill("1.5")
    box.press("Enter")
    page.locator("#sliders .lock[aria-label='Lock hue']").click()
    page.evaluate("document.getElementById('over').focus()")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_for_text(page, "#title", "^(?!0.png)")
    assert float(box.input_value()) == 1.5  # the lock holds for another image
    other = page.locator("#sliders .range[aria-label='latent 1']")
    other.focus()
    was = float(other.input_value())
    page.keyboard.press("ArrowRight")
    assert 0.05 < float(other.input_value()) - was < 0.2
    page.click("#reset")
    assert abs(float(other.input_value()) - was) < 1e-3 and float(box.input_value()) == 1.5


def test_lassos_have_means_files_and_a_direction_between_them(opened, server):
    page = opened()
    lasso(page, server, -4, -0.5, -4, 4)
    lasso(page, server, 0.5, 4, -4, 4)
    inside = [np.flatnonzero(server.codes[:, 0] < -0.5), np.flatnonzero(server.codes[:, 0] > 0.5)]
    counts = page.locator("#groups .count").all_inner_texts()
    assert all(abs(int(text.split()[0]) - len(rows)) <= 4 for text, rows in zip(counts, inside, strict=True))
    page.click("#turn")
    page.wait_for_selector("#directions [aria-label='A → B']")
    slider = page.locator("#directions .range[aria-label='A → B']")
    slider.evaluate("s => { s.value = 1; s.dispatchEvent(new Event('input')) }")
    vector = server.codes[inside[1]].mean(0) - server.codes[inside[0]].mean(0)
    shows(page, "#image", server.decode(server.codes[0] + vector)[0], within=12)
    page.click("#groups li:first-child >> text=Average")
    wait_for_text(page, "#title", "^average of lasso A$")
    with page.expect_download() as saved:
        page.click("#groups li:first-child >> text=Files")
    assert saved.value.suggested_filename == "fish.csv"


def test_a_link_shows_the_same(opened, server):
    page = opened()
    page.select_option("#plane", "two latents")
    page.select_option("#right", "3")
    page.click("#legend button >> nth=1")
    lasso(page, server, 0.3, 4, -4, 4)
    page.locator("#sliders .range[aria-label=hue]").evaluate("s => { s.value = 2; s.dispatchEvent(new Event('input')) }")
    page.locator("#directions .range").first.evaluate("s => { s.value = -1; s.dispatchEvent(new Event('input')) }")
    code = server.codes[0] - np.eye(D)[3]
    code[2] = 2
    shows(page, "#image", server.decode(code)[0])
    until(page, lambda: {"set", "add", "lasso", "hide"} <= set(address(page)))
    points = "document.getElementById('points').toDataURL()"
    link, drawn = address(page), page.evaluate(points)
    again = opened(page.url)
    shows(again, "#image", server.decode(code)[0])
    until(again, lambda: again.evaluate(points) == drawn)
    assert address(again) == link and link["plane"] == "latents:3,1" and link["hide"] == "1"
    assert link["set"].startswith("2:") and link["add"] == "smiling:-1"


def test_samples_are_drawn_and_opened(opened, server):
    page = opened()
    page.click("#tab-draw")
    page.wait_for_selector("#drawn .tile")
    asked = [q for q in server.asked if q["op"] == "sample"][-1]
    page.click("#drawn .tile:nth-child(3) .thumb")
    shows(page, "#image", server.decode(server.answer(asked, b"")[1]["codes"][2])[0])
    page.click("#copyas")
    assert 'reparam.load("runs/fish")' in page.inner_text("#aspython")
    assert page.inner_text("#ascommand").startswith("reparam decode runs/fish --code=")
    page.keyboard.press("Escape")


def test_samples_begin_at_the_temperature_that_training_chose(opened, server):
    assert not opened().locator("#chosen").is_visible()
    server.temperature = 0.8
    page = opened()
    page.click("#tab-draw")
    page.wait_for_selector("#drawn .tile")
    assert {q["temperature"] for q in server.asked if q["op"] == "sample"} == {0.8}
    assert "Training chose 0.8" in page.inner_text("#drawing") and page.inner_text("#temperatureis") == "0.80"
    page.locator("#temperature").fill("1")
    page.locator("#temperature").dispatch_event("change")
    until(page, lambda: server.asked[-1]["temperature"] == 1)
    page.click("#copyas")
    page.select_option("#copyof", "Samples")
    assert "--temperature 1" in page.inner_text("#ascommand")  # without it the command draws at 0.8
    page.keyboard.press("Escape")


def test_two_runs_stand_side_by_side_and_one_alone_does_not(opened, server):
    assert not opened().locator("#tab-both").is_visible()
    server.names = ("fish", "birds")
    page = opened()
    page.click("#tab-both")
    until(page, lambda: page.locator("#bothsamples canvas").count() == 32)
    until(page, lambda: page.locator("#bothimages h2").all_inner_texts() == ["fish", "birds"])
    asked = [(q["op"], q["run"], q.get("row", q.get("seed"))) for q in server.asked if q["op"] in ("of_row", "sample")]
    assert {("of_row", 1, 0), ("sample", 0, 0), ("sample", 1, 0)} <= set(asked)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_in_light_and_dark(opened, scheme):
    page = opened(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    until(page, lambda: page.evaluate("document.getElementById('points').width") <= 390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    corner = page.evaluate("[...document.getElementById('points').getContext('2d').getImageData(0, 0, 1, 1).data]")
    assert (np.mean(corner[:3]) < 128) == (scheme == "dark") == (sum(map(int, ground[4:-1].split(","))) < 3 * 128)
