"""The way to a Redis: plain, a cluster, or the master that sentinels name. The only module that knows the client."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import BlockingConnectionPool, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxy.errors import CacheError, ConfigError
from proxy.stores.guard import PAUSE_S, Guard

log = logging.getLogger(__name__)

T = TypeVar("T")

SOCKET_S = 2.0
"""How long a connection waits for Redis. Requests wait less: what they gave up may still make a connection ready."""

LISTEN_AGAIN_S = 0.5
"""So long after it broke off, listening to a channel is tried again."""

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")

Client = Any
"""redis-py's client: its annotations differ between plain and cluster, and its answers are checked where they come."""

Ask = Callable[[Client], Awaitable[T]]


class RedisLink:
    """A bounded number of connections, made when they are needed."""

    def __init__(self, url: str, *, max_connections: int, deadline_s: float) -> None:
        """
        Raises:
            ConfigError: *url* is none.
        """
        self.where = _shown(url)
        self._make = _maker(url, max_connections=max_connections, wait_s=deadline_s)
        self._deadline_s = deadline_s
        self._clients: list[Client] = []
        self._closed = False
        # Apart: a Redis that is full, or a replica, still answers.
        self.reads = Guard(f"the store at {self.where}", pause_s=PAUSE_S)
        self.writes = Guard(f"writing to the store at {self.where}")
        self._under_way: set[asyncio.Future[Any]] = set()

    def __repr__(self) -> str:
        return f"<RedisLink {self.where}, {len(self._under_way)} under way>"

    async def read(self, ask: Ask[T], *, deadline_s: float | None = None) -> T:
        """What Redis answers to *ask*.

        Raises:
            CacheError: it cannot be reached, refused, or was too slow.
        """
        return await self._ask(ask, self.reads, deadline_s)

    async def write(self, ask: Ask[T], *, deadline_s: float | None = None, guard: Guard | None = None) -> T:
        """What Redis answers to *ask*, which changes something; it counts as a fault at *guard* where it is one.

        Raises:
            CacheError: it cannot be reached, refused, or was too slow; it may have been done all the same.
        """
        return await self._ask(ask, guard or self.writes, deadline_s)

    async def _ask(self, ask: Ask[T], guard: Guard, deadline_s: float | None) -> T:
        within = self._deadline_s if deadline_s is None else deadline_s
        # Never cancelled: a connection in the middle of its handshake, or of an answer, would have to be thrown away,
        # and a Redis whose handshake takes longer than the deadline could never be reached.
        return await guard.within(within, lambda: self._start(ask), cancel=False)

    def _start(self, ask: Ask[T]) -> asyncio.Future[T]:
        future = asyncio.ensure_future(self._told(ask))
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    async def _told(self, ask: Ask[T]) -> T:
        try:
            return await ask(self.client())
        except (TimeoutError, RedisError, OSError) as error:
            raise CacheError(f"{self.where}: {error or type(error).__name__}") from error

    def client(self) -> Client:
        """The client; nothing is connected by this."""
        if self._closed:
            raise CacheError(f"the link to {self.where} is closed")
        if not self._clients:
            self._clients = self._make()
        return self._clients[0]

    async def listen(self, channel: str, heard: Callable[[bytes], None], gap: Callable[[], None]) -> None:
        """Call *heard* with each message on *channel*, and *gap* whenever some may have been missed; never ends."""
        while True:
            try:
                pubsub = self.client().pubsub(ignore_subscribe_messages=True)
                try:
                    await pubsub.subscribe(channel)
                    gap()
                    while True:
                        message = await pubsub.get_message(timeout=SOCKET_S / 2)
                        if message is not None and isinstance(message.get("data"), bytes):
                            heard(message["data"])
                finally:
                    await pubsub.aclose()
            except (TimeoutError, RedisError, OSError, CacheError) as error:
                log.debug("listening at %s broke off: %s", self.where, error)
                gap()
                await asyncio.sleep(LISTEN_AGAIN_S)

    async def close(self) -> None:
        """Let what is under way end, and close the connections."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=SOCKET_S)
        for client in self._clients:
            try:
                await client.aclose()
            except (RedisError, OSError) as error:
                log.debug("closing the connections to %s: %s", self.where, error)


def _maker(url: str, *, max_connections: int, wait_s: float) -> Callable[[], list[Client]]:
    """What makes the client for *url*, first, and whatever else is to be closed with it.

    Raises:
        ConfigError: it names no Redis.
    """
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if scheme not in SCHEMES or not rest:
        raise ConfigError(f"store.url: {_shown(url)!r} must begin with {', '.join(f'{each}://' for each in SCHEMES)}")
    common: dict[str, Any] = {
        "socket_timeout": SOCKET_S,
        "socket_connect_timeout": SOCKET_S,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "askonce",
    }
    try:
        if kind == "cluster":
            plain = f"{base}://{rest}"
            _check(plain)
            # Once more where a slot has moved meanwhile.
            more = {**common, "max_connections": max_connections, "retry": Retry(NoBackoff(), 1)}
            return lambda: [RedisCluster.from_url(plain, **more)]
        if kind == "sentinel":
            sentinels, service, options = _sentinels(f"{base}://{rest}")
            if base == "rediss":
                options["ssl"] = True

            def of_sentinels() -> list[Client]:
                more = {"sentinel_kwargs": {**common, **_security(options)}, **common, **options}
                watchers = Sentinel(sentinels, **more)  # type: ignore[no-untyped-call]
                return [watchers.master_for(service, max_connections=max_connections), *watchers.sentinels]

            return of_sentinels
        _check(url)
    except (ValueError, ssl.SSLError) as error:
        raise ConfigError(f"store.url: {_shown(url)!r} is not the URL of a Redis: {error}") from None
    pooled = {"max_connections": max_connections, "timeout": wait_s, **common}
    return lambda: [Redis.from_pool(BlockingConnectionPool.from_url(url, **pooled))]


def _check(url: str) -> None:
    """Raises ValueError where redis-py cannot read *url*."""
    ConnectionPool.from_url(url)
    if not url.startswith("unix") and not urlsplit(url).hostname:
        raise ValueError("it names no host")


def _sentinels(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """The sentinels, the service and the options of ``redis://user:word@host:port,host:port/service/db``."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("after the sentinels it must name the service: /mymaster")
    sentinels = []
    for each in hosts.split(","):
        host, _, port = each.rpartition(":")
        sentinels.append((host.strip("[]") or each, int(port) if host else 26379))
    if not all(host for host, _ in sentinels):
        raise ValueError("it names no sentinel")
    user, _, word = credentials.partition(":")
    options: dict[str, Any] = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if user:
        options["username"] = unquote(user)
    if word:
        options["password"] = unquote(word)
    if db:
        options["db"] = int(db)
    return sentinels, service, options


def _security(options: dict[str, Any]) -> dict[str, Any]:
    """What holds for the sentinels as for the master: encryption, but not the credentials."""
    return {name: value for name, value in options.items() if name.startswith("ssl")}


def _shown(url: str) -> str:
    """*url* without credentials and options."""
    scheme, separator, rest = url.partition("://")
    address = rest.partition("?")[0].rpartition("@")[2]
    return f"{scheme}{separator}{address}"
