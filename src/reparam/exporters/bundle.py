"""The modules of a page as one script, each in a scope of its own: a page that opens from a file cannot load others."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.M)
EXPORT = re.compile(r"^export ((?:async )?function\*?|class|const|let) (\w+)", re.M)


def bundled(entry: Path) -> str:
    """The script of a module and of all that it imports.

    Modules import by names, `import { a, b as c } from "./other.js";`, and export where they declare.

    Raises:
        ValueError: a module imports or exports in another way.
        CycleError: modules import each other in a circle.
    """
    needs: dict[Path, list[Path]] = {}
    found = [entry.resolve()]
    while found:
        path = found.pop()
        if path not in needs:
            needs[path] = [(path.parent / name).resolve() for _, name in IMPORT.findall(path.read_text(encoding="utf-8"))]
            found += needs[path]
    order = list(TopologicalSorter(needs).static_order())
    names = {path: f"{re.sub(r'[^A-Za-z]', '_', path.stem)}{k}" for k, path in enumerate(order)}
    return "\n".join(_scope(path, names) for path in order)


def _scope(path: Path, names: dict[Path, str]) -> str:
    text = path.read_text(encoding="utf-8")

    def taken(found: re.Match[str]) -> str:
        wanted = re.sub(r"\bas\b", ":", " ".join(found[1].split()))
        of = names[(path.parent / found[2]).resolve()]
        return re.sub(r"(\w+) : (\w+)", r"\1: \2", f"const {{ {wanted} }} = {of};\n")

    body = EXPORT.sub(r"\1 \2", IMPORT.sub(taken, text)).replace("export {};\n", "")
    other = re.search(r"^(import|export)\b.*", body, re.M)
    if other is not None:
        raise ValueError(f"{path.name} says {other[0]!r}, which is no import or export by name")
    given = ", ".join(name for _, name in EXPORT.findall(text))
    return f"const {names[path]} = (() => {{\n{body}return {{ {given} }};\n}})();"
