"""Entries in a Redis: for several hosts. It evicts by its own ``maxmemory-policy``; every key has our prefix."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable

from proxy.errors import CacheError, Unreadable
from proxy.model import Entry, Key
from proxy.stores.codec import Codec
from proxy.stores.fading import Fading
from proxy.stores.memory import gone_at
from proxy.stores.redis_link import Client, RedisLink
from proxy.tasks import Tasks

OFF_LOOP_BYTES = 64 * 1024
"""An entry above this is packed and unpacked in a thread."""

PUT_S = 1.0
"""No client waits for an answer to be put away."""

LONG_S = 30.0
"""For one step through all keys."""

SCANNED_AT_ONCE = 500

USES_EVERY_S = 2.0
MAX_USES = 10_000

FIGURES_EVERY_S = 5.0

MAX_TTL_MS = 2**53

MAX_ARRIVING = 1000
"""Entries of other processes that wait to be looked at; what comes then is missed."""

EVERYTHING = b"*"
"""On the channel: all entries were withdrawn."""


class RedisStore:
    """A key for each entry, with the time to live of the entry."""

    def __init__(
        self, link: RedisLink, codec: Codec, *, prefix: str = "askonce:", now: Callable[[], float] = time.time
    ) -> None:
        self._link = link
        self._codec = codec
        self._entry = f"{prefix}entry:"
        self._vectors = f"{prefix}vectors:"
        self._asked = f"{prefix}asked"
        self._channel = f"{prefix}withdrawn"
        self._came = f"{prefix}came"
        self._now = now
        self._tasks = Tasks()
        self._used: set[Key] = set()
        self._used_told = now()
        self._gone: list[Callable[[Key], None]] = []
        self._unreadable = Fading(link.where)
        self._entries = 0
        self.bytes_used = 0
        self.max_bytes = 0
        self.evicted = 0
        self.expired = 0

    def __repr__(self) -> str:
        return f"<RedisStore at {self._link.where}>"

    def __len__(self) -> int:
        """Keys in the Redis when it was last looked, ours and others'."""
        return self._entries

    @property
    def fault(self) -> str:
        """Why the store does not work now; empty where it does."""
        return self._link.reads.fault or self._link.writes.fault

    async def get(self, key: Key) -> Entry | None:
        """The live entry under *key*."""
        found = await self.get_even_stale(key)
        return found if found is not None and found.expires > self._now() else None

    async def get_even_stale(self, key: Key) -> Entry | None:
        """The entry under *key*, live or within its grace."""
        octets = await self._link.read(lambda client: client.get(self._entry + key))
        found = await self._unpacked(octets, key)
        return found if found is not None and gone_at(found) > self._now() else None

    def used(self, key: Key, times: int) -> None:
        """The entry under *key* was used *times* more: Redis is told, for its own order of eviction."""
        if len(self._used) < MAX_USES:
            self._used.add(key)
        if self._now() - self._used_told >= USES_EVERY_S:
            self._used_told = self._now()
            self._tasks.start(self._tell_uses(), name="redis-uses")

    async def put(self, entry: Entry) -> bool:
        """Keep *entry*; False where it has expired already."""
        if entry.expires <= self._now():
            return False
        left_ms = max(1.0, (gone_at(entry) - self._now()) * 1000)
        long = len(entry.body) > OFF_LOOP_BYTES
        octets = await asyncio.to_thread(self._codec.pack, entry) if long else self._codec.pack(entry)
        lives_ms = int(left_ms) if left_ms < MAX_TTL_MS else None

        async def ask(client: Client) -> bool:
            await client.set(self._entry + entry.key, octets, px=lives_ms)
            if entry.scope:
                now, end = self._now(), entry.expires if entry.expires < math.inf else "+inf"
                await client.zremrangebyscore(self._asked, "-inf", now)
                await client.zadd(self._asked, {entry.key: end})
                await client.publish(self._came, entry.key)
            return True

        return await self._link.write(ask, deadline_s=PUT_S)

    async def drop(self, key: Key) -> bool:
        """Forget the entry under *key*, here and in every other process."""

        async def ask(client: Client) -> bool:
            dropped = bool(await client.delete(self._entry + key))
            await client.zrem(self._asked, key)
            await client.publish(self._channel, key)
            return dropped

        dropped = await self._link.write(ask, deadline_s=PUT_S)
        if dropped:
            self._tell([key])
        return dropped

    async def clear(self) -> int:
        """Forget every entry, here and in every other process; other keys of this Redis are let be."""
        cleared = 0
        async for names in self._scanned(self._entry):
            cleared += await self._unlink(names)
            self._tell([self._key(name) for name in names])
        # What the entries' questions mean goes with them.
        async for names in self._scanned(self._vectors):
            await self._unlink(names)

        async def tell(client: Client) -> None:
            await client.delete(self._asked)
            await client.publish(self._channel, EVERYTHING)

        await self._link.write(tell, deadline_s=PUT_S)
        return cleared

    async def _unlink(self, names: list[bytes]) -> int:
        async def ask(client: Client) -> int:
            async with client.pipeline(transaction=False) as pipe:
                for name in names:
                    # Spelled out: a cluster's own `unlink` and `touch` go their own ways.
                    pipe.execute_command("UNLINK", name)
                return sum(await pipe.execute())

        return await self._link.write(ask, deadline_s=LONG_S)

    async def asked(self) -> AsyncIterator[Entry]:
        """Every live entry that has a scope."""
        keys = await self._link.read(lambda client: client.zrange(self._asked, 0, -1), deadline_s=LONG_S)
        for start in range(0, len(keys), SCANNED_AT_ONCE):
            async for entry in self._each([Key(key.decode()) for key in keys[start : start + SCANNED_AT_ONCE]]):
                if entry.scope:
                    yield entry

    async def arriving(self) -> AsyncIterator[Entry]:
        """Every entry with a scope that is put from now on; one that comes while the connection is down is missed."""
        keys: asyncio.Queue[Key] = asyncio.Queue(MAX_ARRIVING)

        def heard(message: bytes) -> None:
            if not keys.full():
                keys.put_nowait(Key(message.decode(errors="replace")))

        listening = self._tasks.start(self._link.listen(self._came, heard, lambda: None), name="arriving")
        try:
            while True:
                key = await keys.get()
                try:
                    entry = await self.get(key)
                except CacheError:
                    continue
                if entry is not None and entry.scope:
                    yield entry
        finally:
            listening.cancel()

    async def entries(self) -> AsyncIterator[Entry]:
        """Every live entry, as far as none comes or goes meanwhile."""
        async for names in self._scanned(self._entry):
            async for entry in self._each([self._key(name) for name in names]):
                yield entry

    async def _each(self, keys: list[Key]) -> AsyncIterator[Entry]:
        async def ask(client: Client) -> list[object]:
            async with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.get(self._entry + key)
                return list(await pipe.execute())

        found = await self._link.read(ask, deadline_s=LONG_S)
        for key, octets in zip(keys, found, strict=True):
            entry = await self._unpacked(octets, key)
            if entry is not None and entry.expires > self._now():
                yield entry

    async def _scanned(self, beginning: str) -> AsyncIterator[list[bytes]]:
        """The names of all keys with this *beginning*, some at a time; each once."""
        seen: set[bytes] = set()
        match = _literally(beginning) + "*"
        scan = self._link.client().scan_iter(match=match, count=SCANNED_AT_ONCE)

        async def some(_: Client) -> list[bytes]:
            names: list[bytes] = []
            async for name in scan:
                names.append(name)
                if len(names) >= SCANNED_AT_ONCE:
                    break
            return names

        while names := await self._link.read(some, deadline_s=LONG_S):
            fresh = [name for name in names if name not in seen]
            seen.update(fresh)
            if fresh:
                yield fresh

    def watch(self, gone: Callable[[Key], None]) -> None:
        """Call *gone* with the key of each entry that this process removes."""
        self._gone.append(gone)

    async def heed(self, withdrawn: Callable[[Key | None], None]) -> None:
        """Call *withdrawn* with each key that any process withdraws, with None where that is all; never ends."""

        def heard(message: bytes) -> None:
            withdrawn(None if message == EVERYTHING else Key(message.decode(errors="replace")))

        await self._link.listen(self._channel, heard, lambda: withdrawn(None))

    async def look(self) -> None:
        """Ask Redis now and then how full it is, for /stats; never ends."""

        async def ask(client: Client) -> tuple[int, dict[str, object]]:
            return await client.dbsize(), {**await client.info("memory"), **await client.info("stats")}

        while True:
            try:
                self._entries, told = await self._link.read(ask, deadline_s=PUT_S)
            except CacheError:
                told = {}
            # A cluster tells of each of its nodes apart; there is no one figure then.
            figures = {name: value for name, value in told.items() if isinstance(value, int)}
            self.bytes_used = figures.get("used_memory", self.bytes_used)
            self.max_bytes = figures.get("maxmemory", self.max_bytes)
            self.evicted = figures.get("evicted_keys", self.evicted)
            self.expired = figures.get("expired_keys", self.expired)
            await asyncio.sleep(FIGURES_EVERY_S)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._tasks.close()
        await self._link.close()

    async def _tell_uses(self) -> None:
        keys, self._used = list(self._used), set()

        async def ask(client: Client) -> None:
            async with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.execute_command("TOUCH", self._entry + key)
                await pipe.execute()

        try:
            await self._link.write(ask, deadline_s=PUT_S)
        except CacheError:
            # Redis goes by its own look-ups, then.
            return

    async def _unpacked(self, octets: object, key: Key) -> Entry | None:
        """The entry that was packed; None where there is none, or none that can be read."""
        if not isinstance(octets, bytes):
            return None
        try:
            if len(octets) > OFF_LOOP_BYTES:
                return await asyncio.to_thread(self._codec.unpack, octets, key)
            return self._codec.unpack(octets, key)
        except Unreadable as error:
            self._unreadable.found(error)
            return None

    def _key(self, name: bytes) -> Key:
        return Key(name[len(self._entry) :].decode(errors="replace"))

    def _tell(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for gone in self._gone:
                gone(key)


def _literally(text: str) -> str:
    """*text* as a pattern of Redis that only itself fits."""
    return "".join(f"\\{each}" if each in "*?[]^\\" else each for each in text)
