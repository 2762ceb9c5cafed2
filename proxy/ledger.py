"""Adds up receipts, and only receipts: one for each call that ended, one for each fetch that landed."""

import math
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.model import CutOff, Key, Outcome, Reason, Unkept
from proxy.receipts import FetchReceipt, Receipt
from proxy.usage import Usage

OTHER_MODELS = "(other)"
"""Where calls are counted whose model came after ``ledger.max_models`` others."""


@dataclass(slots=True)
class Tokens:
    """Sums of tokens."""

    input: int = 0
    output: int = 0
    answers: int = 0
    without_usage: int = 0

    def add(self, usage: Usage | None) -> None:
        """Count one answer."""
        self.answers += 1
        if usage is None:
            self.without_usage += 1
        else:
            self.input += usage.input_tokens
            self.output += usage.output_tokens

    def shown(self) -> dict[str, int]:
        """As JSON."""
        return {
            "input": self.input,
            "output": self.output,
            "answers": self.answers,
            "without_usage": self.without_usage,
        }


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
class _Outcomes:
    """Calls by outcome; every outcome is always there."""

    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))

    def shown(self) -> dict[str, int]:
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
class _Model:
    outcomes: _Outcomes = field(default_factory=_Outcomes)
    spent: Tokens = field(default_factory=Tokens)
    saved: Tokens = field(default_factory=Tokens)


class Ledger:
    """The counters behind ``/stats``. Every counter is always there, zeros included."""

    def __init__(
        self, *, max_models: int = 200, max_opportunities: int = 65536, now: Callable[[], float] = time.time
    ) -> None:
        self._max_models = max_models
        self._max_seen = max_opportunities
        self._since = now()
        self._now = now
        self._outcomes = _Outcomes()
        self._reasons: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self._unkept: dict[Unkept, int] = dict.fromkeys(Unkept, 0)
        self._kept = 0
        self._fetches = 0
        self._forwarded = 0
        self._left = 0
        self._bytes_from_clients = 0
        self._bytes_to_clients = 0
        self._bytes_from_upstream = 0
        self._spent = Tokens()
        self._saved = Tokens()
        self._saved_s = 0.0
        self._latency = {outcome: Latency() for outcome in Outcome}
        self._first = {outcome: Latency() for outcome in Outcome}
        self._models: dict[str, _Model] = {}
        self._seen: OrderedDict[Key, None] = OrderedDict()
        self._repeats = Tokens()

    def __repr__(self) -> str:
        return f"<Ledger, {sum(self._outcomes.counts.values())} calls, {self._fetches} fetches>"

    def record(self, receipt: Receipt) -> None:
        """One call on a cached path is over."""
        self._add(receipt, receipt.first_s, receipt.total_s)

    def again(self, receipt: Receipt, *, seconds: float) -> None:
        """One more call like that of *receipt* is over, in *seconds*."""
        self._add(receipt, seconds, seconds)

    def _add(self, receipt: Receipt, first_s: float, total_s: float) -> None:
        self._outcomes.counts[receipt.outcome] += 1
        self._reasons[receipt.reason] += 1
        model = self._model(receipt.model)
        model.outcomes.counts[receipt.outcome] += 1
        self._bytes_from_clients += receipt.bytes_in
        self._bytes_to_clients += receipt.bytes_out
        if receipt.cut is CutOff.CLIENT_LEFT:
            self._left += 1
        self._latency[receipt.outcome].add(total_s)
        if receipt.status:
            # Without a status the client left before there was a first octet to wait for.
            self._first[receipt.outcome].add(first_s)
        # Who left before the end was not spared the whole answer; nothing is claimed for it.
        if receipt.outcome is Outcome.HIT and receipt.cut is CutOff.DELIVERED:
            self._saved.add(receipt.saved)
            model.saved.add(receipt.saved)
            self._saved_s += max(0.0, receipt.saved_s - total_s)

    def fetched(self, receipt: FetchReceipt) -> None:
        """One request to the provider is over."""
        self._fetches += 1
        self._bytes_from_upstream += receipt.bytes_in
        if receipt.kept:
            self._kept += 1
        elif receipt.unkept is not None:
            self._unkept[receipt.unkept] += 1
        if receipt.status == 200:
            self._spent.add(receipt.usage)
            self._model(receipt.model).spent.add(receipt.usage)
        key = receipt.repeatable_key
        if key is not None:
            if key in self._seen:
                self._repeats.add(receipt.usage)
                self._seen.move_to_end(key)
            else:
                self._seen[key] = None
                if len(self._seen) > self._max_seen:
                    self._seen.popitem(last=False)

    def spared(self, model: str, usage: Usage | None) -> None:
        """A call that had joined a fetch was spared one of its own, which had cost *usage*."""
        self._saved.add(usage)
        self._model(model).saved.add(usage)

    def forwarded(self) -> None:
        """One call on a path that is not cached is over."""
        self._forwarded += 1

    def _model(self, name: str) -> _Model:
        found = self._models.get(name)
        if found is None:
            if len(self._models) >= self._max_models:
                name = OTHER_MODELS
            found = self._models.setdefault(name, _Model())
        return found

    def shown(self) -> Mapping[str, object]:
        """Everything, as JSON. ``requests = hits + joined + misses + bypassed + errors``; ``forwarded`` is apart."""
        totals = self._outcomes.shown()
        answered = totals["hits"] + totals["joined"]
        return {
            "since": _iso(self._since),
            "uptime_s": round(self._now() - self._since, 3),
            **totals,
            "hit_rate": round(answered / totals["requests"], 4) if totals["requests"] else 0.0,
            "forwarded": self._forwarded,
            "clients_left": self._left,
            "reasons": {str(reason): count for reason, count in self._reasons.items()},
            "fetches": self._fetches,
            "kept": self._kept,
            "unkept": {str(unkept): count for unkept, count in self._unkept.items()},
            "bytes": {
                "from_clients": self._bytes_from_clients,
                "to_clients": self._bytes_to_clients,
                "from_upstream": self._bytes_from_upstream,
            },
            "tokens": {"spent": self._spent.shown(), "saved": self._saved.shown()},
            "time_saved_s": round(self._saved_s, 3),
            "latency_ms": {str(outcome): figures.shown() for outcome, figures in self._latency.items()},
            "first_byte_ms": {str(outcome): figures.shown() for outcome, figures in self._first.items()},
            "models": {
                name: {**model.outcomes.shown(), "tokens": {"spent": model.spent.shown(), "saved": model.saved.shown()}}
                for name, model in self._models.items()
            },
            "opportunity": {
                "repeats": self._repeats.answers,
                "tokens": {"input": self._repeats.input, "output": self._repeats.output},
            },
        }


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
