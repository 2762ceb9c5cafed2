"""The provider over HTTP: the one place that asks it.

The request is written here, octet for octet, because aiohttp's client re-encodes header values, adds fields of its own
and sends a request twice where it deems that safe.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection

from aiohttp import ClientError
from aiohttp.client_exceptions import SocketTimeoutError
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from proxy import headers
from proxy.errors import Broke, Garbled, KeyRefused, told
from proxy.headers import Fields
from proxy.keys.credential import Credential
from proxy.ports import Upload
from proxy.providers.dialing import Dialer
from proxy.providers.origin import Origin, origin
from proxy.providers.provider import Answer, Connection, quiet
from proxy.seldom import Seldom
from proxy.settings import UpstreamSettings

log = logging.getLogger(__name__)

WATCH_S = 30.0
"""How often connections in use are looked at for silence."""

SETTLE_S = 0.02
"""How long a connection that has never been used again must have been idle before it is trusted with a request that may
not be sent twice: some providers close after each answer without saying so, and the news takes a moment."""

SAFE_TO_RESEND = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""Safe methods (RFC 9110 section 9.2.1): the only ones ever sent again, and only on a connection found dead."""


class _Lease:
    """One connection while one request uses it."""

    __slots__ = ("_pool", "connection", "reused", "upload")

    def __init__(self, pool: "Upstream", connection: Connection, *, reused: bool) -> None:
        self._pool = pool
        pool.watch(connection)
        self.connection = connection
        self.reused = reused
        self.upload: asyncio.Task[None] | None = None

    def detach(self) -> Connection:
        """The connection, which is no longer the pool's: it may be silent for as long as its ends like."""
        self._pool.unwatch(self.connection)
        return self.connection

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

    def __init__(self, settings: UpstreamSettings, credential: Credential | None = None) -> None:
        self._credential = credential
        """Set where the proxy holds the provider's key: then no key of a client's goes there."""
        self.origin: Origin = origin(settings.url)
        self._settings = settings
        self._add = {
            name.lower().encode(): (name.encode(), value.encode()) for name, value in settings.add_headers.items()
        }
        self._dialer = Dialer(self.origin, settings)
        self._idle: deque[tuple[Connection, float]] = deque()
        self._in_use: set[Connection] = set()
        self._watching: asyncio.TimerHandle | None = None
        self._refusing = Seldom(self._say_refused)

    def __repr__(self) -> str:
        return f"<Upstream {self.origin.identity.decode()}, {len(self._idle)} idle, {len(self._in_use)} in use>"

    async def ask(
        self,
        method: bytes,
        target: bytes,
        fields: Fields,
        body: bytes | Upload | None,
        *,
        keep: Collection[bytes] = (),
        bare: bool = False,
    ) -> Answer:
        """Send one request and wait for the head of its answer.

        *fields* are the client's; what ends at the proxy is left out here, but for the hop-by-hop fields named in
        *keep*. A body in one piece keeps the framing that *fields* announce. *bare*: no secret of ours goes with it.

        Raises:
            Unreachable: no connection could be made; nothing was sent.
            Broke: the connection failed before the head was whole. The request may have been acted upon.
            Garbled: what came is not HTTP.
        """
        # A TRACE is answered with the very request: no secret of ours may be in it (RFC 9110 section 9.3.8).
        bare = bare or method == b"TRACE"
        request = self._request(method, target, fields, keep, bare=bare)
        lease = await self._connection(method)
        try:
            return await self._exchange(lease, method, request, body, fields, switching=bool(keep), bare=bare)
        except Broke:
            if not lease.reused or method not in SAFE_TO_RESEND or body is not None:
                raise
        lease = _Lease(self, await self._dialer.connect(), reused=False)
        return await self._exchange(lease, method, request, body, fields, switching=bool(keep), bare=bare)

    def _request(self, method: bytes, target: bytes, fields: Fields, keep: Collection[bytes], *, bare: bool) -> bytes:
        sent = headers.request_fields(fields, authority=self.origin.authority, keep=keep)
        if self._credential is not None:
            sent = (Credential() if bare else self._credential).put(sent)
        if self._add and not bare:
            sent = [pair for pair in sent if pair[0].lower() not in self._add] + list(self._add.values())
        before, added = self._dialer.absolute
        return headers.head(method + b" " + before + self.origin.target(target) + b" HTTP/1.1", sent + added)

    async def _exchange(
        self,
        lease: _Lease,
        method: bytes,
        request: bytes,
        body: bytes | Upload | None,
        fields: Fields,
        *,
        switching: bool,
        bare: bool,
    ) -> Answer:
        connection = lease.connection
        try:
            connection.expect(bodiless=method == b"HEAD")
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
            message, payload = await _head(connection, lease.upload)
        except BaseException:
            lease.release(whole=False)
            raise
        answer = Answer(message, payload, lease)
        if answer.status == 401 and self._credential is not None and not bare:
            # It is not the client's key that is wrong, and what the provider says of ours is not for clients.
            lease.release(whole=False)
            self._refusing.due()
            raise KeyRefused("the provider does not take the key that this proxy holds; tell its operator")
        if answer.status == 101 and not switching:
            lease.release(whole=False)
            raise Garbled("the provider switched protocols, which nobody had asked for")
        return answer

    def _say_refused(self, unsaid: int) -> None:
        more = f", {unsaid} times more since that was last said" if unsaid else ""
        whom = self.origin.authority.decode()
        log.error("%s refused the provider's key (upstream.key_env, upstream.key_file)%s", whom, more)

    async def _connection(self, method: bytes) -> _Lease:
        loop = asyncio.get_running_loop()
        while self._idle:
            connection, since = self._idle.pop()
            idle_s = loop.time() - since
            if idle_s < SETTLE_S and not connection.proven and method not in SAFE_TO_RESEND:
                try:
                    await asyncio.sleep(SETTLE_S - idle_s)
                except BaseException:
                    # It is in nobody's hands here.
                    connection.close()
                    raise
            if idle_s < self._settings.keepalive_s and quiet(connection):
                return _Lease(self, connection, reused=True)
            connection.close()
        return _Lease(self, await self._dialer.connect(), reused=False)

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

    async def close(self) -> None:
        """Close the idle connections; those in use close with their exchange."""
        self._refusing.close()
        if self._watching is not None:
            self._watching.cancel()
        while self._idle:
            self._idle.pop()[0].close()
        await asyncio.sleep(0)


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
        raise Garbled(f"what the provider sent is not HTTP: {told(error)}") from error
    except SocketTimeoutError as error:
        raise Broke("the provider was silent for too long") from error
    except (ClientError, OSError, EOFError) as error:
        if (
            upload is not None
            and upload.done()
            and not upload.cancelled()
            and (fault := upload.exception()) is not None
        ):
            raise Broke(f"the request body broke off: {told(fault)}") from fault
        raise Broke(f"the provider closed the connection before answering: {told(error)}") from error
