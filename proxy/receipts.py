"""What the ledger is fed with: one receipt for each call that ended, one for each fetch that landed."""

from proxy.model import CutOff, Key, Outcome, Reason, Unkept
from proxy.usage import Usage
from proxy.values import value


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
    saved_s: float = 0.0
    """Seconds the provider had taken for it."""


@value
class FetchReceipt:
    """One request to the provider on a cached path, over."""

    model: str
    status: int | None
    bytes_in: int
    total_s: float
    usage: Usage | None
    kept: bool
    unkept: Unkept | None
    """Why it was not kept; None where it was, or where the plan had ruled it out."""
    repeatable_key: Key | None = None
    """Set where nothing but the temperature gate kept a good answer out: a repeat of it is a missed saving."""
