"""A recorded answer given again: the recorded octets where they fit, re-framed where that invents nothing."""

import json
import re
import secrets
from dataclasses import dataclass

from proxy import codings, headers
from proxy.codings import Undecodable
from proxy.model import Entry, Form, RawFields, Reason
from proxy.ports import Dialect
from proxy.settings import ReplaySettings

MAX_DECODED_BYTES = 64 * 1024 * 1024

OFF_LOOP_BYTES = 128 * 1024
"""A JSON text above this is read in a thread: it takes more than a millisecond, and others are waiting."""

OFF_LOOP_CODED_BYTES = 8 * 1024
"""The same for a body in a content coding, which may be many times as long when it is undone."""

DESCRIBING = frozenset({b"content-length", b"content-encoding", b"content-type", b"content-md5", b"digest", b"etag"})
"""Fields that describe the recorded octets and do not hold for others."""

_RATE_LIMIT = re.compile(rb"(x-)?ratelimit-|x-ms-ratelimit|anthropic-ratelimit-|retry-after")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What to send: a block of field lines without the blank line, and the body."""

    head: bytes
    body: bytes
    chunked: bool
    reason: Reason
    exact: bool
    """The recorded octets themselves: marks for pacing apply."""


def replay(
    entry: Entry, *, form: Form, accept_encoding: tuple[bytes, ...], dialect: Dialect, settings: ReplaySettings
) -> Replayed | Reason:
    """*entry* in the form that a call asks for, or the reason why it cannot be given."""
    plain = entry.encoding in ("", "identity")
    acceptable = plain or headers.accepts(accept_encoding, entry.encoding.encode())
    if form == entry.form and acceptable and not settings.fresh_ids and not settings.drop_rate_limits:
        return Replayed(entry.head, entry.body, entry.chunked, Reason.FOUND, exact=True)
    body = entry.body
    same = form == entry.form
    decoded = False
    if not plain and (not same or not acceptable or settings.fresh_ids):
        if _refuses_identity(accept_encoding):
            return Reason.OTHER_ENCODING
        try:
            body = codings.decode(body, entry.encoding, limit=MAX_DECODED_BYTES)
        except Undecodable:
            return Reason.OTHER_ENCODING
        decoded = True
    if not same:
        rendered = dialect.render(body, entry.form, form)
        if rendered is None:
            return Reason.OTHER_FORM
        body = rendered
    if settings.fresh_ids:
        body = with_fresh_id(body)
    fields = headers.parse_lines(entry.head)
    if settings.drop_rate_limits:
        fields = tuple(pair for pair in fields if not _RATE_LIMIT.match(pair[0].lower()))
    altered = body is not entry.body
    chunked = form.stream if not same else entry.chunked
    if altered:
        fields = _described(fields, body, form, chunked=chunked, same=same, decoded=decoded)
    return Replayed(
        headers.lines(fields), body, chunked, Reason.FOUND if same else Reason.TRANSCODED, exact=not altered
    )


def _described(fields: RawFields, body: bytes, form: Form, *, chunked: bool, same: bool, decoded: bool) -> RawFields:
    """*fields* with what they say about the body made true."""
    content_type = b"text/event-stream; charset=utf-8" if form.stream else b"application/json"
    kept: list[tuple[bytes, bytes]] = []
    if not same and all(name.lower() != b"content-type" for name, _ in fields):
        kept.append((b"Content-Type", content_type))
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-type":
            kept.append((name, value if same else content_type))
        elif lower == b"content-encoding":
            if not decoded:
                kept.append((name, value))
        elif lower not in DESCRIBING:
            kept.append((name, value))
    if not chunked:
        kept.append((b"Content-Length", b"%d" % len(body)))
    return tuple(kept)


_NO_IDENTITY = re.compile(rb"(?:identity|\*)\s*;\s*q\s*=\s*0(?:\.0*)?")


def _refuses_identity(accept_encoding: tuple[bytes, ...]) -> bool:
    """Whether the client excludes an answer without a coding: by name, or with everything it did not name."""
    refusals = [member.partition(b";")[0].strip() for member in accept_encoding if _NO_IDENTITY.fullmatch(member)]
    named = any(member.partition(b";")[0].strip() == b"identity" for member in accept_encoding)
    return b"identity" in refusals or (b"*" in refusals and not named)


_ID = re.compile(rb'"id"\s*:\s*"((?:chatcmpl|cmpl|resp|msg|gen)[-_][A-Za-z0-9_-]+)"')


def with_fresh_id(body: bytes) -> bytes:
    """*body* with a new random id of the same length and prefix, everywhere the recorded id of the answer stands."""
    found = _ID.search(body)
    if found is None:
        return body
    old = found.group(1)
    prefix = re.match(rb"[a-z]+[-_]", old)
    start = prefix.group() if prefix else b""
    fresh = start + secrets.token_hex(len(old)).encode()[: len(old) - len(start)]
    return body.replace(json.dumps(old.decode("ascii")).encode(), json.dumps(fresh.decode("ascii")).encode())
