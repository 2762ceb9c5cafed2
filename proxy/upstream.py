"""The provider over HTTP: the one place that opens connections to it and reads its answers.

aiohttp's response parser does the parsing; the request is written here, octet for octet, because aiohttp's client
re-encodes header values, adds fields of its own and sends a request twice where it deems that safe.
"""

import asyncio
import logging
import select
import socket
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from types import TracebackType
from typing import Protocol
from urllib.parse import unquote, urlsplit

from aiohttp import ClientError
from aiohttp.client_exceptions import ClientPayloadError, SocketTimeoutError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from proxy import headers
from proxy.config import UpstreamSettings
from proxy.errors import Broke, Garbled, Unreachable
from proxy.headers import Fields
from proxy.origin import Origin, origin
from proxy.ports import Sink, Upload

log = logging.getLogger(__name__)

READ_BYTES = 65536
"""How much of an answer may wait in a parser before its connection is no longer read (twice this, in fact)."""

MAX_HEAD_BYTES = 1024 * 1024
"""A head that is larger, interim ones included, is not one."""

MAX_ANSWER_FIELDS = 2048

WATCH_S = 30.0
"""How often connections in use are looked at for silence."""

SETTLE_S = 0.02
"""How long a connection that has never been used again must have been idle before it is trusted with a request that may
not be sent twice: some providers close after each answer without saying so, and the news takes a moment."""

SAFE_TO_RESEND = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""Safe methods (RFC 9110 section 9.2.1): the only ones ever sent again, and only on a connection found dead."""


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

    def expect_head(self) -> None:
        """What comes next is the head of an answer."""
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

    def give_up(self, error: Exception) -> None:
        """End the exchange with *error*."""
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(error)
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


class Answer:
    """The head of the provider's answer, and its body as it comes. Leave the context to let the connection go."""

    __slots__ = ("_lease", "_payload", "fields", "phrase", "poured_bytes", "status")

    def __init__(self, message: RawResponseMessage, payload: StreamReader, lease: "_Lease") -> None:
        self.status = message.code
        self.phrase = (message.reason or "").encode("utf-8", "surrogateescape")
        self.fields = Fields(message.raw_headers)
        self.poured_bytes = 0
        self._payload = payload
        self._lease = lease

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"

    async def __aenter__(self) -> "Answer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.release(whole=self._payload.is_eof())

    def take_over(self, reader: OctetReader) -> Connection:
        """After a 101: hand everything that comes from now on to *reader*. The connection is the caller's to end."""
        connection = self._lease.connection
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
                raise Broke(f"the provider's answer broke off: {_told(error)}") from error
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


class _Lease:
    """One connection while one request uses it."""

    __slots__ = ("_pool", "connection", "reused", "upload")

    def __init__(self, pool: "Upstream", connection: Connection, *, reused: bool) -> None:
        self._pool = pool
        pool.watch(connection)
        self.connection = connection
        self.reused = reused
        self.upload: asyncio.Task[None] | None = None

    def release(self, *, whole: bool) -> None:
        """Back to the pool where the exchange is over on both sides, else closed."""
        sent = self.upload is None or (
            self.upload.done() and not self.upload.cancelled() and self.upload.exception() is None
        )
        if self.upload is not None and not self.upload.done():
            self.upload.cancel()
        self._pool.unwatch(self.connection)
        if whole and sent and not self.connection.should_close and self.connection.is_connected():
            self._pool.put_back(self.connection, reused=self.reused)
        else:
            self.connection.abort()


class Upstream:
    """Connections to one provider: opened when needed, kept while idle, never shared by two requests."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.origin: Origin = origin(settings.url)
        self._settings = settings
        self._add = {
            name.lower().encode(): (name.encode(), value.encode()) for name, value in settings.add_headers.items()
        }
        self._tls = _tls(settings) if self.origin.secure else None
        self._proxy = urlsplit(settings.proxy_url) if settings.proxy_url else None
        self._idle: deque[tuple[Connection, float]] = deque()
        self._in_use: set[Connection] = set()
        self._watching: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Upstream {self.origin.identity.decode()}, {len(self._idle)} idle>"

    async def ask(
        self,
        method: bytes,
        target: bytes,
        fields: Fields,
        body: bytes | Upload | None,
        *,
        keep: Collection[bytes] = (),
    ) -> Answer:
        """Send one request and wait for the head of its answer.

        *fields* are the client's; what ends at the proxy is left out here, but for the hop-by-hop fields named in
        *keep*. A body in one piece keeps the framing that *fields* announce.

        Raises:
            Unreachable: no connection could be made; nothing was sent.
            Broke: the connection failed before the head was whole. The request may have been acted upon.
            Garbled: what came is not HTTP.
        """
        request = self._request(method, target, fields, keep)
        lease = await self._connection(method)
        try:
            return await self._exchange(lease, method, request, body, fields)
        except Broke:
            if not lease.reused or method not in SAFE_TO_RESEND or body is not None:
                raise
        lease = _Lease(self, await self.connect(), reused=False)
        return await self._exchange(lease, method, request, body, fields)

    def _request(self, method: bytes, target: bytes, fields: Fields, keep: Collection[bytes]) -> bytes:
        sent = headers.request_fields(fields, authority=self.origin.authority, keep=keep)
        if self._add:
            sent = [pair for pair in sent if pair[0].lower() not in self._add] + list(self._add.values())
        line = self.origin.target(target)
        if self._proxy is not None and not self.origin.secure:
            line = b"http://" + self.origin.authority + line
            sent += _proxy_authorization(self._proxy.username, self._proxy.password)
        return headers.head(method + b" " + line + b" HTTP/1.1", sent)

    async def _exchange(
        self, lease: _Lease, method: bytes, request: bytes, body: bytes | Upload | None, fields: Fields
    ) -> Answer:
        connection = lease.connection
        try:
            connection.set_response_params(
                skip_payload=method == b"HEAD",
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=READ_BYTES,
                max_line_size=MAX_HEAD_BYTES,
                max_field_size=MAX_HEAD_BYTES,
                max_headers=MAX_ANSWER_FIELDS,
            )
            transport = connection.transport
            if transport is None:
                raise Broke("the provider closed the connection")
            if body is None:
                transport.write(request)
            elif isinstance(body, bytes):
                transport.write(request + _framed(body, fields))
            else:
                transport.write(request)
                lease.upload = asyncio.get_running_loop().create_task(_upload(connection, body), name="upload")
            connection.expect_head()
            message, payload = await _head(connection, lease.upload)
        except BaseException:
            lease.release(whole=False)
            raise
        return Answer(message, payload, lease)

    async def _connection(self, method: bytes) -> _Lease:
        loop = asyncio.get_running_loop()
        while self._idle:
            connection, since = self._idle.pop()
            idle_s = loop.time() - since
            if idle_s < SETTLE_S and not connection.proven and method not in SAFE_TO_RESEND:
                await asyncio.sleep(SETTLE_S - idle_s)
            if idle_s < self._settings.keepalive_s and _quiet(connection):
                return _Lease(self, connection, reused=True)
            connection.close()
        return _Lease(self, await self.connect(), reused=False)

    def watch(self, connection: Connection) -> None:
        """*connection* is in use: its provider may not be silent for longer than ``upstream.silence_timeout_s``."""
        self._in_use.add(connection)
        if self._watching is None:
            self._watching = asyncio.get_running_loop().call_later(WATCH_S, self._look_after)

    def unwatch(self, connection: Connection) -> None:
        """*connection* is no longer in use."""
        self._in_use.discard(connection)

    def _look_after(self) -> None:
        # One timer for all: a timer for each piece that arrives would cost more than passing it on.
        loop = asyncio.get_running_loop()
        silent_since = loop.time() - self._settings.silence_timeout_s
        for connection in list(self._in_use):
            if connection.heard_at < silent_since and connection.waits_for_provider:
                connection.give_up(SocketTimeoutError("the provider was silent for too long"))
        self._watching = loop.call_later(WATCH_S, self._look_after) if self._in_use else None

    def put_back(self, connection: Connection, *, reused: bool) -> None:
        """Keep a connection for the next request; those that have been used again before go first."""
        connection.proven = reused
        now = asyncio.get_running_loop().time()
        if len(self._idle) >= self._settings.max_idle_connections:
            self._close_stale(now)
        if len(self._idle) >= self._settings.max_idle_connections:
            connection.close()
        elif reused:
            self._idle.append((connection, now))
        else:
            self._idle.appendleft((connection, now))

    def _close_stale(self, now: float) -> None:
        kept = deque(
            item for item in self._idle if now - item[1] < self._settings.keepalive_s and item[0].is_connected()
        )
        for connection, since in self._idle:
            if (connection, since) not in kept:
                connection.close()
        self._idle = kept

    async def connect(self) -> Connection:
        """A new connection, TLS and outgoing proxy included.

        Raises:
            Unreachable: it could not be made in ``upstream.connect_timeout_s``.
        """
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                return await self._connect()
        except TimeoutError as error:
            raise Unreachable(f"no connection to {self._where()} in {self._settings.connect_timeout_s:g} s") from error
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Unreachable(f"cannot connect to {self._where()}: {_told(error)}") from error

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        handler = Connection(loop)
        if self._proxy is None:
            await loop.create_connection(
                lambda: handler,
                self.origin.host,
                self.origin.port,
                ssl=self._tls,
                server_hostname=self.origin.host if self._tls else None,
            )
            return handler
        proxy_host, proxy_port = self._proxy.hostname or "", self._proxy.port or 80
        if self._tls is None:
            await loop.create_connection(lambda: handler, proxy_host, proxy_port)
            return handler
        reader, writer = await asyncio.open_connection(proxy_host, proxy_port)
        try:
            # CONNECT names the port always (RFC 9110 section 9.3.6).
            where = self.origin.host.encode("idna") + b":%d" % self.origin.port
            fields = [(b"Host", where), *_proxy_authorization(self._proxy.username, self._proxy.password)]
            writer.write(headers.head(b"CONNECT " + where + b" HTTP/1.1", fields))
            answer = await reader.readuntil(b"\r\n\r\n")
            status = answer.split(b" ", 2)[1:2]
            if status != [b"200"]:
                raise OSError(f"the outgoing proxy refused the tunnel: {answer.splitlines()[0][:80]!r}")
            transport = await loop.start_tls(writer.transport, handler, self._tls, server_hostname=self.origin.host)
            if transport is None:
                raise OSError("the TLS handshake failed")
        except BaseException:
            writer.transport.abort()
            raise
        handler.connection_made(transport)
        return handler

    def _where(self) -> str:
        if self._proxy is not None:
            return f"{self.origin.identity.decode()} through {self._proxy.hostname}:{self._proxy.port}"
        return self.origin.identity.decode()

    async def close(self) -> None:
        """Close the idle connections; those in use close with their exchange."""
        if self._watching is not None:
            self._watching.cancel()
        while self._idle:
            self._idle.pop()[0].close()
        await asyncio.sleep(0)


def _tls(settings: UpstreamSettings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.ca_file:
        context.load_verify_locations(cafile=settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy_authorization(user: str | None, password: str | None) -> list[tuple[bytes, bytes]]:
    if user is None:
        return []
    credentials = f"{unquote(user)}:{unquote(password or '')}".encode()
    return [(b"Proxy-Authorization", b"Basic " + b64encode(credentials))]


def _framed(body: bytes, fields: Fields) -> bytes:
    if b"transfer-encoding" not in fields:
        return body
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"


async def _upload(connection: Connection, body: Upload) -> None:
    """Pass the body on as it arrives; whatever breaks it off breaks off the request too."""
    try:
        async for chunk in body.chunks():
            transport = connection.transport
            if transport is None:
                return
            transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if body.chunked else chunk)
            connection.heard_at = asyncio.get_running_loop().time()
            await connection._drain_helper()
        if body.chunked and connection.transport is not None:
            connection.transport.write(b"0\r\n\r\n")
    except ConnectionError:
        # The provider stopped reading; its answer, if there is one, says why.
        return
    except BaseException:
        # A request whose body is not whole must not look whole to the provider.
        connection.abort()
        raise


async def _head(connection: Connection, upload: asyncio.Task[None] | None) -> tuple[RawResponseMessage, StreamReader]:
    try:
        while True:
            message, payload = await connection.read()
            # Interim answers other than a switch of protocols are for us alone (RFC 9110 section 15.2).
            if message.code >= 200 or message.code == 101:
                return message, payload
    except HttpProcessingError as error:
        raise Garbled(f"what the provider sent is not HTTP: {error.message}") from error
    except SocketTimeoutError as error:
        raise Broke("the provider was silent for too long") from error
    except (ClientError, OSError, EOFError) as error:
        if (
            upload is not None
            and upload.done()
            and not upload.cancelled()
            and (fault := upload.exception()) is not None
        ):
            raise Broke(f"the request body broke off: {_told(fault)}") from fault
        raise Broke(f"the provider closed the connection before answering: {_told(error)}") from error


def _quiet(connection: Connection) -> bool:
    """Whether an idle connection is still fit for a request.

    A readable one has been closed by the provider or holds octets that nobody asked for. Asking the kernel closes
    most of the window in which a request is written into a connection that is already gone.
    """
    transport = connection.transport
    if transport is None or transport.is_closing() or connection.should_close:
        return False
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is None:
        return True
    poll = select.poll()
    with suppress(OSError, ValueError):
        poll.register(sock.fileno(), select.POLLIN)
        return not poll.poll(0)
    return False


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
