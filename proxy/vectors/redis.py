"""Vectors in the vector sets of a Redis 8, which many processes search; before them the process's own block.

One set for each scope, so that a look-up compares within it alone and never filters a large graph down to a few. The
own block is asked as well: it is exact, it knows what is still on its way, and it is all there is while Redis fails.
"""

import asyncio
import hashlib
import logging
import secrets
from collections import OrderedDict
from itertools import islice

import numpy as np

from proxy.errors import CacheError
from proxy.model import Key
from proxy.ports import VectorIndex, Vectors
from proxy.stores.guard import Guard
from proxy.stores.redis_link import Client, RedisLink
from proxy.tasks import Tasks

log = logging.getLogger(__name__)

EFFORT = 64
"""How many candidates a search of the graph keeps in hand, to find a vector as to place one: more find more and take
longer. Redis would place with 200, in the thread that serves everybody, three times as long, and find no more by it."""

MORE = 2
"""So many times as many as are wanted are asked for: some have left since."""

MAX_PENDING = 4096
"""Changes that wait to be written; what comes above that is only in the block of this process."""

BATCH = 64

WRITE_S = 1.0
"""No client waits for a vector to be put away."""

AGAIN_S = 1.0
"""So long after Redis failed it is asked again whether it has vector sets, or given what waits."""

SWEPT_AT_ONCE = 50

PROBE_S = 10

FOR_EVER = ("unknown command", "no permissions")
"""What Redis says where it will not have them later, either."""

TOLERANCE = 1e-4
"""How far a cosine may be from the one that is known."""

_ADD = """
local lives = redis.call('PEXPIRETIME', KEYS[3])
if lives == -2 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[4])) do
  local at = string.find(old, '\\n', 1, true)
  redis.call('VREM', ARGV[3] .. string.sub(old, 1, at - 1), string.sub(old, at + 1))
  redis.call('ZREM', KEYS[1], old)
end
local function keep(name, had)
  if lives == -1 then redis.call('PERSIST', name)
  elseif had == -2 or (had >= 0 and had < lives) then redis.call('PEXPIREAT', name, lives) end
end
local set = redis.call('PEXPIRETIME', KEYS[2])
local member = string.sub(KEYS[2], #ARGV[3] + 1) .. '\\n' .. ARGV[1]
local ends = lives == -1 and math.huge or lives
local known = redis.call('ZSCORE', KEYS[1], member)
if set ~= -2 and known and tonumber(known) >= ends then return 0 end
redis.call('VADD', KEYS[2], 'FP32', ARGV[2], ARGV[1], 'NOQUANT', 'EF', ARGV[5])
keep(KEYS[2], set)
local all = redis.call('PEXPIRETIME', KEYS[1])
redis.call('ZADD', KEYS[1], ends == math.huge and '+inf' or string.format('%d', ends), member)
keep(KEYS[1], all)
return 1
"""
"""Put a vector beside its entry: not where that is gone, and no longer than it lives; those whose time is over leave.
What is there already is let be, so that each process may bring what all know."""

_DROP = """
redis.call('ZREM', KEYS[1], string.sub(KEYS[2], #ARGV[2] + 1) .. '\\n' .. ARGV[1])
return redis.call('VREM', KEYS[2], ARGV[1])
"""


class RedisVectors:
    """The sets of one embedder's vectors, beside the *own* block of this process.

    Written in the background and in order; a fault costs a neighbour, never an answer.
    """

    def __init__(self, own: VectorIndex, link: RedisLink, *, prefix: str, identity: str, dimension: int) -> None:
        self._own = own
        self._link = link
        self._entry = f"{prefix}entry:"
        # A set takes vectors of one length only, and those of two models are never compared.
        model = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._sets = f"{prefix}vectors:{model}:"
        self._ends = f"{prefix}vectors:ends:{model}"
        self._dimension = dimension
        self._searching = Guard(f"the vectors at {link.where}")
        self._writing = Guard(f"writing to the vectors at {link.where}")
        self._pending: OrderedDict[tuple[str, Key], Vectors | None] = OrderedDict()
        """What is to be written: a vector, or None where one has left."""
        self._waits = asyncio.Event()
        self._has: bool | None = None
        """Whether Redis has vector sets for us; None until that is known."""

    def __repr__(self) -> str:
        state = "in use" if self._has else "not in use"
        return f"<RedisVectors at {self._link.where}, {state}, {len(self._pending)} pending, before them {self._own!r}>"

    @property
    def shared(self) -> bool:
        """Redis has vector sets that do what we know of them."""
        return self._has is True

    @property
    def bytes_used(self) -> int:
        """Octets in use in this process."""
        return self._own.bytes_used

    def open(self, tasks: Tasks) -> None:
        """Find out what Redis has, and from then on write."""
        tasks.start(self._follow(), name="vectors")

    def add(self, scope: str, key: Key, vector: Vectors) -> bool:
        """See :class:`proxy.ports.VectorIndex`."""
        if not self._own.add(scope, key, vector):
            return False
        self._write(scope, key, vector)
        return True

    def drop(self, scope: str, key: Key) -> bool:
        """See :class:`proxy.ports.VectorIndex`."""
        self._write(scope, key, None)
        return self._own.drop(scope, key)

    async def nearest(self, scope: str, vector: Vectors, k: int) -> list[tuple[Key, float]]:
        """The *k* nearest of the own block and of the set together."""
        own = await self._own.nearest(scope, vector, k)
        # While the store fails it is not asked for this, too.
        if not self._has or k < 1 or self._link.reads.fault:
            return own

        async def ask(client: Client) -> object:
            words = ("FP32", _octets(vector), "WITHSCORES", "COUNT", MORE * k, "EF", EFFORT)
            return await client.execute_command("VSIM", self._sets + scope, *words)

        try:
            found = _cosines(await self._link.write(ask, guard=self._searching))
        except CacheError:
            return own
        for key in list(found):
            if self._pending.get((scope, key), vector) is None:
                del found[key]
        # The own ones are exact; those of the sets are, too, but for the last digits of a float32.
        found.update(own)
        return sorted(found.items(), key=lambda pair: -pair[1])[:k]

    def clear(self) -> None:
        """Forget what this process holds; the sets are keys of the store and are cleared with it."""
        self._pending.clear()
        self._own.clear()

    def _write(self, scope: str, key: Key, vector: Vectors | None) -> None:
        if self._has is False:
            return
        place = (scope, key)
        self._pending.pop(place, None)
        if len(self._pending) < MAX_PENDING:
            self._pending[place] = vector
            self._waits.set()

    async def _follow(self) -> None:
        while self._has is None:
            self._has = await self._probed()
            if self._has is None:
                await asyncio.sleep(AGAIN_S)
        if not self._has:
            self._pending.clear()
        while self._has:
            await self._waits.wait()
            self._waits.clear()
            while self._pending:
                batch = dict(islice(self._pending.items(), BATCH))
                try:
                    await self._put_away(batch)
                except CacheError:
                    # The store says so itself; what waits is kept as it stands.
                    await asyncio.sleep(AGAIN_S)
                    continue
                for place, vector in batch.items():
                    if place in self._pending and self._pending[place] is vector:
                        del self._pending[place]

    async def _put_away(self, batch: dict[tuple[str, Key], Vectors | None]) -> None:
        async def ask(client: Client) -> list[object]:
            async with client.pipeline(transaction=False) as pipe:
                for (scope, key), vector in batch.items():
                    names = (self._ends, self._sets + scope)
                    if vector is None:
                        pipe.eval(_DROP, 2, *names, key, self._sets)
                    else:
                        words = (key, _octets(vector), self._sets, SWEPT_AT_ONCE, EFFORT)
                        pipe.eval(_ADD, 3, *names, self._entry + key, *words)
                return list(await pipe.execute(raise_on_error=False))

        refused = [each for each in await self._link.write(ask, deadline_s=WRITE_S, guard=self._writing) if _no(each)]
        if refused:
            # Redis is full, or forbids it: to say it again would not help, and the own block holds them.
            log.debug("%d vectors were refused at %s: %s", len(refused), self._link.where, refused[0])

    async def _probed(self) -> bool | None:
        """Whether Redis has vector sets that take our vectors and score as we know; None where it does not say."""
        name = f"{self._sets}probe:{secrets.token_hex(8)}"
        there, here = np.zeros((2, max(2, self._dimension)), dtype="<f4")
        there[0], here[0], here[1] = 1.0, 0.6, 0.8

        async def ask(client: Client) -> list[object]:
            async with client.pipeline(transaction=False) as pipe:
                pipe.execute_command("VADD", name, "FP32", _octets(there), "same", "NOQUANT")
                pipe.execute_command("VADD", name, "FP32", _octets(-there), "opposite", "NOQUANT")
                pipe.execute_command("EXPIRE", name, PROBE_S)
                pipe.execute_command("VSIM", name, "FP32", _octets(here), "WITHSCORES")
                pipe.execute_command("UNLINK", name)
                return list(await pipe.execute(raise_on_error=False))

        try:
            said = await self._link.write(ask, deadline_s=WRITE_S, guard=self._writing)
        except CacheError:
            return None
        if _no(said[0]) and not any(why in str(said[0]) for why in FOR_EVER):
            return None
        found = _cosines(said[3])
        wanted = {Key("same"): 0.6, Key("opposite"): -0.6}
        has = found.keys() == wanted.keys() and all(
            abs(found[key] - cosine) < TOLERANCE for key, cosine in wanted.items()
        )
        log.info("vector sets at %s: %s", self._link.where, "in use" if has else f"none for us ({said[0]})")
        return has


def _cosines(scores: object) -> dict[Key, float]:
    """What VSIM found: it scores by (1 + cosine) / 2."""
    if isinstance(scores, list):
        # As the client gives them that does not know the command.
        scores = dict(zip(scores[::2], scores[1::2], strict=True))
    if not isinstance(scores, dict):
        return {}
    return {Key(key.decode(errors="replace")): 2 * float(score) - 1 for key, score in scores.items()}


def _octets(vector: Vectors) -> bytes:
    return vector.astype("<f4").tobytes()


def _no(said: object) -> bool:
    """Redis refused one command of several."""
    return isinstance(said, Exception)
