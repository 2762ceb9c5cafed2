"""Adds up receipts, and only receipts: one for each call that ended, one for each fetch that landed."""

import math
import time
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy import money
from proxy.labels import SHORT_KEY
from proxy.model import CutOff, Key, Outcome, Reason, Unkept
from proxy.money import Cost
from proxy.receipts import FetchReceipt, Receipt
from proxy.sums import Tokens, coverage
from proxy.usage import Usage

OTHER_MODELS = "(other)"
"""Where calls are counted whose model came after ``ledger.max_models`` others."""


_EDGES_S = [1e-6 * 1.2**step for step in range(140)]
"""Upper edges of the latency classes, 20 % apart, from a microsecond to about 28 hours."""


@dataclass(slots=True)
class Latency:
    """A histogram of seconds; percentiles are right to 20 %."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(_EDGES_S) + 1))
    count: int = 0
    total_s: float = 0.0
    most_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(_EDGES_S, seconds)] += 1
        self.count += 1
        self.total_s += seconds
        self.most_s = max(self.most_s, seconds)

    def classes(self, step: int) -> list[tuple[float, int]]:
        """Every *step*-th upper edge with how many stayed under it; the last edge is infinite."""
        sums, seen = [], 0
        for at, count in enumerate(self.counts):
            seen += count
            if at % step == 0 and at < len(_EDGES_S):
                sums.append((_EDGES_S[at], seen))
        return [*sums, (math.inf, seen)]

    def percentile(self, share: float) -> float:
        """Seconds that *share* of all stayed under; 0 where there are none."""
        rank = math.ceil(share * self.count)
        seen = 0
        for edge, count in zip(_EDGES_S, self.counts, strict=False):
            seen += count
            if seen >= rank > 0:
                return min(edge, self.most_s)
        return self.most_s

    def shown(self) -> dict[str, float]:
        """As JSON, in milliseconds."""
        figures = {"p50": self.percentile(0.5), "p90": self.percentile(0.9), "p99": self.percentile(0.99)}
        shown: dict[str, float] = {"count": self.count}
        for name, seconds in figures.items():
            shown[name] = round(seconds * 1000, 3)
        shown["mean"] = round(self.total_s / self.count * 1000, 3) if self.count else 0.0
        shown["max"] = round(self.most_s * 1000, 3)
        return shown


@dataclass(slots=True)
class Outcomes:
    """Calls by outcome; every outcome is always there."""

    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))

    def shown(self) -> dict[str, int]:
        """As JSON, with their sum."""
        counts = self.counts
        return {
            "requests": sum(counts.values()),
            "hits": counts[Outcome.HIT],
            "joined": counts[Outcome.JOINED],
            "misses": counts[Outcome.MISS],
            "bypassed": counts[Outcome.BYPASS],
            "errors": counts[Outcome.ERROR],
        }


@dataclass(slots=True)
class Model:
    """What came of the requests that name one model."""

    outcomes: Outcomes = field(default_factory=Outcomes)
    spent: Tokens = field(default_factory=Tokens)
    saved: Tokens = field(default_factory=Tokens)


class Ledger:
    """The counters behind ``/stats``. Every counter is always there, zeros included."""

    def __init__(
        self,
        *,
        max_models: int = 200,
        max_opportunities: int = 65536,
        max_requests: int = 1000,
        prices_as_of: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._max_models = max_models
        self._max_seen = max_opportunities
        self._prices_as_of = prices_as_of
        self._recent: deque[tuple[float, Receipt, float, float]] = deque(maxlen=max_requests)
        self.since = now()
        self._now = now
        self.outcomes = Outcomes()
        self.reasons: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self.unkept: dict[Unkept, int] = dict.fromkeys(Unkept, 0)
        self.kept = 0
        self.fetches = 0
        self.forwards = 0
        self.clients_left = 0
        self.bytes_from_clients = 0
        self.bytes_to_clients = 0
        self.bytes_from_upstream = 0
        self.spent = Tokens()
        self.saved = Tokens()
        self.saved_s = 0.0
        self.latency = {outcome: Latency() for outcome in Outcome}
        self.first_byte = {outcome: Latency() for outcome in Outcome}
        self.models: dict[str, Model] = {}
        self._seen: OrderedDict[Key, None] = OrderedDict()
        self.repeats = Tokens()

    def __repr__(self) -> str:
        return f"<Ledger, {sum(self.outcomes.counts.values())} calls, {self.fetches} fetches>"

    def record(self, receipt: Receipt) -> None:
        """One call on a cached path is over."""
        self._add(receipt, receipt.first_s, receipt.total_s)

    def again(self, receipt: Receipt, *, seconds: float) -> None:
        """One more call like that of *receipt* is over, in *seconds*."""
        self._add(receipt, seconds, seconds)

    def _add(self, receipt: Receipt, first_s: float, total_s: float) -> None:
        self.outcomes.counts[receipt.outcome] += 1
        self.reasons[receipt.reason] += 1
        self._recent.append((self._now(), receipt, first_s, total_s))
        model = self._model(receipt.model)
        model.outcomes.counts[receipt.outcome] += 1
        self.bytes_from_clients += receipt.bytes_in
        self.bytes_to_clients += receipt.bytes_out
        if receipt.cut is CutOff.CLIENT_LEFT:
            self.clients_left += 1
        self.latency[receipt.outcome].add(total_s)
        if receipt.status:
            # Without a status the client left before there was a first octet to wait for.
            self.first_byte[receipt.outcome].add(first_s)
        # Who left before the end was not spared the whole answer; nothing is claimed for it.
        if receipt.outcome is Outcome.HIT and receipt.cut is CutOff.DELIVERED:
            self.saved.add(receipt.saved, receipt.saved_cost)
            model.saved.add(receipt.saved, receipt.saved_cost)
            self.saved_s += max(0.0, receipt.saved_s - total_s)

    def fetched(self, receipt: FetchReceipt) -> None:
        """One request to the provider is over."""
        self.fetches += 1
        self.bytes_from_upstream += receipt.bytes_in
        if receipt.kept:
            self.kept += 1
        elif receipt.unkept is not None:
            self.unkept[receipt.unkept] += 1
        if receipt.status == 200:
            self.spent.add(receipt.usage, receipt.cost)
            self._model(receipt.model).spent.add(receipt.usage, receipt.cost)
        key = receipt.repeatable_key
        if key is not None:
            if key in self._seen:
                self.repeats.add(receipt.usage, receipt.cost)
                self._seen.move_to_end(key)
            else:
                self._seen[key] = None
                if len(self._seen) > self._max_seen:
                    self._seen.popitem(last=False)

    def spared(self, model: str, usage: Usage | None, cost: Cost | None = None) -> None:
        """A call that had joined a fetch was spared one of its own, which had cost *usage*."""
        self.saved.add(usage, cost)
        self._model(model).saved.add(usage, cost)

    def counted_fetch(self, model: str, usage: Usage, cost: Cost | None) -> None:
        """What a fetch spent that had named no usage was counted."""
        self.spent.count(usage, cost)
        self._model(model).spent.count(usage, cost)

    def counted_spared(self, model: str, usage: Usage, cost: Cost | None) -> None:
        """What a call was spared by a fetch that had named no usage was counted."""
        self.saved.count(usage, cost)
        self._model(model).saved.count(usage, cost)

    def forwarded(self) -> None:
        """One call on a path that is not cached is over."""
        self.forwards += 1

    def _model(self, name: str) -> Model:
        found = self.models.get(name)
        if found is None:
            if len(self.models) >= self._max_models:
                name = OTHER_MODELS
            found = self.models.setdefault(name, Model())
        return found

    def shown(self) -> Mapping[str, object]:
        """Everything, as JSON. ``requests = hits + joined + misses + bypassed + errors``; ``forwarded`` is apart."""
        totals = self.outcomes.shown()
        answered = totals["hits"] + totals["joined"]
        return {
            "since": _iso(self.since),
            "uptime_s": round(self._now() - self.since, 3),
            **totals,
            "hit_rate": round(answered / totals["requests"], 4) if totals["requests"] else 0.0,
            "forwarded": self.forwards,
            "clients_left": self.clients_left,
            "reasons": {str(reason): count for reason, count in self.reasons.items()},
            "fetches": self.fetches,
            "kept": self.kept,
            "unkept": {str(unkept): count for unkept, count in self.unkept.items()},
            "bytes": {
                "from_clients": self.bytes_from_clients,
                "to_clients": self.bytes_to_clients,
                "from_upstream": self.bytes_from_upstream,
            },
            "tokens": self._tokens(self.spent, self.saved),
            "prices_as_of": self._prices_as_of,
            "time_saved_s": round(self.saved_s, 3),
            "latency_ms": {str(outcome): figures.shown() for outcome, figures in self.latency.items()},
            "first_byte_ms": {str(outcome): figures.shown() for outcome, figures in self.first_byte.items()},
            "models": {
                name: {**model.outcomes.shown(), "tokens": self._tokens(model.spent, model.saved)}
                for name, model in self.models.items()
            },
            "opportunity": {
                "repeats": self.repeats.answers,
                "tokens": {"input": self.repeats.measured.input, "output": self.repeats.measured.output},
                "usd": money.text(self.repeats.measured.usd),
                "unpriced": self.repeats.measured.unpriced,
            },
        }

    def _tokens(self, spent: Tokens, saved: Tokens) -> dict[str, object]:
        return {"spent": spent.shown(), "saved": saved.shown(), "coverage": coverage(saved, self._prices_as_of)}

    def recent(self) -> list[dict[str, object]]:
        """The last requests, newest first, without a word of what was asked or answered."""
        return [_row(*noted) for noted in reversed(self._recent)]


def _iso(seconds: float) -> str:
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
        "time": _iso(ended),
        "model": receipt.model,
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
