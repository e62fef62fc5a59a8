"""The pages keep to the code: links lead somewhere, examples name what exists, commands and flags are understood."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from reparam import cli
from reparam.cli.app import app
from reparam.parts.recipe import Recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
HISTORY = ("status.md", "decisions.md")
"""Pages that tell of what was, too."""
CURRENT = [page for page in PAGES if page.name not in HISTORY]
OTHERS = {"--jaxtyping-packages", "--num_processes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id",
          "--max-restarts", "--standalone", "--logdir", "--x", "--y"}
"""Flags of pytest, accelerate, torchrun, TensorBoard and Embedding Atlas."""
for file in pkgutil.iter_modules(cli.__path__):
    importlib.import_module(f"reparam.cli.{file.name}")  # which adds its commands to `app`


def blocks(text: str, language: str) -> Iterator[str]:
    """Fenced blocks of a language; of none for the plain ones."""
    fences = [*re.finditer(r"^```(\w*)$", text, re.MULTILINE)]
    for opening, closing in [*pairwise(fences)][::2]:
        if opening[1] == language:
            yield text[opening.end():closing.start()]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_python_names_what_exists(page):
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reparam"):
                module = importlib.import_module(str(node.module))
                assert [a.name for a in node.names if getattr(module, a.name, None) is None] == []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "reparam":
                assert getattr(importlib.import_module("reparam"), node.attr, None) is not None, node.attr
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Recipe", "reparam.Recipe"):
                Recipe(**{str(k.arg): ast.literal_eval(k.value) for k in node.keywords})


def commands(text: str) -> Iterator[str]:
    """Commands in plain blocks, of which two may stand in a line, and between single backquotes."""
    for block in blocks(text, ""):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (part for part in re.split(r" {3,}|#", line) if part.startswith("reparam "))
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from (code for code in re.findall(r"`([^`\n]+)`", prose) if re.match(r"reparam [a-z-]+ \S", code))


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_commands_are_understood(page):
    for command in commands(page.read_text(encoding="utf-8")):
        app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_flags_exist(page):
    known = {flag for name in app if not name.startswith("-")
             for argument in app[name].assemble_argument_collection() for flag in argument.names}
    known |= {flag for script in (ROOT / "benchmarks").glob("*.py")
              for flag in re.findall(r"--[a-z][\w-]*", script.read_text(encoding="utf-8"))}
    written = re.findall(r"(?<![\w-])--[a-z][\w-]*", page.read_text(encoding="utf-8"))
    assert {*written} - known - OTHERS == set()
