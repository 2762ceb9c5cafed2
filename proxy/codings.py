"""Content codings: undoing them to read an answer, within a bound on what comes out."""

import zlib
from collections.abc import Callable

import brotli
import zstandard


class Undecodable(ValueError):
    """The octets are not in the coding they claim, end early, or grow past the bound."""


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    out = bytearray()
    # A gzip body may have several members (RFC 1952 section 2.2).
    while body:
        decoder = zlib.decompressobj(window)
        out += decoder.decompress(body, limit + 1 - len(out))
        if len(out) > limit:
            raise Undecodable("grows past the bound")
        if not decoder.eof:
            raise Undecodable("ends early")
        body = decoder.unused_data
    return bytes(out)


def _gzip(body: bytes, limit: int) -> bytes:
    return _inflate(body, 31, limit)


def _deflate(body: bytes, limit: int) -> bytes:
    # "deflate" means the zlib format, but some servers send the bare stream (RFC 9110 section 8.4.1.2).
    try:
        return _inflate(body, 15, limit)
    except zlib.error:
        return _inflate(body, -15, limit)


def _brotli(body: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    out = decoder.process(body, output_buffer_limit=limit + 1)
    if len(out) > limit:
        raise Undecodable("grows past the bound")
    if not decoder.is_finished():
        raise Undecodable("ends early")
    return bytes(out)


def _zstd(body: bytes, limit: int) -> bytes:
    out = bytearray()
    while body:
        decoder = zstandard.ZstdDecompressor().decompressobj()
        # decompressobj has no output bound: feed it little by little, a frame can grow 2^17-fold at most per block.
        for start in range(0, len(body), 1024):
            out += decoder.decompress(body[start : start + 1024])
            if len(out) > limit:
                raise Undecodable("grows past the bound")
            if decoder.eof:
                body = decoder.unused_data + body[start + 1024 :]
                break
        else:
            raise Undecodable("ends early")
    return bytes(out)


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
