"""A caching service for those who do not speak to a provider: entries by hand, a plain chat, what was saved."""

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from proxy import canonical, labels
from proxy.accounts.books import Axis, Books
from proxy.accounts.money import PARTS
from proxy.accounts.till import Till
from proxy.byhand import CHAT, ByHand, Question, asking, content
from proxy.call import Call, Page, Reply
from proxy.canonical import Unfit
from proxy.errors import CacheError, UpstreamError
from proxy.flights import Abandoned, Lagged
from proxy.model import WHOLE, Json, Outcome, Reason
from proxy.pages import answers
from proxy.pipeline import Pipeline
from proxy.ports import Body
from proxy.purging import SHORTEST_KEY, Wanted
from proxy.tiers.exact import NAME as EXACT
from proxy.tiers.semantic import NAME as SEMANTIC

MODEL = "gpt-4o-mini"
"""The model where a request names none."""

TIERS = {EXACT: "l1_exact", SEMANTIC: "l2_semantic"}
"""What the tiers are called here."""

CHAT_FIELDS = frozenset({"messages", "model", "temperature", "max_tokens", "use_cache"})
"""What a plain chat may ask for."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024

Guide = Callable[[Call], Call]
"""Makes the call that a page makes in the name of whoever asked it: with its way to a provider."""


class Wrong(Exception):
    """A request says something else than it should; the message tells what."""


def looking_up(by_hand: ByHand, led: Guide) -> Page:
    """``POST /v1/cache/get``."""

    async def answer(call: Call) -> Reply:
        try:
            question = _question(_object(call))
        except Wrong as wrong:
            return answers.refused(400, str(wrong), "invalid_request")
        found = await by_hand.look_up(led(asking(question.body, call)))
        if found is None:
            return answers.shown({"hit": False, "tier": None, "response": None, "similarity": None})
        tier = TIERS[found.tier]
        return answers.shown({"hit": True, "tier": tier, "response": found.text, "similarity": found.similarity})

    return answer


def putting(by_hand: ByHand, led: Guide) -> Page:
    """``POST /v1/cache/set``."""

    async def answer(call: Call) -> Reply:
        try:
            asked = _object(call)
            question = _question(asked)
            given = _text(asked, "response")
            ttl_s = _number(asked, "ttl", None)
        except Wrong as wrong:
            return answers.refused(400, str(wrong), "invalid_request")
        kept = await by_hand.put(led(asking(question.body, call)), question, given, ttl_s=ttl_s)
        if not kept:
            return answers.refused(503, "it was not kept: the store failed, or has no room for it", "not_kept")
        return answers.shown({"status": "cached"})

    return answer


def clearing(purge: Callable[[Wanted, bool], Awaitable[int]]) -> Page:
    """``DELETE /v1/cache``: everything, or what is described in the query."""

    async def answer(call: Call) -> Reply:
        try:
            wanted, dry_run = _wanted(call)
        except Wrong as wrong:
            return answers.refused(400, str(wrong), "invalid_request")
        try:
            removed = await purge(wanted, dry_run)
        except CacheError as error:
            return answers.refused(503, f"the store failed: {error}", Reason.CACHE_FAULT)
        return answers.shown({"status": "counted" if dry_run else "cleared", "removed": removed, "dry_run": dry_run})

    return answer


def stats(
    counted: Callable[[], Awaitable[tuple[Books, float]]], by_hand: ByHand, known: Callable[[], Mapping[str, object]]
) -> Page:
    """``GET /v1/cache/stats``; *known*: what /stats shows of the semantic tier."""

    async def answer(_: Call) -> Reply:
        books, _since = await counted()
        outcomes = books.total.outcomes.counts
        exact = _hits(books, EXACT) + by_hand.tally.exact
        semantic = _hits(books, SEMANTIC) + by_hand.tally.semantic
        missed = outcomes[Outcome.MISS] + outcomes[Outcome.JOINED] + by_hand.tally.missed
        requests = sum(outcomes.values())
        cached = outcomes[Outcome.HIT] + outcomes[Outcome.JOINED]
        # What the providers themselves measured: estimates are not added to it.
        spent, saved = books.total.spent.measured.usd, books.total.saved.measured.usd
        return answers.shown(
            {
                "exact_cache": _rate(exact, missed + semantic),
                "semantic_cache": {"entries": known()["questions"], **_rate(semantic, missed)},
                "overall": {
                    "total_requests": requests,
                    "cached_requests": cached,
                    "cache_rate": round(cached / requests, 4) if requests else 0.0,
                    "total_cost": spent / PARTS,
                    "saved_cost": saved / PARTS,
                },
            }
        )

    return answer


def chatting(
    pipeline: Pipeline, led: Guide, tills: Mapping[str, Till], admit: Callable[[Call], Call | Reply]
) -> Callable[[Call], Awaitable[Reply | None]]:
    """``POST /v1/chat``: a chat request through the cache, and of its answer the text alone.

    *admit* tells whether a call may pass, and as whose. Some providers have a path of that name (Cohere, Writer): what
    brings no messages, or anything that is not asked for here, is for them.
    """

    async def answer(call: Call) -> Reply | None:
        start = time.perf_counter()
        asked = canonical.read(call.body if isinstance(call.body, bytes) else b"")
        if isinstance(asked, Unfit) or "messages" not in asked or not asked.keys() <= CHAT_FIELDS:
            return None
        try:
            body, use_cache = _chat(asked)
        except Wrong as wrong:
            return answers.refused(400, str(wrong), "invalid_request")
        admitted = admit(led(asking(body, call)))
        if isinstance(admitted, Reply):
            return admitted
        if not use_cache:
            admitted = replace(admitted, controls=((b"cache-control", b"no-store"),))
        got = _Got()
        try:
            await pipeline.serve(admitted, CHAT, got.take)
        except (UpstreamError, Abandoned, Lagged) as error:
            return answers.refused(502, str(error), Reason.UPSTREAM_BROKE)
        reply = got.reply
        text = content(got.body)
        if reply is None or reply.status != 200 or text is None:
            # What the provider says of an error, it says best itself.
            status = reply.status if reply is not None and reply.status != 200 else 502
            phrase = reply.phrase if reply is not None else labels.PHRASES[502]
            return answers.passed_on(got.body, status=status, phrase=phrase)
        cached = reply.outcome in (Outcome.HIT, Outcome.JOINED)
        tier = SEMANTIC if reply.reason is Reason.SIMILAR else EXACT
        return answers.shown(
            {
                "content": text,
                "cached": cached,
                "cache_tier": TIERS[tier] if cached else None,
                "latency_ms": round((time.perf_counter() - start) * 1000, 3),
                "cost": 0.0 if cached else _cost(got.body, admitted, tills),
            }
        )

    return answer


@dataclass(slots=True)
class _Got:
    """A reply, taken whole."""

    reply: Reply | None = None
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    async def take(self, reply: Reply) -> None:
        self.reply = reply
        if isinstance(reply.body, bytes):
            self.pieces.append(reply.body)
        else:
            await _pour(reply.body, self)

    def write(self, octets: bytes) -> bool:
        self.size += len(octets)
        if self.size > MAX_ANSWER_BYTES:
            raise ConnectionError("an answer is larger than any chat's")
        self.pieces.append(octets)
        return True

    def flush(self) -> None:
        """Nothing is held back."""

    async def drained(self) -> None:
        """All of it is taken at once."""


async def _pour(body: Body, got: _Got) -> None:
    await body.pour(got)


def _cost(body: bytes, call: Call, tills: Mapping[str, Till]) -> float | None:
    """What the answer in *body* cost, in dollars; None where it has no price."""
    found = CHAT.examine(body, WHOLE)
    asked = canonical.read(call.body if isinstance(call.body, bytes) else b"")
    model = "" if isinstance(asked, Unfit) else str(asked.get("model"))
    till = tills[call.way.route(model).name]
    cost = till.cost(found.model or model, found.service_tier, found.usage, time.time())
    return cost.usd / PARTS if cost is not None else None


def _hits(books: Books, tier: str) -> int:
    line = books.lines[Axis.TIER].get(tier)
    return line.outcomes.counts[Outcome.HIT] if line is not None else 0


def _rate(hits: int, misses: int) -> dict[str, object]:
    return {"hits": hits, "misses": misses, "hit_rate": round(hits / (hits + misses), 4) if hits + misses else 0.0}


def _object(call: Call) -> Json:
    asked = canonical.read(call.body if isinstance(call.body, bytes) else b"")
    if isinstance(asked, Unfit):
        raise Wrong(f"send a JSON object ({asked.reason})")
    return asked


def _question(asked: Json) -> Question:
    system = asked.get("system_prompt")
    if system is not None and not isinstance(system, str):
        raise Wrong("`system_prompt` is a text")
    temperature = _number(asked, "temperature", 0)
    return Question(
        prompt=_text(asked, "prompt"),
        model=_text(asked, "model", MODEL),
        temperature=temperature if temperature is not None else 0,
        system_prompt=system,
    )


def _chat(asked: Json) -> tuple[bytes, bool]:
    """The chat request that is asked for, and whether the cache may have a part in it."""
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Wrong("`messages` is a list of messages")
    request: dict[str, object] = {
        "model": _text(asked, "model", MODEL),
        "messages": messages,
        "temperature": _number(asked, "temperature", 0),
    }
    if (most := _number(asked, "max_tokens", None)) is not None:
        request["max_tokens"] = most
    use_cache = asked.get("use_cache", True)
    if not isinstance(use_cache, bool):
        raise Wrong("`use_cache` is true or false")
    body = canonical.write(request)
    if isinstance(body, Unfit):
        raise Wrong(f"the messages cannot be sent ({body.reason})")
    return body, use_cache


def _text(asked: Json, name: str, default: str | None = None) -> str:
    value = asked.get(name, default)
    if not isinstance(value, str):
        raise Wrong(f"`{name}` is a text")
    return value


def _number(asked: Json, name: str, default: int | None) -> int | float | None:
    value = asked.get(name, default)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise Wrong(f"`{name}` is a number, 0 or more")
    return value


def _wanted(call: Call) -> tuple[Wanted, bool]:
    query = call.target.partition(b"?")[2].decode("latin-1")
    said = dict(parse_qsl(query, keep_blank_values=True))
    unknown = said.keys() - {"key", "model", "namespace", "tag", "older_than", "dry_run"}
    if unknown:
        # A name that is misspelt would otherwise remove everything.
        raise Wrong(f"unknown: {', '.join(sorted(unknown))}; known are key, model, namespace, tag, older_than, dry_run")
    key = said.get("key")
    if key is not None and len(key) < SHORTEST_KEY:
        raise Wrong(f"`key` has {SHORTEST_KEY} digits at least")
    older_than = said.get("older_than")
    if older_than is not None and not older_than.isdigit():
        raise Wrong("`older_than` is a number of seconds")
    dry_run = said.get("dry_run", "0")
    if dry_run not in ("0", "1", "false", "true"):
        raise Wrong("`dry_run` is 1 or 0")
    return (
        Wanted(
            key=key.lower() if key is not None else None,
            model=said.get("model"),
            namespace=said.get("namespace"),
            tag=said.get("tag"),
            older_than_s=float(older_than) if older_than is not None else None,
        ),
        dry_run in ("1", "true"),
    )
