"""A connection to the provider and the answer that comes over it.

aiohttp's response parser does the parsing; its blind spots are closed here.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import _EXC_SENTINEL
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from proxy.accounts.usage import Usage
from proxy.errors import Broke, told
from proxy.headers import Fields
from proxy.ports import Sink

READ_BYTES = 65536
"""How much of an answer may wait in a parser before its connection is no longer read (twice this, in fact)."""

MAX_HEAD_BYTES = 1024 * 1024
"""A head that is larger, interim ones included, is not one."""

MAX_ANSWER_FIELDS = 2048


Take = Callable[[bytes], bool]
"""Takes the next octets of a body; False: no more for now."""


class Connection(ResponseHandler):
    """One connection to the provider: aiohttp's, with its blind spots closed and a short way for bodies."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._head_bytes = 0
        self._take: Take | None = None
        self._taken: asyncio.Future[bool] | None = None
        self._handing = False
        self.heard_at = loop.time()
        """When octets last came or went, on the loop's clock."""
        self.proven = False
        """It has been used again after an answer, so the provider does keep connections."""
        self.watch: select.poll | None = None
        """Tells whether its socket can be read; made when that is first asked."""

    def expect(self, *, bodiless: bool) -> None:
        """What comes next is an answer, which has no body where the request was HEAD.

        Each answer gets a parser of its own: aiohttp's keeps the trailers of the one before for the next head.
        """
        self.set_response_params(
            skip_payload=bodiless,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            max_headers=MAX_ANSWER_FIELDS,
        )
        self._head_bytes = 1
        self.heard_at = self._loop.time()

    async def hand_on(self, take: Take) -> bool:
        """Hand the body to *take* as it comes, without waking a task for each piece; False once *take* declines.

        True means that something else is to be looked at: the body is over, or broke off.
        """
        self._take = take
        self._taken = self._loop.create_future()
        try:
            return await self._taken
        finally:
            self._take = self._taken = None

    def data_received(self, data: bytes) -> None:
        """Some octets; a head among them is bounded as a whole, not line by line."""
        if self._head_bytes and (end := data.find(b"\r\n\r\n") + 4) > 3 and end < len(data):
            # Garbage behind an answer would make aiohttp forget an answer that came in the same piece.
            super().data_received(data[:end])
            data = data[end:]
        super().data_received(data)
        self.heard_at = self._loop.time()
        if self._take is not None and not self._handing:
            # Emptying aiohttp's buffer may resume its parser, which calls this again.
            self._handing = True
            try:
                self._hand_on_now(self._take)
            finally:
                self._handing = False
        elif self._head_bytes:
            self._head_bytes += len(data)
            if self._buffer:
                self._head_bytes = 0
            elif self._head_bytes > MAX_HEAD_BYTES:
                self._head_bytes = 0
                self.give_up(HttpProcessingError(message="the head of the answer does not end"))

    def _hand_on_now(self, take: Take) -> None:
        payload, taken = self._payload, self._taken
        if taken is None or taken.done():
            return
        if payload is None:
            taken.set_result(True)
            return
        while payload._buffer:
            try:
                more = take(payload._read_nowait(-1))
            except ConnectionError as error:
                taken.set_exception(error)
                return
            if not more:
                taken.set_result(False)
                return
        if payload.is_eof() or payload.exception() is not None:
            taken.set_result(True)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on, where reading was paused.

        aiohttp says so after each piece that is read, paused or not, and then lets its parser look through nothing.
        """
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def set_exception(self, exc: BaseException, exc_cause: BaseException = _EXC_SENTINEL) -> None:
        """The exchange failed; a body that is still coming fails with it."""
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(exc, exc_cause)
        super().set_exception(exc, exc_cause)

    def give_up(self, error: Exception) -> None:
        """End the exchange with *error*."""
        self.set_exception(error)
        if self.transport is not None:
            self.transport.abort()

    @property
    def waits_for_provider(self) -> bool:
        """It is for the provider to send something, not for us to take it."""
        over = self._payload is not None and self._payload.is_eof()
        return not (over or self._reading_paused or self._buffer_paused or self._exception is not None)

    def connection_lost(self, exc: BaseException | None) -> None:
        """An answer that ends with its connection is whole only if the connection was closed, not if it broke."""
        payload = self._payload
        if exc is not None and payload is not None and not payload.is_eof():
            payload.set_exception(ClientPayloadError(str(exc)))
            self._parser = None
        super().connection_lost(exc)
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(True)


class OctetReader(Protocol):
    """Takes octets as they come."""

    def feed_data(self, octets: bytes) -> tuple[bool, bytes]:
        """Some octets. True ends it."""
        ...

    def feed_eof(self) -> None:
        """There are no more."""
        ...


class Lease(Protocol):
    """A connection while it is lent for one exchange."""

    connection: Connection
    reused: bool
    """It has carried an exchange before this one."""

    def release(self, *, whole: bool) -> None:
        """Give it back; *whole*: the answer was read to its end."""
        ...

    def detach(self) -> Connection:
        """Take it out of the pool for good."""
        ...


class Incoming(Protocol):
    """An answer that is coming in: its head, and its body as it comes."""

    @property
    def status(self) -> int:
        """The status code."""
        ...

    @property
    def phrase(self) -> bytes:
        """The reason phrase."""
        ...

    @property
    def fields(self) -> Fields:
        """The header fields."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What was taken out of it on its way, once it is over and where something was."""
        ...

    async def __aenter__(self) -> object:
        """Begin to take it."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of what brings it."""
        ...

    async def flow(self, take: Take) -> bool:
        """Hand the body to *take*, piece by piece; True at its end, False where *take* declined more."""
        ...


class Answer:
    """The head of the provider's answer, and its body as it comes. Leave the context to let the connection go."""

    __slots__ = ("_lease", "_left", "_payload", "fields", "phrase", "poured_bytes", "status")

    def __init__(self, message: RawResponseMessage, payload: StreamReader, lease: Lease) -> None:
        self.status = message.code
        self.phrase = (message.reason or "").encode("utf-8", "surrogateescape")
        self.fields = Fields(message.raw_headers)
        self.poured_bytes = 0
        self._payload = payload
        self._lease = lease
        self._left: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"

    @property
    def usage(self) -> Usage | None:
        """What was taken out of it on its way, where something was."""
        return None

    async def __aenter__(self) -> "Answer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An error is often the last thing said on a connection, and the news of its end may be late (413, 408, 5xx).
        doubtful = self.status >= 400 and not self._lease.reused
        self._lease.release(whole=self._payload.is_eof() and not doubtful)
        self._tell_left()

    def when_left(self, tell: Callable[[], None]) -> None:
        """Call *tell* once, when nobody reads it any more."""
        self._left = tell

    def _tell_left(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left()

    def take_over(self, reader: OctetReader) -> Connection:
        """After a 101: hand everything that comes from now on to *reader*. The connection is the caller's to end."""
        connection = self._lease.detach()
        self._tell_left()
        connection.set_parser(reader, None)
        return connection

    async def flow(self, take: Take) -> bool:
        """Hand the body to *take*, piece by piece as it comes; True at its end, False where *take* declined more.

        What has come is handed on before a fault is told.

        Raises:
            Broke: the connection failed before the end of the body.
        """
        payload = self._payload
        while not payload.at_eof():
            if payload._buffer:
                if not take(payload._read_nowait(-1)):
                    return False
            elif (error := payload.exception()) is not None:
                raise Broke(f"the provider's answer broke off: {told(error)}") from error
            elif not self._lease.connection.is_connected():
                raise Broke("the provider closed the connection before the end of its answer")
            elif not await self._lease.connection.hand_on(take):
                return False
        return True

    async def pour(self, sink: Sink) -> None:
        """Send the body as it comes. Raises like ``flow``."""

        def take(octets: bytes) -> bool:
            self.poured_bytes += len(octets)
            return sink.write(octets)

        if not self._payload.at_eof() and not self._payload._buffer:
            sink.flush()
        while not await self.flow(take):
            await sink.drained()


def quiet(connection: Connection) -> bool:
    """Whether an idle connection is still fit for a request.

    A readable one has been closed by the provider or holds octets that nobody asked for. Asking the kernel closes
    most of the window in which a request is written into a connection that is already gone.
    """
    transport = connection.transport
    if transport is None or transport.is_closing() or connection.should_close:
        return False
    try:
        if connection.watch is None:
            sock: socket.socket | None = transport.get_extra_info("socket")
            if sock is None:
                return True
            connection.watch = select.poll()
            connection.watch.register(sock.fileno(), select.POLLIN)
        return not connection.watch.poll(0)
    except (OSError, ValueError):
        return False
