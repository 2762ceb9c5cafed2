"""The short way: what it remembers, when it speaks, and that nothing of one connection shows on another."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.accounts.ledger import Ledger
from proxy.accounts.money import PARTS, Cost
from proxy.accounts.receipts import Receipt
from proxy.accounts.usage import Usage
from proxy.call import Repeat
from proxy.model import CutOff, Entry, Key, Outcome, Reason
from proxy.wire import Wire
from tests.comparison import Ways
from tests.raw_client import RawConnection

RECEIPT = Receipt(
    outcome=Outcome.HIT,
    reason=Reason.FOUND,
    model="m",
    status=200,
    bytes_in=2,
    bytes_out=4,
    first_s=0.0,
    total_s=0.0,
    cut=CutOff.DELIVERED,
    tier="exact",
)


class House:
    """A wire with everything it asks, each answer in our hand."""

    def __init__(self, *, max_bytes: int = 1 << 20) -> None:
        self.held: set[int] = set()
        self.receipts: dict[float, Receipt] = {}
        self.generation = 0
        self.now = 1000.0
        self.ledger = Ledger()
        self.wire = Wire(
            max_bytes=max_bytes,
            holds=lambda entry: id(entry) in self.held,
            generation=lambda: self.generation,
            ledger=self.ledger,
            now=lambda: self.now,
        )

    def receipt_at(self, now: float) -> Receipt:
        """What one more hit is worth: prices may have changed."""
        return self.receipts.get(now, RECEIPT)

    def entry(self, body: bytes = b"body") -> Entry:
        """An entry that the store holds."""
        kept = Entry(key=Key("k"), dialect="chat", status=200, phrase=b"OK", head=b"", body=body, created=self.now)
        self.held.add(id(kept))
        return kept

    def remember(self, octets: bytes, entry: Entry | None = None) -> Entry:
        """A request that was a hit; its answer tells the moment at which it is written."""
        kept = entry or self.entry()
        repeat = Repeat(entry=kept, head_at=writer(octets), receipt_at=self.receipt_at, generation=self.generation)
        self.wire.remember(octets, repeat, writer(octets))
        return kept


def writer(octets: bytes) -> Callable[[float], bytes]:
    """What answers *octets* as of a moment."""
    return lambda now: b"%b at %d" % (octets, now)


def request(number: int = 0, size: int = 2) -> bytes:
    """One whole request."""
    return b"POST /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (number, size, b"x" * size)


def test_only_the_very_octets_are_answered() -> None:
    house = House()
    house.remember(request())
    assert house.wire.find(request()) == request() + b" at 1000"
    assert house.wire.find(request() + b" ") is None
    assert house.wire.find(request()[:-1]) is None


def test_an_answer_is_written_anew_when_its_age_has_changed() -> None:
    house = House()
    house.remember(request())
    house.wire.find(request())
    house.now += 2
    assert house.wire.find(request()) == request() + b" at 1002"


def test_it_is_silent_once_the_store_holds_another_entry() -> None:
    house = House()
    kept = house.remember(request())
    house.held.discard(id(kept))
    assert house.wire.find(request()) is None
    assert len(house.wire) == 0


def test_it_is_silent_once_something_was_learned_about_keys() -> None:
    house = House()
    house.remember(request())
    house.generation += 1
    assert house.wire.find(request()) is None


def test_a_known_head_waits_for_its_body_and_no_other_does() -> None:
    house = House()
    house.remember(request())
    head = request()[:-2]
    assert house.wire.awaits_body(head)
    assert not house.wire.awaits_body(head[:-1])
    assert not house.wire.awaits_body(request())
    kept = house.remember(request())
    house.held.discard(id(kept))
    house.wire.find(request())
    assert not house.wire.awaits_body(head)


def test_every_use_is_in_the_ledger() -> None:
    house = House()
    house.remember(request())
    for _ in range(3):
        house.wire.find(request())
        house.wire.used(request(), seconds=0.001)
    shown = house.ledger.shown()
    assert (shown["requests"], shown["hits"]) == (3, 3)


def test_each_use_saves_what_it_is_worth_at_its_moment() -> None:
    house = House()
    for moment, usd in ((1000.0, 2), (1060.0, 5)):
        cost = Cost(usd * PARTS, usd * PARTS)
        house.receipts[moment] = replace(RECEIPT, saved=Usage(input_tokens=1), saved_cost=cost)
    house.remember(request())
    for house.now in (1000.0, 1000.0, 1060.0):
        house.wire.find(request())
        house.wire.used(request(), seconds=0.001)
    assert house.ledger.books().total.saved.measured.usd == (2 + 2 + 5) * PARTS


def test_it_never_holds_more_than_its_budget_and_forgets_the_least_recently_used() -> None:
    house = House(max_bytes=20_000)
    for number in range(50):
        house.remember(request(number))
        if house.wire.find(request(0)) is not None:
            house.wire.used(request(0), seconds=0.0)
    assert 0 < len(house.wire) <= 20_000 // 1200
    assert house.wire.find(request(0)) is not None
    assert house.wire.find(request(49)) is not None
    assert house.wire.find(request(1)) is None


def test_what_would_fill_an_eighth_of_the_budget_is_not_remembered() -> None:
    house = House(max_bytes=80_000)
    repeat = Repeat(entry=house.entry(), head_at=writer(b""), receipt_at=lambda _: RECEIPT, generation=0)
    house.wire.remember(request(), repeat, lambda _: b"x" * 5_000)
    assert len(house.wire) == 0
    house.wire.remember(request(), repeat, lambda _: b"x" * 3_000)
    assert len(house.wire) == 1


def repeated(connection: RawConnection, octets: bytes) -> bytes:
    """The answer to one more repeat, its head as it came."""
    connection.send(octets)
    answer = connection.read_answer("POST")
    assert (answer.status, answer.get("x-cache")) == (200, "HIT")
    return b"\r\n".join(answer.header_lines).lower()


@pytest.mark.proxy_only
def test_a_hit_taught_by_a_connection_that_has_ended_tells_others_nothing_of_its_end(ways: Ways) -> None:
    ways.plays(ways.fixed())
    octets = ways.chat()
    with ways.connect() as teacher:
        teacher.send(octets)
        assert teacher.read_answer("POST").get("x-cache") == "MISS"
        ways.settle()
        while b"age: " not in repeated(teacher, octets):
            pass
        teacher.finish_sending()
        assert teacher.ended() is not None
    with ways.connect() as other:
        first = repeated(other, octets)
        deadline = time.monotonic() + 5
        # The answer is written anew with the next second.
        while (later := repeated(other, octets)) == first and time.monotonic() < deadline:
            time.sleep(0.05)
        assert later != first
        assert b"connection: close" not in later


@pytest.mark.proxy_only
@pytest.mark.parametrize("pieces", [2, 3])
def test_a_request_that_comes_in_pieces_is_answered_the_same(ways: Ways, pieces: int) -> None:
    ways.plays(ways.fixed())
    octets = ways.chat()
    head_end = octets.index(b"\r\n\r\n") + 4
    cuts = [0, head_end, len(octets)] if pieces == 2 else [0, 10, head_end, len(octets)]
    with ways.connect() as connection:
        connection.send(octets)
        body = bytes(connection.read_answer("POST").body)
        ways.settle()
        for _ in range(4):
            for start, end in itertools.pairwise(cuts):
                connection.send(octets[start:end])
                time.sleep(0.02)
            assert bytes(connection.read_answer("POST").body) == body
    assert len(ways.received()) == 1


@pytest.mark.proxy_only
def test_a_known_head_with_another_body_is_another_request(ways: Ways) -> None:
    ways.plays(ways.fixed())
    octets = ways.chat()
    other = octets.replace(b"Tell me", b"Sell me")
    assert len(other) == len(octets)
    assert other != octets
    head_end = octets.index(b"\r\n\r\n") + 4
    with ways.connect() as connection:
        for _ in range(3):
            connection.send(octets)
            connection.read_answer("POST")
            ways.settle()
        connection.send(other[:head_end])
        time.sleep(0.02)
        connection.send(other[head_end:])
        assert connection.read_answer("POST").get("x-cache") == "MISS"
