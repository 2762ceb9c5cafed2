"""What the ledger is fed with: a receipt for each call that ended, each fetch that landed, each request of our own."""

from dataclasses import dataclass
from enum import StrEnum

from proxy.accounts.money import Cost
from proxy.accounts.usage import Usage
from proxy.model import CutOff, Key, Outcome, Reason, Unkept
from proxy.values import value


@dataclass(slots=True)
class Bill:
    """What a call that was no hit came to, filled in when its fetch has landed: usage and cost, where known."""

    usage: Usage | None = None
    cost: Cost | None = None

    def settle(self, usage: Usage | None, cost: Cost | None) -> None:
        """It came to this."""
        self.usage, self.cost = usage, cost


@value
class Receipt:
    """One call on a cached path, over."""

    outcome: Outcome
    reason: Reason
    model: str
    status: int
    bytes_in: int
    bytes_out: int
    first_s: float
    """Seconds from the whole request to the head of the reply."""
    total_s: float
    """Seconds from the whole request to the last octet of the reply."""
    cut: CutOff
    tier: str = ""
    saved: Usage | None = None
    """What the provider had billed for the answer that was given again."""
    saved_cost: Cost | None = None
    """What that costs now; None where it has no price."""
    key: Key | None = None
    tag: str = ""
    bill: Bill | None = None
    """For the list of requests: what a fetch cost, or what joining one spared."""
    saved_s: float = 0.0
    """Seconds the provider had taken for it."""
    inputs: int = 0
    """How many embeddings it asked for."""
    inputs_found: int = 0
    """How many of these were kept."""
    client: str = ""
    """Whose key it carried, where the proxy issues keys; empty otherwise."""
    team: str = ""


class Overhead(StrEnum):
    """What the proxy asks of a provider of its own accord."""

    EMBEDDING = "embedding"
    """Texts embedded to be compared by meaning, whether that led to a hit or not."""
    REFRESH = "refresh"
    """Answers asked for again behind a stale one that was given."""


@value
class FetchReceipt:
    """One request to the provider on a cached path, over."""

    model: str
    status: int | None
    bytes_in: int
    total_s: float
    usage: Usage | None
    cost: Cost | None = None
    kept: bool
    unkept: Unkept | None
    """Why it was not kept; None where it was, or where the plan had ruled it out."""
    repeatable_key: Key | None = None
    """Set where nothing but the temperature gate kept a good answer out: a repeat of it is a missed saving."""
    client: str = ""
    team: str = ""
    overhead: Overhead | None = None
    """Why it was made, where no client had asked for it: it is spent like any other, and lessens what was saved."""


@value
class OverheadReceipt:
    """One request of the proxy's own, over: it lessens what was saved."""

    kind: Overhead
    usage: Usage | None
    cost: Cost | None = None
