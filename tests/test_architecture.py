"""Imports point down: no package imports one that stands beside or above it, lazily or for types either."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "reparam"
LAYERS = (
    ("errors", "text", "runtime"),
    ("tensors", "parallel", "progress"),
    ("files", "parts", "distributions"),
    ("functional", "features", "nets", "data"),
    ("models",),
    ("objectives", "metrics", "pretrained"),
    ("trainer", "doctor", "downstream"),
    ("runs", "estimator"),
    ("cli",),
)
"""From the ground up. Packages of one line do not know each other."""
FLOOR = {name: floor for floor, names in enumerate(LAYERS) for name in names}
FACES = ("__init__", "__main__")
TORCH_FREE = ("errors", "text", "runtime", "progress", "files", "parts", "cli")


def top(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every import of the package's own, wherever it stands."""
    here = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*here[: len(here) - node.level + 1], *(node.module or "").split("."))
            names = [n for n in base if n][:1] or [a.name for a in node.names]
            yield from ((node.lineno, name) for name in names)


FILES = sorted(p for p in ROOT.rglob("*.py") if top(p) not in FACES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = top(path)
    up = [f"line {line}: {name}" for line, name in imported(path) if name != own and FLOOR[name] >= FLOOR[own]]
    assert not up, f"{own} stands on floor {FLOOR[own]} and imports {', '.join(up)}"


@pytest.mark.parametrize("path", [p for p in FILES if top(p) in TORCH_FREE], ids=lambda p: str(p.relative_to(ROOT)))
def test_what_answers_help_imports_no_torch(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {a.name.split(".")[0] for n in tree.body if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module.split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom) and n.module and not n.level}
    assert not names & {"torch", "accelerate", "sklearn", "matplotlib"}
