"""Entries as octets: what a store that outlives the process keeps of an answer.

    version | flags | CRC-32 of both and the payload | payload

The payload, once it is opened and decompressed, is a JSON object with everything that is short and plain, then the
long octets one after the other. It follows the fields of ``Entry``: a field that is added travels without a change
here. Fields that are not known are passed over and missing ones take their default, so that neighbouring versions of
the proxy can share a store; a field whose meaning changes needs another version.
"""

import dataclasses
import enum
import json
import struct
import types
import typing
import zlib
from collections.abc import Callable, Mapping, Sequence

import zstandard

from proxy.errors import Unreadable
from proxy.model import Entry, Key
from proxy.stores.sealing import Seal

VERSION = 1

_COMPRESSED, _SEALED = 1, 2

_FRAME = struct.Struct(">BBI")
_LENGTH = struct.Struct(">I")

MAX_PLAIN_BYTES = 1 << 30
"""No entry decompresses to more than this: whoever can write to the store must not fill our memory."""

COMPRESSION_LEVEL = 3

Reader = Callable[[object, Sequence[bytes]], object]
"""Makes the value of a field from its JSON, given the long octets."""


class Codec:
    """Packs entries, and unpacks what it or a neighbouring version packed."""

    def __init__(self, *, compress_from_bytes: int = 1024, seal: Seal | None = None) -> None:
        self._compress_from = compress_from_bytes
        self._seal = seal

    def __repr__(self) -> str:
        return f"<Codec {VERSION}, zstd from {self._compress_from} bytes{', sealed' if self._seal else ''}>"

    def pack(self, entry: Entry) -> bytes:
        """*entry* as octets, bound to its key."""
        long: list[bytes] = []
        plain = _fields_of(entry, long)
        header = json.dumps([plain, [len(octets) for octets in long]], separators=(",", ":")).encode()
        payload = b"".join((_LENGTH.pack(len(header)), header, *long))
        flags = 0
        if len(payload) >= self._compress_from:
            shorter = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(payload)
            if len(shorter) < len(payload):
                payload, flags = shorter, flags | _COMPRESSED
        if self._seal is not None:
            flags |= _SEALED
            payload = self._seal.close(payload, about=_about(flags, entry.key))
        return _FRAME.pack(VERSION, flags, _checksum(flags, payload)) + payload

    def unpack(self, octets: bytes, key: Key) -> Entry:
        """The entry that was packed under *key*.

        Raises:
            Unreadable: the octets are damaged, another's, sealed with a key that is not known, or of another version.
        """
        if len(octets) < _FRAME.size:
            raise Unreadable("an entry is cut short")
        version, flags, checksum = _FRAME.unpack_from(octets)
        payload = octets[_FRAME.size :]
        if version != VERSION:
            raise Unreadable(f"an entry is of version {version}, this is {VERSION}")
        if checksum != _checksum(flags, payload):
            raise Unreadable("an entry is damaged")
        if bool(flags & _SEALED) != (self._seal is not None):
            # Nobody who can write to the store may pass off what is not sealed where sealing is asked for.
            raise Unreadable("an entry is sealed" if flags & _SEALED else "an entry is not sealed")
        if self._seal is not None:
            payload = self._seal.open(payload, about=_about(flags, key))
        if flags & _COMPRESSED:
            payload = _decompressed(payload)
        entry = _entry(payload)
        if entry.key != key:
            raise Unreadable("an entry lies under a key that is not its own")
        return entry


def _checksum(flags: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(bytes((VERSION, flags))))


def _about(flags: int, key: Key) -> bytes:
    """What a sealed payload is bound to: it opens only where it was put."""
    return bytes((VERSION, flags)) + key.encode()


def _decompressed(payload: bytes) -> bytes:
    try:
        if not 0 <= zstandard.frame_content_size(payload) <= MAX_PLAIN_BYTES:
            raise Unreadable("an entry is larger than any answer")
        return zstandard.ZstdDecompressor().decompress(payload)
    except zstandard.ZstdError as error:
        raise Unreadable(f"an entry cannot be decompressed: {error}") from error


def _entry(payload: bytes) -> Entry:
    try:
        (header_bytes,) = _LENGTH.unpack_from(payload)
        at = _LENGTH.size + header_bytes
        plain, lengths = json.loads(payload[_LENGTH.size : at])
        long = []
        for length in lengths:
            long.append(payload[at : at + length])
            at += length
        if at != len(payload):
            raise Unreadable("an entry has another length than it says")
        read = _READ_ENTRY(plain, long)
    except (ValueError, TypeError, LookupError, struct.error, RecursionError) as error:
        raise Unreadable(f"an entry cannot be read: {type(error).__name__}") from error
    if not isinstance(read, Entry):
        raise Unreadable("this is no entry")
    return read


def _fields_of(value: object, long: list[bytes]) -> dict[str, object]:
    """The fields of a dataclass that differ from their defaults."""
    fields = {}
    for each in dataclasses.fields(typing.cast(type, value)):
        held = getattr(value, each.name)
        if each.default is dataclasses.MISSING or held != each.default or type(held) is not type(each.default):
            fields[each.name] = _plain(held, long)
    return fields


def _plain(value: object, long: list[bytes]) -> object:
    """*value* as JSON; octets go to *long*, and their place there stands for them."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            long.append(value)
            return len(long) - 1
        case tuple():
            return [_plain(each, long) for each in value]
        case Mapping():
            return {str(name): _plain(each, long) for name, each in value.items()}
        case _ if dataclasses.is_dataclass(value):
            return _fields_of(value, long)
        case _:
            raise TypeError(f"an entry holds a {type(value).__name__}, which cannot be kept")


def _reader(kind: object) -> Reader:
    """How a value of type *kind* is read; made once, so that a type that cannot be kept is found at import."""
    if isinstance(kind, typing.NewType):
        return _reader(kind.__supertype__)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType or origin is typing.Union:
        present = [each for each in arguments if each is not types.NoneType]
        if len(present) == 1 < len(arguments):
            return _optional(_reader(present[0]))
    elif origin is tuple:
        if arguments[1:] == (...,):
            return _listed(_reader(arguments[0]))
        return _fixed([_reader(each) for each in arguments])
    elif origin is Mapping or origin is dict:
        return _mapped(_reader(arguments[1]))
    elif kind is bytes:
        return _octets
    elif kind is float:
        return _number
    elif isinstance(kind, type):
        if kind in (bool, int, str):
            return _just(kind)
        if issubclass(kind, enum.StrEnum):
            member = kind
            return lambda value, _: member(str(value))
        if dataclasses.is_dataclass(kind):
            return _made(kind)
    raise TypeError(f"{kind!r} cannot be kept in a store")


def _just(kind: type) -> Reader:
    def read(value: object, _: Sequence[bytes]) -> object:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}")
        return value

    return read


def _number(value: object, _: Sequence[bytes]) -> object:
    if type(value) not in (int, float) or value != value:
        raise TypeError("expected a number")
    return float(typing.cast(float, value))


def _octets(value: object, long: Sequence[bytes]) -> object:
    if type(value) is not int or value < 0:
        raise TypeError("expected the place of octets")
    return long[value]


def _optional(read: Reader) -> Reader:
    return lambda value, long: None if value is None else read(value, long)


def _listed(read: Reader) -> Reader:
    def read_all(value: object, long: Sequence[bytes]) -> object:
        if not isinstance(value, list):
            raise TypeError("expected a list")
        return tuple([read(each, long) for each in value])

    return read_all


def _fixed(readers: Sequence[Reader]) -> Reader:
    def read_each(value: object, long: Sequence[bytes]) -> object:
        if not isinstance(value, list):
            raise TypeError("expected a list")
        return tuple([read(each, long) for read, each in zip(readers, value, strict=True)])

    return read_each


def _mapped(read: Reader) -> Reader:
    def read_all(value: object, long: Sequence[bytes]) -> object:
        if not isinstance(value, dict):
            raise TypeError("expected an object")
        return {name: read(each, long) for name, each in value.items()}

    return read_all


def _made(kind: type) -> Reader:
    hints = typing.get_type_hints(kind)
    readers = {each.name: _reader(hints[each.name]) for each in dataclasses.fields(kind)}

    def read(value: object, long: Sequence[bytes]) -> object:
        if not isinstance(value, dict):
            raise TypeError("expected an object")
        return kind(**{name: readers[name](held, long) for name, held in value.items() if name in readers})

    return read


_READ_ENTRY = _made(Entry)
