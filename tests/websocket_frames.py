"""WebSocket frames and handshakes as octets, for both sides (RFC 6455)."""

import base64
import hashlib
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MASK = b"\x37\xfa\x21\x3d"


class Opcode(IntEnum):
    """What a frame carries."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came off the wire, unmasked."""

    opcode: Opcode
    payload: bytes
    final: bool = True
    reserved: int = 0
    masked: bool = False


def encode(frame: Frame) -> bytes:
    """The octets of *frame*; masked, as a client must, where it says so."""
    first = bytes([frame.final << 7 | frame.reserved << 4 | frame.opcode])
    flag, size = frame.masked << 7, len(frame.payload)
    if size < 126:
        head = first + bytes([flag | size])
    elif size < 1 << 16:
        head = first + bytes([flag | 126]) + struct.pack("!H", size)
    else:
        head = first + bytes([flag | 127]) + struct.pack("!Q", size)
    return head + (MASK + _masked(frame.payload, MASK) if frame.masked else frame.payload)


def closing(code: int, reason: str, *, masked: bool = False) -> Frame:
    """A close frame."""
    return Frame(Opcode.CLOSE, struct.pack("!H", code) + reason.encode(), masked=masked)


def read(take: Callable[[int], bytes]) -> Frame:
    """The next frame, from whatever hands out exactly so many octets."""
    first, second = take(2)
    size = second & 127
    if size > 125:
        size = int.from_bytes(take(2 if size == 126 else 8), "big")
    mask = take(4) if second & 128 else None
    return _decoded(first, mask, take(size))


async def read_async(take: Callable[[int], Awaitable[bytes]]) -> Frame:
    """The same for a side that awaits its octets."""
    first, second = await take(2)
    size = second & 127
    if size > 125:
        size = int.from_bytes(await take(2 if size == 126 else 8), "big")
    mask = await take(4) if second & 128 else None
    return _decoded(first, mask, await take(size))


def accept_for(key: bytes) -> str:
    """What a server answers to *key*."""
    return base64.b64encode(hashlib.sha1(key + GUID.encode(), usedforsecurity=False).digest()).decode()


def _decoded(first: int, mask: bytes | None, payload: bytes) -> Frame:
    plain = payload if mask is None else _masked(payload, mask)
    return Frame(Opcode(first & 15), plain, bool(first & 128), first >> 4 & 7, mask is not None)


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    stretched = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")
