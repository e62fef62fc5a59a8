"""Debian's chromium on one core, for what is measured in it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import numpy as np
from playwright.sync_api import Browser, sync_playwright


@contextlib.contextmanager
def chromium(cores: int = 1) -> Iterator[Browser]:
    """A browser that has so many of the machine's cores."""
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    own = os.sched_getaffinity(0)
    with sync_playwright() as p:
        os.sched_setaffinity(0, sorted(own)[:cores])  # what is started now inherits them
        try:
            browser = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        finally:
            os.sched_setaffinity(0, own)
        yield browser
        browser.close()


def percentiles(times: list[float]) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds."""
    return {name: round(float(np.percentile(times, q)), 1) for name, q in (("median", 50), ("p95", 95))}
