"""What every store promises, written once: a new kind of store joins by a line in STORES."""

import asyncio
import dataclasses
import itertools
import math
import random
import secrets
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from proxy.accounts.usage import Usage
from proxy.model import Entry, Form, Key, TenantId
from proxy.ports import Store
from proxy.stores.codec import Codec
from proxy.stores.fronted import FrontedStore
from proxy.stores.memory import MemoryStore
from proxy.stores.redis import RedisStore
from proxy.stores.redis_link import RedisLink
from proxy.stores.sealing import seal_of
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite_file import SqliteFile
from proxy.stores.sqlite_threads import SqliteThreads
from tests.redis_server import RedisServer

T = TypeVar("T")

Now = Callable[[], float]

ROOM = 1 << 20
"""The budget of every store under test."""

NOISE = random.Random(6).randbytes(ROOM)
"""What no compression makes shorter."""

PATIENT_S = 10.0
"""Deadlines are for tests of their own: this machine may have a lot to do."""


@contextmanager
def memory(path: Path, *, eviction: str) -> Iterator[Callable[[Now], Store]]:
    yield lambda now: MemoryStore(max_bytes=ROOM, eviction=eviction, now=now)


@contextmanager
def sqlite(path: Path, *, eviction: str = "gdsf", sealed: bool = False) -> Iterator[Callable[[Now], Store]]:
    numbers = itertools.count()
    codec = Codec(seal=seal_of([f"a:{'A' * 43}="]) if sealed else None)

    def make(now: Now) -> Store:
        threads = SqliteThreads(SqliteFile(path / f"{next(numbers)}.db"), deadline_s=PATIENT_S)
        return SqliteStore(threads, codec, max_bytes=ROOM, eviction=eviction, now=now)

    yield make


@contextmanager
def fronted(path: Path) -> Iterator[Callable[[Now], Store]]:
    with sqlite(path) as behind:

        def make(now: Now) -> Store:
            shared = behind(now)
            assert isinstance(shared, SqliteStore)
            return FrontedStore(MemoryStore(max_bytes=ROOM, now=now), shared, believe_s=10.0, now=now)

        yield make


@contextmanager
def redis(server: RedisServer, *, sealed: bool = False) -> Iterator[Callable[[Now], Store]]:
    codec = Codec(seal=seal_of([f"a:{'A' * 43}="]) if sealed else None)

    def make(now: Now) -> Store:
        link = RedisLink(server.url, max_connections=4, deadline_s=PATIENT_S)
        return RedisStore(link, codec, prefix=f"{secrets.token_hex(8)}[*]:", now=now)

    yield make


STORES: dict[str, Callable[[Path, pytest.FixtureRequest], AbstractContextManager[Callable[[Now], Store]]]] = {
    "memory-gdsf": lambda path, _: memory(path, eviction="gdsf"),
    "memory-lru": lambda path, _: memory(path, eviction="lru"),
    "sqlite-gdsf": lambda path, _: sqlite(path),
    "sqlite-lru": lambda path, _: sqlite(path, eviction="lru"),
    "sqlite-sealed": lambda path, _: sqlite(path, sealed=True),
    "redis-7": lambda _, request: redis(request.getfixturevalue("redis_server")),
    "redis-8": lambda _, request: redis(request.getfixturevalue("redis_8_server")),
    "redis-sealed": lambda _, request: redis(request.getfixturevalue("redis_server"), sealed=True),
    "fronted": lambda path, _: fronted(path),
}


OPENED: list[Store] = []
"""The stores that the test under way has made."""


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Now], Store]]:
    """Makes a store of its own for whoever asks, on a clock."""
    with STORES[request.param](tmp_path, request) as made:

        def noted(now: Now) -> Store:
            OPENED.append(made(now))
            return OPENED[-1]

        yield noted


def played(scene: Coroutine[Any, Any, T]) -> T:
    """What *scene* comes to; the stores that it made are closed."""

    async def play() -> T:
        try:
            return await scene
        finally:
            while OPENED:
                await OPENED.pop().close()

    return asyncio.run(play())


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def entry(key: str = "a", body: bytes = b"body", *, expires: float = math.inf) -> Entry:
    """An answer worth keeping, no member of which has its default."""
    return Entry(
        key=Key(key),
        dialect="chat",
        status=200,
        phrase=b"Fine",
        head=b"A: 1\r\nB: \xff\r\n",
        body=body,
        encoding="gzip",
        chunked=True,
        form=Form(stream=True, include_usage=True, obfuscation=False, other_options='{"x":1}'),
        model="m",
        service_tier="flex",
        usage=Usage(input_tokens=10, output_tokens=20, cached_tokens=3),
        created=999.5,
        expires=expires,
        fetch_s=1.25,
        marks=((2, 0.0), (4, 0.5)),
        tenant=TenantId("t"),
        tag="nightly",
        namespace="n",
        scope="p:1",
        question="Why so grün?",
        maker="m1",
        embedder="minilm",
        vector=b"\x00\x00\x80?",
    )


def test_the_sample_says_something_in_every_member() -> None:
    silent = [
        each.name
        for each in dataclasses.fields(Entry)
        if each.name not in ("expires", "grace_s") and getattr(entry(), each.name) == each.default
    ]
    assert silent == []


def test_what_was_put_is_got_as_it_was(make: Callable[[Now], Store]) -> None:
    async def scene() -> Entry | None:
        store = make(Clock())
        assert await store.put(entry(expires=2000.0))
        return await store.get(Key("a"))

    assert played(scene()) == entry(expires=2000.0)


def test_what_was_never_put_is_not_there(make: Callable[[Now], Store]) -> None:
    async def scene() -> Entry | None:
        store = make(Clock())
        await store.put(entry("a"))
        return await store.get(Key("b"))

    assert played(scene()) is None


def test_every_key_has_its_own_entry(make: Callable[[Now], Store]) -> None:
    async def scene() -> list[Entry | None]:
        store = make(Clock())
        for key in "abc":
            await store.put(entry(key, key.encode()))
        return [await store.get(Key(key)) for key in "abc"]

    assert played(scene()) == [entry(key, key.encode()) for key in "abc"]


def test_the_last_entry_put_under_a_key_counts(make: Callable[[Now], Store]) -> None:
    async def scene() -> Entry | None:
        store = make(Clock())
        await store.put(entry(body=b"old"))
        await store.put(entry(body=b"new"))
        return await store.get(Key("a"))

    assert played(scene()) == entry(body=b"new")


def test_an_entry_is_there_until_it_expires_and_not_then(make: Callable[[Now], Store]) -> None:
    async def scene() -> list[bool]:
        clock = Clock()
        store = make(clock)
        await store.put(entry(expires=1010.0))
        seen = []
        for clock.time in (1000.0, 1009.9, 1010.0, 1011.0):
            seen.append(await store.get(Key("a")) is not None)
        return seen

    assert played(scene()) == [True, True, False, False]


def test_a_clock_that_jumps_ends_entries_early_or_late_and_no_worse(make: Callable[[Now], Store]) -> None:
    async def scene() -> list[bool]:
        clock = Clock()
        store = make(clock)
        await store.put(entry("a", expires=1010.0))
        seen = []
        for clock.time in (1005.0, 500.0, 1009.0, 1e9):
            seen.append(await store.get(Key("a")) is not None)
            seen.append(await store.put(entry("b", expires=clock.time + 10)) and await store.get(Key("b")) is not None)
        return seen

    assert played(scene()) == [True, True, True, True, True, True, False, True]


def test_an_entry_that_has_expired_is_not_kept(make: Callable[[Now], Store]) -> None:
    async def scene() -> tuple[bool, Entry | None]:
        store = make(Clock())
        return await store.put(entry(expires=1000.0)), await store.get(Key("a"))

    assert played(scene()) == (False, None)


def test_an_entry_with_a_grace_is_kept_for_those_who_take_it_stale(make: Callable[[Now], Store]) -> None:
    async def scene() -> list[tuple[bool, bool]]:
        clock = Clock()
        store = make(clock)
        await store.put(dataclasses.replace(entry(expires=1010.0), grace_s=5.0))
        seen = []
        for clock.time in (1000.0, 1009.9, 1010.0, 1014.9, 1015.0):
            live = await store.get(Key("a")) is not None
            seen.append((live, await store.get_even_stale(Key("a")) is not None))
        return seen

    expected = [(True, True), (True, True), (False, True), (False, True), (False, False)]
    assert played(scene()) == expected


def test_an_entry_without_an_end_does_not_expire(make: Callable[[Now], Store]) -> None:
    async def scene() -> Entry | None:
        clock = Clock()
        store = make(clock)
        await store.put(entry())
        clock.time = 1e12
        return await store.get(Key("a"))

    assert played(scene()) is not None


def test_an_entry_larger_than_the_budget_is_not_kept_and_harms_nobody(
    make: Callable[[Now], Store], request: pytest.FixtureRequest
) -> None:
    if "redis" in request.node.name:
        pytest.skip("a Redis has a budget of its own: maxmemory")

    async def scene() -> tuple[bool, Entry | None, Entry | None]:
        store = make(Clock())
        await store.put(entry("small"))
        kept = await store.put(entry("large", NOISE))
        return kept, await store.get(Key("large")), await store.get(Key("small"))

    assert played(scene()) == (False, None, entry("small"))


def test_what_was_dropped_is_gone_and_the_rest_is_not(make: Callable[[Now], Store]) -> None:
    async def scene() -> tuple[bool, Entry | None, Entry | None]:
        store = make(Clock())
        await store.put(entry("a"))
        await store.put(entry("b"))
        return await store.drop(Key("a")), await store.get(Key("a")), await store.get(Key("b"))

    assert played(scene()) == (True, None, entry("b"))


def test_dropping_what_is_not_there_says_so(make: Callable[[Now], Store]) -> None:
    async def scene() -> tuple[bool, bool]:
        store = make(Clock())
        never = await store.drop(Key("a"))
        await store.put(entry("a"))
        await store.drop(Key("a"))
        return never, await store.drop(Key("a"))

    assert played(scene()) == (False, False)


def test_clearing_forgets_everything_and_says_how_much(make: Callable[[Now], Store]) -> None:
    async def scene() -> tuple[int, list[Entry | None], int]:
        store = make(Clock())
        for key in "abc":
            await store.put(entry(key))
        cleared = await store.clear()
        return cleared, [await store.get(Key(key)) for key in "abc"], await store.clear()

    assert played(scene()) == (3, [None, None, None], 0)


def test_a_cleared_store_keeps_again(make: Callable[[Now], Store]) -> None:
    async def scene() -> Entry | None:
        store = make(Clock())
        await store.put(entry(body=b"old"))
        await store.clear()
        await store.put(entry(body=b"new"))
        return await store.get(Key("a"))

    assert played(scene()) == entry(body=b"new")


def test_a_full_store_goes_on_keeping(make: Callable[[Now], Store]) -> None:
    async def scene() -> list[bool]:
        store = make(Clock())
        kept = []
        for number in range(40):
            key = f"k{number}"
            kept.append(await store.put(entry(key, NOISE[: ROOM // 10])) and await store.get(Key(key)) is not None)
        return kept

    assert played(scene()) == [True] * 40


def test_a_store_can_be_closed(make: Callable[[Now], Store]) -> None:
    async def scene() -> None:
        store = make(Clock())
        await store.put(entry())
        await store.close()

    played(scene())


def test_entries_with_a_scope_are_listed(make: Callable[[Now], Store]) -> None:
    async def scene() -> list[Entry]:
        clock = Clock()
        store = make(clock)
        for key, scope, expires in (("a", "p:1", math.inf), ("b", "", math.inf), ("c", "p:1", 1001.0)):
            await store.put(dataclasses.replace(entry(key, expires=expires), scope=scope))
        clock.time = 1002.0
        return [each async for each in store.asked()]

    assert played(scene()) == [entry("a")]


def test_who_watches_hears_of_what_is_dropped_and_not_of_what_is_replaced(make: Callable[[Now], Store]) -> None:
    async def scene() -> list[str]:
        gone: list[str] = []
        store = make(Clock())
        store.watch(gone.append)
        for key in "aab":
            await store.put(entry(key))
        await store.drop(Key("a"))
        heard = list(gone)
        await store.clear()
        return [*heard, "cleared", *gone[len(heard) :]]

    assert played(scene()) == ["a", "cleared", "b"]
