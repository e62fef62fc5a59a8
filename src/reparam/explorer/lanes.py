"""Messages that wait for their answer: of those of one lane only the latest does."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from .questions import Question

MOST_WAITING = 256


class Full(Exception):
    """More messages wait than are kept."""


class Waiting:
    """Questions of one connection, first come, first served; one that takes the place of an older one has its turn."""

    def __init__(self) -> None:
        self._questions: OrderedDict[tuple[str, Any], Question] = OrderedDict()
        self._some = asyncio.Event()
        self._numbered = 0

    def __len__(self) -> int:
        return len(self._questions)

    def put(self, question: Question) -> None:
        """Raises Full."""
        lane = question.said.get("lane")
        self._numbered += 1
        key = ("lane", lane) if isinstance(lane, str) and lane else ("alone", self._numbered)
        if key not in self._questions and len(self._questions) >= MOST_WAITING:
            raise Full
        self._questions[key] = question
        self._some.set()

    async def take(self) -> Question:
        """The next one, as soon as there is one."""
        while not self._questions:
            self._some.clear()
            await self._some.wait()
        return self._questions.popitem(last=False)[1]
