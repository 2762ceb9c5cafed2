"""Header fields as octets: reading them, and writing heads that change nothing but what must change."""

import re
from collections.abc import Collection, Iterable

from proxy.model import RawFields

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        # Meant for the next server only (RFC 7540 3.2.1); some clients forget to name it in Connection.
        b"http2-settings",
    }
)
"""Fields that end at the proxy (RFC 9110 section 7.6.1), in lower case."""

COOKIES = frozenset({b"set-cookie", b"set-cookie2"})
"""For the one client whose request is answered."""

CDN_LABELS = frozenset(
    b"x-cache x-cache-reason x-cache-key x-cache-tier x-cache-saved-tokens x-cache-similarity x-cache-score "
    b"x-cache-request-id".split()
)
"""What a cache in front of the provider may say of itself under the names that we say it under."""

OURS = b"x-askonce-"
"""Request fields with this prefix are for the proxy and are not forwarded."""


_ZERO_WEIGHT = re.compile(rb"\s*q\s*=\s*0(\.0*)?\s*")


class Fields:
    """Header fields that can be looked up by lower-case name and still be written as they came."""

    __slots__ = ("_by_name", "names", "raw", "written")

    def __init__(self, raw: RawFields) -> None:
        self.raw = raw
        self.written: list[tuple[bytes, bytes]] | None = None
        """For ``block``: the end-to-end fields by name, as lines."""
        self.names = [name.lower() for name, _ in raw]
        """The names in lower case, in the order of *raw*."""
        by_name: dict[bytes, bytes | list[bytes]] = dict(zip(self.names, [value for _, value in raw], strict=True))
        if len(by_name) != len(raw):
            by_name.clear()
            for name, (_, value) in zip(self.names, raw, strict=True):
                before = by_name.get(name)
                if isinstance(before, list):
                    before.append(value)
                else:
                    by_name[name] = value if before is None else [before, value]
        self._by_name = by_name

    def __repr__(self) -> str:
        # Values may be secrets.
        return f"<Fields {', '.join(name.decode('latin-1') for name in self.names)}>"

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field called *name* (lower case)."""
        value = self._by_name.get(name)
        return value[0] if isinstance(value, list) else value

    def all(self, name: bytes) -> tuple[bytes, ...]:
        """Every value of *name*, in order."""
        value = self._by_name.get(name)
        if value is None:
            return ()
        return tuple(value) if isinstance(value, list) else (value,)

    def __contains__(self, name: bytes) -> bool:
        return name in self._by_name

    def has_any(self, names: frozenset[bytes]) -> bool:
        """Whether there is a field called by any of *names* (lower case)."""
        return not names.isdisjoint(self._by_name)

    def tokens(self, name: bytes) -> tuple[bytes, ...]:
        """The members of a comma-separated field, in lower case, over all its lines."""
        if name not in self._by_name:
            return ()
        return tuple(token for value in self.all(name) for part in value.split(b",") if (token := part.strip().lower()))


def block(fields: Fields, *, without: Collection[bytes] = ()) -> bytes:
    """*fields* as lines, without those that concern one connection only and those named in *without*."""
    if fields.written is None:
        stops = HOP_BY_HOP
        if not stops.issuperset(more := fields.tokens(b"connection")):
            # Connection cannot name the length away: nobody would know where this answer ends and the next begins.
            stops = stops.union(more) - {b"content-length"}
        named = zip(fields.names, fields.raw, strict=True)
        fields.written = [(name, b"%b: %b\r\n" % pair) for name, pair in named if name not in stops]
    kept = [line for name, line in fields.written if name not in without]
    # Not joined, for the reason given at ``lines``.
    return b"%b" * len(kept) % tuple(kept)


def request_fields(fields: Fields, *, authority: bytes, keep: Collection[bytes] = ()) -> list[tuple[bytes, bytes]]:
    """What goes to the provider: everything end-to-end in its order and letter case, ``Host`` exchanged.

    Framing fields keep their place: whoever writes the body keeps the framing that the client chose. *keep* names
    hop-by-hop fields that are forwarded all the same.
    """
    named = fields.tokens(b"connection")
    stops = HOP_BY_HOP.union(named) if named else HOP_BY_HOP
    if keep:
        stops = stops.difference(keep)
    sent: list[tuple[bytes, bytes]] = []
    hosted = False
    for name, pair in zip(fields.names, fields.raw, strict=True):
        if name == b"host":
            if not hosted:
                sent.append((pair[0], authority))
                hosted = True
        elif name == b"transfer-encoding":
            sent.append((pair[0], b"chunked"))
        elif name == b"content-length" or (name not in stops and not name.startswith(OURS)):
            sent.append(pair)
    if not hosted:
        sent.insert(0, (b"Host", authority))
    return sent


def resized(fields: Fields, length: int) -> Fields:
    """*fields* of a message whose body has become *length* octets long, for one that is framed by its length."""
    return Fields(
        tuple(
            (name, b"%d" % length) if lower == b"content-length" else (name, value)
            for lower, (name, value) in zip(fields.names, fields.raw, strict=True)
        )
    )


def head(start_line: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A message head as octets, blank line included.

    Raises:
        ValueError: a field holds a line break, which would let its sender write further fields.
    """
    lines = [start_line]
    lines.extend([b": ".join(pair) for pair in fields])
    written = b"\r\n".join(lines)
    if written.count(b"\n") != len(lines) - 1 or written.count(b"\r") != len(lines) - 1:
        raise ValueError("a header field holds a line break")
    return written + b"\r\n\r\n"


def status_line(status: int, phrase: bytes) -> bytes:
    """The first line of an answer."""
    return b"HTTP/1.1 %d %b" % (status, phrase)


def lines(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """*fields* as the block of lines that stands in a head: CRLF after each, no blank line."""
    # In one go: joining many pieces takes scratch memory whose holes stay between the heads that are kept, a third more
    # memory for each entry.
    flat = [octets for pair in fields for octets in pair]
    return b"%b: %b\r\n" * (len(flat) // 2) % tuple(flat)


def parse_lines(block: bytes) -> RawFields:
    """The fields of a block that :func:`lines` wrote."""
    pairs = []
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        pairs.append((name, value))
    return tuple(pairs)


def origin_form(target: bytes) -> bytes:
    """The path and query of *target*, also where it came in absolute form (RFC 9112 section 3.2.2)."""
    if target.startswith(b"/") or target == b"*":
        return target
    _, scheme, rest = target.partition(b"://")
    if not scheme:
        return target
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    path = rest[cut:]
    return path if path.startswith(b"/") else b"/" + path


def accepts(accept_encoding: Collection[bytes], coding: bytes) -> bool:
    """Whether a client that sent these ``Accept-Encoding`` members takes *coding* (RFC 9110 section 12.5.3).

    A client that sent none is asked for nothing but identity here: what it did not ask for may be beyond it.
    """
    wildcard = False
    for member in accept_encoding:
        name, _, weight = member.partition(b";")
        name = name.strip()
        refused = bool(_ZERO_WEIGHT.fullmatch(weight))
        if name == coding or (name, coding) in ((b"x-gzip", b"gzip"), (b"gzip", b"x-gzip")):
            return not refused
        if name == b"*":
            wildcard = not refused
    return wildcard
