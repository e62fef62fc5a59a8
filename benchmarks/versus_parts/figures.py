"""What has been measured, as the page reads it: figures of players by set, budget and way of drawing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .claims import Ranges, Verdict, ahead, unable
from .judging import JUDGES
from .players import PLAYERS

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

    def budgets(self, data: str) -> list[float]:
        return sorted({minutes for d, minutes, _ in self.grid if d == data})

    def players(self, data: str, minutes: float, *sides: str) -> list[str]:
        """That were measured, in the order of `PLAYERS`."""
        return [n for n in PLAYERS if (data, minutes, n) in self.grid and (not sides or PLAYERS[n].side in sides)]

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

    def able(self, data: str, minutes: float, way: str, *sides: str) -> list[str]:
        return [n for n in self.players(data, minutes, *sides) if not self.is_unable(data, minutes, n, way)]

    def best(self, data: str, minutes: float, way: str, side: str) -> str | None:
        """The able player of a side with the least mean FD by the first network."""
        return min(self.able(data, minutes, way, side), default=None,
                   key=lambda n: float(np.mean(self.values(data, minutes, n, way, JUDGES[0], "fd"))))

    def ranges(self, data: str, minutes: float, way: str, figure: str, sign: float, side: str) -> dict[str, Ranges]:
        return {n: {j: [sign * v for v in self.values(data, minutes, n, way, j, figure)] for j in JUDGES}
                for n in self.able(data, minutes, way, side)}

    def verdict(self, data: str, minutes: float, way: str, figure: str, one: str, other: str) -> Verdict:
        """What may be said of one side against another, by a figure: of shares more is better, of distances less."""
        if not self.players(data, minutes, one) or not self.players(data, minutes, other):
            return Verdict.MISSING
        sign = 1.0 if figure in ("fd", "kd") else -1.0
        a, b = (self.ranges(data, minutes, way, figure, sign, side) for side in (one, other))
        if not a or not b:
            return Verdict.BOTH_UNABLE if not a and not b else Verdict.SECOND_UNABLE if a else Verdict.FIRST_UNABLE
        return ahead(a, b)
