"""Adds up receipts, and only receipts: for each call that ended, each fetch that landed, each request of our own."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

from proxy.accounts import money
from proxy.accounts.books import OF_JOINED, OF_NO_TIER, OTHER, Axis, Books, Names
from proxy.accounts.latency import place
from proxy.accounts.money import Cost
from proxy.accounts.receipts import FetchReceipt, OverheadReceipt, Receipt
from proxy.accounts.usage import Usage
from proxy.labels import SHORT_KEY
from proxy.model import CutOff, Key, Outcome

MAX_PENDING = 512
"""Receipts of calls that wait to be added up: of hits many are the same, and their sums are made only once."""

MAX_MINUTES = 120
"""Minutes that wait to be taken; the oldest runs together with the one after it."""

MINUTE_S = 60

_Noted = tuple[float, Receipt, float, float]


class Ledger:
    """The counters behind ``/stats``, since the process began and minute by minute."""

    def __init__(
        self,
        *,
        max_models: int = 200,
        max_opportunities: int = 65536,
        max_requests: int = 1000,
        prices_as_of: str = "",
        spend: Callable[[str, Cost | None], None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._max_models = max_models
        self._spend = spend
        """Told who spent what, as soon as that is known."""
        self._max_seen = max_opportunities
        self.prices_as_of = prices_as_of
        self._recent: deque[_Noted] = deque(maxlen=max_requests)
        self._pending: list[_Noted] = []
        self.since = now()
        self._now = now
        self._turn = -math.inf
        """When the minute is over that is being added up."""
        self._models: set[str] = set()
        self._totals = Books()
        self._minute = Books()
        self._untouched = True
        self._closed: dict[int, Books] = {}
        self._seen: OrderedDict[Key, None] = OrderedDict()

    def __repr__(self) -> str:
        books = self.books()
        return f"<Ledger, {sum(books.total.outcomes.counts.values())} calls, {books.fetches} fetches>"

    def record(self, receipt: Receipt) -> None:
        """One call on a cached path is over."""
        self._note(receipt, receipt.first_s, receipt.total_s)

    def again(self, receipt: Receipt, *, seconds: float) -> None:
        """One more call like that of *receipt* is over, in *seconds*."""
        self._note(receipt, seconds, seconds)

    def _note(self, receipt: Receipt, first_s: float, total_s: float) -> None:
        now = self._now()
        if now >= self._turn or len(self._pending) >= MAX_PENDING:
            self._turned(now)
        noted = (now, receipt, first_s, total_s)
        self._recent.append(noted)
        self._pending.append(noted)

    def _turned(self, now: float) -> None:
        """What comes from here on belongs to the minute of *now*."""
        self._add_up()
        if now >= self._turn:
            self._close()
            self._turn = (now // MINUTE_S + 1) * MINUTE_S

    def _here(self) -> Books:
        """The books of this minute, to be written in."""
        now = self._now()
        if now >= self._turn:
            self._turned(now)
        self._untouched = False
        return self._minute

    def _add_up(self) -> None:
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        self._untouched = False
        books = self._minute
        times: dict[int, int] = {}
        for _, receipt, first_s, total_s in pending:
            times[id(receipt)] = times.get(id(receipt), 0) + 1
            at = place(total_s)
            books.latency[receipt.outcome].put(total_s, at)
            books.tier_latency[_tier(receipt)].put(total_s, at)
            if receipt.status:
                # Without a status the client left before there was a first octet to wait for.
                books.first_byte[receipt.outcome].put(first_s, at if first_s == total_s else place(first_s))
            if receipt.saved_s and receipt.outcome is Outcome.HIT and receipt.cut is CutOff.DELIVERED:
                books.saved_us += round(max(0.0, receipt.saved_s - total_s) * 1_000_000)
        for _, receipt, _, _ in pending:
            if count := times.pop(id(receipt), 0):
                names = self._called(receipt.model, receipt.client, receipt.team, _tier(receipt))
                books.call(receipt, names, times=count)

    def fetched(self, receipt: FetchReceipt) -> None:
        """One request to the provider is over."""
        books = self._here()
        books.fetch(receipt, self._called(receipt.model, receipt.client, receipt.team, OF_NO_TIER))
        if self._spend is not None and receipt.status == 200:
            self._spend(receipt.client, receipt.cost)
        key = receipt.repeatable_key
        if key is not None:
            if key in self._seen:
                books.repeats.add(receipt.usage, receipt.cost)
                self._seen.move_to_end(key)
            else:
                self._seen[key] = None
                if len(self._seen) > self._max_seen:
                    self._seen.popitem(last=False)

    def spared(
        self,
        model: str,
        usage: Usage | None,
        cost: Cost | None = None,
        *,
        client: str = "",
        team: str = "",
        tier: str = OF_JOINED,
    ) -> None:
        """A call was spared a fetch of its own, or a part of one, which had cost *usage*."""
        for tokens in self._here().saved(self._called(model, client, team, tier)):
            tokens.add(usage, cost)

    def counted_fetch(self, model: str, usage: Usage, cost: Cost | None, *, client: str = "", team: str = "") -> None:
        """What a fetch spent that had named no usage was counted."""
        for tokens in self._here().spent(self._called(model, client, team, OF_NO_TIER)):
            tokens.count(usage, cost)
        if self._spend is not None:
            self._spend(client, cost)

    def counted_spared(
        self, model: str, usage: Usage, cost: Cost | None, *, client: str = "", team: str = "", tier: str = OF_JOINED
    ) -> None:
        """What a call was spared by a fetch that had named no usage was counted."""
        for tokens in self._here().saved(self._called(model, client, team, tier)):
            tokens.count(usage, cost)

    def overhead(self, receipt: OverheadReceipt) -> None:
        """One request of the proxy's own is over."""
        self._here().overheads[receipt.kind].add(receipt.usage, receipt.cost)

    def forwarded(self) -> None:
        """One call on a path that is not cached is over."""
        self._here().forwards += 1

    def _called(self, model: str, client: str, team: str, tier: str) -> Names:
        """Under which names something is counted; models that come after as many others are one."""
        return {
            Axis.MODEL: self._known(model),
            # These are words of the operator's, and of our own.
            Axis.CLIENT: client,
            Axis.TEAM: team,
            Axis.TIER: tier,
        }

    def _known(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) >= self._max_models:
                return OTHER
            self._models.add(model)
        return model

    def _close(self) -> None:
        """Put what was added up to the totals, and away under its minute."""
        if self._untouched:
            return
        minute, self._minute, self._untouched = self._minute, Books(), True
        self._totals.merge(minute)
        at = int(self._turn - MINUTE_S)
        waiting = self._closed.get(at)
        if waiting is not None:
            waiting.merge(minute)
            return
        self._closed[at] = minute
        if len(self._closed) > MAX_MINUTES:
            oldest, after = sorted(self._closed)[:2]
            self._closed[after].merge(self._closed.pop(oldest))

    def books(self) -> Books:
        """Everything since the process began. They go on: read them and let them be."""
        self._add_up()
        self._close()
        return self._totals

    def take(self) -> Mapping[int, Books]:
        """What was counted since this was asked last, by the second at which its minute began."""
        self._add_up()
        self._close()
        closed, self._closed = self._closed, {}
        return closed

    def shown(self, books: Books | None = None, *, since: float | None = None) -> Mapping[str, object]:
        """Everything, as JSON. ``requests = hits + joined + misses + bypassed + errors``; ``forwarded`` is apart.

        *books* stand in for those of this process where several count together, *since* a moment.
        """
        books = books if books is not None else self.books()
        since = since if since is not None else self.since
        return {
            "since": iso(since),
            "uptime_s": round(self._now() - self.since, 3),
            **books.shown(self.prices_as_of),
            "models": books.shown_lines(Axis.MODEL, self.prices_as_of),
            "tiers": books.shown_lines(Axis.TIER, self.prices_as_of),
            "opportunity": books.opportunity(),
        }

    def recent(self) -> list[dict[str, object]]:
        """The last requests, newest first, without a word of what was asked or answered."""
        return [_row(*noted) for noted in reversed(self._recent)]


def _tier(receipt: Receipt) -> str:
    """What answered the call of *receipt*."""
    return receipt.tier or (OF_JOINED if receipt.outcome is Outcome.JOINED else OF_NO_TIER)


def iso(seconds: float) -> str:
    """A moment, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _row(ended: float, receipt: Receipt, first_s: float, total_s: float) -> dict[str, object]:
    usage, cost = receipt.saved, receipt.saved_cost
    if receipt.outcome is not Outcome.HIT:
        bill = receipt.bill
        usage, cost = (bill.usage, bill.cost) if bill is not None else (None, None)
    elif receipt.cut is not CutOff.DELIVERED:
        usage = cost = None
    saved = receipt.outcome in (Outcome.HIT, Outcome.JOINED)
    tokens = (
        {"input": usage.input_tokens, "output": usage.output_tokens, "method": str(usage.method)} if usage else None
    )
    return {
        "time": iso(ended),
        "model": receipt.model,
        "client": receipt.client,
        "team": receipt.team,
        "tag": receipt.tag,
        "outcome": str(receipt.outcome),
        "reason": str(receipt.reason),
        "tier": receipt.tier,
        "status": receipt.status,
        "key": receipt.key[:SHORT_KEY] if receipt.key is not None else None,
        "latency_ms": round(total_s * 1000, 3),
        "first_byte_ms": round(first_s * 1000, 3),
        "cut": str(receipt.cut),
        "tokens": tokens,
        "usd": money.text(cost.usd) if cost is not None else None,
        "counts_as": "saved" if saved else "spent",
    }
