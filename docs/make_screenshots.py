"""Pictures of every view of the explorer, at three widths, light and dark: `python docs/make_screenshots.py RUN RUN2`.

Writes one sheet for each view into docs/explorer/. Takes the packages of `reparam[explore]`, playwright, and chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent / "explorer"
WIDTHS, HEIGHT, SCHEMES = (1440, 900, 390), 900, ("light", "dark")
SCALE, GAP = 0.7, 14
"""Of the sheets."""
MOST_BYTES = 150_000


def map_of(page: Page) -> None:
    """What the model makes between the images, beside two lassos."""
    box = page.locator("#over").bounding_box()
    for x0, x1 in ((0.3, 0.42), (0.58, 0.72)):
        page.click("#lasso")
        corners = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in
                   ((x0, 0.42), ((x0 + x1) / 2, 0.38), (x1, 0.46), (x1, 0.58), ((x0 + x1) / 2, 0.64), (x0, 0.57))]
        page.mouse.move(*corners[0])
        page.mouse.down()
        for corner in corners[1:]:
            page.mouse.move(*corner, steps=4)
        page.mouse.up()
        box = page.locator("#over").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.3 * box["height"])
    page.wait_for_selector("#card:not([hidden])")
    page.wait_for_timeout(800)


def workbench(page: Page) -> None:
    """An image with its sliders, one of them moved."""
    page.click("#tab-work")
    pick(page, 0.55, 0.5)
    slider = page.locator("#sliders .range").nth(1)
    slider.evaluate("s => { s.value = 0.75 * s.max + 0.25 * s.min; s.dispatchEvent(new Event('input', {bubbles: true})) }")


def paths(page: Page) -> None:
    """A film from one image to another."""
    page.click("#tab-path")
    page.click("#addstop")
    pick(page, 0.35, 0.45)
    page.wait_for_selector("#film:not([hidden])")
    page.locator("#scrub").evaluate("s => { s.value = 9; s.dispatchEvent(new Event('input')) }")


def samples(page: Page) -> None:
    """Draws of each prior."""
    page.click("#tab-draw")
    page.wait_for_selector("#drawn canvas")


def compare(page: Page) -> None:
    """The same image in both runs."""
    page.click("#tab-both")
    page.wait_for_selector("#bothimages canvas")
    page.wait_for_selector("#bothsamples canvas")


def training(page: Page) -> None:
    """How the last run was trained."""
    page.click("#tab-train")
    if page.is_visible("#trained"):
        page.select_option("#trained", index=page.locator("#trained option").count() - 1)
    page.wait_for_selector("#curves canvas")


def copied(page: Page) -> None:
    """The view as a command and as Python."""
    page.click("#tab-work")
    page.click("#copyas")


VIEWS: dict[str, Callable[[Page], None]] = {"map": map_of, "workbench": workbench, "paths": paths, "samples": samples,
                                            "compare": compare, "training": training, "copy": copied}
"""In the order in which they are shown, each after the one before it."""


def pick(page: Page, x: float, y: float) -> None:
    """Clicks at a place of the map, in parts of its width and height."""
    page.locator("#over").scroll_into_view_if_needed()
    box = page.locator("#over").bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.move(2, 2)
    page.wait_for_timeout(500)


def shot(page: Page, view: str) -> Image.Image:
    """What is seen; of a page so narrow that tools stand below the map, from the tools on."""
    page.wait_for_selector("#said:not(.shown)", state="attached")
    page.wait_for_timeout(700)
    below = view not in ("map", "copy") and page.viewport_size["width"] < 700
    page.evaluate("below => scrollTo(0, below ? document.getElementById('side').offsetTop - 8 : 0)", below)
    page.wait_for_timeout(200)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def sheet(pictures: list[list[Image.Image]]) -> bytes:
    """Rows of pictures as one WebP that is small enough."""
    smaller = [[each.resize((round(SCALE * each.width), round(SCALE * each.height)), Image.Resampling.LANCZOS)
                for each in row] for row in pictures]
    width = sum(each.width for each in smaller[0]) + GAP * (len(smaller[0]) - 1)
    whole = Image.new("RGB", (width, sum(row[0].height for row in smaller) + GAP * (len(smaller) - 1)), "#8a93a0")
    y = 0
    for row in smaller:
        x = 0
        for each in row:
            whole.paste(each, (x, y))
            x += each.width + GAP
        y += row[0].height + GAP
    for quality in range(90, 20, -5):
        file = io.BytesIO()
        whole.save(file, "WEBP", quality=quality, method=6)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()


@contextmanager
def served(runs: list[str], most: int) -> Iterator[str]:
    """The link of a server."""
    command = [sys.executable, "-m", "reparam", "explore", *runs, "--no-open", "--most", str(most)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield next(line.split()[1] for line in server.stdout or () if line.startswith("Open "))
        finally:
            server.terminate()


def taken(runs: list[str], most: int, views: list[str]) -> dict[str, list[list[Image.Image]]]:
    """For each view a row of pictures, one for each width, in each scheme of colours."""
    pictures: dict[str, list[list[Image.Image]]] = {view: [[] for _ in SCHEMES] for view in views}
    with served(runs, most) as link, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for row, scheme in enumerate(SCHEMES):
            for width in WIDTHS:
                page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme, reduced_motion="reduce")
                page.set_default_timeout(120_000)
                page.goto(link)
                page.wait_for_selector("body.ready")
                for view in views:
                    VIEWS[view](page)
                    pictures[view][row].append(shot(page, view))
                page.close()
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--most", type=int, default=5000, help="images on the map")
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=list(VIEWS), help="only these")
    given = parser.parse_args()
    views = [view for view in VIEWS if view in given.views and (view != "compare" or len(given.runs) > 1)]
    FOLDER.mkdir(exist_ok=True)
    for view, rows in taken(given.runs, given.most, views).items():
        (FOLDER / f"{view}.webp").write_bytes(sheet(rows))
        print(f"{FOLDER / view}.webp")


if __name__ == "__main__":
    main()
