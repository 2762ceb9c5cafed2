"""Lines for the log that may be due many times a second: said at once, and then summed up once in a while."""

import asyncio
from collections.abc import Callable

EVERY_S = 60.0
"""How long nothing more is said after a line."""


class Seldom:
    """One line, said by *say*, which is told how often it was due since and went unsaid."""

    def __init__(self, say: Callable[[int], None], *, every_s: float = EVERY_S) -> None:
        self._say = say
        self._every_s = every_s
        self._unsaid = 0
        self._resting: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Seldom, {self._unsaid} unsaid>"

    def due(self) -> None:
        """There is reason for the line once more."""
        if self._resting is not None:
            self._unsaid += 1
            return
        self._say(0)
        self._rest()

    def _rest(self) -> None:
        self._resting = asyncio.get_running_loop().call_later(self._every_s, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if self._unsaid:
            self._say_rest()
            self._rest()

    def _say_rest(self) -> None:
        unsaid, self._unsaid = self._unsaid, 0
        self._say(unsaid)

    def close(self) -> None:
        """Say what is still unsaid, and no more after that."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._unsaid:
            self._say_rest()
