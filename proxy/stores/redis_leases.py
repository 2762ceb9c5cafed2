"""Leases in the Redis that holds the entries."""

from proxy.stores.guard import Guard
from proxy.stores.redis_link import RedisLink

_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisLeases:
    """Keys that hold who holds them, and end by themselves."""

    def __init__(self, link: RedisLink, *, prefix: str = "askonce:") -> None:
        self._link = link
        self._prefix = f"{prefix}lease:"
        # Of its own: requests wait for leases, so they give up sooner than what puts answers away.
        self._guard = Guard(f"leases at {link.where}")

    def __repr__(self) -> str:
        return f"<RedisLeases at {self._link.where}>"

    async def take(self, name: str, token: bytes, *, keep_s: float) -> bool:
        """See :class:`proxy.ports.Leases`."""
        key, lives_ms = self._prefix + name, int(keep_s * 1000)
        return bool(
            await self._link.write(lambda client: client.set(key, token, nx=True, px=lives_ms), guard=self._guard)
        )

    async def renew(self, name: str, token: bytes, *, keep_s: float) -> bool:
        """See :class:`proxy.ports.Leases`."""
        key, lives_ms = self._prefix + name, int(keep_s * 1000)
        return bool(
            await self._link.write(lambda client: client.eval(_RENEW, 1, key, token, lives_ms), guard=self._guard)
        )

    async def release(self, name: str, token: bytes) -> None:
        """See :class:`proxy.ports.Leases`."""
        key = self._prefix + name
        await self._link.write(lambda client: client.eval(_RELEASE, 1, key, token), guard=self._guard)
