"""What one call comes to, from its plan to its receipt."""

from dataclasses import dataclass

from proxy.accounts.money import Cost
from proxy.accounts.receipts import Bill, Receipt
from proxy.accounts.usage import Usage
from proxy.call import Call, Candidate, Reply
from proxy.flights import Flight
from proxy.model import CutOff, Entry, Key, Outcome, Reason
from proxy.ports import Body
from proxy.providers.routing import DEFAULT


@dataclass(slots=True)
class Meter:
    """What one call has come to so far; the receipt is made from it at the end."""

    started: float
    outcome: Outcome = Outcome.ERROR
    reason: Reason = Reason.INTERNAL
    status: int = 0
    body: bytes | Body = b""
    first_s: float = 0.0
    cut: CutOff = CutOff.DELIVERED
    tier: str = ""
    saved: Entry | None = None
    saved_usage: Usage | None = None
    saved_cost: Cost | None = None
    bill: Bill | None = None
    key: Key | None = None
    tag: str = ""
    flight: Flight | None = None
    model: str = ""
    route: str = DEFAULT
    """The name of the provider that it goes to."""
    inputs: int = 0
    inputs_found: int = 0
    considered: bool = False

    def consider(self, candidate: Candidate) -> None:
        """Until more is known the call has the outcome that its plan foresees."""
        self.considered = True
        self.model = candidate.model
        self.route = candidate.route.name
        self.inputs = candidate.inputs
        self.tag = candidate.asked.tag
        self.outcome = Outcome.BYPASS if candidate.plan.bypass else Outcome.MISS
        self.reason = candidate.plan.reason

    def begin(self, reply: Reply, now: float) -> None:
        """The reply begins."""
        self.status = reply.status
        self.body = reply.body
        self.first_s = now - self.started

    def fail(self, reason: Reason) -> None:
        """The call ends in an error: of the proxy's own, or by breaking off."""
        self.outcome, self.reason = Outcome.ERROR, reason
        self.cut = CutOff.BROKE_OFF if self.status else CutOff.DELIVERED

    def refuse(self, reason: Reason) -> None:
        """The call is answered by a refusal of the proxy's own."""
        self.outcome, self.reason = Outcome.ERROR, reason

    def receipt(self, call: Call, *, total_s: float, cut: CutOff) -> Receipt:
        """What the ledger is told of *call*."""
        entry = self.saved
        return Receipt(
            outcome=self.outcome,
            reason=self.reason,
            model=self.model,
            status=self.status or (entry.status if entry is not None else 0),
            bytes_in=len(call.body) if isinstance(call.body, bytes) else 0,
            bytes_out=len(self.body) if isinstance(self.body, bytes) else self.body.poured_bytes,
            first_s=self.first_s,
            total_s=total_s,
            cut=cut,
            tier=self.tier,
            saved=self.saved_usage,
            saved_cost=self.saved_cost,
            key=self.key,
            tag=self.tag,
            bill=self.bill,
            saved_s=entry.fetch_s if entry is not None else 0.0,
            client=call.asker.name,
            team=call.asker.team,
            inputs=self.inputs,
            inputs_found=self.inputs_found,
        )
