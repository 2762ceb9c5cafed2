"""Who is this call: the exact key, by value and by everything that can change the answer."""

import hashlib
import hmac
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy import canonical, headers
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
CREDENTIAL_ENDINGS = (b"api-key", b"apikey", b"subscription-key", b"authorization", b"-auth", b"-token")
"""Whatever else ends so is taken for a credential too: of gateways, of other clouds. At worst that costs a hit."""
"""Where clients carry their keys: OpenAI and most others, Azure, Anthropic."""

ENDS_HERE = headers.HOP_BY_HOP | {b"close"}
"""What Connection may name without ending anything that goes further otherwise."""

_CREDENTIALS = frozenset(CREDENTIALS)

MAX_VARY_NAMES = 16

MAX_KNOWN_TENANTS = 4096
"""How many tenants are remembered between calls, so that their digest is not made anew for each."""

MAX_KNOWN_TENANT_BYTES = 2048
"""Nobody has longer credentials but who wants to fill our memory with them: those are not remembered."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The identity of one call."""

    exact: Key


def digest(parts: Sequence[bytes]) -> bytes:
    """SHA-256 over *parts*, each preceded by its length, so that no two lists of parts run together."""
    lengths = struct.pack(f">{len(parts) + 1}Q", len(parts), *map(len, parts))
    return hashlib.sha256(b"".join((lengths, *parts))).digest()


class Tenants:
    """Tells whose answers a call may see.

    *share* is ``credential``, ``everyone`` or ``header:<Name>``. A header that a client can write itself separates
    nobody, so it is combined with the credential unless a trusted proxy set it.
    """

    def __init__(self, *, share: str, secret: bytes) -> None:
        self._everyone = share == "everyone"
        self._header = share.removeprefix("header:").lower().encode() if share.startswith("header:") else b""
        self._secret = secret
        self._known: dict[tuple[tuple[bytes, ...], ...], TenantId] = {}

    def __repr__(self) -> str:
        return f"<Tenants, {len(self._known)} known>"

    def of(self, fields: Fields, *, peer_trusted: bool = False) -> TenantId:
        """The tenant that a call with these *fields* belongs to."""
        if self._everyone:
            return TenantId("everyone")
        by_header = fields.all(self._header) if self._header else ()
        if by_header and peer_trusted:
            return self._keyed(((b"header",), by_header))
        others = sorted({name for name in fields.names if name.endswith(CREDENTIAL_ENDINGS)} - _CREDENTIALS)
        told = [part for name in others for part in ((name,), fields.all(name))]
        return self._keyed(((b"credential",), by_header, *[fields.all(name) for name in CREDENTIALS], *told))

    def maker(self, fields: Fields, peer: str) -> TenantId:
        """Who sends a call with these *fields*, whoever its answers are shared with; by address where it has no key."""
        credentials = tuple([fields.all(name) for name in CREDENTIALS])
        named = any(credentials) or any(name.endswith(CREDENTIAL_ENDINGS) for name in fields.names)
        others = sorted({name for name in fields.names if name.endswith(CREDENTIAL_ENDINGS)} - _CREDENTIALS)
        told = [part for name in others for part in ((name,), fields.all(name))]
        return self._keyed(((b"maker",), *credentials, *told, () if named else (peer.encode(),)))

    def _keyed(self, parts: tuple[tuple[bytes, ...], ...]) -> TenantId:
        known = self._known.get(parts)
        if known is None:
            flat = [octets for part in parts for octets in (b"%d" % len(part), *part)]
            # Keyed, so that a stolen store tells nothing about which credentials made it.
            known = TenantId(hmac.new(self._secret, digest(flat), hashlib.sha256).hexdigest()[:32])
            if len(self._known) >= MAX_KNOWN_TENANTS:
                self._known.clear()
            if sum(map(len, flat)) <= MAX_KNOWN_TENANT_BYTES:
                self._known[parts] = known
        return known


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
        if name in fields:
            values = fields.all(name)
            parts += [name, b"%d" % len(values), *values]
    # What Connection names stands in the request and never reaches the provider.
    parts += sorted(b"connection " + name for name in {*fields.tokens(b"connection")} - ENDS_HERE)
    parts.append(body)
    return Fingerprint(Key(digest(parts).hex()))


def within(exact_of_the_rest: Fingerprint, kind: str) -> str:
    """The semantic scope: the exact identity of a request whose question has been lifted out, marked by its *kind*."""
    # Hashed once more, so that no scope is ever the key of an entry.
    return f"{kind}{digest([b'scope', exact_of_the_rest.exact.encode()]).hex()}"


def alone(rest: Fingerprint, given: object) -> Fingerprint | Unfit:
    """The fingerprint of a call that asks for one input, *given*, and of which *rest* is everything else."""
    written = canonical.write(given)
    return (
        written
        if isinstance(written, Unfit)
        else Fingerprint(Key(digest([b"input", rest.exact.encode(), written]).hex()))
    )


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
    return Key(digest(parts).hex())
