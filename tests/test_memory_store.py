"""The memory store: its budget, its order of eviction, and that its idea of memory is true."""

import gc
import hashlib
import itertools
import math
import tracemalloc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy import headers
from proxy.accounts.usage import Usage
from proxy.model import Entry, Form, Key, TenantId
from proxy.stores.memory import ENTRY_OVERHEAD_BYTES, OUTPUT_WORTH, MemoryStore, size_of, worth

T = TypeVar("T")
POLICIES = ["gdsf", "lru"]


def done(work: Coroutine[Any, Any, T]) -> T:
    """The result of *work*, which must not wait: between two calls nothing else can have come in between."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("the memory store waits for something")


def entry(key: str, size: int = 100, *, tokens: int | None = None, expires: float = math.inf) -> Entry:
    """An entry with a body of *size* octets that cost *tokens* to ask for."""
    usage = None if tokens is None else Usage(input_tokens=tokens)
    return Entry(
        key=Key(key),
        dialect="chat",
        status=200,
        phrase=b"OK",
        head=b"A: 1\r\n",
        body=bytes(size),
        usage=usage,
        created=0.0,
        expires=expires,
    )


def realistic(number: int) -> Entry:
    """What a provider answers: 25 header fields, 1 KB of body, a usage; nothing of it shared with another entry."""
    fields = [(b"x-field-number-%02d" % n, b"value %06d of field %02d" % (number, n)) for n in range(25)]
    return Entry(
        key=Key(hashlib.sha256(b"%d" % number).hexdigest()),
        dialect="chat",
        status=200,
        phrase=bytes(bytearray(b"OK")),
        head=headers.lines(fields),
        body=b"%08d" % number * 128,
        form=Form(stream=number % 2 == 0),
        model=f"gpt-4.1-2025-{number}",
        usage=Usage(
            input_tokens=1000 + number,
            output_tokens=2000 + number,
            cached_tokens=300 + number,
            reasoning_tokens=400 + number,
        ),
        created=1.7e9 + number,
        expires=1.8e9 + number,
        fetch_s=1.5 + number,
        tenant=TenantId(hashlib.sha256(b"%d" % number).hexdigest()[:32]),
    )


def room_for(count: int, size: int = 100) -> int:
    """A budget for *count* entries of *size*, and no more."""
    return size_of(entry("k", size)) * count


def there(store: MemoryStore, *keys: str) -> str:
    """Which of *keys* are kept; asking counts as a use."""
    return "".join(key for key in keys if done(store.get(Key(key))) is not None)


# What it promises, against the plainest model there can be.


@dataclass
class _Modelled:
    entry: Entry
    uses: int
    base: float
    serial: int


class _Model:
    """A list that is searched from end to end."""

    def __init__(self, max_bytes: int, eviction: str) -> None:
        self.max_bytes = max_bytes
        self.lru = eviction == "lru"
        self.kept: dict[str, _Modelled] = {}
        self.clock = 0.0
        self.serials = itertools.count()

    def tick(self) -> float:
        self.clock += self.lru
        return self.clock

    def priority(self, kept: _Modelled) -> tuple[float, int]:
        if self.lru:
            return kept.base, kept.serial
        return kept.base + kept.uses * (worth(kept.entry) / size_of(kept.entry)), kept.serial

    def used(self) -> int:
        return sum(size_of(kept.entry) for kept in self.kept.values())

    def get(self, key: str, now: float) -> Entry | None:
        kept = self.kept.get(key)
        if kept is None:
            return None
        if kept.entry.expires <= now:
            del self.kept[key]
            return None
        kept.uses += 1
        kept.base = self.tick()
        return kept.entry

    def put(self, entry: Entry, now: float) -> bool:
        size = size_of(entry)
        if size > self.max_bytes or entry.expires <= now:
            return False
        before = self.kept.pop(entry.key, None)
        while self.used() + size > self.max_bytes:
            dead = [key for key, kept in self.kept.items() if kept.entry.expires <= now]
            if dead:
                del self.kept[min(dead, key=lambda key: (self.kept[key].entry.expires, self.kept[key].serial))]
                continue
            least = min(self.kept, key=lambda key: self.priority(self.kept[key]))
            if not self.lru:
                self.clock = max(self.clock, self.priority(self.kept[least])[0])
            del self.kept[least]
        serial = next(self.serials)
        self.kept[entry.key] = _Modelled(entry, before.uses if before else 1, self.tick(), serial)
        return True


class MemoryStoreMachine(RuleBasedStateMachine):
    """Any order of operations, played to the store and to the model."""

    keys = st.sampled_from("abcdefghijkl")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.store = MemoryStore(max_bytes=4096)
        self.model = _Model(4096, "gdsf")

    @initialize(max_bytes=st.integers(4096, 20_000), eviction=st.sampled_from(POLICIES))
    def begin(self, max_bytes: int, eviction: str) -> None:
        self.store = MemoryStore(max_bytes=max_bytes, eviction=eviction, now=lambda: self.now)
        self.model = _Model(max_bytes, eviction)

    @rule(
        key=keys,
        size=st.integers(0, 5000),
        tokens=st.none() | st.integers(0, 10_000),
        lasts=st.just(math.inf) | st.integers(-1, 20),
    )
    def put(self, key: str, size: int, tokens: int | None, lasts: float) -> None:
        made = entry(key, size, tokens=tokens, expires=self.now + lasts)
        assert done(self.store.put(made)) is self.model.put(made, self.now)

    @rule(key=keys)
    def get(self, key: str) -> None:
        found = done(self.store.get(Key(key)))
        assert found is self.model.get(key, self.now)
        assert found is None or (found.key == key and found.expires > self.now)

    @rule(key=keys)
    def holds(self, key: str) -> None:
        modelled = self.model.kept.get(key)
        if modelled is None:
            assert not self.store.holds(entry(key))
        else:
            live = modelled.entry.expires > self.now
            assert self.store.holds(modelled.entry) is live
            if live:
                self.model.get(key, self.now)

    @rule(key=keys)
    def drop(self, key: str) -> None:
        assert done(self.store.drop(Key(key))) is (self.model.kept.pop(key, None) is not None)

    @rule()
    def clear(self) -> None:
        assert done(self.store.clear()) == len(self.model.kept)
        self.model.kept.clear()

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def never_over_budget(self) -> None:
        assert self.store.bytes_used <= self.store.max_bytes

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert set(self.store._kept) == set(self.model.kept)
        assert len(self.store) == len(self.model.kept)
        assert self.store.bytes_used == self.model.used()

    @invariant()
    def heaps_stay_in_proportion(self) -> None:
        for heap in (self.store._by_worth, self.store._by_expiry):
            assert len(heap) <= len(self.store) + len(self.store) // 4 + 65


MemoryStoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMemoryStoreMachine = MemoryStoreMachine.TestCase


# The order of eviction.


def test_lru_lets_go_what_was_used_longest_ago() -> None:
    store = MemoryStore(max_bytes=room_for(3), eviction="lru")
    for key in "abc":
        done(store.put(entry(key)))
    assert there(store, "a") == "a"
    done(store.put(entry("d")))
    assert there(store, *"abcd") == "acd"


def test_who_watches_hears_of_what_was_evicted() -> None:
    gone: list[str] = []
    store = MemoryStore(max_bytes=room_for(2), eviction="lru")
    store.watch(gone.append)
    for key in "abc":
        done(store.put(entry(key)))
    assert gone == ["a"]


def test_lru_does_not_care_what_an_entry_is_worth() -> None:
    store = MemoryStore(max_bytes=room_for(2), eviction="lru")
    done(store.put(entry("a", tokens=1_000_000)))
    done(store.put(entry("b", tokens=1)))
    done(store.put(entry("c", tokens=1)))
    assert there(store, *"abc") == "bc"


def test_gdsf_lets_go_what_costs_least_to_ask_again() -> None:
    store = MemoryStore(max_bytes=room_for(3))
    for key, tokens in zip("abc", (500, 10, 900), strict=True):
        done(store.put(entry(key, tokens=tokens)))
    done(store.put(entry("d", tokens=700)))
    assert there(store, *"abcd") == "acd"


def test_gdsf_lets_go_the_larger_of_two_that_cost_the_same() -> None:
    store = MemoryStore(max_bytes=room_for(1, 5000) + room_for(1))
    done(store.put(entry("a", 100, tokens=100)))
    done(store.put(entry("b", 5000, tokens=100)))
    done(store.put(entry("c", 100, tokens=100)))
    assert there(store, *"abc") == "ac"


def test_gdsf_keeps_what_is_asked_for_often() -> None:
    store = MemoryStore(max_bytes=room_for(2))
    done(store.put(entry("a", tokens=100)))
    done(store.put(entry("b", tokens=150)))
    assert there(store, *"aaa") == "aaa"
    done(store.put(entry("c", tokens=100)))
    assert there(store, *"abc") == "ac"


def test_gdsf_lets_what_was_dear_age_when_nobody_asks_for_it() -> None:
    store = MemoryStore(max_bytes=room_for(3))
    done(store.put(entry("dear", tokens=500)))
    for number in range(40):
        done(store.put(entry(f"cheap{number}", tokens=100)))
    assert there(store, "dear") == ""


def test_gdsf_keeps_the_uses_of_an_answer_that_was_renewed() -> None:
    store = MemoryStore(max_bytes=room_for(2))
    done(store.put(entry("a", tokens=100)))
    assert there(store, *"aaa") == "aaa"
    done(store.put(entry("a", tokens=100)))
    done(store.put(entry("b", tokens=150)))
    done(store.put(entry("c", tokens=100)))
    assert there(store, *"abc") == "ac"


@pytest.mark.parametrize("eviction", POLICIES)
def test_what_has_expired_makes_room_before_what_has_not(eviction: str) -> None:
    now = 0.0
    store = MemoryStore(max_bytes=room_for(3), eviction=eviction, now=lambda: now)
    done(store.put(entry("a", tokens=1)))
    done(store.put(entry("b", tokens=1_000_000, expires=10.0)))
    done(store.put(entry("c", tokens=1)))
    now = 10.0
    done(store.put(entry("d", tokens=1)))
    assert there(store, *"abcd") == "acd"
    assert (store.evicted, store.expired) == (0, 1)


def test_what_had_to_go_is_counted() -> None:
    store = MemoryStore(max_bytes=room_for(2))
    for number in range(5):
        done(store.put(entry(f"k{number}")))
    assert (store.evicted, store.expired) == (3, 0)


def test_what_was_found_expired_is_counted() -> None:
    now = 0.0
    store = MemoryStore(max_bytes=room_for(2), now=lambda: now)
    done(store.put(entry("a", expires=5.0)))
    now = 5.0
    assert there(store, "a") == ""
    assert (store.evicted, store.expired) == (0, 1)


def test_what_was_dropped_is_neither_evicted_nor_expired() -> None:
    store = MemoryStore(max_bytes=room_for(2))
    done(store.put(entry("a")))
    done(store.drop(Key("a")))
    assert (store.evicted, store.expired) == (0, 0)


def test_an_entry_that_just_fits_is_kept() -> None:
    store = MemoryStore(max_bytes=room_for(1))
    assert done(store.put(entry("a")))
    assert store.bytes_used == store.max_bytes
    assert not done(store.put(entry("b", 101)))
    assert there(store, "a") == "a"


def test_what_looks_the_same_is_not_the_entry_that_is_held() -> None:
    store = MemoryStore(max_bytes=room_for(2))
    done(store.put(entry("a")))
    assert not store.holds(entry("a"))


def test_an_entry_that_has_expired_is_not_held() -> None:
    now = 0.0
    store = MemoryStore(max_bytes=room_for(2), now=lambda: now)
    kept = entry("a", expires=5.0)
    done(store.put(kept))
    assert store.holds(kept)
    now = 5.0
    assert not store.holds(kept)


def test_an_old_answer_stays_where_the_new_one_is_too_large() -> None:
    store = MemoryStore(max_bytes=room_for(1))
    done(store.put(entry("a")))
    assert not done(store.put(entry("a", 5000)))
    assert there(store, "a") == "a"


def test_a_store_shows_what_it_holds() -> None:
    store = MemoryStore(max_bytes=100_000)
    done(store.put(entry("a")))
    assert repr(store) == f"<MemoryStore, 1 entries, {size_of(entry('a'))} of 100000 bytes>"


# What an entry is worth.


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (Usage(input_tokens=10), 10),
        (Usage(input_tokens=10, output_tokens=5), 10 + 5 * OUTPUT_WORTH),
        (Usage(input_tokens=0), 1),
        (None, 25),
    ],
    ids=str,
)
def test_an_entry_is_worth_what_asking_again_costs(usage: Usage | None, tokens: float) -> None:
    assert worth(replace(entry("k", 100), usage=usage)) == tokens


def test_an_entry_is_never_worth_nothing() -> None:
    assert worth(entry("k", 0)) == 1


# What it takes.


def taken(fill: Callable[[], MemoryStore]) -> tuple[int, MemoryStore]:
    """The octets that the store made by *fill* holds, as Python's allocators count them."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        store = fill()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before, store
    finally:
        tracemalloc.stop()


def filled(count: int, make: Callable[[int], Entry] = realistic) -> MemoryStore:
    """A store with *count* entries."""
    store = MemoryStore(max_bytes=1 << 40, now=lambda: 0.0)
    for number in range(count):
        done(store.put(make(number)))
    return store


# 2731 entries are where a dict has just grown: the most table for the fewest entries.
@pytest.mark.parametrize("count", [1000, 2731])
def test_entries_take_no_more_memory_than_they_are_charged_for(count: int) -> None:
    octets, store = taken(lambda: filled(count))
    assert octets <= store.bytes_used


def test_entries_are_not_charged_for_much_more_than_they_take() -> None:
    octets, store = taken(lambda: filled(1000))
    assert store.bytes_used <= 1.1 * octets


@pytest.mark.parametrize("eviction", POLICIES)
@pytest.mark.parametrize("keys", [1 << 30, 550], ids=["new-keys", "the-same-keys-again"])
def test_a_store_in_long_use_takes_no_more_than_its_budget(eviction: str, keys: int) -> None:
    def churn() -> MemoryStore:
        store = MemoryStore(max_bytes=600 * size_of(realistic(0)), eviction=eviction, now=lambda: 0.0)
        for number in range(3000):
            done(store.put(realistic(number * 7919 % keys)))
        return store

    octets, store = taken(churn)
    assert len(store) > 500
    assert octets <= store.max_bytes


def test_marks_are_charged_for() -> None:
    def marked(number: int) -> Entry:
        marks = tuple((1000 + step * 57, number + step / 100) for step in range(200))
        return replace(realistic(number), marks=marks)

    octets, store = taken(lambda: filled(200, marked))
    assert octets <= store.bytes_used


@pytest.mark.parametrize(
    "lengthen",
    [
        lambda made, text: replace(made, model=text),
        lambda made, text: replace(made, model=text + "\N{GRINNING FACE}"),
        lambda made, text: replace(made, form=Form(other_options=text)),
        lambda made, text: replace(made, encoding=text),
        lambda made, text: replace(made, phrase=text.encode()),
    ],
    ids=["model", "model-of-wide-characters", "stream-options", "encoding", "phrase"],
)
def test_a_long_text_beside_the_body_is_charged_for(lengthen: Callable[[Entry, str], Entry]) -> None:
    octets, store = taken(lambda: filled(20, lambda number: lengthen(realistic(number), f"{number:04}" * 5000)))
    assert octets <= store.bytes_used


def test_dropping_everything_gives_the_memory_back() -> None:
    def emptied() -> MemoryStore:
        store = filled(2000)
        for number in range(2000):
            done(store.drop(realistic(number).key))
        return store

    octets, _ = taken(emptied)
    # A dict keeps its table; the heaps do not keep their items.
    assert octets < 2000 * ENTRY_OVERHEAD_BYTES / 6


def test_expiry_of_everything_gives_the_memory_back() -> None:
    def emptied() -> MemoryStore:
        store = MemoryStore(max_bytes=1 << 40, now=lambda: now)
        now = 0.0
        for number in range(2000):
            done(store.put(realistic(number)))
        now = 1e10
        for number in range(2000):
            done(store.get(realistic(number).key))
        return store

    octets, _ = taken(emptied)
    assert octets < 2000 * ENTRY_OVERHEAD_BYTES / 6
