"""Content codings: undoing them to read an answer, within a bound on what comes out."""

import zlib
from collections.abc import Callable
from typing import Protocol

import brotli
import zstandard


class Undecodable(ValueError):
    """The octets are not in the coding they claim, end early, or grow past the bound."""


MAX_MEMBERS = 4096
"""Nobody who means well sends more; millions of empty ones would keep us busy without ever reaching the bound."""

_FEED_BYTES = 128
"""Octets decoded between two looks at the bound: a zstd block makes 128 KB of four octets, so 4 MB at most of these."""

_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
"""What a zstd body may ask us to hold (RFC 9659 section 3)."""


class _Member(Protocol):
    """One compressed stream being undone."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _members(body: bytes, limit: int, begin: Callable[[], _Member]) -> bytes:
    """A body may have several members (RFC 1952 section 2.2) or frames (RFC 8878 section 3)."""
    out = bytearray()
    at = count = 0
    while at < len(body):
        count += 1
        if count > MAX_MEMBERS:
            raise Undecodable("has too many members")
        member = begin()
        while not member.eof:
            if at >= len(body):
                raise Undecodable("ends early")
            out += member.decompress(body[at : at + _FEED_BYTES])
            if len(out) > limit:
                raise Undecodable("grows past the bound")
            at += _FEED_BYTES
        at = min(at, len(body)) - len(member.unused_data)
    return bytes(out)


def _gzip(body: bytes, limit: int) -> bytes:
    return _members(body, limit, lambda: zlib.decompressobj(31))


def _deflate(body: bytes, limit: int) -> bytes:
    # "deflate" means the zlib format, but some servers send the bare stream (RFC 9110 section 8.4.1.2).
    try:
        return _members(body, limit, lambda: zlib.decompressobj(15))
    except zlib.error:
        return _members(body, limit, lambda: zlib.decompressobj(-15))


def _brotli(body: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    out = decoder.process(body, output_buffer_limit=limit + 1)
    if len(out) > limit:
        raise Undecodable("grows past the bound")
    if not decoder.is_finished():
        raise Undecodable("ends early")
    return bytes(out)


def _zstd(body: bytes, limit: int) -> bytes:
    return _members(body, limit, zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "": lambda body, _: body,
    "identity": lambda body, _: body,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}


def decodable(encoding: str) -> bool:
    """Whether :func:`decode` knows *encoding* (lower case; empty for identity)."""
    return encoding in _DECODERS


def decode(body: bytes, encoding: str, *, limit: int) -> bytes:
    """*body* without its content coding.

    Raises:
        Undecodable: an unknown coding, damaged or cut-off octets, or more than *limit* bytes of output.
    """
    decoder = _DECODERS.get(encoding)
    if decoder is None:
        raise Undecodable(f"unknown coding {encoding!r}")
    try:
        return decoder(body, limit)
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        raise Undecodable(str(error)) from error
