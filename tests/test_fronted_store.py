"""The local tier before a shared store: repeats at once, the truth within a bound."""

import asyncio
import dataclasses
import math
from collections.abc import Callable

import pytest

from proxy.errors import CacheError
from proxy.model import Entry, Key
from proxy.stores.fronted import FrontedStore
from proxy.stores.memory import MemoryStore
from tests.awaited import awaited


def entry(key: str = "a", body: bytes = b"body", *, expires: float = math.inf) -> Entry:
    return Entry(
        key=Key(key), dialect="chat", status=200, phrase=b"OK", head=b"", body=body, created=1.0, expires=expires
    )


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Shared(MemoryStore):
    """A shared store on which a test plays the other processes, and which gives new objects as a real one does."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(max_bytes=1 << 20, now=now)
        self.asked_for: list[str] = []
        self.told: dict[str, int] = {}
        self.broken = False
        self.gate: asyncio.Event | None = None

    async def get(self, key: Key) -> Entry | None:
        self.asked_for.append(key)
        if self.broken:
            raise CacheError("no connection")
        found = await super().get(key)
        if self.gate is not None:
            await self.gate.wait()
        return dataclasses.replace(found) if found is not None else None

    async def get_even_stale(self, key: Key) -> Entry | None:
        if self.broken:
            raise CacheError("no connection")
        return await super().get_even_stale(key)

    async def put(self, entry: Entry) -> bool:
        if self.broken:
            raise CacheError("no connection")
        return await super().put(entry)

    def used(self, key: Key, times: int) -> None:
        self.told[key] = self.told.get(key, 0) + times

    async def heed(self, withdrawn: Callable[[Key | None], None]) -> None:
        return None


class Scene:
    def __init__(self) -> None:
        self.clock = Clock()
        self.shared = Shared(self.clock)
        self.local = MemoryStore(max_bytes=1 << 20, now=self.clock)
        self.store = FrontedStore(self.local, self.shared, believe_s=10.0, now=self.clock)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@awaited
async def test_the_shared_store_is_asked_once_and_not_for_repeats(scene: Scene) -> None:
    await scene.shared.put(entry())
    found = [await scene.store.get(Key("a")) for _ in range(5)]
    assert found == [entry()] * 5
    assert scene.shared.asked_for == ["a"]


@awaited
async def test_what_was_put_is_there_for_the_others_and_at_once_for_us(scene: Scene) -> None:
    await scene.store.put(entry())
    assert await scene.shared.get(Key("a")) == entry()
    scene.shared.asked_for.clear()
    assert await scene.store.get(Key("a")) == entry()
    assert scene.shared.asked_for == []


@awaited
async def test_a_copy_is_looked_at_again_when_it_was_believed_long_enough(scene: Scene) -> None:
    await scene.store.put(entry(body=b"old"))
    await scene.shared.put(entry(body=b"new"))
    scene.clock.time += 9.9
    assert await scene.store.get(Key("a")) == entry(body=b"old")
    scene.clock.time += 0.2
    assert await scene.store.get(Key("a")) == entry(body=b"new")


@awaited
async def test_a_copy_that_is_still_true_stays_the_very_same(scene: Scene) -> None:
    await scene.shared.put(entry())
    first = await scene.store.get(Key("a"))
    assert first is not None
    scene.clock.time += 11
    assert not scene.store.holds(first)
    assert await scene.store.get(Key("a")) is first
    assert scene.store.holds(first)


@awaited
async def test_the_short_way_may_not_outlive_the_bound_either(scene: Scene) -> None:
    await scene.store.put(entry())
    found = await scene.store.get(Key("a"))
    assert found is not None
    assert scene.store.holds(found)
    scene.clock.time += 10
    assert not scene.store.holds(found)


@awaited
async def test_what_expires_is_given_no_longer_however_fresh_the_copy(scene: Scene) -> None:
    await scene.store.put(entry(expires=1005.0))
    scene.clock.time += 5
    assert await scene.store.get(Key("a")) is None


@awaited
async def test_what_another_process_withdraws_is_gone_when_it_is_heard_of(scene: Scene) -> None:
    for key in "abc":
        await scene.store.put(entry(key))
    await scene.shared.drop(Key("a"))
    scene.store.withdrawn(Key("a"))
    assert [await scene.store.get(Key(key)) is not None for key in "abc"] == [False, True, True]
    await scene.shared.clear()
    scene.store.withdrawn(None)
    assert [await scene.store.get(Key(key)) is not None for key in "abc"] == [False, False, False]


@awaited
async def test_a_withdrawal_overtakes_an_answer_that_is_on_its_way_here(scene: Scene) -> None:
    await scene.shared.put(entry())
    scene.shared.gate = asyncio.Event()
    asking = asyncio.ensure_future(scene.store.get(Key("a")))
    await asyncio.sleep(0)
    await scene.shared.drop(Key("a"))
    scene.store.withdrawn(Key("a"))
    scene.shared.gate.set()
    await asking
    assert await scene.store.get(Key("a")) is None


@awaited
async def test_an_answer_put_while_the_store_was_asked_is_found(scene: Scene) -> None:
    scene.shared.gate = asyncio.Event()
    asking = asyncio.ensure_future(scene.store.get(Key("a")))
    await asyncio.sleep(0)
    await scene.store.put(entry())
    scene.shared.gate.set()
    assert await asking == entry()


@awaited
async def test_what_the_store_has_no_more_is_forgotten_here_too(scene: Scene) -> None:
    await scene.store.put(entry())
    await scene.shared.drop(Key("a"))
    scene.clock.time += 11
    assert await scene.store.get(Key("a")) is None
    assert len(scene.local) == 0


@awaited
async def test_while_the_store_fails_copies_are_given_as_long_as_they_are_believed(scene: Scene) -> None:
    await scene.store.put(entry())
    scene.shared.broken = True
    assert await scene.store.get(Key("a")) == entry()
    scene.clock.time += 11
    with pytest.raises(CacheError):
        await scene.store.get(Key("a"))
    scene.shared.broken = False
    assert await scene.store.get(Key("a")) == entry()


@awaited
async def test_what_the_store_could_not_keep_is_not_kept_here_alone(scene: Scene) -> None:
    scene.shared.broken = True
    with pytest.raises(CacheError):
        await scene.store.put(entry())
    assert len(scene.local) == 0


@awaited
async def test_the_store_learns_how_often_its_copies_were_used(scene: Scene) -> None:
    await scene.shared.put(entry())
    for _ in range(8):
        await scene.store.get(Key("a"))
    scene.clock.time += 11
    await scene.store.get(Key("a"))
    assert scene.shared.told == {"a": 7}
