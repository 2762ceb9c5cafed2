"""Sums of tokens and dollars, apart by how they are known, and how far they can be trusted."""

from dataclasses import dataclass, field

from proxy import money
from proxy.money import Cost
from proxy.usage import Method, Usage


@dataclass(slots=True)
class Sums:
    """Tokens and dollars that are known in one way."""

    input: int = 0
    output: int = 0
    answers: int = 0
    usd: int = 0
    usd_list: int = 0
    unpriced: int = 0
    lower_bounds: int = 0

    def add(self, usage: Usage, cost: Cost | None) -> None:
        """Count one answer."""
        self.answers += 1
        self.input += usage.input_tokens
        self.output += usage.output_tokens
        if cost is None:
            self.unpriced += 1
        else:
            self.usd += cost.usd
            self.usd_list += cost.usd_list
        if usage.lower_bound:
            self.lower_bounds += 1

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

    def add(self, usage: Usage | None, cost: Cost | None) -> None:
        """Count one answer."""
        self.answers += 1
        if usage is None:
            self.without_usage += 1
        elif usage.method is Method.MEASURED:
            self.measured.add(usage, cost)
        else:
            self.without_usage += 1
            self.count(usage, cost)

    def count(self, usage: Usage, cost: Cost | None) -> None:
        """Add what was found out of an answer that had been added without a usage."""
        (self.counted if usage.method is Method.COUNTED else self.estimated).add(usage, cost)

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
