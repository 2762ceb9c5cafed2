"""Asks providers for the usage of streams on our own account, as long as they do not mind."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

from proxy import headers, policy
from proxy.accounts import streamusage
from proxy.accounts.streamusage import Sieve
from proxy.accounts.usage import Usage
from proxy.call import Call, Candidate
from proxy.errors import UpstreamError
from proxy.headers import Fields
from proxy.ports import Upload
from proxy.providers.provider import Incoming, Take

log = logging.getLogger(__name__)

REFUSED_S = 86_400.0
"""A provider that refuses is not asked again for so long, for the model in question."""

MAX_REFUSALS = 1024

DIALECTS = frozenset({"chat", "completions"})
"""Where a stream names its usage only to those who ask for it."""

OFF_LOOP_BYTES = 128 * 1024

REFUSALS = frozenset({400, 422})


Ask = Callable[[Fields, bytes | Upload | None], Awaitable[Incoming]]
"""Asks the provider, with these header fields and this body."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that asks for the usage, too."""

    fields: Fields
    body: bytes


class UsageAsking:
    """Asks, and remembers who refused. Without *enabled* every call goes as it came."""

    def __init__(self, *, enabled: bool, now: Callable[[], float] = time.time) -> None:
        self._enabled = enabled
        self._now = now
        self._refused: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<UsageAsking, {len(self._refused)} refused>"

    async def ask(self, ask: Ask, call: Call, candidate: Candidate) -> Incoming:
        """The answer to *call*: as it would have been, and with its usage where that could be asked for.

        Raises:
            UpstreamError: the provider could not be asked.
        """
        asked = await self._asked(call, candidate) if self._enabled else None
        if asked is None:
            return await ask(call.fields, call.body)
        answer = await ask(asked.fields, asked.body)
        if answer.status in REFUSALS:
            # An error costs nothing. Where it is the client's own, the second answer says so just as well.
            async with answer:
                pass
            again = await ask(call.fields, call.body)
            if again.status not in REFUSALS:
                self._refuses(candidate)
            return again
        if answer.status == 200 and policy.content_kind(answer.fields) == "stream":
            if b"content-encoding" not in answer.fields:
                return SievedAnswer(answer)
            # It cannot be taken out again: better not to ask.
            self._refuses(candidate)
        return answer

    async def _asked(self, call: Call, candidate: Candidate) -> _Asked | None:
        body = call.body
        if (
            call.dialect is None
            or call.dialect.name not in DIALECTS
            or not isinstance(body, bytes)
            or not candidate.form.stream
            or candidate.form.include_usage
            or b"content-encoding" in call.fields
            or self._refused.get(self._whom(candidate), 0.0) > self._now()
        ):
            return None
        off_loop = len(body) > OFF_LOOP_BYTES
        spliced = await asyncio.to_thread(streamusage.ask, body) if off_loop else streamusage.ask(body)
        if spliced is None:
            return None
        fields = headers.resized(call.fields, len(spliced))
        # Nothing could be taken out of an answer in a content coding without taking it apart.
        plain = [
            (name, b"identity" if lower == b"accept-encoding" else value)
            for lower, (name, value) in zip(fields.names, fields.raw, strict=True)
        ]
        return _Asked(Fields(tuple(plain)), spliced)

    def _whom(self, candidate: Candidate) -> tuple[str, str]:
        return candidate.route.name, candidate.model

    def _refuses(self, candidate: Candidate) -> None:
        whom = self._whom(candidate)
        log.info("%s does not take stream_options from us; streams go without for a day", candidate.model or "a model")
        self._refused.pop(whom, None)
        self._refused[whom] = self._now() + REFUSED_S
        while len(self._refused) > MAX_REFUSALS:
            self._refused.popitem(last=False)


class SievedAnswer:
    """A stream whose usage is taken out on its way."""

    def __init__(self, answer: Incoming) -> None:
        self.status = answer.status
        self.phrase = answer.phrase
        named = zip(answer.fields.names, answer.fields.raw, strict=True)
        self.fields = Fields(tuple(pair for name, pair in named if name not in _SIZED))
        self._answer = answer
        self._sieve = Sieve()

    def __repr__(self) -> str:
        return f"<SievedAnswer, {self._sieve!r}>"

    @property
    def usage(self) -> Usage | None:
        """What was taken out."""
        return self._sieve.usage

    async def __aenter__(self) -> "SievedAnswer":
        await self._answer.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._answer.__aexit__(kind, error, trace)

    async def flow(self, take: Take) -> bool:
        """See :meth:`Incoming.flow`."""

        def sift(octets: bytes) -> bool:
            left = self._sieve.feed(octets)
            return take(left) if left else True

        try:
            over = await self._answer.flow(sift)
        except UpstreamError:
            self._hand_on(take)
            raise
        if over:
            self._hand_on(take)
        return over

    def _hand_on(self, take: Take) -> None:
        if left := self._sieve.finish():
            take(left)


_SIZED = frozenset({b"content-length"})
"""What is no longer true of an answer from which something was taken."""
