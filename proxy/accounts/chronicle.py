"""Puts what the ledger counted away by minute, hour and day, beside what other processes count, and reads it again."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from proxy.accounts.books import Books
from proxy.accounts.ledger import Ledger
from proxy.accounts.periods import EVER, KEEP_EVER_S, PERIODS, Window, period, starts
from proxy.errors import CacheError
from proxy.ports import Shelf, Tallies
from proxy.tasks import Tasks

log = logging.getLogger(__name__)

EVERY_S = 1.0
"""How long what was counted waits to be put away; how far /stats may lag behind other processes."""

CLOSE_S = 5.0
"""How long putting away the last of it may take."""

FRESH_S = 1.0
"""How long what was read serves whoever asks next."""

MAX_WAITING_PAGES = 512
"""Pages that wait for a store that fails. What is over is lost, the oldest first, but never the page of everything."""

SINCE = "ledger.since"

_TOTAL = "total//"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What was counted in one window."""

    start: float
    end: float
    step_s: int
    whole: Books
    steps: Mapping[int, Books]
    """The totals step by step, by the second at which each began; in time's order."""
    days: Mapping[int, Books]
    """Everything by day of UTC, for the days of which there is something."""


class Chronicle:
    """The books of all processes that count together.

    What was taken from the ledger and could not be put away waits for the next time. Where a store fails after it has
    added a page and before it could say so, that page is added again: a second's worth, counted twice.
    """

    def __init__(
        self,
        ledger: Ledger,
        tallies: Tallies,
        shelf: Shelf,
        *,
        tasks: Tasks,
        shared: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._tallies = tallies
        self._shelf = shelf
        self._tasks = tasks
        self._over = asyncio.Event()
        self.shared = shared
        """Whether others count here too, or did before this process began."""
        self._now = now
        self._waiting: dict[str, tuple[dict[str, int], float]] = {}
        self._putting = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._failing = False
        self._since: float | None = None
        self._spans: dict[Window, tuple[float, Span]] = {}

    def __repr__(self) -> str:
        return f"<Chronicle, {len(self._waiting)} pages wait>"

    async def keep(self) -> None:
        """Put away what was counted, now and then, until it is closed."""
        while not self._over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), EVERY_S)
            await self.put_away()

    async def close(self) -> None:
        """Put away what is left."""
        self._over.set()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.put_away()
        except TimeoutError:
            log.warning("what was counted last could not be put away within %g s", CLOSE_S)

    async def put_away(self) -> None:
        """Put away what was counted since the last time. A store that fails is told of in the log."""
        # Who waits may leave in the middle; a page half put away would be added again.
        await asyncio.shield(self._tasks.start(self._put_away(), name="putting away what was counted"))

    async def _put_away(self) -> None:
        async with self._putting:
            for at, books in self._ledger.take().items():
                # Of hundreds of models it takes longer than anybody else should wait; nobody writes in these any more.
                numbers = await asyncio.to_thread(_spelt, books)
                for each in PERIODS:
                    self._wait(each.page(at), numbers, each.keep_s)
                self._wait(EVER, numbers, KEEP_EVER_S)
            for page in list(self._waiting):
                numbers, keep_s = self._waiting[page]
                try:
                    await self._began()
                    await self._tallies.add(page, numbers, keep_s=keep_s)
                except CacheError as error:
                    self._failed(error)
                    break
                del self._waiting[page]
                # A store in memory never waits, and many names take milliseconds.
                await asyncio.sleep(0)
            else:
                self._failing = False
            while len(self._waiting) > MAX_WAITING_PAGES:
                del self._waiting[next(page for page in self._waiting if page != EVER)]

    def _wait(self, page: str, numbers: Mapping[str, int], keep_s: float) -> None:
        waiting = self._waiting.get(page)
        if waiting is None:
            self._waiting[page] = dict(numbers), keep_s
        else:
            _add(waiting[0], numbers)

    def _failed(self, error: CacheError) -> None:
        if not self._failing:
            self._failing = True
            log.warning("what was counted cannot be put away and waits: %s", error)

    async def ever(self) -> tuple[Books, float] | None:
        """What all processes counted, and since when; None where that cannot be read."""
        await self.put_away()
        try:
            pages = await self._tallies.read([EVER])
            return Books.of(*pages), await self._began()
        except CacheError as error:
            self._failed(error)
            return None

    async def _began(self) -> float:
        if self._since is None:
            told = await self._shelf.create(SINCE, b"%.3f" % self._ledger.since)
            try:
                self._since = float(told)
            except ValueError as error:
                raise CacheError(f"{SINCE} is not a moment") from error
        return self._since

    async def read(self, window: Window) -> Span:
        """What was counted in *window*, by all processes.

        Raises:
            CacheError: it cannot be read.
        """
        async with self._reading:
            now = self._now()
            known = self._spans.get(window)
            if known is not None and 0 <= now - known[0] < FRESH_S:
                return known[1]
            await self.put_away()
            steps = starts(window, now)
            each = period(window)
            pages = [each.page(start) for start in steps]
            if window is Window.ALL:
                pages.append(EVER)
            read = await self._tallies.read(pages)
            start = await self._began() if window is Window.ALL else float(steps[0])
            whole = read[len(steps) :] or read
            # Thousands of numbers: adding them up takes longer than anybody else should wait.
            span = await asyncio.to_thread(_span, steps, read, whole, start=start, end=now, step_s=each.length_s)
            self._spans[window] = now, span
            return span


def _spelt(books: Books) -> Mapping[str, int]:
    return dict(books.numbers())


def _span(
    steps: list[int],
    read: Iterable[Mapping[str, int]],
    whole: Iterable[Mapping[str, int]],
    *,
    start: float,
    end: float,
    step_s: int,
) -> Span:
    days: dict[int, dict[str, int]] = {}
    totals: dict[int, Books] = {}
    for at, page in zip(steps, read, strict=False):
        totals[at] = Books.of({name: number for name, number in page.items() if name.startswith(_TOTAL)})
        if page:
            _add(days.setdefault(at - at % 86_400, {}), page)
    summed: dict[str, int] = {}
    for page in whole:
        _add(summed, page)
    return Span(
        start=start,
        end=end,
        step_s=step_s,
        whole=Books.of(summed),
        steps=totals,
        days={day: Books.of(numbers) for day, numbers in days.items()},
    )


def _add(numbers: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        numbers[name] = numbers.get(name, 0) + number
