"""A request body: whole where it may be looked at, else as it arrives."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError

from proxy.headers import Fields
from proxy.http.connection import Connection
from proxy.ports import Upload

READ_BYTES = 65536
"""How much of a request body aiohttp takes in before it waits for us."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Arriving:
    """A request body as it arrives from the client."""

    def __init__(
        self, connection: Connection, payload: StreamReader, *, chunked: bool, expects: bool, begun: bytes
    ) -> None:
        self._connection = connection
        self._payload = payload
        self._chunked = chunked
        self._expects = expects
        self._begun = begun

    @property
    def chunked(self) -> bool:
        return self._chunked

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._begun:
            yield self._begun
            self._begun = b""
        if self._expects:
            self._expects = False
            self._connection.send(_CONTINUE)
        while chunk := await _next(self._connection, self._payload):
            yield chunk


async def request_body(
    connection: Connection, message: RawRequestMessage, payload: StreamReader, fields: Fields, *, whole_up_to: int
) -> bytes | Upload | None:
    """The request body: whole where it is small enough to be looked at, else as it arrives."""
    length = fields.get(b"content-length")
    if not message.chunked and length is None:
        return None
    if not message.chunked and length is not None and int(length) == 0:
        return b"" if whole_up_to else None
    expects = b"100-continue" in fields.tokens(b"expect") and message.version >= HttpVersion11
    if payload.is_eof() and payload.total_bytes <= (whole_up_to or READ_BYTES):
        # All of it is here already.
        return payload.read_nowait()
    if not whole_up_to or (length is not None and int(length) > whole_up_to):
        return Arriving(connection, payload, chunked=message.chunked, expects=expects, begun=b"")
    if expects:
        connection.send(_CONTINUE)
    pieces: list[bytes] = []
    size = 0
    while chunk := await _next(connection, payload):
        pieces.append(chunk)
        size += len(chunk)
        if size > whole_up_to:
            return Arriving(connection, payload, chunked=message.chunked, expects=False, begun=b"".join(pieces))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _next(connection: Connection, payload: StreamReader) -> bytes:
    """The next octets of a body; a client may take its time over them, but not for ever."""
    try:
        async with asyncio.timeout(connection.stall_s):
            return await payload.readany()
    except TimeoutError:
        payload.set_exception(RequestPayloadError("the request body did not go on"))
        raise RequestPayloadError("the request body did not go on") from None
