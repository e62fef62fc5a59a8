"""Imports point down and never in a circle, lazily or for types too; files and functions are short, little stands twice."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "reparam"
LAYERS = (
    ("errors", "text", "runtime"),
    ("tensors", "parallel", "progress"),
    ("chunks",),
    ("files", "parts", "distributions"),
    ("functional", "features", "nets", "data"),
    ("models",),
    ("objectives", "metrics", "pretrained"),
    ("trainer", "doctor", "downstream"),
    ("runs", "estimator", "exporters"),
    ("explorer",),
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


def modules_imported(path: Path) -> set[Path]:
    """The package's own files that a file imports, wherever the import stands: a module, or else a package's `__init__`."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            inside = [base / name.name for name in node.names] if base.is_dir() else [base]
            found |= {next((f for f in (each.with_suffix(".py"), each / "__init__.py") if f.is_file()), base / "__init__.py")
                      for each in inside}
    return found - {path}


PACKAGES = sorted({p.parent for p in FILES} - {ROOT})


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_circle_of_imports_inside_a_package(package: Path) -> None:
    own = set(package.rglob("*.py"))
    try:
        list(TopologicalSorter({path: modules_imported(path) & own for path in own}).static_order())
    except CycleError as e:
        pytest.fail(" → ".join(str(p.relative_to(package)) for p in e.args[1]))


def test_the_root_is_short() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 10


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_can_be_read_at_once(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 450
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name for f in functions if (f.end_lineno or 0) - f.lineno >= 60}
    assert not long


def repeated(texts: list[list[str]], run: int) -> tuple[int, int]:
    """How many lines of some files stand in a run of `run` lines that occurs twice at least, and how many there are."""
    starts = [[tuple(lines[k : k + run]) for k in range(len(lines) - run + 1)] for lines in texts]
    times = Counter(window for windows in starts for window in windows)
    inside = [{k + i for k, window in enumerate(windows) if times[window] > 1 for i in range(run)} for windows in starts]
    return sum(map(len, inside)), sum(map(len, texts))


def test_little_is_written_twice() -> None:
    assert repeated([list("abcxyz"), list("1abc")], 3) == (6, 10)
    texts = [[line for raw in p.read_text(encoding="utf-8").splitlines() if (line := " ".join(raw.split()))] for p in FILES]
    twice, lines = repeated(texts, 6)
    assert twice <= 0.03 * lines, f"{twice} of {lines} lines stand in a run of six that occurs elsewhere too"
