"""A client's connection: aiohttp's protocol, with what HTTP needs here and what lies between its messages.

The internals of aiohttp's server are used here, in ``arriving.py`` and in ``server.py`` alone.
"""

import asyncio
import logging
import re
import socket
import struct
import time
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from proxy import headers, labels
from proxy.headers import Fields
from proxy.model import Reason
from proxy.wire import HEAD_END, Wire

log = logging.getLogger(__name__)

MAX_SHORT_BYTES = 65536
"""A longer request always goes the ordinary way: comparing it takes as long as reading it."""

LAST_WRITE_S = 0.01
"""How long after a client's end its connection is looked at for an answer that is over."""

HEADS_BYTES = 4
"""A whole head may be this many times as long as its longest field."""

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

GOES_ON = Sent(keep_alive=True)
ENDS = Sent(keep_alive=False)


class Connection(RequestHandler):
    """One client connection."""

    __slots__ = (
        "_after_eof",
        "_before",
        "_delivered",
        "_eof_watch",
        "_head_bytes",
        "_held",
        "_last_body",
        "_midway",
        "_octets",
        "_wire",
        "draining",
        "grace_s",
        "odd_method",
        "sends_no_more",
        "stall_s",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        grace_s: float,
        stall_s: float,
        wire: Wire | None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(manager, **options)
        self.grace_s = grace_s
        self.stall_s = stall_s
        self._wire = wire
        self._held = b""
        """A head that remembered requests begin with, until its body comes."""
        self._octets: bytes | None = None
        """What has come since the last answer; None where it is not worth remembering."""
        self.draining = False
        self.odd_method: bytes | None = None
        """The real method of the next request, where aiohttp's parser was shown another."""
        self.sends_no_more = False
        self._midway = False
        self._before = 0
        """How many requests had come when the one in hand began."""
        self._last_body: StreamReader | None = None
        self._head_bytes = 0
        self._delivered = 0
        self._after_eof = 0
        self._eof_watch: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """No request is being answered and none waits."""
        return self._waiter is not None and not self._waiter.done() and not self._messages and not self._held

    @property
    def has_more(self) -> bool:
        """Further requests have come already."""
        return bool(self._messages)

    def data_received(self, data: bytes) -> None:
        """Some octets from the client."""
        # A connection whose first octets come at once has no waiter yet.
        if (self._waiter is None or self._waiter.done() or self._messages) and self._request_count:
            self._collect(data)
            self._parse(data)
            self._fail_body()
            return
        if self._midway:
            if self._before != self._request_count:
                # The start of this request came behind the one before.
                self._before, self._octets, self._head_bytes = self._request_count, None, 0
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
            self._begin(data)
            data = self._known_method(data)
        self._parse(data)

    def _begin(self, data: bytes) -> None:
        self._octets, self._head_bytes, self._before = b"", len(data), self._request_count
        self._collect(data)

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._last_body = self._messages[-1][1]
        self._midway = self._within_a_head(data)

    def _within_a_head(self, data: bytes) -> bool:
        """Whether the parser may hold the start of a head, so that what comes next is not the start of a request."""
        come = self._request_count - self._before
        if come == 0:
            return True
        body = self._last_body
        if body is None or not body.is_eof() or data.endswith(HEAD_END):
            return False
        if come > 1 or self._octets is None:
            return True
        return len(self._octets) != self._octets.find(HEAD_END) + len(HEAD_END) + body.total_bytes

    def _refuse_head(self) -> None:
        body = labels.error_body("the header fields are too large (server.max_header_bytes)", "headers_too_large")
        fields = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
        ]
        if self.transport is not None and not self.transport.is_closing():
            self.send(headers.head(headers.status_line(431, labels.PHRASES[431]), fields) + body)
            self.force_close()

    def _fail_body(self) -> None:
        """Tell whoever reads the body of the request in hand that what came is not HTTP.

        aiohttp queues the error as if it were the next request, behind a handler that waits for the rest of the body.
        """
        request = self._current_request
        if request is None or not self._messages or isinstance(self._messages[-1][0], RawRequestMessage):
            return
        if not request.content.is_eof() and request.content.exception() is None:
            request.content.set_exception(RequestPayloadError("the request body is not valid HTTP/1.1"))

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
            self._begin(held)
            self._parse(held)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: it has left, or only closed its sending side and still reads.

        TCP does not tell the two apart until something is sent. So the connection stays open while an answer flows and
        no reset comes back; if nothing could be delivered for ``server.half_close_grace_s`` the client counts as gone.
        """
        if self.idle or self._held:
            return False
        self.sends_no_more = True
        self._after_eof = self._delivered
        self._eof_watch = self._loop.call_later(min(self.grace_s, LAST_WRITE_S), self._close_if_answered)
        return True

    def _close_if_answered(self) -> None:
        """The end often comes with the last octet of an answer, before aiohttp is known to wait again."""
        if self.idle:
            self.force_close()
        else:
            self._eof_watch = self._loop.call_later(self.grace_s, self._look_after)

    def _look_after(self) -> None:
        transport = self.transport
        if transport is None:
            return
        if self.idle:
            self.force_close()
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
            try:
                async with asyncio.timeout(self.stall_s):
                    await self._drain_helper()
            except TimeoutError:
                self.break_off(loudly=True)
                raise ConnectionResetError("the client took nothing for too long") from None

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
        # Who sent it may have left.
        with suppress(ConnectionError):
            self.send(headers.head(headers.status_line(status, labels.PHRASES.get(status, b"Error")), fields) + body)
        return ENDS


def fits_aiohttp() -> bool:
    """Whether aiohttp's protocol still has the inner state that answering between messages relies on."""
    needed = {"_waiter", "_messages", "_request_count", "_next_keepalive_close_time", "_keepalive_timeout"}
    return needed <= set(RequestHandler.__slots__)
