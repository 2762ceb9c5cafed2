"""What other gateways call the things that a request can ask of us: a table, and its reader.

Apps that were written for another gateway go on saying what they say. Their fields are read here and forwarded all the
same, for that gateway may be the provider.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from proxy.headers import Fields
from proxy.model import RawFields

_YES = re.compile(rb"(?i)true|1|yes|on")
_NO = re.compile(rb"(?i)false|0|no|off")
_DURATION = re.compile(rb"(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,10})s)?")

Meaning = Callable[[bytes], bytes | None]
"""What a value means in our own field; None where it means nothing."""


def _if_yes(told: bytes) -> Meaning:
    return lambda said: told if _YES.fullmatch(said) else None


def _switch(said: bytes) -> bytes | None:
    return b"on" if _YES.fullmatch(said) else b"off" if _NO.fullmatch(said) else None


def _on_if_said(said: bytes) -> bytes | None:
    return b"on" if said else None


def _as_it_is(said: bytes) -> bytes | None:
    return said or None


def _direct_alone(said: bytes) -> bytes | None:
    return b"off" if said.lower() == b"direct" else None


def _seconds(said: bytes) -> bytes | None:
    """Seconds, also where they are written as a duration of Go's (``1h30m``, ``45s``)."""
    if said.isdigit():
        return said
    found = _DURATION.fullmatch(said) if said else None
    if found is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return b"%d" % (hours * 3600 + minutes * 60 + seconds)


@dataclass(frozen=True, slots=True)
class Alias:
    """One field of another gateway's, and ours that says the same."""

    gateway: str
    field: bytes
    ours: bytes
    means: Meaning


_REFRESH = b"cache-control", _if_yes(b"no-cache")
"""Ask the provider, and keep the new answer."""

_LEAVE_OUT = b"cache-control", _if_yes(b"no-store")
_KEEP_FOR = b"x-askonce-ttl", _seconds
_NARROW = b"x-askonce-namespace", _as_it_is
_SWITCH = b"x-askonce-cache", _switch

ALIASES = (
    Alias("Portkey", b"x-portkey-cache-force-refresh", *_REFRESH),
    Alias("Portkey", b"x-portkey-cache-namespace", *_NARROW),
    Alias("Cloudflare", b"cf-aig-skip-cache", *_LEAVE_OUT),
    Alias("Cloudflare", b"cf-aig-cache-ttl", *_KEEP_FOR),
    # There it replaces the key. Here it may only narrow it: a key made by hand may be the same for two questions.
    Alias("Cloudflare", b"cf-aig-cache-key", *_NARROW),
    # The names that Cloudflare used before.
    Alias("Cloudflare", b"cf-skip-cache", *_LEAVE_OUT),
    Alias("Cloudflare", b"cf-cache-ttl", *_KEEP_FOR),
    Alias("Helicone", b"helicone-cache-enabled", *_SWITCH),
    Alias("Helicone", b"helicone-cache-seed", *_NARROW),
    Alias("OpenRouter", b"x-openrouter-cache", *_SWITCH),
    Alias("OpenRouter", b"x-openrouter-cache-ttl", *_KEEP_FOR),
    Alias("OpenRouter", b"x-openrouter-cache-clear", *_REFRESH),
    # Bifrost caches nothing but what comes with a key.
    Alias("Bifrost", b"x-bf-cache-key", b"x-askonce-cache", _on_if_said),
    Alias("Bifrost", b"x-bf-cache-key", *_NARROW),
    Alias("Bifrost", b"x-bf-cache-ttl", *_KEEP_FOR),
    # Ours is a least one: it can raise the operator's bar and not lower it.
    Alias("Bifrost", b"x-bf-cache-threshold", b"x-askonce-min-similarity", _as_it_is),
    Alias("Bifrost", b"x-bf-cache-type", b"x-askonce-semantic", _direct_alone),
    Alias("Bifrost", b"x-bf-cache-no-store", *_LEAVE_OUT),
    Alias("Higress", b"x-higress-skip-ai-cache", *_LEAVE_OUT),
)

ADD_UP = frozenset({b"cache-control", b"x-askonce-namespace"})
"""Of these all that is said counts, because each may only hold back or narrow."""

FIELDS = frozenset(alias.field for alias in ALIASES)
"""Every field that is read here."""


def translated(fields: Fields) -> RawFields:
    """What *fields* ask of the cache in other gateways' words, in ours; what they say in ours themselves goes first."""
    if not fields.has_any(FIELDS):
        return ()
    told: list[tuple[bytes, bytes]] = []
    for alias in ALIASES:
        said = fields.get(alias.field)
        meaning = None if said is None else alias.means(said.strip())
        if meaning is not None and (alias.ours in ADD_UP or alias.ours not in fields):
            told.append((alias.ours, meaning))
    return tuple(told)
