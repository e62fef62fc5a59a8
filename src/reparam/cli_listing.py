"""The commands that list what there is: `parts` and `presets`."""

from __future__ import annotations

from .cli import app, print_json
from .cli_options import Json
from .errors import UsageError


@app.command
def parts(role: str | None = None, /, *, json: Json = False) -> None:
    """List the parts that a recipe can be made of.

    Parameters
    ----------
    role
        Only the parts of this role, such as prior.
    """
    from .errors import nearest
    from .registry import ROLES

    if role is not None and role not in ROLES:
        raise UsageError(f"unknown role {role!r}{nearest(role, ROLES)}. Roles: {', '.join(ROLES)}")
    chosen = [role] if role else list(ROLES)
    table = {name: {ROLES[name].signature(p): _first_sentence(ROLES[name].describe(p)) for p in ROLES[name].parts}
             for name in chosen}
    if json:
        print_json({"parts": table})
        return
    for name, entries in table.items():
        print(f"{name}")
        for signature, about in entries.items():
            print(f"  {signature}\n      {about}")


def _first_sentence(text: str) -> str:
    return " ".join(text.strip().split("\n\n")[0].split())


@app.command
def presets(*, json: Json = False) -> None:
    """List the named recipes, with what was measured of each."""
    from .presets import DATA, PRESETS, measured

    if json:
        print_json({"presets": [{"name": n, "about": p.about, "data": DATA[p.data], "reference": p.reference,
                             "recipe": p.recipe.to_dict(), "measured": measured().get(n)} for n, p in PRESETS.items()]})
        return
    for name, preset in PRESETS.items():
        print(f"{name}: {preset.about}\n  for {DATA[preset.data]} ({preset.reference})")
        for k, v in preset.changes.items():
            flag = f"--{k.replace('_', '-')}"
            print(f"    {flag}" if v is True else f"    {flag} {v!r}")
        if name in measured():
            found = measured()[name]
            print(f"  {found['data']}, {found['seconds']:.0f} s on one core: "
                  + ", ".join(f"{k} {v:.4g}" for k, v in found["figures"].items()))
