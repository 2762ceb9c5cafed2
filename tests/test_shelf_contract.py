"""What every Shelf and every Tallies promises, whatever it is made of."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CacheError
from proxy.ports import Shelf, Tallies
from proxy.stores.redis_link import RedisLink
from proxy.stores.redis_shelf import RedisShelf, RedisTallies
from proxy.stores.shelf import MAX_SHELF_BYTES, MemoryShelf, MemoryTallies
from proxy.stores.sqlite_file import SqliteFile
from proxy.stores.sqlite_shelf import SqliteShelf, SqliteTallies
from proxy.stores.sqlite_threads import SqliteThreads
from tests.awaited import awaited


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


KINDS = ("memory", "sqlite", "redis")


class BrieflyRedis:
    """A shelf and tallies in a Redis, on a link of its own for each use: a test's loop ends with the test."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._prefix = f"{secrets.token_hex(8)}:"

    @asynccontextmanager
    async def _link(self) -> AsyncIterator[RedisLink]:
        link = RedisLink(self._url, max_connections=2, deadline_s=10.0)
        try:
            yield link
        finally:
            await link.close()

    async def read_value(self, name: str) -> bytes | None:
        async with self._link() as link:
            return await RedisShelf(link, prefix=self._prefix).read(name)

    async def write(self, name: str, octets: bytes) -> None:
        async with self._link() as link:
            await RedisShelf(link, prefix=self._prefix).write(name, octets)

    async def create(self, name: str, octets: bytes) -> bytes:
        async with self._link() as link:
            return await RedisShelf(link, prefix=self._prefix).create(name, octets)

    async def replace(self, name: str, octets: bytes, *, instead_of: bytes | None) -> bool:
        async with self._link() as link:
            return await RedisShelf(link, prefix=self._prefix).replace(name, octets, instead_of=instead_of)

    async def add(self, page: str, counts: Mapping[str, int], *, keep_s: float) -> None:
        async with self._link() as link:
            await RedisTallies(link, prefix=self._prefix).add(page, counts, keep_s=keep_s)

    async def read_pages(self, pages: Sequence[str]) -> Sequence[Mapping[str, int]]:
        async with self._link() as link:
            return await RedisTallies(link, prefix=self._prefix).read(pages)


class BrieflyShelf(BrieflyRedis):
    read = BrieflyRedis.read_value


class BrieflyTallies(BrieflyRedis):
    read = BrieflyRedis.read_pages


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteThreads]:
    threads = SqliteThreads(SqliteFile(tmp_path / "askonce.db"), deadline_s=10.0)
    yield threads
    asyncio.run(threads.close())


@pytest.fixture(params=KINDS)
def shelf(request: pytest.FixtureRequest) -> Shelf:
    match request.param:
        case "memory":
            return MemoryShelf()
        case "redis":
            return BrieflyShelf(request.getfixturevalue("redis_server").url)
        case _:
            return SqliteShelf(request.getfixturevalue("file"))


@pytest.fixture(params=KINDS)
def tallies(request: pytest.FixtureRequest, clock: Clock) -> Tallies:
    match request.param:
        case "memory":
            return MemoryTallies(now=clock)
        case "redis":
            return BrieflyTallies(request.getfixturevalue("redis_server").url)
        case _:
            return SqliteTallies(request.getfixturevalue("file"), now=clock)


@awaited
async def test_what_was_written_is_read(shelf: Shelf) -> None:
    assert await shelf.read("a") is None
    await shelf.write("a", b"\x00\xff one")
    await shelf.write("b", b"")
    await shelf.write("a", b"two")
    assert (await shelf.read("a"), await shelf.read("b")) == (b"two", b"")


@awaited
async def test_the_first_to_create_a_value_decides_for_all(shelf: Shelf) -> None:
    first = await asyncio.gather(*(shelf.create("secret", b"%d" % number) for number in range(8)))
    assert set(first) == {first[0]}
    assert await shelf.create("secret", b"late") == first[0] == await shelf.read("secret")


@awaited
async def test_a_value_is_replaced_only_by_one_who_knows_it(shelf: Shelf) -> None:
    assert not await shelf.replace("a", b"1", instead_of=b"")
    assert await shelf.replace("a", b"1", instead_of=None)
    assert not await shelf.replace("a", b"2", instead_of=None)
    assert not await shelf.replace("a", b"2", instead_of=b"0")
    assert await shelf.read("a") == b"1"
    assert await shelf.replace("a", b"2\x00\xff", instead_of=b"1")
    assert await shelf.read("a") == b"2\x00\xff"
    with pytest.raises(CacheError, match="no room"):
        await shelf.replace("a", bytes(MAX_SHELF_BYTES + 1), instead_of=b"2\x00\xff")


@awaited
async def test_of_many_who_replace_a_value_at_once_one_does(shelf: Shelf) -> None:
    await shelf.write("a", b"there")
    done = await asyncio.gather(*(shelf.replace("a", b"%d" % at, instead_of=b"there") for at in range(8)))
    assert sorted(done) == [False] * 7 + [True]
    assert await shelf.read("a") == b"%d" % done.index(True)


@awaited
async def test_a_shelf_refuses_what_it_has_no_room_for_and_keeps_what_it_had(shelf: Shelf) -> None:
    await shelf.write("a", b"kept")
    with pytest.raises(CacheError, match="no room"):
        await shelf.write("a", bytes(MAX_SHELF_BYTES + 1))
    assert await shelf.read("a") == b"kept"


@awaited
async def test_numbers_add_up_page_by_page(tallies: Tallies) -> None:
    await tallies.add("day", {"hits": 2, "usd": 10**15}, keep_s=60)
    await asyncio.gather(*(tallies.add("day", {"hits": 1, "misses": -1}, keep_s=60) for _ in range(20)))
    await tallies.add("hour", {"hits": 1}, keep_s=60)
    assert list(await tallies.read(["hour", "none", "day"])) == [
        {"hits": 1},
        {},
        {"hits": 22, "usd": 10**15, "misses": -20},
    ]


@awaited
async def test_what_was_read_is_nobody_elses(tallies: Tallies) -> None:
    await tallies.add("day", {"hits": 1}, keep_s=60)
    read = dict((await tallies.read(["day"]))[0])
    read["hits"] = 99
    assert list(await tallies.read(["day"])) == [{"hits": 1}]


@awaited
async def test_a_page_lapses_after_its_last_addition(tallies: Tallies, clock: Clock) -> None:
    if isinstance(tallies, BrieflyTallies):
        pytest.skip("a Redis goes by its own clock; tests/test_redis_store.py asks it")
    await tallies.add("minute", {"hits": 1}, keep_s=60)
    clock.time += 59
    await tallies.add("minute", {"hits": 1}, keep_s=60)
    clock.time += 59
    assert list(await tallies.read(["minute"])) == [{"hits": 2}]
    clock.time += 2
    assert list(await tallies.read(["minute"])) == [{}]
    await tallies.add("minute", {"hits": 1}, keep_s=60)
    assert list(await tallies.read(["minute"])) == [{"hits": 1}]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(-(2**40), 2**40)), max_size=30))
@awaited
async def test_any_additions_sum(added: list[tuple[str, str, int]]) -> None:
    tallies = MemoryTallies()
    model: dict[str, dict[str, int]] = {}
    for page, name, count in added:
        await tallies.add(page, {name: count}, keep_s=60)
        model.setdefault(page, {}).setdefault(name, 0)
        model[page][name] += count
    assert list(await tallies.read("abc")) == [model.get(page, {}) for page in "abc"]


@awaited
async def test_lapsed_pages_leave_memory() -> None:
    clock = Clock()
    tallies = MemoryTallies(now=clock)
    for number in range(2000):
        await tallies.add(f"minute {number}", {"hits": 1}, keep_s=60)
        clock.time += 10
    assert len(tallies._pages) < 400
