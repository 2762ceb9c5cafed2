"""A request for several embeddings: what is kept of it, what has to be asked for, and one answer made of both."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TypeVar

from proxy import codings, headers
from proxy.accounts.usage import Method, Usage
from proxy.call import Call, Candidate
from proxy.codings import Undecodable
from proxy.dialects import vectors
from proxy.dialects.vectors import Answer, Irregular
from proxy.headers import Fields
from proxy.model import Entry, Finding, Key, Reason
from proxy.ports import Upload
from proxy.providers.provider import Incoming, Take
from proxy.replay import DESCRIBING, MAX_DECODED_BYTES
from proxy.tiers.exact import ExactTier, Found, Missed
from proxy.tokens import counter

MAX_GATHERED_BYTES = 64 * 1024 * 1024
"""An answer for many inputs may be this long and is taken apart all the same, for none of its parts is."""

OFF_LOOP_BYTES = 64 * 1024
"""What is longer is taken apart and put together in a thread."""

MAX_COUNTED_CHARS = 1_000_000
"""Inputs that are longer together are weighed by their length, not by their tokens."""

T = TypeVar("T")

Ask = Callable[[Fields, bytes | Upload | None], Awaitable[Incoming]]
"""Asks the provider, with these header fields and this body."""


class Gatherer:
    """Opens a gathering for each request that asks for several embeddings."""

    def __init__(self, exact: ExactTier) -> None:
        self._exact = exact
        self._weigher = Weigher()

    def __repr__(self) -> str:
        return f"<Gatherer on {self._exact!r}>"

    def open(self, call: Call, candidate: Candidate, dialect: str) -> "Gathering | None":
        """What is to be gathered for *call*; None where it is one thing."""
        if not candidate.pieces or candidate.identity is None or not isinstance(call.body, bytes):
            return None
        narrow = partial(self._exact.narrow, dialect=dialect, fields=call.fields)
        return Gathering(
            call, candidate.identity, candidate.pieces, exact=self._exact, narrow=narrow, weigher=self._weigher
        )


class Gathering:
    """One request for several embeddings, on its way."""

    def __init__(
        self,
        call: Call,
        whole: Key,
        keys: Sequence[Key],
        *,
        exact: ExactTier,
        narrow: Callable[[Key], Key],
        weigher: "Weigher",
    ) -> None:
        self._call = call
        self._identity = whole
        self._keys = keys
        self._exact = exact
        self._narrow = narrow
        self._weigher = weigher
        self._entries: dict[Key, Entry] = {}
        self._kept: dict[Key, Answer] = {}
        """What was found, taken apart."""
        self._fresh: Answer | None = None
        """What came from the provider, taken apart: of the missing inputs, or of all."""
        self._asked: list[Key] = []
        """The keys of what came, in its order."""
        self._shares: list[Usage | None] = []
        self.bytes_in: int | None = None
        """How much came from the provider, where it is not what went to the client."""

    def __repr__(self) -> str:
        return f"<Gathering, {self.found} of {len(self._keys)} inputs found>"

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return len(self._keys)

    @property
    def found(self) -> int:
        """How many of them are kept."""
        return sum(key in self._kept for key in self._keys)

    async def look_up(self, *, max_age_s: float | None) -> Found | Missed:
        """One entry made of all that is kept, if that is all that was asked for."""
        keys = list(dict.fromkeys(self._keys))
        outcomes = await self._exact.look_up_all([self._narrow(key) for key in keys], max_age_s=max_age_s)
        found = {key: each for key, each in zip(keys, outcomes, strict=True) if isinstance(each, Found)}
        self._entries = {key: each.entry for key, each in found.items()}
        size = sum(len(entry.body) for entry in self._entries.values())
        self._kept = await _off_loop(size, partial(_all_apart, self._entries))
        if len(self._kept) == len(keys):
            entry = await _off_loop(size, self._whole)
            return Found(entry, age_s=max(each.age_s for each in found.values()))
        if self._kept:
            return Missed(Reason.PARTLY_FOUND)
        # What has expired is a part: it cannot stand in for the whole.
        reasons = (each.reason for each in outcomes if isinstance(each, Missed))
        return Missed(next(reasons, Reason.NOT_FOUND))

    def _whole(self) -> Entry:
        """What is kept, as the provider would have sent it for the whole."""
        entries = [self._entries[key] for key in self._keys]
        latest = max(self._keys, key=lambda key: self._entries[key].created)
        newest, answer = self._entries[latest], self._kept[latest]
        usage = _sum([entry.usage for entry in entries])
        body = answer.of([self._kept[key].vectors[0] for key in self._keys], usage.input_tokens if usage else None)
        return replace(
            newest,
            key=self._narrow(self._identity),
            head=_described(newest.head, len(body)),
            body=body,
            encoding="",
            chunked=False,
            usage=usage,
            created=min(entry.created for entry in entries),
            expires=min(entry.expires for entry in entries),
            fetch_s=max(entry.fetch_s for entry in entries),
        )

    async def ask(self, ask: Ask) -> Incoming:
        """The answer to the whole request: the provider's own, or made of what it says to the rest and what is kept.

        Where the two do not go together the provider is asked once more, for the whole.
        """
        call = self._call
        if not self._kept or not isinstance(call.body, bytes) or self._outgrows():
            self._kept = {}
            return await ask(call.fields, call.body)
        missing = [key for key in dict.fromkeys(self._keys) if key not in self._kept]
        wanted = [self._keys.index(key) for key in missing]
        # Telling the shares takes a vocabulary, which takes half a second to load, once; the provider takes time, too.
        model = next(iter(self._kept.values())).model
        asyncio.get_running_loop().run_in_executor(None, counter.shared().load, model)
        body = await _off_loop(len(call.body), partial(vectors.only, call.body, wanted))
        rest = await ask(headers.resized(call.fields, len(body)), body)
        if rest.status != 200:
            return rest
        encoding = b",".join(rest.fields.tokens(b"content-encoding")).decode("latin-1")
        try:
            async with rest:
                octets = await _all_of(rest)
            self.bytes_in = len(octets)
            merged = await _off_loop(len(octets) * 2, partial(self._merged, octets, encoding, missing))
        except (Irregular, Undecodable):
            self._kept, self._fresh, self.bytes_in = {}, None, None
            return await ask(call.fields, call.body)
        fields = headers.parse_lines(_described(headers.block(rest.fields), len(merged)))
        return _Merged(rest.status, rest.phrase, Fields(fields), merged)

    def _outgrows(self) -> bool:
        largest = max(len(answer.vectors[0]) for answer in self._kept.values())
        return (largest + 256) * len(self._keys) > MAX_GATHERED_BYTES

    def _merged(self, octets: bytes, encoding: str, missing: Sequence[Key]) -> bytes:
        fresh = vectors.apart(codings.decode(octets, encoding, limit=MAX_DECODED_BYTES))
        kept = next(iter(self._kept.values()))
        if len(fresh.vectors) != len(missing) or not fresh.like(kept):
            raise Irregular("what came does not go with what is kept")
        self._came(fresh, missing)
        by_key = {key: (answer.vectors[0], self._entries[key].usage) for key, answer in self._kept.items()}
        by_key |= dict(zip(missing, zip(fresh.vectors, self._shares, strict=True), strict=True))
        usage = _sum([by_key[key][1] for key in self._keys])
        return fresh.of([by_key[key][0] for key in self._keys], usage.input_tokens if usage is not None else None)

    def _came(self, fresh: Answer, keys: Sequence[Key]) -> None:
        """*fresh* answers *keys*."""
        self._fresh, self._asked = fresh, list(keys)
        places = [self._keys.index(key) for key in keys]
        self._shares = self._weigher.shares(fresh, self._call.body, places)

    async def examine(self, body: bytes, encoding: str) -> Finding | None:
        """What the answer that arrived, *body*, turned out to be; None where it could not be taken apart."""
        if self._fresh is None:
            try:
                await _off_loop(len(body) * (2 if encoding else 1), partial(self._take_apart, body, encoding))
            except (Irregular, Undecodable):
                return None
        if self._fresh is None:
            return None
        whole = [self._entries[key].usage for key in self._keys if key in self._kept]
        by_key = dict(zip(self._asked, self._shares, strict=True))
        usage = _sum([*whole, *(by_key[key] for key in self._keys if key in by_key)])
        return Finding(usage=usage, model=self._fresh.model or None)

    def _take_apart(self, body: bytes, encoding: str) -> None:
        fresh = vectors.apart(codings.decode(body, encoding, limit=MAX_DECODED_BYTES))
        if len(fresh.vectors) != len(self._keys):
            raise Irregular("there are not as many vectors as inputs")
        self._came(fresh, self._keys)

    def own(self, found: Finding) -> Finding:
        """*found*, which is of the whole answer, with what the provider charged for what came from it."""
        if not self._kept or self._fresh is None:
            return found
        tokens = self._fresh.tokens
        return replace(found, usage=Usage(input_tokens=tokens) if tokens is not None else None)

    @property
    def spared(self) -> Usage | None:
        """What it would have charged for what was kept."""
        return _sum([self._entries[key].usage for key in self._keys if key in self._kept])

    async def entries(self, whole: Entry) -> list[Entry]:
        """What came, input by input, each an answer of its own; *whole* knows everything else about them."""
        fresh = self._fresh
        return [whole] if fresh is None else await _off_loop(len(whole.body), partial(self._entries_of, fresh, whole))

    def _entries_of(self, fresh: Answer, whole: Entry) -> list[Entry]:
        made: dict[Key, Entry] = {}
        for key, vector, usage in zip(self._asked, fresh.vectors, self._shares, strict=True):
            if key in made:
                continue
            body = fresh.of([vector], usage.input_tokens if usage is not None else None)
            head = _described(whole.head, len(body))
            # The answer may be the first to say what such answers vary by.
            made[key] = replace(
                whole, key=self._narrow(key), head=head, body=body, encoding="", chunked=False, usage=usage
            )
        return list(made.values())


class Weigher:
    """Tells what each input of a request had of the tokens of all."""

    def shares(self, answer: Answer, request: object, places: Sequence[int]) -> list[Usage | None]:
        """The usage of each vector of *answer*, which answers the inputs of *request* at *places*.

        They add up to what the answer says. Of one input, and where counting comes to the same sum, they are what the
        provider would have said of each; else they are an estimate.
        """
        total = answer.tokens
        if total is None:
            return [None] * len(places)
        if len(places) == 1:
            return [Usage(input_tokens=total)]
        counts = self._weights(request, places, answer.model)
        method = Method.MEASURED if sum(counts) == total else Method.ESTIMATED
        return [Usage(input_tokens=share, method=method) for share in vectors.shares(total, counts)]

    def _weights(self, request: object, places: Sequence[int], model: str) -> list[int]:
        given = vectors.inputs_of(request) if isinstance(request, bytes) else ()
        if len(given) <= max(places):
            return [1] * len(places)
        chosen = [given[at] for at in places]
        if sum(len(each) for each in chosen if isinstance(each, str)) > MAX_COUNTED_CHARS:
            return [len(each.encode("utf-8", "replace")) if isinstance(each, str) else _length(each) for each in chosen]
        return [self._count(each, model) if isinstance(each, str) else _length(each) for each in chosen]

    def _count(self, text: str, model: str) -> int:
        return counter.shared().count_text(text, model).tokens


class _Merged:
    """An answer that is there already."""

    def __init__(self, status: int, phrase: bytes, fields: Fields, body: bytes) -> None:
        self.status = status
        self.phrase = phrase
        self.fields = fields
        self.usage: Usage | None = None
        self._body = body

    async def __aenter__(self) -> "_Merged":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""

    async def flow(self, take: Take) -> bool:
        body, self._body = self._body, b""
        return take(body) if body else True


def _all_apart(entries: Mapping[Key, Entry]) -> dict[Key, Answer]:
    """The answers of *entries*, those left out that do not go with the newest."""
    apart: dict[Key, Answer] = {}
    for key, entry in sorted(entries.items(), key=lambda item: -item[1].created):
        try:
            plain = codings.decode(entry.body, entry.encoding, limit=MAX_DECODED_BYTES)
            answer = vectors.apart(plain, known=True)
        except (Irregular, Undecodable):
            continue
        first = next(iter(apart.values()), answer)
        if len(answer.vectors) == 1 and answer.like(first):
            apart[key] = answer
    return apart


def _sum(usages: Sequence[Usage | None]) -> Usage | None:
    """Several usages of embeddings as one; None where one of them is not known."""
    known = [usage for usage in usages if usage is not None]
    if not known or len(known) < len(usages):
        return None
    # What is known least well decides.
    order = (Method.ESTIMATED, Method.COUNTED, Method.MEASURED)
    method = next(each for each in order if any(usage.method is each for usage in known))
    return Usage(input_tokens=sum(usage.input_tokens for usage in known), method=method)


def _described(head: bytes, length: int) -> bytes:
    """The lines of *head* for a body of *length* octets without a content coding."""
    kept = [
        pair
        for pair in headers.parse_lines(head)
        if pair[0].lower() not in DESCRIBING or pair[0].lower() == b"content-type"
    ]
    return headers.lines([*kept, (b"Content-Length", b"%d" % length)])


async def _all_of(answer: Incoming) -> bytes:
    """The whole body of *answer*; ``Irregular`` where it is longer than any answer that goes with what is kept."""
    pieces: list[bytes] = []
    size = 0

    def take(octets: bytes) -> bool:
        nonlocal size
        pieces.append(octets)
        size += len(octets)
        return size <= MAX_GATHERED_BYTES

    if not await answer.flow(take):
        raise Irregular("the answer does not end")
    return b"".join(pieces)


async def _off_loop(size: int, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if size > OFF_LOOP_BYTES else work()


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 1
