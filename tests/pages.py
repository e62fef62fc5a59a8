"""How tests look at pages in a browser: what canvases show, what axe finds, what was asked for elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
"""axe-core, which knows the rules by which people with a screen reader, a keyboard or weak eyes can use a page."""


def until(page, holds):
    """Waits for what must come true, however busy the machine is."""
    for _ in range(600):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("this did not come true in half a minute")


def rests(page):
    """Waits until the page's address says what the view is: by the page's own clock, which waits
    for what is due before on a busy machine too."""
    page.evaluate("new Promise((done) => setTimeout(done, 250))")


def pixels(page, selector):
    """What a canvas shows, (h, w, 3): none, (0, 0, 3), while the page has no such canvas."""
    canvas = page.query_selector(selector)
    data = [0, 0] if canvas is None else canvas.evaluate("""c => {
        const g = new OffscreenCanvas(c.width, c.height).getContext('2d', {willReadFrequently: true});
        g.drawImage(c, 0, 0);
        return [c.height, c.width, ...g.getImageData(0, 0, c.width, c.height).data] }""")
    return np.array(data[2:], np.uint8).reshape(data[0], data[1], 4)[..., :3]


def shows(page, selector, image, within=1):
    """Waits until a canvas shows an image (h, w, c), to so many levels."""
    until(page, lambda: (now := pixels(page, selector)).shape[:2] == image.shape[:2]
          and np.abs(now.astype(int) - image).max() <= within)


FAULTS = """async () => (await axe.run()).violations.map((rule) => `${rule.impact} ${rule.id}: `
    + rule.nodes.map((node) => `${node.target.join(' ')} ${node.any[0]?.message ?? ''}`).join('; '))"""


def faults(page):
    """What axe finds wrong: for each broken rule its gravity, its name and the elements."""
    page.evaluate(f"window.axe || (() => {{ {AXE.read_text(encoding='utf-8')} }})()")
    return page.evaluate(FAULTS)
