"""An answer being written to a client: framed for it, the head and the first of the body in one write."""

from collections.abc import Callable

from aiohttp.http import HttpVersion11, RawRequestMessage

from proxy import headers, labels
from proxy.call import Reply
from proxy.errors import UpstreamError
from proxy.flights import Abandoned, Lagged
from proxy.http.connection import ENDS, GOES_ON, Connection, Sent
from proxy.ports import Sink

LARGE_BYTES = 256 * 1024
"""A body above this goes out in pieces of this size, at the pace of its client."""


class Exchange:
    """One answer being written."""

    __slots__ = ("_keep_alive", "_version10", "begun", "connection", "ends_with_connection", "method", "reply")

    def __init__(self, connection: Connection, message: RawRequestMessage, method: bytes) -> None:
        self.connection = connection
        self.method = method
        self.begun = False
        self.reply: Reply | None = None
        self.ends_with_connection = False
        self._version10 = message.version < HttpVersion11
        self._keep_alive = not message.should_close

    def refuse(self, status: int, message: str, code: str) -> Sent:
        """An error of the proxy's own, outside the pass."""
        body = labels.error_body(message, code)
        fields = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
        ]
        self.connection.send(headers.head(headers.status_line(status, labels.PHRASES[status]), fields) + body)
        return ENDS

    async def send(self, reply: Reply) -> None:
        """Write *reply* as it comes: a body in one piece in one write."""
        connection, body = self.connection, reply.body
        self.begun = True
        self.reply = reply
        if isinstance(body, bytes) and len(body) > LARGE_BYTES:
            body = _Large(body)
        if isinstance(body, bytes):
            framing, chunked = self._framing(reply)
            connection.send(_whole(reply, reply.head, framing, b"" if self._bodiless(reply) else body, chunked=chunked))
            await connection.drained()
            return
        framing, chunked = self._framing(reply)
        sink = _Sink(connection, _head(reply, reply.head, framing), chunked=chunked, bodiless=self._bodiless(reply))
        try:
            await body.pour(sink)
        except (UpstreamError, Abandoned, Lagged):
            # What has come belongs to the client, if it is only the head.
            sink.flush()
            raise
        sink.finish()

    def again(self, reply: Reply, head_at: Callable[[float], bytes]) -> Callable[[float], bytes] | None:
        """What writes *reply*, just sent, as of another moment; None where the connection did not go on.

        It is for any connection that goes on, so it knows nothing of this one.
        """
        body = reply.body
        if not isinstance(body, bytes) or len(body) > LARGE_BYTES or self._bodiless(reply) or self.after is ENDS:
            return None
        framing, chunked = self._framing(reply)

        def write(now: float) -> bytes:
            return _whole(reply, head_at(now), framing, body, chunked=chunked)

        return write

    @property
    def after(self) -> Sent:
        """What aiohttp is told when the answer is written."""
        connection = self.connection
        goes_on = self._keep_alive and not self.ends_with_connection and not connection.draining
        if connection.sends_no_more:
            goes_on = goes_on and connection.has_more
        return GOES_ON if goes_on else ENDS

    def _bodiless(self, reply: Reply) -> bool:
        return self.method == b"HEAD" or reply.status in (204, 304) or reply.status < 200

    def _framing(self, reply: Reply) -> tuple[bytes, bool]:
        """The field lines that say how *reply* is framed for this client, and whether in chunks."""
        framing, chunked = b"", False
        if not (self._bodiless(reply) or reply.sized):
            if not self._version10:
                framing, chunked = b"Transfer-Encoding: chunked\r\n", True
            elif isinstance(reply.body, bytes):
                framing = b"Content-Length: %d\r\n" % len(reply.body)
            else:
                self.ends_with_connection = True
        if self.after is ENDS:
            framing += b"Connection: close\r\n"
        elif self._version10:
            framing += b"Connection: keep-alive\r\n"
        return framing, chunked


class _Large:
    """A recorded body that is sent piece by piece, so that clients who do not read hold no copy of it each."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.poured_bytes = 0

    async def pour(self, sink: Sink) -> None:
        for start in range(0, len(self._octets), LARGE_BYTES):
            piece = self._octets[start : start + LARGE_BYTES]
            self.poured_bytes += len(piece)
            if not sink.write(piece):
                await sink.drained()


class _Sink:
    """Frames a body for the client; the head goes out with the first piece of it."""

    __slots__ = ("_bodiless", "_chunked", "_connection", "_head")

    def __init__(self, connection: Connection, head: bytes, *, chunked: bool, bodiless: bool) -> None:
        self._connection = connection
        self._head = head
        self._chunked = chunked
        self._bodiless = bodiless

    def write(self, octets: bytes) -> bool:
        # Where nothing may follow the head, the provider's side is still read to its end, to be used again.
        if self._bodiless:
            self.flush()
            return True
        if self._chunked:
            octets = b"%b%x\r\n%b\r\n" % (self._head, len(octets), octets)
        elif self._head:
            octets = self._head + octets
        self._head = b""
        self._connection.send(octets)
        return not self._connection.writing_paused

    def flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._connection.send(head)

    async def drained(self) -> None:
        await self._connection.drained()

    def finish(self) -> None:
        """The body is over."""
        if self._chunked:
            self._connection.send(self._head + b"0\r\n\r\n")
        else:
            self.flush()


def _head(reply: Reply, head: bytes, framing: bytes) -> bytes:
    return b"%b\r\n%b%b\r\n" % (headers.status_line(reply.status, reply.phrase), head, framing)


def _whole(reply: Reply, head: bytes, framing: bytes, body: bytes, *, chunked: bool) -> bytes:
    """Head and body in one piece."""
    octets = _head(reply, head, framing)
    if not chunked:
        return octets + body
    return b"%b%x\r\n%b\r\n0\r\n\r\n" % (octets, len(body), body) if body else octets + b"0\r\n\r\n"
