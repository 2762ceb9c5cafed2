"""After a call: its one receipt, and what its fetch cost or spared, as soon as that is known."""

from collections.abc import Callable, Mapping
from functools import partial

from proxy.accounts.ledger import Ledger
from proxy.accounts.meter import Meter
from proxy.accounts.money import Cost
from proxy.accounts.receipts import Bill
from proxy.accounts.till import Till
from proxy.accounts.usage import Usage
from proxy.call import Call
from proxy.flights import Flight
from proxy.gathering import Gathering
from proxy.keys.clients import Client
from proxy.model import CutOff, Finding, Outcome, Unkept

WORTH_ITS_PRICE = (None, Unkept.LENGTH, Unkept.CONTENT_FILTER)
"""An answer that is only cut short was worth its price to whoever asked; an error inside was worth nothing."""


class Settling:
    """Tells the ledger of calls, and fills in their bills."""

    def __init__(self, *, ledger: Ledger, tills: Mapping[str, Till], now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._tills = tills
        self._now = now

    def __repr__(self) -> str:
        return f"<Settling for {self._ledger!r}>"

    def account(self, meter: Meter, call: Call, now: float) -> None:
        """*call* is over: the one receipt of it, and if it had joined a fetch what that spared."""
        flight = meter.flight
        bill = meter.bill = Bill() if flight is not None else meter.bill
        self._ledger.record(meter.receipt(call, total_s=now - meter.started, cut=meter.cut))
        joined = meter.outcome is Outcome.JOINED and meter.cut is CutOff.DELIVERED and meter.status == 200
        if joined and flight is not None and bill is not None:
            flight.when_examined(partial(self._spared, bill, meter.model, call.asker, self._tills[meter.route]))

    def charge(self, meter: Meter, flight: Flight, gathering: Gathering | None) -> None:
        """The call leads *flight*: what that costs is known when it has landed, or when its tokens were counted."""
        bill = meter.bill = Bill()
        flight.when_examined(partial(self._settle, bill, meter.model, self._tills[meter.route], gathering))

    def _spared(self, bill: Bill, model: str, who: Client, till: Till, found: Finding) -> None:
        if found.unkept not in WORTH_ITS_PRICE:
            return
        cost = self._cost(till, model, found, found.usage)
        self._ledger.spared(model, found.usage, cost, client=who.name, team=who.team)
        self._settle(bill, model, till, None, found)
        if found.late is not None:
            found.late.when_known(
                lambda usage: self._ledger.counted_spared(
                    model, usage, self._cost(till, model, found, usage), client=who.name, team=who.team
                )
            )

    def _settle(self, bill: Bill, model: str, till: Till, gathering: Gathering | None, found: Finding) -> None:
        found = gathering.own(found) if gathering is not None else found
        bill.settle(found.usage, self._cost(till, model, found, found.usage))
        if found.late is not None:
            found.late.when_known(lambda usage: bill.settle(usage, self._cost(till, model, found, usage)))

    def _cost(self, till: Till, model: str, found: Finding, usage: Usage | None) -> Cost | None:
        return till.cost(found.model or model, found.service_tier, usage, self._now())
