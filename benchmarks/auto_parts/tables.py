"""What has been measured, as tables of docs/auto.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .choice import AUTO_PLAYER, MINUTES, PLAYERS
from .sets import NAMES

Found = Mapping[str, Mapping[str, Any]]


def rows_of(found: Found) -> dict[tuple[str, int], dict[str, float]]:
    """FD by player, of each set and budget of which anything was measured; without those that were given up."""
    rows = {(name, minutes): {player: found[f"{name}-{minutes}-{player}"]["fd"] for player in PLAYERS
                              if found.get(f"{name}-{minutes}-{player}", {}).get("fd") is not None}
            for minutes in MINUTES for name in NAMES}
    return {key: row for key, row in rows.items() if row}


def judged(rows: Mapping[tuple[str, int], Mapping[str, float]]) -> tuple[int, int, int]:
    """Of the rows in which `auto` has rivals that were measured: how many there are, in how many it is within a tenth of the
    best, and in how many it is the worst, level with none."""
    full = [row for row in rows.values() if AUTO_PLAYER in row and len(row) > 2]
    near = sum(row[AUTO_PLAYER] <= 1.1 * min(row.values()) for row in full)
    worst = sum(all(fd < row[AUTO_PLAYER] for player, fd in row.items() if player != AUTO_PLAYER) for row in full)
    return len(full), near, worst


def told(measured: Mapping[str, Found]) -> str:
    """The page's lines."""
    rows, few, plan = rows_of(measured["choice"]), measured["few"], measured["plan"]
    lines = ["| images | minutes | " + " | ".join(PLAYERS) + " |", "|---" * (2 + len(PLAYERS)) + "|"]
    lines += [f"| {name} | {minutes} | " + " | ".join(f"{row[p]:,.0f}" if p in row else "–" for p in PLAYERS) + " |"
              for (name, minutes), row in rows.items()]
    (count, near, worst), every = judged(rows), len(NAMES) * len(MINUTES)
    lines += ["", f"`auto` is within a tenth of the best in {near} of the {count} rows where it has two rivals or more, and the worst "
              f"in {worst}; the rules were made from the same rows; {every - count} of {every} rows are not measured yet."]
    if few:
        lines += ["", "| a hundred images, minutes, change | steps | FD | −ELBO held out, nats |", "|---|---|---|---|"]
        lines += [f"| {cell.replace('-', ', ')} | {f['steps']:,} | {f['fd']:,.0f} | {f['minus_elbo']:,.0f} |" for cell, f in few.items()]
    if plan:
        lines += ["", "| `plan` | foretold | taken | off |", "|---|---|---|---|"]
        lines += [f"| {cell} | " + " | ".join(f"{f[k]['seconds']:,.0f} s, {f[k]['memory']:.2f} GiB" for k in ("foretold", "taken"))
                  + f" | {f['off']['seconds']:+.0%}, {f['off']['memory']:+.0%} |" for cell, f in plan.items()]
    return "\n".join(lines)
