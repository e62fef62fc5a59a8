"""What it costs a run that somebody watches it: steps per second while its page is looked at and while it is not, in turns, in one run.

The run is trained in this process; the page is served as `reparam train --watch` serves it. Windows of a few seconds alternate: nobody
looks, and somebody does, a client that asks what the page asks, as often, or the page in a browser. Who, and for how long, is drawn by lot,
since what a run does every hundred steps would otherwise fall to the same one again and again. In between, all processes of those who look are stopped, so
that they cost nothing. Each window with somebody is compared with the two beside it: by the clock, and by the processor time of training,
which does not count what others take from it. The processor times of the server and of the browser stand beside: by these the page takes
its part of cores that are all at work. On a busy machine only processor times mean much.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

import reparam
from reparam.explorer.guard import link_to, new_token
from reparam.explorer.launch import listening_on
from reparam.explorer.watch import Watch, start
from reparam.progress import Reporter

CELLS = ("1-thread", "2-threads")
PAGE = "explorer.md"
WINDOW = (2.0, 5.0)
"""Seconds, from and to."""


class Enough(Exception):
    """The run has been trained for as long as it was to be measured."""


class Turns(Reporter):
    """Counts steps in windows, between which it starts and stops those who look."""

    def __init__(self, looking: dict[str, psutil.Process], server: psutil.Process, seen: Path, seconds: float) -> None:
        self.looking, self.server, self.seen, self.seconds = looking, server, seen, seconds
        self.windows: list[dict] = []
        self.lot, self.state, self.length = np.random.default_rng(0), "", 0.0
        self.began = self.opened = self.started = 0.0
        self.steps, self.cpu = 0, (0.0, 0.0)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def count(self, what: str, done: int, total: int) -> None: ...

    def step(self, fraction: float, line) -> None:
        now = time.perf_counter()
        if not self.began:
            if not self.seen.exists():  # until all is loaded and pictures have been seen
                return
            self.began, self.started = now, seconds_of(self.server)
            self.say(f"server: {self.started:.1f} s of a processor before the first picture")
            self.turn("off")
            return
        self.steps += 1
        if now - self.opened >= self.length:
            self.close(now)
            if now - self.began > self.seconds and self.state == "off":
                raise Enough
            self.turn(str(self.lot.choice([*self.looking])) if self.state == "off" else "off")

    def turn(self, state: str) -> None:
        self.state, self.length = state, self.lot.uniform(*WINDOW)
        everyone = [self.server, *self.looking.values()]
        for process in everyone:
            send(process, signal.SIGSTOP)
        if self.state != "off":
            for process in (self.server, self.looking[self.state]):
                send(process, signal.SIGCONT)
        self.cpu = self.spent()
        self.own = time.process_time()
        self.opened, self.steps = time.perf_counter(), 0

    def spent(self) -> tuple[float, float]:
        other = self.looking[self.state] if self.state != "off" else None
        return seconds_of(self.server), seconds_of(other) if other is not None else 0.0

    def close(self, now: float) -> None:
        wall, own, spent = now - self.opened, time.process_time() - self.own, self.spent()
        self.windows.append({"state": self.state, "speed": self.steps / wall, "of_cpu": self.steps / own, "seconds": wall,
                             "server": (spent[0] - self.cpu[0]) / wall, "client": (spent[1] - self.cpu[1]) / wall})


def family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(process: psutil.Process, what: int) -> None:
    for each in family(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(what)


def seconds_of(process: psutil.Process) -> float:
    total = 0.0
    for each in family(process):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def ask(link: str, seen: str) -> None:
    """Asks what the page asks, as often."""
    from websockets.sync.client import connect

    port, token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", link).groups()
    while True:
        try:
            with connect(f"ws://127.0.0.1:{port}/ws", origin=f"http://127.0.0.1:{port}", max_size=None, open_timeout=600, ping_interval=None,
                         additional_headers={"Cookie": f"reparam-{port}={token}"}) as socket:
                known = {"training": "", "snapshot": ""}
                for turn in range(10**9):
                    for op in ("training", "snapshot") if turn % 2 == 0 else ("training",):
                        socket.send(json.dumps({"id": 1, "op": op, "known": known[op]}))
                        message = socket.recv(600)
                        header = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
                        known[op] = header.get("stamp", "")
                        if any(each["name"] == "samples" for each in header["arrays"]):
                            Path(seen).touch()
                    time.sleep(2)
        except Exception:
            time.sleep(1)


def show(link: str, seen: str) -> None:
    """The page in a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(600_000)
        page.goto(link)
        page.wait_for_selector("#curves canvas")
        page.wait_for_timeout(10**8)


def measure(cell: str, given) -> dict:
    """Speed while nobody looks, while a client asks, and while a browser shows the page."""
    command = [sys.executable, __file__, "train", cell[0], str(given.minutes)]  # a process of its own, which has loaded no more than the command
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def train(threads: str, minutes: str) -> None:
    """Trains and prints what was measured."""
    with tempfile.TemporaryDirectory() as work, listening_on(0) as listening:
        folder, token, seen = Path(work) / "run", new_token(), Path(work) / "seen"
        server = psutil.Process(start(Watch(folder), listening, token).pid)
        link = link_to(int(listening.getsockname()[1]), token)
        looking = {name: psutil.Popen([sys.executable, __file__, name, link, str(seen)]) for name in ("asked", "browser")}
        turns = Turns(looking, server, seen, 60 * float(minutes))
        try:
            reparam.train("shapes", out=folder, minutes=2 * float(minutes) + 2, threads=int(threads), precision="float32", device="cpu", report=turns)
        except Enough:
            print(json.dumps(summary(turns, int(threads))))
        finally:
            for each in [one for process in (server, *looking.values()) for one in family(process)]:
                each.kill()


def summary(turns: Turns, threads: int) -> dict:
    """Ratios of each window with somebody to the mean of the two beside it, and what the processors did."""
    windows, found = turns.windows, {"threads": threads, "window_seconds": list(WINDOW), "server_cpu_seconds_before_first_picture": round(turns.started, 2)}
    for state in ("asked", "browser"):
        own = [w for w in windows if w["state"] == state]
        found[state] = {"windows": len(own), "slower": slower(windows, state, "speed"), "more_processor_time": slower(windows, state, "of_cpu"),
                        "server_percent_of_a_core": round(100 * statistics.mean(w["server"] for w in own), 2),
                        "client_percent_of_a_core": round(100 * statistics.mean(w["client"] for w in own), 2)}
    off = [w["speed"] for w in windows if w["state"] == "off"]
    return found | {"steps_per_second": round(statistics.median(off), 1),
                    "spread_of_nobody_percent": round(100 * statistics.pstdev(off) / statistics.mean(off), 1)}


def slower(windows: list[dict], state: str, by: str) -> list[float]:
    """Percent by which a speed is lower in windows of a state than beside them: the median, and its 95 % interval by bootstrap."""
    ratios = [w[by] / ((windows[k - 1][by] + windows[k + 1][by]) / 2) for k, w in enumerate(windows[:-1]) if w["state"] == state]
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, 1), (0.025, 0.975))
    return [round(100 * (1 - each), 1) for each in (statistics.median(ratios), high, low)]


def table(found: dict[str, dict]) -> list[str]:
    lines = ["| training on | who looks | slower by the clock | by processor time | the server takes | the browser takes |", "|---|---|---|---|---|---|"]
    for each in found.values():
        for state, name in (("asked", "a client that asks what the page asks"), ("browser", "the page in chromium")):
            one = each[state]
            clock, cpu = (f"{mid:g} % ({low:g} … {high:g})" for mid, low, high in (one["slower"], one["more_processor_time"]))
            browser = f"{one['client_percent_of_a_core']:g} % of a core" if state == "browser" else "–"
            lines.append(f"| {each['threads']} thread{'s' * (each['threads'] > 1)} | {name} | {clock} | {cpu} | "
                         f"{one['server_percent_of_a_core']:g} % of a core | {browser} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="One process of the part `watch` of explorer.py.")
    parser.add_argument("role", choices=("asked", "browser", "train"))
    parser.add_argument("first")
    parser.add_argument("second")
    given = parser.parse_args()
    {"asked": ask, "browser": show, "train": train}[given.role](given.first, given.second)


if __name__ == "__main__":
    main()
