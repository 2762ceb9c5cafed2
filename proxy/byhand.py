"""Entries by hand: read and written as the question in the simplest request that would ask it.

Such a request has a model, messages (a system prompt, where there is one, and the question) and a temperature, and
nothing else. Whoever sends it as a real request is given what was put here, and the other way round.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy import codings, headers, sse
from proxy.accounts.usage import Method, Usage
from proxy.call import Call, Candidate
from proxy.codings import Undecodable
from proxy.dialects.chat import Chat
from proxy.model import WHOLE, Entry, Finding, Key
from proxy.ports import Dialect
from proxy.reception import Reception
from proxy.replay import MAX_DECODED_BYTES
from proxy.semantic.recalling import Recalling
from proxy.tiers.exact import NAME as EXACT
from proxy.tiers.exact import ExactTier, Found
from proxy.tiers.semantic import NAME as SEMANTIC
from proxy.tokens import counter

CHAT: Dialect = Chat()

TARGET = b"/v1/chat/completions"
"""Where the simplest request would go."""

UNSENT = frozenset(
    {b"content-length", b"transfer-encoding", b"content-encoding", b"accept-encoding", b"content-type", b"expect"}
)
"""Fields of the request that brings a question, which the request that would ask it does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked."""

    prompt: str
    model: str
    temperature: float = 0
    system_prompt: str | None = None

    @property
    def body(self) -> bytes:
        """The simplest request that asks it."""
        messages = [{"role": "user", "content": self.prompt}]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        request = {"model": self.model, "messages": messages, "temperature": self.temperature}
        return json.dumps(request, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is kept in answer to a question."""

    text: str
    tier: str
    similarity: float = 1.0
    usage: Usage | None = None
    """What it had come to."""
    model: str = ""
    """The model that the answer names."""


@dataclass(slots=True)
class Tally:
    """How often something was found by hand, and by what."""

    exact: int = 0
    semantic: int = 0
    missed: int = 0


class ByHand:
    """Looks into the cache and puts into it, in the scope of whoever asks."""

    def __init__(
        self,
        *,
        reception: Reception,
        exact: ExactTier,
        recalling: Recalling,
        ttl_s: float,
        now: Callable[[], float],
    ) -> None:
        self._reception = reception
        self._exact = exact
        self._recalling = recalling
        self._ttl_s = ttl_s
        self._now = now
        self.tally = Tally()

    def __repr__(self) -> str:
        return f"<ByHand, {self.tally}>"

    async def look_up(self, call: Call) -> Known | None:
        """What is kept for *call*, which ``asking`` made: its own answer, or one to a question of the same meaning."""
        candidate = await self._reception.consider(call, CHAT)
        key = self._key(call, candidate)
        if key is None:
            return None
        found = await self._exact.look_up(key, max_age_s=None)
        known = _known(found.entry, EXACT) if isinstance(found, Found) else None
        if known is not None:
            self.tally.exact += 1
            return known
        recalled = await self._recalling.find(self._recalling.seek(call, candidate, key))
        known = _known(recalled.entry, SEMANTIC) if recalled is not None else None
        if known is None or recalled is None:
            self.tally.missed += 1
            return None
        self.tally.semantic += 1
        return replace(known, similarity=recalled.similarity)

    async def put(self, call: Call, question: Question, answer: str, *, ttl_s: float | None) -> bool:
        """Keep *answer* for *call*, which asks *question*; False where the cache has no part in it, or no room."""
        candidate = await self._reception.consider(call, CHAT)
        key = self._key(call, candidate)
        if key is None:
            return False
        # The first count loads a vocabulary, which takes half a second.
        usage = await asyncio.to_thread(self._usage, question, answer)
        body = _completion(question.model, answer, usage, int(self._now()))
        found = Finding(usage=usage, model=question.model)
        return await self._keep(call, candidate, key, body, found, ttl_s=ttl_s)

    async def put_whole(self, call: Call, body: bytes, *, ttl_s: float | None) -> bool:
        """Keep *body*, a provider's whole answer to *call*; False where it is not worth keeping, too."""
        candidate = await self._reception.consider(call, CHAT)
        key = self._key(call, candidate)
        found = CHAT.examine(body, WHOLE)
        if key is None or found.unkept is not None:
            return False
        return await self._keep(call, candidate, key, body, found, ttl_s=ttl_s)

    async def _keep(
        self, call: Call, candidate: Candidate, key: Key, body: bytes, found: Finding, *, ttl_s: float | None
    ) -> bool:
        now = self._now()
        sought = self._recalling.seek(call, candidate, key)
        entry = Entry(
            key=key,
            dialect=CHAT.name,
            status=200,
            phrase=b"OK",
            head=headers.lines([(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]),
            body=body,
            model=found.model or candidate.model,
            service_tier=found.service_tier,
            usage=found.usage,
            created=now,
            expires=now + (self._ttl_s if ttl_s is None else ttl_s),
            tenant=candidate.tenant,
            namespace=candidate.asked.namespace.decode("latin-1"),
        )
        entry = self._recalling.marked(entry, sought)
        if not await self._exact.keep(entry):
            return False
        self._recalling.kept(entry, sought)
        return True

    def _key(self, call: Call, candidate: Candidate) -> Key | None:
        if candidate.identity is None:
            return None
        return self._exact.narrow(candidate.identity, CHAT.name, call.fields)

    def _usage(self, question: Question, answer: str) -> Usage:
        """What the answer would have come to."""
        request: object = json.loads(question.body)
        prompt = counter.shared().count_prompt(TARGET.decode(), request if isinstance(request, dict) else {})
        completion = counter.shared().count_text(answer, question.model)
        counted = prompt.method is completion.method is Method.COUNTED
        return Usage(
            input_tokens=prompt.tokens,
            output_tokens=completion.tokens,
            method=Method.COUNTED if counted else Method.ESTIMATED,
        )


def asking(body: bytes, brought: Call) -> Call:
    """The chat request with *body*, as whoever sent *brought* would send it."""
    kept = [pair for name, pair in zip(brought.fields.names, brought.fields.raw, strict=True) if name not in UNSENT]
    fields = (*kept, (b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body)))
    return replace(
        brought, method=b"POST", target=TARGET, fields=headers.Fields(fields), body=body, dialect=CHAT, controls=()
    )


def _known(entry: Entry, tier: str) -> Known | None:
    """What *entry* says; None where that is no text."""
    try:
        body = codings.decode(entry.body, entry.encoding, limit=MAX_DECODED_BYTES)
    except Undecodable:
        return None
    whole = CHAT.render(body, entry.form, WHOLE)
    text = content(whole) if whole is not None else _streamed(body)
    return Known(text=text, tier=tier, usage=entry.usage, model=entry.model) if text is not None else None


def content(body: bytes) -> str | None:
    """What the chat answer in *body* says first; None where that is no text."""
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return text if isinstance(text, str) else None


def _streamed(body: bytes) -> str | None:
    """The same of a stream that tells too little of itself to be given as a whole answer."""
    pieces: list[str] = []
    frames, _ = sse.read(body)
    for frame in frames:
        try:
            choice = json.loads(frame.data or b"")["choices"][0]
            piece = choice["delta"].get("content") if choice.get("index", 0) == 0 else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
        if isinstance(piece, str):
            pieces.append(piece)
    return "".join(pieces) or None


def _completion(model: str, answer: str, usage: Usage, created: int) -> bytes:
    """*answer* as the provider would give it."""
    whole = {
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        },
    }
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
