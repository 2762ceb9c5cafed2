"""Sums of tokens and dollars, apart by how they are known, and how far they can be trusted."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.accounts import money
from proxy.accounts.money import Cost
from proxy.accounts.usage import Method, Usage

WIDE = 10**9
"""Dollars are written as two numbers of this base: as one they might not fit the 64 bits that stores count in."""

_PLAIN = ("input", "output", "answers", "unpriced", "lower_bounds")
_MONEY = ("usd", "usd_list", "usd_net")


@dataclass(slots=True)
class Sums:
    """Tokens and dollars that are known in one way."""

    input: int = 0
    output: int = 0
    answers: int = 0
    usd: int = 0
    usd_list: int = 0
    usd_net: int = 0
    unpriced: int = 0
    lower_bounds: int = 0

    def add(self, usage: Usage, cost: Cost | None, *, times: int = 1) -> None:
        """Count an answer, given *times*."""
        self.answers += times
        self.input += usage.input_tokens * times
        self.output += usage.output_tokens * times
        if cost is None:
            self.unpriced += times
        else:
            self.usd += cost.usd * times
            self.usd_list += cost.usd_list * times
            self.usd_net += cost.net * times
        if usage.lower_bound:
            self.lower_bounds += times

    def merge(self, other: "Sums") -> None:
        """Add what *other* counted."""
        self.input += other.input
        self.output += other.output
        self.answers += other.answers
        self.usd += other.usd
        self.usd_list += other.usd_list
        self.usd_net += other.usd_net
        self.unpriced += other.unpriced
        self.lower_bounds += other.lower_bounds

    def numbers(self) -> Iterator[tuple[str, int]]:
        """What was counted, by name, as numbers that others can be added to; zeros left out."""
        for name in _PLAIN:
            if number := getattr(self, name):
                yield name, number
        for name in _MONEY:
            wide, rest = divmod(getattr(self, name), WIDE)
            if rest:
                yield name, rest
            if wide:
                yield f"{name}+", wide

    def take(self, name: str, number: int) -> None:
        """Add one of those numbers; a name that is none is left alone."""
        if name in _PLAIN or name in _MONEY:
            setattr(self, name, getattr(self, name) + number)
        elif name.endswith("+") and name[:-1] in _MONEY:
            self.take(name[:-1], number * WIDE)

    @property
    def total(self) -> int:
        """Input and output together."""
        return self.input + self.output

    def shown(self) -> dict[str, object]:
        """As JSON; dollars as texts, for they are exact."""
        return {
            "input": self.input,
            "output": self.output,
            "answers": self.answers,
            "usd": money.text(self.usd),
            "usd_list": money.text(self.usd_list),
            "unpriced": self.unpriced,
            "lower_bounds": self.lower_bounds,
        }


@dataclass(slots=True)
class Tokens:
    """Sums over answers, apart by how they are known."""

    answers: int = 0
    without_usage: int = 0
    measured: Sums = field(default_factory=Sums)
    counted: Sums = field(default_factory=Sums)
    estimated: Sums = field(default_factory=Sums)

    def add(self, usage: Usage | None, cost: Cost | None, *, times: int = 1) -> None:
        """Count an answer, given *times*."""
        self.answers += times
        if usage is None:
            self.without_usage += times
        elif usage.method is Method.MEASURED:
            self.measured.add(usage, cost, times=times)
        else:
            self.without_usage += times
            self.count(usage, cost, times=times)

    def count(self, usage: Usage, cost: Cost | None, *, times: int = 1) -> None:
        """Add what was found out of an answer that had been added without a usage."""
        (self.counted if usage.method is Method.COUNTED else self.estimated).add(usage, cost, times=times)

    def merge(self, other: "Tokens") -> None:
        """Add what *other* counted."""
        self.answers += other.answers
        self.without_usage += other.without_usage
        for method, sums in self.ways.items():
            sums.merge(other.ways[method])

    def numbers(self) -> Iterator[tuple[str, int]]:
        """What was counted, by name, as numbers that others can be added to; zeros left out."""
        if self.answers:
            yield "answers", self.answers
        if self.without_usage:
            yield "without_usage", self.without_usage
        for method, sums in self.ways.items():
            for name, number in sums.numbers():
                yield f"{method}.{name}", number

    def take(self, name: str, number: int) -> None:
        """Add one of those numbers; a name that is none is left alone."""
        method, dot, below = name.partition(".")
        if dot and method in self.ways:
            self.ways[Method(method)].take(below, number)
        elif name == "answers":
            self.answers += number
        elif name == "without_usage":
            self.without_usage += number

    @property
    def ways(self) -> dict[Method, Sums]:
        """The sums by how they are known."""
        return {Method.MEASURED: self.measured, Method.COUNTED: self.counted, Method.ESTIMATED: self.estimated}

    def shown(self) -> dict[str, object]:
        """As JSON: what was measured, and beside it what was counted and estimated."""
        measured = self.measured
        return {
            "input": measured.input,
            "output": measured.output,
            "answers": self.answers,
            "without_usage": self.without_usage,
            "usd": money.text(measured.usd),
            "usd_list": money.text(measured.usd_list),
            "unpriced": measured.unpriced,
            "counted": self.counted.shown(),
            "estimated": self.estimated.shown(),
        }


def coverage(saved: Tokens, prices_as_of: str) -> dict[str, object]:
    """How far the figures of *saved* can be trusted: shares of its tokens by how they are known, and a sentence."""
    ways = saved.ways
    total = sum(sums.total for sums in ways.values())
    shares = {method: sums.total / total if total else 0.0 for method, sums in ways.items()}
    unpriced = sum(sums.unpriced for sums in ways.values())
    unknown = saved.answers - sum(sums.answers for sums in ways.values())
    if total:
        first, *others = (f"{_percent(share)}{{}} {method}" for method, share in shares.items() if share)
        parts = [", ".join([first.format(" of saved tokens"), *(other.format("") for other in others)])]
    else:
        parts = ["no tokens saved yet"]
    if unpriced:
        parts.append(f"{unpriced} {_answers(unpriced)} unpriced")
    if unknown:
        parts.append(f"{unknown} {_answers(unknown)} of unknown length")
    if prices_as_of:
        parts.append(f"prices as of {prices_as_of}")
    return {**{str(method): round(share, 4) for method, share in shares.items()}, "sentence": "; ".join(parts)}


def _percent(share: float) -> str:
    # Never all of it while something is missing, never nothing while something is there.
    rounded = round(share * 100, 1)
    if rounded == 100 and share < 1:
        return "over 99.9 %"
    if rounded == 0 and share > 0:
        return "under 0.1 %"
    return f"{rounded:g} %"


def _answers(count: int) -> str:
    return "answer" if count == 1 else "answers"
