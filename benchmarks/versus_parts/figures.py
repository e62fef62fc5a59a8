"""What has been measured, as the page reads it: figures of players by set, budget and way of drawing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .claims import Ranges, Verdict, ahead, unable
from .judging import JUDGES
from .players import ENTERING, PLAYERS

WAYS = {"plain": "plain draws", "chosen": "draws as chosen"}
Cell = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """All results of a folder."""

    grid: dict[tuple[str, float, str], list[Cell]]
    """By set, minutes and player, in the order of seeds."""
    references: dict[str, Any]
    tunings: dict[tuple[str, str], Cell]
    """By set and player."""

    @staticmethod
    def read(folder: Path) -> Measured:
        def each(part: str) -> list[Cell]:
            return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob(f"{part}-*.json"))]

        grid: dict[tuple[str, float, str], list[Cell]] = {}
        for cell in sorted(each("grid"), key=lambda c: c["seed"]):
            grid.setdefault((cell["data"], cell["minutes"], cell["player"]), []).append(cell)
        references = {p.stem.partition("-")[2]: json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("references-*.json")}
        return Measured(grid, references, {(c["data"], c["player"]): c for c in each("tune")})

    def entrants(self, players: Sequence[str] = tuple(PLAYERS)) -> dict[str, dict[str, list[str]]]:
        """The players that are trained with several seeds, best first, by set and side: those whose searches ended with the least
        figure, `ENTERING` of a side, once all of the side have been searched for."""
        found: dict[str, dict[str, list[str]]] = {}
        for data in dict.fromkeys(d for d, _ in self.tunings):
            for side, most in ENTERING.items():
                names = [n for n in players if PLAYERS[n].side == side]
                if names and all((data, n) in self.tunings for n in names):
                    found.setdefault(data, {})[side] = sorted(names, key=lambda n: ended(self.tunings[data, n]))[:most]
        return found

    def budgets(self, data: str) -> list[float]:
        return sorted({minutes for d, minutes, _ in self.grid if d == data})

    def players(self, data: str, minutes: float) -> list[str]:
        """That were measured, in the order of `PLAYERS`."""
        return [n for n in PLAYERS if (data, minutes, n) in self.grid]

    def values(self, data: str, minutes: float, player: str, way: str, features: str, figure: str) -> list[float]:
        """Of all seeds. Where plain draws were the best choice, they are the draws as chosen."""
        cells = [c for c in self.grid.get((data, minutes, player), []) if "failed" not in c]
        return [of[features][figure] for c in cells if figure in (of := c.get(way, c["plain"])).get(features, {})]

    def is_unable(self, data: str, minutes: float, player: str, way: str) -> bool:
        """Whether most seeds collapsed, or ended in an error."""
        cells = self.grid[data, minutes, player]
        duplicates, vendi = (self.values(data, minutes, player, way, "all", f) for f in ("duplicates", "vendi"))
        lost = len(cells) - len(duplicates)
        return unable([*duplicates, *[1.0] * lost], [*vendi, *[0.0] * lost])

    def entered(self, data: str, minutes: float, side: str) -> list[str]:
        """The entrants of a side that were measured; as long as they are not known, all of the side that were."""
        names = self.entrants().get(data, {}).get(side, [n for n in PLAYERS if PLAYERS[n].side == side])
        return [n for n in names if (data, minutes, n) in self.grid]

    def able(self, data: str, minutes: float, way: str, side: str) -> list[str]:
        return [n for n in self.entered(data, minutes, side) if not self.is_unable(data, minutes, n, way)]

    def best(self, data: str, minutes: float, way: str, side: str) -> str | None:
        """The able player of a side with the least mean FD by the first network."""
        return min(self.able(data, minutes, way, side), default=None,
                   key=lambda n: float(np.mean(self.values(data, minutes, n, way, JUDGES[0], "fd"))))

    def ranges(self, data: str, minutes: float, way: str, figure: str, sign: float, side: str) -> dict[str, Ranges]:
        """Of a side's entrants that are able, and, without figures, of those that were not measured."""
        lost = {*self.entered(data, minutes, side)} - {*self.able(data, minutes, way, side)}
        return {n: {j: [sign * v for v in self.values(data, minutes, n, way, j, figure)] for j in JUDGES}
                for n in self.entrants()[data][side] if n not in lost}

    def verdict(self, data: str, minutes: float, way: str, figure: str, one: str, other: str) -> Verdict:
        """What may be said of one side against another, by a figure: of shares more is better, of distances less."""
        sides = [self.entered(data, minutes, side) for side in (one, other)]
        if not all(sides):
            return Verdict.MISSING
        if not {one, other} <= self.entrants().get(data, {}).keys():
            return Verdict.SEARCHING
        if len({cell["machine"]["processor"] for names in sides for n in names for cell in self.grid[data, minutes, n]}) > 1:
            return Verdict.MACHINES
        sign = 1.0 if figure in ("fd", "kd") else -1.0
        a, b = (self.ranges(data, minutes, way, figure, sign, side) for side in (one, other))
        if not a or not b:
            return Verdict.BOTH_UNABLE if not a and not b else Verdict.SECOND_UNABLE if a else Verdict.FIRST_UNABLE
        return ahead(a, b)


def ended(search: Cell) -> float:
    """The figure of the setting that a search chose, after its longest trial; infinite where that ended in an error."""
    last = max(t["seconds"] for t in search["trials"])
    return next(t.get("fd", math.inf) for t in search["trials"] if (t["number"], t["seconds"]) == (search["chosen"], last))
