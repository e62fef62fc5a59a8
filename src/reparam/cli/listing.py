"""The commands that list what there is: `parts`, `presets` and `env`."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from ..parts.presets import Preset
from ..progress import aligned, tell
from ..text import for_shell
from .app import REFERENCE, app, print_json
from .options import Json


@app.command(group=REFERENCE)
def parts(role: str | None = None, name: str | None = None, /, *, json: Json = False) -> None:
    """List the parts that a recipe can be made of, those of installed packages too.

    Parameters
    ----------
    role
        Only the parts of this role, such as prior.
    name
        Only this part, with all that is to be said of it.
    """
    from ..errors import nearest
    from ..parts.registry import ROLES, load_outside

    if role is not None and role not in ROLES:
        raise UsageError(f"unknown role {role!r}{nearest(role, ROLES)}. Roles: {', '.join(ROLES)}")
    load_outside()
    if role is not None and name is not None and name not in ROLES[role].parts:
        raise UsageError(f"unknown {role} {name!r}{nearest(name, ROLES[role].parts)}. Known: {', '.join(ROLES[role].parts)}")
    chosen = [ROLES[role]] if role else list(ROLES.values())
    table = {r.name: {r.signature(p): r.describe(p) if name else _first_sentence(r.describe(p))
                      for p in r.parts if name in (None, p)} for r in chosen}
    if json:
        print_json({"parts": table})
        return
    for heading, entries in table.items():
        tell(heading)
        for signature, about in entries.items():
            tell(f"  {signature}", *(f"      {line}".rstrip() for line in about.splitlines()))


def _first_sentence(text: str) -> str:
    return " ".join(text.strip().split("\n\n")[0].split())


@app.command(group=REFERENCE)
def presets(name: str | None = None, /, *, json: Json = False) -> None:
    """List the named recipes, with what was measured of each.

    Parameters
    ----------
    name
        Only this one.
    """
    from ..parts.presets import PRESETS, find

    chosen = PRESETS if name is None else {name: find(name)}
    if json:
        print_json({"presets": [_facts(n, p) for n, p in chosen.items()]})
        return
    for each, preset in chosen.items():
        tell(*_told(each, preset))


def _facts(name: str, preset: Preset) -> dict[str, Any]:
    from ..parts.presets import DATA, measured

    return {"name": name, "about": preset.about, "data": DATA[preset.data], "reference": preset.reference,
            "recipe": preset.recipe.to_dict(), "measured": measured().get(name)}


def _told(name: str, preset: Preset) -> list[str]:
    from ..parts.presets import DATA, measured

    lines = [f"{name}: {preset.about}", f"  for {DATA[preset.data]} ({preset.reference})"]
    for k, v in preset.changes.items():
        flag = f"--{k.replace('_', '-')}"
        lines.append(f"    {flag}" if v is True else f"    {flag} {for_shell(str(v))}")
    if found := measured().get(name):
        lines.append(f"  {found['data']}, {found['seconds']:,.0f} s on one core: "
                     + ", ".join(f"{k} {v:,.4g}" for k, v in found["figures"].items()))
    return lines


@app.command(group=REFERENCE)
def env(*, json: Json = False) -> None:
    """Say what reparam runs on: versions, devices, folders, and what is missing. Put it into a report of a fault."""
    from ..errors import FEATURES, GET_FEATURES
    from ..runs.environment import environment

    facts = environment()
    if json:
        print_json(facts)
        return
    rows = [(k, ", ".join(v) if isinstance(v, list) else str(v)) for k, v in facts.items() if k != "packages" and v]
    tell(*aligned([*rows, *((name, version) for name, version in facts["packages"].items())]))
    if set(FEATURES) & set(facts["missing"]):
        tell(f"The features efficientnet, which compare sets of images, need: {GET_FEATURES}")
