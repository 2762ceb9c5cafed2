"""May a call read from the cache, may its answer be kept: decisions without I/O, each with its reason."""

import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from proxy.headers import Fields
from proxy.model import Finding, Json, Reason, Unkept
from proxy.ports import Dialect
from proxy.settings import CacheSettings

_SIMILARITY = re.compile(rb"(?:0(?:\.[0-9]{0,9})?|\.[0-9]{1,9}|1(?:\.0{0,9})?)")
_DELTA_SECONDS = re.compile(rb"[0-9]{1,10}")
_PARTIAL = frozenset(
    {b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"}
)
UNFIT_FIELDS = _PARTIAL | {b"content-encoding"}
"""Fields that may keep a request out, whatever its body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What one request asks of the cache, in its own header fields."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None
    ttl_s: float | None = None
    namespace: bytes = b""
    opt: bool | None = None
    """``x-askonce-cache: on | off``: overrides the temperature gate, or keeps the call out."""
    tag: str = ""
    prefix: str = ""
    """``x-askonce-prefix: off | observe | advise``: less than ``prefix.mode`` would do, never more."""
    similar: bool = True
    """False by ``x-askonce-semantic: off``: no answer of another question, please."""
    min_similarity: float = 0.0
    """No answer of a question that is less similar, whatever the operator's policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the cache may do for one call. A plan that neither reads nor writes is a bypass."""

    read: bool
    write: bool
    join: bool
    reason: Reason
    """Why it may not read; ``NOT_FOUND`` where it may, for that is then the reason of its miss."""

    @property
    def bypass(self) -> bool:
        """The call takes no part in the cache."""
        return not self.read and not self.write


_CACHED = Plan(read=True, write=True, join=True, reason=Reason.NOT_FOUND)
_FRESH = Plan(read=False, write=True, join=False, reason=Reason.NO_CACHE)

_SILENT = Control()

CONTROLS = frozenset(
    {
        b"cache-control",
        b"pragma",
        b"x-askonce-cache",
        b"x-askonce-ttl",
        b"x-askonce-namespace",
        b"x-askonce-tag",
        b"x-askonce-prefix",
        b"x-askonce-semantic",
        b"x-askonce-min-similarity",
    }
)
"""Where a request says what it wants of the cache."""


def control(fields: Fields) -> Control:
    """Read the request's ``Cache-Control`` (RFC 9111 section 5.2.1), ``Pragma`` and ``x-askonce-*``.

    What is malformed is ignored: a cache directive must never make a request fail.
    """
    if not fields.has_any(CONTROLS):
        return _SILENT
    directives: dict[bytes, bytes] = {}
    for token in fields.tokens(b"cache-control"):
        name, _, value = token.partition(b"=")
        directives.setdefault(name.strip(), value.strip().strip(b'"'))
    max_age = directives.get(b"max-age", b"")
    ttl = (fields.get(b"x-askonce-ttl") or b"").strip()
    opt = (fields.get(b"x-askonce-cache") or b"").strip().lower()
    # Pragma counts only where there is no Cache-Control (RFC 9111 section 5.4).
    pragma = not directives and b"no-cache" in fields.tokens(b"pragma")
    age = int(max_age) if _DELTA_SECONDS.fullmatch(max_age) else None
    least = (fields.get(b"x-askonce-min-similarity") or b"").strip()
    return Control(
        no_cache=b"no-cache" in directives or pragma or age == 0,
        no_store=b"no-store" in directives,
        only_if_cached=b"only-if-cached" in directives,
        max_age_s=age,
        ttl_s=float(ttl) if _DELTA_SECONDS.fullmatch(ttl) else None,
        namespace=b"\x00".join(value.strip() for value in fields.all(b"x-askonce-namespace")),
        opt={b"on": True, b"off": False}.get(opt),
        tag=(fields.get(b"x-askonce-tag") or b"").decode("latin-1").strip()[:64],
        prefix=prefix.decode() if (prefix := _word(fields, b"x-askonce-prefix")) in _LESS else "",
        similar=(fields.get(b"x-askonce-semantic") or b"").strip().lower() != b"off",
        # What is malformed here cannot be ignored: whoever raises the bar must not get a lower one.
        min_similarity=(float(least) if _SIMILARITY.fullmatch(least) else math.inf) if least else 0.0,
    )


_LESS = frozenset({b"off", b"observe", b"advise"})


def _word(fields: Fields, name: bytes) -> bytes:
    return (fields.get(name) or b"").strip().lower()


def unfit_headers(fields: Fields) -> Reason | None:
    """Why a request with these fields cannot be a candidate, whatever its body."""
    if any(token != b"identity" for token in fields.tokens(b"content-encoding")):
        return Reason.ENCODED_BODY
    if fields.has_any(_PARTIAL):
        return Reason.RANGE
    return None


def plan(request: Json, asked: Control, dialect: Dialect, settings: CacheSettings, *, cached: bool = True) -> Plan:
    """Decide, before any lookup, what the cache may do for *request*; *cached*: its provider's own switch is on."""
    if not (settings.enabled and cached) or asked.opt is False:
        return _bypass(Reason.CACHE_OFF)
    if asked.no_store:
        return _bypass(Reason.NO_STORE)
    refused = dialect.refuses(request)
    if refused is not None:
        return _bypass(refused)
    if not (dialect.deterministic or asked.opt or repeatable(request, _when(request, settings))):
        return _bypass(Reason.TEMPERATURE)
    if asked.no_cache:
        return _FRESH
    return _CACHED


def _bypass(reason: Reason) -> Plan:
    return Plan(read=False, write=False, join=False, reason=reason)


def _when(request: Json, settings: CacheSettings) -> str:
    model = request.get("model")
    if isinstance(model, str):
        for pattern, when in settings.when_by_model.items():
            if fnmatchcase(model, pattern):
                return when
    return settings.when


def repeatable(request: Json, when: str) -> bool:
    """Whether the client asked in a way that makes a repeat of the answer as good as a new one.

    Providers sample at temperature 1 where the client is silent, so silence is not zero; ``false`` is not zero either.
    """
    if when == "always":
        return True
    temperature = request.get("temperature")
    if type(temperature) in (int, float) and temperature == 0:
        return True
    return when == "seeded" and type(request.get("seed")) is int


def keepable(status: int, finding: Finding, fields: Fields, settings: CacheSettings) -> Unkept | None:
    """Why an answer that arrived whole must not be kept, or None."""
    if status != 200:
        return Unkept.STATUS
    allowed = {Unkept.LENGTH: settings.keep_cut_at_length, Unkept.CONTENT_FILTER: settings.keep_cut_by_filter}
    if finding.unkept is not None and not allowed.get(finding.unkept, False):
        return finding.unkept
    if settings.respect_no_store and b"no-store" in fields.tokens(b"cache-control"):
        return Unkept.FORBIDDEN
    return None


def content_kind(fields: Fields) -> str:
    """``stream`` for an event stream, ``json`` for JSON, ``unsaid`` or ``other``: by Content-Type alone."""
    if b"content-type" not in fields:
        return "unsaid"
    media = (fields.get(b"content-type") or b"").split(b";")[0].strip().lower()
    if media == b"text/event-stream":
        return "stream"
    if media == b"application/json" or (media.startswith(b"application/") and media.endswith(b"+json")):
        return "json"
    return "other"


def model_of(request: Json) -> str:
    """The model that *request* names, as a label of bounded length."""
    model = request.get("model")
    return model[:128] if isinstance(model, str) else ""
