"""Leases: of all processes that share a store one asks the provider, and nobody waits for the dead or for ever."""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.errors import CacheError
from proxy.headers import Fields
from proxy.leases import LEASE_S, Leasing
from proxy.model import Entry, Key, Reason
from proxy.ports import Leases
from proxy.providers.provider import Incoming
from proxy.replay import Replayed
from proxy.stores.memory import MemoryStore
from proxy.stores.redis_leases import RedisLeases
from proxy.stores.redis_link import RedisLink
from proxy.stores.sqlite_file import SqliteFile
from proxy.stores.sqlite_leases import SqliteLeases
from proxy.stores.sqlite_threads import SqliteThreads
from proxy.tasks import Tasks
from tests import raw_client
from tests.awaited import awaited
from tests.conftest import StartProxy
from tests.observation import assert_adds_up, wait_for_stats
from tests.raw_client import RawAnswer
from tests.redis_server import RedisServer
from tests.scripted_provider import Gate, steps


@pytest.fixture(params=["sqlite", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], object]:
    """Opens the same leases, as one more process would."""
    if request.param == "sqlite":

        @asynccontextmanager
        async def sqlite() -> AsyncIterator[Leases]:
            threads = SqliteThreads(SqliteFile(tmp_path / "askonce.db"), deadline_s=10)
            yield SqliteLeases(threads, deadline_s=10)
            await threads.close()

        return sqlite
    url, prefix = request.getfixturevalue("redis_server").url, f"{secrets.token_hex(8)}:"

    @asynccontextmanager
    async def redis() -> AsyncIterator[Leases]:
        link = RedisLink(url, max_connections=4, deadline_s=10)
        yield RedisLeases(link, prefix=prefix)
        await link.close()

    return redis


@awaited
async def test_one_holds_a_lease_until_it_lets_go(opened: Callable[[], object]) -> None:
    async with opened() as mine, opened() as theirs:  # type: ignore[attr-defined]
        assert await mine.take("a", b"me", keep_s=60)
        assert not await theirs.take("a", b"them", keep_s=60)
        assert await theirs.take("b", b"them", keep_s=60)
        await theirs.release("a", b"them")
        assert not await theirs.take("a", b"them", keep_s=60)
        await mine.release("a", b"me")
        assert await theirs.take("a", b"them", keep_s=60)


@awaited
async def test_a_lease_that_is_not_renewed_lapses(opened: Callable[[], object]) -> None:
    async with opened() as mine, opened() as theirs:  # type: ignore[attr-defined]
        assert await mine.take("a", b"me", keep_s=0.2)
        assert await mine.renew("a", b"me", keep_s=0.4)
        await asyncio.sleep(0.25)
        assert not await theirs.take("a", b"them", keep_s=60)
        await asyncio.sleep(0.2)
        assert await theirs.take("a", b"them", keep_s=60)
        assert not await mine.renew("a", b"me", keep_s=60)
        await mine.release("a", b"me")
        assert not await mine.take("a", b"me", keep_s=60)


class Table:
    """Leases in memory, of which a test knows who holds them."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.broken = False

    async def take(self, name: str, token: bytes, *, keep_s: float) -> bool:
        if self.broken:
            raise CacheError("no connection")
        return self.held.setdefault(name, token) == token

    async def renew(self, name: str, token: bytes, *, keep_s: float) -> bool:
        return self.held.get(name) == token

    async def release(self, name: str, token: bytes) -> None:
        if self.held.get(name) == token:
            del self.held[name]


class Asked:
    """A provider that counts."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> Incoming:
        self.times += 1
        return Nothing()


class Nothing:
    status, phrase, fields, usage = 200, b"OK", Fields(()), None

    async def __aenter__(self) -> object:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def flow(self, take: Callable[[bytes], bool]) -> bool:
        return True


async def again(entry: Entry) -> Replayed | None:
    return Replayed(entry.head, entry.body, False, Reason.FOUND, exact=True)


class Scene:
    def __init__(self, *, wait_s: float = 30.0) -> None:
        self.table = Table()
        self.store = MemoryStore(max_bytes=1 << 20)
        self.tasks = Tasks()
        self.leasing = Leasing(self.table, self.store, tasks=self.tasks, wait_s=wait_s)
        self.asked = Asked()

    async def keep(self) -> None:
        await self.store.put(
            Entry(key=Key("k"), dialect="chat", status=200, phrase=b"OK", head=b"A: 1\r\n", body=b"kept", created=1.0)
        )


@awaited
async def test_who_holds_the_lease_asks_and_the_other_is_given_what_it_kept() -> None:
    scene = Scene()
    first, second = scene.leasing.lease(Key("k"), again), scene.leasing.lease(Key("k"), again)
    assert first is not None
    assert second is not None
    await first.answer(scene.asked)
    waiting = asyncio.ensure_future(second.answer(scene.asked))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await scene.keep()
    first.end()
    given = await waiting
    pieces: list[bytes] = []

    def take(piece: bytes) -> bool:
        pieces.append(piece)
        return True

    assert await given.flow(take)
    assert (given.status, given.fields.get(b"a"), pieces) == (200, b"1", [b"kept"])
    assert (scene.asked.times, first.found) == (1, None)
    assert second.found is not None
    await scene.tasks.close()


@awaited
async def test_where_the_answer_was_not_kept_the_next_asks() -> None:
    scene = Scene()
    leases = [scene.leasing.lease(Key("k"), again) for _ in range(3)]
    assert leases[0] is not None
    await leases[0].answer(scene.asked)
    waiting = [asyncio.ensure_future(lease.answer(scene.asked)) for lease in leases[1:] if lease is not None]
    leases[0].end()
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert scene.asked.times == 2
    await scene.keep()
    for lease in leases[1:]:
        if lease is not None:
            lease.end()
    await asyncio.gather(*waiting)
    assert scene.asked.times == 2
    await scene.tasks.close()


@awaited
async def test_nobody_waits_longer_than_the_bound() -> None:
    scene = Scene(wait_s=0.2)
    scene.table.held["k"] = b"somebody who never lets go"
    lease = scene.leasing.lease(Key("k"), again)
    assert lease is not None
    began = time.monotonic()
    await lease.answer(scene.asked)
    assert scene.asked.times == 1
    assert time.monotonic() - began >= 0.2
    lease.end()
    await scene.tasks.close()


@awaited
async def test_without_a_store_that_works_everybody_asks() -> None:
    scene = Scene()
    scene.table.broken = True
    lease = scene.leasing.lease(Key("k"), again)
    assert lease is not None
    await lease.answer(scene.asked)
    assert scene.asked.times == 1


def test_where_no_waiting_is_wanted_there_are_no_leases() -> None:
    assert Scene(wait_s=0).leasing.lease(Key("k"), again) is None


def settings_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path, nonce: str) -> dict[str, str]:
    # Who has to ask for itself because the machine is busy is not what is asked here.
    patient = {"store__deadline_ms": "5000"}
    if kind == "sqlite":
        return {**patient, "store__kind": "sqlite", "store__path": str(tmp_path / "askonce.db")}
    server: RedisServer = request.getfixturevalue("redis_server")
    return {**patient, "store__kind": "redis", "store__url": server.url, "store__prefix": f"{nonce}:"}


@pytest.mark.proxy_only
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_many_identical_requests_to_several_workers_are_one_fetch(
    start_proxy: StartProxy, request: pytest.FixtureRequest, tmp_path: Path, nonce: str, kind: str
) -> None:
    ways = start_proxy(server__workers="4", **settings_of(kind, request, tmp_path, nonce))
    gate = Gate()
    ways.plays(steps(gate, ways.fixed()))
    crowd = 80
    with ThreadPoolExecutor(crowd) as threads:
        asking = [threads.submit(raw_client.exchange, ways.proxy, ways.chat(), keep=False) for _ in range(crowd)]
        ways.provider.wait_for(ways.nonce)
        wait_for_stats(ways.proxy, lambda shown: shown["connections"] > 0)
        time.sleep(0.3)
        gate.open()
        answers = [each.result() for each in asking]
    assert {answer.status for answer in answers} == {200}
    assert {bytes(answer.body) for answer in answers} == {bytes(answers[0].body)}
    shown = wait_for_stats(ways.proxy, lambda shown: shown["requests"] == crowd)
    assert_adds_up(shown)
    assert len(ways.received()) == shown["fetches"] == shown["misses"] == 1
    assert shown["joined"] + shown["hits"] == crowd - 1


@pytest.mark.proxy_only
def test_a_leader_that_dies_holds_the_others_up_for_no_longer_than_its_lease(
    start_proxy: StartProxy, redis_server: RedisServer, nonce: str
) -> None:
    settings = {"store__kind": "redis", "store__url": redis_server.url, "store__prefix": f"{nonce}:"}
    leader, other = start_proxy(**settings), start_proxy(**settings)
    leader.plays(steps(Gate(), leader.fixed()), leader.fixed())
    connection = leader.connect()
    connection.send(leader.chat())
    leader.provider.wait_for(leader.nonce)
    began = time.monotonic()
    answered = threading.Thread(target=raw_client.exchange, args=(other.proxy, other.chat()))
    answered.start()
    assert leader.process is not None
    leader.process.kill()
    answered.join(15)
    assert not answered.is_alive()
    assert time.monotonic() - began < LEASE_S + 5
    assert len(other.received()) == 2
    connection.close()


@pytest.mark.proxy_only
def test_a_stream_never_waits_for_another_process(
    start_proxy: StartProxy, redis_server: RedisServer, nonce: str
) -> None:
    settings = {"store__kind": "redis", "store__url": redis_server.url, "store__prefix": f"{nonce}:"}
    one, other = start_proxy(**settings), start_proxy(**settings)
    gate = Gate()
    one.plays(steps(gate, one.fixed()), other.fixed())
    connection = one.connect()
    connection.send(one.post("/v1/chat/completions", one.chat_body(stream=True)))
    one.provider.wait_for(one.nonce)
    answer = raw_client.exchange(other.proxy, other.post("/v1/chat/completions", other.chat_body(stream=True)))
    assert answer.status == 200
    gate.open()
    connection.read_answer("POST")
    connection.close()


@pytest.mark.proxy_only
def test_an_answer_that_is_too_old_for_a_request_is_no_fetch_of_another_process(
    start_proxy: StartProxy, redis_server: RedisServer, nonce: str
) -> None:
    ways = start_proxy(store__kind="redis", store__url=redis_server.url, store__prefix=f"{nonce}:")

    def ask() -> RawAnswer:
        return raw_client.exchange(ways.proxy, ways.chat(headers=(("Cache-Control", "max-age=1"),)))

    ask()
    kept = raw_client.exchange(ways.proxy, ways.chat())
    while int(kept.get("age") or "0") < 2:
        time.sleep(0.05)
        kept = raw_client.exchange(ways.proxy, ways.chat())
    answer = ask()
    assert (answer.get("x-cache"), answer.get("x-cache-reason")) == ("MISS", "too_old")
    assert len(ways.received()) == 2
