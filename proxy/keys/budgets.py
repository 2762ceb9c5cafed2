"""What clients have spent today, by all processes, and whether that is all they may."""

import asyncio
import logging
import time
from collections.abc import Callable

from proxy.accounts.money import PARTS, Cost
from proxy.accounts.periods import DAY
from proxy.errors import CacheError
from proxy.keys.clients import Client
from proxy.ports import Tallies

log = logging.getLogger(__name__)

EVERY_S = 1.0
"""How far the sums may lag behind what other processes spent."""

NANO = PARTS // 10**9
"""Kept beside others in billionths of a dollar, rounded up: whole parts might not fit a store's 64 bits."""


class Budgets:
    """Adds up what each client spends in a day of UTC."""

    def __init__(self, tallies: Tallies, *, now: Callable[[], float] = time.time) -> None:
        self._tallies = tallies
        self._now = now
        self._day = DAY.start(now())
        self._known: dict[str, int] = {}
        """What was spent today as it was last read."""
        self._waiting: dict[str, int] = {}
        """What was spent here since, not yet put away."""
        self._failing = False

    def __repr__(self) -> str:
        return f"<Budgets, {len(self._known)} clients have spent something today>"

    def spend(self, client: str, cost: Cost | None) -> None:
        """*client* had an answer that cost this."""
        if client and cost is not None and cost.usd > 0:
            self._turn()
            self._waiting[client] = self._waiting.get(client, 0) - (-cost.usd // NANO)

    def spent(self, client: Client | None) -> bool:
        """Whether *client* has spent today what it may spend in a day."""
        if client is None or client.budget is None:
            return False
        self._turn()
        return (self._known.get(client.name, 0) + self._waiting.get(client.name, 0)) * NANO >= client.budget

    def left_s(self) -> int:
        """Seconds until the day is over."""
        return int(DAY.length_s - self._now() % DAY.length_s) + 1

    def _turn(self) -> None:
        """A new day begins with nothing spent. What yesterday's last second did not put away is let go."""
        day = DAY.start(self._now())
        if day > self._day:
            self._day, self._known, self._waiting = day, {}, {}

    async def keep(self) -> None:
        """Put away what was spent here, and read what was spent elsewhere, for ever."""
        while True:
            await self.settle()
            await asyncio.sleep(EVERY_S)

    async def settle(self) -> None:
        """Put away what was spent here, and read what was spent elsewhere."""
        self._turn()
        day, page = self._day, f"budgets.{DAY.page(self._now())}"
        waiting, self._waiting = self._waiting, {}
        try:
            if waiting:
                # Counted as known at once: between the two nobody may spend it a second time.
                for client, spent in waiting.items():
                    self._known[client] = self._known.get(client, 0) + spent
                await self._tallies.add(page, waiting, keep_s=2.0 * DAY.length_s)
            known = (await self._tallies.read([page]))[0]
        except CacheError as error:
            if not self._failing:
                log.warning("budgets hold for each process by itself: %s", error)
            self._failing = True
            return
        self._failing = False
        if day == self._day:
            # What was put away may be more than what could be read, while the store failed.
            for client, spent in known.items():
                self._known[client] = max(spent, self._known.get(client, 0))
