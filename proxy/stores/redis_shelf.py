"""Small values and shared counters in the Redis that holds the entries."""

import hashlib
from collections.abc import Mapping, Sequence

from proxy.errors import CacheError
from proxy.stores.redis_link import Client, RedisLink
from proxy.stores.shelf import MAX_SHELF_BYTES

SHELF_S = 2.0
"""No request waits for these."""

MAX_TTL_MS = 2**53

_REPLACE = """
local there = redis.call('GET', KEYS[1])
if (there and redis.sha1hex(there) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RedisShelf:
    """Values by name."""

    def __init__(self, link: RedisLink, *, prefix: str = "askonce:") -> None:
        self._link = link
        self._prefix = f"{prefix}shelf:"

    def __repr__(self) -> str:
        return f"<RedisShelf at {self._link.where}>"

    async def read(self, name: str) -> bytes | None:
        """See :class:`proxy.ports.Shelf`."""
        found = await self._link.read(lambda client: client.get(self._prefix + name), deadline_s=SHELF_S)
        return found if isinstance(found, bytes) else None

    async def write(self, name: str, octets: bytes) -> None:
        """See :class:`proxy.ports.Shelf`."""
        if len(octets) > MAX_SHELF_BYTES:
            raise CacheError(f"no room on the shelf for {len(octets)} bytes under {name}")
        await self._link.write(lambda client: client.set(self._prefix + name, octets), deadline_s=SHELF_S)

    async def create(self, name: str, octets: bytes) -> bytes:
        """See :class:`proxy.ports.Shelf`."""

        async def ask(client: Client) -> object:
            await client.set(self._prefix + name, octets, nx=True)
            return await client.get(self._prefix + name)

        found = await self._link.write(ask, deadline_s=SHELF_S)
        if not isinstance(found, bytes):
            raise CacheError(f"{self._link.where} does not keep what is put on its shelf")
        return found

    async def replace(self, name: str, octets: bytes, *, instead_of: bytes | None) -> bool:
        """See :class:`proxy.ports.Shelf`."""
        if len(octets) > MAX_SHELF_BYTES:
            raise CacheError(f"no room on the shelf for {len(octets)} bytes under {name}")
        # The digest that Redis can make of what is there; nobody gains by a collision with a value of ours.
        there = hashlib.sha1(instead_of, usedforsecurity=False).hexdigest() if instead_of is not None else ""
        key = self._prefix + name
        return bool(
            await self._link.write(lambda client: client.eval(_REPLACE, 1, key, there, octets), deadline_s=SHELF_S)
        )


class RedisTallies:
    """Pages of counters by name."""

    def __init__(self, link: RedisLink, *, prefix: str = "askonce:") -> None:
        self._link = link
        self._prefix = f"{prefix}tally:"

    def __repr__(self) -> str:
        return f"<RedisTallies at {self._link.where}>"

    async def add(self, page: str, counts: Mapping[str, int], *, keep_s: float) -> None:
        """See :class:`proxy.ports.Tallies`."""
        if not counts:
            return
        name = self._prefix + page

        async def ask(client: Client) -> None:
            # One key: all or none, in a cluster too.
            async with client.pipeline(transaction=True) as pipe:
                for counter, count in counts.items():
                    pipe.hincrby(name, counter, count)
                if keep_s * 1000 < MAX_TTL_MS:
                    pipe.pexpire(name, max(1, int(keep_s * 1000)))
                else:
                    pipe.persist(name)
                await pipe.execute()

        await self._link.write(ask, deadline_s=SHELF_S)

    async def read(self, pages: Sequence[str]) -> Sequence[Mapping[str, int]]:
        """See :class:`proxy.ports.Tallies`."""
        if not pages:
            return []

        async def ask(client: Client) -> list[dict[bytes, bytes]]:
            async with client.pipeline(transaction=False) as pipe:
                for page in pages:
                    pipe.hgetall(self._prefix + page)
                return list(await pipe.execute())

        found = await self._link.read(ask, deadline_s=SHELF_S)
        return [{name.decode(): int(count) for name, count in page.items()} for page in found]
