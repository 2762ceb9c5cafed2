"""The redis store with what happens to a Redis: it stops, hangs, is full, restarts empty, is shared with others."""

import asyncio
import dataclasses
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme

from proxy.errors import CacheError, ConfigError
from proxy.model import Entry, Key
from proxy.stores.codec import Codec
from proxy.stores.guard import MAX_REST_S
from proxy.stores.redis import RedisStore
from proxy.stores.redis_link import RedisLink
from proxy.stores.redis_shelf import RedisShelf, RedisTallies
from tests.awaited import awaited
from tests.redis_server import RedisServer, redis_7

PATIENT_S = 10.0


def entry(key: str, body: bytes = b"body", **more: object) -> Entry:
    made = Entry(key=Key(key), dialect="chat", status=200, phrase=b"OK", head=b"A: 1\r\n", body=body, created=1.0)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(url: str, *, prefix: str = "askonce:", deadline_s: float = PATIENT_S) -> AsyncIterator[RedisStore]:
    store = RedisStore(RedisLink(url, max_connections=4, deadline_s=deadline_s), Codec(), prefix=prefix)
    try:
        yield store
    finally:
        await store.close()


async def recovered(store: RedisStore) -> None:
    """Return when the store keeps again, which it must of itself."""
    until = time.monotonic() + 3 * MAX_REST_S
    while True:
        try:
            await store.put(entry("new"))
            if await store.get(Key("new")) == entry("new"):
                return
        except CacheError:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)


@awaited
async def test_two_prefixes_share_a_redis_and_nothing_in_it(redis_server: RedisServer) -> None:
    mine, theirs = f"{secrets.token_hex(8)}:", f"{secrets.token_hex(8)}:"
    async with opened(redis_server.url, prefix=mine) as one, opened(redis_server.url, prefix=theirs) as other:
        await one.put(entry("a"))
        await other.put(entry("b"))
        assert await other.get(Key("a")) is None
        assert await one.clear() == 1
        assert await other.get(Key("b")) == entry("b")


@awaited
async def test_clearing_touches_no_key_of_anybody_else(own_redis: RedisServer) -> None:
    own_redis.says("SET", "theirs", "1")
    async with opened(own_redis.url) as store:
        for number in range(1200):
            await store.put(entry(f"k{number}"))
        assert await store.clear() == 1200
    assert own_redis.says("DBSIZE") == b":1\r\n"
    assert b"1" in own_redis.says("GET", "theirs")


@awaited
async def test_redis_itself_ends_what_has_expired(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store:
        await store.put(entry("a", expires=time.time() + 100))
        await store.put(entry("b"))
    assert 90_000 < int(own_redis.says("PTTL", "askonce:entry:a")[1:]) <= 100_000
    assert own_redis.says("TTL", "askonce:entry:b") == b":-1\r\n"


@awaited
async def test_entries_are_listed_for_moving_house(redis_server: RedisServer) -> None:
    async with opened(redis_server.url, prefix=f"{secrets.token_hex(8)}:") as store:
        for number in range(700):
            await store.put(entry(f"k{number}"))
        assert sorted([each.key async for each in store.entries()]) == sorted(f"k{number}" for number in range(700))


@awaited
async def test_a_withdrawal_reaches_the_other_processes(redis_server: RedisServer) -> None:
    prefix = f"{secrets.token_hex(8)}:"
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    async with opened(redis_server.url, prefix=prefix) as one, opened(redis_server.url, prefix=prefix) as other:
        heeding = asyncio.ensure_future(other.heed(heard.put_nowait))
        assert await heard.get() is None
        await one.put(entry("a"))
        await one.drop(Key("a"))
        assert await heard.get() == "a"
        await one.clear()
        assert await heard.get() is None
        heeding.cancel()


@awaited
async def test_questions_that_another_process_keeps_the_answers_to_arrive(redis_server: RedisServer) -> None:
    prefix = f"{secrets.token_hex(8)}:"
    async with opened(redis_server.url, prefix=prefix) as one, opened(redis_server.url, prefix=prefix) as other:
        arriving = other.arriving()
        first = asyncio.ensure_future(anext(arriving))
        while not first.done():
            # It listens from when it has subscribed.
            await one.put(entry("apart"))
            await one.put(entry("a", scope="s"))
            await asyncio.sleep(0.02)
        assert await first == entry("a", scope="s")


@awaited
async def test_whoever_could_not_listen_for_a_while_forgets_all(own_redis: RedisServer) -> None:
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    async with opened(own_redis.url) as store:
        heeding = asyncio.ensure_future(store.heed(heard.put_nowait))
        assert await heard.get() is None
        own_redis.stop()
        assert await heard.get() is None
        own_redis.start()
        while await heard.get() is None:
            # It listens again when it hears something.
            own_redis.says("PUBLISH", "askonce:withdrawn", "a")
        heeding.cancel()


@awaited
async def test_a_redis_that_is_not_there_is_a_fault_at_once_and_then_none_at_all(closed_port: int) -> None:
    async with opened(f"redis://127.0.0.1:{closed_port}/0", deadline_s=0.05) as store:
        for _ in range(3):
            with pytest.raises(CacheError, match=f"127.0.0.1:{closed_port}"):
                await store.get(Key("a"))
        with pytest.raises(CacheError, match="left alone for a while"):
            await store.get(Key("a"))
        assert store.fault


@awaited
async def test_a_redis_that_comes_back_empty_is_used_again(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store:
        await store.put(entry("a"))
        own_redis.stop()
        for _ in range(5):
            with pytest.raises(CacheError):
                await store.get(Key("a"))
        own_redis.start()
        await recovered(store)
        assert await store.get(Key("a")) is None
        assert store.fault == ""


@awaited
async def test_a_redis_that_hangs_costs_no_more_than_the_deadline(own_redis: RedisServer) -> None:
    async with opened(own_redis.url, deadline_s=0.05) as store:
        await store.put(entry("a"))
        own_redis.pause()
        began = time.perf_counter()
        for _ in range(20):
            with pytest.raises(CacheError):
                await store.get(Key("a"))
        # Three deadlines, and then it is left alone.
        assert time.perf_counter() - began < 2.0
        own_redis.resume()
        await recovered(store)
        assert await store.get(Key("a")) == entry("a")


@awaited
async def test_a_redis_that_is_full_keeps_no_more_and_still_answers(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store:
        await store.put(entry("a"))
        own_redis.says("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(CacheError, match=r"maxmemory|OOM|memory"):
            await store.put(entry("b"))
        assert await store.get(Key("a")) == entry("a")
        own_redis.says("CONFIG", "SET", "maxmemory", "0")
        await recovered(store)


@awaited
async def test_a_replica_keeps_nothing_and_still_answers(own_redis: RedisServer, closed_port: int) -> None:
    async with opened(own_redis.url) as store:
        await store.put(entry("a"))
        own_redis.says("REPLICAOF", "127.0.0.1", str(closed_port))
        with pytest.raises(CacheError):
            await store.put(entry("b"))
        assert await store.get(Key("a")) == entry("a")
        own_redis.says("REPLICAOF", "NO", "ONE")
        await recovered(store)


@awaited
async def test_what_somebody_else_flushed_is_a_miss(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store:
        await store.put(entry("a"))
        own_redis.says("FLUSHALL")
        assert await store.get(Key("a")) is None
        assert await store.put(entry("a"))


@awaited
async def test_a_value_of_anybody_else_under_our_key_is_a_miss(own_redis: RedisServer) -> None:
    own_redis.says("SET", "askonce:entry:a", "no entry at all")
    async with opened(own_redis.url) as store:
        assert await store.get(Key("a")) is None
        assert await store.put(entry("a"))
        assert await store.get(Key("a")) == entry("a")


@awaited
async def test_a_key_of_another_type_is_a_fault_and_nothing_worse(own_redis: RedisServer) -> None:
    own_redis.says("RPUSH", "askonce:entry:a", "1")
    async with opened(own_redis.url) as store:
        with pytest.raises(CacheError, match="WRONGTYPE"):
            await store.get(Key("a"))


class Slow:
    """Stands between a client and a Redis, and passes what comes from the client on after a while."""

    def __init__(self, port: int, delay_s: float) -> None:
        self._to, self._delay_s = port, delay_s
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            redis = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._pass, args=(client, redis, self._delay_s), daemon=True).start()
            threading.Thread(target=self._pass, args=(redis, client, 0.0), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, delay_s: float) -> None:
        with source, sink:
            try:
                while octets := source.recv(1 << 16):
                    time.sleep(delay_s)
                    sink.sendall(octets)
            except OSError:
                return

    def close(self) -> None:
        self._server.close()


@awaited
async def test_a_redis_whose_handshake_takes_longer_than_the_deadline_is_reached_all_the_same(
    own_redis: RedisServer,
) -> None:
    own_redis.says("CONFIG", "SET", "requirepass", "word")
    slow = Slow(own_redis.port, 0.03)
    async with opened(f"redis://:word@127.0.0.1:{slow.port}/0", deadline_s=0.05) as store:
        await recovered(store)
    slow.close()


@awaited
async def test_a_user_that_may_do_no_more_than_needed_is_enough(own_redis: RedisServer) -> None:
    allowed = ["+@read", "+@write", "+publish", "+subscribe", "+ping", "+client", "+hello", "+select", "+@transaction"]
    own_redis.says("ACL", "SETUSER", "askonce", "on", ">word", "~askonce:*", "&askonce:*", "-@all", *allowed, "-keys")
    async with opened(f"redis://askonce:word@127.0.0.1:{own_redis.port}/0") as store:
        await store.put(entry("a", scope="s"))
        assert await store.get(Key("a")) == entry("a", scope="s")
        assert await store.drop(Key("a"))
        assert await store.clear() == 0
    async with opened(f"redis://askonce:wrong@127.0.0.1:{own_redis.port}/0") as store:
        with pytest.raises(CacheError) as raised:
            await store.get(Key("a"))
        assert "wrong" not in str(raised.value).replace("WRONGPASS", "")


@pytest.fixture
def encrypted(authority: trustme.CA, authority_file: str, tmp_path: Path) -> Iterator[tuple[RedisServer, int]]:
    """A Redis with a port at which it speaks TLS alone, and that port."""
    certificate, port = authority.issue_cert("localhost"), free_port()
    shown, key = tmp_path / "shown.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(shown)
    certificate.private_key_pem.write_to_path(key)
    options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", authority_file]
    with RedisServer(
        redis_7(), options=[*options, "--tls-cert-file", str(shown), "--tls-key-file", str(key)]
    ) as running:
        yield running, port


@awaited
async def test_a_redis_that_speaks_tls_is_a_store_like_any_other(
    encrypted: tuple[RedisServer, int], authority_file: str
) -> None:
    server, port = encrypted
    async with opened(f"rediss://localhost:{port}/0?ssl_ca_certs={authority_file}") as store:
        await store.put(entry("a", body=b"x" * 100_000))
        assert await store.get(Key("a")) == entry("a", body=b"x" * 100_000)
        assert await store.drop(Key("a"))
    assert b"askonce:" not in server.says("KEYS", "*:a")


@awaited
@pytest.mark.parametrize("where", ["rediss://localhost:{}/0", "rediss://127.0.0.1:{}/0?ssl_ca_certs={}"])
async def test_a_redis_whose_certificate_is_not_its_own_is_told_nothing(
    encrypted: tuple[RedisServer, int], authority_file: str, where: str
) -> None:
    # Nobody vouches for the one, and the other is shown for another name.
    server, port = encrypted
    async with opened(where.format(port, authority_file)) as store:
        with pytest.raises(CacheError, match=r"(?i)certificate"):
            await store.put(entry("a"))
    assert b"askonce:" not in server.says("KEYS", "*")


@awaited
async def test_tallies_lapse_after_their_last_addition(own_redis: RedisServer) -> None:
    link = RedisLink(own_redis.url, max_connections=4, deadline_s=PATIENT_S)
    tallies = RedisTallies(link)
    await tallies.add("minute", {"hits": 1}, keep_s=100)
    await tallies.add("minute", {"hits": 1}, keep_s=50)
    assert 40 < int(own_redis.says("TTL", "askonce:tally:minute")[1:]) <= 50
    await tallies.add("minute", {"hits": 1}, keep_s=float("inf"))
    assert own_redis.says("TTL", "askonce:tally:minute") == b":-1\r\n"
    await link.close()


@awaited
async def test_what_was_created_on_the_shelf_is_the_same_for_all(redis_server: RedisServer) -> None:
    prefix = f"{secrets.token_hex(8)}:"
    links = [RedisLink(redis_server.url, max_connections=2, deadline_s=PATIENT_S) for _ in range(4)]
    shelves = [RedisShelf(link, prefix=prefix) for link in links]
    found = await asyncio.gather(*(shelf.create("secret", secrets.token_bytes(8)) for shelf in shelves))
    assert len(set(found)) == 1
    for link in links:
        await link.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:6379",
        "redis://",
        "127.0.0.1:6379",
        "redis://user:word@:1",
        "redis://host:port/0",
        "redis+sentinel://host:26379",
        "redis+sentinel://host:x/service",
        "redis+other://host",
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.url") as raised:
        RedisLink(url, max_connections=2, deadline_s=1)
    assert "word" not in str(raised.value)


def test_every_kind_of_redis_has_a_url() -> None:
    for url in (
        "redis://user:word@host:6379/1",
        "rediss://host?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock?db=1",
        "redis+cluster://host:7000",
        "redis+sentinel://user:word@one:26379,two:26380/service/1",
    ):
        link = RedisLink(url, max_connections=2, deadline_s=1)
        assert "word" not in repr(link)


@awaited
async def test_the_master_that_sentinels_name_is_used_and_its_successor_too(tmp_path: Path) -> None:
    with RedisServer(redis_7()) as master, RedisServer(redis_7()) as replica:
        replica.says("REPLICAOF", "127.0.0.1", str(master.port))
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"sentinel monitor askonce 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds askonce 300\nsentinel failover-timeout askonce 1000\n"
        )
        with RedisServer(redis_7(), config=config, options=["--sentinel"]) as sentinel:
            async with opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/askonce/0") as store:
                await store.put(entry("a"))
                assert await store.get(Key("a")) == entry("a")
                until = time.monotonic() + 15
                while b"slave" not in sentinel.says("SENTINEL", "REPLICAS", "askonce"):
                    assert time.monotonic() < until
                    await asyncio.sleep(0.1)
                while b"OK" not in sentinel.says("SENTINEL", "FAILOVER", "askonce"):
                    assert time.monotonic() < until
                    await asyncio.sleep(0.2)
                while b"%d" % replica.port not in sentinel.says("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "askonce"):
                    assert time.monotonic() < until
                    await asyncio.sleep(0.1)
                master.stop()
                await recovered(store)
                assert b"new" in replica.says("KEYS", "*new*")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def cluster() -> Iterator[str]:
    """A cluster of three masters; the address of one."""
    with ExitStack() as nodes:
        servers = []
        for _ in range(3):
            options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
            servers.append(nodes.enter_context(RedisServer(redis_7(), options=options)))
        where = [f"127.0.0.1:{server.port}" for server in servers]
        command = ["redis-cli", "--cluster", "create", *where, "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=15)
        until = time.monotonic() + 10
        while not all(b"cluster_state:ok" in server.says("CLUSTER", "INFO") for server in servers):
            assert time.monotonic() < until
            time.sleep(0.05)
        yield where[0]


@awaited
async def test_a_cluster_is_a_store_like_any_other(cluster: str) -> None:
    async with opened(f"redis+cluster://{cluster}") as store:
        for number in range(100):
            await store.put(entry(f"k{number}", scope="s"))
        assert [await store.get(Key(f"k{number}")) is not None for number in range(100)] == [True] * 100
        assert len([each async for each in store.asked()]) == 100
        assert await store.drop(Key("k1"))
        assert await store.clear() == 99
