"""The books: what they counted can be written as numbers, added up by anybody, and read again as the same books."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.books import TIERS, Axis, Books
from proxy.accounts.ledger import MAX_MINUTES, MAX_PENDING, Ledger
from proxy.accounts.money import PARTS, Cost
from proxy.accounts.receipts import FetchReceipt, Overhead, OverheadReceipt, Receipt
from proxy.accounts.usage import Method, Usage
from proxy.model import CutOff, Key, Outcome, Reason, Unkept
from tests.receipts import hit

TOKENS = st.integers(0, 10**7)
USAGES = st.none() | st.builds(
    Usage,
    input_tokens=TOKENS,
    output_tokens=TOKENS,
    method=st.sampled_from(Method),
    lower_bound=st.booleans(),
)
MONEY = st.integers(0, 10**21)
COSTS = st.none() | st.builds(Cost, MONEY, MONEY, st.none() | MONEY)
NAMES = st.sampled_from(["", "a", "b/c", "c.d", "(other)", "model//x", "Ünï ☃"])
SECONDS = st.floats(0, 1e5)
RECEIPTS = st.builds(
    Receipt,
    outcome=st.sampled_from(Outcome),
    reason=st.sampled_from(Reason),
    model=NAMES,
    client=NAMES,
    team=NAMES,
    tier=st.sampled_from(["", "exact", "semantic"]),
    status=st.sampled_from([0, 200, 500]),
    bytes_in=TOKENS,
    bytes_out=TOKENS,
    first_s=SECONDS,
    total_s=SECONDS,
    cut=st.sampled_from(CutOff),
    saved=USAGES,
    saved_cost=COSTS,
    saved_s=SECONDS,
)
FETCHES = st.builds(
    FetchReceipt,
    model=NAMES,
    client=NAMES,
    status=st.sampled_from([None, 200, 500]),
    bytes_in=TOKENS,
    total_s=SECONDS,
    usage=USAGES,
    cost=COSTS,
    kept=st.booleans(),
    unkept=st.none() | st.sampled_from(Unkept),
    repeatable_key=st.none() | st.just(Key("k")),
)
OVERHEADS = st.builds(OverheadReceipt, kind=st.sampled_from(Overhead), usage=USAGES, cost=COSTS)
THINGS = st.lists(RECEIPTS | FETCHES | OVERHEADS | st.integers(1, 100), max_size=30)
"""What a ledger is told, one after the other; a number is a pause in seconds."""


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = 1_760_000_000.0

    def __call__(self) -> float:
        return self.time


def tell(ledger: Ledger, clock: Clock, things: list[Any]) -> None:
    """*ledger* hears of *things*."""
    for thing in things:
        match thing:
            case Receipt():
                ledger.record(thing)
            case FetchReceipt():
                ledger.fetched(thing)
            case OverheadReceipt():
                ledger.overhead(thing)
            case _:
                clock.time += thing


def shown(books: Books) -> Any:
    """Everything *books* show; the longest time is known to its class only where it was written down."""
    told = books.shown("") | {str(axis): books.shown_lines(axis, "") for axis in Axis} | books.opportunity()
    for figures in ("latency_ms", "first_byte_ms", "tier_latency_ms"):
        for of_outcome in told[figures].values():  # type: ignore[attr-defined]
            of_outcome.pop("max"), of_outcome.pop("p99"), of_outcome.pop("p90"), of_outcome.pop("p50")
            of_outcome["mean"] = pytest.approx(of_outcome["mean"], rel=1e-3, abs=0.01)
    return told


def spelt(books: Books) -> dict[str, int]:
    """The numbers of *books*, as some store gives them back."""
    numbers: dict[str, int] = json.loads(json.dumps(dict(books.numbers())))
    return numbers


@given(things=THINGS)
def test_books_are_the_same_after_they_were_written_as_numbers(things: list[Any]) -> None:
    ledger, clock = Ledger(), Clock()
    tell(ledger, clock, things)
    books = ledger.books()
    again = Books.of(spelt(books))
    assert shown(again) == shown(books)
    again.merge(Books())
    assert spelt(again) == spelt(books)


@given(things=THINGS)
def test_every_number_fits_the_64_bits_of_a_store(things: list[Any]) -> None:
    ledger, clock = Ledger(), Clock()
    tell(ledger, clock, things)
    assert all(-(2**63) <= number < 2**63 for number in spelt(ledger.books()).values())


@given(things=THINGS)
def test_the_minutes_add_up_to_the_whole(things: list[Any]) -> None:
    clock = Clock()
    ledger = Ledger(now=clock)
    minutes: Counter[str] = Counter()
    starts: list[int] = []
    for thing in things:
        tell(ledger, clock, [thing])
        if isinstance(thing, int) and thing % 3 == 0:
            taken = ledger.take()
            starts += taken
            for books in taken.values():
                minutes.update(spelt(books))
    for at, books in ledger.take().items():
        starts.append(at)
        minutes.update(spelt(books))
    assert all(at % 60 == 0 and at <= clock.time for at in starts)
    assert shown(Books.of(minutes)) == shown(Books.of(spelt(ledger.books())))
    assert ledger.take() == {}


@given(things=THINGS)
def test_the_names_on_every_axis_add_up_to_the_total(things: list[Any]) -> None:
    ledger, clock = Ledger(max_models=3), Clock()
    tell(ledger, clock, things)
    books = ledger.books()
    for axis in Axis:
        whole: Counter[str] = Counter()
        for line in books.lines[axis].values():
            whole.update(dict(line.numbers()))
        # The two numbers of a dollar amount may have run over from one into the other.
        again = Books.of({f"total//{name}": number for name, number in whole.items()})
        assert again.total.shown("") == books.total.shown("")
        assert axis is not Axis.MODEL or len(books.lines[axis]) <= 4


def test_a_call_belongs_to_the_minute_in_which_it_ended() -> None:
    clock = Clock()
    ledger = Ledger(now=clock)
    usual = hit()
    for pause in (0, 39, 1, 60):
        clock.time += pause
        ledger.again(usual, seconds=0.1)
    # 1,760,000,000 is 20 seconds into its minute.
    counted = {at: books.total.outcomes.counts[Outcome.HIT] for at, books in ledger.take().items()}
    assert counted == {1_759_999_980: 2, 1_760_000_040: 1, 1_760_000_100: 1}


def test_more_of_the_same_than_wait_at_a_time_are_all_counted() -> None:
    ledger = Ledger()
    usual = hit()
    for _ in range(3 * MAX_PENDING + 1):
        ledger.again(usual, seconds=0.1)
    assert ledger.books().total.saved.measured.answers == 3 * MAX_PENDING + 1
    assert ledger.books().total.saved.measured.usd == 3 * PARTS * (3 * MAX_PENDING + 1)


def test_minutes_that_nobody_takes_run_together_and_lose_nothing() -> None:
    clock = Clock()
    ledger = Ledger(now=clock)
    for _ in range(MAX_MINUTES + 50):
        ledger.record(hit())
        clock.time += 60
    taken = ledger.take()
    assert len(taken) <= MAX_MINUTES + 1
    assert sum(books.total.outcomes.counts[Outcome.HIT] for books in taken.values()) == MAX_MINUTES + 50


def test_names_that_this_version_does_not_know_are_left_alone() -> None:
    odd = {
        "": 1,
        "x": 1,
        "total//nobody": 1,
        "total//spent.measured.nothing": 1,
        "total//spent.guessed.input": 1,
        "reason//unheard_of": 1,
        "overhead/magic/answers": 1,
        "latency/HIT/999": 1,
        "latency/LATE/3": 1,
        "flavour/sweet/HIT": 1,
        "plain//clock": 1,
    }
    assert not Books.of(odd)


def test_clients_and_teams_have_lines_of_their_own() -> None:
    ledger = Ledger(max_models=2)
    for client, team in (("ann", "red"), ("bob", "red"), ("cyd", "blue")):
        ledger.record(hit(client=client, team=team))
    lines = ledger.books().lines
    assert {name: line.saved.answers for name, line in lines[Axis.CLIENT].items()} == {"ann": 1, "bob": 1, "cyd": 1}
    assert {name: line.saved.answers for name, line in lines[Axis.TEAM].items()} == {"red": 2, "blue": 1}


def test_a_name_that_can_be_written_nowhere_is_written_without_what_is_wrong_with_it() -> None:
    ledger = Ledger()
    ledger.record(hit(model="a\ud800"))
    assert list(Books.of(spelt(ledger.books())).lines[Axis.MODEL]) == ["a?"]


def test_every_tier_is_shown_before_it_did_anything() -> None:
    assert list(Books().shown_lines(Axis.TIER, "")) == list(TIERS)
