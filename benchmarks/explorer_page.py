"""Part `page` of explorer.py: how quick the explorer's page is in a browser, and what its server bears.

The server is started as a user starts it and has the machine's cores together with the browser, which draws without a GPU; other work of the
machine waits for both while times are taken, where that is allowed. Runs are of fish
as in the bundled set: default models at 28×28 and 64×64 of 10,000 files, and an MLP of 100,000 images at 16×16. Times are taken in the page; a
canvas counts as drawn when its pixels are put into it.

    28, 64    200 events of a dragged slider, one a frame: from each to the pixels of its value, or of a later one, in the image's canvas;
              by PyTorch over the socket, and in the page that `reparam export --format html` writes
    paint     from the navigation to the points of 10,000 images; and from the command to its link, where codes are encoded and later
    map       100,000 points: frames while they are dragged, and from the end of a lasso to its images
    crowd     the slider at 64×64 alone and while 1,000 requests come at once and a reader does not read, and the memory of the server
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from in_chromium import chromium, percentiles
from PIL import Image
from playwright.sync_api import Browser, Page

import reparam
from reparam.data.options import DataOptions
from reparam.data.shapes import draw, draw_factors
from reparam.exporters.html import export_html

PAGE = "explorer.md"
CELLS = ("28", "64", "paint", "map", "crowd")
EVENTS, MANY = 200, 100_000
PRELUDE = """
    window.put = {};
    const own = CanvasRenderingContext2D.prototype.putImageData;
    CanvasRenderingContext2D.prototype.putImageData = function (image, ...rest) {
        own.call(this, image, ...rest);
        window.onPut?.(this.canvas);
        const pixels = new Uint32Array(image.data.buffer), id = this.canvas.id;
        if (!(id in window.put) && pixels.some((p) => p !== pixels[0])) window.put[id] = performance.now();
    };
    const frame = requestAnimationFrame;
    window.frames_ = [];
    window.requestAnimationFrame = (act) => frame((now) => {
        const began = performance.now();
        act(now);
        window.frames_.push([now, performance.now() - began]);
    });
"""
"""Notes when canvases are first drawn, and how long the work of each frame takes."""
DRAG = """async ([events, low, high, axis]) => {
    const slider = document.querySelector("#sliders input[type=range]"), asked = [], drawn = [];
    let code;
    window.onShown = (shown) => { code = shown; drawn.push([performance.now(), shown[axis]]); };
    for (let k = 0; k < events; k++) {
        await new Promise((done) => requestAnimationFrame(done));
        slider.value = String(low + (high - low) * (0.5 - 0.5 * Math.cos(k * 2.399963)));
        asked.push([performance.now(), +slider.value]);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
    const last = asked.at(-1)[1], until = performance.now() + 5000;
    while (!drawn.some(([, v]) => Math.abs(v - last) < 1e-4) && performance.now() < until)
        await new Promise((done) => setTimeout(done, 5));
    await new Promise((done) => setTimeout(done, 300));
    window.onShown = undefined;
    const canvas = document.getElementById("image"), g = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    g.drawImage(canvas, 0, 0);
    return [asked, drawn, Array.from(code), Array.from(g.getImageData(0, 0, canvas.width, canvas.height).data)];
}"""
"""Values that jump about, so that no two frames are alike."""


@dataclass(frozen=True)
class Server:
    """`reparam explore` as it runs."""

    process: subprocess.Popen[str]
    link: str
    seconds: float
    """From the command to its link."""

    def memory(self, what: str = "VmHWM") -> float:
        """MB of this process: VmHWM, most of all times, or VmRSS, now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+) kB", text)[1]) / 1000  # pyright: ignore


@contextlib.contextmanager
def explored(folder: Path) -> Iterator[Server]:
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "reparam", "explore", str(folder), "--no-open", "--device", "cpu"],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        link = next(found[0] for line in process.stdout for found in [re.search(r"http://\S+", line)] if found)  # pyright: ignore
        yield Server(process, link, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(20)


def run_of(name: str, given: argparse.Namespace) -> Path:
    """A trained run, from the folder of work or trained now: "28", "64" or "many"."""
    folder = given.work / name
    if folder.exists():
        return folder
    if name == "many":
        data = given.work / "many.npz"
        np.savez(data, images=draw(draw_factors(MANY), 16))
        reparam.train(data, preset="mlp", minutes=given.minutes / 3, threads=1, out=folder)
    else:
        options = DataOptions(image_size=int(name))
        reparam.train(files(given), preset="default", minutes=given.minutes, threads=1, out=folder, options=options)
    return folder


def files(given: argparse.Namespace) -> Path:
    """A folder of 10,000 pictures of fish at 64×64, as PNG."""
    folder = given.work / "files"
    if not folder.exists():
        folder.mkdir(parents=True)
        for i, image in enumerate(draw(draw_factors(10_000), 64)):
            Image.fromarray(image).save(folder / f"{i:05}.png", compress_level=1)
    return folder


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    given.work.mkdir(parents=True, exist_ok=True)
    own = {"paint": paint, "map": panned, "crowd": crowded}
    return own[cell](given) if cell in own else sliders(cell, given)


def opened(browser: Browser, address: str) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.add_init_script(PRELUDE)
    page.goto(address)
    return page


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Lets this process and its children go before all other work of the machine, where that is allowed."""

    def put(policy: int, priority: int) -> None:
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with contextlib.suppress(psutil.Error, OSError):
                for thread in process.threads():
                    os.sched_setscheduler(thread.id, policy, os.sched_param(priority))

    put(os.SCHED_RR, 1)
    try:
        yield
    finally:
        put(os.SCHED_OTHER, 0)


# the slider


def sliders(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    folder, file = run_of(cell, given), given.work / f"{cell}.html"
    export_html(reparam.load(folder, device="cpu"), file, title=cell)
    with chromium(2) as browser:
        with explored(folder) as server:
            over_socket = dragged(ready(browser, server), folder)
        page = opened(browser, file.absolute().as_uri())
        page.wait_for_selector("body[data-ready]", timeout=120_000)
        page.evaluate("""() => {
            const decode = model.decode.bind(model);
            let shown = [];
            model.decode = async (code, ...rest) => { const image = await decode(code, ...rest); shown = code.slice(); return image; };
            window.onPut = (canvas) => canvas.id === "image" && window.onShown?.(shown);
        }""")
        return {"socket": over_socket, "exported": dragged(page, folder)}


def ready(browser: Browser, server: Server) -> Page:
    """The explorer's page when all of it is there."""
    page = opened(browser, server.link)
    page.wait_for_selector("body.ready", timeout=120_000)
    page.evaluate("() => document.getElementById('image').addEventListener('shown', (e) => window.onShown?.(e.detail))")
    return page


def dragged(page: Page, folder: Path) -> dict[str, Any]:
    """A slider's times, and how far the last image is from PyTorch's of the last value, in levels of 255."""
    model = reparam.load(folder, device="cpu")
    axis = sorted(model.config.axes, key=lambda each: -each.nats)[0].index
    low, high = page.eval_on_selector("#sliders input[type=range]", "s => [+s.min, +s.max]")
    with undisturbed():
        asked, drawn, code, pixels = page.evaluate(DRAG, [EVENTS, low, high, axis])
    want = model.decode(np.array(code, np.float32)[None])[0]
    got = np.array(pixels).reshape(*want.shape[:2], 4)[..., : want.shape[2]]
    return {"ms": percentiles(delays(asked, drawn)), "images": len(drawn),
            "last_is_last": abs(code[axis] - asked[-1][1]) < 1e-4, "levels_of_last": int(np.abs(got - want.astype(int)).max())}


def delays(asked: list[list[float]], drawn: list[list[float]]) -> list[float]:
    """Milliseconds from each event to the first image of its value or of one that was asked for later."""
    values, at = np.array(asked).T[::-1]
    times = np.full(len(asked), np.inf)
    for when, value in reversed(drawn):
        times[: int(np.abs(values - value).argmin()) + 1] = when
    return (times - at).tolist()


# the map


def paint(given: argparse.Namespace) -> dict[str, Any]:
    folder = run_of("28", given)
    (folder / "explorer.safetensors").unlink(missing_ok=True)
    found: dict[str, Any] = {"images": 10_000}
    for visit in ("first", "later"):
        with chromium(2) as browser, explored(folder) as server, undisturbed():
            page = ready(browser, server)
            first = round(page.evaluate("put.points"))
            page.goto("about:blank")
            page.goto(server.link)
            page.wait_for_selector("body.ready")
            found[visit] = {"link_s": round(server.seconds, 1), "points_ms": first, "reloaded_ms": round(page.evaluate("put.points"))}
    return found


def panned(given: argparse.Namespace) -> dict[str, Any]:
    """The map is dragged to and fro for some seconds, then a lasso of 64 corners is drawn."""
    with chromium(2) as browser, explored(run_of("many", given)) as server, undisturbed():
        page = ready(browser, server)
        box = page.locator("#over").bounding_box() or {}
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.evaluate("void (frames_.length = 0)")
        for k in range(8):
            page.mouse.move(x + (90 if k % 2 == 0 else -90), y + 10 * k, steps=30)
        frames = np.array(page.evaluate("frames_"))
        page.mouse.up()
        page.click("#fit")
        page.evaluate("""() => addEventListener("pointerup", () => {
            const began = performance.now();
            new MutationObserver(() => (window.enclosed ??= performance.now() - began)).observe(document.getElementById("groups"), { childList: true });
            requestAnimationFrame(() => requestAnimationFrame(() => (window.seen = performance.now() - began)));
        }, { capture: true, once: true })""")
        page.keyboard.down("Shift")
        for k in range(65):
            page.mouse.move(x + 200 * np.cos(k * np.pi / 32), y + 160 * np.sin(k * np.pi / 32))
            if k == 0:
                page.mouse.down()
        page.mouse.up()
        page.keyboard.up("Shift")
        while not page.evaluate("window.seen && window.enclosed"):
            page.wait_for_timeout(20)
        intervals = np.diff(np.unique(frames[:, 0]))
        return {"points": MANY, "interval_ms": percentiles(intervals.tolist()), "work_ms": percentiles(frames[:, 1].tolist()),
                "frames_per_second": round(1000 / float(intervals.mean()), 1), "frames": len(frames),
                "lasso_ms": round(page.evaluate("enclosed"), 1), "lasso_drawn_ms": round(page.evaluate("seen"), 1),
                "enclosed": page.inner_text("#groups .count")}


# what the server bears


def crowded(given: argparse.Namespace) -> dict[str, Any]:
    folder = run_of("64", given)
    with chromium(2) as browser, explored(folder) as server:
        page = ready(browser, server)
        quiet = dragged(page, folder)
        cookie = "; ".join(f"{each['name']}={each['value']}" for each in page.context.cookies())
        port = int(re.search(r":(\d+)/", server.link)[1])  # pyright: ignore
        crowd = subprocess.Popen([sys.executable, __file__, str(port), cookie], stdout=subprocess.PIPE, text=True)
        crowd.stdout.readline()  # it begins
        busy = dragged(page, folder)
        answers = json.loads(crowd.communicate()[0])
        page.set_input_files("#file", {"name": "large.png", "mimeType": "image/png", "buffer": large_photo()})
        page.locator("#title", has_text="your photo").wait_for(timeout=120_000)
        return {"quiet": quiet, "crowded": busy, "answers": answers, "memory_mb": round(server.memory()),
                "of_model_mb": round(of_model(folder)), "after": dragged(page, folder)}


def large_photo() -> bytes:
    """A PNG of 12 million pixels."""
    held = io.BytesIO()
    Image.linear_gradient("L").resize((4000, 3000)).convert("RGB").save(held, "PNG")
    return held.getvalue()


def of_model(folder: Path) -> float:
    """Most memory, MB, of a process that loads a model, and encodes and decodes an image."""
    program = """
import sys, numpy as np, reparam
model = reparam.load(sys.argv[1], device="cpu")
model.decode(model.encode(np.zeros((1, *model.config.image_shape[1:], model.config.image_shape[0]), np.uint8)))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])"""
    return int(subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True).stdout) / 1000


def crowd_of(port: int, cookie: str) -> dict[str, int]:
    """1,000 requests at once, and answers that nobody reads; counts of what became of the requests."""
    head = f"Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nCookie: {cookie}\r\n"
    slow = socket.create_connection(("127.0.0.1", port))
    slow.sendall(f"GET /ws HTTP/1.1\r\n{head}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    slow.recv(1000)
    for i in range(40):
        text = json.dumps({"id": i, "op": "thumbs", "rows": list(range(512))}).encode()
        slow.sendall(bytes([0x81, 0x80 | 126, *len(text).to_bytes(2, "big"), 0, 0, 0, 0]) + text)
    together = threading.Barrier(1000)

    def one(_: int) -> str:
        together.wait()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as asked:
            asked.sendall(f"GET /app.js HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
            return asked.recv(1000)[9:12].decode() or "closed"
        return "closed"

    with ThreadPoolExecutor(1000) as many:
        found = list(many.map(one, range(1000)))
    slow.close()
    return {each: found.count(each) for each in sorted(set(found))}


def table(found: dict[str, dict]) -> list[str]:
    lines = ["| what | measured | wanted |", "|---|---|---|"]

    def times(ms: dict[str, float]) -> str:
        return f"{ms['median']:.0f} / {ms['p95']:.0f} ms"

    for cell in ("28", "64"):
        for way, words in (("socket", "PyTorch"), ("exported", "exported page")):
            if cell in found:
                lines.append(f"| slider to pixels at {cell}×{cell}, {words}: median / p95 | {times(found[cell][way]['ms'])} | p95 50 ms |")
    if "map" in found:
        r = found["map"]
        lines += [f"| frames (requestAnimationFrame) while {r['points']:,} points are dragged | {r['frames_per_second']} a second, "
                  f"{r['interval_ms']['median']} / {r['interval_ms']['p95']} ms apart | 60 |",
                  f"| … drawing of one: median / p95 | {times(r['work_ms'])} | |",
                  f"| lasso around {r['enclosed']} of them: listed, drawn | {r['lasso_ms']:.0f}, {r['lasso_drawn_ms']:.0f} ms | 100 ms |"]
    if "paint" in found:
        for visit in ("first", "later"):
            r = found["paint"][visit]
            lines += [f"| {found['paint']['images']:,} images, {visit} visit: from the link to points, reloaded | {r['points_ms'] / 1000:.1f} s, "
                      f"{r['reloaded_ms'] / 1000:.1f} s | 2 s |",
                      f"| … from the command to its link{', encoding' if visit == 'first' else ''} | {r['link_s']:.0f} s | |"]
    if "crowd" in found:
        r = found["crowd"]
        said = ", ".join(f"{n:,} with status {status}" for status, n in r["answers"].items())
        lines += [f"| slider at 64×64 alone, while 1,000 requests come at once and one reader does not read, and after: median / p95 | {', '.join(times(r[w]['ms']) for w in ('quiet', 'crowded', 'after'))} | |",
                  f"| … answers to 1,000 requests | {said} | it goes on |",
                  f"| … most memory, above the {r['of_model_mb']} MB of a process that has the model | {r['memory_mb'] - r['of_model_mb']} MB | 300 MB |"]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="A crowd of readers, for the part `page` of explorer.py.")
    parser.add_argument("port", type=int)
    parser.add_argument("token")
    given = parser.parse_args()
    print("begins", flush=True)
    print(json.dumps(crowd_of(given.port, given.token)))


if __name__ == "__main__":
    main()
