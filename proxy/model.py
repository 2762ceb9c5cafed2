"""The words of the house: frozen values that travel between its rooms."""

import math
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import NewType

from proxy.accounts.usage import LateUsage, Usage
from proxy.values import value

Key = NewType("Key", str)
"""The exact key of a call: 64 hexadecimal digits of SHA-256."""

TenantId = NewType("TenantId", str)
"""Whose answers these are: a keyed digest, never a credential."""

Json = Mapping[str, object]
"""A parsed JSON object of which nothing is known yet."""

RawFields = tuple[tuple[bytes, bytes], ...]
"""Header fields as they were on the wire: order, letter case, repetition and octets kept."""


class Outcome(StrEnum):
    """How a call on a cached path ended; the word in the ``x-cache`` header."""

    HIT = "HIT"
    """Answered from the cache."""
    JOINED = "JOINED"
    """Answered by a fetch that somebody else had begun."""
    MISS = "MISS"
    """Went to the provider, whatever the provider answered."""
    BYPASS = "BYPASS"
    """Not a candidate for the cache, by policy or by request."""
    ERROR = "ERROR"
    """Answered by the proxy itself, or the answer broke off."""


class Reason(StrEnum):
    """Why a call had its outcome: known before the head is sent, the same word in header, /stats and log."""

    FOUND = "found"
    """HIT: the same call was answered before."""
    SIMILAR = "similar"
    """HIT: another question of the same meaning was answered before (tier ``semantic``)."""
    STALE_IF_ERROR = "stale_if_error"
    """HIT: it has expired, and the provider could not answer (``cache.stale_if_error_s``)."""
    STALE_WHILE_REVALIDATE = "stale_while_revalidate"
    """HIT: it has expired, and its successor is being fetched (``cache.stale_while_revalidate_s``)."""
    TRANSCODED = "transcoded"
    """HIT: found in the other form (stream or whole) and re-framed without inventing anything."""
    IN_FLIGHT = "in_flight"
    """JOINED: the same call was being fetched."""
    NOT_FOUND = "not_found"
    """MISS: nothing is kept under this key, or it has expired."""
    NO_CACHE = "no_cache"
    """MISS: the request said ``Cache-Control: no-cache``."""
    TOO_OLD = "too_old"
    """MISS: what is kept is older than the request's ``max-age``."""
    PARTLY_FOUND = "partly_found"
    """MISS: some of the inputs are kept; only the others were asked for (embeddings)."""
    OTHER_FORM = "other_form"
    """MISS: what is kept cannot be given in the form asked for without inventing something."""
    OTHER_ENCODING = "other_encoding"
    """MISS: what is kept is in a content encoding that the client does not accept and the proxy cannot undo."""
    CACHE_FAULT = "cache_fault"
    """MISS: the store failed or was too slow."""
    TEMPERATURE = "temperature"
    """BYPASS: the answer is sampled: temperature is not 0, or absent (which means 1)."""
    NO_STORE = "no_store"
    """BYPASS: the request said ``Cache-Control: no-store``."""
    CACHE_OFF = "cache_off"
    """BYPASS: the operator switched the cache off."""
    SIDE_EFFECT = "side_effect"
    """BYPASS: the call does more than answer: stored completions, server-side tools."""
    STATEFUL = "stateful"
    """BYPASS: the answer depends on a conversation that the provider keeps, or is made in the background."""
    INVALID_JSON = "invalid_json"
    """BYPASS: the body is not JSON in UTF-8, or not an object."""
    DUPLICATE_KEYS = "duplicate_keys"
    """BYPASS: an object of the body names a key twice; readers differ on what that means."""
    ABSURD_NUMBER = "absurd_number"
    """BYPASS: a number of the body is beyond what an IEEE double or 4,000 digits can hold."""
    TOO_DEEP = "too_deep"
    """BYPASS: the body nests deeper than can be compared safely."""
    ENCODED_BODY = "encoded_body"
    """BYPASS: the request body has a Content-Encoding."""
    BODY_TOO_LARGE = "body_too_large"
    """BYPASS: the request body is over ``cache.max_body_bytes``; it was streamed through."""
    RANGE = "range"
    """BYPASS: the request asks for a part of an answer or makes it conditional."""
    UNKNOWN_KEY = "unknown_key"
    """ERROR: no key that the operator issued (401); only where ``keys.mode`` is ``shared``."""
    MODEL_NOT_ALLOWED = "model_not_allowed"
    """ERROR: the client's key is for other models (403)."""
    BUDGET_SPENT = "budget_spent"
    """ERROR: the client has spent what it may in a day, and the answer would cost something (429)."""
    NOT_CACHED = "not_cached"
    """ERROR: the request said ``only-if-cached`` and nothing is kept (504)."""
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    """ERROR: no connection to the provider could be made (502)."""
    UPSTREAM_BROKE = "upstream_broke"
    """ERROR: the provider's connection failed before or within its answer."""
    UPSTREAM_GARBLED = "upstream_garbled"
    """ERROR: what came from the provider is not HTTP (502)."""
    PROVIDER_KEY = "provider_key"
    """ERROR: the provider refused the key that the proxy holds for its clients (502)."""
    INTERNAL = "internal"
    """ERROR: a fault of the proxy's own (500)."""
    LAGGED = "lagged"
    """ERROR: a reader fell further behind a shared answer than ``flights.max_lag_bytes`` and was cut off."""


class Apart(StrEnum):
    """Why no other question's answer was given: said beside the reason of a miss, and counted at /stats."""

    OFF = "off"
    """The semantic tier is off, or has no model."""
    REFUSED = "refused"
    """The request, or its client, takes no answer of another question."""
    NO_QUESTION = "no_question"
    """The last turn is not a user's, or not plain text alone."""
    TOO_LONG = "too_long"
    """It is longer than ``semantic.max_chars``."""
    EMPTY = "empty"
    """It holds no letter and no digit."""
    CONTROLS = "controls"
    """It holds control characters, marks of direction or invisible ones."""
    SCRIPT = "script"
    """It is in a script that the model does not know."""
    LANGUAGE = "language"
    """It is not in English, which is all that the guards understand."""
    CODE = "code"
    """It is code, base64 or a list of symbols."""
    PERSONAL = "personal"
    """It holds data of a person (``semantic.allow_personal``)."""
    FRESH = "fresh"
    """It is about the moment (``semantic.allow_fresh``)."""
    LOADING = "loading"
    """The model is being loaded."""
    LATE = "late"
    """Nothing was decided within ``semantic.deadline_s``."""
    FAULT = "fault"
    """The embedder, the index or the store failed, or has too much to do."""
    ALONE = "alone"
    """No question of its scope is anywhere near."""
    GUARDED = "guarded"
    """The nearest differ in something that matters: a number, a name, a negation."""
    UNSURE = "unsure"
    """The nearest may well mean the same, but that is not certain enough."""
    TOLD_APART = "told_apart"
    """The nearest is known to have another answer."""
    UNSEEN = "unseen"
    """The nearest was asked by one client only, and that was another one."""
    UNLIKE = "unlike"
    """The nearest is much longer, or shares no word."""
    BELOW = "below"
    """The nearest is less similar than the request demands (``x-askonce-min-similarity``)."""
    GONE = "gone"
    """The nearest question's answer is kept no longer, is too old, or cannot be given in the form asked for."""
    EXPLORED = "explored"
    """One that would have been answered was asked anew, to see whether the answers agree."""
    SHADOW = "shadow"
    """It would have been answered, but the policy is ``shadow``."""


class Unkept(StrEnum):
    """Why an answer that might have been kept was not; known only when it has arrived."""

    STATUS = "status"
    """The status is not 200."""
    INCOMPLETE = "incomplete"
    """It lacks its terminal event, its finish reason or a part of its body."""
    ERROR_INSIDE = "error_inside"
    """It carries an error object or an error event."""
    LENGTH = "length"
    """It was cut at the token limit (finish reason ``length``)."""
    CONTENT_FILTER = "content_filter"
    """It was cut by a content filter."""
    EMPTY = "empty"
    """It holds no answer at all."""
    UNREADABLE = "unreadable"
    """It is not what the path promises: another content type, invalid JSON, an unknown content encoding."""
    SIDE_EFFECT = "side_effect"
    """It shows that a server-side tool ran (a web search, a code interpreter)."""
    TOO_LARGE = "too_large"
    """It is over ``cache.max_entry_bytes``."""
    VARIES = "varies"
    """Its ``Vary`` is ``*``, or names more than can be followed."""
    FORBIDDEN = "forbidden"
    """Its own ``Cache-Control`` says ``no-store`` (honoured only by ``cache.respect_no_store``)."""
    BROKE_OFF = "broke_off"
    """The provider's connection failed before the end."""
    ABANDONED = "abandoned"
    """Every client left before the end and ``cache.finish_abandoned`` is off."""
    CACHE_FAULT = "cache_fault"
    """The store failed, was too slow or had no room."""


class CutOff(StrEnum):
    """How the client's side of an answer ended."""

    DELIVERED = "delivered"
    CLIENT_LEFT = "client_left"
    BROKE_OFF = "broke_off"


@value
class Form:
    """The shape in which an answer is asked for or was recorded.

    Two calls with one exact key may differ in this alone: everything here is left out of the key
    because one recording can often serve several forms.
    """

    stream: bool = False
    include_usage: bool = False
    """``stream_options.include_usage``: a final chunk with the usage, and ``usage: null`` before it."""
    obfuscation: bool = True
    """False only where the request said ``stream_options.include_obfuscation: false``."""
    other_options: str = ""
    """Members of ``stream_options`` that we do not know, as canonical JSON: they separate forms."""


WHOLE = Form()


@value
class Finding:
    """What a dialect reads in a finished answer."""

    unkept: Unkept | None = None
    """None: complete and good."""
    usage: Usage | None = None
    model: str | None = None
    """The model that the answer names."""
    service_tier: str = ""
    """The service tier that the answer names."""
    late: LateUsage | None = None
    """Where it named no usage: what we count in its place, as soon as that is known."""


@value
class Entry:
    """An answer worth keeping, as it came."""

    key: Key
    dialect: str
    status: int
    phrase: bytes
    """The reason phrase of the status line."""
    head: bytes = field(repr=False)
    """The end-to-end header fields as lines, ``Name: value`` and CRLF each, as they came but without Set-Cookie."""
    body: bytes = field(repr=False)
    """Body octets, still in *encoding*."""
    encoding: str = ""
    """Content-Encoding in lower case; empty for identity."""
    chunked: bool = False
    """The provider framed it without a length."""
    form: Form = WHOLE
    model: str = ""
    service_tier: str = ""
    """How it was made, as it says itself; prices depend on it."""
    usage: Usage | None = None
    created: float
    """Seconds since the epoch."""
    expires: float = math.inf
    grace_s: float = 0.0
    """How long after *expires* it is kept: for when the provider fails, or while its successor is fetched."""
    fetch_s: float = 0.0
    """Seconds that the provider took from request to last byte."""
    marks: tuple[tuple[int, float], ...] = ()
    """(octets so far, seconds since the first) at the end of each chunk; only kept for ``replay.pace: recorded``."""
    tenant: TenantId = TenantId("")
    """Whose it is; the key holds it too, this is for listing and for removal."""
    tag: str = ""
    """As the request called itself (``x-askonce-tag``), for removal."""
    namespace: str = ""
    """In which part of the cache; the key holds it too, this is for removal."""
    scope: str = ""
    """Within which requests its question may be compared by meaning; empty where it may be with none."""
    question: str = field(default="", repr=False)
    """The text of the last user turn that it answers; only where there is a scope."""
    maker: str = ""
    """A keyed digest of whose request made it, where several share it."""
    embedder: str = ""
    """The identity of what made *vector*: vectors of two embedders are never compared."""
    vector: bytes = field(default=b"", repr=False)
    """The question as float32 numbers; empty in stores that end with the process, which has it in its index."""


@value
class Veto:
    """A guard that fired: two texts differ in something that matters."""

    guard: str
    """Its name: ``numbers``, ``negation``."""
    asked: str = ""
    """The words of the asked text that it went by."""
    cached: str = ""
    """Those of the cached text."""


@value
class Neighbour:
    """A text near to the one that is asked."""

    text: str = field(repr=False)
    cosine: float


@value
class Judgement:
    """What the verifier makes of one neighbour."""

    score: float
    """How sure it is that one answer serves both, 0 to 1; no chance until it is calibrated. Comparable within one
    ``Verifier.identity`` only."""
    fast: float
    """The score of the first stage alone."""
    stage: str
    """The last stage it reached: ``guards``, ``fast`` or ``full``."""
    vetoes: tuple[Veto, ...] = ()
    """Hard guards that fired. Where there is one, the score is 0 and the neighbour must not be served."""
    fired: tuple[Veto, ...] = ()
    """All guards that fired, soft ones and those of long texts too: features, not vetoes."""
