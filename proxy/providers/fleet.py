"""Several replicas behind one upstream: each request goes to the one that will answer first."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Collection
from dataclasses import replace
from functools import partial

from proxy.errors import Broke, Unreachable
from proxy.headers import Fields
from proxy.keys.credential import Credential
from proxy.paths import cached_as
from proxy.ports import Upload
from proxy.prefix.chain import Chain, chain_of
from proxy.prefix.prompt import prompt_of
from proxy.prefix.replicas import Replicas, Routing
from proxy.providers.hearsay import Hearsay
from proxy.providers.provider import Answer
from proxy.providers.upstream import Upstream
from proxy.settings import UpstreamSettings

log = logging.getLogger(__name__)

OFF_LOOP_OCTETS = 32 * 1024
"""A request above this is read in a thread."""

MAX_READ_OCTETS = 8 * 1024 * 1024
"""A longer one goes to the replica with the least to do."""

UNABLE = frozenset({502, 503, 504})
"""Answers that say that a replica cannot answer now."""

_DIALECTS = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/responses": "responses",
    "/messages": "messages",
}


class Fleet:
    """Asks one of several upstreams that are the same to the outside."""

    def __init__(self, settings: UpstreamSettings, credential: Credential | None, hearsay: Hearsay) -> None:
        self._upstreams = [
            Upstream(replace(settings, url=url), credential) for url in (settings.url, *settings.replicas)
        ]
        self.origin = self._upstreams[0].origin
        """The first one's: for the cache they are all the same."""
        self.replicas = Replicas(
            len(self._upstreams),
            routing=Routing(settings.routing),
            tokens=settings.replica_tokens,
            now=time.monotonic,
            chance=random.random,
        )
        self._hearsay = hearsay
        self._number = hearsay.join(self.replicas.heard, self.replicas.heard_answered)
        self._tells = settings.routing != Routing.ROUND_ROBIN

    def __repr__(self) -> str:
        return f"<Fleet of {self._upstreams!r}>"

    async def ask(
        self,
        method: bytes,
        target: bytes,
        fields: Fields,
        body: bytes | Upload | None,
        *,
        keep: Collection[bytes] = (),
        bare: bool = False,
    ) -> Answer:
        """See :meth:`Upstream.ask`. Where a replica cannot be reached nothing was sent, and another one is asked."""
        chain, streams = await self._read(method, target, body)
        tried: set[int] = set()
        while True:
            number = self.replicas.choose(chain, without=frozenset(tried))
            tried.add(number)
            try:
                return await self._ask(
                    number, method, target, fields, body, keep, bare=bare, chain=chain, streams=streams
                )
            except Unreachable as error:
                if len(tried) == len(self._upstreams):
                    raise
                log.info("a replica cannot be reached, another one is asked: %s", error)

    async def _ask(
        self,
        number: int,
        method: bytes,
        target: bytes,
        fields: Fields,
        body: bytes | Upload | None,
        keep: Collection[bytes],
        *,
        bare: bool,
        chain: Chain | None,
        streams: bool,
    ) -> Answer:
        started = time.perf_counter()
        load = self.replicas.began(number, chain)
        told = None
        if chain is not None and self._tells:
            told = self._hearsay.tell_sent(self._number, number, chain, load)
        try:
            answer = await self._upstreams[number].ask(method, target, fields, body, keep=keep, bare=bare)
        except (Unreachable, Broke):
            self.replicas.failed(number, load)
            self.replicas.ended(number)
            raise
        except BaseException:
            # Whoever asked has left; that says nothing about the replica, but its queue is shorter.
            self.replicas.answered(number, load, seconds=None)
            self.replicas.ended(number)
            raise
        finally:
            if told is not None:
                self._hearsay.tell_answered(told)
        if answer.status in UNABLE:
            self.replicas.failed(number, load)
        else:
            # The head of a whole answer comes at its end: it tells how long the answer is, not the prompt.
            self.replicas.answered(number, load, seconds=time.perf_counter() - started if streams else None)
        answer.when_left(partial(self.replicas.ended, number))
        return answer

    async def _read(self, method: bytes, target: bytes, body: bytes | Upload | None) -> tuple[Chain | None, bool]:
        """The prompt in *body*, and whether its answer is asked for as a stream."""
        suffix = cached_as(method, target.partition(b"?")[0], {})
        dialect = _DIALECTS.get(suffix or "")
        if dialect is None or not isinstance(body, bytes) or len(body) > MAX_READ_OCTETS:
            return None, False
        if len(body) > OFF_LOOP_OCTETS:
            return await asyncio.to_thread(_chain, dialect, body)
        return _chain(dialect, body)

    async def close(self) -> None:
        """See :meth:`Upstream.close`."""
        for upstream in self._upstreams:
            await upstream.close()


def _chain(dialect: str, body: bytes) -> tuple[Chain | None, bool]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None, False
    if not isinstance(request, dict):
        return None, False
    prompt = prompt_of(dialect, request)
    if prompt is None:
        return None, False
    salt = prompt.model.encode("utf-8", "surrogatepass")[:64]
    return chain_of(prompt, salt=salt), request.get("stream") is True


def opened(settings: UpstreamSettings, credential: Credential | None, hearsay: Hearsay) -> Upstream | Fleet:
    """What stands for the upstream that *settings* describe; of its replicas *hearsay* tells other processes."""
    return Fleet(settings, credential, hearsay) if settings.replicas else Upstream(settings, credential)
