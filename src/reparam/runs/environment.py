"""What reparam runs on: versions, devices, folders, and what is missing; for a report of a fault."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from ..errors import FEATURES


def version_of(package: str) -> str | None:
    """The installed version; None of a package that is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Versions, devices, threads, the cache's folder and missing packages, as JSON takes them."""
    import torch

    from ..data.cache import folder
    from ..parts.registry import outside_packages

    plain = ("torch", "numpy", "Pillow", "safetensors", "accelerate")  # where the package itself is not installed
    wanted = requires("reparam") or () if version_of("reparam") else plain
    needed = [re.split(r"[^\w.-]", line)[0] for line in wanted if "extra ==" not in line]
    found = {name: version_of(name) for name in (*needed, *FEATURES)}
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    return {
        "reparam": version_of("reparam"), "python": platform.python_version(), "machine": platform.platform(),
        "packages": {name: v for name, v in found.items() if v}, "missing": [name for name, v in found.items() if not v],
        "devices": ["cpu", *devices], "cpus": os.cpu_count(), "threads": torch.get_num_threads(),
        "cache": str(folder()), "parts_from": outside_packages()}
