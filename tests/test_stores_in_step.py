"""Any order of operations on any store gives what a plain dictionary gives, or less where there is no more room."""

import asyncio
import dataclasses
import math
import secrets
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from proxy.model import Entry, Key
from proxy.ports import Store
from proxy.stores.codec import Codec
from proxy.stores.fronted import FrontedStore
from proxy.stores.memory import MemoryStore
from proxy.stores.redis import RedisStore
from proxy.stores.redis_link import RedisLink
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite_file import SqliteFile
from proxy.stores.sqlite_threads import SqliteThreads
from tests.redis_server import RedisServer
from tests.test_store_contract import Clock, entry

T = TypeVar("T")

ROOM = 60_000
PATIENT_S = 10.0
KEYS = [f"{number:064x}" for number in range(4)] + ["a", "b", "c"]

DIRECTORY = tempfile.TemporaryDirectory(prefix="askonce-test-")
"""For the files of all examples; it goes with the process."""

Opened = Callable[[Clock], list[Store]]
"""Opens one store as two processes would."""


def memory(clock: Clock) -> list[Store]:
    return [MemoryStore(max_bytes=ROOM, now=clock)]


def sqlite(clock: Clock) -> list[Store]:
    path = Path(DIRECTORY.name) / f"{secrets.token_hex(8)}.db"

    def one() -> SqliteStore:
        threads = SqliteThreads(SqliteFile(path), deadline_s=PATIENT_S)
        return SqliteStore(threads, Codec(), max_bytes=ROOM, now=clock)

    # A copy in front that is looked at again each time is as good as none.
    fronted = FrontedStore(MemoryStore(max_bytes=ROOM, now=clock), one(), believe_s=0.0, now=clock)
    return [one(), fronted]


def redis(url: str) -> Opened:
    def opened(clock: Clock) -> list[Store]:
        prefix = f"{secrets.token_hex(8)}:"
        links = [RedisLink(url, max_connections=2, deadline_s=PATIENT_S) for _ in range(2)]
        return [RedisStore(link, Codec(), prefix=prefix, now=clock) for link in links]

    return opened


class InStep(RuleBasedStateMachine):
    """Operations on two faces of one store, with a dictionary beside them that never has to make room."""

    opened: Opened = staticmethod(memory)

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.loop = asyncio.new_event_loop()
        self.faces = type(self).opened(self.clock)
        self.model: dict[str, Entry] = {}
        self.evicts = isinstance(self.faces[0], MemoryStore | SqliteStore)

    def done(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def face(self, number: int) -> Store:
        return self.faces[number % len(self.faces)]

    def live(self, key: str) -> Entry | None:
        kept = self.model.get(key)
        return kept if kept is not None and kept.expires > self.clock.time else None

    @rule(
        by=st.integers(0, 1),
        key=st.sampled_from(KEYS),
        size=st.sampled_from([0, 100, 9_000]),
        ttl_s=st.sampled_from([1.0, 50.0, math.inf]),
        grace_s=st.sampled_from([0.0, 30.0]),
        mark=st.integers(0, 255),
    )
    def put(self, by: int, key: str, size: int, ttl_s: float, grace_s: float, mark: int) -> None:
        body = bytes([mark]) + secrets.token_bytes(size)
        new = dataclasses.replace(entry(key, body, expires=self.clock.time + ttl_s), grace_s=grace_s)
        assert self.done(self.face(by).put(new))
        self.model[key] = new

    @rule(by=st.integers(0, 1), key=st.sampled_from(KEYS), stale=st.booleans())
    def get(self, by: int, key: str, stale: bool) -> None:
        store = self.face(by)
        found = self.done(store.get_even_stale(Key(key)) if stale else store.get(Key(key)))
        kept = self.model.get(key)
        until = (kept.expires + kept.grace_s * stale) if kept is not None else 0.0
        expected = kept if until > self.clock.time else None
        assert found == expected or (found is None and self.evicts)

    @rule(by=st.integers(0, 1), key=st.sampled_from(KEYS))
    def drop(self, by: int, key: str) -> None:
        dropped = self.done(self.face(by).drop(Key(key)))
        assert not dropped or key in self.model
        self.model.pop(key, None)

    @rule(by=st.integers(0, 1))
    def clear(self, by: int) -> None:
        assert self.done(self.face(by).clear()) <= len(self.model)
        self.model.clear()

    @rule(seconds=st.sampled_from([0.5, 20.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(by=st.integers(0, 1))
    def list(self, by: int) -> None:
        async def listed() -> dict[str, Entry]:
            return {each.key: each async for each in self.face(by).entries()}

        found = self.done(listed())
        expected = {key: kept for key in self.model if (kept := self.live(key)) is not None}
        assert found.items() <= expected.items()
        assert self.evicts or found == expected

    @invariant()
    def stays_within_its_room(self) -> None:
        for store in getattr(self, "faces", []):
            if isinstance(store, MemoryStore | SqliteStore):
                assert store.bytes_used <= ROOM

    def teardown(self) -> None:
        for store in getattr(self, "faces", []):
            self.done(store.close())
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
@pytest.mark.timeout(60)
def test_any_order_of_operations_gives_what_a_dictionary_gives(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        opened = redis(server.url)
    else:
        opened = {"memory": memory, "sqlite": sqlite}[kind]
    machine = type("Machine", (InStep,), {"opened": staticmethod(opened)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
