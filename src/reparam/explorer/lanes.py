"""Messages that wait for their answer: of those of one lane only the latest does."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from .questions import Question

MOST_WAITING, MOST_BYTES_WAITING = 256, 20_000_000
"""Messages, and bytes of all of them."""


class Full(Exception):
    """More messages wait than are kept."""


class Waiting:
    """Questions of one connection, first come, first served; one that takes the place of an older one has its turn."""

    def __init__(self) -> None:
        self._questions: OrderedDict[tuple[str, Any], tuple[Question, int]] = OrderedDict()
        self._bytes = 0
        self._some = asyncio.Event()
        self._numbered = 0

    def __len__(self) -> int:
        return len(self._questions)

    def put(self, question: Question, size: int) -> None:
        """A question that came in a message of so many bytes.

        Raises Full.
        """
        lane = question.said.get("lane")
        self._numbered += 1
        key = ("lane", lane) if isinstance(lane, str) and lane else ("alone", self._numbered)
        _, before = self._questions.get(key, (None, 0))
        is_new = key not in self._questions
        if (is_new and len(self) >= MOST_WAITING) or self._bytes - before + size > MOST_BYTES_WAITING:
            raise Full
        self._questions[key] = question, size
        self._bytes += size - before
        self._some.set()

    async def take(self) -> Question:
        """The next one, as soon as there is one."""
        while not self._questions:
            self._some.clear()
            await self._some.wait()
        question, size = self._questions.popitem(last=False)[1]
        self._bytes -= size
        return question
