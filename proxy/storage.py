"""What is kept, where: the store that the settings ask for, with the shelf and the tallies beside its entries."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from proxy.errors import CacheError, ConfigError
from proxy.model import Entry
from proxy.ports import Embedder, Leases, Shelf, Store, Tallies, VectorIndex
from proxy.settings import StoreSettings
from proxy.stores.codec import Codec
from proxy.stores.fronted import FrontedStore
from proxy.stores.memory import MemoryStore
from proxy.stores.sealing import seal_of
from proxy.stores.shelf import MemoryShelf, MemoryTallies
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite_file import SqliteFile
from proxy.stores.sqlite_leases import SqliteLeases
from proxy.stores.sqlite_shelf import SqliteShelf, SqliteTallies
from proxy.stores.sqlite_threads import SqliteThreads
from proxy.tasks import Tasks

log = logging.getLogger(__name__)

LOCAL_REDIS = "redis://127.0.0.1:6379/0"

TENANTS = "cache.secret"
"""Under which name the secret lies on the shelf that tells tenants apart."""

SECRET_BYTES = 32

SECRET_AGAIN_S = 1.0
"""So long after a fault the shelf is asked for the secret again."""


class Figures(Protocol):
    """What a store tells of itself for /stats, as far as this process knows."""

    def __len__(self) -> int:
        """Entries in the store."""
        ...

    @property
    def bytes_used(self) -> int:
        """Octets in use, overhead included."""
        ...

    @property
    def max_bytes(self) -> int:
        """The budget."""
        ...

    @property
    def evicted(self) -> int:
        """Entries that made room for others."""
        ...

    @property
    def expired(self) -> int:
        """Entries that were removed because their time was over."""
        ...


@dataclass(slots=True, kw_only=True)
class Storage:
    """The store, and what is kept beside its entries."""

    store: Store
    figures: Figures
    holds: Callable[[Entry], bool]
    """Whether a look-up would return this very entry now, without waiting for anything; counted as a use."""
    shelf: Shelf
    tallies: Tallies
    leases: Leases | None
    """None where no other process is to be expected."""
    lasting: bool
    """It outlasts this process, and others may share it."""
    fault: Callable[[], str]
    """Why it does not work now; empty where it does."""
    index: Callable[[Embedder, VectorIndex], VectorIndex] = field(default=lambda _, own: own)
    """What the vectors of an embedder are searched in, made before it is opened; given this process's own block."""
    open: Callable[[Tasks], None] = field(default=lambda _: None)
    """Begin what goes on in the background."""

    def shown(self) -> Mapping[str, object]:
        """What /stats shows of it."""
        return {
            "entries": len(self.figures),
            "bytes": self.figures.bytes_used,
            "max_bytes": self.figures.max_bytes,
            "evicted": self.figures.evicted,
            "expired": self.figures.expired,
            "degraded": bool(self.fault()),
        }

    async def secret(self) -> bytes:
        """The secret that tells tenants apart, made by whoever asks first and the same for all after.

        Raises:
            CacheError: the shelf cannot be reached.
        """
        return await self.shelf.create(TENANTS, secrets.token_bytes(SECRET_BYTES))

    async def secret_when_known(self, use: Callable[[bytes], None]) -> None:
        """Ask for the secret until it is told, then call *use* with it."""
        while True:
            try:
                return use(await self.secret())
            except CacheError:
                await asyncio.sleep(SECRET_AGAIN_S)


def storage(settings: StoreSettings, *, workers: int = 1, now: Callable[[], float] = time.time) -> Storage:
    """The storage that *settings* ask for, to be shared by *workers* processes; nothing is opened yet.

    Raises:
        ConfigError: a setting that it cannot follow.
    """
    match settings.kind:
        case "sqlite":
            return _sqlite(settings, workers, now)
        case "redis":
            return _redis(settings, now)
    if workers > 1:
        raise ConfigError(
            f"server.workers: {workers} processes need a store that they can share; set store.kind to sqlite or redis"
        )
    memory = MemoryStore(max_bytes=settings.max_bytes, eviction=settings.eviction, now=now)
    return Storage(
        store=memory,
        figures=memory,
        holds=memory.holds,
        shelf=MemoryShelf(),
        tallies=MemoryTallies(now=now),
        leases=None,
        lasting=False,
        fault=lambda: "",
    )


def _sqlite(settings: StoreSettings, workers: int, now: Callable[[], float]) -> Storage:
    threads = SqliteThreads(SqliteFile(Path(settings.path)), deadline_s=settings.deadline_ms / 1000)
    behind = SqliteStore(threads, _codec(settings), max_bytes=settings.max_bytes, eviction=settings.eviction, now=now)
    fronted = FrontedStore(_local(settings, now), behind, believe_s=settings.local_ttl_s, now=now)

    def begin(tasks: Tasks) -> None:
        tasks.start(fronted.heed(), name="heed")

    return Storage(
        store=fronted,
        figures=behind,
        holds=fronted.holds,
        shelf=SqliteShelf(threads),
        tallies=SqliteTallies(threads, now=now),
        leases=SqliteLeases(threads, deadline_s=settings.deadline_ms / 1000, now=now) if workers > 1 else None,
        lasting=True,
        fault=lambda: behind.fault,
        open=begin,
    )


def _redis(settings: StoreSettings, now: Callable[[], float]) -> Storage:
    # The client takes as long to import as all the rest: only who uses it pays.
    from proxy.stores.redis import RedisStore
    from proxy.stores.redis_leases import RedisLeases
    from proxy.stores.redis_link import RedisLink
    from proxy.stores.redis_shelf import RedisShelf, RedisTallies
    from proxy.vectors.redis import RedisVectors

    link = RedisLink(
        settings.url or LOCAL_REDIS, max_connections=settings.max_connections, deadline_s=settings.deadline_ms / 1000
    )
    behind = RedisStore(link, _codec(settings), prefix=settings.prefix, now=now)
    fronted = FrontedStore(_local(settings, now), behind, believe_s=settings.local_ttl_s, now=now)

    made: list[RedisVectors] = []

    def index(embedder: Embedder, own: VectorIndex) -> VectorIndex:
        # A vector tells much of its text, so none lies open beside what is encrypted; and a set lies on another node of
        # a cluster than the entries that it follows.
        if settings.encryption_keys or "+cluster" in settings.url.partition("://")[0]:
            return own
        made.append(
            RedisVectors(own, link, prefix=settings.prefix, identity=embedder.identity, dimension=embedder.dimension)
        )
        return made[-1]

    def begin(tasks: Tasks) -> None:
        tasks.start(fronted.heed(), name="heed")
        tasks.start(behind.look(), name="look")
        for each in made:
            each.open(tasks)

    return Storage(
        store=fronted,
        figures=behind,
        holds=fronted.holds,
        shelf=RedisShelf(link, prefix=settings.prefix),
        tallies=RedisTallies(link, prefix=settings.prefix),
        leases=RedisLeases(link, prefix=settings.prefix),
        lasting=True,
        fault=lambda: behind.fault,
        index=index,
        open=begin,
    )


def _local(settings: StoreSettings, now: Callable[[], float]) -> MemoryStore:
    return MemoryStore(max_bytes=settings.local_max_bytes, eviction=settings.eviction, now=now)


def _codec(settings: StoreSettings) -> Codec:
    return Codec(compress_from_bytes=settings.compress_from_bytes, seal=seal_of(settings.encryption_keys))
