"""What was counted over one span of time: as figures to show, and as whole numbers that others can be added to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.accounts import money
from proxy.accounts.latency import Latency
from proxy.accounts.receipts import FetchReceipt, Overhead, Receipt
from proxy.accounts.sums import Tokens, coverage
from proxy.accounts.usage import Method
from proxy.model import CutOff, Outcome, Reason, Unkept

OTHER = "(other)"
"""Where everything is counted whose name came after as many others as are told apart."""

OF_NO_TIER = "none"
"""The tier of whatever no tier answered: the provider was asked, or nobody."""

OF_JOINED = "joined"
"""The tier of calls that a fetch answered which somebody else had begun."""


ITEMS = "items"
"""The tier of parts of a request that were answered before."""

TIERS = ("exact", "semantic", OF_JOINED, ITEMS, OF_NO_TIER)
"""Every tier that there is."""


class Axis(StrEnum):
    """By what calls are counted apart."""

    MODEL = "model"
    """By the model that the request names."""
    CLIENT = "client"
    """By the client whose key it carried."""
    TEAM = "team"
    """By that client's team."""
    TIER = "tier"
    """By what answered: one of ``TIERS``."""


Names = Mapping[Axis, str]
"""Under which names one thing is counted."""


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
class Line:
    """What came of the calls that have one name in common."""

    outcomes: Outcomes = field(default_factory=Outcomes)
    spent: Tokens = field(default_factory=Tokens)
    saved: Tokens = field(default_factory=Tokens)

    def merge(self, other: "Line") -> None:
        """Add what *other* counted."""
        for outcome, count in other.outcomes.counts.items():
            self.outcomes.counts[outcome] += count
        self.spent.merge(other.spent)
        self.saved.merge(other.saved)

    def numbers(self) -> Iterator[tuple[str, int]]:
        """What was counted, by name, as numbers that others can be added to; zeros left out."""
        for outcome, count in self.outcomes.counts.items():
            if count:
                yield str(outcome), count
        for kind, tokens in (("spent", self.spent), ("saved", self.saved)):
            for name, number in tokens.numbers():
                yield f"{kind}.{name}", number

    def take(self, name: str, number: int) -> None:
        """Add one of those numbers; a name that is none is left alone."""
        kind, dot, below = name.partition(".")
        if dot and kind in ("spent", "saved"):
            (self.spent if kind == "spent" else self.saved).take(below, number)
        elif name in self.outcomes.counts:
            self.outcomes.counts[Outcome(name)] += number

    def shown(self, prices_as_of: str) -> dict[str, object]:
        """As JSON."""
        return {**self.outcomes.shown(), "tokens": _tokens(self.spent, self.saved, prices_as_of)}


_PLAIN = (
    "kept",
    "fetches",
    "forwards",
    "clients_left",
    "bytes_from_clients",
    "bytes_to_clients",
    "bytes_from_upstream",
    "saved_us",
    "inputs",
    "inputs_found",
)
"""Counters that are one number each."""


@dataclass(slots=True)
class Books:
    """Everything that was counted over one span of time. Zeros included, once it is shown."""

    total: Line = field(default_factory=Line)
    lines: dict[Axis, dict[str, Line]] = field(default_factory=lambda: {axis: {} for axis in Axis})
    reasons: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    unkept: dict[Unkept, int] = field(default_factory=lambda: dict.fromkeys(Unkept, 0))
    kept: int = 0
    fetches: int = 0
    forwards: int = 0
    clients_left: int = 0
    bytes_from_clients: int = 0
    bytes_to_clients: int = 0
    bytes_from_upstream: int = 0
    saved_us: int = 0
    """Microseconds that the provider had taken for what was given again, less what that took."""
    inputs: int = 0
    """Embeddings that were asked for, many in one request."""
    inputs_found: int = 0
    repeats: Tokens = field(default_factory=Tokens)
    overheads: dict[Overhead, Tokens] = field(default_factory=lambda: {kind: Tokens() for kind in Overhead})
    latency: dict[Outcome, Latency] = field(default_factory=lambda: {outcome: Latency() for outcome in Outcome})
    tier_latency: dict[str, Latency] = field(default_factory=lambda: {tier: Latency() for tier in TIERS})
    first_byte: dict[Outcome, Latency] = field(default_factory=lambda: {outcome: Latency() for outcome in Outcome})

    def __bool__(self) -> bool:
        return next(self.numbers(), None) is not None

    def line(self, axis: Axis, name: str) -> Line:
        """The line of what is called *name*."""
        lines = self.lines[axis]
        found = lines.get(name)
        if found is None:
            found = lines[name] = Line()
        return found

    def _each(self, names: Names) -> list[Line]:
        return [self.total, *(self.line(axis, name) for axis, name in names.items())]

    def call(self, receipt: Receipt, names: Names, *, times: int) -> None:
        """Count a call that is over, and as many *times* again as it came."""
        # Who left before the end was not spared the whole answer; nothing is claimed for it.
        saved = receipt.outcome is Outcome.HIT and receipt.cut is CutOff.DELIVERED
        for line in self._each(names):
            line.outcomes.counts[receipt.outcome] += times
            if saved:
                line.saved.add(receipt.saved, receipt.saved_cost, times=times)
        self.reasons[receipt.reason] += times
        self.bytes_from_clients += receipt.bytes_in * times
        self.bytes_to_clients += receipt.bytes_out * times
        self.inputs += receipt.inputs * times
        self.inputs_found += receipt.inputs_found * times
        if receipt.cut is CutOff.CLIENT_LEFT:
            self.clients_left += times

    def fetch(self, receipt: FetchReceipt, names: Names) -> None:
        """Count a request to the provider that is over."""
        self.fetches += 1
        self.bytes_from_upstream += receipt.bytes_in
        if receipt.kept:
            self.kept += 1
        elif receipt.unkept is not None:
            self.unkept[receipt.unkept] += 1
        if receipt.status == 200:
            for line in self._each(names):
                line.spent.add(receipt.usage, receipt.cost)
            if receipt.overhead is not None:
                self.overheads[receipt.overhead].add(receipt.usage, receipt.cost)

    def spent(self, names: Names) -> list[Tokens]:
        """Where what was spent under *names* is counted."""
        return [line.spent for line in self._each(names)]

    def saved(self, names: Names) -> list[Tokens]:
        """Where what was saved under *names* is counted."""
        return [line.saved for line in self._each(names)]

    def merge(self, other: "Books") -> None:
        """Add what *other* counted."""
        self.total.merge(other.total)
        for axis, lines in other.lines.items():
            for name, line in lines.items():
                self.line(axis, name).merge(line)
        for reason, count in other.reasons.items():
            self.reasons[reason] += count
        for unkept, count in other.unkept.items():
            self.unkept[unkept] += count
        for name in _PLAIN:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.repeats.merge(other.repeats)
        for kind, tokens in other.overheads.items():
            self.overheads[kind].merge(tokens)
        for outcome in Outcome:
            self.latency[outcome].merge(other.latency[outcome])
            self.first_byte[outcome].merge(other.first_byte[outcome])
        for tier in TIERS:
            self.tier_latency[tier].merge(other.tier_latency[tier])

    def numbers(self) -> Iterator[tuple[str, int]]:
        """Everything, by name, as numbers that others can be added to; zeros left out."""
        for name, number in self.total.numbers():
            yield f"total//{name}", number
        for axis, lines in self.lines.items():
            for called, line in lines.items():
                # A lone surrogate of a request's JSON could be written nowhere.
                spelt = called.encode("utf-8", "replace").decode()
                for name, number in line.numbers():
                    yield f"{axis}/{spelt}/{name}", number
        for reason, count in self.reasons.items():
            if count:
                yield f"reason//{reason}", count
        for unkept, count in self.unkept.items():
            if count:
                yield f"unkept//{unkept}", count
        for name in _PLAIN:
            if number := getattr(self, name):
                yield f"plain//{name}", number
        for name, number in self.repeats.numbers():
            yield f"repeats//{name}", number
        for kind, tokens in self.overheads.items():
            for name, number in tokens.numbers():
                yield f"overhead/{kind}/{name}", number
        for outcome in Outcome:
            for name, number in self.latency[outcome].numbers():
                yield f"latency/{outcome}/{name}", number
            for name, number in self.first_byte[outcome].numbers():
                yield f"first_byte/{outcome}/{name}", number
        for tier, latency in self.tier_latency.items():
            for name, number in latency.numbers():
                yield f"tier_latency/{tier}/{name}", number

    @classmethod
    def of(cls, *pages: Mapping[str, int]) -> "Books":
        """The books whose numbers *pages* are, summed; a name that this version does not know is left alone."""
        books = cls()
        for page in pages:
            for spelt, number in page.items():
                part, _, rest = spelt.partition("/")
                called, _, name = rest.rpartition("/")
                books._take(part, called, name, number)
        return books

    def _take(self, part: str, called: str, name: str, number: int) -> None:
        match part:
            case "total":
                self.total.take(name, number)
            case "model" | "client" | "team" | "tier":
                self.line(Axis(part), called).take(name, number)
            case "reason" if name in self.reasons:
                self.reasons[Reason(name)] += number
            case "unkept" if name in self.unkept:
                self.unkept[Unkept(name)] += number
            case "plain" if name in _PLAIN:
                setattr(self, name, getattr(self, name) + number)
            case "repeats":
                self.repeats.take(name, number)
            case "overhead" if called in self.overheads:
                self.overheads[Overhead(called)].take(name, number)
            case "latency" if called in self.latency:
                self.latency[Outcome(called)].take(name, number)
            case "tier_latency" if called in self.tier_latency:
                self.tier_latency[called].take(name, number)
            case "first_byte" if called in self.first_byte:
                self.first_byte[Outcome(called)].take(name, number)
            case _:
                pass

    def shown(self, prices_as_of: str) -> dict[str, object]:
        """As JSON: the figures that have a meaning over any span. ``forwarded`` is not among the requests."""
        totals = self.total.outcomes.shown()
        answered = totals["hits"] + totals["joined"]
        return {
            **totals,
            "hit_rate": round(answered / totals["requests"], 4) if totals["requests"] else 0.0,
            "forwarded": self.forwards,
            "clients_left": self.clients_left,
            "reasons": {str(reason): count for reason, count in self.reasons.items()},
            "fetches": self.fetches,
            "kept": self.kept,
            "unkept": {str(unkept): count for unkept, count in self.unkept.items()},
            "inputs": {"asked": self.inputs, "found": self.inputs_found},
            "bytes": {
                "from_clients": self.bytes_from_clients,
                "to_clients": self.bytes_to_clients,
                "from_upstream": self.bytes_from_upstream,
            },
            "tokens": _tokens(self.total.spent, self.total.saved, prices_as_of),
            "savings": self._savings(),
            "prices_as_of": prices_as_of,
            "time_saved_s": round(self.saved_us / 1_000_000, 3),
            "latency_ms": {str(outcome): figures.shown() for outcome, figures in self.latency.items()},
            "tier_latency_ms": {tier: figures.shown() for tier, figures in self.tier_latency.items()},
            "first_byte_ms": {str(outcome): figures.shown() for outcome, figures in self.first_byte.items()},
        }

    def _savings(self) -> dict[str, object]:
        """Gross and net, apart by how they are known; what the provider's own prompt cache took off stands beside."""
        saved, spent = self.total.saved, self.total.spent
        overhead = Tokens()
        for tokens in self.overheads.values():
            overhead.merge(tokens)
        gross = {method: sums.usd_list for method, sums in saved.ways.items()}
        net = {method: sums.usd_net - overhead.ways[method].usd for method, sums in saved.ways.items()}
        discount = {method: sums.usd_list - sums.usd for method, sums in spent.ways.items()}
        return {
            "gross": money.text(gross[Method.MEASURED]),
            "net": money.text(net[Method.MEASURED]),
            **{
                str(method): {"gross": money.text(gross[method]), "net": money.text(net[method])}
                for method in (Method.COUNTED, Method.ESTIMATED)
            },
            "overhead": {str(kind): tokens.shown() for kind, tokens in self.overheads.items()},
            "prompt_cache": {"usd": money.text(discount[Method.MEASURED])},
        }

    def shown_lines(self, axis: Axis, prices_as_of: str) -> dict[str, object]:
        """As JSON: what came of everything by its name on *axis*."""
        lines = self.lines[axis]
        if axis is Axis.TIER:
            lines = {tier: lines.get(tier, Line()) for tier in (*TIERS, *lines)}
        return {name: line.shown(prices_as_of) for name, line in lines.items()}

    def opportunity(self) -> dict[str, object]:
        """As JSON: what repeats cost that only the temperature kept out."""
        measured = self.repeats.measured
        return {
            "repeats": self.repeats.answers,
            "tokens": {"input": measured.input, "output": measured.output},
            "usd": money.text(measured.usd),
            "unpriced": measured.unpriced,
        }


def _tokens(spent: Tokens, saved: Tokens, prices_as_of: str) -> dict[str, object]:
    return {"spent": spent.shown(), "saved": saved.shown(), "coverage": coverage(saved, prices_as_of)}
