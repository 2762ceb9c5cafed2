"""Who is this call: the exact key, by value and by everything that can change the answer."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from proxy import canonical
from proxy.canonical import Unfit
from proxy.headers import Fields
from proxy.model import Json, Key, TenantId
from proxy.ports import Dialect

KEY_SCHEMA = b"askonce/1"
"""Goes into every key: a change in how keys are made leaves the old entries to expire unread."""

ANSWER_RELEVANT = (
    b"openai-beta",
    b"openai-organization",
    b"openai-project",
    b"anthropic-version",
    b"anthropic-beta",
)
"""Request header fields that change the answer or whose account pays for it."""

CREDENTIALS = (b"authorization", b"api-key", b"x-api-key")
"""Where clients carry their keys: OpenAI and most others, Azure, Anthropic."""

MAX_VARY_NAMES = 16


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The identity of one call."""

    exact: Key


def digest(parts: Iterable[bytes]) -> "hashlib._Hash":
    """SHA-256 over *parts*, each preceded by its length, so that no two lists of parts run together."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed


def tenant(fields: Fields, *, share: str, secret: bytes, peer_trusted: bool) -> TenantId:
    """Whose answers the call may see.

    *share* is ``credential``, ``everyone`` or ``header:<Name>``. A header that a client can write itself separates
    nobody, so it is combined with the credential unless a trusted proxy set it.
    """
    if share == "everyone":
        return TenantId("everyone")
    parts: list[bytes] = []
    if share.startswith("header:"):
        name = share.removeprefix("header:").lower().encode()
        values = fields.all(name)
        parts += [b"header", len(values).to_bytes(4, "big"), *values]
        if peer_trusted and values:
            return _keyed(parts, secret)
    for credential in CREDENTIALS:
        values = fields.all(credential)
        parts += [credential, len(values).to_bytes(4, "big"), *values]
    return _keyed(parts, secret)


def _keyed(parts: Iterable[bytes], secret: bytes) -> TenantId:
    # Keyed, so that a stolen store tells nothing about which credentials made it.
    return TenantId(hmac.new(secret, digest(parts).digest(), hashlib.sha256).hexdigest()[:32])


def exact(
    *,
    tenant: TenantId,
    namespace: bytes,
    upstream: bytes,
    dialect: Dialect,
    target: bytes,
    fields: Fields,
    extra_headers: Iterable[bytes],
    request: Json,
) -> Fingerprint | Unfit:
    """The fingerprint of a call whose body is *request*; ``Unfit`` where the body nests too deep to compare.

    Every body field counts, known or not, but those that the dialect leaves out by name.
    """
    left_out = dialect.left_out
    body = canonical.write({name: value for name, value in request.items() if name not in left_out})
    if isinstance(body, Unfit):
        return body
    parts = [KEY_SCHEMA, tenant.encode(), namespace, upstream, dialect.name.encode(), target]
    for name in (*ANSWER_RELEVANT, *extra_headers):
        values = fields.all(name)
        parts += [name, len(values).to_bytes(4, "big"), *values]
    parts.append(body)
    return Fingerprint(Key(digest(parts).hexdigest()))


def vary_names(values: Iterable[bytes]) -> frozenset[bytes] | None:
    """The request fields that an answer's ``Vary`` names, in lower case; None where it cannot be followed (``*``).

    ``Accept-Encoding`` is not among them: encodings are undone for clients that do not take them.
    """
    names = {token for value in values for part in value.split(b",") if (token := part.strip().lower())}
    names.discard(b"accept-encoding")
    if b"*" in names or len(names) > MAX_VARY_NAMES:
        return None
    return frozenset(names)


def with_vary(key: Key, names: Iterable[bytes], fields: Fields) -> Key:
    """*key* narrowed by the values that the call has for the fields its answers vary by."""
    ordered = sorted(names)
    if not ordered:
        return key
    parts = [key.encode()]
    for name in ordered:
        values = fields.all(name)
        parts += [name, len(values).to_bytes(4, "big"), *values]
    return Key(digest(parts).hexdigest())
