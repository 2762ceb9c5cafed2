"""The exact tier on stores that fail: a fault costs a hit and one line in the log."""

import asyncio
import logging

import pytest

from proxy.errors import CacheError
from proxy.headers import Fields
from proxy.model import Entry, Key, Reason
from proxy.stores.memory import MemoryStore
from proxy.tiers.exact import ExactTier, Found, Missed

KEY = Key("a" * 64)
ENTRY = Entry(key=KEY, dialect="chat", status=200, phrase=b"OK", head=b"", body=b"{}", created=90.0)
FIELDS = Fields(((b"Origin", b"https://a.example"), (b"X-A", b"1")))


class Brittle(MemoryStore):
    """A store that fails while it is told to."""

    def __init__(self) -> None:
        super().__init__(max_bytes=1 << 20, now=lambda: 100.0)
        self.broken = False

    async def get(self, key: Key) -> Entry | None:
        """The entry, or the fault."""
        if self.broken:
            raise CacheError("no connection to the store")
        return await super().get(key)

    async def put(self, entry: Entry) -> bool:
        """Keep it, or fail."""
        if self.broken:
            raise CacheError("no connection to the store")
        return await super().put(entry)


def tier() -> tuple[ExactTier, Brittle]:
    """A tier on a brittle store, at second 100."""
    store = Brittle()
    return ExactTier(store, now=lambda: 100.0), store


def look_up(exact: ExactTier, *, max_age_s: float | None = None) -> Found | Missed:
    """What the tier has to say."""
    return asyncio.run(exact.look_up(KEY, max_age_s=max_age_s))


def test_what_is_kept_is_found_with_its_age() -> None:
    exact, _ = tier()
    assert asyncio.run(exact.keep(ENTRY))
    assert look_up(exact) == Found(ENTRY, 10.0)


@pytest.mark.parametrize(("max_age_s", "found"), [(9.0, False), (10.0, True), (11.0, True)])
def test_what_is_older_than_asked_for_is_too_old(max_age_s: float, found: bool) -> None:
    exact, _ = tier()
    asyncio.run(exact.keep(ENTRY))
    assert look_up(exact, max_age_s=max_age_s) == (Found(ENTRY, 10.0) if found else Missed(Reason.TOO_OLD))


def test_a_store_that_fails_costs_a_hit_and_nothing_else() -> None:
    exact, store = tier()
    asyncio.run(exact.keep(ENTRY))
    store.broken = True
    assert look_up(exact) == Missed(Reason.CACHE_FAULT)
    assert not asyncio.run(exact.keep(ENTRY))
    assert exact.degraded


def test_it_recovers_by_itself() -> None:
    exact, store = tier()
    asyncio.run(exact.keep(ENTRY))
    store.broken = True
    look_up(exact)
    store.broken = False
    assert isinstance(look_up(exact), Found)
    assert not exact.degraded


def test_a_broken_store_is_told_once_and_again_after_it_had_recovered(caplog: pytest.LogCaptureFixture) -> None:
    now, store = [100.0], Brittle()
    exact = ExactTier(store, now=lambda: now[0])
    with caplog.at_level(logging.WARNING):
        # What copies in memory answer lies between the faults of a store, and is no sign of recovery.
        for broken, later_s in ((True, 0), (False, 1), (True, 28), (True, 1), (False, 29), (True, 1), (True, 0)):
            store.broken = broken
            now[0] += later_s
            look_up(exact)
    assert [record.message for record in caplog.records] == [
        "the store failed; requests go on as misses: no connection to the store"
    ] * 2


def test_what_answers_vary_by_narrows_the_key_from_then_on() -> None:
    exact, _ = tier()
    assert exact.narrow(KEY, "chat", FIELDS) == KEY
    assert exact.learn_vary("chat", frozenset({b"origin"}))
    narrowed = exact.narrow(KEY, "chat", FIELDS)
    assert narrowed != KEY
    assert narrowed != exact.narrow(KEY, "chat", Fields(((b"Origin", b"https://b.example"),)))
    assert exact.narrow(KEY, "responses", FIELDS) == KEY


def test_learning_the_same_again_changes_nothing() -> None:
    exact, _ = tier()
    exact.learn_vary("chat", frozenset({b"origin"}))
    before = exact.generation
    exact.learn_vary("chat", frozenset({b"origin"}))
    exact.learn_vary("chat", frozenset())
    assert exact.generation == before
    exact.learn_vary("chat", frozenset({b"x-a"}))
    assert exact.generation == before + 1


def test_more_than_can_be_followed_is_not_learned() -> None:
    exact, _ = tier()
    assert not exact.learn_vary("chat", frozenset(b"x-%d" % number for number in range(100)))
    assert exact.narrow(KEY, "chat", FIELDS) == KEY
