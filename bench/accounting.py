"""What accounting takes of a hit's CPU: ``python -m bench.accounting``.

Times the parts that a hit goes through for accounting's sake, in one process, without sockets. What was there before
dollars (a receipt, its place in the ledger) is timed by the same calls with an entry that names no usage.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from proxy import labels
from proxy.accounts import money
from proxy.accounts.ledger import Ledger
from proxy.accounts.meter import Meter
from proxy.accounts.pricing import Prices
from proxy.accounts.till import Till
from proxy.accounts.usage import Method, Usage
from proxy.accounts.warmth import Warmth
from proxy.call import Call
from proxy.headers import Fields
from proxy.model import CutOff, Entry, Key, Outcome, Reason
from proxy.prefix.rules import Rule, Semantics

ROUNDS = 7
LOOPS = 20_000
NOW = 1_790_000_000.0

USAGE = Usage(input_tokens=2000, output_tokens=100, cached_tokens=1024)
ENTRY = Entry(
    key=Key("0123456789abcdef" * 4),
    dialect="chat",
    status=200,
    phrase=b"OK",
    head=b"",
    body=b"",
    model="gpt-4o-mini",
    usage=USAGE,
    created=NOW,
)
CALL = Call(method=b"POST", target=b"/v1/chat/completions", fields=Fields(()), body=b"x" * 500)


def microseconds(work: Callable[[], object]) -> float:
    """The least that one call of *work* took, over some rounds: what the CPU needs when nobody disturbs."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time()
        for _ in range(LOOPS):
            work()
        best = min(best, time.thread_time() - start)
    return best / LOOPS * 1e6


def metered(entry: Entry) -> Meter:
    """The meter of a hit of *entry*."""
    return Meter(
        0.0,
        outcome=Outcome.HIT,
        reason=Reason.FOUND,
        status=200,
        model="gpt-4o-mini",
        saved=entry,
        saved_usage=entry.usage,
    )


RULE = Rule(semantics=Semantics.BLOCK, min_tokens=1024, step_tokens=128)


def a_hit(till: Till, ledger: Ledger, entry: Entry) -> Callable[[], None]:
    """What accounts for a hit that comes the ordinary way: price, header, receipt, ledger."""
    warmth = Warmth()

    def work() -> None:
        usage = entry.usage
        meter = metered(entry)
        if usage is not None:
            meter.saved_cost = warmth.cost(entry, usage, NOW, till=till, rule=lambda: RULE)
            cost = till.cost(entry.model, entry.service_tier, usage, NOW)
            method = usage.method
            labels.labels(
                "full",
                Outcome.HIT,
                Reason.FOUND,
                key=entry.key,
                tier="exact",
                saved_tokens=usage.total_tokens,
                saved_method=method,
                saved_usd=money.text(cost.usd) if cost is not None else None,
            )
        else:
            labels.labels("full", Outcome.HIT, Reason.FOUND, key=entry.key, tier="exact", saved_method=Method.MEASURED)
        ledger.record(meter.receipt(CALL, total_s=0.001, cut=CutOff.DELIVERED))

    return work


def one_more(till: Till, ledger: Ledger, entry: Entry) -> Callable[[], None]:
    """What accounts for a hit that comes the short way: its receipt again."""
    meter = metered(entry)
    meter.saved_cost = till.cost(entry.model, entry.service_tier, entry.usage, NOW)
    receipt = meter.receipt(CALL, total_s=0.0, cut=CutOff.DELIVERED)
    return lambda: ledger.again(receipt, seconds=0.00001)


def main() -> None:
    """Print the table."""
    till = Till(Prices(), upstream="https://api.openai.com")
    bare = replace(ENTRY, usage=None)
    print(f"{'microseconds of CPU':<32}{'without usage':>15}{'with dollars':>15}{'added':>10}")
    for name, way in (("a hit, the ordinary way", a_hit), ("a hit, the short way", one_more)):
        before, after = (microseconds(way(till, Ledger(), entry)) for entry in (bare, ENTRY))
        print(f"{name:<32}{before:>15.2f}{after:>15.2f}{after - before:>10.2f}")
    remembered = microseconds(lambda: till.cost("gpt-4o-mini", "", USAGE, NOW))
    minutes = iter(range(10**9))
    afresh = microseconds(lambda: till.cost("gpt-4o-mini", "", USAGE, NOW + 60 * next(minutes)))
    print(f"{'a price, remembered':<32}{'':>15}{remembered:>15.2f}")
    print(f"{'a price, once a minute':<32}{'':>15}{afresh:>15.2f}")


if __name__ == "__main__":
    main()
