"""HTTP in and out: aiohttp's server with its hands tied, so that nothing is added, decoded or repaired.

aiohttp parses requests and runs one handler per connection; the answers are written here, octet for octet. The
internals of its server are used in this file alone.
"""

import asyncio
import logging
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from proxy import headers, labels
from proxy.call import Call, Repeat, Reply
from proxy.config import CacheSettings, ServerSettings
from proxy.errors import UpstreamError
from proxy.flights import Abandoned, Lagged
from proxy.headers import Fields
from proxy.model import Reason
from proxy.pipeline import Pipeline, reason_of
from proxy.ports import Dialect, Upload
from proxy.tunnel import Refused, Tunnel
from proxy.upstream import Upstream
from proxy.wire import HEAD_END, Wire

log = logging.getLogger(__name__)

READ_BYTES = 65536

MAX_SHORT_BYTES = 65536
"""A longer request always goes the ordinary way: comparing it takes as long as reading it."""

HEADS_BYTES = 4
"""A whole head may be this many times as long as its longest field."""

Page = Callable[[Call], Reply]
"""One of the proxy's own pages."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends RST."""


class Sent(web.StreamResponse):
    """Tells aiohttp that the answer is written, and whether the connection goes on."""

    def __init__(self, *, keep_alive: bool) -> None:
        # Nothing of StreamResponse is wanted: what it would write is written already.
        self._goes_on = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow."""
        return self._goes_on

    async def prepare(self, request: web.BaseRequest) -> None:
        """Written already."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Written already."""

    def __bool__(self) -> bool:
        return True


_METHOD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) \S")
_KNOWN_METHODS = frozenset(
    b"ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY "
    b"OPTIONS PATCH POST PRI PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND "
    b"UNLINK UNLOCK UNSUBSCRIBE".split()
)
"""What llhttp parses by itself; ``PRI`` (the HTTP/2 preface) it refuses, and so do we."""

_GOES_ON = Sent(keep_alive=True)
_ENDS = Sent(keep_alive=False)


class Connection(RequestHandler):
    """One client connection."""

    __slots__ = (
        "_after_eof",
        "_delivered",
        "_eof_watch",
        "_head_bytes",
        "_held",
        "_midway",
        "_octets",
        "_wire",
        "draining",
        "grace_s",
        "odd_method",
    )

    def __init__(self, manager: web.Server, *, grace_s: float, wire: Wire | None, **options: Any) -> None:  # noqa: ANN401
        super().__init__(manager, **options)
        self.grace_s = grace_s
        self._wire = wire
        self._held = b""
        """A head that remembered requests begin with, until its body comes."""
        self._octets: bytes | None = None
        """What has come since the last answer; None where it is not worth remembering."""
        self.draining = False
        self.odd_method: bytes | None = None
        """The real method of the next request, where aiohttp's parser was shown another."""
        self._midway = False
        self._head_bytes = 0
        self._delivered = 0
        self._after_eof = 0
        self._eof_watch: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """No request is being answered and none waits."""
        return self._waiter is not None and not self._waiter.done() and not self._messages and not self._held

    def data_received(self, data: bytes) -> None:
        """Some octets from the client."""
        # A connection whose first octets come at once has no waiter yet.
        if (self._waiter is None or self._waiter.done() or self._messages) and self._request_count:
            self._collect(data)
            super().data_received(data)
            return
        if self._midway:
            self._collect(data)
            self._head_bytes += len(data)
            if self._head_bytes > HEADS_BYTES * self.max_field_size:
                self._refuse_head()
                return
        else:
            if self._wire is not None and not self._paused and self._answered_shortly(self._wire, data):
                return
            if self._held:
                data, self._held = self._held + data, b""
            self._octets, self._head_bytes = b"", len(data)
            self._collect(data)
            data = self._known_method(data)
        super().data_received(data)
        # No message: the head is not whole yet, and what comes next is not the start of a request.
        self._midway = not self._messages

    def _refuse_head(self) -> None:
        body = labels.error_body("the header fields are too large (server.max_header_bytes)", "headers_too_large")
        fields = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
        ]
        if self.transport is not None and not self.transport.is_closing():
            self.send(headers.head(_status_line(431, labels.PHRASES[431]), fields) + body)
            self.force_close()

    def _answered_shortly(self, wire: Wire, data: bytes) -> bool:
        """Answer from the wire; True also where *data* is a known head whose body must come first."""
        start = time.perf_counter()
        request = self._held + data if self._held else data
        answer = wire.find(request)
        if answer is None:
            if self._held or not wire.awaits_body(data):
                return False
            self._held = data
            return True
        self._held = b""
        transport = self.transport
        if transport is None or transport.is_closing():
            return True
        transport.write(answer)
        self._delivered += len(answer)
        # aiohttp has seen no request and would close the connection as idle.
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        wire.used(request, seconds=time.perf_counter() - start)
        return True

    def _collect(self, data: bytes) -> None:
        if self._octets is not None:
            self._octets = self._octets + data if len(self._octets) + len(data) <= MAX_SHORT_BYTES else None

    def _known_method(self, data: bytes) -> bytes:
        """*data*, the start of a request, with a method that the parser knows.

        It knows the registered methods only. Another is shown to it as PATCH, which is framed the same way, and put
        right again when the request is dispatched.
        """
        found = _METHOD.match(data)
        if found is None or found.group(1) in _KNOWN_METHODS:
            return data
        self.odd_method = found.group(1)
        return b"PATCH" + data[found.end(1) :]

    def taken_octets(self, fields: Fields) -> bytes | None:
        """The octets of the request just answered, if they are that one request and nothing else."""
        octets, self._octets = self._octets, None
        if octets is None or self._wire is None or self._messages:
            return None
        length = fields.get(b"content-length")
        if length is None or b"transfer-encoding" in fields:
            return None
        head_end = octets.find(HEAD_END) + len(HEAD_END)
        return octets if len(octets) == head_end + int(length) else None

    def flush(self) -> None:
        """Let the parser have what is held back."""
        if self._held:
            held, self._held = self._held, b""
            super().data_received(held)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: it has left, or only closed its sending side and still reads.

        TCP does not tell the two apart until something is sent. So the connection stays open while an answer flows and
        no reset comes back; if nothing could be delivered for ``server.half_close_grace_s`` the client counts as gone.
        """
        if self.idle or self._held:
            return False
        self._after_eof = self._delivered
        self._eof_watch = self._loop.call_later(self.grace_s, self._look_after)
        return True

    def _look_after(self) -> None:
        transport = self.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        reset = sock is not None and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        if reset or self._delivered == self._after_eof:
            transport.abort()
        else:
            self._eof_watch = self._loop.call_later(self.grace_s, self._look_after)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio."""
        if self._eof_watch is not None:
            self._eof_watch.cancel()
        super().connection_lost(exc)

    def send(self, octets: bytes) -> None:
        """Write to the client.

        Raises:
            ConnectionResetError: it has left.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        self._delivered += len(octets)
        transport.write(octets)

    async def drained(self) -> None:
        """Wait while the client reads more slowly than we write."""
        if self._paused:
            await self._drain_helper()

    def break_off(self, *, loudly: bool) -> None:
        """End an answer so that it cannot be taken for a whole one.

        *loudly*: nothing but a reset tells, because the answer ends where the connection does.
        """
        transport = self.transport
        if transport is None:
            return
        if loudly:
            sock = transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        else:
            transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP with an error in OpenAI's shape; never with a traceback."""
        if status >= 500:
            log.error("a request failed", exc_info=exc)
        told = "the request is not valid HTTP/1.1" if status < 500 else "the proxy failed; its log says why"
        body = labels.error_body(told, "bad_request" if status < 500 else Reason.INTERNAL)
        fields = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
        ]
        self.send(headers.head(_status_line(status, labels.PHRASES.get(status, b"Error")), fields) + body)
        return _ENDS


class _Arriving:
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
        while chunk := await self._payload.readany():
            yield chunk


class Server(web.Server):
    """Takes connections, finds for each request whether it is the proxy's own, cached, or to be forwarded."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        upstream: Upstream,
        cached: Callable[[bytes, bytes], Dialect | None],
        pages: Mapping[bytes, Page],
        settings: ServerSettings,
        cache: CacheSettings,
        wire: Wire | None,
    ) -> None:
        super().__init__(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=settings.keepalive_s,
            read_bufsize=READ_BYTES,
            max_line_size=settings.max_header_bytes,
            max_field_size=settings.max_header_bytes,
            max_headers=settings.max_header_fields,
        )
        self._grace_s = settings.half_close_grace_s
        self._wire = wire
        self._max_body = cache.max_body_bytes
        self._pipeline = pipeline
        self._upstream = upstream
        self._cached = cached
        self._pages = pages

    def __call__(self) -> RequestHandler:
        """A protocol for one more connection."""
        return Connection(self, loop=self._loop, grace_s=self._grace_s, wire=self._wire, **self._kwargs)

    def __repr__(self) -> str:
        return f"<Server, {len(self._connections)} connections>"

    async def drain(self, *, wait_s: float) -> bool:
        """Let every answer under way finish, close what is idle; False where *wait_s* was not enough."""
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.draining = True
                connection.flush()
                if connection.idle:
                    connection.force_close()
        deadline = self._loop.time() + wait_s
        while self._connections and self._loop.time() < deadline:  # noqa: ASYNC110  (nobody tells of the last one)
            await asyncio.sleep(0.02)
        whole = not self._connections
        await self.shutdown(0.1)
        return whole

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        if not isinstance(connection, Connection):
            raise TypeError("not a connection of ours")
        message: RawRequestMessage = request._message
        try:
            return await self._dispatch(connection, message, request.content)
        except ConnectionError:
            log.debug("a client left before its answer was over")
            return _ENDS

    async def _dispatch(self, connection: Connection, message: RawRequestMessage, payload: StreamReader) -> Sent:
        method, connection.odd_method = connection.odd_method or message.method.encode("ascii"), None
        raw_target = message.path.encode("utf-8", "surrogateescape")
        target = headers.origin_form(raw_target)
        fields = Fields(message.raw_headers)
        exchange = _Exchange(connection, message, method)
        if method == b"CONNECT":
            return exchange.refuse(501, "this is a reverse proxy: it opens no tunnels", "not_a_forward_proxy")
        path = target.partition(b"?")[0]
        peer = str(connection.peername[0]) if connection.peername else ""
        page = self._pages.get(path) if method in (b"GET", b"HEAD") else None
        if page is not None:
            await exchange.send(page(Call(method=method, target=target, fields=fields, body=None, peer=peer)))
            return exchange.after
        if _is_websocket(message, fields):
            return await self._tunnel(exchange, target, fields)
        dialect = self._cached(method, path)
        body = await _body(connection, message, payload, fields, whole_up_to=self._max_body if dialect else 0)
        call = Call(method=method, target=target, fields=fields, body=body, dialect=dialect, peer=peer)
        try:
            if dialect is None:
                await self._pipeline.forward(call, exchange.send)
            else:
                await self._pipeline.serve(call, dialect, exchange.send)
        except (UpstreamError, Abandoned, Lagged) as error:
            if exchange.begun:
                log.info("an answer broke off: %s", error)
                connection.break_off(loudly=exchange.ends_with_connection)
                return _ENDS
            return exchange.refuse(502, str(error), _code(error))
        reply = exchange.reply
        if reply is not None and reply.repeat is not None and exchange.after is _GOES_ON:
            self._remember(connection, exchange, fields, reply, reply.repeat)
        return exchange.after

    def _remember(
        self, connection: Connection, exchange: "_Exchange", fields: Fields, reply: Reply, repeat: Repeat
    ) -> None:
        """Let the wire answer the next request with the same octets."""
        octets = connection.taken_octets(fields)
        if octets is None or self._wire is None or connection.draining or not isinstance(reply.body, bytes):
            return
        body = reply.body

        def write(now: float) -> bytes:
            return exchange.whole(replace(reply, head=repeat.head_at(now)), body)

        self._wire.remember(octets, repeat.entry, write, repeat.receipt)

    async def _tunnel(self, exchange: "_Exchange", target: bytes, fields: Fields) -> Sent:
        tunnel = Tunnel(self._upstream)
        try:
            opened = await tunnel.open(exchange.method, target, fields)
        except UpstreamError as error:
            return exchange.refuse(502, str(error), _code(error))
        if isinstance(opened, Refused):
            async with opened.answer as answer:
                reply = Reply(
                    status=answer.status,
                    phrase=answer.phrase,
                    head=headers.lines(headers.end_to_end(answer.fields)),
                    body=answer,
                    sized=b"content-length" in answer.fields and b"transfer-encoding" not in answer.fields,
                )
                await exchange.send(reply)
                return exchange.after
        connection = exchange.connection
        connection.send(opened.head)
        connection.set_parser(tunnel.from_client(connection))  # type: ignore[arg-type]
        await tunnel.run(connection)
        return _ENDS


class _Exchange:
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
        self.connection.send(headers.head(_status_line(status, labels.PHRASES[status]), fields) + body)
        return _ENDS

    async def send(self, reply: Reply) -> None:
        """Write *reply* as it comes: a body in one piece in one write."""
        connection, body = self.connection, reply.body
        self.begun = True
        self.reply = reply
        if isinstance(body, bytes):
            connection.send(self.whole(reply, body))
            await connection.drained()
            return
        framing, chunked = self._framing(reply)
        sink = _Sink(connection, _head(reply, framing), chunked=chunked, bodiless=self._bodiless(reply))
        try:
            await body.pour(sink)
        except (UpstreamError, Abandoned, Lagged):
            # What has come belongs to the client, if it is only the head.
            sink.flush()
            raise
        sink.finish()

    def whole(self, reply: Reply, body: bytes) -> bytes:
        """Head and body in one piece."""
        framing, chunked = self._framing(reply)
        head = _head(reply, framing)
        if self._bodiless(reply):
            return head
        if not chunked:
            return head + body
        return b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(body), body) if body else head + b"0\r\n\r\n"

    @property
    def after(self) -> Sent:
        """What aiohttp is told when the answer is written."""
        goes_on = self._keep_alive and not self.ends_with_connection and not self.connection.draining
        return _GOES_ON if goes_on else _ENDS

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
        if self.after is _ENDS:
            framing += b"Connection: close\r\n"
        elif self._version10:
            framing += b"Connection: keep-alive\r\n"
        return framing, chunked


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


def _head(reply: Reply, framing: bytes) -> bytes:
    return b"%b\r\n%b%b\r\n" % (_status_line(reply.status, reply.phrase), reply.head, framing)


async def _body(
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
        return _Arriving(connection, payload, chunked=message.chunked, expects=expects, begun=b"")
    if expects:
        connection.send(_CONTINUE)
    pieces: list[bytes] = []
    size = 0
    while chunk := await payload.readany():
        pieces.append(chunk)
        size += len(chunk)
        if size > whole_up_to:
            return _Arriving(connection, payload, chunked=message.chunked, expects=False, begun=b"".join(pieces))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _is_websocket(message: RawRequestMessage, fields: Fields) -> bool:
    return (
        message.upgrade
        and message.version > HttpVersion10
        and b"websocket" in fields.tokens(b"upgrade")
        and b"upgrade" in fields.tokens(b"connection")
    )


def _status_line(status: int, phrase: bytes) -> bytes:
    return b"HTTP/1.1 %d %b" % (status, phrase)


def _code(error: Exception) -> Reason:
    return reason_of(error) if isinstance(error, UpstreamError | Abandoned) else Reason.LAGGED


def fits_aiohttp() -> bool:
    """Whether aiohttp's protocol still has the inner state that answering between messages relies on."""
    needed = {"_waiter", "_messages", "_request_count", "_next_keepalive_close_time", "_keepalive_timeout"}
    return needed <= set(RequestHandler.__slots__)
