"""Keeps the faults of a store short: a deadline for each operation, and none at all while it keeps failing."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import TypeVar

from proxy.errors import CacheError

T = TypeVar("T")

FAILURES = 3
"""So many faults in a row, and the store is left alone for a while."""

REST_S = 1.0
MAX_REST_S = 4.0
"""How long it is left alone: twice as long each time that a trial fails, up to this."""


PAUSE_S = 0.1
"""For what requests wait for: a store that has just kept one waiting is not asked by it again."""

LATE_TURNS = 8
"""Turns of the loop that an answer takes from its socket to whoever waits; where the loop was late, it may be there."""


class Breaker:
    """Tells whether a store may be asked: not while it rests after faults, but for a trial at the end of each rest."""

    def __init__(self, *, pause_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """*pause_s*: how long the store rests after a single fault."""
        self._clock = clock
        self._pause_s = pause_s
        self._failures = 0
        self._rest_s = REST_S
        self._rests_until = 0.0
        self._failed_at = -math.inf

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.open else 'closed'}, {self._failures} faults in a row>"

    @property
    def open(self) -> bool:
        """The store has failed too often in a row to be asked."""
        return self._failures >= FAILURES

    def allows(self) -> bool:
        """Whether the store may be asked now. At the end of a rest that is so for one alone, until it is known how
        its trial went."""
        if not self._failures:
            return True
        now = self._clock()
        if now < self._rests_until:
            return False
        if self.open:
            self._rests_until = now + self._rest_s
        return True

    def succeeded(self) -> None:
        """The store answered."""
        self._failures = 0
        self._rest_s = REST_S

    def failed(self, *, began: float = math.inf) -> None:
        """What was asked at *began* failed, or was too slow.

        Of what was asked together one counts: else a single moment without an answer would look like many.
        """
        if began < self._failed_at:
            return
        self._failed_at = self._clock()
        if self.open:
            self._rest_s = min(2 * self._rest_s, MAX_REST_S)
        self._failures += 1
        self._rests_until = self._failed_at + (self._rest_s if self.open else self._pause_s)


class Guard:
    """Lets operations through to a store, each within a time, and counts how they end."""

    def __init__(self, what: str, *, pause_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._breaker = Breaker(pause_s=pause_s, clock=clock)
        self.fault = ""
        """What the store said when it last failed; empty while it works."""

    def __repr__(self) -> str:
        return f"<Guard of {self._what}, {self._breaker!r}>"

    @property
    def resting(self) -> bool:
        """The store is not asked for now."""
        return self._breaker.open

    async def within(self, deadline_s: float, work: Callable[[], asyncio.Future[T]], *, cancel: bool = True) -> T:
        """What *work* comes to; what takes too long is cancelled, or left to end by itself where *cancel* is False.

        Raises:
            CacheError: the store failed, took longer than *deadline_s*, or is left alone after faults.
        """
        if not self._breaker.allows():
            raise CacheError(f"{self._what} is left alone for a while: {self.fault}")
        began = self._clock()
        try:
            future = work()
            try:
                # Not by a timer that cancels: where the loop itself was late, what is there by now still counts.
                await asyncio.wait((future,), timeout=deadline_s)
                for _ in range(LATE_TURNS):
                    if future.done():
                        break
                    await asyncio.sleep(0)
            finally:
                late = not future.done()
                if late:
                    future.add_done_callback(_let_be)
                    if cancel:
                        future.cancel()
            if late:
                raise CacheError(f"{self._what} took longer than {deadline_s * 1000:g} ms")
            came = future.result()
        except CacheError as error:
            self.fault = str(error)
            self._breaker.failed(began=began)
            raise
        self.fault = ""
        self._breaker.succeeded()
        return came


def _let_be(future: asyncio.Future[T]) -> None:
    """Nobody waits for it any more, whatever it came to."""
    if not future.cancelled():
        future.exception()
