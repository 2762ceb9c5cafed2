"""HTTP in and out: aiohttp's server with its hands tied, so that nothing is added, decoded or repaired.

aiohttp parses requests and runs one handler per connection; the answers are written by us, octet for octet.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from aiohttp import web
from aiohttp.http import HttpVersion10, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from proxy import headers
from proxy.call import Call, Page, Reply
from proxy.errors import UpstreamError
from proxy.flights import Abandoned, Lagged
from proxy.headers import Fields
from proxy.http.arriving import READ_BYTES, request_body
from proxy.http.connection import ENDS, Connection, Sent
from proxy.http.exchange import Exchange
from proxy.http.tunnel import Refused, Tunnel
from proxy.keys.allowance import is_preflight
from proxy.keys.gate import Gate
from proxy.model import Reason
from proxy.pipeline import Pipeline, reason_of
from proxy.ports import Dialect
from proxy.providers.fleet import Fleet
from proxy.providers.routing import Routing, Way
from proxy.providers.upstream import Upstream
from proxy.settings import CacheSettings, ServerSettings
from proxy.wire import Wire

log = logging.getLogger(__name__)

OWN = b"/_askonce/"
"""Everything below this is the proxy's own, and none of it is forwarded."""

MAX_PAGE_BODY_BYTES = 8 * 1024 * 1024
"""What is sent to a page of the proxy's own may be this long."""

Asides = Mapping[tuple[bytes, bytes], Callable[[Call], Awaitable[Reply | None]]]
"""Pages on paths that a provider may have, too: what is none of theirs (None) goes to the provider."""

Pages = Mapping[tuple[bytes, bytes], Page]
"""The proxy's own pages by method and path. A page that is asked for with GET is there for HEAD, too."""


class Server(web.Server):
    """Takes connections, finds for each request whether it is the proxy's own, cached, or to be forwarded."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        upstreams: Mapping[str, Upstream | Fleet],
        routing: Routing,
        cached: Callable[[bytes, bytes, Way], Dialect | None],
        pages: Pages,
        asides: Asides | None = None,
        settings: ServerSettings,
        cache: CacheSettings,
        wire: Wire | None,
        gate: Gate | None = None,
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
        self._options = {"grace_s": settings.half_close_grace_s, "stall_s": settings.stall_timeout_s}
        self._wire = wire
        self._gate = gate
        self._max_body = cache.max_body_bytes
        self._pipeline = pipeline
        self._upstreams = upstreams
        self._routing = routing
        self._cached = cached
        self._pages = pages
        self._asides: Asides = asides or {}

    def __call__(self) -> RequestHandler:
        """A protocol for one more connection."""
        return Connection(self, loop=self._loop, wire=self._wire, **self._options, **self._kwargs)

    def __repr__(self) -> str:
        return f"<Server, {len(self._connections)} connections>"

    async def drain(self, *, wait_s: float) -> bool:
        """Let every answer under way finish, close what is idle; False where *wait_s* was not enough."""
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.draining = True
                connection.flush()
        deadline = self._loop.time() + wait_s
        while self._close_idle() and self._loop.time() < deadline:  # noqa: ASYNC110  (nobody tells of the last one)
            await asyncio.sleep(0.02)
        whole = not self._connections
        await self.shutdown(0.1)
        return whole

    def _close_idle(self) -> bool:
        """Close what waits for nothing; whether any connection is left. One taken a moment ago is not idle yet."""
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.draining = True
                if connection.idle:
                    connection.force_close()
        return bool(self._connections)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        if not isinstance(connection, Connection):
            raise TypeError("not a connection of ours")
        message: RawRequestMessage = request._message
        try:
            sent = await self._dispatch(connection, message, request.content)
            if request.content.exception() is not None:
                # Else aiohttp would read on, for the rest of a body that has none.
                connection.force_close()
            return sent
        except ConnectionError:
            log.debug("a client left before its answer was over")
            return ENDS
        except RequestPayloadError as error:
            refused = connection.handle_error(request, 400, error)
            connection.force_close()
            return refused

    async def _dispatch(self, connection: Connection, message: RawRequestMessage, payload: StreamReader) -> Sent:
        method, connection.odd_method = connection.odd_method or message.method.encode("ascii"), None
        raw_target = message.path.encode("utf-8", "surrogateescape")
        target = headers.origin_form(raw_target)
        fields = Fields(message.raw_headers)
        exchange = Exchange(connection, message, method)
        if method == b"CONNECT":
            return exchange.refuse(501, "this is a reverse proxy: it opens no tunnels", "not_a_forward_proxy")
        if fields.tokens(b"transfer-encoding") not in ((), (b"chunked",)):
            # Undoing chunks alone would leave the other coding on a body that no longer says so (RFC 9112 section 6.1).
            return exchange.refuse(501, "chunked is the only transfer coding that is understood", "transfer_coding")
        path = target.partition(b"?")[0]
        peer = str(connection.peername[0]) if connection.peername else ""
        page = self._pages.get((b"GET" if method == b"HEAD" else method, path))
        if page is not None:
            whole = await request_body(connection, message, payload, fields, whole_up_to=MAX_PAGE_BODY_BYTES)
            if whole is not None and not isinstance(whole, bytes):
                return exchange.refuse(413, f"a page takes {MAX_PAGE_BODY_BYTES} bytes at the most", "too_large")
            await exchange.send(await page(Call(method=method, target=target, fields=fields, body=whole, peer=peer)))
            return exchange.after
        aside, taken = self._asides.get((method, path)), None
        if aside is not None:
            taken = await request_body(connection, message, payload, fields, whole_up_to=MAX_PAGE_BODY_BYTES)
            ours = Call(method=method, target=target, fields=fields, body=taken, peer=peer)
            answered = await aside(ours) if isinstance(taken, bytes) else None
            if answered is not None:
                await exchange.send(answered)
                return exchange.after
        if path.startswith(OWN):
            asked = f"{method.decode('latin-1')} {path.decode('latin-1')}"
            return exchange.refuse(404, f"the proxy has no page for {asked}", "not_found")
        way = self._routing.way(path)
        target = way.inner(target)
        dialect = self._cached(method, target.partition(b"?")[0], way)
        client = self._gate.admit(fields, target) if self._gate is not None else None
        call = Call(
            method=method, target=target, fields=fields, body=None, dialect=dialect, peer=peer, way=way, client=client
        )
        stranger = client is None and self._gate is not None
        if stranger and not is_preflight(call):
            # Its body is not read: nobody knows who sends it.
            exchange.ends_with_connection = True
            await exchange.send(self._pipeline.turned_away(call))
            return ENDS
        if _is_websocket(message, fields) and not stranger:
            return await self._tunnel(exchange, call)
        body = taken
        if body is None:
            most = self._max_body if dialect else 0
            body = await request_body(connection, message, payload, fields, whole_up_to=most)
        call = replace(call, body=body)
        try:
            if dialect is None:
                await self._pipeline.forward(call, exchange.send, bare=stranger)
            else:
                await self._pipeline.serve(call, dialect, exchange.send)
        except (UpstreamError, Abandoned, Lagged) as error:
            if exchange.begun:
                log.info("an answer broke off: %s", error)
                connection.break_off(loudly=exchange.ends_with_connection)
                return ENDS
            if isinstance(error.__cause__, RequestPayloadError):
                raise error.__cause__ from error
            return exchange.refuse(502, str(error), _code(error))
        reply = exchange.reply
        # Who expects 100 Continue holds its body back: such a head must not be held for it.
        expects = b"expect" in fields
        if reply is not None and reply.repeat is not None and self._wire is not None and not expects:
            octets, again = connection.taken_octets(fields), exchange.again(reply, reply.repeat.head_at)
            known = self._gate is None or self._gate.admit(fields, target) == client
            if octets is not None and again is not None and known:
                self._wire.remember(octets, reply.repeat, again)
        return exchange.after

    async def _tunnel(self, exchange: Exchange, call: Call) -> Sent:
        refused = self._pipeline.tunnelled(call)
        if refused is not None:
            exchange.ends_with_connection = True
            await exchange.send(refused)
            return ENDS
        tunnel = Tunnel(self._upstreams[call.way.unread.name])
        try:
            opened = await tunnel.open(exchange.method, call.target, call.fields)
        except UpstreamError as error:
            return exchange.refuse(502, str(error), _code(error))
        if isinstance(opened, Refused):
            async with opened.answer as answer:
                reply = Reply(
                    status=answer.status,
                    phrase=answer.phrase,
                    head=headers.block(answer.fields),
                    body=answer,
                    sized=b"content-length" in answer.fields and b"transfer-encoding" not in answer.fields,
                )
                await exchange.send(reply)
                return exchange.after
        connection = exchange.connection
        connection.set_parser(tunnel.from_client(connection))  # type: ignore[arg-type]
        # What is open would outlive its key: nobody looks at what passes.
        leave = partial(connection.break_off, loudly=True)
        staying = self._gate.staying(call.asker, leave) if self._gate is not None else nullcontext()
        with staying:
            await tunnel.run(connection, opened.head)
        return ENDS


def _is_websocket(message: RawRequestMessage, fields: Fields) -> bool:
    return (
        message.upgrade
        and message.version > HttpVersion10
        and b"websocket" in fields.tokens(b"upgrade")
        and b"upgrade" in fields.tokens(b"connection")
        # A body would be announced to the provider and never sent: the next request would be read in its place.
        and not message.chunked
        and fields.get(b"content-length") in (None, b"0")
    )


def _code(error: Exception) -> Reason:
    return reason_of(error) if isinstance(error, UpstreamError | Abandoned) else Reason.LAGGED
