"""Vectors in a real Redis 8: what one process adds others find, each leaves with its entry, faults cost hits only."""

import asyncio
import base64
import dataclasses
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest

from proxy.errors import CacheError
from proxy.model import Entry, Key
from proxy.ports import VectorIndex, Vectors
from proxy.semantic.recall import Recalled
from proxy.settings import StoreSettings
from proxy.storage import storage
from proxy.stores.codec import Codec
from proxy.stores.redis import RedisStore
from proxy.stores.redis_link import RedisLink
from proxy.tasks import Tasks
from proxy.vectors.block import BlockIndex
from proxy.vectors.redis import RedisVectors
from tests.awaited import awaited
from tests.redis_server import RedisServer, redis_8
from tests.test_semantic_tier import ASKED, OTHER, SAME, House, WordEmbedder, answered, key_of

PATIENT_S = 10.0
DIMENSION = 8


def unit(seed: int, dimension: int = DIMENSION) -> Vectors:
    """A vector of length 1, the same for the same *seed*."""
    row = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return row / np.linalg.norm(row)


def entry(key: str, *, expires: float = math.inf) -> Entry:
    made = Entry(key=Key(key), dialect="chat", status=200, phrase=b"OK", head=b"", body=b"body", created=1.0, scope="p")
    return dataclasses.replace(made, expires=expires)


async def comes(what: Callable[[], Awaitable[bool]]) -> None:
    """Return as soon as *what* is so, which it must be before long."""
    until = time.monotonic() + PATIENT_S
    while not await what():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


class Process:
    """What one process has: a store, and an index beside its own block."""

    def __init__(self, url: str, prefix: str, *, dimension: int = DIMENSION, deadline_s: float = PATIENT_S) -> None:
        self.link = RedisLink(url, max_connections=4, deadline_s=deadline_s)
        self.store = RedisStore(self.link, Codec(), prefix=prefix)
        self.own = BlockIndex(dimension=dimension, max_bytes=1 << 22)
        self.index = RedisVectors(self.own, self.link, prefix=prefix, identity="test", dimension=dimension)
        self.tasks = Tasks()

    async def began(self) -> "Process":
        """With its index in use."""
        self.index.open(self.tasks)
        await comes(self.shares)
        return self

    async def shares(self) -> bool:
        """Whether it uses vector sets."""
        return self.index.shared

    async def found(self, scope: str, vector: Vectors, k: int = 3) -> list[Key]:
        """The keys of the nearest."""
        return [key for key, _ in await self.index.nearest(scope, vector, k)]

    async def close(self) -> None:
        """End."""
        await self.tasks.close()
        await self.store.close()


@asynccontextmanager
async def processes(url: str, count: int, **how: Any) -> AsyncIterator[list[Process]]:
    prefix = f"{secrets.token_hex(8)}:"
    all_of_them = [Process(url, prefix, **how) for _ in range(count)]
    try:
        yield [await each.began() for each in all_of_them]
    finally:
        for each in all_of_them:
            await each.close()


@pytest.fixture
def own_redis_8() -> Iterator[RedisServer]:
    """A Redis 8 of the test's own, to pause and empty."""
    with RedisServer(redis_8()) as running:
        yield running


async def _keeps_the_contract(writes: VectorIndex, reads: VectorIndex) -> None:
    """What *writes* is told, *reads* finds; both may be one."""

    async def nearest(scope: str, seed: int, wanted: list[tuple[str, float]]) -> None:
        async def so() -> bool:
            found = await reads.nearest(scope, unit(seed), 3)
            return [key for key, _ in found] == [key for key, _ in wanted] and np.allclose(
                [cosine for _, cosine in found], [cosine for _, cosine in wanted], atol=1e-5
            )

        await comes(so)

    def cosine(one: int, other: int) -> float:
        return float(unit(one) @ unit(other))

    await nearest("pa", 1, [])
    for number in range(6):
        assert writes.add("pa" if number < 4 else "pb", Key(f"k{number}"), unit(number))
    wanted = sorted(((f"k{number}", cosine(99, number)) for number in range(4)), key=lambda pair: -pair[1])
    await nearest("pa", 99, wanted[:3])
    await nearest("pb", 4, [("k4", 1.0), ("k5", cosine(4, 5))])
    writes.drop("pb", Key("k4"))
    await nearest("pb", 4, [("k5", cosine(4, 5))])
    writes.drop("pb", Key("k5"))
    await nearest("pb", 4, [])
    writes.add("pb", Key("k4"), unit(4))
    await nearest("pb", 4, [("k4", 1.0)])
    assert not writes.add("pa", Key("long"), unit(1, DIMENSION + 1))
    assert not writes.add("pa", Key("k1"), unit(1) * np.nan)
    assert await reads.nearest("pa", unit(1), 0) == []


@awaited
async def test_the_block_keeps_the_contract() -> None:
    index = BlockIndex(dimension=DIMENSION, max_bytes=1 << 20)
    await _keeps_the_contract(index, index)


@awaited
async def test_a_process_by_itself_keeps_the_contract(redis_8_server: RedisServer) -> None:
    async with processes(redis_8_server.url, 1) as [one]:
        for number in range(6):
            await one.store.put(entry(f"k{number}"))
        await _keeps_the_contract(one.index, one.index)


@awaited
async def test_what_one_process_adds_and_drops_another_finds_and_misses(redis_8_server: RedisServer) -> None:
    async with processes(redis_8_server.url, 2) as [one, other]:
        for number in range(6):
            await one.store.put(entry(f"k{number}"))
        await _keeps_the_contract(one.index, other.index)
        assert len(other.own) == 0


@awaited
async def test_the_nearest_are_those_of_a_plain_table_with_their_cosines(redis_8_server: RedisServer) -> None:
    rows = {Key(f"k{number}"): unit(number, 384) for number in range(400)}
    async with processes(redis_8_server.url, 2, dimension=384) as [one, other]:
        for key, row in rows.items():
            await one.store.put(entry(key))
            one.index.add("p", key, row)

        async def last() -> bool:
            return await other.found("p", rows[Key("k399")], 1) == ["k399"]

        await comes(last)
        for seed in range(1000, 1020):
            asked = rows[Key(f"k{seed - 1000}")] + 0.8 * unit(seed, 384)
            asked /= np.linalg.norm(asked)
            wanted = sorted(((key, float(row @ asked)) for key, row in rows.items()), key=lambda pair: -pair[1])
            [(key, cosine), *_] = await other.index.nearest("p", asked, 4)
            assert key == wanted[0][0]
            assert cosine == pytest.approx(wanted[0][1], abs=1e-5)


@awaited
async def test_a_vector_is_put_beside_a_living_entry_only_and_leaves_when_its_time_is_over(
    redis_8_server: RedisServer,
) -> None:
    async with processes(redis_8_server.url, 2) as [one, other]:
        one.index.add("p", Key("none"), unit(0))
        await one.store.put(entry("short", expires=time.time() + 1.0))
        one.index.add("p", Key("short"), unit(1))
        await one.store.put(entry("long", expires=time.time() + 1000))
        one.index.add("p", Key("long"), unit(2))

        async def both() -> bool:
            return set(await other.found("p", unit(1))) == {"short", "long"}

        await comes(both)

        async def over() -> bool:
            # Whoever adds one sees to those whose time is over.
            key = Key(secrets.token_hex(4))
            await one.store.put(entry(key))
            one.index.add("elsewhere", key, unit(3))
            return await other.found("p", unit(1)) == ["long"]

        await comes(over)


@awaited
async def test_nothing_is_left_where_the_store_is_cleared_or_all_has_expired(own_redis_8: RedisServer) -> None:
    def keys() -> bytes:
        return own_redis_8.says("KEYS", "*vectors*")

    async with processes(own_redis_8.url, 2) as [one, other]:
        await one.store.put(entry("a"))
        one.index.add("p", Key("a"), unit(1))

        async def there() -> bool:
            return await other.found("p", unit(1)) == ["a"]

        await comes(there)
        assert await other.store.clear() == 1
        assert keys() == b"*0\r\n"
        assert await other.found("p", unit(1)) == []
        one.index.clear()
        assert await one.found("p", unit(1)) == []
        # With nobody left to see to it, too.
        await one.store.put(entry("a", expires=time.time() + 1.0))
        one.index.add("p", Key("a"), unit(1))
        await comes(there)

    async def gone() -> bool:
        return keys() == b"*0\r\n"

    await comes(gone)


@awaited
async def test_without_vector_sets_a_process_goes_by_its_own_block(redis_server: RedisServer) -> None:
    one = Process(redis_server.url, f"{secrets.token_hex(8)}:")
    one.index.open(one.tasks)

    async def knows() -> bool:
        return len(one.tasks) == 0

    await comes(knows)
    assert not one.index.shared
    assert one.index.add("p", Key("a"), unit(1))
    assert await one.found("p", unit(1)) == ["a"]
    assert one.index.drop("p", Key("a"))
    assert await one.found("p", unit(1)) == []
    await one.close()


@awaited
async def test_a_redis_that_hangs_and_comes_back_empty_costs_neighbours_only(own_redis_8: RedisServer) -> None:
    async with processes(own_redis_8.url, 2, deadline_s=0.5) as [one, other]:
        await one.store.put(entry("a"))
        one.index.add("p", Key("a"), unit(1))

        async def there() -> bool:
            return await other.found("p", unit(1)) == ["a"]

        await comes(there)
        own_redis_8.pause()
        assert await one.found("p", unit(1)) == ["a"]
        assert await other.found("p", unit(1)) == []
        own_redis_8.stop()
        assert await one.found("p", unit(1)) == ["a"]
        own_redis_8.start()

        async def again() -> bool:
            # As a question that is asked anew is kept anew.
            with suppress(CacheError):
                await one.store.put(entry("a"))
            one.index.add("p", Key("a"), unit(1))
            return await there()

        await comes(again)


def test_a_vector_never_lies_open_beside_what_is_encrypted_nor_on_a_node_of_its_own() -> None:
    pytest.importorskip("cryptography", reason="what seals is an extra")
    own, embedder = BlockIndex(dimension=DIMENSION, max_bytes=1 << 20), WordEmbedder()
    plain = StoreSettings(kind="redis")
    assert storage(plain).index(embedder, own) is not own
    keyed = dataclasses.replace(plain, encryption_keys=("k1:" + base64.b64encode(bytes(32)).decode(),))
    for settings in (keyed, dataclasses.replace(plain, url="rediss+cluster://there:6379"), StoreSettings()):
        assert storage(settings).index(embedder, own) is own


class Sharing(House):
    """A house whose index does not come to rest."""

    async def settle(self) -> None:
        """Nothing to wait for."""


@awaited
async def test_a_process_that_never_heard_of_a_question_answers_by_it(redis_8_server: RedisServer) -> None:
    prefix = f"{secrets.token_hex(8)}:"
    dimension = WordEmbedder().dimension
    made = [Process(redis_8_server.url, prefix, dimension=dimension) for _ in range(3)]
    third = await made[2].began()
    one, other = [
        Sharing(store=await _begun(each), keeps_vectors=True, beside=lambda own, each=each: _beside(each, own))  # type: ignore[misc]
        for each in made[:2]
    ]
    for house in (one, other):
        await house.begin()
    await one.fetch(ASKED)

    async def answers() -> bool:
        return not isinstance(await other.ask(SAME), str)

    await comes(answers)
    found = await other.ask(SAME)
    assert answered(found) == ASKED
    assert isinstance(found, Recalled)
    assert isinstance(await other.ask(OTHER), str)
    [vector] = await other.embedder.embed([SAME])

    async def found_by_third() -> list[Key]:
        return await third.found("p1", vector)

    async def again() -> bool:
        return await found_by_third() == [key_of(ASKED)]

    # An answer that is kept anew, as after its time, places its question anew: by itself, or embedded once more.
    for how in (one.inquiry(ASKED), None):
        await third.store.clear()
        assert await made[0].store.put(found.entry)
        assert await found_by_third() == []
        one.tier.kept(found.entry, how)
        await comes(again)
    # It leaves with its entry, in every process.
    assert await made[0].store.drop(key_of(ASKED))

    async def none() -> bool:
        return await found_by_third() == []

    assert isinstance(await other.ask(SAME), str)
    await comes(none)
    for each in made:
        await each.close()


async def _begun(process: Process) -> RedisStore:
    return (await process.began()).store


def _beside(process: Process, _own: VectorIndex) -> VectorIndex:
    return process.index
